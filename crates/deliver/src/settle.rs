//! From verdicts to one durable write: new recipient states, the DSNs they call for, the report to
//! the scheduler, the events. Nothing here speaks to a peer or to the queue.

use std::time::Duration;

use jiff::Timestamp;
use relay_config::Config;
use relay_message::dsn::DsnKind;
use relay_observe::{Basis, Event, Tried};
use relay_policy::{Action, Decision, Fate, Next};
use relay_queue::{
    Attempt, Message, NewMessage, RecipientChange, RecipientState, Settlement, State,
};
use relay_schedule::Report;
use relay_schedule::SiteNews;
use relay_smtp::{Failure, NextHop, Phase, QueueId, Recipient, Reply};
use relay_suppression::Entry;

use crate::next_hop::next_hop;
use crate::report::{Line, Reporter};
use crate::suppress;

/// What a recipient's try came to, and what the policy says of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its place in the envelope.
    pub index: u32,
    pub phase: Phase,
    pub said: Said,
    /// `mx1.example.net [192.0.2.1]`; None where no host was reached for.
    pub host: Option<String>,
    /// What TLS was agreed; None: in clear.
    pub tls: Option<String>,
    /// RCPTs of the transaction that had been accepted before this one was answered.
    pub accepted_before: u32,
    pub reports: Reports,
    pub decision: Decision,
}

/// Who answers a sender that asked for reports (RFC 3461 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// The host, which was told of the wish.
    PassedOn,
    /// Nobody behind us.
    Ours,
}

/// A reply, or a failure that never became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Reply(Reply),
    Failure { failure: Failure, words: String },
}

impl Said {
    /// For logs, `queue show` and the DSN.
    pub fn text(&self) -> String {
        match self {
            Said::Reply(reply) => reply.to_string(),
            Said::Failure { words, .. } => words.clone(),
        }
    }
}

/// What a settlement is made of.
pub struct Input<'a> {
    pub message: &'a Message,
    /// The start of its body, as [`relay_message::dsn::ORIGINAL_BYTES_MAX`] says.
    pub start: &'a [u8],
    /// The next hop of the dispatch.
    pub hop: &'a NextHop,
    /// The site of the session; None: there was none.
    pub site: Option<&'a str>,
    /// At most one for each recipient. Recipients without one are left as they are.
    pub verdicts: Vec<Verdict>,
    /// What the policy says of expired messages.
    pub expired: Decision,
    pub config: &'a Config,
    pub now: Timestamp,
    pub news: SiteNews,
}

/// What is to be written, then reported, then told.
#[derive(Debug)]
pub struct Settling {
    pub settlement: Settlement,
    pub report: Report,
    pub events: Vec<Event>,
    /// Addresses that are not to be tried again, once the settlement is durable.
    pub suppress: Vec<Entry>,
}

/// Makes the settlement of one dispatch. `new_id` names the DSNs.
pub fn settle(
    input: &Input<'_>,
    mut new_id: impl FnMut() -> QueueId,
    rng: &mut impl rand::Rng,
) -> Settling {
    let mut changes = Vec::with_capacity(input.verdicts.len());
    let mut events = Vec::new();
    let mut failed = Vec::new();
    let mut delayed = Vec::new();
    let mut relayed = Vec::new();
    for verdict in &input.verdicts {
        let Some(one) = One::of(input, verdict) else {
            continue;
        };
        let settled = one.settle(rng);
        events.push(settled.event);
        match settled.tell {
            Tell::Nobody => {}
            Tell::Failed(line) => failed.push(line),
            Tell::Delayed(line) => delayed.push(line),
            Tell::Relayed(line) => relayed.push(line),
        }
        changes.push(RecipientChange {
            index: verdict.index,
            state: settled.state,
        });
    }
    let reporter = Reporter {
        message: input.message,
        start: input.start,
        config: input.config,
        now: input.now,
    };
    let mut dsns: Vec<NewMessage> = Vec::new();
    for (kind, lines) in [
        (DsnKind::Failed, failed),
        (DsnKind::Delayed, delayed),
        (DsnKind::Relayed, relayed),
    ] {
        dsns.extend(reporter.dsns(kind, &lines, &mut new_id, &mut events));
    }
    Settling {
        report: Report {
            id: input.message.id,
            due_again: due_again(input, &changes),
            site: input.news,
        },
        settlement: Settlement {
            id: input.message.id,
            changes,
            dsns,
        },
        events,
        suppress: suppress::entries(input),
    }
}

/// The earliest time at which a recipient with this next hop is due.
fn due_again(input: &Input<'_>, changes: &[RecipientChange]) -> Option<Timestamp> {
    // By place: a message may have a thousand recipients, each of them changed.
    let mut states: Vec<&RecipientState> = input.message.recipients.iter().collect();
    for change in changes {
        let place = usize::try_from(change.index).ok();
        if let Some(state) = place.and_then(|place| states.get_mut(place)) {
            *state = &change.state;
        }
    }
    input
        .message
        .each()
        .zip(states)
        .filter(|(_, state)| matches!(state.state, State::Queued | State::Deferred))
        .filter(|((index, recipient, _), _)| {
            next_hop(input.config, input.message, *index, recipient) == *input.hop
        })
        .map(|(_, state)| state.next_attempt)
        .min()
}

/// One recipient with its verdict.
struct One<'a> {
    input: &'a Input<'a>,
    verdict: &'a Verdict,
    recipient: &'a Recipient,
    state: RecipientState,
}

struct Settled<'a> {
    state: RecipientState,
    event: Event,
    tell: Tell<'a>,
}

/// Whom a DSN is due about.
enum Tell<'a> {
    Nobody,
    Failed(Line<'a>),
    Delayed(Line<'a>),
    Relayed(Line<'a>),
}

impl<'a> One<'a> {
    fn of(input: &'a Input<'a>, verdict: &'a Verdict) -> Option<One<'a>> {
        let place = usize::try_from(verdict.index).ok()?;
        Some(One {
            input,
            verdict,
            recipient: input.message.envelope.recipients.get(place)?,
            state: input.message.recipients.get(place)?.clone(),
        })
    }

    fn settle(self, rng: &mut impl rand::Rng) -> Settled<'a> {
        let (decision, said) = (&self.verdict.decision, self.said());
        match decision.fate {
            Fate::Delivered => self.delivered(),
            Fate::Held => self.held(decision, said),
            Fate::Bounced => self.bounced(decision, said),
            // Another host or transaction was not to be had any more in this attempt.
            Fate::Deferred | Fate::AgainNow => self.deferred(decision, rng),
        }
    }

    fn delivered(mut self) -> Settled<'a> {
        self.state.state = State::Delivered;
        self.record(&self.verdict.decision);
        let event = Event::RecipientDelivered {
            id: self.input.message.id,
            recipient: self.recipient.mailbox.to_string(),
            tried: self.tried(&self.verdict.decision, self.said()),
            age: self.age(),
            attempts: self.state.attempts,
        };
        let tell = match self.verdict.reports {
            Reports::PassedOn => Tell::Nobody,
            Reports::Ours => Tell::Relayed(Line {
                recipient: self.recipient,
                verdict: self.verdict,
                decision: &self.verdict.decision,
                next_attempt: None,
                expires: None,
            }),
        };
        Settled {
            state: self.state,
            event,
            tell,
        }
    }

    fn held(mut self, decision: &Decision, basis: Basis) -> Settled<'a> {
        self.state.state = State::Held;
        self.record(decision);
        let event = Event::RecipientHeld {
            id: self.input.message.id,
            recipient: self.recipient.mailbox.to_string(),
            tried: self.tried(decision, basis),
        };
        Settled {
            state: self.state,
            event,
            tell: Tell::Nobody,
        }
    }

    fn bounced(mut self, decision: &'a Decision, basis: Basis) -> Settled<'a> {
        self.state.state = State::Bounced;
        self.record(decision);
        let event = Event::RecipientBounced {
            id: self.input.message.id,
            recipient: self.recipient.mailbox.to_string(),
            tried: self.tried(decision, basis),
        };
        let line = Line {
            recipient: self.recipient,
            verdict: self.verdict,
            decision,
            next_attempt: None,
            expires: None,
        };
        Settled {
            state: self.state,
            event,
            tell: Tell::Failed(line),
        }
    }

    fn deferred(mut self, decision: &'a Decision, rng: &mut impl rand::Rng) -> Settled<'a> {
        let (arrived, now) = (self.input.message.arrival.at, self.input.now);
        let schedule = self.input.config.schedule(decision.rule.retry.as_deref());
        let next = schedule.next(
            arrived,
            now,
            self.state.attempts.saturating_add(1),
            decision.recipient_waits(),
            decision.rule.give_up_after,
            rng,
        );
        let until = match next {
            Next::At(at) | Next::LastAt(at) => at,
            Next::Expired => return self.expired(),
        };
        self.state.state = State::Deferred;
        self.state.next_attempt = until;
        self.record(decision);
        let warn = schedule.warn_after.is_some_and(|after| self.age() >= after);
        let tell = if warn && !self.state.warned {
            self.state.warned = true;
            Tell::Delayed(Line {
                recipient: self.recipient,
                verdict: self.verdict,
                decision,
                next_attempt: Some(until),
                expires: later(arrived, schedule.max_age),
            })
        } else {
            Tell::Nobody
        };
        let event = Event::RecipientDeferred {
            id: self.input.message.id,
            recipient: self.recipient.mailbox.to_string(),
            tried: self.tried(decision, self.said()),
            until,
        };
        Settled {
            state: self.state,
            event,
            tell,
        }
    }

    /// The last try was deferred, too. The last reply stays what is shown; the rule is the one for
    /// expired messages, which an operator may have told to hold them instead.
    fn expired(self) -> Settled<'a> {
        let decision = &self.input.expired;
        let basis = Basis::Failure(Failure::Expired);
        match decision.action {
            Action::Hold => self.held(decision, basis),
            Action::Ok
            | Action::Defer
            | Action::WaitHint
            | Action::NextMx
            | Action::NewTransaction
            | Action::RetryTls
            | Action::RetryPlain
            | Action::Slow
            | Action::SuspendSource
            | Action::SuspendDestination
            | Action::Bounce
            | Action::BounceSuppress
            | Action::Alert => self.bounced(decision, basis),
        }
    }

    fn record(&mut self, decision: &Decision) {
        self.state.record(Attempt {
            at: self.input.now,
            host: self.verdict.host.clone(),
            tls: self.verdict.tls.clone(),
            phase: self.verdict.phase,
            reply: self.verdict.said.text(),
            category: decision.category.to_string(),
            action: decision.action.to_string(),
            rule: decision.rule.name.clone(),
        });
    }

    /// For those who ask later what happened.
    fn tried(&self, decision: &Decision, basis: Basis) -> Box<Tried> {
        let (message, verdict) = (self.input.message, self.verdict);
        Box::new(Tried {
            sender: message.envelope.reverse_path.to_string(),
            user: message.arrival.user.clone(),
            site: self.input.site.map(str::to_owned),
            host: verdict.host.clone(),
            tls: verdict.tls.clone(),
            phase: verdict.phase,
            reply: verdict.said.text(),
            basis,
            accepted_before: verdict.accepted_before,
            rule: decision.rule.name.clone(),
            category: decision.category.to_string(),
            action: decision.action.to_string(),
            provider: decision.provider.as_deref().map(str::to_owned),
        })
    }

    fn said(&self) -> Basis {
        match &self.verdict.said {
            Said::Reply(reply) => Basis::Reply(reply.clone()),
            Said::Failure { failure, .. } => Basis::Failure(*failure),
        }
    }

    fn age(&self) -> Duration {
        let age = self.input.now.duration_since(self.input.message.arrival.at);
        Duration::try_from(age).unwrap_or_default()
    }
}

fn later(from: Timestamp, wait: Duration) -> Option<Timestamp> {
    let wait = jiff::SignedDuration::try_from(wait).ok()?;
    from.checked_add(wait).ok()
}

#[cfg(test)]
mod tests;
