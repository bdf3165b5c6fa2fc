//! L5: DNS over UDP and TCP: sockets, deadlines and limits around the engine. Knows nothing of zones or policies.
//!
//! ```text
//! Listeners::bind ─▶ Listeners ─ start ─▶ Serving ─ stop ─▶ done, within STOP_TIMEOUT
//!                                  ├─ one UDP thread per core: a SO_REUSEPORT socket for each address              (udp)
//!                                  └─ one TCP thread per core: a SO_REUSEPORT listener for each address, its connections  (tcp)
//! ```

mod bind;
mod connections;
mod conversation;
mod encrypted;
mod guard;
mod limiter;
mod program;
pub mod shares;
mod stream;
mod tcp;
mod timers;
pub mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

pub use self::bind::{BindError, Listeners, Warning};
pub use self::encrypted::{Doors as EncryptedDoors, Running as EncryptedServing, certificate_troubles};
pub use self::guard::Place;
pub use crate::config::TcpLimits as Limits;

use crate::answer::Dice;
use crate::telemetry::Registry;
use crate::world::Published;

/// From the call of [`Serving::stop`] to the last socket closed (CONTRACT: within 3 s in all, so that something is left for the rest of the program).
pub const STOP_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Everything but UDP (TCP, checks, the admin listener) runs at a lower priority, so many steps of `nice`: under contention a UDP thread gets three
/// times what one of these does (weights 1,024 and 335), so that a flood of TCP connections does not starve it. Without contention it makes no
/// difference.
pub const BESIDE_UDP: u8 = 5;

/// Turns of a UDP thread on its core: the shortest that there is. Control work on the same core gives way at once.
const TURN: Duration = Duration::from_micros(100);

impl Listeners {
    /// Starts answering from `published`, counting in `registry`, with the usual TCP [`Limits`]. Fails only when threads cannot be started.
    pub fn start(self, published: Arc<Published>, registry: Registry, runtime: &tokio::runtime::Handle) -> io::Result<Serving> {
        self.start_with(published, registry, runtime, Limits::default(), Duration::ZERO)
    }

    /// The same with other limits.
    pub fn start_with(
        self,
        published: Arc<Published>,
        registry: Registry,
        runtime: &tokio::runtime::Handle,
        limits: Limits,
        busy_poll: Duration,
    ) -> io::Result<Serving> {
        let addresses = self.addresses();
        // From here on a failure drops `serving`, which stops what has been started.
        let mut serving = Serving { addresses, stop: Arc::default(), threads: Vec::new(), tcp: tcp::Running::default() };
        let (tcp, udp) = self.into_sockets();
        let (notices, to_log) = mpsc::channel(guard::NOTICES);
        runtime.spawn(guard::log(to_log));
        let place = Place { threads: udp.len(), seed: new_dice().roll() as u32, notices: Some(notices) };
        for (at, sockets) in udp.into_iter().enumerate() {
            let worker = udp::Worker::new(sockets, published.clone(), registry.thread(), place.clone(), busy_poll)?;
            let stop = serving.stop.clone();
            serving.threads.push(std::thread::Builder::new().name(format!("udp-{at}")).spawn(move || {
                // Where it is not possible, queries wait for the turn of whatever else runs on the core.
                let _ = crate::sys::take_short_turns(TURN);
                worker.run(&stop);
            })?);
        }
        serving.tcp = tcp::start(tcp, &published, &registry, limits)?;
        Ok(serving)
    }
}

/// The listeners at work. Dropping it stops them as well, without waiting.
#[derive(Debug)]
pub struct Serving {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tcp: tcp::Running,
}

impl Serving {
    /// Where it listens, UDP and TCP each, with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts nothing more, answers what has been received, and returns when every socket is closed; at the latest after [`STOP_TIMEOUT`], when
    /// connections that are still busy are cut off.
    pub async fn stop(mut self) {
        self.signal();
        let mut threads = std::mem::take(&mut self.threads);
        threads.append(&mut self.tcp.threads);
        let join = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        // UDP threads look at the flag several times a second, TCP threads end in time; one that hangs in the kernel is left behind.
        let _ = tokio::time::timeout(STOP_TIMEOUT + udp::STOP_POLL, join).await;
    }

    fn signal(&self) {
        self.stop.store(true, Relaxed);
        self.tcp.stop();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.signal();
    }
}

/// Since 1970; 0 for a clock before that.
fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Dice that no one outside can predict; where the system has no random bytes, at least no two threads throw alike.
fn new_dice() -> Dice {
    static THREADS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let fallback =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64) ^ THREADS.fetch_add(1, Relaxed) << 48;
    let mut seed = [0; 8];
    let seed = getrandom::fill(&mut seed).map_or_else(|_| fallback(), |()| u64::from_ne_bytes(seed));
    Dice::new(unix_now().as_secs(), seed)
}

/// Says that the engine panicked, at the 1st, 2nd, 4th, 8th … time: a packet that can do it will be sent again.
fn log_panic(count: u64, transport: &str) {
    if count.is_power_of_two() {
        tracing::error!(count, transport, "the engine panicked on a query and sent no reply; this is a bug, please report it; serving goes on");
    }
}
