//! From the hash of a name to its node: open addressing in one array, so that a miss costs one cache line and a hit two.
//!
//! A slot is eight octets: the node in the upper half, the lower half of the hash in the lower. The upper half of the hash chooses the slot,
//! so the two checks are independent, and a wrong node is looked at once in four thousand million probes.

use super::NodeId;
use crate::sys::{prefer_large_pages, prefetch};

/// Slots per hundred nodes: linear probing at 80 % looks at three slots of a line for a name that is there and at a dozen for one that is not.
const SLOTS_PER_HUNDRED: usize = 125;

/// No node can be the last one, so all ones marks a slot as free.
const FREE: u64 = u64::MAX;

/// A fixed number of nodes by hash.
#[derive(Clone, Debug)]
pub(in crate::zone) struct Index {
    slots: Box<[u64]>,
}

impl Index {
    /// Room for `nodes`.
    pub(in crate::zone) fn with_room(nodes: usize) -> Index {
        // One slot stays free, so that every search ends.
        let slots = nodes + nodes / 100 * (SLOTS_PER_HUNDRED - 100) + nodes % 100 * (SLOTS_PER_HUNDRED - 100) / 100 + 1;
        let mut room = Vec::with_capacity(slots);
        prefer_large_pages(&mut room);
        room.resize(slots, FREE);
        Index { slots: room.into() }
    }

    /// The slot that a search starts at: the upper half of the hash, spread over all slots (Lemire, ACM TOMACS 2019).
    fn start(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    /// Adds a node that is not there. Panics when there is no room.
    pub(in crate::zone) fn insert(&mut self, hash: u64, node: NodeId) {
        let mut at = self.start(hash);
        while self.slots[at] != FREE {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        self.slots[at] = u64::from(node) << 32 | hash & 0xffff_ffff;
    }

    /// A copy; `None` when `more` nodes beside those `held` would crowd it.
    pub(super) fn copy_for(&self, held: usize, more: usize) -> Option<Index> {
        if (held + more) * 100 > self.slots.len() * 90 {
            return None;
        }
        let mut slots = Vec::with_capacity(self.slots.len());
        prefer_large_pages(&mut slots);
        slots.extend_from_slice(&self.slots);
        Some(Index { slots: slots.into() })
    }

    /// Puts a node in the place of another one of the same hash.
    pub(super) fn replace(&mut self, hash: u64, old: NodeId, new: NodeId) {
        let mut at = self.start(hash);
        while let Some(slot) = self.slots.get_mut(at).filter(|slot| **slot != FREE) {
            if (*slot >> 32) as NodeId == old {
                *slot = u64::from(new) << 32 | hash & 0xffff_ffff;
                return;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Asks for the cache line that a search for this hash begins with.
    #[inline]
    pub(in crate::zone) fn prefetch(&self, hash: u64) {
        self.slots.get(self.start(hash)).into_iter().for_each(prefetch);
    }

    /// The first node that a search for this hash would look at.
    #[inline]
    pub(in crate::zone) fn candidate(&self, hash: u64) -> Option<NodeId> {
        self.find(hash, |_| true)
    }

    /// The node of this hash that `is_it`.
    #[inline]
    pub(in crate::zone) fn find(&self, hash: u64, is_it: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let mut at = self.start(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == FREE {
                return None;
            }
            let node = (slot >> 32) as NodeId;
            if slot as u32 == hash as u32 && is_it(node) {
                return Some(node);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Dice;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        for count in [0u32, 1, 2, 7, 100, 1_000, 100_000] {
            let mut dice = Dice::new(0, u64::from(count));
            let hashes: Vec<u64> = (0..count).map(|_| dice.roll()).collect();
            let mut index = Index::with_room(count as usize);
            hashes.iter().zip(0..).for_each(|(hash, node)| index.insert(*hash, node));
            for (hash, node) in hashes.iter().zip(0..) {
                assert_eq!(index.find(*hash, |found| found == node), Some(node));
            }
            for _ in 0..1_000 {
                assert_eq!(index.find(dice.roll(), |_| true), None, "a chance of 10⁻⁴ in 64 bits would be a bug");
            }
        }
    }

    #[test]
    fn equal_hashes_live_beside_each_other() {
        let mut index = Index::with_room(300);
        (0..300).for_each(|node| index.insert(u64::MAX, node));
        for node in 0..300 {
            assert_eq!(index.find(u64::MAX, |found| found == node), Some(node));
        }
        assert_eq!(index.find(u64::MAX, |_| false), None);
        assert_eq!(index.find(0, |_| true), None);
    }
}
