//! Wire form to presentation form.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER};

use super::layout::{Kind, layout};
use super::wire::{measure, validate};
use super::{codes, location, svcb};
use crate::dns::{Name, RecordType};
use crate::zone::token::escape_into;

/// Presentation form with absolute names; the form of RFC 3597 when the type is not known or the octets do not fit it.
pub fn to_text(rtype: RecordType, rdata: &[u8]) -> String {
    known_text(rtype, rdata).unwrap_or_else(|| generic_text(rdata))
}

fn generic_text(rdata: &[u8]) -> String {
    if rdata.is_empty() { r"\# 0".into() } else { format!(r"\# {} {}", rdata.len(), HEXLOWER.encode(rdata)) }
}

fn known_text(rtype: RecordType, rdata: &[u8]) -> Option<String> {
    let fields = layout(rtype)?;
    validate(rtype, rdata).ok()?;
    let mut out = String::new();
    let mut at = 0;
    for &(_, kind) in fields {
        let len = measure(kind, rdata, at).ok()?;
        let octets = rdata.get(at..at + len)?;
        at += len;
        let before = out.len();
        if before > 0 {
            out.push(' ');
        }
        let start = out.len();
        write(kind, octets, &mut out)?;
        if out.len() == start {
            out.truncate(before);
        }
    }
    Some(out)
}

fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |value, octet| value << 8 | u32::from(*octet))
}

fn quoted(octets: &[u8], out: &mut String) {
    out.push('"');
    escape_into(octets, out);
    out.push('"');
}

fn write(kind: Kind, octets: &[u8], out: &mut String) -> Option<()> {
    match kind {
        Kind::Name | Kind::PlainName => name(octets, out)?,
        Kind::PlainNames => {
            let mut rest = octets;
            while !rest.is_empty() {
                let (first, tail) = rest.split_at_checked(crate::dns::name::wire_len(rest)?)?;
                if rest.len() < octets.len() {
                    out.push(' ');
                }
                name(first, out)?;
                rest = tail;
            }
        }
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::Period | Kind::Algorithm | Kind::Scheme | Kind::CertType => drop(write!(out, "{}", number(octets))),
        Kind::Time => out.push_str(&codes::write_time(number(octets))),
        Kind::Type => drop(write!(out, "{}", RecordType(number(octets) as u16))),
        Kind::Text | Kind::Texts(_) => texts(octets, out)?,
        Kind::LongText(_) => quoted(octets, out),
        Kind::Tag => out.push_str(std::str::from_utf8(octets.get(1..)?).ok()?),
        Kind::Hex(_) => out.push_str(&HEXLOWER.encode(octets)),
        Kind::Salt if octets.len() == 1 => out.push('-'),
        Kind::Salt => out.push_str(&HEXLOWER.encode(octets.get(1..)?)),
        Kind::Hash => out.push_str(&BASE32HEX_NOPAD.encode(octets.get(1..)?).to_ascii_lowercase()),
        Kind::Base64(_) => out.push_str(&BASE64.encode(octets)),
        Kind::V4 => drop(write!(out, "{}", Ipv4Addr::from(*octets.first_chunk::<4>()?))),
        Kind::V6 => drop(write!(out, "{}", Ipv6Addr::from(*octets.first_chunk::<16>()?))),
        Kind::Types => {
            for (at, rtype) in codes::read_bitmap(octets).into_iter().enumerate() {
                let _ = write!(out, "{}{rtype}", if at > 0 { " " } else { "" });
            }
        }
        Kind::Svc => svcb::write(octets, out)?,
        Kind::Loc => location::write(octets.first_chunk()?, out),
        Kind::Apl => location::write_prefixes(octets, out)?,
        Kind::Eui48 | Kind::Eui64 => groups(octets, 1, '-', out),
        Kind::NodeId => groups(octets, 2, ':', out),
        Kind::Nsap => drop(write!(out, "0x{}", HEXLOWER.encode(octets))),
        Kind::Gateway => {
            let [precedence, gateway_type, algorithm, gateway @ ..] = octets else { return None };
            let _ = write!(out, "{precedence} {gateway_type} {algorithm} ");
            host(*gateway_type, gateway, out)?;
        }
        Kind::Relay => {
            let [precedence, relay_type, relay @ ..] = octets else { return None };
            let _ = write!(out, "{precedence} {} {} ", relay_type >> 7, relay_type & 0x7f);
            host(relay_type & 0x7f, relay, out)?;
        }
        Kind::Hip => {
            let [tag_len, algorithm, _, _, tail @ ..] = octets else { return None };
            let (tag, key) = tail.split_at_checked(usize::from(*tag_len))?;
            let _ = write!(out, "{algorithm} {} {}", HEXLOWER.encode(tag), BASE64.encode(key));
        }
        Kind::Wks => {
            let (protocol, bits) = octets.split_first()?;
            let _ = write!(out, "{protocol}");
            for port in (0..bits.len() * 8).filter(|port| bits[port / 8] & (0x80 >> (port % 8)) != 0) {
                let _ = write!(out, " {port}");
            }
        }
        Kind::Opaque => return None,
    }
    Some(())
}

fn name(octets: &[u8], out: &mut String) -> Option<()> {
    let _ = write!(out, "{}", Name::from_wire(octets).ok()?);
    Some(())
}

fn texts(octets: &[u8], out: &mut String) -> Option<()> {
    let mut rest = octets;
    while let Some((&len, tail)) = rest.split_first() {
        let (text, tail) = tail.split_at_checked(usize::from(len))?;
        if rest.len() < octets.len() {
            out.push(' ');
        }
        quoted(text, out);
        rest = tail;
    }
    Some(())
}

fn groups(octets: &[u8], len: usize, separator: char, out: &mut String) {
    for (at, group) in octets.chunks(len).enumerate() {
        if at > 0 {
            out.push(separator);
        }
        out.push_str(&HEXLOWER.encode(group));
    }
}

fn host(host_type: u8, octets: &[u8], out: &mut String) -> Option<()> {
    match host_type {
        0 => out.push('.'),
        1 => drop(write!(out, "{}", Ipv4Addr::from(*octets.first_chunk::<4>()?))),
        2 => drop(write!(out, "{}", Ipv6Addr::from(*octets.first_chunk::<16>()?))),
        _ => name(octets, out)?,
    }
    Some(())
}
