//! The record format of the journal: how one change of the queue lies on disk.
//!
//! ```text
//!  0  magic        "rlyJ"
//!  4  version      1
//!  5  kind         see Kind
//!  6  reserved     0, 0
//!  8  id           the message's, u64
//! 16  head length  u32
//! 20  body length  u32
//! 24  write start  u32: where in the segment the write began that this record was part of
//! 28  header crc   crc32c of bytes 0..28, begun with the segment's salt
//! 32  head         postcard, by kind
//!     body         as it came; in a record with DSNs their bodies, one after the other
//!     crc          crc32c of id, head and body
//! ```
//!
//! All numbers are little-endian. The write start tells recovery which records a sync had already
//! covered: a record at or after the last write's start may be torn, one before it was promised.
//! The salt keeps a mail whose body looks like a record from being taken for one when recovery
//! searches damaged bytes for the next record: no sender can know it.

use bytes::Bytes;
use relay_smtp::{Envelope, QueueId};

use crate::gather::Gather;
use crate::message::{Arrival, NewMessage, RecipientChange};

pub(crate) const MAGIC: [u8; 4] = *b"rlyJ";
pub(crate) const VERSION: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const TRAILER_BYTES: usize = 4;

/// The segment that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) segment: u32,
    /// Drawn when the segment is made.
    pub(crate) salt: u32,
}

/// What a record tells. The numbers are on disk: never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message with its body.
    Accepted = 1,
    /// New states of recipients.
    Progress = 2,
    /// The same; with it the message leaves the queue.
    Finished = 3,
    /// Progress, and the DSNs that it calls for.
    ProgressWithDsns = 4,
    /// Finished, and the DSNs that it calls for.
    FinishedWithDsns = 5,
}

impl Kind {
    fn read(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Accepted,
            2 => Kind::Progress,
            3 => Kind::Finished,
            4 => Kind::ProgressWithDsns,
            5 => Kind::FinishedWithDsns,
            _ => return None,
        })
    }
}

/// A record on its way to disk; kind and header are added when its place is known.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    id: QueueId,
    head: Vec<u8>,
    /// Each with its crc32c.
    bodies: Vec<(Bytes, u32)>,
    body_bytes: u32,
    /// Of id, head and bodies.
    crc: u32,
}

/// Where a body lies: what the index keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    /// First byte of the body in the segment.
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    /// crc32c of the body alone.
    pub(crate) crc: u32,
}

/// The head of [`Kind::Accepted`], and of each DSN in a settlement.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Head {
    envelope: Envelope,
    arrival: Arrival,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Dsn {
    id: QueueId,
    body_bytes: u32,
    head: Head,
}

/// A record is at most as large as a 32-bit length can say, with room for its frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} bytes does not fit into the journal; the limit is {MAX_BYTES}")]
pub(crate) struct TooLarge(usize);

/// 1 GiB: offsets in a segment stay within 32 bits.
pub(crate) const MAX_BYTES: usize = 1 << 30;

impl Encoded {
    pub(crate) fn accepted(new: &NewMessage) -> Result<Encoded, TooLarge> {
        let head = to_postcard(&Head {
            envelope: new.envelope.clone(),
            arrival: new.arrival.clone(),
        });
        Encoded::new(new.id, head, vec![new.body.clone()])
    }

    pub(crate) fn settlement(
        id: QueueId,
        changes: &[RecipientChange],
        dsns: &[NewMessage],
    ) -> Result<Encoded, TooLarge> {
        if dsns.is_empty() {
            return Encoded::new(id, to_postcard(&changes), Vec::new());
        }
        let heads: Vec<Dsn> = dsns
            .iter()
            .map(|dsn| Dsn {
                id: dsn.id,
                body_bytes: dsn.body.len() as u32,
                head: Head {
                    envelope: dsn.envelope.clone(),
                    arrival: dsn.arrival.clone(),
                },
            })
            .collect();
        let bodies = dsns.iter().map(|dsn| dsn.body.clone()).collect();
        Encoded::new(id, to_postcard(&(changes, heads)), bodies)
    }

    fn new(id: QueueId, head: Vec<u8>, bodies: Vec<Bytes>) -> Result<Encoded, TooLarge> {
        let body_bytes: usize = bodies.iter().map(Bytes::len).sum();
        let total = HEADER_BYTES + head.len() + body_bytes + TRAILER_BYTES;
        if total > MAX_BYTES {
            return Err(TooLarge(total));
        }
        let bodies: Vec<_> = bodies
            .into_iter()
            .map(|body| {
                let crc = crc32c::crc32c(&body);
                (body, crc)
            })
            .collect();
        // Combined, so that every byte is looked at once, and not on the commit thread.
        let crc = bodies
            .iter()
            .fold(payload_crc(id, &head), |crc, (body, of_body)| {
                crc32c::crc32c_combine(crc, *of_body, body.len())
            });
        Ok(Encoded {
            id,
            head,
            bodies,
            body_bytes: body_bytes as u32,
            crc,
        })
    }

    /// Bytes on disk.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.body_bytes as usize + TRAILER_BYTES
    }

    /// Adds the record to a write that begins at `write_start` of the segment, and tells where its
    /// bodies will lie.
    pub(crate) fn add_to(
        &self,
        write: &mut Gather,
        kind: Kind,
        stamp: Stamp,
        write_start: u32,
    ) -> Vec<Place> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&[VERSION, kind as u8, 0, 0]);
        header.extend_from_slice(&self.id.to_u64().to_le_bytes());
        header.extend_from_slice(&(self.head.len() as u32).to_le_bytes());
        header.extend_from_slice(&self.body_bytes.to_le_bytes());
        header.extend_from_slice(&write_start.to_le_bytes());
        let header_crc = crc32c::crc32c_append(stamp.salt, &header);
        header.extend_from_slice(&header_crc.to_le_bytes());
        write.copy(&header);
        write.copy(&self.head);
        let mut places = Vec::with_capacity(self.bodies.len());
        for (body, crc) in &self.bodies {
            places.push(Place {
                segment: stamp.segment,
                offset: write_start + write.len() as u32,
                bytes: body.len() as u32,
                crc: *crc,
            });
            write.add(body);
        }
        write.copy(&self.crc.to_le_bytes());
        places
    }
}

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
}

/// A message in the journal: its body stays there.
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
    let change = read_change(&header, head, body, stamp.segment, body_at).ok_or(Bad::Content)?;
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
    if version != VERSION {
        return Err(Bad::Version(version));
    }
    let (low, high) = number(header, 8).zip(number(header, 12)).ok_or(Bad::Cut)?;
    Ok(Header {
        kind: Kind::read(kind).ok_or(Bad::Kind(kind))?,
        id: QueueId::from_u64(u64::from(low) | u64::from(high) << 32),
        head_len: number(header, 16).ok_or(Bad::Cut)?,
        body_len: number(header, 20).ok_or(Bad::Cut)?,
        write_start: number(header, 24).ok_or(Bad::Cut)?,
    })
}

fn read_change(
    header: &Header,
    head: &[u8],
    body: &[u8],
    segment: u32,
    body_at: u32,
) -> Option<Change> {
    match header.kind {
        Kind::Accepted => {
            let head: Head = from_postcard(head)?;
            Some(Change::Accepted(found(
                header.id, head, body, segment, body_at,
            )))
        }
        Kind::Progress | Kind::Finished => Some(Change::Settled {
            id: header.id,
            changes: from_postcard(head)?,
            dsns: Vec::new(),
        }),
        Kind::ProgressWithDsns | Kind::FinishedWithDsns => {
            let (changes, heads): (Vec<RecipientChange>, Vec<Dsn>) = from_postcard(head)?;
            let mut dsns = Vec::with_capacity(heads.len());
            let mut start = 0usize;
            for dsn in heads {
                let end = start.checked_add(dsn.body_bytes as usize)?;
                let part = body.get(start..end)?;
                let at = body_at.checked_add(start as u32)?;
                dsns.push(found(dsn.id, dsn.head, part, segment, at));
                start = end;
            }
            Some(Change::Settled {
                id: header.id,
                changes,
                dsns,
            })
        }
    }
}

fn found(id: QueueId, head: Head, body: &[u8], segment: u32, offset: u32) -> Found {
    Found {
        id,
        envelope: head.envelope,
        arrival: head.arrival,
        place: Place {
            segment,
            offset,
            bytes: body.len() as u32,
            crc: crc32c::crc32c(body),
        },
    }
}

fn payload_crc(id: QueueId, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_u64().to_le_bytes()), head)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

pub(crate) fn to_postcard<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our own types always encode: no maps of unknown length")
}

/// None also where bytes are left over: then it was something else.
pub(crate) fn from_postcard<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Attempt, RecipientState, State};
    use jiff::Timestamp;
    use relay_smtp::{BodyType, Host, Mailbox, Phase, Recipient, ReversePath};

    const STAMP: Stamp = Stamp {
        segment: 7,
        salt: 0x5eed,
    };

    fn message(id: u64, body: &'static str) -> NewMessage {
        let address =
            |local: &str| Mailbox::new(local.to_owned(), Host::Address([192, 0, 2, 1].into()));
        NewMessage {
            id: QueueId::from_u64(id),
            envelope: Envelope {
                reverse_path: ReversePath::Mailbox(address("a")),
                recipients: vec![Recipient::plain(address("b"))],
                body_type: BodyType::EightBitMime,
                utf8: Default::default(),
                ret: None,
                envid: Some("x".to_owned()),
            },
            arrival: Arrival {
                at: Timestamp::from_millisecond(1_795_000_000_123).unwrap(),
                client: Some([127, 0, 0, 1].into()),
                user: Some("u".to_owned()),
                dsn_of: None,
            },
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn change() -> RecipientChange {
        let at = Timestamp::from_millisecond(1_795_000_000_456).unwrap();
        let mut state = RecipientState::new(at);
        state.state = State::Deferred;
        state.record(Attempt {
            at,
            host: Some("mx".to_owned()),
            tls: None,
            phase: Phase::Rcpt,
            reply: "451 4.7.1 later".to_owned(),
            category: "greylisted".to_owned(),
            action: "defer".to_owned(),
            rule: "greylist".to_owned(),
        });
        RecipientChange { index: 0, state }
    }

    fn bytes(kind: Kind, encoded: &Encoded) -> Vec<u8> {
        let mut write = Gather::default();
        encoded.add_to(&mut write, kind, STAMP, 4096);
        assert_eq!(write.len(), encoded.len());
        write.to_vec()
    }

    fn accepted() -> Vec<u8> {
        bytes(
            Kind::Accepted,
            &Encoded::accepted(&message(5, "body")).unwrap(),
        )
    }

    #[test]
    fn every_kind_is_read_back_as_it_was_written() {
        let new = message(5, "body");
        let record = read(&accepted(), STAMP, 4096).unwrap();
        let Change::Accepted(found) = record.change else {
            panic!("{record:?}")
        };
        assert_eq!((found.id, &found.envelope), (new.id, &new.envelope));
        assert_eq!(found.arrival, new.arrival);

        let dsns = [message(8, "first"), message(9, "second")];
        let encoded = Encoded::settlement(new.id, &[change()], &dsns).unwrap();
        for kind in [Kind::ProgressWithDsns, Kind::FinishedWithDsns] {
            let written = bytes(kind, &encoded);
            let record = read(&written, STAMP, 4096).unwrap();
            let Change::Settled { changes, dsns, .. } = record.change else {
                panic!("{record:?}")
            };
            assert_eq!(changes, [change()]);
            let body = |found: &Found| {
                let start = (found.place.offset - 4096) as usize;
                written[start..][..found.place.bytes as usize].to_vec()
            };
            let bodies: Vec<_> = dsns.iter().map(body).collect();
            assert_eq!(bodies, [&b"first"[..], b"second"]);
        }
    }

    /// These bytes lie on disks. Where this fails, the record's version has to rise, and this relayd
    /// still has to read the old one.
    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(hex(&accepted()), GOLDEN_ACCEPTED);
        let dsns = [message(8, "dsn")];
        let settled = Encoded::settlement(QueueId::from_u64(5), &[change()], &dsns).unwrap();
        let settled = bytes(Kind::FinishedWithDsns, &settled);
        assert_eq!(hex(&settled), GOLDEN_SETTLED);
    }

    const GOLDEN_ACCEPTED: &str = "726c794a0101000005000000000000002a00000004000000001000003a4252430101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f00000101017500626f6479e6b06862";
    const GOLDEN_SETTLED: &str = "726c794a0105000005000000000000006f00000003000000001000009315b9fb0100010190ffb2e5bd680190ffb2e5bd6801026d7800070f34353120342e372e31206c617465720a677265796c697374656405646566657208677265796c697374000108030101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f0000010101750064736e6adef1e7";

    #[test]
    fn a_cut_or_changed_record_is_bad_and_never_a_panic() {
        let whole = accepted();
        for end in 0..whole.len() {
            assert!(read(&whole[..end], STAMP, 4096).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed, STAMP, 4096).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_record_of_a_newer_version_says_so() {
        let mut newer = accepted();
        newer[4] = 2;
        let crc = crc32c::crc32c_append(STAMP.salt, &newer[..28]);
        newer[28..32].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&newer, STAMP, 4096), Err(Bad::Version(2)));
    }
}
