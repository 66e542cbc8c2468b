//! The retry clock: named schedules with steps, jitter and a maximum age.

use std::time::Duration;

use jiff::Timestamp;

/// `[retry.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Waiting times after the first, second... attempt; the last repeats. Never empty.
    pub steps: Vec<Duration>,
    /// A fraction, 0.0 to 0.5: each wait is stretched or shortened by up to this much. Hints are only stretched.
    pub jitter: f64,
    /// From arrival to giving up. The last try comes at the deadline, not before it.
    pub max_age: Duration,
    /// A delayed-delivery DSN after this long; None: never.
    pub warn_after: Option<Duration>,
}

/// When next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Due again then; never before `now`.
    At(Timestamp),
    /// The last try, at the deadline: if it is deferred, too, the recipient has expired.
    LastAt(Timestamp),
    /// The deadline has passed and the last try was made: bounce.
    Expired,
}

impl Schedule {
    /// When a recipient is due again that was deferred now, for the `attempts`-th time.
    /// `hint`: the least wait that the decision asks for (jittered upwards only).
    pub fn next(
        &self,
        arrived: Timestamp,
        now: Timestamp,
        attempts: u32,
        hint: Option<Duration>,
        give_up_after: Option<Duration>,
        rng: &mut impl rand::Rng,
    ) -> Next {
        let _ = (arrived, now, attempts, hint, give_up_after, rng);
        todo!()
    }
}
