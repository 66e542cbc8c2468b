//! Reload: a good file takes effect, a bad one is refused and the old one stays.

use relay_testkit::{Client, until};
use rustix::process::Signal;

use crate::{network, relay, submit, text};

#[test]
fn a_bad_file_is_refused_and_a_good_one_takes_effect() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, "[submission]\nmessage_bytes_max = \"10MiB\"\n");

    relay.edit_settings("\"10MiB\"", "\"much\"");
    let refused = relay.relayctl(&["reload"]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(
        text(&refused).contains("message_bytes_max"),
        "{}",
        text(&refused)
    );
    submit(&relay, "app@sender.example", &["still@rcpt.example"]);
    until("the old configuration still works", || mx.mail().pop());
    let offer = Client::connect(relay.submission).say("EHLO app.test");
    assert!(offer.contains("SIZE 10485760"), "{offer}");

    relay.edit_settings("\"much\"", "\"1MiB\"");
    relay.signal(Signal::HUP);
    until("the new limit is announced", || {
        let offer = Client::connect(relay.submission).say("EHLO app.test");
        offer.contains("SIZE 1048576").then_some(())
    });
}
