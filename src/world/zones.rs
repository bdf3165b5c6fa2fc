//! The zones of a world, and what is steered in them.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::dns::{Name, QueryName, RecordType};
use crate::geo::classmap::ClassMap;
use crate::policy::chunked::Chunked;
use crate::policy::model::ZoneModel;
use crate::policy::plan::{Plan, View};
use crate::policy::resolve::Class;
use crate::zone::Ttl;
use crate::zone::tree::{NodeId, ZoneTree, hash_name};

/// One zone as it is answered from.
#[derive(Debug)]
pub struct ZoneWorld {
    /// Static data. Shared with the world before as long as the files are the same.
    pub tree: Arc<ZoneTree>,
    /// Of the SOA, instead of the one in the tree.
    pub serial: u32,
    /// TTLs that overlays set on static RRsets, if any.
    pub ttls: Option<Arc<HashMap<(NodeId, RecordType), Ttl>>>,
    /// Indexed like the model's steered names.
    pub steered: Arc<[SteeredName]>,
    /// What the steered names point to; equal ones are one. Those that did not change are shared with the world before.
    pub steerings: Steerings,
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

/// The steerings of a zone. A change copies one chunk of 64, 4 kB, and a pointer for each of the others.
pub type Steerings = Chunked<Steering, 64>;

/// A policy tree with its TTL, compiled: address → class → plan. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Steering {
    /// Address → (class, scope).
    pub map: Arc<ClassMap>,
    /// Indexed by class.
    pub plans: Arc<[Plan]>,
    /// Bits that sticky policies look at, per class, as (IPv4, IPv6).
    pub sticky: Arc<[(u8, u8)]>,
    /// What the plans were made from, indexed by class.
    pub classes: Arc<[Class]>,
    /// Counter slot of the policy; `None` where the names point at a pool.
    pub slot: Option<u32>,
}

/// A zone that could not be loaded: its names answer SERVFAIL.
#[derive(Clone, Debug)]
pub struct DownZone {
    /// Its apex.
    pub apex: Name,
}

/// Finds the zone of a name: the longest apex that it is at or below. A clone with some zones replaced shares the rest.
#[derive(Clone, Debug, Default)]
pub struct ZoneIndex {
    apexes: Arc<Apexes>,
    /// Like the apexes; `None`: SERVFAIL.
    zones: Chunked<Option<Arc<ZoneWorld>>, ZONES_PER_CHUNK>,
}

/// A change copies one chunk and a pointer for each of the others: of 100,000 zones some 700 words.
const ZONES_PER_CHUNK: usize = 256;

/// The apexes by hash; the same for as long as no zone comes or goes.
#[derive(Debug, Default)]
struct Apexes {
    /// Lower case. Copies of the trees', which are some pointers away.
    names: Vec<Name>,
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
        let mut apexes = Apexes { least_labels: usize::MAX, ..Apexes::default() };
        let up = up.into_iter().map(|zone| (zone.tree.apex().to_lowercase(), Some(zone)));
        let down = down.into_iter().map(|zone| (zone.apex.to_lowercase(), None));
        let zones = up.chain(down).filter_map(|(apex, zone)| apexes.add(apex).then_some(zone)).collect();
        ZoneIndex { apexes: Arc::new(apexes), zones }
    }

    /// Puts a new version of a zone in its place; false when there is no such zone, or it is down.
    pub fn replace(&mut self, zone: &Arc<ZoneWorld>) -> bool {
        let apex = zone.tree.apex().to_lowercase();
        let Some(at) = self.apexes.probe(apex.as_wire()) else { return false };
        let is_up = self.zones.get(at).is_some_and(Option::is_some);
        if is_up {
            self.zones.set(at, Some(zone.clone()));
        }
        is_up
    }

    /// The zone that `name` belongs to and the name's hash; `below` asks for a zone with fewer labels than that
    /// (the parent's side of a cut between two zones of ours).
    pub fn find(&self, name: &QueryName, below: usize) -> Option<(Served<'_>, u64)> {
        let apexes = &*self.apexes;
        let deepest = name.label_count().min(apexes.most_labels).min(below.checked_sub(1)?);
        let found = (apexes.least_labels..=deepest).rev().find_map(|labels| apexes.probe(name.suffix(labels)))?;
        Some((self.zones.get(found)?.as_deref().map_or(Served::Down, Served::Up), hash_name(name.as_wire())))
    }

    /// True when `name` is the apex of a zone of ours, whether or not it could be loaded.
    pub fn has_apex(&self, name: &QueryName) -> bool {
        self.apexes.probe(name.as_wire()).is_some()
    }

    /// The zones that are answered from.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ZoneWorld>> {
        self.zones.iter().flatten()
    }

    /// What only this index holds, in pieces, for freeing it bit by bit.
    pub fn into_chunks(self) -> Vec<Arc<[Option<Arc<ZoneWorld>>]>> {
        self.zones.into_chunks()
    }
}

impl Apexes {
    /// False when it is there already.
    fn add(&mut self, apex: Name) -> bool {
        if self.probe(apex.as_wire()).is_some() {
            return false;
        }
        self.least_labels = self.least_labels.min(apex.label_count());
        self.most_labels = self.most_labels.max(apex.label_count());
        let at = self.names.len() as u32;
        self.names.push(apex);
        let names = &self.names;
        self.index.insert_unique(hash_name(names[at as usize].as_wire()), at, |at| hash_name(names[*at as usize].as_wire()));
        true
    }

    #[inline]
    fn probe(&self, lower: &[u8]) -> Option<usize> {
        let found = self.index.find(hash_name(lower), |at| self.names.get(*at as usize).is_some_and(|apex| apex.as_wire() == lower))?;
        Some(*found as usize)
    }
}
