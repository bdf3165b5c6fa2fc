//! What the writer keeps for the next start, in the background: verdicts of checks, what failback holds, serials. Nobody waits for it; what goes
//! wrong comes back as [`Done::Trouble`].

use super::writer::{Done, Writer};
use crate::dns::Name;
use crate::store::Serial;

impl Writer {
    /// Keeps what checks came to, in the background.
    pub(super) fn keep_verdicts(&mut self) {
        let verdicts = self.checks.take_changed(self.clock.now(), self.clock.unix());
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

    /// Keeps what failback holds, so that traffic does not come back by a restart. One write at a time: a later list never loses to an earlier one.
    pub(super) fn keep_holds(&mut self) {
        if !self.holds_moved || self.keeping_holds || self.store.absent().is_some() {
            return;
        }
        self.holds_moved = false;
        let holds: Vec<String> = self.zones.values().flat_map(|zone| zone.holds()).collect();
        if holds == self.saved_holds {
            return;
        }
        self.keeping_holds = true;
        self.saved_holds.clone_from(&holds);
        let (store, done) = (self.store.clone(), self.done_sender.clone());
        tokio::spawn(async move {
            let result = store.put_holds(&holds).await.map_err(|error| error.to_string());
            let _ = done.send(Done::HoldsKept(result));
        });
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
