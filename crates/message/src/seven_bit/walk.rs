//! Walks through the parts of a message (RFC 2046 section 5.1) while it is read, whatever is wrong with it.
//! What cannot be understood as a multipart is one opaque part: it comes through octet for octet.

use crate::header::{self, Field};

/// What is found, in order.
pub(super) trait Sink {
    /// A header has ended: of the message, of a part, or of a message within it.
    fn entity(&mut self, entity: &Entity<'_>);
    /// Of the last entity, if that is a leaf.
    fn content(&mut self, bytes: &[u8]);
    /// Boundaries, and what stands outside of parts.
    fn between(&mut self, bytes: &[u8]);
}

pub(super) struct Entity<'a> {
    pub header: &'a [u8],
    /// The empty line behind it; empty where there is none.
    pub empty_line: &'a [u8],
    pub kind: Kind,
    /// Content-Transfer-Encoding is 8bit or binary.
    pub says_8bit: bool,
    /// 0: the message itself.
    pub depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Multipart,
    /// Another message with a header of its own.
    Message,
    /// Leaves, and how they may be encoded.
    Text,
    Data,
    Opaque,
    Signed,
}

/// Parts within parts. What lies deeper is opaque.
const DEPTH_MAX: usize = 50;
/// A line is looked at in parts of so many octets: a boundary has at most 70 (RFC 2046 section 5.1.1).
const LINE_PART_MAX: usize = 8 << 10;
/// The header of a part. What is longer is opaque.
const HEADER_MAX: usize = 2 << 20;

#[derive(Default)]
pub(super) struct Walker {
    /// A line that has not ended.
    line: Vec<u8>,
    begins: Begins,
    at: At,
    header: Vec<u8>,
    /// Multiparts that have not ended, outermost first.
    open: Vec<Open>,
    /// Entities around the present one.
    depth: usize,
}

struct Open {
    /// With its two hyphens.
    boundary: Vec<u8>,
    depth: usize,
    signed: bool,
}

/// Where in its line the next part of a line lies.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Begins {
    #[default]
    Line,
    Middle,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Header,
    Leaf,
    Between,
}

impl Walker {
    pub fn feed(&mut self, piece: &[u8], sink: &mut impl Sink) {
        let mut rest = piece;
        while !rest.is_empty() {
            let room = LINE_PART_MAX.saturating_sub(self.line.len()).max(1);
            let window = rest.get(..room).unwrap_or(rest);
            let end = memchr::memchr(b'\n', window);
            let used = end.map_or(window.len(), |at| at + 1);
            self.line
                .extend_from_slice(rest.get(..used).unwrap_or_default());
            rest = rest.get(used..).unwrap_or_default();
            if end.is_some() || self.line.len() >= LINE_PART_MAX {
                let mut line = std::mem::take(&mut self.line);
                self.line_part(&line, sink);
                self.begins = match end {
                    Some(_) => Begins::Line,
                    None => Begins::Middle,
                };
                line.clear();
                self.line = line;
            }
        }
    }

    /// What has no line end, or no body.
    pub fn end(&mut self, sink: &mut impl Sink) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line_part(&line, sink);
        }
        if self.at == At::Header {
            self.end_header(b"", sink);
        }
    }

    fn line_part(&mut self, line: &[u8], sink: &mut impl Sink) {
        if self.begins == Begins::Line
            && let Some((place, last)) = self.boundary(line)
        {
            return self.pass(place, last, line, sink);
        }
        match self.at {
            At::Leaf => sink.content(line),
            At::Between => sink.between(line),
            At::Header => self.header_line(line, sink),
        }
    }

    fn header_line(&mut self, line: &[u8], sink: &mut impl Sink) {
        if self.begins == Begins::Middle && self.header.len() < HEADER_MAX {
            return self.header.extend_from_slice(line);
        }
        let continues = matches!(line, [b' ' | b'\t', ..]) && !self.header.is_empty();
        if matches!(line, b"\r\n" | b"\n") {
            self.end_header(line, sink);
        } else if (continues || header::fields(line).next().is_some())
            && self.header.len() < HEADER_MAX
        {
            self.header.extend_from_slice(line);
        } else {
            // No field: the body has begun without an empty line.
            self.end_header(b"", sink);
            self.line_part(line, sink);
        }
    }

    /// Which open multipart this line is a boundary of, and whether it is its last one. An outer boundary
    /// ends the multiparts within it, wherever these stand (RFC 2046 section 5.1.2).
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        if !line.starts_with(b"--") {
            return None;
        }
        let line = line.trim_ascii_end();
        self.open
            .iter()
            .enumerate()
            .rev()
            .find_map(|(place, open)| {
                let rest = line.strip_prefix(&open.boundary[..])?;
                match rest {
                    b"" => Some((place, false)),
                    b"--" => Some((place, true)),
                    _ => None,
                }
            })
    }

    fn pass(&mut self, place: usize, last: bool, line: &[u8], sink: &mut impl Sink) {
        if self.at == At::Header {
            self.end_header(b"", sink);
        }
        sink.between(line);
        self.open.truncate(if last { place } else { place + 1 });
        self.at = match (last, self.open.get(place)) {
            (false, Some(open)) => {
                self.depth = open.depth + 1;
                At::Header
            }
            (true, _) | (false, None) => At::Between,
        };
    }

    fn end_header(&mut self, empty_line: &[u8], sink: &mut impl Sink) {
        let header = std::mem::take(&mut self.header);
        let described = Described::of(&header);
        let signed = self.open.last().is_some_and(|open| open.signed);
        let deep = self.depth >= DEPTH_MAX || header.len() >= HEADER_MAX;
        let kind = match described.kind {
            Kind::Multipart | Kind::Message if deep => Kind::Opaque,
            Kind::Text | Kind::Data if signed => Kind::Signed,
            kind => kind,
        };
        sink.entity(&Entity {
            header: &header,
            empty_line,
            kind,
            says_8bit: described.says_8bit,
            depth: self.depth,
        });
        self.at = match kind {
            Kind::Multipart => {
                self.open.push(Open {
                    boundary: described.boundary,
                    depth: self.depth,
                    signed: signed || described.signed,
                });
                At::Between
            }
            Kind::Message => {
                self.depth += 1;
                At::Header
            }
            Kind::Text | Kind::Data | Kind::Opaque | Kind::Signed => At::Leaf,
        };
    }
}

/// What a header says of what follows it.
struct Described {
    kind: Kind,
    boundary: Vec<u8>,
    signed: bool,
    says_8bit: bool,
}

impl Described {
    fn of(head: &[u8]) -> Described {
        let values = |name: &str| -> Vec<String> {
            let fields = header::fields(head).filter(|field| field.is(name));
            fields.map(|field: Field<'_>| field.unfolded()).collect()
        };
        let encodings: Vec<String> = values("Content-Transfer-Encoding")
            .iter()
            .map(|value| value.to_ascii_lowercase())
            .collect();
        let says_8bit = encodings
            .iter()
            .any(|encoding| encoding == "8bit" || encoding == "binary");
        let plain =
            |encoding: &String| matches!(encoding.as_str(), "" | "7bit" | "8bit" | "binary");
        let types = values("Content-Type");
        let mut described = Described {
            kind: Kind::Opaque,
            boundary: Vec::new(),
            signed: false,
            says_8bit,
        };
        // Two readers could take two different types out of it, or two encodings.
        if types.len() > 1 || encodings.len() > 1 || !encodings.iter().all(plain) {
            return described;
        }
        let text = types.first().map_or("text/plain", String::as_str);
        let (main, sub) = media_type(text);
        described.kind = match (main.as_str(), sub.as_str()) {
            ("multipart", _) => match parameter(text, "boundary") {
                Some(boundary) => {
                    described.boundary = format!("--{boundary}").into_bytes();
                    described.signed = sub == "signed";
                    Kind::Multipart
                }
                None => Kind::Opaque,
            },
            ("message", "rfc822" | "global") => Kind::Message,
            // Parts of messages, and what only refers to one, are 7-bit by definition (RFC 2046 section 5.2.2).
            // Those of RFC 6533 are not (section 4), and what is meant to be read in them is text.
            ("message", sub) if sub.starts_with("global-") => Kind::Text,
            ("message", _) => Kind::Opaque,
            ("text", _) | ("", _) => Kind::Text,
            _ => Kind::Data,
        };
        described
    }
}

/// `text/plain; ..` in lower case.
fn media_type(value: &str) -> (String, String) {
    let word = value
        .split([';', ' ', '\t', '('])
        .next()
        .unwrap_or_default();
    let (main, sub) = word.split_once('/').unwrap_or_default();
    (main.to_ascii_lowercase(), sub.to_ascii_lowercase())
}

/// A parameter's value, quoted or not (RFC 2045 section 5.1).
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (found, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
                (after.get(..end)?.to_owned(), after.get(end..)?)
            }
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return (!text.is_empty()).then_some(text);
        }
        rest = after.split_once(';')?.1;
    }
}

/// What stands before the closing quote, and what behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((inside, text.get(at + 1..)?)),
            '\\' => inside.push(chars.next()?.1),
            c => inside.push(c),
        }
    }
    None
}
