//! What the files say of the targets of overlays, and what is in effect.

use std::collections::BTreeMap;

use super::{Book, Effects, Found};
use crate::control::api::{Difference, Forced, Setting};
use crate::control::loaded::Loaded;
use crate::dns::RecordType;
use crate::policy::model::PolicyKind;

/// Everything that is not as the files say, in the order of the oldest overlay about it.
pub(in crate::control) fn differences(book: &Book, effects: &Effects, zones: Loaded<'_>) -> Vec<Difference> {
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

fn weight_of_files(found: &Found, zones: Loaded<'_>) -> Option<u16> {
    match found {
        Found::Thing(id) => zones.endpoint(id).map(|(_, endpoint)| endpoint.weight),
        Found::Child(zone, policy, child) => {
            let model = &zones.get(zone)?.model;
            let (ix, child) = super::target::policy_child(model, policy, child)?;
            let PolicyKind::Weighted { to, .. } = &model.policy(ix).kind else { return None };
            to.iter().find(|(other, _)| *other == child).map(|(_, weight)| *weight)
        }
        Found::Steered(..) | Found::Static(..) | Found::Rule(..) => None,
    }
}

/// The weight in effect.
pub(in crate::control) fn weight_now(found: &Found, zones: Loaded<'_>, effects: &Effects) -> Option<u16> {
    let laid = match found {
        Found::Thing(id) => effects.weight(id),
        Found::Child(zone, policy, child) => effects.child_weight(zone, policy, child),
        Found::Steered(..) | Found::Static(..) | Found::Rule(..) => None,
    };
    laid.or_else(|| weight_of_files(found, zones))
}

fn ttls(found: &Found, zones: Loaded<'_>, effects: &Effects) -> (String, String) {
    match found {
        Found::Steered(zone, owner) => {
            let Some(steer) = zones.steer(zone, owner) else { return Default::default() };
            (steer.ttl.max.to_string(), effects.ttl_of_steered(zone, owner, steer.ttl).max.to_string())
        }
        Found::Static(zone, owner, rtype) => {
            let tree = zones.get(zone).map(|zone| &zone.tree);
            let Some((tree, node)) = tree.and_then(|tree| Some((tree, tree.node_at(owner.as_wire())?))) else { return Default::default() };
            let files: Vec<(RecordType, u32)> =
                tree.rrsets(node).filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).map(|rrset| (rrset.rtype, rrset.ttl)).collect();
            let laid = effects.static_ttls_of(zone, owner);
            let now = |(of, ttl): &(RecordType, u32)| {
                let newest = laid.iter().rev().find(|(rtype, _)| rtype.is_none_or(|rtype| rtype == *of));
                newest.map_or(*ttl, |(_, laid)| (*laid).min(*ttl))
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
