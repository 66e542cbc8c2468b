//! Reload: a good file takes effect, a bad one is refused and the old one stays.

use relay_testkit::{Client, until};
use rustix::process::Signal;

use crate::{network, relay, submit, text};

#[test]
fn a_bad_file_is_refused_and_a_good_one_takes_effect() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, "[submission]\nrecipients_max = 100\n");

    relay.edit_settings("recipients_max = 100", "recipients_max = \"many\"");
    let refused = relay.relayctl(&["reload"]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(
        text(&refused).contains("recipients_max"),
        "{}",
        text(&refused)
    );
    submit(&relay, "app@sender.example", &["still@rcpt.example"]);
    until("the old configuration still works", || mx.mail().pop());

    relay.edit_settings("recipients_max = \"many\"", "recipients_max = 1");
    relay.signal(Signal::HUP);
    until("the new limit holds", || {
        let mut client = Client::connect(relay.submission);
        client.say("EHLO app.test");
        client.say("MAIL FROM:<a@sender.example>");
        client.say("RCPT TO:<a@rcpt.example>");
        client
            .say("RCPT TO:<b@rcpt.example>")
            .starts_with("452 4.5.3")
            .then_some(())
    });
}
