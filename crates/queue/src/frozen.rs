//! An index that cannot be written any more, mostly because the disk is full: sled refuses all writes after
//! one that failed. It is still read; what changes stays in memory and in the journal, which are the
//! truth anyway; and when there is space it is copied into a new one, which takes its place.
//!
//! Meanwhile no mail is accepted and deliveries go on, until memory holds as many changes as it may
//! (five times [`crate::Options::index_records`]): then outcomes wait, and with them the sessions.

use std::time::{Duration, Instant};

use relay_smtp::QueueId;

use crate::index::{Applied, Index, IndexError, Update};
use crate::shared::Shared;

/// Between two attempts to write a new index.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// With space enough a new index that fails so often fails for another reason.
const ATTEMPTS_MAX: u32 = 5;
/// Messages copied in one batch.
const BATCH: usize = 1000;
/// Space for a new index: so much for each message, and for sled's first files.
const MESSAGE_BYTES: u64 = 2048;
const FIRST_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Frozen {
    why: String,
    again: Instant,
    attempts: u32,
}

/// What to do with the index now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Wait,
    Copy,
    /// There is space, and still it cannot be written: a restart makes it anew from the journal.
    GiveUp,
}

impl Frozen {
    pub(crate) fn new(why: String) -> Frozen {
        Frozen {
            why,
            again: Instant::now(),
            attempts: 0,
        }
    }

    /// Why no mail is accepted.
    pub(crate) fn words(&self) -> String {
        format!(
            "the index cannot be written ({}); it goes on by itself when there is space",
            self.why
        )
    }

    /// So did the attempt at a new one.
    pub(crate) fn failed(&mut self, why: &str) {
        why.clone_into(&mut self.why);
    }

    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    pub(crate) fn next(&mut self, shared: &Shared) -> Next {
        let now = Instant::now();
        if now < self.again {
            return Next::Wait;
        }
        self.again = now + AGAIN_AFTER;
        let messages = shared.ledger().stats().messages;
        let needed = messages.saturating_mul(MESSAGE_BYTES) + FIRST_BYTES;
        let space = shared.room().space;
        if space.is_some_and(|space| space.free_bytes < needed) {
            return Next::Wait;
        }
        self.attempts += 1;
        match self.attempts > ATTEMPTS_MAX {
            true => Next::GiveUp,
            false => Next::Copy,
        }
    }
}

/// A new index that is in use.
#[derive(Debug)]
pub(crate) struct Thawed {
    pub(crate) index: Index,
    pub(crate) applied: Applied,
    /// The oldest segment that it needs.
    pub(crate) needed: Option<u32>,
}

/// Writes a new index out of the old one and of what it lacks, and names it in CURRENT. Until then the
/// old one is in use; a stop leaves that, and the journal from where it stood.
pub(crate) fn copy(
    shared: &Shared,
    old: &Index,
    old_applied: Applied,
) -> Result<Thawed, IndexError> {
    let (layout, options) = (&shared.layout, &shared.options);
    let missing = || IndexError::Damaged("CURRENT names no index".to_owned());
    let number = layout.current().ok_or_else(missing)?;
    let path = layout.index(number + 1);
    let files = |error| IndexError::Files {
        path: path.clone(),
        error,
    };
    if path.exists() {
        layout.remove_index(number + 1).map_err(files)?;
    }
    let new = Index::open(&*options.device, &path, options.index_cache_bytes)?;
    let ids = shared.ledger().begin_copy();
    for ids in ids.chunks(BATCH) {
        let rows = ids.iter().map(|id| read(old, *id));
        new.apply(&rows.collect::<Result<Vec<_>, _>>()?, old_applied)?;
    }
    let changes = shared.ledger().begin_apply();
    let made = new
        .apply(&changes.updates, changes.applied)
        .and_then(|parts| {
            layout
                .write_current(number + 1)
                .map_err(files)
                .map(|()| parts)
        });
    match made {
        Ok(parts) => {
            shared.ledger().end_apply(&changes, &parts);
            // Removed at the next start if not now.
            let _ = layout.remove_index(number);
            Ok(Thawed {
                index: new,
                applied: changes.applied,
                needed: changes.needed,
            })
        }
        Err(error) => {
            shared.ledger().undo_apply(&changes);
            Err(error)
        }
    }
}

fn read(index: &Index, id: QueueId) -> Result<Update, IndexError> {
    let missing = || IndexError::Damaged(format!("message {id} is missing"));
    let row = index.read(id)?.ok_or_else(missing)?;
    Ok(Update::Put {
        message: row.message,
        place: row.place,
        old_parts: 0,
    })
}
