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
//! Before a process's own time nothing is known: then the longest TTL of the files and of the run before counts from its start, unless the run before kept the time.
//! What a reload takes out of the files is in caches all the same: its line stays, as it was known then.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::api::{Forced, Overlay, Progress, Setting, Withdrawal};
use super::compile::ZoneParts;
use super::holds;
use super::loaded::own_zone;
use super::overlays::{Found, LEAD_S, Laid, Ranks, Standing, find, policy_child, weight_now};
use super::state::{Consulted, ZoneState};
use super::text::span;
use super::writer::Writer;
use crate::dns::Name;
use crate::health::State;
use crate::policy::model::{Child, Endpoint, Pool, PoolIx, Target, ZoneModel};
use crate::policy::plan::{AnswerSet, Plan, PoolView, View};
use crate::world::{Steerings, ZoneWorld};

/// Answers are timed in whole seconds, and a thread may be a little behind.
const SLACK_S: u64 = 1;
/// Names that are listed.
const MAX_STILL: usize = 10;

/// When the last of the answers that plans give now run out.
pub(super) fn runs_out(plans: &[Plan], now_unix: u64) -> u64 {
    plans.iter().map(|plan| now_unix + SLACK_S + u64::from(plan.ttl_at(now_unix))).max().unwrap_or(0)
}

/// Everything that plans hand out.
#[derive(Default)]
struct Named {
    v4: HashSet<[u8; 4]>,
    v6: HashSet<[u8; 16]>,
    cnames: HashSet<Box<[u8]>>,
    /// Counter slots of pools.
    slots: HashSet<u32>,
}

impl Named {
    fn of(plans: &[Plan]) -> Named {
        let (mut named, mut seen) = (Named::default(), HashSet::new());
        for plan in plans {
            plan.choice.any_set(&mut |set: &AnswerSet| {
                // Plans share their sets.
                if seen.insert(std::ptr::from_ref(set)) {
                    named.v4.extend(&set.v4.addrs);
                    named.v6.extend(&set.v6.addrs);
                    named.cnames.extend(set.cname.clone());
                    named.slots.extend(set.slot);
                }
                false
            });
        }
        named
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        match &endpoint.target {
            Target::Address(std::net::IpAddr::V4(addr)) => self.v4.contains(&addr.octets()),
            Target::Address(std::net::IpAddr::V6(addr)) => self.v6.contains(&addr.octets()),
            Target::Cname(name) => self.cnames.contains(name.as_wire()),
        }
    }
}

/// Something that is withdrawn from a zone.
#[derive(Clone, Debug, Default)]
struct Left {
    /// Unix seconds: answers that name it, from plans that were replaced, have run out.
    until: u64,
    /// Pools by index, each with the endpoints that are meant.
    cover: Vec<(usize, Vec<usize>)>,
    /// Positions in [`ZoneState::roots`] that consult them.
    roots: Vec<usize>,
    /// Those of them whose plans name it still.
    handing: BTreeSet<usize>,
}

impl Left {
    /// What an id, or `region:NAME`, stands for in a zone.
    fn of(id: &str, parts: &ZoneParts, consulted: &Consulted) -> Left {
        let cover = parts.ids.pools_of(&parts.model, id).into_iter().map(|at| {
            let pool = &parts.model.pools[at];
            let is_one = |one: &usize| *pool.endpoints[*one].id == *id;
            let one = (0..pool.endpoints.len()).find(is_one);
            (at, one.map_or_else(|| (0..pool.endpoints.len()).collect(), |one| vec![one]))
        });
        let cover: Vec<(usize, Vec<usize>)> = cover.collect();
        let roots = cover.iter().flat_map(|(at, _)| consulted.roots_of_pool.get(*at).into_iter().flatten()).copied();
        let roots = roots.collect::<BTreeSet<usize>>().into_iter().collect();
        Left { cover, roots, ..Left::default() }
    }

    fn is_in(&self, model: &ZoneModel, view: &View, named: &Named) -> bool {
        self.cover.iter().any(|(at, endpoints)| {
            let pool = &model.pools[*at];
            let is_of_pool = || view.pools.get(*at).is_some_and(|view| named.slots.contains(&view.slot));
            endpoints.iter().any(|one| named.has(&pool.endpoints[*one])) || pool.endpoints.is_empty() && is_of_pool()
        })
    }
}

/// What is withdrawn from a zone, and what caches may still hold of it. Follows each change of a plan, at the cost of what that plan consults.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// By position in [`ZoneState::roots`]: unix seconds until which caches may hold answers from plans that were replaced.
    cached_until: Vec<u64>,
    /// The same for everything that the version before answered.
    cached_floor: u64,
    /// By id or `region:NAME`.
    left: HashMap<Arc<str>, Left>,
    /// By position in [`ZoneState::roots`]: what of `left` they consult.
    of_root: HashMap<usize, Vec<Arc<str>>>,
    /// What has to be looked at: it or what names it is not as it was.
    moved: BTreeSet<Arc<str>>,
}

impl Leaving {
    /// What is not as it was when last asked.
    pub(super) fn take_moved(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.moved)
    }

    fn add(&mut self, id: &Arc<str>, left: Left) {
        left.roots.iter().for_each(|root| self.of_root.entry(*root).or_default().push(id.clone()));
        self.left.insert(id.clone(), left);
    }

    fn forget(&mut self, id: &str) {
        let Some(left) = self.left.remove(id) else { return };
        for root in left.roots {
            if let Some(ids) = self.of_root.get_mut(&root) {
                ids.retain(|other| **other != *id);
            }
        }
    }

    /// Follows what is withdrawn from now on, and forgets what no longer is.
    pub(super) fn follow(&mut self, id: &Arc<str>, is_withdrawn: bool, parts: &ZoneParts, consulted: &Consulted, world: Option<&ZoneWorld>) {
        self.moved.insert(id.clone());
        if !is_withdrawn {
            self.forget(id);
        }
        if !is_withdrawn || self.left.contains_key(id) {
            return;
        }
        let mut left = Left::of(id, parts, consulted);
        left.until = left.roots.iter().filter_map(|root| self.cached_until.get(*root)).copied().fold(self.cached_floor, u64::max);
        if let Some(world) = world {
            let names_it = |root: &&usize| {
                world.steerings.get(**root).is_some_and(|steering| left.is_in(&parts.model, &world.view, &Named::of(&steering.plans)))
            };
            left.handing = left.roots.iter().filter(names_it).copied().collect();
        }
        self.add(id, left);
    }

    /// Plans of a root were replaced: remembers until when their answers may be held.
    pub(super) fn replace(&mut self, root: usize, before: &[Plan], now: &[Plan], model: &ZoneModel, view: &View, now_unix: u64) {
        let runs_out = runs_out(before, now_unix);
        if let Some(until) = self.cached_until.get_mut(root) {
            *until = (*until).max(runs_out);
        }
        let Some(ids) = self.of_root.get(&root).filter(|ids| !ids.is_empty()) else { return };
        let named = Named::of(now);
        for id in ids {
            let Some(left) = self.left.get_mut(id) else { continue };
            let was_in = left.handing.remove(&root);
            if was_in {
                left.until = left.until.max(runs_out);
            }
            let is_in = left.is_in(model, view, &named);
            if is_in {
                left.handing.insert(root);
            }
            if was_in || is_in {
                self.moved.insert(id.clone());
            }
        }
    }

    /// A name of a root got one of its own, the last: caches may hold what the old one gave.
    pub(super) fn split(&mut self, root: usize, own: usize, plans: &[Plan], now_unix: u64) {
        let until = self.cached_until.get(root).copied().unwrap_or(0).max(runs_out(plans, now_unix));
        self.cached_until.resize(own, 0);
        self.cached_until.push(until);
    }

    /// The zone was made afresh: what is followed gets its indexes. `before` are the plans of the same definitions.
    pub(super) fn find(&mut self, parts: &ZoneParts, consulted: &Consulted, view: &View, before: Option<&Steerings>, now: &Steerings, now_unix: u64) {
        self.cached_until.resize(now.len(), 0);
        for (root, (was, is)) in before.into_iter().flat_map(|before| before.iter().zip(now.iter())).enumerate() {
            if was.plans != is.plans {
                self.replace(root, &was.plans, &is.plans, &parts.model, view, now_unix);
            }
        }
        self.of_root.clear();
        for (id, before) in std::mem::take(&mut self.left) {
            let found = Left::of(&id, parts, consulted);
            self.add(&id, Left { until: before.until, ..found });
            self.moved.insert(id);
        }
        for (root, ids) in &self.of_root {
            let Some(named) = now.get(*root).map(|steering| Named::of(&steering.plans)) else { continue };
            for id in ids {
                if let Some(left) = self.left.get_mut(id)
                    && left.is_in(&parts.model, view, &named)
                {
                    left.handing.insert(*root);
                }
            }
        }
    }

    /// Takes over what the version before knew: all its answers are over with it.
    pub(super) fn inherit(&mut self, before: &Leaving, world: Option<&ZoneWorld>, now_unix: u64) {
        let over: Vec<u64> = world.iter().flat_map(|world| world.steerings.iter()).map(|steering| runs_out(&steering.plans, now_unix)).collect();
        self.cached_floor = before.cached_until.iter().chain(&over).copied().fold(before.cached_floor, u64::max);
        for (id, left) in &before.left {
            let until = left.handing.iter().filter_map(|root| over.get(*root)).copied().fold(left.until, u64::max);
            self.left.insert(id.clone(), Left { until, ..Left::default() });
        }
    }
}

/// Until when caches may hold what zones answered that are served no more: they may come back, and what was withdrawn from a region may be
/// withdrawn still.
#[derive(Debug, Default)]
pub(super) struct Departed(HashMap<Name, Gone>);

#[derive(Debug, Default)]
struct Gone {
    /// Unix seconds: all its answers have run out.
    until: u64,
    /// Its `safety.drain_guard`, in seconds.
    guard: u64,
    /// Regions that its pools were in.
    regions: BTreeSet<String>,
}

impl Gone {
    fn safe(&self) -> u64 {
        self.until + self.guard
    }
}

impl Departed {
    /// A zone is served no more. Those whose answers are over are forgotten.
    pub(super) fn add(&mut self, name: &Name, zone: &ZoneState, now_unix: u64) {
        self.0.retain(|_, gone| gone.safe() > now_unix);
        let mut after = Leaving::default();
        after.inherit(&zone.leaving, zone.world.as_deref(), now_unix);
        let regions = zone.taken.parts.ids.regions().map(str::to_owned).collect();
        self.0.insert(name.clone(), Gone { until: after.cached_floor, guard: zone.model().safety.drain_guard.as_secs(), regions });
    }

    /// A zone of that name is served again: what it withdraws may be in caches from before.
    pub(super) fn give_back(&self, name: &Name, zone: &mut ZoneState) {
        let until = self.0.get(name).map_or(0, |gone| gone.until);
        zone.leaving.cached_floor = zone.leaving.cached_floor.max(until);
    }

    /// When what was in one zone is safe.
    fn safe_of(&self, zone: &Name) -> u64 {
        self.0.get(zone).map_or(0, Gone::safe)
    }

    /// When what was in a region is safe from all zones that had it.
    fn safe_of_region(&self, region: &str) -> u64 {
        self.0.values().filter(|gone| gone.regions.contains(region)).map(Gone::safe).max().unwrap_or(0)
    }

    /// When what several zones share, a region for example, is safe from all of them.
    fn safe(&self) -> u64 {
        self.0.values().map(Gone::safe).max().unwrap_or(0)
    }
}

impl ZoneState {
    /// Follows a thing that overlays were changed for.
    pub(super) fn follow(&mut self, id: &Arc<str>, is_withdrawn: bool) {
        self.leaving.follow(id, is_withdrawn, &self.taken.parts, &self.consulted, self.world.as_deref());
    }

    /// Adds what is known of a withdrawn thing: some of the names that still hand it out, and until when caches may hold it. False when the zone
    /// has none of it.
    fn finish(&self, id: &str, still: &mut Vec<String>, until: &mut u64) -> bool {
        let (Some(_), Some(left)) = (&self.world, self.leaving.left.get(id)) else { return false };
        *until = (*until).max(left.until);
        let steers = left.handing.iter().filter_map(|root| self.roots.get(*root)).flat_map(|root| &root.steers);
        let room = MAX_STILL.saturating_sub(still.len());
        still.extend(steers.take(room).map(|steer| self.model().steers[*steer].owner.to_string()));
        true
    }

    /// The other pools of the names that consult these.
    pub(super) fn neighbours(&self, pools: &[usize]) -> BTreeSet<usize> {
        let model = self.model();
        let roots: BTreeSet<usize> = pools.iter().flat_map(|at| self.consulted.roots_of_pool.get(*at).into_iter().flatten()).copied().collect();
        let steers = roots.into_iter().map(|root| &model.steers[self.roots[root].steer]);
        let all = steers.flat_map(|steer| model.pools_below(steer.root)).map(|ix| ix.0 as usize);
        all.filter(|at| !pools.contains(at)).collect()
    }

    /// The pool has too little, and some name that consults it has no other pool with enough.
    pub(super) fn has_nothing_beside(&self, at: usize) -> bool {
        let model = self.model();
        let is_thin = |child| holds::is_critical(model, &self.view, child);
        let mut names = self.consulted.roots_of_pool.get(at).into_iter().flatten().map(|root| &model.steers[self.roots[*root].steer]);
        is_thin(Child::Pool(PoolIx(at as u32))) && names.any(|steer| is_thin(steer.root))
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

/// Something that nothing hands out, until caches have none of it.
fn leaves(safe: u64, is_over: bool) -> Withdrawal {
    let state = if is_over { "drained" } else { "draining" };
    Withdrawal { state: state.into(), safe_to_stop_at: Some(safe), still_answered: Vec::new() }
}

impl Writer {
    /// What whoever laid an overlay may not have meant: a withdrawal that ends before anything can be stopped, a weight of 0 beside others of 0.
    pub(super) fn warnings_of(&self, overlay: &Overlay) -> Vec<String> {
        if overlay.set == Setting::Weight(0) {
            return self.has_zeros_alone(&overlay.target).into_iter().collect();
        }
        let (Setting::State(Forced::Down | Forced::Drain), Some(expires), None) = (overlay.set, overlay.expires, &overlay.back) else {
            return Vec::new();
        };
        let begins = overlay.began.or(overlay.starts).unwrap_or(overlay.created);
        let known = overlay.withdrawal.as_ref().and_then(|withdrawal| withdrawal.safe_to_stop_at);
        let safe = known.unwrap_or_else(|| begins + overlay.ramp.as_ref().map_or(0, |ramp| ramp.over) + self.lingers(overlay));
        if safe < expires {
            return Vec::new();
        }
        let (lasts, takes) = (span(expires.saturating_sub(begins)), span(safe.saturating_sub(begins)));
        vec![format!(
            "it lasts {lasts}, but what it withdraws is safe to stop only after about {takes}: by then it is back in rotation; let it expire later"
        )]
    }

    /// Weight 0 means: only when nothing else is left. Where all weigh 0 that is always so.
    fn has_zeros_alone(&self, target: &str) -> Option<String> {
        let (beside, _) = target.rsplit_once('/')?;
        let found = find(target, Setting::Weight(0), self.loaded()).ok()?;
        let siblings: Vec<Found> = match &found {
            Found::Child(zone, policy, _) => {
                let model = &self.loaded().get(zone)?.model;
                let (ix, _) = policy_child(model, policy, target.rsplit_once('/')?.1)?;
                let children = model.policy(ix).kind.children().into_iter();
                children.map(|child| Found::Child(zone.clone(), policy.clone(), model.child_name(child).into())).collect()
            }
            Found::Thing(id) => {
                let (pool, _) = self.loaded().endpoint(id)?;
                pool.endpoints.iter().map(|endpoint| Found::Thing(endpoint.id.clone())).collect()
            }
            _ => return None,
        };
        let own = |one: &&Found| **one != found;
        let is_zero = |one: &Found| weight_now(one, self.loaded(), self.accepted.there()) == Some(0);
        (siblings.len() > 1 && siblings.iter().filter(own).all(is_zero))
            .then(|| format!("everything in {beside} has weight 0 then: nothing of it is preferred, so all of it is handed out, in equal shares"))
    }

    /// Seconds in which caches may hold answers that name what an overlay withdraws, from its end on, and the guard. Ahead of the start and on
    /// the way there the names have their minimum TTL.
    fn lingers(&self, overlay: &Overlay) -> u64 {
        let id = overlay.target.as_str();
        let lead = overlay.starts.map_or(0, |starts| starts.saturating_sub(overlay.created).min(LEAD_S));
        let low = lead + overlay.ramp.as_ref().map_or(0, |ramp| ramp.over);
        let own = own_zone(id).and_then(|apex| self.zones.get(&apex));
        let others = own.is_none().then(|| self.zones.values()).into_iter().flatten();
        let of = |zone: &ZoneState| {
            let (model, pools) = (zone.model(), zone.taken.parts.ids.pools_of(zone.model(), id));
            let roots = pools.iter().flat_map(|at| zone.consulted.roots_of_pool.get(*at).into_iter().flatten());
            let ttls = roots.map(|root| &model.steers[zone.roots[*root].steer]).map(|steer| {
                let range = self.effects.ttl_of_steered(&model.name, &steer.owner, steer.ttl);
                u64::from(range.min).max(u64::from(range.max).saturating_sub(low))
            });
            Some(ttls.max()? + model.safety.drain_guard.as_secs())
        };
        own.into_iter().chain(others).filter_map(|zone| of(zone)).max().unwrap_or(0)
    }

    /// An overlay as it is shown: where it stands, whether it holds, and when what it withdrew may be stopped.
    pub(super) fn shown(&self, laid: &Laid) -> Overlay {
        self.shown_beside(laid, &mut self.ranks())
    }

    /// The same of several.
    pub(super) fn all_shown<'l>(&self, laid: impl Iterator<Item = &'l Laid>) -> Vec<Overlay> {
        let mut ranks = self.ranks();
        laid.map(|laid| self.shown_beside(laid, &mut ranks)).collect()
    }

    fn shown_beside(&self, laid: &Laid, ranks: &mut Ranks<'_>) -> Overlay {
        let Standing { in_force, by, why } = ranks.standing(laid);
        let phase = match laid.overlay.phase_word() {
            _ if laid.found().is_none() => "without effect",
            "waiting" => "waiting",
            _ if !in_force => "outranked",
            phase => phase,
        };
        let (partly, outranked) = if in_force { (why, None) } else { (None, why) };
        Overlay {
            phase: phase.into(),
            in_force,
            outranked_by: by,
            partly,
            // What is outranked goes on by its clock, but none of its weights is the one in effect.
            progress: laid.overlay.progress_at(self.paced_unix).map(|way| Progress { weight: way.weight.filter(|_| in_force), ..way }),
            withdrawal: self.withdrawal(laid),
            inactive: laid.overlay.inactive.clone().or(outranked),
            ..laid.overlay.clone()
        }
    }

    /// Tells which overlays hold.
    pub(super) fn ranks(&self) -> Ranks<'_> {
        Ranks::new(&self.book, &self.effects, self.loaded())
    }

    fn withdrawal(&self, laid: &Laid) -> Option<Withdrawal> {
        let id = laid.withdrawn().filter(|_| laid.overlay.back.is_none())?;
        let (mut still, mut until, mut guard, mut has_any) = (Vec::new(), 0, 0, false);
        // Ids begin with their zone, but for regions and what libraries define.
        let apex = own_zone(id);
        let own = apex.as_ref().and_then(|apex| self.zones.get(apex));
        let others = own.is_none().then(|| self.zones.values()).into_iter().flatten();
        for zone in own.into_iter().chain(others) {
            if zone.finish(id, &mut still, &mut until) {
                has_any = true;
                guard = guard.max(zone.model().safety.drain_guard.as_secs());
            }
        }
        if laid.found().is_none() {
            return self.gone(laid, apex.as_ref(), until + guard);
        }
        // `up` beside it, or stronger at another level: not this one's doing.
        if !has_any {
            return None;
        }
        still.sort();
        still.dedup();
        if !still.is_empty() {
            return Some(Withdrawal { state: "draining".into(), safe_to_stop_at: None, still_answered: still });
        }
        let departed = if own.is_none() { self.departed.safe() } else { 0 };
        let safe = laid.kept_safe.unwrap_or(self.start_floor + guard).max(until + guard).max(departed);
        Some(leaves(safe, self.has_come(safe)))
    }

    /// What the files do not have any more: nothing hands it out, and what caches hold of it runs out as it did. `until` is what its zone, which may be
    /// there still, knows of it. What was not yet withdrawn as a whole is safe when all that the zone answered with it is over.
    fn gone(&self, laid: &Laid, apex: Option<&Name>, until: u64) -> Option<Withdrawal> {
        let known = laid.overlay.withdrawal.as_ref().and_then(|one| one.safe_to_stop_at).or(laid.kept_safe).unwrap_or(0);
        let departed = match (laid.overlay.target.strip_prefix("region:"), apex.and_then(|apex| self.zones.get(apex))) {
            (Some(region), _) => self.departed.safe_of_region(region),
            (None, Some(zone)) if known == 0 => zone.leaving.cached_floor + zone.model().safety.drain_guard.as_secs(),
            (None, Some(_)) => 0,
            (None, None) => apex.map_or(0, |apex| self.departed.safe_of(apex)),
        };
        let safe = known.max(until).max(departed);
        (safe > 0).then(|| leaves(safe, self.has_come(safe)))
    }

    /// Keeps with every withdrawal when it is safe, so that a restart need not wait again; says when one is drained. Looks at what moved.
    pub(super) fn watch_moved(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        let mut ids = self.book.take_lost();
        ids.extend(moved.into_iter().flat_map(|id| self.book.about(&Found::Thing(id)).collect::<Vec<_>>()));
        self.watch(ids);
    }

    /// The same for what moved and for what time may have ended.
    pub(super) fn watch_withdrawals(&mut self) {
        self.watch_moved();
        let is_due = |withdrawal: &Withdrawal| withdrawal.state != "drained" && withdrawal.safe_to_stop_at.is_some_and(|at| self.has_come(at));
        let due = self.book.overlays().filter(|overlay| overlay.withdrawal.as_ref().is_some_and(is_due));
        self.watch(due.map(|overlay| overlay.id).collect());
    }

    fn watch(&mut self, ids: BTreeSet<u64>) {
        for id in ids {
            let Some(laid) = self.book.get(id) else { continue };
            let now = self.withdrawal(laid);
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
