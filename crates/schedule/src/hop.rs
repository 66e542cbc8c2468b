//! The health of a site: failures in a row, suspension, the probe that reopens it.

use std::sync::Arc;

use rand::RngExt;

use crate::time::{MINUTE, Micros};

/// So many dispatches in a row that reached no host suspend the site. One or two may be chance.
const FAILURES_MAX: u32 = 3;
/// The first suspension, doubled by each failed probe.
const PAUSE_FIRST: Micros = MINUTE;
const PAUSE_MAX: Micros = 30 * MINUTE;

/// Counts only dispatches that reached no host at all, never a recipient's reply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    /// When the last suspension began; dispatches given out before it say nothing new.
    since: Micros,
    until: Micros,
    /// By which all hosts failed alike.
    rule: Option<Arc<str>>,
}

/// What the site may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    /// Nothing until then.
    Suspended(Micros),
    /// One session, one dispatch at a time, until one of them reaches a host.
    Probing,
}

impl Health {
    pub(crate) fn state(&self, now: Micros) -> State {
        if self.failures < FAILURES_MAX {
            State::Well
        } else if now < self.until {
            State::Suspended(self.until)
        } else {
            State::Probing
        }
    }

    /// It was suspended, and what goes there now is a probe.
    pub(crate) fn is_probing(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Why the site is suspended.
    pub(crate) fn words(&self) -> String {
        match &self.rule {
            Some(rule) => format!("{rule} (all hosts fail alike)"),
            None => format!("{} failed connections in a row", self.failures),
        }
    }

    /// A host was reached.
    pub(crate) fn good(&mut self) {
        *self = Health::default();
    }

    /// Several hosts failed one dispatch for one reason. That is no chance: it counts as the third in a row.
    pub(crate) fn all_failed(&mut self, rule: Arc<str>, now: Micros, rng: &mut impl rand::Rng) {
        match self.state(now) {
            State::Suspended(_) => {}
            State::Well | State::Probing => {
                self.failures = self.failures.max(FAILURES_MAX - 1);
                self.failed(now, now, rng);
                self.rule = Some(rule);
            }
        }
    }

    /// No host was reached by a dispatch that was given out at `assigned`. The pause is stretched by
    /// up to a tenth, so that sites that died together are not probed together.
    pub(crate) fn failed(&mut self, assigned: Micros, now: Micros, rng: &mut impl rand::Rng) {
        if self.failures >= FAILURES_MAX && assigned < self.since {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return;
        }
        let doublings = (self.failures - FAILURES_MAX).min(10);
        let pause = (PAUSE_FIRST << doublings).min(PAUSE_MAX);
        self.since = now;
        self.until = now + pause + rng.random_range(0..=pause / 10);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::time::SECOND;

    #[test]
    fn the_third_failure_in_a_row_suspends_and_each_failed_probe_doubles_the_pause() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut health = Health::default();
        let mut now = 100 * SECOND;
        for _ in 0..2 {
            health.failed(now, now, &mut rng);
            assert_eq!(health.state(now), State::Well);
        }
        for minutes in [1, 2, 4, 8, 16, 30, 30] {
            health.failed(now, now, &mut rng);
            let State::Suspended(until) = health.state(now) else {
                panic!("not suspended");
            };
            let pause = until - now;
            assert!((minutes * MINUTE..=minutes * MINUTE * 11 / 10).contains(&pause));
            now = until;
            assert_eq!(health.state(now), State::Probing);
        }
        health.good();
        assert_eq!(health.state(now), State::Well);
    }

    #[test]
    fn several_hosts_that_fail_alike_suspend_at_once_and_the_dispatch_itself_adds_nothing() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut health, start) = (Health::default(), 100 * SECOND);
        let mut now = start;
        for minutes in [1, 2] {
            health.all_failed("connection-refused".into(), now, &mut rng);
            let suspended = health.state(now);
            let State::Suspended(until) = suspended else {
                panic!("not suspended");
            };
            assert!((minutes * MINUTE..=minutes * MINUTE * 11 / 10).contains(&(until - now)));
            health.failed(now - 1, now, &mut rng);
            health.all_failed("banner-timeout".into(), now + 1, &mut rng);
            assert_eq!(health.state(now), suspended);
            assert_eq!(health.words(), "connection-refused (all hosts fail alike)");
            now = until;
        }
        health.good();
        health.failed(now, now, &mut rng);
        assert_eq!(health.words(), "1 failed connections in a row");
    }

    #[test]
    fn failures_of_dispatches_from_before_the_suspension_do_not_lengthen_it() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut health = Health::default();
        let start = 100 * SECOND;
        for _ in 0..3 {
            health.failed(start, start + 30 * SECOND, &mut rng);
        }
        let suspended = health.state(start + 30 * SECOND);
        for _ in 0..20 {
            health.failed(start, start + 31 * SECOND, &mut rng);
        }
        assert_eq!(health.state(start + 31 * SECOND), suspended);
    }
}
