//! The index: sled, holding the latest state of every unfinished message and how far in the journal
//! it has come. It can be rebuilt from the journal at any time. Only [`crate::follow`]'s thread and
//! recovery call it.
//!
//! One tree, since a batch is atomic within one tree only. Keys: `c` the journal position applied so
//! far and the highest id; `m` + id + part the message with the place of its body, split over as many
//! parts as it needs, because sled turns values above about 7 KiB into files that it never syncs.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use relay_smtp::QueueId;

use crate::brief::Brief;
use crate::device::Device;
use crate::message::{Detours, Message};
use crate::record::{Place, from_postcard, from_postcard_and_more, to_postcard};
use crate::sync_hook;

/// Largest value, in bytes. Far under the 4 KiB that the design allows.
const PART_BYTES: usize = 3500;
const APPLIED_KEY: &[u8] = b"c";
const MESSAGE_KEY: u8 = b'm';
/// Messages that the thread which reads ahead hands over at a time.
const ROWS_AT_ONCE: usize = 500;

/// A place in the journal: between two records.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// How far the index has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Applied {
    pub(crate) position: Position,
    /// The highest id given up to there.
    pub(crate) highest: Option<QueueId>,
}

/// A message as the index has it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) message: Arc<Message>,
    pub(crate) place: Place,
    /// Values it is spread over, at least 1.
    pub(crate) parts: u16,
}

impl Row {
    /// As the index would have it.
    pub(crate) fn new(message: Arc<Message>, place: Place) -> Row {
        let parts = parts(to_bytes(&message, place).len());
        Row {
            message,
            place,
            parts,
        }
    }
}

/// What the index is told to become. `old_parts`: what it has of the message now, 0 for nothing.
#[derive(Debug)]
pub(crate) enum Update {
    Put {
        message: Arc<Message>,
        place: Place,
        old_parts: u16,
    },
    Remove {
        id: QueueId,
        old_parts: u16,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("{path}: {error}")]
    Files { path: PathBuf, error: io::Error },
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked while opening: {0}")]
    Panic(String),
    #[error("{0}")]
    Damaged(String),
    #[error(
        "sled does not sync through our fdatasync: this relayd was linked wrongly and could lose mail"
    )]
    NotHooked,
}

impl IndexError {
    /// There was no space: what failed may go well when there is.
    pub(crate) fn is_full(&self) -> bool {
        let error = match self {
            IndexError::Files { error, .. } | IndexError::Sled(sled::Error::Io(error)) => error,
            IndexError::Sled(_)
            | IndexError::Panic(_)
            | IndexError::Damaged(_)
            | IndexError::NotHooked => return false,
        };
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

#[derive(Debug)]
pub(crate) struct Index {
    db: sled::Db,
    directory: PathBuf,
}

impl Index {
    /// Opens or makes the index in `directory`. `cache_bytes`: memory that sled may use for pages.
    pub(crate) fn open(
        device: &dyn Device,
        directory: &Path,
        cache_bytes: u64,
    ) -> Result<Index, IndexError> {
        let files = |error| IndexError::Files {
            path: directory.to_owned(),
            error,
        };
        wait_for_previous(directory).map_err(files)?;
        remove_half_made_snapshots(device, directory).map_err(files)?;
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None);
        // Some torn files make sled 0.34 panic in here instead of answering an error.
        let db = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|panic| IndexError::Panic(panic_text(&*panic)))??;
        let directory = directory.to_owned();
        let index = Index { db, directory };
        sync_created(device, &index.directory).map_err(files)?;
        index.check_hook()?;
        if has_blobs(&index.directory).map_err(files)? {
            return Err(IndexError::Damaged(
                "blobs/ is not empty: a value was too large and was never synced".to_owned(),
            ));
        }
        Ok(index)
    }

    /// A flush must come through our fdatasync, or no flush means anything.
    fn check_hook(&self) -> Result<(), IndexError> {
        let before = sync_hook::calls();
        self.db.insert(b"h", &before.to_le_bytes())?;
        self.db.remove(b"h")?;
        self.db.flush()?;
        match sync_hook::calls() > before {
            true => Ok(()),
            false => Err(IndexError::NotHooked),
        }
    }

    pub(crate) fn applied(&self) -> Result<Option<Applied>, IndexError> {
        match self.db.get(APPLIED_KEY)? {
            None => Ok(None),
            Some(bytes) => from_postcard(&bytes)
                .map(Some)
                .ok_or_else(|| IndexError::Damaged("its position cannot be read".to_owned())),
        }
    }

    /// Writes updates and position in one batch, and syncs.
    pub(crate) fn apply(
        &self,
        updates: &[Update],
        applied: Applied,
    ) -> Result<Vec<u16>, IndexError> {
        let mut batch = sled::Batch::default();
        let mut parts = Vec::with_capacity(updates.len());
        for update in updates {
            parts.push(add_to_batch(&mut batch, update));
        }
        batch.insert(APPLIED_KEY, to_postcard(&applied));
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(parts)
    }

    pub(crate) fn read(&self, id: QueueId) -> Result<Option<Row>, IndexError> {
        let Some(first) = self.db.get(key(id, 0))? else {
            return Ok(None);
        };
        let parts = parts_of(id, &first)?;
        let mut others = Vec::new();
        for part in 1..parts {
            let value = self.db.get(key(id, part))?;
            others.push(value.ok_or_else(|| missing(id, part))?);
        }
        let raw = Raw {
            id,
            parts,
            first,
            others,
        };
        raw.decode().map(Some)
    }

    /// Shows every message in brief, in id order. Another thread reads ahead: at a start everybody waits
    /// for this.
    pub(crate) fn each(&self, mut look: impl FnMut(&Brief<'_>, Place)) -> Result<(), IndexError> {
        std::thread::scope(|scope| {
            let (ahead, batches) = sync_channel(4);
            scope.spawn(move || {
                let mut rest = RawRows::new(&self.db, None);
                loop {
                    let batch = rest.batch(ROWS_AT_ONCE);
                    let over = !matches!(&batch, Ok(raw) if !raw.is_empty());
                    // Nobody listens any more after an error.
                    if ahead.send(batch).is_err() || over {
                        return;
                    }
                }
            });
            for batch in batches {
                for raw in batch? {
                    let bytes = raw.bytes();
                    let (place, message) = Brief::read(&bytes).ok_or_else(|| unreadable(raw.id))?;
                    look(&message, place);
                }
            }
            Ok(())
        })
    }

    /// Size of sled's file.
    pub(crate) fn file_bytes(&self) -> u64 {
        let found = std::fs::metadata(self.directory.join("db"));
        found.map_or(0, |found| found.len())
    }

    /// Bytes of keys and values; counted until they come to `limit`.
    pub(crate) fn live_bytes_upto(&self, limit: u64) -> Result<u64, IndexError> {
        let mut bytes = 0;
        for row in self.db.iter() {
            let (key, value) = row?;
            bytes += (key.len() + value.len()) as u64;
            if bytes >= limit {
                break;
            }
        }
        Ok(bytes)
    }

    /// Writes everything into another index, and syncs that.
    pub(crate) fn copy_into(&self, other: &Index) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (count, row) in self.db.iter().enumerate() {
            let (key, value) = row?;
            batch.insert(key, value);
            if count % 1000 == 999 {
                other.db.apply_batch(std::mem::take(&mut batch))?;
            }
        }
        other.db.apply_batch(batch)?;
        other.db.flush()?;
        Ok(())
    }

    /// Up to `limit` messages after `after`, in id order.
    pub(crate) fn rows(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<Row>, IndexError> {
        let raw = RawRows::new(&self.db, after).batch(limit)?;
        raw.iter().map(Raw::decode).collect()
    }
}

/// Messages as sled has them, in id order.
struct RawRows {
    values: sled::Iter,
}

/// A message, not decoded yet.
struct Raw {
    id: QueueId,
    parts: u16,
    first: sled::IVec,
    others: Vec<sled::IVec>,
}

impl RawRows {
    fn new(db: &sled::Db, after: Option<QueueId>) -> RawRows {
        let start = match after {
            Some(id) => key(id, u16::MAX).to_vec(),
            None => vec![MESSAGE_KEY],
        };
        let values = db.range(start..vec![MESSAGE_KEY + 1]);
        RawRows { values }
    }

    /// The next ones, at most `limit`; none: that was all.
    fn batch(&mut self, limit: usize) -> Result<Vec<Raw>, IndexError> {
        let mut batch = Vec::with_capacity(limit);
        while batch.len() < limit
            && let Some(value) = self.values.next()
        {
            let (first_key, first) = value?;
            let id = id_of(&first_key)?;
            let parts = parts_of(id, &first)?;
            let mut others = Vec::new();
            for part in 1..parts {
                let (found, value) = self.values.next().ok_or_else(|| missing(id, part))??;
                if found.as_ref() != key(id, part) {
                    return Err(missing(id, part));
                }
                others.push(value);
            }
            batch.push(Raw {
                id,
                parts,
                first,
                others,
            });
        }
        Ok(batch)
    }
}

impl Raw {
    fn decode(&self) -> Result<Row, IndexError> {
        row(self.id, &self.bytes(), self.parts)
    }

    /// All parts together.
    fn bytes(&self) -> Cow<'_, [u8]> {
        let first = self.first.get(2..).unwrap_or_default();
        if self.others.is_empty() {
            return Cow::Borrowed(first);
        }
        let others = self.others.iter().map(|value| value.as_ref());
        let parts = [first].into_iter().chain(others);
        Cow::Owned(parts.flatten().copied().collect())
    }
}

/// Adds one update and tells over how many parts the message is spread then.
fn add_to_batch(batch: &mut sled::Batch, update: &Update) -> u16 {
    match update {
        Update::Put {
            message,
            place,
            old_parts,
        } => {
            let bytes = to_bytes(message, *place);
            let parts = parts(bytes.len());
            for (part, piece) in (0..parts).zip(bytes.chunks(PART_BYTES)) {
                let mut value = Vec::with_capacity(piece.len() + 2);
                if part == 0 {
                    value.extend_from_slice(&parts.to_le_bytes());
                }
                value.extend_from_slice(piece);
                batch.insert(&key(message.id, part), value);
            }
            for part in parts..(*old_parts).max(parts) {
                batch.remove(&key(message.id, part));
            }
            parts
        }
        Update::Remove { id, old_parts } => {
            for part in 0..*old_parts {
                batch.remove(&key(*id, part));
            }
            0
        }
    }
}

fn to_bytes(message: &Message, place: Place) -> Vec<u8> {
    let mut bytes = to_postcard(&(place, message));
    if !message.detours.is_empty() {
        bytes.extend_from_slice(&to_postcard(&message.detours));
    }
    bytes
}

fn parts(bytes: usize) -> u16 {
    u16::try_from(bytes.div_ceil(PART_BYTES))
        .expect("a record is at most 1 GiB and most of it the body: 200 MB of state never")
}

fn key(id: QueueId, part: u16) -> [u8; 11] {
    let mut key = [MESSAGE_KEY; 11];
    key[1..9].copy_from_slice(&id.to_u64().to_be_bytes());
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

fn id_of(key: &[u8]) -> Result<QueueId, IndexError> {
    let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    match (number, key.get(9..)) {
        (Some(number), Some([0, 0])) => Ok(QueueId::from_u64(u64::from_be_bytes(number))),
        (_, _) => Err(IndexError::Damaged(format!("stray key {key:?}"))),
    }
}

/// The first value begins with how many there are.
fn parts_of(id: QueueId, first: &[u8]) -> Result<u16, IndexError> {
    match first.first_chunk::<2>() {
        Some(parts) if *parts != [0, 0] => Ok(u16::from_le_bytes(*parts)),
        Some(_) | None => Err(missing(id, 0)),
    }
}

fn missing(id: QueueId, part: u16) -> IndexError {
    IndexError::Damaged(format!("part {part} of message {id} is missing"))
}

fn unreadable(id: QueueId) -> IndexError {
    IndexError::Damaged(format!("message {id} cannot be read"))
}

fn row(id: QueueId, bytes: &[u8], parts: u16) -> Result<Row, IndexError> {
    let ((place, mut message), detours): ((Place, Message), Detours) =
        from_postcard_and_more(bytes).ok_or_else(|| unreadable(id))?;
    message.detours = detours;
    Ok(Row {
        message: Arc::new(message),
        place,
        parts,
    })
}

/// sled's own threads may hold its file for a moment after it was dropped. The state directory's lock
/// is ours, so nobody but this process can have it; an index that is only busy must not be taken for
/// a broken one.
pub(crate) fn wait_for_previous(directory: &Path) -> io::Result<()> {
    let file = match File::open(directory.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for _ in 0..1000 {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("still in use after 10 s"))
}

/// A kill while sled writes a snapshot leaves a file that can keep it from opening; it is only a
/// shortcut for sled's own recovery.
fn remove_half_made_snapshots(device: &dyn Device, directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            device.remove(&entry.path())?;
        }
    }
    Ok(())
}

/// sled never syncs `conf` nor the names of its files.
fn sync_created(device: &dyn Device, directory: &Path) -> io::Result<()> {
    for name in ["conf", "db"] {
        device.sync_all(&File::open(directory.join(name))?)?;
    }
    device.sync_directory(directory)?;
    let parent = directory.parent();
    parent.map_or(Ok(()), |parent| device.sync_directory(parent))
}

fn has_blobs(directory: &Path) -> io::Result<bool> {
    match std::fs::read_dir(directory.join("blobs")) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::SystemDevice;

    #[test]
    fn every_flush_of_sled_goes_through_our_fdatasync() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(&SystemDevice, &directory.path().join("index-1"), 1 << 20).unwrap();
        let before = sync_hook::calls();
        let position = Position {
            segment: 1,
            offset: 4096,
        };
        let applied = Applied {
            position,
            highest: None,
        };
        index.apply(&[], applied).unwrap();
        assert!(sync_hook::calls() > before);
        assert_eq!(index.applied().unwrap(), Some(applied));
    }

    #[test]
    fn a_half_made_snapshot_is_removed_before_opening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index-1");
        drop(Index::open(&SystemDevice, &path, 1 << 20).unwrap());
        let snapshot = path.join("snap.00000000000003E8.generating");
        std::fs::write(&snapshot, b"half").unwrap();
        drop(Index::open(&SystemDevice, &path, 1 << 20).unwrap());
        assert!(!snapshot.exists());
    }
}
