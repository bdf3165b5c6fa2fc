//! Records by owner: what checks and the tree both work from. Linear in the records: a hash instead of a sort.

use std::collections::HashSet;
use std::ops::Range;

use hashbrown::HashTable;

use super::records::{RecordId, RecordRef, Records};
use super::tree::hash_name;
use crate::dns::name::{MAX_LABELS, MAX_NAME_LEN};
use crate::dns::{Name, RecordType};

/// Dense index of an owner, in order of first mention.
pub type OwnerId = u32;

/// A name in lower case with the places of its labels; room for one, to be used again.
#[derive(Debug)]
pub struct Path {
    lower: [u8; MAX_NAME_LEN],
    len: usize,
    /// Offsets of the labels from the left.
    starts: [u8; MAX_LABELS],
    labels: usize,
}

impl Path {
    /// Room.
    pub fn new() -> Path {
        Path { lower: [0; MAX_NAME_LEN], len: 1, starts: [0; MAX_LABELS], labels: 0 }
    }

    /// Becomes `wire`, a valid name.
    pub fn set(&mut self, wire: &[u8]) {
        let len = wire.len().min(MAX_NAME_LEN);
        self.lower[..len].copy_from_slice(&wire[..len]);
        // Length octets are at most 63, below 'A'.
        self.lower[..len].make_ascii_lowercase();
        (self.len, self.labels) = (len, 0);
        let mut at = 0;
        while at + 1 < len && self.labels < MAX_LABELS {
            self.starts[self.labels] = at as u8;
            self.labels += 1;
            at += 1 + usize::from(self.lower[at]);
        }
    }

    /// Labels, the root not counted.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// The last `labels` labels in lower-case wire form, and their hash.
    pub fn suffix(&self, labels: usize) -> (&[u8], u64) {
        let labels = labels.min(self.labels);
        let from = if labels == 0 { self.len - 1 } else { usize::from(self.starts[self.labels - labels]) };
        let suffix = &self.lower[from..self.len];
        (suffix, hash_name(suffix))
    }

    /// The whole name and its hash.
    pub fn whole(&self) -> (&[u8], u64) {
        self.suffix(self.labels)
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::new()
    }
}

/// One owner.
#[derive(Clone, Copy, Debug)]
struct Owner {
    /// Range of [`Owners::order`].
    from: u32,
    count: u32,
    hash: u64,
}

/// The records of a zone by owner.
#[derive(Debug)]
pub struct Owners<'a> {
    records: &'a Records,
    owners: Vec<Owner>,
    /// Record ids by owner, within one by type and then as read.
    order: Vec<RecordId>,
    table: HashTable<OwnerId>,
    /// Hashes of the names above owners that own nothing themselves.
    empty: HashSet<u64>,
    /// Records that are not in the zone.
    outside: Vec<RecordId>,
}

impl<'a> Owners<'a> {
    /// Groups the records that are at or below `apex`.
    pub fn group(apex: &Name, records: &'a Records) -> Owners<'a> {
        let mut owners: Vec<Owner> = Vec::new();
        let mut table: HashTable<OwnerId> = HashTable::new();
        let mut owner_of: Vec<OwnerId> = Vec::with_capacity(records.len());
        let mut path = Path::new();
        let mut apex_path = Path::new();
        apex_path.set(apex.as_wire());
        let mut last: Option<(&[u8], OwnerId)> = None;
        for record in records.iter() {
            if let Some((owner, id)) = last
                && owner == record.owner
            {
                owner_of.push(id);
                bump(&mut owners, id);
                continue;
            }
            path.set(record.owner);
            if path.suffix(apex_path.labels()) != apex_path.whole() {
                owner_of.push(OUTSIDE);
                continue;
            }
            let (lower, hash) = path.whole();
            let first = |id: OwnerId| records.get(owners[id as usize].from).owner;
            let id = match table.find(hash, |id| owners[*id as usize].hash == hash && first(*id).eq_ignore_ascii_case(lower)) {
                Some(id) => *id,
                None => {
                    let id = owners.len() as OwnerId;
                    // Until all are counted, `from` is the first record's id.
                    owners.push(Owner { from: owner_of.len() as u32, count: 0, hash });
                    table.insert_unique(hash, id, |id| owners[*id as usize].hash);
                    id
                }
            };
            owner_of.push(id);
            bump(&mut owners, id);
            last = Some((record.owner, id));
        }
        let order = arrange(records, &mut owners, &owner_of);
        let outside = (0..).zip(&owner_of).filter(|(_, owner)| **owner == OUTSIDE).map(|(id, _)| id).collect();
        let mut all = Owners { records, owners, order, table, empty: HashSet::new(), outside };
        all.empty = all.empty_above(apex_path.labels());
        all
    }

    fn empty_above(&self, apex_labels: usize) -> HashSet<u64> {
        let mut empty = HashSet::new();
        let mut path = Path::new();
        for owner in 0..self.owners.len() as OwnerId {
            path.set(self.name(owner));
            // Names right below the apex have nothing between.
            for labels in (apex_labels + 1..path.labels()).rev() {
                let (lower, hash) = path.suffix(labels);
                if self.find_hashed(lower, hash).is_some() || !empty.insert(hash) {
                    break;
                }
            }
        }
        empty
    }

    /// Records that are not in the zone, as read.
    pub fn outside(&self) -> impl Iterator<Item = RecordRef<'a>> {
        self.outside.iter().map(|id| self.records.get(*id))
    }

    /// How many owners.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The owner's name in wire form, case as in its first record by type.
    pub fn name(&self, owner: OwnerId) -> &'a [u8] {
        self.record(self.owners[owner as usize].from as usize).owner
    }

    /// The record at a position of a range that [`Owners::rrsets`] gave.
    pub fn record(&self, position: usize) -> RecordRef<'a> {
        self.records.get(self.order[position])
    }

    /// The types of an owner in order, each with the positions of its records.
    pub fn rrsets(&self, owner: OwnerId) -> impl Iterator<Item = (RecordType, Range<usize>)> {
        let Owner { from, count, .. } = self.owners[owner as usize];
        let (mut at, end) = (from as usize, (from + count) as usize);
        std::iter::from_fn(move || {
            let from = at;
            let rtype = (from < end).then(|| self.record(from).rtype)?;
            while at < end && self.record(at).rtype == rtype {
                at += 1;
            }
            Some((rtype, from..at))
        })
    }

    /// The owner of this name.
    pub fn find(&self, path: &Path, labels: usize) -> Option<OwnerId> {
        let (lower, hash) = path.suffix(labels);
        self.find_hashed(lower, hash)
    }

    fn find_hashed(&self, lower: &[u8], hash: u64) -> Option<OwnerId> {
        let same = |id: &OwnerId| self.owners[*id as usize].hash == hash && self.name(*id).eq_ignore_ascii_case(lower);
        self.table.find(hash, same).copied()
    }

    /// True when the last `labels` labels of the name are an owner or an empty name above one (by its hash: two names of one hash would be
    /// taken for one another once in 2⁶⁴).
    pub fn exists(&self, path: &Path, labels: usize) -> bool {
        self.find(path, labels).is_some() || self.empty.contains(&path.suffix(labels).1)
    }
}

/// For records that are not in the zone.
const OUTSIDE: OwnerId = OwnerId::MAX;

fn bump(owners: &mut [Owner], id: OwnerId) {
    if let Some(owner) = owners.get_mut(id as usize) {
        owner.count += 1;
    }
}

/// A counting sort of the records by owner; few records of an owner are then sorted by type. Sets each owner's range.
fn arrange(records: &Records, owners: &mut [Owner], owner_of: &[OwnerId]) -> Vec<RecordId> {
    let mut next = 0;
    for owner in owners.iter_mut() {
        owner.from = next;
        next += owner.count;
        // Counts up again while the records are put in place.
        owner.count = 0;
    }
    let mut order: Vec<RecordId> = vec![0; next as usize];
    for (id, owner) in owner_of.iter().enumerate() {
        if let Some(owner) = owners.get_mut(*owner as usize) {
            order[(owner.from + owner.count) as usize] = id as RecordId;
            owner.count += 1;
        }
    }
    for owner in owners.iter() {
        let of_owner = &mut order[owner.from as usize..(owner.from + owner.count) as usize];
        if !of_owner.is_sorted_by_key(|id| records.get(*id).rtype) {
            of_owner.sort_by_key(|id| records.get(*id).rtype);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Place;

    #[test]
    fn records_are_grouped_by_owner_and_type_whatever_their_order_and_case() {
        let apex = Name::parse_absolute("example.").expect("a name");
        let mut records = Records::new();
        for (line, (owner, rtype)) in
            [("b.x", 16), ("@", 6), ("B.X", 1), ("a.b.c", 1), ("b.x", 16), ("other.", 1), ("*.w", 1), ("@", 2), ("b.X", 1)].into_iter().enumerate()
        {
            let owner = Name::parse(owner, &apex).expect("a name");
            records.push(&owner, RecordType(rtype), 1, &[], Place { file: 0, line: line as u32 });
        }
        let owners = Owners::group(&apex, &records);
        let lines = |range: Range<usize>| range.map(|position| owners.record(position).place.line).collect::<Vec<_>>();
        let all: Vec<_> = (0..owners.len() as OwnerId)
            .map(|owner| (owners.name(owner), owners.rrsets(owner).map(|(rtype, range)| (rtype.0, lines(range))).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            all,
            [
                (&b"\x01B\x01X\x07example\0"[..], vec![(1, vec![2, 8]), (16, vec![0, 4])]),
                (b"\x07example\0", vec![(2, vec![7]), (6, vec![1])]),
                (b"\x01a\x01b\x01c\x07example\0", vec![(1, vec![3])]),
                (b"\x01*\x01w\x07example\0", vec![(1, vec![6])]),
            ]
        );
        assert_eq!(owners.outside().map(|record| record.place.line).collect::<Vec<_>>(), [5]);
        // Name, owner, empty non-terminal.
        for (name, owns, exists) in [
            ("b.x", true, true),
            ("x", false, true),
            ("B.C", false, true),
            ("c", false, true),
            ("w", false, true),
            ("@", true, true),
            ("y", false, false),
        ] {
            let mut path = Path::new();
            path.set(Name::parse(name, &apex).expect("a name").as_wire());
            assert_eq!((owners.find(&path, path.labels()).is_some(), owners.exists(&path, path.labels())), (owns, exists), "{name}");
        }
    }
}
