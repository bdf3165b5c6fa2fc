//! CNAMEs of steered names that may lead back to where they started, through other steered names and the static aliases of the zone. Linear in the
//! names that are passed.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::checks::Whole;
use crate::dns::Name;
use crate::policy::model::Target;
use crate::zone::Owners;
use crate::zone::check::{Aliases, Onward};

/// The most loops that are told: whoever has more repairs these first.
const MAX_LOOPS: usize = 20;
/// The most names of a loop that are listed.
const MAX_LOOP_NAMES: usize = 8;

/// Where names lead.
struct Ways<'a> {
    aliases: Aliases<'a>,
    /// Position in the model's steered names and targets, by owner; none are there for names with addresses.
    steered: HashMap<&'a Name, (usize, Vec<&'a Name>)>,
    /// Steered names and all names above them: they exist.
    existing: HashSet<Name>,
    apex: &'a Name,
}

impl Ways<'_> {
    /// The steered name that decides about `name`, and all that it may lead to.
    fn from(&self, name: &Name) -> (Option<usize>, Vec<Name>) {
        let at = |owner: &Name| self.steered.get(owner).map(|(at, to)| (Some(*at), to.iter().map(|to| (*to).clone()).collect()));
        if let Some(found) = at(name) {
            return found;
        }
        let encloser = match self.aliases.onward(name) {
            Onward::Alias(to) => return (None, vec![to]),
            Onward::Ends => return (None, Vec::new()),
            Onward::Absent { encloser } => encloser,
        };
        if self.existing.contains(name) {
            return (None, Vec::new());
        }
        // The wildcard at the closest name above that exists (RFC 4592 §3.3.1).
        let above = std::iter::successors(name.parent(), Name::parent).find(|above| above.label_count() <= encloser || self.existing.contains(above));
        above.and_then(|above| above.child(b"*").ok()).and_then(|wildcard| at(&wildcard)).unwrap_or_default()
    }
}

impl Whole<'_> {
    /// Warns at the first steered name of each loop.
    pub(super) fn loops(&self, owners: &Owners) {
        if self.model.steers.iter().all(|steer| !steer.is_cname) {
            return;
        }
        let ways = self.ways(owners);
        // True while a name is on the way that is being followed.
        let mut seen: HashMap<Name, bool> = HashMap::new();
        let mut told = BTreeSet::new();
        for steer in self.model.steers.iter().filter(|steer| steer.is_cname) {
            if seen.contains_key(&steer.owner) {
                continue;
            }
            let enter = |name: Name| {
                let (at, to) = ways.from(&name);
                (name, at, to)
            };
            seen.insert(steer.owner.clone(), true);
            let mut way = vec![enter(steer.owner.clone())];
            while let Some((name, _, to)) = way.last_mut() {
                let Some(next) = to.pop() else {
                    seen.insert(name.clone(), false);
                    way.pop();
                    continue;
                };
                match seen.get(&next) {
                    Some(false) => {}
                    Some(true) => {
                        let from = way.iter().position(|(name, ..)| *name == next).unwrap_or(0);
                        let first = way[from..].iter().filter_map(|(_, at, _)| *at).min();
                        // Loops of static names alone are told where static names are checked.
                        if let Some(at) = first.filter(|at| told.len() < MAX_LOOPS && told.insert(*at)) {
                            self.tell_loop(at, way[from..].iter().map(|(name, ..)| name).chain([&next]));
                        }
                    }
                    None if next.is_at_or_below(ways.apex) => {
                        seen.insert(next.clone(), true);
                        way.push(enter(next));
                    }
                    None => {}
                }
            }
        }
    }

    fn ways<'a>(&'a self, owners: &'a Owners) -> Ways<'a> {
        let apex = &self.model.name;
        let targets = |at: usize| -> Vec<&'a Name> {
            let endpoints = self.reach[at].iter().flat_map(|ix| &self.model.pool(*ix).endpoints);
            let names = endpoints.filter_map(|endpoint| if let Target::Cname(name) = &endpoint.target { Some(name) } else { None });
            names.collect::<BTreeSet<_>>().into_iter().rev().collect()
        };
        let mut existing = HashSet::new();
        for steer in &self.model.steers {
            let names = std::iter::successors(Some(steer.owner.clone()), Name::parent);
            for name in names.take_while(|name| name.is_at_or_below(apex)) {
                if !existing.insert(name) {
                    break;
                }
            }
        }
        let steered = self.model.steers.iter().enumerate().map(|(at, steer)| (&steer.owner, (at, targets(at)))).collect();
        Ways { aliases: Aliases::new(apex, owners), steered, existing, apex }
    }

    fn tell_loop<'n>(&self, at: usize, names: impl Iterator<Item = &'n Name>) {
        let mut names: Vec<String> = names.map(ToString::to_string).collect();
        if names.len() > MAX_LOOP_NAMES + 1 {
            names.truncate(MAX_LOOP_NAMES);
            names.push("…".into());
        }
        let text = format!("its CNAME may lead back to itself: {}; clients that are sent there find no address", names.join(" -> "));
        self.sink.warning(&self.steering.steer_spots[at], &[format!("steer {:?}", self.model.steers[at].name)], text);
    }
}
