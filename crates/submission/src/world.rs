//! What every session shares: clock, events, store, the settings of the moment, and where accepted
//! messages go.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use relay_config::{
    AuthDemand, AuthInClear, BareLineEnds, Config, ListenAddress, Listener, ListenerTls,
    Submission, SuppressionMode,
};
use relay_observe::{Clock, Events};
use relay_queue::{Message, Store};
use relay_smtp::verp::Template;
use relay_smtp::{Mailbox, server};
use relay_suppression::Suppressions;

use crate::auth::{Logins, Users};
use crate::limits::{Counts, UserRates};
use crate::session::incoming::{BODY_MEMORY_BYTES, BodyMemory};

/// Takes over a message that the queue has made durable and the client has been told of.
///
/// The session waits for it before it reads the next command, so a receiver that is behind slows
/// its clients down. It is called once for each message; a message whose call is cut off by a
/// crash is found again in the queue at the next start.
pub trait Accepted: Send + Sync + 'static {
    /// Hands the message over.
    fn accepted(&self, message: Arc<Message>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Reads reports that came back.
pub trait Reports: Send + Sync + 'static {
    /// `Yes` is said after what follows from it is on disk.
    fn take(&self, came: CameBack) -> Pin<Box<dyn Future<Output = Understood> + Send + '_>>;
}

/// Mail to addresses that reports come to.
pub struct CameBack {
    pub message: Bytes,
    /// These addresses: each may say whom it is about.
    pub to: Vec<Mailbox>,
}

/// What came of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    Yes,
    /// Why not: a person must read it.
    No(String),
    /// It may be one, and cannot be taken now.
    Later(String),
}

/// Shared by all listeners and sessions; made once by relayd.
pub struct World {
    pub clock: Clock,
    pub events: Events,
    pub store: Arc<dyn Store>,
    pub suppressions: Arc<dyn Suppressions>,
    /// A session takes them when it begins and keeps them to its end.
    pub settings: ArcSwap<Settings>,
    /// None: no certificate, so STARTTLS is not offered and implicit TLS is refused.
    pub tls: ArcSwap<Option<Arc<rustls::ServerConfig>>>,
    pub accepted: Arc<dyn Accepted>,
    /// None: nobody reads them.
    pub reports: Option<Arc<dyn Reports>>,
    pub(crate) logins: Logins,
    pub(crate) counts: Arc<Counts>,
    pub(crate) body_memory: Arc<BodyMemory>,
}

impl World {
    /// `tls` as made by [`crate::tls::server_config`].
    pub fn new(
        clock: Clock,
        events: Events,
        store: Arc<dyn Store>,
        suppressions: Arc<dyn Suppressions>,
        settings: Settings,
        tls: Option<Arc<rustls::ServerConfig>>,
        accepted: Arc<dyn Accepted>,
    ) -> World {
        World {
            clock,
            events,
            store,
            suppressions,
            settings: ArcSwap::from_pointee(settings),
            tls: ArcSwap::from_pointee(tls),
            accepted,
            reports: None,
            logins: Logins::new(),
            counts: Arc::new(Counts::default()),
            body_memory: BodyMemory::new(BODY_MEMORY_BYTES),
        }
    }

    pub fn with_reports(mut self, reports: Arc<dyn Reports>) -> World {
        self.reports = Some(reports);
        self
    }

    /// Sessions open now, all listeners together.
    pub fn sessions(&self) -> u32 {
        self.counts.total()
    }

    /// New settings for the sessions that begin from now on. Sockets stay as they are bound: a
    /// listener that was added or removed needs a restart.
    pub fn reload(&self, settings: Settings, tls: Option<Arc<rustls::ServerConfig>>) {
        self.settings.store(Arc::new(settings));
        self.tls.store(Arc::new(tls));
        // A password that was changed or a user who was removed must not live on in the cache.
        self.logins.forget();
    }
}

/// Whether TLS can be done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    Present,
    Absent,
}

/// Where reports come to.
#[derive(Default)]
pub(crate) struct ReportAddresses {
    pub addresses: Vec<Mailbox>,
    pub unread_to: Option<Mailbox>,
    /// Senders that we made, in domains of their own. None: the addresses are all.
    pub verp: Option<Template>,
}

impl ReportAddresses {
    fn of(config: &Config) -> ReportAddresses {
        let settings = &config.reports;
        let verp = config.delivery.verp.as_ref().map(|verp| &verp.template);
        let read_here =
            |template: &&Template| template.has_its_own_domain() && !settings.addresses.is_empty();
        // The configuration has checked that these are addresses.
        let read = |text: &String| Mailbox::parse(text).ok();
        ReportAddresses {
            addresses: settings.addresses.iter().filter_map(read).collect(),
            unread_to: settings.unread_to.as_ref().and_then(read),
            verp: verp.filter(read_here).cloned(),
        }
    }
}

/// The part of the configuration that accepting needs.
pub struct Settings {
    /// In the banner, in Received, and the domain of a bare `postmaster`.
    pub hostname: String,
    pub submission: Submission,
    pub listeners: Vec<Listener>,
    pub suppression: SuppressionMode,
    pub(crate) reports: ReportAddresses,
    pub(crate) users: Users,
    pub(crate) rates: UserRates,
}

impl Settings {
    pub fn new(config: &Config) -> Settings {
        Settings {
            hostname: config.hostname.clone(),
            submission: config.submission.clone(),
            listeners: config.listeners.clone(),
            suppression: config.suppression.mode,
            reports: ReportAddresses::of(config),
            users: Users::new(&config.users),
            rates: UserRates::new(&config.users),
        }
    }

    /// What the protocol needs of them, for a session over `listener` with a client at `client`.
    pub(crate) fn session(
        &self,
        listener: &Listener,
        client: IpAddr,
        certificate: Certificate,
    ) -> server::Settings {
        let limits = &self.submission;
        let starttls = match (listener.tls, certificate) {
            (ListenerTls::Starttls, Certificate::Present) => server::StartTls::Offered,
            (ListenerTls::Starttls, Certificate::Absent)
            | (ListenerTls::None | ListenerTls::Implicit, _) => server::StartTls::NotOffered,
        };
        let auth = match listener.auth {
            AuthDemand::None => server::Auth::NotOffered,
            // Nobody could log in: offering it would only make clients ask their users.
            AuthDemand::Optional if self.users.is_empty() => server::Auth::NotOffered,
            AuthDemand::Optional => server::Auth::Offered,
            AuthDemand::Required => server::Auth::Required,
        };
        let auth_in_clear = match limits.auth_in_clear {
            AuthInClear::Anywhere => server::AuthInClear::Allowed,
            AuthInClear::LoopbackOnly if client.to_canonical().is_loopback() => {
                server::AuthInClear::Allowed
            }
            AuthInClear::LoopbackOnly => server::AuthInClear::Refused,
        };
        server::Settings {
            hostname: self.hostname.clone(),
            message_bytes_max: limits.message_bytes_max,
            recipients_max: limits.recipients_max as usize,
            errors_max: limits.errors_max,
            bare_line_ends: match limits.bare_line_ends {
                BareLineEnds::Reject => relay_smtp::data::BareLineEnds::Reject,
                BareLineEnds::Normalize => relay_smtp::data::BareLineEnds::Normalize,
            },
            starttls,
            auth,
            auth_in_clear,
        }
    }

    /// The listener's settings as they are now; None where the address is no longer configured.
    pub(crate) fn listener(&self, address: &ListenAddress) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|listener| listener.address == *address)
    }
}
