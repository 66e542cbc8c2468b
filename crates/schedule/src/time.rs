//! Times inside the scheduler: microseconds since the Unix epoch, small enough to keep a million of.

use std::time::Duration;

use jiff::Timestamp;

pub(crate) type Micros = u64;

/// The clock's reading: rounded down, so that nothing is early.
pub(crate) fn clock(at: Timestamp) -> Micros {
    Micros::try_from(at.as_microsecond()).unwrap_or(0)
}

/// A due time: rounded up, so that nothing is early.
pub(crate) fn due(at: Timestamp) -> Micros {
    let whole = clock(at);
    let rest = at.subsec_nanosecond() % 1000;
    if rest > 0 { whole + 1 } else { whole }
}

pub(crate) fn timestamp(at: Micros) -> Timestamp {
    i64::try_from(at)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

pub(crate) fn span(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}

pub(crate) const SECOND: Micros = 1_000_000;
pub(crate) const MINUTE: Micros = 60 * SECOND;
