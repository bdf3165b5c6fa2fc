//! Entries of the audit log that the disk did not take, about what took effect all the same: held in memory until it does, as far as there is room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::audit::{Entry, Kind};
use super::who::Who;

/// Entries that are held at most.
const MAX_HELD: usize = 256;
/// Of which kind the newest goes when there are more: what people did is held longest.
const FIRST_TO_GO: [Kind; 3] = [Kind::Health, Kind::Refused, Kind::Change];

/// What is held, shared with the writes that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Unkept(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    /// Number of the next entry: the order in which they came.
    next: u64,
    batch: Batch,
}

/// Entries of one write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: BTreeMap<u64, Entry>,
    /// Those for which there was no room.
    missed: u64,
}

impl Batch {
    /// In order; the last one tells of those that are missing.
    pub(super) fn entries(&self, now_unix: u64) -> Vec<Entry> {
        let gap = (self.missed > 0).then(|| {
            let detail =
                format!("{} more before it were not kept: the state could not be written, and no more than {MAX_HELD} wait for it", self.missed);
            Entry { detail: Some(detail), ..Entry::done(&Who::itself(), "state", "", now_unix) }
        });
        self.entries.values().cloned().chain(gap).collect()
    }
}

impl Held {
    fn number(&mut self, entries: Vec<Entry>) -> BTreeMap<u64, Entry> {
        let first = self.next;
        self.next += entries.len() as u64;
        (first..).zip(entries).collect()
    }
}

impl Unkept {
    fn with<T>(&self, what: impl FnOnce(&mut Held) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that is held, and these behind it; `None` when that is nothing.
    pub(super) fn take_with(&self, entries: Vec<Entry>) -> Option<Batch> {
        self.with(|held| {
            let new = held.number(entries);
            held.batch.entries.extend(new);
            (!held.batch.entries.is_empty()).then(|| std::mem::take(&mut held.batch))
        })
    }

    /// These alone, for a write that has more than entries.
    pub(super) fn take_only(&self, entries: Vec<Entry>) -> Batch {
        self.with(|held| Batch { entries: held.number(entries), missed: 0 })
    }

    /// There is nowhere to write them at present.
    pub(super) fn hold(&self, entries: Vec<Entry>) {
        if let Some(batch) = self.take_with(entries) {
            self.give_back(batch);
        }
    }

    /// What is held at present, in a sentence.
    pub(super) fn in_words(&self) -> Option<String> {
        self.with(|held| match (held.batch.entries.len(), held.batch.missed) {
            (0, 0) => None,
            (count, 0) => Some(format!("{count} newer entries wait until the state can be written")),
            (count, missed) => Some(format!("{count} newer entries wait until the state can be written, and {missed} more were not kept")),
        })
    }

    /// The disk did not take them.
    pub(super) fn give_back(&self, batch: Batch) {
        self.with(|Held { batch: held, .. }| {
            held.missed += batch.missed;
            held.entries.extend(batch.entries);
            while held.entries.len() > MAX_HELD {
                let newest = |kind: Kind| held.entries.iter().rfind(|(_, entry)| entry.kind == kind).map(|(number, _)| *number);
                let Some(number) = FIRST_TO_GO.into_iter().find_map(newest) else { return };
                held.entries.remove(&number);
                held.missed += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_entry(kind: Kind, at: u64) -> Entry {
        Entry { kind, ..Entry::done(&Who::itself(), "reload", "", at) }
    }

    #[test]
    fn what_is_given_back_keeps_its_order_and_what_is_too_much_is_counted() {
        let unkept = Unkept::default();
        assert!(unkept.take_with(Vec::new()).is_none());
        let first = unkept.take_with(vec![an_entry(Kind::Change, 1)]).expect("one");
        let second = unkept.take_only(vec![an_entry(Kind::Change, 2)]);
        // Whichever fails first.
        unkept.give_back(second);
        unkept.give_back(first);
        let all = unkept.take_with(vec![an_entry(Kind::Health, 3)]).expect("three");
        assert_eq!(all.entries(9).iter().map(|entry| entry.at).collect::<Vec<_>>(), [1, 2, 3]);
        unkept.give_back(all);
        for at in 4..=MAX_HELD as u64 + 4 {
            let kind = if at % 2 == 0 { Kind::Change } else { Kind::Refused };
            let batch = unkept.take_with(vec![an_entry(kind, at)]).expect("some");
            unkept.give_back(batch);
        }
        let batch = unkept.take_with(Vec::new()).expect("some");
        let entries = batch.entries(999);
        let (gap, held) = entries.split_last().expect("some");
        assert_eq!((held.len(), gap.at, gap.action.as_str()), (MAX_HELD, 999, "state"));
        assert!(gap.detail.as_ref().is_some_and(|detail| detail.starts_with("4 more before it were not kept")), "{gap:?}");
        assert!(held.is_sorted_by_key(|entry| entry.at) && held.iter().all(|entry| entry.kind != Kind::Health));
        assert_eq!(held.iter().filter(|entry| entry.kind == Kind::Change).count() as u64, 2 + (MAX_HELD as u64 + 4) / 2 - 1, "no change was lost");
        // Once told it is told.
        assert!(unkept.take_with(Vec::new()).is_none());
    }
}
