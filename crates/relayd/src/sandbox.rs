//! What `--sandbox` stands for: a configuration of its own, in the same words as a file.

use std::ffi::OsStr;
use std::path::PathBuf;

/// Everything in one directory, so that it is easily looked at and thrown away. Retries come soon:
/// someone is watching.
pub const SETTINGS: &str = r#"
hostname = "sandbox.localhost"

[state]
dir = "relayd-sandbox/state"

[[listener]]
address = "127.0.0.1:2525"
trusted = ["127.0.0.0/8"]

[delivery]
private_addresses = "allowed"

[retry.default]
steps = ["30s", "1m", "5m", "15m", "30m", "1h"]

[admin]
socket = "relayd-sandbox/relayd.sock"
"#;

/// For messages about the text above.
pub const NAME: &str = "the sandbox's own settings";

/// Told on the terminal once it is up. relayctl is named so that it can be pasted as it stands.
pub fn welcome() -> String {
    let relayctl = relayctl(
        std::env::var_os("PATH").as_deref(),
        std::env::current_exe().ok(),
    );
    welcome_with(&relayctl)
}

fn welcome_with(relayctl: &str) -> String {
    format!(
        "\
relayd sandbox: a real relay with a real queue, and a simulator in place of the internet.
  submit mail     SMTP on 127.0.0.1:2525, no login, any recipient
  files           ./relayd-sandbox         Ctrl-C stops

In another terminal, from this directory:
  {relayctl} send --wait --to ok@example.com       # also bounce@ defer@ greylist@ code-550-5.7.26@
  {relayctl} status
  {relayctl} queue list
  {relayctl} queue show ID
"
    )
}

/// `relayctl` where the shell finds it; else the one beside this program, seen from here.
fn relayctl(path: Option<&OsStr>, program: Option<PathBuf>) -> String {
    const NAME: &str = "relayctl";
    let mut directories = path.into_iter().flat_map(std::env::split_paths);
    if directories.any(|directory| directory.join(NAME).is_file()) {
        return NAME.to_owned();
    }
    let Some(beside) = program.map(|program| program.with_file_name(NAME)) else {
        return NAME.to_owned();
    };
    let here = std::env::current_dir().unwrap_or_default();
    let seen_from_here = beside.strip_prefix(here).unwrap_or(&beside);
    seen_from_here.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayctl_is_named_so_that_it_can_be_pasted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str();
        let here = std::env::current_dir().unwrap();
        let program = here.join("target/release/relayd");
        let named = relayctl(Some(path), Some(program.clone()));
        assert_eq!(named, "target/release/relayctl");
        assert!(welcome_with(&named).contains("\n  target/release/relayctl status\n"));
        std::fs::write(directory.path().join("relayctl"), "").unwrap();
        assert_eq!(relayctl(Some(path), Some(program)), "relayctl");
    }
}
