//! One record of a database, whatever its shape: MaxMind's nested maps, or the flat fields of other publishers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::places::{continent_of, is_continent, is_country, is_subdivision};
use super::table::Facts;
use crate::policy::model::Location;

/// The fields we know, as found. Where a publisher writes a plain value and another a map with a code in it, both are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    continent: Option<String>,
    country: Option<String>,
    /// Where the network is registered: stands in when `country` is missing.
    registered: Option<String>,
    subdivision: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    asn: Option<u32>,
}

impl Record {
    /// The facts in it; what is malformed counts as unknown.
    pub(super) fn facts(&self) -> Facts {
        let place = self.country.as_deref().or(self.registered.as_deref()).map(place).unwrap_or_default();
        let continent = self.continent.as_deref().and_then(two_letters).filter(|code| is_continent(*code));
        let subdivision = |country: [u8; 2]| subdivision_code(country, self.subdivision.as_ref()?);
        Facts {
            continent: continent.or(place.continent),
            country: place.country,
            subdivision: place.country.and_then(subdivision),
            location: location(self.lat, self.lon),
            asn: self.asn.filter(|asn| *asn != 0),
        }
    }
}

/// What a country column means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) country: Option<[u8; 2]>,
    pub(super) continent: Option<[u8; 2]>,
}

/// Reads a country code as databases write it. Besides the standard: `UK` is GB, `EU` and `AP` (networks of a whole continent) are a continent
/// without a country. Anything else (`??`, `ZZ`, `A1`) is unknown.
pub(super) fn place(code: &str) -> Place {
    let Some(code) = two_letters(code) else { return Place::default() };
    match &code {
        b"UK" => Place { country: Some(*b"GB"), continent: Some(*b"EU") },
        b"EU" => Place { country: None, continent: Some(*b"EU") },
        b"AP" => Place { country: None, continent: Some(*b"AS") },
        _ if is_country(code) => Place { country: Some(code), continent: continent_of(code) },
        _ => Place::default(),
    }
}

/// A subdivision in upper case, without the country that some publishers put in front (`US-CA`).
pub(super) fn subdivision_code(country: [u8; 2], text: &str) -> Option<String> {
    let text = text.trim().to_ascii_uppercase();
    let code = match text.split_once('-') {
        Some((front, code)) if front.as_bytes() == country => code,
        _ => &text,
    };
    is_subdivision(code).then(|| code.to_owned())
}

/// A point, if both halves are there and on the globe.
pub(super) fn location(lat: Option<f64>, lon: Option<f64>) -> Option<Location> {
    let (lat, lon) = (lat?, lon?);
    ((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)).then_some(Location { lat, lon })
}

/// `15169` or `AS15169`.
pub(super) fn asn(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn two_letters(text: &str) -> Option<[u8; 2]> {
    let code: [u8; 2] = text.trim().as_bytes().try_into().ok()?;
    code.iter().all(u8::is_ascii_alphabetic).then(|| code.map(|letter| letter.to_ascii_uppercase()))
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_any(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Record, M::Error> {
        let (mut record, mut location) = (Record::default(), Field::default());
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "continent" | "continent_code" => set(&mut record.continent, map.next_value::<Field>()?.code),
                "country" | "country_code" => set(&mut record.country, map.next_value::<Field>()?.code),
                "registered_country" => record.registered = map.next_value::<Field>()?.code,
                "subdivisions" | "subdivision" | "region_code" | "state_code" => set(&mut record.subdivision, map.next_value::<Field>()?.code),
                "location" => location = map.next_value()?,
                "latitude" | "lat" => record.lat = map.next_value::<Field>()?.number,
                "longitude" | "lon" | "lng" => record.lon = map.next_value::<Field>()?.number,
                "autonomous_system_number" | "asn" | "as_number" => record.asn = map.next_value::<Field>()?.asn,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        record.lat = location.lat.or(record.lat);
        record.lon = location.lon.or(record.lon);
        Ok(record)
    }
}

/// `country` and `country_code` may both be there, one of them a name: the one that looks like a code wins.
fn set(slot: &mut Option<String>, found: Option<String>) {
    if slot.as_ref().is_none_or(|text| text.len() > 3) {
        *slot = found.or(slot.take());
    }
}

/// One value of whatever type, reduced to what a field may need. The first element of a list stands for the list.
#[derive(Clone, Debug, Default, PartialEq)]
struct Field {
    /// A text, or `iso_code` or `code` of a map.
    code: Option<String>,
    number: Option<f64>,
    asn: Option<u32>,
    lat: Option<f64>,
    lon: Option<f64>,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field { code: Some(text.to_owned()), number: text.trim().parse().ok(), asn: asn(text), ..Field::default() })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
        Ok(Field { number: Some(number as f64), asn: u32::try_from(number).ok(), ..Field::default() })
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field, E> {
        Ok(Field { number: Some(number as f64), asn: u32::try_from(number).ok(), ..Field::default() })
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field, E> {
        Ok(Field { number: Some(number), ..Field::default() })
    }

    fn visit_u128<E>(self, _: u128) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Field, E> {
        Ok(Field::default())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Field, S::Error> {
        let first = list.next_element::<Field>()?.unwrap_or_default();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Field, M::Error> {
        let mut field = Field::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "iso_code" | "code" => field.code = map.next_value::<Field>()?.code,
                "latitude" | "lat" => field.lat = map.next_value::<Field>()?.number,
                "longitude" | "lon" | "lng" => field.lon = map.next_value::<Field>()?.number,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Facts {
        serde_json::from_str::<Record>(json).expect("a record").facts()
    }

    #[test]
    fn records_of_several_publishers_say_the_same() {
        let city = Facts {
            continent: Some(*b"NA"),
            country: Some(*b"US"),
            subdivision: Some("CA".into()),
            location: Some(Location { lat: 37.5, lon: -122.0 }),
            asn: Some(64500),
        };
        for json in [
            r#"{"continent":{"code":"NA","names":{"en":"x"}},"country":{"iso_code":"US","geoname_id":1},"subdivisions":[{"iso_code":"CA"},{"iso_code":"XX"}],
                "location":{"latitude":37.5,"longitude":-122.0,"time_zone":"x"},"autonomous_system_number":64500,"traits":{"is_anycast":true}}"#,
            r#"{"continent":"NA","country":"US","region_code":"CA","lat":"37.5","lng":"-122","asn":"AS64500"}"#,
            r#"{"country":"United States","country_code":"us","continent":"North America","continent_code":"NA","subdivision":"US-CA","latitude":37.5,"longitude":-122,"as_number":64500}"#,
        ] {
            assert_eq!(read(json), city, "{json}");
        }
    }

    #[test]
    fn nonsense_counts_as_unknown() {
        for json in [
            r#"{}"#,
            r#"{"country":"??"}"#,
            r#"{"country":{"iso_code":"ZZ"}}"#,
            r#"{"country":7,"continent":true,"location":[],"asn":-1,"subdivisions":[]}"#,
            r#"{"location":{"latitude":91,"longitude":0},"asn":0}"#,
            r#"{"location":{"latitude":51}}"#,
            r#"{"subdivisions":[{"iso_code":"CA"}]}"#,
            r#"{"asn":"AS","continent":"XX"}"#,
        ] {
            assert!(read(json).is_empty(), "{json}");
        }
    }

    #[test]
    fn codes_outside_the_standard_are_understood() {
        assert_eq!(place("UK"), Place { country: Some(*b"GB"), continent: Some(*b"EU") });
        assert_eq!(place("eu"), Place { country: None, continent: Some(*b"EU") });
        assert_eq!(place("AP"), Place { country: None, continent: Some(*b"AS") });
        assert_eq!(read(r#"{"registered_country":{"iso_code":"FR"}}"#).country, Some(*b"FR"));
        assert_eq!(read(r#"{"registered_country":{"iso_code":"FR"},"country":{"iso_code":"DE"}}"#).country, Some(*b"DE"));
    }
}
