//! What survives a restart and a kill.

use relay_observe::{Clock, Events};
use relay_queue::{
    DiskStore, MemoryStore, OpenError, RecipientState, Settlement, State, Store, StoreError,
};

use crate::common::*;

#[tokio::test]
async fn what_was_accepted_and_settled_is_the_same_after_a_restart_and_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..20 {
        let new = message_to(store.next_id(), 2, &format!("body {n}\r\n"));
        let message = store.accept(new).await.unwrap();
        let mut settlement = settle_all(&message, State::Deferred, "451 4.7.1 later");
        settlement.changes.truncate(n % 3);
        store.settle(settlement).await.unwrap();
    }
    let before = contents(&store).await;
    let killed = copy(directory.path());
    let stats = store.stats();
    store.close().await;

    for path in [directory.path(), killed.path()] {
        let store = open(path);
        let after = contents(&store).await;
        assert_eq!(after, before);
        let state = &after[2].0.recipients[1];
        assert_eq!((state.attempts, state.state), (1, State::Deferred));
        assert_eq!(state.last().unwrap().rule, "rule-451 4.7.1 later");
        let again = store.stats();
        assert_eq!(again.messages, stats.messages);
        assert_eq!(
            (again.queued, again.deferred),
            (stats.queued, stats.deferred)
        );
        assert_eq!((again.bytes, again.oldest), (stats.bytes, stats.oldest));
    }
    let index = std::fs::read_to_string(directory.path().join("CURRENT")).unwrap();
    assert_eq!(
        index, "index-1\n",
        "a restart in good order rebuilds nothing"
    );
}

#[tokio::test]
async fn a_store_dropped_without_close_has_lost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..5 {
        let new = message(&store, &format!("{n}"));
        store.accept(new).await.unwrap();
    }
    let before = contents(&store).await;
    drop(store);
    assert_eq!(contents(&open(directory.path())).await, before);
}

#[tokio::test]
async fn a_finished_message_is_remembered_until_the_restart_and_gone_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let message = store.accept(message(&store, "body")).await.unwrap();
    let delivered = settle_all(&message, State::Delivered, "250 2.0.0 queued");
    let settled = store.settle(delivered).await.unwrap();
    assert!(settled.message.finished());
    let seen = store.message(message.id).await.unwrap().unwrap();
    assert_eq!(seen, settled.message);
    assert_eq!(store.recent(10), std::slice::from_ref(&settled.message));
    assert_eq!(body_of(&store, message.id).await, None);
    assert_eq!((store.stats().messages, store.stats().bytes), (0, 0));
    let again = store
        .settle(settle_all(&message, State::Deferred, "451"))
        .await;
    assert!(matches!(again, Err(StoreError::Unknown(id)) if id == message.id));
    store.close().await;

    let store = open(directory.path());
    assert_eq!(store.message(message.id).await.unwrap(), None);
    assert_eq!(contents(&store).await, []);
}

#[tokio::test]
async fn a_bounce_and_its_dsn_are_one_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let original = store.accept(message(&store, "original")).await.unwrap();
    let before = copy(directory.path());
    let mut dsn = message(&store, "the report");
    dsn.arrival.dsn_of = Some(original.id);
    let mut settlement = settle_all(&original, State::Bounced, "550 5.1.1 unknown");
    settlement.dsns = vec![dsn.clone()];
    let settled = store.settle(settlement).await.unwrap();
    assert_eq!(settled.dsns[0].id, dsn.id);
    let after = copy(directory.path());
    let found = contents(&store).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "the report");
    drop(store);

    // Cut the write at every 16th byte: either the original is there alone, or the DSN.
    let (new, start, end) = last_write(before.path(), after.path());
    for cut in (start..end).step_by(16).chain([end]) {
        let torn = copy(after.path());
        delete_index(torn.path());
        let mut bytes = new.clone();
        bytes[cut..].fill(0);
        std::fs::write(&segments(torn.path())[0], bytes).unwrap();
        let found = contents(&open(torn.path())).await;
        let expected = match cut == end {
            true => dsn.id,
            false => original.id,
        };
        assert_eq!(found.len(), 1, "cut at {cut}");
        assert_eq!(found[0].0.id, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_message_to_a_thousand_recipients_is_kept_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let new = message_to(store.next_id(), 1000, "body");
    let mut message = store.accept(new).await.unwrap();
    for _ in 0..RecipientState::ATTEMPTS_KEPT + 2 {
        let settlement = settle_all(
            &message,
            State::Deferred,
            "451 4.7.1 come back later please",
        );
        message = store.settle(settlement).await.unwrap().message;
    }
    let mut half = settle_all(&message, State::Delivered, "250 ok");
    half.changes.truncate(500);
    store.settle(half).await.unwrap();
    let before = contents(&store).await;
    let kept = before[0].0.recipients[700].clone();
    assert_eq!(kept.history.len(), RecipientState::ATTEMPTS_KEPT);
    assert_eq!(kept.attempts as usize, RecipientState::ATTEMPTS_KEPT + 2);
    store.close().await;

    let store = open(directory.path());
    assert_eq!(contents(&store).await, before);
    assert_eq!(store.stats().deferred, 500);
    let message = store.message(message.id).await.unwrap().unwrap();
    let rest = settle_all(&message, State::Delivered, "250 ok");
    store.settle(rest).await.unwrap();
    store.close().await;
    assert_eq!(contents(&open(directory.path())).await, []);
}

#[tokio::test]
async fn ids_are_never_given_twice_even_if_the_clock_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut highest = None;
    for hours_back in 0..4 {
        let clock = Clock::starting_at(now() - jiff::SignedDuration::from_hours(hours_back));
        let store = DiskStore::open(directory.path(), clock, Events::default(), options()).unwrap();
        for _ in 0..3 {
            let id = store.next_id();
            assert!(Some(id) > highest);
            highest = Some(id);
            let message = store.accept(message_to(id, 1, "body")).await.unwrap();
            let delivered = settle_all(&message, State::Delivered, "250");
            store.settle(delivered).await.unwrap();
        }
        match hours_back % 2 {
            0 => store.close().await,
            _ => drop(store),
        }
        // Every message has finished: only the journal tells the ids.
        if hours_back == 2 {
            delete_index(directory.path());
        }
    }
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let memory = MemoryStore::new(Clock::starting_at(now()));
    for store in [&disk as &dyn Store, &memory] {
        let first = store.accept(message(store, "first")).await.unwrap();
        let again = store.accept(message_to(first.id, 1, "again")).await;
        assert!(matches!(again, Err(StoreError::Taken(id)) if id == first.id));
        let settlement = Settlement {
            dsns: vec![message_to(first.id, 1, "dsn")],
            ..settle_all(&first, State::Bounced, "550")
        };
        let settled = store.settle(settlement).await;
        assert!(matches!(settled, Err(StoreError::Taken(id)) if id == first.id));
        assert_eq!(contents(store).await[0].0, *first);
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_while_the_first_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let second = try_open(directory.path());
    assert!(matches!(second, Err(OpenError::Locked(_))));
    store.close().await;
    open(directory.path());
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_nothing_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("VERSION"), "5\n").unwrap();
    let error = try_open(directory.path()).unwrap_err();
    assert_eq!(error.exit_status(), 78);
    assert!(error.to_string().contains("\"5\""), "{error}");
    assert_eq!(files(directory.path()).len(), 1);
}

#[tokio::test]
async fn a_journal_without_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close().await;
    std::fs::remove_file(directory.path().join("VERSION")).unwrap();
    let error = try_open(directory.path()).unwrap_err();
    assert_eq!(error.exit_status(), 78);
}

#[tokio::test]
async fn after_close_everything_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let memory = MemoryStore::new(Clock::starting_at(now()));
    for store in [&disk as &dyn Store, &memory] {
        let id = store.next_id();
        store.close().await;
        store.close().await;
        let accepted = store.accept(message_to(id, 1, "")).await;
        assert!(matches!(accepted, Err(StoreError::Stopped(_))));
        let found = store.message(id).await;
        assert!(matches!(found, Err(StoreError::Stopped(_))));
    }
}
