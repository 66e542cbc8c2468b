//! Gives memory back to the system after a burst.
//!
//! A thousand sessions, or a queue that was read through, leave free pieces all over the heap, and the
//! allocator keeps them: a relay that once was busy would look for days as if it still were.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// It takes some milliseconds of one processor.
const EVERY: Duration = Duration::from_secs(30);

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
