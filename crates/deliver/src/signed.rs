//! Signatures that were made lately: a message that is tried again, or that goes to several sites, is
//! signed once. Bounded; what is not here is only signed again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay_smtp::QueueId;
use tokio::sync::OnceCell;

/// The bytes that a signature covers: the same message in another form is another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    AsItIs,
    SevenBit,
}

/// One RSA-2048 signature takes about 700 bytes: some 6 MB.
const KEPT_MAX: usize = 8192;
/// Longer than this only where a header has hundreds of fields of one name.
const BYTES_MAX: usize = 4096;
/// Receivers may doubt a t= that is days old, and a reputation counts by it.
const FRESH_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Filled by the first who asks.
pub(crate) type Slot = Arc<OnceCell<Bytes>>;

#[derive(Default)]
pub(crate) struct Kept(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    by_message: HashMap<(QueueId, Form), Entry>,
    /// The oldest first: who goes when there is no room.
    by_age: BTreeMap<u64, (QueueId, Form)>,
    next: u64,
}

struct Entry {
    slot: Slot,
    made: Timestamp,
    number: u64,
}

impl Kept {
    pub fn known(&self, id: QueueId, form: Form, now: Timestamp) -> Option<Bytes> {
        let slots = self.lock();
        let entry = slots.by_message.get(&(id, form))?;
        match entry.is_fresh(now) {
            true => entry.slot.get().cloned(),
            false => None,
        }
    }

    /// The place of a message's signatures, made where there is none.
    pub fn slot(&self, id: QueueId, form: Form, now: Timestamp) -> Slot {
        let mut slots = self.lock();
        if let Some(entry) = slots.by_message.get(&(id, form))
            && entry.is_fresh(now)
        {
            return Arc::clone(&entry.slot);
        }
        slots.remove((id, form));
        while slots.by_message.len() >= KEPT_MAX {
            match slots.by_age.first_key_value().map(|(_, key)| *key) {
                Some(oldest) => slots.remove(oldest),
                None => break,
            }
        }
        slots.add((id, form), now)
    }

    /// What is too long is not kept, nor what came to nothing.
    pub fn drop_unfit(&self, id: QueueId, form: Form, signatures: &Bytes) {
        if signatures.is_empty() || signatures.len() > BYTES_MAX {
            self.lock().remove((id, form));
        }
    }

    pub fn forget(&self, id: QueueId) {
        let mut slots = self.lock();
        slots.remove((id, Form::AsItIs));
        slots.remove((id, Form::SevenBit));
    }

    /// Nothing panics while it is held; and were it so, the worst is a signature made again.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn add(&mut self, key: (QueueId, Form), made: Timestamp) -> Slot {
        let slot = Slot::default();
        let number = self.next;
        self.next += 1;
        self.by_age.insert(number, key);
        let entry = Entry {
            slot: Arc::clone(&slot),
            made,
            number,
        };
        self.by_message.insert(key, entry);
        slot
    }

    fn remove(&mut self, key: (QueueId, Form)) {
        if let Some(entry) = self.by_message.remove(&key) {
            self.by_age.remove(&entry.number);
        }
    }
}

impl Entry {
    fn is_fresh(&self, now: Timestamp) -> bool {
        now.duration_since(self.made) < FRESH_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> QueueId {
        format!("{number:0>12}").parse().unwrap()
    }

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + 3600 * hour).unwrap()
    }

    fn put(kept: &Kept, number: u64, text: &'static str, now: Timestamp) {
        let slot = kept.slot(id(number), Form::AsItIs, now);
        slot.set(Bytes::from_static(text.as_bytes())).unwrap();
    }

    #[test]
    fn a_signature_is_known_for_a_day_and_for_its_form_only() {
        let kept = Kept::default();
        assert_eq!(kept.known(id(1), Form::AsItIs, hour(0)), None);
        put(&kept, 1, "a", hour(0));
        assert_eq!(kept.known(id(1), Form::AsItIs, hour(23)).unwrap(), "a");
        assert_eq!(kept.known(id(1), Form::SevenBit, hour(1)), None);
        assert_eq!(kept.known(id(2), Form::AsItIs, hour(1)), None);
        assert_eq!(kept.known(id(1), Form::AsItIs, hour(24)), None);
        put(&kept, 1, "b", hour(24));
        assert_eq!(kept.known(id(1), Form::AsItIs, hour(25)).unwrap(), "b");
        kept.forget(id(1));
        assert_eq!(kept.known(id(1), Form::AsItIs, hour(25)), None);
    }

    #[test]
    fn two_who_ask_at_once_share_one_place() {
        let kept = Kept::default();
        let first = kept.slot(id(1), Form::AsItIs, hour(0));
        let second = kept.slot(id(1), Form::AsItIs, hour(0));
        first.set(Bytes::from_static(b"once")).unwrap();
        assert_eq!(second.get().unwrap(), "once");
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_what_is_forgotten_takes_none() {
        let kept = Kept::default();
        put(&kept, 0, "old", hour(0));
        for number in 1..20_000 {
            put(&kept, number, "passing", hour(0));
            kept.forget(id(number));
        }
        assert!(kept.known(id(0), Form::AsItIs, hour(0)).is_some());
        for number in 1..=KEPT_MAX as u64 {
            put(&kept, number, "stays", hour(0));
        }
        assert_eq!(kept.known(id(0), Form::AsItIs, hour(0)), None);
        assert!(kept.known(id(1), Form::AsItIs, hour(0)).is_some());
        let slots = kept.lock();
        assert_eq!(slots.by_message.len(), KEPT_MAX);
        assert_eq!(slots.by_age.len(), KEPT_MAX);
    }

    #[test]
    fn what_is_too_long_or_empty_is_not_kept() {
        let kept = Kept::default();
        for text in [Bytes::new(), Bytes::from(vec![b'x'; BYTES_MAX + 1])] {
            let slot = kept.slot(id(1), Form::AsItIs, hour(0));
            slot.set(text.clone()).unwrap();
            kept.drop_unfit(id(1), Form::AsItIs, &text);
            assert_eq!(kept.known(id(1), Form::AsItIs, hour(0)), None);
        }
    }
}
