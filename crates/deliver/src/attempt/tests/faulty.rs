//! A queue in memory whose settlements can be made slow, or fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_queue::memory::MemoryStore;
use relay_queue::store::{Later, Settled, StoreError, Waiting};
use relay_queue::verify::{Progress, Report};
use relay_queue::{
    Body, Imports, Message, NewMessage, Page, Select, Settlement, Staging, Stats, Store, Way,
};
use relay_smtp::QueueId;

pub struct Faulty {
    pub inner: MemoryStore,
    /// How each of the next settlements fails.
    pub errors: Mutex<VecDeque<StoreError>>,
    /// How long each settlement takes.
    pub pace: Mutex<Duration>,
}

impl Faulty {
    pub fn around(inner: MemoryStore) -> Faulty {
        Faulty {
            inner,
            errors: Mutex::default(),
            pace: Mutex::default(),
        }
    }
}

impl Store for Faulty {
    fn settle(&self, settlement: Settlement) -> Later<'_, Result<Settled, StoreError>> {
        Box::pin(async move {
            let error = self.errors.lock().unwrap().pop_front();
            let pace = *self.pace.lock().unwrap();
            tokio::time::sleep(pace).await;
            match error {
                Some(error) => Err(error),
                None => self.inner.settle(settlement).await,
            }
        })
    }

    fn next_id(&self) -> QueueId {
        self.inner.next_id()
    }
    fn accept(&self, message: NewMessage) -> Later<'_, Result<Arc<Message>, StoreError>> {
        self.inner.accept(message)
    }
    fn stage(&self, id: QueueId) -> Later<'_, Result<Box<dyn Staging>, StoreError>> {
        self.inner.stage(id)
    }
    fn reroute(&self, id: QueueId, ways: Vec<Way>) -> Later<'_, Result<Arc<Message>, StoreError>> {
        self.inner.reroute(id, ways)
    }

    fn import(&self, message: Message, body: Body) -> Later<'_, Result<Arc<Message>, StoreError>> {
        self.inner.import(message, body)
    }

    fn imports(&self) -> Arc<Imports> {
        self.inner.imports()
    }

    fn verify(&self, progress: Arc<Progress>) -> Later<'_, Result<Report, StoreError>> {
        self.inner.verify(progress)
    }

    fn message(&self, id: QueueId) -> Later<'_, Result<Option<Arc<Message>>, StoreError>> {
        self.inner.message(id)
    }
    fn body(&self, id: QueueId) -> Later<'_, Result<Option<Body>, StoreError>> {
        self.inner.body(id)
    }
    fn list(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Later<'_, Result<Page, StoreError>> {
        self.inner.list(select, after, limit)
    }
    fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Result<Option<QueueId>, StoreError> {
        self.inner.survey(after, look)
    }
    fn recent(&self, limit: usize) -> Vec<Arc<Message>> {
        self.inner.recent(limit)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn close(&self) -> Later<'_, ()> {
        self.inner.close()
    }
}
