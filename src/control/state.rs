//! What one zone is at present: compiled parts, what is known of its endpoints, and the world made from both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::api::CheckSpec;
use super::checks::Checks;
use super::compile::Root;
use super::finish::Leaving;
use super::holds::{self, Held, Hold};
use super::last_good::LastGood;
use super::last_resort::{Keeping, Resorted};
use super::load::TakenZone;
use super::loads::Loads;
use super::overlays::{Effects, zone_text};
use super::panics::Panics;
use super::safety::{self, Proposed};
use super::standing::Standing;
use crate::config::TextHash;
use crate::dns::{Name, RecordType};
use crate::health::State;
use crate::policy::model::{AllDown, Child, Failback, Forced, PolicyIx, PoolIx, Steer, TtlRange, Vote, ZoneModel};
use crate::policy::plan::{self, EndpointView, Plan, PoolView, Sets, UNSETTLED, View};
use crate::policy::resolve::Class;
use crate::world::{SteeredName, Steering, Steerings, ZoneWorld};
use crate::zone::Ttl;
use crate::zone::tree::NodeId;

/// What is outside a zone and shapes it.
pub(super) struct Surroundings<'a> {
    pub(super) checks: &'a Checks,
    pub(super) effects: &'a Effects,
    pub(super) loads: &'a Loads,
    /// Since process start.
    pub(super) now: Duration,
    pub(super) now_unix: u64,
    /// Counter slot of a name.
    pub(super) slot: &'a dyn Fn(&str) -> u32,
}

/// What of a zone a proposal may make look different.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Pools, by index.
    pub(super) pools: BTreeSet<usize>,
    /// Weights of the children of policies.
    pub(super) children: bool,
}

impl Look {
    /// Adds what another looks at.
    pub(super) fn join(&mut self, other: &Look) {
        self.pools.extend(&other.pools);
        self.children |= other.children;
    }
}

/// What of a zone has to be looked at again.
#[derive(Debug, Default)]
pub(super) struct Dirt {
    /// Everything.
    pub(super) whole: bool,
    /// These pools, by index, and what consults them.
    pub(super) pools: BTreeSet<usize>,
    /// These positions in [`ZoneState::roots`].
    pub(super) roots: BTreeSet<usize>,
    /// Weights of the children of policies.
    pub(super) children: bool,
    /// TTLs of static records.
    pub(super) statics: bool,
}

/// Who consults whom, for making only the plans again that a change can alter. Indexed by pool and policy.
#[derive(Debug, Default)]
pub(super) struct Consulted {
    /// Positions in [`ZoneState::roots`].
    pub(super) roots_of_pool: Vec<Vec<usize>>,
    /// Those whose failback is not `auto`.
    holders_of_pool: Vec<Vec<PolicyIx>>,
    roots_of_policy: Vec<Vec<usize>>,
}

impl Consulted {
    fn of(model: &ZoneModel, roots: &[Root]) -> Consulted {
        let mut consulted = Consulted {
            roots_of_pool: vec![Vec::new(); model.pools.len()],
            holders_of_pool: vec![Vec::new(); model.pools.len()],
            roots_of_policy: vec![Vec::new(); model.policies.len()],
        };
        for (at, root) in roots.iter().enumerate() {
            let steer = &model.steers[root.steer];
            let last_resorts = root.classes.iter().filter_map(|class| class.all_down).chain([steer.all_down]);
            let last_resorts = last_resorts.filter_map(|all_down| if let AllDown::Pool(ix) = all_down { Some(ix) } else { None });
            let pools: BTreeSet<_> = model.pools_below(steer.root).into_iter().chain(last_resorts).collect();
            pools.into_iter().for_each(|ix| consulted.roots_of_pool[ix.0 as usize].push(at));
            model.policies_below(steer.root).into_iter().for_each(|ix| consulted.roots_of_policy[ix.0 as usize].push(at));
        }
        for (at, _) in model.policies.iter().enumerate().filter(|(_, policy)| policy.failback != Failback::Auto) {
            let ix = PolicyIx(at as u32);
            model.pools_below(Child::Policy(ix)).into_iter().for_each(|pool| consulted.holders_of_pool[pool.0 as usize].push(ix));
        }
        consulted
    }
}

/// All zones that are served, by name. Boxed, for a map of a hundred thousand moves them about and has room for as many again.
pub(super) type Zones = BTreeMap<Name, Box<ZoneState>>;

/// One zone in service.
#[derive(Debug)]
pub(super) struct ZoneState {
    pub(super) taken: TakenZone,
    /// Of the SOA.
    pub(super) serial: u32,
    /// What the serial stands for: content and record overlays.
    pub(super) serial_content: String,
    /// `None`: serving what the files say. Else why an older version serves.
    pub(super) kept_why: Option<String>,
    pub(super) world: Option<Arc<ZoneWorld>>,
    /// `ZoneParts::roots`, and one more for each name that no longer is like the others of its root: an overlay sets its TTL.
    pub(super) roots: Vec<Root>,
    /// Which names use which, when other than in `ZoneParts::steered`.
    steered: Option<Vec<SteeredName>>,
    pub(super) consulted: Consulted,
    /// As the world has it.
    pub(super) view: View,
    /// Endpoints that are out of rotation, as the view has it.
    out: usize,
    /// What is withdrawn.
    pub(super) leaving: Leaving,
    /// What fails and is not withdrawn.
    pub(super) keeping: Keeping,
    pub(super) panics: Panics,
    /// Unix seconds since when endpoints are in their state whose monitors are put together, as far as that was seen.
    pub(super) turned: Arc<HashMap<Arc<str>, u64>>,
    /// Made from `view`.
    sets: Sets,
    /// By pool index: when it settled.
    settled: Vec<u64>,
    /// By pool index: it was unsettled when last looked at.
    unsettled: Vec<bool>,
    /// By policy index: its counter slot, once a name is decided by it.
    slots: Vec<Option<u32>>,
    pub(super) held: Held,
    holds_moved: bool,
    pub(super) last_good: LastGood,
    pub(super) resorted: Resorted,
}

impl ZoneState {
    pub(super) fn new(taken: TakenZone, serial: u32, serial_content: String) -> ZoneState {
        let (pools, policies) = (taken.parts.model.pools.len(), taken.parts.model.policies.len());
        ZoneState {
            kept_why: taken.kept_why.clone(),
            roots: taken.parts.roots.clone(),
            steered: None,
            taken,
            serial,
            serial_content,
            world: None,
            consulted: Consulted::default(),
            view: View::default(),
            out: 0,
            leaving: Leaving::default(),
            keeping: Keeping::default(),
            panics: Panics::default(),
            turned: Arc::default(),
            sets: Sets::default(),
            settled: vec![0; pools],
            unsettled: vec![false; pools],
            slots: vec![None; policies],
            held: Held::new(),
            holds_moved: true,
            last_good: LastGood::default(),
            resorted: Resorted::default(),
        }
    }

    pub(super) fn model(&self) -> &Arc<ZoneModel> {
        &self.taken.parts.model
    }

    /// Takes over from the version before what goes by name: when pools settled, holds, last good answers.
    pub(super) fn inherit(&mut self, before: &ZoneState) {
        let (old, new) = (before.model().clone(), self.model().clone());
        for (at, pool) in new.pools.iter().enumerate() {
            if let Some(was) = old.pools.iter().position(|other| other.id == pool.id) {
                self.settled[at] = before.settled[was];
                self.unsettled[at] = before.unsettled[was];
            }
        }
        for ((policy, child), hold) in &before.held {
            if let Some(key) = find_hold(&new, &old.policy(*policy).name, old.child_name(*child)) {
                self.held.insert(key, *hold);
            }
        }
        self.leaving.inherit(&before.leaving, before.world.as_deref(), super::writer::unix_now());
        self.keeping.inherit(&before.keeping);
        self.panics = before.panics.clone();
        self.turned = self.turned_as_before(before);
        self.inherit_last_good(before);
    }

    /// Since when endpoints are in their state; of those that are checked in the same way as before.
    fn turned_as_before(&self, before: &ZoneState) -> Arc<HashMap<Arc<str>, u64>> {
        if before.turned.is_empty() {
            return Arc::default();
        }
        type How = (Vec<CheckSpec>, Option<Arc<Vote>>);
        let checked = |zone: &ZoneState| -> HashMap<Arc<str>, How> {
            let parts = &zone.taken.parts;
            let all = parts.model.pools.iter().zip(&parts.checks).flat_map(|(pool, checks)| pool.endpoints.iter().zip(checks));
            let noted = all.filter(|(endpoint, _)| before.turned.contains_key(&endpoint.id));
            noted.map(|(endpoint, specs)| (endpoint.id.clone(), (specs.to_vec(), endpoint.vote.clone()))).collect()
        };
        let (old, new) = (checked(before), checked(self));
        let stays = |id: &Arc<str>| old.get(id).is_some_and(|how| new.get(id) == Some(how));
        Arc::new(before.turned.iter().filter(|(id, _)| stays(id)).map(|(id, at)| (id.clone(), *at)).collect())
    }

    /// A steered name whose TTL an overlay sets, or did: gives it a root of its own. Returns the root, or `None` when there is a new one, so that
    /// the zone has to be made afresh.
    pub(super) fn split(&mut self, owner: &Name, now_unix: u64) -> Option<usize> {
        let parts = self.taken.parts.clone();
        let at = parts.ids.steer(owner)?;
        let found = self.steered.as_ref().map_or(&parts.steered[at], |steered| &steered[at]).steering as usize;
        let root = &mut self.roots[found];
        if root.steers.len() == 1 {
            return Some(found);
        }
        let own = Root { steer: at, steers: vec![at], map: root.map.clone(), classes: root.classes.clone(), sticky: root.sticky.clone() };
        root.steers.retain(|other| *other != at);
        // They are alike, but one that stays must speak for them.
        root.steer = root.steers[0];
        self.roots.push(own);
        self.steered.get_or_insert_with(|| parts.steered.to_vec())[at].steering = self.roots.len() as u32 - 1;
        let plans = self.world.as_ref().and_then(|world| world.steerings.get(found)).map(|steering| steering.plans.clone());
        self.leaving.split(found, self.roots.len() - 1, &plans.unwrap_or_default(), now_unix);
        None
    }

    /// Makes the zone's world afresh.
    pub(super) fn assemble(&mut self, around: &Surroundings<'_>) -> Arc<ZoneWorld> {
        let parts = self.taken.parts.clone();
        for owner in around.effects.steered_owners(&parts.model.name) {
            self.split(owner, around.now_unix);
        }
        self.consulted = Consulted::of(&parts.model, &self.roots);
        self.sets = Sets::default();
        // Of a new version nothing has been in rotation: only what was kept before is looked at.
        let seen_before = (0..self.view.pools.len()).collect();
        self.settle_falls(&seen_before, around);
        let pools = (0..parts.model.pools.len()).map(|at| Arc::new(self.look(at, around))).collect();
        let child_weights = Arc::new(around.effects.child_weights(&parts.model));
        let child_factors = Arc::new(around.loads.factors(&parts.model.name));
        self.view = View { pools, child_weights, child_factors, yielding: around.yields_any(), ..View::default() };
        self.out = self.view.pools.iter().map(|pool| safety::out_of_rotation(pool)).sum();
        let policies: Vec<PolicyIx> = (0..parts.model.policies.len() as u32).map(PolicyIx).collect();
        self.update_holds(policies.into_iter(), around.now);
        let steerings: Steerings = (0..self.roots.len()).map(|at| self.steering(at, around)).collect();
        let before = self.world.as_ref().filter(|before| Arc::ptr_eq(&before.model, &parts.model)).map(|before| before.steerings.clone());
        self.leaving.find(&parts, &self.consulted, &self.view, before.as_ref(), &steerings, around.now_unix);
        let ttls = self.static_ttls(around.effects);
        let world = Arc::new(ZoneWorld {
            tree: parts.tree.clone(),
            serial: self.serial,
            ttls: (!ttls.is_empty()).then(|| Arc::new(ttls)),
            steered: self.steered.as_ref().map_or_else(|| parts.steered.clone(), |steered| steered.as_slice().into()),
            steerings,
            slot: (around.slot)(&format!("zone {}", parts.model.name)),
            model: parts.model.clone(),
            view: Arc::new(self.view.clone()),
        });
        self.world = Some(world.clone());
        world
    }

    /// Makes those parts of the zone's world again that this dirt, or the passing of time, can have changed; `None` when nothing has.
    /// The rest is shared with the world before.
    pub(super) fn reassemble(&mut self, dirt: &Dirt, around: &Surroundings<'_>) -> Option<Arc<ZoneWorld>> {
        let Some(before) = self.world.clone() else { return Some(self.assemble(around)) };
        let parts = self.taken.parts.clone();
        let (mut roots, mut holders) = (dirt.roots.clone(), BTreeSet::new());
        let mut seen_anew = false;
        self.view.yielding = around.yields_any();
        for at in self.settle_falls(&dirt.pools, around) {
            let now = self.look(at, around);
            if now == *self.view.pools[at] {
                continue;
            }
            seen_anew = true;
            self.out = self.out + safety::out_of_rotation(&now) - safety::out_of_rotation(&self.view.pools[at]);
            self.view.pools.set(at, Arc::new(now));
            self.sets.forget(PoolIx(at as u32));
            roots.extend(&self.consulted.roots_of_pool[at]);
            holders.extend(&self.consulted.holders_of_pool[at]);
        }
        if dirt.children {
            let (weights, factors) = (around.effects.child_weights(&parts.model), around.loads.factors(&parts.model.name));
            let policies: BTreeSet<PolicyIx> =
                changed(&self.view.child_weights, &weights).chain(changed(&self.view.child_factors, &factors)).collect();
            seen_anew |= !policies.is_empty();
            roots.extend(policies.iter().flat_map(|policy| &self.consulted.roots_of_policy[policy.0 as usize]));
            (self.view.child_weights, self.view.child_factors) = (Arc::new(weights), Arc::new(factors));
        }
        holders.extend(self.held.iter().filter(|(_, hold)| hold.healthy_since.is_some()).map(|((policy, _), _)| *policy));
        let held_before = self.view.held.clone();
        self.update_holds(holders.into_iter(), around.now);
        for (policy, _) in held_before.symmetric_difference(&self.view.held) {
            roots.extend(&self.consulted.roots_of_policy[policy.0 as usize]);
        }
        let mut steerings: Steerings = before.steerings.clone();
        for at in roots {
            let steering = self.steering(at, around);
            if steerings[at].plans != steering.plans {
                seen_anew = true;
                self.leaving.replace(at, &before.steerings[at].plans, &steering.plans, &parts.model, &self.view, around.now_unix);
                steerings.set(at, steering);
            }
        }
        let ttls = match dirt.statics {
            true => Some(self.static_ttls(around.effects)).filter(|ttls| !ttls.is_empty()).map(Arc::new),
            false => before.ttls.clone(),
        };
        if !seen_anew && ttls == before.ttls && self.serial == before.serial {
            return None;
        }
        let world = Arc::new(ZoneWorld {
            tree: before.tree.clone(),
            serial: self.serial,
            ttls,
            steered: before.steered.clone(),
            steerings,
            slot: before.slot,
            model: before.model.clone(),
            view: Arc::new(self.view.clone()),
        });
        self.world = Some(world.clone());
        Some(world)
    }

    fn steering(&mut self, at: usize, around: &Surroundings<'_>) -> Steering {
        let model = self.model().clone();
        let root = self.roots[at].clone();
        let steer = &model.steers[root.steer];
        let ttl = around.effects.ttl_of_steered(&model.name, &steer.owner, steer.ttl);
        self.note_resorts(at, around.now);
        let plans = root.classes.iter().map(|class| self.plan(steer, ttl, class)).collect();
        let slot = match steer.root {
            Child::Policy(ix) => Some(*self.slots[ix.0 as usize].get_or_insert_with(|| {
                let policy = model.policy(ix);
                let place = if policy.inline { steer.owner.relative_to(&model.name) } else { format!("policy:{}", policy.name) };
                (around.slot)(&format!("policy {}/{place}", zone_text(&model.name)))
            })),
            Child::Pool(_) => None,
        };
        Steering { map: root.map, plans, sticky: root.sticky, classes: root.classes, slot }
    }

    fn plan(&mut self, steer: &Steer, ttl: TtlRange, class: &Class) -> Plan {
        let model = &self.taken.parts.model;
        if class.all_down.unwrap_or(steer.all_down) != AllDown::LastGood {
            return plan::plan_with(model, steer, ttl, class, &self.view, None, &mut self.sets);
        }
        let key = (steer.root, steer.answers, class.clone());
        let plan = plan::plan_with(model, steer, ttl, class, &self.view, self.last_good.of(&key), &mut self.sets);
        self.last_good.note(key, &plan);
        plan
    }

    /// What is known of the endpoints of a pool now.
    fn look(&mut self, at: usize, around: &Surroundings<'_>) -> PoolView {
        let mut seen = self.seen(at, around);
        let panics = plan::is_in_panic(&self.taken.parts.model.pools[at], &seen);
        self.panics.note(&self.taken.parts.model.pools[at].id, panics);
        let unsettled = panics
            || seen.forced == Some(Forced::Drain)
            || seen.endpoints.iter().any(EndpointView::is_unsettled)
            || around.effects.forces_any() && self.is_moving(at, around.effects)
            || around.effects.soon_idle(self.model()).any(|child| self.model().pools_below(child).contains(&PoolIx(at as u32)));
        // Without a ramp, for it was handed out while it was down: the way back begins all the same, and now.
        let came_back = || {
            let before = self.view.pools.get(at).filter(|before| !before.endpoints.is_empty());
            before.is_some_and(|before| before.endpoints.iter().all(|one| one.state == State::Down))
                && seen.endpoints.iter().any(|one| one.state.is_usable())
        };
        if !unsettled && (self.unsettled[at] || came_back()) {
            self.settled[at] = around.now_unix;
        }
        self.unsettled[at] = unsettled;
        seen.settled_at = if unsettled { UNSETTLED } else { self.settled[at] };
        seen.slot = match &self.world {
            Some(world) if Arc::ptr_eq(&world.model, &self.taken.parts.model) => world.view.pools[at].slot,
            _ => (around.slot)(&format!("pool {}", self.taken.parts.model.pools[at].id)),
        };
        seen
    }

    /// True when the pool, its region or one of its endpoints is given up step by step, or will soon be withdrawn.
    fn is_moving(&self, at: usize, effects: &Effects) -> bool {
        let pool = &self.taken.parts.model.pools[at];
        let region = pool.region.as_ref().map(|region| format!("region:{region}"));
        let is_moving = |endpoint: Option<&str>| {
            effects.yields([Some(&*pool.id), region.as_deref()]) > 0.0
                || effects.yields([endpoint, None]) > 0.0
                || effects.is_soon([endpoint, Some(&*pool.id), region.as_deref()])
        };
        is_moving(None) || pool.endpoints.iter().any(|endpoint| is_moving(Some(&*endpoint.id)))
    }

    /// What checks and operators say of a pool; when it settled and its counter slot are not looked at.
    pub(super) fn seen(&self, at: usize, around: &Surroundings<'_>) -> PoolView {
        let pool = &self.taken.parts.model.pools[at];
        let region = pool.region.as_ref().filter(|_| around.effects.forces_any()).map(|region| format!("region:{region}"));
        let forced = around.effects.forced([None, Some(&*pool.id), region.as_deref()]);
        let endpoints = pool
            .endpoints
            .iter()
            .zip(&self.taken.parts.checks[at])
            .map(|(endpoint, specs)| {
                let Standing { state, mut ramp, burdened } = around.checks.standing(specs, endpoint.vote.as_deref(), around.now);
                let forced = around.effects.forced([Some(&*endpoint.id), Some(&*pool.id), region.as_deref()]);
                let weight = around.effects.weight(&endpoint.id).unwrap_or(endpoint.weight);
                if burdened && forced.is_none() {
                    ramp *= f32::from(pool.degraded_weight) / 100.0;
                }
                let kept = state == State::Down && self.keeping.has(&endpoint.id);
                let drained = around.effects.yields([Some(&*endpoint.id), None]);
                EndpointView { state, forced, weight, ramp: ramp * (1.0 - drained), drained, kept }
            })
            .collect();
        let drained = around.effects.yields([Some(&*pool.id), region.as_deref()]);
        let yields = 1.0 - (1.0 - drained) * around.loads.kept(&pool.id);
        PoolView { endpoints, forced, yields, drained, ..PoolView::default() }
    }

    /// What a change of overlays would do to the zone, as it is seen before and after. Of the looks the first is what it may alter, the others what
    /// does not look as it is published in any case. `recent` are the withdrawals within the window of `max_changes`.
    pub(super) fn proposed(&self, [look, unseen, given]: [&Look; 3], before: View, after: View, recent: usize) -> Proposed {
        let parts = self.taken.parts.clone();
        let idle = [safety::idle_pools(&parts, &self.roots, &before), safety::idle_pools(&parts, &self.roots, &after)];
        // What a child that weighs something, or no longer does, makes of others is looked at as well.
        let pools: BTreeSet<usize> = look.pools.iter().chain(idle[0].symmetric_difference(&idle[1])).copied().collect();
        let roots: BTreeSet<usize> = pools.iter().flat_map(|at| self.consulted.roots_of_pool.get(*at).into_iter().flatten()).copied().collect();
        let roots = roots.into_iter().map(|at| self.roots[at].clone()).collect();
        let out = |view: &View, at: &usize| view.pools.get(*at).map_or(0, |pool| safety::out_of_rotation(pool));
        let standby = [&before, &after].map(|view| safety::standby_pools(&parts, &self.roots, view));
        let idle_elsewhere = idle[0]
            .difference(&pools)
            .filter(|at| !standby[0].contains(at))
            .map(|at| parts.model.pools[*at].endpoints.len() - out(&before, at))
            .sum::<usize>();
        let unseen: BTreeSet<usize> = unseen.pools.union(&given.pools).copied().collect();
        let published = self.out - pools.union(&unseen).map(|at| out(&self.view, at)).sum::<usize>();
        let out_elsewhere = published + unseen.difference(&pools).map(|at| out(&before, at)).sum::<usize>() + idle_elsewhere;
        Proposed { parts, before, after, idle, standby, pools: pools.into_iter().collect(), roots, out_elsewhere, recent }
    }

    /// The zone as it would be seen with these surroundings, as far as the looks say, and else as in `view`.
    pub(super) fn seen_under(&self, view: &View, looks: [&Look; 2], around: &Surroundings<'_>) -> View {
        let mut view = View { yielding: around.yields_any(), ..view.clone() };
        if looks.iter().any(|look| look.children) {
            view.child_weights = Arc::new(around.effects.child_weights(self.model()));
        }
        looks[0].pools.union(&looks[1].pools).for_each(|at| view.pools.set(*at, Arc::new(self.seen(*at, around))));
        view
    }

    /// The zone as it would be seen afresh.
    pub(super) fn seen_whole(&self, around: &Surroundings<'_>) -> View {
        let pools = (0..self.model().pools.len()).map(|at| Arc::new(self.seen(at, around))).collect();
        let child_weights = Arc::new(around.effects.child_weights(self.model()));
        let child_factors = Arc::new(around.loads.factors(&self.model().name));
        View { pools, child_weights, child_factors, yielding: around.yields_any(), ..View::default() }
    }

    /// What failback holds now (CONTRACT, `failback`).
    fn update_holds(&mut self, policies: impl Iterator<Item = PolicyIx>, now: Duration) {
        let model = self.model().clone();
        let mut changed = false;
        for ix in policies.filter(|ix| model.policy(*ix).failback != Failback::Auto) {
            changed = true;
            holds::update(&mut self.held, &model, &self.view, ix, now);
        }
        if changed || self.view.held.len() != self.held.len() {
            self.holds_moved = true;
            self.view.held = self.held.keys().copied().collect();
        }
    }

    /// True when holds may be others than when last asked.
    pub(super) fn take_holds_moved(&mut self) -> bool {
        std::mem::take(&mut self.holds_moved)
    }

    /// Time goes on for this zone even if nothing happens: a hold runs out.
    pub(super) fn has_timed_hold(&self) -> bool {
        self.held.values().any(|hold| hold.healthy_since.is_some())
    }

    /// Ends the holds of `policy:NAME`, or of every policy below a steered name; false when there is none of that name.
    pub(super) fn fail_back(&mut self, name: &str) -> Option<usize> {
        let model = self.model().clone();
        let policies: Vec<PolicyIx> = match name.strip_prefix("policy:") {
            Some(name) => (0..model.policies.len() as u32).map(PolicyIx).filter(|ix| model.policy(*ix).name == name).collect(),
            None => {
                let owner = Name::parse(name, &model.name).map(|owner| owner.to_lowercase());
                let steers = model.steers.iter().filter(|steer| owner.as_ref() == Ok(&steer.owner));
                steers.flat_map(|steer| model.policies_below(steer.root)).collect()
            }
        };
        let held = self.held.len();
        self.held.retain(|(ix, _), _| !policies.contains(ix));
        (!policies.is_empty()).then(|| held - self.held.len())
    }

    /// Everything that [`fail_back`](Self::fail_back) takes, with the zone in front.
    pub(super) fn failback_names(&self) -> Vec<String> {
        let model = self.model();
        let zone = zone_text(&model.name);
        let policies = model.policies.iter().filter(|policy| policy.failback != Failback::Auto && !policy.inline);
        let steers = model.steers.iter().filter(|steer| matches!(steer.root, Child::Policy(_)));
        policies.map(|policy| format!("{zone}/policy:{}", policy.name)).chain(steers.map(|steer| format!("{zone}/{}", steer.name))).collect()
    }

    /// Holds as they are kept for the next run: `zone/policy:NAME/child`.
    pub(super) fn holds(&self) -> impl Iterator<Item = String> {
        let model = self.model();
        // Asked of every zone at every publication, and mostly there are none.
        self.held
            .keys()
            .map(move |(policy, child)| format!("{}/policy:{}/{}", zone_text(&model.name), model.policy(*policy).name, model.child_name(*child)))
    }

    /// Takes up holds of the last run.
    pub(super) fn restore_holds(&mut self, holds: &[String]) {
        let model = self.model().clone();
        let prefix = format!("{}/policy:", zone_text(&model.name));
        for hold in holds {
            if let Some(key) =
                hold.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')).and_then(|(policy, child)| find_hold(&model, policy, child))
            {
                self.held.insert(key, Hold { healthy_since: None });
            }
        }
    }

    fn static_ttls(&self, effects: &Effects) -> HashMap<(NodeId, RecordType), Ttl> {
        let tree = &self.taken.parts.tree;
        let mut found = HashMap::new();
        for (owner, ttls) in effects.static_ttls(&self.model().name) {
            let Some(node) = tree.node_at(owner.as_wire()) else { continue };
            for (rtype, ttl) in ttls {
                for rrset in tree.rrsets(node).filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)) {
                    // Never above the file's own (CONTRACT, overlays).
                    found.insert((node, rrset.rtype), (*ttl).min(rrset.ttl));
                }
            }
        }
        found
    }

    /// What the serial stands for: the texts, and the record overlays laid over them.
    pub(super) fn content_key(&self, effects: &Effects) -> String {
        let mut ttls: Vec<(NodeId, u16, Ttl)> = self.static_ttls(effects).into_iter().map(|((node, rtype), ttl)| (node, rtype.0, ttl)).collect();
        ttls.sort_unstable();
        let hash = format!("{:032x}", self.taken.loaded.content);
        if ttls.is_empty() { hash } else { format!("{hash}+{:032x}", TextHash::of(format!("{ttls:?}").as_bytes())) }
    }
}

impl Surroundings<'_> {
    /// Some pool leaves a part of its traffic to others.
    fn yields_any(&self) -> bool {
        self.effects.yields_any() || self.loads.sheds_any()
    }
}

/// The policies of which a child has another value.
fn changed<'m, T: PartialEq>(
    was: &'m BTreeMap<(PolicyIx, Child), T>,
    is: &'m BTreeMap<(PolicyIx, Child), T>,
) -> impl Iterator<Item = PolicyIx> + use<'m, T> {
    let gone = was.iter().filter(|(key, value)| is.get(key) != Some(value));
    let new = is.iter().filter(|(key, value)| was.get(key) != Some(value));
    gone.chain(new).map(|((policy, _), _)| *policy)
}

fn find_hold(model: &ZoneModel, policy: &str, child: &str) -> Option<(PolicyIx, Child)> {
    let at = model.policies.iter().position(|other| other.name == policy)?;
    let child = model.policies[at].kind.children().into_iter().find(|other| model.child_name(*other) == child)?;
    Some((PolicyIx(at as u32), child))
}

/// Healthy, degraded or critical, in the words of DESIGN §2.
pub(super) fn health_word(usable: usize, total: usize, needed: usize) -> &'static str {
    match usable {
        _ if usable == total => "healthy",
        0 => "critical",
        _ if usable < needed => "critical",
        _ => "degraded",
    }
}
