//! What the scheduler and its driver say to each other: jobs and events in, actions out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_smtp::envelope::Priority;
use relay_smtp::{NextHop, QueueId};

use crate::groups::Share;
use crate::kept::Kept;
use crate::sources::SourceChoice;

/// All recipients of one message with one next hop. Small: a million of them must fit in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: QueueId,
    pub hop: NextHop,
    /// Not before this time, unless flushed.
    pub due: Timestamp,
    /// The last try is made then, whatever the site's health.
    pub deadline: Timestamp,
    /// Who sends: fairness within a site goes round the senders,
    pub sender: Arc<str>,
    /// and of each sender round its streams: a mailing is one, password resets are another.
    pub stream: Arc<str>,
    /// Of the message: small ones go before large ones, for a bounded time.
    pub bytes: u64,
    /// The more urgent goes before the less urgent of the same stream, for a bounded time too.
    pub priority: Priority,
}

/// Names the site: the sorted MX names joined by commas, or `relay:NAME`, or `[address]`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct SiteId(pub Arc<str>);

/// One session of `deliver` towards a site. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a site may have. From `[[limit]]`, `[[route]]` and what was learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Sessions at once; at least 1.
    pub connections: u32,
    /// Messages (transactions) per second; None: no limit.
    pub rate: Option<f64>,
    /// Then the session is closed and another may be opened; at least 1.
    pub messages_per_connection: u32,
    /// Recipients in one transaction; at least 1.
    pub recipients_per_transaction: u32,
}

/// The work handed to a session: one message, one next hop. The session asks the queue which of its
/// recipients are due (`next_attempt <= as_of`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub id: QueueId,
    pub hop: NextHop,
    /// Recipients due by then belong to this dispatch. Timestamp::MAX for a flushed job.
    pub as_of: Timestamp,
    /// Recipients in one transaction, by what is set and what the site has taught us; at least 1.
    pub recipients_max: u32,
    /// Transactions in one connection, likewise. One dispatch may take several.
    pub messages_max: u32,
    /// Which local addresses it may go from.
    pub sources: SourceChoice,
    pub reach: Reach,
}

/// Whether a dispatch tries hosts that are known to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It does not wait for them.
    Living,
    /// It was flushed, it is the last try, or it is to find out whether the site is back.
    All,
}

/// What the driver tells the scheduler.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A new message, a loaded one, or one that was released.
    Add(Job),
    /// No longer to be tried: delivered elsewhere, held, deleted, bounced by an operator.
    Remove(QueueId),
    /// The next hop's hosts are known (or could not be found: then the site is one of its own,
    /// without limits, and its session settles the failure).
    Resolved {
        hop: NextHop,
        site: SiteId,
        limits: Limits,
        /// The caps that it shares with other sites.
        shares: Vec<Share>,
    },
    /// A session is there and wants work: first at its start, before it has connected (so that a
    /// failure to connect settles a dispatch), then after each report.
    Ready(SessionId),
    /// A session has carried out its dispatch, and nothing more is to come of it.
    Done {
        session: SessionId,
        report: Report,
    },
    /// The host has taken the session's connection, from this address; None: the kernel chose it.
    Opened {
        session: SessionId,
        source: Option<IpAddr>,
    },
    /// A session has carried out its dispatch, and may have another; the outcome is being written
    /// down. The job stays in flight until `Settled`, whatever becomes of the session.
    Carried {
        session: SessionId,
        news: SiteNews,
    },
    /// A session has ended: no more work for it. If it still had a dispatch without a report, that
    /// job is put back, due now.
    Closed(SessionId),
    /// These messages are due now; back-off and suspensions are set aside for them, rates are kept.
    Flush(FlushSelection),
    /// An operator or the policy speaks about a site.
    Suspend {
        site: SiteId,
        until: Timestamp,
        /// The rule's name, or the operator's word.
        rule: Arc<str>,
    },
    /// All hosts of the site failed an attempt for the same reason: it need not be found out by further
    /// messages. What the attempt itself reports comes after this.
    HostsFailAlike {
        site: SiteId,
        rule: Arc<str>,
    },
    /// One source address pauses towards the site, the others go on. Where there is only one, or the
    /// kernel chooses, the site pauses.
    SuspendSource {
        site: SiteId,
        source: Option<IpAddr>,
        until: Timestamp,
        rule: Arc<str>,
    },
    Resume {
        site: SiteId,
    },
    /// What was known of a site before a restart.
    Restore(Kept),
    /// Rate and connections are halved until then, and recover step by step.
    Slow {
        site: SiteId,
        until: Timestamp,
        rule: Arc<str>,
    },
    /// Limits changed (learned, or a learned one has lapsed): these hold as they are.
    Limit {
        site: SiteId,
        limits: Limits,
    },
    /// What a `Carried` job came to is written down, or an `Action::Expire` has been carried out.
    Settled {
        hop: NextHop,
        report: Report,
    },
    /// The settings were exchanged: sites and limits are asked for again.
    Refresh,
}

#[derive(Clone, Debug)]
pub enum FlushSelection {
    All,
    Ids(Vec<QueueId>),
}

/// How a dispatch ended, as far as time is concerned. The queue has it all already.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub id: QueueId,
    /// The earliest time at which a recipient of this job is due again; None: the job is finished.
    pub due_again: Option<Timestamp>,
    /// What it says about the site.
    pub site: SiteNews,
}

/// What an attempt says about the site's health and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteNews {
    /// The session works.
    Good,
    /// Connection or handshake failure on all hosts: counts against window and health.
    Unreachable,
    /// The site is there and says that we have too many sessions: counts against the window only.
    Crowded,
    /// Neither: a recipient's 4xx, a bounce.
    Neutral,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Find the site of a next hop; answer with `Event::Resolved`.
    Resolve(NextHop),
    /// Start a session to the site by way of this next hop; it answers `Ready` when it wants work,
    /// in any case `Closed` at its end.
    Open {
        session: SessionId,
        site: SiteId,
        hop: NextHop,
    },
    /// Give the session this work.
    Assign {
        session: SessionId,
        dispatch: Dispatch,
    },
    /// There is no work for this session now and none to be expected within the idle time: end it.
    Quit(SessionId),
    /// The deadline of a job passed while its site was suspended: settle its recipients as expired,
    /// with their last reply, and answer with `Event::Settled`.
    Expire(Dispatch),
    /// For the operator: dispatches in a row reached no host, so the site rests until then.
    Suspended {
        site: SiteId,
        until: Timestamp,
        why: String,
    },
    /// For the operator: the site was dead or suspended, and takes mail again.
    Resumed { site: SiteId },
    /// For the operator: the source address was suspended there, and mail from it is taken again.
    SourceResumed { site: SiteId, source: IpAddr },
}

/// What the scheduler is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a session without work is kept open.
    pub idle: Duration,
    /// Sessions at once, all sites together; at least 1.
    pub sessions_max: u32,
    /// Local addresses to send from; empty: the kernel chooses.
    pub sources: Vec<Source>,
    /// Seeds the only chances in here: by how much suspensions are stretched, and which source is next.
    pub seed: u64,
}

/// A local address to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub address: IpAddr,
    /// Its part of the mail, in proportion to the others' of its family. 0: it is not used.
    pub weight: u32,
}
