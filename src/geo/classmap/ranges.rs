//! A sorted range table with an index on the top bits (DXR: Zec, Rizzo, Mikuc, 2012): one index read, then a search among the few ranges of a bucket.

use super::Outcome;
use crate::sys::prefetch;

/// An address, or the part of one that a table is sorted by.
pub(super) trait Key: Copy + Ord + Default {
    /// Width in bits.
    const BITS: u32;
    /// Buckets of an index of `bits` bits.
    fn buckets(bits: u32) -> usize;
    /// The bucket of a key.
    fn bucket(self, bits: u32) -> usize;
    /// The first key of a bucket.
    fn first_of(bucket: usize, bits: u32) -> Self;
    /// As 64 bits.
    fn wide(self) -> u64;
}

impl Key for u32 {
    const BITS: u32 = 32;

    fn buckets(bits: u32) -> usize {
        1 << bits
    }

    #[inline]
    fn bucket(self, bits: u32) -> usize {
        (u64::from(self) >> (32 - bits)) as usize
    }

    fn first_of(bucket: usize, bits: u32) -> u32 {
        ((bucket as u64) << (32 - bits)) as u32
    }

    fn wide(self) -> u64 {
        self.into()
    }
}

/// Top half of `2000::`, where all of the global unicast space begins.
const GLOBAL: u64 = 0x2000 << 48;
/// `2000::/3` leaves this many of the 64 bits.
const GLOBAL_BITS: u32 = 61;

/// The index covers `2000::/3`; what lies before and after it is one bucket each.
impl Key for u64 {
    const BITS: u32 = 64;

    fn buckets(bits: u32) -> usize {
        (1 << bits) + 2
    }

    #[inline]
    fn bucket(self, bits: u32) -> usize {
        match self.checked_sub(GLOBAL) {
            None => 0,
            Some(offset) => 1 + ((offset >> (GLOBAL_BITS - bits)) as usize).min(1 << bits),
        }
    }

    fn first_of(bucket: usize, bits: u32) -> u64 {
        match bucket.checked_sub(1) {
            None => 0,
            Some(bucket) => GLOBAL + ((bucket as u64) << (GLOBAL_BITS - bits)),
        }
    }

    fn wide(self) -> u64 {
        self
    }
}

/// Range `i` goes from `starts[i]` to just before `starts[i + 1]`; `starts[0]` is 0; neighbours have different outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeTable<K> {
    starts: Box<[K]>,
    outcomes: Box<[Outcome]>,
    /// By bucket: the range that its first key lies in. One more at the end: the last range.
    index: Box<[u32]>,
    index_bits: u32,
}

impl<K: Key> RangeTable<K> {
    /// `starts` ascending from 0; neighbouring `outcomes` different; both of one length of at least 1.
    pub(super) fn new(starts: Vec<K>, outcomes: Vec<Outcome>) -> RangeTable<K> {
        debug_assert!(starts.len() == outcomes.len() && starts.first() == Some(&K::default()));
        debug_assert!(starts.is_sorted_by(|a, b| a < b) && outcomes.windows(2).all(|pair| pair[0] != pair[1]));
        let index_bits = index_bits(starts.len());
        let buckets = K::buckets(index_bits);
        let mut index = Vec::with_capacity(buckets + 1);
        let mut at = 0;
        for bucket in 0..buckets {
            let first = K::first_of(bucket, index_bits);
            while starts.get(at + 1).is_some_and(|next| *next <= first) {
                at += 1;
            }
            index.push(at as u32);
        }
        index.push(starts.len() as u32 - 1);
        RangeTable { starts: starts.into(), outcomes: outcomes.into(), index: index.into(), index_bits }
    }

    /// Outcome and scope of a key. The scope follows from the neighbours: the block ends at the first bit in which the key differs from the last
    /// key before its range, or from the first key after it, whichever comes later.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> (Outcome, u8) {
        let bucket = key.bucket(self.index_bits);
        let (low, high) = (self.index[bucket] as usize, self.index[bucket + 1] as usize);
        // The range of a key lies between the range of its bucket's first key and that of the next bucket's.
        let at = low + self.starts[low + 1..=high].partition_point(|start| *start <= key);
        let split = |other: u64| ((key.wide() ^ other).leading_zeros() + 1 + K::BITS - 64) as u8;
        let before = if at == 0 { 0 } else { split(self.starts[at].wide() - 1) };
        let after = self.starts.get(at + 1).map_or(0, |next| split(next.wide()));
        (self.outcomes[at], before.max(after))
    }

    #[inline]
    pub(super) fn prefetch(&self, key: K) {
        if let Some(entry) = self.index.get(key.bucket(self.index_bits)) {
            prefetch(entry);
        }
    }

    /// The middle of the bucket, where the search begins, and the outcome there.
    #[inline]
    pub(super) fn prefetch_ranges(&self, key: K) {
        let bucket = key.bucket(self.index_bits);
        if let (Some(low), Some(high)) = (self.index.get(bucket), self.index.get(bucket + 1)) {
            let middle = (*low as usize + *high as usize).div_ceil(2);
            self.starts.get(middle).into_iter().for_each(prefetch);
            self.outcomes.get(middle).into_iter().for_each(prefetch);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.outcomes) + size_of_val(&*self.index)
    }

    /// Every range in order.
    pub(super) fn visit(&self, mut each: impl FnMut(u64, Outcome)) {
        self.starts.iter().zip(&self.outcomes).for_each(|(start, outcome)| each(start.wide(), *outcome));
    }
}

/// Bits of the index: one or two buckets per range, no more than 2^18 (1 MB; 2^20 gains a few ns in a loop and loses them to the cache in a
/// server). Small maps get a small index: many of them fit into the cache together. A second level that follows the density of IPv6 was tried on
/// tor's list of 250 thousand ranges: 49 instead of 52 ns there, 20.5 instead of 19 for IPv4, a fifth more memory; the misses are in `starts`.
fn index_bits(ranges: usize) -> u32 {
    match ranges {
        0..=1 => 0,
        _ => (usize::BITS - ranges.leading_zeros()).clamp(4, 18),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with borders at `starts`, asked at and beside each.
    fn check<K: Key + std::fmt::Debug>(mut starts: Vec<K>, make: impl Fn(u64) -> K) {
        starts.push(K::default());
        starts.sort_unstable();
        starts.dedup();
        let outcomes: Vec<Outcome> = (0..starts.len()).map(|at| at as Outcome & 0x3fff).collect();
        let table = RangeTable::new(starts.clone(), outcomes.clone());
        for start in &starts {
            for key in [start.wide().saturating_sub(1), start.wide(), start.wide().saturating_add(1)].map(&make) {
                let at = starts.partition_point(|start| *start <= key) - 1;
                assert_eq!(table.lookup(key).0, outcomes[at], "{key:?} of {} ranges", starts.len());
            }
        }
        assert!(table.index.len() <= 2 * starts.len() + 32, "the index stays in proportion");
    }

    #[test]
    fn crowded_and_empty_buckets_are_found_alike() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 20 ^ state << 24
        };
        for count in [0, 1, 2, 3, 5, 17, 300, 5_000, 200_000] {
            check((0..count).map(|_| random() as u32).collect(), |key| key as u32);
            check((0..count).map(|_| random() as u32 & 0x0003_ffff | 0xc000_0000).collect(), |key| key as u32);
            check((0..count).map(|_| random()).collect(), |key| key);
            check((0..count).map(|_| random() & 0x000f_ffff_0000_0000 | 0x2a00 << 48).collect(), |key| key);
            check((0..count).map(|_| random() & 0xffff | 0x3fff << 48).collect(), |key| key);
            check((0..count).map(|at| u64::MAX - at).collect(), |key| key);
        }
    }
}
