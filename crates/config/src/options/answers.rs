//! What follows from replies, what senders are told, and what is signed.

use super::{DAY, MINUTE, seconds};
use crate::kind::{Kind, words_of};
use crate::row::{Default, Row, built};
use crate::settings::SuppressionMode;

pub(super) const ROWS: &[Row] = &[
    built(
        "policy.files",
        Kind::List(&Kind::PathPattern),
        Default::Is("[\"/etc/relayd/policy.d/*.toml\"]"),
        "[\"/etc/relayd/policy.d/*.toml\"]",
        "Files with rules that are tried before the default table, in this order.",
    ),
    built(
        "suppression.mode",
        Kind::Word {
            words: words_of::<SuppressionMode>,
            not_yet: &[],
        },
        Default::Is("\"refuse\""),
        "\"bounce\"",
        "What a message to a suppressed address meets. `refuse`: 550 5.1.1 at RCPT, with the reason. \
         `bounce`: it is accepted, and the sender gets a report at once. `off`: nothing; the list is kept \
         all the same. Mail that was accepted before its address was suppressed gets the report in both.",
    ),
    built(
        "suppression.keep",
        Kind::DurationOrNever {
            least: seconds(MINUTE),
            most: seconds(3650 * DAY),
        },
        Default::Is("\"90d\""),
        "\"365d\"",
        "How long an address stays on the list when its rule does not say (`for`): accounts are \
         opened again and domains renewed. `never`: until an operator removes it.",
    ),
    built(
        "dkim[].domain",
        Kind::Domain,
        Default::Required,
        "\"example.com\"",
        "The domain of From that is signed for.",
    ),
    built(
        "dkim[].selector",
        Kind::DkimSelector,
        Default::Required,
        "\"s2026\"",
        "The public key stands in DNS at SELECTOR._domainkey.DOMAIN.",
    ),
    built(
        "dkim[].key",
        Kind::Path,
        Default::Required,
        "\"/etc/relayd/dkim/example.com.s2026.pem\"",
        "The private key, RSA or Ed25519 (RFC 8463), PKCS#8 in PEM. `relayctl dkim generate` makes one.",
    ),
    built(
        "dkim[].default",
        Kind::Truth,
        Default::Is("false"),
        "true",
        "Also sign mail whose author's domain has no key, in the name of this key's domain. Receivers \
         know by it who sent the mail; DMARC does not count it, since the domains differ.",
    ),
    built(
        "dkim[].headers",
        Kind::List(&Kind::FieldName),
        Default::Is(
            "[\"Sender\", \"In-Reply-To\", \"References\", \"MIME-Version\", \"Content-Type\", \
             \"Content-Transfer-Encoding\", \"Content-Disposition\", \"List-Unsubscribe\", \
             \"List-Unsubscribe-Post\"]",
        ),
        "[\"Sender\", \"MIME-Version\", \"Content-Type\", \"X-Campaign\"]",
        "Header fields that are signed, as many as there are, besides those of `oversign`. A field \
         that hosts on the way change or add (Received, Return-Path) would break the signature.",
    ),
    built(
        "dkim[].oversign",
        Kind::List(&Kind::FieldName),
        Default::Is(
            "[\"From\", \"Subject\", \"To\", \"Cc\", \"Date\", \"Reply-To\", \"Message-ID\"]",
        ),
        "[\"From\", \"Subject\", \"To\", \"Date\"]",
        "Header fields that are signed so that nobody can add a further one (RFC 6376 section \
         8.15). From is signed so in any case.",
    ),
    built(
        "dsn.from",
        Kind::Mailbox,
        Default::Otherwise("postmaster at `hostname`"),
        "\"postmaster@example.com\"",
        "The From of reports. Their reverse-path is always empty (RFC 3464 section 2).",
    ),
    built(
        "dsn.copies_to",
        Kind::Mailbox,
        Default::Otherwise("nobody"),
        "\"postmaster@example.com\"",
        "Who gets a copy of every report of a failure, also of those that the sender did not want.",
    ),
    built(
        "dsn.double_bounces_to",
        Kind::Mailbox,
        Default::Otherwise("nobody; it is logged"),
        "\"postmaster@example.com\"",
        "Who is told when a report cannot be delivered, or another message without a sender.",
    ),
    built(
        "reports.addresses",
        Kind::List(&Kind::Mailbox),
        Default::Is("[]"),
        "[\"bounces@relay.example.com\"]",
        "Where reports come back to; also with something behind a plus (`bounces+x@`). Mail to them is \
         read and not queued. So is mail to a sender that `delivery.verp` has made, if its domain is written \
         out there. A report counts only if the history shows that its message went to the recipient that it names.",
    ),
    built(
        "reports.unread_to",
        Kind::Mailbox,
        Default::Otherwise("`dsn.double_bounces_to`; without either it is refused with 554"),
        "\"postmaster@example.com\"",
        "Who gets what came to such an address and is no report that can be read.",
    ),
];
