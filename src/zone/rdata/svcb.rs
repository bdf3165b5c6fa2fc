//! Service parameters of SVCB and HTTPS records (RFC 9460; `dohpath` RFC 9461, `ohttp` RFC 9540, `docpath` RFC 9953, `ech` RFC 9848).

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;

use super::error::{Expected, RdataError};
use crate::zone::token::{Field, decimal, escape_into, shown, unescape_into};

/// A parameter key as its number; prints as its mnemonic or `key###`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SvcKey(pub u16);

impl SvcKey {
    const MANDATORY: SvcKey = SvcKey(0);
    const ALPN: SvcKey = SvcKey(1);
    const NO_DEFAULT_ALPN: SvcKey = SvcKey(2);
    const PORT: SvcKey = SvcKey(3);
    const IPV4HINT: SvcKey = SvcKey(4);
    const ECH: SvcKey = SvcKey(5);
    const IPV6HINT: SvcKey = SvcKey(6);
    const DOHPATH: SvcKey = SvcKey(7);
    const OHTTP: SvcKey = SvcKey(8);
    const TLS_GROUPS: SvcKey = SvcKey(9);
    const DOCPATH: SvcKey = SvcKey(10);
    /// "Invalid key" (RFC 9460 §14.3.2).
    const INVALID: SvcKey = SvcKey(65535);

    fn read(text: &[u8]) -> Option<SvcKey> {
        // Keys are written in lower case (RFC 9460 §2.1).
        if let Some(found) = KEY_NAMES.iter().position(|name| name.as_bytes() == text) {
            return Some(SvcKey(found as u16));
        }
        let digits = text.strip_prefix(b"key")?;
        // No leading zeros (RFC 9460 §2.1).
        if digits.len() > 1 && digits[0] == b'0' {
            return None;
        }
        decimal(digits, 65535).map(|number| SvcKey(number as u16))
    }
}

/// The mnemonics, by number.
const KEY_NAMES: [&str; 11] =
    ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp", "tls-supported-groups", "docpath"];

impl fmt::Display for SvcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KEY_NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "key{}", self.0),
        }
    }
}

/// What is wrong with service parameters as a whole, or with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvcFault {
    /// A key twice.
    Duplicate(SvcKey),
    /// On the wire: keys that do not ascend.
    Order(SvcKey),
    /// On the wire: a parameter that is cut off.
    Truncated,
    /// The value does not fit its key.
    Value(SvcKey),
    /// `mandatory` names a key that is not there.
    MandatoryAbsent(SvcKey),
    /// `mandatory` names itself.
    MandatoryItself,
    /// `no-default-alpn` without `alpn` (RFC 9460 §7.1.1).
    NoAlpn,
    /// Key 65535 is reserved.
    InvalidKey,
}

impl fmt::Display for SvcFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SvcFault::Duplicate(key) => write!(f, "parameters: found {key} twice, expected it once"),
            SvcFault::Order(key) => write!(f, "parameters: found {key} behind a higher or equal key, expected ascending keys"),
            SvcFault::Truncated => f.write_str("parameters: found a parameter that is cut off"),
            SvcFault::Value(key) => write!(f, "parameters: {key}: found a value that does not fit, expected {}", value_form(*key)),
            SvcFault::MandatoryAbsent(key) => write!(f, "parameters: mandatory: found {key}, expected only keys of this record"),
            SvcFault::MandatoryItself => f.write_str("parameters: mandatory: found itself, expected only other keys"),
            SvcFault::NoAlpn => f.write_str("parameters: found no-default-alpn without alpn"),
            SvcFault::InvalidKey => f.write_str("parameters: found key65535, which is reserved"),
        }
    }
}

fn value_form(key: SvcKey) -> &'static str {
    match key {
        SvcKey::MANDATORY => "keys with commas between them, each once",
        SvcKey::ALPN => "protocol identifiers of 1 to 255 octets with commas between them",
        SvcKey::NO_DEFAULT_ALPN | SvcKey::OHTTP => "no value",
        SvcKey::PORT => "a port from 0 to 65535",
        SvcKey::IPV4HINT => "IPv4 addresses with commas between them",
        SvcKey::ECH => "base64 data",
        SvcKey::IPV6HINT => "IPv6 addresses with commas between them",
        SvcKey::DOHPATH => "a relative URI template with the variable dns",
        SvcKey::TLS_GROUPS => "group numbers from 0 to 65535 with commas between them, each once",
        SvcKey::DOCPATH => "path segments of 1 to 255 octets with commas between them, or no value for the root",
        _ => "at most 65535 octets",
    }
}

/// Reads parameters in any order and appends them in ascending order. What they mean together is [`check`]'s.
pub(super) fn read(words: &[Field<'_>], out: &mut Vec<u8>) -> Result<(), RdataError> {
    let bad = |word: &Field<'_>| RdataError::Bad { field: "parameters", found: shown(word.text), expected: Expected::SvcParam };
    let mut params: Vec<(SvcKey, Vec<u8>)> = Vec::with_capacity(words.len());
    for word in words {
        if word.quoted {
            return Err(bad(word));
        }
        let (key, value) = match word.text.iter().position(|&octet| octet == b'=') {
            Some(sign) => (&word.text[..sign], Some(&word.text[sign + 1..])),
            None => (word.text, None),
        };
        let key = SvcKey::read(key).ok_or_else(|| bad(word))?;
        let mut text = Vec::new();
        if let Some(value) = value {
            let value = match value {
                [b'"', inner @ .., b'"'] => inner,
                other => other,
            };
            if !unescape_into(value, &mut text) {
                return Err(RdataError::BadEscape { found: shown(word.text) });
            }
        }
        let generic = word.text.starts_with(b"key");
        let octets = if generic { Some(text) } else { read_value(key, &text) };
        params.push((key, octets.ok_or(RdataError::Svc(SvcFault::Value(key)))?));
    }
    params.sort_by_key(|(key, _)| *key);
    if let Some(twice) = params.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(RdataError::Svc(SvcFault::Duplicate(twice[0].0)));
    }
    for (key, value) in &params {
        let len = u16::try_from(value.len()).map_err(|_| RdataError::TooLong { found: value.len() })?;
        out.extend_from_slice(&key.0.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}

fn read_value(key: SvcKey, text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let items = || text.split(|&octet| octet == b',');
    match key {
        SvcKey::MANDATORY => {
            let mut keys = items().map(SvcKey::read).collect::<Option<Vec<_>>>()?;
            keys.sort();
            keys.iter().for_each(|key| out.extend_from_slice(&key.0.to_be_bytes()));
        }
        SvcKey::DOCPATH if text.is_empty() => {}
        SvcKey::ALPN | SvcKey::DOCPATH => {
            for id in split_values(text)? {
                out.push(u8::try_from(id.len()).ok().filter(|len| *len > 0)?);
                out.extend_from_slice(&id);
            }
        }
        SvcKey::NO_DEFAULT_ALPN | SvcKey::OHTTP if text.is_empty() => {}
        SvcKey::NO_DEFAULT_ALPN | SvcKey::OHTTP => return None,
        SvcKey::PORT => out.extend_from_slice(&(decimal(text, 65535)? as u16).to_be_bytes()),
        SvcKey::IPV4HINT => {
            for item in items() {
                out.extend_from_slice(&std::str::from_utf8(item).ok()?.parse::<Ipv4Addr>().ok()?.octets());
            }
        }
        SvcKey::IPV6HINT => {
            for item in items() {
                out.extend_from_slice(&std::str::from_utf8(item).ok()?.parse::<Ipv6Addr>().ok()?.octets());
            }
        }
        SvcKey::ECH => return BASE64.decode(text).ok(),
        SvcKey::TLS_GROUPS => {
            for item in items() {
                out.extend_from_slice(&(decimal(item, 65535)? as u16).to_be_bytes());
            }
        }
        _ => return Some(text.to_vec()),
    }
    Some(out)
}

/// Splits a value list at commas; `\,` and `\\` are literal (RFC 9460 Appendix A.1).
fn split_values(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut items = vec![Vec::new()];
    let mut rest = text.iter();
    while let Some(&octet) = rest.next() {
        let octet = match octet {
            b',' => {
                items.push(Vec::new());
                continue;
            }
            b'\\' => *rest.next().filter(|next| matches!(next, b',' | b'\\'))?,
            other => other,
        };
        items.last_mut()?.push(octet);
    }
    Some(items)
}

/// True for an SVCB or HTTPS record in alias mode that has parameters, which everybody ignores (RFC 9460 §2.4.2).
pub fn is_alias_with_params(rdata: &[u8]) -> bool {
    rdata.starts_with(&[0, 0]) && params_of(rdata).is_some_and(|params| !params.is_empty())
}

/// What stands behind priority and target.
fn params_of(rdata: &[u8]) -> Option<&[u8]> {
    let tail = rdata.get(2..)?;
    tail.get(crate::dns::name::wire_len(tail)?..)
}

/// Checks the parameters of a whole SVCB or HTTPS record whose priority and target are known to fit.
pub(super) fn check(rdata: &[u8]) -> Result<(), SvcFault> {
    let params = params_of(rdata).ok_or(SvcFault::Truncated)?;
    let mut last = None;
    let mut keys = Params(params);
    for (key, value) in &mut keys {
        if last >= Some(key) {
            return Err(if last == Some(key) { SvcFault::Duplicate(key) } else { SvcFault::Order(key) });
        }
        if key == SvcKey::INVALID {
            return Err(SvcFault::InvalidKey);
        }
        if !value_fits(key, value) {
            return Err(SvcFault::Value(key));
        }
        last = Some(key);
    }
    if !keys.0.is_empty() {
        return Err(SvcFault::Truncated);
    }
    let has = |wanted: SvcKey| Params(params).any(|(key, _)| key == wanted);
    if has(SvcKey::NO_DEFAULT_ALPN) && !has(SvcKey::ALPN) {
        return Err(SvcFault::NoAlpn);
    }
    let mandatory = Params(params).find(|(key, _)| *key == SvcKey::MANDATORY).map_or(&[][..], |(_, value)| value);
    for key in numbers(mandatory).map(SvcKey) {
        match key {
            SvcKey::MANDATORY => return Err(SvcFault::MandatoryItself),
            key if !has(key) => return Err(SvcFault::MandatoryAbsent(key)),
            _ => {}
        }
    }
    Ok(())
}

/// Walks parameters; what is left over when it ends is cut off.
struct Params<'a>(&'a [u8]);

impl<'a> Iterator for Params<'a> {
    type Item = (SvcKey, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [k1, k2, l1, l2, tail @ ..] = self.0 else { return None };
        let value = tail.get(..usize::from(u16::from_be_bytes([*l1, *l2])))?;
        self.0 = &tail[value.len()..];
        Some((SvcKey(u16::from_be_bytes([*k1, *k2])), value))
    }
}

fn numbers(value: &[u8]) -> impl Iterator<Item = u16> {
    value.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

fn value_fits(key: SvcKey, value: &[u8]) -> bool {
    let chunks = |len: usize| !value.is_empty() && value.len().is_multiple_of(len);
    match key {
        SvcKey::MANDATORY => chunks(2) && numbers(value).zip(numbers(value).skip(1)).all(|(a, b)| a < b),
        SvcKey::ALPN => listed_values(value).is_some_and(|ids| !ids.is_empty()),
        SvcKey::DOCPATH => listed_values(value).is_some(),
        SvcKey::NO_DEFAULT_ALPN | SvcKey::OHTTP => value.is_empty(),
        SvcKey::PORT => value.len() == 2,
        SvcKey::IPV4HINT => chunks(4),
        SvcKey::IPV6HINT => chunks(16),
        SvcKey::ECH => !value.is_empty(),
        SvcKey::DOHPATH => std::str::from_utf8(value).is_ok_and(|path| path.starts_with('/') && has_dns_variable(path)),
        SvcKey::TLS_GROUPS => {
            let mut groups: Vec<u16> = numbers(value).collect();
            groups.sort_unstable();
            chunks(2) && groups.windows(2).all(|pair| pair[0] != pair[1])
        }
        _ => true,
    }
}

/// The template must use the variable `dns` (RFC 9461 §5).
fn has_dns_variable(path: &str) -> bool {
    path.split('{').skip(1).filter_map(|part| part.split_once('}')).any(|(expression, _)| {
        let names = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
        names.split(',').any(|name| name.trim_end_matches('*') == "dns")
    })
}

/// Values with their length before each (RFC 9460 §7.1.1), none of them empty.
fn listed_values(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut ids = Vec::new();
    while let Some((&len, tail)) = value.split_first() {
        let id = tail.get(..usize::from(len)).filter(|id| !id.is_empty())?;
        ids.push(id);
        value = &tail[id.len()..];
    }
    Some(ids)
}

/// Writes what [`read`] reads; `None` when the parameters do not fit.
pub(super) fn write(params: &[u8], out: &mut String) -> Option<()> {
    let mut params = Params(params);
    for (at, (key, value)) in (&mut params).enumerate() {
        if at > 0 {
            out.push(' ');
        }
        let _ = write!(out, "{key}");
        if !value.is_empty() {
            out.push('=');
            write_value(key, value, out)?;
        }
    }
    params.0.is_empty().then_some(())
}

fn write_value(key: SvcKey, value: &[u8], out: &mut String) -> Option<()> {
    fn list<T: fmt::Display>(items: impl Iterator<Item = T>, out: &mut String) {
        for (at, item) in items.enumerate() {
            let _ = write!(out, "{}{item}", if at > 0 { "," } else { "" });
        }
    }
    match key {
        SvcKey::MANDATORY => list(numbers(value).map(SvcKey), out),
        SvcKey::PORT | SvcKey::TLS_GROUPS => list(numbers(value), out),
        SvcKey::IPV4HINT => list(value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)), out),
        SvcKey::IPV6HINT => list(value.as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets)), out),
        SvcKey::ECH => out.push_str(&BASE64.encode(value)),
        SvcKey::ALPN | SvcKey::DOCPATH => {
            let mut joined = Vec::new();
            for (at, id) in listed_values(value)?.into_iter().enumerate() {
                if at > 0 {
                    joined.push(b',');
                }
                for &octet in id {
                    if matches!(octet, b',' | b'\\') {
                        joined.push(b'\\');
                    }
                    joined.push(octet);
                }
            }
            quoted(&joined, out);
        }
        _ => quoted(value, out),
    }
    Some(())
}

fn quoted(octets: &[u8], out: &mut String) {
    out.push('"');
    escape_into(octets, out);
    out.push('"');
}
