//! Writes a [`Table`] as a MaxMind-format database (specification 2.0), in the layout of GeoLite2.
//!
//! ```text
//! search tree (nodes of two records) │ 16 zero octets │ data section │ marker, metadata
//! ```
//!
//! Our own: the layout is small, and the same input must give the same octets: records are 24, 28 or 32 bits as needed, every distinct value is in the data section once, IPv4 is at `::/96` with aliases at the
//! blocks that carry a plain IPv4 address.

use std::collections::HashMap;
use std::fmt;

use super::space::{self, EMBEDDINGS};
use super::table::{Facts, Table};

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// Between tree and data; pointers count it.
const SEPARATOR_LEN: usize = 16;
/// In the list of ranges: the record of the IPv4 tree stands here.
const ALIAS: u32 = u32::MAX;

/// What the metadata says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// For instance `GeoLite2-City`; readers of some languages want `City`, `Country` or `ASN` in it.
    pub database_type: String,
    /// One sentence, English.
    pub description: String,
    /// When it was built, seconds since 1970.
    pub build_unix_s: u64,
}

/// A table that the format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Search tree nodes plus octets of data.
    pub found: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {} nodes and octets of data, expected less than {}, the most a record can point to", self.found, u32::MAX)
    }
}

impl std::error::Error for TooLarge {}

/// The octets of a database that says what `table` says. Equal arguments give equal octets.
pub fn write(table: &Table, about: &About) -> Result<Vec<u8>, TooLarge> {
    let mut data = Data::default();
    let offsets: Vec<Option<usize>> = table.facts.iter().map(|facts| (!facts.is_empty()).then(|| data.facts(facts))).collect();
    let ranges = ranges(table);
    let mut tree = Tree { ranges: &ranges, nodes: Vec::new(), v4: Record::Nothing };
    tree.build(0, 0, 0);

    let reach = tree.nodes.len() + SEPARATOR_LEN + data.bytes.len();
    let record_size: u16 = match reach {
        0..0x0100_0000 => 24,
        0x0100_0000..0x1000_0000 => 28,
        0x1000_0000..0xffff_ffff => 32,
        _ => return Err(TooLarge { found: reach }),
    };
    let number = |record: &Record| match *record {
        Record::Node(node) => node as u32,
        Record::Nothing => tree.nodes.len() as u32,
        // `Facts` of the table all have an offset but the empty ones, which `ranges` wrote as nothing.
        Record::Data(facts) => (tree.nodes.len() + offsets[facts as usize].map_or(0, |offset| SEPARATOR_LEN + offset)) as u32,
    };
    let mut bytes = Vec::with_capacity(tree.nodes.len() * usize::from(record_size) / 4 + data.bytes.len() + 1024);
    for (left, right) in &tree.nodes {
        put_node(&mut bytes, record_size, number(left), number(right));
    }
    bytes.extend([0; SEPARATOR_LEN]);
    bytes.extend(&data.bytes);
    bytes.extend(MARKER);
    bytes.extend(metadata(about, tree.nodes.len() as u32, record_size));
    Ok(bytes)
}

/// The whole 128-bit space: IPv4 at `::/96`, then IPv6 with aliases.
fn ranges(table: &Table) -> Vec<(u128, u32)> {
    let mut list: Vec<(u128, u32)> = table.v4.starts.iter().zip(&table.v4.facts).map(|(start, facts)| (u128::from(*start), *facts)).collect();
    // A whole IPv4 space of one kind has no tree to point to.
    let alias = if list.len() == 1 { list[0].1 } else { ALIAS };
    let aliases = EMBEDDINGS.iter().filter(|block| !block.inverted);
    let mut cuts: Vec<(u128, Option<u32>)> = aliases.flat_map(|block| [(block.first, Some(alias)), (block.last() + 1, None)]).collect();
    cuts.insert(0, (1 << 32, None));
    for (number, (first, value)) in cuts.iter().enumerate() {
        let mut push = |start: u128, value: u32| {
            if list.last().is_none_or(|(_, last)| *last != value) || start == 1 << 32 {
                list.push((start, value));
            }
        };
        if let Some(value) = value {
            push(*first, *value);
            continue;
        }
        let end = cuts.get(number + 1).map_or(u128::MAX, |(next, _)| next - 1);
        let at = table.v6.starts.partition_point(|start| start <= first).saturating_sub(1);
        push(*first, table.v6.facts[at]);
        for (start, facts) in table.v6.starts.iter().zip(&table.v6.facts).skip(at + 1).take_while(|(start, _)| **start <= end) {
            push(*start, *facts);
        }
    }
    list
}

#[derive(Clone, Copy)]
enum Record {
    Node(usize),
    Nothing,
    /// Index of facts.
    Data(u32),
}

struct Tree<'a> {
    ranges: &'a [(u128, u32)],
    nodes: Vec<(Record, Record)>,
    /// What stands at `::/96`.
    v4: Record,
}

impl Tree<'_> {
    /// The record for the block `first`/`depth`; `at` is the range that `first` lies in. Nodes are numbered in the order of their addresses, a
    /// parent before its children, so that the root is 0 and `::/96` is known before its aliases. Recursion ends at 128.
    fn build(&mut self, first: u128, depth: u8, at: usize) -> Record {
        let last = first | space::host_mask(128, depth);
        let uniform = self.ranges.get(at + 1).is_none_or(|(next, _)| *next > last);
        let record = match self.ranges[at].1 {
            ALIAS if uniform => self.v4,
            0 if uniform => Record::Nothing,
            facts if uniform => Record::Data(facts),
            _ => {
                let node = self.nodes.len();
                self.nodes.push((Record::Nothing, Record::Nothing));
                let middle = first | 1 << (127 - depth);
                let left = self.build(first, depth + 1, at);
                let middle_at = at + self.ranges[at..].partition_point(|(start, _)| *start <= middle) - 1;
                let right = self.build(middle, depth + 1, middle_at);
                self.nodes[node] = (left, right);
                Record::Node(node)
            }
        };
        if first == 0 && depth == 96 {
            self.v4 = record;
        }
        record
    }
}

fn put_node(bytes: &mut Vec<u8>, record_size: u16, left: u32, right: u32) {
    let ([a, b, c, d], [e, f, g, h]) = (left.to_be_bytes(), right.to_be_bytes());
    match record_size {
        24 => bytes.extend([b, c, d, f, g, h]),
        28 => bytes.extend([b, c, d, a << 4 | e, f, g, h]),
        _ => bytes.extend([a, b, c, d, e, f, g, h]),
    }
}

/// The data section: every distinct value once, maps made of pointers to keys and values.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    /// Encoded value → offset.
    known: HashMap<Vec<u8>, usize>,
}

impl Data {
    fn facts(&mut self, facts: &Facts) -> usize {
        let mut entries: Vec<(&str, Vec<u8>)> = Vec::new();
        if let Some(asn) = facts.asn {
            entries.push(("autonomous_system_number", uint(6, asn.into())));
        }
        if let Some(continent) = facts.continent {
            entries.push(("continent", self.shared_map("code", text(letters(&continent)))));
        }
        if let Some(country) = facts.country {
            entries.push(("country", self.shared_map("iso_code", text(letters(&country)))));
        }
        if let Some(location) = facts.location {
            let point = self.map(&[("latitude", double(location.lat)), ("longitude", double(location.lon))]);
            entries.push(("location", self.pointer(point)));
        }
        if let Some(subdivision) = &facts.subdivision {
            let element = self.shared_map("iso_code", text(subdivision));
            let list = [control(11, 1), element].concat();
            entries.push(("subdivisions", self.pointer(list)));
        }
        let map = self.map(&entries);
        self.intern(map)
    }

    fn shared_map(&mut self, key: &str, value: Vec<u8>) -> Vec<u8> {
        let map = self.map(&[(key, value)]);
        self.pointer(map)
    }

    fn map(&mut self, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut map = control(7, entries.len());
        for (key, value) in entries {
            map.extend(self.pointer(text(key)));
            map.extend(value);
        }
        map
    }

    /// A pointer to the value, which is written if it is new.
    fn pointer(&mut self, value: Vec<u8>) -> Vec<u8> {
        let offset = self.intern(value) as u32;
        let [a, b, c, d] = offset.to_be_bytes();
        // Specification, "Pointers": 11, 19, 27 or 32 bits, the ranges of the first three laid end to end.
        match offset {
            0..0x800 => vec![0x20 | c, d],
            0x800..0x8_0800 => {
                let [_, b, c, d] = (offset - 0x800).to_be_bytes();
                vec![0x28 | b, c, d]
            }
            0x8_0800..0x808_0800 => {
                let [a, b, c, d] = (offset - 0x8_0800).to_be_bytes();
                vec![0x30 | a, b, c, d]
            }
            _ => vec![0x38, a, b, c, d],
        }
    }

    fn intern(&mut self, value: Vec<u8>) -> usize {
        let bytes = &mut self.bytes;
        *self.known.entry(value).or_insert_with_key(|value| {
            bytes.extend(value);
            bytes.len() - value.len()
        })
    }
}

/// Two ASCII letters as text.
fn letters(code: &[u8; 2]) -> &str {
    str::from_utf8(code).unwrap_or_default()
}

/// Type and size in front of a value; types above 7 have a second octet. Sizes above 284 do not occur but in descriptions.
fn control(kind: u8, size: usize) -> Vec<u8> {
    let (low, more): (u8, Vec<u8>) = match size {
        0..29 => (size as u8, Vec::new()),
        29..285 => (29, vec![(size - 29) as u8]),
        _ => (30, ((size - 285).min(0xffff) as u16).to_be_bytes().to_vec()),
    };
    let head = if kind > 7 { vec![low, kind - 7] } else { vec![kind << 5 | low] };
    [head, more].concat()
}

/// Longest text: what a size of two octets can say.
const MAX_TEXT_LEN: usize = 285 + 0xffff;

fn text(text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_LEN)];
    [control(2, text.len()), text.as_bytes().to_vec()].concat()
}

fn double(number: f64) -> Vec<u8> {
    [control(3, 8), number.to_be_bytes().to_vec()].concat()
}

/// `kind`: 5 for 16 bits, 6 for 32, 9 for 64.
fn uint(kind: u8, number: u64) -> Vec<u8> {
    let octets: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
    [control(kind, octets.len()), octets].concat()
}

fn metadata(about: &About, node_count: u32, record_size: u16) -> Vec<u8> {
    let entries: [(&str, Vec<u8>); 9] = [
        ("binary_format_major_version", uint(5, 2)),
        ("binary_format_minor_version", uint(5, 0)),
        ("build_epoch", uint(9, about.build_unix_s)),
        ("database_type", text(&about.database_type)),
        ("description", [control(7, 1), text("en"), text(&about.description)].concat()),
        ("ip_version", uint(5, 6)),
        ("languages", [control(11, 1), text("en")].concat()),
        ("node_count", uint(6, node_count.into())),
        ("record_size", uint(5, record_size.into())),
    ];
    let fields = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    control(7, entries.len()).into_iter().chain(fields).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Location, Prefix};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv6Addr};

    fn about() -> About {
        About { database_type: "Test-City".into(), description: "for tests".into(), build_unix_s: 1_700_000_000 }
    }

    fn facts(asn: u32, country: &[u8; 2], subdivision: &str, location: Option<(f64, f64)>) -> Facts {
        Facts {
            continent: super::super::continent_of(*country),
            country: super::super::is_country(*country).then_some(*country),
            subdivision: (!subdivision.is_empty()).then(|| subdivision.into()),
            location: location.map(|(lat, lon)| Location { lat, lon }),
            asn: (asn > 0).then_some(asn),
        }
    }

    fn check(networks: &[(Prefix, Facts)]) {
        let table = Table::from_networks(networks);
        let bytes = write(&table, &about()).expect("a database");
        assert_eq!(bytes, write(&table, &about()).expect("a database"), "the same octets again");
        let again = Table::read([("test", bytes.as_slice())]).expect("a table");
        assert_eq!(again.databases()[0].kind, "Test-City");
        for (net, _) in networks {
            let last = space::last(*net);
            let other = if net.addr.is_ipv4() { IpAddr::V4((last as u32).into()) } else { IpAddr::V6(last.into()) };
            for addr in [net.addr, other] {
                assert_eq!(again.facts_at(addr), table.facts_at(addr), "{addr}");
                assert_eq!(again.network_at(addr), table.network_at(addr), "{addr}");
            }
        }
        let reader = maxminddb::Reader::from_source(bytes.as_slice()).expect("a database");
        reader.verify().expect("a database that keeps to the specification");
        // Other readers find IPv4 through the aliases.
        for (net, _) in networks.iter().filter(|(net, _)| net.addr.is_ipv4()) {
            let number = space::bits(net.addr);
            for alias in [0xffff_0000_0000 | number, 0x0064_ff9b << 96 | number, 0x2002 << 112 | number << 80] {
                let found = |addr: IpAddr| reader.lookup(addr).expect("a lookup").offset();
                assert_eq!(found(IpAddr::V6(Ipv6Addr::from(alias))), found(net.addr), "{net:?}");
            }
        }
    }

    fn net(text: &str) -> Prefix {
        space::parse_prefix(text).expect("a network")
    }

    #[test]
    fn what_is_written_is_read_back() {
        check(&[]);
        check(&[(net("0.0.0.0/0"), facts(1, b"DE", "", None))]);
        check(&[(net("::/0"), facts(1, b"DE", "", None))]);
        check(&[(net("0.0.0.0/0"), facts(1, b"DE", "", None)), (net("::/0"), facts(1, b"DE", "", None))]);
        check(&[
            (net("192.0.2.0/24"), facts(64500, b"US", "CA", Some((37.5, -122.25)))),
            (net("192.0.2.128/32"), facts(u32::MAX, b"US", "NY", None)),
            (net("255.255.255.255/32"), facts(0, b"TR", "34", None)),
            (net("2001:db8::/32"), facts(0, b"JP", "", Some((-90.0, 180.0)))),
            (net("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), facts(7, b"??", "", None)),
        ]);
    }

    #[test]
    fn large_databases_use_wider_records() {
        let mut bytes = Vec::new();
        for (record_size, left, right) in [(24, 0x00ab_cdef, 0x0012_3456), (28, 0x0fab_cdef, 0x0e12_3456), (32, 0xffab_cdef, 0xfe12_3456)] {
            bytes.clear();
            put_node(&mut bytes, record_size, left, right);
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, ["abcdef123456", "abcdeffe123456", "ffabcdeffe123456"][usize::from(record_size / 4 - 6)]);
        }
    }

    #[test]
    fn many_distinct_values_need_long_pointers() {
        let networks: Vec<(Prefix, Facts)> = (0..30_000_u32)
            .map(|at| {
                (space::prefix_of(IpAddr::V4((at << 12).into()), 20), facts(at + 1, b"US", "", Some((f64::from(at % 90), f64::from(at) / 1e6))))
            })
            .collect();
        check(&networks);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_table_survives(list in prop::collection::vec((any::<bool>(), any::<u128>(), 0..=128_u8, 0..4_u32), 0..16)) {
            let networks: Vec<(Prefix, Facts)> = list
                .into_iter()
                .map(|(v4, number, len, asn)| {
                    let addr = if v4 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) };
                    (space::prefix_of(addr, len), facts(asn, b"FR", "", None))
                })
                .filter(|(net, _)| !matches!(net.addr, IpAddr::V6(addr) if space::embedding(addr.into()).is_some()))
                .collect();
            check(&networks);
        }

        #[test]
        fn broken_databases_are_refused_or_read_but_never_panic(cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
            let table = Table::from_networks(&[
                (net("192.0.2.0/24"), facts(64500, b"US", "CA", Some((37.5, -122.25)))),
                (net("198.51.100.0/25"), facts(64501, b"DE", "", None)),
                (net("2001:db8::/32"), facts(0, b"JP", "13", None)),
            ]);
            let good = write(&table, &about()).expect("a database");
            let mut bytes = good.clone();
            for (at, value) in &flips {
                bytes[at.index(good.len())] = *value;
            }
            drop(Table::read([("flipped", bytes.as_slice())]));
            drop(Table::read([("cut", &bytes[..cut.index(good.len())])]));
        }
    }

    #[test]
    fn what_is_no_database_is_refused_by_name() {
        let good = write(&Table::from_networks(&[(net("192.0.2.0/24"), facts(1, b"US", "", None))]), &about()).expect("a database");
        let errors = Table::read([("a.mmdb", &b"not a database"[..]), ("good.mmdb", &good), ("c.mmdb", &[])]).expect_err("two errors");
        let names: Vec<&str> = errors.iter().map(|error| error.database.as_str()).collect();
        assert_eq!(names, ["a.mmdb", "c.mmdb"]);
        assert!(errors[0].to_string().starts_with("a.mmdb: "), "{}", errors[0]);
    }

    #[test]
    fn trees_that_unfold_without_end_are_refused() {
        // 127 nodes whose two records are the next node: 2^127 leaves.
        let mut bytes = Vec::new();
        for node in 0..127_u32 {
            put_node(&mut bytes, 24, node + 1, node + 1);
        }
        bytes.extend([0; SEPARATOR_LEN]);
        bytes.extend(MARKER);
        bytes.extend(metadata(&about(), 127, 24));
        let errors = Table::read([("bomb", bytes.as_slice())]).expect_err("an error");
        assert!(errors[0].text.contains("only a broken one"), "{}", errors[0]);
        // A tree that loops.
        let mut bytes = Vec::new();
        put_node(&mut bytes, 24, 0, 0);
        bytes.extend([0; SEPARATOR_LEN]);
        bytes.extend(MARKER);
        bytes.extend(metadata(&about(), 1, 24));
        assert!(Table::read([("loop", bytes.as_slice())]).is_err());
    }

    #[test]
    fn later_databases_fill_and_replace() {
        let database = |facts: Facts| write(&Table::from_networks(&[(net("192.0.2.0/24"), facts)]), &about()).expect("a database");
        let city = facts(0, b"US", "CA", Some((37.5, -122.0)));
        let both = |first: Facts, second: Facts| {
            let (first, second) = (database(first), database(second));
            let table = Table::read([("1", first.as_slice()), ("2", second.as_slice())]).expect("a table");
            table.facts_at(IpAddr::from([192, 0, 2, 1])).clone()
        };
        let asn = facts(64500, b"??", "", None);
        assert_eq!(both(city.clone(), asn.clone()), Facts { asn: Some(64500), ..city.clone() });
        assert_eq!(both(asn.clone(), city.clone()), Facts { asn: Some(64500), ..city.clone() });
        // Another country takes the earlier one's subdivision and coordinates along.
        assert_eq!(both(city.clone(), facts(0, b"DE", "", None)), facts(0, b"DE", "", None));
        assert_eq!(both(city.clone(), facts(0, b"US", "NY", None)), Facts { subdivision: Some("NY".into()), ..city.clone() });
        let filled = both(Facts { country: Some(*b"TR"), ..Facts::default() }, Facts::default());
        assert_eq!(filled.continent, Some(*b"AS"), "continents come from the country when a database lacks them");
    }
}
