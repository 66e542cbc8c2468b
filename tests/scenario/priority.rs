//! How urgent a message is, by its header or by MT-PRIORITY: an urgent one goes before the bulk that came earlier,
//! also after a restart, operators see it, and the next host is told where it wants to know.

use relay_testkit::{Client, Relay, until};

use crate::{network, relay, text};

const ONE_AT_A_TIME: &str = "[[limit]]\nto = [\"*\"]\nconnections = 1\n";
const FROM: &str = "app@sender.example";

/// A message with these fields before the others.
fn submit(relay: &Relay, to: &str, fields: &str) -> String {
    let message = format!("{fields}From: {FROM}\nTo: {to}\nSubject: hello\n\nhello\n");
    Client::connect(relay.submission).submit(FROM, &[to], &message)
}

#[test]
fn an_urgent_message_goes_before_the_bulk_that_waits_also_after_a_restart() {
    let network = network();
    let mx = network.mx(2, "MAIL => hold");
    let mut relay = relay(&network, ONE_AT_A_TIME);
    for n in 0..8 {
        submit(
            &relay,
            &format!("bulk{n}@rcpt.example"),
            "X-Relayd-Priority: low\n",
        );
    }
    until("one of them is on its way", || {
        (mx.open() == 1).then_some(())
    });
    let id = submit(&relay, "urgent@rcpt.example", "X-Relayd-Priority: 6\n");
    submit(&relay, "usual@rcpt.example", "");
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    assert!(shown.contains("Priority: 6 (of -9 to 9)"), "{shown}");
    relay.restart();
    until("one of them is on its way again", || {
        (mx.open() == 2).then_some(())
    });
    let list = relay.json(&["queue", "list"]);
    let mut priorities: Vec<i64> = list
        .iter()
        .map(|one| one["priority"].as_i64().unwrap())
        .collect();
    priorities.sort_unstable();
    assert_eq!(priorities, [-4, -4, -4, -4, -4, -4, -4, -4, 0, 6]);
    mx.rescript("");
    until("all arrive", || (mx.mail().len() == 10).then_some(()));
    relay.drained();
    let mail = mx.mail();
    let place = |to: &str| mail.iter().position(|one| one.to == [to]).unwrap();
    // One of the bulk was being tried.
    let (urgent, usual) = (place("urgent@rcpt.example"), place("usual@rcpt.example"));
    assert!(urgent <= 1 && usual == urgent + 1, "{urgent} {usual}");
    for one in &mail {
        assert!(!one.data.contains("X-Relayd-Priority"), "{}", one.data);
    }
    assert!(
        mx.clients_of("MAIL")
            .iter()
            .all(|(line, _)| !line.contains("PRIORITY"))
    );
}

#[test]
fn a_host_that_offers_mt_priority_is_told_and_the_header_counts_more_than_the_session() {
    let network = network();
    let mx = network.mx(2, "EHLO => 250 mx.test\\nPIPELINING\\nMT-PRIORITY");
    let relay = relay(&network, ONE_AT_A_TIME);
    let mut client = Client::connect(relay.submission);
    assert!(client.say("EHLO app.test").contains("MT-PRIORITY"));
    for (parameter, field, told) in [
        (" MT-PRIORITY=3", "", " MT-PRIORITY=3"),
        (
            " MT-PRIORITY=3",
            "X-Relayd-Priority: -2\r\n",
            " MT-PRIORITY=-2",
        ),
        ("", "", ""),
    ] {
        let reply = client.say(&format!("MAIL FROM:<{FROM}>{parameter}"));
        assert!(reply.starts_with("250"), "{reply}");
        client.say("RCPT TO:<you@rcpt.example>");
        client.say("DATA");
        let reply = client.say(&format!(
            "{field}From: {FROM}\r\nSubject: hello\r\n\r\nhello\r\n."
        ));
        assert!(reply.starts_with("250"), "{reply}");
        relay.drained();
        let said = mx.clients_of("MAIL");
        assert_eq!(said.last().unwrap().0, format!("MAIL FROM:<{FROM}>{told}"));
    }
}

#[test]
fn a_priority_that_is_none_is_refused_with_what_it_may_be() {
    let network = network();
    let relay = relay(&network, "");
    let mut client = Client::connect(relay.submission);
    client.say("EHLO app.test");
    client.say(&format!("MAIL FROM:<{FROM}>"));
    client.say("RCPT TO:<you@rcpt.example>");
    client.say("DATA");
    let reply = client.say("X-Relayd-Priority: soon\r\n\r\nhello\r\n.");
    assert_eq!(
        reply,
        "554 5.6.0 X-Relayd-Priority is high, normal, low, or a number from -9 to 9"
    );
    relay.drained();
}
