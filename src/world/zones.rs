//! The zones of a world, and what is steered in them.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::dns::{Name, QueryName, RecordType};
use crate::geo::classmap::ClassMap;
use crate::policy::model::ZoneModel;
use crate::policy::plan::{Plan, View};
use crate::policy::resolve::Class;
use crate::zone::Ttl;
use crate::zone::tree::{NodeId, ROOT_HASH, ZoneTree, hash_label, hash_name};

/// One zone as it is answered from.
#[derive(Debug)]
pub struct ZoneWorld {
    /// Static data. Shared with the world before as long as the files are the same.
    pub tree: Arc<ZoneTree>,
    /// Of the SOA, instead of the one in the tree.
    pub serial: u32,
    /// TTLs that overlays set on static RRsets.
    pub ttls: HashMap<(NodeId, RecordType), Ttl>,
    /// Indexed like the model's steered names.
    pub steered: Arc<[SteeredName]>,
    /// What the steered names point to; equal ones are one.
    pub steerings: Vec<Arc<Steering>>,
    /// Counter slot.
    pub slot: u32,
    /// The definitions, for explaining.
    pub model: Arc<ZoneModel>,
    /// What the plans were made from, for explaining.
    pub view: Arc<View>,
}

/// One steered name.
#[derive(Clone, Debug)]
pub struct SteeredName {
    /// Index into [`ZoneWorld::steerings`].
    pub steering: u32,
    /// Types that some pool below it has by configuration, A and AAAA among them; in order.
    pub types: Vec<RecordType>,
    /// All outcomes are CNAMEs.
    pub is_cname: bool,
    /// Data of its HTTPS record in front of the hints, if it has one with hints.
    pub https: Option<Box<[u8]>>,
}

/// A policy tree with its TTL, compiled: address → class → plan.
#[derive(Debug)]
pub struct Steering {
    /// Address → (class, scope).
    pub map: Arc<ClassMap>,
    /// Indexed by class.
    pub plans: Vec<Plan>,
    /// Bits that sticky policies look at, per class, as (IPv4, IPv6).
    pub sticky: Arc<[(u8, u8)]>,
    /// What the plans were made from, indexed by class.
    pub classes: Arc<[Class]>,
}

/// A zone that could not be loaded: its names answer SERVFAIL.
#[derive(Clone, Debug)]
pub struct DownZone {
    /// Its apex.
    pub apex: Name,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Lower case. A copy of the tree's, which is some pointers away.
    apex: Name,
    /// `None`: SERVFAIL.
    zone: Option<Arc<ZoneWorld>>,
}

/// Finds the zone of a name: the longest apex that it is at or below.
#[derive(Debug, Default)]
pub struct ZoneIndex {
    entries: Vec<Entry>,
    index: HashTable<u32>,
    least_labels: usize,
    most_labels: usize,
}

/// A zone, or that it is ours but down.
#[derive(Clone, Copy, Debug)]
pub enum Served<'w> {
    /// Answered from.
    Up(&'w ZoneWorld),
    /// SERVFAIL.
    Down,
}

impl ZoneIndex {
    /// Indexes the zones; of two with the same apex the first counts.
    pub fn new(up: Vec<Arc<ZoneWorld>>, down: Vec<DownZone>) -> ZoneIndex {
        let mut index = ZoneIndex { least_labels: usize::MAX, ..ZoneIndex::default() };
        let up = up.into_iter().map(|zone| Entry { apex: zone.tree.apex().to_lowercase(), zone: Some(zone) });
        let down = down.into_iter().map(|zone| Entry { apex: zone.apex.to_lowercase(), zone: None });
        for entry in up.chain(down) {
            let apex = &entry.apex;
            let hash = hash_name(apex.as_wire());
            if index.index.find(hash, |at| index.entries[*at as usize].apex == *apex).is_some() {
                continue;
            }
            index.least_labels = index.least_labels.min(apex.label_count());
            index.most_labels = index.most_labels.max(apex.label_count());
            let at = index.entries.len() as u32;
            index.entries.push(entry);
            let entries = &index.entries;
            index.index.insert_unique(hash, at, |at| hash_name(entries[*at as usize].apex.as_wire()));
        }
        index
    }

    /// The zone that `name` belongs to and the name's hash; `below` asks for a zone with fewer labels than that
    /// (the parent's side of a cut between two zones of ours).
    pub fn find(&self, name: &QueryName, below: usize) -> Option<(Served<'_>, u64)> {
        let mut hash = ROOT_HASH;
        let mut best = None;
        for depth in 0..=name.label_count() {
            if depth > 0 {
                hash = hash_label(hash, name.label_from_right(depth));
            }
            if (self.least_labels..=self.most_labels).contains(&depth) && depth < below {
                best = self.probe(name.suffix(depth), hash).or(best);
            }
        }
        Some((best?.zone.as_deref().map_or(Served::Down, Served::Up), hash))
    }

    #[inline]
    fn probe(&self, lower: &[u8], hash: u64) -> Option<&Entry> {
        let found = self.index.find(hash, |at| self.entries.get(*at as usize).is_some_and(|entry| entry.apex.as_wire() == lower))?;
        self.entries.get(*found as usize)
    }

    /// The zones that are answered from.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ZoneWorld>> {
        self.entries.iter().filter_map(|entry| entry.zone.as_ref())
    }
}
