//! Checks across keys: an open relay, a missing key file, a policy table with a wrong rule.

use std::path::Path;

/// What must be known of files that keys point at. `relayd` and `relayctl` bring the real one.
pub trait Files {
    /// The file's text (certificates, keys, password files, policy tables).
    fn read(&self, path: &Path) -> Result<String, String>;
    /// The files that a pattern such as `/etc/relayd/policy.d/*.toml` names, sorted.
    fn expand(&self, pattern: &str) -> Vec<String>;
    /// Whether the text is a certificate chain in PEM; Err says what is wrong and the fix.
    fn check_certificate(&self, pem: &str) -> Result<(), String>;
    /// Whether the text is a private key for TLS in PEM.
    fn check_tls_key(&self, pem: &str) -> Result<(), String>;
    /// Whether the text is a private key that DKIM can sign with.
    fn check_dkim_key(&self, pem: &str) -> Result<(), String>;
}

/// No files at all: for the defaults and for tests.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &Path) -> Result<String, String> {
        Err("no such file".to_owned())
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
}
