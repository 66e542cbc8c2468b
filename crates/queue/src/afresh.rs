//! Messages as the journal alone tells them, for when the index cannot be asked: where the records of each
//! lie is noted once, 16 bytes for a record, and they are read when a message is wanted.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use relay_smtp::QueueId;

use crate::index::{Position, Row};
use crate::message::Message;
use crate::record::{Change, Found, Place, Stamp};
use crate::segment::{self, Image, Item};
use crate::settle::{changed, fresh, rerouted};
use crate::shared::Shared;

#[derive(Debug)]
pub(crate) struct Afresh {
    directory: PathBuf,
    /// By message, and for each in the order of the journal.
    spots: Vec<Spot>,
    stamps: BTreeMap<u32, Stamp>,
}

#[derive(Clone, Copy, Debug)]
struct Spot {
    id: QueueId,
    segment: u32,
    offset: u32,
}

impl Afresh {
    /// Reads the whole journal up to `upto`; later changes are in memory. Only messages that are unfinished now
    /// are noted: the segments with their records stay, since nothing is reclaimed without an index.
    pub(crate) fn note(shared: &Shared, upto: Position) -> io::Result<Afresh> {
        let directory = shared.layout.journal();
        let mut noted = Afresh {
            directory,
            spots: Vec::new(),
            stamps: BTreeMap::new(),
        };
        let numbers = segment::numbers(&noted.directory)?;
        for number in numbers.into_iter().filter(|n| *n <= upto.segment) {
            // One without a header was quarantined at the start.
            let Ok(image) = Image::read(&noted.directory, number)? else {
                continue;
            };
            // What lies behind is being written right now.
            let image = match number == upto.segment {
                true => image.upto(upto.offset),
                false => image,
            };
            let mut spots = spots(&image);
            noted.stamps.insert(number, image.stamp);
            let ledger = shared.ledger();
            spots.retain(|spot| ledger.is_live(spot.id));
            drop(ledger);
            noted.spots.append(&mut spots);
        }
        noted.spots.sort_by_key(|spot| spot.id);
        noted.spots.shrink_to_fit();
        Ok(noted)
    }

    /// None: the journal does not say how it began, or a record cannot be read any more.
    pub(crate) fn read(&self, id: QueueId) -> io::Result<Option<Row>> {
        let first = self.spots.partition_point(|spot| spot.id < id);
        let spots = self.spots.iter().skip(first);
        let mut now = None;
        for spot in spots.take_while(|spot| spot.id == id) {
            let Some(stamp) = self.stamps.get(&spot.segment) else {
                return Ok(None);
            };
            let record = segment::read_record(&self.directory, *stamp, spot.offset)?;
            let Some(record) = record else {
                return Ok(None);
            };
            now = after(now, record.change, id);
        }
        Ok(now.map(|(message, place)| Row::new(Arc::new(message), place)))
    }
}

/// Of all records in a segment.
fn spots(image: &Image) -> Vec<Spot> {
    let segment = image.stamp.segment;
    let mut spots = Vec::new();
    for item in image.items(segment::FIRST_RECORD) {
        // Damage was quarantined at the start.
        let Item::Record { record, offset } = item else {
            continue;
        };
        let ids = concerned(&record.change).into_iter();
        spots.extend(ids.map(|id| Spot {
            id,
            segment,
            offset,
        }));
    }
    spots
}

fn concerned(change: &Change) -> Vec<QueueId> {
    match change {
        Change::Accepted(found) | Change::Carried(found, _, _) => vec![found.id],
        Change::Rerouted { id, .. } => vec![*id],
        Change::Settled { id, dsns, .. } => {
            let dsns = dsns.iter().map(|dsn| dsn.id);
            std::iter::once(*id).chain(dsns).collect()
        }
    }
}

/// What a record makes of one message. A change that does not fit was never made.
fn after(now: Option<(Message, Place)>, change: Change, id: QueueId) -> Option<(Message, Place)> {
    match change {
        Change::Accepted(found) => Some(begun(found)),
        Change::Carried(found, recipients, detours) => {
            let (message, place) = begun(found);
            let message = Message {
                recipients,
                detours,
                ..message
            };
            Some((message, place))
        }
        Change::Rerouted { ways, .. } => {
            let (before, place) = now?;
            let after = rerouted(&before, &ways).ok().flatten();
            Some((after.unwrap_or(before), place))
        }
        Change::Settled {
            id: settled,
            changes,
            dsns,
        } => match settled == id {
            true => {
                let (before, place) = now?;
                let after = changed(&before, &changes).ok().flatten();
                Some((after.unwrap_or(before), place))
            }
            false => dsns.into_iter().find(|dsn| dsn.id == id).map(begun),
        },
    }
}

fn begun(found: Found) -> (Message, Place) {
    let (place, size) = (found.place, u64::from(found.place.bytes));
    (fresh(found.id, found.envelope, found.arrival, size), place)
}
