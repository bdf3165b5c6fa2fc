//! The same load with and without a disturbance, in turn: the server in a process of its own, pinned to a core, the questions from another.
//!
//! The server is the program's own parts (listeners, writer, runtime); in place of the prober stands a thread that reports results of checks, as
//! the prober does, through the same channel: a thousand real connections per second would cost more than what is to be measured.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use meridian::config::OsFiles;
use meridian::control::clock::Clock;
use meridian::control::handle::{Handle, channel};
use meridian::control::load as files;
use meridian::control::writer::{Start, Writer};
use meridian::serve::Listeners;
use meridian::store::{Saved, Store};
use meridian::telemetry::Registry;
use meridian::world::{Published, World};

use crate::load::{self, Outcome};
use crate::measure::Flipper;
use crate::zones;

const SERVER_CORE: &str = "0";
const ASKING_CORE: &str = "1";
const FLIPS_PER_S: u64 = 1000;

/// What is done while the load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Flips,
    Reload,
    Geo,
}

/// Serves `dir` and does what standard input says: `flips N`, `reload`, nothing more: the end.
pub(crate) fn serve(dir: &Path) {
    let runtime = meridian::app::runtime().expect("a runtime");
    let config_path = dir.join("meridian.toml");
    let build = files::build(&OsFiles, &config_path, &files::Previous::default());
    assert!(!build.has_errors(), "{:?}", build.problems.first());
    runtime.block_on(async {
        let settings = build.settings.clone().expect("settings");
        let (listeners, _) = Listeners::bind(&settings.listen, 1).expect("a free port");
        let published = Arc::new(Published::new(World::default()));
        let (handle, ends) = channel(published.clone());
        let registry = Registry::new();
        let store = Store::none("measuring");
        let writer = Writer::start(Start {
            ends,
            config_path,
            build,
            store,
            saved: Saved::default(),
            registry: registry.clone(),
            clock: Clock::machine(),
            look: |_| Vec::new(),
            degraded: Vec::new(),
        });
        let serving = listeners.start(published, registry, &tokio::runtime::Handle::current()).expect("threads");
        tokio::spawn(writer.run());
        let pace = Arc::new(AtomicU64::new(0));
        tokio::spawn(flip(handle.clone(), pace.clone()));
        println!("ready {}", serving.addresses()[0]);
        let (told, mut orders) = tokio::sync::mpsc::channel(8);
        std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).for_each(|line| drop(told.blocking_send(line))));
        while let Some(order) = orders.recv().await {
            match order.split_once(' ') {
                Some(("flips", number)) => pace.store(number.parse().expect("a number"), Relaxed),
                _ => {
                    let start = Instant::now();
                    let report =
                        handle.reload(meridian::control::api::ReloadBody::default(), meridian::control::Who::signal()).await.expect("a report");
                    assert!(!report.failed, "{:?}", report.problems.first());
                    let taken = report.zones.iter().filter(|zone| zone.outcome == "taken").count();
                    println!("reloaded {:.3} {taken}", start.elapsed().as_secs_f64());
                    continue;
                }
            }
            println!("done");
        }
    });
    runtime.shutdown_background();
}

/// Reports results of checks at a pace, from the runtime that the prober would run on.
async fn flip(handle: Handle, pace: Arc<AtomicU64>) {
    let checks = handle.checks().borrow().clone();
    let mut flipper = Flipper::new(checks.clone());
    for spec in checks.iter() {
        let _ = handle
            .observe(meridian::control::api::Observation { spec: spec.clone(), outcome: Ok(()), took: Duration::ZERO, certificate: None, poor: None })
            .await;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        for _ in 0..pace.load(Relaxed) / 1000 {
            let _ = handle.observe(flipper.next()).await;
        }
    }
}

/// The server as a process of its own.
struct Server {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(program)
            .arg("serve")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset (util-linux)");
        let (orders, said) = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")));
        let mut server = Server { child, orders, said, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        server.addr = server.hear().strip_prefix("ready ").expect("an address").parse().expect("an address");
        server
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("it listens");
    }

    fn resident_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1000
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `pairs` of quiet and disturbed runs of `seconds` for each disturbance, at `rate` queries per second (0: closed loop), and prints medians.
pub(crate) fn run(dir: &Path, count: u64, pairs: usize, seconds: u64, rate: u64) {
    let _ = Command::new("taskset").args(["-cp", ASKING_CORE, &std::process::id().to_string()]).stdout(Stdio::null()).status();
    let start = Instant::now();
    let mut server = Server::start(dir);
    println!("serving after {:.1} s, {} MB resident", start.elapsed().as_secs_f64(), server.resident_mb());
    let time = Duration::from_secs(seconds);
    load::run(server.addr, count, rate, Duration::from_secs(2));
    let mut octet = 1;
    for disturbance in [Disturbance::Flips, Disturbance::Reload, Disturbance::Geo] {
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        let mut told = Vec::new();
        for pair in 0..pairs {
            // The order changes from pair to pair.
            for is_disturbed in [pair % 2 == 0, pair % 2 != 0] {
                if !is_disturbed {
                    quiet.push(load::run(server.addr, count, rate, time));
                    continue;
                }
                octet = octet % 200 + 1;
                begin(&mut server, dir, disturbance, octet);
                disturbed.push(load::run(server.addr, count, rate, time));
                told.push(end(&mut server, disturbance));
            }
        }
        println!("{disturbance:?}: {pairs} pairs of {seconds} s at {rate} queries per second; the server said: {}", told.join("; "));
        for (word, runs) in [("quiet", &quiet), ("disturbed", &disturbed)] {
            println!("  {word:<10} {}", summary(runs));
        }
    }
    println!("{} MB resident at the end", server.resident_mb());
}

fn begin(server: &mut Server, dir: &Path, disturbance: Disturbance, octet: u8) {
    match disturbance {
        Disturbance::Flips => {
            server.tell(&format!("flips {FLIPS_PER_S}"));
            server.hear();
        }
        Disturbance::Reload => {
            std::fs::write(dir.join("zones/p0.test.zone"), zones::plain_zone(octet)).expect("a file");
            server.tell("reload");
        }
        Disturbance::Geo => {
            let (now, other, spare) = (dir.join("city.mmdb"), dir.join("other.mmdb"), dir.join("spare.mmdb"));
            std::fs::rename(&now, &spare).expect("a file");
            std::fs::rename(&other, &now).expect("another database");
            std::fs::rename(&spare, &other).expect("a file");
            server.tell("reload");
        }
    }
}

fn end(server: &mut Server, disturbance: Disturbance) -> String {
    if disturbance == Disturbance::Flips {
        server.tell("flips 0");
    }
    server.hear()
}

fn summary(runs: &[Outcome]) -> String {
    let median = |of: fn(&Outcome) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[0], all[all.len() - 1])
    };
    let words = |name: &str, (middle, least, most): (f64, f64, f64)| format!("{name} {middle:.0} ({least:.0}–{most:.0})");
    let lost: u64 = runs.iter().map(|run| run.lost).sum();
    let wrong: u64 = runs.iter().map(|run| run.wrong).sum();
    format!(
        "{}/s, µs: {}, {}, {}, {}; lost {lost}, wrong {wrong}",
        words("", median(|run| run.per_s)),
        words("p50", median(|run| run.p50)),
        words("p99", median(|run| run.p99)),
        words("p99.9", median(|run| run.p999)),
        words("worst", median(|run| run.worst))
    )
}
