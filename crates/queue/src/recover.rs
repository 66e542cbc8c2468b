//! Opening the state directory: from whatever a crash left to a ledger that is true again.
//!
//! Lock; refuse what a newer relayd wrote; open the index or make a new one; replay the journal from
//! where the index had come; begin a new segment. Records that cannot be read go to `quarantine/`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use relay_observe::crash::{self, CrashPoint};
use relay_observe::{Event, Events};

use crate::big::BigFiles;
use crate::files::{Layout, OLDER_VERSIONS, VERSION};
use crate::footer::Heads;
use crate::index::{Applied, Index, IndexError, Position, panic_text};
use crate::journal::Journal;
use crate::ledger::{Ledger, Lookup};
use crate::record::{Bad, Change, Found};
use crate::segment::{self, FIRST_RECORD, Headless, Image, Item};
use crate::settle::{changed, fresh, rerouted};
use crate::shared::Options;

/// Why the queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is of version {found:?}, this relayd writes version {VERSION}: run the relayd that wrote it, or give it an empty directory"
    )]
    Version { path: PathBuf, found: String },
    #[error("{0} has a journal but no VERSION: not a state directory of relayd, or a damaged one")]
    NoVersion(PathBuf),
    #[error("{0} is in use by another relayd")]
    Locked(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("the index in {path}: {error}")]
    Index { path: PathBuf, error: String },
}

impl OpenError {
    /// The program's exit status: 78 (EX_CONFIG) where a person has to change something first, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            OpenError::Version { .. } | OpenError::NoVersion(_) => 78,
            OpenError::Locked(_) | OpenError::Io { .. } | OpenError::Index { .. } => 1,
        }
    }
}

/// A queue that is ready to go on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) lock: File,
    pub(crate) ledger: Ledger,
    pub(crate) index: Index,
    pub(crate) applied: Applied,
    pub(crate) journal: Journal,
    pub(crate) first_segment: u32,
}

pub(crate) fn recover(
    layout: &Layout,
    options: &Options,
    events: &Events,
) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    let lock = enter(layout)?;
    let mut recovery = Recovery {
        layout,
        options,
        events,
        records: 0,
        truncated_bytes: 0,
        quarantined: 0,
    };
    make_room(layout, options);
    let directory = layout.journal();
    let mut segments = segment::numbers(&directory).map_err(at(&directory))?;
    let (index, mut ledger) = recovery.open_index(&segments)?;
    recovery.seal_newest(&mut segments, ledger.position())?;
    recovery.replay(&segments, &index.open, &mut ledger)?;
    recovery.tell_missing_segments(&segments, &ledger);
    let applied = recovery.apply(&index.open, &mut ledger)?;
    recovery.sweep_big(&ledger)?;
    recovery.make_current(&index)?;
    // The index may have seen segments that are gone: a number is not given twice.
    let newest = segments.last().copied().unwrap_or(0);
    let newest = newest.max(applied.position.segment);
    let journal = Journal::begin(options, &directory, newest + 1, ledger.highest())
        .map_err(at(&directory))?;
    events.emit(Event::QueueRecovered {
        messages: ledger.stats().messages,
        records: recovery.records,
        truncated_bytes: recovery.truncated_bytes,
        took: started.elapsed(),
    });
    ledger.start_counting();
    Ok(Recovered {
        lock,
        ledger,
        index: index.open,
        applied,
        journal,
        first_segment: segments.first().copied().unwrap_or(newest + 1),
    })
}

/// A start needs a segment and some of the index's file: on a full disk the ballast goes for it.
fn make_room(layout: &Layout, options: &Options) {
    let needed = 2 * u64::from(options.segment_bytes);
    let space = options.device.space(layout.root());
    if space.is_ok_and(|space| space.free_bytes < needed) {
        let _ = layout.remove_ballast();
    }
}

/// Refuses what is not ours to touch, takes the lock, makes what is missing.
fn enter(layout: &Layout) -> Result<File, OpenError> {
    let root = layout.root();
    let in_root = || at(root);
    let version = layout.version().map_err(in_root())?;
    match version.as_deref() {
        Some(found) if found == VERSION || OLDER_VERSIONS.contains(&found) => {}
        Some(found) => {
            return Err(OpenError::Version {
                path: root.join("VERSION"),
                found: found.to_owned(),
            });
        }
        None if !segment::numbers(&layout.journal())
            .unwrap_or_default()
            .is_empty() =>
        {
            return Err(OpenError::NoVersion(root.to_owned()));
        }
        None => {}
    }
    layout.make().map_err(in_root())?;
    let lock = layout.lock().map_err(in_root())?;
    let lock = lock.ok_or_else(|| OpenError::Locked(root.to_owned()))?;
    if version.as_deref() != Some(VERSION) {
        // From here on an older relayd refuses: it would take records of newer kinds, and footers, for
        // damage.
        layout.write_version().map_err(in_root())?;
    }
    Ok(lock)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

struct Recovery<'a> {
    layout: &'a Layout,
    options: &'a Options,
    events: &'a Events,
    records: u64,
    truncated_bytes: u64,
    /// Pieces of the journal.
    quarantined: u64,
}

/// An index that is open, and whether `CURRENT` names it yet.
/// Records of which the index is told in one step. Until then the messages are in memory, and sled frees nothing
/// that it replaces before a step is over: a rebuild of a million took two gigabytes in one.
const REPLAYED_AT_ONCE: u64 = 500;

struct Opened {
    open: Index,
    number: u32,
    standing: Standing,
}

enum Standing {
    Current,
    /// Begun empty, to be filled from the journal, because of this.
    New(String),
}

/// Why an index cannot be used.
enum Unusable {
    Rebuild(String),
    /// A new one would be no better.
    Fatal(IndexError),
}

impl From<IndexError> for Unusable {
    fn from(error: IndexError) -> Unusable {
        match error {
            IndexError::NotHooked => Unusable::Fatal(error),
            IndexError::Files { .. }
            | IndexError::Sled(_)
            | IndexError::Panic(_)
            | IndexError::Damaged(_) => Unusable::Rebuild(error.to_string()),
        }
    }
}

impl Recovery<'_> {
    /// Cuts off what was written to the newest segment but never promised. A segment that was being
    /// made, or made ahead and not used, is removed first. The older ones are sealed: all of them was
    /// promised.
    fn seal_newest(&mut self, segments: &mut Vec<u32>, index: Position) -> Result<(), OpenError> {
        let directory = self.layout.journal();
        let mut beyond_the_last = true;
        while let Some(&number) = segments.last() {
            let path = segment::path(&directory, number);
            let found = Image::read(&directory, number).map_err(at(&path))?;
            let cut_off = match &found {
                Ok(image) => image.len() < FIRST_RECORD,
                Err(Headless::Empty) => true,
                Err(Headless::WithRecords) => false,
            };
            let image = match found {
                Ok(image) if !image.is_unused() => image,
                // Replay quarantines it.
                Err(Headless::WithRecords) => return Ok(()),
                // The index had come into it, so it was more than begun: replay says so.
                Ok(_) | Err(Headless::Empty) if index.segment >= number => return Ok(()),
                // Only one is made at a time, when the one before it has records: it had.
                Ok(_) | Err(Headless::Empty) if cut_off && !beyond_the_last => return Ok(()),
                Ok(_) | Err(Headless::Empty) => {
                    segments.pop();
                    beyond_the_last = false;
                    let device = &self.options.device;
                    device.remove(&path).map_err(at(&path))?;
                    continue;
                }
            };
            let known = match index.segment == number {
                true => index.offset,
                false => FIRST_RECORD,
            };
            let end = image.promised_end(known).min(image.len());
            self.truncated_bytes += image.written_behind(end);
            let file = File::options().write(true).open(&path).map_err(at(&path))?;
            let device = &self.options.device;
            let cut = device.truncate(&file, u64::from(end));
            return cut.and_then(|()| device.sync_all(&file)).map_err(at(&path));
        }
        Ok(())
    }

    /// The current index with its messages loaded, or an empty new one.
    fn open_index(&mut self, segments: &[u32]) -> Result<(Opened, Ledger), OpenError> {
        let current = self.layout.current();
        let numbers = self.layout.indexes().map_err(at(self.layout.root()))?;
        let highest = numbers.iter().copied().max().unwrap_or(0);
        // Left over from a rebuild that did not end.
        for number in numbers
            .into_iter()
            .filter(|n| current.is_some_and(|c| c != *n))
        {
            let removed = self.layout.remove_index(number);
            removed.map_err(at(&self.layout.index(number)))?;
        }
        let reason = match current {
            Some(number) => match self.try_current(number, segments) {
                Ok(opened) => return Ok(opened),
                Err(Unusable::Rebuild(reason)) => reason,
                Err(Unusable::Fatal(error)) => return Err(self.index_error(number, error)),
            },
            None => "there is none".to_owned(),
        };
        if !segments.is_empty() {
            let reason = reason.clone();
            self.events.emit(Event::IndexRebuilt { reason });
        }
        let number = highest.max(current.unwrap_or(0)) + 1;
        let path = self.layout.index(number);
        let open = Index::open(&*self.options.device, &path, self.options.index_cache_bytes)
            .map_err(|error| self.index_error(number, error))?;
        let start = Applied {
            position: Position {
                // Before the very first one nothing tells that it ever had a record: a power cut at the first start
                // leaves it empty.
                segment: segments.first().copied().filter(|n| *n > 1).unwrap_or(0),
                offset: FIRST_RECORD,
            },
            highest: None,
        };
        let opened = Opened {
            open,
            number,
            standing: Standing::New(reason),
        };
        Ok((opened, Ledger::new(start, self.options.remembered)))
    }

    /// sled 0.34 panics, too, when it reads some damaged pages.
    fn try_current(&self, number: u32, segments: &[u32]) -> Result<(Opened, Ledger), Unusable> {
        catch_unwind(AssertUnwindSafe(|| self.open_current(number, segments))).unwrap_or_else(
            |panic| {
                let text = panic_text(&*panic);
                Err(Unusable::Rebuild(format!(
                    "sled panicked while reading: {text}"
                )))
            },
        )
    }

    fn open_current(&self, number: u32, segments: &[u32]) -> Result<(Opened, Ledger), Unusable> {
        let path = self.layout.index(number);
        if !path.exists() {
            return Err(Unusable::Rebuild(format!("index-{number} is missing")));
        }
        let open = Index::open(&*self.options.device, &path, self.options.index_cache_bytes)?;
        let applied = open
            .applied()?
            .ok_or_else(|| Unusable::Rebuild("it has no position".to_owned()))?;
        Self::check_position(applied.position, segments)?;
        let mut ledger = Ledger::new(applied, self.options.remembered);
        open.each(|message, place| ledger.load(message, place))?;
        let opened = Opened {
            open,
            number,
            standing: Standing::Current,
        };
        Ok((opened, ledger))
    }

    /// A segment goes only when the index is beyond it. One that stands before them all has missed something:
    /// a damaged sled may come back as it was long ago. One that is ahead, or needs segments that are gone,
    /// knows more than the journal does, and is kept.
    fn check_position(position: Position, segments: &[u32]) -> Result<(), Unusable> {
        match segments.first() {
            Some(1) if position.segment == 0 => Ok(()),
            Some(&oldest) if position.segment < oldest => Err(Unusable::Rebuild(format!(
                "it had come to journal segment {}, and the oldest there is is {oldest}",
                position.segment
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Segments are deleted from the oldest on, so any other that is not there was lost. Messages whose bodies
    /// lay there stay, as those do whose bodies are damaged.
    fn tell_missing_segments(&self, segments: &[u32], ledger: &Ledger) {
        let directory = self.layout.journal();
        let oldest = segments.first().copied();
        let oldest = oldest.unwrap_or(ledger.position().segment);
        let newest = segments.last().copied().unwrap_or(0);
        let needed = ledger.segments().keys().copied();
        let expected = oldest.max(1)..=newest.max(ledger.position().segment);
        let expected: BTreeSet<u32> = expected.chain(needed).collect();
        for number in expected {
            if segments.binary_search(&number).is_ok() {
                continue;
            }
            let file = segment::path(&directory, number).display().to_string();
            for id in ledger.messages_in(number) {
                // A large body lies elsewhere.
                if !ledger.big().contains_key(&id) {
                    self.events.emit(Event::BodyUnreadable {
                        id,
                        file: file.clone(),
                        reason: "the journal segment is missing".to_owned(),
                    });
                }
            }
            self.events.emit(Event::RecordQuarantined {
                file,
                offset: 0,
                reason: "the journal segment is missing".to_owned(),
            });
        }
    }

    fn replay(
        &mut self,
        segments: &[u32],
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<(), OpenError> {
        let from = ledger.position();
        let directory = self.layout.journal();
        for &number in segments.iter().filter(|n| **n >= from.segment) {
            let path = segment::path(&directory, number);
            let mut start = match number == from.segment {
                true => from.offset,
                false => FIRST_RECORD,
            };
            if let Some(heads) = Heads::read(&directory, number).map_err(at(&path))? {
                start = self.replay_heads(&heads, start, index, ledger)?;
                if start >= heads.end() {
                    continue;
                }
            }
            let image = match Image::read(&directory, number).map_err(at(&path))? {
                Ok(image) => image,
                Err(Headless::Empty) => {
                    self.quarantine(
                        number,
                        0,
                        &[],
                        "the segment has been cut off or is all zeros",
                    )?;
                    continue;
                }
                Err(Headless::WithRecords) => {
                    let bytes = std::fs::read(&path).map_err(at(&path))?;
                    self.quarantine(number, 0, &bytes, "the segment's header is damaged")?;
                    let (segment, offset) = (number, bytes.len() as u32);
                    ledger.advance(Position { segment, offset }, 0);
                    continue;
                }
            };
            ledger.saw(image.highest);
            // An end that is missing is seen only where something else tells of it.
            if image.len() < start {
                let reason = format!("the segment has been cut off before byte {start}");
                self.quarantine(number, image.len(), &[], &reason)?;
                continue;
            }
            self.replay_segment(&image, start, index, ledger)?;
        }
        Ok(())
    }

    /// From the footer, without the bodies. Tells how far it could be read: where that is not the end, the
    /// rest of the segment has to be read itself.
    fn replay_heads(
        &mut self,
        heads: &Heads,
        start: u32,
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<u32, OpenError> {
        let segment = heads.segment();
        ledger.saw(heads.highest);
        let mut offset = start;
        for (at, bare) in heads.records() {
            if at < start {
                continue;
            }
            let Some((change, len)) = bare.read(segment, at) else {
                return Ok(offset);
            };
            offset = at + len;
            self.redo_next(change, Position { segment, offset }, index, ledger)?;
        }
        Ok(offset)
    }

    fn replay_segment(
        &mut self,
        image: &Image,
        start: u32,
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<(), OpenError> {
        let segment = image.stamp.segment;
        for item in image.items(start) {
            match item {
                Item::Record { record, offset } => {
                    let offset = offset + record.len;
                    let end = Position { segment, offset };
                    self.redo_next(record.change, end, index, ledger)?;
                }
                Item::Damage {
                    reason: Bad::Version(found),
                    ..
                } => {
                    return Err(OpenError::Version {
                        path: segment::path(&self.layout.journal(), segment),
                        found: found.to_string(),
                    });
                }
                Item::Damage {
                    bytes,
                    offset,
                    reason,
                } => self.quarantine(segment, offset, bytes, &reason.to_string())?,
            }
        }
        let offset = image.len();
        ledger.advance(Position { segment, offset }, 0);
        Ok(())
    }

    /// What the next record did, once more; it ends at `end`.
    fn redo_next(
        &mut self,
        change: Change,
        end: Position,
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<(), OpenError> {
        self.redo(change, index, ledger)?;
        self.records += 1;
        crash::at(CrashPoint::HalfOfRecovery);
        ledger.advance(end, 1);
        if ledger.unapplied >= self.options.index_records.min(REPLAYED_AT_ONCE) {
            self.apply(index, ledger)?;
        }
        Ok(())
    }

    fn redo(&self, change: Change, index: &Index, ledger: &mut Ledger) -> Result<(), OpenError> {
        match change {
            Change::Accepted(found) => self.redo_accepted(found, index, ledger),
            Change::Carried(found, recipients, detours) => {
                self.fetch(found.id, index, ledger)?;
                let (place, size) = (found.place, u64::from(found.place.bytes));
                let mut message = fresh(found.id, found.envelope, found.arrival, size);
                message.recipients = recipients;
                message.detours = detours;
                ledger.install_accepted(Arc::new(message), place);
                Ok(())
            }
            Change::Rerouted { id, ways } => {
                if let Lookup::Here(before, _) = self.fetch(id, index, ledger)?
                    && let Ok(Some(after)) = rerouted(&before, &ways)
                {
                    ledger.install_settled(Arc::new(after));
                }
                Ok(())
            }
            Change::Settled { id, changes, dsns } => {
                ledger.saw(Some(id));
                // Unknown: finished already, its segment deleted. Its DSNs are no less accepted.
                if let Lookup::Here(before, _) = self.fetch(id, index, ledger)? {
                    // A change that does not fit was never written.
                    if let Ok(Some(after)) = changed(&before, &changes) {
                        ledger.install_settled(Arc::new(after));
                    }
                }
                dsns.into_iter()
                    .try_for_each(|dsn| self.redo_accepted(dsn, index, ledger))
            }
        }
    }

    fn redo_accepted(
        &self,
        found: Found,
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<(), OpenError> {
        self.fetch(found.id, index, ledger)?;
        let place = found.place;
        let message = fresh(
            found.id,
            found.envelope,
            found.arrival,
            u64::from(place.bytes),
        );
        ledger.install_accepted(Arc::new(message), place);
        Ok(())
    }

    /// Finds a message, in memory afterwards if the index has it.
    fn fetch(
        &self,
        id: relay_smtp::QueueId,
        index: &Index,
        ledger: &mut Ledger,
    ) -> Result<Lookup, OpenError> {
        if let Lookup::InIndex = ledger.lookup(id) {
            let row = index.read(id).map_err(|error| self.index_error(0, error))?;
            row.into_iter().for_each(|row| ledger.take_in(row));
        }
        Ok(ledger.lookup(id))
    }

    fn apply(&self, index: &Index, ledger: &mut Ledger) -> Result<Applied, OpenError> {
        let changes = ledger.begin_apply();
        let parts = index
            .apply(&changes.updates, changes.applied)
            .map_err(|error| self.index_error(0, error))?;
        ledger.end_apply(&changes, &parts);
        Ok(changes.applied)
    }

    /// Sets large bodies right with what the journal says. Their own content is looked at when it is read.
    fn sweep_big(&self, ledger: &Ledger) -> Result<(), OpenError> {
        let files = BigFiles {
            directory: self.layout.big(),
            device: self.options.device.clone(),
            events: self.events.clone(),
        };
        let quarantine = self.layout.quarantine();
        let spare = (self.quarantined > 0).then_some(&*quarantine);
        files
            .sweep(ledger.big(), spare)
            .map_err(at(&files.directory))
    }

    /// Names a rebuilt index in `CURRENT`, now that it is complete and on disk.
    fn make_current(&self, index: &Opened) -> Result<(), OpenError> {
        let in_root = || at(self.layout.root());
        match &index.standing {
            Standing::Current => Ok(()),
            Standing::New(reason) => {
                let old = self.layout.current();
                self.layout.write_current(index.number).map_err(in_root())?;
                match old {
                    Some(old) => self.layout.set_index_aside(old, reason).map_err(in_root()),
                    None => Ok(()),
                }
            }
        }
    }

    fn quarantine(
        &mut self,
        segment: u32,
        offset: u32,
        bytes: &[u8],
        reason: &str,
    ) -> Result<(), OpenError> {
        self.quarantined += 1;
        let kept = self
            .layout
            .quarantine_bytes(segment, offset, bytes, reason)
            .map_err(at(&self.layout.quarantine()))?;
        self.events.emit(Event::RecordQuarantined {
            file: kept.display().to_string(),
            offset: u64::from(offset),
            reason: reason.to_owned(),
        });
        Ok(())
    }

    fn index_error(&self, number: u32, error: IndexError) -> OpenError {
        OpenError::Index {
            path: self.layout.index(number),
            error: error.to_string(),
        }
    }
}
