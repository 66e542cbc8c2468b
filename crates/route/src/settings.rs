//! What the router must know of the configuration; exchanged as a whole by a reload.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The port of MX hosts. Default 25.
    pub port: u16,
    /// Our own name: found in a list of MX hosts, it cuts the list there.
    pub hostname: String,
    /// The relays of each `[[route]]` by its name.
    pub relays: BTreeMap<String, Relays>,
    pub family: AddressFamily,
}

impl RouteSettings {
    /// Port 25, no relays, IPv4 first.
    pub fn for_host(hostname: &str) -> RouteSettings {
        RouteSettings {
            port: 25,
            hostname: hostname.to_owned(),
            relays: BTreeMap::new(),
            family: AddressFamily::Ipv4First,
        }
    }
}

/// The relays of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relays {
    /// A host name or an address, and the port.
    pub hosts: Vec<(String, u16)>,
    pub balance: Balance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// They are tried as they stand.
    InOrder,
    /// Each plan has another order.
    Even,
}

/// Which addresses of a host are used, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    Ipv4First,
    Ipv6First,
    Ipv4Only,
    Ipv6Only,
}
