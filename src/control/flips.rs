//! A change makes again what it can alter and shares the rest; what it replaces is freed by nobody who answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::api::Observation;
use super::clock::Clock;
use super::handle::channel;
use super::load::{self, Build, Previous};
use super::reaper::Reaper;
use super::writer::{Start, Writer};
use crate::config::MemoryFiles;
use crate::health::{Failure, Outcome};
use crate::policy::plan::Plan;
use crate::store::{Saved, Store};
use crate::sys::counting::{allocations_in, frees_in};
use crate::telemetry::Registry;
use crate::world::{Published, World};

/// Steered names of a zone: each with a TTL of its own, so that each has its own plans.
const NAMES: usize = 100;

/// A zone with four pools; name `sN` goes to pool `N % 4`, and every tenth to all of them in order.
fn zone(name: &str) -> String {
    let mut text = format!("[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n");
    text.push_str("[monitor.m]\ntcp = true\nport = 80\nfall = 1\nrise = 1\n[pool]\n");
    let octet = name.len();
    (0..4).for_each(|n| text.push_str(&format!("p{n} = {{ endpoints = [\"10.{octet}.0.{n}\", \"10.{octet}.1.{n}\"], monitor = \"m\" }}\n")));
    for n in 0..NAMES {
        let to = if n % 10 == 0 { "\"p0\", \"p1\", \"p2\", \"p3\"".to_string() } else { format!("\"p{}\"", n % 4) };
        text.push_str(&format!("[steer.s{n:02}]\npolicy = \"failover\"\nto = [{to}]\nttl = {}\n", 30 + n));
    }
    text
}

fn build(zones: &[(String, String)]) -> Build {
    let mut files: BTreeMap<PathBuf, Arc<[u8]>> = BTreeMap::from([("meridian.toml".into(), Arc::from(*b""))]);
    files.extend(zones.iter().map(|(name, text)| (PathBuf::from(format!("zones/{name}")), Arc::from(text.as_bytes()))));
    let build = load::build(&MemoryFiles(files), Path::new("meridian.toml"), &Previous::default());
    assert!(!build.has_errors() && build.bad.is_empty(), "{:?}", build.problems.first());
    build
}

/// A writer over one steered zone, another one, and so many static ones; everything checked once and up.
fn start(others: usize) -> (Writer, Arc<Published>) {
    let small = "$TTL 300\n@ SOA ns1 h 1 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";
    let mut zones = vec![("a.test.toml".into(), zone("a.test")), ("other.test.toml".into(), zone("other.test"))];
    zones.extend((0..others).map(|n| (format!("z{n}.test.zone"), small.to_string())));
    let published = Arc::new(Published::new(World::default()));
    let (_, ends) = channel(published.clone());
    let (config_path, store, saved) = ("meridian.toml".into(), Store::none("a test"), Saved::default());
    let build = build(&zones);
    // What the writer would do in the background is not awaited.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _here = runtime.enter();
    let mut writer = Writer::start(Start {
        ends,
        config_path,
        build,
        store,
        saved,
        registry: Registry::new(),
        degraded: Vec::new(),
        clock: Clock::machine(),
        look: |_| Vec::new(),
    });
    for address in ["10.6", "10.10"].iter().flat_map(|net| (0..8).map(move |n| format!("{net}.{}.{}", n / 4, n % 4))) {
        observe(&mut writer, &address, Ok(()));
    }
    writer.publish();
    (writer, published)
}

fn observe(writer: &mut Writer, address: &str, outcome: Outcome) {
    let parts = writer.zones.values().flat_map(|zone| zone.taken.parts.checks.iter().flatten().flatten());
    let address = super::api::CheckTarget::Address(address.parse().expect("an address"));
    let spec = parts.into_iter().find(|spec| spec.target == address).expect("a check").clone();
    writer.observe(&Observation { spec, outcome, took: Duration::ZERO, certificate: None, poor: None }, oneshot::channel().0);
}

/// The plans of every steered name, by zone and name.
fn plans(published: &Published) -> BTreeMap<(String, usize), Arc<[Plan]>> {
    published.with_world(|world| {
        let zones = world.zones.iter().flat_map(|zone| zone.steered.iter().enumerate().map(move |(at, name)| (zone, at, name)));
        zones.map(|(zone, at, name)| ((zone.model.name.to_string(), at), zone.steerings[name.steering as usize].plans.clone())).collect()
    })
}

#[test]
fn a_flip_makes_only_the_plans_of_its_endpoint_again() {
    let (mut writer, published) = start(3);
    for (address, outcome, pool) in [
        ("10.6.0.1", Err(Failure::Connect("refused".into())), Some(1)),
        ("10.6.1.1", Err(Failure::Connect("refused".into())), Some(1)),
        ("10.6.1.1", Err(Failure::Connect("again".into())), None),
        ("10.6.0.3", Err(Failure::Connect("refused".into())), Some(3)),
        ("10.6.0.1", Ok(()), Some(1)),
    ] {
        let (before, generation) = (plans(&published), writer.generation);
        observe(&mut writer, address, outcome);
        writer.publish();
        let after = plans(&published);
        assert_eq!(writer.generation - generation, u64::from(pool.is_some()), "{address}: without a change there is no new world");
        for ((zone, at), plans) in &after {
            // A name that has an order of pools stays on the first, whose health has not changed.
            let uses = zone == "a.test." && at % 10 != 0 && Some(at % 4) == pool;
            assert_eq!(Arc::ptr_eq(plans, &before[&(zone.clone(), *at)]), !uses, "{address}: {zone} s{at:02}");
        }
        assert_eq!(after.len(), 2 * NAMES);
    }
}

#[test]
fn other_zones_are_the_same_after_a_flip() {
    let (mut writer, published) = start(600);
    let zones = |published: &Published| published.with_world(|world| world.zones.iter().cloned().collect::<Vec<_>>());
    let before = zones(&published);
    observe(&mut writer, "10.6.0.2", Err(Failure::Status(500)));
    writer.publish();
    let changed: Vec<String> =
        before.iter().zip(zones(&published)).filter(|(was, is)| !Arc::ptr_eq(was, is)).map(|(was, _)| was.model.name.to_string()).collect();
    assert_eq!(changed, ["a.test."]);
}

#[test]
fn what_a_flip_allocates_is_out_of_proportion_to_the_zones() {
    let flip = |others: usize| {
        let (mut writer, _published) = start(others);
        // The first finds room for later ones.
        observe(&mut writer, "10.6.0.2", Err(Failure::Status(500)));
        writer.publish();
        let parts = writer.zones.values().flat_map(|zone| zone.taken.parts.checks.iter().flatten().flatten());
        let spec = parts.into_iter().find(|spec| spec.target == super::api::CheckTarget::Address([10, 6, 0, 1].into())).expect("a check").clone();
        let observation = Observation { spec, outcome: Err(Failure::Status(500)), took: Duration::ZERO, certificate: None, poor: None };
        let reply = oneshot::channel().0;
        allocations_in(|| {
            writer.observe(&observation, reply);
            writer.publish();
        })
    };
    let (few, many) = (flip(3), flip(3000));
    // 23 names have their plans made again.
    assert!(few <= 250, "{few} allocations");
    assert!(many <= few + 50, "{many} allocations with 3,000 zones, {few} with 3");
}

#[test]
fn policies_of_one_shape_share_their_map() {
    let zone = |name: &str, code: &str, pools: [&str; 2]| {
        let [a, b] = pools;
        format!(
            "[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool]\n{a} = {{ endpoints = [\"192.0.2.1\"] }}\n{b} = {{ endpoints = [\"192.0.2.2\"] }}\n\
             [steer.x]\npolicy = \"geo\"\nrules = [{{ net = [\"10.0.0.0/8\"], to = [\"{a}\"] }}, {{ geo = [\"{code}\"], to = [\"{b}\"] }}]\ndefault = \"{a}\"\n"
        )
    };
    let zones = [
        ("a.test.toml".into(), zone("a.test", "EU", ["fra", "iad"])),
        ("b.test.toml".into(), zone("b.test", "EU", ["one", "two"])),
        ("c.test.toml".into(), zone("c.test", "NA", ["one", "two"])),
    ];
    let build = build(&zones);
    let root = |at: usize| &build.good[at].parts.roots[0];
    assert!(Arc::ptr_eq(&root(0).map, &root(1).map), "the same rules, other pools");
    assert_eq!(root(0).classes.len(), root(1).classes.len());
    let models = [0, 1].map(|at: usize| (&build.good[at].parts.model, root(at)));
    let first_pools = models.map(|(model, root)| {
        let firsts = root.classes.iter().filter_map(|class| class.step.children().first());
        firsts.map(|(child, _)| model.child_name(*child).to_string()).collect::<Vec<_>>()
    });
    let renamed: Vec<String> = first_pools[0].iter().map(|name| if name == "fra" { "one".into() } else { "two".into() }).collect();
    assert_eq!(renamed, first_pools[1], "each has its own pools in the same order");
}

#[test]
fn no_reader_frees_a_world() {
    let (published, stop) = (Arc::new(Published::new(World::default())), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (published, stop) = (published.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut freed = 0;
                while !stop.load(Relaxed) {
                    freed += frees_in(|| {
                        published.with_world(|world| {
                            std::thread::yield_now();
                            std::hint::black_box(world.generation);
                        });
                    });
                }
                freed
            })
        })
        .collect();
    let reaper = Reaper::start();
    for generation in 1..20_000 {
        reaper.world(published.publish(Arc::new(World { generation, ..World::default() })));
    }
    stop.store(true, Relaxed);
    let freed: u64 = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
    assert_eq!(freed, 0);
}
