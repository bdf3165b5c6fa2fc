//! What all overlays in force come to, and what two such sums do not have in common.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::target::{Found, policy_child};
use crate::control::api::{Forced, Setting};
use crate::dns::{Name, RecordType};
use crate::policy::model::{Child, PolicyIx, Pool, TtlRange, ZoneModel};
use crate::zone::Ttl;

/// What all overlays in effect come to.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Effects {
    /// By endpoint id, pool id, or `region:NAME`. The strongest wins.
    forced: HashMap<Arc<str>, Forced>,
    /// By endpoint id, pool id, or `region:NAME`: the share of its traffic that it gives up. The largest wins.
    yields: HashMap<Arc<str>, f32>,
    /// Endpoint ids, pool ids, or `region:NAME` that will soon be withdrawn.
    soon: HashMap<Arc<str>, ()>,
    /// By endpoint id. The newest wins.
    weights: HashMap<Arc<str>, u16>,
    children: HashMap<(Name, String, String), u16>,
    steered: HashMap<Name, Ttl>,
    statics: Vec<(Name, Option<RecordType>, Ttl)>,
}

impl Effects {
    /// What is not the same in `before`.
    pub(in crate::control) fn differing(&self, before: &Effects) -> Differing {
        let mut differing = Differing::default();
        differing.things.extend(differing_keys(&self.forced, &before.forced));
        differing.things.extend(differing_keys(&self.yields, &before.yields));
        differing.things.extend(differing_keys(&self.soon, &before.soon));
        differing.things.extend(differing_keys(&self.weights, &before.weights));
        differing.zones.extend(differing_keys(&self.children, &before.children).map(|(zone, ..)| zone));
        differing.owners.extend(differing_keys(&self.steered, &before.steered));
        if self.statics != before.statics {
            // Their order counts, so all of them.
            differing.owners.extend(self.statics.iter().chain(&before.statics).map(|(owner, ..)| owner.clone()));
        }
        differing
    }

    /// Adds one that is newer than those that are in.
    pub(super) fn add(&mut self, found: &Found, set: Setting) {
        match (found.clone(), set) {
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

    /// Adds one that withdraws step by step.
    pub(super) fn add_yield(&mut self, found: &Found, share: f32) {
        if let Found::Thing(id) = found {
            let largest = self.yields.entry(id.clone()).or_insert(share);
            *largest = largest.max(share);
        }
    }

    /// Adds one that will soon withdraw.
    pub(super) fn add_soon(&mut self, found: &Found) {
        if let Found::Thing(id) = found {
            self.soon.insert(id.clone(), ());
        }
    }

    /// True when anything is forced, given up or announced anywhere.
    pub(in crate::control) fn forces_any(&self) -> bool {
        !(self.forced.is_empty() && self.yields.is_empty() && self.soon.is_empty())
    }

    /// True when anything gives up traffic step by step.
    pub(in crate::control) fn yields_any(&self) -> bool {
        !self.yields.is_empty()
    }

    /// The largest share that endpoint, pool or region give up.
    pub(in crate::control) fn yields(&self, ids: [Option<&str>; 2]) -> f32 {
        ids.into_iter().flatten().filter_map(|id| self.yields.get(id)).copied().fold(0.0, f32::max)
    }

    /// True when one of them will soon be withdrawn.
    pub(in crate::control) fn is_soon(&self, ids: [Option<&str>; 3]) -> bool {
        !self.soon.is_empty() && ids.into_iter().flatten().any(|id| self.soon.contains_key(id))
    }

    /// Of a policy's child, if it is set.
    pub(super) fn child_weight(&self, child: &(Name, String, String)) -> Option<u16> {
        self.children.get(child).copied()
    }

    /// The strongest of endpoint, pool and region.
    pub(in crate::control) fn forced(&self, ids: [Option<&str>; 3]) -> Option<Forced> {
        ids.into_iter().flatten().filter_map(|id| self.forced.get(id)).copied().max()
    }

    /// Of an endpoint, if it is set.
    pub(in crate::control) fn weight(&self, endpoint: &str) -> Option<u16> {
        self.weights.get(endpoint).copied()
    }

    /// Of the children of the zone's policies, as far as they are set.
    pub(in crate::control) fn child_weights(&self, model: &ZoneModel) -> BTreeMap<(PolicyIx, Child), u16> {
        let mut found = BTreeMap::new();
        for ((_, policy, child), weight) in self.children.iter().filter(|((zone, ..), _)| *zone == model.name) {
            if let Some(key) = policy_child(model, policy, child) {
                found.insert(key, *weight);
            }
        }
        found
    }

    /// Never above what the file says: signed ceilings must hold (DESIGN §7).
    pub(in crate::control) fn ttl_of_steered(&self, owner: &Name, file: TtlRange) -> TtlRange {
        match self.steered.get(owner) {
            Some(ttl) => TtlRange { max: (*ttl).min(file.max), min: file.min.min(*ttl) },
            None => file,
        }
    }

    /// In order of age: a later one replaces an earlier one.
    pub(in crate::control) fn static_ttls(&self) -> &[(Name, Option<RecordType>, Ttl)] {
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
pub(in crate::control) struct Differing {
    /// Endpoint ids, pool ids, `region:NAME`.
    things: HashSet<Arc<str>>,
    /// Apexes of zones with policies whose children weigh otherwise.
    zones: HashSet<Name>,
    /// Names with other TTLs.
    owners: HashSet<Name>,
}

impl Differing {
    /// One endpoint, pool or region.
    pub(in crate::control) fn of_thing(id: Arc<str>) -> Differing {
        Differing { things: [id].into(), ..Differing::default() }
    }

    /// Both.
    pub(in crate::control) fn and(mut self, other: Differing) -> Differing {
        self.things.extend(other.things);
        self.zones.extend(other.zones);
        self.owners.extend(other.owners);
        self
    }

    /// True when the zone has any of it.
    pub(in crate::control) fn touches(&self, model: &ZoneModel) -> bool {
        self.zones.contains(&model.name)
            || self.owners.iter().any(|owner| owner.is_at_or_below(&model.name))
            || self.may_touch_pools(model) && model.pools.iter().any(|pool| self.touches_pool(pool))
    }

    /// Ids begin with their zone, so most zones need not look at their endpoints.
    fn may_touch_pools(&self, model: &ZoneModel) -> bool {
        if self.things.is_empty() {
            return false;
        }
        let label = super::zone_text(&model.name);
        let is_own = |id: &str| id.strip_prefix(&*label).is_some_and(|rest| rest.starts_with('/'));
        self.things.iter().any(|id| is_own(id) || id.starts_with("region:") || id.starts_with("library/"))
    }

    /// Endpoint ids, pool ids, `region:NAME`.
    pub(in crate::control) fn things(&self) -> impl Iterator<Item = &Arc<str>> {
        self.things.iter()
    }

    fn has(&self, id: &str) -> bool {
        self.things.contains(id)
    }

    /// True when the pool as a whole or its region is among it.
    fn has_group(&self, pool: &Pool) -> bool {
        self.has(&pool.id) || pool.region.as_ref().is_some_and(|region| self.has(&format!("region:{region}")))
    }

    /// True when the pool, its region or one of its endpoints is among it.
    pub(in crate::control) fn touches_pool(&self, pool: &Pool) -> bool {
        self.has_group(pool) || pool.endpoints.iter().any(|endpoint| self.things.contains(&*endpoint.id))
    }
}
