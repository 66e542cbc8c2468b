//! From the queue and the configuration to what the scheduler and the router are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_config::{AddressFamily, Aim, Balance, Config, EffectiveLimits, InForce, SourceAddress};
use relay_queue::{Message, State};
use relay_route::{Relays, RouteSettings};
use relay_schedule::{Job, Limits, SiteId, Source};
use relay_smtp::{NextHop, ReversePath};

use crate::next_hop::next_hop;
use crate::world::World;

/// One job for each next hop of the recipients that are still to be tried.
pub(super) fn jobs_of(message: &Message, config: &Config) -> Vec<Job> {
    let mut due: BTreeMap<NextHop, Timestamp> = BTreeMap::new();
    for (index, recipient, state) in message.each() {
        match state.state {
            State::Queued | State::Deferred => {
                due.entry(next_hop(config, message, index, recipient))
                    .and_modify(|earliest| *earliest = state.next_attempt.min(*earliest))
                    .or_insert(state.next_attempt);
            }
            State::Held | State::Delivered | State::Bounced | State::Discarded => {}
        }
    }
    if due.is_empty() {
        return Vec::new();
    }
    let stream = stream_of(message);
    let sender = match &message.arrival.user {
        Some(user) => Arc::from(user.as_str()),
        None => Arc::clone(&stream),
    };
    let deadline = deadline_of(message, config);
    due.into_iter()
        .map(|(hop, due)| Job {
            id: message.id,
            hop,
            due,
            deadline,
            sender: Arc::clone(&sender),
            stream: Arc::clone(&stream),
            bytes: message.size,
            priority: message.envelope.priority,
        })
        .collect()
}

/// The longest of the schedules: which one holds for a recipient is for the policy to say at its last
/// attempt, and a try too late does less harm than giving up too early.
fn deadline_of(message: &Message, config: &Config) -> Timestamp {
    let max_age = config
        .retry
        .values()
        .map(|schedule| schedule.max_age)
        .max()
        .unwrap_or(Duration::ZERO);
    SignedDuration::try_from(max_age)
        .ok()
        .and_then(|age| message.arrival.at.checked_add(age).ok())
        .unwrap_or(Timestamp::MAX)
}

/// What takes turns with what: the reverse-path without what a mailing varies from message to message
/// (VERP tags, numbers), for else each of its messages would count as a sender of its own. So the mailing
/// of a user does not hold up the receipts of the same user; between users the turns are each user's.
fn stream_of(message: &Message) -> Arc<str> {
    match &message.envelope.reverse_path {
        ReversePath::Null => Arc::from("<>"),
        ReversePath::Mailbox(mailbox) => {
            let local = mailbox.local_part();
            let steady = local
                .find(|c: char| c == '+' || c == '=' || c.is_ascii_digit())
                .map_or(local, |end| &local[..end]);
            let steady = steady.trim_end_matches(['-', '.', '_']);
            Arc::from(format!("{steady}@{}", mailbox.host()))
        }
    }
}

/// What the router must know, taken from the configuration.
pub fn route_settings(config: &Config) -> RouteSettings {
    let relays = config
        .routes
        .iter()
        .map(|route| {
            let relays = route
                .via
                .iter()
                .map(|relay| (relay.host.clone(), relay.port));
            let relays = Relays {
                hosts: relays.collect(),
                balance: match route.balance {
                    Balance::InOrder => relay_route::Balance::InOrder,
                    Balance::Even => relay_route::Balance::Even,
                },
            };
            (route.name.to_string(), relays)
        })
        .collect();
    RouteSettings {
        port: config.delivery.port,
        hostname: config.hostname.clone(),
        relays,
        family: match config.delivery.address_family {
            AddressFamily::Ipv4First => relay_route::AddressFamily::Ipv4First,
            AddressFamily::Ipv6First => relay_route::AddressFamily::Ipv6First,
            AddressFamily::Ipv4Only => relay_route::AddressFamily::Ipv4Only,
            AddressFamily::Ipv6Only => relay_route::AddressFamily::Ipv6Only,
        },
    }
}

pub(super) fn scheduler_settings(config: &Config, seed: u64) -> relay_schedule::Settings {
    relay_schedule::Settings {
        idle: config.delivery.idle,
        sessions_max: config.delivery.sessions_max,
        sources: config.sources.iter().map(source).collect(),
        seed,
    }
}

fn source(source: &SourceAddress) -> Source {
    Source {
        address: source.address,
        weight: source.weight,
    }
}

/// What is known of a next hop.
pub(super) struct Resolved {
    pub(super) hop: NextHop,
    pub(super) site: SiteId,
    pub(super) limits: Limits,
    /// None: nothing is known of it.
    pub(super) in_force: Option<InForce>,
    /// The provider that the site belongs to.
    pub(super) provider: Option<Arc<str>>,
}

/// Asks the router for the site of a next hop, and finds its limits.
pub(super) async fn resolve(world: Arc<World>, hop: NextHop) -> Resolved {
    let (site, hosts) = site_of(&world, &hop).await;
    let settings = world.settings.load();
    let domain = match &hop {
        NextHop::Domain(domain) => Some(domain.to_ascii()),
        NextHop::Address(_) | NextHop::Relay(_) => None,
    };
    let mx: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let provider = settings
        .table
        .provider_of(mx.first().copied(), domain.as_deref());
    let name = provider.map(AsRef::as_ref);
    let in_force = settings.config.limits_in_force(&Aim {
        domain: domain.as_deref(),
        provider: name,
        mx: &mx,
        route: match &hop {
            NextHop::Relay(name) => Some(name),
            NextHop::Domain(_) | NextHop::Address(_) => None,
        },
    });
    Resolved {
        hop,
        site: SiteId(Arc::from(site)),
        limits: scheduler_limits(&in_force.limits),
        in_force: Some(in_force),
        provider: provider.cloned(),
    }
}

/// The name and the hosts of the site. Where there are no hosts the next hop is a site of its own,
/// with the limits of its domain: its session finds the same failure and settles it.
pub(super) async fn site_of(world: &World, hop: &NextHop) -> (String, Vec<String>) {
    match world.router.plan(hop).await {
        Ok(plan) => {
            let hosts = plan.candidates.into_iter().map(|candidate| candidate.host);
            (plan.site, hosts.collect())
        }
        Err(_) => (format!("domain {hop}"), Vec::new()),
    }
}

fn scheduler_limits(limits: &EffectiveLimits) -> Limits {
    Limits {
        connections: limits.connections.max(1),
        rate: limits
            .rate
            .map(|rate| f64::from(rate.count) / rate.per.as_secs_f64().max(0.001)),
        messages_per_connection: limits.messages_per_connection.max(1),
        recipients_per_transaction: limits.recipients_per_transaction.max(1),
    }
}
