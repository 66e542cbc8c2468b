//! Verifying: reads the whole journal and holds the index against it, and changes nothing.
//!
//! Of each unfinished message some 50 bytes are kept: checksums of what the journal says of it. The
//! journal is followed up to the place that the index has come to; what the index says from then on
//! is compared, and where relayd works beside it, messages that have changed meanwhile are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use relay_smtp::QueueId;

use crate::files::Layout;
use crate::index::{Position, Row};
use crate::message::{Detours, RecipientState};
use crate::record::{Change, Found, Place, Record, Spot};
use crate::segment::{self, FIRST_RECORD, Headless, Image, Item};

mod body;
mod known;
pub(crate) mod run;

use known::{Digest, Known};

/// Findings of one kind that are told one by one; the rest is only counted.
const TOLD_MAX: usize = 100;
/// Messages of the index that are read at a time.
const ROWS: usize = 500;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Of the journal.
    pub segments: u64,
    pub bytes: u64,
    /// Sound ones, body and all.
    pub records: u64,
    /// Unfinished messages, as the journal has them.
    pub messages: u64,
    /// Numbers of segments that should be there between the first and the last one.
    pub missing_segments: Vec<u32>,
    /// Places of the journal that cannot be read; `damage` tells the first ones.
    pub damaged: u64,
    pub damage: Vec<Damage>,
    /// Behind the last write that was promised: cut off at the next start, nobody was told 250.
    pub torn_bytes: u64,
    /// Messages of the index; None: it could not be read, and why stands in `index_problem`.
    pub index_messages: Option<u64>,
    /// It is made anew from the journal at the next start.
    pub index_problem: Option<String>,
    /// Messages of which index and journal say different things; `difference` tells the first ones.
    pub differences: u64,
    pub difference: Vec<Difference>,
    /// Messages whose body cannot be read.
    pub bodies_lost: u64,
    /// What lies in `quarantine/`: known already, and so no finding.
    pub quarantine: Vec<Quarantined>,
}

/// Bytes of the journal that are no record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Damage {
    pub segment: u32,
    pub offset: u32,
    pub bytes: u64,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    pub id: String,
    pub what: Differs,
    /// Whether its body can be read where the index says that it is.
    pub body: BodyFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Differs {
    /// The journal has it, the index does not.
    NotInIndex,
    /// The index has it, no sound record of the journal begins it.
    NotInJournal,
    /// Both have it, not the same of it.
    Content,
    /// They agree, but its body in `big/` is missing or damaged.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFound {
    Sound,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quarantined {
    pub name: String,
    pub bytes: u64,
    /// What stands in the file beside it.
    pub reason: Option<String>,
}

impl Report {
    /// Whether everything that was promised is there, twice.
    pub fn is_well(&self) -> bool {
        self.missing_segments.is_empty()
            && self.damaged == 0
            && self.differences == 0
            && self.index_problem.is_none()
    }
}

/// How far it has come; read by others while it works.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// Bytes of the journal that have been read, and all of them.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.done_bytes), read(&self.total_bytes))
    }
}

/// How much of the machine it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Full,
    /// As much rest as work: deliveries go on beside it.
    Half,
}

/// What a verification is told of an index, and asks it.
pub(crate) trait Rows {
    /// Up to `limit` messages after `after`, and how far in the journal the index has come by then.
    fn rows(
        &mut self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<(Vec<Row>, Position), String>;
}

/// The journal as far as it is read, and what it has said.
pub(crate) struct Verifier<'a> {
    layout: &'a Layout,
    progress: &'a Progress,
    pace: Pace,
    report: Report,
    live: BTreeMap<QueueId, Known>,
    /// Of the few messages that have any.
    detours: BTreeMap<QueueId, Detours>,
    /// Messages that records speak of, from some point on.
    touched: Option<BTreeSet<QueueId>>,
    /// The next byte that has not been read.
    at: Position,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(layout: &'a Layout, progress: &'a Progress, pace: Pace) -> Verifier<'a> {
        Verifier {
            layout,
            progress,
            pace,
            report: Report::default(),
            live: BTreeMap::new(),
            detours: BTreeMap::new(),
            touched: None,
            at: Position {
                segment: 0,
                offset: FIRST_RECORD,
            },
        }
    }

    /// A journal that nobody writes to; Err: there is no index that could be read, and why.
    pub(crate) fn at_rest(mut self, index: Result<&mut dyn Rows, String>) -> io::Result<Report> {
        let directory = self.layout.journal();
        let segments = segment::numbers(&directory)?;
        self.count(&segments)?;
        let index = index.and_then(|index| {
            let (_, position) = index.rows(None, 0)?;
            Ok((index, position))
        });
        let known = index.as_ref().ok().map(|(_, position)| *position);
        let end = self.promised(&segments, known)?;
        match index {
            Ok((_, position)) if position > end => {
                self.report.index_problem = Some("it is ahead of the journal".to_owned());
            }
            Ok((index, position)) => {
                self.read_upto(&segments, position)?;
                let found = self.compare(index);
                self.settle(found);
            }
            Err(problem) => self.report.index_problem = Some(problem),
        }
        self.read_upto(&segments, end)?;
        self.finish()
    }

    /// A journal and an index in use. Segments must not be deleted meanwhile.
    pub(crate) fn beside_work(mut self, index: &mut dyn Rows) -> io::Result<Report> {
        let directory = self.layout.journal();
        let (_, start) = index.rows(None, 0).map_err(io::Error::other)?;
        let segments = segment::numbers(&directory)?;
        self.count(&segments)?;
        self.read_upto(&segments, start)?;
        let found = self.compare(index);
        // What has changed since then may differ.
        let (_, end) = index.rows(None, 0).map_err(io::Error::other)?;
        self.touched = Some(BTreeSet::new());
        self.read_upto(&segment::numbers(&directory)?, end)?;
        self.settle(found);
        self.finish()
    }

    fn count(&mut self, segments: &[u32]) -> io::Result<()> {
        for (before, after) in segments.iter().zip(segments.iter().skip(1)) {
            self.report.missing_segments.extend(before + 1..*after);
        }
        let mut bytes = 0;
        for &number in segments {
            bytes += std::fs::metadata(segment::path(&self.layout.journal(), number))?.len();
        }
        self.progress.total_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Where the promised part of a journal at rest ends, as the next start will find it.
    fn promised(&mut self, segments: &[u32], index: Option<Position>) -> io::Result<Position> {
        for &segment in segments.iter().rev() {
            let offset = match Image::read(&self.layout.journal(), segment)? {
                Err(Headless::Empty) => continue,
                Ok(image) if image.is_unused() => match index {
                    // It was begun, and nothing came.
                    Some(index) if index.segment == segment => index.offset,
                    Some(_) | None => continue,
                },
                Ok(image) => {
                    let known = index.filter(|index| index.segment == segment);
                    let offset = image.promised_end(known.map_or(FIRST_RECORD, |at| at.offset));
                    self.report.torn_bytes = image.written_behind(offset);
                    offset
                }
                Err(Headless::WithRecords) => u32::MAX,
            };
            return Ok(Position { segment, offset });
        }
        Ok(self.at)
    }

    /// Reads on, up to a place between two records.
    fn read_upto(&mut self, segments: &[u32], end: Position) -> io::Result<()> {
        for &number in segments {
            let here = Position {
                segment: number,
                offset: match number == self.at.segment {
                    true => self.at.offset,
                    false => FIRST_RECORD,
                },
            };
            if here < self.at || here >= end {
                continue;
            }
            let to = match number == end.segment {
                true => end.offset,
                false => u32::MAX,
            };
            let begun = Instant::now();
            self.read_segment(here, to)?;
            self.at = Position {
                segment: number,
                offset: to,
            };
            match self.pace {
                Pace::Full => {}
                Pace::Half => std::thread::sleep(begun.elapsed().min(Duration::from_secs(10))),
            }
        }
        self.at = self.at.max(end);
        Ok(())
    }

    fn read_segment(&mut self, from: Position, to: u32) -> io::Result<()> {
        let number = from.segment;
        let path = segment::path(&self.layout.journal(), number);
        let first = from.offset == FIRST_RECORD;
        if first {
            self.report.segments += 1;
        }
        let image = match Image::read(&self.layout.journal(), number)? {
            Ok(image) => image.upto(to),
            Err(Headless::Empty) => return Ok(()),
            Err(Headless::WithRecords) => {
                let bytes = std::fs::metadata(path)?.len();
                self.damage(number, 0, bytes, "the segment's header is damaged");
                return Ok(());
            }
        };
        if first {
            self.report.bytes += u64::from(image.len());
            let done = std::fs::metadata(path)?.len();
            self.progress.done_bytes.fetch_add(done, Ordering::Relaxed);
        }
        for item in image.items(from.offset) {
            match item {
                Item::Record { record, .. } => self.record(record),
                Item::Damage {
                    bytes,
                    offset,
                    reason,
                } => self.damage(number, offset, bytes.len() as u64, &reason.to_string()),
            }
        }
        Ok(())
    }

    fn damage(&mut self, segment: u32, offset: u32, bytes: u64, reason: &str) {
        self.report.damaged += 1;
        if self.report.damage.len() < TOLD_MAX {
            self.report.damage.push(Damage {
                segment,
                offset,
                bytes,
                reason: reason.to_owned(),
            });
        }
    }

    /// The same as recovery does with it, on checksums.
    fn record(&mut self, record: Record) {
        self.report.records += 1;
        match record.change {
            Change::Accepted(found) => self.accepted(&found),
            Change::Carried(found, recipients, detours) => {
                self.touch(found.id);
                let known = Known::of(
                    &found,
                    recipients.iter().map(Digest::of).collect::<Vec<_>>(),
                );
                self.live.insert(found.id, known);
                self.detours.remove(&found.id);
                if !detours.is_empty() {
                    self.detours.insert(found.id, detours);
                }
            }
            Change::Rerouted { id, ways } => {
                self.touch(id);
                let Some(known) = self.live.get(&id) else {
                    return;
                };
                let detours = self.detours.entry(id).or_default();
                for way in ways {
                    match way.detour {
                        _ if known.recipients.is_final(way.index) => {}
                        Some(detour) => {
                            detours.insert(way.index, detour);
                        }
                        None => {
                            detours.remove(&way.index);
                        }
                    }
                }
                if detours.is_empty() {
                    self.detours.remove(&id);
                }
            }
            Change::Settled { id, changes, dsns } => {
                self.touch(id);
                if let Some(known) = self.live.get_mut(&id) {
                    known.recipients.change(&changes);
                    if known.recipients.all_final() {
                        self.live.remove(&id);
                        self.detours.remove(&id);
                    }
                }
                dsns.iter().for_each(|dsn| self.accepted(dsn));
            }
        }
    }

    fn accepted(&mut self, found: &Found) {
        self.touch(found.id);
        let fresh = Digest::of(&RecipientState::new(found.arrival.at));
        let recipients = vec![fresh; found.envelope.recipients.len()];
        self.live.insert(found.id, Known::of(found, recipients));
    }

    fn touch(&mut self, id: QueueId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(id);
        }
    }

    /// Holds the index against what the journal has said so far.
    fn compare(&mut self, index: &mut dyn Rows) -> BTreeMap<QueueId, (Differs, Option<Place>)> {
        let mut found = BTreeMap::new();
        let (mut after, mut messages) = (None, 0);
        loop {
            let rows = match index.rows(after, ROWS) {
                Ok((rows, _)) => rows,
                Err(problem) => {
                    self.report.index_problem = Some(problem);
                    return BTreeMap::new();
                }
            };
            messages += rows.len() as u64;
            let upto = rows.last().map(|row| row.message.id);
            let mut in_index = BTreeSet::new();
            for row in &rows {
                let id = row.message.id;
                in_index.insert(id);
                match self.live.get(&id) {
                    None => {
                        found.insert(id, (Differs::NotInJournal, Some(row.place)));
                    }
                    Some(known) if !self.is_same(known, row) => {
                        found.insert(id, (Differs::Content, Some(row.place)));
                    }
                    // A body in the segment was read with its record.
                    Some(_) => {
                        if row.place.spot == Spot::File
                            && body::look(self.layout, id, row.place) == BodyFound::Lost
                        {
                            found.insert(id, (Differs::Body, Some(row.place)));
                        }
                    }
                }
            }
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let to = upto.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included);
            for (&id, _) in self.live.range((from, to)) {
                if !in_index.contains(&id) {
                    found.insert(id, (Differs::NotInIndex, None));
                }
            }
            match upto {
                Some(upto) => after = Some(upto),
                None => break,
            }
        }
        self.report.index_messages = Some(messages);
        found
    }

    fn is_same(&self, known: &Known, row: &Row) -> bool {
        let message = &row.message;
        let found = Found {
            id: message.id,
            envelope: message.envelope.clone(),
            arrival: message.arrival.clone(),
            place: row.place,
        };
        let recipients: Vec<_> = message.recipients.iter().map(Digest::of).collect();
        let said = Known::of(&found, recipients);
        let nowhere = Detours::new();
        known.fixed == said.fixed
            && known.recipients.agree(&said.recipients)
            && *self.detours.get(&message.id).unwrap_or(&nowhere) == message.detours
    }

    /// Reports the differences that nothing explains.
    fn settle(&mut self, found: BTreeMap<QueueId, (Differs, Option<Place>)>) {
        for (id, (what, place)) in found {
            if self.touched.as_ref().is_some_and(|t| t.contains(&id)) {
                continue;
            }
            let body = match place {
                None => BodyFound::Sound,
                Some(place) => body::look(self.layout, id, place),
            };
            self.report.bodies_lost += u64::from(body == BodyFound::Lost);
            self.report.differences += 1;
            if self.report.difference.len() < TOLD_MAX {
                let id = id.to_string();
                self.report.difference.push(Difference { id, what, body });
            }
        }
    }

    fn finish(mut self) -> io::Result<Report> {
        self.report.messages = self.live.len() as u64;
        self.report.quarantine = quarantine(&self.layout.quarantine())?;
        Ok(self.report)
    }
}

/// Without a directory there is nothing in it.
fn quarantine(directory: &Path) -> io::Result<Vec<Quarantined>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut kept = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "reason") {
            continue;
        }
        kept.push(Quarantined {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            bytes: std::fs::metadata(&path)?.len(),
            reason: std::fs::read_to_string(path.with_extension("reason")).ok(),
        });
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kept)
}
