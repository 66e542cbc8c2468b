//! Random events against a model of the world outside: whatever happens, limits are kept, nothing is
//! lost, nothing goes out twice at once or too early.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_smtp::{Domain, NextHop, QueueId};

use crate::*;

const SESSIONS_MAX: usize = 12;
const HOPS: usize = 12;

/// What a next hop is in this world: its site, and how that behaves.
struct Peer {
    site: &'static str,
    connections: u32,
    rate: Option<f64>,
    dead: Dead,
}

#[derive(Clone, Copy, PartialEq)]
enum Dead {
    Always,
    Never,
}

#[derive(Clone, Copy)]
struct Known {
    due: Timestamp,
    deadline: Timestamp,
    urge: Urge,
}

#[derive(Clone, Copy, PartialEq)]
enum Urge {
    Normal,
    Flushed,
}

struct World {
    scheduler: Scheduler,
    rng: StdRng,
    now: Timestamp,
    peers: Vec<Peer>,
    jobs: BTreeMap<(QueueId, usize), Known>,
    in_flight: BTreeMap<(QueueId, usize), Option<SessionId>>,
    sessions: BTreeMap<SessionId, (SiteId, Option<(QueueId, usize)>)>,
    /// What the world outside will do, and when.
    coming: BTreeMap<(Timestamp, u64), Event>,
    serial: u64,
    assigned: BTreeMap<SiteId, Vec<Timestamp>>,
    quit: BTreeSet<SessionId>,
    healed: bool,
    delivered: u64,
}

fn hop(number: usize) -> NextHop {
    NextHop::Domain(Domain::parse(&format!("d{number}.test")).unwrap())
}

fn number(hop: &NextHop) -> usize {
    let text = hop.to_string();
    text[1..text.len() - 5].parse().unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let sites = ["A", "B", "C", "D", "E", "F"];
        let mut rng = StdRng::seed_from_u64(seed);
        let mut kinds: BTreeMap<&str, (u32, Option<f64>, Dead)> = BTreeMap::new();
        let peers = (0..HOPS)
            .map(|n| {
                let site = sites[n % sites.len()];
                let (connections, rate, dead) = *kinds.entry(site).or_insert_with(|| {
                    let rate = rng.random_bool(0.4).then(|| rng.random_range(0.2..50.0));
                    let dead = if rng.random_bool(0.3) {
                        Dead::Always
                    } else {
                        Dead::Never
                    };
                    (rng.random_range(1..8), rate, dead)
                });
                Peer {
                    site,
                    connections,
                    rate,
                    dead,
                }
            })
            .collect();
        World {
            scheduler: Scheduler::new(Settings {
                idle: Duration::from_secs(3),
                sessions_max: SESSIONS_MAX as u32,
                sources: Vec::new(),
                seed,
            }),
            rng,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            peers,
            jobs: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sessions: BTreeMap::new(),
            coming: BTreeMap::new(),
            serial: 0,
            assigned: BTreeMap::new(),
            quit: BTreeSet::new(),
            healed: false,
            delivered: 0,
        }
    }

    fn after(&mut self, seconds: f64) -> Timestamp {
        self.now + SignedDuration::from_secs_f64(seconds)
    }

    fn come(&mut self, seconds: f64, event: Event) {
        let at = self.after(seconds);
        self.serial += 1;
        self.coming.insert((at, self.serial), event);
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(event, self.now, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve(hop) => {
                let peer = &self.peers[number(&hop)];
                let event = Event::Resolved {
                    site: SiteId(Arc::from(peer.site)),
                    limits: Limits {
                        connections: peer.connections,
                        rate: peer.rate,
                        messages_per_connection: 5,
                        recipients_per_transaction: 100,
                    },
                    shares: Vec::new(),
                    hop,
                };
                self.come(0.1, event);
            }
            Action::Open { session, site, hop } => {
                let peer = &self.peers[number(&hop)];
                assert_eq!(peer.site, &*site.0);
                let open = self.sessions.values().filter(|(s, _)| *s == site).count();
                assert!(
                    open < peer.connections as usize,
                    "connections of {}",
                    site.0
                );
                assert!(self.sessions.len() < SESSIONS_MAX, "sessions of all sites");
                self.sessions.insert(session, (site, None));
                let event = if self.rng.random_bool(0.02) {
                    Event::Closed(session)
                } else {
                    Event::Ready(session)
                };
                self.come(0.001, event);
            }
            Action::Assign { session, dispatch } => self.assigned_to(session, &dispatch),
            Action::Quit(session) => {
                assert!(self.quit.insert(session), "told to quit twice");
                self.come(0.05, Event::Closed(session));
            }
            Action::Expire(dispatch) => {
                let key = (dispatch.id, number(&dispatch.hop));
                assert!(self.jobs[&key].deadline <= self.now, "expired too early");
                assert_eq!(self.in_flight.insert(key, None), None);
                let report = Report {
                    id: dispatch.id,
                    due_again: None,
                    site: SiteNews::Neutral,
                };
                let hop = dispatch.hop;
                self.come(0.01, Event::Settled { hop, report });
            }
            Action::Suspended { .. } | Action::Resumed { .. } | Action::SourceResumed { .. } => {}
        }
    }

    fn assigned_to(&mut self, session: SessionId, dispatch: &Dispatch) {
        let key = (dispatch.id, number(&dispatch.hop));
        let known = self.jobs[&key];
        let early = self.now < known.due && self.now < known.deadline;
        assert!(!early || known.urge == Urge::Flushed, "{key:?} too early");
        let before = self.in_flight.insert(key, Some(session));
        assert_eq!(before, None, "{key:?} twice at once");
        assert!(!self.quit.contains(&session), "work after quit");
        let (site, work) = self.sessions.get_mut(&session).unwrap();
        assert_eq!(*work, None, "two dispatches in one session");
        *work = Some(key);
        let site = site.clone();
        let peer = &self.peers[key.1];
        assert_eq!(peer.site, &*site.0, "in a session to another site");
        let dead = peer.dead == Dead::Always && !self.healed;
        self.pace(&site, peer.rate);

        let chance: f64 = self.rng.random();
        let again = self.rng.random_range(0.0..600.0);
        let again = self.after(again);
        let (due_again, news) = if dead {
            (Some(again), SiteNews::Unreachable)
        } else if chance < 0.3 && !self.healed {
            (Some(again), SiteNews::Neutral)
        } else {
            (None, SiteNews::Good)
        };
        let report = Report {
            id: dispatch.id,
            due_again,
            site: news,
        };
        let takes = if dead {
            30.0
        } else {
            self.rng.random_range(0.001..2.0)
        };
        if chance > 0.97 {
            self.come(takes, Event::Closed(session));
            return;
        }
        if self.rng.random_bool(0.5) {
            self.come(takes, Event::Carried { session, news });
            let hop = dispatch.hop.clone();
            let written = takes + self.rng.random_range(0.001..5.0);
            self.come(written, Event::Settled { hop, report });
        } else {
            self.come(takes, Event::Done { session, report });
        }
        let next = if dead || chance > 0.9 {
            Event::Closed(session)
        } else {
            Event::Ready(session)
        };
        self.come(takes, next);
    }

    fn pace(&mut self, site: &SiteId, rate: Option<f64>) {
        let times = self.assigned.entry(site.clone()).or_default();
        times.push(self.now);
        let Some(rate) = rate else { return };
        for (count, &then) in times.iter().rev().take(200).enumerate() {
            let seconds = self.now.duration_since(then).as_secs_f64();
            let most = 1.0 + rate * (seconds + 0.05) + 1e-3;
            assert!((count + 1) as f64 <= most, "rate of {}", site.0);
        }
    }

    /// Something from the world outside reaches the scheduler.
    fn arrive(&mut self, event: Event) {
        match &event {
            Event::Done { session, report } => {
                let key = self
                    .sessions
                    .get_mut(session)
                    .and_then(|(_, work)| work.take());
                if let Some(key) = key {
                    assert_eq!(key.0, report.id);
                    self.came_back(key, report.due_again);
                }
            }
            Event::Closed(session) => match self.sessions.remove(session) {
                None => return,
                Some((_, Some(key))) => {
                    let now = self.now;
                    self.came_back(key, Some(now));
                }
                Some((_, None)) => {}
            },
            Event::Carried { session, .. } => {
                if let Some((_, work)) = self.sessions.get_mut(session) {
                    *work = None;
                }
            }
            Event::Settled { hop, report } => {
                self.came_back((report.id, number(hop)), report.due_again);
            }
            Event::Ready(session) if !self.sessions.contains_key(session) => return,
            _ => {}
        }
        self.tell(event);
    }

    fn came_back(&mut self, key: (QueueId, usize), due_again: Option<Timestamp>) {
        assert!(self.in_flight.remove(&key).is_some());
        match due_again {
            Some(due) => {
                let known = self.jobs.get_mut(&key).unwrap();
                known.due = due;
                known.urge = Urge::Normal;
            }
            None => {
                self.jobs.remove(&key);
                self.delivered += 1;
            }
        }
    }

    fn advance(&mut self, seconds: f64) {
        let end = self.after(seconds);
        for _ in 0..1_000_000 {
            let coming = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let wake = self.scheduler.wake_at();
            let next = [coming, wake].into_iter().flatten().min();
            match next.filter(|&at| at <= end) {
                None => {
                    self.now = end;
                    return;
                }
                Some(at) => self.now = self.now.max(at),
            }
            if coming.is_some_and(|at| at <= self.now) {
                let (_, event) = self.coming.pop_first().unwrap();
                self.arrive(event);
            } else {
                self.tell(Event::Tick);
            }
        }
        panic!("it wakes up for ever");
    }

    fn add(&mut self, serial: u64) {
        let id = QueueId::from_u64(serial);
        let place = self.rng.random_range(0..HOPS);
        let delay = self.rng.random_range(-5.0..30.0f64);
        let age = self.rng.random_range(600.0..200_000.0);
        let due = self.after(delay);
        let deadline = self.after(age);
        self.jobs.insert(
            (id, place),
            Known {
                due,
                deadline,
                urge: Urge::Normal,
            },
        );
        let sender = format!("sender{}", self.rng.random_range(0..5));
        self.tell(Event::Add(Job {
            id,
            hop: hop(place),
            due,
            deadline,
            sender: Arc::from(sender),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        }));
    }

    fn one_event(&mut self, serial: u64) {
        match self.rng.random_range(0..100) {
            0..=1 => {
                for known in self.jobs.values_mut() {
                    known.urge = Urge::Flushed;
                }
                self.tell(Event::Flush(FlushSelection::All));
            }
            2..=4 => {
                let site = SiteId(Arc::from(["A", "B", "C"][self.rng.random_range(0..3)]));
                let until = self.after(120.0);
                let rule = Arc::from("rule");
                self.tell(Event::Suspend { site, until, rule });
            }
            5..=7 => {
                let site = SiteId(Arc::from(["A", "D", "E"][self.rng.random_range(0..3)]));
                let until = self.after(60.0);
                let rule = Arc::from("rule");
                self.tell(Event::Slow { site, until, rule });
            }
            8 => self.tell(Event::Refresh),
            9..=11 => {
                // Removed, unless it is being tried: then its end takes it out of the model.
                let waiting = self
                    .jobs
                    .keys()
                    .find(|key| !self.in_flight.contains_key(key));
                if let Some(&key) = waiting {
                    self.jobs.remove(&key);
                    self.tell(Event::Remove(key.0));
                }
            }
            _ => self.add(serial),
        }
    }
}

#[test]
fn whatever_happens_limits_are_kept_and_nothing_is_lost() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=40).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        println!("SIM_SEED={seed}");
        let mut world = World::new(seed);
        for serial in 1..400 {
            world.one_event(serial);
            let pause = world.rng.random_range(0.0..3.0);
            world.advance(pause);
        }
        world.healed = true;
        world.advance(300_000.0);
        assert!(world.jobs.is_empty(), "lost: {:?}", world.jobs.keys());
        assert_eq!(world.scheduler.jobs(), 0);
        assert!(world.sessions.is_empty(), "{:?}", world.sessions);
        assert_eq!(world.scheduler.sites_total(), 0, "sites are forgotten");
        assert!(world.delivered > 200);
    }
}

#[test]
fn a_dead_site_delays_no_other() {
    let mut world = World::new(1);
    for (place, peer) in world.peers.iter_mut().enumerate() {
        peer.dead = if place == 0 {
            Dead::Always
        } else {
            Dead::Never
        };
        peer.site = if place == 0 { "A" } else { "B" };
        peer.connections = 10;
        peer.rate = None;
    }
    let now = world.now;
    let deadline = world.after(500_000.0);
    let add = |world: &mut World, serial: u64, place: usize| {
        let id = QueueId::from_u64(serial);
        world.jobs.insert(
            (id, place),
            Known {
                due: now,
                deadline,
                urge: Urge::Normal,
            },
        );
        world.tell(Event::Add(Job {
            id,
            hop: hop(place),
            due: now,
            deadline,
            sender: Arc::from("a"),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        }));
    };
    for serial in 0..1000 {
        add(&mut world, serial, 0);
    }
    world.advance(1.0);
    world.healed = false;
    for serial in 2000..2010 {
        add(&mut world, serial, 1);
    }
    world.advance(0.2);
    let site = SiteId(Arc::from("B"));
    let first = world.assigned.get(&site).map_or(0, Vec::len);
    assert!(first >= 5, "{first} of the healthy site went at once");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(99);
        for serial in 1..200 {
            world.one_event(serial);
            world.advance(0.5);
        }
        format!("{:?}", world.assigned)
    };
    assert_eq!(run(), run());
}

#[test]
fn more_sites_than_sessions_all_get_their_turn_without_waiting() {
    let mut world = World::new(1);
    let deadline = world.after(500_000.0);
    let mut actions = Vec::new();
    for serial in 0..600 {
        let event = Event::Add(Job {
            id: QueueId::from_u64(serial),
            hop: hop((serial % 40) as usize),
            due: world.now,
            deadline,
            sender: Arc::from("a"),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        });
        world.scheduler.handle(event, world.now, &mut actions);
    }
    // Every action is answered at once; no time passes.
    while !actions.is_empty() {
        for action in std::mem::take(&mut actions) {
            let events = match action {
                Action::Resolve(hop) => vec![Event::Resolved {
                    site: SiteId(Arc::from(hop.to_string())),
                    hop,
                    limits: Limits {
                        connections: 3,
                        rate: None,
                        messages_per_connection: 100,
                        recipients_per_transaction: 100,
                    },
                    shares: Vec::new(),
                }],
                Action::Open { session, .. } => vec![Event::Ready(session)],
                Action::Assign { session, dispatch } => {
                    let report = Report {
                        id: dispatch.id,
                        due_again: None,
                        site: SiteNews::Good,
                    };
                    vec![Event::Done { session, report }, Event::Ready(session)]
                }
                Action::Quit(session) => vec![Event::Closed(session)],
                Action::Expire(_)
                | Action::Suspended { .. }
                | Action::Resumed { .. }
                | Action::SourceResumed { .. } => vec![],
            };
            for event in events {
                world.scheduler.handle(event, world.now, &mut actions);
            }
        }
    }
    assert_eq!(world.scheduler.jobs(), 0);
}
