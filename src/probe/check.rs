//! One check: connect, ask, compare. Nothing is kept from one check to the next, neither connection nor session nor cookie, so that every check
//! sees what a new client would see.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, header, redirect};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::tls::TlsRoots;
use super::words::{self, Phase};
use crate::control::api::{CheckSpec, CheckTarget};
use crate::health::{Failure, Outcome};
use crate::policy::model::{HttpCheck, MonitorKind};

/// As much of a body is searched for the expected text, and no more is read.
pub const BODY_MAX_BYTES: usize = 16 * 1024;

/// Lookups of host names at a time. The system's resolver blocks a thread each, for half a minute if its servers are silent; threads are shared
/// with the store, so a dead resolver may not take them all.
const LOOKUPS_MAX: usize = 16;

/// How checks introduce themselves in the logs of those who are checked.
const USER_AGENT: &str = concat!("meridian/", env!("CARGO_PKG_VERSION"), " (health check)");

/// What checks share.
#[derive(Clone, Debug)]
pub struct Means {
    /// What HTTPS checks trust.
    pub tls: Arc<TlsRoots>,
    /// Bounds lookups; a permit is held by the thread that looks up, however long it takes.
    lookups: Arc<Semaphore>,
}

impl Means {
    /// With these roots.
    pub fn new(tls: Arc<TlsRoots>) -> Means {
        Means { tls, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

/// Runs one check; ends within the monitor's timeout. Says how it went and how long it took.
pub async fn run(spec: &CheckSpec, means: &Means) -> (Outcome, Duration) {
    let began = Instant::now();
    let timeout = spec.monitor.timeout;
    let progress = Arc::new(Progress::default());
    let outcome = match tokio::time::timeout(timeout, perform(spec, means, &progress)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(words::timed_out(began.elapsed(), timeout, progress.phase())),
    };
    (outcome, began.elapsed())
}

async fn perform(spec: &CheckSpec, means: &Means, progress: &Arc<Progress>) -> Outcome {
    let ip = match &spec.target {
        CheckTarget::Address(ip) => *ip,
        CheckTarget::Host(host) => lookup(host, means, progress).await?,
    };
    progress.enter(Phase::Connect);
    let addr = SocketAddr::new(ip, spec.monitor.port);
    match &spec.monitor.kind {
        MonitorKind::Tcp => match TcpStream::connect(addr).await {
            Ok(_) => Ok(()),
            Err(error) => Err(words::io_failure(&error, Phase::Connect)),
        },
        MonitorKind::Http(check) => get("http", check, addr, TlsRoots::nobody(), progress).await,
        MonitorKind::Https { check, ca } => get("https", check, addr, means.tls.config(ca.as_deref()), progress).await,
    }
}

/// The first address the system knows for `host`.
async fn lookup(host: &str, means: &Means, progress: &Progress) -> Result<IpAddr, Failure> {
    let Ok(permit) = means.lookups.clone().acquire_owned().await else {
        return Err(Failure::Internal("lookups are closed".to_owned()));
    };
    progress.enter(Phase::Resolve);
    let name = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(|mut addrs| addrs.next());
        drop(permit);
        found
    });
    match found.await {
        Ok(Ok(Some(addr))) => Ok(addr.ip()),
        Ok(Ok(None)) => Err(Failure::Connect(format!("no address for \"{host}\""))),
        Ok(Err(error)) => Err(Failure::Connect(format!("no address for \"{host}\": {}", words::plain(&error.to_string())))),
        Err(error) => Err(Failure::Internal(format!("lookup of \"{host}\": {error}"))),
    }
}

async fn get(scheme: &str, check: &HttpCheck, addr: SocketAddr, tls: Result<ClientConfig, String>, progress: &Arc<Progress>) -> Outcome {
    let url = url(scheme, check, addr).ok_or_else(|| Failure::Internal(format!("\"{}\" and \"{}\" make no URL", check.host, check.path)))?;
    let client = client(tls.map_err(Failure::Internal)?, addr, progress).map_err(|error| Failure::Internal(error.to_string()))?;
    let host = host_header(check, &url);
    let mut request = client.get(url).header(header::CONNECTION, "close");
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    let fail = |error: reqwest::Error| words::failure(&error, progress.phase());
    let mut response = request.send().await.map_err(fail)?;
    let status = response.status().as_u16();
    if !check.status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
        return Err(Failure::Status(status));
    }
    let Some(expected) = &check.body else { return Ok(()) };
    progress.enter(Phase::Body);
    let mut search = Search::new(expected.as_bytes());
    while !search.found && search.seen.len() < BODY_MAX_BYTES {
        match response.chunk().await.map_err(fail)? {
            Some(chunk) => search.feed(&chunk),
            None => break,
        }
    }
    if search.found { Ok(()) } else { Err(Failure::Body) }
}

/// Host name and port of the service, whatever the endpoint: from them come the Host header (with the port where it is not the scheme's own) and the
/// SNI. A host that is an address cannot be connected to elsewhere, so the endpoint's takes its place, in the certificate check too.
fn url(scheme: &str, check: &HttpCheck, addr: SocketAddr) -> Option<Url> {
    let host = match (check.host.parse::<IpAddr>(), addr) {
        (Err(_), _) if check.host.contains(['/', '?', '#', '@', ':', '\\', '[']) => return None,
        (Err(_), _) => check.host.trim_end_matches('.').to_owned(),
        (Ok(_), addr) => bracketed(addr.ip()),
    };
    let url = Url::parse(&format!("{scheme}://{host}:{}{}", addr.port(), check.path)).ok()?;
    // `10.1` and `0x7f000001` are addresses to a URL though not to us: they would lead past the pinned address.
    let leads_to_us = url.domain().is_some() || check.host.parse::<IpAddr>().is_ok();
    (check.path.starts_with('/') && leads_to_us).then_some(url)
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

/// A client for one request: made in about 6 µs, where a handshake takes hundreds, and nothing to keep while the check sleeps.
fn client(mut tls: ClientConfig, addr: SocketAddr, progress: &Arc<Progress>) -> reqwest::Result<Client> {
    tls.resumption = Resumption::store(progress.clone()).tls12_resumption(Tls12Resumption::Disabled);
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Pinned(addr)))
        .connector_layer(MarkConnected(progress.clone()))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .http1_only()
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
struct Search<'a> {
    wanted: &'a [u8],
    seen: Vec<u8>,
    found: bool,
}

impl<'a> Search<'a> {
    fn new(wanted: &'a [u8]) -> Search<'a> {
        Search { wanted, seen: Vec::new(), found: wanted.is_empty() }
    }

    fn feed(&mut self, piece: &[u8]) {
        let room = BODY_MAX_BYTES - self.seen.len();
        // What was seen before cannot match, but for a beginning at its end.
        let from = self.seen.len().saturating_sub(self.wanted.len().saturating_sub(1));
        self.seen.extend_from_slice(&piece[..piece.len().min(room)]);
        self.found = self.found || self.seen[from..].windows(self.wanted.len()).any(|window| window == self.wanted);
    }
}

/// How far a check has come; written where it happens, read when the timeout strikes.
#[derive(Debug, Default)]
struct Progress(AtomicU8);

impl Progress {
    fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Queue)
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
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}
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
    use crate::health::Thresholds;
    use crate::policy::model::Monitor;

    #[tokio::test]
    async fn lookups_that_hang_are_our_own_fault() {
        let second = Duration::from_secs(1);
        let thresholds = Thresholds { interval: second, fast: second, fall: 1, rise: 1 };
        let monitor = Monitor { name: String::new(), kind: MonitorKind::Tcp, port: 1, thresholds, timeout: Duration::from_millis(50) };
        let means = Means::new(Arc::default());
        means.lookups.forget_permits(LOOKUPS_MAX);
        let (outcome, _) = run(&CheckSpec { target: CheckTarget::Host("localhost".into()), monitor }, &means).await;
        assert!(matches!(outcome, Err(Failure::Internal(_))), "{outcome:?}");
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
            let http = HttpCheck { path: path.into(), host: host.into(), status: vec![], body: None };
            let url = url(scheme, &http, addr.parse().expect("an address"));
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
