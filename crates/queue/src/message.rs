//! What the queue keeps of a message: envelope, arrival, and per recipient its state and attempts.

use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use relay_smtp::{Envelope, Phase, QueueId, Recipient};

/// A message on its way into the queue.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// From [`crate::Store::next_id`]: known before the body is whole, so that Received can name it.
    pub id: QueueId,
    pub envelope: Envelope,
    pub arrival: Arrival,
    /// The message with our Received header, CRLF line ends, no dots stuffed.
    pub body: Bytes,
}

/// How it came to us.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Arrival {
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub at: Timestamp,
    /// None: made here (a DSN).
    pub client: Option<IpAddr>,
    /// Who had logged in.
    pub user: Option<String>,
    /// The message that this DSN is about.
    pub dsn_of: Option<QueueId>,
}

/// One message in the queue, without its body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    pub id: QueueId,
    pub envelope: Envelope,
    pub arrival: Arrival,
    /// Bytes of the body as stored.
    pub size: u64,
    /// Same length and order as `envelope.recipients`.
    pub recipients: Vec<RecipientState>,
}

impl Message {
    /// Recipients with their states.
    pub fn each(&self) -> impl Iterator<Item = (u32, &Recipient, &RecipientState)> {
        self.envelope
            .recipients
            .iter()
            .zip(&self.recipients)
            .enumerate()
            .map(|(index, (recipient, state))| (index as u32, recipient, state))
    }

    /// Whether nothing remains to be done.
    pub fn finished(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| recipient.state.is_final())
    }
}

/// Where a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecipientState {
    pub state: State,
    /// Attempts that ended with a decision about this recipient.
    pub attempts: u32,
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub next_attempt: Timestamp,
    /// Every attempt, oldest first; of more than [`RecipientState::ATTEMPTS_KEPT`] the first and the last ones.
    pub history: Vec<Attempt>,
    /// A delayed-delivery DSN has been sent.
    pub warned: bool,
}

impl RecipientState {
    pub const ATTEMPTS_KEPT: usize = 12;

    /// Just accepted: due at once.
    pub fn new(now: Timestamp) -> RecipientState {
        RecipientState {
            state: State::Queued,
            attempts: 0,
            next_attempt: now,
            history: Vec::new(),
            warned: false,
        }
    }

    pub fn last(&self) -> Option<&Attempt> {
        self.history.last()
    }

    /// Adds an attempt; keeps the first and the latest.
    pub fn record(&mut self, attempt: Attempt) {
        self.attempts += 1;
        if self.history.len() == RecipientState::ATTEMPTS_KEPT {
            self.history.remove(1);
        }
        self.history.push(attempt);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum State {
    /// Not tried yet.
    Queued,
    /// Tried, due again at `next_attempt`.
    Deferred,
    /// Kept until released.
    Held,
    Delivered,
    Bounced,
    /// Removed by an operator.
    Discarded,
}

impl State {
    pub fn is_final(self) -> bool {
        match self {
            State::Queued | State::Deferred | State::Held => false,
            State::Delivered | State::Bounced | State::Discarded => true,
        }
    }
    pub fn word(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Deferred => "deferred",
            State::Held => "held",
            State::Delivered => "delivered",
            State::Bounced => "bounced",
            State::Discarded => "discarded",
        }
    }
}

/// One attempt, as `queue show` tells it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub at: Timestamp,
    /// `mx1.example.net [192.0.2.1]`; None where no host was reached for.
    pub host: Option<String>,
    /// `TLSv1.3 TLS_AES_256_GCM_SHA384`; None: in clear.
    pub tls: Option<String>,
    pub phase: Phase,
    /// The reply in full, or the failure in words.
    pub reply: String,
    pub category: String,
    pub action: String,
    pub rule: String,
}

/// What an attempt, or an operator, does to recipients: one durable write, all or nothing.
///
/// A recipient whose state is final keeps it: changes to it are left out. If none is left, nothing is
/// written, DSNs neither.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub id: QueueId,
    pub changes: Vec<RecipientChange>,
    /// DSNs that these changes call for. Accepted in the same write: neither the bounce without
    /// its DSN nor the DSN twice can come out of a crash.
    pub dsns: Vec<NewMessage>,
}

/// The new state of one recipient, whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecipientChange {
    /// Its place in `envelope.recipients`.
    pub index: u32,
    pub state: RecipientState,
}
