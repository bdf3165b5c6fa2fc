//! The engine allocates nothing: every kind of query that the benchmark asks, over worlds made from files.

#[path = "../../benches/workloads.rs"]
mod workloads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::load;
use super::offline::world_of_files;
use crate::answer::{Asked, Dice, Outcome, Transport, answer, prepare};
use crate::config::MemoryFiles;
use crate::dns::QueryName;
use crate::sys::counting::allocations_in;
use crate::world::World;
use workloads::Queries;

const SAMPLE: &[u8] = include_bytes!("../../geodata/sample.mmdb");

fn world(zones: &[(&str, &str)]) -> World {
    let mut files = vec![("meridian.toml", workloads::config(true).as_bytes()), ("geo.mmdb", SAMPLE)];
    files.extend(zones.iter().map(|(path, text)| (*path, text.as_bytes())));
    let files: BTreeMap<PathBuf, Arc<[u8]>> = files.into_iter().map(|(path, octets)| (path.into(), octets.into())).collect();
    let build = load::build(&MemoryFiles(files), Path::new("meridian.toml"), &load::Previous::default());
    assert!(!build.has_errors() && build.bad.is_empty(), "{:?}", build.problems);
    world_of_files(build)
}

/// Asks the first hundred over both transports, at once and step by step; expects this code of each reply, some answer or authority in it, the same
/// octets either way, and no allocation.
fn check(world: &World, kind: &str, queries: &Queries, rcode: u8, answers: Option<u8>) {
    let (mut reply, mut dice) = (vec![0u8; crate::answer::MAX_REPLY_LEN], Dice::new(1_760_000_000, 7));
    let mut other_reply = reply.clone();
    for (packet, transport) in queries.iter().take(100).flat_map(|packet| [(packet, Transport::Udp), (packet, Transport::Tcp)]) {
        let asked = Asked { packet, source: std::net::IpAddr::from([192, 0, 2, 200]), transport, keepalive: 0 };
        let mut outcome = Outcome::Silence;
        let mut same_dice = dice.clone();
        let allocations = allocations_in(|| outcome = answer(world, &asked, &mut dice, &mut reply));
        assert_eq!(allocations, 0, "{kind}");
        let mut in_steps = Outcome::Silence;
        let allocations = allocations_in(|| {
            let mut name = QueryName::root();
            let mut prepared = prepare(world, &asked, &mut name);
            prepared.warm_node();
            prepared.warm_map(world);
            prepared.warm_ranges();
            in_steps = prepared.finish(world, &asked, &mut same_dice, &mut other_reply);
        });
        assert_eq!(allocations, 0, "{kind}");
        assert_eq!((outcome, &reply), (in_steps, &other_reply), "{kind}");
        assert!(matches!(outcome, Outcome::Reply(_)), "{kind}");
        assert_eq!(reply[3] & 0x0f, rcode, "{kind}");
        match answers {
            Some(answers) => assert_eq!(reply[7], answers, "{kind}"),
            None => assert_eq!((reply[7], reply[9] > 0), (0, true), "{kind}"),
        }
    }
}

#[test]
fn static_answers_allocate_nothing() {
    let world = world(&[("zones/names.test.zone", &workloads::names_zone(1000)), ("zones/special.test.zone", workloads::SPECIAL_ZONE)]);
    check(&world, "hit", &workloads::hits("names.test", 1000), 0, Some(1));
    check(&world, "nxdomain", &workloads::misses("names.test"), 3, None);
    check(&world, "nodata", &workloads::nodata("names.test", 1000), 0, None);
    for (kind, queries) in workloads::special() {
        let answers = match kind {
            "cname_chain_of_3" => Some(4),
            "wildcard" => Some(1),
            _ => None,
        };
        check(&world, kind, &queries, 0, answers);
    }
}

#[test]
fn steered_answers_allocate_nothing() {
    let world = world(&[("zones/steered.test.toml", &workloads::steered_zone())]);
    for (kind, queries) in workloads::steered() {
        check(&world, kind, &queries, 0, Some(if kind == "multivalue_8_of_64" { 8 } else { 1 }));
    }
}

#[test]
fn refusals_and_faults_allocate_nothing() {
    let world = world(&[("zones/special.test.zone", workloads::SPECIAL_ZONE)]);
    let mut reply = vec![0u8; crate::answer::MAX_REPLY_LEN];
    let (elsewhere, whole) = (workloads::misses("elsewhere.test"), workloads::misses("special.test"));
    let packet = whole.iter().next().unwrap_or_default();
    let cut = (0..packet.len()).map(|len| &packet[..len]);
    for packet in elsewhere.iter().take(10).chain(cut) {
        let asked = Asked { packet, source: std::net::IpAddr::from([192, 0, 2, 200]), transport: Transport::Udp, keepalive: 0 };
        let allocations = allocations_in(|| {
            answer(&world, &asked, &mut Dice::new(0, 0), &mut reply);
        });
        assert_eq!(allocations, 0, "{packet:?}");
    }
}
