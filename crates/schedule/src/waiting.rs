//! Jobs by due time: a heap in which each job knows its place, so that one can be taken out of the
//! middle. Four bytes a job, where an ordered set took twenty-seven.

use crate::jobs::{JobRef, Slot};
use crate::time::Micros;

/// A job's place in the heap it is in; it is in one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u32);

impl Turn {
    pub(crate) const NONE: Turn = Turn(u32::MAX);
}

/// The due times are the slots': who changes one takes the job out before. Those of the same time
/// go in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    heap: Vec<JobRef>,
}

impl Waiting {
    /// The next job that becomes due.
    pub(crate) fn first(&self) -> Option<JobRef> {
        self.heap.first().copied()
    }

    /// The job is in no other heap.
    pub(crate) fn insert(&mut self, job: JobRef, slots: &mut [Slot]) {
        if self.place_of(job, slots).is_some() {
            return;
        }
        self.heap.push(job);
        self.rise(self.heap.len() - 1, slots);
    }

    /// Nothing happens to one that is not in here.
    pub(crate) fn remove(&mut self, job: JobRef, slots: &mut [Slot]) {
        let Some(place) = self.place_of(job, slots) else {
            return;
        };
        slots[job as usize].turn = Turn::NONE;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            // The last one, which has come here, may belong above or below.
            let place = self.rise(place, slots);
            self.sink(place, slots);
        }
    }

    fn place_of(&self, job: JobRef, slots: &[Slot]) -> Option<usize> {
        let place = slots[job as usize].turn.0 as usize;
        (self.heap.get(place) == Some(&job)).then_some(place)
    }

    /// Tells where it has come to.
    fn rise(&mut self, mut place: usize, slots: &mut [Slot]) -> usize {
        let job = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            let above = self.heap[parent];
            if key(slots, above) <= key(slots, job) {
                break;
            }
            self.put(above, place, slots);
            place = parent;
        }
        self.put(job, place, slots);
        place
    }

    fn sink(&mut self, mut place: usize, slots: &mut [Slot]) {
        let job = self.heap[place];
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.heap.len());
            let earliest = children.min_by_key(|&child| key(slots, self.heap[child]));
            let Some(child) = earliest else { break };
            let below = self.heap[child];
            if key(slots, job) <= key(slots, below) {
                break;
            }
            self.put(below, place, slots);
            place = child;
        }
        self.put(job, place, slots);
    }

    fn put(&mut self, job: JobRef, place: usize, slots: &mut [Slot]) {
        self.heap[place] = job;
        slots[job as usize].turn = Turn(u32::try_from(place).expect("as many as job numbers"));
    }
}

fn key(slots: &[Slot], job: JobRef) -> (Micros, JobRef) {
    (slots[job as usize].due, job)
}
