//! The real relayd in front of real mail servers: what they say in earnest, and whether all mail arrives, each once.

// A test ends by panicking.
#![allow(clippy::unwrap_used)]

mod exim;
mod mailbox;
mod namespace;
mod opensmtpd;
mod postfix;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use relay_testkit::{Client, Network, Relay, within_patience};

use exim::Exim;
use mailbox::Arrived;
use opensmtpd::OpenSmtpd;
use postfix::Postfix;

/// A real mail server that puts all it takes into one mailbox.
trait Receiver {
    fn mail(&self) -> Vec<Arrived>;
    fn log(&self) -> String;
}

const ZONE: &str = "
    grey.example        MX 10 mx.grey.example
    mx.grey.example     A 127.0.0.2
    limits.example      MX 10 mx.limits.example
    mx.limits.example   A 127.0.0.3
    plain.example       MX 10 mx.plain.example
    mx.plain.example    A 127.0.0.4
    exim.example        MX 10 mx.exim.example
    mx.exim.example     A 127.0.0.5
    open.example        MX 10 mx.open.example
    mx.open.example     A 127.0.0.6
";

/// Waits that suit a greylisting of three seconds.
const SOON: &str = "
    [retry.default]
    steps = [\"1s\"]
    [retry.greylist]
    steps = [\"4s\"]
";

#[test]
fn all_mail_to_a_greylisting_postfix_arrives_once_after_one_more_try() {
    let Some(scene) = Scene::start(Postfix::start) else {
        return;
    };
    const MESSAGES: usize = 100;
    scene.submit(MESSAGES, "grey.example");
    let arrived = scene.arrive(MESSAGES);
    assert_each_once(&arrived);
    let history = scene.history();
    assert_eq!(
        history.get("deferred greylisted"),
        Some(&MESSAGES),
        "{history:?}"
    );
    assert_eq!(
        history.get("delivered success"),
        Some(&MESSAGES),
        "{history:?}"
    );
    assert_eq!(history.len(), 2, "nothing else happened: {history:?}");
}

#[test]
fn the_limits_of_a_postfix_are_learned_and_all_mail_arrives_once() {
    let Some(scene) = Scene::start(Postfix::start) else {
        return;
    };
    const MESSAGES: usize = 40;
    scene.submit(MESSAGES, "limits.example");
    let many: Vec<String> = (0..12)
        .map(|at| format!("many{at}@limits.example"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    Client::connect(scene.relay.submission).submit(SENDER, &many, "Subject: many\n\nto all");
    let arrived = scene.arrive(MESSAGES + many.len());
    assert_each_once(&arrived);
    let history = scene.history();
    assert!(
        history.keys().all(|what| !what.starts_with("bounced")),
        "{history:?}"
    );
    let log = scene.receiver.log();
    for said in [
        "Connection concurrency limit exceeded",
        "Message delivery request rate limit exceeded",
        // Of twelve recipients it took five.
        "nrcpt=5 ",
    ] {
        assert!(log.contains(said), "the limit was never met: {said}");
    }
}

#[test]
fn what_a_postfix_offers_is_used_and_what_is_too_big_for_it_is_never_sent() {
    let Some(scene) = Scene::start(Postfix::start) else {
        return;
    };
    let mut client = Client::connect(scene.relay.submission);
    client.say("EHLO app.test");
    // 8BITMIME, DSN: the report of success is Postfix's own.
    client.say(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME ENVID=e1"));
    client.say("RCPT TO:<eight@plain.example> NOTIFY=SUCCESS");
    client.say("DATA");
    let body = "Subject: eight\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\u{fc}\u{df}e\r\n..\r\n.\r\n";
    client.send(body.as_bytes());
    assert!(client.reply().starts_with("250 "));
    // SMTPUTF8
    let from = client.say(&format!("MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME"));
    assert!(from.starts_with("250 "), "{from}");
    client.say("RCPT TO:<j\u{fc}rgen@plain.example>");
    client.say("DATA");
    client.send("Subject: utf8\r\n\r\nhello\r\n.\r\n".as_bytes());
    assert!(client.reply().starts_with("250 "));
    let large = format!("Subject: large\n\n{}", "0123456789\n".repeat(3000));
    client.submit(SENDER, &["large@plain.example"], &large);

    let arrived = scene.arrive(4);
    let of = |subject: &str| {
        let found = arrived.iter().find(|mail| mail.subject == subject);
        found.unwrap_or_else(|| panic!("{subject} is missing in {arrived:?}"))
    };
    let eight = of("eight");
    assert!(
        eight.text.ends_with("\n\nGr\u{fc}\u{df}e\n.\n"),
        "{}",
        eight.text
    );
    assert!(eight.text.contains("with ESMTPS id"), "{}", eight.text);
    assert_eq!(of("utf8").to, "j\u{fc}rgen@plain.example");
    let report = of("Successful Mail Delivery Report");
    assert!(
        report.text.contains("Original-Envelope-Id: e1"),
        "{}",
        report.text
    );
    let bounce = arrived
        .iter()
        .find(|mail| mail.text.contains("large@plain.example"));
    assert_eq!(bounce.unwrap().to, SENDER);
    let log = scene.receiver.log();
    assert!(!log.contains("message size"), "SIZE was not heeded: {log}");
    let history = scene.history();
    assert_eq!(
        history.get("bounced message-too-big"),
        Some(&1),
        "{history:?}"
    );
}

#[test]
fn the_limits_of_an_exim_are_learned_and_all_mail_arrives_once() {
    let Some(scene) = Scene::start(Exim::start) else {
        return;
    };
    let arrived = scene.all_but_the_large_one_arrive_once(100, "exim.example");
    assert!(
        arrived.iter().all(|mail| mail.text.contains("with esmtps")),
        "in clear"
    );
    let log = scene.receiver.log();
    for said in [
        "too many connections from that IP address",
        "too many recipients",
    ] {
        assert!(log.contains(said), "the limit was never met: {said}");
    }
}

#[test]
fn the_limits_of_an_opensmtpd_are_learned_and_all_mail_arrives_once() {
    let Some(scene) = Scene::start(OpenSmtpd::start) else {
        return;
    };
    let arrived = scene.all_but_the_large_one_arrive_once(60, "open.example");
    let log = scene.receiver.log();
    // The TLS of Debian's 6.8 fails with its own OpenSSL: such a host gets its mail in clear.
    let encrypted = arrived.iter().all(|mail| mail.text.contains("with ESMTPS"));
    assert!(encrypted || log.contains("SSL routines"), "in clear");
    assert!(
        log.contains("Too many recipients: Too many recipients"),
        "the limit was never met"
    );
}

/// Takes the reports: its domain is Postfix's.
const SENDER: &str = "app@plain.example";

struct Scene<R> {
    relay: Relay,
    receiver: R,
    _network: Network,
}

impl<R: Receiver> Scene<R> {
    /// So many messages to one recipient each, one to twelve, and one that is too large, of which a report comes back.
    fn all_but_the_large_one_arrive_once(&self, messages: usize, domain: &str) -> Vec<Arrived> {
        self.submit(messages, domain);
        let many: Vec<String> = (0..12).map(|at| format!("many{at}@{domain}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut client = Client::connect(self.relay.submission);
        let sender = format!("app@{domain}");
        client.submit(&sender, &many, "Subject: many\n\nto all");
        let large = format!("Subject: large\n\n{}", "0123456789\n".repeat(3000));
        client.submit(&sender, &[&format!("large@{domain}")], &large);
        let arrived = self.arrive(messages + many.len() + 1);
        assert_each_once(&arrived);
        let history = self.history();
        let bounced = history
            .iter()
            .filter(|(what, _)| what.starts_with("bounced"));
        let bounced: Vec<_> = bounced
            .map(|(what, count)| (what.as_str(), *count))
            .collect();
        assert_eq!(bounced, [("bounced message-too-big", 1)], "{history:?}");
        arrived
    }

    /// None where the machine does not allow it: only root can start such a server.
    fn start(receiver: impl FnOnce(u16) -> R) -> Option<Scene<R>> {
        if !rustix::process::geteuid().is_root() {
            println!("not proved: only root can start a mail server");
            return None;
        }
        let network = Network::with_zone(ZONE);
        let receiver = receiver(network.port);
        let relay = Relay::start(env!("CARGO_BIN_EXE_relayd"), &network, SOON);
        Some(Scene {
            relay,
            receiver,
            _network: network,
        })
    }

    /// So many messages, each with a number as its subject, to one address each.
    fn submit(&self, messages: usize, domain: &str) {
        let mut client = Client::connect(self.relay.submission);
        for at in 0..messages {
            let message = format!("Subject: {at}\n\nThis is message {at}.");
            client.submit(SENDER, &[&format!("rcpt{at}@{domain}")], &message);
        }
    }

    /// Waits until so many mails have arrived and the queue is empty.
    fn arrive(&self, count: usize) -> Vec<Arrived> {
        let mut seen = 0;
        // As long as mail keeps coming there is reason to wait.
        while seen < count {
            let more =
                within_patience(|| Some(self.receiver.mail().len()).filter(|all| *all > seen));
            let left = || self.relay.json(&["queue", "list"]);
            seen = more.unwrap_or_else(|| panic!("{seen} of {count} have arrived: {:?}", left()));
        }
        self.relay.drained();
        self.receiver.mail()
    }

    /// How many recipients had which end or delay, by outcome and category.
    fn history(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.relay.json(&["log"]) {
            let word = |key: &str| entry[key].as_str().unwrap_or_default();
            let event = word("event").strip_prefix("recipient_").unwrap_or_default();
            if ["delivered", "deferred", "bounced"].contains(&event) {
                let what = format!("{event} {}", word("category"));
                *counts.entry(what).or_default() += 1;
            }
        }
        counts
    }
}

fn assert_each_once(arrived: &[Arrived]) {
    let mut copies: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for mail in arrived {
        *copies.entry((&mail.to, &mail.subject)).or_default() += 1;
    }
    copies.retain(|_, count| *count > 1);
    assert!(copies.is_empty(), "more than once: {copies:?}");
}

/// `cert.pem` and `key.pem` that nobody trusts.
fn make_certificate(dir: &Path) {
    run(Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=mx.real.example", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem")));
}

fn run(command: &mut Command) {
    let output = command.output().expect("tests/run installs it");
    assert!(output.status.success(), "{output:?}");
}
