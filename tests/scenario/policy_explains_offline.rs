//! `relayctl policy test` needs no daemon.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::text;

fn relayctl() -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_relayd")).with_file_name("relayctl");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build --bins` first",
        program.display()
    );
    Command::new(program)
}

#[test]
fn one_reply_is_explained() {
    let output = relayctl()
        .args([
            "policy",
            "test",
            "--phase",
            "rcpt",
            "--to",
            "gmail.com",
            "550 5.1.1 The email account that you tried to reach does not exist",
        ])
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in ["invalid-recipient", "bounce_suppress", "policy.toml:"] {
        assert!(said.contains(word), "{word} is missing in:\n{said}");
    }
}

#[test]
fn a_batch_is_decided_line_by_line() {
    let mut child = relayctl()
        .args(["policy", "test", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = "{\"reply\":\"451 4.7.1 Greylisted, come back in 00:02:00\",\"phase\":\"rcpt\"}\n{\"reply\":\"250 ok\",\"phase\":\"body\",\"provider\":\"nobody-knows\"}\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(
        (lines[0]["action"].as_str(), lines[0]["category"].as_str()),
        (Some("wait_hint"), Some("greylisted"))
    );
    assert_eq!(lines[0]["retry_after"], 120);
    assert_eq!(lines[1]["action"], "ok");
}

#[test]
fn lint_says_what_is_wrong_with_a_rule_and_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.toml");
    let named = file.display().to_string();
    let rule = |name: &str, more: &str| {
        format!("[[rule]]\nname = \"{name}\"\naction = \"hold\"\n{more}\n")
    };
    let one = rule(
        "one",
        "category = \"virus\"\ncode = [\"55x\"]\ntext = 'zebra'\nexample = \"550 a zebra\"",
    );
    for (rules, status, said) in [
        (
            format!(
                "{one}{}",
                rule(
                    "two",
                    "category = \"virus\"\ncode = [\"550\"]\ntext = 'zebras'\nprovider = [\"google\"]"
                )
            ),
            1,
            format!(
                "{named}:8: rule two: never reached: rule one ({named}:1) takes all that this one asks for; move this one before it, or remove it"
            ),
        ),
        (
            rule(
                "all",
                "category = \"virus\"\ncode = [\"550\"]\ntext = '.*'\nexample = \"550 any\"",
            ),
            1,
            format!(
                "{named}:1: rule all: text = '.*' is found in every reply; leave `text` out, or name words of the reply"
            ),
        ),
        (
            one.replace("a zebra", "a horse"),
            78,
            format!(
                "{named}:7: example = \"550 a horse\" is taken by rule code-transaction-failed ("
            ),
        ),
        (
            one.replace("virus", "viruses"),
            78,
            format!(
                "{named}:4: category = \"viruses\": unknown category; perhaps \"virus\" is meant; write one of success, invalid-recipient, "
            ),
        ),
    ] {
        std::fs::write(&file, rules).unwrap();
        let output = relayctl()
            .args(["policy", "lint", "--files", &named])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        let found = text(&output);
        assert!(found.contains(&said), "{said}\nis missing in:\n{found}");
    }
}
