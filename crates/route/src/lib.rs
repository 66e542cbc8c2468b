//! Next hop to candidate hosts: MX, null MX, A/AAAA (RFC 5321 section 5.1). Holds the resolver.
//!
//! It opens no SMTP connection and decides nothing about messages.

mod asking;
mod cache;
pub mod dns;
pub mod next_hop;
pub mod resolver;
pub mod settings;

pub use dns::{AdBit, HickoryResolver};
pub use next_hop::{Candidate, NoPlan, Plan, Router, TlsStart, servers_of_site};
pub use resolver::{Dnssec, Lookup, MxRecord, Resolver, Tlsa, TlsaRecord};
pub use settings::{AddressFamily, Balance, Relays, RouteSettings};
