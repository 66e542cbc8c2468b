//! Keeps the heap small, and gives memory back to the system after a burst.
//!
//! A thousand sessions, or a queue that was read through, leave free pieces all over the heap, and the
//! allocator keeps them: a relay that once was busy would look for days as if it still were.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// It takes some milliseconds of one processor.
const EVERY: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// It is done sooner where the process has grown by that much since it was done last: what a burst leaves behind
/// goes within a second, and what is in use cannot make it happen often.
const GROWN_PAGES: u64 = (8 << 20) / 4096;
/// Pieces from this size on are the system's. A piece of a body that is read or sent is smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: i32 = 128 << 10;
/// What may stay free at the end of the heap until the next time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SPARE_BYTES: i32 = 8 << 20;

/// To be called before there are threads.
///
/// One heap a core: the C library makes up to eight a core, each with holes of its own, and what one thread
/// frees is of no use to another. Large pieces come from the system and go back to it at once: as it is, the
/// first large one that is freed moves the border up, and from then on they leave holes in the heap, too. With a
/// million messages the two together are a fifth of all memory, and a start is faster for it.
pub fn small_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = i32::try_from(cores).unwrap_or(i32::MAX).max(2);
        for (what, value) in [
            (libc::M_ARENA_MAX, heaps),
            (libc::M_MMAP_THRESHOLD, LARGE_BYTES),
            // Given a border, it would hand back the end of the heap at every chance.
            (libc::M_TRIM_THRESHOLD, SPARE_BYTES),
        ] {
            // SAFETY: takes no pointers; no other thread is there yet. What is refused stays as it was.
            unsafe {
                libc::mallopt(what, value);
            }
        }
    }
}

pub async fn give_back(shutdown: CancellationToken) {
    let mut left = 0;
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        if last.elapsed() < EVERY && resident_pages() < left + GROWN_PAGES {
            continue;
        }
        // It goes through all of the heap: not on a thread that sessions wait for.
        let _ = tokio::task::spawn_blocking(trim).await;
        left = resident_pages();
        last = Instant::now();
    }
}

/// 0 where the system does not say: then it is done every half a minute.
fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = statm.split(' ').nth(1);
    resident.and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Other C libraries have nothing of the kind.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointers, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
