//! Geo steering on real data, from the outside: what is answered, and for whom it may be kept, must be what the plain text of the ranges says.
//!
//! The oracle below knows nothing of `meridian::geo`: it reads the text and compares intervals. The data is Debian's `tor-geoipdb`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::meridian::{Asker, Meridian, addresses, encode, scope};

const REAL_V4: &str = "/usr/share/tor/geoip";
const REAL_V6: &str = "/usr/share/tor/geoip6";
/// Asked about, at least.
const ENOUGH: usize = 20_000;
/// In flight on one socket: far below what a socket's buffer holds.
const WINDOW: usize = 64;

/// South America as ISO and the UN have it; every other region is a list of countries.
const SOUTH: [&str; 14] = ["AR", "BO", "BR", "CL", "CO", "EC", "FK", "GF", "GY", "PE", "PY", "SR", "UY", "VE"];
const REGIONS: [&str; 5] = ["one", "two", "three", "four", "south"];
/// Index of the default's pool.
const DEFAULT: u8 = 5;
/// Private space is a class of its own: whoever asks decides.
const PRIVATE: u8 = 100;

/// The continent that codes are spelled with; what matches is the country.
fn continent(country: &str) -> String {
    let code = country.as_bytes().try_into().expect("two letters");
    meridian::geo::places::continent_of(code).map_or(String::new(), |code| String::from_utf8_lossy(&code).into_owned())
}

/// The region of a country: South America, or one of four by its letters, or none.
fn region_of(country: &str) -> u8 {
    if SOUTH.contains(&country) {
        return 4;
    }
    let [a, b] = country.as_bytes() else { return DEFAULT };
    match (u32::from(*a) * 7 + u32::from(*b)) % 6 {
        _ if continent(country).is_empty() => DEFAULT,
        by_letters @ 0..4 => by_letters as u8,
        _ => DEFAULT,
    }
}

/// One family as merged stretches of one class: (first address, class), from 0; each lasts until the next.
struct Stretches {
    starts: Vec<(u128, u8)>,
    width: u32,
}

impl Stretches {
    /// `layers` of (first, last, class), later ones on top of earlier ones; each in order and without overlap.
    fn new(width: u32, layers: &[Vec<(u128, u128, u8)>]) -> Stretches {
        let max = u128::MAX >> (128 - width);
        let mut borders: BTreeSet<u128> = BTreeSet::from([0]);
        for (first, last, _) in layers.iter().flatten() {
            borders.insert(*first);
            borders.extend((*last < max).then_some(last.wrapping_add(1)));
        }
        let class_at = |addr: u128| {
            let of_layer = |layer: &Vec<(u128, u128, u8)>| {
                let after = layer.partition_point(|(first, _, _)| *first <= addr);
                layer[..after].last().filter(|(_, last, _)| addr <= *last).map(|(_, _, class)| *class)
            };
            layers.iter().rev().find_map(of_layer).unwrap_or(DEFAULT)
        };
        let mut starts: Vec<(u128, u8)> = Vec::new();
        for border in borders {
            let class = class_at(border);
            if starts.last().is_none_or(|(_, before)| *before != class) {
                starts.push((border, class));
            }
        }
        Stretches { starts, width }
    }

    /// Class, and the length of the largest aligned block around the address that has it throughout, found by trying them all.
    fn look_up(&self, addr: u128) -> (u8, u8) {
        let max = u128::MAX >> (128 - self.width);
        let after = self.starts.partition_point(|(start, _)| *start <= addr);
        let (first, class) = self.starts[after - 1];
        let last = self.starts.get(after).map_or(max, |(start, _)| start - 1);
        let fits = |len: &u32| {
            let room = max.checked_shr(*len).unwrap_or(0);
            let block = addr & !room;
            block >= first && block | room <= last
        };
        let len = (0..=self.width).find(fits).expect("a single address fits");
        (class, len as u8)
    }
}

/// Class of the blocks that carry IPv4, while only IPv6 is looked at.
const CARRIES_V4: u8 = 101;

struct Oracle {
    v4: Stretches,
    v6: Stretches,
    /// First addresses of the data's ranges and what follows them, for drawing prefixes.
    edges: Vec<IpAddr>,
    countries: BTreeSet<String>,
}

fn block(text: &str, class: u8) -> (u128, u128, u8) {
    let (addr, len) = text.split_once('/').expect("a block");
    let (first, width) = number(addr.parse().expect("an address"));
    let len: u32 = len.parse().expect("a length");
    (first, first | if len == 0 { u128::MAX } else { (u128::MAX >> (128 - width)) >> len }, class)
}

fn number(addr: IpAddr) -> (u128, u32) {
    match addr {
        IpAddr::V4(addr) => (u32::from(addr).into(), 32),
        IpAddr::V6(addr) => (addr.into(), 128),
    }
}

fn address(number: u128, width: u32) -> IpAddr {
    if width == 32 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

impl Oracle {
    fn read() -> Oracle {
        let mut oracle = Oracle { v4: Stretches::new(32, &[]), v6: Stretches::new(128, &[]), edges: Vec::new(), countries: BTreeSet::new() };
        let v4 = oracle.ranges(REAL_V4, |text| Ipv4Addr::from(text.parse::<u32>().expect("a number")).into());
        let v6 = oracle.ranges(REAL_V6, |text| text.parse().expect("an address"));
        let private = |blocks: &[&str]| blocks.iter().map(|text| block(text, PRIVATE)).collect::<Vec<_>>();
        let private_v4 = private(&["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]);
        let private_v6 = private(&["::/127", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "fec0::/10"]);
        let carrying = ["::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16"].map(|text| block(text, CARRIES_V4)).to_vec();
        oracle.v4 = Stretches::new(32, &[v4, private_v4]);
        oracle.v6 = Stretches::new(128, &[v6, private_v6, carrying]);
        oracle
    }

    fn ranges(&mut self, file: &str, parse: impl Fn(&str) -> IpAddr) -> Vec<(u128, u128, u8)> {
        let text = std::fs::read_to_string(Path::new(file)).unwrap_or_else(|error| panic!("{file}: {error}: apt-get install tor-geoipdb"));
        let mut ranges = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split(',').collect();
            let [first, last, country] = fields[..] else { panic!("{line}") };
            self.edges.extend([parse(first), parse(last)]);
            self.countries.insert(country.to_string());
            ranges.push((number(parse(first)).0, number(parse(last)).0, region_of(country)));
        }
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{file}: ranges overlap");
        ranges
    }

    fn look_up(&self, addr: IpAddr) -> (u8, u8) {
        match number(addr) {
            (addr, 32) => self.v4.look_up(addr),
            (addr, _) => match self.v6.look_up(addr) {
                (CARRIES_V4, _) => {
                    let (v4, at) = match addr >> 96 {
                        0 | 0x0064_ff9b => (addr as u32, 96),
                        0x2001_0000 => (!(addr as u32), 96),
                        _ => ((addr >> 80) as u32, 16),
                    };
                    let (class, len) = self.v4.look_up(v4.into());
                    (class, at + len)
                }
                found => found,
            },
        }
    }

    /// Prefixes at and around the borders of the data, of many lengths; then special space.
    fn prefixes(&self) -> Vec<(IpAddr, u8)> {
        let mut prefixes = Vec::new();
        let mut random = meridian::answer::Dice::new(0, 7);
        for family in [32, 128] {
            let edges: Vec<u128> =
                self.edges.iter().map(|addr| number(*addr)).filter(|(_, width)| *width == family).map(|(number, _)| number).collect();
            let stride = (edges.len() / 4000).max(1);
            for edge in edges.iter().skip(random.roll() as usize % stride).step_by(stride) {
                let max = u128::MAX >> (128 - family);
                for near in [edge.saturating_sub(1), *edge, (edge + 1).min(max)] {
                    prefixes.push((near, family, family));
                }
                let coarse = if family == 32 { [8, 16, 20, 22, 24, 28] } else { [20, 32, 40, 48, 56, 64] };
                prefixes.push((*edge, family, coarse[random.roll() as usize % coarse.len()]));
                prefixes.push((*edge, family, 1 + (random.roll() as u32 % family)));
            }
        }
        let special = [
            "0.0.0.0",
            "0.255.255.255",
            "1.0.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.99.1.2",
            "11.0.0.0",
            "100.63.255.255",
            "100.64.0.0",
            "127.0.0.1",
            "169.254.0.0",
            "172.15.255.255",
            "172.31.255.255",
            "192.167.255.255",
            "192.168.7.7",
            "192.169.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::ffff:0:0",
            "::ffff:8.8.8.8",
            "::ffff:10.1.2.3",
            "::1:0:0:0",
            "64:ff9b::808:808",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "64:ff9b:2::",
            "2001::",
            "2001:0:4136:e378:8000:63bf:3fff:fdde",
            "2001:0:ffff:ffff:ffff:ffff:f5ff:fffe",
            "2001:1::",
            "2002:808:808::1",
            "2002:a00:1::1",
            "2002:c000:204:1::",
            "2003::",
            "fbff::",
            "fc00::1",
            "fd12:3456::",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        for text in special {
            let (addr, width) = number(text.parse().expect("an address"));
            prefixes.extend((1..=width).map(|len| (addr, width, len)));
        }
        let cut =
            |(addr, width, len): (u128, u32, u32)| (address(addr & !((u128::MAX >> (128 - width)).checked_shr(len).unwrap_or(0)), width), len as u8);
        prefixes.into_iter().map(cut).collect()
    }
}

/// Asks all of them with many in flight; a question whose datagram was lost is asked again.
fn ask_all(server: SocketAddr, name: &str, prefixes: &[(IpAddr, u8)], mut each: impl FnMut((IpAddr, u8), &Message)) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a way");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut waiting: HashMap<u16, usize> = HashMap::new();
    let (mut next, mut lost, mut buf) = (0, 0, [0; 4096]);
    let send = |at: usize| {
        let packet = encode(name, RecordType::A, at as u16, Some(prefixes[at]));
        socket.send(&packet).expect("it can be sent");
    };
    while next < prefixes.len() || !waiting.is_empty() {
        while next < prefixes.len() && waiting.len() < WINDOW {
            send(next);
            waiting.insert(next as u16, next);
            next += 1;
        }
        match socket.recv(&mut buf) {
            Ok(len) => {
                let message = Message::from_vec(&buf[..len]).expect("it decodes");
                if let Some(at) = waiting.remove(&message.metadata.id) {
                    each(prefixes[at], &message);
                }
            }
            Err(_) => {
                lost += waiting.len();
                assert!(lost < prefixes.len() / 10, "{lost} questions without an answer");
                waiting.values().for_each(|at| send(*at));
            }
        }
    }
}

fn build_database(inputs: &[&str], into: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian")).args(["geo", "build"]).args(inputs).arg(into).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn real_data_steers_every_client_prefix_as_its_text_says_and_the_scope_is_exact() {
    let oracle = Oracle::read();
    let dir = tempfile::tempdir().expect("a folder");
    let database = dir.path().join("real.mmdb");
    build_database(&[REAL_V4, REAL_V6], &database);
    let mut zone = String::from("[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n");
    for (at, name) in REGIONS.iter().chain(&["rest"]).enumerate() {
        zone += &format!("[pool.{name}]\nendpoints = [\"192.0.2.{at}\"]\n");
    }
    zone += "[steer.app]\npolicy = \"geo\"\ndefault = \"rest\"\nrules = [\n";
    for (at, name) in REGIONS.iter().enumerate() {
        let of_region = |country: &&String| region_of(country) == at as u8;
        let countries: Vec<String> =
            oracle.countries.iter().filter(of_region).map(|country| format!("\"{}-{country}\"", continent(country))).collect();
        let codes = if at == 4 { "\"SA\"".into() } else { countries.join(", ") };
        zone += &format!("  {{ geo = [{codes}], to = {name:?} }},\n");
    }
    zone += "]\n";
    let config = format!("{}[geo]\ndatabases = [{:?}]\n", crate::meridian::CONFIG, database.display().to_string());
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &zone)]);

    let prefixes = oracle.prefixes();
    assert!(prefixes.len() >= ENOUGH, "{}", prefixes.len());
    let (mut wrong, mut seen) = (Vec::new(), HashMap::new());
    ask_all(server.dns, "app.example.com.", &prefixes, |(addr, len), message| {
        let (class, expected_scope) = oracle.look_up(addr);
        // The resolver here is loopback, of which the data says nothing.
        let region = if class == PRIVATE { DEFAULT } else { class };
        let expected: IpAddr = Ipv4Addr::new(192, 0, 2, region).into();
        *seen.entry((addr.is_ipv4(), class)).or_insert(0) += 1;
        if addresses(message) != [expected] || scope(message) != Some(expected_scope) {
            wrong.push(format!("{addr}/{len}: {:?} scope {:?}, expected {expected} scope {expected_scope}", addresses(message), scope(message)));
        }
    });
    assert!(wrong.is_empty(), "{} of {} wrong: {:#?}\n{:#?}", wrong.len(), prefixes.len(), &wrong[..wrong.len().min(20)], server.log());
    assert_eq!(seen.len(), 14, "every class in both families: {seen:?}");
}

const RANGES: &str = "198.51.100.0/24,DE\n203.0.113.0/24,FR\n203.0.0.0/17,FR\n2001:db8::/32,DE\n";

const SMALL: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]
[records]
ns1.A = "192.0.2.53"
alias.CNAME = "app"
[pool.de]
endpoints = ["192.0.2.1"]
[pool.rest]
endpoints = ["192.0.2.2", "2001:db8::2"]
[pool.loop]
endpoints = ["192.0.2.3", "2001:db8::3"]
[pool.office]
endpoints = ["192.0.2.4", "2001:db8::4"]
[steer.app]
policy = "geo"
default = "rest"
rules = [
  { geo = ["EU-DE"], to = "de" },
  { net = ["127.0.0.0/8"], to = "loop" },
  { net = ["10.1.0.0/16", "fd00:1::/32"], to = "office" },
]
[steer.flat]
policy = "failover"
to = ["de", "rest"]
"#;

/// The small zone with `more` in its configuration.
fn small(more: &str) -> (Meridian, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let csv = dir.path().join("ranges.csv");
    std::fs::write(&csv, RANGES.replace("203.0.113.0/24,FR\n", "")).expect("a file");
    let database = dir.path().join("small.mmdb");
    build_database(&[&csv.display().to_string()], &database);
    let config = format!("{}[geo]\ndatabases = [{:?}]\n{more}", crate::meridian::CONFIG, database.display().to_string());
    (Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", SMALL)]), dir)
}

/// `addresses scope`, the scope as `-` when the option is not there.
fn outcome(message: &Message) -> String {
    let addresses: Vec<String> = addresses(message).iter().map(ToString::to_string).collect();
    let code = if message.metadata.response_code == ResponseCode::NoError { String::new() } else { format!("{} ", message.metadata.response_code) };
    format!("{code}{} {}", addresses.join(","), scope(message).map_or("-".into(), |scope| scope.to_string()))
}

#[test]
fn the_client_subnet_decides_as_the_contract_says() {
    let (server, _dir) = small("");
    let asker = Asker::new(server.dns);
    for (name, rtype, client, expected) in [
        ("app", RecordType::A, "198.51.100.0/24", "192.0.2.1 24"),
        ("app", RecordType::A, "198.51.100.77/32", "192.0.2.1 24"),
        ("app", RecordType::A, "198.51.0.0/16", "192.0.2.2 18"),
        ("app", RecordType::A, "2001:db8::/32", "192.0.2.1 32"),
        ("app", RecordType::A, "2001:db8:7:8::/64", "192.0.2.1 32"),
        ("alias", RecordType::A, "198.51.100.0/24", "192.0.2.1 24"),
        // The class of Germany has no IPv6: NODATA for some.
        ("app", RecordType::AAAA, "198.51.100.0/24", " 24"),
        ("app", RecordType::AAAA, "198.51.0.0/16", "2001:db8::2 18"),
        ("alias", RecordType::AAAA, "198.51.100.0/24", " 24"),
        // NODATA for everybody, no such name, static data, a steered name that does not look at the client.
        ("app", RecordType::MX, "198.51.100.0/24", " 0"),
        ("nope", RecordType::A, "198.51.100.0/24", "Non-Existent Domain  0"),
        ("ns1", RecordType::A, "198.51.100.0/24", "192.0.2.53 0"),
        ("ns1", RecordType::AAAA, "198.51.100.0/24", " 0"),
        ("flat", RecordType::A, "198.51.100.0/24", "192.0.2.1 0"),
        // SOURCE 0: the resolver's address.
        ("app", RecordType::A, "0.0.0.0/0", "192.0.2.3 0"),
        ("app", RecordType::A, "::/0", "192.0.2.3 0"),
        ("alias", RecordType::A, "0.0.0.0/0", "192.0.2.3 0"),
        // Private space: the resolver's address, for the private block; networks that rules name decide by themselves.
        ("app", RecordType::A, "10.0.0.0/24", "192.0.2.3 16"),
        ("app", RecordType::A, "10.1.2.0/24", "192.0.2.4 16"),
        ("app", RecordType::A, "10.200.0.0/16", "192.0.2.3 9"),
        ("app", RecordType::A, "192.168.1.0/24", "192.0.2.3 16"),
        ("app", RecordType::A, "172.20.0.0/16", "192.0.2.3 12"),
        ("app", RecordType::A, "127.1.0.0/16", "192.0.2.3 8"),
        ("app", RecordType::A, "fd00:1:2::/48", "192.0.2.4 32"),
        ("app", RecordType::A, "fe80::/64", "192.0.2.3 9"),
        ("app", RecordType::A, "2002:c633:6401::/48", "192.0.2.1 40"),
        ("app", RecordType::A, "::ffff:198.51.100.1/128", "192.0.2.1 120"),
        ("app", RecordType::A, "2002:a01:0203::/48", "192.0.2.4 32"),
    ] {
        let (addr, len) = client.split_once('/').expect("a prefix");
        let client_prefix = (addr.parse().expect("an address"), len.parse().expect("a length"));
        let message = asker.ask(&format!("{name}.example.com."), rtype, Some(client_prefix));
        assert_eq!(outcome(&message), expected, "{name} {rtype} for {client}");
        let echoed = message.edns.as_ref().expect("EDNS").options().as_ref().iter().find_map(|(_, option)| match option {
            EdnsOption::Subnet(subnet) => Some((subnet.addr(), subnet.source_prefix())),
            _ => None,
        });
        assert_eq!(echoed, Some(client_prefix), "echoed for {client}");
    }
    let plain = asker.ask("app.example.com.", RecordType::A, None);
    assert!(plain.edns.is_none(), "no option in, no option out");
    assert_eq!(outcome(&plain), "192.0.2.3 -");
}

/// A question with one EDNS option of these octets.
fn with_option(code: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = encode("app.example.com.", RecordType::A, 99, None);
    packet[11] = 1;
    packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    packet.extend((data.len() as u16 + 4).to_be_bytes());
    packet.extend(code.to_be_bytes());
    packet.extend((data.len() as u16).to_be_bytes());
    packet.extend(data);
    packet
}

#[test]
fn malformed_client_subnets_are_refused_and_unknown_families_ignored() {
    let (server, _dir) = small("");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.dns).expect("a way");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    for (what, data, expected) in [
        ("good", &[0, 1, 24, 0, 198, 51, 100][..], "192.0.2.1 24"),
        ("bits behind the length", &[0, 1, 20, 0, 198, 51, 111], "Form Error  -"),
        ("an octet too few", &[0, 1, 24, 0, 198, 51], "Form Error  -"),
        ("an octet too many", &[0, 1, 24, 0, 198, 51, 100, 0], "Form Error  -"),
        ("a length above the family's", &[0, 1, 33, 0, 198, 51, 100, 0, 0], "Form Error  -"),
        ("a length above IPv6's", &[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "Form Error  -"),
        ("a scope in a query", &[0, 1, 24, 24, 198, 51, 100], "Form Error  -"),
        ("no address for /0", &[0, 1, 0, 0], "192.0.2.3 0"),
        ("an octet for /0", &[0, 1, 0, 0, 0], "Form Error  -"),
        ("three octets in all", &[0, 1, 24], "Form Error  -"),
        ("nothing at all", &[], "Form Error  -"),
        ("an unknown family", &[0, 3, 24, 0, 198, 51, 100], "192.0.2.3 -"),
        ("an unknown family that looks wrong", &[0, 9, 200, 7], "192.0.2.3 -"),
    ] {
        socket.send(&with_option(8, data)).expect("it can be sent");
        let mut buf = [0; 4096];
        let len = socket.recv(&mut buf).unwrap_or_else(|error| panic!("{what}: {error}"));
        let message = Message::from_vec(&buf[..len]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(outcome(&message), expected, "{what}");
        assert!(message.edns.is_some(), "{what}: EDNS is answered with EDNS");
    }
}

#[test]
fn an_untrusted_resolver_gets_its_own_answer_and_no_option_back() {
    let (server, _dir) = small("[ecs]\ntrust = [\"192.0.2.0/24\"]\n");
    let message = server.ask_for("app.example.com.", RecordType::A, ("198.51.100.0".parse().expect("an address"), 24));
    assert_eq!(outcome(&message), "192.0.2.3 -");
    assert!(message.edns.is_some());
}

#[test]
fn a_clip_bounds_the_borders_that_databases_cause() {
    let (server, _dir) = small("[ecs]\nclip = { v4 = 16, v6 = 24 }\n");
    for (client, expected) in [
        // 198.51.0.0, the first address of its block, is no German one.
        (("198.51.100.0", 24), "192.0.2.2"),
        (("198.51.0.0", 16), "192.0.2.2"),
        (("2001:db8::", 32), "192.0.2.2"),
        (("10.1.2.0", 24), "192.0.2.4"),
    ] {
        let message = server.ask_for("app.example.com.", RecordType::A, (client.0.parse().expect("an address"), client.1));
        assert_eq!(addresses(&message), [expected.parse::<IpAddr>().expect("an address")], "{client:?}");
        let limit = if client.0.contains(':') { 24 } else { 16 };
        assert!(scope(&message).is_some_and(|scope| scope <= limit), "{client:?}: {:?}", scope(&message));
    }
}
