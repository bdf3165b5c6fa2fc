//! What a change would do to what is in rotation, and which safety rules forbid it. A pure function of what is loaded and of what is seen
//! before and after, whoever asks: an operator's change, one that ends, or automation.
//!
//! An endpoint is *in rotation* when it may be handed out: usable, and not of weight 0 beside usable ones that weigh something. Who took it out,
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

use std::sync::Arc;

use super::api::{Broken, Consequences, NameLeft, ZoneShare};
use super::compile::{Root, ZoneParts};
use super::overlays::zone_text;
use crate::config::duration_words;
use crate::policy::model::{Forced, Pool, PoolIx, SafetyMember, ZoneModel};
use crate::policy::plan::{self, PoolView, View};

/// Names and endpoints that are listed; the rest is counted.
const MAX_LISTED: usize = 100;
/// Names in a sentence.
const MAX_NAMED: usize = 3;

/// What a change would do to one zone.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) parts: Arc<ZoneParts>,
    pub(super) before: View,
    pub(super) after: View,
    /// Pools that may look different.
    pub(super) pools: Vec<usize>,
    /// What consults them.
    pub(super) roots: Vec<Root>,
    /// Endpoints out of rotation in the other pools.
    pub(super) out_elsewhere: usize,
    /// Withdrawals within the window of `max_changes`.
    pub(super) recent: usize,
}

/// Which endpoints of a pool are in rotation, in order.
fn rotation(view: &PoolView) -> impl Iterator<Item = bool> {
    let all_zero = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).all(|endpoint| endpoint.weight == 0);
    view.endpoints.iter().map(move |endpoint| endpoint.is_usable() && (endpoint.weight > 0 || all_zero))
}

/// Endpoints of a pool that are not in rotation.
pub(super) fn out_of_rotation(view: &PoolView) -> usize {
    rotation(view).filter(|one| !one).count()
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

fn is_in_rotation(pool: &Pool, view: &PoolView) -> bool {
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
    }
    all
}

fn judge_zone(zone: &Proposed, all: &mut Consequences) {
    let model = &zone.parts.model;
    let safety = &model.safety;
    let mut withdrawn = 0;
    for at in &zone.pools {
        let (pool, before, after) = (&model.pools[*at], &zone.before.pools[*at], &zone.after.pools[*at]);
        for (endpoint, (before, after)) in pool.endpoints.iter().zip(rotation(before).zip(rotation(after))) {
            if before && !after {
                withdrawn += 1;
                all.withdraw(&endpoint.id, MAX_LISTED);
            }
        }
        if is_in_rotation(pool, before) && !is_in_rotation(pool, after) && !all.pools.iter().any(|id| **id == *pool.id) {
            all.pools.push(pool.id.to_string());
        }
    }
    let out = |view: &View| zone.out_elsewhere + zone.pools.iter().map(|at| out_of_rotation(&view.pools[*at])).sum::<usize>();
    let endpoints = zone.parts.ids.endpoint_count();
    let (out_before, out_after) = (out(&zone.before), out(&zone.after));
    let rule = |name: &str| format!("{}/safety:{name}", zone_text(&model.name));
    judge_names(zone, &rule, all);
    judge_sets(zone, &rule, all);
    if let Some(most) = safety.max_withdrawn
        && out_after > out_before
        && out_after * 100 > endpoints * usize::from(most)
    {
        let found = percent(out_after, endpoints);
        let detail = format!("{out_after} of {endpoints} endpoints would be out of rotation ({found} %), at most {most} % may be");
        all.broken.push(Broken { rule: rule("max_withdrawn"), found, limit: most.into(), detail });
    }
    if let Some((most, per)) = safety.max_changes
        && withdrawn > 0
        && zone.recent + 1 > most as usize
    {
        let found = zone.recent as u64 + 1;
        let detail = format!("it would be withdrawal number {found} within {}, at most {most} are allowed", duration_words(per));
        all.broken.push(Broken { rule: rule("max_changes"), found, limit: most.into(), detail });
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
        let left = |view: &View| pools.iter().filter(|ix| is_in_rotation(model.pool(**ix), &view.pools[ix.0 as usize])).count();
        let (before, after) = (left(&zone.before), left(&zone.after));
        let loses_all = loses_any && model.safety.last_healthy && is_left_with_nothing(zone, root);
        if loses_all {
            empty.extend(names());
        }
        if after < before || loses_all {
            for name in names() {
                all.name(NameLeft { name, pools: pools.len(), before, after }, MAX_LISTED);
            }
        }
        let Some((total, before, after)) = capacity(model, &pools, &zone.before, &zone.after) else { continue };
        if after < before && after * 100.0 < total * f64::from(model.safety.min_capacity) {
            let found = (after * 100.0 / total) as u64;
            let limit = u64::from(model.safety.min_capacity);
            match &mut thin {
                Some((_, more)) => *more += root.steers.len(),
                None => {
                    let detail = format!(
                        "what remains for {} could carry {after:.0} of {total:.0} ({found} %), at least {limit} % must remain",
                        names().next().unwrap_or_default()
                    );
                    thin = Some((Broken { rule: rule("min_capacity"), found, limit, detail }, root.steers.len() - 1));
                }
            }
        }
    }
    if !empty.is_empty() {
        let detail = format!("nothing usable would be left for {}", listed(&empty));
        all.broken.push(Broken { rule: rule("last_healthy"), found: empty.len() as u64, limit: 0, detail });
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
fn capacity(model: &ZoneModel, pools: &[PoolIx], before: &View, after: &View) -> Option<(f64, f64, f64)> {
    let mut sums = (0.0, 0.0, 0.0);
    for ix in pools {
        let pool = model.pool(*ix);
        let capacity = f64::from(pool.capacity?);
        let in_rotation = |view: &PoolView| match pool.endpoints.is_empty() {
            true => f64::from(u8::from(is_in_rotation(pool, view))),
            false => {
                let weight = |at: usize| f64::from(pool.endpoints[at].weight.max(1));
                let total: f64 = (0..pool.endpoints.len()).map(weight).sum();
                rotation(view).enumerate().filter(|(_, one)| *one).map(|(at, _)| weight(at)).sum::<f64>() / total
            }
        };
        sums.0 += capacity;
        sums.1 += capacity * in_rotation(&before.pools[ix.0 as usize]);
        sums.2 += capacity * in_rotation(&after.pools[ix.0 as usize]);
    }
    (sums.0 > 0.0).then_some(sums)
}

fn judge_sets(zone: &Proposed, rule: &dyn Fn(&str) -> String, all: &mut Consequences) {
    let model = &zone.parts.model;
    for set in &model.safety.sets {
        let count = |view: &View| set.members.iter().filter(|member| is_member_in(model, member, view)).count();
        let (before, after) = (count(&zone.before), count(&zone.after));
        let needed = set.at_least.needed(set.members.len());
        if after < before && after < needed {
            let total = set.members.len();
            let detail = format!("{after} of {total} would be in rotation, at least {needed} must be");
            all.broken.push(Broken { rule: rule(&format!("min_in_rotation/{}", set.name)), found: after as u64, limit: needed as u64, detail });
        }
    }
}

fn is_member_in(model: &ZoneModel, member: &SafetyMember, view: &View) -> bool {
    let mut pools = model.pools.iter().zip(view.pools.iter());
    match member {
        SafetyMember::Pool(id) => pools.any(|(pool, view)| pool.id == *id && is_in_rotation(pool, view)),
        SafetyMember::Region(name) => pools.any(|(pool, view)| pool.region.as_ref() == Some(name) && is_in_rotation(pool, view)),
        SafetyMember::Endpoint(id) => pools.any(|(pool, view)| pool.endpoints.iter().zip(rotation(view)).any(|(one, is_in)| is_in && one.id == *id)),
    }
}

fn percent(part: usize, whole: usize) -> u64 {
    (part * 100).div_ceil(whole.max(1)) as u64
}

fn listed(names: &[String]) -> String {
    let named = names[..names.len().min(MAX_NAMED)].join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more names"),
    }
}
