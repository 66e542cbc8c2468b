//! The events: everything an operator would ask about, with queue id, next hop, host, phase and
//! reply where they apply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relay_smtp::{Phase, QueueId};

use crate::metric::Metrics;

/// What happened. A new variant shows, by the compiler, where its log line and metric are missing.
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
        recipients: usize,
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
    },
    SessionClosed {
        site: String,
        host: String,
        messages: u32,
    },
    RecipientDelivered {
        id: QueueId,
        recipient: String,
        host: String,
        tls: Option<String>,
        reply: String,
        age: Duration,
        attempts: u32,
    },
    RecipientDeferred {
        id: QueueId,
        recipient: String,
        host: Option<String>,
        phase: Phase,
        reply: String,
        rule: String,
        category: String,
        until: jiff::Timestamp,
    },
    RecipientBounced {
        id: QueueId,
        recipient: String,
        host: Option<String>,
        phase: Phase,
        reply: String,
        rule: String,
        category: String,
    },
    RecipientHeld {
        id: QueueId,
        recipient: String,
        rule: String,
        reply: String,
    },
    /// A held recipient is due again.
    RecipientReleased {
        id: QueueId,
        recipient: String,
    },
    RecipientDiscarded {
        id: QueueId,
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
    IndexRebuilt {
        reason: String,
    },
    QueueStopped {
        reason: String,
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

/// The handle through which events are told: one log line and the metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Events {
    metrics: Arc<Metrics>,
}

impl Events {
    pub fn emit(&self, event: Event) {
        crate::metric::count(&self.metrics, &event);
        crate::log::line(&event);
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
                recipients: 3,
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
            },
            Event::SessionClosed {
                site: text(),
                host: text(),
                messages: 2,
            },
            Event::RecipientDelivered {
                id: id(),
                recipient: text(),
                host: text(),
                tls: None,
                reply: "250 ok\nerror: a line of its own".to_owned(),
                age: Duration::from_millis(2500),
                attempts: 1,
            },
            Event::RecipientDeferred {
                id: id(),
                recipient: text(),
                host: None,
                phase: Phase::Rcpt,
                reply: text(),
                rule: text(),
                category: text(),
                until,
            },
            Event::RecipientBounced {
                id: id(),
                recipient: text(),
                host: Some(text()),
                phase: Phase::Rcpt,
                reply: text(),
                rule: text(),
                category: text(),
            },
            Event::RecipientHeld {
                id: id(),
                recipient: text(),
                rule: text(),
                reply: text(),
            },
            Event::RecipientReleased {
                id: id(),
                recipient: text(),
            },
            Event::RecipientDiscarded {
                id: id(),
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
            Event::IndexRebuilt { reason: text() },
            Event::QueueStopped { reason: text() },
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
