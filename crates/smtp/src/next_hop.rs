//! The next hop: where a recipient's mail goes from here (RFC 5321 section 5). Which hosts stand
//! behind it is `route`'s part.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Domain;

/// One next hop. Recipients of a message with the same next hop may share a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// The hosts that the domain's MX records name.
    Domain(Domain),
    /// An address literal.
    Address(IpAddr),
    /// The relays of a `[[route]]`, by its name in the configuration (its `via` joined by commas).
    Relay(Arc<str>),
}

/// As shown in `status`, the log and `site list`: `example.com`, `[192.0.2.1]`, `relay:NAME`.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Domain(domain) => write!(f, "{domain}"),
            NextHop::Address(address) => write!(f, "[{address}]"),
            NextHop::Relay(name) => write!(f, "relay:{name}"),
        }
    }
}
