//! `POST /v1/trace`: the dialogue of the next sessions with a site, line by line while it is held.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::channel::Channel;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::export::line_of;
use crate::world::AdminWorld;

/// What is to be watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// A domain, a host, or the name of a site.
    pub site: String,
    /// The answer ends with the last of so many sessions.
    pub sessions: u32,
}

/// Nobody needs more at once; each watcher costs every session to the site some work.
const SESSIONS_MAX: u32 = 1000;
/// An empty line now and then: the client sees that relayd is there, and relayd that the client has gone.
const ALIVE: Duration = Duration::from_secs(20);
const LINES_WAITING: usize = 64;

pub fn trace(world: &Arc<AdminWorld>, watch: &Watch) -> Result<Channel<Bytes>, ApiError> {
    if watch.site.trim().is_empty() {
        return Err(ApiError::Bad(
            "site: name a domain, a host, or a site".to_owned(),
        ));
    }
    if !(1..=SESSIONS_MAX).contains(&watch.sessions) {
        return Err(ApiError::Bad(format!(
            "sessions: 1 to {SESSIONS_MAX}, not {}",
            watch.sessions
        )));
    }
    tracing::info!(
        site = watch.site,
        sessions = watch.sessions,
        "an operator watches"
    );
    let mut lines = world.watchers.watch(watch.site.trim(), watch.sessions);
    let (mut to, body) = Channel::new(LINES_WAITING);
    tokio::spawn(async move {
        loop {
            let line = match timeout(ALIVE, lines.recv()).await {
                Ok(Some(line)) => Bytes::from(line_of(&line)),
                Ok(None) => return,
                Err(_) => Bytes::from_static(b"\n"),
            };
            // The client has gone: so does the watcher.
            if to.send_data(line).await.is_err() {
                return;
            }
        }
    });
    Ok(body)
}
