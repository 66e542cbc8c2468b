//! Where a route leads nowhere, an operator sends what waits another way.

use relay_testkit::{Network, until};

use crate::{QUICK_RETRY, ZONE, relay, submit, text};

#[test]
fn rerouted_mail_goes_its_new_way_after_a_restart_and_a_lost_index_too() {
    let network = Network::with_zone(ZONE);
    // Nobody listens at the route's relay.
    let route = format!(
        "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.9:{}\"]\n",
        network.port
    );
    let mut relay = relay(&network, &format!("{route}{QUICK_RETRY}"));
    let to = ["a@rcpt.example", "b@sender.example", "c@rcpt.example"];
    let id = submit(&relay, "app@sender.example", &to);
    until("all have been tried", || {
        let list = relay.json(&["queue", "list"]);
        let recipients = list.first()?.get("recipients")?.as_array()?.clone();
        let tried = recipients.iter().all(|r| r["state"] == "deferred");
        tried.then_some(())
    });
    let reroute = |more: &[&str]| relay.relayctl(&[&["queue", "reroute"], more].concat());
    let nowhere = reroute(&["--id", &id]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere));
    let via = format!("127.0.0.4:{}", network.port);
    let done = reroute(&["--to", "rcpt.example", "--via", &via]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("2 recipients of 1 message rerouted"));
    let done = reroute(&["--recipient", "c@rcpt.example", "--default"]);
    assert!(done.status.success(), "{}", text(&done));
    let done = reroute(&["--recipient", "b@sender.example", "--mx"]);
    assert!(done.status.success(), "{}", text(&done));
    let again = reroute(&["--recipient", "b@sender.example", "--mx"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));

    let log = relay.log().join("\n");
    assert!(log.contains("\"recipient_rerouted\""), "{log}");
    relay.kill();
    let state = relay.dir().join("state");
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("index-")
        {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let other = network.mx(4, "");
    let own = network.mx(3, "");
    relay.restart();
    let mail = until("one goes by the relay", || other.mail().pop());
    assert_eq!(mail.to, ["a@rcpt.example"]);
    let mail = until("one goes to its own host", || own.mail().pop());
    assert_eq!(mail.to, ["b@sender.example"]);
    let shown = text(&relay.relayctl(&["queue", "show", &id]));
    for words in [
        format!("by way of {via}"),
        "the domain's own hosts".to_owned(),
    ] {
        assert!(shown.contains(&words), "{words} is missing in:\n{shown}");
    }
    let list = relay.json(&["queue", "list"]);
    assert_eq!(list[0]["recipients"][2]["route"], serde_json::Value::Null);
    assert_eq!(list[0]["recipients"][2]["state"], "deferred");
    assert_eq!((other.mail().len(), own.mail().len()), (1, 1));
}
