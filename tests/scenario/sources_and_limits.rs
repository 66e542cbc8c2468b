//! Addresses of our own with their names, weights and warm-up; limits that are shown with their place and
//! change by a reload.

use jiff::Timestamp;
use relay_testkit::{Network, Relay, until};

use crate::{QUICK_RETRY, network, submit, text};

/// A relay with these tables; the sources' addresses are those of no host here.
fn relay_with(network: &Network, more: &str) -> Relay {
    Relay::start_delivering(
        env!("CARGO_BIN_EXE_relayd"),
        network,
        "idle = \"100ms\"\n",
        &format!("{QUICK_RETRY}{more}"),
    )
}

fn today() -> String {
    Timestamp::now().to_string().chars().take(10).collect()
}

/// One row of what `site show` says is in force.
fn limit(relay: &Relay, what: &str) -> Option<serde_json::Value> {
    let sites = relay.json(&["site", "list"]);
    let site = sites
        .iter()
        .find(|site| site["site"] == "mx.rcpt.example")?;
    let limits = site["limits"].as_array()?;
    limits.iter().find(|limit| limit["what"] == what).cloned()
}

#[test]
fn a_new_address_sends_its_daily_volume_and_the_others_the_rest_also_after_a_restart() {
    let network = network();
    let mx = network.mx(2, "");
    let first_day = today();
    let mut relay = relay_with(
        &network,
        &format!(
            "[[source]]\naddress = \"127.0.0.51\"\nweight = 1000\nehlo_name = \"one.relay.test\"\n\
             warm_up_start = \"{first_day}\"\nwarm_up_daily = [3, 3, 3]\n\
             [[source]]\naddress = \"127.0.0.52\"\nehlo_name = \"two.relay.test\"\n"
        ),
    );
    let warm_up = "warm-up of 127.0.0.51, messages today";
    for round in 1..=2 {
        for _ in 0..6 {
            submit(&relay, "app@sender.example", &["you@rcpt.example"]);
        }
        until("all arrive", || {
            (mx.mail().len() == 6 * round).then_some(())
        });
        if round == 1 {
            let row = limit(&relay, warm_up).unwrap();
            assert_eq!(row["used"], 3, "{row}");
            until("it is written", || {
                let file = relay.dir().join("state/sites.json");
                let text = std::fs::read_to_string(file).ok()?;
                text.contains("\"used\":3").then_some(())
            });
            relay.restart();
        }
    }
    let mut warmed = 0;
    for mail in mx.mail() {
        match mail.client.to_string().as_str() {
            "127.0.0.51" => {
                assert_eq!(mail.hello, "one.relay.test");
                warmed += 1;
            }
            "127.0.0.52" => assert_eq!(mail.hello, "two.relay.test"),
            other => panic!("from {other}"),
        }
    }
    // At midnight there are three more.
    let days = if today() == first_day { 1 } else { 2 };
    assert!(warmed >= 3 && warmed <= 3 * days, "{warmed}");
}

#[test]
fn limits_are_shown_with_their_place_and_a_reload_changes_them_at_run_time() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay_with(
        &network,
        "[[source]]\naddress = \"127.0.0.51\"\n\
         [[limit]]\nto = [\"rcpt.example\"]\nconnections = 2\n\
         [[limit]]\nsource = [\"127.0.0.51\"]\nrate = \"50/s\"\n",
    );
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("it arrives", || mx.mail().pop());
    let row = limit(&relay, "connections").unwrap();
    assert_eq!(row["value"], "2", "{row}");
    let place = row["from"].as_str().unwrap();
    assert!(place.contains("relayd.toml:"), "{place}");
    let row = limit(&relay, "messages_per_connection").unwrap();
    assert_eq!(
        (&row["value"], &row["from"]),
        (&"100".into(), &"default".into())
    );
    let row = limit(&relay, "rate from 127.0.0.51").unwrap();
    assert_eq!(row["value"], "50/s", "{row}");
    let shown = text(&relay.relayctl(&["site", "show", "rcpt.example"]));
    assert!(shown.contains("Limit:    connections 2 ("), "{shown}");

    relay.edit_settings("connections = 2", "connections = 3");
    let said = relay.relayctl(&["reload"]);
    assert!(said.status.success(), "{}", text(&said));
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("the new limit is in force", || {
        let row = limit(&relay, "connections")?;
        (row["value"] == "3").then_some(())
    });
}
