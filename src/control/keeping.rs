//! What the writer keeps for the next start, in the background: verdicts of checks, what failback holds, what safety rules keep, last good answers, freezes, how
//! long answers may be cached, serials. Nobody waits for it; what goes wrong comes back as [`Done::Trouble`].

use std::collections::BTreeMap;

use super::compile::ZoneParts;
use super::state::ZoneState;
use super::writer::{Done, Writer};
use crate::dns::Name;
use crate::store::{SavedKeeping, SavedTtls, Serial, Store, StoreError, Verdict};

/// What failback holds and safety rules keep, as the store has it: traffic does not come back by a restart, and last resorts stay what they are.
#[derive(Debug)]
pub(super) struct Outlasting {
    holds: Vec<String>,
    keeping: BTreeMap<String, SavedKeeping>,
    freezes: BTreeMap<String, u64>,
    ttls: SavedTtls,
    /// What caches may hold, as of now.
    pub(super) answered: SavedTtls,
    /// It may be other than that by now.
    pub(super) moved: bool,
    /// A write is under way.
    writing: bool,
}

impl Outlasting {
    /// As it was kept.
    pub(super) fn of(holds: Vec<String>, keeping: BTreeMap<String, SavedKeeping>, freezes: BTreeMap<String, u64>, ttls: SavedTtls) -> Outlasting {
        Outlasting { holds, keeping, freezes, ttls, answered: ttls, moved: true, writing: false }
    }

    /// Gives a zone what was kept of it.
    pub(super) fn restore(&self, zone: &mut ZoneState) {
        zone.restore_holds(&self.holds);
        if let Some(keeping) = self.keeping.get(&zone.model().name.to_string()) {
            zone.keeping.restore(keeping);
            zone.remember(&keeping.answers);
        }
    }
}

/// What is other than it was kept.
struct Moved {
    holds: Option<Vec<String>>,
    keeping: Option<BTreeMap<String, SavedKeeping>>,
    freezes: Option<BTreeMap<String, u64>>,
    ttls: Option<SavedTtls>,
}

impl Moved {
    fn is_none(&self) -> bool {
        self.holds.is_none() && self.keeping.is_none() && self.freezes.is_none() && self.ttls.is_none()
    }

    async fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let mut result = Ok(());
        if let Some(holds) = &self.holds {
            result = store.put_holds(holds).await;
        }
        if let Some(keeping) = &self.keeping {
            result = result.and(store.put_keeping(keeping).await);
        }
        if let Some(freezes) = &self.freezes {
            result = result.and(store.put_freezes(freezes).await);
        }
        if let Some(ttls) = self.ttls {
            result = result.and(store.put_ttls(ttls).await);
        }
        result
    }
}

/// What something is now, if that is another than before.
fn moved<T: Clone + PartialEq>(before: &mut T, now: T) -> Option<T> {
    (*before != now).then(|| {
        before.clone_from(&now);
        now
    })
}

/// What is kept of a zone beside its holds; nothing where there is nothing to keep.
fn saved(zone: &ZoneState) -> Option<(String, SavedKeeping)> {
    let saved = SavedKeeping { answers: zone.saved_last_good(), ..zone.keeping.saved() };
    (saved != SavedKeeping::default()).then(|| (zone.model().name.to_string(), saved))
}

impl Writer {
    /// Keeps what checks came to, in the background.
    pub(super) fn keep_verdicts(&mut self) {
        self.checks.keep_words(self.clock.unix());
        let verdicts = self.checks.take_changed(self.clock.now(), self.ahead.dated(&self.clock));
        self.put_verdicts(verdicts);
    }

    /// Keeps the states that have just changed, so that a fall outlasts a crash at any later instant.
    pub(super) fn keep_moved(&mut self) {
        let verdicts = self.checks.take_moved(self.clock.now(), self.ahead.dated(&self.clock));
        self.put_verdicts(verdicts);
    }

    fn put_verdicts(&self, verdicts: Vec<Verdict>) {
        if self.store.absent().is_some() || verdicts.is_empty() {
            return;
        }
        let (store, done) = (self.store.clone(), self.done_sender.clone());
        tokio::spawn(async move {
            if let Err(error) = store.put_verdicts(verdicts).await {
                let _ = done.send(Done::Trouble(error.to_string()));
            }
        });
    }

    /// Keeps what failback holds and what safety rules keep. One write at a time: a later list never loses to an earlier one.
    pub(super) fn keep_outlasting(&mut self) {
        if !self.outlasting.moved || self.outlasting.writing || self.store.absent().is_some() {
            return;
        }
        let moved = self.take_outlasting();
        if moved.is_none() {
            return;
        }
        self.outlasting.writing = true;
        let (store, done) = (self.store.clone(), self.done_sender.clone());
        tokio::spawn(async move {
            let result = moved.keep(&store).await;
            let _ = done.send(Done::OutlastingKept(result.map_err(|error| error.to_string())));
        });
    }

    pub(super) fn take_outlasting_kept(&mut self, result: Result<(), String>) {
        self.outlasting.writing = false;
        if let Err(detail) = result {
            self.take_done(Done::Trouble(detail));
        }
        // What moved meanwhile.
        self.keep_outlasting();
    }

    /// The same at the end.
    pub(super) async fn keep_outlasting_last(&mut self) {
        let _ = self.take_outlasting().keep(&self.store).await;
    }

    /// All of it.
    #[cfg(test)]
    pub(super) fn outlasting_now(&mut self) -> crate::store::Saved {
        self.take_outlasting();
        let Outlasting { holds, keeping, freezes, .. } = &self.outlasting;
        crate::store::Saved { holds: holds.clone(), keeping: keeping.clone(), freezes: freezes.clone(), ..crate::store::Saved::default() }
    }

    /// What is other than it was kept.
    fn take_outlasting(&mut self) -> Moved {
        let kept = &mut self.outlasting;
        kept.moved = false;
        let holds: Vec<String> = self.zones.values().flat_map(|zone| zone.holds()).collect();
        let keeping: BTreeMap<String, SavedKeeping> = self.zones.values().filter_map(|zone| saved(zone)).collect();
        let freezes = self.checks.freezes.iter().map(|(group, since)| (group.word().to_owned(), *since)).collect();
        Moved {
            holds: moved(&mut kept.holds, holds),
            keeping: moved(&mut kept.keeping, keeping),
            freezes: moved(&mut kept.freezes, freezes),
            ttls: moved(&mut kept.ttls, kept.answered),
        }
    }

    /// What is answered from now on may live shorter than what was: remembers until when caches may hold that, and at the start that nothing is
    /// safe before. The other zones are as they were when one is looked at `alone`.
    pub(super) fn note_longest_ttl(&mut self, first: bool, alone: Option<&Name>) {
        let now_unix = self.clock.unix();
        let before = self.outlasting.answered;
        let of = |zone: &ZoneParts| zone.model.steers.iter().map(|steer| steer.ttl.max).max().unwrap_or(0);
        let longest = match alone {
            Some(name) => self.loaded().get(name).map_or(0, of).max(before.longest),
            None => self.loaded().iter().map(of).max().unwrap_or(0),
        };
        let until = if longest < before.longest { before.runs_out(now_unix) } else { before.until };
        let now = SavedTtls { longest, until };
        if first {
            self.start_floor = before.runs_out(now_unix).max(now.runs_out(now_unix));
        }
        self.outlasting.answered = now;
        self.outlasting.moved |= now != self.outlasting.ttls;
    }

    /// Keeps a zone's serial for the next start, in the background.
    pub(super) fn keep_serial(&mut self, name: &Name) {
        let (Some(zone), None) = (self.zones.get(name), self.store.absent()) else { return };
        let serial = Serial { serial: zone.serial, content: zone.serial_content.clone() };
        let name = name.to_string();
        if self.serials.insert(name.clone(), serial.clone()).as_ref() != Some(&serial) {
            self.keeper.keep_serial(name, serial);
        }
    }
}
