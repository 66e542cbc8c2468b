//! Cutting bytes into lines: CRLF only, bounded, in any chunks. What a line means is left to
//! `command` and `reply`.

/// Unread bytes and where the next line begins. An iterator that may yield again after `None`:
/// `None` means that more bytes are needed.
///
/// Memory: what was pushed and not yet taken, so a caller that takes all lines after each push
/// holds one chunk and one line of at most `max` octets.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the unread bytes begin.
    start: usize,
    /// How many unread bytes are known to have no CR and no LF.
    scanned: usize,
    max: usize,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Line,
    /// The error has been told; all up to the next CRLF is dropped.
    Skipping,
}

/// A line that is none. It is told as soon as it is seen, once; the rest up to the next CRLF is
/// dropped, so that half a line never becomes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A CR or an LF that is not part of a CRLF (RFC 5321 section 2.3.8).
    #[error("line ends must be CRLF, both together")]
    BareLineEnd,
    #[error("the line is too long")]
    TooLong,
}

impl Lines {
    /// `max`: the longest line in octets with its CRLF. RFC 5321 section 4.5.3.1: 512 for commands
    /// and replies, more where extensions add parameters.
    pub fn new(max: usize) -> Lines {
        Lines {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            max,
            reading: Reading::Line,
        }
    }

    /// Adds bytes as they came from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What was pushed and not taken: the start of the body after DATA, or what was pipelined
    /// after STARTTLS and must be dropped (RFC 3207 section 4.2).
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        rest.drain(..self.start);
        self.start = 0;
        self.scanned = 0;
        self.reading = Reading::Line;
        rest
    }

    /// Whether bytes wait that no line was made of yet.
    pub fn has_unread(&self) -> bool {
        self.start < self.buffer.len()
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn consume(&mut self, octets: usize) {
        self.start += octets;
        self.scanned = 0;
    }

    /// Drops up to and with the next CRLF. None: it has not come yet.
    fn skip(&mut self) -> Option<()> {
        match memchr::memmem::find(self.unread(), b"\r\n") {
            Some(at) => {
                self.consume(at + 2);
                self.reading = Reading::Line;
                Some(())
            }
            None => {
                // A CR at the end may be the first half of the CRLF.
                let kept = usize::from(self.unread().last() == Some(&b'\r'));
                self.consume(self.unread().len() - kept);
                None
            }
        }
    }
}

/// Lines without their CRLF.
impl Iterator for Lines {
    type Item = Result<Vec<u8>, LineError>;

    fn next(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        if self.reading == Reading::Skipping {
            self.skip()?;
        }
        let unread = self.unread();
        let window = unread.get(..self.max).unwrap_or(unread);
        let found = memchr::memchr2(b'\r', b'\n', window.get(self.scanned..).unwrap_or_default());
        let error = match found.map(|at| self.scanned + at) {
            None if window.len() < self.max => {
                self.scanned = window.len();
                return None;
            }
            None => LineError::TooLong,
            Some(at) if window.get(at) == Some(&b'\n') => LineError::BareLineEnd,
            Some(at) if at + 1 >= self.max => LineError::TooLong,
            Some(at) => match window.get(at + 1) {
                None => {
                    self.scanned = at;
                    return None;
                }
                Some(b'\n') => {
                    let line = window.get(..at).unwrap_or_default().to_vec();
                    self.consume(at + 2);
                    return Some(Ok(line));
                }
                Some(_) => LineError::BareLineEnd,
            },
        };
        self.reading = Reading::Skipping;
        Some(Err(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(max: usize, chunks: &[&[u8]]) -> Vec<Result<String, LineError>> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            for line in lines.by_ref() {
                found.push(line.map(|line| String::from_utf8_lossy(&line).into_owned()));
            }
        }
        found
    }

    #[test]
    fn only_crlf_ends_a_line_and_half_a_line_waits() {
        let line = |text: &str| Ok(text.to_owned());
        for (input, wanted) in [
            ("", vec![]),
            ("\r\n", vec![line("")]),
            ("NOOP\r\nQU", vec![line("NOOP")]),
            ("NOOP\r", vec![]),
            (
                "a\nb\r\nc\r\n",
                vec![Err(LineError::BareLineEnd), line("c")],
            ),
            (
                "a\rb\r\nc\r\n",
                vec![Err(LineError::BareLineEnd), line("c")],
            ),
            ("\r\r\nc\r\n", vec![Err(LineError::BareLineEnd), line("c")]),
            ("a\nb\nc\n", vec![Err(LineError::BareLineEnd)]),
            (
                "1234567890\r\nc\r\n",
                vec![Err(LineError::TooLong), line("c")],
            ),
            ("12345678\r\nc\r\n", vec![line("12345678"), line("c")]),
            (
                "123456789\r\nc\r\n",
                vec![Err(LineError::TooLong), line("c")],
            ),
        ] {
            assert_eq!(cut(10, &[input.as_bytes()]), wanted, "{input:?}");
        }
    }

    #[test]
    fn an_endless_line_is_told_once_and_takes_no_memory() {
        let mut lines = Lines::new(512);
        let mut told = 0;
        for _ in 0..1000 {
            lines.push(&[b'x'; 4096]);
            told += lines.by_ref().count();
        }
        assert_eq!(told, 1);
        assert!(lines.buffer.capacity() <= 16 * 1024);
        lines.push(b"\r\nNOOP\r\n");
        assert_eq!(lines.next(), Some(Ok(b"NOOP".to_vec())));
    }

    #[test]
    fn the_rest_is_what_no_line_was_made_of() {
        let mut lines = Lines::new(512);
        lines.push(b"DATA\r\nSubject: x\r\n\r\n.\r\n");
        assert_eq!(lines.next(), Some(Ok(b"DATA".to_vec())));
        assert!(lines.has_unread());
        assert_eq!(lines.take_rest(), b"Subject: x\r\n\r\n.\r\n");
        assert!(!lines.has_unread());
        assert_eq!(lines.next(), None);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            input in "([a-c]{0,6}|\r\n|\r\n|\r|\n){0,20}",
            size in 1usize..7,
        ) {
            let chunks: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
            prop_assert_eq!(cut(12, &chunks), cut(12, &[input.as_bytes()]));
        }
    }
}
