//! The first MX takes connections and never says a word: one message waits for it, the others go to the
//! second at once, operators see why, and a probe finds it again.

use std::net::TcpListener;

use relay_testkit::{Network, until};

use crate::{relay, submit, text};

#[test]
fn only_the_first_message_waits_for_a_silent_host() {
    let network = Network::with_zone(
        "rcpt.example MX 5 silent.rcpt.example\nrcpt.example MX 10 up.rcpt.example\n\
         silent.rcpt.example A 127.0.0.9\nup.rcpt.example A 127.0.0.2",
    );
    let silent = TcpListener::bind(("127.0.0.9", network.port)).unwrap();
    silent.set_nonblocking(true).unwrap();
    let up = network.mx(2, "");
    // A connection for each message.
    let relay = relay(
        &network,
        "[delivery.timeouts]\nbanner = \"500ms\"\n\
         [[limit]]\nto = [\"*\"]\nmessages_per_connection = 1\n",
    );
    for count in 1..=5 {
        submit(&relay, "app@sender.example", &["you@rcpt.example"]);
        until("it arrives", || (up.mail().len() == count).then_some(()));
    }
    relay.drained();
    let connections = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(connections, 1, "the silent host was asked once");
    let port = network.port;
    let shown = text(&relay.relayctl(&["site", "show", "rcpt.example"]));
    let wanted = format!("silent.rcpt.example port {port} [127.0.0.9] dead, probed in");
    assert!(shown.contains(&wanted), "{shown}");
    let status = text(&relay.relayctl(&["status"]));
    let wanted = format!("host silent.rcpt.example port {port} dead for");
    assert!(status.contains(&wanted), "{status}");
    // An operator who knows better.
    let said = relay.relayctl(&["site", "resume", "rcpt.example"]);
    assert!(said.status.success(), "{}", text(&said));
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("it arrives", || (up.mail().len() == 6).then_some(()));
    until("it was asked again", || silent.accept().ok());
}

#[test]
fn where_no_other_host_is_left_a_flush_asks_the_dead_one_and_its_answer_ends_that() {
    let network = Network::with_zone(
        "rcpt.example MX 5 silent.rcpt.example\nsilent.rcpt.example A 127.0.0.9",
    );
    let silent = TcpListener::bind(("127.0.0.9", network.port)).unwrap();
    let relay = relay(
        &network,
        "[delivery.timeouts]\nbanner = \"500ms\"\n[retry.default]\nsteps = [\"1h\"]\n",
    );
    let first = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.recipient_becomes("deferred");
    // The next one does not wait for it again.
    let second = submit(&relay, "app@sender.example", &["me@rcpt.example"]);
    let shown = until("it is deferred", || {
        let shown = text(&relay.relayctl(&["queue", "show", &second]));
        shown
            .contains("not tried: known not to answer")
            .then_some(shown)
    });
    assert!(shown.contains("silent.rcpt.example [127.0.0.9]"), "{shown}");
    silent.set_nonblocking(true).unwrap();
    let connections = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(connections, 1, "{shown}");
    drop(silent);
    let back = network.mx(9, "");
    relay.relayctl(&["queue", "flush", "--id", &first]);
    until("the flushed one arrives", || {
        (back.recipients() == ["you@rcpt.example"]).then_some(())
    });
    let sites = relay.json(&["site", "list"]);
    let hosts = sites[0]["hosts"].as_array().unwrap();
    assert!(hosts.is_empty(), "it is not dead any more: {hosts:?}");
}
