//! Null MX and domains that do not exist: bounced at once, nobody waits five days. DNS trouble defers.

use relay_testkit::{Network, until};

use crate::{relay, submit};

fn network(zone: &str) -> Network {
    Network::with_zone(&format!(
        "sender.example MX 10 mx.sender.example\nmx.sender.example A 127.0.0.3\n{zone}"
    ))
}

#[test]
fn a_null_mx_bounces_at_once() {
    let network = network("silent.example MX 0 .");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@silent.example"]);
    let dsn = until("the DSN arrives", || sender.mail().pop());
    assert!(
        dsn.data.contains("Status: 5.1.10"),
        "RFC 7505 section 4.2:\n{}",
        dsn.data
    );
    relay.drained();
}

#[test]
fn a_domain_that_does_not_exist_bounces_at_once() {
    let network = network("");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@nowhere.example"]);
    let dsn = until("the DSN arrives", || sender.mail().pop());
    assert!(
        dsn.data
            .contains("Final-Recipient: rfc822; you@nowhere.example"),
        "{}",
        dsn.data
    );
    assert!(
        dsn.data.contains("Status: 5.1.2"),
        "RFC 3463 section 3.2:\n{}",
        dsn.data
    );
    relay.drained();
}

#[test]
fn dns_trouble_defers_and_bounces_nobody() {
    let network = network("broken.example SERVFAIL");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@broken.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["category"], "dns-failure", "{recipient}");
    assert!(sender.mail().is_empty());
}
