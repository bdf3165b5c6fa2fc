//! Records by owner: what checks and the tree both work from. Linear in the records: a hash instead of a sort.

use std::collections::HashSet;
use std::ops::Range;

use super::records::{RecordId, RecordRef, Records};
use super::tree::hash_name;
use super::tree::index::Index;
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

    /// True when it is at or below the other one.
    pub fn ends_in(&self, other: &Path) -> bool {
        let from =
            if other.labels == 0 { self.len - 1 } else { self.labels.checked_sub(other.labels).map_or(self.len, |at| usize::from(self.starts[at])) };
        self.lower[from..self.len] == other.lower[..other.len]
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
    hash: u64,
    /// Position of its first record; the next owner's is its end.
    from: u32,
    labels: u8,
    kinds: Kinds,
}

/// What an owner holds, as far as somebody asks for every owner of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// A or AAAA.
    pub const ADDRESS: Kinds = Kinds(1);
    /// CNAME.
    pub const CNAME: Kinds = Kinds(2);
    /// NS.
    pub const NS: Kinds = Kinds(4);
    /// DNAME.
    pub const DNAME: Kinds = Kinds(8);
    /// NSEC3.
    pub const NSEC3: Kinds = Kinds(16);
    /// Its first label is a lone asterisk.
    pub const WILDCARD: Kinds = Kinds(32);
    /// Anything but at most one A and one AAAA record.
    pub const MORE: Kinds = Kinds(64);

    /// True when any of `kinds` is there.
    pub fn has(self, kinds: Kinds) -> bool {
        self.0 & kinds.0 != 0
    }

    /// Both.
    pub const fn and(self, kinds: Kinds) -> Kinds {
        Kinds(self.0 | kinds.0)
    }

    fn of_type(rtype: RecordType) -> Kinds {
        match rtype {
            RecordType::A | RecordType::AAAA => Kinds::ADDRESS,
            RecordType::CNAME => Kinds::CNAME.and(Kinds::MORE),
            RecordType::NS => Kinds::NS.and(Kinds::MORE),
            RecordType::DNAME => Kinds::DNAME.and(Kinds::MORE),
            RecordType::NSEC3 => Kinds::NSEC3.and(Kinds::MORE),
            _ => Kinds::MORE,
        }
    }
}

/// The records of a zone by owner. Positions are those of the records as they were read when each owner's stand together, which needs no list of
/// them; else there is one.
#[derive(Clone, Debug)]
pub struct Owners {
    records: Records,
    owners: Vec<Owner>,
    /// How many records are in the zone.
    count: usize,
    /// Record ids by position; `None` when they are equal.
    order: Option<Vec<RecordId>>,
    index: Index,
    /// Hashes of the names above owners that own nothing themselves.
    empty: HashSet<u64>,
    /// Records that are not in the zone.
    outside: Vec<RecordId>,
}

impl Owners {
    /// Groups the records that are at or below `apex`.
    pub fn group(apex: &Name, records: Records) -> Owners {
        let mut path = Path::new();
        path.set(apex.as_wire());
        let apex_labels = path.labels();
        let (count, runs) = (records.len(), records.runs());
        let (owners, index) = (Vec::with_capacity(runs), Index::with_room(runs));
        let mut all = Owners { records, owners, count, order: None, index, empty: HashSet::new(), outside: Vec::new() };
        if let Some(owner_of) = all.read(apex) {
            all.arrange(&owner_of);
        }
        all.owners.shrink_to_fit();
        all.find_empty(apex_labels);
        all
    }

    /// Finds the owners. When the records of one are scattered, or in the wrong order, or not in the zone, returns the owner of every record.
    fn read(&mut self, apex: &Name) -> Option<Vec<OwnerId>> {
        let mut path = Path::new();
        let mut apex_path = Path::new();
        apex_path.set(apex.as_wire());
        let mut owner_of: Option<Vec<OwnerId>> = None;
        let mut id: RecordId = 0;
        while (id as usize) < self.records.len() {
            let end = self.records.run_end(id);
            path.set(self.records.get(id).owner);
            let is_inside = path.ends_in(&apex_path);
            let owner = if is_inside { self.find_or_add(&path, id) } else { OUTSIDE };
            // The owners so far stand one behind the other; a run goes on behind the border of a block.
            let follows = owner as usize + 1 == self.owners.len();
            if owner_of.is_none() && !(follows && self.settle(owner, end)) {
                owner_of = Some(self.owners_until(id));
            }
            if let Some(owner_of) = &mut owner_of {
                owner_of.extend((id..end).map(|_| owner));
            }
            id = end;
        }
        owner_of
    }

    fn find_or_add(&mut self, path: &Path, first: RecordId) -> OwnerId {
        let (lower, hash) = path.whole();
        let same = |id: OwnerId| {
            let owner = &self.owners[id as usize];
            owner.hash == hash && self.records.get(owner.from).owner.eq_ignore_ascii_case(lower)
        };
        self.index.find(hash, same).unwrap_or_else(|| {
            let id = self.owners.len() as OwnerId;
            let kinds = if lower.starts_with(b"\x01*") { Kinds::WILDCARD } else { Kinds::default() };
            // Until all are arranged, `from` is the first record's id.
            self.owners.push(Owner { hash, from: first, labels: path.labels() as u8, kinds });
            self.index.insert(hash, id);
            id
        })
    }

    /// Puts the records of the last owner, which reach to `end`, in order and sees what they are; false when they cannot be put in order in place.
    fn settle(&mut self, owner: OwnerId, end: RecordId) -> bool {
        let from = self.owners[owner as usize].from;
        let is_sorted = |records: &Records| (from + 1..end).all(|id| records.rtype(id - 1) <= records.rtype(id));
        if !is_sorted(&self.records) && !self.records.sort_by_type(from as usize, end as usize) {
            return false;
        }
        let mut kinds = self.owners[owner as usize].kinds;
        for id in from..end {
            let rtype = self.records.rtype(id);
            kinds = kinds.and(Kinds::of_type(rtype));
            if id > from && self.records.rtype(id - 1) == rtype {
                kinds = kinds.and(Kinds::MORE);
            }
        }
        self.owners[owner as usize].kinds = kinds;
        true
    }

    /// The owner of each record before `end`, which stand together.
    fn owners_until(&self, end: RecordId) -> Vec<OwnerId> {
        let mut owner_of = Vec::with_capacity(self.records.len());
        for (at, owner) in (0..).zip(&self.owners) {
            let until = self.owners.get(at as usize + 1).map_or(end, |next| next.from).min(end);
            owner_of.extend((owner.from..until).map(|_| at as OwnerId));
        }
        owner_of
    }

    /// A counting sort of the records by owner; few records of an owner are then sorted by type.
    fn arrange(&mut self, owner_of: &[OwnerId]) {
        let mut counts = vec![0u32; self.owners.len()];
        for owner in owner_of {
            match counts.get_mut(*owner as usize) {
                Some(count) => *count += 1,
                None => self.count -= 1,
            }
        }
        self.outside = (0..).zip(owner_of).filter(|(_, owner)| **owner == OUTSIDE).map(|(id, _)| id).collect();
        let mut next = 0;
        for (owner, count) in self.owners.iter_mut().zip(&mut counts) {
            owner.from = next;
            next += *count;
            // From now on where the next record of the owner goes.
            *count = owner.from;
        }
        let mut order: Vec<RecordId> = vec![0; self.count];
        for (id, owner) in (0..).zip(owner_of) {
            if let Some(at) = counts.get_mut(*owner as usize) {
                order[*at as usize] = id;
                *at += 1;
            }
        }
        for at in 0..self.owners.len() {
            let range = self.range(at as OwnerId);
            let of_owner = &mut order[range];
            let records = &self.records;
            if !of_owner.is_sorted_by_key(|id| records.rtype(*id)) {
                of_owner.sort_by_key(|id| records.rtype(*id));
            }
            let kinds = of_owner.iter().fold(self.owners[at].kinds, |kinds, id| kinds.and(Kinds::of_type(records.rtype(*id))));
            let is_double = of_owner.windows(2).any(|pair| records.rtype(pair[0]) == records.rtype(pair[1]));
            self.owners[at].kinds = if is_double { kinds.and(Kinds::MORE) } else { kinds };
        }
        self.order = Some(order);
    }

    fn find_empty(&mut self, apex_labels: usize) {
        let mut empty = HashSet::new();
        let mut path = Path::new();
        for owner in 0..self.owners.len() as OwnerId {
            // Names right below the apex have nothing between.
            if self.labels(owner) <= apex_labels + 1 {
                continue;
            }
            path.set(self.name(owner));
            for labels in (apex_labels + 1..path.labels()).rev() {
                let (lower, hash) = path.suffix(labels);
                if self.find_hashed(lower, hash).is_some() || !empty.insert(hash) {
                    break;
                }
            }
        }
        self.empty = empty;
    }

    /// The records again.
    pub fn into_records(self) -> Records {
        self.records
    }

    /// Records, and octets of owners and data.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.records.len(), self.records.octets())
    }

    /// Records that are not in the zone, as read.
    pub fn outside(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.outside.iter().map(|id| self.records.get(*id))
    }

    /// For stretches of a file that begin with these lines, in order: the first owner whose records begin there, and whether an owner before has
    /// records there or behind.
    pub fn at_lines(&self, lines: &[u32]) -> Vec<(OwnerId, bool)> {
        let mut found = Vec::with_capacity(lines.len());
        let mut furthest = 0;
        for owner in 0..self.owners.len() as OwnerId {
            let lines_of = self.range(owner).map(|position| self.record(position).place.line);
            let (first, last) = lines_of.fold((u32::MAX, 0), |(first, last), line| (first.min(line), last.max(line)));
            while let Some(line) = lines.get(found.len()).filter(|line| **line <= first) {
                found.push((owner, furthest >= *line));
            }
            furthest = furthest.max(last);
        }
        found.extend(lines.iter().skip(found.len()).map(|line| (self.owners.len() as OwnerId, furthest >= *line)).collect::<Vec<_>>());
        found
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
    pub fn name(&self, owner: OwnerId) -> &[u8] {
        self.record(self.owners[owner as usize].from as usize).owner
    }

    /// Labels of the owner's name.
    pub fn labels(&self, owner: OwnerId) -> usize {
        usize::from(self.owners[owner as usize].labels)
    }

    /// The hash of the owner's name.
    pub fn hash(&self, owner: OwnerId) -> u64 {
        self.owners[owner as usize].hash
    }

    /// What the owner holds.
    pub fn kinds(&self, owner: OwnerId) -> Kinds {
        self.owners[owner as usize].kinds
    }

    fn range(&self, owner: OwnerId) -> Range<usize> {
        let at = owner as usize;
        self.owners[at].from as usize..self.owners.get(at + 1).map_or(self.count, |next| next.from as usize)
    }

    fn id(&self, position: usize) -> RecordId {
        self.order.as_ref().map_or(position as RecordId, |order| order[position])
    }

    /// The record at a position of a range that [`Owners::rrsets`] gave.
    #[inline]
    pub fn record(&self, position: usize) -> RecordRef<'_> {
        self.records.get(self.id(position))
    }

    /// The types of an owner in order, each with the positions of its records.
    #[inline]
    pub fn rrsets(&self, owner: OwnerId) -> impl Iterator<Item = (RecordType, Range<usize>)> {
        let Range { start: mut at, end } = self.range(owner);
        std::iter::from_fn(move || {
            let from = at;
            let rtype = (from < end).then(|| self.records.rtype(self.id(from)))?;
            while at < end && self.records.rtype(self.id(at)) == rtype {
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
        self.index.find(hash, |id| self.hash(id) == hash && self.name(id).eq_ignore_ascii_case(lower))
    }

    /// True when the last `labels` labels of the name are an owner or an empty name above one (by its hash: two names of one hash would be
    /// taken for one another once in 2⁶⁴).
    pub fn exists(&self, path: &Path, labels: usize) -> bool {
        self.find(path, labels).is_some() || self.empty.contains(&path.suffix(labels).1)
    }

    /// Frees what is no longer needed when the owners before this one are done with: their names and records are gone, and nothing can be found.
    pub(super) fn forget_before(&mut self, owner: OwnerId) {
        if self.order.is_none() {
            self.records.forget_before(self.owners[owner as usize].from);
        }
    }
}

/// For records that are not in the zone.
const OUTSIDE: OwnerId = OwnerId::MAX;

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
        let owners = Owners::group(&apex, records);
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
