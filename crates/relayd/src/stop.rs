//! Signals, and the order in which things end.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long sessions in both directions may take to finish what they are at. systemd's
/// TimeoutStopSec is longer.
pub const GRACE: Duration = Duration::from_secs(20);

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Reload,
    Stop,
}

/// SIGTERM and SIGINT stop, SIGHUP reloads.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on none of the three ends the process by itself.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}
