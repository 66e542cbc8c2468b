//! A message's bytes, wherever they lie. They are read and written in pieces, so that a large message
//! never sits in memory whole.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::big::{BigFile, BigReader, InFile};
use crate::store::{Later, StoreError};

/// From this size on a body should come to [`crate::Store::accept`] by way of [`crate::Store::stage`]; the
/// queue does the same with a larger one that comes in one piece.
pub const BIG_BYTES: usize = 256 << 10;
/// Bytes of one piece.
pub const PIECE_BYTES: usize = 64 << 10;

/// The bytes of one message. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Body {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<BigFile>),
}

/// What a record has of a body.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Bytes(Bytes),
    InFile(InFile),
}

impl Body {
    pub(crate) fn in_file(file: BigFile) -> Body {
        let source = Source::File(Arc::new(file));
        Body { source }
    }

    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(file) => file.in_file().bytes.into(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, from the start, piece by piece.
    pub fn pieces(&self) -> Pieces {
        Pieces {
            rest: match &self.source {
                Source::Memory(bytes) => Rest::Memory(bytes.clone()),
                Source::File(file) => Rest::File(BigReader::new(file.clone())),
            },
        }
    }

    /// Its first bytes; fewer than `bytes_max` only where it has no more. Of a file that is longer they
    /// are not checked.
    pub async fn start(&self, bytes_max: usize) -> Result<Bytes, StoreError> {
        if let Source::Memory(bytes) = &self.source {
            return Ok(bytes.slice(..bytes.len().min(bytes_max)));
        }
        let mut pieces = self.pieces();
        let mut start = BytesMut::new();
        while start.len() < bytes_max
            && let Some(piece) = pieces.next().await?
        {
            let wanted = piece.len().min(bytes_max - start.len());
            start.extend_from_slice(piece.get(..wanted).unwrap_or_default());
        }
        Ok(start.freeze())
    }

    /// All of it at once: for what is known to be small, and for tests.
    pub async fn whole(&self) -> Result<Bytes, StoreError> {
        self.start(usize::MAX).await
    }

    /// None: it lies in a file.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Memory(bytes) => Some(bytes),
            Source::File(_) => None,
        }
    }

    pub(crate) fn file(&self) -> Option<&BigFile> {
        match &self.source {
            Source::Memory(_) => None,
            Source::File(file) => Some(file),
        }
    }

    pub(crate) fn payload(&self) -> Payload {
        match &self.source {
            Source::Memory(bytes) => Payload::Bytes(bytes.clone()),
            Source::File(file) => Payload::InFile(file.in_file()),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        let source = Source::Memory(bytes);
        Body { source }
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
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Memory(Bytes),
    File(BigReader),
    /// A read was given up half-way.
    Nothing,
}

impl Pieces {
    /// None: that was all. After an error there is no more either. The last piece of a file comes only
    /// if the checksum of the whole is right.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Memory(mut bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                self.rest = Rest::Memory(bytes);
                Ok((!piece.is_empty()).then_some(piece))
            }
            Rest::File(mut reader) => {
                let read = move || (reader.next(), reader);
                let read = tokio::task::spawn_blocking(read).await;
                let (piece, reader) = read.map_err(|error| StoreError::Disk(error.to_string()))?;
                self.rest = Rest::File(reader);
                piece.map_err(|error| StoreError::Disk(error.to_string()))
            }
            Rest::Nothing => Ok(None),
        }
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
