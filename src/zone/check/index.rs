//! The owners of a zone with what checks ask of them: what they hold, and what hides them.

use std::ops::Range;

use crate::dns::{Name, RecordType};
use crate::zone::{Kinds, OwnerId, Owners, Path, RecordRef};

/// What hides names from the answers of this zone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Barrier {
    /// The owner of the delegation or DNAME.
    pub(super) node: usize,
    pub(super) is_dname: bool,
}

pub(super) struct Index<'a> {
    pub(super) owners: &'a Owners,
    apex_labels: usize,
    /// The topmost delegation or DNAME strictly above each owner, by [`OwnerId`]; empty when there is none in the zone.
    barriers: Vec<Option<Barrier>>,
    /// There is a delegation or a DNAME somewhere.
    pub(super) has_barriers: bool,
}

impl<'a> Index<'a> {
    /// Takes the records that are in the zone.
    pub(super) fn new(apex: &Name, owners: &'a Owners) -> Index<'a> {
        let apex_labels = apex.label_count();
        let mut index = Index { owners, apex_labels, barriers: Vec::new(), has_barriers: false };
        index.has_barriers = (0..index.len()).any(|node| index.has(node, Kinds::DNAME) || index.is_cut(node));
        if index.has_barriers {
            let mut path = Path::new();
            let topmost = |node: usize| {
                path.set(index.name(node));
                index.topmost(&path, path.labels())
            };
            index.barriers = (0..index.len()).map(topmost).collect();
        }
        index
    }

    /// How many owners.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn has(&self, node: usize, kinds: Kinds) -> bool {
        self.owners.kinds(node as OwnerId).has(kinds)
    }

    /// The topmost delegation or DNAME strictly above a node.
    pub(super) fn barrier(&self, node: usize) -> Option<Barrier> {
        self.barriers.get(node).copied().flatten()
    }

    /// The topmost delegation or DNAME among the ancestors of fewer than `below` labels.
    fn topmost(&self, path: &Path, below: usize) -> Option<Barrier> {
        (self.apex_labels..below).find_map(|labels| {
            let at = self.find(path, labels)?;
            let is_cut = self.is_cut(at);
            (is_cut || self.has(at, Kinds::DNAME)).then_some(Barrier { node: at, is_dname: !is_cut })
        })
    }

    /// Whether it holds NS records and is not the apex.
    fn is_cut(&self, node: usize) -> bool {
        self.has(node, Kinds::NS) && !self.is_apex(node)
    }

    pub(super) fn is_apex(&self, node: usize) -> bool {
        self.owners.labels(node as OwnerId) == self.apex_labels
    }

    /// Records that are not in the zone.
    pub(super) fn outside(&self) -> impl Iterator<Item = RecordRef<'a>> {
        self.owners.outside()
    }

    /// Wire form, case as in the first record by type.
    pub(super) fn name(&self, node: usize) -> &'a [u8] {
        self.owners.name(node as OwnerId)
    }

    pub(super) fn record(&self, position: usize) -> RecordRef<'a> {
        self.owners.record(position)
    }

    /// The types of a node, each with the positions of its records.
    pub(super) fn rrsets(&self, node: usize) -> impl Iterator<Item = (RecordType, Range<usize>)> + use<'a> {
        self.owners.rrsets(node as OwnerId)
    }

    pub(super) fn find(&self, path: &Path, labels: usize) -> Option<usize> {
        self.owners.find(path, labels).map(|owner| owner as usize)
    }

    /// True for owners and for the empty names above them.
    pub(super) fn exists(&self, path: &Path, labels: usize) -> bool {
        self.owners.exists(path, labels)
    }

    /// Labels of the nearest name above `path` that exists (RFC 4592 §3.3.1).
    pub(super) fn closest_encloser(&self, path: &Path) -> usize {
        (self.apex_labels..path.labels()).rev().find(|labels| self.exists(path, *labels)).unwrap_or(self.apex_labels)
    }

    /// The delegation or DNAME that hides the name, which need not exist; for a delegation its own owner counts as hidden.
    pub(super) fn barrier_above(&self, path: &Path) -> Option<Barrier> {
        if !self.has_barriers {
            return None;
        }
        self.topmost(path, path.labels()).or_else(|| {
            let at = self.find(path, path.labels())?;
            self.is_cut(at).then_some(Barrier { node: at, is_dname: false })
        })
    }
}

/// `wire` as a path of its own.
pub(super) fn path_of(wire: &[u8]) -> Path {
    let mut path = Path::new();
    path.set(wire);
    path
}
