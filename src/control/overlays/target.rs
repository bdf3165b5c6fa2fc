//! Targets of overlays: reading them, finding them in what is loaded, and near names for those that are not there.

use std::sync::Arc;

use crate::control::api::{Refusal, Setting};
use crate::control::audit::{plain_endpoint, plain_target};
use crate::control::compile::ZoneParts;
use crate::control::loaded::{Loaded, own_zone};
use crate::control::rules;
use crate::control::things::near;
use crate::dns::{Name, RecordType};
use crate::policy::model::{Child, PolicyIx, PolicyKind, ZoneModel};
use crate::zone::tree::Rrset;
use crate::zone::{MAX_TTL, Ttl};

/// Names that are compared to find the one that was meant: a zone may have a million.
const MAX_COMPARED: usize = 10_000;

/// A target that was read and found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::control) enum Found {
    /// An endpoint or pool, by id, or `region:NAME`.
    Thing(Arc<str>),
    /// A policy's child: zone, policy, child.
    Child(Name, String, String),
    /// Steered name: zone and owner.
    Steered(Name, Name),
    /// Static RRsets: zone, owner and type, `None` for all at the owner.
    Static(Name, Name, Option<RecordType>),
    /// A rule of a geo policy: zone, and what stands behind it in the target.
    Rule(Name, String),
}

impl Found {
    /// What overlays have in common that come to something together: all types of an owner are one.
    pub(in crate::control) fn key(&self) -> Found {
        match self {
            Found::Static(zone, owner, _) => Found::Static(zone.clone(), owner.clone(), None),
            found => found.clone(),
        }
    }

    /// The zone that policies and names are in; endpoints, pools and regions may be in several.
    pub(in crate::control) fn zone(&self) -> Option<&Name> {
        match self {
            Found::Thing(_) => None,
            Found::Child(zone, ..) | Found::Steered(zone, _) | Found::Static(zone, ..) | Found::Rule(zone, _) => Some(zone),
        }
    }
}

/// Reads a target as people write it, and spells it as ids are: zones, names and addresses may be written in any way that the DNS takes for the
/// same; pools, policies and regions are what the files call them, to the letter.
pub(in crate::control) fn find_spelled(target: &str, set: Setting, zones: Loaded<'_>) -> Result<(Found, String), Refusal> {
    let plain = plain_target(target);
    // Perhaps an endpoint whose address is written in another form.
    let is_endpoint = !plain.contains("/policy:");
    let found = find(&plain, set, zones).or_else(|refusal| match is_endpoint {
        true => find_as(&plain_endpoint(&plain), set, zones).map_err(|_| refusal),
        false => Err(refusal),
    })?;
    let spelled = match &found {
        Found::Thing(id) => id.to_string(),
        // All types of a steered name have one TTL.
        Found::Steered(zone, owner) => format!("{}/{}", zone_text(zone), owner.relative_to(zone)),
        Found::Static(zone, owner, rtype) => {
            let rtype = rtype.map_or_else(String::new, |rtype| format!("/{rtype}"));
            format!("{}/{}{rtype}", zone_text(zone), owner.relative_to(zone))
        }
        Found::Child(..) | Found::Rule(..) => plain,
    };
    Ok((found, spelled))
}

/// Reads a target; what `set` sets tells `zone/pool` from `zone/name`.
pub(in crate::control) fn find(target: &str, set: Setting, zones: Loaded<'_>) -> Result<Found, Refusal> {
    let found = find_as(target, set, zones);
    let Err(Refusal::NotFound { .. }) = found else { return found };
    if let Some(what) = what_it_is(target, zones) {
        let (sets, of) = match set {
            Setting::State(_) => ("a state", "an endpoint (ZONE/POOL/ADDRESS), a pool (ZONE/POOL) or region:NAME"),
            Setting::Weight(_) => ("a weight", "an endpoint (ZONE/POOL/ADDRESS) or a policy's child (ZONE/policy:NAME/CHILD)"),
            Setting::Ttl(_) => ("a TTL", "a steered name (ZONE/NAME) or records (ZONE/NAME/TYPE)"),
            Setting::Disabled(_) => ("disabled", "a rule of a geo policy (ZONE/policy:NAME/rule:CONDITION or ZONE/NAME/rule:CONDITION)"),
        };
        let detail = format!("{target} is {what}; {sets} is that of {of}");
        return Err(Refusal::Invalid { field: "target".into(), detail });
    }
    // Nothing in a zone can be found when the zone is not there.
    match own_zone(target).filter(|zone| target.contains('/') && zones.get(zone).is_none()) {
        Some(zone) if !target.starts_with("library/") => {
            let known: Vec<String> = zones.iter().map(|zone| zone_text(&zone.model.name)).take(MAX_COMPARED).collect();
            Err(Refusal::NotFound { what: format!("zone {} (for {target})", zone_text(&zone)), near: near(&zone_text(&zone), &known) })
        }
        _ => found,
    }
}

/// What kind of thing a target is, whatever is to be set.
fn what_it_is(target: &str, zones: Loaded<'_>) -> Option<&'static str> {
    if zones.around(target).any(|zone| zone.ids.endpoint(&zone.model, target).is_some()) {
        return Some("an endpoint");
    }
    if zones.around(target).any(|zone| !zone.ids.pools_of(&zone.model, target).is_empty()) {
        return Some(if target.starts_with("region:") { "a region" } else { "a pool" });
    }
    if find_child(target, zones).is_ok() {
        return Some("a policy's child");
    }
    if rules::find(target, true, zones.iter()).is_ok() {
        return Some("a rule");
    }
    match find_name(target, 1, zones) {
        Ok(Found::Steered(..)) => Some("a steered name"),
        Ok(_) => Some("a name with records"),
        Err(_) => None,
    }
}

fn find_as(target: &str, set: Setting, zones: Loaded<'_>) -> Result<Found, Refusal> {
    match set {
        Setting::State(_) => find_thing(target, zones, true),
        Setting::Disabled(is_disabled) => rules::find(target, is_disabled, zones.iter()),
        Setting::Weight(_) if target.contains("/policy:") => find_child(target, zones),
        Setting::Weight(_) => find_thing(target, zones, false),
        Setting::Ttl(ttl) if ttl == 0 || ttl > MAX_TTL => {
            Err(Refusal::Invalid { field: "set.ttl".into(), detail: format!("found {ttl}, expected 1 to {MAX_TTL} s") })
        }
        Setting::Ttl(ttl) => find_name(target, ttl, zones),
    }
}

fn not_found(what: &str, candidates: impl Iterator<Item = String>) -> Refusal {
    let candidates: Vec<String> = candidates.take(MAX_COMPARED).collect();
    Refusal::NotFound { what: what.into(), near: near(what, &candidates) }
}

fn find_thing(target: &str, zones: Loaded<'_>, with_groups: bool) -> Result<Found, Refusal> {
    let is_endpoint = |zone: &ZoneParts| zone.ids.endpoint(&zone.model, target).is_some();
    let is_here = |zone: &ZoneParts| if with_groups { !zone.ids.pools_of(&zone.model, target).is_empty() } else { is_endpoint(zone) };
    if zones.around(target).any(is_here) {
        return Ok(Found::Thing(target.into()));
    }
    let of_pools = zones.around(target).flat_map(|zone| &zone.model.pools).flat_map(|pool| {
        let groups = [Some(pool.id.to_string()), pool.region.as_ref().map(|region| format!("region:{region}"))];
        let groups = groups.into_iter().flatten().filter(move |_| with_groups);
        groups.chain(pool.endpoints.iter().map(|endpoint| endpoint.id.to_string()))
    });
    Err(not_found(target, of_pools))
}

fn find_child(target: &str, zones: Loaded<'_>) -> Result<Found, Refusal> {
    let children = |zone: &'_ ZoneParts| {
        let (model, zone_text) = (zone.model.clone(), zone_text(&zone.model.name));
        (0..model.policies.len()).flat_map(move |at| {
            let policy = &model.policies[at];
            let PolicyKind::Weighted { to, .. } = &policy.kind else { return Vec::new() };
            let found = |(child, _): &(Child, u16)| Found::Child(model.name.clone(), policy.name.clone(), model.child_name(*child).into());
            to.iter().map(|one| (format!("{zone_text}/policy:{}/{}", policy.name, model.child_name(one.0)), found(one))).collect()
        })
    };
    if let Some((_, found)) = zones.around(target).flat_map(children).find(|(text, _)| text == target) {
        return Ok(found);
    }
    Err(not_found(target, zones.around(target).flat_map(children).map(|(text, _)| text)))
}

fn find_name(target: &str, ttl: Ttl, zones: Loaded<'_>) -> Result<Found, Refusal> {
    let too_high =
        |limit: Ttl| Refusal::Invalid { field: "set.ttl".into(), detail: format!("found {ttl} s, expected at most {limit} s, the files' own") };
    let mut texts = target.split('/');
    let (zone, owner, rtype) = (texts.next().unwrap_or(""), texts.next(), texts.next());
    let Some(parts) = Name::parse_absolute(zone).ok().and_then(|apex| zones.get(&apex.to_lowercase())) else {
        return Err(not_found(target, zones.iter().map(|zone| zone_text(&zone.model.name))));
    };
    let model = &parts.model;
    let candidates = || {
        let steered = model.steers.iter().map(|steer| steer.owner.relative_to(&model.name));
        let statics = parts.tree.names().map(|owner| owner.relative_to(&model.name));
        steered.chain(statics).map(|owner| format!("{}/{owner}", zone_text(&model.name)))
    };
    let owner = owner.and_then(|owner| Name::parse(owner, &model.name).ok()).ok_or_else(|| not_found(target, candidates()))?.to_lowercase();
    let rtype = match rtype.map(str::parse::<RecordType>) {
        None => None,
        Some(Ok(rtype)) if texts.next().is_none() => Some(rtype),
        Some(_) => return Err(not_found(target, candidates())),
    };
    let of_owner: Vec<Rrset> = parts.tree.node_at(owner.as_wire()).into_iter().flat_map(|node| parts.tree.rrsets(node)).collect();
    let of_owner: Vec<Rrset> = of_owner.into_iter().filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).collect();
    if let Some(at) = parts.ids.steer(&owner)
        && rtype.is_none_or(|rtype| of_owner.is_empty() && (model.steers[at].is_cname || parts.steered[at].types.contains(&rtype)))
    {
        let limit = model.steers[at].ttl.max;
        return if ttl > limit { Err(too_high(limit)) } else { Ok(Found::Steered(model.name.clone(), owner)) };
    }
    match of_owner.iter().map(|rrset| rrset.ttl).min() {
        None => Err(not_found(target, candidates())),
        Some(limit) if ttl > limit => Err(too_high(limit)),
        Some(_) => Ok(Found::Static(model.name.clone(), owner, rtype)),
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
