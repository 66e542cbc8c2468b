//! What a host cannot take: 8-bit bytes, addresses in UTF-8, size.

use relay_message::dkim::Signer;
use relay_queue::State;
use relay_smtp::Domain;
use relay_smtp::envelope::{Notify, Ret, Wanted};

use super::scene::{Scene, Script, envelope};
use super::{BYE, talk};

const EIGHT_BIT: &str = "From: a@s.example\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\n.un caf\u{e9}\r\n";
const SEVEN_BIT: &str = "From: a@s.example\r\nContent-Type: text/plain; charset=utf-8\r\n\
    MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n.un caf=C3=A9\r\n";
const SENT: &str =
    "S: 250 ok\nC: RCPT TO:<b@r.example>\nS: 250 ok\nC: DATA\nS: 354 go\nC: [body]\nS: 250 taken\n";

/// What a host without 8BITMIME and with SIZE says and hears.
fn seven_bit_host(size: usize) -> Script {
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 SIZE 100000\n";
    let mail = format!("C: MAIL FROM:<a@s.example> SIZE={size}\n");
    talk(&[hello, &mail, SENT, BYE])
}

/// As the reader gets it: dots and final dot taken off.
fn unstuffed(wire: &str) -> String {
    let body = wire.strip_suffix(".\r\n").unwrap();
    body.replace("\r\n..", "\r\n.")
}

#[tokio::test(start_paused = true)]
async fn a_host_without_8bitmime_gets_the_message_converted() {
    let mut scene = Scene::new(vec![seven_bit_host(SEVEN_BIT.len())]);
    let id = scene
        .accept_body(&["b@r.example"], EIGHT_BIT.to_owned())
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert_eq!(unstuffed(&scene.net.bodies()[0]), SEVEN_BIT);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_converted_message_is_signed_as_it_is_sent() {
    let signer = || {
        let pem = include_str!("../../../../../tests/golden/dkim/ed25519.pem");
        Signer::from_pem(Domain::parse("s.example").unwrap(), "sel", pem).unwrap()
    };
    // Large enough to come in several pieces.
    let lines = "0123456789 caf\u{e9}\r\n".repeat(20_000);
    let converted = SEVEN_BIT.to_owned() + &lines.replace('\u{e9}', "=C3=A9");
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let signature = signer().sign(converted.as_bytes(), now).unwrap();
    let signature = String::from_utf8(signature).unwrap();
    let wanted = signature + &converted;

    let mut scene = Scene::new(vec![talk(&[
        "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\nC: MAIL FROM:<a@s.example>\n",
        SENT,
        BYE,
    ])]);
    scene.sign_with(signer());
    let id = scene
        .accept_body(&["b@r.example"], EIGHT_BIT.to_owned() + &lines)
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert!(unstuffed(&scene.net.bodies()[0]) == wanted);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_host_gets_the_form_that_it_can_take() {
    let refuses = "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\nC: MAIL FROM:<a@s.example>\nS: 421 4.3.2 shutting down\n";
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 8BITMIME\n\
        C: MAIL FROM:<a@s.example> BODY=8BITMIME\n";
    let mut scene = Scene::new(vec![talk(&[refuses]), talk(&[hello, SENT, BYE])]);
    let id = scene
        .accept_body(&["b@r.example"], EIGHT_BIT.to_owned())
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert_eq!(unstuffed(&scene.net.bodies()[0]), EIGHT_BIT);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_converted_is_bounced_unsent_and_the_session_goes_on() {
    let signed = "From: a@s.example\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n\
        --x\r\n\r\ncaf\u{e9}\r\n--x--\r\n";
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\n";
    let mut scene = Scene::new(vec![talk(&[
        hello,
        "C: MAIL FROM:<a@s.example>\n",
        SENT,
        BYE,
    ])]);
    let id = scene.accept_body(&["b@r.example"], signed.to_owned()).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Bounced]);
    let report = scene.report_text(0).await;
    assert!(report.contains("Status: 5.6.3"), "{report}");
    assert!(report.contains("8BITMIME"), "{report}");
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_header_in_8_bits_goes_as_it_is() {
    let message = "From: a@s.example\r\nSubject: caf\u{e9}\r\n\r\nhello\r\n";
    let mut scene = Scene::new(vec![seven_bit_host(message.len())]);
    let id = scene
        .accept_body(&["b@r.example"], message.to_owned())
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert_eq!(unstuffed(&scene.net.bodies()[0]), message);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_recipient_whose_address_needs_smtputf8_is_bounced() {
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\nC: MAIL FROM:<a@s.example>\n";
    let mut scene = Scene::new(vec![talk(&[hello, SENT, BYE])]);
    let id = scene.accept(&["\u{fc}ser@r.example", "b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Bounced, State::Delivered]);
    let report = scene.report_text(0).await;
    assert!(report.contains("Status: 5.6.7"), "{report}");
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_size_of_the_host_is_bounced_before_it_is_sent() {
    let mut scene = Scene::new(vec![talk(&[
        "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 SIZE 20\n",
        BYE,
    ])]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Bounced]);
    let report = scene.report_text(0).await;
    assert!(report.contains("Status: 5.3.4"), "{report}");
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn the_wish_for_reports_is_passed_on_or_answered_here() {
    let wish = || {
        let mut envelope = envelope(&["b@r.example"]);
        envelope.envid = Some("QQ17".to_owned());
        envelope.ret = Some(Ret::Headers);
        envelope.recipients[0].notify = Some(Notify::On {
            success: Wanted::Yes,
            failure: Wanted::Yes,
            delay: Wanted::No,
        });
        envelope.recipients[0].orcpt = Some("rfc822;Old@r.example".to_owned());
        envelope
    };
    let body = || "From: a@s.example\r\n\r\nhello\r\n".to_owned();
    let mut scene = Scene::new(vec![talk(&[
        "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 DSN\n",
        "C: MAIL FROM:<a@s.example> RET=HDRS ENVID=QQ17\nS: 250 ok\n",
        "C: RCPT TO:<b@r.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Old@r.example\n",
        "S: 250 ok\nC: DATA\nS: 354 go\nC: [body]\nS: 250 taken\n",
        BYE,
    ])]);
    let id = scene.accept_envelope(wish(), body()).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    assert!(scene.accepted.is_empty());
    scene.quit().await;

    let mut scene = Scene::new(vec![talk(&[
        "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\nC: MAIL FROM:<a@s.example>\n",
        SENT,
        BYE,
    ])]);
    let id = scene.accept_envelope(wish(), body()).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    let report = scene.report_text(0).await;
    for wanted in [
        "Action: relayed",
        "Status: 2.0.0",
        "Original-Envelope-Id: QQ17",
        "Original-Recipient: rfc822; Old@r.example",
    ] {
        assert!(report.contains(wanted), "{wanted}: {report}");
    }
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_so_many_messages_in_a_session_is_sent_no_more() {
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250 LIMITS MAILMAX=2\n";
    let mail = "C: MAIL FROM:<a@s.example>\n";
    let mut scene = Scene::new(vec![
        talk(&[hello, mail, SENT, mail, SENT, BYE]),
        talk(&[hello, mail, SENT, BYE]),
    ]);
    for _ in 0..3 {
        let id = scene.accept(&["b@r.example"]).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Delivered]);
    }
    scene.quit().await;
    assert_eq!(scene.net.dialled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_tried_again_keeps_its_signature_for_a_day() {
    const LATER: &str = "S: 250 ok\nC: RCPT TO:<b@r.example>\nS: 250 ok\nC: DATA\nS: 354 go\nC: [body]\nS: 451 4.3.0 later\n";
    let mail = "C: MAIL FROM:<a@s.example>\n";
    let hello = "S: 220 mx\nC: EHLO relay.example\nS: 250 mx\n";
    let tries = [mail, LATER].concat();
    let mut scene = Scene::new(vec![talk(&[hello, &tries, &tries, &tries, BYE])]);
    let pem = include_str!("../../../../../tests/golden/dkim/rsa.pem");
    let domain = Domain::parse("s.example").unwrap();
    scene.sign_with(Signer::from_pem(domain, "sel", pem).unwrap());
    let id = scene.accept(&["b@r.example"]).await;
    for hours in [0, 12, 13] {
        tokio::time::advance(std::time::Duration::from_secs(3600 * hours)).await;
        scene.work(id).await;
    }
    let times: Vec<String> = scene
        .net
        .bodies()
        .iter()
        .map(|body| signed_at(body))
        .collect();
    let noon = 1_795_348_800;
    let next_day = noon + 25 * 3600;
    assert_eq!(times, [noon, noon, next_day].map(|at| at.to_string()));
    scene.quit().await;
}

/// The t= of the signature.
fn signed_at(message: &str) -> String {
    let (_, behind) = message.split_once(" t=").unwrap();
    behind.split(';').next().unwrap().to_owned()
}
