//! The answers of the API, key by key: what scripts rely on. Times are RFC 3339 in UTC, durations
//! whole seconds. Keys are added, never renamed.

use jiff::Timestamp;
pub use relay_suppression::{Entry, Source};
use serde::{Deserialize, Serialize};

/// One message, as a row of `queue list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageView {
    pub id: String,
    /// The reverse-path; `<>` for the null one.
    pub sender: String,
    /// Bytes of the body as stored.
    pub size: u64,
    pub arrived: Timestamp,
    /// Who had logged in.
    pub user: Option<String>,
    /// How urgent it is, -9 to 9.
    #[serde(default)]
    pub priority: i8,
    pub recipients: Vec<RecipientView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientView {
    pub address: String,
    /// queued, deferred, held, delivered, bounced or discarded.
    pub state: String,
    pub attempts: u32,
    /// None: no attempt is planned (held, or finished).
    pub next_attempt: Option<Timestamp>,
    /// When it will be given up; None: held, or finished.
    pub expires: Option<Timestamp>,
    pub last_attempt: Option<Timestamp>,
    /// The last reply in full, or the failure in words.
    pub last_reply: Option<String>,
    /// The rule that made the last decision.
    pub rule: Option<String>,
    pub category: Option<String>,
    /// The host of the last attempt.
    pub host: Option<String>,
    /// The way that an operator has chosen: `mx`, or a relay. None: the configured one.
    #[serde(default)]
    pub route: Option<String>,
    /// Every attempt, oldest first; only in the view of one message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<AttemptView>,
    /// What `rule` says about itself; only in the view of one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
}

/// What a rule of the policy says to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub rule: String,
    /// File and line.
    pub place: String,
    pub explain: Option<String>,
    pub fix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptView {
    pub at: Timestamp,
    pub host: Option<String>,
    /// Version and suite; None: in clear.
    pub tls: Option<String>,
    pub phase: String,
    pub reply: String,
    pub category: String,
    pub action: String,
    pub rule: String,
}

/// Part of a list: `GET /v1/queue`, `GET /v1/queue/finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageView {
    pub messages: Vec<MessageView>,
    /// Give it as `after` to go on; None: that was all.
    pub next: Option<String>,
}

/// One message in full: `GET /v1/queue/ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageDetail {
    #[serde(flatten)]
    pub message: MessageView,
    /// The address it came from; None: made here or over the operators' socket.
    pub client: Option<String>,
    /// The message that this DSN is about.
    pub dsn_of: Option<String>,
    /// REQUIRETLS was said (RFC 8689).
    #[serde(default)]
    pub requiretls: bool,
    /// The header block; None: the message is no longer in the queue.
    pub headers: Option<String>,
    /// What it waits for now, in words.
    pub blocked_by: Vec<String>,
}

/// `POST /v1/queue/flush`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flushed {
    /// Messages that were made due.
    pub messages: u64,
    /// When; give it as `since` to `GET /v1/queue/untried`.
    pub at: Timestamp,
    /// There is more; give it as `next` of the next command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// Where a command that goes page by page goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// The id of the last message that was looked at.
    pub after: String,
    /// Messages from this id on came later than the command and are not meant.
    pub until: String,
}

/// `GET /v1/queue/untried`: how far a flush has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Untried {
    /// Messages that have a recipient which has not been tried since.
    pub untried: u64,
}

/// `POST /v1/queue/hold`, `release`, `bounce`, `delete`, `reroute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Messages of which something was changed.
    pub messages: u64,
    pub recipients: u64,
    /// There is more; give it as `next` of the next command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// Part of the list: `GET /v1/suppressions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuppressionPage {
    pub entries: Vec<Entry>,
    /// Give it as `after` to go on; None: that was all.
    pub next: Option<String>,
}

/// `POST /v1/suppressions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Addresses that were not on the list.
    pub added: u64,
    /// Addresses that were, and have the new reason and end now.
    pub replaced: u64,
}

/// `POST /v1/suppressions/remove`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub removed: u64,
}

/// `POST /v1/queue/verify` begins, `GET /v1/queue/verify` says how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyView {
    pub running: bool,
    /// Of the journal.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Of the last one that ended.
    pub report: Option<relay_queue::verify::Report>,
    /// Why it could not be carried out.
    pub error: Option<String>,
}

/// `POST /v1/messages`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    pub id: String,
    pub recipients: u64,
    pub size: u64,
}

/// `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    pub warnings: Vec<String>,
}

/// Any refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    pub error: String,
    /// The configuration's mistakes, where a reload was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
}

/// `GET /v1/queue/summary`: who is stuck, since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryView {
    /// The domains with the most waiting recipients first.
    pub domains: Vec<SummaryRow>,
    /// All domains together, those not listed included; its `domain` is `*`.
    pub total: SummaryRow,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    pub domain: String,
    /// Unfinished recipients.
    pub recipients: u64,
    pub deferred: u64,
    pub held: u64,
    /// Seconds since the oldest of these arrived.
    pub oldest: u64,
    /// Recipients by age.
    pub ages: Vec<AgeBucket>,
    /// The rule behind most of the deferrals.
    pub rule: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgeBucket {
    /// Seconds; None: older than all others.
    pub younger_than: Option<u64>,
    pub recipients: u64,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// `well` or `unwell`.
    pub health: String,
    /// Why it is unwell.
    pub problems: Vec<String>,
    pub version: String,
    pub hostname: String,
    pub started: Timestamp,
    pub uptime: u64,
    pub queue: QueueStatus,
    /// Since start.
    pub counts: Counts,
    pub rates: Rates,
    /// Suspended ones first, then those with most waiting work.
    pub sites: Vec<SiteStatus>,
    /// What a rule says a person should look at, newest first.
    pub alerts: Vec<AlertView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    pub messages: u64,
    /// Recipients not tried yet.
    pub queued: u64,
    pub deferred: u64,
    pub held: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// When the oldest message arrived, and seconds since.
    pub oldest: Option<Timestamp>,
    pub oldest_age: Option<u64>,
    /// Why new mail is refused now.
    pub refusing: Option<String>,
    /// Of the queue's disk; and what of it new mail may not take.
    pub free_bytes: Option<u64>,
    pub reserve_bytes: Option<u64>,
    pub journal_bytes: u64,
    pub index_bytes: u64,
    /// Damaged records and indexes that were set aside.
    pub quarantined: u64,
}

/// Messages accepted, and recipients by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub accepted: u64,
    pub delivered: u64,
    /// Attempts that ended in a deferral: one recipient may count several times.
    pub deferred: u64,
    pub bounced: u64,
    pub discarded: u64,
}

/// The same per minute, over the last minute (or since start, where that is shorter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub accepted_per_minute: f64,
    pub delivered_per_minute: f64,
    pub deferred_per_minute: f64,
    pub bounced_per_minute: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The sorted MX names joined by commas, `relay:NAME`, or `[address]`.
    pub site: String,
    /// Next hops that lead there, the first ones.
    pub hops: Vec<String>,
    /// How many lead there.
    pub hops_total: u64,
    /// Due now, waiting for a session or for the rate.
    pub ready: u64,
    /// Due later.
    pub waiting: u64,
    /// Being carried out.
    pub in_flight: u64,
    pub sessions: u32,
    /// Sessions that limits allow.
    pub connections: u32,
    /// Sessions that the feedback allows now.
    pub window: u32,
    /// Messages per second; None: no limit.
    pub rate: Option<f64>,
    pub suspended_until: Option<Timestamp>,
    /// When a slow-down recovers a step.
    #[serde(default)]
    pub slow_until: Option<Timestamp>,
    /// When the recovery after a suspension goes a step further.
    #[serde(default)]
    pub recovering_until: Option<Timestamp>,
    /// Source addresses that are suspended there, are tried again, or recover.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// As set and learned.
    #[serde(default)]
    pub messages_per_connection: u32,
    /// As set and learned.
    #[serde(default)]
    pub recipients_per_transaction: u32,
    /// What the site has taught us.
    #[serde(default)]
    pub learned: Vec<LearnedView>,
    /// Those of its hosts that are passed over or tried last.
    #[serde(default)]
    pub hosts: Vec<HostStatus>,
    /// What is in force, and where it comes from.
    #[serde(default)]
    pub limits: Vec<LimitView>,
    /// The rule behind a suspension or a slow-down.
    pub why: Option<String>,
    /// What the rule in `why` says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
}

/// One source address towards a site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub address: String,
    /// suspended, probing or recovering.
    pub state: String,
    /// None: until a probe went well.
    pub until: Option<Timestamp>,
    pub rule: String,
}

/// One limit in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitView {
    /// `connections`, `rate`, `messages_per_connection`, `recipients_per_transaction`, or what is shared.
    pub what: String,
    pub value: String,
    /// `relayd.toml:14`, `default` or `learned`.
    pub from: String,
    /// Until when something learned holds.
    pub until: Option<Timestamp>,
    /// How much of what is shared is in use.
    pub used: Option<u32>,
}

/// One host that was of no use lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    pub host: String,
    pub address: String,
    #[serde(default)]
    pub port: u16,
    /// dead or tried last.
    pub state: String,
    /// A dead one is probed then.
    pub until: Option<Timestamp>,
    /// What it came to.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedView {
    /// `at most 3 recipients in one transaction`
    pub what: String,
    pub until: Timestamp,
}

/// `GET /v1/sites`, and what `POST /v1/sites/suspend` and `resume` changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SitesView {
    pub sites: Vec<SiteStatus>,
}

/// `GET /v1/tls-reports`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsReportsView {
    /// The oldest day first.
    pub reports: Vec<TlsReportView>,
}

/// One day of one domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsReportView {
    /// UTC, as `2026-11-22`.
    pub day: String,
    pub domain: String,
    /// `tlsa`, `sts`, `no-policy-found`: by which the sessions were measured.
    pub policies: Vec<String>,
    pub successful: u64,
    pub failed: u64,
    pub failures: Vec<TlsFailureView>,
    /// Places that have the report.
    pub sent_to: Vec<String>,
    /// When it is told, or tried again; None: it is told, given up, or nobody wants it.
    pub next_attempt: Option<Timestamp>,
}

/// Sessions that failed alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsFailureView {
    /// As RFC 8460 section 4.3 has it.
    pub result: String,
    pub sessions: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertView {
    pub at: Timestamp,
    pub rule: String,
    pub category: String,
    pub reply: String,
    /// Recipients that wait because of it.
    pub recipients: u64,
    /// How often it was raised since `since`, in the last day and since the start.
    #[serde(default)]
    pub times: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Where, the latest first.
    #[serde(default)]
    pub sites: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
}
