//! Pools and monitors of one zone: regions and monitors looked up, hosts derived from the names that reach a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::never::never_passes;
use super::raw::{CheckKind, MonitorKeys, PoolKeys, QueryKeys, RawEndpoint, Ref};
use super::resolve::{Item, Resolver};
use super::signals;
use super::source::{Located, Spot};
use super::values::duration_words;
use super::votes::{Making, Votes};
use crate::dns::{Rcode, RecordType};
use crate::health::concern::{CertificateWarning, Slow};
use crate::health::{Thresholds, Watch};
use crate::policy::model::{
    AllDown, Child, ClientCertificate, DnsCheck, Endpoint, ExecCheck, GrpcCheck, HttpCheck, MinHealthy, Monitor, MonitorIx, MonitorKind, MonitorWord,
    NamedTls, PolicyKind, Pool, PoolIx, PrometheusCheck, Target, TcpCheck, TlsCheck, ZoneModel,
};
use crate::policy::query::POOL;

/// Time between checks.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which a check has failed; the interval, if that is shorter.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between checks while suspect; the interval, if that is shorter.
pub(super) const DEFAULT_FAST: Duration = Duration::from_secs(2);
/// How long the last value from a Prometheus counts; three intervals, if those are longer.
const DEFAULT_PROMETHEUS_STALE: Duration = Duration::from_secs(60);
/// Failures, or successes, in a row that change a state.
pub(super) const DEFAULT_IN_A_ROW: u8 = 3;
/// Accepted status codes.
pub(super) const DEFAULT_STATUS: (u16, u16) = (200, 299);
/// Addresses of one family in an answer.
pub(super) const DEFAULT_ANSWERS: u8 = 8;
/// The first word of the ids of library items.
pub(super) const LIBRARY: &str = "library";

/// Pools without their monitors, in index order.
pub(super) fn pools(resolver: &Resolver<'_>, label: &str) -> Vec<Pool> {
    resolver.pools.iter().map(|item| pool(resolver, *item, label)).collect()
}

fn subject_of(item: Item<'_, PoolKeys>) -> Vec<String> {
    vec![format!("pool {:?}", item.def.name)]
}

fn pool(resolver: &Resolver<'_>, item: Item<'_, PoolKeys>, label: &str) -> Pool {
    let keys = &item.def.keys;
    let mut location = keys.location;
    if let Some(region) = &keys.region {
        match resolver.regions.get(region.value.as_str()) {
            Some(found) => location = location.or(found.value.location),
            None if resolver.is_forgiving() => {}
            None => {
                let mut subject = subject_of(item);
                subject.push("region".into());
                let hint = resolver.hint(&region.value, resolver.regions.keys().copied());
                resolver.sink.error(
                    &region.at,
                    &subject,
                    format!("found {:?}, but there is no such region{hint}; declare it in [region]", region.value),
                );
            }
        }
    }
    let id: Arc<str> = format!("{}/{}", if item.in_library { LIBRARY } else { label }, item.def.name).into();
    let endpoints = keys.endpoints.iter().map(|endpoint| plain_endpoint(endpoint, &id)).collect();
    Pool {
        name: item.def.name.clone(),
        region: keys.region.as_ref().map(|region| region.value.clone()),
        location,
        endpoints,
        is_cname: keys.is_cname,
        min_healthy: keys.min_healthy.unwrap_or(MinHealthy::Count(1)),
        answers: keys.answers.unwrap_or(DEFAULT_ANSWERS),
        degraded_weight: keys.degraded_weight.unwrap_or(100),
        panic: keys.panic,
        capacity: keys.capacity,
        signals: keys.signals,
        shed: keys.shed,
        records: keys.records.clone(),
        line: item.def.at.line,
        id,
    }
}

fn plain_endpoint(raw: &RawEndpoint, pool_id: &str) -> Endpoint {
    let text = match &raw.target {
        Target::Address(address) => address.to_string(),
        Target::Cname(name) => name.to_string().trim_end_matches('.').to_lowercase(),
    };
    Endpoint {
        id: format!("{pool_id}/{text}").into(),
        name: raw.name.clone(),
        target: raw.target.clone(),
        check_address: raw.check_address,
        weight: raw.weight,
        monitors: Vec::new(),
        vote: None,
    }
}

/// The pools that each steered name can come to, by position in `steers`.
pub(super) fn reach(model: &ZoneModel) -> Vec<Vec<PoolIx>> {
    let from = |steer: &crate::policy::model::Steer| {
        let mut pools = model.pools_below(steer.root);
        if let AllDown::Pool(ix) = steer.all_down {
            pools.push(ix);
        }
        for policy in policies_below(model, steer.root) {
            if let PolicyKind::Geo { rules, .. } = &model.policies[policy].kind {
                pools.extend(rules.iter().filter_map(|rule| match rule.all_down {
                    Some(AllDown::Pool(ix)) => Some(ix),
                    _ => None,
                }));
            }
        }
        let mut seen = BTreeSet::new();
        pools.retain(|ix| seen.insert(*ix));
        pools
    };
    model.steers.iter().map(from).collect()
}

/// Positions of all policies at and below `child`.
pub(super) fn policies_below(model: &ZoneModel, child: Child) -> Vec<usize> {
    let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![child]);
    while let Some(child) = open.pop() {
        let Child::Policy(ix) = child else { continue };
        let ix = ix.0 as usize;
        if ix < model.policies.len() && seen.insert(ix) {
            found.push(ix);
            open.extend(model.policies[ix].kind.children());
        }
    }
    found
}

/// Keys of files that are other than certificates and keys of our own.
pub(super) const CA: &str = "ca";
pub(super) const TOKEN_FILE: &str = "prometheus.token_file";

/// A file that a monitor needs.
#[derive(Debug)]
pub(super) struct NamedFile {
    /// The monitor.
    pub(super) subject: String,
    pub(super) key: &'static str,
    pub(super) file: Located<PathBuf>,
}

/// What [`attach`] found out.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) monitors: Vec<Monitor>,
    /// Files, and who names them by which key.
    pub(super) named_files: Vec<NamedFile>,
    /// Names of the monitors in use.
    pub(super) used: BTreeSet<String>,
}

/// Makes the monitors that the pools use and puts their indexes into the endpoints. A monitor without a host becomes one per host.
/// `steering_sound` is false when the reach is not to be trusted because a policy has errors.
pub(super) fn attach(resolver: &mut Resolver<'_>, model: &mut ZoneModel, reach: &[Vec<PoolIx>], steering_sound: bool) -> Attached {
    let mut out = Attached::default();
    let mut made: BTreeMap<(String, Option<String>), MonitorIx> = BTreeMap::new();
    let mut steers: Vec<Vec<u32>> = vec![Vec::new(); resolver.pools.len()];
    for (steer, pools) in reach.iter().enumerate() {
        pools.iter().for_each(|ix| steers[ix.0 as usize].push(steer as u32));
    }
    for (at, steers) in steers.into_iter().enumerate() {
        let item = resolver.pools[at];
        let owner = |steer: u32| model.steers[steer as usize].owner.to_string().trim_end_matches('.').to_string();
        let host = Hosts { pool: item.def.name.clone(), owners: steers.into_iter().map(owner).collect(), steering_sound };
        for (number, endpoint) in item.def.keys.endpoints.iter().enumerate() {
            let names = endpoint.monitors.as_ref().unwrap_or(&item.def.keys.monitors);
            let mut votes = Votes::default();
            let mut making = Making { hosts: &host, made: &mut made, out: &mut out };
            for name in names {
                votes.add(resolver, item, name, &mut making);
            }
            // Endpoints with the same monitors are alike, so they share what they come to.
            let endpoints = &mut model.pools[at].endpoints;
            let vote = votes.vote().map(|vote| {
                let same = endpoints[..number].iter().rev().filter_map(|other| other.vote.as_ref()).find(|other| ***other == vote);
                same.cloned().unwrap_or_else(|| Arc::new(vote))
            });
            endpoints[number].monitors = votes.monitors;
            endpoints[number].vote = vote;
        }
        if item.def.keys.endpoints.is_empty() && !item.def.keys.monitors.is_empty() {
            let mut subject = subject_of(item);
            subject.push("monitor".into());
            resolver.sink.error(&item.def.keys.monitors[0].at, &subject, "the pool has no endpoints, so there is nothing to check");
        }
    }
    out
}

/// Where a monitor without a host takes it from.
pub(super) struct Hosts {
    pool: String,
    owners: Vec<String>,
    steering_sound: bool,
}

impl Hosts {
    fn only(&self) -> Result<String, String> {
        let names: Vec<&String> = self.owners.iter().filter(|owner| !owner.starts_with("*.")).collect();
        let pool = &self.pool;
        match names.as_slice() {
            [one] => Ok((*one).clone()),
            [] if self.owners.is_empty() => {
                Err(format!("host is missing, and no steered name reaches pool {pool:?} to take it from; write host = \"…\""))
            }
            [] => Err(format!("host is missing, and only a wildcard ({}) reaches pool {pool:?}; write host = \"…\"", self.owners.join(", "))),
            several => {
                let list: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Err(format!(
                    "host is missing, and several steered names reach pool {pool:?} ({}); write host = {:?} or the like",
                    list.join(", "),
                    several[0]
                ))
            }
        }
    }
}

/// Makes a monitor that checks, unless it is made already.
pub(super) fn one(
    resolver: &mut Resolver<'_>,
    pool: Item<'_, PoolKeys>,
    name: &Ref,
    hosts: &Hosts,
    made: &mut BTreeMap<(String, Option<String>), MonitorIx>,
    out: &mut Attached,
) -> Option<MonitorIx> {
    let mut subject = subject_of(pool);
    subject.push("monitor".into());
    let Some(monitor) = resolver.monitors.get(name.value.as_str()).copied() else {
        if !resolver.is_forgiving() {
            let hint = resolver.hint(&name.value, resolver.monitors.keys().copied());
            resolver.sink.error(
                &name.at,
                &subject,
                format!(
                    "found {:?}, but {} monitor{hint}",
                    name.value,
                    if resolver.only_libraries { "no library has such a" } else { "there is no such" }
                ),
            );
        }
        return None;
    };
    if pool.in_library && !monitor.in_library {
        // That no library has it is said when the libraries are checked.
        resolver.unsound.push((subject[0].clone(), name.at.clone()));
        return None;
    }
    if out.used.insert(name.value.clone()) {
        resolver.note_unsound(monitor.def.sound, &format!("monitor {:?}", name.value), &monitor.def.at);
    }
    let keys = monitor.def.keys.over(resolver.monitor_defaults(monitor.in_library));
    let own_subject = [format!("monitor {:?}", monitor.def.name)];
    let Some(kind) = keys.kind.clone() else {
        resolver.unsound.push((own_subject[0].clone(), monitor.def.at.clone()));
        return None;
    };
    let host = match (&kind, &keys.host) {
        (CheckKind::Dns(..) | CheckKind::Calculated(_) | CheckKind::Exec(_) | CheckKind::Ping | CheckKind::Push, _) => None,
        // Who asks for something of the pool asks for another thing in each.
        (CheckKind::Prometheus(query), _) => query.query.contains(POOL).then(|| pool.def.name.clone()),
        (CheckKind::Tcp, _) if keys.tls != Some(true) => None,
        (_, Some(host)) => Some(host.clone()),
        (_, None) => match hosts.only() {
            Ok(host) => Some(host),
            Err(text) => {
                if hosts.steering_sound && monitor.def.sound {
                    resolver.sink.error(&monitor.def.at, &own_subject, text);
                }
                return None;
            }
        },
    };
    let key = (name.value.clone(), host.clone());
    if let Some(ix) = made.get(&key) {
        return Some(*ix);
    }
    let Some(built) = build(&monitor.def.name, &kind, host, &keys) else {
        resolver.unsound.push((own_subject[0].clone(), monitor.def.at.clone()));
        return None;
    };
    if let CheckKind::Prometheus(query) = &kind
        && let Some(file) = &query.token_file
    {
        out.named_files.push(NamedFile { subject: own_subject[0].clone(), key: TOKEN_FILE, file: file.clone() });
    }
    if built.kind.tls().is_some() {
        let files = [(CA, &keys.ca), ("client_certificate", &keys.client_certificate), ("client_key", &keys.client_key)];
        let named = files.into_iter().filter_map(|(key, file)| Some((key, file.clone()?)));
        out.named_files.extend(named.map(|(key, file)| NamedFile { subject: own_subject[0].clone(), key, file }));
    }
    let ix = MonitorIx(out.monitors.len() as u32);
    out.monitors.push(built);
    made.insert(key, ix);
    Some(ix)
}

fn build(name: &str, kind: &CheckKind, host: Option<String>, keys: &MonitorKeys) -> Option<Monitor> {
    let http = |path: &str| {
        Some(HttpCheck {
            path: path.to_string(),
            host: host.clone()?,
            status: keys.status.clone().unwrap_or_else(|| vec![DEFAULT_STATUS]),
            body: keys.body.clone(),
            method: keys.method.unwrap_or_default(),
            headers: keys.headers.clone().unwrap_or_default(),
            pattern: keys.pattern.clone(),
            json: keys.json.clone().unwrap_or_default(),
            version: keys.version.unwrap_or_default(),
        })
    };
    let (kind, default_port) = match kind {
        CheckKind::Tcp => {
            let tls = host.as_ref().filter(|_| keys.tls == Some(true)).map(|host| Box::new(NamedTls { host: host.clone(), tls: tls(keys) }));
            (MonitorKind::Tcp(TcpCheck { send: keys.send.clone(), reply: keys.reply.clone(), tls }), None)
        }
        CheckKind::Dns(name, rtype) => {
            // An address as it is written by whom it is compared with.
            let canonical = |text: &String| text.parse::<IpAddr>().map_or_else(|_| text.clone(), |address| address.to_string());
            let is_address = matches!(*rtype, RecordType::A | RecordType::AAAA);
            let answer = keys.answer.as_ref().map(|text| if is_address { canonical(text) } else { text.clone() });
            let rcode = keys.rcode.unwrap_or(Rcode::NOERROR);
            (MonitorKind::Dns(DnsCheck { name: name.clone(), rtype: *rtype, rcode, answer }), Some(53))
        }
        CheckKind::Push => (signals::push(keys), Some(0)),
        CheckKind::Http(path) => (MonitorKind::Http(http(path)?), Some(80)),
        CheckKind::Grpc(service) => {
            let tls = (keys.tls == Some(true)).then(|| tls(keys));
            (MonitorKind::Grpc(GrpcCheck { service: service.clone(), host: host.clone()?, tls }), None)
        }
        CheckKind::Exec(command) => (MonitorKind::Exec(ExecCheck { command: command.clone(), port: keys.port }), Some(0)),
        CheckKind::Ping => (MonitorKind::Ping, Some(0)),
        CheckKind::Prometheus(query) => (MonitorKind::Prometheus(Box::new(prometheus(query, host.as_deref(), keys)?)), Some(query.port)),
        // It makes no check of its own.
        CheckKind::Calculated(_) => return None,
        CheckKind::Https(path) => (MonitorKind::Https { check: http(path)?, tls: tls(keys) }, Some(443)),
    };
    let times = Times::of(keys, kind.word());
    // Who reports has looked more than once.
    let in_a_row = if kind.is_reported() { 1 } else { DEFAULT_IN_A_ROW };
    let (fall, rise) = (keys.fall.unwrap_or(in_a_row), keys.rise.unwrap_or(in_a_row));
    let thresholds = Thresholds { interval: times.interval, fast: times.fast, fall, rise };
    // Its own time and certificate say nothing of the endpoint.
    let watch = if matches!(kind, MonitorKind::Prometheus(_)) { Watch { certificate: CertificateWarning::Never, slow: None } } else { watch(keys) };
    Some(Monitor {
        name: name.to_string(),
        kind,
        port: keys.port.or(default_port)?,
        thresholds,
        timeout: times.timeout,
        source: keys.source.clone().unwrap_or_default(),
        watch,
    })
}

/// `pool` is what the query calls so.
fn prometheus(query: &QueryKeys, pool: Option<&str>, keys: &MonitorKeys) -> Option<PrometheusCheck> {
    let usual = (keys.interval.unwrap_or(DEFAULT_INTERVAL) * 3).max(DEFAULT_PROMETHEUS_STALE);
    Some(PrometheusCheck {
        host: query.host.clone(),
        prefix: query.prefix.clone(),
        query: pool.map_or_else(|| query.query.clone(), |pool| query.query.replace(POOL, pool)),
        expected: keys.value.clone()?,
        on_empty: query.on_empty,
        headers: keys.headers.clone().unwrap_or_default(),
        token_file: query.token_file.as_ref().map(absolute),
        tls: query.secure.then(|| tls(keys)),
        stale: keys.stale.unwrap_or(usual),
        forget: keys.forget.unwrap_or(true),
    })
}

fn absolute(file: &Located<PathBuf>) -> PathBuf {
    std::path::absolute(&file.value).unwrap_or_else(|_| file.value.clone())
}

fn tls(keys: &MonitorKeys) -> TlsCheck {
    let client = keys.client_certificate.as_ref().zip(keys.client_key.as_ref());
    TlsCheck {
        ca: keys.ca.as_ref().map(absolute),
        insecure: keys.insecure == Some(true),
        min_version: keys.min_tls.unwrap_or_default(),
        client: client.map(|(certificate, key)| Box::new(ClientCertificate { certificate: absolute(certificate), key: absolute(key) })),
    }
}

/// What is looked at beside the verdict. Who does not look at a certificate does not look at its end.
fn watch(keys: &MonitorKeys) -> Watch {
    let certificate = if keys.insecure == Some(true) { CertificateWarning::Never } else { keys.certificate_warning.unwrap_or_default() };
    Watch { certificate, slow: keys.slow.unwrap_or(Some(Slow::default())) }
}

struct Times {
    interval: Duration,
    timeout: Duration,
    fast: Duration,
}

impl Times {
    fn of(keys: &MonitorKeys, kind: Option<MonitorWord>) -> Times {
        let interval = keys.interval.unwrap_or(DEFAULT_INTERVAL);
        // A Prometheus that is asked again soon finds the sample that it found before.
        let fast = if kind == Some(MonitorWord::Prometheus) { interval } else { DEFAULT_FAST.min(interval) };
        Times { interval, timeout: keys.timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval)), fast: keys.fast.unwrap_or(fast) }
    }
}

/// What can be said of a monitor with its defaults, whoever uses it.
pub(super) fn check_monitor(resolver: &Resolver<'_>, monitor: Item<'_, MonitorKeys>) {
    let subject = |key: &str| {
        let mut subject = vec![format!("monitor {:?}", monitor.def.name)];
        if !key.is_empty() {
            subject.push(key.into());
        }
        subject
    };
    let error = |at: &Spot, key: &str, text: String| resolver.sink.error(at, &subject(key), text);
    let keys = monitor.def.keys.over(resolver.monitor_defaults(monitor.in_library));
    let at = &monitor.def.at;
    match &keys.kind {
        None if monitor.def.sound => {
            let what = "exactly one of https = \"/PATH\", http = \"/PATH\", tcp = true, dns = \"NAME TYPE\", grpc = true, exec = \"/PROGRAM\", ping = true, \
                        prometheus = { url, query }, push = true, or all, any, at_least or not of other monitors";
            error(at, "", format!("it checks nothing; expected {what}"));
        }
        Some(kind @ (CheckKind::Tcp | CheckKind::Grpc(_))) if keys.port.is_none() && monitor.def.sound => {
            error(at, "", format!("port is missing; a {} check has no usual one", kind.word()));
        }
        Some(CheckKind::Exec(_)) if !resolver.defaults.exec => {
            error(at, "exec", "programs are not run; [health] exec = true in meridian.toml allows it to all zones and libraries".into());
        }
        Some(CheckKind::Prometheus(_)) if keys.value.is_none() && monitor.def.sound => {
            error(at, "expect.value", "it is missing; write expect = { value = \"< 0.05\" }, which the value of the query must be".into());
        }
        Some(CheckKind::Calculated(_)) => return,
        _ => {}
    }
    let never = keys.kind.as_ref().map(|kind| never_passes(kind, &keys)).unwrap_or_default();
    never.into_iter().for_each(|(key, text)| error(at, &key, text));
    let may_speak_tls = matches!(keys.kind, Some(CheckKind::Tcp | CheckKind::Grpc(_)));
    let must_speak_tls = matches!(&keys.kind, Some(CheckKind::Https(_))) || matches!(&keys.kind, Some(CheckKind::Prometheus(query)) if query.secure);
    let speaks_tls = must_speak_tls || keys.tls == Some(true) && may_speak_tls;
    for (given, key, other) in [
        (keys.client_certificate.as_ref().filter(|_| keys.client_key.is_none()), "client_certificate", "client_key"),
        (keys.client_key.as_ref().filter(|_| keys.client_certificate.is_none()), "client_key", "client_certificate"),
    ] {
        if let Some(given) = given.filter(|_| speaks_tls) {
            error(&given.at, key, format!("{other} is missing; a client certificate needs both"));
        }
    }
    if keys.insecure == Some(true) && speaks_tls {
        resolver.sink.warning(at, &subject("insecure"), "the certificate is not looked at: whoever takes the endpoint's place passes");
    }
    let times = Times::of(&keys, keys.kind.as_ref().map(CheckKind::kind));
    for (key, found) in [("timeout", times.timeout), ("fast", times.fast)] {
        if found > times.interval {
            error(at, key, format!("found {}, expected at most the interval ({})", duration_words(found), duration_words(times.interval)));
        }
    }
}
