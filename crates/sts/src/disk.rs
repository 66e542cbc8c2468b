//! Policies on disk, a small file each: an attacker who keeps the policy host from us must not gain by our
//! restart (RFC 8461 section 10.2).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of one domain, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub domain: String,
    /// Of the TXT record when it was read.
    pub id: String,
    pub fetched: Timestamp,
    pub expires: Timestamp,
    /// The policy's own words.
    pub text: String,
}

/// A folder of its own in the state directory.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub fn open(dir: &Path) -> io::Result<Disk> {
        fs::create_dir_all(dir)?;
        Ok(Disk {
            dir: dir.to_owned(),
        })
    }

    /// All that still hold; what has expired, or cannot be read, is deleted.
    pub fn load(&self, now: Timestamp) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            match serde_json::from_str::<Kept>(&text) {
                Ok(kept) if kept.expires > now => all.push(kept),
                Ok(_) | Err(_) => fs::remove_file(&path)?,
            }
        }
        Ok(all)
    }

    /// Whole or not at all.
    pub fn put(&self, kept: &Kept) -> io::Result<()> {
        let Some(path) = self.path(&kept.domain) else {
            return Ok(());
        };
        let temporary = path.with_extension("new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)
    }

    pub fn remove(&self, domain: &str) {
        if let Some(path) = self.path(domain) {
            // It may never have been written.
            let _ = fs::remove_file(path);
        }
    }

    /// None: the name could lead out of the folder, and is none of DNS.
    fn path(&self, domain: &str) -> Option<PathBuf> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let good = !domain.starts_with('.') && !domain.is_empty() && domain.bytes().all(fits);
        good.then(|| self.dir.join(format!("{domain}.json")))
    }
}
