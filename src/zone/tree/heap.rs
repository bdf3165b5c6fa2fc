//! The nodes of a zone end to end: all that an answer needs of a name stands in one place, mostly in one or two cache lines.
//!
//! ```text
//!   node   name length (1)  labels (1)  types and flags (2)  [links: barrier, wildcard, steered name (12)]  name
//!          then its RRsets in order of type, padded to four
//!   RRset  type (2)  records (2)  TTL (4)  octets of the block (3)  flags (1)  [octets of the data (4)]  [extras: from (4), count (2)]
//!          then the block: whole records whose owner is 0xC00C; then, where its names are compressed, the data as (length, octets)
//! ```
//!
//! Numbers are little-endian but for what is copied into replies. A [`NodeId`] is a place divided by four.

use std::ops::Range;

use super::{Links, NO_NODE, NO_STEER, NodeId, TooLarge};
use crate::dns::RecordType;
use crate::sys::{prefer_large_pages, prefetch};
use crate::zone::Owners;
use crate::zone::record::Ttl;

const ALIGN: usize = 4;
const CACHE_LINE: usize = 64;
const FIXED_LEN: usize = 4;
const LINKS_LEN: usize = 12;
const HEAD_LEN: usize = 12;
const DATA_LEN: usize = 4;
const EXTRAS_LEN: usize = 6;
/// Owner, type, class, TTL: what stands before the length in each record of a block.
const RECORD_HEAD_LEN: usize = 10;

/// Types of one node: thirteen bits are left for them. There are fewer types than that.
const MAX_TYPES: u16 = 0x1fff;
const LINKED: u16 = 1 << 15;
const CUT: u16 = 1 << 14;
const DNAME: u16 = 1 << 13;

/// In place of the labels of a node that is no longer there: no name has so many.
const GONE: u8 = 0xff;

/// Octets of a block. An answer holds 65,535; a larger one is an error at load that keeps the zone from being served.
const MAX_BLOCK_LEN: usize = 0xff_ffff;
const HAS_DATA: u8 = 1;
const HAS_EXTRAS: u8 = 2;

/// What a node is written from.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewNode<'a> {
    /// Lower case.
    pub(super) name: &'a [u8],
    pub(super) labels: u8,
    pub(super) is_cut: bool,
    pub(super) has_dname: bool,
    /// It will have [`Links`].
    pub(super) is_linked: bool,
}

/// What an RRset is written from.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRrset<'a> {
    pub(super) rtype: RecordType,
    pub(super) count: u16,
    pub(super) ttl: Ttl,
    pub(super) block: &'a [u8],
    /// (length, octets) pairs; empty when the block itself has the data uncompressed.
    pub(super) data: &'a [u8],
    /// It may have extras.
    pub(super) may_have_extras: bool,
}

/// One name of the zone, as it stands in the heap; an empty non-terminal has no RRsets.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// See the module's text. [`NO_NODE`] when the node is answered from.
    pub barrier: NodeId,
    /// The child `*`.
    pub wildcard: NodeId,
    /// Index of the steered name at this owner, or [`NO_STEER`].
    pub steer: u32,
    pub(super) labels: u8,
    pub(super) is_cut: bool,
    pub(super) has_dname: bool,
    pub(super) name_at: usize,
    pub(super) name_len: u8,
    types: u16,
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
    block_at: usize,
    block_len: u32,
    /// 0: the data stands in the block.
    data_len: u32,
    pub(super) extra_at: u32,
    pub(super) extra_count: u16,
    /// Where `extra_at` is written; 0 when there is no room for it.
    extras_place: usize,
}

impl Rrset {
    fn end(&self) -> usize {
        self.block_at + self.block_len as usize + self.data_len as usize
    }
}

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct Heap {
    octets: Vec<u8>,
}

impl Heap {
    /// About what the heap of these owners and of `bare` other names will have: more would be virtual, less would be copied.
    pub(super) fn about(owners: &Owners, bare: usize) -> usize {
        let (records, octets) = owners.size();
        octets + (owners.len() + bare) * (FIXED_LEN + ALIGN) + records * (HEAD_LEN + RECORD_HEAD_LEN + 2)
    }

    /// Room for about this much, in large pages.
    pub(super) fn with_room(octets: usize) -> Heap {
        let mut heap = Heap { octets: Vec::with_capacity(octets) };
        prefer_large_pages(&mut heap.octets);
        heap
    }

    /// Begins a node of `types` RRsets, which [`Heap::push_rrset`] adds in order of type.
    pub(super) fn push_node(&mut self, node: NewNode<'_>, types: usize) -> Result<NodeId, TooLarge> {
        self.octets.resize(self.octets.len().next_multiple_of(ALIGN), 0);
        let id = NodeId::try_from(self.octets.len() / ALIGN).ok().filter(|id| *id < NO_NODE).ok_or(TooLarge)?;
        let count = u16::try_from(types).ok().filter(|count| *count <= MAX_TYPES).ok_or(TooLarge)?;
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        let types = count | flag(node.is_linked, LINKED) | flag(node.is_cut, CUT) | flag(node.has_dname, DNAME);
        self.octets.extend_from_slice(&[node.name.len() as u8, node.labels]);
        self.octets.extend_from_slice(&types.to_le_bytes());
        if node.is_linked {
            self.octets.extend_from_slice(&[0xff; LINKS_LEN]);
        }
        self.octets.extend_from_slice(node.name);
        Ok(id)
    }

    /// Goes on with the node that was begun last.
    pub(super) fn push_rrset(&mut self, rrset: &NewRrset<'_>) -> Result<(), TooLarge> {
        let data_len = u32::try_from(rrset.data.len()).map_err(|_| TooLarge)?;
        if rrset.block.len() > MAX_BLOCK_LEN {
            return Err(TooLarge);
        }
        let flags = if data_len > 0 { HAS_DATA } else { 0 } | if rrset.may_have_extras { HAS_EXTRAS } else { 0 };
        self.octets.extend_from_slice(&rrset.rtype.0.to_le_bytes());
        self.octets.extend_from_slice(&rrset.count.to_le_bytes());
        self.octets.extend_from_slice(&rrset.ttl.to_le_bytes());
        self.octets.extend_from_slice(&(rrset.block.len() as u32 | u32::from(flags) << 24).to_le_bytes());
        if data_len > 0 {
            self.octets.extend_from_slice(&data_len.to_le_bytes());
        }
        if rrset.may_have_extras {
            self.octets.extend_from_slice(&[0; EXTRAS_LEN]);
        }
        self.octets.extend_from_slice(rrset.block);
        self.octets.extend_from_slice(rrset.data);
        Ok(())
    }

    /// [`Heap::push_rrset`] of one record without names in its data, which has at most 65,535 octets: the most of what there is.
    pub(super) fn push_one(&mut self, rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
        let [type_high, type_low] = rtype.0.to_be_bytes();
        let [ttl_0, ttl_1, ttl_2, ttl_3] = ttl.to_be_bytes();
        let [len_high, len_low] = (rdata.len() as u16).to_be_bytes();
        let [block_0, block_1, block_2, flags] = ((RECORD_HEAD_LEN + 2 + rdata.len()) as u32).to_le_bytes();
        let head = [type_low, type_high, 1, 0, ttl_3, ttl_2, ttl_1, ttl_0, block_0, block_1, block_2, flags];
        let record = [0xc0, 12, type_high, type_low, 0, 1, ttl_0, ttl_1, ttl_2, ttl_3, len_high, len_low];
        self.octets.extend_from_slice(&head);
        self.octets.extend_from_slice(&record);
        self.octets.extend_from_slice(rdata);
    }

    /// Sets the links of a node that was written with room for them.
    pub(super) fn set_links(&mut self, id: NodeId, links: Links) {
        let at = id as usize * ALIGN + FIXED_LEN;
        debug_assert!(self.u16_at(at - 2) & LINKED != 0, "the node has no room for links");
        for (place, value) in [links.barrier, links.wildcard, links.steer].into_iter().enumerate() {
            self.put(at + 4 * place, &value.to_le_bytes());
        }
    }

    /// Sets the extras of an RRset that was written with room for them.
    pub(super) fn set_extras(&mut self, rrset: &Rrset, from: u32, count: u16) {
        debug_assert!(rrset.extras_place > 0, "the type has no extras");
        self.put(rrset.extras_place, &from.to_le_bytes());
        self.put(rrset.extras_place + 4, &count.to_le_bytes());
    }

    fn put(&mut self, at: usize, octets: &[u8]) {
        if let Some(place) = self.octets.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    #[inline]
    fn u16_at(&self, at: usize) -> u16 {
        self.octets.get(at..at + 2).and_then(<[u8]>::first_chunk).map_or(0, |octets| u16::from_le_bytes(*octets))
    }

    #[inline]
    fn u32_at(&self, at: usize) -> u32 {
        self.octets.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |octets| u32::from_le_bytes(*octets))
    }

    /// Asks for the cache lines that an answer from this node begins with.
    #[inline]
    pub(super) fn prefetch(&self, id: NodeId) {
        let at = id as usize * ALIGN;
        self.octets.get(at).into_iter().for_each(prefetch);
        self.octets.get(at + CACHE_LINE).into_iter().for_each(prefetch);
    }

    /// A node.
    #[inline]
    pub(super) fn node(&self, id: NodeId) -> Node {
        let at = id as usize * ALIGN;
        let [name_len, labels, types @ ..] = self.u32_at(at).to_le_bytes();
        let types = u16::from_le_bytes(types);
        let (barrier, wildcard, steer, links_len) = if types & LINKED == 0 {
            (NO_NODE, NO_NODE, NO_STEER, 0)
        } else {
            (self.u32_at(at + FIXED_LEN), self.u32_at(at + FIXED_LEN + 4), self.u32_at(at + FIXED_LEN + 8), LINKS_LEN)
        };
        let is_cut = types & CUT != 0;
        Node {
            // A delegation that no other one hides hides itself.
            barrier: if is_cut && barrier == NO_NODE { id } else { barrier },
            wildcard,
            steer,
            labels,
            is_cut,
            has_dname: types & DNAME != 0,
            name_at: at + FIXED_LEN + links_len,
            name_len,
            types: types & MAX_TYPES,
        }
    }

    /// The node's name, lower-case wire form.
    #[inline]
    pub(super) fn name(&self, node: &Node) -> &[u8] {
        self.octets.get(node.name_at..node.name_at + usize::from(node.name_len)).unwrap_or(&[0])
    }

    /// The node's RRsets in order of type.
    #[inline]
    pub(super) fn rrsets<'h>(&'h self, node: &Node) -> impl Iterator<Item = Rrset> + use<'h> {
        let types = node.types;
        let mut at = node.name_at + usize::from(node.name_len);
        (0..types).map(move |_| {
            let rrset = self.rrset_at(at);
            at = rrset.end();
            rrset
        })
    }

    #[inline]
    fn rrset_at(&self, at: usize) -> Rrset {
        let lens = self.u32_at(at + 8);
        let flags = (lens >> 24) as u8;
        let mut end = at + HEAD_LEN;
        let mut rrset = Rrset {
            rtype: RecordType(self.u16_at(at)),
            count: self.u16_at(at + 2),
            ttl: self.u32_at(at + 4),
            block_at: 0,
            block_len: lens & MAX_BLOCK_LEN as u32,
            data_len: 0,
            extra_at: 0,
            extra_count: 0,
            extras_place: 0,
        };
        if flags & HAS_DATA != 0 {
            rrset.data_len = self.u32_at(end);
            end += DATA_LEN;
        }
        if flags & HAS_EXTRAS != 0 {
            (rrset.extra_at, rrset.extra_count, rrset.extras_place) = (self.u32_at(end), self.u16_at(end + 4), end);
            end += EXTRAS_LEN;
        }
        rrset.block_at = end;
        rrset
    }

    /// Whole records whose owner is `0xC00C`.
    #[inline]
    pub(super) fn block(&self, rrset: &Rrset) -> &[u8] {
        self.octets.get(rrset.block_at..rrset.block_at + rrset.block_len as usize).unwrap_or(&[])
    }

    /// The records' data, uncompressed.
    #[inline]
    pub(super) fn rdatas(&self, rrset: &Rrset) -> Rdatas<'_> {
        if rrset.data_len == 0 {
            return Rdatas { rest: self.block(rrset), before: RECORD_HEAD_LEN };
        }
        let from = rrset.block_at + rrset.block_len as usize;
        Rdatas { rest: self.octets.get(from..from + rrset.data_len as usize).unwrap_or(&[]), before: 0 }
    }

    /// All nodes in the order of writing.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.nodes_of(0..self.end()).map(|id| self.node(id))
    }

    /// The nodes of a stretch, in the order of writing.
    pub(super) fn nodes_of(&self, stretch: Range<NodeId>) -> impl Iterator<Item = NodeId> {
        let mut next = stretch.start;
        let all = std::iter::from_fn(move || {
            let id = (next < stretch.end).then_some(next)?;
            next = self.end_of(id).div_ceil(ALIGN) as NodeId;
            Some(id)
        });
        all.filter(|id| self.node(*id).labels != GONE)
    }

    /// Where the next node will stand.
    pub(super) fn end(&self) -> NodeId {
        self.octets.len().div_ceil(ALIGN) as NodeId
    }

    /// Behind the last octet of a node.
    fn end_of(&self, id: NodeId) -> usize {
        let node = self.node(id);
        self.rrsets(&node).last().map_or(node.name_at + usize::from(node.name_len), |rrset| rrset.end())
    }

    /// A copy with room for some octets more.
    pub(super) fn copy_with_room(&self, more: usize) -> Heap {
        let mut heap = Heap::with_room(self.octets.len() + more + ALIGN);
        heap.octets.extend_from_slice(&self.octets);
        heap
    }

    /// Octets.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The octets of a node.
    pub(super) fn octets_of(&self, id: NodeId) -> &[u8] {
        self.octets.get(id as usize * ALIGN..self.end_of(id)).unwrap_or(&[])
    }

    /// True when the node has [`Links`].
    pub(super) fn is_linked(&self, id: NodeId) -> bool {
        self.u16_at(id as usize * ALIGN + 2) & LINKED != 0
    }

    /// Adds a node as another heap has it; it must have neither links nor extras.
    pub(super) fn push_octets(&mut self, octets: &[u8]) -> Option<NodeId> {
        self.octets.resize(self.octets.len().next_multiple_of(ALIGN), 0);
        let id = NodeId::try_from(self.octets.len() / ALIGN).ok().filter(|id| *id < NO_NODE)?;
        self.octets.extend_from_slice(octets);
        Some(id)
    }

    /// Writes over a node with one of the same name and length.
    pub(super) fn overwrite(&mut self, id: NodeId, octets: &[u8]) {
        self.put(id as usize * ALIGN, octets);
    }

    /// Writes over the last octets of an RRset's last record, which hold no name.
    pub(super) fn overwrite_tail(&mut self, rrset: &Rrset, tail: &[u8]) {
        let block_end = rrset.block_at + rrset.block_len as usize;
        self.put(block_end - tail.len().min(rrset.block_len as usize), tail);
        if rrset.data_len > 0 {
            self.put(rrset.end() - tail.len().min(rrset.data_len as usize), tail);
        }
    }

    /// Leaves a node where it is but to nobody: no name begins with such an octet.
    pub(super) fn bury(&mut self, id: NodeId) {
        let at = id as usize * ALIGN;
        let name_at = self.node(id).name_at;
        self.put(at + 1, &[GONE]);
        self.put(name_at, &[0xff]);
    }

    /// Gives back what growing reserved.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
    }
}

/// The data of an RRset's records.
#[derive(Clone, Debug)]
pub struct Rdatas<'a> {
    rest: &'a [u8],
    /// Octets before each length.
    before: usize,
}

impl<'a> Iterator for Rdatas<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let from = self.before + 2;
        let len = usize::from(u16::from_be_bytes(*self.rest.get(self.before..from)?.first_chunk()?));
        let rdata = self.rest.get(from..from + len)?;
        self.rest = self.rest.get(from + len..).unwrap_or(&[]);
        Some(rdata)
    }
}
