//! The simulated network: DNS that knows every domain, and connections that lead to
//! [`crate::server`].

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use relay_deliver::dial::{DialError, Dialer, Stream};
use relay_observe::Clock;
use relay_route::resolver::Later;
use relay_route::{Lookup, MxRecord, Resolver};
use relay_smtp::Failure;

use crate::kept::{Kept, Ring};
use crate::server::{self, Greylist};

/// Stands in for DNS and for the network: give it to `relay_route::Router` as its resolver and to
/// `relay_deliver::World` as its dialer.
pub struct SimulatedNet {
    shared: Arc<Shared>,
}

/// What all simulated hosts have in common.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) kept: Ring,
    pub(crate) greylist: Greylist,
}

/// What a domain is like. Everything not named here is an ordinary domain with one MX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ordinary,
    /// `nxdomain.test` does not exist.
    Missing,
    /// `nullmx.test` takes no mail (RFC 7505).
    NullMx,
    /// `dnsfail.test`: its name servers do not answer.
    DnsFails,
    /// `down.test`: its host refuses connections.
    Down,
}

/// A pipe this wide holds the replies to a thousand pipelined RCPTs, so that a client that writes
/// first and reads later cannot stall against us.
const PIPE_BYTES: usize = 256 * 1024;

impl SimulatedNet {
    pub fn new(clock: Clock) -> SimulatedNet {
        SimulatedNet {
            shared: Arc::new(Shared {
                clock,
                kept: Ring::default(),
                greylist: Greylist::default(),
            }),
        }
    }

    /// The latest accepted messages, newest first, at most `limit`.
    pub fn kept(&self, limit: usize) -> Vec<Arc<Kept>> {
        self.shared.kept.latest(limit)
    }
}

impl Resolver for SimulatedNet {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        let answer = match kind(domain) {
            Kind::Ordinary | Kind::Down => Lookup::Found(vec![MxRecord {
                preference: 10,
                exchange: format!("mx.{domain}"),
            }]),
            Kind::Missing => Lookup::NoSuchName,
            Kind::NullMx => Lookup::Found(vec![MxRecord {
                preference: 0,
                exchange: String::new(),
            }]),
            Kind::DnsFails => Lookup::Trouble("simulated SERVFAIL".to_owned()),
        };
        Box::pin(std::future::ready(answer))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        let answer = match kind(host) {
            Kind::Ordinary | Kind::Down | Kind::NullMx => Lookup::Found(vec![address_of(host)]),
            Kind::Missing => Lookup::NoSuchName,
            Kind::DnsFails => Lookup::Trouble("simulated SERVFAIL".to_owned()),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Dialer for SimulatedNet {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        address: SocketAddr,
        _source: Option<IpAddr>,
    ) -> Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, DialError>> + Send + 'a>> {
        let answer = match kind(host) {
            Kind::Down => Err(DialError {
                failure: Failure::Refused,
                words: format!("connection to {address} refused (simulated)"),
            }),
            Kind::Ordinary | Kind::Missing | Kind::NullMx | Kind::DnsFails => {
                let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                tokio::spawn(server::serve(
                    ours,
                    host.to_owned(),
                    Arc::clone(&self.shared),
                ));
                Ok(Box::new(theirs) as Box<dyn Stream>)
            }
        };
        Box::pin(std::future::ready(answer))
    }
}

/// The special names hold for the domain and for everything below it, such as `mx.down.test`.
fn kind(name: &str) -> Kind {
    let is = |special: &str| {
        name.strip_suffix(special)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    [
        ("nxdomain.test", Kind::Missing),
        ("nullmx.test", Kind::NullMx),
        ("dnsfail.test", Kind::DnsFails),
        ("down.test", Kind::Down),
    ]
    .into_iter()
    .find(|(special, _)| is(special))
    .map_or(Kind::Ordinary, |(_, kind)| kind)
}

/// An address of TEST-NET-1 (RFC 5737), always the same for a name.
fn address_of(host: &str) -> IpAddr {
    let sum = host.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    // 1..=254: neither the network's own address nor broadcast.
    let last = u8::try_from(sum % 254 + 1).unwrap_or(1);
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> SimulatedNet {
        SimulatedNet::new(Clock::starting_at(jiff::Timestamp::UNIX_EPOCH))
    }

    #[tokio::test]
    async fn any_domain_has_one_mx_with_an_address_of_the_test_network() {
        let net = net();
        let Lookup::Found(records) = net.mx("example.com").await else {
            panic!("no MX");
        };
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].exchange, "mx.example.com");
        let Lookup::Found(addresses) = net.addresses("mx.example.com").await else {
            panic!("no address");
        };
        assert!(addresses[0].to_string().starts_with("192.0.2."));
    }

    #[tokio::test]
    async fn special_domains_are_missing_or_take_no_mail_or_are_down() {
        let net = net();
        assert_eq!(net.mx("nxdomain.test").await, Lookup::NoSuchName);
        assert_eq!(net.addresses("nxdomain.test").await, Lookup::NoSuchName);
        assert!(matches!(net.mx("dnsfail.test").await, Lookup::Trouble(_)));
        assert!(
            matches!(net.mx("nullmx.test").await, Lookup::Found(records) if records[0].exchange.is_empty())
        );
        let Err(error) = net
            .dial("mx.down.test", "192.0.2.1:25".parse().unwrap(), None)
            .await
        else {
            panic!("down.test is not down");
        };
        assert_eq!(error.failure, Failure::Refused);
        assert_eq!(kind("slowdown.test"), Kind::Ordinary);
    }
}
