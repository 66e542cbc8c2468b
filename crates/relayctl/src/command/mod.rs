//! One file a command.

pub mod act;
pub mod config;
pub mod dkim;
pub mod doctor;
pub mod export;
mod findings;
pub mod flush;
pub mod import;
mod list;
pub mod log;
pub mod metrics;
pub mod policy;
mod postfix;
pub mod queue;
pub mod reload;
pub mod select;
pub mod send;
pub mod show;
pub mod site;
pub mod status;
pub mod story;
pub mod summary;
pub mod suppression;
pub mod trace;
pub mod user;
pub mod verify;
pub mod wait;
