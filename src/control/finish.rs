//! The finish line of a drain: when the last answer that names an endpoint has run out of every cache that keeps to the rules.
//!
//! Queries pay nothing for it. A plan hands out TTLs that never fall while it serves, so when it is replaced, the last answers made from it run out
//! at that moment plus the TTL of that moment. Per steered name the latest of these is remembered, and per withdrawn thing the latest of those plans
//! that named it; it is safe once no plan hands it out any more, that time is over, and `safety.drain_guard` has passed.
//!
//! ```text
//! plan with it ──────▶ replaced at t ── TTL at t ──▶ last answer runs out ── guard ──▶ safe_to_stop_at
//!   draining, no time known │        draining, time known                                 │ drained
//! ```
//!
//! Before a process's own time nothing is known: then the longest TTL of the files counts from its start, unless the run before kept the time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::api::{Forced, Overlay, Setting, Withdrawal};
use super::overlays::{Differing, Effects, Found, Laid};
use super::state::ZoneState;
use super::writer::{Writer, unix_now};
use crate::dns::Name;
use crate::health::State;
use crate::policy::model::{Endpoint, Pool, Target, ZoneModel};
use crate::policy::plan::{AnswerSet, Plan, PoolView, View};

/// Answers are timed in whole seconds, and a thread may be a little behind.
const SLACK_S: u64 = 1;
/// Names that are listed.
const MAX_STILL: usize = 10;

/// When the last of the answers that plans give now run out.
pub(super) fn runs_out(plans: &[Plan], now_unix: u64) -> u64 {
    plans.iter().map(|plan| now_unix + SLACK_S + u64::from(plan.ttl_at(now_unix))).max().unwrap_or(0)
}

fn names(set: &AnswerSet, endpoint: &Endpoint) -> bool {
    match &endpoint.target {
        Target::Address(std::net::IpAddr::V4(addr)) => set.v4.addrs.contains(&addr.octets()),
        Target::Address(std::net::IpAddr::V6(addr)) => set.v6.addrs.contains(&addr.octets()),
        Target::Cname(name) => set.cname.as_deref() == Some(name.as_wire()),
    }
}

/// Something that is withdrawn from a zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// Unix seconds: answers that name it, from plans that were replaced, have run out.
    pub(super) until: u64,
    /// Pools by index, each with the endpoints that are meant.
    cover: Vec<(usize, Vec<usize>)>,
    /// Positions in `ZoneParts::roots` that consult them.
    roots: Vec<usize>,
}

impl Left {
    /// True when a plan names it.
    fn is_in(&self, model: &ZoneModel, view: &View, plans: &[Plan]) -> bool {
        let mut is_in = |set: &AnswerSet| {
            self.cover.iter().any(|(at, endpoints)| {
                let pool = &model.pools[*at];
                let is_of_pool = || set.slot.is_some() && set.slot == view.pools.get(*at).map(|view| view.slot);
                endpoints.iter().any(|one| names(set, &pool.endpoints[*one])) || pool.endpoints.is_empty() && is_of_pool()
            })
        };
        plans.iter().any(|plan| plan.choice.any_set(&mut is_in))
    }
}

impl ZoneState {
    /// What an id, or `region:NAME`, stands for here.
    fn cover(&self, id: &str) -> Left {
        let mut left = Left::default();
        for (at, pool) in self.model().pools.iter().enumerate() {
            let all = || (0..pool.endpoints.len()).collect();
            let region = || pool.region.as_ref().is_some_and(|region| id.strip_prefix("region:") == Some(region));
            let endpoints = match id.strip_prefix(&*pool.id) {
                Some("") => all(),
                Some(rest) if rest.starts_with('/') => (0..pool.endpoints.len()).filter(|one| *pool.endpoints[*one].id == *id).collect(),
                _ if region() => all(),
                _ => continue,
            };
            left.cover.push((at, endpoints));
        }
        let roots = left.cover.iter().flat_map(|(at, _)| self.consulted.roots_of_pool.get(*at).into_iter().flatten()).copied();
        left.roots = roots.collect::<BTreeSet<usize>>().into_iter().collect();
        left
    }

    /// Follows what is withdrawn from now on, and forgets what no longer is.
    pub(super) fn follow(&mut self, effects: &Effects, differing: &Differing) {
        for id in differing.things() {
            if !matches!(effects.forced([Some(&**id), None, None]), Some(Forced::Down | Forced::Drain)) {
                self.left.remove(id);
                continue;
            }
            let mut left = self.cover(id);
            if left.cover.is_empty() || self.left.contains_key(id) {
                continue;
            }
            let until = left.roots.iter().filter_map(|root| self.cached_until.get(*root)).copied();
            left.until = until.fold(self.cached_floor, u64::max);
            self.left.insert(id.clone(), left);
        }
    }

    /// Plans of a name are being replaced: remembers until when their answers may be held.
    pub(super) fn retire(&mut self, root: usize, plans: &[Plan], now_unix: u64) {
        let runs_out = runs_out(plans, now_unix);
        let until = &mut self.cached_until[root];
        *until = (*until).max(runs_out);
        let (model, view) = (self.taken.parts.model.clone(), &self.view);
        for left in self.left.values_mut().filter(|left| left.until < runs_out && left.roots.binary_search(&root).is_ok()) {
            if left.is_in(&model, view, plans) {
                left.until = runs_out;
            }
        }
    }

    /// Takes over what the version before knew: all its answers are over with it.
    pub(super) fn inherit_caches(&mut self, before: &ZoneState, now_unix: u64) {
        let steerings = || before.world.iter().flat_map(|world| world.steerings.iter());
        let over = steerings().map(|steering| runs_out(&steering.plans, now_unix));
        self.cached_floor = before.cached_until.iter().copied().chain(over).fold(before.cached_floor, u64::max);
        for (id, left) in &before.left {
            let named = steerings().filter(|steering| left.is_in(before.model(), &before.view, &steering.plans));
            let until = named.map(|steering| runs_out(&steering.plans, now_unix)).fold(left.until, u64::max);
            self.left.insert(id.clone(), Left { until, ..Left::default() });
        }
    }

    /// The zone is assembled for the first time: what is followed has its indexes.
    pub(super) fn find_left(&mut self) {
        let ids: Vec<_> = self.left.keys().cloned().collect();
        for id in ids {
            let found = self.cover(&id);
            if let Some(left) = self.left.get_mut(&id) {
                *left = Left { until: left.until, ..found };
            }
        }
    }

    /// Adds what is known of a withdrawn thing: the names that still hand it out, and until when caches may hold it. False when the zone has none
    /// of it.
    fn finish(&self, id: &str, still: &mut Vec<String>, until: &mut u64) -> bool {
        let (Some(world), Some(left)) = (&self.world, self.left.get(id)) else { return false };
        let model = self.model();
        *until = (*until).max(left.until);
        for root in left.roots.iter().filter(|root| world.steerings.get(**root).is_some_and(|one| left.is_in(model, &self.view, &one.plans))) {
            still.extend(self.taken.parts.roots[*root].steers.iter().map(|steer| model.steers[*steer].owner.to_string()));
        }
        true
    }

    /// The other pools of the names that consult these.
    pub(super) fn neighbours(&self, pools: &[usize]) -> BTreeSet<usize> {
        let model = self.model();
        let roots: BTreeSet<usize> = pools.iter().flat_map(|at| self.consulted.roots_of_pool.get(*at).into_iter().flatten()).copied().collect();
        let steers = roots.into_iter().map(|root| &model.steers[self.taken.parts.roots[root].steer]);
        let all = steers.flat_map(|steer| model.pools_below(steer.root)).map(|ix| ix.0 as usize);
        all.filter(|at| !pools.contains(at)).collect()
    }

    fn pool_with_view(&self, at: usize) -> Option<(&Pool, &Arc<PoolView>)> {
        Some((self.model().pools.get(at)?, self.view.pools.get(at)?))
    }

    /// Ids of the endpoints of a pool whose checks fail, unless operators have their own view of them.
    pub(super) fn sick(&self, at: usize) -> Vec<String> {
        let Some((pool, view)) = self.pool_with_view(at) else { return Vec::new() };
        let seen = pool.endpoints.iter().zip(&view.endpoints);
        let is_sick = |state: State| matches!(state, State::Suspect | State::Down);
        seen.filter(|(_, seen)| seen.forced.is_none() && is_sick(seen.state)).map(|(endpoint, _)| endpoint.id.to_string()).collect()
    }

    /// The pool, or one endpoint of it, as its checks see it: its id when it has fallen.
    pub(super) fn fallen(&self, at: usize, endpoint: Option<&str>) -> Option<String> {
        let (pool, view) = self.pool_with_view(at)?;
        let mut seen = pool.endpoints.iter().zip(&view.endpoints);
        match endpoint {
            Some(id) => seen.find(|(one, seen)| *one.id == *id && seen.state == State::Down).map(|(one, _)| one.id.to_string()),
            None => {
                let well = seen.filter(|(_, seen)| seen.state.is_usable()).count();
                (well < pool.min_healthy.needed(pool.endpoints.len())).then(|| pool.id.to_string())
            }
        }
    }
}

impl Writer {
    /// Overlays as they are shown: where they stand, and when what they withdrew may be stopped.
    pub(super) fn shown(&self, laid: &Laid) -> Overlay {
        let phase = if laid.found().is_none() { "without effect" } else { laid.overlay.phase_word() };
        Overlay { phase: phase.into(), withdrawal: self.withdrawal(laid, unix_now()), ..laid.overlay.clone() }
    }

    fn withdrawal(&self, laid: &Laid, now_unix: u64) -> Option<Withdrawal> {
        let overlay = &laid.overlay;
        let (Setting::State(Forced::Down | Forced::Drain), true, Some(Found::Thing(id))) = (overlay.set, overlay.is_begun(), laid.found()) else {
            return None;
        };
        if overlay.back.is_some() {
            return None;
        }
        let (mut still, mut until, mut guard, mut has_any) = (Vec::new(), 0, 0, false);
        // Ids begin with their zone, but for regions and what libraries define.
        let apex = id.split_once('/').and_then(|(zone, _)| Name::parse_absolute(zone).ok()).map(|apex| apex.to_lowercase());
        let own = apex.and_then(|apex| self.zones.get(&apex));
        let others = own.is_none().then(|| self.zones.values()).into_iter().flatten();
        for zone in own.into_iter().chain(others) {
            if zone.finish(id, &mut still, &mut until) {
                has_any = true;
                guard = guard.max(zone.model().safety.drain_guard.as_secs());
            }
        }
        // `up` beside it, or stronger at another level: not this one's doing.
        if !has_any {
            return None;
        }
        still.sort();
        still.dedup();
        if !still.is_empty() {
            still.truncate(MAX_STILL);
            return Some(Withdrawal { state: "draining".into(), safe_to_stop_at: None, still_answered: still });
        }
        let safe = laid.kept_safe.unwrap_or(self.start_floor + guard).max(until + guard);
        let state = if now_unix >= safe { "drained" } else { "draining" };
        Some(Withdrawal { state: state.into(), safe_to_stop_at: Some(safe), still_answered: Vec::new() })
    }

    /// Keeps with every withdrawal when it is safe, so that a restart need not wait again; says when one is drained.
    pub(super) fn watch_withdrawals(&mut self, now_unix: u64) {
        let is_open = |laid: &&Laid| {
            let withdraws = matches!(laid.overlay.set, Setting::State(Forced::Down | Forced::Drain)) && laid.overlay.is_begun();
            let is_drained = laid.overlay.withdrawal.as_ref().is_some_and(|withdrawal| withdrawal.state == "drained");
            withdraws && (!is_drained || self.watched_generation != self.generation)
        };
        let found: Vec<(u64, Option<Withdrawal>)> =
            self.book.iter().filter(is_open).map(|laid| (laid.overlay.id, self.withdrawal(laid, now_unix))).collect();
        self.watched_generation = self.generation;
        for (id, now) in found {
            let Some(laid) = self.book.get_mut(id) else { continue };
            let key = |withdrawal: &Option<Withdrawal>| withdrawal.as_ref().map(|one| (one.state.clone(), one.safe_to_stop_at));
            let changed = key(&laid.overlay.withdrawal) != key(&now);
            laid.overlay.withdrawal = now;
            if !changed {
                continue;
            }
            let overlay = laid.overlay.clone();
            let is_drained = overlay.withdrawal.as_ref().is_some_and(|one| one.state == "drained");
            let entry = is_drained.then(|| self.said(&overlay, "overlay.drained", "it may be stopped"));
            self.keep_overlay(&overlay, entry);
        }
    }
}
