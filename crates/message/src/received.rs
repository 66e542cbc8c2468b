//! What the relay itself writes into a message that it accepts: Received, and Date and Message-ID
//! where they are missing (RFC 5321 section 4.4, RFC 6409 section 8).

use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use relay_smtp::address::DOMAIN_MAX;
use relay_smtp::envelope::{Priority, Utf8};
use relay_smtp::{Host, QueueId, Recipient};

use crate::date::rfc5322;
use crate::header::{self, EndedBy};
use crate::text::fold;

/// How the message came here.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// What the client called itself in EHLO or HELO; any text.
    pub helo: &'a str,
    /// None: over a unix socket.
    pub client: Option<IpAddr>,
    /// Our own name, in A-labels.
    pub hostname: &'a str,
    pub protocol: Protocol,
    pub id: QueueId,
    /// Named in Received only if there is exactly one: the others must not see each other
    /// (RFC 5321 section 7.2).
    pub recipients: &'a [Recipient],
    pub at: Timestamp,
}

/// What stands behind WITH in Received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client said HELO.
    Smtp,
    /// The client said EHLO.
    Esmtp {
        tls: Encrypted,
        auth: LoggedIn,
        utf8: Utf8,
    },
    /// The HTTP API.
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedIn {
    Yes,
    No,
}

impl Protocol {
    /// The keyword of RFC 3848, with UTF8 of RFC 6531 section 4.3.
    pub fn word(self) -> &'static str {
        use {Encrypted as Tls, LoggedIn as Auth};
        match self {
            Protocol::Smtp => "SMTP",
            Protocol::Http => "HTTP",
            Protocol::Esmtp { tls, auth, utf8 } => match (utf8, tls, auth) {
                (Utf8::NotNeeded, Tls::No, Auth::No) => "ESMTP",
                (Utf8::NotNeeded, Tls::No, Auth::Yes) => "ESMTPA",
                (Utf8::NotNeeded, Tls::Yes, Auth::No) => "ESMTPS",
                (Utf8::NotNeeded, Tls::Yes, Auth::Yes) => "ESMTPSA",
                (Utf8::Required, Tls::No, Auth::No) => "UTF8SMTP",
                (Utf8::Required, Tls::No, Auth::Yes) => "UTF8SMTPA",
                (Utf8::Required, Tls::Yes, Auth::No) => "UTF8SMTPS",
                (Utf8::Required, Tls::Yes, Auth::Yes) => "UTF8SMTPSA",
            },
        }
    }
}

const PRIORITY: &str = "X-Relayd-Priority";
/// Fields that are not for those who get the message.
const NOT_SENT_ON: [&str; 3] = ["Bcc", "Resent-Bcc", PRIORITY];

/// The message as it goes into the queue: Received on top, Date and Message-ID added at the end of
/// the header if they are missing, Bcc and what was for us removed. Where text follows the header without an empty
/// line, one is put between, so that all who read it later agree where the header ends; the
/// `From ` line of an mbox file is dropped. No other octet is changed.
pub fn prepare(message: &[u8], trace: &Trace<'_>) -> Bytes {
    let message = without_mbox_line(message);
    let end = header::end(message);
    let mut out = Vec::with_capacity(message.len() + 512);
    out.extend_from_slice(received(trace).as_bytes());
    let (mut date, mut message_id) = (Found::No, Found::No);
    for field in header::fields(message) {
        if NOT_SENT_ON.iter().any(|name| field.is(name)) {
            continue;
        }
        if field.is("Date") {
            date = Found::Yes;
        }
        if field.is("Message-ID") {
            message_id = Found::Yes;
        }
        out.extend_from_slice(field.raw);
    }
    if !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    if date == Found::No {
        out.extend_from_slice(format!("Date: {}\r\n", rfc5322(trace.at)).as_bytes());
    }
    if message_id == Found::No {
        let id = format!("Message-ID: <{}@{}>\r\n", trace.id, trace.hostname);
        out.extend_from_slice(id.as_bytes());
    }
    if end.by == EndedBy::OtherLine {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(message.get(end.fields..).unwrap_or_default());
    Bytes::from(out)
}

/// What its application says of how urgent it is, in a field that stays here: `X-Relayd-Priority: 4`, or `high`
/// (4), `normal` (0), `low` (-4). None: nothing. Err: what is wrong, for the application.
pub fn wanted_priority(message: &[u8]) -> Result<Option<Priority>, String> {
    let mut fields = header::fields(without_mbox_line(message)).filter(|field| field.is(PRIORITY));
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(format!("{PRIORITY} stands there more than once"));
    }
    let value = field.unfolded();
    let level = match value.to_ascii_lowercase().as_str() {
        "high" => Priority::new(4),
        "normal" => Priority::new(0),
        "low" => Priority::new(-4),
        number => number.parse().ok(),
    };
    match level {
        Some(level) => Ok(Some(level)),
        None => Err(format!(
            "{PRIORITY} is high, normal, low, or a number from -9 to 9"
        )),
    }
}

/// Whether [`prepare`] can be given the start of a message as if it were all of it: its header is whole.
/// What follows then goes behind the result as it is.
pub fn can_prepare(start: &[u8]) -> bool {
    header::end_within(without_mbox_line(start)).is_some()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Yes,
    No,
}

/// Programs that read mail out of a file sometimes send its separator too. It is no header field;
/// left in place it would make the whole header part of the body.
fn without_mbox_line(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"From ") && !message.starts_with(b">From ") {
        return message;
    }
    let rest = memchr::memchr(b'\n', message)
        .and_then(|at| message.get(at + 1..))
        .unwrap_or_default();
    match header::fields(rest).next() {
        Some(_) => rest,
        None => message,
    }
}

/// The Received field (RFC 5321 section 4.4).
fn received(trace: &Trace<'_>) -> String {
    let mut words = vec![format!("from {}", helo(trace.helo))];
    match trace.client {
        Some(client) => words.push(format!("({})", Host::Address(client.to_canonical()))),
        None => words.push("(unix socket)".to_owned()),
    }
    words.push(format!("by {}", trace.hostname));
    words.push(format!("with {}", trace.protocol.word()));
    words.push(format!("id {}", trace.id));
    if let Some(recipient) = only_recipient(trace) {
        words.push(format!("for <{recipient}>"));
    }
    if let Some(last) = words.last_mut() {
        last.push(';');
    }
    words.push(rfc5322(trace.at));
    fold("Received:", words.iter().map(String::as_str))
}

/// The single recipient, if the header may say it: a non-ASCII one only if the message is
/// internationalized anyway (RFC 6531 section 3.7.3).
fn only_recipient(trace: &Trace<'_>) -> Option<String> {
    let [recipient] = trace.recipients else {
        return None;
    };
    match trace.protocol {
        Protocol::Esmtp {
            utf8: Utf8::Required,
            ..
        } => Some(recipient.mailbox.to_string()),
        Protocol::Smtp | Protocol::Esmtp { .. } | Protocol::Http => {
            (!recipient.mailbox.needs_utf8()).then(|| recipient.mailbox.to_wire())
        }
    }
}

/// What the client called itself, in characters that cannot end a word, a comment or the field.
fn helo(text: &str) -> String {
    let safe: String = text
        .chars()
        .take(DOMAIN_MAX)
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || "-._:[]".contains(c) => c,
            _ => '?',
        })
        .collect();
    if safe.is_empty() {
        return "unknown".to_owned();
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use relay_smtp::Mailbox;

    fn trace(recipients: &[Recipient]) -> Trace<'_> {
        Trace {
            helo: "app.example.com",
            client: Some([192, 0, 2, 7].into()),
            hostname: "relay.example.com",
            protocol: Protocol::Esmtp {
                tls: Encrypted::Yes,
                auth: LoggedIn::Yes,
                utf8: Utf8::NotNeeded,
            },
            id: "3f7k9q2mxt4p".parse().unwrap(),
            recipients,
            at: "2026-11-22T16:00:54Z".parse().unwrap(),
        }
    }

    fn to(mailbox: &str) -> Recipient {
        Recipient::plain(Mailbox::parse(mailbox).unwrap())
    }

    fn prepared(message: &str) -> String {
        let bytes = prepare(message.as_bytes(), &trace(&[]));
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.strip_prefix(&received(&trace(&[])))
            .unwrap()
            .to_owned()
    }

    const DATE: &str = "Date: Sun, 22 Nov 2026 16:00:54 +0000\r\n";
    const ID: &str = "Message-ID: <3f7k9q2mxt4p@relay.example.com>\r\n";

    #[test]
    fn received_names_a_single_recipient_and_never_one_of_several() {
        assert_eq!(
            received(&trace(&[to("bob@example.net")])),
            "Received: from app.example.com ([192.0.2.7]) by relay.example.com with ESMTPSA\r\n\
             \x20id 3f7k9q2mxt4p for <bob@example.net>; Sun, 22 Nov 2026 16:00:54 +0000\r\n"
        );
        let two = [to("bob@example.net"), to("eve@example.net")];
        assert!(!received(&trace(&two)).contains("for"));
    }

    #[test]
    fn what_the_client_says_cannot_break_the_field() {
        let long = "x".repeat(300);
        for hostile in ["a) by evil\r\nX: y", "", "\u{fc}\u{fc}", &long] {
            let mut trace = trace(&[]);
            trace.helo = hostile;
            trace.client = Some("2001:db8::1".parse().unwrap());
            let field = received(&trace);
            assert_eq!(header::fields(field.as_bytes()).count(), 1, "{field}");
            assert!(field.is_ascii());
            assert!(field.contains("([IPv6:2001:db8::1])"));
            assert!(
                field
                    .lines()
                    .all(|line| line.len() <= 78 || line.contains("xxx"))
            );
        }
    }

    #[test]
    fn utf8_recipients_are_named_only_in_utf8_mail() {
        let recipients = [to("j\u{f6}rg@b\u{fc}cher.example")];
        let mut trace = trace(&recipients);
        assert!(!received(&trace).contains("for"));
        trace.protocol = Protocol::Esmtp {
            tls: Encrypted::No,
            auth: LoggedIn::No,
            utf8: Utf8::Required,
        };
        assert!(received(&trace).contains("with UTF8SMTP id"));
        assert!(received(&trace).contains("for <j\u{f6}rg@b\u{fc}cher.example>;"));
    }

    #[test]
    fn missing_fields_are_added_at_the_end_of_the_header_and_bcc_goes() {
        let full = "Date: x\r\nMESSAGE-ID : <y>\r\n\r\nbody";
        for (message, wanted) in [
            (full.to_owned(), full.to_owned()),
            (
                "A: 1\r\n\r\n.body".into(),
                format!("A: 1\r\n{DATE}{ID}\r\n.body"),
            ),
            (
                "A: 1\r\nBcc: x@y,\r\n z@y\r\nB: 2\r\n\r\nBcc: stays".into(),
                format!("A: 1\r\nB: 2\r\n{DATE}{ID}\r\nBcc: stays"),
            ),
            ("A: 1".into(), format!("A: 1\r\n{DATE}{ID}")),
            (String::new(), format!("{DATE}{ID}")),
            ("\r\nbody".into(), format!("{DATE}{ID}\r\nbody")),
            (
                "just text\r\n".into(),
                format!("{DATE}{ID}\r\njust text\r\n"),
            ),
            (
                "A: 1\r\njust text\r\n".into(),
                format!("A: 1\r\n{DATE}{ID}\r\njust text\r\n"),
            ),
            (format!("From a@b Sun Nov 22\r\n{full}"), full.into()),
            (
                "From here on\r\nall is text\r\n".into(),
                format!("{DATE}{ID}\r\nFrom here on\r\nall is text\r\n"),
            ),
        ] {
            assert_eq!(prepared(&message), wanted, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_gets_what_it_lacks_and_keeps_its_body(
            message in "((From|Date|Bcc|Message-ID|X|bcc ) ?: ?[a-z@<>]{0,8}\r\n|[ \t][a-z:]{0,5}\r\n|\r\n|[a-z:.\u{fc} ]{0,9}){0,12}",
        ) {
            let end = header::end(message.as_bytes());
            let raw: usize = header::fields(message.as_bytes()).map(|field| field.raw.len()).sum();
            prop_assert_eq!(raw, end.fields);
            let once = prepare(message.as_bytes(), &trace(&[]));
            for (name, count) in [("Date", 1), ("Message-ID", 1), ("Received", 1), ("Bcc", 0)] {
                let had = header::fields(message.as_bytes()).filter(|field| field.is(name)).count();
                let has = header::fields(&once).filter(|field| field.is(name)).count();
                prop_assert_eq!(has, if name == "Bcc" { 0 } else { had.max(count) });
            }
            if end.by != EndedBy::EndOfMessage {
                prop_assert_eq!(header::end(&once).by, EndedBy::EmptyLine);
            }
            prop_assert_eq!(&once[header::end(&once).body..], &message.as_bytes()[end.body..]);
        }
    }

    #[test]
    fn a_priority_is_read_out_of_the_header_and_not_sent_on() {
        let says = |value: &str| {
            let message = format!("From: a@x.test\r\nx-relayd-priority:{value}\r\n\r\nbody\r\n");
            let sent = prepare(message.as_bytes(), &trace(&[]));
            assert!(
                !String::from_utf8_lossy(&sent)
                    .to_lowercase()
                    .contains("x-relayd")
            );
            wanted_priority(message.as_bytes()).map(|level| level.map(Priority::level))
        };
        assert_eq!(says(" 7"), Ok(Some(7)));
        assert_eq!(
            (says("High"), says(" low "), says("normal")),
            (Ok(Some(4)), Ok(Some(-4)), Ok(Some(0)))
        );
        assert!(says("urgent").is_err() && says("10").is_err() && says("").is_err());
        assert!(says("1\r\nX-Relayd-Priority: 2").is_err(), "which one?");
        let none = b"From: a@x.test\r\n\r\nX-Relayd-Priority: 7\r\n";
        assert_eq!(wanted_priority(none), Ok(None), "that is the body");
    }
}
