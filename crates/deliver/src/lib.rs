//! Carries out dispatches: route, dial, TLS, drive `smtp::client`, ask `policy`, settle.
//!
//! It does not say when (that is `schedule`) nor what a reply means (that is `policy`), and it
//! keeps nothing (that is `queue`).

pub mod attempt;
mod carry;
pub mod dane;
pub mod dial;
mod guard;
pub mod homes;
pub mod host_memory;
mod hosts;
pub mod inbound;
mod job;
mod judge;
pub mod link;
mod login;
mod next_hop;
mod open;
pub mod operator;
mod outcome;
mod outgoing;
mod prepared;
mod report;
pub mod run;
pub mod scope;
pub mod settle;
pub mod sign;
mod signed;
mod suppress;
pub mod tls;
mod tls_report;
pub mod trace;
mod verp;
mod wire;
pub mod world;

pub use host_memory::HostTrouble;
pub use next_hop::next_hop;
pub use relay_schedule::SourceState;
pub use run::{Delivery, LimitInForce, SiteView};
pub use world::World;
