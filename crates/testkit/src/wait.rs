//! Waiting for another process: the one place where a test may sleep.

use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Generous: CI machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Asks again and again until there is an answer; panics with `what` when patience ends.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
