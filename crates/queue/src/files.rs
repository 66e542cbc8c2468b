//! The state directory: its lock, its version, which index is current, what was set aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::device::{Device, write_synced};

/// What stands in `VERSION`: the layout of the directory and the record format.
pub(crate) const VERSION: &str = "4";
/// Without some kinds of records, or without footers; else the same.
pub(crate) const OLDER_VERSIONS: [&str; 3] = ["1", "2", "3"];

/// Paths in the state directory, and the disk that it is on.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    device: Arc<dyn Device>,
}

impl Layout {
    pub(crate) fn new(root: &Path, device: &Arc<dyn Device>) -> Layout {
        Layout {
            root: root.to_owned(),
            device: device.clone(),
        }
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub(crate) fn big(&self) -> PathBuf {
        self.root.join("big")
    }
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
    pub(crate) fn imported(&self) -> PathBuf {
        self.root.join("imported")
    }
    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
    pub(crate) fn index(&self, number: u32) -> PathBuf {
        self.root.join(format!("index-{number}"))
    }

    /// What `VERSION` says; None: there is no such file.
    pub(crate) fn version(&self) -> io::Result<Option<String>> {
        match fs::read(self.root.join("VERSION")) {
            // Lossy: what is no text is no version that we know.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write_version(&self) -> io::Result<()> {
        self.replace("VERSION", VERSION)
    }

    /// Makes the directories that are missing.
    pub(crate) fn make(&self) -> io::Result<()> {
        let within = [self.journal(), self.big(), self.quarantine()];
        for directory in [self.root.clone()].into_iter().chain(within) {
            self.device.make_directory(&directory)?;
        }
        self.device.sync_directory(&self.root)?;
        match self.root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.device.sync_directory(parent),
            Some(_) | None => self.device.sync_directory(Path::new(".")),
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

    /// The same for a directory that is not to be changed.
    pub(crate) fn lock_if_there(&self) -> io::Result<Option<File>> {
        let file = File::open(self.root.join("LOCK"))?;
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

    /// Puts an index that cannot be used aside, for whoever wants to know why, with the reason beside it.
    pub(crate) fn set_index_aside(&self, number: u32, reason: &str) -> io::Result<()> {
        let from = self.index(number);
        let to = self.quarantine().join(format!("index-{number}"));
        if !from.exists() {
            return Ok(());
        }
        if to.exists() {
            self.device.remove_tree(&to)?;
        }
        let beside = to.with_extension("reason");
        write_synced(&*self.device, &beside, reason.as_bytes())?;
        self.device.rename(&from, &to)
    }

    /// Removes an index that is not used any more.
    pub(crate) fn remove_index(&self, number: u32) -> io::Result<()> {
        self.device.remove_tree(&self.index(number))
    }

    pub(crate) fn remove_ballast(&self) -> io::Result<()> {
        self.device.remove(&self.ballast())
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
        write_synced(&*self.device, &path, bytes)?;
        let beside = path.with_extension("reason");
        write_synced(&*self.device, &beside, reason.as_bytes())?;
        self.device.sync_directory(&self.quarantine())?;
        Ok(path)
    }

    /// Writes a small file so that it is there whole or not at all.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.root.join(format!("{name}.new"));
        write_synced(&*self.device, &new, format!("{text}\n").as_bytes())?;
        self.device.rename(&new, &self.root.join(name))?;
        self.device.sync_directory(&self.root)
    }
}
