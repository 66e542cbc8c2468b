//! Postfix's load generator, twenty sessions at once: all arrive, each once.

use std::process::Command;

use relay_testkit::Network;

use crate::relay;

#[test]
fn every_message_of_twenty_sessions_arrives_once() {
    const MESSAGES: usize = 500;
    let network = Network::with_zone("");
    let sink = network.mx(2, "");
    let relay = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{}\"]\n",
            network.port
        ),
    );
    let output = Command::new("/usr/sbin/smtp-source")
        .args([
            "-s",
            "20",
            "-m",
            &MESSAGES.to_string(),
            "-l",
            "2048",
            "-N",
            "-f",
            "a@x.test",
            "-t",
            "b@y.test",
        ])
        .arg(relay.submission.to_string())
        .output()
        .expect("smtp-source is installed (Debian package postfix)");
    assert!(output.status.success(), "{output:?}");
    relay.drained();
    let mut recipients = sink.recipients();
    assert_eq!(recipients.len(), MESSAGES);
    recipients.dedup();
    assert_eq!(recipients.len(), MESSAGES, "none arrived twice");
}
