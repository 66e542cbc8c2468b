//! What the API looks at and acts on: brought by `relayd`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use relay_config::Config;
use relay_deliver::trace::SharedWatchers;
use relay_deliver::{Delivery, HostTrouble, LimitInForce, SiteView, SourceState};
use relay_doctor::{Finding, Question};
use relay_observe::{Clock, Events};
use relay_queue::{Message, Store};
use relay_smtp::{NextHop, QueueId};
use relay_suppression::Suppressions;

use crate::view::{
    Advice, HostStatus, LearnedView, LimitView, SiteStatus, SourceStatus, TlsReportView,
};

/// Boxed, so that these can stand behind `Arc<dyn ...>`.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads the configuration anew. `Ok`: warnings. `Err`: the mistakes; the old one stays.
pub type Reload =
    Box<dyn Fn() -> Later<'static, Result<Vec<String>, Vec<String>>> + Send + Sync + 'static>;

/// Looks at a domain, or at ourselves, with what delivery uses.
pub type Examine = Box<dyn Fn(Question) -> Later<'static, Vec<Finding>> + Send + Sync + 'static>;

/// What is kept of TLS reports. Err: in words, why it cannot be read.
pub type TlsReports =
    Box<dyn Fn() -> Later<'static, Result<Vec<TlsReportView>, String>> + Send + Sync + 'static>;

/// Made once by `relayd`.
pub struct AdminWorld {
    pub clock: Clock,
    pub events: Events,
    pub store: Arc<dyn Store>,
    pub suppressions: Arc<dyn Suppressions>,
    pub dispatcher: Arc<dyn Dispatcher>,
    /// The configuration in force; whoever reloads exchanges it.
    pub config: Arc<ArcSwap<Config>>,
    pub reload: Reload,
    pub examine: Examine,
    pub watchers: SharedWatchers,
    /// None: they are off.
    pub tls_reports: Option<TlsReports>,
    pub started: Timestamp,
    pub version: &'static str,
}

/// The part of the dispatcher that operators may use. `relay_deliver::Delivery` is one; tests bring
/// their own.
pub trait Dispatcher: Send + Sync + 'static {
    /// Takes a new message, or the unfinished rest of one, into the schedule.
    fn enqueue(&self, message: Arc<Message>) -> Later<'_, ()>;
    /// A message goes other ways from now on.
    fn rerouted(&self, message: Arc<Message>) -> Later<'_, ()>;
    /// Makes these messages due now, or all. Returns how many.
    fn flush(&self, ids: Option<Vec<QueueId>>) -> Later<'_, u64>;
    /// Forgets a message.
    fn remove(&self, id: QueueId) -> Later<'_, ()>;
    fn sites(&self) -> Later<'_, Vec<SiteStatus>>;
    /// Nothing goes to the site until then.
    fn suspend<'a>(&'a self, site: &'a str, until: Timestamp) -> Later<'a, ()>;
    /// Ends suspensions and slow-downs of the site.
    fn resume<'a>(&'a self, site: &'a str) -> Later<'a, ()>;
    /// In words, what a message waits for; empty: nothing.
    fn blocked_by(&self, id: QueueId) -> Later<'_, Vec<String>>;
    /// Since when the message is due that has waited longest for a session; None: none waits.
    fn oldest_due(&self) -> Later<'_, Option<Timestamp>>;
    /// The name of the site that a next hop leads to.
    fn site_of<'a>(&'a self, hop: &'a NextHop) -> Later<'a, String>;
    /// What the rule of this name says; None: the policy has none of this name.
    fn advice(&self, rule: &str) -> Option<Advice>;
}

impl Dispatcher for Delivery {
    fn enqueue(&self, message: Arc<Message>) -> Later<'_, ()> {
        Box::pin(Delivery::enqueue(self, message))
    }

    fn rerouted(&self, message: Arc<Message>) -> Later<'_, ()> {
        Box::pin(Delivery::rerouted(self, message))
    }

    fn flush(&self, ids: Option<Vec<QueueId>>) -> Later<'_, u64> {
        Box::pin(Delivery::flush(self, ids))
    }

    fn remove(&self, id: QueueId) -> Later<'_, ()> {
        Box::pin(Delivery::remove(self, id))
    }

    fn sites(&self) -> Later<'_, Vec<SiteStatus>> {
        Box::pin(async {
            let sites = Delivery::sites(self).await;
            sites.into_iter().map(site_status).collect()
        })
    }

    fn suspend<'a>(&'a self, site: &'a str, until: Timestamp) -> Later<'a, ()> {
        Box::pin(Delivery::suspend(self, site, until))
    }

    fn resume<'a>(&'a self, site: &'a str) -> Later<'a, ()> {
        Box::pin(Delivery::resume(self, site))
    }

    fn blocked_by(&self, id: QueueId) -> Later<'_, Vec<String>> {
        Box::pin(Delivery::blocked_by(self, id))
    }

    fn oldest_due(&self) -> Later<'_, Option<Timestamp>> {
        Box::pin(Delivery::oldest_due(self))
    }

    fn site_of<'a>(&'a self, hop: &'a NextHop) -> Later<'a, String> {
        Box::pin(Delivery::site_of(self, hop))
    }

    fn advice(&self, rule: &str) -> Option<Advice> {
        let rule = Delivery::rule(self, rule)?;
        Some(Advice {
            rule: rule.name.clone(),
            place: rule.place.clone(),
            explain: rule.explain.clone(),
            fix: rule.fix.clone(),
        })
    }
}

fn site_status(site: SiteView) -> SiteStatus {
    SiteStatus {
        site: site.site,
        hops: site.hops,
        hops_total: site.hops_total,
        ready: site.ready,
        waiting: site.waiting,
        in_flight: site.in_flight,
        sessions: site.sessions,
        connections: site.connections,
        window: site.window,
        rate: site.rate,
        suspended_until: site.suspended_until,
        slow_until: site.slow_until,
        recovering_until: site.recovering_until,
        why: site.why,
        sources: site.sources.into_iter().map(source_status).collect(),
        messages_per_connection: site.messages_per_connection,
        recipients_per_transaction: site.recipients_per_transaction,
        learned: site.learned.into_iter().map(learned).collect(),
        hosts: site.hosts.into_iter().map(host_status).collect(),
        limits: site.limits.into_iter().map(limit).collect(),
        advice: None,
    }
}

fn source_status(source: SourceState) -> SourceStatus {
    SourceStatus {
        address: source.address.to_string(),
        state: source.state.to_owned(),
        until: source.until,
        rule: source.rule,
    }
}

fn limit(limit: LimitInForce) -> LimitView {
    LimitView {
        what: limit.what,
        value: limit.value,
        from: limit.from,
        until: limit.until,
        used: limit.used,
    }
}

fn host_status(host: HostTrouble) -> HostStatus {
    HostStatus {
        host: host.host,
        address: host.address.ip().to_string(),
        port: host.address.port(),
        state: host.state.to_owned(),
        until: Some(host.until),
        why: host.why,
    }
}

fn learned((what, until): (String, Timestamp)) -> LearnedView {
    LearnedView { what, until }
}
