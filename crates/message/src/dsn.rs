//! Composes delivery status notifications: multipart/report of RFC 6522 with message/delivery-status
//! of RFC 3464 (RFC 6533 where addresses are not ASCII). When one is due, and to whom it may go, is
//! decided by `deliver`.

use bytes::Bytes;
use jiff::Timestamp;
use relay_smtp::envelope::{BodyType, Envelope, Recipient, Utf8};
use relay_smtp::{EnhancedStatus, Mailbox, QueueId};

/// Which message could not be delivered, and what to say of it.
#[derive(Clone, Copy, Debug)]
pub struct DsnInput<'a> {
    pub kind: DsnKind,
    /// The queue id of the DSN itself: makes its Message-ID.
    pub id: QueueId,
    /// Our own name, in A-labels.
    pub hostname: &'a str,
    /// What stands in From; the envelope's sender is `<>` all the same (RFC 3464 section 2).
    pub from: &'a Mailbox,
    /// The reverse-path of the message.
    pub to: &'a Mailbox,
    pub now: Timestamp,
    /// The message that the DSN is about.
    pub original_id: QueueId,
    pub original_arrived: Timestamp,
    /// For RET, ENVID and SMTPUTF8.
    pub original_envelope: &'a Envelope,
    pub original: &'a [u8],
    /// At least one; all of the same kind.
    pub recipients: &'a [DsnRecipient<'a>],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsnKind {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
}

/// One recipient and the last that was heard about it.
#[derive(Clone, Copy, Debug)]
pub struct DsnRecipient<'a> {
    pub recipient: &'a Recipient,
    pub status: EnhancedStatus,
    /// None: it was never tried.
    pub last_attempt: Option<Timestamp>,
    /// `mx1.example.net [192.0.2.1]`; None where no host was reached for.
    pub host: Option<&'a str>,
    pub said: Said<'a>,
    /// The name of the rule that decided, its explanation and its fix.
    pub rule: &'a str,
    pub explain: Option<&'a str>,
    pub fix: Option<&'a str>,
    /// Delayed only: when it is tried next.
    pub next_attempt: Option<Timestamp>,
    /// Delayed only: when it is given up.
    pub expires: Option<Timestamp>,
}

/// What the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The host's reply in full: `550 5.1.1 no such user`.
    Reply(&'a str),
    /// A failure that is no reply, in words: `connection timed out`.
    Failure(&'a str),
}

/// The message, and what its envelope must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    pub message: Bytes,
    pub body_type: BodyType,
    pub utf8: Utf8,
}

/// Composes one.
pub fn compose(input: &DsnInput<'_>) -> Dsn {
    let _ = input;
    todo!()
}
