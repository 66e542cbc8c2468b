//! What many jobs cost. Times are printed, not asserted: machines differ.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_smtp::{Domain, NextHop, QueueId};

use crate::*;

/// Counts what is allocated by the thread that asked for it.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNTED: std::cell::Cell<Option<()>> = const { std::cell::Cell::new(None) };
}

fn counted() -> bool {
    COUNTED
        .try_with(|counted| counted.get().is_some())
        .unwrap_or(false)
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if counted() {
            ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        }
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if counted() {
            ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_job_takes_about_fifty_bytes() {
    const JOBS: u64 = 200_000;
    COUNTED.with(|counted| counted.set(Some(())));
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut scheduler = Scheduler::new(Settings {
        idle: Duration::from_secs(3),
        sessions_max: 100,
        sources: Vec::new(),
        seed: 1,
    });
    let mut actions = Vec::new();
    let hops: Vec<NextHop> = (0..1000)
        .map(|n| NextHop::Domain(Domain::parse(&format!("d{n}.test")).unwrap()))
        .collect();
    let senders: Vec<Arc<str>> = (0..100).map(|n| Arc::from(format!("sender{n}"))).collect();
    let before = ALLOCATED.load(Ordering::Relaxed);
    for n in 0..JOBS {
        let job = Job {
            id: QueueId::from_u64(n),
            hop: hops[(n % 1000) as usize].clone(),
            due: now + SignedDuration::from_secs(60 + (n as i64 * 7919) % 3600),
            deadline: now + SignedDuration::from_hours(120),
            sender: Arc::clone(&senders[(n % 100) as usize]),
            stream: Arc::from(""),
            bytes: 1000,
            priority: Default::default(),
        };
        scheduler.handle(Event::Add(job), now, &mut actions);
    }
    let each = (ALLOCATED.load(Ordering::Relaxed) - before) / JOBS as usize;
    COUNTED.with(|counted| counted.set(None));
    assert!(actions.is_empty() && scheduler.messages() == JOBS);
    assert!(each < 100, "{each} bytes a job");
    println!("{each} bytes a job");
}
