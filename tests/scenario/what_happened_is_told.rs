//! The history: a message that has gone still tells its story, also after a kill, offline, and to those
//! who would decide otherwise.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use relay_testkit::{Relay, until};

use crate::{QUICK_RETRY, network, relay, submit, text};

const GREYLISTED: &str = "451 4.7.1 Greylisting in action, please come back in 00:00:30";

fn assert_has(said: &str, all: &[&str]) {
    for words in all {
        assert!(said.contains(words), "{words} is missing in:\n{said}");
    }
}

fn log_dir(relay: &Relay) -> PathBuf {
    relay.dir().join("state/log")
}

/// The segment that is written.
fn last_segment(relay: &Relay) -> PathBuf {
    let files = fs::read_dir(log_dir(relay)).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let lines = |path: &PathBuf| path.extension().is_some_and(|end| end == "ndjson");
    paths.filter(lines).max().unwrap()
}

#[test]
fn a_message_that_has_gone_tells_its_story_after_a_kill_too_and_without_the_daemon() {
    let network = network();
    let _mx = network.mx(
        2,
        "first 1 RCPT TO:<a@ => 451-4.7.1 Not now,\\n451 4.7.1 please come back later\nRCPT TO:<b@ => 550 5.1.1 no such user",
    );
    let sender = network.mx(3, "");
    let mut relay = relay(&network, QUICK_RETRY);
    let to = ["a@rcpt.example", "b@rcpt.example"];
    let id = submit(&relay, "app@sender.example", &to);
    until("the report comes", || sender.mail().pop());
    relay.drained();
    let told = text(&relay.relayctl(&["log", &id]));
    let words = [
        "accepted from 127.0.0.1, ",
        "app@sender.example to a@rcpt.example, b@rcpt.example",
        "a@rcpt.example: deferred until ",
        "mx.rcpt.example [127.0.0.2], in clear, rcpt",
        "a@rcpt.example: delivered after ",
        "b@rcpt.example: bounced",
        "550 5.1.1 no such user",
        &format!("about {id} to app@sender.example queued"),
    ];
    assert_has(&told, &words);
    let entries = relay.json(&["log", &id]);
    let events: Vec<&str> = entries.iter().filter_map(|e| e["event"].as_str()).collect();
    assert_eq!(events.first(), Some(&"message_accepted"), "{events:?}");
    let deferred = entries.iter().find(|e| e["event"] == "recipient_deferred");
    let deferred = deferred.unwrap();
    assert_eq!(
        (&deferred["code"], &deferred["enhanced"]),
        (&451.into(), &"4.7.1".into())
    );
    assert_eq!(deferred["site"], "mx.rcpt.example");

    // A kill in the middle of a line.
    relay.kill();
    let mut file = fs::File::options()
        .append(true)
        .open(last_segment(&relay))
        .unwrap();
    file.write_all(br#"{"at":"2026-11-22T16:00:00.000Z","event":"recip"#)
        .unwrap();
    let offline = relay.dir().join("state").display().to_string();
    let alone = relay.relayctl(&["log", &id, "--offline", &offline]);
    assert!(alone.status.success(), "{}", text(&alone));
    assert_has(&text(&alone), &words);
    let online = relay.relayctl(&["log", &id]);
    assert_eq!(online.status.code(), Some(69));
    assert_has(&text(&online), &["--offline"]);

    relay.restart();
    assert_has(&text(&relay.relayctl(&["log", &id])), &words);
    // The queue itself does not remember it any more.
    let shown = relay.relayctl(&["queue", "show", &id]);
    assert!(shown.status.success(), "{}", text(&shown));
    let both = [
        "a@rcpt.example: delivered after 2 attempts",
        "b@rcpt.example: bounced",
    ];
    assert_has(&text(&shown), &both);
    let again = submit(&relay, "app@sender.example", &["a@rcpt.example"]);
    relay.drained();
    // It waits until what has happened is written.
    assert_has(&text(&relay.relayctl(&["log", &again])), &["delivered"]);
    let lines = fs::read_to_string(last_segment(&relay)).unwrap();
    assert!(
        lines.contains(&again) && !lines.contains("recip{"),
        "{lines}"
    );
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn the_history_is_selected_followed_and_says_when_there_is_nothing() {
    let network = network();
    let _mx = network.mx(2, "RCPT TO:<full@ => 452 4.2.2 Mailbox full");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["full@rcpt.example"]);
    relay.recipient_becomes("deferred");
    for select in [
        ["--category", "mailbox-full"],
        ["--site", "mx.rcpt.example"],
        ["--recipient", "FULL@rcpt.example"],
        ["--to", "rcpt.example"],
        ["--sender", "app@sender.example"],
    ] {
        let told = text(&relay.relayctl(&[&["log"], &select[..]].concat()));
        assert_has(&told, &[&id, "full@rcpt.example: deferred until "]);
    }
    for (arguments, status) in [
        (["log", "--to", "nobody.example"], 1),
        (["log", "--id", "3f7k9q2mxt4p"], 1),
        (["log", "--id", "nonsense"], 2),
        (["log", "--since", "soon"], 2),
    ] {
        let answer = relay.relayctl(&arguments);
        assert_eq!(answer.status.code(), Some(status), "{}", text(&answer));
    }

    let program = PathBuf::from(env!("CARGO_BIN_EXE_relayd")).with_file_name("relayctl");
    let mut follower = Command::new(program)
        .arg("--socket")
        .arg(relay.dir().join("relayd.sock"))
        .args([
            "log",
            "--since",
            "1h",
            "--follow",
            "--recipient",
            "new@rcpt.example",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    submit(&relay, "app@sender.example", &["new@rcpt.example"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let told = lines.by_ref().map_while(Result::ok);
    let delivered = told
        .into_iter()
        .find(|line| line.contains("new@rcpt.example: delivered"));
    let _ = follower.kill();
    let _ = follower.wait();
    assert!(delivered.is_some());
}

#[test]
fn another_table_is_tried_on_the_replies_that_came_and_rules_are_counted() {
    let network = network();
    let script = format!("first 2 RCPT TO:<grey => {GREYLISTED}");
    let _mx = network.mx(
        2,
        &format!("{script}\nRCPT TO:<full@ => 452 4.2.2 Mailbox full"),
    );
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["grey1@rcpt.example"]);
    submit(&relay, "app@sender.example", &["grey2@rcpt.example"]);
    submit(&relay, "app@sender.example", &["full@rcpt.example"]);
    submit(&relay, "app@sender.example", &["fine@rcpt.example"]);
    until("all have been tried", || {
        let deferred = relay.json(&["log", "--since", "1h"]);
        let tried = deferred
            .iter()
            .filter(|e| e["event"] == "recipient_deferred");
        (tried.count() == 3).then_some(())
    });
    until("one is delivered", || {
        let log = relay.json(&["log", "--recipient", "fine@rcpt.example"]);
        log.iter()
            .find(|e| e["event"] == "recipient_delivered")
            .cloned()
    });

    let table = |rules: &str| {
        let path = relay.dir().join("new.toml");
        fs::write(&path, rules).unwrap();
        path.display().to_string()
    };
    let patient = table(
        "[[rule]]\nname = \"my-greylisting\"\ntext = 'Greylisting'\ncategory = \"greylisted\"\n\
         action = \"defer\"\nexplain = \"x\"\nexample = [\"451 4.7.1 Greylisting in action\"]\n",
    );
    let replayed = relay.json(&["policy", "replay", "--with", &patient]);
    let [change, whole] = &replayed[..] else {
        panic!("{replayed:?}");
    };
    assert_eq!(
        (&change["rule_before"], &change["rule_after"]),
        (&"greylisted".into(), &"my-greylisting".into())
    );
    assert_eq!(
        (&change["replies"], &change["messages"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&change["action_before"], &change["action_after"]),
        (&"wait_hint".into(), &"defer".into())
    );
    assert_eq!(
        (
            &whole["looked_at"],
            &whole["changed"],
            &whole["undecidable"]
        ),
        (&4.into(), &2.into(), &0.into())
    );
    let shown = relay.relayctl(&["policy", "replay", "--with", &patient]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
    assert_has(
        &text(&shown),
        &[
            "my-greylisting",
            "4 decisions looked at; 2 would be decided otherwise",
        ],
    );
    let same = relay.relayctl(&["policy", "replay", "--since", "1h"]);
    assert_has(&text(&same), &["4 decisions looked at; 0 would be"]);

    let strict = table(
        "[[rule]]\nname = \"strict\"\ntext = 'Mailbox full'\ncategory = \"mailbox-full\"\n\
         action = \"bounce\"\nexample = [\"452 4.2.2 Mailbox full\"]\n",
    );
    let harmful = relay.relayctl(&["policy", "replay", "--with", &strict]);
    assert_eq!(harmful.status.code(), Some(1), "{}", text(&harmful));
    assert_has(
        &text(&harmful),
        &["1 would newly be bounced", "full@rcpt.example"],
    );
    let broken = table("[[rule]]\nname = 3\n");
    let refused = relay.relayctl(&["policy", "replay", "--with", &broken]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));

    let counted = |arguments: &[&str]| {
        let rows = relay.json(&[&["policy", "list", "--hits"], arguments].concat());
        let row = rows.iter().find(|row| row["rule"] == "greylisted").cloned();
        row.unwrap()["recipients"].as_u64()
    };
    assert_eq!(counted(&[]), Some(2));
    assert_eq!(counted(&["--since", "1h"]), Some(2));
    let listed = text(&relay.relayctl(&["policy", "list", "--hits"]));
    assert_has(&listed, &["greylisted", " rules never decided"]);
}

#[test]
fn no_secret_and_no_text_of_a_message_comes_into_the_history() {
    let network = network();
    let _mx = network.mx(2, "");
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["a@rcpt.example"]);
    relay.drained();
    let told = text(&relay.relayctl(&["log", &id]));
    assert_has(&told, &["a@rcpt.example: delivered"]);
    let lines = fs::read_to_string(last_segment(&relay)).unwrap();
    for private in ["Subject", "First line.", "hello", "password"] {
        assert!(!lines.contains(private), "{private}:\n{lines}");
    }
}

#[test]
fn nothing_is_kept_where_that_is_wished_and_the_command_says_so() {
    let network = network();
    let _mx = network.mx(2, "");
    let mut relay = relay(&network, "");
    relay.kill();
    let on = "[log]\n";
    relay.edit_settings(on, "[log]\nhistory = \"domains\"\n");
    relay.restart();
    submit(&relay, "app@sender.example", &["someone@rcpt.example"]);
    relay.drained();
    let told = text(&relay.relayctl(&["log", "--to", "rcpt.example"]));
    assert_has(&told, &["*@rcpt.example: delivered"]);
    assert!(!told.contains("someone"), "{told}");

    relay.kill();
    fs::remove_dir_all(log_dir(&relay)).unwrap();
    relay.edit_settings("\"domains\"", "\"off\"");
    relay.restart();
    submit(&relay, "app@sender.example", &["someone@rcpt.example"]);
    relay.drained();
    let answer = relay.relayctl(&["log"]);
    assert_eq!(answer.status.code(), Some(1));
    assert_has(&text(&answer), &["log.history"]);
    assert!(!log_dir(&relay).exists());
}
