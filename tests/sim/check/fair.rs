//! Fair: while a sender's message is due at a site, no other sender is served there more than twice.
//! What an operator flushes goes first and is left out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::fact::{Check, Fact, Key};
use crate::store::{End, Store};

/// The turn that was just about to come, and one more.
const TURNS_MAX: u32 = 2;
/// By then the site of a next hop is known.
const RESOLVED_AFTER: SignedDuration = SignedDuration::from_secs(1);

pub struct Fair {
    hops: Vec<usize>,
    /// Jobs with a recipient to be tried, of each site, with the time at which it is due.
    open: BTreeMap<usize, BTreeMap<Key, Job>>,
    /// How often the second sender was served at the site while the first one waited.
    turns: BTreeMap<(usize, usize, usize), u32>,
    flushed: BTreeSet<Key>,
}

struct Job {
    due: Timestamp,
    sender: usize,
    in_flight: InFlight,
}

#[derive(PartialEq)]
enum InFlight {
    Yes,
    No,
}

impl Fair {
    pub fn new(hops: &[usize]) -> Fair {
        Fair {
            hops: hops.to_vec(),
            open: BTreeMap::new(),
            turns: BTreeMap::new(),
            flushed: BTreeSet::new(),
        }
    }

    fn assigned(&mut self, now: Timestamp, site: usize, key: Key, served: usize) {
        let jobs = self.open.entry(site).or_default();
        if let Some(job) = jobs.get_mut(&key) {
            job.in_flight = InFlight::Yes;
        }
        let waiting: BTreeSet<usize> = jobs
            .values()
            .filter(|job| job.in_flight == InFlight::No && now > job.due + RESOLVED_AFTER)
            .map(|job| job.sender)
            .collect();
        self.turns
            .retain(|&(at, who, _), _| at != site || (who != served && waiting.contains(&who)));
        if self.flushed.remove(&key) {
            return;
        }
        for &sender in waiting.iter().filter(|&&sender| sender != served) {
            let turns = self.turns.entry((site, sender, served)).or_default();
            *turns += 1;
            assert!(
                *turns <= TURNS_MAX,
                "site {site}: sender {served} is served {turns} times while sender {sender} waits"
            );
        }
    }

    /// The job as it is in the queue now.
    fn refresh(&mut self, now: Timestamp, key: Key, store: &Store) {
        let jobs = self.open.entry(self.hops[key.1]).or_default();
        match store.due_again(key) {
            None => drop(jobs.remove(&key)),
            Some(due) => {
                let job = Job {
                    // One whose session broke off has been due for long; it comes back now.
                    due: due.max(now),
                    sender: store.mail(key.0).sender,
                    in_flight: InFlight::No,
                };
                jobs.insert(key, job);
            }
        }
    }

    fn refresh_all(&mut self, now: Timestamp, id: relay_smtp::QueueId, store: &Store) {
        let hops: BTreeSet<usize> = store.mail(id).recipients.iter().map(|r| r.hop).collect();
        for hop in hops {
            self.refresh(now, (id, hop), store);
        }
    }
}

impl Check for Fair {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store) {
        match fact {
            Fact::Accepted { id } => self.refresh_all(now, *id, store),
            Fact::Discarded { id } => {
                for jobs in self.open.values_mut() {
                    jobs.retain(|key, _| key.0 != *id);
                }
            }
            Fact::Assigned { site, key, .. } => {
                let sender = store.mail(key.0).sender;
                self.assigned(now, *site, *key, sender);
            }
            Fact::Back { key } => self.refresh(now, *key, store),
            // Expired without a session.
            Fact::Written { key, ends, .. } => {
                if ends.iter().any(|&(_, end)| end == End::Expired) {
                    self.refresh(now, *key, store);
                }
            }
            Fact::Flushed { keys } => self.flushed.extend(keys.iter().copied()),
            Fact::Restarted => {
                self.turns.clear();
                self.flushed.clear();
                for job in self.open.values_mut().flat_map(BTreeMap::values_mut) {
                    job.in_flight = InFlight::No;
                    job.due = job.due.max(now);
                }
            }
            Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Carried { .. }
            | Fact::Took { .. }
            | Fact::Quit { .. }
            | Fact::Closed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }
}
