//! `PATCH`: changes a TTL, a weight or a state where it is read, by laying an overlay.

use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{IF_MATCH, LOCATION};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Attempt;
use super::resources::{Thing, names, tag_of};
use super::routes::{App, AppliedBody, json as read_json};
use super::{Problem, Shared};
use crate::control::api::{Forced, NewOverlay, Setting, Who};
use crate::control::audit;

/// Body of a `PATCH`: exactly one of the three, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Patch {
    weight: Option<u16>,
    ttl: Option<u32>,
    state: Option<Forced>,
    reason: String,
    expires: Option<String>,
    #[serde(default)]
    break_glass: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Lays the overlay that a `PATCH` means. With `If-Match`, only if the thing is as it was read; the writer looks once more at what is changed.
async fn change(
    shared: &Shared,
    who: Who,
    attempt: &Attempt,
    thing: &Thing,
    target: String,
    allowed: &str,
    request: Request,
) -> Result<Response, Problem> {
    let wanted = request.headers().get(IF_MATCH).cloned();
    let body: Patch = read_json(shared, request).await?;
    attempt.of(&target, Some(&body.reason));
    let set = match (body.weight, body.ttl, body.state) {
        (Some(weight), None, None) => ("weight", Setting::Weight(weight)),
        (None, Some(ttl), None) => ("ttl", Setting::Ttl(ttl)),
        (None, None, Some(state)) => ("state", Setting::State(state)),
        _ => return Err(Problem::invalid("", format!("expected exactly one of weight, ttl and state; this takes {allowed}"))),
    };
    if !allowed.split(" or ").any(|allowed| allowed == set.0) {
        return Err(Problem::invalid(set.0, format!("found {}, expected {allowed}", set.0)));
    }
    let mut seen = None;
    if let Some(wanted) = wanted {
        let now = thing.read(&shared.handle.snapshot(who.clone()))?;
        let tag = tag_of(&serde_json::to_vec(&now).unwrap_or_default());
        if !names(&wanted, &tag) {
            return Err(Problem::precondition(format!("If-Match: found {wanted:?}, expected {tag}")));
        }
        seen = (wanted != "*").then(|| seen_setting(thing, &now, &target, set.0)).flatten();
    }
    let new = NewOverlay {
        expires: body.expires,
        break_glass: body.break_glass,
        dry_run: body.dry_run,
        seen,
        ..NewOverlay::of(target, set.1, body.reason)
    };
    if new.dry_run {
        return Ok(Json(shared.handle.foresee(new, who).await?).into_response());
    }
    let body = AppliedBody::from(shared.handle.overlay(new, who).await?);
    let location = [(LOCATION, format!("/v1/overlays/{}", body.id))];
    Ok((location, Json(body)).into_response())
}

/// The setting that is about to change, as it was read; nothing where what was read does not tell it (the state is forced at several levels).
fn seen_setting(thing: &Thing, now: &Value, target: &str, member: &str) -> Option<Value> {
    match (thing, member) {
        (Thing::Policy(..), _) => {
            let name = target.rsplit('/').next()?;
            let child = now["children"].as_array()?.iter().find(|child| child["name"] == name)?;
            Some(json!({ "weight": child["weight"] }))
        }
        (_, "weight") => Some(json!({ "weight": now["weight"] })),
        (Thing::Name(..), "ttl") => Some(json!({ "ttl": now["ttl"]["max"] })),
        (_, "ttl") => Some(json!({ "ttl": now["ttl"] })),
        _ => None,
    }
}

#[utoipa::path(
    patch,
    path = "/v1/zones/{zone}/records/{name}/{type}",
    summary = "Lay an overlay on it",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = String, Path, description = "relative to the zone, @ for itself"),
        ("type" = String, Path, description = "record type"),
    ),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_record(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path((zone, name, rtype)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{zone}/{name}/{rtype}");
    change(&shared, who, &attempt, &Thing::Record(zone, name, rtype), target, "ttl", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/zones/{zone}/names/{name}",
    summary = "Lay an overlay on it",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = String, Path, description = "relative to the zone, @ for itself"),
    ),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_name(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path((zone, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{zone}/{name}");
    change(&shared, who, &attempt, &Thing::Name(zone, name), target, "ttl", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/policies/{zone}/{policy}/children/{child}",
    summary = "Lay an overlay on it",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("policy" = String, Path, description = "its name"),
        ("child" = String, Path, description = "name of the child"),
    ),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_child(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path((zone, policy, child)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/policy:{policy}/{child}", audit::plain_target(&zone));
    change(&shared, who, &attempt, &Thing::Policy(zone, policy), target, "weight", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/pools/{zone}/{pool}",
    summary = "Lay an overlay on it",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("pool" = String, Path, description = "its name"),
    ),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_pool(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path((zone, pool)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{pool}", audit::plain_target(&zone));
    change(&shared, who, &attempt, &Thing::Pool(zone, pool), target, "state", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/endpoints/{zone}/{pool}/{endpoint}",
    summary = "Lay an overlay on it",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("pool" = String, Path, description = "its name"),
        ("endpoint" = String, Path, description = "its address or CNAME target"),
    ),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_endpoint(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path((zone, pool, endpoint)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{pool}/{endpoint}", audit::plain_target(&zone));
    change(&shared, who, &attempt, &Thing::Endpoint(zone, pool, endpoint), target, "weight or state", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/regions/{region}",
    summary = "Lay an overlay on it",
    params(("region" = String, Path, description = "its name")),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_region(
    State(shared): App,
    Extension(who): Extension<Who>,
    Extension(attempt): Extension<Attempt>,
    Path(region): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("region:{region}");
    change(&shared, who, &attempt, &Thing::Region(region), target, "state", request).await
}
