//! Enhanced status codes (RFC 3463): `class.subject.detail`. What a code leads to is decided in
//! `policy`, not here.

use std::fmt;
use std::str::FromStr;

/// The first digit of an enhanced status code (RFC 3463 section 3.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum StatusClass {
    Success,
    Transient,
    Permanent,
}

impl StatusClass {
    /// 2, 4 or 5.
    pub fn digit(self) -> u8 {
        match self {
            StatusClass::Success => 2,
            StatusClass::Transient => 4,
            StatusClass::Permanent => 5,
        }
    }
}

/// An enhanced status code such as 5.1.1. Subject and detail have one to three digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct EnhancedStatus {
    pub class: StatusClass,
    pub subject: u16,
    pub detail: u16,
}

impl EnhancedStatus {
    pub const fn new(class: StatusClass, subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus {
            class,
            subject,
            detail,
        }
    }
    pub const fn success(subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus::new(StatusClass::Success, subject, detail)
    }
    pub const fn transient(subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus::new(StatusClass::Transient, subject, detail)
    }
    pub const fn permanent(subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus::new(StatusClass::Permanent, subject, detail)
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not an enhanced status code.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code: write class.subject.detail, such as 5.1.1")]
pub struct NotAStatus;

impl FromStr for EnhancedStatus {
    type Err = NotAStatus;

    fn from_str(text: &str) -> Result<EnhancedStatus, NotAStatus> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => StatusClass::Success,
            Some("4") => StatusClass::Transient,
            Some("5") => StatusClass::Permanent,
            Some(_) | None => return Err(NotAStatus),
        };
        let mut number = || -> Result<u16, NotAStatus> {
            let part = parts.next().ok_or(NotAStatus)?;
            let digits = part.len();
            if !(1..=3).contains(&digits) || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotAStatus);
            }
            part.parse().map_err(|_| NotAStatus)
        };
        let (subject, detail) = (number()?, number()?);
        match parts.next() {
            None => Ok(EnhancedStatus {
                class,
                subject,
                detail,
            }),
            Some(_) => Err(NotAStatus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digit_details_are_kept_and_junk_is_refused() {
        assert_eq!("5.7.509".parse(), Ok(EnhancedStatus::permanent(7, 509)));
        assert_eq!(EnhancedStatus::transient(7, 0).to_string(), "4.7.0");
        for junk in ["", "3.1.1", "5.1", "5.1.1.1", "5..1", "5.1.1000", "5.1.+1"] {
            assert_eq!(junk.parse::<EnhancedStatus>(), Err(NotAStatus), "{junk}");
        }
    }
}
