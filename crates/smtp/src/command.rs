//! The commands of a client, as enums: read from a line by the server, written to a line by the
//! client. Whether a command fits the moment is the dialogue's business, not decided here.

mod write;

use std::fmt;

use crate::address::{AddressError, Mailbox, Path, ReversePath, take_path};
use crate::envelope::{BodyType, Notify, Priority, RequireTls, Ret, Utf8, Wanted};
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// One command line (RFC 5321 section 4.1.1, and the extensions named at the variants).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The client's name or address literal: letters, digits and `.-_:[]`, at most 255 bytes.
    Ehlo(String),
    Helo(String),
    Mail(Mail),
    Rcpt(Rcpt),
    Data,
    /// RFC 3030
    Bdat(Chunk),
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    /// RFC 3207
    StartTls,
    /// RFC 4954. The mechanism in capitals.
    Auth {
        mechanism: String,
        initial: Option<Secret>,
    },
    /// A command of the standards that is not built here: ETRN and the like.
    NotBuilt(&'static str),
    /// The first word of another protocol, such as GET: whoever talks here does not talk SMTP.
    Foreign(&'static str),
}

/// What BDAT announces: so many octets follow the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: u64,
    pub place: ChunkPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkPlace {
    Last,
    /// Others follow.
    Before,
}

/// MAIL with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub reverse_path: ReversePath,
    /// RFC 1870, bytes. More digits than fit count as the largest number.
    pub size: Option<u64>,
    /// RFC 6152
    pub body_type: Option<BodyType>,
    /// RFC 6531
    pub utf8: Utf8,
    /// RFC 8689
    pub require_tls: RequireTls,
    /// RFC 6710
    pub priority: Option<Priority>,
    /// RFC 3461
    pub ret: Option<Ret>,
    /// RFC 3461, as sent (xtext, undecoded), at most 100 characters.
    pub envid: Option<String>,
    /// RFC 4954 section 5: `<>` or xtext, as sent. Taken and not used: we trust nobody's word for it.
    pub auth: Option<String>,
}

/// RCPT with its parameters (RFC 3461).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    pub forward_path: ForwardPath,
    pub notify: Option<Notify>,
    /// As sent: `rfc822;xtext`, at most 500 characters.
    pub orcpt: Option<String>,
}

/// Where to (RFC 5321 section 4.1.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain: the postmaster of this host.
    Postmaster,
    Mailbox(Mailbox),
}

/// Part of a login. Its Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// Why a line is no command; [`CommandError::reply`] is the answer to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("command not recognized")]
    Unknown,
    #[error("the line is not UTF-8 text, or has control characters in it")]
    NotText,
    #[error("{0}")]
    Arguments(&'static str),
    #[error("bad sender address: {0}")]
    Sender(AddressError),
    #[error("bad recipient address: {0}")]
    Recipient(AddressError),
    /// The parameter's name in capitals, at most 32 characters.
    #[error("parameter {0} not recognized")]
    Parameter(String),
    #[error("{0}")]
    NotImplemented(&'static str),
    /// BDAT whose size cannot be read: where the chunk that follows it ends is not known.
    #[error("write BDAT and the chunk's size in octets, and LAST behind the last one")]
    EndlessChunk,
}

impl Command {
    /// Reads a line without its CRLF. Verbs and parameter names in any case, spaces at the end and
    /// after the colon forgiven.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let line = std::str::from_utf8(line).map_err(|_| CommandError::NotText)?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(CommandError::NotText);
        }
        let line = line.trim_end_matches([' ', '\t']);
        let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let arguments = arguments.trim_start_matches([' ', '\t']);
        let alone = |command| match arguments {
            "" => Ok(command),
            _ => Err(CommandError::Arguments("this command takes no parameters")),
        };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => client_name(arguments).map(Command::Ehlo),
            "HELO" => client_name(arguments).map(Command::Helo),
            "MAIL" => parse_mail(arguments).map(Command::Mail),
            "RCPT" => parse_rcpt(arguments).map(Command::Rcpt),
            "DATA" => alone(Command::Data),
            "BDAT" => chunk(arguments).map(Command::Bdat),
            "RSET" => alone(Command::Rset),
            // NOOP may carry a string, to be ignored (RFC 5321 section 4.1.1.9).
            "NOOP" => Ok(Command::Noop),
            "VRFY" => Ok(Command::Vrfy),
            "EXPN" => Ok(Command::Expn),
            "HELP" => Ok(Command::Help),
            "QUIT" => alone(Command::Quit),
            "STARTTLS" => alone(Command::StartTls),
            "AUTH" => parse_auth(arguments),
            other => parse_other(other),
        }
    }
}

const NOT_BUILT: &[&str] = &["BURL", "ETRN", "TURN", "SEND", "SOML", "SAML"];
const FOREIGN: &[&str] = &["GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"];

fn parse_other(verb: &str) -> Result<Command, CommandError> {
    let among = |list: &'static [&'static str]| list.iter().find(|name| **name == verb);
    if let Some(name) = among(NOT_BUILT) {
        return Ok(Command::NotBuilt(name));
    }
    if let Some(name) = among(FOREIGN) {
        return Ok(Command::Foreign(name));
    }
    Err(CommandError::Unknown)
}

/// RFC 3030 section 2: `chunk-size [ SP "LAST" ]`
fn chunk(text: &str) -> Result<Chunk, CommandError> {
    let (size, place) = match text.split_once(' ') {
        None => (text, ChunkPlace::Before),
        Some((size, last)) if last.trim().eq_ignore_ascii_case("LAST") => (size, ChunkPlace::Last),
        Some(_) => return Err(CommandError::EndlessChunk),
    };
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    let bytes = size.parse().ok().filter(|_| digits);
    let bytes = bytes.ok_or(CommandError::EndlessChunk)?;
    Ok(Chunk { bytes, place })
}

/// The name ends up in our Received field, so what could break out of it there is refused here;
/// whether it is a real domain is not checked, since many honest clients do not know their own.
fn client_name(text: &str) -> Result<String, CommandError> {
    let plain = |c: char| c.is_alphanumeric() || ".-_:[]".contains(c);
    if text.is_empty() {
        return Err(CommandError::Arguments(
            "give your host name or address literal: EHLO client.example.com",
        ));
    }
    if text.len() > 255 || !text.chars().all(plain) {
        return Err(CommandError::Arguments(
            "that is not a host name or an address literal",
        ));
    }
    Ok(text.to_owned())
}

fn parse_mail(text: &str) -> Result<Mail, CommandError> {
    let usage = CommandError::Arguments("write MAIL FROM:<address>");
    let path = after_keyword(text, "FROM").ok_or(usage)?;
    let (path, rest) = take_path(path).map_err(CommandError::Sender)?;
    let reverse_path = match path {
        Path::Null => ReversePath::Null,
        Path::Mailbox(mailbox) => ReversePath::Mailbox(mailbox),
        // Only RCPT knows the bare name (RFC 5321 section 4.1.1.3).
        Path::Postmaster => {
            let why = AddressError::Syntax("a sender needs a domain: <postmaster@example.com>");
            return Err(CommandError::Sender(why));
        }
    };
    let mut mail = Mail::plain(reverse_path);
    each_parameter(rest, |name, value| {
        match name {
            "SIZE" => once(&mut mail.size, size(value)?)?,
            "BODY" => once(&mut mail.body_type, body_type(value)?)?,
            "SMTPUTF8" => match (value, mail.utf8) {
                (None, Utf8::NotNeeded) => mail.utf8 = Utf8::Required,
                (None, Utf8::Required) => return Err(TWICE),
                (Some(_), _) => {
                    return Err(CommandError::Arguments("SMTPUTF8 takes no value"));
                }
            },
            "REQUIRETLS" => match (value, mail.require_tls) {
                (None, RequireTls::No) => mail.require_tls = RequireTls::Yes,
                (None, RequireTls::Yes) => return Err(TWICE),
                (Some(_), _) => {
                    return Err(CommandError::Arguments("REQUIRETLS takes no value"));
                }
            },
            "MT-PRIORITY" => once(&mut mail.priority, priority(value)?)?,
            "RET" => once(&mut mail.ret, ret(value)?)?,
            "ENVID" => once(&mut mail.envid, envid(value)?)?,
            "AUTH" => once(&mut mail.auth, auth_parameter(value)?)?,
            other => return Err(CommandError::Parameter(other.to_owned())),
        }
        Ok(())
    })?;
    Ok(mail)
}

fn parse_rcpt(text: &str) -> Result<Rcpt, CommandError> {
    let usage = CommandError::Arguments("write RCPT TO:<address>");
    let path = after_keyword(text, "TO").ok_or(usage)?;
    let (path, rest) = take_path(path).map_err(CommandError::Recipient)?;
    let forward_path = match path {
        Path::Postmaster => ForwardPath::Postmaster,
        Path::Mailbox(mailbox) => ForwardPath::Mailbox(mailbox),
        Path::Null => {
            let why = AddressError::Syntax("a recipient cannot be empty");
            return Err(CommandError::Recipient(why));
        }
    };
    let mut rcpt = Rcpt {
        forward_path,
        notify: None,
        orcpt: None,
    };
    each_parameter(rest, |name, value| {
        match name {
            "NOTIFY" => once(&mut rcpt.notify, notify(value)?)?,
            "ORCPT" => once(&mut rcpt.orcpt, orcpt(value)?)?,
            other => return Err(CommandError::Parameter(other.to_owned())),
        }
        Ok(())
    })?;
    Ok(rcpt)
}

/// What follows `FROM:`; spaces around the colon are wrong (RFC 5321 section 4.1.1.2) but common.
fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start_matches(' ').strip_prefix(':')?;
    Some(rest.trim_start_matches(' '))
}

const TWICE: CommandError = CommandError::Arguments("a parameter is given twice");

/// Calls `take` with each name, in capitals, and value of `esmtp-param` (RFC 5321 section 4.1.2).
fn each_parameter(
    text: &str,
    mut take: impl FnMut(&str, Option<&str>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    if !text.is_empty() && !text.starts_with([' ', '\t']) {
        return Err(CommandError::Arguments("a space is wanted after the >"));
    }
    for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(CommandError::Arguments(
                "a parameter is NAME=value, of letters, digits and hyphens",
            ));
        }
        take(&name.to_ascii_uppercase(), value)?;
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), CommandError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

fn size(value: Option<&str>) -> Result<u64, CommandError> {
    let digits = value.filter(|v| (1..=20).contains(&v.len()));
    let digits = digits.filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    let digits = digits.ok_or(CommandError::Arguments("SIZE is a number of bytes"))?;
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn body_type(value: Option<&str>) -> Result<BodyType, CommandError> {
    match value.unwrap_or_default().to_ascii_uppercase().as_str() {
        "7BIT" => Ok(BodyType::SevenBit),
        "8BITMIME" => Ok(BodyType::EightBitMime),
        _ => Err(CommandError::NotImplemented(
            "BODY is 7BIT or 8BITMIME here",
        )),
    }
}

fn priority(value: Option<&str>) -> Result<Priority, CommandError> {
    let wrong = CommandError::Arguments("MT-PRIORITY is a number from -9 to 9");
    value.unwrap_or_default().parse().map_err(|_| wrong)
}

fn ret(value: Option<&str>) -> Result<Ret, CommandError> {
    match value.unwrap_or_default().to_ascii_uppercase().as_str() {
        "FULL" => Ok(Ret::Full),
        "HDRS" => Ok(Ret::Headers),
        _ => Err(CommandError::Arguments("RET is FULL or HDRS")),
    }
}

fn envid(value: Option<&str>) -> Result<String, CommandError> {
    match value {
        Some(value) if is_xtext(value) && value.len() <= 100 => Ok(value.to_owned()),
        Some(_) | None => Err(CommandError::Arguments(
            "ENVID is 1 to 100 characters of xtext",
        )),
    }
}

fn auth_parameter(value: Option<&str>) -> Result<String, CommandError> {
    match value {
        Some(value) if value == "<>" || is_xtext(value) => Ok(value.to_owned()),
        Some(_) | None => Err(CommandError::Arguments("AUTH is <> or an address in xtext")),
    }
}

fn notify(value: Option<&str>) -> Result<Notify, CommandError> {
    let wrong = CommandError::Arguments("NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY");
    let value = value.unwrap_or_default().to_ascii_uppercase();
    if value == "NEVER" {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (Wanted::No, Wanted::No, Wanted::No);
    for word in value.split(',') {
        match word {
            "SUCCESS" => success = Wanted::Yes,
            "FAILURE" => failure = Wanted::Yes,
            "DELAY" => delay = Wanted::Yes,
            _ => return Err(wrong),
        }
    }
    Ok(Notify::On {
        success,
        failure,
        delay,
    })
}

fn orcpt(value: Option<&str>) -> Result<String, CommandError> {
    let wrong = CommandError::Arguments("ORCPT is type;address with the address in xtext");
    let Some((kind, address)) = value.and_then(|value| value.split_once(';')) else {
        return Err(wrong);
    };
    let kind_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    // RFC 6533 section 3 has a form with characters beyond ASCII for the type utf-8.
    let address_fits = match kind.to_ascii_lowercase().as_str() {
        "utf-8" => !address.is_empty() && !address.contains(['=', '+']),
        _ => is_xtext(address),
    };
    let kind_fits = !kind.is_empty() && kind.bytes().all(kind_plain);
    if !kind_fits || !address_fits || kind.len() + address.len() > 500 {
        return Err(wrong);
    }
    Ok(format!("{kind};{address}"))
}

/// RFC 3461 section 4: printable ASCII without `+` and `=`, which are written as `+2B` and `+3D`.
fn is_xtext(text: &str) -> bool {
    let mut bytes = text.bytes();
    let upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'+' => bytes.next().is_some_and(upper_hex) && bytes.next().is_some_and(upper_hex),
            b'=' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !fits {
            return false;
        }
    }
    !text.is_empty()
}

fn parse_auth(text: &str) -> Result<Command, CommandError> {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let (mechanism, initial) = (words.next().unwrap_or_default(), words.next());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    // The length of a mechanism's name: RFC 4422 section 3.1.
    let fits = (1..=20).contains(&mechanism.len()) && mechanism.bytes().all(plain);
    if !fits || words.next().is_some() {
        return Err(CommandError::Arguments("write AUTH MECHANISM [response]"));
    }
    Ok(Command::Auth {
        mechanism: mechanism.to_ascii_uppercase(),
        initial: initial.map(|text| Secret(text.to_owned())),
    })
}

impl Mail {
    /// MAIL without parameters.
    pub fn plain(reverse_path: ReversePath) -> Mail {
        Mail {
            reverse_path,
            size: None,
            body_type: None,
            utf8: Utf8::NotNeeded,
            require_tls: RequireTls::No,
            priority: None,
            ret: None,
            envid: None,
            auth: None,
        }
    }
}

impl CommandError {
    /// The answer to the client (codes: RFC 5321 section 4.2, RFC 3463, RFC 5248).
    pub fn reply(&self) -> Reply {
        let (code, (subject, detail)) = match self {
            CommandError::Unknown => (500, (5, 1)),
            CommandError::NotText => (500, (5, 2)),
            CommandError::Arguments(_) | CommandError::EndlessChunk => (501, (5, 4)),
            CommandError::Sender(_) => (501, (1, 7)),
            CommandError::Recipient(_) => (501, (1, 3)),
            CommandError::Parameter(_) => (555, (5, 4)),
            CommandError::NotImplemented(_) => (504, (5, 4)),
        };
        let enhanced = EnhancedStatus::permanent(subject, detail);
        Reply::new(code, Some(enhanced), self.to_string())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a line is read as and written back as, or the reply it draws.
    fn read(line: &str) -> String {
        match Command::parse(line.as_bytes()) {
            Ok(command) => command.to_string(),
            Err(error) => {
                let reply = error.reply().to_string();
                reply.chars().take(9).collect()
            }
        }
    }

    #[test]
    fn commands_are_read_in_any_case_and_written_in_one() {
        for (line, written) in [
            ("ehlo Client.example", "EHLO Client.example"),
            ("HELO [192.0.2.1]  ", "HELO [192.0.2.1]"),
            ("mail from:<a@b.example>", "MAIL FROM:<a@b.example>"),
            ("MAIL FROM: <a@b.example>", "MAIL FROM:<a@b.example>"),
            ("MAIL FROM : <>", "MAIL FROM:<>"),
            (
                "MAIL FROM:<a@b.example> body=8bitmime Size=12",
                "MAIL FROM:<a@b.example> SIZE=12 BODY=8BITMIME",
            ),
            (
                "MAIL FROM:<> SMTPUTF8 RET=hdrs ENVID=QQ+2B1 AUTH=<>",
                "MAIL FROM:<> SMTPUTF8 RET=HDRS ENVID=QQ+2B1 AUTH=<>",
            ),
            ("Rcpt To:<Postmaster>", "RCPT TO:<postmaster>"),
            (
                "RCPT TO:<c@d.example> NOTIFY=delay,Success ORCPT=rfc822;c@d.example",
                "RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d.example",
            ),
            (
                "rcpt to:<c@d.example> notify=never",
                "RCPT TO:<c@d.example> NOTIFY=NEVER",
            ),
            ("data", "DATA"),
            ("RSET ", "RSET"),
            ("noop whatever you like", "NOOP"),
            ("VRFY somebody", "VRFY"),
            ("expn list", "EXPN"),
            ("help me", "HELP"),
            ("quit", "QUIT"),
            ("StartTLS", "STARTTLS"),
            ("auth plain AGEAYg==", "AUTH PLAIN AGEAYg=="),
            ("AUTH LOGIN", "AUTH LOGIN"),
            ("bdat 12 LAST", "BDAT 12 LAST"),
            ("GET / HTTP/1.1", "GET"),
        ] {
            assert_eq!(read(line), written, "{line}");
            assert_eq!(read(written), written, "{line}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_codes() {
        for (line, reply) in [
            ("", "500 5.5.1"),
            ("FOO", "500 5.5.1"),
            (" EHLO a", "500 5.5.1"),
            ("EHLO\u{7}a", "500 5.5.2"),
            ("EHLO", "501 5.5.4"),
            ("EHLO a b", "501 5.5.4"),
            ("EHLO a(b)", "501 5.5.4"),
            ("DATA now", "501 5.5.4"),
            ("STARTTLS x", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL <a@b.example>", "501 5.5.4"),
            ("MAIL FROM:a b", "501 5.1.7"),
            ("MAIL FROM:<a@>", "501 5.1.7"),
            ("MAIL FROM:<postmaster>", "501 5.1.7"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a@b@c>", "501 5.1.3"),
            ("MAIL FROM:<>SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=1 SIZE=2", "501 5.5.4"),
            ("MAIL FROM:<> SMTPUTF8 SMTPUTF8", "501 5.5.4"),
            ("MAIL FROM:<> SMTPUTF8=1", "501 5.5.4"),
            ("MAIL FROM:<> BODY=BINARYMIME", "504 5.5.4"),
            ("MAIL FROM:<> RET=SOME", "501 5.5.4"),
            ("MAIL FROM:<> ENVID=a+2b", "501 5.5.4"),
            ("MAIL FROM:<> NOTIFY=NEVER", "555 5.5.4"),
            ("MAIL FROM:<> X", "555 5.5.4"),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", "501 5.5.4"),
            ("RCPT TO:<a@b.example> ORCPT=a@b", "501 5.5.4"),
            ("RCPT TO:<a@b.example> SIZE=1", "555 5.5.4"),
            ("AUTH", "501 5.5.4"),
            ("AUTH PLAIN a b", "501 5.5.4"),
        ] {
            assert_eq!(read(line), reply, "{line}");
        }
    }

    #[test]
    fn a_size_beyond_64_bits_is_only_too_large() {
        let line = b"MAIL FROM:<> SIZE=99999999999999999999";
        let Ok(Command::Mail(mail)) = Command::parse(line) else {
            panic!("refused");
        };
        assert_eq!(mail.size, Some(u64::MAX));
    }

    #[test]
    fn a_login_is_not_shown_by_debug() {
        let command = Command::parse(b"AUTH PLAIN AGEAc2VjcmV0");
        assert!(!format!("{command:?}").contains("AGEAc2VjcmV0"));
    }

    proptest! {
        #[test]
        fn no_line_of_bytes_makes_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn what_is_read_from_near_commands_is_written_as_something_that_reads_the_same(
            verb in "(?i)(ehlo|mail from:|rcpt to:|auth|noop|data)",
            path in "[ ]?<[a-z\"\\\\.@:,\\[\\]é ]{0,12}(@[a-z]{1,5}\\.example)?>?",
            rest in "( (SIZE|BODY|RET|ENVID|NOTIFY|ORCPT|SMTPUTF8|AUTH)=?[A-Za-z0-9+;,@=<>]{0,8}){0,3}",
        ) {
            if let Ok(command) = Command::parse(format!("{verb}{path}{rest}").as_bytes()) {
                let written = command.to_string();
                let again = Command::parse(written.as_bytes());
                prop_assert_eq!(again.map(|command| command.to_string()), Ok(written));
            }
        }
    }
}
