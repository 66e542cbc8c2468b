//! An index that cannot be used any more, mostly because the disk is full: sled refuses all writes after
//! one that failed. Reads then fail, too, now and then: sled splits and merges its pages, and writes pages out
//! that were pushed out of its memory, when somebody next comes by, be it to read. So it is not asked any more.
//! What changes stays in memory and in the journal, which are the truth anyway; the rest is read from the
//! journal; and when there is space a new index is made out of both and takes its place.
//!
//! Meanwhile no mail is accepted and deliveries go on, until memory holds as many changes as it may
//! (five times [`crate::Options::index_records`]): then outcomes wait, and with them the sessions.

use std::time::{Duration, Instant};

use relay_smtp::QueueId;

use crate::afresh::Afresh;
use crate::index::{Applied, Index, IndexError, Position, Row, Update};
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
    /// Failed ones, for lack of space not counted.
    attempts: u32,
    /// From when it is first needed on.
    afresh: Option<Afresh>,
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
            afresh: None,
        }
    }

    /// Why no mail is accepted.
    pub(crate) fn words(&self) -> String {
        format!(
            "the index cannot be used ({}); it goes on by itself when there is space",
            self.why
        )
    }

    /// So did the attempt at a new one.
    pub(crate) fn failed(&mut self, error: &IndexError) {
        self.why = error.to_string();
        if !error.is_full() {
            self.attempts += 1;
        }
    }

    /// A message that is not in memory. `old`: asked only where the journal cannot tell. None: neither can.
    pub(crate) fn read(
        &mut self,
        shared: &Shared,
        old: &Index,
        upto: Position,
        id: QueueId,
    ) -> Result<Option<Row>, IndexError> {
        let path = || shared.layout.journal();
        let files = |error| IndexError::Files {
            path: path(),
            error,
        };
        let afresh = match &mut self.afresh {
            Some(afresh) => afresh,
            none => none.insert(Afresh::note(shared, upto).map_err(files)?),
        };
        match afresh.read(id).map_err(files)? {
            Some(row) => Ok(Some(row)),
            None => old.read(id),
        }
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
        match self.attempts >= ATTEMPTS_MAX {
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

/// Writes a new index and names it in CURRENT. Until then a stop leaves the old one, and the journal from where
/// it stood.
pub(crate) fn replace(
    frozen: &mut Frozen,
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
    let made = Index::open(&*options.device, &path, options.index_cache_bytes).and_then(|new| {
        let (applied, needed) = fill(&new, frozen, shared, old, old_applied, || {
            layout.write_current(number + 1).map_err(files)
        })?;
        Ok(Thawed {
            index: new,
            applied,
            needed,
        })
    });
    // Removed at the next start if not now. A half-made one must not keep space from the next attempt.
    let _ = layout.remove_index(match &made {
        Ok(_) => number,
        Err(_) => number + 1,
    });
    made
}

/// First what memory does not have, then what it has; `name` makes it the one in use.
fn fill(
    new: &Index,
    frozen: &mut Frozen,
    shared: &Shared,
    old: &Index,
    old_applied: Applied,
    name: impl FnOnce() -> Result<(), IndexError>,
) -> Result<(Applied, Option<u32>), IndexError> {
    let ids = shared.ledger().begin_copy();
    for ids in ids.chunks(BATCH) {
        let rows = ids.iter().map(|id| {
            let missing = || IndexError::Damaged(format!("message {id} is missing"));
            let row = frozen.read(shared, old, old_applied.position, *id)?;
            let row = row.ok_or_else(missing)?;
            Ok(Update::Put {
                message: row.message,
                place: row.place,
                old_parts: 0,
            })
        });
        new.apply(&rows.collect::<Result<Vec<_>, IndexError>>()?, old_applied)?;
    }
    let changes = shared.ledger().begin_apply();
    let made = new
        .apply(&changes.updates, changes.applied)
        .and_then(|parts| name().map(|()| parts));
    match made {
        Ok(parts) => {
            shared.ledger().end_apply(&changes, &parts);
            Ok((changes.applied, changes.needed))
        }
        Err(error) => {
            shared.ledger().undo_apply(&changes);
            Err(error)
        }
    }
}
