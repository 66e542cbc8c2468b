//! DNS by hickory-resolver.

use std::net::{IpAddr, SocketAddr};

use crate::resolver::{Later, Lookup, MxRecord, Resolver};

/// The real resolver.
pub struct HickoryResolver {}

impl HickoryResolver {
    /// `servers` empty: the system's resolv.conf.
    pub fn new(servers: &[SocketAddr]) -> Result<HickoryResolver, String> {
        let _ = servers;
        todo!()
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, _domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        todo!()
    }
    fn addresses<'a>(&'a self, _host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        todo!()
    }
}
