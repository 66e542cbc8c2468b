//! 550 unknown user: a report, and the address is not tried again until an operator says so.

use relay_testkit::{Client, until};

use crate::{MESSAGE, network, relay, submit, text};

const UNKNOWN: &str = "RCPT TO:<gone@ => 550 5.1.1 No such user here";

#[test]
fn the_next_message_to_an_unknown_user_is_refused_at_rcpt_also_after_a_restart() {
    let network = network();
    let _mx = network.mx(2, UNKNOWN);
    let sender = network.mx(3, "");
    let mut relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["gone@rcpt.example"]);
    until("the report arrives", || sender.mail().pop());
    let list = until("the address is on the list", || {
        let list = relay.json(&["suppression", "list"]);
        (!list.is_empty()).then_some(list)
    });
    assert_eq!(list[0]["address"], "gone@rcpt.example", "{list:?}");
    assert_eq!(list[0]["category"], "invalid-recipient", "{list:?}");
    assert_eq!(list[0]["message"], id.as_str(), "{list:?}");
    assert_eq!(list[0]["source"], "policy", "{list:?}");

    for after_restart in [false, true] {
        if after_restart {
            relay.restart();
        }
        let mut client = Client::connect(relay.submission);
        client.say("EHLO app.test");
        client.say("MAIL FROM:<app@sender.example>");
        let reply = client.say("RCPT TO:<gone@RCPT.example>");
        assert!(reply.starts_with("550 5.1.1 suppressed since "), "{reply}");
        assert!(reply.contains("No such user here"), "{reply}");
        let other = client.say("RCPT TO:<Gone@rcpt.example>");
        assert!(other.starts_with("250 "), "another local part: {other}");
    }

    let removed = relay.relayctl(&["suppression", "remove", "gone@rcpt.example"]);
    assert!(text(&removed).contains("1 recipient removed"));
    submit(&relay, "app@sender.example", &["gone@rcpt.example"]);
}

#[test]
fn where_it_is_so_configured_the_next_message_is_accepted_and_bounced_without_a_try() {
    let network = network();
    let mx = network.mx(2, UNKNOWN);
    let sender = network.mx(3, "");
    let relay = relay(&network, "[suppression]\nmode = \"bounce\"\n");
    for _ in 0..2 {
        submit(
            &relay,
            "app@sender.example",
            &["gone@rcpt.example", "here@rcpt.example"],
        );
        until("the other recipient gets it", || {
            relay.json(&["queue", "list"]).is_empty().then_some(())
        });
        until("the address is on the list", || {
            let list = relay.json(&["suppression", "list"]);
            (!list.is_empty()).then_some(())
        });
    }
    let reports = until("two reports", || {
        let mail = sender.mail();
        (mail.len() == 2).then_some(mail)
    });
    let second = &reports[1].data;
    for part in [
        "Final-Recipient: rfc822; gone@rcpt.example",
        "not tried: suppressed since ",
        "relayctl suppression remove",
    ] {
        assert!(second.contains(part), "{part} is missing in:\n{second}");
    }
    let tries = mx.log();
    let tries = tries.iter().filter(|line| line.contains("RCPT TO:<gone@"));
    assert_eq!(tries.count(), 1, "the host was asked once");
    assert_eq!(mx.recipients(), ["here@rcpt.example", "here@rcpt.example"]);
}

#[test]
fn the_list_goes_from_relay_to_relay_by_a_file() {
    let network = network();
    let relay = relay(&network, "");
    let add = [
        "suppression",
        "add",
        "a@x.example",
        "b@y.example",
        "--for",
        "30d",
        "--reason",
        "asked, twice",
    ];
    assert!(relay.relayctl(&add).status.success());
    let csv = text(&relay.relayctl(&["suppression", "export"]));
    let file = relay.dir().join("list.csv");
    std::fs::write(&file, &csv).unwrap();
    let file = file.display().to_string();
    let asked = relay.relayctl(&["suppression", "remove", "--to", "x.example"]);
    assert_eq!(
        asked.status.code(),
        Some(2),
        "many need --yes: {}",
        text(&asked)
    );
    let all = relay.relayctl(&["suppression", "remove", "--all", "--yes"]);
    assert!(
        text(&all).contains("2 recipients removed"),
        "{}",
        text(&all)
    );
    let said = text(&relay.relayctl(&["suppression", "import", &file]));
    assert!(
        said.contains("2 recipients suppressed, 0 known before"),
        "{said}"
    );
    let list = relay.json(&["suppression", "list", "--to", "y.example"]);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["source"], "import");
    assert_eq!(list[0]["reply"], "asked, twice");
    let wrong = relay.dir().join("wrong");
    std::fs::write(&wrong, "c@x.example\nnobody\n").unwrap();
    let refused = relay.relayctl(&["suppression", "import", &wrong.display().to_string()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("wrong:2: nobody: "),
        "{}",
        text(&refused)
    );
    assert_eq!(
        relay.json(&["suppression", "list"]).len(),
        2,
        "nothing of it was taken"
    );

    let mut client = Client::connect(relay.submission);
    client.say("EHLO app.test");
    client.say("MAIL FROM:<app@sender.example>");
    assert!(client.say("RCPT TO:<a@x.example>").starts_with("550 5.1.1"));
    assert!(client.say("RCPT TO:<c@x.example>").starts_with("250 "));
    let data = client.say("DATA");
    assert!(data.starts_with("354"), "{data}");
    let sent = client.say(&format!("{}\r\n.", MESSAGE.replace('\n', "\r\n")));
    assert!(sent.starts_with("250 "), "{sent}");
}
