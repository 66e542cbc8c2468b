//! All jobs, small: one slot each, and the order in which waiting ones become due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use relay_smtp::QueueId;

use crate::time::Micros;

pub(crate) type JobRef = u32;
pub(crate) type HopRef = u32;
pub(crate) type SenderRef = u32;

/// One job in 40 bytes; next hop and sender are numbers.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: QueueId,
    pub(crate) due: Micros,
    pub(crate) deadline: Micros,
    pub(crate) hop: HopRef,
    pub(crate) sender: SenderRef,
    pub(crate) place: Place,
    pub(crate) urge: Urge,
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

/// The jobs by (message, next hop), and the waiting ones by time.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    slots: Vec<Slot>,
    free: Vec<JobRef>,
    keys: BTreeMap<(QueueId, HopRef), JobRef>,
    waiting: BTreeSet<(Micros, JobRef)>,
    /// Those that are due and not in flight, by the time from which on they are. A job is in one of both at most.
    due: BTreeSet<(Micros, JobRef)>,
    senders: Senders,
    messages: u64,
}

impl Jobs {
    /// Messages with at least one job.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn slot(&self, job: JobRef) -> &Slot {
        &self.slots[job as usize]
    }

    pub(crate) fn slot_mut(&mut self, job: JobRef) -> &mut Slot {
        &mut self.slots[job as usize]
    }

    pub(crate) fn find(&self, id: QueueId, hop: HopRef) -> Option<JobRef> {
        self.keys.get(&(id, hop)).copied()
    }

    /// The jobs of a message.
    pub(crate) fn of(&self, id: QueueId) -> impl Iterator<Item = JobRef> + '_ {
        self.keys
            .range((id, 0)..=(id, HopRef::MAX))
            .map(|(_, &job)| job)
    }

    /// All jobs, by message.
    pub(crate) fn all(&self) -> impl Iterator<Item = JobRef> + '_ {
        self.keys.values().copied()
    }

    /// A new job, waiting. The caller has seen that there is none for the same message and hop.
    pub(crate) fn insert(
        &mut self,
        id: QueueId,
        hop: HopRef,
        due: Micros,
        deadline: Micros,
        sender: &Arc<str>,
    ) -> JobRef {
        if self.of(id).next().is_none() {
            self.messages += 1;
        }
        let slot = Slot {
            id,
            due,
            deadline,
            hop,
            sender: self.senders.intern(sender),
            place: Place::Waiting,
            urge: Urge::Normal,
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
        self.keys.insert((id, hop), job);
        self.waiting.insert((due, job));
        job
    }

    /// Forgets a job. The caller has taken it out of its site's lists.
    pub(crate) fn remove(&mut self, job: JobRef) {
        self.stop_waiting(job);
        self.put(job, Place::Free);
        let slot = &self.slots[job as usize];
        let (id, hop, sender) = (slot.id, slot.hop, slot.sender);
        self.senders.release(sender);
        self.keys.remove(&(id, hop));
        self.free.push(job);
        if self.of(id).next().is_none() {
            self.messages -= 1;
        }
    }

    /// The job is there now, and not waiting any more; for that see [`Jobs::wait`].
    pub(crate) fn put(&mut self, job: JobRef, place: Place) {
        let slot = &mut self.slots[job as usize];
        slot.place = place;
        match place {
            Place::Unresolved | Place::Ready => self.due.insert((slot.due, job)),
            Place::Free | Place::Waiting | Place::InFlight => self.due.remove(&(slot.due, job)),
        };
    }

    /// The job waits until `due`.
    pub(crate) fn wait(&mut self, job: JobRef, due: Micros) {
        self.stop_waiting(job);
        self.put(job, Place::Waiting);
        let slot = &mut self.slots[job as usize];
        slot.due = due;
        slot.urge = Urge::Normal;
        self.waiting.insert((due, job));
    }

    /// Takes a waiting job off the clock; its place is the caller's to set.
    pub(crate) fn stop_waiting(&mut self, job: JobRef) {
        let due = self.slots[job as usize].due;
        self.waiting.remove(&(due, job));
    }

    /// A waiting job that was taken off the clock is due now and not only later.
    pub(crate) fn due_now(&mut self, job: JobRef, now: Micros) {
        let slot = &mut self.slots[job as usize];
        slot.due = slot.due.min(now);
    }

    /// Since when the job is due that has been so for the longest time and is not in flight.
    pub(crate) fn oldest_due(&self) -> Option<Micros> {
        self.due.first().map(|&(due, _)| due)
    }

    /// The earliest due time of a waiting job.
    pub(crate) fn next_due(&self) -> Option<Micros> {
        self.waiting.first().map(|&(due, _)| due)
    }

    /// The next waiting job that is due, off the clock.
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<JobRef> {
        self.waiting
            .first()
            .is_some_and(|&(due, _)| due <= now)
            .then(|| self.waiting.pop_first())
            .flatten()
            .map(|(_, job)| job)
    }
}

/// Senders as numbers, kept while a job has them.
#[derive(Debug, Default)]
struct Senders {
    numbers: HashMap<Arc<str>, SenderRef>,
    names: Vec<(Arc<str>, u32)>,
    free: Vec<SenderRef>,
}

impl Senders {
    fn intern(&mut self, name: &Arc<str>) -> SenderRef {
        if let Some(&number) = self.numbers.get(name) {
            self.names[number as usize].1 += 1;
            return number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.names[number as usize] = (Arc::clone(name), 1);
                number
            }
            None => {
                self.names.push((Arc::clone(name), 1));
                SenderRef::try_from(self.names.len() - 1).expect("memory ends before 2^32 senders")
            }
        };
        self.numbers.insert(Arc::clone(name), number);
        number
    }

    fn release(&mut self, number: SenderRef) {
        let (name, uses) = &mut self.names[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(name);
            *name = Arc::from("");
            self.free.push(number);
        }
    }
}
