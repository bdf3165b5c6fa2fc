//! Worlds to ask, made from the files of [`crate::workloads`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian::config::MemoryFiles;
use meridian::control::{load, offline::world_of_files};
use meridian::world::World;

use crate::workloads;

/// Who asks.
pub(crate) const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));

pub(crate) fn build_of(files: &[(&str, &[u8])]) -> load::Build {
    let files: BTreeMap<PathBuf, Arc<[u8]>> = files.iter().map(|(path, octets)| (PathBuf::from(path), Arc::from(*octets))).collect();
    let build = load::build(&MemoryFiles(files), Path::new("meridian.toml"), &load::Previous::default());
    assert!(!build.has_errors() && build.bad.is_empty(), "{:?}", build.problems.first());
    build
}

pub(crate) fn world_of(zones: &[(&str, &str)], database: Option<&[u8]>) -> World {
    let mut files = vec![("meridian.toml", workloads::config(database.is_some()).as_bytes())];
    files.extend(zones.iter().map(|(path, text)| (*path, text.as_bytes())));
    files.extend(database.map(|octets| ("geo.mmdb", octets)));
    world_of_files(build_of(&files))
}

/// Static names, and one of everything else that is static.
pub(crate) fn of_static_names(names: u32) -> World {
    world_of(&[("zones/names.test.zone", &workloads::names_zone(names)), ("zones/special.test.zone", workloads::SPECIAL_ZONE)], None)
}

/// Every kind of steering.
pub(crate) fn steered(database: &[u8]) -> World {
    world_of(&[("zones/steered.test.toml", &workloads::steered_zone())], Some(database))
}

pub(crate) fn sample_database() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/geodata/sample.mmdb")).expect("the repository's sample")
}
