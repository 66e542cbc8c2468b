//! Jobs that are due, in the order in which a site's sessions get them: round robin over the senders,
//! of each sender over its streams, and of each stream the oldest message first, where urgent ones count as older
//! and large ones as younger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use relay_smtp::QueueId;
use relay_smtp::envelope::Priority;

use crate::jobs::JobRef;
use crate::senders::{SenderRef, StreamRef};

/// A large message counts as if it had come later: a second for each so many bytes,
const BYTES_A_SECOND: u64 = 100 << 10;
/// and never more than this. So small ones go before it, but only those that came within this time:
/// it does not starve.
const LATER_MAX_SECONDS: i16 = 300;

/// Each step of priority counts as having come so many seconds earlier, or later. So the more urgent goes first,
/// before what came up to some hours ago, and not for longer: what is not urgent does not starve.
const PRIORITY_SECONDS: i16 = 900;

/// How much later a message counts as having come, in seconds, for its size and its priority.
pub(crate) fn later_by(bytes: u64, priority: Priority) -> i16 {
    let seconds = i16::try_from(bytes / BYTES_A_SECOND).unwrap_or(i16::MAX);
    let for_size = seconds.min(LATER_MAX_SECONDS);
    for_size - i16::from(priority.level()) * PRIORITY_SECONDS
}

/// Where a job stands among the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) sender: SenderRef,
    pub(crate) stream: StreamRef,
    /// The id that a small message of priority 0 would have in its place.
    pub(crate) rank: QueueId,
}

impl Lane {
    pub(crate) fn new(sender: SenderRef, stream: StreamRef, id: QueueId, later: i16) -> Lane {
        let rank = match later {
            0 => id,
            seconds => id.shifted(i64::from(seconds)),
        };
        Lane {
            sender,
            stream,
            rank,
        }
    }
}

/// A bulk mailing of one sender takes every other turn at most when another sender, or another stream
/// of the same one, has mail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    senders: Turns<Turns<BTreeSet<(QueueId, JobRef)>>>,
    jobs: usize,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.jobs
    }

    pub(crate) fn push(&mut self, lane: Lane, job: JobRef) {
        let streams = self.senders.lane(lane.sender);
        if streams.lane(lane.stream).insert((lane.rank, job)) {
            self.jobs += 1;
        }
    }

    pub(crate) fn remove(&mut self, lane: Lane, job: JobRef) {
        let streams = self.senders.lanes.get_mut(&lane.sender);
        let jobs = streams.and_then(|streams| streams.lanes.get_mut(&lane.stream));
        if jobs.is_some_and(|jobs| jobs.remove(&(lane.rank, job))) {
            self.jobs -= 1;
        }
    }

    /// The next job, taken out.
    pub(crate) fn pop(&mut self) -> Option<JobRef> {
        let next = self.senders.take()?;
        self.jobs -= 1;
        Some(next)
    }

    /// A job that is about to go: the oldest of the stream whose turn it is.
    pub(crate) fn first(&self) -> Option<JobRef> {
        self.senders.peek()
    }

    /// All jobs, by sender, stream and age.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobRef> + '_ {
        let streams = self.senders.lanes.values();
        let jobs = streams.flat_map(|streams| streams.lanes.values());
        jobs.flatten().map(|&(_, job)| job)
    }
}

/// Lanes that take turns: senders, or the streams of one.
#[derive(Clone, Debug, Default)]
struct Turns<L> {
    lanes: BTreeMap<u32, L>,
    /// Each that has a lane, once. A lane that was emptied by removals is dropped at its turn.
    ring: VecDeque<u32>,
}

impl<L: Default> Turns<L> {
    fn lane(&mut self, key: u32) -> &mut L {
        let ring = &mut self.ring;
        self.lanes.entry(key).or_insert_with(|| {
            ring.push_back(key);
            L::default()
        })
    }
}

trait Line {
    fn take(&mut self) -> Option<JobRef>;
    fn peek(&self) -> Option<JobRef>;
    fn has_none(&self) -> bool;
}

impl<L: Line> Line for Turns<L> {
    fn take(&mut self) -> Option<JobRef> {
        while let Some(key) = self.ring.pop_front() {
            let lane = self.lanes.get_mut(&key)?;
            let next = lane.take();
            if lane.has_none() {
                self.lanes.remove(&key);
            } else {
                self.ring.push_back(key);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn peek(&self) -> Option<JobRef> {
        let mut lanes = self.ring.iter().filter_map(|key| self.lanes.get(key));
        lanes.find_map(Line::peek)
    }

    fn has_none(&self) -> bool {
        self.ring.is_empty()
    }
}

impl Line for BTreeSet<(QueueId, JobRef)> {
    fn take(&mut self) -> Option<JobRef> {
        self.pop_first().map(|(_, job)| job)
    }

    fn peek(&self) -> Option<JobRef> {
        self.first().map(|&(_, job)| job)
    }

    fn has_none(&self) -> bool {
        self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sender: SenderRef, stream: StreamRef, number: u64) -> Lane {
        Lane::new(sender, stream, QueueId::from_u64(number), 0)
    }

    fn order(ready: &mut Ready) -> Vec<JobRef> {
        std::iter::from_fn(|| {
            let first = ready.first();
            let next = ready.pop();
            assert_eq!(first, next);
            next
        })
        .collect()
    }

    #[test]
    fn senders_take_turns_and_each_ones_oldest_goes_first() {
        let mut ready = Ready::default();
        for (sender, number) in [(1, 30), (1, 10), (1, 20), (2, 40), (3, 50), (2, 35)] {
            ready.push(lane(sender, sender, number), number as JobRef);
        }
        assert_eq!(order(&mut ready), [10, 35, 50, 20, 40, 30]);
        assert_eq!(ready.len(), 0);
    }

    #[test]
    fn the_streams_of_one_sender_take_turns_within_its_turns() {
        let mut ready = Ready::default();
        // Sender 1: a mailing (stream 1) and a single message (stream 2); sender 2: two messages.
        for (sender, stream, number) in [
            (1, 1, 10),
            (1, 1, 11),
            (1, 1, 12),
            (1, 2, 20),
            (2, 3, 30),
            (2, 3, 31),
        ] {
            ready.push(lane(sender, stream, number), number as JobRef);
        }
        assert_eq!(order(&mut ready), [10, 30, 20, 31, 11, 12]);
    }

    #[test]
    fn a_removed_job_is_not_given_out_and_its_sender_keeps_one_place() {
        let mut ready = Ready::default();
        ready.push(lane(1, 1, 1), 1);
        ready.push(lane(2, 2, 2), 2);
        ready.remove(lane(1, 1, 1), 1);
        ready.push(lane(1, 1, 3), 3);
        ready.remove(lane(1, 1, 9), 9);
        assert_eq!(ready.len(), 2);
        assert_eq!(order(&mut ready), [3, 2]);
        assert!(ready.senders.ring.is_empty() && ready.senders.lanes.is_empty());
    }

    #[test]
    fn small_messages_go_before_a_large_one_but_not_for_longer_than_five_minutes() {
        let later_by = |bytes| later_by(bytes, Priority::default());
        assert_eq!(later_by(20 << 10), 0);
        assert_eq!(later_by(1 << 20), 10);
        assert_eq!(later_by(u64::MAX), 300);
        let start = 1_800_000_000_000;
        let at = |seconds: u64| QueueId::first_of(start + seconds * 1000, 0);
        let mut ready = Ready::default();
        ready.push(Lane::new(1, 1, at(0), later_by(50 << 20)), 0);
        for seconds in (0..600).step_by(60) {
            let job = 1 + seconds as JobRef;
            ready.push(Lane::new(1, 1, at(seconds + 1), 0), job);
        }
        let order = order(&mut ready);
        let place = order.iter().position(|&job| job == 0);
        assert_eq!(place, Some(5), "after those of five minutes: {order:?}");
    }

    /// A second apart from a start of its own, of priority `level`.
    fn queued(ready: &mut Ready, level: i8, seconds: impl Iterator<Item = u64>) {
        let later = later_by(1000, Priority::new(level).unwrap());
        for second in seconds {
            let id = QueueId::first_of(1_800_000_000_000 + second * 1000, 0);
            ready.push(Lane::new(1, 1, id, later), second as JobRef);
        }
    }

    #[test]
    fn the_more_urgent_goes_first_and_within_one_priority_the_oldest() {
        let mut ready = Ready::default();
        queued(&mut ready, -4, 0..3);
        queued(&mut ready, 0, 3..6);
        queued(&mut ready, 4, 6..9);
        assert_eq!(order(&mut ready), [6, 7, 8, 3, 4, 5, 0, 1, 2]);
    }

    #[test]
    fn what_is_not_urgent_waits_for_no_more_than_its_steps_of_a_quarter_of_an_hour() {
        let mut ready = Ready::default();
        // Urgent mail without end, and one message in its midst that is not: a step below, and nine.
        for (level, steps) in [(3, 1), (-5, 9)] {
            queued(&mut ready, level, std::iter::once(0));
            queued(&mut ready, 4, (1..4 * 3600).step_by(60));
            let order = order(&mut ready);
            let place = order.iter().position(|&job| job == 0).unwrap();
            assert_eq!(place, steps * 15, "after those of so many minutes");
        }
    }

    #[test]
    fn urgency_is_a_matter_of_one_sender_and_takes_nobody_elses_turn() {
        let mut ready = Ready::default();
        queued(&mut ready, 9, 10..13);
        let other = |number| {
            Lane::new(
                2,
                2,
                QueueId::from_u64(number),
                later_by(0, Priority::new(-9).unwrap()),
            )
        };
        for number in 1..3 {
            ready.push(other(number), number as JobRef);
        }
        assert_eq!(order(&mut ready), [10, 1, 11, 2, 12]);
    }
}
