//! What takes long at a start, done side by side: the queue is opened while the policy table is built and the
//! system's roots are read. With a full queue each takes as long as the other, and mail waits for both.

use std::sync::Arc;

use relay_config::Config;
use relay_observe::{Clock, Events};
use relay_queue::disk::{DiskStore, Options};
use relay_queue::{Limits, Store};
use relay_submission::Bound;
use rustls::RootCertStore;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::settings::{Early, Settings};
use crate::sockets;
use crate::wire::StartError;

pub struct Prepared {
    pub listeners: Vec<Bound>,
    pub queue: Arc<DiskStore>,
    pub settings: Settings,
    pub roots: RootCertStore,
}

pub async fn prepare(early: Early, clock: Clock, events: &Events) -> Result<Prepared, StartError> {
    let config = early.config.clone();
    let finishing = spawn_blocking(move || early.finish());
    let system_roots = spawn_blocking(relay_deliver::tls::system_roots);
    let begun = bind_and_open(&config, clock, events).await;
    // A mistake in the files comes first, whatever else is wrong.
    let settings = match joined(finishing).await? {
        Ok(settings) => settings,
        Err(mistakes) => {
            if let Ok((_, queue)) = begun {
                queue.close().await;
            }
            return Err(StartError::Mistakes(mistakes));
        }
    };
    let (listeners, queue) = begun?;
    let mut roots = joined(system_roots).await?;
    relay_deliver::tls::add_pem(&mut roots, &settings.tls_roots);
    Ok(Prepared {
        listeners,
        queue,
        settings,
        roots,
    })
}

/// Sockets first: a port that is taken must not cost a recovery of the queue.
async fn bind_and_open(
    config: &Config,
    clock: Clock,
    events: &Events,
) -> Result<(Vec<Bound>, Arc<DiskStore>), StartError> {
    let listeners = sockets::bind(&config.listeners, events).map_err(StartError::Configuration)?;
    let queue = open_queue(config, clock, events.clone()).await?;
    Ok((listeners, queue))
}

async fn joined<T>(task: JoinHandle<T>) -> Result<T, StartError> {
    task.await
        .map_err(|error| StartError::System(format!("the start broke off: {error}")))
}

async fn open_queue(
    config: &Config,
    clock: Clock,
    events: Events,
) -> Result<Arc<DiskStore>, StartError> {
    let dir = config.state.dir.clone();
    let options = Options {
        limits: limits(&config.queue),
        busy_after: config.queue.busy_after,
        body_cache_bytes: usize::try_from(config.queue.body_cache_bytes).unwrap_or(usize::MAX),
        index_cache_bytes: config.queue.index_cache_bytes,
        ..Options::default()
    };
    // Recovery reads the whole journal tail: off the async threads.
    let options = options.or_small_for_a_test();
    let opened =
        tokio::task::spawn_blocking(move || DiskStore::open(&dir, clock, events, options)).await;
    match opened {
        Ok(Ok(store)) => Ok(Arc::new(store)),
        Ok(Err(error)) => Err(StartError::Configuration(format!(
            "{}: {error}",
            config.state.dir.display()
        ))),
        Err(error) => Err(StartError::System(format!(
            "the queue could not be opened: {error}"
        ))),
    }
}

/// What `[queue]` says of what may come in; a reload changes it.
pub fn limits(queue: &relay_config::Queue) -> Limits {
    Limits {
        messages_max: queue.messages_max,
        bytes_max: queue.bytes_max.unwrap_or(u64::MAX),
        reserve_bytes: queue.reserve_bytes,
        reserve_percent: queue.reserve_percent,
        close_percent: queue.close_percent,
        share_percent: queue.share_percent,
        ballast_bytes: queue.ballast_bytes,
    }
}
