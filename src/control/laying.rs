//! From the book of overlays to what they come to, and whether safety rules let a change of it through. What a change costs goes with what it is
//! about, not with what is loaded or laid.
//!
//! A change is judged against everything that is accepted ([`super::accepted`]), on disk or on its way there, at its end or on its way, so that of
//! two requests that are harmless alone and harmful together only one passes.

use std::collections::{BTreeMap, HashMap};

use super::accepted::Base;
use super::access;
use super::api::{Amend, Consequences, Difference, Forced, Lift, NewOverlay, Refusal, Role, Who};
use super::audit::Entry;
use super::changes::went_past;
use super::compile::ZoneParts;
use super::loaded::{Loaded, own_zone};
use super::overlays::{self, Change, Course, Effects, Found, Laid, Sum, policy_child};
use super::safety::{self, MAX_LISTED, Proposed};
use super::state::{Look, ZoneState};
use super::text;
use super::who::ITSELF;
use super::writer::Writer;
use crate::dns::Name;
use crate::policy::model::ZoneModel;
use crate::policy::plan::View;
use crate::store::Write;

/// A change that safety rules let through.
pub(super) struct Safe {
    pub(super) change: Change,
    /// The rules that it goes past.
    pub(super) broke: Vec<String>,
    /// What whoever asks may not mean.
    pub(super) warnings: Vec<String>,
}

/// Changes by what they are about.
type ByKey<'a> = HashMap<Found, Vec<&'a Change>>;

/// What is judged.
struct Proposal<'a> {
    /// What has happened by then.
    given: ByKey<'a>,
    changes: ByKey<'a>,
    /// Unix seconds.
    at_unix: u64,
}

/// An overlay that is changed to end within so many seconds is taken back in all but name.
const AT_ONCE_S: u64 = 300;

impl Writer {
    /// What requests are found in.
    pub(super) fn loaded(&self) -> Loaded<'_> {
        Loaded(&self.zones)
    }

    /// Checks a request against what is loaded.
    pub(super) fn admit(&self, new: NewOverlay, who: &Who) -> Result<Change, Refusal> {
        let held = self.book.len() + self.pending.len();
        let around = overlays::Around { zones: self.loaded(), effects: &self.effects, held, now_unix: self.clock.unix() };
        overlays::admit(new, who, self.next_overlay_id, &around).map(|laid| Change::Lay(Box::new(laid)))
    }

    /// An overlay that they may change. One beyond their zones is not there for them, as when they look.
    pub(super) fn laid_for(&self, id: u64, who: &Who) -> Result<&Laid, Refusal> {
        who.needs(Role::Operate)?;
        let laid = self.book.get(id).filter(|laid| who.covers(&laid.overlay.target));
        laid.ok_or_else(|| self.no_overlay(id, who))
    }

    /// Checks a request to take an overlay back.
    pub(super) fn may_lift(&self, id: u64, lift: &Lift, who: &Who) -> Result<Change, Refusal> {
        let laid = self.laid_for(id, who)?;
        let reason = lift.reason.as_deref().map(|reason| text::check_reason(reason).map(|_| ()));
        match reason {
            None if lift.break_glass => text::check_reason("").map(|_| ())?,
            reason => reason.unwrap_or(Ok(()))?,
        }
        match &lift.over {
            None => Ok(Change::Lift(id)),
            Some(over) => overlays::turn_back(laid, over, self.clock.unix()).map(|laid| Change::Lay(Box::new(laid))),
        }
    }

    /// The same, against what whoever asks has seen as well.
    pub(super) fn may_lift_as_seen(&mut self, id: u64, lift: &Lift, who: &Who) -> Result<Change, Refusal> {
        let change = self.may_lift(id, lift, who)?;
        self.is_as_seen(lift.seen.as_ref(), Some(id), None, who).map(|()| change)
    }

    /// Checks a request to change an overlay that is laid.
    pub(super) fn may_amend(&self, id: u64, amend: &Amend, who: &Who) -> Result<Change, Refusal> {
        let laid = self.laid_for(id, who)?;
        overlays::amend(laid, amend, self.clock.unix()).map(|laid| Change::Lay(Box::new(laid)))
    }

    /// A change of an overlay that lets it end at once is judged as its end.
    pub(super) fn ends_safely(&mut self, id: u64, change: Change) -> Result<Change, Refusal> {
        let (Change::Lay(laid), Some(was)) = (&change, self.book.get(id)) else { return Ok(change) };
        let ends = |laid: &Laid| laid.overlay.expires.unwrap_or(u64::MAX);
        if ends(laid) >= ends(was) || ends(laid) > self.clock.unix() + AT_ONCE_S {
            return Ok(change);
        }
        let broken = self.judge(&[Change::Lift(id)]).broken;
        if broken.is_empty() { Ok(change) } else { Err(Refusal::Safety { broken }) }
    }

    /// What is not as the files say.
    pub(super) fn differences(&self) -> Vec<Difference> {
        overlays::differences(&self.book, &self.effects, self.loaded())
    }

    /// Lets a change through, or says which rules forbid it; with `break_glass` it goes through and the rules are named.
    pub(super) fn within_safety(&mut self, change: Change, break_glass: bool) -> Result<Safe, Refusal> {
        let (given, at_unix) = self.given_at_start(&change);
        let consequences = self.judge_after(&given, std::slice::from_ref(&change), at_unix);
        if !consequences.broken.is_empty() && !break_glass {
            return Err(Refusal::Safety { broken: consequences.broken });
        }
        if !consequences.broken.is_empty() {
            self.registry.operations().safety_passed();
        }
        // One that begins later is counted then.
        if !matches!(&change, Change::Lay(laid) if !laid.overlay.is_begun()) {
            self.note_withdrawal(&consequences);
        }
        let broke = consequences.broken.iter().map(ToString::to_string).collect();
        let mut warnings = self.warnings_before(&change);
        warnings.extend(consequences.warnings);
        Ok(Safe { change, broke, warnings })
    }

    /// What changes would do, on top of everything that is accepted.
    pub(super) fn judge(&mut self, changes: &[Change]) -> Consequences {
        self.judge_after(&[], changes, self.clock.unix())
    }

    /// The same at a later time, once everything that is `given` has happened.
    pub(super) fn judge_after(&mut self, given: &[Change], changes: &[Change], at_unix: u64) -> Consequences {
        let proposal = Proposal { given: self.by_key(given), changes: self.by_key(changes), at_unix };
        let mut looks: BTreeMap<Name, Look> = BTreeMap::new();
        proposal.changes.keys().for_each(|key| self.note_look(key, &mut looks));
        // One that was never published is not seen yet.
        looks.retain(|name, _| self.zones.get(name).is_some_and(|zone| zone.world.is_some()));
        let mut ground = self.accepted.ground.take();
        let mut bases: BTreeMap<Name, Base> = BTreeMap::new();
        for name in looks.keys() {
            let known = ground.as_mut().and_then(|ground| ground.take(name));
            bases.insert(name.clone(), known.unwrap_or_else(|| self.base_of(name)));
        }
        let mut all = Consequences::default();
        let courses = self.accepted.courses(given.iter().chain(changes));
        for (at, course) in courses.iter().enumerate() {
            let mut effects = std::mem::take(&mut self.accepted.of[at]);
            all.join(self.judge_on(&mut effects, (at, *course), &proposal, &looks, &mut bases), MAX_LISTED);
            self.accepted.of[at] = effects;
        }
        ground.iter_mut().for_each(|ground| ground.keep(std::mem::take(&mut bases), courses.len()));
        self.accepted.ground = ground;
        self.judge_rules(changes, &mut all);
        all
    }

    fn by_key<'c>(&self, changes: &'c [Change]) -> ByKey<'c> {
        let mut all = ByKey::new();
        for change in changes {
            change.key(&self.book).into_iter().for_each(|key| all.entry(key).or_default().push(change));
        }
        all
    }

    /// What of a zone does not look as it is published: what is on its way, to the disk or to its end, and what has just begun or ended.
    fn base_of(&self, name: &Name) -> Base {
        let mut looks = BTreeMap::new();
        self.accepted.apart().for_each(|key| self.note_look(key, &mut looks));
        let mut unseen = looks.remove(name).unwrap_or_default();
        if let (Some(zone), Some(dirt)) = (self.zones.get(name), self.dirty.get(name)) {
            unseen.children |= dirt.children || dirt.whole;
            unseen.pools.extend((0..zone.model().pools.len()).filter(|at| dirt.whole || dirt.pools.contains(at)));
        }
        Base::of(unseen)
    }

    /// What changes would do on top of what is accepted, by one course. The changes are put into these effects, looked at, and taken out again.
    fn judge_on(
        &self,
        effects: &mut Effects,
        (at, course): (usize, Course),
        proposal: &Proposal<'_>,
        looks: &BTreeMap<Name, Look>,
        bases: &mut BTreeMap<Name, Base>,
    ) -> Consequences {
        let Proposal { given, changes, at_unix } = proposal;
        let now_unix = self.clock.unix();
        let sum = |key: &Found, changes: &[&ByKey<'_>]| {
            let changes = changes.iter().filter_map(|changes| changes.get(key)).flatten().copied();
            self.book.sum(key, course, self.pending.values(), changes, now_unix)
        };
        for (name, base) in bases.iter_mut() {
            self.zones.get(name).into_iter().for_each(|zone| base.look(zone, at, &self.around(effects)));
        }
        let zones = looks.iter().filter_map(|(name, look)| Some((&**self.zones.get(name)?, look, bases.get(name)?)));
        let zones: Vec<(&ZoneState, &Look, &Base)> = zones.collect();
        let mut were: Vec<(Sum, &Found)> = given.keys().map(|key| (effects.put(key, sum(key, &[given])), key)).collect();
        let mut given_looks = BTreeMap::new();
        given.keys().for_each(|key| self.note_look(key, &mut given_looks));
        let none = Look::default();
        let given_look = |zone: &ZoneState| given_looks.get(&zone.model().name).unwrap_or(&none);
        let before = |(zone, look, base): &(&ZoneState, &Look, &Base)| {
            let looks = [look, given_look(zone)];
            zone.seen_under(base.view(at, zone), looks, &self.around(effects))
        };
        let views: Vec<View> = zones.iter().map(before).collect();
        were.extend(changes.keys().map(|key| (effects.put(key, sum(key, &[given, changes])), key)));
        let zones = zones.into_iter().zip(views).map(|((zone, look, base), before)| {
            let recent = self.recent(&zone.model().name, zone.model(), *at_unix);
            let after = zone.seen_under(&before, [look, &none], &self.around(effects));
            zone.proposed([look, &base.unseen, given_look(zone)], before, after, recent)
        });
        let proposed: Vec<Proposed> = zones.collect();
        for (sum, key) in were.into_iter().rev() {
            effects.put(key, sum);
        }
        safety::judge(&proposed)
    }

    /// What a change of a target may make look different, zone by zone.
    fn note_look(&self, key: &Found, looks: &mut BTreeMap<Name, Look>) {
        match key {
            Found::Thing(id) => {
                for zone in self.loaded().around(id) {
                    let found = zone.ids.pools_of(&zone.model, id);
                    if !found.is_empty() {
                        looks.entry(zone.model.name.clone()).or_default().pools.extend(found);
                    }
                }
            }
            Found::Child(name, policy, child) => {
                let Some(zone) = self.loaded().get(name) else { return };
                let look = looks.entry(name.clone()).or_default();
                look.children = true;
                let pools = policy_child(&zone.model, policy, child).map(|(_, child)| zone.model.pools_below(child));
                look.pools.extend(pools.into_iter().flatten().map(|ix| ix.0 as usize));
            }
            Found::Steered(..) | Found::Static(..) | Found::Rule(..) => {}
        }
    }

    /// Withdrawals within the window.
    pub(super) fn recent(&self, zone: &Name, model: &ZoneModel, now_unix: u64) -> usize {
        let Some((_, per)) = model.safety.max_changes else { return 0 };
        let since = now_unix.saturating_sub(per.as_secs());
        self.withdrawals.get(zone).map_or(0, |times| times.iter().filter(|at| **at > since).count())
    }

    /// What was counted by a clock that was ahead counts as of now: not until that time comes.
    pub(super) fn count_as_now(&mut self) {
        let now_unix = self.clock.unix();
        let mut writes = Vec::new();
        for (zone, times) in &mut self.withdrawals {
            if times.iter().any(|at| *at > now_unix) {
                times.iter_mut().for_each(|at| *at = (*at).min(now_unix));
                writes.push(Write::Withdrawals { zone: zone.to_string(), at: times.iter().copied().collect() });
            }
        }
        for zone in self.zones.values_mut() {
            zone.keeping.count_as_now(now_unix);
        }
        if !writes.is_empty() {
            self.keep(writes, Vec::new());
        }
    }

    /// Counts a withdrawal for the zones that limit them, here and on disk.
    pub(super) fn note_withdrawal(&mut self, consequences: &Consequences) {
        let now_unix = self.clock.unix();
        let mut writes = Vec::new();
        for share in &consequences.zones {
            let Ok(name) = Name::parse_absolute(&share.zone).map(|name| name.to_lowercase()) else { continue };
            let Some((_, per)) = self.zones.get(&name).and_then(|zone| zone.model().safety.max_changes) else { continue };
            let since = now_unix.saturating_sub(per.as_secs());
            let zone = name.to_string();
            let times = self.withdrawals.entry(name).or_default();
            times.push_back(now_unix);
            while times.front().is_some_and(|at| *at <= since) {
                times.pop_front();
            }
            writes.push(Write::Withdrawals { zone, at: times.iter().copied().collect() });
        }
        if !writes.is_empty() {
            self.keep(writes, Vec::new());
        }
    }

    /// A change waits for the disk; returns its ticket.
    pub(super) fn pend(&mut self, change: Change) -> u64 {
        self.next_ticket += 1;
        let key = change.key(&self.book);
        self.pending.insert(self.next_ticket, change);
        self.sum_up(key, self.clock.unix());
        self.next_ticket
    }

    /// The files may have changed, of one zone `alone` or of all: finds again what overlays are about, and sums them up.
    pub(super) fn find_overlays(&mut self, first: bool, alone: Option<&Name>) {
        // What is in no zone of that name may be in any.
        let is_in = |zone: Option<&Name>| alone.is_none_or(|alone| zone.is_none_or(|zone| zone == alone || !self.zones.contains_key(zone)));
        let mut keys = self.book.find_again(Loaded(&self.zones), |target| is_in(own_zone(target).as_ref()));
        keys.extend(self.effects.keys().chain(self.accepted.keys()).filter(|key| match key {
            Found::Thing(id) => is_in(own_zone(id).as_ref()),
            key => is_in(key.zone()),
        }));
        self.note_longest_ttl(first, alone);
        self.sum_up(keys, self.clock.unix());
    }

    /// Sums the overlays of these targets up again; what looks different under them becomes dirty.
    pub(super) fn sum_up(&mut self, keys: impl IntoIterator<Item = Found>, now_unix: u64) {
        for key in keys {
            let sum = self.sum_accepted(&key, now_unix);
            if let Some(mut ground) = self.accepted.ground.take() {
                self.note_look(&key, &mut ground.touched);
                self.accepted.ground = Some(ground);
            }
            if let Found::Thing(id) = &key {
                self.moved.insert(id.clone());
            }
            if self.effects.put(&key, sum.clone()) != sum {
                self.mark(&key);
            }
        }
    }

    /// What overlays come to has changed for a target: what that can alter becomes dirty.
    fn mark(&mut self, key: &Found) {
        let is_withdrawn = |id: &str| matches!(self.effects.forced([Some(id), None, None]), Some(Forced::Down | Forced::Drain));
        match key {
            Found::Thing(id) => {
                let is_withdrawn = is_withdrawn(id);
                let pools = |zone: &ZoneParts| (zone.model.name.clone(), zone.ids.pools_of(&zone.model, id));
                let found: Vec<_> = self.loaded().around(id).map(pools).filter(|(_, pools)| !pools.is_empty()).collect();
                for (name, pools) in found {
                    if let Some(zone) = self.zones.get_mut(&name) {
                        zone.follow(id, is_withdrawn);
                    }
                    self.dirty.entry(name).or_default().pools.extend(pools);
                }
            }
            Found::Child(zone, policy, child) => {
                let below = self.loaded().get(zone).and_then(|zone| {
                    let (_, child) = policy_child(&zone.model, policy, child)?;
                    Some(zone.model.pools_below(child))
                });
                let dirt = self.dirty.entry(zone.clone()).or_default();
                dirt.children = true;
                dirt.pools.extend(below.into_iter().flatten().map(|ix| ix.0 as usize));
            }
            Found::Steered(name, owner) => {
                let Some(zone) = self.zones.get_mut(name) else { return };
                let root = zone.split(owner, self.clock.unix());
                let dirt = self.dirty.entry(name.clone()).or_default();
                dirt.whole |= root.is_none();
                dirt.roots.extend(root);
            }
            Found::Static(zone, ..) => self.dirty.entry(zone.clone()).or_default().statics = true,
            // The zone is compiled without it: see `rules`.
            Found::Rule(..) => {}
        }
    }

    /// Ends overlays whose time is over: at once for answers, on disk as soon as it takes writes. Should that fail, the next start ends them again.
    pub(super) fn expire_overlays(&mut self, now_unix: u64) {
        let expired = self.book.overlays().filter(|overlay| overlay.has_expired(now_unix) && overlay.expires.is_some_and(|at| self.has_come(at)));
        let expired: Vec<u64> = expired.map(|overlay| overlay.id).collect();
        if expired.is_empty() {
            return;
        }
        // Time cannot be refused. What it breaks is said.
        let changes: Vec<Change> = expired.iter().map(|id| Change::Lift(*id)).collect();
        let consequences = self.judge(&changes);
        if !consequences.broken.is_empty() {
            let broke: Vec<String> = consequences.broken.iter().map(ToString::to_string).collect();
            self.registry.operations().safety_passed();
            tracing::warn!(target: "meridian::control", overlays = ?expired, broke = broke.join("; "), "overlays expired, and what they held up is withdrawn");
            let detail = format!("overlays {expired:?} expired, and what they held up is withdrawn{}", went_past(&broke));
            self.note(Entry { detail: Some(detail), ..self.entry(&Who::itself(), "safety", "") });
        }
        self.note_withdrawal(&consequences);
        let ended: Vec<Laid> = expired.iter().filter_map(|id| self.book.remove(*id)).collect();
        self.sum_up(ended.iter().filter_map(Laid::found).map(Found::key).collect::<Vec<_>>(), now_unix);
        for Laid { overlay, .. } in ended {
            let entry = self.entry(&Who::itself(), "overlay.expire", &overlay.target);
            let detail = Some(format!("overlay {}", overlay.id));
            let entry = Entry { before: serde_json::json!(overlay.set), detail, ..entry };
            access::log(&entry);
            let end = self.end_of(overlay.id, "expired", ITSELF);
            self.keep(vec![end], vec![entry]);
        }
    }
}
