//! An operator asks whether all that is stored can be read.

use relay_testkit::Client;

use crate::{MESSAGE, network, relay, text};

#[test]
fn a_queue_is_verified_online_and_offline_and_damage_is_found() {
    let network = network();
    let mut relay = relay(&network, "");
    let mut client = Client::connect(relay.submission);
    for _ in 0..20 {
        client.submit("app@sender.example", &["a@rcpt.example"], MESSAGE);
    }
    let online = relay.relayctl(&["queue", "verify"]);
    assert!(online.status.success(), "{}", text(&online));
    let found = relay.json(&["queue", "verify"]);
    assert_eq!(
        (&found[0]["messages"], &found[0]["well"]),
        (&20.into(), &true.into())
    );
    let state = relay.dir().join("state");
    let offline = ["queue", "verify", "--offline", state.to_str().unwrap()];
    let used = relay.relayctl(&offline);
    assert_eq!(used.status.code(), Some(1));
    assert!(
        text(&used).contains("is in use by relayd"),
        "{}",
        text(&used)
    );

    relay.kill();
    let sound = relay.relayctl(&offline);
    assert!(sound.status.success(), "{}", text(&sound));
    let segment = state.join("journal/seg-0000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(11)
        .position(|bytes| bytes == b"First line.")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = relay.relayctl(&offline);
    assert_eq!(damaged.status.code(), Some(1), "{}", text(&damaged));
    for words in ["journal segment 1 at byte", "checksum is wrong", "not well"] {
        assert!(text(&damaged).contains(words), "{}", text(&damaged));
    }
}
