//! The records of one zone on their way from the files to the tree: end to end in a few large blocks instead of two allocations each.
//!
//! A million names with two addresses each take 90 MB here, and the blocks are freed one by one while the tree is built from them.

use super::record::{Place, Record, Ttl};
use crate::dns::{Name, RecordType};

/// Records of one block. A block's octets stay within what 32 bits can count: 2¹⁵ × (255 + 65,535) < 2³².
const BLOCK_LEN: usize = 1 << 15;

/// Position of a record in the order of reading.
pub type RecordId = u32;

/// Records in the order of reading.
#[derive(Clone, Debug, Default)]
pub struct Records {
    blocks: Vec<Block>,
    len: usize,
    runs: usize,
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// Owners and record data.
    octets: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner_at: u32,
    rdata_at: u32,
    ttl: Ttl,
    line: u32,
    rdata_len: u16,
    rtype: RecordType,
    file: u16,
    owner_len: u8,
}

/// One record in place.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Wire form, case as written.
    pub owner: &'a [u8],
    /// Never a meta type.
    pub rtype: RecordType,
    /// Seconds.
    pub ttl: Ttl,
    /// Wire form, names uncompressed.
    pub rdata: &'a [u8],
    /// Where it was written.
    pub place: Place,
}

impl RecordRef<'_> {
    /// True when the first label is a lone asterisk (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.owner.starts_with(b"\x01*")
    }

    /// The owner as a name of its own.
    pub fn owner_name(&self) -> Name {
        Name::from_wire(self.owner).unwrap_or_else(|_| Name::root())
    }
}

impl Records {
    /// None.
    pub fn new() -> Records {
        Records::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of owners and data.
    pub(super) fn octets(&self) -> usize {
        self.blocks.iter().map(|block| block.octets.len()).sum()
    }

    /// How many owners, one that stands in several places counted at each.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Adds one. `rdata` has at most 65,535 octets.
    pub fn push(&mut self, owner: &Name, rtype: RecordType, ttl: Ttl, rdata: &[u8], place: Place) {
        self.push_wire(owner.as_wire(), rtype, ttl, rdata, place);
    }

    /// [`Records::push`] of a name in wire form.
    pub fn push_wire(&mut self, owner: &[u8], rtype: RecordType, ttl: Ttl, rdata: &[u8], place: Place) {
        if self.blocks.last().is_none_or(|block| block.entries.len() == BLOCK_LEN) {
            // The next block is mostly as large as the one before: no copies while it grows, and little room that nobody uses.
            let room = self.blocks.last_mut().map_or(0, |full| {
                full.octets.shrink_to_fit();
                full.octets.len() + full.octets.len() / 16
            });
            let entries = if self.blocks.is_empty() { Vec::new() } else { Vec::with_capacity(BLOCK_LEN) };
            self.blocks.push(Block { octets: Vec::with_capacity(room), entries });
        }
        let Some(block) = self.blocks.last_mut() else { return };
        // The records of a name mostly stand together: its octets are kept once.
        let owner_at = match block.entries.last() {
            Some(last) if block.owner(last) == owner => last.owner_at,
            _ => {
                self.runs += 1;
                append(&mut block.octets, owner)
            }
        };
        let rdata_at = append(&mut block.octets, rdata);
        let entry =
            Entry { owner_at, rdata_at, ttl, line: place.line, rdata_len: rdata.len() as u16, rtype, file: place.file, owner_len: owner.len() as u8 };
        block.entries.push(entry);
        self.len += 1;
    }

    /// Puts the records of a range in order of type, those of one type as they were; false when the range spans blocks.
    pub(super) fn sort_by_type(&mut self, from: usize, to: usize) -> bool {
        let Some(block) = self.blocks.get_mut(from / BLOCK_LEN).filter(|_| from < to && from / BLOCK_LEN == (to - 1) / BLOCK_LEN) else {
            return false;
        };
        block.entries[from % BLOCK_LEN..=(to - 1) % BLOCK_LEN].sort_by_key(|entry| entry.rtype);
        true
    }

    /// Frees the blocks that lie before a record; those records are no longer there.
    pub(super) fn forget_before(&mut self, id: RecordId) {
        let whole = id as usize / BLOCK_LEN;
        // Only the last one of them can still be there: this is called often.
        if let Some(block) = whole.checked_sub(1).and_then(|at| self.blocks.get_mut(at)) {
            *block = Block::default();
        }
    }

    /// The record behind the last one that has the very owner of `id` and stands in its block.
    pub(super) fn run_end(&self, id: RecordId) -> RecordId {
        let block = &self.blocks[id as usize / BLOCK_LEN];
        let from = id as usize % BLOCK_LEN;
        let owner_at = block.entries[from].owner_at;
        id + block.entries[from..].iter().take_while(|entry| entry.owner_at == owner_at).count() as RecordId
    }

    /// The type of a record.
    pub(super) fn rtype(&self, id: RecordId) -> RecordType {
        self.blocks[id as usize / BLOCK_LEN].entries[id as usize % BLOCK_LEN].rtype
    }

    /// One record.
    ///
    /// # Panics
    /// When `id` is not below [`Records::len`].
    pub fn get(&self, id: RecordId) -> RecordRef<'_> {
        let block = &self.blocks[id as usize / BLOCK_LEN];
        block.record(&block.entries[id as usize % BLOCK_LEN])
    }

    /// All in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.blocks.iter().flat_map(|block| block.entries.iter().map(|entry| block.record(entry)))
    }
}

fn append(octets: &mut Vec<u8>, more: &[u8]) -> u32 {
    let at = octets.len() as u32;
    octets.extend_from_slice(more);
    at
}

impl Block {
    fn owner(&self, entry: &Entry) -> &[u8] {
        let from = entry.owner_at as usize;
        self.octets.get(from..from + usize::from(entry.owner_len)).unwrap_or(&[0])
    }

    fn record(&self, entry: &Entry) -> RecordRef<'_> {
        let from = entry.rdata_at as usize;
        RecordRef {
            owner: self.owner(entry),
            rtype: entry.rtype,
            ttl: entry.ttl,
            rdata: self.octets.get(from..from + usize::from(entry.rdata_len)).unwrap_or(&[]),
            place: Place { file: entry.file, line: entry.line },
        }
    }
}

impl Extend<Record> for Records {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        for record in records {
            self.push(&record.owner, record.rtype, record.ttl, &record.rdata, record.place);
        }
    }
}

impl FromIterator<Record> for Records {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Records {
        let mut all = Records::new();
        all.extend(records);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_across_blocks() {
        let mut records = Records::new();
        let owners: Vec<Name> = ["a.example.", "B.example.", "."].iter().map(|name| Name::parse_absolute(name).expect("a name")).collect();
        let count = 2 * BLOCK_LEN + 7;
        for at in 0..count {
            let place = Place { file: (at % 3) as u16, line: at as u32 };
            records.push(&owners[at / 2 % 3], RecordType(at as u16), at as u32, &(at as u32).to_be_bytes()[..at % 5], place);
        }
        assert_eq!((records.len(), records.iter().count()), (count, count));
        for (at, record) in records.iter().enumerate() {
            assert_eq!(record.owner, owners[at / 2 % 3].as_wire(), "case as written");
            assert_eq!((record.rtype, record.ttl, record.rdata), (RecordType(at as u16), at as u32, &(at as u32).to_be_bytes()[..at % 5]));
            assert_eq!(record.place, Place { file: (at % 3) as u16, line: at as u32 });
            assert_eq!(records.get(at as RecordId).place, record.place);
        }
    }
}
