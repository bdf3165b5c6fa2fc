//! Databases in MaxMind's format become one [`Table`]: for each family, sorted ranges that cover the whole space, each with what is known there.
//!
//! ```text
//! bytes ──tree walk──> (start, data offset)… ──each offset decoded once──> (start, facts)…  ─┐
//! bytes ──────────────────────────────────────────────────────────────────> (start, facts)… ─┴─overlay, field by field──> Table
//! ```
//!
//! The tree is walked here and not with the reader's iterator, because a broken or hostile tree can share nodes so that it unfolds without end:
//! the walk is bounded by [`most_ranges`]. Records are decoded by the reader.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::Reader;

use super::record::Record;
use super::space::{self, EMBEDDINGS};
use crate::policy::model::{Location, Prefix};

/// Most ranges per family and database: some three times the largest city database on the market.
const MAX_RANGES: usize = 1 << 24;
/// How often a node may be reached on average. Trees have one way to each, writers that let equal parts share nodes have a few; a tree of some
/// hundred octets that shares at every level would unfold into billions of ranges.
const MAX_SHARING: usize = 8;
/// Ranges that a tree of any size may have: small ones may well be shared throughout.
const MIN_RANGES: usize = 1 << 12;

/// Leaves at which the walk over a tree of so many nodes ends. A binary tree has as many other nodes, so that this bounds the steps as well.
fn most_ranges(node_count: usize) -> usize {
    node_count.saturating_mul(MAX_SHARING).clamp(MIN_RANGES, MAX_RANGES)
}

/// What is known about a range of addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`.
    pub continent: Option<[u8; 2]>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<[u8; 2]>,
    /// ISO 3166-2 without the country, upper case: `CA`.
    pub subdivision: Option<String>,
    /// Coordinates.
    pub location: Option<Location>,
    /// Number of the autonomous system that announces it.
    pub asn: Option<u32>,
}

/// Which [`Facts`] somebody looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fields {
    /// [`Facts::continent`].
    pub continent: bool,
    /// [`Facts::country`].
    pub country: bool,
    /// [`Facts::subdivision`].
    pub subdivision: bool,
    /// [`Facts::location`].
    pub location: bool,
    /// [`Facts::asn`].
    pub asn: bool,
}

impl Fields {
    /// These and others.
    pub fn with(self, other: Fields) -> Fields {
        Fields {
            continent: self.continent || other.continent,
            country: self.country || other.country,
            subdivision: self.subdivision || other.subdivision,
            location: self.location || other.location,
            asn: self.asn || other.asn,
        }
    }
}

/// [`Facts`] in a form that can be compared bit by bit.
type FactsKey = (Option<[u8; 2]>, Option<[u8; 2]>, Option<String>, Option<(u64, u64)>, Option<u32>);

impl Facts {
    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Facts::default()
    }

    /// These facts with those of a later database laid over them: what it knows replaces what was known. When it names another country, the earlier
    /// subdivision, location and continent go as well, because they belonged to the earlier country.
    fn overlaid(&self, later: &Facts) -> Facts {
        let base = match later.country {
            Some(country) if self.country.is_some_and(|earlier| earlier != country) => &Facts { asn: self.asn, ..Facts::default() },
            _ => self,
        };
        // A new subdivision without coordinates of its own makes the earlier ones doubtful, not wrong: they stay.
        Facts {
            continent: later.continent.or(base.continent),
            country: later.country.or(base.country),
            subdivision: later.subdivision.clone().or_else(|| base.subdivision.clone()),
            location: later.location.or(base.location),
            asn: later.asn.or(base.asn),
        }
    }

    fn key(&self) -> FactsKey {
        let location = self.location.map(|location| (location.lat.to_bits(), location.lon.to_bits()));
        (self.continent, self.country, self.subdivision.clone(), location, self.asn)
    }
}

/// Sorted ranges over a whole family: range `i` goes from `starts[i]` to just before `starts[i + 1]`. `starts[0]` is 0; neighbours differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranges<A> {
    pub(super) starts: Vec<A>,
    /// Index into the table's facts.
    pub(super) facts: Vec<u32>,
}

impl<A: Copy + Ord + Default> Ranges<A> {
    fn unknown() -> Ranges<A> {
        Ranges { starts: vec![A::default()], facts: vec![0] }
    }

    pub(super) fn empty() -> Ranges<A> {
        Ranges { starts: Vec::new(), facts: Vec::new() }
    }

    /// Appends a range; the last one goes on when it says the same.
    pub(super) fn push(&mut self, start: A, facts: u32) {
        if self.facts.last() != Some(&facts) {
            self.starts.push(start);
            self.facts.push(facts);
        }
    }

    fn index_at(&self, addr: A) -> usize {
        self.starts.partition_point(|start| *start <= addr).saturating_sub(1)
    }

    /// Both cut at each other's borders; `join` says what two facts make.
    fn overlay(&self, later: &Ranges<A>, mut join: impl FnMut(u32, u32) -> u32) -> Ranges<A> {
        let mut joined = Ranges::empty();
        let (mut at, mut over) = (0, 0);
        while let (Some(&start), Some(&cover)) = (self.starts.get(at), later.starts.get(over)) {
            joined.push(start.max(cover), join(self.facts[at], later.facts[over]));
            // Step whichever ends first, both when they end together.
            let (end, cover_end) = (self.starts.get(at + 1), later.starts.get(over + 1));
            let steps_here = cover_end.is_none() || end.is_some_and(|end| Some(end) <= cover_end);
            let steps_there = end.is_none() || cover_end.is_some_and(|cover_end| Some(cover_end) <= end);
            at += usize::from(steps_here);
            over += usize::from(steps_there);
        }
        joined
    }
}

/// A database that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// As the caller named it.
    pub database: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.database, self.text)
    }
}

impl std::error::Error for TableError {}

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// As the caller named it.
    pub name: String,
    /// Its type, for instance `GeoLite2-Country`.
    pub kind: String,
    /// When it was built, seconds since 1970.
    pub build_unix_s: u64,
    /// 4 or 6; a database of 6 usually holds both.
    pub ip_version: u16,
}

/// Everything that the databases know, as ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Interned; 0 is "nothing known".
    pub(super) facts: Vec<Facts>,
    pub(super) v4: Ranges<u32>,
    /// Blocks that carry IPv4 addresses are empty here: [`Table::facts_at`] looks into `v4` for them.
    pub(super) v6: Ranges<u128>,
    databases: Vec<DatabaseInfo>,
}

impl Default for Table {
    fn default() -> Table {
        Table::empty()
    }
}

impl Table {
    /// A table that knows nothing.
    pub fn empty() -> Table {
        Table { facts: vec![Facts::default()], v4: Ranges::unknown(), v6: Ranges::unknown(), databases: Vec::new() }
    }

    /// Reads databases, given as (name for messages, bytes). Later ones are laid over earlier ones field by field. Every unusable database is
    /// reported, not only the first.
    pub fn read<'a>(databases: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Table, Vec<TableError>> {
        let (mut table, mut errors) = (Table::empty(), Vec::new());
        for (name, bytes) in databases {
            match read_one(name, bytes) {
                Ok(layer) if errors.is_empty() => table = table.overlaid(layer),
                Ok(_) => {}
                Err(text) => errors.push(TableError { database: name.to_owned(), text }),
            }
        }
        if errors.is_empty() { Ok(table.finished()) } else { Err(errors) }
    }

    /// A table of its own making: of the networks that hold an address, the longest says everything (the last, if it is there twice). For tests, and
    /// for data that comes from elsewhere. Networks inside `::/96` and IPv6 blocks that carry IPv4 have no effect.
    pub fn from_networks(networks: &[(Prefix, Facts)]) -> Table {
        let mut interner = Interner::new();
        let mut family = |width: u8| {
            let mut own: Vec<(u128, u128, u32)> = (networks.iter().filter(|(net, _)| space::width(net.addr) == width))
                .map(|(net, facts)| (space::bits(net.addr), space::last(*net), interner.intern(facts.clone())))
                .collect();
            own.sort_by_key(|&(first, last, _)| (first, Reverse(last)));
            let blocks: Vec<(u128, u128)> = own.iter().map(|&(first, last, _)| (first, last)).collect();
            let starts = space::nest(&blocks, space::host_mask(width, 0)).starts;
            starts.into_iter().map(|(start, block)| (start, block.map_or(0, |block| own[block].2))).collect::<Vec<(u128, u32)>>()
        };
        let (starts_v4, starts_v6) = (family(32), family(128));
        let (mut v4, mut v6) = (Ranges::empty(), Ranges::empty());
        starts_v4.into_iter().for_each(|(start, facts)| v4.push(start as u32, facts));
        starts_v6.into_iter().for_each(|(start, facts)| v6.push(start, facts));
        Table::from_ranges(interner.facts, v4, v6).finished()
    }

    /// From ranges that cover both spaces; `facts[0]` is empty.
    pub(super) fn from_ranges(facts: Vec<Facts>, v4: Ranges<u32>, v6: Ranges<u128>) -> Table {
        Table { facts, v4, v6: without_embedded(&v6), databases: Vec::new() }
    }

    /// What is known about an address; IPv4 embedded in IPv6 counts as IPv4.
    pub fn facts_at(&self, addr: IpAddr) -> &Facts {
        let facts = match space::unembed(addr) {
            IpAddr::V4(addr) => self.v4.facts[self.v4.index_at(addr.into())],
            IpAddr::V6(addr) => self.v6.facts[self.v6.index_at(addr.into())],
        };
        &self.facts[facts as usize]
    }

    /// The largest network around an address about which the same is known; for embedded IPv4 an IPv4 network, for other IPv6 one without any.
    pub fn network_at(&self, addr: IpAddr) -> Prefix {
        let addr = space::unembed(addr);
        let len = match addr {
            IpAddr::V4(addr) => {
                let at = self.v4.index_at(addr.into());
                let wide = |start: &u32| u128::from(*start);
                depth(u128::from(u32::from(addr)), 32, (at > 0).then(|| wide(&self.v4.starts[at])), self.v4.starts.get(at + 1).map(wide))
            }
            IpAddr::V6(addr) => {
                let addr = u128::from(addr);
                let at = self.v6.index_at(addr);
                // Blocks that carry IPv4 end it as well: what is known there is known about IPv4.
                let start =
                    (at > 0).then(|| self.v6.starts[at]).max(EMBEDDINGS.iter().map(|block| block.last() + 1).filter(|end| *end <= addr).max());
                let first = EMBEDDINGS.iter().map(|block| block.first).find(|first| *first > addr);
                let next = self.v6.starts.get(at + 1).copied().into_iter().chain(first).min();
                depth(addr, 128, start, next)
            }
        };
        space::prefix_of(addr, len)
    }

    /// The databases it was read from, in order.
    pub fn databases(&self) -> &[DatabaseInfo] {
        &self.databases
    }

    /// Ranges of both families.
    pub fn len(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }

    /// True when nothing is known about any address.
    pub fn is_empty(&self) -> bool {
        self.facts.len() == 1
    }

    /// Distinct facts, "nothing known" among them.
    pub fn facts_len(&self) -> usize {
        self.facts.len()
    }

    /// The distinct facts themselves, "nothing known" first.
    pub fn facts(&self) -> &[Facts] {
        &self.facts
    }

    /// This table without what nobody looks at: fewer facts and fewer ranges, so that what is made from it takes less work. The databases are left out.
    pub fn project(&self, fields: Fields) -> Table {
        let mut interner = Interner::new();
        let projected: Vec<u32> = (self.facts.iter())
            .map(|facts| {
                interner.intern(Facts {
                    continent: facts.continent.filter(|_| fields.continent),
                    country: facts.country.filter(|_| fields.country),
                    subdivision: facts.subdivision.clone().filter(|_| fields.subdivision),
                    location: facts.location.filter(|_| fields.location),
                    asn: facts.asn.filter(|_| fields.asn),
                })
            })
            .collect();
        let (mut v4, mut v6) = (Ranges::empty(), Ranges::empty());
        self.v4.starts.iter().zip(&self.v4.facts).for_each(|(start, facts)| v4.push(*start, projected[*facts as usize]));
        self.v6.starts.iter().zip(&self.v6.facts).for_each(|(start, facts)| v6.push(*start, projected[*facts as usize]));
        Table { facts: interner.facts, v4, v6, databases: Vec::new() }
    }

    /// This table with a later one laid over it, field by field.
    pub(super) fn overlaid(&self, later: Table) -> Table {
        let mut interner = Interner::new();
        let mut memo: HashMap<(u32, u32), u32> = HashMap::new();
        let mut join = |base: u32, over: u32| {
            *memo.entry((base, over)).or_insert_with(|| interner.intern(self.facts[base as usize].overlaid(&later.facts[over as usize])))
        };
        let v4 = self.v4.overlay(&later.v4, &mut join);
        let v6 = self.v6.overlay(&later.v6, &mut join);
        let databases = [self.databases.clone(), later.databases].concat();
        Table { facts: interner.facts, v4, v6, databases }
    }

    /// Fills continents in from countries.
    pub(super) fn finished(mut self) -> Table {
        let mut interner = Interner::new();
        let renumbered: Vec<u32> = (self.facts.drain(..))
            .map(|mut facts| {
                facts.continent = facts.continent.or_else(|| super::continent_of(facts.country?));
                interner.intern(facts)
            })
            .collect();
        let renumber = |facts: &[u32]| facts.iter().map(|&facts| renumbered[facts as usize]).collect::<Vec<u32>>();
        let mut v4 = Ranges::empty();
        self.v4.starts.iter().zip(renumber(&self.v4.facts)).for_each(|(start, facts)| v4.push(*start, facts));
        let mut v6 = Ranges::empty();
        self.v6.starts.iter().zip(renumber(&self.v6.facts)).for_each(|(start, facts)| v6.push(*start, facts));
        Table { facts: interner.facts, v4, v6, databases: self.databases }
    }
}

/// Length of the largest aligned block around `addr` that reaches neither the range before `start` nor `next` (algorithms: XOR and count zeros).
pub(super) fn depth(addr: u128, width: u32, start: Option<u128>, next: Option<u128>) -> u8 {
    let split = |other: u128| (addr ^ other).leading_zeros() + 1 + width - 128;
    let before = start.map_or(0, |start| split(start - 1));
    let after = next.map_or(0, split);
    before.max(after) as u8
}

pub(super) struct Interner {
    pub(super) facts: Vec<Facts>,
    known: HashMap<FactsKey, u32>,
}

impl Interner {
    pub(super) fn new() -> Interner {
        let nothing = Facts::default();
        Interner { known: HashMap::from([(nothing.key(), 0)]), facts: vec![nothing] }
    }

    pub(super) fn intern(&mut self, facts: Facts) -> u32 {
        *self.known.entry(facts.key()).or_insert_with(|| {
            self.facts.push(facts);
            self.facts.len() as u32 - 1
        })
    }
}

/// One database as a table of its own. The error says what is wrong, without the name.
fn read_one(name: &str, bytes: &[u8]) -> Result<Table, String> {
    let reader = Reader::from_source(bytes).map_err(|error| error.to_string())?;
    let metadata = reader.metadata();
    let info = DatabaseInfo {
        name: name.to_owned(),
        kind: metadata.database_type.clone(),
        build_unix_s: metadata.build_epoch,
        ip_version: metadata.ip_version,
    };
    let tree = Tree { bytes, node_count: metadata.node_count as usize, record_size: metadata.record_size };
    let mut decoder = Decoder { reader: &reader, interner: Interner::new(), seen: HashMap::new() };
    let (mut v4, mut v6) = (Ranges::empty(), Ranges::empty());
    if metadata.ip_version == 4 {
        let mut leaf = |start: u128, node: usize| {
            v4.push(start as u32, decoder.facts(node, tree.node_count, IpAddr::V4(Ipv4Addr::from(start as u32)))?);
            Ok(())
        };
        tree.walk(Position { node: 0, first: 0, len: 0 }, 32, None, &mut leaf)?;
        v6 = Ranges::unknown();
    } else {
        let v4_root = tree.v4_root();
        let v4_first = v4_root.first & !u128::from(u32::MAX);
        // When a leaf above /96 covers all of IPv4, the walk starts below it, at that leaf.
        let from = Position { first: 0, len: 0, ..v4_root };
        let mut leaf = |start: u128, node: usize| {
            v4.push(start as u32, decoder.facts(node, tree.node_count, IpAddr::V6(Ipv6Addr::from(v4_first | start)))?);
            Ok(())
        };
        tree.walk(from, 32, None, &mut leaf)?;
        let mut leaf = |start: u128, node: usize| {
            v6.push(start, decoder.facts(node, tree.node_count, IpAddr::V6(Ipv6Addr::from(start)))?);
            Ok(())
        };
        tree.walk(Position { node: 0, first: 0, len: 0 }, 128, (v4_root.node < tree.node_count).then_some(v4_root.node), &mut leaf)?;
        v6 = without_embedded(&v6);
    }
    Ok(Table { facts: decoder.interner.facts, v4, v6, databases: vec![info] })
}

/// Takes out whatever a database says inside blocks that carry IPv4, for it is never looked up there, and at `::/96`, where databases keep IPv4.
fn without_embedded(ranges: &Ranges<u128>) -> Ranges<u128> {
    let mut mask = Ranges::empty();
    mask.push(0, 0);
    mask.push(1 << 32, 1);
    for block in &EMBEDDINGS {
        mask.push(block.first, 0);
        mask.push(block.last() + 1, 1);
    }
    ranges.overlay(&mask, |facts, keep| facts * keep)
}

/// The binary search tree of a database: `node_count` nodes of two records each. A record below `node_count` is a node, equal to it "nothing",
/// above it a pointer into the data section.
struct Tree<'a> {
    bytes: &'a [u8],
    node_count: usize,
    /// Bits: 24, 28 or 32.
    record_size: u16,
}

#[derive(Clone, Copy)]
struct Position {
    node: usize,
    first: u128,
    len: u8,
}

impl Tree<'_> {
    fn child(&self, node: usize, right: bool) -> Result<usize, String> {
        let size = usize::from(self.record_size) / 4;
        let cut = || format!("the search tree ends early, at node {node} of {}", self.node_count);
        let bytes = self.bytes.get(node * size..(node + 1) * size).ok_or_else(cut)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
        Ok(match (self.record_size, right) {
            // The middle byte holds the top four bits of both.
            (28, false) => usize::from(bytes[3] >> 4) << 24 | number(&bytes[..3]),
            (28, true) => usize::from(bytes[3] & 0x0f) << 24 | number(&bytes[4..]),
            (_, false) => number(&bytes[..size / 2]),
            (_, true) => number(&bytes[size / 2..]),
        })
    }

    /// Where IPv4 starts in a tree of 128 bits: `::/96`, or `::ffff:0:0/96` when there is nothing at `::/96`. May be a leaf further up.
    fn v4_root(&self) -> Position {
        let find = |first: u128| {
            let mut at = Position { node: 0, first, len: 0 };
            while at.len < 96 && at.node < self.node_count {
                at.node = self.child(at.node, first >> (127 - at.len) & 1 == 1).unwrap_or(self.node_count);
                at.len += 1;
            }
            at
        };
        let compatible = find(0);
        let mapped = find(EMBEDDINGS[0].first);
        if compatible.node == self.node_count { mapped } else { compatible }
    }

    /// Calls `leaf` with the first address and the record of every leaf below `root`, in address order, first to last without gaps.
    /// A node that is `skip` is an alias of IPv4: taken as "nothing".
    fn walk(&self, root: Position, width: u8, skip: Option<usize>, leaf: &mut dyn FnMut(u128, usize) -> Result<(), String>) -> Result<(), String> {
        let (mut stack, mut leaves, most) = (vec![root], 0_usize, most_ranges(self.node_count));
        while let Some(at) = stack.pop() {
            if at.node >= self.node_count || skip == Some(at.node) {
                if leaves == most {
                    return Err(format!("the search tree of {} nodes has more than {most} networks, as only a broken one has", self.node_count));
                }
                leaf(at.first, if skip == Some(at.node) { self.node_count } else { at.node })?;
                leaves += 1;
                continue;
            }
            if at.len >= width {
                return Err(format!("the search tree goes deeper than {width} bits, as only a broken one does"));
            }
            let bit = 1 << (width - at.len - 1);
            let (left, right) = (self.child(at.node, false)?, self.child(at.node, true)?);
            stack.push(Position { node: right, first: at.first | bit, len: at.len + 1 });
            stack.push(Position { node: left, first: at.first, len: at.len + 1 });
        }
        Ok(())
    }
}

struct Decoder<'a> {
    reader: &'a Reader<&'a [u8]>,
    interner: Interner,
    /// Tree record → facts.
    seen: HashMap<usize, u32>,
}

impl Decoder<'_> {
    /// The facts of the leaf `node`, which `addr` leads to.
    fn facts(&mut self, node: usize, nothing: usize, addr: IpAddr) -> Result<u32, String> {
        if node == nothing {
            return Ok(0);
        }
        if let Some(&facts) = self.seen.get(&node) {
            return Ok(facts);
        }
        let record: Option<Record> =
            self.reader.lookup(addr).and_then(|found| found.decode()).map_err(|error| format!("record of {addr}: {error}"))?;
        let facts = self.interner.intern(record.unwrap_or_default().facts());
        self.seen.insert(node, facts);
        Ok(facts)
    }
}
