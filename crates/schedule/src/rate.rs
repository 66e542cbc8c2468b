//! Rates: the generic cell rate algorithm by its formula, with a rate that may change at run time.

use crate::time::{Micros, SECOND};

/// How far ahead of an even pace a site may get: a timer's coarseness must not cost throughput, a
/// burst must not be seen by the peer.
const TOLERANCE: Micros = SECOND / 20;

/// Messages per second. In any time `t` at most `1 + rate * (t + 0.05 s)` messages pass.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    /// Microseconds between two messages; None: no limit.
    interval: Option<f64>,
    /// When the next message would be exactly on time.
    on_time: f64,
}

impl Rate {
    pub(crate) fn new(per_second: Option<f64>) -> Rate {
        Rate {
            interval: interval(per_second),
            on_time: 0.0,
        }
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        self.interval.map(|interval| SECOND as f64 / interval)
    }

    /// Changes the rate. What has been sent ahead of time is paid back at the new rate.
    pub(crate) fn set(&mut self, per_second: Option<f64>, now: Micros) {
        let new = interval(per_second);
        if let (Some(old), Some(new)) = (self.interval, new) {
            let ahead = (self.on_time - now as f64).max(0.0);
            self.on_time = now as f64 + ahead * new / old;
        }
        self.interval = new;
    }

    /// When the next message may go; `now` or earlier: at once.
    pub(crate) fn next(&self) -> Micros {
        match self.interval {
            None => 0,
            Some(_) => (self.on_time - TOLERANCE as f64).max(0.0).ceil() as Micros,
        }
    }

    /// A message goes now. The caller has asked [`Rate::next`].
    pub(crate) fn take(&mut self, now: Micros) {
        if let Some(interval) = self.interval {
            self.on_time = self.on_time.max(now as f64) + interval;
        }
    }
}

/// A rate that is no positive number is no limit; the configuration has refused it before.
fn interval(per_second: Option<f64>) -> Option<f64> {
    per_second
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .map(|rate| SECOND as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as allowed until `end`; how many went.
    fn drain(rate: &mut Rate, mut now: Micros, end: Micros) -> u64 {
        let mut sent = 0;
        while now <= end {
            rate.take(now);
            sent += 1;
            now = now.max(rate.next());
        }
        sent
    }

    #[test]
    fn the_pace_is_even_and_the_sum_is_kept() {
        let start = 1_000 * SECOND;
        for (per_second, seconds) in [(0.1, 100), (1.0, 10), (20.0, 10), (2000.0, 5)] {
            let mut rate = Rate::new(Some(per_second));
            let sent = drain(&mut rate, start, start + seconds * SECOND);
            let most = 1.0 + per_second * (seconds as f64 + 0.05);
            assert!(sent as f64 <= most, "{sent} at {per_second}/s");
            assert!(sent as f64 >= per_second * seconds as f64, "{sent}");
        }
    }

    #[test]
    fn silence_is_not_saved_up_for_a_burst() {
        let mut rate = Rate::new(Some(10.0));
        rate.take(SECOND);
        let late = 3600 * SECOND;
        rate.take(late);
        assert!(rate.next() > late);
    }

    #[test]
    fn a_new_rate_holds_from_the_next_message_on() {
        let mut rate = Rate::new(Some(10.0));
        rate.take(SECOND);
        rate.set(Some(1.0), SECOND);
        assert_eq!(rate.next(), 2 * SECOND - TOLERANCE);
        rate.set(None, SECOND);
        assert_eq!(rate.next(), 0);
        rate.set(Some(0.0), SECOND);
        assert_eq!(rate.per_second(), None);
    }
}
