//! The connection is lost while the body is on its way, or after it: tried again.

use crate::{QUICK_RETRY, network, relay, submit};

#[test]
fn a_body_lost_halfway_is_sent_again_and_arrives_once() {
    let network = network();
    let mx = network.mx(2, "first 1 BODY => close");
    let relay = relay(&network, QUICK_RETRY);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.drained();
    assert_eq!(mx.mail().len(), 1);
    assert!(mx.sessions() >= 2);
}

#[test]
fn silence_after_the_final_dot_is_an_unknown_outcome_and_is_tried_again() {
    let network = network();
    let mx = network.mx(2, "first 1 . => close");
    let relay = relay(&network, QUICK_RETRY);
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.drained();
    assert_eq!(mx.mail().len(), 1);
    let shown = relay
        .json(&["queue", "show", &id])
        .pop()
        .expect("a finished message is remembered");
    let attempts = shown["recipients"][0]["history"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(attempts.len(), 2, "{shown}");
    assert!(
        attempts[0]["reply"]
            .as_str()
            .is_some_and(|reply| reply.contains("second copy")),
        "the operator is told that the message may arrive twice: {shown}"
    );
}
