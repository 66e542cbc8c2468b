//! A full disk, sled's writes included: mail is refused, outcomes are still written, and when there is space
//! the queue goes on by itself with all that it had.
//!
//! Played twice: on a real tmpfs of 64 MiB, where this machine allows a mount of one's own (user and mount
//! namespace), and on a disk that is only made to look full, everywhere.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions only, not in their helpers"
)]

mod looks_full;
mod tmpfs;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_observe::metric::Metric;
use relay_observe::{Clock, Events};
use relay_queue::{
    Arrival, Detour, Device, DiskStore, Limits, Message, NewMessage, Options, RecipientChange,
    Select, Sender, Settlement, State, Store, StoreError, Way,
};
use relay_smtp::{BodyType, Envelope, Mailbox, Recipient, ReversePath};

/// Something that takes all space and gives it back.
trait Disk {
    fn device(&self) -> Arc<dyn Device>;
    fn fill(&self);
    fn free(&self);
}

const BEFORE: usize = 40;

/// The whole story. `directory` is the state directory.
async fn play(directory: &Path, disk: &dyn Disk) {
    let events = Events::default();
    let store = open(directory, disk, &events);
    let mut expected = of_every_kind(&store).await;
    let other = expected.len();
    let mut kept = Vec::new();
    for number in 0..BEFORE {
        let body = format!("before {number}");
        kept.push(store.accept(new(&store, &body)).await.unwrap());
        expected.push(body);
    }
    let gone_last = expected.len() - 1;
    until("the index has them", || store.condition().index_behind == 0).await;

    disk.fill();
    let refused = fill_up(&store).await;
    expected.extend((0..refused.accepted).map(filler));
    assert!(
        matches!(refused.error, StoreError::Full(_)),
        "{:?}",
        refused.error
    );

    // Deliveries go on, until and after the index cannot be written any more.
    for message in kept.drain(..BEFORE / 2) {
        let settled = store.settle(all(&message, State::Delivered)).await.unwrap();
        assert!(settled.message.finished());
        expected.remove(other);
    }
    let gone_last = gone_last - BEFORE / 2;
    for round in 0.. {
        if events.metrics().get(Metric::IndexesFrozen) > 0 {
            break;
        }
        assert!(
            round < 5_000,
            "the index was written although the disk is full"
        );
        let message = &kept[round % kept.len()];
        // Its history grows: that is what the index has to write.
        let written = store.settle(all(message, State::Deferred)).await;
        assert!(written.is_ok(), "{written:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..5 {
        let found = contents(&store).await;
        assert_eq!(found, expected, "all can be read meanwhile");
    }
    let gone = kept.pop().unwrap();
    store.settle(all(&gone, State::Delivered)).await.unwrap();
    assert_eq!(expected.remove(gone_last), format!("before {}", BEFORE - 1));
    assert_eq!(contents(&store).await, expected);
    let refused = store.accept(new(&store, "refused")).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(store.condition().trouble, None, "a full disk is no fault");

    let frozen = states(&store).await;

    disk.free();
    until("it takes mail again", || {
        store.admit(&Sender::Ours, 0).is_ok() && store.condition().index_behind == 0
    })
    .await;
    store.accept(new(&store, "after")).await.unwrap();
    expected.push("after".to_owned());
    assert_eq!(contents(&store).await, expected);
    assert_eq!(events.metrics().get(Metric::QueueStops), 0);
    assert_eq!(events.metrics().get(Metric::IndexesRebuilt), 1);
    let states = states(&store).await;
    assert_eq!(
        states[..frozen.len()],
        frozen,
        "the new index says what the journal said meanwhile"
    );
    drop(store);

    // What the new index has, and what the journal has, is the same.
    let store = open(directory, disk, &events);
    assert_eq!(
        (contents(&store).await, self::states(&store).await),
        (expected.clone(), states.clone())
    );
    store.close().await;
    drop(store);
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("index-")
        {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let store = open(directory, disk, &events);
    assert_eq!(
        (contents(&store).await, self::states(&store).await),
        (expected, states)
    );
    assert_eq!(events.metrics().get(Metric::RecordsQuarantined), 0);
}

/// Messages that stay untouched, so that the index alone has them later: one of each kind of record. Their bodies.
async fn of_every_kind(store: &DiskStore) -> Vec<String> {
    let way = |detour| Way { index: 0, detour };
    let rerouted = store.accept(new(store, "rerouted")).await.unwrap();
    let ways = vec![way(Some(Detour::Mx))];
    store.reroute(rerouted.id, ways).await.unwrap();
    let deferred = store.accept(new(store, "deferred")).await.unwrap();
    let deferred = store.settle(all(&deferred, State::Deferred)).await;
    let bounced = store.accept(new(store, "bounced")).await.unwrap();
    let settlement = Settlement {
        dsns: vec![new(store, "report")],
        ..all(&bounced, State::Bounced)
    };
    store.settle(settlement).await.unwrap();
    let imported = new(store, "imported");
    let message = Message {
        id: imported.id,
        ..Message::clone(&deferred.unwrap().message)
    };
    store.import(message, imported.body).await.unwrap();
    ["rerouted", "deferred", "report", "imported"]
        .map(str::to_owned)
        .into()
}

/// What came of accepting as much as goes.
struct Refused {
    accepted: usize,
    error: StoreError,
}

async fn fill_up(store: &DiskStore) -> Refused {
    for accepted in 0..100_000 {
        if let Err(error) = store.accept(new(store, &filler(accepted))).await {
            return Refused { accepted, error };
        }
    }
    panic!("it was never full");
}

fn filler(number: usize) -> String {
    format!("filler {number} {}", "x".repeat(3000))
}

fn open(directory: &Path, disk: &dyn Disk, events: &Events) -> DiskStore {
    let options = Options {
        segment_bytes: 256 << 10,
        index_cache_bytes: 1 << 20,
        index_every: Duration::from_millis(5),
        limits: Limits {
            ballast_bytes: 1 << 20,
            // Nothing is kept free: the disk is to be full to the last byte.
            reserve_percent: 0,
            ..Limits::default()
        },
        device: disk.device(),
        ..Options::default()
    };
    DiskStore::open(
        directory,
        Clock::starting_at(now()),
        events.clone(),
        options,
    )
    .unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_795_046_400).unwrap()
}

fn new(store: &DiskStore, body: &str) -> NewMessage {
    NewMessage {
        id: store.next_id(),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient::plain(Mailbox::parse("you@to.example").unwrap())],
            body_type: BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: now(),
            client: None,
            user: None,
            dsn_of: None,
        },
        body: body.to_owned().into(),
    }
}

/// Every recipient to this state, with an operator's hold and release in its history, which makes it longer.
fn all(message: &Message, state: State) -> Settlement {
    let changes = message.each().map(|(index, _, before)| {
        let mut after = before.clone();
        after.hold(now());
        after.release(now());
        after.state = state;
        RecipientChange {
            index,
            state: after,
        }
    });
    Settlement {
        id: message.id,
        changes: changes.collect(),
        dsns: Vec::new(),
    }
}

/// The bodies of all that is unfinished, in order.
async fn contents(store: &DiskStore) -> Vec<String> {
    let page = store.list(Select::default(), None, 100_000).await.unwrap();
    let mut bodies = Vec::new();
    for message in page.messages {
        let body = store.body(message.id).await.unwrap().unwrap();
        let body = body.whole().await.unwrap();
        bodies.push(String::from_utf8(body.to_vec()).unwrap());
    }
    bodies
}

async fn states(store: &DiskStore) -> Vec<Message> {
    let page = store.list(Select::default(), None, 100_000).await.unwrap();
    page.messages
        .iter()
        .map(|message| Message::clone(message))
        .collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
