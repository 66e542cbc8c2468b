//! Nobody listens on the first MX: the second takes the mail in the same attempt.

use relay_testkit::Network;

use crate::{relay, submit};

#[test]
fn the_next_host_takes_it_at_once() {
    let network = Network::with_zone(
        "rcpt.example MX 5 down.rcpt.example\nrcpt.example MX 10 up.rcpt.example\n\
         down.rcpt.example A 127.0.0.9\nup.rcpt.example A 127.0.0.2",
    );
    let up = network.mx(2, "");
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.drained();
    assert_eq!(up.recipients(), ["you@rcpt.example"]);
}

#[test]
fn a_554_banner_on_the_first_leads_to_the_second() {
    let network = Network::with_zone(
        "rcpt.example MX 5 full.rcpt.example\nrcpt.example MX 10 up.rcpt.example\n\
         full.rcpt.example A 127.0.0.3\nup.rcpt.example A 127.0.0.2",
    );
    let full = network.mx(3, "CONNECT => 554 5.3.2 no service here & close");
    let up = network.mx(2, "");
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.drained();
    assert_eq!(up.recipients(), ["you@rcpt.example"]);
    assert!(full.sessions() >= 1 && full.mail().is_empty());
}
