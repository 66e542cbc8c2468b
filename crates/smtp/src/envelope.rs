//! The envelope: what MAIL and RCPT said (RFC 5321 section 2.3.1), with the DSN parameters of
//! RFC 3461. The message itself is not here.

use crate::address::{Mailbox, ReversePath};

/// What the client promised about the body (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum BodyType {
    #[default]
    SevenBit,
    EightBitMime,
}

/// Whether MAIL carried SMTPUTF8 (RFC 6531 section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Utf8 {
    #[default]
    NotNeeded,
    Required,
}

/// RET of MAIL (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

/// NOTIFY of RCPT (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Notify {
    Never,
    /// At least one of the three is set.
    On {
        success: Wanted,
        failure: Wanted,
        delay: Wanted,
    },
}

/// Whether one kind of notification was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Wanted {
    Yes,
    No,
}

/// Who the mail is from and who gets it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    /// In the order of the RCPT commands; never empty once accepted.
    pub recipients: Vec<Recipient>,
    pub body_type: BodyType,
    pub utf8: Utf8,
    pub ret: Option<Ret>,
    /// ENVID, as sent (xtext, undecoded).
    pub envid: Option<String>,
}

/// One RCPT.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recipient {
    pub mailbox: Mailbox,
    /// None: the default of RFC 3461 section 4.1 (failure, and delay if we care to).
    pub notify: Option<Notify>,
    /// ORCPT, as sent: `rfc822;xtext`.
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    pub fn plain(mailbox: Mailbox) -> Recipient {
        Recipient {
            mailbox,
            notify: None,
            orcpt: None,
        }
    }
}
