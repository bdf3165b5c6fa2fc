//! Runtime changes: reading their targets, checking them against what is loaded, and what they come to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use super::api::{Forced, NewOverlay, Overlay, Refusal, Setting, Who};
use super::compile::ZoneParts;
use crate::config;
use crate::dns::{Name, RecordType};
use crate::policy::model::{Child, PolicyIx, PolicyKind, Pool, TtlRange, ZoneModel};
use crate::zone::tree::Rrset;
use crate::zone::{MAX_TTL, Ttl};

/// Overlays that can be in effect at once; more are refused.
const MAX_OVERLAYS: usize = 100_000;
/// Characters of a reason.
const MAX_REASON_CHARS: usize = 500;
/// How long an overlay lasts when nothing is said.
const DEFAULT_EXPIRY_S: u64 = 24 * 3600;
/// The longest expiry other than `never`: ten years.
const MAX_EXPIRY_S: u64 = 10 * 366 * 24 * 3600;

/// A target that was read and found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Found {
    /// An endpoint or pool, by id, or `region:NAME`.
    Thing(String),
    /// A policy's child.
    Child(Name, String, String),
    /// Steered name.
    Steered(Name),
    /// Static RRsets: owner and type, `None` for all at the owner.
    Static(Name, Option<RecordType>),
}

/// What all overlays in effect come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    /// By endpoint id, pool id, or `region:NAME`. The strongest wins.
    forced: HashMap<String, Forced>,
    /// By endpoint id. The newest wins.
    weights: HashMap<String, u16>,
    children: HashMap<(Name, String, String), u16>,
    steered: HashMap<Name, Ttl>,
    statics: Vec<(Name, Option<RecordType>, Ttl)>,
}

impl Effects {
    /// Sums up, oldest first; says of each overlay why it has no effect, if so.
    pub(super) fn of(overlays: &mut BTreeMap<u64, Overlay>, zones: &[&ZoneParts]) -> Effects {
        let mut effects = Effects::default();
        for overlay in overlays.values_mut() {
            match find(&overlay.target, overlay.set, zones) {
                Ok(found) => {
                    overlay.inactive = None;
                    effects.add(found, overlay.set);
                }
                Err(refusal) => overlay.inactive = Some(words(&refusal)),
            }
        }
        effects
    }

    /// What is not the same in `before`.
    pub(super) fn differing(&self, before: &Effects) -> Differing {
        let mut differing = Differing::default();
        differing.things.extend(differing_keys(&self.forced, &before.forced));
        differing.things.extend(differing_keys(&self.weights, &before.weights));
        differing.zones.extend(differing_keys(&self.children, &before.children).map(|(zone, ..)| zone));
        differing.owners.extend(differing_keys(&self.steered, &before.steered));
        if self.statics != before.statics {
            // Their order counts, so all of them.
            differing.owners.extend(self.statics.iter().chain(&before.statics).map(|(owner, ..)| owner.clone()));
        }
        differing
    }

    fn add(&mut self, found: Found, set: Setting) {
        match (found, set) {
            (Found::Thing(id), Setting::State(state)) => {
                let strongest = self.forced.entry(id).or_insert(state);
                *strongest = state.max(*strongest);
            }
            (Found::Thing(id), Setting::Weight(weight)) => {
                self.weights.insert(id, weight);
            }
            (Found::Child(zone, policy, child), Setting::Weight(weight)) => {
                self.children.insert((zone, policy, child), weight);
            }
            (Found::Steered(owner), Setting::Ttl(ttl)) => {
                self.steered.insert(owner, ttl);
            }
            (Found::Static(owner, rtype), Setting::Ttl(ttl)) => self.statics.push((owner, rtype, ttl)),
            _ => {}
        }
    }

    /// True when anything is forced anywhere.
    pub(super) fn forces_any(&self) -> bool {
        !self.forced.is_empty()
    }

    /// The strongest of endpoint, pool and region.
    pub(super) fn forced(&self, ids: [Option<&str>; 3]) -> Option<Forced> {
        ids.into_iter().flatten().filter_map(|id| self.forced.get(id)).copied().max()
    }

    pub(super) fn weight(&self, endpoint: &str) -> Option<u16> {
        self.weights.get(endpoint).copied()
    }

    pub(super) fn child_weights(&self, model: &ZoneModel) -> BTreeMap<(PolicyIx, Child), u16> {
        let mut found = BTreeMap::new();
        for ((_, policy, child), weight) in self.children.iter().filter(|((zone, ..), _)| *zone == model.name) {
            if let Some(key) = policy_child(model, policy, child) {
                found.insert(key, *weight);
            }
        }
        found
    }

    /// Never above what the file says: signed ceilings must hold (DESIGN §7).
    pub(super) fn ttl_of_steered(&self, owner: &Name, file: TtlRange) -> TtlRange {
        match self.steered.get(owner) {
            Some(ttl) => TtlRange { max: (*ttl).min(file.max), min: file.min.min(*ttl) },
            None => file,
        }
    }

    /// In order of age: a later one replaces an earlier one.
    pub(super) fn static_ttls(&self) -> &[(Name, Option<RecordType>, Ttl)] {
        &self.statics
    }
}

fn differing_keys<'a, K: Clone + Eq + Hash, V: PartialEq>(now: &'a HashMap<K, V>, before: &'a HashMap<K, V>) -> impl Iterator<Item = K> + 'a {
    let gone = before.keys().filter(move |key| !now.contains_key(*key));
    let other = now.iter().filter(move |(key, value)| before.get(*key) != Some(*value)).map(|(key, _)| key);
    gone.chain(other).cloned()
}

/// What two sums of overlays do not have in common.
#[derive(Debug, Default)]
pub(super) struct Differing {
    /// Endpoint ids, pool ids, `region:NAME`.
    things: HashSet<String>,
    /// Apexes of zones with policies whose children weigh otherwise.
    zones: HashSet<Name>,
    /// Names with other TTLs.
    owners: HashSet<Name>,
}

impl Differing {
    /// True when the zone has any of it.
    pub(super) fn touches(&self, model: &ZoneModel) -> bool {
        self.zones.contains(&model.name)
            || self.owners.iter().any(|owner| owner.is_at_or_below(&model.name))
            || !self.things.is_empty() && model.pools.iter().any(|pool| self.touches_pool(pool))
    }

    fn touches_pool(&self, pool: &Pool) -> bool {
        self.things.contains(&*pool.id)
            || pool.region.as_ref().is_some_and(|region| self.things.contains(&format!("region:{region}")))
            || pool.endpoints.iter().any(|endpoint| self.things.contains(&*endpoint.id))
    }
}

/// Checks a request and gives it an id.
pub(super) fn admit(new: NewOverlay, who: &Who, id: u64, now_unix: u64, held: usize, zones: &[&ZoneParts]) -> Result<Overlay, Refusal> {
    let invalid = |field: &str, detail: String| Err(Refusal::Invalid { field: field.into(), detail });
    if held >= MAX_OVERLAYS {
        return invalid("target", format!("{held} overlays are in effect, the limit is {MAX_OVERLAYS}: revert some first"));
    }
    let reason = new.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return invalid("reason", format!("found {} characters, expected 1 to {MAX_REASON_CHARS}", reason.chars().count()));
    }
    let expires = match new.expires.as_deref() {
        None => Some(now_unix + DEFAULT_EXPIRY_S),
        Some("never") => None,
        Some(text) => match config::parse_duration(text).map(|duration| duration.as_secs()) {
            Some(seconds @ 1..=MAX_EXPIRY_S) => Some(now_unix + seconds),
            _ => return invalid("expires", format!("found {text:?}, expected a duration such as \"90s\", \"2h\" or \"1d\", or \"never\"")),
        },
    };
    who.may_change(&new.target)?;
    find(&new.target, new.set, zones)?;
    let owner = who.name.clone();
    Ok(Overlay { id, target: new.target, set: new.set, owner, reason: reason.into(), created: now_unix, expires, inactive: None })
}

/// Reads a target; what `set` sets tells `zone/pool` from `zone/name`.
pub(super) fn find(target: &str, set: Setting, zones: &[&ZoneParts]) -> Result<Found, Refusal> {
    match set {
        Setting::State(_) => find_thing(target, zones, true),
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

fn find_thing(target: &str, zones: &[&ZoneParts], with_groups: bool) -> Result<Found, Refusal> {
    let is_target = |pool: &Pool| {
        let group = || *pool.id == *target || pool.region.as_ref().is_some_and(|region| target.strip_prefix("region:") == Some(region));
        with_groups && group() || pool.endpoints.iter().any(|endpoint| *endpoint.id == *target)
    };
    if zones.iter().any(|zone| zone.model.pools.iter().any(is_target)) {
        return Ok(Found::Thing(target.into()));
    }
    if !with_groups && zones.iter().any(|zone| zone.model.pools.iter().any(|pool| *pool.id == *target)) {
        let detail =
            format!("{target} is a pool; a weight is that of an endpoint (ZONE/POOL/ADDRESS) or of a policy's child (ZONE/policy:NAME/CHILD)");
        return Err(Refusal::Invalid { field: "target".into(), detail });
    }
    let mut candidates = Vec::new();
    for model in zones.iter().map(|zone| &zone.model) {
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

fn policy_child(model: &ZoneModel, policy: &str, child: &str) -> Option<(PolicyIx, Child)> {
    // A named policy comes before one that a steered name states inline.
    let mut found: Vec<usize> = (0..model.policies.len()).filter(|at| model.policies[*at].name == policy).collect();
    found.sort_by_key(|at| model.policies[*at].inline);
    let ix = PolicyIx(*found.first()? as u32);
    let child = model.policy(ix).kind.children().into_iter().find(|other| model.child_name(*other) == child)?;
    Some((ix, child))
}

/// The zone's name as ids carry it: without the final dot.
pub(super) fn zone_text(name: &Name) -> String {
    let text = name.to_string();
    if name.is_root() { text } else { text.trim_end_matches('.').into() }
}

/// A refusal as one sentence.
pub(super) fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound { what, near } if near.is_empty() => format!("{what} does not exist"),
        Refusal::NotFound { what, near } => format!("{what} does not exist (did you mean {}?)", near.join(", ")),
        Refusal::Invalid { field, detail } => format!("{field}: {detail}"),
        Refusal::Store { detail } | Refusal::Forbidden { detail } => detail.clone(),
        Refusal::Stopping => "the program is stopping".into(),
    }
}
