//! Messages that come in chunks (BDAT, RFC 3030), through whole sessions.

use std::sync::atomic::Ordering;

use super::{TRUSTING, long_text};
use crate::testing::{LOCAL, Relay};

/// `BDAT` with what belongs to it.
fn chunk(text: &str, last: &str) -> String {
    format!("BDAT {}{last}\r\n{text}", text.len())
}

#[tokio::test(start_paused = true)]
async fn a_large_message_in_chunks_goes_to_disk_while_it_comes_and_arrives_as_it_was() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    for (lines, staged) in [(100, 0), (150_000, 1), (100, 1), (150_000, 2)] {
        client.begin_envelope().await;
        let text = format!("Subject: x\r\n\r\n{}", long_text(lines));
        // Chunks end anywhere, also between CR and LF.
        let (first, rest) = text.split_at(text.len() / 3 * 2);
        client.send(&chunk(first, "")).await;
        assert_eq!(client.reply().await, "250 2.0.0 the chunk is here");
        client.send(&chunk(rest, "")).await;
        assert_eq!(client.reply().await, "250 2.0.0 the chunk is here");
        client.send(&chunk("", " LAST")).await;
        let reply = client.reply().await;
        assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
        let message = relay.accepted.recv().await.expect("handed over");
        let body = String::from_utf8(relay.body(message.id).await.to_vec()).expect("text");
        assert_eq!(body.len() as u64, message.size);
        let (_, rest) = body.split_once("\r\n\r\n").expect("a header");
        assert!(rest == long_text(lines), "{lines} lines");
        assert_eq!(relay.store.staged.load(Ordering::Relaxed), staged);
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_that_are_given_up_leave_nothing_behind_for_the_next_message() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    client.begin_envelope().await;
    let text = format!("Subject: given up\r\n\r\n{}", long_text(150_000));
    client.send(&chunk(&text, "")).await;
    assert_eq!(client.reply().await, "250 2.0.0 the chunk is here");
    assert_eq!(client.say("RSET").await, "250 2.0.0 done");
    let reply = client.submit("Subject: x\r\n\r\nhello\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = relay.accepted.recv().await.expect("handed over");
    let body = String::from_utf8(relay.body(message.id).await.to_vec()).expect("text");
    assert!(
        body.contains("Subject: x\r\n") && body.ends_with("\r\n\r\nhello\r\n"),
        "{body}"
    );
    assert!(!body.contains("given up") && body.len() < 2000);
    // The same, lost in the middle of a chunk.
    client.begin_envelope().await;
    client.send("BDAT 1000 LAST\r\nSubject: lost\r\n").await;
    drop(client);
    let mut client = relay.greeted(LOCAL).await;
    let reply = client.submit("Subject: y\r\n\r\nhello\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = relay.accepted.recv().await.expect("handed over");
    let body = String::from_utf8(relay.body(message.id).await.to_vec()).expect("text");
    assert!(
        body.contains("Subject: y\r\n"),
        "only this one has come: {body}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_up_between_chunks_refuses_this_message_only() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    relay.store.room_for_pieces.store(3, Ordering::Relaxed);
    client.begin_envelope().await;
    let text = format!("Subject: x\r\n\r\n{}", long_text(150_000));
    client.send(&chunk(&text, "")).await;
    assert_eq!(client.reply().await, "250 2.0.0 the chunk is here");
    client.send(&chunk("", " LAST")).await;
    let reply = client.reply().await;
    assert!(reply.starts_with("452 4.3.1 the queue is full"), "{reply}");
    let reply = client.submit("Subject: x\r\n\r\nsmall\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(relay.accepted.recv().await.expect("handed over").size < 1000);
}
