//! What the store's handle and its two threads share: the ledger, the bodies still in memory, the stop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use relay_observe::{Event, Events};
use relay_smtp::QueueId;

use crate::big::BigFiles;
use crate::body::BIG_BYTES;
use crate::device::{Device, SystemDevice};
use crate::files::Layout;
use crate::ledger::{Ledger, Lookup};
use crate::message::Message;
use crate::record::Place;

/// The queue's own limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// Part of every id; differs between nodes that share a log. 0 to 127, default 0.
    pub node: u8,
    /// Bytes that a journal file is preallocated with. Default 64 MiB.
    pub segment_bytes: u32,
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
    /// Unfinished messages, and bytes of their bodies, from which on nothing more is accepted. Reports on bounces
    /// are. Default 5 million messages; bytes without a limit of their own.
    pub messages_max: u64,
    pub bytes_max: u64,
    /// Free space that mail may not take: so many bytes, default 4 GiB,
    pub free_bytes: u64,
    /// or this share of a small disk if that is less. Default 10 %.
    pub free_percent: u8,
    /// A file that is deleted on a full disk, so that outcomes of deliveries can still be written; 0: none.
    /// Default 96 MiB: a segment, and something for the index.
    pub ballast_bytes: u64,
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
            body_cache_bytes: 32 << 20,
            big_bytes: BIG_BYTES,
            waiting_max: 1024,
            busy_after: Duration::from_secs(5),
            index_every: Duration::from_secs(1),
            index_records: 10_000,
            index_cache_bytes: 32 << 20,
            remembered: 1000,
            messages_max: 5_000_000,
            bytes_max: u64::MAX,
            free_bytes: 4 << 30,
            free_percent: 10,
            ballast_bytes: 96 << 20,
            compact_bytes: 128 << 20,
            carry_after: Duration::from_secs(86_400),
            device: Arc::new(SystemDevice),
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
    /// Told when the index has caught up, or nothing is written any more.
    caught_up: Condvar,
    bodies: Mutex<Bodies>,
}

impl Shared {
    pub(crate) fn new(layout: Layout, options: Options, events: Events, ledger: Ledger) -> Shared {
        let bodies = Mutex::new(Bodies::new(options.body_cache_bytes));
        let big = BigFiles {
            directory: layout.big(),
            device: options.device.clone(),
            events: events.clone(),
        };
        Shared {
            big,
            layout,
            options,
            events,
            ledger: Mutex::new(ledger),
            caught_up: Condvar::new(),
            bodies,
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Nothing is written from now on; a restart recovers.
    pub(crate) fn stop(&self, reason: String) {
        let mut ledger = self.ledger();
        if ledger.stopped.is_none() {
            ledger.stopped = Some(reason.clone());
            drop(ledger);
            self.events.emit(Event::QueueStopped { reason });
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

/// Bodies of the latest messages, the oldest dropped first.
#[derive(Debug)]
pub(crate) struct Bodies {
    bytes_max: usize,
    bytes: usize,
    bodies: HashMap<QueueId, Bytes>,
    order: VecDeque<QueueId>,
}

impl Bodies {
    fn new(bytes_max: usize) -> Bodies {
        Bodies {
            bytes_max,
            bytes: 0,
            bodies: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<Bytes> {
        self.bodies.get(&id).cloned()
    }

    /// One body may take a quarter at most, or it would push everything else out.
    pub(crate) fn put(&mut self, id: QueueId, body: Bytes) {
        if body.len() > self.bytes_max / 4 {
            return;
        }
        self.bytes += body.len();
        self.order.push_back(id);
        if let Some(old) = self.bodies.insert(id, body) {
            self.bytes -= old.len();
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.remove(oldest);
        }
    }

    pub(crate) fn remove(&mut self, id: QueueId) {
        if let Some(body) = self.bodies.remove(&id) {
            self.bytes -= body.len();
        }
        // Ids of what was delivered would pile up in the order: they leave once they are the most.
        if self.order.len() > 64 + 2 * self.bodies.len() {
            let bodies = &self.bodies;
            self.order.retain(|id| bodies.contains_key(id));
        }
    }
}
