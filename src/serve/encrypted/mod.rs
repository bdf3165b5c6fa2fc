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
mod doors;
mod https;
mod quic;
mod records;
mod tls;
mod unproved;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, watch};

use self::desks::{Desks, Shelf};
use self::doors::Served;
pub use self::doors::{Doors, certificate_troubles};
use super::BESIDE_UDP;
use super::connections::{Close, Connections, Link};
use crate::answer::Transport;
use crate::config::EncryptedLimits;
use crate::telemetry::{Registry, Seldom};
use crate::world::Published;

/// After a failed accept call: time for files or memory to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that have been pushed out and still have their sockets: one in so many places.
const OVERFULL: usize = 16;
/// When stopping: how often it is looked whether all have gone.
const STOP_POLL: Duration = Duration::from_millis(20);
/// Where time has run out: for the system to tell what has come before.
const LAST_LOOK: Duration = Duration::from_millis(5);
/// For the last words of a connection: close_notify, GOAWAY, what is under way.
const FAREWELL: Duration = Duration::from_secs(1);

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

impl Doors {
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
        for door in self.doors {
            let limits = door.config.limits;
            let shared = Arc::new(Shared {
                transport: door.transport,
                limits,
                path: door.config.path.clone(),
                desks: desks.clone(),
                connections: Connections::new(limits.total, limits.per_client, super::new_dice(), registry.clone(), door.transport),
                alive: AtomicUsize::new(0),
                registry: registry.clone(),
                failures: Seldom::default(),
                queries: Shelf::all_queries(),
                started: Instant::now(),
                stopping: stopping.clone(),
            });
            runtime.spawn(Served::begin(door, shared)?.keep());
        }
        drop(entered);
        Ok(running)
    }
}

fn unix_s() -> i64 {
    i64::try_from(super::unix_now().as_secs()).unwrap_or(i64::MAX)
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
