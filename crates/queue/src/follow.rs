//! The index thread: brings sled up to date behind the journal, answers what is only there, and has
//! segments reclaimed. All sled work is done here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use relay_observe::Event;
use relay_smtp::QueueId;
use tokio::sync::oneshot;

use crate::compact;
use crate::condition;
use crate::frozen::{self, Frozen, Next};
use crate::index::{Applied, Index, IndexError, Position, Row, panic_text};
use crate::ledger::Lookup;
use crate::message::Message;
use crate::reclaim::Reclaim;
use crate::record::Place;
use crate::room;
use crate::shared::{Pin, Pinned, Shared};
use crate::store::StoreError;

/// What the thread is asked for.
#[derive(Debug)]
pub(crate) enum Job {
    /// Bring the index up to date now.
    Apply,
    /// Take a message into memory. None: it has left the queue.
    Load {
        id: QueueId,
        reply: oneshot::Sender<Result<Option<Loaded>, StoreError>>,
    },
    /// These messages, as far as they are unfinished.
    Read {
        ids: Vec<QueueId>,
        reply: oneshot::Sender<Result<Vec<Arc<Message>>, StoreError>>,
    },
    /// Messages in id order, of the index at most `rows`.
    Scan {
        after: Option<QueueId>,
        rows: usize,
        reply: oneshot::Sender<Result<Scanned, StoreError>>,
    },
    /// What the index itself has, in id order, and how far it has come.
    Rows {
        after: Option<QueueId>,
        limit: usize,
        reply: oneshot::Sender<Result<(Vec<Row>, Position), StoreError>>,
    },
    /// Bring the index up to date, close it, end.
    Close,
    /// End without a last write.
    Abandon,
}

/// A message that stays in memory as long as this is kept.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) pin: Pin,
    pub(crate) message: Arc<Message>,
    pub(crate) place: Place,
}

/// All unfinished messages up to `upto`; None: to the end.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) messages: Vec<Arc<Message>>,
    pub(crate) upto: Option<QueueId>,
}

/// Messages that one scan reads from the index: lists go in such steps, so that nothing waits long.
const SCAN_ROWS: usize = 500;
/// After compaction has failed.
const COMPACT_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Between two steps of copying messages forward.
const RECLAIM_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Index,
    pub(crate) jobs: Receiver<Job>,
    /// How far the index on disk is.
    pub(crate) applied: Applied,
    pub(crate) reclaim: Reclaim,
    /// Not compacted before then.
    pub(crate) compact_from: Instant,
    /// The index cannot be used.
    pub(crate) frozen: Option<Frozen>,
}

impl Follower {
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.follow())) {
            let text = panic_text(&*panic);
            shared.stop(format!("the index thread panicked: {text}"));
        }
        // The commit thread may be waiting for us.
        shared.stop_quietly("it was closed");
    }

    fn follow(&mut self) {
        let every = self.shared.options.index_every;
        let mut due = Instant::now() + every;
        loop {
            let until_due = due.saturating_duration_since(Instant::now());
            let wait = match self.reclaim.emptying {
                Some(_) => until_due.min(RECLAIM_EVERY),
                None => until_due,
            };
            match self.jobs.recv_timeout(wait) {
                Ok(Job::Apply) => due = Instant::now(),
                Ok(Job::Load { id, reply }) => {
                    // Whoever asked may have gone; the pin goes with the answer.
                    let _ = reply.send(self.load(id));
                }
                Ok(Job::Read { ids, reply }) => {
                    let _ = reply.send(self.read(&ids));
                }
                Ok(Job::Scan { after, rows, reply }) => {
                    let _ = reply.send(self.scan(after, rows.min(SCAN_ROWS)));
                }
                Ok(Job::Rows {
                    after,
                    limit,
                    reply,
                }) => {
                    let rows = self.rows(after, limit);
                    let _ = reply.send(rows.map(|rows| (rows, self.applied.position)));
                }
                Ok(Job::Close) => {
                    self.catch_up();
                    self.reclaim.go_on(self.applied);
                    return;
                }
                Ok(Job::Abandon) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= due {
                self.look();
                condition::measure(&self.shared, &self.index);
                self.catch_up();
                self.reclaim.go_on(self.applied);
                self.compact();
                due = Instant::now() + every;
            }
            if self.frozen.is_none() {
                self.empty_some();
            }
        }
    }

    fn look(&mut self) {
        let full = self.frozen.as_ref().map(Frozen::words);
        room::look(&self.shared, full);
    }

    fn catch_up(&mut self) {
        if self.frozen.is_some() {
            return self.thaw();
        }
        let changes = self.shared.ledger().begin_apply();
        if changes.applied == self.applied {
            return;
        }
        match self.index.apply(&changes.updates, changes.applied) {
            Ok(parts) => {
                self.shared.ledger().end_apply(&changes, &parts);
                self.applied = changes.applied;
                self.reclaim.needed = changes.needed;
                for id in changes.big_finished {
                    // What cannot be removed now goes at the next start.
                    let _ = self.shared.big.remove(id);
                }
                self.shared.tell_caught_up();
            }
            Err(error) => {
                self.shared.ledger().undo_apply(&changes);
                self.freeze(error.to_string());
            }
        }
    }

    /// sled writes nothing any more after an error; all else goes on.
    fn freeze(&mut self, reason: String) {
        let frozen = Frozen::new(reason.clone());
        self.shared.room().full = Some(frozen.words());
        self.frozen = Some(frozen);
        self.shared.events.emit(Event::IndexFrozen { reason });
    }

    /// Tries to put a new index in the place of one that cannot be used.
    fn thaw(&mut self) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        match frozen.next(&self.shared) {
            Next::Wait => {}
            Next::Copy => match frozen::replace(frozen, &self.shared, &self.index, self.applied) {
                Ok(thawed) => {
                    let reason = format!("it could not be used: {}", frozen.why());
                    self.index = thawed.index;
                    self.applied = thawed.applied;
                    // Segments are given back next: those of before would be the wrong ones to keep.
                    self.reclaim.needed = thawed.needed;
                    self.frozen = None;
                    self.shared.events.emit(Event::IndexRebuilt { reason });
                    self.shared.tell_caught_up();
                    self.look();
                }
                Err(error) => frozen.failed(&error),
            },
            Next::GiveUp => {
                let reason = format!("the index could not be made anew: {}", frozen.why());
                self.shared.stop(reason);
            }
        }
    }

    /// Gives a file back that is far too large. After an error all stays as it is, for a while.
    fn compact(&mut self) {
        if self.frozen.is_some() || self.compact_from > Instant::now() {
            return;
        }
        let (shared, index) = (&self.shared, &self.index);
        let messages = shared.ledger().stats().messages;
        let made = match compact::worth_it(index, &shared.options, messages) {
            Ok(true) => compact::compact(&shared.layout, &shared.options, index),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        match made {
            Ok(index) => self.index = index,
            Err(_) => self.compact_from = Instant::now() + COMPACT_AGAIN_AFTER,
        }
    }

    /// Copies some messages forward. An error stops that only until the next time: the message stays
    /// where it is.
    fn empty_some(&mut self) {
        let (shared, index) = (&self.shared, &self.index);
        let _ = self.reclaim.step(|id| {
            let row = index.read(id).map_err(unreadable)?;
            taken_in(shared, row, id)
        });
    }

    /// For a verification, which holds the index itself against the journal.
    fn rows(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        match &self.frozen {
            Some(frozen) => Err(StoreError::Disk(frozen.words())),
            None => self.index.rows(after, limit).map_err(unreadable),
        }
    }

    fn load(&mut self, id: QueueId) -> Result<Option<Loaded>, StoreError> {
        let row = self.row(id)?;
        taken_in(&self.shared, row, id)
    }

    /// From the index, or from the journal while that is frozen.
    fn row(&mut self, id: QueueId) -> Result<Option<Row>, StoreError> {
        let read = match self.frozen {
            None => self.index.read(id),
            Some(_) => Ok(None),
        };
        match self.unless_frozen(read) {
            Some(row) => Ok(row),
            None => self.read_frozen(id),
        }
    }

    /// What the index answered. None: it is not asked any more. One that cannot be read is made anew, too:
    /// after a full disk sled may say it at a read first.
    fn unless_frozen<T>(&mut self, read: Result<T, IndexError>) -> Option<T> {
        if self.frozen.is_some() {
            return None;
        }
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                self.freeze(format!("it could not be read: {error}"));
                None
            }
        }
    }

    /// Without the index. None: it is in memory, or gone.
    fn read_frozen(&mut self, id: QueueId) -> Result<Option<Row>, StoreError> {
        let found = self.shared.ledger().lookup(id);
        match (found, &mut self.frozen) {
            (Lookup::InIndex, Some(frozen)) => {
                let upto = self.applied.position;
                let row = frozen.read(&self.shared, &self.index, upto, id);
                row.map_err(unreadable)
            }
            (Lookup::InIndex | Lookup::Here(..) | Lookup::Unknown, _) => Ok(None),
        }
    }

    fn read(&mut self, ids: &[QueueId]) -> Result<Vec<Arc<Message>>, StoreError> {
        let mut messages = Vec::with_capacity(ids.len());
        for &id in ids {
            // Before a guard is taken: the commit thread must not wait for the index.
            let row = self.row(id)?;
            match self.shared.ledger().lookup(id) {
                Lookup::Here(message, _) => messages.push(message),
                Lookup::InIndex => messages.extend(row.map(|row| row.message)),
                Lookup::Unknown => {}
            }
        }
        Ok(messages)
    }

    fn scan(&mut self, after: Option<QueueId>, limit: usize) -> Result<Scanned, StoreError> {
        let read = match self.frozen {
            None => self.index.rows(after, limit),
            Some(_) => Ok(Vec::new()),
        };
        match self.unless_frozen(read) {
            Some(rows) => Ok(self.scanned(rows, after, limit)),
            None => self.scan_frozen(after, limit),
        }
    }

    fn scan_frozen(&mut self, after: Option<QueueId>, limit: usize) -> Result<Scanned, StoreError> {
        let ids = self.shared.ledger().live_after(after, limit);
        let upto = match ids.len() < limit {
            true => None,
            false => ids.last().copied(),
        };
        let mut rows = Vec::new();
        for id in ids {
            rows.extend(self.read_frozen(id)?);
        }
        let messages = self.shared.ledger().merge(rows, after, upto);
        Ok(Scanned { messages, upto })
    }

    fn scanned(&self, rows: Vec<Row>, after: Option<QueueId>, limit: usize) -> Scanned {
        let upto = match rows.len() < limit {
            true => None,
            false => rows.last().map(|row| row.message.id),
        };
        let messages = self.shared.ledger().merge(rows, after, upto);
        Scanned { messages, upto }
    }
}

/// `row`: what the index has of it.
fn taken_in(
    shared: &Arc<Shared>,
    row: Option<Row>,
    id: QueueId,
) -> Result<Option<Loaded>, StoreError> {
    let mut ledger = shared.ledger();
    if let (Some(row), Lookup::InIndex) = (row, ledger.lookup(id)) {
        ledger.take_in(row);
    }
    match Pin::take(shared, &mut ledger, id) {
        Pinned::Here(pin, message, place) => Ok(Some(Loaded {
            pin,
            message,
            place,
        })),
        Pinned::InIndex => Err(StoreError::Disk(format!(
            "message {id} is missing from the index; a restart without it rebuilds it"
        ))),
        Pinned::Unknown => Ok(None),
    }
}

fn unreadable(error: IndexError) -> StoreError {
    StoreError::Disk(format!("the index could not be read: {error}"))
}
