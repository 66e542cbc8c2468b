//! One enum of events an operator can ask about; each has one log line and its metrics.
//! It decides nothing, and stores nothing but counters and the history of what happened.

pub mod alerts;
pub mod clock;
pub mod crash;
pub mod event;
pub mod family;
pub mod gauge;
pub mod histogram;
pub mod history;
pub mod hits;
pub mod log;
pub mod metric;

pub use clock::Clock;
pub use crash::CrashPoint;
pub use event::{Basis, Event, Events, ReportKind, Tried};
pub use history::History;
