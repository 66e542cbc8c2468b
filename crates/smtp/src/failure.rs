//! A failure that never became a reply: refused connections, time-outs, DNS, TLS, our own limits.
//! It goes through the same policy table as replies do, under these names.

use std::fmt;

/// What went wrong, without the phase (which stands beside it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The domain does not exist (NXDOMAIN).
    NoSuchDomain,
    /// The domain publishes a null MX (RFC 7505).
    NullMx,
    /// The domain exists but has neither MX nor address.
    NoAddress,
    /// DNS gave no usable answer: SERVFAIL, time-out.
    DnsTrouble,
    /// We are the best MX ourselves (RFC 5321 section 5.1): delivering would loop.
    MxLoop,
    /// Connection refused.
    Refused,
    /// Network or host unreachable, or no local address to connect from.
    Unreachable,
    /// No answer within the phase's time-out.
    TimedOut,
    /// The connection ended before the reply.
    Lost,
    /// The connection ended after the final dot and before its reply: the peer may have the message.
    LostAfterBody,
    /// The peer's words are not SMTP: junk, endless lines, a reply of the wrong kind.
    Garbage,
    /// TLS is required here and the host does not offer STARTTLS.
    TlsNotOffered,
    /// The handshake failed.
    TlsHandshake,
    /// The certificate does not do for the required name.
    TlsCertificate,
    /// DANE: there may be TLSA records, and DNS does not give them out (RFC 7672 section 2.1).
    TlsaTrouble,
    /// DANE is required here, and the host has no usable TLSA records.
    TlsaMissing,
    /// DANE: the host's certificate is none that its TLSA records name.
    TlsaMismatch,
    /// MTA-STS: the domain's policy does not name the host (RFC 8461 section 4.1).
    StsHost,
    /// MTA-STS: the host's certificate does not do for its name.
    StsCertificate,
    /// The message requires proved TLS on each hop (REQUIRETLS, RFC 8689), which this host does not give.
    RequireTls,
    /// AUTH is configured for the route and the host offers none, or no mechanism that we may use.
    AuthNotOffered,
    /// The host did not prove that it knows the password (RFC 5802), or its challenge is not to be answered.
    LoginFailed,
    /// The login needs an access token, and there is none: the endpoint does not give one out.
    NoToken,
    /// The message needs SMTPUTF8 (RFC 6531) and the host does not offer it.
    Utf8NotOffered,
    /// The message is larger than the SIZE the host announced (RFC 1870).
    TooBigForHost,
    /// The message needs 8BITMIME (RFC 6152), the host does not offer it, and the message cannot be made
    /// a 7-bit one.
    CannotConvert,
    /// Our own limit: more Received headers than allowed.
    TooManyHops,
    /// The message is older than its schedule's maximum age.
    Expired,
    /// Our own limit: the address is on the suppression list.
    Suppressed,
    /// Our own limit: every source address that could reach the host is suspended there.
    SourceSuspended,
}

impl Failure {
    pub const ALL: [Failure; 30] = [
        Failure::NoSuchDomain,
        Failure::NullMx,
        Failure::NoAddress,
        Failure::DnsTrouble,
        Failure::MxLoop,
        Failure::Refused,
        Failure::Unreachable,
        Failure::TimedOut,
        Failure::Lost,
        Failure::LostAfterBody,
        Failure::Garbage,
        Failure::TlsNotOffered,
        Failure::TlsHandshake,
        Failure::TlsCertificate,
        Failure::TlsaTrouble,
        Failure::TlsaMissing,
        Failure::TlsaMismatch,
        Failure::StsHost,
        Failure::StsCertificate,
        Failure::RequireTls,
        Failure::AuthNotOffered,
        Failure::LoginFailed,
        Failure::NoToken,
        Failure::Utf8NotOffered,
        Failure::TooBigForHost,
        Failure::CannotConvert,
        Failure::TooManyHops,
        Failure::Expired,
        Failure::Suppressed,
        Failure::SourceSuspended,
    ];

    /// The word used in rules (`failure = ["refused"]`), logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Failure::NoSuchDomain => "no-such-domain",
            Failure::NullMx => "null-mx",
            Failure::NoAddress => "no-address",
            Failure::DnsTrouble => "dns-trouble",
            Failure::MxLoop => "mx-loop",
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::TimedOut => "timed-out",
            Failure::Lost => "lost",
            Failure::LostAfterBody => "lost-after-body",
            Failure::Garbage => "garbage",
            Failure::TlsNotOffered => "tls-not-offered",
            Failure::TlsHandshake => "tls-handshake",
            Failure::TlsCertificate => "tls-certificate",
            Failure::TlsaTrouble => "tlsa-trouble",
            Failure::TlsaMissing => "tlsa-missing",
            Failure::TlsaMismatch => "tlsa-mismatch",
            Failure::StsHost => "sts-host",
            Failure::StsCertificate => "sts-certificate",
            Failure::RequireTls => "requiretls",
            Failure::AuthNotOffered => "auth-not-offered",
            Failure::LoginFailed => "login-failed",
            Failure::NoToken => "no-token",
            Failure::Utf8NotOffered => "utf8-not-offered",
            Failure::TooBigForHost => "too-big-for-host",
            Failure::CannotConvert => "cannot-convert",
            Failure::TooManyHops => "too-many-hops",
            Failure::Expired => "expired",
            Failure::Suppressed => "suppressed",
            Failure::SourceSuspended => "source-suspended",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
