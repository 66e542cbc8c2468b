//! A message's bytes, wherever they lie. They are read and written in pieces, so that a large message
//! never sits in memory whole.

use bytes::{Bytes, BytesMut};

use crate::store::{Later, StoreError};

/// From this size on a body should come to [`crate::Store::accept`] by way of [`crate::Store::stage`]; the
/// queue does the same with a larger one that comes in one piece.
pub const BIG_BYTES: usize = 256 << 10;
/// Bytes of one piece.
pub const PIECE_BYTES: usize = 64 << 10;

/// The bytes of one message. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
}

impl Body {
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, from the start, piece by piece.
    pub fn pieces(&self) -> Pieces {
        Pieces {
            rest: self.bytes.clone(),
        }
    }

    /// Its first bytes; fewer than `bytes_max` only where it has no more.
    pub async fn start(&self, bytes_max: usize) -> Result<Bytes, StoreError> {
        let mut pieces = self.pieces();
        let mut start = BytesMut::new();
        while start.len() < bytes_max
            && let Some(piece) = pieces.next().await?
        {
            // The usual case, without a copy.
            if start.is_empty() && (piece.len() >= bytes_max || piece.len() as u64 == self.len()) {
                return Ok(piece.slice(..piece.len().min(bytes_max)));
            }
            let wanted = piece.len().min(bytes_max - start.len());
            start.extend_from_slice(piece.get(..wanted).unwrap_or_default());
        }
        Ok(start.freeze())
    }

    /// All of it at once: for what is known to be small, and for tests.
    pub async fn whole(&self) -> Result<Bytes, StoreError> {
        self.start(usize::MAX).await
    }

    /// None: it does not lie in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        Some(&self.bytes)
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body { bytes }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::from(Bytes::from(text))
    }
}

/// See [`Body::pieces`].
#[derive(Debug)]
pub struct Pieces {
    rest: Bytes,
}

impl Pieces {
    /// None: that was all. After an error there is no more either.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// A body on its way into the queue, from [`crate::Store::stage`]. Dropped before it is accepted, it leaves
/// nothing behind.
pub trait Staging: Send {
    /// Adds to its end.
    fn write(&mut self, bytes: Bytes) -> Later<'_, Result<(), StoreError>>;

    /// What [`crate::NewMessage`] takes, under the id that was named to `stage`. The bytes survive a power
    /// cut then; the message does only when it has been accepted.
    fn finish(self: Box<Self>) -> Later<'static, Result<Body, StoreError>>;
}

/// Collects in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryStaging {
    bytes: BytesMut,
}

impl Staging for MemoryStaging {
    fn write(&mut self, bytes: Bytes) -> Later<'_, Result<(), StoreError>> {
        self.bytes.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn finish(self: Box<Self>) -> Later<'static, Result<Body, StoreError>> {
        let body = Body::from(self.bytes.freeze());
        Box::pin(async { Ok(body) })
    }
}
