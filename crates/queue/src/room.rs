//! Room: whether the queue may take more, and the ballast that is thrown out when the disk is full
//! all the same, so that what was delivered can still be written down.

use std::io;
use std::path::PathBuf;

use crate::device::Space;
use crate::shared::{Options, Shared};
use crate::store::{Stats, StoreError};

/// Looks at the disk, says whether mail may be accepted, and takes ballast in again when it can.
pub(crate) fn look(shared: &Shared) {
    let root = shared.layout.root();
    // A disk that does not answer is no reason to refuse: the write will tell.
    let Ok(space) = shared.options.device.space(root) else {
        return;
    };
    let reserve = reserve_bytes(&shared.options, space);
    let short = (space.free_bytes < reserve).then(|| {
        format!(
            "the disk has {} MiB free, of which {} MiB are kept; it goes on by itself when there is more",
            space.free_bytes >> 20,
            reserve >> 20
        )
    });
    let plenty = reserve.saturating_add(2 * shared.options.ballast_bytes);
    if space.free_bytes >= plenty && !ballast(shared).exists() {
        // It is for a full disk only; without it, all goes on.
        let _ = take_ballast(shared);
    }
    shared.ledger().short = short;
}

/// What mail may not take: the rest of the disk is for deliveries, the index and everybody else.
fn reserve_bytes(options: &Options, space: Space) -> u64 {
    let share = space.total_bytes / 100 * u64::from(options.free_percent.min(100));
    options.free_bytes.min(share)
}

/// Whether a message more is within the limits. They may be passed by what waits for the disk at
/// that moment.
pub(crate) fn within_limits(options: &Options, stats: Stats) -> Result<(), StoreError> {
    let full = |what: String| Err(StoreError::Full(what));
    if stats.messages >= options.messages_max {
        return full(format!("it holds {} messages, its limit", stats.messages));
    }
    if stats.bytes >= options.bytes_max {
        return full(format!(
            "its messages have {} MiB, its limit is {} MiB",
            stats.bytes >> 20,
            options.bytes_max >> 20
        ));
    }
    Ok(())
}

fn ballast(shared: &Shared) -> PathBuf {
    shared.layout.ballast()
}

fn take_ballast(shared: &Shared) -> io::Result<()> {
    if shared.options.ballast_bytes == 0 {
        return Ok(());
    }
    let path = ballast(shared);
    let device = &shared.options.device;
    let file = device.create(&path)?;
    device
        .preallocate(&file, shared.options.ballast_bytes)
        .inspect_err(|_| {
            let _ = device.remove(&path);
        })
}

/// Makes room on a full disk.
pub(crate) fn throw_ballast(shared: &Shared) -> Thrown {
    match shared.layout.remove_ballast() {
        Ok(()) => Thrown::Now,
        Err(_) => Thrown::Before,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thrown {
    Now,
    /// There is none to throw.
    Before,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_of_a_small_disk_and_a_number_on_a_large_one() {
        let options = Options::default();
        let reserve = |total_bytes| {
            let free_bytes = 0;
            reserve_bytes(
                &options,
                Space {
                    total_bytes,
                    free_bytes,
                },
            )
        };
        assert_eq!(reserve(1000 << 20), 100 << 20);
        assert_eq!(reserve(4000 << 30), 4 << 30);
    }
}
