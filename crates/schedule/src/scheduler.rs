//! The scheduler: jobs wait for their time, then for their site's turn, then for a session.
//!
//! The driver (`deliver::run`) owns one `Scheduler`, feeds it events, carries out the actions it
//! returns, and calls `handle(Event::Tick)` at `wake_at`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_smtp::{NextHop, QueueId};

/// All recipients of one message with one next hop. Small: a million of them must fit in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: QueueId,
    pub hop: NextHop,
    /// Not before this time, unless flushed.
    pub due: Timestamp,
    /// The last try is made then, whatever the site's health.
    pub deadline: Timestamp,
    /// Who sends: fairness within a site goes round the senders.
    pub sender: Arc<str>,
}

/// Names the site: the sorted MX names joined by commas, or `relay:NAME`, or `[address]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    },
    /// A session is there and wants work: first at its start, before it has connected (so that a
    /// failure to connect settles a dispatch), then after each report.
    Ready(SessionId),
    /// A session has carried out its dispatch.
    Done {
        session: SessionId,
        report: Report,
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
    },
    Resume {
        site: SiteId,
    },
    Slow {
        site: SiteId,
        until: Timestamp,
    },
    /// Limits changed (reload, or learned).
    Limit {
        site: SiteId,
        limits: Limits,
    },
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
    /// The deadline of a job passed while its site was suspended or its session never came: settle
    /// its recipients as expired, with their last reply.
    Expire(Dispatch),
}

/// Pure state.
#[derive(Debug)]
pub struct Scheduler {}

impl Scheduler {
    /// `idle`: how long a session without work is kept open.
    pub fn new(idle: Duration) -> Scheduler {
        let _ = idle;
        Scheduler {}
    }

    /// Takes one event; appends what is to be done to `actions`.
    pub fn handle(&mut self, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
        let _ = (event, now, actions);
        todo!()
    }

    /// When `Event::Tick` is wanted next; None: not before another event.
    pub fn wake_at(&self) -> Option<Timestamp> {
        todo!()
    }
}
