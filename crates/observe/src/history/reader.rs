//! Reads the history: a message's entries by its id, or all of a selection step by step. It needs no
//! writer, so that the files can be read where relayd does not run.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use relay_smtp::QueueId;

use super::entry::Entry;
use super::filter::Filter;
use super::segment::Segment;

/// Read at a time; also the longest line that is understood.
const CHUNK: usize = 1 << 20;
/// How far apart the clock of an id and that of the entries may be.
const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

/// Reads one directory. Each call looks at the files anew.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

/// Between two lines: the segment's number and the offset in it. As text `12:3456`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    segment: u64,
    offset: u64,
}

/// Part of what was asked for.
#[derive(Debug)]
pub struct Step {
    pub entries: Vec<Entry>,
    /// Where the next step begins.
    pub place: Place,
    /// Bytes from there to the end; 0: that was all for now.
    pub left: u64,
    /// Lines that could not be read.
    pub damaged: u64,
}

/// How much one step does.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries_max: usize,
    pub bytes_max: u64,
}

impl Reader {
    pub fn new(dir: &Path) -> Reader {
        Reader {
            dir: dir.to_owned(),
        }
    }

    /// Every entry of a message, oldest first, at most so many; those of the reports about it too.
    pub fn story(&self, id: QueueId, most: usize) -> io::Result<Vec<Entry>> {
        let segments = Segment::all(&self.dir)?;
        let made = i64::try_from(id.unix_ms()).ok();
        let made = made.and_then(|made| Timestamp::from_millisecond(made).ok());
        let mut story = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            let ended = segments
                .get(place + 1)
                .map(|next| next.begun + CLOCKS_APART);
            if made.zip(ended).is_some_and(|(made, ended)| ended < made) {
                continue;
            }
            if story.len() >= most {
                break;
            }
            match gone_is_empty(segment.offsets(id), || Some(Vec::new()))? {
                Some(offsets) => self.lines_at(segment, &offsets, &mut story)?,
                None => self.lines_of(segment, id, &mut story)?,
            }
        }
        story.truncate(most);
        Ok(story)
    }

    /// Where entries of this time begin, at the latest.
    pub fn since(&self, since: Timestamp) -> io::Result<Place> {
        let segments = Segment::all(&self.dir)?;
        let before = segments.iter().rev().find(|segment| segment.begun <= since);
        Ok(Place {
            segment: before
                .or(segments.first())
                .map_or(0, |segment| segment.number),
            offset: 0,
        })
    }

    /// Behind the last line.
    pub fn end(&self) -> io::Result<Place> {
        let segments = Segment::all(&self.dir)?;
        Ok(match segments.last() {
            Some(last) => Place {
                segment: last.number,
                offset: last.path.metadata()?.len(),
            },
            None => Place {
                segment: 0,
                offset: 0,
            },
        })
    }

    /// The entries from `place` on that match, as far as the limits allow.
    pub fn step(&self, place: Place, filter: &Filter, limits: Limits) -> io::Result<Step> {
        let segments = Segment::all(&self.dir)?;
        let sieve = filter.sieve();
        let mut step = Step {
            entries: Vec::new(),
            place,
            left: 0,
            damaged: 0,
        };
        let mut read = 0;
        let mut enough;
        // What was removed in the meantime is passed over.
        for segment in segments.iter().filter(|s| s.number >= place.segment) {
            if segment.number > step.place.segment {
                step.place = Place {
                    segment: segment.number,
                    offset: 0,
                };
            }
            let file = match File::open(&segment.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            loop {
                enough = read >= limits.bytes_max || step.entries.len() >= limits.entries_max;
                if enough {
                    break;
                }
                let chunk = chunk_at(&file, step.place.offset)?;
                let Some(whole) = whole_lines(&chunk) else {
                    break;
                };
                let mut used = 0;
                for line in chunk
                    .get(..whole)
                    .unwrap_or_default()
                    .split_inclusive(is_end)
                {
                    if step.entries.len() >= limits.entries_max {
                        break;
                    }
                    used += line.len();
                    if sieve.may_match(line) {
                        match serde_json::from_slice::<Entry>(line) {
                            Ok(entry) if filter.matches(&entry) => step.entries.push(entry),
                            Ok(_) => {}
                            Err(_) => step.damaged += 1,
                        }
                    }
                }
                step.place.offset += used as u64;
                read += used as u64;
            }
            if enough {
                // A line that is being written does not count.
                step.left = left(&segments, step.place);
                break;
            }
        }
        Ok(step)
    }

    fn lines_at(
        &self,
        segment: &Segment,
        offsets: &[u64],
        story: &mut Vec<Entry>,
    ) -> io::Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let file = gone_is_empty(File::open(&segment.path).map(Some), || None)?;
        let Some(file) = file else {
            return Ok(());
        };
        for offset in offsets {
            let mut line = vec![0; 16 << 10];
            let mut length = fill(&file, &mut line, *offset)?;
            if !line.get(..length).unwrap_or_default().contains(&b'\n') {
                line.resize(CHUNK, 0);
                length = fill(&file, &mut line, *offset)?;
            }
            let text = line.get(..length).unwrap_or_default();
            let first = text.split_inclusive(is_end).next().unwrap_or_default();
            // A damaged line says nothing; the others do.
            story.extend(serde_json::from_slice::<Entry>(first));
        }
        Ok(())
    }

    fn lines_of(&self, segment: &Segment, id: QueueId, story: &mut Vec<Entry>) -> io::Result<()> {
        let filter = Filter {
            id: Some(id),
            ..Filter::default()
        };
        let sieve = filter.sieve();
        let Some(file) = gone_is_empty(File::open(&segment.path).map(Some), || None)? else {
            return Ok(());
        };
        let mut offset = 0;
        loop {
            let chunk = chunk_at(&file, offset)?;
            let Some(whole) = whole_lines(&chunk) else {
                return Ok(());
            };
            let lines = chunk
                .get(..whole)
                .unwrap_or_default()
                .split_inclusive(is_end);
            let found = lines
                .filter(|line| sieve.may_match(line))
                .filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
            story.extend(found.filter(|entry| filter.matches(entry)));
            offset += whole as u64;
        }
    }
}

/// A segment may be removed while it is looked for.
fn gone_is_empty<T>(found: io::Result<T>, empty: impl FnOnce() -> T) -> io::Result<T> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(empty()),
        other => other,
    }
}

fn is_end(byte: &u8) -> bool {
    *byte == b'\n'
}

fn chunk_at(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let length = fill(file, &mut chunk, offset)?;
    chunk.truncate(length);
    Ok(chunk)
}

fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Up to the end of the last whole line; a chunk full of something without lines counts as one.
/// None: there is no whole line yet.
fn whole_lines(chunk: &[u8]) -> Option<usize> {
    match memchr::memrchr(b'\n', chunk) {
        Some(last) => Some(last + 1),
        None if chunk.len() == CHUNK => Some(CHUNK),
        None => None,
    }
}

/// Bytes behind a place.
fn left(segments: &[Segment], place: Place) -> u64 {
    let behind = segments.iter().filter(|s| s.number >= place.segment);
    behind
        .map(|segment| {
            let bytes = segment.path.metadata().map_or(0, |file| file.len());
            match segment.number == place.segment {
                true => bytes.saturating_sub(place.offset),
                false => bytes,
            }
        })
        .sum()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let numbers = text
            .split_once(':')
            .and_then(|(segment, offset)| Some((segment.parse().ok()?, offset.parse().ok()?)));
        match numbers {
            Some((segment, offset)) => Ok(Place { segment, offset }),
            None => Err(format!(
                "{text:?} is no place in the history; give back what the answer before gave"
            )),
        }
    }
}
