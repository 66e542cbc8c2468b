//! The files of the history: `0000000012-20261122T160005Z.ndjson`, numbered and named by the time of
//! its beginning, and beside it, once it is full, `0000000012.ids`, where its messages are found by id.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relay_smtp::QueueId;

const LINES: &str = "ndjson";
const IDS: &str = "ids";
/// Only relayd's user may read who wrote to whom.
const MODE: u32 = 0o600;

/// One file of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    /// When it was begun, to the second.
    pub begun: Timestamp,
    pub path: PathBuf,
}

impl Segment {
    pub fn new(dir: &Path, number: u64, begun: Timestamp) -> Segment {
        let begun_text = begun.strftime("%Y%m%dT%H%M%SZ");
        Segment {
            number,
            begun,
            path: dir.join(format!("{number:010}-{begun_text}.{LINES}")),
        }
    }

    fn of(path: PathBuf) -> Option<Segment> {
        let name = path.file_name()?.to_str()?;
        let (number, begun) = name
            .strip_suffix(LINES)?
            .strip_suffix('.')?
            .split_once('-')?;
        let begun = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", begun).ok()?;
        let begun = begun.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Segment {
            number: number.parse().ok()?,
            begun,
            path,
        })
    }

    /// All of a directory, oldest first; files of other names are left alone.
    pub fn all(dir: &Path) -> io::Result<Vec<Segment>> {
        let mut found = Vec::new();
        for file in fs::read_dir(dir)? {
            found.extend(Segment::of(file?.path()));
        }
        found.sort_by_key(|segment| segment.number);
        Ok(found)
    }

    pub fn ids_path(&self) -> PathBuf {
        self.path
            .with_file_name(format!("{:010}.{IDS}", self.number))
    }

    /// With its list of ids.
    pub fn bytes(&self) -> u64 {
        [&self.path, &self.ids_path()]
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|file| file.len())
            .sum()
    }

    /// The lines first: a list without lines is harmless.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        match fs::remove_file(self.ids_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub fn create(&self) -> io::Result<File> {
        private(File::options().append(true).create_new(true)).open(&self.path)
    }

    /// Writes the list of ids. The segment is full from now on.
    pub fn seal(&self, mut ids: Vec<(QueueId, u32)>, bytes: u64) -> io::Result<()> {
        ids.sort_unstable();
        ids.dedup();
        let mut text = Vec::with_capacity(HEADER + ids.len() * ROW);
        text.extend_from_slice(MAGIC);
        text.extend_from_slice(&bytes.to_le_bytes());
        for (id, offset) in ids {
            text.extend_from_slice(&id.to_u64().to_le_bytes());
            text.extend_from_slice(&offset.to_le_bytes());
        }
        let path = self.ids_path();
        let unfinished = path.with_extension("ids-unfinished");
        let mut file =
            private(File::options().write(true).create(true).truncate(true)).open(&unfinished)?;
        file.write_all(&text)?;
        fs::rename(unfinished, path)
    }

    /// The offsets of a message's lines. None: there is no list, or it does not fit the lines, and
    /// they must be read.
    pub fn offsets(&self, id: QueueId) -> io::Result<Option<Vec<u64>>> {
        let list = match File::open(self.ids_path()) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = list.metadata()?.len();
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Ok(None);
        }
        list.read_exact_at(&mut header, 0)?;
        let rows = (length - HEADER as u64) / ROW as u64;
        let whole = length == HEADER as u64 + rows * ROW as u64;
        let described = header.get(MAGIC.len()..).unwrap_or_default();
        if !header.starts_with(MAGIC)
            || !whole
            || described != fs::metadata(&self.path)?.len().to_le_bytes()
        {
            return Ok(None);
        }
        let row = |place: u64| -> io::Result<(u64, u32)> {
            let mut row = [0; ROW];
            list.read_exact_at(&mut row, HEADER as u64 + place * ROW as u64)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = row;
            Ok((
                u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                u32::from_le_bytes([i, j, k, l]),
            ))
        };
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if row(middle)?.0 < id.to_u64() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut offsets = Vec::new();
        while low < rows {
            let (found, offset) = row(low)?;
            if found != id.to_u64() {
                break;
            }
            offsets.push(u64::from(offset));
            low += 1;
        }
        Ok(Some(offsets))
    }
}

fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options.mode(MODE)
}

const MAGIC: &[u8; 8] = b"rlyIDS1\n";
const HEADER: usize = 16;
/// An id and an offset.
const ROW: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> QueueId {
        QueueId::from_u64(number)
    }

    #[test]
    fn a_segment_is_known_by_its_name_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let begun: Timestamp = "2026-11-22T16:00:05Z".parse().unwrap();
        let segment = Segment::new(dir.path(), 12, begun);
        segment.create().unwrap();
        for other in ["notes.txt", "x-20261122T160005Z.ndjson", "0000000012.ids"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(Segment::all(dir.path()).unwrap(), [segment]);
    }

    #[test]
    fn the_list_finds_every_line_of_a_message_and_a_list_that_does_not_fit_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let segment = Segment::new(dir.path(), 1, Timestamp::UNIX_EPOCH);
        fs::write(&segment.path, "0123456789").unwrap();
        assert_eq!(segment.offsets(id(5)).unwrap(), None);
        let mut ids: Vec<_> = (0..1000).rev().map(|n| (id(n * 2), n as u32)).collect();
        ids.push((id(10), 4_000));
        segment.seal(ids, 10).unwrap();
        assert_eq!(segment.offsets(id(10)).unwrap(), Some(vec![5, 4_000]));
        for (number, offset) in [(0, 0), (1998, 999)] {
            assert_eq!(segment.offsets(id(number)).unwrap(), Some(vec![offset]));
        }
        for absent in [3, 1999, 5000] {
            assert_eq!(segment.offsets(id(absent)).unwrap(), Some(vec![]));
        }
        fs::write(&segment.path, "01234567890").unwrap();
        assert_eq!(segment.offsets(id(10)).unwrap(), None);
        fs::write(segment.ids_path(), "torn").unwrap();
        assert_eq!(segment.offsets(id(10)).unwrap(), None);
    }
}
