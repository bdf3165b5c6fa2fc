//! Problems in files: where, what was found, what was expected.

use std::fmt;
use std::path::PathBuf;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but probably not as meant.
    Warning,
    /// The zone (or the whole configuration, for `meridian.toml`) is not taken.
    Error,
}

/// One problem. Printed as `zones/example.toml:14: pool "web": interval: found 0 s, expected 1 s to 1 h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// As the user named it (relative paths stay relative).
    pub file: PathBuf,
    /// One-based; 0 when it concerns the file as a whole.
    pub line: u32,
    /// The thing it is about, outermost first: `pool "web"`, `interval`. May be empty.
    pub subject: Vec<String>,
    /// Found and expected: lower case, no full stop.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        for subject in &self.subject {
            write!(f, " {subject}:")?;
        }
        write!(f, " {}", self.text)
    }
}
