//! What people write and other people read: reasons, targets, names. Such text ends up on terminals, in logs and in tables, where some characters
//! move the cursor, break the line or turn the order of what is read around.

use super::api::{MAX_REASON_CHARS, Refusal};
use crate::config;

/// Characters of a target: zone and name, escaped, are 1,004 at most (RFC 1035 §2.3.4, §5.1); what stands in front of and behind them is a word or two.
pub const MAX_TARGET_CHARS: usize = 1200;

/// The longest expiry other than `never`: ten years.
const MAX_EXPIRY_DAYS: u64 = 3660;

/// When something ends: a duration from `from` (unix seconds), a time as in RFC 3339 after it, `never`, or `default_s` after it when nothing is said.
pub fn check_expiry(expires: Option<&str>, from: u64, default_s: u64) -> Result<Option<u64>, Refusal> {
    const MAX: u64 = MAX_EXPIRY_DAYS * 24 * 3600;
    match expires {
        None => Ok(Some(from + default_s)),
        Some("never") => Ok(None),
        Some(text) => match config::parse_duration(text).map(|duration| duration.as_secs()).or_else(|| rfc3339(text)?.checked_sub(from)) {
            Some(seconds @ 1..=MAX) => Ok(Some(from + seconds)),
            _ => {
                let detail = format!(
                    "found {text:?}, expected a duration from \"1s\" to \"{MAX_EXPIRY_DAYS}d\" (\"90s\", \"2h\", \"30d\"), a time as far behind its begin \
                     (\"2026-11-23T02:00:00Z\"), or \"never\""
                );
                Err(Refusal::Invalid { field: "expires".into(), detail })
            }
        },
    }
}

/// A time as RFC 3339 §5.6 writes it, in unix seconds; parts of a second do not count. None before 1970.
pub fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = time.split_at_checked(8)?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() >= 2 && text.bytes().all(|octet| octet.is_ascii_digit()));
    let all = |text: &str, by: char| text.split(by).map(number).collect::<Option<Vec<i64>>>();
    let ([year, month, day], [hour, minute, second]) = (<[i64; 3]>::try_from(all(date, '-')?).ok()?, <[i64; 3]>::try_from(all(clock, ':')?).ok()?);
    let zone = zone.strip_prefix('.').map_or(zone, |part| part.trim_start_matches(|char: char| char.is_ascii_digit()));
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), offset) => {
            let [hours, minutes] = <[i64; 2]>::try_from(all(offset, ':')?).ok().filter(|[hours, minutes]| *hours < 24 && *minutes < 60)?;
            (hours * 3600 + minutes * 60) * if sign == "+" { 1 } else { -1 }
        }
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = *months.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of a date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - offset).ok()
}

/// Seconds in one unit that tells enough: `90 s`, `15 min`, `30 h`, `4 days`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// True for what is not shown as itself: control characters (C0, DEL, C1), separators of lines and paragraphs, and those that change the direction
/// of the text around them (Unicode, UAX #9: Bidi_Control), with which a text can read as another ("Trojan Source", CVE-2021-42574).
pub fn misleads(char: char) -> bool {
    char.is_control() || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// True for what leaves no mark by itself: blanks, and what is ignored where it is shown (Unicode, Default_Ignorable_Code_Point and the format
/// characters), with the blank of Braille.
fn is_blank(char: char) -> bool {
    char.is_whitespace()
        || misleads(char)
        || matches!(char, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}')
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(char, '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text without what leaves no mark by itself, the blanks between words excepted.
pub fn seen(text: &str) -> String {
    text.chars().filter(|char| char.is_whitespace() || !is_blank(*char)).collect()
}

/// True for what leaves no mark and means nothing in any script: two texts that differ in it alone look the same. (Some scripts need the joiners U+200C and
/// U+200D within words.)
pub fn hides(char: char) -> bool {
    !char.is_whitespace() && is_blank(char) && !matches!(char, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// The text with U+FFFD in place of everything that [`misleads`].
pub fn plain(text: &str) -> String {
    text.chars().map(|char| if misleads(char) { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// Why something is done: without the blanks around it. [`Refusal::Invalid`] when it is empty, too long, or would not be read as it is written.
pub fn check_reason(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    check_length("reason", reason, MAX_REASON_CHARS)?;
    check_plain("reason", reason)?;
    check_visible("reason", reason).map(|()| reason)
}

/// The same where it may be left out.
pub fn check_optional_reason(reason: Option<&str>) -> Result<Option<String>, Refusal> {
    reason.filter(|reason| !reason.trim().is_empty()).map(|reason| check_reason(reason).map(str::to_owned)).transpose()
}

/// What a request is about, as it was written. Nothing has a name that misleads: such a one is found nowhere.
pub fn check_target<'t>(field: &str, target: &'t str) -> Result<&'t str, Refusal> {
    check_length(field, target, MAX_TARGET_CHARS).map(|()| target)
}

fn check_length(field: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    let found = text.chars().count();
    if (1..=limit).contains(&found) {
        return Ok(());
    }
    Err(Refusal::Invalid { field: field.into(), detail: format!("found {found} characters, expected 1 to {limit}") })
}

fn check_visible(field: &str, text: &str) -> Result<(), Refusal> {
    if text.chars().any(|char| !is_blank(char)) {
        return Ok(());
    }
    let code = text.chars().next().map_or(0, u32::from);
    let detail = format!("found nothing that can be seen (U+{code:04X} at character 1), expected text that can be read");
    Err(Refusal::Invalid { field: field.into(), detail })
}

fn check_plain(field: &str, text: &str) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::Invalid { field: field.into(), detail });
    match text.chars().position(misleads) {
        None => Ok(()),
        Some(at) => {
            let code = text.chars().nth(at).map_or(0, u32::from);
            invalid(format!("found U+{code:04X} at character {}, expected text on one line without characters that control how it is shown", at + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_section_5_6_times_are_read() {
        for (text, at) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00z", 951_782_400),
            ("2026-11-21T06:42:29Z", 1_795_243_349),
            ("2026-11-21t06:42:29.75Z", 1_795_243_349),
            ("2026-11-21 15:42:29+09:00", 1_795_243_349),
            ("2026-11-20T23:12:29-07:30", 1_795_243_349),
            ("2100-03-01T00:00:00+00:00", 4_107_542_400),
        ] {
            assert_eq!(rfc3339(text), Some(at), "{text}");
        }
        for bad in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T06:42Z",
            "2026-11-21T06:42:29",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+9",
            "1969-12-31T23:59:59Z",
            "2026-01-01T0é:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
        assert_eq!(check_expiry(Some("1970-01-01T00:01:40Z"), 40, 1), Ok(Some(100)));
        assert!(check_expiry(Some("1970-01-01T00:00:40Z"), 40, 1).is_err());
    }

    #[test]
    fn reasons_are_read_as_they_are_written() {
        for good in ["kernel update", " ticket 4711 ", "Größe: 2 → 3", "日本語", "سبب", "👩\u{200d}🔧 on it", "\u{feff}x", &"x".repeat(500)]
        {
            assert_eq!(check_reason(good).expect(good), good.trim());
        }
        for (bad, words) in [
            ("", "found 0 characters"),
            (" \n ", "found 0 characters"),
            (&*"x".repeat(501), "found 501 characters, expected 1 to 500"),
            ("a\nb", "U+000A at character 2"),
            ("a\0", "U+0000 at character 2"),
            ("\u{1b}[2Jx", "U+001B at character 1"),
            ("a\u{7f}", "U+007F"),
            ("a\u{85}b", "U+0085"),
            ("a\u{9b}2J", "U+009B"),
            ("a\u{2028}b", "U+2028"),
            ("a\u{2029}b", "U+2029"),
            ("drain \u{202e}arf", "U+202E at character 7"),
            ("a\u{2066}b", "U+2066"),
            ("a\u{200f}b", "U+200F"),
            ("\u{feff}", "found nothing that can be seen (U+FEFF at character 1)"),
            ("\u{200b} \u{2060}", "nothing that can be seen (U+200B"),
            ("\u{2800}\u{3164}", "nothing that can be seen (U+2800"),
            ("\u{ad}\u{fe0f}\u{e0020}", "nothing that can be seen (U+00AD"),
        ] {
            let Err(Refusal::Invalid { field, detail }) = check_reason(bad) else { panic!("{bad:?} is taken") };
            assert!(field == "reason" && detail.contains(words), "{bad:?}: {detail}");
            assert!(!plain(bad).contains(misleads));
        }
        assert_eq!(check_optional_reason(Some("  ")), Ok(None));
        assert!(check_expiry(Some("3661d"), 0, 1).is_err_and(|why| format!("{why:?}").contains("3660d")));
        assert_eq!(
            (check_expiry(None, 5, 2), check_expiry(Some("never"), 5, 2), check_expiry(Some("3660d"), 5, 2)),
            (Ok(Some(7)), Ok(None), Ok(Some(316_224_005)))
        );
        assert_eq!([0, 119, 120, 7200, 172_800].map(span), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
        assert!(check_target("target", &"x".repeat(1201)).is_err() && check_target("target", "").is_err());
    }
}
