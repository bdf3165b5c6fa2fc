//! Load, memory and flips, in process, against the real writer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian::config::OsFiles;
use meridian::control::api::{CheckSpec, Observation};
use meridian::control::clock::Clock;
use meridian::control::handle::{Handle, channel};
use meridian::control::load::{self, Previous};
use meridian::control::writer::{Start, Writer};
use meridian::health::Failure;
use meridian::store::{Saved, Store};
use meridian::telemetry::Registry;
use meridian::world::{Published, World};

use crate::geo::Chance;

/// Flips one after the other, each waited for.
const SINGLE_FLIPS: usize = 300;
/// For so long flips come at [`FLIPS_PER_S`].
const STEADY: Duration = Duration::from_secs(5);
const FLIPS_PER_S: u32 = 1000;

pub(crate) fn run(dir: &Path) {
    let start = Instant::now();
    let build = load::build(&OsFiles, &dir.join("meridian.toml"), &Previous::default());
    let loaded = start.elapsed();
    assert!(!build.has_errors(), "{:?}", build.problems.iter().take(3).collect::<Vec<_>>());
    println!("load: {:.2} s, resident {} MB, at most {} MB", loaded.as_secs_f64(), status_kb("VmRSS:") / 1000, status_kb("VmHWM:") / 1000);
    let (mut maps, mut shared) = (BTreeMap::new(), BTreeMap::new());
    let (mut roots, mut classes) = (0, 0);
    for root in build.good.iter().flat_map(|zone| &zone.parts.roots) {
        roots += 1;
        classes += root.classes.len();
        maps.insert(Arc::as_ptr(&root.map), (root.map.len(), root.map.memory_bytes()));
        shared.extend(root.map.shared_bytes());
    }
    let (ranges, octets) = maps.values().fold((0, 0), |sum, map| (sum.0 + map.0, sum.1 + map.1));
    println!(
        "{} zones, {roots} policies with {classes} classes, {} class maps: {ranges} ranges, {:.1} MB, {:.0} kB each, and {:.1} MB in {} shared tables",
        build.good.len(),
        maps.len(),
        octets as f64 / 1e6,
        octets as f64 / 1e3 / maps.len().max(1) as f64,
        shared.values().sum::<usize>() as f64 / 1e6,
        shared.len()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let published = Arc::new(Published::new(World::default()));
        let (handle, ends) = channel(published.clone());
        let start = Instant::now();
        let config_path = dir.join("meridian.toml");
        let store = Store::none("measuring");
        let writer = Writer::start(Start {
            ends,
            config_path,
            build,
            store,
            saved: Saved::default(),
            registry: Registry::new(),
            clock: Clock::machine(),
            look: |_| Vec::new(),
            degraded: Vec::new(),
        });
        println!("first world: {:.3} s, resident {} MB", start.elapsed().as_secs_f64(), status_kb("VmRSS:") / 1000);
        let writing = tokio::spawn(writer.run());
        let measuring = tokio::task::spawn_blocking(move || flips(&handle, &published));
        measuring.await.expect("no panic");
        writing.abort();
    });
}

fn flips(handle: &Handle, published: &Published) {
    let checks = handle.checks().borrow().clone();
    if checks.is_empty() {
        return;
    }
    let mut flipper = Flipper::new(checks);
    // The first results decide: everything up, nothing ramping.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let all = Instant::now();
    runtime.block_on(async {
        for spec in flipper.checks.iter() {
            let _ = handle.observe(Observation { spec: spec.clone(), outcome: Ok(()), took: Duration::ZERO, certificate: None, poor: None }).await;
        }
    });
    println!("{} first results one after the other: {:.2} s", flipper.checks.len(), all.elapsed().as_secs_f64());
    let mut times = Vec::new();
    for _ in 0..SINGLE_FLIPS {
        #[allow(clippy::disallowed_methods, reason = "so that each flip is one by itself")]
        std::thread::sleep(Duration::from_millis(20));
        let before = published.with_world(|world| world.generation);
        let start = Instant::now();
        let _ = runtime.block_on(handle.observe(flipper.next()));
        while published.with_world(|world| world.generation) == before {
            std::thread::yield_now();
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("one flip until it is published: median {:?}, worst of {} {:?}", times[times.len() / 2], times.len(), times[times.len() - 1]);
    let (cpu, first, start) = (cpu_ms(), published.with_world(|world| world.generation), Instant::now());
    let (mut sent, mut slowest) = (0, Duration::ZERO);
    runtime.block_on(async {
        while start.elapsed() < STEADY {
            let due = start + Duration::from_secs(1) / FLIPS_PER_S * sent;
            #[allow(clippy::disallowed_methods, reason = "it keeps a pace")]
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            let _ = handle.observe(flipper.next()).await;
            slowest = slowest.max(asked.elapsed());
            sent += 1;
        }
    });
    let took = start.elapsed().as_secs_f64();
    let worlds = published.with_world(|world| world.generation) - first;
    println!(
        "{:.0} flips per second: {:.1} % of a core, {:.0} worlds per second, slowest reply {slowest:?}, resident {} MB, at most {} MB",
        f64::from(sent) / took,
        (cpu_ms() - cpu) as f64 / took / 10.0,
        worlds as f64 / took,
        status_kb("VmRSS:") / 1000,
        status_kb("VmHWM:") / 1000
    );
}

/// Checks that fail and pass in turn, in no order.
pub(crate) struct Flipper {
    pub(crate) checks: Arc<Vec<CheckSpec>>,
    down: Vec<bool>,
    chance: Chance,
}

impl Flipper {
    pub(crate) fn new(checks: Arc<Vec<CheckSpec>>) -> Flipper {
        Flipper { down: vec![false; checks.len()], checks, chance: Chance(1) }
    }

    pub(crate) fn next(&mut self) -> Observation {
        let at = self.chance.below(self.checks.len() as u64) as usize;
        self.down[at] = !self.down[at];
        let outcome = if self.down[at] { Err(Failure::Connect("refused".into())) } else { Ok(()) };
        Observation { spec: self.checks[at].clone(), outcome, took: Duration::ZERO, certificate: None, poor: None }
    }
}

fn status_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Time of all threads on processors.
fn cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // User and system time, in ticks of 10 ms.
    (ticks(11) + ticks(12)) * 10
}
