//! What the configuration says for one domain: its next hop, its retry schedule.
//! The narrowest entry wins; of entries that are equally narrow, the first in the file.

use relay_policy::Schedule;
use relay_smtp::{Domain, Host, NextHop};

use crate::settings::{Config, DomainPattern, Relay, Route};

/// Sessions at once with one site where no `[[limit]]` says otherwise.
pub const CONNECTIONS_DEFAULT: u32 = 10;
/// Messages in one session where no `[[limit]]` says otherwise.
pub const MESSAGES_PER_CONNECTION_DEFAULT: u32 = 100;
/// Recipients in one transaction where no `[[limit]]` says otherwise: the least that every server
/// must take (RFC 5321 section 4.5.3.1.8).
pub const RECIPIENTS_PER_TRANSACTION_DEFAULT: u32 = 100;

impl Config {
    /// Where mail for a domain goes: the `[[route]]` whose pattern fits most narrowly, else the
    /// domain's own MX. An exact name is narrower than `*.x`, that than `*`. Address literals are
    /// taken by `*` only.
    pub fn next_hop(&self, host: &Host) -> NextHop {
        let name = match host {
            Host::Domain(domain) => Some(domain.to_ascii()),
            Host::Address(_) => None,
        };
        let best = narrowest(&self.routes, |route: &Route| {
            width_of(&route.to, name.as_deref())
        });
        match (best, host) {
            // A route without relays takes its domains out of a wider route.
            (Some(route), _) if !route.via.is_empty() => NextHop::Relay(route.name.clone()),
            (_, Host::Domain(domain)) => NextHop::Domain(domain.clone()),
            (_, Host::Address(address)) => NextHop::Address(*address),
        }
    }

    /// The route behind `NextHop::Relay`: that of this name, else the first that has this relay among
    /// others. None: an operator has named a relay of no route.
    pub fn route(&self, name: &str) -> Option<&Route> {
        let is_one = |relay: &Relay| relay.to_string() == name;
        let named = self.routes.iter().find(|route| &*route.name == name);
        named.or_else(|| self.routes.iter().find(|r| r.via.iter().any(is_one)))
    }

    /// The name to say in EHLO when going out from this address.
    pub fn ehlo_name(&self, source: Option<std::net::IpAddr>) -> &str {
        let mut named = self.sources.iter();
        let named = named.find(|one| Some(one.address) == source);
        let name = named.and_then(|one| one.ehlo_name.as_deref());
        name.unwrap_or(&self.hostname)
    }

    /// The named schedule, or `default` where the name is unknown.
    pub fn schedule(&self, name: Option<&str>) -> &Schedule {
        name.and_then(|name| self.retry.get(name))
            .or_else(|| self.retry.get("default"))
            .expect(
                "a schedule named default is always read, from the table of options at the least",
            )
    }
}

impl DomainPattern {
    /// Whether a domain in A-labels and lower case fits. None is an address literal.
    pub fn fits(&self, name: Option<&str>) -> bool {
        width(self, name).is_some()
    }
}

/// How narrow a fit is; smaller is narrower. Among `*.x` the longer suffix is the narrower one, so
/// it carries how much of the name is left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    Domain,
    BelowDomain(usize),
    Route,
    Mx,
    BelowMx(usize),
    Provider,
    All,
}

fn width(pattern: &DomainPattern, name: Option<&str>) -> Option<Width> {
    match (pattern, name) {
        (DomainPattern::All, _) => Some(Width::All),
        (DomainPattern::Exactly(wanted), Some(name)) => (wanted == name).then_some(Width::Domain),
        (DomainPattern::Below(parent), Some(name)) => {
            let open = name.strip_suffix(parent.as_str())?.strip_suffix('.')?;
            (!open.is_empty()).then_some(Width::BelowDomain(open.len()))
        }
        (DomainPattern::Exactly(_) | DomainPattern::Below(_), None) => None,
    }
}

pub(crate) fn width_of(patterns: &[DomainPattern], name: Option<&str>) -> Option<Width> {
    patterns.iter().filter_map(|p| width(p, name)).min()
}

/// The entry with the smallest width; the first of equals.
fn narrowest<T>(entries: &[T], width: impl Fn(&T) -> Option<Width>) -> Option<&T> {
    entries
        .iter()
        .filter_map(|entry| Some((width(entry)?, entry)))
        .min_by_key(|(width, _)| *width)
        .map(|(_, entry)| entry)
}

/// A name as patterns are kept: lower case, A-labels, no trailing dot.
pub(crate) fn comparable(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    match Domain::parse(name) {
        Ok(domain) => domain.to_ascii(),
        Err(_) => name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use relay_policy::TlsRequirement;

    use super::*;
    use crate::from_text::config;

    fn host(name: &str) -> Host {
        Host::Domain(Domain::parse(name).unwrap())
    }

    #[test]
    fn without_routes_mail_goes_by_mx() {
        let config = Config::default_for("relay.example.com");
        let hop = config.next_hop(&host("example.net")).to_string();
        assert_eq!(hop, "example.net");
        let literal = config.next_hop(&Host::Address([192, 0, 2, 1].into()));
        assert_eq!(literal.to_string(), "[192.0.2.1]");
    }

    #[test]
    fn the_narrowest_route_wins_and_then_the_first() {
        let config = config(
            r#"
            [[route]]
            to = ["*"]
            via = ["all.example:25"]
            [[route]]
            to = ["*.example.org"]
            via = ["below.example:25"]
            [[route]]
            to = ["*.deep.example.org", "example.net"]
            via = ["deep.example:25"]
            [[route]]
            to = ["example.net"]
            via = ["late.example:25"]
            [[route]]
            to = ["direct.example.net"]
            via = []
            "#,
        );
        let hop = |name: &str| config.next_hop(&host(name)).to_string();
        assert_eq!(hop("example.com"), "relay:all.example:25");
        assert_eq!(hop("example.org"), "relay:all.example:25");
        assert_eq!(hop("a.example.org"), "relay:below.example:25");
        assert_eq!(hop("a.deep.example.org"), "relay:deep.example:25");
        assert_eq!(hop("notdeep.example.org"), "relay:below.example:25");
        assert_eq!(hop("EXAMPLE.net"), "relay:deep.example:25");
        assert_eq!(hop("direct.example.net"), "direct.example.net");
        let literal = config.next_hop(&Host::Address([192, 0, 2, 1].into()));
        assert_eq!(literal.to_string(), "relay:all.example:25");
    }

    #[test]
    fn a_route_in_unicode_takes_the_domain_in_a_labels() {
        let config = config("[[route]]\nto = [\"bücher.example\"]\nvia = [\"a.example:25\"]\n");
        let hop = config.next_hop(&host("xn--bcher-kva.example"));
        assert_eq!(hop.to_string(), "relay:a.example:25");
    }

    #[test]
    fn each_limit_comes_from_the_narrowest_table_that_sets_it() {
        let config = config(
            r#"
            [[limit]]
            to = ["*"]
            connections = 3
            rate = "9/s"
            tls = "require"
            [[limit]]
            provider = ["google"]
            connections = 4
            messages_per_connection = 7
            [[limit]]
            mx = ["*.mail.example"]
            connections = 5
            [[limit]]
            to = ["example.net"]
            recipients_per_transaction = 1
            "#,
        );
        let all = config.limits_for(Some("other.example"), None, &[]);
        assert_eq!((all.connections, all.messages_per_connection), (3, 100));
        assert_eq!(all.tls, TlsRequirement::Require);
        let provider = config.limits_for(Some("other.example"), Some("google"), &[]);
        assert_eq!(
            (provider.connections, provider.messages_per_connection),
            (4, 7)
        );
        let mx = config.limits_for(Some("example.net."), Some("google"), &["MX1.mail.example."]);
        assert_eq!((mx.connections, mx.messages_per_connection), (5, 7));
        assert_eq!(mx.recipients_per_transaction, 1);
        assert_eq!(mx.rate.map(|rate| rate.count), Some(9));
    }

    #[test]
    fn an_unknown_schedule_is_the_default_one() {
        let config = config("[retry.default]\nmax_age = \"2d\"\n[retry.fast]\nsteps = [\"1s\"]\n");
        assert_eq!(config.schedule(Some("fast")).steps.len(), 1);
        // What it does not set comes from retry.default.
        assert_eq!(config.schedule(Some("fast")).max_age.as_secs(), 2 * 86_400);
        assert_eq!(config.schedule(Some("nowhere")), config.schedule(None));
    }

    #[test]
    fn the_limits_without_a_table_are_those_that_the_table_of_options_tells() {
        let told = |key: &str| match crate::row::find(key).unwrap().default {
            crate::row::Default::Otherwise(words) => words.parse::<u32>().ok(),
            crate::row::Default::Is(_) | crate::row::Default::Required => None,
        };
        let limits = Config::default_for("relay.example.com").limits_for(None, None, &[]);
        assert_eq!(told("limit[].connections"), Some(limits.connections));
        let messages = told("limit[].messages_per_connection");
        assert_eq!(messages, Some(limits.messages_per_connection));
        let recipients = told("limit[].recipients_per_transaction");
        assert_eq!(recipients, Some(limits.recipients_per_transaction));
    }
}
