//! A mail transaction: MAIL, RCPT, DATA and the body, in this order (RFC 5321 section 3.3).

use super::chunks::{Came, Chunks};
use super::{Auth, Channel, Event, Incoming, Question, Session, State, reply};
use crate::address::{Mailbox, ReversePath};
use crate::chunk::{Ended, Unchunker};
use crate::command::{Chunk, ChunkPlace, ForwardPath, Mail, Rcpt};
use crate::data::{BareLineEnds, Progress, Unstuffer};
use crate::envelope::{Envelope, Recipient, RequireTls, Utf8};
use crate::reply::Reply;

/// After MAIL was granted.
#[derive(Debug)]
pub(super) struct Transaction {
    mail: Mail,
    /// In the order of the RCPT commands.
    pub(super) recipients: Vec<Recipient>,
    pub(super) chunks: Chunks,
}

/// After 354, or from the first chunk on.
#[derive(Debug)]
pub(super) struct Data {
    reader: Reader,
    body: Vec<u8>,
    /// Octets that the driver has taken out.
    taken: u64,
    size: BodySize,
}

/// How its end is known.
#[derive(Debug)]
enum Reader {
    Dots(Unstuffer),
    Chunks {
        unchunker: Unchunker,
        /// Octets of the present chunk that have not come.
        left: u64,
        place: ChunkPlace,
    },
}

/// What one piece led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// How many octets of the piece belong to the message.
    pub(super) used: usize,
    pub(super) came: Came,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodySize {
    Fits,
    /// What comes is read and dropped, up to its end.
    TooLarge,
}

/// A client's word for the size reserves no more memory than this; beyond it the body grows as it comes.
const RESERVED_MAX: u64 = 256 * 1024;

impl Session {
    pub(super) fn mail(&mut self, mail: Mail) {
        match self.check_mail(&mail) {
            Some(wrong) => self.refuse(wrong),
            None => self.ask(Question::Mail(mail.clone()), Event::Mail(mail)),
        }
    }

    fn check_mail(&self, mail: &Mail) -> Option<Reply> {
        if self.hello.is_none() {
            return Some(reply(503, 5, 1, "send EHLO first"));
        }
        if self.settings.auth == Auth::Required && self.user.is_none() {
            return Some(self.login_wanted());
        }
        if self.transaction.is_some() {
            return Some(reply(503, 5, 1, "a mail transaction is open; RSET ends it"));
        }
        if mail.require_tls == RequireTls::Yes && self.channel == Channel::Clear {
            return Some(reply(
                530,
                7,
                10,
                "REQUIRETLS needs TLS from the first hop on",
            ));
        }
        let max = self.settings.message_bytes_max;
        if mail.size.is_some_and(|size| size > max) {
            return Some(too_large(max));
        }
        match &mail.reverse_path {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => check_utf8(mailbox, mail.utf8),
        }
    }

    /// RFC 4954 section 6; where a password may not be said in clear, the way to TLS is shown.
    pub(super) fn login_wanted(&self) -> Reply {
        if self.password_in_clear() {
            return reply(530, 7, 0, "log in first: STARTTLS, then AUTH");
        }
        reply(530, 7, 0, "log in first: AUTH")
    }

    pub(super) fn rcpt(&mut self, rcpt: Rcpt) {
        match self.check_rcpt(rcpt) {
            Err(wrong) => self.refuse(wrong),
            Ok(recipient) => {
                self.ask(Question::Rcpt(recipient.clone()), Event::Rcpt(recipient));
            }
        }
    }

    fn check_rcpt(&self, rcpt: Rcpt) -> Result<Recipient, Reply> {
        let Some(transaction) = &self.transaction else {
            return Err(reply(503, 5, 1, "send MAIL first"));
        };
        if transaction.message_has_begun() {
            return Err(reply(
                503,
                5,
                1,
                "the message has begun; RSET, and begin anew",
            ));
        }
        // 452 and not 552: the client sends the rest in a next transaction (RFC 5321 section 4.5.3.1.10).
        if transaction.recipients.len() >= self.settings.recipients_max {
            return Err(reply(452, 5, 3, "too many recipients, send the rest apart"));
        }
        let mailbox = match rcpt.forward_path {
            ForwardPath::Mailbox(mailbox) => mailbox,
            ForwardPath::Postmaster => {
                let here = format!("postmaster@{}", self.settings.hostname);
                Mailbox::parse(&here)
                    .map_err(|_| reply(550, 1, 1, "no postmaster without a domain here"))?
            }
        };
        match check_utf8(&mailbox, transaction.mail.utf8) {
            Some(wrong) => Err(wrong),
            None => Ok(Recipient {
                mailbox,
                notify: rcpt.notify,
                orcpt: rcpt.orcpt,
            }),
        }
    }

    pub(super) fn data(&mut self) {
        let max = self.settings.message_bytes_max;
        let data = match &self.transaction {
            None => Err(reply(503, 5, 1, "send MAIL first")),
            // RFC 3030 section 2
            Some(transaction) if transaction.message_has_begun() => Err(reply(
                503,
                5,
                1,
                "BDAT has begun, and is not mixed with DATA",
            )),
            // A client that pipelines sends DATA before it knows (RFC 2920 section 3.1).
            Some(transaction) if transaction.recipients.is_empty() => {
                Err(reply(554, 5, 1, "no recipient was accepted"))
            }
            Some(transaction) => Ok(Data::new(
                &transaction.mail,
                max,
                self.settings.bare_line_ends,
            )),
        };
        match data {
            Err(wrong) => self.refuse(wrong),
            Ok(data) => {
                self.say(Reply::new(354, None, "go ahead, end with <CRLF>.<CRLF>"));
                let pipelined = self.lines.take_rest();
                self.state = State::Data(data);
                self.input(&pipelined);
            }
        }
    }

    /// The final dot has been read.
    pub(super) fn end_of_data(&mut self, progress: Progress) {
        let state = std::mem::replace(&mut self.state, State::Command);
        let (State::Data(data), Some(transaction), Some(hello)) =
            (state, self.transaction.take(), self.hello.clone())
        else {
            unreachable!("data begins only inside a transaction, and that only after a hello");
        };
        match (data.size, progress) {
            (BodySize::TooLarge, _) => self.refuse(too_large(self.settings.message_bytes_max)),
            (BodySize::Fits, Progress::EndedWithBareLineEnd) => {
                let text = "the message has a CR or LF that is not part of a CRLF line end";
                self.refuse(reply(554, 6, 0, text));
            }
            (BodySize::Fits, Progress::Ended | Progress::More) => {
                let message = Incoming {
                    envelope: transaction.envelope(),
                    body: data.body,
                    hello,
                };
                self.ask(Question::Message, Event::Message(message));
            }
        }
    }
}

impl Transaction {
    pub(super) fn new(mail: Mail) -> Transaction {
        Transaction {
            mail,
            recipients: Vec::new(),
            chunks: Chunks::NotBegun,
        }
    }

    pub(super) fn utf8(&self) -> Utf8 {
        self.mail.utf8
    }

    fn message_has_begun(&self) -> bool {
        !matches!(self.chunks, Chunks::NotBegun)
    }

    fn envelope(self) -> Envelope {
        Envelope {
            reverse_path: self.mail.reverse_path,
            recipients: self.recipients,
            body_type: self.mail.body_type.unwrap_or_default(),
            utf8: self.mail.utf8,
            require_tls: self.mail.require_tls,
            priority: self.mail.priority.unwrap_or_default(),
            ret: self.mail.ret,
            envid: self.mail.envid,
        }
    }
}

impl Data {
    fn new(mail: &Mail, max: u64, bare_line_ends: BareLineEnds) -> Data {
        let expected = mail.size.unwrap_or(0).min(max).min(RESERVED_MAX);
        Data {
            reader: Reader::Dots(Unstuffer::new(bare_line_ends)),
            body: Vec::with_capacity(usize::try_from(expected).unwrap_or(0)),
            taken: 0,
            size: BodySize::Fits,
        }
    }

    pub(super) fn in_chunks(bare_line_ends: BareLineEnds) -> Data {
        Data {
            reader: Reader::Chunks {
                unchunker: Unchunker::new(bare_line_ends),
                left: 0,
                place: ChunkPlace::Before,
            },
            body: Vec::new(),
            taken: 0,
            size: BodySize::Fits,
        }
    }

    pub(super) fn begin_chunk(&mut self, chunk: Chunk) {
        if let Reader::Chunks { left, place, .. } = &mut self.reader {
            (*left, *place) = (chunk.bytes, chunk.place);
        }
    }

    /// Whether a message of these and what has come is too large.
    pub(super) fn would_outgrow(&self, more: u64, max: u64) -> bool {
        self.is_too_large() || (self.taken + self.body.len() as u64).saturating_add(more) > max
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.size == BodySize::TooLarge
    }

    pub(super) fn held(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.taken += self.body.len() as u64;
        std::mem::take(&mut self.body)
    }

    /// The memory it takes, in octets.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.body.capacity()
    }

    /// Takes bytes of the body; what is beyond `max` is looked through for the end and dropped.
    pub(super) fn feed(&mut self, bytes: &[u8], max: u64) -> Fed {
        let fed = self.reader.feed(bytes, &mut self.body);
        if self.taken + self.body.len() as u64 > max {
            self.size = BodySize::TooLarge;
        }
        if self.size == BodySize::TooLarge {
            self.body = Vec::new();
        }
        fed
    }
}

impl Reader {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Fed {
        match self {
            Reader::Dots(unstuffer) => {
                let fed = unstuffer.feed(bytes, out);
                let came = match fed.progress {
                    Progress::More => Came::More,
                    progress @ (Progress::Ended | Progress::EndedWithBareLineEnd) => {
                        Came::Whole(progress)
                    }
                };
                Fed {
                    used: fed.used,
                    came,
                }
            }
            Reader::Chunks {
                unchunker,
                left,
                place,
            } => {
                let used = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                unchunker.feed(bytes.get(..used).unwrap_or_default(), out);
                *left -= used as u64;
                let came = match (*left, *place) {
                    (1.., _) => Came::More,
                    (0, ChunkPlace::Before) => Came::Chunk,
                    (0, ChunkPlace::Last) => Came::Whole(match unchunker.end(out) {
                        Ended::Well => Progress::Ended,
                        Ended::WithBareLineEnd => Progress::EndedWithBareLineEnd,
                    }),
                };
                Fed { used, came }
            }
        }
    }
}

/// RFC 1870 section 6
pub(super) fn too_large(max: u64) -> Reply {
    reply(552, 3, 4, format!("a message may have {max} bytes here"))
}

/// An address beyond ASCII is fine only where MAIL said SMTPUTF8 (RFC 6531 section 3.5).
fn check_utf8(mailbox: &Mailbox, utf8: Utf8) -> Option<Reply> {
    match utf8 {
        Utf8::NotNeeded if !mailbox.to_string().is_ascii() => Some(reply(
            553,
            6,
            7,
            "an address beyond ASCII needs SMTPUTF8 at MAIL",
        )),
        Utf8::NotNeeded | Utf8::Required => None,
    }
}
