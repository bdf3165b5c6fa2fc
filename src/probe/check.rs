//! One check: connect, ask, compare. Nothing is kept from one check to the next, neither connection nor session nor cookie, so that every check
//! sees what a new client would see.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Url, header, redirect};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::lookups::Lookups;
use super::tls::TlsRoots;
use super::words::{self, Phase};
use super::{exec, grpc, ping, prometheus, talk};
use crate::certs;
use crate::certs::verify::Presented;
use crate::config::Reach;
use crate::control::api::{CheckSpec, CheckTarget, Observation};
use crate::control::timeline::{PhaseTime, Timed};
use crate::health::concern::Validity;
use crate::health::dates::{Bound, OutOfTime};
use crate::health::{Failure, Outcome};
use crate::policy::model::{HttpCheck, HttpMethod, HttpVersion, JsonExpected, MonitorKind};

/// As much of a body is searched for the expected text, and no more is read.
pub const BODY_MAX_BYTES: usize = 16 * 1024;

/// As much of a response's headers is taken over HTTP/2, uncompressed: far more than any client takes, and little beside a body.
const HEADERS_MAX_BYTES: u32 = 64 * 1024;

/// How checks introduce themselves in the logs of those who are checked.
const USER_AGENT: &str = concat!("meridian/", env!("CARGO_PKG_VERSION"), " (health check)");

/// What checks share.
#[derive(Clone, Debug)]
pub struct Means {
    /// What HTTPS checks trust.
    pub tls: Arc<TlsRoots>,
    /// What checks may have of this machine.
    pub reach: Arc<Reach>,
    /// Looks host names up.
    pub(super) lookups: Lookups,
    /// Bounds programs.
    pub(super) execs: Arc<Semaphore>,
}

impl Means {
    /// With these roots, and nothing of this machine.
    pub fn new(tls: Arc<TlsRoots>) -> Means {
        Means { tls, reach: Arc::default(), lookups: Lookups::default(), execs: Arc::new(Semaphore::new(exec::EXECS_MAX)) }
    }
}

/// Runs one check; ends within the monitor's timeout (a program within that of its place). Says how it went and how long it took.
pub async fn run(spec: &CheckSpec, means: &Means) -> (Outcome, Duration) {
    let (outcome, took, _) = run_watched(spec, means).await;
    (outcome, took)
}

/// The same, as it is reported.
pub(super) async fn observe(spec: &CheckSpec, means: &Means) -> Observation {
    let (outcome, took, progress) = run_watched(spec, means).await;
    Observation { spec: spec.clone(), outcome, took, certificate: progress.shown(spec), poor: None }
}

/// The same, with what each part took.
pub async fn run_timed(spec: &CheckSpec, means: &Means) -> Timed {
    let (outcome, _, progress) = run_watched(spec, means).await;
    let total = progress.began.elapsed();
    Timed { outcome, phases: progress.times(total), total_ms: milliseconds(total), certificate: progress.shown(spec) }
}

/// How it went, what the target took of it, and the parts of that.
async fn run_watched(spec: &CheckSpec, means: &Means) -> (Outcome, Duration, Arc<Progress>) {
    let timeout = spec.monitor.timeout;
    let progress = Arc::new(Progress::of(spec));
    // Waiting for a place is this machine's doing: it is no part of the time that the program has.
    let _place = match &spec.monitor.kind {
        MonitorKind::Exec(_) if !means.reach.exec => return (Err(Failure::Internal(exec::NOT_ALLOWED.into())), Duration::ZERO, progress),
        MonitorKind::Exec(_) => {
            progress.enter(Phase::Place);
            match tokio::time::timeout(timeout, means.execs.clone().acquire_owned()).await {
                Ok(place) => place.ok(),
                Err(_) => return (Err(words::timed_out(progress.began.elapsed(), timeout, Phase::Place)), Duration::ZERO, progress),
            }
        }
        _ => None,
    };
    let began = Instant::now();
    let outcome = match tokio::time::timeout(timeout, perform(spec, means, &progress)).await {
        Ok(outcome) => outcome.map_err(|failure| progress.named(failure)),
        Err(_) => {
            let late = words::timed_out(began.elapsed(), timeout, progress.phase());
            Err(if matches!(spec.monitor.kind, MonitorKind::Prometheus(_)) { prometheus::not_of_the_endpoint(late) } else { late })
        }
    };
    // Waiting for a lookup is this machine's doing as well: it makes no endpoint slow.
    let waited = if outcome.is_ok() { progress.waited() } else { Duration::ZERO };
    (outcome, began.elapsed().saturating_sub(waited), progress)
}

/// Where a check goes, and which address of this machine it comes from, if that is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

async fn perform(spec: &CheckSpec, means: &Means, progress: &Arc<Progress>) -> Outcome {
    perform_from(spec, means, progress).await.map_err(|failure| match failure {
        // Which of them did not work out, only the monitor knows.
        Failure::NoNetwork(why) if why == words::NO_LOCAL_ADDRESS && !spec.monitor.source.is_empty() => {
            let all: Vec<String> = spec.monitor.source.iter().map(IpAddr::to_string).collect();
            Failure::NoNetwork(format!("source = {}: this machine has no such address, or no port left on it", all.join(", ")))
        }
        failure => failure,
    })
}

async fn perform_from(spec: &CheckSpec, means: &Means, progress: &Arc<Progress>) -> Outcome {
    if let MonitorKind::Exec(check) = &spec.monitor.kind {
        return exec::exec(check, &spec.target, spec.monitor.timeout, progress).await;
    }
    if let MonitorKind::Prometheus(check) = &spec.monitor.kind {
        return prometheus::prometheus(check, spec, means, progress).await;
    }
    let ip = match &spec.target {
        CheckTarget::Address(ip) | CheckTarget::Behind { at: ip, .. } => *ip,
        CheckTarget::Host(host) => means.lookups.find(host, progress).await?,
        CheckTarget::Endpoint(_) => return Err(nothing_to_ask()),
    };
    progress.enter(Phase::Connect);
    let way = Way { to: SocketAddr::new(ip, spec.monitor.port), from: spec.monitor.source_for(ip) };
    match &spec.monitor.kind {
        MonitorKind::Tcp(check) => talk::tcp(check, way, means, spec.monitor.timeout, progress).await,
        MonitorKind::Dns(check) => talk::dns(check, way, progress).await,
        MonitorKind::Push(_) | MonitorKind::Share(_) => Err(nothing_to_ask()),
        MonitorKind::Ping => ping::ping(way, progress).await,
        // Those were run above: it is not the endpoint that they connect to.
        MonitorKind::Exec(_) | MonitorKind::Prometheus(_) => Ok(()),
        MonitorKind::Grpc(check) => {
            let tls = check.tls.as_ref().map_or_else(TlsRoots::nobody, |tls| means.tls.config(tls, progress));
            grpc::grpc(check, way, tls, spec.monitor.timeout, progress).await
        }
        MonitorKind::Http(check) => request("http", check, way, TlsRoots::nobody(), progress).await,
        MonitorKind::Https { check, tls } => request("https", check, way, means.tls.config(tls, progress), progress).await,
    }
}

/// Reports come by themselves: `control` does not list such checks.
fn nothing_to_ask() -> Failure {
    Failure::Internal("it waits for reports: there is nothing to ask".into())
}

async fn request(scheme: &str, check: &HttpCheck, way: Way, tls: Result<ClientConfig, String>, progress: &Arc<Progress>) -> Outcome {
    let url = url(scheme, &check.host, &check.path, way.to)
        .ok_or_else(|| Failure::Internal(format!("\"{}\" and \"{}\" make no URL", check.host, check.path)))?;
    let client = client(tls.map_err(Failure::Internal)?, check.version, way, progress).map_err(|error| Failure::Internal(error.to_string()))?;
    let host = host_header(check, &url);
    let method = match check.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Post => Method::POST,
    };
    let mut request = client.request(method, url);
    if check.version == HttpVersion::Http11 {
        request = request.header(header::CONNECTION, "close");
    }
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    let mut headers = header::HeaderMap::new();
    for (name, value) in &check.headers {
        let (name, value) = (header::HeaderName::try_from(name.as_str()), header::HeaderValue::try_from(value.as_str()));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Failure::Internal("a header of the check is none".into())) };
        headers.insert(name, value);
    }
    // In place of our own, where we have one of the name.
    request = request.headers(headers);
    let fail = |error: reqwest::Error| words::failure(&error, progress.phase());
    let mut response = request.send().await.map_err(fail)?;
    progress.enter(Phase::Body);
    let status = response.status().as_u16();
    if !check.status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
        return Err(Failure::Status(status));
    }
    if check.body.is_none() && check.pattern.is_none() && check.json.is_empty() {
        return Ok(());
    }
    let mut search = Search::new(check.body.as_deref().unwrap_or_default().as_bytes());
    // A pattern may speak of the end, and JSON has to be read to it.
    let is_whole = check.pattern.is_some() || !check.json.is_empty();
    while (!search.found || is_whole) && search.seen.len() < BODY_MAX_BYTES {
        match response.chunk().await.map_err(fail)? {
            Some(chunk) => search.feed(&chunk),
            None => break,
        }
    }
    if !search.found {
        return Err(Failure::Body);
    }
    if check.pattern.as_ref().is_some_and(|pattern| !pattern.matches(&search.seen)) {
        return Err(Failure::Body);
    }
    check_json(&check.json, &search.seen)
}

/// Compares what stands in a body with what is expected.
fn check_json(expected: &[(String, JsonExpected)], body: &[u8]) -> Outcome {
    if expected.is_empty() {
        return Ok(());
    }
    let body: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
        let cut = if body.len() >= BODY_MAX_BYTES { format!(", or longer than {BODY_MAX_BYTES} octets") } else { String::new() };
        Failure::Answer(format!("the body is no JSON{cut}: {error}"))
    })?;
    for (pointer, wanted) in expected {
        let found = body.pointer(pointer);
        let missed = match wanted {
            JsonExpected::Is(wanted) => (!found.is_some_and(|found| is_equal(found, wanted))).then(|| wanted.clone()),
            JsonExpected::Number(bounds) => {
                let number = found.and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
                bounds.iter().find(|bound| !bound.holds(number)).map(ToString::to_string)
            }
        };
        if let Some(wanted) = missed {
            let found = found.map_or_else(|| "nothing".into(), |found| found.to_string().chars().take(60).collect::<String>());
            return Err(Failure::Answer(format!("found {found} at \"{pointer}\", expected {wanted}")));
        }
    }
    Ok(())
}

/// A number is equal however it is written: 1 and 1.0.
fn is_equal(found: &serde_json::Value, wanted: &str) -> bool {
    let wanted: serde_json::Value = serde_json::from_str(wanted).unwrap_or_default();
    let is_whole = found.is_i64() || found.is_u64();
    wanted == *found || !is_whole && found.is_number() && found.as_f64() == wanted.as_f64()
}

/// Host name and port of the service, whatever the endpoint: from them come the Host header (with the port where it is not the scheme's own) and the
/// SNI. A host that is an address cannot be connected to elsewhere, so the endpoint's takes its place, in the certificate check too.
pub(super) fn url(scheme: &str, host: &str, path: &str, addr: SocketAddr) -> Option<Url> {
    let is_address = host.parse::<IpAddr>().is_ok();
    let name = match is_address {
        false if host.contains(['/', '?', '#', '@', ':', '\\', '[']) => return None,
        false => host.trim_end_matches('.').to_owned(),
        true => bracketed(addr.ip()),
    };
    let url = Url::parse(&format!("{scheme}://{name}:{}{path}", addr.port())).ok()?;
    // `10.1` and `0x7f000001` are addresses to a URL though not to us: they would lead past the pinned address.
    (path.starts_with('/') && (url.domain().is_some() || is_address)).then_some(url)
}

/// The Host header, where it cannot be taken from the URL: a host that is an address.
fn host_header(check: &HttpCheck, url: &Url) -> Option<String> {
    let host = bracketed(check.host.parse().ok()?);
    Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// No session is resumed; that the peer gives a ticket for one is noted.
pub(super) fn without_memory(progress: &Arc<Progress>) -> Resumption {
    Resumption::store(progress.clone()).tls12_resumption(Tls12Resumption::Disabled)
}

/// A client for one request: made in about 6 µs, where a handshake takes hundreds, and nothing to keep while the check sleeps.
pub(super) fn client(mut tls: ClientConfig, version: HttpVersion, way: Way, progress: &Arc<Progress>) -> reqwest::Result<Client> {
    tls.resumption = without_memory(progress);
    let builder = Client::builder();
    let (protocol, builder) = match version {
        // Folded lines are out of date, but whoever reads a response has to bear with them (RFC 9112 §5.2).
        HttpVersion::Http11 => ("http/1.1", builder.http1_only().http1_allow_obsolete_multiline_headers_in_responses(true)),
        HttpVersion::Http2 => ("h2", builder.http2_prior_knowledge().http2_max_header_list_size(HEADERS_MAX_BYTES)),
    };
    tls.alpn_protocols = vec![protocol.into()];
    builder
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Pinned(way.to)))
        .local_address(way.from)
        .connector_layer(MarkConnected(progress.clone()))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(USER_AGENT)
        .build()
}

/// Every name leads to the endpoint.
struct Pinned(SocketAddr);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addrs: Addrs = Box::new(std::iter::once(self.0));
        Box::pin(std::future::ready(Ok(addrs)))
    }
}

/// Looks for a text in the first [`BODY_MAX_BYTES`] of a body that comes in pieces.
pub(super) struct Search<'a> {
    wanted: &'a [u8],
    pub(super) seen: Vec<u8>,
    pub(super) found: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(wanted: &'a [u8]) -> Search<'a> {
        Search { wanted, seen: Vec::new(), found: wanted.is_empty() }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        let room = BODY_MAX_BYTES - self.seen.len();
        // What was seen before cannot match, but for a beginning at its end.
        let from = self.seen.len().saturating_sub(self.wanted.len().saturating_sub(1));
        self.seen.extend_from_slice(&piece[..piece.len().min(room)]);
        self.found = self.found || self.seen[from..].windows(self.wanted.len()).any(|window| window == self.wanted);
    }
}

/// How far a check has come; written where it happens, read when the timeout strikes and when somebody wants to know what took how long.
#[derive(Debug)]
pub(super) struct Progress {
    phase: AtomicU8,
    began: Instant,
    /// By phase: microseconds from the beginning to when it was entered first, and one; 0 for never.
    entered: [AtomicU32; Phase::ALL.len()],
    /// Of the certificates that the peer showed.
    certificate: OnceLock<Validity>,
    /// The address that the certificate has to name, where that is another than what is connected to.
    own: Option<IpAddr>,
    /// The peer asked for a certificate of ours.
    is_asked: AtomicBool,
    /// It has sent a ticket: the handshake is over for it, too.
    has_ticket: AtomicBool,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            phase: AtomicU8::default(),
            began: Instant::now(),
            entered: Default::default(),
            certificate: OnceLock::new(),
            own: None,
            is_asked: AtomicBool::new(false),
            has_ticket: AtomicBool::new(false),
        }
    }
}

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        if let Some(entered) = self.entered.get(phase as usize) {
            let since = u32::try_from(self.began.elapsed().as_micros() + 1).unwrap_or(u32::MAX);
            let _ = entered.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn of(spec: &CheckSpec) -> Progress {
        let own = if let CheckTarget::Behind { own, .. } = &spec.target { Some(*own) } else { None };
        Progress { own, ..Progress::default() }
    }

    /// What the certificate has to name in place of the address that is connected to.
    pub(super) fn own_name(&self) -> Option<ServerName<'static>> {
        self.own.map(ServerName::from)
    }

    /// Notes the first of what the peer showed that ends.
    pub(super) fn note_certificate(&self, shown: &Presented<'_>, authorities: &RootCertStore) {
        if let Some(first) = certs::first_to_end(shown, authorities) {
            let unsigned = |at: i64| u64::try_from(at).unwrap_or(0);
            let _ = self.certificate.set(Validity { from: unsigned(first.from), until: unsigned(first.until), name: first.name.map(Into::into) });
        }
    }

    /// A failure with the name of the certificate that has ended, where that is not the endpoint's own.
    fn named(&self, failure: Failure) -> Failure {
        let name = |until: u64| self.certificate.get().filter(|shown| shown.until == until).and_then(|shown| shown.name.clone());
        match failure {
            Failure::OutOfTime(OutOfTime { why, at, bound: Bound::Until(until) }) => {
                let why = name(until).map_or(why.clone(), |name| why.replacen("certificate", &format!("certificate \"{name}\" of the chain"), 1));
                Failure::OutOfTime(OutOfTime { why, at, bound: Bound::Until(until) })
            }
            failure => failure,
        }
    }

    pub(super) fn asked_for_certificate(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    /// The peer may still refuse what it was shown: it asked, and has not gone on since.
    pub(super) fn may_be_refused(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed) && !self.has_ticket.load(Ordering::Relaxed)
    }

    /// What the peer showed, believed or not, unless nobody looks at it, or it is not the endpoint's.
    fn shown(&self, spec: &CheckSpec) -> Option<Validity> {
        let kind = &spec.monitor.kind;
        let is_looked_at = kind.tls().is_some_and(|tls| !tls.insecure) && !matches!(kind, MonitorKind::Prometheus(_));
        self.certificate.get().cloned().filter(|_| is_looked_at)
    }

    /// Until its name was being looked up, where that was to be done.
    fn waited(&self) -> Duration {
        let since = self.entered.get(Phase::Resolve as usize).map_or(0, |entered| entered.load(Ordering::Relaxed));
        Duration::from_micros(u64::from(since).saturating_sub(1))
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Queue)
    }

    /// What each phase took that was entered; the last one until the end.
    fn times(&self, total: Duration) -> Vec<PhaseTime> {
        let entered = Phase::ALL.iter().zip(&self.entered).map(|(phase, entered)| (*phase, entered.load(Ordering::Relaxed)));
        let entered: Vec<(Phase, Duration)> =
            entered.filter(|(_, since)| *since > 0).map(|(phase, since)| (phase, Duration::from_micros(u64::from(since) - 1))).collect();
        let ends = entered.iter().skip(1).map(|(_, since)| *since).chain([total]);
        // What comes before the first phase belongs to it: waiting for a place to look a name up.
        let begins = entered.iter().enumerate().map(|(at, (_, since))| if at == 0 { Duration::ZERO } else { *since });
        let took = begins.zip(ends).map(|(from, to)| to.saturating_sub(from));
        entered.iter().zip(took).map(|((phase, _), took)| PhaseTime { phase: phase.part(), ms: milliseconds(took) }).collect()
    }
}

/// A session store that keeps nothing. rustls asks it when it begins a handshake, which is the moment where connecting ends and TLS begins.
impl ClientSessionStore for Progress {
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.enter(Phase::Tls);
        None
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.has_ticket.store(true, Ordering::Relaxed);
    }
}

/// Marks the moment when the connection stands, its TLS included, and the request goes out.
#[derive(Clone)]
struct MarkConnected(Arc<Progress>);

impl<S> Layer<S> for MarkConnected {
    type Service = Marked<S>;

    fn layer(&self, connector: S) -> Marked<S> {
        Marked { connector, progress: self.0.clone() }
    }
}

#[derive(Clone)]
struct Marked<S> {
    connector: S,
    progress: Arc<Progress>,
}

impl<S, R> Service<R> for Marked<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.connector.call(request);
        let progress = self.progress.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            progress.enter(Phase::Response);
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Thresholds, Watch};
    use crate::policy::model::{Monitor, TcpCheck};

    #[tokio::test]
    async fn lookups_that_hang_are_our_own_fault() {
        let second = Duration::from_secs(1);
        let thresholds = Thresholds { interval: second, fast: second, fall: 1, rise: 1 };
        let monitor = Monitor {
            name: String::new(),
            kind: MonitorKind::Tcp(TcpCheck::default()),
            port: 1,
            thresholds,
            timeout: Duration::from_millis(50),
            source: Vec::new(),
            watch: Watch::default(),
        };
        let means = Means::new(Arc::default());
        means.lookups.fill();
        let (outcome, _) = run(&CheckSpec { target: CheckTarget::Host("localhost".into()), monitor }, &means).await;
        assert!(matches!(outcome, Err(Failure::Internal(_))), "{outcome:?}");
    }

    #[test]
    fn phases_are_timed_from_one_to_the_next() {
        let progress = Progress::default();
        let at = |phase: Phase, micros: u32| progress.entered[phase as usize].store(micros + 1, Ordering::Relaxed);
        [(Phase::Resolve, 700), (Phase::Connect, 2_000), (Phase::Tls, 3_500), (Phase::Response, 9_500)]
            .into_iter()
            .for_each(|(phase, micros)| at(phase, micros));
        let times: Vec<_> = progress.times(Duration::from_millis(20)).into_iter().map(|time| (time.phase, time.ms)).collect();
        assert_eq!(times, [("resolve", 2.0), ("connect", 1.5), ("tls", 6.0), ("first byte", 10.5)]);
        assert_eq!(Progress::default().times(Duration::from_millis(1)), []);
    }

    #[test]
    fn a_text_is_found_across_pieces_and_not_behind_the_limit() {
        let check = |wanted: &str, pieces: &[&[u8]], found: bool| {
            let mut search = Search::new(wanted.as_bytes());
            pieces.iter().for_each(|piece| search.feed(piece));
            assert_eq!(search.found, found, "{wanted}");
            assert!(search.seen.len() <= BODY_MAX_BYTES);
        };
        let filler = vec![b'x'; BODY_MAX_BYTES - 5];
        check("ready", &[b"not re", b"ady yet"], true);
        check("ready", &[b"r", b"e", b"a", b"d", b"y"], true);
        check("ready", &[b"Ready"], false);
        check("ready", &[b"read", b"", b" y"], false);
        check("", &[], true);
        check("ready", &[&filler, b"ready"], true);
        check("ready", &[&filler, b"-ready"], false);
        check("ready", &[&filler, &filler, b"ready"], false);
    }

    #[test]
    fn urls_name_the_service_and_never_lead_elsewhere() {
        let check = |scheme: &str, host: &str, path: &str, addr: &str, expected: Option<&str>| {
            let url = url(scheme, host, path, addr.parse().expect("an address"));
            assert_eq!(url.as_ref().map(Url::as_str), expected, "{scheme} {host} {path}");
        };
        check("https", "app.example.com", "/healthz?deep=1", "192.0.2.1:443", Some("https://app.example.com/healthz?deep=1"));
        check("https", "app.example.com.", "/", "192.0.2.1:8443", Some("https://app.example.com:8443/"));
        check("http", "app.example.com", "/", "192.0.2.1:80", Some("http://app.example.com/"));
        check("http", "app.example.com", "/", "[2001:db8::1]:443", Some("http://app.example.com:443/"));
        check("http", "192.0.2.9", "/", "192.0.2.1:80", Some("http://192.0.2.1/"));
        check("http", "192.0.2.9", "/", "[2001:db8::1]:80", Some("http://[2001:db8::1]/"));
        check("http", "_a.example", "//x", "192.0.2.1:80", Some("http://_a.example//x"));
        check("http", "user@app.example", "/", "192.0.2.1:80", None);
        check("http", "app.example/x", "/", "192.0.2.1:80", None);
        check("http", "app.example:81", "/", "192.0.2.1:82", None);
        check("http", "[app.example", "/", "192.0.2.1:82", None);
        check("http", "app.example", "@other.example/", "192.0.2.1:80", None);
        check("http", "", "/", "192.0.2.1:80", None);
        check("http", "10.1", "/", "192.0.2.1:80", None);
        check("http", "0x7f000001", "/", "192.0.2.1:80", None);
        check("http", "app.example.1", "/", "192.0.2.1:80", None);
        check("http", "a b", "/", "192.0.2.1:80", None);
    }
}
