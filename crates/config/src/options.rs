//! The options, one row each: what may be written, what holds without it, and why one would.
//! Reading, the sample file, the reference and the messages about unknown keys all go by this table.

use std::time::Duration;

use relay_policy::TlsRequirement;

use crate::kind::{Kind, words_of};
use crate::login::Mechanisms;
use crate::row::{Default, Row, Section, built, not_yet};
use crate::settings::{
    AddressFamily, AuthDemand, AuthInClear, Balance, BareLineEnds, Chunking, HistoryKept,
    ListenerTls, LogFormat, Pipelining, PrivateAddresses, SuppressionMode,
};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;
const MIB: u64 = 1 << 20;
const PIB: u64 = 1 << 50;

/// A tenth of a second to an hour: a time-out shorter than that only breaks sessions.
const TIMEOUT: Kind = Kind::Duration {
    least: Duration::from_millis(100),
    most: seconds(HOUR),
};
const TLS: Kind = Kind::Word {
    words: words_of::<TlsRequirement>,
    not_yet: &[],
};

/// The tables, in the order of the sample file.
pub const SECTIONS: &[Section] = &[
    Section { name: "", doc: "" },
    Section {
        name: "state",
        doc: "Where the queue lives.",
    },
    Section {
        name: "listener[]",
        doc: "Where applications hand mail in; one table for each address. Without any: \
              127.0.0.1:2525 for this machine only.",
    },
    Section {
        name: "submission",
        doc: "Limits of what is accepted, for all listeners together.",
    },
    Section {
        name: "queue",
        doc: "How much the queue takes, and what it leaves free. What is refused for want of space is \
              refused with 452: the client keeps it and tries again.",
    },
    Section {
        name: "tls",
        doc: "The certificate of the listeners.",
    },
    Section {
        name: "user[]",
        doc: "Who may log in with AUTH (RFC 4954).",
    },
    Section {
        name: "dns",
        doc: "Who is asked for MX and address records.",
    },
    Section {
        name: "delivery",
        doc: "How mail goes out.",
    },
    Section {
        name: "delivery.timeouts",
        doc: "How long each phase of a session waits for the other side (RFC 5321 section 4.5.3.2).",
    },
    Section {
        name: "mta_sts",
        doc: "Policies by which domains ask for TLS (RFC 8461), read over HTTPS.",
    },
    Section {
        name: "tls_rpt",
        doc: "Daily reports to domains that ask for them, of what the TLS of our sessions with them came to \
              (RFC 8460). They go out in your name, to strangers, so they are off unless you want them.",
    },
    Section {
        name: "source[]",
        doc: "The addresses of this machine that mail goes out from; one table for each. Without any: \
              those of delivery.source_addresses, else the kernel chooses. A message that was greylisted \
              goes from the same address again.",
    },
    Section {
        name: "route[]",
        doc: "Mail that goes to a relay, not to the domain's own MX. The narrowest pattern wins, \
              then the first in the file.",
    },
    Section {
        name: "limit[]",
        doc: "What one site may be sent. Names by `to`, `mx`, `route` or `provider`; any one that fits is \
              enough. A domain is narrower than a route, that than an MX name, that than a provider, \
              that than `*`; the narrowest table that sets a value wins, each value for itself. What is \
              set for a provider holds for all its sites together. With `source` it holds, besides, for \
              what goes out from each of these addresses.",
    },
    Section {
        name: "retry.*",
        doc: "When a deferred recipient is tried again. `retry.default` holds unless a rule of the \
              policy names another schedule; what another one does not set, it takes from \
              `retry.default`.",
    },
    Section {
        name: "policy",
        doc: "What a reply leads to: rules of your own.",
    },
    Section {
        name: "suppression",
        doc: "Addresses that a reply has shown never to work (`bounce_suppress`), or that an operator \
              or an import has named: they are not tried again. `relayctl suppression` shows and \
              changes the list.",
    },
    Section {
        name: "dkim[]",
        doc: "Keys to sign with (RFC 6376); one table for each key. A message is signed with every \
              key of the domain in its From; where that has none, with those of the nearest domain above \
              it, else with those that say `default`.",
    },
    Section {
        name: "dsn",
        doc: "Reports to senders (RFC 3464).",
    },
    Section {
        name: "reports",
        doc: "Reports of other hosts and complaints of readers that come back about mail that was \
              delivered (RFC 3464, RFC 5965): they are read, told in `relayctl log`, and lead to the \
              suppression list.",
    },
    Section {
        name: "admin",
        doc: "How operators reach the daemon.",
    },
    Section {
        name: "doctor",
        doc: "What `relayctl doctor` looks at.",
    },
    Section {
        name: "log",
        doc: "One line for each event, on standard error; and the history of messages, for `relayctl \
              log`.",
    },
];

/// Every option.
pub const OPTIONS: &[Row] = &[
    built(
        "hostname",
        Kind::Domain,
        Default::Otherwise("the system's name"),
        "\"relay.example.com\"",
        "The name that relayd says in EHLO, Received and Message-ID. It should be a full domain name \
         whose address record names this machine, and the PTR record of the machine's address should \
         name it: many servers refuse mail otherwise (RFC 5321 section 4.1.4).",
    ),
    built(
        "state.dir",
        Kind::Path,
        Default::Is("\"/var/lib/relayd\""),
        "\"/srv/relayd\"",
        "The directory of the queue. It must be on a local disk whose writes are durable after \
         fdatasync.",
    ),
    built(
        "listener[].address",
        Kind::ListenAddress,
        Default::Required,
        "\"127.0.0.1:2525\"",
        "Where to listen: `127.0.0.1:2525`, `[::1]:2525`, or `unix:/run/relayd/submit.sock`.",
    ),
    built(
        "listener[].tls",
        Kind::Word {
            words: words_of::<ListenerTls>,
            not_yet: &[],
        },
        Default::Otherwise("`starttls` where [tls] is given, else `none`"),
        "\"starttls\"",
        "`starttls` offers it (RFC 3207), `implicit` starts with TLS at once (RFC 8314).",
    ),
    built(
        "listener[].auth",
        Kind::Word {
            words: words_of::<AuthDemand>,
            not_yet: &[],
        },
        Default::Otherwise("`optional` where a [[user]] is given, else `none`"),
        "\"required\"",
        "Whether clients log in. `optional`: those in `trusted` need not. `required`: everybody must.",
    ),
    built(
        "listener[].trusted",
        Kind::List(&Kind::Net),
        Default::Otherwise("loopback where the listener is on loopback, else nobody"),
        "[\"127.0.0.0/8\", \"::1/128\"]",
        "Networks whose clients may relay without login; a client on a unix socket counts as \
         127.0.0.1. A listener that the world can reach must not trust the world.",
    ),
    built(
        "listener[].reports",
        Kind::Truth,
        Default::Is("false"),
        "true",
        "Anybody may hand in mail for the addresses of [reports] here, and for nobody else: what comes \
         back comes from strangers. Elsewhere only those may who may relay.",
    ),
    built(
        "submission.message_bytes_max",
        Kind::Size {
            least: 64 * 1024,
            most: 1024 * MIB,
        },
        Default::Is("\"50MiB\""),
        "\"25MB\"",
        "The largest message; announced by SIZE (RFC 1870). RFC 5321 section 4.5.3.1.7 asks for 64 \
         KiB at the least.",
    ),
    built(
        "submission.recipients_max",
        Kind::Count {
            least: 100,
            most: 100_000,
        },
        Default::Is("1000"),
        "5000",
        "Recipients of one transaction; more get 452. RFC 5321 section 4.5.3.1.8 asks for 100 at the \
         least.",
    ),
    built(
        "submission.sessions_max",
        Kind::Count {
            least: 1,
            most: 100_000,
        },
        Default::Is("1000"),
        "200",
        "Sessions at once, all listeners together; more get 421. Each takes a file and some memory.",
    ),
    built(
        "submission.sessions_per_address_max",
        Kind::Count {
            least: 1,
            most: 100_000,
        },
        Default::Is("200"),
        "20",
        "Sessions at once from one address, so that one client cannot take them all. Loopback is \
         not counted.",
    ),
    built(
        "submission.idle_timeout",
        TIMEOUT,
        Default::Is("\"5m\""),
        "\"1m\"",
        "How long a silent client is kept before 421 (RFC 5321 section 4.5.3.2.7).",
    ),
    built(
        "submission.errors_max",
        Kind::Count {
            least: 1,
            most: 10_000,
        },
        Default::Is("20"),
        "100",
        "More 5xx replies than this in one session end it with 421.",
    ),
    built(
        "submission.bare_line_ends",
        Kind::Word {
            words: words_of::<BareLineEnds>,
            not_yet: &[],
        },
        Default::Is("\"reject\""),
        "\"normalize\"",
        "What happens to a message with a CR or LF that stands alone. RFC 5321 section 2.3.8 forbids \
         them, and they have been used to smuggle a second message. `normalize` makes them CRLF, for \
         old local applications; only CRLF.CRLF ends the data either way.",
    ),
    built(
        "submission.auth_in_clear",
        Kind::Word {
            words: words_of::<AuthInClear>,
            not_yet: &[],
        },
        Default::Is("\"loopback_only\""),
        "\"anywhere\"",
        "Where AUTH is offered without TLS. Anywhere but on loopback, others can read the password \
         (RFC 4954 section 4).",
    ),
    built(
        "submission.received_headers_max",
        Kind::Count {
            least: 10,
            most: 1000,
        },
        Default::Is("50"),
        "100",
        "More Received headers than this is a loop: 554 5.4.6 (RFC 5321 section 6.3).",
    ),
    built(
        "queue.messages_max",
        Kind::Count {
            least: 1,
            most: 1_000_000_000,
        },
        Default::Is("5000000"),
        "100000",
        "Unfinished messages; more get 452 4.3.1. Each takes some 100 bytes of memory.",
    ),
    built(
        "queue.bytes_max",
        Kind::Size {
            least: MIB,
            most: PIB,
        },
        Default::Otherwise("no limit but the disk's"),
        "\"100GiB\"",
        "Bytes of their bodies, all together; more get 452 4.3.1.",
    ),
    built(
        "queue.reserve_bytes",
        Kind::Size {
            least: 0,
            most: PIB,
        },
        Default::Is("\"4GiB\""),
        "\"20GiB\"",
        "Free space of the disk that new mail may not take: 452 4.3.1 below it, while deliveries go \
         on. It is there for outcomes of deliveries, for the index, and for whoever shares the disk.",
    ),
    built(
        "queue.reserve_percent",
        Kind::Percentage { most: 90 },
        Default::Is("\"10%\""),
        "\"5%\"",
        "The same for a small disk: so much of it, where that is less than `reserve_bytes`. The \
         smaller of the two, since what is needed there does not grow with the disk.",
    ),
    built(
        "queue.close_percent",
        Kind::Percentage { most: 100 },
        Default::Is("\"50%\""),
        "\"25%\"",
        "With less free space than this part of the reserve, sessions are turned away with 421 4.3.2 \
         at connect. With the defaults that is 5% of a small disk.",
    ),
    built(
        "queue.share_percent",
        Kind::Percentage { most: 100 },
        Default::Is("\"90%\""),
        "\"50%\"",
        "Where space is short (less than twice the reserve is free, or 90% of a limit are reached): \
         what one sender (user, or client without login) or one domain of recipients may hold, of \
         what it holds and what is left together. With 90% the last tenth is there for others. \
         `100%`: whoever comes first.",
    ),
    built(
        "queue.ballast_bytes",
        Kind::Size {
            least: 0,
            most: 1024 * MIB,
        },
        Default::Is("\"96MiB\""),
        "\"256MiB\"",
        "A file that is deleted when the disk is full all the same, so that outcomes of deliveries \
         can still be written.",
    ),
    built(
        "queue.busy_after",
        Kind::Duration {
            least: Duration::from_millis(100),
            most: seconds(5 * MINUTE),
        },
        Default::Is("\"5s\""),
        "\"30s\"",
        "How long a message waits for a place among those that wait for the disk, before 451 4.3.2. \
         A change needs a restart.",
    ),
    built(
        "queue.body_cache_bytes",
        Kind::Size {
            least: 0,
            most: 64 * 1024 * MIB,
        },
        Default::Is("\"16MiB\""),
        "\"256MiB\"",
        "Memory for bodies that have just come in: what is delivered at once is not read back. A \
         change needs a restart.",
    ),
    built(
        "queue.index_cache_bytes",
        Kind::Size {
            least: MIB,
            most: 64 * 1024 * MIB,
        },
        Default::Is("\"16MiB\""),
        "\"256MiB\"",
        "Memory for pages of the index. A change needs a restart.",
    ),
    built(
        "tls.certificate",
        Kind::Path,
        Default::Required,
        "\"/etc/relayd/tls/cert.pem\"",
        "The certificate and its chain, in PEM; read again when it changes.",
    ),
    built(
        "tls.key",
        Kind::Path,
        Default::Required,
        "\"/etc/relayd/tls/key.pem\"",
        "The private key of the certificate, in PEM.",
    ),
    built(
        "user[].name",
        Kind::Text,
        Default::Required,
        "\"billing\"",
        "The name that the client logs in with.",
    ),
    built(
        "user[].password_hash",
        Kind::Secret,
        Default::Otherwise("from `password_file`"),
        "\"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Jo8LSCpFYYuE2X7dPEEpBw\"",
        "The password's Argon2 hash; `relayctl user hash` makes one.",
    ),
    built(
        "user[].password_file",
        Kind::Path,
        Default::Otherwise("none"),
        "\"/etc/relayd/secrets.d/billing\"",
        "A file with that hash, where it shall not stand in this file. One of the two is needed.",
    ),
    built(
        "user[].senders",
        Kind::List(&Kind::SenderPattern),
        Default::Is("[]"),
        "[\"*@billing.example.com\"]",
        "What MAIL FROM and From may say. Empty: anything.",
    ),
    built(
        "user[].rate",
        Kind::Rate,
        Default::Otherwise("no limit"),
        "\"100/min\"",
        "How many messages this user may hand in.",
    ),
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
    built(
        "route[].to",
        Kind::ListOfSome(&Kind::DomainPattern),
        Default::Required,
        "[\"example.net\", \"*.example.org\", \"*\"]",
        "Which recipient domains. `*` takes address literals, too.",
    ),
    built(
        "route[].via",
        Kind::List(&Kind::HostPort),
        Default::Required,
        "[\"smtp.upstream.example:587\", \"smtp2.upstream.example:465\"]",
        "The relays; on port 465 TLS starts at once (RFC 8314). Empty: by the \
         domain's own MX, an exception from a wider route.",
    ),
    built(
        "route[].balance",
        Kind::Word {
            words: words_of::<Balance>,
            not_yet: &[],
        },
        Default::Is("\"in_order\""),
        "\"even\"",
        "In which order the relays are tried. `in_order`: as `via` has them, the next one where one cannot be \
         used. `even`: each session begins with another one, and the others stand in for it.",
    ),
    built(
        "route[].tls",
        TLS,
        Default::Otherwise("`verify` with a login, else `opportunistic`"),
        "\"verify\"",
        "The least that is required. `opportunistic`: where offered, any certificate. `require`: \
         always, any certificate. `dane`: always, with a certificate that the relay's TLSA records \
         name. `verify`: always, with a certificate valid for the relay's name. Where TLSA records \
         are found, `opportunistic` and `require` ask for what they say, too.",
    ),
    built(
        "route[].username",
        Kind::Text,
        Default::Otherwise("no login"),
        "\"app\"",
        "The name to log in to the relays with (RFC 4954).",
    ),
    built(
        "route[].password_file",
        Kind::Path,
        Default::Otherwise("no login"),
        "\"/etc/relayd/secrets.d/upstream\"",
        "A file whose first line is the password for `username`.",
    ),
    built(
        "route[].auth",
        Kind::Word {
            words: words_of::<Mechanisms>,
            not_yet: &[],
        },
        Default::Is("\"auto\""),
        "\"plain\"",
        "The mechanism of the login. `auto`: the best one that the relay offers: with a password SCRAM-SHA-256, \
         PLAIN, LOGIN, with a token OAUTHBEARER, XOAUTH2.",
    ),
    built(
        "route[].token_file",
        Kind::Path,
        Default::Otherwise("no login"),
        "\"/run/relayd/secrets/upstream-token\"",
        "A file whose first line is an OAuth 2.0 access token for `username`, in place of a password. It is read \
         for each session: another program keeps it fresh.",
    ),
    built(
        "route[].token_endpoint",
        Kind::Endpoint,
        Default::Otherwise("no login"),
        "\"https://login.upstream.example/oauth2/token\"",
        "Where access tokens for `username` are fetched (RFC 6749), before one expires and when the relay refuses \
         one. With `refresh_token_file` by that token, without it in the client's own name.",
    ),
    built(
        "route[].client_id",
        Kind::Text,
        Default::Otherwise("no login"),
        "\"relayd\"",
        "Our name at `token_endpoint`.",
    ),
    built(
        "route[].client_secret_file",
        Kind::Path,
        Default::Otherwise("none"),
        "\"/etc/relayd/secrets.d/upstream-client\"",
        "A file whose first line is the secret of `client_id`.",
    ),
    built(
        "route[].refresh_token_file",
        Kind::Path,
        Default::Otherwise("none"),
        "\"/etc/relayd/secrets.d/upstream-refresh\"",
        "A file whose first line is a refresh token. Where the endpoint gives another one in its place, that \
         one is kept in state.dir, and used until another one stands in this file.",
    ),
    built(
        "route[].scope",
        Kind::Text,
        Default::Otherwise("none"),
        "\"https://outlook.office365.com/.default\"",
        "What the token is to be good for, in the endpoint's words; several parted by spaces.",
    ),
    built(
        "limit[].to",
        Kind::List(&Kind::DomainPattern),
        Default::Is("[]"),
        "[\"gmail.com\", \"*.example.org\"]",
        "By recipient domain; `*` is for all.",
    ),
    built(
        "limit[].provider",
        Kind::List(&Kind::Text),
        Default::Is("[]"),
        "[\"google\"]",
        "By provider, a named group of sites in the policy table.",
    ),
    built(
        "limit[].mx",
        Kind::List(&Kind::DomainPattern),
        Default::Is("[]"),
        "[\"*.google.com\"]",
        "By the name of an MX host.",
    ),
    built(
        "limit[].route",
        Kind::List(&Kind::HostPort),
        Default::Is("[]"),
        "[\"smtp.upstream.example:587\"]",
        "By a relay of a [[route]], as its `via` has it.",
    ),
    built(
        "limit[].source",
        Kind::List(&Kind::IpAddress),
        Default::Is("[]"),
        "[\"192.0.2.10\"]",
        "What goes out from each of these addresses: to all sites together that the other names take \
         in, or, without any, everywhere. Of such tables, too, the narrowest wins. Only `rate` and \
         `connections`.",
    ),
    built(
        "limit[].rate",
        Kind::Rate,
        Default::Otherwise("no limit"),
        "\"20/s\"",
        "Messages to the site in so much time.",
    ),
    built(
        "limit[].connections",
        Kind::Count {
            least: 1,
            most: 10_000,
        },
        Default::Otherwise("10"),
        "20",
        "Sessions at once with the site.",
    ),
    built(
        "limit[].messages_per_connection",
        Kind::Count {
            least: 1,
            most: 1_000_000,
        },
        Default::Otherwise("100"),
        "20",
        "Messages in one session; then a new one is made.",
    ),
    built(
        "limit[].recipients_per_transaction",
        Kind::Count {
            least: 1,
            most: 100_000,
        },
        Default::Otherwise("100"),
        "50",
        "Recipients of one transaction. Every server must take 100 (RFC 5321 section 4.5.3.1.8).",
    ),
    built(
        "limit[].tls",
        TLS,
        Default::Otherwise("`opportunistic`"),
        "\"verify\"",
        "The least that is required, as for a [[route]].",
    ),
    built(
        "retry.*.steps",
        Kind::ListOfSome(&Kind::Duration {
            least: Duration::from_millis(100),
            most: seconds(7 * DAY),
        }),
        Default::Is("[\"1m\", \"5m\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\"]"),
        "[\"30s\", \"5m\", \"30m\", \"2h\"]",
        "How long to wait after the first, second... attempt; the last one repeats. RFC 5321 section \
         4.5.4.1 asks for 30 minutes in the long run; the short first steps pass greylisting.",
    ),
    built(
        "retry.*.jitter",
        Kind::Percentage { most: 50 },
        Default::Is("\"10%\""),
        "\"20%\"",
        "Each wait is made longer or shorter by up to this much, so that mail that was deferred \
         together does not come back together.",
    ),
    built(
        "retry.*.max_age",
        Kind::Duration {
            least: seconds(1),
            most: seconds(30 * DAY),
        },
        Default::Is("\"5d\""),
        "\"2d\"",
        "From arrival to giving up; the last try comes at the deadline. RFC 5321 section 4.5.4.1 asks \
         for 4 to 5 days.",
    ),
    built(
        "retry.*.warn_after",
        Kind::DurationOrNever {
            least: seconds(1),
            most: seconds(30 * DAY),
        },
        Default::Is("\"4h\""),
        "\"never\"",
        "The sender gets a report that the message is late after this long; `never`: no such report.",
    ),
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
    built(
        "admin.socket",
        Kind::Path,
        Default::Is("\"/run/relayd/relayd.sock\""),
        "\"/run/relayd/relayd.sock\"",
        "The socket for relayctl; its owner and group may use it (mode 0660).",
    ),
    built(
        "admin.http",
        Kind::SocketAddress,
        Default::Otherwise("off"),
        "\"127.0.0.1:8025\"",
        "Where /metrics and /healthz are answered over TCP, without a token. Changes need a restart.",
    ),
    built(
        "admin.http_from",
        Kind::List(&Kind::Net),
        Default::Is("[\"127.0.0.0/8\", \"::1/128\"]"),
        "[\"127.0.0.0/8\", \"10.1.0.0/16\"]",
        "Networks that may ask there; others get 403. What is told names no address of a sender or \
         recipient, but how much mail there is.",
    ),
    built(
        "doctor.blocklists",
        Kind::List(&Kind::Domain),
        Default::Is("[\"zen.spamhaus.org\", \"bl.spamcop.net\", \"b.barracudacentral.org\"]"),
        "[\"zen.spamhaus.org\"]",
        "DNS block lists (RFC 5782) that are asked about our addresses, where `relayctl doctor \
         --blocklists` is said. Some do not answer public resolvers.",
    ),
    built(
        "log.format",
        Kind::Word {
            words: words_of::<LogFormat>,
            not_yet: &[],
        },
        Default::Is("\"auto\""),
        "\"json\"",
        "`auto`: text on a terminal and for journald, else JSON.",
    ),
    built(
        "log.level",
        Kind::Text,
        Default::Is("\"info\""),
        "\"warn,relay_deliver=debug\"",
        "`error`, `warn`, `info`, `debug` or `trace`, also by module.",
    ),
    built(
        "log.history",
        Kind::Word {
            words: words_of::<HistoryKept>,
            not_yet: &[],
        },
        Default::Is("\"full\""),
        "\"domains\"",
        "What is kept on disk of what happened to each message, also after it has gone: replies, \
         decisions, what operators did; never bodies or subjects. `domains` leaves out the local \
         parts of addresses, also where a reply repeats a whole address. `off` keeps nothing: then \
         `relayctl log`, `policy replay` and `policy list --hits --since` have nothing to read. It \
         takes effect at the next restart.",
    ),
    built(
        "log.history_dir",
        Kind::Path,
        Default::Otherwise("`log` in state.dir"),
        "\"/var/log/relayd\"",
        "Where the history is kept. Nothing is lost of the mail if this disk is full or gone.",
    ),
    built(
        "log.history_max_age",
        Kind::Duration {
            least: seconds(HOUR),
            most: seconds(3_650 * DAY),
        },
        Default::Is("\"14d\""),
        "\"60d\"",
        "How long the history is kept. What is older goes, a day at a time.",
    ),
    built(
        "log.history_bytes_max",
        Kind::Size {
            least: MIB,
            most: 1024 * 1024 * MIB,
        },
        Default::Is("\"2GiB\""),
        "\"20GiB\"",
        "What the history may take on disk; the oldest goes first. A message delivered at the first \
         try takes about 800 bytes: 2 GiB are some two and a half million messages.",
    ),
    not_yet(
        "webhook",
        Kind::Table,
        "[]",
        "the delivery of events to web hooks",
    ),
];
