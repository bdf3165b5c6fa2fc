//! What a change would do to what is in rotation, and which safety rules forbid it. A pure function of what is loaded and of what is seen
//! before and after, whoever asks: an operator's change, one that ends, or automation.
//!
//! An endpoint is *in rotation* when it may be handed out: usable, and not of weight 0 beside usable ones that weigh something; or failed, but kept as a
//! last resort by these rules ([`super::last_resort`]). A pool that names come to only as a child of weight 0, beside children that weigh something and
//! have something in rotation, is out of it as a whole ([`idle_pools`]). Who took it out,
//! an operator or its checks, makes no difference: what counts is what is left. A rule forbids only what makes things worse than they are, so
//! taking out what has failed already is always allowed.
//!
//! ```text
//! last_healthy      a name that had something usable would have nothing
//! min_in_rotation   fewer of a set than it needs
//! max_withdrawn     too large a share of the zone's endpoints out of rotation
//! min_capacity      too small a share left of what the pools of a name can carry; only where all of them say what that is
//! max_changes       too many withdrawals within the window
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Number;

use super::api::{Broken, Consequences, NameLeft, ZoneShare};
use super::compile::{Root, ZoneParts};
use super::overlays::zone_text;
use crate::config::duration_words;
use crate::policy::model::{AllDown, Child, Forced, PolicyKind, Pool, PoolIx, SafetyMember, ZoneModel};
use crate::policy::plan::{self, PoolView, View};

/// Names and endpoints that are listed; the rest is counted.
pub(super) const MAX_LISTED: usize = 100;
/// Names in a sentence.
const MAX_NAMED: usize = 3;

/// What a change would do to one zone.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) parts: Arc<ZoneParts>,
    pub(super) before: View,
    pub(super) after: View,
    /// Pools that nobody is sent to for the weights of policies' children, before and after ([`idle_pools`]).
    pub(super) idle: [BTreeSet<usize>; 2],
    /// Those of them that stand by, before and after ([`standby_pools`]).
    pub(super) standby: [BTreeSet<usize>; 2],
    /// Pools that may look different.
    pub(super) pools: Vec<usize>,
    /// What consults them.
    pub(super) roots: Vec<Root>,
    /// Endpoints out of rotation in the other pools.
    pub(super) out_elsewhere: usize,
    /// Withdrawals within the window of `max_changes`.
    pub(super) recent: usize,
}

impl Proposed {
    fn view(&self, then: bool) -> &View {
        if then { &self.after } else { &self.before }
    }

    /// Nobody is sent there. What the files say stands by, and does so again, has only filled in: it is not withdrawn.
    fn is_idle(&self, at: usize, then: bool) -> bool {
        self.idle[usize::from(then)].contains(&at) || self.stands_by_again(at)
    }

    fn stands_by_again(&self, at: usize) -> bool {
        self.standby[1].contains(&at) && self.idle[1].contains(&at)
    }

    /// Which endpoints of a pool are in rotation before, or `then`, in order.
    fn rotation(&self, at: usize, then: bool) -> impl Iterator<Item = bool> {
        let is_idle = self.is_idle(at, then);
        rotation(&self.view(then).pools[at]).map(move |is_in| is_in && !is_idle)
    }

    /// Endpoints of a pool that count as withdrawn before, or `then`.
    fn out(&self, at: usize, then: bool) -> usize {
        match self.standby[0].contains(&at) || self.stands_by_again(at) {
            true => out_of_rotation(&self.view(then).pools[at]),
            false => self.rotation(at, then).filter(|one| !one).count(),
        }
    }

    /// True when something of a pool is in rotation before, or `then`.
    fn has(&self, at: usize, then: bool) -> bool {
        !self.is_idle(at, then) && is_in_rotation(&self.parts.model.pools[at], &self.view(then).pools[at])
    }
}

/// Which endpoints of a pool are in rotation, in order.
pub(super) fn rotation(view: &PoolView) -> impl Iterator<Item = bool> {
    let all_zero = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).all(|endpoint| endpoint.weight == 0);
    view.endpoints.iter().map(move |endpoint| endpoint.is_usable() && (endpoint.weight > 0 || all_zero) || endpoint.is_last_resort())
}

/// Endpoints of a pool that are not in rotation.
pub(super) fn out_of_rotation(view: &PoolView) -> usize {
    rotation(view).filter(|one| !one).count()
}

/// Pools that steered names come to, but only as children of weight 0 beside children that weigh something and have something in rotation: nobody is
/// sent there. Nothing is looked at where no child has weight 0.
pub(super) fn idle_pools(parts: &ZoneParts, roots: &[Root], view: &View) -> BTreeSet<usize> {
    if !parts.ids.has_zero_weights() && !view.child_weights.values().any(|weight| *weight == 0) {
        return BTreeSet::new();
    }
    let model = &parts.model;
    let mut ways = Ways { model, view, live: BTreeMap::new() };
    let (mut sent, mut open) = (BTreeSet::new(), Vec::new());
    for root in roots {
        let steer = &model.steers[root.steer];
        let all_down = root.classes.iter().filter_map(|class| class.all_down).chain([steer.all_down]);
        open.extend(all_down.filter_map(|all_down| if let AllDown::Pool(ix) = all_down { Some(Child::Pool(ix)) } else { None }));
        open.push(steer.root);
    }
    let named: BTreeSet<Child> = open.iter().copied().collect();
    while let Some(child) = open.pop() {
        if sent.insert(child) {
            open.extend(ways.below(child));
        }
    }
    let pools = named.into_iter().flat_map(|child| model.pools_below(child));
    pools.filter(|ix| !sent.contains(&Child::Pool(*ix))).map(|ix| ix.0 as usize).collect()
}

/// Of these, those that are so for what the files say: they stand by, and are neither counted as withdrawn nor missed by `max_withdrawn`.
pub(super) fn standby_pools(parts: &ZoneParts, roots: &[Root], view: &View) -> BTreeSet<usize> {
    match parts.ids.has_zero_weights() {
        true => idle_pools(parts, roots, &View { child_weights: Arc::default(), ..view.clone() }),
        false => BTreeSet::new(),
    }
}

/// Where the weights of children send clients, whatever their addresses.
struct Ways<'a> {
    model: &'a ZoneModel,
    view: &'a View,
    /// Whether a child has anything in rotation, once that is known.
    live: BTreeMap<Child, bool>,
}

impl Ways<'_> {
    /// The children of a policy that clients may be sent to.
    fn below(&mut self, child: Child) -> Vec<Child> {
        let Child::Policy(ix) = child else { return Vec::new() };
        let kind = &self.model.policy(ix).kind;
        let PolicyKind::Weighted { to, .. } = kind else { return kind.children() };
        let weight = |one: &(Child, u16)| self.view.child_weights.get(&(ix, one.0)).copied().unwrap_or(one.1);
        let some: Vec<Child> = to.iter().filter(|one| weight(one) > 0).map(|one| one.0).collect();
        if some.iter().any(|child| self.is_live(*child)) { some } else { kind.children() }
    }

    /// True when anything below is in rotation. Policies form no cycle (checked at load).
    fn is_live(&mut self, child: Child) -> bool {
        if let Some(is_live) = self.live.get(&child) {
            return *is_live;
        }
        let is_live = match child {
            Child::Pool(ix) => is_in_rotation(self.model.pool(ix), &self.view.pools[ix.0 as usize]),
            Child::Policy(ix) => self.model.policy(ix).kind.children().into_iter().any(|child| self.is_live(child)),
        };
        self.live.insert(child, is_live);
        is_live
    }
}

/// True when an endpoint, or a pool without endpoints, that could be handed out no longer can.
fn loses_any(zone: &Proposed) -> bool {
    zone.pools.iter().any(|at| {
        let (pool, before, after) = (&zone.parts.model.pools[*at], &zone.before.pools[*at], &zone.after.pools[*at]);
        let mut endpoints = before.endpoints.iter().zip(&after.endpoints);
        endpoints.any(|(before, after)| before.is_usable() && !after.is_usable())
            || pool.endpoints.is_empty() && is_in_rotation(pool, before) && !is_in_rotation(pool, after)
    })
}

/// True when something of a pool is.
pub(super) fn is_in_rotation(pool: &Pool, view: &PoolView) -> bool {
    match pool.endpoints.is_empty() {
        true => !matches!(view.forced, Some(Forced::Down | Forced::Drain)),
        false => rotation(view).any(|one| one),
    }
}

/// Says what would happen, and what forbids it.
pub(super) fn judge(zones: &[Proposed]) -> Consequences {
    let mut all = Consequences::default();
    for zone in zones {
        judge_zone(zone, &mut all);
        all.warnings.extend(super::families::warnings(zone));
    }
    all
}

fn judge_zone(zone: &Proposed, all: &mut Consequences) {
    let model = &zone.parts.model;
    let safety = &model.safety;
    let mut withdrawn = 0;
    for at in &zone.pools {
        let pool = &model.pools[*at];
        for (endpoint, (before, after)) in pool.endpoints.iter().zip(zone.rotation(*at, false).zip(zone.rotation(*at, true))) {
            if before && !after {
                withdrawn += 1;
                all.withdraw(&endpoint.id, MAX_LISTED);
            }
        }
        if zone.has(*at, false) && !zone.has(*at, true) && !all.pools.iter().any(|id| **id == *pool.id) {
            all.pools.push(pool.id.to_string());
        }
    }
    let out = |then| zone.out_elsewhere + zone.pools.iter().map(|at| zone.out(*at, then)).sum::<usize>();
    let endpoints = zone.parts.ids.endpoint_count();
    let (out_before, out_after) = (out(false), out(true));
    let rule = |name: &str| format!("{}/safety:{name}", zone_text(&model.name));
    judge_names(zone, &rule, all);
    judge_sets(zone, &rule, all);
    if let Some(most) = safety.max_withdrawn
        && out_after > out_before
        && out_after * 100 > endpoints * usize::from(most)
    {
        let (found, share) = (percent(out_after as f64, endpoints as f64), share_words(out_after as f64, endpoints as f64));
        let detail = format!("{out_after} of {endpoints} endpoints would be out of rotation ({share}), at most {most} % may be");
        all.broken.push(Broken { rule: rule("max_withdrawn"), found, limit: most.into(), detail });
    }
    if let Some((most, per)) = safety.max_changes
        && withdrawn > 0
        && zone.recent + 1 > most as usize
    {
        let found = zone.recent as u64 + 1;
        let detail = format!("it would be withdrawal number {found} within {}, at most {most} are allowed", duration_words(per));
        all.broken.push(Broken { rule: rule("max_changes"), found: found.into(), limit: most.into(), detail });
    }
    if withdrawn > 0 {
        all.confirm |= withdrawn * 100 > endpoints * usize::from(safety.confirm_above);
        all.zones.push(ZoneShare { zone: model.name.to_string(), endpoints, withdrawn, out_before, out_after });
    }
}

/// What each steered name is left with.
fn judge_names(zone: &Proposed, rule: &dyn Fn(&str) -> String, all: &mut Consequences) {
    let model = &zone.parts.model;
    let (mut empty, mut thin): (Vec<String>, Option<(Broken, usize)>) = (Vec::new(), None);
    let loses_any = loses_any(zone);
    for root in &zone.roots {
        let steer = &model.steers[root.steer];
        let names = || root.steers.iter().map(|at| model.steers[*at].owner.to_string());
        let pools = model.pools_below(steer.root);
        let left = |then| pools.iter().filter(|ix| zone.has(ix.0 as usize, then)).count();
        let (before, after) = (left(false), left(true));
        let loses_all = loses_any && model.safety.last_healthy && is_left_with_nothing(zone, root);
        if loses_all {
            empty.extend(names());
        }
        if after < before || loses_all {
            for name in names() {
                all.name(NameLeft { name, pools: pools.len(), before, after }, MAX_LISTED);
            }
        }
        let Some((total, before, after)) = capacity(zone, &pools) else { continue };
        if after < before && after * 100.0 < total * f64::from(model.safety.min_capacity) {
            let found = percent(after, total);
            let limit = u64::from(model.safety.min_capacity);
            match &mut thin {
                Some((_, more)) => *more += root.steers.len(),
                None => {
                    let detail = format!(
                        "what remains for {} could carry {after:.0} of {total:.0} ({}), at least {limit} % must remain",
                        names().next().unwrap_or_default(),
                        share_words(after, total)
                    );
                    thin = Some((Broken { rule: rule("min_capacity"), found, limit, detail }, root.steers.len() - 1));
                }
            }
        }
    }
    break_names(&rule, &empty, thin, all);
}

/// The rules about names that are broken: those that would have nothing, and the first whose rest is too thin with the number of the others.
pub(super) fn break_names(rule: &dyn Fn(&str) -> String, empty: &[String], thin: Option<(Broken, usize)>, all: &mut Consequences) {
    if !empty.is_empty() {
        let detail = format!("nothing usable would be left for {}", listed(empty));
        all.broken.push(Broken { rule: rule("last_healthy"), found: empty.len().into(), limit: 0, detail });
    }
    if let Some((mut broken, more)) = thin {
        if more > 0 {
            broken.detail.push_str(&format!(" (and {more} more names)"));
        }
        all.broken.push(broken);
    }
}

/// True when some class of clients that had something usable would come to `all_down`.
fn is_left_with_nothing(zone: &Proposed, root: &Root) -> bool {
    let has_any = |class, view| plan::has_any_up(&zone.parts.model, class, view);
    root.classes.iter().any(|class| !has_any(class, &zone.after) && has_any(class, &zone.before))
}

/// What the pools can carry in all, before and after: a pool with some of its endpoints out carries the share of the weights that is in. `None`
/// unless every pool says what it can carry.
fn capacity(zone: &Proposed, pools: &[PoolIx]) -> Option<(f64, f64, f64)> {
    let mut sums = (0.0, 0.0, 0.0);
    for ix in pools {
        let (pool, ix) = (zone.parts.model.pool(*ix), ix.0 as usize);
        let capacity = f64::from(pool.capacity?);
        let in_rotation = |then| match pool.endpoints.is_empty() {
            true => f64::from(u8::from(zone.has(ix, then))),
            false => {
                let weight = |at: usize| f64::from(pool.endpoints[at].weight.max(1));
                let total: f64 = (0..pool.endpoints.len()).map(weight).sum();
                zone.rotation(ix, then).enumerate().filter(|(_, one)| *one).map(|(at, _)| weight(at)).sum::<f64>() / total
            }
        };
        sums.0 += capacity;
        sums.1 += capacity * in_rotation(false);
        sums.2 += capacity * in_rotation(true);
    }
    (sums.0 > 0.0).then_some(sums)
}

fn judge_sets(zone: &Proposed, rule: &dyn Fn(&str) -> String, all: &mut Consequences) {
    let model = &zone.parts.model;
    for set in &model.safety.sets {
        let count = |then| set.members.iter().filter(|member| is_member_in(zone, member, then)).count();
        let (before, after) = (count(false), count(true));
        let needed = set.at_least.needed(set.members.len());
        if after < before && after < needed {
            let total = set.members.len();
            let detail = format!("{after} of {total} would be in rotation, at least {needed} must be");
            all.broken.push(Broken { rule: rule(&format!("min_in_rotation/{}", set.name)), found: after.into(), limit: needed as u64, detail });
        }
    }
}

fn is_member_in(zone: &Proposed, member: &SafetyMember, then: bool) -> bool {
    let mut pools = zone.parts.model.pools.iter().enumerate();
    match member {
        SafetyMember::Pool(id) => pools.any(|(at, pool)| pool.id == *id && zone.has(at, then)),
        SafetyMember::Region(name) => pools.any(|(at, pool)| pool.region.as_ref() == Some(name) && zone.has(at, then)),
        SafetyMember::Endpoint(id) => {
            pools.any(|(at, pool)| pool.endpoints.iter().zip(zone.rotation(at, then)).any(|(one, is_in)| is_in && one.id == *id))
        }
    }
}

/// As it is, to three decimals: what is above a limit is shown above it.
pub(super) fn percent(part: f64, whole: f64) -> Number {
    let thousandths = (part * 100_000.0 / whole.max(f64::MIN_POSITIVE)).round();
    match Number::from_f64(thousandths / 1000.0) {
        Some(share) if thousandths % 1000.0 != 0.0 => share,
        _ => ((thousandths / 1000.0) as u64).into(),
    }
}

/// The same as it is: `57.1 %`, `50 %`.
pub(super) fn share_words(part: f64, whole: f64) -> String {
    let share = format!("{:.1}", part * 100.0 / whole);
    format!("{} %", share.strip_suffix(".0").unwrap_or(&share))
}

/// The first names, and how many more there are.
pub(super) fn listed(names: &[String]) -> String {
    let named = names[..names.len().min(MAX_NAMED)].join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more names"),
    }
}
