//! The counters: one row each, with its name, what it counts, and the events that move it; and all
//! that is measured, together: counters with labels ([`crate::family`]), distributions
//! ([`crate::histogram`]), states of the moment ([`crate::gauge`]).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::Event;
use crate::family::{Families, Family};
use crate::gauge::Gauges;
use crate::histogram::{Histogram, Histograms};

pub use crate::family::Refused;

/// A counter since start. Its name, for Prometheus and people alike, stands in [`ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    ClientsConnected,
    ClientsRefused,
    LoginsAccepted,
    LoginsFailed,
    CommandsRefused,
    MessagesAccepted,
    RecipientsAccepted,
    BytesAccepted,
    ClientsGone,
    SessionsOpened,
    SessionsOpenedTls,
    SessionsFailed,
    SessionsClosed,
    RecipientsDelivered,
    RecipientsDeferred,
    RecipientsBounced,
    RecipientsHeld,
    RecipientsReleased,
    RecipientsRerouted,
    RecipientsDiscarded,
    DeliverySeconds,
    DsnsQueued,
    DsnsNotSent,
    TlsReportsSent,
    TlsReportsNotSent,
    SuppressionsAdded,
    SuppressionsRemoved,
    SitesSlowed,
    SitesSuspended,
    SitesResumed,
    SourcesSuspended,
    SourcesResumed,
    Alerts,
    MessagesFlushed,
    MessagesRecovered,
    RecordsQuarantined,
    BodiesUnreadable,
    IndexesRebuilt,
    IndexesFrozen,
    QueueStops,
    OutcomesUnwritten,
    ReportsReceived,
    HistoryLost,
    Starts,
    ListenersOpened,
    Reloads,
    ReloadsRefused,
    StopsBegun,
    StopsDone,
}

/// One counter as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub metric: Metric,
    pub name: &'static str,
    pub help: &'static str,
}

const fn row(metric: Metric, name: &'static str, help: &'static str) -> Row {
    Row { metric, name, help }
}

/// Every counter, in the order of the enum.
pub const ROWS: [Row; 49] = [
    row(
        Metric::ClientsConnected,
        "relayd_clients_connected_total",
        "Submission sessions opened.",
    ),
    row(
        Metric::ClientsRefused,
        "relayd_clients_refused_total",
        "Submission sessions refused or ended for a limit.",
    ),
    row(
        Metric::LoginsAccepted,
        "relayd_logins_accepted_total",
        "Successful AUTH commands.",
    ),
    row(
        Metric::LoginsFailed,
        "relayd_logins_failed_total",
        "Failed AUTH commands.",
    ),
    row(
        Metric::CommandsRefused,
        "relayd_commands_refused_total",
        "Commands of submission sessions answered with 4xx or 5xx.",
    ),
    row(
        Metric::MessagesAccepted,
        "relayd_messages_accepted_total",
        "Messages stored in the queue, from applications and relayctl.",
    ),
    row(
        Metric::RecipientsAccepted,
        "relayd_recipients_accepted_total",
        "Recipients of the accepted messages.",
    ),
    row(
        Metric::BytesAccepted,
        "relayd_accepted_bytes_total",
        "Bytes of the accepted messages.",
    ),
    row(
        Metric::ClientsGone,
        "relayd_clients_gone_before_reply_total",
        "Clients that left before they heard that their message was accepted; they may send it again.",
    ),
    row(
        Metric::SessionsOpened,
        "relayd_sessions_opened_total",
        "Delivery sessions that reached the EHLO reply.",
    ),
    row(
        Metric::SessionsOpenedTls,
        "relayd_sessions_opened_tls_total",
        "Those of the opened delivery sessions that are encrypted.",
    ),
    row(
        Metric::SessionsFailed,
        "relayd_sessions_failed_total",
        "Delivery sessions that failed to open or were lost.",
    ),
    row(
        Metric::SessionsClosed,
        "relayd_sessions_closed_total",
        "Delivery sessions ended in order.",
    ),
    row(
        Metric::RecipientsDelivered,
        "relayd_recipients_delivered_total",
        "Recipients that the next hop took responsibility for.",
    ),
    row(
        Metric::RecipientsDeferred,
        "relayd_recipients_deferred_total",
        "Attempts that left a recipient to be tried again.",
    ),
    row(
        Metric::RecipientsBounced,
        "relayd_recipients_bounced_total",
        "Recipients given up, with a report to the sender.",
    ),
    row(
        Metric::RecipientsHeld,
        "relayd_recipients_held_total",
        "Recipients kept until an operator releases them.",
    ),
    row(
        Metric::RecipientsReleased,
        "relayd_recipients_released_total",
        "Held recipients that an operator has released.",
    ),
    row(
        Metric::RecipientsRerouted,
        "relayd_recipients_rerouted_total",
        "Recipients that an operator has sent another way.",
    ),
    row(
        Metric::RecipientsDiscarded,
        "relayd_recipients_discarded_total",
        "Recipients deleted by an operator.",
    ),
    row(
        Metric::DeliverySeconds,
        "relayd_delivery_seconds_total",
        "Time from arrival to delivery, added up; divide by relayd_recipients_delivered_total.",
    ),
    row(
        Metric::DsnsQueued,
        "relayd_dsns_queued_total",
        "Reports to senders put into the queue.",
    ),
    row(
        Metric::DsnsNotSent,
        "relayd_dsns_not_sent_total",
        "Bounces of messages with an empty reverse-path: nobody to tell.",
    ),
    row(
        Metric::TlsReportsSent,
        "relayd_tls_reports_sent_total",
        "TLS reports (RFC 8460) queued as mail or posted.",
    ),
    row(
        Metric::TlsReportsNotSent,
        "relayd_tls_reports_failed_total",
        "Tries to send a TLS report that failed.",
    ),
    row(
        Metric::SuppressionsAdded,
        "relayd_suppressions_added_total",
        "Addresses put on the suppression list, or put there anew.",
    ),
    row(
        Metric::SuppressionsRemoved,
        "relayd_suppressions_removed_total",
        "Addresses taken off the suppression list by an operator.",
    ),
    row(
        Metric::SitesSlowed,
        "relayd_sites_slowed_total",
        "Times a rule slowed a site down.",
    ),
    row(
        Metric::SitesSuspended,
        "relayd_sites_suspended_total",
        "Times a site was suspended.",
    ),
    row(
        Metric::SitesResumed,
        "relayd_sites_resumed_total",
        "Times a site was taken up again.",
    ),
    row(
        Metric::SourcesSuspended,
        "relayd_sources_suspended_total",
        "Times a source address was suspended at a site.",
    ),
    row(
        Metric::SourcesResumed,
        "relayd_sources_resumed_total",
        "Times a source address was taken up again at a site.",
    ),
    row(
        Metric::Alerts,
        "relayd_alerts_total",
        "Times a rule asked for a person to look.",
    ),
    row(
        Metric::MessagesFlushed,
        "relayd_messages_flushed_total",
        "Messages made due by an operator.",
    ),
    row(
        Metric::MessagesRecovered,
        "relayd_messages_recovered_total",
        "Messages found in the queue at start.",
    ),
    row(
        Metric::RecordsQuarantined,
        "relayd_records_quarantined_total",
        "Damaged records of the queue that were set aside.",
    ),
    row(
        Metric::BodiesUnreadable,
        "relayd_bodies_unreadable_total",
        "Times that a body in the queue was found missing or damaged.",
    ),
    row(
        Metric::IndexesRebuilt,
        "relayd_indexes_rebuilt_total",
        "Times the queue's index was made anew from the journal.",
    ),
    row(
        Metric::IndexesFrozen,
        "relayd_indexes_frozen_total",
        "Times the queue's index could not be written, as on a full disk.",
    ),
    row(
        Metric::QueueStops,
        "relayd_queue_stops_total",
        "Times the queue stopped taking mail after a fault of the disk.",
    ),
    row(
        Metric::OutcomesUnwritten,
        "relayd_outcomes_unwritten_total",
        "Outcomes of attempts that could not be written down; what was delivered by them is sent again.",
    ),
    row(
        Metric::ReportsReceived,
        "relayd_reports_received_total",
        "Recipients of which a report that came back speaks: failures, delays, deliveries, complaints.",
    ),
    row(
        Metric::HistoryLost,
        "relayd_history_lost_total",
        "Events that the history on disk did not take.",
    ),
    row(
        Metric::Starts,
        "relayd_starts_total",
        "Starts; 1 in a running daemon.",
    ),
    row(
        Metric::ListenersOpened,
        "relayd_listeners_opened_total",
        "Sockets listened on.",
    ),
    row(
        Metric::Reloads,
        "relayd_reloads_total",
        "Configurations put to work by a reload.",
    ),
    row(
        Metric::ReloadsRefused,
        "relayd_reloads_refused_total",
        "Reloads refused; the old configuration stays.",
    ),
    row(
        Metric::StopsBegun,
        "relayd_stops_begun_total",
        "Stops asked for; 1 while the daemon finishes its sessions.",
    ),
    row(
        Metric::StopsDone,
        "relayd_stops_done_total",
        "Stops that came to their end; never seen from outside.",
    ),
];

/// The counters of one daemon, from 0 at its start.
#[derive(Debug)]
pub struct Metrics {
    counts: [AtomicU64; ROWS.len()],
    families: Families,
    histograms: Histograms,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            families: Families::default(),
            histograms: Histograms::default(),
        }
    }
}

impl Metrics {
    pub fn get(&self, metric: Metric) -> u64 {
        self.counts[metric as usize].load(Ordering::Relaxed)
    }

    /// Every counter by name, in the order of [`ROWS`].
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        ROWS.iter()
            .map(|row| (row.name, self.get(row.metric)))
            .collect()
    }

    /// All in the text format of Prometheus, version 0.0.4. `gauges`: the states of this moment, which
    /// are asked of those who have them.
    pub fn prometheus(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        for row in &ROWS {
            let Row { metric, name, help } = row;
            let count = self.get(*metric);
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}\n"
            );
        }
        self.families.write(&mut text);
        self.histograms.write(&mut text);
        gauges.write(&mut text);
        text
    }

    /// Counts one of a counter with labels; `values` as [`crate::family::FAMILIES`] names them.
    pub fn count_labelled(&self, family: Family, values: &[&str]) {
        self.families.count(family, values);
    }

    pub fn families(&self) -> &Families {
        &self.families
    }

    /// The queue did not take something.
    pub fn refused(&self, reason: Refused) {
        self.families.count(Family::Refusals, &[reason.word()]);
    }

    /// One more value of a distribution, in its unit.
    pub fn observe(&self, histogram: Histogram, value: f64) {
        self.histograms.observe(histogram, value);
    }

    pub fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    fn add(&self, metric: Metric, count: u64) {
        self.counts[metric as usize].fetch_add(count, Ordering::Relaxed);
    }
}

/// What docs/metrics.md lists: one row each, by kind.
pub fn reference() -> String {
    let mut rows: Vec<(&str, String, &str)> = Vec::new();
    rows.extend(
        ROWS.iter()
            .map(|row| (row.name, "counter".to_owned(), row.help)),
    );
    rows.extend(crate::family::FAMILIES.iter().map(|row| {
        let kind = format!("counter by `{}`", row.labels.join("`, `"));
        (row.name, kind, row.help)
    }));
    let hits = "counter by `rule`, `category`, `action`".to_owned();
    rows.push((crate::hits::NAME, hits, crate::hits::HELP));
    rows.extend(
        (crate::histogram::HISTOGRAMS.iter())
            .map(|row| (row.name, "histogram".to_owned(), row.help)),
    );
    rows.extend(
        crate::gauge::GAUGES
            .iter()
            .map(|row| (row.name, "gauge".to_owned(), row.help)),
    );
    let mut text = "| name | kind | what it tells |\n|---|---|---|\n".to_owned();
    for (name, kind, help) in rows {
        let _ = writeln!(text, "| `{name}` | {kind} | {help} |");
    }
    text
}

/// Moves the counters of an event.
pub(crate) fn count(metrics: &Metrics, event: &Event) {
    let (metric, by) = main_counter(event);
    metrics.add(metric, by);
    // What stands in an event beside its happening.
    if let Event::MessageAccepted {
        recipients, size, ..
    } = event
    {
        metrics.add(Metric::RecipientsAccepted, recipients.len() as u64);
        metrics.add(Metric::BytesAccepted, *size);
    }
    if let Event::SessionOpened { tls: Some(_), .. } = event {
        metrics.add(Metric::SessionsOpenedTls, 1);
    }
    if let Event::RecipientDelivered { age, .. } = event {
        metrics.add(Metric::DeliverySeconds, age.as_secs());
    }
}

/// The counter that every event has, and by how much it moves.
fn main_counter(event: &Event) -> (Metric, u64) {
    match event {
        Event::ClientConnected { .. } => (Metric::ClientsConnected, 1),
        Event::ClientRefused { .. } => (Metric::ClientsRefused, 1),
        Event::ClientAuthenticated { .. } => (Metric::LoginsAccepted, 1),
        Event::AuthFailed { .. } => (Metric::LoginsFailed, 1),
        Event::CommandRefused { .. } => (Metric::CommandsRefused, 1),
        Event::MessageAccepted { .. } => (Metric::MessagesAccepted, 1),
        Event::ClientGoneBeforeReply { .. } => (Metric::ClientsGone, 1),
        Event::SessionOpened { .. } => (Metric::SessionsOpened, 1),
        Event::SessionFailed { .. } => (Metric::SessionsFailed, 1),
        Event::SessionClosed { .. } => (Metric::SessionsClosed, 1),
        Event::RecipientDelivered { .. } => (Metric::RecipientsDelivered, 1),
        Event::RecipientDeferred { .. } => (Metric::RecipientsDeferred, 1),
        Event::RecipientBounced { .. } => (Metric::RecipientsBounced, 1),
        Event::RecipientHeld { .. } => (Metric::RecipientsHeld, 1),
        Event::RecipientReleased { .. } => (Metric::RecipientsReleased, 1),
        Event::RecipientRerouted { .. } => (Metric::RecipientsRerouted, 1),
        Event::RecipientDiscarded { .. } => (Metric::RecipientsDiscarded, 1),
        Event::DsnQueued { .. } => (Metric::DsnsQueued, 1),
        Event::DsnNotSent { .. } => (Metric::DsnsNotSent, 1),
        Event::TlsReportSent { .. } => (Metric::TlsReportsSent, 1),
        Event::TlsReportNotSent { .. } => (Metric::TlsReportsNotSent, 1),
        Event::SuppressionAdded { .. } => (Metric::SuppressionsAdded, 1),
        Event::ReportReceived { .. } => (Metric::ReportsReceived, 1),
        Event::SuppressionRemoved { .. } => (Metric::SuppressionsRemoved, 1),
        Event::SiteSlowed { .. } => (Metric::SitesSlowed, 1),
        Event::SiteSuspended { .. } => (Metric::SitesSuspended, 1),
        Event::SiteResumed { .. } => (Metric::SitesResumed, 1),
        Event::SourceSuspended { .. } => (Metric::SourcesSuspended, 1),
        Event::SourceResumed { .. } => (Metric::SourcesResumed, 1),
        Event::Alert { .. } => (Metric::Alerts, 1),
        Event::Flushed { messages } => (Metric::MessagesFlushed, *messages),
        Event::QueueRecovered { messages, .. } => (Metric::MessagesRecovered, *messages),
        Event::RecordQuarantined { .. } => (Metric::RecordsQuarantined, 1),
        Event::BodyUnreadable { .. } => (Metric::BodiesUnreadable, 1),
        Event::IndexRebuilt { .. } => (Metric::IndexesRebuilt, 1),
        Event::IndexFrozen { .. } => (Metric::IndexesFrozen, 1),
        Event::QueueStopped { .. } => (Metric::QueueStops, 1),
        Event::OutcomeUnwritten { .. } => (Metric::OutcomesUnwritten, 1),
        Event::HistoryLost { events } => (Metric::HistoryLost, *events),
        Event::Started { .. } => (Metric::Starts, 1),
        Event::Listening { .. } => (Metric::ListenersOpened, 1),
        Event::Reloaded => (Metric::Reloads, 1),
        Event::ReloadRefused { .. } => (Metric::ReloadsRefused, 1),
        Event::Stopping { .. } => (Metric::StopsBegun, 1),
        Event::Stopped => (Metric::StopsDone, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::every_event;

    #[test]
    fn the_rows_stand_in_the_order_of_the_enum() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.metric as usize, place, "{}", row.name);
        }
    }

    #[test]
    fn every_event_moves_a_counter_and_every_counter_is_moved() {
        let all = Metrics::default();
        for event in every_event() {
            let one = Metrics::default();
            count(&one, &event);
            count(&all, &event);
            assert!(
                one.snapshot().iter().any(|(_, count)| *count > 0),
                "{event:?}"
            );
        }
        for (name, count) in all.snapshot() {
            assert!(count > 0, "{name} is never moved");
        }
    }

    #[test]
    fn an_accepted_message_counts_its_recipients_and_bytes() {
        let metrics = Metrics::default();
        for event in every_event() {
            count(&metrics, &event);
        }
        assert_eq!(metrics.get(Metric::MessagesAccepted), 1);
        assert_eq!(metrics.get(Metric::RecipientsAccepted), 3);
        assert_eq!(metrics.get(Metric::BytesAccepted), 1000);
    }

    #[test]
    fn prometheus_reads_help_type_and_value() {
        let metrics = Metrics::default();
        count(&metrics, &Event::Flushed { messages: 7 });
        let text = metrics.prometheus(&Gauges::default());
        let wanted = "# HELP relayd_messages_flushed_total Messages made due by an operator.\n\
                      # TYPE relayd_messages_flushed_total counter\n\
                      relayd_messages_flushed_total 7\n";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, listed) = text.split_once("| name | kind |").unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, format!("{before}{}", reference())).unwrap();
            return;
        }
        let hint = "UPDATE_EXPECT=1 cargo test -p relay-observe renews the table";
        assert_eq!(format!("| name | kind |{listed}"), reference(), "{hint}");
    }

    #[test]
    fn names_are_unique_and_end_as_their_kind_wants() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.extend(crate::family::FAMILIES.iter().map(|row| row.name));
        assert!(
            names.iter().all(|name| name.ends_with("_total")),
            "{names:?}"
        );
        names.extend(crate::histogram::HISTOGRAMS.iter().map(|row| row.name));
        names.extend(crate::gauge::GAUGES.iter().map(|row| row.name));
        assert!(names.iter().all(|name| name.starts_with("relayd_")));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
