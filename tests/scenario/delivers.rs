//! The plain way: accepted, delivered, gone from the queue.

use relay_testkit::{Client, Network, until};

use crate::{MESSAGE, network, relay, submit, text};

#[test]
fn a_message_arrives_as_it_was_sent_with_our_trace_on_top() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);

    let mail = until("the MX has the message", || mx.mail().pop());
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("app@sender.example", &["you@rcpt.example".to_owned()][..])
    );
    let (head, body) = mail
        .data
        .split_once("\r\n\r\n")
        .expect("a message has a head");
    assert!(head.starts_with("Received: from app.test"), "{head}");
    assert!(head.contains(&format!("id {id}")), "{head}");
    assert!(
        head.contains("\r\nDate: ") && head.contains("\r\nMessage-ID: "),
        "{head}"
    );
    assert_eq!(body, "First line.\r\n.two dots\r\nLast line.\r\n");
    relay.drained();

    let shown = text(&relay.relayctl(&["queue", "list"]));
    assert!(
        shown.contains(&id) && shown.contains("delivered"),
        "{shown}"
    );
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    assert!(shown.contains("250 2.0.0 taken"), "{shown}");
    let status = text(&relay.relayctl(&["status"]));
    assert!(status.contains("delivered"), "{status}");
}

#[test]
fn recipients_of_one_domain_share_a_transaction_and_other_domains_get_their_own() {
    let network = Network::with_zone(
        "one.example MX 10 mx.one.example\nmx.one.example A 127.0.0.2\n\
         two.example MX 10 mx.two.example\nmx.two.example A 127.0.0.3\n\
         only-a.example A 127.0.0.4",
    );
    let (one, two, three) = (network.mx(2, ""), network.mx(3, ""), network.mx(4, ""));
    let relay = relay(&network, "");
    submit(
        &relay,
        "app@sender.example",
        &[
            "a@one.example",
            "b@two.example",
            "c@one.example",
            "d@only-a.example",
        ],
    );

    relay.drained();
    assert_eq!(one.mail().len(), 1);
    assert_eq!(one.recipients(), ["a@one.example", "c@one.example"]);
    assert_eq!(two.recipients(), ["b@two.example"]);
    assert_eq!(
        three.recipients(),
        ["d@only-a.example"],
        "without MX the domain's own address counts"
    );
}

#[test]
fn one_session_carries_several_messages() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, "[[limit]]\nto = [\"*\"]\nconnections = 1\n");
    let mut client = Client::connect(relay.submission);
    for _ in 0..20 {
        client.submit("app@sender.example", &["you@rcpt.example"], MESSAGE);
    }
    relay.drained();
    assert_eq!(mx.mail().len(), 20);
    assert_eq!(mx.most_open(), 1, "the limit of one connection holds");
    assert!(
        mx.sessions() <= 4,
        "{} sessions for 20 messages",
        mx.sessions()
    );
}

#[test]
fn mx_hosts_are_tried_by_preference() {
    let network = Network::with_zone(
        "rcpt.example MX 20 second.rcpt.example\nrcpt.example MX 10 first.rcpt.example\n\
         first.rcpt.example A 127.0.0.2\nsecond.rcpt.example A 127.0.0.3",
    );
    let (first, second) = (network.mx(2, ""), network.mx(3, ""));
    let relay = relay(&network, "");
    for _ in 0..5 {
        submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    }
    relay.drained();
    assert_eq!((first.mail().len(), second.mail().len()), (5, 0));
}
