//! 550 for one recipient of three: two are delivered, the sender is told of the third.

use relay_testkit::until;

use crate::{network, relay, submit};

#[test]
fn two_are_delivered_and_the_sender_gets_a_report_about_the_third() {
    let network = network();
    let mx = network.mx(2, "RCPT TO:<b@ => 550 5.1.1 No such user here");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    submit(
        &relay,
        "app@sender.example",
        &["a@rcpt.example", "b@rcpt.example", "c@rcpt.example"],
    );

    let dsn = until("the DSN arrives", || sender.mail().pop());
    relay.drained();
    assert_eq!(mx.recipients(), ["a@rcpt.example", "c@rcpt.example"]);
    assert_eq!(mx.mail().len(), 1, "one transaction for both");
    assert_eq!(
        (dsn.from.as_str(), dsn.to.as_slice()),
        ("", &["app@sender.example".to_owned()][..])
    );
    for part in [
        "Content-Type: multipart/report",
        "Final-Recipient: rfc822; b@rcpt.example",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 No such user here",
        "Remote-MTA: dns; mx.rcpt.example",
        "Subject: hello",
    ] {
        assert!(
            dsn.data.contains(part),
            "{part} is missing in:\n{}",
            dsn.data
        );
    }
    for other in ["a@rcpt.example", "c@rcpt.example"] {
        assert!(
            !dsn.data
                .contains(&format!("Final-Recipient: rfc822; {other}")),
            "{other} was delivered"
        );
    }
}

#[test]
fn a_message_from_the_null_path_never_gets_a_report() {
    let network = network();
    let _mx = network.mx(2, "RCPT => 550 5.1.1 No such user here");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    let id = submit(&relay, "", &["b@rcpt.example"]);
    let shown = until("the recipient is bounced", || {
        let shown = relay.json(&["queue", "show", &id]).pop()?;
        (shown["recipients"][0]["state"] == "bounced").then_some(shown)
    });
    assert_eq!(
        shown["recipients"][0]["category"], "invalid-recipient",
        "{shown}"
    );
    relay.drained();
    assert!(sender.mail().is_empty());
}
