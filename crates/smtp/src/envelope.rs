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

/// REQUIRETLS of MAIL (RFC 8689 section 2): rather not delivered than without proved TLS on each hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireTls {
    #[default]
    No,
    Yes,
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Stored")]
pub struct Envelope {
    pub reverse_path: ReversePath,
    /// In the order of the RCPT commands; never empty once accepted.
    pub recipients: Vec<Recipient>,
    pub body_type: BodyType,
    pub utf8: Utf8,
    pub require_tls: RequireTls,
    pub ret: Option<Ret>,
    /// ENVID, as sent (xtext, undecoded).
    pub envid: Option<String>,
}

/// An envelope as it is written down, in the order of its fields. `needs` was `utf8` alone once: the numbers of
/// its first two variants are those that lie on disks, and no envelope without REQUIRETLS has another.
#[derive(serde::Deserialize)]
struct Stored {
    reverse_path: ReversePath,
    recipients: Vec<Recipient>,
    body_type: BodyType,
    needs: Needs,
    ret: Option<Ret>,
    envid: Option<String>,
}

/// The same without a copy.
#[derive(serde::Serialize)]
struct StoredRef<'a> {
    reverse_path: &'a ReversePath,
    recipients: &'a [Recipient],
    body_type: BodyType,
    needs: Needs,
    ret: Option<Ret>,
    envid: Option<&'a str>,
}

/// What a next host has to offer, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Needs {
    Nothing,
    Utf8,
    Tls,
    Utf8AndTls,
}

impl Needs {
    fn of(envelope: &Envelope) -> Needs {
        match (envelope.utf8, envelope.require_tls) {
            (Utf8::NotNeeded, RequireTls::No) => Needs::Nothing,
            (Utf8::Required, RequireTls::No) => Needs::Utf8,
            (Utf8::NotNeeded, RequireTls::Yes) => Needs::Tls,
            (Utf8::Required, RequireTls::Yes) => Needs::Utf8AndTls,
        }
    }

    fn apart(self) -> (Utf8, RequireTls) {
        match self {
            Needs::Nothing => (Utf8::NotNeeded, RequireTls::No),
            Needs::Utf8 => (Utf8::Required, RequireTls::No),
            Needs::Tls => (Utf8::NotNeeded, RequireTls::Yes),
            Needs::Utf8AndTls => (Utf8::Required, RequireTls::Yes),
        }
    }
}

impl From<Stored> for Envelope {
    fn from(stored: Stored) -> Envelope {
        let (utf8, require_tls) = stored.needs.apart();
        Envelope {
            reverse_path: stored.reverse_path,
            recipients: stored.recipients,
            body_type: stored.body_type,
            utf8,
            require_tls,
            ret: stored.ret,
            envid: stored.envid,
        }
    }
}

impl serde::Serialize for Envelope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = StoredRef {
            reverse_path: &self.reverse_path,
            recipients: &self.recipients,
            body_type: self.body_type,
            needs: Needs::of(self),
            ret: self.ret,
            envid: self.envid.as_deref(),
        };
        stored.serialize(serializer)
    }
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
