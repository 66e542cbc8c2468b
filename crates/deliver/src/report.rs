//! The DSNs that a settlement calls for: who is to be told, and about whom in one letter.

use std::borrow::Cow;

use jiff::Timestamp;
use relay_config::Config;
use relay_message::dsn::{self, Dsn, DsnInput, DsnKind, DsnRecipient};
use relay_observe::Event;
use relay_policy::Decision;
use relay_queue::{Arrival, Message, NewMessage};
use relay_smtp::envelope::{Envelope, Notify, RequireTls, Ret, Wanted};
use relay_smtp::{EnhancedStatus, Mailbox, QueueId, Recipient, ReversePath, StatusClass};

use crate::settle::{Said, Verdict};

/// One recipient that a DSN is due about.
pub(crate) struct Line<'a> {
    pub recipient: &'a Recipient,
    pub verdict: &'a Verdict,
    /// The verdict's own, or the one about expired messages.
    pub decision: &'a Decision,
    /// Of a delayed one.
    pub next_attempt: Option<Timestamp>,
    pub expires: Option<Timestamp>,
}

/// Composes DSNs about one message.
pub(crate) struct Reporter<'a> {
    pub message: &'a Message,
    /// Of its body, as [`relay_message::dsn::ORIGINAL_BYTES_MAX`] says.
    pub start: &'a [u8],
    pub config: &'a Config,
    pub now: Timestamp,
}

impl Reporter<'_> {
    /// The DSN about all of these that want it, and the copy for an operator. None: nobody wants it, or
    /// there is nobody to tell.
    pub fn dsns(
        &self,
        kind: DsnKind,
        lines: &[Line<'_>],
        new_id: &mut impl FnMut() -> QueueId,
        events: &mut Vec<Event>,
    ) -> Vec<NewMessage> {
        let all: Vec<&Line<'_>> = lines.iter().collect();
        let mut dsns = Vec::new();
        match &self.message.envelope.reverse_path {
            ReversePath::Mailbox(sender) => {
                let wanted: Vec<&Line<'_>> =
                    lines.iter().filter(|line| wants(line, kind)).collect();
                let copies_to = self.operator(&self.config.dsn.copies_to);
                if let (DsnKind::Failed, Some(operator)) = (kind, copies_to) {
                    dsns.extend(self.dsn(kind, &operator, &all, new_id(), events));
                }
                if !wanted.is_empty() {
                    dsns.extend(self.dsn(kind, sender, &wanted, new_id(), events));
                }
            }
            // Never a DSN for the null path: two servers would send them to each other for ever
            // (RFC 5321 section 4.5.5). An operator here is no such server.
            ReversePath::Null if kind == DsnKind::Failed => {
                match self.operator(&self.config.dsn.double_bounces_to) {
                    Some(operator) => {
                        dsns.extend(self.dsn(kind, &operator, &all, new_id(), events))
                    }
                    None => events.extend(lines.iter().map(|line| Event::DsnNotSent {
                        of: self.message.id,
                        recipient: line.recipient.mailbox.to_string(),
                    })),
                }
            }
            ReversePath::Null => {}
        }
        dsns
    }

    /// A configured address, unless the message was for it: what tells of an operator's own mailbox that
    /// it cannot be reached would not reach it either, for ever.
    fn operator(&self, configured: &Option<String>) -> Option<Mailbox> {
        let mailbox = Mailbox::parse(configured.as_deref()?).ok()?;
        let recipients = &self.message.envelope.recipients;
        let mut itself = recipients.iter().map(|recipient| &recipient.mailbox);
        (!itself.any(|of| *of == mailbox)).then_some(mailbox)
    }

    /// One DSN, about at least one recipient.
    fn dsn(
        &self,
        kind: DsnKind,
        to: &Mailbox,
        wanted: &[&Line<'_>],
        id: QueueId,
        events: &mut Vec<Event>,
    ) -> Option<NewMessage> {
        if wanted.is_empty() {
            return None;
        }
        let texts: Vec<String> = wanted.iter().map(|line| line.verdict.said.text()).collect();
        let recipients: Vec<DsnRecipient<'_>> = wanted
            .iter()
            .zip(&texts)
            .map(|(line, text)| self.recipient(kind, line, text))
            .collect();
        let from = self.from(to);
        let envelope = self.envelope();
        let composed = dsn::compose(&DsnInput {
            kind,
            id,
            hostname: &self.config.hostname,
            from: &from,
            to,
            now: self.now,
            original_id: self.message.id,
            original_arrived: self.message.arrival.at,
            original_envelope: &envelope,
            original: self.start,
            original_bytes: self.message.size,
            recipients: &recipients,
        });
        events.push(Event::DsnQueued {
            id,
            of: self.message.id,
            to: to.to_string(),
        });
        Some(self.new_message(id, to, composed))
    }

    /// What the letter is made by. RET=FULL does not count where the message was to be protected (RFC 8689 section 5).
    fn envelope(&self) -> Cow<'_, Envelope> {
        let envelope = &self.message.envelope;
        match envelope.require_tls {
            RequireTls::No => Cow::Borrowed(envelope),
            RequireTls::Yes => Cow::Owned(Envelope {
                ret: Some(Ret::Headers),
                ..envelope.clone()
            }),
        }
    }

    /// From `<>`, so that it never leads to another DSN.
    fn new_message(&self, id: QueueId, to: &Mailbox, composed: Dsn) -> NewMessage {
        NewMessage {
            id,
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: vec![Recipient::plain(to.clone())],
                body_type: composed.body_type,
                utf8: composed.utf8,
                // It tells as much as the message did (RFC 8689 section 5).
                require_tls: self.message.envelope.require_tls,
                // As urgent as what it is about.
                priority: self.message.envelope.priority,
                ret: None,
                envid: None,
            },
            arrival: Arrival {
                at: self.now,
                client: None,
                user: None,
                dsn_of: Some(self.message.id),
            },
            body: composed.message.into(),
        }
    }

    fn recipient<'a>(&self, kind: DsnKind, line: &Line<'a>, text: &'a str) -> DsnRecipient<'a> {
        DsnRecipient {
            recipient: line.recipient,
            status: status(kind, line.decision.status),
            last_attempt: Some(self.now),
            host: line.verdict.host.as_deref(),
            said: match line.verdict.said {
                Said::Reply(_) => dsn::Said::Reply(text),
                Said::Failure { .. } => dsn::Said::Failure(text),
            },
            rule: &line.decision.rule.name,
            explain: line.decision.rule.explain.as_deref(),
            fix: line.decision.rule.fix.as_deref(),
            next_attempt: line.next_attempt,
            expires: line.expires,
        }
    }

    /// The configured author. It was checked when the configuration was read; should it be none
    /// after all, the sender gets the letter from itself rather than not at all.
    fn from(&self, to: &Mailbox) -> Mailbox {
        Mailbox::parse(&self.config.dsn.from)
            .or_else(|_| Mailbox::parse(&format!("postmaster@{}", self.config.hostname)))
            .unwrap_or_else(|_| to.clone())
    }
}

/// NOTIFY of RFC 3461 section 4.1. Without it: failure, and delay.
fn wants(line: &Line<'_>, kind: DsnKind) -> bool {
    match (line.recipient.notify, kind) {
        (None, DsnKind::Failed | DsnKind::Delayed) => true,
        (None, DsnKind::Relayed) => false,
        (Some(Notify::Never), _) => false,
        (Some(Notify::On { failure, .. }), DsnKind::Failed) => failure == Wanted::Yes,
        (Some(Notify::On { delay, .. }), DsnKind::Delayed) => delay == Wanted::Yes,
        (Some(Notify::On { success, .. }), DsnKind::Relayed) => success == Wanted::Yes,
    }
}

/// A failed recipient's status is permanent, a delayed one's is not (RFC 3464 section 2.3.4),
/// whatever class the last reply had: 4.4.7 becomes 5.4.7 once the message has expired.
fn status(kind: DsnKind, status: EnhancedStatus) -> EnhancedStatus {
    let class = match kind {
        DsnKind::Failed => StatusClass::Permanent,
        DsnKind::Delayed => StatusClass::Transient,
        DsnKind::Relayed => StatusClass::Success,
    };
    EnhancedStatus { class, ..status }
}
