//! The record format of the journal: how one change of the queue lies on disk.
//!
//! ```text
//!  0  magic        "rlyJ"
//!  4  version      the oldest that has this kind and what is in its head: 1 to 4
//!  5  kind         see Kind
//!  6  reserved     0, 0
//!  8  id           the message's, u64
//! 16  head length  u32
//! 20  body length  u32
//! 24  write start  u32: where in the segment the write began that this record was part of
//! 28  header crc   crc32c of bytes 0..28, begun with the segment's salt
//! 32  head         postcard, by kind
//!     body         as it came; in a record with DSNs their bodies, one after the other; none where it
//!                  lies in a file of its own
//!     crc          crc32c of id, head and body
//! ```
//!
//! All numbers are little-endian. The write start tells recovery which records a sync had already
//! covered: a record at or after the last write's start may be torn, one before it was promised.
//! The salt keeps a mail whose body looks like a record from being taken for one when recovery
//! searches damaged bytes for the next record: no sender can know it.

mod reading;

use bytes::Bytes;
use relay_smtp::envelope::RequireTls;
use relay_smtp::{Envelope, QueueId};

use crate::big::InFile;
use crate::body::Payload;
use crate::crc::combine;
use crate::gather::Gather;
use crate::message::{Arrival, Message, NewMessage, RecipientChange, Way};

pub(crate) use reading::{Bad, Change, Found, Record, read, stated_len};

pub(crate) const MAGIC: [u8; 4] = *b"rlyJ";
/// The newest version of a record that can be read. Records are written with the oldest one that has
/// their kind.
pub(crate) const VERSION: u8 = 4;
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
    /// A message with its body and the states of its recipients, copied forward or imported. Since
    /// version 2; with detours of its recipients behind them since version 3.
    Carried = 6,
    /// Accepted and Carried whose body lies in a file of its own (`big/`). Since version 3.
    AcceptedBig = 7,
    CarriedBig = 8,
    /// Recipients go another way from now on. Since version 3.
    Rerouted = 9,
}

impl Kind {
    fn version(self) -> u8 {
        match self {
            Kind::Accepted
            | Kind::Progress
            | Kind::Finished
            | Kind::ProgressWithDsns
            | Kind::FinishedWithDsns => 1,
            Kind::Carried => 2,
            Kind::AcceptedBig | Kind::CarriedBig | Kind::Rerouted => 3,
        }
    }

    /// The same for a body in a file of its own.
    fn big(self) -> Kind {
        match self {
            Kind::Accepted | Kind::AcceptedBig => Kind::AcceptedBig,
            Kind::Carried | Kind::CarriedBig => Kind::CarriedBig,
            Kind::Progress
            | Kind::Finished
            | Kind::ProgressWithDsns
            | Kind::FinishedWithDsns
            | Kind::Rerouted => self,
        }
    }

    pub(crate) fn read(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Accepted,
            2 => Kind::Progress,
            3 => Kind::Finished,
            4 => Kind::ProgressWithDsns,
            5 => Kind::FinishedWithDsns,
            6 => Kind::Carried,
            7 => Kind::AcceptedBig,
            8 => Kind::CarriedBig,
            9 => Kind::Rerouted,
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
    /// The body that is not among them, since it has a file.
    in_file: Option<InFile>,
    /// Of id, head and bodies.
    crc: u32,
    /// The oldest version that has what is in the head, where that is newer than the kind.
    version: u8,
}

/// Where a body lies: what the index keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "PlaceOnDisk", into = "PlaceOnDisk")]
pub(crate) struct Place {
    /// With the record that the body came with.
    pub(crate) segment: u32,
    pub(crate) spot: Spot,
    pub(crate) bytes: u32,
    /// crc32c of the body alone.
    pub(crate) crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Where its first byte lies in the segment.
    At(u32),
    /// In a file of its own.
    File,
}

impl Place {
    /// What the body takes of its segment.
    pub(crate) fn bytes_in_segment(&self) -> u64 {
        match self.spot {
            Spot::At(_) => self.bytes.into(),
            Spot::File => 0,
        }
    }

    /// What its file has, if it has one.
    pub(crate) fn in_file(&self) -> InFile {
        InFile {
            bytes: self.bytes,
            crc: self.crc,
        }
    }
}

/// As indexes have had it before there were files: no body ever lies at 0 of a segment.
#[derive(serde::Serialize, serde::Deserialize)]
struct PlaceOnDisk {
    segment: u32,
    offset: u32,
    bytes: u32,
    crc: u32,
}

impl From<Place> for PlaceOnDisk {
    fn from(place: Place) -> PlaceOnDisk {
        let Place {
            segment,
            spot,
            bytes,
            crc,
        } = place;
        let offset = match spot {
            Spot::At(offset) => offset,
            Spot::File => 0,
        };
        PlaceOnDisk {
            segment,
            offset,
            bytes,
            crc,
        }
    }
}

impl From<PlaceOnDisk> for Place {
    fn from(place: PlaceOnDisk) -> Place {
        Place {
            segment: place.segment,
            spot: match place.offset {
                0 => Spot::File,
                offset => Spot::At(offset),
            },
            bytes: place.bytes,
            crc: place.crc,
        }
    }
}

/// The head of [`Kind::Accepted`], and of each DSN in a settlement.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Head {
    envelope: Envelope,
    arrival: Arrival,
}

/// The same on its way to disk, without a copy.
#[derive(serde::Serialize)]
struct HeadRef<'a> {
    envelope: &'a Envelope,
    arrival: &'a Arrival,
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
/// Combining two checksums takes as long as reading so many bytes again.
const COMBINED_FROM: usize = 4 << 10;
/// The version from which on a carried message's head may have detours at its end.
const DETOURS_SINCE: u8 = 3;
/// The version from which on an envelope may say REQUIRETLS, without which an older relayd would send it, and a
/// priority.
const FLAGS_SINCE: u8 = 4;

impl Encoded {
    pub(crate) fn accepted(new: &NewMessage) -> Result<Encoded, TooLarge> {
        let head = HeadRef {
            envelope: &new.envelope,
            arrival: &new.arrival,
        };
        let encoded = Encoded::with_body(new.id, to_postcard(&head), new.body.payload())?;
        Ok(Encoded {
            version: since(&new.envelope),
            ..encoded
        })
    }

    /// A message as it stands, for a newer segment.
    pub(crate) fn carried(message: &Message, body: Payload) -> Result<Encoded, TooLarge> {
        let head = HeadRef {
            envelope: &message.envelope,
            arrival: &message.arrival,
        };
        let mut head = to_postcard(&(head, &message.recipients));
        let mut version = since(&message.envelope);
        if !message.detours.is_empty() {
            head.extend_from_slice(&to_postcard(&message.detours));
            version = version.max(DETOURS_SINCE);
        }
        let encoded = Encoded::with_body(message.id, head, body)?;
        Ok(Encoded { version, ..encoded })
    }

    pub(crate) fn rerouted(id: QueueId, ways: &[Way]) -> Result<Encoded, TooLarge> {
        Encoded::new(id, to_postcard(&ways), Vec::new())
    }

    fn with_body(id: QueueId, head: Vec<u8>, body: Payload) -> Result<Encoded, TooLarge> {
        match body {
            Payload::Bytes(body) => Encoded::new(id, head, vec![body]),
            Payload::InFile(in_file) => {
                let mut with_file = to_postcard(&in_file);
                with_file.extend_from_slice(&head);
                let encoded = Encoded::new(id, with_file, Vec::new())?;
                Ok(Encoded {
                    in_file: Some(in_file),
                    ..encoded
                })
            }
        }
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
                body_bytes: in_memory(dsn).len() as u32,
                head: Head {
                    envelope: dsn.envelope.clone(),
                    arrival: dsn.arrival.clone(),
                },
            })
            .collect();
        let bodies = dsns.iter().map(in_memory).collect();
        let encoded = Encoded::new(id, to_postcard(&(changes, heads)), bodies)?;
        let versions = dsns.iter().map(|dsn| since(&dsn.envelope));
        Ok(Encoded {
            version: versions.max().unwrap_or(1),
            ..encoded
        })
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
        // Here, and not on the commit thread. Large bodies are looked at once.
        let crc = bodies
            .iter()
            .fold(payload_crc(id, &head), |crc, (body, of_body)| {
                if body.len() < COMBINED_FROM {
                    crc32c::crc32c_append(crc, body)
                } else {
                    combine(crc, *of_body, body.len() as u32)
                }
            });
        Ok(Encoded {
            id,
            head,
            bodies,
            body_bytes: body_bytes as u32,
            in_file: None,
            crc,
            version: 1,
        })
    }

    /// Bytes on disk.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.body_bytes as usize + TRAILER_BYTES
    }

    pub(crate) fn bare(&self, kind: Kind) -> Bare<'_> {
        Bare {
            kind: self.on_disk(kind),
            id: self.id,
            head: &self.head,
            body_bytes: self.body_bytes,
            sums: self.bodies.iter().map(|(_, crc)| *crc).collect(),
        }
    }

    fn on_disk(&self, kind: Kind) -> Kind {
        match self.in_file {
            Some(_) => kind.big(),
            None => kind,
        }
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
        let kind = self.on_disk(kind);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&[kind.version().max(self.version), kind as u8, 0, 0]);
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
                spot: Spot::At(write_start + write.len() as u32),
                bytes: body.len() as u32,
                crc: *crc,
            });
            write.add(body);
        }
        let segment = stamp.segment;
        places.extend(self.in_file.map(|in_file| in_file.place(segment)));
        write.copy(&self.crc.to_le_bytes());
        places
    }
}

/// A record without its bodies: what a segment's footer keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bare<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: QueueId,
    pub(crate) head: &'a [u8],
    /// Of all bodies.
    pub(crate) body_bytes: u32,
    /// crc32c of each body.
    pub(crate) sums: Vec<u32>,
}

/// The oldest version that has all that the envelope says.
fn since(envelope: &Envelope) -> u8 {
    match (envelope.require_tls, envelope.priority.level()) {
        (RequireTls::No, 0) => 1,
        (RequireTls::Yes, _) | (RequireTls::No, _) => FLAGS_SINCE,
    }
}

/// A DSN's body always lies in its record.
fn in_memory(dsn: &NewMessage) -> Bytes {
    let body = dsn.body.in_memory();
    body.expect("the store has brought it into memory").clone()
}

fn payload_crc(id: QueueId, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_u64().to_le_bytes()), head)
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
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

/// A value, and behind it another one, which is left out where it is empty: so older bytes stay
/// readable.
pub(crate) fn from_postcard_and_more<T, M>(bytes: &[u8]) -> Option<(T, M)>
where
    T: serde::de::DeserializeOwned,
    M: serde::de::DeserializeOwned + Default,
{
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some((value, M::default())),
        Ok((value, more)) => Some((value, from_postcard(more)?)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
