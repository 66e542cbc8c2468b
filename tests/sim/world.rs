//! The world around a real scheduler: a clock, the model of the queue, sites, and whatever is on its
//! way. What a session does stands in [`crate::session`], what happens in a week in [`crate::week`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_schedule::{
    Action, Event, FlushSelection, Job, Limits, Report, Scheduler, SessionId, Settings, Share,
    SiteId, SiteNews,
};
use relay_smtp::{Domain, NextHop, QueueId};

use crate::fact::{Check, Fact, Key, Reached};
use crate::judge::Judge;
use crate::mx::Mx;
use crate::session::{Session, Writing};
use crate::store::{End, Mail, Recipient, Store};

pub struct World {
    pub now: Timestamp,
    pub rng: StdRng,
    pub scheduler: Scheduler,
    pub settings: Settings,
    pub store: Store,
    pub sites: Vec<Mx>,
    /// The site of each next hop.
    pub hops: Vec<usize>,
    pub judge: Judge,
    pub sessions: BTreeMap<SessionId, Session>,
    /// Outcomes on their way to the disk.
    pub writing: BTreeMap<Key, Writing>,
    /// Recipients per transaction that sites have taught us.
    pub learned: BTreeMap<usize, u32>,
    /// Caps that a site shares with others.
    pub shares: BTreeMap<usize, Vec<Share>>,
    pub tally: Tally,
    pub checks: Vec<Box<dyn Check>>,
    coming: BTreeMap<(Timestamp, u64), (u32, Coming)>,
    serial: u64,
    /// Counts restarts: what was under way before one does not arrive after it.
    era: u32,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub accepted: u64,
    pub dispatches: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deferred: u64,
    /// Connections refused by the peer.
    pub refused: u64,
    pub wakes: u64,
    pub restarts: u64,
    /// Sites that could not be reached several times in a row.
    pub suspended: u64,
}

/// What is on its way.
#[derive(Debug)]
pub enum Coming {
    Event(Event),
    /// A connection was not to be had.
    NoConnection(SessionId),
    /// A transaction has come to its end.
    Transacted(SessionId),
    /// What a dispatch came to reaches the disk.
    Write(Key),
    Closed(SessionId),
    Expire(Key),
}

impl World {
    pub fn new(seed: u64, sessions_max: u32, sites: Vec<Mx>, hops: Vec<usize>) -> World {
        let settings = Settings {
            idle: Duration::from_secs(3),
            sessions_max,
            sources: Vec::new(),
            seed,
        };
        World {
            now: "2026-03-02T00:00:00Z".parse().unwrap(),
            rng: StdRng::seed_from_u64(seed),
            scheduler: Scheduler::new(settings.clone()),
            settings,
            store: Store::default(),
            sites,
            hops,
            judge: Judge::new(),
            sessions: BTreeMap::new(),
            writing: BTreeMap::new(),
            learned: BTreeMap::new(),
            shares: BTreeMap::new(),
            tally: Tally::default(),
            checks: Vec::new(),
            coming: BTreeMap::new(),
            serial: 0,
            era: 0,
        }
    }

    pub fn after(&self, seconds: f64) -> Timestamp {
        self.now + SignedDuration::from_secs_f64(seconds)
    }

    pub fn come(&mut self, seconds: f64, coming: Coming) {
        self.serial += 1;
        let at = self.after(seconds);
        self.coming.insert((at, self.serial), (self.era, coming));
    }

    pub fn fact(&mut self, fact: &Fact<'_>) {
        for check in &mut self.checks {
            check.see(self.now, fact, &self.store);
        }
    }

    /// Tells the scheduler, and does what it says.
    pub fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    /// Goes on until then, from one thing that happens to the next.
    pub fn advance(&mut self, end: Timestamp) {
        loop {
            let coming = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let wake = self.scheduler.wake_at();
            let next = [coming, wake].into_iter().flatten().min();
            match next.filter(|&at| at <= end) {
                None => break,
                Some(at) => self.now = self.now.max(at),
            }
            if coming.is_some_and(|at| at <= self.now) {
                if let Some((_, (era, coming))) = self.coming.pop_first()
                    && era == self.era
                {
                    self.arrive(coming);
                }
            } else {
                self.tally.wakes += 1;
                self.tell(Event::Tick);
            }
            let busy = 1_000_000 + 200 * (self.tally.dispatches + self.tally.accepted);
            assert!(self.tally.wakes < busy, "it wakes up for ever");
        }
        self.now = end;
    }

    /// Takes one message; `recipients` are next hops and mailboxes.
    pub fn submit(&mut self, sender: usize, recipients: &[(usize, u32)]) -> QueueId {
        self.submit_in(sender, 0, 10_000, recipients)
    }

    /// The same, in one of the sender's streams.
    pub fn submit_in(
        &mut self,
        sender: usize,
        stream: usize,
        bytes: u64,
        recipients: &[(usize, u32)],
    ) -> QueueId {
        let age = SignedDuration::try_from(self.judge.age_max()).unwrap();
        let mail = Mail {
            arrived: self.now,
            deadline: self.now + age,
            sender,
            stream,
            bytes,
            recipients: recipients
                .iter()
                .map(|&(hop, mailbox)| Recipient {
                    hop,
                    mailbox,
                    attempts: 0,
                    end: End::Due(self.now),
                })
                .collect(),
        };
        let id = self.store.accept(self.now, mail);
        self.tally.accepted += 1;
        self.fact(&Fact::Accepted { id });
        self.add_jobs(id);
        id
    }

    fn add_jobs(&mut self, id: QueueId) {
        let mail = self.store.mail(id);
        let (deadline, bytes) = (mail.deadline, mail.bytes);
        let sender: Arc<str> = Arc::from(format!("sender{}", mail.sender));
        let stream: Arc<str> = Arc::from(format!("stream{}", mail.stream));
        for (hop, due) in self.store.hops(id) {
            self.tell(Event::Add(Job {
                id,
                hop: hop_named(hop),
                due,
                deadline,
                sender: Arc::clone(&sender),
                stream: Arc::clone(&stream),
                bytes,
                priority: Default::default(),
            }));
        }
    }

    /// Killed, and started again: only the queue is left.
    pub fn restart(&mut self) {
        self.era += 1;
        self.tally.restarts += 1;
        self.sessions.clear();
        self.writing.clear();
        self.learned.clear();
        for site in &mut self.sites {
            site.open = 0;
        }
        self.settings.seed += 1;
        self.scheduler = Scheduler::new(self.settings.clone());
        self.fact(&Fact::Restarted);
        for id in self.store.unfinished() {
            self.add_jobs(id);
        }
    }

    /// All that is known, or these messages.
    pub fn flush(&mut self, ids: Option<Vec<QueueId>>) {
        let selected = ids.clone().unwrap_or_else(|| self.store.unfinished());
        let carried = self.sessions.values().filter_map(Session::job);
        let busy: BTreeSet<Key> = carried.chain(self.writing.keys().copied()).collect();
        let keys: Vec<Key> = selected
            .iter()
            .flat_map(|&id| self.store.hops(id).into_keys().map(move |hop| (id, hop)))
            // What is being tried at this moment is not flushed.
            .filter(|key| !busy.contains(key))
            .collect();
        self.fact(&Fact::Flushed { keys: &keys });
        self.tell(Event::Flush(
            ids.map_or(FlushSelection::All, FlushSelection::Ids),
        ));
    }

    pub fn discard(&mut self, id: QueueId) {
        let count = self.store.mail(id).recipients.len() as u32;
        let ends: Vec<_> = (0..count).map(|index| (index, End::Discarded)).collect();
        self.store.write(id, &ends);
        self.fact(&Fact::Discarded { id });
        self.tell(Event::Remove(id));
    }

    pub fn suspend(&mut self, site: usize, seconds: f64) {
        let until = self.after(seconds);
        self.fact(&Fact::Suspended { site, until });
        let site = site_named(site);
        let rule = Arc::from("operator");
        self.tell(Event::Suspend { site, until, rule });
    }

    pub fn resume(&mut self, site: usize) {
        self.fact(&Fact::Resumed { site });
        self.tell(Event::Resume {
            site: site_named(site),
        });
    }

    pub fn is_with_a_session(&self, id: QueueId) -> bool {
        let mut jobs = self.sessions.values().filter_map(Session::job);
        jobs.any(|key| key.0 == id)
    }

    /// Limits as they are now, with what was learned.
    pub fn limits(&self, site: usize) -> Limits {
        let limits = self.sites[site].limits.clone();
        let learned = self.learned.get(&site).copied().unwrap_or(u32::MAX);
        Limits {
            recipients_per_transaction: limits.recipients_per_transaction.min(learned),
            ..limits
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve(hop) => {
                let site = self.hops[number(&hop)];
                let seconds = self.rng.random_range(0.001..0.3);
                let limits = self.limits(site);
                let shares = self.shares.get(&site).cloned().unwrap_or_default();
                let site = site_named(site);
                self.come(
                    seconds,
                    Coming::Event(Event::Resolved {
                        hop,
                        site,
                        limits,
                        shares,
                    }),
                );
            }
            Action::Open { session, site, hop } => {
                let site = site_number(&site);
                assert_eq!(
                    site,
                    self.hops[number(&hop)],
                    "by a next hop of another site"
                );
                self.fact(&Fact::Opened { session, site });
                self.sessions.insert(session, Session::new(site));
                self.come(0.001, Coming::Event(Event::Ready(session)));
            }
            Action::Assign { session, dispatch } => {
                self.tally.dispatches += 1;
                let key = (dispatch.id, number(&dispatch.hop));
                self.assigned(session, key, dispatch.as_of);
            }
            Action::Quit(session) => {
                self.fact(&Fact::Quit { session });
                self.come(0.05, Coming::Closed(session));
            }
            Action::Expire(dispatch) => {
                let key = (dispatch.id, number(&dispatch.hop));
                let deadline = self.store.mail(key.0).deadline;
                assert!(deadline <= self.now, "{key:?} expired too early");
                self.come(0.01, Coming::Expire(key));
            }
            Action::Suspended { site, until, .. } => {
                self.tally.suspended += 1;
                let site = site_number(&site);
                self.fact(&Fact::Suspended { site, until });
            }
            Action::SourceResumed { .. } => {}
            Action::Resumed { site } => {
                let site = site_number(&site);
                self.fact(&Fact::Resumed { site });
            }
        }
    }

    fn arrive(&mut self, coming: Coming) {
        match coming {
            Coming::Event(event) => {
                if let Event::Resolved { site, limits, .. } = &event {
                    let site = site_number(site);
                    self.fact(&Fact::Limits { site, limits });
                }
                self.tell(event);
            }
            Coming::NoConnection(session) => self.no_connection(session),
            Coming::Transacted(session) => self.transacted(session),
            Coming::Write(key) => self.write(key),
            Coming::Closed(session) => self.closed(session),
            Coming::Expire(key) => self.expire(key),
        }
    }

    fn expire(&mut self, key: Key) {
        let due = self.store.due(key, Timestamp::MAX);
        let ends: Vec<_> = due.iter().map(|&index| (index, End::Expired)).collect();
        self.tally.expired += ends.len() as u64;
        self.store.write(key.0, &ends);
        self.fact(&Fact::Written {
            key,
            ends: &ends,
            reached: Reached::Yes,
        });
        let report = Report {
            id: key.0,
            due_again: self.store.due_again(key),
            site: SiteNews::Neutral,
        };
        let hop = hop_named(key.1);
        self.tell(Event::Settled { hop, report });
    }

    /// Heals all peers and goes on until the queue must be empty.
    pub fn drain(&mut self) {
        for site in &mut self.sites {
            site.heal();
        }
        self.fact(&Fact::Healed);
        let days = SignedDuration::from_hours(6 * 24);
        self.advance(self.now + days);
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            check.end(&self.store);
        }
        assert_eq!(self.scheduler.jobs(), 0, "jobs are left");
        assert!(self.sessions.is_empty(), "sessions are left");
        assert_eq!(self.scheduler.sites_total(), 0, "sites are forgotten");
        assert_eq!(self.scheduler.wake_at(), None, "nothing is to be done");
    }
}

pub fn hop_named(number: usize) -> NextHop {
    NextHop::Domain(Domain::parse(&format!("d{number}.test")).unwrap())
}

fn number(hop: &NextHop) -> usize {
    let text = hop.to_string();
    text[1..text.len() - ".test".len()].parse().unwrap()
}

pub fn site_named(number: usize) -> SiteId {
    SiteId(Arc::from(format!("mx{number}.test")))
}

fn site_number(site: &SiteId) -> usize {
    let text = &site.0;
    text[2..text.len() - ".test".len()].parse().unwrap()
}
