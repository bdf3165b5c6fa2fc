//! The paths and what each does: read the request, ask `control`, write JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::header::{CONTENT_TYPE, DATE, ETAG, LOCATION};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};

use super::asked::{Asked, By, Parts};
use super::body::{json, json_if_any, json_or_empty, query_or_body};
use super::calls::as_documented;
use super::guard::{Peer, guard, open_guard};
use super::idempotency::once;
use super::patch::condition;
use super::patience::patient;
use super::resources::with_etag;
use super::{MAX_BODY_LEN, Problem, Shared, access, events, metrics, openapi, resources, signals};
use crate::control::api::{
    Amend, Applied, Beyond, Consequences, Difference, FailedBack, Lift, NewOverlay, Overlay, Promote, Promoted, ReloadBody, ReloadReport, Status, Who,
};
use crate::control::audit::part;
use crate::control::explain::Explanation;
use crate::control::handle::Laying;
use crate::control::text::{check_optional_reason, check_target};
use crate::control::things::overlay_tag;
use crate::control::unix_now;

/// All paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/v1/status", get(status))
        .route("/v1/overlays", get(overlays).post(lay_overlay))
        .route("/v1/overlays/{id}", get(overlay).delete(revert).patch(amend))
        .route("/v1/overlays/diff", get(differences))
        .route("/v1/overlays/{id}/promote", post(promote))
        .route("/v1/reload", post(reload))
        .route("/v1/failback", post(failback))
        .route("/v1/explain", get(explain))
        .route("/v1/openapi.json", get(async || with_etag(&openapi::document())))
        .merge(access::router())
        .merge(events::router())
        .merge(resources::router())
        .merge(signals::router())
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| Problem::method_not_allowed(method.as_str(), uri.path()))
        .layer(middleware::from_fn_with_state(shared.clone(), once))
        .layer(middleware::from_fn_with_state(shared.clone(), patient))
        .layer(middleware::from_fn(as_documented))
        .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .layer(middleware::map_response(dated))
        .with_state(shared)
}

/// Health and metrics alone, for whoever can reach the listener.
pub(super) fn metrics_router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| Problem::method_not_allowed(method.as_str(), uri.path()))
        .layer(DefaultBodyLimit::max(0))
        .layer(middleware::from_fn_with_state(shared.clone(), open_guard))
        .layer(middleware::map_response(dated))
        .with_state(shared)
}

/// Every reply says what this machine's clock reads now: ages and times to come in it go by that. hyper's own date stands still after a clock was set
/// back, on each thread for itself.
async fn dated(mut response: Response) -> Response {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(unix_now());
    if let Ok(date) = httpdate::fmt_http_date(now).try_into() {
        response.headers_mut().insert(DATE, date);
    }
    response
}

pub(super) type App = State<Arc<Shared>>;

/// Ready: a world is published. Degraded is ready: answering well from what there is beats not answering.
async fn ready(State(shared): App) -> Response {
    match shared.handle.generation() {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "no generation is served yet\n").into_response(),
        generation => format!("ok, generation {generation}\n").into_response(),
    }
}

async fn metrics_text(By { shared, who, .. }: By) -> Result<Response, Problem> {
    if who.zones.is_some() {
        return Err(Problem::forbidden("metrics are of all zones, and this token is confined to some"));
    }
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&shared, &shared.handle.status().await)).into_response())
}

/// The status with the counters of this moment.
#[utoipa::path(
    get,
    path = "/v1/status",
    summary = "What is known of zones, pools and endpoints, and what is degraded",
    responses((status = 200, description = "done", body = Status))
)]
async fn status(By { shared, who, .. }: By) -> Json<Status> {
    let mut status = visible(&shared, &who).await;
    status.zones.iter_mut().for_each(|zone| zone.queries = Some(shared.registry.slot(zone.slot)));
    status.pools.iter_mut().for_each(|pool| pool.queries = shared.registry.slot(pool.slot));
    Json(status)
}

/// The status, as far as the token's zones reach.
pub(super) async fn visible(shared: &Shared, who: &Who) -> Status {
    let mut status = shared.handle.status().await;
    if who.zones.is_some() {
        status.zones.retain(|zone| who.covers(&zone.name));
        status.pools.retain(|pool| who.covers(&pool.id));
        status.overlays.retain(|overlay| who.covers(&overlay.target));
    }
    status
}

/// `GET /v1/overlays`.
#[derive(Serialize, utoipa::ToSchema)]
struct Overlays {
    overlays: Vec<Overlay>,
    /// Of a token that is confined to zones: what is laid beyond them and reaches into them; on the first page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beyond: Vec<Beyond>,
    /// Give this as `cursor` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// What the list takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OverlaysQuery {
    limit: Option<usize>,
    cursor: Option<u64>,
}

#[utoipa::path(
    get,
    path = "/v1/overlays",
    summary = "Overlays that are neither reverted nor expired",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; all of them when left out"),
        ("cursor" = Option<u64>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Overlays))
)]
async fn overlays(By { shared, who, .. }: By, Asked(query): Asked<OverlaysQuery>) -> Result<Response, Problem> {
    // One more tells whether there is a next page.
    let most = query.limit.map_or(usize::MAX, |limit| limit + 1);
    let beyond = if query.cursor.is_none() { shared.handle.beyond(&who).await? } else { Vec::new() };
    let mut overlays = shared.handle.overlays(Laying::Behind(query.cursor.unwrap_or(0), who, most)).await?;
    let has_more = query.limit.is_some_and(|limit| overlays.len() > limit);
    overlays.truncate(query.limit.unwrap_or(usize::MAX));
    let next = overlays.last().map(|overlay| overlay.id).filter(|_| has_more);
    Ok(with_etag(&Overlays { overlays, beyond, next }))
}

/// The result of laying or reverting: the id first, for whoever reads only that.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AppliedBody {
    pub(super) id: u64,
    #[serde(flatten)]
    applied: Applied,
}

impl From<Applied> for AppliedBody {
    fn from(applied: Applied) -> AppliedBody {
        AppliedBody { id: applied.overlay.id, applied }
    }
}

#[utoipa::path(
    post,
    path = "/v1/overlays",
    summary = "Lay an overlay",
    request_body = NewOverlay,
    responses(
        (status = 201, description = "done", body = AppliedBody, headers(("Location" = String, description = "the overlay"))),
        (status = 200, description = "with dry_run: what would happen", body = Consequences),
    )
)]
async fn lay_overlay(By { shared, who, attempt }: By, request: Request) -> Result<Response, Problem> {
    let new: NewOverlay = json(&shared, request).await?;
    attempt.of(&new.target, Some(&new.reason));
    if new.dry_run {
        return Ok(Json(shared.handle.foresee(new, who).await?).into_response());
    }
    let body = AppliedBody::from(shared.handle.overlay(new, who).await?);
    let location = [(LOCATION, format!("/v1/overlays/{}", body.id))];
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
}

#[utoipa::path(
    get,
    path = "/v1/overlays/{id}",
    summary = "One overlay",
    params(("id" = u64, Path, description = "its id")),
    responses((status = 200, description = "done", body = Overlay))
)]
async fn overlay(By { shared, who, .. }: By, Parts(text): Parts<String>) -> Result<Response, Problem> {
    let mut found = shared.handle.overlays(Laying::One(overlay_id(&text)?, who)).await?;
    let found = found.pop().ok_or_else(|| Problem::not_found(&format!("overlay {text}"), Vec::new()))?;
    Ok(([(ETAG, overlay_tag(&found))], Json(found)).into_response())
}

/// `GET /v1/overlays/diff`.
#[derive(Serialize, utoipa::ToSchema)]
struct Differences {
    differences: Vec<Difference>,
    /// Of a token that is confined to zones: what is laid beyond them and reaches into them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beyond: Vec<Beyond>,
}

#[utoipa::path(
    get,
    path = "/v1/overlays/diff",
    summary = "What the files say and what is in effect",
    responses((status = 200, description = "done", body = Differences))
)]
async fn differences(By { shared, who, .. }: By) -> Result<Response, Problem> {
    let mut differences = shared.handle.differences().await?;
    let beyond = shared.handle.beyond(&who).await?;
    differences.retain(|difference| who.zones.is_none() || who.covers(&difference.target));
    Ok(with_etag(&Differences { differences, beyond }))
}

#[utoipa::path(
    patch,
    path = "/v1/overlays/{id}",
    summary = "Change expiry or reason of an overlay",
    params(("id" = u64, Path, description = "its id")),
    request_body = Amend,
    responses((status = 200, description = "done", body = AppliedBody))
)]
async fn amend(By { shared, who, attempt }: By, Parts(text): Parts<String>, request: Request) -> Result<Json<AppliedBody>, Problem> {
    let id = overlay_id(&text)?;
    let seen = condition(request.headers(), None)?;
    let amend = Amend { seen, ..json(&shared, request).await? };
    attempt.of(&format!("overlay {text}"), amend.reason.as_deref());
    Ok(Json(shared.handle.amend(id, amend, who).await?.into()))
}

#[utoipa::path(
    post,
    path = "/v1/overlays/{id}/promote",
    summary = "Write an overlay into the files",
    params(("id" = u64, Path, description = "its id")),
    request_body = Option<Promote>,
    responses((status = 200, description = "done", body = Promoted))
)]
async fn promote(By { shared, mut who, attempt }: By, Parts(text): Parts<String>, request: Request) -> Result<Json<Promoted>, Problem> {
    let id = overlay_id(&text)?;
    let promote: Promote = json_or_empty(&shared, request).await?;
    who.reason = reason(promote.reason.as_deref())?;
    attempt.of(&format!("overlay {text}"), who.reason.as_deref());
    Ok(Json(shared.handle.promote(id, promote, who).await?))
}

#[utoipa::path(
    delete,
    path = "/v1/overlays/{id}",
    summary = "Take an overlay back",
    params(
        ("id" = u64, Path, description = "its id"),
        ("reason" = Option<String>, Query, description = "why; at most 500 characters"),
        ("break_glass" = Option<bool>, Query, description = "go past safety rules"),
        ("over" = Option<String>, Query, description = "a duration: what it withdrew comes back step by step"),
        ("dry_run" = Option<bool>, Query, description = "change nothing; say what would happen"),
    ),
    responses((status = 200, description = "done", body = AppliedBody))
)]
async fn revert(
    By { shared, mut who, attempt }: By,
    Parts(text): Parts<String>,
    Asked(query): Asked<Lift>,
    request: Request,
) -> Result<Response, Problem> {
    let id = overlay_id(&text)?;
    let seen = condition(request.headers(), None)?;
    let lift = Lift { seen, ..query_or_body(query, json_if_any(&shared, request).await?)? };
    who.reason = reason(lift.reason.as_deref())?;
    attempt.of(&format!("overlay {text}"), who.reason.as_deref());
    if lift.dry_run {
        return Ok(Json(shared.handle.foresee_revert(id, lift, who).await?).into_response());
    }
    Ok(Json(AppliedBody::from(shared.handle.revert(id, lift, who).await?)).into_response())
}

/// `?reason=…` of a `DELETE`, or the same in its body.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

impl Why {
    /// The reason, if it is short enough.
    pub(super) fn checked(self) -> Result<Option<String>, Problem> {
        reason(self.reason.as_deref())
    }
}

/// A reason that may be left out.
fn reason(given: Option<&str>) -> Result<Option<String>, Problem> {
    Ok(check_optional_reason(given)?)
}

/// An id as a number. Digits alone: `+7` and `0x7` are nobody's id.
fn overlay_id(text: &str) -> Result<u64, Problem> {
    match text.parse() {
        Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
        _ => Err(Problem::not_found(&format!("overlay {text:?}, expected a number"), Vec::new())),
    }
}

#[utoipa::path(
    post,
    path = "/v1/reload",
    summary = "Read the files again",
    request_body = Option<ReloadBody>,
    responses((status = 200, description = "done", body = ReloadReport))
)]
async fn reload(By { shared, mut who, attempt }: By, request: Request) -> Result<Json<ReloadReport>, Problem> {
    let body: ReloadBody = json_or_empty(&shared, request).await?;
    let body = ReloadBody { zone: body.zone.as_deref().map(part), ..body };
    attempt.of(body.zone.as_deref().unwrap_or(""), body.reason.as_deref());
    body.zone.as_deref().map(|zone| check_target("zone", zone)).transpose()?;
    who.reason = reason(body.reason.as_deref())?;
    if body.all && body.zone.is_some() {
        return Err(Problem::invalid(
            "all",
            "found all beside a zone, expected one of the two: one zone is taken as a whole or not at all anyway".into(),
        ));
    }
    if body.break_glass && who.reason.is_none() {
        return Err(Problem::invalid("reason", "break_glass needs a reason".into()));
    }
    Ok(Json(shared.handle.reload(body, who).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct FailbackBody {
    name: String,
    reason: Option<String>,
}

#[utoipa::path(
    post,
    path = "/v1/failback",
    summary = "Let a held failover return",
    request_body = FailbackBody,
    responses((status = 200, description = "done", body = FailedBack))
)]
async fn failback(By { shared, mut who, attempt }: By, request: Request) -> Result<Json<FailedBack>, Problem> {
    let body: FailbackBody = json(&shared, request).await?;
    attempt.of(&body.name, body.reason.as_deref());
    check_target("name", &body.name)?;
    who.reason = reason(body.reason.as_deref())?;
    Ok(Json(shared.handle.failback(body.name, who).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    name: String,
    #[serde(rename = "type", default = "default_type")]
    rtype: String,
    client: Option<String>,
}

fn default_type() -> String {
    "A".into()
}

#[utoipa::path(
    get,
    path = "/v1/explain",
    summary = "The whole trace of one answer",
    params(
        ("name" = String, Query, description = "the name asked for"),
        ("type" = Option<String>, Query, description = "record type; A"),
        ("client" = Option<String>, Query, description = "address or prefix; the asker"),
    ),
    responses((status = 200, description = "done", body = Explanation))
)]
async fn explain(
    By { shared, who, .. }: By,
    Extension(peer): Extension<Peer>,
    Asked(query): Asked<ExplainQuery>,
) -> Result<Json<serde_json::Value>, Problem> {
    if !query.name.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        let detail =
            format!("found {:?}, expected visible ASCII: other octets as \\DDD, an internationalised name as its A-labels (xn--…)", query.name);
        return Err(Problem::invalid("name", detail));
    }
    if !who.covers_name(&query.name) {
        return Err(Problem::forbidden(format!("found {:?}, which is in none of the zones of this token", query.name)));
    }
    let client = query.client.filter(|client| !client.is_empty()).unwrap_or_else(|| peer.ip().to_string());
    // A trace may read databases again: off the runtime's threads, and few at a time.
    let slot = shared.traces.clone().acquire_owned().await;
    let trace = tokio::task::spawn_blocking(move || {
        let trace = shared.explainer.explain(&query.name, &query.rtype, &client, &who);
        drop(slot);
        trace
    });
    match trace.await {
        Ok(trace) => Ok(Json(trace?)),
        Err(_) => Err(Problem::internal("the trace failed; nothing was changed")),
    }
}
