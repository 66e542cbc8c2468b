//! Source addresses that pause at a whole provider: which of its sites are told, also those that are
//! seen only later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use relay_schedule::SiteId;

/// Sites remembered with their provider; beyond these the list begins anew.
const SITES_MAX: usize = 20_000;

#[derive(Default)]
pub(super) struct Pauses {
    sites: BTreeMap<SiteId, Arc<str>>,
    /// By provider and source address (None: the kernel's choice).
    paused: BTreeMap<(Arc<str>, Option<IpAddr>), Pause>,
}

/// Until when, and by which rule.
type Pause = (Timestamp, Arc<str>);

impl Pauses {
    /// The sites at which the source pauses now: this one, and those of the same provider.
    pub(super) fn suspend(
        &mut self,
        site: SiteId,
        provider: Option<Arc<str>>,
        source: Option<IpAddr>,
        until: Timestamp,
        rule: &Arc<str>,
    ) -> Vec<SiteId> {
        let Some(provider) = provider else {
            return vec![site];
        };
        let sites = self.sites.iter();
        let mut all: Vec<SiteId> = sites
            .filter(|(other, of)| **of == provider && **other != site)
            .map(|(other, _)| other.clone())
            .collect();
        let paused = (until, Arc::clone(rule));
        self.paused.insert((provider, source), paused);
        all.push(site);
        all
    }

    /// A site was looked up. The pauses of its provider, if it was not known before.
    pub(super) fn seen(
        &mut self,
        site: &SiteId,
        provider: Option<Arc<str>>,
        now: Timestamp,
    ) -> Vec<(Option<IpAddr>, Timestamp, Arc<str>)> {
        self.paused.retain(|_, (until, _)| *until > now);
        let Some(provider) = provider else {
            self.sites.remove(site);
            return Vec::new();
        };
        if self.sites.len() >= SITES_MAX {
            self.sites.clear();
        }
        let before = self.sites.insert(site.clone(), Arc::clone(&provider));
        if before.as_ref() == Some(&provider) {
            return Vec::new();
        }
        let pauses = self.paused.iter();
        pauses
            .filter(|((of, _), _)| *of == provider)
            .map(|((_, source), (until, rule))| (*source, *until, Arc::clone(rule)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_at_a_provider_reaches_the_sites_known_and_those_seen_later() {
        let site = |name: &str| SiteId(name.into());
        let google: Option<Arc<str>> = Some("google".into());
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let until: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let rule: Arc<str> = "ip".into();
        let mut pauses = Pauses::default();
        assert!(pauses.seen(&site("a"), google.clone(), now).is_empty());
        assert!(pauses.seen(&site("x"), None, now).is_empty());
        let at = pauses.suspend(site("b"), google.clone(), None, until, &rule);
        assert_eq!(at, [site("a"), site("b")]);
        let later = pauses.seen(&site("c"), google.clone(), now);
        assert_eq!(later, [(None, until, rule.clone())]);
        assert!(
            pauses.seen(&site("c"), google.clone(), now).is_empty(),
            "once"
        );
        assert!(pauses.seen(&site("d"), google, until).is_empty(), "over");
        let at = pauses.suspend(site("x"), None, None, until, &rule);
        assert_eq!(at, [site("x")]);
    }
}
