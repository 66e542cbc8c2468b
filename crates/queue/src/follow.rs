//! The index thread: brings sled up to date behind the journal, answers what is only there, and
//! deletes segments that nobody needs. All sled work is done here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use relay_smtp::QueueId;
use tokio::sync::oneshot;

use crate::index::{Applied, Index, IndexError, panic_text};
use crate::message::Message;
use crate::record::Place;
use crate::segment;
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
    /// Messages in id order.
    Scan {
        after: Option<QueueId>,
        reply: oneshot::Sender<Result<Scanned, StoreError>>,
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

#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Index,
    pub(crate) jobs: Receiver<Job>,
    /// How far the index on disk is.
    pub(crate) applied: Applied,
    /// The oldest segment that may still exist.
    pub(crate) first_segment: u32,
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
            match self.jobs.recv_timeout(due - Instant::now().min(due)) {
                Ok(Job::Apply) => due = Instant::now(),
                Ok(Job::Load { id, reply }) => {
                    // Whoever asked may have gone; the pin goes with the answer.
                    let _ = reply.send(self.load(id));
                }
                Ok(Job::Scan { after, reply }) => {
                    let _ = reply.send(self.scan(after));
                }
                Ok(Job::Close) => {
                    self.catch_up();
                    return;
                }
                Ok(Job::Abandon) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= due {
                self.catch_up();
                due = Instant::now() + every;
            }
        }
    }

    fn catch_up(&mut self) {
        let changes = self.shared.ledger().begin_apply();
        if changes.applied == self.applied {
            return;
        }
        match self.index.apply(&changes.updates, changes.applied) {
            Ok(parts) => {
                self.shared.ledger().end_apply(&changes, &parts);
                self.applied = changes.applied;
                self.shared.tell_caught_up();
                self.delete_finished_segments();
            }
            Err(error) => self
                .shared
                .stop(format!("the index could not be written: {error}")),
        }
    }

    fn load(&self, id: QueueId) -> Result<Option<Loaded>, StoreError> {
        let row = self.index.read(id).map_err(unreadable)?;
        let mut ledger = self.shared.ledger();
        if let (Some(row), crate::ledger::Lookup::InIndex) = (row, ledger.lookup(id)) {
            ledger.take_in(row);
        }
        match Pin::take(&self.shared, &mut ledger, id) {
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

    fn scan(&self, after: Option<QueueId>) -> Result<Scanned, StoreError> {
        let rows = self.index.rows(after, SCAN_ROWS).map_err(unreadable)?;
        let upto = match rows.len() < SCAN_ROWS {
            true => None,
            false => rows.last().map(|row| row.message.id),
        };
        let messages = self.shared.ledger().merge(rows, after, upto);
        Ok(Scanned { messages, upto })
    }

    /// Oldest first and without gaps: a record that ends a message must outlive the record that began
    /// it, or a rebuild would bring the message back. Only what the index on disk has behind it goes.
    fn delete_finished_segments(&mut self) {
        let needed = self.shared.ledger().first_live_segment();
        let reached = self.applied.position.segment;
        let keep_from = needed.map_or(reached, |needed| needed.min(reached));
        while self.first_segment < keep_from {
            let path = segment::path(&self.shared.layout.journal(), self.first_segment);
            match std::fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Tried again the next time; it costs space only.
                Err(_) => return,
            }
            self.first_segment += 1;
        }
    }
}

fn unreadable(error: IndexError) -> StoreError {
    StoreError::Disk(format!("the index could not be read: {error}"))
}
