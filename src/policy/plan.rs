//! From the order of things to a decision: health, operators' force, weights and TTL. Made at publication, not per query.
//!
//! A class is evaluated in passes; the first that yields anything decides (CONTRACT, Zone TOML):
//!
//! ```text
//! 1 healthy      pools that are not critical and not held back by failback
//! 2 any up       pools with at least one usable endpoint
//! 3 all_down     pool | nodata | servfail | last-good, or for `all`:
//! 4   all        as if every endpoint were up, except those that operators put down or drain
//! 5   really all as if every endpoint were up
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::health::State;
pub use crate::policy::choice::{AddressSet, AnswerSet, Choice, WEIGHT_SCALE, WeightedChoice, WeightedEntry};
use crate::policy::chunked::Chunked;
use crate::policy::model::{
    AllDown, Child, Endpoint, Forced, Policy, PolicyIx, PolicyKind, Pool, PoolIx, Steer, Target, TtlRange, WeightedMode, ZoneModel,
};
pub use crate::policy::pass::Pass;
use crate::policy::resolve::{Class, Step};
use crate::zone::Ttl;

/// Unsettled for now: the TTL stays at its minimum.
pub const UNSETTLED: u64 = u64::MAX;

/// What is known of one zone's endpoints, and what operators laid over its files.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Indexed by [`PoolIx`]. Those that did not change are shared with the view before.
    pub pools: Chunked<Arc<PoolView>, 64>,
    /// Weights of policy children that differ from the files.
    pub child_weights: Arc<BTreeMap<(PolicyIx, Child), u16>>,
    /// What reported loads make of the weights of policy children, 0 to 1.2; 1 where nothing is said.
    pub child_factors: Arc<BTreeMap<(PolicyIx, Child), f32>>,
    /// Children that failback holds back.
    pub held: BTreeSet<(PolicyIx, Child)>,
    /// Some pool yields a part of its traffic ([`PoolView::yields`]).
    pub yielding: bool,
}

/// What is known of one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolView {
    /// In the order of [`Pool::endpoints`].
    pub endpoints: Vec<EndpointView>,
    /// Unix seconds since when nothing in it is unsettled; [`UNSETTLED`] while something is; 0 when nothing ever was.
    pub settled_at: u64,
    /// Forced `down` or `drain` on the pool as a whole or its region; matters for pools without endpoints.
    pub forced: Option<Forced>,
    /// The share of its traffic, 0 to 1, that it leaves to whoever comes after it: while an operator drains it or brings it back step by step, or for
    /// its load.
    pub yields: f32,
    /// The part of that which an operator takes, and not its load.
    pub drained: f32,
    /// Counter slot.
    pub slot: u32,
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointView {
    /// As checks see it; `Up` when nothing checks it.
    pub state: State,
    /// The strongest force of endpoint, pool and region.
    pub forced: Option<Forced>,
    /// In effect, 0 to 65535.
    pub weight: u16,
    /// Share of the weight while ramping, yielding or degraded, 0 to 1.
    pub ramp: f32,
    /// The part of that which an operator takes, drains or brings back, 0 to 1.
    pub drained: f32,
    /// Its checks fail, but a safety rule forbids to withdraw it.
    pub kept: bool,
}

impl EndpointView {
    /// May be handed out. Truth table: forced down or drain → no; forced up → yes; else by state.
    pub fn is_usable(&self) -> bool {
        match self.forced {
            Some(Forced::Down | Forced::Drain) => false,
            Some(Forced::Up) => true,
            None => self.state.is_usable(),
        }
    }

    /// Failed, but not withdrawn: handed out where nothing else is usable, before `all_down`.
    pub fn is_last_resort(&self) -> bool {
        self.kept && self.forced.is_none() && !self.state.is_usable()
    }

    /// Asks for the minimum TTL: draining, or unsettled and not overruled.
    pub fn is_unsettled(&self) -> bool {
        match self.forced {
            Some(Forced::Drain) => true,
            Some(_) => false,
            None => self.state.is_unsettled(),
        }
    }

    fn is_withdrawn(&self) -> bool {
        matches!(self.forced, Some(Forced::Down | Forced::Drain))
    }
}

/// The decision for one class of clients, ready to be answered from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is handed out.
    pub choice: Choice,
    /// Bounds of the TTL.
    pub ttl: TtlRange,
    /// When everything consulted settled; see [`PoolView::settled_at`].
    pub settled_at: u64,
    /// Which pass decided.
    pub pass: Pass,
}

/// Steps of what a pool yields: far more than there are steps in a drain.
const YIELD_SCALE: f32 = (WEIGHT_SCALE * 1024) as f32;

/// How one pool looked to the evaluation, for `explain`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Considered {
    /// Pool id.
    pub pool: String,
    /// Usable endpoints.
    pub usable: usize,
    /// All endpoints.
    pub total: usize,
    /// `min_healthy` as a count.
    pub needed: usize,
    /// Why it was passed over, or `None` when it could serve.
    pub passed_over: Option<String>,
    /// Too little of it is usable, so health has no say within it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
}

/// Answer sets of single pools, made once for all names and classes that come to them.
#[derive(Clone, Debug, Default)]
pub struct Sets(HashMap<(PoolIx, Look), Arc<AnswerSet>>);

impl Sets {
    /// Must be called when what is known of the pool changes.
    pub fn forget(&mut self, ix: PoolIx) {
        for look in [Look::Healthy, Look::LastResort, Look::NotWithdrawn, Look::Everything] {
            self.0.remove(&(ix, look));
        }
    }
}

/// Evaluates one class. `last_good` is the plan that served before everything failed, if one is known. `considered` hears of every pool
/// that was looked at.
pub fn plan(
    model: &ZoneModel,
    steer: &Steer,
    ttl: TtlRange,
    class: &Class,
    view: &View,
    last_good: Option<&Plan>,
    considered: &mut dyn FnMut(Considered),
) -> Plan {
    let evaluation = Evaluation { model, view, answers: steer.answers, settled_at: 0, considered: Some(considered), sets: &mut Sets::default() };
    evaluation.plan(steer, ttl, class, last_good)
}

/// The same without reasons, and with answer sets shared: for making many plans.
pub fn plan_with(model: &ZoneModel, steer: &Steer, ttl: TtlRange, class: &Class, view: &View, last_good: Option<&Plan>, sets: &mut Sets) -> Plan {
    let evaluation = Evaluation { model, view, answers: steer.answers, settled_at: 0, considered: None, sets };
    evaluation.plan(steer, ttl, class, last_good)
}

/// True when a class has anything usable: when its plan is not that of `all_down`.
pub fn has_any_up(model: &ZoneModel, class: &Class, view: &View) -> bool {
    let mut evaluation = Evaluation { model, view, answers: None, settled_at: 0, considered: None, sets: &mut Sets::default() };
    evaluation.has_any_up(&class.step, Demand::default())
}

/// So little of a pool is usable that those would have to carry too much: health has no say within it then, and all that operators leave in is handed
/// out. Not where nothing is usable: whoever comes next is better.
pub fn is_in_panic(pool: &Pool, view: &PoolView) -> bool {
    let Some(least) = pool.panic else { return false };
    let sum = |of: fn(&EndpointView) -> u64, keep: fn(&EndpointView) -> bool| view.endpoints.iter().filter(|one| keep(one)).map(of).sum::<u64>();
    let by_weight = view.endpoints.iter().any(|one| one.weight > 0 && !one.is_withdrawn());
    let of: fn(&EndpointView) -> u64 = if by_weight { |one| one.weight.into() } else { |_| 1 };
    let (usable, all) = (sum(of, EndpointView::is_usable), sum(of, |one| !one.is_withdrawn()));
    usable * 100 < all * u64::from(least) && view.endpoints.iter().any(EndpointView::is_usable)
}

/// What counts as available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Look {
    Healthy,
    AnyUp,
    LastResort,
    NotWithdrawn,
    Everything,
}

/// What policies above a pool ask of it.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    both_families: bool,
    /// The outermost policy's cap.
    answers: Option<u8>,
}

impl Demand {
    fn under(self, policy: &Policy) -> Demand {
        Demand { both_families: self.both_families || policy.require_both_families, answers: self.answers.or(policy.answers) }
    }
}

struct Evaluation<'a> {
    model: &'a ZoneModel,
    view: &'a View,
    /// The steered name's cap on addresses.
    answers: Option<u8>,
    settled_at: u64,
    considered: Option<&'a mut dyn FnMut(Considered)>,
    sets: &'a mut Sets,
}

/// Why a pool was passed over.
#[derive(Clone, Copy, Debug)]
enum Passed {
    Withdrawn,
    NothingUsable,
    Critical,
    LacksFamily,
    Held,
}

impl Evaluation<'_> {
    fn plan(mut self, steer: &Steer, ttl: TtlRange, class: &Class, last_good: Option<&Plan>) -> Plan {
        for (pass, look) in [(Pass::Healthy, Look::Healthy), (Pass::AnyUp, Look::AnyUp)] {
            if let Some(choice) = self.choose(&class.step, look, Demand::default()) {
                let plan = Plan { choice, ttl, settled_at: self.settled_at, pass };
                debug_assert!(has_any_up(self.model, class, self.view), "{:?}", class.step);
                return plan;
            }
        }
        debug_assert!(!has_any_up(self.model, class, self.view), "{:?}", class.step);
        if let Some(choice) = self.choose(&class.step, Look::LastResort, Demand::default()) {
            return Plan { choice, ttl, settled_at: UNSETTLED, pass: Pass::LastResort };
        }
        let choice = match class.all_down.unwrap_or(steer.all_down) {
            AllDown::NoData => Choice::NoData,
            AllDown::ServFail => Choice::ServFail,
            AllDown::Pool(ix) => self.answers_of(&[ix], Look::Everything, None),
            AllDown::LastGood => match last_good.and_then(|plan| self.left_of(&plan.choice, &class.step)) {
                Some(choice) => choice,
                None => self.as_if_up(&class.step),
            },
            AllDown::All => self.as_if_up(&class.step),
        };
        Plan { choice, ttl, settled_at: UNSETTLED, pass: Pass::AllDown }
    }

    /// What served last, without what operators have withdrawn since; `None` where they have withdrawn all of it.
    fn left_of(&self, choice: &Choice, step: &Step) -> Option<Choice> {
        fn pools(step: &Step, all: &mut BTreeSet<u32>) {
            match step {
                Step::Pool(ix) => drop(all.insert(ix.0)),
                step => step.children().iter().for_each(|(_, step)| pools(step, all)),
            }
        }
        let mut all = BTreeSet::new();
        pools(step, &mut all);
        let pairs = all.into_iter().flat_map(|ix| self.model.pools[ix as usize].endpoints.iter().zip(&self.view.pools[ix as usize].endpoints));
        let (withdrawn, others): (Vec<_>, Vec<_>) = pairs.partition(|(_, seen)| seen.is_withdrawn());
        let gone: Vec<&Target> = withdrawn.iter().map(|(endpoint, _)| &endpoint.target).collect();
        if gone.is_empty() {
            return Some(choice.clone());
        }
        // In another pool it may still be meant.
        let is_left = |target: &Target| !gone.contains(&target) || others.iter().any(|(endpoint, _)| endpoint.target == *target);
        choice.only(&|set| {
            let left = set.only(
                |addr| is_left(&Target::Address(addr)),
                |name| {
                    let mut is_gone = gone.iter().filter(|target| matches!(target, Target::Cname(one) if one.as_wire() == name));
                    is_gone.all(|target| is_left(target))
                },
            );
            let has_targets = |set: &AnswerSet| !set.v4.addrs.is_empty() || !set.v6.addrs.is_empty() || set.cname.is_some();
            if has_targets(set) && !has_targets(&left) { AnswerSet::default() } else { left }
        })
    }

    /// Whether [`choose`](Self::choose) finds anything with [`Look::AnyUp`], without making it.
    fn has_any_up(&mut self, step: &Step, demand: Demand) -> bool {
        match step {
            Step::Pool(ix) => self.is_available(*ix, Look::AnyUp, demand),
            Step::Order { policy, to } | Step::Weighted { policy, to } | Step::Merge { policy, to } => {
                let demand = demand.under(self.model.policy(*policy));
                to.iter().any(|(_, step)| self.has_any_up(step, demand))
            }
        }
    }

    fn as_if_up(&mut self, step: &Step) -> Choice {
        self.choose(step, Look::NotWithdrawn, Demand::default())
            .or_else(|| self.choose(step, Look::Everything, Demand::default()))
            .unwrap_or(Choice::NoData)
    }

    fn choose(&mut self, step: &Step, look: Look, demand: Demand) -> Option<Choice> {
        match step {
            Step::Pool(ix) => self.is_available(*ix, look, demand).then(|| self.answers_of(&[*ix], look, demand.answers)),
            Step::Order { policy, to } => {
                let demand = demand.under(self.model.policy(*policy));
                if look != Look::Healthy || self.view.held.is_empty() {
                    return self.first_of(*policy, to.iter(), look, demand);
                }
                let held = |child: &Child| self.view.held.contains(&(*policy, *child));
                // Held children are better ones that traffic has left: they come in only when there is nothing else to stay on.
                let (waiting, free): (Vec<_>, Vec<_>) = to.iter().partition(|(child, _)| held(child));
                waiting.iter().for_each(|(child, _)| self.note_held(*child, look, demand));
                self.first_of(*policy, free.into_iter().chain(waiting), look, demand)
            }
            Step::Weighted { policy, to } => self.choose_weighted(*policy, to, look, demand),
            Step::Merge { policy, to } => {
                let demand = demand.under(self.model.policy(*policy));
                let mut pools = Vec::new();
                for (_, step) in to {
                    self.available_pools(step, look, demand, &mut pools);
                }
                (!pools.is_empty()).then(|| self.answers_of(&pools, look, demand.answers))
            }
        }
    }

    /// The first that works. One that yields a part of its traffic shares it with those after it, up to the first that yields nothing. The last of them
    /// keeps what it would leave to others for its load: it would come back to those that are before it for theirs.
    fn first_of<'s>(&mut self, policy: PolicyIx, to: impl Iterator<Item = &'s (Child, Step)>, look: Look, demand: Demand) -> Option<Choice> {
        let mut entries: Vec<WeightedEntry> = Vec::new();
        let weight_of = |left: f32, yields: f32| ((left * (1.0 - yields) * YIELD_SCALE) as u64).max(1);
        let (mut left, mut last) = (1.0, 0);
        for (child, step) in to {
            let Some(choice) = self.choose(step, look, demand) else { continue };
            let yields = self.yields_of(*child, look, |pool| pool.yields);
            if entries.is_empty() && yields == 0.0 {
                return Some(choice);
            }
            last = weight_of(left, self.yields_of(*child, look, |pool| pool.drained));
            entries.push(WeightedEntry { weight: weight_of(left, yields), id: hash_text(self.model.child_name(*child)), choice });
            left *= yields;
            if yields == 0.0 {
                break;
            }
        }
        if let Some(entry) = entries.last_mut() {
            entry.weight = last;
        }
        self.weighted(policy, WeightedMode::Coherent, entries)
    }

    /// What a child leaves to those after it: a policy yields only what all its pools do.
    fn yields_of(&self, child: Child, look: Look, of: impl Fn(&PoolView) -> f32) -> f32 {
        if !self.view.yielding || matches!(look, Look::NotWithdrawn | Look::Everything) {
            return 0.0;
        }
        let of_pool = |ix: PoolIx| of(&self.view.pools[ix.0 as usize]);
        match child {
            Child::Pool(ix) => of_pool(ix),
            child => self.model.pools_below(child).into_iter().map(of_pool).reduce(f32::min).unwrap_or(0.0),
        }
    }

    /// What is held is consulted: the TTL goes by what became of it, as it would without a hold.
    fn note_held(&mut self, child: Child, look: Look, demand: Demand) {
        for ix in self.model.pools_below(child) {
            let why = self.consult(ix, look, demand).unwrap_or(Passed::Held);
            self.report(ix, Some(why));
        }
    }

    /// The pools that a merged child contributes: every alternative that is available, or the first of an order.
    fn available_pools(&mut self, step: &Step, look: Look, demand: Demand, pools: &mut Vec<PoolIx>) -> bool {
        match step {
            Step::Pool(ix) => {
                let available = self.is_available(*ix, look, demand);
                if available && !pools.contains(ix) {
                    pools.push(*ix);
                }
                available
            }
            Step::Order { policy, to } => {
                let demand = demand.under(self.model.policy(*policy));
                to.iter().any(|(_, step)| self.available_pools(step, look, demand, pools))
            }
            Step::Weighted { policy, to } | Step::Merge { policy, to } => {
                let demand = demand.under(self.model.policy(*policy));
                to.iter().fold(false, |any, (_, step)| self.available_pools(step, look, demand, pools) || any)
            }
        }
    }

    /// Zero weights as Route 53 has them: never while a non-zero child is available; equal shares when only zeros are left.
    fn choose_weighted(&mut self, ix: PolicyIx, to: &[(Child, Step)], look: Look, demand: Demand) -> Option<Choice> {
        let policy = self.model.policy(ix);
        let PolicyKind::Weighted { to: weights, mode, .. } = &policy.kind else { return None };
        let demand = demand.under(policy);
        let mut entries: Vec<(u64, WeightedEntry)> = Vec::with_capacity(to.len());
        for (child, step) in to {
            let weight = self.view.child_weights.get(&(ix, *child)).copied();
            let weight = weight.or_else(|| weights.iter().find(|(other, _)| other == child).map(|(_, weight)| *weight)).unwrap_or(0);
            if let Some(choice) = self.choose(step, look, demand) {
                let factor = self.view.child_factors.get(&(ix, *child)).copied().unwrap_or(1.0);
                let share = factor * self.ramp_of(*child, look) * (1.0 - self.yields_of(*child, look, |pool| pool.yields));
                let scaled = (u64::from(weight) * WEIGHT_SCALE) as f64 * f64::from(share);
                let id = hash_text(self.model.child_name(*child));
                entries.push((u64::from(weight), WeightedEntry { weight: (scaled as u64).max(1), id, choice }));
            }
        }
        if entries.iter().any(|(weight, _)| *weight > 0) {
            entries.retain(|(weight, _)| *weight > 0);
        } else {
            entries.iter_mut().for_each(|(_, entry)| entry.weight = WEIGHT_SCALE);
        }
        self.weighted(ix, *mode, entries.into_iter().map(|(_, entry)| entry).collect())
    }

    fn weighted(&self, ix: PolicyIx, mode: WeightedMode, mut entries: Vec<WeightedEntry>) -> Option<Choice> {
        match entries.len() {
            0 => None,
            1 => entries.pop().map(|entry| entry.choice),
            _ => {
                let salt = hash_text(&format!("{}{}", self.model.name.to_lowercase(), self.model.policy(ix).name));
                let total = entries.iter().map(|entry| entry.weight).sum();
                Some(Choice::Weighted(WeightedChoice { mode, salt, total, entries }))
            }
        }
    }

    /// The share of its weight that a pool takes while its endpoints ramp up: the mean over the usable ones.
    fn ramp_of(&self, child: Child, look: Look) -> f32 {
        let Child::Pool(ix) = child else { return 1.0 };
        if matches!(look, Look::NotWithdrawn | Look::Everything) {
            return 1.0;
        }
        let usable: Vec<f32> = self.view.pools[ix.0 as usize].endpoints.iter().filter(|e| e.is_usable()).map(|e| e.ramp).collect();
        if usable.is_empty() { 1.0 } else { usable.iter().sum::<f32>() / usable.len() as f32 }
    }

    fn is_available(&mut self, ix: PoolIx, look: Look, demand: Demand) -> bool {
        let why = self.consult(ix, look, demand);
        self.report(ix, why);
        why.is_none()
    }

    /// Why a pool cannot serve, if it cannot.
    fn consult(&mut self, ix: PoolIx, look: Look, demand: Demand) -> Option<Passed> {
        let (pool, view) = (self.model.pool(ix), &self.view.pools[ix.0 as usize]);
        self.settled_at = self.settled_at.max(view.settled_at);
        let usable = available(pool, view, look).count();
        let needed = pool.min_healthy.needed(pool.endpoints.len());
        if pool.endpoints.is_empty() {
            let withdrawn = look != Look::Everything && matches!(view.forced, Some(Forced::Down | Forced::Drain));
            withdrawn.then_some(Passed::Withdrawn)
        } else if usable == 0 {
            Some(Passed::NothingUsable)
        } else if look == Look::Healthy && usable < needed {
            Some(Passed::Critical)
        } else if demand.both_families && look != Look::Everything && !has_both_families(pool, view, look) {
            Some(Passed::LacksFamily)
        } else {
            None
        }
    }

    fn report(&mut self, ix: PoolIx, passed_over: Option<Passed>) {
        let Some(considered) = &mut self.considered else { return };
        let (pool, view) = (self.model.pool(ix), &self.view.pools[ix.0 as usize]);
        let usable = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
        let needed = pool.min_healthy.needed(pool.endpoints.len());
        let words = |passed| match passed {
            Passed::Withdrawn => "withdrawn by an operator".to_string(),
            Passed::NothingUsable => "no usable endpoint".to_string(),
            Passed::Critical => format!("critical: {usable} usable, {needed} needed"),
            Passed::LacksFamily => "lacks a usable endpoint of one family".to_string(),
            Passed::Held => "held back by failback".to_string(),
        };
        considered(Considered {
            pool: pool.id.to_string(),
            usable,
            total: pool.endpoints.len(),
            needed,
            passed_over: passed_over.map(words),
            panic: is_in_panic(pool, view),
        });
    }

    fn answers_of(&mut self, pools: &[PoolIx], look: Look, policy_answers: Option<u8>) -> Choice {
        let most = pools.iter().map(|ix| self.model.pool(*ix).answers).max().unwrap_or(0);
        let answers = self.answers.or(policy_answers).unwrap_or(most).max(1);
        let set = match pools {
            [ix] => {
                // What is usable is the same in both passes.
                let look = if look == Look::AnyUp { Look::Healthy } else { look };
                let (model, view) = (self.model, self.view);
                self.sets.0.entry((*ix, look)).or_insert_with(|| Arc::new(set_of(model, view, pools, look))).clone()
            }
            _ => Arc::new(set_of(self.model, self.view, pools, look)),
        };
        Choice::Answers { set, answers }
    }
}

fn set_of(model: &ZoneModel, views: &View, pools: &[PoolIx], look: Look) -> AnswerSet {
    let mut set = AnswerSet::default();
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for ix in pools {
        let (pool, view) = (model.pool(*ix), &views.pools[ix.0 as usize]);
        let by_health = matches!(look, Look::Healthy | Look::AnyUp);
        let panics = by_health && is_in_panic(pool, view);
        for (endpoint, seen) in available(pool, view, if panics { Look::NotWithdrawn } else { look }) {
            // Beside other pools, what a pool gives up is weight of its endpoints.
            let yields = if pools.len() > 1 { view.yields } else { 0.0 };
            let share = if panics { 1.0 - seen.drained } else { seen.ramp };
            let ramp = if by_health { share * (1.0 - yields) } else { 1.0 };
            let weight = scale_weight(seen.weight, ramp);
            match &endpoint.target {
                Target::Address(IpAddr::V4(addr)) => v4.push((addr.octets(), weight)),
                Target::Address(IpAddr::V6(addr)) => v6.push((addr.octets(), weight)),
                Target::Cname(name) => set.cname = Some(name.as_wire().into()),
            }
        }
        for (rtype, rdatas) in &pool.records {
            if !set.records.iter().any(|(other, _)| other == rtype) {
                set.records.push((*rtype, rdatas.clone()));
            }
        }
    }
    if let [ix] = pools {
        set.slot = Some(views.pools[ix.0 as usize].slot);
    }
    set.v4 = AddressSet::new(dedup(v4));
    set.v6 = AddressSet::new(dedup(v6));
    set
}

fn scale_weight(weight: u16, ramp: f32) -> u32 {
    match weight {
        0 => 0,
        weight => ((f64::from(weight) * WEIGHT_SCALE as f64 * f64::from(ramp)) as u32).max(1),
    }
}

fn dedup<const N: usize>(mut entries: Vec<([u8; N], u32)>) -> Vec<([u8; N], u32)> {
    let mut seen = BTreeSet::new();
    entries.retain(|(addr, _)| seen.insert(*addr));
    entries
}

fn available<'a>(pool: &'a Pool, view: &'a PoolView, look: Look) -> impl Iterator<Item = (&'a Endpoint, &'a EndpointView)> {
    pool.endpoints.iter().zip(&view.endpoints).filter(move |(_, seen)| match look {
        Look::Healthy | Look::AnyUp => seen.is_usable(),
        Look::LastResort => seen.is_last_resort(),
        Look::NotWithdrawn => !seen.is_withdrawn(),
        Look::Everything => true,
    })
}

fn has_both_families(pool: &Pool, view: &PoolView, look: Look) -> bool {
    pool.is_cname
        || [true, false]
            .into_iter()
            .all(|v4| available(pool, view, look).any(|(endpoint, _)| matches!(&endpoint.target, Target::Address(addr) if addr.is_ipv4() == v4)))
}

/// The hash behind `coherent` and `sticky`: FNV-1a over the octets, then a finishing mix (SplitMix64). Fixed for ever: all servers and all
/// versions must come to the same answers.
pub fn hash_octets(seed: u64, octets: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for octet in octets {
        hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

/// The finishing mix of SplitMix64.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash_text(text: &str) -> u64 {
    hash_octets(0, text.as_bytes())
}

impl Plan {
    /// Seconds to hand out at `unix_s`: the minimum while unsettled, then back to the maximum over 2 × max (CONTRACT, `ttl`).
    pub fn ttl_at(&self, unix_s: u64) -> Ttl {
        let TtlRange { max, min } = self.ttl;
        if self.settled_at == UNSETTLED {
            return min;
        }
        let (elapsed, whole) = (unix_s.saturating_sub(self.settled_at), 2 * u64::from(max));
        if elapsed >= whole { max } else { min + (u64::from(max - min) * elapsed / whole.max(1)) as Ttl }
    }
}
