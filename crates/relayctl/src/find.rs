//! Where relayd's socket is: the one named, else the configured one, the usual one, the sandbox's.

use std::path::{Path, PathBuf};

const MAIN_FILE: &str = "/etc/relayd/relayd.toml";
const USUAL: &str = "/run/relayd/relayd.sock";
const SANDBOX: &str = "relayd-sandbox/relayd.sock";

/// In the order in which they are tried.
pub fn candidates(named: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path];
    }
    let mut paths: Vec<PathBuf> = configured(Path::new(MAIN_FILE)).into_iter().collect();
    for path in [PathBuf::from(USUAL), PathBuf::from(SANDBOX)] {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// `admin.socket` of the main file and of `conf.d` beside it; the last one counts. Read on its own,
/// without the checks of the whole configuration: a mistake somewhere else in it must not keep an
/// operator from the daemon that runs with the old one.
fn configured(main_file: &Path) -> Option<PathBuf> {
    let mut files = vec![main_file.to_owned()];
    let beside = main_file.with_file_name("conf.d");
    let mut more: Vec<PathBuf> = std::fs::read_dir(beside)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    more.sort();
    files.append(&mut more);
    files
        .iter()
        .filter_map(|path| socket_in(&std::fs::read_to_string(path).ok()?))
        .next_back()
}

fn socket_in(text: &str) -> Option<PathBuf> {
    let table: toml::Table = text.parse().ok()?;
    let socket = table.get("admin")?.get("socket")?.as_str()?;
    Some(PathBuf::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_socket_is_the_only_candidate() {
        let named = PathBuf::from("here.sock");
        assert_eq!(candidates(Some(named.clone())), [named]);
        assert!(candidates(None).ends_with(&[USUAL.into(), SANDBOX.into()]));
    }

    #[test]
    fn the_last_file_that_names_a_socket_counts() {
        let directory = tempfile::tempdir().unwrap();
        let main_file = directory.path().join("relayd.toml");
        assert_eq!(configured(&main_file), None);
        std::fs::write(&main_file, "[admin]\nsocket = \"/a.sock\"\n").unwrap();
        assert_eq!(configured(&main_file), Some("/a.sock".into()));
        let more = directory.path().join("conf.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(more.join("20.toml"), "[admin]\nsocket = \"/b.sock\"\n").unwrap();
        std::fs::write(more.join("30.toml"), "hostname = \"x\"\n").unwrap();
        std::fs::write(more.join("40.toml"), "this is no TOML").unwrap();
        assert_eq!(configured(&main_file), Some("/b.sock".into()));
    }
}
