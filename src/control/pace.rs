//! What happens to overlays as time goes on: they begin at their start, ramps go on step by step, stand still while something is wrong, and turn
//! back when their target falls.
//!
//! ```text
//! waiting ── start, safety rules let it ──▶ ramping ── end, safety rules let it ──▶ in effect ── revert over ──▶ returning ──▶ (ended)
//!    │ a rule forbids it: waits on              │  ▲                                                               │  ▲
//!    ▼                                          ▼  │ all well again                                                ▼  │
//! waiting                                     holding: the target or a sibling got worse                          holding
//!                                               │                                                                 │
//!                                               └─ the target of a rising weight falls: (ended)                   └─ the target falls: in effect
//! ```
//!
//! Everything follows from times that are kept with the overlay, and from the steps that were taken: a restart goes on where the ramp was, however long
//! nobody was there. What was wrong when a ramp was first looked at does not hold it. A ramp without its target stands still, too.

use std::collections::BTreeSet;

use super::accepted::Ground;
use super::access;
use super::api::{Consequences, Forced, Hold, Overlay, Progress, Ramp, Setting, Who};
use super::audit::Entry;
use super::changes::went_past;
use super::compile::ZoneParts;
use super::overlays::{Change, Found, Laid, weight_now};
use super::state::ZoneState;
use super::who::ITSELF;
use super::writer::{Done, Writer};
use crate::store::{StoreError, Write};

/// Steps of a ramp: each is a new world, and one in a hundred of the traffic is little enough.
const STEPS: u64 = 100;
/// Plans that begin in one tick before there is a world with them: each is judged with all of the others that are in none yet.
const MAX_BEGUN: usize = 64;

impl Ramp {
    /// Seconds that its clock has run.
    fn elapsed(&self, now_unix: u64) -> u64 {
        let Some(began) = self.began else { return 0 };
        let stands = self.holding.as_ref().map_or(0, |hold| now_unix.saturating_sub(hold.since));
        now_unix.saturating_sub(began).saturating_sub(self.held).saturating_sub(stands)
    }

    /// Seconds from its start to its end, if nothing holds it from now on.
    pub(super) fn takes(&self, now_unix: u64) -> u64 {
        self.over + self.held + self.holding.as_ref().map_or(0, |hold| now_unix.saturating_sub(hold.since))
    }

    /// How far it is, 0 to 1, in steps; 1 only once it is done.
    pub(super) fn progress(&self, now_unix: u64) -> f64 {
        if self.done {
            return 1.0;
        }
        self.steps(now_unix) as f64 / STEPS as f64
    }

    /// Steps that it has taken, all but the last.
    fn steps(&self, now_unix: u64) -> u64 {
        (self.elapsed(now_unix) * STEPS / self.over.max(1)).min(STEPS - 1)
    }

    /// When it has taken so many steps, if nothing holds it from now on.
    fn step_at(&self, steps: u64, now_unix: u64) -> u64 {
        now_unix + (steps * self.over).div_ceil(STEPS).saturating_sub(self.elapsed(now_unix))
    }

    fn is_due(&self, now_unix: u64) -> bool {
        !self.done && self.elapsed(now_unix) >= self.over
    }

    /// The program was away, or somebody has set the clock: goes on from the step that was taken last.
    pub(super) fn resume(&mut self, now_unix: u64) {
        let Some(taken) = self.taken.map(u64::from).filter(|_| !self.done) else { return };
        let (here, steps) = ((taken * self.over).div_ceil(STEPS), self.steps(now_unix));
        if steps > taken {
            self.held += self.elapsed(now_unix).saturating_sub(here);
        } else if steps < taken {
            (self.began, self.held) = (Some(now_unix.saturating_sub(here)), 0);
            self.holding.iter_mut().for_each(|hold| hold.since = now_unix);
        }
    }

    /// Notes the steps that it has taken; true when they are more.
    fn take_steps(&mut self, now_unix: u64) -> bool {
        let taken = Some(self.steps(now_unix) as u8);
        std::mem::replace(&mut self.taken, taken) != taken
    }

    /// Stops its clock, or lets it run on; true when that is a change.
    fn hold(&mut self, why: Option<String>, now_unix: u64) -> bool {
        match (&mut self.holding, why) {
            (None, None) => false,
            (Some(hold), Some(why)) => {
                hold.why = why;
                false
            }
            (None, Some(why)) => {
                self.holding = Some(Hold { since: now_unix, why });
                true
            }
            (Some(hold), None) => {
                self.held += now_unix.saturating_sub(hold.since);
                self.holding = None;
                true
            }
        }
    }
}

impl Overlay {
    /// In effect, perhaps in part.
    pub(super) fn is_begun(&self) -> bool {
        self.began.is_some() || self.starts.is_none()
    }

    /// Its time is over. One that is on its way back ends when it is there, however long something holds it.
    pub(super) fn has_expired(&self, now_unix: u64) -> bool {
        self.back.is_none() && self.expires.is_some_and(|at| at <= now_unix)
    }

    /// One that is on its way back lasts until it is there.
    pub(super) fn last_until_back(&mut self, now_unix: u64) {
        if let (Some(back), Some(expires)) = (&self.back, &mut self.expires) {
            *expires = (*expires).max(back.step_at(STEPS, now_unix) + 1);
        }
    }

    /// The way that it is on: back, or to what it sets.
    fn way(&self) -> Option<&Ramp> {
        self.back.as_ref().or(self.ramp.as_ref().filter(|ramp| !ramp.done))
    }

    /// The same, to be changed.
    pub(super) fn way_mut(&mut self) -> Option<&mut Ramp> {
        self.back.as_mut().or(self.ramp.as_mut().filter(|ramp| !ramp.done))
    }

    /// Of one that sets the weight `to`: what it is so far on its way. On the way to 0 it keeps a part, however small: 0 is where it ends.
    pub(super) fn weight_at(&self, to: u16, progress: f64) -> u16 {
        let from = self.from.unwrap_or(to);
        let weight = (f64::from(from) + (f64::from(to) - f64::from(from)) * progress).round() as u16;
        if to == 0 && progress < 1.0 { weight.max(from.min(1)) } else { weight }
    }

    /// Where it is on its way, as of when it was moved on last; `None` when it is on none.
    pub(super) fn progress_at(&self, paced_unix: u64) -> Option<Progress> {
        let way = self.way().filter(|_| self.is_begun())?;
        let now_unix = paced_unix.max(way.began.unwrap_or(0));
        let done = way.steps(now_unix);
        let weight_after = |steps: u64| match self.set {
            Setting::Weight(to) if steps >= STEPS => Some(to),
            Setting::Weight(to) => Some(self.weight_at(to, steps as f64 / STEPS as f64)),
            _ => None,
        };
        let weight = weight_after(done);
        // Between weights that are near not every step changes something.
        let next = (done + 1..STEPS).find(|steps| weight.is_none() || weight_after(*steps) != weight).unwrap_or(STEPS);
        Some(Progress {
            percent: done as u8,
            weight,
            next_step: way.holding.is_none().then(|| way.step_at(next, now_unix)),
            end: way.step_at(STEPS, now_unix),
        })
    }

    /// Where it stands, in a word.
    pub(super) fn phase_word(&self) -> &'static str {
        match self.way() {
            _ if !self.is_begun() => "waiting",
            Some(ramp) if ramp.holding.is_some() => "holding",
            Some(_) if self.back.is_some() => "returning",
            Some(_) => "ramping",
            None => "in effect",
        }
    }
}

/// What is wrong around the target of a ramp.
#[derive(Debug, Default)]
struct Trouble {
    /// Something got worse.
    worse: Option<String>,
    /// The target fell.
    fallen: Option<String>,
}

/// What becomes of an overlay at a tick.
enum Step {
    /// Nothing.
    None,
    /// It changed; what to say in the log, if anything.
    Changed(Option<String>),
    /// It ends.
    End(String),
}

impl Writer {
    /// Moves everything on that moves with time.
    pub(super) fn pace(&mut self, now_unix: u64) {
        self.paced_unix = now_unix;
        let moving = self.book.moving(now_unix);
        if moving.is_empty() {
            return;
        }
        let mut begun = 0;
        self.accepted.ground = Some(Ground::default());
        for id in moving.iter().copied() {
            let Some(mut laid) = self.book.get(id).cloned() else { continue };
            let (key, has_begun) = (laid.found().map(Found::key), laid.overlay.is_begun());
            match self.step(&mut laid, now_unix) {
                Step::None => {
                    self.book.insert(laid);
                }
                Step::Changed(why) => {
                    let entry = why.map(|why| self.said(&laid.overlay, "overlay.step", &why));
                    self.keep_overlay(&laid.overlay, entry);
                    self.book.insert(laid);
                }
                Step::End(why) => {
                    let entry = self.said(&laid.overlay, "overlay.revert", &why);
                    self.book.remove(id);
                    let end = self.end_of(id, "reverted", ITSELF);
                    self.keep(vec![end], vec![entry]);
                }
            }
            // The next one is judged against what has become of this one.
            self.sum_up(key, now_unix);
            begun += usize::from(!has_begun && self.book.get(id).is_some_and(|laid| laid.overlay.is_begun()));
            if begun == MAX_BEGUN {
                begun = 0;
                self.publish();
                self.keep_moved();
                self.accepted.ground = Some(Ground::default());
            }
        }
        self.accepted.ground = None;
    }

    fn step(&mut self, laid: &mut Laid, now_unix: u64) -> Step {
        if !laid.overlay.is_begun() {
            return self.begin(laid, now_unix);
        }
        let known = laid.overlay.way().and_then(|ramp| ramp.failed_before.clone());
        let trouble = self.trouble(laid);
        let rises = matches!(laid.overlay.set, Setting::Weight(to) if to > laid.overlay.from.unwrap_or(to));
        let is_back = laid.overlay.back.is_some();
        if let (Some(why), true) = (&trouble.fallen, rises || is_back) {
            if !is_back {
                return Step::End(format!("{why} failed while its weight was rising: the change is taken back"));
            }
            laid.overlay.back = None;
            return Step::Changed(Some(format!("{why} failed while it was coming back: it is withdrawn again")));
        }
        let due = laid.overlay.way().is_some_and(|ramp| ramp.is_due(now_unix));
        let mut why = match laid.found() {
            Some(_) => trouble.worse.map(|worse| format!("{worse} got worse")),
            None => Some("what it is about is not there".into()),
        };
        let mut is_forbidden = false;
        if due && why.is_none() && !is_back {
            why = self.forbidden(&laid.ended());
            is_forbidden = why.is_some();
        }
        if due && why.is_none() && is_back {
            return Step::End("everything has come back".into());
        }
        let Some(ramp) = laid.overlay.way_mut() else { return Step::None };
        let said = why.clone().map_or("goes on".to_string(), |why| format!("stands still: {why}"));
        let is_free = why.is_none();
        let changed = ramp.hold(why, now_unix);
        ramp.done |= due && is_free;
        let has_moved = ramp.take_steps(now_unix) || ramp.failed_before != known;
        laid.overlay.last_until_back(now_unix);
        let ramp_done = laid.overlay.ramp.as_ref().is_some_and(|ramp| ramp.done) && !is_back;
        if changed && is_forbidden {
            self.tell_held(&laid.overlay, &said);
        }
        match changed || ramp_done || has_moved {
            true => Step::Changed(changed.then_some(said)),
            false => Step::None,
        }
    }

    /// The start of an overlay has come, unless a safety rule forbids it now.
    fn begin(&mut self, laid: &mut Laid, now_unix: u64) -> Step {
        // What it is about may come back.
        if laid.overlay.starts.is_none_or(|at| !self.has_come(at)) || laid.found().is_none() {
            return Step::None;
        }
        let is_open = laid.overlay.from.is_none();
        if let (Setting::Weight(_), Some(_), true, Some(found)) = (laid.overlay.set, &laid.overlay.ramp, is_open, laid.found()) {
            laid.overlay.from = weight_now(found, self.loaded(), &self.effects);
        }
        let change = [Change::Lay(Box::new(laid.clone()))];
        let (consequences, not_yet) = match self.rules_are_ready(&change) {
            // It begins when the zone is compiled without the rule.
            Ok(false) => return Step::None,
            Ok(true) => {
                let consequences = self.judge(&change);
                let broken = consequences.broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                (consequences, Some(broken).filter(|broken| !broken.is_empty() && !laid.overlay.break_glass))
            }
            Err(why) => (Consequences::default(), Some(why)),
        };
        if let Some(why) = not_yet {
            let why = format!("it should have begun, but {why}");
            if is_open {
                laid.overlay.from = None;
            }
            let was = laid.overlay.inactive.replace(why.clone());
            if was.is_none() {
                self.tell_held(&laid.overlay, &why);
            }
            return if was.as_ref() != Some(&why) { Step::Changed(Some(why)) } else { Step::None };
        }
        self.note_withdrawal(&consequences);
        let broke: Vec<String> = consequences.broken.iter().map(ToString::to_string).collect();
        // What it went past when it was laid was counted then.
        if !broke.is_empty() && laid.overlay.broke.is_empty() {
            self.registry.operations().safety_passed();
        }
        if !broke.is_empty() {
            laid.overlay.broke.clone_from(&broke);
        }
        laid.overlay.inactive = None;
        laid.overlay.began = Some(now_unix);
        if let Some(ramp) = &mut laid.overlay.ramp {
            ramp.began = Some(now_unix);
        }
        Step::Changed(Some(format!("began{}", went_past(&broke))))
    }

    /// Something is held that was planned: who planned it may be asleep.
    fn tell_held(&self, overlay: &Overlay, why: &str) {
        self.registry.operations().held_back();
        tracing::warn!(target: "meridian::control", overlay = overlay.id, about = overlay.target, why, "a planned change waits");
    }

    /// The safety rules that forbid an overlay, in a sentence.
    fn forbidden(&mut self, laid: &Laid) -> Option<String> {
        if laid.overlay.break_glass || matches!(laid.overlay.set, Setting::Ttl(_)) {
            return None;
        }
        let mut broken = self.judge(&[Change::Lay(Box::new(laid.clone()))]).broken;
        // It was counted when it was laid, or will be when it begins.
        broken.retain(|rule| laid.overlay.began.is_none() || !rule.rule.ends_with("/safety:max_changes"));
        (!broken.is_empty()).then(|| broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// Looks at the target and its siblings: the other pools of the names that consult it.
    fn trouble(&self, laid: &mut Laid) -> Trouble {
        let Some(found) = laid.found().cloned() else { return Trouble::default() };
        let endpoint = match &found {
            Found::Thing(id) => Some(id.clone()),
            _ => None,
        };
        let leaves = laid.overlay.back.is_none() && matches!(laid.overlay.set, Setting::State(Forced::Drain));
        let (mut sick, mut fallen) = (BTreeSet::new(), None);
        let around: Vec<&ZoneState> = match &found {
            Found::Thing(id) => self.loaded().around(id).filter_map(|zone| Some(&**self.zones.get(&zone.model.name)?)).collect(),
            found => found.zone().and_then(|zone| self.zones.get(zone)).map(|zone| &**zone).into_iter().collect(),
        };
        for zone in around {
            let targets = targets(&found, &zone.taken.parts);
            if targets.is_empty() {
                continue;
            }
            let siblings = zone.neighbours(&targets);
            // What is being left may fail.
            let looked_at = siblings.iter().chain(targets.iter().filter(|_| !leaves));
            sick.extend(looked_at.flat_map(|at| zone.sick(*at)));
            for at in &targets {
                let one = endpoint.as_ref().filter(|id| zone.model().pools[*at].endpoints.iter().any(|other| other.id == **id));
                fallen = fallen.or_else(|| zone.fallen(*at, one.map(|id| &**id)));
            }
        }
        let Some(way) = laid.overlay.way_mut() else { return Trouble::default() };
        let failed_before = way.failed_before.get_or_insert_with(|| sick.clone());
        failed_before.retain(|id| sick.contains(id));
        let worse = sick.difference(failed_before).next().cloned();
        Trouble { fallen: fallen.filter(|_| worse.is_some()), worse }
    }

    /// What became of an overlay by itself, said in the log and for the audit.
    pub(super) fn said(&self, overlay: &Overlay, action: &str, why: &str) -> Entry {
        let detail = Some(format!("overlay {}, {}: {why}", overlay.id, overlay.phase_word()));
        let entry = Entry { detail, after: serde_json::json!(overlay.set), ..self.entry(&Who::itself(), action, &overlay.target) };
        access::log(&entry);
        entry
    }

    /// Keeps an overlay as it stands, in the background.
    pub(super) fn keep_overlay(&self, overlay: &Overlay, entry: Option<Entry>) {
        self.keep(vec![Write::put_overlay(overlay)], entry.into_iter().collect());
    }

    /// Keeps what no request waits for.
    pub(super) fn keep(&self, writes: Vec<Write>, entries: Vec<Entry>) {
        if self.store.absent().is_some() {
            self.keep_entries(entries);
            return;
        }
        let batch = self.unkept.take_only(entries);
        let (kept, done) = (self.store.change(writes, batch.entries(self.clock.unix())), self.done_sender.clone());
        let unkept = self.unkept.clone();
        tokio::spawn(async move {
            match kept.await {
                // It ended meanwhile.
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    // It is in effect all the same.
                    unkept.give_back(batch);
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            }
        });
    }
}

/// The pools of a zone that a target is, or is made of.
fn targets(found: &Found, parts: &ZoneParts) -> Vec<usize> {
    let model = &parts.model;
    match found {
        Found::Thing(id) => parts.ids.pools_of(model, id),
        Found::Child(zone, policy, child) if *zone == model.name => {
            let child = super::overlays::policy_child(model, policy, child);
            child.map_or_else(Vec::new, |(_, child)| model.pools_below(child).into_iter().map(|ix| ix.0 as usize).collect())
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_counts_only_the_time_that_it_runs() {
        let mut ramp = Ramp { over: 200, ..Ramp::default() };
        assert_eq!((ramp.progress(5000), ramp.is_due(5000)), (0.0, false), "it has not begun");
        ramp.began = Some(1000);
        for (now, progress) in [(1000, 0.0), (1001, 0.0), (1002, 0.01), (1050, 0.25), (1199, 0.99), (1200, 0.99), (9999, 0.99)] {
            assert_eq!(ramp.progress(now), progress, "at {now}");
        }
        assert!(!ramp.is_due(1199) && ramp.is_due(1200));
        assert!(ramp.hold(Some("a sibling failed".into()), 1050) && !ramp.hold(Some("another failed".into()), 1060));
        assert_eq!((ramp.progress(1050), ramp.progress(1150), ramp.is_due(9999)), (0.25, 0.25, false), "it stands still");
        assert_eq!(ramp.holding.as_ref().map(|hold| hold.why.as_str()), Some("another failed"));
        assert!(ramp.hold(None, 1150) && !ramp.hold(None, 1151));
        assert_eq!((ramp.held, ramp.progress(1150), ramp.progress(1200)), (100, 0.25, 0.5));
        assert!(!ramp.is_due(1299) && ramp.is_due(1300));
        ramp.done = true;
        assert_eq!((ramp.progress(1), ramp.is_due(9999)), (1.0, false));
    }

    #[test]
    fn a_way_says_where_it_is_and_what_comes_next() {
        let way = |from, to, over| {
            let ramp = Ramp { over, began: Some(1000), ..Ramp::default() };
            Overlay { began: Some(1000), from: Some(from), ramp: Some(ramp), ..Overlay::of(1, "a/b/c", Setting::Weight(to)) }
        };
        let at = |overlay: &Overlay, now| {
            let progress = overlay.progress_at(now).expect("on its way");
            (progress.percent, progress.weight, progress.next_step, progress.end)
        };
        let canary = way(5, 50, 7200);
        // Half a unit after 1.1 hundredths of the way: the second step.
        assert_eq!(at(&canary, 1000), (0, Some(5), Some(1144), 8200));
        assert_eq!(at(&canary, 1144), (2, Some(6), Some(1288), 8200));
        assert_eq!(at(&canary, 4600), (50, Some(28), Some(4816), 8200));
        assert_eq!(at(&canary, 8199), (99, Some(50), Some(8200), 8200));
        let near = way(1, 3, 3);
        assert_eq!((at(&near, 1000), at(&near, 1001)), ((0, Some(1), Some(1001), 1003), (33, Some(2), Some(1003), 1003)));
        // Every second is as far as it says.
        for now in 1000..8200 {
            let (_, weight, next, _) = at(&canary, now);
            let next = next.expect("it moves");
            assert!(next > now && at(&canary, next - 1).1 == weight, "{now}");
        }
        let mut held = canary.clone();
        held.ramp = held.ramp.map(|ramp| Ramp { holding: Some(Hold { since: 4600, why: "it failed".into() }), ..ramp });
        assert_eq!(at(&held, 5600), (50, Some(28), None, 9200));
        let waits = Overlay { began: None, starts: Some(2000), ..canary };
        assert_eq!(waits.progress_at(1500), None);
        let drain = Overlay { set: Setting::State(Forced::Drain), ..way(0, 0, 200) };
        assert_eq!(at(&drain, 1005), (2, None, Some(1006), 1200));
    }
}
