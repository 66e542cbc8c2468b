//! A reply: a basic code and its lines (RFC 5321 section 4.2), as the other side wrote it, and the
//! parser that reads replies from bytes in any split. Where the enhanced code stands in a strange
//! text is `policy`'s business.

use std::fmt;

use crate::status::EnhancedStatus;

/// One whole reply, multi-line ones joined in `lines`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Reply {
    /// The basic code, 200 to 599; of a multi-line reply with differing codes, the last line's.
    pub code: u16,
    /// The enhanced code at the start of the first line that has one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text of each line, without basic code and without the enhanced code at its start (a
    /// line that starts with another one than `enhanced` keeps it); lossily decoded from UTF-8,
    /// control characters replaced. Never empty: a reply without text has one "" line.
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

/// Reads replies, incrementally and within bounds: a peer may write anything.
///
/// Push what came from the wire, then call [`ReplyParser::take`] until it has no more; then at most
/// one unfinished line is held.
#[derive(Debug, Default)]
pub struct ReplyParser {
    unread: Vec<u8>,
    /// How much of `unread` has been taken.
    read: usize,
    /// The line being read, up to `LINE_BYTES_KEPT`.
    line: Vec<u8>,
    lines: Vec<String>,
    enhanced: Option<EnhancedStatus>,
    /// Bytes of text in `lines`.
    text_bytes: usize,
    /// Bytes of this reply so far, with those that were not kept.
    bytes: usize,
}

/// What the peer wrote is no reply. The session cannot go on: nobody knows which command the next
/// line would answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// The line, shortened.
    #[error("not an SMTP reply: {0:?}")]
    Garbage(String),
    #[error("a reply of more than {} bytes", REPLY_BYTES_MAX)]
    Endless,
}

/// RFC 5321 section 4.5.3.1.5 allows 512; longer ones are common and harmless.
const LINE_BYTES_KEPT: usize = 4096;
const LINES_KEPT: usize = 100;
const TEXT_BYTES_KEPT: usize = 64 * 1024;
const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// What of a line that is no reply is shown.
const GARBAGE_BYTES_SHOWN: usize = 80;

impl ReplyParser {
    pub fn new() -> ReplyParser {
        ReplyParser::default()
    }

    /// Adds what came from the wire.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.unread.drain(..self.read);
            self.read = 0;
        }
        self.unread.extend_from_slice(bytes);
    }

    /// The next whole reply; None: more bytes are needed.
    pub fn take(&mut self) -> Option<Result<Reply, BadReply>> {
        loop {
            let unread = self.unread.get(self.read..).unwrap_or_default();
            let end = memchr::memchr(b'\n', unread);
            let part = unread
                .get(..end.unwrap_or(unread.len()))
                .unwrap_or_default();
            let room = LINE_BYTES_KEPT.saturating_sub(self.line.len());
            self.line
                .extend_from_slice(part.get(..room).unwrap_or(part));
            let used = part.len() + usize::from(end.is_some());
            self.read += used;
            self.bytes += used;
            if self.bytes > REPLY_BYTES_MAX {
                return Some(Err(BadReply::Endless));
            }
            end?;
            let line = std::mem::take(&mut self.line);
            match self.add_line(&line) {
                Ok(Ends::No) => {}
                Ok(Ends::With(code)) => return Some(Ok(self.finish(code))),
                Err(bad) => return Some(Err(bad)),
            }
        }
    }

    /// Whether something has come that no taken reply used.
    pub fn has_unread(&self) -> bool {
        self.read < self.unread.len() || !self.line.is_empty() || !self.lines.is_empty()
    }

    /// Line ends are CRLF; a bare LF is tolerated here, where nothing can be smuggled by it.
    fn add_line(&mut self, line: &[u8]) -> Result<Ends, BadReply> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, ends, text) = split_line(line).ok_or_else(|| {
            let shown = line.get(..GARBAGE_BYTES_SHOWN).unwrap_or(line);
            BadReply::Garbage(readable(shown))
        })?;
        if self.lines.len() < LINES_KEPT && self.text_bytes + text.len() <= TEXT_BYTES_KEPT {
            let text = self.without_enhanced(readable(text));
            self.text_bytes += text.len();
            self.lines.push(text);
        }
        Ok(match ends {
            LineKind::Middle => Ends::No,
            // Of differing codes the last line's counts: it is the one that servers that stop at
            // "250 " have always acted on.
            LineKind::Last => Ends::With(code),
        })
    }

    /// Takes the enhanced code off the start of a line (RFC 2034 section 3 puts it on each).
    fn without_enhanced(&mut self, text: String) -> String {
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let Ok(status) = word.parse::<EnhancedStatus>() else {
            return text;
        };
        match self.enhanced {
            None => self.enhanced = Some(status),
            Some(first) if first == status => {}
            // Another code is another fact: it stays readable.
            Some(_) => return text,
        }
        rest.trim_start().to_owned()
    }

    fn finish(&mut self, code: u16) -> Reply {
        self.bytes = 0;
        self.text_bytes = 0;
        Reply {
            code,
            enhanced: self.enhanced.take(),
            lines: std::mem::take(&mut self.lines),
        }
    }
}

enum Ends {
    No,
    With(u16),
}

enum LineKind {
    Middle,
    Last,
}

/// Code, kind and text of a line (RFC 5321 section 4.2: `Reply-code [ SP textstring ]`).
fn split_line(line: &[u8]) -> Option<(u16, LineKind, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let mut code = 0u16;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        code = code * 10 + u16::from(digit - b'0');
    }
    if !(200..=599).contains(&code) {
        return None;
    }
    match rest.split_first() {
        None => Some((code, LineKind::Last, rest)),
        Some((b' ' | b'\t', text)) => Some((code, LineKind::Last, text)),
        Some((b'-', text)) => Some((code, LineKind::Middle, text)),
        Some(_) => None,
    }
}

/// Text that can stand in a log line and in a DSN.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything in one piece and in single bytes; both must agree.
    fn read(bytes: &[u8]) -> Vec<Result<Reply, BadReply>> {
        let collect = |chunk: usize| {
            let mut parser = ReplyParser::new();
            let mut replies = Vec::new();
            for part in bytes.chunks(chunk) {
                parser.push(part);
                while let Some(reply) = parser.take() {
                    let stop = reply.is_err();
                    replies.push(reply);
                    if stop {
                        return replies;
                    }
                }
            }
            replies
        };
        let whole = collect(bytes.len().max(1));
        for chunk in [1, 2, 3, 7] {
            assert_eq!(whole, collect(chunk), "in chunks of {chunk}");
        }
        whole
    }

    fn one(text: &str) -> Reply {
        let mut replies = read(text.as_bytes());
        assert_eq!(replies.len(), 1, "{text:?}: {replies:?}");
        replies.remove(0).unwrap()
    }

    fn lines(reply: &Reply) -> Vec<&str> {
        reply.lines.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_line_is_split_into_code_enhanced_code_and_text() {
        let reply = one("550 5.1.1 no such user\r\n");
        assert_eq!(reply.code, 550);
        assert_eq!(reply.enhanced, Some(EnhancedStatus::permanent(1, 1)));
        assert_eq!(lines(&reply), ["no such user"]);
        assert_eq!(reply.to_string(), "550 5.1.1 no such user");
    }

    #[test]
    fn lines_without_text_and_bare_line_feeds_are_read() {
        assert_eq!(lines(&one("250\r\n")), [""]);
        assert_eq!(lines(&one("250 \r\n")), [""]);
        assert_eq!(lines(&one("250-a\n250 b\n")), ["a", "b"]);
        assert_eq!(lines(&one("250 2.0.0\r\n")), [""]);
    }

    #[test]
    fn of_differing_codes_the_last_lines_counts() {
        let reply = one("451-4.7.1 wait\r\n550 5.7.1 go away\r\n");
        assert_eq!(reply.code, 550);
        assert_eq!(reply.enhanced, Some(EnhancedStatus::transient(7, 1)));
        assert_eq!(lines(&reply), ["wait", "5.7.1 go away"]);
    }

    #[test]
    fn the_enhanced_code_is_taken_off_each_line() {
        let reply = one("550-5.7.26 one\r\n550-5.7.26  two\r\n550 5.7.26 three\r\n");
        assert_eq!(lines(&reply), ["one", "two", "three"]);
        assert_eq!(
            lines(&one("550 192.0.2.1 is listed\r\n")),
            ["192.0.2.1 is listed"]
        );
    }

    #[test]
    fn junk_bytes_become_readable() {
        assert_eq!(
            one_bytes(b"550 caf\xe9\x07\x00 \xc3\xa9\tx\r\n").lines,
            ["caf\u{fffd}?? \u{e9} x"]
        );
    }

    fn one_bytes(bytes: &[u8]) -> Reply {
        read(bytes).remove(0).unwrap()
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for junk in [
            "hello\r\n",
            "\r\n",
            "25\r\n",
            "2500 x\r\n",
            "199 x\r\n",
            "600 x\r\n",
            "2a0 x\r\n",
        ] {
            let replies = read(junk.as_bytes());
            assert!(
                matches!(replies.as_slice(), [Err(BadReply::Garbage(_))]),
                "{junk:?}: {replies:?}"
            );
        }
    }

    #[test]
    fn long_replies_are_cut_and_endless_ones_refused() {
        let long = format!("550 {}\r\n250 next\r\n", "x".repeat(10_000));
        let replies = read(long.as_bytes());
        assert_eq!(replies.len(), 2);
        assert_eq!(
            replies[0].as_ref().unwrap().lines[0].len(),
            LINE_BYTES_KEPT - 4
        );

        let many = format!("{}250 end\r\n", "250-line\r\n".repeat(1000));
        assert_eq!(one(&many).lines.len(), LINES_KEPT);

        let endless = "250-line\r\n".repeat(200_000);
        let mut parser = ReplyParser::new();
        parser.push(endless.as_bytes());
        assert_eq!(parser.take(), Some(Err(BadReply::Endless)));
        let mut parser = ReplyParser::new();
        parser.push(&vec![b'2'; REPLY_BYTES_MAX + 1]);
        assert_eq!(parser.take(), Some(Err(BadReply::Endless)));
    }
}
