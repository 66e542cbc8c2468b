//! A reply as the rules see it: one text, the enhanced code wherever it stands, the first digit.

use relay_smtp::{EnhancedStatus, Reply, StatusClass};

/// What the matchers of a rule are held against.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub code: u16,
    pub enhanced: Option<EnhancedStatus>,
    /// All lines joined with a space, without repeated codes, typographic apostrophes as ', and
    /// what stands before the @ of an address as x: `<x@x>`, `x@example.org`.
    pub text: String,
}

impl Input {
    pub fn of(reply: &Reply) -> Input {
        Input::in_memory(reply, String::with_capacity(256))
    }

    /// The same, in memory that an earlier text has left.
    pub fn in_memory(reply: &Reply, mut text: String) -> Input {
        text.clear();
        let mut enhanced = reply.enhanced;
        for line in &reply.lines {
            for part in parts(line) {
                let (rest, found) = strip_codes(part);
                enhanced = enhanced.or(found);
                if !text.is_empty() && !rest.is_empty() {
                    text.push(' ');
                }
                push_without_addresses(&mut text, rest);
            }
        }
        if !text.is_ascii() && text.contains(['\u{2019}', '\u{2018}', '\u{00a0}']) {
            text = text
                .replace(['\u{2019}', '\u{2018}'], "'")
                .replace('\u{00a0}', " ");
        }
        let enhanced = enhanced.or_else(|| find_enhanced(&text));
        Input {
            code: reply.code,
            enhanced,
            text,
        }
    }

    /// The first digit, 1 to 5. 1yz never comes from a server (RFC 5321 section 4.2.1); operators
    /// paste such codes from other programs' logs.
    pub fn digit(&self) -> u8 {
        first_digit(self.code)
    }
}

/// The first digit of a basic code, 1 to 5.
pub(crate) fn first_digit(code: u16) -> u8 {
    match code {
        100..=199 => 1,
        0..=99 | 200..=299 => 2,
        300..=399 => 3,
        400..=499 => 4,
        500..=u16::MAX => 5,
    }
}

/// A reply as somebody pasted it: `550 5.1.1 No such user`, or several lines with `550-`.
/// The code is the last line's, as on the wire. Where only an enhanced code is given, as bounces and articles do, the
/// basic one is the plain one of its class.
pub fn parse_pasted(pasted: &str) -> Result<Reply, String> {
    let mut code = None;
    let mut enhanced = None;
    let mut lines = Vec::new();
    for line in pasted.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let rest = match leading_code(line) {
            Some((found, rest)) => {
                code = Some(found);
                rest
            }
            None => line,
        };
        let (rest, found) = match leading_enhanced(rest) {
            Some((found, rest)) => (rest, Some(found)),
            None => (rest, None),
        };
        enhanced = enhanced.or(found);
        lines.push(rest.to_owned());
    }
    let plain = |enhanced: EnhancedStatus| match enhanced.class {
        StatusClass::Success => 250,
        StatusClass::Transient => 450,
        StatusClass::Permanent => 550,
    };
    match code.or(enhanced.map(plain)) {
        Some(code) => Ok(Reply {
            code,
            enhanced,
            lines,
        }),
        None => Err(format!(
            "{pasted:?} does not begin with a reply code; write the reply as the server gave it, such as \"550 5.1.1 No such user\""
        )),
    }
}

/// The enhanced code of a reply, wherever in the text it stands.
pub fn enhanced_in(reply: &Reply) -> Option<EnhancedStatus> {
    Input::of(reply).enhanced
}

/// Where the enhanced code of a reply was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundAt {
    /// After the basic code, where it belongs.
    Start,
    /// After a basic code that the text repeats, or at the start of a later line.
    Repeated,
    /// Somewhere in the text: `no mailbox here (#5.1.1)`.
    Text,
}

impl FoundAt {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            FoundAt::Start => "start",
            FoundAt::Repeated => "repeated",
            FoundAt::Text => "text",
        }
    }
}

/// The enhanced code of a reply, and where it stands.
pub fn enhanced_at(reply: &Reply) -> Option<(EnhancedStatus, FoundAt)> {
    if let Some(code) = reply.enhanced {
        return Some((code, FoundAt::Start));
    }
    let code = enhanced_in(reply)?;
    let parts = reply.lines.iter().flat_map(|line| parts(line));
    let repeated = parts.filter_map(|part| strip_codes(part).1).next();
    match repeated {
        Some(_) => Some((code, FoundAt::Repeated)),
        None => Some((code, FoundAt::Text)),
    }
}

/// The replies that a server has put on one line.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    // To set up a search for three characters takes longer than to see that there is no slash.
    let (several, one) = match line.contains('/') {
        true => (Some(line.split(" / ")), None),
        false => (None, Some(line)),
    };
    several.into_iter().flatten().chain(one)
}

/// The local part of an address is anybody's choice (`spam@`, `quota@`, `unknown@`), and so is the
/// domain of a sender or recipient, which is what stands in angle brackets: neither may look like
/// the server's words. The domain of a bare address stays, since servers give their own contact so.
fn push_without_addresses(text: &mut String, mut rest: &str) {
    const WITHIN: &[char] = &[
        ' ', '<', '>', '(', ')', '[', ']', '"', '\'', ',', ';', ':', '=', '/', '*',
    ];
    while let Some(at) = rest.find('@') {
        let begin = rest[..at].rfind(WITHIN).map_or(0, |before| before + 1);
        let after = &rest[at + 1..];
        let length = after.find(WITHIN).unwrap_or(after.len());
        text.push_str(&rest[..begin]);
        let in_brackets = rest[..begin].ends_with('<') && after[length..].starts_with('>');
        match (begin < at && length > 0, in_brackets) {
            (false, _) => text.push_str(&rest[begin..=at + length]),
            (true, true) => text.push_str("x@x"),
            (true, false) => {
                text.push_str("x@");
                text.push_str(&after[..length]);
            }
        }
        rest = &after[length..];
    }
    text.push_str(rest);
}

/// Takes repeated basic and enhanced codes off the front: `550-5.7.1 550 5.7.1 text`.
fn strip_codes(part: &str) -> (&str, Option<EnhancedStatus>) {
    let mut rest = part.trim();
    let mut enhanced = None;
    loop {
        if let Some((found, after)) = leading_enhanced(rest) {
            enhanced = enhanced.or(Some(found));
            rest = after;
        } else if let Some((_, after)) = leading_code(rest) {
            rest = after;
        } else {
            return (rest, enhanced);
        }
    }
}

/// `550 `, `550-` or a bare `550`.
fn leading_code(text: &str) -> Option<(u16, &str)> {
    let digits = text.get(..3)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.as_bytes()[0], b'1'..=b'5') {
        return None;
    }
    let rest = &text[3..];
    match rest.bytes().next() {
        None => Some((digits.parse().ok()?, "")),
        Some(b' ' | b'-') => Some((digits.parse().ok()?, rest[1..].trim_start())),
        Some(_) => None,
    }
}

fn leading_enhanced(text: &str) -> Option<(EnhancedStatus, &str)> {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let found = text[..end].parse().ok()?;
    Some((found, text[end..].trim_start()))
}

/// The first enhanced code anywhere in a text: `sorry, no mailbox here (#5.1.1)`. Only classes 4
/// and 5 count, since a stray 2.x.y is rather a version. IP addresses (four numbers) and versions
/// (`Exim 4.92.3`, `Postfix/2.11.0`) do not count.
pub(crate) fn find_enhanced(text: &str) -> Option<EnhancedStatus> {
    let bytes = text.as_bytes();
    for (at, pair) in bytes.windows(2).enumerate() {
        if !matches!(pair, [b'4' | b'5', b'.']) || !may_begin(text, at) {
            continue;
        }
        let end = bytes[at..]
            .iter()
            .position(|b| !b.is_ascii_digit() && *b != b'.')
            .map_or(bytes.len(), |length| at + length);
        if bytes.get(end).is_some_and(|b| b.is_ascii_alphabetic()) {
            continue;
        }
        // A full stop after the code ends the sentence.
        let candidate = text[at..end].trim_end_matches('.');
        if let Ok(found) = candidate.parse() {
            return Some(found);
        }
    }
    None
}

/// Whether a code may begin here: not inside a number, a word or a path, nor after the name of a
/// program or the word version.
fn may_begin(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let inside = |last: u8| last.is_ascii_alphanumeric() || b"./_=".contains(&last);
    if before.bytes().next_back().is_some_and(inside) {
        return false;
    }
    let word = before
        .trim_end()
        .rsplit(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or("");
    ![
        "version", "exim", "postfix", "sendmail", "release", "qmail", "powermta",
    ]
    .iter()
    .any(|name| word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_enhanced_code_is_found_anywhere_but_not_in_addresses_or_versions() {
        let found = |text: &str| find_enhanced(text).map(|code| code.to_string());
        for (text, code) in [
            (
                "sorry, no mailbox here by that name (#5.1.1)",
                Some("5.1.1"),
            ),
            (
                "sorry, no mailbox here by that name (#5.1.1 - chkusr)",
                Some("5.1.1"),
            ),
            ("cuda_nsu 4.7.1", Some("4.7.1")),
            ("not allowed - 5.7.1 [BL23]", Some("5.7.1")),
            ("The code is 5.7.606.", Some("5.7.606")),
            ("from 5.6.7.8 port 25", None),
            ("from [4.16.55.1]", None),
            ("Exim 4.92.3 at your service", None),
            ("Sendmail 8.14.7", None),
            ("Postfix/5.1.1", None),
            ("version 5.0.1", None),
            ("", None),
        ] {
            assert_eq!(found(text).as_deref(), code, "{text}");
        }
    }

    #[test]
    fn it_is_told_where_the_enhanced_code_was_found() {
        let place = |reply: &str| {
            let found = enhanced_at(&parse_pasted(reply).unwrap());
            found.map(|(code, at)| format!("{code} {}", at.word()))
        };
        for (reply, found) in [
            ("550 5.1.1 no", Some("5.1.1 start")),
            ("550 550 5.1.1 no", Some("5.1.1 repeated")),
            ("550 no / 550 5.1.1 no", Some("5.1.1 repeated")),
            ("550 no (#5.1.1)", Some("5.1.1 text")),
            ("550 no", None),
        ] {
            assert_eq!(place(reply).as_deref(), found, "{reply}");
        }
    }

    #[test]
    fn repeated_codes_are_taken_off_every_line() {
        let reply =
            parse_pasted("550-5.7.1 likely\n550-5.7.1 unsolicited\r\n550 5.7.1 mail’s").unwrap();
        let input = Input::of(&reply);
        assert_eq!(input.text, "likely unsolicited mail's");
        assert_eq!(input.enhanced.unwrap().to_string(), "5.7.1");
        let input = Input::of(&parse_pasted("554 554 5.7.1 Service unavailable").unwrap());
        assert_eq!(
            (input.code, input.text.as_str()),
            (554, "Service unavailable")
        );
        assert_eq!(input.enhanced.unwrap().to_string(), "5.7.1");
    }

    #[test]
    fn what_people_call_themselves_is_not_taken_for_the_servers_words() {
        for (reply, text) in [
            (
                "550 <spam@virus.example>: Sender address rejected",
                "<x@x>: Sender address rejected",
            ),
            (
                "550 quota@example.org... User unknown",
                "x@example.org... User unknown",
            ),
            (
                "554 contact tosa@rx.t-online.de, please",
                "contact x@rx.t-online.de, please",
            ),
            ("550 a@b@c <@> @ x", "x@b@c <@> @ x"),
            ("550 <\u{fc}@\u{fc}> @", "<x@x> @"),
        ] {
            assert_eq!(Input::of(&parse_pasted(reply).unwrap()).text, text);
        }
    }

    #[test]
    fn a_reply_may_be_its_code_alone_and_a_text_without_code_is_refused() {
        let reply = parse_pasted("550").unwrap();
        assert_eq!((reply.code, reply.text().as_str()), (550, ""));
        let reply = parse_pasted("5.1.2 Bad destination host").unwrap();
        assert_eq!(reply.to_string(), "550 5.1.2 Bad destination host");
        assert!(parse_pasted("No such user").is_err());
        assert!(parse_pasted("no mailbox (#5.1.1)").is_err());
        assert!(parse_pasted("").is_err());
    }
}
