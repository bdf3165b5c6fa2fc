//! A state file that another process had at the start is taken over once it is free: an earlier run that was slow to end, a backup. Until then
//! what it held is in force and every change was refused, so what it holds now is all there is.

use std::path::PathBuf;

use super::api::Refusal;
use super::audit::Entry;
use super::keeper::Keeper;
use super::keeping::Outlasting;
use super::overlays::Book;
use super::stalls::Progress;
use super::who::Who;
use super::writer::{Done, Writer};
use crate::dns::Name;
use crate::store::{Saved, Store, StoreError};

/// What is known of the state file itself.
#[derive(Debug, Default)]
pub(super) struct StateFile {
    /// It is being looked whether it is free, or still there.
    opening: bool,
    /// It was not where it was opened when last looked at.
    is_misplaced: bool,
    /// How the store gets on.
    pub(super) progress: Progress,
    /// Nobody could read what was kept: it may be anything.
    pub(super) is_unknown: bool,
}

impl StateFile {
    /// As it was when it was opened.
    pub(super) fn new(is_unknown: bool) -> StateFile {
        StateFile { is_unknown, ..StateFile::default() }
    }
}

impl Writer {
    /// Looks whether the file that is open is where it was, or one that was not free is free by now; the answer comes back as [`Done::Looked`] or
    /// [`Done::Opened`].
    pub(super) fn look_for_store(&mut self) {
        if self.store.absent().is_none() && !self.file.opening {
            self.file.opening = true;
            let (store, done) = (self.store.clone(), self.done_sender.clone());
            tokio::spawn(async move { done.send(Done::Looked(store.look().await)).is_ok() });
            return;
        }
        let Some(path) = self.store.awaited().filter(|_| !self.file.opening).map(PathBuf::from) else { return };
        self.file.opening = true;
        let done = self.done_sender.clone();
        tokio::task::spawn_blocking(move || done.send(Done::Opened(Box::new(Store::open(&path)))).is_ok());
    }

    /// The file that is open is where it was, or was not.
    pub(super) fn take_looked(&mut self, looked: Result<Option<String>, StoreError>) {
        self.file.opening = false;
        match looked {
            Ok(mended) => {
                if std::mem::take(&mut self.file.is_misplaced) {
                    self.store_trouble = None;
                }
                if let Some(detail) = mended {
                    tracing::warn!(target: "meridian::store", detail);
                    self.note(Entry { detail: Some(detail), ..self.entry(&Who::itself(), "state", "") });
                }
            }
            Err(StoreError::Closed | StoreError::Absent { .. }) => {}
            Err(error) => {
                self.file.is_misplaced = true;
                self.take_done(Done::Trouble(error.to_string()));
            }
        }
    }

    /// Fails when nobody could read what was kept.
    pub(super) fn know_state(&self) -> Result<(), Refusal> {
        match self.store.absent().filter(|_| self.file.is_unknown) {
            Some(why) => Err(Refusal::Unread { detail: why.to_owned() }),
            None => Ok(()),
        }
    }

    pub(super) fn take_opened(&mut self, opened: Result<(Store, Saved), StoreError>) {
        self.file.opening = false;
        match opened {
            Ok((store, saved)) => self.take_store(store, saved),
            Err(StoreError::Locked { .. }) => {}
            // Free, but of no use: what was read at the start stays in force.
            Err(error) => {
                tracing::error!(target: "meridian::store", %error, "the state file is free, but cannot be used");
                self.store = Store::none(format!("{error}; serving with what was read before"));
            }
        }
    }

    /// From now on changes are kept. What whoever had the file has changed in it is in force at once.
    fn take_store(&mut self, store: Store, saved: Saved) {
        self.keeper = Keeper::start(store.clone(), saved.versions, self.done_sender.clone());
        self.store = store;
        self.let_ages_count();
        self.store_trouble = None;
        self.file.is_unknown = false;
        self.tell_news(saved.revision);
        self.ends.tokens.replace(saved.tokens);
        self.next_overlay_id = self.next_overlay_id.max(saved.next_overlay_id);
        self.ended = saved.ended;
        let withdrawals = saved.withdrawals.into_iter().filter_map(|(zone, times)| Some((Name::parse_absolute(&zone).ok()?, times.into())));
        self.withdrawals = withdrawals.collect();
        self.book = Book::of(saved.overlays, self.clock.unix());
        self.serials = saved.serials;
        for name in self.zones.keys().cloned().collect::<Vec<_>>() {
            self.take_serial(&name);
        }
        let answered = self.outlasting.answered;
        self.start_floor = self.start_floor.max(saved.ttls.runs_out(self.clock.unix()));
        self.outlasting = Outlasting::of(saved.holds, saved.keeping, saved.freezes, saved.ttls);
        self.outlasting.answered = saved.ttls.with(answered);
        self.expire_overlays(self.clock.unix());
        self.find_overlays(false, None);
        self.rules.move_on();
        let detail = "the state file is free and was taken over; changes are kept again";
        tracing::info!(target: "meridian::store", detail);
        self.note(Entry { detail: Some(detail.into()), ..self.entry(&Who::itself(), "state", "") });
    }

    /// Nobody has seen a higher serial than the one that goes on from here.
    fn take_serial(&mut self, name: &Name) {
        let saved = self.serials.get(&name.to_string()).cloned();
        let Some(zone) = self.zones.get_mut(name) else { return };
        if let Some(saved) = saved.filter(|saved| saved.serial > zone.serial) {
            zone.serial = saved.serial.saturating_add(u32::from(saved.content != zone.serial_content));
            self.mark_whole(name.clone());
        }
        self.keep_serial(name);
        if let Some(zone) = self.zones.get(name).filter(|zone| zone.kept_why.is_none()) {
            self.keeper.keep(&zone.taken.loaded, &Default::default());
        }
    }
}
