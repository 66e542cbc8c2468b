//! Prompt: at a site that is well and has nothing else to do, a message goes out within a second,
//! whatever happens to the others: one dead site delays no other. After a session of its own broke off
//! without a word the site rests for a second first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use relay_smtp::QueueId;

use crate::fact::{Check, Fact, Key};
use crate::store::Store;

const WITHIN: SignedDuration = SignedDuration::from_secs(1);
/// No session is opened for so long after one has broken off.
const REST: SignedDuration = SignedDuration::from_secs(1);
/// Fewer jobs than these wait at a site that has nothing to do: its sessions take as many at once.
const WITHOUT_WORK: usize = 3;

pub struct Prompt {
    hops: Vec<usize>,
    /// Sites that are always well.
    well: Vec<usize>,
    /// Not given to a session yet.
    pending: BTreeSet<Key>,
    /// Those of them that found the site without work.
    waiting: BTreeMap<Key, Timestamp>,
    /// With a session that has not told yet what came of them.
    given: BTreeSet<Key>,
}

impl Prompt {
    pub fn new(hops: &[usize], well: &[usize]) -> Prompt {
        Prompt {
            hops: hops.to_vec(),
            well: well.to_vec(),
            pending: BTreeSet::new(),
            waiting: BTreeMap::new(),
            given: BTreeSet::new(),
        }
    }

    fn rests(&mut self, site: usize, until: Timestamp) {
        for (key, since) in &mut self.waiting {
            if self.hops[key.1] == site {
                *since = until.max(*since);
            }
        }
    }

    fn add(&mut self, now: Timestamp, id: QueueId, store: &Store) {
        for hop in store.hops(id).into_keys() {
            let site = self.hops[hop];
            if !self.well.contains(&site) {
                continue;
            }
            let pending = self.pending.iter();
            let before = pending.filter(|key| self.hops[key.1] == site).count();
            self.pending.insert((id, hop));
            if before < WITHOUT_WORK {
                self.waiting.insert((id, hop), now);
            }
        }
    }
}

impl Check for Prompt {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store) {
        for (key, &since) in &self.waiting {
            assert!(
                now <= since + WITHIN,
                "{key:?} waits since {since}, it is {now}"
            );
        }
        match fact {
            Fact::Accepted { id } => self.add(now, *id, store),
            Fact::Assigned { key, .. } => {
                self.pending.remove(key);
                self.waiting.remove(key);
                self.given.insert(*key);
            }
            Fact::Written { key, .. } => {
                self.given.remove(key);
            }
            Fact::Back { key } => {
                if self.given.remove(key) {
                    self.rests(self.hops[key.1], now + REST);
                }
            }
            Fact::Discarded { id } => {
                self.pending.retain(|key| key.0 != *id);
                self.waiting.retain(|key, _| key.0 != *id);
            }
            Fact::Restarted => {
                self.pending.clear();
                self.waiting.clear();
                self.given.clear();
                for id in store.unfinished() {
                    self.add(now, id, store);
                }
            }
            Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Took { .. }
            | Fact::Carried { .. }
            | Fact::Quit { .. }
            | Fact::Closed { .. }
            | Fact::Flushed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }
}
