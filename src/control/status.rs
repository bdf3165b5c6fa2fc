//! The status that `control` publishes.

use std::collections::BTreeMap;

use super::api::{CheckSpec, CheckTarget, EndpointStatus, PoolStatus, ZoneStatus};
use super::checks::{Check, Checks};
use super::state::{ZoneState, health_word};
use crate::dns::Name;
use crate::policy::model::{Endpoint, Monitor, MonitorKind, Target, ZoneModel};
use crate::policy::plan::{EndpointView, PoolView};

/// Every zone, in name order.
pub(super) fn zones(up: &BTreeMap<Name, ZoneState>, down: &BTreeMap<Name, String>) -> Vec<ZoneStatus> {
    let serving = up.iter().map(|(name, zone)| ZoneStatus {
        name: name.to_string(),
        file: zone.taken.loaded.declared_in.display().to_string(),
        serial: zone.serial,
        records: zone.taken.parts.tree.record_count(),
        steered: zone.model().steers.iter().map(|steer| steer.owner.to_string()).collect(),
        state: if zone.kept_why.is_some() { "kept" } else { "serving" }.into(),
        why: zone.kept_why.clone(),
        slot: zone.world.as_ref().map_or(0, |world| world.slot),
        queries: 0,
    });
    let failed = down.iter().map(|(name, why)| ZoneStatus {
        name: name.to_string(),
        file: String::new(),
        serial: 0,
        records: 0,
        steered: Vec::new(),
        state: "failed".into(),
        why: Some(why.clone()),
        slot: u32::MAX,
        queries: 0,
    });
    let mut all: Vec<ZoneStatus> = serving.chain(failed).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Every pool once, in id order.
pub(super) fn pools(zones: &BTreeMap<Name, ZoneState>, checks: &Checks) -> Vec<PoolStatus> {
    let mut pools: BTreeMap<String, PoolStatus> = BTreeMap::new();
    for zone in zones.values() {
        let Some(world) = &zone.world else { continue };
        for (at, pool) in zone.model().pools.iter().enumerate() {
            if pools.contains_key(&*pool.id) {
                continue;
            }
            let view: &PoolView = &world.view.pools[at];
            let usable = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
            let needed = pool.min_healthy.needed(pool.endpoints.len());
            let endpoints = pool
                .endpoints
                .iter()
                .zip(&view.endpoints)
                .zip(&zone.taken.parts.checks[at])
                .map(|((endpoint, seen), specs)| endpoint_status(zone.model(), endpoint, seen, specs, checks))
                .collect();
            pools.insert(
                pool.id.to_string(),
                PoolStatus {
                    id: pool.id.to_string(),
                    region: pool.region.clone(),
                    health: health_word(usable, pool.endpoints.len(), needed).into(),
                    usable,
                    needed,
                    endpoints,
                    slot: view.slot,
                    queries: 0,
                },
            );
        }
    }
    pools.into_values().collect()
}

fn endpoint_status(model: &ZoneModel, endpoint: &Endpoint, seen: &EndpointView, specs: &[CheckSpec], checks: &Checks) -> EndpointStatus {
    let known: Vec<&Check> = specs.iter().filter_map(|spec| checks.get(spec)).collect();
    EndpointStatus {
        id: endpoint.id.to_string(),
        target: match &endpoint.target {
            Target::Address(addr) => addr.to_string(),
            Target::Cname(name) => name.to_string(),
        },
        state: seen.state.word().into(),
        stale: known.iter().any(|check| check.stale),
        forced: seen.forced,
        usable: seen.is_usable(),
        weight: seen.weight,
        monitors: endpoint.monitors.iter().map(|ix| model.monitors[ix.0 as usize].name.clone()).collect(),
        since: known.iter().filter_map(|check| check.since_unix).max(),
        last_check: known.iter().filter_map(|check| check.last_check_unix).max(),
        last_ms: known.iter().filter_map(|check| check.last_ms).max(),
        next_check: known.iter().filter_map(|check| check.next_check_unix).min(),
        last_error: known.iter().find_map(|check| check.last_error.clone()),
        checks: known.iter().map(|check| check.ended).reduce(|sum, more| [sum[0] + more[0], sum[1] + more[1]]),
    }
}

/// A check in words: `https://app.example.com/healthz at 192.0.2.10:443`.
pub(super) fn describe(spec: &CheckSpec) -> String {
    let target = match &spec.target {
        CheckTarget::Address(addr) => std::net::SocketAddr::new(*addr, spec.monitor.port).to_string(),
        CheckTarget::Host(host) => format!("{host}:{}", spec.monitor.port),
    };
    describe_parts(&spec.monitor, &target)
}

/// The same from a monitor and where it connects to.
pub(super) fn describe_parts(monitor: &Monitor, target: &str) -> String {
    match &monitor.kind {
        MonitorKind::Tcp => format!("tcp at {target}"),
        MonitorKind::Http(check) => format!("http://{}{} at {target}", check.host, check.path),
        MonitorKind::Https { check, .. } => format!("https://{}{} at {target}", check.host, check.path),
    }
}
