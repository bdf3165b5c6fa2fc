//! From the book of overlays to what they come to, and whether safety rules let a change of it through.
//!
//! A change is judged against everything that is accepted, on disk or on its way there, so that of two requests at the same time that are
//! harmless alone and harmful together only one passes.

use std::sync::Arc;

use super::access;
use super::api::{Amend, Consequences, Difference, Lift, NewOverlay, Overlay, Refusal, Who};
use super::audit::Entry;
use super::changes::{no_overlay, went_past};
use super::compile::ZoneParts;
use super::overlays::{self, Change, Effects};
use super::state::Surroundings;
use super::who::ITSELF;
use super::writer::{Done, Writer, unix_now};
use super::{reload, safety};
use crate::dns::Name;
use crate::policy::model::ZoneModel;
use crate::store::Write;

impl Writer {
    fn parts(&self) -> Vec<Arc<ZoneParts>> {
        self.zones.values().map(|zone| zone.taken.parts.clone()).collect()
    }

    /// Checks a request against what is loaded.
    pub(super) fn admit(&self, new: NewOverlay, who: &Who) -> Result<Change, Refusal> {
        let zones: Vec<&ZoneParts> = self.zones.values().map(|zone| &*zone.taken.parts).collect();
        let held = self.book.len() + self.pending.len();
        let around = overlays::Around { zones: &zones, effects: &self.effects, held, now_unix: unix_now() };
        overlays::admit(new, who, self.next_overlay_id, &around).map(|laid| Change::Lay(Box::new(laid)))
    }

    /// Checks a request to take an overlay back.
    pub(super) fn may_lift(&self, id: u64, lift: &Lift, who: &Who) -> Result<Change, Refusal> {
        let laid = self.book.get(id).ok_or_else(|| no_overlay(id))?;
        who.may_change(&laid.overlay.target)?;
        let reason = lift.reason.as_deref().map(|reason| overlays::check_reason(reason).map(|_| ()));
        match reason {
            None if lift.break_glass => overlays::check_reason("").map(|_| ())?,
            reason => reason.unwrap_or(Ok(()))?,
        }
        match &lift.over {
            None => Ok(Change::Lift(id)),
            Some(over) => overlays::turn_back(laid, over, unix_now()).map(|laid| Change::Lay(Box::new(laid))),
        }
    }

    /// Checks a request to change an overlay that is laid.
    pub(super) fn may_amend(&self, id: u64, amend: &Amend, who: &Who) -> Result<Change, Refusal> {
        let laid = self.book.get(id).ok_or_else(|| no_overlay(id))?;
        who.may_change(&laid.overlay.target)?;
        overlays::amend(laid, amend, unix_now()).map(|laid| Change::Lay(Box::new(laid)))
    }

    /// What is not as the files say.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let parts = self.parts();
        let parts: Vec<&ZoneParts> = parts.iter().map(|parts| &**parts).collect();
        overlays::differences(&self.book, &self.effects, &parts)
    }

    /// Lets a change through, or says which rules forbid it; with `break_glass` it goes through and the rules are named.
    pub(super) fn within_safety(&mut self, change: Change, break_glass: bool) -> Result<(Change, Vec<String>), Refusal> {
        let consequences = self.judge(std::slice::from_ref(&change));
        if !consequences.broken.is_empty() && !break_glass {
            return Err(Refusal::Safety { broken: consequences.broken });
        }
        // One that begins later is counted then.
        if !matches!(&change, Change::Lay(laid) if !laid.overlay.is_begun()) {
            self.note_withdrawal(&consequences);
        }
        Ok((change, consequences.broken.iter().map(ToString::to_string).collect()))
    }

    /// What changes would do, on top of everything that is accepted.
    pub(super) fn judge(&self, changes: &[Change]) -> Consequences {
        let before = match self.pending.is_empty() {
            true => None,
            false => Some(self.book.effects_after(self.pending.values(), unix_now())),
        };
        let before = before.as_ref().unwrap_or(&self.effects);
        let after = self.book.effects_after(self.pending.values().chain(changes), unix_now());
        // What is on its way to the disk is not to be seen yet either.
        let differing = after.differing(&self.effects).and(before.differing(&self.effects));
        let (now, now_unix) = (self.started.elapsed(), unix_now());
        let around = |effects| Surroundings { checks: &self.checks, effects, now, now_unix, slot: &|_| 0 };
        let (before, after) = (around(before), around(&after));
        let touched = self.zones.iter().filter(|(_, zone)| differing.touches(zone.model()));
        let proposed = touched.map(|(name, zone)| zone.proposed(&before, &after, &differing, self.recent(name, zone.model(), now_unix)));
        let mut consequences = safety::judge(&proposed.collect::<Vec<_>>());
        self.judge_rules(changes, &mut consequences);
        consequences
    }

    /// Withdrawals within the window.
    fn recent(&self, zone: &Name, model: &ZoneModel, now_unix: u64) -> usize {
        let Some((_, per)) = model.safety.max_changes else { return 0 };
        let since = now_unix.saturating_sub(per.as_secs());
        self.withdrawals.get(zone).map_or(0, |times| times.iter().filter(|at| **at > since).count())
    }

    /// Counts a withdrawal for the zones that limit them, here and on disk.
    pub(super) fn note_withdrawal(&mut self, consequences: &Consequences) {
        let now_unix = unix_now();
        let mut writes = Vec::new();
        for share in &consequences.zones {
            let Ok(name) = Name::parse_absolute(&share.zone).map(|name| name.to_lowercase()) else { continue };
            let Some((_, per)) = self.zones.get(&name).and_then(|zone| zone.model().safety.max_changes) else { continue };
            let since = now_unix.saturating_sub(per.as_secs());
            writes.push(Write::Withdrawal { zone: name.to_string(), at: now_unix, since });
            let times = self.withdrawals.entry(name).or_default();
            times.push_back(now_unix);
            while times.front().is_some_and(|at| *at <= since) {
                times.pop_front();
            }
        }
        if !writes.is_empty() {
            self.keep(writes, Vec::new());
        }
    }

    /// A change waits for the disk; returns its ticket.
    pub(super) fn pend(&mut self, change: Change) -> u64 {
        self.next_ticket += 1;
        self.pending.insert(self.next_ticket, change);
        self.next_ticket
    }

    /// The files may have changed: finds again what overlays are about, and sums them up.
    pub(super) fn find_overlays(&mut self, first: bool) {
        let parts = self.parts();
        let parts: Vec<&ZoneParts> = parts.iter().map(|parts| &**parts).collect();
        self.book.find_again(&parts);
        if first {
            let longest = parts.iter().flat_map(|zone| &zone.model.steers).map(|steer| steer.ttl.max).max().unwrap_or(0);
            self.start_floor = unix_now() + u64::from(longest) + 1;
        }
        self.apply_overlays();
    }

    /// Sums the overlays up again; zones that look different under them become dirty.
    pub(super) fn apply_overlays(&mut self) {
        let effects = self.book.effects(unix_now());
        self.take_effects(effects);
    }

    fn take_effects(&mut self, effects: Effects) {
        let before = std::mem::replace(&mut self.effects, effects);
        let differing = self.effects.differing(&before);
        let touched: Vec<Name> = self.zones.iter().filter(|(_, zone)| differing.touches(zone.model())).map(|(name, _)| name.clone()).collect();
        for name in touched {
            if let Some(zone) = self.zones.get_mut(&name) {
                zone.follow(&self.effects, &differing);
            }
            reload::move_serial(self, &name);
            self.mark_whole(name);
        }
    }

    /// Ends overlays whose time is over: at once for answers, on disk as soon as it takes writes. Should that fail, the next start ends them again.
    pub(super) fn expire_overlays(&mut self, now_unix: u64) {
        let expired: Vec<u64> =
            self.book.overlays().filter(|overlay| overlay.expires.is_some_and(|at| at <= now_unix)).map(|overlay| overlay.id).collect();
        if expired.is_empty() {
            return;
        }
        // Time cannot be refused. What it breaks is said.
        let changes: Vec<Change> = expired.iter().map(|id| Change::Lift(*id)).collect();
        let consequences = self.judge(&changes);
        if !consequences.broken.is_empty() {
            let broke: Vec<String> = consequences.broken.iter().map(ToString::to_string).collect();
            tracing::warn!(target: "meridian::control", overlays = ?expired, broke = broke.join("; "), "overlays expired, and what they held up is withdrawn");
            let detail = format!("overlays {expired:?} expired, and what they held up is withdrawn{}", went_past(&broke));
            self.note(Entry { detail: Some(detail), ..self.entry(&Who::itself(), "safety", "") });
        }
        self.note_withdrawal(&consequences);
        let ended: Vec<Overlay> = expired.iter().filter_map(|id| self.book.remove(*id)).collect();
        self.apply_overlays();
        for overlay in ended {
            let entry = self.entry(&Who::itself(), "overlay.expire", &overlay.target);
            let detail = Some(format!("overlay {}", overlay.id));
            let entry = Entry { before: serde_json::json!(overlay.set), detail, ..entry };
            access::log(&entry);
            if self.store.absent().is_some() {
                continue;
            }
            let end = Write::EndOverlay { id: overlay.id, how: "expired".into(), by: ITSELF.into(), at: now_unix };
            let (kept, done) = (self.store.change(vec![end], vec![entry]), self.done_sender.clone());
            tokio::spawn(async move {
                if let Err(error) = kept.await {
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            });
        }
    }
}
