//! How other hosts are found, reached and spoken to.

use std::time::Duration;

use super::{HOUR, MINUTE, TIMEOUT, seconds};
use crate::kind::{Kind, words_of};
use crate::row::{Default, Row, built};
use crate::settings::{AddressFamily, Chunking, Pipelining, PrivateAddresses};

pub(super) const ROWS: &[Row] = &[
    built(
        "dns.servers",
        Kind::List(&Kind::DnsServer),
        Default::Is("[]"),
        "[\"127.0.0.1:53\"]",
        "The resolvers. Empty: those of the system's resolv.conf.",
    ),
    built(
        "dns.trust_ad",
        Kind::Truth,
        Default::Otherwise("true where all resolvers are on loopback"),
        "true",
        "Whether the resolvers validate DNSSEC, and their word (the AD bit) is believed. DANE (RFC \
         7672) needs that; without it no host's TLSA records are looked for. Whoever can answer in a \
         resolver's place could forge it, so set it for a resolver on another machine only where the \
         way there is safe.",
    ),
    built(
        "delivery.port",
        Kind::Count {
            least: 1,
            most: 65_535,
        },
        Default::Is("25"),
        "2525",
        "The port of MX hosts. Anything but 25 is for tests.",
    ),
    built(
        "delivery.source_addresses",
        Kind::List(&Kind::IpAddress),
        Default::Is("[]"),
        "[\"192.0.2.10\", \"2001:db8::10\"]",
        "The addresses of this machine that mail goes out from. Empty: the kernel chooses.",
    ),
    built(
        "delivery.address_family",
        Kind::Word {
            words: words_of::<AddressFamily>,
            not_yet: &[],
        },
        Default::Is("\"ipv4_first\""),
        "\"ipv6_first\"",
        "Which addresses of a host are tried first, or only. Large providers refuse IPv6 from \
         addresses without a PTR record.",
    ),
    built(
        "delivery.private_addresses",
        Kind::Word {
            words: words_of::<PrivateAddresses>,
            not_yet: &[],
        },
        Default::Is("\"refused\""),
        "\"allowed\"",
        "Whether an MX host may have a private or loopback address. Foreign DNS could otherwise make \
         relayd speak to hosts of your own network. The hosts of a [[route]] always may.",
    ),
    built(
        "delivery.sessions_max",
        Kind::Count {
            least: 1,
            most: 100_000,
        },
        Default::Is("500"),
        "2000",
        "Sessions at once, all sites together. Each takes a file and some memory.",
    ),
    built(
        "delivery.idle",
        Kind::Duration {
            least: Duration::from_millis(0),
            most: seconds(5 * MINUTE),
        },
        Default::Is("\"3s\""),
        "\"10s\"",
        "How long a session without work is kept for more mail. Longer takes connections from \
         others.",
    ),
    built(
        "delivery.pipelining",
        Kind::Word {
            words: words_of::<Pipelining>,
            not_yet: &[],
        },
        Default::Is("\"where_offered\""),
        "\"never\"",
        "Whether commands are sent in groups where the server offers it (RFC 2920).",
    ),
    built(
        "delivery.chunking",
        Kind::Word {
            words: words_of::<Chunking>,
            not_yet: &[],
        },
        Default::Is("\"where_offered\""),
        "\"never\"",
        "Whether a message of up to 16 KiB goes with BDAT (RFC 3030) in one group with its commands where the server \
         offers that and PIPELINING: it saves a round trip. Larger ones go with DATA.",
    ),
    built(
        "delivery.tls_roots",
        Kind::Path,
        Default::Otherwise("the system's alone"),
        "\"/etc/relayd/tls/roots.pem\"",
        "Certificates of authorities, in PEM, that are trusted besides the system's: for relays and \
         domains whose certificates are checked. A change needs a restart.",
    ),
    built(
        "delivery.verp",
        Kind::Verp,
        Default::Otherwise("the message's own sender"),
        "\"bounces+{id}-{recipient}@bounce.example.com\"",
        "The sender of each recipient's own transaction, so that what comes back says whom it is about: with \
         `{id}`, the queue id, `{recipient}`, as in user=example.com, `{local}` and `{domain}` of the message's own \
         sender. `{local}+{recipient}@{domain}` is Postfix's form. Each recipient then gets a copy of the message of \
         its own, with the queue id as its ENVID where it has none. Where the address would be too long, the message \
         keeps its sender.",
    ),
    built(
        "delivery.verp_senders",
        Kind::List(&Kind::SenderPattern),
        Default::Is("[]"),
        "[\"*@news.example.com\"]",
        "Whose messages this is for; empty: all that have a sender.",
    ),
    built(
        "delivery.timeouts.connect",
        TIMEOUT,
        Default::Is("\"30s\""),
        "\"10s\"",
        "The TCP connection.",
    ),
    built(
        "delivery.timeouts.banner",
        TIMEOUT,
        Default::Is("\"5m\""),
        "\"1m\"",
        "The greeting (RFC 5321 section 4.5.3.2.1).",
    ),
    built(
        "delivery.timeouts.ehlo",
        TIMEOUT,
        Default::Is("\"5m\""),
        "\"1m\"",
        "The reply to EHLO or HELO.",
    ),
    built(
        "delivery.timeouts.starttls",
        TIMEOUT,
        Default::Is("\"30s\""),
        "\"10s\"",
        "The reply to STARTTLS, and the handshake.",
    ),
    built(
        "delivery.timeouts.auth",
        TIMEOUT,
        Default::Is("\"2m\""),
        "\"30s\"",
        "Each reply to AUTH.",
    ),
    built(
        "delivery.timeouts.mail",
        TIMEOUT,
        Default::Is("\"5m\""),
        "\"1m\"",
        "The reply to MAIL (RFC 5321 section 4.5.3.2.2).",
    ),
    built(
        "delivery.timeouts.rcpt",
        TIMEOUT,
        Default::Is("\"5m\""),
        "\"1m\"",
        "The reply to RCPT (RFC 5321 section 4.5.3.2.3). Servers that look at other servers first \
         take their time.",
    ),
    built(
        "delivery.timeouts.data",
        TIMEOUT,
        Default::Is("\"2m\""),
        "\"1m\"",
        "The reply to DATA (RFC 5321 section 4.5.3.2.4).",
    ),
    built(
        "delivery.timeouts.body",
        TIMEOUT,
        Default::Is("\"3m\""),
        "\"1m\"",
        "Each piece of the body (RFC 5321 section 4.5.3.2.5).",
    ),
    built(
        "delivery.timeouts.final_dot",
        TIMEOUT,
        Default::Is("\"10m\""),
        "\"15m\"",
        "The reply to the whole message (RFC 5321 section 4.5.3.2.6). A shorter time means that a \
         slow server's messages arrive twice.",
    ),
    built(
        "delivery.timeouts.rset",
        TIMEOUT,
        Default::Is("\"20s\""),
        "\"10s\"",
        "The reply to RSET.",
    ),
    built(
        "delivery.timeouts.quit",
        TIMEOUT,
        Default::Is("\"5s\""),
        "\"1s\"",
        "The reply to QUIT; nothing depends on it.",
    ),
    built(
        "mta_sts.enabled",
        Kind::Truth,
        Default::Is("true"),
        "false",
        "Whether MTA-STS policies are looked for and kept to. A change needs a restart.",
    ),
    built(
        "mta_sts.port",
        Kind::Count {
            least: 1,
            most: 65_535,
        },
        Default::Is("443"),
        "8443",
        "The port of policy hosts. Anything but 443 is for tests. A change needs a restart.",
    ),
    built(
        "tls_rpt.enabled",
        Kind::Truth,
        Default::Is("false"),
        "true",
        "Whether TLS results are kept, and reported. A change of this table needs a restart.",
    ),
    built(
        "tls_rpt.organization",
        Kind::Text,
        Default::Otherwise("`hostname`"),
        "\"Example Ltd\"",
        "Who reports, in words.",
    ),
    built(
        "tls_rpt.contact",
        Kind::Text,
        Default::Otherwise("`tls_rpt.from`"),
        "\"postmaster@example.com\"",
        "Where those who get a report may ask.",
    ),
    built(
        "tls_rpt.from",
        Kind::Mailbox,
        Default::Otherwise("postmaster at `hostname`"),
        "\"tls-reports@example.com\"",
        "The From of reports by mail; receivers want a DKIM signature of its domain. Their reverse-path is \
         always empty.",
    ),
    built(
        "tls_rpt.spread",
        Kind::Duration {
            least: Duration::ZERO,
            most: seconds(12 * HOUR),
        },
        Default::Is("\"4h\""),
        "\"8h\"",
        "The reports of a day go out within this time after midnight (UTC), each domain's at a moment of its \
         own.",
    ),
    built(
        "source[].address",
        Kind::IpAddress,
        Default::Required,
        "\"192.0.2.10\"",
        "The address. Its PTR record should name `ehlo_name`.",
    ),
    built(
        "source[].weight",
        Kind::Count {
            least: 0,
            most: 1000,
        },
        Default::Is("1"),
        "3",
        "Its part of the mail, in proportion to the others of its family. 0: it is not used.",
    ),
    built(
        "source[].ehlo_name",
        Kind::Domain,
        Default::Otherwise("`hostname`"),
        "\"out2.example.com\"",
        "The name that is said in EHLO from there.",
    ),
    built(
        "source[].warm_up_start",
        Kind::Date,
        Default::Otherwise("no warm-up"),
        "\"2026-11-01\"",
        "The first day (UTC) on which mail goes from there: receivers trust a new address more when \
         its volume grows slowly. Needs `warm_up_daily`.",
    ),
    built(
        "source[].warm_up_daily",
        Kind::ListOfSome(&Kind::Count {
            least: 1,
            most: 100_000_000,
        }),
        Default::Otherwise("no warm-up"),
        "[200, 500, 1000, 2000, 5000, 10000]",
        "Messages on the first day, the second and so on; after the last there is no cap. What is \
         beyond goes from other sources, or waits for midnight (UTC).",
    ),
];
