//! Small forms inside record data: mnemonics, times, type bitmaps, grouped hexadecimal digits.

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::dns::RecordType;
use crate::zone::token::decimal;

/// DNSSEC algorithm mnemonics: those of the IANA registry, of RFC 4034 appendix A.1, and what BIND calls some of them.
const ALGORITHMS: [(&str, u32); 23] = [
    ("DELETE", 0),
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("ECC", 4),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3DSA", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("NSEC3RSASHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECCGOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("SM2SM3", 17),
    ("ECC-GOST12", 23),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Certificate type mnemonics (RFC 4398 §2.1).
const CERT_TYPES: [(&str, u32); 10] =
    [("PKIX", 1), ("SPKI", 2), ("PGP", 3), ("IPKIX", 4), ("ISPKI", 5), ("IPGP", 6), ("ACPKIX", 7), ("IACPKIX", 8), ("URI", 253), ("OID", 254)];

/// The services that old zone files name in WKS records; any other port goes by number.
const PORTS: [(&str, u32); 13] = [
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("https", 443),
];

fn number_or_name(text: &[u8], max: u32, names: &[(&str, u32)]) -> Option<u32> {
    decimal(text, max).or_else(|| names.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text)).map(|(_, number)| *number))
}

pub(super) fn read_algorithm(text: &[u8]) -> Option<u32> {
    number_or_name(text, 255, &ALGORITHMS)
}

/// The scheme of a DSYNC record (RFC 9859 §2).
pub(super) fn read_scheme(text: &[u8]) -> Option<u32> {
    number_or_name(text, 255, &[("NOTIFY", 1)])
}

pub(super) fn read_cert_type(text: &[u8]) -> Option<u32> {
    number_or_name(text, 65535, &CERT_TYPES)
}

pub(super) fn read_protocol(text: &[u8]) -> Option<u32> {
    number_or_name(text, 255, &[("tcp", 6), ("udp", 17)])
}

pub(super) fn read_port(text: &[u8]) -> Option<u32> {
    number_or_name(text, 65535, &PORTS)
}

pub(super) fn read_type(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse::<RecordType>().ok().map(|rtype| u32::from(rtype.0))
}

/// YYYYMMDDHHmmSS, or at most ten digits of seconds since 1970 (RFC 4034 §3.2). Years go up to 9999; of the seconds 32 bits are kept, which is what
/// the serial arithmetic of signature times works with (§3.1.5).
pub(super) fn read_time(text: &[u8]) -> Option<u32> {
    if text.len() != 14 {
        return decimal(text, u32::MAX).filter(|_| text.len() <= 10);
    }
    let part = |from: usize, to: usize| decimal(&text[from..to], 9999).map(i64::from);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds).ok().map(|seconds| seconds as u32)
}

pub(super) fn write_time(seconds: u32) -> String {
    let days = i64::from(seconds / 86_400);
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_1970(year, month + 1, 1) <= days {
        month += 1;
    }
    let day = days - days_since_1970(year, month, 1) + 1;
    let second = seconds % 86_400;
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, which is taken as a year that starts in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// `len` octets in groups of `digits` hexadecimal digits with `separator` between them.
pub(super) fn read_groups(text: &[u8], separator: u8, digits: usize, len: usize) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(2 * len);
    for group in text.split(|&octet| octet == separator) {
        if group.len() > digits || group.is_empty() || (digits == 2 && group.len() < 2) {
            return None;
        }
        joined.resize(joined.len() + digits - group.len(), b'0');
        joined.extend_from_slice(group);
    }
    HEXLOWER_PERMISSIVE.decode(&joined).ok().filter(|octets| octets.len() == len)
}

/// Appends a type bitmap (RFC 4034 §4.1.2).
pub(super) fn write_bitmap(numbers: &mut Vec<u16>, out: &mut Vec<u8>) {
    numbers.sort_unstable();
    numbers.dedup();
    for window in numbers.chunk_by(|a, b| a >> 8 == b >> 8) {
        let (Some(first), Some(last)) = (window.first(), window.last()) else { continue };
        let len = (last & 0xff) / 8 + 1;
        out.extend_from_slice(&[(first >> 8) as u8, len as u8]);
        let start = out.len();
        out.resize(start + usize::from(len), 0);
        for number in window {
            out[start + usize::from(number & 0xff) / 8] |= 0x80 >> (number & 7);
        }
    }
}

/// The types in a bitmap that is known to fit.
pub(super) fn read_bitmap(mut rest: &[u8]) -> Vec<RecordType> {
    let mut types = Vec::new();
    while let [window, len, tail @ ..] = rest {
        let Some(bits) = tail.get(..usize::from(*len)) else { break };
        for (at, octet) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| octet & (0x80 >> bit) != 0) {
                types.push(RecordType(u16::from(*window) << 8 | (at as u16 * 8 + bit)));
            }
        }
        rest = &tail[bits.len()..];
    }
    types
}
