//! Keeps the heap small, and gives memory back to the system after a burst.
//!
//! A thousand sessions, or a queue that was read through, leave free pieces all over the heap, and the
//! allocator keeps them: a relay that once was busy would look for days as if it still were.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// It takes some milliseconds of one processor.
const EVERY: Duration = Duration::from_secs(30);

/// To be called before there are threads.
///
/// The C library makes up to eight heaps a core, each with holes of its own: what one thread frees is of no
/// use to another. One a core is as fast here, with a million messages a fifth smaller.
pub fn one_heap_a_core() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = i32::try_from(cores).unwrap_or(i32::MAX).max(2);
        // SAFETY: takes no pointers; no other thread is there yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
    }
}

pub async fn give_back(shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        // It goes through all of the heap: not on a thread that sessions wait for.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

/// Other C libraries have nothing of the kind.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointers, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
