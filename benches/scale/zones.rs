//! Many names by many geo policies: what an operator with 200 layouts of sites and 10,000 names writes, made up.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::geo::{Chance, countries};

/// Distinct geo policies, names steered by them.
pub(crate) const MAPS: u64 = 200;
pub(crate) const NAMES_PER_ZONE: u64 = 100;
/// Groups of pools in a zone; a name uses one of them.
const GROUPS: u64 = 10;
/// Pools in a group: one per site.
const SITES: u64 = 5;
/// Endpoints in a pool.
pub(crate) const ENDPOINTS: u64 = 2;

const PLACES: [(f64, f64); SITES as usize] = [(50.1, 8.7), (39.0, -77.5), (1.35, 103.8), (-23.5, -46.6), (-33.9, 18.4)];
const CONTINENTS: [&str; 6] = ["EU", "NA", "AS", "SA", "AF", "OC"];

/// Address of an endpoint.
pub(crate) fn address(zone: u64, group: u64, site: u64, endpoint: u64) -> String {
    let number = ((zone * GROUPS + group) * SITES + site) * ENDPOINTS + endpoint;
    format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255)
}

/// The sites of a rule, in an order that the layout and the rule decide.
fn order(group: u64, chance: &mut Chance) -> String {
    let mut sites: Vec<u64> = (0..SITES).collect();
    for at in (1..sites.len()).rev() {
        sites.swap(at, chance.below(at as u64 + 1) as usize);
    }
    let pools: Vec<String> = sites.iter().take(3).map(|site| format!("\"g{group}s{site}\"")).collect();
    pools.join(", ")
}

/// One policy. Its rules depend on `layout` alone, its pools on `group`.
fn policy(text: &mut String, name: u64, layout: u64, group: u64, codes: &[String]) {
    let mut chance = Chance(layout * 1_000_003);
    let nearest = layout.is_multiple_of(10);
    let default = if nearest { "\"nearest\"".to_string() } else { format!("[{}]", order(group, &mut chance)) };
    write!(text, "[steer.n{name}]\npolicy = \"geo\"\ndefault = {default}\nrules = [\n").expect("a string");
    for continent in CONTINENTS {
        let order = order(group, &mut chance);
        if !nearest || chance.below(2) == 0 {
            writeln!(text, "  {{ geo = [\"{continent}\"], to = [{order}] }},").expect("a string");
        }
    }
    // Countries that go elsewhere than their continent, in no two rules.
    for part in 0..3 {
        let own: Vec<String> = (0..1 + chance.below(8))
            .map(|_| &codes[(chance.below(codes.len() as u64 / 3) * 3 + part) as usize])
            .map(|code| format!("\"{code}\""))
            .collect();
        let mut own = own;
        own.sort_unstable();
        own.dedup();
        writeln!(text, "  {{ geo = [{}], to = [{}] }},", own.join(", "), order(group, &mut chance)).expect("a string");
    }
    text.push_str("]\n");
}

fn zone(zone: u64) -> String {
    let codes: Vec<String> = countries()
        .into_iter()
        .filter_map(|code| {
            let continent = meridian::geo::continent_of(code)?;
            Some(format!("{}-{}", String::from_utf8_lossy(&continent), String::from_utf8_lossy(&code)))
        })
        .collect();
    let mut text = format!("[zone]\nname = \"z{zone}.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n");
    text.push_str("[monitor.m]\ntcp = true\nport = 443\ninterval = \"10s\"\nfall = 1\nrise = 1\n[pool]\n");
    for (group, site) in (0..GROUPS).flat_map(|group| (0..SITES).map(move |site| (group, site))) {
        let endpoints: Vec<String> = (0..ENDPOINTS).map(|endpoint| format!("\"{}\"", address(zone, group, site, endpoint))).collect();
        let (lat, lon) = PLACES[site as usize];
        writeln!(text, "g{group}s{site} = {{ endpoints = [{}], location = [{lat:.1}, {lon:.1}], monitor = \"m\" }}", endpoints.join(", "))
            .expect("a string");
    }
    for name in 0..NAMES_PER_ZONE {
        policy(&mut text, name, (zone * 37 + name) % MAPS, name % GROUPS, &codes);
    }
    text
}

/// Writes meridian.toml and so many zones with [`NAMES_PER_ZONE`] steered names each, and `plain` zones without any.
pub(crate) fn write(dir: &Path, zones: u64, plain: u64, port: u16) -> io::Result<()> {
    fs::create_dir_all(dir.join("zones"))?;
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nthreads = 1\n[zones]\ndir = \"zones\"\n[geo]\ndatabases = [\"city.mmdb\"]\n[admin]\nenabled = false\n"
    );
    fs::write(dir.join("meridian.toml"), text)?;
    for at in 0..zones {
        fs::write(dir.join(format!("zones/z{at}.test.toml")), zone(at))?;
    }
    for at in 0..plain {
        fs::write(dir.join(format!("zones/p{at}.test.zone")), plain_zone(1))?;
    }
    Ok(())
}

/// A small zone whose `www` has this last octet.
pub(crate) fn plain_zone(octet: u8) -> String {
    format!("$TTL 300\n@ SOA ns1 h 1 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.{octet}\n")
}
