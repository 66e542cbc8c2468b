//! Calm: nobody is tried again within half a minute, a restart is no storm, and a site that cannot be
//! reached is not hammered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use relay_smtp::QueueId;

use crate::fact::{Check, Fact, Key, Reached};
use crate::store::Store;

/// The shortest wait that a schedule or a hint gives, less its jitter.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// Dispatches in an hour that reach nobody: the first window, the probes, and what a session or two
/// had in hand.
const IN_VAIN_MAX: usize = 30;

#[derive(Default)]
pub struct Calm {
    tried: BTreeMap<(QueueId, u32), Timestamp>,
    flushed: BTreeSet<Key>,
    /// By next hop: when nobody was reached.
    in_vain: BTreeMap<usize, VecDeque<Timestamp>>,
}

impl Calm {
    fn written(&mut self, now: Timestamp, hop: usize, reached: Reached) {
        let in_vain = self.in_vain.entry(hop).or_default();
        match reached {
            Reached::Yes => in_vain.clear(),
            Reached::No => {
                in_vain.push_back(now);
                let hour = SignedDuration::from_hours(1);
                in_vain.retain(|&at| now.duration_since(at) < hour);
                assert!(
                    in_vain.len() <= IN_VAIN_MAX,
                    "{} dispatches in an hour to next hop {hop}, which is not there",
                    in_vain.len()
                );
            }
        }
    }
}

impl Check for Calm {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store) {
        match fact {
            Fact::Assigned { key, due, .. } => {
                let flushed = self.flushed.remove(key);
                let late = now >= store.mail(key.0).deadline;
                for &index in *due {
                    if let Some(&tried) = self.tried.get(&(key.0, index)) {
                        let pause = now.duration_since(tried);
                        assert!(
                            pause >= AGAIN_AFTER || flushed || late,
                            "{} to {index} again after {pause:#}",
                            key.0
                        );
                    }
                }
            }
            Fact::Written {
                key, ends, reached, ..
            } => {
                for &(index, _) in *ends {
                    self.tried.insert((key.0, index), now);
                }
                self.written(now, key.1, *reached);
            }
            Fact::Flushed { keys } => {
                self.flushed.extend(keys.iter().copied());
                self.in_vain.clear();
            }
            Fact::Resumed { .. } => self.in_vain.clear(),
            Fact::Restarted => {
                self.flushed.clear();
                self.in_vain.clear();
            }
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Took { .. }
            | Fact::Carried { .. }
            | Fact::Back { .. }
            | Fact::Quit { .. }
            | Fact::Closed { .. }
            | Fact::Suspended { .. }
            | Fact::Healed => {}
        }
    }
}
