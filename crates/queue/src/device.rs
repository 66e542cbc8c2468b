//! The calls to the system that change the queue's files, behind a trait: tests put a disk in their
//! place that is full, fails, lies about its space, takes its time or remembers everything.
//!
//! sled's own calls are not among them.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What the queue asks of a disk. Mail is nobody else's to read: files are made with mode 0600,
/// directories with 0700.
///
/// A file survives a power cut when both were synced: the file, and the directory that has its name.
pub trait Device: fmt::Debug + Send + Sync {
    /// Makes a file for writing; an error if there is one of that name.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    }

    /// Makes a directory, and those above it that are missing.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Takes space for the first `bytes` of a file.
    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        Ok(rustix::fs::fallocate(file, flags, 0, bytes)?)
    }

    /// Writes as many of the bytes as go in one call, from `at` on; tells how many.
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, slices, at)?)
    }

    /// What was written before survives a power cut when this returns.
    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    /// The same with everything about the file.
    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes created, renamed and removed names in a directory last.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// Cuts a file off.
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    /// Gives a file or directory another name; a file that has it already is replaced at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        std::fs::remove_file(file)
    }

    /// Removes a directory with all that is in it.
    fn remove_tree(&self, directory: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(directory)
    }

    /// How much space the file system of a directory has.
    fn space(&self, directory: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(directory)?;
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            // Without what is kept back for root.
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// The disk as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDevice;

impl Device for SystemDevice {}

/// Writes all of the bytes, however many calls that takes.
pub(crate) fn write_all(
    device: &dyn Device,
    file: &File,
    mut slices: &mut [IoSlice<'_>],
    mut at: u64,
) -> io::Result<()> {
    // A write of nothing would look like a disk that takes nothing.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let some = slices.len().min(SLICES_MAX);
        match device.write(file, slices.get(..some).unwrap_or_default(), at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Linux takes at most 1024 (UIO_MAXIOV) in one call.
const SLICES_MAX: usize = 1024;

/// Writes one run of bytes.
pub(crate) fn write_bytes(
    device: &dyn Device,
    file: &File,
    bytes: &[u8],
    at: u64,
) -> io::Result<()> {
    write_all(device, file, &mut [IoSlice::new(bytes)], at)
}

/// Removes a file if it is there.
pub(crate) fn remove_if_there(device: &dyn Device, path: &Path) -> io::Result<()> {
    match device.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a small file, in place of one that a crash may have left half-made, and syncs it. Its name
/// lasts once the directory is synced.
pub(crate) fn write_synced(device: &dyn Device, path: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(device, path)?;
    let file = device.create(path)?;
    write_bytes(device, &file, bytes, 0)?;
    device.sync_all(&file)
}
