//! What `control` offers to `admin`, `probe` and `app`: requests with their answers, and the status it publishes.
//!
//! The JSON forms of these types are the admin interface's (`/v1`); `cli` reads them back, so they derive both ways.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::who::{Role, Who};
use crate::health::Outcome;
pub use crate::policy::model::Forced;
use crate::policy::model::Monitor;

/// A runtime change, laid over the files (DESIGN §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Counts up, never used again.
    pub id: u64,
    /// `zone/pool/address`, `zone/pool`, `region:NAME`, `zone/name[/TYPE]`, `zone/policy:NAME/child`.
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
    /// Why it has no effect at present (its target is gone, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
}

/// What an overlay sets. In JSON `{ "weight": 5 }`, `{ "ttl": 20 }`, `{ "state": "drain" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Setting {
    /// Of an endpoint (0 to 65535) or of a policy's child.
    Weight(u16),
    /// Of a record or steered name, seconds, 1 to 2³¹ − 1.
    Ttl(u32),
    /// Of an endpoint, pool or region.
    State(Forced),
}

/// A request for an overlay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOverlay {
    /// As in [`Overlay::target`].
    pub target: String,
    /// What to set.
    pub set: Setting,
    /// Why; not empty, at most 500 characters.
    pub reason: String,
    /// A duration (`"2h"`, `"90s"`, `"1d"`), `"never"`, or absent for 24 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// What came of an overlay or a revert: in effect when it is returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// The overlay, or the one that was reverted.
    pub overlay: Overlay,
    /// The generation that shows the change.
    pub generation: u64,
}

/// Why a request changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// The target, zone or overlay does not exist; what was asked for and near names.
    NotFound {
        /// As asked.
        what: String,
        /// "Did you mean".
        near: Vec<String>,
    },
    /// The request contradicts itself or is out of range: which field, what was found, what is expected.
    Invalid {
        /// Name of the JSON field.
        field: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The state store could not keep it, so it was not applied.
    Store {
        /// The store's words.
        detail: String,
    },
    /// The token's role or scope does not reach that far.
    Forbidden {
        /// What was found, what is expected.
        detail: String,
    },
    /// The program is stopping.
    Stopping,
}

/// The result of a reload, zone by zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation that serves now.
    pub generation: u64,
    /// One entry per zone that was looked at.
    pub zones: Vec<ZoneReload>,
    /// Problems as `meridian check` prints them.
    pub problems: Vec<String>,
    /// True when anything was refused.
    pub failed: bool,
}

/// What a reload did to one zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZoneReload {
    /// Apex with its final dot.
    pub zone: String,
    /// `taken`, `unchanged`, `removed`, `kept` (the old one keeps serving), `failed` (nothing to serve).
    pub outcome: String,
    /// Why it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Everything that `GET /v1/status` shows; published by `control` whenever it changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Of the world in service.
    pub generation: u64,
    /// Unix seconds of process start.
    pub started: u64,
    /// Of the program.
    pub version: String,
    /// What is wrong with the service itself (missing database, unwritable state, …), in full sentences.
    pub degraded: Vec<String>,
    /// In name order.
    pub zones: Vec<ZoneStatus>,
    /// In id order, every pool once even if several zones use it.
    pub pools: Vec<PoolStatus>,
    /// In id order, expired ones left out.
    pub overlays: Vec<Overlay>,
}

/// One zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// Apex with its final dot.
    pub name: String,
    /// The declaring file.
    pub file: String,
    /// SOA serial.
    pub serial: u32,
    /// Static records.
    pub records: usize,
    /// Owners of steered names, absolute.
    pub steered: Vec<String>,
    /// `serving`, `kept` (an older version serves because the files are bad), `failed` (SERVFAIL).
    pub state: String,
    /// Why it is not `serving`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Counter slot, for metrics; no identity.
    #[serde(skip)]
    pub slot: u32,
    /// Queries answered since the start; filled in by the reader from telemetry.
    #[serde(default)]
    pub queries: u64,
}

/// One pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolStatus {
    /// `zone/pool` or `library/pool`.
    pub id: String,
    /// Region label.
    pub region: Option<String>,
    /// `healthy` (all usable), `degraded` (some), `critical` (fewer than `min_healthy`).
    pub health: String,
    /// Usable endpoints.
    pub usable: usize,
    /// `min_healthy` as a count.
    pub needed: usize,
    /// In order of the file.
    pub endpoints: Vec<EndpointStatus>,
    /// Counter slot, for metrics; no identity.
    #[serde(skip)]
    pub slot: u32,
    /// Queries answered since the start; filled in by the reader from telemetry.
    #[serde(default)]
    pub queries: u64,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// `zone/pool/address`.
    pub id: String,
    /// What is handed out.
    pub target: String,
    /// As checks see it: `unknown`, `up`, `suspect`, `down`, `ramp`; `up` when nothing checks it.
    pub state: String,
    /// The verdict was kept from an earlier run and no check has confirmed it yet.
    pub stale: bool,
    /// What operators force, the strongest of endpoint, pool and region.
    pub forced: Option<Forced>,
    /// May be handed out: state and force together.
    pub usable: bool,
    /// In effect, overlays included.
    pub weight: u16,
    /// Names of the monitors that check it.
    pub monitors: Vec<String>,
    /// Unix seconds of the last change of state.
    pub since: Option<u64>,
    /// Unix seconds of the last finished check.
    pub last_check: Option<u64>,
    /// Milliseconds the last finished check took.
    pub last_ms: Option<u64>,
    /// Unix seconds of the next check.
    pub next_check: Option<u64>,
    /// Why the last failed check failed; kept until a check passes.
    pub last_error: Option<String>,
}

/// One distinct check: equal ones are shared by all endpoints and zones that use them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// Where to connect.
    pub target: CheckTarget,
    /// What to do there. The name in it plays no part in identity: `control` clears it.
    pub monitor: Monitor,
}

/// Where a check connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckTarget {
    /// The endpoint's address.
    Address(IpAddr),
    /// The endpoint's CNAME target, resolved by the system at each check; without the final dot.
    Host(String),
}

/// One finished check, as `probe` reports it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which check.
    pub spec: CheckSpec,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}
