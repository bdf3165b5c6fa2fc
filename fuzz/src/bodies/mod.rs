//! What each fuzz target does with its octets, and what must hold then. Plain functions without any fuzzer in them: libFuzzer calls them from
//! `fuzz/targets/`, and the ordinary tests (`tests/all/fuzz.rs`) include this very folder and call them with seeds and simple mutations.
//!
//! A body panics when something does not hold. It says nothing otherwise.

mod answer;
mod geo_csv;
mod master_file;
mod mmdb;
mod oracle;
mod request;
mod seeds;
mod words;
mod world;
mod zone_toml;

use std::path::Path;

/// One fuzz target.
pub struct Target {
    /// As in `fuzz/targets/`, without the extension.
    pub name: &'static str,
    /// What is done with one input.
    pub body: fn(&[u8]),
    /// Good inputs to start from. The path is the repository's root.
    pub seeds: fn(&Path) -> Vec<Vec<u8>>,
    /// Octets of the longest input worth trying: long enough for every construct, short enough for thousands of runs a second.
    pub max_len: usize,
    /// Words of the input's language.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "request", body: request::body, seeds: seeds::request, max_len: 1024, words: &[] },
    Target { name: "answer", body: answer::body, seeds: seeds::answer, max_len: 1024, words: &[] },
    Target { name: "master_file", body: master_file::body, seeds: seeds::master_file, max_len: 4096, words: words::MASTER },
    Target { name: "zone_toml", body: zone_toml::body, seeds: seeds::zone_toml, max_len: 8192, words: words::TOML },
    Target { name: "mmdb", body: mmdb::body, seeds: seeds::mmdb, max_len: 16_384, words: words::MMDB },
    Target { name: "geo_csv", body: geo_csv::body, seeds: seeds::geo_csv, max_len: 4096, words: words::CSV },
    Target { name: "oracle", body: oracle::body, seeds: seeds::oracle, max_len: 1024, words: &[] },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    const ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name)
}

/// Takes the first octet off; 0 when there is none.
fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// What stands between zero octets: several files in one input.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |octet| *octet == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}
