//! TLS towards next hops.

pub struct TlsClient {}
