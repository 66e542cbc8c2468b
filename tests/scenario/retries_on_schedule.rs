//! A temporary refusal is tried again on the schedule, and given up at the maximum age.

use relay_testkit::until;

use crate::{QUICK_RETRY, network, relay, submit};

#[test]
fn a_451_is_tried_again_and_delivered() {
    let network = network();
    let mx = network.mx(2, "first 2 RCPT => 451 4.3.0 Try again later");
    let relay = relay(&network, QUICK_RETRY);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert!(
        recipient["last_reply"]
            .as_str()
            .is_some_and(|reply| reply.starts_with("451 4.3.0")),
        "{recipient}"
    );
    assert!(
        recipient["rule"]
            .as_str()
            .is_some_and(|rule| !rule.is_empty()),
        "no decision without a name: {recipient}"
    );
    until("delivered at the third try", || mx.mail().pop());
    relay.drained();
    assert_eq!(mx.mail().len(), 1);
}

#[test]
fn what_stays_refused_is_bounced_at_the_maximum_age_with_the_last_reply() {
    let network = network();
    let _mx = network.mx(2, "RCPT => 451 4.3.0 Never mind");
    let sender = network.mx(3, "");
    let relay = relay(
        &network,
        "[retry.default]\nsteps = [\"1s\"]\nmax_age = \"3s\"\n",
    );
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let dsn = until("the DSN arrives", || sender.mail().pop());
    assert_eq!(dsn.from, "", "a DSN has the null reverse-path");
    assert!(dsn.data.contains("Action: failed"), "{}", dsn.data);
    assert!(dsn.data.contains("451 4.3.0 Never mind"), "{}", dsn.data);
    relay.drained();
}
