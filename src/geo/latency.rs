//! The static table of round-trip times: client networks down, regions across, in CSV.
//!
//! ```text
//! # comments; blank = unknown; '!' pins a value against measurements
//! key,              us-east, eu-west, ap-south
//! cidr:192.0.2.0/24,     12,      88,      210
//! asn:64500@IN,            ,     130!,      35
//! asn:64500,             20,     140,      230
//! sub:US-CA,             62,     140,      180
//! country:DE,            95,      14,      130
//! continent:AF,         180,      90,      120
//! *,                     90,     110,      160
//! ```
//!
//! The most specific key wins for each column by itself, in the order above; a blank falls through to the next.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use super::places::{is_continent, is_country, is_subdivision};
use super::space;
use super::table::Facts;
use crate::policy::model::Prefix;

/// Round-trip times that make sense, ms: below is not a network, above is not reachable.
const RTT_RANGE_MS: std::ops::RangeInclusive<f32> = 1.0..=5000.0;
/// Most columns: regions in use are a few dozen.
const MAX_REGIONS: usize = 1000;
/// Most rows: a row per announced prefix of the internet, with room.
const MAX_ROWS: usize = 1 << 21;
/// Networks longer than this work only for clients that send enough bits.
const USUAL_BITS: (u8, u8) = (24, 56);

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rtt {
    /// 1 to 5000.
    pub ms: f32,
    /// Written with `!`: measurements do not change it.
    pub pinned: bool,
}

/// A problem with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RttProblem {
    /// One-based.
    pub line: u32,
    /// What was found, what was expected.
    pub text: String,
}

impl fmt::Display for RttProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// What a row is about, from the most specific to the least.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Net(Prefix),
    AsnIn(u32, [u8; 2]),
    Asn(u32),
    Subdivision([u8; 2], String),
    Country([u8; 2]),
    Continent([u8; 2]),
    Everyone,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RttTable {
    regions: Vec<String>,
    header_line: u32,
    /// Column by column as `regions`.
    rows: HashMap<Key, Vec<Option<Rtt>>>,
    /// Lengths of the networks in `rows`, longest first, so that only those are tried.
    lens_v4: Vec<u8>,
    lens_v6: Vec<u8>,
    /// Lines that work, but perhaps not as meant.
    warnings: Vec<RttProblem>,
}

impl RttTable {
    /// Reads the text. The error lists every bad line.
    pub fn parse(text: &str) -> Result<RttTable, Vec<RttProblem>> {
        let (mut table, mut problems) = (RttTable::default(), Vec::new());
        let mut lines_of: HashMap<Key, u32> = HashMap::new();
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
        for (number, line) in lines.map(|(number, line)| (number as u32 + 1, line.split('#').next().unwrap_or_default().trim())) {
            if line.is_empty() {
                continue;
            }
            let mut report = |text: String| problems.push(RttProblem { line: number, text });
            let mut fields = line.split(',').map(str::trim);
            let first = fields.next().unwrap_or_default();
            if table.header_line == 0 {
                table.header_line = number;
                table.read_header(first, fields, &mut report);
                continue;
            }
            let values = read_values(fields, table.regions.len(), &mut report);
            match read_key(first) {
                Err(text) => report(text),
                Ok(key) => {
                    if let Some(earlier) = lines_of.insert(key.clone(), number) {
                        report(format!("found {first:?} again, expected it once: it is on line {earlier}"));
                    } else if table.rows.len() == MAX_ROWS {
                        report(format!("found more than {MAX_ROWS} rows, expected fewer"));
                        break;
                    }
                    table.warn_about(&key, number);
                    table.rows.insert(key, values);
                }
            }
        }
        if table.header_line == 0 {
            problems.push(RttProblem { line: 1, text: "found no header, expected key and the regions".to_owned() });
        }
        let lens = |v4: bool| table.prefixes().iter().filter(|net| net.addr.is_ipv4() == v4).map(|net| net.len).collect::<BTreeSet<u8>>();
        (table.lens_v4, table.lens_v6) = (lens(true).into_iter().rev().collect(), lens(false).into_iter().rev().collect());
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    fn read_header<'a>(&mut self, first: &str, names: impl Iterator<Item = &'a str>, report: &mut dyn FnMut(String)) {
        if first != "key" {
            report(format!("found {first:?}, expected the header: key and the regions"));
        }
        for name in names {
            if name.is_empty() {
                report("found a column without a name, expected a region".to_owned());
            } else if self.regions.len() <= MAX_REGIONS && self.regions.iter().any(|region| region == name) {
                report(format!("found region {name:?} again, expected it once"));
            }
            self.regions.push(name.to_owned());
        }
        if self.regions.is_empty() || self.regions.len() > MAX_REGIONS {
            report(format!("found {} regions, expected 1 to {MAX_REGIONS}", self.regions.len()));
        }
    }

    fn warn_about(&mut self, key: &Key, line: u32) {
        let Key::Net(net) = key else { return };
        let usual = if net.addr.is_ipv4() { USUAL_BITS.0 } else { USUAL_BITS.1 };
        if net.len > usual {
            let text = format!(
                "found a network of {} bits: it counts for resolvers in it, and for client subnets of more than the usual {usual} bits",
                net.len
            );
            self.warnings.push(RttProblem { line, text });
        }
    }

    /// The columns.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// Where the columns are named, one-based; for messages about regions that do not exist.
    pub fn header_line(&self) -> u32 {
        self.header_line
    }

    /// Lines that work, but perhaps not as meant.
    pub fn warnings(&self) -> &[RttProblem] {
        &self.warnings
    }

    /// The networks that it names, in order: a class map must know them.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut nets: Vec<Prefix> = self.rows.keys().filter_map(|key| if let Key::Net(net) = key { Some(*net) } else { None }).collect();
        nets.sort_unstable();
        nets
    }

    /// The round-trip time between clients and a region, ms. `deepest` is the longest network that the class map has around the clients, which
    /// must have been given [`RttTable::prefixes`]; or their own address as a prefix.
    pub fn rtt(&self, facts: &Facts, deepest: Option<Prefix>, region: &str) -> Option<f32> {
        self.value(facts, deepest, region).map(|rtt| rtt.ms)
    }

    /// Like [`RttTable::rtt`], with the pin.
    pub fn value(&self, facts: &Facts, deepest: Option<Prefix>, region: &str) -> Option<Rtt> {
        let column = self.regions.iter().position(|name| name == region)?;
        let find = |key: &Key| self.rows.get(key).and_then(|row| *row.get(column)?);
        let by_net = deepest.and_then(|net| {
            let lens = if matches!(net.addr, IpAddr::V4(_)) { &self.lens_v4 } else { &self.lens_v6 };
            lens.iter().filter(|len| **len <= net.len).find_map(|len| find(&Key::Net(space::prefix_of(net.addr, *len))))
        });
        by_net
            .or_else(|| find(&Key::AsnIn(facts.asn?, facts.country?)))
            .or_else(|| find(&Key::Asn(facts.asn?)))
            .or_else(|| find(&Key::Subdivision(facts.country?, facts.subdivision.clone()?)))
            .or_else(|| find(&Key::Country(facts.country?)))
            .or_else(|| find(&Key::Continent(facts.continent?)))
            .or_else(|| find(&Key::Everyone))
    }
}

fn read_values<'a>(fields: impl Iterator<Item = &'a str>, columns: usize, report: &mut dyn FnMut(String)) -> Vec<Option<Rtt>> {
    let mut values = Vec::with_capacity(columns);
    for field in fields {
        if field.is_empty() {
            values.push(None);
            continue;
        }
        let (number, pinned) = field.strip_suffix('!').map_or((field, false), |number| (number.trim_end(), true));
        match number.parse::<f32>().ok().filter(|ms| RTT_RANGE_MS.contains(ms)) {
            Some(ms) => values.push(Some(Rtt { ms, pinned })),
            None => {
                report(format!("found {field:?}, expected a time of {} to {} ms, or nothing", RTT_RANGE_MS.start(), RTT_RANGE_MS.end()));
                values.push(None);
            }
        }
    }
    // A trailing comma is how a last blank cell is often written.
    if values.len() == columns + 1 && values.last() == Some(&None) {
        values.pop();
    }
    if values.len() > columns {
        report(format!("found {} values, expected {columns}, one per region", values.len()));
    }
    values
}

fn read_key(text: &str) -> Result<Key, String> {
    if text == "*" {
        return Ok(Key::Everyone);
    }
    let expected = "cidr:NETWORK, asn:NUMBER, asn:NUMBER@COUNTRY, sub:COUNTRY-CODE, country:CODE, continent:CODE or *";
    let (kind, value) = text.split_once(':').ok_or_else(|| format!("found key {text:?}, expected {expected}"))?;
    let country = |code: &str| {
        let letters = <[u8; 2]>::try_from(code.as_bytes()).ok().filter(|letters| is_country(*letters));
        letters.ok_or_else(|| format!("{kind}: found {code:?}, expected an ISO 3166-1 country in upper case"))
    };
    let asn = |digits: &str| {
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|asn| *asn != 0);
        number.ok_or_else(|| format!("asn: found {digits:?}, expected a number of 1 to {}", u32::MAX))
    };
    match kind {
        "cidr" => space::parse_prefix(value).map(Key::Net).map_err(|error| format!("cidr: {error}")),
        "asn" => match value.split_once('@') {
            Some((digits, code)) => Ok(Key::AsnIn(asn(digits)?, country(code)?)),
            None => asn(value).map(Key::Asn),
        },
        "sub" => match value.split_once('-') {
            Some((code, part)) if is_subdivision(part) => Ok(Key::Subdivision(country(code)?, part.to_owned())),
            _ => Err(format!("sub: found {value:?}, expected a country and a subdivision such as US-CA")),
        },
        "country" => country(value).map(Key::Country),
        "continent" => {
            let letters = <[u8; 2]>::try_from(value.as_bytes()).ok().filter(|letters| is_continent(*letters));
            letters.map(Key::Continent).ok_or_else(|| format!("continent: found {value:?}, expected AF, AN, AS, EU, NA, OC or SA"))
        }
        _ => Err(format!("found key {text:?}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# gtm-rtt 1
key,              us-east, us-west, eu-west, ap-south   # regions
cidr:192.0.2.0/24,     12,      71,     88,     210
cidr:192.0.0.0/16,       ,        ,       ,     209
cidr:2001:db8::/32,    15,      70,     90,
asn:64500,             20,        ,    140!,    230
asn:64500@IN,            ,        ,    130,      35.5
sub:US-CA,             62,       9,    140,     180

country:DE,            95,     150,     14,     130
continent:AF,         180,     240,     90,     120
*,                     90,     130,    110
";

    fn facts(text: &str) -> Facts {
        let mut facts = Facts::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match (word.strip_prefix("AS"), word.split_once('-')) {
                (Some(asn), _) => facts.asn = asn.parse().ok(),
                (None, Some((country, subdivision))) => {
                    facts.country = country.as_bytes().try_into().ok();
                    facts.subdivision = Some(subdivision.into());
                }
                (None, None) if is_continent(word.as_bytes().try_into().expect("two letters")) => facts.continent = word.as_bytes().try_into().ok(),
                (None, None) => facts.country = word.as_bytes().try_into().ok(),
            }
        }
        facts
    }

    #[test]
    fn the_most_specific_key_wins_in_each_column() {
        let table = RttTable::parse(TABLE).expect("a table");
        let net = |text: &str| (!text.is_empty()).then(|| space::parse_prefix(text).expect("a network"));
        for (client, within, expected) in [
            ("", "", [Some(90.0), Some(130.0), Some(110.0), None]),
            ("AF", "", [Some(180.0), Some(240.0), Some(90.0), Some(120.0)]),
            ("EU DE", "", [Some(95.0), Some(150.0), Some(14.0), Some(130.0)]),
            ("NA US-CA", "", [Some(62.0), Some(9.0), Some(140.0), Some(180.0)]),
            ("NA US-NY", "", [Some(90.0), Some(130.0), Some(110.0), None]),
            ("NA US-CA AS64500", "", [Some(20.0), Some(9.0), Some(140.0), Some(230.0)]),
            ("IN AS64500", "", [Some(20.0), Some(130.0), Some(130.0), Some(35.5)]),
            ("EU DE", "192.0.2.0/24", [Some(12.0), Some(71.0), Some(88.0), Some(210.0)]),
            ("EU DE", "192.0.2.77/32", [Some(12.0), Some(71.0), Some(88.0), Some(210.0)]),
            ("EU DE", "192.0.3.0/24", [Some(95.0), Some(150.0), Some(14.0), Some(209.0)]),
            ("EU DE", "192.0.0.0/15", [Some(95.0), Some(150.0), Some(14.0), Some(130.0)]),
            ("AF", "2001:db8:1::/48", [Some(15.0), Some(70.0), Some(90.0), Some(120.0)]),
        ] {
            let found = ["us-east", "us-west", "eu-west", "ap-south"].map(|region| table.rtt(&facts(client), net(within), region));
            assert_eq!(found, expected, "{client} {within}");
        }
        assert_eq!(table.rtt(&facts("EU DE"), None, "mars"), None);
        assert_eq!(table.value(&facts("AS64500"), None, "eu-west"), Some(Rtt { ms: 140.0, pinned: true }));
        assert_eq!(table.prefixes().len(), 3);
        assert_eq!((table.regions().len(), table.header_line(), table.warnings().len()), (4, 2, 0));
    }

    #[test]
    fn long_networks_are_warned_about() {
        let table = RttTable::parse("key,a\ncidr:192.0.2.0/25,1\ncidr:2001:db8::/57,1\ncidr:192.0.2.0/24,2\n").expect("a table");
        assert_eq!(table.warnings().iter().map(|warning| warning.line).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn every_bad_line_is_reported() {
        let bad = "key,a,b,a,\ncidr:192.0.2.1/24,1,2\nasn:x,1\nasn:64500@XX,1\nsub:US,1\nsub:US-CALI,1\ncountry:de,1\ncountry:UK,1\ncontinent:XX,1\n\
            planet:x,1\nx,1\n*,0\n*,1\ncountry:DE,5001\ncountry:FR,1,2,3,4,5\ncountry:GB,NaN\ncountry:US,-1\nasn:0,1\nasn:4294967296,1\ncountry:IT,1!!\n";
        let problems = RttTable::parse(bad).expect_err("problems");
        let lines: Vec<u32> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20], "{problems:#?}");
        for text in ["", "# only a comment\n", "key\n*,\n", "region,a\n*,1\n", "*,1\n"] {
            assert!(RttTable::parse(text).is_err(), "{text:?}");
        }
    }
}
