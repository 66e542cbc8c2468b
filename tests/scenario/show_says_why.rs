//! `queue show` and `status` tell why mail is still here and what can be done.

use relay_testkit::{Network, until};

use crate::{network, relay, submit, text};

const SHARED: &str = "
    one.example         MX 10 mx.shared.example
    mx.shared.example   A 127.0.0.2
";

fn assert_has(said: &str, all: &[&str]) {
    for words in all {
        assert!(said.contains(words), "{words} is missing in:\n{said}");
    }
}

#[test]
fn a_deferred_message_shows_its_rule_and_how_to_try_it_now() {
    let network = network();
    let _mx = network.mx(2, "RCPT TO => 452 4.2.2 Mailbox full");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.recipient_becomes("deferred");
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    assert_has(
        &shown,
        &[
            "waits for its next attempt at ",
            "UTC (in ",
            "Next try  ",
            "Expires   ",
            "452 4.2.2 Mailbox full",
            "Rule      mailbox-full",
            "Meaning   ",
            &format!("relayctl queue flush --wait --id {id}"),
        ],
    );
}

#[test]
fn a_suspended_site_is_named_with_its_rule_and_the_fix() {
    let network = Network::with_zone(SHARED);
    let _mx = network.mx(
        2,
        "RCPT TO => 550 5.7.1 Service unavailable; client host is listed on the block list dnsbl.example.net",
    );
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@one.example"]);
    relay.recipient_becomes("deferred");
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    assert_has(
        &shown,
        &[
            "site mx.shared.example suspended until ",
            "block-listed",
            "To do     ",
        ],
    );
    let status = text(&relay.relayctl(&["status"]));
    assert_has(
        &status,
        &[
            "mx.shared.example",
            "suspended 1h",
            "block-listed",
            "To do     ",
            "relayctl queue flush --site SITE",
        ],
    );
}

#[test]
fn a_message_that_waits_for_the_rate_says_so() {
    let network = Network::with_zone(SHARED);
    let mx = network.mx(2, "");
    let relay = relay(&network, "[[limit]]\nto = [\"*\"]\nrate = \"1/h\"\n");
    submit(&relay, "app@sender.example", &["a@one.example"]);
    until("the first one goes", || mx.mail().pop());
    let id = submit(&relay, "app@sender.example", &["b@one.example"]);
    until("the second one waits for the rate", || {
        let shown = text(&relay.relayctl(&["queue", "show", &id]));
        shown
            .contains("site mx.shared.example: rate 1/h reached")
            .then_some(())
    });
}
