//! The engine in process, and the work behind it: `cargo bench`. Without sockets, so what is measured is ours alone.
//!
//! Steering is measured with real ranges when Debian's `tor-geoipdb` is installed, else with the sample database. `MERIDIAN_BENCH_BIG=0` leaves
//! out the zone of a million names, which takes most of the time and memory.
#![allow(missing_docs, clippy::expect_used)]

mod workloads;
mod worlds;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use meridian::answer::{Asked, Dice, Outcome, Transport, answer};
use meridian::geo::build::Input;
use meridian::geo::{ClassMap, Table, build, writer};
use meridian::policy::plan;
use meridian::world::World;
use workloads::Queries;
use worlds::{RESOLVER, build_of, sample_database, world_of};

/// Asks one query after another, over and over.
fn ask(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, world: &World, queries: &Queries) {
    let (mut reply, mut dice) = (vec![0u8; 4096], Dice::new(1_760_000_000, 1));
    let mut packets = queries.iter().cycle();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let packet = packets.next().unwrap_or_default();
            let outcome = answer(world, &Asked { packet, source: RESOLVER, transport: Transport::Udp, keepalive: 0 }, &mut dice, &mut reply);
            assert!(matches!(outcome, Outcome::Reply(_)));
            black_box(&mut reply);
        });
    });
}

fn static_answers(c: &mut Criterion) {
    let world = worlds::of_static_names(1000);
    let mut group = c.benchmark_group("answer");
    ask(&mut group, "static", &world, &workloads::hits("names.test", 1000));
    ask(&mut group, "nxdomain", &world, &workloads::misses("names.test"));
    ask(&mut group, "nodata", &world, &workloads::nodata("names.test", 1000));
    for (name, queries) in workloads::special() {
        ask(&mut group, name, &world, &queries);
    }
}

fn steered_answers(c: &mut Criterion) {
    let (database, source) = database();
    eprintln!("geo data: {source}");
    let world = worlds::steered(&database);
    for steering in world.zones.iter().flat_map(|zone| zone.steerings.iter()) {
        eprintln!("class map: {} classes, {} ranges, {} kB", steering.plans.len(), steering.map.len(), steering.map.memory_bytes() / 1000);
    }
    let mut group = c.benchmark_group("answer");
    for (name, queries) in workloads::steered() {
        ask(&mut group, name, &world, &queries);
    }
}

fn large_zone(c: &mut Criterion) {
    if std::env::var_os("MERIDIAN_BENCH_BIG").is_some_and(|big| big == "0") {
        return;
    }
    let names = workloads::names_zone(1_000_000);
    let before = resident_kb();
    let start = Instant::now();
    let world = world_of(&[("zones/large.test.zone", &names)], None);
    eprintln!(
        "zone of 1,000,000 names, 2,000,000 records: {:.1} s to build, {} MB more resident",
        start.elapsed().as_secs_f64(),
        (resident_kb() - before) / 1000
    );
    drop(names);
    let mut group = c.benchmark_group("answer_million_names");
    ask(&mut group, "static", &world, &workloads::hits("large.test", 1_000_000));
    ask(&mut group, "nxdomain", &world, &workloads::misses("large.test"));
}

fn building(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.sample_size(10);
    let (database, _) = database();
    let table = Table::read([("geo.mmdb", database.as_slice())]).expect("a database of our own");
    group.bench_function("class_map", |bencher| {
        bencher.iter(|| ClassMap::build(&table, &[], None, &mut |facts, _| facts.continent.map_or(0, u16::from_be_bytes)).map(|map| map.len()))
    });
    let zone = workloads::names_zone(50_000);
    let files = [("meridian.toml", workloads::config(false).as_bytes()), ("zones/names.test.zone", zone.as_bytes())];
    group.bench_function("zone_of_100k_records", |bencher| bencher.iter(|| build_of(&files).good.len()));
    let world = world_of(&[("zones/policies.test.toml", &policies_zone(1000))], Some(&sample_database()));
    group.bench_function("plans_of_1000_steered_names", |bencher| {
        bencher.iter(|| world.zones.iter().map(|zone| plans_of(zone)).sum::<usize>());
    });
}

/// A zone with so many steered names, each with a policy of its own: what a change of health has to work through.
fn policies_zone(names: u32) -> String {
    let mut text = String::from("[zone]\nname = \"policies.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool]\n");
    for n in 0..5 {
        text.push_str(&format!("r{n} = {{ endpoints = [\"192.0.2.{}\", \"2001:db8::{n}\"] }}\n", 10 + n));
    }
    for n in 0..names {
        text.push_str(&format!(
            "[steer.s{n}]\npolicy = \"geo\"\nttl = {}\ndefault = \"r0\"\nrules = [{{ geo = [\"EU\", \"AF\"], to = [\"r1\", \"r2\"] }}, {{ geo = [\"AS\"], to = [\"r3\", \"r{}\"] }}]\n",
            10 + n % 50,
            n % 3
        ));
    }
    text
}

/// Decides everything afresh, as `control` does when the health of an endpoint changes.
fn plans_of(zone: &meridian::world::ZoneWorld) -> usize {
    let mut made = 0;
    for (steer, name) in zone.model.steers.iter().zip(zone.steered.iter()) {
        let classes = &zone.steerings[name.steering as usize].classes;
        for class in classes.iter() {
            black_box(plan::plan(&zone.model, steer, steer.ttl, class, &zone.view, None, &mut |_| {}));
            made += 1;
        }
    }
    made
}

/// A database of countries, and where it is from.
fn database() -> (Vec<u8>, &'static str) {
    let (Ok(v4), Ok(v6)) = (std::fs::read_to_string("/usr/share/tor/geoip"), std::fs::read_to_string("/usr/share/tor/geoip6")) else {
        return (sample_database(), "the sample database (install tor-geoipdb for real ranges)");
    };
    let mut text = String::from("start,end,country\n");
    for line in v4.lines().chain(v6.lines()).filter(|line| !line.starts_with('#') && !line.ends_with("??")) {
        let mut fields =
            line.split(',').map(|field| field.parse::<u32>().map_or_else(|_| field.to_owned(), |number| Ipv4Addr::from(number).to_string()));
        if let (Some(first), Some(last), Some(country)) = (fields.next(), fields.next(), fields.next()) {
            text.push_str(&format!("{first},{last},{country}\n"));
        }
    }
    let built = build::build(&[Input { name: "tor-geoipdb", bytes: text.as_bytes() }], &mut |_| {}).expect("tor-geoipdb's ranges");
    let about = writer::About { database_type: "Meridian-Country".into(), description: "tor-geoipdb".into(), build_unix_s: 0 };
    let octets = writer::write(&built.table, &about).expect("small enough");
    (octets, "tor-geoipdb")
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(40)
}

criterion_group! { name = engine; config = quick(); targets = static_answers, steered_answers, building, large_zone }
criterion_main!(engine);
