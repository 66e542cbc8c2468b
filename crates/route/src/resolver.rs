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

/// Whether an answer was validated (RFC 4033 section 5). What is bogus never comes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dnssec {
    Secure,
    Insecure,
}

/// What DNS says of the certificates of one host and port (RFC 7672 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsa {
    /// No validated records: DANE does not apply.
    None,
    Found {
        /// The TLSA base domain: whose records these are, in lower case.
        base: String,
        /// Never empty; usable or not.
        records: Vec<TlsaRecord>,
    },
    /// There may be records, and they cannot be had: the words for the operator. Mail waits, or an
    /// attacker who blocks them could take the protection away.
    Trouble(String),
}

/// One TLSA record, its three numbers as on the wire (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsaRecord {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

/// Names are given in A-labels, without a trailing dot, and are never completed by a search list.
pub trait Resolver: Send + Sync + 'static {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>>;
    /// A and AAAA together; `Found` is never empty.
    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>>;
    /// Each TXT record in one piece.
    fn txt<'a>(&'a self, name: &'a str) -> Later<'a, Lookup<String>> {
        let _ = name;
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    /// The names that an address calls itself (RFC 1035 section 3.5), as those of [`Resolver::mx`].
    fn ptr(&self, address: IpAddr) -> Later<'_, Lookup<String>> {
        let _ = address;
        Box::pin(std::future::ready(Lookup::NoRecords))
    }
    /// The TLSA records of a host, if all that leads to them was validated. `mx_of`: the domain whose MX
    /// records named the host; None: it was named by the operator, or is the domain itself.
    fn tlsa<'a>(&'a self, mx_of: Option<&'a str>, host: &'a str, port: u16) -> Later<'a, Tlsa> {
        // A resolver that knows nothing of DNSSEC.
        let _ = (mx_of, host, port);
        Box::pin(std::future::ready(Tlsa::None))
    }
}
