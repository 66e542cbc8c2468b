//! One site: what it may have now, and what it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::hop::{Health, State};
use crate::jobs::{HopRef, JobRef};
use crate::rate::Rate;
use crate::ready::Ready;
use crate::scheduler::{Limits, SessionId, SiteId};
use crate::time::{Micros, SECOND};
use crate::window::Window;

pub(crate) type SiteRef = u32;

/// Several sessions that are told to slow down in one moment are one event.
const SLOWED_AGAIN_AFTER: Micros = 30 * SECOND;
/// Rate and connections are halved at most this often.
const HALVINGS_MAX: u32 = 6;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) id: SiteId,
    pub(crate) limits: Limits,
    pub(crate) limits_age: LimitsAge,
    /// Due jobs.
    pub(crate) ready: Ready,
    /// Due jobs that an operator flushed: they go first, and suspensions do not hold them.
    pub(crate) flushed: Ready,
    /// Deadlines of the jobs in `ready`.
    pub(crate) deadlines: BTreeSet<(Micros, JobRef)>,
    pub(crate) hops: BTreeSet<HopRef>,
    pub(crate) sessions: BTreeSet<SessionId>,
    /// Sessions that want work, the latest last.
    pub(crate) idle: Vec<SessionId>,
    /// Sessions that were opened and have not asked for work yet.
    pub(crate) opening: u32,
    /// Sessions that were told to end and have not ended yet.
    pub(crate) quitting: u32,
    pub(crate) in_flight: u32,
    pub(crate) window: Window,
    pub(crate) rate: Rate,
    pub(crate) health: Health,
    pub(crate) suspended: Option<Suspension>,
    pub(crate) slow: Option<Slow>,
    /// No session is opened before: a session ended without having done anything.
    pub(crate) open_after: Micros,
    pub(crate) timer: Option<Micros>,
    pub(crate) queued: Queued,
}

/// Whether the limits are those of the present settings. Old ones are replaced by the next answer,
/// present ones are only tightened: several next hops may lead to one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitsAge {
    Old,
    Present,
}

/// By a rule or an operator.
#[derive(Clone, Debug)]
pub(crate) struct Suspension {
    pub(crate) until: Micros,
    pub(crate) rule: Arc<str>,
}

/// Rate and connections are halved `halvings` times; each `length` takes one back.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) halvings: u32,
    pub(crate) until: Micros,
    length: Micros,
    since: Micros,
    pub(crate) rule: Arc<str>,
}

/// Whether the site waits for a place among all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    No,
    /// It has no session. With the number of its asking.
    Starving(u64),
    /// It wants one more.
    Wanting(u64),
}

/// Which jobs may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    All,
    FlushedOnly,
}

impl Site {
    pub(crate) fn new(id: SiteId, limits: Limits, limits_age: LimitsAge) -> Site {
        Site {
            id,
            rate: Rate::new(limits.rate),
            limits,
            limits_age,
            ready: Ready::default(),
            flushed: Ready::default(),
            deadlines: BTreeSet::new(),
            hops: BTreeSet::new(),
            sessions: BTreeSet::new(),
            idle: Vec::new(),
            opening: 0,
            quitting: 0,
            in_flight: 0,
            window: Window::new(),
            health: Health::default(),
            suspended: None,
            slow: None,
            open_after: 0,
            timer: None,
            queued: Queued::No,
        }
    }

    pub(crate) fn gate(&self, now: Micros) -> Gate {
        let by_rule = self.suspended.as_ref().is_some_and(|s| s.until > now);
        match self.health.state(now) {
            State::Well | State::Probing if !by_rule => Gate::All,
            State::Well | State::Probing | State::Suspended(_) => Gate::FlushedOnly,
        }
    }

    /// Sessions, and dispatches at once, that may be. At least 1: a gate holds back, not this.
    pub(crate) fn sessions_allowed(&self, now: Micros) -> u32 {
        match (self.gate(now), self.health.state(now)) {
            (Gate::FlushedOnly, State::Well | State::Probing | State::Suspended(_))
            | (Gate::All, State::Probing | State::Suspended(_)) => 1,
            (Gate::All, State::Well) => {
                let most = self.limits.connections.min(self.window.size());
                (most >> self.halvings()).max(1)
            }
        }
    }

    pub(crate) fn halvings(&self) -> u32 {
        self.slow.as_ref().map_or(0, |slow| slow.halvings)
    }

    /// Jobs that may go now, were there sessions and tokens.
    pub(crate) fn offered(&self, now: Micros) -> usize {
        match self.gate(now) {
            Gate::All => self.ready.len() + self.flushed.len(),
            Gate::FlushedOnly => self.flushed.len(),
        }
    }

    /// Sessions that have not been told to end.
    pub(crate) fn working(&self) -> u32 {
        (self.sessions.len() as u32).saturating_sub(self.quitting)
    }

    /// Nothing is lost if the site is forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        self.hops.is_empty()
            && self.sessions.is_empty()
            && self.suspended.is_none()
            && self.slow.is_none()
    }

    /// Lays the limits of one more next hop over those that are there.
    pub(crate) fn take_limits(&mut self, limits: Limits, now: Micros) {
        match self.limits_age {
            LimitsAge::Old => self.limits = limits,
            LimitsAge::Present if self.hops.len() <= 1 => self.limits = limits,
            LimitsAge::Present => self.limits = strictest(&self.limits, &limits),
        }
        self.limits_age = LimitsAge::Present;
        self.set_rate(now);
    }

    pub(crate) fn slow_down(&mut self, length: Micros, rule: Arc<str>, now: Micros) {
        let until = now + length;
        match &mut self.slow {
            Some(slow) => {
                if now >= slow.since + SLOWED_AGAIN_AFTER && slow.halvings < HALVINGS_MAX {
                    slow.halvings += 1;
                    slow.since = now;
                }
                slow.until = slow.until.max(until);
                slow.length = length;
                slow.rule = rule;
            }
            None => {
                self.slow = Some(Slow {
                    halvings: 1,
                    until,
                    length,
                    since: now,
                    rule,
                });
            }
        }
        self.set_rate(now);
    }

    /// Suspensions that are over, slow-downs that recover a step.
    pub(crate) fn pass_time(&mut self, now: Micros) {
        if self.suspended.as_ref().is_some_and(|s| s.until <= now) {
            self.suspended = None;
        }
        let Some(slow) = &mut self.slow else {
            return;
        };
        if slow.until > now {
            return;
        }
        slow.halvings -= 1;
        slow.until = now + slow.length.max(SECOND);
        if slow.halvings == 0 {
            self.slow = None;
        }
        self.set_rate(now);
    }

    pub(crate) fn set_rate(&mut self, now: Micros) {
        let part = f64::from(1u32 << self.halvings());
        self.rate.set(self.limits.rate.map(|rate| rate / part), now);
    }

    /// The session to give work to: one that is connected rather than one that has yet to connect,
    /// of those the one that was busy last, so that the others may end.
    pub(crate) fn pick_idle(
        &mut self,
        connected: impl Fn(SessionId) -> Connected,
    ) -> Option<SessionId> {
        let place = self
            .idle
            .iter()
            .rposition(|&session| connected(session) == Connected::Yes)
            .or_else(|| self.idle.len().checked_sub(1))?;
        Some(self.idle.remove(place))
    }

    /// When time alone changes something for this site, after `now`.
    pub(crate) fn next_change(&self, now: Micros, idle_until: Option<Micros>) -> Option<Micros> {
        let offered = self.offered(now) > 0;
        let suspended = match self.health.state(now) {
            State::Suspended(until) => Some(until),
            State::Well | State::Probing => None,
        };
        let deadline = match self.gate(now) {
            Gate::All => None,
            Gate::FlushedOnly => self.deadlines.first().map(|&(at, _)| at),
        };
        [
            offered.then(|| self.rate.next()),
            offered.then_some(self.open_after),
            suspended,
            self.suspended.as_ref().map(|s| s.until),
            self.slow.as_ref().map(|slow| slow.until),
            deadline,
            idle_until,
        ]
        .into_iter()
        .flatten()
        .filter(|&at| at > now)
        .min()
    }
}

/// Whether a session has carried something out, and so has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connected {
    Yes,
    No,
}

fn strictest(a: &Limits, b: &Limits) -> Limits {
    let rate = match (a.rate, b.rate) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (Some(rate), None) | (None, Some(rate)) => Some(rate),
        (None, None) => None,
    };
    Limits {
        connections: a.connections.min(b.connections),
        rate,
        messages_per_connection: a.messages_per_connection.min(b.messages_per_connection),
        recipients_per_transaction: a
            .recipients_per_transaction
            .min(b.recipients_per_transaction),
    }
}
