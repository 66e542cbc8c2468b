//! The checked configuration, as the parts get it. Every field is explained by its row in
//! [`crate::options`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use relay_policy::{Schedule, TlsRequirement};
use relay_smtp::verp::Template;
use relay_smtp::{Domain, Mailbox};

use crate::login::Login;

/// Everything, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    pub hostname: String,
    pub state: StateSettings,
    pub listeners: Vec<Listener>,
    pub submission: Submission,
    pub queue: Queue,
    /// Certificate and key of the listeners.
    pub tls: Option<TlsFiles>,
    pub users: Vec<User>,
    pub dns: Dns,
    pub delivery: Delivery,
    pub mta_sts: MtaSts,
    pub tls_rpt: TlsRpt,
    /// Local addresses to send from: those of `[[source]]`, then those of `delivery.source_addresses`.
    pub sources: Vec<SourceAddress>,
    pub routes: Vec<Route>,
    pub limits: Vec<Limit>,
    /// By name; `default` is always there.
    pub retry: BTreeMap<String, Schedule>,
    pub policy: PolicyFiles,
    pub suppression: Suppression,
    pub dkim: Vec<DkimKey>,
    pub dsn: Dsn,
    pub admin: Admin,
    pub doctor: DoctorSettings,
    pub reports: ReportSettings,
    pub log: Log,
    /// What is allowed but probably not meant, as text for people.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct StateSettings {
    pub dir: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub address: ListenAddress,
    pub tls: ListenerTls,
    pub auth: AuthDemand,
    pub trusted: Vec<IpNet>,
    pub reports: ReportsFrom,
}

/// Who may hand in mail for the addresses of `[reports]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportsFrom {
    /// Who may relay.
    Known,
    Anybody,
}

/// Reports that come back.
#[derive(Clone, Debug, Default)]
pub struct ReportSettings {
    pub addresses: Vec<String>,
    /// None: what cannot be read is refused.
    pub unread_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    None,
    Starttls,
    Implicit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthDemand {
    None,
    Optional,
    Required,
}

/// `[submission]`: limits of what is accepted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Bytes; announced by SIZE. Default 50 MiB.
    pub message_bytes_max: u64,
    /// RCPTs in one transaction. Default 1000.
    pub recipients_max: u32,
    /// Sessions at once, all listeners together. Default 1000.
    pub sessions_max: u32,
    /// Sessions at once from one address. Default 200; loopback is not counted.
    pub sessions_per_address_max: u32,
    /// Silence before 421. Default 5 min (RFC 5321 section 4.5.3.2.7).
    pub idle_timeout: Duration,
    /// More replies 5xx than this in one session end it. Default 20.
    pub errors_max: u32,
    pub bare_line_ends: BareLineEnds,
    /// AUTH without TLS beyond loopback. Default: refused.
    pub auth_in_clear: AuthInClear,
    /// More Received headers than this: 554 5.4.6. Default 50.
    pub received_headers_max: u32,
}

/// `[queue]`: how much it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Default 5 million.
    pub messages_max: u64,
    /// None: no limit but the disk's.
    pub bytes_max: Option<u64>,
    /// Free space that mail may not take. Default 4 GiB,
    pub reserve_bytes: u64,
    /// or this percentage of the disk, where that is less. Default 10.
    pub reserve_percent: u8,
    /// Of the reserve: with less sessions are turned away. Default 50.
    pub close_percent: u8,
    /// What one sender or domain may hold where space is short. Default 90.
    pub share_percent: u8,
    pub ballast_bytes: u64,
    pub busy_after: Duration,
    pub body_cache_bytes: u64,
    pub index_cache_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLineEnds {
    Reject,
    Normalize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthInClear {
    LoopbackOnly,
    Anywhere,
}

#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// A PHC string: `$argon2id$...`.
    pub password_hash: String,
    /// `*@domain` or whole addresses; empty: anything.
    pub senders: Vec<String>,
    pub rate: Option<Rate>,
}

/// So many in so much time: `100/min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

#[derive(Clone, Debug)]
pub struct Dns {
    /// Empty: the system's resolv.conf.
    pub servers: Vec<SocketAddr>,
    pub trust_ad: TrustAd,
}

/// Whether the AD bit of the resolvers' answers is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustAd {
    Yes,
    No,
    /// Not said: where all of them are on loopback.
    OnLoopback,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    /// The port of MX hosts. Default 25.
    pub port: u16,
    /// All of [`Config::sources`]. Empty: the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    pub address_family: AddressFamily,
    /// Whether MX hosts may have private or loopback addresses. Default: no.
    pub private_addresses: PrivateAddresses,
    /// Sessions at once, all sites together. Default 500.
    pub sessions_max: u32,
    /// How long a session without work is kept. Default 3 s.
    pub idle: Duration,
    pub timeouts: Timeouts,
    /// `[delivery] pipelining`; default: use it where offered.
    pub pipelining: Pipelining,
    /// `[delivery] chunking`; default: for small messages, where offered.
    pub chunking: Chunking,
    /// Roots that are trusted besides the system's.
    pub tls_roots: Option<PathBuf>,
    pub verp: Option<Verp>,
}

/// `[delivery] verp` and `verp_senders`
#[derive(Clone, Debug)]
pub struct Verp {
    pub template: Template,
    /// `*@domain` or whole addresses; empty: all.
    pub senders: Vec<String>,
}

impl Verp {
    /// Domains in any case, local parts exactly (RFC 5321 section 2.4).
    pub fn is_for(&self, sender: &Mailbox) -> bool {
        let host = sender.host().to_ascii();
        let fits = |pattern: &String| match pattern.strip_prefix("*@") {
            Some(domain) => domain.eq_ignore_ascii_case(&host),
            None => Mailbox::parse(pattern).is_ok_and(|one| one == *sender),
        };
        self.senders.is_empty() || self.senders.iter().any(fits)
    }
}

/// `[[source]]`: a local address to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceAddress {
    pub address: IpAddr,
    /// Its part of the mail, in proportion to the others' of its family. Default 1; 0: not used.
    pub weight: u32,
    /// None: `hostname`.
    pub ehlo_name: Option<String>,
    pub warm_up: Option<WarmUp>,
}

/// How the daily volume of a new address grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Midnight (UTC) of the first day.
    pub start: jiff::Timestamp,
    /// Messages on each day; after the last there is no cap.
    pub daily: Arc<[u32]>,
}

/// `[mta_sts]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaSts {
    pub enabled: MtaStsUse,
    /// Of policy hosts. Default 443.
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtaStsUse {
    On,
    Off,
}

/// `[tls_rpt]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRpt {
    pub enabled: TlsRptUse,
    pub organization: String,
    pub contact: String,
    /// Default `postmaster@HOSTNAME`.
    pub from: String,
    /// Default 4 h.
    pub spread: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRptUse {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    Ipv4First,
    Ipv6First,
    Ipv4Only,
    Ipv6Only,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateAddresses {
    Refused,
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    WhereOffered,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    WhereOffered,
    Never,
}

/// How long each phase waits (RFC 5321 section 4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub banner: Duration,
    pub ehlo: Duration,
    pub starttls: Duration,
    pub auth: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    /// For each chunk of the body.
    pub body: Duration,
    pub final_dot: Duration,
    pub rset: Duration,
    pub quit: Duration,
}

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    pub to: Vec<DomainPattern>,
    /// Its name as a next hop: `via` joined by commas.
    pub name: Arc<str>,
    /// Empty: the domain's own MX, an exception from a wider route.
    pub via: Vec<Relay>,
    pub balance: Balance,
    pub tls: TlsRequirement,
    pub login: Option<Login>,
}

/// In which order the relays of a route are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// As `via` has them: the second one stands in for the first.
    InOrder,
    /// Each session begins with another one: all have about the same number of sessions.
    Even,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// A host name or an address.
    pub host: String,
    pub port: u16,
}

impl Relay {
    /// `smtp.example.com:587`, `192.0.2.1:25` or `[2001:db8::1]:587`; None: not a host with a port.
    pub fn parse(text: &str) -> Option<Relay> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Relay {
                host: address.ip().to_string(),
                port: address.port(),
            })
            .filter(|relay| relay.port > 0);
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Relay {
            host: Domain::parse(host).ok()?.to_ascii(),
            port: port.parse::<u16>().ok().filter(|port| *port > 0)?,
        })
    }

    /// A loopback address or `localhost`.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

/// As in `via`: `smtp.example.com:587`, `[2001:db8::1]:587`.
impl std::fmt::Display for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `example.com`, `*.example.com` (subdomains only), `*` (all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    All,
    Exactly(String),
    Below(String),
}

/// `[[limit]]`; unset fields come from the next wider one.
#[derive(Clone, Debug)]
pub struct Limit {
    pub to: Vec<DomainPattern>,
    pub provider: Vec<String>,
    pub mx: Vec<DomainPattern>,
    /// Relays of the routes that are meant.
    pub route: Vec<Relay>,
    /// Local addresses; then it holds for what goes from each of them.
    pub source: Vec<IpAddr>,
    /// `relayd.toml:14`
    pub place: Arc<str>,
    pub rate: Option<Rate>,
    pub connections: Option<u32>,
    pub messages_per_connection: Option<u32>,
    pub recipients_per_transaction: Option<u32>,
    pub tls: Option<TlsRequirement>,
}

#[derive(Clone, Debug)]
pub struct PolicyFiles {
    /// Patterns such as /etc/relayd/policy.d/*.toml.
    pub files: Vec<String>,
}

/// `[suppression]`
#[derive(Clone, Debug)]
pub struct Suppression {
    pub mode: SuppressionMode,
    /// None: until an operator removes it. Default 90 days.
    pub keep: Option<Duration>,
}

/// What a message to a suppressed address meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionMode {
    Refuse,
    Bounce,
    Off,
}

#[derive(Clone, Debug)]
pub struct DkimKey {
    pub domain: Domain,
    pub selector: String,
    pub key: PathBuf,
    pub strangers: DkimStrangers,
    /// Header fields, besides those of `oversign`.
    pub headers: Vec<String>,
    pub oversign: Vec<String>,
}

/// Whether a key also signs for authors whose domain has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DkimStrangers {
    Unsigned,
    Signed,
}

#[derive(Clone, Debug)]
pub struct Dsn {
    /// From of a DSN; default `postmaster@HOSTNAME`.
    pub from: String,
    /// Who gets a copy of every report of a failure.
    pub copies_to: Option<String>,
    /// Who is told where there is no sender to tell.
    pub double_bounces_to: Option<String>,
}

/// What `relayctl doctor` looks at.
#[derive(Clone, Debug)]
pub struct DoctorSettings {
    /// DNS block lists.
    pub blocklists: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub socket: PathBuf,
    /// Where /metrics and /healthz are answered over TCP.
    pub http: Option<SocketAddr>,
    /// Who may ask there.
    pub http_from: Vec<IpNet>,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// A tracing filter directive. Default `info`.
    pub level: String,
    pub history: History,
}

/// `[log] history...`: what is kept on disk of what happened to messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub kept: HistoryKept,
    /// None: `log` in the state directory.
    pub dir: Option<PathBuf>,
    /// Default 14 days.
    pub max_age: Duration,
    /// Default 2 GiB.
    pub bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryKept {
    Full,
    /// Without the local parts of addresses.
    Domains,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// What holds for one site and host once the narrowest `[[limit]]`s have been laid over each other.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveLimits {
    pub rate: Option<Rate>,
    pub connections: u32,
    pub messages_per_connection: u32,
    pub recipients_per_transaction: u32,
    pub tls: TlsRequirement,
}

impl Config {
    /// Where the history of messages is kept.
    pub fn history_dir(&self) -> PathBuf {
        let dir = self.log.history.dir.clone();
        dir.unwrap_or_else(|| self.state.dir.join("log"))
    }

    /// All defaults, as with an empty file; no file is looked at.
    pub fn default_for(hostname: &str) -> Config {
        crate::parse::load(&[], &[], &[], hostname, &crate::check::NoFiles)
            .expect("the defaults hold, and a test says so")
    }
}
