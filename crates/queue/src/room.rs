//! Room: how much space there is and who has spoken for it, and the ballast that is thrown out when
//! the disk is full all the same, so that what was delivered can still be written down. What follows
//! for who wants to come in is decided in [`crate::admit`].

use std::io;
use std::path::PathBuf;

use crate::admit::{Fill, Limits};
use crate::device::Space;
use crate::shared::Shared;

/// What is known of the space, behind a lock of its own: sessions ask often.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) limits: Limits,
    /// At the last look; None: the disk did not say.
    pub(crate) space: Option<Space>,
    /// Bytes of bodies accepted since then.
    taken: u64,
    /// Bytes that sessions hold for what they are sending.
    held: u64,
    /// Why nothing is taken, whatever the numbers say: a write found the disk full since the last look.
    pub(crate) full: Option<String>,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Room {
        Room {
            limits,
            space: None,
            taken: 0,
            held: 0,
            full: None,
        }
    }

    /// With what the queue holds.
    pub(crate) fn fill(&self, messages: u64, bytes: u64) -> Fill {
        Fill {
            messages,
            bytes,
            space: self.space,
            spoken_for: self.held.saturating_add(self.taken),
        }
    }

    /// The same for a message whose space is held already.
    pub(crate) fn fill_without_held(&self, messages: u64, bytes: u64) -> Fill {
        Fill {
            spoken_for: self.taken,
            ..self.fill(messages, bytes)
        }
    }

    pub(crate) fn hold(&mut self, bytes: u64) {
        self.held = self.held.saturating_add(bytes);
    }

    pub(crate) fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// A body is in the journal now. Much of that space was taken before; until the next look it
    /// counts as if it had not been.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }
}

/// Looks at the disk, and takes ballast in again when it can. `full`: why nothing is taken all the same.
pub(crate) fn look(shared: &Shared, full: Option<String>) {
    let space = shared.options.device.space(shared.layout.root()).ok();
    let limits = {
        let mut room = shared.room();
        room.space = space;
        room.taken = 0;
        room.full = full;
        room.limits
    };
    let Some(space) = space else { return };
    let plenty = limits
        .reserve(space)
        .saturating_add(2 * limits.ballast_bytes);
    if space.free_bytes >= plenty {
        // It is for a full disk only; without it, all goes on.
        let _ = take_ballast(shared, limits.ballast_bytes);
    }
}

fn ballast(shared: &Shared) -> PathBuf {
    shared.layout.ballast()
}

/// Makes it as large as the options say, if it is not.
fn take_ballast(shared: &Shared, bytes: u64) -> io::Result<()> {
    let path = ballast(shared);
    let there = std::fs::metadata(&path).map_or(0, |found| found.len());
    if there == bytes {
        return Ok(());
    }
    if there > 0 {
        shared.options.device.remove(&path)?;
    }
    if bytes == 0 {
        return Ok(());
    }
    let device = &shared.options.device;
    let file = device.create(&path)?;
    device.preallocate(&file, bytes).inspect_err(|_| {
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
