//! A suspended site rests: only flushed jobs go there, one at a time; when its time is over after
//! failures, one dispatch at a time finds out whether it is back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use relay_schedule::SessionId;

use crate::fact::{Check, Fact, Key};
use crate::store::Store;

#[derive(Default)]
pub struct Rests {
    until: BTreeMap<usize, Timestamp>,
    in_flight: BTreeMap<SessionId, usize>,
    flushed: BTreeSet<Key>,
}

impl Check for Rests {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, _store: &Store) {
        match fact {
            Fact::Suspended { site, until } => {
                self.until.insert(*site, *until);
            }
            Fact::Resumed { site } => {
                self.until.remove(site);
            }
            Fact::Assigned {
                session, site, key, ..
            } => {
                let flushed = self.flushed.remove(key);
                if let Some(&until) = self.until.get(site)
                    && now < until
                {
                    assert!(
                        flushed,
                        "{key:?} goes to site {site}, which rests until {until}"
                    );
                    let others = self.in_flight.values().filter(|at| *at == site).count();
                    assert_eq!(others, 0, "site {site} rests and has more than one");
                }
                self.in_flight.insert(*session, *site);
            }
            Fact::Carried { session } => {
                self.in_flight.remove(session);
            }
            Fact::Closed { session } => {
                self.in_flight.remove(session);
            }
            Fact::Flushed { keys } => self.flushed.extend(keys.iter().copied()),
            Fact::Restarted => *self = Rests::default(),
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Took { .. }
            | Fact::Written { .. }
            | Fact::Quit { .. }
            | Fact::Back { .. }
            | Fact::Healed => {}
        }
    }
}
