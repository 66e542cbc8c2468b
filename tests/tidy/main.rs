//! The rules a machine can hold: the purity line, the arrows between crates, file headers, and
//! words that do not belong in the project.

// A test ends by panicking.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may name: the arrows of docs/ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("smtp", &[]),
    ("message", &["smtp"]),
    ("policy", &["smtp"]),
    ("schedule", &["smtp", "policy"]),
    ("config", &["smtp", "policy"]),
    ("observe", &["smtp"]),
    ("queue", &["smtp", "policy", "observe"]),
    ("suppression", &["smtp", "observe"]),
    ("route", &["smtp", "observe"]),
    ("https", &["route"]),
    ("sts", &["route", "https"]),
    ("oauth", &["config", "https"]),
    (
        "doctor",
        &["smtp", "message", "config", "route", "sts", "deliver"],
    ),
    ("tlsrpt", &["smtp", "message", "observe", "route", "https"]),
    (
        "submission",
        &[
            "smtp",
            "message",
            "config",
            "queue",
            "suppression",
            "observe",
        ],
    ),
    (
        "deliver",
        &[
            "smtp",
            "message",
            "policy",
            "schedule",
            "config",
            "queue",
            "suppression",
            "route",
            "sts",
            "oauth",
            "tlsrpt",
            "observe",
        ],
    ),
    (
        "admin",
        &[
            "smtp",
            "message",
            "policy",
            "config",
            "queue",
            "suppression",
            "deliver",
            "doctor",
            "observe",
        ],
    ),
    ("simulator", &["smtp", "route", "deliver", "observe"]),
];

/// Above this line there is IO, in these there is none.
const PURE: &[&str] = &["smtp", "message", "policy", "schedule", "config"];

/// What a pure crate must not name, and what it uses in its place.
const IMPURE: &[(&str, &str)] = &[
    (
        "tokio",
        "bytes in, bytes and events out; the IO crates drive",
    ),
    ("sled", "the queue's Store trait"),
    ("std::net::Tcp", "the Dialer of deliver"),
    ("std::net::Udp", "the Resolver of route"),
    ("std::fs", "text handed in by the programs"),
    ("Instant::now", "now as an argument"),
    ("SystemTime::now", "now as an argument"),
    ("Timestamp::now", "now as an argument"),
    ("Zoned::now", "now as an argument"),
    ("rand::rng()", "an rng as an argument"),
    ("thread_rng", "an rng as an argument"),
    ("std::thread", "the IO crates own the threads"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder, without `target` and `.git`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        // `.git` is a file where the sources are a second work tree of a repository.
        if matches!(
            name,
            "target" | ".git" | "relayd-sandbox" | "artifacts" | "corpus"
        ) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// A file's code without its tests, which stand last, and without comments.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn complain(complaints: &BTreeSet<String>) {
    assert!(
        complaints.is_empty(),
        "\n{}",
        complaints.iter().cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn pure_crates_know_no_clock_no_socket_no_file_and_no_runtime() {
    let mut complaints = BTreeSet::new();
    for name in PURE {
        let sources = sources(&format!("crates/{name}/src"));
        assert!(!sources.is_empty(), "crates/{name}/src has no sources");
        for (path, text) in sources {
            if path.ends_with("tests.rs") {
                continue;
            }
            let code = code(&text);
            for (word, instead) in IMPURE {
                if code.contains(word) {
                    complaints.insert(format!("{}: {word}: use {instead}", path.display()));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut complaints = BTreeSet::new();
    for (name, arrows) in &allowed {
        let manifest =
            fs::read_to_string(root().join(format!("crates/{name}/Cargo.toml"))).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for other in dependencies
            .keys()
            .filter_map(|key| key.strip_prefix("relay-"))
        {
            if !arrows.contains(&other) {
                complaints.insert(format!("crates/{name} must not depend on {other}"));
            }
        }
        if dependencies.contains_key("sled") && *name != "queue" {
            complaints.insert(format!("crates/{name} names sled: only queue does"));
        }
        if PURE.contains(name) && dependencies.contains_key("tokio") {
            complaints.insert(format!("crates/{name} is pure and names tokio"));
        }
    }
    complain(&complaints);
}

#[test]
fn every_source_file_says_in_its_first_line_what_it_is() {
    let mut complaints = BTreeSet::new();
    for (path, text) in sources("crates").into_iter().chain(sources("tests")) {
        if !text.starts_with("//! ") {
            complaints.insert(format!(
                "{}: the first line is no `//! ` sentence",
                path.display()
            ));
        }
    }
    complain(&complaints);
}

#[test]
fn nothing_is_left_unfinished_skipped_or_asleep() {
    // Split, so that this file does not complain of itself.
    let marks = [
        (
            concat!("tod", "o!("),
            "finish it, or leave it out and say so",
        ),
        (
            concat!("unimple", "mented!("),
            "finish it, or leave it out and say so",
        ),
        (
            concat!("#[ign", "ore"),
            "a test that fails is mended or asserts today's answer with a note",
        ),
        (concat!("allow(dead", "_code"), "remove what is not used"),
    ];
    let sleep = concat!("thread::sl", "eep");
    let mut complaints = BTreeSet::new();
    for (path, text) in sources("crates").into_iter().chain(sources("tests")) {
        for (mark, instead) in marks {
            if text.contains(mark) {
                complaints.insert(format!("{}: {mark}: {instead}", path.display()));
            }
        }
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        if in_tests && text.contains(sleep) {
            complaints.insert(format!(
                "{}: {sleep}: wait for a condition with relay_testkit::until",
                path.display()
            ));
        }
    }
    complain(&complaints);
}

#[test]
fn sources_ask_one_place_what_a_reply_code_means() {
    // `policy` decides; the dialogue itself (smtp) and the scripted servers know codes by nature.
    let mut complaints = BTreeSet::new();
    for name in ["deliver", "queue", "schedule", "route"] {
        for (path, text) in sources(&format!("crates/{name}/src")) {
            for (number, line) in code(&text).lines().enumerate() {
                let asks = line.contains(".code ==")
                    || line.contains(".code >=")
                    || line.contains("match reply.code");
                if asks {
                    complaints.insert(format!(
                        "{}:{}: asks for a reply code: {}",
                        path.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn committed_files_name_no_machine_and_no_secret() {
    let machine_paths = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    // A whole key, not the words that name one.
    let key = concat!("PRIVATE KEY-----", "\nM");
    let mut found = Vec::new();
    files(&root(), &mut found);
    let mut complaints = BTreeSet::new();
    for path in found {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for word in machine_paths {
            if text.contains(word) {
                complaints.insert(format!("{}: {word}", path.display()));
            }
        }
        // Keys made for tests live in test data only.
        let test_data = ["tests", "data", "golden"];
        let for_tests = path
            .iter()
            .any(|part| test_data.iter().any(|word| part == *word));
        if text.contains(key) && !for_tests {
            complaints.insert(format!("{}: a private key", path.display()));
        }
    }
    complain(&complaints);
}
