//! Overlays as the admin interface shows them and the state keeps them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::api::is_false;
use crate::policy::model::Forced;

/// A runtime change, laid over the files (DESIGN §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Overlay {
    /// Counts up, never used again.
    pub id: u64,
    /// `zone/pool/address`, `zone/pool`, `region:NAME`, `zone/name[/TYPE]`, `zone/policy:NAME/child`, `zone/policy:NAME/rule:KEY`, `zone/name/rule:KEY`.
    pub target: String,
    /// What it sets.
    pub set: Setting,
    /// Who made it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds; `None` never expires.
    pub expires: Option<u64>,
    /// Unix seconds; not before then. `None`: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<u64>,
    /// Unix seconds: in effect since; `None` while it waits for its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// The weight that its ramp begins with; of a plan that gave none, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u16>,
    /// The way to what it sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// The way back: it ends when that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Ramp>,
    /// Where it stands: `waiting`, `ramping`, `holding`, `in effect`, `outranked`, `returning`, `without effect`; `ended` of one that was just taken
    /// back. Derived.
    #[serde(default)]
    pub phase: String,
    /// What it sets holds now, in part at least: it has begun, its target is there, and no other overlay outranks it. Derived.
    #[serde(default)]
    pub in_force: bool,
    /// The overlays that hold in its place (the first ten), oldest first; while it is `in_force`, in part of it. Derived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outranked_by: Vec<u64>,
    /// Where another overlay holds although this one is `in_force`, in a sentence. Derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partly: Option<String>,
    /// How far it is on its way, while it is on one. Derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Of a `drain` or `down`: when what it withdrew may be stopped. Derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// Whoever laid it goes past safety rules.
    #[serde(default, skip_serializing_if = "is_false")]
    pub break_glass: bool,
    /// The safety rules that it went past with `break_glass`, with the numbers of that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<String>,
    /// Why it has no effect at present: its target is gone, a safety rule forbids its start, another overlay outranks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
}

impl Overlay {
    /// One that says what it does and nothing else: nobody's, since 1970, for ever.
    pub fn of(id: u64, target: impl Into<String>, set: Setting) -> Overlay {
        Overlay {
            id,
            target: target.into(),
            set,
            owner: String::new(),
            reason: String::new(),
            created: 0,
            expires: None,
            starts: None,
            began: None,
            from: None,
            ramp: None,
            back: None,
            phase: String::new(),
            in_force: false,
            outranked_by: Vec::new(),
            partly: None,
            progress: None,
            withdrawal: None,
            break_glass: false,
            broke: Vec::new(),
            inactive: None,
        }
    }

    /// As it is kept: without what is derived.
    pub fn kept(&self) -> Overlay {
        Overlay { inactive: None, phase: String::new(), in_force: false, outranked_by: Vec::new(), partly: None, progress: None, ..self.clone() }
    }
}

/// A change made step by step. Its clock stands still while something holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ramp {
    /// Seconds from one end to the other.
    pub over: u64,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// Seconds that it was held so far.
    #[serde(default)]
    pub held: u64,
    /// What holds it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<Hold>,
    /// Steps of a hundred that it has taken, from where it goes on after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u8>,
    /// Endpoints that had failed when it began, and have not been well since: they do not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub failed_before: Option<BTreeSet<String>>,
    /// It has come to its end.
    #[serde(default)]
    pub done: bool,
}

/// Where a change that is made step by step is at this moment: a hundred steps from one end to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// How much of the way is done; on the way back, how much has come back.
    pub percent: u8,
    /// Of a weight: what it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Unix seconds: when the next step changes something. Absent while it stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<u64>,
    /// Unix seconds: when it is there, if nothing holds it from now on.
    pub end: u64,
}

/// What holds a ramp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hold {
    /// Unix seconds.
    pub since: u64,
    /// In a sentence.
    pub why: String,
}

/// When what was withdrawn may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Withdrawal {
    /// `draining`: caches may still hand it out; `drained`: no cache that keeps to the rules does, and the guard is over.
    pub state: String,
    /// Unix seconds: the last answer that names it, its TTL, and the guard. `None` while it is still handed out.
    pub safe_to_stop_at: Option<u64>,
    /// Steered names that still hand it out (the first ten): they have nothing else left, or it is given up step by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_answered: Vec<String>,
}

/// What an overlay sets. In JSON `{ "weight": 5 }`, `{ "ttl": 20 }`, `{ "state": "drain" }`, `{ "disabled": true }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Setting {
    /// Of an endpoint (0 to 65535) or of a policy's child.
    Weight(u16),
    /// Of a record or steered name, seconds, 1 to 2³¹ − 1.
    Ttl(u32),
    /// Of an endpoint, pool or region.
    State(Forced),
    /// Of a rule of a geo policy; `true`: to enable it again, take the overlay back.
    Disabled(bool),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Weight(weight) => write!(f, "weight {weight}"),
            Setting::Ttl(seconds) => write!(f, "ttl {seconds}"),
            Setting::State(forced) => f.write_str(forced.word()),
            Setting::Disabled(_) => f.write_str("disabled"),
        }
    }
}

/// What the files say of something and what is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// As overlays name it.
    pub target: String,
    /// `state`, `weight`, `ttl` or `rule`.
    pub what: String,
    /// In the files.
    pub files: String,
    /// In effect.
    pub now: String,
    /// The overlays that are laid on it, oldest first.
    pub overlays: Vec<u64>,
    /// The overlays that decide what is in effect, oldest first; one of a pool or region may decide over an endpoint.
    #[serde(default)]
    pub in_force: Vec<u64>,
}
