//! What the queue keeps of a message: envelope, arrival, and per recipient its state and attempts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use relay_smtp::{Envelope, Phase, QueueId, Recipient};

use crate::body::Body;

/// A message on its way into the queue.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// From [`crate::Store::next_id`]: known before the body is whole, so that Received can name it.
    pub id: QueueId,
    pub envelope: Envelope,
    pub arrival: Arrival,
    /// The message with our Received header, CRLF line ends, no dots stuffed.
    pub body: Body,
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
    /// Recipients that do not go the configured way. Written behind the rest, where there are any.
    #[serde(skip)]
    pub detours: Detours,
}

/// The ways that an operator has chosen, by the recipient's place in `envelope.recipients`.
pub type Detours = BTreeMap<u32, Detour>;

/// A way that an operator has chosen for a recipient in place of the configured one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Detour {
    /// To the hosts of its own domain, whatever routes there are.
    Mx,
    /// By way of this relay: `HOST:PORT`, as a `[[route]]` would name it.
    Relay(String),
}

/// `mx`, or the relay.
impl std::fmt::Display for Detour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Detour::Mx => f.write_str("mx"),
            Detour::Relay(relay) => f.write_str(relay),
        }
    }
}

/// Where one recipient goes from now on; None: the configured way again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Way {
    /// Its place in `envelope.recipients`.
    pub index: u32,
    pub detour: Option<Detour>,
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

    /// Whether no recipient is still to be tried for the first time.
    pub(crate) fn none_is_new(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| recipient.state != State::Queued)
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

    /// Why it stands where it stands. While it waits for an attempt, that is the last attempt:
    /// an operator's hold that is over explains nothing any more.
    pub fn last(&self) -> Option<&Attempt> {
        match self.state {
            State::Queued | State::Deferred => self.last_attempt(),
            State::Held | State::Delivered | State::Bounced | State::Discarded => {
                self.history.last()
            }
        }
    }

    /// The last attempt, whatever an operator has done since.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        let mut latest_first = self.history.iter().rev();
        latest_first.find(|attempt| attempt.category != OPERATOR)
    }

    /// Adds an attempt; keeps the first and the latest.
    pub fn record(&mut self, attempt: Attempt) {
        self.attempts += 1;
        self.push(attempt);
    }

    /// An operator keeps it until it is released.
    pub fn hold(&mut self, now: Timestamp) {
        self.state = State::Held;
        self.push(Attempt::by_operator(now, HOLD, "held by an operator"));
    }

    /// It is due now, by an operator's word.
    pub fn release(&mut self, now: Timestamp) {
        self.state = match self.attempts {
            0 => State::Queued,
            _ => State::Deferred,
        };
        self.next_attempt = now;
        self.push(Attempt::by_operator(
            now,
            RELEASE,
            "released by an operator",
        ));
    }

    /// It came from another queue, as `words` say: from now on the first thing in its history, behind
    /// which all that came before in that queue stays.
    pub fn begin_history(&mut self, now: Timestamp, words: &str) {
        if self.history.len() >= RecipientState::ATTEMPTS_KEPT {
            self.history.truncate(RecipientState::ATTEMPTS_KEPT);
            self.history.remove(1);
        }
        let import = Attempt::by_operator(now, IMPORT, words);
        self.history.insert(0, import);
    }

    /// An operator gives it up. `words` say so in the log and in the DSN.
    pub fn give_up(&mut self, now: Timestamp, words: &str) {
        self.state = State::Bounced;
        self.push(Attempt::by_operator(now, BOUNCE, words));
    }

    /// An attempt that had begun before it was held ends without releasing it: the attempt is kept,
    /// and so is the hold with its reason. Only [`RecipientState::release`] ends a hold.
    pub(crate) fn stay_held(&mut self, before: &RecipientState) {
        match self.state {
            State::Queued | State::Deferred
                if before.state == State::Held && !self.was_released() =>
            {
                self.state = State::Held;
                let why = before.history.last();
                if let Some(why) = why.filter(|why| !self.history.contains(why)) {
                    self.push(why.clone());
                }
            }
            State::Queued
            | State::Deferred
            | State::Held
            | State::Delivered
            | State::Bounced
            | State::Discarded => {}
        }
    }

    /// Whether the last that happened to it is an operator's release.
    pub(crate) fn was_released(&self) -> bool {
        let last = self.history.last();
        last.is_some_and(|last| last.action == RELEASE)
    }

    fn push(&mut self, attempt: Attempt) {
        if self.history.len() == RecipientState::ATTEMPTS_KEPT {
            self.history.remove(1);
        }
        self.history.push(attempt);
    }
}

/// Rule and category of what an operator did; it stands among the attempts.
pub const OPERATOR: &str = "operator";
const IMPORT: &str = "import";
const HOLD: &str = "hold";
const RELEASE: &str = "release";
const BOUNCE: &str = "bounce";

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
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

impl Attempt {
    /// What an operator did instead of an attempt. No phase fits; this one is before all others.
    fn by_operator(at: Timestamp, action: &str, words: &str) -> Attempt {
        Attempt {
            at,
            host: None,
            tls: None,
            phase: Phase::Dns,
            reply: words.to_owned(),
            category: OPERATOR.to_owned(),
            action: action.to_owned(),
            rule: OPERATOR.to_owned(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn attempt(second: i64, reply: &str) -> Attempt {
        Attempt {
            category: "greylisted".to_owned(),
            ..Attempt::by_operator(at(second), "defer", reply)
        }
    }

    #[test]
    fn a_hold_says_why_and_a_release_brings_the_last_attempt_back() {
        let mut state = RecipientState::new(at(0));
        state.record(attempt(1, "450 later"));
        state.state = State::Deferred;
        state.hold(at(2));
        assert_eq!(state.last().unwrap().reply, "held by an operator");
        state.release(at(3));
        assert_eq!((state.state, state.next_attempt), (State::Deferred, at(3)));
        assert_eq!(state.last().unwrap().reply, "450 later");
        assert_eq!(state.attempts, 1);
        let mut fresh = RecipientState::new(at(0));
        fresh.hold(at(1));
        fresh.release(at(2));
        assert_eq!((fresh.state, fresh.last()), (State::Queued, None));
    }

    #[test]
    fn an_attempt_that_began_before_the_hold_does_not_end_it() {
        let mut before = RecipientState::new(at(0));
        let mut deferred = before.clone();
        deferred.record(attempt(5, "450 later"));
        deferred.state = State::Deferred;
        before.hold(at(2));

        let mut after = deferred.clone();
        after.stay_held(&before);
        assert_eq!((after.state, after.attempts), (State::Held, 1));
        assert_eq!(after.last().unwrap().reply, "held by an operator");
        assert_eq!(after.last_attempt().unwrap().reply, "450 later");
        let once = after.clone();
        let mut again = deferred.clone();
        again.stay_held(&once);
        assert_eq!(again, once, "replaying the journal changes nothing");

        let mut delivered = deferred;
        delivered.state = State::Delivered;
        delivered.stay_held(&before);
        assert_eq!(delivered.state, State::Delivered);
        let mut released = before.clone();
        released.release(at(9));
        released.stay_held(&before);
        assert_eq!(released.state, State::Queued);
    }
}
