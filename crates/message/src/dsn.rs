//! Composes delivery status notifications: multipart/report of RFC 6522 with message/delivery-status
//! of RFC 3464 (RFC 6533 where addresses are not ASCII). When one is due, and to whom it may go, is
//! decided by `deliver`.

use bytes::Bytes;
use jiff::Timestamp;
use relay_smtp::envelope::{BodyType, Envelope, Recipient, Ret, Utf8};
use relay_smtp::{EnhancedStatus, Mailbox, QueueId};

use crate::date::rfc5322;
use crate::header;
use crate::text::{ascii, decode_xtext, fold, one_line, quoted_printable};

mod readable;

use readable::{readable, text_part};

/// Which message could not be delivered, and what to say of it.
#[derive(Clone, Copy, Debug)]
pub struct DsnInput<'a> {
    pub kind: DsnKind,
    /// The queue id of the DSN itself: makes its Message-ID.
    pub id: QueueId,
    /// Our own name, in A-labels.
    pub hostname: &'a str,
    /// What stands in From; the envelope's sender is `<>` all the same (RFC 3464 section 2).
    pub from: &'a Mailbox,
    /// The reverse-path of the message.
    pub to: &'a Mailbox,
    pub now: Timestamp,
    /// The message that the DSN is about.
    pub original_id: QueueId,
    pub original_arrived: Timestamp,
    /// For RET, ENVID and SMTPUTF8.
    pub original_envelope: &'a Envelope,
    /// Its start: all of it, or its first [`ORIGINAL_BYTES_MAX`] octets.
    pub original: &'a [u8],
    /// Octets of the whole message.
    pub original_bytes: u64,
    /// At least one; all of the same kind.
    pub recipients: &'a [DsnRecipient<'a>],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsnKind {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// Taken by a host that makes no reports of its own (RFC 3461 section 5.2.3).
    Relayed,
}

/// One recipient and the last that was heard about it.
#[derive(Clone, Copy, Debug)]
pub struct DsnRecipient<'a> {
    pub recipient: &'a Recipient,
    pub status: EnhancedStatus,
    /// None: it was never tried.
    pub last_attempt: Option<Timestamp>,
    /// `mx1.example.net [192.0.2.1]`; None where no host was reached for.
    pub host: Option<&'a str>,
    pub said: Said<'a>,
    /// The name of the rule that decided, its explanation and its fix.
    pub rule: &'a str,
    pub explain: Option<&'a str>,
    pub fix: Option<&'a str>,
    /// Delayed only: when it is tried next.
    pub next_attempt: Option<Timestamp>,
    /// Delayed only: when it is given up.
    pub expires: Option<Timestamp>,
}

/// What the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The host's reply in full: `550 5.1.1 no such user`.
    Reply(&'a str),
    /// A failure that is no reply, in words: `connection timed out`.
    Failure(&'a str),
}

/// The message, and what its envelope must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    pub message: Bytes,
    pub body_type: BodyType,
    pub utf8: Utf8,
}

/// A part 3 never has more of the original's header than this, in octets.
const HEADERS_MAX: usize = 64 * 1024;
/// A message above this is not returned in full even if RET=FULL asks for it, in octets
/// (RFC 3461 section 6.2 leaves the limit to us).
const FULL_MAX: usize = 256 * 1024;
/// No DSN needs more of the original than this, in octets from its start.
pub const ORIGINAL_BYTES_MAX: usize = FULL_MAX;
/// Longest text of a reply or an explanation that is quoted, in octets.
const QUOTE_MAX: usize = 4000;

/// Composes one. The text of replies is quoted as data: it can neither add a field nor end a part.
pub fn compose(input: &DsnInput<'_>) -> Dsn {
    let letters = letters(input);
    let original = Original::of(input, letters);
    let boundary = boundary(input.id, original.content);
    let mut out = head(input, &boundary).into_bytes();
    let text = readable(input);
    push_part(&mut out, &boundary, &text_part(&text));
    push_part(&mut out, &boundary, &status_part(input, letters));
    push_part(&mut out, &boundary, &original.part());
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Dsn {
        body_type: match out.is_ascii() {
            true => BodyType::SevenBit,
            false => BodyType::EightBitMime,
        },
        utf8: match input.to.needs_utf8() {
            true => Utf8::Required,
            false => Utf8::NotNeeded,
        },
        message: Bytes::from(out),
    }
}

/// Whether the report speaks of a message that needed SMTPUTF8: then its parts are of the types of
/// RFC 6533, which may hold UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Letters {
    Ascii,
    Utf8,
}

fn letters(input: &DsnInput<'_>) -> Letters {
    let any = input.original_envelope.utf8 == Utf8::Required
        || input.to.needs_utf8()
        || input
            .recipients
            .iter()
            .any(|r| r.recipient.mailbox.needs_utf8());
    match any {
        true => Letters::Utf8,
        false => Letters::Ascii,
    }
}

/// A boundary that stands nowhere in the original. All other text is ours, or indented.
fn boundary(id: QueueId, original: &[u8]) -> String {
    // "=_" cannot come out of quoted-printable (RFC 2045 section 6.7).
    (0u32..)
        .map(|number| format!("=_relayd_{id}_{number}"))
        .find(|boundary| memchr::memmem::find(original, boundary.as_bytes()).is_none())
        .unwrap_or_default()
}

fn push_part(out: &mut Vec<u8>, boundary: &str, part: &[u8]) {
    out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
    out.extend_from_slice(part);
}

/// The message's own header.
fn head(input: &DsnInput<'_>, boundary: &str) -> String {
    let to = match input.to.needs_utf8() {
        true => input.to.to_string(),
        false => input.to.to_wire(),
    };
    let mut head = String::new();
    let mut field = |name: &str, value: &str| head.push_str(&fold(name, value.split(' ')));
    let from = input.from.to_wire();
    field("From:", &format!("Mail delivery system <{from}>"));
    field("To:", &format!("<{to}>"));
    field("Subject:", &subject(input));
    field("Date:", &rfc5322(input.now));
    field("Message-ID:", &format!("<{}@{}>", input.id, input.hostname));
    if let Some(id) = original_message_id(input.original) {
        field("In-Reply-To:", &id);
        field("References:", &id);
    }
    // Auto-responders must not answer this (RFC 3834 section 5).
    field("Auto-Submitted:", "auto-replied");
    field("MIME-Version:", "1.0");
    // The same report type for both kinds of letters (RFC 6533 section 6).
    field(
        "Content-Type:",
        &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
    );
    head
}

fn subject(input: &DsnInput<'_>) -> String {
    let whom = match input.recipients {
        [only] if !only.recipient.mailbox.needs_utf8() => only.recipient.mailbox.to_wire(),
        // To has UTF-8 in it already, so the subject may too.
        [only] if input.to.needs_utf8() => only.recipient.mailbox.to_string(),
        [_] => "its recipient".to_owned(),
        several => format!("{} recipients", several.len()),
    };
    match input.kind {
        DsnKind::Failed => format!("Undelivered: your mail to {whom}"),
        DsnKind::Delayed => format!("Delayed: your mail to {whom} is still being tried"),
        DsnKind::Relayed => format!("Passed on: your mail to {whom}"),
    }
}

/// The original's Message-ID, if it is one that may stand in our header.
fn original_message_id(original: &[u8]) -> Option<String> {
    const ID_MAX: usize = 250;
    header::value(original, "Message-ID").filter(|id| {
        id.len() <= ID_MAX
            && id.bytes().all(|b| b.is_ascii_graphic())
            && id.starts_with('<')
            && id.ends_with('>')
    })
}

/// Part 2: message/delivery-status (RFC 3464 section 2), or its sister of RFC 6533 section 4.
fn status_part(input: &DsnInput<'_>, letters: Letters) -> Vec<u8> {
    let mut part = match letters {
        Letters::Ascii => "Content-Type: message/delivery-status\r\n\r\n".to_owned(),
        Letters::Utf8 => "Content-Type: message/global-delivery-status\r\n\
                          Content-Transfer-Encoding: 8bit\r\n\r\n"
            .to_owned(),
    };
    let mut field = |name: &str, value: &str| part.push_str(&status_field(name, value, letters));
    if let Some(envid) = input
        .original_envelope
        .envid
        .as_deref()
        .and_then(decode_xtext)
    {
        field("Original-Envelope-Id:", &envid);
    }
    field("Reporting-MTA:", &format!("dns; {}", input.hostname));
    field("Arrival-Date:", &rfc5322(input.original_arrived));
    field("X-Relayd-Queue-Id:", &input.original_id.to_string());
    for recipient in input.recipients {
        part.push_str("\r\n");
        for (name, value) in recipient_fields(recipient, input.kind, letters) {
            part.push_str(&status_field(name, &value, letters));
        }
    }
    part.into_bytes()
}

/// One field, whatever strangers wrote into its value.
fn status_field(name: &str, value: &str, letters: Letters) -> String {
    let value = one_line(value, QUOTE_MAX);
    let value = match letters {
        Letters::Ascii => ascii(&value),
        Letters::Utf8 => value,
    };
    fold(name, value.split(' '))
}

/// The per-recipient fields (RFC 3464 section 2.3), in its order.
fn recipient_fields(
    about: &DsnRecipient<'_>,
    kind: DsnKind,
    letters: Letters,
) -> Vec<(&'static str, String)> {
    let mailbox = &about.recipient.mailbox;
    let mut fields = Vec::new();
    if let Some(original) = about
        .recipient
        .orcpt
        .as_deref()
        .and_then(original_recipient)
    {
        fields.push(("Original-Recipient:", original));
    }
    fields.push((
        "Final-Recipient:",
        match letters {
            Letters::Utf8 if mailbox.needs_utf8() => format!("utf-8; {mailbox}"),
            Letters::Utf8 | Letters::Ascii => format!("rfc822; {}", mailbox.to_wire()),
        },
    ));
    fields.push((
        "Action:",
        match kind {
            DsnKind::Failed => "failed",
            DsnKind::Delayed => "delayed",
            DsnKind::Relayed => "relayed",
        }
        .to_owned(),
    ));
    fields.push(("Status:", about.status.to_string()));
    // The first word: the address behind it is for people.
    if let Some(name) = about.host.and_then(|host| host.split_whitespace().next()) {
        fields.push(("Remote-MTA:", format!("dns; {name}")));
    }
    fields.push((
        "Diagnostic-Code:",
        match about.said {
            Said::Reply(text) => format!("smtp; {text}"),
            Said::Failure(text) => format!("X-Relayd; {text}"),
        },
    ));
    if let Some(at) = about.last_attempt {
        fields.push(("Last-Attempt-Date:", rfc5322(at)));
    }
    if let (DsnKind::Delayed, Some(at)) = (kind, about.expires) {
        fields.push(("Will-Retry-Until:", rfc5322(at)));
    }
    fields.push(("X-Relayd-Rule:", about.rule.to_owned()));
    fields
}

/// `rfc822;a+2Bb@c` -> `rfc822; a+b@c` (RFC 3464 section 2.3.1).
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    Some(format!("{}; {}", kind.trim(), decode_xtext(address)?))
}

/// Part 3: what is returned of the original.
struct Original<'a> {
    content: &'a [u8],
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// text/rfc822-headers (RFC 6522 section 4), quoted-printable if it has to be.
    Headers,
    /// message/global-headers (RFC 6533 section 5).
    GlobalHeaders,
    /// message/rfc822
    Message,
    /// message/global (RFC 6532 section 3.7).
    GlobalMessage,
}

impl<'a> Original<'a> {
    fn of(input: &DsnInput<'a>, letters: Letters) -> Original<'a> {
        let message = input.original;
        // RET counts for failures only; a delay returns the header (RFC 3461 section 4.3).
        let full = input.kind == DsnKind::Failed
            && input.original_envelope.ret == Some(Ret::Full)
            && message.len() as u64 == input.original_bytes
            && message.len() <= FULL_MAX
            && is_sendable(message);
        let mut fields = 0;
        for field in header::fields(message) {
            if fields + field.raw.len() > HEADERS_MAX {
                break;
            }
            fields += field.raw.len();
        }
        let headers = message.get(..fields).unwrap_or_default();
        let (content, form) = match (full, letters) {
            (true, Letters::Ascii) => (message, Form::Message),
            (true, Letters::Utf8) => (message, Form::GlobalMessage),
            (false, Letters::Utf8) if is_sendable(headers) && is_utf8(headers) => {
                (headers, Form::GlobalHeaders)
            }
            (false, Letters::Utf8 | Letters::Ascii) => (headers, Form::Headers),
        };
        Original { content, form }
    }

    fn part(&self) -> Vec<u8> {
        let kind = match self.form {
            Form::Headers => "text/rfc822-headers",
            Form::GlobalHeaders => "message/global-headers",
            Form::Message => "message/rfc822",
            Form::GlobalMessage => "message/global",
        };
        let encoded =
            self.form == Form::Headers && !(self.content.is_ascii() && is_sendable(self.content));
        let (charset, encoding) = match (encoded, self.content.is_ascii()) {
            (true, false) if is_utf8(self.content) => ("; charset=utf-8", "quoted-printable"),
            (true, _) => ("", "quoted-printable"),
            (false, false) => ("", "8bit"),
            (false, true) => ("", "7bit"),
        };
        let mut part = format!(
            "Content-Type: {kind}{charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        )
        .into_bytes();
        match encoded {
            true => part.extend_from_slice(quoted_printable(self.content).as_bytes()),
            false => part.extend_from_slice(self.content),
        }
        if !part.ends_with(b"\r\n") {
            part.extend_from_slice(b"\r\n");
        }
        part
    }
}

fn is_utf8(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok()
}

/// Whether it may go as it is in a part without encoding: no NUL, no line above 998 octets, no bare
/// CR (RFC 2045 section 2.8).
fn is_sendable(text: &[u8]) -> bool {
    const LINE_MAX: usize = 998;
    text.split(|&byte| byte == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= LINE_MAX && memchr::memchr2(0, b'\r', line).is_none()
    })
}
