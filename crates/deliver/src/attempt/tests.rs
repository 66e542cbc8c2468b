//! Sessions against scripted peers, in virtual time, with the queue in memory.

mod faulty;
mod fitting;
mod hostile;
mod portions;
mod remembered;
mod scene;

use std::time::Duration;

use relay_observe::metric::Metric;
use relay_queue::{State, StoreError};
use relay_smtp::NextHop;
use rustls::pki_types::PrivateKeyDer;
use scene::{Scene, Script};

use super::*;
use crate::link::Flow;

const HELLO: &str = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 PIPELINING\n";
const PLAIN: &str = "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\n";
const ONE: &str = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n\
    S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 2.0.0 taken\n";
const BYE: &str = "C: QUIT\nS: 221 bye\n";

fn talk(parts: &[&str]) -> Script {
    Script::Talk(parts.concat())
}

#[tokio::test(start_paused = true)]
async fn several_messages_go_over_one_session() {
    let mut scene = Scene::new(vec![talk(&[HELLO, ONE, ONE, BYE])]);
    for _ in 0..2 {
        let id = scene.accept(&["b@r.example"]).await;
        let report = scene.work(id).await;
        assert_eq!(report.due_again, None);
        assert_eq!(report.site, SiteNews::Good);
        assert_eq!(scene.states(id).await, [State::Delivered]);
    }
    scene.quit().await;
    assert_eq!(scene.net.dialled(), ["mx1.r.example"]);
    assert!(scene.net.bodies()[0].starts_with("From: a@s.example\r\n"));
}

#[tokio::test(start_paused = true)]
async fn one_unknown_recipient_of_three_is_bounced_and_its_sender_told() {
    let mut scene = Scene::new(vec![talk(&[
        HELLO,
        "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: RCPT TO:<nobody@r.example>\n",
        "C: RCPT TO:<c@r.example>\nC: DATA\n",
        "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no such user\nS: 250 ok\nS: 354 go\nC: [body]\n",
        "S: 250 taken\n",
        BYE,
    ])]);
    let id = scene
        .accept(&["b@r.example", "nobody@r.example", "c@r.example"])
        .await;
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None);
    let wanted = [State::Delivered, State::Bounced, State::Delivered];
    assert_eq!(scene.states(id).await, wanted);
    let [dsn] = scene.accepted.as_slice() else {
        panic!("{:?}", scene.accepted);
    };
    assert_eq!(dsn.arrival.dsn_of, Some(id));
    assert_eq!(
        dsn.envelope.recipients[0].mailbox.to_string(),
        "a@s.example"
    );
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_host_leads_to_the_next() {
    let mut scene = Scene::new(vec![Script::Refuse, talk(&[HELLO, ONE, BYE])]);
    let id = scene.accept(&["b@r.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.site, SiteNews::Good);
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert_eq!(scene.net.dialled(), ["mx1.r.example", "mx2.r.example"]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_leads_to_the_next_after_its_time() {
    let mut scene = Scene::new(vec![Script::Stall, talk(&[HELLO, ONE, BYE])]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn all_hosts_refusing_defers_and_says_unreachable() {
    let mut scene = Scene::new(vec![Script::Refuse, Script::Refuse]);
    let id = scene.accept(&["b@r.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.site, SiteNews::Unreachable);
    assert!(report.due_again > Some(scene.world.clock.now()));
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let last = scene.last_attempt(id).await;
    assert_eq!(last.phase, Phase::Connect);
    assert_eq!(last.host.as_deref(), Some("mx2.r.example [192.0.2.2]"));
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_null_mx_bounces_at_once_without_a_connection() {
    let mut scene = Scene::new(Vec::new());
    let id = scene.accept(&["b@null.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None);
    assert_eq!(scene.states(id).await, [State::Bounced]);
    assert_eq!(scene.accepted.len(), 1);
    assert!(scene.net.dialled().is_empty());
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_lost_in_the_body_leads_to_the_next_host() {
    let mut scene = Scene::new(vec![
        talk(&[
            HELLO,
            "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n",
            "S: 250 ok\nS: 250 ok\nS: 354 go\nX: close\n",
        ]),
        talk(&[HELLO, ONE, BYE]),
    ]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
}

/// Up to the body, without its answer.
const SENT: &str = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n\
    S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\n";

#[tokio::test(start_paused = true)]
async fn what_is_unclear_after_the_final_dot_is_not_sent_to_another_host_at_once() {
    for (end, words) in [
        ("X: close\n", "second copy"),
        ("X: stay\n", "second copy"),
        ("S: what?\nX: stay\n", "what?"),
    ] {
        let mut scene = Scene::new(vec![talk(&[HELLO, SENT, end])]);
        let id = scene.accept(&["b@r.example"]).await;
        let report = scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Deferred], "{end}");
        assert!(report.due_again > Some(scene.world.clock.now()));
        let last = scene.last_attempt(id).await;
        assert_eq!(last.phase, Phase::Body);
        assert!(last.reply.contains(words), "{last:?}");
        assert_eq!(scene.net.dialled(), ["mx1.r.example"], "{end}");
    }
}

/// More than lies between two peers unread.
fn large() -> String {
    format!(
        "From: a@s.example\r\n\r\n{}",
        "0123456789\r\n".repeat(50_000)
    )
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_while_the_body_is_written_is_heard() {
    let early = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n\
        S: 250 ok\nS: 250 ok\nS: 354 go\nS: 552 5.3.4 message too big\n";
    for end in ["X: stay\n", "X: close\n"] {
        let mut scene = Scene::new(vec![talk(&[HELLO, early, end])]);
        let before = scene.world.clock.now();
        let id = scene.accept_body(&["b@r.example"], large()).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Bounced], "{end}");
        let last = scene.last_attempt(id).await;
        assert!(last.reply.contains("too big"), "{last:?}");
        let took = scene.world.clock.now().duration_since(before);
        assert!(took.as_secs() < 10, "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_the_body_is_left_after_its_time() {
    let stops = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n\
        S: 250 ok\nS: 250 ok\nS: 354 go\nX: stay\n";
    let mut scene = Scene::new(vec![talk(&[HELLO, stops])]);
    let before = scene.world.clock.now();
    let id = scene.accept_body(&["b@r.example"], large()).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let took = scene.world.clock.now().duration_since(before);
    assert!((180..200).contains(&took.as_secs()), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_a_byte_at_a_time_has_no_more_time_than_others() {
    let slow = || {
        talk(&[
            HELLO,
            "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\nX: drip\n",
        ])
    };
    let mut scene = Scene::new(vec![slow(), slow()]);
    let before = scene.world.clock.now();
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let took = scene.world.clock.now().duration_since(before);
    assert!((600..620).contains(&took.as_secs()), "{took}");
}

#[tokio::test(start_paused = true)]
async fn the_session_goes_on_while_outcomes_are_written_down_but_not_without_end() {
    let ones = ONE.repeat(10);
    let mut scene = Scene::new(vec![talk(&[HELLO, &ones, BYE])]);
    *scene.store.pace.lock().unwrap() = Duration::from_secs(10);
    let before = scene.world.clock.now();
    let (mut ids, mut settled) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let id = scene.accept(&["b@r.example"]).await;
        ids.push(id);
        scene.give(id).await;
        loop {
            match scene.hear().await {
                FromSession::Carried { news, .. } => {
                    assert_eq!(news, SiteNews::Good);
                    break;
                }
                FromSession::Settled { report, .. } => settled.push(report.id),
                FromSession::Ready(_) | FromSession::Opened { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let took = scene.world.clock.now().duration_since(before).as_secs();
        // The ninth waits until one of the first eight is on disk.
        assert_eq!(took, if number < 8 { 0 } else { 10 }, "{number}");
    }
    scene.quit().await;
    for id in &ids {
        assert_eq!(scene.states(*id).await, [State::Delivered]);
    }
    let took = scene.world.clock.now().duration_since(before).as_secs();
    assert_eq!(
        took, 20,
        "the session's end waits for what is being written"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_disk_does_not_take_is_written_again_and_not_sent_again() {
    let mut scene = Scene::new(vec![talk(&[HELLO, ONE, BYE])]);
    let full = vec![StoreError::Full("no room".to_owned()); 30];
    scene
        .store
        .errors
        .lock()
        .unwrap()
        .push_back(StoreError::Busy);
    scene.store.errors.lock().unwrap().extend(full);
    let before = scene.world.clock.now();
    let id = scene.accept(&["b@r.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None);
    assert_eq!(scene.states(id).await, [State::Delivered]);
    let took = scene.world.clock.now().duration_since(before);
    assert_eq!(took.as_secs(), 1 + 5 + 15 + 30 + 27 * 60);
    assert_eq!(scene.queue_stopped, 0);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_written_says_that_the_queue_has_stopped() {
    let mut scene = Scene::new(vec![talk(&[HELLO, ONE, BYE])]);
    let error = StoreError::Stopped("sync failed".to_owned());
    scene.store.errors.lock().unwrap().push_back(error);
    let id = scene.accept(&["b@r.example"]).await;
    let report = scene.work(id).await;
    let in_half_an_hour = scene.world.clock.now() + Duration::from_secs(1800);
    assert_eq!(report.due_again, Some(in_half_an_hour));
    assert_eq!(scene.states(id).await, [State::Queued]);
    assert_eq!(scene.queue_stopped, 1);
    let count = |metric| scene.world.events.metrics().get(metric);
    assert_eq!(
        (count(Metric::OutcomesUnwritten), count(Metric::QueueStops)),
        (1, 0),
        "the queue itself has said that it has stopped"
    );
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_deleted_while_it_was_under_way_is_done_with() {
    let mut scene = Scene::new(vec![talk(&[HELLO, ONE, BYE])]);
    let id = scene.accept(&["b@r.example"]).await;
    let error = StoreError::Unknown(id);
    scene.store.errors.lock().unwrap().push_back(error);
    assert_eq!(scene.work(id).await.due_again, None);
    assert_eq!(scene.queue_stopped, 0);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_session_keeps_to_the_number_of_recipients_that_was_learned() {
    let to = |name: &str| {
        format!(
            "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<{name}@r.example>\nC: DATA\n\
             S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 ok\n"
        )
    };
    let mut scene = Scene::new(vec![talk(&[HELLO, &to("b"), &to("c"), BYE])]);
    scene.recipients_max = 1;
    let id = scene.accept(&["b@r.example", "c@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered; 2]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn recipients_refused_for_their_number_go_at_once_in_a_new_transaction() {
    let mut scene = Scene::new(vec![talk(&[
        HELLO,
        "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: RCPT TO:<c@r.example>\nC: DATA\n",
        "S: 250 ok\nS: 250 ok\nS: 452 4.5.3 too many recipients\nS: 354 go\nC: [body]\nS: 250 ok\n",
        "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<c@r.example>\nC: DATA\n",
        "S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 ok\n",
        BYE,
    ])]);
    let id = scene.accept(&["b@r.example", "c@r.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None);
    assert_eq!(scene.states(id).await, [State::Delivered; 2]);
    assert!(
        matches!(scene.flows.as_slice(), [Flow::RecipientsPerTransaction(1)]),
        "{:?}",
        scene.flows
    );
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_closed_while_idle_is_replaced_without_harm() {
    let mut scene = Scene::new(vec![
        talk(&[HELLO, ONE, "S: 421 4.4.2 idle too long\nX: close\n"]),
        talk(&[HELLO, ONE, BYE]),
    ]);
    for _ in 0..2 {
        let id = scene.accept(&["b@r.example"]).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Delivered]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    scene.quit().await;
    assert_eq!(scene.net.dialled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_stalled_handshake_is_answered_by_a_new_connection_in_clear_and_remembered() {
    let starttls = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 STARTTLS\n";
    let in_clear = "C: MAIL FROM:<a@s.example>\nS: 250 ok\nC: RCPT TO:<b@r.example>\nS: 250 ok\n\
        C: DATA\nS: 354 go\nC: [body]\nS: 250 ok\n";
    for how in ["X: close\n", "X: stay\n"] {
        let mut scene = Scene::new(vec![
            talk(&[starttls, "C: STARTTLS\nS: 220 go\n", how]),
            talk(&[starttls, in_clear, BYE]),
        ]);
        let id = scene.accept(&["b@r.example"]).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Delivered], "{how}");
        assert_eq!(scene.net.dialled(), ["mx1.r.example", "mx1.r.example"]);
        let now = scene.world.clock.now();
        assert!(scene.world.tls.is_plain("mx1.r.example", now));
        scene.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_tls_is_required_nothing_is_said_in_clear() {
    let mut scene = Scene::with_tls(
        vec![talk(&[PLAIN, "C: QUIT\n"]), talk(&[PLAIN, "C: QUIT\n"])],
        relay_policy::TlsRequirement::Require,
    );
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let last = scene.last_attempt(id).await;
    assert_eq!(last.phase, Phase::Starttls, "{last:?}");
    assert!(scene.net.bodies().is_empty());
    scene.quit().await;
}

#[tokio::test]
async fn opportunistic_tls_takes_a_self_signed_certificate_and_verify_does_not() {
    let made = rcgen::generate_simple_self_signed(vec!["mx1.r.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key)
    .unwrap();
    let server = Arc::new(server);
    let clear =
        "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n";
    let encrypted = "C: EHLO relay.example\nS: 250-mx\nS: 250 PIPELINING\n";
    let script = || {
        Script::Tls(
            clear.to_owned(),
            [encrypted, ONE, BYE].concat(),
            server.clone(),
        )
    };

    let mut scene = Scene::new(vec![script()]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    let tls = scene.last_attempt(id).await.tls.unwrap();
    assert!(tls.starts_with("TLSv1.3"), "{tls}");
    scene.quit().await;

    let verify = relay_policy::TlsRequirement::Verify;
    let mut scene = Scene::with_tls(vec![script(), script()], verify);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    assert!(scene.net.bodies().is_empty());
    let last = scene.last_attempt(id).await;
    assert_eq!(last.phase, Phase::Starttls, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn an_mx_record_does_not_lead_into_our_own_network() {
    let mut scene = Scene::new(Vec::new());
    let id = scene.accept(&["b@inside.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let last = scene.last_attempt(id).await;
    assert!(last.reply.contains("private address"), "{last:?}");
    assert!(scene.net.dialled().is_empty());
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_goes_in_circles_is_bounced() {
    let mut scene = Scene::new(Vec::new());
    let loops = "Received: x\r\n".repeat(60) + "\r\nhello\r\n";
    let id = scene.accept_body(&["b@r.example"], loops).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Bounced]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_signed_message_carries_its_signature_on_top() {
    let mut scene = Scene::new(vec![talk(&[HELLO, ONE, BYE])]);
    let pem = include_str!("../../../../tests/golden/dkim/ed25519.pem");
    let domain = relay_smtp::Domain::parse("s.example").unwrap();
    let signer = relay_message::dkim::Signer::from_pem(domain, "sel", pem).unwrap();
    scene.sign_with(signer);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    let body = &scene.net.bodies()[0];
    assert!(body.starts_with("DKIM-Signature: "), "{body}");
    assert!(body.contains("\r\nFrom: a@s.example\r\n"), "{body}");
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_gone_ends_its_job() {
    let mut scene = Scene::new(Vec::new());
    let id = relay_smtp::QueueId::from_u64(99);
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn what_expires_without_a_last_try_keeps_its_last_reply() {
    let mut scene = Scene::new(vec![talk(&[
        HELLO,
        "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n",
        "S: 250 ok\nS: 451 4.3.0 no room today\nS: 503 5.5.1 no recipients\n",
        "C: RSET\nS: 250 ok\n",
        BYE,
    ])]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let dispatch = scene.dispatch(id).await;
    let (to, mut from) = mpsc::channel(8);
    let report = expire(scene.world.clone(), dispatch, to).await;
    assert_eq!(report.due_again, None);
    assert_eq!(scene.states(id).await, [State::Bounced]);
    let last = scene.last_attempt(id).await;
    assert!(last.reply.contains("no room today"), "{last:?}");
    assert!(matches!(
        from.recv().await,
        Some(FromSession::Accepted(dsn)) if dsn.arrival.dsn_of == Some(id)
    ));
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_the_dispatcher_has_gone() {
    let scene = Scene::new(Vec::new());
    let (to, from) = mpsc::channel(1);
    drop(from);
    let (_keep, from_dispatcher) = mpsc::channel(1);
    let link = Link {
        session: relay_schedule::SessionId(2),
        site: relay_schedule::SiteId("x".into()),
        hop: NextHop::Relay("x".into()),
        to_dispatcher: to,
        from_dispatcher,
    };
    session(scene.world.clone(), link).await;
}
