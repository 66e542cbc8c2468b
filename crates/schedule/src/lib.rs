//! Which next hop may have which recipients now: a state machine fed with events and `now`.
//!
//! Nothing here opens a socket, touches the queue or reads a clock. It says *when*; what a reply
//! means is `policy`'s, who carries it out is `deliver`.

mod groups;
pub mod hop;
mod hops;
mod jobs;
pub mod kept;
mod order;
mod pause;
mod pump;
pub mod rate;
mod ready;
mod room;
mod scheduler;
mod senders;
mod sessions;
mod site;
pub mod sources;
mod time;
mod waiting;
pub mod why;
pub mod window;
mod words;

pub use groups::{Cap, Share, Usage, WarmUp, WarmedUp};
pub use kept::{Kept, KeptPause, KeptSlow};
pub use scheduler::Scheduler;
pub use sources::SourceChoice;
pub use why::{Blocked, SiteState, SourceState};
pub use words::{
    Action, Dispatch, Event, FlushSelection, Job, Limits, Reach, Report, SessionId, Settings,
    SiteId, SiteNews, Source,
};

#[cfg(test)]
mod tests;
