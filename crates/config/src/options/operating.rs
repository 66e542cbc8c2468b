//! What operators see.

use super::{DAY, HOUR, MIB, seconds};
use crate::kind::{Kind, words_of};
use crate::row::{Default, Row, built, not_yet};
use crate::settings::{HistoryKept, LogFormat};

pub(super) const ROWS: &[Row] = &[
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
