//! How many messages a second the queue makes durable, against appending and syncing the same bytes
//! without a queue: both in this run, with the same producers, on the same file system.
//!
//! `cargo bench -p relay-queue [-- DIRECTORY PRODUCERS BODY_BYTES SECONDS]`; without BODY_BYTES both
//! sizes that the figures of docs/queue.md are about.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use relay_observe::{Clock, Events};
use relay_queue::{
    Arrival, DiskStore, NewMessage, Options, RecipientChange, RecipientState, Settlement, State,
    Store,
};
use relay_smtp::{BodyType, Domain, Envelope, Host, Mailbox, QueueId, Recipient, ReversePath};

fn main() {
    // Cargo adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let directory = arguments.next();
    let mut number = || {
        let text = arguments.next()?;
        Some(text.parse::<usize>().expect("a number"))
    };
    let (producers, body_bytes, seconds) = (number(), number(), number());
    let sizes = body_bytes.map_or(vec![2048, 51_200], |size| vec![size]);
    // Cargo runs it in the crate's directory; target/ is on the disk that is meant.
    let directory = directory.unwrap_or_else(|| "../../target/accept-rate.tmp".to_owned());
    for size in sizes {
        let span = Duration::from_secs(seconds.unwrap_or(3) as u64);
        compare(Path::new(&directory), producers.unwrap_or(16), size, span);
    }
}

fn compare(directory: &Path, producers: usize, body_bytes: usize, span: Duration) {
    std::fs::create_dir_all(directory).expect("a directory for the files");
    let (mut ratios, mut ratios_alone) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let path = |name: &str| directory.join(format!("{name}-{round}"));
        let raw = raw_rate(&path("raw"), producers, body_bytes, span);
        let alone = alone_rate(&path("alone"), producers, body_bytes, span);
        let (accepted, per_commit) =
            queue_rate(&path("queue"), producers, body_bytes, span, Mode::Accept);
        let (drained, _) = queue_rate(
            &path("drained"),
            producers,
            body_bytes,
            span,
            Mode::AcceptAndDeliver,
        );
        println!(
            "raw {raw:.0}/s, each by itself {alone:.0}/s  queue {accepted:.0}/s ({per_commit:.1} a commit)  ratio {:.2}, {:.2}  accepted and delivered {drained:.0}/s  {}",
            accepted / raw,
            accepted / alone,
            resident()
        );
        ratios.push(accepted / raw);
        ratios_alone.push(accepted / alone);
    }
    ratios.sort_by(f64::total_cmp);
    ratios_alone.sort_by(f64::total_cmp);
    println!(
        "{producers} producers, {body_bytes} bytes: ratio {:.2} to syncing together, {:.2} to each by itself (medians of 3)",
        ratios[1], ratios_alone[1]
    );
    std::fs::remove_dir_all(directory).expect("removing the files");
}

/// What waits to be appended, and how far it is on disk.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    asked: u64,
    synced: u64,
    over: bool,
}

/// Taken at once for the file without a queue; as much as a segment has.
const SPACE: u64 = 64 << 20;

/// The least a durable queue can do: one thread writes and syncs whatever waits, producers wait for
/// their bytes to be on disk. The space is taken beforehand, as the queue's is: a file that grows
/// with each write would be synced at half the rate.
fn raw_rate(path: &Path, producers: usize, body_bytes: usize, span: Duration) -> f64 {
    let file = File::create(path).expect("a file");
    let flags = rustix::fs::FallocateFlags::empty();
    let (mut taken, mut end) = (0, 0);
    let (raw, changed) = (Mutex::new(Raw::default()), Condvar::new());
    let lock = || raw.lock().expect("no panic");
    let (body, done) = (vec![b'x'; body_bytes], AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let waiting = changed.wait_while(lock(), |r| r.bytes.is_empty() && !r.over);
                let mut waiting = waiting.expect("no panic");
                if waiting.bytes.is_empty() {
                    return;
                }
                let (bytes, asked) = (std::mem::take(&mut waiting.bytes), waiting.asked);
                drop(waiting);
                while end + bytes.len() as u64 > taken {
                    rustix::fs::fallocate(&file, flags, taken, SPACE).expect("space on the disk");
                    taken += SPACE;
                }
                file.write_all_at(&bytes, end).expect("space on the disk");
                end += bytes.len() as u64;
                file.sync_data().expect("a disk that syncs");
                lock().synced = asked;
                changed.notify_all();
            }
        });
        let produce = || {
            while started.elapsed() < span {
                let mut waiting = lock();
                waiting.bytes.extend_from_slice(&body);
                waiting.asked += 1;
                let mine = waiting.asked;
                changed.notify_all();
                let synced = changed.wait_while(waiting, |r| r.synced < mine);
                drop(synced.expect("no panic"));
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let threads: Vec<_> = (0..producers).map(|_| scope.spawn(produce)).collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        lock().over = true;
        changed.notify_all();
    });
    done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

/// Each producer appends to a file of its own and syncs that, as a relay without commits in common does.
fn alone_rate(path: &Path, producers: usize, body_bytes: usize, span: Duration) -> f64 {
    let (body, done) = (vec![b'x'; body_bytes], AtomicU64::new(0));
    let started = Instant::now();
    let produce = |number: usize| {
        let file = File::create(path.with_extension(number.to_string())).expect("a file");
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, SPACE).expect("space on the disk");
        let mut end = 0;
        while started.elapsed() < span {
            file.write_all_at(&body, end).expect("space on the disk");
            file.sync_data().expect("a disk that syncs");
            end = (end + body.len() as u64) % SPACE;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for number in 0..producers {
            let produce = &produce;
            scope.spawn(move || produce(number));
        }
    });
    done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

#[derive(Clone, Copy)]
enum Mode {
    Accept,
    AcceptAndDeliver,
}

/// Messages a second, and records a commit.
fn queue_rate(
    directory: &Path,
    producers: usize,
    body_bytes: usize,
    span: Duration,
    mode: Mode,
) -> (f64, f64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let clock = Clock::starting_at(Timestamp::now());
        let store = DiskStore::open(directory, clock, Events::default(), Options::default());
        let store = Arc::new(store.expect("an empty directory"));
        let body = Bytes::from(vec![b'x'; body_bytes]);
        let started = Instant::now();
        let tasks: Vec<_> = (0..producers)
            .map(|_| tokio::spawn(produce(store.clone(), body.clone(), started, span, mode)))
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.expect("no panic");
        }
        let rate = f64::from(done) / started.elapsed().as_secs_f64();
        let stats = store.stats();
        store.close().await;
        (rate, stats.records as f64 / stats.commits as f64)
    })
}

async fn produce(
    store: Arc<DiskStore>,
    body: Bytes,
    started: Instant,
    span: Duration,
    mode: Mode,
) -> u32 {
    let mut done = 0;
    while started.elapsed() < span {
        let id = store.next_id();
        let message = store.accept(message(id, body.clone())).await;
        message.expect("space on the disk");
        match mode {
            Mode::Accept => {}
            Mode::AcceptAndDeliver => {
                store
                    .settle(delivered(id))
                    .await
                    .expect("space on the disk");
            }
        }
        done += 1;
    }
    done
}

fn delivered(id: QueueId) -> Settlement {
    let mut state = RecipientState::new(Timestamp::now());
    state.state = State::Delivered;
    Settlement {
        id,
        changes: vec![RecipientChange { index: 0, state }],
        dsns: Vec::new(),
    }
}

fn message(id: QueueId, body: Bytes) -> NewMessage {
    let domain = Domain::parse("example.com").expect("a domain");
    let mailbox = |local: &str| Mailbox::new(local.to_owned(), Host::Domain(domain.clone()));
    NewMessage {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("sender")),
            recipients: vec![Recipient::plain(mailbox("recipient"))],
            body_type: BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: Timestamp::now(),
            client: None,
            user: None,
            dsn_of: None,
        },
        body: body.into(),
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let words = line.unwrap_or("unknown").split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}
