//! Listening: accept, count, turn away with 421 where there are too many, start a session.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use relay_config::Listener;
use relay_observe::Event;
use relay_smtp::server;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::Refusal;
use crate::session::{self, Peer};
use crate::world::World;

/// A socket that is bound and listening already: by relayd, by systemd, or on port 0 by a test.
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket with what the configuration says about it.
pub struct Bound {
    pub socket: Socket,
    /// Used as long as the reloaded configuration has no listener with the same address.
    pub listener: Listener,
}

/// How long sessions inside DATA may go on after `shutdown`.
const GRACE: Duration = Duration::from_secs(20);
/// After a failed accept (out of file descriptors, mostly): the first wait, and the longest.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A client that is turned away has so long to read why.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Serves until `shutdown`; returns when the last session has ended, or after 20 s, which leaves
/// the rest cut off: what they had not heard a 250 for they will send again.
pub async fn serve(listeners: Vec<Bound>, world: Arc<World>, shutdown: CancellationToken) {
    let sessions = TaskTracker::new();
    let abandon = CancellationToken::new();
    for bound in listeners {
        let hall = Hall {
            world: Arc::clone(&world),
            configured: Arc::new(bound.listener),
            sessions: sessions.clone(),
            stop: shutdown.clone(),
            abandon: abandon.clone(),
        };
        sessions.spawn(async move {
            match bound.socket {
                Socket::Tcp(socket) => hall.listen_tcp(socket).await,
                Socket::Unix(socket) => hall.listen_unix(socket).await,
            }
        });
    }
    shutdown.cancelled().await;
    sessions.close();
    if timeout(GRACE, sessions.wait()).await.is_err() {
        abandon.cancel();
        sessions.wait().await;
    }
}

/// One listener with what its sessions need.
struct Hall {
    world: Arc<World>,
    configured: Arc<Listener>,
    sessions: TaskTracker,
    stop: CancellationToken,
    /// Cancelled after the grace time.
    abandon: CancellationToken,
}

impl Hall {
    async fn listen_tcp(self, socket: TcpListener) {
        let mut wait = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    wait = BACK_OFF;
                    // Replies are small and awaited: Nagle's algorithm would only hold them back.
                    // A connection that is gone already shows at its first read.
                    let _ = stream.set_nodelay(true);
                    self.begin(stream, Peer::Tcp(address));
                }
                Err(error) => self.back_off(&error, &mut wait).await,
            }
        }
    }

    async fn listen_unix(self, socket: UnixListener) {
        let mut wait = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    wait = BACK_OFF;
                    self.begin(stream, Peer::Unix);
                }
                Err(error) => self.back_off(&error, &mut wait).await,
            }
        }
    }

    /// Without a pause an error that stays (EMFILE) would keep a core busy.
    async fn back_off(&self, error: &io::Error, wait: &mut Duration) {
        tracing::warn!(%error, "accepting a connection failed");
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(*wait) => {}
        }
        *wait = (*wait * 2).min(BACK_OFF_MAX);
    }

    fn begin<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = self.world.settings.load();
        let client = peer.address();
        let place = match self.world.store.may_connect() {
            Ok(()) => self.world.counts.admit(client.ip(), &settings.submission),
            Err(error) => Err(Refusal::NoSpace(error.to_string())),
        };
        let place = match place {
            Ok(place) => place,
            Err(refusal) => {
                let reason = refusal.reason();
                let refused = Event::ClientRefused { client, reason };
                self.world.events.emit(refused);
                self.sessions.spawn(turn_away(stream, refusal.reply()));
                return;
            }
        };
        let listener = match settings.listener(&self.configured.address) {
            Some(listener) => Arc::new(listener.clone()),
            None => Arc::clone(&self.configured),
        };
        let (world, stop) = (Arc::clone(&self.world), self.stop.clone());
        let abandon = self.abandon.clone();
        self.sessions.spawn(async move {
            let _place = place;
            tokio::select! {
                () = session::run(stream, peer, &listener, &world, &stop) => {}
                () = abandon.cancelled() => {}
            }
        });
    }
}

/// Says why, in clear also where TLS is implicit: a handshake would cost more than the session.
async fn turn_away<S: AsyncWrite + Unpin>(mut stream: S, reply: relay_smtp::Reply) {
    let line = server::wire_form(&reply);
    let _ = timeout(FAREWELL_MAX, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}
