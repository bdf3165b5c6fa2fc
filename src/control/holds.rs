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
pub(super) fn is_critical(model: &ZoneModel, view: &View, child: Child) -> bool {
    model.pools_below(child).into_iter().all(|ix| {
        let (pool, seen) = (model.pool(ix), &view.pools[ix.0 as usize]);
        let usable = seen.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
        !pool.endpoints.is_empty() && (usable == 0 || usable < pool.min_healthy.needed(pool.endpoints.len()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{MemoryFiles, load};
    use crate::health::State;
    use crate::policy::plan::{EndpointView, PoolView};

    /// One second per step; a step names what is up then. After each: what is held, then `→`, then the child in use.
    fn check(failback: &str, policy: &str, steps: &[(&str, &str)]) {
        let zone = format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n\
             [pool.b]\nendpoints = [\"192.0.2.2\"]\n[pool.c]\nendpoints = [\"192.0.2.3\"]\n[steer.www]\n{policy}\nfailback = {failback}\n"
        );
        let files = MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", zone.as_str())]);
        let loaded = load(&files, Path::new("meridian.toml"));
        let model = loaded.zones[0].model.clone().unwrap_or_else(|| panic!("{:#?}", loaded.problems));
        let (mut held, children) = (Held::new(), model.policies[0].kind.children());
        for (second, (up, expected)) in (1..).zip(steps) {
            let seen = |name: &str| {
                let state = if up.contains(name) { State::Up } else { State::Down };
                PoolView {
                    endpoints: vec![EndpointView { state, forced: None, weight: 1, ramp: 1.0, drained: 0.0, kept: false }],
                    ..PoolView::default()
                }
            };
            let view = View { pools: model.pools.iter().map(|pool| std::sync::Arc::new(seen(&pool.name))).collect(), ..View::default() };
            update(&mut held, &model, &view, PolicyIx(0), Duration::from_secs(second));
            let name = |child: &Child| model.child_name(*child);
            let is_held = |child: &&Child| held.contains_key(&(PolicyIx(0), **child));
            let in_use = children.iter().filter(|child| up.contains(name(child)) && !is_held(child)).map(name).next().unwrap_or("-");
            let words: String = children.iter().filter(is_held).map(name).collect();
            assert_eq!(format!("{words}→{in_use}"), *expected, "{failback}, second {second}: {up:?} up");
        }
    }

    const FAILOVER: &str = "policy = \"failover\"\nto = [\"a\", \"b\", \"c\"]";

    #[test]
    fn manual_holds_what_traffic_has_left_until_there_is_nothing_to_stay_on() {
        check("\"manual\"", FAILOVER, &[("abc", "→a"), ("bc", "a→b"), ("abc", "a→b"), ("ac", "ab→c"), ("abc", "ab→c"), ("ab", "→a")]);
        check("\"manual\"", FAILOVER, &[("abc", "→a"), ("", "→-"), ("c", "ab→c"), ("abc", "ab→c"), ("a", "→a")]);
    }

    #[test]
    fn a_child_that_nobody_used_is_not_held() {
        check("\"manual\"", FAILOVER, &[("ac", "→a"), ("abc", "→a"), ("bc", "a→b"), ("b", "a→b"), ("bc", "a→b"), ("c", "ab→c")]);
    }

    #[test]
    fn after_holds_for_its_time_of_health_without_a_break() {
        let steps = [("abc", "→a"), ("bc", "a→b"), ("abc", "a→b"), ("bc", "a→b"), ("abc", "a→b"), ("abc", "a→b"), ("abc", "→a")];
        check("{ after = \"2s\" }", FAILOVER, &steps);
    }

    #[test]
    fn where_the_order_depends_on_the_client_every_child_is_held_alike() {
        let geo = "policy = \"geo\"\nrules = [{ geo = [\"EU\"], to = [\"a\", \"b\"] }]\ndefault = [\"c\", \"b\"]";
        check("\"manual\"", geo, &[("abc", "→a"), ("ab", "c→a"), ("abc", "c→a"), ("bc", "ac→b"), ("abc", "ac→b"), ("ac", "b→a")]);
    }
}
