//! What systemd is told (sd_notify(3)): ready, reloading, stopping, alive. Says nothing where no
//! systemd listens.

use std::sync::Arc;
use std::time::Duration;

use relay_queue::Store;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// RELOADING must carry the time, so that systemd knows which READY answers it.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd twice in each watchdog interval that we are alive, with a line for
/// `systemctl status`. Alive means more than running: while the queue is wedged nothing is told, and
/// systemd restarts us.
pub async fn keep_watch(store: Arc<dyn Store>, shutdown: CancellationToken) {
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(10), |limit| limit / 2);
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => return,
        }
        if store.condition().trouble.is_some() {
            continue;
        }
        let stats = store.stats();
        let status = format!(
            "{} messages in the queue, {} recipients deferred",
            stats.messages, stats.deferred
        );
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

fn tell(what: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET this does nothing; a socket that went away is no reason to stop relaying.
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!("systemd could not be told: {error}");
    }
}
