//! `$GENERATE start-stop[/step] owner [ttl] [class] type rdata`, as BIND has it: one record per value of a counter.

use super::error::MasterFault;
use crate::dns::RecordType;
use crate::zone::token::{Field, Octet, classify, decimal, scan, shown};

/// The most records that one `$GENERATE` makes: a whole /16 of reverse names.
pub(super) const MAX_GENERATED: u32 = 65_536;
/// The widest padding of a counter: longer words fit no label.
const MAX_WIDTH: u32 = 63;

/// The values of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    start: u32,
    stop: u32,
    step: u32,
}

impl Range {
    /// Reads `start-stop[/step]`.
    pub(super) fn read(text: &[u8]) -> Result<Range, MasterFault> {
        Self::read_inner(text).ok_or_else(|| MasterFault::GenerateRange { found: shown(text) })
    }

    fn read_inner(text: &[u8]) -> Option<Range> {
        const MAX: u32 = i32::MAX as u32;
        let dash = text.iter().position(|&octet| octet == b'-')?;
        let (stop, step) = match text.iter().position(|&octet| octet == b'/') {
            Some(slash) => (text.get(dash + 1..slash)?, decimal(&text[slash + 1..], MAX)?),
            None => (&text[dash + 1..], 1),
        };
        let (start, stop) = (decimal(&text[..dash], MAX)?, decimal(stop, MAX)?);
        let fits = step > 0 && start <= stop && (stop - start) / step < MAX_GENERATED;
        fits.then_some(Range { start, stop, step })
    }

    pub(super) fn values(self) -> impl Iterator<Item = u32> {
        (self.start..=self.stop).step_by(self.step as usize)
    }
}

/// Puts the counter into a template: `$` is its value, `$$` and `\$` a dollar sign, `${offset,width,base}` a shifted, padded value.
pub(super) fn expand(template: &[u8], value: u32) -> Result<Vec<u8>, MasterFault> {
    let bad = || MasterFault::GenerateTemplate { found: shown(template) };
    let mut out = Vec::with_capacity(template.len() + 8);
    let mut rest = template;
    loop {
        match rest {
            [] => return Ok(out),
            [b'\\', b'$', tail @ ..] | [b'$', b'$', tail @ ..] => {
                out.extend_from_slice(br"\$");
                rest = tail;
            }
            [b'\\', other, tail @ ..] => {
                out.extend_from_slice(&[b'\\', *other]);
                rest = tail;
            }
            [b'$', b'{', tail @ ..] => {
                let end = tail.iter().position(|&octet| octet == b'}').ok_or_else(bad)?;
                let (value, width, base) = modified(&tail[..end], value).ok_or_else(bad)?;
                let value = u32::try_from(value).map_err(|_| MasterFault::GenerateValue { found: shown(template) })?;
                out.extend_from_slice(padded(value, width, base).as_bytes());
                rest = &tail[end + 1..];
            }
            [b'$', tail @ ..] => {
                out.extend_from_slice(value.to_string().as_bytes());
                rest = tail;
            }
            [other, tail @ ..] => {
                out.push(*other);
                rest = tail;
            }
        }
    }
}

/// The shifted value, the width and the base of `offset,width,base`.
fn modified(modifier: &[u8], value: u32) -> Option<(i64, usize, u8)> {
    let mut parts = modifier.split(|&octet| octet == b',');
    let offset = parts.next()?;
    let width = parts.next().map_or(Some(0), |width| decimal(width, MAX_WIDTH))? as usize;
    let base = parts.next().unwrap_or(b"d");
    if parts.next().is_some() {
        return None;
    }
    let offset = match offset.strip_prefix(b"-") {
        Some(digits) => -i64::from(decimal(digits, i32::MAX as u32)?),
        None => i64::from(decimal(offset.strip_prefix(b"+").unwrap_or(offset), i32::MAX as u32)?),
    };
    match base {
        &[base @ (b'd' | b'o' | b'x' | b'X' | b'n' | b'N')] => Some((i64::from(value) + offset, width, base)),
        _ => None,
    }
}

fn padded(value: u32, width: usize, base: u8) -> String {
    match base {
        b'o' => format!("{value:0width$o}"),
        b'x' => format!("{value:0width$x}"),
        b'X' => format!("{value:0width$X}"),
        b'n' | b'N' => nibbles(value, width, base == b'N'),
        _ => format!("{value:0width$}"),
    }
}

/// Hexadecimal digits, the lowest first, with dots between them; the width counts digits and dots.
fn nibbles(mut value: u32, width: usize, upper: bool) -> String {
    let mut out = String::new();
    loop {
        let digit = char::from_digit(value & 0xf, 16).unwrap_or('0');
        out.push(if upper { digit.to_ascii_uppercase() } else { digit });
        value >>= 4;
        if value == 0 && out.len() >= width {
            return out;
        }
        out.push('.');
        if value == 0 && out.len() >= width {
            return out;
        }
    }
}

/// The words that stand in quotes around all of the data, which BIND strips (`MX "0 ."`); `None` when there are no such quotes, or when what is in
/// them is a text. In the text, `\"` is a quote.
pub(super) fn strip(rtype: RecordType, data: &[Field<'_>]) -> Option<Vec<u8>> {
    let is_text = matches!(rtype, RecordType::TXT | RecordType::SPF | RecordType::AVC | RecordType::NINFO | RecordType::RESINFO | RecordType::WALLET);
    let [Field { text, quoted: true }] = data else { return None };
    let mut stripped = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&octet) = rest.next() {
        match (octet, rest.as_slice()) {
            (b'\\', [b'"', ..]) => {}
            (b'\\', [other, ..]) => {
                stripped.extend([octet, *other]);
                rest.next();
            }
            _ => stripped.push(octet),
        }
    }
    (!is_text).then_some(stripped)
}

/// Words with blanks between them; `None` when they are not all words.
pub(super) fn words(text: &[u8], pairs: bool) -> Option<Vec<Field<'_>>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        match classify(octet) {
            Octet::Blank => at += 1,
            Octet::Word => {
                let (word, next) = scan(text, at, pairs).ok()?;
                words.push(word);
                at = next;
            }
            Octet::LineEnd | Octet::Special => return None,
        }
    }
    Some(words)
}

/// The words of one record; the quotes of quoted words are kept apart.
pub(super) fn expand_all(templates: &[Field<'_>], value: u32) -> Result<Vec<(Vec<u8>, bool)>, MasterFault> {
    templates.iter().map(|field| expand(field.text, value).map(|text| (text, field.quoted))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read() {
        for (text, expected) in [
            ("1-3", Some(vec![1, 2, 3])),
            ("0-5/2", Some(vec![0, 2, 4])),
            ("7-7", Some(vec![7])),
            ("3-1", None),
            ("1-2/0", None),
            ("1", None),
            ("-1-2", None),
            ("0-65536", None),
            ("1/2-3", None),
            ("0-4294967295/4294967295", None),
        ] {
            assert_eq!(Range::read(text.as_bytes()).ok().map(|range| range.values().collect::<Vec<_>>()), expected, "{text}");
        }
        assert_eq!(Range::read(b"0-65535").map(|range| range.values().count()), Ok(65_536));
    }

    #[test]
    fn templates_expand() {
        for (template, value, expected) in [
            ("host-$", 5, Some("host-5")),
            ("$.$$.\\$", 5, Some("5.\\$.\\$")),
            ("${0,3,d}", 5, Some("005")),
            ("${-2}", 5, Some("3")),
            ("${+10,4,x}", 5, Some("000f")),
            ("${10,0,X}", 5, Some("F")),
            ("${0,0,o}", 8, Some("10")),
            ("${0,7,n}", 0x12, Some("2.1.0.0")),
            ("${0,1,N}", 0xab, Some("B.A")),
            ("${-6}", 5, None),
            ("${0,3,q}", 5, None),
            ("${0,3,d,1}", 5, None),
            ("${0", 5, None),
            ("${0,64}", 5, None),
            ("a\\.$", 1, Some("a\\.1")),
        ] {
            let found = expand(template.as_bytes(), value).ok().map(|octets| String::from_utf8_lossy(&octets).into_owned());
            assert_eq!(found.as_deref(), expected, "{template}");
        }
    }
}
