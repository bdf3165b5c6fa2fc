//! What a change leaves without one address family: the pool is chosen whatever the type asked for, so clients that are sent to one without IPv4 get
//! an empty answer for A, though another pool has it (`docs/policies.md`). No rule forbids that; whoever asks is told.

use std::net::IpAddr;

use super::compile::Root;
use super::safety::{self, Proposed};
use crate::policy::model::{Pool, Target};
use crate::policy::plan::{self, AnswerSet, PoolView, Sets, View};

/// A family, the type that asks for it, and whether an address is of it.
type Family = (&'static str, &'static str, fn(&IpAddr) -> bool);

const FAMILIES: [Family; 2] = [("IPv4", "A", IpAddr::is_ipv4), ("IPv6", "AAAA", IpAddr::is_ipv6)];

/// A pool that has something in rotation has nothing of a family any more, and names give empty answers for it that did not before.
pub(super) fn warnings(zone: &Proposed) -> Vec<String> {
    let model = &zone.parts.model;
    let mut all = Vec::new();
    for at in &zone.pools {
        let pool = &model.pools[*at];
        for (family, rtype, is_of) in FAMILIES {
            let has = |view: &View| has_any(pool, &view.pools[*at], is_of);
            if !has(&zone.before) || has(&zone.after) || !has_any(pool, &zone.after.pools[*at], |address| !is_of(address)) {
                continue;
            }
            let consults = |root: &&Root| model.pools_below(model.steers[root.steer].root).iter().any(|ix| ix.0 as usize == *at);
            let lacks = |root: &&Root| lacks(zone, root, &zone.after, rtype) && !lacks(zone, root, &zone.before, rtype);
            let roots = zone.roots.iter().filter(consults).filter(lacks);
            let names: Vec<String> = roots.flat_map(|root| &root.steers).map(|at| model.steers[*at].owner.to_string()).collect();
            if !names.is_empty() {
                all.push(format!(
                    "{} would have no {family} endpoint in rotation: clients sent there get an empty {rtype} answer from {} (family = \"require-both\" passes over such pools)",
                    pool.id,
                    safety::listed(&names)
                ));
            }
        }
    }
    all
}

/// True when an endpoint of the family is in rotation.
fn has_any(pool: &Pool, view: &PoolView, is_of: impl Fn(&IpAddr) -> bool) -> bool {
    let mut endpoints = pool.endpoints.iter().zip(safety::rotation(view));
    endpoints.any(|(endpoint, is_in)| is_in && matches!(&endpoint.target, Target::Address(address) if is_of(address)))
}

/// True when some client of a name gets nothing of the family, and something of the other.
fn lacks(zone: &Proposed, root: &Root, view: &View, rtype: &str) -> bool {
    let (model, mut sets) = (&zone.parts.model, Sets::default());
    let steer = &model.steers[root.steer];
    let is_empty = |set: &AnswerSet| match rtype {
        "A" => set.v4.addrs.is_empty() && !set.v6.addrs.is_empty(),
        _ => set.v6.addrs.is_empty() && !set.v4.addrs.is_empty(),
    };
    let lacks = |class| plan::plan_with(model, steer, steer.ttl, class, view, None, &mut sets).choice.any_set(&mut |set| is_empty(set));
    root.classes.iter().any(lacks)
}
