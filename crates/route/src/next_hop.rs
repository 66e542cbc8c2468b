//! From a next hop to its plan: the hosts to try, in order.

use std::net::IpAddr;

use relay_smtp::Failure;

/// One host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, or `[address]`.
    pub host: String,
    pub port: u16,
    /// None: ask [`Router::addresses`] when its turn comes.
    pub address: Option<IpAddr>,
    /// Relays on port 465 speak TLS from the first byte.
    pub tls: TlsStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    Starttls,
    Implicit,
}

/// Hosts in the order in which they are tried: by preference, equal ones shuffled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The site: sorted host names joined by commas; `relay:NAME`; `[address]`.
    pub site: String,
    pub candidates: Vec<Candidate>,
}

/// Resolves next hops.
pub struct Router {}

/// Why there is no plan, with words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlan {
    pub failure: Failure,
    pub words: String,
}
