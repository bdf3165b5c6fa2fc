//! Which of several overlays holds: the rules by which [`effects`](super::effects) sums them up, told overlay by overlay.
//!
//! ```text
//! sets             looked at beside it                           holds
//! up, drain, down  its target, the pool and the region of that,  the strongest; of equals all. One that is on its way beats nothing yet
//!                  and, part by part, what is below it
//! weight           its target                                    the newest
//! ttl              its target, type by type                      the newest
//! disabled         nothing                                       all
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Book, Effects, Found, Laid};
use crate::control::api::{Forced, Setting};
use crate::control::loaded::Loaded;
use crate::dns::RecordType;

/// Overlays that are named where several hold.
const MAX_NAMED: usize = 10;
/// Overlays that are described in a sentence.
const MAX_DESCRIBED: usize = 3;

/// `up`, what is on its way, `drain`, `down`; 0 for what forces nothing.
type Strength = u8;
const DOWN: Strength = 3;

/// Whether an overlay holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Standing {
    /// It does, in part at least.
    pub(in crate::control) in_force: bool,
    /// Those that do in its place, or in part of it; oldest first, as far as they are named.
    pub(in crate::control) by: Vec<u64>,
    /// The same in a sentence.
    pub(in crate::control) why: Option<String>,
}

impl Standing {
    fn holds() -> Standing {
        Standing { in_force: true, ..Standing::default() }
    }
}

/// What is forced below a pool or region, endpoint by endpoint (a pool without endpoints counts as one).
#[derive(Debug, Default)]
struct Below {
    all: usize,
    /// How many are forced by something of that strength at most, and by which overlays.
    forced: [(usize, BTreeSet<u64>); DOWN as usize + 1],
}

impl Below {
    fn add(&mut self, (strength, ids): &(Strength, Vec<u64>)) {
        self.all += 1;
        let (count, named) = &mut self.forced[usize::from(*strength)];
        *count += 1;
        named.extend(ids.iter().take(MAX_NAMED.saturating_sub(named.len())));
    }
}

/// Tells which overlays hold; remembers what it has looked at, for lists.
pub(in crate::control) struct Ranks<'a> {
    book: &'a Book,
    effects: &'a Effects,
    zones: Loaded<'a>,
    below: HashMap<Arc<str>, Below>,
}

impl<'a> Ranks<'a> {
    pub(in crate::control) fn new(book: &'a Book, effects: &'a Effects, zones: Loaded<'a>) -> Ranks<'a> {
        Ranks { book, effects, zones, below: HashMap::new() }
    }

    /// What it looks in.
    pub(in crate::control) fn zones(&self) -> Loaded<'a> {
        self.zones
    }

    /// Whether an overlay holds. It need not be in the book yet.
    pub(in crate::control) fn standing(&mut self, laid: &Laid) -> Standing {
        let Some(found) = laid.found().filter(|_| laid.overlay.is_begun()) else { return Standing::default() };
        match (found, laid.overlay.set) {
            (Found::Thing(id), Setting::State(_)) => self.of_state(laid, id),
            (Found::Static(zone, owner, rtype), Setting::Ttl(_)) => {
                let types = self.types(zone, owner, *rtype);
                let newest = types.iter().map(|rtype| self.newest(&found.key(), laid, Some(*rtype)));
                let newer: BTreeSet<u64> = newest.clone().flatten().collect();
                let in_force = newest.clone().any(|newer| newer.is_none()) || types.is_empty();
                self.newer(newer, in_force)
            }
            (_, Setting::Disabled(_)) => Standing::holds(),
            (found, _) => {
                let newer: BTreeSet<u64> = self.newest(&found.key(), laid, None).into_iter().collect();
                let in_force = newer.is_empty();
                self.newer(newer, in_force)
            }
        }
    }

    /// The overlays that decide what is in effect for a target, of those that set the same; oldest first, as far as they are named.
    pub(in crate::control) fn deciding(&self, found: &Found, set: Setting) -> Vec<u64> {
        let key = found.key();
        let mut alike = Vec::new();
        self.each_about(&key, |laid| {
            if is_alike(laid.overlay.set, set) {
                alike.push((laid.overlay.id, laid.found().cloned()));
            }
        });
        let ids: Vec<u64> = match (found, set) {
            (Found::Thing(id), Setting::State(_)) => self.strongest(self.levels(id).iter()).1,
            (_, Setting::Disabled(_)) => alike.into_iter().map(|(id, _)| id).collect(),
            (Found::Static(zone, owner, rtype), _) => {
                let is_of = |found: &Option<Found>, rtype| !matches!(found, Some(Found::Static(.., Some(own))) if *own != rtype);
                let newest = |rtype| alike.iter().rev().find(|(_, found)| is_of(found, rtype)).map(|(id, _)| *id);
                self.types(zone, owner, *rtype).into_iter().filter_map(newest).collect::<BTreeSet<u64>>().into_iter().collect()
            }
            _ => alike.last().map(|(id, _)| *id).into_iter().collect(),
        };
        ids.into_iter().take(MAX_NAMED).collect()
    }

    /// An id with the ids of the pool and the region that it is in.
    pub(in crate::control) fn levels(&self, id: &Arc<str>) -> Vec<Arc<str>> {
        let mut levels = vec![id.clone()];
        if id.starts_with("region:") {
            return levels;
        }
        for zone in self.zones.around(id) {
            let pool = zone.ids.pool(id).or_else(|| zone.ids.pool(id.rsplit_once('/')?.0));
            let Some(pool) = pool.map(|at| &zone.model.pools[at]) else { continue };
            if pool.id != *id {
                levels.push(pool.id.clone());
            }
            levels.extend(pool.region.as_ref().map(|region| Arc::from(format!("region:{region}"))));
            break;
        }
        levels
    }

    fn of_state(&mut self, laid: &Laid, id: &Arc<str>) -> Standing {
        let own = strength(laid);
        let (strongest, ids) = self.strongest(self.levels(id).iter());
        if strongest > own {
            let why = format!("{} outranks it: down beats drain beats up, at any level", self.described(&ids));
            return Standing { in_force: false, by: ids.into_iter().take(MAX_NAMED).collect(), why: Some(why) };
        }
        let is_group = id.starts_with("region:") || self.zones.around(id).any(|zone| zone.ids.pool(id).is_some());
        // Nothing but itself forces anything.
        if !is_group || self.effects.forcing() < 2 {
            return Standing::holds();
        }
        let (mut over, mut by) = (0, BTreeSet::new());
        let below = self.below(id);
        let all = below.all;
        for (count, ids) in &below.forced[usize::from(own) + 1..] {
            over += count;
            by.extend(ids.iter().copied());
        }
        let by: Vec<u64> = by.into_iter().take(MAX_NAMED).collect();
        if over == 0 {
            return Standing::holds();
        }
        let why = format!("{over} of {all} endpoints: {} outranks it there, down beats drain beats up", self.described(&by));
        Standing { in_force: over < all, by, why: Some(why) }
    }

    fn below(&mut self, id: &Arc<str>) -> &Below {
        if !self.below.contains_key(id) {
            let (mut below, mut seen) = (Below::default(), HashSet::new());
            for zone in self.zones.around(id) {
                for at in zone.ids.pools_of(&zone.model, id) {
                    let pool = &zone.model.pools[at];
                    // A library's pool is in several zones.
                    if !seen.insert(&pool.id) {
                        continue;
                    }
                    // What is laid on the thing itself is not below it.
                    let of_pool = [&pool.id].into_iter().filter(|pool| *pool != id);
                    if pool.endpoints.is_empty() {
                        below.add(&self.strongest(of_pool.clone()));
                    }
                    for endpoint in &pool.endpoints {
                        below.add(&self.strongest(of_pool.clone().chain([&endpoint.id])));
                    }
                }
            }
            self.below.insert(id.clone(), below);
        }
        self.below.entry(id.clone()).or_default()
    }

    /// The strongest that forces one of these things, and which overlays do.
    fn strongest<'i>(&self, things: impl Iterator<Item = &'i Arc<str>>) -> (Strength, Vec<u64>) {
        let (mut strongest, mut ids) = (0, Vec::new());
        for thing in things {
            self.each_about(&Found::Thing(thing.clone()), |laid| {
                let strength = strength(laid);
                if strength > strongest {
                    strongest = strength;
                    ids.clear();
                }
                if strength == strongest && strength > 0 {
                    ids.push(laid.overlay.id);
                }
            });
        }
        ids.sort_unstable();
        (strongest, ids)
    }

    /// The newest of those that set the same, if that is not this one; of a record type, where there are several.
    fn newest(&self, key: &Found, than: &Laid, rtype: Option<RecordType>) -> Option<u64> {
        let mut newest = None;
        self.each_about(key, |laid| {
            if is_alike(laid.overlay.set, than.overlay.set) && is_of(laid, rtype) {
                newest = Some(laid.overlay.id);
            }
        });
        newest.filter(|id| *id > than.overlay.id)
    }

    fn newer(&self, newer: BTreeSet<u64>, in_force: bool) -> Standing {
        let by: Vec<u64> = newer.into_iter().take(MAX_NAMED).collect();
        let part = if in_force { " for a part of it" } else { "" };
        let why = (!by.is_empty()).then(|| format!("{} is newer{part}: of weights and TTLs the newest holds", self.described(&by)));
        Standing { in_force, by, why }
    }

    /// Record types that a TTL is about.
    fn types(&self, zone: &crate::dns::Name, owner: &crate::dns::Name, rtype: Option<RecordType>) -> Vec<RecordType> {
        if let Some(rtype) = rtype {
            return vec![rtype];
        }
        let Some(tree) = self.zones.get(zone).map(|zone| &zone.tree) else { return Vec::new() };
        tree.node_at(owner.as_wire()).into_iter().flat_map(|node| tree.rrsets(node)).map(|rrset| rrset.rtype).collect()
    }

    /// Overlays about a target that have begun, oldest first.
    fn each_about(&self, key: &Found, f: impl FnMut(&Laid)) {
        self.book.about(key).filter_map(|id| self.book.get(id)).filter(|laid| laid.overlay.is_begun()).for_each(f);
    }

    /// Overlays as the subject of a sentence.
    fn described(&self, ids: &[u64]) -> String {
        let one = |id: &u64| match self.book.get(*id) {
            Some(laid) => format!("overlay {id} ({} {})", laid.overlay.target, laid.overlay.set),
            None => format!("overlay {id}"),
        };
        let mut words: Vec<String> = ids.iter().take(MAX_DESCRIBED).map(one).collect();
        if ids.len() > MAX_DESCRIBED {
            words.push("others".into());
        }
        words.join(" and ")
    }
}

/// How strongly an overlay forces what it is about.
fn strength(laid: &Laid) -> Strength {
    let overlay = &laid.overlay;
    let is_on_its_way = overlay.back.is_some() || overlay.ramp.as_ref().is_some_and(|ramp| !ramp.done);
    match overlay.set {
        Setting::State(_) if is_on_its_way => 1,
        Setting::State(Forced::Up) => 1,
        Setting::State(Forced::Drain) => 2,
        Setting::State(Forced::Down) => DOWN,
        Setting::Weight(_) | Setting::Ttl(_) | Setting::Disabled(_) => 0,
    }
}

/// Of the same sort.
fn is_alike(one: Setting, other: Setting) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// A TTL that is laid on this record type, or on all of them.
fn is_of(laid: &Laid, rtype: Option<RecordType>) -> bool {
    match laid.found() {
        Some(Found::Static(.., Some(own))) => rtype.is_none_or(|rtype| rtype == *own),
        _ => true,
    }
}
