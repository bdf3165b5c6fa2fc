//! Safety rules bind checks, too: what fails beyond a limit that the operator has stated is not withdrawn. It stays as a last resort, and says so.
//!
//! A dead endpoint is never kept in service where others are fine: as a last resort it is handed out only where nothing that may be handed out is up,
//! before `all_down`. For what the rules count it is in rotation.
//!
//! ```text
//! the fall breaks                                the endpoint
//! nothing                                        is withdrawn
//! min_in_rotation, max_withdrawn, max_changes    is a last resort
//! last_healthy, min_capacity                     is withdrawn: they bind operators; what names without anything answer is for `all_down` to say
//! ```
//!
//! What was handed out because nothing was up needs no slow start when it comes back: it had the traffic all the while ([`Resorted`]).
//!
//! Of several that have failed the one that failed first goes first. What is kept is looked at again whenever its zone changes and once a second: it
//! goes as soon as the rules let it, it is free when its checks pass, and an operator may take it out past the rule (`break_glass`).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::api::Who;
use super::audit::{Entry, Kind};
use super::compile::ZoneParts;
use super::safety::{self, Proposed};
use super::state::{Surroundings, ZoneState};
use super::writer::Writer;
use crate::dns::Name;
use crate::health::State;
use crate::health::machine::RAMP;
use crate::policy::model::{AllDown, PoolIx, ZoneModel};
use crate::policy::plan::{Pass, PoolView, View};
use crate::policy::resolve::Step;
use crate::store::SavedKeeping;

/// What is kept as a last resort though its checks fail, and what fell of late. Belongs to one zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeping {
    /// In the order in which they failed.
    kept: Vec<Kept>,
    /// Unix seconds of withdrawals by checks, as far back as `max_changes` looks.
    falls: VecDeque<u64>,
    /// To be told.
    news: Vec<News>,
    /// It is other than when it was last asked for to be kept.
    moved: bool,
}

/// An endpoint that a rule keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    id: Arc<str>,
    /// The rules, in a sentence.
    why: String,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct News {
    id: Arc<str>,
    /// Why it is kept from now on; `None` when it no longer is.
    why: Option<String>,
}

/// A failed endpoint that could be handed out until now.
struct Failed {
    pool: usize,
    endpoint: usize,
    id: Arc<str>,
}

impl Keeping {
    /// Something is kept.
    pub(super) fn is_any(&self) -> bool {
        !self.kept.is_empty()
    }

    /// True for an endpoint that is kept.
    pub(super) fn has(&self, id: &str) -> bool {
        self.why(id).is_some()
    }

    /// Why an endpoint is kept, if it is.
    pub(super) fn why(&self, id: &str) -> Option<&str> {
        self.kept.iter().find(|kept| *kept.id == *id).map(|kept| &*kept.why)
    }

    /// Every endpoint that is kept, with the reason.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.kept.iter().map(|kept| (&*kept.id, &*kept.why))
    }

    /// Takes over from the run before: what failed then and still does is judged as if there had been no restart.
    pub(super) fn restore(&mut self, saved: &SavedKeeping) {
        self.kept = saved.kept.iter().map(|(id, why)| Kept { id: id.as_str().into(), why: why.clone() }).collect();
        self.falls = saved.falls.iter().copied().collect();
    }

    /// As it is kept for the next run.
    pub(super) fn saved(&self) -> SavedKeeping {
        let kept = self.kept.iter().map(|one| (one.id.to_string(), one.why.clone())).collect();
        SavedKeeping { kept, falls: self.falls.iter().copied().collect(), ..SavedKeeping::default() }
    }

    /// What went by a clock that was ahead went now.
    pub(super) fn count_as_now(&mut self, now_unix: u64) {
        self.moved |= self.falls.iter().any(|at| *at > now_unix);
        self.falls.iter_mut().for_each(|at| *at = (*at).min(now_unix));
    }

    /// True when it may be other than when last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Takes over from the version before.
    pub(super) fn inherit(&mut self, before: &Keeping) {
        *self = before.clone();
    }

    /// Pools with something that is kept.
    pub(super) fn pools(&self, model: &ZoneModel) -> BTreeSet<usize> {
        let has_kept = |at: &usize| model.pools[*at].endpoints.iter().any(|endpoint| self.has(&endpoint.id));
        match self.is_any() {
            true => (0..model.pools.len()).filter(has_kept).collect(),
            false => BTreeSet::new(),
        }
    }

    /// Looks which of the endpoints of the pools in `seen` that fail may go, and keeps the others. `before` is the zone as it was last seen, empty for a
    /// new version; `base` the same, or what is seen now; `seen` what checks and operators say of these pools now, with nothing kept.
    fn settle(&mut self, parts: &Arc<ZoneParts>, before: &View, base: &View, seen: Vec<(usize, PoolView)>, now_unix: u64) {
        let model = &parts.model;
        if !model.safety.binds_checks() {
            self.keep_only(|_| false);
            return;
        }
        let mut failed = self.failed(model, before, &seen);
        self.keep_only(|id| failed.iter().any(|one| *one.id == *id));
        if failed.is_empty() {
            return;
        }
        // As if all of them were kept; then one after the other goes, if it may.
        let mut view = base.clone();
        for (at, mut pool) in seen {
            for one in failed.iter().filter(|one| one.pool == at) {
                pool.endpoints[one.endpoint].kept = true;
            }
            view.pools.set(at, Arc::new(pool));
        }
        let order = |one: &Failed| self.kept.iter().position(|kept| kept.id == one.id).unwrap_or(usize::MAX);
        failed.sort_by_key(order);
        for one in failed {
            let after = without(&view, &one);
            match self.forbidden(parts, &view, &after, &one, now_unix) {
                Some(why) => self.keep(one.id, why),
                None => {
                    view = after;
                    self.keep_only(|id| *id != *one.id);
                    if model.safety.max_changes.is_some() {
                        self.falls.push_back(now_unix);
                        self.moved = true;
                    }
                }
            }
        }
    }

    /// What fails and could be handed out until now.
    fn failed(&self, model: &ZoneModel, before: &View, seen: &[(usize, PoolView)]) -> Vec<Failed> {
        let mut failed = Vec::new();
        for (pool, now) in seen {
            for (endpoint, (now, one)) in now.endpoints.iter().zip(&model.pools[*pool].endpoints).enumerate() {
                let was_usable = || before.pools.get(*pool).and_then(|view| view.endpoints.get(endpoint)).is_some_and(|view| view.is_usable());
                if now.state == State::Down && now.forced.is_none() && (self.has(&one.id) || was_usable()) {
                    failed.push(Failed { pool: *pool, endpoint, id: one.id.clone() });
                }
            }
        }
        failed
    }

    /// The limits that forbid the fall of an endpoint, in a sentence.
    fn forbidden(&mut self, parts: &Arc<ZoneParts>, before: &View, after: &View, one: &Failed, now_unix: u64) -> Option<String> {
        let model = &parts.model;
        if let Some((_, per)) = model.safety.max_changes {
            while self.falls.front().is_some_and(|at| at.saturating_add(per.as_secs()) <= now_unix) {
                self.falls.pop_front();
            }
        }
        let elsewhere = before.pools.iter().enumerate().filter(|(at, _)| *at != one.pool);
        let proposed = Proposed {
            parts: parts.clone(),
            before: before.clone(),
            after: after.clone(),
            idle: [before, after].map(|view| safety::idle_pools(parts, &parts.roots, view)),
            standby: [before, after].map(|view| safety::standby_pools(parts, &parts.roots, view)),
            pools: vec![one.pool],
            roots: Vec::new(),
            out_elsewhere: elsewhere.map(|(_, view)| safety::out_of_rotation(view)).sum(),
            recent: self.falls.len(),
        };
        let broken = safety::judge(&[proposed]).broken;
        (!broken.is_empty()).then(|| broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    fn keep(&mut self, id: Arc<str>, why: String) {
        match self.kept.iter_mut().find(|kept| kept.id == id) {
            Some(kept) => kept.why = why,
            None => {
                self.news.push(News { id: id.clone(), why: Some(why.clone()) });
                self.kept.push(Kept { id, why });
                self.moved = true;
            }
        }
    }

    fn keep_only(&mut self, stays: impl Fn(&str) -> bool) {
        let (news, moved) = (&mut self.news, &mut self.moved);
        self.kept.retain(|kept| {
            let stays = stays(&kept.id);
            if !stays {
                news.push(News { id: kept.id.clone(), why: None });
                *moved = true;
            }
            stays
        });
    }
}

/// The view without one endpoint that was kept.
fn without(view: &View, one: &Failed) -> View {
    let mut after = view.clone();
    if let Some(pool) = view.pools.get(one.pool) {
        let mut pool = PoolView::clone(pool);
        pool.endpoints[one.endpoint].kept = false;
        after.pools.set(one.pool, Arc::new(pool));
    }
    after
}

/// When classes of clients had nothing better than what fails, and were given that: by position of the root, then of the class. Those that have it now
/// are in the plans.
#[derive(Debug, Default)]
pub(super) struct Resorted(HashMap<(usize, usize), Duration>);

fn reaches(step: &Step, ix: PoolIx) -> bool {
    match step {
        Step::Pool(other) => *other == ix,
        step => step.children().iter().any(|(_, step)| reaches(step, ix)),
    }
}

impl ZoneState {
    /// True when clients of this class are given what fails, for want of anything better.
    fn is_resorted(&self, root: usize, class: usize) -> bool {
        let plan =
            self.world.as_ref().filter(|world| Arc::ptr_eq(&world.model, self.model())).and_then(|world| world.steerings.get(root)?.plans.get(class));
        let given = || {
            let steer = &self.model().steers[self.roots[root].steer];
            matches!(self.roots[root].classes[class].all_down.unwrap_or(steer.all_down), AllDown::All | AllDown::LastGood)
        };
        plan.is_some_and(|plan| plan.pass == Pass::LastResort || plan.pass == Pass::AllDown && given())
    }

    /// The plans of a root are made anew: remembers until when classes had nothing better.
    pub(super) fn note_resorts(&mut self, root: usize, now: Duration) {
        for class in 0..self.roots[root].classes.len() {
            if self.is_resorted(root, class) {
                self.resorted.0.insert((root, class), now);
            }
        }
    }

    /// A pool was handed out although it failed, for want of anything better, to all who come to it, and that is no longer ago than a ramp takes: there is
    /// nothing to warm up.
    pub(super) fn was_last_resort(&self, pool: usize, now: Duration) -> bool {
        let (mut any, ix) = (false, PoolIx(pool as u32));
        for root in self.consulted.roots_of_pool.get(pool).into_iter().flatten().copied() {
            for (class, _) in self.roots[root].classes.iter().enumerate().filter(|(_, class)| reaches(&class.step, ix)) {
                let was = || self.resorted.0.get(&(root, class)).is_some_and(|at| *at + RAMP > now);
                if !self.is_resorted(root, class) && !was() {
                    return false;
                }
                any = true;
            }
        }
        any
    }

    /// Settles what of these pools may go; returns them, and the pools of what is kept.
    pub(super) fn settle_falls(&mut self, pools: &BTreeSet<usize>, around: &Surroundings<'_>) -> BTreeSet<usize> {
        if !self.keeping.is_any() && (pools.is_empty() || !self.model().safety.binds_checks()) {
            return pools.clone();
        }
        let pools: BTreeSet<usize> = pools.iter().copied().chain(self.keeping.pools(self.model())).collect();
        let mut keeping = std::mem::take(&mut self.keeping);

        // With nothing kept.
        let is_new = self.view.pools.len() != self.model().pools.len();
        let base = if is_new { self.seen_whole(around) } else { self.view.clone() };
        let seen = pools.iter().map(|at| (*at, self.seen(*at, around))).collect();
        keeping.settle(&self.taken.parts, &self.view, &base, seen, around.now_unix);

        self.keeping = keeping;
        pools
    }
}

impl Writer {
    /// Zones in which something is kept are looked at again: `max_changes` forgets with time.
    pub(super) fn look_at_kept(&mut self) {
        for (apex, zone) in self.zones.iter().filter(|(_, zone)| zone.keeping.is_any()) {
            self.dirty.entry(apex.clone()).or_default().pools.extend(zone.keeping.pools(zone.model()));
        }
    }

    /// Says what is kept from now on, and what no longer is.
    pub(super) fn tell_kept(&mut self, name: &Name) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        for News { id, why } in std::mem::take(&mut zone.keeping.news) {
            let (action, detail) = match why {
                Some(why) => {
                    tracing::error!(target: "meridian::health", endpoint = &*id, why, "its checks fail, but a safety rule keeps it as a last resort");
                    ("health.keep", format!("its checks fail, but it stays as a last resort: {why}"))
                }
                None => {
                    tracing::warn!(target: "meridian::health", endpoint = &*id, "no safety rule keeps it as a last resort any more");
                    ("health.release", "no safety rule keeps it as a last resort any more".to_owned())
                }
            };
            let entry = Entry { kind: Kind::Health, detail: Some(detail), ..self.entry(&Who::itself(), action, &id) };
            self.keep_entry(entry);
        }
    }

    /// What is kept, for whoever asks how the service is.
    pub(super) fn kept_trouble(&self) -> impl Iterator<Item = String> {
        let all = self.zones.values().flat_map(|zone| zone.keeping.all());
        all.map(|(id, why)| format!("{id} is down by its checks, but a safety rule keeps it as a last resort: {why}"))
    }
}
