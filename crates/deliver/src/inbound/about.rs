//! Which message of ours something is about, and whom. In the order of trust: the address that it came back to
//! (`[delivery] verp`), the sender and the ENVID that it shows, the returned header.

use relay_config::Config;
use relay_message::bounce::{self, Bounce};
use relay_message::report::{self, Kind, NoReport, Original, Report};
use relay_smtp::verp::Read;
use relay_smtp::{Mailbox, QueueId};

/// What came back.
pub(super) enum Back {
    Report(Report),
    /// No machine can read whom it is about.
    Bounce(Bounce),
}

impl Back {
    pub(super) fn read(message: &[u8]) -> Result<Back, NoReport> {
        report::read(message)
            .map(Back::Report)
            .or_else(|why| bounce::read(message).map(Back::Bounce).ok_or(why))
    }

    fn original(&self) -> &Original {
        match self {
            Back::Report(report) => &report.original,
            Back::Bounce(bounce) => &bounce.original,
        }
    }

    fn envelope_id(&self) -> Option<&str> {
        match self {
            Back::Report(Report {
                kind: Kind::Delivery { envelope_id, .. },
                ..
            }) => envelope_id.as_deref(),
            Back::Report(Report {
                kind: Kind::Complaint { .. },
                ..
            })
            | Back::Bounce(_) => None,
        }
    }
}

/// All that it tells of a message of ours. None of it is proof: the history must bear it out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    /// The most trusted first, each once.
    pub ids: Vec<QueueId>,
    /// Whom a sender of ours names: that counts more than what a far host calls the recipient, which may be
    /// the address that it was forwarded to.
    pub recipient: Option<Mailbox>,
}

impl About {
    pub(super) fn of(back: &Back, came_to: &[Mailbox], config: &Config) -> About {
        let template = config.delivery.verp.as_ref().map(|verp| &verp.template);
        let original = back.original();
        let senders = came_to.iter().chain(&original.sender);
        let read: Vec<Read> = senders.filter_map(|one| template?.read(one)).collect();
        let of_verp = read.iter().filter_map(|read| read.id);
        let of_envid = back.envelope_id().and_then(|id| id.parse().ok());
        let mut ids: Vec<QueueId> = Vec::new();
        for id in of_verp.chain(of_envid).chain(of_header(original, config)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        About {
            ids,
            recipient: read.into_iter().find_map(|read| read.recipient),
        }
    }
}

/// The id under which we passed the message on: of the topmost Received field that is ours.
fn of_header(original: &Original, config: &Config) -> Option<QueueId> {
    let ours = |(host, _): &&(String, String)| host.eq_ignore_ascii_case(&config.hostname);
    let mut found = original.received.iter().filter(ours);
    found.find_map(|(_, id)| id.parse().ok())
}
