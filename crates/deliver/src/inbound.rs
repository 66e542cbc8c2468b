//! Reports that come back about mail that left long ago: a DSN of a host behind the next hop, a complaint of a
//! reader. What they mean for an address is the policy's word; they count only for mail that the history
//! shows to have gone there, since anybody can write a report.

mod about;

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay_message::report::{Action as Told, Kind, Recipient, Report};
use relay_observe::{Event, ReportKind};
use relay_policy::{Action, Context, Decision, Stimulus, decide};
use relay_smtp::{Mailbox, Phase, QueueId, Reply};
use relay_suppression::{Entry, Source};

use self::about::{About, Back};
use crate::world::{Settings, World};

/// What came of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has been understood, and what follows from it is on disk.
    Done,
    /// A person must read it: why.
    Unread(String),
    /// Not now: the suppression list did not take it.
    Later(String),
}

/// More entries than this no story of one message has that could be reported about.
const STORY_MAX: usize = 10_000;

/// Something that came over SMTP to an address of `[reports]`.
pub struct CameBack {
    pub message: Bytes,
    /// Those of its recipients that are such addresses.
    pub to: Vec<Mailbox>,
}

/// Takes one of them.
pub async fn take(world: &Arc<World>, came: CameBack) -> Taken {
    let CameBack { message, to } = came;
    let read = tokio::task::spawn_blocking(move || Back::read(&message)).await;
    let back = match read {
        Ok(Ok(back)) => back,
        Ok(Err(error)) => return Taken::Unread(error.to_string()),
        Err(error) => return Taken::Unread(error.to_string()),
    };
    let settings = world.settings.load_full();
    let about = About::of(&back, &to, &settings.config);
    let mut why =
        "neither its address nor a Received field says which message it is about".to_owned();
    for id in about.ids {
        let went_to = went_to(world, id).await;
        if went_to.is_empty() {
            why = format!("the history knows of no delivery of {id}");
            continue;
        }
        let whom = Whom {
            went_to: &went_to,
            named: about.recipient.as_ref(),
        };
        let found = Findings::of(&back, &settings, id, &whom, world.clock.now());
        if !found.events.is_empty() {
            return keep(world, found).await;
        }
        why = format!("{id} did not go to the recipients that it names");
    }
    Taken::Unread(why)
}

/// First what must last; then it is told.
async fn keep(world: &World, found: Findings) -> Taken {
    if !found.entries.is_empty()
        && let Err(error) = world.suppressions.add(found.entries).await
    {
        return Taken::Later(error.to_string());
    }
    for event in found.events {
        world.events.emit(event);
    }
    Taken::Done
}

/// Whom the message has been delivered to; with addresses left out in the history, `*@domain`.
async fn went_to(world: &World, id: QueueId) -> Vec<String> {
    let Some(history) = world.events.history() else {
        return Vec::new();
    };
    history.caught_up().await;
    let reader = history.reader();
    let story = tokio::task::spawn_blocking(move || reader.story(id, STORY_MAX)).await;
    let story = story.ok().and_then(Result::ok).unwrap_or_default();
    story
        .into_iter()
        .filter(|entry| entry.event == "recipient_delivered")
        .filter_map(|entry| entry.recipient)
        .collect()
}

/// Whom it can be about.
struct Whom<'a> {
    went_to: &'a [String],
    /// By a sender that was made for one recipient.
    named: Option<&'a Mailbox>,
}

impl Whom<'_> {
    /// As the history has it: an address may have lost its case on the way.
    fn known(&self, address: &Mailbox) -> Option<Mailbox> {
        let hidden = format!("*@{}", address.host().to_ascii());
        let whole = address.to_string();
        let exactly = |known: &&String| known.eq_ignore_ascii_case(&whole);
        if let Some(known) = self.went_to.iter().find(exactly) {
            return Mailbox::parse(known).ok();
        }
        let mut all = self.went_to.iter();
        let left_out = all.any(|known| known.eq_ignore_ascii_case(&hidden));
        left_out.then(|| address.clone())
    }

    /// None: it must be told by what came back.
    fn named(&self) -> Option<Mailbox> {
        self.named.and_then(|named| self.known(named))
    }

    /// The only one whom the message went to.
    fn only(&self) -> Option<Mailbox> {
        match self.went_to {
            [only] if !only.starts_with("*@") => Mailbox::parse(only).ok(),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Findings {
    events: Vec<Event>,
    entries: Vec<Entry>,
}

impl Findings {
    fn of(
        back: &Back,
        settings: &Settings,
        id: QueueId,
        whom: &Whom<'_>,
        now: Timestamp,
    ) -> Findings {
        let mut found = Findings::default();
        match back {
            Back::Report(Report {
                kind: Kind::Delivery { recipients, .. },
                ..
            }) => {
                for one in about_ours(recipients, whom) {
                    found.delivery(&one, settings, id, now);
                }
            }
            Back::Report(Report {
                kind:
                    Kind::Complaint {
                        feedback,
                        recipients,
                    },
                ..
            }) => {
                let named = whom.named().map(|one| vec![one]);
                let told = || {
                    recipients
                        .iter()
                        .filter_map(|one| whom.known(one))
                        .collect()
                };
                for address in named.unwrap_or_else(told) {
                    found.complaint(&address, feedback, settings, id, now);
                }
            }
            Back::Bounce(bounce) => {
                if let Some(address) = whom.named().or_else(|| whom.only()) {
                    let one = Recipient {
                        address,
                        action: bounce.action,
                        status: bounce.status,
                        diagnostic: Some(bounce.diagnostic.clone()),
                    };
                    found.delivery(&one, settings, id, now);
                }
            }
        }
        found
    }

    fn delivery(&mut self, one: &Recipient, settings: &Settings, id: QueueId, now: Timestamp) {
        let kind = match one.action {
            Told::Failed => ReportKind::Failed,
            Told::Delayed => ReportKind::Delayed,
            Told::Delivered | Told::Relayed | Told::Expanded => ReportKind::Delivered,
        };
        let reply = reply_of(one);
        let decision = match one.action {
            Told::Failed => Some(decided(&reply, one, settings)),
            Told::Delayed | Told::Delivered | Told::Relayed | Told::Expanded => None,
        };
        if let Some(decision) = &decision
            && decision.action == Action::BounceSuppress
        {
            self.entries.push(Entry {
                address: one.address.clone(),
                added: now,
                expires: kept_until(decision.wait.or(settings.config.suppression.keep), now),
                source: Source::Policy,
                category: Some(decision.category.to_string()),
                rule: Some(decision.rule.name.clone()),
                reply: Some(reply.to_string()),
                host: None,
                message: Some(id.to_string()),
            });
        }
        self.events.push(Event::ReportReceived {
            id,
            recipient: one.address.to_string(),
            kind,
            reply: reply.to_string(),
            rule: decision.map(|decision| decision.rule.name.clone()),
        });
    }

    /// Who calls our mail spam gets no more of it. `not-spam` is a word for us.
    fn complaint(
        &mut self,
        address: &Mailbox,
        feedback: &str,
        settings: &Settings,
        id: QueueId,
        now: Timestamp,
    ) {
        if feedback != "not-spam" {
            self.entries.push(Entry {
                address: address.clone(),
                added: now,
                expires: kept_until(settings.config.suppression.keep, now),
                source: Source::Report,
                category: Some("complaint".to_owned()),
                rule: None,
                reply: Some(format!("feedback report: {feedback}")),
                host: None,
                message: Some(id.to_string()),
            });
        }
        self.events.push(Event::ReportReceived {
            id,
            recipient: address.to_string(),
            kind: ReportKind::Complaint,
            reply: format!("feedback report: {feedback}"),
            rule: None,
        });
    }
}

/// What a DSN says of recipients of ours. All that comes back to a sender that was made for one recipient is
/// about that one, by whatever name: a list behind the address has failed only where all of it has.
fn about_ours(told: &[Recipient], whom: &Whom<'_>) -> Vec<Recipient> {
    let known = |one: &Recipient| {
        let address = whom.known(&one.address)?;
        Some(Recipient {
            address,
            ..one.clone()
        })
    };
    let Some(named) = whom.named() else {
        return told.iter().filter_map(known).collect();
    };
    let failed = |one: &&Recipient| one.action == Told::Failed;
    let by_its_name = told.iter().find(|one| one.address == named);
    let one = by_its_name
        .or_else(|| told.iter().find(|one| !failed(one)))
        .or_else(|| told.first());
    let as_ours = |one: &Recipient| Recipient {
        address: named.clone(),
        ..one.clone()
    };
    one.map(as_ours).into_iter().collect()
}

/// What the far host said, as if it had said it to us.
fn reply_of(one: &Recipient) -> Reply {
    let status = one.status.to_string();
    let said = one.diagnostic.clone().unwrap_or_default();
    let code = said.get(..3).and_then(|code| code.parse::<u16>().ok());
    let code = code.filter(|code| (400..600).contains(code));
    let text = match code {
        Some(_) => said
            .get(3..)
            .unwrap_or_default()
            .trim_start_matches(['-', ' ']),
        None => said.as_str(),
    };
    let text = text.strip_prefix(status.as_str()).unwrap_or(text).trim();
    let usual = match one.status.class {
        relay_smtp::StatusClass::Transient => 450,
        relay_smtp::StatusClass::Success | relay_smtp::StatusClass::Permanent => 550,
    };
    Reply::new(code.unwrap_or(usual), Some(one.status), text)
}

fn decided(reply: &Reply, one: &Recipient, settings: &Settings) -> Decision {
    let domain = one.address.host().to_ascii();
    let context = Context {
        domain: Some(&domain),
        ..Context::of(Phase::Rcpt)
    };
    decide(&settings.table, Stimulus::Reply(reply), &context)
}

fn kept_until(keep: Option<std::time::Duration>, now: Timestamp) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(keep?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `failed list@r.example` and the like, as the report has it; what is told of `you@r.example`.
    fn told(report: &[&str]) -> Vec<String> {
        let one = |line: &&str| {
            let (action, address) = line.split_once(' ').unwrap();
            Recipient {
                address: Mailbox::parse(address).unwrap(),
                action: match action {
                    "failed" => Told::Failed,
                    _ => Told::Delivered,
                },
                status: relay_smtp::EnhancedStatus::permanent(1, 1),
                diagnostic: None,
            }
        };
        let recipients: Vec<Recipient> = report.iter().map(one).collect();
        let went_to = ["You@r.example".to_owned(), "other@r.example".to_owned()];
        let named = Mailbox::parse("you@r.example").unwrap();
        let whom = Whom {
            went_to: &went_to,
            named: Some(&named),
        };
        about_ours(&recipients, &whom)
            .iter()
            .map(|one| format!("{:?} {}", one.action, one.address))
            .collect()
    }

    #[test]
    fn a_list_behind_the_named_address_has_failed_only_where_all_of_it_has() {
        for (report, wanted) in [
            (&["failed a@in.example"][..], "Failed You@r.example"),
            (
                &["failed a@in.example", "failed b@in.example"],
                "Failed You@r.example",
            ),
            (
                &["failed a@in.example", "delivered b@in.example"],
                "Delivered You@r.example",
            ),
            // Who is named by itself is who is meant.
            (
                &["delivered a@in.example", "failed You@r.example"],
                "Failed You@r.example",
            ),
            // Another recipient of the same message has a sender of its own.
            (&["failed other@r.example"], "Failed You@r.example"),
        ] {
            assert_eq!(told(report), [wanted], "{report:?}");
        }
    }

    #[test]
    fn without_a_name_only_those_count_who_were_sent_the_message() {
        let went_to = ["you@r.example".to_owned(), "*@hidden.example".to_owned()];
        let whom = Whom {
            went_to: &went_to,
            named: None,
        };
        for (address, known) in [
            ("YOU@r.example", Some("you@r.example")),
            ("x@hidden.example", Some("x@hidden.example")),
            ("x@r.example", None),
        ] {
            let found = whom.known(&Mailbox::parse(address).unwrap());
            assert_eq!(found.map(|one| one.to_string()).as_deref(), known);
        }
        assert_eq!(whom.only(), None, "it went to two");
    }
}
