//! All jobs in the order of (message, next hop), in runs: four bytes a job, where a map with the keys in it
//! took forty.

use crate::jobs::{HopRef, JobRef, Slot};
use relay_smtp::QueueId;

/// Jobs of one run; a change in the middle moves half as many.
const RUN: usize = 256;

/// By what they are in order.
pub(crate) type Key = (QueueId, HopRef);

/// The keys are the slots': who changes one of them takes the job out before.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// None is empty.
    runs: Vec<Vec<JobRef>>,
    jobs: usize,
}

/// Where a job is, or would be.
#[derive(Clone, Copy)]
struct Spot {
    run: usize,
    at: usize,
}

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.jobs
    }

    pub(crate) fn find(&self, key: Key, slots: &[Slot]) -> Option<JobRef> {
        let first = self.from(key, slots).next();
        first.filter(|&job| key_of(slots, job) == key)
    }

    /// From this key on.
    pub(crate) fn from(&self, key: Key, slots: &[Slot]) -> impl Iterator<Item = JobRef> + '_ {
        let spot = self.spot(key, slots);
        let run = self.runs.get(spot.run).and_then(|run| run.get(spot.at..));
        let behind = self.runs.get(spot.run + 1..).unwrap_or_default();
        let run = run.unwrap_or_default().iter();
        run.chain(behind.iter().flatten()).copied()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = JobRef> + '_ {
        self.runs.iter().flatten().copied()
    }

    /// The job is in no run yet.
    pub(crate) fn insert(&mut self, job: JobRef, slots: &[Slot]) {
        let Spot { run, at } = self.spot(key_of(slots, job), slots);
        self.jobs += 1;
        let Some(found) = self.runs.get_mut(run) else {
            return self.push(job);
        };
        if found.len() < RUN {
            return found.insert(at, job);
        }
        let mut behind = found.split_off(RUN / 2);
        match at.checked_sub(RUN / 2) {
            Some(at) => behind.insert(at, job),
            None => found.insert(at, job),
        }
        found.shrink_to_fit();
        self.runs.insert(run + 1, behind);
    }

    pub(crate) fn remove(&mut self, job: JobRef, slots: &[Slot]) {
        let Spot { run, at } = self.spot(key_of(slots, job), slots);
        let Some(found) = self.runs.get_mut(run) else {
            return;
        };
        if found.get(at) != Some(&job) {
            return;
        }
        found.remove(at);
        self.jobs -= 1;
        self.join(run);
    }

    /// Nearly all come in at the end, so runs are full.
    fn push(&mut self, job: JobRef) {
        match self.runs.last_mut() {
            Some(last) if last.len() < RUN => last.push(job),
            Some(_) | None => self.runs.push(vec![job]),
        }
    }

    /// A run that has become small goes into the next, so that few jobs do not keep many runs.
    fn join(&mut self, run: usize) {
        let next = self.runs.get(run + 1).map_or(RUN, Vec::len);
        let Some(small) = self.runs.get_mut(run) else {
            return;
        };
        if small.is_empty() {
            self.runs.remove(run);
        } else if small.len() + next <= RUN / 2 {
            let next = self.runs.remove(run + 1);
            self.runs[run].extend(next);
        }
    }

    /// Of the first job whose key is not below this one.
    fn spot(&self, key: Key, slots: &[Slot]) -> Spot {
        let below = |job: JobRef| key_of(slots, job) < key;
        let run = self
            .runs
            .partition_point(|run| run.last().is_some_and(|&job| below(job)));
        let at = match self.runs.get(run) {
            Some(found) => found.partition_point(|&job| below(job)),
            None => 0,
        };
        Spot { run, at }
    }
}

fn key_of(slots: &[Slot], job: JobRef) -> Key {
    let slot = &slots[job as usize];
    (slot.id, slot.hop)
}
