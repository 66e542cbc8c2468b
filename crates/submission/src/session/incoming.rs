//! A body on its way in: a small one stays in memory, a large one goes to the queue's files while it
//! comes; and how it becomes a message.
//!
//! All sessions together hold at most [`BODY_MEMORY_BYTES`] of bodies, up to the commit. Where that is used
//! up, a body goes to a file early, whatever its size. Beside it, each session has its read buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use relay_message::header;
use relay_message::received::{
    Encrypted, LoggedIn, Protocol, Trace, can_prepare, prepare, wanted_priority,
};
use relay_queue::body::PIECE_BYTES;
use relay_queue::{Arrival, BIG_BYTES, Body, NewMessage, Staging, StoreError};
use relay_smtp::envelope::{Priority, Utf8};
use relay_smtp::server::{Channel, Hello, Incoming, reply};
use relay_smtp::{QueueId, Recipient, Reply};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, refusal_of};

/// A few hundred sessions with an ordinary message each; more than that go through files.
pub(crate) const BODY_MEMORY_BYTES: usize = 64 << 20;
/// A header that is longer could be neither signed nor reported without holding it whole.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Where a body is.
pub(super) enum Spool {
    /// With the dialogue, all that has come.
    Memory,
    File(Filing),
    /// It will not be taken, for this reason; what comes is dropped.
    Refused(Reply),
}

/// A body that goes to a file: its id and time stand in its Received field already.
pub(super) struct Filing {
    id: QueueId,
    at: Timestamp,
    staging: Box<dyn Staging>,
    /// What its header says of it.
    priority: Option<Priority>,
}

/// What all sessions may hold.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    left: AtomicUsize,
}

impl BodyMemory {
    pub(crate) fn new(bytes: usize) -> Arc<BodyMemory> {
        let left = AtomicUsize::new(bytes);
        Arc::new(BodyMemory { left })
    }
}

/// What one session holds of it; given back when it ends.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<BodyMemory>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yes,
    /// There is not so much left. What is held is as before.
    No,
}

impl Share {
    pub(super) fn of(memory: &Arc<BodyMemory>) -> Share {
        Share {
            memory: memory.clone(),
            bytes: 0,
        }
    }

    /// Nothing is held any more.
    pub(super) fn release(&mut self) {
        self.memory.left.fetch_add(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }

    /// Holds so many bytes in all.
    fn hold(&mut self, bytes: usize) -> Held {
        let more = bytes.saturating_sub(self.bytes);
        let take = |left: usize| left.checked_sub(more);
        let taken = (self.memory.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        match taken {
            Ok(_) => {
                self.bytes += more;
                Held::Yes
            }
            Err(_) => Held::No,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<'_, S> {
    /// After each read inside DATA.
    pub(super) async fn spool(&mut self) {
        let Some(transfer) = self.dialogue.transfer() else {
            return;
        };
        let bytes = transfer.held.len();
        let held = self.share.hold(bytes);
        let may_wait = match &self.spool {
            Spool::Memory => bytes <= BIG_BYTES && held == Held::Yes,
            Spool::File(_) => bytes < PIECE_BYTES && held == Held::Yes,
            Spool::Refused(_) => false,
        };
        if may_wait {
            return;
        }
        // Should this be dropped half-way, so is the session.
        let spool = std::mem::replace(&mut self.spool, Spool::Memory);
        self.spool = match spool {
            Spool::Memory if !can_prepare(transfer.held) => match (held, bytes) {
                (Held::Yes, ..=HEADER_BYTES_MAX) => return,
                (Held::Yes, _) => Spool::Refused(reply(552, 3, 4, "the header is too large")),
                (Held::No, _) => Spool::Refused(refusal_of(&StoreError::Busy)),
            },
            Spool::Memory => match self.begin_file().await {
                Ok(filing) => Spool::File(filing),
                Err(refusal) => Spool::Refused(refusal),
            },
            Spool::File(mut filing) => {
                let piece = self.dialogue.take_body();
                match filing.staging.write(piece.into()).await {
                    Ok(()) => Spool::File(filing),
                    Err(error) => Spool::Refused(refused(&error)),
                }
            }
            Spool::Refused(refusal) => {
                self.dialogue.take_body();
                Spool::Refused(refusal)
            }
        };
        if let Spool::Refused(_) = self.spool {
            self.dialogue.take_body();
        }
        self.share.release();
    }

    /// The header is there: what goes before the body is made now, and all so far is written.
    async fn begin_file(&mut self) -> Result<Filing, Reply> {
        let (id, at) = (self.world.store.next_id(), self.world.clock.now());
        let Some(transfer) = self.dialogue.transfer() else {
            return Err(reply(451, 3, 0, "no message is coming in"));
        };
        self.check_hops(transfer.held)?;
        let priority = priority(transfer.held)?;
        let trace = self.trace(id, at, transfer.hello, transfer.recipients, transfer.utf8);
        let start = prepare(transfer.held, &trace);
        self.dialogue.take_body();
        let staged = async {
            let mut staging = self.world.store.stage(id).await?;
            staging.write(start).await?;
            Ok(Filing {
                id,
                at,
                staging,
                priority,
            })
        };
        staged.await.map_err(|error| refused(&error))
    }

    /// The end of the data: the message with all that the queue wants to know. Err: why not.
    pub(super) async fn new_message(&mut self, incoming: Incoming) -> Result<NewMessage, Reply> {
        let (id, at, priority, body) = match std::mem::replace(&mut self.spool, Spool::Memory) {
            Spool::Memory => {
                self.check_hops(&incoming.body)?;
                let priority = priority(&incoming.body)?;
                let (id, at) = (self.world.store.next_id(), self.world.clock.now());
                let Incoming {
                    envelope,
                    hello,
                    body,
                } = &incoming;
                let trace = self.trace(id, at, hello, &envelope.recipients, envelope.utf8);
                (id, at, priority, Body::from(prepare(body, &trace)))
            }
            Spool::File(filing) => {
                let Filing {
                    id,
                    at,
                    mut staging,
                    priority,
                } = filing;
                let whole = async {
                    staging.write(incoming.body.into()).await?;
                    staging.finish().await
                };
                let body = whole.await.map_err(|error| refused(&error))?;
                (id, at, priority, body)
            }
            Spool::Refused(refusal) => return Err(refusal),
        };
        // The field is nearer to the message than what the session was told of it.
        let mut envelope = incoming.envelope;
        envelope.priority = priority.unwrap_or(envelope.priority);
        Ok(NewMessage {
            id,
            envelope,
            arrival: Arrival {
                at,
                client: self.peer.ip(),
                user: self.user.as_ref().map(|user| user.name.clone()),
                dsn_of: None,
            },
            body,
        })
    }

    fn check_hops(&self, message: &[u8]) -> Result<(), Reply> {
        let hops = header::received_count(message);
        if hops > self.settings.submission.received_headers_max as usize {
            let text = format!("mail loop: {hops} Received fields");
            return Err(reply(554, 4, 6, text));
        }
        Ok(())
    }

    fn trace<'a>(
        &'a self,
        id: QueueId,
        at: Timestamp,
        hello: &'a Hello,
        recipients: &'a [Recipient],
        utf8: Utf8,
    ) -> Trace<'a> {
        let (helo, protocol) = match hello {
            Hello::Helo(name) => (name, Protocol::Smtp),
            Hello::Ehlo(name) => (name, self.extended(utf8)),
        };
        Trace {
            helo,
            client: self.peer.ip(),
            hostname: &self.settings.hostname,
            protocol,
            id,
            recipients,
            at,
        }
    }

    fn extended(&self, utf8: Utf8) -> Protocol {
        Protocol::Esmtp {
            tls: match self.dialogue.channel() {
                Channel::Tls => Encrypted::Yes,
                Channel::Clear => Encrypted::No,
            },
            auth: match self.user {
                Some(_) => LoggedIn::Yes,
                None => LoggedIn::No,
            },
            utf8,
        }
    }
}

/// What the header says of it.
fn priority(message: &[u8]) -> Result<Option<Priority>, Reply> {
    wanted_priority(message).map_err(|wrong| reply(554, 6, 0, wrong))
}

fn refused(error: &StoreError) -> Reply {
    tracing::warn!(%error, "a large message was not taken");
    refusal_of(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_together_hold_no_more_than_there_is_and_give_it_back() {
        let memory = BodyMemory::new(100);
        let (mut one, mut other) = (Share::of(&memory), Share::of(&memory));
        assert_eq!(one.hold(60), Held::Yes);
        assert_eq!(one.hold(50), Held::Yes);
        assert_eq!(other.hold(41), Held::No);
        assert_eq!(other.hold(40), Held::Yes);
        assert_eq!(other.hold(41), Held::No);
        one.release();
        assert_eq!(other.hold(100), Held::Yes);
        drop(other);
        assert_eq!(one.hold(100), Held::Yes);
    }
}
