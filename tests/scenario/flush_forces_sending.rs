//! `queue flush`: what is selected is due now; what is not stays where it was.

use relay_testkit::{Network, until};

use crate::{relay, submit, text};

#[test]
fn only_what_is_selected_is_sent() {
    let network = Network::with_zone(
        "one.example MX 10 mx.one.example\nmx.one.example A 127.0.0.2\n\
         two.example MX 10 mx.two.example\nmx.two.example A 127.0.0.3",
    );
    let one = network.mx(2, "first 1 RCPT => 451 4.3.0 later");
    let two = network.mx(3, "first 1 RCPT => 451 4.3.0 later");
    let relay = relay(&network, "[retry.default]\nsteps = [\"1h\"]\n");
    submit(&relay, "app@sender.example", &["a@one.example"]);
    submit(&relay, "app@sender.example", &["b@two.example"]);
    until("both are deferred", || {
        let list = relay.json(&["queue", "list"]);
        let deferred = list
            .iter()
            .filter(|message| message["recipients"][0]["state"] == "deferred")
            .count();
        (deferred == 2).then_some(())
    });

    let flushed = relay.relayctl(&["queue", "flush", "--to", "two.example", "--wait"]);
    assert!(flushed.status.success(), "{}", text(&flushed));
    until("the selected one arrives", || two.mail().pop());
    assert!(one.mail().is_empty(), "the other one waits on");

    relay.relayctl(&["queue", "flush", "--all"]);
    until("the other one arrives", || one.mail().pop());
    relay.drained();
}

#[test]
fn a_dead_site_is_tried_when_flushed() {
    let network =
        Network::with_zone("down.example MX 10 mx.down.example\nmx.down.example A 127.0.0.2");
    let relay = relay(&network, "[retry.default]\nsteps = [\"1h\"]\n");
    let id = submit(&relay, "app@sender.example", &["a@down.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["category"], "no-answer", "{recipient}");
    let mx = network.mx(2, "");
    relay.relayctl(&["queue", "flush", "--id", &id]);
    until("delivered", || mx.mail().pop());
}

#[test]
fn delete_asks_first_and_leaves_no_report() {
    let network =
        Network::with_zone("down.example MX 10 mx.down.example\nmx.down.example A 127.0.0.2");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["a@down.example"]);
    relay.recipient_becomes("deferred");
    let refused = relay.relayctl(&["queue", "delete", "--id", &id]);
    assert_eq!(
        refused.status.code(),
        Some(2),
        "not a terminal, no --yes: {}",
        text(&refused)
    );
    assert_eq!(relay.json(&["queue", "list"]).len(), 1);
    let done = relay.relayctl(&["queue", "delete", "--id", &id, "--yes"]);
    assert!(done.status.success(), "{}", text(&done));
    relay.drained();
}
