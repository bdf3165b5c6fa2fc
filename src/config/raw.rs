//! What the files say, item by item: types are right and values in range, but names are not yet looked up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::source::{Located, Spot};
use crate::dns::{Name, Rcode, RecordType};
use crate::health::concern::{CertificateWarning, Slow};
use crate::policy::model::{
    Bound, GeoCode, HttpMethod, HttpVersion, JsonExpected, Location, MinHealthy, MonitorWord, OnEmpty, Pattern, Prefix, Region, Target, TlsVersion,
};
use crate::zone::Ttl;

/// A name that must be looked up.
pub(super) type Ref = Located<String>;

/// One `[kind.NAME]`.
#[derive(Clone, Debug)]
pub(super) struct Def<T> {
    pub(super) name: String,
    pub(super) at: Spot,
    /// False when reading it reported an error.
    pub(super) sound: bool,
    pub(super) keys: T,
}

/// A whole TOML file of the zone folder.
#[derive(Clone, Debug)]
pub(super) struct RawFile {
    /// As problems name it.
    pub(super) file: Arc<Path>,
    /// Where it was read from.
    pub(super) path: PathBuf,
    /// False when a part could not be read as TOML or a key at its top is unknown: then nobody knows what is missing.
    pub(super) whole: bool,
    pub(super) zone: Option<RawZone>,
    pub(super) records: Vec<RawRrset>,
    pub(super) regions: BTreeMap<String, Located<Region>>,
    pub(super) monitors: Vec<Def<MonitorKeys>>,
    pub(super) pools: Vec<Def<PoolKeys>>,
    pub(super) policies: Vec<Def<SteerKeys>>,
    pub(super) steers: Vec<Def<SteerKeys>>,
    pub(super) safety: SafetyKeys,
    pub(super) defaults: Defaults,
    /// True when `[defaults]` is there.
    pub(super) has_defaults: bool,
}

/// `[defaults.monitor]` and `[defaults.steer]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Defaults {
    pub(super) monitor: MonitorKeys,
    pub(super) steer: SteerKeys,
    pub(super) safety: SafetyKeys,
    /// `[health] exec`: only `meridian.toml` says so.
    pub(super) exec: bool,
}

impl Defaults {
    /// These, and where they say nothing, those of `base`.
    pub(super) fn over(&self, base: &Defaults) -> Defaults {
        Defaults {
            monitor: self.monitor.over(&base.monitor),
            steer: self.steer.over(&base.steer),
            safety: self.safety.over(&base.safety),
            exec: self.exec || base.exec,
        }
    }
}

/// `[safety]` and `[defaults.safety]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SafetyKeys {
    pub(super) max_withdrawn: Option<u8>,
    pub(super) max_changes: Option<(u32, Duration)>,
    pub(super) last_healthy: Option<bool>,
    pub(super) min_capacity: Option<u8>,
    pub(super) confirm_above: Option<u8>,
    pub(super) drain_guard: Option<Duration>,
    pub(super) bind_checks: Option<bool>,
    pub(super) sets: Vec<Located<RawSet>>,
}

/// One entry of `min_in_rotation`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSet {
    pub(super) name: String,
    pub(super) of: Vec<Ref>,
    pub(super) at_least: MinHealthy,
}

impl SafetyKeys {
    pub(super) fn over(&self, base: &SafetyKeys) -> SafetyKeys {
        let mut sets = self.sets.clone();
        sets.extend(base.sets.iter().filter(|set| !self.sets.iter().any(|own| own.value.name == set.value.name)).cloned());
        SafetyKeys {
            max_withdrawn: self.max_withdrawn.or(base.max_withdrawn),
            max_changes: self.max_changes.or(base.max_changes),
            last_healthy: self.last_healthy.or(base.last_healthy),
            min_capacity: self.min_capacity.or(base.min_capacity),
            confirm_above: self.confirm_above.or(base.confirm_above),
            drain_guard: self.drain_guard.or(base.drain_guard),
            bind_checks: self.bind_checks.or(base.bind_checks),
            sets,
        }
    }
}

/// `[zone]`.
#[derive(Clone, Debug)]
pub(super) struct RawZone {
    /// `None` when it is missing or no name.
    pub(super) name: Option<Name>,
    pub(super) at: Spot,
    pub(super) ttl: Ttl,
    pub(super) ns: Vec<Located<Name>>,
    pub(super) file: Option<Located<PathBuf>>,
    pub(super) soa: SoaKeys,
}

impl RawZone {
    /// A section that says nothing.
    pub(super) fn of_nothing(at: Spot) -> RawZone {
        RawZone { name: None, at, ttl: super::read::DEFAULT_ZONE_TTL, ns: Vec::new(), file: None, soa: SoaKeys::default() }
    }
}

/// `[zone] soa`.
#[derive(Clone, Debug, Default)]
pub(super) struct SoaKeys {
    /// The line, when it is given.
    pub(super) at: Option<Spot>,
    pub(super) mname: Option<Name>,
    pub(super) rname: Option<Name>,
    pub(super) refresh: Option<u32>,
    pub(super) retry: Option<u32>,
    pub(super) expire: Option<u32>,
    pub(super) minimum: Option<u32>,
    pub(super) ttl: Option<u32>,
}

/// One `owner.TYPE` of `[records]`.
#[derive(Clone, Debug)]
pub(super) struct RawRrset {
    pub(super) owner: Name,
    pub(super) rtype: RecordType,
    pub(super) ttl: Option<Ttl>,
    /// Each with its line.
    pub(super) data: Vec<(u32, Vec<u8>)>,
}

/// `[monitor.NAME]` and `[defaults.monitor]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MonitorKeys {
    pub(super) kind: Option<CheckKind>,
    pub(super) port: Option<u16>,
    pub(super) host: Option<String>,
    pub(super) ca: Option<Located<PathBuf>>,
    pub(super) status: Option<Vec<(u16, u16)>>,
    pub(super) body: Option<String>,
    pub(super) method: Option<HttpMethod>,
    pub(super) headers: Option<Vec<(String, String)>>,
    pub(super) json: Option<Vec<(String, JsonExpected)>>,
    pub(super) pattern: Option<Pattern>,
    pub(super) insecure: Option<bool>,
    pub(super) advisory: Option<bool>,
    pub(super) tls: Option<bool>,
    pub(super) min_tls: Option<TlsVersion>,
    pub(super) client_certificate: Option<Located<PathBuf>>,
    pub(super) client_key: Option<Located<PathBuf>>,
    pub(super) version: Option<HttpVersion>,
    pub(super) source: Option<Vec<IpAddr>>,
    pub(super) send: Option<String>,
    pub(super) reply: Option<String>,
    pub(super) rcode: Option<Rcode>,
    pub(super) answer: Option<String>,
    pub(super) value: Option<Vec<Bound>>,
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) fast: Option<Duration>,
    pub(super) fall: Option<u8>,
    pub(super) rise: Option<u8>,
    pub(super) stale: Option<Duration>,
    pub(super) forget: Option<bool>,
    pub(super) certificate_warning: Option<CertificateWarning>,
    /// `Some(None)`: `slow = false`.
    pub(super) slow: Option<Option<Slow>>,
}

impl MonitorKeys {
    pub(super) fn over(&self, base: &MonitorKeys) -> MonitorKeys {
        let top = self.clone();
        // What defaults say of checks is not said of these: an agent that reports has looked more than once, and a URL has its port.
        let is_push = matches!(top.kind, Some(CheckKind::Push));
        let has_place = is_push || matches!(top.kind, Some(CheckKind::Prometheus(_) | CheckKind::Ping));
        MonitorKeys {
            kind: top.kind.or_else(|| base.kind.clone()),
            port: top.port.or(base.port.filter(|_| !has_place)),
            host: top.host.or_else(|| base.host.clone()),
            ca: top.ca.or_else(|| base.ca.clone()),
            status: top.status.or_else(|| base.status.clone()),
            body: top.body.or_else(|| base.body.clone()),
            method: top.method.or(base.method),
            headers: top.headers.or_else(|| base.headers.clone()),
            json: top.json.or_else(|| base.json.clone()),
            pattern: top.pattern.or_else(|| base.pattern.clone()),
            insecure: top.insecure.or(base.insecure),
            advisory: top.advisory.or(base.advisory),
            tls: top.tls.or(base.tls),
            min_tls: top.min_tls.or(base.min_tls),
            client_certificate: top.client_certificate.or_else(|| base.client_certificate.clone()),
            client_key: top.client_key.or_else(|| base.client_key.clone()),
            version: top.version.or(base.version),
            source: top.source.or_else(|| base.source.clone()),
            send: top.send.or_else(|| base.send.clone()),
            reply: top.reply.or_else(|| base.reply.clone()),
            rcode: top.rcode.or(base.rcode),
            answer: top.answer.or_else(|| base.answer.clone()),
            value: top.value.or_else(|| base.value.clone()),
            interval: top.interval.or(base.interval),
            timeout: top.timeout.or(base.timeout),
            fast: top.fast.or(base.fast),
            fall: top.fall.or(base.fall.filter(|_| !is_push)),
            rise: top.rise.or(base.rise.filter(|_| !is_push)),
            stale: top.stale.or(base.stale),
            forget: top.forget.or(base.forget),
            certificate_warning: top.certificate_warning.or(base.certificate_warning),
            slow: top.slow.or(base.slow),
        }
    }
}

/// How a monitor follows from others.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Calculation {
    All(Vec<Ref>),
    Any(Vec<Ref>),
    AtLeast(u16, Vec<Ref>),
    Not(Ref),
}

impl Calculation {
    pub(super) fn kind(&self) -> MonitorWord {
        match self {
            Calculation::All(_) => MonitorWord::All,
            Calculation::Any(_) => MonitorWord::Any,
            Calculation::AtLeast(..) => MonitorWord::AtLeast,
            Calculation::Not(_) => MonitorWord::Not,
        }
    }

    /// The monitors that it looks at.
    pub(super) fn of(&self) -> &[Ref] {
        match self {
            Calculation::All(of) | Calculation::Any(of) | Calculation::AtLeast(_, of) => of,
            Calculation::Not(one) => std::slice::from_ref(one),
        }
    }
}

/// What a monitor does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CheckKind {
    Https(String),
    Http(String),
    Tcp,
    Dns(Name, RecordType),
    Push,
    Grpc(String),
    Exec(Vec<String>),
    Ping,
    Prometheus(Box<QueryKeys>),
    Calculated(Calculation),
}

/// `prometheus = { … }`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QueryKeys {
    /// Over TLS.
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) prefix: String,
    pub(super) query: String,
    pub(super) on_empty: OnEmpty,
    pub(super) token_file: Option<Located<PathBuf>>,
}

impl CheckKind {
    pub(super) fn kind(&self) -> MonitorWord {
        match self {
            CheckKind::Https(_) => MonitorWord::Https,
            CheckKind::Http(_) => MonitorWord::Http,
            CheckKind::Tcp => MonitorWord::Tcp,
            CheckKind::Dns(..) => MonitorWord::Dns,
            CheckKind::Push => MonitorWord::Push,
            CheckKind::Grpc(_) => MonitorWord::Grpc,
            CheckKind::Exec(_) => MonitorWord::Exec,
            CheckKind::Ping => MonitorWord::Ping,
            CheckKind::Prometheus(_) => MonitorWord::Prometheus,
            CheckKind::Calculated(calculation) => calculation.kind(),
        }
    }

    /// The key that says it.
    pub(super) fn word(&self) -> &'static str {
        self.kind().word()
    }
}

/// `[pool.NAME]`.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolKeys {
    pub(super) endpoints: Vec<RawEndpoint>,
    pub(super) is_cname: bool,
    pub(super) region: Option<Ref>,
    pub(super) location: Option<Location>,
    pub(super) monitors: Vec<Ref>,
    pub(super) min_healthy: Option<MinHealthy>,
    pub(super) answers: Option<u8>,
    pub(super) degraded_weight: Option<u8>,
    pub(super) panic: Option<u8>,
    pub(super) capacity: Option<u32>,
    pub(super) signals: Option<crate::policy::model::ShareRule>,
    pub(super) shed: Option<crate::policy::balance::Shed>,
    pub(super) records: BTreeMap<RecordType, Vec<Vec<u8>>>,
}

/// One endpoint of a pool.
#[derive(Clone, Debug)]
pub(super) struct RawEndpoint {
    pub(super) target: Target,
    /// Where checks connect to, if that is elsewhere.
    pub(super) check_address: Option<IpAddr>,
    pub(super) name: Option<String>,
    pub(super) weight: u16,
    /// Its own, in place of the pool's.
    pub(super) monitors: Option<Vec<Ref>>,
}

/// The kinds of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Failover,
    Weighted,
    LeastLoaded,
    LeastResponseTime,
    Geo,
    Proximity,
    Latency,
    Multivalue,
}

/// The words of `policy`.
pub(super) const KINDS: [(&str, Kind); 8] = [
    ("failover", Kind::Failover),
    ("weighted", Kind::Weighted),
    ("least-loaded", Kind::LeastLoaded),
    ("least-response-time", Kind::LeastResponseTime),
    ("geo", Kind::Geo),
    ("proximity", Kind::Proximity),
    ("latency", Kind::Latency),
    ("multivalue", Kind::Multivalue),
];

impl Kind {
    pub(super) fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// The shapes of `to`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum To {
    One(Ref),
    List(Vec<Ref>),
    Weights(Vec<(Ref, u16)>),
}

/// `default` of a geo policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DefaultKey {
    Nearest,
    Children(Vec<Ref>),
}

/// `all_down`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AllDownKey {
    All,
    LastGood,
    NoData,
    ServFail,
    Pool(String),
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModeKey {
    Coherent,
    Random,
    Sticky,
}

/// One rule of a geo policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawRule {
    pub(super) at: Spot,
    pub(super) geo: Vec<GeoCode>,
    pub(super) asn: Vec<u32>,
    pub(super) net: Vec<Prefix>,
    pub(super) to: Vec<Ref>,
    pub(super) fence: bool,
    pub(super) all_down: Option<Located<AllDownKey>>,
}

/// `[policy.NAME]`, `[steer.NAME]` and `[defaults.steer]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SteerKeys {
    pub(super) policy: Option<Located<Kind>>,
    pub(super) to: Option<Located<To>>,
    pub(super) rules: Option<Located<Vec<RawRule>>>,
    pub(super) default: Option<Located<DefaultKey>>,
    pub(super) all_down: Option<Located<AllDownKey>>,
    /// Maximum and minimum.
    pub(super) ttl: Option<Located<(Option<Ttl>, Option<Ttl>)>>,
    pub(super) mode: Option<Located<ModeKey>>,
    /// Percent of the capacity.
    pub(super) trim: Option<Located<u8>>,
    pub(super) sticky_bits: Option<Located<(u8, u8)>>,
    pub(super) bias: Option<Located<Vec<(Ref, i8)>>>,
    pub(super) answers: Option<Located<u8>>,
    pub(super) failback: Option<Located<crate::policy::model::Failback>>,
    pub(super) require_both: Option<Located<bool>>,
    pub(super) use_: Option<Ref>,
    pub(super) https: Option<Located<RawHttps>>,
}

/// `https` of a steered name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawHttps {
    pub(super) alpn: Vec<String>,
    pub(super) no_default_alpn: bool,
    pub(super) port: Option<u16>,
    pub(super) priority: Option<u16>,
    pub(super) target: Option<Ref>,
    pub(super) alias: Option<Ref>,
}

impl SteerKeys {
    pub(super) fn over(&self, base: &SteerKeys) -> SteerKeys {
        let top = self.clone();
        SteerKeys {
            policy: top.policy.or_else(|| base.policy.clone()),
            to: top.to.or_else(|| base.to.clone()),
            rules: top.rules.or_else(|| base.rules.clone()),
            default: top.default.or_else(|| base.default.clone()),
            all_down: top.all_down.or_else(|| base.all_down.clone()),
            ttl: top.ttl.or_else(|| base.ttl.clone()),
            mode: top.mode.or_else(|| base.mode.clone()),
            trim: top.trim.or_else(|| base.trim.clone()),
            sticky_bits: top.sticky_bits.or_else(|| base.sticky_bits.clone()),
            bias: top.bias.or_else(|| base.bias.clone()),
            answers: top.answers.or_else(|| base.answers.clone()),
            failback: top.failback.or_else(|| base.failback.clone()),
            require_both: top.require_both.or_else(|| base.require_both.clone()),
            use_: top.use_.or_else(|| base.use_.clone()),
            https: top.https.or_else(|| base.https.clone()),
        }
    }
}
