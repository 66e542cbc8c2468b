//! Nothing lost: what was accepted comes to exactly one end, what is called delivered is with the
//! peer, and nobody gets it twice without a reason.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relay_smtp::QueueId;

use crate::fact::{Check, Fact};
use crate::store::{End, Store};

#[derive(Default)]
pub struct NothingLost {
    copies: BTreeMap<(QueueId, u32), Copies>,
    /// Taken by the peer, not yet in the queue.
    unwritten: Vec<(QueueId, u32)>,
}

#[derive(Clone, Copy, Default)]
struct Copies {
    with_peer: u32,
    /// How often we could not know that the peer has it.
    doubts: u32,
}

impl NothingLost {
    /// What was not written of these is not known: it is tried once more.
    fn forgot(&mut self, of: impl Fn(QueueId) -> bool) {
        for place in self.unwritten.extract_if(.., |place| of(place.0)) {
            let copies = self.copies.entry(place).or_default();
            copies.doubts = copies.with_peer;
        }
    }
}

impl Check for NothingLost {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store) {
        match fact {
            Fact::Took { id, recipient } => {
                let copies = self.copies.entry((*id, *recipient)).or_default();
                copies.with_peer += 1;
                assert!(
                    copies.with_peer <= 1 + copies.doubts,
                    "{id} to {recipient} was delivered twice"
                );
                self.unwritten.push((*id, *recipient));
            }
            Fact::Written { key, ends, .. } => {
                for &(index, end) in *ends {
                    let place = (key.0, index);
                    self.unwritten.retain(|&unwritten| unwritten != place);
                    let copies = self.copies.entry(place).or_default();
                    match end {
                        End::Delivered => assert!(
                            copies.with_peer > 0,
                            "{} to {index} is called delivered and is not",
                            key.0
                        ),
                        // The connection was lost after the body.
                        End::Due(_) | End::Expired => copies.doubts = copies.with_peer,
                        End::Bounced | End::Discarded => {}
                    }
                    if end == End::Expired {
                        let age = now.duration_since(store.mail(key.0).arrived);
                        assert!(age.as_hours() >= 4, "{} expired after {age:#}", key.0);
                    }
                }
            }
            Fact::Back { key } => self.forgot(|id| id == key.0),
            Fact::Restarted => self.forgot(|_| true),
            Fact::Accepted { .. }
            | Fact::Discarded { .. }
            | Fact::Limits { .. }
            | Fact::Opened { .. }
            | Fact::Assigned { .. }
            | Fact::Carried { .. }
            | Fact::Quit { .. }
            | Fact::Closed { .. }
            | Fact::Flushed { .. }
            | Fact::Suspended { .. }
            | Fact::Resumed { .. }
            | Fact::Healed => {}
        }
    }

    fn end(&mut self, store: &Store) {
        let left = store.unfinished();
        assert!(
            left.is_empty(),
            "{} messages are left: {left:?}",
            left.len()
        );
        for (id, mail) in &store.mails {
            for (index, recipient) in (0..).zip(&mail.recipients) {
                let with_peer = self.copies.get(&(*id, index)).map_or(0, |c| c.with_peer);
                let delivered = recipient.end == End::Delivered;
                assert!(!delivered || with_peer > 0, "{id} to {index} is lost");
            }
        }
    }
}
