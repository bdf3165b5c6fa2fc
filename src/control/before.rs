//! What holds for the target of a change before it is made, for the audit log.

use serde_json::Value;

use super::api::Setting;
use super::compile::ZoneParts;
use super::overlays::{Effects, Found};
use super::rules;
use crate::policy::model::PolicyKind;

/// The setting of the same sort that is in effect; null where none is: nobody forces the state, or the target is gone.
pub(super) fn in_effect(effects: &Effects, found: &Found, set: Setting, zones: &[&ZoneParts]) -> Value {
    let setting = match (found, set) {
        (Found::Thing(id), Setting::State(_)) => effects.forced([Some(id), None, None]).map(Setting::State),
        (Found::Thing(id), _) => {
            let mut endpoints = zones.iter().flat_map(|zone| &zone.model.pools).flat_map(|pool| &pool.endpoints);
            let file = || endpoints.find(|endpoint| *endpoint.id == **id).map(|endpoint| endpoint.weight);
            effects.weight(id).or_else(file).map(Setting::Weight)
        }
        (Found::Child(zone, policy, child), _) => zones.iter().find(|parts| parts.model.name == *zone).and_then(|parts| {
            let model = &parts.model;
            let laid =
                effects.child_weights(model).into_iter().find(|((ix, of), _)| model.policy(*ix).name == *policy && model.child_name(*of) == child);
            let file = || {
                let policies = model.policies.iter().filter(|other| other.name == *policy);
                let mut children =
                    policies.filter_map(|policy| if let PolicyKind::Weighted { to, .. } = &policy.kind { Some(to) } else { None }).flatten();
                children.find(|(of, _)| model.child_name(*of) == child).map(|(_, weight)| *weight)
            };
            laid.map(|(_, weight)| weight).or_else(file).map(Setting::Weight)
        }),
        (Found::Rule(zone, rest), _) => {
            let model = zones.iter().map(|parts| &parts.model).find(|model| model.name == *zone);
            let is_disabled = model.is_some_and(|model| rules::is_disabled(model, rest));
            is_disabled.then_some(Setting::Disabled(true))
        }
        (Found::Steered(owner), _) => {
            let steer = zones.iter().flat_map(|zone| &zone.model.steers).find(|steer| steer.owner == *owner);
            steer.map(|steer| Setting::Ttl(effects.ttl_of_steered(owner, steer.ttl).max))
        }
        (Found::Static(owner, rtype), _) => {
            let laid = effects.static_ttls().iter().rev().find(|(of, on, _)| of == owner && (on.is_none() || on == rtype)).map(|(.., ttl)| *ttl);
            let file = || {
                let zone = zones.iter().filter(|zone| owner.is_at_or_below(&zone.model.name)).max_by_key(|zone| zone.model.name.as_wire().len())?;
                let rrsets = zone.tree.node_at(owner.as_wire()).into_iter().flat_map(|node| zone.tree.rrsets(node));
                rrsets.filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).map(|rrset| rrset.ttl).min()
            };
            laid.or_else(file).map(Setting::Ttl)
        }
    };
    setting.map_or(Value::Null, |setting| serde_json::json!(setting))
}
