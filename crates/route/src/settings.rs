//! What the router must know of the configuration; exchanged as a whole by a reload.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The port of MX hosts. Default 25.
    pub port: u16,
    /// Our own name: found in a list of MX hosts, it cuts the list there.
    pub hostname: String,
    /// The relays of each `[[route]]` by its name, in the order in which they are tried: a host name
    /// or an address, and the port.
    pub relays: BTreeMap<String, Vec<(String, u16)>>,
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

/// Which addresses of a host are used, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    Ipv4First,
    Ipv6First,
    Ipv4Only,
    Ipv6Only,
}
