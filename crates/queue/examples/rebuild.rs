//! What footers save: makes a queue in DIRECTORY (which must not be there yet), then rebuilds its index from the
//! journal, in turn without footers and with them, and prints the times and their ratio, one JSON object.
//!
//! `rebuild DIRECTORY MESSAGES BODY_BYTES`; DIRECTORY is left to be removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use relay_observe::{Clock, Events};
use relay_queue::{Arrival, DiskStore, NewMessage, Options, Store};
use relay_smtp::{BodyType, Domain, Envelope, Host, Mailbox, Recipient, ReversePath};

/// Messages on their way at once.
const PRODUCERS: u64 = 64;
/// Pairs of rebuilds; the median counts.
const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let mut number = || -> u64 {
        let text = arguments.next().expect("three arguments");
        text.parse().expect("a number")
    };
    let (messages, body_bytes) = (number(), number());
    let directory = Path::new(&directory);
    std::fs::create_dir(directory).expect("a directory that is not there yet");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(fill(directory, messages, body_bytes));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        flip_footers(directory);
        without.push(runtime.block_on(rebuild(directory, messages)));
        flip_footers(directory);
        with.push(runtime.block_on(rebuild(directory, messages)));
    }
    let (with, without) = (median(with), median(without));
    let ratio = with / without;
    println!(
        "{{\"messages\":{messages},\"body_bytes\":{body_bytes},\"without_s\":{without:.3},\"with_s\":{with:.3},\"ratio\":{ratio:.3}}}"
    );
}

fn open(directory: &Path) -> DiskStore {
    let clock = Clock::starting_at(Timestamp::now());
    let store = DiskStore::open(directory, clock, Events::default(), Options::default());
    store.expect("a directory that can be opened")
}

async fn fill(directory: &Path, messages: u64, body_bytes: u64) {
    let store = Arc::new(open(directory));
    let body = Bytes::from(vec![b'x'; body_bytes as usize]);
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|first| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                for number in (first..messages).step_by(PRODUCERS as usize) {
                    let new = message(&store, number, body.clone());
                    store.accept(new).await.expect("space on the disk");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    store.close().await;
}

fn message(store: &DiskStore, number: u64, body: Bytes) -> NewMessage {
    let mailbox = |local: String, domain: &str| {
        Mailbox::new(
            local,
            Host::Domain(Domain::parse(domain).expect("a domain")),
        )
    };
    NewMessage {
        id: store.next_id(),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("sender".to_owned(), "from.test")),
            recipients: vec![Recipient::plain(mailbox(
                format!("user{number}"),
                "to.test",
            ))],
            body_type: BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: Timestamp::now(),
            client: Some([127, 0, 0, 1].into()),
            user: None,
            dsn_of: None,
        },
        body: body.into(),
    }
}

/// Makes the last byte of every footer another one, or again what it was: without its magic it is none.
fn flip_footers(directory: &Path) {
    use std::os::unix::fs::FileExt;
    for entry in std::fs::read_dir(directory.join("journal")).expect("a journal") {
        let path = entry.expect("a segment").path();
        let file = std::fs::File::options().read(true).write(true).open(path);
        let file = file.expect("a segment");
        let bytes = file.metadata().expect("a segment").len();
        let mut magic = [0; 4];
        if let Some(at) = bytes.checked_sub(4) {
            file.read_exact_at(&mut magic, at).expect("its end");
            if magic.starts_with(b"rly") {
                magic[3] ^= 1;
                file.write_all_at(&magic, at).expect("its end");
            }
        }
    }
}

async fn rebuild(directory: &Path, messages: u64) -> f64 {
    std::fs::remove_file(directory.join("CURRENT")).expect("an index that is named");
    let started = Instant::now();
    let store = open(directory);
    let took = started.elapsed().as_secs_f64();
    assert_eq!(store.stats().messages, messages);
    store.close().await;
    took
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
