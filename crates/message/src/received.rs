//! What the relay itself writes into a message that it accepts: Received, and Date and Message-ID
//! where they are missing (RFC 5321 section 4.4, RFC 6409 section 8).

use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use relay_smtp::envelope::Utf8;
use relay_smtp::{QueueId, Recipient};

/// How the message came here.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// What the client called itself in EHLO or HELO; any text.
    pub helo: &'a str,
    /// None: over a unix socket.
    pub client: Option<IpAddr>,
    /// Our own name, in A-labels.
    pub hostname: &'a str,
    pub protocol: Protocol,
    pub id: QueueId,
    /// Named in Received only if there is exactly one: the others must not see each other
    /// (RFC 5321 section 7.2).
    pub recipients: &'a [Recipient],
    pub at: Timestamp,
}

/// What stands behind WITH in Received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client said HELO.
    Smtp,
    /// The client said EHLO.
    Esmtp {
        tls: Encrypted,
        auth: LoggedIn,
        utf8: Utf8,
    },
    /// The HTTP API.
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedIn {
    Yes,
    No,
}

/// The message as it goes into the queue: Received on top, Date and Message-ID added at the end of
/// the header if they are missing, Bcc removed. No other octet is changed.
pub fn prepare(message: &[u8], trace: &Trace<'_>) -> Bytes {
    let _ = (message, trace);
    todo!()
}
