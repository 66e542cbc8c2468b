//! Broken configurations are refused, each for its own reason: `tests/config/NN-name/` holds the
//! files as they would stand on disk and `expected-error`, everything that is said about them.
//! `UPDATE_EXPECT=1` writes it anew.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use relay_config::{Files, Source, load};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/config")
}

/// The files of one case. Keys and certificates are told by their first line only; what is inside
/// is the business of the libraries that use them.
struct Case(PathBuf);

impl Files for Case {
    fn read(&self, path: &Path) -> Result<String, String> {
        std::fs::read_to_string(self.0.join(path)).map_err(|_| "no such file".to_owned())
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        match pattern.strip_suffix("/*.toml") {
            Some(dir) => toml_files(&self.0.join(dir))
                .iter()
                .map(|name| format!("{dir}/{name}"))
                .collect(),
            None => vec![pattern.to_owned()],
        }
    }

    fn check_certificate(&self, pem: &str) -> Result<(), String> {
        begins_with(pem, "-----BEGIN CERTIFICATE-----")
    }

    fn check_tls_key(&self, pem: &str) -> Result<(), String> {
        begins_with(pem, "-----BEGIN PRIVATE KEY-----")
    }

    fn check_dkim_key(&self, pem: &str) -> Result<(), String> {
        begins_with(pem, "-----BEGIN PRIVATE KEY-----")
    }

    fn check_log_level(&self, level: &str) -> Result<(), String> {
        match ["error", "warn", "info", "debug", "trace"].contains(&level) {
            true => Ok(()),
            false => Err("not a level; write error, warn, info, debug or trace".to_owned()),
        }
    }
}

fn begins_with(pem: &str, line: &str) -> Result<(), String> {
    match pem.starts_with(line) {
        true => Ok(()),
        false => Err(format!("it should begin with {line}")),
    }
}

fn toml_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    names
}

/// What is said about a case, a line for each mistake.
fn said_about(dir: &Path) -> String {
    let source = |name: String| Source {
        text: std::fs::read_to_string(dir.join(&name)).unwrap(),
        name,
    };
    let mut sources = vec![source("relayd.toml".to_owned())];
    for name in toml_files(&dir.join("conf.d")) {
        sources.push(source(format!("conf.d/{name}")));
    }
    let environment: Vec<(String, String)> = std::fs::read_to_string(dir.join("environment"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let case = Case(dir.to_owned());
    match load(&sources, &environment, &[], "relay.example.com", &case) {
        Ok(_) => String::new(),
        Err(mistakes) => mistakes
            .iter()
            .map(|mistake| format!("{mistake}\n"))
            .collect(),
    }
}

#[test]
fn each_broken_configuration_is_refused_for_its_reason() {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    assert!(dirs.len() >= 20, "only {} cases were found", dirs.len());
    let mut wrong = String::new();
    for dir in dirs {
        let said = said_about(&dir);
        let expected = dir.join("expected-error");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if said.is_empty() || said != wanted {
            wrong.push_str(&format!(
                "{}\n  wanted: {wanted}  said:   {said}",
                dir.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_password_is_never_said() {
    for entry in std::fs::read_dir(cases()).unwrap() {
        let dir = entry.unwrap().path();
        if dir.is_dir() {
            let said = said_about(&dir);
            assert!(!said.contains("hunter2"), "{}: {said}", dir.display());
        }
    }
}
