//! Reads the header of a message as it is: fields as byte ranges, authors, what is missing. Never
//! fails, whatever the bytes; what a field means to policy is left to others.

use relay_smtp::address::{Path, take_path};
use relay_smtp::{Domain, Host, Mailbox};

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

/// Where the header ends, if the start of a message tells it: whatever follows, it ends there.
pub fn end_within(start: &[u8]) -> Option<HeaderEnd> {
    let found = end(start);
    let rest = start.get(found.fields..).unwrap_or_default();
    match found.by {
        EndedBy::EmptyLine => Some(found),
        // A line without its end may still become a field.
        EndedBy::OtherLine => memchr::memchr(b'\n', rest).map(|_| found),
        EndedBy::EndOfMessage => None,
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
    let mut domains = Vec::new();
    for author in authors(message) {
        if let Author::Mailbox(mailbox) = author
            && let Host::Domain(domain) = mailbox.host()
            && !domains.contains(domain)
        {
            domains.push(domain.clone());
        }
    }
    domains
}

/// Cuts an address-list (RFC 5322 section 3.4) into its addresses. Strict where two readers could
/// take a different address out of the same text: such a text is `Unreadable`.
fn addresses(list: &str) -> Vec<Author> {
    let mut authors = Vec::new();
    let mut entry = Entry::default();
    let mut inside = Inside::Text;
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        inside = match (inside, c) {
            (Inside::Comment(1), ')') => Inside::Text,
            (Inside::Comment(depth), ')') => Inside::Comment(depth - 1),
            (Inside::Comment(depth), '(') => Inside::Comment(depth + 1),
            (Inside::Comment(_), '\\') => {
                chars.next();
                inside
            }
            (Inside::Comment(_), _) => inside,
            (Inside::Quotes, '\\') => {
                entry.push(c);
                chars.next().into_iter().for_each(|pair| entry.push(pair));
                inside
            }
            (Inside::Text, '(') => Inside::Comment(1),
            (Inside::Text, '<') => {
                entry.open();
                inside
            }
            (Inside::Text, '>') => {
                entry.close();
                inside
            }
            (Inside::Text, ',' | ';') if entry.place != Place::Angle => {
                authors.extend(std::mem::take(&mut entry).author());
                inside
            }
            // What stood before is the name of a group.
            (Inside::Text, ':') if entry.place != Place::Angle => {
                entry = Entry::default();
                inside
            }
            (_, c) => {
                entry.push(c);
                match (inside, c) {
                    (Inside::Text, '"') => Inside::Quotes,
                    (Inside::Text, '[') => Inside::Literal,
                    (Inside::Quotes, '"') | (Inside::Literal, ']') => Inside::Text,
                    (unchanged, _) => unchanged,
                }
            }
        };
    }
    if inside != Inside::Text {
        entry.place = Place::Broken;
    }
    authors.extend(entry.author());
    authors
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Text,
    Quotes,
    Literal,
    /// How deep.
    Comment(u32),
}

/// One address while it is read.
#[derive(Debug, Default)]
struct Entry {
    /// All that is not in angle brackets: a name, or the address itself.
    text: String,
    angle: String,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeAngle,
    Angle,
    AfterAngle,
    /// Brackets where none can be, or text behind them.
    Broken,
}

impl Entry {
    fn push(&mut self, c: char) {
        match self.place {
            Place::BeforeAngle | Place::Broken => self.text.push(c),
            Place::Angle => self.angle.push(c),
            Place::AfterAngle if c.is_whitespace() => {}
            Place::AfterAngle => {
                self.place = Place::Broken;
                self.text.push(c);
            }
        }
    }
    fn open(&mut self) {
        self.place = match self.place {
            Place::BeforeAngle => Place::Angle,
            Place::Angle | Place::AfterAngle | Place::Broken => Place::Broken,
        };
    }
    fn close(&mut self) {
        self.place = match self.place {
            Place::Angle => Place::AfterAngle,
            Place::BeforeAngle | Place::AfterAngle | Place::Broken => Place::Broken,
        };
    }
    /// None for the nothing between two commas.
    fn author(self) -> Option<Author> {
        let text = self.text.trim();
        let read = match self.place {
            Place::BeforeAngle if text.is_empty() => return None,
            Place::BeforeAngle => Mailbox::parse(text).ok(),
            // With an obsolete route before it, perhaps (RFC 5322 section 4.4).
            Place::AfterAngle => match take_path(&format!("<{}>", self.angle.trim())) {
                Ok((Path::Mailbox(mailbox), "")) => Some(mailbox),
                Ok(_) | Err(_) => None,
            },
            Place::Angle | Place::Broken => None,
        };
        Some(read.map_or_else(
            || Author::Unreadable(format!("{text} {}", self.angle).trim().to_owned()),
            Author::Mailbox,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &str) -> Vec<String> {
        fields(message.as_bytes())
            .map(|field| String::from_utf8_lossy(field.name).into_owned())
            .collect()
    }

    #[test]
    fn fields_end_at_the_empty_line_at_any_other_line_or_with_the_message() {
        for (message, wanted, end_wanted) in [
            ("", vec![], (0, 0, EndedBy::EndOfMessage)),
            ("\r\nbody", vec![], (0, 2, EndedBy::EmptyLine)),
            (
                "A: 1\r\n\r\nB: 2\r\n",
                vec!["A"],
                (6, 8, EndedBy::EmptyLine),
            ),
            ("A: 1\r\n", vec!["A"], (6, 6, EndedBy::EndOfMessage)),
            ("A: 1", vec!["A"], (4, 4, EndedBy::EndOfMessage)),
            (
                "A: 1\r\n 2\r\n\t3\r\nB :\r\nhello\r\n",
                vec!["A", "B"],
                (19, 19, EndedBy::OtherLine),
            ),
            (
                "hello: world is no field: no\r\n",
                vec!["hello"],
                (30, 30, EndedBy::EndOfMessage),
            ),
            ("two words: x\r\n", vec![], (0, 0, EndedBy::OtherLine)),
            (": x\r\n", vec![], (0, 0, EndedBy::OtherLine)),
            (" x\r\nA: 1\r\n", vec![], (0, 0, EndedBy::OtherLine)),
            ("caf\u{e9}: x\r\n", vec![], (0, 0, EndedBy::OtherLine)),
        ] {
            assert_eq!(names(message), wanted, "{message:?}");
            let (fields, body, by) = end_wanted;
            assert_eq!(
                end(message.as_bytes()),
                HeaderEnd { fields, body, by },
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_folded_value_is_read_in_one_line() {
        let message = b"Subject:  one\r\n two\r\n\tthree \r\nX: \xff\r\n\r\nSubject: no\r\n";
        assert_eq!(value(message, "subject").unwrap(), "one two\tthree");
        assert_eq!(value(message, "x").unwrap(), "\u{fffd}");
        assert!(!has(message, "Date"));
        assert_eq!(
            received_count(b"Received: a\r\nRECEIVED: b\r\n\r\nReceived: c"),
            2
        );
    }

    #[test]
    fn authors_are_found_in_all_the_forms_that_mail_has() {
        for (from, wanted) in [
            ("a@b", "a@b"),
            ("Ann <a@b>", "a@b"),
            ("\"Ann, <x@y>\" <a@b>", "a@b"),
            ("(x@y, (z)) a@b (Ann)", "a@b"),
            ("Ann (c) <a@b> (d)", "a@b"),
            ("a@b, c@d", "a@b|c@d"),
            ("Us: a@b, C <c@d>;", "a@b|c@d"),
            ("<@r.example,@s.example:a@b>", "a@b"),
            ("\"x y\"@b", "\"x y\"@b"),
            ("a@[IPv6:::1]", "a@[IPv6:::1]"),
            ("=?utf-8?q?Ann?=\r\n <a@B>", "a@b"),
            (",, a@b,", "a@b"),
            ("nobody:;", ""),
            ("", ""),
            ("undisclosed", "?undisclosed"),
            ("<a@b> <c@d>", "?c@d a@b"),
            ("a@b c@d", "?a@b c@d"),
            ("<a@b> c@d", "?c@d a@b"),
            ("<a@b", "?a@b"),
            ("\"a@b", "?\"a@b"),
            ("(a@b", "?"),
            ("Ann <>", "?Ann"),
        ] {
            let message = format!("From: {from}\r\n\r\n");
            let found: Vec<String> = authors(message.as_bytes())
                .into_iter()
                .map(|author| match author {
                    Author::Mailbox(mailbox) => mailbox.to_string(),
                    Author::Unreadable(text) => format!("?{text}"),
                })
                .collect();
            assert_eq!(found.join("|"), wanted, "{from}");
        }
    }

    #[test]
    fn the_domains_of_all_from_fields_count_once_each() {
        let message =
            b"From: a@x.test, b@X.test, c@[192.0.2.1]\r\nfrom: d@y.test\r\n\r\nFrom: e@z.test";
        let domains: Vec<String> = author_domains(message)
            .iter()
            .map(Domain::to_string)
            .collect();
        assert_eq!(domains, ["x.test", "y.test"]);
    }
}
