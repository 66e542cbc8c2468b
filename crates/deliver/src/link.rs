//! The two ends between the dispatcher (`run`, which owns the scheduler) and a session (`attempt`).

use std::sync::Arc;

use relay_queue::Message;
use relay_schedule::{Dispatch, Report, SessionId, SiteId};
use relay_smtp::NextHop;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a session tells the dispatcher.
#[derive(Clone, Debug)]
pub enum FromSession {
    /// It is connected and wants work; also after each report.
    Ready(SessionId),
    /// The dispatch has been carried out and settled.
    Done { session: SessionId, report: Report },
    /// A message that the settlement made (a DSN): it wants its jobs.
    Accepted(Arc<Message>),
    /// What the policy said about the flow.
    Flow { site: SiteId, flow: Flow },
    /// The session has ended. Always the last word, also after a panic of the task.
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
    },
    SuspendDestination {
        rule: String,
        how_long: Duration,
    },
    /// The site took this many recipients and refused the next one.
    RecipientsPerTransaction(u32),
    /// The site ended the session after this many messages.
    MessagesPerConnection(u32),
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
