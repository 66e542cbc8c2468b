//! Waiting for another process: the one place where a test may sleep.

use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Generous: CI machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// Asks again and again until there is an answer; panics with `what` when patience ends.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within_patience(ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// The same for a test that has more to say when patience ends.
pub fn within_patience<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
