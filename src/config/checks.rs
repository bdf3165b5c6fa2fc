//! What a zone says as a whole: cycles, places, families, empty ends, sizes, things nobody uses, names that cannot be steered.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::{Resolver, Steering};
use super::resolve_pool::{DEFAULT_ANSWERS, policies_below};
use super::source::{Sink, Spot};
use crate::dns::{Name, RecordType};
use crate::policy::model::{AllDown, Child, GeoDefault, Policy, PolicyIx, PolicyKind, Pool, PoolIx, Target, ZoneModel};
use crate::zone::{self, Owners, Place};

/// How deep policies may nest: far beyond what anyone can follow, and it bounds every walk over the tree.
pub(super) const MAX_NESTING: usize = 64;
/// The largest UDP reply that reaches everybody unfragmented (DNS flag day 2020).
pub(super) const MAX_UDP_ANSWER: usize = 1232;
/// Header, question's type and class, OPT with a full client-subnet option.
const ANSWER_OVERHEAD: usize = 12 + 4 + 11 + 24;
/// An answer record with a compressed owner, without its data.
const RECORD_OVERHEAD: usize = 12;
/// Key and length of a list of hints (RFC 9460 §2.2).
const HINT_OVERHEAD: usize = 4;
/// The most names that one message lists.
const MAX_LISTED: usize = 5;

/// The checked zone and what is needed to talk about it.
pub(super) struct Whole<'a> {
    pub(super) model: &'a ZoneModel,
    pub(super) steering: &'a Steering,
    pub(super) reach: &'a [Vec<PoolIx>],
    pub(super) sink: &'a Sink,
}

fn subject_of(policy: &Policy) -> String {
    format!("{} {:?}", if policy.inline { "steer" } else { "policy" }, policy.name)
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_LISTED);
    let mut text = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Reports a cycle among policies, or nesting beyond the limit. False means that the tree must not be walked further.
pub(super) fn is_a_tree(steering: &Steering, sink: &Sink) -> bool {
    let count = steering.policies.len();
    let below: Vec<Vec<usize>> = steering
        .policies
        .iter()
        .map(|policy| {
            policy.kind.children().into_iter().filter_map(|child| if let Child::Policy(ix) = child { Some(ix.0 as usize) } else { None }).collect()
        })
        .collect();
    // Those that nobody names are taken off first, then those that only they named; what stays hangs together in cycles, or below one.
    let mut parents = vec![0_usize; count];
    below.iter().flatten().for_each(|child| parents[*child] += 1);
    let mut open: Vec<usize> = (0..count).filter(|at| parents[*at] == 0).collect();
    let mut depth = vec![1_usize; count];
    let mut left = count;
    while let Some(at) = open.pop() {
        left -= 1;
        for child in &below[at] {
            depth[*child] = depth[*child].max(depth[at] + 1);
            parents[*child] -= 1;
            if parents[*child] == 0 {
                open.push(*child);
            }
        }
    }
    if left > 0 {
        let start = (0..count).filter(|at| parents[*at] > 0).find_map(|at| cycle_from(at, &below, &parents));
        if let Some(cycle) = start {
            let mut names: Vec<String> = cycle.iter().map(|at| format!("{:?}", steering.policies[*at].name)).collect();
            names.push(names[0].clone());
            let first = cycle[0];
            sink.error(
                &steering.policy_spots[first],
                &[subject_of(&steering.policies[first])],
                format!("it contains itself: {}", names.join(" -> ")),
            );
        }
        return false;
    }
    if let Some(deepest) = (0..count).find(|at| depth[*at] > MAX_NESTING) {
        let text = format!("it is nested {} levels deep, expected at most {MAX_NESTING}", depth[deepest]);
        sink.error(&steering.policy_spots[deepest], &[subject_of(&steering.policies[deepest])], text);
        return false;
    }
    true
}

/// Follows the parents backwards among what stayed until a policy comes up again; the cycle starts with its smallest index.
fn cycle_from(start: usize, below: &[Vec<usize>], parents: &[usize]) -> Option<Vec<usize>> {
    // The first of the policies that name it.
    let mut above: Vec<Option<usize>> = vec![None; below.len()];
    for (parent, children) in below.iter().enumerate().filter(|(parent, _)| parents[*parent] > 0) {
        for child in children {
            above[*child].get_or_insert(parent);
        }
    }
    let mut path = vec![start];
    let mut seen = vec![false; below.len()];
    seen[start] = true;
    loop {
        let at = *path.last()?;
        let parent = above[at]?;
        if std::mem::replace(&mut seen[parent], true) {
            let from = path.iter().position(|seen| *seen == parent)?;
            let mut cycle: Vec<usize> = path[from..].to_vec();
            cycle.reverse();
            let least = cycle.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(at, _)| at);
            cycle.rotate_left(least);
            return Some(cycle);
        }
        path.push(parent);
    }
}

impl Whole<'_> {
    fn pool(&self, ix: PoolIx) -> &Pool {
        self.model.pool(ix)
    }

    fn child_words(&self, child: Child) -> String {
        match child {
            Child::Pool(ix) => format!("pool {:?}", self.pool(ix).name),
            Child::Policy(ix) => format!("policy {:?}", self.model.policies[ix.0 as usize].name),
        }
    }

    /// Children of `proximity`, `nearest` and `latency` must be somewhere.
    pub(super) fn places(&self) {
        for (at, policy) in self.model.policies.iter().enumerate() {
            let (children, key, want_region): (&[Child], _, _) = match &policy.kind {
                PolicyKind::Proximity { to, .. } => (to, "to", false),
                PolicyKind::Latency { to } => (to, "to", true),
                PolicyKind::Geo { default: GeoDefault::Nearest { to, .. }, .. } => (to, "default", false),
                _ => continue,
            };
            for child in children {
                let (found, what) = if want_region {
                    (self.model.region_of(*child).is_some(), "region")
                } else {
                    (self.model.location_of(*child).is_some(), "location")
                };
                if found {
                    continue;
                }
                let pools: Vec<String> = self.model.pools_below(*child).into_iter().map(|ix| format!("{:?}", self.pool(ix).name)).collect();
                let text = match child {
                    Child::Pool(_) if want_region => format!("{} has no region, which policy \"latency\" needs", self.child_words(*child)),
                    Child::Pool(_) => {
                        format!("{} has no location; give it location = [LATITUDE, LONGITUDE], or a region that has one", self.child_words(*child))
                    }
                    Child::Policy(_) => format!("{} has no {what}: its pools ({}) have none in common", self.child_words(*child), listed(&pools)),
                };
                self.sink.error(&self.steering.policy_spots[at], &[subject_of(policy), key.into()], text);
            }
        }
    }

    /// All outcomes of a steered name are CNAMEs, or none is. Returns which names are CNAMEs.
    pub(super) fn cnames(&self) -> Vec<bool> {
        let mut all = Vec::new();
        for (at, steer) in self.model.steers.iter().enumerate() {
            let (cnames, others): (Vec<_>, Vec<_>) = self.reach[at].iter().map(|ix| self.pool(*ix)).partition(|pool| pool.is_cname);
            let names = |pools: &[&Pool]| listed(&pools.iter().map(|pool| format!("{:?}", pool.name)).collect::<Vec<_>>());
            let subject = [format!("steer {:?}", steer.name)];
            let spot = &self.steering.steer_spots[at];
            if !cnames.is_empty() && !others.is_empty() {
                let text =
                    format!("some outcomes are a CNAME (pools {}), others are not (pools {}); expected all or none", names(&cnames), names(&others));
                self.sink.error(spot, &subject, text);
            } else if !cnames.is_empty() && steer.owner == self.model.name {
                self.sink.error(
                    spot,
                    &subject,
                    format!("the apex of the zone cannot be a CNAME (pools {}): it has SOA and NS records", names(&cnames)),
                );
            }
            all.push(!cnames.is_empty());
        }
        all
    }

    /// Pools that lack a family or type that others of the same name have.
    pub(super) fn lacking(&self) {
        for (at, steer) in self.model.steers.iter().enumerate() {
            let pools: Vec<&Pool> = self.reach[at].iter().map(|ix| self.pool(*ix)).filter(|pool| !pool.is_cname).collect();
            let mut types = BTreeSet::new();
            pools.iter().for_each(|pool| types.extend(types_of(pool)));
            for rtype in types {
                let without = self.empty_outcomes(at, rtype);
                let without: Vec<String> = without.iter().map(|ix| format!("{:?}", self.pool(*ix).name)).collect();
                if !without.is_empty() {
                    let hint =
                        if matches!(rtype, RecordType::A | RecordType::AAAA) { "; family = \"require-both\" passes over such pools" } else { "" };
                    let what = match rtype {
                        RecordType::A => "IPv4 endpoint".to_string(),
                        RecordType::AAAA => "IPv6 endpoint".to_string(),
                        other => format!("{other} records"),
                    };
                    let (pools, have) = if without.len() == 1 { ("pool", "has") } else { ("pools", "have") };
                    let text = format!("{pools} {} {have} no {what}, so clients sent there get an empty {rtype} answer{hint}", listed(&without));
                    self.sink.warning(&self.steering.steer_spots[at], &[format!("steer {:?}", steer.name)], text);
                }
            }
        }
        for (at, policy) in self.model.policies.iter().enumerate().filter(|(_, policy)| policy.require_both_families) {
            for ix in self.model.pools_below(Child::Policy(PolicyIx(at as u32))) {
                let pool = self.pool(ix);
                let types = types_of(pool);
                for (rtype, family) in [(RecordType::A, "IPv4"), (RecordType::AAAA, "IPv6")] {
                    if !types.contains(&rtype) && !pool.is_cname {
                        let text = format!("pool {:?} has no {family} endpoint, so \"require-both\" always passes over it", pool.name);
                        self.sink.warning(&self.steering.policy_spots[at], &[subject_of(policy), "family".into()], text);
                    }
                }
            }
        }
    }

    /// Pools of a steered name that answer alone and lack a type, in the order of [`Whole::reach`].
    fn empty_outcomes(&self, at: usize, rtype: RecordType) -> Vec<PoolIx> {
        let mut lacking = self.lacking_below(self.model.steers[at].root, rtype, false, &mut BTreeMap::new());
        // The rest of the reach are pools of `all_down`, each an outcome by itself.
        let below = self.model.pools_below(self.model.steers[at].root);
        let alone = self.reach[at].iter().filter(|ix| !below.contains(ix) && !self.pool(**ix).is_cname);
        lacking.extend(alone.filter(|ix| !types_of(self.pool(**ix)).contains(&rtype)));
        self.reach[at].iter().copied().filter(|ix| lacking.contains(ix)).collect()
    }

    /// Pools below `child` that lack a type where it counts: what is merged needs the type only once. `merged` is true below a multivalue
    /// policy, where a weighted one gives all its children.
    fn lacking_below(
        &self,
        child: Child,
        rtype: RecordType,
        merged: bool,
        known: &mut BTreeMap<(PolicyIx, bool), BTreeSet<PoolIx>>,
    ) -> BTreeSet<PoolIx> {
        let ix = match child {
            Child::Pool(ix) if self.pool(ix).is_cname || types_of(self.pool(ix)).contains(&rtype) => return BTreeSet::new(),
            Child::Pool(ix) => return BTreeSet::from([ix]),
            Child::Policy(ix) => ix,
        };
        if let Some(found) = known.get(&(ix, merged)) {
            return found.clone();
        }
        let kind = &self.model.policies[ix.0 as usize].kind;
        let is_multivalue = matches!(kind, PolicyKind::Multivalue { .. });
        let all = is_multivalue || (merged && matches!(kind, PolicyKind::Weighted { .. }));
        let parts: Vec<_> = kind.children().into_iter().map(|child| self.lacking_below(child, rtype, merged || is_multivalue, known)).collect();
        let found = if all && parts.iter().any(BTreeSet::is_empty) { BTreeSet::new() } else { parts.into_iter().flatten().collect::<BTreeSet<_>>() };
        known.insert((ix, merged), found.clone());
        found
    }

    /// Steered names with an HTTPS record that other data stands against.
    pub(super) fn https(&self) {
        for (at, steer) in self.model.steers.iter().enumerate() {
            let Some(https) = &steer.https else { continue };
            let spot = Spot { line: https.line, ..self.steering.steer_spots[at].clone() };
            let subject = [format!("steer {:?}", steer.name), "https".into()];
            if steer.is_cname {
                self.sink.error(&spot, &subject, "the name is a CNAME, which has no other data; publish the record at its target");
                continue;
            }
            let with: Vec<String> = self.reach[at]
                .iter()
                .map(|ix| self.pool(*ix))
                .filter(|pool| pool.records.contains_key(&RecordType::HTTPS))
                .map(|pool| format!("{:?}", pool.name))
                .collect();
            if !with.is_empty() {
                let (pools, have) = if with.len() == 1 { ("pool", "has") } else { ("pools", "have") };
                self.sink.error(&spot, &subject, format!("{pools} {} {have} HTTPS records; keep one of them", listed(&with)));
            }
            if https.has_hints && self.reach[at].iter().all(|ix| self.pool(*ix).endpoints.is_empty()) {
                self.sink.warning(&spot, &subject, "no pool of the name has addresses, so there is nothing to hint at");
            }
        }
    }

    /// Names that may come to an empty answer although everything is up.
    pub(super) fn empty_ends(&self) {
        let mut known = BTreeMap::new();
        for (at, steer) in self.model.steers.iter().enumerate() {
            let saved = self.steering.all_down_said[at] && steer.all_down != AllDown::All;
            if !saved && self.may_be_empty(steer.root, &mut known) {
                let text =
                    "clients that match no rule get an empty answer; add default = …, or say what happens with all_down = \"nodata\" or a pool";
                self.sink.warning(&self.steering.steer_spots[at], &[format!("steer {:?}", steer.name)], text);
            }
        }
    }

    fn may_be_empty(&self, child: Child, known: &mut BTreeMap<PolicyIx, bool>) -> bool {
        let Child::Policy(ix) = child else { return false };
        if let Some(answer) = known.get(&ix) {
            return *answer;
        }
        let answer = match &self.model.policies[ix.0 as usize].kind {
            PolicyKind::Geo { rules, default } => match default {
                GeoDefault::Nearest { .. } => false,
                GeoDefault::Children(to) => to.iter().all(|child| self.may_be_empty(*child, known)),
                GeoDefault::None => {
                    let nets: Vec<_> = rules.iter().flat_map(|rule| &rule.net).filter(|net| net.len == 0).collect();
                    !(nets.iter().any(|net| net.addr.is_ipv4()) && nets.iter().any(|net| net.addr.is_ipv6()))
                }
            },
            other => other.children().into_iter().all(|child| self.may_be_empty(child, known)),
        };
        known.insert(ix, answer);
        answer
    }

    /// Answers that do not fit a UDP reply.
    pub(super) fn sizes(&self) {
        for (at, steer) in self.model.steers.iter().enumerate() {
            let cap = steer.answers.map_or(usize::MAX, usize::from);
            let base = ANSWER_OVERHEAD + steer.owner.as_wire().len();
            let mut sizes: BTreeMap<RecordType, usize> = BTreeMap::new();
            for (rtype, len) in [(RecordType::A, 4), (RecordType::AAAA, 16)] {
                let count = self.most(steer.root, rtype, &mut BTreeMap::new()).min(cap);
                sizes.insert(rtype, base + count * (RECORD_OVERHEAD + len));
            }
            if let Some(https) = steer.https.as_ref().filter(|https| https.has_hints) {
                let hints = sizes.values().map(|size| HINT_OVERHEAD + size - base).sum::<usize>();
                // The hints hold no record heads; that they are counted leaves some octets unused.
                sizes.insert(RecordType::HTTPS, base + RECORD_OVERHEAD + https.rdata.len() + hints);
            }
            for (rtype, data) in self.reach[at].iter().flat_map(|ix| &self.pool(*ix).records) {
                let size = base + data.iter().map(|rdata| RECORD_OVERHEAD + rdata.len()).sum::<usize>();
                let largest = sizes.entry(*rtype).or_default();
                *largest = size.max(*largest);
            }
            for (rtype, size) in sizes.into_iter().filter(|(_, size)| *size > MAX_UDP_ANSWER) {
                let hint = if matches!(rtype, RecordType::A | RecordType::AAAA) { "; lower answers" } else { "" };
                let text = format!(
                    "an answer may take {size} octets, more than the {MAX_UDP_ANSWER} of a safe UDP reply, so clients have to ask again over TCP{hint}"
                );
                self.sink.warning(&self.steering.steer_spots[at], &[format!("steer {:?}", steer.name), rtype.to_string()], text);
            }
        }
    }

    /// The most addresses of a family that an answer from `child` can hold.
    fn most(&self, child: Child, rtype: RecordType, known: &mut BTreeMap<PolicyIx, usize>) -> usize {
        let ix = match child {
            Child::Pool(ix) => return addresses(self.pool(ix), rtype).min(usize::from(self.pool(ix).answers)),
            Child::Policy(ix) => ix,
        };
        if let Some(most) = known.get(&ix) {
            return *most;
        }
        let policy = &self.model.policies[ix.0 as usize];
        let most = if let PolicyKind::Multivalue { to } = &policy.kind {
            let pools: BTreeSet<PoolIx> = to.iter().flat_map(|child| self.model.pools_below(*child)).collect();
            let all: usize = pools.into_iter().map(|ix| addresses(self.pool(ix), rtype)).sum();
            all.min(usize::from(policy.answers.unwrap_or(DEFAULT_ANSWERS)))
        } else {
            let most = policy.kind.children().into_iter().map(|child| self.most(child, rtype, known)).max().unwrap_or(0);
            most.min(policy.answers.map_or(usize::MAX, usize::from))
        };
        known.insert(ix, most);
        most
    }

    /// Things of the zone itself that nothing uses.
    pub(super) fn unused(&self, resolver: &Resolver<'_>, monitors_used: &BTreeSet<String>) {
        let mut pools: BTreeSet<PoolIx> = self.reach.iter().flatten().copied().collect();
        let policies: BTreeSet<usize> = self.model.steers.iter().flat_map(|steer| policies_below(self.model, steer.root)).collect();
        for (at, policy) in self.model.policies.iter().enumerate() {
            if !policies.contains(&at) && !policy.inline && !resolver.policy_in_library(at) {
                self.sink.warning(&self.steering.policy_spots[at], &[subject_of(policy)], "no steered name uses it");
                // Its pools are not said to be unused as well: they follow from it.
                pools.extend(self.model.pools_below(Child::Policy(PolicyIx(at as u32))));
            }
        }
        for (at, item) in resolver.pools.iter().enumerate() {
            if !pools.contains(&PoolIx(at as u32)) && !item.in_library {
                self.sink.warning(&item.def.at, &[format!("pool {:?}", item.def.name)], "no steered name uses it");
            }
        }
        for (name, item) in &resolver.monitors {
            if !item.in_library && !monitors_used.contains(*name) {
                self.sink.warning(&item.def.at, &[format!("monitor {name:?}")], "no pool uses it");
            }
        }
    }

    /// Keys that count on steered names and stand on a policy below another.
    pub(super) fn ignored_keys(&self) {
        let mut parents: BTreeMap<Child, &Policy> = BTreeMap::new();
        for policy in &self.model.policies {
            for child in policy.kind.children() {
                parents.entry(child).or_insert(policy);
            }
        }
        for (at, keys) in self.steering.root_keys.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            let child = Child::Policy(PolicyIx(at as u32));
            let Some(parent) = parents.get(&child) else { continue };
            for (spot, key) in keys {
                let text = format!("{key} counts only where a steered name takes the policy whole; it is ignored below {}", subject_of(parent));
                self.sink.warning(spot, &[subject_of(&self.model.policies[at])], text);
            }
        }
    }

    /// Steered names against the static records: same type at the same owner, below a delegation or a DNAME.
    pub(super) fn static_records(&self, owners: &Owners, spot_of: impl Fn(Place) -> Spot) {
        if self.model.steers.is_empty() {
            return;
        }
        let apex = &self.model.name;
        let mut path = zone::Path::new();
        for (at, steer) in self.model.steers.iter().enumerate() {
            let subject = [format!("steer {:?}", steer.name)];
            let spot = &self.steering.steer_spots[at];
            let mut types = BTreeSet::new();
            self.reach[at].iter().for_each(|ix| types.extend(steered_types(self.pool(*ix))));
            types.extend(steer.https.as_ref().map(|_| RecordType::HTTPS));
            let mut said = BTreeSet::new();
            path.set(steer.owner.as_wire());
            let firsts = |labels: usize| {
                let owner = owners.find(&path, labels);
                owner.into_iter().flat_map(|owner| owners.rrsets(owner)).map(|(rtype, range)| (rtype, spot_of(owners.record(range.start).place)))
            };
            for (rtype, place) in firsts(path.labels()) {
                let clash = steer.is_cname || types.contains(&rtype) || rtype == RecordType::CNAME;
                let clash = clash && steer.owner != *apex || types.contains(&rtype);
                if clash && said.insert(rtype) {
                    let why = if steer.is_cname { "a CNAME-steered name has no other data" } else { "a type is either steered or static" };
                    self.sink.error(spot, &subject, format!("{} has a static {rtype} record ({place}); {why}", steer.owner));
                }
            }
            let mut name = steer.owner.clone();
            for labels in (apex.label_count() + 1..=path.labels()).rev() {
                for (rtype, place) in firsts(labels) {
                    let text = match rtype {
                        RecordType::NS => format!("{name} is delegated away ({place}), so nothing there is answered from this zone"),
                        RecordType::DNAME if name != steer.owner => format!("{name} is a DNAME ({place}), so nothing below it is answered"),
                        _ => continue,
                    };
                    if said.insert(rtype) {
                        self.sink.error(spot, &subject, text);
                    }
                }
                name = name.parent().unwrap_or_else(Name::root);
            }
            let is_dname = |(rtype, _): &(RecordType, Spot)| *rtype == RecordType::DNAME && steer.owner != *apex;
            for (_, place) in firsts(apex.label_count()).filter(is_dname) {
                self.sink.error(spot, &subject, format!("{apex} is a DNAME ({place}), so nothing below it is answered"));
            }
        }
    }
}

fn addresses(pool: &Pool, rtype: RecordType) -> usize {
    pool.endpoints
        .iter()
        .filter(|endpoint| match &endpoint.target {
            Target::Address(address) => address.is_ipv4() == (rtype == RecordType::A),
            Target::Cname(_) => false,
        })
        .count()
}

/// Types that the pool has an answer for.
fn types_of(pool: &Pool) -> BTreeSet<RecordType> {
    let mut types: BTreeSet<RecordType> = pool.records.keys().copied().collect();
    for rtype in [RecordType::A, RecordType::AAAA] {
        if addresses(pool, rtype) > 0 {
            types.insert(rtype);
        }
    }
    types
}

/// Types that a pool takes over at its owner: with endpoints both families, present or not.
fn steered_types(pool: &Pool) -> BTreeSet<RecordType> {
    let mut types = types_of(pool);
    if !pool.endpoints.is_empty() && !pool.is_cname {
        types.extend([RecordType::A, RecordType::AAAA]);
    }
    types
}
