//! The events: everything an operator would ask about, with queue id, next hop, host, phase and
//! reply where they apply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay_smtp::{Failure, Phase, QueueId, Reply};

use crate::alerts::{self, Alerts, Say};
use crate::clock::Clock;
use crate::history::{self, History};
use crate::hits::RuleHits;
use crate::metric::Metrics;

/// What happened. A new variant shows, by the compiler, where its log line and metric are missing.
/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    Failed,
    Delayed,
    Delivered,
    Complaint,
}

impl ReportKind {
    pub fn word(self) -> &'static str {
        match self {
            ReportKind::Failed => "failed",
            ReportKind::Delayed => "delayed",
            ReportKind::Delivered => "delivered",
            ReportKind::Complaint => "complaint",
        }
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    // accepting
    ClientConnected {
        client: SocketAddr,
    },
    ClientRefused {
        client: SocketAddr,
        reason: &'static str,
    },
    ClientAuthenticated {
        client: SocketAddr,
        user: String,
    },
    AuthFailed {
        client: SocketAddr,
        user: String,
    },
    CommandRefused {
        client: SocketAddr,
        reply: String,
    },
    MessageAccepted {
        id: QueueId,
        client: Option<SocketAddr>,
        user: Option<String>,
        sender: String,
        recipients: Vec<String>,
        size: u64,
    },
    /// The client left before it heard our 250: the message is ours all the same.
    ClientGoneBeforeReply {
        id: QueueId,
        client: SocketAddr,
    },
    // delivering
    SessionOpened {
        site: String,
        host: String,
        address: SocketAddr,
        tls: Option<String>,
    },
    SessionFailed {
        site: String,
        host: String,
        phase: Phase,
        what: String,
        rule: String,
        category: String,
        action: String,
    },
    SessionClosed {
        site: String,
        host: String,
        messages: u32,
    },
    RecipientDelivered {
        id: QueueId,
        recipient: String,
        tried: Box<Tried>,
        age: Duration,
        attempts: u32,
    },
    RecipientDeferred {
        id: QueueId,
        recipient: String,
        tried: Box<Tried>,
        until: jiff::Timestamp,
    },
    RecipientBounced {
        id: QueueId,
        recipient: String,
        tried: Box<Tried>,
    },
    RecipientHeld {
        id: QueueId,
        recipient: String,
        tried: Box<Tried>,
    },
    /// A held recipient is due again.
    RecipientReleased {
        id: QueueId,
        sender: String,
        recipient: String,
    },
    /// An operator sends it another way; None: the configured one again.
    RecipientRerouted {
        id: QueueId,
        sender: String,
        recipient: String,
        route: Option<String>,
    },
    RecipientDiscarded {
        id: QueueId,
        sender: String,
        recipient: String,
    },
    DsnQueued {
        id: QueueId,
        of: QueueId,
        to: String,
    },
    /// A bounce of a message from `<>`: nobody to tell.
    DsnNotSent {
        of: QueueId,
        recipient: String,
    },
    /// A report came back about a message that had been delivered to the next hop.
    ReportReceived {
        id: QueueId,
        recipient: String,
        kind: ReportKind,
        /// What the far host, or the reader, said.
        reply: String,
        /// By which it was judged; None: nothing follows from it, or it is a complaint.
        rule: Option<String>,
    },
    /// A domain was told what its TLS came to (RFC 8460).
    TlsReportSent {
        domain: String,
        to: String,
        /// Sessions that did what was asked, and those that did not.
        good: u64,
        failed: u64,
    },
    /// It is tried again within a day.
    TlsReportNotSent {
        domain: String,
        to: String,
        reason: String,
    },
    /// An address is not to be tried again.
    SuppressionAdded {
        recipient: String,
        /// policy, operator, import or report.
        source: &'static str,
        rule: Option<String>,
        category: Option<String>,
        expires: Option<jiff::Timestamp>,
    },
    SuppressionRemoved {
        recipient: String,
    },
    SiteSlowed {
        site: String,
        rule: String,
        until: jiff::Timestamp,
    },
    SiteSuspended {
        site: String,
        rule: String,
        until: jiff::Timestamp,
    },
    SiteResumed {
        site: String,
    },
    /// One of our addresses pauses towards a site, the others go on.
    SourceSuspended {
        site: String,
        source: std::net::IpAddr,
        rule: String,
        until: jiff::Timestamp,
    },
    SourceResumed {
        site: String,
        source: std::net::IpAddr,
    },
    /// A rule says that a person should look.
    Alert {
        site: String,
        rule: String,
        category: String,
        reply: String,
        fix: String,
    },
    Flushed {
        messages: u64,
    },
    // keeping
    QueueRecovered {
        messages: u64,
        records: u64,
        truncated_bytes: u64,
        took: Duration,
    },
    RecordQuarantined {
        file: String,
        offset: u64,
        reason: String,
    },
    /// The body of a message in the queue is missing or damaged: it cannot be sent, and stays.
    BodyUnreadable {
        id: QueueId,
        file: String,
        reason: String,
    },
    IndexRebuilt {
        reason: String,
    },
    /// The index cannot be written, mostly because the disk is full: no mail is accepted until it can.
    IndexFrozen {
        reason: String,
    },
    QueueStopped {
        reason: String,
    },
    /// What became of a message could not be written down: it stays in the queue and is sent once more.
    OutcomeUnwritten {
        id: QueueId,
        reason: String,
    },
    /// The disk, or the writer of the history, did not keep up.
    HistoryLost {
        events: u64,
    },
    // running
    Started {
        version: &'static str,
        hostname: String,
    },
    Listening {
        address: String,
    },
    Reloaded,
    ReloadRefused {
        error: String,
    },
    Stopping {
        sessions: usize,
    },
    Stopped,
}

/// What a try at one recipient came to: what was said, by whom, and what the policy made of it. An
/// operator's act takes the place of a try where no host was asked.
#[derive(Clone, Debug)]
pub struct Tried {
    pub sender: String,
    /// Who had logged in to hand the message in.
    pub user: Option<String>,
    /// None: there was no session.
    pub site: Option<String>,
    /// `mx1.example.net [192.0.2.1]`; None where no host was reached for.
    pub host: Option<String>,
    /// What TLS was agreed; None: in clear.
    pub tls: Option<String>,
    pub phase: Phase,
    /// The reply in one line, or the failure in words.
    pub reply: String,
    pub basis: Basis,
    /// How many recipients of the transaction had been accepted before.
    pub accepted_before: u32,
    pub rule: String,
    pub category: String,
    pub action: String,
    pub provider: Option<String>,
}

/// What was decided on: enough to decide again, with another table.
#[derive(Clone, Debug)]
pub enum Basis {
    Reply(Reply),
    Failure(Failure),
    /// A person's word; no rule of the table.
    Operator,
}

/// The handle through which events are told: one log line, the metrics, and the history where there
/// is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Events {
    metrics: Arc<Metrics>,
    hits: Arc<RuleHits>,
    alerts: Arc<Alerts>,
    history: Option<History>,
}

impl Events {
    /// These are kept on disk, too.
    pub fn with_history(options: history::Options, clock: Clock) -> std::io::Result<Events> {
        let metrics = Arc::new(Metrics::default());
        let history = History::start(options, clock, Arc::clone(&metrics))?;
        Ok(Events {
            metrics,
            hits: Arc::default(),
            alerts: Arc::default(),
            history: Some(history),
        })
    }

    pub fn emit(&self, event: Event) {
        crate::metric::count(&self.metrics, &event);
        let now = jiff::Timestamp::now();
        self.hits.count(&event, now);
        if self.note(&event, now) == Say::NotAgain {
            return;
        }
        crate::log::line(&event);
        if let Some(history) = &self.history {
            history.tell(event);
        }
    }

    /// An alert that was told lately is only counted.
    fn note(&self, event: &Event, now: jiff::Timestamp) -> Say {
        let Event::Alert {
            site,
            rule,
            category,
            reply,
            fix,
        } = event
        else {
            return Say::Now;
        };
        let words = alerts::Words {
            site,
            rule,
            category,
            reply,
            fix,
        };
        self.alerts.note(&words, now)
    }

    /// What a person should look at.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// By which rules of the policy has been decided.
    pub fn hits(&self) -> &RuleHits {
        &self.hits
    }

    /// None: events are not kept.
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A try that ended with this reply.
    pub(crate) fn tried(reply: &str) -> Box<Tried> {
        let text = || "text".to_owned();
        let code = reply.split(' ').next().and_then(|code| code.parse().ok());
        let words = reply.split_once(' ').map_or("", |(_, words)| words);
        Box::new(Tried {
            sender: text(),
            user: None,
            site: Some(text()),
            host: Some("mx.example.com [192.0.2.7]".to_owned()),
            tls: None,
            phase: Phase::Rcpt,
            reply: reply.to_owned(),
            basis: Basis::Reply(Reply::new(code.unwrap_or(250), None, words)),
            accepted_before: 0,
            rule: text(),
            category: text(),
            action: text(),
            provider: None,
        })
    }

    /// One of each.
    pub(crate) fn every_event() -> Vec<Event> {
        let id = || QueueId::from_u64(1);
        let text = || "text".to_owned();
        let client = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let until = jiff::Timestamp::UNIX_EPOCH;
        vec![
            Event::ClientConnected { client },
            Event::ClientRefused {
                client,
                reason: "too many sessions",
            },
            Event::ClientAuthenticated {
                client,
                user: text(),
            },
            Event::AuthFailed {
                client,
                user: text(),
            },
            Event::CommandRefused {
                client,
                reply: text(),
            },
            Event::MessageAccepted {
                id: id(),
                client: Some(client),
                user: None,
                sender: text(),
                recipients: vec![text(), text(), text()],
                size: 1000,
            },
            Event::ClientGoneBeforeReply { id: id(), client },
            Event::SessionOpened {
                site: text(),
                host: text(),
                address: client,
                tls: Some(text()),
            },
            Event::SessionFailed {
                site: text(),
                host: text(),
                phase: Phase::Ehlo,
                what: text(),
                rule: text(),
                category: text(),
                action: text(),
            },
            Event::SessionClosed {
                site: text(),
                host: text(),
                messages: 2,
            },
            Event::RecipientDelivered {
                id: id(),
                recipient: text(),
                tried: tried("250 ok\nerror: a line of its own"),
                age: Duration::from_millis(2500),
                attempts: 1,
            },
            Event::RecipientDeferred {
                id: id(),
                recipient: text(),
                tried: tried("450 4.7.1 later"),
                until,
            },
            Event::RecipientBounced {
                id: id(),
                recipient: text(),
                tried: tried("550 5.1.1 unknown"),
            },
            Event::RecipientHeld {
                id: id(),
                recipient: text(),
                tried: Box::new(Tried {
                    basis: Basis::Operator,
                    ..*tried("held")
                }),
            },
            Event::RecipientReleased {
                id: id(),
                sender: text(),
                recipient: text(),
            },
            Event::RecipientRerouted {
                id: id(),
                sender: text(),
                recipient: text(),
                route: Some(text()),
            },
            Event::RecipientDiscarded {
                id: id(),
                sender: text(),
                recipient: text(),
            },
            Event::DsnQueued {
                id: id(),
                of: id(),
                to: text(),
            },
            Event::DsnNotSent {
                of: id(),
                recipient: text(),
            },
            Event::TlsReportSent {
                domain: text(),
                to: text(),
                good: 1,
                failed: 1,
            },
            Event::TlsReportNotSent {
                domain: text(),
                to: text(),
                reason: text(),
            },
            Event::SuppressionAdded {
                recipient: text(),
                source: "policy",
                rule: Some(text()),
                category: Some(text()),
                expires: Some(until),
            },
            Event::ReportReceived {
                id: id(),
                recipient: text(),
                kind: ReportKind::Failed,
                reply: text(),
                rule: Some(text()),
            },
            Event::SuppressionRemoved { recipient: text() },
            Event::SiteSlowed {
                site: text(),
                rule: text(),
                until,
            },
            Event::SiteSuspended {
                site: text(),
                rule: text(),
                until,
            },
            Event::SiteResumed { site: text() },
            Event::SourceSuspended {
                site: text(),
                source: client.ip(),
                rule: text(),
                until,
            },
            Event::SourceResumed {
                site: text(),
                source: client.ip(),
            },
            Event::Alert {
                site: text(),
                rule: text(),
                category: text(),
                reply: text(),
                fix: text(),
            },
            Event::Flushed { messages: 1 },
            Event::QueueRecovered {
                messages: 1,
                records: 2,
                truncated_bytes: 3,
                took: Duration::from_secs(1),
            },
            Event::RecordQuarantined {
                file: text(),
                offset: 1,
                reason: text(),
            },
            Event::BodyUnreadable {
                id: id(),
                file: text(),
                reason: text(),
            },
            Event::IndexRebuilt { reason: text() },
            Event::IndexFrozen { reason: text() },
            Event::QueueStopped { reason: text() },
            Event::OutcomeUnwritten {
                id: id(),
                reason: text(),
            },
            Event::HistoryLost { events: 1 },
            Event::Started {
                version: "0",
                hostname: text(),
            },
            Event::Listening { address: text() },
            Event::Reloaded,
            Event::ReloadRefused { error: text() },
            Event::Stopping { sessions: 1 },
            Event::Stopped,
        ]
    }
}
