//! Reload: read everything again; if all of it is right, exchange it as a whole; else keep the old.

use std::sync::Arc;

use arc_swap::ArcSwap;
use relay_config::Config;
use relay_deliver::{Delivery, World};
use relay_observe::{Event, Events};
use relay_queue::DiskStore;

use crate::settings::{Origin, Settings};
use crate::{notify, prepare};

/// Knows where the settings come from and everybody who has a copy.
pub struct Reloader {
    pub origin: Origin,
    pub events: Events,
    pub delivery: Delivery,
    /// As the operator API shows it.
    pub config: Arc<ArcSwap<Config>>,
    sending: Arc<World>,
    accepting: Arc<relay_submission::World>,
    queue: Arc<DiskStore>,
    /// One reload at a time: two signals in a row must not mix their files.
    turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    pub fn new(
        origin: Origin,
        events: Events,
        sending: Arc<World>,
        delivery: Delivery,
        accepting: Arc<relay_submission::World>,
        queue: Arc<DiskStore>,
        config: Arc<Config>,
    ) -> Reloader {
        Reloader {
            origin,
            events,
            delivery,
            config: Arc::new(ArcSwap::new(config)),
            sending,
            accepting,
            queue,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// `Ok`: warnings. `Err`: the mistakes; nothing has changed.
    pub async fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        let _turn = self.turn.lock().await;
        notify::reloading();
        let origin = self.origin.clone();
        let loaded = match tokio::task::spawn_blocking(move || origin.load()).await {
            Ok(loaded) => loaded,
            Err(error) => Err(vec![format!(
                "the configuration could not be read: {error}"
            )]),
        };
        let outcome = match loaded {
            Ok(settings) => Ok(self.exchange(settings).await),
            Err(mistakes) => {
                self.events.emit(Event::ReloadRefused {
                    error: mistakes.join("; "),
                });
                Err(mistakes)
            }
        };
        notify::ready("relaying");
        outcome
    }

    async fn exchange(&self, settings: Settings) -> Vec<String> {
        let Settings {
            config,
            table,
            signers,
            listener_tls,
            // Read at the start only, and that is said below.
            tls_roots: _,
            mut warnings,
        } = settings;
        warnings.extend(self.needs_restart(&config));
        self.queue.set_limits(prepare::limits(&config.queue));
        self.accepting
            .reload(relay_submission::Settings::new(&config), listener_tls);
        self.sending
            .settings
            .store(Arc::new(relay_deliver::world::Settings {
                config: config.clone(),
                table,
                signers,
            }));
        self.config.store(config);
        // Also tells the router.
        self.delivery.reload().await;
        self.events.emit(Event::Reloaded);
        warnings
    }

    /// What a reload cannot change, said rather than silently left.
    fn needs_restart(&self, new: &Config) -> Vec<String> {
        let old = self.config.load();
        let addresses = |config: &Config| -> Vec<_> {
            config
                .listeners
                .iter()
                .map(|listener| listener.address.clone())
                .collect()
        };
        let rows = [
            ("state.dir", old.state.dir != new.state.dir),
            ("[[listener]] address", addresses(&old) != addresses(new)),
            ("admin.socket", old.admin.socket != new.admin.socket),
            (
                "queue.busy_after, body_cache_bytes or index_cache_bytes",
                fixed(&old.queue) != fixed(&new.queue),
            ),
            ("admin.http", old.admin.http != new.admin.http),
            ("dns.servers", old.dns.servers != new.dns.servers),
            (
                "delivery.tls_roots",
                old.delivery.tls_roots != new.delivery.tls_roots,
            ),
            ("mta_sts", old.mta_sts != new.mta_sts),
            ("tls_rpt", old.tls_rpt != new.tls_rpt),
            ("dns.trust_ad", old.dns.trust_ad != new.dns.trust_ad),
            ("log.history", old.log.history != new.log.history),
        ];
        let changed = rows.into_iter().filter(|(_, changed)| *changed);
        changed
            .map(|(key, _)| format!("{key} has changed: it takes effect at the next restart"))
            .collect()
    }
}

/// What of `[queue]` holds from start to end.
fn fixed(queue: &relay_config::Queue) -> (std::time::Duration, u64, u64) {
    let memory = (queue.body_cache_bytes, queue.index_cache_bytes);
    (queue.busy_after, memory.0, memory.1)
}
