//! What the files say of the targets of overlays, and what is in effect.

use std::collections::BTreeMap;

use super::rank::Ranks;
use super::{Book, Effects, Found};
use crate::control::api::{Difference, Overlay, Setting};
use crate::control::loaded::Loaded;
use crate::dns::RecordType;
use crate::policy::model::PolicyKind;

/// Everything that is not as the files say, in the order of the oldest overlay about it.
pub(in crate::control) fn differences(book: &Book, effects: &Effects, zones: Loaded<'_>) -> Vec<Difference> {
    let mut all: Vec<Difference> = Vec::new();
    let mut known: BTreeMap<(&str, &'static str), Option<usize>> = BTreeMap::new();
    let mut ranks = Ranks::new(book, effects, zones);
    for laid in book.iter().filter(|laid| laid.overlay.is_begun()) {
        let Some(found) = laid.found() else { continue };
        let Overlay { id, target, set, .. } = &laid.overlay;
        let at = *known.entry((target, what(*set))).or_insert_with(|| {
            all.extend(difference(target, found, *set, &mut ranks, effects));
            all.len().checked_sub(1).filter(|at| all[*at].target == *target && all[*at].what == what(*set))
        });
        if let Some(at) = at {
            all[at].overlays.push(*id);
        }
    }
    all
}

/// What of a target is not as the files say; which overlays are laid on it is left to the caller.
pub(in crate::control) fn difference(target: &str, found: &Found, set: Setting, ranks: &mut Ranks<'_>, effects: &Effects) -> Option<Difference> {
    let zones = ranks.zones();
    let in_force = ranks.deciding(found, set);
    let (files, now) = match set {
        Setting::Disabled(_) => ("enabled".into(), if in_force.is_empty() { "enabled".into() } else { "disabled".into() }),
        Setting::State(_) => (BY_CHECKS.to_string(), state_now(found, ranks, effects)),
        Setting::Weight(_) => {
            let text = |weight: Option<u16>| weight.map_or_else(String::new, |weight| weight.to_string());
            (text(weight_of_files(found, zones)), text(weight_now(found, zones, effects)))
        }
        Setting::Ttl(_) => ttls(found, zones, effects),
    };
    (files != now).then(|| Difference { target: target.into(), what: what(set).into(), files, now, overlays: Vec::new(), in_force })
}

/// What the files say of a state.
const BY_CHECKS: &str = "as its checks say";

fn what(set: Setting) -> &'static str {
    match set {
        Setting::Disabled(_) => "rule",
        Setting::State(_) => "state",
        Setting::Weight(_) => "weight",
        Setting::Ttl(_) => "ttl",
    }
}

fn state_now(found: &Found, ranks: &mut Ranks<'_>, effects: &Effects) -> String {
    let Found::Thing(id) = found else { return String::new() };
    let levels = ranks.levels(id);
    let level = |at: usize| levels[at].as_deref();
    match effects.forced([level(0), level(1), level(2)]) {
        Some(forced) => match ranks.unlike_below(id, forced) {
            Some(elsewhere) => format!("{}, {elsewhere}", forced.word()),
            None => forced.word().into(),
        },
        None => match effects.yields([level(0), level(1)]).max(effects.yields([level(2), None])) {
            0.0 => BY_CHECKS.into(),
            share => format!("gives up {:.0} %", share * 100.0),
        },
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
