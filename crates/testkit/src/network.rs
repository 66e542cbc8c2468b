//! A small internet on loopback: one DNS, and hosts on 127.0.0.2 and up that share one port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::dns::Dns;
use crate::mx::Mx;

/// Hosts must share the port, since `delivery.port` is one number for all MX hosts.
#[derive(Debug)]
pub struct Network {
    pub dns: Dns,
    /// The port of every MX in this network.
    pub port: u16,
}

impl Network {
    /// `zone`: lines such as `rcpt.example MX 10 mx1.rcpt.example`; see [`Dns::start`].
    pub fn with_zone(zone: &str) -> Network {
        Network {
            dns: Dns::start(zone),
            port: free_port(),
        }
    }

    /// Starts a scripted MX on 127.0.0.`last`; see [`Mx::start`] for the script.
    pub fn mx(&self, last: u8, script: &str) -> Mx {
        Mx::start(self.address(last), script)
    }

    /// The same with STARTTLS, by a certificate of its own that nobody trusts.
    pub fn mx_with_tls(&self, last: u8, script: &str) -> Mx {
        Mx::start_with_tls(self.address(last), script)
    }

    fn address(&self, last: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), self.port)
    }
}

/// A port that was free on all of loopback a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}
