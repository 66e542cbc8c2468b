//! The server's side of the dialogue, without IO: bytes in, replies and events out.
//!
//! What it decides is the protocol: order, syntax, sizes. Who may log in, send and relay, and
//! whether a message is taken, it asks of its driver by an [`Event`] and goes on with the answer.

mod chunks;
mod login;
mod transaction;
mod words;

pub use words::{reply, wire_form};

use std::collections::VecDeque;
use std::sync::Arc;

use crate::command::{Command, CommandError, Mail, Secret};
use crate::data::BareLineEnds;
use crate::envelope::{Envelope, Recipient, Utf8};
use crate::line::{LineError, Lines};
use crate::reply::{Reply, ReplyClass};
use chunks::{Came, Chunks, Skip};
use login::{Login, Step};
use transaction::{Data, Transaction};

/// What the server offers and allows; the same for all sessions of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In the banner and in the reply to EHLO; the domain of a bare `postmaster`.
    pub hostname: String,
    /// Bytes of a message without dot stuffing; announced by SIZE.
    pub message_bytes_max: u64,
    /// RCPTs of one transaction; more draw 452 4.5.3.
    pub recipients_max: usize,
    /// Replies 5yz in one session; one more ends it with 421.
    pub errors_max: u32,
    pub bare_line_ends: BareLineEnds,
    pub starttls: StartTls,
    pub auth: Auth,
    pub auth_in_clear: AuthInClear,
}

impl Settings {
    /// Whether a password said now would be said in clear, and must not.
    fn refuses_passwords(&self, channel: Channel) -> bool {
        channel == Channel::Clear && self.auth_in_clear == AuthInClear::Refused
    }
}

/// Whether there is a certificate, and TLS is not there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    Offered,
    NotOffered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    NotOffered,
    Offered,
    /// MAIL before a login draws 530.
    Required,
}

/// Whether a password may be said before TLS is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthInClear {
    Allowed,
    Refused,
}

/// How the bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Clear,
    Tls,
}

/// How the client said hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// With the name it gave.
    Helo(String),
    Ehlo(String),
}

/// What the driver has to do. All but `Refused` and `Close` are questions: the session stands
/// still until [`Session::answer`], for `StartTls` until [`Session::tls_started`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Check a login. A positive reply (235) makes it the session's.
    Authenticate { user: String, password: Secret },
    /// MAIL is in order; may this sender send? A positive reply opens the transaction.
    Mail(Mail),
    /// RCPT is in order; may mail go there? A positive reply adds the recipient.
    Rcpt(Recipient),
    /// A whole message. A positive reply says that it is ours now.
    Message(Incoming),
    /// Send what is in the output, then do the TLS handshake.
    StartTls,
    /// A command or a message was refused by the session itself; for the log.
    Refused(Reply),
    /// Send what is in the output, then close.
    Close,
}

/// A message with all that is known of its coming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub envelope: Envelope,
    /// CRLF line ends, dots unstuffed, as the client sent it; without what [`Session::take_body`] gave out.
    pub body: Vec<u8>,
    pub hello: Hello,
}

/// A message on its way, before the end of its data.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    pub hello: &'a Hello,
    pub recipients: &'a [Recipient],
    pub utf8: Utf8,
    /// What has come of the body and was not taken out.
    pub held: &'a [u8],
}

/// The longest command line in octets. RFC 5321 section 4.5.3.1.4 allows 512, the extensions add
/// to it; by far the most is the 12288 of an AUTH response (RFC 4954 section 4).
const LINE_MAX: usize = 12_288;

/// One session, from the banner to its end.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    channel: Channel,
    lines: Lines,
    output: Vec<u8>,
    hello: Option<Hello>,
    /// Who has logged in.
    user: Option<String>,
    transaction: Option<Transaction>,
    state: State,
    errors: u32,
    /// What the driver has not been told yet; a handful at most.
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    Command,
    Login(Login),
    Data(Data),
    Skip(Skip),
    Asked(Question),
    /// 220 to STARTTLS is in the output.
    TlsHandshake,
    /// The last reply is in the output; nothing is read any more.
    Closed,
}

/// What waits for the driver's answer.
#[derive(Debug)]
enum Question {
    Login(String),
    Mail(Mail),
    Rcpt(Recipient),
    Message,
}

impl Session {
    /// A session at its beginning; the banner is in the output. `channel` is `Tls` where TLS comes
    /// first (RFC 8314 section 3).
    pub fn new(settings: Arc<Settings>, channel: Channel) -> Session {
        let banner = words::banner(&settings.hostname);
        let mut session = Session {
            settings,
            channel,
            lines: Lines::new(LINE_MAX),
            output: Vec::new(),
            hello: None,
            user: None,
            transaction: None,
            state: State::Command,
            errors: 0,
            events: VecDeque::new(),
        };
        session.say(banner);
        session
    }

    /// Bytes from the client. Call [`Session::next_event`] until it says None before reading more.
    pub fn input(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Data(data) => {
                let fed = data.feed(bytes, self.settings.message_bytes_max);
                self.lines.push(bytes.get(fed.used..).unwrap_or_default());
                match fed.came {
                    Came::More => {}
                    Came::Chunk => self.end_of_chunk(),
                    Came::Whole(progress) => self.end_of_data(progress),
                }
            }
            State::Skip(_) => self.skip(bytes),
            // Clear text behind a STARTTLS must not be taken for commands said under TLS (RFC 3207
            // section 4.2): it is dropped.
            State::TlsHandshake | State::Closed => {}
            State::Command | State::Login(_) | State::Asked(_) => self.lines.push(bytes),
        }
    }

    /// What is to be sent, taken out. Take it only once [`Session::next_event`] has said None or asked
    /// something, so that the replies to pipelined commands go out together (RFC 2920 section 3.2).
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What to do now. None: send the output and read on.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.state {
                State::Command | State::Login(_) => match self.lines.next()? {
                    Ok(line) => self.take_line(&line),
                    Err(error) => self.take_bad_line(error),
                },
                State::Data(_)
                | State::Skip(_)
                | State::Asked(_)
                | State::TlsHandshake
                | State::Closed => return None,
            }
        }
    }

    /// The driver's answer to the last question, which goes to the client as it is. A 421 also ends
    /// the session. Without a question open it does nothing.
    pub fn answer(&mut self, reply: Reply) {
        let question = match std::mem::replace(&mut self.state, State::Command) {
            State::Asked(question) => question,
            other => {
                self.state = other;
                return;
            }
        };
        let granted = reply.class() == ReplyClass::Positive;
        match question {
            Question::Login(user) if granted => self.user = Some(user),
            Question::Mail(mail) if granted => self.transaction = Some(Transaction::new(mail)),
            Question::Rcpt(recipient) if granted => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(recipient);
                }
            }
            Question::Login(_) | Question::Mail(_) | Question::Rcpt(_) => {}
            // Taken or not, the transaction is over (RFC 5321 section 4.1.1.4).
            Question::Message => {}
        }
        self.say(reply);
    }

    /// The handshake after [`Event::StartTls`] has succeeded. All that was said before is
    /// forgotten (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        self.channel = Channel::Tls;
        self.hello = None;
        self.user = None;
        self.transaction = None;
        self.lines = Lines::new(LINE_MAX);
        self.state = State::Command;
    }

    /// Ends the session with a reply that nobody asked for: 421 at a time-out or a stop (RFC 5321
    /// section 3.8). [`Event::Close`] follows.
    pub fn close(&mut self, reply: Reply) {
        if !matches!(self.state, State::Closed) {
            words::write(&reply, &mut self.output);
            self.shut();
        }
    }

    /// Whether a mail transaction is open: from the reply to MAIL to that to the message.
    pub fn in_transaction(&self) -> bool {
        let at_message = matches!(self.state, State::Data(_) | State::Asked(Question::Message));
        self.transaction.is_some() || at_message
    }

    /// Whether a message is coming in: after 354, or from its first chunk to its last.
    pub fn in_data(&self) -> bool {
        matches!(self.state, State::Data(_) | State::Skip(_)) || self.incoming().is_some()
    }

    /// The message that is coming in now.
    fn incoming(&self) -> Option<&Data> {
        match (&self.state, &self.transaction) {
            (State::Data(data), _) => Some(data),
            (_, Some(transaction)) => match &transaction.chunks {
                Chunks::Coming(data) => Some(data),
                Chunks::NotBegun | Chunks::Refused => None,
            },
            (_, None) => None,
        }
    }

    /// The message that is coming in now; None: there is none.
    pub fn transfer(&self) -> Option<Transfer<'_>> {
        let (Some(data), Some(transaction), Some(hello)) =
            (self.incoming(), &self.transaction, &self.hello)
        else {
            return None;
        };
        Some(Transfer {
            hello,
            recipients: &transaction.recipients,
            utf8: transaction.utf8(),
            held: data.held(),
        })
    }

    /// Takes out what has come of the body so far; the message at its end has only the rest. For a
    /// driver that keeps large ones elsewhere.
    pub fn take_body(&mut self) -> Vec<u8> {
        match (&mut self.state, &mut self.transaction) {
            (State::Data(data), _) => data.take(),
            (_, Some(transaction)) => match &mut transaction.chunks {
                Chunks::Coming(data) => data.take(),
                Chunks::NotBegun | Chunks::Refused => Vec::new(),
            },
            (_, None) => Vec::new(),
        }
    }

    /// Whether bytes of the client wait that were not looked at yet.
    pub fn has_unread(&self) -> bool {
        self.lines.has_unread()
    }

    /// Who has logged in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub fn channel(&self) -> Channel {
        self.channel
    }

    fn take_line(&mut self, line: &[u8]) {
        if let State::Login(login) = std::mem::replace(&mut self.state, State::Command) {
            return self.login_step(login.go_on(line));
        }
        match Command::parse(line) {
            Ok(command) => self.obey(command),
            Err(error @ CommandError::EndlessChunk) => self.endless_chunk(error.reply()),
            Err(error) => self.refuse(error.reply()),
        }
    }

    fn take_bad_line(&mut self, error: LineError) {
        let in_login = matches!(self.state, State::Login(_));
        self.state = State::Command;
        match error {
            // RFC 4954 section 4
            LineError::TooLong if in_login => {
                self.refuse(reply(500, 5, 6, "the login line is too long"));
            }
            LineError::TooLong => self.refuse(reply(500, 5, 2, "the line is too long")),
            // What follows cannot be told into lines as the client means it; and a client that was
            // made to send it on behalf of somebody else is best not listened to (SMTP smuggling).
            LineError::BareLineEnd => {
                self.refuse(reply(500, 5, 2, "lines must end with CR LF"));
                self.close(reply(421, 7, 0, "closing, since line ends are not clear"));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Ehlo(name) => self.hello(Hello::Ehlo(name)),
            Command::Helo(name) => self.hello(Hello::Helo(name)),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::Rset => {
                self.transaction = None;
                self.say(reply(250, 0, 0, "done"));
            }
            Command::Noop => self.say(reply(250, 0, 0, "done")),
            // Neither confirms nor denies: RFC 5321 section 7.3.
            Command::Vrfy => self.say(reply(252, 0, 0, "send mail and see")),
            Command::Expn => self.refuse(reply(502, 5, 1, "EXPN is not offered")),
            Command::Help => self.say(reply(214, 0, 0, words::HELP)),
            Command::Quit => self.close(reply(221, 0, 0, "goodbye")),
            Command::StartTls => self.starttls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial),
            Command::NotBuilt(verb) => {
                self.refuse(reply(502, 5, 1, format!("{verb} is not offered")));
            }
            // A web client was pointed here, perhaps by a third party: what comes next is not for us.
            Command::Foreign(_) => {
                let answer = reply(421, 7, 0, "this is a mail server, and speaks SMTP only");
                self.events.push_back(Event::Refused(answer.clone()));
                self.close(answer);
            }
        }
    }

    /// EHLO and HELO also do what RSET does (RFC 5321 section 4.1.4).
    fn hello(&mut self, hello: Hello) {
        self.transaction = None;
        let answer = match &hello {
            Hello::Helo(_) => Reply::new(250, None, self.settings.hostname.clone()),
            Hello::Ehlo(_) => words::ehlo(&self.settings, self.channel),
        };
        self.hello = Some(hello);
        self.say(answer);
    }

    fn starttls(&mut self) {
        match (self.settings.starttls, self.channel) {
            (_, Channel::Tls) => self.refuse(reply(503, 5, 1, "TLS is active already")),
            (StartTls::NotOffered, Channel::Clear) => {
                self.refuse(reply(502, 5, 1, "STARTTLS is not offered"));
            }
            (StartTls::Offered, Channel::Clear) => {
                self.lines.take_rest();
                self.say(reply(220, 0, 0, "go ahead with TLS"));
                self.state = State::TlsHandshake;
                self.events.push_back(Event::StartTls);
            }
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<Secret>) {
        let wrong = match (self.settings.auth, &self.hello) {
            (Auth::NotOffered, _) => Some(reply(502, 5, 1, "AUTH is not offered")),
            (_, None | Some(Hello::Helo(_))) => Some(reply(503, 5, 1, "send EHLO first")),
            (_, Some(Hello::Ehlo(_))) => None,
        };
        let wrong = wrong.or_else(|| {
            if self.user.is_some() {
                return Some(reply(503, 5, 1, "you are logged in already"));
            }
            if self.transaction.is_some() {
                return Some(reply(503, 5, 1, "not inside a mail transaction"));
            }
            if self.password_in_clear() {
                return Some(reply(538, 7, 11, "send STARTTLS first"));
            }
            None
        });
        match wrong {
            Some(wrong) => self.refuse(wrong),
            None => self.login_step(Login::begin(mechanism, initial)),
        }
    }

    fn password_in_clear(&self) -> bool {
        self.settings.refuses_passwords(self.channel)
    }

    fn login_step(&mut self, step: Step) {
        match step {
            Step::Challenge(login, challenge) => {
                self.say(Reply::new(334, None, challenge));
                self.state = State::Login(login);
            }
            Step::Check { user, password } => {
                let question = Question::Login(user.clone());
                self.ask(question, Event::Authenticate { user, password });
            }
            Step::Failed(answer) => self.refuse(answer),
        }
    }

    fn ask(&mut self, question: Question, event: Event) {
        self.state = State::Asked(question);
        self.events.push_back(event);
    }

    /// A refusal of our own, as against one that the driver answered with.
    fn refuse(&mut self, answer: Reply) {
        self.events.push_back(Event::Refused(answer.clone()));
        self.say(answer);
    }

    fn say(&mut self, answer: Reply) {
        words::write(&answer, &mut self.output);
        if answer.code == 421 {
            return self.shut();
        }
        if answer.class() != ReplyClass::Permanent {
            return;
        }
        self.errors += 1;
        if self.errors > self.settings.errors_max {
            self.close(reply(421, 7, 0, "too many errors"));
        }
    }

    fn shut(&mut self) {
        self.state = State::Closed;
        self.events.push_back(Event::Close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(message_bytes_max: u64) -> Session {
        let settings = Settings {
            hostname: "relay.example".to_owned(),
            message_bytes_max,
            recipients_max: 10,
            errors_max: 5,
            bare_line_ends: BareLineEnds::Reject,
            starttls: StartTls::Offered,
            auth: Auth::Offered,
            auth_in_clear: AuthInClear::Allowed,
        };
        let mut session = Session::new(Arc::new(settings), Channel::Clear);
        session.take_output();
        session
    }

    /// Says yes to everything; returns how many messages came.
    fn agree(session: &mut Session) -> usize {
        let mut messages = 0;
        while let Some(event) = session.next_event() {
            match event {
                Event::Authenticate { .. } => session.answer(reply(235, 7, 0, "yes")),
                Event::Mail(_) | Event::Rcpt(_) => session.answer(reply(250, 1, 0, "yes")),
                Event::Message(_) => {
                    messages += 1;
                    session.answer(reply(250, 0, 0, "yes"));
                }
                Event::StartTls => session.tls_started(),
                Event::Refused(_) | Event::Close => {}
            }
        }
        messages
    }

    const GROUP: &str = "EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";

    #[test]
    fn the_replies_to_a_pipelined_group_come_in_one_piece() {
        let mut session = session(1000);
        session.input(GROUP.as_bytes());
        agree(&mut session);
        let output = String::from_utf8(session.take_output()).expect("UTF-8");
        assert!(output.starts_with("250-relay.example\r\n"), "{output}");
        assert!(output.contains("\r\n354 "), "{output}");
    }

    #[test]
    fn a_body_that_outgrows_the_limit_takes_no_more_memory() {
        let mut session = session(10_000);
        session.input(GROUP.as_bytes());
        agree(&mut session);
        for _ in 0..1000 {
            session.input(&[b'x'; 1000]);
            let State::Data(data) = &session.state else {
                panic!("the data goes on");
            };
            assert!(data.capacity() <= 32_000);
        }
        session.input(b"\r\n.\r\n");
        assert_eq!(agree(&mut session), 0);
        let output = String::from_utf8(session.take_output()).expect("UTF-8");
        assert!(output.ends_with("552 5.3.4 a message may have 10000 bytes here\r\n"));
    }

    #[test]
    fn a_body_that_is_taken_out_in_parts_is_whole_and_still_has_its_limit() {
        for (limit, messages) in [(6000, 1), (5999, 0)] {
            let mut session = session(limit);
            session.input(GROUP.as_bytes());
            agree(&mut session);
            let mut taken = Vec::new();
            for _ in 0..5 {
                session.input(&[b'x'; 1000]);
                assert_eq!(session.transfer().expect("in data").held.len(), 1000);
                taken.extend(session.take_body());
            }
            session.input(&[b'y'; 998]);
            session.input(b"\r\n.\r\n");
            assert!(session.transfer().is_none() && session.take_body().is_empty());
            match session.next_event() {
                Some(Event::Message(rest)) => {
                    taken.extend(rest.body);
                    assert_eq!((taken.len(), messages), (6000, 1));
                }
                other => assert!(messages == 0, "{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_without_a_question_says_nothing() {
        let mut session = session(1000);
        session.answer(reply(250, 0, 0, "what?"));
        assert!(session.take_output().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_lead_to_the_same_replies_and_to_no_panic(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just(GROUP.as_bytes().to_vec()),
                    "(AUTH PLAIN|AUTH LOGIN YQ==|STARTTLS|RSET|text|BDAT 3|BDAT 6 LAST|BDAT 0 LAST|\\.|\\.\\.|YQ==|\\*|QUIT)\r\n".prop_map(String::into_bytes),
                    "[\r\n.]{1,3}".prop_map(String::into_bytes),
                    proptest::collection::vec(any::<u8>(), 0..30),
                ],
                0..12,
            ),
        ) {
            let bytes = pieces.concat();
            // What is dropped behind STARTTLS depends on when it comes: that is its purpose.
            prop_assume!(!bytes.windows(8).any(|w| w.eq_ignore_ascii_case(b"STARTTLS")) || pieces.len() < 2);
            let (mut whole, mut split) = (session(1000), session(1000));
            whole.input(&bytes);
            let messages = agree(&mut whole);
            let mut in_pieces = 0;
            for byte in &bytes {
                split.input(&[*byte]);
                in_pieces += agree(&mut split);
            }
            prop_assert_eq!(messages, in_pieces);
            prop_assert_eq!(whole.take_output(), split.take_output());
        }
    }
}
