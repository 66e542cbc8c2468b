//! A reply: a basic code and its lines (RFC 5321 section 4.2), as the other side wrote it.
//! Where the enhanced code stands in a strange text is `policy`'s business.

use std::fmt;

use crate::status::EnhancedStatus;

/// One whole reply, multi-line ones joined in `lines`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Reply {
    /// The basic code, 200 to 599; of a multi-line reply with differing codes, the last line's.
    pub code: u16,
    /// The enhanced code at the start of the first line that has one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text of each line, without basic code and without the enhanced code; lossily decoded
    /// from UTF-8, control characters replaced. Never empty: a reply without text has one "" line.
    pub lines: Vec<String>,
}

/// What the first digit says (RFC 5321 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz
    Positive,
    /// 3yz
    Intermediate,
    /// 4yz
    Transient,
    /// 5yz
    Permanent,
}

impl Reply {
    /// A one-line reply.
    pub fn new(code: u16, enhanced: Option<EnhancedStatus>, text: impl Into<String>) -> Reply {
        Reply {
            code,
            enhanced,
            lines: vec![text.into()],
        }
    }

    /// The class of the basic code. Codes outside 200..=599 do not get past the parser.
    pub fn class(&self) -> ReplyClass {
        match self.code {
            0..=299 => ReplyClass::Positive,
            300..=399 => ReplyClass::Intermediate,
            400..=499 => ReplyClass::Transient,
            500..=u16::MAX => ReplyClass::Permanent,
        }
    }

    /// The text of all lines, joined with a space.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// As it would be shown in a log line: code, enhanced code, joined text.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        let text = self.text();
        if !text.is_empty() {
            write!(f, " {text}")?;
        }
        Ok(())
    }
}
