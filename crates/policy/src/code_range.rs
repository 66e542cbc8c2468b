//! The codes that an operator asks about: one, or all of a range, basic or enhanced.

use std::ops::RangeInclusive;

use relay_smtp::{EnhancedStatus, StatusClass};

use crate::decide::Rule;
use crate::meaning;
use crate::table::Table;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeRange {
    /// `451`, `5xx`, `55`, `450-455`.
    Basic(RangeInclusive<u16>),
    Enhanced(EnhancedRange),
}

/// `5.7.26`, `x.7.26`, `5.7`, `x.7.x`, `4.x.x`, `5.7.6xx`, `4.7.500-4.7.699`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnhancedRange {
    pub classes: Vec<StatusClass>,
    /// None: all.
    pub subject: Option<u16>,
    pub details: RangeInclusive<u16>,
}

const ALL_DETAILS: RangeInclusive<u16> = 0..=999;

impl CodeRange {
    /// None: it is no code.
    pub fn parse(text: &str) -> Option<CodeRange> {
        let text = text.trim().to_ascii_lowercase();
        let (from, to) = match text.split_once('-') {
            Some((from, to)) => (from.trim(), Some(to.trim())),
            None => (text.as_str(), None),
        };
        if from.contains('.') {
            return EnhancedRange::parse(from, to).map(CodeRange::Enhanced);
        }
        let codes = match to {
            Some(to) => *digits(from, 3)?.start()..=*digits(to, 3)?.end(),
            None => digits(from, 3)?,
        };
        let known = *codes.start() >= 100 && *codes.end() < 600 && !codes.is_empty();
        known.then_some(CodeRange::Basic(codes))
    }

    /// The rules that name one of these codes, and not just all of its class or subject; in their order.
    pub fn named_by<'t>(&self, table: &'t Table) -> Vec<&'t Rule> {
        let names = |rule: &&crate::table::CompiledRule| match self {
            CodeRange::Basic(codes) => codes.clone().any(|code| {
                let class = (code / 100) * 100;
                rule.takes_code(code) && !(class..class + 100).all(|other| rule.takes_code(other))
            }),
            CodeRange::Enhanced(codes) => rule
                .enhanced()
                .iter()
                .any(|pattern| pattern.names_one_of(codes)),
        };
        let rules = table.compiled().iter().filter(names);
        rules.map(|rule| rule.rule.as_ref()).collect()
    }

    /// Those of them that are in use, as they are written, with what each means.
    pub fn in_use(&self) -> Vec<(String, &'static str)> {
        match self {
            CodeRange::Basic(codes) => meaning::basic()
                .filter(|(code, _)| codes.contains(code))
                .map(|(code, means)| (code.to_string(), means))
                .collect(),
            CodeRange::Enhanced(codes) => meaning::enhanced()
                .filter(|(subject, detail, _)| {
                    codes.subject.is_none_or(|asked| asked == *subject)
                        && codes.details.contains(detail)
                })
                .map(|(subject, detail, means)| {
                    (format!("{}.{subject}.{detail}", codes.class_word()), means)
                })
                .collect(),
        }
    }
}

impl EnhancedRange {
    fn parse(from: &str, to: Option<&str>) -> Option<EnhancedRange> {
        let parts: Vec<&str> = from.split('.').collect();
        let (class, subject, detail) = match parts[..] {
            [class, subject] => (class, subject, "x"),
            [class, subject, detail] => (class, subject, detail),
            _ => return None,
        };
        let all_classes = is_open(class);
        let classes = if all_classes {
            vec![StatusClass::Transient, StatusClass::Permanent]
        } else {
            vec![class_of(class)?]
        };
        let subject = if is_open(subject) {
            None
        } else {
            Some(subject.parse().ok().filter(|subject| *subject < 1000)?)
        };
        let from = digits(detail, 0)?;
        let details = match to {
            // `4.7.500-4.7.699` or `4.7.500-699`.
            Some(to) => {
                let same = parts.get(..2)?.join(".");
                let rest = to.strip_prefix(&format!("{same}."));
                *from.start()..=*digits(rest.unwrap_or(to), 0)?.end()
            }
            None => from,
        };
        let says_something = !(all_classes && subject.is_none());
        let fits = subject.is_some() || details == ALL_DETAILS;
        (says_something && fits && !details.is_empty()).then_some(EnhancedRange {
            classes,
            subject,
            details,
        })
    }

    /// The codes where it is but one, in each class.
    pub fn single(&self) -> Vec<EnhancedStatus> {
        match self.subject {
            Some(subject) if self.details.start() == self.details.end() => {
                let codes = self.classes.iter();
                codes
                    .map(|class| EnhancedStatus::new(*class, subject, *self.details.start()))
                    .collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn class_word(&self) -> String {
        match self.classes[..] {
            [class] => class.digit().to_string(),
            _ => "x".to_owned(),
        }
    }
}

fn class_of(text: &str) -> Option<StatusClass> {
    match text {
        "2" => Some(StatusClass::Success),
        "4" => Some(StatusClass::Transient),
        "5" => Some(StatusClass::Permanent),
        _ => None,
    }
}

fn is_open(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte == b'x')
}

/// The numbers that these digits begin, filled up to `length` with open ones; `x` is an open one. All x: any.
fn digits(text: &str, length: usize) -> Option<RangeInclusive<u16>> {
    if is_open(text) {
        return Some(ALL_DETAILS);
    }
    let known = text.trim_end_matches('x');
    let well_formed =
        text.len() <= 3 && !known.is_empty() && known.bytes().all(|b| b.is_ascii_digit());
    if !well_formed {
        return None;
    }
    let filled = |with: char| -> Option<u16> {
        let open = length.max(text.len()) - known.len();
        let text: String = known
            .chars()
            .chain(std::iter::repeat_n(with, open))
            .collect();
        text.parse().ok()
    };
    Some(filled('0')?..=filled('9')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_operators_write_them() {
        for (text, first, count) in [
            ("451", "451", 1),
            ("101", "101", 1),
            ("5xx", "500", 33),
            ("5", "500", 33),
            ("55", "550", 7),
            ("45x", "450", 8),
            ("450-452", "450", 3),
            ("42-43", "420", 5),
            ("5.7.26", "5.7.26", 1),
            ("X.7.26", "x.7.26", 1),
            ("5.7", "5.7.0", 44),
            ("x.7.XXX", "x.7.0", 44),
            ("4.7.500-4.7.699", "4.7.500", 5),
            ("4.7.500-699", "4.7.500", 5),
            ("5.7.6xx", "5.7.606", 2),
            ("4.XXX.XXX", "4.0.0", 104),
        ] {
            let range = CodeRange::parse(text).unwrap_or_else(|| panic!("{text}"));
            let known = range.in_use();
            assert_eq!((known[0].0.as_str(), known.len()), (first, count), "{text}");
        }
        for junk in [
            "",
            "9",
            "x",
            "600",
            "é",
            "3.x.x",
            "x.x.x",
            "x.x",
            "x.x.1",
            "5.7.1.1",
            "451-421",
            "5.",
            "5.7.x1",
            "5.7.9-1",
            "5.7.1-4.7.2",
            "5x5",
            "xx",
            "99",
            "5.1000.1",
            "1-2-3",
        ] {
            assert_eq!(CodeRange::parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn a_range_is_named_by_the_rules_of_each_code_in_it() {
        let table = Table::default_table();
        let names = |code: &str| -> Vec<String> {
            let rules = CodeRange::parse(code).unwrap().named_by(&table);
            rules.iter().map(|rule| rule.name.clone()).collect()
        };
        let named = |code: &str, rule: &str| names(code).iter().any(|name| name == rule);
        assert!(named("5.7.26", "enhanced-authentication"));
        assert!(named("5.7", "enhanced-authentication"));
        assert!(named("5.7.20-5.7.29", "enhanced-authentication"));
        assert!(!named("5.7.5", "enhanced-authentication"));
        assert!(!named("4.1", "enhanced-authentication"));
        assert!(named("441", "code-not-responding"));
        assert!(named("44", "code-not-responding"));
        assert!(!named("45x", "code-not-responding"));
        assert_eq!(names("5.9.99"), Vec::<String>::new());
    }
}
