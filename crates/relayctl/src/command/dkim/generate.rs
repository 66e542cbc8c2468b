//! `relayctl dkim generate`: a new key in a file that nobody else can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use jiff::Timestamp;
use relay_message::dkim::Signer;
use serde::Serialize;

use super::{Published, domain, for_people};
use crate::Output;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{Format, json_line};

#[derive(clap::Args)]
pub struct Generate {
    domain: String,
    /// The name of the key in DNS [default: s and the year, as in s2026]
    #[arg(long)]
    selector: Option<String>,
    /// rsa (2048 bits) is understood by everybody; ed25519 is short and quick, and not yet by everybody
    #[arg(long = "type", value_enum, default_value = "rsa")]
    kind: KeyKind,
    /// Where the file goes, as DOMAIN.SELECTOR.pem
    #[arg(long, value_name = "DIR", default_value = "/etc/relayd/dkim")]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyKind {
    Rsa,
    Ed25519,
}

#[derive(Serialize)]
struct Made {
    file: String,
    /// What to append to the configuration.
    config: String,
    #[serde(flatten)]
    published: Published,
}

impl Generate {
    pub fn run(&self) -> Outcome {
        let domain = domain(&self.domain)?;
        let year = Timestamp::now().strftime("s%Y").to_string();
        let selector = self.selector.clone().unwrap_or(year);
        let pem = pem(self.kind)?;
        // Read as relayd will read it: what is written is a key that it takes.
        let signer = Signer::from_pem(domain, &selector, &pem)
            .map_err(|error| Trouble::Usage(error.to_string()))?;
        let name = format!("{}.{selector}.pem", signer.domain().to_ascii());
        let path = write(&self.out, &name, &pem)?;
        let made = Made {
            config: config_lines(&signer, &path),
            file: path.display().to_string(),
            published: Published::of(&signer),
        };
        match self.output.format() {
            Format::Json => println!("{}", json_line(&made)),
            Format::Text => print!("{}", story(&made, &signer)),
        }
        Ok(Done::Well)
    }
}

fn story(made: &Made, signer: &Signer) -> String {
    format!(
        "Wrote {file}, which only its owner can read: relayd must be able to (chown relayd {file}).\n\n\
         1. Publish this in DNS. {for_people}\n\
         2. Add to the configuration:\n\n{config}\n\
         3. When `relayctl dkim check {domain}` says ok: relayctl reload\n",
        file = made.file,
        for_people = for_people(signer),
        config = made.config,
        domain = signer.domain(),
    )
}

fn config_lines(signer: &Signer, path: &Path) -> String {
    format!(
        "[[dkim]]\ndomain = {:?}\nselector = {:?}\nkey = {:?}\n",
        signer.domain().to_string(),
        signer.selector(),
        path.display().to_string()
    )
}

/// A new private key, PKCS#8 in PEM.
fn pem(kind: KeyKind) -> Result<String, Trouble> {
    let failed =
        |_| Trouble::NotWell("no key could be made: the system gives no random numbers".to_owned());
    let der = match kind {
        KeyKind::Rsa => {
            let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
            der.as_ref().to_vec()
        }
        // Version 1: openssl and other relays can read it, too.
        KeyKind::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            let der = pair.to_pkcs8v1().map_err(failed)?;
            der.as_ref().to_vec()
        }
    };
    let text = BASE64.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// Never over another key: signatures under way may still need it.
fn write(dir: &Path, name: &str, pem: &str) -> Result<PathBuf, Trouble> {
    let trouble =
        |what: &Path, error: io::Error| Trouble::NotWell(format!("{}: {error}", what.display()));
    fs::create_dir_all(dir).map_err(|error| trouble(dir, error))?;
    let path = dir.join(name);
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Trouble::NotWell(format!(
                "{} is there already, and is not overwritten; name another --selector",
                path.display()
            )));
        }
        Err(error) => return Err(trouble(&path, error)),
    };
    let written = file
        .write_all(pem.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| trouble(&path, error))?;
    fs::canonicalize(&path).map_err(|error| trouble(&path, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use relay_smtp::Domain;

    use super::*;

    #[test]
    fn a_made_key_is_taken_by_the_signer_and_no_two_are_alike() {
        for (kind, word) in [(KeyKind::Rsa, "rsa"), (KeyKind::Ed25519, "ed25519")] {
            let read = || {
                let domain = Domain::parse("example.com").unwrap();
                Signer::from_pem(domain, "s", &pem(kind).unwrap()).unwrap()
            };
            let (one, other) = (read(), read());
            assert_eq!(one.kind(), word);
            assert_ne!(one.public_key(), other.public_key());
        }
    }

    #[test]
    fn a_key_file_is_for_its_owner_only_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("dkim");
        let path = write(&below, "a.pem", "first").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = write(&below, "a.pem", "second").unwrap_err();
        assert_eq!(refused.status(), 1);
        assert!(
            refused.words().contains("--selector"),
            "{}",
            refused.words()
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }
}
