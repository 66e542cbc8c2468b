//! The small patterns of a rule: basic codes (`45x`), enhanced codes (`x.7.6xx`), durations (`15m`).

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use relay_smtp::EnhancedStatus;

use crate::code_range::EnhancedRange;

/// A set of basic codes, 100 to 599, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codes([u64; 8]);

impl Codes {
    /// Adds `421`, `45x` or `5xx`.
    pub fn add(&mut self, pattern: &str) -> Result<(), String> {
        let fits = |code: u16| {
            code.to_string()
                .bytes()
                .zip(pattern.bytes())
                .all(|(digit, wanted)| wanted == b'x' || wanted == digit)
        };
        let well_formed = pattern.len() == 3
            && pattern.starts_with(['1', '2', '3', '4', '5'])
            && pattern.bytes().all(|b| b.is_ascii_digit() || b == b'x');
        if !well_formed {
            return Err(format!(
                "{pattern:?} is no basic code; write three digits from 1xx to 5xx, x for any digit, such as \"421\" or \"45x\""
            ));
        }
        for code in (100..600).filter(|code| fits(*code)) {
            self.put(code);
        }
        Ok(())
    }

    /// All codes that begin with this digit.
    pub fn of_digit(digit: u8) -> Codes {
        let mut codes = Codes::default();
        for code in (100..600).filter(|code| code / 100 == u16::from(digit)) {
            codes.put(code);
        }
        codes
    }

    pub fn contains(&self, code: u16) -> bool {
        code >= 100
            && self
                .0
                .get(usize::from(code - 100) / 64)
                .is_some_and(|bits| bits & (1 << ((code - 100) % 64)) != 0)
    }

    pub fn and(self, other: Codes) -> Codes {
        let mut both = self;
        for (mine, theirs) in both.0.iter_mut().zip(other.0) {
            *mine &= theirs;
        }
        both
    }

    pub fn or(self, other: Codes) -> Codes {
        let mut all = self;
        for (mine, theirs) in all.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
        all
    }

    pub fn is_empty(&self) -> bool {
        *self == Codes::default()
    }

    fn put(&mut self, code: u16) {
        if let Some(bits) = self.0.get_mut(usize::from(code - 100) / 64) {
            *bits |= 1 << ((code - 100) % 64);
        }
    }
}

/// As they could be written in a rule: `421, 45x`.
impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let all = |from: u16, count: u16| (from..from + count).all(|code| self.contains(code));
        for hundred in (100..600).step_by(100) {
            if all(hundred, 100) {
                words.push(format!("{}xx", hundred / 100));
                continue;
            }
            for ten in (hundred..hundred + 100).step_by(10) {
                if all(ten, 10) {
                    words.push(format!("{}x", ten / 10));
                    continue;
                }
                let single = (ten..ten + 10).filter(|code| self.contains(*code));
                words.extend(single.map(|code| code.to_string()));
            }
        }
        f.write_str(&words.join(", "))
    }
}

/// `4.7.28`, `x.1.1`, `5.7.6xx`: x alone is any number, trailing x any digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnhancedPattern {
    class: Range,
    subject: Range,
    detail: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u16,
    to: u16,
}

impl EnhancedPattern {
    pub fn matches(&self, code: EnhancedStatus) -> bool {
        self.class.has(u16::from(code.class.digit()))
            && self.subject.has(code.subject)
            && self.detail.has(code.detail)
    }

    /// Whether one of these may stand in the second place.
    pub fn takes_subject(&self, numbers: RangeInclusive<u16>) -> bool {
        self.subject.meets(&numbers)
    }

    /// Whether one of these may stand in the third place.
    pub fn takes_detail(&self, numbers: RangeInclusive<u16>) -> bool {
        self.detail.meets(&numbers)
    }

    /// Whether it matches one of these, and is not open to every detail.
    pub fn names_one_of(&self, codes: &EnhancedRange) -> bool {
        let mut classes = codes.classes.iter().map(|class| class.digit());
        self.detail != Range { from: 0, to: 999 }
            && classes.any(|class| self.class.has(u16::from(class)))
            && codes
                .subject
                .is_none_or(|subject| self.subject.has(subject))
            && self.detail.meets(&codes.details)
    }

    pub fn parse(text: &str) -> Result<EnhancedPattern, String> {
        let mut parts = text.split('.').map(Range::parse);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None)
                if class.to == 999
                    || (class.from == class.to && [2, 4, 5].contains(&class.from)) =>
            {
                Ok(EnhancedPattern {
                    class,
                    subject,
                    detail,
                })
            }
            _ => Err(format!(
                "{text:?} is no enhanced code; write class.subject.detail with class 2, 4, 5 or x, such as \"5.1.1\", \"x.7.1\" or \"5.7.6xx\""
            )),
        }
    }
}

impl fmt::Display for EnhancedPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, to) if from == to => write!(f, "{from}"),
            (0, 999) => f.write_str("x"),
            // Trailing digits are open, so both ends have the same length and differ from some digit on.
            (from, to) => {
                let (from, to) = (from.to_string(), to.to_string());
                let same = from.bytes().zip(to.bytes()).take_while(|(a, b)| a == b);
                let kept = same.count();
                write!(f, "{}{}", &to[..kept], "x".repeat(to.len() - kept))
            }
        }
    }
}

impl Range {
    fn has(self, number: u16) -> bool {
        (self.from..=self.to).contains(&number)
    }

    fn meets(self, numbers: &RangeInclusive<u16>) -> bool {
        self.from <= *numbers.end() && *numbers.start() <= self.to
    }

    fn parse(text: &str) -> Option<Range> {
        let digits = text.trim_end_matches('x');
        if digits.is_empty() && !text.is_empty() {
            return Some(Range { from: 0, to: 999 });
        }
        let well_formed =
            (1..=3).contains(&text.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !well_formed {
            return None;
        }
        Some(Range {
            from: text.replace('x', "0").parse().ok()?,
            to: text.replace('x', "9").parse().ok()?,
        })
    }
}

/// `30s`, `15m`, `4h`, `5d`; one number and one unit, up to a year.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is no duration; write a whole number and a unit, such as \"30s\", \"15m\", \"4h\" or \"5d\""
        )
    };
    let (number, unit) =
        text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let total = number.saturating_mul(seconds);
    if total == 0 || total > 366 * 86_400 {
        return Err(format!("{text:?} is out of range; write 1s to 366d"));
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_codes_match_by_digit() {
        let mut codes = Codes::default();
        codes.add("45x").unwrap();
        codes.add("421").unwrap();
        assert!(codes.contains(450) && codes.contains(459) && codes.contains(421));
        assert!(
            !codes.contains(550)
                && !codes.contains(422)
                && !codes.contains(0)
                && !codes.contains(999)
        );
        for junk in ["", "4", "45", "x50", "650", "45y", "4567"] {
            assert!(codes.add(junk).is_err(), "{junk}");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_could_be_written() {
        let mut codes = Codes::default();
        for word in ["45x", "421", "5xx", "450"] {
            codes.add(word).unwrap();
        }
        assert_eq!(codes.to_string(), "421, 45x, 5xx");
        for pattern in ["4.7.28", "x.1.1", "5.7.6xx", "x.7.x", "5.7.75x"] {
            assert_eq!(
                EnhancedPattern::parse(pattern).unwrap().to_string(),
                pattern
            );
        }
    }

    #[test]
    fn enhanced_codes_match_by_number_or_digit() {
        let hit = |pattern: &str, code: &str| {
            EnhancedPattern::parse(pattern)
                .unwrap()
                .matches(code.parse().unwrap())
        };
        assert!(hit("x.1.1", "4.1.1") && hit("5.7.6xx", "5.7.606") && hit("x.7.x", "5.7.1"));
        assert!(!hit("5.1.1", "4.1.1") && !hit("5.7.6xx", "5.7.60") && !hit("5.1.1", "5.1.10"));
        for junk in ["", "5.1", "3.1.1", "5.1.1.1", "5.x1.1", "5.1.1000", "5..1"] {
            assert!(EnhancedPattern::parse(junk).is_err(), "{junk}");
        }
    }

    #[test]
    fn durations_have_one_number_and_one_unit() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for junk in [
            "",
            "15",
            "m",
            "0s",
            "1.5h",
            "15 m",
            "-1h",
            "99999999999999999999d",
            "400d",
            "5µ",
        ] {
            assert!(duration(junk).is_err(), "{junk}");
        }
    }
}
