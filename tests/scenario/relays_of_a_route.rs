//! `[[route]] via` two relays: one stands in for the other, the first one's return is used, mail for which
//! neither is there waits and says so, and a balanced route uses both.

use relay_testkit::{Mx, Network, Relay, free_port, until};

use crate::{relay, submit, text};

const FROM: &str = "app@sender.example";
const TO: &[&str] = &["you@rcpt.example"];

/// Relays at 127.0.0.2 and 127.0.0.3; a connection for each message, and no second try by itself.
fn by_two(network: &Network, more: &str) -> Relay {
    let port = network.port;
    relay(
        network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{port}\", \"127.0.0.3:{port}\"]\n{more}\
             [[limit]]\nto = [\"*\"]\nmessages_per_connection = 1\n\
             [retry.default]\nsteps = [\"1h\"]\n"
        ),
    )
}

/// One message more, and all that this relay has got with it.
fn arrives(relay: &Relay, at: &Mx, count: usize) {
    submit(relay, FROM, TO);
    until("it arrives", || (at.mail().len() == count).then_some(()));
    relay.drained();
}

#[test]
fn the_second_relay_stands_in_for_the_first_which_is_used_again_when_it_returns() {
    let network = Network::with_zone("");
    let first = network.mx(2, "");
    let second = network.mx(3, "");
    let relay = by_two(&network, "");
    let site = format!("relay:127.0.0.2:{0},127.0.0.3:{0}", network.port);
    arrives(&relay, &first, 1);
    arrives(&relay, &first, 2);
    assert!(second.mail().is_empty(), "in the order of via");

    drop(first);
    arrives(&relay, &second, 1);
    let shown = text(&relay.relayctl(&["site", "show", &site]));
    let wanted = format!("[127.0.0.2] port {} tried last, until in ", network.port);
    assert!(shown.contains(&wanted), "{shown}");

    // It rests still; where the other one is gone it is called all the same.
    let first = network.mx(2, "");
    arrives(&relay, &second, 2);
    drop(second);
    arrives(&relay, &first, 1);
    // That went well, so it has its place in front of the other one again.
    let second = network.mx(3, "");
    arrives(&relay, &first, 2);
    assert!(second.mail().is_empty());
}

#[test]
fn an_operator_who_knows_that_the_first_is_back_has_it_used_at_once() {
    let network = Network::with_zone("");
    let second = network.mx(3, "");
    let relay = by_two(&network, "");
    let site = format!("relay:127.0.0.2:{0},127.0.0.3:{0}", network.port);
    arrives(&relay, &second, 1);
    let first = network.mx(2, "");
    let said = relay.relayctl(&["site", "resume", &site]);
    assert!(said.status.success(), "{}", text(&said));
    arrives(&relay, &first, 1);
    assert_eq!(second.mail().len(), 1);
}

#[test]
fn with_both_relays_down_the_message_waits_says_why_and_goes_when_one_returns() {
    let network = Network::with_zone("");
    let relay = by_two(&network, "");
    let id = submit(&relay, FROM, TO);
    relay.recipient_becomes("deferred");
    let shown = until("the site is suspended", || {
        let shown = text(&relay.relayctl(&["queue", "show", &id]));
        shown.contains("suspended until").then_some(shown)
    });
    let site = format!("relay:127.0.0.2:{0},127.0.0.3:{0}", network.port);
    for words in [
        &*format!("site {site} suspended until"),
        "hosts fail alike",
        "[127.0.0.3]",
        "refused",
        "Rule      ",
        "Meaning   ",
        &*format!("relayctl queue flush --wait --id {id}"),
    ] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }
    // New mail does not try what is known to be down.
    let later = submit(&relay, FROM, &["me@rcpt.example"]);
    let shown = text(&relay.relayctl(&["queue", "show", &later]));
    assert!(
        shown.contains("queued") && !shown.contains("after 1 attempt"),
        "{shown}"
    );

    let second = network.mx(3, "");
    let flushed = relay.relayctl(&["queue", "flush"]);
    assert!(flushed.status.success(), "{}", text(&flushed));
    until("both arrive", || {
        (second.recipients().len() == 2).then_some(())
    });
    relay.drained();
}

#[test]
fn a_message_goes_by_itself_when_its_only_relay_returns() {
    let network = Network::with_zone("");
    let port = network.port;
    let relay = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{port}\"]\n\
             [retry.default]\nsteps = [\"3s\"]\n"
        ),
    );
    submit(&relay, FROM, TO);
    relay.recipient_becomes("deferred");
    let back = network.mx(2, "");
    until("it arrives", || back.mail().pop());
    relay.drained();
}

#[test]
fn a_balanced_route_uses_both_relays() {
    let network = Network::with_zone("");
    let first = network.mx(2, "");
    let second = network.mx(3, "");
    let relay = by_two(&network, "balance = \"even\"\n");
    // By chance: until each has had some.
    let sent = until("both are used", || {
        submit(&relay, FROM, TO);
        relay.drained();
        let counts = (first.mail().len(), second.mail().len());
        (counts.0 > 2 && counts.1 > 2).then_some(counts)
    });
    // Without one of them nothing is lost.
    drop(second);
    for _ in 0..3 {
        submit(&relay, FROM, TO);
    }
    until("the other one takes all", || {
        (first.mail().len() == sent.0 + 3).then_some(())
    });
    relay.drained();
}

#[test]
fn two_relays_at_one_address_are_told_apart_by_their_ports() {
    let network = Network::with_zone("");
    let port = network.port;
    let alive = network.mx(2, "");
    let other = free_port();
    // Nobody listens at the first one's port; the second is at the same address.
    let relay = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{other}\", \"127.0.0.2:{port}\"]\n\
             [[limit]]\nto = [\"*\"]\nmessages_per_connection = 1\n"
        ),
    );
    arrives(&relay, &alive, 1);
    arrives(&relay, &alive, 2);
    let sites = relay.json(&["site", "list"]);
    let hosts = sites[0]["hosts"].as_array().unwrap();
    let ports: Vec<u64> = hosts
        .iter()
        .map(|host| host["port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports, [u64::from(other)], "{hosts:?}");
}
