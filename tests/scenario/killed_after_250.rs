//! kill -9 after the 250: nothing is lost, and nothing is forgotten of what was tried.

use relay_testkit::{Client, until};

use crate::{MESSAGE, network, relay, submit};

#[test]
fn every_message_with_a_250_is_delivered_after_a_kill() {
    let network = network();
    let mut relay = relay(&network, "[retry.default]\nsteps = [\"1h\"]\n");
    let mut client = Client::connect(relay.submission);
    let ids: Vec<String> = (0..50)
        .map(|number| {
            client.submit(
                "app@sender.example",
                &[&format!("r{number}@rcpt.example")],
                MESSAGE,
            )
        })
        .collect();
    relay.kill();

    let mx = network.mx(2, "");
    relay.restart();
    relay.relayctl(&["queue", "flush"]);
    until("all are delivered", || {
        (mx.mail().len() >= ids.len()).then_some(())
    });
    relay.drained();
    let mut expected: Vec<String> = (0..50)
        .map(|number| format!("r{number}@rcpt.example"))
        .collect();
    expected.sort();
    assert_eq!(
        mx.recipients(),
        expected,
        "each once: the peer never had a body before the kill"
    );
}

#[test]
fn attempts_due_time_reply_and_rule_survive() {
    let network = network();
    let _mx = network.mx(2, "RCPT => 450 4.2.0 Mailbox busy");
    let mut relay = relay(&network, "[retry.default]\nsteps = [\"1h\"]\n");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let before = relay.recipient_becomes("deferred");
    relay.restart();
    let list = relay.json(&["queue", "list", "--id", &id]);
    let after = &list[0]["recipients"][0];
    for key in [
        "state",
        "attempts",
        "next_attempt",
        "last_reply",
        "rule",
        "category",
    ] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(after["attempts"], 1);
}
