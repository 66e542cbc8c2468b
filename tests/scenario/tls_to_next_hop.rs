//! STARTTLS where it is offered, clear text where it fails, never less than required.

use relay_testkit::until;

use crate::{network, relay, submit};

#[test]
fn starttls_is_used_when_offered_even_with_a_certificate_nobody_knows() {
    let network = network();
    let mx = network.mx_with_tls(2, "");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("delivered", || mx.mail().pop());
    assert!(mail.tls);
    relay.drained();
    let shown = relay
        .json(&["queue", "show", &id])
        .pop()
        .expect("remembered");
    let tls = shown["recipients"][0]["history"][0]["tls"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(tls.starts_with("TLSv1."), "{shown}");
}

#[test]
fn a_broken_handshake_falls_back_to_clear_text_in_a_new_connection() {
    let network = network();
    // It promises TLS and speaks none: the 220 is followed by nothing a handshake could use.
    let mx = network.mx(
        2,
        "EHLO => 250 mx.test\\nSTARTTLS\\nPIPELINING\nSTARTTLS => 220 2.0.0 go & close",
    );
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("delivered in clear", || mx.mail().pop());
    assert!(!mail.tls);
    assert!(mail.session >= 2, "a new connection");
}

#[test]
fn tls_that_is_required_and_not_offered_keeps_the_mail_back() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(
        &network,
        "[[limit]]\nto = [\"rcpt.example\"]\ntls = \"require\"\n",
    );
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["category"], "tls-required", "{recipient}");
    assert!(mx.mail().is_empty());
    assert!(
        !mx.log().iter().any(|line| line.contains("MAIL FROM")),
        "not even the sender is said in clear"
    );
}
