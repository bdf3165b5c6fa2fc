//! What `control` offers to `admin`, `probe` and `app`: requests with their answers, and the status it publishes.
//!
//! The JSON forms of these types are the admin interface's (`/v1`); `cli` reads them back, so they derive both ways.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::overlay::{Difference, Hold, Overlay, Progress, Ramp, Setting, Withdrawal};
pub use super::reports::{Ignored, Report, Reported, Taken};
pub use super::requests::{Amend, Lift, NewOverlay, Promote, ReloadBody, When};
pub use super::things::Seen;
pub use super::who::{Role, Who};
use crate::answer::Transport;
use crate::health::Outcome;
use crate::health::concern::Validity;
pub use crate::policy::model::Forced;
use crate::policy::model::Monitor;
use crate::telemetry::{CertificateFacts, ConnectionTotals, Registry};

/// Characters of a reason.
pub const MAX_REASON_CHARS: usize = 500;

/// What promoting an overlay came to: the files say it, and the overlay has ended, in one generation.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Promoted {
    /// As it was.
    pub overlay: Overlay,
    /// The file.
    pub file: String,
    /// What changed in it: a unified diff.
    pub diff: String,
    /// Zones that it changes as well, for they use what the file says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_zones: Vec<String>,
    /// The generation that serves it.
    pub generation: u64,
    /// Nothing was written.
    pub dry_run: bool,
}

fn whole() -> f64 {
    1.0
}

/// For shares that are shown where they are less.
pub(super) fn is_whole(share: &f64) -> bool {
    *share == 1.0
}

pub(super) fn is_zero(count: &u8) -> bool {
    *count == 0
}

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// What a change would do to what is in rotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Consequences {
    /// Ids of the endpoints that would leave rotation; the first hundred.
    pub withdrawn: Vec<String>,
    /// How many they are.
    pub withdrawn_count: usize,
    /// Ids of the pools of which nothing would be left in rotation.
    pub pools: Vec<String>,
    /// The zones that would lose endpoints.
    pub zones: Vec<ZoneShare>,
    /// Steered names that would be left with fewer pools; the first hundred.
    pub names: Vec<NameLeft>,
    /// How many they are.
    pub names_count: usize,
    /// The safety rules that forbid it.
    pub broken: Vec<Broken>,
    /// More than `safety.confirm_above` of a zone's endpoints would leave rotation at once.
    pub confirm: bool,
    /// What whoever asks may not mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Consequences {
    pub(super) fn withdraw(&mut self, endpoint: &str, limit: usize) {
        // A library's endpoint is in several zones.
        if self.withdrawn.iter().any(|id| id == endpoint) {
            return;
        }
        self.withdrawn_count += 1;
        if self.withdrawn.len() < limit {
            self.withdrawn.push(endpoint.into());
        }
    }

    pub(super) fn name(&mut self, name: NameLeft, limit: usize) {
        self.names_count += 1;
        if self.names.len() < limit {
            self.names.push(name);
        }
    }

    /// Adds what is so when it is looked at in another way: of what both say, what was there stays.
    pub(super) fn join(&mut self, other: Consequences, limit: usize) {
        let (withdrawn, names) = (self.withdrawn_count.max(other.withdrawn_count), self.names_count.max(other.names_count));
        other.withdrawn.iter().for_each(|id| self.withdraw(id, limit));
        for name in other.names {
            if !self.names.iter().any(|known| known.name == name.name) {
                self.name(name, limit);
            }
        }
        // Beyond the limit it is not known which are the same.
        if withdrawn.max(names) > limit {
            (self.withdrawn_count, self.names_count) = (withdrawn, names);
        }
        self.pools.extend(other.pools.into_iter().filter(|id| !self.pools.contains(id)).collect::<Vec<_>>());
        for share in other.zones {
            match self.zones.iter_mut().find(|known| known.zone == share.zone) {
                Some(known) if known.withdrawn < share.withdrawn => *known = share,
                Some(_) => {}
                None => self.zones.push(share),
            }
        }
        self.broken.extend(other.broken.into_iter().filter(|broken| !self.broken.iter().any(|known| known.rule == broken.rule)).collect::<Vec<_>>());
        self.warnings.extend(other.warnings.into_iter().filter(|warning| !self.warnings.contains(warning)).collect::<Vec<_>>());
        self.confirm |= other.confirm;
    }
}

/// What a change would do to one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ZoneShare {
    /// Apex with its final dot.
    pub zone: String,
    /// All endpoints that it knows.
    pub endpoints: usize,
    /// Those that would leave rotation.
    pub withdrawn: usize,
    /// Those out of rotation now.
    pub out_before: usize,
    /// Those out of rotation afterwards.
    pub out_after: usize,
}

/// What a change would leave of a steered name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NameLeft {
    /// Its owner.
    pub name: String,
    /// All pools below it.
    pub pools: usize,
    /// Those in rotation now.
    pub before: usize,
    /// Those in rotation afterwards.
    pub after: usize,
}

/// A safety rule that forbids a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Broken {
    /// `zone/safety:RULE`, or `zone/safety:min_in_rotation/SET`.
    pub rule: String,
    /// What there would be: percent for shares, to three decimals, else a count.
    #[schema(value_type = f64)]
    pub found: serde_json::Number,
    /// What the rule asks for, in the same unit.
    pub limit: u64,
    /// In a sentence.
    pub detail: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// What came of an overlay or a revert: in effect when it is returned.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Applied {
    /// The overlay, or the one that was reverted.
    pub overlay: Overlay,
    /// The generation that shows the change.
    pub generation: u64,
    /// Of a revert: what is still not as the files say of its target, and which overlays decide it. Absent where the files hold again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Difference>,
    /// The safety rules that it went past with `break_glass`, with the numbers of that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<String>,
    /// What whoever asked may not have meant: the change is made all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What is laid beyond the zones of a token and reaches into them: it can be seen with that token, not changed. Whose it is and why is not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Beyond {
    /// As overlays name it: `region:NAME`, or something of a library.
    pub target: String,
    /// What it sets.
    pub set: Setting,
    /// Unix seconds: in effect since.
    pub since: u64,
    /// Unix seconds; `None` never expires.
    pub expires: Option<u64>,
    /// Where it stands, as of overlays.
    pub phase: String,
}

/// What came of letting a failover return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailedBack {
    /// The generation that serves now.
    pub generation: u64,
    /// Children that were held back and no longer are; 0 when nothing was held.
    pub released: usize,
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
    /// What it depends on is not as the request expects it any more.
    Changed {
        /// What was found.
        detail: String,
        /// Its tag now.
        tag: Option<String>,
    },
    /// The state store could not keep it, so it was not applied.
    Store {
        /// The store's words.
        detail: String,
    },
    /// What it needs is being used at this moment: the same request may pass soon.
    Busy {
        /// By what.
        detail: String,
    },
    /// The disk of the state does not answer: what becomes of a change is not known.
    Stalled {
        /// For how long.
        detail: String,
    },
    /// What is kept cannot be read.
    Unread {
        /// The store's words.
        detail: String,
    },
    /// The token's role or scope does not reach that far.
    Forbidden {
        /// What was found, what is expected.
        detail: String,
    },
    /// Safety rules forbid it.
    Safety {
        /// Each with its numbers; at least one.
        broken: Vec<Broken>,
    },
    /// The program is stopping.
    Stopping,
}

/// The result of a reload, zone by zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReloadReport {
    /// The generation that serves now.
    pub generation: u64,
    /// One entry per zone that was looked at.
    pub zones: Vec<ZoneReload>,
    /// Problems as `meridian check` prints them.
    pub problems: Vec<String>,
    /// True when anything was refused.
    pub failed: bool,
    /// False when nothing is as the files did not say before: the generation stays. Of a dry run: whether anything would be another.
    pub changed: bool,
    /// Nothing was changed: this is what would be.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// Of a dry run: what it would do to what is in rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consequences: Option<Consequences>,
    /// The safety rules that it went past, each with its numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<String>,
}

/// What a reload did to one zone.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// Of the world in service.
    pub generation: u64,
    /// Unix seconds of process start.
    pub started: u64,
    /// Of the program.
    pub version: String,
    /// What is wrong with the service itself (missing database, unwritable state, …), in full sentences.
    pub degraded: Vec<String>,
    /// Whether failing checks are believed.
    #[serde(default)]
    pub health: HealthStatus,
    /// The certificates of listeners.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Room for connections of clients.
    #[serde(default)]
    pub connections: Vec<ConnectionStatus>,
    /// What of `meridian.toml` takes effect with a restart, in sentences.
    #[serde(default)]
    pub restart: Vec<String>,
    /// In name order.
    pub zones: Vec<ZoneStatus>,
    /// In id order, every pool once even if several zones use it.
    pub pools: Vec<PoolStatus>,
    /// Counter slots of the policies that decide for names: for metrics.
    #[serde(skip)]
    pub policies: Vec<u32>,
    /// In id order, expired ones left out.
    pub overlays: Vec<Overlay>,
}

/// A certificate that a listener shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateStatus {
    /// Its table in `meridian.toml`, such as `server.tls`.
    pub listener: String,
    /// Its file.
    pub file: String,
    /// Unix seconds of its end, or of the end of one that leads to its authority if that comes first.
    pub expires: i64,
    /// Which of the file that is, unless it is the listener's own: its place and its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

/// Room for connections of clients over one transport.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConnectionStatus {
    /// `tcp`, `tls`, `https` or `quic`.
    pub transport: String,
    /// Open now.
    pub open: u64,
    /// How many there may be.
    pub places: u64,
    /// How many the configuration asks for: more than `places` where the process may not open so many files.
    pub configured: u64,
}

impl ConnectionStatus {
    /// Of every transport that is open.
    pub(super) fn all(registry: &Registry) -> Vec<ConnectionStatus> {
        let of = |transport: &Transport| {
            let totals = registry.connections(*transport).totals();
            let ConnectionTotals { open, places, wanted, .. } = totals;
            (places > 0).then(|| ConnectionStatus { transport: transport.name().into(), open, places, configured: wanted })
        };
        Transport::ALL.iter().filter_map(of).collect()
    }
}

impl From<CertificateFacts> for CertificateStatus {
    fn from(facts: CertificateFacts) -> CertificateStatus {
        CertificateStatus { listener: facts.listener, file: facts.file.display().to_string(), expires: facts.expires, first: facts.first }
    }
}

/// Whether failing checks are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthStatus {
    /// Unix seconds since when nothing is withdrawn however checks fail; absent while they count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_since: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_why: Option<String>,
    /// How this server tells its own trouble from that of the endpoints: `references`, `numbers`, `none` (every failure counts), `off` (`freeze = false`);
    /// empty where nothing is checked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protection: String,
    /// What that protects from and what not, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protection_why: String,
    /// Checks that could not run when they should have run last, for want of a way to the network or of descriptors: nothing is known of what they check.
    #[serde(default)]
    pub unable: usize,
    /// Of them: those that met a certificate which is not valid in time by this machine's clock, where that may be wrong.
    #[serde(default)]
    pub unable_by_clock: usize,
    /// As in `health.references`.
    #[serde(default)]
    pub references: Vec<ReferenceStatus>,
}

/// A place that tells whether this server's own network works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReferenceStatus {
    /// Address and port.
    pub address: String,
    /// Its last check passed.
    pub answers: bool,
    /// Unix seconds of its last answer in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer: Option<u64>,
    /// Why its last check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// One zone.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
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
    /// Queries answered since the start, in the status; what has an ETag does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<u64>,
}

/// One pool.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
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
    /// What is reported of it as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
    /// The share of its traffic that it keeps, 0 to 1; the rest is left to others, for its load or while it is drained step by step.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub kept: f64,
    /// So little of it is usable that health has no say within it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
    /// What in its definition will make trouble, as said at load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Counter slot, for metrics; no identity.
    #[serde(skip)]
    pub slot: u32,
    /// Queries answered since the start; filled in by the reader from telemetry.
    #[serde(default)]
    pub queries: u64,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointStatus {
    /// `zone/pool/address`.
    pub id: String,
    /// What is handed out.
    pub target: String,
    /// As checks see it: `unknown`, `up`, `degraded`, `suspect`, `down`, `ramp`; `up` when nothing checks it.
    pub state: String,
    /// The verdict says nothing of now: it was kept from an earlier run and no check has confirmed it yet, or nothing has told for longer than it counts:
    /// three intervals and a timeout, or the `stale` of its monitor.
    pub stale: bool,
    /// Why it is stale, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_why: Option<String>,
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
    /// Why the last check that did not pass did not; kept until the endpoint is up. Where its monitors are put together, what keeps it from being up.
    pub last_error: Option<String>,
    /// Unix seconds of that; absent where it is so now and no check says it, and for what an earlier run knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<u64>,
    /// How its monitors come to its state, where that is not that all must pass: `any of (a up, b down)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calculated: Option<String>,
    /// What its advisory monitors find wrong: they have no vote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    /// What is wrong although its checks pass: why it is `degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concerns: Vec<String>,
    /// Milliseconds that its checks usually take; of several checks the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
    /// Unix seconds of the end of the certificate that it showed last, believed or not; of several the first to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<u64>,
    /// What its falls come to, as of the last check: 1000 for each, halved every five minutes.
    #[serde(default)]
    pub penalty: u32,
    /// Faults on credit, as of the last check: stretches of failures that a success ended. Ten successes take one back, the sixth takes it down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub faults: u8,
    /// Unix seconds until when it is kept down for its falls, whatever its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_until: Option<u64>,
    /// Its checks fail, but this safety rule keeps it as a last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<String>,
    /// What is reported of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
    /// Checks in this run that passed and that failed, for metrics; `None` when nothing checks it.
    #[serde(skip)]
    pub checks: Option<[u64; 2]>,
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
    /// Another address than the endpoint's own, which its certificate has to name: the far side of a NAT.
    Behind {
        /// The endpoint's own.
        own: IpAddr,
        /// What is connected to.
        at: IpAddr,
    },
    /// Nowhere: reports of the endpoint of this id are waited for.
    Endpoint(Arc<str>),
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
    /// The time of the certificate that the peer showed, if it showed one.
    pub certificate: Option<Validity>,
    /// Of what is reported of calls: so many percent succeed, and that is poor.
    pub poor: Option<u8>,
}
