//! One relayd sends to another: they agree on PIPELINING and CHUNKING, and a message of any size arrives as
//! it was.

use relay_testkit::{Client, until};

use crate::{network, relay};

#[test]
fn a_small_and_a_large_message_arrive_through_another_relayd_as_they_were() {
    let network = network();
    let mx = network.mx(2, "");
    let second = relay(&network, "");
    let first = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"{}\"]\n",
            second.submission
        ),
    );
    for lines in [1, 100, 20_000] {
        let stuffed = vec!["..a line that begins with a dot"; lines].join("\n");
        let body = ".a line that begins with a dot\r\n".repeat(lines);
        let message = format!("Subject: x\n\n{stuffed}");
        let to = ["you@rcpt.example"];
        Client::connect(first.submission).submit("app@sender.example", &to, &message);
        let mail = until("it arrives", || {
            mx.mail()
                .into_iter()
                .find(|mail| mail.data.len() >= body.len())
        });
        let (head, rest) = mail.data.split_once("\r\n\r\n").expect("a head");
        assert_eq!(head.matches("Received: from").count(), 2, "{head}");
        assert!(rest == body, "{lines} lines");
    }
    first.drained();
    second.drained();
}
