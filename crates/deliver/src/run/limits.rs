//! What the settings give each site, and what the site has taught us.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_schedule::{Limits, SiteId};
use serde::{Deserialize, Serialize};

/// How long a learned limit holds.
const LEARNED_KEPT: SignedDuration = SignedDuration::from_secs(3600);

#[derive(Default)]
pub(super) struct SiteLimits {
    sites: BTreeMap<SiteId, Entry>,
    /// Of sites that have not been seen since the start.
    kept: BTreeMap<SiteId, LearnedLimits>,
}

struct Entry {
    base: Limits,
    learned: LearnedLimits,
}

/// What a site has taught us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LearnedLimits {
    recipients: Option<Learned>,
    messages: Option<Learned>,
    connections: Option<Learned>,
}

impl LearnedLimits {
    fn each(&mut self) -> [&mut Option<Learned>; 3] {
        [
            &mut self.recipients,
            &mut self.messages,
            &mut self.connections,
        ]
    }

    fn holds(mut self, now: Timestamp) -> bool {
        let mut learned = self.each().into_iter().flatten();
        learned.any(|learned| learned.until > now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Learned {
    most: u32,
    until: Timestamp,
}

/// For the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LearnedSite {
    site: SiteId,
    learned: LearnedLimits,
}

/// What was learned; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    RecipientsPerTransaction(u32),
    MessagesPerConnection(u32),
    Connections(u32),
}

/// Whether what was learned still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    AsBefore,
    /// Something has been forgotten since the last time: the limits are wider than they were.
    Lapsed,
}

impl SiteLimits {
    /// New settings for a site; what holds now.
    pub(super) fn set(&mut self, site: SiteId, base: Limits, now: Timestamp) -> (Limits, Memory) {
        let kept = self.kept.remove(&site).unwrap_or_default();
        let entry = self.sites.entry(site).or_insert_with(|| Entry {
            base: base.clone(),
            learned: kept,
        });
        entry.base = base;
        let mut memory = Memory::AsBefore;
        for learned in entry.learned.each() {
            if learned.take_if(|learned| learned.until <= now).is_some() {
                memory = Memory::Lapsed;
            }
        }
        (entry.now(now), memory)
    }

    /// What holds now; None for a site that is not known.
    pub(super) fn learn(
        &mut self,
        site: &SiteId,
        lesson: Lesson,
        now: Timestamp,
    ) -> Option<Limits> {
        let entry = self.sites.get_mut(site)?;
        let until = now.saturating_add(LEARNED_KEPT).unwrap_or(Timestamp::MAX);
        let learned = |most: u32| {
            Some(Learned {
                most: most.max(1),
                until,
            })
        };
        match lesson {
            Lesson::RecipientsPerTransaction(most) => entry.learned.recipients = learned(most),
            Lesson::MessagesPerConnection(most) => entry.learned.messages = learned(most),
            Lesson::Connections(most) => entry.learned.connections = learned(most),
        }
        Some(entry.now(now))
    }

    /// The lesson that the site takes more connections than it had taught, if so many are `connected` now.
    pub(super) fn bears_more(
        &self,
        site: &SiteId,
        connected: impl FnOnce() -> u32,
        now: Timestamp,
    ) -> Option<Lesson> {
        let learned = self.sites.get(site)?.learned.connections?;
        let connected = (learned.until > now).then(connected)?;
        (connected > learned.most).then_some(Lesson::Connections(connected))
    }

    pub(super) fn len(&self) -> usize {
        self.sites.len()
    }

    /// Keeps the sites that are in use, and those that have taught us something that still holds.
    pub(super) fn forget(&mut self, in_use: impl Fn(&SiteId) -> bool, now: Timestamp) {
        self.sites
            .retain(|site, entry| in_use(site) || entry.learned.holds(now));
    }

    /// What holds, to be kept over a restart.
    pub(super) fn learned(&self, now: Timestamp) -> Vec<LearnedSite> {
        let seen = self.sites.iter().map(|(site, entry)| (site, entry.learned));
        let unseen = self.kept.iter().map(|(site, learned)| (site, *learned));
        seen.chain(unseen)
            .filter(|(_, learned)| learned.holds(now))
            .map(|(site, learned)| LearnedSite {
                site: site.clone(),
                learned,
            })
            .collect()
    }

    /// What was kept.
    pub(super) fn restore(&mut self, sites: Vec<LearnedSite>) {
        let sites = sites.into_iter().map(|kept| (kept.site, kept.learned));
        self.kept.extend(sites);
    }

    /// What the site has taught us and still holds, by the name of the limit.
    pub(super) fn lessons(
        &self,
        site: &SiteId,
        now: Timestamp,
    ) -> Vec<(&'static str, u32, Timestamp)> {
        let Some(entry) = self.sites.get(site) else {
            return Vec::new();
        };
        let rows = [
            ("recipients_per_transaction", entry.learned.recipients),
            ("messages_per_connection", entry.learned.messages),
            ("connections", entry.learned.connections),
        ];
        let learned = rows.into_iter().filter_map(|(what, learned)| {
            let Learned { most, until } = learned?;
            Some((what, most, until))
        });
        learned.filter(|(_, _, until)| *until > now).collect()
    }

    /// What the site has taught us, in words, with its end.
    pub(super) fn in_words(&self, site: &SiteId, now: Timestamp) -> Vec<(String, Timestamp)> {
        let Some(entry) = self.sites.get(site) else {
            return Vec::new();
        };
        let rows = [
            (entry.learned.recipients, "recipients in one transaction"),
            (entry.learned.messages, "messages in one connection"),
            (entry.learned.connections, "connections at once"),
        ];
        rows.into_iter()
            .filter_map(|(learned, what)| {
                let Learned { most, until } = learned?;
                (until > now).then(|| (format!("at most {most} {what}"), until))
            })
            .collect()
    }
}

impl Entry {
    fn now(&self, now: Timestamp) -> Limits {
        let stricter = |set: u32, learned: Option<Learned>| match learned {
            Some(learned) if learned.until > now => set.min(learned.most),
            Some(_) | None => set,
        };
        Limits {
            connections: stricter(self.base.connections, self.learned.connections),
            messages_per_connection: stricter(
                self.base.messages_per_connection,
                self.learned.messages,
            ),
            recipients_per_transaction: stricter(
                self.base.recipients_per_transaction,
                self.learned.recipients,
            ),
            ..self.base.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_limit_holds_for_an_hour_and_never_widens_a_set_one() {
        let base = Limits {
            connections: 10,
            rate: None,
            messages_per_connection: 100,
            recipients_per_transaction: 50,
        };
        let site = SiteId("mx.test".into());
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut limits = SiteLimits::default();
        let lesson = Lesson::MessagesPerConnection(20);
        assert_eq!(limits.learn(&site, lesson, start), None);
        let as_before = (base.clone(), Memory::AsBefore);
        assert_eq!(limits.set(site.clone(), base.clone(), start), as_before);
        let now = limits.learn(&site, lesson, start).unwrap();
        assert_eq!(now.messages_per_connection, 20);
        let wider = Lesson::RecipientsPerTransaction(80);
        let now = limits.learn(&site, wider, start).unwrap();
        assert_eq!(now.recipients_per_transaction, 50);
        limits.forget(|_| false, start);
        assert_eq!(limits.len(), 1, "what still holds is kept");
        let later = start + SignedDuration::from_secs(3601);
        let lapsed = (base.clone(), Memory::Lapsed);
        assert_eq!(limits.set(site.clone(), base.clone(), later), lapsed);
        assert_eq!(limits.set(site, base.clone(), later), as_before);
        limits.forget(|_| false, later);
        assert_eq!(limits.len(), 0);
    }

    #[test]
    fn a_site_that_holds_more_connections_than_it_taught_teaches_that() {
        let site = SiteId("mx.test".into());
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let base = Limits {
            connections: 10,
            rate: None,
            messages_per_connection: 100,
            recipients_per_transaction: 50,
        };
        let mut limits = SiteLimits::default();
        limits.set(site.clone(), base, start);
        let more = |limits: &SiteLimits, connected| limits.bears_more(&site, || connected, start);
        assert_eq!(more(&limits, 5), None, "nothing was taught");
        limits.learn(&site, Lesson::Connections(1), start);
        assert_eq!(more(&limits, 1), None);
        assert_eq!(more(&limits, 2), Some(Lesson::Connections(2)));
    }
}
