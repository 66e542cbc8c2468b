//! One site: what it may have now, and what it has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::groups::{GroupRef, Share};
use crate::hop::{Health, State};
use crate::jobs::{HopRef, JobRef};
use crate::kept::{Kept, KeptSlow};
use crate::pause::{Lasts, Pause, Stage};
use crate::rate::Rate;
use crate::ready::Ready;
use crate::room::Shares;
use crate::sources::Sources;
use crate::time::{self, MINUTE, Micros, SECOND};
use crate::window::Window;
use crate::words::{Limits, SessionId, SiteId};

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
    pub(crate) pause: Option<Pause>,
    /// Source addresses that are paused here.
    pub(crate) sources: Sources,
    /// The source addresses there are.
    pub(crate) all_sources: Arc<[IpAddr]>,
    pub(crate) slow: Option<Slow>,
    /// No session is opened before: a session ended without having done anything.
    pub(crate) open_after: Micros,
    pub(crate) timer: Option<Micros>,
    /// The caps that it shares with other sites.
    pub(crate) shares: Shares,
    /// The one of them in which it found no room last.
    pub(crate) blocked_by: Option<GroupRef>,
    pub(crate) queued: Queued,
    pace: Pace,
}

/// Whether the limits are those of the present settings. Old ones are replaced by the next answer,
/// present ones are only tightened: several next hops may lead to one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitsAge {
    Old,
    Present,
}

/// Rate and connections are halved `halvings` times; each `length` takes one back.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) halvings: u32,
    pub(crate) until: Micros,
    pub(crate) length: Micros,
    since: Micros,
    pub(crate) rule: Arc<str>,
    /// Messages per second before it, where no limit is set: what is halved then.
    pub(crate) pace: Option<f64>,
}

impl Slow {
    /// As it was before a restart.
    pub(crate) fn kept(kept: &KeptSlow, now: Micros) -> Slow {
        let length = time::span(kept.length);
        Slow {
            halvings: kept.halvings.clamp(1, HALVINGS_MAX),
            until: time::due(kept.until),
            length,
            since: now,
            rule: Arc::clone(&kept.rule),
            pace: kept.pace,
        }
    }
}

/// Dispatches of this minute and of the one before, each over the time in which they were given out: a burst
/// of some milliseconds spread over its minute would be taken for a crawl, and a slow-down would halve that.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    minute: Micros,
    now: Span,
    before: Span,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    dispatches: u32,
    first: Micros,
    last: Micros,
}

impl Pace {
    fn count(&mut self, now: Micros) {
        self.turn(now);
        if self.now.dispatches == 0 {
            self.now.first = now;
        }
        self.now.last = now;
        self.now.dispatches = self.now.dispatches.saturating_add(1);
    }

    fn turn(&mut self, now: Micros) {
        let minute = now / MINUTE;
        if minute != self.minute {
            self.before = if minute == self.minute + 1 {
                self.now
            } else {
                Span::default()
            };
            self.minute = minute;
            self.now = Span::default();
        }
    }

    /// Of the faster minute; None: too few to speak of a pace.
    fn per_second(mut self, now: Micros) -> Option<f64> {
        self.turn(now);
        let paces = [self.now, self.before].into_iter();
        paces.filter_map(Span::per_second).max_by(f64::total_cmp)
    }
}

impl Span {
    fn per_second(self) -> Option<f64> {
        let took = (self.last - self.first).max(SECOND);
        (self.dispatches >= PACE_LEAST)
            .then(|| f64::from(self.dispatches) * SECOND as f64 / took as f64)
    }
}

/// Dispatches in a minute from which on it has a pace.
const PACE_LEAST: u32 = 10;

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
    pub(crate) fn new(
        id: SiteId,
        limits: Limits,
        limits_age: LimitsAge,
        all_sources: Arc<[IpAddr]>,
    ) -> Site {
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
            pause: None,
            sources: Sources::default(),
            all_sources,
            slow: None,
            open_after: 0,
            timer: None,
            shares: Shares::default(),
            blocked_by: None,
            queued: Queued::No,
            pace: Pace::default(),
        }
    }

    /// Where there is nothing to change to, the site pauses.
    pub(crate) fn suspend_source(&mut self, source: Option<IpAddr>, pause: Pause) {
        match source {
            Some(source) if self.all_sources.len() > 1 && self.all_sources.contains(&source) => {
                self.sources.suspend(source, pause);
            }
            Some(_) | None => self.pause = Some(pause),
        }
    }

    /// Takes over what was known before a restart.
    pub(crate) fn restore(&mut self, kept: &Kept, now: Micros) {
        self.pause = kept.pause.as_ref().map(|pause| pause.pause());
        for (source, pause) in &kept.sources {
            self.sources.suspend(*source, pause.pause());
        }
        self.slow = kept.slow.as_ref().map(|slow| Slow::kept(slow, now));
        self.set_rate(now);
    }

    /// One more dispatch is given out.
    pub(crate) fn count_dispatch(&mut self, now: Micros) {
        self.pace.count(now);
    }

    pub(crate) fn gate(&self, now: Micros) -> Gate {
        let by_rule = self.suspended_by_rule(now).is_some();
        match self.health.state(now) {
            State::Well | State::Probing if !by_rule => Gate::All,
            State::Well | State::Probing | State::Suspended(_) => Gate::FlushedOnly,
        }
    }

    /// A pause of the site, or of all source addresses there are: until when, and by which rule.
    pub(crate) fn suspended_by_rule(&self, now: Micros) -> Option<(Micros, Arc<str>)> {
        let pause = self.pause.as_ref();
        pause
            .and_then(|pause| Some((pause.suspended_until(now)?, Arc::clone(&pause.rule))))
            .or_else(|| self.sources.all_suspended(&self.all_sources, now))
    }

    /// Whether it is one dispatch that finds out whether a pause is really over.
    pub(crate) fn is_probing(&self) -> bool {
        let pause = self.pause.as_ref().map(Pause::stage);
        pause == Some(Stage::Probing) || self.sources.is_probing(&self.all_sources)
    }

    /// Sessions, and dispatches at once, that may be. At least 1: a gate holds back, not this.
    pub(crate) fn sessions_allowed(&self, now: Micros) -> u32 {
        match (self.gate(now), self.health.state(now)) {
            (Gate::FlushedOnly, State::Well | State::Probing | State::Suspended(_))
            | (Gate::All, State::Probing | State::Suspended(_)) => 1,
            (Gate::All, State::Well) if self.is_probing() => 1,
            (Gate::All, State::Well) => {
                let most = self.limits.connections.min(self.window.size());
                (most >> self.halvings()).max(1)
            }
        }
    }

    pub(crate) fn halvings(&self) -> u32 {
        let by_slow = self.slow.as_ref().map_or(0, |slow| slow.halvings);
        let by_pause = self.pause.as_ref().map_or(0, Pause::halvings);
        (by_slow + by_pause).min(HALVINGS_MAX)
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
            && self.pause.as_ref().is_none_or(Pause::is_only_probing)
            && self
                .sources
                .iter()
                .all(|(_, pause)| pause.is_only_probing())
            && self.slow.is_none()
    }

    /// Those of one more next hop that leads here.
    pub(crate) fn take_shares<'s>(&mut self, shares: impl Iterator<Item = (&'s Share, GroupRef)>) {
        match self.limits_age {
            LimitsAge::Old => self.shares = Shares::default(),
            LimitsAge::Present if self.hops.len() <= 1 => self.shares = Shares::default(),
            LimitsAge::Present => {}
        }
        for (share, group) in shares {
            self.shares.add(share, group);
        }
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
                    pace: self.pace.per_second(now),
                });
            }
        }
        self.set_rate(now);
    }

    /// Suspensions that are over, slow-downs that recover a step.
    pub(crate) fn pass_time(&mut self, now: Micros) {
        self.sources.pass_time(&self.all_sources, now);
        if let Some(pause) = &mut self.pause {
            let before = pause.halvings();
            let (lasts, after) = (pause.pass_time(now), pause.halvings());
            if lasts == Lasts::Over {
                self.pause = None;
            }
            if lasts == Lasts::Over || before != after {
                self.set_rate(now);
            }
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
        let pace = self.slow.as_ref().and_then(|slow| slow.pace);
        let whole = self.limits.rate.or(pace);
        self.rate.set(whole.map(|rate| rate / part), now);
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
            self.pause.as_ref().and_then(Pause::next_change),
            self.sources.next_change(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_no_crawl_and_a_few_dispatches_are_no_pace() {
        let start = 100 * MINUTE;
        let pace = |count: u64, apart: Micros| {
            let mut pace = Pace::default();
            (0..count).for_each(|n| pace.count(start + n * apart));
            pace.per_second(start + 50 * SECOND)
        };
        assert_eq!(pace(9, SECOND), None);
        assert_eq!(pace(40, 1_000), Some(40.0));
        assert_eq!(pace(21, 2 * SECOND), Some(21.0 / 40.0));
    }
}
