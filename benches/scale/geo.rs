//! A made-up database of the size of a City database: as many networks, as many places, prefixes of the usual lengths. The same in every run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meridian::geo::{Facts, Table, continent_of, is_country, writer};
use meridian::policy::model::{Location, Prefix};

/// SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Subdivisions of a country, and cities of a subdivision.
const SUBDIVISIONS: u64 = 12;
const CITIES: u64 = 36;

/// Every country there is.
pub(crate) fn countries() -> Vec<[u8; 2]> {
    let letters = || b'A'..=b'Z';
    letters().flat_map(|a| letters().map(move |b| [a, b])).filter(|code| is_country(*code)).collect()
}

struct World {
    chance: Chance,
    countries: Vec<[u8; 2]>,
    networks: Vec<(Prefix, Facts)>,
}

/// How a family is cut up.
struct Shape {
    width: u8,
    /// At this length cutting begins to be left to chance.
    whole: u8,
    deepest: u8,
    /// Chance of a cut.
    percent: u64,
}

const V4: Shape = Shape { width: 32, whole: 14, deepest: 27, percent: 74 };
const V6: Shape = Shape { width: 128, whole: 26, deepest: 48, percent: 57 };

#[derive(Clone, Copy)]
struct Place {
    country: [u8; 2],
    subdivision: u64,
}

impl World {
    /// Few countries have most of the addresses.
    fn place(&mut self) -> Place {
        let count = self.countries.len() as u64;
        let (a, b) = (self.chance.below(count), self.chance.below(count));
        let at = (a * b / count) as usize;
        // Scattered, so that it is not the alphabet that decides.
        let country = self.countries[at * 97 % self.countries.len()];
        Place { country, subdivision: self.chance.below(SUBDIVISIONS) }
    }

    /// Cuts a block until chance, or the greatest length, says stop.
    fn cut(&mut self, shape: &Shape, addr: u128, len: u8, mut place: Place) {
        if len == shape.whole || self.chance.is(3) {
            place = self.place();
        } else if self.chance.is(18) {
            place.subdivision = self.chance.below(SUBDIVISIONS);
        }
        if len < shape.deepest && (len < shape.whole || self.chance.is(shape.percent)) {
            self.cut(shape, addr, len + 1, place);
            self.cut(shape, addr | 1 << (shape.width - 1 - len), len + 1, place);
            return;
        }
        // Some of the space is nobody's.
        if self.chance.is(4) {
            return;
        }
        let city = self.chance.below(CITIES);
        let addr = if shape.width == 32 { IpAddr::V4(Ipv4Addr::from(addr as u32)) } else { IpAddr::V6(Ipv6Addr::from(addr)) };
        self.networks.push((Prefix { addr, len }, facts(place, city)));
    }
}

fn facts(place: Place, city: u64) -> Facts {
    let number = u64::from(place.country[0]) << 24 | u64::from(place.country[1]) << 16 | place.subdivision << 8 | city;
    let (mut here, mut around) = (Chance(number >> 16), Chance(number));
    let centre = (here.below(110) as f64 - 50.0, here.below(340) as f64 - 170.0);
    let offset = |chance: &mut Chance| chance.below(100_000) as f64 / 10_000.0;
    let round = |degrees: f64| (degrees * 10_000.0).round() / 10_000.0;
    let location = Location { lat: round(centre.0 + offset(&mut around)), lon: round(centre.1 + offset(&mut around)) };
    Facts {
        continent: continent_of(place.country),
        country: Some(place.country),
        subdivision: Some(format!("S{:02}", place.subdivision)),
        location: Some(location),
        asn: None,
    }
}

/// The octets of the database: about 4.6 million networks with `scale` 100, in proportion with less.
pub(crate) fn database(scale: u64) -> Vec<u8> {
    let mut world = World { chance: Chance(7), countries: countries(), networks: Vec::new() };
    let nowhere = Place { country: *b"US", subdivision: 0 };
    for block in (1..224_u128).filter(|block| !matches!(block, 10 | 127)) {
        if world.chance.is(scale) {
            world.cut(&V4, block << 24, 8, nowhere);
        }
    }
    for block in [0x2001_u128, 0x2400, 0x2402, 0x2404, 0x2406, 0x2600, 0x2602, 0x2604, 0x2804, 0x2a00, 0x2a01, 0x2a02, 0x2a06, 0x2a0c, 0x2c0f] {
        if world.chance.is(scale) {
            world.cut(&V6, block << 112, 16, nowhere);
        }
    }
    let table = Table::from_networks(&world.networks);
    eprintln!("{} networks, {} ranges, {} distinct records", world.networks.len(), table.len(), table.facts_len());
    let about = writer::About { database_type: "Synthetic-City".into(), description: "made up, for measuring".into(), build_unix_s: 0 };
    writer::write(&table, &about).expect("small enough")
}
