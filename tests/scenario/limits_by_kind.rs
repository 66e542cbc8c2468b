//! `[[limit]]` by domain, route, MX, provider and source address at run time: the narrowest holds, none is ever
//! exceeded, and a reload changes them while mail waits. Hosts that keep their sessions waiting show how many
//! there may be at once.

use relay_testkit::{Mx, Network, Relay, until};

use crate::{submit, text};

/// Two sites of one provider, both at one address so that it counts all that goes there, and another one.
const ZONE: &str = "
    one.example             MX 10 mx1.l.google.com
    mx1.l.google.com        A 127.0.0.2
    two.example             MX 10 mx2.l.google.com
    mx2.l.google.com        A 127.0.0.2
    sender.example          MX 10 mx.sender.example
    mx.sender.example       A 127.0.0.3
";

/// Nobody is answered until there is another script.
const HELD: &str = "MAIL => hold";
/// More than any limit here.
const MESSAGES: usize = 12;

fn relay(network: &Network, more: &str) -> Relay {
    Relay::start_delivering(
        env!("CARGO_BIN_EXE_relayd"),
        network,
        "idle = \"100ms\"\n",
        more,
    )
}

fn submit_to(relay: &Relay, domains: &[&str]) {
    for n in 0..MESSAGES {
        for domain in domains {
            submit(relay, "app@sender.example", &[&format!("u{n}@{domain}")]);
        }
    }
}

fn reload(relay: &Relay, old: &str, new: &str) {
    relay.edit_settings(old, new);
    let said = relay.relayctl(&["reload"]);
    assert!(said.status.success(), "{}", text(&said));
}

/// So many sessions come about, and no more: what the scheduler has done by then is seen in its answers.
fn opens(relay: &Relay, mx: &Mx, most: usize) {
    until("as many sessions as may be", || {
        (mx.open() == most).then_some(())
    });
    for _ in 0..3 {
        relay.json(&["site", "list"]);
    }
    assert_eq!(mx.open(), most);
    assert_eq!(mx.most_open(), most, "at no time more");
}

fn all_arrive(relay: &Relay, mx: &Mx, count: usize) {
    mx.rescript("");
    until("all arrive", || (mx.mail().len() == count).then_some(()));
    relay.drained();
}

#[test]
fn the_narrowest_limit_holds_and_without_it_the_next_by_a_reload_while_mail_waits() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, HELD);
    let narrow = [
        "[[limit]]\nto = [\"one.example\"]\nconnections = 1\n",
        "[[limit]]\nmx = [\"mx1.l.google.com\"]\nconnections = 2\n",
        "[[limit]]\nprovider = [\"google\"]\nconnections = 3\n",
        "[[limit]]\nto = [\"*\"]\nconnections = 4\n",
    ];
    // The widest first: what stands where does not matter.
    let text: String = narrow.iter().rev().copied().collect();
    let relay = relay(&network, &text);
    submit_to(&relay, &["one.example"]);
    opens(&relay, &mx, 1);
    for (gone, most) in narrow.iter().zip(2..) {
        if most > narrow.len() {
            break;
        }
        reload(&relay, gone, "");
        opens(&relay, &mx, most);
    }
    all_arrive(&relay, &mx, MESSAGES);
    assert_eq!(mx.most_open(), 4);
}

#[test]
fn a_providers_connections_are_counted_over_all_its_sites_and_change_by_a_reload() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, HELD);
    let relay = relay(
        &network,
        "[[limit]]\nprovider = [\"google\"]\nconnections = 2\n",
    );
    submit_to(&relay, &["one.example", "two.example"]);
    opens(&relay, &mx, 2);
    let list = relay.json(&["queue", "list"]);
    let waits = list.iter().find(|message| {
        let id = message["id"].as_str().unwrap();
        let shown = text(&relay.relayctl(&["queue", "show", id]));
        shown.contains("no room now: connections to provider google")
    });
    assert!(waits.is_some(), "one of them says what it waits for");
    reload(&relay, "connections = 2", "connections = 3");
    opens(&relay, &mx, 3);
    all_arrive(&relay, &mx, 2 * MESSAGES);
    assert_eq!(mx.most_open(), 3);
}

#[test]
fn a_source_addresss_connections_are_counted_by_address() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, HELD);
    let relay = relay(
        &network,
        "[[source]]\naddress = \"127.0.0.51\"\n[[source]]\naddress = \"127.0.0.52\"\n\
         [[limit]]\nsource = [\"127.0.0.51\"]\nconnections = 1\n\
         [[limit]]\nsource = [\"127.0.0.52\"]\nconnections = 2\n",
    );
    submit_to(&relay, &["one.example", "two.example"]);
    opens(&relay, &mx, 3);
    let from = |address: &str| {
        let clients = mx.clients_of("EHLO");
        let from = clients.iter().filter(|(_, ip)| ip.to_string() == address);
        from.count()
    };
    assert_eq!((from("127.0.0.51"), from("127.0.0.52")), (1, 2));
    reload(&relay, "connections = 1", "connections = 3");
    opens(&relay, &mx, 5);
    assert_eq!((from("127.0.0.51"), from("127.0.0.52")), (3, 2));
    all_arrive(&relay, &mx, 2 * MESSAGES);
}

#[test]
fn a_routes_limit_holds_for_its_relays_whatever_the_domains() {
    let network = Network::with_zone("");
    let mx = network.mx(2, HELD);
    let via = format!("127.0.0.2:{}", network.port);
    let relay = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"{via}\"]\n\
             [[limit]]\nto = [\"*\"]\nconnections = 5\nmessages_per_connection = 2\n\
             [[limit]]\nroute = [\"{via}\"]\nconnections = 2\n"
        ),
    );
    submit_to(&relay, &["one.example", "two.example"]);
    opens(&relay, &mx, 2);
    reload(&relay, "connections = 2", "connections = 3");
    opens(&relay, &mx, 3);
    all_arrive(&relay, &mx, 2 * MESSAGES);
    let mail = mx.mail();
    for one in &mail {
        let in_session = mail.iter().filter(|mail| mail.session == one.session);
        assert!(
            in_session.count() <= 2,
            "each value by itself: the wider table's holds"
        );
    }
}

#[test]
fn a_rate_by_provider_lets_one_message_through_in_all_until_a_reload_lets_more() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, "");
    let relay = relay(
        &network,
        "[[limit]]\nprovider = [\"google\"]\nrate = \"1/h\"\n",
    );
    let ids: Vec<String> = [
        "a@one.example",
        "b@two.example",
        "c@one.example",
        "d@two.example",
    ]
    .iter()
    .map(|to| submit(&relay, "app@sender.example", &[to]))
    .collect();
    until("one arrives", || mx.mail().pop());
    until("the others wait for the rate that all sites share", || {
        let waiting = relay.json(&["queue", "list"]);
        let says = |message: &serde_json::Value| {
            let id = message["id"].as_str().unwrap_or_default();
            let shown = text(&relay.relayctl(&["queue", "show", id]));
            shown.contains("rate 1/h reached") || shown.contains("rate to provider google")
        };
        (waiting.len() == ids.len() - 1 && waiting.iter().all(says)).then_some(())
    });
    assert_eq!(mx.mail().len(), 1);
    reload(&relay, "1/h", "1000/s");
    until("all arrive", || {
        (mx.mail().len() == ids.len()).then_some(())
    });
    relay.drained();
}

#[test]
fn messages_and_recipients_by_mx_are_never_more_and_change_by_a_reload() {
    let network = Network::with_zone(ZONE);
    let mx = network.mx(2, "");
    let relay = relay(
        &network,
        "[[limit]]\nto = [\"*\"]\nmessages_per_connection = 50\nrecipients_per_transaction = 50\n\
         [[limit]]\nmx = [\"*.google.com\"]\nmessages_per_connection = 3\nrecipients_per_transaction = 2\n",
    );
    let to = [
        "a@one.example",
        "b@one.example",
        "c@one.example",
        "d@one.example",
        "e@one.example",
    ];
    let most = |from: usize| {
        let mail = mx.mail().split_off(from);
        let in_session = |session: usize| mail.iter().filter(|one| one.session == session).count();
        let messages = mail.iter().map(|one| in_session(one.session)).max();
        (messages, mail.iter().map(|one| one.to.len()).max())
    };
    let send = |count: usize| {
        for _ in 0..6 {
            submit(&relay, "app@sender.example", &to);
        }
        until("all arrive", || {
            (mx.recipients().len() == count).then_some(())
        });
        relay.drained();
    };
    send(30);
    let (messages, recipients) = most(0);
    assert!(messages <= Some(3), "{messages:?}");
    assert_eq!(recipients, Some(2));
    let before = mx.mail().len();
    reload(
        &relay,
        "recipients_per_transaction = 2",
        "recipients_per_transaction = 4",
    );
    reload(
        &relay,
        "messages_per_connection = 3",
        "messages_per_connection = 1",
    );
    send(60);
    let (messages, recipients) = most(before);
    assert_eq!((messages, recipients), (Some(1), Some(4)));
}
