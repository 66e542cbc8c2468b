//! Compaction of the index: sled's file never shrinks, so what is left of a large one is copied into
//! a new one, which takes its place at once or not at all.

use std::path::Path;

use relay_observe::crash::{self, CrashPoint};

use crate::files::Layout;
use crate::index::{Index, IndexError};
use crate::shared::Options;

/// Copied when less than one part in so many of the file is needed.
const PARTS: u64 = 10;
/// More than most messages take in the index; only a first estimate.
const MESSAGE_BYTES: u64 = 4096;

/// Whether the index of so many messages is much larger than it need be. Reads a tenth of it at most.
pub(crate) fn worth_it(
    index: &Index,
    options: &Options,
    messages: u64,
) -> Result<bool, IndexError> {
    let bytes = index.file_bytes();
    if bytes < options.compact_bytes || messages.saturating_mul(MESSAGE_BYTES * PARTS) > bytes {
        return Ok(false);
    }
    Ok(index.live_bytes_upto(bytes / PARTS)? < bytes / PARTS)
}

/// Copies the current index into the next one and names that in CURRENT. Before that the old one is in
/// use, after it the new one; the start removes the other.
pub(crate) fn compact(
    layout: &Layout,
    options: &Options,
    index: &Index,
) -> Result<Index, IndexError> {
    let files = |path: &Path| {
        let path = path.to_owned();
        move |error| IndexError::Files { path, error }
    };
    let missing = || IndexError::Damaged("CURRENT names no index".to_owned());
    let number = layout.current().ok_or_else(missing)?;
    let path = layout.index(number + 1);
    if path.exists() {
        layout.remove_index(number + 1).map_err(files(&path))?;
    }
    let copy = Index::open(&*options.device, &path, options.index_cache_bytes)?;
    index.copy_into(&copy)?;
    crash::at(CrashPoint::HalfOfCompaction);
    layout
        .write_current(number + 1)
        .map_err(files(layout.root()))?;
    crash::at(CrashPoint::HalfOfCompaction);
    // Removed at the next start if not now.
    let _ = layout.remove_index(number);
    Ok(copy)
}
