//! What the policy wants a person to look at: said once an hour for each rule and site, counted always,
//! forgotten after a day.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Rules and sites remembered at once; the one that was silent longest makes room.
const KEPT: usize = 200;
const SAY_AGAIN: SignedDuration = SignedDuration::from_hours(1);
const FORGET: SignedDuration = SignedDuration::from_hours(24);

/// One rule at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub site: String,
    pub rule: String,
    pub category: String,
    /// The latest.
    pub reply: String,
    pub fix: String,
    pub first: Timestamp,
    pub last: Timestamp,
    pub times: u64,
    said: Timestamp,
}

/// Whether an alert is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Now,
    /// It has been told lately.
    NotAgain,
}

/// Since the start of the daemon.
#[derive(Debug, Default)]
pub struct Alerts {
    by_rule_and_site: Mutex<BTreeMap<(String, String), Alert>>,
}

/// What an alert says.
pub(crate) struct Words<'a> {
    pub site: &'a str,
    pub rule: &'a str,
    pub category: &'a str,
    pub reply: &'a str,
    pub fix: &'a str,
}

impl Alerts {
    /// Those of the last day, the latest first.
    pub fn list(&self, now: Timestamp) -> Vec<Alert> {
        let mut known = self.lock();
        known.retain(|_, alert| now.duration_since(alert.last) < FORGET);
        let mut list: Vec<Alert> = known.values().cloned().collect();
        list.sort_by_key(|alert| std::cmp::Reverse(alert.last));
        list
    }

    pub(crate) fn note(&self, words: &Words<'_>, now: Timestamp) -> Say {
        let mut known = self.lock();
        let key = (words.rule.to_owned(), words.site.to_owned());
        if let Some(alert) = known.get_mut(&key)
            && now.duration_since(alert.last) < FORGET
        {
            alert.times += 1;
            alert.last = now;
            words.reply.clone_into(&mut alert.reply);
            if now.duration_since(alert.said) < SAY_AGAIN {
                return Say::NotAgain;
            }
            alert.said = now;
            return Say::Now;
        }
        known.remove(&key);
        if known.len() >= KEPT {
            let oldest = known.iter().min_by_key(|(_, alert)| alert.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.remove(&oldest);
            }
        }
        let alert = Alert {
            site: words.site.to_owned(),
            rule: words.rule.to_owned(),
            category: words.category.to_owned(),
            reply: words.reply.to_owned(),
            fix: words.fix.to_owned(),
            first: now,
            last: now,
            times: 1,
            said: now,
        };
        known.insert(key, alert);
        Say::Now
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Alert>> {
        self.by_rule_and_site
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    fn note(alerts: &Alerts, site: &str, minutes: i64) -> Say {
        let words = Words {
            site,
            rule: "auth-failed",
            category: "auth-failed",
            reply: "550 5.7.26 no",
            fix: "Sign.",
        };
        alerts.note(&words, at(minutes))
    }

    #[test]
    fn an_alert_is_said_once_an_hour_and_counted_always() {
        let alerts = Alerts::default();
        assert_eq!(note(&alerts, "a", 0), Say::Now);
        assert_eq!(note(&alerts, "a", 1), Say::NotAgain);
        assert_eq!(note(&alerts, "b", 1), Say::Now, "another site");
        assert_eq!(note(&alerts, "a", 59), Say::NotAgain);
        assert_eq!(note(&alerts, "a", 60), Say::Now);
        assert_eq!(note(&alerts, "a", 61), Say::NotAgain);
        let list = alerts.list(at(62));
        assert_eq!((list[0].site.as_str(), list[0].times), ("a", 5));
        assert_eq!((list[0].first, list[0].last), (at(0), at(61)));
        assert_eq!(alerts.list(at(61 + 24 * 60)), [], "forgotten after a day");
        assert_eq!(note(&alerts, "a", 62 + 24 * 60), Say::Now);
        assert_eq!(alerts.list(at(62 + 24 * 60))[0].times, 1);
    }

    #[test]
    fn the_list_does_not_grow_without_end() {
        let alerts = Alerts::default();
        for site in 0..300 {
            note(&alerts, &format!("site-{site}"), site);
        }
        let list = alerts.list(at(300));
        assert_eq!(list.len(), KEPT);
        assert_eq!(list[0].site, "site-299");
    }
}
