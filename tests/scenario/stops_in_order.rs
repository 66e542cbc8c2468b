//! SIGTERM: sessions end, what was accepted is kept, exit status 0.

use relay_testkit::Client;

use crate::{MESSAGE, network, relay};

#[test]
fn a_stop_with_an_idle_client_and_a_full_queue_is_quick_and_loses_nothing() {
    let network = network();
    let mut relay = relay(&network, "");
    let mut client = Client::connect(relay.submission);
    let id = client.submit("app@sender.example", &["you@rcpt.example"], MESSAGE);
    assert_eq!(relay.stop(), Some(0));
    let farewell = client.reply();
    assert!(
        farewell.is_empty() || farewell.starts_with("421 4.3.2"),
        "{farewell}"
    );
    relay.restart();
    assert_eq!(relay.json(&["queue", "list", "--id", &id]).len(), 1);
}
