//! The seam to DNS. Real: [`crate::dns`] (hickory); in tests a map; in the sandbox the simulator.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// Boxed, so that a resolver can stand behind `Arc<dyn Resolver>`.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxRecord {
    pub preference: u16,
    /// Lower case, no trailing dot; "" for the root (null MX, RFC 7505).
    pub exchange: String,
}

/// What DNS said to one question. CNAMEs have been followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    Found(Vec<T>),
    /// The name exists, but not with this type.
    NoRecords,
    NoSuchName,
    /// SERVFAIL, time-out, refused: the words for the operator.
    Trouble(String),
}

/// Names are given in A-labels, without a trailing dot, and are never completed by a search list.
pub trait Resolver: Send + Sync + 'static {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>>;
    /// A and AAAA together; `Found` is never empty.
    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>>;
}
