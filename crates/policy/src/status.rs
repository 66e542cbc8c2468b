//! The enhanced status code that a DSN reports for a decision (RFC 3463, RFC 3464 section 2.3.4).

use relay_smtp::{EnhancedStatus, Failure, StatusClass};

use crate::category::Category;
use crate::decide::Fate;

/// The reply's own subject and detail where it gave one, else those that fit the category. The
/// class follows the recipient's fate: a bounced recipient is never reported with class 4.
pub(crate) fn status(
    category: Category,
    fate: Fate,
    given: Option<EnhancedStatus>,
) -> EnhancedStatus {
    let class = match fate {
        Fate::Delivered => StatusClass::Success,
        Fate::Bounced => StatusClass::Permanent,
        Fate::Deferred | Fate::AgainNow | Fate::Held => StatusClass::Transient,
    };
    match given {
        Some(given) => EnhancedStatus { class, ..given },
        None => {
            let (subject, detail) = usual(category);
            EnhancedStatus::new(class, subject, detail)
        }
    }
}

/// The code of a failure that says more than its category; the class follows the fate.
pub(crate) fn of_failure(failure: Failure) -> Option<EnhancedStatus> {
    let own = [
        // "Conversion required but not supported" (RFC 3463 section 3.7).
        (Failure::CannotConvert, (6, 3)),
        // "REQUIRETLS support required" (RFC 8689 section 4.2.1).
        (Failure::RequireTls, (7, 30)),
    ];
    let (_, (subject, detail)) = own.into_iter().find(|(of, _)| *of == failure)?;
    Some(EnhancedStatus::permanent(subject, detail))
}

/// Subject and detail of a category (RFC 3463 section 3, RFC 7372, RFC 7505).
fn usual(category: Category) -> (u16, u16) {
    match category {
        Category::Success | Category::Undetermined => (0, 0),
        Category::InvalidRecipient | Category::Suppressed => (1, 1),
        Category::BadDomain => (1, 2),
        Category::RecipientMoved => (1, 6),
        Category::SenderRejected => (1, 8),
        Category::DomainNotAccepting => (1, 10),
        Category::RecipientDisabled => (2, 1),
        Category::RecipientRateLimited => (2, 1),
        Category::MailboxFull => (2, 2),
        Category::RecipientRefuses => (7, 1),
        Category::RecipientUnverified | Category::SystemError => (3, 0),
        Category::SystemFull => (3, 1),
        Category::ServiceUnavailable => (3, 2),
        Category::MessageTooBig => (3, 4),
        Category::NoAnswer => (4, 1),
        Category::BadConnection => (4, 2),
        Category::DnsFailure => (4, 3),
        Category::RateLimited
        | Category::TooManyConnections
        | Category::SessionLimit
        | Category::SenderQuota => (4, 5),
        Category::RoutingLoop => (4, 6),
        Category::MessageExpired => (4, 7),
        Category::ProtocolError => (5, 0),
        Category::TooManyRecipients => (5, 3),
        Category::HeloRejected => (5, 4),
        Category::ContentRejected | Category::MessageMalformed => (6, 0),
        Category::Smtputf8Unsupported => (6, 7),
        Category::PolicyRejected | Category::Greylisted | Category::Virus => (7, 0),
        Category::IpBlocked
        | Category::BadReputation
        | Category::SpamContent
        | Category::RelayDenied => (7, 1),
        Category::SmtpAuth => (7, 8),
        Category::TlsRequired | Category::TlsUnavailable => (7, 10),
        Category::RdnsMissing => (7, 25),
        Category::AuthFailed => (7, 26),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_the_fate_and_the_detail_the_reply() {
        let given = Some("4.2.2".parse().unwrap());
        let shown = |fate, given| status(Category::MailboxFull, fate, given).to_string();
        assert_eq!(shown(Fate::Bounced, given), "5.2.2");
        assert_eq!(shown(Fate::Deferred, None), "4.2.2");
        assert_eq!(shown(Fate::Delivered, None), "2.2.2");
    }
}
