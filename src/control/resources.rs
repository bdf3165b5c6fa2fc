//! What is served, thing by thing, read from the published world: names, policies, pools, endpoints, regions, monitors. Nothing here asks the
//! writer, so reading costs changes nothing.
//!
//! Ids are those that overlays take as targets, so that what is read can be changed.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::api::{Forced, Reported, is_whole};
use super::compile::checks_of;
use super::overlays::zone_text;
use super::status::{kept_share, labelled};
use super::{Handle, Who, rules};
use crate::config::duration_words;
use crate::dns::{Name, RecordType};
use crate::policy::model::{AllDown, Child, Endpoint, Failback, GeoRule, Location, Policy, PolicyIx, PolicyKind, Pool, PoolIx, Target, WeightedMode};
use crate::world::{Published, ZoneWorld};
use crate::zone::rdata;
use crate::zone::tree::NodeId;

/// A set of records of one name and type.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RecordSet {
    /// `zone/name/TYPE`.
    pub id: String,
    /// Absolute.
    pub name: String,
    /// Mnemonic, or `TYPE65280`.
    #[serde(rename = "type")]
    pub rtype: String,
    /// In effect, seconds.
    pub ttl: u32,
    /// The files', seconds.
    pub file_ttl: u32,
    /// Presentation format.
    pub data: Vec<String>,
}

/// Bounds of a TTL, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Ttls {
    /// When all is well.
    pub max: u32,
    /// While anything is unsettled.
    pub min: u32,
}

/// A steered name.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SteeredResource {
    /// `zone/name`.
    pub id: String,
    /// Absolute.
    pub name: String,
    /// Id of the policy, or the pool, that decides.
    pub root: String,
    /// Types that it answers.
    pub types: Vec<String>,
    /// All its outcomes are CNAMEs.
    pub cname: bool,
    /// In effect.
    pub ttl: Ttls,
    /// The files'.
    pub file_ttl: Ttls,
}

/// A child of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ChildResource {
    /// Its name among pools and policies.
    pub name: String,
    /// Id of the pool or policy.
    pub id: String,
    /// In effect, for a weighted policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The files'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_weight: Option<u16>,
    /// What loads or response times make of the weight in effect, where that is not 1.
    #[serde(skip_serializing_if = "is_whole")]
    pub factor: f64,
    /// Failback holds it back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PolicyResource {
    /// `zone/policy:NAME`.
    pub id: String,
    /// As in `[policy.NAME]`, or the steered name that states it.
    pub name: String,
    /// True when a steered name states it.
    pub inline: bool,
    /// `failover`, `weighted`, `least-loaded`, `least-response-time`, `geo`, `proximity`, `latency`, `multivalue`.
    pub kind: &'static str,
    /// Of a weighted one: `coherent`, `random`, `sticky`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// `auto`, `manual`, or `after 5 min`.
    pub failback: String,
    /// In order of first mention.
    pub children: Vec<ChildResource>,
    /// Of a geo policy, in order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleResource>,
}

/// A rule of a geo policy.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RuleResource {
    /// `zone/policy:NAME/rule:CONDITION` or `zone/name/rule:CONDITION`, by the first of its conditions; each other one names it as well.
    pub id: String,
    /// `geo=EU`, `asn=64500`, `net=10.0.0.0/8`; the first hundred.
    pub conditions: Vec<String>,
    /// How many they are.
    pub conditions_count: usize,
    /// Names of its children.
    pub to: Vec<String>,
    /// The overlay that disables it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<u64>,
}

/// Conditions of a rule that are listed: some have as many as there are networks.
const MAX_CONDITIONS: usize = 100;

/// Names that are listed with an endpoint.
const MAX_USERS: usize = 100;

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PoolResource {
    /// `zone/pool` or `library/pool`.
    pub id: String,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Latitude and longitude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<[f64; 2]>,
    /// `healthy`, `degraded`, `critical`.
    pub health: &'static str,
    /// Endpoints that may be handed out.
    pub usable: usize,
    /// `min_healthy` as a count.
    pub needed: usize,
    /// What operators force, the stronger of pool and region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// In order of the file.
    pub endpoints: Vec<EndpointResource>,
    /// The share of its traffic that it keeps, 0 to 1; the rest is left to others, for its load or while it is drained step by step.
    #[serde(skip_serializing_if = "is_whole")]
    pub kept: f64,
    /// What is reported of it as a whole; in lists only, because it changes with every report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct EndpointResource {
    /// `zone/pool/address`.
    pub id: String,
    /// What is handed out.
    pub target: String,
    /// Its own name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Id of its pool.
    pub pool: String,
    /// Region of its pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As checks see it: `unknown`, `up`, `degraded`, `suspect`, `down`, `ramp`.
    pub state: &'static str,
    /// What operators force, the strongest of endpoint, pool and region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// May be handed out.
    pub usable: bool,
    /// In effect.
    pub weight: u16,
    /// The files'.
    pub file_weight: u16,
    /// Names of the monitors that check it.
    pub monitors: Vec<String>,
    /// What is reported of it; in lists only, because it changes with every report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
}

/// A region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RegionResource {
    /// `region:NAME`.
    pub id: String,
    /// Latitude and longitude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<[f64; 2]>,
    /// Ids of its pools.
    pub pools: Vec<String>,
    /// What operators force, if it is the same for all of its pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
}

/// The zones of one generation, as far as a token's scope reaches.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) zones: Vec<Arc<ZoneWorld>>,
    pub(super) who: Who,
}

impl Handle {
    /// The zones as they are published at this moment, for `who` to look at.
    pub fn snapshot(&self, who: Who) -> Snapshot {
        Snapshot::of(&self.world, who)
    }
}

fn is_behind(id: &str, after: &str) -> bool {
    after.is_empty() || id > after
}

impl Snapshot {
    pub(super) fn of(world: &Published, who: Who) -> Snapshot {
        let mut zones: Vec<_> = world.with_world(|world| world.zones.iter().cloned().collect());
        zones.retain(|zone| who.covers(&zone_text(&zone.model.name)));
        zones.sort_by(|a, b| a.model.name.cmp(&b.model.name));
        Snapshot { zones, who }
    }

    /// A zone by its name, in any spelling.
    pub fn zone(&self, name: &str) -> Option<&ZoneWorld> {
        let name = Name::parse_absolute(name).ok()?.to_lowercase();
        self.zones.iter().find(|zone| zone.model.name == name).map(|zone| &**zone)
    }

    /// Names of the zones.
    pub fn names(&self) -> Vec<String> {
        self.zones.iter().map(|zone| zone_text(&zone.model.name)).collect()
    }

    /// Pools in the order of their ids, from behind `after`; each once, even if several zones use it. What `keep` leaves is written down as it is
    /// taken, so that a page of many costs little more than a page of few.
    pub fn pools(&self, after: &str, keep: impl Fn(&Pool) -> bool) -> impl Iterator<Item = (String, PoolResource)> {
        let mut found: Vec<(&str, &ZoneWorld, usize)> = Vec::new();
        for zone in &self.zones {
            let pools = zone.model.pools.iter().enumerate().filter(|(_, pool)| is_behind(&pool.id, after) && self.who.covers(&pool.id) && keep(pool));
            found.extend(pools.map(|(at, pool)| (&*pool.id, &**zone, at)));
        }
        found.sort_by_key(|(id, ..)| *id);
        found.dedup_by_key(|(id, ..)| *id);
        found.into_iter().map(|(id, zone, at)| (id.to_owned(), pool_resource(zone, at, &zone.model.pools[at])))
    }

    /// Endpoints in the order of their ids, as [`pools`](Snapshot::pools).
    pub fn endpoints(&self, after: &str, keep: impl Fn(&Pool, &Endpoint) -> bool) -> impl Iterator<Item = (String, EndpointResource)> {
        let mut found: Vec<(&str, &ZoneWorld, usize, usize)> = Vec::new();
        for zone in &self.zones {
            for (at, pool) in zone.model.pools.iter().enumerate().filter(|(_, pool)| self.who.covers(&pool.id)) {
                let endpoints = pool.endpoints.iter().enumerate().filter(|(_, one)| is_behind(&one.id, after) && keep(pool, one));
                found.extend(endpoints.map(|(index, one)| (&*one.id, &**zone, at, index)));
            }
        }
        found.sort_by_key(|(id, ..)| *id);
        found.dedup_by_key(|(id, ..)| *id);
        found.into_iter().map(|(id, zone, at, index)| {
            let pool = &zone.model.pools[at];
            (id.to_owned(), endpoint_resource(zone, at, pool, index, &pool.endpoints[index]))
        })
    }

    /// What checks of an endpoint are called in the audit log.
    pub fn checks_of(&self, endpoint: &str) -> Option<Vec<String>> {
        self.zones.iter().find_map(|zone| {
            let pools = zone.model.pools.iter().filter(|pool| self.who.covers(&pool.id));
            let all = pools.flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)));
            let (pool, found) = all.into_iter().find(|(_, other)| *other.id == *endpoint)?;
            // What two of its monitors ask for alike is one check.
            let (specs, mut seen) = (checks_of(&zone.model, pool, found), HashSet::new());
            let labelled = labelled(&zone.model, found, &specs).filter(|(_, spec)| seen.insert(*spec));
            Some(labelled.map(|(label, _)| label).collect())
        })
    }

    /// Ids of the steered names whose answers may come from an endpoint, `all_down` included: the first [`MAX_USERS`], and how many they are.
    pub fn users_of(&self, endpoint: &str) -> (Vec<String>, usize) {
        let mut names = Vec::new();
        for zone in &self.zones {
            let model = &zone.model;
            let Some(at) = model.pools.iter().position(|pool| pool.endpoints.iter().any(|one| *one.id == *endpoint)) else { continue };
            let pool = PoolIx(at as u32);
            // Many names share what they are answered from.
            let mut reach: HashMap<Child, bool> = HashMap::new();
            for (steer, compiled) in model.steers.iter().zip(zone.steered.iter()) {
                let below = *reach.entry(steer.root).or_insert_with(|| model.pools_below(steer.root).contains(&pool));
                let classes = zone.steerings.get(compiled.steering as usize).map_or(&[][..], |steering| &steering.classes);
                let mut last_resorts = classes.iter().filter_map(|class| class.all_down).chain([steer.all_down]);
                if below || last_resorts.any(|all_down| all_down == AllDown::Pool(pool)) {
                    names.push(format!("{}/{}", zone_text(&model.name), steer.owner.relative_to(&model.name)));
                }
            }
        }
        names.sort_unstable();
        let count = names.len();
        names.truncate(MAX_USERS);
        (names, count)
    }

    /// Policies by id.
    pub fn policies(&self) -> BTreeMap<String, PolicyResource> {
        let mut found = BTreeMap::new();
        for zone in &self.zones {
            for (at, policy) in zone.model.policies.iter().enumerate() {
                let resource = policy_resource(zone, PolicyIx(at as u32), policy);
                // A named policy comes before one that a steered name states inline, as for overlays.
                if !policy.inline || !found.contains_key(&resource.id) {
                    found.insert(resource.id.clone(), resource);
                }
            }
        }
        found
    }

    /// Regions by id.
    pub fn regions(&self) -> BTreeMap<String, RegionResource> {
        let mut found: BTreeMap<String, RegionResource> = BTreeMap::new();
        for zone in &self.zones {
            for (name, region) in &zone.model.regions {
                let id = format!("region:{name}");
                found.entry(id.clone()).or_default().location = region.location.map(place);
            }
            for (at, pool) in zone.model.pools.iter().enumerate().filter(|(_, pool)| self.who.covers(&pool.id)) {
                let Some(region) = &pool.region else { continue };
                let entry = found.entry(format!("region:{region}")).or_default();
                let forced = zone.view.pools.get(at).and_then(|pool| pool.forced);
                entry.forced = if entry.pools.is_empty() { forced } else { entry.forced.filter(|one| Some(*one) == forced) };
                if !entry.pools.iter().any(|id| **id == *pool.id) {
                    entry.pools.push(pool.id.to_string());
                }
            }
        }
        for (id, region) in &mut found {
            region.id.clone_from(id);
        }
        found
    }

    /// Names of the regions.
    pub fn region_names(&self) -> BTreeSet<&str> {
        let declared = self.zones.iter().flat_map(|zone| zone.model.regions.keys().map(|name| &**name));
        let used = self.zones.iter().flat_map(|zone| zone.model.pools.iter().filter_map(|pool| pool.region.as_deref()));
        declared.chain(used).collect()
    }
}

/// Record sets of a zone with their ids, in the canonical order of their names (RFC 4034 §6.1) and then by type, from behind the one whose id is
/// `after` (empty for the first). Each is written down as it is taken, and where to begin is looked up: a page costs what is on it.
pub fn records<'z>(
    zone: &'z ZoneWorld,
    name: Option<&str>,
    rtype: Option<RecordType>,
    after: &str,
) -> impl Iterator<Item = (String, RecordSet)> + use<'z> {
    let (apex, tree) = (&zone.model.name, &zone.tree);
    let absolute = |name: &str| Name::parse(name, apex).ok().map(|name| name.to_lowercase());
    let rest = after.strip_prefix(&format!("{}/", zone_text(apex)));
    let behind = rest.and_then(|rest| rest.rsplit_once('/')).and_then(|(name, rtype)| Some((absolute(name)?, rtype.parse::<RecordType>().ok()?)));
    // What is no cursor of this list is behind everything.
    let is_lost = !after.is_empty() && behind.is_none();
    let nodes: Box<dyn Iterator<Item = NodeId> + 'z> = match name {
        _ if is_lost => Box::new(std::iter::empty()),
        Some(name) => Box::new(absolute(name).and_then(|name| tree.node_at(name.as_wire())).into_iter()),
        None => Box::new(tree.in_order(behind.as_ref().map(|(name, _)| name)).iter().copied()),
    };
    let sets = nodes.flat_map(move |node| {
        let name = Name::from_wire(tree.name(node)).unwrap_or_else(|_| Name::root());
        let behind = behind.clone();
        let is_behind = move |name: &Name, rtype| match &behind {
            None => true,
            Some((last, last_type)) => match name.cmp(last) {
                Ordering::Equal => rtype > *last_type,
                order => order == Ordering::Greater,
            },
        };
        tree.rrsets(node)
            .map(move |rrset| (name.clone(), rrset))
            .filter(move |(name, rrset)| is_behind(name, rrset.rtype))
            .map(move |(name, rrset)| (node, name, rrset))
    });
    sets.filter(move |(_, _, rrset)| rtype.is_none_or(|wanted| wanted == rrset.rtype)).map(move |(node, name, rrset)| {
        let id = format!("{}/{}/{}", zone_text(apex), name.relative_to(apex), rrset.rtype);
        let data = tree.rdatas(&rrset).map(|octets| rdata::to_text(rrset.rtype, &as_served(zone, rrset.rtype, octets))).collect();
        let laid = zone.ttls.as_ref().and_then(|ttls| ttls.get(&(node, rrset.rtype)));
        let ttl = laid.copied().unwrap_or(rrset.ttl);
        (id.clone(), RecordSet { id, name: name.to_string(), rtype: rrset.rtype.to_string(), ttl, file_ttl: rrset.ttl, data })
    })
}

/// The data of a record as it is answered: the serial of an SOA is the one in service.
fn as_served<'o>(zone: &ZoneWorld, rtype: RecordType, octets: &'o [u8]) -> Cow<'o, [u8]> {
    // The last twenty octets of an SOA are its numbers, the serial first (RFC 1035 §3.3.13).
    let Some(at) = octets.len().checked_sub(20).filter(|_| rtype == RecordType::SOA) else { return octets.into() };
    let mut octets = octets.to_vec();
    octets[at..at + 4].copy_from_slice(&zone.serial.to_be_bytes());
    octets.into()
}

/// Steered names of a zone by id.
pub fn steered(zone: &ZoneWorld) -> BTreeMap<String, SteeredResource> {
    let model = &zone.model;
    let each = model.steers.iter().zip(zone.steered.iter()).map(|(steer, compiled)| {
        let id = format!("{}/{}", zone_text(&model.name), steer.owner.relative_to(&model.name));
        let plan = zone.steerings.get(compiled.steering as usize).and_then(|steering| steering.plans.first());
        let ttl = plan.map_or(steer.ttl, |plan| plan.ttl);
        let resource = SteeredResource {
            id: id.clone(),
            name: steer.owner.to_string(),
            root: child_id(zone, steer.root),
            types: compiled.types.iter().map(ToString::to_string).collect(),
            cname: steer.is_cname,
            ttl: Ttls { max: ttl.max, min: ttl.min },
            file_ttl: Ttls { max: steer.ttl.max, min: steer.ttl.min },
        };
        (id, resource)
    });
    each.collect()
}

fn child_id(zone: &ZoneWorld, child: Child) -> String {
    match child {
        Child::Pool(ix) => zone.model.pool(ix).id.to_string(),
        Child::Policy(ix) => format!("{}/policy:{}", zone_text(&zone.model.name), zone.model.policy(ix).name),
    }
}

fn place(location: Location) -> [f64; 2] {
    [location.lat, location.lon]
}

fn pool_resource(zone: &ZoneWorld, at: usize, pool: &Pool) -> PoolResource {
    let endpoints: Vec<_> = pool.endpoints.iter().enumerate().map(|(index, endpoint)| endpoint_resource(zone, at, pool, index, endpoint)).collect();
    let usable = endpoints.iter().filter(|endpoint| endpoint.usable).count();
    let needed = pool.min_healthy.needed(pool.endpoints.len());
    PoolResource {
        id: pool.id.to_string(),
        region: pool.region.clone(),
        location: pool.location.map(place),
        health: super::state::health_word(usable, pool.endpoints.len(), needed),
        usable,
        needed,
        forced: zone.view.pools.get(at).and_then(|pool| pool.forced),
        endpoints,
        kept: zone.view.pools.get(at).map_or(1.0, |pool| kept_share(pool)),
        reported: None,
    }
}

fn endpoint_resource(zone: &ZoneWorld, at: usize, pool: &Pool, index: usize, endpoint: &Endpoint) -> EndpointResource {
    let seen = zone.view.pools.get(at).and_then(|pool| pool.endpoints.get(index));
    EndpointResource {
        id: endpoint.id.to_string(),
        target: match &endpoint.target {
            Target::Address(addr) => addr.to_string(),
            Target::Cname(name) => name.to_string(),
        },
        name: endpoint.name.clone(),
        pool: pool.id.to_string(),
        region: pool.region.clone(),
        state: seen.map_or("unknown", |seen| seen.state.word()),
        forced: seen.and_then(|seen| seen.forced),
        usable: seen.is_some_and(|seen| seen.is_usable()),
        weight: seen.map_or(endpoint.weight, |seen| seen.weight),
        file_weight: endpoint.weight,
        monitors: endpoint.monitors.iter().filter_map(|ix| zone.model.monitors.get(ix.0 as usize)).map(|monitor| monitor.name.clone()).collect(),
        reported: None,
    }
}

fn policy_resource(zone: &ZoneWorld, ix: PolicyIx, policy: &Policy) -> PolicyResource {
    let model = &zone.model;
    let weights: &[(Child, u16)] = if let PolicyKind::Weighted { to, .. } = &policy.kind { to } else { &[] };
    let child = |child: Child| {
        let file_weight = weights.iter().find(|(of, _)| *of == child).map(|(_, weight)| *weight);
        ChildResource {
            name: model.child_name(child).to_owned(),
            id: child_id(zone, child),
            weight: file_weight.map(|weight| zone.view.child_weights.get(&(ix, child)).copied().unwrap_or(weight)),
            file_weight,
            factor: zone.view.child_factors.get(&(ix, child)).map_or(1.0, |factor| (f64::from(*factor) * 1000.0).round() / 1000.0),
            held: zone.view.held.contains(&(ix, child)),
        }
    };
    PolicyResource {
        id: child_id(zone, Child::Policy(ix)),
        name: policy.name.clone(),
        inline: policy.inline,
        kind: policy.kind.word(),
        mode: match &policy.kind {
            PolicyKind::Weighted { mode: WeightedMode::Coherent, .. } => Some("coherent"),
            PolicyKind::Weighted { mode: WeightedMode::Random, .. } => Some("random"),
            PolicyKind::Weighted { mode: WeightedMode::Sticky { .. }, .. } => Some("sticky"),
            _ => None,
        },
        failback: match policy.failback {
            Failback::Auto => "auto".into(),
            Failback::Manual => "manual".into(),
            Failback::After(wait) => format!("after {}", duration_words(wait)),
        },
        children: policy.kind.children().into_iter().map(child).collect(),
        rules: rules::rules_of(model, ix).iter().map(|rule| rule_resource(zone, ix, rule)).collect(),
    }
}

fn rule_resource(zone: &ZoneWorld, ix: PolicyIx, rule: &GeoRule) -> RuleResource {
    let model = &zone.model;
    let first = rules::keys_of(rule).next().unwrap_or_default();
    RuleResource {
        id: format!("{}/rule:{first}", rules::policy_id(model, ix)),
        conditions: rules::keys_of(rule).take(MAX_CONDITIONS).collect(),
        conditions_count: rule.geo.len() + rule.asn.len() + rule.net.len(),
        to: rule.to.iter().map(|child| model.child_name(*child).to_owned()).collect(),
        disabled_by: rule.disabled,
    }
}
