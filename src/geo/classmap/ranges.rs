//! A sorted range table with an index on the top bits (DXR: Zec, Rizzo, Mikuc, 2012): one index read, then a search among the few ranges of a bucket.

use std::sync::Arc;

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

/// Range `i` goes from `starts[i]` to just before `starts[i + 1]`; `starts[0]` is 0; neighbours have different outcomes. A clone shares everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeTable<K> {
    starts: Arc<[K]>,
    outcomes: Arc<[Outcome]>,
    /// By bucket: the range that its first key lies in. One more at the end: the last range.
    index: Arc<[u32]>,
    index_bits: u32,
    /// Where the ranges are those of a table that cuts finer: which of its borders count.
    borders: Option<Arc<Borders>>,
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
        RangeTable { starts: starts.into(), outcomes: outcomes.into(), index: index.into(), index_bits, borders: None }
    }

    /// Outcome and scope of a key. The scope follows from the neighbours: the block ends at the first bit in which the key differs from the last
    /// key before its range, or from the first key after it, whichever comes later.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> (Outcome, u8) {
        let bucket = key.bucket(self.index_bits);
        let (low, high) = (self.index[bucket] as usize, self.index[bucket + 1] as usize);
        // The range of a key lies between the range of its bucket's first key and that of the next bucket's.
        let at = low + self.starts[low + 1..=high].partition_point(|start| *start <= key);
        let (first, next) = match &self.borders {
            None => (at, at + 1),
            Some(borders) => borders.around(at),
        };
        let split = |other: u64| ((key.wide() ^ other).leading_zeros() + 1 + K::BITS - 64) as u8;
        let before = if first == 0 { 0 } else { split(self.starts[first].wide() - 1) };
        let after = self.starts.get(next).map_or(0, |next| split(next.wide()));
        (self.outcomes[at], before.max(after))
    }

    /// The same table as seen by somebody who takes `outcome` for each outcome: neighbours that are then alike are one range. Its lookups return
    /// this table's outcomes. When a table of its own would take less than `most_shared` times the borders, `Err` has that table.
    pub(super) fn merged(&self, outcome: impl Fn(Outcome) -> Outcome, most_shared: usize) -> Result<RangeTable<K>, RangeTable<K>> {
        let borders = Borders::of(self.outcomes.iter().map(|of| outcome(*of)));
        if borders.count * (size_of::<K>() + size_of::<Outcome>()) >= borders.memory_bytes().saturating_mul(most_shared) {
            return Ok(RangeTable { borders: Some(Arc::new(borders)), ..self.clone() });
        }
        let real = || (0..self.starts.len()).filter(|at| borders.is_at(*at));
        Err(RangeTable::new(real().map(|at| self.starts[at]).collect(), real().map(|at| outcome(self.outcomes[at])).collect()))
    }

    /// Every outcome there is, some of them several times.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.outcomes.iter().copied()
    }

    /// True when it looks into a table that others may look into as well.
    pub(super) fn is_shared(&self) -> bool {
        self.borders.is_some()
    }

    /// The same for clones, and for what is [`merged`](Self::merged) from it.
    pub(super) fn id(&self) -> usize {
        self.starts.as_ptr().addr()
    }

    /// The memory of this table alone.
    pub(super) fn own_bytes(&self) -> usize {
        self.borders.as_ref().map_or_else(|| self.memory_bytes(), |borders| borders.memory_bytes())
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
        self.borders.as_ref().map_or(self.starts.len(), |borders| borders.count)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.outcomes) + size_of_val(&*self.index)
    }

    /// Every range in order.
    pub(super) fn visit(&self, mut each: impl FnMut(u64, Outcome)) {
        for (at, (start, outcome)) in self.starts.iter().zip(&*self.outcomes).enumerate() {
            if self.borders.as_ref().is_none_or(|borders| borders.is_at(at)) {
                each(start.wide(), *outcome);
            }
        }
    }
}

/// One bit per range of a finer table: set where the one before it has another outcome; the first always.
#[derive(Debug, PartialEq, Eq)]
struct Borders {
    words: Box<[u64]>,
    /// One bit per word that is not zero, so that long stretches without a border are passed over.
    summary: Box<[u64]>,
    /// Set bits.
    count: usize,
    /// All bits.
    len: usize,
}

impl Borders {
    fn of(outcomes: impl ExactSizeIterator<Item = Outcome>) -> Borders {
        let len = outcomes.len();
        let mut words = vec![0_u64; len.div_ceil(64)];
        let (mut before, mut count) = (None, 0);
        for (at, outcome) in outcomes.enumerate() {
            if before != Some(outcome) {
                words[at / 64] |= 1 << (at % 64);
                count += 1;
            }
            before = Some(outcome);
        }
        let mut summary = vec![0_u64; words.len().div_ceil(64)];
        words.iter().enumerate().filter(|(_, word)| **word != 0).for_each(|(at, _)| summary[at / 64] |= 1 << (at % 64));
        Borders { words: words.into(), summary: summary.into(), count, len }
    }

    fn is_at(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Where the stretch around `at` begins, and where the next one does.
    #[inline]
    fn around(&self, at: usize) -> (usize, usize) {
        let (word, bit) = (at / 64, at % 64);
        let here = self.words[word];
        let first = match here & (u64::MAX >> (63 - bit)) {
            0 => last_set(&self.summary, word).map_or(0, |word| word * 64 + 63 - self.words[word].leading_zeros() as usize),
            below => word * 64 + 63 - below.leading_zeros() as usize,
        };
        let next = match here & !(u64::MAX >> (63 - bit)) {
            0 => first_set(&self.summary, word + 1).map_or(self.len, |word| word * 64 + self.words[word].trailing_zeros() as usize),
            above => word * 64 + above.trailing_zeros() as usize,
        };
        (first, next)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Borders>() + size_of_val(&*self.words) + size_of_val(&*self.summary)
    }
}

/// The last set bit below `end`.
fn last_set(bits: &[u64], end: usize) -> Option<usize> {
    let partial = bits.get(end / 64).map_or(0, |word| word & ((1 << (end % 64)) - 1));
    if partial != 0 {
        return Some(end / 64 * 64 + 63 - partial.leading_zeros() as usize);
    }
    let at = bits[..(end / 64).min(bits.len())].iter().rposition(|word| *word != 0)?;
    Some(at * 64 + 63 - bits[at].leading_zeros() as usize)
}

/// The first set bit from `start` on.
fn first_set(bits: &[u64], start: usize) -> Option<usize> {
    let partial = bits.get(start / 64)? & (u64::MAX << (start % 64));
    if partial != 0 {
        return Some(start / 64 * 64 + partial.trailing_zeros() as usize);
    }
    let at = start / 64 + 1 + bits[start / 64 + 1..].iter().position(|word| *word != 0)?;
    Some(at * 64 + bits[at].trailing_zeros() as usize)
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
    fn the_borders_around_a_range_are_found_however_far() {
        for (len, set) in
            [(1, vec![0]), (64, vec![0, 63]), (65, vec![0, 64]), (200, vec![0, 1, 63, 64, 128, 199]), (9000, vec![0, 4097, 8999]), (20_000, vec![0])]
        {
            let outcomes: Vec<Outcome> = (0..len).map(|at| set.partition_point(|start| *start <= at) as Outcome).collect();
            let borders = Borders::of(outcomes.iter().copied());
            assert_eq!(borders.count, set.len());
            for at in 0..len {
                let next = set.partition_point(|start| *start <= at);
                assert_eq!(borders.around(at), (set[next - 1], set.get(next).copied().unwrap_or(len)), "{at} of {len}");
                assert_eq!(borders.is_at(at), set.contains(&at));
            }
        }
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
