//! What holds for the target of a change before it is made, for the audit log.

use serde_json::Value;

use super::api::Setting;
use super::loaded::Loaded;
use super::overlays::{Effects, Found, weight_now};
use super::rules;

/// The setting of the same sort that is in effect; null where none is: nobody forces the state, or the target is gone.
pub(super) fn in_effect(effects: &Effects, found: &Found, set: Setting, zones: Loaded<'_>) -> Value {
    let setting = match (found, set) {
        (Found::Thing(id), Setting::State(_)) => effects.forced([Some(id), None, None]).map(Setting::State),
        (Found::Thing(_) | Found::Child(..), _) => weight_now(found, zones, effects).map(Setting::Weight),
        (Found::Rule(zone, rest), _) => {
            let is_disabled = zones.get(zone).is_some_and(|parts| rules::is_disabled(&parts.model, rest));
            is_disabled.then_some(Setting::Disabled(true))
        }
        (Found::Steered(zone, owner), _) => zones.steer(zone, owner).map(|steer| Setting::Ttl(effects.ttl_of_steered(zone, owner, steer.ttl).max)),
        (Found::Static(zone, owner, rtype), _) => {
            let laid = effects.static_ttls_of(zone, owner).iter().rev().find(|(on, _)| on.is_none() || on == rtype).map(|(_, ttl)| *ttl);
            let file = || {
                let tree = &zones.get(zone)?.tree;
                let rrsets = tree.node_at(owner.as_wire()).into_iter().flat_map(|node| tree.rrsets(node));
                rrsets.filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).map(|rrset| rrset.ttl).min()
            };
            laid.or_else(file).map(Setting::Ttl)
        }
    };
    setting.map_or(Value::Null, |setting| serde_json::json!(setting))
}
