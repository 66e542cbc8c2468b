//! The state directory: its lock, its version, which index is current, what was set aside.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What stands in `VERSION`: the layout of the directory and the record format.
pub(crate) const VERSION: &str = "2";
/// Without messages that were copied forward; else the same.
pub(crate) const VERSION_1: &str = "1";

/// Paths in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Layout {
        Layout {
            root: root.to_owned(),
        }
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
    pub(crate) fn index(&self, number: u32) -> PathBuf {
        self.root.join(format!("index-{number}"))
    }

    /// What `VERSION` says; None: there is no such file.
    pub(crate) fn version(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.root.join("VERSION")) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write_version(&self) -> io::Result<()> {
        self.replace("VERSION", VERSION)
    }

    /// Makes the directories that are missing; mail is nobody else's to read.
    pub(crate) fn make(&self) -> io::Result<()> {
        for directory in [self.root.clone(), self.journal(), self.quarantine()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        sync_directory(&self.root)?;
        match self.root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
            Some(_) | None => sync_directory(Path::new(".")),
        }
    }

    /// Takes the lock; None: another process has it. It is held until the file is dropped.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join("LOCK"))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of the current index; None: none was ever finished, or the file is unreadable.
    pub(crate) fn current(&self) -> Option<u32> {
        let text = fs::read_to_string(self.root.join("CURRENT")).ok()?;
        text.trim().strip_prefix("index-")?.parse().ok()
    }

    pub(crate) fn write_current(&self, number: u32) -> io::Result<()> {
        self.replace("CURRENT", &format!("index-{number}"))
    }

    /// The numbers of all index directories.
    pub(crate) fn indexes(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("index-"));
            numbers.extend(number.and_then(|n| n.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    /// Puts an index that cannot be used aside, for whoever wants to know why.
    pub(crate) fn set_index_aside(&self, number: u32) -> io::Result<()> {
        let from = self.index(number);
        let to = self.quarantine().join(format!("index-{number}"));
        if !from.exists() {
            return Ok(());
        }
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::rename(from, to)
    }

    /// Keeps bytes of a segment that could not be read, with the reason beside them.
    pub(crate) fn quarantine_bytes(
        &self,
        segment: u32,
        offset: u32,
        bytes: &[u8],
        reason: &str,
    ) -> io::Result<PathBuf> {
        let path = self
            .quarantine()
            .join(format!("seg-{segment:010}-{offset}.record"));
        write_synced(&path, bytes)?;
        write_synced(&path.with_extension("reason"), reason.as_bytes())?;
        sync_directory(&self.quarantine())?;
        Ok(path)
    }

    /// Writes a small file so that it is there whole or not at all.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.root.join(format!("{name}.new"));
        write_synced(&new, format!("{text}\n").as_bytes())?;
        fs::rename(&new, self.root.join(name))?;
        sync_directory(&self.root)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes created, renamed and removed names in a directory last.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
