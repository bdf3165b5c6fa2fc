//! `PATCH`: changes a TTL, a weight or a state where it is read, by laying an overlay.

use axum::Json;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{IF_MATCH, LOCATION};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::asked::{self, By, Parts};
use super::body::json as read_json;
use super::guard::Attempt;
use super::resources::OfEndpoint;
use super::routes::AppliedBody;
use super::{Problem, Shared};
use crate::control::api::{Forced, NewOverlay, Seen, Setting, When, Who};
use crate::control::audit;
use crate::control::things::Thing;

/// Body of a `PATCH`: exactly one of the three, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Patch {
    weight: Option<u16>,
    ttl: Option<u32>,
    state: Option<Forced>,
    reason: String,
    expires: Option<String>,
    /// When it begins, as of an overlay.
    starts: Option<When>,
    /// Of a weight, or of the state `drain`: a duration over which it is reached step by step.
    over: Option<String>,
    /// The weight that `over` begins with; the one in effect when it begins if absent.
    from: Option<u16>,
    #[serde(default)]
    break_glass: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Lays the overlay that a `PATCH` means. With `If-Match`, only if the thing is as it was read when the writer takes the change.
async fn change(
    shared: &Shared,
    who: Who,
    attempt: &Attempt,
    thing: Thing,
    target: String,
    allowed: &str,
    request: Request,
) -> Result<Response, Problem> {
    let seen = condition(request.headers(), Some(thing))?;
    let body: Patch = read_json(shared, request).await?;
    attempt.of(&target, Some(&body.reason));
    let set = match (body.weight, body.ttl, body.state) {
        (Some(weight), None, None) => ("weight", Setting::Weight(weight)),
        (None, Some(ttl), None) => ("ttl", Setting::Ttl(ttl)),
        (None, None, Some(state)) => ("state", Setting::State(state)),
        set => {
            let found = [(set.0.is_some(), "weight"), (set.1.is_some(), "ttl"), (set.2.is_some(), "state")];
            let found: Vec<&str> = found.iter().filter(|one| one.0).map(|one| one.1).collect();
            let field = found.last().copied().unwrap_or_else(|| allowed.split(' ').next().unwrap_or_default());
            let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
            return Err(Problem::invalid(field, format!("found {found}, expected {allowed}")));
        }
    };
    if !allowed.split(" or ").any(|allowed| allowed == set.0) {
        return Err(Problem::invalid(set.0, format!("found {}, expected {allowed}", set.0)));
    }
    let new = NewOverlay {
        expires: body.expires,
        starts: body.starts,
        over: body.over,
        from: body.from,
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

/// The condition of a request, if it has one.
pub(super) fn condition(headers: &HeaderMap, thing: Option<Thing>) -> Result<Option<Seen>, Problem> {
    Ok(asked::tags(headers, &IF_MATCH, "If-Match")?.map(|tags| Seen { thing, tags }))
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
    By { shared, who, attempt }: By,
    Parts((zone, name, rtype)): Parts<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{}/{rtype}", audit::plain_zone(&zone), audit::part(&name));
    change(&shared, who, &attempt, Thing::Record(zone, name, rtype), target, "ttl", request).await
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
    By { shared, who, attempt }: By,
    Parts((zone, name)): Parts<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{}", audit::plain_zone(&zone), audit::part(&name));
    // Static records may stand at the same name: those are changed where they are.
    let thing = Thing::Name(zone, name);
    attempt.of(&target, None);
    who.may_change(&target)?;
    thing.read(&shared.handle.snapshot(who.clone()))?;
    change(&shared, who, &attempt, thing, target, "ttl", request).await
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
    By { shared, who, attempt }: By,
    Parts((zone, policy, child)): Parts<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/policy:{policy}/{child}", audit::plain_zone(&zone));
    change(&shared, who, &attempt, Thing::Policy(zone, policy), target, "weight", request).await
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
    By { shared, who, attempt }: By,
    Parts((zone, pool)): Parts<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{pool}", audit::plain_zone(&zone));
    change(&shared, who, &attempt, Thing::Pool(zone, pool), target, "state", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/endpoints/{zone}/{pool}/{endpoint}",
    summary = "Lay an overlay on it",
    params(OfEndpoint),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_endpoint(
    By { shared, who, attempt }: By,
    Parts((zone, pool, endpoint)): Parts<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let target = format!("{}/{pool}/{endpoint}", audit::plain_zone(&zone));
    change(&shared, who, &attempt, Thing::Endpoint(zone, pool, endpoint), target, "weight or state", request).await
}

#[utoipa::path(
    patch,
    path = "/v1/regions/{region}",
    summary = "Lay an overlay on it",
    params(("region" = String, Path, description = "its name")),
    request_body = Patch,
    responses((status = 200, description = "done", body = AppliedBody))
)]
pub(super) async fn patch_region(By { shared, who, attempt }: By, Parts(region): Parts<String>, request: Request) -> Result<Response, Problem> {
    let target = format!("region:{region}");
    change(&shared, who, &attempt, Thing::Region(region), target, "state", request).await
}
