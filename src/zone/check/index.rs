//! The owners of a zone in canonical order, for checks: subtrees are contiguous and look-ups are bisections.

use std::ops::Range;

use crate::dns::{Name, RecordType};
use crate::zone::Record;

/// Appends the sort key of a name: labels from the root in lower case, each closed by a zero octet. The octets 0 and 1 are escaped, so a
/// name is below another exactly when its key is longer and starts with the other's, and keys sort as RFC 4034 §6.1 asks.
pub(super) fn push_key(wire: &[u8], out: &mut Vec<u8>) {
    let mut starts = [0u8; crate::dns::name::MAX_LABELS + 1];
    let (mut count, mut at) = (0, 0);
    while let Some(&len) = wire.get(at).filter(|len| **len > 0) {
        // Names are at most 255 octets long and have at most 127 labels.
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(len);
    }
    for &start in starts[..count].iter().rev() {
        let start = usize::from(start);
        for octet in &wire[start + 1..start + 1 + usize::from(wire[start])] {
            match octet.to_ascii_lowercase() {
                special @ (0 | 1) => out.extend_from_slice(&[1, special + 1]),
                other => out.push(other),
            }
        }
        out.push(0);
    }
}

pub(super) fn key_of(wire: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(wire.len() + 4);
    push_key(wire, &mut key);
    key
}

/// The key of the parent; `None` for the root.
pub(super) fn parent_key(key: &[u8]) -> Option<&[u8]> {
    let inner = key.split_last()?.1;
    let cut = inner.iter().rposition(|&octet| octet == 0).map_or(0, |zero| zero + 1);
    Some(&key[..cut])
}

/// What hides names from the answers of this zone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Barrier {
    /// The node of the delegation or DNAME.
    pub(super) node: usize,
    pub(super) is_dname: bool,
}

/// One owner.
pub(super) struct Node {
    key: Range<usize>,
    /// Its records: a range of [`Index::order`], sorted by type.
    pub(super) records: Range<usize>,
    pub(super) has_address: bool,
    pub(super) has_cname: bool,
    pub(super) has_ns: bool,
    /// The topmost delegation or DNAME strictly above it.
    pub(super) barrier: Option<Barrier>,
}

pub(super) struct Index<'a> {
    pub(super) records: &'a [Record],
    keys: Vec<u8>,
    pub(super) order: Vec<u32>,
    /// In canonical order.
    pub(super) nodes: Vec<Node>,
}

impl<'a> Index<'a> {
    /// Sorts the records that are in the zone; n log n.
    pub(super) fn new(apex: &Name, records: &'a [Record]) -> Index<'a> {
        let mut keys = Vec::with_capacity(records.len() * 32);
        let mut spans: Vec<(Range<usize>, u32)> = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            if record.owner.is_at_or_below(apex) {
                let start = keys.len();
                push_key(record.owner.as_wire(), &mut keys);
                spans.push((start..keys.len(), at as u32));
            }
        }
        let rtype = |at: u32| records[at as usize].rtype;
        spans.sort_by(|(a, a_at), (b, b_at)| keys[a.clone()].cmp(&keys[b.clone()]).then_with(|| rtype(*a_at).cmp(&rtype(*b_at))));
        let mut nodes: Vec<Node> = Vec::new();
        for (position, (span, at)) in spans.iter().enumerate() {
            let same = nodes.last().is_some_and(|node| keys[node.key.clone()] == keys[span.clone()]);
            if !same {
                let records = position..position;
                nodes.push(Node { key: span.clone(), records, has_address: false, has_cname: false, has_ns: false, barrier: None });
            }
            if let Some(node) = nodes.last_mut() {
                node.records.end = position + 1;
                match rtype(*at) {
                    RecordType::A | RecordType::AAAA => node.has_address = true,
                    RecordType::CNAME => node.has_cname = true,
                    RecordType::NS => node.has_ns = true,
                    _ => {}
                }
            }
        }
        let order = spans.into_iter().map(|(_, at)| at).collect();
        let mut index = Index { records, keys, order, nodes };
        index.raise_barriers(&key_of(apex.as_wire()));
        index
    }

    /// In canonical order everything below a node follows it, so one barrier at a time is enough.
    fn raise_barriers(&mut self, apex: &[u8]) {
        let mut current: Option<Barrier> = None;
        for at in 0..self.nodes.len() {
            if let Some(barrier) = current {
                if self.key(at).starts_with(self.key(barrier.node)) {
                    self.nodes[at].barrier = current;
                    continue;
                }
                current = None;
            }
            let is_cut = self.nodes[at].has_ns && self.key(at) != apex;
            let has_dname = self.has(at, RecordType::DNAME);
            if is_cut || has_dname {
                current = Some(Barrier { node: at, is_dname: !is_cut });
            }
        }
    }

    pub(super) fn key(&self, node: usize) -> &[u8] {
        &self.keys[self.nodes[node].key.clone()]
    }

    pub(super) fn record(&self, position: usize) -> &'a Record {
        &self.records[self.order[position] as usize]
    }

    /// The types of a node, each with its records as a range of [`Index::order`].
    pub(super) fn rrsets(&self, node: usize) -> impl Iterator<Item = (RecordType, Range<usize>)> {
        let Range { start, end } = self.nodes[node].records;
        let mut at = start;
        std::iter::from_fn(move || {
            let from = at;
            let rtype = (from < end).then(|| self.record(from).rtype)?;
            while at < end && self.record(at).rtype == rtype {
                at += 1;
            }
            Some((rtype, from..at))
        })
    }

    /// Whether the node has records of the type; by bisection, because it is asked for every target and sets may be large.
    fn has(&self, node: usize, rtype: RecordType) -> bool {
        let positions = &self.order[self.nodes[node].records.clone()];
        positions.binary_search_by_key(&rtype, |at| self.records[*at as usize].rtype).is_ok()
    }

    fn lower_bound(&self, key: &[u8]) -> usize {
        self.nodes.partition_point(|node| &self.keys[node.key.clone()] < key)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let at = self.lower_bound(key);
        (at < self.nodes.len() && self.key(at) == key).then_some(at)
    }

    /// True for owners and for the empty names above them.
    pub(super) fn exists(&self, key: &[u8]) -> bool {
        let at = self.lower_bound(key);
        at < self.nodes.len() && self.key(at).starts_with(key)
    }

    /// The delegation or DNAME that hides `key`, which need not exist; for a delegation its own owner counts as hidden.
    pub(super) fn barrier_above(&self, key: &[u8]) -> Option<Barrier> {
        // The nearest owner at or above `key` knows.
        let mut above = Some(key);
        while let Some(name) = above {
            if let Some(at) = self.find(name) {
                let node = &self.nodes[at];
                if node.barrier.is_some() {
                    return node.barrier;
                }
                let strictly = name.len() < key.len();
                let has_dname = strictly && self.has(at, RecordType::DNAME);
                let is_cut = node.has_ns && !self.has(at, RecordType::SOA);
                return (is_cut || has_dname).then_some(Barrier { node: at, is_dname: !is_cut });
            }
            above = parent_key(name);
        }
        None
    }
}
