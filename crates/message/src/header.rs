//! Reads the header of a message as it is: fields as byte ranges, authors, what is missing. Never
//! fails, whatever the bytes; what a field means to policy is left to others.

use relay_smtp::{Domain, Mailbox};

/// One header field, borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// With its continuation lines and its line end.
    pub raw: &'a [u8],
    /// Before the colon, without spaces at its end.
    pub name: &'a [u8],
    /// Behind the colon, with folds, without the last line end.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Field names are compared without regard to case (RFC 5322 section 1.2.2).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value in one line: line ends removed (RFC 5322 section 2.2.3), spaces at its ends too.
    /// Octets that are no UTF-8 become U+FFFD.
    pub fn unfolded(&self) -> String {
        let text = String::from_utf8_lossy(self.value);
        let line: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        line.trim().to_owned()
    }
}

/// Where the header ends, and why there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEnd {
    /// Octets before the empty line, or before the first line that is no field.
    pub fields: usize,
    /// Where the body begins: behind the empty line, if there is one.
    pub body: usize,
    pub by: EndedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    EmptyLine,
    /// A line that is neither a field nor the continuation of one: it belongs to the body.
    OtherLine,
    /// A header without a body.
    EndOfMessage,
}

/// The fields in order, from the top.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = self.message.get(self.at..)?;
        let mut end = line_length(rest);
        let first = rest.get(..end)?;
        let colon = name_length(first)?;
        // A line that begins with a space or tab continues the field (RFC 5322 section 2.2.3).
        while let Some(b' ' | b'\t') = rest.get(end) {
            end += line_length(rest.get(end..)?);
        }
        let raw = rest.get(..end)?;
        self.at += end;
        let value = raw.get(colon + 1..)?;
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        Some(Field {
            raw,
            name: raw.get(..colon)?.trim_ascii_end(),
            value: value.strip_suffix(b"\r").unwrap_or(value),
        })
    }
}

/// Octets of the first line with its line end.
fn line_length(text: &[u8]) -> usize {
    memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1)
}

/// Where the colon stands, if the line begins a field: a name of printable ASCII (RFC 5322
/// section 2.2), then perhaps spaces (section 4.5), then the colon.
fn name_length(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(colon)
}

/// Where the header ends.
pub fn end(message: &[u8]) -> HeaderEnd {
    let mut walk = fields(message);
    while walk.next().is_some() {}
    let fields = walk.at;
    let rest = message.get(fields..).unwrap_or_default();
    let (by, empty_line) = match rest {
        [] => (EndedBy::EndOfMessage, 0),
        [b'\r', b'\n', ..] => (EndedBy::EmptyLine, 2),
        [b'\n', ..] => (EndedBy::EmptyLine, 1),
        [..] => (EndedBy::OtherLine, 0),
    };
    HeaderEnd {
        fields,
        body: fields + empty_line,
        by,
    }
}

/// Whether the header has this field.
pub fn has(message: &[u8], name: &str) -> bool {
    fields(message).any(|field| field.is(name))
}

/// The first field of this name, unfolded.
pub fn value(message: &[u8], name: &str) -> Option<String> {
    fields(message)
        .find(|field| field.is(name))
        .map(|field| field.unfolded())
}

/// How many hosts the message has passed: 100 or more is a loop (RFC 5321 section 6.3).
pub fn received_count(message: &[u8]) -> usize {
    fields(message).filter(|field| field.is("Received")).count()
}

/// One author in a From field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    Mailbox(Mailbox),
    /// Text in a place where an address should be.
    Unreadable(String),
}

/// The authors of all From fields, in order.
pub fn authors(message: &[u8]) -> Vec<Author> {
    fields(message)
        .filter(|field| field.is("From"))
        .flat_map(|field| addresses(&field.unfolded()))
        .collect()
}

/// The domains of the authors, each once, in order: whose DKIM key may sign.
pub fn author_domains(message: &[u8]) -> Vec<Domain> {
    let _ = message;
    todo!()
}

fn addresses(list: &str) -> Vec<Author> {
    let _ = list;
    todo!()
}
