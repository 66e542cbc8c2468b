//! No early attempt: a recipient is tried when it is due, when its message was flushed, or at the
//! deadline; and no dispatch finds nobody to try.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::fact::{Check, Fact, Key};
use crate::store::{End, Store};

#[derive(Default)]
pub struct NotEarly {
    flushed: BTreeSet<Key>,
}

impl Check for NotEarly {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store) {
        match fact {
            Fact::Assigned { key, due, .. } => {
                let flushed = self.flushed.remove(key);
                let late = now >= store.mail(key.0).deadline;
                let recipients = &store.mail(key.0).recipients;
                let discarded = recipients.iter().all(|r| r.end == End::Discarded);
                assert!(!due.is_empty() || discarded, "{key:?}: nobody to try");
                for &index in *due {
                    if let End::Due(at) = store.recipient(key.0, index).end {
                        let allowed = at <= now || flushed || late;
                        assert!(allowed, "{key:?} tried at {now}, due at {at}");
                    }
                }
            }
            Fact::Flushed { keys } => self.flushed.extend(keys.iter().copied()),
            // A flush is an order of the moment: it is not kept.
            Fact::Restarted => self.flushed.clear(),
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Took { .. }
            | Fact::Written { .. }
            | Fact::Carried { .. }
            | Fact::Back { .. }
            | Fact::Quit { .. }
            | Fact::Closed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }
}
