//! A message as a line of JSON, to move it to another machine: everything that the queue knows of an
//! unfinished message. Its bytes are in the line if they are few, else in lines of pieces that follow.
//!
//! Keys are added, never renamed.

use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use jiff::Timestamp;
use relay_queue::{Arrival, Attempt, Detour, Message, RecipientState, State};
use relay_smtp::envelope::{Notify, Priority, RequireTls, Ret, Utf8, Wanted};
use relay_smtp::{BodyType, Envelope, Mailbox, QueueId, Recipient, ReversePath};
use serde::{Deserialize, Serialize};

/// A larger message is moved in pieces.
pub const WHOLE_BYTES_MAX: u64 = 256 << 10;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageLine {
    /// What it is called where it comes from.
    pub id: String,
    /// The reverse-path; `<>` for the null one.
    pub sender: String,
    pub arrived: Timestamp,
    #[serde(default)]
    pub client: Option<IpAddr>,
    #[serde(default)]
    pub user: Option<String>,
    /// The message that this DSN is about.
    #[serde(default)]
    pub dsn_of: Option<String>,
    /// BODY=8BITMIME was said.
    #[serde(default)]
    pub eight_bit: bool,
    #[serde(default)]
    pub smtputf8: bool,
    #[serde(default)]
    pub requiretls: bool,
    /// -9 to 9.
    #[serde(default)]
    pub priority: i8,
    /// RET: `full` or `headers`.
    #[serde(default)]
    pub ret: Option<String>,
    #[serde(default)]
    pub envid: Option<String>,
    pub recipients: Vec<RecipientLine>,
    /// Bytes of the message.
    pub size: u64,
    /// The message as it is, where that is plain text; else in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_base64: Option<String>,
    /// Where the message comes in pieces: the checksum (crc32c, in hexadecimal digits) of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces_checksum: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientLine {
    pub address: String,
    /// `never`, or some of `success,failure,delay`.
    #[serde(default)]
    pub notify: Option<String>,
    #[serde(default)]
    pub orcpt: Option<String>,
    /// queued, deferred, held, delivered, bounced or discarded.
    pub state: String,
    #[serde(default)]
    pub attempts: u32,
    /// None: it is due at once.
    #[serde(default)]
    pub next_attempt: Option<Timestamp>,
    /// A delayed-delivery DSN has been sent.
    #[serde(default)]
    pub warned: bool,
    /// `mx`, or a relay: the way that an operator has chosen.
    #[serde(default)]
    pub route: Option<String>,
    #[serde(default)]
    pub history: Vec<AttemptLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLine {
    pub at: Timestamp,
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub tls: Option<String>,
    pub phase: String,
    pub reply: String,
    pub category: String,
    pub action: String,
    pub rule: String,
}

/// Some bytes of the message whose line came last; as many of these lines as its size takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece_base64: Option<String>,
}

/// What every line of a piece begins with, as this program writes it.
pub const PIECE_BEGINS: &[u8] = b"{\"piece";

impl MessageLine {
    /// All that is known of a message, without its bytes.
    pub fn of(message: &Message) -> MessageLine {
        let envelope = &message.envelope;
        let mut line = MessageLine {
            id: message.id.to_string(),
            sender: envelope.reverse_path.to_string(),
            arrived: message.arrival.at,
            client: message.arrival.client,
            user: message.arrival.user.clone(),
            dsn_of: message.arrival.dsn_of.map(|id| id.to_string()),
            eight_bit: envelope.body_type == BodyType::EightBitMime,
            smtputf8: envelope.utf8 == Utf8::Required,
            requiretls: envelope.require_tls == RequireTls::Yes,
            priority: envelope.priority.level(),
            ret: envelope.ret.map(|ret| match ret {
                Ret::Full => "full".to_owned(),
                Ret::Headers => "headers".to_owned(),
            }),
            envid: envelope.envid.clone(),
            recipients: Vec::with_capacity(message.recipients.len()),
            size: 0,
            message: None,
            message_base64: None,
            pieces_checksum: None,
        };
        for (index, recipient, state) in message.each() {
            let detour = message.detours.get(&index);
            line.recipients
                .push(recipient_line(recipient, state, detour));
        }
        line
    }

    /// With these bytes.
    pub fn with_body(mut self, body: &[u8]) -> MessageLine {
        self.size = body.len() as u64;
        (self.message, self.message_base64) = written(body);
        self
    }

    /// With so many bytes in pieces that follow.
    pub fn with_pieces(mut self, size: u64, checksum: u32) -> MessageLine {
        self.size = size;
        self.pieces_checksum = Some(format!("{checksum:08x}"));
        self
    }

    /// What names it, whatever queue it is in.
    pub fn origin(&self, checksum: u32) -> String {
        format!(
            "{}/{}/{checksum:08x}",
            self.id.replace(char::is_whitespace, "_"),
            self.size
        )
    }

    /// Of a message that comes in pieces; None: it does not.
    pub fn checksum(&self) -> Result<Option<u32>, String> {
        let Some(digits) = &self.pieces_checksum else {
            return Ok(None);
        };
        match u32::from_str_radix(digits, 16) {
            Ok(checksum) => Ok(Some(checksum)),
            Err(_) => Err(format!(
                "pieces_checksum = {digits}: not a crc32c in hexadecimal"
            )),
        }
    }

    pub fn body(&self) -> Result<Bytes, String> {
        let body = read("message", &self.message, &self.message_base64)?;
        if body.len() as u64 != self.size {
            return Err(format!(
                "size = {}: the message has {} bytes; the line was changed or cut",
                self.size,
                body.len()
            ));
        }
        Ok(body)
    }

    /// The message under another id, with everything as it was.
    pub fn message(&self, id: QueueId) -> Result<Message, String> {
        if self.recipients.is_empty() {
            return Err("recipients: there are none".to_owned());
        }
        let mut envelope = Envelope {
            reverse_path: match self.sender.as_str() {
                "" | "<>" => ReversePath::Null,
                sender => ReversePath::Mailbox(mailbox("sender", sender)?),
            },
            recipients: Vec::with_capacity(self.recipients.len()),
            body_type: match self.eight_bit {
                true => BodyType::EightBitMime,
                false => BodyType::SevenBit,
            },
            utf8: match self.smtputf8 {
                true => Utf8::Required,
                false => Utf8::NotNeeded,
            },
            require_tls: match self.requiretls {
                true => RequireTls::Yes,
                false => RequireTls::No,
            },
            priority: Priority::new(self.priority)
                .ok_or_else(|| format!("priority = {}: write -9 to 9", self.priority))?,
            ret: match self.ret.as_deref() {
                None => None,
                Some("full") => Some(Ret::Full),
                Some("headers") => Some(Ret::Headers),
                Some(other) => return Err(format!("ret = {other}: write full or headers")),
            },
            envid: self.envid.clone(),
        };
        let mut recipients = Vec::with_capacity(self.recipients.len());
        let mut detours = relay_queue::Detours::new();
        for (index, line) in (0u32..).zip(&self.recipients) {
            envelope.recipients.push(Recipient {
                mailbox: mailbox("address", &line.address)?,
                notify: line.notify.as_deref().map(notify).transpose()?,
                orcpt: line.orcpt.clone(),
            });
            recipients.push(line.state(self.arrived)?);
            match line.route.as_deref() {
                None => {}
                Some("mx") => {
                    detours.insert(index, Detour::Mx);
                }
                Some(relay) => {
                    detours.insert(index, Detour::Relay(relay.to_owned()));
                }
            }
        }
        if recipients
            .iter()
            .all(|recipient| recipient.state.is_final())
        {
            return Err("recipients: all of them are finished".to_owned());
        }
        Ok(Message {
            id,
            envelope,
            arrival: Arrival {
                at: self.arrived,
                client: self.client,
                user: self.user.clone(),
                // An id of the other queue says nothing in this one, but that it is a DSN does.
                dsn_of: self.dsn_of.as_ref().map(|of| of.parse().unwrap_or(id)),
            },
            size: self.size,
            recipients,
            detours,
        })
    }
}

impl PieceLine {
    pub fn of(bytes: &[u8]) -> PieceLine {
        let (piece, piece_base64) = written(bytes);
        PieceLine {
            piece,
            piece_base64,
        }
    }

    pub fn bytes(&self) -> Result<Bytes, String> {
        read("piece", &self.piece, &self.piece_base64)
    }
}

/// Text that a person can read and search, or base 64: bytes that JSON would blow up six times are no text.
fn written(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let plain = |b: &u8| !b.is_ascii_control() || matches!(b, b'\r' | b'\n' | b'\t');
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(plain) => (Some(text.to_owned()), None),
        Ok(_) | Err(_) => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}

fn read(key: &str, text: &Option<String>, base64: &Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(text)) => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(format!("{key}_base64: {error}")),
        },
        (Some(_), Some(_)) | (None, None) => {
            Err(format!("one of {key} and {key}_base64 must be there"))
        }
    }
}

impl RecipientLine {
    fn state(&self, arrived: Timestamp) -> Result<RecipientState, String> {
        let mut state = RecipientState::new(arrived);
        state.state = STATES
            .into_iter()
            .find(|state| state.word() == self.state)
            .ok_or_else(|| format!("state = {}: not a state", self.state))?;
        state.attempts = self.attempts;
        state.next_attempt = self.next_attempt.unwrap_or(arrived);
        state.warned = self.warned;
        for attempt in self.history.iter().take(RecipientState::ATTEMPTS_KEPT) {
            state.history.push(Attempt {
                at: attempt.at,
                host: attempt.host.clone(),
                tls: attempt.tls.clone(),
                phase: attempt.phase.parse()?,
                reply: attempt.reply.clone(),
                category: attempt.category.clone(),
                action: attempt.action.clone(),
                rule: attempt.rule.clone(),
            });
        }
        Ok(state)
    }
}

const STATES: [State; 6] = [
    State::Queued,
    State::Deferred,
    State::Held,
    State::Delivered,
    State::Bounced,
    State::Discarded,
];

fn recipient_line(
    recipient: &Recipient,
    state: &RecipientState,
    detour: Option<&Detour>,
) -> RecipientLine {
    RecipientLine {
        address: recipient.mailbox.to_string(),
        notify: recipient.notify.map(notify_words),
        orcpt: recipient.orcpt.clone(),
        state: state.state.word().to_owned(),
        attempts: state.attempts,
        next_attempt: Some(state.next_attempt),
        warned: state.warned,
        route: detour.map(ToString::to_string),
        history: state.history.iter().map(attempt_line).collect(),
    }
}

fn attempt_line(attempt: &Attempt) -> AttemptLine {
    AttemptLine {
        at: attempt.at,
        host: attempt.host.clone(),
        tls: attempt.tls.clone(),
        phase: attempt.phase.word().to_owned(),
        reply: attempt.reply.clone(),
        category: attempt.category.clone(),
        action: attempt.action.clone(),
        rule: attempt.rule.clone(),
    }
}

fn notify_words(notify: Notify) -> String {
    let Notify::On {
        success,
        failure,
        delay,
    } = notify
    else {
        return "never".to_owned();
    };
    let all = [("success", success), ("failure", failure), ("delay", delay)];
    let wanted = all.into_iter().filter(|(_, wanted)| *wanted == Wanted::Yes);
    wanted.map(|(word, _)| word).collect::<Vec<_>>().join(",")
}

fn notify(words: &str) -> Result<Notify, String> {
    if words == "never" {
        return Ok(Notify::Never);
    }
    let [mut success, mut failure, mut delay] = [Wanted::No; 3];
    for word in words.split(',') {
        match word {
            "success" => success = Wanted::Yes,
            "failure" => failure = Wanted::Yes,
            "delay" => delay = Wanted::Yes,
            other => return Err(format!("notify = {other}: not a word of RFC 3461")),
        }
    }
    Ok(Notify::On {
        success,
        failure,
        delay,
    })
}

fn mailbox(key: &str, text: &str) -> Result<Mailbox, String> {
    Mailbox::parse(text).map_err(|error| format!("{key} = {text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_smtp::Phase;

    fn message() -> Message {
        let at = |ms: i64| Timestamp::from_millisecond(1_795_000_000_000 + ms).unwrap();
        let recipient = |address: &str, notify| Recipient {
            mailbox: Mailbox::parse(address).unwrap(),
            notify,
            orcpt: Some("rfc822;x+2By@example.net".to_owned()),
        };
        let on = |success, failure, delay| Notify::On {
            success,
            failure,
            delay,
        };
        let mut deferred = RecipientState::new(at(1));
        deferred.state = State::Deferred;
        deferred.warned = true;
        deferred.record(Attempt {
            at: at(2),
            host: Some("mx.example.net [192.0.2.1]".to_owned()),
            tls: Some("TLSv1.3".to_owned()),
            phase: Phase::Rcpt,
            reply: "450 4.7.1 later\nand more".to_owned(),
            category: "greylisted".to_owned(),
            action: "defer".to_owned(),
            rule: "greylist".to_owned(),
        });
        let mut delivered = deferred.clone();
        delivered.state = State::Delivered;
        let mut held = RecipientState::new(at(3));
        held.hold(at(4));
        Message {
            id: QueueId::from_u64(7 << 30),
            envelope: Envelope {
                reverse_path: ReversePath::Mailbox(Mailbox::parse("sénder@x.test").unwrap()),
                recipients: vec![
                    recipient("a@example.net", Some(Notify::Never)),
                    recipient(
                        "b@[192.0.2.1]",
                        Some(on(Wanted::Yes, Wanted::No, Wanted::Yes)),
                    ),
                    recipient("c@example.org", None),
                ],
                body_type: BodyType::EightBitMime,
                utf8: Utf8::Required,
                require_tls: RequireTls::Yes,
                priority: Priority::new(-7).unwrap(),
                ret: Some(Ret::Headers),
                envid: Some("env+20id".to_owned()),
            },
            arrival: Arrival {
                at: at(0),
                client: Some([192, 0, 2, 9].into()),
                user: Some("billing".to_owned()),
                dsn_of: Some(QueueId::from_u64(5 << 30)),
            },
            size: 0,
            recipients: vec![deferred, delivered, held],
            detours: relay_queue::Detours::from([
                (0, Detour::Relay("up.test:587".to_owned())),
                (2, Detour::Mx),
            ]),
        }
    }

    #[test]
    fn a_line_has_everything_that_the_queue_knows_and_every_byte() {
        for body in [
            &b"Subject: t\xc3\xbc\r\n\r\nplain\r\n"[..],
            b"8 bit \xff\r\n",
            b"a\0b",
            b"",
        ] {
            let mut message = message();
            message.size = body.len() as u64;
            let line = serde_json::to_string(&MessageLine::of(&message).with_body(body)).unwrap();
            assert!(!line.contains('\n'));
            let line: MessageLine = serde_json::from_str(&line).unwrap();
            assert_eq!(line.body().unwrap(), body);
            assert_eq!(line.message(message.id).unwrap(), message);
            assert_eq!(
                line.message.is_some(),
                std::str::from_utf8(body).is_ok() && body != b"a\0b"
            );
        }
    }

    #[test]
    fn a_piece_has_every_byte_and_begins_as_pieces_do() {
        for bytes in [&b"text\r\n"[..], b"\xff\0", b"half of \xc3"] {
            let line = serde_json::to_vec(&PieceLine::of(bytes)).unwrap();
            assert!(line.starts_with(PIECE_BEGINS));
            let line: PieceLine = serde_json::from_slice(&line).unwrap();
            assert_eq!(line.bytes().unwrap(), bytes);
        }
        let message = MessageLine::of(&message()).with_pieces(300_000, 0xab);
        assert_eq!(message.checksum(), Ok(Some(0xab)));
        assert_eq!(
            message.origin(0xab),
            format!("{}/300000/000000ab", message.id)
        );
    }

    #[test]
    fn a_line_that_is_no_message_is_refused_in_words() {
        let good = MessageLine::of(&message()).with_body(b"body");
        let refused = |change: &dyn Fn(&mut MessageLine)| {
            let mut line = good.clone();
            change(&mut line);
            let message = line.message(QueueId::from_u64(1)).map(|_| ());
            line.body().map(|_| ()).and(message).unwrap_err()
        };
        for (change, words) in [
            (
                &(|l: &mut MessageLine| l.size = 5) as &dyn Fn(&mut MessageLine),
                "size = 5",
            ),
            (&|l| l.message = None, "message and message_base64"),
            (&|l| l.recipients.clear(), "there are none"),
            (
                &|l| l.recipients.retain(|r| r.state == "delivered"),
                "finished",
            ),
            (&|l| l.sender = "two words".to_owned(), "sender = two words"),
            (
                &|l| l.recipients[0].state = "lost".to_owned(),
                "state = lost",
            ),
            (
                &|l| l.recipients[0].notify = Some("often".to_owned()),
                "often",
            ),
            (
                &|l| l.recipients[0].history[0].phase = "x".to_owned(),
                "phase",
            ),
        ] {
            let why = refused(change);
            assert!(why.contains(words), "{why}");
        }
    }
}
