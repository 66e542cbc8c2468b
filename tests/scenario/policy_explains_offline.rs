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
