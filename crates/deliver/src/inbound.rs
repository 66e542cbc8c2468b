//! Reports that come back about mail that left long ago: a DSN of a host behind the next hop, a complaint of a
//! reader. What they mean for an address is the policy's word; they count only for mail that the history
//! shows to have gone there, since anybody can write a report.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay_message::report::{self, Action as Told, Kind, Recipient, Report};
use relay_observe::{Event, ReportKind};
use relay_policy::{Action, Context, Decision, Stimulus, decide};
use relay_smtp::{Mailbox, Phase, QueueId, Reply};
use relay_suppression::{Entry, Source};

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

/// Takes one report, as it came over SMTP.
pub async fn take(world: &Arc<World>, message: Bytes) -> Taken {
    let read = tokio::task::spawn_blocking(move || report::read(&message)).await;
    let report = match read {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => return Taken::Unread(error.to_string()),
        Err(error) => return Taken::Unread(error.to_string()),
    };
    let settings = world.settings.load_full();
    let Some(id) = our_id(&report, &settings.config.hostname) else {
        return Taken::Unread("it does not show a Received field of ours".to_owned());
    };
    let went_to = went_to(world, id).await;
    if went_to.is_empty() {
        let why = format!("the history knows of no delivery of {id}");
        return Taken::Unread(why);
    }
    let found = Findings::of(&report, &settings, id, &went_to, world.clock.now());
    if found.events.is_empty() {
        let why = format!("{id} did not go to the recipients that it names");
        return Taken::Unread(why);
    }
    // First what must last; then it is told.
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

/// The id under which we passed the message on: of the topmost Received field that is ours.
fn our_id(report: &Report, hostname: &str) -> Option<QueueId> {
    let ours = |(host, _): &&(String, String)| host.eq_ignore_ascii_case(hostname);
    let mut found = report.original.received.iter().filter(ours);
    found.find_map(|(_, id)| id.parse().ok())
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

#[derive(Default)]
struct Findings {
    events: Vec<Event>,
    entries: Vec<Entry>,
}

impl Findings {
    fn of(
        report: &Report,
        settings: &Settings,
        id: QueueId,
        went_to: &[String],
        now: Timestamp,
    ) -> Findings {
        let mut found = Findings::default();
        let went_there = |address: &&Mailbox| {
            let (whole, hidden) = (
                address.to_string(),
                format!("*@{}", address.host().to_ascii()),
            );
            let same = |known: &String| {
                known.eq_ignore_ascii_case(&whole) || known.eq_ignore_ascii_case(&hidden)
            };
            went_to.iter().any(same)
        };
        match &report.kind {
            Kind::Delivery { recipients, .. } => {
                for one in recipients.iter().filter(|one| went_there(&&one.address)) {
                    found.delivery(one, settings, id, now);
                }
            }
            Kind::Complaint {
                feedback,
                recipients,
            } => {
                for address in recipients.iter().filter(went_there) {
                    found.complaint(address, feedback, settings, id, now);
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
