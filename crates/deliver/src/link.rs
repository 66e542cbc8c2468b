//! The two ends between the dispatcher (`run`, which owns the scheduler) and a session (`attempt`).

use std::net::IpAddr;
use std::sync::Arc;

use relay_queue::Message;
use relay_schedule::{Dispatch, Report, SessionId, SiteId, SiteNews};
use relay_smtp::NextHop;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a session tells the dispatcher.
#[derive(Clone, Debug)]
pub enum FromSession {
    /// It is connected and wants work; also after each report.
    Ready(SessionId),
    /// There was nothing to carry out or to write down.
    Done { session: SessionId, report: Report },
    /// The host has taken its connection, from this address; None: the kernel chose it.
    Opened {
        session: SessionId,
        source: Option<IpAddr>,
    },
    /// The dispatch has been carried out; its outcome is being written down, and `Settled` follows.
    Carried { session: SessionId, news: SiteNews },
    /// The outcome of a `Carried` dispatch is on disk, or cannot be written.
    Settled { hop: NextHop, report: Report },
    /// The queue takes no outcomes any more: whatever is sent now would be sent again.
    QueueStopped,
    /// A message that the settlement made (a DSN): it wants its jobs.
    Accepted(Arc<Message>),
    /// What the policy said about the flow.
    Flow { site: SiteId, flow: Flow },
    /// The session has ended, also by a panic. Its last word, unless a panic left outcomes that are
    /// still being written.
    Closed(SessionId),
}

/// The third level of a decision.
#[derive(Clone, Debug)]
pub enum Flow {
    Slow {
        rule: String,
        how_long: Duration,
    },
    SuspendSource {
        rule: String,
        how_long: Duration,
        /// The address that was spoken of; None: the kernel chose it.
        source: Option<IpAddr>,
        /// Then the source pauses at all sites of this provider.
        provider: Option<Arc<str>>,
    },
    SuspendDestination {
        rule: String,
        how_long: Duration,
    },
    /// All hosts that an attempt may try failed for one reason.
    HostsFailAlike {
        rule: String,
    },
    /// The site took this many recipients and refused the next one.
    RecipientsPerTransaction(u32),
    /// The site ended the session after this many messages.
    MessagesPerConnection(u32),
    /// The site refused a session: there were too many.
    TooManyConnections,
}

/// What the dispatcher tells a session.
#[derive(Clone, Debug)]
pub enum ToSession {
    Work(Dispatch),
    /// No more work: QUIT.
    Quit,
}

/// A session's end. The session starts with `FromSession::Ready` even before it has connected: the
/// first dispatch comes at once, and a failure to connect settles it.
pub struct Link {
    pub session: SessionId,
    pub site: SiteId,
    pub hop: NextHop,
    pub to_dispatcher: mpsc::Sender<FromSession>,
    pub from_dispatcher: mpsc::Receiver<ToSession>,
}
