//! Listening: accept, count, refuse with 421 where there are too many, start a session task.

use std::sync::Arc;

use relay_config::Listener;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// A socket that is bound and listening already: by relayd, by systemd, or on port 0 by a test.
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket with what the configuration says about it.
pub struct Bound {
    pub socket: Socket,
    pub listener: Listener,
}

/// Serves until `shutdown`; returns when the last session has ended, or after the grace time.
pub async fn serve(listeners: Vec<Bound>, world: Arc<World>, shutdown: CancellationToken) {
    let _ = (listeners, world, shutdown);
    todo!()
}
