//! Distributions: how long and how much at a time, counted in fixed steps, since a mean hides the one
//! commit that took ten seconds.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A distribution. Its name, unit and steps stand in [`HISTOGRAMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    CommitSeconds,
    CommitRecords,
    CommitBytes,
}

/// One of them as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct HistogramRow {
    pub histogram: Histogram,
    pub name: &'static str,
    pub help: &'static str,
    /// Upper bounds, rising; what is above the last counts in all but these.
    pub steps: &'static [f64],
}

/// Every distribution, in the order of the enum.
pub const HISTOGRAMS: [HistogramRow; 3] = [
    HistogramRow {
        histogram: Histogram::CommitSeconds,
        name: "relayd_queue_commit_seconds",
        help: "Time of one write to the journal with its sync.",
        steps: &[
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            2.5, 5.0, 10.0,
        ],
    },
    HistogramRow {
        histogram: Histogram::CommitRecords,
        name: "relayd_queue_commit_records",
        help: "Changes that shared one sync.",
        steps: &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    },
    HistogramRow {
        histogram: Histogram::CommitBytes,
        name: "relayd_queue_commit_bytes",
        help: "Bytes of one write to the journal.",
        steps: &[
            1024.0,
            4096.0,
            16_384.0,
            65_536.0,
            262_144.0,
            1_048_576.0,
            4_194_304.0,
            16_777_216.0,
        ],
    },
];

/// Most steps that one has.
const STEPS_MAX: usize = 16;
/// Sums are kept in millionths, so that adding is one instruction.
const PARTS: f64 = 1e6;

/// All of them, from nothing at the start.
#[derive(Debug, Default)]
pub struct Histograms {
    all: [Counts; HISTOGRAMS.len()],
}

#[derive(Debug, Default)]
struct Counts {
    /// By step, not added up.
    steps: [AtomicU64; STEPS_MAX],
    count: AtomicU64,
    sum_parts: AtomicU64,
}

impl Histograms {
    pub(crate) fn observe(&self, histogram: Histogram, value: f64) {
        let counts = &self.all[histogram as usize];
        let steps = HISTOGRAMS[histogram as usize].steps;
        let step = steps.iter().position(|bound| value <= *bound);
        if let Some(step) = step.and_then(|step| counts.steps.get(step)) {
            step.fetch_add(1, Ordering::Relaxed);
        }
        counts.count.fetch_add(1, Ordering::Relaxed);
        let parts = (value * PARTS) as u64;
        counts.sum_parts.fetch_add(parts, Ordering::Relaxed);
    }

    /// How many values there were, and their sum.
    pub fn count_and_sum(&self, histogram: Histogram) -> (u64, f64) {
        let counts = &self.all[histogram as usize];
        let sum = counts.sum_parts.load(Ordering::Relaxed) as f64 / PARTS;
        (counts.count.load(Ordering::Relaxed), sum)
    }

    /// Appends all in the text format of Prometheus.
    pub(crate) fn write(&self, text: &mut String) {
        for (row, counts) in HISTOGRAMS.iter().zip(&self.all) {
            let HistogramRow { name, help, .. } = row;
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
            let mut upto = 0;
            for (bound, count) in row.steps.iter().zip(&counts.steps) {
                upto += count.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {upto}");
            }
            let (count, sum) = self.count_and_sum(row.histogram);
            // A value may have come in meanwhile: the last may not be less than those before it.
            let count = count.max(upto);
            let _ = writeln!(
                text,
                "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_enum_and_their_steps_rise() {
        for (place, row) in HISTOGRAMS.iter().enumerate() {
            assert_eq!(row.histogram as usize, place, "{}", row.name);
            assert!(row.steps.is_sorted() && row.steps.len() <= STEPS_MAX);
        }
    }

    #[test]
    fn values_are_counted_in_every_step_that_they_fit_under() {
        let histograms = Histograms::default();
        for value in [1.0, 3.0, 600.0] {
            histograms.observe(Histogram::CommitRecords, value);
        }
        let mut text = String::new();
        histograms.write(&mut text);
        for line in [
            "relayd_queue_commit_records_bucket{le=\"1\"} 1",
            "relayd_queue_commit_records_bucket{le=\"2\"} 1",
            "relayd_queue_commit_records_bucket{le=\"4\"} 2",
            "relayd_queue_commit_records_bucket{le=\"512\"} 2",
            "relayd_queue_commit_records_bucket{le=\"+Inf\"} 3",
            "relayd_queue_commit_records_sum 604",
            "relayd_queue_commit_records_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
