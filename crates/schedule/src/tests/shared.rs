//! Caps that sites share, with random sessions and two families of source addresses: none is ever
//! exceeded, nobody who waits for one is forgotten, and all mail goes out in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_smtp::{Domain, NextHop, QueueId};

use crate::*;

const SITES: usize = 6;
/// The first ones belong to one provider.
const OF_PROVIDER: usize = 4;
const PROVIDER_CONNECTIONS: u32 = 5;
const PROVIDER_RATE: f64 = 8.0;
const SOURCE_CONNECTIONS: u32 = 3;
const SOURCE_RATE: f64 = 4.0;
const WARM_UP: [u32; 2] = [40, 70];

fn v4(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn v6() -> IpAddr {
    "2001:db8::1".parse().unwrap()
}

fn start() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

/// 192.0.2.1 has caps, 192.0.2.2 is warmed up, the third is free; one of IPv6.
fn shares(site: usize) -> Vec<Share> {
    let share = |name: &str, cap, source| Share {
        name: Arc::from(name),
        cap,
        source,
    };
    let mut all = vec![
        share(
            "source connections",
            Cap::Connections(SOURCE_CONNECTIONS),
            Some(v4(1)),
        ),
        share("source rate", Cap::Rate(SOURCE_RATE), Some(v4(1))),
        share(
            "warm-up",
            Cap::WarmUp(WarmUp {
                start: start(),
                daily: Arc::from(WARM_UP),
            }),
            Some(v4(2)),
        ),
    ];
    if site < OF_PROVIDER {
        let connections = Cap::Connections(PROVIDER_CONNECTIONS);
        all.push(share("provider connections", connections, None));
        all.push(share("provider rate", Cap::Rate(PROVIDER_RATE), None));
    }
    all
}

#[derive(Clone, Copy, PartialEq)]
enum Sources {
    Three,
    /// Without one that has no cap: then mail waits.
    Capped,
}

struct World {
    scheduler: Scheduler,
    rng: StdRng,
    now: Timestamp,
    coming: BTreeMap<(Timestamp, u64), Event>,
    serial: u64,
    /// The site, and from where it is connected.
    sessions: BTreeMap<SessionId, (usize, Option<IpAddr>)>,
    /// By the time of each message: from where, and to the provider or not.
    sent: Vec<(Timestamp, IpAddr, usize)>,
    open: BTreeSet<QueueId>,
}

fn number(text: &str) -> usize {
    text[1..text.len() - ".test".len()].parse().unwrap()
}

impl World {
    fn new(seed: u64, sources: Sources) -> World {
        let mut all = vec![(v4(1), 1), (v4(2), 2)];
        if sources == Sources::Three {
            all.extend([(v4(3), 1), (v6(), 1)]);
        }
        let sources = all
            .into_iter()
            .map(|(address, weight)| Source { address, weight });
        World {
            scheduler: Scheduler::new(Settings {
                idle: Duration::from_secs(3),
                sessions_max: 100,
                sources: sources.collect(),
                seed,
            }),
            rng: StdRng::seed_from_u64(seed),
            now: start(),
            coming: BTreeMap::new(),
            serial: 0,
            sessions: BTreeMap::new(),
            sent: Vec::new(),
            open: BTreeSet::new(),
        }
    }

    fn come(&mut self, seconds: f64, event: Event) {
        self.serial += 1;
        let at = self.now + SignedDuration::from_secs_f64(seconds);
        self.coming.insert((at, self.serial), event);
    }

    fn submit(&mut self, site: usize) {
        self.serial += 1;
        let id = QueueId::first_of(self.now.as_millisecond() as u64, 0);
        let id = QueueId::from_u64(id.to_u64() + self.serial);
        self.open.insert(id);
        let job = Job {
            id,
            hop: NextHop::Domain(Domain::parse(&format!("d{site}.test")).unwrap()),
            due: self.now,
            deadline: self.now + SignedDuration::from_hours(24 * 30),
            sender: Arc::from("a"),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        };
        self.tell(Event::Add(job));
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
                let site = number(&hop.to_string());
                let event = Event::Resolved {
                    hop,
                    site: SiteId(Arc::from(format!("s{site}.test"))),
                    limits: Limits {
                        connections: 10,
                        rate: None,
                        messages_per_connection: 20,
                        recipients_per_transaction: 100,
                    },
                    shares: shares(site),
                };
                self.come(0.01, event);
            }
            Action::Open { session, site, .. } => {
                self.sessions.insert(session, (number(&site.0), None));
                self.come(0.001, Event::Ready(session));
            }
            Action::Assign { session, dispatch } => self.carry_out(session, dispatch),
            Action::Quit(session) => self.come(0.01, Event::Closed(session)),
            Action::Expire(_)
            | Action::Suspended { .. }
            | Action::SourceResumed { .. }
            | Action::Resumed { .. } => {}
        }
    }

    fn carry_out(&mut self, id: SessionId, dispatch: Dispatch) {
        let (site, connected) = self.sessions[&id];
        let allowed = |source: &IpAddr| !dispatch.sources.avoid.contains(source);
        let source = match connected.filter(allowed) {
            Some(source) => source,
            None => {
                let all = [v4(1), v4(2), v4(3), v6()];
                let usable: Vec<IpAddr> = all.into_iter().filter(allowed).collect();
                let usable: Vec<IpAddr> = usable
                    .into_iter()
                    .filter(|one| self.is_configured(*one))
                    .collect();
                assert!(!usable.is_empty(), "nowhere to go from");
                usable[self.rng.random_range(0..usable.len())]
            }
        };
        self.sessions.insert(id, (site, Some(source)));
        if connected != Some(source) {
            let source = Some(source);
            self.tell(Event::Opened {
                session: id,
                source,
            });
        }
        self.sent.push((self.now, source, site));
        self.open.remove(&dispatch.id);
        self.check();
        let takes = self.rng.random_range(0.01..2.0);
        let report = Report {
            id: dispatch.id,
            due_again: None,
            site: SiteNews::Good,
        };
        let session = id;
        self.come(takes, Event::Done { session, report });
        self.come(takes, Event::Ready(session));
    }

    fn is_configured(&self, source: IpAddr) -> bool {
        self.scheduler
            .sources
            .iter()
            .any(|one| one.address == source)
    }

    /// No cap is exceeded.
    fn check(&self) {
        let to_provider = |site: usize| site < OF_PROVIDER;
        let sessions = self.sessions.values();
        let provider = sessions.clone().filter(|(site, _)| to_provider(*site));
        assert!(provider.count() <= PROVIDER_CONNECTIONS as usize);
        let from_first = sessions.filter(|(_, source)| *source == Some(v4(1)));
        assert!(from_first.count() <= SOURCE_CONNECTIONS as usize);
        let span = SignedDuration::from_secs(5);
        let lately = self.sent.iter().rev();
        let lately = lately.take_while(|(at, ..)| self.now.duration_since(*at) <= span);
        let provider = lately.clone().filter(|(_, _, site)| to_provider(*site));
        assert!(provider.count() as f64 <= 1.0 + PROVIDER_RATE * 5.05);
        let from_first = lately.filter(|(_, source, _)| *source == v4(1));
        assert!(from_first.count() as f64 <= 1.0 + SOURCE_RATE * 5.05);
        let day = self.now.duration_since(start()).as_hours() / 24;
        if let Some(most) = WARM_UP.get(day as usize) {
            let today = |at: &Timestamp| at.duration_since(start()).as_hours() / 24 == day;
            let warm = self.sent.iter().rev().take_while(|(at, ..)| today(at));
            let warm = warm.filter(|(_, source, _)| *source == v4(2)).count();
            assert!(warm <= *most as usize, "{warm} of {most} on day {day}");
        }
    }

    fn advance(&mut self, to: Timestamp) {
        for _ in 0..2_000_000 {
            let coming = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let wake = self.scheduler.wake_at();
            let next = [coming, wake].into_iter().flatten().min();
            match next.filter(|&at| at <= to) {
                None => {
                    self.now = to;
                    return;
                }
                Some(at) => self.now = self.now.max(at),
            }
            match self.coming.first_entry() {
                Some(entry) if entry.key().0 <= self.now => {
                    let event = entry.remove();
                    if let Event::Closed(session) = event {
                        self.sessions.remove(&session);
                    }
                    self.tell(event);
                }
                Some(_) | None => self.tell(Event::Tick),
            }
        }
        panic!("it wakes up for ever");
    }
}

#[test]
fn no_shared_cap_is_ever_exceeded_and_all_mail_goes_out() {
    for seed in 0..12 {
        let mut world = World::new(seed, Sources::Three);
        for _ in 0..60 {
            for _ in 0..world.rng.random_range(1..30) {
                let site = world.rng.random_range(0..SITES);
                world.submit(site);
            }
            let seconds = world.rng.random_range(1..600);
            let to = world.now + SignedDuration::from_secs(seconds);
            world.advance(to);
        }
        let to = world.now + SignedDuration::from_hours(2);
        world.advance(to);
        assert!(
            world.open.is_empty(),
            "seed {seed}: {} left",
            world.open.len()
        );
        assert!(world.sessions.is_empty());
        for source in [v4(1), v4(2), v4(3), v6()] {
            let count = world
                .sent
                .iter()
                .filter(|(_, from, _)| *from == source)
                .count();
            assert!(count > 10, "seed {seed}: {count} from {source}");
        }
    }
}

#[test]
fn sites_that_share_caps_get_the_same_part_of_them() {
    let mut world = World::new(3, Sources::Three);
    for site in 0..OF_PROVIDER {
        for _ in 0..1000 {
            world.submit(site);
        }
    }
    let to = world.now + SignedDuration::from_secs(100);
    world.advance(to);
    let total = world.sent.len() as f64;
    // Five connections with a message a second each, now and then given to another site.
    assert!(
        total > 0.8 * f64::from(PROVIDER_CONNECTIONS) * 100.0,
        "{total}"
    );
    for site in 0..OF_PROVIDER {
        let part = world.sent.iter().filter(|(_, _, of)| *of == site).count() as f64;
        assert!(
            part > 0.15 * total && part < 0.35 * total,
            "{site}: {part} of {total}"
        );
    }
}

#[test]
fn what_is_beyond_a_warm_up_waits_for_midnight_and_says_so() {
    let mut world = World::new(1, Sources::Capped);
    // The other one takes four a second: together less than this in a day.
    let first = world.scheduler.sources[1];
    world.scheduler.reset(&Settings {
        idle: Duration::from_secs(3),
        sessions_max: 100,
        sources: vec![first],
        seed: 1,
    });
    for _ in 0..100 {
        world.submit(5);
    }
    world.advance(start() + SignedDuration::from_hours(23));
    assert_eq!(world.sent.len(), 40);
    let waits = *world.open.first().unwrap();
    let why: Vec<String> = world
        .scheduler
        .why(waits, world.now)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        why,
        ["site s5.test: no room until 2026-11-02T00:00:00Z: warm-up"]
    );
    world.advance(start() + SignedDuration::from_hours(25));
    assert_eq!(world.sent.len(), 100);
    assert!(world.open.is_empty());
}

#[test]
fn greylisted_mail_goes_from_where_it_came_if_there_is_room() {
    let mut world = World::new(1, Sources::Three);
    let session = SessionId(77);
    let choice = SourceChoice::default();
    // No such session: nothing changes.
    let same = world
        .scheduler
        .from_home(session, choice.clone(), v4(3), world.now);
    assert_eq!(same, choice);
    world.submit(5);
    let mut actions = Vec::new();
    let mut assigned = None;
    while assigned.is_none() {
        let next = world.coming.pop_first().unwrap();
        world.now = next.0.0;
        world.scheduler.handle(next.1, world.now, &mut actions);
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Assign { session, dispatch } => assigned = Some((session, dispatch)),
                other => world.act(other),
            }
        }
    }
    let (session, dispatch) = assigned.unwrap();
    for home in [v4(3), v4(1), v4(2)] {
        let sources = dispatch.sources.clone();
        let chosen = world.scheduler.from_home(session, sources, home, world.now);
        assert_eq!(chosen.prefer, Some(home));
        assert!(!chosen.avoid.contains(&home), "{chosen:?}");
        for other in [v4(1), v4(2), v4(3)].iter().filter(|one| **one != home) {
            assert!(chosen.avoid.contains(other), "{chosen:?}");
        }
    }
}
