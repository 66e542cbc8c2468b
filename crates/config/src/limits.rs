//! What `[[limit]]` says for one site: the narrowest table that sets a value wins, each value for itself;
//! where it stands; and which caps the site shares with others.

use std::net::IpAddr;
use std::sync::Arc;

use relay_policy::TlsRequirement;

use crate::lookup::{
    CONNECTIONS_DEFAULT, MESSAGES_PER_CONNECTION_DEFAULT, RECIPIENTS_PER_TRANSACTION_DEFAULT,
    Width, comparable, width_of,
};
use crate::settings::{Config, DomainPattern, EffectiveLimits, Limit, Rate};

/// The site that limits are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim<'a> {
    pub domain: Option<&'a str>,
    pub provider: Option<&'a str>,
    /// Its hosts.
    pub mx: &'a [&'a str],
    /// The name of the `[[route]]` by which mail goes there.
    pub route: Option<&'a str>,
}

/// The limits of a site, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    pub limits: EffectiveLimits,
    pub from: Places,
    pub shared: Vec<SharedCap>,
}

/// `relayd.toml:14`; None: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub rate: Option<Arc<str>>,
    pub connections: Option<Arc<str>>,
    pub messages_per_connection: Option<Arc<str>>,
    pub recipients_per_transaction: Option<Arc<str>>,
}

/// A cap for several sites together, or for what goes from one source address.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedCap {
    /// `connections to provider google`, `rate from 192.0.2.1`: the same for all whom it holds together.
    pub name: Arc<str>,
    pub amount: Amount,
    pub source: Option<IpAddr>,
    /// Where it stands.
    pub from: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Connections(u32),
    Rate(Rate),
}

impl Config {
    /// The limits for a domain, its provider and MX host names. A `[[limit]]` that names several of them
    /// holds where any of them fits.
    pub fn limits_for(
        &self,
        domain: Option<&str>,
        provider: Option<&str>,
        mx: &[&str],
    ) -> EffectiveLimits {
        let route = None;
        let aim = Aim {
            domain,
            provider,
            mx,
            route,
        };
        self.limits_in_force(&aim).limits
    }

    /// The same with their places, and with what is shared.
    pub fn limits_in_force(&self, aim: &Aim<'_>) -> InForce {
        let target = Target::of(aim);
        let fitting = self.fitting(&target, |limit| limit.source.is_empty());
        let rate = first(&fitting, |limit| limit.rate);
        let connections = first(&fitting, |limit| limit.connections);
        let messages = first(&fitting, |limit| limit.messages_per_connection);
        let recipients = first(&fitting, |limit| limit.recipients_per_transaction);
        let tls = first(&fitting, |limit| limit.tls);
        let mut shared = Vec::new();
        if let Some(found) = &connections {
            let amount = Amount::Connections(found.value);
            shared.extend(of_provider(found, amount, "connections", &target));
        }
        if let Some(found) = &rate {
            let amount = Amount::Rate(found.value);
            shared.extend(of_provider(found, amount, "rate", &target));
        }
        for source in &self.sources {
            shared.extend(self.of_source(source.address, &target));
        }
        InForce {
            limits: EffectiveLimits {
                rate: rate.as_ref().map(|found| found.value),
                connections: value_or(&connections, CONNECTIONS_DEFAULT),
                messages_per_connection: value_or(&messages, MESSAGES_PER_CONNECTION_DEFAULT),
                recipients_per_transaction: value_or(
                    &recipients,
                    RECIPIENTS_PER_TRANSACTION_DEFAULT,
                ),
                tls: value_or(&tls, TlsRequirement::Opportunistic),
            },
            from: Places {
                rate: place(&rate),
                connections: place(&connections),
                messages_per_connection: place(&messages),
                recipients_per_transaction: place(&recipients),
            },
            shared,
        }
    }

    /// The narrowest first; the first in the file among equals.
    fn fitting(&self, target: &Target<'_>, kind: impl Fn(&Limit) -> bool) -> Vec<(Width, &Limit)> {
        let mut fitting: Vec<(Width, &Limit)> = self
            .limits
            .iter()
            .filter(|limit| kind(limit))
            .filter_map(|limit| Some((target.width(limit)?, limit)))
            .collect();
        fitting.sort_by_key(|(width, _)| *width);
        fitting
    }

    fn of_source(&self, source: IpAddr, target: &Target<'_>) -> Vec<SharedCap> {
        let fitting = self.fitting(target, |limit| limit.source.contains(&source));
        let cap = |what: &str, limit: &Limit, amount| SharedCap {
            name: Arc::from(format!("{what} from {source}{}", aimed_at(limit))),
            amount,
            source: Some(source),
            from: Arc::clone(&limit.place),
        };
        let connections = first(&fitting, |limit| limit.connections);
        let rate = first(&fitting, |limit| limit.rate);
        let connections = connections
            .map(|found| cap("connections", found.limit, Amount::Connections(found.value)));
        let rate = rate.map(|found| cap("rate", found.limit, Amount::Rate(found.value)));
        connections.into_iter().chain(rate).collect()
    }
}

/// A value, with the table that sets it.
struct Found<'c, T> {
    value: T,
    limit: &'c Limit,
    width: Width,
}

fn first<'c, T>(
    fitting: &[(Width, &'c Limit)],
    field: impl Fn(&Limit) -> Option<T>,
) -> Option<Found<'c, T>> {
    fitting.iter().find_map(|&(width, limit)| {
        let value = field(limit)?;
        Some(Found {
            value,
            limit,
            width,
        })
    })
}

fn value_or<T: Copy>(found: &Option<Found<'_, T>>, default: T) -> T {
    found.as_ref().map_or(default, |found| found.value)
}

fn place<T>(found: &Option<Found<'_, T>>) -> Option<Arc<str>> {
    found.as_ref().map(|found| Arc::clone(&found.limit.place))
}

/// What a table says for a provider holds for all its sites together: a provider may have a site of its
/// own for each of its customers.
fn of_provider<T>(
    found: &Found<'_, T>,
    amount: Amount,
    what: &str,
    target: &Target<'_>,
) -> Option<SharedCap> {
    let provider = target.provider.filter(|_| found.width == Width::Provider)?;
    Some(SharedCap {
        name: Arc::from(format!("{what} to provider {provider}")),
        amount,
        source: None,
        from: Arc::clone(&found.limit.place),
    })
}

/// In words: what a table names besides its sources.
fn aimed_at(limit: &Limit) -> String {
    let domains = limit.to.iter().chain(&limit.mx).map(pattern);
    let providers = limit.provider.iter();
    let providers = providers.map(|name| format!("provider {name}"));
    let routes = limit.route.iter().map(|relay| format!("route {relay}"));
    let all: Vec<String> = domains.chain(providers).chain(routes).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(" to {}", all.join(", ")),
    }
}

fn pattern(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::All => "*".to_owned(),
        DomainPattern::Exactly(name) => name.clone(),
        DomainPattern::Below(name) => format!("*.{name}"),
    }
}

/// An aim with its names as patterns have them.
struct Target<'a> {
    domain: Option<String>,
    provider: Option<&'a str>,
    mx: Vec<String>,
    route: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn of(aim: &Aim<'a>) -> Target<'a> {
        Target {
            domain: aim.domain.map(comparable),
            provider: aim.provider,
            mx: aim.mx.iter().copied().map(comparable).collect(),
            route: aim.route,
        }
    }

    /// None: the table does not speak of it.
    fn width(&self, limit: &Limit) -> Option<Width> {
        let names_nothing = limit.to.is_empty()
            && limit.provider.is_empty()
            && limit.mx.is_empty()
            && limit.route.is_empty();
        if names_nothing && !limit.source.is_empty() {
            return Some(Width::All);
        }
        let by_domain = width_of(&limit.to, self.domain.as_deref());
        let by_mx = self
            .mx
            .iter()
            .filter_map(|host| width_of(&limit.mx, Some(host)))
            .map(|width| match width {
                Width::Domain => Width::Mx,
                Width::BelowDomain(open) => Width::BelowMx(open),
                Width::Route | Width::Mx | Width::BelowMx(_) | Width::Provider | Width::All => {
                    width
                }
            })
            .min();
        let by_provider = self
            .provider
            .filter(|name| limit.provider.iter().any(|wanted| wanted == name))
            .map(|_| Width::Provider);
        let by_route = self
            .route
            .filter(|name| {
                let mut relays = name.split(',');
                relays.any(|relay| limit.route.iter().any(|wanted| wanted.to_string() == relay))
            })
            .map(|_| Width::Route);
        [by_domain, by_mx, by_provider, by_route]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::from_text::config;

    const TEXT: &str = r#"
        [[source]]
        address = "192.0.2.1"
        [[source]]
        address = "192.0.2.2"
        weight = 3
        ehlo_name = "out2.example.com"
        warm_up_start = "2026-11-01"
        warm_up_daily = [200, 500]
        [[route]]
        to = ["partner.example"]
        via = ["smtp.partner.example:587"]
        [[limit]]
        provider = ["google"]
        connections = 20
        rate = "5/s"
        [[limit]]
        to = ["own.example"]
        connections = 7
        [[limit]]
        route = ["smtp.partner.example:587"]
        connections = 2
        [[limit]]
        source = ["192.0.2.1"]
        rate = "100/min"
        [[limit]]
        source = ["192.0.2.1", "192.0.2.2"]
        provider = ["google"]
        rate = "10/min"
        connections = 4
    "#;

    fn names(in_force: &InForce) -> Vec<&str> {
        in_force.shared.iter().map(|cap| &*cap.name).collect()
    }

    #[test]
    fn every_value_tells_where_it_stands_and_what_it_is_shared_with() {
        let config = config(TEXT);
        let aim = Aim {
            domain: Some("someone.example"),
            provider: Some("google"),
            ..Aim::default()
        };
        let google = config.limits_in_force(&aim);
        assert_eq!(google.limits.connections, 20);
        assert_eq!(google.from.connections.as_deref(), Some("relayd.toml:13"));
        assert_eq!(google.from.messages_per_connection, None);
        assert_eq!(
            names(&google),
            [
                "connections to provider google",
                "rate to provider google",
                "connections from 192.0.2.1 to provider google",
                "rate from 192.0.2.1 to provider google",
                "connections from 192.0.2.2 to provider google",
                "rate from 192.0.2.2 to provider google",
            ]
        );
    }

    #[test]
    fn a_domain_with_a_limit_of_its_own_leaves_its_providers_one() {
        let config = config(TEXT);
        let aim = Aim {
            domain: Some("own.example"),
            provider: Some("google"),
            ..Aim::default()
        };
        let own = config.limits_in_force(&aim);
        assert_eq!(own.limits.connections, 7);
        assert_eq!(own.from.rate.as_deref(), Some("relayd.toml:13"));
        assert!(!names(&own).contains(&"connections to provider google"));
        assert!(names(&own).contains(&"rate to provider google"));
    }

    #[test]
    fn a_route_has_its_limit_and_a_source_its_own_where_no_narrower_one_fits() {
        let config = config(TEXT);
        let aim = Aim {
            route: Some("smtp.partner.example:587"),
            mx: &["smtp.partner.example"],
            ..Aim::default()
        };
        let route = config.limits_in_force(&aim);
        assert_eq!(route.limits.connections, 2);
        assert_eq!(names(&route), ["rate from 192.0.2.1"]);
    }

    #[test]
    fn sources_have_weights_names_and_a_curve() {
        let config = config(TEXT);
        let [first, second] = config.sources.as_slice() else {
            panic!("{:?}", config.sources);
        };
        assert_eq!((first.weight, &first.warm_up), (1, &None));
        assert_eq!(second.weight, 3);
        assert_eq!(config.ehlo_name(Some(second.address)), "out2.example.com");
        assert_eq!(config.ehlo_name(Some(first.address)), "relay.example.com");
        let warm_up = second.warm_up.as_ref().unwrap();
        assert_eq!(warm_up.start.to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(*warm_up.daily, [200, 500]);
        assert_eq!(config.delivery.source_addresses.len(), 2);
    }
}
