//! Whether a body can be read to its end where it should lie, and is what was stored.

use std::fs::File;
use std::io::{self, Read};

use relay_smtp::QueueId;

use super::BodyFound;
use crate::body::PIECE_BYTES;
use crate::files::Layout;
use crate::record::{Place, Spot};
use crate::segment;

pub(super) fn look(layout: &Layout, id: QueueId, place: Place) -> BodyFound {
    let found = match place.spot {
        Spot::At(offset) => {
            let body = segment::read_body(&layout.journal(), place, offset);
            body.map(|body| body.is_some())
        }
        Spot::File => is_sound(layout, id, place),
    };
    match found {
        Ok(true) => BodyFound::Sound,
        Ok(false) | Err(_) => BodyFound::Lost,
    }
}

/// Piece by piece: it is large.
fn is_sound(layout: &Layout, id: QueueId, place: Place) -> io::Result<bool> {
    let mut file = File::open(layout.big().join(id.to_string()))?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut crc, mut bytes) = (0, 0u64);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(bytes == u64::from(place.bytes) && crc == place.crc);
        }
        crc = crc32c::crc32c_append(crc, piece.get(..read).unwrap_or_default());
        bytes += read as u64;
    }
}
