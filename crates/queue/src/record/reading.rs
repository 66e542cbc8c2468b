//! Reading a record back: from its own bytes, or from what a footer keeps of it.

use relay_smtp::{Envelope, QueueId};

use super::{
    Bare, Dsn, HEADER_BYTES, Head, Kind, MAGIC, Place, Spot, Stamp, TRAILER_BYTES, VERSION,
    from_postcard, from_postcard_and_more, number, payload_crc,
};
use crate::big::InFile;
use crate::message::{Arrival, Detours, RecipientChange, RecipientState, Way};

/// A record read back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) change: Change,
    /// Where the write began that this record was part of.
    pub(crate) write_start: u32,
    /// Bytes on disk.
    pub(crate) len: u32,
}

/// What a record did to the queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Accepted(Found),
    Settled {
        id: QueueId,
        changes: Vec<RecipientChange>,
        dsns: Vec<Found>,
    },
    /// All of it again, as it stood then.
    Carried(Found, Vec<RecipientState>, Detours),
    Rerouted {
        id: QueueId,
        ways: Vec<Way>,
    },
}

/// A message in the journal: its body stays where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) id: QueueId,
    pub(crate) envelope: Envelope,
    pub(crate) arrival: Arrival,
    pub(crate) place: Place,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    #[error("no record begins here")]
    Magic,
    #[error("record version {0} is newer than this relayd")]
    Version(u8),
    #[error("the header's checksum is wrong")]
    HeaderChecksum,
    #[error("kind {0} is unknown")]
    Kind(u8),
    #[error("the record is cut off")]
    Cut,
    #[error("the record's checksum is wrong")]
    Checksum,
    #[error("the record cannot be decoded")]
    Content,
}

/// Reads the record at the start of `bytes`, which lie at `offset` of the segment.
pub(crate) fn read(bytes: &[u8], stamp: Stamp, offset: u32) -> Result<Record, Bad> {
    let header = read_header(bytes, stamp.salt)?;
    let (head_len, body_len) = (header.head_len as usize, header.body_len as usize);
    let body_start = HEADER_BYTES.checked_add(head_len).ok_or(Bad::Cut)?;
    let body_end = body_start.checked_add(body_len).ok_or(Bad::Cut)?;
    let head = bytes.get(HEADER_BYTES..body_start).ok_or(Bad::Cut)?;
    let body = bytes.get(body_start..body_end).ok_or(Bad::Cut)?;
    let crc = number(bytes, body_end).ok_or(Bad::Cut)?;
    if crc != crc32c::crc32c_append(payload_crc(header.id, head), body) {
        return Err(Bad::Checksum);
    }
    let body_at = offset.checked_add(body_start as u32).ok_or(Bad::Content)?;
    let bodies = Bodies::Read(body);
    let change = read_change(header.kind, header.id, head, bodies, stamp.segment, body_at)
        .ok_or(Bad::Content)?;
    Ok(Record {
        change,
        write_start: header.write_start,
        len: (body_end + TRAILER_BYTES) as u32,
    })
}

/// How many bytes a record says it has, where its header is sound: damage behind the header need
/// not be searched.
pub(crate) fn stated_len(bytes: &[u8], stamp: Stamp) -> Option<usize> {
    let header = read_header(bytes, stamp.salt).ok()?;
    HEADER_BYTES
        .checked_add(header.head_len as usize)?
        .checked_add(header.body_len as usize)?
        .checked_add(TRAILER_BYTES)
}

struct Header {
    kind: Kind,
    id: QueueId,
    head_len: u32,
    body_len: u32,
    write_start: u32,
}

fn read_header(bytes: &[u8], salt: u32) -> Result<Header, Bad> {
    let header = bytes.get(..HEADER_BYTES).ok_or(Bad::Cut)?;
    if header.get(..4) != Some(&MAGIC[..]) {
        return Err(Bad::Magic);
    }
    if number(header, 28) != header.get(..28).map(|h| crc32c::crc32c_append(salt, h)) {
        return Err(Bad::HeaderChecksum);
    }
    let (&version, &kind) = header.get(4).zip(header.get(5)).ok_or(Bad::Cut)?;
    if version > VERSION {
        return Err(Bad::Version(version));
    }
    let read = Kind::read(kind).filter(|kind| kind.version() <= version);
    let (low, high) = number(header, 8).zip(number(header, 12)).ok_or(Bad::Cut)?;
    Ok(Header {
        kind: read.ok_or(Bad::Kind(kind))?,
        id: QueueId::from_u64(u64::from(low) | u64::from(high) << 32),
        head_len: number(header, 16).ok_or(Bad::Cut)?,
        body_len: number(header, 20).ok_or(Bad::Cut)?,
        write_start: number(header, 24).ok_or(Bad::Cut)?,
    })
}

/// The bodies of a record.
enum Bodies<'a> {
    /// As they lie there, one after the other.
    Read(&'a [u8]),
    /// Not read.
    Known { bytes: u32, sums: &'a [u32] },
}

impl Bodies<'_> {
    fn bytes(&self) -> u32 {
        match self {
            Bodies::Read(bytes) => bytes.len() as u32,
            Bodies::Known { bytes, .. } => *bytes,
        }
    }

    /// crc32c of the `nth` body; it begins at `start` of them all, and the next one at `end`.
    fn sum(&self, nth: usize, start: u32, end: u32) -> Option<u32> {
        match self {
            Bodies::Read(bytes) => {
                let body = bytes.get(start as usize..end as usize)?;
                Some(crc32c::crc32c(body))
            }
            Bodies::Known { bytes, sums } => sums.get(nth).copied().filter(|_| end <= *bytes),
        }
    }

    /// Where it lies, with all of them at `at`.
    fn place(&self, nth: usize, start: u32, end: u32, segment: u32, at: u32) -> Option<Place> {
        Some(Place {
            segment,
            spot: Spot::At(at.checked_add(start)?),
            bytes: end.checked_sub(start)?,
            crc: self.sum(nth, start, end)?,
        })
    }
}

fn read_change(
    kind: Kind,
    id: QueueId,
    head: &[u8],
    bodies: Bodies<'_>,
    segment: u32,
    body_at: u32,
) -> Option<Change> {
    let whole = || bodies.place(0, 0, bodies.bytes(), segment, body_at);
    match kind {
        Kind::Accepted => Some(Change::Accepted(found(id, from_postcard(head)?, whole()?))),
        Kind::Carried => {
            let (head, recipients, detours) = read_carried(head)?;
            Some(Change::Carried(
                found(id, head, whole()?),
                recipients,
                detours,
            ))
        }
        Kind::AcceptedBig => {
            let (in_file, head): (InFile, Head) = from_postcard(head)?;
            Some(Change::Accepted(found(id, head, in_file.place(segment))))
        }
        Kind::CarriedBig => {
            let (in_file, head): (InFile, _) = postcard::take_from_bytes(head).ok()?;
            let (head, recipients, detours) = read_carried(head)?;
            let found = found(id, head, in_file.place(segment));
            Some(Change::Carried(found, recipients, detours))
        }
        Kind::Rerouted => Some(Change::Rerouted {
            id,
            ways: from_postcard(head)?,
        }),
        Kind::Progress | Kind::Finished => Some(Change::Settled {
            id,
            changes: from_postcard(head)?,
            dsns: Vec::new(),
        }),
        Kind::ProgressWithDsns | Kind::FinishedWithDsns => {
            let (changes, heads): (Vec<RecipientChange>, Vec<Dsn>) = from_postcard(head)?;
            let mut dsns = Vec::with_capacity(heads.len());
            let mut start = 0u32;
            for (nth, dsn) in heads.into_iter().enumerate() {
                let end = start.checked_add(dsn.body_bytes)?;
                let place = bodies.place(nth, start, end, segment, body_at)?;
                dsns.push(found(dsn.id, dsn.head, place));
                start = end;
            }
            Some(Change::Settled { id, changes, dsns })
        }
    }
}

fn read_carried(head: &[u8]) -> Option<(Head, Vec<RecipientState>, Detours)> {
    let ((head, recipients), detours): ((Head, Vec<RecipientState>), Detours) =
        from_postcard_and_more(head)?;
    (recipients.len() == head.envelope.recipients.len()).then_some((head, recipients, detours))
}

fn found(id: QueueId, head: Head, place: Place) -> Found {
    Found {
        id,
        envelope: head.envelope,
        arrival: head.arrival,
        place,
    }
}

impl Bare<'_> {
    /// What the record at `offset` of the segment did, and how many bytes it has there.
    pub(crate) fn read(&self, segment: u32, offset: u32) -> Option<(Change, u32)> {
        let body_at = u32::try_from(HEADER_BYTES + self.head.len()).ok()?;
        let len = body_at.checked_add(self.body_bytes)?;
        let len = len.checked_add(TRAILER_BYTES as u32)?;
        let body_at = offset.checked_add(body_at)?;
        let bodies = Bodies::Known {
            bytes: self.body_bytes,
            sums: &self.sums,
        };
        let change = read_change(self.kind, self.id, self.head, bodies, segment, body_at)?;
        Some((change, len))
    }
}
