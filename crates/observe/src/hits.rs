//! How often which rule of the policy has decided: since the start, or over a part of the history.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::event::{Event, Tried};
use crate::history::Entry;

/// Rows kept. The default table has some hundred rules with one or two actions each; what an operator
/// adds goes on top. What comes beyond is counted under [`OTHER`], so that no label grows without end.
const ROWS_MAX: usize = 2_000;
const OTHER: &str = "other";

/// A rule with what it decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decided {
    pub rule: String,
    pub category: String,
    pub action: String,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Recipients that were settled or left waiting by it.
    pub recipients: u64,
    /// Sessions that it ended before they could be used.
    pub sessions: u64,
    pub last: Timestamp,
}

/// What a decision was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Recipient,
    Session,
}

/// Counts by rule.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rows: BTreeMap<Decided, Hits>,
}

impl Tally {
    pub fn rows(&self) -> impl Iterator<Item = (&Decided, &Hits)> {
        self.rows.iter()
    }

    /// Adds an entry of the history, if a rule stands behind it.
    pub fn add(&mut self, entry: &Entry) {
        let about = match entry.event.as_str() {
            "session_failed" => About::Session,
            _ if entry.is_decision() => About::Recipient,
            _ => return,
        };
        if let (Some(rule), Some(category), Some(action)) =
            (&entry.rule, &entry.category, &entry.action)
        {
            let decided = Decided {
                rule: rule.clone(),
                category: category.clone(),
                action: action.clone(),
            };
            self.note(decided, about, entry.at);
        }
    }

    fn note(&mut self, decided: Decided, about: About, at: Timestamp) {
        let known = self.rows.len() < ROWS_MAX || self.rows.contains_key(&decided);
        let key = match known {
            true => decided,
            false => Decided {
                rule: OTHER.to_owned(),
                category: OTHER.to_owned(),
                action: OTHER.to_owned(),
            },
        };
        let hits = self.rows.entry(key).or_insert(Hits {
            recipients: 0,
            sessions: 0,
            last: at,
        });
        hits.last = hits.last.max(at);
        match about {
            About::Recipient => hits.recipients += 1,
            About::Session => hits.sessions += 1,
        }
    }

    /// As metrics, in the text format of Prometheus.
    fn prometheus(&self) -> String {
        let name = NAME;
        let mut text = format!("# HELP {name} {HELP}\n# TYPE {name} counter\n");
        for (decided, hits) in &self.rows {
            let Decided {
                rule,
                category,
                action,
            } = decided;
            // Words of the policy's own alphabet: nothing to escape. Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{name}{{rule=\"{rule}\",category=\"{category}\",action=\"{action}\"}} {}",
                hits.recipients + hits.sessions
            );
        }
        text
    }
}

/// As docs/metrics.md lists them.
pub(crate) const NAME: &str = "relayd_policy_rule_hits_total";
pub(crate) const HELP: &str = "Decisions by rule: one for each recipient settled or left waiting, and for each session ended.";

/// Since the start of the daemon.
#[derive(Debug, Default)]
pub struct RuleHits {
    tally: Mutex<Tally>,
}

impl RuleHits {
    /// A copy as it is now.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    pub fn prometheus(&self) -> String {
        self.lock().prometheus()
    }

    pub(crate) fn count(&self, event: &Event, now: Timestamp) {
        let of = |rule: &str, category: &str, action: &str| Decided {
            rule: rule.to_owned(),
            category: category.to_owned(),
            action: action.to_owned(),
        };
        // Whatever else names a rule has been counted with one of these.
        let (decided, about) = if let Event::RecipientDelivered { tried, .. }
        | Event::RecipientDeferred { tried, .. }
        | Event::RecipientBounced { tried, .. }
        | Event::RecipientHeld { tried, .. } = event
        {
            let tried: &Tried = tried;
            let decided = of(&tried.rule, &tried.category, &tried.action);
            (decided, About::Recipient)
        } else if let Event::SessionFailed {
            rule,
            category,
            action,
            ..
        } = event
        {
            (of(rule, category, action), About::Session)
        } else {
            return;
        };
        self.lock().note(decided, about, now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::every_event;

    #[test]
    fn each_decision_counts_once_live_and_from_the_history_alike() {
        let now: Timestamp = "2026-11-22T16:00:00Z".parse().unwrap();
        let live = RuleHits::default();
        let mut read = Tally::default();
        for event in every_event() {
            live.count(&event, now);
            if let Some(entry) = Entry::of(event, now) {
                read.add(&entry);
            }
        }
        let rows = live.tally().rows;
        assert_eq!(rows, read.rows);
        let hits = rows.values().next().unwrap();
        assert_eq!((rows.len(), hits.recipients, hits.sessions), (1, 4, 1));
        let wanted =
            "\nrelayd_policy_rule_hits_total{rule=\"text\",category=\"text\",action=\"text\"} 5\n";
        assert!(live.prometheus().contains(wanted));
    }

    #[test]
    fn rows_do_not_grow_without_end() {
        let mut tally = Tally::default();
        for number in 0..ROWS_MAX + 10 {
            let decided = Decided {
                rule: format!("rule-{number}"),
                category: String::new(),
                action: String::new(),
            };
            tally.note(decided, About::Recipient, Timestamp::UNIX_EPOCH);
        }
        assert_eq!(tally.rows.len(), ROWS_MAX + 1);
        let other = tally.rows().find(|(decided, _)| decided.rule == OTHER);
        assert_eq!(other.unwrap().1.recipients, 10);
    }
}
