//! Segments are given back, also those that a few old messages hold, and nothing is lost by it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use relay_observe::{Clock, Events};
use relay_queue::{Device, DiskStore, Message, Options, State, Store};

use crate::common::*;

fn large(n: usize) -> String {
    format!("<body {n}>{}", "x".repeat(4000))
}

/// Old from the beginning, and looked after all the time.
fn eager() -> Options {
    Options {
        carry_after: Duration::ZERO,
        index_every: Duration::from_millis(1),
        ..options()
    }
}

fn open_with(directory: &Path, options: Options) -> DiskStore {
    let clock = Clock::starting_at(now());
    DiskStore::open(directory, clock, Events::default(), options).unwrap()
}

/// Many segments, and in each of the first ones at most one message that is not finished: deferred
/// with a history, held, with a recipient that is done.
async fn stragglers(directory: &Path) -> Vec<(Message, Bytes)> {
    let store = open(directory);
    for n in 0..150 {
        let new = message_to(store.next_id(), 2, &large(n));
        let message = store.accept(new).await.unwrap();
        let settlement = match n {
            5 => settle_all(&message, State::Deferred, "451 4.7.1 later"),
            40 => settle_all(&message, State::Held, "held"),
            75 => {
                let mut half = settle_all(&message, State::Delivered, "250 ok");
                half.changes.truncate(1);
                half
            }
            _ => settle_all(&message, State::Delivered, "250 ok"),
        };
        store.settle(settlement).await.unwrap();
    }
    let contents = contents(&store).await;
    assert_eq!(contents.len(), 3);
    store.close().await;
    contents
}

/// Lets the threads of the store work until something has come about.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn old_messages_are_copied_forward_with_their_latest_state_and_their_segments_go() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    assert!(segments(directory.path()).len() > 8);

    let store = open_with(directory.path(), eager());
    until("the old segments are gone", || {
        segments(directory.path()).len() <= 2
    })
    .await;
    assert_eq!(contents(&store).await, before);
    let stats = store.stats();
    assert_eq!((stats.messages, stats.deferred, stats.held), (3, 2, 2));
    store.close().await;

    let rebuilt = copy(directory.path());
    delete_index(rebuilt.path());
    for path in [directory.path(), rebuilt.path()] {
        let store = open(path);
        assert_eq!(contents(&store).await, before);
        for (message, _) in &before {
            let delivered = settle_all(message, State::Delivered, "250 ok");
            store.settle(delivered).await.unwrap();
        }
        store.close().await;
        delete_index(path);
        assert_eq!(contents(&open(path)).await, []);
    }
}

#[tokio::test]
async fn a_journal_that_keeps_much_for_little_is_emptied_whatever_the_age() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    let options = Options {
        index_every: Duration::from_millis(1),
        ..options()
    };
    let store = open_with(directory.path(), options);
    // Up to four segments are left alone, the newest and one made ahead come to that.
    until("most segments are gone", || {
        segments(directory.path()).len() <= 6
    })
    .await;
    assert_eq!(contents(&store).await, before);
}

/// Counts syncs.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Device for Counting {
    fn sync(&self, file: &File) -> std::io::Result<()> {
        file.sync_data()?;
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn a_stop_at_any_point_of_copying_forward_loses_nothing_and_brings_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    let full = segments(directory.path()).len();
    for stop in 0..12 {
        let copied = copy(directory.path());
        let device = Arc::new(Counting::default());
        let options = Options {
            device: device.clone(),
            ..eager()
        };
        let store = open_with(copied.path(), options);
        // Each copy is a sync; what follows each is the index, then the deletion.
        match stop % 4 {
            3 => {
                until("some segments are gone", || {
                    segments(copied.path()).len() < full - stop / 4
                })
                .await;
            }
            syncs => {
                until("so many syncs", || device.0.load(Ordering::SeqCst) >= syncs).await;
            }
        }
        drop(store);
        if stop % 2 == 0 {
            delete_index(copied.path());
        }
        let store = open(copied.path());
        assert_eq!(contents(&store).await, before, "stopped at {stop}");
        assert_eq!(files(&copied.path().join("quarantine")).len(), 0);
    }
}

#[tokio::test]
async fn messages_that_change_while_they_are_copied_keep_the_change() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    let old = segments(directory.path());
    let store = open_with(directory.path(), eager());
    let mut expected = Vec::new();
    for (message, body) in &before {
        let mut message = message.clone();
        for n in 0..20 {
            let reply = format!("451 4.7.1 {n}");
            let deferred = settle_all(&message, State::Deferred, &reply);
            message = (*store.settle(deferred).await.unwrap().message).clone();
        }
        expected.push((message, body.clone()));
    }
    // How many newer ones there are hangs on how the changes and the copies fell together.
    until("the old segments are gone", || {
        old.iter().all(|segment| !segment.exists())
    })
    .await;
    assert_eq!(contents(&store).await, expected);
    drop(store);
    delete_index(directory.path());
    assert_eq!(contents(&open(directory.path())).await, expected);
}

#[tokio::test]
async fn a_message_whose_body_is_damaged_stays_where_it_is_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    let all = segments(directory.path());
    let holder = all.iter().find(|path| find(path, "<body 40>").is_some());
    let holder = holder.unwrap();
    flip(holder, find(holder, "<body 40>").unwrap() + 20);
    let store = open_with(directory.path(), eager());
    until("the first segments are gone", || {
        segments(directory.path()).first() == Some(holder)
    })
    .await;
    for (n, (message, body)) in before.iter().enumerate() {
        match store.body(message.id).await {
            Ok(found) => assert_eq!(found.unwrap().whole().await.unwrap(), body),
            Err(error) => assert!(n == 1 && error.to_string().contains("checksum")),
        }
    }
}

#[tokio::test]
async fn a_directory_of_an_older_version_is_read_and_is_of_this_one_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let before = stragglers(directory.path()).await;
    let version = directory.path().join("VERSION");
    for older in ["1\n", "2\n", "3\n"] {
        std::fs::write(&version, older).unwrap();
        std::fs::remove_dir(directory.path().join("big")).unwrap();
        delete_index(directory.path());
        let store = open(directory.path());
        assert_eq!(contents(&store).await, before);
        assert_eq!(std::fs::read_to_string(&version).unwrap(), "4\n");
        store.close().await;
    }
}
