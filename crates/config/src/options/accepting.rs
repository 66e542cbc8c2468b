//! Who we are, what is kept where, and what is taken from applications.

use std::time::Duration;

use super::{MIB, MINUTE, PIB, TIMEOUT, seconds};
use crate::kind::{Kind, words_of};
use crate::row::{Default, Row, built};
use crate::settings::{AuthDemand, AuthInClear, BareLineEnds, ListenerTls};

pub(super) const ROWS: &[Row] = &[
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
];
