//! A pattern that a body must match.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};

/// What a pattern may come to in memory: enough for any that is written by hand, and checks of thousands of endpoints share it.
const COMPILED_MAX_BYTES: usize = 256 * 1024;

/// A regular expression; matching takes time in proportion to the body, whatever it says.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads one; else what is wrong with it, in a line.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        RegexBuilder::new(text).size_limit(COMPILED_MAX_BYTES).build().map(Pattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("it would take more than {limit} octets"),
            // The reason stands in the last line, below a drawing of where.
            other => other.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned(),
        })
    }

    /// It occurs in there.
    pub fn matches(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_or_say_in_a_line_what_is_wrong() {
        for (text, good, bad) in [
            ("ready|warm", &b"it is warm"[..], &b"it is cold"[..]),
            ("^OK$", b"OK", b"OK and more"),
            ("(?i)^version: [0-9]+", b"Version: 12", b"version: x"),
            ("\\x00", b"\x00\xff", b"\xff"),
        ] {
            let pattern = Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(pattern.matches(good) && !pattern.matches(bad), "{text}");
            assert_eq!((pattern.to_string().as_str(), &pattern), (text, &Pattern::parse(text).expect("the same")));
        }
        for (text, why) in
            [("a(b", "unclosed group"), ("[z-a]", "invalid character class range"), ("(a{1000}){1000}", "it would take more than 262144 octets")]
        {
            let error = Pattern::parse(text).expect_err(text);
            assert!(error.starts_with(why) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
