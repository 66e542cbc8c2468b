//! The space that a transaction holds in the queue: what MAIL said in SIZE, or what has come so far. So
//! many sessions together cannot send more than there is room for.

use relay_queue::{Admission, StoreError};

/// Given back when it is dropped: at the end of the transaction.
#[derive(Debug)]
pub(crate) struct Held {
    admission: Admission,
    received: u64,
    /// Space ran out in the middle of the data.
    refused: Option<StoreError>,
}

impl Held {
    pub(crate) fn new(admission: Admission) -> Held {
        Held {
            admission,
            received: 0,
            refused: None,
        }
    }

    /// Some more of the data has come. What does not fit is told at the end: before that nothing may be
    /// said (RFC 5321 section 4.1.1.4).
    pub(crate) fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        if self.refused.is_none() {
            self.refused = self.admission.hold(self.received).err();
        }
    }

    /// Why the message cannot be taken although MAIL was.
    pub(crate) fn refused(&self) -> Option<&StoreError> {
        self.refused.as_ref()
    }
}
