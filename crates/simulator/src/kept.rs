//! What the simulator accepted, for people who look at it: the latest messages, in memory only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

/// One message as it arrived over the (simulated) wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub when: Timestamp,
    /// The host it was sent to: `mx.example.com`.
    pub host: String,
    /// MAIL FROM without angle brackets; empty for the null one.
    pub from: String,
    /// Accepted recipients, in order.
    pub to: Vec<String>,
    /// Header and body, dots unstuffed.
    pub bytes: Bytes,
}

/// The latest messages, bounded by number and by bytes.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Arc<Kept>>,
    bytes: usize,
}

/// Enough for an afternoon of trying things out.
const MESSAGES_MAX: usize = 500;
/// A run of large attachments must not fill the memory of a developer's machine.
const BYTES_MAX: usize = 32 * 1024 * 1024;

impl Ring {
    pub(crate) fn keep(&self, message: Kept) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += message.bytes.len();
        inner.messages.push_back(Arc::new(message));
        while inner.messages.len() > MESSAGES_MAX
            || (inner.bytes > BYTES_MAX && inner.messages.len() > 1)
        {
            if let Some(oldest) = inner.messages.pop_front() {
                inner.bytes -= oldest.bytes.len();
            }
        }
    }

    /// Newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Arc<Kept>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.messages.iter().rev().take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize, size: usize) -> Kept {
        Kept {
            when: Timestamp::UNIX_EPOCH,
            host: "mx.example.com".to_owned(),
            from: format!("{number}@x.test"),
            to: Vec::new(),
            bytes: Bytes::from(vec![b'x'; size]),
        }
    }

    #[test]
    fn only_the_latest_messages_are_kept() {
        let ring = Ring::default();
        for number in 0..MESSAGES_MAX + 3 {
            ring.keep(message(number, 1));
        }
        let latest = ring.latest(usize::MAX);
        assert_eq!(latest.len(), MESSAGES_MAX);
        assert_eq!(latest[0].from, format!("{}@x.test", MESSAGES_MAX + 2));
    }

    #[test]
    fn large_messages_push_out_older_ones() {
        let ring = Ring::default();
        for number in 0..4 {
            ring.keep(message(number, BYTES_MAX / 2));
        }
        assert_eq!(ring.latest(usize::MAX).len(), 2);
    }
}
