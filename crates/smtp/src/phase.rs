//! Where in a delivery something happened: the scope of a decision hangs on it.

use std::fmt;
use std::str::FromStr;

/// A stage of one delivery attempt, in the order in which an attempt passes them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Finding the next hop's hosts: MX, A, AAAA. Speaks of the recipient's domain.
    Dns,
    /// The TCP connection. Speaks of the host.
    Connect,
    /// The greeting (RFC 5321 section 3.1). Speaks of the host.
    Banner,
    /// EHLO or HELO. Speaks of the host.
    Ehlo,
    /// STARTTLS and the handshake (RFC 3207). Speaks of the connection.
    Starttls,
    /// AUTH (RFC 4954). Speaks of the route.
    Auth,
    /// MAIL FROM. Speaks of the sender or of our address.
    Mail,
    /// RCPT TO. Speaks of the recipient.
    Rcpt,
    /// DATA, before the 354. Speaks of the message.
    Data,
    /// The final dot. Speaks of the message; its reply settles every accepted recipient.
    Body,
    /// RSET and QUIT. Never touches a message.
    Quit,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 11] = [
        Phase::Dns,
        Phase::Connect,
        Phase::Banner,
        Phase::Ehlo,
        Phase::Starttls,
        Phase::Auth,
        Phase::Mail,
        Phase::Rcpt,
        Phase::Data,
        Phase::Body,
        Phase::Quit,
    ];

    /// The word used in rules, logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Dns => "dns",
            Phase::Connect => "connect",
            Phase::Banner => "banner",
            Phase::Ehlo => "ehlo",
            Phase::Starttls => "starttls",
            Phase::Auth => "auth",
            Phase::Mail => "mail",
            Phase::Rcpt => "rcpt",
            Phase::Data => "data",
            Phase::Body => "body",
            Phase::Quit => "quit",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        Phase::ALL
            .into_iter()
            .find(|phase| phase.word() == text)
            .ok_or_else(|| {
                let words: Vec<&str> = Phase::ALL.iter().map(|phase| phase.word()).collect();
                format!("{text:?} is no phase; write one of {}", words.join(", "))
            })
    }
}
