//! The scheduler: jobs wait for their time, then for their site's turn, then for a session.
//!
//! The driver (`deliver::run`) owns one `Scheduler`, feeds it events, carries out the actions it
//! returns, and calls `handle(Event::Tick)` at `wake_at`. What an event changes stands here; who is
//! served then, in [`crate::pump`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_smtp::{NextHop, QueueId};

use crate::groups::{Groups, Share};
use crate::hops::Hops;
use crate::jobs::{HopRef, JobRef, Jobs, Origin, Place, Urge};
use crate::pause::Pause;
use crate::ready;
use crate::room::Held;
use crate::site::{LimitsAge, Site, SiteRef};
use crate::time::{self, Micros, SECOND};
use crate::words::{
    Action, Event, FlushSelection, Job, Limits, SessionId, Settings, SiteId, Source,
};

pub(crate) fn addresses(sources: &[Source]) -> Arc<[IpAddr]> {
    let used = sources.iter().filter(|source| source.weight > 0);
    used.map(|source| source.address).collect()
}

/// A dispatch that broke off is tried again after this, so that a crash loop cannot spin.
pub(crate) const BROKEN_OFF_PAUSE: Micros = SECOND;
/// A job that is due again at once waits this long, for the same reason.
pub(crate) const AGAIN_PAUSE: Micros = SECOND / 10;
/// Jobs that become due in one step; the rest follows in the next one, which is due at once.
const DUE_AT_ONCE: usize = 10_000;

/// Pure state.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) jobs: Jobs,
    pub(crate) hops: Hops,
    pub(crate) sites: BTreeMap<SiteRef, Site>,
    pub(crate) site_numbers: HashMap<SiteId, SiteRef>,
    pub(crate) next_site: SiteRef,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) next_session: u64,
    pub(crate) sessions_max: usize,
    pub(crate) idle: Micros,
    /// One wake-up time of each site that has one.
    pub(crate) timers: BTreeSet<(Micros, SiteRef)>,
    /// Sessions without work, the longest idle first: the first to go when a site has none at all.
    pub(crate) idle_sessions: BTreeSet<(Micros, SessionId)>,
    /// While all sessions are in use: sites without any, and sites that want one more, in the order
    /// of their asking.
    pub(crate) starving: BTreeSet<(u64, SiteRef)>,
    pub(crate) wanting: BTreeSet<(u64, SiteRef)>,
    pub(crate) next_asking: u64,
    /// Sessions that were told to end and have not ended yet.
    pub(crate) quitting: usize,
    /// Jobs whose outcome is being written down without a session, and what is done with them then.
    pub(crate) settling: BTreeMap<JobRef, Afterwards>,
    pub(crate) touched: BTreeSet<SiteRef>,
    pub(crate) rng: StdRng,
    /// The source addresses there are; empty: the kernel chooses.
    pub(crate) sources: Arc<[Source]>,
    pub(crate) groups: Groups,
    /// The time of the last event.
    last_seen: Micros,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) site: SiteRef,
    /// Dispatches carried out.
    pub(crate) messages: u32,
    pub(crate) connection: Connection,
    pub(crate) stage: Stage,
    /// Of the caps that sites share.
    pub(crate) held: Held,
}

/// What is known of a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// There is none, or none that works.
    None,
    From(Option<IpAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Opened; has not asked for work yet.
    Opening,
    Idle {
        since: Micros,
    },
    Busy {
        job: JobRef,
        since: Micros,
        afterwards: Afterwards,
        /// The source address that this dispatch tries after its suspension.
        probe: Option<IpAddr>,
    },
    /// Has reported, and has not asked for more yet.
    Reported,
    Quitting,
}

/// What becomes of a job in flight beside what its report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    AsReported,
    /// Added again meanwhile: due then at the latest.
    AlsoDue(Micros),
    /// Removed meanwhile.
    Gone,
    /// Removed, then added again.
    OnlyDue(Micros),
}

impl Scheduler {
    pub fn new(settings: Settings) -> Scheduler {
        Scheduler {
            jobs: Jobs::default(),
            hops: Hops::default(),
            sites: BTreeMap::new(),
            site_numbers: HashMap::new(),
            next_site: 0,
            sessions: BTreeMap::new(),
            next_session: 1,
            sessions_max: settings.sessions_max.max(1) as usize,
            idle: time::span(settings.idle),
            timers: BTreeSet::new(),
            idle_sessions: BTreeSet::new(),
            starving: BTreeSet::new(),
            wanting: BTreeSet::new(),
            next_asking: 0,
            quitting: 0,
            settling: BTreeMap::new(),
            touched: BTreeSet::new(),
            rng: StdRng::seed_from_u64(settings.seed),
            sources: Arc::from(settings.sources),
            groups: Groups::default(),
            last_seen: 0,
        }
    }

    /// Takes new settings; the seed stays as it was.
    pub fn reset(&mut self, settings: &Settings) {
        self.idle = time::span(settings.idle);
        self.sessions_max = settings.sessions_max.max(1) as usize;
        self.sources = Arc::from(settings.sources.as_slice());
        for site in self.sites.values_mut() {
            site.all_sources = addresses(&self.sources);
        }
    }

    /// Takes one event; appends what is to be done to `actions`.
    pub fn handle(&mut self, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
        let now = time::clock(now);
        self.last_seen = now;
        match event {
            Event::Tick => {}
            Event::Add(job) => self.add(job, now),
            Event::Remove(id) => self.remove(id, now),
            Event::Resolved {
                hop,
                site,
                limits,
                shares,
            } => self.resolved(&hop, site, limits, &shares, now),
            Event::Ready(session) => self.session_ready(session, now, actions),
            Event::Done { session, report } => self.session_done(session, &report, now, actions),
            Event::Opened { session, source } => self.session_opened(session, source, now),
            Event::Carried { session, news } => self.session_carried(session, news, now, actions),
            Event::Closed(session) => self.session_closed(session, now),
            Event::Flush(selection) => self.flush(selection, now, actions),
            Event::Suspend { site, until, rule } => {
                let pause = Pause::new(time::due(until), rule, now);
                self.site_named(site).pause = Some(pause);
            }
            Event::HostsFailAlike { site, rule } => {
                self.hosts_fail_alike(site, rule, now, actions);
            }
            Event::SuspendSource {
                site,
                source,
                until,
                rule,
            } => {
                let pause = Pause::new(time::due(until), rule, now);
                self.site_named(site).suspend_source(source, pause);
            }
            Event::Restore(kept) => {
                let site = self.site_named(kept.site.clone());
                site.restore(&kept, now);
            }
            Event::Resume { site } => {
                let site = self.site_named(site);
                site.pause = None;
                site.sources.resume_all();
                site.slow = None;
                site.health.good();
                site.set_rate(now);
            }
            Event::Slow { site, until, rule } => {
                let length = time::due(until).saturating_sub(now);
                self.site_named(site).slow_down(length, rule, now);
            }
            Event::Limit { site, limits } => {
                let site = self.site_named(site);
                site.limits = limits;
                site.limits_age = LimitsAge::Present;
                site.set_rate(now);
            }
            Event::Settled { hop, report } => self.settled(&hop, &report, now),
            Event::Refresh => self.refresh(now, actions),
        }
        self.pass_time(now, actions);
        // Before the site whose session has just ended takes the free place for itself.
        self.serve_waiting_sites(now, actions);
        self.serve_blocked_sites(now, actions);
        while let Some(site) = self.touched.pop_first() {
            self.pump(site, now, actions);
        }
        self.serve_waiting_sites(now, actions);
        self.serve_blocked_sites(now, actions);
    }

    /// When `Event::Tick` is wanted next; None: not before another event.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|&(at, _)| at);
        let room = self.groups.next_change(self.last_seen);
        [self.jobs.next_due(), timer, room, self.hops.next_forget()]
            .into_iter()
            .flatten()
            .min()
            .map(time::timestamp)
    }

    /// Messages that are waiting, due or in flight.
    pub fn messages(&self) -> u64 {
        self.jobs.messages()
    }

    /// Jobs that are waiting, due or in flight: at most one for each message and next hop.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Since when the job is due that has waited longest for a session; sites that rest count, too.
    pub fn oldest_due(&self) -> Option<Timestamp> {
        self.jobs.oldest_due().map(time::timestamp)
    }

    /// Sessions of the site whose connection it has taken: so many it bears.
    pub fn connected(&self, site: &SiteId) -> u32 {
        let number = self.site_numbers.get(site);
        let sessions = number
            .and_then(|number| self.sites.get(number))
            .into_iter()
            .flat_map(|site| &site.sessions);
        let connected = |id: &&SessionId| {
            let session = self.sessions.get(id);
            session.is_some_and(|session| {
                session.connection != Connection::None && session.stage != Stage::Quitting
            })
        };
        sessions.filter(connected).count() as u32
    }

    /// Whether there is a job of this message.
    pub fn knows(&self, id: QueueId) -> bool {
        self.jobs.of(id).next().is_some()
    }

    /// Whether a job of this message is being tried, or its outcome written down.
    pub fn is_in_flight(&self, id: QueueId) -> bool {
        let mut jobs = self.jobs.of(id);
        jobs.any(|job| self.jobs.slot(job).place == Place::InFlight)
    }

    fn pass_time(&mut self, now: Micros, actions: &mut Vec<Action>) {
        while let Some(&(at, site)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(entry) = self.sites.get_mut(&site) {
                entry.timer = None;
            }
            self.touched.insert(site);
        }
        for _ in 0..DUE_AT_ONCE {
            let Some(job) = self.jobs.pop_due(now) else {
                break;
            };
            self.leave_waiting(job);
            self.make_ready(job, now, actions);
        }
        while let Some((hop, entry)) = self.hops.pop_idle(now) {
            if let Some(site) = entry.site {
                if let Some(entry) = self.sites.get_mut(&site) {
                    entry.hops.remove(&hop);
                }
                self.touched.insert(site);
            }
        }
    }

    fn add(&mut self, job: Job, now: Micros) {
        let deadline = time::due(job.deadline);
        let due = match time::due(job.due) {
            // Whatever the next attempt says: the last one is at the deadline.
            due if deadline > now => due.min(deadline),
            due => due,
        };
        let hop = self.hops.intern(job.hop);
        let Some(known) = self.jobs.find(job.id, hop) else {
            let origin = Origin {
                sender: &job.sender,
                stream: &job.stream,
                later: ready::later_by(job.bytes, job.priority),
            };
            self.jobs.insert(job.id, hop, due, deadline, &origin);
            self.hops.job_added(hop);
            self.count_waiting(hop);
            return;
        };
        self.jobs.slot_mut(known).deadline = deadline;
        match self.jobs.slot(known).place {
            Place::Waiting => self.jobs.wait(known, due),
            Place::InFlight => self.change_afterwards(known, |afterwards| match afterwards {
                Afterwards::AsReported => Afterwards::AlsoDue(due),
                Afterwards::AlsoDue(before) => Afterwards::AlsoDue(due.min(before)),
                Afterwards::Gone | Afterwards::OnlyDue(_) => Afterwards::OnlyDue(due),
            }),
            // It is due already, and its recipients are the queue's to say.
            Place::Ready | Place::Unresolved | Place::Free => {}
        }
    }

    fn remove(&mut self, id: QueueId, now: Micros) {
        let jobs: Vec<JobRef> = self.jobs.of(id).collect();
        for job in jobs {
            match self.jobs.slot(job).place {
                Place::InFlight => self.change_afterwards(job, |_| Afterwards::Gone),
                Place::Waiting | Place::Unresolved | Place::Ready | Place::Free => {
                    self.take_out(job);
                    self.forget(job, now);
                }
            }
        }
    }

    fn change_afterwards(&mut self, job: JobRef, change: impl Fn(Afterwards) -> Afterwards) {
        if let Some(afterwards) = self.settling.get_mut(&job) {
            *afterwards = change(*afterwards);
            return;
        }
        // As many as there are sessions at most; and this is rare.
        for session in self.sessions.values_mut() {
            if let Stage::Busy {
                job: busy_with,
                afterwards,
                ..
            } = &mut session.stage
                && *busy_with == job
            {
                *afterwards = change(*afterwards);
            }
        }
    }

    fn resolved(
        &mut self,
        hop: &NextHop,
        site: SiteId,
        limits: Limits,
        shares: &[Share],
        now: Micros,
    ) {
        let Some(hop) = self.hops.find(hop) else {
            return;
        };
        let number = self.site_number(site, &limits);
        let before = self.hops.resolved(hop, number, now);
        if let Some(before) = before
            && before != number
        {
            self.move_jobs(hop, before, number);
        }
        if let Some(entry) = self.sites.get_mut(&number) {
            entry.hops.insert(hop);
            let shares = shares.iter();
            let shares = shares.map(|share| (share, self.groups.set(share, now)));
            entry.take_shares(shares);
            entry.take_limits(limits, now);
        }
        let unresolved = self
            .hops
            .get_mut(hop)
            .map(|entry| std::mem::take(&mut entry.unresolved))
            .unwrap_or_default();
        for job in unresolved {
            self.put_in_site(job, number);
        }
        self.touched.insert(number);
    }

    /// The next hop's due jobs go to its new site: they must not wait for the old one's health.
    fn move_jobs(&mut self, hop: HopRef, from: SiteRef, to: SiteRef) {
        let Some(old) = self.sites.get_mut(&from) else {
            return;
        };
        old.hops.remove(&hop);
        let moving: Vec<JobRef> = old
            .ready
            .iter()
            .chain(old.flushed.iter())
            .filter(|&job| self.jobs.slot(job).hop == hop)
            .collect();
        for job in moving {
            self.take_out_of_site(job, from);
            self.put_in_site(job, to);
        }
        self.touched.insert(from);
    }

    fn flush(&mut self, selection: FlushSelection, now: Micros, actions: &mut Vec<Action>) {
        let jobs: Vec<JobRef> = match selection {
            FlushSelection::All => self.jobs.all().collect(),
            FlushSelection::Ids(ids) => ids.iter().flat_map(|&id| self.jobs.of(id)).collect(),
        };
        for job in jobs {
            match self.jobs.slot(job).place {
                Place::Waiting => {
                    self.jobs.stop_waiting(job);
                    self.jobs.due_now(job, now);
                    self.leave_waiting(job);
                    self.jobs.slot_mut(job).urge = Urge::Flushed;
                    self.make_ready(job, now, actions);
                }
                Place::Ready => {
                    self.take_out(job);
                    self.jobs.slot_mut(job).urge = Urge::Flushed;
                    self.make_ready(job, now, actions);
                }
                Place::Unresolved => self.jobs.slot_mut(job).urge = Urge::Flushed,
                // It is being tried at this moment.
                Place::InFlight | Place::Free => {}
            }
        }
    }

    fn refresh(&mut self, now: Micros, actions: &mut Vec<Action>) {
        for site in self.sites.values_mut() {
            site.limits_age = LimitsAge::Old;
        }
        for hop in self.hops.all_stale() {
            actions.extend(self.hops.ask(hop, now).map(Action::Resolve));
        }
    }
}
