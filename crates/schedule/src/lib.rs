//! Which next hop may have which recipients now: a state machine fed with events and `now`.
//!
//! Nothing here opens a socket, touches the queue or reads a clock. It says *when*; what a reply
//! means is `policy`'s, who carries it out is `deliver`.

pub mod hop;
mod hops;
mod jobs;
mod pump;
pub mod rate;
pub mod ready;
pub mod scheduler;
mod sessions;
mod site;
mod time;
pub mod why;
pub mod window;

pub use scheduler::{
    Action, Dispatch, Event, FlushSelection, Job, Limits, Report, Scheduler, SessionId, Settings,
    SiteId, SiteNews,
};
pub use why::{Blocked, SiteState};

#[cfg(test)]
mod tests;
