//! The seam: what the rest of relayd may ask of the queue. Two implementations: [`crate::disk`] and
//! [`crate::memory`] (simulation). A shared store for several nodes comes behind this trait later.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::{Host, QueueId};

use crate::admit::Admission;
use crate::body::{Body, Staging};
use crate::fair::Sender;
use crate::imports::Imports;
use crate::message::{Message, NewMessage, Settlement, State, Way};
use crate::select::Select;
use crate::verify::{Progress, Report};

/// Boxed, so that the store can stand behind `Arc<dyn Store>`; the cost is nothing beside a sync.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The durable truth. Every method that changes something resolves only once the change is on disk.
pub trait Store: Send + Sync + 'static {
    /// An id for the next message: sorts by time, is never given twice, over restarts too.
    fn next_id(&self) -> QueueId;

    /// Takes a message over. `Ok` means: survives a power cut. Times are kept to the millisecond.
    fn accept(&self, message: NewMessage) -> Later<'_, Result<Arc<Message>, StoreError>>;

    /// A place for the body of a message that will come under this id, written before it is accepted and
    /// piece by piece: for large ones ([`crate::BIG_BYTES`]).
    fn stage(&self, id: QueueId) -> Later<'_, Result<Box<dyn Staging>, StoreError>>;

    /// Whether a session may begin. Cheap.
    fn may_connect(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether a message of this sender would be accepted now, so that it can be told before it sends, and
    /// space for so many bytes, if it says how many; 0 if not. Cheap.
    fn admit(&self, sender: &Sender, bytes: u64) -> Result<Admission, StoreError> {
        let _ = (sender, bytes);
        Ok(Admission::default())
    }

    /// Whether a message more may wait for this domain. Cheap.
    fn admit_to(&self, domain: &Host) -> Result<(), StoreError> {
        let _ = domain;
        Ok(())
    }

    /// Changes recipients' states; a message whose recipients are all final leaves the queue.
    /// Returns the message as it now is, and the accepted DSNs. Unknown ids: `StoreError::Unknown`.
    fn settle(&self, settlement: Settlement) -> Later<'_, Result<Settled, StoreError>>;

    /// Sends recipients another way from now on, until they are finished or sent another way again.
    /// Returns the message as it now is. When they are due is not changed by that.
    fn reroute(&self, id: QueueId, ways: Vec<Way>) -> Later<'_, Result<Arc<Message>, StoreError>>;

    /// Takes a message over from another queue, as it stood there: unfinished, under an id of this
    /// queue. `Ok` means the same as with [`Store::accept`].
    fn import(&self, message: Message, body: Body) -> Later<'_, Result<Arc<Message>, StoreError>>;

    /// Which messages of other queues have been taken over.
    fn imports(&self) -> Arc<Imports>;

    /// Reads everything that is stored and says whether it is well, beside all other work.
    fn verify(&self, progress: Arc<Progress>) -> Later<'_, Result<Report, StoreError>>;

    /// One message, also a finished one while it is remembered ([`Store::recent`]).
    fn message(&self, id: QueueId) -> Later<'_, Result<Option<Arc<Message>>, StoreError>>;

    /// Its body. None: not in the queue (any more). What was got can be read to its end, whatever
    /// becomes of the message meanwhile.
    fn body(&self, id: QueueId) -> Later<'_, Result<Option<Body>, StoreError>>;

    /// Unfinished messages in id order after `after`, at most `limit` that match; for lists and for loading
    /// the scheduler at start.
    fn list(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Later<'_, Result<Page, StoreError>>;

    /// Shows the open recipients of some unfinished messages after `after`, in id order, from memory.
    /// Tells where to go on; None: that was all. Fast, but `look` keeps everything else waiting: it
    /// only counts.
    fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Result<Option<QueueId>, StoreError>;

    /// The latest finished messages, newest first. In memory only: for people who look just after.
    fn recent(&self, limit: usize) -> Vec<Arc<Message>>;

    /// Counts kept up to date; cheap.
    fn stats(&self) -> Stats;

    /// How it does; cheap, and answered also when the disk hangs.
    fn condition(&self) -> Condition {
        Condition::default()
    }

    /// Resolves with the reason when the queue has stopped by itself: nothing is written any more, and only
    /// a restart recovers.
    fn stopped(&self) -> Later<'_, String> {
        Box::pin(std::future::pending())
    }

    /// Everything accepted so far is on disk and the files are closed when this resolves.
    fn close(&self) -> Later<'_, ()>;
}

/// What a settlement led to.
#[derive(Clone, Debug)]
pub struct Settled {
    pub message: Arc<Message>,
    pub dsns: Vec<Arc<Message>>,
}

/// Part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub messages: Vec<Arc<Message>>,
    /// Where to go on; None: that was all.
    pub next: Option<QueueId>,
}

/// An open recipient, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting<'a> {
    /// The recipient's; an address literal as it is written.
    pub domain: &'a str,
    pub state: State,
    /// To the second.
    pub arrived: Timestamp,
    /// Of the last decision; None: there was none yet.
    pub rule: Option<&'a str>,
    pub category: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub messages: u64,
    /// Recipients by state; `queued`: not tried yet.
    pub queued: u64,
    pub deferred: u64,
    pub held: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// When the message with the lowest id arrived, to the second.
    pub oldest: Option<Timestamp>,
    /// Since start.
    pub commits: u64,
    pub records: u64,
}

/// How the queue does, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Why it does not do its work: it has stopped, or the disk does not answer.
    pub trouble: Option<String>,
    /// Why new mail is refused now; that ends by itself.
    pub refusing: Option<String>,
    /// None: the disk did not say.
    pub space: Option<SpaceNow>,
    pub files: FilesNow,
    /// Changes that wait for the disk.
    pub waiting: u64,
    /// Changes that the index does not have yet.
    pub index_behind: u64,
}

/// The disk's free space, and what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceNow {
    pub free_bytes: u64,
    /// What new mail may not take.
    pub reserve_bytes: u64,
    /// What sessions hold.
    pub spoken_for_bytes: u64,
}

/// The queue's files, as they were a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesNow {
    pub journal_bytes: u64,
    pub journal_segments: u64,
    pub index_bytes: u64,
    pub quarantined: u64,
}

/// Who is at fault stands in the variant.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk did not take it. Answer 451 4.3.0; the message is not ours.
    #[error("the queue could not write: {0}")]
    Disk(String),
    /// The disk or the queue's limit is full. Answer 452 4.3.1.
    #[error("the queue is full: {0}")]
    Full(String),
    /// Too many wait for the disk. Answer 451 4.3.2.
    #[error("the queue is busy")]
    Busy,
    /// A write failed earlier: nothing is accepted until relayd has been restarted and has recovered.
    #[error("the queue has stopped: {0}")]
    Stopped(String),
    #[error("no message {0} in the queue")]
    Unknown(QueueId),
    /// Our own fault: an id was used twice.
    #[error("the queue has a message {0} already; ids come from next_id")]
    Taken(QueueId),
}
