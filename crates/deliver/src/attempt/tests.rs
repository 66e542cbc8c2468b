//! Sessions against scripted peers, in virtual time, with the queue in memory.

mod scene;

use relay_queue::State;
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

#[tokio::test(start_paused = true)]
async fn a_line_lost_after_the_final_dot_says_that_a_second_copy_may_arise() {
    let lost = || {
        talk(&[
            HELLO,
            "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: DATA\n",
            "S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nX: close\n",
        ])
    };
    // Whether the next host is tried is the table's word; what is kept is the same.
    let mut scene = Scene::new(vec![lost(), lost()]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let last = scene.last_attempt(id).await;
    assert_eq!(last.phase, Phase::Body);
    assert!(last.reply.contains("second copy"), "{last:?}");
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
async fn a_failed_handshake_is_answered_by_a_new_connection_in_clear_and_remembered() {
    let starttls = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 STARTTLS\n";
    let in_clear = "C: MAIL FROM:<a@s.example>\nS: 250 ok\nC: RCPT TO:<b@r.example>\nS: 250 ok\n\
        C: DATA\nS: 354 go\nC: [body]\nS: 250 ok\n";
    let mut scene = Scene::new(vec![
        talk(&[starttls, "C: STARTTLS\nS: 220 go\nX: close\n"]),
        talk(&[starttls, in_clear, BYE]),
    ]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert_eq!(scene.net.dialled(), ["mx1.r.example", "mx1.r.example"]);
    let now = scene.world.clock.now();
    assert!(scene.world.tls.is_plain("mx1.r.example", now));
    scene.quit().await;
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
