//! Targets of overlays: reading them, finding them in what is loaded, and near names for those that are not there.

use std::sync::Arc;

use crate::config;
use crate::control::api::{Refusal, Setting};
use crate::control::compile::ZoneParts;
use crate::control::rules;
use crate::dns::{Name, RecordType};
use crate::policy::model::{Child, PolicyIx, PolicyKind, Pool, ZoneModel};
use crate::zone::tree::Rrset;
use crate::zone::{MAX_TTL, Ttl};

/// A target that was read and found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) enum Found {
    /// An endpoint or pool, by id, or `region:NAME`.
    Thing(Arc<str>),
    /// A policy's child.
    Child(Name, String, String),
    /// Steered name.
    Steered(Name),
    /// Static RRsets: owner and type, `None` for all at the owner.
    Static(Name, Option<RecordType>),
    /// A rule of a geo policy: zone, and what stands behind it in the target.
    Rule(Name, String),
}

/// Reads a target; what `set` sets tells `zone/pool` from `zone/name`.
pub(in crate::control) fn find(target: &str, set: Setting, zones: &[&ZoneParts]) -> Result<Found, Refusal> {
    match set {
        Setting::State(_) => find_thing(target, zones, true),
        Setting::Disabled(is_disabled) => rules::find(target, is_disabled, zones.iter().copied()),
        Setting::Weight(_) if target.contains("/policy:") => find_child(target, zones),
        Setting::Weight(_) => find_thing(target, zones, false),
        Setting::Ttl(ttl) if ttl == 0 || ttl > MAX_TTL => {
            Err(Refusal::Invalid { field: "set.ttl".into(), detail: format!("found {ttl}, expected 1 to {MAX_TTL} s") })
        }
        Setting::Ttl(ttl) => find_name(target, ttl, zones),
    }
}

fn not_found(what: &str, candidates: Vec<String>) -> Refusal {
    let near = config::nearest(what, candidates.iter().map(String::as_str)).map(str::to_string);
    Refusal::NotFound { what: what.into(), near: near.into_iter().collect() }
}

/// The zone that a target names in front, if it names one; `zones` are in name order.
fn zone_of<'z>(target: &str, zones: &[&'z ZoneParts]) -> Option<&'z ZoneParts> {
    let (zone, _) = target.split_once('/')?;
    let apex = Name::parse_absolute(zone).ok()?.to_lowercase();
    zones.binary_search_by(|parts| parts.model.name.cmp(&apex)).ok().map(|at| zones[at])
}

fn find_thing(target: &str, zones: &[&ZoneParts], with_groups: bool) -> Result<Found, Refusal> {
    let is_target = |pool: &Pool| {
        let group = || *pool.id == *target || pool.region.as_ref().is_some_and(|region| target.strip_prefix("region:") == Some(region));
        with_groups && group() || pool.endpoints.iter().any(|endpoint| *endpoint.id == *target)
    };
    // Ids begin with their zone; only regions and what libraries define may be anywhere.
    let own = zone_of(target, zones);
    let places = own.as_ref().map_or(zones, std::slice::from_ref);
    if places.iter().any(|zone| zone.model.pools.iter().any(is_target)) {
        return Ok(Found::Thing(target.into()));
    }
    if !with_groups && places.iter().any(|zone| zone.model.pools.iter().any(|pool| *pool.id == *target)) {
        let detail =
            format!("{target} is a pool; a weight is that of an endpoint (ZONE/POOL/ADDRESS) or of a policy's child (ZONE/policy:NAME/CHILD)");
        return Err(Refusal::Invalid { field: "target".into(), detail });
    }
    let mut candidates = Vec::new();
    for model in places.iter().map(|zone| &zone.model) {
        for pool in &model.pools {
            if with_groups {
                candidates.push(pool.id.to_string());
                candidates.extend(pool.region.iter().map(|region| format!("region:{region}")));
            }
            candidates.extend(pool.endpoints.iter().map(|endpoint| endpoint.id.to_string()));
        }
    }
    Err(not_found(target, candidates))
}

fn find_child(target: &str, zones: &[&ZoneParts]) -> Result<Found, Refusal> {
    let mut candidates = Vec::new();
    for model in zones.iter().map(|zone| &zone.model) {
        let zone_text = zone_text(&model.name);
        for policy in &model.policies {
            let PolicyKind::Weighted { to, .. } = &policy.kind else { continue };
            for (child, _) in to {
                let text = format!("{zone_text}/policy:{}/{}", policy.name, model.child_name(*child));
                if text == target {
                    return Ok(Found::Child(model.name.clone(), policy.name.clone(), model.child_name(*child).into()));
                }
                candidates.push(text);
            }
        }
    }
    Err(not_found(target, candidates))
}

fn find_name(target: &str, ttl: Ttl, zones: &[&ZoneParts]) -> Result<Found, Refusal> {
    let too_high =
        |limit: Ttl| Refusal::Invalid { field: "set.ttl".into(), detail: format!("found {ttl} s, expected at most {limit} s, the files' own") };
    let mut parts = target.split('/');
    let (zone, owner, rtype) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let apex = Name::parse_absolute(zone).ok();
    let Some(parts_of_zone) = zones.iter().find(|parts| Some(&parts.model.name) == apex.as_ref()) else {
        return Err(not_found(target, zones.iter().map(|parts| zone_text(&parts.model.name)).collect()));
    };
    let model = &parts_of_zone.model;
    let candidates = || {
        let steered = model.steers.iter().map(|steer| steer.owner.relative_to(&model.name));
        let statics = parts_of_zone.tree.names().map(|owner| owner.relative_to(&model.name));
        steered.chain(statics).map(|owner| format!("{}/{owner}", zone_text(&model.name))).collect()
    };
    let owner = owner.and_then(|owner| Name::parse(owner, &model.name).ok()).ok_or_else(|| not_found(target, candidates()))?.to_lowercase();
    let rtype = match rtype.map(str::parse::<RecordType>) {
        None => None,
        Some(Ok(rtype)) => Some(rtype),
        Some(Err(_)) => return Err(not_found(target, candidates())),
    };
    let tree = &parts_of_zone.tree;
    let of_owner: Vec<Rrset> = tree.node_at(owner.as_wire()).into_iter().flat_map(|node| tree.rrsets(node)).collect();
    let of_owner: Vec<Rrset> = of_owner.into_iter().filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).collect();
    let steer = model.steers.iter().position(|steer| steer.owner == owner);
    if let Some(at) = steer
        && rtype.is_none_or(|rtype| of_owner.is_empty() && (model.steers[at].is_cname || parts_of_zone.steered[at].types.contains(&rtype)))
    {
        let limit = model.steers[at].ttl.max;
        return if ttl > limit { Err(too_high(limit)) } else { Ok(Found::Steered(owner)) };
    }
    match of_owner.iter().map(|rrset| rrset.ttl).min() {
        None => Err(not_found(target, candidates())),
        Some(limit) if ttl > limit => Err(too_high(limit)),
        Some(_) => Ok(Found::Static(owner, rtype)),
    }
}

pub(in crate::control) fn policy_child(model: &ZoneModel, policy: &str, child: &str) -> Option<(PolicyIx, Child)> {
    // A named policy comes before one that a steered name states inline.
    let mut found: Vec<usize> = (0..model.policies.len()).filter(|at| model.policies[*at].name == policy).collect();
    found.sort_by_key(|at| model.policies[*at].inline);
    let ix = PolicyIx(*found.first()? as u32);
    let child = model.policy(ix).kind.children().into_iter().find(|other| model.child_name(*other) == child)?;
    Some((ix, child))
}

/// The zone's name as ids carry it: without the final dot.
pub(in crate::control) fn zone_text(name: &Name) -> String {
    let text = name.to_string();
    if name.is_root() { text } else { text.trim_end_matches('.').into() }
}
