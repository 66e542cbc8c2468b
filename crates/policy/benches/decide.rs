//! How long one decision takes on the default table, and what it allocates: `cargo bench -p relay-policy`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use relay_policy::{Action, Context, Decision, Stimulus, Table, decide, parse_pasted};
use relay_smtp::{Phase, Reply};

const WORDINGS: &str = include_str!("../tests/data/wordings.tsv");
const ROUNDS: usize = 50;
/// No provider's: both have to be looked up in vain, which is what most mail asks for.
const HOST: &str = "mx1.mail.example.org";
const DOMAIN: &str = "example.org";

fn main() {
    let start = Instant::now();
    let table = Table::default_table();
    println!("the default table is read in {:?}", start.elapsed());
    let replies: Vec<(Reply, Phase)> = WORDINGS.lines().skip(1).filter_map(reply_of).collect();
    let once = |(reply, phase): &(Reply, Phase)| {
        let context = Context {
            mx: Some(HOST),
            domain: Some(DOMAIN),
            ..Context::of(*phase)
        };
        decide(&table, Stimulus::Reply(black_box(reply)), &context)
    };
    // The first round builds the regular expressions that are needed; it is not counted.
    for one in &replies {
        black_box(once(one));
    }
    show_times(&replies, once);
    show_allocations(&replies, once);
    show_lookups(&table);
}

/// Not inlined, so that a profiler can begin to count here (`callgrind --zero-before`): what comes before it builds.
#[inline(never)]
fn show_times(replies: &[(Reply, Phase)], once: impl Fn(&(Reply, Phase)) -> Decision) {
    let mut times = Vec::with_capacity(replies.len() * ROUNDS);
    for _ in 0..ROUNDS {
        for one in replies {
            let start = Instant::now();
            black_box(once(one));
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let at = |share: usize| times[times.len() * share / 100];
    println!(
        "{} replies, {ROUNDS} rounds: median {:?}, mean {:?}, 90 % under {:?}, 99 % under {:?}",
        replies.len(),
        at(50),
        total / u32::try_from(times.len()).expect("some ten thousands"),
        at(90),
        at(99)
    );
}

/// By action, since a hint of time and the first use of a regular expression may allocate.
fn show_allocations(replies: &[(Reply, Phase)], once: impl Fn(&(Reply, Phase)) -> Decision) {
    let (mut none, mut all, mut hints) = (0, 0, 0);
    for one in replies {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let decision = black_box(once(one));
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        all += made;
        none += u64::from(made == 0);
        if decision.action == Action::WaitHint {
            hints += made;
        }
    }
    println!(
        "{none} of {} replies are decided without an allocation; {all} allocations in all, {hints} of them look for a time to wait",
        replies.len()
    );
}

fn show_lookups(table: &Table) {
    const TIMES: u32 = 100_000;
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(table.provider_of(Some(black_box(HOST)), Some(black_box(DOMAIN))));
    }
    println!("a provider is looked up in {:?}", start.elapsed() / TIMES);
}

/// The reply and the phase of one line of the test data.
fn reply_of(line: &str) -> Option<(Reply, Phase)> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [_, _, phase, _, _, text] = cells[..] else {
        return None;
    };
    let reply = parse_pasted(&text.replace("\\n", "\n")).ok()?;
    Some((reply, phase.parse().ok()?))
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: all work is the system allocator's; only the calls are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
