//! The query-time map of one steered name: address → (class, private, scope). Immutable, no allocation per lookup.
//!
//! ```text
//! IPv4: index[top bits] ──> starts[..] (u32, sorted) ──> outcome (u16)
//! IPv6: index[bits below 2000::/3] ──> starts[..] (top 64 bits, sorted) ──> outcome ─┬─> DEEP: this /64 is cut further: `deep` (u128, sorted)
//!                                                                                   └─> EMBEDDED: ask the IPv4 table, shift the scope
//! ```
//!
//! An *outcome* is a class and whether the address is private. Neighbouring ranges with equal outcomes are merged, so the borders that are left are
//! real ones and the largest aligned block around an address that crosses none of them is its scope: shortest that is right, and never overlapping
//! another, because two such blocks of one table are leaves of one binary tree.

mod build;
mod ranges;

use std::fmt;
use std::net::IpAddr;

use super::space;
use ranges::RangeTable;

pub use build::{ClassMapBuilder, Ground};

/// The highest class: 15 bits, less the two values that outcomes use themselves.
pub const MAX_CLASS: u16 = 0x7ffd;
/// Most explicit networks in one map. A list of a million is some database's job.
pub const MAX_NETS: usize = 1 << 20;

/// Class in the low 15 bits, `PRIVATE` above.
type Outcome = u16;
const PRIVATE: Outcome = 0x8000;
/// IPv6 only: the answer is in the IPv4 table.
const EMBEDDED: Outcome = 0xffff;
/// IPv6 only: the answer is in the second level.
const DEEP: Outcome = 0xfffe;

/// What the map says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The class, as `classify` numbered it.
    pub class: u16,
    /// Private space that no explicit network covers. For a client subnet: take the class of the resolver's address instead, but keep this scope.
    /// For a resolver's own address: `class` counts.
    pub private: bool,
    /// Bits of the asked family: length of the largest block around the address with this one outcome.
    pub scope: u8,
}

/// The longest borders that databases may cause, per family. Explicit networks and private space keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clip {
    /// 1 to 32.
    pub v4: u8,
    /// 1 to 128.
    pub v6: u8,
}

/// A map that cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassMapError {
    /// `classify` returned a class above [`MAX_CLASS`].
    TooManyClasses {
        /// What it returned.
        class: u16,
    },
    /// More networks than [`MAX_NETS`].
    TooManyNets {
        /// How many there were.
        found: usize,
    },
    /// A clip outside its range.
    Clip(Clip),
}

impl fmt::Display for ClassMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassMapError::TooManyClasses { class } => {
                write!(f, "found class {class}, expected at most {} classes of clients", u32::from(MAX_CLASS) + 1)
            }
            ClassMapError::TooManyNets { found } => write!(f, "found {found} networks, expected at most {MAX_NETS}"),
            ClassMapError::Clip(clip) => write!(f, "found clip v4 = {}, v6 = {}, expected 1 to 32 and 1 to 128", clip.v4, clip.v6),
        }
    }
}

impl std::error::Error for ClassMapError {}

/// Address → (class, private, scope). Equal maps compare equal and have equal hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    v4: RangeTable<u32>,
    v6: RangeTable<u64>,
    /// Every range that lies in a [`DEEP`] /64, by first address: (start, outcome).
    deep: Vec<(u128, Outcome)>,
    /// Where tables are shared with other maps: the class of each of their outcomes, which are numbered alike. Else empty.
    classes: Box<[u16]>,
}

impl ClassMap {
    /// One class for everyone: scope 0 everywhere, nothing private.
    pub fn uniform(class: u16) -> ClassMap {
        let all = class & !PRIVATE;
        ClassMap { v4: RangeTable::new(vec![0], vec![all]), v6: RangeTable::new(vec![0], vec![all]), deep: Vec::new(), classes: Box::default() }
    }

    /// The outcome for an address.
    #[inline]
    pub fn lookup(&self, addr: IpAddr) -> Hit {
        match addr {
            IpAddr::V4(addr) => self.lookup_v4(addr.into()),
            IpAddr::V6(addr) => self.lookup_v6(addr.into()),
        }
    }

    /// Fetches ahead what a lookup of this address reads first: one line of the index.
    #[inline]
    pub fn prefetch(&self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => self.v4.prefetch(addr.into()),
            IpAddr::V6(addr) => self.v6.prefetch((u128::from(addr) >> 64) as u64),
        }
    }

    /// Fetches ahead what it reads then: the ranges of the bucket. Reads the line that [`ClassMap::prefetch`] asked for, so call it a while later.
    #[inline]
    pub fn prefetch_ranges(&self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => self.v4.prefetch_ranges(addr.into()),
            IpAddr::V6(addr) => self.v6.prefetch_ranges((u128::from(addr) >> 64) as u64),
        }
    }

    #[inline]
    fn lookup_v4(&self, addr: u32) -> Hit {
        let (outcome, scope) = self.v4.lookup(addr);
        self.hit(outcome, scope, self.v4.is_shared())
    }

    #[inline]
    fn lookup_v6(&self, addr: u128) -> Hit {
        let (outcome, scope, shared) = match self.v6.lookup((addr >> 64) as u64) {
            (DEEP, _) => {
                let (outcome, scope) = self.lookup_deep(addr);
                (outcome, scope, false)
            }
            (outcome, scope) => (outcome, scope, self.v6.is_shared()),
        };
        if outcome != EMBEDDED {
            return self.hit(outcome, scope, shared);
        }
        match space::embedding(addr) {
            Some(block) => {
                let hit = self.lookup_v4(block.extract(addr));
                Hit { scope: hit.scope + block.at, ..hit }
            }
            // Not reached: EMBEDDED is only ever written inside those blocks.
            None => self.hit(0, 128, false),
        }
    }

    #[inline]
    fn hit(&self, outcome: Outcome, scope: u8, shared: bool) -> Hit {
        let number = outcome & !PRIVATE;
        let class = if shared { self.classes.get(usize::from(number)).copied().unwrap_or_default() } else { number };
        Hit { class, private: outcome & PRIVATE != 0, scope }
    }

    #[cold]
    fn lookup_deep(&self, addr: u128) -> (Outcome, u8) {
        let at = self.deep.partition_point(|(start, _)| *start <= addr).saturating_sub(1);
        let Some(&(start, outcome)) = self.deep.get(at) else { return (0, 128) };
        // A range that reaches the end of its /64 has no next one here, or one in another /64: either way the border before it decides, for this
        // /64 is cut at least once.
        let next = self.deep.get(at + 1).map(|(start, _)| *start);
        (outcome, super::table::depth(addr, 128, (start > 0).then_some(start), next))
    }

    /// The first address of every range; between two of them, of this map and of another, both say the same everywhere.
    pub fn borders(&self) -> Vec<IpAddr> {
        let mut borders = Vec::with_capacity(self.len());
        self.v4.visit(|start, _| borders.push(IpAddr::V4((start as u32).into())));
        self.v6.visit(|start, _| borders.push(IpAddr::V6((u128::from(start) << 64).into())));
        borders.extend(self.deep.iter().map(|(start, _)| IpAddr::V6((*start).into())));
        borders
    }

    /// Ranges of both families.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.deep.len()
    }

    /// Never true: even the uniform map has a range per family.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// True when everybody is in one class, so that nothing depends on the client.
    pub fn is_uniform(&self) -> bool {
        self.len() == 2
    }

    /// Memory that it alone occupies, octets.
    pub fn memory_bytes(&self) -> usize {
        let lists = self.deep.capacity() * size_of::<(u128, Outcome)>() + size_of_val(&*self.classes);
        size_of::<ClassMap>() + self.v4.own_bytes() + self.v6.own_bytes() + lists
    }

    /// Memory of the tables that it shares with other maps, octets, by table: equal keys are one table.
    pub fn shared_bytes(&self) -> impl Iterator<Item = (usize, usize)> {
        let v4 = self.v4.is_shared().then(|| (self.v4.id(), self.v4.memory_bytes()));
        v4.into_iter().chain(self.v6.is_shared().then(|| (self.v6.id(), self.v6.memory_bytes())))
    }

    /// A hash of the content, the same in every process and on every machine; for finding equal maps (compare them before sharing).
    pub fn content_hash(&self) -> u64 {
        let mut hash = Mixer::default();
        self.v4.visit(|start, outcome| hash.range(start, outcome));
        hash.add(self.v4.len() as u64);
        self.v6.visit(|start, outcome| hash.range(start, outcome));
        hash.add(self.v6.len() as u64);
        for (start, outcome) in &self.deep {
            hash.add((start >> 64) as u64);
            hash.range(*start as u64, *outcome);
        }
        self.classes.iter().for_each(|class| hash.add(u64::from(*class)));
        hash.state
    }
}

/// A running 64-bit hash: multiply and fold per word (the finaliser of MurmurHash3, by Appleby).
#[derive(Default)]
struct Mixer {
    state: u64,
}

impl Mixer {
    fn add(&mut self, word: u64) {
        let mut mixed = (self.state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.state = mixed ^ (mixed >> 33);
    }

    fn range(&mut self, start: u64, outcome: Outcome) {
        self.add(start);
        self.add(u64::from(outcome));
    }
}

#[cfg(test)]
mod tests;
