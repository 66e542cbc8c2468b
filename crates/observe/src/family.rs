//! Counters with labels: a row each, and a bound on how many series one may have, since labels may
//! come from files and from strangers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// A counter with labels. Its name and labels stand in [`FAMILIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Refusals,
    TlsFailures,
}

/// One of them as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct FamilyRow {
    pub family: Family,
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// Every counter with labels, in the order of the enum.
pub const FAMILIES: [FamilyRow; 2] = [
    FamilyRow {
        family: Family::Refusals,
        name: "relayd_queue_refusals_total",
        help: "New mail and sessions that the queue did not take, by reason; the client keeps the message.",
        labels: &["reason"],
    },
    FamilyRow {
        family: Family::TlsFailures,
        name: "relayd_tls_failures_total",
        help: "Delivery sessions whose TLS did not do what a policy asks for, or that had none, in the words of RFC 8460.",
        labels: &["policy", "result"],
    },
];

/// Series of one family; what comes beyond is counted as `other`.
const SERIES_MAX: usize = 500;

/// The counts of all families.
#[derive(Debug, Default)]
pub struct Families {
    counts: [Mutex<BTreeMap<Vec<String>, u64>>; FAMILIES.len()],
}

impl Families {
    /// Counts one. `values`: as many as the family has labels.
    pub fn count(&self, family: Family, values: &[&str]) {
        let row = &FAMILIES[family as usize];
        debug_assert_eq!(values.len(), row.labels.len(), "{}", row.name);
        let mut counts = self.lock(family);
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if counts.len() >= SERIES_MAX && !counts.contains_key(&key) {
            key = row.labels.iter().map(|_| "other".to_owned()).collect();
        }
        *counts.entry(key).or_default() += 1;
    }

    /// Every series with its count, by label values.
    pub fn series(&self, family: Family) -> Vec<(Vec<String>, u64)> {
        let counts = self.lock(family);
        counts
            .iter()
            .map(|(key, count)| (key.clone(), *count))
            .collect()
    }

    /// Appends all in the text format of Prometheus.
    pub(crate) fn write(&self, text: &mut String) {
        for row in &FAMILIES {
            let FamilyRow { name, help, .. } = row;
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (values, count) in self.series(row.family) {
                let labels: Vec<String> = (row.labels.iter().zip(&values))
                    .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                    .collect();
                let _ = writeln!(text, "{name}{{{}}} {count}", labels.join(","));
            }
        }
    }

    fn lock(&self, family: Family) -> std::sync::MutexGuard<'_, BTreeMap<Vec<String>, u64>> {
        let counts = &self.counts[family as usize];
        counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

/// Why the queue did not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Free space is below the reserve.
    Space,
    /// `queue.messages_max`
    Messages,
    /// `queue.bytes_max`
    Bytes,
    /// One sender holds too much while space is short.
    SenderShare,
    /// One domain's mail does.
    DestinationShare,
    /// A session, with hardly any space left.
    Closed,
    /// Too many waited for the disk.
    Busy,
}

impl Refused {
    pub const ALL: [Refused; 7] = [
        Refused::Space,
        Refused::Messages,
        Refused::Bytes,
        Refused::SenderShare,
        Refused::DestinationShare,
        Refused::Closed,
        Refused::Busy,
    ];

    /// The label's value.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Space => "disk_space",
            Refused::Messages => "messages_max",
            Refused::Bytes => "bytes_max",
            Refused::SenderShare => "sender_share",
            Refused::DestinationShare => "destination_share",
            Refused::Closed => "sessions_closed",
            Refused::Busy => "busy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_enum() {
        for (place, row) in FAMILIES.iter().enumerate() {
            assert_eq!(row.family as usize, place, "{}", row.name);
        }
    }

    #[test]
    fn series_are_bounded_and_labels_cannot_break_the_line() {
        let families = Families::default();
        for number in 0..SERIES_MAX + 7 {
            families.count(Family::Refusals, &[&number.to_string()]);
        }
        let series = families.series(Family::Refusals);
        assert_eq!(series.len(), SERIES_MAX + 1);
        assert!(series.contains(&(vec!["other".to_owned()], 7)));
        let families = Families::default();
        families.count(Family::Refusals, &["a\"b\\c\nd"]);
        let mut text = String::new();
        families.write(&mut text);
        let line = "relayd_queue_refusals_total{reason=\"a\\\"b\\\\c\\nd\"} 1";
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
