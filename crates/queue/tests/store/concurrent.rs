//! Many at once.

use std::sync::Arc;

use relay_queue::{State, Store};

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accepting_and_settling_at_once_loses_and_mixes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path()));
    let mut tasks = Vec::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut expected = Vec::new();
            for n in 0..30 {
                let body = format!("{task}.{n}");
                let message = store.accept(message(&*store, &body)).await.unwrap();
                let state = match n % 3 {
                    0 => State::Delivered,
                    1 => State::Deferred,
                    _ => continue,
                };
                let settlement = settle_all(&message, state, &body);
                let settled = store.settle(settlement).await.unwrap().message;
                if state == State::Deferred {
                    expected.push((settled, body));
                }
            }
            expected
        }));
    }
    let mut expected = Vec::new();
    for task in tasks {
        expected.extend(task.await.unwrap());
    }
    let stats = store.stats();
    assert_eq!(
        (stats.messages, stats.queued, stats.deferred),
        (320, 160, 160)
    );
    assert_eq!(stats.records, 480 + 320);
    assert!(stats.commits < stats.records);
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.stats().messages, 320);
    for (message, body) in expected {
        assert_eq!(store.message(message.id).await.unwrap().unwrap(), message);
        assert_eq!(body_of(&store, message.id).await.unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settling_recipients_of_one_message_at_once_keeps_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let new = message_to(store.next_id(), 64, "body");
    let id = store.accept(new).await.unwrap().id;
    store.close().await;
    // From a store that has the message in its index only.
    let store = Arc::new(open(directory.path()));
    let message = store.message(id).await.unwrap().unwrap();
    let mut tasks = Vec::new();
    for index in 0..64 {
        let store = store.clone();
        let mut settlement = settle_all(&message, State::Delivered, &format!("250 {index}"));
        settlement.changes = vec![settlement.changes.swap_remove(index)];
        tasks.push(tokio::spawn(async move {
            store.settle(settlement).await.unwrap().message.finished()
        }));
    }
    let mut finished = 0;
    for task in tasks {
        finished += u32::from(task.await.unwrap());
    }
    assert_eq!(finished, 1, "exactly one change finishes the message");
    let message = &store.recent(1)[0];
    for (index, _, state) in message.each() {
        assert_eq!(state.last().unwrap().reply, format!("250 {index}"));
    }
    assert_eq!(store.stats().messages, 0);
}

#[tokio::test]
async fn what_was_handed_over_is_written_even_if_nobody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = store.accept(message(&store, "first")).await.unwrap();
    let mut settle = store.settle(settle_all(&first, State::Deferred, "451"));
    // One poll hands it over; then the caller gives up.
    let waker = std::task::Waker::noop();
    let _ = settle
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    drop(settle);
    let held = settle_all(&first, State::Held, "held");
    let after = store.settle(held).await.unwrap().message;
    assert_eq!(after.recipients[0].state, State::Held);
    store.close().await;
    let found = contents(&open(directory.path())).await;
    assert_eq!(found[0].0, *after);
}
