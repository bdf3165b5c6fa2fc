//! Two types with a text form of their own: LOC (RFC 1876) and APL (RFC 3123).

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::Expected;
use crate::zone::token::decimal;

/// Octets of a LOC record.
pub(super) const LOC_LEN: usize = 16;

/// The equator and the prime meridian on the wire (RFC 1876 §2).
const MIDDLE: u32 = 1 << 31;
/// Thousandths of a second of arc in a degree.
const DEGREE: u32 = 3_600_000;
/// Sea level on the wire: altitudes count centimetres from 100 km below it.
const SEA_LEVEL_CM: u64 = 10_000_000;
/// Size, horizontal and vertical precision when they are left out: 1 m, 10 km, 10 m (RFC 1876 §3).
const DEFAULT_PRECISIONS: [u8; 3] = [0x12, 0x16, 0x13];

/// Version 0, digits within their ranges, a place on the globe.
pub(super) fn fits(rest: &[u8]) -> bool {
    let Some(loc) = rest.first_chunk::<LOC_LEN>() else { return false };
    let precision_fits = |octet: u8| octet >> 4 <= 9 && octet & 0xf <= 9 && (octet >> 4 != 0 || octet == 0);
    let angle = |at: usize| u32::from_be_bytes([loc[at], loc[at + 1], loc[at + 2], loc[at + 3]]);
    loc[0] == 0
        && loc[1..4].iter().all(|&octet| precision_fits(octet))
        && angle(4).abs_diff(MIDDLE) <= 90 * DEGREE
        && angle(8).abs_diff(MIDDLE) <= 180 * DEGREE
}

/// Reads `d [m [s]] N|S d [m [s]] E|W alt[m] [size[m] [hp[m] [vp[m]]]]`; appends 16 octets.
pub(super) fn read(words: &[&[u8]], out: &mut Vec<u8>) -> Result<(), (usize, Expected)> {
    let (latitude, next) = read_angle(words, 0, 90, b'N', b'S').ok_or((0, Expected::Latitude))?;
    let (longitude, mut next) = read_angle(words, next, 180, b'E', b'W').ok_or((next, Expected::Longitude))?;
    let altitude = words.get(next).and_then(|word| read_altitude(word)).ok_or((next, Expected::Altitude))?;
    next += 1;
    let mut precisions = DEFAULT_PRECISIONS;
    for slot in &mut precisions {
        let Some(word) = words.get(next) else { break };
        *slot = read_precision(word).ok_or((next, Expected::Precision))?;
        next += 1;
    }
    if next < words.len() {
        return Err((next, Expected::End));
    }
    out.push(0);
    out.extend_from_slice(&precisions);
    for number in [latitude, longitude, altitude] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    Ok(())
}

fn read_angle(words: &[&[u8]], from: usize, max_degrees: u32, plus: u8, minus: u8) -> Option<(u32, usize)> {
    let mut parts = [0; 3];
    for at in 0..=3 {
        let word = *words.get(from + at)?;
        if let [letter] = word
            && at > 0
            && letter.is_ascii_alphabetic()
        {
            let total = parts[0] * DEGREE + parts[1] * 60_000 + parts[2];
            let value = match letter.to_ascii_uppercase() {
                _ if total > max_degrees * DEGREE => return None,
                letter if letter == plus => MIDDLE + total,
                letter if letter == minus => MIDDLE - total,
                _ => return None,
            };
            return Some((value, from + at + 1));
        }
        *parts.get_mut(at)? = match at {
            0 => decimal(word, max_degrees)?,
            1 => decimal(word, 59)?,
            _ => u32::try_from(fixed_point(word, 3).filter(|thousandths| *thousandths < 60_000)?).ok()?,
        };
    }
    None
}

/// A decimal number with at most `places` digits behind the point, in units of the last of them.
fn fixed_point(text: &[u8], places: usize) -> Option<u64> {
    let (whole, fraction) = match text.iter().position(|&octet| octet == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    if fraction.len() > places || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let number = |digits: &[u8]| if digits.is_empty() { Some(0) } else { decimal(digits, u32::MAX).map(u64::from) };
    let scale = 10u64.pow((places - fraction.len()) as u32);
    Some(number(whole)? * 10u64.pow(places as u32) + number(fraction)? * scale)
}

fn metres(text: &[u8]) -> Option<u64> {
    fixed_point(text.strip_suffix(b"m").or_else(|| text.strip_suffix(b"M")).unwrap_or(text), 2)
}

fn read_altitude(word: &[u8]) -> Option<u32> {
    let centimetres = match word.strip_prefix(b"-") {
        Some(depth) => SEA_LEVEL_CM.checked_sub(metres(depth)?)?,
        None => metres(word)?.checked_add(SEA_LEVEL_CM)?,
    };
    u32::try_from(centimetres).ok()
}

/// One digit and a power of ten of centimetres; further digits are dropped, as the form cannot hold them.
fn read_precision(word: &[u8]) -> Option<u8> {
    let mut mantissa = metres(word).filter(|centimetres| *centimetres <= 9_000_000_000)?;
    let mut exponent = 0u8;
    while mantissa > 9 {
        mantissa /= 10;
        exponent += 1;
    }
    Some((mantissa as u8) << 4 | exponent)
}

/// Writes what [`read`] reads; `loc` is known to fit.
pub(super) fn write(loc: &[u8; LOC_LEN], out: &mut String) {
    let number = |at: usize| u32::from_be_bytes([loc[at], loc[at + 1], loc[at + 2], loc[at + 3]]);
    for (at, plus, minus) in [(4, 'N', 'S'), (8, 'E', 'W')] {
        let angle = number(at);
        let total = angle.abs_diff(MIDDLE);
        let (degrees, minutes, thousandths) = (total / DEGREE, total / 60_000 % 60, total % 60_000);
        let letter = if angle >= MIDDLE { plus } else { minus };
        let _ = write!(out, "{degrees} {minutes} {}.{:03} {letter} ", thousandths / 1000, thousandths % 1000);
    }
    let altitude = i64::from(number(12)) - SEA_LEVEL_CM as i64;
    let sign = if altitude < 0 { "-" } else { "" };
    let _ = write!(out, "{sign}{}.{:02}m", altitude.abs() / 100, altitude.abs() % 100);
    for octet in &loc[1..4] {
        let centimetres = u64::from(octet >> 4) * 10u64.pow(u32::from(octet & 0xf));
        let _ = write!(out, " {}.{:02}m", centimetres / 100, centimetres % 100);
    }
}

/// Prefixes whose addresses have no zero octet at the end (RFC 3123 §4) and lengths that their family has.
pub(super) fn prefixes_fit(mut rest: &[u8]) -> bool {
    while let [high, low, prefix, flags, tail @ ..] = rest {
        let len = usize::from(flags & 0x7f);
        let Some(address) = tail.get(..len) else { return false };
        let (max_len, max_prefix) = match u16::from_be_bytes([*high, *low]) {
            1 => (4, 32),
            2 => (16, 128),
            _ => (127, 255),
        };
        if len > max_len || *prefix > max_prefix || address.last() == Some(&0) {
            return false;
        }
        rest = &tail[len..];
    }
    rest.is_empty()
}

/// Reads `[!]family:address/prefix`; appends one item.
pub(super) fn read_prefix(word: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(word).ok()?;
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (0x80, rest),
        None => (0, text),
    };
    let (family, rest) = text.split_once(':')?;
    let (address, prefix) = rest.split_once('/')?;
    let prefix = |max: u32| decimal(prefix.as_bytes(), max).map(|len| len as u8);
    let (family, address, prefix) = match family {
        "1" => (1, address.parse::<Ipv4Addr>().ok()?.octets().to_vec(), prefix(32)?),
        "2" => (2, address.parse::<Ipv6Addr>().ok()?.octets().to_vec(), prefix(128)?),
        _ => return None,
    };
    let used = address.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    out.extend_from_slice(&[0, family, prefix, negated | used as u8]);
    out.extend_from_slice(&address[..used]);
    Some(())
}

/// Writes what [`read_prefix`] reads; `None` for families without a text form.
pub(super) fn write_prefixes(mut rest: &[u8], out: &mut String) -> Option<()> {
    let mut first = true;
    while let [0, family, prefix, flags, tail @ ..] = rest {
        let len = usize::from(flags & 0x7f);
        let part = tail.get(..len)?;
        let mut octets = [0; 16];
        octets.get_mut(..len)?.copy_from_slice(part);
        if !first {
            out.push(' ');
        }
        first = false;
        if flags & 0x80 != 0 {
            out.push('!');
        }
        let _ = match family {
            1 => write!(out, "1:{}/{prefix}", Ipv4Addr::from(*octets.first_chunk::<4>()?)),
            2 => write!(out, "2:{}/{prefix}", Ipv6Addr::from(octets)),
            _ => return None,
        };
        rest = &tail[len..];
    }
    rest.is_empty().then_some(())
}
