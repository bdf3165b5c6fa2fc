//! The static data of one zone, ready to answer from: a hash of names to nodes, record data in wire form, answers prepared for copying.
//!
//! ```text
//!   names   lower-case wire names, end to end          index   hash(name) → node
//!   nodes   name, RRsets, wildcard child, barrier      rrsets  type, TTL, rdata, prepared answer
//! ```
//!
//! A node's *barrier* is the topmost delegation at or above it, or the topmost DNAME above it: whatever lies at or below a barrier is not
//! answered from (RFC 1034 §4.3.2 step 3b, RFC 6672 §2.4). So an exact hit needs no walk, and a miss needs one probe per label.

mod additional;

use std::collections::{BTreeMap, HashSet};

pub use additional::Extra;
use hashbrown::HashTable;

use crate::dns::{Name, QueryName, RecordType, Section, Writer};
use crate::zone::rdata;
use crate::zone::record::{Record, Ttl};

/// Dense index of a node in its zone.
pub type NodeId = u32;
/// No node.
pub const NO_NODE: NodeId = u32::MAX;
/// No steered name.
pub const NO_STEER: u32 = u32::MAX;

/// One zone's static data. Immutable.
#[derive(Debug)]
pub struct ZoneTree {
    apex: Name,
    /// Lower-case wire names, end to end.
    names: Vec<u8>,
    nodes: Vec<Node>,
    rrsets: Vec<Rrset>,
    /// Per RRset: records as (length, octets) pairs, length in network order.
    rdata: Vec<u8>,
    /// Per RRset: whole records whose owner is `0xC00C`, for a question that is the owner itself.
    blocks: Vec<u8>,
    /// RRsets that go with others into the additional section, those of one RRset side by side.
    extras: Vec<Extra>,
    index: HashTable<NodeId>,
    records: usize,
    /// Seconds that negative answers live: min(SOA TTL, MINIMUM) (RFC 2308 §5).
    negative_ttl: Ttl,
    apex_node: NodeId,
    negative: Negative,
}

/// The SOA record as negative answers carry it right behind the question, whatever name below the apex was asked for.
#[derive(Debug, Default)]
pub struct Negative {
    /// One whole record; its TTL is the negative TTL, its pointers hold for a question of the apex itself.
    pub octets: Vec<u8>,
    /// Offsets of the pointers. A question that is longer by n octets moves what they point to by n, the block itself included.
    pub pointers: Vec<u16>,
}

/// One name of the zone; an empty non-terminal has no RRsets.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    name_at: u32,
    name_len: u8,
    labels: u8,
    is_cut: bool,
    has_dname: bool,
    rrset_from: u32,
    rrset_count: u16,
    /// See the module's text. [`NO_NODE`] when the node is answered from.
    pub barrier: NodeId,
    /// The child `*`.
    pub wildcard: NodeId,
    /// Index of the steered name at this owner, or [`NO_STEER`].
    pub steer: u32,
}

/// One RRset.
#[derive(Clone, Copy, Debug)]
pub struct Rrset {
    /// Type.
    pub rtype: RecordType,
    /// Records, at least one.
    pub count: u16,
    /// Seconds.
    pub ttl: Ttl,
    rdata_at: u32,
    rdata_len: u32,
    block_at: u32,
    block_len: u32,
    extra_at: u32,
    extra_count: u16,
    /// See [`Rrset::is_plain`].
    is_plain: bool,
}

impl Rrset {
    /// True when its prepared octets are the whole answer: nothing goes with it, nothing leaves in turn, nothing is patched.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// True when something goes with it into the additional section.
    pub fn has_extras(&self) -> bool {
        self.extra_count > 0
    }

    /// True for several addresses: those leave in turn. Clients of other types order by preference or draw by themselves (RFC 2782, RFC 5321
    /// §5.1, RFC 9460 §2.4.1), and resolvers choose name servers by their speed.
    pub fn rotates(&self) -> bool {
        self.count > 1 && matches!(self.rtype, RecordType::A | RecordType::AAAA)
    }
}

/// Where a name leads (RFC 1034 §4.3.2, RFC 4592 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The name itself.
    Node(NodeId),
    /// Synthesised from this wildcard.
    Wildcard(NodeId),
    /// At or below this delegation.
    Delegation(NodeId),
    /// Below the DNAME at this node.
    Dname(NodeId),
    /// No such name.
    Nothing,
}

/// Why a tree cannot be built: more than it can index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the zone is too large: more than 4 GiB of names or record data")
    }
}

/// Mixes one label into the hash of the name to its right. Fixed, so that tables can be compared between servers; names come from the
/// operator's own files, and a query only probes.
pub fn hash_label(below: u64, label: &[u8]) -> u64 {
    const K0: u64 = 0xa076_1d64_78bd_642f;
    const K1: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let mut hash = below ^ (label.len() as u64).wrapping_mul(K1);
    let mut rest = label;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>().filter(|(_, after)| !after.is_empty()) {
        hash = fold(hash ^ u64::from_le_bytes(*chunk), K0);
        rest = after;
    }
    fold(hash ^ last_octets(rest) ^ K1, K0 ^ hash.rotate_left(32))
}

/// Up to eight octets as one number, in two reads that overlap: a copy of a length known only now would be a call.
fn last_octets(octets: &[u8]) -> u64 {
    match (octets.first_chunk::<4>(), octets.last_chunk::<4>(), octets) {
        (Some(first), Some(last), _) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        (_, _, [first, .., last]) => u64::from(*first) | u64::from(octets[octets.len() / 2]) << 8 | u64::from(*last) << 16,
        (_, _, [only]) => u64::from(*only),
        (_, _, []) => 0,
    }
}

/// The hash of the root, from which [`hash_label`] starts.
pub const ROOT_HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a lower-case wire name.
pub fn hash_name(wire: &[u8]) -> u64 {
    QueryName::read(wire)
        .map_or(ROOT_HASH, |name| (1..=name.label_count()).fold(ROOT_HASH, |hash, depth| hash_label(hash, name.label_from_right(depth))))
}

impl ZoneTree {
    /// Builds the tree of `apex` from records inside the zone and the owners of steered names (index in the slice = index in the model).
    /// Records that `zone::check` objects to are not looked for here; an RRset takes the smallest TTL among its records (RFC 2181 §5.2).
    pub fn build(apex: &Name, records: &[Record], steered: &[Name]) -> Result<ZoneTree, TooLarge> {
        let apex = apex.to_lowercase();
        let mut owners: BTreeMap<Vec<u8>, BTreeMap<RecordType, Vec<&Record>>> = BTreeMap::new();
        owners.entry(apex.as_wire().to_vec()).or_default();
        for record in records.iter().filter(|record| record.owner.is_at_or_below(&apex)) {
            owners.entry(record.owner.to_lowercase().as_wire().to_vec()).or_default().entry(record.rtype).or_default().push(record);
        }
        owners.retain(|owner, rrsets| owner == apex.as_wire() || !is_only_nsec3(rrsets));
        for owner in steered {
            owners.entry(owner.to_lowercase().as_wire().to_vec()).or_default();
        }
        add_empty_non_terminals(&apex, &mut owners);
        let mut tree = ZoneTree {
            apex,
            names: Vec::new(),
            nodes: Vec::with_capacity(owners.len()),
            rrsets: Vec::new(),
            rdata: Vec::new(),
            blocks: Vec::new(),
            extras: Vec::new(),
            index: HashTable::with_capacity(owners.len()),
            records: 0,
            negative_ttl: 0,
            apex_node: 0,
            negative: Negative::default(),
        };
        for (owner, rrsets) in &owners {
            tree.add_node(owner, rrsets)?;
        }
        for (at, owner) in steered.iter().enumerate() {
            if let Some(node) = tree.node_of(owner.to_lowercase().as_wire()) {
                tree.nodes[node as usize].steer = at as u32;
            }
        }
        tree.apex_node = tree.node_of(tree.apex.as_wire()).unwrap_or(0);
        tree.link();
        tree.add_extras();
        tree.negative_ttl = tree.soa().map_or(0, |soa| soa.ttl.min(tree.soa_minimum()));
        tree.negative = tree.prepare_negative();
        Ok(tree)
    }

    fn add_node(&mut self, owner: &[u8], rrsets: &BTreeMap<RecordType, Vec<&Record>>) -> Result<(), TooLarge> {
        let id = self.nodes.len() as NodeId;
        let labels = labels_of(owner);
        let node = Node {
            name_at: offset(self.names.len())?,
            name_len: owner.len() as u8,
            labels,
            is_cut: owner != self.apex.as_wire() && rrsets.contains_key(&RecordType::NS),
            has_dname: rrsets.contains_key(&RecordType::DNAME),
            rrset_from: offset(self.rrsets.len())?,
            rrset_count: rrsets.len() as u16,
            barrier: NO_NODE,
            wildcard: NO_NODE,
            steer: NO_STEER,
        };
        self.names.extend_from_slice(owner);
        self.nodes.push(node);
        for (rtype, records) in rrsets {
            self.add_rrset(owner, *rtype, records)?;
        }
        let Self { index, nodes, names, .. } = self;
        index.insert_unique(hash_name(owner), id, |other| hash_name(name_of(names, &nodes[*other as usize])));
        Ok(())
    }

    fn add_rrset(&mut self, owner: &[u8], rtype: RecordType, records: &[&Record]) -> Result<(), TooLarge> {
        let mut unique: Vec<&[u8]> = Vec::with_capacity(records.len());
        let mut seen = HashSet::new();
        for record in records {
            if records.len() == 1 || seen.insert(rdata::lower_names(rtype, &record.rdata)) {
                unique.push(&record.rdata);
            }
        }
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        let rdata_at = offset(self.rdata.len())?;
        for rdata in &unique {
            self.rdata.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            self.rdata.extend_from_slice(rdata);
        }
        let block_at = offset(self.blocks.len())?;
        let block = prepare(owner, rtype, ttl, &unique);
        self.blocks.extend_from_slice(&block);
        self.records += unique.len();
        self.rrsets.push(Rrset {
            rtype,
            count: unique.len() as u16,
            ttl,
            rdata_at,
            rdata_len: offset(self.rdata.len())? - rdata_at,
            block_at,
            block_len: block.len() as u32,
            extra_at: 0,
            extra_count: 0,
            is_plain: false,
        });
        Ok(())
    }

    /// Sets wildcards and barriers. Nodes stand in order of their wire names, not of the tree, so ancestors are looked up.
    fn link(&mut self) {
        for id in 0..self.nodes.len() as NodeId {
            let Some(name) = QueryName::read(self.name(id)) else { continue };
            let mut barrier = NO_NODE;
            // From the apex down: the topmost barrier wins.
            for labels in self.apex.label_count()..=name.label_count() {
                let Some(ancestor) = self.node_of(name.suffix(labels)) else { continue };
                let node = &self.nodes[ancestor as usize];
                if node.is_cut || (node.has_dname && ancestor != id) {
                    barrier = ancestor;
                    break;
                }
            }
            self.nodes[id as usize].barrier = barrier;
            if name.as_wire().starts_with(b"\x01*")
                && let Some(parent) = self.node_of(name.suffix(name.label_count() - 1))
                && id != self.apex_node
            {
                self.nodes[parent as usize].wildcard = id;
            }
        }
    }

    fn node_of(&self, lower: &[u8]) -> Option<NodeId> {
        self.probe(hash_name(lower), lower)
    }

    fn probe(&self, hash: u64, lower: &[u8]) -> Option<NodeId> {
        self.index.find(hash, |id| self.name(*id) == lower).copied()
    }

    /// Where `name`, which is at or below the apex and hashes to `hash`, leads.
    pub fn find(&self, name: &QueryName, hash: u64) -> Found {
        if let Some(id) = self.probe(hash, name.as_wire()) {
            return match self.nodes[id as usize].barrier {
                NO_NODE => Found::Node(id),
                barrier => self.behind(barrier),
            };
        }
        let encloser = self.closest_encloser(name);
        let node = &self.nodes[encloser as usize];
        if node.barrier != NO_NODE {
            self.behind(node.barrier)
        } else if node.has_dname {
            Found::Dname(encloser)
        } else if node.wildcard != NO_NODE {
            Found::Wildcard(node.wildcard)
        } else {
            Found::Nothing
        }
    }

    fn behind(&self, barrier: NodeId) -> Found {
        // A cut with a DNAME beside it is a cut: its data is not ours.
        if self.nodes[barrier as usize].is_cut { Found::Delegation(barrier) } else { Found::Dname(barrier) }
    }

    /// The deepest existing ancestor (RFC 4592 §3.3.1), by walking down from the apex.
    fn closest_encloser(&self, name: &QueryName) -> NodeId {
        let apex_labels = self.apex.label_count();
        let mut hash = (1..=apex_labels).fold(ROOT_HASH, |hash, depth| hash_label(hash, name.label_from_right(depth)));
        let mut encloser = self.apex_node;
        for labels in apex_labels + 1..name.label_count() {
            hash = hash_label(hash, name.label_from_right(labels));
            match self.probe(hash, name.suffix(labels)) {
                Some(id) => encloser = id,
                None => break,
            }
        }
        encloser
    }

    /// The node at `lower` (lower-case wire form), whatever lies above it: for glue.
    pub fn node_at(&self, lower: &[u8]) -> Option<NodeId> {
        self.node_of(lower)
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The node's name, lower-case wire form.
    pub fn name(&self, id: NodeId) -> &[u8] {
        name_of(&self.names, &self.nodes[id as usize])
    }

    /// Labels of the node's name.
    pub fn labels(&self, id: NodeId) -> usize {
        usize::from(self.nodes[id as usize].labels)
    }

    /// The node's RRsets in order of type.
    pub fn rrsets(&self, id: NodeId) -> &[Rrset] {
        let node = &self.nodes[id as usize];
        let from = node.rrset_from as usize;
        self.rrsets.get(from..from + usize::from(node.rrset_count)).unwrap_or(&[])
    }

    /// The node's RRset of one type.
    pub fn rrset(&self, id: NodeId, rtype: RecordType) -> Option<&Rrset> {
        self.rrsets(id).iter().find(|rrset| rrset.rtype == rtype)
    }

    /// The records' data, uncompressed.
    pub fn rdatas(&self, rrset: &Rrset) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.rdata.get(rrset.rdata_at as usize..(rrset.rdata_at + rrset.rdata_len) as usize).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let len = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
            let rdata = rest.get(2..2 + len)?;
            rest = &rest[2 + len..];
            Some(rdata)
        })
    }

    /// Whole records whose owner is `0xC00C` and whose pointers hold when the question is the node's own name.
    pub fn block(&self, rrset: &Rrset) -> &[u8] {
        self.blocks.get(rrset.block_at as usize..(rrset.block_at + rrset.block_len) as usize).unwrap_or(&[])
    }

    /// What goes with an RRset into the additional section, most needed first.
    pub fn extras(&self, rrset: &Rrset) -> &[Extra] {
        let from = rrset.extra_at as usize;
        self.extras.get(from..from + usize::from(rrset.extra_count)).unwrap_or(&[])
    }

    /// The RRset that an extra stands for; its name is empty when the owner of the answer is meant.
    pub fn extra(&self, extra: &Extra) -> Option<(&[u8], &Rrset)> {
        let from = extra.name_at as usize;
        let name = self.names.get(from..from + usize::from(extra.name_len))?;
        Some((name, self.rrsets(extra.node).get(usize::from(extra.slot))?))
    }

    /// The apex, lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The apex node.
    pub fn apex_node(&self) -> NodeId {
        self.apex_node
    }

    /// The SOA RRset.
    pub fn soa(&self) -> Option<&Rrset> {
        self.rrset(self.apex_node, RecordType::SOA)
    }

    /// Serial of the SOA record as loaded.
    pub fn soa_serial(&self) -> u32 {
        self.soa_field(20)
    }

    fn soa_minimum(&self) -> u32 {
        self.soa_field(4)
    }

    /// One of the five numbers at the end of the SOA, by its distance from the end.
    fn soa_field(&self, from_end: usize) -> u32 {
        self.soa()
            .and_then(|soa| self.rdatas(soa).next())
            .and_then(|rdata| rdata.get(rdata.len().checked_sub(from_end)?..)?.first_chunk::<4>().copied())
            .map_or(0, u32::from_be_bytes)
    }

    /// Seconds that negative answers live (RFC 2308 §5).
    pub fn negative_ttl(&self) -> Ttl {
        self.negative_ttl
    }

    /// The SOA as negative answers carry it.
    pub fn negative(&self) -> &Negative {
        &self.negative
    }

    fn prepare_negative(&self) -> Negative {
        let Some(rdata) = self.soa().and_then(|soa| self.rdatas(soa).next()) else { return Negative::default() };
        let octets = prepare(self.apex.as_wire(), RecordType::SOA, self.negative_ttl, &[rdata]);
        // Owner, then the two names at the start of the data.
        let mut pointers = Vec::new();
        let mut at = 0;
        for fixed_behind in [10, 0, 0] {
            at = name_end(&octets, at, &mut pointers) + fixed_behind;
        }
        Negative { octets, pointers }
    }

    /// Static records.
    pub fn record_count(&self) -> usize {
        self.records
    }

    /// Names, empty non-terminals included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

/// Lays out an RRset as it answers a question for its own owner: the writer itself decides what is compressed.
fn prepare(owner: &[u8], rtype: RecordType, ttl: Ttl, rdatas: &[&[u8]]) -> Vec<u8> {
    // Synthesised answers have another question name, so only what is whole in itself may be copied for a wildcard.
    let is_wildcard = owner.starts_with(b"\x01*");
    let mut question = vec![0u8; 12];
    question.extend_from_slice(owner);
    question.extend_from_slice(&[0, 0, 0, 0]);
    // Names in a reply stand in full at most: owner and rdata of each record.
    let room = question.len() + rdatas.iter().map(|rdata| owner.len() + 12 + rdata.len()).sum::<usize>();
    let mut buf = vec![0u8; room];
    let question_len = question.len();
    let Some(mut writer) = Writer::begin(&mut buf, &question, question_len, room) else { return Vec::new() };
    if !is_wildcard {
        writer.learn_question();
    }
    for rdata in rdatas {
        let spans: Vec<(usize, usize)> = if is_wildcard { Vec::new() } else { compressible(rtype, rdata).collect() };
        let owner_pointer_at = writer.len();
        if is_wildcard {
            // `0xC00C`, type, class, TTL, length, data.
            let mut record = vec![0xc0, 12];
            record.extend_from_slice(&rtype.0.to_be_bytes());
            record.extend_from_slice(&[0, 1]);
            record.extend_from_slice(&ttl.to_be_bytes());
            record.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            record.extend_from_slice(rdata);
            let _ = writer.put_block(Section::Answer, &record, 1);
        } else {
            let _ = writer.put_record(Section::Answer, owner, rtype, ttl, rdata, spans);
        }
        debug_assert!(writer.len() > owner_pointer_at, "the room was counted for full names");
    }
    let len = writer.len();
    buf.get(question_len..len).unwrap_or(&[]).to_vec()
}

/// The names inside record data that may be compressed (RFC 3597 §4).
pub fn compressible(rtype: RecordType, rdata: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    rdata::names(rtype, rdata).filter(|span| span.compressible).map(|span| (usize::from(span.offset), usize::from(span.len)))
}

/// Steps over a name, noting the pointer it may end in.
fn name_end(octets: &[u8], mut at: usize, pointers: &mut Vec<u16>) -> usize {
    loop {
        match octets.get(at) {
            Some(0) | None => return at + 1,
            Some(len) if len & 0xc0 == 0xc0 => {
                pointers.push(at as u16);
                return at + 2;
            }
            Some(len) => at += 1 + usize::from(*len),
        }
    }
}

fn add_empty_non_terminals(apex: &Name, owners: &mut BTreeMap<Vec<u8>, BTreeMap<RecordType, Vec<&Record>>>) {
    let apex_len = apex.as_wire().len();
    let mut missing: Vec<Vec<u8>> = Vec::new();
    for owner in owners.keys() {
        let mut rest = owner.as_slice();
        while rest.len() > apex_len {
            rest = &rest[1 + usize::from(rest[0])..];
            if owners.contains_key(rest) {
                break;
            }
            missing.push(rest.to_vec());
        }
    }
    for name in missing {
        owners.entry(name).or_default();
    }
}

/// Names that are there for NSEC3 alone do not exist for questions (RFC 5155 §7.2.8).
fn is_only_nsec3(rrsets: &BTreeMap<RecordType, Vec<&Record>>) -> bool {
    rrsets.contains_key(&RecordType::NSEC3) && rrsets.keys().all(|rtype| matches!(*rtype, RecordType::NSEC3 | RecordType::RRSIG))
}

fn labels_of(wire: &[u8]) -> u8 {
    QueryName::read(wire).map_or(0, |name| name.label_count() as u8)
}

fn name_of<'a>(names: &'a [u8], node: &Node) -> &'a [u8] {
    let from = node.name_at as usize;
    names.get(from..from + usize::from(node.name_len)).unwrap_or(&[0])
}

fn offset(len: usize) -> Result<u32, TooLarge> {
    u32::try_from(len).map_err(|_| TooLarge)
}
