//! The state in memory: what the index does not have yet, who is unfinished, the counts. Changed
//! only by the commit thread (and by recovery before it starts), in the order of the journal.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::QueueId;

use crate::big::InFile;
use crate::brief::Brief;
use crate::facts::Facts;
use crate::fair::Parties;
use crate::index::{Applied, Position, Row, Update};
use crate::message::Message;
use crate::record::{Place, Spot};
use crate::settle::{Counts, Recent};
use crate::store::{Stats, StoreError};

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Every unfinished message.
    facts: Facts,
    /// Messages whose latest state the index lacks, and those in use.
    overlay: BTreeMap<QueueId, Entry>,
    /// What segments are needed for; those that are not are left out.
    segments: BTreeMap<u32, Used>,
    /// Unfinished messages whose body has a file of its own.
    big: BTreeMap<QueueId, InFile>,
    /// Finished ones: their files go once the index knows that they have finished.
    big_finished: Vec<QueueId>,
    counts: Counts,
    recent: Recent,
    applied: Applied,
    commits: u64,
    records: u64,
    /// Records that the index has not been given yet.
    pub(crate) unapplied: u64,
    /// Why nothing is written any more.
    pub(crate) stopped: Option<String>,
}

/// What a segment is needed for: the bodies of unfinished messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) messages: u64,
    /// Of bodies.
    pub(crate) bytes: u64,
    /// The latest arrival among all messages that it was ever needed for since start.
    pub(crate) newest_unix_s: u32,
}

#[derive(Debug)]
struct Entry {
    now: Now,
    /// What the index has of it: values, 0 for nothing.
    parts: u16,
    /// Rises with each change.
    version: u64,
    dirty: Dirty,
    /// Operations that need it to stay here.
    pins: u32,
}

#[derive(Clone, Debug)]
enum Now {
    Live(Arc<Message>, Place),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dirty {
    /// The index has the same.
    No,
    /// The index must be told.
    Yes,
    /// The index is being told of this version.
    Applying(u64),
}

/// Where to find a message.
#[derive(Debug)]
pub(crate) enum Lookup {
    Here(Arc<Message>, Place),
    InIndex,
    Unknown,
}

/// What the index is to be told now: the second half says which versions these are.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) updates: Vec<Update>,
    pub(crate) applied: Applied,
    /// The oldest segment with the body of a message that the index has then; None: there is no message.
    pub(crate) needed: Option<u32>,
    /// Files of finished messages: to be removed when the index has been told.
    pub(crate) big_finished: Vec<QueueId>,
    versions: Vec<(QueueId, u64)>,
    /// Records that brought them.
    records: u64,
}

impl Ledger {
    pub(crate) fn new(applied: Applied, remembered: usize) -> Ledger {
        Ledger {
            facts: Facts::default(),
            overlay: BTreeMap::new(),
            segments: BTreeMap::new(),
            big: BTreeMap::new(),
            big_finished: Vec::new(),
            counts: Counts::default(),
            recent: Recent::new(remembered),
            applied,
            commits: 0,
            records: 0,
            unapplied: 0,
            stopped: None,
        }
    }

    /// At start: a message that the index has.
    pub(crate) fn load(&mut self, message: &Brief<'_>, place: Place) {
        self.add_live(message, place);
    }

    pub(crate) fn lookup(&self, id: QueueId) -> Lookup {
        match self.overlay.get(&id).map(|entry| &entry.now) {
            Some(Now::Live(message, place)) => Lookup::Here(message.clone(), *place),
            Some(Now::Gone) => Lookup::Unknown,
            None if self.facts.contains(id) => Lookup::InIndex,
            None => Lookup::Unknown,
        }
    }

    pub(crate) fn is_live(&self, id: QueueId) -> bool {
        self.facts.contains(id)
    }

    /// Keeps the message in memory until [`Ledger::unpin`].
    pub(crate) fn pin(&mut self, id: QueueId) -> Lookup {
        let found = self.lookup(id);
        if let (Lookup::Here(..), Some(entry)) = (&found, self.overlay.get_mut(&id)) {
            entry.pins += 1;
        }
        found
    }

    /// Takes in what the index has of a message, unless something newer is here.
    pub(crate) fn take_in(&mut self, row: Row) {
        self.overlay.entry(row.message.id).or_insert(Entry {
            now: Now::Live(row.message, row.place),
            parts: row.parts,
            version: 0,
            dirty: Dirty::No,
            pins: 0,
        });
    }

    pub(crate) fn unpin(&mut self, id: QueueId) {
        if let Some(entry) = self.overlay.get_mut(&id) {
            entry.pins = entry.pins.saturating_sub(1);
        }
        self.evict(id);
    }

    /// A message that the journal has now, new or copied forward.
    pub(crate) fn install_accepted(&mut self, message: Arc<Message>, place: Place) {
        let id = message.id;
        self.saw(Some(id));
        // Copied forward, or replay over an index that has it already.
        if let Lookup::Here(before, place) = self.lookup(id) {
            self.counts.remove(&Brief::of(&before));
            self.drop_live(&before, place);
        }
        self.add_live(&Brief::of(&message), place);
        self.change(id, Now::Live(message, place));
    }

    /// A change that the journal has now; the message as it was must be here: pinned, or just taken in.
    pub(crate) fn install_settled(&mut self, after: Arc<Message>) {
        let id = after.id;
        let Lookup::Here(before, place) = self.lookup(id) else {
            debug_assert!(false, "settled a message that is not in memory");
            return;
        };
        self.counts.remove(&Brief::of(&before));
        if after.finished() {
            self.drop_live(&before, place);
            match place.spot {
                Spot::At(_) => {}
                Spot::File => self.big_finished.push(id),
            }
            self.recent.push(after);
            self.change(id, Now::Gone);
        } else {
            let brief = Brief::of(&after);
            self.counts.add(&brief);
            self.facts.put(&brief, place.segment);
            self.change(id, Now::Live(after, place));
        }
    }

    /// Records up to `end` have been installed.
    pub(crate) fn advance(&mut self, end: Position, records: u64) {
        self.applied.position = end;
        self.records += records;
        self.unapplied += records;
    }

    /// What recovery did is not counted.
    pub(crate) fn start_counting(&mut self) {
        self.commits = 0;
        self.records = 0;
    }

    pub(crate) fn count_commit(&mut self) {
        self.commits += 1;
    }

    /// An id that the journal knows: ids given from now on are above it.
    pub(crate) fn saw(&mut self, id: Option<QueueId>) {
        self.applied.highest = self.applied.highest.max(id);
    }

    pub(crate) fn highest(&self) -> Option<QueueId> {
        self.applied.highest
    }

    pub(crate) fn position(&self) -> Position {
        self.applied.position
    }

    fn change(&mut self, id: QueueId, now: Now) {
        let entry = self.overlay.entry(id).or_insert(Entry {
            now: Now::Gone,
            parts: 0,
            version: 0,
            dirty: Dirty::No,
            pins: 0,
        });
        entry.now = now;
        entry.version += 1;
        entry.dirty = match entry.dirty {
            Dirty::No | Dirty::Yes => Dirty::Yes,
            Dirty::Applying(version) => Dirty::Applying(version),
        };
        // Came and went within the window: the index never hears of it.
        if matches!(
            (&entry.now, entry.dirty, entry.parts),
            (Now::Gone, Dirty::Yes, 0)
        ) {
            entry.dirty = Dirty::No;
        }
        self.evict(id);
    }

    fn evict(&mut self, id: QueueId) {
        let clean = |entry: &Entry| entry.pins == 0 && entry.dirty == Dirty::No;
        if self.overlay.get(&id).is_some_and(clean) {
            self.overlay.remove(&id);
        }
    }

    /// What the index lacks.
    pub(crate) fn begin_apply(&mut self) -> Changes {
        let mut updates = Vec::new();
        let mut versions = Vec::new();
        for (&id, entry) in &mut self.overlay {
            if entry.dirty != Dirty::Yes {
                continue;
            }
            entry.dirty = Dirty::Applying(entry.version);
            versions.push((id, entry.version));
            let old_parts = entry.parts;
            updates.push(match &entry.now {
                Now::Live(message, place) => Update::Put {
                    message: message.clone(),
                    place: *place,
                    old_parts,
                },
                Now::Gone => Update::Remove { id, old_parts },
            });
        }
        let records = std::mem::take(&mut self.unapplied);
        Changes {
            updates,
            applied: self.applied,
            needed: self.segments.keys().next().copied(),
            big_finished: std::mem::take(&mut self.big_finished),
            versions,
            records,
        }
    }

    /// The index has them, spread over `parts` values each.
    pub(crate) fn end_apply(&mut self, changes: &Changes, parts: &[u16]) {
        for (&(id, version), &parts) in changes.versions.iter().zip(parts) {
            if let Some(entry) = self.overlay.get_mut(&id) {
                entry.parts = parts;
                entry.dirty = match (entry.version == version, &entry.now, parts) {
                    (true, _, _) | (false, Now::Gone, 0) => Dirty::No,
                    (false, _, _) => Dirty::Yes,
                };
            }
            self.evict(id);
        }
    }

    /// The index does not have them after all.
    pub(crate) fn undo_apply(&mut self, changes: &Changes) {
        for (id, _) in &changes.versions {
            if let Some(entry) = self.overlay.get_mut(id) {
                entry.dirty = Dirty::Yes;
            }
        }
        self.unapplied += changes.records;
    }

    /// The index is written anew: these messages it takes from the old one, the others from here, as if it had
    /// never had them.
    pub(crate) fn begin_copy(&mut self) -> Vec<QueueId> {
        for entry in self.overlay.values_mut() {
            if entry.dirty != Dirty::No {
                entry.parts = 0;
            }
        }
        let clean = |id: &QueueId| {
            let entry = self.overlay.get(id);
            entry.is_none_or(|entry| entry.dirty == Dirty::No)
        };
        self.facts.ids().filter(clean).collect()
    }

    /// Unfinished messages after this one, in order, at most so many.
    pub(crate) fn live_after(&self, after: Option<QueueId>, limit: usize) -> Vec<QueueId> {
        self.facts.ids_after(after).take(limit).collect()
    }

    /// Lays what is newer here over rows of the index that cover the ids after `after` up to `upto`
    /// (None: to the end).
    pub(crate) fn merge(
        &self,
        rows: Vec<Row>,
        after: Option<QueueId>,
        upto: Option<QueueId>,
    ) -> Vec<Arc<Message>> {
        let mut messages: BTreeMap<QueueId, Arc<Message>> = rows
            .into_iter()
            // While the index cannot be written it still has what has gone.
            .filter(|row| self.facts.contains(row.message.id))
            .map(|row| (row.message.id, row.message))
            .collect();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = upto.map_or(Bound::Unbounded, Bound::Included);
        for (&id, entry) in self.overlay.range((from, to)) {
            match &entry.now {
                Now::Live(message, _) => messages.insert(id, message.clone()),
                Now::Gone => messages.remove(&id),
            };
        }
        messages.into_values().collect()
    }

    /// Files that unfinished messages need.
    pub(crate) fn big(&self) -> &BTreeMap<QueueId, InFile> {
        &self.big
    }

    /// Segments that unfinished messages need.
    pub(crate) fn segments(&self) -> &BTreeMap<u32, Used> {
        &self.segments
    }

    /// Unfinished messages whose body lies in the segment, the latest first. Looks at all there are.
    pub(crate) fn messages_in(&self, segment: u32) -> Vec<QueueId> {
        self.facts.in_segment(segment)
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(crate) fn stats(&self) -> Stats {
        let oldest = self.facts.oldest_unix_s();
        let oldest = oldest.and_then(|at| Timestamp::from_second(at.into()).ok());
        self.counts.stats(oldest, self.commits, self.records)
    }

    pub(crate) fn may_write(&self) -> Result<(), StoreError> {
        match &self.stopped {
            Some(reason) => Err(StoreError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    /// Who holds how much.
    pub(crate) fn parties(&self) -> &Parties {
        self.counts.parties()
    }

    fn add_live(&mut self, message: &Brief<'_>, place: Place) {
        let segment = place.segment;
        match place.spot {
            Spot::At(_) => {}
            Spot::File => {
                self.big.insert(message.id, place.in_file());
            }
        }
        self.counts.add(message);
        let used = self.segments.entry(segment).or_default();
        used.messages += 1;
        used.bytes += place.bytes_in_segment();
        used.newest_unix_s = used.newest_unix_s.max(message.arrived_unix_s);
        self.facts.put(message, segment);
    }

    fn drop_live(&mut self, message: &Message, place: Place) {
        match place.spot {
            Spot::At(_) => {}
            Spot::File => {
                self.big.remove(&message.id);
            }
        }
        if let Some(segment) = self.facts.remove(message.id)
            && let Some(used) = self.segments.get_mut(&segment)
        {
            used.messages -= 1;
            used.bytes -= place.bytes_in_segment();
            if used.messages == 0 {
                self.segments.remove(&segment);
            }
        }
    }
}

/// What earlier records of the same write did, before it is on disk.
pub(crate) type Ahead = HashMap<QueueId, Option<Arc<Message>>>;
