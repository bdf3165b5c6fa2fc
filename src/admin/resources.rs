//! What is served, thing by thing: lists with filters and pages, and single things with an ETag.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, get};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::{Asked, By, Parts};
use super::body::{Nothing, json_or_empty};
use super::openapi::{Endpoints, Healths, Monitors, Names, Policies, Pools, Records, Regions, Zones};
use super::{Problem, Shared, patch};
use crate::control::Role;
use crate::control::api::{EndpointStatus, Forced, Refusal, Who, ZoneStatus};
use crate::control::audit;
use crate::control::reports::Reported;
use crate::control::resources::{
    EndpointResource, PolicyResource, PoolResource, RecordSet, RegionResource, Snapshot, SteeredResource, records, steered,
};
use crate::control::things::{MAX_COMPARED, Thing, endpoint_ids, missing, tag_of};
use crate::control::timeline::{AllCheckedNow, Checked};
use crate::dns::RecordType;

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
        .route("/v1/health", get(health_list))
        .route("/v1/health/{zone}/{pool}/{endpoint}", get(health))
        .route("/v1/health/{zone}/{pool}/{endpoint}/check", routing::post(check_now))
}

/// Which page of a list, for the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct PageOf {
    /// 1 to 1000; 100
    limit: Option<u32>,
    /// next of the page before
    cursor: Option<String>,
}

/// Where the things of a list are, for the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct In {
    /// exactly
    zone: Option<String>,
    /// exactly
    pool: Option<String>,
    /// exactly
    region: Option<String>,
}

/// The path of an endpoint, for the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)]
pub(super) struct OfEndpoint {
    /// name of the zone, or library
    zone: String,
    /// its name
    pool: String,
    /// its address or CNAME target
    endpoint: String,
}

/// What all lists take. What one of them does not is refused before it gets here.
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
    stale: Option<bool>,
    forced: Option<Forced>,
}

impl ListQuery {
    /// The last id of the page before; empty for the first page.
    fn after(&self) -> &str {
        self.cursor.as_deref().unwrap_or("")
    }

    /// One page of items in the order of their ids, as `{ name: […], "next": … }`.
    fn page<T: Serialize>(&self, name: &str, items: impl IntoIterator<Item = (String, T)>) -> Response {
        let after = self.after();
        self.page_behind(name, items.into_iter().filter(|(id, _)| after.is_empty() || id.as_str() > after))
    }

    /// The same of items that begin behind the cursor, in an order of their own.
    fn page_behind<T: Serialize>(&self, name: &str, items: impl Iterator<Item = (String, T)>) -> Response {
        let mut rest = items;
        let page: Vec<(String, T)> = rest.by_ref().take(self.limit.unwrap_or(DEFAULT_PAGE)).collect();
        let mut body = json!({ name: page.iter().map(|(_, item)| item).collect::<Vec<_>>() });
        if rest.next().is_some() {
            body["next"] = page.last().map_or(Value::Null, |(id, _)| id.clone().into());
        }
        with_etag(&body)
    }

    /// Fails when a filter names a zone, pool or region that is not there: an empty list would look as if there were nothing in it.
    fn names_exist(&self, snapshot: &Snapshot) -> Result<(), Problem> {
        let unknown = |field: &str, name: &str, known: Vec<String>| Err(Problem::from(missing(field, name, known)).field(field));
        match (&self.zone, &self.pool, &self.region) {
            (Some(zone), ..) if zone != "library" && snapshot.zone(zone).is_none() => unknown("zone", zone, snapshot.names()),
            (_, Some(pool), _) if snapshot.pools("", |found| *found.id == **pool).next().is_none() => unknown("pool", pool, pool_ids(snapshot)),
            (.., Some(region)) if !snapshot.region_names().contains(&**region) => {
                unknown("region", region, snapshot.region_names().into_iter().map(str::to_owned).collect())
            }
            _ => Ok(()),
        }
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

/// The JSON with its ETag: 64 bits of SHA-256, so that equal things have equal tags on every server.
pub(super) fn with_etag(body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let tag = tag_of(&text);
    ([(ETAG, tag), (CONTENT_TYPE, "application/json".into())], text).into_response()
}

#[utoipa::path(
    get,
    path = "/v1/zones",
    summary = "Zones",
    params(
        ("state" = Option<String>, Query, description = "serving, kept or failed"),
        ("name" = Option<String>, Query, description = "a part of it"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Zones))
)]
async fn zones(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let zones = shared.handle.seen().await.zones().into_iter().filter(|zone| who.covers(&zone.name));
    let zones = zones.filter(|zone| is(query.state.as_deref(), &zone.state));
    let zones = zones.filter(|zone| query.name.as_deref().is_none_or(|name| zone.name.contains(&name.to_ascii_lowercase())));
    let zones: BTreeMap<String, ZoneStatus> = zones.map(|zone| (zone.name.trim_end_matches('.').to_owned(), zone)).collect();
    Ok(query.page("zones", zones))
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}",
    summary = "One zone",
    params(("zone" = String, Path, description = "name of the zone")),
    responses((status = 200, description = "done", body = ZoneStatus))
)]
async fn zone(By { shared, who, .. }: By, Parts(name): Parts<String>) -> Result<Response, Problem> {
    let mut zones = shared.handle.seen().await.zones();
    zones.retain(|zone| who.covers(&zone.name));
    let wanted = audit::plain_target(&name);
    let found = zones.iter().find(|zone| zone.name.trim_end_matches('.') == wanted.as_str());
    let known = || zones.iter().map(|zone| zone.name.trim_end_matches('.').to_owned()).collect();
    found.map(with_etag).ok_or_else(|| missing("zone", &name, known()).into())
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/records",
    summary = "Record sets of a zone",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        ("name" = Option<String>, Query, description = "relative to the zone"),
        ("type" = Option<String>, Query, description = "record type"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Records))
)]
async fn record_list(By { shared, who, .. }: By, Parts(zone): Parts<String>, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let snapshot = shared.handle.snapshot(who);
    let rtype: Option<RecordType> = match query.rtype.as_deref().map(str::parse) {
        None => None,
        Some(Ok(rtype)) => Some(rtype),
        Some(Err(_)) => {
            let found = query.rtype.unwrap_or_default();
            return Err(Problem::invalid("type", format!("found {found:?}, expected a record type such as A, MX or TYPE65280")));
        }
    };
    // Right after a load the names of a large zone may not be in order yet.
    let page = tokio::task::spawn_blocking(move || {
        let zone = snapshot.zone(&zone).ok_or_else(|| missing("zone", &zone, snapshot.names()))?;
        let found = records(zone, query.name.as_deref(), rtype, query.after());
        Ok(query.page_behind("records", found))
    });
    page.await.unwrap_or_else(|_| Err(Problem::internal("the page could not be made")))
}

#[utoipa::path(
    get,
    path = "/v1/zones/{zone}/names",
    summary = "Steered names of a zone",
    params(
        ("zone" = String, Path, description = "name of the zone"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Names))
)]
async fn name_list(By { shared, who, .. }: By, Parts(zone): Parts<String>, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let snapshot = shared.handle.snapshot(who);
    let zone = snapshot.zone(&zone).ok_or_else(|| missing("zone", &zone, snapshot.names()))?;
    Ok(query.page("names", steered(zone)))
}

#[utoipa::path(
    get,
    path = "/v1/policies",
    summary = "Policies",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<String>, Query, description = "exactly"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Policies))
)]
async fn policy_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let snapshot = shared.handle.snapshot(who);
    query.names_exist(&snapshot)?;
    let mut found = snapshot.policies();
    found.retain(|id, policy| in_zone(query.zone.as_deref(), id) && is(query.kind.as_deref(), policy.kind));
    Ok(query.page("policies", found))
}

#[utoipa::path(
    get,
    path = "/v1/pools",
    summary = "Pools",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("region" = Option<String>, Query, description = "exactly"),
        ("health" = Option<String>, Query, description = "healthy, degraded or critical"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Pools))
)]
async fn pool_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let region = |found: Option<&str>| query.region.as_deref().is_none_or(|region| found == Some(region));
    let snapshot = shared.handle.snapshot(who);
    query.names_exist(&snapshot)?;
    let found = snapshot.pools(query.after(), |pool| in_zone(query.zone.as_deref(), &pool.id) && region(pool.region.as_deref()));
    let reports = shared.handle.reports();
    let found = found.map(|(id, pool)| {
        let endpoints = pool.endpoints.into_iter().map(|one| EndpointResource { reported: reports.of(&one.id), ..one }).collect();
        (id, PoolResource { reported: reports.of(&pool.id), endpoints, ..pool })
    });
    Ok(query.page("pools", found.filter(|(_, pool)| is(query.health.as_deref(), pool.health))))
}

#[utoipa::path(
    get,
    path = "/v1/endpoints",
    summary = "Endpoints",
    params(
        In,
        ("state" = Option<String>, Query, description = "exactly"),
        ("usable" = Option<bool>, Query, description = "exactly"),
        ("forced" = Option<Forced>, Query, description = "exactly"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Endpoints))
)]
async fn endpoint_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let query = ListQuery { pool: query.pool.as_deref().map(audit::plain_target), ..query };
    let region = |found: Option<&str>| query.region.as_deref().is_none_or(|region| found == Some(region));
    let snapshot = shared.handle.snapshot(who);
    query.names_exist(&snapshot)?;
    let found = snapshot.endpoints(query.after(), |pool, _| {
        in_zone(query.zone.as_deref(), &pool.id) && is(query.pool.as_deref(), &pool.id) && region(pool.region.as_deref())
    });
    let found = found.filter(|(_, endpoint)| {
        is(query.state.as_deref(), endpoint.state)
            && query.usable.is_none_or(|usable| usable == endpoint.usable)
            && query.forced.is_none_or(|forced| Some(forced) == endpoint.forced)
    });
    let reports = shared.handle.reports();
    let found = found.map(|(id, one)| (id, EndpointResource { reported: reports.of(&one.id), ..one }));
    Ok(query.page("endpoints", found))
}

#[utoipa::path(
    get,
    path = "/v1/regions",
    summary = "Regions",
    params(
        PageOf,
    ),
    responses((status = 200, description = "done", body = Regions))
)]
async fn region_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    Ok(query.page("regions", shared.handle.snapshot(who).regions()))
}

#[utoipa::path(
    get,
    path = "/v1/monitors",
    summary = "Monitors",
    params(
        ("zone" = Option<String>, Query, description = "exactly"),
        ("kind" = Option<String>, Query, description = "exactly"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Monitors))
)]
async fn monitor_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    let snapshot = shared.handle.snapshot(who);
    query.names_exist(&snapshot)?;
    let mut found = snapshot.monitors();
    found.retain(|id, monitor| in_zone(query.zone.as_deref(), id) && is(query.kind.as_deref(), monitor.kind));
    Ok(query.page("monitors", found))
}

fn show(shared: &Shared, who: Who, thing: &Thing) -> Result<Response, Problem> {
    Ok(with_etag(&thing.read(&shared.handle.snapshot(who))?))
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
async fn record(By { shared, who, .. }: By, Parts((zone, name, rtype)): Parts<(String, String, String)>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Record(zone, name, rtype))
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
async fn name(By { shared, who, .. }: By, Parts((zone, name)): Parts<(String, String)>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Name(zone, name))
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
async fn policy(By { shared, who, .. }: By, Parts((zone, policy)): Parts<(String, String)>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Policy(zone, policy))
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
async fn pool(By { shared, who, .. }: By, Parts((zone, pool)): Parts<(String, String)>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Pool(zone, pool))
}

#[utoipa::path(
    get,
    path = "/v1/endpoints/{zone}/{pool}/{endpoint}",
    summary = "An endpoint",
    params(OfEndpoint),
    responses((status = 200, description = "done", body = EndpointResource))
)]
async fn endpoint(By { shared, who, .. }: By, Parts((zone, pool, endpoint)): Parts<(String, String, String)>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Endpoint(zone, pool, endpoint))
}

#[utoipa::path(
    get,
    path = "/v1/regions/{region}",
    summary = "A region",
    params(("region" = String, Path, description = "its name")),
    responses((status = 200, description = "done", body = RegionResource))
)]
async fn region(By { shared, who, .. }: By, Parts(region): Parts<String>) -> Result<Response, Problem> {
    show(&shared, who, &Thing::Region(region))
}

/// Endpoints with all that their checks say now.
#[utoipa::path(
    get,
    path = "/v1/health",
    summary = "What checks of endpoints say",
    params(
        In,
        ("state" = Option<String>, Query, description = "exactly"),
        ("usable" = Option<bool>, Query, description = "exactly"),
        ("stale" = Option<bool>, Query, description = "exactly"),
        PageOf,
    ),
    responses((status = 200, description = "done", body = Healths))
)]
async fn health_list(By { shared, who, .. }: By, Asked(query): Asked<ListQuery>) -> Result<Response, Problem> {
    query.names_exist(&shared.handle.snapshot(who.clone()))?;
    let seen = shared.handle.seen().await;
    let found = seen.health(query.after(), |pool, endpoint| {
        who.covers(&pool.id)
            && in_zone(query.zone.as_deref(), &pool.id)
            && is(query.pool.as_deref(), &pool.id)
            && query.region.as_deref().is_none_or(|region| pool.region.as_deref() == Some(region))
            && is(query.state.as_deref(), endpoint.state.word())
            && query.usable.is_none_or(|usable| usable == endpoint.is_usable())
    });
    Ok(query.page("endpoints", found.filter(|(_, one)| query.stale.is_none_or(|stale| stale == one.endpoint.stale))))
}

/// An endpoint with all that its checks say, and what they said before: transitions that the audit log keeps, newest first.
#[utoipa::path(
    get,
    path = "/v1/health/{zone}/{pool}/{endpoint}",
    summary = "What checks of an endpoint say and said",
    params(OfEndpoint),
    responses((status = 200, description = "done", body = Health))
)]
async fn health(By { shared, who, .. }: By, Parts((zone, pool, endpoint)): Parts<(String, String, String)>) -> Result<Response, Problem> {
    let id = format!("{}/{pool}/{}", audit::plain_target(&zone), audit::plain_address(&endpoint));
    let snapshot = shared.handle.snapshot(who.clone());
    let checks = snapshot.checks_of(&id).ok_or_else(|| missing("endpoint", &id, endpoint_ids(&snapshot)))?;
    let (used_by, used_by_count) = snapshot.users_of(&id);
    let known = shared.handle.endpoint_checks(id.clone()).await?.unwrap_or_default();
    // Of a check that very many share, some are told of; who may not see those is told how it is.
    let told_by = known.told_by.as_ref();
    let told_of = told_by.map(|(one, _)| one.to_string()).filter(|one| snapshot.checks_of(one).is_some());
    let target = told_of.clone().unwrap_or_else(|| id.clone());
    let query = audit::Query { target: Some(target), kind: Some(audit::Kind::Health), limit: HISTORY, ..audit::Query::default() };
    // What its checks say now does not depend on what is kept.
    let (history, incomplete) = match shared.handle.audit(query).await {
        Ok(page) => (page.entries, page.incomplete),
        Err(Refusal::Unread { detail } | Refusal::Stalled { detail }) => (Vec::new(), Some(detail)),
        Err(refusal) => return Err(refusal.into()),
    };
    // After its history: what that tells is seen.
    let pools = shared.handle.seen().await.pools(|pool| id.strip_prefix(&*pool.id).is_some_and(|rest| rest.starts_with('/')));
    let pool_reported = pools.first().and_then(|pool| pool.reported.clone());
    let now = pools.into_iter().flat_map(|pool| pool.endpoints).find(|endpoint| endpoint.id == id);
    let recent = shared.handle.endpoint_checks(id).await?.map(|checks| checks.recent).unwrap_or_default();
    let history = history.into_iter().filter_map(Step::of).collect();
    let (history_of, check_shared_by, history_incomplete) = (told_of, told_by.map(|(_, count)| *count), incomplete);
    let health =
        Health { endpoint: now, checks, used_by, used_by_count, recent, history, history_of, check_shared_by, pool_reported, history_incomplete };
    Ok(with_etag(&health))
}

/// An endpoint, what its checks say, and what they said.
#[derive(Serialize, utoipa::ToSchema)]
struct Health {
    /// As it is now; null where its zone is not served at this moment.
    endpoint: Option<EndpointStatus>,
    /// Its checks, as they are called there.
    checks: Vec<String>,
    /// Steered names whose answers may come from it; the first hundred.
    used_by: Vec<String>,
    /// All of them.
    used_by_count: usize,
    /// The last runs of each check since the start, newest first.
    recent: Vec<Checked>,
    /// Transitions that the audit log keeps, newest first.
    history: Vec<Step>,
    /// The endpoint of which these are told in its place: too many share the check for each to be told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_of: Option<String>,
    /// How many share it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_shared_by: Option<usize>,
    /// What its pool was reported to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_reported: Option<Reported>,
    /// Why transitions may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_incomplete: Option<String>,
}

/// One transition.
#[derive(Serialize, utoipa::ToSchema)]
struct Step {
    /// Unix seconds.
    at: u64,
    /// `endpoint`, or `monitor` for one of the monitors that make up its state.
    of: &'static str,
    /// What was checked.
    check: String,
    /// The state before.
    from: Value,
    /// The state after.
    to: Value,
    /// Why, in words.
    why: Option<String>,
    /// Which monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
}

impl Step {
    fn of(entry: audit::Entry) -> Option<Step> {
        let of = if entry.action == "health.monitor" { "monitor" } else { "endpoint" };
        let (at, why, monitor) = (entry.at, entry.detail, entry.monitor);
        Some(Step { at, of, check: entry.check?, from: entry.before, to: entry.after, why, monitor })
    }
}

/// Runs every check of an endpoint once, now, beside those that are due, and says what each part of it took. Changes no state.
#[utoipa::path(
    post,
    path = "/v1/health/{zone}/{pool}/{endpoint}/check",
    summary = "Check an endpoint now",
    params(OfEndpoint),
    responses((status = 200, description = "done", body = AllCheckedNow))
)]
async fn check_now(
    By { shared, who, .. }: By,
    Parts((zone, pool, endpoint)): Parts<(String, String, String)>,
    request: Request,
) -> Result<axum::Json<AllCheckedNow>, Problem> {
    let id = format!("{}/{pool}/{}", audit::plain_target(&zone), audit::plain_address(&endpoint));
    let Nothing {} = json_or_empty(&shared, request).await?;
    who.needs(Role::Operate)?;
    let snapshot = shared.handle.snapshot(who);
    if snapshot.checks_of(&id).is_none() {
        return Err(missing("endpoint", &id, endpoint_ids(&snapshot)).into());
    }
    Ok(axum::Json(shared.handle.check_now(id).await?.unwrap_or_default()))
}

/// Pools among which the one that was meant may be.
fn pool_ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.pools("", |_| true).map(|(id, _)| id).take(MAX_COMPARED).collect()
}
