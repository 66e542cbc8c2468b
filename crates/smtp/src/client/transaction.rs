//! One mail transaction of the client: MAIL, RCPT, DATA, the final dot, and what became of each
//! recipient.

use super::{Chunking, Chunks, Expect, Form, Pipelining, Session, State};
use crate::address::ReversePath;
use crate::envelope::{BodyType, Notify, Priority, Recipient, RequireTls, Ret, Utf8, Wanted};
use crate::extension::{Extensions, Offered, Size};
use crate::failure::Failure;
use crate::phase::Phase;
use crate::reply::{Reply, ReplyClass};

/// What is to be sent. The message itself is the driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub reverse_path: ReversePath,
    /// Never empty.
    pub recipients: Vec<Recipient>,
    /// Bytes of the message, dots not stuffed.
    pub size: u64,
    /// What the message's bytes need.
    pub body_type: BodyType,
    /// What the message's header needs; what the addresses need is seen here.
    pub utf8: Utf8,
    /// Said to the host, which must offer it.
    pub require_tls: RequireTls,
    /// Said where it is not 0 and the host offers to hear it.
    pub priority: Priority,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered if, and only if, the phase is body and the reply positive.
    Answered {
        phase: Phase,
        reply: Reply,
        /// RCPTs of this transaction that had been accepted before this reply.
        accepted_before: u32,
    },
    Failed {
        phase: Phase,
        failure: Failure,
        words: String,
    },
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Running {
    transaction: Transaction,
    /// By recipient; None: not answered yet, or accepted and waiting for the final dot.
    outcomes: Vec<Option<Outcome>>,
    /// How many RCPTs were accepted.
    accepted: u32,
    /// How many RCPTs were sent.
    sent: usize,
    mail: Mail,
    data: Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    Open,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    NotSent,
    Sent,
    Refused,
}

/// A group of commands is written before its replies are read, so both groups and replies must fit
/// into what lies between (RFC 2920 section 3.1): a full group has about 60 commands.
const GROUP_BYTES_MAX: usize = 4096;
/// A message of so many bytes is written before any reply is read: it fits into what lies between, too.
const CHUNK_BYTES_MAX: u64 = 16 * 1024;

impl Session {
    /// Begins a transaction. Only when [`super::Step::Ready`]: on a session that has ended meanwhile it does
    /// nothing, and [`Session::take_outcomes`] stays None.
    pub fn begin(&mut self, transaction: Transaction) {
        if self.state != State::Ready {
            return;
        }
        self.outcomes = None;
        if let Some((failure, words)) = self.cannot(&transaction) {
            let outcome = Outcome::Failed {
                phase: Phase::Mail,
                failure,
                words,
            };
            self.outcomes = Some(vec![outcome; transaction.recipients.len()]);
            return;
        }
        let outcomes: Vec<Option<Outcome>> = transaction
            .recipients
            .iter()
            .map(|recipient| self.cannot_take(recipient))
            .collect();
        if outcomes.iter().all(Option::is_some) {
            self.outcomes = Some(outcomes.into_iter().flatten().collect());
            return;
        }
        let command = mail_command(&transaction, &self.extensions);
        self.say(&command, Expect::Mail);
        let mut running = Running {
            outcomes,
            transaction,
            accepted: 0,
            sent: 0,
            mail: Mail::Open,
            data: Data::NotSent,
        };
        running.pass_settled();
        self.running = Some(running);
        if self.pipelines() {
            self.say_group();
        }
    }

    /// One outcome for each recipient, in order, once the transaction has ended. A session that is
    /// over may still have them.
    pub fn take_outcomes(&mut self) -> Option<Vec<Outcome>> {
        self.outcomes.take()
    }

    /// A recipient that this host said that it cannot take; the others do not suffer for it.
    fn cannot_take(&self, recipient: &Recipient) -> Option<Outcome> {
        let unfit = recipient.mailbox.needs_utf8() && self.extensions.smtputf8 == Offered::No;
        unfit.then(|| Outcome::Failed {
            phase: Phase::Mail,
            failure: Failure::Utf8NotOffered,
            words: "the recipient's address needs SMTPUTF8 and the host does not offer it"
                .to_owned(),
        })
    }

    /// What this host said that it cannot take, for whomever.
    fn cannot(&self, transaction: &Transaction) -> Option<(Failure, String)> {
        if sender_needs_utf8(transaction) && self.extensions.smtputf8 == Offered::No {
            let words = "the message needs SMTPUTF8 and the host does not offer it".to_owned();
            return Some((Failure::Utf8NotOffered, words));
        }
        // Rather not at all than without it (RFC 8689 section 4.2.1).
        if transaction.require_tls == RequireTls::Yes && self.extensions.require_tls == Offered::No
        {
            let words = "the message needs REQUIRETLS and the host does not offer it".to_owned();
            return Some((Failure::RequireTls, words));
        }
        match self.extensions.size {
            Size::Max(max) if transaction.size > max => {
                let size = transaction.size;
                let words = format!("the message has {size} bytes, the host takes {max}");
                Some((Failure::TooBigForHost, words))
            }
            Size::Max(_) | Size::NoLimit | Size::NotOffered => None,
        }
    }

    fn pipelines(&self) -> bool {
        match self.setup.pipelining {
            Pipelining::WhereOffered => self.extensions.pipelining == Offered::Yes,
            Pipelining::Never => false,
        }
    }

    /// The next RCPTs, with DATA behind the last one: one RCPT alone where nothing is pipelined.
    fn say_group(&mut self) {
        let pipelines = self.pipelines();
        let Some(mut running) = self.running.take() else {
            return;
        };
        while let Some(recipient) = running.transaction.recipients.get(running.sent) {
            let command = rcpt_command(recipient, &self.extensions);
            self.say(&command, Expect::Rcpt(running.sent));
            running.sent += 1;
            running.pass_settled();
            if !pipelines || self.out.len() >= GROUP_BYTES_MAX {
                break;
            }
        }
        if pipelines && running.sent == running.transaction.recipients.len() {
            match self.chunk_pays(running.transaction.size) {
                Some(size) => {
                    self.say(&format!("BDAT {size} LAST"), Expect::FinalDot);
                    (self.state, self.form) = (State::WantBody, Form::Chunk);
                }
                None => self.say("DATA", Expect::Data),
            }
            running.data = Data::Sent;
        }
        self.running = Some(running);
    }

    /// The size of the one chunk that the message goes in, where it does.
    fn chunk_pays(&self, size: u64) -> Option<u64> {
        let offered = self.extensions.chunking == Offered::Yes;
        match self.setup.chunking {
            Chunking::WhereItPays if offered && size <= CHUNK_BYTES_MAX => Some(size),
            Chunking::WhereItPays | Chunking::Never => None,
        }
    }

    pub(super) fn transaction_answered(&mut self, expect: Expect, reply: Reply) {
        match (expect, reply.class()) {
            (Expect::LoneDot, _) => return self.finish(),
            (Expect::Data, ReplyClass::Intermediate) => return self.go_ahead(),
            (Expect::Data, ReplyClass::Positive) => return self.wrong(Phase::Data, &reply),
            (Expect::Data, ReplyClass::Transient | ReplyClass::Permanent) => {
                // After refused RCPTs there is nobody left whom this speaks of: a mere echo.
                self.settle_rest_with(Phase::Data, &reply);
                if let Some(running) = &mut self.running {
                    running.data = Data::Refused;
                }
            }
            (Expect::FinalDot, ReplyClass::Intermediate) => return self.wrong(Phase::Body, &reply),
            // A farewell is no word about the message (RFC 5321 section 4.2.2: 221 closes the channel).
            (Expect::FinalDot, _) if reply.code == 221 => return self.wrong(Phase::Body, &reply),
            (Expect::FinalDot, ReplyClass::Permanent) if self.is_unknown_chunk(&reply) => {
                return self.refuse_chunks(&reply);
            }
            (Expect::FinalDot, _) => {
                // The reply to the final dot speaks for all accepted recipients and for no other
                // (RFC 5321 section 4.2.5).
                self.settle_rest_with(Phase::Body, &reply);
                return match (self.form, reply.class()) {
                    // Only DATA's end is the transaction's, too: a server that has refused BDAT, for want of
                    // recipients above all, may wait for the next one.
                    (Form::Chunk, ReplyClass::Transient | ReplyClass::Permanent) => self.reset(),
                    (Form::Dots | Form::Chunk, _) => self.finish(),
                };
            }
            (Expect::Mail, ReplyClass::Intermediate) => return self.wrong(Phase::Mail, &reply),
            (Expect::Mail, ReplyClass::Positive) => {}
            (Expect::Mail, ReplyClass::Transient | ReplyClass::Permanent) => {
                self.settle_rest_with(Phase::Mail, &reply);
                if let Some(running) = &mut self.running {
                    running.mail = Mail::Refused;
                }
            }
            (Expect::Rcpt(_), ReplyClass::Intermediate) => return self.wrong(Phase::Rcpt, &reply),
            (Expect::Rcpt(index), class) => self.rcpt_answered(index, class, reply),
            (
                Expect::Banner
                | Expect::Ehlo
                | Expect::Helo
                | Expect::Starttls
                | Expect::Auth(_)
                | Expect::Rset
                | Expect::Quit,
                _,
            ) => unreachable!("answered outside transactions"),
        }
        if self.pending.is_empty() {
            self.go_on();
        }
    }

    /// 500 to 504 speak of the command and not of the message (RFC 5321 section 4.2.1), where there is
    /// somebody whom it is for.
    fn is_unknown_chunk(&self, reply: &Reply) -> bool {
        let for_somebody = self
            .running
            .as_ref()
            .is_some_and(|running| running.accepted > 0);
        self.form == Form::Chunk && for_somebody && (500..=504).contains(&reply.code)
    }

    /// Bouncing would blame the message for what the host has offered. The session is over: such a host has
    /// taken the chunk for commands, and answers each line of it.
    fn refuse_chunks(&mut self, reply: &Reply) {
        self.chunks = Chunks::Refused;
        let words = format!("the host offers CHUNKING and refuses BDAT: {reply}");
        self.break_off(Phase::Data, Failure::Garbage, words);
    }

    fn rcpt_answered(&mut self, index: usize, class: ReplyClass, reply: Reply) {
        let Some(running) = &mut self.running else {
            return;
        };
        // Behind a refused MAIL the replies to RCPT are echoes.
        if running.mail == Mail::Refused {
            return;
        }
        // 250, 251 "will forward" and 252 "cannot verify" all take the recipient over (RFC 5321
        // section 3.4 and 3.5.3); what counts is the first digit.
        if class == ReplyClass::Positive {
            running.accepted += 1;
            return;
        }
        let accepted_before = running.accepted;
        if let Some(outcome) = running.outcomes.get_mut(index) {
            *outcome = Some(Outcome::Answered {
                phase: Phase::Rcpt,
                reply,
                accepted_before,
            });
        }
    }

    /// All that was sent has been answered: the next command.
    fn go_on(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        let unsent = running.sent < running.transaction.recipients.len();
        match (running.mail, running.data) {
            (Mail::Refused, _) | (Mail::Open, Data::Refused) => self.reset(),
            (Mail::Open, Data::NotSent) if unsent => self.say_group(),
            (Mail::Open, Data::NotSent) if running.accepted == 0 => self.reset(),
            (Mail::Open, Data::NotSent) => {
                running.data = Data::Sent;
                self.say("DATA", Expect::Data);
            }
            (Mail::Open, Data::Sent) => {
                unreachable!("the replies to DATA and to the dots are handled where they come in")
            }
        }
    }

    /// The 354.
    fn go_ahead(&mut self) {
        let wanted = self
            .running
            .as_ref()
            .is_some_and(|running| running.outcomes.iter().any(Option::is_none));
        if wanted {
            (self.state, self.form) = (State::WantBody, Form::Dots);
        } else {
            // DATA was pipelined behind RCPTs that all failed, and the server took it: an empty
            // message to nobody (RFC 2920 section 3.1).
            self.say(".", Expect::LoneDot);
        }
    }

    /// No final dot was sent: the server may hold half a transaction. RSET comes at once and not
    /// before the next MAIL, so that what is wrong with it can touch no message.
    fn reset(&mut self) {
        self.finish();
        self.say("RSET", Expect::Rset);
    }

    pub(super) fn finish(&mut self) {
        if let Some(running) = self.running.take() {
            let missing = || Outcome::Failed {
                phase: Phase::Rcpt,
                failure: Failure::Garbage,
                words: "the recipient was not answered".to_owned(),
            };
            let outcomes = running.outcomes.into_iter();
            self.outcomes = Some(
                outcomes
                    .map(|outcome| outcome.unwrap_or_else(missing))
                    .collect(),
            );
        }
        self.state = State::Ready;
    }

    /// Everyone who has no outcome yet gets this reply. What was refused before stays refused.
    pub(super) fn settle_rest_with(&mut self, phase: Phase, reply: &Reply) {
        let Some(running) = &mut self.running else {
            return;
        };
        let accepted_before = running.accepted;
        running.settle_rest(&Outcome::Answered {
            phase,
            reply: reply.clone(),
            accepted_before,
        });
    }

    /// The session breaks off: everyone who has no outcome yet gets this failure.
    pub(super) fn abandon(&mut self, outcome: &Outcome) {
        if let Some(running) = &mut self.running {
            running.settle_rest(outcome);
        }
    }
}

impl Running {
    /// Recipients that are not to be asked for.
    fn pass_settled(&mut self) {
        while let Some(Some(_)) = self.outcomes.get(self.sent) {
            self.sent += 1;
        }
    }

    fn settle_rest(&mut self, outcome: &Outcome) {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
    }
}

/// The header or the sender's address.
fn sender_needs_utf8(transaction: &Transaction) -> bool {
    let sender = match &transaction.reverse_path {
        ReversePath::Null => false,
        ReversePath::Mailbox(mailbox) => mailbox.needs_utf8(),
    };
    transaction.utf8 == Utf8::Required || sender
}

fn needs_utf8(transaction: &Transaction) -> bool {
    let mut recipients = transaction.recipients.iter();
    sender_needs_utf8(transaction) || recipients.any(|recipient| recipient.mailbox.needs_utf8())
}

fn mail_command(transaction: &Transaction, extensions: &Extensions) -> String {
    let mut command = match &transaction.reverse_path {
        ReversePath::Null => "MAIL FROM:<>".to_owned(),
        ReversePath::Mailbox(mailbox) => format!("MAIL FROM:<{}>", mailbox.to_wire()),
    };
    if extensions.size != Size::NotOffered {
        command += &format!(" SIZE={}", transaction.size);
    }
    // Where 8BITMIME is not offered the driver has converted the message; what it could not convert in the
    // header is sent as it is.
    match (transaction.body_type, extensions.eight_bit_mime) {
        (BodyType::EightBitMime, Offered::Yes) => command += " BODY=8BITMIME",
        (BodyType::EightBitMime, Offered::No) | (BodyType::SevenBit, _) => {}
    }
    if needs_utf8(transaction) && extensions.smtputf8 == Offered::Yes {
        command += " SMTPUTF8";
    }
    if transaction.require_tls == RequireTls::Yes {
        command += " REQUIRETLS";
    }
    if transaction.priority != Priority::default() && extensions.mt_priority == Offered::Yes {
        command += &format!(" MT-PRIORITY={}", transaction.priority);
    }
    if extensions.dsn == Offered::Yes {
        match transaction.ret {
            Some(Ret::Full) => command += " RET=FULL",
            Some(Ret::Headers) => command += " RET=HDRS",
            None => {}
        }
        if let Some(envid) = sayable(transaction.envid.as_deref()) {
            command += &format!(" ENVID={envid}");
        }
    }
    command
}

fn rcpt_command(recipient: &Recipient, extensions: &Extensions) -> String {
    let mut command = format!("RCPT TO:<{}>", recipient.mailbox.to_wire());
    if extensions.dsn == Offered::No {
        return command;
    }
    match recipient.notify {
        None => {}
        Some(Notify::Never) => command += " NOTIFY=NEVER",
        Some(Notify::On {
            success,
            failure,
            delay,
        }) => {
            let wanted = [("SUCCESS", success), ("FAILURE", failure), ("DELAY", delay)];
            let words: Vec<&str> = wanted
                .iter()
                .filter(|(_, wanted)| *wanted == Wanted::Yes)
                .map(|(word, _)| *word)
                .collect();
            if !words.is_empty() {
                command += &format!(" NOTIFY={}", words.join(","));
            }
        }
    }
    if let Some(orcpt) = sayable(recipient.orcpt.as_deref()) {
        command += &format!(" ORCPT={orcpt}");
    }
    command
}

/// A parameter's value that cannot break out of its command line (RFC 5321 section 4.1.2: esmtp-value).
fn sayable(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()))
}
