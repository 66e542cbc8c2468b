//! What happens in a simulation, as the checkers see it.

use jiff::Timestamp;
use relay_schedule::{Limits, SessionId};
use relay_smtp::QueueId;

use crate::store::{End, Store};

/// A job: a message and the number of its next hop.
pub type Key = (QueueId, usize);

/// One thing that happened. Sites and next hops are numbers.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A message is in the queue, due at once.
    Accepted {
        id: QueueId,
    },
    /// An operator took it out.
    Discarded {
        id: QueueId,
    },
    /// The scheduler was told these limits.
    Limits {
        site: usize,
        limits: &'a Limits,
    },
    Opened {
        session: SessionId,
        site: usize,
    },
    /// A dispatch was given out; `due` are the recipients that it tries.
    Assigned {
        session: SessionId,
        site: usize,
        key: Key,
        due: &'a [u32],
    },
    /// The peer has the message for this recipient.
    Took {
        id: QueueId,
        recipient: u32,
    },
    /// What a dispatch came to is in the queue.
    Written {
        key: Key,
        ends: &'a [(u32, End)],
        reached: Reached,
    },
    /// The session has carried its dispatch out; the outcome is being written.
    Carried {
        session: SessionId,
    },
    /// The job is nobody's any more, written or not.
    Back {
        key: Key,
    },
    Quit {
        session: SessionId,
    },
    Closed {
        session: SessionId,
    },
    /// These jobs may go at once.
    Flushed {
        keys: &'a [Key],
    },
    /// By a rule, an operator or failures in a row.
    Suspended {
        site: usize,
        until: Timestamp,
    },
    Resumed {
        site: usize,
    },
    /// The relay was killed and has loaded its queue again; all sessions are gone.
    Restarted,
    /// From now on all peers are well.
    Healed,
}

/// Whether a host was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Yes,
    No,
}

/// Judges a run. A fault is a panic that says what is wrong.
pub trait Check: Send {
    fn see(&mut self, now: Timestamp, fact: &Fact<'_>, store: &Store);

    /// All peers were well for long enough: what must hold now.
    fn end(&mut self, _store: &Store) {}
}
