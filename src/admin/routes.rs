//! The paths and what each does: read the request, ask `control`, write JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, FromRequest, Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::guard::{Attempt, Peer, guard, open_guard};
use super::idempotency::once;
use super::resources::MAX_PAGE;
use super::{MAX_BODY_LEN, Problem, Shared, access, events, metrics, openapi, resources};
use crate::control::api::{Amend, Applied, Difference, Lift, MAX_REASON_CHARS, NewOverlay, Overlay, Promote, Promoted, ReloadReport, Status, Who};
use crate::control::handle::Laying;

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
        .route("/v1/openapi.json", get(async || Json(openapi::document())))
        .merge(access::router())
        .merge(events::router())
        .merge(resources::router())
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| Problem::method_not_allowed(method.as_str(), uri.path()))
        .layer(middleware::from_fn_with_state(shared.clone(), once))
        .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
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
        .with_state(shared)
}

pub(super) type App = State<Arc<Shared>>;

/// Ready: a world is published. Degraded is ready: answering well from what there is beats not answering.
async fn ready(State(shared): App) -> Response {
    match shared.handle.generation() {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "no generation is served yet\n").into_response(),
        generation => format!("ok, generation {generation}\n").into_response(),
    }
}

async fn metrics_text(State(shared): App, Extension(who): Extension<Who>) -> Result<Response, Problem> {
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
async fn status(State(shared): App, Extension(who): Extension<Who>) -> Json<Status> {
    let mut status = visible(&shared, &who).await;
    status.zones.iter_mut().for_each(|zone| zone.queries = shared.registry.slot(zone.slot));
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
async fn overlays(
    State(shared): App,
    Extension(who): Extension<Who>,
    query: Result<Query<OverlaysQuery>, QueryRejection>,
) -> Result<Json<Overlays>, Problem> {
    let query = read_query(query)?;
    if let Some(limit) = query.limit.filter(|limit| !(1..=MAX_PAGE).contains(limit)) {
        return Err(Problem::invalid("limit", format!("found {limit}, expected 1 to {MAX_PAGE}")));
    }
    // One more tells whether there is a next page.
    let most = query.limit.map_or(usize::MAX, |limit| limit + 1);
    let mut overlays = shared.handle.overlays(Laying::Behind(query.cursor.unwrap_or(0), who, most)).await?;
    let has_more = query.limit.is_some_and(|limit| overlays.len() > limit);
    overlays.truncate(query.limit.unwrap_or(usize::MAX));
    let next = overlays.last().map(|overlay| overlay.id).filter(|_| has_more);
    Ok(Json(Overlays { overlays, next }))
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
    responses((status = 201, description = "done", body = AppliedBody))
)]
async fn lay_overlay(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    request: Request,
) -> Result<Response, Problem> {
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
async fn overlay(State(shared): App, Extension(who): Extension<Who>, id: Result<Path<String>, PathRejection>) -> Result<Json<Overlay>, Problem> {
    let (text, id) = overlay_id(id)?;
    let mut found = shared.handle.overlays(Laying::One(id)).await?;
    found.retain(|overlay| who.zones.is_none() || who.covers(&overlay.target));
    found.pop().map(Json).ok_or_else(|| Problem::not_found(&format!("overlay {text}"), Vec::new()))
}

/// `GET /v1/overlays/diff`.
#[derive(Serialize, utoipa::ToSchema)]
struct Differences {
    differences: Vec<Difference>,
}

#[utoipa::path(
    get,
    path = "/v1/overlays/diff",
    summary = "What the files say and what is in effect",
    responses((status = 200, description = "done", body = Differences))
)]
async fn differences(State(shared): App, Extension(who): Extension<Who>) -> Result<Json<Differences>, Problem> {
    let mut differences = shared.handle.differences().await?;
    differences.retain(|difference| who.zones.is_none() || who.covers(&difference.target));
    Ok(Json(Differences { differences }))
}

#[utoipa::path(
    patch,
    path = "/v1/overlays/{id}",
    summary = "Change expiry or reason of an overlay",
    params(("id" = u64, Path, description = "its id")),
    request_body = Amend,
    responses((status = 200, description = "done", body = AppliedBody))
)]
async fn amend(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<AppliedBody>, Problem> {
    let (text, id) = overlay_id(id)?;
    let amend: Amend = json(&shared, request).await?;
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
async fn promote(
    State(shared): App,
    Extension(mut who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Promoted>, Problem> {
    let (text, id) = overlay_id(id)?;
    let promote: Promote = json_or_empty(&shared, request).await?;
    who.reason = reason(promote.reason.clone())?;
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
        ("dry_run" = Option<bool>, Query, description = "change nothing; say what would happen"),
    ),
    responses((status = 200, description = "done", body = AppliedBody))
)]
async fn revert(
    State(shared): App,
    Extension(mut who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<Lift>, QueryRejection>,
) -> Result<Response, Problem> {
    let (text, id) = overlay_id(id)?;
    let lift = read_query(query)?;
    who.reason = reason(lift.reason.clone())?;
    attempt.of(&format!("overlay {text}"), who.reason.as_deref());
    if lift.dry_run {
        return Ok(Json(shared.handle.foresee_revert(id, who).await?).into_response());
    }
    Ok(Json(AppliedBody::from(shared.handle.revert(id, lift, who).await?)).into_response())
}

/// `?reason=…` of a `DELETE`, which has no body.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Why {
    reason: Option<String>,
}

impl Why {
    /// The reason, if it is short enough.
    pub(super) fn checked(self) -> Result<Option<String>, Problem> {
        reason(self.reason)
    }
}

/// A reason that may be left out.
fn reason(given: Option<String>) -> Result<Option<String>, Problem> {
    let given = given.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    match given.as_ref().map(|reason| reason.chars().count()) {
        Some(found) if found > MAX_REASON_CHARS => {
            Err(Problem::invalid("reason", format!("found {found} characters, expected at most {MAX_REASON_CHARS}")))
        }
        _ => Ok(given),
    }
}

/// The query of a request, or what is wrong with it.
pub(super) fn read_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|rejection| Problem::bad_request("bad-query", rejection.body_text()))
}

/// An id as it was written and as a number. Digits alone: `+7` and `0x7` are nobody's id.
fn overlay_id(id: Result<Path<String>, PathRejection>) -> Result<(String, u64), Problem> {
    let Ok(Path(text)) = id else { return Err(Problem::not_found("overlay of that id", Vec::new())) };
    match text.parse() {
        Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((text, id)),
        _ => Err(Problem::not_found(&format!("overlay {text:?}"), Vec::new())),
    }
}

/// `POST /v1/reload`; an empty body means everything, zone by zone.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
struct ReloadBody {
    zone: Option<String>,
    all: bool,
    reason: Option<String>,
}

#[utoipa::path(
    post,
    path = "/v1/reload",
    summary = "Read the files again",
    request_body = Option<ReloadBody>,
    responses((status = 200, description = "done", body = ReloadReport))
)]
async fn reload(
    State(shared): App,
    Extension(mut who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    request: Request,
) -> Result<Json<ReloadReport>, Problem> {
    let body: ReloadBody = json_or_empty(&shared, request).await?;
    attempt.of(body.zone.as_deref().unwrap_or(""), body.reason.as_deref());
    who.reason = reason(body.reason)?;
    Ok(Json(shared.handle.reload(body.zone, body.all, who).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct FailbackBody {
    name: String,
    reason: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Generation {
    generation: u64,
}

#[utoipa::path(
    post,
    path = "/v1/failback",
    summary = "Let a held failover return",
    request_body = FailbackBody,
    responses((status = 200, description = "done", body = Generation))
)]
async fn failback(
    State(shared): App,
    Extension(mut who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    request: Request,
) -> Result<Json<Generation>, Problem> {
    let body: FailbackBody = json(&shared, request).await?;
    attempt.of(&body.name, body.reason.as_deref());
    who.reason = reason(body.reason)?;
    Ok(Json(Generation { generation: shared.handle.failback(body.name, who).await? }))
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
    responses((status = 200, description = "done", body = serde_json::Value))
)]
async fn explain(
    State(shared): App,
    Extension(peer): Extension<Peer>,
    Extension(who): Extension<Who>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let query = read_query(query)?;
    if !who.covers_name(&query.name) {
        return Err(Problem::forbidden(format!("found {:?}, which is in none of the zones of this token", query.name)));
    }
    let client = query.client.filter(|client| !client.is_empty()).unwrap_or_else(|| peer.ip().to_string());
    // A trace may read databases again: off the runtime's threads, and few at a time.
    let slot = shared.traces.clone().acquire_owned().await;
    let trace = tokio::task::spawn_blocking(move || {
        let trace = shared.explainer.explain(&query.name, &query.rtype, &client);
        drop(slot);
        trace
    });
    match trace.await {
        Ok(trace) => Ok(Json(trace?)),
        Err(_) => Err(Problem::internal("the trace failed; nothing was changed")),
    }
}

/// The body as JSON; an empty one as the default.
async fn json_or_empty<T: DeserializeOwned + Default>(shared: &Shared, request: Request) -> Result<T, Problem> {
    let (content_type, bytes) = body(shared, request).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(content_type, &bytes) }
}

pub(super) async fn json<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, Problem> {
    let (content_type, bytes) = body(shared, request).await?;
    parse(content_type, &bytes)
}

/// Reads the body within limit and deadline.
pub(super) async fn body(shared: &Shared, request: Request) -> Result<(HeaderMap, Bytes), Problem> {
    let headers = request.headers().clone();
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > MAX_BODY_LEN) {
        return Err(Problem::too_large(MAX_BODY_LEN));
    }
    match tokio::time::timeout(shared.limits.body, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok((headers, bytes)),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::too_large(MAX_BODY_LEN)),
        Ok(Err(rejection)) => Err(Problem::bad_request("bad-body", rejection.body_text())),
        Err(_) => Err(Problem::too_slow(&format!("expected the whole body within {:?}", shared.limits.body))),
    }
}

/// JSON that does not parse is a bad request, with the place; JSON of the wrong shape is unprocessable, with the field.
fn parse<T: DeserializeOwned>(headers: HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    let content_type = headers.get(CONTENT_TYPE);
    let essence = content_type.and_then(|value| value.to_str().ok()?.split(';').next()).unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::media_type(content_type));
    }
    // Serde would also take a list of the fields in order, which nobody means.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(shape)?;
        let detail = "found JSON that is no object, expected an object";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Where the text is JSON, what serde calls a fault of syntax is an object with no key, or several, where it wants exactly one.
        let is_json = error.is_syntax() && serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
        let problem = if is_json { not_one_key(&error) } else { shape(error) };
        if path == "." || problem.field.is_some() { problem } else { problem.field(path) }
    })?;
    deserializer.end().map_err(shape)?;
    Ok(value)
}

fn not_one_key(error: &serde_json::Error) -> Problem {
    let detail = format!("expected exactly one key (line {} column {})", error.line(), error.column());
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail)
}

fn shape(error: serde_json::Error) -> Problem {
    let detail = error.to_string();
    if error.is_data() {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail)
    } else {
        Problem::bad_request("bad-json", detail)
    }
}
