//! The journal: appends what a commit has gathered with one write and one fdatasync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use relay_observe::crash::{self, CrashPoint};
use relay_smtp::QueueId;

use crate::device::Device;
use crate::footer::Footer;
use crate::gather::Gather;
use crate::index::Position;
use crate::record::{Encoded, Kind, Place};
use crate::segment::{Before, FIRST_RECORD, Segment, path};
use crate::shared::Options;

/// A buffer that one busy moment has blown up is given back.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    device: Arc<dyn Device>,
    directory: PathBuf,
    segment_bytes: u32,
    segment: Segment,
    /// The segment after this one, being made ahead: making it takes several syncs, and those who
    /// wait for a commit must not wait for them.
    next: Option<JoinHandle<io::Result<Segment>>>,
    write: Gather,
    /// Of the segment that is written to.
    footer: Footer,
    footer_parts: u32,
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
        options: &Options,
        directory: &Path,
        number: u32,
        highest: Option<QueueId>,
    ) -> io::Result<Journal> {
        let (device, segment_bytes) = (&options.device, options.segment_bytes);
        // What lies behind the last record of the segment before was cut off, and the cut synced.
        let before = Before { highest, end: None };
        Ok(Journal {
            device: device.clone(),
            directory: directory.to_owned(),
            segment_bytes,
            segment: Segment::create(device, directory, number, segment_bytes, before)?,
            next: None,
            write: Gather::default(),
            footer: new_footer(segment_bytes, options.footer_parts),
            footer_parts: options.footer_parts,
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
        self.write.clear(BUFFER_KEPT_BYTES);
        let (stamp, start) = (self.segment.stamp, self.segment.end);
        let places = records
            .iter()
            .map(|(kind, record)| record.add_to(&mut self.write, *kind, stamp, start))
            .collect();
        if let Err(error) = self.segment.write(&self.write) {
            return Err(self.give_up_segment(error));
        }
        crash::at(CrashPoint::BodyStored);
        // After a failed sync the kernel may have dropped the pages and report success the next
        // time: it is never tried again.
        self.segment.sync().map_err(AppendError::Failed)?;
        self.segment.end += bytes as u32;
        for (kind, record) in records {
            self.footer.add(record.bare(*kind));
        }
        // Frees the bodies: their callers may be done with them soon.
        self.write.clear(BUFFER_KEPT_BYTES);
        if self.next.is_none() && self.segment.room() < self.segment_bytes as usize / 2 {
            self.make_next();
        }
        Ok(Appended {
            places,
            end: self.position(),
        })
    }

    /// Has the next segment made on another thread. Where no thread can be had, [`Journal::roll`]
    /// makes it.
    fn make_next(&mut self) {
        let (device, directory) = (self.device.clone(), self.directory.clone());
        let (number, size) = (self.segment.stamp.segment + 1, self.segment_bytes);
        let make = move || Segment::create(&device, &directory, number, size, Before::default());
        let thread = std::thread::Builder::new().name("queue-segment".to_owned());
        self.next = thread.spawn(make).ok();
    }

    fn take_next(&mut self, size: u32, before: Before) -> io::Result<Segment> {
        let number = self.segment.stamp.segment + 1;
        let Some(making) = self.next.take() else {
            return Segment::create(&self.device, &self.directory, number, size, before);
        };
        let made = making.join();
        let mut next = made.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
        match next.begin(size, before) {
            Ok(()) => Ok(next),
            Err(error) => {
                // As if it had not been made: its number is wanted again.
                let _ = self.device.remove(&path(&self.directory, number));
                Err(error)
            }
        }
    }

    /// Seals the segment and begins the next one, with room for `bytes`. One write never spans two
    /// segments: so a sealed segment holds nothing but what was promised.
    fn roll(&mut self, bytes: usize, highest: Option<QueueId>) -> Result<(), AppendError> {
        let size = u32::try_from(bytes + FIRST_RECORD as usize)
            .expect("a commit is at most 8 MiB and one record, which is at most 1 GiB");
        let before = Before {
            highest,
            end: Some(self.segment.end),
        };
        let next = self
            .take_next(size.max(self.segment_bytes), before)
            .map_err(AppendError::of)?;
        let of_next = new_footer(next.size, self.footer_parts);
        let footer = std::mem::replace(&mut self.footer, of_next).finish(&self.segment);
        let sealed = self.segment.seal(footer.as_deref());
        sealed.map_err(AppendError::Failed)?;
        self.segment = next;
        Ok(())
    }

    /// A write that did not fit: what it left is cut off, and the next one begins a new segment.
    fn give_up_segment(&mut self, error: io::Error) -> AppendError {
        match AppendError::of(error) {
            // Synced, or after a power cut the half write could be back, in a segment that then counts as sealed.
            AppendError::Full(error) => {
                match self.segment.trim().and_then(|()| self.segment.sync()) {
                    Ok(()) => {
                        self.segment.size = self.segment.end;
                        AppendError::Full(error)
                    }
                    Err(error) => AppendError::Failed(error),
                }
            }
            AppendError::Failed(error) => AppendError::Failed(error),
        }
    }
}

fn new_footer(segment_bytes: u32, parts: u32) -> Footer {
    Footer::new((segment_bytes / parts.max(1)) as usize)
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Not needed any more; a start would remove it, too.
        if let Some(Ok(Ok(unused))) = self.next.take().map(JoinHandle::join) {
            let unused = path(&self.directory, unused.stamp.segment);
            let _ = self.device.remove(&unused);
        }
    }
}
