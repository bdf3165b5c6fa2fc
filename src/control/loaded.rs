//! The zones as they are loaded, for finding by name and by id what requests are about, in steps that do not grow with what is loaded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::api::CheckSpec;
use super::compile::ZoneParts;
use super::state::Zones;
use super::status::labelled;
use crate::dns::Name;
use crate::policy::model::{Endpoint, PolicyKind, Pool, Steer, ZoneModel};

/// Where ids and names lead in one zone.
#[derive(Debug, Default)]
pub struct Ids {
    pools: HashMap<Arc<str>, usize>,
    regions: HashMap<String, Vec<usize>>,
    steers: HashMap<Name, usize>,
    endpoints: usize,
    /// Some policy gives a child weight 0.
    zero_weights: bool,
}

impl Ids {
    /// Of the zone's pools, regions and steered names.
    pub fn of(model: &ZoneModel) -> Ids {
        let mut ids = Ids::default();
        for (at, pool) in model.pools.iter().enumerate() {
            ids.pools.insert(pool.id.clone(), at);
            ids.endpoints += pool.endpoints.len();
            if let Some(region) = &pool.region {
                ids.regions.entry(region.clone()).or_default().push(at);
            }
        }
        ids.zero_weights = model.policies.iter().any(|policy| match &policy.kind {
            PolicyKind::Weighted { to, .. } => to.iter().any(|(_, weight)| *weight == 0),
            _ => false,
        });
        ids.steers = model.steers.iter().enumerate().map(|(at, steer): (usize, &Steer)| (steer.owner.clone(), at)).collect();
        ids
    }

    /// Endpoints of all pools.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints
    }

    /// True when some policy gives a child weight 0, as the files have it.
    pub fn has_zero_weights(&self) -> bool {
        self.zero_weights
    }

    /// Regions that pools of the zone are in.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.regions.keys().map(String::as_str)
    }

    /// Position of a pool.
    pub fn pool(&self, id: &str) -> Option<usize> {
        self.pools.get(id).copied()
    }

    /// Position of the steered name of an owner, lower case.
    pub fn steer(&self, owner: &Name) -> Option<usize> {
        self.steers.get(owner).copied()
    }

    /// An endpoint, and the position of its pool.
    pub fn endpoint<'m>(&self, model: &'m ZoneModel, id: &str) -> Option<(usize, &'m Endpoint)> {
        let at = self.pool(id.rsplit_once('/')?.0)?;
        model.pools[at].endpoints.iter().find(|endpoint| *endpoint.id == *id).map(|endpoint| (at, endpoint))
    }

    /// Positions of the pools that an endpoint is in, a pool is, or a `region:NAME` is made of.
    pub fn pools_of(&self, model: &ZoneModel, id: &str) -> Vec<usize> {
        match id.strip_prefix("region:") {
            Some(region) => self.regions.get(region).cloned().unwrap_or_default(),
            None => self.pool(id).or_else(|| self.endpoint(model, id).map(|(at, _)| at)).into_iter().collect(),
        }
    }
}

/// The zones in service, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded<'a>(pub(super) &'a Zones);

impl<'a> Loaded<'a> {
    /// By its name, lower case.
    pub(super) fn get(self, name: &Name) -> Option<&'a ZoneParts> {
        self.0.get(name).map(|zone| &*zone.taken.parts)
    }

    /// In name order.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a ZoneParts> + Clone {
        self.0.values().map(|zone| &*zone.taken.parts)
    }

    /// The zones in which an id may be: ids begin with their zone, but for regions and what libraries define.
    pub(super) fn around(self, id: &str) -> impl Iterator<Item = &'a ZoneParts> + use<'a> {
        let own = own_zone(id).and_then(|apex| self.get(&apex));
        let others = own.is_none().then(|| self.iter());
        own.into_iter().chain(others.into_iter().flatten())
    }

    /// An endpoint and its pool.
    pub(super) fn endpoint(self, id: &str) -> Option<(&'a Pool, &'a Endpoint)> {
        self.around(id).find_map(|zone| zone.ids.endpoint(&zone.model, id).map(|(at, endpoint)| (&zone.model.pools[at], endpoint)))
    }

    /// The checks of an endpoint, each with what it is called there; those that two of its monitors ask for alike once.
    pub(super) fn checks_of(self, id: &str) -> Option<Vec<(CheckSpec, String)>> {
        self.around(id).find_map(|zone| {
            let (at, _) = zone.ids.endpoint(&zone.model, id)?;
            let (index, endpoint) = zone.model.pools[at].endpoints.iter().enumerate().find(|(_, endpoint)| *endpoint.id == *id)?;
            let mut seen = HashSet::new();
            let labelled = labelled(&zone.model, endpoint, zone.checks[at].get(index)?).filter(|(_, spec)| seen.insert(*spec));
            Some(labelled.map(|(label, spec)| (spec.clone(), label)).collect())
        })
    }

    /// The checks of an endpoint that have no vote.
    pub(super) fn advisory_of(self, id: &str) -> Vec<CheckSpec> {
        let found = self.around(id).find_map(|zone| {
            let (at, _) = zone.ids.endpoint(&zone.model, id)?;
            let (index, endpoint) = zone.model.pools[at].endpoints.iter().enumerate().find(|(_, endpoint)| *endpoint.id == *id)?;
            let specs = zone.checks[at].get(index)?.iter().enumerate();
            Some(specs.filter(|(at, _)| !endpoint.goes_by(*at)).map(|(_, spec)| spec.clone()).collect())
        });
        found.unwrap_or_default()
    }

    /// A steered name.
    pub(super) fn steer(self, zone: &Name, owner: &Name) -> Option<&'a Steer> {
        let zone = self.get(zone)?;
        zone.ids.steer(owner).map(|at| &zone.model.steers[at])
    }
}

/// The zone that an id begins with, whether there is one or not.
pub(super) fn own_zone(id: &str) -> Option<Name> {
    Name::parse_absolute(id.split_once('/')?.0).ok().map(|apex| apex.to_lowercase())
}
