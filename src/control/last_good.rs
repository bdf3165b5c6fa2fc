//! What names with `all_down = "last-good"` were answered before everything behind them failed, and what of that is kept for the next start.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::TextHash;
use crate::policy::model::{Child, TtlRange};
use crate::policy::plan::{Choice, Pass, Plan};
use crate::policy::resolve::Class;

/// What a plan is of: what answers, at most how many addresses, and for whom.
type Key = (Child, Option<u8>, Class);

/// Answers of one zone that are kept for the next start: far more than there are classes in all but the largest.
const MAX_SAVED: usize = 1000;

/// The last plans that were not `all_down`, for names that ask for it. Belongs to one zone.
#[derive(Clone, Debug, Default)]
pub(super) struct LastGood {
    plans: HashMap<Key, Plan>,
    /// Those that are answered from, because everything is down now.
    in_force: HashSet<Key>,
    /// Of the run before, by mark, until somebody asks.
    saved: BTreeMap<String, Choice>,
    /// What is in force is other than when it was last asked for to be kept.
    moved: bool,
}

impl LastGood {
    /// The plan that served last, if one is known.
    pub(super) fn of(&mut self, key: &Key) -> Option<&Plan> {
        if !self.saved.is_empty()
            && let Some(choice) = self.saved.remove(&mark(key))
        {
            let plan = Plan { choice, ttl: TtlRange { max: 0, min: 0 }, settled_at: 0, pass: Pass::Healthy };
            self.plans.entry(key.clone()).or_insert(plan);
        }
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

    /// Takes over from the run before.
    pub(super) fn restore(&mut self, saved: &BTreeMap<String, Choice>) {
        self.saved.clone_from(saved);
    }

    /// As it is kept for the next run.
    pub(super) fn saved(&self) -> BTreeMap<String, Choice> {
        self.in_force.iter().take(MAX_SAVED).filter_map(|key| Some((mark(key), self.plans.get(key)?.choice.clone()))).collect()
    }

    /// True when what is kept may be other than when last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

/// Tells a key from others of the same zone with the same content.
fn mark(key: &Key) -> String {
    format!("{:032x}", TextHash::of(format!("{key:?}").as_bytes()))
}
