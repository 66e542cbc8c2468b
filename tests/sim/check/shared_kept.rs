//! Shared caps are kept: sites that share connections never have more sessions together.

use std::collections::BTreeSet;

use jiff::Timestamp;
use relay_schedule::SessionId;

use crate::fact::{Check, Fact};
use crate::store::Store;

pub struct SharedKept {
    sites: Vec<usize>,
    most: usize,
    sessions: BTreeSet<SessionId>,
}

impl SharedKept {
    pub fn new(sites: &[usize], most: u32) -> SharedKept {
        SharedKept {
            sites: sites.to_vec(),
            most: most as usize,
            sessions: BTreeSet::new(),
        }
    }
}

impl Check for SharedKept {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, _store: &Store) {
        match fact {
            Fact::Opened { session, site } if self.sites.contains(site) => {
                self.sessions.insert(*session);
                let count = self.sessions.len();
                assert!(count <= self.most, "{count} sessions together at {now}");
            }
            Fact::Closed { session } => {
                self.sessions.remove(session);
            }
            Fact::Restarted => self.sessions.clear(),
            Fact::Opened { .. }
            | Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Assigned { .. }
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
