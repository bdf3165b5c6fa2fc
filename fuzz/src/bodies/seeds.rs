//! Good inputs to start from, made by our own code and from the repository's test data. The same every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use meridian::dns::Name;
use meridian::geo::Table;
use meridian::geo::build::{Input, build};
use meridian::geo::writer::{About, write};
use meridian::zone::Records;
use meridian::zone::master::{self, Source};

use super::answer::{OVERLAID, SOURCE, TCP, TLS};
use super::world::{STATIC_ZONE, STEERED_ZONE};

/// `meridian.toml` when an input brings none.
pub const SETTINGS: &str = "[geo]\ndatabases = [\"geo.mmdb\"]\n[latency]\ntable = \"rtt.csv\"\n";
/// A latency table.
pub const LATENCY: &str = "key, eu, us\ncidr:198.51.100.0/24, 12, 71!\nasn:64500, 20,\nasn:64500@DE, , 30\nsub:US-CA, 140, 9\ncountry:DE, 14, 95\ncontinent:AS, 160, 190\n*, 120, 121\n";
const RANGES: &str = "network,country,subdivision,latitude,longitude,asn
192.0.2.0/25,DE,HE,50.1,8.7,64500
192.0.2.128/25,FR,IDF,48.9,2.4,64501
198.51.100.0/24,US,CA,37.4,-122.1,64502
203.0.113.0/24,JP,13,35.7,139.7,
2001:db8::/33,US,TX,32.8,-96.8,64503
2001:db8:8000::/33,DE,,51,9,64500
";

fn about(kind: &str) -> About {
    About { database_type: kind.into(), description: "made for fuzzing".into(), build_unix_s: 1_767_225_600 }
}

fn database(text: &str, kind: &str) -> Vec<u8> {
    let built = build(&[Input { name: "ranges.csv", bytes: text.as_bytes() }], &mut |_| {}).expect("good ranges");
    write(&built.table, &about(kind)).expect("it fits")
}

/// A database of a few invented networks.
pub fn small_database() -> &'static [u8] {
    static DATABASE: OnceLock<Vec<u8>> = OnceLock::new();
    DATABASE.get_or_init(|| database(RANGES, "Fuzz-City"))
}

/// Files below `dir` with this extension, in order.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names that mean something in the fixed world, and some that do not.
const NAMES: &[&str] = &[
    "static.test",
    "www.static.test",
    "a.static.test",
    "loop1.static.test",
    "self.static.test",
    "out.static.test",
    "into.static.test",
    "x.wild.static.test",
    "*.wild.static.test",
    "a.b.wild.static.test",
    "b.wild.static.test",
    "x.star.static.test",
    "under.x.star.static.test",
    "x.y.dn.static.test",
    "x.cut.static.test",
    "x.old.static.test",
    "y.old.static.test",
    "old.static.test",
    "a.rec.static.test",
    "x.old.a-rather-long-label-in-the-middle-of-the-name-00000000.static.test",
    "empty.non.terminal.static.test",
    "child.static.test",
    "x.child.static.test",
    "ns.child.static.test",
    "glueless.static.test",
    "_sip._tcp.static.test",
    "svc.static.test",
    "num.static.test",
    "any.static.test",
    "big.static.test",
    "many.static.test",
    "names.static.test",
    "unknown.static.test",
    "nope.static.test",
    "nested.static.test",
    "www.nested.static.test",
    "up.nested.static.test",
    "x.y.nested.static.test",
    "steered.test",
    "fail.steered.test",
    "random.steered.test",
    "coherent.steered.test",
    "sticky.steered.test",
    "geo.steered.test",
    "near.steered.test",
    "fast.steered.test",
    "all.steered.test",
    "large.steered.test",
    "cdn.steered.test",
    "inside.steered.test",
    "x.star.steered.test",
    "gone.steered.test",
    "broken.steered.test",
    "chain1.steered.test",
    "static.steered.test",
    "x.wilder.steered.test",
    "plain.steered.test",
    "x.old.steered.test",
    "x.child.steered.test",
    "_why.geo.steered.test",
    "x.wild.example.com",
    "www.sub.example.com",
    "https.example.com",
    "svcb-1.example.com",
    "naptr.example.com",
    "hip.example.com",
    "x.dname.example.com",
    "txt-long.example.com",
    "example.com",
    "tld",
    "sub.tld",
    "x.sub.tld",
    "www.down.test",
    "version.bind",
    "id.server",
    "elsewhere.example",
    "",
];

fn wire(name: &str) -> Vec<u8> {
    Name::parse_absolute(if name.is_empty() { "." } else { name }).expect("a name").as_wire().to_vec()
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// OPT records of all kinds, and none.
fn opts() -> Vec<Vec<u8>> {
    let options: [Vec<u8>; 15] = [
        vec![],
        option(3, &[]),
        option(8, &[0, 1, 24, 0, 198, 51, 100]),
        option(8, &[0, 2, 48, 0, 0x20, 1, 0xd, 0xb8, 0, 5]),
        option(8, &[0, 1, 0, 0]),
        option(8, &[0, 1, 32, 0, 10, 1, 2, 3]),
        option(8, &[0, 3, 8, 0, 1]),
        option(10, &[1, 2, 3, 4, 5, 6, 7, 8]),
        option(10, &[1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0x6b, 0x49, 0xd2, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        option(11, &[]),
        option(12, &[0; 40]),
        option(15, &[0, 1]),
        option(65001, &[1, 2, 3]),
        [option(3, &[]), option(8, &[0, 1, 17, 0, 192, 0, 128]), option(10, &[9; 8]), option(11, &[])].concat(),
        [option(8, &[0, 1, 8, 0, 1]), option(8, &[0, 1, 8, 0, 2])].concat(),
    ];
    let opt = |payload: u16, version: u8, flags: u8, options: &[u8]| {
        let mut record = vec![0, 0, 41];
        record.extend(payload.to_be_bytes());
        record.extend([0, version, flags, 0]);
        record.extend((options.len() as u16).to_be_bytes());
        record.extend(options);
        record
    };
    let mut opts: Vec<Vec<u8>> = options.iter().map(|options| opt(1232, 0, 0x80, options)).collect();
    opts.extend([opt(512, 0, 0, &[]), opt(65_535, 0, 0, &[]), opt(0, 0, 0x80, &[]), opt(1232, 1, 0, &[]), vec![]]);
    opts
}

fn query(flags: [u8; 2], name: &str, rtype: u16, class: u16, opt: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())];
    packet.extend(wire(name));
    packet.extend(rtype.to_be_bytes());
    packet.extend(class.to_be_bytes());
    packet.extend(opt);
    packet
}

fn queries() -> Vec<Vec<u8>> {
    const TYPES: [u16; 16] = [1, 28, 16, 2, 6, 5, 15, 33, 39, 43, 64, 65, 255, 35, 257, 65280];
    let opts = opts();
    let mut queries = Vec::new();
    for (at, name) in NAMES.iter().enumerate() {
        for step in 0..6 {
            let class = if name.ends_with("bind") || name.ends_with("server") { 3 } else { 1 };
            let rtype = if step == 0 { 1 } else { TYPES[(at * 5 + step * 3) % TYPES.len()] };
            queries.push(query([1, 0], name, rtype, class, &opts[(at * 6 + step) % opts.len()]));
        }
    }
    // Opcodes, flags, classes, counts, and what stands behind the question.
    for flags in [[0x81, 0], [0x20, 0], [0x28, 0], [0x7f, 0xff], [0x08, 0x10], [0x01, 0x30]] {
        queries.push(query(flags, "www.static.test", 1, 1, &[]));
    }
    for class in [0, 2, 3, 4, 254, 255, 65_535] {
        queries.push(query([0, 0], "www.static.test", 1, class, &opts[0]));
    }
    let plain = query([0, 0], "www.static.test", 251, 1, &[]);
    for (at, behind) in
        [(7, "\x03www\x00\x00\x06\x00\x01\x00\x00\x00\x00\x00\x00"), (11, "\u{0}\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01x"), (5, "")]
    {
        let mut packet = plain.clone();
        packet[at] += 1;
        packet.extend(behind.as_bytes());
        queries.push(packet);
    }
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    queries.push(query([0, 0], &long, 1, 1, &opts[0]));
    queries.push(query([0, 0], &"a.".repeat(127), 1, 1, &opts[0]));
    queries
}

/// Queries.
pub fn request(_: &Path) -> Vec<Vec<u8>> {
    queries()
}

/// Queries with how they come.
pub fn answer(_: &Path) -> Vec<Vec<u8>> {
    let choices = [0, TCP, OVERLAID, SOURCE, 2 * SOURCE, 3 * SOURCE, TCP | OVERLAID, 4 * SOURCE, TLS];
    queries().into_iter().enumerate().map(|(at, packet)| [&[choices[at % choices.len()], at as u8, (at * 7) as u8][..], &packet].concat()).collect()
}

/// Master files: the repository's, whole and in pieces.
pub fn master_file(root: &Path) -> Vec<Vec<u8>> {
    let mut seeds = vec![STATIC_ZONE.as_bytes().to_vec()];
    let everything = read(&root.join("tests/data/everything.zone"));
    let lines: Vec<&[u8]> = everything.split_inclusive(|octet| *octet == b'\n').collect();
    let head = b"$TTL 60\n@ SOA ns1 h 1 1 1 1 1\n@ NS ns1\nns1 A 192.0.2.1\n";
    seeds.extend(lines.chunks(4).map(|lines| [&head[..], &lines.concat()].concat()));
    for folder in ["tests/data/good", "tests/data/bad", "zones"] {
        seeds.extend(files(&root.join(folder), "zone").iter().map(|path| read(path)));
    }
    seeds.push([&head[..], b"$INCLUDE more\n$INCLUDE more sub\n\0www A 192.0.2.7\n$ORIGIN x\na A 192.0.2.8\n"].concat());
    seeds.push(b"$INCLUDE again\n\0$INCLUDE again\nwww 60 A 192.0.2.7\n".to_vec());
    seeds.push([&head[..], b"$GENERATE 0-20/5 h${1,3,x} TXT \"a$ \\$ ${-1} ${0,0,n}\"\n"].concat());
    seeds
}

/// Zones in TOML with what they use.
pub fn zone_toml(root: &Path) -> Vec<Vec<u8>> {
    let mut seeds = vec![STEERED_ZONE.replace("LARGE", "\"192.0.2.77\", \"2001:db8::77\"").into_bytes(), STEERED_PIECES.as_bytes().to_vec()];
    seeds.extend(files(&root.join("zones"), "toml").iter().map(|path| read(path)));
    for folder in ["tests/data/good", "tests/data/bad"] {
        let mut cases: Vec<PathBuf> = fs::read_dir(root.join(folder)).expect("the test data").map(|entry| entry.expect("an entry").path()).collect();
        cases.sort();
        for case in cases {
            let zones = case.join("zones");
            let (tomls, masters) = if zones.is_dir() { (files(&zones, "toml"), files(&zones, "zone")) } else { Default::default() };
            let part = |path: Option<&PathBuf>| path.map(|path| read(path)).unwrap_or_default();
            let settings = case.join("meridian.toml");
            let settings = if settings.is_file() { read(&settings) } else { Vec::new() };
            seeds.push([part(tomls.first()), part(tomls.get(1)), part(masters.first()), settings].join(&0));
        }
    }
    seeds
}

/// Keys that [`STEERED_ZONE`] lacks.
const STEERED_PIECES: &str = r#"
[defaults.monitor]
interval = "5s"
timeout = "2s"
[defaults.steer]
ttl = 60
[zone]
name = "example.com."
ttl = 600
ns = ["ns1"]
soa = { rname = "ops", refresh = 7200 }
[records]
ns1.A = "192.0.2.53"
txt.TXT = [["a", "b"], "c"]
caa.CAA = "0 issue \"ca.example.net\""
[region]
eu = { location = [50.11, 8.68] }
[monitor.web]
https = "/health"
host = "www.example.com"
interval = "10s"
timeout = "3s"
fast = "2s"
fall = 3
rise = 3
expect = { status = [200, 204], body = "ok" }
[monitor.tcp]
tcp = true
port = 443
[pool.eu]
region = "eu"
monitor = ["web", "tcp"]
min_healthy = "50%"
endpoints = [{ address = "192.0.2.1", weight = 3, name = "one", monitor = false }, "192.0.2.2"]
[pool.us]
location = [39.04, -77.49]
endpoints = ["192.0.2.3"]
[policy.place]
policy = "geo"
default = ["eu", "us"]
rules = [{ geo = ["NA-US-CA", "AS-TR", "EU"], to = "us", fence = true, all_down = "last-good" }]
[policy.split]
policy = "weighted"
mode = "sticky"
sticky_bits = { v4 = 20, v6 = 40 }
to = { place = 2, us = 1 }
[steer.www]
use = "split"
[steer.app]
policy = "proximity"
to = ["eu", "us"]
bias = { eu = 50 }
ttl = { max = 60, min = 20 }
family = "require-both"
failback = { after = "5m" }
all_down = "us"
"#;

/// Databases of our writer, and small trees of each record size.
pub fn mmdb(_: &Path) -> Vec<Vec<u8>> {
    let mut seeds = vec![
        small_database().to_vec(),
        database("192.0.2.0/24,DE\n198.51.100.0/24,US\n", "Fuzz-Country"),
        database("network,asn\n192.0.2.0/24,64500\n2001:db8::/32,64501\n", "Fuzz-ASN"),
        database("network,continent,latitude,longitude\n0.0.0.0/1,EU,1,2\n128.0.0.0/2,AF,-3,4\n", "Fuzz-City"),
        write(&Table::empty(), &about("Fuzz-Country")).expect("it fits"),
    ];
    for size in [24, 28, 32] {
        for ip_version in [4, 6] {
            seeds.push(tiny_database(size, ip_version));
        }
    }
    seeds
}

/// Two nodes and a record, by the specification: what our writer does not make.
fn tiny_database(size: usize, ip_version: u8) -> Vec<u8> {
    // Node 0: left to node 1, right nothing; node 1: left to the data (nodes + 16 octets between), right nothing.
    let nodes: [[u32; 2]; 2] = [[1, 2], [2 + 16, 2]];
    let mut octets = Vec::new();
    for [left, right] in nodes {
        match size {
            24 => octets.extend([&left.to_be_bytes()[1..], &right.to_be_bytes()[1..]].concat()),
            28 => octets.extend([&left.to_be_bytes()[1..], &[((left >> 24) << 4 | right >> 24) as u8], &right.to_be_bytes()[1..]].concat()),
            _ => octets.extend([left.to_be_bytes(), right.to_be_bytes()].concat()),
        }
    }
    octets.extend([0; 16]);
    octets
        .extend(map(&[("country", map(&[("iso_code", text("DE"))])), ("location", map(&[("latitude", double(50.0)), ("longitude", double(8.0))]))]));
    octets.extend(b"\xab\xcd\xefMaxMind.com");
    octets.extend(map(&[
        ("node_count", vec![0xc1, 2]),
        ("record_size", vec![0xa1, size as u8]),
        ("ip_version", vec![0xa1, ip_version]),
        ("binary_format_major_version", vec![0xa1, 2]),
        ("binary_format_minor_version", vec![0xa0]),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text("Fuzz-City")),
        ("languages", vec![0x00, 0x04]),
        ("description", map(&[])),
    ]));
    octets
}

fn text(text: &str) -> Vec<u8> {
    [&[0x40 | text.len() as u8][..], text.as_bytes()].concat()
}

fn double(value: f64) -> Vec<u8> {
    [&[0x68][..], &value.to_be_bytes()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut octets = vec![0xe0 | entries.len() as u8];
    entries.iter().for_each(|(key, value)| octets.extend([text(key), value.clone()].concat()));
    octets
}

/// CSV ranges and latency tables.
pub fn geo_csv(root: &Path) -> Vec<Vec<u8>> {
    let sample = read(&root.join("geodata/sample.csv"));
    let mut seeds = vec![
        RANGES.into(),
        LATENCY.into(),
        read(&root.join("geodata/rtt.csv")),
        sample[..sample.len().min(2048)].to_vec(),
        b"3221225984,3221226239,DE\n3325256704,3325256959,US\n".to_vec(),
        b"2001:db8::,2001:db8::ffff,FR\n::ffff:192.0.2.0,::ffff:192.0.2.255,DE\n".to_vec(),
        b"# comment\n\"192.0.2.0\",\"192.0.2.255\",\"EU\",\"DE\",\"Hessen\",\"Frankfurt\",\"50.1\",\"8.7\"\n".to_vec(),
        b"\xef\xbb\xbfstart;end;country\n".to_vec(),
        b"start,end,asn,continent\n10.0.0.0,10.0.0.255,AS64500,EU\n10.0.0.128,10.0.1.3,64501,AS\n".to_vec(),
    ];
    seeds.push([RANGES.as_bytes(), b"network,country\n192.0.2.64/26,IT\n::/0,GB\n", b"network,asn\n0.0.0.0/0,1\n"].join(&0));
    seeds
}

/// Everything that the oracle compares.
pub fn oracle(root: &Path) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = queries().into_iter().map(|packet| [&[0][..], &packet].concat()).collect();
    let everything = read(&root.join("tests/data/everything.zone"));
    let origin = Name::parse_absolute("example.com").expect("a name");
    let source = Source { text: &everything, file: "zone".into(), origin, default_ttl: None, first_file: 0 };
    let mut records = Records::new();
    master::parse(source, &mut |_, _| Err("no files".into()), &mut records);
    for record in records.iter() {
        seeds.push([&[1][..], &record.rtype.0.to_be_bytes(), record.rdata].concat());
    }
    let mut message = [&[2, 200][..], &wire("www.example.com")].concat();
    let target = [&[0, 10][..], &wire("mail.example.com")].concat();
    for (choice, owner, data) in [
        (0, "www.example.com", &[192, 0, 2, 1][..]),
        (1, "example.com", &wire("ns1.example.com")),
        (0x44, "WWW.example.com", &target),
        (0x80, "mail.example.com", &[1, 2, 3, 4]),
    ] {
        message.extend([choice, 60]);
        message.extend(wire(owner));
        message.push(data.len() as u8);
        message.extend(data);
    }
    seeds.push(message);
    for name in ["www.example.com.", "relative", "@", ".", "a\\.b\\032\\255.x", "xn--bcher-kva.example", "_tcp.*", "A.B.C"] {
        seeds.push([&[3][..], name.as_bytes()].concat());
    }
    seeds
}
