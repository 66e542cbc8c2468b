//! How the queue does: what the threads leave behind for whoever asks, so that an answer never waits for
//! the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::admit;
use crate::index::Index;
use crate::segment;
use crate::shared::Shared;
use crate::store::{Condition, FilesNow, SpaceNow};

/// A write that has been under way for so long does not come to an end any more, or might as well not.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// The index thread may be busy with a copy of the whole index, but not for so long.
const LOOK_WITHIN: Duration = Duration::from_secs(600);
/// Sizes of files are looked at so often.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// What the threads say of themselves.
#[derive(Debug)]
pub(crate) struct Signs {
    /// Since when the commit thread has been writing.
    pub(crate) writing_since: Option<Instant>,
    /// When the index thread was last heard of.
    pub(crate) looked: Instant,
    files: FilesNow,
    measured: Option<Instant>,
}

impl Signs {
    pub(crate) fn new() -> Signs {
        Signs {
            writing_since: None,
            looked: Instant::now(),
            files: FilesNow::default(),
            measured: None,
        }
    }

    fn trouble(&self, now: Instant) -> Option<String> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let writing = self.writing_since.map(since);
        if let Some(time) = writing.filter(|time| *time > WRITE_WITHIN) {
            let seconds = time.as_secs();
            return Some(format!("the disk has not answered a write for {seconds} s"));
        }
        let silent = since(self.looked);
        (silent > LOOK_WITHIN).then(|| {
            let seconds = silent.as_secs();
            format!("the index thread has not been heard of for {seconds} s")
        })
    }
}

/// By the index thread: it is there, and so large are the files.
pub(crate) fn measure(shared: &Shared, index: &Index) {
    let now = Instant::now();
    {
        let mut signs = shared.signs();
        signs.looked = now;
        let fresh = |then: Instant| now.saturating_duration_since(then) < MEASURE_EVERY;
        if signs.measured.is_some_and(fresh) {
            return;
        }
        signs.measured = Some(now);
    }
    // Without the lock: these calls wait for the disk.
    let journal = shared.layout.journal();
    let numbers = segment::numbers(&journal).unwrap_or_default();
    let size = |number: &u32| bytes_of(&segment::path(&journal, *number));
    let files = FilesNow {
        journal_bytes: numbers.iter().map(size).sum(),
        journal_segments: numbers.len() as u64,
        index_bytes: index.file_bytes(),
        quarantined: quarantined(&shared.layout.quarantine()),
    };
    shared.signs().files = files;
}

fn bytes_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Records and indexes; not the files that tell the reasons.
fn quarantined(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| !name.to_string_lossy().ends_with(".reason"))
        .count() as u64
}

/// `waiting`: changes that wait for the disk.
pub(crate) fn condition(shared: &Shared, waiting: u64) -> Condition {
    let (stopped, index_behind, stats) = {
        let ledger = shared.ledger();
        (ledger.stopped.clone(), ledger.unapplied, ledger.stats())
    };
    let (trouble, files) = {
        let signs = shared.signs();
        (signs.trouble(Instant::now()), signs.files)
    };
    let room = shared.room();
    let fill = room.fill_without_held(stats.messages, stats.bytes);
    let refusing = match &room.full {
        Some(why) => Some(why.clone()),
        None => (admit::may_enter(&room.limits, &fill, 0).err()).map(|refusal| refusal.text),
    };
    Condition {
        trouble: stopped
            .map(|why| format!("the queue has stopped: {why}"))
            .or(trouble),
        refusing,
        space: room.space.map(|space| SpaceNow {
            free_bytes: space.free_bytes,
            reserve_bytes: room.limits.reserve(space),
            spoken_for_bytes: room.fill(0, 0).spoken_for,
        }),
        files,
        waiting,
        index_behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_does_not_end_and_a_thread_that_is_silent_are_trouble() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut signs = Signs::new();
        signs.looked = start;
        assert_eq!(signs.trouble(at(300)), None);
        assert!(signs.trouble(at(601)).unwrap().contains("601 s"));
        signs.writing_since = Some(at(100));
        assert_eq!(signs.trouble(at(130)), None);
        assert!(signs.trouble(at(131)).unwrap().contains("a write for 31 s"));
    }
}
