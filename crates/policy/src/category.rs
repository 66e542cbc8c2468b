//! The categories: why a delivery went as it did, in the words that rules, logs, `queue show` and
//! JSON use. What follows from a category is a rule's business, not this file's.

use std::fmt;
use std::str::FromStr;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// 2xx; also 251/252 (accepted, will forward / not verified).
    Success,
    /// The mailbox does not exist or its syntax is wrong.
    InvalidRecipient,
    /// Mailbox exists but is closed, suspended, inactive.
    RecipientDisabled,
    /// Moved away, 551, X.1.6.
    RecipientMoved,
    /// This recipient (or list owner) does not want this sender: personal block list, restricted group.
    RecipientRefuses,
    /// Receiver could not (yet) verify the address: callout in progress.
    RecipientUnverified,
    /// This mailbox gets mail too fast.
    RecipientRateLimited,
    /// Mailbox over quota.
    MailboxFull,
    /// Recipient domain does not exist / cannot be routed.
    BadDomain,
    /// Null MX, 521, 556, tenant without mail.
    DomainNotAccepting,
    /// Temporary DNS or directory trouble.
    DnsFailure,
    /// TCP refused, timed out, unreachable; local pseudo codes 101/111/420/441.
    NoAnswer,
    /// Session broke, server timed out us.
    BadConnection,
    /// 421/45x/554 "service not available", shutdown, load, no reason given.
    ServiceUnavailable,
    /// Internal fault of the receiver (queue write, config, LDAP, replication).
    SystemError,
    /// Disk/memory of the receiving system exhausted.
    SystemFull,
    /// Too many hops.
    RoutingLoop,
    /// Come back later, first contact.
    Greylisted,
    /// Our IP/domain/account sends too fast for this site.
    RateLimited,
    /// Too many parallel/new connections or TLS sessions.
    TooManyConnections,
    /// Max messages/commands/time per connection reached.
    SessionLimit,
    /// RCPT limit per transaction, mixed destination domains, 4.5.3.
    TooManyRecipients,
    /// Our account/tenant at a smarthost or provider used up its daily/hourly quota.
    SenderQuota,
    /// Our IP/net is on a block list or barred by policy (DNSBL, S3140/S3150, TSS09, dynamic range).
    IpBlocked,
    /// Low reputation or complaints about our IP/domain/URL (TSS04, 4.7.650, S775, DBL).
    BadReputation,
    /// This message is judged spam.
    SpamContent,
    /// Message carries malware.
    Virus,
    /// Forbidden attachment/MIME/charset, cannot convert.
    ContentRejected,
    /// Violates RFC 5322/5321 (headers, bare LF, line length).
    MessageMalformed,
    /// Size limits (message, header, attachment count).
    MessageTooBig,
    /// Unspecified or administrator policy.
    PolicyRejected,
    /// MAIL FROM / From domain unresolvable, blocked, not owned by the account, callout failed.
    SenderRejected,
    /// SPF/DKIM/DMARC/ARC failure or missing.
    AuthFailed,
    /// PTR / forward-confirmed rDNS missing.
    RdnsMissing,
    /// EHLO name invalid, not resolvable or listed.
    HeloRejected,
    /// Server is not responsible for the domain / we may not relay.
    RelayDenied,
    /// AUTH required, failed, too weak, account disabled.
    SmtpAuth,
    /// Server or policy demands TLS (or certificate, MTA-STS, REQUIRETLS fails).
    TlsRequired,
    /// STARTTLS answered 454/4xx.
    TlsUnavailable,
    /// Syntax, sequence, unknown command or parameter.
    ProtocolError,
    /// Internationalised address or header cannot be carried.
    Smtputf8Unsupported,
    /// Remote or own lifetime exceeded.
    MessageExpired,
    /// Smarthost holds the address on its own suppression list.
    Suppressed,
    /// No usable reason.
    Undetermined,
}

impl Category {
    /// Every category, in the order of the documentation.
    pub const ALL: [Category; 44] = [
        Category::Success,
        Category::InvalidRecipient,
        Category::RecipientDisabled,
        Category::RecipientMoved,
        Category::RecipientRefuses,
        Category::RecipientUnverified,
        Category::RecipientRateLimited,
        Category::MailboxFull,
        Category::BadDomain,
        Category::DomainNotAccepting,
        Category::DnsFailure,
        Category::NoAnswer,
        Category::BadConnection,
        Category::ServiceUnavailable,
        Category::SystemError,
        Category::SystemFull,
        Category::RoutingLoop,
        Category::Greylisted,
        Category::RateLimited,
        Category::TooManyConnections,
        Category::SessionLimit,
        Category::TooManyRecipients,
        Category::SenderQuota,
        Category::IpBlocked,
        Category::BadReputation,
        Category::SpamContent,
        Category::Virus,
        Category::ContentRejected,
        Category::MessageMalformed,
        Category::MessageTooBig,
        Category::PolicyRejected,
        Category::SenderRejected,
        Category::AuthFailed,
        Category::RdnsMissing,
        Category::HeloRejected,
        Category::RelayDenied,
        Category::SmtpAuth,
        Category::TlsRequired,
        Category::TlsUnavailable,
        Category::ProtocolError,
        Category::Smtputf8Unsupported,
        Category::MessageExpired,
        Category::Suppressed,
        Category::Undetermined,
    ];

    /// The word in rules, logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Category::Success => "success",
            Category::InvalidRecipient => "invalid-recipient",
            Category::RecipientDisabled => "recipient-disabled",
            Category::RecipientMoved => "recipient-moved",
            Category::RecipientRefuses => "recipient-refuses",
            Category::RecipientUnverified => "recipient-unverified",
            Category::RecipientRateLimited => "recipient-rate-limited",
            Category::MailboxFull => "mailbox-full",
            Category::BadDomain => "bad-domain",
            Category::DomainNotAccepting => "domain-not-accepting",
            Category::DnsFailure => "dns-failure",
            Category::NoAnswer => "no-answer",
            Category::BadConnection => "bad-connection",
            Category::ServiceUnavailable => "service-unavailable",
            Category::SystemError => "system-error",
            Category::SystemFull => "system-full",
            Category::RoutingLoop => "routing-loop",
            Category::Greylisted => "greylisted",
            Category::RateLimited => "rate-limited",
            Category::TooManyConnections => "too-many-connections",
            Category::SessionLimit => "session-limit",
            Category::TooManyRecipients => "too-many-recipients",
            Category::SenderQuota => "sender-quota",
            Category::IpBlocked => "ip-blocked",
            Category::BadReputation => "bad-reputation",
            Category::SpamContent => "spam-content",
            Category::Virus => "virus",
            Category::ContentRejected => "content-rejected",
            Category::MessageMalformed => "message-malformed",
            Category::MessageTooBig => "message-too-big",
            Category::PolicyRejected => "policy-rejected",
            Category::SenderRejected => "sender-rejected",
            Category::AuthFailed => "auth-failed",
            Category::RdnsMissing => "rdns-missing",
            Category::HeloRejected => "helo-rejected",
            Category::RelayDenied => "relay-denied",
            Category::SmtpAuth => "smtp-auth",
            Category::TlsRequired => "tls-required",
            Category::TlsUnavailable => "tls-unavailable",
            Category::ProtocolError => "protocol-error",
            Category::Smtputf8Unsupported => "smtputf8-unsupported",
            Category::MessageExpired => "message-expired",
            Category::Suppressed => "suppressed",
            Category::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Category {
    type Err = String;

    fn from_str(text: &str) -> Result<Category, String> {
        Category::ALL
            .into_iter()
            .find(|category| category.word() == text)
            .ok_or_else(|| format!("{text:?} is no category"))
    }
}
