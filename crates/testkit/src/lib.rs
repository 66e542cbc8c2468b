//! Servers and programs that a test starts on loopback: a scripted MX, a fake DNS, a temporary
//! relay, a plain SMTP client. A dev-dependency only.
//!
//! Everything here blocks and uses threads: a test of the real binaries has no runtime of its own
//! and no virtual time. What is started is stopped when its value is dropped.

pub mod client;
pub mod dns;
pub mod identity;
pub mod mx;
pub mod network;
pub mod policy_host;
pub mod relay;
pub mod signed_dns;
pub mod token_host;
pub mod wait;

pub use client::{Client, Offer};
pub use dns::Dns;
pub use identity::Identity;
pub use mx::{Mail, Mx};
pub use network::{Network, free_port};
pub use policy_host::{PolicyHost, Posted};
pub use relay::{Relay, Started};
pub use signed_dns::{SignedDns, SignedZone, Signing};
pub use token_host::TokenHost;
pub use wait::{until, within_patience};
