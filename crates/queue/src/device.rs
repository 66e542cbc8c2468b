//! The calls to the system that the journal's promise rests on, behind a trait: tests put a disk in
//! their place that is full, fails, lies about its space or takes its time.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

/// What the journal asks of a disk. All but `space` are called on the threads of the queue only.
pub trait Device: fmt::Debug + Send + Sync {
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
