//! Segments: the files of the journal, and how one is read back.
//!
//! A segment begins with a header of 32 bytes: magic `rlyS`, version, 3 zeros, its number (u32), its
//! salt (u32), the highest id given before it (u64), where the records of the segment before it end
//! (u32; 0: not said), crc32c of these 28. It lies at 0 and again at 2048, since without it no record
//! could be read. Records follow from 4096 on without gaps; behind the last one are zeros
//! (preallocated), the footer, or the end of the file.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use relay_smtp::QueueId;

use crate::device::{Device, write_all, write_bytes};
use crate::footer;
use crate::gather::Gather;
use crate::record::{self, Bad, MAGIC, Place, Record, Stamp};
use crate::sparse;

/// Where the first record lies.
pub(crate) const FIRST_RECORD: u32 = 4096;
pub(crate) const HEADER_BYTES: usize = 32;
const SECOND_HEADER: usize = 2048;
const SEGMENT_MAGIC: [u8; 4] = *b"rlyS";
const SEGMENT_VERSION: u8 = 1;

/// What a segment's header says of all that came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// The highest id that was given.
    pub(crate) highest: Option<QueueId>,
    /// Where the records of the segment before this one end: what lies behind them there, a torn
    /// footer, say, is none of them.
    pub(crate) end: Option<u32>,
}

/// A segment that is written to, or will be next.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    device: Arc<dyn Device>,
    pub(crate) stamp: Stamp,
    /// Where the next write begins.
    pub(crate) end: u32,
    /// Bytes that the file has room for.
    pub(crate) size: u32,
}

impl Segment {
    /// Makes a segment of `size` bytes. File and directory are on disk before it is used: a later
    /// fdatasync of its records then suffices.
    pub(crate) fn create(
        device: &Arc<dyn Device>,
        directory: &Path,
        number: u32,
        size: u32,
        before: Before,
    ) -> io::Result<Segment> {
        let path = path(directory, number);
        let stamp = Stamp {
            segment: number,
            salt: draw_salt(),
        };
        let file = device.create(&path)?;
        let segment = Segment {
            file,
            device: device.clone(),
            stamp,
            end: FIRST_RECORD,
            size,
        };
        let made = (device.preallocate(&segment.file, u64::from(size)))
            .and_then(|()| segment.write_headers(before))
            .and_then(|()| device.sync_all(&segment.file))
            .and_then(|()| device.sync_directory(directory));
        match made {
            Ok(()) => Ok(segment),
            Err(error) => {
                // Half a segment helps nobody, and on a full disk its blocks are wanted back.
                let _ = device.remove(&path);
                Err(error)
            }
        }
    }

    /// Takes a segment that was made ahead into use, with room for `size` bytes. The headers say now
    /// what came before; the sync of the first record makes them last.
    pub(crate) fn begin(&mut self, size: u32, before: Before) -> io::Result<()> {
        if size > self.size {
            self.device.preallocate(&self.file, u64::from(size))?;
            self.device.sync_all(&self.file)?;
            self.size = size;
        }
        self.write_headers(before)
    }

    fn write_headers(&self, before: Before) -> io::Result<()> {
        let header = header(self.stamp, before);
        write_bytes(&*self.device, &self.file, &header, 0)?;
        write_bytes(&*self.device, &self.file, &header, SECOND_HEADER as u64)
    }

    pub(crate) fn room(&self) -> usize {
        self.size.saturating_sub(self.end) as usize
    }

    pub(crate) fn write(&self, write: &Gather) -> io::Result<()> {
        let end = u64::from(self.end);
        write_all(&*self.device, &self.file, &mut write.slices(), end)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.device.sync(&self.file)
    }

    /// Ends it: no record follows. It does without a footer if that cannot be written. Synced, so that a torn
    /// footer, or what is left of one that a full disk did not take, is never followed by records in the next segment:
    /// it would look like damage then.
    pub(crate) fn seal(&self, footer: Option<&[u8]>) -> io::Result<()> {
        let Some(footer) = footer else {
            return self.trim();
        };
        let at = u64::from(self.end);
        match write_bytes(&*self.device, &self.file, footer, at) {
            Ok(()) => (self.device).truncate(&self.file, at + footer.len() as u64)?,
            Err(_) => self.trim()?,
        }
        self.sync()
    }

    /// Cuts off what was preallocated and not used, or half written and never promised.
    pub(crate) fn trim(&self) -> io::Result<()> {
        self.device.truncate(&self.file, u64::from(self.end))
    }
}

fn header(stamp: Stamp, before: Before) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&SEGMENT_MAGIC);
    bytes[4] = SEGMENT_VERSION;
    bytes[8..12].copy_from_slice(&stamp.segment.to_le_bytes());
    bytes[12..16].copy_from_slice(&stamp.salt.to_le_bytes());
    let highest = before.highest.map_or(0, QueueId::to_u64);
    bytes[16..24].copy_from_slice(&highest.to_le_bytes());
    bytes[24..28].copy_from_slice(&before.end.unwrap_or(0).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What stands in the headers of a segment that begins with `bytes`: in the first one that is sound.
pub(crate) fn read_headers(bytes: &[u8], number: u32) -> Option<(Stamp, Before)> {
    let read_at = |at: usize| read_header(bytes.get(at..)?.first_chunk()?, number);
    read_at(0).or_else(|| read_at(SECOND_HEADER))
}

fn read_header(bytes: &[u8; HEADER_BYTES], number: u32) -> Option<(Stamp, Before)> {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let word = |at: usize| u32::from_le_bytes(four(at));
    let sound = bytes[..4] == SEGMENT_MAGIC
        && bytes[4] == SEGMENT_VERSION
        && word(8) == number
        && word(28) == crc32c::crc32c(&bytes[..28]);
    let highest = u64::from(word(16)) | u64::from(word(20)) << 32;
    let stamp = Stamp {
        segment: number,
        salt: word(12),
    };
    let before = Before {
        highest: (highest != 0).then(|| QueueId::from_u64(highest)),
        end: Some(word(24)).filter(|&end| end != 0),
    };
    sound.then_some((stamp, before))
}

/// std seeds its hash maps from the kernel: random enough to be unknown to a sender.
fn draw_salt() -> u32 {
    let number = std::hash::RandomState::new().build_hasher().finish();
    (number ^ (number >> 32)) as u32
}

pub(crate) fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("seg-{number:010}"))
}

/// The numbers of the segments, rising.
pub(crate) fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("seg-"));
        numbers.extend(number.and_then(|n| n.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads a body that lies at `offset` of its segment. None: the segment has gone, so the message has.
pub(crate) fn read_body(directory: &Path, place: Place, offset: u32) -> io::Result<Option<Bytes>> {
    let file = match File::open(path(directory, place.segment)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut body = vec![0; place.bytes as usize];
    file.read_exact_at(&mut body, u64::from(offset))?;
    if crc32c::crc32c(&body) != place.crc {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the body at byte {offset} of journal segment {} is damaged (checksum)",
                place.segment
            ),
        ));
    }
    Ok(Some(Bytes::from(body)))
}

/// Reads the record at `offset` of its segment. None: there is none that can be read.
pub(crate) fn read_record(
    directory: &Path,
    stamp: Stamp,
    offset: u32,
) -> io::Result<Option<Record>> {
    let file = File::open(path(directory, stamp.segment))?;
    let at = u64::from(offset);
    let mut bytes = vec![0; record::HEADER_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    let rest = file.metadata()?.len().saturating_sub(at);
    let Some(length) = record::stated_len(&bytes, stamp).filter(|len| *len as u64 <= rest) else {
        return Ok(None);
    };
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, at)?;
    Ok(record::read(&bytes, stamp, offset).ok())
}

/// A segment read whole, for recovery; without its footer.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) stamp: Stamp,
    pub(crate) highest: Option<QueueId>,
    bytes: Vec<u8>,
    seal: Seal,
}

/// Whether a segment is known to have been ended, so that all in it was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    Sealed,
    Unknown,
}

/// A segment without a sound header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headless {
    /// It was being made: nothing was ever promised in it.
    Empty,
    /// Damaged in both places.
    WithRecords,
}

/// What lies at a place of a segment.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, handed on at once"
)]
pub(crate) enum Item<'a> {
    Record {
        record: Record,
        offset: u32,
    },
    /// No record can be read here.
    Damage {
        bytes: &'a [u8],
        offset: u32,
        reason: Bad,
    },
}

impl Image {
    /// Reads the file of a segment, sound or not.
    pub(crate) fn read(directory: &Path, number: u32) -> io::Result<Result<Image, Headless>> {
        let mut bytes = sparse::read(&path(directory, number))?;
        match read_headers(&bytes, number) {
            Some((stamp, before)) => {
                let whole = bytes.get(..written(&bytes)).unwrap_or_default();
                let end = footer::begins_at(whole, stamp)
                    .or_else(|| end_in_successor(directory, number))
                    .filter(|&end| end as usize <= bytes.len());
                // A footer goes, torn or not.
                bytes.truncate(end.map_or(bytes.len(), |end| end as usize));
                Ok(Ok(Image {
                    stamp,
                    highest: before.highest,
                    bytes,
                    seal: end.map_or(Seal::Unknown, |_| Seal::Sealed),
                }))
            }
            None if bytes.get(FIRST_RECORD as usize..).is_none_or(is_zero) => {
                Ok(Err(Headless::Empty))
            }
            None => Ok(Err(Headless::WithRecords)),
        }
    }

    /// Without what lies from `end` on.
    pub(crate) fn upto(mut self, end: u32) -> Image {
        self.bytes.truncate(end as usize);
        self
    }

    /// Everything from `from` on, until only zeros follow.
    pub(crate) fn items(&self, from: u32) -> Items<'_> {
        Items {
            image: self,
            at: from as usize,
        }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Where the promised part of the unsealed segment ends.
    ///
    /// Each record says where its write began, and a write begins only after the one before it was
    /// synced. So everything before the start of the last write was promised and is kept, damaged
    /// or not; in the last write itself the first bad byte ends it: a power cut tore it, nobody was
    /// told 250, and the records behind it (pages reach the disk in any order) were not promised either.
    /// `known`: up to here the index has it, so it was promised.
    pub(crate) fn promised_end(&self, known: u32) -> u32 {
        match self.seal {
            Seal::Sealed => return self.len(),
            Seal::Unknown => {}
        }
        let mut last_write = known.max(FIRST_RECORD);
        let mut end = last_write;
        let mut damage = Vec::new();
        for item in self.items(FIRST_RECORD) {
            match item {
                Item::Record { record, offset } => {
                    last_write = last_write.max(record.write_start.min(offset));
                    end = end.max(offset + record.len);
                }
                Item::Damage { offset, .. } => damage.push(offset),
            }
        }
        let torn = damage.into_iter().find(|&offset| offset >= last_write);
        torn.unwrap_or(end)
    }

    /// Whether nothing was ever written behind the header: it was made ahead and not used.
    pub(crate) fn is_unused(&self) -> bool {
        self.bytes.get(FIRST_RECORD as usize..).is_none_or(is_zero)
    }

    /// Bytes behind `end` that are not just preallocated.
    pub(crate) fn written_behind(&self, end: u32) -> u64 {
        let rest = self.bytes.get(end as usize..).unwrap_or_default();
        written(rest) as u64
    }
}

/// Where the records of a segment end, as the one after it says. Once that one has a record of its own it
/// knows: before, it may have been given up, and the earlier one gone on.
fn end_in_successor(directory: &Path, number: u32) -> Option<u32> {
    let next = number.checked_add(1)?;
    let file = File::open(path(directory, next)).ok()?;
    let mut bytes = vec![0; FIRST_RECORD as usize + record::HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (stamp, before) = read_headers(&bytes, next)?;
    let first = bytes.get(FIRST_RECORD as usize..)?;
    record::stated_len(first, stamp).and(before.end)
}

/// Walks over a segment. After damage it goes on at the next sound record.
pub(crate) struct Items<'a> {
    image: &'a Image,
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let image: &'a Image = self.image;
        let rest = image.bytes.get(self.at..)?;
        let offset = self.at as u32;
        match record::read(rest, image.stamp, offset) {
            Ok(record) => {
                self.at += record.len as usize;
                Some(Item::Record { record, offset })
            }
            Err(reason) => {
                // Zeros to the end: preallocated and never written.
                let written = written(rest);
                if written == 0 {
                    self.at = image.bytes.len();
                    return None;
                }
                let bad = image.next_record(self.at).unwrap_or(self.at + written) - self.at;
                self.at += bad;
                Some(Item::Damage {
                    bytes: rest.get(..bad).unwrap_or(rest),
                    offset,
                    reason,
                })
            }
        }
    }
}

impl Image {
    /// The next sound record after the bad one at `bad`.
    fn next_record(&self, bad: usize) -> Option<usize> {
        let sound = |at: usize| {
            let rest = self.bytes.get(at..).unwrap_or_default();
            record::read(rest, self.stamp, at as u32).is_ok()
        };
        let rest = self.bytes.get(bad..)?;
        if let Some(behind) = record::stated_len(rest, self.stamp).map(|len| bad + len)
            && (sound(behind) || self.bytes.get(behind..).is_none_or(is_zero))
        {
            return (behind < self.bytes.len()).then_some(behind);
        }
        rest.windows(MAGIC.len())
            .enumerate()
            .skip(1)
            .filter(|(_, window)| *window == MAGIC)
            .map(|(distance, _)| bad + distance)
            .find(|&at| sound(at))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    written(bytes) == 0
}

/// Bytes up to the last one that is not zero. In blocks: a start reads a whole preallocated segment
/// several times, and one byte after the other takes seconds in a debug build.
fn written(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut rest = bytes;
    while let Some((before, last)) = rest.split_last_chunk::<4096>()
        && *last == ZEROS
    {
        rest = before;
    }
    rest.len() - rest.iter().rev().take_while(|&&b| b == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::SystemDevice;
    use crate::record::{Change, Encoded, Kind};

    fn progress(id: u64) -> Encoded {
        Encoded::settlement(QueueId::from_u64(id), &[], &[]).unwrap()
    }

    fn create(directory: &Path) -> Segment {
        let device: Arc<dyn Device> = Arc::new(SystemDevice);
        Segment::create(&device, directory, 1, 1 << 16, Before::default()).unwrap()
    }

    fn write(segment: &mut Segment, records: &[Encoded]) {
        let mut buffer = Gather::default();
        for record in records {
            record.add_to(&mut buffer, Kind::Progress, segment.stamp, segment.end);
        }
        segment.write(&buffer).unwrap();
        segment.sync().unwrap();
        segment.end += buffer.len() as u32;
    }

    fn ids(image: &Image) -> Vec<u64> {
        image
            .items(FIRST_RECORD)
            .filter_map(|item| match item {
                Item::Record { record, .. } => Some(record.change),
                Item::Damage { .. } => None,
            })
            .map(|change| match change {
                Change::Settled { id, .. } | Change::Rerouted { id, .. } => id.to_u64(),
                Change::Accepted(found) | Change::Carried(found, ..) => found.id.to_u64(),
            })
            .collect()
    }

    fn image(directory: &Path) -> Image {
        Image::read(directory, 1).unwrap().unwrap()
    }

    /// Three writes of two records each.
    fn three_writes() -> (tempfile::TempDir, Image, Vec<u32>) {
        let directory = tempfile::tempdir().unwrap();
        let mut segment = create(directory.path());
        let mut ends = vec![segment.end];
        for first in [1, 3, 5] {
            write(&mut segment, &[progress(first), progress(first + 1)]);
            ends.push(segment.end);
        }
        let image = image(directory.path());
        (directory, image, ends)
    }

    #[test]
    fn a_write_torn_at_any_byte_ends_there_and_everything_before_it_is_kept() {
        let (_directory, whole, ends) = three_writes();
        let half = ends[2] + (ends[3] - ends[2]) / 2;
        // A record whose missing bytes were zero is whole all the same.
        let lost = |from: u32, to: u32| {
            whole.bytes[from as usize..to as usize]
                .iter()
                .any(|&b| b != 0)
        };
        for torn in ends[2]..ends[3] {
            let mut image = Image {
                bytes: whole.bytes.clone(),
                ..whole
            };
            image.bytes[torn as usize..].fill(0);
            let expected = match (
                torn < half && lost(torn, half),
                lost(torn.max(half), ends[3]),
            ) {
                (true, _) => ends[2],
                (false, true) => half,
                (false, false) => ends[3],
            };
            assert_eq!(image.promised_end(FIRST_RECORD), expected, "torn at {torn}");
        }
    }

    #[test]
    fn pages_of_a_torn_write_that_came_through_out_of_order_are_not_taken() {
        let (_directory, mut image, ends) = three_writes();
        image.bytes[ends[2] as usize + 3] ^= 1;
        assert_eq!(image.promised_end(FIRST_RECORD), ends[2]);
    }

    #[test]
    fn damage_before_the_last_write_is_not_taken_for_a_torn_tail() {
        let (_directory, mut image, ends) = three_writes();
        image.bytes[ends[1] as usize + 9] ^= 1;
        assert_eq!(image.promised_end(FIRST_RECORD), ends[3]);
        assert_eq!(ids(&image), [1, 2, 4, 5, 6]);
    }

    #[test]
    fn what_the_index_has_was_promised_whatever_the_journal_looks_like() {
        let (_directory, mut image, ends) = three_writes();
        image.bytes[ends[2] as usize + 3] ^= 1;
        assert_eq!(image.promised_end(ends[3]), ends[3]);
    }

    #[test]
    fn a_flipped_bit_anywhere_costs_at_most_its_record() {
        let (_directory, whole, ends) = three_writes();
        for at in ends[0]..ends[3] {
            let mut image = Image {
                bytes: whole.bytes.clone(),
                ..whole
            };
            image.bytes[at as usize] ^= 0x10;
            assert_eq!(ids(&image).len(), 5, "at {at}");
        }
    }

    #[test]
    fn a_body_that_looks_like_a_record_is_never_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let segment = create(directory.path());
        let elsewhere = Stamp {
            segment: 1,
            salt: segment.stamp.salt.wrapping_add(1),
        };
        let mut written = Gather::default();
        progress(1).add_to(&mut written, Kind::Progress, segment.stamp, segment.end);
        progress(666).add_to(&mut written, Kind::Finished, elsewhere, segment.end);
        progress(2).add_to(&mut written, Kind::Progress, segment.stamp, segment.end);
        let mut bytes = written.to_vec();
        bytes[0] ^= 1;
        let mut damaged = Gather::default();
        damaged.copy(&bytes);
        segment.write(&damaged).unwrap();
        assert_eq!(ids(&image(directory.path())), [2]);
    }

    #[test]
    fn a_damaged_header_is_read_from_its_second_place() {
        let (directory, mut whole, _) = three_writes();
        whole.bytes[20] ^= 1;
        std::fs::write(path(directory.path(), 1), &whole.bytes).unwrap();
        assert_eq!(ids(&image(directory.path())).len(), 6);
        whole.bytes[SECOND_HEADER] ^= 1;
        std::fs::write(path(directory.path(), 1), &whole.bytes).unwrap();
        let headless = Image::read(directory.path(), 1).unwrap().unwrap_err();
        assert_eq!(headless, Headless::WithRecords);
    }
}
