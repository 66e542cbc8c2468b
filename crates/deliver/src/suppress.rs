//! The suppression list as deliveries see it: who is not tried at all, and whom a bounce puts there.

use jiff::{SignedDuration, Timestamp};
use relay_config::SuppressionMode;
use relay_policy::{Action, Context, Fate, Stimulus, decide};
use relay_smtp::{Failure, Phase};
use relay_suppression::{Entry, Source};

use crate::job::Job;
use crate::settle::{Input, Reports, Said, Verdict};
use crate::world::{Settings, World};

/// The verdicts on the due recipients that are suppressed; they are no longer due. Recipients that were
/// accepted before their address was suppressed get them in both modes.
pub(crate) fn set_aside(world: &World, settings: &Settings, job: &mut Job) -> Vec<Verdict> {
    match settings.config.suppression.mode {
        SuppressionMode::Refuse | SuppressionMode::Bounce => {}
        SuppressionMode::Off => return Vec::new(),
    }
    let now = world.clock.now();
    let mut verdicts = Vec::new();
    let (mut due, mut rest) = (std::mem::take(&mut job.due), Vec::new());
    for index in due.drain(..) {
        let recipient = job.recipient(index);
        let found = recipient.and_then(|one| world.suppressions.find(&one.mailbox, now));
        match found {
            Some(entry) => verdicts.push(verdict(settings, job, index, &entry)),
            None => rest.push(index),
        }
    }
    job.due = rest;
    verdicts
}

fn verdict(settings: &Settings, job: &Job, index: u32, entry: &Entry) -> Verdict {
    let domain = job.domain(index);
    let context = Context {
        domain: domain.as_deref(),
        ..Context::of(Phase::Rcpt)
    };
    let failure = Failure::Suppressed;
    Verdict {
        index,
        phase: Phase::Rcpt,
        said: Said::Failure {
            failure,
            words: format!("not tried: {}", entry.in_words()),
        },
        host: None,
        tls: None,
        accepted_before: 0,
        reports: Reports::Ours,
        decision: decide(&settings.table, Stimulus::Failure(failure), &context),
    }
}

/// What the bounces of this settlement put on the list. To be written once the bounces are durable: an
/// address must not be suppressed by a bounce that nobody was told of.
pub(crate) fn entries(input: &Input<'_>) -> Vec<Entry> {
    let told = |verdict: &&Verdict| {
        let decision = &verdict.decision;
        decision.action == Action::BounceSuppress && decision.fate == Fate::Bounced
    };
    let verdicts = input.verdicts.iter().filter(told);
    verdicts
        .filter_map(|verdict| entry(input, verdict))
        .collect()
}

fn entry(input: &Input<'_>, verdict: &Verdict) -> Option<Entry> {
    let place = usize::try_from(verdict.index).ok()?;
    let recipient = input.message.envelope.recipients.get(place)?;
    let decision = &verdict.decision;
    let keep = decision.wait.or(input.config.suppression.keep);
    Some(Entry {
        address: recipient.mailbox.clone(),
        added: input.now,
        expires: keep.and_then(|keep| after(input.now, keep)),
        source: Source::Policy,
        category: Some(decision.category.to_string()),
        rule: Some(decision.rule.name.clone()),
        reply: Some(verdict.said.text()),
        host: verdict.host.clone(),
        message: Some(input.message.id.to_string()),
    })
}

fn after(now: Timestamp, keep: std::time::Duration) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(keep).ok()?).ok()
}
