//! Which column of a CSV file means what, by its header or, without one, by the look of its first line.

use std::net::{IpAddr, Ipv4Addr};

use csv::StringRecord;

use super::record::{asn, location, place, subdivision_code};
use super::space;
use super::table::Facts;
use crate::geo::is_continent;

/// What a column can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Network,
    Start,
    End,
    Continent,
    Country,
    Subdivision,
    Latitude,
    Longitude,
    Asn,
}

/// Header names, lower case, of ours and of the usual publishers.
const NAMES: [(Meaning, &str, &[&str]); 9] = [
    (Meaning::Network, "network", &["network", "cidr", "prefix", "subnet", "range"]),
    (
        Meaning::Start,
        "start",
        &[
            "start",
            "start_ip",
            "ip_start",
            "ip_from",
            "first",
            "first_ip",
            "from",
            "range_start",
            "ip_range_start",
            "network_start_ip",
            "network_start_integer",
        ],
    ),
    (
        Meaning::End,
        "end",
        &["end", "end_ip", "ip_end", "ip_to", "last", "last_ip", "to", "range_end", "ip_range_end", "network_last_ip", "network_last_integer"],
    ),
    (Meaning::Continent, "continent", &["continent", "continent_code"]),
    (Meaning::Country, "country", &["country", "country_code", "country_iso_code", "iso_code", "country_iso", "cc"]),
    (
        Meaning::Subdivision,
        "subdivision",
        &["subdivision", "subdivision_code", "subdivision_iso_code", "subdivision_1_iso_code", "region", "region_code", "state", "state_code"],
    ),
    (Meaning::Latitude, "latitude", &["latitude", "lat"]),
    (Meaning::Longitude, "longitude", &["longitude", "lon", "lng", "long"]),
    (Meaning::Asn, "asn", &["asn", "as", "as_number", "autonomous_system_number"]),
];

/// Country columns that say "unknown" on purpose.
const UNKNOWN: [&str; 5] = ["", "??", "-", "ZZ", "XX"];

/// The columns of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// By [`Meaning`].
    at: [Option<usize>; NAMES.len()],
}

/// One line, checked.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
    pub(super) facts: Facts,
    /// A country code of the right form that does not exist.
    pub(super) unknown_country: Option<String>,
}

impl Columns {
    /// Reads the first line of a file; true when it is a header.
    pub(super) fn recognise(line: &StringRecord) -> Result<(Columns, bool), String> {
        let first = line.get(0).unwrap_or_default();
        let columns = if first.split_once('/').is_some_and(|(addr, _)| addr.parse::<IpAddr>().is_ok()) {
            &[Meaning::Network, Meaning::Country][..]
        } else if address(first).is_ok() {
            Columns::by_look(line)?
        } else {
            return Columns::by_header(line).map(|columns| (columns, true));
        };
        let mut found = Columns::default();
        for (at, meaning) in columns.iter().enumerate() {
            found.at[*meaning as usize] = Some(at);
        }
        // City, region and the like between the country and the coordinates.
        if line.len() >= 8 && found.at[Meaning::Continent as usize].is_some() {
            found.at[Meaning::Latitude as usize] = Some(6);
            found.at[Meaning::Longitude as usize] = Some(7);
        }
        if line.len() < columns.len() {
            return Err(format!("found {} columns, expected a header, network,country or start,end,country", line.len()));
        }
        Ok((found, false))
    }

    /// Without a header: tor and IP2Location (start, end, country), DB-IP (start, end, asn; start, end, continent, country, …).
    fn by_look(line: &StringRecord) -> Result<&'static [Meaning], String> {
        let field = |at: usize| line.get(at).unwrap_or_default();
        let is_continent = <[u8; 2]>::try_from(field(2).as_bytes()).is_ok_and(is_continent);
        Ok(match line.len() {
            8.. if is_continent && field(3).len() == 2 => &[Meaning::Start, Meaning::End, Meaning::Continent, Meaning::Country],
            3.. if !field(2).is_empty() && asn(field(2)).is_some() => &[Meaning::Start, Meaning::End, Meaning::Asn],
            3.. => &[Meaning::Start, Meaning::End, Meaning::Country],
            found => return Err(format!("found {found} columns, expected a header, network,country or start,end,country")),
        })
    }

    fn by_header(line: &StringRecord) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for (at, name) in line.iter().enumerate() {
            let name = name.to_ascii_lowercase().replace([' ', '-'], "_");
            let Some((meaning, word, _)) = NAMES.iter().find(|(.., names)| names.contains(&name.as_str())) else { continue };
            if columns.at[*meaning as usize].replace(at).is_some() {
                return Err(format!("found two columns for the {word}, expected one"));
            }
        }
        let has = |meaning: Meaning| columns.at[meaning as usize].is_some();
        let has_place = has(Meaning::Network) || has(Meaning::Start) && has(Meaning::End);
        if !has_place {
            return Err("found no network, expected a header with network, or start and end".to_owned());
        }
        if columns.at[Meaning::Continent as usize..].iter().all(Option::is_none) {
            return Err("found nothing about networks, expected a column continent, country, subdivision, latitude and longitude, or asn".to_owned());
        }
        Ok(columns)
    }

    /// Checks one line.
    pub(super) fn row(&self, line: &StringRecord) -> Result<Row, String> {
        let field = |meaning: Meaning| self.at[meaning as usize].and_then(|at| line.get(at)).filter(|text| !text.is_empty());
        let (first, last) = match field(Meaning::Network) {
            Some(text) => network(text)?,
            None if self.at[Meaning::Network as usize].is_some() && self.at[Meaning::Start as usize].is_none() => {
                return Err("network: found nothing, expected a network such as 192.0.2.0/24".to_owned());
            }
            None => range(field(Meaning::Start), field(Meaning::End))?,
        };
        let mut unknown_country = None;
        let mut found = place(field(Meaning::Country).unwrap_or_default());
        if let Some(code) = field(Meaning::Country).filter(|code| !UNKNOWN.contains(&code.to_ascii_uppercase().as_str())) {
            if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(format!("country: found {code:?}, expected two letters"));
            }
            unknown_country = (found.country.is_none() && found.continent.is_none()).then(|| code.to_owned());
        }
        if let Some(code) = field(Meaning::Continent) {
            let letters = <[u8; 2]>::try_from(code.to_ascii_uppercase().as_bytes()).ok().filter(|letters| is_continent(*letters));
            let letters = letters.ok_or_else(|| format!("continent: found {code:?}, expected AF, AN, AS, EU, NA, OC or SA"))?;
            found.continent = Some(letters);
        }
        let facts = Facts {
            // What follows from the country is filled in when all inputs are together.
            continent: if field(Meaning::Continent).is_some() || found.country.is_none() { found.continent } else { None },
            country: found.country,
            subdivision: field(Meaning::Subdivision).map(|text| subdivision(found.country, text)).transpose()?,
            location: point(field(Meaning::Latitude), field(Meaning::Longitude))?,
            asn: field(Meaning::Asn).map(number).transpose()?.filter(|asn| *asn != 0),
        };
        Ok(Row { first, last, facts, unknown_country })
    }
}

fn network(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let prefix = space::parse_prefix(text).map_err(|error| format!("network: {error}"))?;
    let last = space::last(prefix);
    Ok((prefix.addr, if prefix.addr.is_ipv4() { IpAddr::V4(Ipv4Addr::from(last as u32)) } else { IpAddr::V6(last.into()) }))
}

fn range(start: Option<&str>, end: Option<&str>) -> Result<(IpAddr, IpAddr), String> {
    let read = |word: &str, text: Option<&str>| address(text.unwrap_or_default()).map_err(|error| format!("{word}: {error}"));
    let (start, end) = (read("start", start)?, read("end", end)?);
    if start.is_ipv4() != end.is_ipv4() {
        return Err(format!("found {start} to {end}, expected one family"));
    }
    if start > end {
        return Err(format!("found {start} to {end}, expected the end not before the start"));
    }
    Ok((start, end))
}

/// An address, or an IPv4 address as one number.
fn address(text: &str) -> Result<IpAddr, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u32 = text.parse().map_err(|_| format!("found {text}, expected an IPv4 address as a number of at most {}", u32::MAX))?;
        return Ok(IpAddr::V4(number.into()));
    }
    text.parse().map_err(|_| format!("found {text:?}, expected an address"))
}

fn subdivision(country: Option<[u8; 2]>, text: &str) -> Result<String, String> {
    let country = country.ok_or_else(|| format!("subdivision: found {text:?} without a country, expected both"))?;
    subdivision_code(country, text).ok_or_else(|| format!("subdivision: found {text:?}, expected one to three letters or digits such as CA"))
}

fn point(lat: Option<&str>, lon: Option<&str>) -> Result<Option<crate::policy::model::Location>, String> {
    let (lat, lon) = match (lat, lon) {
        (None, None) => return Ok(None),
        (Some(lat), Some(lon)) => (lat, lon),
        _ => return Err("found one of latitude and longitude, expected both or neither".to_owned()),
    };
    let found = location(lat.parse().ok(), lon.parse().ok());
    found.map(Some).ok_or_else(|| format!("found latitude {lat:?} and longitude {lon:?}, expected degrees within 90 and 180"))
}

fn number(text: &str) -> Result<u32, String> {
    asn(text).ok_or_else(|| format!("asn: found {text:?}, expected a number such as 64500"))
}
