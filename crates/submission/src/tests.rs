//! Whole sessions, over memory with virtual time, and over loopback where sockets matter.

mod chunks;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use relay_config::ListenerTls;
use relay_queue::StoreError;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::testing::{Client, LOCAL, Relay, STRANGER};
use crate::{Bound, Socket, serve};

const TRUSTING: &str = r#"
[[listener]]
address = "127.0.0.1:0"
auth = "none"
trusted = ["127.0.0.0/8"]
"#;

const WITH_LOGIN: &str = r#"
[[listener]]
address = "127.0.0.1:0"
auth = "optional"
trusted = []
[submission]
auth_in_clear = "anywhere"
USER
"#;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_trusted_client_is_committed_answered_and_handed_over() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    let reply = client
        .submit("Subject: hi\r\nBcc: c@x.example\r\n\r\n..text\r\n")
        .await;
    let id = reply.strip_prefix("250 2.0.0 queued as ").expect("taken");
    let message = relay.accepted.recv().await.expect("handed over");
    assert_eq!(message.id.to_string(), id);
    assert_eq!(
        message.arrival.client,
        Some("127.0.0.1".parse().expect("an address"))
    );
    let body = relay.body(message.id).await;
    let body = String::from_utf8_lossy(&body);
    assert!(
        body.starts_with("Received: from client.example ([127.0.0.1])"),
        "{body}"
    );
    assert!(
        body.contains(&format!("id {id}")) && body.contains("with ESMTP"),
        "{body}"
    );
    assert!(body.contains("for <b@rcpt.example>;"), "{body}");
    assert!(
        body.contains("\r\nDate: ") && body.contains("\r\nMessage-ID: "),
        "{body}"
    );
    assert!(!body.contains("Bcc"), "{body}");
    assert!(body.ends_with("\r\n\r\n.text\r\n"), "{body}");
    assert_eq!(client.say("QUIT").await, "221 2.0.0 goodbye");
    assert_eq!(relay.count("relayd_messages_accepted_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn strangers_may_not_relay_to_anywhere() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(STRANGER).await;
    client.say("MAIL FROM:<a@app.example>").await;
    for to in [
        "b@rcpt.example",
        "postmaster",
        "a%b@relay.example",
        "b@[127.0.0.1]",
    ] {
        let reply = client.say(&format!("RCPT TO:<{to}>")).await;
        assert!(
            reply.starts_with("550 5.7.1 relaying denied"),
            "{to}: {reply}"
        );
    }
    assert_eq!(
        client.say("DATA").await,
        "554 5.5.1 no recipient was accepted"
    );

    let relay = Relay::new(WITH_LOGIN);
    let mut client = relay.greeted(LOCAL).await;
    client.say("MAIL FROM:<>").await;
    let reply = client.say("RCPT TO:<b@rcpt.example>").await;
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn who_has_logged_in_may_relay_and_is_named_in_the_message() {
    let mut relay = Relay::new(WITH_LOGIN);
    let mut client = relay.greeted(STRANGER).await;
    assert_eq!(client.login().await, "235 2.7.0 logged in");
    let reply = client.submit("Subject: hi\r\n\r\ntext\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = relay.accepted.recv().await.expect("handed over");
    assert_eq!(message.arrival.user.as_deref(), Some("app"));
    let body = relay.body(message.id).await;
    assert!(String::from_utf8_lossy(&body).contains("with ESMTPA"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_answered_late_and_gives_nothing() {
    let relay = Relay::new(WITH_LOGIN);
    let mut client = relay.greeted(STRANGER).await;
    let before = Instant::now();
    let reply = client.say("AUTH PLAIN AGFwcAB3cm9uZw==").await;
    assert_eq!(reply, "535 5.7.8 user or password wrong");
    assert!(before.elapsed() >= seconds(1));
    client.say("MAIL FROM:<a@app.example>").await;
    let reply = client.say("RCPT TO:<b@rcpt.example>").await;
    assert!(reply.starts_with("530 "), "{reply}");
    assert_eq!(relay.count("relayd_logins_failed_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_sends_only_as_its_senders() {
    let settings = format!("{WITH_LOGIN}\nsenders = [\"*@app.example\", \"Boss@x.example\"]");
    let relay = Relay::new(&settings);
    let mut client = relay.greeted(STRANGER).await;
    client.login().await;
    for (from, code) in [
        ("anybody@app.example", "250"),
        ("anybody@APP.example", "250"),
        ("Boss@x.example", "250"),
        ("boss@x.example", "550 5.7.1"),
        ("a@sub.app.example", "550 5.7.1"),
        ("a@notapp.example", "550 5.7.1"),
        ("", "550 5.7.1"),
    ] {
        let reply = client.say(&format!("MAIL FROM:<{from}>")).await;
        assert!(reply.starts_with(code), "{from}: {reply}");
        client.say("RSET").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_sends_no_faster_than_its_rate() {
    let relay = Relay::new(&format!("{WITH_LOGIN}\nrate = \"2/min\""));
    let mut client = relay.greeted(STRANGER).await;
    client.login().await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(client.say("MAIL FROM:<a@app.example>").await);
        client.say("RSET").await;
    }
    assert!(codes[1].starts_with("250 "), "{codes:?}");
    assert!(
        codes[2].starts_with("450 4.7.1 user app sends too fast"),
        "{codes:?}"
    );
    tokio::time::advance(seconds(30)).await;
    let reply = client.say("MAIL FROM:<a@app.example>").await;
    assert!(reply.starts_with("250 "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn no_250_before_the_commit_has_returned() {
    let relay = Relay::new(TRUSTING);
    relay.store.hold();
    let mut client = relay.greeted(LOCAL).await;
    client.begin().await;
    client.send("text\r\n.\r\n").await;
    assert!(timeout(seconds(3600), client.reply()).await.is_err());
    relay.store.let_go();
    let reply = client.reply().await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_take_it_leaves_the_message_with_the_client() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    for (error, reply) in [
        (StoreError::Disk("input/output error".into()), "451 4.3.0 "),
        (StoreError::Full("10 GiB".into()), "452 4.3.1 "),
        (StoreError::Busy, "451 4.3.2 "),
        (StoreError::Stopped("earlier".into()), "451 4.3.0 "),
    ] {
        relay.store.fail(Some(error));
        let said = client.submit("text\r\n").await;
        assert!(said.starts_with(reply), "{said}");
    }
    relay.store.fail(None);
    assert!(client.submit("text\r\n").await.starts_with("250 "));
    assert_eq!(relay.world.store.stats().messages, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_so_to_mail() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    let unwilling = |error| *relay.store.unwilling.lock().expect("not poisoned") = error;
    unwilling(Some(StoreError::Full("2 messages".into())));
    let reply = client.say("MAIL FROM:<a@app.example>").await;
    assert!(reply.starts_with("452 4.3.1 "), "{reply}");
    unwilling(None);
    assert!(client.submit("text\r\n").await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn a_domain_that_holds_too_much_is_refused_and_other_recipients_are_not() {
    let relay = Relay::new(TRUSTING);
    *relay.store.crowded.lock().expect("not poisoned") = Some("crowded.example".to_owned());
    let mut client = relay.greeted(LOCAL).await;
    client.say("MAIL FROM:<a@app.example>").await;
    let reply = client.say("RCPT TO:<a@crowded.example>").await;
    assert!(
        reply.starts_with("452 4.3.1 the queue is full: space is short"),
        "{reply}"
    );
    let reply = client.say("RCPT TO:<a@other.example>").await;
    assert!(reply.starts_with("250 "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_asked_for_the_user_or_client_and_the_size_that_was_said() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    client.say("MAIL FROM:<a@app.example> SIZE=12345").await;
    client.say("RSET").await;
    client.say("MAIL FROM:<a@app.example>").await;
    let asked = relay.store.asked.lock().expect("not poisoned").clone();
    assert_eq!(
        asked,
        ["client 127.0.0.1, 12345 bytes", "client 127.0.0.1, 0 bytes"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_the_commit_is_told_of_and_its_message_is_sent() {
    let mut relay = Relay::new(TRUSTING);
    relay.store.hold();
    let mut client = relay.greeted(LOCAL).await;
    client.begin().await;
    client.send("text\r\n.\r\n").await;
    assert!(timeout(seconds(1), client.reply()).await.is_err());
    drop(client);
    tokio::time::sleep(seconds(1)).await;
    relay.store.let_go();
    assert!(relay.accepted.recv().await.is_some());
    assert_eq!(relay.count("relayd_clients_gone_before_reply_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_inside_data_leaves_nothing() {
    let relay = Relay::new(TRUSTING);
    let (mut client, session) = relay.connect(LOCAL);
    client.greet().await;
    client.begin().await;
    client.send("half a mess").await;
    drop(client);
    session.await.expect("no panic");
    assert_eq!(relay.world.store.stats().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_went_through_too_many_hosts_is_a_loop() {
    let relay = Relay::new(&format!(
        "{TRUSTING}\n[submission]\nreceived_headers_max = 10"
    ));
    let mut client = relay.greeted(LOCAL).await;
    let hop = "Received: by x.example; Sun, 22 Nov 2026 12:00:00 +0000\r\n";
    let reply = client
        .submit(&format!("{}\r\ntext\r\n", hop.repeat(10)))
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    let reply = client
        .submit(&format!("{}\r\ntext\r\n", hop.repeat(11)))
        .await;
    assert_eq!(reply, "554 5.4.6 mail loop: 11 Received fields");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_gets_421_after_the_idle_time_out() {
    let relay = Relay::new(TRUSTING);
    let (mut client, session) = relay.connect(LOCAL);
    client.greet().await;
    let before = Instant::now();
    assert_eq!(client.reply().await, "421 4.4.2 idle for too long");
    assert_eq!(before.elapsed().as_secs(), 300);
    assert_eq!(client.reply().await, "");
    drop(client);
    session.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn dripping_a_body_or_noops_does_not_hold_a_place_for_ever() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    client.begin().await;
    let before = Instant::now();
    let reply = loop {
        client.send("drip\r\n").await;
        if let Ok(reply) = timeout(seconds(60), client.reply()).await {
            break reply;
        }
    };
    assert_eq!(reply, "421 4.4.2 the data took too long");
    assert!(before.elapsed() <= seconds(31 * 60));

    let mut client = relay.greeted(LOCAL).await;
    let before = Instant::now();
    let reply = loop {
        tokio::time::sleep(seconds(60)).await;
        let reply = client.say("NOOP").await;
        if reply != "250 2.0.0 done" {
            break reply;
        }
    };
    assert_eq!(reply, "421 4.4.2 no message for too long");
    assert!(before.elapsed() <= seconds(61 * 60));
}

#[tokio::test(start_paused = true)]
async fn at_a_stop_idle_sessions_end_and_a_body_on_its_way_is_still_taken() {
    let relay = Relay::new(TRUSTING);
    let mut idle = relay.greeted(LOCAL).await;
    let mut busy = relay.greeted(LOCAL).await;
    busy.begin().await;
    busy.send("half\r\n").await;
    tokio::time::sleep(seconds(1)).await;
    relay.stop.cancel();
    assert_eq!(idle.reply().await, "421 4.3.2 stopping, try again later");
    assert!(busy.say(".").await.starts_with("250 2.0.0 queued as "));
    assert_eq!(busy.reply().await, "421 4.3.2 stopping, try again later");
}

#[tokio::test(start_paused = true)]
async fn everything_pipelined_at_once_is_answered_in_order() {
    let relay = Relay::new(TRUSTING);
    let (mut client, _) = relay.connect(LOCAL);
    let one = "MAIL FROM:<a@app.example>\r\nRCPT TO:<b@rcpt.example>\r\nDATA\r\ntext\r\n.\r\n";
    client.send(&format!("EHLO x\r\n{one}{one}QUIT\r\n")).await;
    let mut codes = Vec::new();
    loop {
        let reply = client.reply().await;
        let Some(code) = reply.get(..3) else { break };
        codes.push(code.to_owned());
    }
    let wanted = [
        "220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221",
    ];
    assert_eq!(codes, wanted);
    assert_eq!(relay.world.store.stats().messages, 2);
}

/// A certificate for relay.example, and a client's settings that trust it.
fn tls() -> (Arc<rustls::ServerConfig>, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).expect("made");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = crate::tls::server_config(certificate.as_bytes(), key.as_bytes());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("added");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        server.expect("usable"),
        TlsConnector::from(Arc::new(client)),
    )
}

#[tokio::test]
async fn starttls_forgets_what_was_said_and_what_was_injected() {
    let (server, connector) = tls();
    let settings = WITH_LOGIN.replace("anywhere", "loopback_only");
    let relay = Relay::with(&settings, ListenerTls::Starttls, Some(server));
    let (mut client, _) = relay.connect(STRANGER);
    client.reply().await;
    let offers = client.say("EHLO client.example").await;
    assert!(
        offers.contains("STARTTLS") && !offers.contains("AUTH"),
        "{offers}"
    );
    assert!(client.login().await.starts_with("538 5.7.11 "));
    assert!(client.say("STARTTLS").await.starts_with("220 "));
    let name = "relay.example".try_into().expect("a name");
    let stream = connector
        .connect(name, client.into_inner())
        .await
        .expect("TLS");
    let mut client = Client::new(stream);
    assert!(
        client
            .say("MAIL FROM:<a@app.example>")
            .await
            .starts_with("503 ")
    );
    let offers = client.say("EHLO client.example").await;
    assert!(
        !offers.contains("STARTTLS") && offers.contains("AUTH PLAIN"),
        "{offers}"
    );
    assert_eq!(client.login().await, "235 2.7.0 logged in");
    assert!(client.submit("text\r\n").await.starts_with("250 "));
}

#[tokio::test]
async fn what_is_injected_behind_starttls_never_arrives() {
    let (server, connector) = tls();
    let relay = Relay::with(TRUSTING, ListenerTls::Starttls, Some(server));
    let mut client = relay.greeted(LOCAL).await;
    let evil = "EHLO evil\r\nMAIL FROM:<evil@app.example>\r\n";
    assert!(
        client
            .say(&format!("STARTTLS\r\n{evil}"))
            .await
            .starts_with("220 ")
    );
    let name = "relay.example".try_into().expect("a name");
    let stream = connector
        .connect(name, client.into_inner())
        .await
        .expect("TLS");
    let mut client = Client::new(stream);
    // The first reply under TLS is the one to the first command under TLS.
    assert!(client.say("NOOP").await.starts_with("250 2.0.0 done"));
    assert_eq!(
        client.say("RCPT TO:<b@rcpt.example>").await,
        "503 5.5.1 send MAIL first"
    );
}

#[tokio::test]
async fn with_implicit_tls_the_handshake_comes_first() {
    let (server, connector) = tls();
    let relay = Relay::with(TRUSTING, ListenerTls::Implicit, Some(server));
    let (client, _) = relay.connect(LOCAL);
    let name = "relay.example".try_into().expect("a name");
    let stream = connector
        .connect(name, client.into_inner())
        .await
        .expect("TLS");
    let mut client = Client::new(stream);
    client.greet().await;
    assert!(client.submit("text\r\n").await.starts_with("250 "));
    let listed = relay
        .world
        .store
        .list(Default::default(), None, 10)
        .await
        .expect("listed");
    let body = relay.body(listed.messages[0].id).await;
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("with ESMTPS") && !body.contains("ESMTPSA"));

    let (mut client, session) = relay.connect(LOCAL);
    client.send("EHLO client.example\r\n").await;
    session.await.expect("no panic");
    assert_eq!(relay.count("relayd_clients_refused_total"), 1);
}

#[tokio::test]
async fn sockets_of_both_kinds_are_served_until_the_stop() {
    let relay = Relay::new(TRUSTING);
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = tcp.local_addr().expect("an address");
    let path = std::env::temp_dir().join(format!("relay-submission-{}.sock", std::process::id()));
    let unix = UnixListener::bind(&path).expect("bound");
    let bound = |socket| Bound {
        socket,
        listener: relay.listener.clone(),
    };
    let listeners = vec![bound(Socket::Tcp(tcp)), bound(Socket::Unix(unix))];
    let serving = tokio::spawn(serve(listeners, relay.world.clone(), relay.stop.clone()));
    let mut client = Client::new(TcpStream::connect(address).await.expect("connected"));
    client.greet().await;
    assert!(client.submit("text\r\n").await.starts_with("250 "));
    let mut local = Client::new(UnixStream::connect(&path).await.expect("connected"));
    local.greet().await;
    assert!(local.submit("text\r\n").await.starts_with("250 "));
    assert_eq!(relay.world.sessions(), 2);
    relay.stop.cancel();
    assert!(client.reply().await.starts_with("421 4.3.2 "));
    assert!(local.reply().await.starts_with("421 4.3.2 "));
    drop((client, local));
    serving.await.expect("no panic");
    assert_eq!(relay.world.sessions(), 0);
    let _ = std::fs::remove_file(&path);
}

#[tokio::test]
async fn a_session_too_many_is_told_so() {
    let relay = Relay::new(&format!("{TRUSTING}\n[submission]\nsessions_max = 1"));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = tcp.local_addr().expect("an address");
    let bound = Bound {
        socket: Socket::Tcp(tcp),
        listener: relay.listener.clone(),
    };
    let serving = tokio::spawn(serve(vec![bound], relay.world.clone(), relay.stop.clone()));
    let mut first = Client::new(TcpStream::connect(address).await.expect("connected"));
    first.greet().await;
    let mut second = Client::new(TcpStream::connect(address).await.expect("connected"));
    assert_eq!(
        second.reply().await,
        "421 4.3.2 too many sessions, try again later"
    );
    assert_eq!(second.reply().await, "");
    assert!(first.say("NOOP").await.starts_with("250 "));
    drop((first, second));
    relay.stop.cancel();
    serving.await.expect("no panic");
}

/// Lines with their number, some of them with a dot at the start.
fn long_text(lines: usize) -> String {
    let line = |n: usize| format!("{}line {n}\r\n", if n.is_multiple_of(7) { "." } else { "" });
    (0..lines).map(line).collect()
}

fn stuffed(text: &str) -> String {
    text.replace("\r\n.", "\r\n..")
}

#[tokio::test(start_paused = true)]
async fn a_large_message_goes_to_disk_while_it_comes_and_arrives_as_it_was() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    for (lines, staged) in [(100, 0), (150_000, 1), (100, 1), (150_000, 2)] {
        let text = format!("Subject: x\r\n\r\n{}", long_text(lines));
        let reply = client.submit(&stuffed(&text)).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let message = relay.accepted.recv().await.expect("handed over");
        let body = String::from_utf8(relay.body(message.id).await.to_vec()).expect("text");
        assert_eq!(body.len() as u64, message.size);
        assert!(body.starts_with("Received: from "), "{}", &body[..200]);
        let (head, rest) = body.split_once("\r\n\r\n").expect("a header");
        assert!(head.contains(&message.id.to_string()) && head.contains("Message-ID: "));
        assert!(rest == long_text(lines), "{lines} lines");
        assert_eq!(relay.store.staged.load(Ordering::Relaxed), staged);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_up_in_the_middle_of_the_data_refuses_this_message_only() {
    let mut relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    relay.store.room_for_pieces.store(3, Ordering::Relaxed);
    let text = format!("Subject: x\r\n\r\n{}", long_text(150_000));
    let reply = client.submit(&stuffed(&text)).await;
    assert!(reply.starts_with("452 4.3.1 the queue is full"), "{reply}");
    let reply = client.submit("Subject: x\r\n\r\nsmall\r\n").await;
    assert!(reply.starts_with("250 "), "{reply}");
    relay
        .store
        .room_for_pieces
        .store(usize::MAX, Ordering::Relaxed);
    let reply = client.submit(&stuffed(&text)).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let small = relay.accepted.recv().await.expect("handed over");
    let large = relay.accepted.recv().await.expect("handed over");
    assert!(small.size < 1000 && large.size > 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_used_up_a_small_message_goes_through_a_file_too() {
    let mut relay = Relay::new(TRUSTING);
    let world = Arc::get_mut(&mut relay.world).expect("no session yet");
    world.body_memory = crate::session::incoming::BodyMemory::new(20_000);
    let mut client = relay.greeted(LOCAL).await;
    for (lines, staged) in [(100, 0), (5000, 1), (100, 1)] {
        let text = format!("Subject: x\r\n\r\n{}", long_text(lines));
        let reply = client.submit(&stuffed(&text)).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let message = relay.accepted.recv().await.expect("handed over");
        let body = relay.body(message.id).await;
        assert!(body.ends_with(long_text(lines).as_bytes()));
        assert_eq!(relay.store.staged.load(Ordering::Relaxed), staged);
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_without_end_is_refused_and_a_loop_is_seen_in_a_large_message_too() {
    let relay = Relay::new(TRUSTING);
    let mut client = relay.greeted(LOCAL).await;
    let endless = "X-Long: field\r\n".repeat(100_000);
    let reply = client.submit(&endless).await;
    assert_eq!(reply, "552 5.3.4 the header is too large");
    let hops = "Received: from a by b\r\n".repeat(200);
    let reply = client
        .submit(&format!("{hops}\r\n{}", stuffed(&long_text(60_000))))
        .await;
    assert_eq!(reply, "554 5.4.6 mail loop: 200 Received fields");
}
