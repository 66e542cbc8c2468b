//! What is done to a file, and which messages have bytes there. The journal is read by a reader of its own, after
//! docs/queue.md: the queue's own would make the same mistakes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;
use relay_smtp::QueueId;

use crate::messages::files;
use crate::scene::{Moment, Scene, copy};

/// Which file was harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Segment,
    NewestSegment,
    Index,
    Big,
    Current,
    Version,
    /// Lock, ballast.
    Rest,
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    Flip {
        at: usize,
        bit: u8,
    },
    /// A run of other bytes.
    Overwrite {
        from: usize,
        to: usize,
    },
    Cut {
        at: usize,
    },
    Remove,
}

/// One damage.
pub struct Harm {
    pub part: Part,
    file: PathBuf,
    how: How,
    /// Messages of which a record or the body was harmed.
    pub touched: BTreeSet<QueueId>,
    /// Nobody can tell it from a write that a power cut tore, or that never was.
    pub like_a_torn_write: bool,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.file.display(), self.how)
    }
}

/// Harms a copy. Parts come in turn, the rest is drawn.
pub fn some(scene: &Scene, turn: usize, rng: &mut StdRng) -> (tempfile::TempDir, Harm) {
    let parts = parts(scene.directory.path());
    let all: Vec<_> = parts.keys().copied().collect();
    let part = all[turn % all.len()];
    let files = &parts[&part];
    let file = files[rng.random_range(0..files.len())].clone();
    let bytes = fs::read(scene.directory.path().join(&file)).unwrap();
    let how = how(&bytes, rng);
    let damaged = copy(scene.directory.path());
    harm(&damaged.path().join(&file), &bytes, how);
    let (touched, like_a_torn_write) = match part {
        Part::Segment => (touched(scene, &bytes, how), false),
        Part::NewestSegment => (
            touched(scene, &bytes, how),
            scene.moment == Moment::Working && is_at_the_end(&bytes, how),
        ),
        Part::Big => {
            let name = file.file_name().unwrap().to_str().unwrap();
            (BTreeSet::from([name.parse().unwrap()]), false)
        }
        Part::Index | Part::Current | Part::Version | Part::Rest => (BTreeSet::new(), false),
    };
    let harm = Harm {
        part,
        file,
        how,
        touched,
        like_a_torn_write,
    };
    (damaged, harm)
}

/// All files, below the directory.
fn parts(directory: &Path) -> BTreeMap<Part, Vec<PathBuf>> {
    let mut parts: BTreeMap<Part, Vec<PathBuf>> = BTreeMap::new();
    // One that was made ahead and is not used yet is none.
    let segments = files(&directory.join("journal"));
    let used = |path: &&PathBuf| !records(&fs::read(path).unwrap()).is_empty();
    let newest = segments.iter().rev().find(used).cloned();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(files(&path));
            continue;
        }
        let below = path.strip_prefix(directory).unwrap().to_owned();
        let first = below.iter().next().unwrap().to_str().unwrap();
        let part = match first {
            "journal" if Some(&path) == newest.as_ref() => Part::NewestSegment,
            "journal" => Part::Segment,
            "big" => Part::Big,
            "CURRENT" => Part::Current,
            "VERSION" => Part::Version,
            index if index.starts_with("index-") => Part::Index,
            _ => Part::Rest,
        };
        parts.entry(part).or_default().push(below);
    }
    parts
}

fn how(bytes: &[u8], rng: &mut StdRng) -> How {
    // Behind the last byte that is not zero there is only space taken beforehand.
    let used = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
    let at = match rng.random_range(0..6) {
        // The headers.
        0 => rng.random_range(0..used.clamp(1, 4096)),
        _ => rng.random_range(0..used.max(1)),
    };
    match rng.random_range(0..8) {
        _ if bytes.is_empty() => How::Remove,
        0..3 => How::Flip {
            at,
            bit: rng.random_range(0..8),
        },
        3 | 4 => How::Overwrite {
            from: at,
            to: (at + rng.random_range(1..3000)).min(used.max(1)),
        },
        5 => How::Cut { at },
        6 => How::Cut { at: 0 },
        _ => How::Remove,
    }
}

fn harm(path: &Path, bytes: &[u8], how: How) {
    let mut bytes = bytes.to_vec();
    match how {
        How::Flip { at, bit } => bytes[at] ^= 1 << bit,
        How::Overwrite { from, to } => bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a),
        How::Cut { at } => bytes.truncate(at),
        How::Remove => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// From where to where the file is not what it was.
fn range(bytes: &[u8], how: How) -> std::ops::Range<usize> {
    match how {
        How::Flip { at, .. } => at..at + 1,
        How::Overwrite { from, to } => from..to,
        How::Cut { at } => at..bytes.len(),
        How::Remove => 0..bytes.len(),
    }
}

/// A record's place and the message it is about.
struct Record {
    from: usize,
    to: usize,
    id: QueueId,
}

fn records(bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut from = 4096;
    while bytes.get(from..from + 4) == Some(b"rlyJ") {
        let word = |at: usize| {
            let four = bytes[from + at..from + at + 4].try_into().unwrap();
            u32::from_le_bytes(four) as usize
        };
        let id = bytes[from + 8..from + 16].try_into().unwrap();
        let to = from + 32 + word(16) + word(20) + 4;
        let id = QueueId::from_u64(u64::from_le_bytes(id));
        records.push(Record { from, to, id });
        from = to;
    }
    records
}

fn touched(scene: &Scene, bytes: &[u8], how: How) -> BTreeSet<QueueId> {
    let range = range(bytes, how);
    // Without one of the two headers nothing in the segment can be told from what only looks like it.
    let headless = range.start < 32 && range.end > 2048;
    let hit = |record: &Record| headless || record.from < range.end && range.start < record.to;
    let records = records(bytes);
    let mut touched: BTreeSet<_> = records.iter().filter(|r| hit(r)).map(|r| r.id).collect();
    let reports = scene.reports.iter();
    let reports = reports.filter(|(_, original)| touched.contains(original));
    let reports: Vec<_> = reports.map(|(report, _)| *report).collect();
    touched.extend(reports);
    touched
}

/// The last record is torn, or the file ends early.
fn is_at_the_end(bytes: &[u8], how: How) -> bool {
    match how {
        How::Cut { .. } | How::Remove => true,
        How::Flip { .. } | How::Overwrite { .. } => {
            let last = records(bytes).pop();
            last.is_none_or(|last| range(bytes, how).end > last.from)
        }
    }
}
