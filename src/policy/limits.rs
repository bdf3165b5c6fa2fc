//! What may not happen to a zone at run time: `[safety]`, checked.

use std::sync::Arc;
use std::time::Duration;

use super::model::MinHealthy;

/// What a change at run time may not do to a zone (`[safety]`). Judged by `control`, before anything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safety {
    /// The most endpoints out of rotation, in percent of all, 0 to 100.
    pub max_withdrawn: Option<u8>,
    /// The most withdrawals in a window of time.
    pub max_changes: Option<(u32, Duration)>,
    /// No steered name may be left with nothing usable.
    pub last_healthy: bool,
    /// What must be left of the capacity that a steered name's pools have, in percent, 0 to 100.
    pub min_capacity: u8,
    /// The command line asks when more goes out of rotation at once, in percent of all endpoints, 0 to 100.
    pub confirm_above: u8,
    /// How long a drained endpoint is left alone after the last answer that names it has run out.
    pub drain_guard: Duration,
    /// Sets of which some must stay in rotation.
    pub sets: Vec<SafetySet>,
    /// The limits that are stated (sets, `max_withdrawn`, `max_changes`) bind checks, too: what fails beyond them stays as a last resort.
    pub bind_checks: bool,
}

impl Safety {
    /// Some limit binds what checks do.
    pub fn binds_checks(&self) -> bool {
        self.bind_checks && (self.max_withdrawn.is_some() || self.max_changes.is_some() || !self.sets.is_empty())
    }
}

impl Default for Safety {
    fn default() -> Safety {
        Safety {
            max_withdrawn: None,
            max_changes: None,
            last_healthy: true,
            // Two alike, one of which may always be taken out.
            min_capacity: 50,
            confirm_above: 50,
            // Connections that are open, and the resolvers that keep answers longer than they may.
            drain_guard: Duration::from_secs(60),
            sets: Vec::new(),
            bind_checks: true,
        }
    }
}

/// A set of which some must stay in rotation (`[safety.min_in_rotation]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetySet {
    /// Its name.
    pub name: String,
    /// What is counted, each once; not empty.
    pub members: Vec<SafetyMember>,
    /// How many of them, at least 1.
    pub at_least: MinHealthy,
}

/// What a set of `[safety.min_in_rotation]` counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SafetyMember {
    /// By id: in rotation as long as one of its endpoints is.
    Pool(Arc<str>),
    /// By id.
    Endpoint(Arc<str>),
    /// By name: in rotation as long as one of its pools, as far as the zone knows them, is.
    Region(String),
}
