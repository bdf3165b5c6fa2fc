//! Domain names in wire form (RFC 1035 §3.1, RFC 2181 §11, RFC 4343).
//!
//! A [`Name`] is always absolute and always valid: 1 to 255 octets, labels of 1 to 63 octets, the root label last. It keeps the case it was
//! written in; comparison and hashing ignore ASCII case.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest name in wire form, the root label included (RFC 1035 §2.3.4).
pub const MAX_NAME_LEN: usize = 255;
/// The longest label (RFC 1035 §2.3.4).
pub const MAX_LABEL_LEN: usize = 63;
/// The most labels a name can have, the root not counted: 127 labels of one octet fill 255.
pub const MAX_LABELS: usize = 127;

/// An absolute domain name in uncompressed wire form, case as written.
#[derive(Clone)]
pub struct Name {
    /// Length-prefixed labels, the root label (a zero octet) last.
    wire: Box<[u8]>,
}

/// Why a text or octets are no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// Two dots in a row, or a leading dot.
    EmptyLabel,
    /// A label of more than 63 octets.
    LabelTooLong,
    /// More than 255 octets in all.
    NameTooLong,
    /// A backslash that is followed by neither one character nor three digits up to 255.
    BadEscape,
    /// Octets that end before the root label, or hold a compression pointer.
    BadWire,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the name is empty",
            NameError::EmptyLabel => "the name has an empty label",
            NameError::LabelTooLong => "a label is longer than 63 octets",
            NameError::NameTooLong => "the name is longer than 255 octets",
            NameError::BadEscape => r"a backslash must be followed by one character or by three digits up to 255",
            NameError::BadWire => "the octets are no domain name",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The root.
    pub fn root() -> Name {
        Name { wire: Box::new([0]) }
    }

    /// Reads presentation format (RFC 1035 §5.1): a final dot makes it absolute, otherwise `origin` is appended; `@` is the origin itself.
    pub fn parse(text: &str, origin: &Name) -> Result<Name, NameError> {
        Self::parse_octets(text.as_bytes(), origin)
    }

    /// Reads presentation format that is absolute with or without its final dot.
    pub fn parse_absolute(text: &str) -> Result<Name, NameError> {
        Self::parse(text, &Name::root())
    }

    /// [`Name::parse`] over octets, for master files that are not UTF-8.
    pub fn parse_octets(text: &[u8], origin: &Name) -> Result<Name, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2 + origin.wire.len());
        parse_into(text, &origin.wire, &mut wire)?;
        Ok(Name { wire: wire.into() })
    }

    /// Takes octets that must be exactly one uncompressed name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        let len = wire_len(wire).ok_or(NameError::BadWire)?;
        if len != wire.len() {
            return Err(NameError::BadWire);
        }
        Ok(Name { wire: wire.into() })
    }

    fn checked(wire: Vec<u8>) -> Result<Name, NameError> {
        if wire.len() > MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        Ok(Name { wire: wire.into() })
    }

    /// Length-prefixed labels, the root label last; 1 to 255 octets, case as written.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// True for the root alone.
    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// The labels from the left, the root not included.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let len = usize::from(*self.wire.get(at)?);
            if len == 0 {
                return None;
            }
            let label = self.wire.get(at + 1..at + 1 + len)?;
            at += 1 + len;
            Some(label)
        })
    }

    /// How many labels, the root not counted.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name without its first label; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        let first = usize::from(self.wire[0]);
        (first > 0).then(|| Name { wire: self.wire[first + 1..].into() })
    }

    /// True when the first label is a lone asterisk (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.wire.starts_with(b"\x01*")
    }

    /// True for `ancestor` itself and every name below it.
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        is_at_or_below(&self.wire, &ancestor.wire)
    }

    /// The same name in lower case (RFC 4343, and the canonical form of RFC 4034 §6.2).
    pub fn to_lowercase(&self) -> Name {
        // Length octets are at most 63, below 'A', so they are untouched.
        Name { wire: self.wire.to_ascii_lowercase().into() }
    }

    /// `label` in front of this name.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        match label.len() {
            0 => return Err(NameError::EmptyLabel),
            1..=MAX_LABEL_LEN => {}
            _ => return Err(NameError::LabelTooLong),
        }
        let mut wire = Vec::with_capacity(1 + label.len() + self.wire.len());
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.wire);
        Self::checked(wire)
    }

    /// Presentation form relative to `origin` (`@` for the origin itself); absolute with a final dot when it is not below it.
    pub fn relative_to(&self, origin: &Name) -> String {
        let text = self.to_string();
        if !self.is_at_or_below(origin) || origin.is_root() {
            return text;
        }
        let own = self.label_count() - origin.label_count();
        if own == 0 {
            return "@".into();
        }
        let mut out = String::new();
        for label in self.labels().take(own) {
            if !out.is_empty() {
                out.push('.');
            }
            escape_label(label, &mut out);
        }
        out
    }
}

/// [`Name::is_at_or_below`] over wire forms.
pub fn is_at_or_below(own: &[u8], ancestor: &[u8]) -> bool {
    let Some(tail_at) = own.len().checked_sub(ancestor.len()) else { return false };
    if !own[tail_at..].eq_ignore_ascii_case(ancestor) {
        return false;
    }
    let mut at = 0;
    while at < tail_at {
        at += 1 + usize::from(own[at]);
    }
    at == tail_at
}

/// The length of the uncompressed name at the start of `octets`, its root label included; `None` when there is none.
pub fn wire_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..=MAX_LABEL_LEN => at += 1 + len,
            _ => return None,
        }
        if at >= MAX_NAME_LEN {
            return None;
        }
    }
}

/// Reads presentation format as [`Name::parse_octets`] does and appends the name's wire form to `out`, which keeps what stands there already; what
/// was appended when an error was found is to be thrown away. `origin` is a whole name. Without an allocation of its own: zones have millions.
pub fn parse_into(text: &[u8], origin: &[u8], out: &mut Vec<u8>) -> Result<(), NameError> {
    let start = out.len();
    match text {
        b"" => return Err(NameError::Empty),
        b"@" => {
            out.extend_from_slice(origin);
            return Ok(());
        }
        b"." => {
            out.push(0);
            return Ok(());
        }
        _ => {}
    }
    let mut label_at = start;
    out.push(0);
    let mut rest = text;
    let mut absolute = false;
    while let Some(&octet) = rest.first() {
        let plain = rest.iter().position(|octet| matches!(octet, b'.' | b'\\')).unwrap_or(rest.len());
        if plain > 0 {
            out.extend_from_slice(&rest[..plain]);
            rest = &rest[plain..];
            absolute = false;
        } else if octet == b'.' {
            close_label(out, start, &mut label_at)?;
            rest = &rest[1..];
            absolute = true;
        } else {
            let mut octets = rest[1..].iter().copied();
            out.push(read_escape(&mut octets)?);
            rest = &rest[rest.len() - octets.len()..];
            absolute = false;
        }
    }
    if !absolute {
        close_label(out, start, &mut label_at)?;
        out.pop();
        out.extend_from_slice(origin);
    }
    // After a final dot `close_label` left an open empty label, which is the root's.
    if out.len() - start > MAX_NAME_LEN { Err(NameError::NameTooLong) } else { Ok(()) }
}

fn close_label(wire: &mut Vec<u8>, start: usize, label_at: &mut usize) -> Result<(), NameError> {
    let len = wire.len() - *label_at - 1;
    match len {
        0 => return Err(NameError::EmptyLabel),
        1..=MAX_LABEL_LEN => {}
        _ => return Err(NameError::LabelTooLong),
    }
    if wire.len() - start >= MAX_NAME_LEN {
        return Err(NameError::NameTooLong);
    }
    wire[*label_at] = len as u8;
    *label_at = wire.len();
    wire.push(0);
    Ok(())
}

fn read_escape(rest: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = rest.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        match rest.next() {
            Some(digit) if digit.is_ascii_digit() => value = value * 10 + u16::from(digit - b'0'),
            _ => return Err(NameError::BadEscape),
        }
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

fn escape_label(label: &[u8], out: &mut String) {
    for &octet in label {
        match octet {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            // What separates the parts of ids (`zone/name/TYPE`) is written so that it does not.
            0x21..=0x7e if octet != b'/' => out.push(char::from(octet)),
            _ => {
                out.push('\\');
                out.push_str(&format!("{octet:03}"));
            }
        }
    }
}

impl fmt::Display for Name {
    /// Presentation form with the final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        let mut out = String::with_capacity(self.wire.len());
        for label in self.labels() {
            escape_label(label, &mut out);
            out.push('.');
        }
        f.write_str(&out)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.wire {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// Canonical order (RFC 4034 §6.1).
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        canonical_order(&self.wire, &other.wire)
    }
}

/// Canonical order of two names in wire form (RFC 4034 §6.1): by label from the right, lower case.
pub fn canonical_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (mut a_labels, mut b_labels) = (Labels::of(a), Labels::of(b));
    loop {
        let order = match (a_labels.next(), b_labels.next()) {
            (None, None) => return Ordering::Equal,
            // Names that are sorted mostly end alike.
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) => a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The labels of a name from the right, the root not included, without their length octets.
struct Labels<'n> {
    wire: &'n [u8],
    /// A bit for each octet that begins a label which was not given yet, those of the first 128 octets in the first number.
    starts: [u128; 2],
}

impl<'n> Labels<'n> {
    /// `wire` is a whole name.
    fn of(wire: &'n [u8]) -> Labels<'n> {
        let (mut starts, mut at) = ([0; 2], 0);
        while let Some(len) = wire.get(at).copied().filter(|len| *len > 0) {
            starts[at / 128] |= 1 << (at % 128);
            at += 1 + usize::from(len);
        }
        Labels { wire, starts }
    }
}

impl<'n> Iterator for Labels<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        let half = usize::from(self.starts[1] > 0);
        let bit = self.starts[half].checked_ilog2()?;
        self.starts[half] ^= 1 << bit;
        let at = 128 * half + bit as usize;
        self.wire.get(at + 1..at + 1 + usize::from(*self.wire.get(at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse_absolute(text).expect(text)
    }

    #[test]
    fn presentation_reads_and_prints() {
        let origin = name("example.com.");
        for (text, expected) in [
            ("www", "www.example.com."),
            ("www.", "www."),
            ("@", "example.com."),
            (".", "."),
            (r"a\.b", r"a\.b.example.com."),
            (r"a\046b.", r"a\.b."),
            (r"\000\255.", r"\000\255."),
            ("*.x", "*.x.example.com."),
            ("WWW.Example.", "WWW.Example."),
        ] {
            assert_eq!(Name::parse(text, &origin).map(|n| n.to_string()), Ok(expected.to_string()), "{text}");
        }
        assert_eq!(name("a.example.com").relative_to(&origin), "a");
        assert_eq!(origin.relative_to(&origin), "@");
        assert_eq!(name("example.net").relative_to(&origin), "example.net.");
    }

    #[test]
    fn bad_names_are_refused() {
        let long_label = "a".repeat(64);
        let long_name = "abcdefg.".repeat(32);
        for (text, expected) in [
            ("", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            (long_label.as_str(), NameError::LabelTooLong),
            (long_name.as_str(), NameError::NameTooLong),
            (r"a\", NameError::BadEscape),
            (r"a\25", NameError::BadEscape),
            (r"a\256", NameError::BadEscape),
        ] {
            assert_eq!(Name::parse_absolute(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn longest_names_are_taken() {
        let text = format!("{}{}.", "abcdefg.".repeat(31), "abcde");
        let longest = name(&text);
        assert_eq!(longest.as_wire().len(), 255);
        assert!(longest.child(b"x").is_err());
        assert_eq!(name(&"a.".repeat(127)).label_count(), MAX_LABELS);
    }

    /// Short labels that are often alike, and long ones that reach beyond the first 128 octets.
    const LABELS: &str = "(([a-cA-C]{1,3}|[ab]c{58})\\.){0,4}";

    proptest::proptest! {
        #[test]
        fn rfc4034_section_6_1_order_is_that_of_reversed_lower_case_labels(a in LABELS, b in LABELS) {
            let key = |text: &str| text.to_lowercase().split_terminator('.').rev().map(str::to_owned).collect::<Vec<_>>();
            let of = |text: &str| name(if text.is_empty() { "." } else { text });
            proptest::prop_assert_eq!(of(&a).cmp(&of(&b)), key(&a).cmp(&key(&b)));
        }
    }

    #[test]
    fn comparison_ignores_case_and_respects_labels() {
        assert_eq!(name("WWW.example.COM"), name("www.EXAMPLE.com"));
        assert!(name("www.Example.com").is_at_or_below(&name("example.com")));
        assert!(name("example.com").is_at_or_below(&name("example.com")));
        assert!(!name("wwwexample.com").is_at_or_below(&name("example.com")));
        assert!(!name(r"x\007example.com").is_at_or_below(&name("example.com")), "an octet that looks like a length is no label border");
        assert!(name("z.example").cmp(&name("a.z.example")).is_lt());
    }
}
