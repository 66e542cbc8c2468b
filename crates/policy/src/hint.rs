//! The waiting time that a reply's text asks for: `come back in 00:02:00`, `try again in 300 seconds`.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

/// The shortest wait a hint may ask for.
pub const LEAST: Duration = Duration::from_secs(30);
/// The longest wait a hint may ask for.
pub const MOST: Duration = Duration::from_secs(6 * 3600);

/// The time to wait, clamped to 30 s ..= 6 h; None: the text names none.
pub fn hint(text: &str) -> Option<Duration> {
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = clock_time(text)
        .or_else(|| after_a_preposition(text))
        .or_else(|| bare_duration(text))?;
    Some(Duration::from_secs(seconds).clamp(LEAST, MOST))
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
            assert_eq!(hint(text), Some(Duration::from_secs(seconds)), "{text}");
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
            assert_eq!(hint(text), None, "{text}");
        }
    }

    #[test]
    fn a_hint_is_clamped() {
        assert_eq!(hint("retry in 1 second"), Some(LEAST));
        assert_eq!(hint("retry in 900000 hours"), Some(MOST));
    }
}
