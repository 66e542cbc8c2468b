//! The operator's API: HTTP with JSON over a unix socket, read-only views of the queue and the
//! sites, and a few commands.
//!
//! It decides nothing about mail: what a command leads to is carried out by `queue` and `deliver`.
//! [`view`] holds the answers' types, shared with `relayctl`.

pub mod act;
pub mod api;
mod choice;
pub mod command;
pub mod error;
pub mod export;
pub mod files;
pub mod import;
pub mod line;
pub mod log;
mod past;
pub mod queue;
pub mod reroute;
pub mod select;
pub mod site;
pub mod socket;
pub mod status;
pub mod summary;
pub mod suppression;
pub mod tls_report;
pub mod trace;
pub mod verify;
pub mod view;
pub mod watch;
pub mod world;

pub use socket::{bind, serve};
pub use world::{AdminWorld, Dispatcher, Examine, Later, Reload, TlsReports};
