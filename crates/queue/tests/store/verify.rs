//! Verifying finds what is damaged, and nothing on a sound queue, at rest or in use.

use std::path::Path;
use std::sync::Arc;

use relay_queue::verify::{BodyFound, Differs, Progress, Report};
use relay_queue::{Detour, DiskStore, OpenError, State, Store, Way, verify};

use crate::common::*;

fn verified(directory: &Path) -> Report {
    verify(directory, &Progress::default()).unwrap()
}

/// Messages in every state over several segments, in an index and a journal.
async fn fill(store: &DiskStore, messages: usize) {
    for n in 0..messages {
        let body = format!("<body {n}>{}", "x".repeat(4000));
        let new = message_to(store.next_id(), 1 + n % 3, &body);
        let message = store.accept(new).await.unwrap();
        let state = match n % 6 {
            0 => State::Delivered,
            1 => State::Held,
            2 => State::Deferred,
            3 => {
                let mut settlement = settle_all(&message, State::Bounced, "550");
                settlement.dsns = vec![message_to(store.next_id(), 1, "a report")];
                store.settle(settlement).await.unwrap();
                continue;
            }
            4 => {
                let detour = Some(Detour::Mx);
                let way = Way { index: 0, detour };
                store.reroute(message.id, vec![way]).await.unwrap();
                continue;
            }
            _ => continue,
        };
        let settled = store.settle(settle_all(&message, state, "a reply")).await;
        let settled = settled.unwrap();
        if state == State::Held {
            // An attempt that began before the hold: it stays held.
            let deferred = settle_all(&settled.message, State::Deferred, "450");
            store.settle(deferred).await.unwrap();
        }
    }
}

/// A closed queue, and how many messages it has.
async fn filled() -> (tempfile::TempDir, u64) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fill(&store, 60).await;
    let messages = store.stats().messages;
    store.close().await;
    (directory, messages)
}

#[tokio::test]
async fn a_sound_queue_is_well_after_a_stop_and_after_a_kill_and_is_not_changed() {
    let (directory, messages) = filled().await;
    let before = snapshot(directory.path());
    let report = verified(directory.path());
    assert!(report.is_well(), "{report:?}");
    assert_eq!((report.messages, report.torn_bytes), (messages, 0));
    assert_eq!(report.index_messages, Some(messages));
    assert!(report.segments > 3 && report.records > 60, "{report:?}");
    assert_eq!(snapshot(directory.path()), before);

    let store = open(directory.path());
    fill(&store, 20).await;
    let messages = store.stats().messages;
    let locked = verify(directory.path(), &Progress::default());
    assert!(matches!(locked, Err(OpenError::Locked(_))));
    // As a kill would end it: the index is behind.
    drop(store);
    let report = verified(directory.path());
    assert!(report.is_well(), "{report:?}");
    assert_eq!(report.messages, messages);
}

/// Every file with its bytes.
fn snapshot(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for path in files(directory) {
        match path.is_dir() {
            true => all.extend(snapshot(&path)),
            false => all.push((path.clone(), std::fs::read(path).unwrap())),
        }
    }
    all
}

#[tokio::test]
async fn a_torn_tail_was_never_promised_and_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.accept(message(&store, "kept")).await.unwrap();
    let before = copy(directory.path());
    store.accept(message(&store, "torn")).await.unwrap();
    let after = copy(directory.path());
    drop(store);
    let (mut bytes, start, end) = last_write(before.path(), after.path());
    bytes[start + 60..end].fill(0);
    std::fs::write(&segments(before.path())[0], bytes).unwrap();
    let report = verified(before.path());
    assert!(report.is_well(), "{report:?}");
    assert_eq!((report.messages, report.damaged), (1, 0));
    assert!(report.torn_bytes > 0);
}

#[tokio::test]
async fn a_flipped_byte_in_a_body_or_a_header_is_found_with_its_place() {
    let (directory, messages) = filled().await;
    let holder = segments(directory.path())[1].clone();
    let n = (0..60).find(|n| n % 6 == 5 && find(&holder, &format!("<body {n}>")).is_some());
    let at = find(&holder, &format!("<body {}>", n.unwrap())).unwrap();
    flip(&holder, at + 3);
    let report = verified(directory.path());
    assert!(!report.is_well());
    assert_eq!((report.damaged, report.differences), (1, 1), "{report:?}");
    assert_eq!(report.damage[0].segment, 2);
    assert!((report.damage[0].offset as usize) < at);
    assert_eq!(report.difference[0].what, Differs::NotInJournal);
    assert_eq!(report.difference[0].body, BodyFound::Lost);
    assert_eq!((report.messages, report.bodies_lost), (messages - 1, 1));

    flip(&holder, at + 3);
    flip(&holder, 0);
    assert!(
        verified(directory.path()).is_well(),
        "there are two headers"
    );
    flip(&holder, 2048);
    let report = verified(directory.path());
    assert_eq!(report.damaged, 1);
    assert_eq!(report.damage[0].reason, "the segment's header is damaged");
    assert!(report.differences > 1, "{report:?}");
}

#[tokio::test]
async fn a_segment_that_is_gone_and_an_index_that_is_gone_or_older_are_found() {
    let (directory, messages) = filled().await;
    let gone = copy(directory.path());
    std::fs::remove_file(&segments(gone.path())[1]).unwrap();
    let report = verified(gone.path());
    assert_eq!(report.missing_segments, [2]);
    assert!(report.bodies_lost > 0 && !report.is_well(), "{report:?}");

    let no_index = copy(directory.path());
    delete_index(no_index.path());
    let report = verified(no_index.path());
    assert!(report.index_problem.is_some() && !report.is_well());
    assert_eq!((report.messages, report.damaged), (messages, 0));
    let garbage = copy(directory.path());
    std::fs::write(garbage.path().join("index-1/db"), vec![0xa5; 70_000]).unwrap();
    assert!(verified(garbage.path()).index_problem.is_some());

    // An index of another journal: as far on, with other messages.
    let (other, _) = filled().await;
    std::fs::remove_dir_all(other.path().join("journal")).unwrap();
    std::fs::rename(
        directory.path().join("journal"),
        other.path().join("journal"),
    )
    .unwrap();
    let report = verified(other.path());
    assert!(
        report.differences > 0 || report.index_problem.is_some(),
        "{report:?}"
    );
}

#[tokio::test]
async fn what_lies_in_quarantine_is_told_and_is_no_finding() {
    let (directory, _) = filled().await;
    let quarantine = directory.path().join("quarantine");
    std::fs::write(quarantine.join("seg-1-4096.record"), b"four").unwrap();
    std::fs::write(quarantine.join("seg-1-4096.reason"), b"why").unwrap();
    let report = verified(directory.path());
    assert!(report.is_well());
    assert_eq!(report.quarantine.len(), 1);
    assert_eq!(report.quarantine[0].bytes, 4);
    assert_eq!(report.quarantine[0].reason.as_deref(), Some("why"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_in_use_is_verified_beside_the_work_and_damage_in_it_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path()));
    fill(&store, 100).await;
    let busy = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                fill(&store, 10).await;
            }
        })
    };
    for _ in 0..5 {
        let progress = Arc::new(Progress::default());
        let report = store.verify(progress.clone()).await.unwrap();
        assert!(report.is_well(), "{report:?}");
        assert!(report.records > 100 && progress.bytes().0 > 0);
    }
    busy.abort();
    let _ = busy.await;
    store.close().await;
    drop(store);
    let store = open(directory.path());
    let oldest = segments(directory.path())[0].clone();
    let found = (0..100).find_map(|n| match n % 6 {
        5 => find(&oldest, &format!("<body {n}>")),
        _ => None,
    });
    flip(&oldest, found.unwrap() + 2);
    let report = store.verify(Arc::default()).await.unwrap();
    assert_eq!((report.damaged, report.differences), (1, 1), "{report:?}");
    assert_eq!(report.messages + 1, store.stats().messages);
}

#[tokio::test]
async fn a_large_body_in_a_file_of_its_own_is_read_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for _ in 0..3 {
        let body = "y".repeat(relay_queue::BIG_BYTES + 5000);
        store.accept(message(&store, &body)).await.unwrap();
    }
    store.close().await;
    let report = verified(directory.path());
    assert!(report.is_well() && report.messages == 3, "{report:?}");
    let big = files(&directory.path().join("big"));
    assert_eq!(big.len(), 3);
    flip(&big[0], 100_000);
    std::fs::remove_file(&big[1]).unwrap();
    let report = verified(directory.path());
    assert_eq!(
        (report.differences, report.bodies_lost),
        (2, 2),
        "{report:?}"
    );
    let what = report.difference.iter().map(|found| found.what);
    assert!(what.eq([Differs::Body, Differs::Body]));
}
