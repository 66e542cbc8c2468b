//! The client's side of the dialogue: from the banner to QUIT, without IO.
//!
//! The driver asks [`Session::step`] what to do, does it, and tells what came of it: bytes read,
//! TLS on, body sent, line lost, time out. The session knows the order of commands and which reply
//! answers what; what a reply leads to is not known here.

mod auth;
mod transaction;

use std::collections::VecDeque;
use std::fmt;

use crate::extension::{Extensions, Offered};
use crate::failure::Failure;
use crate::phase::Phase;
use crate::reply::{Reply, ReplyClass, ReplyParser};

pub use auth::Mechanism;
use transaction::Running;
pub use transaction::{Outcome, Transaction};

/// How the session is to be held.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What EHLO says.
    pub hostname: String,
    pub tls: TlsPlan,
    /// AUTH after EHLO; None: no AUTH.
    pub login: Option<Login>,
    pub clear_auth: ClearAuth,
    pub pipelining: Pipelining,
    pub chunking: Chunking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPlan {
    /// STARTTLS is not used even if offered.
    Never,
    /// Used if offered; a refused STARTTLS leaves the session in clear.
    IfOffered,
    /// Used, or the session fails in phase starttls.
    Require,
    /// The connection is encrypted from its first byte.
    AlreadyOn,
}

/// Name and secret for AUTH.
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub secret: Secret,
    /// None: the best one of those that are offered and fit the secret.
    pub only: Option<Mechanism>,
    /// Printable, without a comma, never used before: SCRAM is no better than it.
    pub nonce: String,
}

#[derive(Clone)]
pub enum Secret {
    Password(String),
    /// An OAuth 2.0 access token (RFC 6750).
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Whether a password may be sent without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearAuth {
    Never,
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    WhereOffered,
    Never,
}

/// What became of BDAT in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    Fine,
    /// The host, or something before it, offers CHUNKING and does not know BDAT: another session must do without.
    Refused,
}

/// BDAT (RFC 3030) in place of DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// For messages small enough to be sent before any reply has come: that saves a round trip. For larger
    /// ones DATA does the same.
    WhereItPays,
    Never,
}

/// How the message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Dots stuffed, with the final dot.
    Dots,
    /// As it is, in exactly as many octets as the transaction's size says.
    Chunk,
}

/// What the driver does next.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Write all of it, then ask again.
    Write(Vec<u8>),
    /// Read; [`Session::receive`], [`Session::lost`] or, after this phase's time, [`Session::timed_out`].
    Read(Wait),
    /// Do the handshake; then [`Session::tls_started`]. A failed one ends the session: drop it.
    StartTls,
    /// Write the message in this form; then [`Session::body_sent`].
    Body(Form),
    /// [`Session::begin`] or [`Session::quit`].
    Ready,
    /// Close the connection; [`Session::end`] says why.
    Over,
}

/// Without the bytes: they may be a password.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Step::Read(wait) => write!(f, "Read({wait:?})"),
            Step::StartTls => f.write_str("StartTls"),
            Step::Body(form) => write!(f, "Body({form:?})"),
            Step::Ready => f.write_str("Ready"),
            Step::Over => f.write_str("Over"),
        }
    }
}

/// What is waited for: each has its own time-out (RFC 5321 section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Banner,
    Ehlo,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    FinalDot,
    Rset,
    Quit,
}

impl Wait {
    pub fn phase(self) -> Phase {
        match self {
            Wait::Banner => Phase::Banner,
            Wait::Ehlo => Phase::Ehlo,
            Wait::Starttls => Phase::Starttls,
            Wait::Auth => Phase::Auth,
            Wait::Mail => Phase::Mail,
            Wait::Rcpt => Phase::Rcpt,
            Wait::Data => Phase::Data,
            Wait::FinalDot => Phase::Body,
            Wait::Rset | Wait::Quit => Phase::Quit,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Wait::Banner => "the greeting",
            Wait::Ehlo => "the reply to EHLO",
            Wait::Starttls => "the reply to STARTTLS",
            Wait::Auth => "the reply to AUTH",
            Wait::Mail => "the reply to MAIL",
            Wait::Rcpt => "the reply to RCPT",
            Wait::Data => "the reply to DATA",
            Wait::FinalDot => {
                "the reply to the final dot (the peer may have the message: a second copy may arise)"
            }
            Wait::Rset => "the reply to RSET",
            Wait::Quit => "the reply to QUIT",
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By our own QUIT.
    Quit,
    Answered {
        phase: Phase,
        reply: Reply,
    },
    Failed {
        phase: Phase,
        failure: Failure,
        words: String,
    },
}

/// One session.
pub struct Session {
    setup: Setup,
    parser: ReplyParser,
    out: Vec<u8>,
    /// Commands that have no reply yet, oldest first.
    pending: VecDeque<Expect>,
    state: State,
    /// Of the message that is asked for.
    form: Form,
    chunks: Chunks,
    encryption: Encryption,
    extensions: Extensions,
    /// Of those for our secret, what is offered and has not been tried.
    mechanisms: VecDeque<auth::Mechanism>,
    running: Option<Running>,
    outcomes: Option<Vec<Outcome>>,
    /// Taken so far, whatever they answered.
    replies: u64,
    end: Option<End>,
}

/// Where it stands, and nothing of what was said: that may be a password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .field("phase", &self.phase())
            .field("replies", &self.replies)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `pending` is not empty.
    Talking,
    WantTls,
    WantBody,
    Ready,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    On,
    Off,
}

/// What a reply will answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expect {
    Banner,
    Ehlo,
    Helo,
    Starttls,
    Auth(auth::Exchange),
    Mail,
    Rcpt(usize),
    Data,
    FinalDot,
    /// The dot after a 354 that nobody wanted any more.
    LoneDot,
    Rset,
    Quit,
}

impl Expect {
    fn wait(&self) -> Wait {
        match self {
            Expect::Banner => Wait::Banner,
            Expect::Ehlo | Expect::Helo => Wait::Ehlo,
            Expect::Starttls => Wait::Starttls,
            Expect::Auth(_) => Wait::Auth,
            Expect::Mail => Wait::Mail,
            Expect::Rcpt(_) => Wait::Rcpt,
            Expect::Data => Wait::Data,
            Expect::FinalDot | Expect::LoneDot => Wait::FinalDot,
            Expect::Rset => Wait::Rset,
            Expect::Quit => Wait::Quit,
        }
    }
}

impl Session {
    /// Starts by waiting for the greeting.
    pub fn new(setup: Setup) -> Session {
        let encryption = match setup.tls {
            TlsPlan::AlreadyOn => Encryption::On,
            TlsPlan::Never | TlsPlan::IfOffered | TlsPlan::Require => Encryption::Off,
        };
        Session {
            setup,
            parser: ReplyParser::new(),
            out: Vec::new(),
            pending: VecDeque::from([Expect::Banner]),
            state: State::Talking,
            form: Form::Dots,
            chunks: Chunks::Fine,
            encryption,
            extensions: Extensions::default(),
            mechanisms: VecDeque::new(),
            running: None,
            outcomes: None,
            replies: 0,
            end: None,
        }
    }

    /// What is to be done now.
    pub fn step(&mut self) -> Step {
        if !self.out.is_empty() {
            return Step::Write(std::mem::take(&mut self.out));
        }
        match self.state {
            State::Talking => match self.pending.front() {
                Some(expect) => Step::Read(expect.wait()),
                None => unreachable!("a talking session waits for at least one reply"),
            },
            State::WantTls => Step::StartTls,
            State::WantBody => Step::Body(self.form),
            State::Ready => Step::Ready,
            State::Over => Step::Over,
        }
    }

    /// Bytes have come.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.state == State::WantTls {
            return self.injected();
        }
        self.parser.push(bytes);
        while !matches!(self.state, State::Over | State::WantTls) {
            match self.parser.take() {
                None => return,
                Some(Ok(reply)) => self.handle(reply),
                Some(Err(bad)) => {
                    let phase = self.phase();
                    self.break_off(phase, Failure::Garbage, bad.to_string());
                }
            }
        }
    }

    /// The handshake is done.
    pub fn tls_started(&mut self) {
        self.encryption = Encryption::On;
        // Nothing that was said in clear counts any more (RFC 3207 section 4.2).
        self.parser = ReplyParser::new();
        self.extensions = Extensions::default();
        self.state = State::Talking;
        self.say_ehlo();
    }

    /// The message and its final dot are written.
    pub fn body_sent(&mut self) {
        if self.state != State::WantBody {
            return;
        }
        match self.form {
            Form::Dots => self.pending.push_back(Expect::FinalDot),
            // BDAT stands behind the other commands already.
            Form::Chunk => {}
        }
        self.state = State::Talking;
    }

    /// Whether the peer may have the whole message, though it has not answered all that came before it.
    fn message_is_out(&self) -> bool {
        self.state == State::Talking && self.pending.contains(&Expect::FinalDot)
    }

    /// The connection ended. Between the greeting and QUIT nothing is settled by that but what has
    /// been answered.
    pub fn lost(&mut self, words: &str) {
        let (failure, what) = match (self.state, self.pending.front()) {
            (State::WantBody, None | Some(Expect::FinalDot)) => {
                (Failure::Lost, "the message was sent whole")
            }
            (_, Some(_)) if self.message_is_out() => {
                (Failure::LostAfterBody, Wait::FinalDot.words())
            }
            (_, Some(other)) => (Failure::Lost, other.wait().words()),
            (_, None) => (Failure::Lost, "anything was asked"),
        };
        let phase = self.phase();
        self.break_off(phase, failure, format!("{words} before {what}"));
    }

    /// The time of the present step is over.
    pub fn timed_out(&mut self) {
        let words = match (self.state, self.pending.front()) {
            (State::WantBody, _) => "the peer stopped reading the message".to_owned(),
            (_, Some(expect)) => format!("timed out waiting for {}", expect.wait().words()),
            (_, None) => "timed out".to_owned(),
        };
        let phase = self.phase();
        self.break_off(phase, Failure::TimedOut, words);
    }

    /// Ends a session that is ready. At any other point the connection is simply to be closed.
    pub fn quit(&mut self) {
        match self.state {
            State::Ready => self.say("QUIT", Expect::Quit),
            State::Talking | State::WantTls | State::WantBody | State::Over => self.over(End::Quit),
        }
    }

    /// What the server offers; empty before EHLO was answered and after HELO.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether BDAT was of use.
    pub fn chunks(&self) -> Chunks {
        self.chunks
    }

    /// How many whole replies have come: so the driver sees whether the one it waits for has.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// Why it is over; None: it is not.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Where the session stands.
    pub fn phase(&self) -> Phase {
        match (self.state, self.pending.front()) {
            (State::WantTls, _) => Phase::Starttls,
            (State::WantBody, None) => Phase::Body,
            (_, Some(_)) if self.message_is_out() => Phase::Body,
            (_, Some(expect)) => expect.wait().phase(),
            (_, None) => Phase::Quit,
        }
    }

    fn handle(&mut self, reply: Reply) {
        self.replies += 1;
        // What has not been written yet cannot have been answered: were this taken for the answer, each
        // later reply would be counted for the command after its own, up to a message that was never taken.
        if !self.out.is_empty() {
            return self.unasked(reply);
        }
        // Nor can a message that has not been written whole.
        if self.state == State::WantBody && self.pending.front() == Some(&Expect::FinalDot) {
            return self.unasked(reply);
        }
        let Some(expect) = self.pending.pop_front() else {
            return self.unasked(reply);
        };
        let phase = expect.wait().phase();
        // The service is closing the channel, whatever was asked (RFC 5321 section 3.8).
        if reply.code == 421 && expect != Expect::Quit {
            return self.close_on(phase, reply);
        }
        match expect {
            Expect::Banner => match reply.class() {
                ReplyClass::Positive => self.say_ehlo(),
                ReplyClass::Intermediate => self.wrong(phase, &reply),
                ReplyClass::Transient | ReplyClass::Permanent => self.give_up(phase, reply),
            },
            Expect::Ehlo => self.ehlo_answered(reply),
            Expect::Helo => self.helo_answered(reply),
            Expect::Starttls => self.starttls_answered(reply),
            Expect::Auth(login) => self.auth_answered(login, reply),
            Expect::Mail | Expect::Rcpt(_) | Expect::Data | Expect::FinalDot | Expect::LoneDot => {
                self.transaction_answered(expect, reply);
            }
            Expect::Rset => match reply.class() {
                ReplyClass::Positive => self.state = State::Ready,
                ReplyClass::Intermediate | ReplyClass::Transient | ReplyClass::Permanent => {
                    self.give_up(phase, reply);
                }
            },
            Expect::Quit => self.over(End::Quit),
        }
    }

    /// A reply that answers nothing: said before its command or the body was read, or while the session was
    /// idle.
    fn unasked(&mut self, reply: Reply) {
        let phase = self.phase();
        match reply.class() {
            ReplyClass::Transient | ReplyClass::Permanent => self.close_on(phase, reply),
            ReplyClass::Positive | ReplyClass::Intermediate => self.wrong(phase, &reply),
        }
    }

    fn say_ehlo(&mut self) {
        let command = format!("EHLO {}", self.setup.hostname);
        self.say(&command, Expect::Ehlo);
    }

    fn ehlo_answered(&mut self, reply: Reply) {
        match (reply.class(), reply.code) {
            (ReplyClass::Positive, _) => {
                self.extensions = Extensions::of(&reply);
                self.greeted();
            }
            (ReplyClass::Intermediate, _) => self.wrong(Phase::Ehlo, &reply),
            // A server that knows no EHLO gets HELO (RFC 5321 section 3.2).
            (_, 500 | 502 | 504) => {
                let command = format!("HELO {}", self.setup.hostname);
                self.say(&command, Expect::Helo);
            }
            (ReplyClass::Transient | ReplyClass::Permanent, _) => self.give_up(Phase::Ehlo, reply),
        }
    }

    fn helo_answered(&mut self, reply: Reply) {
        match (reply.class(), reply.code) {
            (ReplyClass::Positive, _) => self.greeted(),
            (ReplyClass::Intermediate, _) => self.wrong(Phase::Ehlo, &reply),
            // It refuses nothing: it does not understand. Were this taken for a refusal, every message to
            // the host would be bounced for it.
            (_, 500 | 502) => self.leave(End::Failed {
                phase: Phase::Ehlo,
                failure: Failure::Garbage,
                words: format!("the host knows neither EHLO nor HELO: {reply}"),
            }),
            (ReplyClass::Transient | ReplyClass::Permanent, _) => self.give_up(Phase::Ehlo, reply),
        }
    }

    fn greeted(&mut self) {
        match (self.encryption, self.setup.tls, self.extensions.starttls) {
            (Encryption::On, _, _)
            | (Encryption::Off, TlsPlan::Never | TlsPlan::AlreadyOn, _)
            | (Encryption::Off, TlsPlan::IfOffered, Offered::No) => self.authenticate(),
            (Encryption::Off, TlsPlan::IfOffered | TlsPlan::Require, Offered::Yes) => {
                self.say("STARTTLS", Expect::Starttls);
            }
            (Encryption::Off, TlsPlan::Require, Offered::No) => self.leave(End::Failed {
                phase: Phase::Starttls,
                failure: Failure::TlsNotOffered,
                words: "TLS is required here and the host does not offer STARTTLS".to_owned(),
            }),
        }
    }

    fn starttls_answered(&mut self, reply: Reply) {
        match (reply.class(), self.setup.tls) {
            (ReplyClass::Positive, _) if self.parser.has_unread() => self.injected(),
            (ReplyClass::Positive, _) => self.state = State::WantTls,
            (ReplyClass::Intermediate, _) => self.wrong(Phase::Starttls, &reply),
            (ReplyClass::Transient | ReplyClass::Permanent, TlsPlan::IfOffered) => {
                self.authenticate();
            }
            (
                ReplyClass::Transient | ReplyClass::Permanent,
                TlsPlan::Require | TlsPlan::Never | TlsPlan::AlreadyOn,
            ) => self.give_up(Phase::Starttls, reply),
        }
    }

    /// Words behind the 220 were not encrypted, but would be read as if they were: put there by
    /// someone on the way, or by a broken server. Neither is to be spoken with.
    fn injected(&mut self) {
        self.break_off(
            Phase::Starttls,
            Failure::Garbage,
            "bytes in clear behind the reply to STARTTLS".to_owned(),
        );
    }

    fn say(&mut self, command: &str, expect: Expect) {
        self.out.extend_from_slice(command.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.pending.push_back(expect);
        self.state = State::Talking;
    }

    /// A reply of the wrong kind: nobody knows what it answers.
    fn wrong(&mut self, phase: Phase, reply: &Reply) {
        self.break_off(
            phase,
            Failure::Garbage,
            format!("a reply that does not fit here: {reply}"),
        );
    }

    /// The session cannot go on, and the peer is not spoken with any more.
    fn break_off(&mut self, phase: Phase, failure: Failure, words: String) {
        if self.pending.front() == Some(&Expect::Quit) {
            return self.over(End::Quit);
        }
        // Wherever it breaks off then, nobody knows whether the message was taken.
        let phase = match self.message_is_out() {
            true => Phase::Body,
            false => phase,
        };
        self.abandon(&Outcome::Failed {
            phase,
            failure,
            words: words.clone(),
        });
        self.over(End::Failed {
            phase,
            failure,
            words,
        });
    }

    /// The peer closes the session by this reply.
    fn close_on(&mut self, phase: Phase, reply: Reply) {
        self.settle_rest_with(phase, &reply);
        self.over(End::Answered { phase, reply });
    }

    /// The peer refuses the session, and we take our leave.
    fn give_up(&mut self, phase: Phase, reply: Reply) {
        self.leave(End::Answered { phase, reply });
    }

    fn leave(&mut self, end: End) {
        self.over(end);
        self.out.extend_from_slice(b"QUIT\r\n");
    }

    fn over(&mut self, end: End) {
        self.out.clear();
        self.pending.clear();
        self.finish();
        self.state = State::Over;
        if self.end.is_none() {
            self.end = Some(end);
        }
    }
}

#[cfg(test)]
mod tests;
