//! The monitors of the zones as they are defined: those that check, and those that follow from others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;

use super::overlays::zone_text;
use super::resources::Snapshot;
use super::who::LIBRARY;
use crate::config::duration_words;
use crate::policy::model::{Monitor, MonitorDefinition, MonitorKind, ZoneModel};
use crate::world::ZoneWorld;

/// A monitor.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct MonitorResource {
    /// `zone/monitor:NAME` or `library/monitor:NAME`.
    pub id: String,
    /// As in `[monitor.NAME]`.
    pub name: String,
    /// The key of the file that says what it does: `https`, `tcp`, `push`, `any`, …
    pub kind: &'static str,
    /// It explains and has no vote.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// Names of the monitors that it follows from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// Of `at_least`: so many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u16>,
    /// Ids of the pools and endpoints that want it, and of the monitors that follow from it; the first hundred.
    pub used_by: Vec<String>,
    /// How many they are.
    pub used_by_count: usize,
    /// That is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of HTTP: path and query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of HTTP and gRPC: the name that is asked for, where it is the same everywhere. Of Prometheus: where that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of Prometheus: what is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Of Prometheus: what the value must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
    /// How long the last word counts when no other comes: of `push` and `prometheus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// Between checks, of one that asks; like what follows, of one that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Between checks while in doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<String>,
    /// A check that takes longer has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Failures in a row until down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<u8>,
    /// Successes in a row until up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<u8>,
}

impl Snapshot {
    /// Monitors by id; those of libraries that some zone uses once, with who uses them in all zones.
    pub fn monitors(&self) -> BTreeMap<String, MonitorResource> {
        let mut found: BTreeMap<String, MonitorResource> = BTreeMap::new();
        for zone in &self.zones {
            let made = made_of(&zone.model);
            for definition in &zone.model.definitions {
                let monitor = resource(zone, definition, &made);
                match found.entry(monitor.id.clone()) {
                    Entry::Vacant(free) if self.who.covers(&monitor.id) => drop(free.insert(monitor)),
                    Entry::Vacant(_) => {}
                    Entry::Occupied(mut known) => known.get_mut().add_users(monitor),
                }
            }
        }
        found
    }
}

impl MonitorResource {
    /// Takes the users that another zone knows. Pools of libraries are known to several.
    fn add_users(&mut self, other: MonitorResource) {
        self.used_by_count += other.used_by_count - other.used_by.len();
        for user in other.used_by {
            if self.used_by.contains(&user) {
                continue;
            }
            self.used_by_count += 1;
            if self.used_by.len() < MonitorDefinition::MAX_USERS {
                self.used_by.push(user);
            }
        }
    }
}

/// What was made of each definition that checks and is used; several where hosts differ.
fn made_of(model: &ZoneModel) -> BTreeMap<&str, Vec<&Monitor>> {
    let mut made: BTreeMap<&str, Vec<&Monitor>> = BTreeMap::new();
    for monitor in &model.monitors {
        made.entry(&monitor.name).or_default().push(monitor);
    }
    made
}

fn resource(zone: &ZoneWorld, definition: &MonitorDefinition, made: &BTreeMap<&str, Vec<&Monitor>>) -> MonitorResource {
    let made = made.get(definition.name.as_str()).map_or(&[][..], Vec::as_slice);
    let first = made.first().copied();
    let thresholds = first.map(|monitor| monitor.thresholds);
    // What differs from one to the next is nothing of all of them.
    let same = |of: fn(&Monitor) -> Option<&str>| {
        let found = of(first?)?;
        made.iter().all(|monitor| of(monitor) == Some(found)).then(|| found.to_owned())
    };
    // Who waits for reports asks nothing.
    let asks = first.filter(|monitor| !monitor.kind.is_reported());
    let expected = first.and_then(|monitor| if let MonitorKind::Prometheus(check) = &monitor.kind { Some(&check.expected) } else { None });
    MonitorResource {
        id: format!("{}/monitor:{}", if definition.in_library { LIBRARY.into() } else { zone_text(&zone.model.name) }, definition.name),
        name: definition.name.clone(),
        kind: definition.kind.word(),
        advisory: definition.advisory,
        of: definition.of.clone(),
        count: definition.count,
        used_by: definition.users.iter().map(ToString::to_string).collect(),
        used_by_count: definition.users_count,
        port: first.map(|monitor| monitor.port).filter(|port| *port > 0),
        path: same(path),
        host: same(host),
        query: same(query),
        expected: expected.into_iter().flatten().map(ToString::to_string).collect(),
        stale: first.and_then(|monitor| monitor.kind.stale()).map(duration_words),
        interval: asks.map(|monitor| duration_words(monitor.thresholds.interval)),
        fast: asks.map(|monitor| duration_words(monitor.thresholds.fast)),
        timeout: asks.map(|monitor| duration_words(monitor.timeout)),
        fall: thresholds.map(|thresholds| thresholds.fall),
        rise: thresholds.map(|thresholds| thresholds.rise),
    }
}

fn path(monitor: &Monitor) -> Option<&str> {
    match &monitor.kind {
        MonitorKind::Http(check) | MonitorKind::Https { check, .. } => Some(&check.path),
        _ => None,
    }
}

fn host(monitor: &Monitor) -> Option<&str> {
    match &monitor.kind {
        MonitorKind::Http(check) | MonitorKind::Https { check, .. } => Some(&check.host),
        MonitorKind::Grpc(check) => Some(&check.host),
        MonitorKind::Prometheus(check) => Some(&check.host),
        _ => None,
    }
}

fn query(monitor: &Monitor) -> Option<&str> {
    if let MonitorKind::Prometheus(check) = &monitor.kind { Some(&check.query) } else { None }
}
