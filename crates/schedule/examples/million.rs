//! What a million waiting jobs cost: `cargo run --release -p relay-schedule --example million`.
//! Prints the time of each event and the resident memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use relay_schedule::{
    Action, Event, FlushSelection, Job, Limits, Report, Scheduler, Settings, SiteId, SiteNews,
};
use relay_smtp::{Domain, NextHop, QueueId};

const JOBS: u64 = 1_000_000;
const DOMAINS: u64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let mut scheduler = Scheduler::new(Settings {
        idle: Duration::from_secs(3),
        sessions_max: 500,
        sources: Vec::new(),
        seed: 1,
    });
    let mut actions = Vec::new();
    let hops = (0..DOMAINS)
        .map(|n| Domain::parse(&format!("d{n}.test")).map(NextHop::Domain))
        .collect::<Result<Vec<_>, _>>()?;
    let sender: Arc<str> = Arc::from("a");
    let before = resident_mib();
    let begun = Instant::now();
    for n in 0..JOBS {
        let job = Job {
            id: QueueId::from_u64(n),
            hop: hops[(n % DOMAINS) as usize].clone(),
            due: now + SignedDuration::from_secs(60 + (n as i64 * 7919) % 86_400),
            deadline: now + SignedDuration::from_hours(120),
            sender: Arc::clone(&sender),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        };
        scheduler.handle(Event::Add(job), now, &mut actions);
    }
    tell("added", begun);
    println!("{} MiB for {JOBS} jobs", resident_mib() - before);

    let begun = Instant::now();
    scheduler.handle(Event::Flush(FlushSelection::All), now, &mut actions);
    tell("flushed", begun);

    let begun = Instant::now();
    let done = deliver_all(&mut scheduler, now, actions);
    println!("{done} delivered");
    tell("delivered", begun);
    Ok(())
}

/// Answers every action at once with the best news.
fn deliver_all(scheduler: &mut Scheduler, now: Timestamp, mut actions: Vec<Action>) -> u64 {
    let mut done = 0;
    while !actions.is_empty() {
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Resolve(hop) => {
                    let event = Event::Resolved {
                        site: SiteId(Arc::from(hop.to_string())),
                        hop,
                        limits: Limits {
                            connections: 20,
                            rate: None,
                            messages_per_connection: 100,
                            recipients_per_transaction: 100,
                        },
                        shares: Vec::new(),
                    };
                    scheduler.handle(event, now, &mut actions);
                }
                Action::Open { session, .. } => {
                    scheduler.handle(Event::Ready(session), now, &mut actions);
                }
                Action::Assign { session, dispatch } => {
                    let report = Report {
                        id: dispatch.id,
                        due_again: None,
                        site: SiteNews::Good,
                    };
                    done += 1;
                    scheduler.handle(Event::Done { session, report }, now, &mut actions);
                    scheduler.handle(Event::Ready(session), now, &mut actions);
                }
                Action::Quit(session) => {
                    scheduler.handle(Event::Closed(session), now, &mut actions);
                }
                Action::Expire(_)
                | Action::Suspended { .. }
                | Action::Resumed { .. }
                | Action::SourceResumed { .. } => {}
            }
        }
    }
    done
}

fn tell(what: &str, begun: Instant) {
    let each = begun.elapsed().as_secs_f64() * 1e6 / JOBS as f64;
    println!("{what}: {each:.2} microseconds a job");
}

/// From /proc; 0 where there is none.
fn resident_mib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .map_or(0, |kib: u64| kib / 1024)
}
