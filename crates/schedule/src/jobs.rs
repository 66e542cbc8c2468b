//! All jobs, small: one slot each, and the order in which waiting ones become due.

use std::sync::Arc;

use relay_smtp::QueueId;

use crate::order::Order;
use crate::ready::Lane;
use crate::senders::{Senders, StreamRef};
use crate::time::Micros;
use crate::waiting::{Turn, Waiting};

pub(crate) type JobRef = u32;
pub(crate) type HopRef = u32;

/// One job in 40 bytes; next hop and stream are numbers.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: QueueId,
    pub(crate) due: Micros,
    pub(crate) deadline: Micros,
    pub(crate) hop: HopRef,
    pub(crate) stream: StreamRef,
    pub(crate) turn: Turn,
    pub(crate) place: Place,
    pub(crate) urge: Urge,
    /// So many seconds later it counts as having come, for its size and priority.
    pub(crate) later: i16,
}

/// Where a job is. It is in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The slot has no job.
    Free,
    /// Until its due time.
    Waiting,
    /// Due; the site of its next hop is not known yet.
    Unresolved,
    /// Due; in its site's lists.
    Ready,
    /// With a session, or being expired.
    InFlight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urge {
    Normal,
    /// Due by an operator's word: suspensions do not hold it, and all its recipients are meant.
    Flushed,
    /// Was flushed, and its site still is not there: it waits with the others until the site is back,
    /// and all its recipients are meant then.
    WasFlushed,
}

/// Where a job comes from, and how late it counts as having come.
pub(crate) struct Origin<'a> {
    pub(crate) sender: &'a Arc<str>,
    pub(crate) stream: &'a Arc<str>,
    pub(crate) later: i16,
}

/// The jobs by (message, next hop), and the waiting ones by time.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    slots: Vec<Slot>,
    free: Vec<JobRef>,
    order: Order,
    waiting: Waiting,
    /// Those that are due and not in flight, by the time from which on they are. A job is in one of both at most.
    due: Waiting,
    senders: Senders,
    messages: u64,
}

impl Jobs {
    /// Messages with at least one job.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn slot(&self, job: JobRef) -> &Slot {
        &self.slots[job as usize]
    }

    pub(crate) fn slot_mut(&mut self, job: JobRef) -> &mut Slot {
        &mut self.slots[job as usize]
    }

    /// Where it stands in its site's lists.
    pub(crate) fn lane(&self, job: JobRef) -> Lane {
        let slot = self.slot(job);
        let sender = self.senders.sender(slot.stream);
        Lane::new(sender, slot.stream, slot.id, slot.later)
    }

    pub(crate) fn find(&self, id: QueueId, hop: HopRef) -> Option<JobRef> {
        self.order.find((id, hop), &self.slots)
    }

    /// The jobs of a message.
    pub(crate) fn of(&self, id: QueueId) -> impl Iterator<Item = JobRef> + '_ {
        let from = self.order.from((id, 0), &self.slots);
        from.take_while(move |&job| self.slot(job).id == id)
    }

    /// All jobs, by message.
    pub(crate) fn all(&self) -> impl Iterator<Item = JobRef> + '_ {
        self.order.all()
    }

    /// A new job, waiting. The caller has seen that there is none for the same message and hop.
    pub(crate) fn insert(
        &mut self,
        id: QueueId,
        hop: HopRef,
        due: Micros,
        deadline: Micros,
        origin: &Origin<'_>,
    ) -> JobRef {
        if self.of(id).next().is_none() {
            self.messages += 1;
        }
        let slot = Slot {
            id,
            due,
            deadline,
            hop,
            stream: self.senders.intern(origin.sender, origin.stream),
            turn: Turn::NONE,
            place: Place::Waiting,
            urge: Urge::Normal,
            later: origin.later,
        };
        let job = match self.free.pop() {
            Some(job) => {
                self.slots[job as usize] = slot;
                job
            }
            None => {
                self.slots.push(slot);
                JobRef::try_from(self.slots.len() - 1).expect("memory ends before 2^32 jobs")
            }
        };
        self.order.insert(job, &self.slots);
        self.waiting.insert(job, &mut self.slots);
        job
    }

    /// Forgets a job. The caller has taken it out of its site's lists.
    pub(crate) fn remove(&mut self, job: JobRef) {
        self.stop_waiting(job);
        self.put(job, Place::Free);
        self.order.remove(job, &self.slots);
        let slot = &self.slots[job as usize];
        let (id, stream) = (slot.id, slot.stream);
        self.senders.release(stream);
        self.free.push(job);
        if self.of(id).next().is_none() {
            self.messages -= 1;
        }
    }

    /// The job is there now, and not waiting any more; for that see [`Jobs::wait`].
    pub(crate) fn put(&mut self, job: JobRef, place: Place) {
        self.slots[job as usize].place = place;
        match place {
            Place::Unresolved | Place::Ready => self.due.insert(job, &mut self.slots),
            Place::Free | Place::Waiting | Place::InFlight => {
                self.due.remove(job, &mut self.slots);
            }
        }
    }

    /// The job waits until `due`.
    pub(crate) fn wait(&mut self, job: JobRef, due: Micros) {
        self.stop_waiting(job);
        self.put(job, Place::Waiting);
        let slot = &mut self.slots[job as usize];
        slot.due = due;
        slot.urge = Urge::Normal;
        self.waiting.insert(job, &mut self.slots);
    }

    /// Takes a waiting job off the clock; its place is the caller's to set.
    pub(crate) fn stop_waiting(&mut self, job: JobRef) {
        self.waiting.remove(job, &mut self.slots);
    }

    /// A waiting job that was taken off the clock is due now and not only later.
    pub(crate) fn due_now(&mut self, job: JobRef, now: Micros) {
        let slot = &mut self.slots[job as usize];
        slot.due = slot.due.min(now);
    }

    /// Since when the job is due that has been so for the longest time and is not in flight.
    pub(crate) fn oldest_due(&self) -> Option<Micros> {
        self.due.first().map(|job| self.slot(job).due)
    }

    /// The earliest due time of a waiting job.
    pub(crate) fn next_due(&self) -> Option<Micros> {
        self.waiting.first().map(|job| self.slot(job).due)
    }

    /// The next waiting job that is due, off the clock.
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<JobRef> {
        let job = self.waiting.first()?;
        if self.slot(job).due > now {
            return None;
        }
        self.stop_waiting(job);
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The jobs as plain maps.
    #[derive(Default)]
    struct Model {
        keys: BTreeMap<(QueueId, HopRef), JobRef>,
        waiting: BTreeSet<(Micros, JobRef)>,
    }

    impl Model {
        fn holds(&self, jobs: &Jobs, id: QueueId) {
            assert_eq!(jobs.len(), self.keys.len());
            let first = self.waiting.first().map(|&(due, _)| due);
            assert_eq!(jobs.next_due(), first);
            let of = self.keys.range((id, 0)..=(id, HopRef::MAX));
            assert!(jobs.of(id).eq(of.map(|(_, &job)| job)));
        }
    }

    #[test]
    fn jobs_are_found_and_become_due_in_order_whatever_was_taken_out_before() {
        let rng = &mut StdRng::seed_from_u64(7);
        let (mut jobs, mut model) = (Jobs::default(), Model::default());
        let sender: Arc<str> = Arc::from("a@x.test");
        let (sender, stream, later) = (&sender, &sender, 0);
        let origin = Origin {
            sender,
            stream,
            later,
        };
        for step in 0..60_000_u64 {
            let grows = step < 30_000;
            // Mostly behind all others, sometimes in their midst.
            let number = if rng.random_bool(0.7) {
                step
            } else {
                rng.random_range(0..=step)
            };
            let (id, hop) = (QueueId::from_u64(number), rng.random_range(0..3));
            let due = rng.random_range(0..500);
            match (rng.random_range(0..10), model.keys.get(&(id, hop)).copied()) {
                (0..5, None) if grows => {
                    let job = jobs.insert(id, hop, due, due, &origin);
                    model.keys.insert((id, hop), job);
                    model.waiting.insert((due, job));
                }
                (0..2, Some(job)) => {
                    model.waiting.remove(&(jobs.slot(job).due, job));
                    jobs.wait(job, due);
                    model.waiting.insert((due, job));
                }
                (5..=8, _) => {
                    let near = model.keys.range((id, hop)..).next();
                    if let Some((&key, &job)) = near {
                        model.keys.remove(&key);
                        model.waiting.remove(&(jobs.slot(job).due, job));
                        jobs.remove(job);
                    }
                }
                (9, _) => {
                    let popped = jobs.pop_due(due);
                    let first = model.waiting.first().filter(|&&(at, _)| at <= due).copied();
                    assert_eq!(popped, first.map(|(_, job)| job));
                    model
                        .waiting
                        .extract_if(.., |&one| Some(one) == first)
                        .for_each(drop);
                }
                _ => {}
            }
            model.holds(&jobs, id);
        }
        assert!(jobs.all().eq(model.keys.values().copied()));
        assert!(
            model.keys.len() > 300,
            "{} left to compare",
            model.keys.len()
        );
    }
}
