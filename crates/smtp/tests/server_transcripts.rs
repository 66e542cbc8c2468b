//! Plays the golden dialogues of tests/transcripts/server against `server::Session`, whole and
//! byte by byte. The format is explained in tests/transcripts/server/README.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relay_smtp::command::Secret;
use relay_smtp::data::BareLineEnds;
use relay_smtp::server::{Auth, AuthInClear, Channel, Event, Session, Settings, StartTls, reply};
use relay_smtp::{Envelope, Mailbox, Reply, ReversePath};

#[test]
fn every_dialogue_goes_as_written() {
    let mut failures = String::new();
    let mut played = 0;
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("readable");
        let actual = play(&text, Chunks::Whole);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&file, &actual).expect("writable");
        } else if actual != text {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(failures, "--- {name} went otherwise:\n{actual}");
        }
        played += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(played >= 25, "only {played} dialogues found");
}

#[test]
fn every_dialogue_goes_the_same_byte_by_byte() {
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert_eq!(
            play(&text, Chunks::Bytes),
            play(&text, Chunks::Whole),
            "{}",
            file.display()
        );
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/server");
    let entries = std::fs::read_dir(&folder).expect("tests/transcripts/server is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

#[derive(Clone, Copy)]
enum Chunks {
    Whole,
    Bytes,
}

/// The dialogue with what the server really said in place of what was expected.
fn play(text: &str, chunks: Chunks) -> String {
    let (mut settings, mut channel) = (settings(), Channel::Clear);
    let mut session = None;
    let mut out = String::new();
    let mut pending = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "S:" | "=" => {
                // What is expected is what comes after all that the client has sent by now.
                let session = session
                    .get_or_insert_with(|| Session::new(Arc::new(settings.clone()), channel));
                feed(session, &mut pending, chunks, &mut out);
                continue;
            }
            "O:" => option(rest, &mut settings, &mut channel),
            "C:" => pending.extend(unescape(rest)),
            "X:" => {
                if let Some(session) = &mut session {
                    feed(session, &mut pending, chunks, &mut out);
                }
                match (rest, &mut session) {
                    ("tls", Some(session)) => session.tls_started(),
                    ("reset", _) => session = None,
                    _ => panic!("not known: {line}"),
                }
            }
            "" | "#" => {}
            _ => panic!("not known: {line}"),
        }
        let _ = writeln!(out, "{line}");
    }
    assert!(pending.is_empty(), "nothing is expected after the last C:");
    out
}

fn feed(session: &mut Session, pending: &mut Vec<u8>, chunks: Chunks, out: &mut String) {
    run(session, out);
    let bytes = std::mem::take(pending);
    match chunks {
        Chunks::Whole => {
            session.input(&bytes);
            run(session, out);
        }
        Chunks::Bytes => {
            for byte in bytes {
                session.input(&[byte]);
                run(session, out);
            }
        }
    }
}

/// Runs the session until it wants more, with a driver whose answers are fixed.
fn run(session: &mut Session, out: &mut String) {
    loop {
        let event = session.next_event();
        let said = String::from_utf8(session.take_output()).expect("UTF-8");
        for line in said.split_inclusive("\r\n") {
            let line = line.strip_suffix("\r\n").expect("whole lines");
            let _ = writeln!(out, "S: {line}");
        }
        let answer = match event {
            None => return,
            Some(Event::Refused(_)) => None,
            Some(Event::Close) => {
                let _ = writeln!(out, "= close");
                None
            }
            Some(Event::StartTls) => {
                let _ = writeln!(out, "= starttls");
                None
            }
            Some(Event::Authenticate { user, password }) => {
                let _ = writeln!(out, "= login {user} {}", password.0);
                Some(login(&user, &password))
            }
            Some(Event::Mail(mail)) => {
                let _ = writeln!(out, "= {mail}");
                Some(sender(&mail.reverse_path))
            }
            Some(Event::Rcpt(rcpt)) => {
                let _ = writeln!(out, "= rcpt <{}>{}", rcpt.mailbox, dsn(&rcpt));
                Some(recipient(&rcpt.mailbox))
            }
            Some(Event::Message(message)) => {
                let body = message.body.escape_ascii();
                let _ = writeln!(out, "= message {}", envelope(&message.envelope));
                let _ = writeln!(out, "= {:?} \"{body}\"", message.hello);
                Some(taken(&message.envelope))
            }
        };
        if let Some(answer) = answer {
            session.answer(answer);
        }
    }
}

fn dsn(recipient: &relay_smtp::Recipient) -> String {
    let mut text = String::new();
    if let Some(notify) = recipient.notify {
        let _ = write!(text, " {notify:?}");
    }
    if let Some(orcpt) = &recipient.orcpt {
        let _ = write!(text, " {orcpt}");
    }
    text
}

fn envelope(envelope: &Envelope) -> String {
    let mut text = match &envelope.reverse_path {
        ReversePath::Null => "from <>".to_owned(),
        ReversePath::Mailbox(mailbox) => format!("from <{mailbox}>"),
    };
    for recipient in &envelope.recipients {
        let _ = write!(text, " to <{}>", recipient.mailbox);
    }
    let _ = write!(text, " {:?} {:?}", envelope.body_type, envelope.utf8);
    text
}

fn login(user: &str, password: &Secret) -> Reply {
    match (user, password.0.as_str()) {
        ("app", "secret") => reply(235, 7, 0, "logged in"),
        _ => reply(535, 7, 8, "user or password wrong"),
    }
}

fn sender(path: &ReversePath) -> Reply {
    match path {
        ReversePath::Mailbox(mailbox) if mailbox.local_part() == "refused" => {
            reply(550, 7, 1, "not a sender here")
        }
        ReversePath::Mailbox(_) | ReversePath::Null => reply(250, 1, 0, "sender ok"),
    }
}

fn recipient(mailbox: &Mailbox) -> Reply {
    match mailbox.local_part() {
        "refused" => reply(550, 7, 1, "relaying denied"),
        _ => reply(250, 1, 5, "recipient ok"),
    }
}

fn taken(envelope: &Envelope) -> Reply {
    match &envelope.reverse_path {
        ReversePath::Mailbox(mailbox) if mailbox.local_part() == "full" => {
            reply(452, 3, 1, "the queue is full")
        }
        ReversePath::Mailbox(_) | ReversePath::Null => reply(250, 0, 0, "queued"),
    }
}

fn settings() -> Settings {
    Settings {
        hostname: "relay.example".to_owned(),
        message_bytes_max: 1000,
        recipients_max: 100,
        errors_max: 20,
        bare_line_ends: BareLineEnds::Reject,
        starttls: StartTls::NotOffered,
        auth: Auth::NotOffered,
        auth_in_clear: AuthInClear::Refused,
    }
}

fn option(text: &str, settings: &mut Settings, channel: &mut Channel) {
    let number = || {
        let number = text
            .split(' ')
            .next_back()
            .and_then(|word| word.parse().ok());
        number.expect("a number")
    };
    match text {
        "tls from the start" => *channel = Channel::Tls,
        "starttls" => settings.starttls = StartTls::Offered,
        "auth offered" => settings.auth = Auth::Offered,
        "auth required" => settings.auth = Auth::Required,
        "auth in clear" => settings.auth_in_clear = AuthInClear::Allowed,
        "normalize bare line ends" => settings.bare_line_ends = BareLineEnds::Normalize,
        _ if text.starts_with("size ") => settings.message_bytes_max = number(),
        _ if text.starts_with("recipients ") => settings.recipients_max = number() as usize,
        _ if text.starts_with("errors ") => settings.errors_max = number() as u32,
        _ => panic!("not known: O: {text}"),
    }
}

/// A line with its CRLF; a backslash at the end takes the CRLF away.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            None => return bytes,
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'\\') => bytes.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("hex");
                bytes.push(u8::from_str_radix(digits, 16).expect("hex"));
            }
            // \*N repeats what stands before it in the line N times, in all.
            Some(b'*') => {
                let count: String = rest.by_ref().map(char::from).collect();
                bytes = bytes.repeat(count.parse().expect("a number"));
            }
            Some(other) => panic!("not an escape: \\{}", char::from(other)),
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
