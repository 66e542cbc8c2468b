//! The clock that everything above the purity line is stamped with. A wall clock that a step of the
//! system's time (NTP, suspend) does not turn back, and that follows tokio's virtual time in tests.

use jiff::Timestamp;
use tokio::time::Instant;

/// Cheap to copy. Made once in `relayd`, handed to whoever needs the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that shows `now` now, and goes on with the runtime's time.
    pub fn starting_at(now: Timestamp) -> Clock {
        Clock {
            anchor: now,
            started: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.anchor
            .checked_add(jiff::SignedDuration::try_from(self.started.elapsed()).unwrap_or_default())
            .unwrap_or(Timestamp::MAX)
    }

    /// When the runtime's timer shows `at`; at once where `at` has passed.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.anchor);
        match std::time::Duration::try_from(ahead) {
            Ok(ahead) => self.started + ahead,
            Err(_) => self.started,
        }
    }
}
