//! A day is over: who is told what, when, how often, over two days of virtual time.

use std::net::IpAddr;
use std::sync::Mutex;

use relay_route::MxRecord;
use relay_route::resolver::Later;

use super::*;
use crate::record::Url;
use crate::recorder::Recorder;
use crate::session::{Failure, Policy, PolicyKind, ResultType, Session};

/// DNS, HTTPS and queue of this test: what they answer, and what they were given.
#[derive(Default)]
struct World {
    records: Mutex<HashMap<String, Lookup<String>>>,
    refusing: Mutex<Option<String>>,
    letters: Mutex<Vec<(Timestamp, Letter)>>,
    posts: Mutex<Vec<(Timestamp, Url)>>,
    clock: Mutex<Option<Clock>>,
}

impl World {
    fn now(&self) -> Timestamp {
        self.clock.lock().unwrap().unwrap().now()
    }

    fn refused(&self) -> Result<(), String> {
        match self.refusing.lock().unwrap().clone() {
            Some(words) => Err(words),
            None => Ok(()),
        }
    }

    fn publish(&self, domain: &str, record: Lookup<String>) {
        let name = format!("_smtp._tls.{domain}");
        self.records.lock().unwrap().insert(name, record);
    }
}

impl Resolver for World {
    fn mx<'a>(&'a self, _: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    fn addresses<'a>(&'a self, _: &'a str) -> Later<'a, Lookup<IpAddr>> {
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    fn txt<'a>(&'a self, name: &'a str) -> Later<'a, Lookup<String>> {
        let found = self.records.lock().unwrap().get(name).cloned();
        Box::pin(std::future::ready(found.unwrap_or(Lookup::NoSuchName)))
    }
}

impl Post for World {
    fn post<'a>(&'a self, to: &'a Url, _: Vec<u8>) -> Posting<'a> {
        self.posts.lock().unwrap().push((self.now(), to.clone()));
        Box::pin(std::future::ready(self.refused()))
    }
}

impl Outbox for World {
    fn send(&self, letter: Letter) -> Posting<'_> {
        let now = self.now();
        let taken = self.refused();
        if taken.is_ok() {
            self.letters.lock().unwrap().push((now, letter));
        }
        Box::pin(std::future::ready(taken))
    }
}

struct Scene {
    world: Arc<World>,
    days: Days,
    clock: Clock,
    planned: Planned,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// At noon.
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::starting_at("2026-11-22T12:00:00Z".parse().unwrap());
        let world = Arc::new(World::default());
        *world.clock.lock().unwrap() = Some(clock);
        Scene {
            world,
            days: Days::open(dir.path()).unwrap(),
            clock,
            planned: Planned::default(),
            _dir: dir,
        }
    }

    /// Counts a session and waits until it is on disk.
    fn count(&self, domain: &str, policy_of: &str, failure: Option<ResultType>) {
        let session = Session {
            domain: domain.to_owned(),
            policy: Policy {
                kind: PolicyKind::Tlsa,
                lines: vec!["3 1 1 00".to_owned()],
                domain: policy_of.to_owned(),
                mx: vec![policy_of.to_owned()],
            },
            failure: failure.map(|result| Failure {
                result,
                sending_ip: None,
                mx: Some(policy_of.to_owned()),
                receiving_ip: None,
                reason: "x".to_owned(),
            }),
        };
        let (day, counted) = (day_of(self.clock.now()), || {
            let rows = self.days.rows(day_of(self.clock.now())).unwrap();
            rows.iter().map(|row| row.count).sum::<u64>()
        });
        assert_eq!(day.to_string().len(), 10);
        let before = counted();
        let recorder = Recorder::start(self.days.clone()).unwrap();
        recorder.note(session, self.clock.now());
        while counted() == before {
            std::thread::yield_now();
        }
    }

    /// Starts sending, as relayd does; the task ends when dropped.
    fn start(&self, spread: Duration) -> tokio::task::JoinHandle<()> {
        let reporter = Reporter {
            days: self.days.clone(),
            settings: Settings {
                submitter: Submitter {
                    hostname: "relay.test".to_owned(),
                    organization: "Relay".to_owned(),
                    contact: "postmaster@relay.test".to_owned(),
                },
                from: "tls@relay.test".to_owned(),
                spread,
            },
            clock: self.clock,
            events: Events::default(),
            resolver: self.world.clone(),
            post: self.world.clone(),
            outbox: self.world.clone(),
            planned: self.planned.clone(),
        };
        tokio::spawn(reporter.run())
    }

    async fn until(&self, at: &str) {
        let at: Timestamp = at.parse().unwrap();
        while self.clock.now() < at {
            // In steps: files are worked on by threads that know nothing of virtual time.
            tokio::time::sleep(Duration::from_secs(600)).await;
            for _ in 0..20 {
                tokio::task::spawn_blocking(|| ()).await.unwrap();
            }
        }
    }

    fn letters(&self) -> Vec<(Timestamp, String)> {
        let letters = self.world.letters.lock().unwrap();
        let shown = letters
            .iter()
            .map(|(at, letter)| (*at, letter.to.to_string()));
        shown.collect()
    }
}

fn asks(to: &str) -> Lookup<String> {
    Lookup::Found(vec![format!("v=TLSRPTv1;rua={to}")])
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn each_domain_that_asks_is_told_once_after_the_day_at_a_time_of_its_own() {
    let scene = Scene::new();
    for name in ["a", "b", "c", "silent"] {
        let domain = format!("{name}.example");
        scene.count(&domain, &domain, None);
        if name != "silent" {
            let asked = asks(&format!("mailto:tls@{domain}"));
            scene.world.publish(&domain, asked);
        }
    }
    let first = scene.start(8 * HOUR);
    scene.until("2026-11-23T00:10:00Z").await;
    assert_eq!(scene.letters(), [], "the day has hardly ended");
    scene.until("2026-11-23T04:00:00Z").await;
    // A restart in between tells nobody twice.
    first.abort();
    let _second = scene.start(8 * HOUR);
    scene.until("2026-11-24T12:00:00Z").await;
    let mut letters = scene.letters();
    let begin: Timestamp = "2026-11-23T00:15:00Z".parse().unwrap();
    let end: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
    assert!(
        letters.iter().all(|(at, _)| (begin..end).contains(at)),
        "{letters:?}"
    );
    let mut times: Vec<i64> = letters.iter().map(|(at, _)| at.as_second() / 600).collect();
    times.dedup();
    assert_eq!(times.len(), 3, "not all at once: {letters:?}");
    letters.sort_by(|a, b| a.1.cmp(&b.1));
    let to: Vec<&str> = letters.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(to, ["tls@a.example", "tls@b.example", "tls@c.example"]);
    assert_eq!(
        scene.days.all().unwrap(),
        [] as [Date; 0],
        "and the day is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_tlsa_records_is_told_too() {
    let scene = Scene::new();
    scene.count(
        "rcpt.example",
        "mx.host.example",
        Some(ResultType::TlsaInvalid),
    );
    scene
        .world
        .publish("rcpt.example", asks("mailto:a@rcpt.example"));
    scene
        .world
        .publish("mx.host.example", asks("mailto:b@host.example"));
    let _running = scene.start(Duration::ZERO);
    scene.until("2026-11-23T03:00:00Z").await;
    let to: Vec<String> = scene.letters().into_iter().map(|(_, to)| to).collect();
    assert_eq!(to, ["b@host.example", "a@rcpt.example"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_tried_again_every_hour_and_given_up_after_a_day() {
    let scene = Scene::new();
    scene.count("a.example", "a.example", None);
    scene.world.publish(
        "a.example",
        asks("https://a.example/tls,mailto:tls@a.example"),
    );
    *scene.world.refusing.lock().unwrap() = Some("503".to_owned());
    let _running = scene.start(Duration::ZERO);
    scene.until("2026-11-23T05:00:00Z").await;
    let tries = scene.world.posts.lock().unwrap().len();
    assert!((3..=6).contains(&tries), "{tries}");
    *scene.world.refusing.lock().unwrap() = None;
    scene.until("2026-11-23T07:00:00Z").await;
    let posts = scene.world.posts.lock().unwrap().len();
    assert_eq!(scene.letters().len(), 1, "each place has it once");
    scene.until("2026-11-23T22:00:00Z").await;
    assert_eq!(scene.world.posts.lock().unwrap().len(), posts);
    assert_eq!(scene.letters().len(), 1);

    scene.count("b.example", "b.example", None);
    scene
        .world
        .publish("b.example", Lookup::Trouble("SERVFAIL".to_owned()));
    scene.until("2026-11-24T23:00:00Z").await;
    assert_eq!(scene.days.all().unwrap().len(), 1, "still tried");
    scene.until("2026-11-25T03:00:00Z").await;
    assert_eq!(scene.days.all().unwrap(), [] as [Date; 0], "given up");
    assert_eq!(scene.letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_day_that_nobody_could_be_told_of_is_deleted_in_the_end() {
    let scene = Scene::new();
    let long_ago: Date = "2026-11-19".parse().unwrap();
    std::fs::write(
        scene._dir.path().join(format!("{long_ago}.sessions")),
        "not a line\n",
    )
    .unwrap();
    let _running = scene.start(Duration::ZERO);
    scene.until("2026-11-22T13:00:00Z").await;
    assert_eq!(scene.days.all().unwrap(), [] as [Date; 0]);
}
