//! The routes: what is asked how, and who answers.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use relay_doctor::{Finding, Question};
use tokio::sync::Semaphore;

use crate::act::{self, Act, Command};
use crate::command::{self, Addresses};
use crate::error::ApiError;
use crate::export;
use crate::import::{self, Imported};
use crate::log::{self, HitsPage, LogPage, LogQuery};
use crate::reroute::{self, Reroute};
use crate::select::ListQuery;
use crate::site::{self, Resume, Suspend};
use crate::status::{self, Samples};
use crate::suppression::{NewEntries, SuppressionQuery, Unsuppress};
use crate::trace::{self, Watch};
use crate::verify::Verification;
use crate::view::VerifyView;
use crate::view::{
    Added, Changed, Flushed, MessageDetail, PageView, Reloaded, Removed, SitesView, StatusView,
    Submitted, SummaryView, SuppressionPage, TlsReportsView, Untried,
};
use crate::world::AdminWorld;
use crate::{queue, summary, suppression, tls_report, watch};

/// Domains that a summary lists where the query gives no limit.
const SUMMARY_LIMIT: usize = 50;
/// A command is a few words; only a message may be long.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// What handlers share.
#[derive(Clone)]
struct Shared {
    world: Arc<AdminWorld>,
    samples: Arc<Samples>,
    verification: Verification,
    imports: Arc<Semaphore>,
}

/// The pairs of a query, in order: keys may repeat.
type Pairs = Query<Vec<(String, String)>>;
type Answer<T> = Result<Json<T>, ApiError>;

/// All routes.
pub fn router(world: Arc<AdminWorld>, samples: Arc<Samples>) -> Router {
    let watched = watch::routes(world.clone());
    Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/queue", get(get_queue))
        .route("/v1/queue/finished", get(get_finished))
        .route("/v1/queue/untried", get(get_untried))
        .route("/v1/queue/summary", get(get_summary))
        .route("/v1/queue/flush", post(post_flush))
        .route("/v1/queue/hold", post(post_hold))
        .route("/v1/queue/release", post(post_release))
        .route("/v1/queue/bounce", post(post_bounce))
        .route("/v1/queue/delete", post(post_delete))
        .route("/v1/queue/reroute", post(post_reroute))
        .route("/v1/queue/export", post(post_export))
        .route("/v1/queue/import", post(post_import))
        .route("/v1/queue/verify", get(get_verify).post(post_verify))
        .route("/v1/queue/{id}", get(get_message))
        .route("/v1/log", get(get_log))
        .route("/v1/policy/hits", get(get_hits))
        .route(
            "/v1/suppressions",
            get(get_suppressions)
                .post(post_suppressions)
                .layer(DefaultBodyLimit::max(suppression::ENTRIES_BYTES_MAX)),
        )
        .route("/v1/suppressions/remove", post(post_unsuppress))
        .route("/v1/sites", get(get_sites))
        .route("/v1/sites/suspend", post(post_suspend))
        .route("/v1/sites/resume", post(post_resume))
        .route("/v1/tls-reports", get(get_tls_reports))
        .route("/v1/messages", post(post_message))
        .route("/v1/doctor", post(post_doctor))
        .route("/v1/trace", post(post_trace))
        .route("/v1/reload", post(post_reload))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))
        .with_state(Shared {
            world,
            samples,
            verification: Verification::default(),
            imports: import::places(),
        })
        .merge(watched)
}

async fn get_status(State(shared): State<Shared>) -> Answer<StatusView> {
    let status = status::status(&shared.world, &shared.samples).await?;
    Ok(Json(status))
}

async fn get_queue(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<PageView> {
    let query = ListQuery::from_pairs(pairs)?;
    Ok(Json(queue::list(&shared.world, query).await?))
}

async fn get_finished(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<PageView> {
    let query = ListQuery::from_pairs(pairs)?;
    Ok(Json(queue::finished(&shared.world, &query).await?))
}

async fn get_untried(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<Untried> {
    let query = ListQuery::from_pairs(pairs)?;
    Ok(Json(queue::untried(&shared.world, query).await?))
}

async fn get_summary(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<SummaryView> {
    let query = ListQuery::from_pairs(pairs)?;
    let limit = query.limit.unwrap_or(SUMMARY_LIMIT);
    let summary = summary::summary(&shared.world, &query.selection, limit).await?;
    Ok(Json(summary))
}

async fn get_tls_reports(
    State(shared): State<Shared>,
    Query(pairs): Pairs,
) -> Answer<TlsReportsView> {
    let mut domain = None;
    for (key, value) in pairs {
        match key.as_str() {
            "domain" => domain = Some(value),
            other => return Err(ApiError::Bad(format!("{other}: there is no such key"))),
        }
    }
    Ok(Json(
        tls_report::list(&shared.world, domain.as_deref()).await?,
    ))
}

async fn get_message(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answer<MessageDetail> {
    Ok(Json(queue::show(&shared.world, &id).await?))
}

async fn get_log(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<LogPage> {
    let query = LogQuery::from_pairs(pairs, shared.world.clock.now())?;
    Ok(Json(log::page(&shared.world, &query).await?))
}

async fn get_hits(State(shared): State<Shared>, Query(pairs): Pairs) -> Answer<HitsPage> {
    let query = LogQuery::from_pairs(pairs, shared.world.clock.now())?;
    Ok(Json(log::hits(&shared.world, &query).await?))
}

async fn post_trace(
    State(shared): State<Shared>,
    Json(watch): Json<Watch>,
) -> Result<Response, ApiError> {
    let lines = trace::trace(&shared.world, &watch)?;
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(lines)).into_response())
}

async fn post_doctor(
    State(shared): State<Shared>,
    Json(question): Json<Question>,
) -> Answer<Vec<Finding>> {
    Ok(Json((shared.world.examine)(question).await))
}

async fn post_flush(State(shared): State<Shared>, Json(command): Json<Command>) -> Answer<Flushed> {
    Ok(Json(act::flush(&shared.world, &command).await?))
}

async fn post_hold(State(shared): State<Shared>, Json(command): Json<Command>) -> Answer<Changed> {
    deliberate(&shared, Act::Hold, &command).await
}

async fn post_release(
    State(shared): State<Shared>,
    Json(command): Json<Command>,
) -> Answer<Changed> {
    deliberate(&shared, Act::Release, &command).await
}

async fn post_bounce(
    State(shared): State<Shared>,
    Json(command): Json<Command>,
) -> Answer<Changed> {
    deliberate(&shared, Act::Bounce, &command).await
}

async fn post_delete(
    State(shared): State<Shared>,
    Json(command): Json<Command>,
) -> Answer<Changed> {
    deliberate(&shared, Act::Delete, &command).await
}

async fn post_reroute(
    State(shared): State<Shared>,
    Json(reroute): Json<Reroute>,
) -> Answer<Changed> {
    is_deliberate(&reroute.command)?;
    Ok(Json(reroute::reroute(&shared.world, &reroute).await?))
}

async fn deliberate(shared: &Shared, act: Act, command: &Command) -> Answer<Changed> {
    is_deliberate(command)?;
    Ok(Json(act::act(&shared.world, act, command).await?))
}

/// The whole queue only where that is said: a selection that was lost on the way must not mean
/// everything.
fn is_deliberate(command: &Command) -> Result<(), ApiError> {
    match command.select.is_everything() && !command.all {
        false => Ok(()),
        true => Err(ApiError::Bad(
            "nothing selected; if the whole queue is meant say all".to_owned(),
        )),
    }
}

async fn get_suppressions(
    State(shared): State<Shared>,
    Query(query): Query<SuppressionQuery>,
) -> Answer<SuppressionPage> {
    Ok(Json(suppression::list(&shared.world, &query)?))
}

async fn post_suppressions(
    State(shared): State<Shared>,
    Json(command): Json<NewEntries>,
) -> Answer<Added> {
    Ok(Json(suppression::add(&shared.world, command).await?))
}

async fn post_unsuppress(
    State(shared): State<Shared>,
    Json(command): Json<Unsuppress>,
) -> Answer<Removed> {
    Ok(Json(suppression::remove(&shared.world, &command).await?))
}

async fn post_export(
    State(shared): State<Shared>,
    Json(command): Json<Command>,
) -> Result<Response, ApiError> {
    let lines = export::export(&shared.world, &command).await?;
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(lines)).into_response())
}

/// Lines of messages, as an export has them; the client makes such parts of a file.
async fn post_import(State(shared): State<Shared>, lines: Body) -> Answer<Imported> {
    // It is never closed.
    let _place = shared.imports.acquire().await.ok();
    Ok(Json(import::import(&shared.world, lines).await?))
}

async fn post_verify(State(shared): State<Shared>) -> Json<VerifyView> {
    let store = Arc::clone(&shared.world.store);
    Json(shared.verification.begin(store))
}

async fn get_verify(State(shared): State<Shared>) -> Json<VerifyView> {
    Json(shared.verification.now())
}

async fn get_sites(State(shared): State<Shared>) -> Answer<SitesView> {
    Ok(Json(site::list(&shared.world).await))
}

async fn post_suspend(
    State(shared): State<Shared>,
    Json(command): Json<Suspend>,
) -> Answer<SitesView> {
    Ok(Json(site::suspend(&shared.world, &command).await?))
}

async fn post_resume(
    State(shared): State<Shared>,
    Json(command): Json<Resume>,
) -> Answer<SitesView> {
    Ok(Json(site::resume(&shared.world, &command).await?))
}

async fn post_message(
    State(shared): State<Shared>,
    Query(pairs): Pairs,
    body: Body,
) -> Result<(StatusCode, Json<Submitted>), ApiError> {
    let addresses = Addresses::from_pairs(pairs)?;
    let most = shared.world.config.load().submission.message_bytes_max;
    let body = to_bytes(body, usize::try_from(most).unwrap_or(usize::MAX))
        .await
        .map_err(|_| {
            ApiError::TooLarge(format!(
                "the message is larger than {most} bytes (submission.message_bytes_max), or was not sent whole"
            ))
        })?;
    let submitted = command::submit(&shared.world, &addresses, body).await?;
    Ok((StatusCode::ACCEPTED, Json(submitted)))
}

async fn post_reload(State(shared): State<Shared>) -> Answer<Reloaded> {
    match (shared.world.reload)().await {
        Ok(warnings) => Ok(Json(Reloaded { warnings })),
        Err(mistakes) => Err(ApiError::Refused(mistakes)),
    }
}

async fn unknown() -> ApiError {
    ApiError::NotFound("no such path in this API".to_owned())
}
