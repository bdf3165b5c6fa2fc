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
use crate::control::compile::ZoneParts;
use crate::control::loaded::Loaded;
use crate::control::rules;
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

/// A pool and its region, by their ids.
type Groups = (Arc<str>, Option<Arc<str>>);

/// Tells which overlays hold; remembers what it has looked at, for lists.
pub(in crate::control) struct Ranks<'a> {
    book: &'a Book,
    effects: &'a Effects,
    zones: Loaded<'a>,
    below: HashMap<Arc<str>, Below>,
    pools: HashMap<Arc<str>, Groups>,
}

impl<'a> Ranks<'a> {
    pub(in crate::control) fn new(book: &'a Book, effects: &'a Effects, zones: Loaded<'a>) -> Ranks<'a> {
        Ranks { book, effects, zones, below: HashMap::new(), pools: HashMap::new() }
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
    pub(in crate::control) fn deciding(&mut self, found: &Found, set: Setting) -> Vec<u64> {
        let key = found.key();
        let mut alike = Vec::new();
        self.each_about(&key, |laid| {
            if is_alike(laid.overlay.set, set) {
                alike.push((laid.overlay.id, laid.found().cloned()));
            }
        });
        let ids: Vec<u64> = match (found, set) {
            (Found::Thing(id), Setting::State(_)) => {
                let levels = self.levels(id);
                self.strongest(&levels)
            }
            // Any condition of a rule stands for it.
            (Found::Rule(zone, rest), Setting::Disabled(_)) => {
                let model = self.zones.get(zone).map(|zone| &zone.model);
                let is_of_rule = |laid: &&Laid| match laid.found() {
                    Some(Found::Rule(other_zone, other)) => {
                        other_zone == zone && laid.overlay.is_begun() && model.is_some_and(|model| rules::is_same(model, rest, other))
                    }
                    _ => false,
                };
                self.book.rules().filter(is_of_rule).map(|laid| laid.overlay.id).collect()
            }
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
    pub(in crate::control) fn levels(&mut self, id: &Arc<str>) -> [Option<Arc<str>>; 3] {
        if id.starts_with("region:") {
            return [Some(id.clone()), None, None];
        }
        let prefix = id.rsplit_once('/').map_or("", |(prefix, _)| prefix);
        let known = self.pools.get(&**id).or_else(|| self.pools.get(prefix)).cloned();
        let Some((pool, region)) = known.or_else(|| self.groups(id, prefix)) else { return [Some(id.clone()), None, None] };
        [Some(id.clone()), (pool != *id).then_some(pool), region]
    }

    fn groups(&mut self, id: &str, prefix: &str) -> Option<Groups> {
        let found = |zone: &'a ZoneParts| zone.ids.pool(id).or_else(|| zone.ids.pool(prefix)).map(|at| &zone.model.pools[at]);
        let pool = self.zones.around(id).find_map(found)?;
        let groups = (pool.id.clone(), pool.region.as_ref().map(|region| Arc::from(format!("region:{region}"))));
        self.pools.insert(pool.id.clone(), groups.clone());
        Some(groups)
    }

    fn of_state(&mut self, laid: &Laid, id: &Arc<str>) -> Standing {
        let own = strength(laid);
        let levels = self.levels(id);
        if self.forced(&levels) > own {
            let ids = self.strongest(&levels);
            let why = format!("{} {} it: down beats drain beats up, at any level", self.described(&ids), outrank(ids.len()));
            return Standing { in_force: false, by: ids.into_iter().take(MAX_NAMED).collect(), why: Some(why) };
        }
        // An endpoint has nothing below it, and where nothing else is forced there is nothing to look for.
        let is_group = id.starts_with("region:") || self.pools.contains_key(id);
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
        if over == 0 {
            return Standing::holds();
        }
        let by: Vec<u64> = by.into_iter().take(MAX_NAMED).collect();
        let why = format!("{over} of {all} endpoints: {} {} it there, down beats drain beats up", self.described(&by), outrank(by.len()));
        Standing { in_force: over < all, by, why: Some(why) }
    }

    /// What holds for endpoints below a thing in place of what is forced on it: `down at 3 of 10 endpoints`.
    pub(super) fn unlike_below(&mut self, id: &Arc<str>, forced: Forced) -> Option<String> {
        self.levels(id);
        let is_group = id.starts_with("region:") || self.pools.contains_key(id);
        if !is_group || self.effects.forcing() < 2 {
            return None;
        }
        let below = self.below(id);
        let stronger = [Forced::Drain, Forced::Down].into_iter().filter(|other| forced_strength(*other) > forced_strength(forced));
        let counted = stronger.map(|other| (other.word(), below.forced[usize::from(forced_strength(other))].0)).filter(|(_, count)| *count > 0);
        let words: Vec<String> = counted.map(|(word, count)| format!("{word} at {count}")).collect();
        (!words.is_empty()).then(|| format!("{} of {} endpoints", words.join(", "), below.all))
    }

    fn below(&mut self, id: &Arc<str>) -> &Below {
        if !self.below.contains_key(id) {
            let found = self.look_below(id);
            self.below.insert(id.clone(), found);
        }
        self.below.entry(id.clone()).or_default()
    }

    fn look_below(&self, id: &Arc<str>) -> Below {
        let (mut below, mut seen) = (Below::default(), HashSet::new());
        let mut add = |levels: [Option<Arc<str>>; 3]| {
            let strength = self.forced(&levels);
            below.all += 1;
            let (count, named) = &mut below.forced[usize::from(strength)];
            *count += 1;
            // What beats nothing need not be named.
            if strength > 1 && named.len() < MAX_NAMED {
                named.extend(self.strongest(&levels));
            }
        };
        for zone in self.zones.around(id) {
            for at in zone.ids.pools_of(&zone.model, id) {
                let pool = &zone.model.pools[at];
                // A library's pool is in several zones.
                if !seen.insert(&pool.id) {
                    continue;
                }
                // What is laid on the thing itself is not below it.
                let of_pool = Some(pool.id.clone()).filter(|pool| pool != id);
                if pool.endpoints.is_empty() {
                    add([of_pool.clone(), None, None]);
                }
                pool.endpoints.iter().for_each(|endpoint| add([of_pool.clone(), Some(endpoint.id.clone()), None]));
            }
        }
        below
    }

    /// How strongly one of these is forced.
    fn forced(&self, levels: &[Option<Arc<str>>; 3]) -> Strength {
        self.effects.forced(levels.each_ref().map(|id| id.as_deref())).map_or(0, forced_strength)
    }

    /// The overlays that force one of these the most, oldest first.
    fn strongest(&self, levels: &[Option<Arc<str>>; 3]) -> Vec<u64> {
        let (mut strongest, mut ids) = (0, Vec::new());
        for id in levels.iter().flatten() {
            self.each_about(&Found::Thing(id.clone()), |laid| {
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
        ids
    }

    /// The newest of those that set the same, if that is not this one; of a record type, where there are several.
    fn newest(&self, key: &Found, than: &Laid, rtype: Option<RecordType>) -> Option<u64> {
        // Nothing of any sort is newer.
        if self.book.about(key).next_back().is_none_or(|id| id <= than.overlay.id) {
            return None;
        }
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
        let why = (!by.is_empty()).then(|| {
            let are = if by.len() == 1 { "is" } else { "are" };
            format!("{} {are} newer{part}: of weights and TTLs the newest holds", self.described(&by))
        });
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

/// The verb of so many overlays.
fn outrank(count: usize) -> &'static str {
    if count == 1 { "outranks" } else { "outrank" }
}

/// How strongly an overlay forces what it is about.
fn strength(laid: &Laid) -> Strength {
    let overlay = &laid.overlay;
    let is_on_its_way = overlay.back.is_some() || overlay.ramp.as_ref().is_some_and(|ramp| !ramp.done);
    match overlay.set {
        Setting::State(_) if is_on_its_way => 1,
        Setting::State(forced) => forced_strength(forced),
        Setting::Weight(_) | Setting::Ttl(_) | Setting::Disabled(_) => 0,
    }
}

fn forced_strength(forced: Forced) -> Strength {
    match forced {
        Forced::Up => 1,
        Forced::Drain => 2,
        Forced::Down => DOWN,
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
