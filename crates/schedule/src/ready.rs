//! Jobs that are due, in the order in which a site's sessions get them: round robin over the
//! senders, and of each sender the oldest message first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use relay_smtp::QueueId;

use crate::jobs::{JobRef, SenderRef};

/// A bulk mailing of one sender takes every other turn at most when another sender has mail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    lanes: BTreeMap<SenderRef, BTreeSet<(QueueId, JobRef)>>,
    /// Each sender with a lane, once. A lane that was emptied by removals is dropped at its turn.
    ring: VecDeque<SenderRef>,
    jobs: usize,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.jobs
    }

    pub(crate) fn push(&mut self, sender: SenderRef, id: QueueId, job: JobRef) {
        let ring = &mut self.ring;
        let lane = self.lanes.entry(sender).or_insert_with(|| {
            ring.push_back(sender);
            BTreeSet::new()
        });
        if lane.insert((id, job)) {
            self.jobs += 1;
        }
    }

    pub(crate) fn remove(&mut self, sender: SenderRef, id: QueueId, job: JobRef) {
        if let Some(lane) = self.lanes.get_mut(&sender)
            && lane.remove(&(id, job))
        {
            self.jobs -= 1;
        }
    }

    /// The next job, taken out.
    pub(crate) fn pop(&mut self) -> Option<JobRef> {
        while let Some(sender) = self.ring.pop_front() {
            let lane = self.lanes.get_mut(&sender)?;
            let next = lane.pop_first();
            if lane.is_empty() {
                self.lanes.remove(&sender);
            } else {
                self.ring.push_back(sender);
            }
            if let Some((_, job)) = next {
                self.jobs -= 1;
                return Some(job);
            }
        }
        None
    }

    /// A job that is about to go: the oldest of the sender whose turn it is.
    pub(crate) fn first(&self) -> Option<JobRef> {
        self.ring
            .iter()
            .find_map(|sender| self.lanes.get(sender)?.first())
            .map(|&(_, job)| job)
    }

    /// All jobs, by sender and age.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobRef> + '_ {
        self.lanes.values().flatten().map(|&(_, job)| job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> QueueId {
        QueueId::from_u64(number)
    }

    #[test]
    fn senders_take_turns_and_each_ones_oldest_goes_first() {
        let mut ready = Ready::default();
        for (sender, number) in [(1, 30), (1, 10), (1, 20), (2, 40), (3, 50), (2, 35)] {
            ready.push(sender, id(number), number as JobRef);
        }
        let order: Vec<JobRef> = std::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [10, 35, 50, 20, 40, 30]);
        assert_eq!(ready.len(), 0);
    }

    #[test]
    fn a_removed_job_is_not_given_out_and_its_sender_keeps_one_place() {
        let mut ready = Ready::default();
        ready.push(1, id(1), 1);
        ready.push(2, id(2), 2);
        ready.remove(1, id(1), 1);
        ready.push(1, id(3), 3);
        ready.remove(1, id(9), 9);
        assert_eq!(ready.len(), 2);
        let order: Vec<JobRef> = std::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [3, 2]);
        assert!(ready.ring.is_empty() && ready.lanes.is_empty());
    }
}
