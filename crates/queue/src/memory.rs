//! The in-memory twin of the disk store, for simulation and tests: same answers, no disk.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use relay_observe::Clock;
use relay_smtp::QueueId;

use crate::body::{Body, MemoryStaging, Staging};
use crate::brief::Brief;
use crate::ids::Ids;
use crate::imports::Imports;
use crate::message::{Message, NewMessage, Settlement, Way};
use crate::select::Select;
use crate::settle::{Counts, Recent, accepted, changed, imported, rerouted};
use crate::store::{Later, Page, Settled, Stats, Store, StoreError, Waiting};
use crate::verify::{Progress, Report};

/// How many finished messages are remembered.
const REMEMBERED: usize = 1000;

/// A queue that is gone when it is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    ids: Ids,
    imports: Arc<Imports>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    live: BTreeMap<QueueId, (Arc<Message>, Body)>,
    recent: Recent,
    counts: Counts,
    commits: u64,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Yes,
    Closed,
}

impl MemoryStore {
    pub fn new(clock: Clock) -> MemoryStore {
        MemoryStore {
            clock,
            ids: Ids::after(None, 0),
            imports: Arc::new(Imports::in_memory()),
            inner: Mutex::new(Inner {
                live: BTreeMap::new(),
                recent: Recent::new(REMEMBERED),
                counts: Counts::default(),
                commits: 0,
                open: Open::Yes,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn accept_now(&self, new: NewMessage) -> Result<Arc<Message>, StoreError> {
        self.ids.saw(new.id);
        let mut inner = self.inner();
        inner.is_open()?;
        inner.is_free(new.id)?;
        inner.commits += 1;
        let body = new.body.clone();
        Ok(inner.insert(accepted(new), body))
    }

    fn import_now(&self, message: Message, body: Body) -> Result<Arc<Message>, StoreError> {
        self.ids.saw(message.id);
        let mut inner = self.inner();
        inner.is_open()?;
        inner.is_free(message.id)?;
        inner.commits += 1;
        let size = body.len();
        Ok(inner.insert(imported(message, size), body))
    }

    fn reroute_now(&self, id: QueueId, ways: &[Way]) -> Result<Arc<Message>, StoreError> {
        let mut inner = self.inner();
        inner.is_open()?;
        let (before, body) = inner.live.get(&id).ok_or(StoreError::Unknown(id))?;
        let Some(after) = rerouted(before, ways)? else {
            return Ok(before.clone());
        };
        let (after, body) = (Arc::new(after), body.clone());
        inner.commits += 1;
        inner.live.insert(id, (after.clone(), body));
        Ok(after)
    }

    fn settle_now(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let mut inner = self.inner();
        inner.is_open()?;
        let (before, body) = inner
            .live
            .get(&settlement.id)
            .cloned()
            .ok_or(StoreError::Unknown(settlement.id))?;
        let Some(after) = changed(&before, &settlement.changes)? else {
            return Ok(Settled {
                message: before,
                dsns: Vec::new(),
            });
        };
        let mut seen = HashSet::new();
        for dsn in &settlement.dsns {
            inner.is_free(dsn.id)?;
            if !seen.insert(dsn.id) {
                return Err(StoreError::Taken(dsn.id));
            }
            self.ids.saw(dsn.id);
        }
        inner.commits += 1;
        inner.counts.remove(&Brief::of(&before));
        let message = Arc::new(after);
        if message.finished() {
            inner.live.remove(&message.id);
            inner.recent.push(message.clone());
        } else {
            inner.counts.add(&Brief::of(&message));
            inner.live.insert(message.id, (message.clone(), body));
        }
        let dsns = settlement.dsns.into_iter();
        let dsns = dsns.map(|dsn| {
            let body = dsn.body.clone();
            inner.insert(accepted(dsn), body)
        });
        let dsns = dsns.collect();
        Ok(Settled { message, dsns })
    }

    fn list_now(
        &self,
        select: &Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let inner = self.inner();
        inner.is_open()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut matching = inner
            .live
            .range((from, Bound::Unbounded))
            .map(|(_, (message, _))| message)
            .filter(|message| select.matches(message));
        let messages: Vec<_> = matching.by_ref().take(limit).cloned().collect();
        let next = match matching.next() {
            Some(_) => messages.last().map(|m| m.id).or(after),
            None => None,
        };
        Ok(Page { messages, next })
    }
}

impl Inner {
    fn is_open(&self) -> Result<(), StoreError> {
        match self.open {
            Open::Yes => Ok(()),
            Open::Closed => Err(StoreError::Stopped("it was closed".to_owned())),
        }
    }

    fn is_free(&self, id: QueueId) -> Result<(), StoreError> {
        match self.live.contains_key(&id) {
            true => Err(StoreError::Taken(id)),
            false => Ok(()),
        }
    }

    fn insert(&mut self, message: Message, body: Body) -> Arc<Message> {
        let message = Arc::new(message);
        self.counts.add(&Brief::of(&message));
        self.live.insert(message.id, (message.clone(), body));
        message
    }
}

fn to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().max(0)).unwrap_or(at)
}

impl Store for MemoryStore {
    fn next_id(&self) -> QueueId {
        self.ids.next(self.clock.now())
    }

    fn accept(&self, message: NewMessage) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(async move { self.accept_now(message) })
    }

    fn stage(&self, _: QueueId) -> Later<'_, Result<Box<dyn Staging>, StoreError>> {
        Box::pin(async move {
            self.inner().is_open()?;
            Ok(Box::<MemoryStaging>::default() as Box<dyn Staging>)
        })
    }

    fn settle(&self, settlement: Settlement) -> Later<'_, Result<Settled, StoreError>> {
        Box::pin(async move { self.settle_now(settlement) })
    }

    fn reroute(&self, id: QueueId, ways: Vec<Way>) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(async move { self.reroute_now(id, &ways) })
    }

    fn import(&self, message: Message, body: Body) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(async move { self.import_now(message, body) })
    }

    fn imports(&self) -> Arc<Imports> {
        self.imports.clone()
    }

    /// There is one copy of everything, so there is nothing to compare.
    fn verify(&self, _progress: Arc<Progress>) -> Later<'_, Result<Report, StoreError>> {
        let messages = self.stats().messages;
        Box::pin(async move {
            Ok(Report {
                messages,
                index_messages: Some(messages),
                ..Report::default()
            })
        })
    }

    fn message(&self, id: QueueId) -> Later<'_, Result<Option<Arc<Message>>, StoreError>> {
        Box::pin(async move {
            let inner = self.inner();
            inner.is_open()?;
            let live = inner.live.get(&id).map(|(message, _)| message.clone());
            Ok(live.or_else(|| inner.recent.find(id)))
        })
    }

    fn body(&self, id: QueueId) -> Later<'_, Result<Option<Body>, StoreError>> {
        Box::pin(async move {
            let inner = self.inner();
            inner.is_open()?;
            Ok(inner.live.get(&id).map(|(_, body)| body.clone()))
        })
    }

    fn list(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Later<'_, Result<Page, StoreError>> {
        Box::pin(async move { self.list_now(&select, after, limit) })
    }

    fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Result<Option<QueueId>, StoreError> {
        let inner = self.inner();
        inner.is_open()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (_, (message, _)) in inner.live.range((from, Bound::Unbounded)) {
            for (_, recipient, state) in message.each().filter(|(_, _, s)| !s.state.is_final()) {
                let last = state.last();
                look(&Waiting {
                    domain: &recipient.mailbox.host().to_string().to_ascii_lowercase(),
                    state: state.state,
                    arrived: to_second(message.arrival.at),
                    rule: last.map(|last| last.rule.as_str()),
                    category: last.map(|last| last.category.as_str()),
                });
            }
        }
        Ok(None)
    }

    fn recent(&self, limit: usize) -> Vec<Arc<Message>> {
        self.inner().recent.latest(limit)
    }

    fn stats(&self) -> Stats {
        let inner = self.inner();
        let oldest = inner.live.values().next();
        let oldest = oldest.map(|(message, _)| to_second(message.arrival.at));
        inner.counts.stats(oldest, inner.commits, inner.commits)
    }

    fn close(&self) -> Later<'_, ()> {
        Box::pin(async move { self.inner().open = Open::Closed })
    }
}
