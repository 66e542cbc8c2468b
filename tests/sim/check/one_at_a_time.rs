//! No job is in two sessions at once, no session has two dispatches, none gets work after it was told
//! to end, and each gets only work for its site.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use relay_schedule::SessionId;

use crate::fact::{Check, Fact, Key};
use crate::store::Store;

pub struct OneAtATime {
    hops: Vec<usize>,
    busy: BTreeMap<Key, SessionId>,
    sessions: BTreeMap<SessionId, Option<Key>>,
    quit: BTreeSet<SessionId>,
}

impl OneAtATime {
    pub fn new(hops: &[usize]) -> OneAtATime {
        OneAtATime {
            hops: hops.to_vec(),
            busy: BTreeMap::new(),
            sessions: BTreeMap::new(),
            quit: BTreeSet::new(),
        }
    }
}

impl Check for OneAtATime {
    fn see(&mut self, _now: Timestamp, fact: &Fact<'_>, _store: &Store) {
        match fact {
            Fact::Opened { session, .. } => {
                let before = self.sessions.insert(*session, None);
                assert!(before.is_none(), "{session:?} was opened twice");
            }
            Fact::Assigned {
                session, site, key, ..
            } => {
                assert_eq!(self.hops[key.1], *site, "{key:?} in a session elsewhere");
                assert!(!self.quit.contains(session), "work after quit");
                let before = self.sessions.insert(*session, Some(*key));
                assert_eq!(before, Some(None), "{session:?} has work already");
                let before = self.busy.insert(*key, *session);
                assert_eq!(before, None, "{key:?} twice at once");
            }
            Fact::Carried { session } => {
                self.sessions.insert(*session, None);
            }
            Fact::Back { key } => {
                self.busy.remove(key);
            }
            Fact::Quit { session } => {
                assert!(self.quit.insert(*session), "{session:?} told to quit twice");
                assert_eq!(self.sessions.get(session), Some(&None), "quit while busy");
            }
            Fact::Closed { session } => {
                self.sessions.remove(session);
                self.quit.remove(session);
            }
            Fact::Restarted => {
                self.busy.clear();
                self.sessions.clear();
                self.quit.clear();
            }
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Took { .. }
            | Fact::Written { .. }
            | Fact::Flushed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }
}
