//! `relayctl dkim`: a key that it makes is published as it says, found well, signs, and each mistake in DNS
//! is told.

use std::path::Path;
use std::process::{Command, Output};

use relay_testkit::{Dns, until};
use serde_json::Value;

use crate::{ZONE, network, relay, submit, text};

#[test]
fn a_key_is_made_published_and_found_well() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = generate(dir.path(), "sender.example", "r", "rsa");
    let ed = generate(dir.path(), "sender.example", "e", "ed25519");
    let zone = format!("{}\n{}", txt(&rsa), txt(&ed));
    let settings = format!("{}{}", config(&rsa), config(&ed));

    let well = check(dir.path(), &zone, &settings, &["--json"]);
    assert_eq!(well.status.code(), Some(0), "{}", text(&well));
    let lines = objects(&well);
    let states: Vec<&Value> = lines.iter().map(|line| &line["state"]).collect();
    assert_eq!(states, ["ok", "ok"]);
    assert_eq!(lines[0]["subject"], "r._domainkey.sender.example");

    // What the other side of the network verifies is what was published.
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, &settings);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("delivered", || mx.mail().pop());
    for (algorithm, selector) in [("rsa-sha256", "r"), ("ed25519-sha256", "e")] {
        let wanted = format!("a={algorithm}; c=relaxed/simple; d=sender.example; s={selector};");
        assert!(
            mail.data.replace("\r\n", "").contains(&wanted),
            "{}",
            mail.data
        );
    }
}

#[test]
fn each_mistake_in_dns_is_told_with_its_fix() {
    let dir = tempfile::tempdir().unwrap();
    let key = generate(dir.path(), "sender.example", "r", "rsa");
    let other = generate(dir.path(), "sender.example", "o", "rsa");
    let name = key["name"].as_str().unwrap();
    let record = key["record"].as_str().unwrap();
    let cases = [
        (String::new(), 1, "there is no TXT record"),
        (format!("{name} TXT v=DKIM1; k=rsa; p="), 1, "revoked"),
        (
            format!("{name} TXT {}", other["record"].as_str().unwrap()),
            1,
            "another key",
        ),
        (format!("{name} TXT {}", &record[..255]), 1, "cut off"),
        (format!("{name} TXT {record}; t=y"), 0, "testing"),
        (format!("{name} SERVFAIL"), 0, "DNS gave no answer"),
    ];
    for (zone, status, wanted) in cases {
        let output = check(dir.path(), &zone, &config(&key), &[]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
        assert!(said.contains("fix: "), "{said}");
    }
}

#[test]
fn a_key_is_not_overwritten_and_a_domain_without_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    generate(dir.path(), "sender.example", "r", "ed25519");
    let out = dir.path().display().to_string();
    let again = relayctl(&[
        "dkim",
        "generate",
        "sender.example",
        "--selector",
        "r",
        "--out",
        &out,
    ]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("not overwritten"), "{}", text(&again));
    let nobody = check(dir.path(), ZONE, "", &[]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("relayctl dkim generate sender.example"));
    let wrong = relayctl(&["dkim", "generate", "no domain"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

fn generate(dir: &Path, domain: &str, selector: &str, kind: &str) -> Value {
    let out = dir.display().to_string();
    let options = [
        "--selector",
        selector,
        "--type",
        kind,
        "--out",
        &out,
        "--json",
    ];
    let output = relayctl(&[&["dkim", "generate", domain], &options[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    objects(&output).remove(0)
}

fn check(dir: &Path, zone: &str, settings: &str, more: &[&str]) -> Output {
    let dns = Dns::start(zone);
    let file = dir.join("relayd.toml");
    let servers = format!("[dns]\nservers = [\"{}\"]\n", dns.address);
    let hostname = "hostname = \"relay.test\"\n";
    std::fs::write(&file, format!("{hostname}{servers}{settings}")).unwrap();
    let file = file.display().to_string();
    relayctl(
        &[
            &["dkim", "check", "sender.example", "--config", &file],
            more,
        ]
        .concat(),
    )
}

fn config(key: &Value) -> String {
    key["config"].as_str().unwrap().to_owned()
}

/// As the testkit's DNS takes it.
fn txt(key: &Value) -> String {
    let part = |name: &str| key[name].as_str().unwrap();
    format!("{} TXT {}", part("name"), part("record"))
}

fn relayctl(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_relayd")).with_file_name("relayctl");
    Command::new(program).args(arguments).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
