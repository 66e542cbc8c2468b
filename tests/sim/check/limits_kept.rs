//! Limits kept: connections of each site and of all together, rates, messages of a connection.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use relay_schedule::{Limits, SessionId};

use crate::fact::{Check, Fact};
use crate::store::Store;

/// Dispatches looked back on when the rate is checked.
const LOOK_BACK: usize = 100;

pub struct LimitsKept {
    sessions_max: usize,
    limits: BTreeMap<usize, Limits>,
    sessions: BTreeMap<SessionId, Session>,
    dispatched: BTreeMap<usize, VecDeque<Timestamp>>,
}

struct Session {
    site: usize,
    messages: u32,
}

impl LimitsKept {
    pub fn new(sessions_max: u32) -> LimitsKept {
        LimitsKept {
            sessions_max: sessions_max as usize,
            limits: BTreeMap::new(),
            sessions: BTreeMap::new(),
            dispatched: BTreeMap::new(),
        }
    }

    fn opened(&mut self, id: SessionId, site: usize) {
        let limits = &self.limits[&site];
        let open = self.sessions.values().filter(|s| s.site == site).count();
        assert!(
            open < limits.connections as usize,
            "site {site}: {open} sessions and one more, allowed are {}",
            limits.connections
        );
        assert!(self.sessions.len() < self.sessions_max, "sessions together");
        self.sessions.insert(id, Session { site, messages: 0 });
    }

    fn dispatched(&mut self, now: Timestamp, id: SessionId, site: usize) {
        let limits = &self.limits[&site];
        if let Some(session) = self.sessions.get_mut(&id) {
            session.messages += 1;
            assert!(
                session.messages <= limits.messages_per_connection,
                "{id:?} has too many messages"
            );
        }
        let times = self.dispatched.entry(site).or_default();
        times.push_back(now);
        if times.len() > LOOK_BACK {
            times.pop_front();
        }
        let Some(rate) = limits.rate else { return };
        for (count, &then) in (1..).zip(times.iter().rev()) {
            let seconds = now.duration_since(then).as_secs_f64();
            let most = 1.0 + rate * (seconds + 0.05) + 1e-3;
            assert!(
                f64::from(count) <= most,
                "site {site}: {count} in {seconds} s at {rate}/s"
            );
        }
    }
}

impl Check for LimitsKept {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, _store: &Store) {
        match fact {
            Fact::Limits { site, limits } => {
                let before = self.limits.insert(*site, (*limits).clone());
                if before.is_none_or(|before| before.rate != limits.rate) {
                    self.dispatched.remove(site);
                }
            }
            Fact::Opened { session, site } => self.opened(*session, *site),
            Fact::Assigned { session, site, .. } => self.dispatched(now, *session, *site),
            Fact::Closed { session } => {
                self.sessions.remove(session);
            }
            Fact::Restarted => {
                self.sessions.clear();
                self.dispatched.clear();
            }
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Took { .. }
            | Fact::Written { .. }
            | Fact::Carried { .. }
            | Fact::Back { .. }
            | Fact::Quit { .. }
            | Fact::Flushed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }
}
