//! Record data on the wire: how long each field is, whether the whole fits its type, and where its names lie.

use super::error::{Expected, RdataError};
use super::layout::{FieldLayout, Kind, layout};
use super::{MAX_RDATA_LEN, location, svcb};
use crate::dns::RecordType;
use crate::dns::name::wire_len;

/// Where a domain name lies in record data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameSpan {
    /// Offset of its first octet in the record data.
    pub offset: u16,
    /// Octets, the root label included.
    pub len: u8,
    /// True when a message may compress it (RFC 3597 §4).
    pub compressible: bool,
}

/// Checks that `rdata` is what `rtype` asks for: uncompressed names, lengths, bitmaps, service parameters. Any octets do for a type that is
/// not known.
pub fn validate(rtype: RecordType, rdata: &[u8]) -> Result<(), RdataError> {
    if rtype.is_meta() {
        return Err(RdataError::Meta);
    }
    if rdata.len() > MAX_RDATA_LEN {
        return Err(RdataError::TooLong { found: rdata.len() });
    }
    let Some(fields) = layout(rtype) else { return Ok(()) };
    let mut at = 0;
    for &(field, kind) in fields {
        at += measure(kind, rdata, at).map_err(|expected| RdataError::Wire { field, at, expected })?;
    }
    if at != rdata.len() {
        return Err(RdataError::Wire { field: "end", at, expected: Expected::End });
    }
    match rtype {
        RecordType::SVCB | RecordType::HTTPS => svcb::check(rdata).map_err(RdataError::Svc),
        RecordType::DS | RecordType::CDS | RecordType::DLV | RecordType::TA => digest_len(rdata, 3, &[(1, 20), (2, 32), (3, 32), (4, 48)]),
        RecordType::SSHFP => digest_len(rdata, 1, &[(1, 20), (2, 32)]),
        // RFC 8976 §2.2.4.
        RecordType::ZONEMD if rdata.len() < 6 + 12 => Err(RdataError::Wire { field: "digest", at: 6, expected: Expected::ZoneDigest }),
        RecordType::ZONEMD => digest_len(rdata, 5, &[(1, 48), (2, 64)]),
        RecordType::IPSECKEY => key_of_algorithm(rdata),
        _ => Ok(()),
    }
}

/// The digest stands behind its type; types that are not listed may have any length.
fn digest_len(rdata: &[u8], type_at: usize, lens: &[(u8, usize)]) -> Result<(), RdataError> {
    let at = type_at + 1;
    let fits = match rdata.get(type_at) {
        Some(found) => lens.iter().all(|(digest, len)| digest != found || rdata.len() == at + len),
        None => false,
    };
    if fits { Ok(()) } else { Err(RdataError::Wire { field: "digest", at, expected: Expected::Digest }) }
}

/// An IPSECKEY without a key has algorithm 0 (RFC 4025 §2.4).
fn key_of_algorithm(rdata: &[u8]) -> Result<(), RdataError> {
    let has_key = gateway_len(rdata).is_ok_and(|len| len < rdata.len());
    if has_key || rdata.get(2) == Some(&0) {
        return Ok(());
    }
    Err(RdataError::Wire { field: "public key", at: rdata.len(), expected: Expected::KeyOrNone })
}

/// `rdata` with its names in lower case, so that records that say the same compare equal (RFC 2181 §5, RFC 4034 §6.2).
pub fn lower_names(rtype: RecordType, rdata: &[u8]) -> Vec<u8> {
    let mut lower = rdata.to_vec();
    for span in names(rtype, rdata) {
        let from = usize::from(span.offset);
        if let Some(name) = lower.get_mut(from..from + usize::from(span.len)) {
            name.make_ascii_lowercase();
        }
    }
    lower
}

/// The names in `rdata`, in order; stops where the octets stop fitting the type. Total and cheap: types without names cost one look-up.
pub fn names(rtype: RecordType, rdata: &[u8]) -> Names<'_> {
    let fields = layout(rtype).unwrap_or(&[]);
    // Fields behind the last name need not be walked.
    let used = fields.iter().rposition(|(_, kind)| holds_names(*kind)).map_or(0, |last| last + 1);
    Names { fields: &fields[..used], rdata, at: 0 }
}

fn holds_names(kind: Kind) -> bool {
    matches!(kind, Kind::Name | Kind::PlainName | Kind::PlainNames | Kind::Gateway | Kind::Relay)
}

/// Iterator over the names in record data.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    fields: &'static [FieldLayout],
    rdata: &'a [u8],
    at: usize,
}

impl Iterator for Names<'_> {
    type Item = NameSpan;

    fn next(&mut self) -> Option<NameSpan> {
        while let Some((&(_, kind), rest)) = self.fields.split_first() {
            let start = self.at;
            let (from, compressible) = match kind {
                Kind::Name => (start, true),
                Kind::PlainName => (start, false),
                Kind::PlainNames => {
                    // The field repeats: it stays first in line.
                    let len = wire_len(self.rdata.get(start..)?)?;
                    self.at += len;
                    return span(start, len, false);
                }
                Kind::Gateway if self.rdata.get(start + 1) == Some(&3) => (start + 3, false),
                Kind::Relay if self.rdata.get(start + 1).map(|octet| octet & 0x7f) == Some(3) => (start + 2, false),
                _ => {
                    self.at += measure(kind, self.rdata, start).ok()?;
                    self.fields = rest;
                    continue;
                }
            };
            let len = wire_len(self.rdata.get(from..)?)?;
            self.at = from + len;
            self.fields = rest;
            return span(from, len, compressible);
        }
        None
    }
}

fn span(offset: usize, len: usize, compressible: bool) -> Option<NameSpan> {
    Some(NameSpan { offset: u16::try_from(offset).ok()?, len: u8::try_from(len).ok()?, compressible })
}

/// How many octets the field of this kind has that starts at `at` of `whole`; what it asks for when it does not fit.
pub(super) fn measure(kind: Kind, whole: &[u8], at: usize) -> Result<usize, Expected> {
    let rest = whole.get(at..).unwrap_or(&[]);
    let fixed = |len: usize, expected| if rest.len() >= len { Ok(len) } else { Err(expected) };
    let to_end = |min: usize, expected| if rest.len() >= min { Ok(rest.len()) } else { Err(expected) };
    match kind {
        Kind::Name | Kind::PlainName => wire_len(rest).ok_or(Expected::Name),
        Kind::PlainNames => names_len(rest).ok_or(Expected::Name),
        Kind::U8 | Kind::Algorithm | Kind::Scheme => fixed(1, Expected::U8),
        Kind::U16 | Kind::Type | Kind::CertType => fixed(2, Expected::U16),
        Kind::U32 | Kind::Period | Kind::Time => fixed(4, Expected::U32),
        Kind::V4 => fixed(4, Expected::V4),
        Kind::V6 => fixed(16, Expected::V6),
        Kind::Eui48 => fixed(6, Expected::Eui48),
        Kind::Eui64 => fixed(8, Expected::Eui64),
        Kind::NodeId => fixed(8, Expected::NodeId),
        Kind::Text => counted(rest, 0).ok_or(Expected::Text),
        Kind::Salt => counted(rest, 0).ok_or(Expected::Salt),
        Kind::Hash => counted(rest, 1).ok_or(Expected::Hash),
        Kind::Tag => match counted(rest, 1) {
            Some(len) if rest[1..len].iter().all(u8::is_ascii_alphanumeric) => Ok(len),
            _ => Err(Expected::Tag),
        },
        Kind::Texts(max) => texts_len(rest, max),
        Kind::LongText(min) => to_end(min, Expected::LongText),
        Kind::Hex(min) => to_end(min, Expected::Hex),
        Kind::Nsap => to_end(1, Expected::Nsap),
        Kind::Base64(min) => to_end(min, Expected::Base64),
        Kind::Opaque => Ok(rest.len()),
        Kind::Types => bitmap_fits(rest).then_some(rest.len()).ok_or(Expected::TypeBitmap),
        // What stands in the parameters is `svcb::check`'s.
        Kind::Svc => Ok(rest.len()),
        Kind::Loc => location::fits(rest).then_some(location::LOC_LEN).ok_or(Expected::Location),
        Kind::Apl => location::prefixes_fit(rest).then_some(rest.len()).ok_or(Expected::Prefix),
        Kind::Gateway => gateway_len(rest),
        Kind::Relay => relay_len(rest),
        Kind::Hip => hip_len(rest),
        Kind::Wks => match rest.len() {
            1..=8193 if rest.len() == 1 || rest.last() != Some(&0) => Ok(rest.len()),
            _ => Err(Expected::Port),
        },
    }
}

/// A length octet and as many octets, at least `min`.
fn counted(rest: &[u8], min: usize) -> Option<usize> {
    let len = usize::from(*rest.first()?);
    (len >= min && rest.len() > len).then_some(len + 1)
}

fn texts_len(rest: &[u8], max: usize) -> Result<usize, Expected> {
    let (mut at, mut count) = (0, 0);
    while at < rest.len() || count == 0 {
        at += counted(&rest[at..], 0).ok_or(Expected::Text)?;
        count += 1;
        if count > max {
            return Err(Expected::AtMostTwoTexts);
        }
    }
    Ok(at)
}

fn names_len(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < rest.len() {
        at += wire_len(&rest[at..])?;
    }
    Some(at)
}

/// Windows in ascending order, each of 1 to 32 octets, the last of them not zero (RFC 4034 §4.1.2).
fn bitmap_fits(mut rest: &[u8]) -> bool {
    let mut next_window = 0;
    while let [window, len, tail @ ..] = rest {
        let len = usize::from(*len);
        let Some(bits) = tail.get(..len) else { return false };
        if u16::from(*window) < next_window || len > 32 || matches!(bits.last(), None | Some(0)) {
            return false;
        }
        next_window = u16::from(*window) + 1;
        rest = &tail[len..];
    }
    rest.is_empty()
}

/// The length of a gateway or relay of this type (RFC 4025 §2.3, RFC 8777 §4.2.3).
fn host_len(host_type: u8, rest: &[u8]) -> Option<usize> {
    let len = match host_type {
        0 => 0,
        1 => 4,
        2 => 16,
        3 => return wire_len(rest),
        _ => return None,
    };
    (rest.len() >= len).then_some(len)
}

fn gateway_len(rest: &[u8]) -> Result<usize, Expected> {
    let [_, gateway_type, _, gateway @ ..] = rest else { return Err(Expected::GatewayType) };
    host_len(*gateway_type, gateway).map(|len| len + 3).ok_or(Expected::GatewayType)
}

fn relay_len(rest: &[u8]) -> Result<usize, Expected> {
    let [_, relay_type, relay @ ..] = rest else { return Err(Expected::RelayType) };
    host_len(relay_type & 0x7f, relay).map(|len| len + 2).ok_or(Expected::RelayType)
}

fn hip_len(rest: &[u8]) -> Result<usize, Expected> {
    let [tag_len, _, high, low, tail @ ..] = rest else { return Err(Expected::HostIdentity) };
    let key_len = usize::from(u16::from_be_bytes([*high, *low]));
    let len = usize::from(*tag_len) + key_len;
    if *tag_len == 0 || tail.len() < len {
        return Err(Expected::HostIdentity);
    }
    if key_len == 0 {
        return Err(Expected::PublicKey);
    }
    Ok(4 + len)
}
