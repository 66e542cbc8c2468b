//! What accepting and settling do to a message: pure, the same for both stores and for recovery.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::{Envelope, QueueId};

use crate::brief::Brief;
use crate::fair::Parties;
use crate::message::{
    Arrival, Detours, Message, NewMessage, RecipientChange, RecipientState, State, Way,
};
use crate::store::{Stats, StoreError};

/// The message as it stands in the queue right after it was accepted: everybody due at once.
pub(crate) fn accepted(new: NewMessage) -> Message {
    debug_assert!(!new.envelope.recipients.is_empty(), "nobody to deliver to");
    let size = new.body.len();
    fresh(new.id, new.envelope, new.arrival, size)
}

/// The same from what the journal has of it.
pub(crate) fn fresh(id: QueueId, envelope: Envelope, mut arrival: Arrival, size: u64) -> Message {
    arrival.at = to_millisecond(arrival.at);
    let recipients = vec![RecipientState::new(arrival.at); envelope.recipients.len()];
    Message {
        id,
        envelope,
        arrival,
        size,
        recipients,
        detours: Detours::new(),
    }
}

/// A message that was in another queue, as it stands in this one: everything as it was.
pub(crate) fn imported(mut message: Message, size: u64) -> Message {
    debug_assert!(!message.finished(), "nothing to be done for it");
    message.size = size;
    message.arrival.at = to_millisecond(message.arrival.at);
    for state in &mut message.recipients {
        *state = kept(state);
    }
    message
}

/// The message with its recipients going these ways; None where that changes nothing. A recipient
/// whose state is final goes nowhere any more.
pub(crate) fn rerouted(message: &Message, ways: &[Way]) -> Result<Option<Message>, StoreError> {
    let mut detours = message.detours.clone();
    for Way { index, detour } in ways {
        let state = message.recipients.get(*index as usize);
        let state = state.ok_or(StoreError::Unknown(message.id))?;
        match detour {
            _ if state.state.is_final() => {}
            Some(detour) => {
                detours.insert(*index, detour.clone());
            }
            None => {
                detours.remove(index);
            }
        }
    }
    Ok((detours != message.detours).then(|| Message {
        detours,
        ..message.clone()
    }))
}

/// The message after the changes; None where they change nothing.
///
/// A final state stays (a delivery that ends after an operator's delete must not bring the recipient
/// back). That also makes replaying the journal over a newer index safe.
pub(crate) fn changed(
    message: &Message,
    changes: &[RecipientChange],
) -> Result<Option<Message>, StoreError> {
    let mut after = None;
    for change in changes {
        let index = change.index as usize;
        let before = message
            .recipients
            .get(index)
            .ok_or(StoreError::Unknown(message.id))?;
        if before.state.is_final() {
            continue;
        }
        let after = after.get_or_insert_with(|| message.clone());
        if let Some(place) = after.recipients.get_mut(index) {
            *place = kept(&change.state);
            place.stay_held(before);
        }
    }
    Ok(after)
}

/// As it comes back from disk, where times have milliseconds: nobody may see another value before a
/// restart than after it.
fn kept(state: &RecipientState) -> RecipientState {
    let mut state = state.clone();
    state.next_attempt = to_millisecond(state.next_attempt);
    for attempt in &mut state.history {
        attempt.at = to_millisecond(attempt.at);
    }
    state
}

fn to_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// What [`Stats`] counts of unfinished messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    messages: u64,
    queued: u64,
    deferred: u64,
    held: u64,
    bytes: u64,
    parties: Parties,
}

impl Counts {
    pub(crate) fn add(&mut self, message: &Brief<'_>) {
        self.messages += 1;
        self.bytes += message.size;
        self.parties.add(message);
        for recipient in &message.open {
            if let Some(count) = self.of(recipient.state) {
                *count += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, message: &Brief<'_>) {
        self.messages -= 1;
        self.bytes -= message.size;
        self.parties.remove(message);
        for recipient in &message.open {
            if let Some(count) = self.of(recipient.state) {
                *count -= 1;
            }
        }
    }

    pub(crate) fn parties(&self) -> &Parties {
        &self.parties
    }

    fn of(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Queued => Some(&mut self.queued),
            State::Deferred => Some(&mut self.deferred),
            State::Held => Some(&mut self.held),
            State::Delivered | State::Bounced | State::Discarded => None,
        }
    }

    pub(crate) fn stats(&self, oldest: Option<Timestamp>, commits: u64, records: u64) -> Stats {
        Stats {
            messages: self.messages,
            queued: self.queued,
            deferred: self.deferred,
            held: self.held,
            bytes: self.bytes,
            oldest,
            commits,
            records,
        }
    }
}

/// The latest finished messages.
#[derive(Debug)]
pub(crate) struct Recent {
    kept: usize,
    messages: VecDeque<Arc<Message>>,
}

impl Recent {
    pub(crate) fn new(kept: usize) -> Recent {
        Recent {
            kept,
            messages: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, message: Arc<Message>) {
        self.messages.push_front(message);
        self.messages.truncate(self.kept);
    }

    pub(crate) fn find(&self, id: QueueId) -> Option<Arc<Message>> {
        self.messages.iter().find(|m| m.id == id).cloned()
    }

    pub(crate) fn latest(&self, limit: usize) -> Vec<Arc<Message>> {
        self.messages.iter().take(limit).cloned().collect()
    }
}
