//! Makes the parts and joins them: queue, dispatcher, listeners, operator API. Starts them in the
//! order in which they need each other, stops them in the reverse one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use relay_admin::{AdminWorld, Examine, TlsReports};
use relay_config::{Config, Dns, HistoryKept, MtaStsUse, PrivateAddresses, TrustAd};
use relay_deliver::dial::{Dialer, TcpDialer, is_private};
use relay_deliver::inbound::{self, Taken};
use relay_deliver::tls::TlsClient;
use relay_deliver::trace::SharedWatchers;
use relay_deliver::{Delivery, World};
use relay_doctor::{Doctor, Internet};
use relay_https::Https;
use relay_oauth::{HttpsEndpoints, Tokens};
use relay_observe::{Clock, Event, Events, history};
use relay_queue::{Message, Store};
use relay_route::{AdBit, HickoryResolver, Resolver, Router};
use relay_simulator::SimulatedNet;
use relay_sts::{HttpsFetch, Sts};
use relay_submission::{Accepted, CameBack, Reports, Understood};
use relay_suppression::{List, Suppressions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::prepare::{Prepared, prepare};
use crate::reload::Reloader;
use crate::settings::{Early, Origin};
use crate::stop::{GRACE, Signals, Wish};
use crate::{memory, notify, sandbox, tls_reports};

/// Why relayd could not start, or could not go on. Texts for people.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's files are at fault: file, line, key and fix of each mistake.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    /// What the operator's files say cannot be done here.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something.
    #[error("{0}")]
    System(String),
    /// The queue has stopped by itself: what comes next is a restart, which recovers.
    #[error(
        "the queue has stopped ({0}); relayd ends, so that it recovers when it is started again"
    )]
    Queue(String),
}

impl StartError {
    /// As in sysexits.h: 78 EX_CONFIG, 71 EX_OSERR, 74 EX_IOERR.
    pub fn exit_status(&self) -> u8 {
        match self {
            StartError::Mistakes(_) | StartError::Configuration(_) => crate::EXIT_CONFIG,
            StartError::System(_) => 71,
            StartError::Queue(_) => 74,
        }
    }
}

/// Runs until told to stop.
pub fn run(origin: Origin, early: Early) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System(format!("the runtime cannot start: {error}")))?;
    runtime.block_on(async {
        let running = Running::start(origin, early).await?;
        running.until_stopped().await
    })
}

/// All that lives while relayd runs.
struct Running {
    signals: Signals,
    shutdown: CancellationToken,
    events: Events,
    store: Arc<dyn Store>,
    delivery: Delivery,
    dispatcher: JoinHandle<()>,
    submission: JoinHandle<()>,
    admin: JoinHandle<()>,
    reloader: Arc<Reloader>,
}

impl Running {
    async fn start(origin: Origin, early: Early) -> Result<Running, StartError> {
        let signals =
            Signals::listen().map_err(|error| StartError::System(format!("signals: {error}")))?;
        let clock = Clock::starting_at(Timestamp::now());
        let config = early.config.clone();
        let events = events(&config, clock);
        let shutdown = CancellationToken::new();
        let Prepared {
            listeners,
            queue,
            settings,
            roots,
        } = prepare(early, clock, &events).await?;
        let store: Arc<dyn Store> = queue.clone();
        let suppressions = open_suppressions(&config, clock, events.clone()).await?;
        let (resolver, dialer) = outside(&origin, &config, clock)?;
        let tokens = tokens(&config, resolver.clone(), roots.clone())?;
        let https = https(&config, resolver.clone(), roots.clone())?;
        let sts = policies(&config, resolver.clone(), https.clone(), clock).await?;
        let doctor = Arc::new(Doctor {
            resolver: resolver.clone(),
            dialer: dialer.clone(),
            tls: TlsClient::with_roots(roots.clone()).map_err(StartError::System)?,
            sts: sts.clone(),
            internet: match origin.is_sandbox() {
                true => Internet::Simulated,
                false => Internet::Real,
            },
        });
        let (tls_reports, report_days) = match tls_reports::open(&config).await? {
            Some(kept) => {
                let (recorder, days) = kept.apart();
                (Some(recorder), Some(days))
            }
            None => (None, None),
        };
        let world = Arc::new(World {
            clock,
            events: events.clone(),
            store: store.clone(),
            suppressions: suppressions.clone(),
            router: Router::new(
                resolver.clone(),
                relay_deliver::run::route_settings(&config),
            ),
            dialer,
            tls: TlsClient::with_roots(roots).map_err(StartError::System)?,
            sts,
            tokens,
            tls_reports,
            homes: Default::default(),
            hosts: Default::default(),
            scope: Default::default(),
            watchers: Default::default(),
            sites_file: Some(config.state.dir.join("sites.json")),
            settings: ArcSwap::from_pointee(relay_deliver::world::Settings {
                config: config.clone(),
                table: settings.table,
                signers: settings.signers,
            }),
        });
        let watchers = world.watchers.clone();
        let (delivery, dispatcher) = Delivery::start(world.clone(), rand::random());
        delivery.load().await;
        let report_views = report_days.map(|days| {
            let parts = tls_reports::Parts {
                clock,
                events: events.clone(),
                resolver,
                https,
                store: store.clone(),
                delivery: delivery.clone(),
            };
            tls_reports::send_daily(&config, days, parts)
        });

        let accepting = relay_submission::World::new(
            clock,
            events.clone(),
            store.clone(),
            suppressions.clone(),
            relay_submission::Settings::new(&config),
            settings.listener_tls,
            Arc::new(ToDispatcher(delivery.clone())),
        );
        let accepting = Arc::new(accepting.with_reports(Arc::new(ToInbound(world.clone()))));
        let submission = tokio::spawn(relay_submission::serve(
            listeners,
            accepting.clone(),
            shutdown.clone(),
        ));
        let reloader = Arc::new(Reloader::new(
            origin,
            events.clone(),
            world,
            delivery.clone(),
            accepting,
            queue,
            config,
        ));
        let admin = start_admin(
            &reloader,
            clock,
            store.clone(),
            suppressions,
            (doctor, watchers, report_views),
            shutdown.clone(),
        )
        .await?;
        tokio::spawn(notify::keep_watch(store.clone(), shutdown.clone()));
        tokio::spawn(memory::give_back(shutdown.clone()));
        let running = Running {
            signals,
            shutdown,
            events,
            store,
            delivery,
            dispatcher,
            submission,
            admin,
            reloader,
        };
        running.say_ready();
        Ok(running)
    }

    fn say_ready(&self) {
        let hostname = self.reloader.config.load().hostname.clone();
        self.events.emit(Event::Started {
            version: env!("CARGO_PKG_VERSION"),
            hostname,
        });
        if self.reloader.origin.is_sandbox() {
            eprint!("{}", sandbox::welcome());
        }
        notify::ready("relaying");
    }

    async fn until_stopped(mut self) -> Result<(), StartError> {
        let ended = self.end().await;
        notify::stopping();
        let sessions = self
            .delivery
            .sites()
            .await
            .iter()
            .map(|site| site.sessions as usize)
            .sum();
        self.events.emit(Event::Stopping { sessions });
        self.shutdown.cancel();
        let both_ways = async {
            let _ = tokio::join!(self.submission, self.delivery.stop(GRACE));
        };
        // A second signal means now: SIGKILL at any time is safe, and so is this.
        tokio::select! {
            () = both_ways => {}
            _ = self.signals.next() => self.dispatcher.abort(),
        }
        self.admin.abort();
        self.store.close().await;
        let _ = std::fs::remove_file(&self.reloader.config.load().admin.socket);
        self.events.emit(Event::Stopped);
        if let Some(history) = self.events.history() {
            history.close();
        }
        ended
    }

    /// Serves until somebody wants the end, or the queue has come to one. A queue that has stopped takes and
    /// records nothing any more: to stay would only keep clients from finding another relay.
    async fn end(&mut self) -> Result<(), StartError> {
        loop {
            let wish = tokio::select! {
                wish = self.signals.next() => wish,
                reason = self.store.stopped() => return Err(StartError::Queue(reason)),
            };
            match wish {
                // Refusals have been logged; the old settings stay.
                Wish::Reload => drop(self.reloader.reload().await),
                Wish::Stop => return Ok(()),
            }
        }
    }
}

/// With the history of messages, where one is kept. Mail goes on without it if its directory cannot be
/// used.
fn events(config: &Config, clock: Clock) -> Events {
    let kept = &config.log.history;
    let addresses = match kept.kept {
        HistoryKept::Full => history::Addresses::Whole,
        HistoryKept::Domains => history::Addresses::DomainsOnly,
        HistoryKept::Off => return Events::default(),
    };
    let dir = config.history_dir();
    let options = history::Options {
        dir: dir.clone(),
        addresses,
        max_age: kept.max_age,
        bytes_max: kept.bytes_max,
    };
    match Events::with_history(options, clock) {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(
                "{}: {error}; no history of messages is kept; set log.history_dir to a directory \
                 that relayd may write to",
                dir.display()
            );
            Events::default()
        }
    }
}

/// After the queue, whose lock on the directory holds for this file, too.
async fn open_suppressions(
    config: &Config,
    clock: Clock,
    events: Events,
) -> Result<Arc<dyn Suppressions>, StartError> {
    let dir = config.state.dir.clone();
    let open = move || List::open(&dir, events, clock.now());
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(list)) => Ok(Arc::new(list)),
        Ok(Err(error)) => Err(StartError::Configuration(error.to_string())),
        Err(error) => Err(StartError::System(format!(
            "the suppression list could not be opened: {error}"
        ))),
    }
}

type Outside = (Arc<dyn Resolver>, Arc<dyn Dialer>);

/// DNS and network: the real ones, or the simulator.
fn outside(origin: &Origin, config: &Config, clock: Clock) -> Result<Outside, StartError> {
    if origin.is_sandbox() {
        let net = Arc::new(SimulatedNet::new(clock));
        return Ok((net.clone(), net));
    }
    let Dns { servers, trust_ad } = &config.dns;
    let proof = match trust_ad {
        TrustAd::Yes => AdBit::Trusted,
        TrustAd::No => AdBit::Ignored,
        TrustAd::OnLoopback => AdBit::TrustedOnLoopback,
    };
    let resolver = HickoryResolver::new(servers, proof).map_err(|error| {
        StartError::Configuration(format!(
            "dns: {error}; set dns.servers, or mend /etc/resolv.conf"
        ))
    })?;
    Ok((Arc::new(resolver), Arc::new(TcpDialer)))
}

/// For policies and reports. The sender of mail chooses the domains: what is private is as with MX records.
fn https(
    config: &Config,
    resolver: Arc<dyn Resolver>,
    roots: rustls::RootCertStore,
) -> Result<Arc<Https>, StartError> {
    let private = config.delivery.private_addresses;
    let reach = move |address| match private {
        PrivateAddresses::Allowed => true,
        PrivateAddresses::Refused => !is_private(address),
    };
    let https = Https::new(resolver, roots, reach).map_err(StartError::System)?;
    Ok(Arc::new(https))
}

/// MTA-STS, with what was kept of it in the state directory.
async fn policies(
    config: &Config,
    resolver: Arc<dyn Resolver>,
    https: Arc<Https>,
    clock: Clock,
) -> Result<Option<Arc<Sts>>, StartError> {
    if config.mta_sts.enabled == MtaStsUse::Off {
        return Ok(None);
    }
    let fetch = HttpsFetch::new(https, config.mta_sts.port);
    let dir = config.state.dir.join("mta-sts");
    let open = move || Sts::open(Some(&dir), resolver, Arc::new(fetch), clock.now());
    let opened = tokio::task::spawn_blocking(open).await;
    opened
        .map(|sts| Some(Arc::new(sts)))
        .map_err(|error| StartError::System(format!("MTA-STS: {error}")))
}

/// For relays that want one. Refresh tokens that were exchanged are kept in the state directory.
fn tokens(
    config: &Config,
    resolver: Arc<dyn Resolver>,
    roots: rustls::RootCertStore,
) -> Result<Tokens, StartError> {
    // The operator names these hosts: any address will do.
    let https = Https::new(resolver, roots, |_| true).map_err(StartError::System)?;
    let dir = config.state.dir.join("oauth");
    Ok(Tokens::new(Arc::new(HttpsEndpoints::new(https)), Some(dir)))
}

async fn start_admin(
    reloader: &Arc<Reloader>,
    clock: Clock,
    store: Arc<dyn Store>,
    suppressions: Arc<dyn Suppressions>,
    (doctor, watchers, tls_reports): (Arc<Doctor>, SharedWatchers, Option<TlsReports>),
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, StartError> {
    let path = reloader.config.load().admin.socket.clone();
    let listener = relay_admin::bind(&path).map_err(|error| {
        StartError::Configuration(format!("admin.socket {}: {error}", path.display()))
    })?;
    let again = reloader.clone();
    let world = AdminWorld {
        clock,
        events: reloader.events.clone(),
        store,
        suppressions,
        dispatcher: Arc::new(reloader.delivery.clone()),
        config: reloader.config.clone(),
        reload: Box::new(move || {
            let again = again.clone();
            Box::pin(async move { again.reload().await })
        }),
        watchers,
        tls_reports,
        examine: examine(doctor, reloader.config.clone(), clock),
        started: clock.now(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let world = Arc::new(world);
    serve_http(&world, shutdown.clone()).await?;
    Ok(tokio::spawn(async move {
        if let Err(error) = relay_admin::serve(listener, world, shutdown.cancelled_owned()).await {
            tracing::error!("the operator's socket: {error}");
        }
    }))
}

/// The keys are read anew each time: the doctor is asked rarely, and about what is on disk.
fn examine(doctor: Arc<Doctor>, config: Arc<ArcSwap<Config>>, clock: Clock) -> Examine {
    Box::new(move |question| {
        let (doctor, config) = (doctor.clone(), config.load_full());
        Box::pin(async move {
            let keys = config.dkim.clone();
            let read = move || relay_admin::files::signers(&keys);
            let signers = tokio::task::spawn_blocking(read).await;
            // What cannot be read any more was refused with its reason when it was to be loaded.
            let signers = signers.ok().and_then(Result::ok).unwrap_or_default();
            let now = clock.now();
            doctor.examine(&question, &config, &signers, now).await
        })
    })
}

/// /metrics and /healthz over TCP, where the configuration wants that.
async fn serve_http(
    world: &Arc<AdminWorld>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let Some(address) = world.config.load().admin.http else {
        return Ok(());
    };
    let refused =
        |error| StartError::Configuration(format!("admin.http {address}: {error}; is it taken?"));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    world.events.emit(Event::Listening {
        address: format!("http://{bound}"),
    });
    let world = world.clone();
    tokio::spawn(async move {
        let served = relay_admin::watch::serve(listener, world, shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!("admin.http: {error}");
        }
    });
    Ok(())
}

/// Joins submission to deliver, which do not see each other.
struct ToDispatcher(Delivery);

impl Accepted for ToDispatcher {
    fn accepted(&self, message: Arc<Message>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.enqueue(message))
    }
}

/// Reports that come back by submission, to those who know what was sent.
struct ToInbound(Arc<World>);

impl Reports for ToInbound {
    fn take(&self, came: CameBack) -> Pin<Box<dyn Future<Output = Understood> + Send + '_>> {
        let CameBack { message, to } = came;
        Box::pin(async move {
            match inbound::take(&self.0, inbound::CameBack { message, to }).await {
                Taken::Done => Understood::Yes,
                Taken::Unread(why) => Understood::No(why),
                Taken::Later(why) => Understood::Later(why),
            }
        })
    }
}
