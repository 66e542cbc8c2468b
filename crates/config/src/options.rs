//! The options, one row each: what may be written, what holds without it, and why one would.
//! Reading, the sample file, the reference and the messages about unknown keys all go by this table.

mod accepting;
mod answers;
mod operating;
mod sending;
mod ways;

use std::time::Duration;

use relay_policy::TlsRequirement;

use crate::kind::{Kind, words_of};
use crate::row::{Row, Section};

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

/// Every option, in the order of the sample file.
pub const OPTIONS: &[Row] = &joined();

const FILES: &[&[Row]] = &[
    accepting::ROWS,
    sending::ROWS,
    ways::ROWS,
    answers::ROWS,
    operating::ROWS,
];

const COUNT: usize = {
    let (mut count, mut file) = (0, 0);
    while file < FILES.len() {
        count += FILES[file].len();
        file += 1;
    }
    count
};

/// One slice of them all, for whoever looks a key up.
const fn joined() -> [Row; COUNT] {
    let mut all = [FILES[0][0]; COUNT];
    let (mut next, mut file) = (0, 0);
    while file < FILES.len() {
        let mut row = 0;
        while row < FILES[file].len() {
            all[next] = FILES[file][row];
            next += 1;
            row += 1;
        }
        file += 1;
    }
    all
}
