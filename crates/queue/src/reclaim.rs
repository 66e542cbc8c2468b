//! Reclaim: deletes the segments that nobody needs any more, and copies the last messages of old ones
//! forward, so that one message that waits for days does not keep all that came after it.
//!
//! Segments go oldest first and without gaps: a record that ends a message must outlive the record
//! that began it, or a rebuild would bring the message back. Only what the index on disk has behind
//! it goes.

use std::io;
use std::sync::Arc;

use relay_observe::crash::{self, CrashPoint};
use relay_observe::{Clock, Event};
use relay_smtp::QueueId;
use tokio::sync::{Semaphore, oneshot};

use crate::body::Payload;
use crate::commit::{Inbox, Operation, Work};
use crate::device::remove_if_there;
use crate::follow::Loaded;
use crate::index::Applied;
use crate::ledger::Lookup;
use crate::record::{Encoded, Place, Spot};
use crate::segment;
use crate::shared::Shared;
use crate::store::{Settled, StoreError};

/// Copied forward in one step, so that accepting hardly notices: at most so many messages,
const STEP_MESSAGES: usize = 64;
/// and at most so many bytes, if it is more than one message.
const STEP_BYTES: u64 = 4 << 20;
/// A journal of fewer full segments than this is left alone until its messages are old.
const SEGMENTS_LEFT_ALONE: u64 = 4;
/// A segment is emptied when less than one part in so many of it is needed.
const PARTS: u64 = 10;

#[derive(Debug)]
pub(crate) struct Reclaim {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox>,
    /// Places among the waiting operations.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) clock: Clock,
    /// The oldest segment that may still exist.
    pub(crate) first_segment: u32,
    /// The oldest segment that the index on disk needs. What has ended since is no reason to delete one: after a
    /// crash the index would name a segment that is gone, and be built anew.
    pub(crate) needed: Option<u32>,
    pub(crate) emptying: Option<Emptying>,
    /// A segment with a message that cannot be copied: it stays.
    pub(crate) stuck: Option<u32>,
}

/// A segment whose messages are being copied forward.
#[derive(Debug)]
pub(crate) struct Emptying {
    segment: u32,
    left: Vec<QueueId>,
    under_way: Vec<oneshot::Receiver<Result<Settled, StoreError>>>,
}

impl Reclaim {
    /// After the index has been brought up to date.
    pub(crate) fn go_on(&mut self, applied: Applied) {
        self.delete_finished_segments(applied);
        if self.emptying.is_none() {
            self.emptying = self.worth_emptying(applied).map(|segment| Emptying {
                segment,
                left: self.shared.ledger().messages_in(segment),
                under_way: Vec::new(),
            });
        }
    }

    fn delete_finished_segments(&mut self, applied: Applied) {
        if self.shared.segments_are_kept() {
            return;
        }
        let reached = applied.position.segment;
        let keep_from = self.needed.map_or(reached, |needed| needed.min(reached));
        while self.first_segment < keep_from {
            let directory = self.shared.layout.journal();
            let path = segment::path(&directory, self.first_segment);
            let device = &*self.shared.options.device;
            crash::at(CrashPoint::HalfOfReclaim);
            // Synced one by one: if a power cut brought this one back without the next one, a rebuild would bring
            // its messages back without their ends.
            let gone = remove_if_there(device, &path);
            // Tried again the next time if it fails; it costs space only.
            if gone
                .and_then(|()| device.sync_directory(&directory))
                .is_err()
            {
                return;
            }
            self.first_segment += 1;
        }
    }

    /// The oldest segment, if it keeps much and is needed for little.
    fn worth_emptying(&self, applied: Applied) -> Option<u32> {
        let sealed = applied.position.segment;
        let (oldest, used, live_bytes) = {
            let ledger = self.shared.ledger();
            let mut needed = ledger.segments().range(..sealed);
            let (&oldest, &used) = needed.next()?;
            let others: u64 = needed.map(|(_, used)| used.bytes).sum();
            (oldest, used, used.bytes + others)
        };
        if self.stuck == Some(oldest) {
            return None;
        }
        let directory = self.shared.layout.journal();
        let bytes = |number: u32| {
            let found = std::fs::metadata(segment::path(&directory, number));
            found.map_or(0, |found| found.len())
        };
        let options = &self.shared.options;
        let age_s = self.clock.now().as_second() - i64::from(used.newest_unix_s);
        let old = u64::try_from(age_s).is_ok_and(|age| age >= options.carry_after.as_secs());
        if old && used.bytes * PARTS < bytes(oldest) {
            return Some(oldest);
        }
        // Much is kept for little: this bounds the journal at about ten times what it must hold, and
        // what is copied at a ninth of what is accepted.
        let kept: u64 = (oldest..sealed).map(bytes).sum();
        let left_alone = SEGMENTS_LEFT_ALONE * u64::from(options.segment_bytes);
        (kept > left_alone && live_bytes * PARTS < kept).then_some(oldest)
    }

    /// Copies some more forward, once what is under way is durable. `load` finds a message.
    pub(crate) fn step(
        &mut self,
        load: impl Fn(QueueId) -> Result<Option<Loaded>, StoreError>,
    ) -> Result<(), StoreError> {
        let Some(mut emptying) = self.emptying.take() else {
            return Ok(());
        };
        let waits = |reply: &mut oneshot::Receiver<_>| {
            matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        emptying.under_way.retain_mut(waits);
        if !emptying.under_way.is_empty() {
            self.emptying = Some(emptying);
            return Ok(());
        }
        let mut bytes = 0;
        while emptying.under_way.len() < STEP_MESSAGES && bytes < STEP_BYTES {
            let Some(id) = emptying.left.pop() else { break };
            let Some(loaded) = load(id)? else { continue };
            if loaded.place.segment == emptying.segment {
                bytes += loaded.place.bytes_in_segment();
                emptying.under_way.extend(self.copy(loaded)?);
            }
        }
        // With nothing under way and nothing left it is done; what changed meanwhile is found again.
        if !emptying.under_way.is_empty() {
            self.emptying = Some(emptying);
        }
        Ok(())
    }

    /// Hands a message to the commit thread with its body. None: it must stay where it is, for now.
    fn copy(
        &mut self,
        loaded: Loaded,
    ) -> Result<Option<oneshot::Receiver<Result<Settled, StoreError>>>, StoreError> {
        let Loaded {
            pin,
            message,
            place,
        } = loaded;
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            return Ok(None);
        };
        let body = match self.payload(place) {
            Ok(Some(body)) => body,
            Ok(None) => {
                let now = self.shared.ledger().lookup(message.id);
                // If the message has not gone, the segment was lost.
                if matches!(now, Lookup::Here(_, now) if now == place) {
                    self.stick(place, "the journal segment is missing");
                }
                return Ok(None);
            }
            Err(error) => {
                self.stick(place, &error.to_string());
                return Ok(None);
            }
        };
        let encoded = match Encoded::carried(&message, body) {
            Ok(encoded) => encoded,
            Err(error) => {
                self.stick(place, &error.to_string());
                return Ok(None);
            }
        };
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Operation {
            work: Work::Carry { pin, message },
            encoded,
            reply,
            _permit: permit,
        })?;
        crash::at(CrashPoint::HalfOfReclaim);
        Ok(Some(answer))
    }

    /// What the copy has of the body: one in a file of its own stays there.
    fn payload(&self, place: Place) -> io::Result<Option<Payload>> {
        let offset = match place.spot {
            Spot::At(offset) => offset,
            Spot::File => return Ok(Some(Payload::InFile(place.in_file()))),
        };
        let directory = self.shared.layout.journal();
        let body = segment::read_body(&directory, place, offset)?;
        Ok(body.map(Payload::Bytes))
    }

    fn stick(&mut self, place: Place, reason: &str) {
        let segment = place.segment;
        if self.stuck == Some(segment) {
            return;
        }
        self.stuck = Some(segment);
        let path = segment::path(&self.shared.layout.journal(), segment);
        self.shared.events.emit(Event::RecordQuarantined {
            file: path.display().to_string(),
            offset: match place.spot {
                Spot::At(offset) => offset.into(),
                Spot::File => 0,
            },
            reason: format!("{reason}; the segment and all later ones are kept"),
        });
    }
}
