//! Another version of a large zone from the one before, where few names differ and nothing hangs on them: a copy of the tree in which they are written
//! anew. Whatever is less simple is for [`ZoneTree::build`], which comes to the same.
//!
//! ```text
//! a name                       may change when
//! the apex                     only the numbers of its SOA do
//! comes or changes             it has neither delegation, alias, wildcard nor data that points to names; nothing points to it or below it;
//!                              the name above it is there
//! goes                         the same, nothing can be below it, and the name above it has data of its own
//! ```

use std::collections::HashSet;
use std::ops::Range;

use super::additional::has_targets;
use super::heap::Heap;
use super::{NodeId, Rrset, ZoneTree};
use crate::dns::{Name, RecordType};
use crate::zone::{Kinds, OwnerId, Owners, Path, rdata};

/// Names that others point to; a zone with more is built anew.
const MAX_TIES: usize = 1 << 17;
/// One part in so many of the heap may be nodes that are no longer there; then everything is built anew.
const MAX_WASTE_PARTS: usize = 8;
/// The numbers at the end of a SOA.
const SOA_NUMBERS_LEN: usize = 20;

/// What hangs together in a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Ties {
    /// Hashes of the names inside the zone that record data points to, and of all above them.
    names: HashSet<u64>,
    /// Most labels of a name: nothing is below those that have as many.
    pub(super) deepest: u8,
    /// Nodes that are no longer there, and their octets.
    buried: usize,
    waste: usize,
}

impl Ties {
    /// Adds what an owner's data points to; false when it becomes too much.
    pub(super) fn add(&mut self, apex: &Name, owners: &Owners, owner: OwnerId) -> bool {
        let mut path = Path::new();
        let mut apex_path = Path::new();
        apex_path.set(apex.as_wire());
        for (rtype, range) in owners.rrsets(owner) {
            for position in range {
                let data = owners.record(position).rdata;
                for span in rdata::names(rtype, data) {
                    let from = usize::from(span.offset);
                    let Some(name) = data.get(from..from + usize::from(span.len)) else { continue };
                    path.set(name);
                    if path.ends_in(&apex_path) {
                        self.names.extend((apex_path.labels() + 1..=path.labels()).map(|labels| path.suffix(labels).1));
                    }
                }
            }
        }
        self.names.len() <= MAX_TIES
    }
}

/// What came of an edit.
#[derive(Debug)]
pub struct Edited {
    /// The new version.
    pub tree: ZoneTree,
    /// Where each owner of the new text stands.
    pub nodes: Vec<NodeId>,
    /// Those whose records are not as they were, the apex left out.
    pub changed: Vec<OwnerId>,
}

impl ZoneTree {
    /// The tree with `owners` in place of all names that stand in `gone`. `None` when that is less simple than an edit may be, or when an owner stands
    /// elsewhere, too.
    pub fn edited(&self, gone: &[Range<NodeId>], owners: &Owners) -> Option<Edited> {
        let ties = self.ties.as_ref()?;
        let mut left: HashSet<NodeId> = gone.iter().flat_map(|stretch| self.heap.nodes_of(stretch.clone())).collect();
        let mut nodes = vec![0; owners.len()];
        let (mut changed, mut soa) = (Vec::new(), None);
        let mut path = Path::new();
        for owner in 0..owners.len() as OwnerId {
            path.set(owners.name(owner));
            let (name, hash) = path.whole();
            let before = self.probe(hash, name);
            if let Some(id) = before {
                if !left.remove(&id) {
                    return None;
                }
                nodes[owner as usize] = id;
                if self.says(id, owners, owner) {
                    continue;
                }
                if id == self.apex_node {
                    soa = Some(self.soa_numbers(owners, owner)?);
                    continue;
                }
            }
            changed.push((owner, before, hash));
        }
        for (owner, before, hash) in &changed {
            path.set(owners.name(*owner));
            let is_simple = is_simple(owners, *owner) && !ties.names.contains(hash) && before.is_none_or(|id| self.is_simple(id));
            if !is_simple || before.is_none() && self.parent_of(&path).is_none_or(|parent| left.contains(&parent)) {
                return None;
            }
        }
        for id in &left {
            path.set(self.name(*id));
            let may_go = self.is_simple(*id) && !ties.names.contains(&path.whole().1) && self.labels(*id) == usize::from(ties.deepest);
            if !may_go || !self.is_below_data(&path) {
                return None;
            }
        }
        self.write(owners, &changed, &left, soa, nodes)
    }

    fn write(
        &self,
        owners: &Owners,
        changed: &[(OwnerId, Option<NodeId>, u64)],
        left: &HashSet<NodeId>,
        soa: Option<[u8; SOA_NUMBERS_LEN]>,
        mut nodes: Vec<NodeId>,
    ) -> Option<Edited> {
        let wanted: Vec<OwnerId> = changed.iter().map(|(owner, ..)| *owner).collect();
        let (pieces, piece_of, records) = ZoneTree::pieces(&self.apex, owners, &wanted).ok()?;
        let mut tree = self.copy(&pieces, changed.iter().filter(|(_, before, _)| before.is_none()).count())?;
        let mut ties = self.ties.clone()?;
        tree.records += records;
        for ((owner, before, hash), piece) in changed.iter().zip(piece_of) {
            let octets = pieces.octets_of(piece);
            ties.deepest = ties.deepest.max(owners.labels(*owner) as u8);
            let Some(id) = *before else {
                let id = tree.heap.push_octets(octets)?;
                tree.index.insert(*hash, id);
                tree.nodes += 1;
                nodes[*owner as usize] = id;
                continue;
            };
            tree.records -= self.records_at(id);
            if self.heap.octets_of(id).len() == octets.len() {
                tree.heap.overwrite(id, octets);
                continue;
            }
            let new = tree.heap.push_octets(octets)?;
            tree.index.replace(*hash, id, new);
            ties.waste += tree.heap.octets_of(id).len();
            tree.heap.bury(id);
            nodes[*owner as usize] = new;
        }
        for id in left {
            tree.records -= self.records_at(*id);
            tree.nodes -= 1;
            ties.waste += tree.heap.octets_of(*id).len();
            ties.buried += 1;
            tree.heap.bury(*id);
        }
        if ties.waste * MAX_WASTE_PARTS > tree.heap.len() {
            return None;
        }
        tree.ties = Some(ties);
        if let (Some(numbers), Some(rrset)) = (soa, self.soa()) {
            tree.heap.overwrite_tail(&rrset, &numbers);
        }
        tree.finish_negative();
        Some(Edited { tree, nodes, changed: wanted })
    }

    /// A copy with room for these nodes, `more` of which are new names.
    fn copy(&self, pieces: &Heap, more: usize) -> Option<ZoneTree> {
        let buried = self.ties.as_ref().map_or(0, |ties| ties.buried);
        Some(ZoneTree {
            apex: self.apex.clone(),
            heap: self.heap.copy_with_room(pieces.len()),
            index: self.index.copy_for(self.nodes + buried, more)?,
            nodes: self.nodes,
            extras: self.extras.clone(),
            extra_names: self.extra_names.clone(),
            records: self.records,
            negative_ttl: self.negative_ttl,
            apex_node: self.apex_node,
            negative: super::Negative::default(),
            ties: None,
            order: std::sync::OnceLock::new(),
        })
    }

    /// True when the node has the very records of the owner.
    fn says(&self, id: NodeId, owners: &Owners, owner: OwnerId) -> bool {
        let mut before = self.rrsets(id);
        let as_before = owners.rrsets(owner).all(|(rtype, range)| {
            let Some(rrset) = before.next().filter(|rrset| rrset.rtype == rtype && usize::from(rrset.count) == range.len()) else { return false };
            let ttl = range.clone().map(|position| owners.record(position).ttl).min();
            ttl == Some(rrset.ttl) && self.rdatas(&rrset).eq(range.map(|position| owners.record(position).rdata))
        });
        as_before && before.next().is_none()
    }

    /// The numbers of the owner's SOA when nothing else of the apex is other than it was.
    fn soa_numbers(&self, owners: &Owners, owner: OwnerId) -> Option<[u8; SOA_NUMBERS_LEN]> {
        let mut numbers = None;
        let mut before = self.rrsets(self.apex_node);
        for (rtype, range) in owners.rrsets(owner) {
            let rrset = before.next().filter(|rrset| rrset.rtype == rtype && usize::from(rrset.count) == range.len())?;
            if range.clone().map(|position| owners.record(position).ttl).min() != Some(rrset.ttl) {
                return None;
            }
            for (old, position) in self.rdatas(&rrset).zip(range) {
                let new = owners.record(position).rdata;
                if rtype == RecordType::SOA {
                    let (names, tail) = new.split_at_checked(new.len().checked_sub(SOA_NUMBERS_LEN)?)?;
                    let names_before = old.get(..old.len().checked_sub(SOA_NUMBERS_LEN)?)?;
                    if names != names_before {
                        return None;
                    }
                    numbers = tail.try_into().ok();
                } else if old != new {
                    return None;
                }
            }
        }
        numbers.filter(|_| before.next().is_none())
    }

    /// True when nothing but its own data makes the node what it is.
    fn is_simple(&self, id: NodeId) -> bool {
        let is_plain = |rrset: Rrset| !is_tied(rrset.rtype);
        !self.heap.is_linked(id)
            && !self.node(id).is_cut
            && !self.node(id).has_dname
            && !self.name(id).starts_with(b"\x01*")
            && self.rrsets(id).all(is_plain)
    }

    fn records_at(&self, id: NodeId) -> usize {
        self.rrsets(id).map(|rrset| usize::from(rrset.count)).sum()
    }

    fn parent_of(&self, path: &Path) -> Option<NodeId> {
        let (name, hash) = path.suffix(path.labels().checked_sub(1)?);
        self.probe(hash, name)
    }

    fn is_below_data(&self, path: &Path) -> bool {
        self.parent_of(path).is_some_and(|parent| parent == self.apex_node || self.rrsets(parent).next().is_some())
    }
}

/// Data that points to names, or makes more of a name than its data.
fn is_tied(rtype: RecordType) -> bool {
    has_targets(rtype) || matches!(rtype, RecordType::CNAME | RecordType::DNAME | RecordType::SOA | RecordType::NSEC3)
}

fn is_simple(owners: &Owners, owner: OwnerId) -> bool {
    !owners.kinds(owner).has(Kinds::WILDCARD) && owners.rrsets(owner).all(|(rtype, _)| !is_tied(rtype))
}
