//! The store on disk: what the seam asks, handed to the commit thread and the index thread.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use relay_observe::metric::Refused;
use relay_observe::{Clock, Event, Events};
use relay_smtp::{Host, QueueId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::admit::{Admission, Limits};
use crate::body::{Body, Staging};
use crate::commit::{Committer, Fresh, Inbox, Operation, Work};
use crate::condition;
use crate::facts::Candidates;
use crate::fair;
use crate::files::Layout;
use crate::follow::{Follower, Job, Loaded, Scanned};
use crate::ids::Ids;
use crate::imports::Imports;
use crate::ledger::Lookup;
use crate::message::{Message, NewMessage, Settlement, Way};
use crate::reclaim::Reclaim;
use crate::record::{Encoded, Place, Spot, TooLarge};
use crate::recover::recover;
use crate::room;
use crate::segment;
use crate::select::Select;
use crate::settle::{accepted, imported};
use crate::shared::{Pin, Pinned, Shared};
use crate::staging::{self, DiskStaging};
use crate::store::{Condition, Later, Page, Settled, Stats, Store, StoreError, Waiting};
use crate::verify::run::beside_work;
use crate::verify::{Progress, Report};

pub use crate::recover::OpenError;
pub use crate::shared::Options;

/// The queue in a state directory. Dropped without [`Store::close`] it stops as a kill would: nothing
/// that was promised is lost, the next start replays a little more.
#[derive(Debug)]
pub struct DiskStore {
    clock: Clock,
    ids: Ids,
    imports: Arc<Imports>,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    index: Sender<Job>,
    places: Arc<Semaphore>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    committer: JoinHandle<()>,
    follower: JoinHandle<()>,
    /// Held until both threads have ended.
    lock: File,
}

impl DiskStore {
    /// Opens or makes the queue in `directory`, and recovers what a crash left. Blocks: from under a
    /// second to the time that reading the whole journal takes, where the index has to be rebuilt.
    pub fn open(
        directory: &Path,
        clock: Clock,
        events: Events,
        options: Options,
    ) -> Result<DiskStore, OpenError> {
        let layout = Layout::new(directory, &options.device);
        let recovered = recover(&layout, &options, &events)?;
        let ids = Ids::after(recovered.ledger.highest(), options.node);
        let places = Arc::new(Semaphore::new(options.waiting_max));
        let imports = Arc::new(Imports::in_file(layout.imported(), options.device.clone()));
        let shared = Arc::new(Shared::new(layout, options, events, recovered.ledger));
        room::look(&shared, None);
        let needed = shared.ledger().segments().keys().next().copied();
        let inbox = Arc::new(Inbox::default());
        let (index, jobs) = channel();
        let follower = Follower {
            shared: shared.clone(),
            index: recovered.index,
            jobs,
            applied: recovered.applied,
            reclaim: Reclaim {
                shared: shared.clone(),
                inbox: inbox.clone(),
                places: places.clone(),
                clock,
                first_segment: recovered.first_segment,
                needed,
                emptying: None,
                stuck: None,
            },
            compact_from: Instant::now(),
            frozen: None,
        };
        let committer = Committer {
            shared: shared.clone(),
            inbox: inbox.clone(),
            journal: recovered.journal,
            index: index.clone(),
        };
        let running =
            start(committer, follower, recovered.lock).map_err(|error| OpenError::Io {
                path: directory.to_owned(),
                error,
            })?;
        Ok(DiskStore {
            clock,
            ids,
            imports,
            shared,
            inbox,
            index,
            places,
            running: Mutex::new(Some(running)),
        })
    }

    async fn accept_new(&self, new: NewMessage) -> Result<Arc<Message>, StoreError> {
        self.shared.may_take()?;
        self.ids.saw(new.id);
        let body = staging::settled_in(&self.shared, new.id, new.body).await?;
        let new = NewMessage { body, ..new };
        let encoded = Encoded::accepted(&new).map_err(too_large)?;
        let permit = self.place_for_new().await?;
        let work = Work::Accept(fresh(new));
        let message = self.write(work, encoded, permit).await?.message;
        self.shared.room().take(message.size);
        Ok(message)
    }

    async fn import_one(&self, message: Message, body: Body) -> Result<Arc<Message>, StoreError> {
        self.shared.may_take()?;
        self.ids.saw(message.id);
        let message = Arc::new(imported(message, body.len()));
        let body = staging::settled_in(&self.shared, message.id, body).await?;
        let encoded = Encoded::carried(&message, body.payload()).map_err(too_large)?;
        let permit = self.place_for_new().await?;
        let work = Work::Import(Fresh { message, body });
        Ok(self.write(work, encoded, permit).await?.message)
    }

    async fn place_for_new(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        // The usual case, without a timer.
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let place = self.places.clone().acquire_owned();
        match tokio::time::timeout(self.shared.options.busy_after, place).await {
            Ok(permit) => permit.map_err(|_| closed()),
            Err(_) => {
                self.shared.events.metrics().refused(Refused::Busy);
                Err(StoreError::Busy)
            }
        }
    }

    /// New limits, from now on; what is in the queue already stays.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.room().limits = limits;
    }

    async fn settle_some(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let Settlement { id, changes, dsns } = settlement;
        self.shared.ledger().may_write()?;
        let loaded = self.load(id).await?;
        let pin = loaded.ok_or(StoreError::Unknown(id))?.pin;
        let dsns = self.in_memory(dsns).await?;
        let encoded = Encoded::settlement(id, &changes, &dsns).map_err(too_large)?;
        // Waits as long as it takes: what has happened to a recipient must be written down.
        let permit = self.places.clone().acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let dsns = dsns.into_iter().map(fresh).collect();
        self.write(Work::Settle { pin, changes, dsns }, encoded, permit)
            .await
    }

    async fn reroute_some(&self, id: QueueId, ways: Vec<Way>) -> Result<Arc<Message>, StoreError> {
        self.shared.ledger().may_write()?;
        let loaded = self.load(id).await?;
        let pin = loaded.ok_or(StoreError::Unknown(id))?.pin;
        let encoded = Encoded::rerouted(id, &ways).map_err(too_large)?;
        let permit = self.places.clone().acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let work = Work::Reroute { pin, ways };
        Ok(self.write(work, encoded, permit).await?.message)
    }

    /// DSNs lie in the record that calls for them, whatever their size.
    async fn in_memory(&self, dsns: Vec<NewMessage>) -> Result<Vec<NewMessage>, StoreError> {
        let mut here = Vec::with_capacity(dsns.len());
        for dsn in dsns {
            self.ids.saw(dsn.id);
            let body = dsn.body.whole().await?.into();
            here.push(NewMessage { body, ..dsn });
        }
        Ok(here)
    }

    async fn verify_all(&self, progress: Arc<Progress>) -> Result<Report, StoreError> {
        self.is_open()?;
        let (shared, jobs) = (self.shared.clone(), self.index.clone());
        let verify = move || beside_work(&shared, jobs, &progress);
        // It takes minutes: not one of the few threads that bodies are read on.
        let (reply, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("queue-verify".to_owned());
        let started = thread.spawn(move || {
            crate::gentle::yield_the_disk();
            let _ = reply.send(verify());
        });
        let unreadable = |error: std::io::Error| StoreError::Disk(error.to_string());
        started.map_err(unreadable)?;
        let report = answer.await;
        report
            .unwrap_or_else(|_| Err(std::io::Error::other("it panicked")))
            .map_err(unreadable)
    }

    /// Resolves once it is on disk. Goes on to be written if nobody waits any more.
    async fn write(
        &self,
        work: Work,
        encoded: Encoded,
        permit: OwnedSemaphorePermit,
    ) -> Result<Settled, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Operation {
            work,
            encoded,
            reply,
            _permit: permit,
        })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The message, kept in memory as long as the answer is. None: not in the queue.
    async fn load(&self, id: QueueId) -> Result<Option<Loaded>, StoreError> {
        let pinned = Pin::take(&self.shared, &mut self.shared.ledger(), id);
        match pinned {
            Pinned::Here(pin, message, place) => Ok(Some(Loaded {
                pin,
                message,
                place,
            })),
            Pinned::Unknown => Ok(None),
            Pinned::InIndex => {
                let (reply, answer) = oneshot::channel();
                self.ask_index(Job::Load { id, reply })?;
                answer.await.unwrap_or_else(|_| Err(closed()))
            }
        }
    }

    fn ask_index(&self, job: Job) -> Result<(), StoreError> {
        self.index.send(job).map_err(|_| closed())
    }

    fn is_open(&self) -> Result<(), StoreError> {
        let running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        running.as_ref().map(|_| ()).ok_or_else(closed)
    }

    async fn read_message(&self, id: QueueId) -> Result<Option<Arc<Message>>, StoreError> {
        self.is_open()?;
        if let Some(loaded) = self.load(id).await? {
            return Ok(Some(loaded.message));
        }
        Ok(self.shared.ledger().recent().find(id))
    }

    async fn read_body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        self.is_open()?;
        if let Some(body) = self.shared.bodies().get(id) {
            return Ok(Some(body.into()));
        }
        let Some(mut place) = self.place_of(id).await? else {
            return Ok(None);
        };
        loop {
            if let Some(body) = self.read_at(id, place).await? {
                return Ok(Some(body));
            }
            // It has gone: the message finished while we looked, or was copied forward.
            match self.place_of(id).await? {
                None => return Ok(None),
                Some(now) if now != place => place = now,
                Some(_) => return Err(self.missing(id, place)),
            }
        }
    }

    fn missing(&self, id: QueueId, place: Place) -> StoreError {
        let what = match place.spot {
            Spot::At(_) => {
                self.tell_unreadable(id, place, "the journal segment is missing");
                format!("journal segment {}", place.segment)
            }
            Spot::File => {
                self.shared.big.tell_unreadable(id, "it is missing");
                "the file".to_owned()
            }
        };
        StoreError::Disk(format!("{what} with the body of {id} is missing"))
    }

    /// Of a body in the journal.
    fn tell_unreadable(&self, id: QueueId, place: Place, reason: &str) {
        let path = segment::path(&self.shared.layout.journal(), place.segment);
        self.shared.events.emit(Event::BodyUnreadable {
            id,
            file: path.display().to_string(),
            reason: reason.to_owned(),
        });
    }

    /// None: there is no such file.
    async fn read_at(&self, id: QueueId, place: Place) -> Result<Option<Body>, StoreError> {
        let offset = match place.spot {
            Spot::At(offset) => offset,
            Spot::File => {
                let file = staging::open(&self.shared, id, place.in_file()).await?;
                return Ok(file.map(Body::in_file));
            }
        };
        let journal = self.shared.layout.journal();
        let read =
            tokio::task::spawn_blocking(move || segment::read_body(&journal, place, offset)).await;
        let read = read.map_err(|error| StoreError::Disk(error.to_string()))?;
        let read = read.map_err(|error| {
            self.tell_unreadable(id, place, &error.to_string());
            StoreError::Disk(error.to_string())
        });
        Ok(read?.map(Body::from))
    }

    async fn place_of(&self, id: QueueId) -> Result<Option<Place>, StoreError> {
        // Before the wait: a guard must not live across it.
        let here = self.shared.ledger().lookup(id);
        match here {
            Lookup::Here(_, place) => Ok(Some(place)),
            Lookup::Unknown => Ok(None),
            Lookup::InIndex => Ok(self.load(id).await?.map(|loaded| loaded.place)),
        }
    }

    async fn list_some(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.is_open()?;
        let mut messages = Vec::new();
        let mut from = after;
        let everything = select == Select::default();
        // One more than asked for tells whether that was all.
        while messages.len() <= limit {
            let Scanned {
                messages: scanned,
                upto,
            } = match everything {
                true => self.scan(from, limit + 1 - messages.len()).await?,
                false => self.sift(&select, from).await?,
            };
            messages.extend(scanned.into_iter().filter(|m| select.matches(m)));
            match upto {
                Some(upto) => from = Some(upto),
                None => break,
            }
        }
        let more = messages.len() > limit;
        messages.truncate(limit);
        let next = match more {
            true => messages.last().map(|m| m.id).or(after),
            false => None,
        };
        Ok(Page { messages, next })
    }

    async fn scan(&self, after: Option<QueueId>, rows: usize) -> Result<Scanned, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask_index(Job::Scan { after, rows, reply })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// What may match, found in memory, then read.
    async fn sift(&self, select: &Select, after: Option<QueueId>) -> Result<Scanned, StoreError> {
        // Before the wait: a guard must not live across it.
        let Candidates { ids, upto } = {
            let ledger = self.shared.ledger();
            let sieve = ledger.facts().sieve(select);
            ledger.facts().candidates(&sieve, after)
        };
        if ids.is_empty() {
            let messages = Vec::new();
            return Ok(Scanned { messages, upto });
        }
        let (reply, answer) = oneshot::channel();
        self.ask_index(Job::Read { ids, reply })?;
        let messages = answer.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(Scanned { messages, upto })
    }

    async fn close_files(&self) {
        let running = {
            let mut running = self.running.lock().unwrap_or_else(|e| e.into_inner());
            running.take()
        };
        let Some(running) = running else { return };
        self.inbox.close();
        self.places.close();
        let index = self.index.clone();
        let shared = self.shared.clone();
        let ended = tokio::task::spawn_blocking(move || {
            // First the last writes, then the index that follows them.
            let committed = running.committer.join();
            let _ = index.send(Job::Close);
            let followed = running.follower.join();
            shared.stop_quietly("it was closed");
            drop(running.lock);
            committed.and(followed)
        });
        // A thread that panicked has said so in an event.
        let _ = ended.await;
    }
}

fn start(committer: Committer, follower: Follower, lock: File) -> std::io::Result<Running> {
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let index = committer.index.clone();
    let follower = thread("queue-index").spawn(move || follower.run())?;
    match thread("queue-commit").spawn(move || committer.run()) {
        Ok(committer) => Ok(Running {
            committer,
            follower,
            lock,
        }),
        Err(error) => {
            let _ = index.send(Job::Abandon);
            Err(error)
        }
    }
}

fn fresh(new: NewMessage) -> Fresh {
    let body = new.body.clone();
    Fresh {
        message: Arc::new(accepted(new)),
        body,
    }
}

fn closed() -> StoreError {
    StoreError::Stopped("it was closed".to_owned())
}

fn too_large(error: TooLarge) -> StoreError {
    StoreError::Full(error.to_string())
}

impl Store for DiskStore {
    fn next_id(&self) -> QueueId {
        self.ids.next(self.clock.now())
    }

    fn accept(&self, message: NewMessage) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(self.accept_new(message))
    }

    fn may_connect(&self) -> Result<(), StoreError> {
        self.shared.may_connect()
    }

    fn admit(&self, sender: &fair::Sender, bytes: u64) -> Result<Admission, StoreError> {
        self.shared.may_send(sender)?;
        Admission::new(&self.shared, bytes)
    }

    fn admit_to(&self, domain: &Host) -> Result<(), StoreError> {
        self.shared.may_wait_for(domain)
    }

    fn stage(&self, id: QueueId) -> Later<'_, Result<Box<dyn Staging>, StoreError>> {
        Box::pin(async move {
            self.shared.may_take()?;
            self.ids.saw(id);
            let staging = DiskStaging::begin(&self.shared, id).await?;
            Ok(Box::new(staging) as Box<dyn Staging>)
        })
    }

    fn settle(&self, settlement: Settlement) -> Later<'_, Result<Settled, StoreError>> {
        Box::pin(self.settle_some(settlement))
    }

    fn reroute(&self, id: QueueId, ways: Vec<Way>) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(self.reroute_some(id, ways))
    }

    fn import(&self, message: Message, body: Body) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(self.import_one(message, body))
    }

    fn imports(&self) -> Arc<Imports> {
        self.imports.clone()
    }

    fn verify(&self, progress: Arc<Progress>) -> Later<'_, Result<Report, StoreError>> {
        Box::pin(self.verify_all(progress))
    }

    fn message(&self, id: QueueId) -> Later<'_, Result<Option<Arc<Message>>, StoreError>> {
        Box::pin(self.read_message(id))
    }

    fn body(&self, id: QueueId) -> Later<'_, Result<Option<Body>, StoreError>> {
        Box::pin(self.read_body(id))
    }

    fn list(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Later<'_, Result<Page, StoreError>> {
        Box::pin(self.list_some(select, after, limit))
    }

    fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Result<Option<QueueId>, StoreError> {
        self.is_open()?;
        Ok(self.shared.ledger().facts().survey(after, look))
    }

    fn recent(&self, limit: usize) -> Vec<Arc<Message>> {
        self.shared.ledger().recent().latest(limit)
    }

    fn stats(&self) -> Stats {
        self.shared.ledger().stats()
    }

    fn condition(&self) -> Condition {
        let places = self.shared.options.waiting_max;
        let waiting = places.saturating_sub(self.places.available_permits());
        condition::condition(&self.shared, waiting as u64)
    }

    fn stopped(&self) -> Later<'_, String> {
        Box::pin(self.shared.failure())
    }

    fn close(&self) -> Later<'_, ()> {
        Box::pin(self.close_files())
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(|e| e.into_inner());
        let Some(running) = running.take() else {
            return;
        };
        self.inbox.abandon();
        let _ = self.index.send(Job::Abandon);
        let _ = running.committer.join();
        let _ = running.follower.join();
    }
}
