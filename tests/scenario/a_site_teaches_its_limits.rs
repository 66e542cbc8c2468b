//! What a site refuses for being too much is tried in smaller parts, and remembered.

use relay_testkit::until;

use crate::{QUICK_RETRY, network, relay, submit};

#[test]
fn ten_recipients_go_in_one_run_where_three_are_taken_at_a_time() {
    let network = network();
    // The fourth RCPT of the first transaction, then three at a time.
    let mx = network.mx(
        2,
        "first 1 RCPT TO:<u3@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u4@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u5@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u6@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u7@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u8@ => 452 4.5.3 Too many recipients\n\
         first 1 RCPT TO:<u9@ => 452 4.5.3 Too many recipients",
    );
    let mut relay = relay(&network, "");
    let to: Vec<String> = (0..10).map(|n| format!("u{n}@rcpt.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    submit(&relay, "app@sender.example", &to);
    until("all ten arrive", || {
        (mx.recipients().len() == 10).then_some(())
    });
    relay.drained();
    let sizes: Vec<usize> = mx.mail().iter().map(|mail| mail.to.len()).collect();
    assert_eq!(sizes, [3, 3, 3, 1], "in one run, three at a time");
    let learned = |relay: &relay_testkit::Relay| {
        let sites = relay.json(&["site", "list"]);
        let site = sites.iter().find(|site| site["site"] == "mx.rcpt.example");
        site.map_or(0, |site| {
            site["recipients_per_transaction"].as_u64().unwrap()
        })
    };
    assert_eq!(learned(&relay), 3);
    until("what was learned is written", || {
        let text = std::fs::read_to_string(relay.dir().join("state/sites.json")).ok()?;
        text.contains("\"most\":3").then_some(())
    });
    relay.restart();
    submit(&relay, "app@sender.example", &to);
    until("all ten arrive again", || {
        (mx.recipients().len() == 20).then_some(())
    });
    let sizes: Vec<usize> = mx.mail().iter().skip(4).map(|mail| mail.to.len()).collect();
    assert_eq!(sizes, [3, 3, 3, 1], "remembered over the restart");
}

#[test]
fn too_many_connections_lower_the_concurrency_and_bounce_nothing() {
    let network = network();
    let mx = network.mx(
        2,
        "above 2 CONNECT => 421 4.7.0 Too many connections from your address & close",
    );
    let sender = network.mx(3, "");
    let relay = relay(&network, QUICK_RETRY);
    let to = |n: u32| format!("u{n}@rcpt.example");
    submit(&relay, "app@sender.example", &[&to(0)]);
    relay.drained();
    // Held back until all are there, since single ones are gone before the next is handed in.
    relay.relayctl(&["site", "suspend", "rcpt.example"]);
    for n in 1..=30 {
        submit(&relay, "app@sender.example", &[&to(n)]);
    }
    relay.relayctl(&["site", "resume", "rcpt.example"]);
    // A session that the host has closed may still count here when the next is refused: then it takes one refusal more.
    let site = until("the site is slowed down, to as many as are taken", || {
        let sites = relay.json(&["site", "list"]);
        let mut slowed = sites
            .into_iter()
            .filter(|site| site["site"] == "mx.rcpt.example" && !site["slow_until"].is_null());
        slowed.find(|site| site["connections"].as_u64().unwrap() <= 2)
    });
    assert_eq!(site["why"], "too-many-connections", "{site}");
    assert!(site["suspended_until"].is_null(), "it is not dead: {site}");
    until("all arrive", || {
        relay.relayctl(&["queue", "flush"]);
        (mx.recipients().len() == 31).then_some(())
    });
    relay.drained();
    assert!(sender.mail().is_empty(), "nothing bounced");
}

#[test]
fn a_first_host_that_refuses_the_session_leaves_the_mail_to_the_second() {
    let network = relay_testkit::Network::with_zone(
        "two.example         MX 10 mx1.two.example
         two.example         MX 20 mx2.two.example
         mx1.two.example     A 127.0.0.5
         mx2.two.example     A 127.0.0.6",
    );
    let first = network.mx(5, "CONNECT => 554 5.3.2 No SMTP service here & close");
    let second = network.mx(6, "RCPT => 251 2.1.5 User not local; will forward");
    let relay = relay(&network, "");
    submit(&relay, "", &["you@two.example"]);
    until("a 251 is an acceptance, and the 250 a delivery", || {
        second.mail().pop()
    });
    relay.drained();
    assert!(first.mail().is_empty());
}

#[test]
fn a_host_that_wants_tls_gets_it_at_once() {
    let network = network();
    let mx = network.mx_with_tls(
        2,
        "first 1 STARTTLS => 454 4.7.0 TLS not available due to temporary reason\n\
         first 1 MAIL => 530 5.7.0 Must issue a STARTTLS command first",
    );
    let relay = relay(&network, QUICK_RETRY);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("it arrives", || mx.mail().pop());
    assert!(mail.tls, "{:?}", mx.log());
    relay.drained();
}
