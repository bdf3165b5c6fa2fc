//! The text of a large master file in chunks, so that its next version need be parsed only where it is another.
//!
//! ```text
//! text ──▶ Chunker ──▶ chunks: cut at lines that their content chooses, so that what is put in or taken out moves few of the cuts
//! chunks of the version before ─┬─ equal ──▶ their names stay where they stand in the tree
//! chunks of this version ───────┘  others ──▶ parsed, behind the $ORIGIN and $TTL that hold for them; see `ZoneTree::edited`
//! ```
//!
//! A chunk can be parsed by itself when it begins with an owner, `$TTL` and `$ORIGIN` stand in the first chunk alone, and nothing else does that
//! lasts. A file that is otherwise has no chunks and is parsed as a whole.

use std::collections::HashMap;
use std::ops::Range;

use super::hash::TextHash;
use crate::zone::tree::NodeId;

/// A chunk is cut at the first line behind this many octets that may be chosen. Small, since a chunk with a change is parsed; large, since each
/// takes some 80 octets of memory: 72 MB come to 2,000.
const MIN_CHUNK_LEN: usize = 32 << 10;
/// One line in so many is chosen.
const LINES_PER_CUT: u64 = 16;
/// Without a line to be chosen it is cut at the first that may be.
const SOON_LEN: usize = 64 << 10;
/// Without any line that may be, the file has no chunks.
const MAX_CHUNK_LEN: usize = 1 << 20;
/// The longest owner, every octet escaped.
const MAX_WORD_LEN: usize = 4 * 255 + 2;
/// How much of a line chooses.
const LINE_HEAD: usize = 16;
/// A file with fewer chunks is parsed as a whole soon enough.
const MIN_CHUNKS: usize = 8;
/// At most one part in so many may be parsed anew; else the whole file is.
const MAX_CHANGED_PARTS: usize = 4;

/// Cuts a text that comes in parts.
#[derive(Debug)]
pub(super) struct Chunker {
    held: Vec<u8>,
    /// Up to where `held` has been looked through for a cut.
    searched: usize,
    /// Of the first octet of `held`.
    line: u32,
    is_hopeless: bool,
}

impl Default for Chunker {
    fn default() -> Chunker {
        Chunker { held: Vec::new(), searched: 0, line: 1, is_hopeless: false }
    }
}

impl Chunker {
    /// Takes the next octets. `done` gets every chunk that is complete, with its first line.
    pub(super) fn add(&mut self, octets: &[u8], done: &mut dyn FnMut(&[u8], u32)) {
        if self.is_hopeless {
            return;
        }
        self.held.extend_from_slice(octets);
        let mut from = 0;
        while let Some(cut) = self.next_cut(from) {
            let chunk = &self.held[from..cut];
            done(chunk, self.line);
            self.line = self.line.saturating_add(chunk.iter().filter(|octet| **octet == b'\n').count() as u32);
            from = cut;
        }
        self.held.drain(..from);
        self.searched = self.searched.saturating_sub(from);
        self.is_hopeless = self.held.len() > MAX_CHUNK_LEN;
    }

    /// The end of the text; false when it cannot be cut.
    pub(super) fn finish(self, done: &mut dyn FnMut(&[u8], u32)) -> bool {
        if !self.held.is_empty() {
            done(&self.held, self.line);
        }
        !self.is_hopeless
    }

    /// The next cut behind `from`.
    fn next_cut(&mut self, from: usize) -> Option<usize> {
        let mut at = self.searched.max(from + MIN_CHUNK_LEN);
        while let Some(end) = self.held.get(at..).and_then(|rest| rest.iter().position(|octet| *octet == b'\n')) {
            let line = at + end + 1;
            // A whole word, so that a cut does not depend on where the parts end.
            let Some(head) = self.held.get(line..line + MAX_WORD_LEN).and_then(|rest| rest.get(..LINE_HEAD)) else { break };
            if begins_an_entry(head[0]) && (line - from > SOON_LEN || is_chosen(head)) && !self.goes_on(from, line) {
                self.searched = line;
                return Some(line);
            }
            at = line;
        }
        self.searched = at;
        None
    }
}

impl Chunker {
    /// True when the line at `line` begins with the word that the line before begins with: the records of one name are better not cut apart.
    fn goes_on(&self, from: usize, line: usize) -> bool {
        let before = &self.held[from..line - 1];
        let before = &before[before.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1)..];
        let word = before.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let rest = self.held.get(line..line + word.len() + 1);
        !word.is_empty() && rest.is_some_and(|rest| rest.starts_with(word) && rest[word.len()].is_ascii_whitespace())
    }
}

/// An owner stands there: no blank, comment, directive or parenthesis.
fn begins_an_entry(first: u8) -> bool {
    !matches!(first, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'$' | b'(' | b')' | b'"')
}

fn is_chosen(head: &[u8]) -> bool {
    let word = |at: usize| head.get(at..at + 8).and_then(|word| <[u8; 8]>::try_from(word).ok()).map_or(0, u64::from_le_bytes);
    let mixed = (word(0) ^ word(8).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) % LINES_PER_CUT == 0
}

/// A chunk that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    hash: u128,
    len: usize,
    /// Where its names stand in the tree.
    pub(super) nodes: Vec<Range<NodeId>>,
    /// It begins with records of the name that the chunk before ends with.
    pub(super) goes_on: bool,
}

/// The chunks of one version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// `$ORIGIN` and `$TTL`, which hold behind the first chunk.
    prelude: Vec<u8>,
    list: Vec<Chunk>,
}

/// The chunks of a version that is parsed as a whole.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    chunker: Chunker,
    prelude: Option<Vec<u8>>,
    list: Vec<Chunk>,
    /// First lines of all chunks but the first.
    lines: Vec<u32>,
    is_unfit: bool,
}

impl Recorder {
    /// Takes the next octets of the file.
    pub(super) fn add(&mut self, octets: &[u8]) {
        let Recorder { chunker, prelude, list, lines, is_unfit } = self;
        chunker.add(octets, &mut |text, line| record(text, line, prelude, list, lines, is_unfit));
    }

    /// The chunks, their nodes to be filled in, and the first lines of all but the first; `None` when the file is not to be edited.
    pub(super) fn finish(mut self) -> Option<(Chunks, Vec<u32>)> {
        let Recorder { chunker, prelude, list, lines, is_unfit } = &mut self;
        let is_whole = std::mem::take(chunker).finish(&mut |text, line| record(text, line, prelude, list, lines, is_unfit));
        if !is_whole || self.is_unfit || self.list.len() < MIN_CHUNKS {
            return None;
        }
        Some((Chunks { prelude: self.prelude?, list: self.list }, self.lines))
    }
}

fn record(text: &[u8], line: u32, prelude: &mut Option<Vec<u8>>, list: &mut Vec<Chunk>, lines: &mut Vec<u32>, is_unfit: &mut bool) {
    if list.is_empty() {
        *prelude = lasting(text);
        *is_unfit |= prelude.is_none();
    } else {
        *is_unfit |= has_directive(text);
        lines.push(line);
    }
    list.push(Chunk { hash: TextHash::of(text), len: text.len(), nodes: Vec::new(), goes_on: false });
}

/// The directives of a file's first chunk, as they stand there; `None` when some of them are others than `$ORIGIN` and `$TTL`, or `$TTL` is not
/// among them: then records would have the TTL of the one above.
fn lasting(text: &[u8]) -> Option<Vec<u8>> {
    let mut prelude = Vec::new();
    let mut has_ttl = false;
    for line in text.split_inclusive(|octet| *octet == b'\n').filter(|line| line.starts_with(b"$")) {
        let word = line.split(|octet| octet.is_ascii_whitespace()).next().unwrap_or_default();
        match word.to_ascii_uppercase().as_slice() {
            b"$TTL" => has_ttl = true,
            b"$ORIGIN" => {}
            _ => return None,
        }
        prelude.extend_from_slice(line);
    }
    has_ttl.then_some(prelude)
}

fn has_directive(text: &[u8]) -> bool {
    text.contains(&b'$') && (text.starts_with(b"$") || text.windows(2).any(|pair| pair == b"\n$"))
}

impl Chunks {
    /// Fills in where the names of each chunk stand: `starts` are the first nodes of all chunks but the first, and the end; `goes_on` those of all but
    /// the first.
    pub(super) fn place(&mut self, starts: &[NodeId], goes_on: impl Iterator<Item = bool>) {
        let begins = std::iter::once(0).chain(starts.iter().copied());
        for (((chunk, begin), end), goes_on) in self.list.iter_mut().zip(begins).zip(starts).zip(std::iter::once(false).chain(goes_on)) {
            chunk.nodes.push(begin..*end);
            chunk.goes_on = goes_on;
        }
    }
}

/// What the next version of a file has of the version before.
#[derive(Debug)]
pub(super) struct Comparison<'b> {
    before: &'b Chunks,
    positions: HashMap<u128, usize>,
    chunker: Chunker,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    /// The chunks of the new version: the position of the old one that it is, or its text.
    list: Vec<Result<usize, Vec<u8>>>,
    /// Behind the last old one that was found.
    next: usize,
    changed_len: usize,
    is_hopeless: bool,
}

/// How the versions differ.
#[derive(Debug)]
pub(super) struct Difference {
    /// Where the names stand that the old version says and perhaps not the new one.
    pub(super) gone: Vec<Range<NodeId>>,
    /// The new text: what is to be parsed, by position among the new chunks, each with the directives that hold.
    pub(super) texts: Vec<(usize, Vec<u8>)>,
    /// The chunks of the new version; those that are to be parsed without their nodes.
    pub(super) chunks: Chunks,
}

impl<'b> Comparison<'b> {
    pub(super) fn new(before: &'b Chunks) -> Comparison<'b> {
        let positions = before.list.iter().enumerate().map(|(at, chunk)| (chunk.hash, at)).collect();
        Comparison { before, positions, chunker: Chunker::default(), seen: Seen::default() }
    }

    /// Takes the next octets of the new version; false when the two have too little in common.
    pub(super) fn add(&mut self, octets: &[u8]) -> bool {
        let (before, positions, seen) = (self.before, &self.positions, &mut self.seen);
        self.chunker.add(octets, &mut |text, _| seen.take(text, before, positions));
        !self.seen.is_hopeless
    }

    /// The end of the new version.
    pub(super) fn finish(self) -> Option<Difference> {
        let Comparison { before, positions, chunker, mut seen } = self;
        if !chunker.finish(&mut |text, _| seen.take(text, before, &positions)) || seen.is_hopeless {
            return None;
        }
        let kept: Vec<bool> = {
            let mut kept = vec![false; before.list.len()];
            seen.list.iter().filter_map(|chunk| chunk.as_ref().ok()).for_each(|at| kept[*at] = true);
            kept
        };
        // The records of one name are parsed together.
        if (1..kept.len()).any(|at| before.list[at].goes_on && kept[at] != kept[at - 1]) {
            return None;
        }
        let gone = before.list.iter().zip(&kept).filter(|(_, kept)| !**kept).flat_map(|(chunk, _)| chunk.nodes.iter().cloned()).collect();
        let (mut texts, mut list) = (Vec::new(), Vec::with_capacity(seen.list.len()));
        for (at, chunk) in seen.list.into_iter().enumerate() {
            let text = match chunk {
                Ok(position) => {
                    list.push(before.list[position].clone());
                    continue;
                }
                Err(text) => text,
            };
            // What holds for the chunks behind must be what held before.
            let is_fit = if at == 0 { lasting(&text).as_ref() == Some(&before.prelude) } else { !has_directive(&text) };
            if !is_fit {
                return None;
            }
            list.push(Chunk { hash: TextHash::of(&text), len: text.len(), nodes: Vec::new(), goes_on: false });
            texts.push((at, if at == 0 { text } else { [&*before.prelude, &*text].concat() }));
        }
        Some(Difference { gone, texts, chunks: Chunks { prelude: before.prelude.clone(), list } })
    }
}

impl Seen {
    fn take(&mut self, text: &[u8], before: &Chunks, positions: &HashMap<u128, usize>) {
        if self.is_hopeless {
            return;
        }
        let found = positions.get(&TextHash::of(text)).copied();
        match found.filter(|at| *at >= self.next && (*at == 0) == self.list.is_empty()) {
            Some(at) => {
                self.next = at + 1;
                self.list.push(Ok(at));
            }
            None => {
                self.changed_len += text.len();
                self.is_hopeless = self.changed_len * MAX_CHANGED_PARTS > before.list.iter().map(|chunk| chunk.len).sum();
                self.list.push(Err(text.to_vec()));
            }
        }
    }
}

impl Difference {
    /// The chunk at a position of [`Difference::texts`].
    pub(super) fn chunk(&mut self, at: usize) -> Option<&mut Chunk> {
        self.chunks.list.get_mut(at)
    }
}
