//! The words of presentation format (RFC 1035 §5.1): scanning, escapes, numbers, periods. Shared by master files and single records.

/// One word of a record, as written: escapes stand, surrounding quotes are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The octets as written, between the quotes if there were any.
    pub text: &'a [u8],
    /// True when the word stood in double quotes.
    pub quoted: bool,
}

/// Why a word cannot be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// The line or the text ends inside double quotes.
    Unclosed,
    /// A backslash with nothing behind it on its line.
    LoneBackslash,
}

/// What an octet means outside quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Octet {
    /// Part of a word.
    Word,
    /// Space, tab, carriage return.
    Blank,
    /// Line feed.
    LineEnd,
    /// `(`, `)` or `;`.
    Special,
}

/// By octet. A table, because every octet of a master file is looked at.
const CLASSES: [Octet; 256] = {
    let mut classes = [Octet::Word; 256];
    classes[b' ' as usize] = Octet::Blank;
    classes[b'\t' as usize] = Octet::Blank;
    classes[b'\r' as usize] = Octet::Blank;
    classes[b'\n' as usize] = Octet::LineEnd;
    classes[b'(' as usize] = Octet::Special;
    classes[b')' as usize] = Octet::Special;
    classes[b';' as usize] = Octet::Special;
    classes
};

/// True for the octets of a word that need no closer look.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut octet = 0;
    while octet < 256 {
        plain[octet] = matches!(CLASSES[octet], Octet::Word) && octet != b'\\' as usize && octet != b'"' as usize;
        octet += 1;
    }
    plain
};

#[inline]
pub(super) fn classify(octet: u8) -> Octet {
    CLASSES[usize::from(octet)]
}

/// Scans the word that starts at `at`, which must be a [`Octet::Word`]. Returns it and where scanning goes on. With `pairs` a quote that
/// follows an equals sign belongs to the word (`alpn="h2,h3"`, RFC 9460 §2.1).
#[inline]
pub(super) fn scan(text: &[u8], at: usize, pairs: bool) -> Result<(Field<'_>, usize), TokenError> {
    if text[at] == b'"' {
        let end = closing_quote(text, at + 1)?;
        return Ok((Field { text: &text[at + 1..end], quoted: true }, end + 1));
    }
    let mut end = at;
    while let Some(&octet) = text.get(end) {
        if PLAIN[usize::from(octet)] {
            end += 1;
            continue;
        }
        match octet {
            b'\\' => match text.get(end + 1) {
                None | Some(b'\n' | b'\r') => return Err(TokenError::LoneBackslash),
                Some(_) => end += 2,
            },
            b'"' if pairs && end > at && text[end - 1] == b'=' => end = closing_quote(text, end + 1)? + 1,
            // Blanks, what is special, and a quote, which starts the next word (RFC 9460 appendix A: no part of a bare character-string).
            _ => break,
        }
    }
    Ok((Field { text: &text[at..end], quoted: false }, end))
}

fn closing_quote(text: &[u8], from: usize) -> Result<usize, TokenError> {
    let mut at = from;
    loop {
        match text.get(at) {
            None | Some(b'\n') => return Err(TokenError::Unclosed),
            Some(b'"') => return Ok(at),
            Some(b'\\') if text.get(at + 1) != Some(&b'\n') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// Appends the octets that `text` stands for: `\DDD` is one octet by number, `\X` is X. False when an escape is malformed.
pub(super) fn unescape_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|&octet| octet == b'\\').unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        match &rest[plain..] {
            [] => return true,
            [b'\\', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
                let value = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
                let Ok(octet) = u8::try_from(value) else { return false };
                out.push(octet);
                rest = tail;
            }
            [b'\\', other, tail @ ..] if !other.is_ascii_digit() => {
                out.push(*other);
                rest = tail;
            }
            _ => return false,
        }
    }
}

/// Appends `octets` as they stand between double quotes.
pub(super) fn escape_into(octets: &[u8], out: &mut String) {
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            0x20..=0x7e => out.push(char::from(octet)),
            _ => {
                out.push('\\');
                for digit in [octet / 100, octet / 10 % 10, octet % 10] {
                    out.push(char::from(b'0' + digit));
                }
            }
        }
    }
}

/// A decimal number of at most `max`; digits only.
pub(super) fn decimal(text: &[u8], max: u32) -> Option<u32> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value: u64 = 0;
    for &octet in text {
        if !octet.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(octet - b'0');
        if value > u64::from(max) {
            return None;
        }
    }
    u32::try_from(value).ok()
}

/// Seconds: a number, or numbers with the units `w d h m s` in any case (`1h30m`).
pub(super) fn period(text: &[u8]) -> Option<u32> {
    if let Some(seconds) = decimal(text, u32::MAX) {
        return Some(seconds);
    }
    let mut total: u64 = 0;
    let mut digits_at = 0;
    for (at, octet) in text.iter().enumerate() {
        let unit = match octet.to_ascii_lowercase() {
            b'0'..=b'9' => continue,
            b'w' => 604_800,
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total += u64::from(decimal(&text[digits_at..at], u32::MAX)?) * unit;
        if total > u64::from(u32::MAX) {
            return None;
        }
        digits_at = at + 1;
    }
    // Digits without a unit after a unit (`1h30`) could mean anything.
    (digits_at == text.len() && !text.is_empty()).then_some(total as u32)
}

/// `text` as an error message shows it: lossy, and at most 64 characters.
pub(super) fn shown(text: &[u8]) -> String {
    const MAX_SHOWN: usize = 64;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_SHOWN)]);
    if text.chars().count() <= MAX_SHOWN {
        return text.into_owned();
    }
    text.chars().take(MAX_SHOWN - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_with_and_without_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("3600", Some(3600)),
            ("1h30m", Some(5400)),
            ("1W2D3H4M5S", Some(788_645)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("99999w", None),
            ("1h30", None),
            ("h", None),
            ("", None),
            ("-1", None),
            ("1x", None),
            ("A", None),
        ] {
            assert_eq!(period(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn words_end_where_rfc1035_says() {
        let check = |text: &str, pairs: bool, expected: Result<(&str, bool, usize), TokenError>| {
            let found = scan(text.as_bytes(), 0, pairs).map(|(field, next)| (String::from_utf8_lossy(field.text).into_owned(), field.quoted, next));
            assert_eq!(found, expected.map(|(word, quoted, next)| (word.to_string(), quoted, next)), "{text}");
        };
        check("abc def", false, Ok(("abc", false, 3)));
        check(r"a\ b\;c;d", false, Ok((r"a\ b\;c", false, 7)));
        check(r#""a ;(b\"c" d"#, false, Ok((r#"a ;(b\"c"#, true, 10)));
        check(r#"alpn="h2 h3" x"#, true, Ok((r#"alpn="h2 h3""#, false, 12)));
        check(r#"alpn="h2 h3" x"#, false, Ok(("alpn=", false, 5)));
        check(r#"a"b""#, false, Ok(("a", false, 1)));
        check(r#"alpn=h2"h3""#, true, Ok(("alpn=h2", false, 7)));
        check(r#"a\"b c"#, false, Ok((r#"a\"b"#, false, 4)));
        check("\"abc\ndef\"", false, Err(TokenError::Unclosed));
        check("\"abc\\", false, Err(TokenError::Unclosed));
        check("abc\\\n", false, Err(TokenError::LoneBackslash));
    }

    #[test]
    fn escapes_read_back() {
        for (text, expected) in [
            (r"a\.b", Some(&b"a.b"[..])),
            (r"\255\000\\", Some(&[255, 0, b'\\'])),
            (r"\25", None),
            (r"\256", None),
            (r"a\", None),
            ("ü", Some("ü".as_bytes())),
        ] {
            let mut out = Vec::new();
            let read = unescape_into(text.as_bytes(), &mut out);
            assert_eq!(read.then_some(&out[..]), expected, "{text}");
        }
    }
}
