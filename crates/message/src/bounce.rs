//! Reads bounces that follow no standard: the text in which a host says, in words of its own, that a message did
//! not arrive. Whom it is about such a text does not tell for sure; the address that it came back to does.

use relay_smtp::{EnhancedStatus, StatusClass};

use crate::header;
use crate::report::{self, Action, Original};

/// What a text was understood to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounce {
    /// Only `Failed` or `Delayed`.
    pub action: Action,
    pub status: EnhancedStatus,
    /// The reply that it quotes, else its subject.
    pub diagnostic: String,
    /// The message that it returns, as far as it shows it.
    pub original: Original,
}

/// A text with more lines than this says nothing new in the others.
const LINES_MAX: usize = 300;

/// None: it is no bounce, or nothing can be made of it. An automatic answer, which goes to the same address, is none.
pub fn read(message: &[u8]) -> Option<Bounce> {
    let subject = header::value(message, "Subject").unwrap_or_default();
    let body = message.get(header::end(message).body..).unwrap_or_default();
    let (text, returned) = text_and_returned(body);
    let said = text.iter().find_map(|line| reply_in(line));
    let (status, diagnostic) = match (said, writer(message)) {
        (Some(said), Writer::MailSystem) => (said.status, said.text),
        // A person's automatic answer quotes no status.
        (Some(said), Writer::Other) if said.certain => (said.status, said.text),
        (None, Writer::MailSystem) if is_about_failure(&subject) => {
            (EnhancedStatus::permanent(0, 0), subject.clone())
        }
        (Some(_) | None, Writer::MailSystem | Writer::Other) => return None,
    };
    let action = match is_about_delay(&subject) || text.iter().any(|line| says_it_goes_on(line)) {
        true => Action::Delayed,
        false => Action::Failed,
    };
    Some(Bounce {
        action,
        status,
        diagnostic: report::cut(&diagnostic),
        original: returned.map(report::original_in).unwrap_or_default(),
    })
}

enum Writer {
    MailSystem,
    Other,
}

/// Names that programs give themselves in From.
const MAIL_SYSTEMS: &[&str] = &["mailer-daemon", "postmaster", "mail-daemon", "mailerdaemon"];

fn writer(message: &[u8]) -> Writer {
    let from = header::value(message, "From").unwrap_or_default();
    let from = from.to_ascii_lowercase();
    match MAIL_SYSTEMS.iter().any(|name| from.contains(name)) {
        true => Writer::MailSystem,
        false => Writer::Other,
    }
}

const FAILURE: &[&str] = &[
    "fail",
    "undeliver",
    "return",
    "could not",
    "error",
    "rejected",
];
const DELAY: &[&str] = &["delay", "deferred", "warning", "not yet"];
const GOES_ON: &[&str] = &[
    "will be retried",
    "no action is required",
    "will keep trying",
];

fn is_about_failure(subject: &str) -> bool {
    contains_any(subject, FAILURE) || is_about_delay(subject)
}

fn is_about_delay(subject: &str) -> bool {
    contains_any(subject, DELAY)
}

fn says_it_goes_on(line: &str) -> bool {
    contains_any(line, GOES_ON)
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// Where the message that comes back begins: what its header and body say is no word about it.
const RETURNED: &[&str] = &["Return-Path:", "Received:"];

/// The lines before the returned message, and that.
fn text_and_returned(body: &[u8]) -> (Vec<String>, Option<&[u8]>) {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n').take(LINES_MAX) {
        let text = String::from_utf8_lossy(line);
        if RETURNED.iter().any(|name| text.starts_with(name)) {
            return (lines, body.get(at..));
        }
        at += line.len();
        lines.push(text.trim().to_owned());
    }
    (lines, None)
}

/// A reply that a line quotes.
struct Quoted {
    status: EnhancedStatus,
    text: String,
    /// It has an enhanced status, which only programs write.
    certain: bool,
}

/// `550 5.1.1 no such user`, `said: 550 no such user`, `no mailbox here by that name. (#5.1.1)`.
fn reply_in(line: &str) -> Option<Quoted> {
    let words: Vec<&str> = line
        .split([' ', '\t'])
        // As in the fields of a report: `smtp;550 no such user`.
        .map(|word| word.trim_start_matches("smtp;"))
        .filter(|word| !word.is_empty())
        .collect();
    for (place, word) in words.iter().enumerate() {
        // A number within a sentence is no reply.
        let before = place.checked_sub(1).and_then(|before| words.get(before));
        let begins = before.is_none_or(|before| before.ends_with([':', '<', '>']));
        if begins && let Some((class, joined)) = basic(word) {
            let next = words.get(place + 1).and_then(|next| enhanced(next));
            let status = joined.or(next).filter(|status| status.class == class);
            let text = words.get(place..).unwrap_or_default().join(" ");
            return Some(Quoted {
                status: status.unwrap_or(EnhancedStatus::new(class, 0, 0)),
                text: text.trim_start_matches(AROUND).to_owned(),
                certain: status.is_some(),
            });
        }
        let marked = place == 0 || word.starts_with(['#', '(', '[']);
        if marked && let Some(status) = enhanced(word) {
            return Some(Quoted {
                status,
                text: line.to_owned(),
                certain: true,
            });
        }
    }
    None
}

/// What stands around codes.
const AROUND: &[char] = &['#', '(', ')', '[', ']', '<', '>', ',', ':', '\'', '"'];

/// `550`, or the beginning of a reply's line that is not its last: `550-5.1.1`.
fn basic(word: &str) -> Option<(StatusClass, Option<EnhancedStatus>)> {
    let word = word.trim_matches(AROUND);
    let (code, rest) = word.split_at_checked(3)?;
    let class = match code.as_bytes() {
        [b'4', b'0'..=b'5', b'0'..=b'9'] => StatusClass::Transient,
        [b'5', b'0'..=b'5', b'0'..=b'9'] => StatusClass::Permanent,
        _ => return None,
    };
    match rest.strip_prefix('-') {
        Some(status) => Some((class, enhanced(status))),
        None => rest.is_empty().then_some((class, None)),
    }
}

/// `5.1.1`, `#5.1.1`, `(5.1.1)`; not an address such as 4.1.1.2.
fn enhanced(word: &str) -> Option<EnhancedStatus> {
    let bare = word.trim_matches(AROUND).trim_end_matches('.');
    let status: EnhancedStatus = bare.trim_matches(AROUND).parse().ok()?;
    match status.class {
        StatusClass::Transient | StatusClass::Permanent => Some(status),
        StatusClass::Success => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &str, body: &str) -> Option<(Action, String, String)> {
        let text = format!("{head}\n\n{body}\n").replace('\n', "\r\n");
        let bounce = read(text.as_bytes())?;
        Some((bounce.action, bounce.status.to_string(), bounce.diagnostic))
    }

    const DAEMON: &str = "From: MAILER-DAEMON@far.example\nSubject: failure notice";

    #[test]
    fn the_reply_in_a_bounce_is_found_in_the_words_of_many_programs() {
        for (line, status, said) in [
            (
                "Remote host said: 550 5.1.1 User unknown",
                "5.1.1",
                "550 5.1.1 User unknown",
            ),
            (
                "Sorry, no mailbox here by that name. (#5.1.1)",
                "5.1.1",
                "Sorry, no mailbox here by that name. (#5.1.1)",
            ),
            ("    550 no such user", "5.0.0", "550 no such user"),
            (
                "    host mx.far.example [192.0.2.7]: 550-5.7.1 Not you",
                "5.7.1",
                "550-5.7.1 Not you",
            ),
            (
                "<<< 554 delivery error: no account",
                "5.0.0",
                "554 delivery error: no account",
            ),
            (
                "#550 5.1.10 RESOLVER.ADR.RecipientNotFound ##",
                "5.1.10",
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound ##",
            ),
            (
                "Diagnostic-Code: smtp;552 5.2.2 mailbox full",
                "5.2.2",
                "552 5.2.2 mailbox full",
            ),
            (
                "(reason: 452 4.2.2 Over quota)",
                "4.2.2",
                "452 4.2.2 Over quota)",
            ),
        ] {
            let wanted = (Action::Failed, status.to_owned(), said.to_owned());
            let text = format!("Hi. I could not deliver to 192.0.2.7 5 times.\n{line}");
            assert_eq!(told(DAEMON, &text), Some(wanted), "{line}");
        }
    }

    #[test]
    fn without_a_reply_the_subject_of_a_mail_system_must_do() {
        let wanted = (
            Action::Failed,
            "5.0.0".to_owned(),
            "failure notice".to_owned(),
        );
        assert_eq!(told(DAEMON, "It did not work, we are sorry."), Some(wanted));
        let delayed = "From: Postmaster <p@far.example>\nSubject: Warning: not yet delivered";
        assert_eq!(told(delayed, "We go on.").unwrap().0, Action::Delayed);
        let news = "From: postmaster@far.example\nSubject: new phone numbers";
        assert_eq!(told(news, "As of now."), None);
    }

    #[test]
    fn an_automatic_answer_is_no_bounce() {
        let person = "From: You <you@r.example>\nSubject: Out of office: returning on Monday";
        assert_eq!(told(person, "I am away. Ring 550 12 34."), None);
        assert_eq!(told(person, "550 is my room."), None);
        // Programs that write in the name of the recipient do so, too.
        let (action, status, _) = told(person, "550 5.2.1 mailbox disabled").unwrap();
        assert_eq!((action, status.as_str()), (Action::Failed, "5.2.1"));
    }

    #[test]
    fn what_the_returned_message_says_is_no_word_about_it() {
        let text = "It did not work.\n\nReceived: from app by relay.example with ESMTP id 1agf7aan0000;\n             Sun, 22 Nov 2026 12:00:00 +0000\nReturn-Path: <x@s.example>\nSubject: x\n\n550 5.1.1 quoted by the author";
        let whole = format!("{DAEMON}\n\n{text}").replace('\n', "\r\n");
        let bounce = read(whole.as_bytes()).unwrap();
        assert_eq!(bounce.diagnostic, "failure notice");
        let ours = ("relay.example".to_owned(), "1agf7aan0000".to_owned());
        assert_eq!(bounce.original.received, [ours]);
        assert_eq!(bounce.original.sender.unwrap().to_string(), "x@s.example");
    }

    #[test]
    fn a_text_that_says_that_it_is_tried_again_is_a_delay() {
        let text = "451 4.4.1 timed out\nNo action is required on your part.";
        assert_eq!(told(DAEMON, text).unwrap().0, Action::Delayed);
        assert_eq!(
            told(DAEMON, "451 4.4.1 timed out").unwrap().0,
            Action::Failed
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ -~\u{e9}\n]{0,400}", bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = told(DAEMON, &text);
            let _ = told("From: x@y.example", &text);
        }
    }
}
