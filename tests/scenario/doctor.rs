//! `relayctl doctor`: a domain's hosts are called as mail would call them, and what is wrong is told with
//! its fix; by relayd, and without it.

use relay_testkit::{Network, Relay};
use serde_json::Value;

use crate::{relay, text};

const ZONE: &str = "
    good.example         MX 10 mx.good.example
    good.example         MX 20 down.good.example
    mx.good.example      A 127.0.0.2
    down.good.example    A 127.0.0.9
    plain.example        MX 10 mx.plain.example
    mx.plain.example     A 127.0.0.3
    busy.example         MX 10 mx.busy.example
    mx.busy.example      A 127.0.0.4
    null.example         MX 0 .
    lost.example         MX 10 nowhere.example
    relay.test           A 127.0.0.7
    ours.example         TXT v=spf1 ip4:127.0.0.7 -all
    _dmarc.ours.example  TXT v=DMARC1; p=none
";

#[test]
fn a_domain_is_looked_at_as_its_mail_would_find_it() {
    let network = Network::with_zone(ZONE);
    let _good = network.mx_with_tls(2, "");
    let _plain = network.mx(3, "");
    let _busy = network.mx(4, "CONNECT => 421 4.3.2 too busy & close");
    let relay = relay(&network, "");

    let found = findings(&relay, &["good.example"]);
    assert_eq!(state(&found, "mx", "good.example"), "ok");
    let host = "mx.good.example [127.0.0.2]";
    assert_eq!(state(&found, "connect", host), "ok");
    // A certificate of its own: mail goes, nothing is proved.
    assert_eq!(state(&found, "starttls", host), "warn");
    let said = found.iter().find(|one| one["check"] == "starttls").unwrap();
    assert!(
        said["found"].as_str().unwrap().contains("TLSv1.3"),
        "{said}"
    );
    let down = "down.good.example [127.0.0.9]";
    assert_eq!(state(&found, "connect", down), "fail");

    let found = findings(&relay, &["plain.example"]);
    let host = "mx.plain.example [127.0.0.3]";
    assert_eq!(state(&found, "starttls", host), "warn");
    assert_eq!(
        relay.relayctl(&["doctor", "plain.example"]).status.code(),
        Some(0)
    );

    for (domain, wanted) in [
        ("busy.example", "421 4.3.2 too busy"),
        ("null.example", "takes no mail"),
        ("lost.example", "no address"),
        ("nobody.example", "no such domain"),
    ] {
        let output = relay.relayctl(&["doctor", domain]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && said.contains("fix: "), "{said}");
    }
    let wrong = relay.relayctl(&["doctor", "no domain"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

#[test]
fn ourselves_are_looked_at_by_relayd_and_without_it_alike() {
    let network = Network::with_zone(ZONE);
    let mut relay = relay(&network, "");
    relay.edit_settings(
        "[delivery]\n",
        "[delivery]\nsource_addresses = [\"127.0.0.7\"]\n",
    );
    let reloaded = relay.relayctl(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let asked = ["--sender", "ours.example"];
    let by_relayd = findings(&relay, &asked);
    assert_eq!(state(&by_relayd, "hostname", "relay.test"), "ok");
    // For loopback the resolver itself says "localhost", which is not at this address.
    assert_eq!(state(&by_relayd, "ptr", "127.0.0.7"), "fail");
    assert_eq!(state(&by_relayd, "spf", "ours.example"), "ok");
    assert_eq!(state(&by_relayd, "dmarc", "ours.example"), "ok");
    // It signs nothing.
    assert_eq!(state(&by_relayd, "dkim", "ours.example"), "fail");

    relay.kill();
    let file = relay.dir().join("relayd.toml").display().to_string();
    let from_here = findings(&relay, &[&asked[..], &["--config", &file]].concat());
    assert_eq!(from_here, by_relayd);
    let lost = relay.relayctl(&["doctor", "good.example"]);
    assert_eq!(lost.status.code(), Some(69), "{}", text(&lost));
}

fn findings(relay: &Relay, arguments: &[&str]) -> Vec<Value> {
    relay.json(&[&["doctor"], arguments].concat())
}

fn state<'v>(found: &'v [Value], check: &str, subject: &str) -> &'v str {
    let one = found
        .iter()
        .find(|one| one["check"] == check && one["subject"] == subject);
    let one = one.unwrap_or_else(|| panic!("no {check} of {subject} in {found:?}"));
    one["state"].as_str().unwrap()
}
