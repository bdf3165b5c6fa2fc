//! What all overlays in force come to, target by target: a change of one touches nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::target::{Found, policy_child};
use crate::control::api::{Forced, Setting};
use crate::dns::{Name, RecordType};
use crate::policy::model::{Child, PolicyIx, TtlRange, ZoneModel};
use crate::zone::Ttl;

/// TTLs that are laid on the records of one owner, oldest first: a later one replaces an earlier one.
type StaticTtls = Vec<(Option<RecordType>, Ttl)>;

/// What the overlays of one target come to. [`Found::key`] says what counts as one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::control) struct Sum {
    /// The strongest wins.
    forced: Option<Forced>,
    /// The share of its traffic that it gives up. The largest wins.
    yields: f32,
    /// It will soon be withdrawn.
    soon: bool,
    /// The newest wins.
    weight: Option<u16>,
    /// Of a steered name. The newest wins.
    ttl: Option<Ttl>,
    statics: StaticTtls,
}

impl Sum {
    /// Adds one that is newer than those that are in.
    pub(super) fn add(&mut self, found: &Found, set: Setting) {
        match (found, set) {
            (_, Setting::State(state)) => self.forced = Some(self.forced.map_or(state, |strongest| strongest.max(state))),
            (_, Setting::Weight(weight)) => self.weight = Some(weight),
            (Found::Static(.., rtype), Setting::Ttl(ttl)) => self.statics.push((*rtype, ttl)),
            (_, Setting::Ttl(ttl)) => self.ttl = Some(ttl),
            // The zone is compiled without the rule.
            (_, Setting::Disabled(_)) => {}
        }
    }

    /// Adds one that withdraws step by step.
    pub(super) fn add_yield(&mut self, share: f32) {
        self.yields = self.yields.max(share);
    }

    /// Adds one that will soon withdraw.
    pub(super) fn add_soon(&mut self) {
        self.soon = true;
    }

    fn forces(&self) -> bool {
        self.forced.is_some() || self.yields > 0.0 || self.soon
    }
}

/// What all overlays in effect come to.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Effects {
    /// By endpoint id, pool id, or `region:NAME`.
    things: HashMap<Arc<str>, Sum>,
    zones: HashMap<Name, OfZone>,
    /// Things that are forced, given up or announced; given up step by step.
    forcing: usize,
    yielding: usize,
}

/// What is laid on policies and names of one zone.
#[derive(Clone, Debug, Default)]
struct OfZone {
    children: HashMap<(String, String), u16>,
    /// Children that will soon have weight 0.
    soon: HashSet<(String, String)>,
    steered: HashMap<Name, Ttl>,
    statics: BTreeMap<Name, StaticTtls>,
}

impl OfZone {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.soon.is_empty() && self.steered.is_empty() && self.statics.is_empty()
    }
}

impl Effects {
    /// Replaces what one target comes to; returns what it came to before.
    pub(in crate::control) fn put(&mut self, key: &Found, sum: Sum) -> Sum {
        let Some(name) = key.zone() else {
            return self.put_thing(key, sum);
        };
        let zone = self.zones.entry(name.clone()).or_default();
        let before = match key {
            Found::Child(_, policy, child) => {
                let child = (policy.clone(), child.clone());
                let soon = if sum.soon { !zone.soon.insert(child.clone()) } else { zone.soon.remove(&child) };
                Sum { weight: put(&mut zone.children, child, sum.weight), soon, ..Sum::default() }
            }
            Found::Steered(_, owner) => Sum { ttl: put(&mut zone.steered, owner.clone(), sum.ttl), ..Sum::default() },
            Found::Static(_, owner, _) => {
                let before = zone.statics.remove(owner).unwrap_or_default();
                if !sum.statics.is_empty() {
                    zone.statics.insert(owner.clone(), sum.statics);
                }
                Sum { statics: before, ..Sum::default() }
            }
            Found::Thing(_) | Found::Rule(..) => Sum::default(),
        };
        if zone.is_empty() {
            self.zones.remove(name);
        }
        before
    }

    fn put_thing(&mut self, key: &Found, sum: Sum) -> Sum {
        let Found::Thing(id) = key else { return Sum::default() };
        let (forces, yields) = (sum.forces(), sum.yields > 0.0);
        let is_nothing = sum == Sum::default();
        let before = if is_nothing { self.things.remove(id) } else { self.things.insert(id.clone(), sum) };
        let before = before.unwrap_or_default();
        self.forcing = self.forcing + usize::from(forces) - usize::from(before.forces());
        self.yielding = self.yielding + usize::from(yields) - usize::from(before.yields > 0.0);
        before
    }

    /// Everything that anything is laid on.
    pub(in crate::control) fn keys(&self) -> impl Iterator<Item = Found> {
        let things = self.things.keys().cloned().map(Found::Thing);
        things.chain(self.zones.iter().flat_map(|(name, zone)| {
            let children = zone.children.keys().chain(&zone.soon).map(|(policy, child)| Found::Child(name.clone(), policy.clone(), child.clone()));
            let steered = zone.steered.keys().map(|owner| Found::Steered(name.clone(), owner.clone()));
            children.chain(steered).chain(zone.statics.keys().map(|owner| Found::Static(name.clone(), owner.clone(), None)))
        }))
    }

    /// True when anything is forced, given up or announced anywhere.
    pub(in crate::control) fn forces_any(&self) -> bool {
        self.forcing > 0
    }

    /// Things that are forced, given up or announced.
    pub(super) fn forcing(&self) -> usize {
        self.forcing
    }

    /// True when anything gives up traffic step by step.
    pub(in crate::control) fn yields_any(&self) -> bool {
        self.yielding > 0
    }

    /// The largest share that endpoint, pool or region give up.
    pub(in crate::control) fn yields(&self, ids: [Option<&str>; 2]) -> f32 {
        if self.yielding == 0 {
            return 0.0;
        }
        ids.into_iter().flatten().filter_map(|id| self.things.get(id)).map(|sum| sum.yields).fold(0.0, f32::max)
    }

    /// True when one of them will soon be withdrawn.
    pub(in crate::control) fn is_soon(&self, ids: [Option<&str>; 3]) -> bool {
        self.forcing > 0 && ids.into_iter().flatten().any(|id| self.things.get(id).is_some_and(|sum| sum.soon))
    }

    /// The strongest of endpoint, pool and region.
    pub(in crate::control) fn forced(&self, ids: [Option<&str>; 3]) -> Option<Forced> {
        if self.forcing == 0 {
            return None;
        }
        ids.into_iter().flatten().filter_map(|id| self.things.get(id)?.forced).max()
    }

    /// Of an endpoint, if it is set.
    pub(in crate::control) fn weight(&self, endpoint: &str) -> Option<u16> {
        self.things.get(endpoint)?.weight
    }

    /// Of a policy's child, if it is set.
    pub(in crate::control) fn child_weight(&self, zone: &Name, policy: &str, child: &str) -> Option<u16> {
        self.zones.get(zone)?.children.get(&(policy.to_owned(), child.to_owned())).copied()
    }

    /// Of the children of the zone's policies, as far as they are set.
    pub(in crate::control) fn child_weights(&self, model: &ZoneModel) -> BTreeMap<(PolicyIx, Child), u16> {
        let children = self.zones.get(&model.name).into_iter().flat_map(|zone| &zone.children);
        children.filter_map(|((policy, child), weight)| Some((policy_child(model, policy, child)?, *weight))).collect()
    }

    /// Children of the zone's policies that will soon have weight 0.
    pub(in crate::control) fn soon_idle(&self, model: &ZoneModel) -> impl Iterator<Item = Child> {
        let soon = self.zones.get(&model.name).into_iter().flat_map(|zone| &zone.soon);
        soon.filter_map(|(policy, child)| policy_child(model, policy, child)).map(|(_, child)| child)
    }

    /// Owners of the zone's steered names whose TTL is set.
    pub(in crate::control) fn steered_owners(&self, zone: &Name) -> impl Iterator<Item = &Name> {
        self.zones.get(zone).into_iter().flat_map(|zone| zone.steered.keys())
    }

    /// Never above what the file says: signed ceilings must hold (DESIGN §7).
    pub(in crate::control) fn ttl_of_steered(&self, zone: &Name, owner: &Name, file: TtlRange) -> TtlRange {
        match self.zones.get(zone).and_then(|zone| zone.steered.get(owner)) {
            Some(ttl) => TtlRange { max: (*ttl).min(file.max), min: file.min.min(*ttl) },
            None => file,
        }
    }

    /// What is laid on the zone's records: by owner, each oldest first.
    pub(in crate::control) fn static_ttls(&self, zone: &Name) -> impl Iterator<Item = (&Name, &[(Option<RecordType>, Ttl)])> {
        self.zones.get(zone).into_iter().flat_map(|zone| zone.statics.iter().map(|(owner, ttls)| (owner, &ttls[..])))
    }

    /// What is laid on the records of one owner, oldest first.
    pub(in crate::control) fn static_ttls_of(&self, zone: &Name, owner: &Name) -> &[(Option<RecordType>, Ttl)] {
        self.zones.get(zone).and_then(|zone| zone.statics.get(owner)).map_or(&[], |ttls| &ttls[..])
    }
}

fn put<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}
