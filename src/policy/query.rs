//! What a Prometheus is asked about an endpoint, and what its answer is held against.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::monitor::TlsCheck;

/// Stands in a query for the endpoint's address, or for the name of an endpoint that is a CNAME.
pub const ADDRESS: &str = "$address";
/// Stands in a query for the name of the pool; it is put in at load.
pub const POOL: &str = "$pool";

/// An instant query of the HTTP API of Prometheus, and what its value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrometheusCheck {
    /// Name or address of the server, which is the SNI as well; its port is the monitor's.
    pub host: String,
    /// In front of `/api/v1/query`: empty, or a path that starts with `/` and does not end so.
    pub prefix: String,
    /// PromQL; may hold [`ADDRESS`].
    pub query: String,
    /// The value must be within all of them.
    pub expected: Vec<Bound>,
    /// What no value means.
    pub on_empty: OnEmpty,
    /// Further headers of the request; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Holds a bearer token, absolute path.
    pub token_file: Option<PathBuf>,
    /// Over TLS, and whom it trusts then.
    pub tls: Option<TlsCheck>,
    /// How long the last value counts when no other comes.
    pub stale: Duration,
    /// It is forgotten then: the state is unknown.
    pub forget: bool,
}

impl PrometheusCheck {
    /// Each endpoint has a value of its own.
    pub fn is_of_endpoint(&self) -> bool {
        self.query.contains(ADDRESS)
    }

    /// The query for an endpoint.
    pub fn query_for(&self, address: &str) -> String {
        self.query.replace(ADDRESS, address)
    }
}

/// What it means when the query has no value: no series, or no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnEmpty {
    /// Nothing is known.
    #[default]
    Unknown,
    /// It passes: the query finds what is wrong.
    Pass,
    /// It fails: the query finds what is well.
    Fail,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    Other,
}

/// A comparison with a number, as `< 0.05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    comparison: Comparison,
    /// Of a finite number: checks are compared with each other, which floating point is not made for.
    bits: u64,
}

impl Bound {
    /// Reads `< 0.05`.
    pub fn parse(text: &str) -> Option<Bound> {
        // The longer words first: `<=` begins with `<`.
        let words = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("!=", Comparison::Other),
            ("<", Comparison::Below),
            (">", Comparison::Above),
        ];
        let (rest, comparison) = words.into_iter().find_map(|(word, comparison)| Some((text.trim().strip_prefix(word)?, comparison)))?;
        let number = rest.trim().parse::<f64>().ok().filter(|number| number.is_finite())?;
        // Zero has two signs, which are the same number.
        Some(Bound { comparison, bits: (number + 0.0).to_bits() })
    }

    /// The number.
    fn number(self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// True where no number is within all of them. Whatever set of numbers they leave has a member at one of their own numbers, or next to one.
    pub fn exclude_each_other(all: &[Bound]) -> bool {
        let mut near = all.iter().map(|bound| bound.number()).flat_map(|number| [number, number.next_up(), number.next_down()]);
        !all.is_empty() && !near.any(|value| all.iter().all(|bound| bound.holds(value)))
    }

    /// True when the value is as it should be. What is no number never is.
    pub fn holds(self, value: f64) -> bool {
        let number = self.number();
        match self.comparison {
            _ if value.is_nan() => false,
            Comparison::Below => value < number,
            Comparison::AtMost => value <= number,
            Comparison::Above => value > number,
            Comparison::AtLeast => value >= number,
            Comparison::Equal => value == number,
            Comparison::Other => value != number,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.comparison {
            Comparison::Below => "<",
            Comparison::AtMost => "<=",
            Comparison::Above => ">",
            Comparison::AtLeast => ">=",
            Comparison::Equal => "==",
            Comparison::Other => "!=",
        };
        write!(f, "{word} {}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_exclude_each_other_are_found() {
        let exclude = |texts: &[&str]| Bound::exclude_each_other(&texts.iter().map(|text| Bound::parse(text).expect("a bound")).collect::<Vec<_>>());
        let nothing: [&[&str]; 8] = [
            &["< 1", "> 2"],
            &["> 1", "< 1"],
            &[">= 1", "< 1"],
            &["== 1", "== 2"],
            &["== 1", "!= 1"],
            &["== 0", "> -0"],
            &["<= -3", ">= 3"],
            &["== 5", "< 5"],
        ];
        for texts in nothing {
            assert!(exclude(texts), "{texts:?}");
        }
        let something: [&[&str]; 9] = [
            &[],
            &["< 1"],
            &["!= 0"],
            &["> 1", "< 2"],
            &[">= 1", "<= 1"],
            &["!= 1", "!= 2"],
            &["> 3", "> 5"],
            &["== 1", "!= 2"],
            &["> 0", "< 1e-300"],
        ];
        for texts in something {
            assert!(!exclude(texts), "{texts:?}");
        }
    }

    #[test]
    fn bounds_are_read_and_held_against_values() {
        let check = |text: &str, shown: &str, good: &[f64], bad: &[f64]| {
            let bound = Bound::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(bound.to_string(), shown);
            assert!(good.iter().all(|value| bound.holds(*value)), "{text}");
            assert!(!bad.iter().chain(&[f64::NAN]).any(|value| bound.holds(*value)), "{text}");
        };
        check("< 0.05", "< 0.05", &[0.049, -1.0, f64::NEG_INFINITY], &[0.05, 1.0, f64::INFINITY]);
        check("<=5e-2", "<= 0.05", &[0.05], &[0.051]);
        check(" > 0 ", "> 0", &[1.0, f64::INFINITY], &[0.0, -0.0]);
        check(">= 1", ">= 1", &[1.0], &[0.999]);
        check("== 1", "== 1", &[1.0], &[0.0, 2.0]);
        check("!= -0", "!= 0", &[1.0], &[0.0, -0.0]);
        for bad in ["", "0.05", "<", "< NaN", "< inf", "= 1", "=> 1", "< 1 2", "< 5%"] {
            assert_eq!(Bound::parse(bad), None, "{bad}");
        }
        assert_eq!(Bound::parse("== -0"), Bound::parse("== 0"));
    }
}
