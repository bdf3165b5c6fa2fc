//! DNS over TLS, HTTPS and QUIC: listeners, limits and certificates around the same engine.
//!
//! ```text
//!   Doors::open ─▶ Doors ─ start ─▶ Running ─ stop ─▶ done
//!
//!   one runtime of its own, below UDP in priority
//!     tls, https   accept ─▶ entered among the connections ─▶ handshake ─▶ conversation        (tls, https)
//!     quic         one endpoint for each address ─▶ entered ─▶ handshake ─▶ a task per query    (quic; unproved: what may be sent before)
//! ```
//!
//! Why these are not hickory-server's listeners: [decision 6](../../../docs/adr/0006-encrypted-transports.md).

mod desks;
mod https;
mod quic;
mod records;
mod tls;
mod unproved;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, watch};

use self::desks::{Desks, Shelf};
use super::BESIDE_UDP;
use super::bind::{listen_alone, udp_alone};
use super::connections::{Close, Connections, Link};
use crate::answer::Transport;
use crate::certs::{self, LOOK_EVERY, Shown};
use crate::config::{Encrypted, EncryptedLimits, EncryptedListener};
use crate::telemetry::{Registry, Seldom};
use crate::world::Published;

/// After a failed accept call: time for files or memory to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that have been pushed out and still have their sockets: one in so many places.
const OVERFULL: usize = 16;
/// When stopping: how often it is looked whether all have gone.
const STOP_POLL: Duration = Duration::from_millis(20);
/// How often it is looked whether the keys of tickets have had their time.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// Where time has run out: for the system to tell what has come before.
const LAST_LOOK: Duration = Duration::from_millis(5);
/// For the last words of a connection: close_notify, GOAWAY, what is under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// Listeners that are bound and not yet served.
#[derive(Debug, Default)]
pub struct Doors {
    doors: Vec<Door>,
}

/// One transport.
#[derive(Debug)]
struct Door {
    transport: Transport,
    config: EncryptedListener,
    shown: Arc<Shown>,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// What the connections of one transport share.
struct Shared {
    transport: Transport,
    limits: EncryptedLimits,
    /// Of URIs.
    path: String,
    desks: Arc<Desks>,
    connections: Connections<Leave>,
    /// Those that have not let go of their sockets, pushed out or not.
    alive: AtomicUsize,
    registry: Registry,
    /// Of accept calls.
    failures: Seldom,
    /// Room for queries that wait.
    queries: Arc<Semaphore>,
    started: Instant,
    /// True once the service ends.
    stopping: watch::Receiver<bool>,
}

/// Tells a connection's task that it has to go.
#[derive(Debug, Default)]
struct Leave(Notify);

impl Close for Leave {
    fn close(&self) {
        self.0.notify_one();
    }
}

/// A connection among the others, until this is dropped.
struct Entered {
    shared: Arc<Shared>,
    link: Arc<Link<Leave>>,
    /// Queries under way, how many there have been, and when the last answer was sent.
    under_way: AtomicUsize,
    begun: AtomicU64,
    last_ns: AtomicU64,
    /// It ends soon.
    is_leaving: AtomicBool,
    /// Over HTTPS and QUIC, where replies may wait for windows of their own.
    shelf: Shelf,
}

impl Entered {
    fn new(shared: &Arc<Shared>, peer: SocketAddr) -> Entered {
        let now_ns = shared.now_ns();
        shared.alive.fetch_add(1, Relaxed);
        let link = Arc::new(Link::in_handshake(Leave::default(), now_ns));
        shared.connections.enter(peer.ip(), &link);
        let (under_way, begun, last_ns) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(now_ns));
        let shelf = Shelf::new(&shared.queries);
        Entered { shared: shared.clone(), link, under_way, begun, last_ns, is_leaving: AtomicBool::new(false), shelf }
    }

    /// Its handshake has come to its end.
    fn established(&self) {
        self.shared.connections.established(&self.link, self.shared.now_ns());
    }

    /// It has been of use.
    fn answered(&self) {
        self.link.answered(self.shared.now_ns());
        self.is_ready();
    }

    /// From here on it may be idle.
    fn is_ready(&self) {
        self.last_ns.store(self.shared.now_ns(), Relaxed);
    }

    /// How long it may go on like this before it is idle. Only answers count: what else a client sends (PING, windows, what is no query) keeps nothing open.
    /// A query under way at the end of that time may still come to its own.
    fn until_idle(&self) -> Duration {
        let limits = self.shared.limits;
        let own = if self.under_way.load(Relaxed) > 0 { limits.message + limits.write } else { Duration::ZERO };
        let quiet_ns = self.shared.now_ns().saturating_sub(self.last_ns.load(Relaxed));
        (limits.idle + own).saturating_sub(Duration::from_nanos(quiet_ns))
    }

    /// Returns when it is idle. What came while this program stood still (a machine that was paused) is in the socket, and nobody has told of it yet: so it is
    /// looked once more, and who has begun to ask by then has the time of a query.
    async fn idle(&self) {
        loop {
            let left = self.until_idle();
            if !left.is_zero() {
                tokio::time::sleep(left).await;
                continue;
            }
            let seen = || (self.begun.load(Relaxed), self.last_ns.load(Relaxed));
            let before = seen();
            tokio::time::sleep(LAST_LOOK).await;
            if seen() == before {
                return;
            }
            let end = Instant::now() + self.shared.limits.message + self.shared.limits.write;
            while self.until_idle().is_zero() {
                if Instant::now() >= end || self.under_way.load(Relaxed) == 0 {
                    return;
                }
                tokio::time::sleep(LAST_LOOK).await;
            }
        }
    }

    /// Returns when it has to make room for others.
    async fn pushed_out(&self) {
        self.link.stream.0.notified().await;
    }
}

/// A query under way, until this is dropped.
struct UnderWay(Arc<Entered>);

impl UnderWay {
    fn new(entered: &Arc<Entered>) -> UnderWay {
        entered.under_way.fetch_add(1, Relaxed);
        entered.begun.fetch_add(1, Relaxed);
        UnderWay(entered.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.connections.leave(&self.link);
        self.shared.alive.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn timed_out(&self) {
        self.registry.connections(self.transport).timed_out.fetch_add(1, Relaxed);
    }

    /// There is no room for a query.
    fn refused(&self) {
        self.registry.connections(self.transport).refused_queries.fetch_add(1, Relaxed);
    }

    fn handshake_failed(&self) {
        self.registry.connections(self.transport).handshake_errors.fetch_add(1, Relaxed);
    }

    fn accept_failed(&self, error: &io::Error) {
        self.registry.connections(self.transport).accept_errors.fetch_add(1, Relaxed);
        if let Some(count) = self.failures.happened(Instant::now()) {
            tracing::warn!(%error, count, transport = self.transport.name(), "a connection could not be accepted");
        }
        self.connections.make_room();
    }

    /// Whether so many have been pushed out and not let go yet that nothing is accepted: each has a file, and those are counted out.
    fn is_overfull(&self) -> bool {
        let places = self.connections.places();
        self.alive.load(Relaxed) > places + (places / OVERFULL).max(1)
    }

    /// Returns once the service ends.
    async fn stopped(&self) {
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }
}

/// What is wrong with the certificates that these settings name, by their table in `meridian.toml`; the error is what would keep it closed.
pub fn certificate_troubles(settings: &Encrypted) -> Vec<(&'static str, Result<Vec<certs::Trouble>, certs::Trouble>)> {
    configured(settings).map(|(transport, config)| (listener(transport), load(config).map(|shown| shown.troubles(unix_s())))).collect()
}

/// What was found when doors were opened.
#[derive(Debug)]
pub struct Trouble {
    /// Its table in `meridian.toml`.
    pub listener: &'static str,
    /// The file that it is about, if it is about one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub text: String,
    /// It stays closed; otherwise it serves all the same.
    pub is_closed: bool,
}

fn configured(settings: &Encrypted) -> impl Iterator<Item = (Transport, &EncryptedListener)> {
    let all = [(Transport::Tls, &settings.tls), (Transport::Https, &settings.https), (Transport::Quic, &settings.quic)];
    all.into_iter().filter_map(|(transport, config)| Some((transport, config.as_ref()?)))
}

/// Its table in `meridian.toml`.
fn listener(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "server.tls",
        Transport::Https => "server.https",
        Transport::Quic => "server.quic",
        Transport::Udp | Transport::Tcp => "server.listen",
    }
}

fn load(config: &EncryptedListener) -> Result<Shown, certs::Trouble> {
    Shown::load(&config.certificate, &config.key, config.name.as_deref())
}

impl Doors {
    /// Binds what the settings ask for. A transport whose certificate or port cannot be had stays closed; the second value says why.
    pub fn open(settings: &Encrypted) -> (Doors, Vec<Trouble>) {
        let (mut doors, mut troubles) = (Vec::new(), Vec::new());
        for (transport, config) in configured(settings) {
            let listener = listener(transport);
            let serves = |file, text| Trouble { listener, file, text, is_closed: false };
            let closed = |file, text| Trouble { listener, file, text: format!("not opened: {text}; DNS serves without it"), is_closed: true };
            let shown = match load(config) {
                Ok(shown) => shown,
                Err(trouble) => {
                    let text = trouble.to_string();
                    troubles.push(closed(Some(trouble.file), text));
                    continue;
                }
            };
            match Door::open(transport, config, shown) {
                Ok((door, lacking)) => {
                    troubles.extend(lacking.into_iter().map(|error| serves(None, format!("{error}; it listens on the others"))));
                    let of_certificate = door.shown.troubles(unix_s());
                    troubles.extend(of_certificate.into_iter().map(|trouble| {
                        let text = trouble.to_string();
                        serves(Some(trouble.file), text)
                    }));
                    doors.push(door);
                }
                Err(error) => troubles.push(closed(None, error)),
            }
        }
        (Doors { doors }, troubles)
    }

    /// Where each transport listens.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let of = |door: &Door| {
            let tcp = door.tcp.iter().filter_map(|socket| socket.local_addr().ok());
            let udp = door.udp.iter().filter_map(|socket| socket.local_addr().ok());
            tcp.chain(udp).map(|address| (door.transport.name(), address)).collect::<Vec<_>>()
        };
        self.doors.iter().flat_map(of).collect()
    }

    /// Starts to serve on `threads` threads of a runtime of its own; without listeners there is none.
    pub fn start(self, published: &Arc<Published>, registry: &Registry, threads: usize) -> io::Result<Running> {
        let (stop, stopping) = watch::channel(false);
        // From here on a failure drops `running`, which stops what has been started.
        let mut running = Running { runtime: None, stop, registry: registry.clone() };
        if self.doors.is_empty() {
            return Ok(running);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .enable_all()
            .thread_name("encrypted")
            .on_thread_start(|| {
                // Where it is not possible all are equal.
                let _ = crate::sys::lower_priority(BESIDE_UDP);
            })
            .build()?;
        let runtime = running.runtime.insert(runtime);
        let desks = Arc::new(Desks::new(published.clone(), registry.clone()));
        let entered = runtime.enter();
        let configs: Vec<Arc<ServerConfig>> = self.doors.iter().map(Door::tls).collect::<io::Result<_>>()?;
        let shown: Vec<_> = self.doors.iter().map(|door| (door.transport, door.shown.clone())).collect();
        runtime.spawn(watch_certificates(shown, registry.clone()));
        runtime.spawn(change_keys(configs.iter().map(|config| config.ticketer.clone()).collect()));
        for (door, config) in self.doors.into_iter().zip(configs) {
            let shared = Arc::new(Shared {
                transport: door.transport,
                limits: door.config.limits,
                path: door.config.path.clone(),
                desks: desks.clone(),
                connections: Connections::new(
                    door.config.limits.total,
                    door.config.limits.per_client,
                    super::new_dice(),
                    registry.clone(),
                    door.transport,
                ),
                alive: AtomicUsize::new(0),
                registry: registry.clone(),
                failures: Seldom::default(),
                queries: Shelf::all_queries(),
                started: Instant::now(),
                stopping: stopping.clone(),
            });
            for socket in door.tcp {
                let listener = tokio::net::TcpListener::from_std(socket)?;
                runtime.spawn(tls::accept(listener, config.clone(), shared.clone()));
            }
            for socket in door.udp {
                runtime.spawn(quic::accept(quic::endpoint(socket, &config, &shared)?, shared.clone()));
            }
        }
        drop(entered);
        Ok(running)
    }
}

impl Door {
    /// With the addresses that can be had, and what is wrong with the others; an error when there is none.
    fn open(transport: Transport, config: &EncryptedListener, shown: Shown) -> Result<(Door, Vec<String>), String> {
        let (mut tcp, mut udp, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for address in &config.listen {
            let bound = match transport {
                Transport::Quic => udp_alone(*address).map(|socket| udp.push(socket)),
                _ => listen_alone(*address).map(|socket| tcp.push(socket)),
            };
            lacking.extend(bound.err().map(|error| error.to_string()));
        }
        if tcp.is_empty() && udp.is_empty() {
            return Err(lacking.join("; "));
        }
        Ok((Door { transport, config: config.clone(), shown: Arc::new(shown), tcp, udp }, lacking))
    }

    /// What handshakes go by. The certificate is looked up for each, tickets are sealed with keys that change by themselves (every six hours; the one
    /// before is good for as long again), and nothing is kept here of a session. No early data: who asks with a ticket waits for one round trip.
    fn tls(&self) -> io::Result<Arc<ServerConfig>> {
        let versions: &[_] = match self.transport {
            Transport::Quic => &[&rustls::version::TLS13],
            _ if self.config.tls13_only => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let protocol: &[u8] = match self.transport {
            Transport::Https => b"h2",
            Transport::Quic => b"doq",
            _ => b"dot",
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![protocol.to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

fn unix_s() -> i64 {
    i64::try_from(super::unix_now().as_secs()).unwrap_or(i64::MAX)
}

/// Looks at the files again and again.
async fn watch_certificates(shown: Vec<(Transport, Arc<Shown>)>, registry: Registry) {
    loop {
        let now = unix_s();
        for (transport, shown) in &shown {
            registry.certify(shown.facts(listener(*transport), now));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        for (transport, shown) in &shown {
            shown.look_and_tell(listener(*transport), unix_s());
        }
    }
}

/// The keys of tickets are looked at when one is needed, and change then if it is time. Where nobody comes that would be late: the key of a day ago would
/// open its tickets once more.
async fn change_keys(ticketers: Vec<Arc<dyn ProducesTickets>>) {
    loop {
        tokio::time::sleep(KEYS_EVERY).await;
        for ticketer in &ticketers {
            let _ = ticketer.encrypt(&[]);
        }
    }
}

/// The listeners at work.
#[derive(Debug)]
pub struct Running {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    registry: Registry,
}

impl Running {
    /// Accepts nothing more, answers what has been received, and returns after at most `patience`, when connections that are still busy are cut off.
    pub async fn stop(mut self, patience: Duration) {
        let _ = self.stop.send(true);
        let Some(runtime) = self.runtime.take() else { return };
        // Ending the runtime ends its tasks where they are, so they are waited for.
        let are_open = || self.registry.totals().encrypted().iter().any(|(_, connections)| connections.open > 0);
        let ended = async {
            while are_open() {
                tokio::time::sleep(STOP_POLL).await;
            }
            // For the endpoints of QUIC to send what they have.
            tokio::time::sleep(STOP_POLL).await;
        };
        let _ = tokio::time::timeout(patience - STOP_POLL, ended).await;
        let end = move || runtime.shutdown_timeout(STOP_POLL);
        let _ = tokio::task::spawn_blocking(end).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A runtime that is dropped where tasks run panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
