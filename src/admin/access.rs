//! `/v1/tokens` and `/v1/audit`: who may, and who did.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde::{Deserialize, Serialize};

use super::guard::Attempt;
use super::routes::{App, Why, json, read_query};
use super::{Problem, Shared};
use crate::config;
use crate::control::audit::{self, DEFAULT_PAGE, Kind, MAX_PAGE, Page};
use crate::control::tokens::{CreatedToken, NewToken, TokenInfo};
use crate::control::{Role, Who, unix_now};

/// The paths.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/tokens", routing::get(list).post(create))
        .route("/v1/tokens/{id}", routing::delete(revoke))
        .route("/v1/audit", routing::get(read_audit))
}

/// `GET /v1/tokens`.
#[derive(Serialize, utoipa::ToSchema)]
struct List {
    tokens: Vec<TokenInfo>,
}

#[utoipa::path(
    get,
    path = "/v1/tokens",
    summary = "Tokens",
    responses((status = 200, description = "done", body = List))
)]
async fn list(State(shared): App, Extension(who): Extension<Who>) -> Result<Json<List>, Problem> {
    who.needs(Role::Admin).and_then(|()| who.may_change_all())?;
    Ok(Json(List { tokens: shared.handle.tokens().list() }))
}

#[utoipa::path(
    post,
    path = "/v1/tokens",
    summary = "Make a token",
    request_body = NewToken,
    responses((status = 201, description = "done", body = CreatedToken))
)]
async fn create(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    request: Request,
) -> Result<Response, Problem> {
    let new: NewToken = json(&shared, request).await?;
    attempt.of("", new.reason.as_deref());
    let made = shared.handle.create_token(new, who).await?;
    let location = [(LOCATION, format!("/v1/tokens/{}", made.info.id))];
    Ok((StatusCode::CREATED, location, Json(made)).into_response())
}

#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    summary = "Take a token back",
    params(
        ("id" = String, Path, description = "its id"),
        ("reason" = Option<String>, Query, description = "why; at most 500 characters"),
    ),
    responses((status = 200, description = "done", body = TokenInfo))
)]
async fn revoke(
    State(shared): App,
    Extension(mut who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path(id): Path<String>,
    query: Result<Query<Why>, QueryRejection>,
) -> Result<Json<TokenInfo>, Problem> {
    who.reason = read_query(query)?.checked()?;
    attempt.of(&format!("token {id}"), who.reason.as_deref());
    Ok(Json(shared.handle.revoke_token(id, who).await?))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Newest,
    Oldest,
}

/// `GET /v1/audit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    since: Option<String>,
    until: Option<String>,
    actor: Option<String>,
    target: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    kind: Option<Kind>,
    cursor: Option<u64>,
    #[serde(default)]
    order: Order,
    limit: Option<usize>,
}

#[utoipa::path(
    get,
    path = "/v1/audit",
    summary = "Who changed what, who was refused, what checks saw",
    params(
        ("since" = Option<String>, Query, description = "unix seconds, or a duration before now"),
        ("until" = Option<String>, Query, description = "unix seconds, or a duration before now"),
        ("actor" = Option<String>, Query, description = "exactly"),
        ("target" = Option<String>, Query, description = "exactly or anything below"),
        ("action" = Option<String>, Query, description = "exactly or anything below"),
        ("outcome" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<Kind>, Query, description = "exactly"),
        ("cursor" = Option<u64>, Query, description = "next of the page before"),
        ("order" = Option<String>, Query, description = "newest or oldest first"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
    ),
    responses((status = 200, description = "done", body = Page))
)]
async fn read_audit(
    State(shared): App,
    Extension(who): Extension<Who>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let query = read_query(query)?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid("limit", format!("found {limit}, expected 1 to {MAX_PAGE}")));
    }
    let wanted = audit::Query {
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
        actor: query.actor,
        target: query.target.as_deref().map(audit::plain_target),
        action: query.action,
        outcome: query.outcome,
        kind: query.kind,
        zones: who.zones,
        cursor: query.cursor,
        oldest_first: matches!(query.order, Order::Oldest),
        limit,
    };
    Ok(Json(shared.handle.audit(wanted).await?))
}

/// Unix seconds, or a duration before now.
fn moment(field: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let found = text.parse().ok().or_else(|| Some(unix_now().saturating_sub(config::parse_duration(text)?.as_secs())));
    found
        .map(Some)
        .ok_or_else(|| Problem::invalid(field, format!("found {text:?}, expected unix seconds, or a duration before now such as 90s or 1h")))
}
