//! From checked definitions to what a zone is answered from, health apart: tree, class maps, classes. Long work; runs on a worker thread.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::api::{CheckSpec, CheckTarget};
pub use super::loaded::Ids;
pub use super::maps::SharedMaps;
use crate::dns::{Name, RecordType};
use crate::geo::classmap::{ClassMap, ClassMapError, Clip};
use crate::geo::latency::RttTable;
use crate::geo::table::{Facts, Table};
use crate::health::{Thresholds, Watch};
use crate::policy::model::{Child, Endpoint, Monitor, MonitorIx, MonitorKind, Pool, ShareCheck, ShareRule, Steer, Target, ZoneModel};
use crate::policy::resolve::{self, Class, Client};
use crate::world::SteeredName;
use crate::zone::tree::ZoneTree;

/// What geography and latency the maps are made from.
#[derive(Debug)]
pub struct GeoSources {
    /// All databases, overlaid.
    pub table: Table,
    /// The latency table.
    pub rtt: Option<RttTable>,
    /// `ecs.clip`.
    pub clip: Option<Clip>,
}

impl GeoSources {
    /// No database, no latency table.
    pub fn empty() -> GeoSources {
        GeoSources { table: Table::empty(), rtt: None, clip: None }
    }
}

/// One zone, compiled.
#[derive(Debug)]
pub struct ZoneParts {
    /// The definitions it was made from.
    pub model: Arc<ZoneModel>,
    /// Static data.
    pub tree: Arc<ZoneTree>,
    /// Indexed like the model's steered names.
    pub steered: Arc<[SteeredName]>,
    /// What the steered names point to.
    pub roots: Vec<Root>,
    /// Per pool and endpoint, in the model's order: the checks that must all pass.
    pub checks: Vec<Vec<Vec<CheckSpec>>>,
    /// Where ids and names lead.
    pub ids: Ids,
}

/// A policy tree with its TTL, as several steered names may share it.
#[derive(Clone, Debug)]
pub struct Root {
    /// One of the steered names that use it; they are alike in everything that a plan depends on.
    pub steer: usize,
    /// All steered names that use it.
    pub steers: Vec<usize>,
    /// Address → class.
    pub map: Arc<ClassMap>,
    /// Indexed by class.
    pub classes: Arc<[Class]>,
    /// Indexed by class.
    pub sticky: Arc<[(u8, u8)]>,
}

/// Why a zone cannot be compiled.
#[derive(Debug)]
pub enum CompileError {
    /// The class map of a steered name.
    Map {
        /// Its owner.
        name: Name,
        /// What is wrong.
        error: ClassMapError,
    },
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompileError::Map { name, error } => write!(f, "steered name {name}: {error}"),
        }
    }
}

/// Compiles one zone around its tree.
pub fn compile(model: &Arc<ZoneModel>, tree: Arc<ZoneTree>, geo: &GeoSources, shared: &mut SharedMaps) -> Result<ZoneParts, CompileError> {
    let mut roots: Vec<Root> = Vec::new();
    // Positions in `roots`: by all that a plan depends on, and by what the classes depend on.
    let (mut known, mut alike) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
    let mut steered = Vec::with_capacity(model.steers.len());
    for (at, steer) in model.steers.iter().enumerate() {
        let same = known.get(&plan_key(steer)).copied();
        let steering = match same {
            Some(found) => {
                roots[found].steers.push(at);
                found
            }
            None => {
                // Names that differ in TTL alone still have the same classes.
                let root = match alike.get(&steer.root) {
                    Some(like) => Root { steer: at, steers: vec![at], ..roots[*like].clone() },
                    None => compile_root(model, at, geo, shared)?,
                };
                roots.push(root);
                known.insert(plan_key(steer), roots.len() - 1);
                alike.entry(steer.root).or_insert(roots.len() - 1);
                roots.len() - 1
            }
        };
        let https = steer.https.as_ref().filter(|https| https.has_hints).map(|https| https.rdata.as_slice().into());
        steered.push(SteeredName { steering: steering as u32, types: types_below(model, steer), is_cname: steer.is_cname, https });
    }
    let checks = model.pools.iter().map(|pool| endpoint_checks(model, pool)).collect();
    Ok(ZoneParts { model: model.clone(), tree, steered: steered.into(), roots, checks, ids: Ids::of(model) })
}

/// Everything that a plan depends on but the owner.
fn plan_key(steer: &Steer) -> impl Eq + Hash + use<> {
    (steer.root, steer.ttl, steer.all_down, steer.answers, steer.is_cname)
}

fn compile_root(model: &Arc<ZoneModel>, at: usize, geo: &GeoSources, shared: &mut SharedMaps) -> Result<Root, CompileError> {
    let steer = &model.steers[at];
    let (map, classes) = if resolve::depends_on_client(model, steer.root) {
        let shaped = shared.shaped(model, steer.root, geo).map_err(|error| CompileError::Map { name: steer.owner.clone(), error })?;
        (shaped.map.clone(), shaped.classes(model, steer.root, geo))
    } else {
        let facts = Facts::default();
        let class = resolve::resolve(model, steer.root, Client { facts: &facts, net: None, rtt: geo.rtt.as_ref() }, &mut |_| {});
        (shared.share(ClassMap::uniform(0)), vec![class])
    };
    let sticky = classes.iter().map(|class| class.step.sticky_bits(model)).collect();
    Ok(Root { steer: at, steers: vec![at], map, classes: classes.into(), sticky })
}

/// Types that some pool below a steered name has by configuration.
fn types_below(model: &ZoneModel, steer: &Steer) -> Vec<RecordType> {
    let mut pools = model.pools_below(steer.root);
    let of_rules = all_down_pools(model, steer);
    pools.extend(of_rules.into_iter().filter_map(|child| match child {
        Child::Pool(ix) => Some(ix),
        Child::Policy(_) => None,
    }));
    let mut types = BTreeMap::new();
    for ix in pools {
        let pool = model.pool(ix);
        for endpoint in &pool.endpoints {
            match &endpoint.target {
                Target::Address(addr) if addr.is_ipv4() => types.insert(RecordType::A, ()),
                Target::Address(_) => types.insert(RecordType::AAAA, ()),
                Target::Cname(_) => types.insert(RecordType::CNAME, ()),
            };
        }
        types.extend(pool.records.keys().map(|rtype| (*rtype, ())));
    }
    if steer.https.as_ref().is_some_and(|https| https.has_hints) {
        types.insert(RecordType::HTTPS, ());
    }
    types.into_keys().collect()
}

/// Pools that `all_down` of the steered name or of its own rules may come to.
fn all_down_pools(model: &ZoneModel, steer: &Steer) -> Vec<Child> {
    use crate::policy::model::{AllDown, PolicyKind};
    let mut found = vec![steer.all_down];
    if let Child::Policy(ix) = steer.root
        && let PolicyKind::Geo { rules, .. } = &model.policy(ix).kind
    {
        found.extend(rules.iter().filter_map(|rule| rule.all_down));
    }
    found
        .into_iter()
        .filter_map(|all_down| match all_down {
            AllDown::Pool(ix) => Some(Child::Pool(ix)),
            _ => None,
        })
        .collect()
}

/// Where a check of an endpoint goes.
fn target_of(monitor: &Monitor, endpoint: &Endpoint) -> CheckTarget {
    match &endpoint.target {
        _ if monitor.kind.is_reported() => CheckTarget::Endpoint(endpoint.id.clone()),
        // One query that is the same for all endpoints is asked once.
        _ if let MonitorKind::Prometheus(check) = &monitor.kind
            && !check.is_of_endpoint() =>
        {
            CheckTarget::Host(check.host.clone())
        }
        // A query is about the address that is handed out, wherever others connect to.
        _ if let Some(addr) = endpoint.check_address
            && !matches!(monitor.kind, MonitorKind::Prometheus(_)) =>
        {
            match &endpoint.target {
                Target::Address(own) if *own != addr && names_an_address(&monitor.kind) => CheckTarget::Behind { own: *own, at: addr },
                _ => CheckTarget::Address(addr),
            }
        }
        target => answered(target),
    }
}

/// What it asks a certificate for is an address: then it is the endpoint's own.
fn names_an_address(kind: &MonitorKind) -> bool {
    let host = match kind {
        MonitorKind::Https { check, .. } => Some(&check.host),
        MonitorKind::Tcp(check) => check.tls.as_ref().map(|named| &named.host),
        MonitorKind::Grpc(check) => check.tls.as_ref().map(|_| &check.host),
        _ => None,
    };
    host.is_some_and(|host| host.parse::<std::net::IpAddr>().is_ok())
}

/// What is handed out, as the place that a check is about.
pub(super) fn answered(target: &Target) -> CheckTarget {
    match target {
        Target::Address(addr) => CheckTarget::Address(*addr),
        Target::Cname(name) => CheckTarget::Host(name.to_string().trim_end_matches('.').to_string()),
    }
}

fn endpoint_checks(model: &ZoneModel, pool: &Pool) -> Vec<Vec<CheckSpec>> {
    pool.endpoints.iter().map(|endpoint| checks_of(model, pool, endpoint)).collect()
}

/// The checks of an endpoint: of its monitors in their order, then of what callers report.
pub(super) fn checks_of(model: &ZoneModel, pool: &Pool, endpoint: &Endpoint) -> Vec<CheckSpec> {
    let spec = |ix: &MonitorIx| {
        let monitor = &model.monitors[ix.0 as usize];
        CheckSpec { target: target_of(monitor, endpoint), monitor: Monitor { name: String::new(), ..monitor.clone() } }
    };
    let asked = endpoint.monitors.iter().map(spec);
    asked.chain(pool.signals.map(|rule| share_check(pool, endpoint, rule))).collect()
}

/// What waits for shares of successes of an endpoint.
fn share_check(pool: &Pool, endpoint: &Endpoint, rule: ShareRule) -> CheckSpec {
    let region = pool.region.as_ref().map(|region| format!("region:{region}").into());
    let of = [endpoint.id.clone(), pool.id.clone()].into_iter().chain(region).collect();
    // A share changes slowly by itself: there is nothing to count.
    let thresholds = Thresholds { interval: rule.window, fast: rule.window, fall: 1, rise: 1 };
    let kind = MonitorKind::Share(ShareCheck { of, rule });
    let monitor = Monitor { name: String::new(), kind, port: 0, thresholds, timeout: rule.window, source: Vec::new(), watch: Watch::default() };
    CheckSpec { target: CheckTarget::Endpoint(endpoint.id.clone()), monitor }
}
