//! The dispatcher: one task that owns the scheduler and carries out its actions.
//!
//! It never waits for a session, for DNS or for the queue: each of those is a task of its own that
//! sends its result back.

mod orders;
mod sites;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay_observe::Event as Told;
use relay_schedule::{
    Action, Dispatch, Event, Job, Limits, Report, Scheduler, SessionId, SiteId, SiteNews,
};
use relay_smtp::{NextHop, QueueId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::in_force::{self, Rows};
use super::jobs::{Resolved, jobs_of, resolve, scheduler_settings};
use super::limits::{Memory, SiteLimits};
use super::pauses::Pauses;
use super::remember::Keeper;
use super::workers::Workers;
use super::{Carrier, Order};
use crate::link::{FromSession, Link, ToSession};
use crate::world::World;
use orders::routes_of;

/// Words of sessions that wait for the dispatcher; a session that finds this full waits.
const WORDS_WAITING: usize = 1024;
/// A session has at most one dispatch and one `Quit` to read.
const SESSION_WORDS: usize = 4;
/// Words and orders taken at once, before the clock is looked at again.
const TAKEN_AT_ONCE: usize = 64;
/// DNS questions at once; with slow servers more would only wait there.
const RESOLVING_MAX: usize = 64;
/// Jobs being expired at once; each is one write to the queue, and the queue joins them.
const EXPIRING_MAX: usize = 64;
/// What could not be expired is due again after this.
const EXPIRE_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Limits are kept for so many more sites than there are.
const SITES_SPARE: usize = 1000;

pub(super) struct Dispatcher {
    world: Arc<World>,
    carrier: Arc<dyn Carrier>,
    scheduler: Scheduler,
    seed: u64,
    routes: String,
    actions: Vec<Action>,
    sessions: BTreeMap<SessionId, Session>,
    to_us: mpsc::Sender<FromSession>,
    from_sessions: mpsc::Receiver<FromSession>,
    resolving: Workers<NextHop, Resolved>,
    expiring: Workers<Dispatch, (NextHop, Report)>,
    limits: SiteLimits,
    rows: Rows,
    pauses: Pauses,
    keeper: Keeper,
    stopping: Option<Stopping>,
    queue: Queue,
    /// New ways of messages that are being tried on their old ones: were both tried at once, the same
    /// recipient might get the message twice.
    moving: BTreeMap<QueueId, Vec<Job>>,
}

/// Whether outcomes can be written down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Works,
    /// Until a restart.
    Stopped,
}

struct Session {
    site: SiteId,
    to: mpsc::Sender<ToSession>,
    abort: AbortHandle,
}

struct Stopping {
    until: Instant,
    answers: Vec<oneshot::Sender<()>>,
}

impl Dispatcher {
    pub(super) fn new(world: Arc<World>, seed: u64, carrier: Arc<dyn Carrier>) -> Dispatcher {
        let (to_us, from_sessions) = mpsc::channel(WORDS_WAITING);
        let config = Arc::clone(&world.settings.load().config);
        Dispatcher {
            carrier,
            scheduler: Scheduler::new(scheduler_settings(&config, seed)),
            seed,
            routes: routes_of(&config),
            actions: Vec::new(),
            sessions: BTreeMap::new(),
            to_us,
            from_sessions,
            resolving: Workers::new(RESOLVING_MAX),
            expiring: Workers::new(EXPIRING_MAX),
            limits: SiteLimits::default(),
            rows: Rows::default(),
            pauses: Pauses::default(),
            keeper: Keeper::new(world.sites_file.clone()),
            stopping: None,
            queue: Queue::Works,
            moving: BTreeMap::new(),
            world,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut words = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut handles_left = true;
        self.remember();
        while !self.has_stopped() {
            let wake = self.wake_at();
            tokio::select! {
                _ = self.from_sessions.recv_many(&mut words, TAKEN_AT_ONCE) => {
                    for word in words.drain(..) {
                        self.hear(word);
                    }
                }
                count = orders.recv_many(&mut taken, TAKEN_AT_ONCE), if handles_left => {
                    // Without handles there are no more orders; the rest goes on.
                    handles_left = count > 0;
                    for order in taken.drain(..) {
                        self.obey(order);
                    }
                }
                done = self.resolving.next() => self.has_resolved(done),
                done = self.expiring.next() => self.has_expired(done),
                () = until(self.keeper.due()) => self.save(),
                () = until(wake) => self.tick(),
            }
        }
        if let Some(path) = self.keeper.last_turn().await {
            self.learned_so_far().write(&path);
        }
        for answer in self
            .stopping
            .into_iter()
            .flat_map(|stopping| stopping.answers)
        {
            let _ = answer.send(());
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        match (&self.stopping, self.queue) {
            (Some(stopping), _) => Some(stopping.until),
            (None, Queue::Stopped) => None,
            (None, Queue::Works) => self
                .scheduler
                .wake_at()
                .map(|at| self.world.clock.instant_of(at)),
        }
    }

    fn tick(&mut self) {
        if self.stopping.is_none() {
            return self.tell(Event::Tick);
        }
        // Time is up: what is abandoned here is in the queue as it was before its attempt.
        for session in self.sessions.values() {
            session.abort.abort();
        }
        self.sessions.clear();
        self.expiring.abort();
    }

    fn has_stopped(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            self.sessions.is_empty()
                && (self.expiring.is_idle() || stopping.until <= Instant::now())
        })
    }

    /// Tells the scheduler, and does what it says.
    fn tell(&mut self, event: Event) {
        if self.gives_no_work() {
            return;
        }
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler
            .handle(event, self.world.clock.now(), &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
        if !self.moving.is_empty() {
            self.move_on();
        }
    }

    /// Messages whose last attempt on an old way has ended go their new ways.
    fn move_on(&mut self) {
        let (scheduler, moving) = (&self.scheduler, &mut self.moving);
        let ended = moving.extract_if(.., |id, _| !scheduler.is_in_flight(*id));
        let jobs: Vec<Job> = ended.flat_map(|(_, jobs)| jobs).collect();
        for job in jobs {
            self.tell(Event::Add(job));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve(hop) => {
                let world = Arc::clone(&self.world);
                self.resolving.add(hop.clone(), move || resolve(world, hop));
            }
            Action::Open { session, site, hop } => self.open(session, site, hop),
            Action::Assign { session, dispatch } => self.assign(session, dispatch),
            Action::Quit(session) => self.say(session, ToSession::Quit),
            Action::Expire(dispatch) => {
                let world = Arc::clone(&self.world);
                let to_us = self.to_us.clone();
                let carrier = Arc::clone(&self.carrier);
                let about = dispatch.clone();
                self.expiring.add(about, move || async move {
                    let hop = dispatch.hop.clone();
                    (hop, carrier.expire(world, dispatch, to_us).await)
                });
            }
            Action::Suspended { site, until, why } => {
                self.world.events.emit(Told::SiteSuspended {
                    site: site.0.to_string(),
                    rule: why,
                    until,
                });
            }
            Action::SourceResumed { site, source } => {
                self.world.events.emit(Told::SourceResumed {
                    site: site.0.to_string(),
                    source,
                });
                self.save_soon();
            }
            Action::Resumed { site } => self.world.events.emit(Told::SiteResumed {
                site: site.0.to_string(),
            }),
        }
    }

    /// A message that was greylisted goes from the address it came from.
    fn assign(&mut self, session: SessionId, mut dispatch: Dispatch) {
        if let Some(home) = self.world.homes.get(dispatch.id) {
            let now = self.world.clock.now();
            let sources = std::mem::take(&mut dispatch.sources);
            dispatch.sources = self.scheduler.from_home(session, sources, home, now);
        }
        self.say(session, ToSession::Work(dispatch));
    }

    /// Starts a session, and beside it a task that waits for its end: so `Closed` is always the last
    /// word, also after a panic.
    fn open(&mut self, id: SessionId, site: SiteId, hop: NextHop) {
        let (to, from_dispatcher) = mpsc::channel(SESSION_WORDS);
        let link = Link {
            session: id,
            site: site.clone(),
            hop,
            to_dispatcher: self.to_us.clone(),
            from_dispatcher,
        };
        let session = tokio::spawn(self.carrier.session(Arc::clone(&self.world), link));
        let abort = session.abort_handle();
        let last_word = self.to_us.clone();
        tokio::spawn(async move {
            if let Err(error) = session.await
                && error.is_panic()
            {
                tracing::error!(
                    session = id.0,
                    "a session panicked; its message is tried again"
                );
            }
            let _ = last_word.send(FromSession::Closed(id)).await;
        });
        self.sessions.insert(id, Session { site, to, abort });
    }

    /// A session that has ended does not hear it; its `Closed` is on the way.
    fn say(&mut self, id: SessionId, word: ToSession) {
        if let Some(session) = self.sessions.get(&id)
            && let Err(mpsc::error::TrySendError::Full(_)) = session.to.try_send(word)
        {
            tracing::error!(
                session = id.0,
                "a session does not read its words; it is ended"
            );
            session.abort.abort();
        }
    }

    fn hear(&mut self, word: FromSession) {
        match word {
            FromSession::Ready(session) if self.gives_no_work() => {
                self.say(session, ToSession::Quit);
            }
            FromSession::Ready(session) => self.tell(Event::Ready(session)),
            FromSession::Done { session, report } => self.tell(Event::Done { session, report }),
            FromSession::Opened { session, source } => self.opened(session, source),
            FromSession::Carried { session, news } => {
                self.tell(Event::Carried { session, news });
                if self.scheduler.is_warming_up() {
                    self.save_soon();
                }
            }
            FromSession::Settled { hop, report } => self.tell(Event::Settled { hop, report }),
            FromSession::QueueStopped => self.queue_has_stopped(),
            FromSession::Accepted(message) => {
                let config = Arc::clone(&self.world.settings.load().config);
                for job in jobs_of(&message, &config) {
                    self.tell(Event::Add(job));
                }
            }
            FromSession::Flow { site, flow } => self.flow(site, flow),
            FromSession::Closed(session) => {
                self.sessions.remove(&session);
                self.tell(Event::Closed(session));
            }
        }
    }

    /// Sessions that were on their way when the site refused one more may show that it takes more than were
    /// connected at that moment.
    fn opened(&mut self, session: SessionId, source: Option<IpAddr>) {
        self.tell(Event::Opened { session, source });
        let Some(site) = self.sessions.get(&session).map(|one| one.site.clone()) else {
            return;
        };
        let now = self.world.clock.now();
        let connected = || self.scheduler.connected(&site);
        if let Some(lesson) = self.limits.bears_more(&site, connected, now) {
            self.learn(site, lesson);
        }
    }

    /// Whether the scheduler stands still.
    fn gives_no_work(&self) -> bool {
        self.stopping.is_some() || self.queue == Queue::Stopped
    }

    /// What would be sent from now on would be sent again after the restart: nothing more goes out.
    fn queue_has_stopped(&mut self) {
        if self.queue == Queue::Works {
            self.queue = Queue::Stopped;
            tracing::error!("nothing is sent any more, since the queue has stopped");
            self.end_sessions();
        }
    }

    fn end_sessions(&self) {
        for session in self.sessions.values() {
            // A busy one reads it after its transaction.
            let _ = session.to.try_send(ToSession::Quit);
        }
    }

    fn has_resolved(&mut self, done: Result<Resolved, NextHop>) {
        let resolved = done.unwrap_or_else(|hop| {
            tracing::error!(%hop, "finding the hosts panicked; they are asked for again later");
            let site = SiteId(Arc::from(format!("domain {hop}")));
            Resolved {
                hop,
                site,
                limits: ONE_AT_A_TIME,
                in_force: None,
                provider: None,
            }
        });
        let Resolved {
            hop,
            site,
            limits: base,
            in_force,
            provider,
        } = resolved;
        let now = self.world.clock.now();
        let pauses = self.pauses.seen(&site, provider, now);
        let (limits, learned) = self.limits.set(site.clone(), base, now);
        let lapsed = (learned == Memory::Lapsed).then(|| (site.clone(), limits.clone()));
        let name = site.clone();
        let shares = match &in_force {
            Some(in_force) => {
                let config = Arc::clone(&self.world.settings.load().config);
                self.rows.set(site.clone(), in_force, &config);
                in_force::shares(in_force, &config)
            }
            None => Vec::new(),
        };
        self.tell(Event::Resolved {
            hop,
            site,
            limits,
            shares,
        });
        for (source, until, rule) in pauses {
            self.suspend_source(name.clone(), source, until, rule);
        }
        // Where several next hops share the site, its limits are only ever tightened by that.
        if let Some((site, limits)) = lapsed {
            self.tell(Event::Limit { site, limits });
        }
        if self.limits.len() > 2 * self.scheduler.sites_total() + SITES_SPARE {
            let scheduler = &self.scheduler;
            self.limits.forget(|site| scheduler.has_site(site), now);
            self.rows.forget(|site| scheduler.has_site(site));
        }
    }

    fn has_expired(&mut self, done: Result<(NextHop, Report), Dispatch>) {
        let (hop, report) = done.unwrap_or_else(|dispatch| {
            tracing::error!(id = %dispatch.id, "expiring a message panicked; it is tried again");
            let again = self.world.clock.now().saturating_add(EXPIRE_PAUSE);
            let report = Report {
                id: dispatch.id,
                due_again: Some(again.unwrap_or(Timestamp::MAX)),
                site: SiteNews::Neutral,
            };
            (dispatch.hop, report)
        });
        self.tell(Event::Settled { hop, report });
    }
}

/// Limits for a next hop of which nothing could be learned.
const ONE_AT_A_TIME: Limits = Limits {
    connections: 1,
    rate: None,
    messages_per_connection: 1,
    recipients_per_transaction: 1,
};

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
