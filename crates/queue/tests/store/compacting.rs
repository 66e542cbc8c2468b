//! The index's file is given back once it is far too large; a stop in between harms nothing.

use std::time::Duration;

use relay_observe::{Clock, Events};
use relay_queue::{DiskStore, Options, State, Store};

use crate::common::*;
use crate::reclaim::until;

fn current(directory: &std::path::Path) -> String {
    std::fs::read_to_string(directory.join("CURRENT")).unwrap()
}

#[tokio::test]
async fn a_large_and_empty_index_is_copied_into_a_small_one_which_is_used_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut messages = Vec::new();
    for n in 0..60 {
        let new = message_to(store.next_id(), 500, &format!("body {n}"));
        messages.push(store.accept(new).await.unwrap());
    }
    store.close().await;
    let store = open(directory.path());
    let kept = messages.remove(30);
    for message in &messages {
        let delivered = settle_all(message, State::Delivered, "250 ok");
        store.settle(delivered).await.unwrap();
    }
    let before = contents(&store).await;
    store.close().await;
    let file = |index: &str| {
        let found = std::fs::metadata(directory.path().join(index).join("db"));
        found.map_or(0, |found| found.len())
    };
    let large = file("index-1");
    let options = Options {
        index_every: Duration::from_millis(1),
        compact_bytes: large,
        ..options()
    };
    let clock = Clock::starting_at(now());
    let store = DiskStore::open(directory.path(), clock, Events::default(), options).unwrap();
    until("a new index is in use", || {
        current(directory.path()) == "index-2\n" && !directory.path().join("index-1").exists()
    })
    .await;
    assert!(file("index-2") < large, "{} {large}", file("index-2"));
    assert_eq!(contents(&store).await, before);
    let next = store.accept(message(&store, "next")).await.unwrap();
    let deferred = settle_all(&kept, State::Deferred, "451 later");
    store.settle(deferred).await.unwrap();
    let after = contents(&store).await;
    assert_eq!(after[1].0, *next);
    store.close().await;
    assert_eq!(contents(&open(directory.path())).await, after);
    assert_eq!(current(directory.path()), "index-2\n");
}

#[tokio::test]
async fn what_a_stop_in_the_middle_of_copying_the_index_leaves_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..5 {
        store
            .accept(message(&store, &format!("{n}")))
            .await
            .unwrap();
    }
    let before = contents(&store).await;
    store.close().await;
    // Half a copy that nobody names, and a whole one that is named while the old one is still there.
    for named in ["index-1\n", "index-2\n"] {
        let copied = copy(directory.path());
        let (old, new) = (copied.path().join("index-1"), copied.path().join("index-2"));
        std::fs::create_dir(&new).unwrap();
        for name in ["conf", "db"] {
            let bytes = std::fs::read(old.join(name)).unwrap();
            let bytes = match named {
                "index-1\n" => &bytes[..bytes.len() / 2],
                _ => &bytes[..],
            };
            std::fs::write(new.join(name), bytes).unwrap();
        }
        std::fs::write(copied.path().join("CURRENT"), named).unwrap();
        let store = open(copied.path());
        assert_eq!(contents(&store).await, before);
        assert_eq!(current(copied.path()), named);
        assert!(copied.path().join(named.trim()).exists());
        assert!(!(old.exists() && new.exists()));
    }
}
