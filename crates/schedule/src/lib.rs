//! Which next hop may have which recipients now: a state machine fed with events and `now`.
//!
//! Nothing here opens a socket, touches the queue or reads a clock. It says *when*; what a reply
//! means is `policy`'s, who carries it out is `deliver`.

pub mod hop;
pub mod rate;
pub mod ready;
pub mod scheduler;
pub mod window;

pub use scheduler::{Action, Dispatch, Event, Job, Limits, Report, Scheduler, SessionId, SiteId};
