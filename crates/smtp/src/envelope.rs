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

/// How urgent it is, from -9 to 9 (RFC 6710 section 3); 0 where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

impl Priority {
    pub const MAX: i8 = 9;

    pub const fn new(level: i8) -> Option<Priority> {
        match level {
            -9..=9 => Some(Priority(level)),
            _ => None,
        }
    }

    pub const fn level(self) -> i8 {
        self.0
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The text was no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a priority is a number from -9 to 9")]
pub struct NotAPriority;

/// As MT-PRIORITY has it: a digit, with `-` before it where it is below 0.
impl std::str::FromStr for Priority {
    type Err = NotAPriority;

    fn from_str(text: &str) -> Result<Priority, NotAPriority> {
        let level = match text.as_bytes() {
            [digit @ b'0'..=b'9'] => (digit - b'0') as i8,
            [b'-', digit @ b'1'..=b'9'] => -((digit - b'0') as i8),
            _ => return Err(NotAPriority),
        };
        Priority::new(level).ok_or(NotAPriority)
    }
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
#[serde(try_from = "Stored")]
pub struct Envelope {
    pub reverse_path: ReversePath,
    /// In the order of the RCPT commands; never empty once accepted.
    pub recipients: Vec<Recipient>,
    pub body_type: BodyType,
    pub utf8: Utf8,
    pub require_tls: RequireTls,
    pub priority: Priority,
    pub ret: Option<Ret>,
    /// ENVID, as sent (xtext, undecoded).
    pub envid: Option<String>,
}

/// An envelope as it is written down, in the order of its fields. `flags` was `utf8` alone once: its lowest bit,
/// whose two values lie on disks.
#[derive(serde::Deserialize)]
struct Stored {
    reverse_path: ReversePath,
    recipients: Vec<Recipient>,
    body_type: BodyType,
    flags: u32,
    ret: Option<Ret>,
    envid: Option<String>,
}

/// The same without a copy.
#[derive(serde::Serialize)]
struct StoredRef<'a> {
    reverse_path: &'a ReversePath,
    recipients: &'a [Recipient],
    body_type: BodyType,
    flags: u32,
    ret: Option<Ret>,
    envid: Option<&'a str>,
}

const UTF8: u32 = 1;
const REQUIRE_TLS: u32 = 2;
/// Above these the priority: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
const PRIORITY_SHIFT: u32 = 2;

/// What is written down is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} stands for no priority and no needs of an envelope")]
struct BadFlags(u32);

fn flags_of(envelope: &Envelope) -> u32 {
    let utf8 = match envelope.utf8 {
        Utf8::NotNeeded => 0,
        Utf8::Required => UTF8,
    };
    let require_tls = match envelope.require_tls {
        RequireTls::No => 0,
        RequireTls::Yes => REQUIRE_TLS,
    };
    let priority = i32::from(envelope.priority.level());
    let zigzag = ((priority << 1) ^ (priority >> 31)) as u32;
    utf8 | require_tls | zigzag << PRIORITY_SHIFT
}

impl TryFrom<Stored> for Envelope {
    type Error = BadFlags;

    fn try_from(stored: Stored) -> Result<Envelope, BadFlags> {
        let flags = stored.flags;
        let zigzag = flags >> PRIORITY_SHIFT;
        let level = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
        let level = i8::try_from(level).map_err(|_| BadFlags(flags))?;
        Ok(Envelope {
            reverse_path: stored.reverse_path,
            recipients: stored.recipients,
            body_type: stored.body_type,
            utf8: match flags & UTF8 {
                0 => Utf8::NotNeeded,
                _ => Utf8::Required,
            },
            require_tls: match flags & REQUIRE_TLS {
                0 => RequireTls::No,
                _ => RequireTls::Yes,
            },
            priority: Priority::new(level).ok_or(BadFlags(flags))?,
            ret: stored.ret,
            envid: stored.envid,
        })
    }
}

impl serde::Serialize for Envelope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = StoredRef {
            reverse_path: &self.reverse_path,
            recipients: &self.recipients,
            body_type: self.body_type,
            flags: flags_of(self),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_one_digit_and_perhaps_a_minus() {
        let level = |text: &str| text.parse::<Priority>().map(Priority::level);
        assert_eq!(
            (level("-9"), level("0"), level("9")),
            (Ok(-9), Ok(0), Ok(9))
        );
        for wrong in ["", "-", "-0", "+4", "04", "10", "-10", "high", "٣"] {
            assert_eq!(level(wrong), Err(NotAPriority), "{wrong}");
        }
        assert_eq!(Priority::new(10), None);
    }
}
