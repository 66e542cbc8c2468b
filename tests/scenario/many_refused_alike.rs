//! What one reply says of a recipient, many say of us or of the other side: nobody bounces for it any more.

use relay_testkit::{Network, until};

use crate::{network, relay, submit, text};

#[test]
fn a_site_that_refuses_everyone_for_what_we_are_gets_nothing_more_for_a_while() {
    let network = network();
    let _mx = network.mx(
        2,
        "RCPT => 554 5.7.1 Message rejected due to administrative policy",
    );
    let relay = relay(&network, "");
    for number in 0..3 {
        let to: Vec<String> = (0..4)
            .map(|n| format!("u{number}{n}@rcpt.example"))
            .collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        submit(&relay, "app@sender.example", &to);
        if number < 2 {
            until("these bounce", || {
                let list = relay.json(&["queue", "list", "--to", "rcpt.example"]);
                list.is_empty().then_some(())
            });
        }
    }
    let waiting = until("the third message waits", || {
        let list = relay.json(&["queue", "list", "--to", "rcpt.example"]);
        let row = list.first()?;
        (row["recipients"][0]["rule"] == "many-refused-alike").then(|| row.clone())
    });
    let recipients = waiting["recipients"].as_array().unwrap();
    assert_eq!(recipients.len(), 4, "{waiting}");
    for recipient in recipients {
        assert_eq!(recipient["state"], "deferred", "{recipient}");
        assert_eq!(recipient["category"], "policy-rejected", "{recipient}");
    }
    let id = waiting["id"].as_str().unwrap();
    let shown = text(&relay.relayctl(&["queue", "show", id]));
    assert!(
        shown.contains("The site has refused ten recipients"),
        "{shown}"
    );
    let sites = relay.json(&["site", "list"]);
    let site = sites.iter().find(|site| site["site"] == "mx.rcpt.example");
    assert_eq!(site.unwrap()["why"], "many-refused-alike", "{sites:?}");
    let status = text(&relay.relayctl(&["status"]));
    assert!(status.contains("many-refused-alike"), "{status}");
}

#[test]
fn a_site_that_suddenly_knows_nobody_is_not_believed_and_its_users_stay_off_the_list() {
    let network = network();
    let mx = network.mx(2, "");
    let sender = network.mx(3, "");
    let relay = relay(&network, "");
    let users: Vec<String> = (0..80).map(|n| format!("u{n}@rcpt.example")).collect();
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    submit(&relay, "app@sender.example", &all);
    until("all get it", || {
        (mx.recipients().len() == all.len()).then_some(())
    });
    mx.rescript("RCPT => 550 5.1.1 No such user here");

    // One by one, so that some bounce and are suppressed before it is noticed.
    for user in &all[..5] {
        submit(&relay, "app@sender.example", &[user]);
    }
    until("the first five are on the list", || {
        (relay.json(&["suppression", "list"]).len() == 5).then_some(())
    });
    submit(&relay, "app@sender.example", &all[5..40]);
    until("the others wait", || {
        let list = relay.json(&["queue", "list", "--to", "rcpt.example"]);
        let recipients = list.first()?["recipients"].as_array()?.clone();
        let waits = |one: &serde_json::Value| one["rule"] == "unusually-many-unknown";
        (recipients.len() == 35 && recipients.iter().all(waits)).then_some(())
    });
    assert!(
        relay.json(&["suppression", "list"]).is_empty(),
        "the five are off again"
    );
    let status = text(&relay.relayctl(&["status"]));
    assert!(status.contains("unusually-many-unknown"), "{status}");
    until("five reports", || (sender.mail().len() == 5).then_some(()));

    let resumed = relay.relayctl(&["site", "resume", "rcpt.example"]);
    assert!(resumed.status.success(), "{}", text(&resumed));
    relay.relayctl(&["queue", "flush"]);
    until("an operator's word makes them bounce", || {
        (relay.json(&["suppression", "list"]).len() == 35).then_some(())
    });
}

#[test]
fn hosts_that_all_fail_alike_suspend_their_site_by_one_message() {
    let network = Network::with_zone(
        "rcpt.example MX 5 a.rcpt.example\nrcpt.example MX 10 b.rcpt.example\n\
         a.rcpt.example A 127.0.0.8\nb.rcpt.example A 127.0.0.9",
    );
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let why = until("the site is suspended", || {
        let sites = relay.json(&["site", "list"]);
        let site = sites
            .iter()
            .find(|site| !site["suspended_until"].is_null())?;
        site["why"].as_str().map(str::to_owned)
    });
    assert!(why.ends_with("(all hosts fail alike)"), "{why}");
    let second = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("the second one waits for the site", || {
        let shown = text(&relay.relayctl(&["queue", "show", &second]));
        shown.contains("(all hosts fail alike)").then_some(())
    });
}
