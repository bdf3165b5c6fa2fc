//! The static data of one zone, ready to answer from: a hash of names to nodes, and the nodes with answers prepared for copying.
//!
//! ```text
//!   index   hash(name) → node                                     one cache line
//!   heap    node: name, links, RRsets with their prepared answers   one or two more
//! ```
//!
//! A node's *barrier* is the topmost delegation at or above it, or the topmost DNAME above it: whatever lies at or below a barrier is not
//! answered from (RFC 1034 §4.3.2 step 3b, RFC 6672 §2.4). So an exact hit needs no walk, and a miss needs one probe per label.

mod additional;
mod build;
mod edit;
mod heap;
pub(in crate::zone) mod index;
mod order;

pub use additional::Extra;
pub use edit::Edited;
pub use heap::{Node, Rdatas, Rrset};

use std::sync::OnceLock;

use edit::Ties;
use heap::Heap;
use index::Index;

use crate::dns::{Name, QueryName, RecordType, Section, Writer};
use crate::zone::rdata;
use crate::zone::record::Ttl;

/// A node of one zone: where it stands.
pub type NodeId = u32;
/// No node.
pub const NO_NODE: NodeId = u32::MAX;
/// No steered name.
pub const NO_STEER: u32 = u32::MAX;

/// One zone's static data. Immutable.
#[derive(Debug)]
pub struct ZoneTree {
    apex: Name,
    heap: Heap,
    index: Index,
    nodes: usize,
    /// RRsets that go with others into the additional section, those of one RRset side by side.
    extras: Vec<Extra>,
    /// Owners of extras that stand nowhere else: made from wildcards. Lower-case wire names, end to end.
    extra_names: Vec<u8>,
    records: usize,
    /// Seconds that negative answers live: min(SOA TTL, MINIMUM) (RFC 2308 §5).
    negative_ttl: Ttl,
    apex_node: NodeId,
    negative: Negative,
    /// What editing has to know; `None` when the zone is none that is edited.
    ties: Option<Ties>,
    /// See [`ZoneTree::in_order`].
    order: OnceLock<Box<[NodeId]>>,
}

/// The SOA record as negative answers carry it right behind the question, whatever name below the apex was asked for.
#[derive(Debug, Default)]
pub struct Negative {
    /// One whole record; its TTL is the negative TTL, its pointers hold for a question of the apex itself.
    pub octets: Vec<u8>,
    /// Offsets of the pointers. A question that is longer by n octets moves what they point to by n, the block itself included.
    pub pointers: Vec<u16>,
}

impl Negative {
    /// Makes a copy of the octets fit a question whose name is `longer` octets longer than the apex, and puts the serial in.
    #[inline]
    pub fn fit(&self, copy: &mut [u8], longer: u16, serial: u32) {
        for pointer in &self.pointers {
            if let Some(place) = copy.get_mut(usize::from(*pointer)..).and_then(<[u8]>::first_chunk_mut::<2>) {
                *place = (u16::from_be_bytes(*place) + longer).to_be_bytes();
            }
        }
        // The serial is the first of the five numbers at the end.
        if let Some((_, numbers)) = copy.split_last_chunk_mut::<20>() {
            numbers[..4].copy_from_slice(&serial.to_be_bytes());
        }
    }
}

/// What few nodes have: see [`Node`].
#[derive(Clone, Copy, Debug)]
struct Links {
    barrier: NodeId,
    wildcard: NodeId,
    steer: u32,
}

impl Rrset {
    /// True when its prepared octets are the whole answer: nothing goes with it, nothing leaves in turn, nothing is patched.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.has_extras() && !self.rotates() && self.rtype != RecordType::SOA
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

/// The hash of a lower-case wire name, or of any suffix of one. Fixed, so that tables can be compared between servers; names come from the
/// operator's own files, and a query only probes.
#[inline]
pub fn hash_name(wire: &[u8]) -> u64 {
    const K0: u64 = 0xa076_1d64_78bd_642f;
    const K1: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let two_words = |octets: &[u8; 16]| {
        let [low, high] = [octets.first_chunk::<8>(), octets.last_chunk::<8>()].map(|half| half.map_or(0, |half| u64::from_le_bytes(*half)));
        (low, high)
    };
    let mut hash = K1 ^ wire.len() as u64;
    let mut rest = wire;
    while let Some((chunk, after)) = rest.split_first_chunk::<16>().filter(|(_, after)| !after.is_empty()) {
        let (low, high) = two_words(chunk);
        hash = fold(low ^ K0, high ^ hash);
        rest = after;
    }
    // What is left, at most 16 octets: in reads that overlap, for a copy of a length known only now would be a call.
    let (low, high) = match (wire.last_chunk::<16>(), rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
        (Some(last), _, _) => two_words(last),
        (_, Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (last_octets(rest), 0),
    };
    fold(low ^ K1, high ^ hash)
}

/// Up to seven octets as one number.
fn last_octets(octets: &[u8]) -> u64 {
    match (octets.first_chunk::<4>(), octets.last_chunk::<4>(), octets) {
        (Some(first), Some(last), _) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        (_, _, [first, .., last]) => u64::from(*first) | u64::from(octets[octets.len() / 2]) << 8 | u64::from(*last) << 16,
        (_, _, [only]) => u64::from(*only),
        (_, _, []) => 0,
    }
}

impl ZoneTree {
    #[inline]
    fn probe(&self, hash: u64, lower: &[u8]) -> Option<NodeId> {
        self.index.find(hash, |id| self.name(id) == lower)
    }

    /// Where `name`, which is at or below the apex and hashes to `hash`, leads.
    pub fn find(&self, name: &QueryName, hash: u64) -> Found {
        self.find_likely(name, hash, NO_NODE)
    }

    /// As [`ZoneTree::find`]; `likely` is what [`ZoneTree::prefetch_node`] returned for the hash.
    #[inline]
    pub fn find_likely(&self, name: &QueryName, hash: u64, likely: NodeId) -> Found {
        let is_likely = likely != NO_NODE && self.name(likely) == name.as_wire();
        match if is_likely { Some(likely) } else { self.probe(hash, name.as_wire()) } {
            Some(id) => match self.node(id).barrier {
                NO_NODE => Found::Node(id),
                barrier => self.behind(barrier),
            },
            None => self.above(name),
        }
    }

    /// Where a name that is not there leads.
    fn above(&self, name: &QueryName) -> Found {
        let encloser = self.closest_encloser(name);
        let node = self.node(encloser);
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

    /// Asks for the place in the index where a name of this hash would be.
    #[inline]
    pub fn prefetch_slot(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The node that a name of this hash most likely has, asked for; what [`ZoneTree::prefetch_slot`] asked for should have come.
    #[inline]
    pub fn prefetch_node(&self, hash: u64) -> NodeId {
        let id = self.index.candidate(hash).unwrap_or(NO_NODE);
        self.heap.prefetch(id);
        id
    }

    fn behind(&self, barrier: NodeId) -> Found {
        // A cut with a DNAME beside it is a cut: its data is not ours.
        if self.node(barrier).is_cut { Found::Delegation(barrier) } else { Found::Dname(barrier) }
    }

    /// The deepest existing ancestor (RFC 4592 §3.3.1), by walking down from the apex.
    fn closest_encloser(&self, name: &QueryName) -> NodeId {
        let mut encloser = self.apex_node;
        for labels in self.labels(self.apex_node) + 1..name.label_count() {
            let suffix = name.suffix(labels);
            match self.probe(hash_name(suffix), suffix) {
                Some(id) => encloser = id,
                None => break,
            }
        }
        encloser
    }

    /// The node at `lower` (lower-case wire form), whatever lies above it: for glue.
    pub fn node_at(&self, lower: &[u8]) -> Option<NodeId> {
        self.probe(hash_name(lower), lower)
    }

    /// A node.
    #[inline]
    pub fn node(&self, id: NodeId) -> Node {
        self.heap.node(id)
    }

    /// The node's name, lower-case wire form.
    #[inline]
    pub fn name(&self, id: NodeId) -> &[u8] {
        self.heap.name(&self.heap.node(id))
    }

    /// The name of this node, lower-case wire form.
    #[inline]
    pub fn name_of(&self, node: &Node) -> &[u8] {
        self.heap.name(node)
    }

    /// Labels of the node's name.
    pub fn labels(&self, id: NodeId) -> usize {
        usize::from(self.node(id).labels)
    }

    /// The node's RRsets in order of type.
    #[inline]
    pub fn rrsets(&self, id: NodeId) -> impl Iterator<Item = Rrset> {
        self.heap.rrsets(&self.heap.node(id))
    }

    /// The node's RRset of one type.
    #[inline]
    pub fn rrset(&self, id: NodeId, rtype: RecordType) -> Option<Rrset> {
        self.rrset_of(&self.heap.node(id), rtype)
    }

    /// The RRset of one type of this node.
    #[inline]
    pub fn rrset_of(&self, node: &Node, rtype: RecordType) -> Option<Rrset> {
        self.heap.rrsets(node).find(|rrset| rrset.rtype == rtype)
    }

    /// The records' data, uncompressed.
    #[inline]
    pub fn rdatas(&self, rrset: &Rrset) -> Rdatas<'_> {
        self.heap.rdatas(rrset)
    }

    /// Whole records whose owner is `0xC00C` and whose pointers hold when the question is the node's own name.
    #[inline]
    pub fn block(&self, rrset: &Rrset) -> &[u8] {
        self.heap.block(rrset)
    }

    /// What goes with an RRset into the additional section, most needed first.
    pub fn extras(&self, rrset: &Rrset) -> &[Extra] {
        let from = rrset.extra_at as usize;
        self.extras.get(from..from + usize::from(rrset.extra_count)).unwrap_or(&[])
    }

    /// The RRset that an extra stands for; its name is empty when the owner of the answer is meant.
    pub fn extra(&self, extra: &Extra) -> Option<(&[u8], Rrset)> {
        Some((self.extra_name(extra), self.rrsets(extra.node).nth(usize::from(extra.slot))?))
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
    pub fn soa(&self) -> Option<Rrset> {
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
            .and_then(|soa| self.rdatas(&soa).next())
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

    fn finish_negative(&mut self) {
        self.negative_ttl = self.soa().map_or(0, |soa| soa.ttl.min(self.soa_minimum()));
        self.negative = self.prepare_negative();
    }

    fn prepare_negative(&self) -> Negative {
        let Some(rdata) = self.soa().and_then(|soa| self.rdatas(&soa).next()) else { return Negative::default() };
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

    /// The owners of static records, lower case.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        let owners = self.heap.nodes().filter(|node| self.heap.rrsets(node).next().is_some());
        owners.filter_map(|node| Name::from_wire(self.heap.name(&node)).ok())
    }

    /// Names, empty non-terminals included.
    pub fn node_count(&self) -> usize {
        self.nodes
    }
}

/// Lays out an RRset as it answers a question for its own owner: the writer itself decides what is compressed.
fn prepare(owner: &[u8], rtype: RecordType, ttl: Ttl, rdatas: &[&[u8]]) -> Vec<u8> {
    let mut question = vec![0u8; 12];
    question.extend_from_slice(owner);
    question.extend_from_slice(&[0, 0, 0, 0]);
    let question_len = question.len();
    // Names in a reply stand in full at most: owner and rdata of each record.
    let room = question_len + rdatas.iter().map(|rdata| owner.len() + 12 + rdata.len()).sum::<usize>();
    let mut buf = vec![0u8; room];
    let Some(mut writer) = Writer::begin(&mut buf, &question, question_len, room) else { return Vec::new() };
    writer.learn_question();
    for rdata in rdatas {
        let written = writer.put_record(Section::Answer, owner, rtype, ttl, rdata, compressible(rtype, rdata));
        debug_assert!(written.is_ok(), "the room was counted for full names");
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
