//! `/v1/tokens` and `/v1/audit`: who may, and who did.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde::{Deserialize, Serialize};

use super::asked::{Asked, By, Parts};
use super::body::{json, json_if_any, query_or_body};
use super::idempotency::Again;
use super::resources::with_etag;
use super::routes::Why;
use super::{Problem, Shared};
use crate::config;
use crate::control::audit::{self, DEFAULT_PAGE, Kind, Page};
use crate::control::text::rfc3339;
use crate::control::tokens::{CreatedToken, NewToken, TokenInfo};
use crate::control::unix_now;

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
async fn list(By { shared, who, .. }: By) -> Result<Response, Problem> {
    who.may_give_access()?;
    shared.handle.know_state().await?;
    Ok(with_etag(&List { tokens: shared.handle.tokens().list() }))
}

#[utoipa::path(
    post,
    path = "/v1/tokens",
    summary = "Make a token",
    request_body = NewToken,
    responses((status = 201, description = "done", body = CreatedToken, headers(("Location" = String, description = "the token"))))
)]
async fn create(By { shared, who, attempt }: By, request: Request) -> Result<Response, Problem> {
    let new: NewToken = json(&shared, request).await?;
    attempt.of("", new.reason.as_deref());
    let made = shared.handle.create_token(new, who).await?;
    let location = [(LOCATION, format!("/v1/tokens/{}", made.info.id))];
    let note = "the token was shown in the first reply to this request, and is not kept: if it is lost, revoke it and make another";
    let warnings = made.warnings.iter().cloned().chain([note.to_owned()]).collect();
    let again = serde_json::to_vec(&CreatedToken { token: None, warnings, ..made.clone() }).unwrap_or_default();
    let mut response = (StatusCode::CREATED, location, Json(made)).into_response();
    response.extensions_mut().insert(Again(again.into()));
    Ok(response)
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
    By { shared, mut who, attempt }: By,
    Parts(id): Parts<String>,
    Asked(query): Asked<Why>,
    request: Request,
) -> Result<Json<TokenInfo>, Problem> {
    who.reason = query_or_body(query, json_if_any(&shared, request).await?)?.checked()?;
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
    token: Option<String>,
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
        ("since" = Option<String>, Query, description = "unix seconds, a time (RFC 3339), or a duration before now"),
        ("until" = Option<String>, Query, description = "unix seconds, a time (RFC 3339), or a duration before now"),
        ("actor" = Option<String>, Query, description = "exactly"),
        ("token" = Option<String>, Query, description = "exactly: the id of a token"),
        ("target" = Option<String>, Query, description = "exactly or anything below"),
        ("action" = Option<String>, Query, description = "exactly, a part before its dot, or a call such as `PUT /v1/overlays`"),
        ("outcome" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<Kind>, Query, description = "exactly"),
        ("cursor" = Option<u64>, Query, description = "next of the page before"),
        ("order" = Option<String>, Query, description = "newest or oldest first"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
    ),
    responses((status = 200, description = "done", body = Page))
)]
async fn read_audit(By { shared, who, .. }: By, Asked(query): Asked<AuditQuery>) -> Result<Response, Problem> {
    let wanted = audit::Query {
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
        actor: query.actor,
        token: query.token,
        target: query.target,
        action: query.action,
        outcome: query.outcome,
        kind: query.kind,
        zones: who.zones,
        cursor: query.cursor,
        oldest_first: matches!(query.order, Order::Oldest),
        limit: query.limit.unwrap_or(DEFAULT_PAGE),
        ..audit::Query::default()
    };
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && since > until
    {
        return Err(Problem::invalid("since", format!("found a moment {} s later than until: nothing lies between them", since - until)));
    }
    if let Some(action) = wanted.action.as_deref().filter(|action| !audit::may_be_action(action)) {
        let detail =
            format!("found {action:?}, expected {}, a part of one before its dot, or a call such as \"PUT /v1/overlays\"", audit::ACTIONS.join(", "));
        return Err(Problem::invalid("action", detail));
    }
    Ok(with_etag(&shared.handle.audit(wanted).await?))
}

/// Unix seconds, a time as in RFC 3339, or a duration before now.
fn moment(field: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let found = text.parse().ok().or_else(|| rfc3339(text)).or_else(|| Some(unix_now().saturating_sub(config::parse_duration(text)?.as_secs())));
    found.map(Some).ok_or_else(|| {
        Problem::invalid(
            field,
            format!("found {text:?}, expected unix seconds, a time such as 2026-11-23T02:00:00Z, or a duration before now such as 90s or 1h"),
        )
    })
}
