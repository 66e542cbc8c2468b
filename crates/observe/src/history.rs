//! The event history: what happened to each message, on disk, also after the message has gone.
//!
//! Lines of JSON in segments, bounded by age and bytes, written by a thread of its own. Nobody waits
//! for it: what it cannot take is counted and said. It is no part of the queue's promise, so nothing
//! is synced; after a power cut the last seconds may be missing.

mod entry;
mod filter;
mod reader;
mod segment;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use entry::Entry;
pub use filter::Filter;
pub use reader::{Limits, Place, Reader, Step};

use crate::clock::Clock;
use crate::event::Event;
use crate::metric::Metrics;

/// Events that wait for the writer. At some hundred bytes each this is a few MiB, and at full speed
/// about a second in which the disk may stand still.
const WAITING_MAX: usize = 8_192;
/// How long a reader waits for what is under way to be written.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Where the history is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub addresses: Addresses,
    /// Entries older than this go, a day's segment at a time.
    pub max_age: Duration,
    /// All files together; the oldest go first.
    pub bytes_max: u64,
}

/// How senders and recipients are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    Whole,
    /// `*@example.com`, also where a reply repeats the address.
    DomainsOnly,
}

/// The handle of the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    clock: Clock,
    addresses: Addresses,
    to_writer: SyncSender<Word>,
    lost: Arc<AtomicU64>,
    written: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer is told.
enum Word {
    Entry(Box<Entry>),
    /// Answered when all before it is written.
    CaughtUp(oneshot::Sender<()>),
    Close,
}

impl History {
    /// Opens the directory, made where it is missing, and starts the writer. A torn last line, as a
    /// kill leaves it, is cut off.
    pub(crate) fn start(
        options: Options,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<History> {
        let (to_writer, words) = sync_channel(WAITING_MAX);
        let (told, written) = watch::channel(0);
        let lost = Arc::new(AtomicU64::new(0));
        let (dir, addresses) = (options.dir.clone(), options.addresses);
        let writer = writer::Writer::open(options, clock)?;
        let desk = writer::Desk {
            words,
            lost: Arc::clone(&lost),
            told,
            metrics,
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&desk))?;
        Ok(History {
            inner: Arc::new(Inner {
                dir,
                clock,
                addresses,
                to_writer,
                lost,
                written,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Writes an event down, if it is one that is kept. Never waits.
    pub(crate) fn tell(&self, event: Event) {
        let Some(mut entry) = Entry::of(event, self.inner.clock.now()) else {
            return;
        };
        if self.inner.addresses == Addresses::DomainsOnly {
            entry.leave_out_local_parts();
        }
        match self.inner.to_writer.try_send(Word::Entry(Box::new(entry))) {
            Ok(()) => {}
            // The writer says so when it comes to it; after the close nobody asks any more.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.inner.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub fn reader(&self) -> Reader {
        Reader::new(&self.inner.dir)
    }

    /// Resolves when what has been told until now can be read, or after a second.
    pub async fn caught_up(&self) {
        let (answer, heard) = oneshot::channel();
        let word = Word::CaughtUp(answer);
        if self.inner.to_writer.try_send(word).is_ok() {
            let _ = tokio::time::timeout(CATCH_UP_MAX, heard).await;
        }
    }

    /// Changes whenever something has been written.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.inner.written.clone()
    }

    /// Writes what is waiting and ends the writer. What is told afterwards is lost.
    pub fn close(&self) {
        let thread = {
            let mut thread = self.inner.thread.lock();
            thread
                .as_mut()
                .unwrap_or_else(|poisoned| poisoned.get_mut())
                .take()
        };
        if let Some(thread) = thread
            && self.inner.to_writer.send(Word::Close).is_ok()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    /// The last handle has gone without a close, as in a test that fails: the writer ends when it
    /// has written what waits.
    fn drop(&mut self) {
        let thread = self.thread.get_mut();
        let thread = thread.unwrap_or_else(PoisonError::into_inner);
        if thread.take().is_some() {
            let _ = self.to_writer.try_send(Word::Close);
        }
    }
}

#[cfg(test)]
mod tests;
