//! The waiting time that a reply's text asks for: `come back in 00:02:00`, `try again in 300 seconds`, `after 14:30 UTC`.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::{Captures, Regex};

/// The shortest wait a hint may ask for.
pub const LEAST: Duration = Duration::from_secs(30);
/// The longest wait a hint may ask for.
pub const MOST: Duration = Duration::from_secs(6 * 3600);

/// The time to wait, clamped to 30 s ..= 6 h; None: the text names none. A point in time (`after 14:30
/// UTC`) counts only where the caller says what time it is, and only if it is still to come.
pub fn hint(text: &str, now: Option<Timestamp>) -> Option<Duration> {
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(named) = named_time(text) {
        // A time of day must not be read as a duration, even where it cannot be used.
        let wait = named.after(now?)?;
        return Some(wait.clamp(LEAST, MOST));
    }
    let seconds = clock_time(text)
        .or_else(|| after_a_preposition(text))
        .or_else(|| bare_duration(text))?;
    Some(Duration::from_secs(seconds).clamp(LEAST, MOST))
}

/// A point in time that a text names.
#[derive(Clone, Copy, Debug)]
enum Named {
    At(Timestamp),
    /// The next time that clocks in UTC show this.
    OClock {
        hour: i8,
        minute: i8,
    },
}

/// A time of day further ahead than this is rather one that has just passed.
const AHEAD_MOST: SignedDuration = SignedDuration::from_hours(12);

impl Named {
    /// From now until then; None: it has passed.
    fn after(self, now: Timestamp) -> Option<Duration> {
        let wait = match self {
            Named::At(then) => then.duration_since(now),
            Named::OClock { hour, minute } => {
                let today = now.to_zoned(TimeZone::UTC).date().at(hour, minute, 0, 0);
                let then = today.to_zoned(TimeZone::UTC).ok()?.timestamp();
                let wait = then.duration_since(now);
                let wait = if wait.is_negative() {
                    wait.checked_add(SignedDuration::from_hours(24))?
                } else {
                    wait
                };
                if wait > AHEAD_MOST {
                    return None;
                }
                wait
            }
        };
        Duration::try_from(wait).ok()
    }
}

/// `until 2026-11-22T14:30:00Z`, `after Sun, 22 Nov 2026 14:30:00 +0000`, `after 14:30 UTC`. Only after
/// a word that says so, and only with a zone: replies are full of times of other things.
fn named_time(text: &str) -> Option<Named> {
    static ISO: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:after|until|till|later:|at)\s+([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?\s?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})\b",
        )
    });
    static RFC2822: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:after|until|till|later:|at)\s+((?:[a-z]{3},\s+)?[0-9]{1,2}\s+[a-z]{3}\s+[0-9]{4}\s+[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)\s+([+-][0-9]{4}|GMT|UTC|UT)\b",
        )
    });
    static O_CLOCK: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:after|until|till|at)\s+([01]?[0-9]|2[0-3]):([0-5][0-9])(?::[0-5][0-9])?\s?(?:Z|UTC|GMT)\b",
        )
    });
    let part =
        |found: &Captures<'_>, at: usize| found.get(at).map_or("", |part| part.as_str()).to_owned();
    if let Some(found) = ISO.captures(text) {
        let zone = match part(&found, 4).to_ascii_uppercase().as_str() {
            "Z" | "UTC" | "GMT" => "Z".to_owned(),
            offset => offset.to_owned(),
        };
        let seconds = found.get(3).map_or(":00", |part| part.as_str());
        let written = format!("{}T{}{seconds}{zone}", part(&found, 1), part(&found, 2));
        return written.parse().ok().map(Named::At);
    }
    if let Some(found) = RFC2822.captures(text) {
        let zone = match part(&found, 2).to_ascii_uppercase().as_str() {
            "GMT" | "UTC" | "UT" => "+0000".to_owned(),
            offset => offset.to_owned(),
        };
        let written = format!("{} {zone}", part(&found, 1));
        let then = rfc2822::DateTimeParser::new().parse_timestamp(&written);
        return then.ok().map(Named::At);
    }
    let found = O_CLOCK.captures(text)?;
    Some(Named::OClock {
        hour: part(&found, 1).parse().ok()?,
        minute: part(&found, 2).parse().ok()?,
    })
}

/// `in 00:02:00`
fn clock_time(text: &str) -> Option<u64> {
    static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)\b(?:in|for|after|wait|within)\s+([0-9]{1,2}):([0-5][0-9]):([0-5][0-9])\b")
    });
    let found = CLOCK.captures(text)?;
    let number = |at: usize| found.get(at)?.as_str().parse::<u64>().ok();
    Some(number(1)? * 3600 + number(2)? * 60 + number(3)?)
}

/// `for another 20 minutes`
fn after_a_preposition(text: &str) -> Option<u64> {
    static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:in|for|after|wait|within)\s+(?:about\s+|another\s+|at\s+least\s+)?([0-9]{1,6})\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b(\s+to\b)?",
        )
    });
    PHRASE
        .captures_iter(text)
        // `for 24 hours to 48 hours` says how long a block may last, not when to come back.
        .find(|found| found.get(3).is_none())
        .and_then(|found| seconds(&found))
}

/// `300 seconds`, only in a text that speaks of trying again, and not as part of a limit
/// (`10 messages per 15 minutes`, `24 hours to 48 hours`).
fn bare_duration(text: &str) -> Option<u64> {
    static AGAIN: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)gr[ae]y|retry|try|come back|later|enabled"));
    static BARE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(\bper\s+|/\s*|\bto\s+|\bevery\s+|\beach\s+)?\b([0-9]{1,6})\s*(secs?|seconds?|mins?|minutes?|hours?)\b(\s+to\b)?",
        )
    });
    if !AGAIN.is_match(text) {
        return None;
    }
    BARE.captures_iter(text)
        .find(|found| found.get(1).is_none() && found.get(4).is_none())
        .and_then(|found| in_seconds(found.get(2)?.as_str(), found.get(3)?.as_str()))
}

fn seconds(found: &regex::Captures<'_>) -> Option<u64> {
    in_seconds(found.get(1)?.as_str(), found.get(2)?.as_str())
}

fn in_seconds(number: &str, unit: &str) -> Option<u64> {
    let factor = match unit.as_bytes().first()?.to_ascii_lowercase() {
        b's' => 1,
        b'm' => 60,
        _ => 3600,
    };
    Some(number.parse::<u64>().ok()? * factor)
}

fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a fixed pattern, tried by the tests below")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wordings_seen_in_the_wild_are_understood() {
        for (text, seconds) in [
            (
                "Greylisting in action, please come back in 00:02:00 [minutes]",
                120,
            ),
            ("Greylisted for 300 seconds or its been rejected.", 300),
            ("Greylisted for 20 minutes", 1200),
            ("please wait for 240 sec.", 240),
            ("greylisted for 60 seconds by ZEROSPAM", 60),
            ("Greylisted, try again in 900 seconds", 900),
            (
                "Greylisted, see http://example.org/greylist or wait 300 seconds",
                300,
            ),
            ("Account will be enabled in 341 seconds", 341),
            ("Temporarily deferred, try again in 5 minutes", 300),
            ("try again, 10 minutes is enough", 600),
            ("wait at least 2 hours", 7200),
        ] {
            assert_eq!(
                hint(text, None),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_and_vague_words_are_no_hint() {
        for text in [
            "Greylisted, please try again in a few moments.",
            "max 10 messages / hour, try later",
            "sender rate limit 100 per 15 minutes, try later",
            "blocked for 24 hours to 48 hours",
            "try again later",
            "",
        ] {
            assert_eq!(hint(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_point_in_time_is_understood_where_it_has_a_zone_and_is_still_to_come() {
        let now: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("Greylisted, try again after 14:30 UTC", Some(1800)),
            ("try again after 14:30:00 GMT", Some(1800)),
            ("deferred until 2026-11-22T14:10:00Z", Some(600)),
            ("deferred until 2026-11-22 15:10:00 +0100", Some(600)),
            ("Try again later: 2026-11-22 14:05 UTC", Some(300)),
            (
                "come back after Sun, 22 Nov 2026 14:20:00 +0000",
                Some(1200),
            ),
            ("come back after 22 Nov 2026 14:20 GMT", Some(1200)),
            ("blocked until 2026-12-01T00:00:00Z", Some(6 * 3600)),
            ("try again at 14:00:10Z", Some(30)),
            // Passed; no zone; no word that says so; no such date.
            ("deferred until 2026-11-22T13:00:00Z", None),
            ("try again after 13:59 UTC", None),
            ("try again after 15:30", None),
            ("Greylisted [2026-11-22T14:30:00Z]", None),
            ("try again after 2026-13-40T14:30:00Z", None),
        ] {
            let wait = hint(text, Some(now)).map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{text}");
        }
        assert_eq!(hint("try again after 14:30:00 UTC", None), None);
        let late: Timestamp = "2026-11-22T23:50:00Z".parse().unwrap();
        let wait = hint("try again after 00:10 UTC", Some(late));
        assert_eq!(wait, Some(Duration::from_secs(1200)));
    }

    #[test]
    fn a_hint_is_clamped() {
        assert_eq!(hint("retry in 1 second", None), Some(LEAST));
        assert_eq!(hint("retry in 900000 hours", None), Some(MOST));
    }
}
