//! The configuration from disk: the main file, `conf.d` beside it and the environment, for relayd
//! and relayctl alike. What the texts mean is `relay_config`'s part.

use std::path::{Path, PathBuf};

use relay_config::{Config, DkimKey, DkimStrangers, Files, Mistake, Source};
use relay_message::dkim::{SignedFields, Signer, Strangers};
use relay_smtp::Domain;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Read where no other file is named.
pub const DEFAULT_PATH: &str = "/etc/relayd/relayd.toml";

/// The configuration's texts as they stand on this machine.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The main file, then `conf.d/*.toml` beside it, sorted by name.
    pub sources: Vec<Source>,
    /// The pairs whose name starts with `RELAYD__`, sorted.
    pub environment: Vec<(String, String)>,
    pub hostname: String,
}

/// Reads and checks everything. `path`: the main file, [`DEFAULT_PATH`] without. `overrides`: keys of
/// the command line with TOML values. Beside the configuration stand warnings, for people.
pub fn load_from_disk(
    path: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<(Config, Vec<String>), Vec<Mistake>> {
    let texts = read_texts(path)?;
    let mut config = relay_config::load(
        &texts.sources,
        &texts.environment,
        overrides,
        &texts.hostname,
        &DiskFiles,
    )?;
    let warnings = std::mem::take(&mut config.warnings);
    Ok((config, warnings))
}

/// Reads all texts; says every file that cannot be read.
pub fn read_texts(path: Option<&Path>) -> Result<Texts, Vec<Mistake>> {
    let main = path.unwrap_or(Path::new(DEFAULT_PATH));
    let conf_d = main.parent().unwrap_or(Path::new("")).join("conf.d/*.toml");
    let mut names = vec![main.display().to_string()];
    names.extend(DiskFiles.expand(&conf_d.to_string_lossy()));

    let mut sources = Vec::new();
    let mut mistakes = Vec::new();
    for name in names {
        match read(Path::new(&name)) {
            Ok(text) => sources.push(Source { name, text }),
            Err(error) => mistakes.push(Mistake(format!(
                "{name}: {error}; name another file with --config"
            ))),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("RELAYD__"))
        .collect();
    environment.sort();
    Ok(Texts {
        sources,
        environment,
        hostname: system_hostname(),
    })
}

/// The keys of the configuration. Err: each that cannot be used.
pub fn signers(keys: &[DkimKey]) -> Result<Vec<Signer>, Vec<String>> {
    let (mut signers, mut mistakes) = (Vec::new(), Vec::new());
    for key in keys {
        match signer(key) {
            Ok(signer) => signers.push(signer),
            Err(mistake) => mistakes.push(format!("{}: {mistake}", key.key.display())),
        }
    }
    match mistakes.is_empty() {
        true => Ok(signers),
        false => Err(mistakes),
    }
}

fn signer(key: &DkimKey) -> Result<Signer, String> {
    let pem = read(&key.key)?;
    let signer = Signer::from_pem(key.domain.clone(), &key.selector, &pem);
    let signer = signer.map_err(|error| error.to_string())?;
    let oversign = key.oversign.iter().map(String::as_str);
    let headers = key.headers.iter().map(String::as_str);
    let strangers = match key.strangers {
        DkimStrangers::Signed => Strangers::Signed,
        DkimStrangers::Unsigned => Strangers::Unsigned,
    };
    Ok(signer
        .with_fields(SignedFields::new(oversign, headers))
        .with_strangers(strangers))
}

/// The disk, and the checks that need the libraries which will use the keys.
#[derive(Clone, Copy, Debug)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> Result<String, String> {
        read(path)
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        expand(pattern)
    }

    fn check_certificate(&self, pem: &str) -> Result<(), String> {
        let count = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("not a certificate in PEM: {error}"))?
            .len();
        match count {
            0 => Err("there is no certificate in it; it should begin with \
                      -----BEGIN CERTIFICATE-----"
                .to_owned()),
            _ => Ok(()),
        }
    }

    fn check_tls_key(&self, pem: &str) -> Result<(), String> {
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "there is no private key in it ({error}); it should begin with \
                 -----BEGIN PRIVATE KEY-----"
            )),
        }
    }

    fn check_dkim_key(&self, pem: &str) -> Result<(), String> {
        // The name is of no matter to the key.
        let domain = Domain::parse("example.com").map_err(|error| error.to_string())?;
        match Signer::from_pem(domain, "check", pem) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("cannot sign: {error}")),
        }
    }

    fn check_log_level(&self, level: &str) -> Result<(), String> {
        relay_observe::log::check_level(level)
    }
}

/// The text of a file, or why not and what to do, in words.
fn read(path: &Path) -> Result<String, String> {
    std::fs::read(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "no permission to read it; give its group relayd the right to".to_owned()
            }
            _ => format!("cannot be read: {error}"),
        })
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not a text in UTF-8".to_owned()))
}

/// The files of a pattern with `*` in its last part, sorted. Without `*`: the path itself.
fn expand(pattern: &str) -> Vec<String> {
    let path = PathBuf::from(pattern);
    let name = path.file_name().map(|name| name.to_string_lossy());
    let (Some(name), Some(dir)) = (name, path.parent()) else {
        return vec![pattern.to_owned()];
    };
    if !name.contains('*') {
        return vec![pattern.to_owned()];
    }
    let here = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    // A directory that is not there has no files.
    let Ok(entries) = std::fs::read_dir(here) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| fits(&name, file) && !file.starts_with('.'))
        .map(|file| dir.join(file).display().to_string())
        .collect();
    found.sort();
    found
}

/// `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The kernel's host name; where it has no dot, the full one of /etc/hosts, as `hostname -f` would
/// say.
fn system_hostname() -> String {
    let short = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = short.trim();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    match short {
        "" => "localhost".to_owned(),
        name if name.contains('.') => name.to_owned(),
        name => full_name(name, &hosts).unwrap_or(name).to_owned(),
    }
}

fn full_name<'h>(short: &str, hosts: &'h str) -> Option<&'h str> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let names = |line: &'h str| line.split_whitespace().skip(1);
    lines
        .filter(|line| names(line).any(|name| name == short))
        .flat_map(names)
        .find(|name| {
            name.strip_prefix(short)
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_message::dkim::fields;

    #[test]
    fn a_star_stands_for_any_characters_of_the_last_part() {
        assert!(fits("*.toml", "a.toml"));
        assert!(fits("*", ""));
        assert!(fits("a*b*c", "a1b2c"));
        assert!(!fits("a*b*c", "a1c"));
        assert!(!fits("*.toml", "a.toml~"));
        assert!(!fits("a*a", "a"));
        assert!(fits("exact", "exact"));
        assert!(!fits("exact", "exactly"));
    }

    #[test]
    fn the_full_name_comes_from_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 relay.example.com relay # this one\n";
        assert_eq!(full_name("relay", hosts), Some("relay.example.com"));
        assert_eq!(full_name("other", hosts), None);
    }

    #[test]
    fn conf_d_is_read_after_the_main_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("relayd.toml");
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        std::fs::write(
            &main,
            "hostname = \"a.example.com\"\n[delivery]\nport = 1\n",
        )
        .unwrap();
        let more = |name: &str, text: &str| {
            std::fs::write(dir.path().join("conf.d").join(name), text).unwrap();
        };
        more("20.toml", "[delivery]\nport = 3\n");
        more("10.toml", "[delivery]\nport = 2\nsessions_max = 9\n");
        more("ignored.txt", "not = [toml");
        let overrides = [("state.dir".to_owned(), "\"/srv/queue\"".to_owned())];
        let (config, _) = load_from_disk(Some(&main), &overrides).unwrap();
        assert_eq!((config.delivery.port, config.delivery.sessions_max), (3, 9));
        assert_eq!(config.hostname, "a.example.com");
        assert_eq!(config.state.dir, Path::new("/srv/queue"));
    }

    #[test]
    fn a_missing_main_file_is_named() {
        let error = load_from_disk(Some(Path::new("nowhere/relayd.toml")), &[]).unwrap_err();
        let text = error[0].to_string();
        assert_eq!(
            text,
            "nowhere/relayd.toml: no such file; name another file with --config"
        );
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        assert!(DiskFiles.check_tls_key("hello").is_err());
        assert!(DiskFiles.check_certificate("hello").is_err());
        assert!(DiskFiles.check_dkim_key("hello").is_err());
    }

    #[test]
    fn without_lists_of_ones_own_the_fields_are_those_that_the_reference_tells() {
        let words = |key: &str| -> Vec<String> {
            let row = relay_config::row::find(key).unwrap();
            let relay_config::row::Default::Is(text) = row.default else {
                panic!("{key} has a default");
            };
            let table: toml::Table = format!("list = {text}").parse().unwrap();
            let list = table["list"].as_array().unwrap().iter();
            list.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(words("dkim[].oversign"), fields::OVERSIGNED);
        assert_eq!(words("dkim[].headers"), fields::SIGNED);
    }
}
