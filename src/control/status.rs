//! The status that `control` publishes. The writer hands out what it knows as it stands, mostly by reference; whoever asked writes it down, so that
//! a page about 100,000 endpoints delays no change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::api::{CheckSpec, CheckTarget, EndpointStatus, PoolStatus, Status, ZoneStatus};
use super::check::CheckSeen;
use super::compile::ZoneParts;
use super::reports::Reports;
use super::standing::{Standing, come_to};
use super::state::{ZoneState, health_word};
use crate::dns::Name;
use crate::health::State;
use crate::policy::balance::NARROW;
use crate::policy::model::{Endpoint, Monitor, MonitorKind, Pool, Target, Vote, ZoneModel};
use crate::policy::plan::{EndpointView, PoolView, is_in_panic};
use crate::world::ZoneWorld;

/// An endpoint with all that its checks say, as lists show it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct EndpointHealth {
    /// Id of its pool.
    pub pool: String,
    /// Region of its pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub endpoint: EndpointStatus,
}

/// All that there is to know at one moment.
#[derive(Debug, Default)]
pub struct Seen {
    /// When.
    pub(super) now_unix: u64,
    /// What is no zone's and no pool's.
    pub(super) rest: Status,
    pub(super) zones: Vec<ZoneSeen>,
    pub(super) down: Vec<(Name, String)>,
    pub(super) checks: HashMap<Arc<CheckSpec>, CheckSeen>,
    pub(super) reported: Arc<Reports>,
}

/// One zone in service.
#[derive(Debug)]
pub(super) struct ZoneSeen {
    file: String,
    serial: u32,
    why: Option<String>,
    parts: Arc<ZoneParts>,
    world: Option<Arc<ZoneWorld>>,
    /// Endpoints that safety rules keep as a last resort, with the reasons.
    kept: HashMap<String, String>,
    turned: Arc<HashMap<Arc<str>, u64>>,
}

impl ZoneSeen {
    pub(super) fn of(zone: &ZoneState) -> ZoneSeen {
        ZoneSeen {
            file: zone.taken.loaded.declared_in.display().to_string(),
            serial: zone.serial,
            why: zone.kept_why.clone(),
            parts: zone.taken.parts.clone(),
            world: zone.world.clone(),
            kept: zone.keeping.all().map(|(id, why)| (id.to_owned(), why.to_owned())).collect(),
            turned: zone.turned.clone(),
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
        let (zones, pools, policies) = (self.zones(), self.pools(|_| true), self.policies());
        let mut status = std::mem::take(&mut self.rest);
        status.zones = zones;
        status.policies.extend(policies);
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
            queries: None,
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
            queries: None,
        });
        let mut all: Vec<ZoneStatus> = serving.chain(failed).chain(self.rest.zones.iter().cloned()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The counter slots of the policies that decide for names.
    fn policies(&self) -> Vec<u32> {
        let worlds = self.zones.iter().filter_map(|zone| zone.world.as_ref());
        let mut slots: Vec<u32> = worlds.flat_map(|world| world.steerings.iter()).filter_map(|steering| steering.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The rule by which an endpoint is kept as a last resort, in a sentence.
    pub(super) fn why_kept(&self, endpoint: &str) -> Option<&str> {
        self.zones.iter().find_map(|zone| zone.kept.get(endpoint)).map(String::as_str)
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
                    .map(|((endpoint, seen), specs)| EndpointStatus {
                        kept_in: zone.kept.get(&*endpoint.id).filter(|_| seen.is_last_resort()).cloned(),
                        ..self.endpoint(zone, endpoint, seen, specs)
                    })
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
                        reported: self.reported.of(&pool.id),
                        kept: kept_share(view),
                        panic: is_in_panic(pool, view),
                        warnings: pool.shed.filter(|law| law.is_narrow(1.0)).map(|_| format!("shed: {NARROW}")).into_iter().collect(),
                        slot: view.slot,
                        queries: 0,
                    },
                );
            }
        }
        pools.into_values().collect()
    }

    /// Endpoints in the order of their ids, from behind `after`, each once. What `keep` leaves is written down as it is taken, so that a page of many
    /// costs little more than a page of few.
    pub fn health(&self, after: &str, keep: impl Fn(&Pool, &EndpointView) -> bool) -> impl Iterator<Item = (String, EndpointHealth)> {
        let mut found: Vec<(&str, &ZoneSeen, usize, usize)> = Vec::new();
        for zone in &self.zones {
            let Some(world) = &zone.world else { continue };
            for (at, (pool, view)) in zone.parts.model.pools.iter().zip(world.view.pools.iter()).enumerate() {
                let endpoints = pool.endpoints.iter().zip(&view.endpoints).enumerate();
                let kept = endpoints.filter(|(_, (one, seen))| (after.is_empty() || &*one.id > after) && keep(pool, seen));
                found.extend(kept.map(|(index, (one, _))| (&*one.id, zone, at, index)));
            }
        }
        found.sort_by_key(|(id, ..)| *id);
        found.dedup_by_key(|(id, ..)| *id);
        found.into_iter().filter_map(|(id, zone, at, index)| {
            let (pool, seen) = (zone.parts.model.pools.get(at)?, zone.world.as_ref()?.view.pools.get(at)?);
            let (endpoint, seen, specs) = (pool.endpoints.get(index)?, seen.endpoints.get(index)?, zone.parts.checks.get(at)?.get(index)?);
            let kept_in = zone.kept.get(id).filter(|_| seen.is_last_resort()).cloned();
            let endpoint = EndpointStatus { kept_in, ..self.endpoint(zone, endpoint, seen, specs) };
            Some((id.to_owned(), EndpointHealth { pool: pool.id.to_string(), region: pool.region.clone(), endpoint }))
        })
    }

    fn endpoint(&self, zone: &ZoneSeen, endpoint: &Endpoint, seen: &EndpointView, specs: &[CheckSpec]) -> EndpointStatus {
        let model = &zone.parts.model;
        // What is put together does not change whenever one of its parts does.
        let turned = zone.turned.get(&endpoint.id).copied().filter(|_| specs.len() > 1 || endpoint.vote.is_some());
        // Those without a vote are told of apart.
        let voters = specs.iter().enumerate().filter(|(at, _)| endpoint.goes_by(*at));
        let all: Vec<(usize, &CheckSpec, &CheckSeen)> = voters.filter_map(|(at, spec)| Some((at, spec, self.checks.get(spec)?))).collect();
        let are_several = all.iter().filter(|(at, ..)| *at < endpoint.monitors.len()).count() > 1;
        let stale = all.iter().filter_map(|(at, spec, check)| {
            let words = check.stale?.words(check.age_s.unwrap_or(0), spec.monitor.kind.forgotten_after());
            Some(match monitor_name(model, endpoint, *at) {
                name if are_several && !name.is_empty() => format!("{name}: {words}"),
                _ => words,
            })
        });
        let stale = stale.reduce(|first, other| format!("{first}; {other}"));
        let known: Vec<&CheckSeen> = all.iter().map(|(_, _, check)| *check).collect();
        // One monitor that votes, beside advisory ones, needs no name.
        let is_one = |vote: &&Vote| matches!(vote, Vote::AtLeast { of, .. } if matches!(of[..], [Vote::Check(_)]));
        let (last_error, last_error_at) = match endpoint.vote.as_deref().filter(|vote| !is_one(vote)) {
            Some(vote) => self.why_calculated(model, endpoint, specs, vote).unzip(),
            None => {
                let failed = known.iter().filter_map(|check| Some((check.last_error.clone()?, check.last_error_unix)));
                failed.reduce(|first, other| if other.1 > first.1 { other } else { first }).unzip()
            }
        };
        EndpointStatus {
            id: endpoint.id.to_string(),
            target: match &endpoint.target {
                Target::Address(addr) => addr.to_string(),
                Target::Cname(name) => name.to_string(),
            },
            state: seen.state.word().into(),
            stale: stale.is_some(),
            stale_why: stale,
            forced: seen.forced,
            usable: seen.is_usable(),
            weight: seen.weight,
            monitors: endpoint.monitors.iter().map(|ix| model.monitors[ix.0 as usize].name.clone()).collect(),
            since: turned.or_else(|| known.iter().filter_map(|check| check.since_unix).max()),
            last_check: known.iter().filter_map(|check| check.last_check_unix).max(),
            last_ms: known.iter().filter_map(|check| check.last_ms).max(),
            next_check: known.iter().filter_map(|check| check.next_check_unix).min(),
            last_error,
            last_error_at: last_error_at.flatten(),
            calculated: endpoint.vote.as_ref().map(|vote| self.calculated(model, endpoint, specs, vote)),
            advice: self.advice(model, endpoint, specs),
            concerns: {
                let mut concerns: Vec<String> = known.iter().flat_map(|check| check.concerns.all(self.now_unix)).map(|it| it.to_string()).collect();
                // The same certificate, asked for by two monitors.
                concerns.sort();
                concerns.dedup();
                concerns
            },
            usual_ms: known.iter().filter_map(|check| check.concerns.usual_ms()).max(),
            certificate_ends: known.iter().filter_map(|check| check.concerns.certificate_ends()).min(),
            penalty: known.iter().map(|check| check.penalty).max().unwrap_or(0),
            faults: known.iter().map(|check| check.credit).max().unwrap_or(0),
            suppressed_until: known.iter().filter_map(|check| check.suppressed_until).max(),
            kept_in: None,
            reported: self.reported.of(&endpoint.id),
            checks: known.iter().map(|check| check.ended).reduce(|sum, more| [sum[0] + more[0], sum[1] + more[1]]),
        }
    }
}

/// The share of its traffic that a pool keeps.
pub(super) fn kept_share(view: &PoolView) -> f64 {
    (f64::from(1.0 - view.yields) * 1000.0).round() / 1000.0
}

/// The monitor of a check of an endpoint; empty where none asks for it.
pub(super) fn monitor_name<'a>(model: &'a ZoneModel, endpoint: &Endpoint, at: usize) -> &'a str {
    endpoint.monitors.get(at).and_then(|ix| model.monitors.get(ix.0 as usize)).map_or("", |monitor| &*monitor.name)
}

impl Seen {
    /// Why an endpoint is not up whose monitors are put together, and when that was found: of each check that has a part in it the last error, with the
    /// name of its monitor; of `not` what is up that should not be.
    fn why_calculated(&self, model: &ZoneModel, endpoint: &Endpoint, specs: &[CheckSpec], vote: &Vote) -> Option<(String, Option<u64>)> {
        let stands = |spec: &CheckSpec| self.checks.get(spec).map(|seen| Standing { state: seen.state, ..Standing::WELL });
        let state_of = |vote: &Vote| come_to(vote, specs, &stands).state;
        let name = |vote: &Vote| match vote {
            Vote::Check(at) => monitor_name(model, endpoint, usize::from(*at)).to_owned(),
            vote => format!("({})", self.calculated(model, endpoint, specs, vote)),
        };
        if matches!(state_of(vote), State::Up | State::Degraded) {
            return None;
        }
        match vote {
            Vote::Check(at) => {
                let seen = specs.get(usize::from(*at)).and_then(|spec| self.checks.get(spec))?;
                Some((format!("{}: {}", name(vote), seen.last_error.as_ref()?), seen.last_error_unix))
            }
            Vote::Not(inner) if state_of(inner) == State::Unknown && matches!(**inner, Vote::Check(_)) => {
                self.why_calculated(model, endpoint, specs, inner)
            }
            Vote::Not(inner) => Some((format!("not {}: it is {}", name(inner), state_of(inner).word()), None)),
            Vote::AtLeast { count, of } => {
                let why: Vec<(String, Option<u64>)> = of.iter().filter_map(|vote| self.why_calculated(model, endpoint, specs, vote)).collect();
                let at = why.iter().filter_map(|(_, at)| *at).max();
                let all = why.into_iter().map(|(why, _)| why).collect::<Vec<_>>().join("; ");
                let fine = of.iter().filter(|vote| matches!(state_of(vote), State::Up | State::Degraded)).count();
                match usize::from(*count) {
                    _ if all.is_empty() => None,
                    count if count == of.len() => Some((all, at)),
                    count => Some((format!("{fine} of {} are up, {count} must be: {all}", of.len()), at)),
                }
            }
        }
    }

    /// What those find wrong that have no vote.
    fn advice(&self, model: &ZoneModel, endpoint: &Endpoint, specs: &[CheckSpec]) -> Vec<String> {
        let advisory = specs.iter().enumerate().filter(|(at, _)| !endpoint.goes_by(*at));
        let wrong = advisory.filter_map(|(at, spec)| {
            let seen = self.checks.get(spec)?;
            let why = seen.last_error.clone().filter(|_| seen.state != State::Ramp).or_else(|| seen.concerns.words(self.now_unix))?;
            Some(format!("{}: {why}", monitor_name(model, endpoint, at)))
        });
        wrong.collect()
    }

    /// What its monitors come to, and how.
    fn calculated(&self, model: &ZoneModel, endpoint: &Endpoint, specs: &[CheckSpec], vote: &Vote) -> String {
        let parts = |of: &[Vote]| of.iter().map(|vote| self.calculated(model, endpoint, specs, vote)).collect::<Vec<_>>().join(", ");
        match vote {
            Vote::Check(at) => {
                let at = usize::from(*at);
                let state = specs.get(at).and_then(|spec| self.checks.get(spec)).map_or(State::Unknown, |seen| seen.state);
                format!("{} {}", monitor_name(model, endpoint, at), state.word())
            }
            Vote::AtLeast { of, .. } if of.is_empty() => "nothing that votes".into(),
            Vote::AtLeast { of, .. } if of.len() == 1 => parts(of),
            Vote::AtLeast { count, of } if usize::from(*count) == of.len() => format!("all of ({})", parts(of)),
            Vote::AtLeast { count: 1, of } => format!("any of ({})", parts(of)),
            Vote::AtLeast { count, of } => format!("at least {count} of ({})", parts(of)),
            Vote::Not(vote) => format!("not {}", self.calculated(model, endpoint, specs, vote)),
        }
    }
}

/// The checks of an endpoint, each in words that tell it from the others: where two read the same, the names of their monitors stand behind.
pub(super) fn labelled<'a>(model: &ZoneModel, endpoint: &Endpoint, specs: &'a [CheckSpec]) -> impl Iterator<Item = (String, &'a CheckSpec)> {
    let labels: Vec<String> = (0..specs.len()).map(|at| label(model, endpoint, specs, at)).collect();
    labels.into_iter().zip(specs)
}

/// The same for one of them.
pub(super) fn label(model: &ZoneModel, endpoint: &Endpoint, specs: &[CheckSpec], at: usize) -> String {
    let Some(spec) = specs.get(at) else { return String::new() };
    let words = describe(spec);
    let reads_alike = specs.iter().any(|other| other != spec && describe(other) == words);
    if reads_alike { format!("{words} ({})", monitor_name(model, endpoint, at)) } else { words }
}

/// A check in words: `https://app.example.com/healthz at 192.0.2.10:443`.
pub(super) fn describe(spec: &CheckSpec) -> String {
    let (monitor, place) = (&spec.monitor, place_of(&spec.target, &spec.monitor));
    match &monitor.kind {
        MonitorKind::Tcp(check) => match &check.tls {
            None => format!("tcp at {place}"),
            Some(named) => format!("tcp with TLS to {} at {place}", named.host),
        },
        MonitorKind::Dns(check) => format!("dns {} {} at {place}", check.name, check.rtype),
        MonitorKind::Push(_) => format!("push of {place}"),
        MonitorKind::Share(_) => describe_share(&place),
        MonitorKind::Grpc(check) => {
            format!("grpc {} of {} at {place}", if check.service.is_empty() { "health" } else { &check.service }, check.host)
        }
        MonitorKind::Exec(check) => format!("exec {} for {place}", check.command.join(" ")),
        MonitorKind::Ping => format!("ping {place}"),
        MonitorKind::Prometheus(check) => {
            let (host, port) = (&check.host, monitor.port);
            let server = host.parse().map_or_else(|_| format!("{host}:{port}"), |ip| std::net::SocketAddr::new(ip, port).to_string());
            format!("prometheus {} at {server}", check.query_for(&place))
        }
        MonitorKind::Http(check) => format!("http://{}{} at {place}", check.host, check.path),
        MonitorKind::Https { check, .. } => format!("https://{}{} at {place}", check.host, check.path),
    }
}

/// Where a check goes. Some know no ports, and one goes elsewhere.
fn place_of(target: &CheckTarget, monitor: &Monitor) -> String {
    let port = if matches!(monitor.kind, MonitorKind::Prometheus(_)) { 0 } else { monitor.port };
    match target {
        CheckTarget::Address(addr) | CheckTarget::Behind { at: addr, .. } if port == 0 => addr.to_string(),
        CheckTarget::Host(host) if port == 0 => host.clone(),
        CheckTarget::Address(addr) | CheckTarget::Behind { at: addr, .. } => std::net::SocketAddr::new(*addr, port).to_string(),
        CheckTarget::Host(host) => format!("{host}:{port}"),
        CheckTarget::Endpoint(id) => id.to_string(),
    }
}

/// The check of what is reported of the successes of an endpoint.
fn describe_share(endpoint: &str) -> String {
    format!("share of successes of {endpoint}")
}
