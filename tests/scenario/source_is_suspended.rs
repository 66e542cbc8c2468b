//! A site blocks one of our addresses: that one pauses there, the others go on, nobody is suppressed.

use relay_testkit::{Network, Relay, until};

use crate::{QUICK_RETRY, submit, text};

/// The sources' addresses are those of no host here.
const ZONE: &str = "
    rcpt.example        MX 10 mx.rcpt.example
    mx.rcpt.example     A 127.0.0.2
    other.example       MX 10 mx.other.example
    mx.other.example    A 127.0.0.4
    sender.example      MX 10 mx.sender.example
    mx.sender.example   A 127.0.0.3
";
const LISTED: &str =
    "550 5.7.1 Service unavailable; client host is listed on the block list dnsbl.example.net";

fn relay(network: &Network) -> Relay {
    Relay::start_delivering(
        env!("CARGO_BIN_EXE_relayd"),
        network,
        "source_addresses = [\"127.0.0.51\", \"127.0.0.52\"]\nidle = \"100ms\"\n",
        QUICK_RETRY,
    )
}

#[test]
fn the_blocked_address_pauses_there_and_the_others_go_on_also_after_a_restart() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, &format!("from 127.0.0.51 RCPT => {LISTED}"));
    let other = network.mx(4, "");
    let sender = network.mx(3, "");
    let mut relay = relay(&network);
    // Which address a session goes from is a matter of chance: until the blocked one was met.
    until("the source is suspended at the site", || {
        submit(&relay, "app@sender.example", &["you@rcpt.example"]);
        let sites = relay.json(&["site", "list"]);
        let site = sites
            .iter()
            .find(|site| site["site"] == "mx.rcpt.example")?;
        let source = site["sources"].get(0)?;
        assert_eq!(source["address"], "127.0.0.51", "{site}");
        assert_eq!(source["state"], "suspended", "{site}");
        assert_eq!(source["rule"], "block-listed", "{site}");
        assert!(site["suspended_until"].is_null(), "{site}");
        Some(())
    });
    let shown = text(&relay.relayctl(&["site", "show", "rcpt.example"]));
    assert!(
        shown.contains("127.0.0.51 suspended by block-listed"),
        "{shown}"
    );
    for after_restart in [false, true] {
        if after_restart {
            // What was learned is written two seconds after it.
            until("it is written", || {
                let file = relay.dir().join("state/sites.json");
                let text = std::fs::read_to_string(file).ok()?;
                text.contains("127.0.0.51").then_some(())
            });
            relay.restart();
        }
        let before = mx.mail().len();
        for _ in 0..6 {
            submit(&relay, "app@sender.example", &["you@rcpt.example"]);
        }
        until("six more arrive at once", || {
            (mx.mail().len() >= before + 6).then_some(())
        });
    }
    for _ in 0..12 {
        submit(&relay, "app@sender.example", &["you@other.example"]);
    }
    until("elsewhere both are used", || {
        let mail = other.mail();
        let from = |last: &str| mail.iter().any(|mail| mail.client.to_string() == last);
        if !(from("127.0.0.51") && from("127.0.0.52")) {
            submit(&relay, "app@sender.example", &["you@other.example"]);
            return None;
        }
        Some(())
    });
    assert!(
        mx.mail()
            .iter()
            .all(|mail| mail.client.to_string() == "127.0.0.52")
    );
    assert!(relay.json(&["suppression", "list"]).is_empty());
    assert!(sender.mail().is_empty(), "nobody was told of a bounce");
}

#[test]
fn greylisted_mail_comes_back_from_the_address_that_it_came_from() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(
        2,
        "once each RCPT => 451 4.7.1 Greylisted, come back in 30 seconds",
    );
    let relay = relay(&network);
    let to: Vec<String> = (0..8).map(|n| format!("u{n}@rcpt.example")).collect();
    for to in &to {
        submit(&relay, "app@sender.example", &[to]);
    }
    until("all are greylisted", || {
        let list = relay.json(&["queue", "list"]);
        let waits = |row: &&serde_json::Value| row["recipients"][0]["category"] == "greylisted";
        (list.iter().filter(waits).count() == to.len()).then_some(())
    });
    let refused_from = mx.clients_of("RCPT TO:");
    relay.relayctl(&["queue", "flush"]);
    until("all arrive", || (mx.mail().len() == to.len()).then_some(()));
    for mail in mx.mail() {
        let line = format!("RCPT TO:<{}>", mail.to[0]);
        let first = refused_from
            .iter()
            .find(|(said, _)| said.starts_with(&line));
        assert_eq!(first.map(|(_, from)| *from), Some(mail.client), "{line}");
    }
}

#[test]
fn an_operator_suspends_a_site_and_resumes_it() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, "");
    let relay = relay(&network);
    let said = relay.relayctl(&["site", "suspend", "rcpt.example", "--for", "2h"]);
    assert!(text(&said).contains("suspended for 1h"), "{}", text(&said));
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("it waits for the site", || {
        let shown = text(&relay.relayctl(&["queue", "show", &id]));
        shown.contains("suspended until").then_some(())
    });
    assert!(mx.mail().is_empty());
    let unknown = relay.relayctl(&["site", "suspend", "nowhere.example"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    let said = relay.relayctl(&["site", "resume", "mx.rcpt.example"]);
    assert!(said.status.success(), "{}", text(&said));
    until("it goes", || mx.mail().pop());
    relay.drained();
}
