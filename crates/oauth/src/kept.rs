//! Refresh tokens that an endpoint has given in place of the configured one (RFC 6749 section 6), kept over
//! a restart: an endpoint that exchanges them may take the old one for stolen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use relay_config::OauthClient;

/// One file for each client, named by what is configured: a new refresh token in the configuration is a new
/// file, and so it counts, not what has come of the old one.
pub(crate) struct Kept {
    file: Option<PathBuf>,
}

impl Kept {
    pub fn of(dir: Option<&Path>, client: &OauthClient) -> Kept {
        let name = |token: &str| {
            let of = format!("{}\n{}\n{token}", client.endpoint, client.client_id);
            let hash = digest(&SHA256, of.as_bytes());
            let hex: Vec<String> = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            hex.concat()
        };
        let file = match (dir, &client.refresh_token) {
            (Some(dir), Some(token)) => Some(dir.join(name(token))),
            _ => None,
        };
        Kept { file }
    }

    /// The last one that the endpoint has given; None: the configured one.
    pub fn read(&self) -> Option<String> {
        let text = fs::read_to_string(self.file.as_ref()?).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whole or not at all.
    pub fn write(&self, token: &str) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let Some(dir) = file.parent() else {
            return Ok(());
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let new = file.with_extension("new");
        let mut writing = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writing.write_all(token.as_bytes())?;
        writing.sync_all()?;
        fs::rename(&new, file)?;
        File::open(dir)?.sync_all()
    }
}
