//! What machines look at: `/metrics` for Prometheus and `/healthz` for whoever restarts or routes. They
//! tell numbers only, no address, so they may be served over TCP without a token.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use relay_observe::gauge::{Gauge, Gauges};
use tokio::net::TcpListener;

use crate::world::AdminWorld;

/// Both routes, for the operator's socket and for TCP.
pub fn routes(world: Arc<AdminWorld>) -> Router {
    Router::new()
        .route("/metrics", get(get_metrics))
        .route("/healthz", get(get_health))
        .with_state(world)
}

/// Serves both on `[admin] http` until `shutdown` resolves.
pub async fn serve(
    listener: TcpListener,
    world: Arc<AdminWorld>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let guard = middleware::from_fn_with_state(world.clone(), only_from_allowed);
    let app = routes(world).layer(guard);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(shutdown)
        .await
}

/// `[admin] http_from`, as it is now: a reload changes it.
async fn only_from_allowed(
    State(world): State<Arc<AdminWorld>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if allowed(&world, client.ip()) {
        return next.run(request).await;
    }
    let words = format!("{} is not in admin.http_from\n", client.ip());
    (StatusCode::FORBIDDEN, words).into_response()
}

fn allowed(world: &AdminWorld, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let config = world.config.load();
    config
        .admin
        .http_from
        .iter()
        .any(|net| net.contains(&client))
}

async fn get_metrics(State(world): State<Arc<AdminWorld>>) -> Response {
    let mut text = world.events.metrics().prometheus(&gauges(&world).await);
    text.push_str(&world.events.hits().prometheus());
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

/// 200 also where new mail is refused for want of space: that is the queue at work, and a restart would
/// not help.
async fn get_health(State(world): State<Arc<AdminWorld>>) -> Response {
    let condition = world.store.condition();
    match (condition.trouble, condition.refusing) {
        (Some(trouble), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
        (None, Some(why)) => (StatusCode::OK, format!("ok, refusing new mail: {why}\n")),
        (None, None) => (StatusCode::OK, "ok\n".to_owned()),
    }
    .into_response()
}

/// The states of this moment.
async fn gauges(world: &AdminWorld) -> Gauges {
    let oldest_due = world.dispatcher.oldest_due().await;
    let (stats, condition) = (world.store.stats(), world.store.condition());
    let files = condition.files;
    let yes = |yes: bool| if yes { 1.0 } else { 0.0 };
    let age = |then| {
        world
            .clock
            .now()
            .duration_since(then)
            .as_secs_f64()
            .max(0.0)
    };
    let space = condition.space;
    let live = match files.journal_bytes {
        0 => None,
        bytes => Some((stats.bytes as f64 / bytes as f64).min(1.0)),
    };
    let mut gauges = Gauges::default();
    for (gauge, value) in [
        (Gauge::Messages, Some(stats.messages as f64)),
        (Gauge::Bytes, Some(stats.bytes as f64)),
        (Gauge::Queued, Some(stats.queued as f64)),
        (Gauge::Deferred, Some(stats.deferred as f64)),
        (Gauge::Held, Some(stats.held as f64)),
        (Gauge::OldestSeconds, Some(stats.oldest.map_or(0.0, age))),
        (Gauge::OldestDueSeconds, Some(oldest_due.map_or(0.0, age))),
        (Gauge::Accepting, Some(yes(condition.refusing.is_none()))),
        (Gauge::Well, Some(yes(condition.trouble.is_none()))),
        (Gauge::FreeBytes, space.map(|space| space.free_bytes as f64)),
        (
            Gauge::ReserveBytes,
            space.map(|space| space.reserve_bytes as f64),
        ),
        (
            Gauge::SpokenForBytes,
            space.map(|space| space.spoken_for_bytes as f64),
        ),
        (Gauge::JournalBytes, Some(files.journal_bytes as f64)),
        (Gauge::JournalSegments, Some(files.journal_segments as f64)),
        (Gauge::LiveRatio, live),
        (Gauge::IndexBytes, Some(files.index_bytes as f64)),
        (Gauge::IndexBehind, Some(condition.index_behind as f64)),
        (Gauge::Quarantined, Some(files.quarantined as f64)),
        (Gauge::Waiting, Some(condition.waiting as f64)),
    ] {
        gauges.set(gauge, value);
    }
    gauges
}
