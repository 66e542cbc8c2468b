//! The dispatcher's handle: takes new jobs and operators' orders to the one task that owns the
//! scheduler.

mod dispatcher;
mod in_force;
mod jobs;
mod limits;
mod pauses;
mod remember;
mod workers;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_policy::Rule;
use relay_queue::{Message, Page, Select, Store};
use relay_schedule::{Dispatch, Job, Report, SiteId, SiteState, SourceState};
use relay_smtp::{NextHop, QueueId};
use tokio::sync::{mpsc, oneshot};

use crate::attempt;
use crate::host_memory::HostTrouble;
use crate::link::{FromSession, Link};
use crate::world::World;
use dispatcher::Dispatcher;
pub use in_force::LimitInForce;
pub use jobs::route_settings;

/// Orders that wait for the dispatcher. It works through thousands in a second; a longer queue would
/// only hide that it does not keep up, where a full one slows the accepting down.
const ORDERS_WAITING: usize = 1024;
/// Messages read from the queue at a time while loading.
const LOADED_AT_ONCE: usize = 1000;
/// A queue that cannot be read while loading is asked again this often, with this pause.
const LOAD_ATTEMPTS: u32 = 5;
const LOAD_PAUSE: Duration = Duration::from_secs(1);

/// The handle to the running dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    world: Arc<World>,
    orders: mpsc::Sender<Order>,
}

/// One row of `status` and `site list`.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteView {
    /// The sorted MX names joined by commas, `relay:NAME`, `[address]`, or `domain NAME` where no
    /// hosts could be found.
    pub site: String,
    /// Next hops that lead there, at most 20 of them, as they are shown.
    pub hops: Vec<String>,
    /// How many next hops lead there.
    pub hops_total: u64,
    /// Jobs (message and next hop) that are due and wait for a session.
    pub ready: u64,
    /// Jobs that wait for their time.
    pub waiting: u64,
    /// Jobs that a session carries out now.
    pub in_flight: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Sessions that limits allow.
    pub connections: u32,
    /// Sessions that the feedback allows.
    pub window: u32,
    /// Messages per second now allowed; None: no limit.
    pub rate: Option<f64>,
    pub suspended_until: Option<Timestamp>,
    /// When a slow-down recovers a step.
    pub slow_until: Option<Timestamp>,
    /// When the recovery after a suspension goes a step further.
    pub recovering_until: Option<Timestamp>,
    /// The rule behind the suspension or the slow-down.
    pub why: Option<String>,
    /// Source addresses that are suspended there, are tried again, or recover.
    pub sources: Vec<SourceState>,
    /// Messages in one session, as set and learned.
    pub messages_per_connection: u32,
    /// Recipients in one transaction, as set and learned.
    pub recipients_per_transaction: u32,
    /// What the site has taught us, in words, and until when that holds.
    pub learned: Vec<(String, Timestamp)>,
    /// Those of its hosts that are passed over or tried last.
    pub hosts: Vec<HostTrouble>,
    /// What is in force, and where it comes from.
    pub limits: Vec<LimitInForce>,
}

/// What the dispatcher is asked to do. Each answer comes once it is done.
enum Order {
    /// Jobs, of one message or of many.
    Add(Vec<Job>),
    /// The jobs of a message as they are now, in place of those it had.
    Replace(QueueId, Vec<Job>),
    Flush(Option<Vec<QueueId>>, oneshot::Sender<u64>),
    Remove(QueueId, oneshot::Sender<()>),
    Sites(oneshot::Sender<Vec<SiteView>>),
    Suspend(SiteId, Timestamp, oneshot::Sender<()>),
    Resume(SiteId, oneshot::Sender<()>),
    BlockedBy(QueueId, oneshot::Sender<Vec<String>>),
    OldestDue(oneshot::Sender<Option<Timestamp>>),
    Reload(oneshot::Sender<Routes>),
    Stop(Duration, oneshot::Sender<()>),
}

/// Whether a reload has changed where mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routes {
    AsBefore,
    Changed,
}

/// What loading does with jobs that are there already.
#[derive(Clone, Copy)]
enum Known {
    Keep,
    Replace,
}

/// Who carries dispatches out: [`Sessions`], or a script in tests.
trait Carrier: Send + Sync + 'static {
    fn session(&self, world: Arc<World>, link: Link) -> Task<()>;
    fn expire(
        &self,
        world: Arc<World>,
        dispatch: Dispatch,
        to_dispatcher: mpsc::Sender<FromSession>,
    ) -> Task<Report>;
}

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// SMTP.
struct Sessions;

impl Carrier for Sessions {
    fn session(&self, world: Arc<World>, link: Link) -> Task<()> {
        Box::pin(attempt::session(world, link))
    }
    fn expire(
        &self,
        world: Arc<World>,
        dispatch: Dispatch,
        to_dispatcher: mpsc::Sender<FromSession>,
    ) -> Task<Report> {
        Box::pin(attempt::expire(world, dispatch, to_dispatcher))
    }
}

impl Delivery {
    /// Starts the dispatcher. The task ends after [`Delivery::stop`].
    pub fn start(world: Arc<World>, seed: u64) -> (Delivery, tokio::task::JoinHandle<()>) {
        Delivery::start_with(world, seed, Arc::new(Sessions))
    }

    fn start_with(
        world: Arc<World>,
        seed: u64,
        carrier: Arc<dyn Carrier>,
    ) -> (Delivery, tokio::task::JoinHandle<()>) {
        let (orders, waiting) = mpsc::channel(ORDERS_WAITING);
        let dispatcher = Dispatcher::new(Arc::clone(&world), seed, carrier);
        let task = tokio::spawn(dispatcher.run(waiting));
        (Delivery { world, orders }, task)
    }

    /// Takes a message that the queue has accepted.
    pub async fn enqueue(&self, message: Arc<Message>) {
        let config = Arc::clone(&self.world.settings.load().config);
        let jobs = jobs::jobs_of(&message, &config);
        if !jobs.is_empty() {
            self.order(Order::Add(jobs)).await;
        }
    }

    /// The message goes other ways from now on. An attempt that is under way goes on to its end first.
    pub async fn rerouted(&self, message: Arc<Message>) {
        let config = Arc::clone(&self.world.settings.load().config);
        let jobs = jobs::jobs_of(&message, &config);
        self.order(Order::Replace(message.id, jobs)).await;
    }

    /// Takes over everything that is in the queue, at start. Returns the number of messages.
    pub async fn load(&self) -> u64 {
        self.load_as(Known::Keep).await
    }

    /// Makes messages due now; None: all. Returns how many.
    pub async fn flush(&self, ids: Option<Vec<QueueId>>) -> u64 {
        self.ask(|answer| Order::Flush(ids, answer))
            .await
            .unwrap_or(0)
    }

    /// The message is no longer to be tried. An attempt that is under way goes on to its end.
    pub async fn remove(&self, id: QueueId) {
        self.ask(|answer| Order::Remove(id, answer)).await;
    }

    /// Sites with work, sessions or something to tell; those with the most due jobs first.
    pub async fn sites(&self) -> Vec<SiteView> {
        self.ask(Order::Sites).await.unwrap_or_default()
    }

    /// An operator's word: nothing goes to the site until then.
    pub async fn suspend(&self, site: &str, until: Timestamp) {
        let site = SiteId(Arc::from(site));
        self.ask(|answer| Order::Suspend(site, until, answer)).await;
    }

    /// Suspensions of the site and of source addresses there, and slow-downs, are over at once.
    pub async fn resume(&self, site: &str) {
        let site = SiteId(Arc::from(site));
        self.ask(|answer| Order::Resume(site, answer)).await;
    }

    /// What each job of the message waits for, in words. Empty: nothing is to be done for it.
    pub async fn blocked_by(&self, id: QueueId) -> Vec<String> {
        self.ask(|answer| Order::BlockedBy(id, answer))
            .await
            .unwrap_or_default()
    }

    /// Since when the message is due that has waited longest for a session. None: none waits.
    pub async fn oldest_due(&self) -> Option<Timestamp> {
        self.ask(Order::OldestDue).await.flatten()
    }

    /// The name of the site that a next hop leads to, as [`SiteView`] has it. Asks DNS where the
    /// answer is not at hand.
    pub async fn site_of(&self, hop: &NextHop) -> String {
        jobs::site_of(&self.world, hop).await.0
    }

    /// The rule of this name in the table in force, or built in.
    pub fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        let in_table = self.world.settings.load().table.rule(name);
        in_table.or_else(|| relay_policy::scope::rule(name))
    }

    /// After `world.settings` was exchanged: limits, hosts and next hops anew.
    pub async fn reload(&self) {
        match self.ask(Order::Reload).await {
            // Which recipients share a job hangs on the routes.
            Some(Routes::Changed) => {
                self.load_as(Known::Replace).await;
            }
            Some(Routes::AsBefore) | None => {}
        }
    }

    /// No new dispatches; sessions finish what they have within this time, then they are abandoned:
    /// their jobs stay in the queue. Resolves when no session is left.
    pub async fn stop(&self, within: Duration) {
        self.ask(|answer| Order::Stop(within, answer)).await;
    }

    /// What is due goes first: of a million messages the others take seconds.
    async fn load_as(&self, known: Known) -> u64 {
        let due = Select {
            due: Some(self.world.clock.now()),
            ..Select::default()
        };
        let everything = Select::default();
        match self.load_some(&due, None, known).await {
            Ok(first) => {
                let rest = self.load_some(&everything, Some(&due), known).await;
                first + rest.unwrap_or_else(|loaded| loaded)
            }
            Err(_) => {
                let all = self.load_some(&everything, None, known).await;
                all.unwrap_or_else(|loaded| loaded)
            }
        }
    }

    /// Loads what is selected and was not loaded `before`; Err: not all of it, since the queue could
    /// not be read.
    async fn load_some(
        &self,
        select: &Select,
        before: Option<&Select>,
        known: Known,
    ) -> Result<u64, u64> {
        let config = Arc::clone(&self.world.settings.load().config);
        let mut loaded = 0;
        let mut after = None;
        loop {
            let Some(page) = read_page(&*self.world.store, select, after).await else {
                return Err(loaded);
            };
            // What was loaded before may be under way by now.
            let new = |m: &&Arc<Message>| before.is_none_or(|before| !before.matches(m));
            let mut added = Vec::new();
            for message in page.messages.iter().filter(new) {
                loaded += 1;
                let jobs = jobs::jobs_of(message, &config);
                match known {
                    Known::Keep => added.extend(jobs),
                    Known::Replace => self.order(Order::Replace(message.id, jobs)).await,
                }
            }
            // All of a page together: an order of its own for each would take longer than the job.
            self.order(Order::Add(added)).await;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(loaded),
            }
        }
    }

    async fn order(&self, order: Order) {
        // A dispatcher that has stopped takes no orders; the queue keeps what they were about.
        let _ = self.orders.send(order).await;
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.order(order(answer)).await;
        answered.await.ok()
    }
}

/// None: the queue could not be read, and the log says what that means.
async fn read_page(store: &dyn Store, select: &Select, after: Option<QueueId>) -> Option<Page> {
    for _ in 0..LOAD_ATTEMPTS {
        match store.list(select.clone(), after, LOADED_AT_ONCE).await {
            Ok(page) => return Some(page),
            Err(error) => {
                tracing::error!(%error, "the queue could not be read while loading; trying again");
                tokio::time::sleep(LOAD_PAUSE).await;
            }
        }
    }
    tracing::error!(
        "part of the queue was not loaded: it is safe, but not tried; restart relayd once the queue can be read"
    );
    None
}

impl From<SiteState> for SiteView {
    fn from(state: SiteState) -> SiteView {
        SiteView {
            site: state.site.0.to_string(),
            hops: state.hops.iter().map(ToString::to_string).collect(),
            hops_total: state.hops_total as u64,
            ready: state.ready as u64,
            waiting: state.waiting,
            in_flight: u64::from(state.in_flight),
            sessions: state.sessions,
            connections: state.connections,
            window: state.window,
            rate: state.rate,
            suspended_until: state.suspended_until,
            slow_until: state.slow_until,
            recovering_until: state.recovering_until,
            why: state.why,
            sources: state.sources,
            messages_per_connection: state.messages_per_connection,
            recipients_per_transaction: state.recipients_per_transaction,
            learned: Vec::new(),
            hosts: Vec::new(),
            limits: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
