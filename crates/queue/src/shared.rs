//! What the store's handle and its two threads share: the ledger, the bodies still in memory, the stop.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use relay_observe::metric::Refused;
use relay_observe::{Event, Events, crash};
use relay_smtp::{Host, QueueId};
use tokio::sync::watch;

use crate::admit::{self, Limits, Refusal};
use crate::big::BigFiles;
use crate::body::BIG_BYTES;
use crate::condition::Signs;
use crate::device::{Device, SystemDevice};
use crate::fair::Sender;
use crate::files::Layout;
use crate::ledger::{Ledger, Lookup};
use crate::message::Message;
use crate::record::Place;
use crate::room::Room;
use crate::store::StoreError;

/// The queue's own limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// Part of every id; differs between nodes that share a log. 0 to 127, default 0.
    pub node: u8,
    /// Bytes that a journal file is preallocated with. Default 64 MiB.
    pub segment_bytes: u32,
    /// A segment's footer is at most one part in so many of it, else there is none. Default 16: where it
    /// would be more, bodies are small or few, and reading the segment costs little more than reading
    /// the footer, while writing all heads twice would be felt.
    pub footer_parts: u32,
    /// Bytes of bodies kept in memory, so that what is delivered at once is never read back. Default 32 MiB.
    pub body_cache_bytes: usize,
    /// Bodies above this lie in files of their own. Default 256 KiB.
    pub big_bytes: usize,
    /// Operations that may wait for the disk; more wait outside. Default 1024: two full commits.
    pub waiting_max: usize,
    /// How long accepting may wait for a place among them before it is refused. Default 5 s.
    pub busy_after: Duration,
    /// The index is brought up to date at least this often. Default 1 s.
    pub index_every: Duration,
    /// And after this many records. Default 10,000.
    pub index_records: u64,
    /// Memory for the index's pages. Default 32 MiB.
    pub index_cache_bytes: u64,
    /// Finished messages that are remembered. Default 1000.
    pub remembered: usize,
    /// What may come in; [`crate::DiskStore::set_limits`] changes them while it runs.
    pub limits: Limits,
    /// From this size on the index's file is copied when less than a tenth of it is needed. Default
    /// 128 MiB.
    pub compact_bytes: u64,
    /// From this age on the last messages of a segment are copied forward, so that it can be deleted.
    /// Default 1 day.
    pub carry_after: Duration,
    /// The disk. Default: the one there is.
    pub device: Arc<dyn Device>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            node: 0,
            segment_bytes: 64 << 20,
            footer_parts: 16,
            body_cache_bytes: 16 << 20,
            big_bytes: BIG_BYTES,
            waiting_max: 1024,
            busy_after: Duration::from_secs(5),
            index_every: Duration::from_secs(1),
            index_records: 10_000,
            index_cache_bytes: 16 << 20,
            remembered: 1000,
            limits: Limits::default(),
            compact_bytes: 128 << 20,
            carry_after: Duration::from_secs(86_400),
            device: Arc::new(SystemDevice),
        }
    }
}

impl Options {
    /// The same, or with small files where a test of a debug build has asked for them: under load, segments are given
    /// back and the index is compacted every second then.
    #[must_use]
    pub fn or_small_for_a_test(self) -> Options {
        match crash::small_files() {
            false => self,
            true => Options {
                segment_bytes: 256 << 10,
                body_cache_bytes: 64 << 10,
                big_bytes: 16 << 10,
                index_every: Duration::from_millis(50),
                limits: Limits {
                    ballast_bytes: 256 << 10,
                    ..self.limits
                },
                compact_bytes: 400 << 10,
                carry_after: Duration::ZERO,
                ..self
            },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) events: Events,
    /// Large bodies.
    pub(crate) big: BigFiles,
    ledger: Mutex<Ledger>,
    room: Mutex<Room>,
    signs: Mutex<Signs>,
    /// Why the queue has stopped, if not because a person wanted it.
    failed: watch::Sender<Option<String>>,
    /// Told when the index has caught up, or nothing is written any more.
    caught_up: Condvar,
    bodies: Mutex<Bodies>,
    /// Those who read the journal and need all of its segments.
    readers: AtomicU32,
}

/// Keeps segments from being deleted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Kept<'a>(&'a AtomicU32);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(layout: Layout, options: Options, events: Events, ledger: Ledger) -> Shared {
        let bodies = Mutex::new(Bodies::new(options.body_cache_bytes));
        let big = BigFiles {
            directory: layout.big(),
            device: options.device.clone(),
            events: events.clone(),
        };
        let room = Mutex::new(Room::new(options.limits));
        Shared {
            big,
            layout,
            options,
            events,
            ledger: Mutex::new(ledger),
            room,
            signs: Mutex::new(Signs::new()),
            failed: watch::Sender::new(None),
            caught_up: Condvar::new(),
            bodies,
            readers: AtomicU32::new(0),
        }
    }

    pub(crate) fn keep_segments(&self) -> Kept<'_> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Kept(&self.readers)
    }

    pub(crate) fn segments_are_kept(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Never taken while the ledger is held, nor the other way round.
    pub(crate) fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Resolves with the reason once the queue has stopped by itself.
    pub(crate) async fn failure(&self) -> String {
        let mut failed = self.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // It never is: we hold the sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Whether sessions may begin.
    pub(crate) fn may_connect(&self) -> Result<(), StoreError> {
        let room = self.room();
        let answer = admit::may_connect(&room.limits, &room.fill(0, 0));
        drop(room);
        self.counted(answer)
    }

    /// Whether a message may come in whose space is held, or not known.
    pub(crate) fn may_take(&self) -> Result<(), StoreError> {
        self.judge_room(|limits, room, stats| {
            admit::may_enter(limits, &room.fill_without_held(stats.0, stats.1), 0)
        })
    }

    /// Whether a message of this sender may come in, as far as shares go.
    pub(crate) fn may_send(&self, sender: &Sender) -> Result<(), StoreError> {
        if *sender == Sender::Ours {
            return Ok(());
        }
        let holding = self.ledger().parties().of_sender(sender);
        let reason = Refused::SenderShare;
        self.judge_room(|limits, room, stats| {
            let fill = room.fill(stats.0, stats.1);
            // Where nobody may send any more, it is not this sender's fault.
            admit::may_enter(limits, &fill, 0)?;
            admit::may_have_more(limits, &fill, holding, &sender.to_string(), reason)
        })
    }

    /// Whether a message more may wait for this domain.
    pub(crate) fn may_wait_for(&self, domain: &Host) -> Result<(), StoreError> {
        let holding = self.ledger().parties().of_domain(domain);
        let reason = Refused::DestinationShare;
        self.judge_room(|limits, room, stats| {
            let (fill, who) = (room.fill(stats.0, stats.1), format!("mail for {domain}"));
            admit::may_have_more(limits, &fill, holding, &who, reason)
        })
    }

    /// Takes space for a session that is about to send, or is at it.
    pub(crate) fn hold_space(&self, bytes: u64) -> Result<(), StoreError> {
        self.judge_room(|limits, room, stats| {
            admit::may_enter(limits, &room.fill(stats.0, stats.1), bytes)?;
            room.hold(bytes);
            Ok(())
        })
    }

    /// `judge` gets the limits, the room, and messages and bytes in the queue.
    fn judge_room(
        &self,
        judge: impl FnOnce(&Limits, &mut Room, (u64, u64)) -> Result<(), Refusal>,
    ) -> Result<(), StoreError> {
        let stats = {
            let ledger = self.ledger();
            ledger.may_write()?;
            let stats = ledger.stats();
            (stats.messages, stats.bytes)
        };
        let mut room = self.room();
        let answer = match &room.full {
            Some(why) => Err(Refusal {
                reason: Refused::Space,
                text: why.clone(),
            }),
            None => {
                let limits = room.limits;
                judge(&limits, &mut room, stats)
            }
        };
        drop(room);
        self.counted(answer)
    }

    fn counted(&self, answer: Result<(), Refusal>) -> Result<(), StoreError> {
        answer.map_err(|refusal| {
            self.events.metrics().refused(refusal.reason);
            refusal.into()
        })
    }

    /// Nothing is written from now on; a restart recovers.
    pub(crate) fn stop(&self, reason: String) {
        let mut ledger = self.ledger();
        if ledger.stopped.is_none() {
            ledger.stopped = Some(reason.clone());
            drop(ledger);
            let event = Event::QueueStopped {
                reason: reason.clone(),
            };
            self.events.emit(event);
            self.failed.send_replace(Some(reason));
        }
        self.caught_up.notify_all();
    }

    /// The same where a person wanted it: no event.
    pub(crate) fn stop_quietly(&self, reason: &str) {
        let mut ledger = self.ledger();
        ledger.stopped.get_or_insert_with(|| reason.to_owned());
        self.caught_up.notify_all();
    }

    pub(crate) fn tell_caught_up(&self) {
        self.caught_up.notify_all();
    }

    /// Waits while the index is so far behind that memory would grow without bound.
    pub(crate) fn wait_for_index(&self) {
        let far_behind = self.options.index_records.saturating_mul(5);
        let ledger = self.ledger();
        let waited = self.caught_up.wait_while(ledger, |ledger| {
            ledger.unapplied >= far_behind && ledger.stopped.is_none()
        });
        drop(waited);
    }
}

/// Keeps a message in memory while an operation needs it there.
#[derive(Debug)]
pub(crate) struct Pin {
    shared: Arc<Shared>,
    id: QueueId,
}

/// What pinning found.
#[derive(Debug)]
pub(crate) enum Pinned {
    Here(Pin, Arc<Message>, Place),
    InIndex,
    Unknown,
}

impl Pin {
    pub(crate) fn take(shared: &Arc<Shared>, ledger: &mut Ledger, id: QueueId) -> Pinned {
        match ledger.pin(id) {
            Lookup::Here(message, place) => {
                let shared = shared.clone();
                Pinned::Here(Pin { shared, id }, message, place)
            }
            Lookup::InIndex => Pinned::InIndex,
            Lookup::Unknown => Pinned::Unknown,
        }
    }

    pub(crate) fn id(&self) -> QueueId {
        self.id
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.ledger().unpin(self.id);
    }
}

/// Bodies of messages that have just come in and go out soon, the oldest first: one that comes while there is no
/// room is read back from the journal. To drop the oldest for it would drop each just before it is sent, once mail
/// comes in faster than it goes out. One that stays for long gives way, or mail for a slow site would keep all
/// others out.
#[derive(Debug)]
pub(crate) struct Bodies {
    bytes_max: usize,
    bytes: usize,
    bodies: HashMap<QueueId, Bytes>,
    /// With the count of messages that had come before.
    order: VecDeque<(QueueId, u64)>,
    came: u64,
}

/// How many messages may come before one that is still there gives way.
const PATIENCE: u64 = 4096;

impl Bodies {
    fn new(bytes_max: usize) -> Bodies {
        Bodies {
            bytes_max,
            bytes: 0,
            bodies: HashMap::new(),
            order: VecDeque::new(),
            came: 0,
        }
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<Bytes> {
        self.bodies.get(&id).cloned()
    }

    /// One body may take a quarter at most, or it would keep everything else out.
    pub(crate) fn put(&mut self, id: QueueId, body: Bytes) {
        self.came += 1;
        if body.len() > self.bytes_max / 4 {
            return;
        }
        while self.bytes + body.len() > self.bytes_max {
            match self.order.front() {
                Some((oldest, came)) if self.came - came > PATIENCE => {
                    let oldest = *oldest;
                    self.order.pop_front();
                    self.remove(oldest);
                }
                _ => return,
            }
        }
        self.bytes += body.len();
        self.order.push_back((id, self.came));
        if let Some(old) = self.bodies.insert(id, body) {
            self.bytes -= old.len();
        }
    }

    pub(crate) fn remove(&mut self, id: QueueId) {
        if let Some(body) = self.bodies.remove(&id) {
            self.bytes -= body.len();
        }
        // Ids of what was delivered would pile up in the order: they leave once they are the most.
        if self.order.len() > 64 + 2 * self.bodies.len() {
            let bodies = &self.bodies;
            self.order.retain(|(id, _)| bodies.contains_key(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> QueueId {
        QueueId::from_u64(number)
    }

    fn body(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    #[test]
    fn a_body_for_which_there_is_no_room_does_not_push_out_those_that_go_first() {
        let mut bodies = Bodies::new(100);
        for number in 0..10 {
            bodies.put(id(number), body(20));
        }
        let kept = |bodies: &Bodies| -> Vec<u64> {
            let known = |number: &u64| bodies.get(id(*number)).is_some();
            (0..20_000).filter(known).collect()
        };
        assert_eq!(kept(&bodies), [0, 1, 2, 3, 4]);
        bodies.remove(id(0));
        bodies.put(id(10), body(20));
        assert_eq!(kept(&bodies), [1, 2, 3, 4, 10]);
        bodies.put(id(11), body(26));
        bodies.remove(id(1));
        bodies.remove(id(2));
        bodies.put(id(12), body(26));
        assert_eq!(kept(&bodies), [3, 4, 10], "more than a quarter is for none");
    }

    #[test]
    fn a_body_that_stays_for_long_gives_way() {
        let mut bodies = Bodies::new(100);
        for number in 0..5 {
            bodies.put(id(number), body(20));
        }
        for number in 0..PATIENCE {
            bodies.put(id(100 + number), body(20));
            assert!(number + 5 > PATIENCE || bodies.get(id(0)).is_some());
        }
        assert!(bodies.get(id(0)).is_none());
        assert!(bodies.get(id(100 + PATIENCE - 1)).is_some());
        assert!(bodies.bytes <= 100 && bodies.order.len() < 100);
    }
}
