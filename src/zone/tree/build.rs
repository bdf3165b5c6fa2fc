//! Building a tree: owners in the order of the files, then the empty names above them, then what links them. Linear in the records.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::additional::has_targets;
use super::edit::Ties;
use super::heap::{Heap, NewNode, NewRrset};
use super::index::Index;
use super::{Links, NO_NODE, NO_STEER, Negative, NodeId, TooLarge, ZoneTree, compressible, hash_name};
use crate::dns::name::MAX_NAME_LEN;
use crate::dns::{Name, RecordType};
use crate::zone::{Kinds, OwnerId, Owners, Path, rdata};

impl ZoneTree {
    /// Builds the tree of `apex` from records inside the zone and the owners of steered names (index in the slice = index in the model). The
    /// records are freed on the way. Those that `zone::check` objects to are not looked for here; an RRset takes the smallest TTL among its
    /// records (RFC 2181 §5.2).
    pub fn build(apex: &Name, owners: Owners, steered: &[Name]) -> Result<ZoneTree, TooLarge> {
        ZoneTree::build_marked(apex, owners, steered, &[]).map(|(tree, _)| tree)
    }

    /// [`ZoneTree::build`]; says where the nodes of these owners stand, which come in order, and where those of all owners end.
    pub fn build_marked(apex: &Name, mut owners: Owners, steered: &[Name], marks: &[OwnerId]) -> Result<(ZoneTree, Vec<NodeId>), TooLarge> {
        let apex = apex.to_lowercase();
        let plan = Plan::of(&apex, &owners, steered);
        let tree = ZoneTree {
            heap: Heap::with_room(Heap::about(&owners, plan.bare.len())),
            index: Index::with_room(owners.len() + plan.bare.len()),
            // Only large zones are edited; there these take some room.
            ties: (!marks.is_empty() && steered.is_empty() && !plan.has_barriers()).then(Ties::default),
            ..ZoneTree::empty(&apex)
        };
        let mut builder = Builder::new(tree);
        let mut places = Vec::with_capacity(marks.len() + 1);
        for owner in 0..owners.len() as OwnerId {
            while marks.get(places.len()).is_some_and(|mark| *mark <= owner) {
                places.push(builder.tree.heap.end());
            }
            if plan.exists(&owners, owner) {
                owners.forget_before(owner);
                builder.owner(&owners, owner, &plan)?;
            }
        }
        places.resize(marks.len() + 1, builder.tree.heap.end());
        for name in &plan.bare {
            builder.bare(name, &plan)?;
        }
        drop(owners);
        Ok((builder.finish(steered)?, places))
    }

    /// Nodes of these owners alone, which need neither links nor extras: to be taken over by another tree. By owner.
    pub(super) fn pieces(apex: &Name, owners: &Owners, wanted: &[OwnerId]) -> Result<(Heap, Vec<NodeId>, usize), TooLarge> {
        let plan = Plan {
            apex_labels: apex.label_count(),
            apex_len: apex.as_wire().len(),
            bare: Vec::new(),
            linked: HashSet::new(),
            barriers: HashSet::new(),
        };
        let mut builder = Builder::new(ZoneTree { index: Index::with_room(wanted.len()), ..ZoneTree::empty(apex) });
        let mut nodes = Vec::with_capacity(wanted.len());
        for owner in wanted {
            nodes.push(builder.tree.heap.end());
            builder.owner(owners, *owner, &plan)?;
        }
        Ok((builder.tree.heap, nodes, builder.tree.records))
    }

    fn empty(apex: &Name) -> ZoneTree {
        ZoneTree {
            apex: apex.clone(),
            heap: Heap::default(),
            index: Index::with_room(0),
            nodes: 0,
            records: 0,
            extras: Vec::new(),
            extra_names: Vec::new(),
            negative_ttl: 0,
            apex_node: 0,
            negative: Negative::default(),
            ties: None,
            order: std::sync::OnceLock::new(),
        }
    }
}

/// What is known before the first node is written.
struct Plan {
    apex_labels: usize,
    apex_len: usize,
    /// Names without records: empty non-terminals, steered names, the apex if it lacks everything. Lower case.
    bare: Vec<Vec<u8>>,
    /// Hashes of names that need links because of what stands below them or is steered there. One too many does no harm.
    linked: HashSet<u64>,
    /// Hashes of delegations and DNAMEs: what is below them needs links.
    barriers: HashSet<u64>,
}

impl Plan {
    fn of(apex: &Name, owners: &Owners, steered: &[Name]) -> Plan {
        let mut path = Path::new();
        let mut plan = Plan {
            apex_labels: apex.label_count(),
            apex_len: apex.as_wire().len(),
            bare: Vec::new(),
            linked: HashSet::new(),
            barriers: HashSet::new(),
        };
        let mut seen = HashSet::new();
        path.set(apex.as_wire());
        plan.bare_from(&path, plan.apex_labels, owners, &mut seen);
        for owner in 0..owners.len() as OwnerId {
            let kinds = owners.kinds(owner);
            let is_barrier = kinds.has(Kinds::DNAME) || kinds.has(Kinds::NS) && owners.labels(owner) != plan.apex_labels;
            let is_deep = owners.labels(owner) > plan.apex_labels + 1;
            if !(is_barrier || is_deep || kinds.has(Kinds::WILDCARD)) || !plan.exists(owners, owner) {
                continue;
            }
            path.set(owners.name(owner));
            plan.bare_from(&path, path.labels().saturating_sub(1), owners, &mut seen);
            plan.note(&path, path.labels());
            if is_barrier {
                plan.barriers.insert(path.whole().1);
            }
        }
        for name in steered {
            path.set(name.as_wire());
            plan.bare_from(&path, path.labels(), owners, &mut seen);
            plan.note(&path, path.labels());
            plan.linked.insert(path.whole().1);
        }
        plan
    }

    /// False for names that are there for NSEC3 alone: they do not exist for questions (RFC 5155 §7.2.8).
    fn exists(&self, owners: &Owners, owner: OwnerId) -> bool {
        let signs = |rtype| matches!(rtype, RecordType::NSEC3 | RecordType::RRSIG);
        !owners.kinds(owner).has(Kinds::NSEC3) || owners.name(owner).len() == self.apex_len || owners.rrsets(owner).any(|(rtype, _)| !signs(rtype))
    }

    /// Adds the name of `labels` and those above it up to the apex, as far as nobody owns them.
    fn bare_from(&mut self, path: &Path, labels: usize, owners: &Owners, seen: &mut HashSet<Vec<u8>>) {
        for labels in (self.apex_labels..=labels).rev() {
            if owners.find(path, labels).is_some_and(|owner| self.exists(owners, owner)) || !seen.insert(path.suffix(labels).0.to_vec()) {
                return;
            }
            self.bare.push(path.suffix(labels).0.to_vec());
            self.note(path, labels);
        }
    }

    /// A wildcard is found through its parent.
    fn note(&mut self, path: &Path, labels: usize) {
        if path.suffix(labels).0.starts_with(b"\x01*") && labels > self.apex_labels {
            self.linked.insert(path.suffix(labels - 1).1);
        }
    }

    /// False when no name of the zone needs links but for what [`Plan::linked`] holds.
    fn has_barriers(&self) -> bool {
        !self.barriers.is_empty()
    }

    fn is_linked(&self, path: &Path) -> bool {
        let is_below = || (self.apex_labels..path.labels()).any(|labels| self.barriers.contains(&path.suffix(labels).1));
        self.linked.contains(&path.whole().1) || (self.has_barriers() && is_below())
    }
}

struct Builder {
    tree: ZoneTree,
    path: Path,
    /// Room, used again for each RRset.
    block: Vec<u8>,
    data: Vec<u8>,
    linked: Vec<NodeId>,
    /// Nodes with an RRset that may have extras.
    with_targets: Vec<NodeId>,
}

impl Builder {
    fn new(tree: ZoneTree) -> Builder {
        Builder { tree, path: Path::new(), block: Vec::new(), data: Vec::new(), linked: Vec::new(), with_targets: Vec::new() }
    }

    fn owner(&mut self, owners: &Owners, owner: OwnerId, plan: &Plan) -> Result<(), TooLarge> {
        let (kinds, hash, labels) = (owners.kinds(owner), owners.hash(owner), owners.labels(owner));
        let mut name = [0; MAX_NAME_LEN];
        let name = lower_into(owners.name(owner), &mut name);
        let is_linked = if plan.has_barriers() {
            self.path.set(name);
            plan.is_linked(&self.path)
        } else {
            plan.linked.contains(&hash)
        };
        let is_cut = kinds.has(Kinds::NS) && labels != plan.apex_labels;
        let node = NewNode { name, labels: labels as u8, is_cut, has_dname: kinds.has(Kinds::DNAME), is_linked };
        let node = self.begin(node, hash, owners.rrsets(owner).count())?;
        if kinds.has(Kinds::MORE) && owners.rrsets(owner).any(|(rtype, _)| has_targets(rtype)) {
            self.with_targets.push(node);
        }
        if let Some(ties) = &mut self.tree.ties {
            ties.deepest = ties.deepest.max(labels as u8);
            if kinds.has(Kinds::MORE) && !ties.add(&self.tree.apex, owners, owner) {
                self.tree.ties = None;
            }
        }
        for (rtype, range) in owners.rrsets(owner) {
            if range.len() == 1 && is_address(rtype) {
                self.tree.records += 1;
                let record = owners.record(range.start);
                self.tree.heap.push_one(rtype, record.ttl, record.rdata);
            } else {
                self.rrset(owners, name, rtype, range)?;
            }
        }
        Ok(())
    }

    fn bare(&mut self, name: &[u8], plan: &Plan) -> Result<(), TooLarge> {
        self.path.set(name);
        let (labels, hash) = (self.path.labels() as u8, self.path.whole().1);
        self.begin(NewNode { name, labels, is_cut: false, has_dname: false, is_linked: plan.is_linked(&self.path) }, hash, 0).map(|_| ())
    }

    fn begin(&mut self, node: NewNode<'_>, hash: u64, types: usize) -> Result<NodeId, TooLarge> {
        let is_linked = node.is_linked;
        let id = self.tree.heap.push_node(node, types)?;
        self.tree.index.insert(hash, id);
        self.tree.nodes += 1;
        if is_linked {
            self.linked.push(id);
        }
        Ok(id)
    }

    /// `owner` is in lower case.
    fn rrset(&mut self, owners: &Owners, owner: &[u8], rtype: RecordType, range: Range<usize>) -> Result<(), TooLarge> {
        let mut rdatas: Vec<&[u8]> = Vec::with_capacity(range.len());
        let mut seen = HashSet::new();
        for position in range.clone() {
            let rdata = owners.record(position).rdata;
            if range.len() == 1 || seen.insert(rdata::lower_names(rtype, rdata)) {
                rdatas.push(rdata);
            }
        }
        let ttl = range.map(|position| owners.record(position).ttl).min().unwrap_or(0);
        self.block.clear();
        self.data.clear();
        let is_compressed = lay_out(owner, rtype, ttl, &rdatas, &mut self.block);
        if is_compressed {
            for rdata in &rdatas {
                self.data.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
                self.data.extend_from_slice(rdata);
            }
        }
        self.tree.records += rdatas.len();
        let count = u16::try_from(rdatas.len()).map_err(|_| TooLarge)?;
        self.tree.heap.push_rrset(&NewRrset { rtype, count, ttl, block: &self.block, data: &self.data, may_have_extras: has_targets(rtype) })
    }

    fn finish(mut self, steered: &[Name]) -> Result<ZoneTree, TooLarge> {
        let apex = self.tree.apex.clone();
        self.path.set(apex.as_wire());
        self.tree.apex_node = self.tree.node_at(apex.as_wire()).ok_or(TooLarge)?;
        let mut steers: HashMap<NodeId, u32> = HashMap::new();
        for (at, owner) in steered.iter().enumerate() {
            // Of two for one name, which config refuses, the last counts.
            steers.extend(self.tree.node_at(owner.to_lowercase().as_wire()).map(|node| (node, at as u32)));
        }
        for at in 0..self.linked.len() {
            let id = self.linked[at];
            let node = self.tree.heap.node(id);
            self.path.set(self.tree.heap.name(&node));
            let links = Links {
                barrier: self.barrier(id),
                wildcard: self.tree.wildcard_below(&self.path),
                steer: steers.get(&id).copied().unwrap_or(NO_STEER),
            };
            self.tree.heap.set_links(id, links);
        }
        self.tree.heap.shrink();
        self.tree.add_extras(&self.with_targets);
        self.tree.finish_negative();
        Ok(self.tree)
    }

    /// The topmost delegation at or above the name in `path`, or the topmost DNAME above it.
    fn barrier(&self, id: NodeId) -> NodeId {
        for labels in self.tree.apex.label_count()..=self.path.labels() {
            let (name, hash) = self.path.suffix(labels);
            let Some(ancestor) = self.tree.probe(hash, name) else { continue };
            let node = self.tree.heap.node(ancestor);
            if node.is_cut || (node.has_dname && ancestor != id) {
                return ancestor;
            }
        }
        NO_NODE
    }
}

impl ZoneTree {
    /// The child `*` of the name in `path`.
    fn wildcard_below(&self, path: &Path) -> NodeId {
        let wildcard = [b"\x01*", path.whole().0].concat();
        self.probe(hash_name(&wildcard), &wildcard).unwrap_or(NO_NODE)
    }
}

fn is_address(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::A | RecordType::AAAA)
}

/// `name` in lower case, in the front of `room`.
fn lower_into<'r>(name: &[u8], room: &'r mut [u8; MAX_NAME_LEN]) -> &'r [u8] {
    let len = name.len().min(MAX_NAME_LEN);
    room[..len].copy_from_slice(&name[..len]);
    // Length octets are at most 63, below 'A'.
    room[..len].make_ascii_lowercase();
    &room[..len]
}

/// Lays out an RRset as it answers a question for its own owner; true when names in its data are compressed.
fn lay_out(owner: &[u8], rtype: RecordType, ttl: u32, rdatas: &[&[u8]], block: &mut Vec<u8>) -> bool {
    // Synthesised answers have another question name, so only what is whole in itself may be copied for a wildcard.
    let is_plain = owner.starts_with(b"\x01*") || rdatas.iter().all(|rdata| compressible(rtype, rdata).next().is_none());
    if is_plain {
        for rdata in rdatas {
            // `0xC00C`, type, class, TTL, length, data.
            block.extend_from_slice(&[0xc0, 12]);
            block.extend_from_slice(&rtype.0.to_be_bytes());
            block.extend_from_slice(&[0, 1]);
            block.extend_from_slice(&ttl.to_be_bytes());
            block.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            block.extend_from_slice(rdata);
        }
        return false;
    }
    let compressed = super::prepare(owner, rtype, ttl, rdatas);
    block.extend_from_slice(&compressed);
    true
}
