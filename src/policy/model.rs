//! The checked definitions of one zone: what `config` produces and everything above the files works from.
//!
//! A [`ZoneModel`] is whole by itself: whatever it uses of library files is resolved into it, so that a zone can be kept or replaced as one.
//! Indexes ([`PoolIx`] and its like) are dense within one model and never leave it; identities are the names
//! (`zone/pool`, `zone/pool/address`, `library/…`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::balance::{Law, Shed};
pub use super::limits::{Safety, SafetyMember, SafetySet};
pub use super::monitor::{
    ClientCertificate, DnsCheck, ExecCheck, GrpcCheck, HttpCheck, HttpMethod, HttpVersion, JsonExpected, Monitor, MonitorDefinition, MonitorKind,
    MonitorWord, NamedTls, TcpCheck, TlsCheck, TlsVersion, Vote,
};
pub use super::pattern::Pattern;
pub use super::query::{Bound, Comparison, OnEmpty, PrometheusCheck};
pub use super::reported::{PushCheck, ShareCheck, ShareRule};
use crate::dns::{Name, RecordType};
use crate::zone::Ttl;

/// Dense index of a pool in its [`ZoneModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIx(pub u32);
/// Dense index of a policy in its [`ZoneModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyIx(pub u32);
/// Dense index of a monitor in its [`ZoneModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorIx(pub u32);

/// A point on the globe, degrees: latitude −90 to 90, longitude −180 to 180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// Everything one zone says, checked.
#[derive(Clone, Debug)]
pub struct ZoneModel {
    /// The apex, lower case.
    pub name: Name,
    /// The files it is made of, the declaring one first; [`crate::zone::Place::file`] points in here.
    pub files: Vec<PathBuf>,
    /// Who moves the serial.
    pub soa_serial: SerialSource,
    /// Regions that pools of this zone refer to.
    pub regions: BTreeMap<String, Region>,
    /// Checks that endpoints want, indexed by [`MonitorIx`]. One of `definitions` may be several of them, with other hosts.
    pub monitors: Vec<Monitor>,
    /// Every monitor of the zone, and those of libraries that it uses, by name.
    pub definitions: Vec<MonitorDefinition>,
    /// Indexed by [`PoolIx`]; library pools that the zone uses are among them.
    pub pools: Vec<Pool>,
    /// Indexed by [`PolicyIx`]: named ones, and one per `[steer]` that states a policy of its own.
    pub policies: Vec<Policy>,
    /// Steered names, in owner order.
    pub steers: Vec<Steer>,
    /// What changes at run time may not do.
    pub safety: Safety,
}

/// Who decides the SOA's serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialSource {
    /// We do: max(stored + 1, unix time) when the content changes.
    Derived,
    /// The master file does, as it is written there.
    File,
}

/// A label on pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Where it is, if said.
    pub location: Option<Location>,
}

/// A group of endpoints that belong together.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `zone/pool` without the zone's final dot, or `library/pool`. Stable identity.
    pub id: Arc<str>,
    /// As in `[pool.NAME]`.
    pub name: String,
    /// Region label.
    pub region: Option<String>,
    /// The pool's own location, else its region's.
    pub location: Option<Location>,
    /// In order of the file; ids are unique.
    pub endpoints: Vec<Endpoint>,
    /// True when the pool answers with a CNAME: then `endpoints` has exactly one entry, a [`Target::Cname`].
    pub is_cname: bool,
    /// Below this many usable endpoints the pool is critical.
    pub min_healthy: MinHealthy,
    /// Most addresses of one family in an answer, 1 to 64.
    pub answers: u8,
    /// The share of its weight that a degraded endpoint keeps, in percent, 1 to 100.
    pub degraded_weight: u8,
    /// With less than so many percent of its weight usable, but not nothing, health has no say within it; `None`: it always has.
    pub panic: Option<u8>,
    /// What it can carry, in a unit of the operator's choosing; only shares of it are looked at.
    pub capacity: Option<u32>,
    /// What the shares of successes do that callers report.
    pub signals: Option<ShareRule>,
    /// When it leaves a part of its traffic to others.
    pub shed: Option<Shed>,
    /// Further types it answers: type → RRset (rdata in wire form). Never A, AAAA, CNAME.
    pub records: BTreeMap<RecordType, Vec<Vec<u8>>>,
    /// One-based line of its definition.
    pub line: u32,
}

/// One address, or one CNAME target.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `zone/pool/address`. Stable identity.
    pub id: Arc<str>,
    /// Optional display name.
    pub name: Option<String>,
    /// What is handed out.
    pub target: Target,
    /// Where its checks connect to, if that is elsewhere.
    pub check_address: Option<IpAddr>,
    /// 0 to 65535; 0 takes no new traffic as long as a sibling can.
    pub weight: u16,
    /// All must pass; none means always up.
    pub monitors: Vec<MonitorIx>,
    /// How they come to its state; `None`: all must pass.
    pub vote: Option<Arc<Vote>>,
}

impl Endpoint {
    /// It goes by its check at this position: the monitor there is not advisory. What callers report has no monitor, and a say.
    pub fn goes_by(&self, at: usize) -> bool {
        at >= self.monitors.len() || self.vote.as_ref().is_none_or(|vote| vote.positions().contains(&(at as u16)))
    }
}

/// What an endpoint hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An A or AAAA record.
    Address(IpAddr),
    /// A CNAME record.
    Cname(Name),
}

/// When a pool is critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinHealthy {
    /// Fewer usable endpoints than this.
    Count(u32),
    /// Fewer usable endpoints than this share of all, 0 to 100, rounded up.
    Percent(u8),
}

impl MinHealthy {
    /// How many of `total` endpoints must be usable.
    pub fn needed(self, total: usize) -> usize {
        match self {
            MinHealthy::Count(count) => count as usize,
            MinHealthy::Percent(percent) => (total * usize::from(percent)).div_ceil(100),
        }
    }
}

/// A child of a policy: one namespace in the files, two tables here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Child {
    /// A pool.
    Pool(PoolIx),
    /// A policy.
    Policy(PolicyIx),
}

/// A rule that chooses among children.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As in `[policy.NAME]`; for a policy stated in `[steer.NAME]`, that NAME.
    pub name: String,
    /// True when it was stated in a `[steer]`.
    pub inline: bool,
    /// What it does.
    pub kind: PolicyKind,
    /// How it comes back to a better child.
    pub failback: Failback,
    /// Passes over pools that lack a usable endpoint of either family.
    pub require_both_families: bool,
    /// Caps the addresses per answer; for multivalue, how many of the merged set. 1 to 64.
    pub answers: Option<u8>,
    /// One-based line of its definition.
    pub line: u32,
}

/// The kinds of policy.
#[derive(Clone, Debug)]
pub enum PolicyKind {
    /// First child that is not critical.
    Failover {
        /// In order of preference.
        to: Vec<Child>,
    },
    /// In proportion to weight.
    Weighted {
        /// Children and weights 0 to 65535, in order of the file.
        to: Vec<(Child, u16)>,
        /// How chance enters.
        mode: WeightedMode,
        /// What moves the weights.
        law: Law,
    },
    /// By the client's network, ASN, subdivision, country, continent.
    Geo {
        /// The most specific match wins whatever the order.
        rules: Vec<GeoRule>,
        /// After the rule's children, or when no rule matches.
        default: GeoDefault,
    },
    /// By distance.
    Proximity {
        /// Each has a location. Order decides ties and serves clients without coordinates.
        to: Vec<Child>,
        /// Bias −99 to 99 per child, by position in `to`.
        bias: Vec<i8>,
    },
    /// By the static RTT table.
    Latency {
        /// Each has a region. Order decides ties.
        to: Vec<Child>,
    },
    /// The usable endpoints of all children, merged.
    Multivalue {
        /// In order of the file.
        to: Vec<Child>,
    },
}

impl PolicyKind {
    /// The word of the files.
    pub fn word(&self) -> &'static str {
        match self {
            PolicyKind::Failover { .. } => "failover",
            PolicyKind::Weighted { law, .. } => law.word(),
            PolicyKind::Geo { .. } => "geo",
            PolicyKind::Proximity { .. } => "proximity",
            PolicyKind::Latency { .. } => "latency",
            PolicyKind::Multivalue { .. } => "multivalue",
        }
    }

    /// Every child it names, each once, in order of first mention.
    pub fn children(&self) -> Vec<Child> {
        let mut all = Vec::new();
        let mut add = |child: &Child| {
            if !all.contains(child) {
                all.push(*child);
            }
        };
        match self {
            PolicyKind::Failover { to } | PolicyKind::Proximity { to, .. } | PolicyKind::Latency { to } | PolicyKind::Multivalue { to } => {
                to.iter().for_each(&mut add);
            }
            PolicyKind::Weighted { to, .. } => to.iter().for_each(|(child, _)| add(child)),
            PolicyKind::Geo { rules, default } => {
                rules.iter().flat_map(|rule| &rule.to).for_each(&mut add);
                if let GeoDefault::Children(to) = default {
                    to.iter().for_each(&mut add);
                }
            }
        }
        all
    }
}

/// How a weighted policy uses chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WeightedMode {
    /// Same client prefix, same answer for every type and on every server, for one window of the maximum TTL.
    Coherent,
    /// Afresh per query.
    Random,
    /// Weighted rendezvous on the client prefix.
    Sticky {
        /// Bits of an IPv4 client that count, 1 to 32.
        v4: u8,
        /// Bits of an IPv6 client that count, 1 to 128.
        v6: u8,
    },
}

/// One rule of a geo policy. Any of its conditions may match.
#[derive(Clone, Debug)]
pub struct GeoRule {
    /// `EU`, `AS-TR`, `NA-US-CA`.
    pub geo: Vec<GeoCode>,
    /// Autonomous system numbers, sorted.
    pub asn: Vec<u32>,
    /// Networks, sorted.
    pub net: Vec<Prefix>,
    /// In order of preference.
    pub to: Vec<Child>,
    /// Skips the policy's default.
    pub fence: bool,
    /// Replaces the steered name's `all_down` for clients of this rule.
    pub all_down: Option<AllDown>,
    /// One-based line.
    pub line: u32,
    /// Id of the overlay that disables it: it matches nobody.
    pub disabled: Option<u64>,
}

/// A place: matching is by country and subdivision; the continent stands alone only when nothing else is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GeoCode {
    /// Two letters, upper case: AF, AN, AS, EU, NA, OC, SA.
    Continent([u8; 2]),
    /// ISO 3166-1 alpha-2, upper case.
    Country([u8; 2]),
    /// Country and ISO 3166-2 subdivision without the country part, upper case, 1 to 3 characters.
    Subdivision([u8; 2], String),
}

/// What a geo policy does after its rules.
#[derive(Clone, Debug)]
pub enum GeoDefault {
    /// Nothing: go on to `all_down`.
    None,
    /// In order of preference.
    Children(Vec<Child>),
    /// Proximity over the children named in the policy, in order of first mention, with a bias −99 to 99 per child.
    Nearest {
        /// All have a location.
        to: Vec<Child>,
        /// By position in `to`.
        bias: Vec<i8>,
    },
}

/// An address prefix. Bits behind `len` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// First address.
    pub addr: IpAddr,
    /// 0 to 32 or 128.
    pub len: u8,
}

/// What happens when nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllDown {
    /// Evaluate as if everything were up, operators' `down` and `drain` excepted unless nothing is left.
    All,
    /// The answer that was given before the last endpoint failed.
    LastGood,
    /// An empty answer.
    NoData,
    /// SERVFAIL.
    ServFail,
    /// A pool, whatever its health.
    Pool(PoolIx),
}

/// How a policy comes back to a better child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// At once.
    Auto,
    /// When an operator says so (`meridian failback NAME`).
    Manual,
    /// When the better child has been healthy this long.
    After(Duration),
}

/// A steered name.
#[derive(Clone, Debug)]
pub struct Steer {
    /// Absolute, lower case; the apex and wildcards are allowed.
    pub owner: Name,
    /// As in `[steer.NAME]`.
    pub name: String,
    /// What decides.
    pub root: Child,
    /// Bounds of the TTL.
    pub ttl: TtlRange,
    /// When nothing is left and no rule says otherwise.
    pub all_down: AllDown,
    /// Caps the addresses per answer, 1 to 64.
    pub answers: Option<u8>,
    /// True when all outcomes are CNAMEs.
    pub is_cname: bool,
    /// Its HTTPS record, if it publishes one.
    pub https: Option<Https>,
    /// One-based line of its definition.
    pub line: u32,
}

/// The HTTPS record of a steered name (RFC 9460).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// Record data, wire form; if hints follow, everything in front of them.
    pub rdata: Vec<u8>,
    /// `ipv4hint` and `ipv6hint` of the decision are appended. Otherwise the record is the same for everybody, and among the static ones.
    pub has_hints: bool,
    /// One-based line.
    pub line: u32,
}

/// TTL bounds of a steered name, seconds; 1 ≤ min ≤ max.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TtlRange {
    /// While everything consulted is settled.
    pub max: Ttl,
    /// While anything consulted is suspect, ramping, draining or unknown.
    pub min: Ttl,
}

/// A state that an operator forces. `down` beats `drain` beats `up`, at any level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forced {
    /// Usable whatever the checks say.
    Up,
    /// No new answers; minimum TTL while it empties.
    Drain,
    /// Not handed out.
    Down,
}

impl Forced {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        ["up", "drain", "down"][self as usize]
    }
}

impl ZoneModel {
    /// A zone that says nothing yet.
    pub fn empty(name: Name) -> ZoneModel {
        ZoneModel {
            name,
            files: Vec::new(),
            soa_serial: SerialSource::Derived,
            regions: BTreeMap::new(),
            monitors: Vec::new(),
            definitions: Vec::new(),
            pools: Vec::new(),
            policies: Vec::new(),
            steers: Vec::new(),
            safety: Safety::default(),
        }
    }

    /// The pool at an index that this model gave out.
    pub fn pool(&self, ix: PoolIx) -> &Pool {
        &self.pools[ix.0 as usize]
    }

    /// The policy at an index that this model gave out.
    pub fn policy(&self, ix: PolicyIx) -> &Policy {
        &self.policies[ix.0 as usize]
    }

    /// The name of a child as the files write it.
    pub fn child_name(&self, child: Child) -> &str {
        match child {
            Child::Pool(ix) => &self.pool(ix).name,
            Child::Policy(ix) => &self.policy(ix).name,
        }
    }

    /// Every pool that `child` can come to, each once, in order of first mention. Policies form no cycle (checked at load).
    pub fn pools_below(&self, child: Child) -> Vec<PoolIx> {
        let (mut pools, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![child]);
        // Each child once: policies may share children, and then the ways through the tree are many more than its nodes.
        while let Some(child) = open.pop() {
            if !seen.insert(child) {
                continue;
            }
            match child {
                Child::Pool(ix) => pools.push(ix),
                Child::Policy(ix) => open.extend(self.policy(ix).kind.children().into_iter().rev()),
            }
        }
        pools
    }

    /// Every policy in and below `child`, each once.
    pub fn policies_below(&self, child: Child) -> BTreeSet<PolicyIx> {
        let (mut found, mut open) = (BTreeSet::new(), vec![child]);
        while let Some(child) = open.pop() {
            if let Child::Policy(ix) = child
                && found.insert(ix)
            {
                open.extend(self.policy(ix).kind.children());
            }
        }
        found
    }

    /// Where a child is: a pool's own location, or the one that all pools below a policy share.
    pub fn location_of(&self, child: Child) -> Option<Location> {
        let pools = self.pools_below(child);
        let first = self.pool(*pools.first()?).location?;
        pools.iter().all(|ix| self.pool(*ix).location == Some(first)).then_some(first)
    }

    /// The region of a child: a pool's own, or the one that all pools below a policy share.
    pub fn region_of(&self, child: Child) -> Option<&str> {
        let pools = self.pools_below(child);
        let first = self.pool(*pools.first()?).region.as_deref()?;
        pools.iter().all(|ix| self.pool(*ix).region.as_deref() == Some(first)).then_some(first)
    }
}
