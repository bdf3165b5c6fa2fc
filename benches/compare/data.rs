//! What is served and what is asked, made up the same in every run; and what each answer must be.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use meridian::geo::build::Input;
use meridian::geo::{Table, build, continent_of, writer};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A zone of 1,000 names with A and AAAA.
    Static,
    /// Names that it does not have.
    NxDomain,
    /// 100 names answered by the country of a client subnet of its own in every query.
    Geo,
    /// As `Geo` in what is asked; the answer is drawn from four pools by weight.
    Weighted,
    /// The same, the draw following from the client.
    Sticky,
    /// A zone of 1,000,000 names.
    Million,
    /// Names that it does not have.
    MillionNxDomain,
    /// 100,000 zones of nine records.
    Zones,
}

/// Workloads by the name that the command line knows them by.
pub(crate) const WORKLOADS: [(&str, Workload); 8] = [
    ("static", Workload::Static),
    ("nxdomain", Workload::NxDomain),
    ("geo", Workload::Geo),
    ("weighted", Workload::Weighted),
    ("sticky", Workload::Sticky),
    ("million", Workload::Million),
    ("million-nxdomain", Workload::MillionNxDomain),
    ("zones", Workload::Zones),
];

/// What a server must have loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    Names(u32),
    /// Each of the names is a zone.
    Zones(u32),
    Geo,
}

impl Workload {
    pub(crate) fn data(self) -> Data {
        match self {
            Workload::Static | Workload::NxDomain => Data::Names(1000),
            Workload::Million | Workload::MillionNxDomain => Data::Names(1_000_000),
            Workload::Zones => Data::Zones(100_000),
            Workload::Geo | Workload::Weighted | Workload::Sticky => Data::Geo,
        }
    }

    /// Only Meridian's own policies, or names that every server can be given.
    pub(crate) fn is_common(self) -> bool {
        !matches!(self, Workload::Weighted | Workload::Sticky)
    }
}

/// The zone's name: of one length in all, so that queries are.
pub(crate) const ZONE: &str = "bench.test";

/// Names that are answered by country.
pub(crate) const GEO_NAMES: u32 = 100;

/// Regions that clients are sent to.
pub(crate) const REGIONS: u8 = 5;

/// Different questions of a workload, and different clients.
const QUESTIONS: u32 = 1 << 18;

const A: u16 = 1;
const AAAA: u16 = 28;

/// Visits every 32-bit number once (Knuth's multiplicative hash).
fn scattered(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761)
}

/// Master file of so many names.
pub(crate) fn names_zone(names: u32) -> String {
    let mut text = zone_head();
    for n in 0..names {
        let (v4, v6) = addresses_of(n);
        writeln!(text, "{0} A {v4}\n{0} AAAA {v6}", label(n)).expect("a string");
    }
    text
}

/// The first label of a name, in no order.
fn label(n: u32) -> String {
    format!("n{:08x}", scattered(n))
}

/// IPv4 and IPv6 address of a name; their last four octets are equal.
fn addresses_of(n: u32) -> (String, String) {
    let [_, b, c, d] = n.to_be_bytes();
    (format!("10.{b}.{c}.{d}"), format!("2001:db8::0a{b:02x}:{c:02x}{d:02x}"))
}

/// Names of so many zones.
pub(crate) fn zone_names(zones: u32) -> impl Iterator<Item = String> {
    (0..zones).map(|n| format!("{}.{ZONE}", label(n)))
}

/// Writes as many zones, nine records each: `NAME.zone`.
pub(crate) fn write_zones(dir: &Path, zones: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, n) in zone_names(zones).zip(0..) {
        let (v4, v6) = addresses_of(n);
        let text = format!(
            "$ORIGIN {name}.\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 1209600 60\n@ NS ns1\n@ MX 10 mail\n@ A {v4}\n@ AAAA {v6}\n\
             ns1 A 192.0.2.53\nmail A {v4}\nwww A {v4}\nwww AAAA {v6}\n"
        );
        fs::write(dir.join(format!("{name}.zone")), text)?;
    }
    Ok(())
}

/// What every master file begins with.
pub(crate) fn zone_head() -> String {
    format!("$ORIGIN {ZONE}.\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n")
}

/// IPv4 and IPv6 address of a region; their last four octets are equal.
pub(crate) fn addresses(region: u8) -> (String, String) {
    (format!("192.0.2.{}", 10 + region), format!("2001:db8::c000:20{:x}", 10 + region))
}

/// Real ranges by country, and which region serves each country.
pub(crate) struct Geo {
    pub(crate) table: Table,
    /// As octets of MaxMind's format.
    pub(crate) database: Vec<u8>,
    pub(crate) regions: BTreeMap<[u8; 2], u8>,
}

impl Geo {
    /// From Debian's tor-geoipdb.
    pub(crate) fn load() -> Geo {
        let file = |name: &str| fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}; apt-get install tor-geoipdb"));
        let (v4, v6) = (file("/usr/share/tor/geoip"), file("/usr/share/tor/geoip6"));
        let mut text = String::from("start,end,country\n");
        let mut regions = BTreeMap::new();
        for line in v4.lines().chain(v6.lines()).filter(|line| !line.starts_with('#') && !line.ends_with("??")) {
            let mut fields =
                line.split(',').map(|field| field.parse::<u32>().map_or_else(|_| field.to_owned(), |number| Ipv4Addr::from(number).to_string()));
            if let (Some(first), Some(last), Some(country)) = (fields.next(), fields.next(), fields.next()) {
                writeln!(text, "{first},{last},{country}").expect("a string");
                let code = country.as_bytes().first_chunk::<2>().copied().unwrap_or_default();
                if continent_of(code).is_some() {
                    let region = (u32::from(code[0]) * 31 + u32::from(code[1])) % u32::from(REGIONS);
                    regions.insert(code, region as u8);
                }
            }
        }
        let built = build::build(&[Input { name: "tor-geoipdb", bytes: text.as_bytes() }], &mut |_| {}).expect("tor-geoipdb's ranges");
        let about = writer::About { database_type: "Meridian-Country".into(), description: "tor-geoipdb".into(), build_unix_s: 1_760_000_000 };
        let database = writer::write(&built.table, &about).expect("small enough");
        Geo { table: built.table, database, regions }
    }

    /// The region of a client; the first one for clients of no country.
    fn region_of(&self, client: Ipv4Addr) -> u8 {
        self.table.facts_at(client.into()).country.and_then(|country| self.regions.get(&country)).copied().unwrap_or(0)
    }

    /// Continent, country, region, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = ([u8; 2], [u8; 2], u8)> {
        let mut places: Vec<_> = self.regions.iter().filter_map(|(country, region)| Some((continent_of(*country)?, *country, *region))).collect();
        places.sort_unstable();
        places.into_iter()
    }

    /// Our own zone file.
    pub(crate) fn meridian_zone(&self) -> String {
        let mut text = format!("[zone]\nname = \"{ZONE}\"\nttl = 60\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool]\n");
        for region in 0..REGIONS {
            let (v4, v6) = addresses(region);
            writeln!(text, "r{region} = {{ endpoints = [\"{v4}\", \"{v6}\"] }}").expect("a string");
        }
        text.push_str("[policy.place]\npolicy = \"geo\"\ndefault = \"r0\"\nrules = [\n");
        for region in 0..REGIONS {
            let list: Vec<String> = self
                .places()
                .filter(|(_, _, other)| *other == region)
                .map(|(continent, country, _)| format!("\"{}-{}\"", text_of(continent), text_of(country)))
                .collect();
            writeln!(text, "  {{ geo = [{}], to = [\"r{region}\"] }},", list.join(", ")).expect("a string");
        }
        text.push_str("]\n");
        for mode in ["random", "sticky"] {
            writeln!(text, "[policy.{mode}]\npolicy = \"weighted\"\nmode = \"{mode}\"\nto = {{ r0 = 50, r1 = 30, r2 = 15, r3 = 5 }}")
                .expect("a string");
        }
        text.push_str("[steer]\n");
        for n in 0..GEO_NAMES {
            writeln!(text, "app{n:02} = {{ use = \"place\" }}\nwgt{n:02} = {{ use = \"random\" }}\nstk{n:02} = {{ use = \"sticky\" }}")
                .expect("a string");
        }
        text
    }
}

/// Two letters.
pub(crate) fn text_of(code: [u8; 2]) -> String {
    code.iter().map(|letter| char::from(*letter)).collect()
}

/// What an answer must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// One record whose data ends so.
    Address([u8; 4]),
    /// NOERROR and a record.
    AnyAddress,
    NxDomain,
}

/// Packets of one length end to end.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    octets: Vec<u8>,
    pub(crate) packet_len: usize,
    pub(crate) expected: Vec<Expected>,
    /// `name type`, a line each: what dnsperf reads.
    pub(crate) text: String,
}

impl Questions {
    pub(crate) fn of(workload: Workload, geo: Option<&Geo>) -> Questions {
        let mut questions = Questions::default();
        for n in 0..QUESTIONS {
            let rtype = if n % 2 == 0 { A } else { AAAA };
            let at = scattered(n ^ 0x5bd1);
            // A /24 of the unicast space.
            let [a, b, c, _] = (scattered(n.wrapping_mul(40_503)) & 0xffff_ff00).to_be_bytes();
            let client = [1 + a % 223, b, c];
            let from_client = |expected| (Some(client), expected);
            let (label, (client, expected)) = match (workload, workload.data()) {
                (Workload::NxDomain | Workload::MillionNxDomain, _) => (format!("x{:08x}", scattered(n)), (None, Expected::NxDomain)),
                (_, Data::Names(names) | Data::Zones(names)) => {
                    let n = ((u64::from(at) * u64::from(names)) >> 32) as u32;
                    let [_, b, c, d] = n.to_be_bytes();
                    (label(n), (None, Expected::Address([10, b, c, d])))
                }
                (Workload::Weighted, _) => (format!("wgt{:02}", at % GEO_NAMES), from_client(Expected::AnyAddress)),
                (Workload::Sticky, _) => (format!("stk{:02}", at % GEO_NAMES), from_client(Expected::AnyAddress)),
                _ => {
                    let region = geo.map_or(0, |geo| geo.region_of(Ipv4Addr::from([client[0], client[1], client[2], 0])));
                    (format!("app{:02}", at % GEO_NAMES), from_client(Expected::Address([192, 0, 2, 10 + region])))
                }
            };
            questions.push(&label, rtype, client, expected);
        }
        questions
    }

    fn push(&mut self, label: &str, rtype: u16, client: Option<[u8; 3]>, expected: Expected) {
        let from = self.octets.len();
        let octets = &mut self.octets;
        octets.extend_from_slice(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in std::iter::once(label).chain(ZONE.split('.')) {
            octets.push(label.len() as u8);
            octets.extend_from_slice(label.as_bytes());
        }
        octets.push(0);
        octets.extend_from_slice(&[0, rtype as u8, 0, 1]);
        octets.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
        match client {
            None => octets.extend_from_slice(&[0, 0]),
            Some([a, b, c]) => octets.extend_from_slice(&[0, 11, 0, 8, 0, 7, 0, 1, 24, 0, a, b, c]),
        }
        self.packet_len = octets.len() - from;
        self.expected.push(expected);
        writeln!(self.text, "{label}.{ZONE} {}", if rtype == A { "A" } else { "AAAA" }).expect("a string");
    }

    pub(crate) fn packet(&self, at: usize) -> &[u8] {
        &self.octets[at * self.packet_len..(at + 1) * self.packet_len]
    }

    /// Judges the answer to question `at`.
    pub(crate) fn is_right(&self, at: usize, reply: &[u8]) -> bool {
        let question = self.packet(at);
        // The OPT record of the question begins at its additional section: eleven octets, or twenty-two with a client.
        let question_end = question.iter().skip(12).position(|octet| *octet == 0).map_or(0, |root| 12 + root + 5);
        if reply.len() < question_end || reply[12..question_end] != question[12..question_end] {
            return false;
        }
        let has_data = || {
            let len = reply.get(question_end + 10..question_end + 12).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
            reply[3] & 15 == 0 && len >= 4 && reply.len() >= question_end + 12 + len
        };
        let data_end = || question_end + 12 + usize::from(u16::from_be_bytes([reply[question_end + 10], reply[question_end + 11]]));
        match self.expected[at] {
            Expected::NxDomain => reply[3] & 15 == 3,
            Expected::AnyAddress => has_data(),
            Expected::Address(address) => has_data() && reply[data_end() - 4..data_end()] == address,
        }
    }
}
