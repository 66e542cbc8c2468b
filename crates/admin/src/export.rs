//! Sending messages as lines of JSON ([`crate::line`]), to move them to another machine. They are said one
//! after the other while they are read, large ones piece by piece.
//!
//! A file begins with a [`Head`] and ends with an [`End`], so that one that was cut off is noticed. An answer of
//! the API has neither; it ends with a [`PartEnd`].

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use jiff::Timestamp;
use relay_queue::{Body, Message, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::act::{Command, Walk};
use crate::error::ApiError;
use crate::line::{MessageLine, PieceLine, WHOLE_BYTES_MAX};
use crate::view::Next;
use crate::world::AdminWorld;

/// What a file of this kind says first.
pub const FORMAT: &str = "relayd-queue";
/// Raised where an older relayd could not read what is written. 2: messages in pieces.
pub const VERSION: u32 = 2;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: String,
    pub version: u32,
    pub exported: Timestamp,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub end: bool,
    pub messages: u64,
}

/// A line of an answer that belongs to no message: its bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    pub unreadable: String,
    pub reason: String,
}

/// The last line of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartEnd {
    pub part_end: bool,
    /// There is more: give it as `next` of the next command.
    pub next: Option<Next>,
    /// It broke off.
    pub error: Option<String>,
}

/// Messages of one answer.
const MESSAGES: usize = 200;
/// Lines that wait for a client that reads slowly.
const LINES_WAITING: usize = 4;

/// `POST /v1/queue/export`: the next messages that are selected, said while they are read.
pub async fn export(
    world: &Arc<AdminWorld>,
    command: &Command,
) -> Result<Channel<Bytes>, ApiError> {
    let command = Command {
        limit: Some(MESSAGES),
        ..command.clone()
    };
    let mut walk = Walk::begin(world, &command)?;
    let page = walk.page(world).await?.unwrap_or_default();
    let (mut to, lines) = Channel::new(LINES_WAITING);
    let store = Arc::clone(&world.store);
    tokio::spawn(async move {
        let mut end = PartEnd {
            part_end: true,
            next: walk.next(),
            error: None,
        };
        for message in page {
            match say(&*store, &message, &mut to).await {
                Ok(()) => {}
                Err(Broken::Gone) => return,
                Err(Broken::Store(error)) => {
                    end.error = Some(error.to_string());
                    break;
                }
            }
        }
        // The client may have gone.
        let _ = send(&mut to, line_of(&end)).await;
    });
    Ok(lines)
}

enum Broken {
    /// Nobody listens any more.
    Gone,
    Store(StoreError),
}

async fn say(store: &dyn Store, message: &Message, to: &mut Sender<Bytes>) -> Result<(), Broken> {
    let mut said = match Said::begin(store, message).await {
        Ok(Some(said)) => said,
        // It has left the queue.
        Ok(None) => return Ok(()),
        Err(StoreError::Disk(reason)) => {
            let unreadable = message.id.to_string();
            return send(to, line_of(&Unreadable { unreadable, reason })).await;
        }
        Err(error) => return Err(Broken::Store(error)),
    };
    while let Some(line) = said.next().await.map_err(Broken::Store)? {
        send(to, line).await?;
    }
    Ok(())
}

async fn send(to: &mut Sender<Bytes>, line: Vec<u8>) -> Result<(), Broken> {
    to.send_data(line.into()).await.map_err(|_| Broken::Gone)
}

/// The lines of one message, one after the other, each with its end.
pub struct Said {
    /// Not said yet.
    first: Option<Vec<u8>>,
    /// What follows it.
    pieces: Option<relay_queue::Pieces>,
}

impl Said {
    /// None: it is not in the queue any more. A large message is read through once before anything of it is
    /// said, so that none of them breaks off in the middle because its bytes are damaged.
    pub async fn begin(store: &dyn Store, message: &Message) -> Result<Option<Said>, StoreError> {
        let Some(body) = store.body(message.id).await? else {
            return Ok(None);
        };
        let line = MessageLine::of(message);
        if body.len() <= WHOLE_BYTES_MAX {
            let first = line_of(&line.with_body(&body.whole().await?));
            return Ok(Some(Said {
                first: Some(first),
                pieces: None,
            }));
        }
        let checksum = checksum(&body).await?;
        Ok(Some(Said {
            first: Some(line_of(&line.with_pieces(body.len(), checksum))),
            pieces: Some(body.pieces()),
        }))
    }

    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(pieces) = &mut self.pieces else {
            return Ok(None);
        };
        let piece = pieces.next().await?;
        Ok(piece.map(|piece| line_of(&PieceLine::of(&piece))))
    }
}

async fn checksum(body: &Body) -> Result<u32, StoreError> {
    let (mut sum, mut pieces) = (0, body.pieces());
    while let Some(piece) = pieces.next().await? {
        sum = relay_queue::checksum_after(sum, &piece);
    }
    Ok(sum)
}

/// With its end. JSON has no line end of its own.
pub fn line_of(what: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(what).expect("these are texts, numbers and times");
    line.push(b'\n');
    line
}
