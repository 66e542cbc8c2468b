//! An operator holds mail, lets it go, and gives it up.

use std::time::{Duration, Instant};

use relay_testkit::{Client, Network, until};

use crate::{MESSAGE, QUICK_RETRY, network, relay, submit, text};

/// Two domains that share a host, one that has its own.
const ZONE: &str = "
    one.example         MX 10 mx.shared.example
    two.example         MX 10 mx.shared.example
    mx.shared.example   A 127.0.0.2
    other.example       MX 10 mx.other.example
    mx.other.example    A 127.0.0.3
";

#[test]
fn held_mail_waits_through_flush_and_restart_until_it_is_released() {
    let network = Network::with_zone(ZONE);
    let other = network.mx(3, "");
    let mut relay = relay(&network, QUICK_RETRY);
    let id = submit(&relay, "app@sender.example", &["a@one.example"]);
    relay.recipient_becomes("deferred");

    let held = relay.relayctl(&["queue", "hold", "--id", &id]);
    assert!(held.status.success(), "{}", text(&held));
    assert!(text(&held).contains("1 recipient of 1 message held"));
    let recipient = relay.recipient_becomes("held");
    let attempts = recipient["attempts"].clone();
    assert_eq!(recipient["rule"], "operator", "{recipient}");

    let shared = network.mx(2, "");
    relay.restart();
    relay.relayctl(&["queue", "flush", "--all"]);
    submit(&relay, "app@sender.example", &["b@other.example"]);
    until("other mail goes on", || other.mail().pop());
    let recipient = relay.recipient_becomes("held");
    assert_eq!(recipient["attempts"], attempts, "held mail is not tried");
    assert!(shared.mail().is_empty());
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    for words in ["held by an operator", "relayctl queue release --id"] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }

    let released = relay.relayctl(&["queue", "release", "--rule", "operator"]);
    assert!(released.status.success(), "{}", text(&released));
    until("released mail arrives", || shared.mail().pop());
    relay.drained();
    let log = relay.log().join("\n");
    assert!(log.contains("\"recipient_released\""), "{log}");
}

#[test]
fn mail_that_a_rule_holds_names_the_rule_and_waits_through_a_restart() {
    let network = network();
    let mx = network.mx(2, "first 1 RCPT TO => 550 5.7.1 Look at this one");
    let table = tempfile::NamedTempFile::new().unwrap();
    let rule = "[[rule]]\nname = \"look-first\"\ntext = 'Look at this one'\n\
                category = \"policy-rejected\"\naction = \"hold\"\n\
                explain = \"Somebody wants to look.\"\nfix = \"Look at it.\"\n\
                example = [\"550 5.7.1 Look at this one\"]\n";
    std::fs::write(table.path(), rule).unwrap();
    let policy = format!("[policy]\nfiles = [\"{}\"]\n", table.path().display());
    let mut relay = relay(&network, &policy);
    let id = submit(&relay, "app@sender.example", &["a@rcpt.example"]);
    relay.recipient_becomes("held");
    relay.restart();
    relay.relayctl(&["queue", "flush"]);
    assert_eq!(relay.recipient_becomes("held")["rule"], "look-first");
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    for words in [
        "held by rule look-first",
        "Look at it.",
        "queue release --id",
    ] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }
    relay.relayctl(&["queue", "release", "--rule", "look-first"]);
    until("the released one arrives", || mx.mail().pop());
    relay.drained();
}

#[test]
fn held_mail_that_is_released_after_its_time_gets_one_last_try() {
    let network = network();
    let sender = network.mx(3, "");
    let short = "[retry.default]\nsteps = [\"1s\"]\nmax_age = \"1m\"\n";
    let mut relay = relay(&network, short);
    let id = submit(&relay, "app@sender.example", &["a@rcpt.example"]);
    let arrived = Instant::now();
    relay.recipient_becomes("deferred");
    relay.relayctl(&["queue", "hold", "--id", &id]);
    relay.kill();
    until("its time is over", || {
        (arrived.elapsed() > Duration::from_secs(1)).then_some(())
    });
    relay.edit_settings("max_age = \"1m\"", "max_age = \"1s\"");
    let mx = network.mx(2, "");
    relay.restart();
    assert_eq!(
        relay.recipient_becomes("held")["expires"],
        serde_json::Value::Null
    );
    relay.relayctl(&["queue", "release", "--id", &id]);
    until("the last try delivers it", || mx.mail().pop());
    relay.drained();
    assert!(sender.mail().is_empty(), "it has not expired");
}

#[test]
fn a_site_is_selected_whatever_domains_lead_there() {
    let network = Network::with_zone(ZONE);
    let relay = relay(&network, "");
    let to = ["a@one.example", "b@two.example", "c@other.example"];
    submit(&relay, "app@sender.example", &to);
    until("all have been tried", || {
        let list = relay.json(&["queue", "list"]);
        let recipients = list.first()?.get("recipients")?.as_array()?.clone();
        let tried = recipients.iter().all(|r| r["state"] == "deferred");
        tried.then_some(())
    });
    let site = ["--site", "mx.shared.example"];
    let held = relay.relayctl(&[&["queue", "hold"], &site[..]].concat());
    assert!(
        text(&held).contains("2 recipients of 1 message"),
        "{}",
        text(&held)
    );
    let list = relay.json(&["queue", "list"]);
    let states: Vec<&str> = list[0]["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|recipient| recipient["state"].as_str())
        .collect();
    assert_eq!(states, ["held", "held", "deferred"]);
    let nobody = relay.json(&["queue", "list", "--site", "mx.nobody.example"]);
    assert!(nobody.is_empty());
    let released = relay.json(&[&["queue", "release"], &site[..]].concat());
    assert_eq!(released[0]["recipients"], 2);
}

#[test]
fn what_an_operator_gives_up_is_reported_to_the_sender_once() {
    let network = network();
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    let to = ["a@rcpt.example", "b@rcpt.example"];
    let id = submit(&relay, "app@sender.example", &to);
    relay.recipient_becomes("deferred");
    let refused = relay.relayctl(&["queue", "bounce", "--id", &id]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    let done = relay.relayctl(&["queue", "bounce", "--all", "--yes"]);
    assert!(done.status.success(), "{}", text(&done));
    let report = until("the report arrives", || sender.mail().pop());
    assert_eq!(report.from, "", "a report comes from nobody");
    for words in [
        "given up by an operator",
        "Final-Recipient: rfc822;a@rcpt.example",
        "Final-Recipient: rfc822;b@rcpt.example",
        "Action: failed",
        "Subject: hello",
    ] {
        let data = report.data.replace("rfc822; ", "rfc822;");
        assert!(data.contains(words), "{words} is missing in:\n{data}");
    }
    relay.drained();
    assert_eq!(sender.mail().len(), 1);
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    assert!(
        shown.contains("bounced") && shown.contains("operator"),
        "{shown}"
    );
}

#[test]
fn mail_from_nobody_is_given_up_without_a_report() {
    let network = network();
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    submit(&relay, "", &["a@rcpt.example"]);
    relay.recipient_becomes("deferred");
    let done = relay.relayctl(&["queue", "bounce", "--sender", "<>", "--yes"]);
    assert!(done.status.success(), "{}", text(&done));
    relay.drained();
    assert!(sender.mail().is_empty());
}

#[test]
fn a_selection_of_several_pages_is_changed_to_its_end() {
    let network = network();
    let relay = relay(&network, "");
    let mut client = Client::connect(relay.submission);
    for _ in 0..620 {
        client.submit("app@sender.example", &["a@rcpt.example"], MESSAGE);
    }
    let held = relay.json(&["queue", "hold", "--to", "rcpt.example"]);
    assert_eq!(held[0]["messages"], 620, "{}", held[0]);
    let list = relay.json(&["queue", "list", "--rule", "operator"]);
    assert_eq!(list.len(), 620);
    let flushed = relay.relayctl(&["queue", "flush", "--to", "rcpt.example"]);
    assert_eq!(flushed.status.code(), Some(1), "nothing is to be tried");
    let gone = relay.json(&["queue", "delete", "--older-than", "0s", "--yes"]);
    assert_eq!(gone[0]["messages"], 620, "{}", gone[0]);
    relay.drained();
}
