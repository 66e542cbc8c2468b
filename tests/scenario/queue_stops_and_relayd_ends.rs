//! The disk fails under the queue: nothing is promised any more, relayd ends by itself with a status that
//! makes systemd start it again, and the next start has everything that was promised.

use relay_testkit::client::{Client, Offer};

use crate::{network, relay};

#[test]
fn after_a_failed_write_relayd_ends_with_74_and_the_next_start_has_all_that_was_promised() {
    let network = network();
    let mut relay = relay(&network, "");
    // A segment cannot be made in a directory that is gone: a fault of the disk, and not a full one.
    let (journal, away) = (
        relay.dir().join("state/journal"),
        relay.dir().join("state/away"),
    );
    std::fs::rename(&journal, &away).unwrap();
    // Under the size from which on a body lies in a file of its own; 64 MiB end the segment.
    let message =
        "a line of text that is seventy octets long, for messages of some length\r\n".repeat(3_000);
    let mut client = Client::try_connect(relay.submission).unwrap();
    let mut promised = 0;
    let refused = loop {
        match client.offer(
            "app@sender.example",
            &["you@rcpt.example".to_owned()],
            &message,
        ) {
            Offer::Promised(_) => promised += 1,
            Offer::Refused(reply) => break reply,
            Offer::Lost => break String::new(),
        }
    };
    assert!(refused.starts_with("451 4.3.0"), "{refused}");
    assert!((100..1000).contains(&promised), "{promised}");
    let status = relay.ends_by_itself("the queue has stopped").unwrap();
    assert_eq!(status.code(), Some(74), "{:?}", relay.log().last());
    let log = relay.log().join("\n");
    assert!(log.contains("\"queue_stopped\""), "{log}");

    std::fs::rename(&away, &journal).unwrap();
    relay.restart();
    let status = &relay.json(&["status"])[0]["queue"]["messages"];
    assert_eq!(
        status.as_u64(),
        Some(promised),
        "all that was promised, and nothing else"
    );
}
