//! The committed sample and reference are those of the table of options, and the sample is right.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use relay_config::kind::Kind;
use relay_config::options::{OPTIONS, SECTIONS};
use relay_config::row::{Default, Row, Status};
use relay_config::{Config, Files, Source, load, render};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file is there and says what is hoped for.
struct Friendly;

impl Files for Friendly {
    fn read(&self, path: &Path) -> Result<String, String> {
        match path.to_string_lossy().contains("secrets") {
            true => {
                Ok("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Jo8LSCpFYYuE2X7dPEEpBw\n".into())
            }
            false => Ok(String::new()),
        }
    }

    fn expand(&self, _pattern: &str) -> Vec<String> {
        Vec::new()
    }

    fn check_certificate(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_tls_key(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_dkim_key(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_log_level(&self, _level: &str) -> Result<(), String> {
        Ok(())
    }
}

fn load_text(text: &str) -> Config {
    let source = Source {
        name: "relayd.toml".to_owned(),
        text: text.to_owned(),
    };
    match load(&[source], &[], &[], "relay.example.com", &Friendly) {
        Ok(config) => config,
        Err(mistakes) => {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            panic!("refused:\n{}\nof:\n{text}", lines.join("\n"));
        }
    }
}

#[track_caller]
fn is_rendered(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not what the table of options says; renew it with UPDATE_EXPECT=1",
        path.display()
    );
}

#[test]
fn the_sample_file_is_rendered_from_the_table() {
    is_rendered("etc/relayd.toml", &render::sample());
}

#[test]
fn the_reference_is_rendered_from_the_table() {
    is_rendered("docs/configuration.md", &render::reference());
}

#[test]
fn the_sample_as_it_is_gives_the_defaults() {
    let sampled = load_text(&render::sample());
    let default = Config::default_for("relay.example.com");
    assert_eq!(format!("{sampled:?}"), format!("{default:?}"));
}

#[test]
fn the_sample_without_its_comment_signs_is_right() {
    let settings = render::sample()
        .lines()
        .filter(|line| !line.starts_with("# ") && *line != "#")
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        // A user has one of password_hash and password_file, a route one secret and the mechanism for it.
        .filter(|line| !line.starts_with("password_hash"))
        .filter(|line| {
            let key = line.split(' ').next().unwrap_or_default();
            !matches!(
                key,
                "token_file"
                    | "token_endpoint"
                    | "client_id"
                    | "client_secret_file"
                    | "refresh_token_file"
                    | "scope"
            )
        })
        .collect::<Vec<_>>()
        .join("\n");
    let config = load_text(&settings);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.users.len(), 1);
    assert_eq!(config.routes[0].via.len(), 2);
    assert_eq!(config.dkim.len(), 1);
    assert!(config.tls.is_some());
    assert_eq!(config.warnings, [""; 0]);
}

/// A file that sets one option, with what it needs beside it.
fn file_with(row: &Row, value: &str) -> String {
    let (table, key) = row.split();
    let beside: &[(&str, &str)] = match table {
        "listener[]" => &[("address", "\"127.0.0.1:1\"")],
        "tls" => &[("certificate", "\"c\""), ("key", "\"k\"")],
        "user[]" if key == "password_hash" => &[("name", "\"u\"")],
        "user[]" => &[("name", "\"u\""), ("password_file", "\"secrets\"")],
        "route[]" if key == "username" => &[
            ("to", "[\"*\"]"),
            ("via", "[\"a.example:25\"]"),
            ("password_file", "\"secrets\""),
        ],
        "route[]"
            if matches!(
                key,
                "token_endpoint"
                    | "client_id"
                    | "client_secret_file"
                    | "refresh_token_file"
                    | "scope"
            ) =>
        {
            &[
                ("to", "[\"*\"]"),
                ("via", "[\"a.example:25\"]"),
                ("username", "\"app\""),
                ("token_endpoint", "\"https://login.example/token\""),
                ("client_id", "\"relayd\""),
                ("refresh_token_file", "\"secrets\""),
            ]
        }
        "route[]" if key == "password_file" || key == "token_file" => &[
            ("to", "[\"*\"]"),
            ("via", "[\"a.example:25\"]"),
            ("username", "\"app\""),
        ],
        "route[]" => &[("to", "[\"*\"]"), ("via", "[\"a.example:25\"]")],
        "delivery" if key == "verp_senders" => &[("verp", "\"b-{id}@b.example\"")],
        "source[]" if key.starts_with("warm_up") => &[
            ("address", "\"192.0.2.1\""),
            ("warm_up_start", "\"2026-11-01\""),
            ("warm_up_daily", "[1]"),
        ],
        "source[]" => &[("address", "\"192.0.2.1\"")],
        "limit[]" => &[("to", "[\"*\"]"), ("mx", "[\"*\"]")],
        "dkim[]" => &[
            ("domain", "\"d.example\""),
            ("selector", "\"s\""),
            ("key", "\"k\""),
        ],
        _ => &[],
    };
    let mut file = match table.strip_suffix("[]") {
        Some(array) => format!("[[{array}]]\n"),
        None if table.is_empty() => String::new(),
        None => format!("[{}]\n", table.replace('*', "default")),
    };
    for (name, value) in beside.iter().filter(|(name, _)| *name != key) {
        file.push_str(&format!("{name} = {value}\n"));
    }
    file.push_str(&format!("{key} = {value}\n"));
    if table == "listener[]" {
        // What the words of tls and auth need.
        file.push_str("[tls]\ncertificate = \"c\"\nkey = \"k\"\n");
        file.push_str("[[user]]\nname = \"u\"\npassword_file = \"secrets\"\n");
    }
    if table == "limit[]" {
        // What source and route name.
        file.push_str("[[source]]\naddress = \"192.0.2.10\"\n");
        file.push_str("[[route]]\nto = [\"*\"]\nvia = [\"smtp.upstream.example:587\"]\n");
    }
    if row.key == "listener[].reports" {
        file.push_str("[reports]\naddresses = [\"b@a.example\"]\n");
    }
    file
}

#[test]
fn every_default_and_every_example_is_right() {
    for row in OPTIONS.iter().filter(|row| row.status == Status::Built) {
        load_text(&file_with(row, row.example));
        match row.default {
            Default::Is(value) => {
                load_text(&file_with(row, value));
            }
            Default::Otherwise(_) | Default::Required => {}
        }
    }
}

#[test]
fn every_word_of_an_option_is_known() {
    for row in OPTIONS.iter().filter(|row| row.status == Status::Built) {
        if let Kind::Word { words, .. } = row.kind {
            for word in words() {
                load_text(&file_with(row, &format!("{word:?}")));
            }
        }
    }
}

#[test]
fn every_option_stands_in_a_table_and_has_words() {
    for row in OPTIONS {
        let (table, key) = row.split();
        assert!(
            SECTIONS.iter().any(|section| section.name == table),
            "{} stands in no table",
            row.key
        );
        let same = OPTIONS.iter().filter(|other| other.key == row.key).count();
        assert_eq!(same, 1, "{} has one row", row.key);
        assert!(
            key.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{key}"
        );
        if row.status == Status::Built {
            assert!(row.doc.ends_with('.'), "{}: {}", row.key, row.doc);
        }
    }
}
