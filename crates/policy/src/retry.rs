//! The retry clock: named schedules with steps, jitter and a maximum age.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;

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

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Schedule {
    /// `[retry.default]` where the configuration has none.
    pub fn standard() -> Schedule {
        Schedule {
            steps: [
                MINUTE,
                5 * MINUTE,
                15 * MINUTE,
                30 * MINUTE,
                HOUR,
                2 * HOUR,
                4 * HOUR,
            ]
            .map(Duration::from_secs)
            .to_vec(),
            jitter: 0.1,
            max_age: Duration::from_secs(5 * DAY),
            warn_after: Some(Duration::from_secs(4 * HOUR)),
        }
    }

    /// `[retry.greylist]` where the configuration has none: early tries close together, since a
    /// greylist lets the same triple through after minutes.
    pub fn greylist() -> Schedule {
        Schedule {
            steps: [5, 10, 15, 30, 60]
                .map(|m| Duration::from_secs(m * MINUTE))
                .to_vec(),
            ..Schedule::standard()
        }
    }

    /// The schedules that rules may name without any configuration.
    pub fn built_in() -> [(&'static str, Schedule); 2] {
        [
            ("default", Schedule::standard()),
            ("greylist", Schedule::greylist()),
        ]
    }

    /// When a recipient is due again that was deferred now, for the `attempts`-th time.
    /// `hint`: the least wait that the decision asks for (jittered upwards only).
    /// `give_up_after`: of the rule, shortens the deadline.
    pub fn next(
        &self,
        arrived: Timestamp,
        now: Timestamp,
        attempts: u32,
        hint: Option<Duration>,
        give_up_after: Option<Duration>,
        rng: &mut impl rand::Rng,
    ) -> Next {
        let age = give_up_after.map_or(self.max_age, |cap| cap.min(self.max_age));
        let deadline = later(arrived, age);
        if now >= deadline {
            return Next::Expired;
        }
        // The fraction is drawn in any case, so that a seed gives the same times with and without hints.
        let fraction = self.jitter.clamp(0.0, 0.5) * rng.random::<f64>();
        let wait = match hint {
            // Too early a retry starts some greylists anew: a hint is only ever stretched.
            Some(hint) => hint.mul_f64(1.0 + fraction),
            None => {
                let up = rng.random::<bool>();
                let factor = if up { 1.0 + fraction } else { 1.0 - fraction };
                self.step(attempts).mul_f64(factor)
            }
        };
        let due = later(now, wait);
        if due >= deadline {
            Next::LastAt(deadline)
        } else {
            Next::At(due)
        }
    }

    fn step(&self, attempts: u32) -> Duration {
        let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        self.steps
            .get(at)
            .or(self.steps.last())
            .copied()
            // An empty list does not get past the configuration; an hour harms nobody.
            .unwrap_or(Duration::from_secs(HOUR))
    }
}

/// Saturating: an absurd duration ends at the end of time, not in a panic.
fn later(from: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| from.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn rng(seed: u64) -> SmallRng {
        SmallRng::seed_from_u64(seed)
    }

    #[test]
    fn the_last_try_comes_at_the_deadline_and_not_before() {
        let schedule = Schedule::standard();
        let day = 24 * 3600;
        let next = schedule.next(at(0), at(5 * day - 60), 30, None, None, &mut rng(1));
        assert_eq!(next, Next::LastAt(at(5 * day)));
        let next = schedule.next(at(0), at(5 * day), 31, None, None, &mut rng(1));
        assert_eq!(next, Next::Expired);
    }

    #[test]
    fn give_up_after_shortens_the_deadline_but_never_lengthens_it() {
        let schedule = Schedule::standard();
        let hours = |n: u64| Some(Duration::from_secs(n * 3600));
        let next = schedule.next(at(0), at(3 * 3600), 7, None, hours(4), &mut rng(1));
        assert_eq!(next, Next::LastAt(at(4 * 3600)));
        let next = schedule.next(at(0), at(5 * 24 * 3600), 7, None, hours(1000), &mut rng(1));
        assert_eq!(next, Next::Expired);
    }

    #[test]
    fn a_hint_is_only_ever_stretched() {
        let schedule = Schedule::standard();
        for seed in 0..200 {
            let hint = Some(Duration::from_secs(300));
            match schedule.next(at(0), at(10), 1, hint, None, &mut rng(seed)) {
                Next::At(due) => assert!(due >= at(310) && due <= at(340), "{due}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn times_are_never_before_now_never_past_the_deadline_and_never_fall(
            seed: u64, hints in proptest::collection::vec(proptest::option::of(0u64..40_000), 1..60)
        ) {
            let schedule = Schedule::standard();
            let deadline = at(5 * 24 * 3600);
            let (mut now, mut rng) = (at(0), rng(seed));
            for (attempt, hint) in hints.into_iter().enumerate() {
                let hint = hint.map(Duration::from_secs);
                let tried = u32::try_from(attempt).unwrap() + 1;
                match schedule.next(at(0), now, tried, hint, None, &mut rng) {
                    Next::At(due) => { prop_assert!(due >= now && due < deadline); now = due; }
                    Next::LastAt(due) => { prop_assert_eq!(due, deadline); now = due; }
                    Next::Expired => { prop_assert!(now >= deadline); break; }
                }
            }
        }

        #[test]
        fn absurd_durations_do_not_panic(hint: u64, age: u64, cap: Option<u64>, attempts: u32, seed: u64) {
            let schedule = Schedule { max_age: Duration::from_secs(age), ..Schedule::standard() };
            // mul_f64 panics beyond u64 seconds; a hint comes clamped, a rule's time checked on loading.
            let hint = Duration::from_secs(hint.min(u64::MAX / 4));
            schedule.next(at(0), at(1), attempts, Some(hint), cap.map(Duration::from_secs), &mut rng(seed));
        }
    }
}
