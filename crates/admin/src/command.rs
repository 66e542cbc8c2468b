//! Taking over a message from the operator.

use bytes::Bytes;
use relay_message::received::{self, Protocol, Trace};
use relay_observe::Event;
use relay_queue::{Arrival, NewMessage};
use relay_smtp::envelope::{RequireTls, Utf8};
use relay_smtp::{BodyType, Envelope, Mailbox, Recipient, ReversePath};

use crate::error::ApiError;
use crate::view::Submitted;
use crate::world::AdminWorld;

/// What `relayctl send` says besides the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Empty or `<>`: the null reverse-path.
    pub from: String,
    pub to: Vec<String>,
}

impl Addresses {
    /// From a query: one `from`, any number of `to`.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<Addresses, ApiError> {
        let mut addresses = Addresses::default();
        for (key, value) in pairs {
            match key.as_str() {
                "from" => addresses.from = value,
                "to" => addresses.to.push(value),
                _ => return Err(ApiError::Bad(format!("{key}: not a key of this query"))),
            }
        }
        Ok(addresses)
    }

    fn envelope(&self, body: &[u8]) -> Result<Envelope, ApiError> {
        let mailbox = |text: &str| {
            Mailbox::parse(text).map_err(|error| ApiError::Bad(format!("{text}: {error}")))
        };
        let reverse_path = match self.from.as_str() {
            "" | "<>" => ReversePath::Null,
            from => ReversePath::Mailbox(mailbox(from)?),
        };
        let mut recipients = Vec::with_capacity(self.to.len());
        for to in &self.to {
            recipients.push(Recipient::plain(mailbox(to)?));
        }
        if recipients.is_empty() {
            return Err(ApiError::Bad("to: missing; give a recipient".to_owned()));
        }
        let sender_utf8 = match &reverse_path {
            ReversePath::Null => false,
            ReversePath::Mailbox(mailbox) => mailbox.needs_utf8(),
        };
        let needs_utf8 = sender_utf8 || recipients.iter().any(|r| r.mailbox.needs_utf8());
        Ok(Envelope {
            reverse_path,
            recipients,
            body_type: if body.is_ascii() {
                BodyType::SevenBit
            } else {
                BodyType::EightBitMime
            },
            utf8: if needs_utf8 {
                Utf8::Required
            } else {
                Utf8::NotNeeded
            },
            require_tls: RequireTls::No,
            priority: Default::default(),
            ret: None,
            envid: None,
        })
    }
}

/// Takes a message over as a listener would: durable before it is answered.
pub async fn submit(
    world: &AdminWorld,
    addresses: &Addresses,
    body: Bytes,
) -> Result<Submitted, ApiError> {
    let config = world.config.load_full();
    let mut envelope = addresses.envelope(&body)?;
    let body = with_crlf(&body);
    if let Some(priority) = received::wanted_priority(&body).map_err(ApiError::Bad)? {
        envelope.priority = priority;
    }
    if envelope.recipients.len() > config.submission.recipients_max as usize {
        return Err(ApiError::Bad(format!(
            "to: more than {} recipients; send several messages",
            config.submission.recipients_max
        )));
    }
    let id = world.store.next_id();
    let at = world.clock.now();
    let trace = Trace {
        helo: "relayctl",
        client: None,
        hostname: &config.hostname,
        protocol: Protocol::Http,
        id,
        recipients: &envelope.recipients,
        at,
    };
    let body = received::prepare(&body, &trace);
    let recipients: Vec<String> = envelope
        .recipients
        .iter()
        .map(|recipient| recipient.mailbox.to_string())
        .collect();
    let count = recipients.len() as u64;
    let sender = envelope.reverse_path.to_string();
    let new = NewMessage {
        id,
        envelope,
        arrival: Arrival {
            at,
            client: None,
            user: None,
            dsn_of: None,
        },
        body: body.into(),
    };
    let message = world.store.accept(new).await?;
    let size = message.size;
    world.events.emit(Event::MessageAccepted {
        id,
        client: None,
        user: None,
        sender,
        recipients,
        size,
    });
    world.dispatcher.enqueue(message).await;
    Ok(Submitted {
        id: id.to_string(),
        recipients: count,
        size,
    })
}

/// Files on disk end their lines with LF; the wire wants CRLF and nothing else (RFC 5321
/// section 2.3.8).
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_becomes_crlf() {
        assert_eq!(
            with_crlf(b"a\nb\r\nc\rd\r\r\n"),
            b"a\r\nb\r\nc\r\nd\r\n\r\n"
        );
    }

    #[test]
    fn an_envelope_needs_recipients_and_addresses_that_are_some() {
        let addresses = |to: &[&str]| Addresses {
            from: String::new(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
        };
        assert!(addresses(&[]).envelope(b"").is_err());
        assert!(addresses(&["nonsense"]).envelope(b"").is_err());
        let envelope = addresses(&["a@example.com"])
            .envelope("ä".as_bytes())
            .unwrap();
        assert_eq!(envelope.reverse_path, ReversePath::Null);
        assert_eq!(envelope.body_type, BodyType::EightBitMime);
    }
}
