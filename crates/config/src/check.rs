//! Checks across keys: an open relay, a missing key file, a policy table with a wrong rule.

use std::path::Path;

/// What must be known of files that keys point at. `relayd` and `relayctl` bring the real one.
pub trait Files {
    /// The file's text (certificates, keys, password files, policy tables).
    fn read(&self, path: &Path) -> Result<String, String>;
    /// The files that a pattern such as `/etc/relayd/policy.d/*.toml` names, sorted.
    fn expand(&self, pattern: &str) -> Vec<String>;
}
