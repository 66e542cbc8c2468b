//! Reports that come back: they are read, told in the history, lead to the suppression list, and count only for
//! mail that was sent there. What is no report goes to a person, or back.

use relay_testkit::{Client, Mx, Network, Relay, until};
use serde_json::Value;

use crate::{ZONE, network, text};

const REPORTS: &str = "[reports]\naddresses = [\"bounces@relay.test\"]\n";

#[test]
fn a_bounce_that_comes_back_is_told_and_suppresses_the_address() {
    let (_network, mx, relay) = scene(REPORTS);
    let (id, head) = delivered(&relay, &mx);
    let report = dsn("you@rcpt.example", "550 5.1.1 Unknown user", &head);
    assert!(hand_in(&relay, "bounces+x@relay.test", &report).starts_with("250 2.0.0 report taken"));
    let told = log_entry(&relay, &id);
    assert_eq!(told["recipient"], "you@rcpt.example");
    assert_eq!(told["action"], "failed");
    assert!(told["rule"].is_string(), "{told}");
    let list = relay.json(&["suppression", "list"]);
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["address"], "you@rcpt.example");
    assert_eq!(list[0]["message"], id.as_str());
    // It was no mail of its own.
    assert!(relay.json(&["queue", "list"]).is_empty());
    assert_eq!(mx.mail().len(), 1);
}

#[test]
fn a_full_mailbox_further_on_is_told_and_suppresses_nobody() {
    let (_network, mx, relay) = scene(REPORTS);
    let (id, head) = delivered(&relay, &mx);
    let report = dsn("you@rcpt.example", "552 5.2.2 Mailbox full", &head);
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("250 "));
    assert_eq!(log_entry(&relay, &id)["action"], "failed");
    assert!(relay.json(&["suppression", "list"]).is_empty());
}

#[test]
fn a_complaint_keeps_its_reader_from_further_mail() {
    let (_network, mx, relay) = scene(REPORTS);
    let (id, head) = delivered(&relay, &mx);
    let fields = "Feedback-Type: abuse\nUser-Agent: Test/1\nVersion: 1\n";
    let report = multipart("feedback-report", fields, &head);
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("250 "));
    assert_eq!(log_entry(&relay, &id)["action"], "complaint");
    let list = relay.json(&["suppression", "list"]);
    assert_eq!(list[0]["address"], "you@rcpt.example");
    assert_eq!(list[0]["source"], "report");
    assert_eq!(list[0]["category"], "complaint");
}

#[test]
fn a_sender_made_for_one_recipient_tells_whom_a_report_is_about_whatever_that_says() {
    let (_network, mx, relay) = scene_with_verp();
    let (id, _) = delivered(&relay, &mx);
    let sender = mx.mail()[0].from.clone();
    assert_eq!(sender, format!("b-{id}-you=rcpt.example@relay.test"));
    // About the address that it was forwarded to, and without anything of the message itself.
    let report = dsn(
        "box17@inside.example",
        "550 5.1.1 Unknown user",
        "Subject: x",
    );
    let taken = hand_in(&relay, &sender, &report);
    assert!(taken.starts_with("250 2.0.0 report taken"), "{taken}");
    let told = log_entry(&relay, &id);
    assert_eq!(told["recipient"], "you@rcpt.example");
    assert_eq!(told["action"], "failed");
    let list = relay.json(&["suppression", "list"]);
    assert_eq!(list[0]["address"], "you@rcpt.example");
    assert!(relay.json(&["queue", "list"]).is_empty());
}

#[test]
fn a_bounce_that_no_machine_is_meant_to_read_is_read_where_its_address_tells_whom_it_is_about() {
    let (_network, mx, relay) = scene_with_verp();
    let (id, _) = delivered(&relay, &mx);
    let sender = mx.mail()[0].from.clone();
    let bounce = "From: MAILER-DAEMON@far.example\nSubject: failure notice\n\n\
        Hi. This is the mail program at far.example.\n\n<box17@inside.example>:\n\
        192.0.2.7 does not like recipient.\nRemote host said: 550 5.1.1 Unknown user\n";
    assert!(hand_in(&relay, &sender.to_uppercase(), bounce).starts_with("250 2.0.0 report taken"));
    let told = log_entry(&relay, &id);
    assert_eq!(told["recipient"], "you@rcpt.example");
    assert_eq!(told["action"], "failed");
    let reply = told["reply"].as_str().unwrap();
    assert!(reply.contains("550 5.1.1 Unknown user"), "{told}");
    let list = relay.json(&["suppression", "list"]);
    assert_eq!(list[0]["address"], "you@rcpt.example");
    // An automatic answer comes to the same address and is none.
    let away = "From: you@rcpt.example\nSubject: out of office\nAuto-Submitted: auto-replied\n\nUntil Monday.\n";
    assert!(hand_in(&relay, &sender, away).starts_with("554 5.6.0 "));
    // Elsewhere nobody knows whom such a text is about.
    assert!(hand_in(&relay, "bounces@relay.test", bounce).starts_with("554 5.6.0 "));
}

#[test]
fn a_made_sender_that_names_somebody_else_counts_for_nothing() {
    let (_network, mx, relay) = scene_with_verp();
    let (id, head) = delivered(&relay, &mx);
    for (forged, whom, head) in [
        (
            format!("b-{id}-victim=rcpt.example@relay.test"),
            "victim",
            head.as_str(),
        ),
        (
            "b-1agf7aan0000-you=rcpt.example@relay.test".to_owned(),
            "you",
            "Subject: x",
        ),
    ] {
        let report = dsn(
            &format!("{whom}@rcpt.example"),
            "550 5.1.1 Unknown user",
            head,
        );
        let refused = hand_in(&relay, &forged, &report);
        assert!(refused.starts_with("554 5.6.0 "), "{forged}: {refused}");
    }
    assert!(relay.json(&["suppression", "list"]).is_empty());
}

#[test]
fn the_envelope_id_that_went_with_a_made_sender_tells_which_message_it_was() {
    let (network, _mx, relay) = scene_with_verp();
    let mx = network.mx(3, "EHLO => 250 mx\\nDSN");
    let id = crate::submit(&relay, "app@sender.example", &["you@sender.example"]);
    until("delivered", || mx.mail().pop());
    relay.drained();
    let sender = format!("MAIL FROM:<b-{id}-you=sender.example@relay.test>");
    let (said, _) = mx.clients_of(&sender).remove(0);
    assert!(said.contains(&format!(" ENVID={id}")), "{said}");
    let report = dsn("you@sender.example", "552 5.2.2 Mailbox full", "Subject: x");
    let fields = format!("Original-Envelope-Id: {id}\nReporting-MTA");
    let report = report.replacen("Reporting-MTA", &fields, 1);
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("250 "));
    assert_eq!(log_entry(&relay, &id)["recipient"], "you@sender.example");
}

#[test]
fn a_complaint_without_its_reader_is_about_whom_its_sender_names() {
    let (_network, mx, relay) = scene_with_verp();
    let (id, _) = delivered(&relay, &mx);
    let sender = &mx.mail()[0].from;
    let fields = format!("Feedback-Type: abuse\nOriginal-Mail-From: <{sender}>\nVersion: 1\n");
    let report = multipart("feedback-report", &fields, "Subject: x");
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("250 "));
    let told = log_entry(&relay, &id);
    assert_eq!(told["action"], "complaint");
    assert_eq!(told["recipient"], "you@rcpt.example");
}

#[test]
fn what_counts_for_nothing_goes_to_a_person_or_back_and_is_never_dropped() {
    let (_network, mx, relay) = scene(REPORTS);
    let (_, head) = delivered(&relay, &mx);
    // Of our message, but about somebody it never went to.
    let forged = dsn("victim@rcpt.example", "550 5.1.1 Unknown user", &head);
    let plain = "From: a@b.example\nSubject: out of office\n\nI am away.\n".to_owned();
    for report in [&forged, &plain] {
        let refused = hand_in(&relay, "bounces@relay.test", report);
        assert!(refused.starts_with("554 5.6.0 "), "{refused}");
    }
    assert!(relay.json(&["suppression", "list"]).is_empty());
    let person = "addresses = [\"bounces@relay.test\"]\nunread_to = \"person@rcpt.example\"\n";
    relay.edit_settings("addresses = [\"bounces@relay.test\"]\n", person);
    let reloaded = relay.relayctl(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    assert!(hand_in(&relay, "bounces@relay.test", &forged).starts_with("250 "));
    let mail = until("a person gets it", || {
        mx.mail()
            .into_iter()
            .find(|mail| mail.to == ["person@rcpt.example"])
    });
    assert!(mail.data.contains("victim@rcpt.example"));
    assert!(relay.json(&["suppression", "list"]).is_empty());
}

#[test]
fn strangers_may_bring_reports_where_that_is_allowed_and_nothing_else() {
    let (_network, mx, relay) = scene(REPORTS);
    let (id, head) = delivered(&relay, &mx);
    // From now on everybody is a stranger.
    let before = "trusted = [\"127.0.0.0/8\"]\n";
    relay.edit_settings(before, "trusted = []\n");
    relay.relayctl(&["reload"]);
    let report = dsn("you@rcpt.example", "550 5.1.1 Unknown user", &head);
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("550 5.7.1"));
    relay.edit_settings("trusted = []\n", "trusted = []\nreports = true\n");
    let reloaded = relay.relayctl(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    assert!(hand_in(&relay, "you@rcpt.example", &report).starts_with("550 5.7.1"));
    assert!(hand_in(&relay, "bounces@relay.test", &report).starts_with("250 "));
    assert_eq!(log_entry(&relay, &id)["action"], "failed");
}

fn scene(settings: &str) -> (Network, Mx, Relay) {
    let network = network();
    let mx = network.mx(2, "");
    let relay = crate::relay(&network, settings);
    assert!(ZONE.contains("127.0.0.2"));
    (network, mx, relay)
}

/// Each recipient has a sender of its own.
fn scene_with_verp() -> (Network, Mx, Relay) {
    let (network, mx, relay) = scene(REPORTS);
    let verp = "[delivery]\nverp = \"b-{id}-{recipient}@relay.test\"\n";
    relay.edit_settings("[delivery]\n", verp);
    let reloaded = relay.relayctl(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    (network, mx, relay)
}

/// One message that was delivered: its id, and its header as it arrived.
fn delivered(relay: &Relay, mx: &Mx) -> (String, String) {
    let id = crate::submit(relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("delivered", || mx.mail().pop());
    relay.drained();
    let (head, _) = mail.data.split_once("\r\n\r\n").unwrap();
    (id, head.replace("\r\n", "\n"))
}

fn dsn(recipient: &str, said: &str, head: &str) -> String {
    let status = said.split(' ').nth(1).unwrap();
    let fields = format!(
        "Reporting-MTA: dns; far.example\n\nFinal-Recipient: rfc822; {recipient}\nAction: failed\n\
         Status: {status}\nDiagnostic-Code: smtp; {said}\n"
    );
    multipart("delivery-status", &fields, head)
}

fn multipart(kind: &str, fields: &str, head: &str) -> String {
    format!(
        "From: MAILER-DAEMON@far.example\nSubject: report\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type={kind}; boundary=\"b\"\n\n\
         --b\n\nSorry.\n--b\nContent-Type: message/{kind}\n\n{fields}\n--b\n\
         Content-Type: text/rfc822-headers\n\n{head}\n--b--\n"
    )
}

/// The last reply: to RCPT where that is refused, else to the end of data.
fn hand_in(relay: &Relay, to: &str, message: &str) -> String {
    let mut client = Client::connect(relay.submission);
    client.say("EHLO far.example");
    client.say("MAIL FROM:<>");
    let answer = client.say(&format!("RCPT TO:<{to}>"));
    if !answer.starts_with("250") {
        return answer;
    }
    assert!(client.say("DATA").starts_with("354"));
    client.say(&format!("{}\r\n.", message.replace('\n', "\r\n")))
}

fn log_entry(relay: &Relay, id: &str) -> Value {
    until("the history has the report", || {
        let story = relay.json(&["log", id]);
        story
            .into_iter()
            .find(|entry| entry["event"] == "report_received")
    })
}
