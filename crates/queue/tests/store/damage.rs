//! What a damaged state directory leads to.

use relay_observe::{Clock, Events};
use relay_queue::{DiskStore, Select, State, Store};

use crate::common::*;

/// A body of some size that begins with the number.
fn large(n: usize) -> String {
    format!("<body {n}>{}", "x".repeat(4000))
}

#[tokio::test]
async fn a_torn_tail_loses_only_what_was_never_promised() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let kept = store.accept(message(&store, "kept")).await.unwrap();
    let before = copy(directory.path());
    store.accept(message(&store, "torn")).await.unwrap();
    let after = copy(directory.path());
    drop(store);
    let (new, start, end) = last_write(before.path(), after.path());
    for cut in (start..end).step_by(11) {
        let torn = copy(before.path());
        let mut bytes = new.clone();
        bytes[cut..].fill(0);
        std::fs::write(&segments(torn.path())[0], bytes).unwrap();
        let store = open(torn.path());
        let found = contents(&store).await;
        assert_eq!(found.len(), 1, "cut at {cut}");
        assert_eq!(found[0].0.id, kept.id);
        // And it goes on: what comes next lies where a later start finds it.
        store.accept(message(&store, "next")).await.unwrap();
        drop(store);
        assert_eq!(contents(&open(torn.path())).await.len(), 2, "cut at {cut}");
        assert_eq!(files(&torn.path().join("quarantine")).len(), 0);
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_sealed_segment_costs_one_message_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..50 {
        store.accept(message(&store, &large(n))).await.unwrap();
    }
    let before = contents(&store).await;
    store.close().await;
    let all = segments(directory.path());
    assert!(all.len() > 3, "{all:?}");
    let at = find(&all[1], "<body 20>").expect("message 20 lies in the second segment");
    flip(&all[1], at + 2);
    without_footers(directory.path());
    delete_index(directory.path());

    let store = open(directory.path());
    let mut expected = before;
    expected.remove(20);
    assert_eq!(contents(&store).await, expected);
    let kept = files(&directory.path().join("quarantine"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    let reason = std::fs::read_to_string(&kept[0]).unwrap();
    assert_eq!(reason, "the record's checksum is wrong");
    assert!(find(&kept[1], &"x".repeat(4000)).is_some());
}

#[tokio::test]
async fn a_body_that_was_damaged_on_disk_is_never_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let message = store.accept(message(&store, "<the body>")).await.unwrap();
    store.close().await;
    let segment = &segments(directory.path())[0];
    flip(segment, find(segment, "<the body>").unwrap());
    let store = open(directory.path());
    let error = store.body(message.id).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn an_index_that_is_gone_or_garbage_is_rebuilt_to_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..40 {
        let new = message_to(store.next_id(), 2, &large(n));
        let message = store.accept(new).await.unwrap();
        let state = match n % 4 {
            0 => State::Delivered,
            1 => State::Held,
            2 => State::Deferred,
            _ => continue,
        };
        let settlement = settle_all(&message, state, "a reply");
        store.settle(settlement).await.unwrap();
    }
    let before = contents(&store).await;
    store.close().await;

    let gone = copy(directory.path());
    delete_index(gone.path());
    let garbage = copy(directory.path());
    std::fs::write(garbage.path().join("index-1/db"), vec![0xa5; 70_000]).unwrap();
    let unnamed = copy(directory.path());
    std::fs::remove_file(unnamed.path().join("CURRENT")).unwrap();
    for copy in [gone, garbage, unnamed] {
        let store = open(copy.path());
        assert_eq!(contents(&store).await, before);
        store.close().await;
        // The rebuilt one is used from now on.
        assert_eq!(contents(&open(copy.path())).await, before);
    }
}

#[tokio::test]
async fn segments_that_nobody_needs_are_deleted_and_a_rebuild_brings_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut messages = Vec::new();
    for n in 0..100 {
        messages.push(store.accept(message(&store, &large(n))).await.unwrap());
    }
    store.close().await;
    let store = open(directory.path());
    let full = segments(directory.path()).len();
    // All but one in the middle: what lies before it goes, what lies behind it stays.
    let kept = messages.remove(60);
    for message in &messages {
        let delivered = settle_all(message, State::Delivered, "250");
        store.settle(delivered).await.unwrap();
    }
    store.close().await;
    let left = segments(directory.path());
    assert!(left.len() < full && left.len() > 2, "{full} {left:?}");
    delete_index(directory.path());

    let store = open(directory.path());
    let after = contents(&store).await;
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].0, *kept);
    let delivered = settle_all(&kept, State::Delivered, "250");
    store.settle(delivered).await.unwrap();
    store.accept(message(&store, "one more")).await.unwrap();
    store.close().await;
    assert!(segments(directory.path()).len() <= 2);
}

#[tokio::test]
async fn a_dsn_outlives_the_segment_of_the_message_it_is_about() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let original = store.accept(message(&store, "original")).await.unwrap();
    for n in 0..40 {
        let other = store.accept(message(&store, &large(n))).await.unwrap();
        let delivered = settle_all(&other, State::Delivered, "250");
        store.settle(delivered).await.unwrap();
    }
    let mut settlement = settle_all(&original, State::Bounced, "550");
    settlement.dsns = vec![message(&store, "the report")];
    store.settle(settlement).await.unwrap();
    store.close().await;
    let left = segments(directory.path());
    assert!(
        left.iter()
            .all(|segment| find(segment, "original").is_none())
    );
    delete_index(directory.path());
    let after = contents(&open(directory.path())).await;
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].1, "the report");
}

#[tokio::test]
async fn a_segment_that_was_only_being_made_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.accept(message(&store, "body")).await.unwrap();
    let before = contents(&store).await;
    store.close().await;
    for half in [vec![], vec![0; 4096], vec![0; 64 << 10]] {
        std::fs::write(directory.path().join("journal/seg-0000000002"), half).unwrap();
        let copy = copy(directory.path());
        assert_eq!(contents(&open(copy.path())).await, before);
    }
}

#[tokio::test]
async fn the_first_segment_that_a_power_cut_left_empty_is_no_damage() {
    for rest in [vec![], vec![0; 4096]] {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).close().await;
        std::fs::write(directory.path().join("journal/seg-0000000001"), rest).unwrap();
        std::fs::remove_dir_all(directory.path().join("index-1")).unwrap();
        let store = open(directory.path());
        assert_eq!(files(&directory.path().join("quarantine")).len(), 0);
        store.accept(message(&store, "body")).await.unwrap();
        store.close().await;
        assert_eq!(contents(&open(directory.path())).await.len(), 1);
    }
}

#[tokio::test]
async fn a_segment_that_was_made_ahead_does_not_turn_a_torn_tail_into_a_promise() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut before = copy(directory.path());
    // Until the next segment has been made ahead.
    let mut accepted = Vec::new();
    while segments(before.path()).len() < 2 {
        accepted.push(store.accept(message(&store, &large(0))).await.unwrap().id);
        before = copy(directory.path());
    }
    let torn = store.accept(message(&store, "torn")).await.unwrap().id;
    let after = copy(directory.path());
    drop(store);
    let (new, start, end) = last_write(before.path(), after.path());
    let mut bytes = new.clone();
    bytes[end - 6] ^= 1;
    bytes[start + 2..start + 9].fill(0);
    std::fs::write(&segments(before.path())[0], bytes).unwrap();

    let store = open(before.path());
    let found: Vec<_> = contents(&store).await.iter().map(|m| m.0.id).collect();
    assert_eq!(found, accepted);
    assert!(!found.contains(&torn));
    assert_eq!(files(&before.path().join("quarantine")).len(), 0);
    assert!(store.next_id() > *accepted.last().unwrap());
    store.close().await;
}

/// Opens it and tells how often an event of this kind was heard.
fn open_and_hear(directory: &std::path::Path) -> (DiskStore, impl Fn(&str) -> u64 + use<>) {
    let (clock, events) = (Clock::starting_at(now()), Events::default());
    let store = DiskStore::open(directory, clock, events.clone(), options()).unwrap();
    let heard = move |what: &str| {
        let counts = events.metrics().snapshot();
        let found = counts.iter().filter(|(name, _)| name.contains(what));
        found.map(|(_, count)| *count).sum()
    };
    (store, heard)
}

/// Fifty messages, every fifth deferred, in a queue that was closed.
async fn fifty(directory: &std::path::Path) -> Vec<relay_queue::Message> {
    let store = open(directory);
    for n in 0..50 {
        let new = message(&store, &large(n));
        let message = store.accept(new).await.unwrap();
        if n % 5 == 0 {
            let deferred = settle_all(&message, State::Deferred, "451");
            store.settle(deferred).await.unwrap();
        }
    }
    let all = contents(&store).await;
    store.close().await;
    all.into_iter().map(|(message, _)| message).collect()
}

#[tokio::test]
async fn a_lost_segment_costs_the_bodies_in_it_and_nothing_that_the_index_knows() {
    for lost in [0, 1, usize::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let before = fifty(directory.path()).await;
        let all = segments(directory.path());
        let lost = lost.min(all.len() - 1);
        std::fs::remove_file(&all[lost]).unwrap();

        let (store, heard) = open_and_hear(directory.path());
        let page = store.list(Select::default(), None, 1000).await.unwrap();
        let after: Vec<_> = page.messages.iter().map(|m| (**m).clone()).collect();
        assert_eq!(after, before, "segment {lost}");
        assert_eq!(heard("rebuilt"), 0);
        let told = heard("unreadable");
        let mut unreadable = 0;
        for message in &after {
            unreadable += u64::from(store.body(message.id).await.is_err());
        }
        assert!(unreadable > 0 && told == unreadable, "{told} {unreadable}");
        assert!(
            heard("unreadable") > told,
            "whoever asks for one is heard, too"
        );
        assert!(heard("quarantined") > 0);
        let new = store.accept(message(&store, "more")).await.unwrap();
        store.close().await;
        let (store, _) = open_and_hear(directory.path());
        assert_eq!(body_of(&store, new.id).await.unwrap(), "more");
    }
}

#[tokio::test]
async fn a_segment_that_was_cut_to_nothing_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    fifty(directory.path()).await;
    delete_index(directory.path());
    for bytes in [0, 100] {
        let copy = copy(directory.path());
        let all = segments(copy.path());
        let file = std::fs::File::options().write(true).open(&all[1]).unwrap();
        file.set_len(bytes).unwrap();
        let (store, heard) = open_and_hear(copy.path());
        assert_eq!(heard("quarantined"), 1, "{bytes}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_version_that_is_no_text_is_refused_as_an_unknown_one() {
    let directory = tempfile::tempdir().unwrap();
    fifty(directory.path()).await;
    std::fs::write(directory.path().join("VERSION"), [0xff, 0xfe]).unwrap();
    let error = try_open(directory.path()).unwrap_err();
    assert_eq!(error.exit_status(), 78, "{error}");
}
