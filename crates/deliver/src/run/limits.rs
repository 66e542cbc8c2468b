//! What the settings give each site, and what the site has taught us.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_schedule::{Limits, SiteId};

/// How long a learned limit holds.
const LEARNED_KEPT: SignedDuration = SignedDuration::from_secs(3600);

#[derive(Default)]
pub(super) struct SiteLimits {
    sites: BTreeMap<SiteId, Entry>,
}

struct Entry {
    base: Limits,
    recipients: Option<Learned>,
    messages: Option<Learned>,
}

#[derive(Clone, Copy)]
struct Learned {
    most: u32,
    until: Timestamp,
}

/// What was learned; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    RecipientsPerTransaction(u32),
    MessagesPerConnection(u32),
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
        let entry = self.sites.entry(site).or_insert_with(|| Entry {
            base: base.clone(),
            recipients: None,
            messages: None,
        });
        entry.base = base;
        let mut memory = Memory::AsBefore;
        for learned in [&mut entry.recipients, &mut entry.messages] {
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
            Lesson::RecipientsPerTransaction(most) => entry.recipients = learned(most),
            Lesson::MessagesPerConnection(most) => entry.messages = learned(most),
        }
        Some(entry.now(now))
    }

    pub(super) fn len(&self) -> usize {
        self.sites.len()
    }

    /// Keeps the sites that are in use, and those that have taught us something that still holds.
    pub(super) fn forget(&mut self, in_use: impl Fn(&SiteId) -> bool, now: Timestamp) {
        self.sites.retain(|site, entry| {
            let mut learned = [entry.recipients, entry.messages].into_iter().flatten();
            in_use(site) || learned.any(|learned| learned.until > now)
        });
    }
}

impl Entry {
    fn now(&self, now: Timestamp) -> Limits {
        let stricter = |set: u32, learned: Option<Learned>| match learned {
            Some(learned) if learned.until > now => set.min(learned.most),
            Some(_) | None => set,
        };
        Limits {
            messages_per_connection: stricter(self.base.messages_per_connection, self.messages),
            recipients_per_transaction: stricter(
                self.base.recipients_per_transaction,
                self.recipients,
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
}
