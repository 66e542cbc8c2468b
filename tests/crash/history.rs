//! What happened in a series, as the outside saw it: what was offered and promised, what arrived where, what
//! relayd's log told, what is left. The judge knows nothing else.

use relay_observe::CrashPoint;
use relay_testkit::{Mail, Offer};

/// One start of relayd and what ends it, counted from 1. Every life has a name of its own in EHLO, which
/// tells whose deliveries are whose.
pub type Life = u32;

#[derive(Clone, Debug, Default)]
pub struct History {
    pub offered: Vec<Offered>,
    pub copies: Vec<Copy>,
    pub reports: Vec<Report>,
    /// Recipients that an MX has refused for good, as often as it did.
    pub refused: Vec<String>,
    /// Deliveries that relayd's log tells of: it does so after its commit.
    pub committed: Vec<Committed>,
    /// What `relayctl queue list` still has at the end.
    pub left: Vec<Left>,
    /// The names of what lies in quarantine.
    pub quarantined: Vec<String>,
    /// Named points at which relayd died.
    pub reached: Vec<CrashPoint>,
    /// How often the index was not fit to be used after a kill.
    pub rebuilds: usize,
    /// Replayed records and cut off bytes of all recoveries.
    pub replayed: u64,
    pub truncated_bytes: u64,
}

/// A message that an application offered. Nobody else has one of its recipients, nor its sender.
#[derive(Clone, Debug)]
pub struct Offered {
    pub life: Life,
    /// "": from the null path, so that there is nobody to report to.
    pub sender: String,
    pub recipients: Vec<String>,
    /// What follows the header.
    pub text: String,
    pub answer: Offer,
}

impl Offered {
    /// The queue id, if relayd has promised anything.
    pub fn promise(&self) -> Option<&str> {
        match &self.answer {
            Offer::Promised(id) => Some(id),
            Offer::Refused(_) | Offer::Lost => None,
        }
    }
}

/// A message that an MX took over for one recipient.
#[derive(Clone, Debug)]
pub struct Copy {
    pub id: String,
    pub recipient: String,
    /// Which life delivered it.
    pub life: Life,
    pub text: String,
}

/// A DSN that the sender's MX took over. It is a [`Copy`] as well.
#[derive(Clone, Debug)]
pub struct Report {
    pub id: String,
    pub to: String,
    /// The recipients that it says are lost.
    pub failed: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Committed {
    pub life: Life,
    pub id: String,
    pub recipient: String,
}

#[derive(Clone, Debug)]
pub struct Left {
    pub id: String,
    pub recipient: String,
}

impl History {
    /// What an MX has taken.
    pub fn add_mail(&mut self, mail: &[Mail]) {
        for mail in mail {
            let (header, text) = mail.data.split_once("\r\n\r\n").unwrap_or((&mail.data, ""));
            let id = queue_id(header).unwrap_or_default();
            for recipient in &mail.to {
                self.copies.push(Copy {
                    id: id.clone(),
                    recipient: recipient.clone(),
                    life: life_of(&mail.hello),
                    text: text.to_owned(),
                });
                if mail.from.is_empty() && is_report(header) {
                    self.reports.push(Report {
                        id: id.clone(),
                        to: recipient.clone(),
                        failed: failed_in(text),
                    });
                }
            }
        }
    }

    /// What an MX has refused: its log has `7 C: RCPT TO:<a@b>` and the reply as the session's next line.
    pub fn add_refusals(&mut self, log: &[String]) {
        let mut asked: std::collections::HashMap<&str, &str> = std::collections::HashMap::new();
        for line in log {
            let Some((session, said)) = line.split_once(' ') else {
                continue;
            };
            if let Some(rest) = said.strip_prefix("C: RCPT TO:<") {
                asked.insert(session, rest.split('>').next().unwrap_or_default());
            } else if let Some(recipient) = asked.remove(session)
                && said.starts_with("S: 5")
            {
                self.refused.push(recipient.to_owned());
            }
        }
    }

    /// relayd's log of one life.
    pub fn add_log(&mut self, life: Life, log: &[String]) {
        for line in log {
            // The last line may be cut off.
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            match text("event").as_str() {
                "recipient_delivered" => self.committed.push(Committed {
                    life,
                    id: text("id"),
                    recipient: text("recipient"),
                }),
                "index_rebuilt" => self.rebuilds += 1,
                "queue_recovered" => {
                    self.replayed += line["records"].as_u64().unwrap_or(0);
                    self.truncated_bytes += line["truncated_bytes"].as_u64().unwrap_or(0);
                }
                _ => {}
            }
        }
    }

    /// `relayctl queue list --json`.
    pub fn add_queue(&mut self, list: &[serde_json::Value]) {
        for message in list {
            let id = message["id"].as_str().unwrap_or_default();
            for recipient in message["recipients"].as_array().into_iter().flatten() {
                self.left.push(Left {
                    id: id.to_owned(),
                    recipient: recipient["address"].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
    }

    /// How many messages had their 250.
    pub fn promised(&self) -> usize {
        let promises = self.offered.iter().filter_map(Offered::promise);
        promises.count()
    }

    /// Figures for the reader of a test's output.
    pub fn summary(&self) -> String {
        let promised = self.promised();
        let lost = self
            .offered
            .iter()
            .filter(|o| o.answer == Offer::Lost)
            .count();
        let mut seen = std::collections::HashSet::new();
        let again = self
            .copies
            .iter()
            .filter(|c| !seen.insert((&c.id, &c.recipient)))
            .count();
        format!(
            "{} offered, {promised} promised, {lost} cut off; {} copies, {again} of them a second time, {} reports; \
             {} records replayed, {} bytes cut off, {} indexes rebuilt; died at {:?}",
            self.offered.len(),
            self.copies.len(),
            self.reports.len(),
            self.replayed,
            self.truncated_bytes,
            self.rebuilds,
            self.reached,
        )
    }
}

/// The name in EHLO of a life.
pub fn hostname(life: Life) -> String {
    format!("life{life}.relay.test")
}

fn life_of(hello: &str) -> Life {
    let number = hello
        .strip_prefix("life")
        .and_then(|rest| rest.split('.').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("a stranger delivers: {hello}"))
}

fn is_report(header: &str) -> bool {
    header.contains("multipart/report")
}

/// From our own Received field, or in a DSN, which has none, from its Message-ID.
fn queue_id(header: &str) -> Option<String> {
    let header = header.replace("\r\n\t", " ").replace("\r\n ", " ");
    let received = header.lines().find_map(|line| {
        let line = line.strip_prefix("Received: ")?;
        line.split_once(" id ")?.1.split([';', ' ']).next()
    });
    let message_id = header.lines().find_map(|line| {
        let line = line.strip_prefix("Message-ID: <")?;
        line.split('@').next()
    });
    received.or(message_id).map(str::to_owned)
}

fn failed_in(text: &str) -> Vec<String> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; "))
        .map(str::to_owned)
        .collect()
}
