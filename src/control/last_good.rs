//! What names with `all_down = "last-good"` were answered before everything behind them failed. It outlasts reloads and restarts: what is remembered goes
//! by the names of the policy and the pools ([`path`]), so that an edited file finds it again, and what has left them is no longer in it.
//!
//! ```text
//! the zone as it is now            remembered for a class of clients
//! the same policy, the same pools  what was remembered for it, without the members that left
//! the same policy, other pools     what was remembered for the class that begins with the most of the same pools
//! another policy, or none left     nothing
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::state::ZoneState;
use crate::policy::model::{AllDown, Child, Pool, Target, TtlRange, ZoneModel};
use crate::policy::plan::{AnswerSet, Choice, Pass, Plan};
use crate::policy::resolve::{Class, Step};

/// What a plan is of: what answers, at most how many addresses, and for whom.
type Key = (Child, Option<u8>, Class);

/// Answers of one zone that are kept for the next start: far more than there are classes in all but the largest.
const MAX_SAVED: usize = 1000;

/// Between the parts of a [`path`]: in no name of a policy or pool.
const THEN: &str = " > ";

/// The last plans that were not `all_down`, for names that ask for it. Belongs to one zone.
#[derive(Clone, Debug, Default)]
pub(super) struct LastGood {
    plans: HashMap<Key, Plan>,
    /// Those that are answered from, because everything is down now.
    in_force: HashSet<Key>,
    /// What is in force is other than when it was last asked for to be kept.
    moved: bool,
}

impl LastGood {
    /// The plan that served last, if one is known.
    pub(super) fn of(&self, key: &Key) -> Option<&Plan> {
        self.plans.get(key)
    }

    /// Takes the plan of now.
    pub(super) fn note(&mut self, key: Key, plan: &Plan) {
        if plan.pass != Pass::AllDown {
            self.moved |= self.in_force.remove(&key);
            self.plans.insert(key, plan.clone());
        } else if self.plans.contains_key(&key) {
            self.moved |= self.in_force.insert(key);
        }
    }

    /// True when what is kept may be other than when last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

impl ZoneState {
    /// Takes over what the version before remembers.
    pub(super) fn inherit_last_good(&mut self, before: &ZoneState) {
        let (model, plans) = (before.model(), &before.last_good.plans);
        let remembered = plans.iter().map(|((root, _, class), plan)| (path(model, *root, class), plan.choice.clone())).collect();
        self.remember(&remembered);
    }

    /// Takes over what was remembered by path: of the version or the run before.
    pub(super) fn remember(&mut self, before: &BTreeMap<String, Choice>) {
        if before.is_empty() {
            return;
        }
        let model = self.model().clone();
        for root in &self.roots {
            let steer = &model.steers[root.steer];
            let members = Members::of(&model, steer.root);
            for class in root.classes.iter().filter(|class| class.all_down.unwrap_or(steer.all_down) == AllDown::LastGood) {
                let found = likest(before, &path(&model, steer.root, class)).and_then(|choice| choice.only(&|set| members.left_of(set)));
                let Some(mut choice) = found else { continue };
                if let Some(answers) = steer.answers {
                    choice.cap(answers);
                }
                let plan = Plan { choice, ttl: TtlRange { max: 0, min: 0 }, settled_at: 0, pass: Pass::Healthy };
                self.last_good.plans.insert((steer.root, steer.answers, class.clone()), plan);
            }
        }
        // Nothing is in force before the plans are made; what is kept meanwhile is what was kept before.
        self.last_good.moved = true;
    }

    /// What is remembered and in force, as it is kept for the next run.
    pub(super) fn saved_last_good(&self) -> BTreeMap<String, Choice> {
        let LastGood { plans, in_force, .. } = &self.last_good;
        let saved = |key: &Key| Some((path(self.model(), key.0, &key.2), plans.get(key)?.choice.clone()));
        in_force.iter().take(MAX_SAVED).filter_map(saved).collect()
    }
}

/// What may still be in an answer.
struct Members<'a> {
    addrs: HashSet<IpAddr>,
    cnames: HashSet<&'a [u8]>,
    pools: Vec<&'a Pool>,
}

impl Members<'_> {
    fn of(model: &ZoneModel, root: Child) -> Members<'_> {
        let pools: Vec<&Pool> = model.pools_below(root).into_iter().map(|ix| model.pool(ix)).collect();
        let (mut addrs, mut cnames) = (HashSet::new(), HashSet::new());
        for endpoint in pools.iter().flat_map(|pool| &pool.endpoints) {
            match &endpoint.target {
                Target::Address(addr) => drop(addrs.insert(*addr)),
                Target::Cname(name) => drop(cnames.insert(name.as_wire())),
            }
        }
        Members { addrs, cnames, pools }
    }

    fn left_of(&self, set: &AnswerSet) -> AnswerSet {
        let has_records = |(rtype, rdatas): &&(_, _)| self.pools.iter().any(|pool| pool.records.get(rtype) == Some(rdatas));
        let left = set.only(|addr| self.addrs.contains(&addr), |name| self.cnames.contains(name));
        AnswerSet { records: set.records.iter().filter(has_records).cloned().collect(), ..left }
    }
}

/// Tells a class of clients of a policy from its others, in every version of a zone: the policy, then the pools in the order in which they are tried.
fn path(model: &ZoneModel, root: Child, class: &Class) -> String {
    fn add(model: &ZoneModel, step: &Step, seen: &mut BTreeSet<usize>, path: &mut String) {
        match step {
            Step::Pool(ix) if seen.insert(ix.0 as usize) => path.push_str(&format!("{THEN}{}", model.pool(*ix).id)),
            step => step.children().iter().for_each(|(_, step)| add(model, step, seen, path)),
        }
    }
    let mut path = format!("{} {}", if matches!(root, Child::Pool(_)) { "pool" } else { "policy" }, model.child_name(root));
    add(model, &class.step, &mut BTreeSet::new(), &mut path);
    path
}

/// What was remembered for this path, or for the one of the same policy that is most like it.
fn likest<'a>(before: &'a BTreeMap<String, Choice>, path: &str) -> Option<&'a Choice> {
    if let Some(choice) = before.get(path) {
        return Some(choice);
    }
    let parts: Vec<&str> = path.split(THEN).collect();
    let alike = |other: &str| other.split(THEN).zip(&parts).take_while(|(other, part)| other == *part).count();
    let mut of_policy = before.iter().map(|(other, choice)| (alike(other), choice)).filter(|(alike, _)| *alike > 0);
    let (most, choice) = of_policy.clone().max_by_key(|(alike, _)| *alike)?;
    // Where it does not even begin alike, it must be clear which is meant.
    (most > 1 || of_policy.nth(1).is_none()).then_some(choice)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::api::{CheckTarget, Observation};
    use crate::control::driven::Driven;
    use crate::health::{Failure, Outcome};

    const POOLS: &str = "[monitor.m]\ntcp = true\nport = 80\nfall = 1\n\
        [pool.a]\nendpoints = [\"192.0.2.1\", \"192.0.2.2\"]\nmonitor = \"m\"\n[pool.b]\nendpoints = [\"198.51.100.1\"]\nmonitor = \"m\"\n";
    const STEER: &str = "[steer.www]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\nall_down = \"last-good\"\n";

    fn files(zone: &str) -> [(&'static str, String); 2] {
        let head = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";
        [("meridian.toml", "[health]\nfreeze = false\n".into()), ("zones/example.com.toml", format!("{head}{zone}"))]
    }

    fn with<T>(zone: &str, act: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        act(&files(zone).each_ref().map(|(name, text)| (*name, text.as_str())))
    }

    fn observe(driven: &mut Driven, addresses: &[&str], outcome: &Outcome) {
        for spec in driven.specs().iter() {
            let CheckTarget::Address(address) = &spec.target else { continue };
            if addresses.contains(&&*address.to_string()) {
                let outcome = outcome.clone();
                let observation = Observation { spec: spec.clone(), outcome, took: Duration::from_millis(5), certificate: None, poor: None };
                driven.observe(&observation).expect("it is wanted");
            }
        }
        driven.publish();
    }

    /// Everything is down; pool `a` answered last, and of it the second endpoint alone.
    fn in_a_disaster() -> Driven {
        let mut driven = with(&format!("{POOLS}{STEER}"), Driven::start);
        let all = ["192.0.2.1", "192.0.2.2", "198.51.100.1"];
        observe(&mut driven, &all, &Ok(()));
        for address in ["198.51.100.1", "192.0.2.1", "192.0.2.2"] {
            observe(&mut driven, &[address], &Err(Failure::Status(503)));
        }
        assert_eq!(answers(&driven), ["192.0.2.2"]);
        driven
    }

    fn answers(driven: &Driven) -> Vec<String> {
        let mut found: Vec<String> =
            driven.ask("www.example.com").answer.iter().map(|record| record.rsplit(' ').next().unwrap_or_default().into()).collect();
        found.sort();
        found
    }

    #[test]
    fn a_reload_forgets_nothing_but_members_that_left() {
        let (a, both) = ("endpoints = [\"192.0.2.1\", \"192.0.2.2\"]", ["192.0.2.1", "192.0.2.2"]);
        for (what, edited, expected) in [
            ("a comment", format!("# mind\n{POOLS}{STEER}"), &["192.0.2.2"][..]),
            (
                "the pools stand in another order",
                format!("[pool._]\nendpoints = [\"203.0.113.1\"]\n[steer.x]\nuse = \"_\"\n{POOLS}{STEER}"),
                &["192.0.2.2"],
            ),
            ("a member more", format!("{POOLS}{STEER}").replace(a, "endpoints = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\"]"), &["192.0.2.3"]),
            ("a member less", format!("{POOLS}{STEER}").replace(a, "endpoints = [\"192.0.2.2\"]"), &["192.0.2.2"]),
            ("a pool less", format!("{POOLS}{STEER}").replace("[\"a\", \"b\"]", "[\"a\"]"), &["192.0.2.2"]),
            ("the pools change places", format!("{POOLS}{STEER}").replace("[\"a\", \"b\"]", "[\"b\", \"a\"]"), &["192.0.2.2"]),
            ("another cap", format!("{POOLS}{STEER}answers = 1\n"), &["192.0.2.2"]),
            // Nothing is left of it: as if all were up.
            ("the member left", format!("{POOLS}{STEER}").replace(a, "endpoints = [\"192.0.2.1\"]"), &["192.0.2.1"]),
            (
                "another policy",
                format!(
                    "{POOLS}[policy.p]
policy = \"failover\"
to = [\"a\", \"b\"]
[steer.www]
use = \"p\"
all_down = \"last-good\"
"
                ),
                &both,
            ),
        ] {
            let mut driven = in_a_disaster();
            with(&edited, |files| driven.reload(files));
            assert_eq!(answers(&driven), expected, "{what}");
            // And the reload after that one.
            with(&format!("{edited}# once more\n"), |files| driven.reload(files));
            assert_eq!(answers(&driven), expected, "{what}, twice");
            assert!(!driven.publish(), "{what}");
        }
    }

    #[test]
    fn a_start_with_an_edited_file_remembers_too() {
        for (edited, expected) in [
            (format!("# mind\n{POOLS}{STEER}"), "192.0.2.2"),
            (format!("{POOLS}{STEER}").replace("\"192.0.2.1\", \"192.0.2.2\"", "\"192.0.2.2\", \"192.0.2.1\""), "192.0.2.2"),
        ] {
            let driven = with(&edited, |files| in_a_disaster().restart(files));
            assert_eq!(answers(&driven), [expected]);
        }
    }

    #[test]
    fn the_likest_class_is_that_with_the_most_of_the_same_pools_in_front() {
        let choice = |answers| Choice::Answers { set: Default::default(), answers };
        let before: BTreeMap<String, Choice> =
            [("policy app > fra > iad", 1), ("policy app > iad > fra", 2), ("policy app > iad > sin", 3), ("policy www > fra", 4)]
                .map(|(path, at)| (path.to_owned(), choice(at)))
                .into();
        for (path, expected) in [
            ("policy app > fra > iad", Some(1)),
            ("policy app > fra > iad > sin", Some(1)),
            ("policy app > iad > sin > fra", Some(3)),
            ("policy app > sin", None),
            ("policy www > iad", Some(4)),
            ("policy api > fra", None),
            ("pool www > fra", None),
        ] {
            assert_eq!(likest(&before, path), expected.map(choice).as_ref(), "{path}");
        }
    }
}
