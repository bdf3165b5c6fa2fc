//! What is served, thing by thing: lists with filters and pages, and single things with an ETag.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::openapi::{Endpoints, Monitors, Names, Policies, Pools, Records, Regions, Zones};
use super::routes::{App, read_query};
use super::{Problem, Shared, patch};
use crate::control::api::{Forced, Who, ZoneStatus};
use crate::control::audit;
use crate::control::resources::{
    EndpointResource, PolicyResource, PoolResource, RecordSet, RegionResource, Snapshot, SteeredResource, records, steered,
};

/// Most items of one page.
pub(super) const MAX_PAGE: usize = 1000;
/// Items of a page when nothing is said.
const DEFAULT_PAGE: usize = 100;
/// Health transitions that are told with an endpoint.
const HISTORY: usize = 100;

/// The paths.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/zones", get(zones))
        .route("/v1/zones/{zone}", get(zone))
        .route("/v1/zones/{zone}/records", get(record_list))
        .route("/v1/zones/{zone}/records/{name}/{type}", get(record).patch(patch::patch_record))
        .route("/v1/zones/{zone}/names", get(name_list))
        .route("/v1/zones/{zone}/names/{name}", get(name).patch(patch::patch_name))
        .route("/v1/policies", get(policy_list))
        .route("/v1/policies/{zone}/{policy}", get(policy))
        .route("/v1/policies/{zone}/{policy}/children/{child}", routing::patch(patch::patch_child))
        .route("/v1/pools", get(pool_list))
        .route("/v1/pools/{zone}/{pool}", get(pool).patch(patch::patch_pool))
        .route("/v1/endpoints", get(endpoint_list))
        .route("/v1/endpoints/{zone}/{pool}/{endpoint}", get(endpoint).patch(patch::patch_endpoint))
        .route("/v1/regions", get(region_list))
        .route("/v1/regions/{region}", get(region).patch(patch::patch_region))
        .route("/v1/monitors", get(monitor_list))
        .route("/v1/health/{zone}/{pool}/{endpoint}", get(health))
}

/// Ids that are compared to find the one that was meant.
const MAX_COMPARED: usize = 10_000;

/// What all lists take. Filters that a list does not know are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    zone: Option<String>,
    pool: Option<String>,
    region: Option<String>,
    state: Option<String>,
    health: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    #[serde(rename = "type")]
    rtype: Option<String>,
    usable: Option<bool>,
    forced: Option<Forced>,
}

impl ListQuery {
    /// Fails if a filter is set that is none of `known`.
    fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let set = [
            ("zone", self.zone.is_some()),
            ("pool", self.pool.is_some()),
            ("region", self.region.is_some()),
            ("state", self.state.is_some()),
            ("health", self.health.is_some()),
            ("kind", self.kind.is_some()),
            ("name", self.name.is_some()),
            ("type", self.rtype.is_some()),
            ("usable", self.usable.is_some()),
            ("forced", self.forced.is_some()),
        ];
        match set.iter().find(|(name, is_set)| *is_set && !known.contains(name)) {
            Some((name, _)) => Err(Problem::invalid(
                name,
                format!("this list takes {}, limit and cursor", if known.is_empty() { "no filter".into() } else { known.join(", ") }),
            )),
            None => Ok(()),
        }
    }

    /// The last id of the page before; empty for the first page.
    fn after(&self) -> &str {
        self.cursor.as_deref().unwrap_or("")
    }

    /// One page of items in the order of their ids, as `{ name: […], "next": … }`.
    fn page<T: Serialize>(&self, name: &str, items: impl IntoIterator<Item = (String, T)>, headers: &HeaderMap) -> Result<Response, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::invalid("limit", format!("found {limit}, expected 1 to {MAX_PAGE}")));
        }
        let after = self.after();
        let mut rest = items.into_iter().filter(|(id, _)| after.is_empty() || id.as_str() > after);
        let page: Vec<(String, T)> = rest.by_ref().take(limit).collect();
        let mut body = json!({ name: page.iter().map(|(_, item)| item).collect::<Vec<_>>() });
        if rest.next().is_some() {
            body["next"] = page.last().map_or(Value::Null, |(id, _)| id.clone().into());
        }
        Ok(with_etag(&body, headers))
    }
}

/// True when there is no filter or it is `value`.
fn is(filter: Option<&str>, value: &str) -> bool {
    filter.is_none_or(|filter| filter == value)
}

/// True when there is no zone to look for or `id` is in it.
fn in_zone(filter: Option<&str>, id: &str) -> bool {
    filter.is_none_or(|zone| id.split_once('/').is_some_and(|(found, _)| found.eq_ignore_ascii_case(zone.strip_suffix('.').unwrap_or(zone))))
}

type ListParts = Result<Query<ListQuery>, QueryRejection>;

/// The JSON with its ETag: 64 bits of SHA-256, so that equal things have equal tags on every server. 304 to whoever has it.
fn with_etag(body: &impl Serialize, headers: &HeaderMap) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let tag = tag_of(&text);
    if headers.get(IF_NONE_MATCH).is_some_and(|wanted| names(wanted, &tag)) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    ([(ETAG, tag), (CONTENT_TYPE, "application/json".into())], text).into_response()
}

pub(super) fn tag_of(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    format!("\"{}\"", data_encoding::HEXLOWER.encode(&digest.as_ref()[..8]))
}

/// `*`, or a list with the tag in it; weak marks do not matter (RFC 9110 §13.1.2 compares weakly; for §13.1.1 we never send weak ones).
pub(super) fn names(header: &HeaderValue, tag: &str) -> bool {
    let Ok(text) = header.to_str() else { return false };
    text.trim() == "*" || text.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

#[utoipa::path(
    get,
    path = "/v1/zones",
    summary = "Zones",
    params(
        ("state" = Option<String>, Query, description = "serving, kept or failed"),
        ("name" = Option<String>, Query, description = "a part of it"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Zones))
)]
async fn zones(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["state", "name"])?;
    let zones = shared.handle.seen().await.zones().into_iter().filter(|zone| who.covers(&zone.name));
    let zones = zones.filter(|zone| is(query.state.as_deref(), &zone.state));
    let zones = zones.filter(|zone| query.name.as_deref().is_none_or(|name| zone.name.contains(name)));
    let zones: BTreeMap<String, ZoneStatus> = zones.map(|zone| (zone.name.trim_end_matches('.').to_owned(), zone)).collect();
    query.page("zones", zones, &headers)
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}",
    summary = "One zone",
    params(("zone" = String, Path, description = "name of the zone")),
    responses((status = 200, description = "done", body = ZoneStatus))
)]
async fn zone(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, Path(name): Path<String>) -> Result<Response, Problem> {
    let mut zones = shared.handle.seen().await.zones();
    zones.retain(|zone| who.covers(&zone.name));
    let wanted = audit::plain_target(&name);
    let found = zones.iter().find(|zone| zone.name.trim_end_matches('.') == wanted.as_str());
    let known = || zones.iter().map(|zone| zone.name.trim_end_matches('.').to_owned()).collect();
    found.map(|zone| with_etag(zone, &headers)).ok_or_else(|| missing("zone", &name, known()))
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/records",
    summary = "Record sets of a zone",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = Option<String>, Query, description = "relative to the zone"),
        ("type" = Option<String>, Query, description = "record type"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Records))
)]
async fn record_list(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path(zone): Path<String>,
    query: ListParts,
) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["name", "type"])?;
    let snapshot = shared.handle.snapshot(who);
    let zone = snapshot.zone(&zone).ok_or_else(|| missing("zone", &zone, snapshot.names()))?;
    let found = records(zone, |name, rtype| {
        is(query.name.as_deref(), name) && query.rtype.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&rtype.to_string()))
    });
    query.page("records", found, &headers)
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/names",
    summary = "Steered names of a zone",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Names))
)]
async fn name_list(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path(zone): Path<String>,
    query: ListParts,
) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&[])?;
    let snapshot = shared.handle.snapshot(who);
    let zone = snapshot.zone(&zone).ok_or_else(|| missing("zone", &zone, snapshot.names()))?;
    query.page("names", steered(zone), &headers)
}

#[utoipa::path(
    get,
    path = "/v1/policies",
    summary = "Policies",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<String>, Query, description = "exactly"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Policies))
)]
async fn policy_list(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["zone", "kind"])?;
    let mut found = shared.handle.snapshot(who).policies();
    found.retain(|id, policy| in_zone(query.zone.as_deref(), id) && is(query.kind.as_deref(), policy.kind));
    query.page("policies", found, &headers)
}

#[utoipa::path(
    get,
    path = "/v1/pools",
    summary = "Pools",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("region" = Option<String>, Query, description = "exactly"),
        ("health" = Option<String>, Query, description = "healthy, degraded or critical"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Pools))
)]
async fn pool_list(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["zone", "region", "health"])?;
    let region = |found: Option<&str>| query.region.as_deref().is_none_or(|region| found == Some(region));
    let snapshot = shared.handle.snapshot(who);
    let found = snapshot.pools(query.after(), |pool| in_zone(query.zone.as_deref(), &pool.id) && region(pool.region.as_deref()));
    query.page("pools", found.filter(|(_, pool)| is(query.health.as_deref(), pool.health)), &headers)
}

#[utoipa::path(
    get,
    path = "/v1/endpoints",
    summary = "Endpoints",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("pool" = Option<String>, Query, description = "exactly"),
        ("region" = Option<String>, Query, description = "exactly"),
        ("state" = Option<String>, Query, description = "exactly"),
        ("usable" = Option<bool>, Query, description = "exactly"),
        ("forced" = Option<Forced>, Query, description = "exactly"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Endpoints))
)]
async fn endpoint_list(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["zone", "pool", "region", "state", "usable", "forced"])?;
    let region = |found: Option<&str>| query.region.as_deref().is_none_or(|region| found == Some(region));
    let snapshot = shared.handle.snapshot(who);
    let found = snapshot.endpoints(query.after(), |pool, _| {
        in_zone(query.zone.as_deref(), &pool.id) && is(query.pool.as_deref(), &pool.id) && region(pool.region.as_deref())
    });
    let found = found.filter(|(_, endpoint)| {
        is(query.state.as_deref(), endpoint.state)
            && query.usable.is_none_or(|usable| usable == endpoint.usable)
            && query.forced.is_none_or(|forced| Some(forced) == endpoint.forced)
    });
    query.page("endpoints", found, &headers)
}

#[utoipa::path(
    get,
    path = "/v1/regions",
    summary = "Regions",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Regions))
)]
async fn region_list(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&[])?;
    query.page("regions", shared.handle.snapshot(who).regions(), &headers)
}

#[utoipa::path(
    get,
    path = "/v1/monitors",
    summary = "Monitors",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<String>, Query, description = "tcp, http or https"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses((status = 200, description = "done", body = Monitors))
)]
async fn monitor_list(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, query: ListParts) -> Result<Response, Problem> {
    let query = read_query(query)?;
    query.only(&["zone", "kind"])?;
    let mut found = shared.handle.snapshot(who).monitors();
    found.retain(|id, monitor| in_zone(query.zone.as_deref(), id) && is(query.kind.as_deref(), monitor.kind));
    query.page("monitors", found, &headers)
}

/// One thing that can be read and perhaps changed, by what its path says.
pub(super) enum Thing {
    Record(String, String, String),
    Name(String, String),
    Policy(String, String),
    Pool(String, String),
    Endpoint(String, String, String),
    Region(String),
}

impl Thing {
    /// As it is now.
    pub(super) fn read(&self, snapshot: &Snapshot) -> Result<Value, Problem> {
        match self {
            Thing::Record(zone, name, rtype) => {
                let found = snapshot.zone(zone).ok_or_else(|| missing("zone", zone, snapshot.names()))?;
                let mut sets = records(found, |other, of| other.eq_ignore_ascii_case(name) && of.to_string().eq_ignore_ascii_case(rtype));
                sets.pop_first().map(|(_, set)| json!(set)).ok_or_else(|| missing("record", &format!("{zone}/{name}/{rtype}"), Vec::new()))
            }
            Thing::Name(zone, name) => {
                let found = snapshot.zone(zone).ok_or_else(|| missing("zone", zone, snapshot.names()))?;
                pick("steered name", &format!("{}/{}", audit::plain_target(zone), name.to_ascii_lowercase()), &steered(found))
            }
            Thing::Policy(zone, policy) => pick("policy", &format!("{}/policy:{policy}", audit::plain_target(zone)), &snapshot.policies()),
            Thing::Pool(zone, pool) => {
                let id = format!("{}/{pool}", audit::plain_target(zone));
                let found = snapshot.pools("", |pool| *pool.id == *id).next();
                let known = || snapshot.pools("", |_| true).map(|(id, _)| id).take(MAX_COMPARED).collect();
                found.map(|(_, pool)| json!(pool)).ok_or_else(|| missing("pool", &id, known()))
            }
            Thing::Endpoint(zone, pool, endpoint) => {
                let id = format!("{}/{pool}/{endpoint}", audit::plain_target(zone));
                let found = snapshot.endpoints("", |_, endpoint| *endpoint.id == *id).next();
                found.map(|(_, endpoint)| json!(endpoint)).ok_or_else(|| missing("endpoint", &id, endpoint_ids(snapshot)))
            }
            Thing::Region(region) => pick("region", &format!("region:{region}"), &snapshot.regions()),
        }
    }
}

/// Endpoints among which the one that was meant may be.
fn endpoint_ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.endpoints("", |_, _| true).map(|(id, _)| id).take(MAX_COMPARED).collect()
}

fn pick<T: Serialize>(what: &str, id: &str, all: &BTreeMap<String, T>) -> Result<Value, Problem> {
    all.get(id).map(|found| json!(found)).ok_or_else(|| missing(what, id, all.keys().cloned().collect()))
}

fn missing(what: &str, name: &str, known: Vec<String>) -> Problem {
    let near = crate::config::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    Problem::not_found(&format!("{what} {name}"), near.into_iter().collect())
}

fn show(shared: &Shared, who: Who, headers: &HeaderMap, thing: &Thing) -> Result<Response, Problem> {
    Ok(with_etag(&thing.read(&shared.handle.snapshot(who))?, headers))
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/records/{name}/{type}",
    summary = "A record set",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = String, Path, description = "relative to the zone, @ for itself"),
        ("type" = String, Path, description = "record type"),
    ),
    responses((status = 200, description = "done", body = RecordSet))
)]
async fn record(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path((zone, name, rtype)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Record(zone, name, rtype))
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/names/{name}",
    summary = "A steered name",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = String, Path, description = "relative to the zone, @ for itself"),
    ),
    responses((status = 200, description = "done", body = SteeredResource))
)]
async fn name(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path((zone, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Name(zone, name))
}

#[utoipa::path(
    get,
    path = "/v1/policies/{zone}/{policy}",
    summary = "A policy",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("policy" = String, Path, description = "its name"),
    ),
    responses((status = 200, description = "done", body = PolicyResource))
)]
async fn policy(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path((zone, policy)): Path<(String, String)>,
) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Policy(zone, policy))
}

#[utoipa::path(
    get,
    path = "/v1/pools/{zone}/{pool}",
    summary = "A pool",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("pool" = String, Path, description = "its name"),
    ),
    responses((status = 200, description = "done", body = PoolResource))
)]
async fn pool(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path((zone, pool)): Path<(String, String)>,
) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Pool(zone, pool))
}

#[utoipa::path(
    get,
    path = "/v1/endpoints/{zone}/{pool}/{endpoint}",
    summary = "An endpoint",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("pool" = String, Path, description = "its name"),
        ("endpoint" = String, Path, description = "its address or CNAME target"),
    ),
    responses((status = 200, description = "done", body = EndpointResource))
)]
async fn endpoint(
    State(shared): App,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Path((zone, pool, endpoint)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Endpoint(zone, pool, endpoint))
}

#[utoipa::path(
    get,
    path = "/v1/regions/{region}",
    summary = "A region",
    params(("region" = String, Path, description = "its name")),
    responses((status = 200, description = "done", body = RegionResource))
)]
async fn region(State(shared): App, Extension(who): Extension<Who>, headers: HeaderMap, Path(region): Path<String>) -> Result<Response, Problem> {
    show(&shared, who, &headers, &Thing::Region(region))
}

/// An endpoint with all that its checks say, and what they said before: transitions that the audit log keeps, newest first.
#[utoipa::path(
    get,
    path = "/v1/health/{zone}/{pool}/{endpoint}",
    summary = "What checks of an endpoint say and said",
    params(
        ("zone" = String, Path, description = "name of the zone, or library"),
        ("pool" = String, Path, description = "its name"),
        ("endpoint" = String, Path, description = "its address or CNAME target"),
    ),
    responses((status = 200, description = "done", body = serde_json::Value))
)]
async fn health(
    State(shared): App,
    Extension(who): Extension<Who>,
    Path((zone, pool, endpoint)): Path<(String, String, String)>,
) -> Result<Json<Value>, Problem> {
    let id = format!("{}/{pool}/{endpoint}", audit::plain_target(&zone));
    let snapshot = shared.handle.snapshot(who.clone());
    let checks = snapshot.checks_of(&id).ok_or_else(|| missing("endpoint", &id, endpoint_ids(&snapshot)))?;
    let mut history = Vec::new();
    for check in &checks {
        let query = audit::Query { target: Some(check.clone()), kind: Some(audit::Kind::Health), limit: HISTORY, ..audit::Query::default() };
        history.extend(shared.handle.audit(query).await?.entries);
    }
    // After its history: what that tells is seen.
    let pools = shared.handle.seen().await.pools(|pool| id.strip_prefix(&*pool.id).is_some_and(|rest| rest.starts_with('/')));
    let now = pools.into_iter().flat_map(|pool| pool.endpoints).find(|endpoint| endpoint.id == id);
    history.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
    history.truncate(HISTORY);
    let step = |entry: audit::Entry| json!({ "at": entry.at, "check": entry.target, "from": entry.before, "to": entry.after, "why": entry.detail });
    Ok(Json(json!({ "endpoint": now, "checks": checks, "history": history.into_iter().map(step).collect::<Vec<_>>() })))
}
