//! Queue ids: by the clock, and always above every id that was given before.

use std::sync::Mutex;

use jiff::Timestamp;
use relay_smtp::QueueId;

/// Gives ids out. One for a store.
#[derive(Debug)]
pub(crate) struct Ids {
    node: u8,
    last: Mutex<Option<QueueId>>,
}

impl Ids {
    /// `last`: the highest id that the journal knows. A clock that was set back cannot repeat it.
    pub(crate) fn after(last: Option<QueueId>, node: u8) -> Ids {
        Ids {
            node,
            last: Mutex::new(last),
        }
    }

    pub(crate) fn next(&self, now: Timestamp) -> QueueId {
        let unix_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let of_clock = QueueId::first_of(unix_ms, self.node);
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        let id = match *last {
            Some(last) => of_clock.max(last.next()),
            None => of_clock,
        };
        *last = Some(id);
        id
    }

    /// An id that came from elsewhere: later ones are above it.
    pub(crate) fn saw(&self, id: QueueId) {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        *last = (*last).max(Some(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_goes_back() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let ids = Ids::after(None, 3);
        let mut last = ids.next(at(1_795_000_000_000));
        for ms in [1_795_000_000_000, 1_795_000_000_001, 1_700_000_000_000] {
            let id = ids.next(at(ms));
            assert!(id > last);
            last = id;
        }
        let again = Ids::after(Some(last), 3).next(at(0));
        assert!(again > last);
    }
}
