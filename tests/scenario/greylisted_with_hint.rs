//! A greylisting reply with a time in it: due again at that time, not before.

use relay_testkit::until;

use crate::{network, relay, submit};

#[test]
fn the_next_attempt_is_at_the_hinted_time_and_flush_brings_it_forward() {
    let network = network();
    let mx = network.mx(
        2,
        "first 1 RCPT => 451 4.7.1 Greylisting in action, please come back in 00:02:00",
    );
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["category"], "greylisted", "{recipient}");

    let list = relay.json(&["queue", "list"]);
    let arrived: jiff::Timestamp = list[0]["arrived"].as_str().unwrap().parse().unwrap();
    let next: jiff::Timestamp = recipient["next_attempt"].as_str().unwrap().parse().unwrap();
    let wait = next.duration_since(arrived).as_secs();
    assert!(
        (120..=200).contains(&wait),
        "2 minutes, jittered upwards only: {wait} s"
    );

    let flushed = relay.relayctl(&["queue", "flush", "--id", &id]);
    assert!(flushed.status.success());
    until("delivered after the flush", || mx.mail().pop());
    relay.drained();
}
