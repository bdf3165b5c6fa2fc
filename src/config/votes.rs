//! Monitors that follow from others, and what an endpoint's monitors come to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::raw::{Calculation, CheckKind, MonitorKeys, PoolKeys, Ref};
use super::resolve::{Item, Resolver};
use super::resolve_pool::{Attached, Hosts, LIBRARY, one};
use crate::policy::model::{MonitorDefinition, MonitorIx, Pool, Vote};

/// Calculations within calculations: nobody follows more.
const MAX_CALCULATION_DEPTH: usize = 8;
/// Checks that one calculation looks at: it is done at each change of one of them.
const MAX_CALCULATION_CHECKS: usize = 64;
/// What monitors are made with.
pub(super) struct Making<'a> {
    pub(super) hosts: &'a Hosts,
    pub(super) made: &'a mut BTreeMap<(String, Option<String>), MonitorIx>,
    pub(super) out: &'a mut Attached,
}

/// What an endpoint's monitors come to.
#[derive(Default)]
pub(super) struct Votes {
    pub(super) monitors: Vec<MonitorIx>,
    /// Of those that vote.
    shape: Vec<Vote>,
}

impl Votes {
    /// Takes a name of the endpoint's list.
    pub(super) fn add(&mut self, resolver: &mut Resolver<'_>, pool: Item<'_, PoolKeys>, name: &Ref, making: &mut Making<'_>) {
        let advisory = resolver.monitors.get(name.value.as_str()).is_some_and(|item| item.def.keys.advisory == Some(true));
        match self.take(resolver, pool, name, making) {
            Some(vote) if !advisory => self.shape.push(vote),
            _ => {}
        }
    }

    /// A monitor, or what others come to. That calculations end somewhere is known ([`calculations`]).
    fn take(&mut self, resolver: &mut Resolver<'_>, pool: Item<'_, PoolKeys>, name: &Ref, making: &mut Making<'_>) -> Option<Vote> {
        let calculated = resolver.monitors.get(name.value.as_str()).copied().filter(|item| !pool.in_library || item.in_library);
        let Some(CheckKind::Calculated(calculation)) = calculated.and_then(|item| item.def.keys.kind.as_ref()) else {
            let ix = one(resolver, pool, name, making.hosts, making.made, making.out)?;
            let at = self.monitors.iter().position(|known| *known == ix).unwrap_or_else(|| {
                self.monitors.push(ix);
                self.monitors.len() - 1
            });
            return Some(Vote::Check(at as u16));
        };
        if making.out.used.insert(name.value.clone())
            && let Some(item) = calculated
        {
            resolver.note_unsound(item.def.sound, &format!("monitor {:?}", name.value), &item.def.at);
        }
        if resolver.endless.contains(&name.value) {
            return None;
        }
        let of: Vec<Vote> = calculation.of().iter().filter_map(|name| self.take(resolver, pool, name, making)).collect();
        let all = of.len() as u16;
        match calculation {
            Calculation::All(_) => Some(Vote::AtLeast { count: all, of }),
            Calculation::Any(_) => Some(Vote::AtLeast { count: all.min(1), of }),
            Calculation::AtLeast(count, _) => Some(Vote::AtLeast { count: all.min(*count), of }),
            Calculation::Not(_) => of.into_iter().next().map(|one| Vote::Not(Box::new(one))),
        }
    }

    /// `None` where simply all must pass.
    pub(super) fn vote(&self) -> Option<Vote> {
        let plain = self.shape.len() == self.monitors.len() && self.shape.iter().all(|vote| matches!(vote, Vote::Check(_)));
        (!plain).then(|| Vote::AtLeast { count: self.shape.len() as u16, of: self.shape.clone() })
    }
}

/// Looks at the monitors that follow from others: names that are not there, circles, depth. What must not be walked is kept in the resolver.
pub(super) fn calculations(resolver: &mut Resolver<'_>) {
    let items: Vec<Item<'_, MonitorKeys>> = resolver.monitors.values().copied().collect();
    let mut said = BTreeSet::new();
    for item in items {
        let Some(CheckKind::Calculated(calculation)) = &item.def.keys.kind else { continue };
        let subject = [format!("monitor {:?}", item.def.name), calculation.kind().word().to_owned()];
        for name in calculation.of() {
            let found = resolver.monitors.get(name.value.as_str()).copied();
            let text = match found {
                None if resolver.is_forgiving() => continue,
                None => {
                    format!("found {:?}, but there is no such monitor{}", name.value, resolver.hint(&name.value, resolver.monitors.keys().copied()))
                }
                Some(other) if item.in_library && !other.in_library => format!("found {:?}, which no library has", name.value),
                Some(other) if other.def.keys.advisory == Some(true) => format!("found {:?}, which is advisory: it has no vote", name.value),
                Some(_) => continue,
            };
            resolver.sink.error(&name.at, &subject, text);
        }
        let mut path = vec![item.def.name.as_str()];
        if let Err(fault) = descend(resolver, calculation, &mut path) {
            resolver.endless.insert(item.def.name.clone());
            // A circle is told once, by the first of its members.
            let text = match fault {
                Fault::Circle(members) => {
                    let mut key = members.clone();
                    key.sort_unstable();
                    if !said.insert(key) || !members.contains(&item.def.name) {
                        continue;
                    }
                    format!("it follows from itself: {} -> {}", members.join(" -> "), members[0])
                }
                Fault::Deep => format!("it is more than {MAX_CALCULATION_DEPTH} calculations deep"),
                Fault::Wide => format!("it follows from more than {MAX_CALCULATION_CHECKS} checks"),
            };
            resolver.sink.error(&item.def.at, &subject[..1], text);
        }
    }
}

/// Why a calculation must not be walked.
enum Fault {
    Circle(Vec<String>),
    Deep,
    Wide,
}

/// How many checks a calculation looks at.
fn descend<'a>(resolver: &Resolver<'a>, calculation: &'a Calculation, path: &mut Vec<&'a str>) -> Result<usize, Fault> {
    let mut checks = 0;
    for name in calculation.of() {
        if let Some(at) = path.iter().position(|known| *known == name.value) {
            return Err(Fault::Circle(path[at..].iter().map(|name| (*name).to_owned()).collect()));
        }
        let kind = resolver.monitors.get(name.value.as_str()).and_then(|item| item.def.keys.kind.as_ref());
        checks += match kind {
            Some(CheckKind::Calculated(_)) if path.len() >= MAX_CALCULATION_DEPTH => return Err(Fault::Deep),
            Some(CheckKind::Calculated(below)) => {
                path.push(&name.value);
                let found = descend(resolver, below, path)?;
                path.pop();
                found
            }
            _ => 1,
        };
        if checks > MAX_CALCULATION_CHECKS {
            return Err(Fault::Wide);
        }
    }
    Ok(checks)
}

/// The monitors of the zone, and those of libraries that it uses, with who uses them. `label` is the first word of the zone's ids.
pub(super) fn definitions(resolver: &Resolver<'_>, pools: &[Pool], used: &BTreeSet<String>, label: &str) -> Vec<MonitorDefinition> {
    let mut all: BTreeMap<&str, MonitorDefinition> = BTreeMap::new();
    let listed: Vec<Item<'_, MonitorKeys>> =
        resolver.monitors.values().filter(|item| !item.in_library || used.contains(&item.def.name)).copied().collect();
    for item in &listed {
        let keys = item.def.keys.over(resolver.monitor_defaults(item.in_library));
        let Some(kind) = keys.kind.as_ref() else { continue };
        let calculation = if let CheckKind::Calculated(calculation) = kind { Some(calculation) } else { None };
        let definition = MonitorDefinition {
            name: item.def.name.clone(),
            kind: kind.kind(),
            advisory: keys.advisory == Some(true),
            in_library: item.in_library,
            of: calculation.into_iter().flat_map(Calculation::of).map(|name| name.value.clone()).collect(),
            count: if let Some(Calculation::AtLeast(count, _)) = calculation { Some(*count) } else { None },
            users: Vec::new(),
            users_count: 0,
        };
        all.insert(&item.def.name, definition);
    }
    let mut note = |names: &[Ref], user: &Arc<str>| {
        for name in names {
            let Some(definition) = all.get_mut(name.value.as_str()) else { continue };
            definition.users_count += 1;
            if definition.users.len() < MonitorDefinition::MAX_USERS {
                definition.users.push(user.clone());
            }
        }
    };
    for (item, pool) in resolver.pools.iter().zip(pools) {
        let endpoints = item.def.keys.endpoints.iter().zip(&pool.endpoints);
        if item.def.keys.endpoints.iter().any(|endpoint| endpoint.monitors.is_none()) {
            note(&item.def.keys.monitors, &pool.id);
        }
        endpoints.for_each(|(raw, endpoint)| note(raw.monitors.as_deref().unwrap_or_default(), &endpoint.id));
    }
    for item in &listed {
        if let Some(CheckKind::Calculated(calculation)) = &item.def.keys.kind {
            let owner = if item.in_library { LIBRARY } else { label };
            note(calculation.of(), &format!("{owner}/monitor:{}", item.def.name).into());
        }
    }
    all.into_values().collect()
}

/// The library files whose monitors the pools use, those that follow from others included.
pub(super) fn library_monitors<'a>(resolver: &Resolver<'a>) -> BTreeSet<&'a Path> {
    let names = resolver.pools.iter().flat_map(|item| {
        let own = item.def.keys.endpoints.iter().filter_map(|endpoint| endpoint.monitors.as_ref()).flatten();
        own.chain(&item.def.keys.monitors)
    });
    let mut open: Vec<&str> = names.map(|name| name.value.as_str()).collect();
    let (mut seen, mut files) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = open.pop() {
        let Some(item) = resolver.monitors.get(name).filter(|_| seen.insert(name)) else { continue };
        files.extend(item.in_library.then_some(&*item.def.at.file));
        if let Some(CheckKind::Calculated(calculation)) = &item.def.keys.kind {
            open.extend(calculation.of().iter().map(|name| name.value.as_str()));
        }
    }
    files
}
