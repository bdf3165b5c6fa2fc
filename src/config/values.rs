//! Small values of the files: durations, shares, places, prefixes, names of things.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::source::Value;
use crate::geo::space::parse_prefix;
use crate::policy::model::{Location, Prefix};

/// The longest name of a monitor, pool, policy or region: it is part of ids, metrics labels and tables.
pub(super) const MAX_NAME_CHARS: usize = 63;
/// Words of `to`, `default` and `all_down` that can name neither a pool nor a policy.
pub(super) const RESERVED_NAMES: [&str; 5] = ["nearest", "all", "last-good", "nodata", "servfail"];

/// Reads `500ms`, `10s`, `5m`, `1h`, `2d` or several of them in a row (`1h30m`).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis_each: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis_each)?))?;
    }
    Some(total)
}

/// `500 ms`, `10 s`, `5 min`, `1 h`: the largest unit that needs no fraction.
pub fn duration_words(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0 s".into(),
        _ if millis.is_multiple_of(86_400_000) => format!("{} d", millis / 86_400_000),
        _ if millis.is_multiple_of(3_600_000) => format!("{} h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{} min", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        _ => format!("{millis} ms"),
    }
}

/// Reads `512KiB`, `100MiB` or `2GiB`: octets.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let each: u64 = match text[digits..].trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(each)
}

/// A list of prefixes; each bad one is reported.
pub(super) fn prefixes(value: &Value<'_>) -> Vec<Prefix> {
    let mut all = Vec::new();
    for item in value.one_or_many() {
        let Some(text) = item.string("a prefix such as \"192.0.2.0/24\"") else { continue };
        match parse_prefix(text) {
            Ok(prefix) => all.push(prefix),
            Err(text) => item.error(text),
        }
    }
    all
}

/// `[latitude, longitude]`.
pub(super) fn location(value: &Value<'_>) -> Option<Location> {
    let numbers: Option<Vec<f64>> = value.as_list().and_then(|items| items.iter().map(Value::as_float).collect());
    let Some([lat, lon]) = numbers.as_deref() else {
        value.expected("[latitude, longitude] in degrees, such as [50.1, 8.7]");
        return None;
    };
    let mut good = true;
    for (what, found, most) in [("latitude", *lat, 90.0), ("longitude", *lon, 180.0)] {
        if !(-most..=most).contains(&found) {
            value.error(format!("found the {what} {found}, expected -{most} to {most}"));
            good = false;
        }
    }
    good.then_some(Location { lat: *lat, lon: *lon })
}

/// `"50%"` as its number.
pub(super) fn percent(text: &str) -> Option<u8> {
    let number = text.strip_suffix('%')?.trim_end();
    (number.bytes().all(|b| b.is_ascii_digit())).then(|| number.parse().ok().filter(|share| *share <= 100)).flatten()
}

/// True when the text can name a monitor, pool, policy or region: names are parts of ids (`zone/pool/address`).
pub(super) fn is_good_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Makes a range of durations.
pub(super) const fn span(least: Duration, most: Duration) -> RangeInclusive<Duration> {
    RangeInclusive::new(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, expected) in [
            ("10s", Some("10 s")),
            ("500ms", Some("500 ms")),
            ("90s", Some("90 s")),
            ("120s", Some("2 min")),
            ("1h30m", Some("90 min")),
            ("1d", Some("1 d")),
            ("0s", Some("0 s")),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("10 s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
            ("1µs", None),
        ] {
            assert_eq!(parse_duration(text).map(duration_words).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn prefixes_are_exact() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.1", Ok("192.0.2.1/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("2001:db8::1/32", Err("did you mean \"2001:db8::/32\"?")),
            ("192.0.2.1/24", Err("did you mean \"192.0.2.0/24\"?")),
            ("192.0.2.0/33", Err("expected 0 to 32")),
            ("192.0.2.0/+4", Err("expected 0 to 32")),
            ("192.0.2.0/", Err("expected 0 to 32")),
            ("192.0.2/24", Err("expected a prefix")),
            ("", Err("expected a prefix")),
        ] {
            match (parse_prefix(text), expected) {
                (Ok(prefix), Ok(words)) => assert_eq!(format!("{}/{}", prefix.addr, prefix.len), words, "{text}"),
                (Err(found), Err(words)) => assert!(found.contains(words), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn shares_are_whole_percents() {
        for (text, expected) in
            [("50%", Some(50)), ("0%", Some(0)), ("100%", Some(100)), ("101%", None), ("50", None), ("%", None), ("+5%", None), ("5.5%", None)]
        {
            assert_eq!(percent(text), expected, "{text}");
        }
    }
}
