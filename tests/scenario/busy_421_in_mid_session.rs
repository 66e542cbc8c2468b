//! 421 in the middle of a session ends the session, not the mail.

use relay_testkit::until;

use crate::{QUICK_RETRY, network, relay, submit};

#[test]
fn unanswered_recipients_are_tried_again_and_refused_ones_stay_refused() {
    let network = network();
    let mx = network.mx(2, "RCPT TO:<a@ => 550 5.1.1 No such user\nfirst 1 RCPT TO:<c@ => 421 4.3.2 Shutting down & close");
    let sender = network.mx(3, "");
    let relay = relay(&network, QUICK_RETRY);
    submit(
        &relay,
        "app@sender.example",
        &[
            "a@rcpt.example",
            "b@rcpt.example",
            "c@rcpt.example",
            "d@rcpt.example",
        ],
    );

    until("all but the refused one arrive", || {
        (mx.recipients().len() == 3).then_some(())
    });
    relay.drained();
    assert_eq!(
        mx.recipients(),
        ["b@rcpt.example", "c@rcpt.example", "d@rcpt.example"]
    );
    let dsns = sender.mail();
    assert_eq!(dsns.len(), 1);
    assert!(
        dsns[0]
            .data
            .contains("Final-Recipient: rfc822; a@rcpt.example"),
        "{}",
        dsns[0].data
    );
    let tries = mx
        .log()
        .iter()
        .filter(|line| line.contains("RCPT TO:<a@"))
        .count();
    assert_eq!(
        tries, 1,
        "a recipient that was refused for good is not tried again"
    );
}
