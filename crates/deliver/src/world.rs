//! What every session needs: the seams to the outside, and the settings of the moment.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use relay_config::Config;
use relay_oauth::Tokens;
use relay_observe::{Clock, Events};
use relay_policy::Table;
use relay_queue::Store;
use relay_route::Router;
use relay_sts::Sts;
use relay_suppression::Suppressions;
use relay_tlsrpt::Recorder;

use crate::dial::Dialer;
use crate::homes::Homes;
use crate::host_memory::HostMemory;
use crate::scope::SharedScope;
use crate::sign::Signers;
use crate::tls::TlsClient;
use crate::trace::SharedWatchers;

/// Made once by `relayd`; shared by all sessions.
pub struct World {
    pub clock: Clock,
    pub events: Events,
    pub store: Arc<dyn Store>,
    pub suppressions: Arc<dyn Suppressions>,
    pub router: Router,
    pub dialer: Arc<dyn Dialer>,
    pub tls: TlsClient,
    /// None: MTA-STS is not looked for.
    pub sts: Option<Arc<Sts>>,
    /// Access tokens for relays with a login.
    pub tokens: Tokens,
    /// None: what the TLS of sessions comes to is not kept for reports.
    pub tls_reports: Option<Recorder>,
    pub homes: Homes,
    pub hosts: HostMemory,
    pub scope: SharedScope,
    pub watchers: SharedWatchers,
    /// Where what was learned of sites is kept over a restart; None: nowhere.
    pub sites_file: Option<PathBuf>,
    /// Exchanged as a whole by a reload; a dispatch works with what it found when it began.
    pub settings: ArcSwap<Settings>,
}

/// What a reload exchanges.
pub struct Settings {
    pub config: Arc<Config>,
    pub table: Arc<Table>,
    pub signers: Arc<Signers>,
}
