//! Pools and monitors of one zone: regions and monitors looked up, hosts derived from the names that reach a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{CheckKind, MonitorKeys, PoolKeys, RawEndpoint, Ref};
use super::resolve::{Item, Resolver};
use super::source::{Located, Spot};
use super::values::duration_words;
use crate::health::Thresholds;
use crate::policy::model::{
    AllDown, Child, Endpoint, HttpCheck, MinHealthy, Monitor, MonitorIx, MonitorKind, PolicyKind, Pool, PoolIx, Target, ZoneModel,
};

/// Time between checks.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which a check has failed; the interval, if that is shorter.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between checks while suspect; the interval, if that is shorter.
pub(super) const DEFAULT_FAST: Duration = Duration::from_secs(2);
/// Failures, or successes, in a row that change a state.
pub(super) const DEFAULT_IN_A_ROW: u8 = 3;
/// Accepted status codes.
pub(super) const DEFAULT_STATUS: (u16, u16) = (200, 299);
/// Addresses of one family in an answer.
pub(super) const DEFAULT_ANSWERS: u8 = 8;
/// The first word of the ids of library items.
pub(super) const LIBRARY: &str = "library";

/// Pools without their monitors, in index order.
pub(super) fn pools(resolver: &Resolver<'_>, label: &str) -> Vec<Pool> {
    resolver.pools.iter().map(|item| pool(resolver, *item, label)).collect()
}

fn subject_of(item: Item<'_, PoolKeys>) -> Vec<String> {
    vec![format!("pool {:?}", item.def.name)]
}

fn pool(resolver: &Resolver<'_>, item: Item<'_, PoolKeys>, label: &str) -> Pool {
    let keys = &item.def.keys;
    let mut location = keys.location;
    if let Some(region) = &keys.region {
        match resolver.regions.get(region.value.as_str()) {
            Some(found) => location = location.or(found.value.location),
            None if resolver.is_forgiving() => {}
            None => {
                let mut subject = subject_of(item);
                subject.push("region".into());
                let hint = resolver.hint(&region.value, resolver.regions.keys().copied());
                resolver.sink.error(
                    &region.at,
                    &subject,
                    format!("found {:?}, but there is no such region{hint}; declare it in [region]", region.value),
                );
            }
        }
    }
    let id: Arc<str> = format!("{}/{}", if item.in_library { LIBRARY } else { label }, item.def.name).into();
    let endpoints = keys.endpoints.iter().map(|endpoint| plain_endpoint(endpoint, &id)).collect();
    Pool {
        name: item.def.name.clone(),
        region: keys.region.as_ref().map(|region| region.value.clone()),
        location,
        endpoints,
        is_cname: keys.is_cname,
        min_healthy: keys.min_healthy.unwrap_or(MinHealthy::Count(1)),
        answers: keys.answers.unwrap_or(DEFAULT_ANSWERS),
        capacity: keys.capacity,
        records: keys.records.clone(),
        line: item.def.at.line,
        id,
    }
}

fn plain_endpoint(raw: &RawEndpoint, pool_id: &str) -> Endpoint {
    let text = match &raw.target {
        Target::Address(address) => address.to_string(),
        Target::Cname(name) => name.to_string().trim_end_matches('.').to_lowercase(),
    };
    Endpoint { id: format!("{pool_id}/{text}").into(), name: raw.name.clone(), target: raw.target.clone(), weight: raw.weight, monitors: Vec::new() }
}

/// The pools that each steered name can come to, by position in `steers`.
pub(super) fn reach(model: &ZoneModel) -> Vec<Vec<PoolIx>> {
    let from = |steer: &crate::policy::model::Steer| {
        let mut pools = model.pools_below(steer.root);
        if let AllDown::Pool(ix) = steer.all_down {
            pools.push(ix);
        }
        for policy in policies_below(model, steer.root) {
            if let PolicyKind::Geo { rules, .. } = &model.policies[policy].kind {
                pools.extend(rules.iter().filter_map(|rule| match rule.all_down {
                    Some(AllDown::Pool(ix)) => Some(ix),
                    _ => None,
                }));
            }
        }
        let mut seen = BTreeSet::new();
        pools.retain(|ix| seen.insert(*ix));
        pools
    };
    model.steers.iter().map(from).collect()
}

/// Positions of all policies at and below `child`.
pub(super) fn policies_below(model: &ZoneModel, child: Child) -> Vec<usize> {
    let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![child]);
    while let Some(child) = open.pop() {
        let Child::Policy(ix) = child else { continue };
        let ix = ix.0 as usize;
        if ix < model.policies.len() && seen.insert(ix) {
            found.push(ix);
            open.extend(model.policies[ix].kind.children());
        }
    }
    found
}

/// What [`attach`] found out.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) monitors: Vec<Monitor>,
    /// Files of certificate authorities, and who names them.
    pub(super) ca_files: Vec<(String, Located<PathBuf>)>,
    /// Names of the monitors in use.
    pub(super) used: BTreeSet<String>,
}

/// Makes the monitors that the pools use and puts their indexes into the endpoints. A monitor without a host becomes one per host.
/// `steering_sound` is false when the reach is not to be trusted because a policy has errors.
pub(super) fn attach(resolver: &mut Resolver<'_>, model: &mut ZoneModel, reach: &[Vec<PoolIx>], steering_sound: bool) -> Attached {
    let mut out = Attached::default();
    let mut made: BTreeMap<(String, Option<String>), MonitorIx> = BTreeMap::new();
    let mut steers: Vec<Vec<u32>> = vec![Vec::new(); resolver.pools.len()];
    for (steer, pools) in reach.iter().enumerate() {
        pools.iter().for_each(|ix| steers[ix.0 as usize].push(steer as u32));
    }
    for (at, steers) in steers.into_iter().enumerate() {
        let item = resolver.pools[at];
        let owner = |steer: u32| model.steers[steer as usize].owner.to_string().trim_end_matches('.').to_string();
        let host = Hosts { pool: item.def.name.clone(), owners: steers.into_iter().map(owner).collect(), steering_sound };
        for (number, endpoint) in item.def.keys.endpoints.iter().enumerate() {
            let names = endpoint.monitors.as_ref().unwrap_or(&item.def.keys.monitors);
            let all = names.iter().filter_map(|name| one(resolver, item, name, &host, &mut made, &mut out)).collect();
            model.pools[at].endpoints[number].monitors = all;
        }
        if item.def.keys.endpoints.is_empty() && !item.def.keys.monitors.is_empty() {
            let mut subject = subject_of(item);
            subject.push("monitor".into());
            resolver.sink.error(&item.def.keys.monitors[0].at, &subject, "the pool has no endpoints, so there is nothing to check");
        }
    }
    out
}

/// Where a monitor without a host takes it from.
struct Hosts {
    pool: String,
    owners: Vec<String>,
    steering_sound: bool,
}

impl Hosts {
    fn only(&self) -> Result<String, String> {
        let names: Vec<&String> = self.owners.iter().filter(|owner| !owner.starts_with("*.")).collect();
        let pool = &self.pool;
        match names.as_slice() {
            [one] => Ok((*one).clone()),
            [] if self.owners.is_empty() => {
                Err(format!("host is missing, and no steered name reaches pool {pool:?} to take it from; write host = \"…\""))
            }
            [] => Err(format!("host is missing, and only a wildcard ({}) reaches pool {pool:?}; write host = \"…\"", self.owners.join(", "))),
            several => {
                let list: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Err(format!(
                    "host is missing, and several steered names reach pool {pool:?} ({}); write host = {:?} or the like",
                    list.join(", "),
                    several[0]
                ))
            }
        }
    }
}

fn one(
    resolver: &mut Resolver<'_>,
    pool: Item<'_, PoolKeys>,
    name: &Ref,
    hosts: &Hosts,
    made: &mut BTreeMap<(String, Option<String>), MonitorIx>,
    out: &mut Attached,
) -> Option<MonitorIx> {
    let mut subject = subject_of(pool);
    subject.push("monitor".into());
    let Some(monitor) = resolver.monitors.get(name.value.as_str()).copied() else {
        if !resolver.is_forgiving() {
            let hint = resolver.hint(&name.value, resolver.monitors.keys().copied());
            resolver.sink.error(
                &name.at,
                &subject,
                format!(
                    "found {:?}, but {} monitor{hint}",
                    name.value,
                    if resolver.only_libraries { "no library has such a" } else { "there is no such" }
                ),
            );
        }
        return None;
    };
    if pool.in_library && !monitor.in_library {
        // That no library has it is said when the libraries are checked.
        resolver.unsound.push((subject[0].clone(), name.at.clone()));
        return None;
    }
    if out.used.insert(name.value.clone()) {
        resolver.note_unsound(monitor.def.sound, &format!("monitor {:?}", name.value), &monitor.def.at);
    }
    let keys = monitor.def.keys.over(resolver.monitor_defaults(monitor.in_library));
    let own_subject = [format!("monitor {:?}", monitor.def.name)];
    let Some(kind) = keys.kind.clone() else {
        resolver.unsound.push((own_subject[0].clone(), monitor.def.at.clone()));
        return None;
    };
    let host = match (&kind, &keys.host) {
        (CheckKind::Tcp, _) => None,
        (_, Some(host)) => Some(host.clone()),
        (_, None) => match hosts.only() {
            Ok(host) => Some(host),
            Err(text) => {
                if hosts.steering_sound && monitor.def.sound {
                    resolver.sink.error(&monitor.def.at, &own_subject, text);
                }
                return None;
            }
        },
    };
    let key = (name.value.clone(), host.clone());
    if let Some(ix) = made.get(&key) {
        return Some(*ix);
    }
    let Some(built) = build(&monitor.def.name, &kind, host, &keys) else {
        resolver.unsound.push((own_subject[0].clone(), monitor.def.at.clone()));
        return None;
    };
    if let (CheckKind::Https(_), Some(ca)) = (&kind, &keys.ca) {
        out.ca_files.push((own_subject[0].clone(), ca.clone()));
    }
    let ix = MonitorIx(out.monitors.len() as u32);
    out.monitors.push(built);
    made.insert(key, ix);
    Some(ix)
}

fn build(name: &str, kind: &CheckKind, host: Option<String>, keys: &MonitorKeys) -> Option<Monitor> {
    let http = |path: &str| {
        Some(HttpCheck {
            path: path.to_string(),
            host: host.clone()?,
            status: keys.status.clone().unwrap_or_else(|| vec![DEFAULT_STATUS]),
            body: keys.body.clone(),
        })
    };
    let (kind, default_port) = match kind {
        CheckKind::Tcp => (MonitorKind::Tcp, None),
        CheckKind::Http(path) => (MonitorKind::Http(http(path)?), Some(80)),
        CheckKind::Https(path) => {
            let ca = keys.ca.as_ref().map(|ca| std::path::absolute(&ca.value).unwrap_or_else(|_| ca.value.clone()));
            (MonitorKind::Https { check: http(path)?, ca }, Some(443))
        }
    };
    let times = Times::of(keys);
    let thresholds = Thresholds {
        interval: times.interval,
        fast: times.fast,
        fall: keys.fall.unwrap_or(DEFAULT_IN_A_ROW),
        rise: keys.rise.unwrap_or(DEFAULT_IN_A_ROW),
    };
    Some(Monitor { name: name.to_string(), kind, port: keys.port.or(default_port)?, thresholds, timeout: times.timeout })
}

struct Times {
    interval: Duration,
    timeout: Duration,
    fast: Duration,
}

impl Times {
    fn of(keys: &MonitorKeys) -> Times {
        let interval = keys.interval.unwrap_or(DEFAULT_INTERVAL);
        Times { interval, timeout: keys.timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval)), fast: keys.fast.unwrap_or(DEFAULT_FAST.min(interval)) }
    }
}

/// What can be said of a monitor with its defaults, whoever uses it.
pub(super) fn check_monitor(resolver: &Resolver<'_>, monitor: Item<'_, MonitorKeys>) {
    let subject = |key: &str| {
        let mut subject = vec![format!("monitor {:?}", monitor.def.name)];
        if !key.is_empty() {
            subject.push(key.into());
        }
        subject
    };
    let error = |at: &Spot, key: &str, text: String| resolver.sink.error(at, &subject(key), text);
    let keys = monitor.def.keys.over(resolver.monitor_defaults(monitor.in_library));
    let at = &monitor.def.at;
    match &keys.kind {
        None if monitor.def.sound => {
            error(at, "", "it checks nothing; expected exactly one of https = \"/PATH\", http = \"/PATH\", tcp = true".into())
        }
        Some(CheckKind::Tcp) if keys.port.is_none() && monitor.def.sound => error(at, "", "port is missing; a tcp check has no usual one".into()),
        _ => {}
    }
    let times = Times::of(&keys);
    for (key, found) in [("timeout", times.timeout), ("fast", times.fast)] {
        if found > times.interval {
            error(at, key, format!("found {}, expected at most the interval ({})", duration_words(found), duration_words(times.interval)));
        }
    }
}
