//! What scripts rely on: exit status, keys of the JSON, no colours in a pipe.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use relay_testkit::Relay;

use crate::{network, relay, submit, text};

/// relayctl as a script runs it in this directory, without `--socket`.
fn relayctl(directory: &Path, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_relayd")).with_file_name("relayctl");
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_remove("RELAYD_SOCKET")
        .output()
        .unwrap()
}

fn ends_with(relay: &Relay, status: i32, arguments: &[&str]) -> String {
    let output = relay.relayctl(arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    said
}

#[test]
fn done_is_0_and_not_well_is_1() {
    let network = network();
    let _mx = network.mx(2, "RCPT TO:<bad@ => 550 5.1.1 No such user");
    let relay = relay(&network, "");
    for arguments in [
        &["status"][..],
        &["queue", "list"],
        &["queue", "summary"],
        &["queue", "flush"],
        &["send", "--wait", "--to", "you@rcpt.example", "hello"],
    ] {
        ends_with(&relay, 0, arguments);
    }
    for arguments in [
        &["queue", "hold", "--to", "nobody.example"][..],
        &["queue", "release", "--all"],
        &["queue", "bounce", "--to", "nobody.example", "--yes"],
        &["queue", "delete", "--to", "nobody.example", "--yes"],
        &["queue", "flush", "--to", "nobody.example"],
        &["queue", "show", "3f7k9q2mxt4p"],
    ] {
        ends_with(&relay, 1, arguments);
    }
    let said = ends_with(
        &relay,
        1,
        &["send", "--wait", "--to", "bad@rcpt.example", "hello"],
    );
    for words in ["bounced", "550 5.1.1 No such user"] {
        assert!(said.contains(words), "{words} is missing in:\n{said}");
    }
}

#[test]
fn wrong_usage_is_2_and_says_what_to_write() {
    let network = network();
    let relay = relay(&network, "");
    for (arguments, words) in [
        (&["queue", "list", "--limit", "few"][..], "--limit"),
        (&["queue", "list", "--older-than", "soon"], "30m"),
        (&["queue", "list", "--id", "nonsense"], "nonsense"),
        (&["queue", "hold"], "--all"),
        (&["queue", "release"], "--all"),
        (&["queue", "delete"], "--all"),
        (&["queue", "delete", "--all"], "--yes"),
        (&["queue", "bounce", "--all"], "--yes"),
        (&["queue", "dance"], "dance"),
        (&["send"], "--to"),
    ] {
        let said = ends_with(&relay, 2, arguments);
        assert!(said.contains(words), "{words} is missing in:\n{said}");
    }
}

#[test]
fn an_absent_daemon_is_69_and_how_to_start_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["status"][..], &["queue", "list"], &["reload"]] {
        let output = relayctl(
            directory.path(),
            &[&["--socket", "nobody.sock"], arguments].concat(),
        );
        let said = text(&output);
        assert_eq!(output.status.code(), Some(69), "{said}");
        for words in ["nobody.sock", "systemctl start relayd", "relayd --sandbox"] {
            assert!(said.contains(words), "{words} is missing in:\n{said}");
        }
    }
}

#[test]
fn a_wrong_configuration_is_78_offline_and_at_a_reload() {
    let network = network();
    let relay = relay(&network, "");
    let file = relay.dir().join("relayd.toml");
    let file = file.display().to_string();
    ends_with(&relay, 0, &["config", "check", "--config", &file]);
    ends_with(&relay, 0, &["reload"]);
    relay.edit_settings("hostname", "hostnam");
    for arguments in [&["config", "check", "--config", &file][..], &["reload"]] {
        let said = ends_with(&relay, 78, arguments);
        assert!(said.contains("relayd.toml:1"), "{said}");
    }
}

#[test]
fn a_listed_message_has_the_keys_that_scripts_know() {
    let network = network();
    let relay = relay(&network, "");
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.recipient_becomes("deferred");
    let list = relay.json(&["queue", "list"]);
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let known = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    assert_eq!(list.len(), 1);
    assert_eq!(
        keys(&list[0]),
        known(&[
            "id",
            "sender",
            "size",
            "arrived",
            "priority",
            "recipients",
            "user"
        ])
    );
    assert_eq!(
        keys(&list[0]["recipients"][0]),
        known(&[
            "address",
            "state",
            "attempts",
            "next_attempt",
            "expires",
            "last_reply",
            "rule",
            "category",
            "host",
            "route",
            "last_attempt",
        ])
    );
    for time in [&list[0]["arrived"], &list[0]["recipients"][0]["expires"]] {
        assert!(
            time.as_str().unwrap().ends_with('Z'),
            "{time} is not in UTC"
        );
    }
}

#[test]
fn what_goes_into_a_pipe_has_no_colours() {
    let network = network();
    let relay = relay(&network, "");
    let id = submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    relay.recipient_becomes("deferred");
    for arguments in [
        &["status"][..],
        &["queue", "list"],
        &["queue", "show", &id],
        &["queue", "summary"],
        &["queue", "flush", "--wait"],
        &["queue", "hold", "--all"],
    ] {
        let said = text(&relay.relayctl(arguments));
        assert!(!said.contains('\x1b'), "{arguments:?}: {said:?}");
        let longest = said.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{arguments:?}:\n{said}");
    }
}

#[test]
fn the_sandboxs_socket_is_found_from_where_it_was_started() {
    let network = network();
    let settings = format!(
        "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{}\"]\n[admin]\nsocket = \"DIR/relayd-sandbox/relayd.sock\"\n\
         [log]\nformat = \"json\"\n",
        network.dns.address
    );
    let relay = Relay::start_with(env!("CARGO_BIN_EXE_relayd"), &settings);
    let output = relayctl(relay.dir(), &["status"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("relay.test"), "{}", text(&output));
}
