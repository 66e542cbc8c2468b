//! The writer's thread: appends lines, begins a new segment when one is full or the day is over,
//! removes the oldest.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relay_smtp::QueueId;
use tokio::sync::watch;

use super::entry::Entry;
use super::segment::Segment;
use super::{Options, Word};
use crate::clock::Clock;
use crate::event::Event;
use crate::metric::Metrics;

/// Large enough that two weeks are some hundred files, small enough to be read through in a moment.
const SEGMENT_BYTES_MAX: u64 = 32 << 20;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Entries written at once.
const BATCH: usize = 8_192;
/// How often old segments are looked for where nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// What comes within this time is written together: a write and a wake-up for every entry cost more
/// than all else that the history does. A reader waits no longer than that.
const GATHER: Duration = Duration::from_millis(20);
/// How long an answer about the disk's space is believed. What is written meanwhile is small beside
/// what is kept free.
const ASK_SPACE_EVERY: Duration = Duration::from_secs(1);

/// What connects the thread with the rest.
pub(super) struct Desk {
    pub words: Receiver<Word>,
    pub lost: Arc<AtomicU64>,
    pub told: watch::Sender<u64>,
    pub metrics: Arc<Metrics>,
}

pub(super) struct Writer {
    options: Options,
    clock: Clock,
    segment_bytes_max: u64,
    /// Full ones, oldest first, with their bytes.
    sealed: Vec<(Segment, u64)>,
    open: Option<Open>,
    /// Held as long as we write: two writers would cut off each other's lines.
    _lock: File,
    next_number: u64,
    disk: Disk,
    /// When the disk last had room.
    had_room: Option<Instant>,
    /// Lost, and not yet said in the history itself.
    missing: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Takes,
    Refuses,
}

/// The segment that is written.
struct Open {
    segment: Segment,
    file: File,
    bytes: u64,
    /// How many of them an earlier life wrote: their ids are read when the segment is sealed, since a start has no
    /// time for it.
    unread: u64,
    /// Of what was written since.
    ids: Vec<(QueueId, u32)>,
}

impl Writer {
    pub fn open(options: Options, clock: Clock) -> io::Result<Writer> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&options.dir)?;
        let lock = lock(&options.dir)?;
        let segments = Segment::all(&options.dir)?;
        let mut writer = Writer {
            segment_bytes_max: (options.bytes_max / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            next_number: segments.last().map_or(1, |last| last.number + 1),
            sealed: Vec::new(),
            open: None,
            _lock: lock,
            disk: Disk::Takes,
            had_room: None,
            missing: 0,
            options,
            clock,
        };
        let last = segments.last().cloned();
        for segment in segments {
            if Some(&segment) == last.as_ref() && !segment.ids_path().exists() {
                writer.open = Some(Open::again(segment)?);
            } else {
                // An older one without its list is read through by those who look for an id.
                let bytes = segment.bytes();
                writer.sealed.push((segment, bytes));
            }
        }
        writer.remove_old(writer.clock.now());
        Ok(writer)
    }

    /// Until it is told to close, or the last handle is gone.
    pub fn run(mut self, desk: &Desk) {
        loop {
            let first = match desk.words.recv_timeout(LOOK_EVERY) {
                Ok(word) => word,
                Err(RecvTimeoutError::Timeout) => {
                    self.remove_old(self.clock.now());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Word::Entry(_) = first {
                std::thread::sleep(GATHER);
            }
            let mut entries = Vec::new();
            let mut waiting = Vec::new();
            let mut closing = false;
            let more = std::iter::from_fn(|| desk.words.try_recv().ok()).take(BATCH - 1);
            for word in std::iter::once(first).chain(more) {
                match word {
                    Word::Entry(entry) => entries.push(entry),
                    Word::CaughtUp(answer) => waiting.push(answer),
                    Word::Close => {
                        closing = true;
                        break;
                    }
                }
            }
            self.write_all(&entries, desk);
            desk.told.send_modify(|count| *count += 1);
            for answer in waiting {
                // Who asked may have gone.
                let _ = answer.send(());
            }
            if closing {
                return;
            }
        }
    }

    /// What the disk does not take is lost and counted: mail goes on.
    fn write_all(&mut self, entries: &[Box<Entry>], desk: &Desk) {
        let mut written = 0;
        while let Some(rest) = entries.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_some(rest) {
                Ok(count) => {
                    written += count;
                    self.disk = Disk::Takes;
                }
                Err(error) => {
                    self.refused(&error);
                    desk.lost.fetch_add(rest.len() as u64, Ordering::Relaxed);
                    break;
                }
            }
        }
        let events = desk.lost.swap(0, Ordering::Relaxed);
        if events > 0 {
            self.missing += events;
            crate::metric::count(&desk.metrics, &Event::HistoryLost { events });
        }
        if let (true, Some(last)) = (self.missing > 0, entries.last())
            && self.disk == Disk::Takes
        {
            let events = self.missing;
            crate::log::line(&Event::HistoryLost { events });
            let entry = Entry::of(Event::HistoryLost { events }, last.at);
            match self.write_some(&entry.map(Box::new).into_iter().collect::<Vec<_>>()) {
                Ok(_) => self.missing = 0,
                Err(error) => self.refused(&error),
            }
        }
    }

    /// Said once, until it takes something again.
    fn refused(&mut self, error: &io::Error) {
        if self.disk == Disk::Takes {
            self.disk = Disk::Refuses;
            tracing::error!(
                "{}: the history of messages cannot be written: {error}; mail goes on without it",
                self.options.dir.display()
            );
        }
    }

    /// As many as fit into the segment, at least one. Returns how many.
    fn write_some(&mut self, entries: &[Box<Entry>]) -> io::Result<usize> {
        let Some(first) = entries.first() else {
            return Ok(0);
        };
        self.leave_room()?;
        let most = self.segment_bytes_max;
        let open = self.open_for(first.at)?;
        let mut text = Vec::with_capacity(entries.len() * 512);
        let mut ids = Vec::with_capacity(entries.len());
        let mut count = 0;
        for entry in entries {
            let offset = open.bytes + text.len() as u64;
            if count > 0 && (offset >= most || day(entry.at) != day(first.at)) {
                break;
            }
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            ids.extend(
                [entry.id, entry.of]
                    .into_iter()
                    .flatten()
                    .map(|id| (id, offset)),
            );
            count += 1;
        }
        open.append(&text)?;
        open.ids.extend(ids);
        // The entry's time is that of now, and follows virtual time, which this thread does not see.
        self.remove_old(first.at);
        Ok(count)
    }

    /// What is left of a disk that is nearly full belongs to the queue, which must write down what became
    /// of mail.
    fn leave_room(&mut self) -> io::Result<()> {
        if self
            .had_room
            .is_some_and(|at| at.elapsed() < ASK_SPACE_EVERY)
        {
            return Ok(());
        }
        self.had_room = None;
        let disk = rustix::fs::statvfs(&self.options.dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        if is_short(bytes(disk.f_bavail), bytes(disk.f_blocks)) {
            return Err(io::Error::other("the disk is nearly full"));
        }
        self.had_room = Some(Instant::now());
        Ok(())
    }

    /// The segment that an entry of this time goes to.
    fn open_for(&mut self, at: Timestamp) -> io::Result<&mut Open> {
        let full = |open: &Open| {
            open.bytes >= self.segment_bytes_max
                || (open.bytes > 0 && day(open.segment.begun) != day(at))
        };
        if self.open.as_ref().is_some_and(full) {
            self.seal()?;
        }
        match self.open {
            Some(ref mut open) => Ok(open),
            None => {
                let segment = Segment::new(&self.options.dir, self.next_number, at);
                let file = segment.create()?;
                self.next_number += 1;
                Ok(self.open.insert(Open {
                    segment,
                    file,
                    bytes: 0,
                    unread: 0,
                    ids: Vec::new(),
                }))
            }
        }
    }

    fn seal(&mut self) -> io::Result<()> {
        if let Some(mut open) = self.open.take() {
            let sealed = open
                .read_ids()
                .and_then(|()| open.segment.seal(std::mem::take(&mut open.ids), open.bytes));
            let bytes = open.segment.bytes();
            self.sealed.push((open.segment, bytes));
            sealed?;
        }
        Ok(())
    }

    /// The oldest go until the rest is small and young enough.
    fn remove_old(&mut self, now: Timestamp) {
        let mut bytes: u64 = self.sealed.iter().map(|(_, bytes)| bytes).sum();
        bytes += self.open.as_ref().map_or(0, |open| open.bytes);
        // Room for the list of ids of the open one.
        let most = self.options.bytes_max - self.options.bytes_max / 32;
        while let Some((oldest, size)) = self.sealed.first() {
            let next = self.sealed.get(1).map(|(next, _)| next);
            let ended = next
                .or(self.open.as_ref().map(|open| &open.segment))
                .map_or(now, |next| next.begun);
            let age = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
            if bytes <= most && age <= self.options.max_age {
                return;
            }
            if let Err(error) = oldest.remove()
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::error!("{}: cannot be removed: {error}", oldest.path.display());
                return;
            }
            bytes -= size;
            self.sealed.remove(0);
        }
    }
}

impl Open {
    /// Goes on with a segment of an earlier life: its torn last line is cut off.
    fn again(segment: Segment) -> io::Result<Open> {
        let file = File::options()
            .read(true)
            .append(true)
            .open(&segment.path)?;
        let whole = whole_lines(&file)?;
        file.set_len(whole)?;
        Ok(Open {
            segment,
            file,
            bytes: whole,
            unread: whole,
            ids: Vec::new(),
        })
    }

    fn read_ids(&mut self) -> io::Result<()> {
        let mut lines = BufReader::new(File::open(&self.segment.path)?.take(self.unread));
        let (mut line, mut offset) = (Vec::new(), 0);
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
                let found = [entry.id, entry.of].into_iter().flatten();
                self.ids.extend(found.map(|id| (id, offset)));
            }
            offset += u32::try_from(line.len()).unwrap_or(u32::MAX);
            line.clear();
        }
        self.unread = 0;
        Ok(())
    }

    /// A write that broke off leaves no half line behind for the next one to go on with.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(text) {
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// How many bytes of a file are whole lines, read from its end.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        if let Some(last) = memchr::memrchr(b'\n', part) {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Less than a twentieth, of large disks less than 1 GiB.
fn is_short(free: u64, total: u64) -> bool {
    free < (total / 20).min(1 << 30)
}

fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join("LOCK");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another relayd writes its history here"))?;
    Ok(file)
}

/// The UTC day.
fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_found_from_the_end_of_the_file() {
        for (text, whole) in [
            (String::new(), 0),
            ("torn".to_owned(), 0),
            ("one\n".to_owned(), 4),
            ("one\ntorn".to_owned(), 4),
            (format!("one\n{}", "x".repeat(200_000)), 4),
            (format!("{}\ntorn", "x".repeat(65_535)), 65_536),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(whole_lines(&file).unwrap(), whole);
        }
    }

    #[test]
    fn the_last_of_a_disk_is_left_to_the_queue() {
        const GIB: u64 = 1 << 30;
        assert!(is_short(0, GIB) && is_short(GIB / 21, GIB));
        assert!(!is_short(GIB / 19, GIB));
        assert!(is_short(GIB - 1, 1000 * GIB) && !is_short(GIB, 1000 * GIB));
    }
}
