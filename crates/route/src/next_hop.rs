//! From a next hop to its plan: the hosts to try, in order.
//!
//! RFC 5321 section 5.1 says how MX records are used, RFC 7505 what a null MX means. CNAMEs are the
//! resolver's part; addresses are looked up only when a host's turn comes.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use relay_smtp::{Domain, Failure, NextHop};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::resolver::{Lookup, MxRecord, Resolver, Tlsa};
use crate::settings::{AddressFamily, Balance, RouteSettings};

/// How long the hosts of a domain are remembered here; the resolver keeps the records' own TTL.
const PLAN_KEPT: Duration = Duration::from_secs(60);
/// How long it is remembered that there are none.
const NO_PLAN_KEPT: Duration = Duration::from_secs(30);
/// Domains remembered at once.
const DOMAINS_KEPT: usize = 20_000;
/// More hosts than this are not tried: an attempt tries far fewer, and the site's name stays short.
const HOSTS_MAX: usize = 20;

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

/// Why there is no plan, with words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlan {
    pub failure: Failure,
    pub words: String,
}

/// Resolves next hops.
pub struct Router {
    resolver: Arc<dyn Resolver>,
    settings: ArcSwap<RouteSettings>,
    cache: Mutex<Cache<Result<Hosts, NoPlan>>>,
    rng: Mutex<StdRng>,
}

/// The usable hosts of a domain, as groups of equal preference, the preferred ones first.
type Hosts = Arc<Vec<Vec<String>>>;

impl Router {
    /// Equal hosts are shuffled by the system's randomness.
    pub fn new(resolver: Arc<dyn Resolver>, settings: RouteSettings) -> Router {
        Router::with_seed(resolver, settings, rand::random())
    }

    /// Equal hosts are shuffled in the same way for the same seed.
    pub fn with_seed(resolver: Arc<dyn Resolver>, settings: RouteSettings, seed: u64) -> Router {
        Router {
            resolver,
            settings: ArcSwap::from_pointee(settings),
            cache: Mutex::new(Cache::new(DOMAINS_KEPT)),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Takes new settings and forgets what was remembered.
    pub fn reload(&self, settings: RouteSettings) {
        self.settings.store(Arc::new(settings));
        lock(&self.cache).clear();
    }

    /// The hosts to try. Fails where there can be none, or where DNS does not say.
    pub async fn plan(&self, hop: &NextHop) -> Result<Plan, NoPlan> {
        match hop {
            NextHop::Domain(domain) => self.plan_domain(domain).await,
            NextHop::Address(address) => {
                let host = format!("[{address}]");
                Ok(Plan {
                    site: host.clone(),
                    candidates: vec![Candidate {
                        host,
                        port: self.settings.load().port,
                        address: Some(*address),
                        tls: TlsStart::Starttls,
                    }],
                })
            }
            NextHop::Relay(name) => self.plan_relay(name),
        }
    }

    /// The addresses of a host, in the order of the configured family. Never empty.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoPlan> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let none = |failure, words| Err(NoPlan { failure, words });
        let found = match self.resolver.addresses(host).await {
            Lookup::Found(found) => found,
            // A host that does not exist is not a recipient's domain that does not exist: other
            // hosts of the site may still take the mail, so both are called the same here.
            Lookup::NoRecords | Lookup::NoSuchName => {
                return none(Failure::NoAddress, format!("host {host} has no address"));
            }
            Lookup::Trouble(words) => return none(Failure::DnsTrouble, words),
        };
        let family = self.settings.load().family;
        let ordered = in_family_order(found, family);
        if ordered.is_empty() {
            let words = format!(
                "host {host} has no address of the family that delivery.address_family allows"
            );
            return none(Failure::NoAddress, words);
        }
        Ok(ordered)
    }

    /// What DANE asks of a host of this next hop (RFC 7672 section 2.2).
    pub async fn tlsa(&self, hop: &NextHop, candidate: &Candidate) -> Tlsa {
        let host = &candidate.host;
        if candidate.address.is_some() {
            // An address literal has no name that records could stand at.
            return Tlsa::None;
        }
        let domain = match hop {
            NextHop::Domain(domain) => Some(domain.to_ascii()),
            NextHop::Address(_) | NextHop::Relay(_) => None,
        };
        // A domain that is its own host needs no proof of its MX: whoever forges one that names the domain
        // itself still leads there only, and the records are looked for at that name.
        let mx_of = domain.filter(|domain| !domain.eq_ignore_ascii_case(host));
        self.resolver
            .tlsa(mx_of.as_deref(), host, candidate.port)
            .await
    }

    async fn plan_domain(&self, domain: &Domain) -> Result<Plan, NoPlan> {
        let ascii = domain.to_ascii();
        let known = lock(&self.cache).get(&ascii, Instant::now());
        let hosts = match known {
            Some(hosts) => hosts,
            None => {
                let hosts = self.hosts_of(&ascii).await;
                let keep = match &hosts {
                    Ok(_) => PLAN_KEPT,
                    Err(_) => NO_PLAN_KEPT,
                };
                lock(&self.cache).put(&ascii, hosts.clone(), keep, Instant::now());
                hosts
            }
        }?;
        let mut names: Vec<&str> = hosts.iter().flatten().map(String::as_str).collect();
        names.sort_unstable();
        let site = names.join(",");
        let port = self.settings.load().port;
        let mut rng = lock(&self.rng);
        let mut candidates = Vec::with_capacity(names.len());
        for group in hosts.iter() {
            // "the sender-SMTP MUST randomize them" (RFC 5321 section 5.1).
            let mut equal = group.clone();
            equal.shuffle(&mut *rng);
            candidates.extend(equal.into_iter().map(|host| Candidate {
                host,
                port,
                address: None,
                tls: TlsStart::Starttls,
            }));
        }
        Ok(Plan { site, candidates })
    }

    fn plan_relay(&self, name: &str) -> Result<Plan, NoPlan> {
        let settings = self.settings.load();
        let of_route = settings.relays.get(name);
        let candidates: Vec<Candidate> = match of_route {
            Some(relays) => {
                let hosts = relays.hosts.iter();
                let mut candidates: Vec<Candidate> = hosts
                    .map(|(host, port)| relay_candidate(host, *port))
                    .collect();
                match relays.balance {
                    Balance::InOrder => {}
                    Balance::Even => candidates.shuffle(&mut *lock(&self.rng)),
                }
                candidates
            }
            // Where an operator has rerouted mail to.
            None => single_relay(name).into_iter().collect(),
        };
        if candidates.is_empty() {
            return Err(NoPlan {
                failure: Failure::NoAddress,
                words: format!("no [[route]] has the relays {name} any more"),
            });
        }
        Ok(Plan {
            site: format!("relay:{name}"),
            candidates,
        })
    }

    async fn hosts_of(&self, domain: &str) -> Result<Hosts, NoPlan> {
        let none = |failure, words| Err(NoPlan { failure, words });
        let records = match self.resolver.mx(domain).await {
            Lookup::Found(records) => records,
            Lookup::NoRecords => return self.domain_as_host(domain).await,
            Lookup::NoSuchName => {
                let words = format!("domain {domain} does not exist");
                return none(Failure::NoSuchDomain, words);
            }
            Lookup::Trouble(words) => return none(Failure::DnsTrouble, words),
        };
        // A root exchange beside others breaks RFC 7505 section 3; the others are meant.
        let named: Vec<MxRecord> = records
            .into_iter()
            .filter(|record| !record.exchange.is_empty())
            .collect();
        if named.is_empty() {
            let words = format!("domain {domain} takes no mail (null MX, RFC 7505)");
            return none(Failure::NullMx, words);
        }
        let own = self.settings.load().hostname.to_ascii_lowercase();
        let hosts = by_preference(named, &own);
        if hosts.is_empty() {
            let words = format!("we ({own}) are the best MX of {domain} ourselves");
            return none(Failure::MxLoop, words);
        }
        Ok(Arc::new(hosts))
    }

    /// Without MX records the domain itself is the host (RFC 5321 section 5.1); with MX records,
    /// however useless, it never is.
    async fn domain_as_host(&self, domain: &str) -> Result<Hosts, NoPlan> {
        let none = |failure, words| Err(NoPlan { failure, words });
        if domain.eq_ignore_ascii_case(&self.settings.load().hostname) {
            let words = format!("{domain} is our own name, and it has no MX");
            return none(Failure::MxLoop, words);
        }
        match self.resolver.addresses(domain).await {
            Lookup::Found(_) => Ok(Arc::new(vec![vec![domain.to_owned()]])),
            Lookup::NoRecords => {
                let words = format!("domain {domain} has neither MX nor address");
                none(Failure::NoAddress, words)
            }
            Lookup::NoSuchName => {
                let words = format!("domain {domain} does not exist");
                none(Failure::NoSuchDomain, words)
            }
            Lookup::Trouble(words) => none(Failure::DnsTrouble, words),
        }
    }
}

/// Groups of equal preference. Our own name drops its group and all less preferred ones, for they
/// would send the mail back to us (RFC 5321 section 5.1).
fn by_preference(mut records: Vec<MxRecord>, own: &str) -> Vec<Vec<String>> {
    for record in &mut records {
        record.exchange.make_ascii_lowercase();
    }
    records.sort_by(|a, b| (a.preference, &a.exchange).cmp(&(b.preference, &b.exchange)));
    let cut = records
        .iter()
        .find(|record| record.exchange == own)
        .map(|record| record.preference);
    let mut groups: Vec<(u16, Vec<String>)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for record in records {
        if cut.is_some_and(|cut| record.preference >= cut) || seen.len() == HOSTS_MAX {
            break;
        }
        if !seen.insert(record.exchange.clone()) {
            continue;
        }
        match groups.last_mut() {
            Some((preference, group)) if *preference == record.preference => {
                group.push(record.exchange);
            }
            Some(_) | None => groups.push((record.preference, vec![record.exchange])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The servers behind the name of a site, each with its port: the inverse of [`Plan::site`]. `port` is that of MX hosts.
pub fn servers_of_site(site: &str, port: u16) -> Vec<(String, u16)> {
    match site.strip_prefix("relay:") {
        Some(relays) => relays
            .split(',')
            .filter_map(single_relay)
            .map(|relay| (relay.host, relay.port))
            .collect(),
        None => site
            .split(',')
            .map(|host| (host.to_owned(), port))
            .collect(),
    }
}

/// From `HOST:PORT`; several relays are a route's only.
fn single_relay(name: &str) -> Option<Candidate> {
    let (host, port) = name.rsplit_once(':')?;
    let single = !host.is_empty() && !host.contains(',');
    single.then_some(relay_candidate(host, port.parse().ok()?))
}

fn relay_candidate(host: &str, port: u16) -> Candidate {
    let tls = match port {
        // Implicit TLS for submission (RFC 8314 section 3.3).
        465 => TlsStart::Implicit,
        _ => TlsStart::Starttls,
    };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Candidate {
            host: format!("[{address}]"),
            port,
            address: Some(address),
            tls,
        },
        Err(_) => Candidate {
            host: idna::domain_to_ascii(host).unwrap_or_else(|_| host.to_ascii_lowercase()),
            port,
            address: None,
            tls,
        },
    }
}

/// Within a family the resolver's order stays: it is the domain's own rotation.
fn in_family_order(addresses: Vec<IpAddr>, family: AddressFamily) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    match family {
        AddressFamily::Ipv4First => [v4, v6].concat(),
        AddressFamily::Ipv6First => [v6, v4].concat(),
        AddressFamily::Ipv4Only => v4,
        AddressFamily::Ipv6Only => v6,
    }
}

/// What stands in these locks is whole between any two statements, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
