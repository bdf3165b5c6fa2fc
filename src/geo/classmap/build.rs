//! Building a [`ClassMap`]: one sweep over the table's ranges, segment by segment.
//!
//! A *segment* is a stretch between borders that do not come from databases: explicit networks, private blocks, blocks that carry IPv4. There are
//! few of them; within one, the sweep over the ranges is an array look-up each.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::ranges::RangeTable;
use super::{ClassMap, ClassMapError, Clip, DEEP, EMBEDDED, MAX_CLASS, MAX_NETS, Outcome, PRIVATE};
use crate::geo::space::{self, EMBEDDINGS, PRIVATE_V4, PRIVATE_V6};
use crate::geo::table::{Facts, Ranges, Table};
use crate::policy::model::Prefix;

/// A small table of its own is faster than a large one that is shared, so it may take so many times the memory.
const MOST_SHARED: usize = 4;

/// Not yet classified.
const UNSET: Outcome = u16::MAX;

/// Numbers the class (0 to [`MAX_CLASS`]) of clients about whom `Facts` are known, in the deepest of the networks that holds them.
type Classify<'c> = dyn FnMut(&Facts, Option<Prefix>) -> u16 + 'c;

/// What all maps with the same networks and clip share. Building one map after another from it costs a sweep each.
#[derive(Clone, Debug)]
pub struct ClassMapBuilder<'t> {
    table: &'t Table,
    nets: Vec<Prefix>,
    v4: Vec<Segment>,
    v6: Vec<Segment>,
    clip: Clip,
}

/// From `first` to just before the next segment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u128,
    /// Deepest explicit network, index into `nets`.
    net: Option<u32>,
    private: bool,
    embedded: bool,
}

impl ClassMap {
    /// Builds the map of one steered name. `classify` is called once per distinct (facts, deepest of `nets`), in no particular order, and returns
    /// a class of at most [`MAX_CLASS`]. When all its answers are equal, the map is [`ClassMap::uniform`].
    ///
    /// With `clip`, a block of that length takes what databases say about its first address.
    pub fn build(table: &Table, nets: &[Prefix], clip: Option<Clip>, classify: &mut Classify<'_>) -> Result<ClassMap, ClassMapError> {
        ClassMapBuilder::new(table, nets, clip)?.build(classify)
    }
}

impl<'t> ClassMapBuilder<'t> {
    /// `nets` in any order, doubles allowed.
    pub fn new(table: &'t Table, nets: &[Prefix], clip: Option<Clip>) -> Result<ClassMapBuilder<'t>, ClassMapError> {
        if nets.len() > MAX_NETS {
            return Err(ClassMapError::TooManyNets { found: nets.len() });
        }
        let clip = match clip {
            None => Clip { v4: 32, v6: 128 },
            Some(clip) if (1..=32).contains(&clip.v4) && (1..=128).contains(&clip.v6) => clip,
            Some(clip) => return Err(ClassMapError::Clip(clip)),
        };
        let mut nets = nets.to_vec();
        nets.sort_unstable_by_key(|net| (net.addr, net.len));
        nets.dedup();
        let (v4, v6) = (segments(&nets, true), segments(&nets, false));
        Ok(ClassMapBuilder { table, nets, v4, v6, clip })
    }

    /// Builds one map; see [`ClassMap::build`].
    pub fn build(&self, classify: &mut Classify<'_>) -> Result<ClassMap, ClassMapError> {
        let mut memo = Memo { builder: self, classify, plain: vec![UNSET; self.table.facts.len()], in_net: HashMap::new(), too_high: None };
        let (starts, outcomes) = sweep(&self.table.v4, &self.v4, 32 - self.clip.v4, u32::MAX.into(), EMBEDDED, &mut memo);
        // When IPv4 is all one, so are the blocks that carry it; else they are looked up there.
        let embedded = if outcomes.len() == 1 { outcomes[0] } else { EMBEDDED };
        let (wide, wide_outcomes) = sweep(&self.table.v6, &self.v6, 128 - self.clip.v6, u128::MAX, embedded, &mut memo);
        if let Some(class) = memo.too_high {
            return Err(ClassMapError::TooManyClasses { class });
        }
        let mut classes = outcomes.iter().chain(&wide_outcomes).filter(|outcome| **outcome != EMBEDDED).map(|outcome| outcome & !PRIVATE);
        let first = classes.next().unwrap_or_default();
        if classes.all(|class| class == first) {
            return Ok(ClassMap::uniform(first));
        }
        let (tops, top_outcomes, deep) = split_at_64(&wide, &wide_outcomes);
        Ok(ClassMap { v4: RangeTable::new(starts, outcomes), v6: RangeTable::new(tops, top_outcomes), deep, classes: Box::default() })
    }

    /// What maps can share that differ only in what `classify` says. `None` when they cannot: too many different facts, or ranges that cut a /64.
    pub fn ground(&self) -> Option<Ground> {
        let mut clients: Vec<(Facts, Option<Prefix>)> = Vec::new();
        let mut number = |facts: &Facts, net: Option<Prefix>| {
            clients.push((facts.clone(), net));
            // One too high ends it.
            (clients.len() - 1).min(usize::from(MAX_CLASS) + 1) as u16
        };
        let map = self.build(&mut number).ok()?;
        // Private space and blocks that carry IPv4 cut some /64, whatever the classes. Another one might be cut for some maps and not for others.
        let kind = |outcome: Outcome| if outcome == EMBEDDED { EMBEDDED } else { outcome & PRIVATE };
        let is_plain = map.deep.chunk_by(|a, b| a.0 >> 64 == b.0 >> 64).all(|cut| cut.iter().any(|(_, of)| kind(*of) != kind(cut[0].1)));
        (is_plain && !map.is_uniform()).then_some(Ground { map, clients })
    }
}

/// The ranges of the databases with a number for each distinct kind of client: maps over it need a class per number, and a bit per range.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Its classes are the numbers.
    map: ClassMap,
    /// By number.
    clients: Vec<(Facts, Option<Prefix>)>,
}

impl Ground {
    /// The map that [`ClassMapBuilder::build`] makes of this `classify`, in less time and memory. `None` when all of IPv4 is one: such a map
    /// is small, and has other borders where IPv6 carries IPv4.
    pub fn build(&self, classify: &mut Classify<'_>) -> Result<Option<ClassMap>, ClassMapError> {
        self.build_with(classify, MOST_SHARED)
    }

    /// A table that would take less than `most_shared` times what sharing takes is not shared.
    pub(super) fn build_with(&self, classify: &mut Classify<'_>, most_shared: usize) -> Result<Option<ClassMap>, ClassMapError> {
        let classes: Box<[u16]> = self.clients.iter().map(|(facts, net)| classify(facts, *net)).collect();
        if let Some(class) = classes.iter().find(|class| **class > MAX_CLASS) {
            return Err(ClassMapError::TooManyClasses { class: *class });
        }
        if classes.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(Some(ClassMap::uniform(classes[0])));
        }
        let outcome = |of: Outcome| if matches!(of, EMBEDDED | DEEP) { of } else { classes[usize::from(of & !PRIVATE)] | of & PRIVATE };
        let mut of_v4 = self.map.v4.outcomes().map(outcome);
        let first = of_v4.next();
        if of_v4.all(|of| Some(of) == first) {
            return Ok(None);
        }
        let (Ok(v4) | Err(v4)) = self.map.v4.merged(outcome, most_shared);
        let (Ok(v6) | Err(v6)) = self.map.v6.merged(outcome, most_shared);
        let (mut deep, mut before) = (Vec::with_capacity(self.map.deep.len()), None);
        for (start, of) in &self.map.deep {
            // Each /64 begins anew.
            let here = (start >> 64, outcome(*of));
            if before != Some(here) {
                deep.push((*start, here.1));
            }
            before = Some(here);
        }
        let classes = if v4.is_shared() || v6.is_shared() { classes } else { Box::default() };
        Ok(Some(ClassMap { v4, v6, deep, classes }))
    }
}

/// Classes that `classify` gave so far.
struct Memo<'b, 'c> {
    builder: &'b ClassMapBuilder<'b>,
    classify: &'b mut Classify<'c>,
    /// By facts, outside of explicit networks.
    plain: Vec<Outcome>,
    in_net: HashMap<(u32, u32), Outcome>,
    /// A class above the limit.
    too_high: Option<u16>,
}

impl Memo<'_, '_> {
    #[inline]
    fn class(&mut self, facts: u32, net: Option<u32>) -> Outcome {
        match net {
            None if self.plain[facts as usize] != UNSET => self.plain[facts as usize],
            None => {
                let class = self.ask(facts, None);
                self.plain[facts as usize] = class;
                class
            }
            Some(net) => match self.in_net.get(&(facts, net)) {
                Some(class) => *class,
                None => {
                    let class = self.ask(facts, Some(net));
                    self.in_net.insert((facts, net), class);
                    class
                }
            },
        }
    }

    fn ask(&mut self, facts: u32, net: Option<u32>) -> Outcome {
        let class = (self.classify)(&self.builder.table.facts[facts as usize], net.map(|net| self.builder.nets[net as usize]));
        if class > MAX_CLASS {
            self.too_high = Some(class);
        }
        class & !PRIVATE
    }
}

/// A family's address as a number.
trait Number: Copy + Ord + Default + Into<u128> {
    fn cut(number: u128) -> Self;
}

impl Number for u32 {
    fn cut(number: u128) -> u32 {
        number as u32
    }
}

impl Number for u128 {
    fn cut(number: u128) -> u128 {
        number
    }
}

/// Goes over `segments` and `ranges` together; returns merged (starts, outcomes). Borders of `ranges` move up to the next multiple of
/// 2^`clip_bits`; what disappears on the way was shorter than a block and did not hold its first address.
fn sweep<N: Number>(
    ranges: &Ranges<N>,
    segments: &[Segment],
    clip_bits: u8,
    max: u128,
    embedded: Outcome,
    memo: &mut Memo<'_, '_>,
) -> (Vec<N>, Vec<Outcome>) {
    let (mut starts, mut outcomes): (Vec<N>, Vec<Outcome>) = (Vec::new(), Vec::new());
    let mut push = |start: u128, outcome: Outcome| {
        if outcomes.last() != Some(&outcome) {
            starts.push(N::cut(start));
            outcomes.push(outcome);
        }
    };
    let block = space::host_mask(128, 128 - clip_bits);
    // `None`: past the end of the space.
    let start_of = |at: usize| {
        let start: u128 = (*ranges.starts.get(at)?).into();
        start.checked_add(block).map(|up| up & !block).filter(|up| *up <= max)
    };
    let mut at = 0;
    for (number, segment) in segments.iter().enumerate() {
        let end = segments.get(number + 1).map_or(max, |next| next.first - 1);
        if segment.embedded && segment.net.is_none() {
            push(segment.first, embedded);
            continue;
        }
        let private = if segment.private { PRIVATE } else { 0 };
        while start_of(at + 1).is_some_and(|start| start <= segment.first) {
            at += 1;
        }
        push(segment.first, memo.class(ranges.facts[at], segment.net) | private);
        while let Some(start) = start_of(at + 1).filter(|start| *start <= end) {
            at += 1;
            // Clipped away: the next range begins at the same block.
            if start_of(at + 1) != Some(start) {
                push(start, memo.class(ranges.facts[at], segment.net) | private);
            }
        }
    }
    (starts, outcomes)
}

/// The segments of a family, in order, over the whole space. Truth table, first row that fits:
///
/// | explicit network covers it         | carries IPv4 | private block | segment               |
/// |------------------------------------|--------------|---------------|-----------------------|
/// | deepest one lies inside the block  | yes          | –             | that network's        |
/// | any or none                        | yes          | –             | embedded              |
/// | yes                                | no           | –             | deepest network's     |
/// | no                                 | no           | yes           | private               |
/// | no                                 | no           | no            | plain                 |
fn segments(nets: &[Prefix], v4: bool) -> Vec<Segment> {
    let width = if v4 { 32 } else { 128 };
    let block = |first: u128, len: u8, kind: Kind| Block { first, last: first | space::host_mask(width, len), kind };
    let mut blocks: Vec<Block> = (nets.iter().enumerate().filter(|(_, net)| net.addr.is_ipv4() == v4))
        .map(|(at, net)| block(space::bits(net.addr), net.len, Kind::Net(at as u32)))
        .collect();
    if v4 {
        blocks.extend(PRIVATE_V4.iter().map(|&(first, len)| block(first.into(), len, Kind::Private)));
    } else {
        blocks.extend(PRIVATE_V6.iter().map(|&(first, len)| block(first, len, Kind::Private)));
        blocks.extend(EMBEDDINGS.iter().map(|embedding| block(embedding.first, embedding.len, Kind::Embedded)));
    }
    // Outer before inner; of equal blocks the network last, so that it is the innermost.
    blocks.sort_by_key(|block| (block.first, Reverse(block.last), matches!(block.kind, Kind::Net(_))));
    let bounds: Vec<(u128, u128)> = blocks.iter().map(|block| (block.first, block.last)).collect();
    let nesting = space::nest(&bounds, space::host_mask(width, 0));

    let plain = Segment { first: 0, net: None, private: false, embedded: false };
    let mut kinds: Vec<Segment> = Vec::with_capacity(blocks.len());
    for (block, parent) in blocks.iter().zip(&nesting.parents) {
        let outer = parent.map_or(plain, |parent| kinds[parent]);
        kinds.push(match block.kind {
            Kind::Net(net) => Segment { net: Some(net), private: false, ..outer },
            Kind::Private => Segment { private: outer.net.is_none(), ..outer },
            // A wider network does not reach into it.
            Kind::Embedded => Segment { net: None, private: false, embedded: true, ..outer },
        });
    }
    let segment = |(first, block): &(u128, Option<usize>)| Segment { first: *first, ..block.map_or(plain, |block| kinds[block]) };
    nesting.starts.iter().map(segment).collect()
}

struct Block {
    first: u128,
    last: u128,
    kind: Kind,
}

enum Kind {
    Net(u32),
    Private,
    Embedded,
}

/// Cuts IPv6 ranges in two levels: top halves, where a /64 that has borders inside is [`DEEP`], and all ranges of those /64s.
fn split_at_64(starts: &[u128], outcomes: &[Outcome]) -> (Vec<u64>, Vec<Outcome>, Vec<(u128, Outcome)>) {
    let (mut tops, mut top_outcomes, mut deep): (Vec<u64>, Vec<Outcome>, Vec<(u128, Outcome)>) = (Vec::new(), Vec::new(), Vec::new());
    let mut push = |top: u64, outcome: Outcome| {
        if tops.last() == Some(&top) {
            tops.pop();
            top_outcomes.pop();
        }
        if top_outcomes.last() != Some(&outcome) {
            tops.push(top);
            top_outcomes.push(outcome);
        }
    };
    let mut before = outcomes[0];
    // The /64 that is being cut.
    let mut cutting: Option<u64> = None;
    for (&start, &outcome) in starts.iter().zip(outcomes) {
        let top = (start >> 64) as u64;
        if let Some(cut) = cutting.take_if(|cut| *cut != top) {
            // Behind the cut /64 its last range goes on; a border right there takes its place.
            push(cut + 1, before);
        }
        if start as u64 == 0 {
            push(top, outcome);
        } else {
            if cutting.is_none() {
                push(top, DEEP);
                deep.push((u128::from(top) << 64, before));
                cutting = Some(top);
            }
            deep.push((start, outcome));
        }
        before = outcome;
    }
    if let Some(next) = cutting.and_then(|cut| cut.checked_add(1)) {
        push(next, before);
    }
    (tops, top_outcomes, deep)
}
