//! From the command line to checked settings: the configuration, the policy table, the keys. Done
//! the same way at start and at every reload.

use std::path::PathBuf;
use std::sync::Arc;

use relay_admin::files::DiskFiles;
use relay_config::parse::Mistake;
use relay_config::{Config, Files, Source};
use relay_deliver::sign::Signers;
use relay_policy::Table;

use crate::sandbox;

/// Where the settings come from: kept, since a reload reads them again.
#[derive(Clone, Debug)]
pub struct Origin {
    kind: Kind,
    /// Keys set on the command line, as TOML values.
    overrides: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None: the default path.
    File(Option<PathBuf>),
    Sandbox,
}

/// Whether `--sandbox` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Yes,
    No,
}

impl From<bool> for Sandbox {
    fn from(given: bool) -> Sandbox {
        if given { Sandbox::Yes } else { Sandbox::No }
    }
}

/// What the configuration's files say by themselves. The files that it names, the policy table above all, take
/// longer: a start opens the queue meanwhile.
#[derive(Clone)]
pub struct Early {
    pub config: Arc<Config>,
    pub warnings: Vec<String>,
}

/// All that a file can change.
pub struct Settings {
    pub config: Arc<Config>,
    pub table: Arc<Table>,
    pub signers: Arc<Signers>,
    pub listener_tls: Option<Arc<rustls::ServerConfig>>,
    /// PEM of the roots that are trusted besides the system's.
    pub tls_roots: String,
    pub warnings: Vec<String>,
}

impl Origin {
    pub fn of(config: Option<PathBuf>, sandbox: Sandbox, state_dir: Option<PathBuf>) -> Origin {
        let kind = match sandbox {
            Sandbox::Yes => Kind::Sandbox,
            Sandbox::No => Kind::File(config),
        };
        let overrides = state_dir
            .map(|dir| ("state.dir".to_owned(), toml_text(&dir.to_string_lossy())))
            .into_iter()
            .collect();
        Origin { kind, overrides }
    }

    pub fn is_sandbox(&self) -> bool {
        self.kind == Kind::Sandbox
    }

    /// For people.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::File(Some(path)) => path.display().to_string(),
            Kind::File(None) => relay_admin::files::DEFAULT_PATH.to_owned(),
            Kind::Sandbox => sandbox::NAME.to_owned(),
        }
    }

    /// Reads and checks everything. `Err`: every mistake found, with file, line, key and fix.
    pub fn load(&self) -> Result<Settings, Vec<String>> {
        self.read()?.finish()
    }

    /// Reads the configuration, and not yet what it names.
    pub fn read(&self) -> Result<Early, Vec<String>> {
        let (config, warnings) = self.config()?;
        Ok(Early {
            config: Arc::new(config),
            warnings,
        })
    }

    fn config(&self) -> Result<(Config, Vec<String>), Vec<String>> {
        let loaded = match &self.kind {
            Kind::File(path) => {
                relay_admin::files::load_from_disk(path.as_deref(), &self.overrides)
            }
            Kind::Sandbox => {
                let source = Source {
                    name: sandbox::NAME.to_owned(),
                    text: sandbox::SETTINGS.to_owned(),
                };
                relay_config::load(&[source], &[], &self.overrides, "localhost", &DiskFiles).map(
                    |config| {
                        let warnings = config.warnings.clone();
                        (config, warnings)
                    },
                )
            }
        };
        loaded.map_err(texts)
    }
}

impl Early {
    /// Reads and checks what the configuration names.
    pub fn finish(self) -> Result<Settings, Vec<String>> {
        let Early { config, warnings } = self;
        let table = config.policy_table(&DiskFiles).map_err(texts)?;
        Ok(Settings {
            table: Arc::new(table),
            signers: Arc::new(signers(&config)?),
            listener_tls: listener_tls(&config)?,
            tls_roots: tls_roots(&config)?,
            config,
            warnings,
        })
    }
}

fn texts(mistakes: Vec<Mistake>) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

fn signers(config: &Config) -> Result<Signers, Vec<String>> {
    relay_admin::files::signers(&config.dkim).map(Signers::new)
}

fn tls_roots(config: &Config) -> Result<String, Vec<String>> {
    let Some(path) = &config.delivery.tls_roots else {
        return Ok(String::new());
    };
    DiskFiles
        .read(path)
        .map_err(|error| vec![format!("{}: {error}", path.display())])
}

fn listener_tls(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, Vec<String>> {
    let Some(files) = &config.tls else {
        return Ok(None);
    };
    let read = |path: &PathBuf| {
        DiskFiles
            .read(path)
            .map_err(|error| vec![format!("{}: {error}", path.display())])
    };
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    relay_submission::tls::server_config(certificate.as_bytes(), key.as_bytes())
        .map(Some)
        .map_err(|error| {
            vec![format!(
                "{}, {}: {error}",
                files.certificate.display(),
                files.key.display()
            )]
        })
}

/// A TOML string.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
