//! Checks that ask nothing: what they wait for.

use std::sync::Arc;
use std::time::Duration;

/// A check that waits for reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushCheck {
    /// A report that is older says nothing of now.
    pub stale: Duration,
    /// What was said last is forgotten then; else it holds until something else is said.
    pub forget: bool,
}

/// A check of the share of successes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareCheck {
    /// Ids of the things whose counts tell of the endpoint, the nearest first: itself, its pool, its region.
    pub of: Vec<Arc<str>>,
    /// What counts as bad.
    pub rule: ShareRule,
}

/// When a share of successes is bad (`signals` of a pool).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShareRule {
    /// Below this many percent of successes an endpoint is down; `None`: reports take nothing down.
    pub down: Option<u8>,
    /// Below this many percent it is degraded; `None`: never.
    pub degraded: Option<u8>,
    /// Fewer samples say nothing.
    pub samples: u32,
    /// How long samples weigh.
    pub window: Duration,
}
