//! Changes by operators at scale: the real program, its REST interface and its answers, from outside.
//!
//! ```text
//! 1 lay overlays from several connections         throughput, time of each
//! 2 one change, then another, DNS asked meanwhile from request to the first answer that shows it
//! 3 lists, judgements, reloads                    time of each
//! 4 as many answers as there are, with and without a hundred changes a second, in turn
//! ```

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::load;
use crate::zones::NAMES_PER_ZONE;

const POOLS: u64 = 10;
const ENDPOINTS: u64 = 10;
/// Connections that lay overlays.
const WRITERS: u64 = 8;
/// Changes that are watched until an answer shows them.
const WATCHED: u64 = 400;
/// Times that each call is made.
const CALLS: usize = 30;
const CHANGES_PER_S: u64 = 100;
const TURNS: usize = 4;
const TURN: Duration = Duration::from_secs(4);
/// In which the kernel tells processor time.
const TICKS_PER_S: f64 = 100.0;

/// Ten pools of ten endpoints, a hundred steered names, ten to a pool, a policy of two pools.
fn zone(at: u64) -> String {
    let mut text = format!("[zone]\nname = \"z{at}.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nplain.A = \"192.0.2.80\"\n");
    text.push_str("[region]\neu = {}\nus = {}\n[pool]\n");
    for pool in 0..POOLS {
        let endpoints: Vec<String> = (0..ENDPOINTS).map(|one| format!("\"{}\"", address(at, pool, one))).collect();
        let region = if pool % 2 == 0 { "eu" } else { "us" };
        writeln!(text, "p{pool} = {{ endpoints = [{}], region = \"{region}\" }}", endpoints.join(", ")).expect("a string");
    }
    text.push_str("[policy.two]\npolicy = \"weighted\"\nto = { p0 = 50, p1 = 50 }\n");
    for name in 0..NAMES_PER_ZONE {
        let to = (name % POOLS, (name + 1) % POOLS);
        writeln!(text, "[steer.n{name}]\npolicy = \"failover\"\nto = [\"p{}\", \"p{}\"]", to.0, to.1).expect("a string");
    }
    text
}

fn address(zone: u64, pool: u64, one: u64) -> String {
    let number = (zone * POOLS + pool) * ENDPOINTS + one;
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

/// The `n`th overlay: weights, TTLs, states and children in turn, spread over the zones.
fn overlay(n: u64, zones: u64) -> (String, String) {
    let (at, round) = (n % zones, n / zones);
    let (pool, one) = (round % POOLS, round / POOLS % ENDPOINTS);
    let endpoint = format!("z{at}.test/p{pool}/{}", address(at, pool, one));
    match n % 10 {
        0..4 => (endpoint, format!("{{\"weight\":{}}}", 2 + n % 100)),
        4..7 => (format!("z{at}.test/n{}", round % NAMES_PER_ZONE), format!("{{\"ttl\":{}}}", 11 + n % 19)),
        7 => (endpoint, "{\"state\":\"down\"}".into()),
        8 => (format!("z{at}.test/plain"), format!("{{\"ttl\":{}}}", 30 + n % 200)),
        _ => (format!("z{at}.test/policy:two/p{}", round % 2), format!("{{\"weight\":{}}}", 1 + n % 90)),
    }
}

/// A connection to the REST interface.
struct Rest {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Rest {
    fn new(admin: SocketAddr, token: &str) -> Rest {
        let stream = TcpStream::connect(admin).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Rest { stream: BufReader::new(stream), token: token.into() }
    }

    fn send(&mut self, method: &str, path: &str, body: &str) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes()).expect("it is taken");
    }

    fn reply(&mut self) -> (u16, Vec<u8>) {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a reply");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                status = code[..3].parse().expect("a status");
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (status, body)
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        self.send(method, path, body);
        self.reply()
    }

    fn lay(&mut self, (target, set): (String, String)) {
        let (status, body) = self.call("POST", "/v1/overlays", &format!("{{\"target\":\"{target}\",\"set\":{set},\"reason\":\"measuring\"}}"));
        assert_eq!(status, 201, "{target} {set}: {}", String::from_utf8_lossy(&body));
    }
}

struct Times(Vec<Duration>);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)].as_secs_f64() * 1e3;
        write!(f, "median {:.2} ms, 99 % {:.2} ms, worst of {} {:.2} ms", at(0.5), at(0.99), times.len(), at(1.0))
    }
}

struct Server {
    child: Child,
    dns: SocketAddr,
    admin: SocketAddr,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On these processors, as `taskset` writes them.
fn start(dir: &Path, cores: &str) -> Server {
    let begun = Instant::now();
    let mut child = Command::new("taskset")
        .args(["-c", cores, env!("CARGO_BIN_EXE_meridian"), "run", "--config"])
        .arg(dir.join("meridian.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("taskset and the program");
    let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("serving DNS on")).expect("it serves");
    std::thread::spawn(move || lines.for_each(drop));
    let after = |word: &str| {
        let rest = line.split(word).nth(1).expect("an address").trim_start();
        rest.split([',', ' ']).next().unwrap_or_default().parse().expect("an address")
    };
    println!("serving after {:.2} s, {} MB resident", begun.elapsed().as_secs_f64(), resident_mb(child.id()));
    let token = std::fs::read_to_string(dir.join("state/admin.token")).expect("a token").trim().to_string();
    Server { dns: after("serving DNS on"), admin: after("admin on"), token, child }
}

fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1000
}

/// Processor time of the thread that answers over UDP (proc(5)).
fn answering_ticks(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let lines = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let line = { lines }.find(|line| line.contains("(udp-0)")).expect("a thread that answers");
    line.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum()
}

/// The TTL of the first answer.
fn ttl(socket: &UdpSocket, zone: u64, name: u64) -> u32 {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [format!("n{name}"), format!("z{zone}"), "test".into()] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let mut reply = [0; 1500];
    loop {
        socket.send(&query).expect("it can be sent");
        // Lost, or late: asked again.
        let Ok(len) = socket.recv(&mut reply) else { continue };
        let at = query.len() + 6;
        assert!(len > at + 4, "an answer");
        return u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
    }
}

/// So many zones with a hundred endpoints each, and so many overlays; the program on these processors.
pub(crate) fn run(dir: &Path, zones: u64, overlays: u64, cores: &str) {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir.join("zones")).expect("a folder");
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[admin]\nlisten = \"127.0.0.1:0\"\nrequests_per_second = 0\n";
    std::fs::write(dir.join("meridian.toml"), config).expect("a file");
    for at in 0..zones {
        std::fs::write(dir.join(format!("zones/z{at}.test.toml")), zone(at)).expect("a file");
    }
    println!("{zones} zones, {} endpoints, {} steered names", zones * POOLS * ENDPOINTS, zones * NAMES_PER_ZONE);
    let server = start(dir, cores);
    watch("a change, nothing laid", &server, zones);
    lay(&server, zones, overlays);
    println!("{} MB resident", resident_mb(server.child.id()));
    watch("a change, all laid", &server, zones);
    calls(&server, dir);
    share(&server, zones);
    drop(server);
    let server = start(dir, cores);
    let (_, body) = Rest::new(server.admin, &server.token).call("GET", "/v1/overlays", "");
    println!("started again with them: a list of {} octets", body.len());
}

fn lay(server: &Server, zones: u64, overlays: u64) {
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut rest = Rest::new(server.admin, &server.token);
            std::thread::spawn(move || {
                let one = |n| {
                    let begun = Instant::now();
                    rest.lay(overlay(n, zones));
                    begun.elapsed()
                };
                (writer..overlays).step_by(WRITERS as usize).map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let times = writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect();
    let took = begun.elapsed().as_secs_f64();
    println!("{overlays} overlays over {WRITERS} connections: {took:.1} s, {:.0} per second; each {}", overlays as f64 / took, Times(times));
}

fn watch(what: &str, server: &Server, zones: u64) {
    let mut rest = Rest::new(server.admin, &server.token);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.dns).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let (mut seen, mut told, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..WATCHED {
        let (zone, name) = (n * 7919 % zones, n % NAMES_PER_ZONE);
        let wanted = 3 + n as u32 % 5;
        let target = format!("{{\"target\":\"z{zone}.test/n{name}\",\"set\":{{\"ttl\":{wanted}}},\"reason\":\"measuring\"}}");
        let begun = Instant::now();
        rest.send("POST", "/v1/overlays", &target);
        while ttl(&socket, zone, name) != wanted {}
        seen.push(begun.elapsed());
        let (status, body) = rest.reply();
        told.push(begun.elapsed());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        ids.push(body["overlay"]["id"].as_u64().or(body["id"].as_u64()).expect("an id"));
    }
    println!("{what}: first answer that shows it {}; reply {}", Times(seen), Times(told));
    for id in ids {
        assert_eq!(rest.call("DELETE", &format!("/v1/overlays/{id}"), "").0, 200);
    }
}

fn calls(server: &Server, dir: &Path) {
    let mut rest = Rest::new(server.admin, &server.token);
    let down = "{\"target\":\"z1.test/p3\",\"set\":{\"state\":\"down\"},\"reason\":\"measuring\",\"dry_run\":true}";
    let region = "{\"target\":\"region:eu\",\"set\":{\"state\":\"drain\"},\"reason\":\"measuring\",\"dry_run\":true}";
    let calls = [
        ("judge a pool", "POST", "/v1/overlays", down),
        ("judge a region in all zones", "POST", "/v1/overlays", region),
        ("list all overlays", "GET", "/v1/overlays", ""),
        ("overlays, a page", "GET", "/v1/overlays?limit=100", ""),
        ("differences", "GET", "/v1/overlays/diff", ""),
        ("endpoints, a page", "GET", "/v1/endpoints?limit=1000", ""),
        ("endpoints of a zone", "GET", "/v1/endpoints?zone=z5.test", ""),
        ("pools, a page", "GET", "/v1/pools?limit=100", ""),
        ("status", "GET", "/v1/status", ""),
        ("metrics", "GET", "/metrics", ""),
    ];
    for (what, method, path, body) in calls {
        let mut size = 0;
        let one = |_| {
            let begun = Instant::now();
            let (status, body) = rest.call(method, path, body);
            assert!(status < 300 || status == 404, "{path}: {status} {}", String::from_utf8_lossy(&body));
            size = body.len();
            begun.elapsed()
        };
        let times = Times((0..CALLS).map(one).collect());
        println!("{what}: {times} ({size} octets)");
    }
    let reload = |what: &str, body: &str, rest: &mut Rest| {
        let begun = Instant::now();
        let (status, body) = rest.call("POST", "/v1/reload", body);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        println!("{what}: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    };
    for _ in 0..3 {
        reload("reload, nothing changed", "{}", &mut rest);
    }
    for octet in 54..57 {
        std::fs::write(dir.join("zones/z0.test.toml"), zone(0).replace("192.0.2.53", &format!("192.0.2.{octet}"))).expect("a file");
        reload("reload by name, one changed", "{\"zone\":\"z0.test\"}", &mut rest);
    }
}

/// As many answers as there are, alone and beside changes.
fn share(server: &Server, zones: u64) {
    let (pace, made, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let changing = {
        let (pace, made, stop) = (pace.clone(), made.clone(), stop.clone());
        let mut rest = Rest::new(server.admin, &server.token);
        std::thread::spawn(move || {
            let mut n = 0;
            let mut due = Instant::now();
            while !stop.load(Relaxed) {
                let pace = pace.load(Relaxed);
                due += Duration::from_secs(1) / CHANGES_PER_S as u32;
                #[allow(clippy::disallowed_methods, reason = "it keeps a pace")]
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if pace == 0 {
                    due = Instant::now();
                    continue;
                }
                rest.lay(overlay(n * 13, zones));
                n += 1;
                made.fetch_add(1, Relaxed);
            }
        })
    };
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    // How much of a core the thread had that answers: where that is all of it, the program is what the answers wait for, else who asks.
    let mut had = [0, 0];
    for _ in 0..TURNS {
        for (on, results) in [(0, &mut idle), (1, &mut busy)] {
            pace.store(on, Relaxed);
            let before = answering_ticks(server.child.id());
            let outcome = load::run(server.dns, zones, 0, TURN);
            had[on as usize] += answering_ticks(server.child.id()) - before;
            assert_eq!((outcome.lost, outcome.wrong), (0, 0), "every query is answered");
            results.push(outcome.per_s);
        }
    }
    pace.store(0, Relaxed);
    stop.store(true, Relaxed);
    changing.join().expect("no panic");
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let changes = made.load(Relaxed) as f64 / (TURN.as_secs_f64() * TURNS as f64);
    let (idle, busy) = (median(idle), median(busy));
    println!("answers per second alone {idle:.0}, beside {changes:.0} changes per second {busy:.0}: {:.3}", busy / idle);
    let share = |ticks: u64| 100.0 * ticks as f64 / TICKS_PER_S / (TURN.as_secs_f64() * TURNS as f64);
    println!("the thread that answers had {:.0} % of a core alone, {:.0} % beside them", share(had[0]), share(had[1]));
}
