//! The commit thread: takes what waits, appends it to the journal with one sync, then answers. It is
//! the only one that changes the queue's state, so every change sees all before it.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use relay_observe::crash::{self, CrashPoint};
use relay_observe::histogram::Histogram;
use relay_smtp::QueueId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::big::BigFile;
use crate::body::Body;
use crate::follow::Job;
use crate::journal::{AppendError, Journal};
use crate::ledger::{Ahead, Ledger, Lookup};
use crate::message::{Message, RecipientChange, Way};
use crate::record::{Encoded, Kind, Place};
use crate::room::{self, Thrown};
use crate::settle::{changed, rerouted};
use crate::shared::{Pin, Shared};
use crate::store::{Settled, StoreError};

/// A commit takes at most this many records, so that nobody waits long for the sync of others.
const RECORDS_MAX: usize = 512;
/// And at most this many bytes, if it is more than one record.
const BYTES_MAX: usize = 8 << 20;

/// One change on its way to disk.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) work: Work,
    pub(crate) encoded: Encoded,
    pub(crate) reply: oneshot::Sender<Result<Settled, StoreError>>,
    /// Its place among the waiting.
    pub(crate) _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(crate) enum Work {
    Accept(Fresh),
    /// A message from another queue, with the states of its recipients.
    Import(Fresh),
    Reroute {
        pin: Pin,
        ways: Vec<Way>,
    },
    Settle {
        pin: Pin,
        changes: Vec<RecipientChange>,
        dsns: Vec<Fresh>,
    },
    /// Copies a message forward as it stands, if it still stands so.
    Carry {
        pin: Pin,
        message: Arc<Message>,
    },
}

/// A message that is not in the queue yet.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) message: Arc<Message>,
    pub(crate) body: Body,
}

/// Where operations wait for the commit thread. Bounded by the permits that they carry.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Settlements: they go first, so that a flood of new mail does not lengthen the window in which
    /// a crash leads to a second delivery.
    settle: VecDeque<Operation>,
    accept: VecDeque<Operation>,
    door: Door,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    /// What waits is still written.
    Closing,
    /// What waits is dropped.
    Abandoned,
}

impl Inbox {
    pub(crate) fn push(&self, operation: Operation) -> Result<(), StoreError> {
        let mut waiting = self.waiting();
        if waiting.door != Door::Open {
            return Err(StoreError::Stopped("it was closed".to_owned()));
        }
        match operation.work {
            Work::Accept(_) | Work::Import(_) | Work::Carry { .. } => {
                waiting.accept.push_back(operation);
            }
            Work::Settle { .. } | Work::Reroute { .. } => waiting.settle.push_back(operation),
        }
        self.ready.notify_one();
        Ok(())
    }

    /// No more operations come in; the thread ends when it has written those that wait.
    pub(crate) fn close(&self) {
        self.shut(Door::Closing);
    }

    /// The thread ends after the write it is in.
    pub(crate) fn abandon(&self) {
        let dropped = {
            let mut waiting = self.waiting();
            waiting.door = Door::Abandoned;
            (
                std::mem::take(&mut waiting.settle),
                std::mem::take(&mut waiting.accept),
            )
        };
        drop(dropped);
        self.ready.notify_all();
    }

    fn shut(&self, door: Door) {
        let mut waiting = self.waiting();
        if waiting.door == Door::Open {
            waiting.door = door;
        }
        self.ready.notify_all();
    }

    /// What waits, up to the limits of one commit; None: it is over.
    fn take(&self) -> Option<Vec<Operation>> {
        let mut waiting = self
            .ready
            .wait_while(self.waiting(), |waiting| {
                waiting.door == Door::Open && waiting.is_empty()
            })
            .unwrap_or_else(|e| e.into_inner());
        if waiting.is_empty() {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < RECORDS_MAX
            && let Some(next) = waiting.next()
        {
            bytes += next.encoded.len();
            if bytes > BYTES_MAX && !taken.is_empty() {
                break;
            }
            taken.extend(waiting.pop());
        }
        Some(taken)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.accept.is_empty()
    }
    fn next(&self) -> Option<&Operation> {
        self.settle.front().or_else(|| self.accept.front())
    }
    fn pop(&mut self) -> Option<Operation> {
        self.settle.pop_front().or_else(|| self.accept.pop_front())
    }
}

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) journal: Journal,
    pub(crate) index: Sender<Job>,
}

/// An operation that may be written, and what the queue becomes by it.
struct Step {
    operation: Operation,
    kind: Kind,
    after: Arc<Message>,
}

/// What becomes of an operation before it is written.
enum Judged {
    Write(Kind, Arc<Message>),
    Answer(Result<Settled, StoreError>),
}

impl Committer {
    pub(crate) fn run(mut self) {
        while let Some(operations) = self.inbox.take() {
            self.commit(operations);
            self.shared.wait_for_index();
        }
    }

    fn commit(&mut self, operations: Vec<Operation>) {
        let (steps, highest) = self.judge(operations);
        self.write(steps, highest);
    }

    fn write(&mut self, steps: Vec<Step>, highest: Option<QueueId>) {
        if steps.is_empty() {
            return;
        }
        let records: Vec<_> = steps
            .iter()
            .map(|step| (step.kind, &step.operation.encoded))
            .collect();
        let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
        let began = Instant::now();
        self.shared.signs().writing_since = Some(began);
        let appended = self.journal.append(&records, highest);
        self.shared.signs().writing_since = None;
        match appended {
            Ok(appended) => {
                keep_files(&steps);
                self.count(steps.len(), bytes, began.elapsed());
                if steps.iter().any(|step| step.operation.work.has_dsns()) {
                    crash::at(CrashPoint::DsnCommitted);
                }
                self.install(&steps, &appended.places, appended.end);
                for step in steps {
                    step.answer();
                }
            }
            Err(AppendError::Full(error)) => self.disk_full(steps, highest, &error),
            Err(AppendError::Failed(error)) => {
                // The records may be on disk: a start that finds them finds their bodies, too.
                keep_files(&steps);
                let reason = format!("the journal could not be written: {error}");
                self.shared.stop(reason.clone());
                let error = StoreError::Stopped(reason);
                refuse(steps.into_iter().map(|s| s.operation), &error);
            }
        }
    }

    fn count(&self, records: usize, bytes: usize, took: Duration) {
        let metrics = self.shared.events.metrics();
        metrics.observe(Histogram::CommitSeconds, took.as_secs_f64());
        metrics.observe(Histogram::CommitRecords, records as f64);
        metrics.observe(Histogram::CommitBytes, bytes as f64);
    }

    /// New mail is refused. For the rest, above all for what has been delivered, the ballast goes.
    fn disk_full(&mut self, steps: Vec<Step>, highest: Option<QueueId>, error: &io::Error) {
        let full = StoreError::Full(error.to_string());
        // Until the next look at the disk.
        self.shared.room().full = Some(error.to_string());
        let is_new = |step: &Step| matches!(step.operation.work, Work::Accept(_) | Work::Import(_));
        let (new, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_new);
        let thrown = room::throw_ballast(&self.shared);
        refuse(new.into_iter().map(|s| s.operation), &full);
        match thrown {
            Thrown::Now => self.write(others, highest),
            Thrown::Before => refuse(others.into_iter().map(|s| s.operation), &full),
        }
    }

    /// Answers what need not or cannot be written.
    fn judge(&self, operations: Vec<Operation>) -> (Vec<Step>, Option<QueueId>) {
        let mut steps = Vec::with_capacity(operations.len());
        let mut refused = Vec::new();
        let mut ahead = Ahead::new();
        let highest = {
            let ledger = self.shared.ledger();
            for operation in operations {
                match judge(&ledger, &mut ahead, &operation.work) {
                    Judged::Write(kind, after) => steps.push(Step {
                        operation,
                        kind,
                        after,
                    }),
                    Judged::Answer(answer) => refused.push((operation, answer)),
                }
            }
            ledger.highest().max(ahead.keys().max().copied())
        };
        // Outside the lock: an operation's pin takes it when it is dropped.
        for (operation, answer) in refused {
            let _ = operation.reply.send(answer);
        }
        (steps, highest)
    }

    /// The records are durable: the state follows.
    fn install(&self, steps: &[Step], places: &[Vec<Place>], end: crate::index::Position) {
        let mut bodies = self.shared.bodies();
        let mut ledger = self.shared.ledger();
        for (step, places) in steps.iter().zip(places) {
            match &step.operation.work {
                Work::Accept(_) | Work::Import(_) => {}
                Work::Reroute { .. } => ledger.install_settled(step.after.clone()),
                Work::Carry { message, .. } => {
                    for place in places {
                        ledger.install_accepted(message.clone(), *place);
                    }
                }
                Work::Settle { .. } => {
                    // What waits is read back when it is due: the memory is for what goes out at once.
                    if step.after.none_is_new() {
                        bodies.remove(step.after.id);
                    }
                    ledger.install_settled(step.after.clone());
                }
            }
            for (fresh, place) in step.operation.work.fresh().iter().zip(places) {
                if let Some(bytes) = fresh.body.in_memory() {
                    bodies.put(fresh.message.id, bytes.clone());
                }
                ledger.install_accepted(fresh.message.clone(), *place);
            }
        }
        let before = ledger.unapplied;
        ledger.advance(end, steps.len() as u64);
        ledger.count_commit();
        let due = self.shared.options.index_records;
        if before < due && ledger.unapplied >= due {
            // Nobody listens any more: the queue is closing.
            let _ = self.index.send(Job::Apply);
        }
    }
}

impl Work {
    fn fresh(&self) -> &[Fresh] {
        match self {
            Work::Accept(fresh) | Work::Import(fresh) => std::slice::from_ref(fresh),
            Work::Settle { dsns, .. } => dsns,
            Work::Carry { .. } | Work::Reroute { .. } => &[],
        }
    }

    fn has_dsns(&self) -> bool {
        matches!(self, Work::Settle { dsns, .. } if !dsns.is_empty())
    }
}

impl Step {
    fn answer(self) {
        let dsns = match &self.operation.work {
            Work::Accept(_) | Work::Import(_) | Work::Carry { .. } | Work::Reroute { .. } => {
                Vec::new()
            }
            Work::Settle { dsns, .. } => dsns.iter().map(|d| d.message.clone()).collect(),
        };
        // Whoever asked may have gone; what was written stays.
        let _ = self.operation.reply.send(Ok(Settled {
            message: self.after,
            dsns,
        }));
    }
}

/// `ahead`: what earlier operations of the same write will have done.
fn judge(ledger: &Ledger, ahead: &mut Ahead, work: &Work) -> Judged {
    if let Err(stopped) = ledger.may_write() {
        return Judged::Answer(Err(stopped));
    }
    match work {
        Work::Accept(fresh) => match claim(ledger, ahead, std::slice::from_ref(fresh)) {
            Ok(()) => Judged::Write(Kind::Accepted, fresh.message.clone()),
            Err(taken) => Judged::Answer(Err(taken)),
        },
        Work::Import(fresh) => match claim(ledger, ahead, std::slice::from_ref(fresh)) {
            Ok(()) => Judged::Write(Kind::Carried, fresh.message.clone()),
            Err(taken) => Judged::Answer(Err(taken)),
        },
        Work::Reroute { pin, ways } => {
            let Some(before) = current(ledger, ahead, pin.id()) else {
                return Judged::Answer(Err(StoreError::Unknown(pin.id())));
            };
            match rerouted(&before, ways) {
                Ok(Some(after)) => {
                    let after = Arc::new(after);
                    ahead.insert(pin.id(), Some(after.clone()));
                    Judged::Write(Kind::Rerouted, after)
                }
                Ok(None) => Judged::Answer(Ok(Settled {
                    message: before,
                    dsns: Vec::new(),
                })),
                Err(error) => Judged::Answer(Err(error)),
            }
        }
        Work::Settle { pin, changes, dsns } => {
            let Some(before) = current(ledger, ahead, pin.id()) else {
                return Judged::Answer(Err(StoreError::Unknown(pin.id())));
            };
            let after = match changed(&before, changes) {
                Ok(Some(after)) => Arc::new(after),
                Ok(None) => {
                    let dsns = Vec::new();
                    return Judged::Answer(Ok(Settled {
                        message: before,
                        dsns,
                    }));
                }
                Err(error) => return Judged::Answer(Err(error)),
            };
            if let Err(taken) = claim(ledger, ahead, dsns) {
                return Judged::Answer(Err(taken));
            }
            let finished = after.finished();
            ahead.insert(pin.id(), (!finished).then(|| after.clone()));
            let kind = match (finished, dsns.is_empty()) {
                (false, true) => Kind::Progress,
                (true, true) => Kind::Finished,
                (false, false) => Kind::ProgressWithDsns,
                (true, false) => Kind::FinishedWithDsns,
            };
            Judged::Write(kind, after)
        }
        Work::Carry { pin, message } => match current(ledger, ahead, pin.id()) {
            // A copy of an older state, behind the newer one, would take the newer one back.
            Some(now) if now == *message => Judged::Write(Kind::Carried, now),
            Some(_) | None => Judged::Answer(Err(StoreError::Unknown(pin.id()))),
        },
    }
}

/// A message that is in use, as it stands after all that comes before in this write.
fn current(ledger: &Ledger, ahead: &Ahead, id: QueueId) -> Option<Arc<Message>> {
    match (ahead.get(&id), ledger.lookup(id)) {
        (Some(now), _) => now.clone(),
        (None, Lookup::Here(message, _)) => Some(message),
        (None, Lookup::InIndex | Lookup::Unknown) => None,
    }
}

/// Takes the ids of new messages, all or none.
fn claim(ledger: &Ledger, ahead: &mut Ahead, fresh: &[Fresh]) -> Result<(), StoreError> {
    for (place, one) in fresh.iter().enumerate() {
        let id = one.message.id;
        let earlier = fresh.iter().take(place);
        let taken = match ahead.get(&id) {
            Some(message) => message.is_some(),
            None => ledger.is_live(id),
        };
        if taken || earlier.into_iter().any(|e| e.message.id == id) {
            return Err(StoreError::Taken(id));
        }
    }
    for one in fresh {
        ahead.insert(one.message.id, Some(one.message.clone()));
    }
    Ok(())
}

/// From now on the journal says what becomes of large bodies.
fn keep_files(steps: &[Step]) {
    let fresh = steps.iter().flat_map(|step| step.operation.work.fresh());
    let files = fresh.filter_map(|fresh| fresh.body.file());
    files.for_each(BigFile::keep);
}

fn refuse(operations: impl Iterator<Item = Operation>, error: &StoreError) {
    for operation in operations {
        let _ = operation.reply.send(Err(error.clone()));
    }
}
