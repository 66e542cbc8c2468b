//! The server's words: the banner, the EHLO reply, and how a reply is put on the wire.

use super::{Auth, Channel, Settings, StartTls};
use crate::reply::Reply;
use crate::status::{EnhancedStatus, StatusClass};

pub(super) const HELP: &str =
    "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS AUTH QUIT; RFC 5321 has the rest";

/// A one-line reply whose enhanced code has the class of its basic code (RFC 2034 section 4).
/// `code` is 2yz, 4yz or 5yz; a 3yz gets no enhanced code.
pub fn reply(code: u16, subject: u16, detail: u16, text: impl Into<String>) -> Reply {
    let class = match code / 100 {
        2 => Some(StatusClass::Success),
        4 => Some(StatusClass::Transient),
        5 => Some(StatusClass::Permanent),
        _ => None,
    };
    let enhanced = class.map(|class| EnhancedStatus::new(class, subject, detail));
    Reply::new(code, enhanced, text)
}

/// Without an enhanced code, as RFC 2034 section 4 wants it for the banner and EHLO.
pub(super) fn banner(hostname: &str) -> Reply {
    Reply::new(220, None, format!("{hostname} ESMTP relayd"))
}

/// What is offered now: one row an extension, so that an extension that is built adds a row.
pub(super) fn ehlo(settings: &Settings, channel: Channel) -> Reply {
    let mut lines = vec![
        settings.hostname.clone(),
        "PIPELINING".to_owned(),
        format!("SIZE {}", settings.message_bytes_max),
        "8BITMIME".to_owned(),
        "SMTPUTF8".to_owned(),
        "DSN".to_owned(),
        "CHUNKING".to_owned(),
        // RFC 9422. MAILMAX is not said: a session may bring any number of messages.
        format!("LIMITS RCPTMAX={}", settings.recipients_max),
        "ENHANCEDSTATUSCODES".to_owned(),
        "MT-PRIORITY".to_owned(),
    ];
    // Not under TLS (RFC 3207 section 4.2).
    match (settings.starttls, channel) {
        (StartTls::Offered, Channel::Clear) => lines.push("STARTTLS".to_owned()),
        (StartTls::Offered | StartTls::NotOffered, _) => {}
    }
    match settings.auth {
        Auth::Offered | Auth::Required if !settings.refuses_passwords(channel) => {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        Auth::Offered | Auth::Required | Auth::NotOffered => {}
    }
    // Only where the client can keep to it itself (RFC 8689 section 2).
    if channel == Channel::Tls {
        lines.push("REQUIRETLS".to_owned());
    }
    lines.push("HELP".to_owned());
    Reply {
        code: 250,
        enhanced: None,
        lines,
    }
}

/// Appends the reply as it goes on the wire, the enhanced code on every line. Control characters
/// in a text, which could end the line early, become spaces.
pub(super) fn write(reply: &Reply, out: &mut Vec<u8>) {
    let last = reply.lines.len().saturating_sub(1);
    for (place, text) in reply.lines.iter().enumerate() {
        let separator = if place == last { ' ' } else { '-' };
        out.extend_from_slice(format!("{}{separator}", reply.code).as_bytes());
        if let Some(enhanced) = reply.enhanced {
            out.extend_from_slice(format!("{enhanced} ").as_bytes());
        }
        let clean = text.replace(char::is_control, " ");
        out.extend_from_slice(clean.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// A reply said outside of a session, to a client that is turned away.
pub fn wire_form(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    write(reply, &mut out);
    out
}
