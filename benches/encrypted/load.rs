//! Those who mean it: queries over UDP at a steady pace, and over QUIC as fast as they are answered.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection, Endpoint};
use tokio::task::JoinSet;

use super::{Target, client, framed, query, runtime};

/// A reply that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks `rate` times a second and prints: asked, answered, and in microseconds the mean, median, 99th and 99.9th hundredth of the time to answer.
pub(super) fn udp(target: Target, rate: u64) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect(target.to).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let began = Instant::now();
    let now = || began.elapsed().as_nanos() as u64;
    // By ID: when it was asked, 0 for what has been answered.
    let asked: Vec<AtomicU64> = (0..1 << 16).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let (sent, mut times) = std::thread::scope(|threads| {
        let receiver = threads.spawn(|| {
            let (mut times, mut octets, mut last) = (Vec::new(), [0; 4096], None::<Instant>);
            while last.is_none_or(|last| last.elapsed() < PATIENCE) {
                if done.load(Relaxed) {
                    last = last.or(Some(Instant::now()));
                }
                let Ok(len) = socket.recv(&mut octets) else { continue };
                if len < 12 {
                    continue;
                }
                let at = asked[usize::from(u16::from_be_bytes([octets[0], octets[1]]))].swap(0, Relaxed);
                if at > 0 {
                    times.push(now().saturating_sub(at));
                }
            }
            times
        });
        let mut sent = 0u64;
        while began.elapsed() < target.time {
            let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                asked[sent as usize & 0xffff].store(now(), Relaxed);
                let _ = socket.send(&query(sent as u16, sent as usize));
                sent += 1;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        done.store(true, Relaxed);
        (sent, receiver.join().expect("it received"))
    });
    times.sort_unstable();
    let part = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0) / 1000;
    let mean = times.iter().sum::<u64>() / 1000 / times.len().max(1) as u64;
    println!("{sent} {} {mean} {} {} {}", times.len(), part(0.5), part(0.99), part(0.999));
}

fn endpoint() -> Endpoint {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(client(b"doq")).expect("TLS 1.3");
    let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).expect("an endpoint");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// One query on a stream of its own; true when it is answered.
pub(super) async fn ask(connection: &Connection, octets: &[u8]) -> bool {
    let work = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(octets).await.ok()?;
        send.finish().ok()?;
        receive.read_to_end(70_000).await.ok().filter(|reply| reply.len() > 14)
    };
    matches!(tokio::time::timeout(PATIENCE, work).await, Ok(Some(_)))
}

/// What `doq` has done so far.
#[derive(Debug)]
struct Asking {
    target: Target,
    in_flight: usize,
    per_connection: u64,
    began: Instant,
    answered: AtomicU64,
    lost: AtomicU64,
}

impl Asking {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.target.time
    }

    /// One connection after another, each from a port of its own.
    async fn connections(self: Arc<Asking>, at: usize) {
        let number = Arc::new(AtomicUsize::new(at));
        while !self.is_over() {
            let endpoint = endpoint();
            let connecting = endpoint.connect(self.target.to, "dns.example.net").expect("started");
            let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, connecting).await else {
                self.lost.fetch_add(1, Relaxed);
                continue;
            };
            let (left, mut all) = (Arc::new(AtomicU64::new(self.per_connection)), JoinSet::new());
            for _ in 0..self.in_flight {
                all.spawn(self.clone().queries(connection.clone(), number.clone(), left.clone()));
            }
            all.join_all().await;
            connection.close(0u32.into(), b"");
        }
    }

    /// One query after another.
    async fn queries(self: Arc<Asking>, connection: Connection, number: Arc<AtomicUsize>, left: Arc<AtomicU64>) {
        while !self.is_over() && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            // ID 0 (RFC 9250 §4.2.1).
            let is_answered = ask(&connection, &framed(&query(0, number.fetch_add(7, Relaxed)))).await;
            if is_answered { &self.answered } else { &self.lost }.fetch_add(1, Relaxed);
            if !is_answered {
                return;
            }
        }
    }
}

/// Connections with so many queries under way on each, and a new one after `per_connection` queries; prints answers per second and what was not
/// answered.
pub(super) fn doq(target: Target, in_flight: usize, per_connection: u64) {
    let (began, answered, lost) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let asking = Arc::new(Asking { target, in_flight, per_connection, began, answered, lost });
    runtime().block_on(async {
        (0..target.connections).map(|at| asking.clone().connections(at)).collect::<JoinSet<()>>().join_all().await;
    });
    let (lost, rate) = (asking.lost.load(Relaxed), asking.answered.load(Relaxed) as f64 / began.elapsed().as_secs_f64());
    println!("{rate:.0}{}", if lost > 0 { format!(" ({lost} lost)") } else { String::new() });
}

/// New connections one after another, without a query; prints how many per second.
pub(super) fn doq_handshakes(target: Target) {
    let rate = runtime().block_on(async {
        let (endpoint, began, mut made) = (endpoint(), Instant::now(), 0u64);
        while began.elapsed() < target.time {
            let connecting = endpoint.connect(target.to, "dns.example.net").expect("started");
            if let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, connecting).await {
                connection.close(0u32.into(), b"");
                made += 1;
            }
        }
        made as f64 / began.elapsed().as_secs_f64()
    });
    println!("{rate:.0}");
}
