//! The fuzz targets without a fuzzer: every body over its seeds and a fixed number of simple mutations of them, the same in every run; and what
//! fuzzing found, so that it stays fixed. `scripts/fuzz.sh` fuzzes in earnest.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use meridian::answer::Dice;
use meridian::geo::{Facts, Table};
use meridian::policy::model::Prefix;

#[path = "../../fuzz/src/bodies/mod.rs"]
mod bodies;

use bodies::{TARGETS, Target, target};

/// Mutations per target: a few seconds in all.
const MUTATIONS: usize = 10_000;

/// Runs the body; an input that breaks something is shown.
fn run(target: &Target, input: &[u8]) {
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.body)(input)));
    assert!(result.is_ok(), "{}: {}", target.name, input.escape_ascii());
}

/// A seed with one to four changes: bits, octets, cuts, repetitions, words of the language, pieces of other seeds.
fn mutate(target: &Target, seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut below = |bound: usize| (dice.roll() % bound.max(1) as u64) as usize;
    let mut input = seeds[below(seeds.len())].clone();
    for _ in 0..=below(4) {
        let at = below(input.len());
        match below(7) {
            0 => input.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1 << below(8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|octet| *octet = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff, b'0', b'"'][below(10)]),
            2 => input.truncate(at),
            3 => drop(input.drain(at..(at + 1 + below(16)).min(input.len()))),
            4 => {
                let piece = input[at..(at + 1 + below(32)).min(input.len())].to_vec();
                let into = below(input.len());
                input.splice(into..into, piece);
            }
            5 if !target.words.is_empty() => {
                let word = target.words[below(target.words.len())].bytes();
                input.splice(at..at, word);
            }
            _ => {
                let other = &seeds[below(seeds.len())];
                let from = below(other.len());
                let piece = other[from..(from + 1 + below(64)).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input.truncate(target.max_len);
    input
}

fn check(name: &str) {
    let target = target(name).expect("a target");
    let seeds = (target.seeds)(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(seeds.len() >= 10, "{} seeds", seeds.len());
    seeds.iter().for_each(|seed| run(target, seed));
    let mut dice = Dice::new(0, 1);
    (0..MUTATIONS).for_each(|_| run(target, &mutate(target, &seeds, &mut dice)));
    for input in [&b""[..], &[0], &[0xff; 600], &[0; 600]] {
        run(target, input);
    }
}

/// An IPv4 database of 32 nodes with 24-bit records, its one record behind the tree.
fn database(nodes: &[[u8; 2]]) -> Vec<u8> {
    let mut octets: Vec<u8> = nodes.iter().flatten().flat_map(|record| [0, 0, *record]).collect();
    octets.extend([0; 16]);
    octets.extend(b"\xe1\x47country\xe1\x48iso_code\x42DE");
    octets.extend(b"\xab\xcd\xefMaxMind.com\xe9\x4anode_count\xc1");
    octets.push(nodes.len() as u8);
    octets.extend(b"\x4brecord_size\xa1\x18\x4aip_version\xa1\x04\x5bbinary_format_major_version\xa1\x02\x5bbinary_format_minor_version\xa0");
    octets.extend(b"\x4bbuild_epoch\x01\x02\x01\x4ddatabase_type\x49Fuzz-City\x49languages\x00\x04\x4bdescription\xe0");
    octets
}

#[test]
fn a_tree_that_unfolds_without_end_is_refused_at_once() {
    // Every node leads to the next one on both sides: 32 nodes, 2^32 leaves.
    let mut nodes: Vec<[u8; 2]> = (1..32).map(|next| [next, next]).collect();
    nodes.push([32, 32 + 16]);
    let shared = Table::read([("shared", database(&nodes).as_slice())]).expect_err("too many networks");
    assert_eq!(shared[0].to_string(), "shared: the search tree of 32 nodes has more than 4096 networks, as only a broken one has");
    // Six levels of it are a way to save space.
    let mut nodes: Vec<[u8; 2]> = (1..6).map(|next| [next, next]).collect();
    nodes.push([6, 6 + 16]);
    let table = Table::read([("small", database(&nodes).as_slice())]).expect("a table");
    assert_eq!(table.facts_at("4.0.0.1".parse().expect("an address")).country, Some(*b"DE"));
    assert_eq!(table.facts_at("3.0.0.1".parse().expect("an address")).country, None);
}

#[test]
fn the_network_around_an_address_holds_no_block_that_carries_ipv4() {
    // 1.2.3.0/24 is in Teredo's space as 2001:0:*:*:*:*:fefd:fc**; nothing is known about any other IPv6.
    let net = |addr: &str, len| Prefix { addr: addr.parse().expect("an address"), len };
    let table = Table::from_networks(&[(net("0.0.0.0", 0), Facts { country: Some(*b"DE"), ..Facts::default() })]);
    for (addr, expected) in [
        ("2001:db8::1", net("2001:800::", 21)),
        ("2001:1::", net("2001:1::", 32)),
        ("2000::", net("2000::", 16)),
        ("2003::", net("2003::", 16)),
        ("8000::", net("8000::", 1)),
        ("::1", net("::", 81)),
        ("64:ff9b::1:0:0", net("64:ff9b::1:0:0", 96)),
        ("2001::1", net("0.0.0.0", 0)),
    ] {
        assert_eq!(table.network_at(addr.parse().expect("an address")), expected, "{addr}");
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_target_is_fuzzed_and_run_here() {
            const NAMES: &[&str] = &[$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), NAMES);
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("the manifest");
            for name in NAMES {
                let text = std::fs::read_to_string(root.join(format!("fuzz/targets/{name}.rs"))).expect("a target");
                assert!(text.contains(&format!("start(\"{name}\")")), "{name}");
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            }
        }
    };
}

targets! { request answer master_file zone_toml mmdb geo_csv oracle }
