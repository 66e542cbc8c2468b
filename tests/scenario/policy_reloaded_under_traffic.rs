//! Rules of one's own come in while mail flows: a file with a mistake changes nothing, a right one decides from then on,
//! and no message is lost or doubled by it.

use std::sync::atomic::{AtomicBool, Ordering};

use relay_testkit::{Client, Relay, until};
use serde_json::Value;

use crate::{MESSAGE, network, relay, submit, text};

const RIGHT: &str = "[[rule]]\nname = \"zebra-waits\"\ncode = [\"550\"]\ntext = 'zebra'\n\
                     category = \"policy-rejected\"\naction = \"hold\"\nexample = \"550 5.7.1 Zebra says no\"\n";

#[test]
fn a_wrong_file_is_refused_as_a_whole_and_a_right_one_decides_and_nothing_is_lost() {
    let network = network();
    let mx = network.mx(2, "RCPT TO:<odd => 550 5.7.1 Zebra says no");
    let sender = network.mx(3, "");
    let relay = relay(&network, "[policy]\nfiles = [\"DIR/policy.d/*.toml\"]\n");
    let directory = relay.dir().join("policy.d");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("10-own.toml");
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&relay, &stop));
        // Also if an assertion below fails.
        let _stop = OnDrop(&stop);

        let before = decided(&relay, "odd1@rcpt.example");
        assert_ne!(before["rule"], "zebra-waits", "{before}");
        until("the report arrives", || sender.mail().pop());

        let wrong = format!(
            "{RIGHT}\n[[rule]]\nname = \"b\"\ncategory = \"greylist\"\naction = \"defer\"\n"
        );
        std::fs::write(&file, wrong).unwrap();
        let refused = relay.relayctl(&["reload"]);
        assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
        let said = text(&refused);
        assert!(
            said.contains("10-own.toml:11: category = \"greylist\""),
            "{said}"
        );
        assert!(said.contains("greylisted"), "what to write instead: {said}");
        let after_wrong = decided(&relay, "odd2@rcpt.example");
        assert_eq!(
            after_wrong["rule"], before["rule"],
            "the table is the old one as a whole"
        );

        std::fs::write(&file, RIGHT).unwrap();
        let taken = relay.relayctl(&["reload"]);
        assert!(taken.status.success(), "{}", text(&taken));
        let after_right = decided(&relay, "odd3@rcpt.example");
        assert_eq!(after_right["rule"], "zebra-waits", "{after_right}");
        assert_eq!(after_right["state"], "held", "{after_right}");
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    let mut sent = sent;
    sent.sort();
    until("all of the traffic arrives", || {
        (mx.recipients().len() >= sent.len()).then_some(())
    });
    assert_eq!(mx.recipients(), sent, "each once");
}

/// Hands in one message after the other: whom they are to.
fn traffic(relay: &Relay, stop: &AtomicBool) -> Vec<String> {
    let mut client = Client::connect(relay.submission);
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let to = format!("u{}@rcpt.example", sent.len());
        client.submit("app@sender.example", &[&to], MESSAGE);
        sent.push(to);
    }
    sent
}

/// What became of a message to this recipient.
fn decided(relay: &Relay, to: &str) -> Value {
    let id = submit(relay, "app@sender.example", &[to]);
    until("it is decided", || {
        let shown = relay.json(&["queue", "show", &id]);
        let recipient = shown.first()?["recipients"][0].clone();
        (!recipient["rule"].is_null()).then_some(recipient)
    })
}

/// Ends the traffic when the test has ended.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
