//! Footers: behind the last record of a sealed segment, all its records once more, without their bodies. So
//! what has to know only which messages there are reads no bodies.
//!
//! ```text
//! for each record, in their order, without gaps:
//!   0  id             u64
//!   8  head length    u32
//!  12  body length    u32
//!  16  bodies         u32: how many checksums follow the head
//!  20  kind           as in the record
//!  21  reserved       0, 0, 0
//!  24  head           as in the record
//!      checksums      crc32c of each body
//! at the end of the file:
//!   0  version        1
//!   1  reserved       0, 0, 0
//!   4  beginning      u32: where in the segment the footer begins, and the records end
//!   8  records        u32
//!  12  crc            crc32c of all before these 24 bytes, begun with the segment's salt
//!  16  end crc        crc32c of bytes 0..16 of the end, begun with the segment's salt
//!  20  magic          "rlyF"
//! ```
//!
//! It is a hint: where it is missing, torn or damaged, the records themselves are read.
//! A head in it has no magic of a record before it, so that a search for the next sound record in damaged
//! bytes does not take it for one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use relay_smtp::QueueId;

use crate::record::{Bare, HEADER_BYTES, Kind, Stamp, TRAILER_BYTES, number};
use crate::segment::{FIRST_RECORD, Segment, path, read_headers};

const MAGIC: [u8; 4] = *b"rlyF";
const VERSION: u8 = 1;
const ENTRY_BYTES: usize = 24;
const END_BYTES: usize = 24;

/// A footer that is being gathered.
#[derive(Debug)]
pub(crate) struct Footer {
    /// None: it has become too large.
    entries: Option<Vec<u8>>,
    records: u32,
    bytes_max: usize,
}

impl Footer {
    /// Of at most `bytes_max`; a larger one is given up.
    pub(crate) fn new(bytes_max: usize) -> Footer {
        Footer {
            entries: Some(Vec::new()),
            records: 0,
            bytes_max,
        }
    }

    /// The next record.
    pub(crate) fn add(&mut self, record: Bare<'_>) {
        let Some(entries) = &mut self.entries else {
            return;
        };
        let bytes = ENTRY_BYTES + record.head.len() + 4 * record.sums.len();
        if entries.len() + bytes + END_BYTES > self.bytes_max {
            self.entries = None;
            return;
        }
        entries.extend_from_slice(&record.id.to_u64().to_le_bytes());
        entries.extend_from_slice(&(record.head.len() as u32).to_le_bytes());
        entries.extend_from_slice(&record.body_bytes.to_le_bytes());
        entries.extend_from_slice(&(record.sums.len() as u32).to_le_bytes());
        entries.extend_from_slice(&[record.kind as u8, 0, 0, 0]);
        entries.extend_from_slice(record.head);
        for sum in &record.sums {
            entries.extend_from_slice(&sum.to_le_bytes());
        }
        self.records += 1;
    }

    /// What to write behind the last record of the segment, if it is worth it.
    pub(crate) fn finish(self, segment: &Segment) -> Option<Vec<u8>> {
        self.bytes(segment.stamp, segment.end)
    }

    fn bytes(self, stamp: Stamp, begin: u32) -> Option<Vec<u8>> {
        let mut bytes = self.entries?;
        let crc = crc32c::crc32c_append(stamp.salt, &bytes);
        let start = bytes.len();
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&begin.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        let end_crc = crc32c::crc32c_append(stamp.salt, bytes.get(start..)?);
        bytes.extend_from_slice(&end_crc.to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        Some(bytes)
    }
}

/// The end of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    begin: u32,
    records: u32,
    crc: u32,
}

impl End {
    /// Reads the last bytes of a segment's file.
    fn read(bytes: &[u8], stamp: Stamp) -> Option<End> {
        let bytes = bytes.last_chunk::<END_BYTES>()?;
        let crc = bytes
            .get(..16)
            .map(|b| crc32c::crc32c_append(stamp.salt, b));
        let sound =
            bytes.ends_with(&MAGIC) && bytes.first() == Some(&VERSION) && number(bytes, 16) == crc;
        let end = End {
            begin: number(bytes, 4)?,
            records: number(bytes, 8)?,
            crc: number(bytes, 12)?,
        };
        sound.then_some(end)
    }
}

/// Where the footer at the end of `segment` begins. Whether the rest of it is sound does not matter for that.
pub(crate) fn begins_at(segment: &[u8], stamp: Stamp) -> Option<u32> {
    End::read(segment, stamp).map(|end| end.begin)
}

/// What a sound footer says of its segment.
#[derive(Debug)]
pub(crate) struct Heads {
    stamp: Stamp,
    pub(crate) highest: Option<QueueId>,
    end: u32,
    entries: Vec<u8>,
}

impl Heads {
    /// None: there is none that could be used.
    pub(crate) fn read(directory: &Path, number: u32) -> io::Result<Option<Heads>> {
        let file = File::open(path(directory, number))?;
        let len = file.metadata()?.len();
        let mut front = vec![0; FIRST_RECORD as usize];
        let Some(last) = len.checked_sub(END_BYTES as u64) else {
            return Ok(None);
        };
        if last < front.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut front, 0)?;
        let Some((stamp, before)) = read_headers(&front, number) else {
            return Ok(None);
        };
        let mut end = [0; END_BYTES];
        file.read_exact_at(&mut end, last)?;
        let Some(end) = End::read(&end, stamp) else {
            return Ok(None);
        };
        let Some(bytes) = last.checked_sub(end.begin.into()) else {
            return Ok(None);
        };
        let mut entries = vec![0; bytes as usize];
        file.read_exact_at(&mut entries, end.begin.into())?;
        let heads = Heads {
            stamp,
            highest: before.highest,
            end: end.begin,
            entries,
        };
        Ok(heads.is_sound(end).then_some(heads))
    }

    /// The checksum, and whether the records that it tells of fill the segment.
    fn is_sound(&self, end: End) -> bool {
        let mut records = self.records();
        let counted = records.by_ref().count();
        crc32c::crc32c_append(self.stamp.salt, &self.entries) == end.crc
            && counted == end.records as usize
            && records.at == end.begin
            && records.rest.is_empty()
    }

    pub(crate) fn segment(&self) -> u32 {
        self.stamp.segment
    }

    /// Where the last record ends.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Where in the segment each record begins, and what it is.
    pub(crate) fn records(&self) -> Records<'_> {
        Records {
            rest: &self.entries,
            at: FIRST_RECORD,
        }
    }
}

/// Walks over a footer.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    at: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = (u32, Bare<'a>);

    fn next(&mut self) -> Option<(u32, Bare<'a>)> {
        let (record, rest) = read_entry(self.rest)?;
        let len = (HEADER_BYTES + TRAILER_BYTES + record.head.len()) as u64;
        let behind = u64::from(self.at) + len + u64::from(record.body_bytes);
        let at = std::mem::replace(&mut self.at, u32::try_from(behind).ok()?);
        self.rest = rest;
        Some((at, record))
    }
}

/// The first entry, and what lies behind it.
fn read_entry(bytes: &[u8]) -> Option<(Bare<'_>, &[u8])> {
    let (low, high) = number(bytes, 0).zip(number(bytes, 4))?;
    let head_end = ENTRY_BYTES.checked_add(number(bytes, 8)? as usize)?;
    let sums_bytes = (number(bytes, 16)? as usize).checked_mul(4)?;
    let end = head_end.checked_add(sums_bytes)?;
    let sums = bytes.get(head_end..end)?.chunks_exact(4);
    let record = Bare {
        kind: Kind::read(*bytes.get(20)?)?,
        id: QueueId::from_u64(u64::from(low) | u64::from(high) << 32),
        head: bytes.get(ENTRY_BYTES..head_end)?,
        body_bytes: number(bytes, 12)?,
        sums: sums.filter_map(|four| number(four, 0)).collect(),
    };
    Some((record, bytes.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        segment: 7,
        salt: 0x5eed,
    };

    fn record(head: &[u8]) -> Bare<'_> {
        Bare {
            kind: Kind::FinishedWithDsns,
            id: QueueId::from_u64(5),
            head,
            body_bytes: 11,
            sums: vec![0x0a0b_0c0d, 0x0102_0304],
        }
    }

    fn two_records(bytes_max: usize) -> Option<Vec<u8>> {
        let mut footer = Footer::new(bytes_max);
        footer.add(record(b"head"));
        footer.add(record(b""));
        footer.bytes(STAMP, 4096 + 2 * (36 + 11) + 4)
    }

    /// These bytes lie on disks. Where this fails, the footer's version has to rise: one of another version is
    /// not read.
    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let bytes = two_records(1000).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "0500000000000000040000000b0000000200000005000000686561640d0c0b0a04030201050000000000000000000000\
        0b00000002000000050000000d0c0b0a0403020101000000621000000200000012b261d1377d5817726c7946";

    fn heads(bytes: &[u8]) -> Option<Heads> {
        let end = End::read(bytes, STAMP)?;
        let heads = Heads {
            stamp: STAMP,
            highest: None,
            end: end.begin,
            entries: bytes
                .strip_suffix(bytes.last_chunk::<END_BYTES>()?)?
                .to_vec(),
        };
        heads.is_sound(end).then_some(heads)
    }

    #[test]
    fn what_went_in_comes_out_with_its_place_in_the_segment() {
        let heads = heads(&two_records(1000).unwrap()).unwrap();
        let records: Vec<_> = heads.records().collect();
        assert_eq!(
            records,
            [(4096, record(b"head")), (4096 + 36 + 4 + 11, record(b""))]
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_it_none() {
        let bytes = two_records(1000).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(heads(&bytes).is_none(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn of_another_segment_or_cut_off_it_is_none() {
        let bytes = two_records(1000).unwrap();
        let elsewhere = Stamp { salt: 1, ..STAMP };
        assert_eq!(begins_at(&bytes, STAMP), Some(4096 + 98));
        assert_eq!(begins_at(&bytes, elsewhere), None);
        for len in 0..bytes.len() {
            assert_eq!(begins_at(&bytes[..len], STAMP), None);
        }
    }

    #[test]
    fn one_that_would_be_too_large_is_given_up() {
        let bytes = two_records(1000).unwrap().len();
        assert!(two_records(bytes).is_some());
        assert_eq!(two_records(bytes - 1), None);
    }
}
