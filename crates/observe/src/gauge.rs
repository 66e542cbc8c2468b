//! States of the moment: asked, when somebody looks, of the parts that have them.

use std::fmt::Write;

/// A state. Its name stands in [`GAUGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    Messages,
    Bytes,
    Queued,
    Deferred,
    Held,
    OldestSeconds,
    OldestDueSeconds,
    Accepting,
    Well,
    FreeBytes,
    ReserveBytes,
    SpokenForBytes,
    JournalBytes,
    JournalSegments,
    LiveRatio,
    IndexBytes,
    IndexBehind,
    Quarantined,
    Waiting,
}

/// One of them as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct GaugeRow {
    pub gauge: Gauge,
    pub name: &'static str,
    pub help: &'static str,
}

const fn row(gauge: Gauge, name: &'static str, help: &'static str) -> GaugeRow {
    GaugeRow { gauge, name, help }
}

/// Every state, in the order of the enum.
pub const GAUGES: [GaugeRow; 19] = [
    row(
        Gauge::Messages,
        "relayd_queue_messages",
        "Messages in the queue.",
    ),
    row(Gauge::Bytes, "relayd_queue_bytes", "Bytes of their bodies."),
    row(
        Gauge::Queued,
        "relayd_queue_recipients_queued",
        "Recipients not tried yet.",
    ),
    row(
        Gauge::Deferred,
        "relayd_queue_recipients_deferred",
        "Recipients that wait for another try.",
    ),
    row(
        Gauge::Held,
        "relayd_queue_recipients_held",
        "Recipients kept until released.",
    ),
    row(
        Gauge::OldestSeconds,
        "relayd_queue_oldest_seconds",
        "Age of the oldest message.",
    ),
    row(
        Gauge::OldestDueSeconds,
        "relayd_queue_oldest_due_seconds",
        "How long the oldest message that is due has waited for a session; those of suspended sites count.",
    ),
    row(
        Gauge::Accepting,
        "relayd_queue_accepting",
        "1 where new mail is accepted, 0 where space or a limit is reached.",
    ),
    row(
        Gauge::Well,
        "relayd_queue_well",
        "0 where the queue has stopped or the disk does not answer; /healthz fails then.",
    ),
    row(
        Gauge::FreeBytes,
        "relayd_queue_free_bytes",
        "Free space of the queue's disk.",
    ),
    row(
        Gauge::ReserveBytes,
        "relayd_queue_reserve_bytes",
        "Free space that new mail may not take.",
    ),
    row(
        Gauge::SpokenForBytes,
        "relayd_queue_spoken_for_bytes",
        "Free space that sessions hold for what they are sending.",
    ),
    row(
        Gauge::JournalBytes,
        "relayd_queue_journal_bytes",
        "Bytes of the journal's segments.",
    ),
    row(
        Gauge::JournalSegments,
        "relayd_queue_journal_segments",
        "The journal's segments.",
    ),
    row(
        Gauge::LiveRatio,
        "relayd_queue_live_ratio",
        "Part of the journal's bytes that unfinished messages need; reclaim keeps it above about a tenth.",
    ),
    row(
        Gauge::IndexBytes,
        "relayd_queue_index_bytes",
        "Bytes of the index.",
    ),
    row(
        Gauge::IndexBehind,
        "relayd_queue_index_behind_records",
        "Changes in the journal that the index does not have yet.",
    ),
    row(
        Gauge::Quarantined,
        "relayd_queue_quarantine_files",
        "What lies in quarantine: damaged records and indexes that were set aside.",
    ),
    row(
        Gauge::Waiting,
        "relayd_queue_waiting",
        "Changes that wait for the disk.",
    ),
];

/// Values by state; those that nobody knows are left out.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    values: [Option<f64>; GAUGES.len()],
}

impl Gauges {
    pub fn set(&mut self, gauge: Gauge, value: impl Into<Option<f64>>) {
        self.values[gauge as usize] = value.into();
    }

    /// Appends all in the text format of Prometheus.
    pub(crate) fn write(&self, text: &mut String) {
        for (row, value) in GAUGES.iter().zip(&self.values) {
            let (GaugeRow { name, help, .. }, Some(value)) = (row, value) else {
                continue;
            };
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_enum() {
        for (place, row) in GAUGES.iter().enumerate() {
            assert_eq!(row.gauge as usize, place, "{}", row.name);
        }
    }

    #[test]
    fn a_state_that_nobody_knows_is_not_shown_as_nothing() {
        let mut gauges = Gauges::default();
        gauges.set(Gauge::Messages, 3.0);
        gauges.set(Gauge::FreeBytes, None);
        let mut text = String::new();
        gauges.write(&mut text);
        assert!(text.contains("\nrelayd_queue_messages 3\n"), "{text}");
        assert!(!text.contains("free_bytes"), "{text}");
    }
}
