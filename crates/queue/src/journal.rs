//! The journal: appends what a commit has gathered with one write and one fdatasync.

use std::io;
use std::path::{Path, PathBuf};

use relay_smtp::QueueId;

use crate::index::Position;
use crate::record::{Encoded, Kind, Place};
use crate::segment::{FIRST_RECORD, Segment};

/// A buffer that one large message has blown up is given back.
const BUFFER_KEPT_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    segment_bytes: u32,
    segment: Segment,
    buffer: Vec<u8>,
}

/// What has been made durable.
#[derive(Debug)]
pub(crate) struct Appended {
    /// For each record, where its bodies lie.
    pub(crate) places: Vec<Vec<Place>>,
    /// Behind the last record.
    pub(crate) end: Position,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Nothing was written; it may be tried again when there is space.
    #[error("{0}")]
    Full(io::Error),
    /// What is on disk is unknown: the journal may not be written any more.
    #[error("{0}")]
    Failed(io::Error),
}

impl AppendError {
    fn of(error: io::Error) -> AppendError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full(error),
            _ => AppendError::Failed(error),
        }
    }
}

impl Journal {
    /// Begins a new segment: what lies in the earlier ones is sealed.
    pub(crate) fn begin(
        directory: &Path,
        number: u32,
        segment_bytes: u32,
        highest: Option<QueueId>,
    ) -> io::Result<Journal> {
        Ok(Journal {
            directory: directory.to_owned(),
            segment_bytes,
            segment: Segment::create(directory, number, segment_bytes, highest)?,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            segment: self.segment.stamp.segment,
            offset: self.segment.end,
        }
    }

    /// Ok means: survives a power cut. `highest`: the highest id given so far.
    pub(crate) fn append(
        &mut self,
        records: &[(Kind, &Encoded)],
        highest: Option<QueueId>,
    ) -> Result<Appended, AppendError> {
        let bytes = records.iter().map(|(_, record)| record.len()).sum();
        if bytes > self.segment.room() {
            self.roll(bytes, highest)?;
        }
        self.buffer.clear();
        self.buffer.reserve(bytes);
        let (stamp, start) = (self.segment.stamp, self.segment.end);
        let places = records
            .iter()
            .map(|(kind, record)| record.append_to(&mut self.buffer, *kind, stamp, start))
            .collect();
        if let Err(error) = self.segment.write(&self.buffer) {
            return Err(self.give_up_segment(error));
        }
        // After a failed sync the kernel may have dropped the pages and report success the next
        // time: it is never tried again.
        self.segment.sync().map_err(AppendError::Failed)?;
        self.segment.end += bytes as u32;
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(Appended {
            places,
            end: self.position(),
        })
    }

    /// Seals the segment and begins the next one, with room for `bytes`. One write never spans two
    /// segments: so a sealed segment holds nothing but what was promised.
    fn roll(&mut self, bytes: usize, highest: Option<QueueId>) -> Result<(), AppendError> {
        let size = u32::try_from(bytes + FIRST_RECORD as usize)
            .expect("a commit is at most 8 MiB and one record, which is at most 1 GiB");
        let next = Segment::create(
            &self.directory,
            self.segment.stamp.segment + 1,
            size.max(self.segment_bytes),
            highest,
        )
        .map_err(AppendError::of)?;
        self.segment.trim().map_err(AppendError::Failed)?;
        self.segment = next;
        Ok(())
    }

    /// A write that did not fit: what it left is cut off, and the next one begins a new segment.
    fn give_up_segment(&mut self, error: io::Error) -> AppendError {
        match AppendError::of(error) {
            AppendError::Full(error) => match self.segment.trim() {
                Ok(()) => {
                    self.segment.size = self.segment.end;
                    AppendError::Full(error)
                }
                Err(error) => AppendError::Failed(error),
            },
            AppendError::Failed(error) => AppendError::Failed(error),
        }
    }
}
