//! The owners of a zone with what checks ask of them: what they hold, and what hides them.

use std::ops::Range;

use crate::dns::{Name, RecordType};
use crate::zone::{OwnerId, Owners, Path, RecordRef, Records};

/// What hides names from the answers of this zone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Barrier {
    /// The owner of the delegation or DNAME.
    pub(super) node: usize,
    pub(super) is_dname: bool,
}

/// One owner.
#[derive(Clone, Copy, Default)]
pub(super) struct Node {
    pub(super) has_address: bool,
    pub(super) has_cname: bool,
    pub(super) has_ns: bool,
    has_dname: bool,
    /// The topmost delegation or DNAME strictly above it.
    pub(super) barrier: Option<Barrier>,
}

pub(super) struct Index<'a> {
    owners: Owners<'a>,
    apex_labels: usize,
    /// By [`OwnerId`].
    pub(super) nodes: Vec<Node>,
    /// There is a delegation or a DNAME somewhere.
    pub(super) has_barriers: bool,
}

impl<'a> Index<'a> {
    /// Takes the records that are in the zone.
    pub(super) fn new(apex: &Name, records: &'a Records) -> Index<'a> {
        let owners = Owners::group(apex, records);
        let mut index = Index { nodes: vec![Node::default(); owners.len()], owners, apex_labels: apex.label_count(), has_barriers: false };
        let mut path = Path::new();
        for at in 0..index.nodes.len() {
            let mut node = Node::default();
            for (rtype, _) in index.owners.rrsets(at as OwnerId) {
                match rtype {
                    RecordType::A | RecordType::AAAA => node.has_address = true,
                    RecordType::CNAME => node.has_cname = true,
                    RecordType::DNAME => node.has_dname = true,
                    RecordType::NS => node.has_ns = true,
                    _ => {}
                }
            }
            path.set(index.owners.name(at as OwnerId));
            index.has_barriers |= node.has_dname || (node.has_ns && path.labels() > index.apex_labels);
            index.nodes[at] = node;
        }
        if index.has_barriers {
            for at in 0..index.nodes.len() {
                path.set(index.owners.name(at as OwnerId));
                index.nodes[at].barrier = index.topmost(&path, path.labels());
            }
        }
        index
    }

    /// The topmost delegation or DNAME among the ancestors of fewer than `below` labels.
    fn topmost(&self, path: &Path, below: usize) -> Option<Barrier> {
        (self.apex_labels..below).find_map(|labels| {
            let at = self.find(path, labels)?;
            let is_cut = self.is_cut(at, labels);
            (is_cut || self.nodes[at].has_dname).then_some(Barrier { node: at, is_dname: !is_cut })
        })
    }

    fn is_cut(&self, node: usize, labels: usize) -> bool {
        self.nodes[node].has_ns && labels > self.apex_labels
    }

    pub(super) fn is_apex(&self, node: usize, path: &mut Path) -> bool {
        path.set(self.name(node));
        path.labels() == self.apex_labels
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
    pub(super) fn rrsets(&self, node: usize) -> impl Iterator<Item = (RecordType, Range<usize>)> {
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
            self.is_cut(at, path.labels()).then_some(Barrier { node: at, is_dname: false })
        })
    }
}

/// `wire` as a path of its own.
pub(super) fn path_of(wire: &[u8]) -> Path {
    let mut path = Path::new();
    path.set(wire);
    path
}
