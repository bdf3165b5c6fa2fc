//! A flood at ten times the capacity, slow TCP connections beside it, and a well-behaved client in between.
//!
//! A server at full speed cannot be sent ten times what it takes by the machine that it runs on. So it gets a small share of a processor (a control
//! group; without the right to make one the flood is what the machine can send), its capacity is measured under the same share, and the flood is ten times
//! that. `scripts/flood.sh` runs the long version, release build, with figures.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use tokio::io::AsyncWriteExt;

use crate::meridian::{Meridian, encode};
use crate::rate_limit::metric;

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]
[records]
ns1.A = "192.0.2.53"
a.A = "192.0.2.1"
b.A = "192.0.2.2"
c.A = "192.0.2.3"
d.A = "192.0.2.4"
e.A = "192.0.2.5"
f.A = "192.0.2.6"
g.A = "192.0.2.7"
h.A = "192.0.2.8"
"#;

/// As docs/rate-limiting.md recommends; 127.99/16 is for measuring.
const LIMITS: &str = r#"
[rate_limit]
responses_per_second = 50
nxdomains_per_second = 10
errors_per_second = 10
queries_per_second = 400
exempt = ["127.99.0.0/16"]
"#;

/// Prefixes that flood.
const FLOODERS: usize = 32;

/// Queries per second of the well-behaved client: 25 for each of eight names.
const POLITE_RATE: u64 = 200;

/// When the polite client asks again, as resolvers do, and how often in all.
const AGAIN: Duration = Duration::from_millis(800);
const TRIES: u32 = 3;

/// How long it waits for an answer at all.
const POLITE_PATIENCE: Duration = Duration::from_secs(4);

/// What is sent.
struct Plan {
    limits: &'static str,
    /// Of the flood.
    time: Duration,
    /// Slow TCP connections.
    connections: usize,
    /// Share of one processor, in percent.
    share: u64,
    /// Times the capacity.
    times: u64,
}

#[derive(Debug)]
#[allow(dead_code, reason = "for printing")]
struct Figures {
    capacity: u64,
    /// Per second.
    flood: u64,
    asked: usize,
    answered: usize,
    /// Of them, to the first try.
    at_once: usize,
    /// Per second of the flood, of [`POLITE_RATE`]; to the first try alone.
    by_second: Vec<usize>,
    /// Answered of those asked in the first second after the flood.
    after: (usize, usize),
    /// Until a prefix that flooded was answered again.
    forgiven: Duration,
    rss_before_kib: u64,
    rss_peak_kib: u64,
    kernel_dropped: u64,
    limited: u64,
    tcp_accepted: u64,
    tcp_open: u64,
    blocked: u64,
}

/// A control group with a share of a processor; gone with the value.
struct Throttle(PathBuf);

impl Throttle {
    fn new(pid: u32, percent: u64) -> Option<Throttle> {
        let v2 = PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists();
        let group = PathBuf::from(if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpu" }).join(format!("meridian-flood-{pid}"));
        fs::create_dir(&group).ok()?;
        let throttle = Throttle(group.clone());
        // A short period: the server is never stopped for long.
        let (period_us, quota_us) = (100_000 / percent.clamp(1, 100), 1000);
        if v2 {
            fs::write(group.join("cpu.max"), format!("{quota_us} {period_us}")).ok()?;
        } else {
            fs::write(group.join("cpu.cfs_period_us"), period_us.to_string()).ok()?;
            fs::write(group.join("cpu.cfs_quota_us"), quota_us.to_string()).ok()?;
        }
        fs::write(group.join("cgroup.procs"), pid.to_string()).ok()?;
        // The kernel deals out the share by processor, and one thread could take all of it: on one processor they are scheduled against each other.
        let _ = std::process::Command::new("taskset").args(["-a", "-p", "1", &pid.to_string()]).output();
        Some(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The program is gone by now; an empty group can be removed.
        let began = Instant::now();
        while fs::remove_dir(&self.0).is_err() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn socket(source: IpAddr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((source, 0)).expect("a loopback address");
    socket.connect(server).expect("a way");
    socket
}

/// Sends from `sources` at `per_second` in all (0: as fast as it goes) until told to stop; counts.
fn sender(server: SocketAddr, sources: Vec<IpAddr>, per_second: u64, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let sockets: Vec<UdpSocket> = sources.iter().map(|source| socket(*source, server)).collect();
        let mut packet = encode("r00000000.example.com.", RecordType::A, 0, None);
        let began = Instant::now();
        let mut count = 0u64;
        while !stop.load(Relaxed) {
            let due = if per_second == 0 { count + 64 } else { began.elapsed().as_micros() as u64 * per_second / 1_000_000 };
            while count < due {
                count += 1;
                let noise = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                packet[..2].copy_from_slice(&noise.to_be_bytes()[..2]);
                // The label's digits become letters by chance.
                for (octet, bits) in packet[14..22].iter_mut().zip(noise.to_be_bytes()) {
                    *octet = b'a' + bits % 26;
                }
                let from = &sockets[count as usize % sockets.len()];
                let result = match noise % 8 {
                    // Half a query, one with a count that is not true, a response.
                    0 => from.send(&packet[..20]),
                    1 => {
                        let mut malformed = packet.clone();
                        malformed[5] = 9;
                        from.send(&malformed)
                    }
                    2 if per_second > 0 => {
                        let mut response = packet.clone();
                        response[2] |= 0x80;
                        from.send(&response)
                    }
                    _ => from.send(&packet),
                };
                // Our own buffers may be full; that is no packet.
                if result.is_err() {
                    std::thread::yield_now();
                }
            }
            sent.store(count, Relaxed);
            if per_second > 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    })
}

/// One question of the polite client.
struct Asked {
    when: Instant,
    tries: u32,
    /// After how many tries the answer came; 0 for never.
    answered: u32,
}

/// Asks [`POLITE_RATE`] times per second until told to stop, each question again after [`AGAIN`] when there is no answer.
fn polite(server: SocketAddr, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Asked>> {
    std::thread::spawn(move || {
        let socket = socket("127.77.0.1".parse().expect("an address"), server);
        socket.set_nonblocking(true).expect("non-blocking");
        let began = Instant::now();
        let mut asked: Vec<Asked> = Vec::new();
        let mut oldest = 0;
        let mut ended: Option<Instant> = None;
        let mut buf = [0; 1500];
        loop {
            while let Ok(len) = socket.recv(&mut buf) {
                let id = usize::from(u16::from_be_bytes([buf[0], buf[1]]));
                if let Some(one) = asked.get_mut(id).filter(|one| one.answered == 0 && len > 12 && buf[2] & 2 == 0 && buf[7] == 1) {
                    one.answered = if one.when.elapsed() <= POLITE_PATIENCE { one.tries } else { 0 };
                }
            }
            let send = |id: usize| {
                let name = format!("{}.example.com.", char::from(b'a' + (id % 8) as u8));
                let _ = socket.send(&encode(&name, RecordType::A, id as u16, None));
            };
            while asked.get(oldest).is_some_and(|one| one.answered > 0 || one.tries == TRIES) {
                oldest += 1;
            }
            for (id, one) in asked.iter_mut().enumerate().skip(oldest) {
                if one.answered == 0 && one.tries < TRIES && one.when.elapsed() > AGAIN * one.tries {
                    one.tries += 1;
                    send(id);
                }
            }
            match ended {
                Some(ended) if ended.elapsed() > POLITE_PATIENCE => return asked,
                Some(_) => {}
                None if stop.load(Relaxed) => ended = Some(Instant::now()),
                None => {
                    let due = began.elapsed().as_micros() as u64 * POLITE_RATE / 1_000_000;
                    while (asked.len() as u64) < due {
                        send(asked.len());
                        asked.push(Asked { when: Instant::now(), tries: 1, answered: 0 });
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Opens `count` connections from many addresses and feeds each an octet now and then, and opens those again that were closed.
async fn slow_connections(server: SocketAddr, count: usize, stop: Arc<AtomicBool>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..count {
        let stop = stop.clone();
        tasks.spawn(async move {
            let source: SocketAddr = format!("127.60.{}.{}:0", n / 100 % 200, n % 100 + 1).parse().expect("an address");
            while !stop.load(Relaxed) {
                let Ok(socket) = tokio::net::TcpSocket::new_v4() else { return };
                if socket.bind(source).is_err() {
                    return;
                }
                if let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(3), socket.connect(server)).await {
                    for octet in [0, 30, 1, 2, 1, 0, 0, 1] {
                        if stop.load(Relaxed) || stream.write_all(&[octet]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn rss_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn flooder(n: usize) -> IpAddr {
    format!("127.50.{n}.1").parse().expect("an address")
}

/// Replies per second that the server gives under its share, to a client without limits.
fn capacity(server: &Meridian) -> u64 {
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Several prefixes, so that all threads are busy.
    let sources = (0..8).map(|n| format!("127.99.{n}.1").parse().expect("an address")).collect();
    let sender = sender(server.dns, sources, 0, stop.clone(), sent);
    std::thread::sleep(Duration::from_millis(300));
    let (from, began) = (metric(server, "meridian_replies_total{transport=\"udp\""), Instant::now());
    std::thread::sleep(Duration::from_millis(1500));
    let (to, time) = (metric(server, "meridian_replies_total{transport=\"udp\""), began.elapsed());
    stop.store(true, Relaxed);
    sender.join().expect("the sender ends");
    (to - from) * 1000 / time.as_millis().max(1) as u64
}

fn flood(plan: &Plan) -> Figures {
    let config = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n{}", plan.limits);
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", ZONE)]);
    let pid = server.pid();
    let throttle = Throttle::new(pid, plan.share);
    let capacity = capacity(&server);
    // What is left of measuring waits in the receive buffers: a prompt answer from each thread's socket says that it is gone.
    let began = Instant::now();
    for n in 0..8 {
        let source = format!("127.98.{n}.1").parse().expect("an address");
        while until_answered(server.dns, source, Instant::now()) > Duration::from_millis(45) && began.elapsed() < Duration::from_secs(15) {}
    }
    let rss_before_kib = rss_kib(pid, "VmRSS");
    let dropped_before = metric(&server, "meridian_udp_kernel_dropped_total");

    let (stop_flood, stop_polite) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let slow = runtime.spawn(slow_connections(server.dns, plan.connections, stop_flood.clone()));
    let polite = polite(server.dns, stop_polite.clone());
    std::thread::sleep(Duration::from_millis(500));
    let target = plan.times * capacity;
    let sent: Vec<Arc<AtomicU64>> = (0..2).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let flood_began = Instant::now();
    let senders: Vec<JoinHandle<()>> = sent
        .iter()
        .enumerate()
        .map(|(half, sent)| {
            let sources = (0..FLOODERS / 2).map(|n| flooder(half * FLOODERS / 2 + n)).collect();
            sender(server.dns, sources, (target / 2).max(1), stop_flood.clone(), sent.clone())
        })
        .collect();
    std::thread::sleep(plan.time);
    stop_flood.store(true, Relaxed);
    let (tcp_open, blocked) = (metric(&server, "meridian_tcp_connections"), metric(&server, "meridian_udp_blocked_prefixes"));
    senders.into_iter().for_each(|sender| sender.join().expect("it ends"));
    let flood_ended = Instant::now();
    let flood = sent.iter().map(|sent| sent.load(Relaxed)).sum::<u64>() * 1000 / flood_began.elapsed().as_millis().max(1) as u64;

    let forgiven = until_answered(server.dns, flooder(3), flood_ended);
    std::thread::sleep(Duration::from_millis(2200).saturating_sub(flood_ended.elapsed()));
    stop_polite.store(true, Relaxed);
    let asked = polite.join().expect("it ends");
    let within = |from: Instant, to: Instant| {
        let part = asked.iter().filter(|one| (from..to).contains(&one.when));
        (part.clone().count(), part.clone().filter(|one| one.answered > 0).count(), part.filter(|one| one.answered == 1).count())
    };
    let (during, answered, at_once) = within(flood_began, flood_ended);
    let second = Duration::from_secs(1);
    let by_second = (0..plan.time.as_secs() as u32).map(|n| within(flood_began + n * second, flood_began + (n + 1) * second).2).collect();
    let after = within(flood_ended + second, flood_ended + 2 * second);
    let _ = runtime.block_on(slow);
    let figures = Figures {
        capacity,
        flood,
        asked: during,
        answered,
        at_once,
        by_second,
        after: (after.2, after.0),
        forgiven,
        rss_before_kib,
        rss_peak_kib: rss_kib(pid, "VmHWM"),
        kernel_dropped: metric(&server, "meridian_udp_kernel_dropped_total") - dropped_before,
        limited: metric(&server, "meridian_rate_limited_total"),
        tcp_accepted: metric(&server, "meridian_tcp_accepted_total"),
        tcp_open,
        blocked,
    };
    drop(server);
    drop(throttle);
    figures
}

/// Asks from `source` until an answer comes; how long after `since`.
fn until_answered(server: SocketAddr, source: IpAddr, since: Instant) -> Duration {
    let socket = socket(source, server);
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut buf = [0; 512];
    while since.elapsed() < Duration::from_secs(10) {
        let _ = socket.send(&encode("a.example.com.", RecordType::A, 4711, None));
        if socket.recv(&mut buf).is_ok_and(|_| buf[..2] == 4711u16.to_be_bytes() && buf[7] == 1) {
            break;
        }
    }
    since.elapsed()
}

/// Seconds of the long version, by `scripts/flood.sh`; without them a short one.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_polite_client_is_answered_during_a_flood() {
    let long = setting("MERIDIAN_FLOOD_SECONDS");
    let time = Duration::from_secs(long.unwrap_or(3));
    let connections = setting("MERIDIAN_FLOOD_CONNECTIONS").unwrap_or(if long.is_some() { 10_000 } else { 500 }) as usize;
    if long.is_some() {
        // What happens without limits, for comparison.
        let plain = flood(&Plan { limits: "", time: time / 2, connections, share: 5, times: 10 });
        println!("without limits: {plain:?}");
    }
    let found = flood(&Plan { limits: LIMITS, time, connections, share: 5, times: 10 });
    println!("with limits:    {found:?}");
    assert!(found.answered * 100 >= found.asked * 99, "{found:?}");
    assert!(found.after.0 * 100 >= found.after.1 * 99, "{found:?}");
    assert!(found.forgiven <= Duration::from_secs(1), "{found:?}");
    // docs/rate-limiting.md: buckets, tables and connections.
    assert!(found.rss_peak_kib <= found.rss_before_kib + 64 * 1024, "{found:?}");
}
