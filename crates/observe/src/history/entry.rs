//! One line of the history: an event as it is kept, with the keys that scripts rely on.

use jiff::Timestamp;
use relay_smtp::{EnhancedStatus, Failure, Phase, QueueId, Reply};
use serde::{Deserialize, Serialize};

use crate::event::{Basis, Event, Tried};

/// Bytes kept of a reply, or of anything else that a stranger may make long.
const TEXT_MAX: usize = 4_096;
/// Recipients named in the entry of an accepted message. Each has entries of its own later.
const RECIPIENTS_MAX: usize = 100;

/// Keys are left out where they do not apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Stands first, always in the same form, so that lines can be compared without reading them.
    #[serde(with = "milliseconds")]
    pub at: Timestamp,
    /// As in the log: `message_accepted`, `recipient_deferred`, ...
    pub event: String,
    #[serde(with = "id_text", skip_serializing_if = "Option::is_none")]
    pub id: Option<QueueId>,
    /// The message that a DSN is about.
    #[serde(with = "id_text", skip_serializing_if = "Option::is_none")]
    pub of: Option<QueueId>,
    /// The reverse-path; `<>` for the null one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Of an accepted message, the first hundred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The address it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The basic code; together with `enhanced` and the text it can be decided again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<String>,
    /// The reply in one line, or the failure in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The texts of a reply of several lines, without codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// What was decided on where it was no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted_before: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// When it is tried again; when a suspension or slow-down ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Seconds from arrival to delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The route that an operator gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// How many messages, events, sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Entry {
    /// None: an event that is not kept. Left out is what says nothing of mail that was accepted, and
    /// what strangers typed before they were known: a login name is sometimes a password.
    pub fn of(event: Event, at: Timestamp) -> Option<Entry> {
        let entry = match event {
            Event::ClientConnected { .. }
            | Event::ClientRefused { .. }
            | Event::ClientAuthenticated { .. }
            | Event::AuthFailed { .. }
            | Event::CommandRefused { .. }
            | Event::SessionOpened { .. }
            | Event::SessionClosed { .. }
            | Event::Listening { .. } => return None,
            Event::MessageAccepted {
                id,
                client,
                user,
                sender,
                mut recipients,
                size,
            } => {
                let total = recipients.len();
                recipients.truncate(RECIPIENTS_MAX);
                Entry {
                    id: Some(id),
                    client: client.map(|client| client.ip().to_string()),
                    user,
                    sender: Some(sender),
                    recipients,
                    recipients_total: Some(total as u64),
                    size: Some(size),
                    ..named("message_accepted")
                }
            }
            Event::ClientGoneBeforeReply { id, client } => Entry {
                id: Some(id),
                client: Some(client.ip().to_string()),
                ..named("client_gone_before_reply")
            },
            Event::RecipientDelivered {
                id,
                recipient,
                tried,
                age,
                attempts,
            } => Entry {
                age: Some((age.as_secs_f64() * 1e3).round() / 1e3),
                attempts: Some(attempts),
                ..tried_at("recipient_delivered", id, recipient, *tried)
            },
            Event::RecipientDeferred {
                id,
                recipient,
                tried,
                until,
            } => Entry {
                until: Some(to_the_second(until)),
                ..tried_at("recipient_deferred", id, recipient, *tried)
            },
            Event::RecipientBounced {
                id,
                recipient,
                tried,
            } => tried_at("recipient_bounced", id, recipient, *tried),
            Event::RecipientHeld {
                id,
                recipient,
                tried,
            } => tried_at("recipient_held", id, recipient, *tried),
            Event::RecipientReleased {
                id,
                sender,
                recipient,
            } => by_operator("recipient_released", id, sender, recipient),
            Event::RecipientRerouted {
                id,
                sender,
                recipient,
                route,
            } => Entry {
                route,
                ..by_operator("recipient_rerouted", id, sender, recipient)
            },
            Event::RecipientDiscarded {
                id,
                sender,
                recipient,
            } => by_operator("recipient_discarded", id, sender, recipient),
            Event::DsnQueued { id, of, to } => Entry {
                id: Some(id),
                of: Some(of),
                sender: Some("<>".to_owned()),
                recipient: Some(to),
                ..named("dsn_queued")
            },
            Event::DsnNotSent { of, recipient } => Entry {
                id: Some(of),
                sender: Some("<>".to_owned()),
                recipient: Some(recipient),
                ..named("dsn_not_sent")
            },
            Event::SessionFailed {
                site,
                host,
                phase,
                what,
                rule,
                category,
                action,
            } => Entry {
                host: Some(host),
                phase: Some(phase),
                reply: Some(shortened(what)),
                rule: Some(rule),
                category: Some(category),
                action: Some(action),
                ..at_site("session_failed", site)
            },
            Event::TlsReportSent {
                domain,
                to,
                good,
                failed,
            } => because(
                "tls_report_sent",
                format!("about {domain} to {to}: {good} sessions good, {failed} failed"),
            ),
            Event::TlsReportNotSent { domain, to, reason } => because(
                "tls_report_not_sent",
                format!("about {domain} to {to}: {}", shortened(reason)),
            ),
            Event::SuppressionAdded {
                recipient,
                source,
                rule,
                category,
                expires,
            } => Entry {
                recipient: Some(recipient),
                rule,
                category,
                until: expires.map(to_the_second),
                ..because("suppression_added", format!("by {source}"))
            },
            Event::ReportReceived {
                id,
                recipient,
                kind,
                reply,
                rule,
            } => Entry {
                id: Some(id),
                recipient: Some(recipient),
                action: Some(kind.word().to_owned()),
                reply: Some(shortened(reply)),
                rule,
                ..named("report_received")
            },
            Event::SuppressionRemoved { recipient } => Entry {
                recipient: Some(recipient),
                ..named("suppression_removed")
            },
            Event::SiteSlowed { site, rule, until } => Entry {
                rule: Some(rule),
                until: Some(to_the_second(until)),
                ..at_site("site_slowed", site)
            },
            Event::SiteSuspended { site, rule, until } => Entry {
                rule: Some(rule),
                until: Some(to_the_second(until)),
                ..at_site("site_suspended", site)
            },
            Event::SiteResumed { site } => at_site("site_resumed", site),
            Event::SourceSuspended {
                site,
                source,
                rule,
                until,
            } => Entry {
                rule: Some(rule),
                until: Some(to_the_second(until)),
                reason: Some(format!("from {source}")),
                ..at_site("source_suspended", site)
            },
            Event::SourceResumed { site, source } => Entry {
                reason: Some(format!("from {source}")),
                ..at_site("source_resumed", site)
            },
            Event::Alert {
                site,
                rule,
                category,
                reply,
                fix,
            } => Entry {
                rule: Some(rule),
                category: Some(category),
                reply: Some(shortened(reply)),
                fix: Some(fix).filter(|fix| !fix.is_empty()),
                ..at_site("alert", site)
            },
            Event::Flushed { messages } => counted("flushed", messages),
            Event::QueueRecovered { messages, .. } => counted("queue_recovered", messages),
            Event::RecordQuarantined { reason, .. } => because("record_quarantined", reason),
            Event::BodyUnreadable { id, reason, .. } => Entry {
                id: Some(id),
                ..because("body_unreadable", reason)
            },
            Event::IndexRebuilt { reason } => because("index_rebuilt", reason),
            Event::IndexFrozen { reason } => because("index_frozen", reason),
            Event::QueueStopped { reason } => because("queue_stopped", reason),
            Event::OutcomeUnwritten { id, reason } => Entry {
                id: Some(id),
                ..because("outcome_unwritten", reason)
            },
            Event::HistoryLost { events } => counted("history_lost", events),
            Event::Started { version, .. } => because("started", format!("version {version}")),
            Event::Reloaded => named("reloaded"),
            // The mistakes may quote what stands in the files, and so a secret: the log has them.
            Event::ReloadRefused { .. } => named("reload_refused"),
            Event::Stopping { sessions } => counted("stopping", sessions as u64),
            Event::Stopped => named("stopped"),
        };
        Some(Entry { at, ..entry })
    }

    /// Whether it settles a recipient, or leaves one waiting.
    pub fn is_decision(&self) -> bool {
        matches!(
            self.event.as_str(),
            "recipient_delivered" | "recipient_deferred" | "recipient_bounced" | "recipient_held"
        )
    }

    /// The reply as it came; None: it was none, or too long to be kept whole.
    pub fn said(&self) -> Option<Reply> {
        let code = self.code?;
        let enhanced: Option<EnhancedStatus> = match &self.enhanced {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let lines = if self.lines.is_empty() {
            let begin = Reply::new(code, enhanced, "").to_string();
            let text = self.reply.as_ref()?.strip_prefix(&begin)?;
            vec![text.trim_start().to_owned()]
        } else {
            self.lines.clone()
        };
        Some(Reply {
            code,
            enhanced,
            lines,
        })
    }

    /// The domain of the recipient, as it was written.
    pub fn domain(&self) -> Option<&str> {
        domain_of(self.recipient.as_deref()?)
    }

    /// For those who may not keep whose mail it was.
    pub(super) fn leave_out_local_parts(&mut self) {
        let whole = [self.sender.take(), self.recipient.take()];
        for address in whole.iter().flatten() {
            let bare = without_local_part(address);
            let texts = self.reply.iter_mut().chain(&mut self.lines);
            texts.for_each(|text| *text = replaced(text, address, &bare));
        }
        let [sender, recipient] = whole;
        self.sender = sender.as_deref().map(without_local_part);
        self.recipient = recipient.as_deref().map(without_local_part);
        for address in &mut self.recipients {
            *address = without_local_part(address);
        }
    }
}

fn named(event: &str) -> Entry {
    Entry {
        event: event.to_owned(),
        ..Entry::default()
    }
}

fn counted(event: &str, count: u64) -> Entry {
    Entry {
        count: Some(count),
        ..named(event)
    }
}

fn because(event: &str, reason: String) -> Entry {
    Entry {
        reason: Some(shortened(reason)),
        ..named(event)
    }
}

fn at_site(event: &str, site: String) -> Entry {
    Entry {
        site: Some(site),
        ..named(event)
    }
}

fn by_operator(event: &str, id: QueueId, sender: String, recipient: String) -> Entry {
    Entry {
        id: Some(id),
        sender: Some(sender),
        recipient: Some(recipient),
        ..named(event)
    }
}

fn tried_at(event: &str, id: QueueId, recipient: String, tried: Tried) -> Entry {
    let mut entry = Entry {
        sender: Some(tried.sender),
        user: tried.user,
        site: tried.site,
        host: tried.host,
        provider: tried.provider,
        tls: tried.tls,
        phase: Some(tried.phase),
        reply: Some(shortened(tried.reply)),
        accepted_before: tried.accepted_before,
        rule: Some(tried.rule),
        category: Some(tried.category),
        action: Some(tried.action),
        ..by_operator(event, id, String::new(), recipient)
    };
    match tried.basis {
        Basis::Reply(reply) => {
            entry.code = Some(reply.code);
            entry.enhanced = reply.enhanced.map(|enhanced| enhanced.to_string());
            let bytes: usize = reply.lines.iter().map(String::len).sum();
            if reply.lines.len() > 1 && bytes <= TEXT_MAX {
                entry.lines = reply.lines;
            }
        }
        Basis::Failure(failure) => entry.failure = Some(failure),
        Basis::Operator => {}
    }
    entry
}

fn shortened(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// What the queue keeps of a time to come is no finer than a person asks.
fn to_the_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// What stands behind the last `@`.
pub(super) fn domain_of(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, domain)| domain)
}

fn without_local_part(address: &str) -> String {
    match domain_of(address) {
        Some(domain) => format!("*@{domain}"),
        None => address.to_owned(),
    }
}

/// ASCII case does not count: servers repeat addresses as they please.
fn replaced(text: &str, what: &str, with: &str) -> String {
    if what.len() < 3 {
        return text.to_owned();
    }
    let (low, what) = (text.to_ascii_lowercase(), what.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(found) = low.get(from..).and_then(|rest| rest.find(&what)) {
        out.push_str(text.get(from..from + found).unwrap_or_default());
        out.push_str(with);
        from += found + what.len();
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// `2026-11-22T16:00:05.123Z`, never shorter: such texts sort as the times do.
pub(super) fn time_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

mod milliseconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::time_text(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(from)
    }
}

mod id_text {
    use relay_smtp::QueueId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        id: &Option<QueueId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<QueueId>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{every_event, tried};

    fn deferred(reply: Reply) -> Entry {
        let event = Event::RecipientDeferred {
            id: QueueId::from_u64(7),
            recipient: "Bob@rcpt.example".to_owned(),
            tried: Box::new(Tried {
                sender: "app@sender.example".to_owned(),
                reply: reply.to_string(),
                basis: Basis::Reply(reply),
                ..*tried("450 x")
            }),
            until: Timestamp::UNIX_EPOCH,
        };
        Entry::of(event, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn every_entry_is_one_line_that_is_read_back_and_begins_with_its_time() {
        let at: Timestamp = "2026-11-22T16:00:05.1Z".parse().unwrap();
        let mut kept = 0;
        for event in every_event() {
            let name = format!("{event:?}");
            let Some(entry) = Entry::of(event, at) else {
                continue;
            };
            kept += 1;
            let line = serde_json::to_string(&entry).unwrap();
            assert!(!line.contains('\n'), "{name}");
            assert!(
                line.starts_with(r#"{"at":"2026-11-22T16:00:05.100Z","event":""#),
                "{line}"
            );
            assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        }
        assert!(kept >= 20, "{kept}");
    }

    #[test]
    fn what_strangers_type_before_they_are_known_is_not_kept() {
        let at = Timestamp::UNIX_EPOCH;
        for event in every_event() {
            let secretive = matches!(
                event,
                Event::AuthFailed { .. }
                    | Event::ClientAuthenticated { .. }
                    | Event::CommandRefused { .. }
            );
            if secretive {
                assert_eq!(Entry::of(event, at), None);
            }
        }
        let refused = Event::ReloadRefused {
            error: "relayd.toml:3: password = hunter2".to_owned(),
        };
        let line = serde_json::to_string(&Entry::of(refused, at).unwrap()).unwrap();
        assert!(!line.contains("hunter2"), "{line}");
    }

    #[test]
    fn a_reply_is_given_back_as_it_came() {
        let enhanced = "4.7.1".parse().ok();
        for reply in [
            Reply::new(450, enhanced, "Greylisted, come back"),
            Reply::new(450, None, "4x4 is no enhanced code"),
            Reply::new(421, None, ""),
            Reply {
                code: 451,
                enhanced,
                lines: vec!["first".to_owned(), "250 is no code here".to_owned()],
            },
        ] {
            assert_eq!(deferred(reply.clone()).said(), Some(reply));
        }
        let long = Reply::new(450, None, "ä".repeat(5_000));
        let kept = deferred(long);
        assert!(kept.reply.as_ref().unwrap().len() < 4_200);
        assert!(kept.said().is_some(), "its beginning can still be decided");
    }

    #[test]
    fn local_parts_can_be_left_out_also_where_a_reply_repeats_them() {
        let mut entry = deferred(Reply::new(
            550,
            None,
            "<BOB@rcpt.example>: no such user, Bob",
        ));
        entry.leave_out_local_parts();
        assert_eq!(entry.recipient.as_deref(), Some("*@rcpt.example"));
        assert_eq!(entry.sender.as_deref(), Some("*@sender.example"));
        let reply = entry.reply.unwrap();
        assert_eq!(reply, "550 <*@rcpt.example>: no such user, Bob");
        let mut null = named("x");
        null.sender = Some("<>".to_owned());
        null.leave_out_local_parts();
        assert_eq!(null.sender.as_deref(), Some("<>"));
    }
}
