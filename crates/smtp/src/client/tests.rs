//! Plays the golden dialogues of tests/transcripts/client.
//!
//! `! WORD=VALUE..` sets the session up; `> send ..` and `> quit` are what the driver does; `S:` and
//! `C:` are the wire (`C: [tls]`, `C: [body]` the two steps that are not text); `X: reset` is a lost
//! line, `T: timeout` time that is over; `=` says what became of a recipient, or of the session.

use std::collections::VecDeque;
use std::path::Path;

use super::*;
use crate::address::{Mailbox, ReversePath};
use crate::envelope::{BodyType, Notify, Recipient, RequireTls, Ret, Utf8, Wanted};

#[test]
fn every_client_transcript_plays_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/client");
    let mut names: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "only {} transcripts", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        for chunk in [usize::MAX, 1, 5] {
            if let Err(what) = play(&text, chunk) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                wrong.push(format!("{name}:{what}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_message_that_is_begun_on_a_session_that_has_ended_has_no_outcome() {
    let mut session = Session::new(setup());
    session.receive(b"421 closing\r\n");
    assert_eq!(session.step(), Step::Over);
    session.begin(transaction("<> <b@r.example>").0);
    assert_eq!(session.take_outcomes(), None);
    session.lost("reset");
    assert!(matches!(session.end(), Some(End::Answered { .. })));
}

#[test]
fn what_debug_shows_of_a_session_and_its_steps_is_no_password() {
    let mut setup = setup();
    setup.clear_auth = ClearAuth::Allowed;
    setup.login = Some(Login {
        username: "app".to_owned(),
        secret: Secret::Password("pencil".to_owned()),
        only: None,
        nonce: "n".to_owned(),
    });
    let mut session = Session::new(setup);
    session.receive(b"220 x\r\n");
    session.step();
    session.receive(b"250-x\r\n250 AUTH PLAIN\r\n");
    assert!(!session.out.is_empty());
    let held = format!("{session:?}");
    let step = session.step();
    let Step::Write(bytes) = &step else {
        panic!("{step:?}");
    };
    assert!(bytes.starts_with(b"AUTH PLAIN "));
    assert_eq!(format!("{step:?}"), format!("Write({} bytes)", bytes.len()));
    assert!(
        held.contains("phase: Auth") && !held.contains('['),
        "{held}"
    );
}

#[test]
fn many_recipients_are_sent_in_groups_that_fit_a_window() {
    let mut session = Session::new(setup());
    session.receive(b"220 x\r\n");
    session.step();
    session.receive(b"250-x\r\n250 PIPELINING\r\n");
    let many: String = (0..1000).map(|n| format!(" <user{n}@r.example>")).collect();
    session.begin(transaction(&format!("<a@s.example>{many}")).0);
    let mut commands = 0;
    loop {
        match session.step() {
            Step::Write(bytes) => {
                assert!(bytes.len() < GROUP_AND_ONE_LINE, "{}", bytes.len());
                commands = bytes.iter().filter(|byte| **byte == b'\n').count();
                if bytes.ends_with(b"DATA\r\n") {
                    commands -= 1;
                    session.receive(&b"250 ok\r\n".repeat(commands));
                    session.receive(b"354 go\r\n");
                    commands = 0;
                }
            }
            Step::Read(Wait::Mail | Wait::Rcpt) => {
                session.receive(&b"250 ok\r\n".repeat(commands));
            }
            Step::Body(Form::Dots) => {
                session.body_sent();
                session.receive(b"250 done\r\n");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let outcomes = session.take_outcomes().unwrap();
    assert_eq!(outcomes.len(), 1000);
    assert!(outcomes.iter().all(|outcome| matches!(
        outcome,
        Outcome::Answered {
            phase: Phase::Body,
            accepted_before: 1000,
            ..
        }
    )));
}

const GROUP_AND_ONE_LINE: usize = 4096 + 512;

fn setup() -> Setup {
    Setup {
        hostname: "relay.example".to_owned(),
        tls: TlsPlan::IfOffered,
        login: None,
        clear_auth: ClearAuth::Never,
        pipelining: Pipelining::WhereOffered,
        chunking: Chunking::WhereItPays,
    }
}

/// A dialogue being played.
struct Play {
    session: Session,
    /// Lines that the client has written and the transcript has not shown yet.
    written: VecDeque<String>,
    recipients: Vec<String>,
    outcomes: Option<Vec<Outcome>>,
    chunk: usize,
}

/// Err: `line: what is wrong`.
fn play(text: &str, chunk: usize) -> Result<(), String> {
    let mut wanted = setup();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("! ")) {
        set_up(&mut wanted, line);
    }
    let mut play = Play {
        session: Session::new(wanted),
        written: VecDeque::new(),
        recipients: Vec::new(),
        outcomes: None,
        chunk,
    };
    for (number, line) in lines {
        play.line(line)
            .map_err(|what| format!("{number}: {what}\n    at: {line}"))?;
    }
    play.pump();
    match play.written.is_empty() {
        true => Ok(()),
        false => Err(format!("end: the client wrote more: {:?}", play.written)),
    }
}

impl Play {
    fn line(&mut self, line: &str) -> Result<(), String> {
        self.pump();
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !matches!(kind, "C:" | "=") && !self.written.is_empty() {
            return Err(format!("the client wrote more: {:?}", self.written));
        }
        match kind {
            "C:" => self.client_says(rest),
            "S:" => {
                for part in unescape(rest).chunks(self.chunk.min(1 << 20)) {
                    self.session.receive(part);
                }
                Ok(())
            }
            "X:" => {
                self.session.lost(rest);
                Ok(())
            }
            "T:" => {
                self.session.timed_out();
                Ok(())
            }
            ">" => self.driver_does(rest),
            "=" => self.check(rest),
            other => Err(format!("{other:?} is no kind of line")),
        }
    }

    /// Takes everything that the client can write now.
    fn pump(&mut self) {
        while let Step::Write(bytes) = self.session.step() {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.ends_with("\r\n"), "{text:?}");
            let lines = text.trim_end_matches("\r\n").split("\r\n");
            self.written.extend(lines.map(str::to_owned));
        }
        if let Some(outcomes) = self.session.take_outcomes() {
            self.outcomes = Some(outcomes);
        }
    }

    fn client_says(&mut self, wanted: &str) -> Result<(), String> {
        let step = self.session.step();
        match wanted {
            "[tls]" if step == Step::StartTls => self.session.tls_started(),
            "[body]" if step == Step::Body(Form::Dots) => self.session.body_sent(),
            "[chunk]" if step == Step::Body(Form::Chunk) => self.session.body_sent(),
            text => {
                let said = self.written.pop_front();
                if said.as_deref() != Some(text) {
                    return Err(format!("the client said {said:?} and wants {step:?}"));
                }
            }
        }
        Ok(())
    }

    fn driver_does(&mut self, what: &str) -> Result<(), String> {
        let step = self.session.step();
        match what.strip_prefix("send ") {
            // The body is being written while the line breaks: nothing to do for the driver.
            None if what == "body" && matches!(step, Step::Body(_)) => return Ok(()),
            None if what == "quit" => self.session.quit(),
            None => return Err("the driver can send, quit or be at its body".to_owned()),
            Some(_) if step != Step::Ready => return Err(format!("not ready but {step:?}")),
            Some(mail) => {
                let (transaction, recipients) = transaction(mail);
                self.recipients = recipients;
                self.outcomes = None;
                self.session.begin(transaction);
            }
        }
        Ok(())
    }

    fn check(&mut self, wanted: &str) -> Result<(), String> {
        let (who, wanted) = wanted.split_once(' ').unwrap_or((wanted, ""));
        let found = match who {
            "session" => match (self.session.step(), self.session.end()) {
                (Step::Ready, None) => "ready".to_owned(),
                (Step::Over, Some(End::Quit)) => "quit".to_owned(),
                (Step::Over, Some(End::Answered { phase, reply })) => {
                    format!("answered {phase} {reply}")
                }
                (Step::Over, Some(End::Failed { phase, failure, .. })) => {
                    format!("failed {phase} {failure}")
                }
                other => format!("{other:?}"),
            },
            address => {
                let at = self.recipients.iter().position(|known| known == address);
                let outcomes = self.outcomes.as_ref().ok_or("no outcome yet")?;
                describe(&outcomes[at.ok_or("no such recipient")?])
            }
        };
        match found == wanted {
            true => Ok(()),
            false => Err(format!("found: {found}")),
        }
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered {
            phase: Phase::Body,
            reply,
            ..
        } if reply.class() == ReplyClass::Positive => format!("accepted {reply}"),
        Outcome::Answered {
            phase,
            reply,
            accepted_before: 0,
        } => format!("refused {phase} {reply}"),
        Outcome::Answered {
            phase,
            reply,
            accepted_before,
        } => format!("refused {phase} after {accepted_before} {reply}"),
        Outcome::Failed { phase, failure, .. } => format!("failed {phase} {failure}"),
    }
}

fn set_up(setup: &mut Setup, line: &str) {
    for word in line.split_whitespace().skip(1) {
        match word {
            "tls=never" => setup.tls = TlsPlan::Never,
            "tls=if-offered" => setup.tls = TlsPlan::IfOffered,
            "tls=require" => setup.tls = TlsPlan::Require,
            "tls=on" => setup.tls = TlsPlan::AlreadyOn,
            "pipelining=never" => setup.pipelining = Pipelining::Never,
            "chunking=never" => setup.chunking = Chunking::Never,
            "clear-auth=allowed" => setup.clear_auth = ClearAuth::Allowed,
            "login" => {
                setup.login = Some(Login {
                    username: "app".to_owned(),
                    secret: Secret::Password("secret".to_owned()),
                    only: None,
                    nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
                });
            }
            // The example of RFC 7677 section 3.
            "login=pencil" => {
                setup.login = Some(Login {
                    username: "user".to_owned(),
                    secret: Secret::Password("pencil".to_owned()),
                    only: None,
                    nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
                });
            }
            "login=token" => {
                setup.login = Some(Login {
                    username: "app@x.example".to_owned(),
                    secret: Secret::Token("t0ken".to_owned()),
                    only: None,
                    nonce: "x".to_owned(),
                });
            }
            "login=long" => {
                setup.login = Some(Login {
                    username: "app".to_owned(),
                    secret: Secret::Password("x".repeat(400)),
                    only: None,
                    nonce: "x".to_owned(),
                });
            }
            other => panic!("{other:?} is no setting"),
        }
    }
}

/// `<sender> <recipient>[,notify=..][,orcpt=..].. [size=N] [8bit] [utf8] [requiretls] [priority=N] [ret=full|hdrs] [envid=..]`
fn transaction(text: &str) -> (Transaction, Vec<String>) {
    let mut words = text.split_whitespace();
    let mailbox = |word: &str| Mailbox::parse(word.trim_matches(['<', '>'])).unwrap();
    let reverse_path = match words.next().unwrap() {
        "<>" => ReversePath::Null,
        sender => ReversePath::Mailbox(mailbox(sender)),
    };
    let mut made = Transaction {
        reverse_path,
        recipients: Vec::new(),
        size: 1000,
        body_type: BodyType::SevenBit,
        utf8: Utf8::NotNeeded,
        require_tls: RequireTls::No,
        priority: Default::default(),
        ret: None,
        envid: None,
    };
    let mut names = Vec::new();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            (address, _) if address.starts_with('<') => {
                let mut parts = word.split(',');
                let address = parts.next().unwrap();
                let mut recipient = Recipient::plain(mailbox(address));
                for part in parts {
                    match part.split_once('=').unwrap() {
                        ("notify", value) => recipient.notify = Some(notify(value)),
                        ("orcpt", value) => recipient.orcpt = Some(value.to_owned()),
                        other => panic!("{other:?}"),
                    }
                }
                names.push(address.trim_matches(['<', '>']).to_owned());
                made.recipients.push(recipient);
            }
            ("size", value) => made.size = value.parse().unwrap(),
            ("8bit", _) => made.body_type = BodyType::EightBitMime,
            ("utf8", _) => made.utf8 = Utf8::Required,
            ("requiretls", _) => made.require_tls = RequireTls::Yes,
            ("priority", level) => made.priority = level.parse().unwrap(),
            ("ret", "full") => made.ret = Some(Ret::Full),
            ("ret", _) => made.ret = Some(Ret::Headers),
            ("envid", value) => made.envid = Some(value.to_owned()),
            other => panic!("{other:?}"),
        }
    }
    (made, names)
}

fn notify(value: &str) -> Notify {
    let wanted = |word: &str| match value.contains(word) {
        true => Wanted::Yes,
        false => Wanted::No,
    };
    match value {
        "never" => Notify::Never,
        _ => Notify::On {
            success: wanted("success"),
            failure: wanted("failure"),
            delay: wanted("delay"),
        },
    }
}

/// `\n`, `\r` and `\xNN` are bytes; a line ends with CRLF unless it ends with `\c`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        rest = match escape.as_bytes()[0] {
            b'n' => {
                bytes.push(b'\n');
                &escape[1..]
            }
            b'r' => {
                bytes.push(b'\r');
                &escape[1..]
            }
            b'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
                &escape[3..]
            }
            b'c' => return bytes,
            other => panic!("escape {other}"),
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}
