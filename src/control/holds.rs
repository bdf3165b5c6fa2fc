//! What failback holds: better children that traffic has left and may not come back to yet (CONTRACT, `failback`).
//!
//! For `failover`, whose order is the same for everybody, the child in use is known, and only what stands before it is held:
//!
//! ```text
//! child before the one in use, critical           held
//! .. healthy again, manual                        held until an operator ends it
//! .. healthy again, after d                       held until healthy for d
//! child behind the one in use                     never held: nobody has left it for a worse one
//! every child critical or held                    the first healthy one is freed: there is nothing to stay on
//! ```
//!
//! Elsewhere the order depends on the client, so any child is held from when it becomes critical, by the same rules.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::policy::model::{Child, Failback, PolicyIx, PolicyKind, ZoneModel};
use crate::policy::plan::View;

/// By policy and child.
pub(super) type Held = BTreeMap<(PolicyIx, Child), Hold>;

/// A better child that traffic has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    /// When it became healthy again.
    pub(super) healthy_since: Option<Duration>,
}

/// Brings the holds of one policy up to date with what is seen.
pub(super) fn update(held: &mut Held, model: &ZoneModel, view: &View, ix: PolicyIx, now: Duration) {
    let policy = model.policy(ix);
    let children = policy.kind.children();
    let critical: Vec<bool> = children.iter().map(|child| is_critical(model, view, *child)).collect();
    for (child, critical) in children.iter().zip(&critical) {
        let Some(hold) = held.get_mut(&(ix, *child)) else { continue };
        if *critical {
            hold.healthy_since = None;
            continue;
        }
        let since = *hold.healthy_since.get_or_insert(now);
        if matches!(policy.failback, Failback::After(wait) if now.saturating_sub(since) >= wait) {
            held.remove(&(ix, *child));
        }
    }
    let healthy = || children.iter().zip(&critical).enumerate().filter(|(_, (_, critical))| !**critical).map(|(at, (child, _))| (at, *child));
    let free = healthy().find(|(_, child)| !held.contains_key(&(ix, *child)));
    if !matches!(policy.kind, PolicyKind::Failover { .. }) {
        if free.is_none() {
            held.retain(|key, _| !healthy().any(|(_, child)| *key == (ix, child)));
        }
        for (child, _) in children.iter().zip(&critical).filter(|(_, critical)| **critical) {
            held.insert((ix, *child), Hold::default());
        }
        return;
    }
    // With nothing healthy at all it stays as it is: whoever recovers first is freed then.
    let Some((in_use, _)) = free.or_else(|| healthy().next()) else { return };
    for (at, child) in children.iter().enumerate() {
        if at >= in_use {
            held.remove(&(ix, *child));
        } else if critical[at] {
            held.insert((ix, *child), Hold::default());
        }
    }
}

/// Every pool that the child can come to is critical.
fn is_critical(model: &ZoneModel, view: &View, child: Child) -> bool {
    model.pools_below(child).into_iter().all(|ix| {
        let (pool, seen) = (model.pool(ix), &view.pools[ix.0 as usize]);
        let usable = seen.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
        !pool.endpoints.is_empty() && (usable == 0 || usable < pool.min_healthy.needed(pool.endpoints.len()))
    })
}
