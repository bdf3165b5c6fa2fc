//! What the files say of the targets of overlays, and what is in effect.

use std::collections::BTreeMap;

use super::{Book, Effects, Found, zone_text};
use crate::control::api::{Difference, Forced, Setting};
use crate::control::compile::ZoneParts;
use crate::policy::model::{Endpoint, PolicyKind};

/// Everything that is not as the files say, in the order of the oldest overlay about it.
pub(in crate::control) fn differences(book: &Book, effects: &Effects, zones: &[&ZoneParts]) -> Vec<Difference> {
    let mut all: Vec<Difference> = Vec::new();
    let mut known: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for laid in book.iter().filter(|laid| laid.overlay.is_begun()) {
        let Some(found) = laid.found() else { continue };
        let (what, files, now) = match laid.overlay.set {
            Setting::Disabled(_) => ("rule", "enabled".into(), "disabled".into()),
            Setting::State(_) => ("state", "as its checks say".to_string(), state_now(found, effects)),
            Setting::Weight(_) => {
                let text = |weight: Option<u16>| weight.map_or_else(String::new, |weight| weight.to_string());
                ("weight", text(weight_of_files(found, zones)), text(weight_now(found, zones, effects)))
            }
            Setting::Ttl(_) => {
                let (files, now) = ttls(found, zones, effects);
                ("ttl", files, now)
            }
        };
        let target = &laid.overlay.target;
        match known.get(&(target.clone(), what)) {
            Some(at) => all[*at].overlays.push(laid.overlay.id),
            None if files == now => {}
            None => {
                known.insert((target.clone(), what), all.len());
                all.push(Difference { target: target.clone(), what: what.into(), files, now, overlays: vec![laid.overlay.id] });
            }
        }
    }
    all
}

fn state_now(found: &Found, effects: &Effects) -> String {
    let Found::Thing(id) = found else { return String::new() };
    match effects.forced([Some(&**id), None, None]) {
        Some(Forced::Down) => "down".into(),
        Some(Forced::Drain) => "drain".into(),
        Some(Forced::Up) => "up".into(),
        None => format!("gives up {:.0} %", effects.yields([Some(&**id), None]) * 100.0),
    }
}

fn endpoint<'z>(id: &str, zones: &[&'z ZoneParts]) -> Option<&'z Endpoint> {
    let pools =
        zones.iter().filter(|zone| id.starts_with("library/") || id.starts_with(&zone_text(&zone.model.name))).flat_map(|zone| &zone.model.pools);
    pools.flat_map(|pool| &pool.endpoints).find(|endpoint| *endpoint.id == *id)
}

fn weight_of_files(found: &Found, zones: &[&ZoneParts]) -> Option<u16> {
    match found {
        Found::Thing(id) => endpoint(id, zones).map(|endpoint| endpoint.weight),
        Found::Child(zone, policy, child) => {
            let model = &zones.iter().find(|parts| parts.model.name == *zone)?.model;
            let (ix, child) = super::target::policy_child(model, policy, child)?;
            let PolicyKind::Weighted { to, .. } = &model.policy(ix).kind else { return None };
            to.iter().find(|(other, _)| *other == child).map(|(_, weight)| *weight)
        }
        Found::Steered(_) | Found::Static(..) | Found::Rule(..) => None,
    }
}

/// The weight in effect.
pub(super) fn weight_now(found: &Found, zones: &[&ZoneParts], effects: &Effects) -> Option<u16> {
    let laid = match found {
        Found::Thing(id) => effects.weight(id),
        Found::Child(zone, policy, child) => effects.child_weight(&(zone.clone(), policy.clone(), child.clone())),
        Found::Steered(_) | Found::Static(..) | Found::Rule(..) => None,
    };
    laid.or_else(|| weight_of_files(found, zones))
}

fn ttls(found: &Found, zones: &[&ZoneParts], effects: &Effects) -> (String, String) {
    match found {
        Found::Steered(owner) => {
            let mut steers = zones.iter().flat_map(|zone| &zone.model.steers);
            let Some(steer) = steers.find(|steer| steer.owner == *owner) else { return Default::default() };
            (steer.ttl.max.to_string(), effects.ttl_of_steered(owner, steer.ttl).max.to_string())
        }
        Found::Static(owner, rtype) => {
            let tree = zones.iter().map(|zone| &zone.tree).find(|tree| tree.node_at(owner.as_wire()).is_some());
            let Some((tree, node)) = tree.and_then(|tree| Some((tree, tree.node_at(owner.as_wire())?))) else { return Default::default() };
            let files: Vec<(crate::dns::RecordType, u32)> =
                tree.rrsets(node).filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).map(|rrset| (rrset.rtype, rrset.ttl)).collect();
            let now = |(of, ttl): &(crate::dns::RecordType, u32)| {
                let laid = effects.static_ttls().iter().rev().find(|(other, rtype, _)| other == owner && rtype.is_none_or(|rtype| rtype == *of));
                laid.map_or(*ttl, |(.., laid)| (*laid).min(*ttl))
            };
            let text = |all: Vec<String>| all.join(", ");
            (
                text(files.iter().map(|(rtype, ttl)| format!("{rtype} {ttl}")).collect()),
                text(files.iter().map(|file| format!("{} {}", file.0, now(file))).collect()),
            )
        }
        Found::Thing(_) | Found::Child(..) | Found::Rule(..) => Default::default(),
    }
}
