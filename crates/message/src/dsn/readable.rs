//! Part 1 of a DSN: plain words for the person who sent the message (RFC 3464 section 2.1.1).

use crate::date::rfc5322;
use crate::header;
use crate::text::{one_line, paragraph, quoted_printable};

use super::{DsnInput, DsnKind, DsnRecipient, QUOTE_MAX, Said};

const INDENT: &str = "    ";
const DEEPER: &str = "        ";
/// Longest subject that is shown, in octets.
const SUBJECT_MAX: usize = 300;

/// The text, with CRLF line ends.
pub(super) fn readable(input: &DsnInput<'_>) -> String {
    let mut text = paragraph("", &introduction(input));
    for recipient in input.recipients {
        text.push_str("\r\n");
        text.push_str(&about(recipient, input.kind));
    }
    text.push_str("\r\n");
    text.push_str(&paragraph("", "The message:"));
    if let Some(subject) = subject(input.original) {
        text.push_str(&paragraph(INDENT, &format!("Subject: {subject}")));
    }
    let arrived = rfc5322(input.original_arrived);
    text.push_str(&paragraph(INDENT, &format!("Accepted here: {arrived}")));
    let id = format!(
        "Queue id, for questions to your operator: {}",
        input.original_id
    );
    text.push_str(&paragraph(INDENT, &id));
    text
}

/// The whole part: ASCII on the wire, so that the report does not need 8BITMIME for a foreign reply
/// text.
pub(super) fn text_part(text: &str) -> Vec<u8> {
    let (encoding, body) = match text.is_ascii() {
        true => ("7bit", text.to_owned()),
        false => ("quoted-printable", quoted_printable(text.as_bytes())),
    };
    format!(
        "Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn introduction(input: &DsnInput<'_>) -> String {
    let host = input.hostname;
    let whom = match input.recipients {
        [_] => "the recipient below",
        _ => "the recipients below",
    };
    match input.kind {
        DsnKind::Failed => format!(
            "This is the mail relay {host}. Your message could not be delivered to {whom}. \
             It has been given up and will not be tried again."
        ),
        DsnKind::Delayed => format!(
            "This is the mail relay {host}. Your message has not been delivered yet to {whom}. \
             It is still being tried. You need not send it again."
        ),
        DsnKind::Relayed => format!(
            "This is the mail relay {host}. Your message has been passed on for {whom}. The next mail \
             system has taken it and makes no reports of success, so that you may hear no more of it."
        ),
    }
}

fn about(recipient: &DsnRecipient<'_>, kind: DsnKind) -> String {
    let mut text = paragraph("", &format!("<{}>", recipient.recipient.mailbox));
    let (lead, said) = match (recipient.said, recipient.host) {
        (Said::Reply(reply), Some(host)) => (format!("{host} answered:"), reply),
        (Said::Reply(reply), None) => ("The answer was:".to_owned(), reply),
        (Said::Failure(words), Some(host)) => (format!("With {host} this went wrong:"), words),
        (Said::Failure(words), None) => ("This went wrong:".to_owned(), words),
    };
    text.push_str(&paragraph(INDENT, &one_line(&lead, QUOTE_MAX)));
    text.push_str(&paragraph(DEEPER, &one_line(said, QUOTE_MAX)));
    let mut line = |label: &str, words: Option<&str>| {
        if let Some(words) = words.map(|words| one_line(words, QUOTE_MAX))
            && !words.is_empty()
        {
            text.push_str(&paragraph(INDENT, &format!("{label} {words}")));
        }
    };
    line("What it means:", recipient.explain);
    line("What to do:", recipient.fix);
    line("Last try:", recipient.last_attempt.map(rfc5322).as_deref());
    match kind {
        DsnKind::Failed | DsnKind::Relayed => {}
        DsnKind::Delayed => {
            line("Next try:", recipient.next_attempt.map(rfc5322).as_deref());
            line("Tried until:", recipient.expires.map(rfc5322).as_deref());
        }
    }
    text
}

/// The subject, if it can be read as it stands: encoded words (RFC 2047) are left to part 3.
fn subject(original: &[u8]) -> Option<String> {
    header::value(original, "Subject")
        .map(|subject| one_line(&subject, SUBJECT_MAX))
        .filter(|subject| !subject.is_empty() && !subject.contains("=?"))
}
