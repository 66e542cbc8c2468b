//! Next hop to candidate hosts: MX, null MX, A/AAAA (RFC 5321 section 5.1). Holds the resolver.
//!
//! It opens no SMTP connection and decides nothing about messages.

pub mod dns;
pub mod next_hop;
pub mod resolver;

pub use next_hop::{Candidate, Plan, Router};
pub use resolver::{Lookup, MxRecord, Resolver};
