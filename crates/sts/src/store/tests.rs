//! Policies over time: read once, kept, renewed, outliving DNS, policy host and restarts.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use relay_route::MxRecord;
use relay_route::resolver::Later;

use super::*;
use crate::fetch::Fetching;
use crate::policy::Mode;

/// A domain's DNS and policy host, as they are at the moment.
struct Domain {
    record: Mutex<Lookup<String>>,
    policy: Mutex<Result<String, String>>,
    read: AtomicU32,
}

impl Domain {
    fn new(id: &str, policy: &str) -> Arc<Domain> {
        let domain = Domain {
            record: Mutex::new(Lookup::NoRecords),
            policy: Mutex::new(Err("not set".to_owned())),
            read: AtomicU32::new(0),
        };
        domain.publish(id, policy);
        Arc::new(domain)
    }

    fn publish(&self, id: &str, policy: &str) {
        *self.record.lock().unwrap() = Lookup::Found(vec![format!("v=STSv1; id={id};")]);
        *self.policy.lock().unwrap() = Ok(policy.to_owned());
    }

    fn read(&self) -> u32 {
        self.read.load(Ordering::Relaxed)
    }

    fn store(self: &Arc<Domain>, dir: Option<&Path>, now: Timestamp) -> Arc<Sts> {
        Arc::new(Sts::open(dir, self.clone(), self.clone(), now))
    }
}

impl Resolver for Domain {
    fn mx<'a>(&'a self, _: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    fn addresses<'a>(&'a self, _: &'a str) -> Later<'a, Lookup<IpAddr>> {
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    fn txt<'a>(&'a self, name: &'a str) -> Later<'a, Lookup<String>> {
        assert_eq!(name, "_mta-sts.rcpt.example");
        Box::pin(std::future::ready(self.record.lock().unwrap().clone()))
    }
}

impl Fetch for Domain {
    fn fetch<'a>(&'a self, domain: &'a str) -> Fetching<'a> {
        assert_eq!(domain, "rcpt.example");
        self.read.fetch_add(1, Ordering::Relaxed);
        let policy = self.policy.lock().unwrap().clone();
        Box::pin(std::future::ready(policy.map_err(|words| Trouble {
            why: Why::Fetch,
            words,
        })))
    }
}

const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: mx.rcpt.example\nmax_age: 604800\n";
const TESTING: &str = "version: STSv1\nmode: testing\nmx: mx.rcpt.example\nmax_age: 604800\n";

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

async fn mode(sts: &Arc<Sts>, now: Timestamp) -> Option<Mode> {
    let policy = sts.policy("Rcpt.example", now).await;
    match policy {
        Found::Policy(policy) => Some(policy.mode),
        Found::Nothing | Found::Unreadable(_) => None,
    }
}

#[tokio::test]
async fn a_policy_is_read_once_and_again_when_its_id_changes() {
    let domain = Domain::new("1", ENFORCE);
    let sts = domain.store(None, start());
    for _ in 0..3 {
        assert_eq!(mode(&sts, start()).await, Some(Mode::Enforce));
    }
    assert_eq!(domain.read(), 1);
    domain.publish("2", TESTING);
    assert_eq!(mode(&sts, start()).await, Some(Mode::Testing));
    assert_eq!(domain.read(), 2);
}

#[tokio::test]
async fn many_sessions_at_once_read_a_policy_once() {
    let domain = Domain::new("1", ENFORCE);
    let sts = domain.store(None, start());
    let all = (0..20).map(|_| {
        let sts = Arc::clone(&sts);
        tokio::spawn(async move { mode(&sts, start()).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), Some(Mode::Enforce));
    }
    assert_eq!(domain.read(), 1);
}

#[tokio::test]
async fn a_policy_that_holds_outlives_its_record_its_host_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let domain = Domain::new("1", ENFORCE);
    let sts = domain.store(Some(dir.path()), start());
    assert_eq!(mode(&sts, start()).await, Some(Mode::Enforce));
    let day = SignedDuration::from_hours(24);
    let sts = domain.store(Some(dir.path()), start() + day);
    for record in [
        Lookup::NoSuchName,
        Lookup::Trouble("SERVFAIL".to_owned()),
        Lookup::Found(vec!["v=STSv1; id=2".to_owned()]),
    ] {
        *domain.record.lock().unwrap() = record;
        *domain.policy.lock().unwrap() = Err("unreachable".to_owned());
        assert_eq!(mode(&sts, start() + day * 6).await, Some(Mode::Enforce));
    }
    *domain.record.lock().unwrap() = Lookup::NoSuchName;
    assert_eq!(mode(&sts, start() + day * 7).await, None, "max_age is over");
    let again = domain.store(Some(dir.path()), start() + day * 7);
    assert_eq!(mode(&again, start()).await, None, "and its file is gone");
}

#[tokio::test]
async fn a_host_that_gives_no_policy_is_left_alone_for_five_minutes() {
    let domain = Domain::new("1", "<html>");
    let sts = domain.store(None, start());
    let minute = SignedDuration::from_mins(1);
    for passed in 0..5 {
        assert_eq!(mode(&sts, start() + minute * passed).await, None);
    }
    assert_eq!(domain.read(), 1);
    let why = match sts.policy("rcpt.example", start() + minute).await {
        Found::Unreadable(trouble) => trouble.why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why, Why::Invalid, "told again without asking again");
    domain.publish("1", ENFORCE);
    assert_eq!(mode(&sts, start() + minute * 5).await, Some(Mode::Enforce));
}

#[tokio::test]
async fn an_old_policy_is_renewed_before_it_runs_out() {
    let domain = Domain::new("1", ENFORCE);
    let sts = domain.store(None, start());
    assert_eq!(mode(&sts, start()).await, Some(Mode::Enforce));
    let day = SignedDuration::from_hours(24);
    let later = start() + day * 6;
    assert_eq!(mode(&sts, later).await, Some(Mode::Enforce));
    while domain.read() < 2 {
        tokio::task::yield_now().await;
    }
    *domain.record.lock().unwrap() = Lookup::NoSuchName;
    assert_eq!(mode(&sts, start() + day * 12).await, Some(Mode::Enforce));
}

#[tokio::test]
async fn a_damaged_file_costs_its_policy_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let domain = Domain::new("1", ENFORCE);
    let sts = domain.store(Some(dir.path()), start());
    mode(&sts, start()).await;
    std::fs::write(dir.path().join("rcpt.example.json"), "{").unwrap();
    std::fs::write(dir.path().join("other.example.new"), "").unwrap();
    let sts = domain.store(Some(dir.path()), start());
    assert_eq!(mode(&sts, start()).await, Some(Mode::Enforce));
    assert_eq!(domain.read(), 2);
    assert!(!dir.path().join("other.example.new").exists());
}
