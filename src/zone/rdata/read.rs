//! Presentation form to wire form.

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER_PERMISSIVE};

use super::error::{Expected, RdataError};
use super::layout::{Kind, layout};
use super::wire::validate;
use super::{MAX_RDATA_LEN, MAX_TEXT_LEN, codes, location, svcb};
use crate::dns::name::parse_into;
use crate::dns::{Name, RecordType};
use crate::zone::token::{self, Field, Octet, TokenError, decimal, period, shown, unescape_into};

/// Reads the presentation form of one record, as it stands in a TOML string. Relative names are below `origin`. The result is
/// uncompressed wire form and fits the type.
pub fn parse(rtype: RecordType, text: &str, origin: &Name) -> Result<Vec<u8>, RdataError> {
    let text = text.as_bytes();
    let mut fields = Vec::new();
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        match token::classify(octet) {
            Octet::Blank | Octet::LineEnd => at += 1,
            Octet::Special => return Err(RdataError::Special { found: char::from(octet) }),
            Octet::Word => {
                let (field, next) = token::scan(text, at, has_pairs(rtype)).map_err(|error| match error {
                    TokenError::Unclosed => RdataError::Unclosed,
                    TokenError::LoneBackslash => RdataError::BadEscape { found: shown(&text[at..]) },
                })?;
                fields.push(field);
                at = next;
            }
        }
    }
    parse_fields(rtype, &fields, origin)
}

/// True when words of this type may be `key="value"` (RFC 9460 §2.1).
pub(in crate::zone) fn has_pairs(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::SVCB | RecordType::HTTPS)
}

/// [`parse`] over words that are already scanned.
pub fn parse_fields(rtype: RecordType, fields: &[Field<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    let mut out = Vec::with_capacity(32);
    parse_fields_into(rtype, fields, origin, &mut out)?;
    Ok(out)
}

/// [`parse_fields`] into `out`, which is emptied first and used again from record to record. What it holds after an error means nothing.
pub fn parse_fields_into(rtype: RecordType, fields: &[Field<'_>], origin: &Name, out: &mut Vec<u8>) -> Result<(), RdataError> {
    out.clear();
    if rtype.is_meta() {
        return Err(RdataError::Meta);
    }
    if let [first, rest @ ..] = fields
        && first.text == br"\#"
        && !first.quoted
    {
        *out = read_generic(rest)?;
        return validate(rtype, out);
    }
    let Some(layout) = layout(rtype) else { return Err(RdataError::GenericOnly) };
    let mut reader = Reader { fields, at: 0, field: "", origin, out };
    for &(field, kind) in layout {
        reader.field = field;
        reader.read(kind)?;
    }
    if let Some(extra) = fields.get(reader.at) {
        return Err(RdataError::Extra { found: shown(extra.text) });
    }
    if out.len() > MAX_RDATA_LEN {
        return Err(RdataError::TooLong { found: out.len() });
    }
    // These hold whatever their fields can hold; the rest have rules across fields.
    if matches!(rtype, RecordType::A | RecordType::AAAA | RecordType::NS | RecordType::CNAME | RecordType::MX | RecordType::TXT) {
        return Ok(());
    }
    validate(rtype, out)
}

/// `\# length digits…` (RFC 3597 §5), the `\#` already taken.
fn read_generic(fields: &[Field<'_>]) -> Result<Vec<u8>, RdataError> {
    const FIELD: &str = "data";
    let bad = |found: &[u8]| RdataError::Bad { field: FIELD, found: shown(found), expected: Expected::Generic };
    let (first, digits) = fields.split_first().ok_or(RdataError::Missing { field: FIELD, expected: Expected::Generic })?;
    let stated = decimal(first.text, 65535).ok_or_else(|| bad(first.text))? as u16;
    let digits: Vec<u8> = digits.iter().flat_map(|field| field.text).copied().collect();
    let rdata = HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| bad(&digits))?;
    if rdata.len() != usize::from(stated) {
        return Err(RdataError::GenericLen { stated, found: rdata.len() });
    }
    Ok(rdata)
}

/// Record data of TXT and its kin from texts that are already octets. At least one, each at most 255 octets.
pub fn character_strings(strings: &[&[u8]]) -> Result<Vec<u8>, RdataError> {
    if strings.is_empty() {
        return Err(RdataError::NoText);
    }
    let mut out = Vec::with_capacity(strings.iter().map(|text| text.len() + 1).sum());
    for text in strings {
        push_text(text, &mut out)?;
    }
    if out.len() > MAX_RDATA_LEN {
        return Err(RdataError::TooLong { found: out.len() });
    }
    Ok(out)
}

/// Record data of TXT and its kin from one text of any length, split every 255 octets; readers join the pieces (RFC 7208 §3.3).
pub fn text_rdata(text: &[u8]) -> Result<Vec<u8>, RdataError> {
    if text.is_empty() {
        return character_strings(&[b""]);
    }
    character_strings(&text.chunks(MAX_TEXT_LEN).collect::<Vec<_>>())
}

fn push_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), RdataError> {
    let len = u8::try_from(text.len()).map_err(|_| RdataError::TextTooLong { found: text.len() })?;
    out.push(len);
    out.extend_from_slice(text);
    Ok(())
}

struct Reader<'a> {
    fields: &'a [Field<'a>],
    /// The next word.
    at: usize,
    /// The field being read, for messages.
    field: &'static str,
    origin: &'a Name,
    out: &'a mut Vec<u8>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, kind: Kind) -> Result<(), RdataError> {
        match kind {
            Kind::Name | Kind::PlainName => self.name(),
            Kind::PlainNames => {
                while self.at < self.fields.len() {
                    self.name()?;
                }
                Ok(())
            }
            Kind::U8 => self.number(Expected::U8, 1, |text| decimal(text, 255)),
            Kind::U16 => self.number(Expected::U16, 2, |text| decimal(text, 65535)),
            Kind::U32 => self.number(Expected::U32, 4, |text| decimal(text, u32::MAX)),
            Kind::Period => self.number(Expected::Period, 4, period),
            Kind::Time => self.number(Expected::Time, 4, codes::read_time),
            Kind::Type => self.number(Expected::Type, 2, codes::read_type),
            Kind::Algorithm => self.number(Expected::Algorithm, 1, codes::read_algorithm),
            Kind::Scheme => self.number(Expected::Scheme, 1, codes::read_scheme),
            Kind::CertType => self.number(Expected::CertType, 2, codes::read_cert_type),
            Kind::Text => self.text(),
            Kind::Texts(max) => self.texts(max),
            Kind::LongText(min) => self.long_text(min),
            Kind::Tag => self.tag(),
            Kind::Hex(min) => self.hex(min),
            Kind::Salt => self.octets(Expected::Salt, |word| if word == b"-" { Some(Vec::new()) } else { HEXLOWER_PERMISSIVE.decode(word).ok() }),
            Kind::Hash => self.octets(Expected::Hash, |word| BASE32HEX_NOPAD.decode(&word.to_ascii_uppercase()).ok().filter(|hash| !hash.is_empty())),
            Kind::Base64(min) => self.base64(min),
            Kind::V4 => self.v4(),
            Kind::V6 => self.v6(),
            Kind::Types => self.types(),
            Kind::Svc => svcb::read(self.rest(), self.out),
            Kind::Loc => self.location(),
            Kind::Apl => self.prefixes(),
            Kind::Eui48 => self.fixed(Expected::Eui48, |word| codes::read_groups(word, b'-', 2, 6)),
            Kind::Eui64 => self.fixed(Expected::Eui64, |word| codes::read_groups(word, b'-', 2, 8)),
            Kind::NodeId => self.fixed(Expected::NodeId, |word| codes::read_groups(word, b':', 4, 8)),
            Kind::Nsap => self.nsap(),
            Kind::Gateway => self.gateway(),
            Kind::Relay => self.relay(),
            Kind::Hip => self.host_identity(),
            Kind::Wks => self.services(),
            Kind::Opaque => Err(RdataError::GenericOnly),
        }
    }

    fn word(&mut self, expected: Expected) -> Result<Field<'a>, RdataError> {
        let word = self.fields.get(self.at).copied().ok_or(RdataError::Missing { field: self.field, expected })?;
        self.at += 1;
        Ok(word)
    }

    fn rest(&mut self) -> &'a [Field<'a>] {
        let rest = &self.fields[self.at.min(self.fields.len())..];
        self.at = self.fields.len();
        rest
    }

    /// The remaining words without the space between them.
    fn joined(&mut self) -> Vec<u8> {
        self.rest().iter().flat_map(|field| field.text).copied().collect()
    }

    fn bad(&self, found: &[u8], expected: Expected) -> RdataError {
        RdataError::Bad { field: self.field, found: shown(found), expected }
    }

    fn name(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::Name)?;
        parse_into(word.text, self.origin.as_wire(), self.out).map_err(|error| RdataError::Name { field: self.field, found: shown(word.text), error })
    }

    /// A number in the last `len` octets of its big-endian form.
    fn number(&mut self, expected: Expected, len: usize, read: impl Fn(&[u8]) -> Option<u32>) -> Result<(), RdataError> {
        let word = self.word(expected)?;
        let value = read(word.text).ok_or_else(|| self.bad(word.text, expected))?;
        self.out.extend_from_slice(&value.to_be_bytes()[4 - len..]);
        Ok(())
    }

    fn fixed(&mut self, expected: Expected, read: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<(), RdataError> {
        let word = self.word(expected)?;
        let octets = read(word.text).ok_or_else(|| self.bad(word.text, expected))?;
        self.out.extend_from_slice(&octets);
        Ok(())
    }

    /// Octets behind their length.
    fn octets(&mut self, expected: Expected, read: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<(), RdataError> {
        let word = self.word(expected)?;
        let octets = read(word.text).filter(|octets| octets.len() <= 255).ok_or_else(|| self.bad(word.text, expected))?;
        push_text(&octets, self.out)
    }

    fn unescaped(&mut self, word: Field<'a>) -> Result<Vec<u8>, RdataError> {
        let mut text = Vec::with_capacity(word.text.len());
        if !unescape_into(word.text, &mut text) {
            return Err(RdataError::BadEscape { found: shown(word.text) });
        }
        Ok(text)
    }

    fn text(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::Text)?;
        let text = self.unescaped(word)?;
        push_text(&text, self.out)
    }

    fn texts(&mut self, max: usize) -> Result<(), RdataError> {
        self.text()?;
        let mut count = 1;
        while self.at < self.fields.len() && count < max {
            self.text()?;
            count += 1;
        }
        Ok(())
    }

    fn long_text(&mut self, min: usize) -> Result<(), RdataError> {
        let word = self.word(Expected::LongText)?;
        let text = self.unescaped(word)?;
        if text.len() < min {
            return Err(self.bad(word.text, Expected::LongText));
        }
        self.out.extend_from_slice(&text);
        Ok(())
    }

    fn tag(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::Tag)?;
        if !(1..=255).contains(&word.text.len()) || !word.text.iter().all(u8::is_ascii_alphanumeric) {
            return Err(self.bad(word.text, Expected::Tag));
        }
        push_text(word.text, self.out)
    }

    fn hex(&mut self, min: usize) -> Result<(), RdataError> {
        let digits = self.joined();
        if digits.is_empty() && min > 0 {
            return Err(RdataError::Missing { field: self.field, expected: Expected::Hex });
        }
        let octets = HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| self.bad(&digits, Expected::Hex))?;
        self.out.extend_from_slice(&octets);
        Ok(())
    }

    fn base64(&mut self, min: usize) -> Result<(), RdataError> {
        let digits = self.joined();
        if digits.is_empty() && min > 0 {
            return Err(RdataError::Missing { field: self.field, expected: Expected::Base64 });
        }
        let octets = BASE64.decode(&digits).map_err(|_| self.bad(&digits, Expected::Base64))?;
        self.out.extend_from_slice(&octets);
        Ok(())
    }

    fn v4(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::V4)?;
        let address = plain_v4(word.text).or_else(|| text_of(word.text)?.parse().ok()).ok_or_else(|| self.bad(word.text, Expected::V4))?;
        self.out.extend_from_slice(&address.octets());
        Ok(())
    }

    fn v6(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::V6)?;
        let address = plain_v6(word.text).or_else(|| text_of(word.text)?.parse().ok()).ok_or_else(|| self.bad(word.text, Expected::V6))?;
        self.out.extend_from_slice(&address.octets());
        Ok(())
    }

    fn types(&mut self) -> Result<(), RdataError> {
        let mut numbers = Vec::new();
        for word in self.rest() {
            let number = codes::read_type(word.text).ok_or_else(|| self.bad(word.text, Expected::Types))?;
            numbers.push(number as u16);
        }
        codes::write_bitmap(&mut numbers, self.out);
        Ok(())
    }

    fn location(&mut self) -> Result<(), RdataError> {
        let words: Vec<&[u8]> = self.rest().iter().map(|field| field.text).collect();
        location::read(&words, self.out).map_err(|(at, expected)| match words.get(at) {
            Some(word) => self.bad(word, expected),
            None => RdataError::Missing { field: self.field, expected },
        })
    }

    fn prefixes(&mut self) -> Result<(), RdataError> {
        for word in self.rest() {
            location::read_prefix(word.text, self.out).ok_or_else(|| self.bad(word.text, Expected::Prefix))?;
        }
        Ok(())
    }

    fn nsap(&mut self) -> Result<(), RdataError> {
        let word = self.word(Expected::Nsap)?;
        let digits: Vec<u8> = match word.text {
            [b'0', b'x' | b'X', digits @ ..] => digits.iter().copied().filter(|octet| *octet != b'.').collect(),
            _ => Vec::new(),
        };
        match HEXLOWER_PERMISSIVE.decode(&digits) {
            Ok(octets) if !octets.is_empty() => self.out.extend_from_slice(&octets),
            _ => return Err(self.bad(word.text, Expected::Nsap)),
        }
        Ok(())
    }

    /// `precedence type algorithm gateway`; the key is the next field.
    fn gateway(&mut self) -> Result<(), RdataError> {
        self.field = "precedence";
        self.number(Expected::U8, 1, |text| decimal(text, 255))?;
        self.field = "gateway type";
        self.number(Expected::GatewayType, 1, |text| decimal(text, 3))?;
        let gateway_type = self.out[1];
        self.field = "algorithm";
        self.number(Expected::U8, 1, |text| decimal(text, 255))?;
        self.field = "gateway";
        self.host(gateway_type)
    }

    /// `precedence discovery type relay`.
    fn relay(&mut self) -> Result<(), RdataError> {
        self.field = "precedence";
        self.number(Expected::U8, 1, |text| decimal(text, 255))?;
        self.field = "discovery";
        self.number(Expected::RelayBit, 1, |text| decimal(text, 1))?;
        self.field = "relay type";
        self.number(Expected::RelayType, 1, |text| decimal(text, 3))?;
        let relay_type = self.out.pop().unwrap_or_default();
        self.out[1] = self.out[1] << 7 | relay_type;
        self.field = "relay";
        self.host(relay_type)
    }

    fn host(&mut self, host_type: u8) -> Result<(), RdataError> {
        match host_type {
            0 => {
                let word = self.word(Expected::NoGateway)?;
                if word.text == b"." { Ok(()) } else { Err(self.bad(word.text, Expected::NoGateway)) }
            }
            1 => self.v4(),
            2 => self.v6(),
            _ => self.name(),
        }
    }

    /// `algorithm tag key`; the servers are the next field.
    fn host_identity(&mut self) -> Result<(), RdataError> {
        self.field = "algorithm";
        let word = self.word(Expected::Algorithm)?;
        let algorithm = codes::read_algorithm(word.text).ok_or_else(|| self.bad(word.text, Expected::Algorithm))? as u8;
        self.field = "host identity";
        let word = self.word(Expected::HostIdentity)?;
        let tag = HEXLOWER_PERMISSIVE.decode(word.text).map_err(|_| self.bad(word.text, Expected::HostIdentity))?;
        let tag_len = u8::try_from(tag.len()).ok().filter(|len| *len > 0).ok_or_else(|| self.bad(word.text, Expected::HostIdentity))?;
        self.field = "public key";
        let word = self.word(Expected::PublicKey)?;
        let key = BASE64.decode(word.text).map_err(|_| self.bad(word.text, Expected::PublicKey))?;
        let key_len = u16::try_from(key.len()).ok().filter(|len| *len > 0).ok_or_else(|| self.bad(word.text, Expected::PublicKey))?;
        self.out.extend_from_slice(&[tag_len, algorithm]);
        self.out.extend_from_slice(&key_len.to_be_bytes());
        self.out.extend_from_slice(&tag);
        self.out.extend_from_slice(&key);
        Ok(())
    }

    /// `protocol port…`; one bit per port.
    fn services(&mut self) -> Result<(), RdataError> {
        self.field = "protocol";
        self.number(Expected::Protocol, 1, codes::read_protocol)?;
        self.field = "services";
        let start = self.out.len();
        for word in self.rest() {
            let port = codes::read_port(word.text).ok_or_else(|| self.bad(word.text, Expected::Port))? as usize;
            let at = start + port / 8;
            if self.out.len() <= at {
                self.out.resize(at + 1, 0);
            }
            self.out[at] |= 0x80 >> (port % 8);
        }
        Ok(())
    }
}

/// The usual way to write an IPv4 address, in a third of the time; `None` leaves the verdict to the standard library.
fn plain_v4(word: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let (mut at, mut value, mut digits) = (0, 0u16, 0);
    for &octet in word {
        match octet {
            b'0'..=b'9' if digits < 3 && !(digits > 0 && value == 0) => {
                value = value * 10 + u16::from(octet - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && at < 3 => {
                octets[at] = u8::try_from(value).ok()?;
                (at, value, digits) = (at + 1, 0, 0);
            }
            _ => return None,
        }
    }
    octets[at] = u8::try_from(value).ok()?;
    (at == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

/// An IPv6 address of hexadecimal groups; `None`, for one with an IPv4 address at its end too, leaves the verdict to the standard library.
fn plain_v6(word: &[u8]) -> Option<Ipv6Addr> {
    let mut groups = [0u16; 8];
    let (mut count, mut gap) = (0, None);
    let mut rest = word;
    if let [b':', b':', tail @ ..] = rest {
        (gap, rest) = (Some(0), tail);
    }
    while !rest.is_empty() {
        let digits = rest.iter().take(5).take_while(|octet| octet.is_ascii_hexdigit()).count();
        if !(1..=4).contains(&digits) || count == 8 {
            return None;
        }
        let digit = |octet: &u8| (octet & 0xf) + if *octet > b'9' { 9 } else { 0 };
        groups[count] = rest[..digits].iter().fold(0, |value, octet| value << 4 | u16::from(digit(octet)));
        count += 1;
        rest = match &rest[digits..] {
            [] => &[],
            [b':', b':', tail @ ..] if gap.is_none() => {
                gap = Some(count);
                tail
            }
            [b':', tail @ ..] if !tail.is_empty() => tail,
            _ => return None,
        };
    }
    match gap {
        None if count == 8 => {}
        Some(gap) if count < 8 => groups[gap..].rotate_right(8 - count),
        _ => return None,
    }
    Some(Ipv6Addr::from(groups))
}

fn text_of(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_readings_of_addresses_say_what_the_standard_library_says() {
        let parts = ["", "0", "1", "00", "01", "255", "256", "db8", "DB8", "ffff", "12345", ":", "::", ".", "g", " "];
        let mut words: Vec<String> = parts.iter().map(|part| part.to_string()).collect();
        for round in 0..3 {
            let longer: Vec<String> = words.iter().flat_map(|word| parts.iter().map(move |part| format!("{word}{part}"))).collect();
            words.extend(longer);
            words.truncate(20_000 * (round + 1));
        }
        words.extend(
            ["1.2.3.4", "255.255.255.255", "0.0.0.0", "1.2.3", "1.2.3.4.5", "1..2.3", "1.2.3.256", "1.2.3.04", "1:2:3:4:5:6:7:8"].map(String::from),
        );
        words.extend(
            ["1:2:3:4:5:6:7::", "::1:2:3:4:5:6:7", "1::2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1", "1:"]
                .map(String::from),
        );
        for word in words {
            if let Some(address) = plain_v4(word.as_bytes()) {
                assert_eq!(word.parse(), Ok(address), "{word}");
            }
            if let Some(address) = plain_v6(word.as_bytes()) {
                assert_eq!(word.parse(), Ok(address), "{word}");
            }
        }
        assert!(plain_v4(b"198.51.100.255").is_some() && plain_v6(b"2001:DB8::f:423f").is_some() && plain_v6(b"::").is_some());
    }
}
