//! Mailboxes, domains, address literals and the two paths (RFC 5321 section 4.1.2, RFC 6531
//! section 3.3): parsed once at the edge, never re-checked inside.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// Longest local part in octets, without quotes (RFC 5321 section 4.5.3.1.1).
pub const LOCAL_PART_MAX: usize = 64;
/// Longest domain in octets (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_MAX: usize = 255;
/// Longest mailbox in octets: a path of 256 less its angle brackets (RFC 5321 section 4.5.3.1.3).
pub const MAILBOX_MAX: usize = 254;
/// Longest label of a domain in A-label form (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

/// A domain name, lower-cased, without a trailing dot, as the user wrote it (U-labels stay).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    /// Reads `domain` of RFC 5321 section 4.1.2, with U-labels (RFC 6531). Underscores are taken
    /// too: names with them exist and get mail. A trailing dot is refused, as the grammar wants.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        if text.len() > DOMAIN_MAX {
            return Err(AddressError::Syntax("the domain is longer than 255 octets"));
        }
        if text.is_ascii() {
            check_labels(text)?;
            return Ok(Domain(text.to_ascii_lowercase()));
        }
        let not_idna = AddressError::Syntax("the domain is not a valid international domain name");
        let (unicode, valid) =
            Uts46::new().to_unicode(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        valid.map_err(|_| not_idna.clone())?;
        check_labels(&a_labels(&unicode).ok_or(not_idna)?)?;
        Ok(Domain(unicode.into_owned()))
    }
    /// As it is shown to people.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// A-labels only: what DNS is asked and what a server without SMTPUTF8 is told.
    pub fn to_ascii(&self) -> String {
        if self.0.is_ascii() {
            return self.0.clone();
        }
        // `parse` has made sure that it can be said in A-labels; text that never went through it
        // (a damaged file) is handed on for DNS to refuse.
        a_labels(&self.0).unwrap_or_else(|| self.0.clone())
    }
}

fn a_labels(unicode: &str) -> Option<String> {
    Uts46::new()
        .to_ascii(
            unicode.as_bytes(),
            AsciiDenyList::EMPTY,
            Hyphens::Allow,
            DnsLength::Ignore,
        )
        .ok()
        .map(|ascii| ascii.into_owned())
}

/// Checks a domain in A-labels.
fn check_labels(ascii: &str) -> Result<(), AddressError> {
    if ascii.is_empty() {
        return Err(AddressError::Syntax("the domain is empty"));
    }
    if ascii.len() > DOMAIN_MAX {
        return Err(AddressError::Syntax("the domain is longer than 255 octets"));
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err(AddressError::Syntax(
                "the domain has an empty label: no dot at its ends, no two dots in a row",
            ));
        }
        if label.len() > LABEL_MAX {
            return Err(AddressError::Syntax(
                "a label of the domain is longer than 63 octets",
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Syntax(
                "a label of the domain begins or ends with a hyphen",
            ));
        }
        if !label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(AddressError::Syntax(
                "the domain may only have letters, digits, hyphens and dots",
            ));
        }
    }
    // No top-level domain is a number (RFC 3696 section 2): this is an address without brackets.
    if ascii
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(AddressError::Syntax(
            "the domain ends in a number; write an IP address as [192.0.2.1]",
        ));
    }
    Ok(())
}

/// What stands behind the @.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Host {
    Domain(Domain),
    /// An address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    Address(IpAddr),
}

impl Host {
    /// Reads a domain or an address literal in its brackets (RFC 5321 section 4.1.3).
    pub fn parse(text: &str) -> Result<Host, AddressError> {
        let Some(literal) = text.strip_prefix('[') else {
            return Domain::parse(text).map(Host::Domain);
        };
        let literal = literal.strip_suffix(']').ok_or(AddressError::Syntax(
            "the address literal has no closing bracket",
        ))?;
        if let Ok(address) = literal.parse::<Ipv4Addr>() {
            return Ok(Host::Address(IpAddr::V4(address)));
        }
        literal
            .split_at_checked("IPv6:".len())
            .filter(|(tag, _)| tag.eq_ignore_ascii_case("IPv6:"))
            .and_then(|(_, address)| address.parse::<Ipv6Addr>().ok())
            .map(|address| Host::Address(IpAddr::V6(address)))
            .ok_or(AddressError::Syntax(
                "not an address literal: write [192.0.2.1] or [IPv6:2001:db8::1]",
            ))
    }

    /// As it goes on the wire: a domain in A-labels, an address in brackets.
    pub fn to_ascii(&self) -> String {
        match self {
            Host::Domain(domain) => domain.to_ascii(),
            Host::Address(_) => self.to_string(),
        }
    }
}

/// `local-part@domain`. The local part is kept without quotes; `Display` puts them back where needed.
/// Local parts are compared byte by byte (RFC 5321 section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Mailbox {
    local_part: String,
    host: Host,
}

impl Mailbox {
    /// Reads a mailbox without angle brackets.
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        let (mailbox, rest) = take_mailbox(text)?;
        if !rest.is_empty() {
            return Err(AddressError::Syntax(
                "the address has an angle bracket in it",
            ));
        }
        Ok(mailbox)
    }
    /// From its parts. Control characters in the local part, which no address can have, are
    /// dropped, so that a mailbox can never break a line.
    pub fn new(mut local_part: String, host: Host) -> Mailbox {
        local_part.retain(|c| !c.is_control());
        Mailbox { local_part, host }
    }
    /// Without quotes.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// Whether SMTPUTF8 is needed to say it on the wire: a non-ASCII local part (the domain can
    /// always be said in A-labels).
    pub fn needs_utf8(&self) -> bool {
        !self.local_part.is_ascii()
    }
    /// As it goes on the wire to a server without SMTPUTF8: the domain in A-labels.
    pub fn to_wire(&self) -> String {
        format!("{}@{}", Quoted(&self.local_part), self.host.to_ascii())
    }
}

/// MAIL FROM: `<>` or a mailbox. `<>` and `<postmaster>` never look alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ReversePath {
    Null,
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Reads `<>`, `<a@b>` or `a@b`: what MAIL FROM carries, and what `Display` shows.
    pub fn parse(text: &str) -> Result<ReversePath, AddressError> {
        if !text.starts_with('<') {
            return Mailbox::parse(text).map(ReversePath::Mailbox);
        }
        match take_path(text)? {
            (_, rest) if !rest.is_empty() => Err(AddressError::Syntax(
                "something follows the closing angle bracket",
            )),
            (Path::Null, _) => Ok(ReversePath::Null),
            (Path::Mailbox(mailbox), _) => Ok(ReversePath::Mailbox(mailbox)),
            (Path::Postmaster, _) => Err(AddressError::Syntax(
                "a sender needs a domain: write <postmaster@example.com>",
            )),
        }
    }
    /// None for `<>`.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

/// What stood between angle brackets in a MAIL or RCPT command; which of the three is allowed
/// depends on the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// `<>`
    Null,
    /// `<postmaster>` without a domain, in any case (RFC 5321 section 4.1.1.3).
    Postmaster,
    Mailbox(Mailbox),
}

/// Reads a path with its angle brackets from the start of `text` and returns what follows it
/// (the parameters, with the space before them). A source route is read and forgotten
/// (RFC 5321 section 4.1.1.3, appendix C).
pub fn take_path(text: &str) -> Result<(Path, &str), AddressError> {
    let inside = text.strip_prefix('<').ok_or(AddressError::Syntax(
        "the address must stand in angle brackets: <user@example.com>",
    ))?;
    if let Some(rest) = inside.strip_prefix('>') {
        return Ok((Path::Null, rest));
    }
    if let Some((word, rest)) = inside.split_once('>')
        && word.eq_ignore_ascii_case("postmaster")
    {
        return Ok((Path::Postmaster, rest));
    }
    let (mailbox, rest) = take_mailbox(skip_source_route(inside)?)?;
    let rest = rest.strip_prefix('>').ok_or(AddressError::Syntax(
        "the address has no closing angle bracket",
    ))?;
    Ok((Path::Mailbox(mailbox), rest))
}

/// `@a,@b:c@d` -> `c@d`.
fn skip_source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let not_a_route = AddressError::Syntax("not a source route: write <user@example.com>");
    // No domain and no IPv4 literal has a colon in it; an IPv6 literal does, behind its bracket.
    let mut rest = text;
    loop {
        rest = rest.strip_prefix('@').ok_or(not_a_route.clone())?;
        let end = match rest.starts_with('[') {
            true => rest.find(']').map(|at| at + 1),
            false => rest.find([',', ':']),
        };
        let (hop, after) = end
            .and_then(|end| rest.split_at_checked(end))
            .ok_or(not_a_route.clone())?;
        Host::parse(hop)?;
        if let Some(mailbox) = after.strip_prefix(':') {
            return Ok(mailbox);
        }
        rest = after.strip_prefix(',').ok_or(not_a_route.clone())?;
    }
}

/// Reads a mailbox that ends at `>` or with the text.
fn take_mailbox(text: &str) -> Result<(Mailbox, &str), AddressError> {
    let (local_part, rest) = take_local_part(text)?;
    if local_part.len() > LOCAL_PART_MAX {
        return Err(AddressError::Syntax(
            "the part before the @ is longer than 64 octets",
        ));
    }
    let rest = rest
        .strip_prefix('@')
        .ok_or(AddressError::Syntax("the address has no @ and domain"))?;
    let end = rest.find('>').unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    let mailbox = Mailbox {
        local_part,
        host: Host::parse(host)?,
    };
    if text.len() - after.len() > MAILBOX_MAX {
        return Err(AddressError::Syntax(
            "the address is longer than 254 octets",
        ));
    }
    Ok((mailbox, after))
}

/// Reads a Dot-string or a Quoted-string, and returns it without quotes.
fn take_local_part(text: &str) -> Result<(String, &str), AddressError> {
    if let Some(quoted) = text.strip_prefix('"') {
        return take_quoted(quoted);
    }
    let end = text
        .find(|c| !is_atom_char(c) && c != '.')
        .unwrap_or(text.len());
    let (local_part, rest) = text.split_at(end);
    if !is_dot_string(local_part) {
        return Err(AddressError::Syntax(match local_part {
            "" => "the address has nothing before the @",
            _ => "the part before the @ has a dot at its end or two in a row; put it in quotes",
        }));
    }
    if !rest.starts_with('@') && !rest.is_empty() && !rest.starts_with('>') {
        return Err(AddressError::Syntax(
            "the part before the @ has a character that must be quoted",
        ));
    }
    Ok((local_part.to_owned(), rest))
}

fn take_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local_part = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let kept = match c {
            '"' => return Ok((local_part, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                // quoted-pairSMTP is ASCII only; RFC 6531 adds nothing to it.
                Some((_, pair)) if pair.is_ascii() => pair,
                Some(_) | None => {
                    return Err(AddressError::Syntax(
                        "a backslash in quotes stands before an ASCII character only",
                    ));
                }
            },
            other => other,
        };
        if kept.is_control() {
            return Err(AddressError::Syntax(
                "the address has a control character in it",
            ));
        }
        local_part.push(kept);
    }
    Err(AddressError::Syntax("the quotes are not closed"))
}

/// atext of RFC 5322 section 3.2.3, and UTF8-non-ascii (RFC 6531 section 3.3).
fn is_atom_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

fn is_dot_string(text: &str) -> bool {
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atom_char))
}

/// A local part as it is written: in quotes only if it has to be.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(self.0) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// The text was no address. Display is the text of a 501 or of a configuration error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{0}")]
    Syntax(&'static str),
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Domain, AddressError> {
        Domain::parse(text)
    }
}
/// `example.com`, `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Domain(domain) => domain.fmt(f),
            Host::Address(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}
impl FromStr for Host {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Host, AddressError> {
        Host::parse(text)
    }
}
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", Quoted(&self.local_part), self.host))
    }
}
impl FromStr for Mailbox {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Mailbox, AddressError> {
        Mailbox::parse(text)
    }
}
/// Without angle brackets; the null path is `<>`.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => f.pad("<>"),
            ReversePath::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}
impl FromStr for ReversePath {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<ReversePath, AddressError> {
        ReversePath::parse(text)
    }
}

#[cfg(test)]
mod tests;
