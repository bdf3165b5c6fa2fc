//! The status that `control` publishes. The writer hands out what it knows as it stands, mostly by reference; whoever asked writes it down, so that
//! a page about 100,000 endpoints delays no change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::api::{CheckSpec, CheckTarget, EndpointStatus, PoolStatus, Status, ZoneStatus};
use super::checks::CheckSeen;
use super::compile::ZoneParts;
use super::state::{ZoneState, health_word};
use crate::dns::Name;
use crate::policy::model::{Endpoint, Monitor, MonitorKind, Pool, Target, ZoneModel};
use crate::policy::plan::{EndpointView, PoolView};
use crate::world::ZoneWorld;

/// All that there is to know at one moment.
#[derive(Debug, Default)]
pub struct Seen {
    /// What is no zone's and no pool's.
    pub(super) rest: Status,
    pub(super) zones: Vec<ZoneSeen>,
    pub(super) down: Vec<(Name, String)>,
    pub(super) checks: HashMap<Arc<CheckSpec>, CheckSeen>,
}

/// One zone in service.
#[derive(Debug)]
pub(super) struct ZoneSeen {
    file: String,
    serial: u32,
    why: Option<String>,
    parts: Arc<ZoneParts>,
    world: Option<Arc<ZoneWorld>>,
}

impl ZoneSeen {
    pub(super) fn of(zone: &ZoneState) -> ZoneSeen {
        ZoneSeen {
            file: zone.taken.loaded.declared_in.display().to_string(),
            serial: zone.serial,
            why: zone.kept_why.clone(),
            parts: zone.taken.parts.clone(),
            world: zone.world.clone(),
        }
    }
}

impl From<Status> for Seen {
    fn from(rest: Status) -> Seen {
        Seen { rest, ..Seen::default() }
    }
}

impl Seen {
    /// Writes it down.
    pub fn status(mut self) -> Status {
        let (zones, pools) = (self.zones(), self.pools(|_| true));
        let mut status = std::mem::take(&mut self.rest);
        status.zones = zones;
        status.pools.extend(pools);
        status
    }

    /// Every zone, in name order.
    pub fn zones(&self) -> Vec<ZoneStatus> {
        let serving = self.zones.iter().map(|zone| ZoneStatus {
            name: zone.parts.model.name.to_string(),
            file: zone.file.clone(),
            serial: zone.serial,
            records: zone.parts.tree.record_count(),
            steered: zone.parts.model.steers.iter().map(|steer| steer.owner.to_string()).collect(),
            state: if zone.why.is_some() { "kept" } else { "serving" }.into(),
            why: zone.why.clone(),
            slot: zone.world.as_ref().map_or(0, |world| world.slot),
            queries: 0,
        });
        let failed = self.down.iter().map(|(name, why)| ZoneStatus {
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
        let mut all: Vec<ZoneStatus> = serving.chain(failed).chain(self.rest.zones.iter().cloned()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Every pool that `keep` leaves once, in id order.
    pub fn pools(&self, keep: impl Fn(&Pool) -> bool) -> Vec<PoolStatus> {
        let mut pools: BTreeMap<&str, PoolStatus> = BTreeMap::new();
        for zone in &self.zones {
            let Some(world) = &zone.world else { continue };
            for (at, pool) in zone.parts.model.pools.iter().enumerate() {
                if !keep(pool) || pools.contains_key(&*pool.id) {
                    continue;
                }
                let view: &PoolView = &world.view.pools[at];
                let usable = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
                let needed = pool.min_healthy.needed(pool.endpoints.len());
                let endpoints = pool
                    .endpoints
                    .iter()
                    .zip(&view.endpoints)
                    .zip(&zone.parts.checks[at])
                    .map(|((endpoint, seen), specs)| self.endpoint(&zone.parts.model, endpoint, seen, specs))
                    .collect();
                pools.insert(
                    &pool.id,
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

    fn endpoint(&self, model: &ZoneModel, endpoint: &Endpoint, seen: &EndpointView, specs: &[CheckSpec]) -> EndpointStatus {
        let known: Vec<&CheckSeen> = specs.iter().filter_map(|spec| self.checks.get(spec)).collect();
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
