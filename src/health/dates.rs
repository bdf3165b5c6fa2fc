//! Whether this machine's clock is right enough to judge certificates by. To a clock that is years off every certificate has expired, or is not valid
//! yet, which tells of this machine and nothing of the endpoints. Browsers ask themselves the same before they blame a server.
//!
//! ```text
//! a certificate is not valid in time by the machine's clock; it                              that
//! is not valid yet, and the clock reads less than something that has been                    is doubted
//! is that of a check that has passed in this run; since then the clock
//!   went on as time does                                                                     counts
//!   was set, and by the old one it is not valid either                                       counts
//!   was set, and another has passed that was issued after what the old one reads             counts: it was the old one that was wrong
//!   was set                                                                                  is doubted
//! is that of a check that has not passed in this run, and
//!   the program has just started, so that there is nothing to compare with                   is put off
//!   it is one of two different ones at least, and of more than have passed                   is doubted
//!   it is one of few                                                                         counts
//! ```

use std::time::Duration;

use super::concern::rough_span;

/// Clocks that differ by less are the same: they are read at different moments, and steered a little all the time.
const SAME_S: i64 = 60;

/// A program that has run for less has nothing to compare a first certificate with: other checks begin within a second, and take three.
const SETTLING: Duration = Duration::from_secs(5);

/// Fewer certificates than this are no crowd.
const LEAST_CERTIFICATES: usize = 2;

/// No clock that is right reads less: the first of November 2026, when this was written.
pub const WRITTEN_UNIX: u64 = 1_793_491_200;

/// A certificate that is not valid in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfTime {
    /// In words.
    pub why: String,
    /// By this moment, in unix seconds.
    pub at: u64,
    /// Its first second, where that is to come, or its last, where that is over.
    pub bound: Bound,
}

/// The end of a certificate's time, or its beginning; in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its first second.
    From(u64),
    /// Its last.
    Until(u64),
}

impl Bound {
    fn holds_at(self, unix: i64) -> bool {
        let signed = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX);
        match self {
            Bound::From(from) => unix >= signed(from),
            Bound::Until(until) => unix <= signed(until),
        }
    }
}

/// Different certificates that were met last, by how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Those of checks that passed.
    pub good: usize,
    /// Those that are not valid in time.
    pub bad: usize,
}

/// What else is known of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// Since the start of the program; never goes back.
    pub now: Duration,
    /// When the check passed last in this run, the machine's clock was so many seconds ahead of that.
    pub passed: Option<i64>,
    /// Unix seconds of something that has been: the last that was kept, or when the program was written.
    pub past: u64,
    /// Unix seconds of the first second of the youngest certificate that has passed.
    pub issued: u64,
}

/// Why the clock is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is behind by so many seconds at least.
    Behind(u64),
    /// It was set by so many seconds since the check passed.
    Set(i64),
    /// Most certificates are not valid by it.
    Crowd(Crowd),
    /// Nothing speaks for it yet.
    Unproven,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Behind(by) => write!(f, "this machine's clock is {} behind at least", rough_span(*by)),
            Why::Set(by) => {
                let way = if *by > 0 { "ahead" } else { "back" };
                write!(f, "this machine's clock was set {} {way} since this check passed last", rough_span(by.unsigned_abs()))
            }
            Why::Crowd(Crowd { good, bad }) => {
                write!(f, "this machine's clock may be wrong: by it, {bad} of {} certificates are not valid in time", good + bad)
            }
            Why::Unproven => f.write_str("nothing speaks for this machine's clock yet"),
        }
    }
}

/// Whether that a certificate is not valid in time is for this machine's clock. `crowd` is asked only when it matters.
pub fn doubt(found: &OutOfTime, around: &Around, crowd: impl FnOnce() -> Crowd) -> Option<Why> {
    let at = i64::try_from(found.at).unwrap_or(i64::MAX);
    let behind = around.past.saturating_sub(found.at);
    if matches!(found.bound, Bound::From(_)) && behind > SAME_S.unsigned_abs() {
        return Some(Why::Behind(behind));
    }
    if let Some(ahead) = around.passed {
        let by_the_old = ahead + i64::try_from(around.now.as_secs()).unwrap_or(i64::MAX);
        let by = at - by_the_old;
        let is_proven = i64::try_from(around.issued).is_ok_and(|issued| issued > by_the_old + SAME_S);
        return (by.abs() > SAME_S && found.bound.holds_at(by_the_old) && !is_proven).then_some(Why::Set(by));
    }
    if around.now < SETTLING {
        return Some(Why::Unproven);
    }
    let crowd = crowd();
    (crowd.bad >= LEAST_CERTIFICATES && crowd.bad > crowd.good).then_some(Why::Crowd(crowd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const NOW: u64 = 2_000_000_000;
    const RUN: Duration = Duration::from_secs(1_000);

    fn found(at: u64, bound: Bound) -> OutOfTime {
        OutOfTime { why: String::new(), at, bound }
    }

    /// Of a check that passed when the clock was right.
    fn passed() -> Around {
        Around { now: RUN, passed: Some((NOW - RUN.as_secs()) as i64), past: WRITTEN_UNIX, issued: NOW - 30 * DAY }
    }

    fn no_crowd() -> Crowd {
        panic!("nobody needs to know")
    }

    #[test]
    fn a_clock_that_was_set_is_doubted_where_the_old_one_says_otherwise() {
        let (until, from) = (Bound::Until(NOW + 20 * DAY), Bound::From(NOW - 70 * DAY));
        for (what, at, bound, expected) in [
            ("years ahead", NOW + 1_826 * DAY, until, Some("this machine's clock was set 1826 days ahead since this check passed last")),
            ("just long enough", NOW + 20 * DAY + 1, until, Some("this machine's clock was set 20 days ahead since this check passed last")),
            ("back before it was issued", NOW - 100 * DAY, from, Some("this machine's clock was set 100 days back since this check passed last")),
            ("it has ended", NOW, Bound::Until(NOW - 1), None),
            ("it has ended, and the clock was set", NOW + 300 * DAY, Bound::Until(NOW - 1), None),
            ("from the future", NOW, Bound::From(NOW + DAY), None),
            ("clocks are steered", NOW + 60, Bound::Until(NOW + 30), None),
            (
                "but not so far",
                NOW + 61,
                Bound::Until(NOW + 30),
                Some("this machine's clock was set less than an hour ahead since this check passed last"),
            ),
        ] {
            let why = doubt(&found(at, bound), &passed(), no_crowd).map(|why| why.to_string());
            assert_eq!(why.as_deref(), expected, "{what}");
        }
    }

    #[test]
    fn a_certificate_that_the_old_clock_cannot_know_speaks_for_the_new_one() {
        let two_weeks = NOW + 14 * DAY;
        let ended = found(two_weeks, Bound::Until(NOW + 7 * DAY));
        assert!(doubt(&ended, &passed(), no_crowd).is_some());
        let around = Around { issued: NOW + 10 * DAY, ..passed() };
        assert_eq!(doubt(&ended, &around, no_crowd), None, "the machine slept for two weeks, and others have renewed meanwhile");
    }

    #[test]
    fn a_clock_before_what_has_been_is_behind_whoever_passed() {
        let early = |at: u64| found(at, Bound::From(NOW));
        let around = |past: u64| Around { now: RUN, past, ..Around::default() };
        let said = doubt(&early(946_684_800), &around(WRITTEN_UNIX), no_crowd).map(|why| why.to_string());
        assert_eq!(said.as_deref(), Some("this machine's clock is 9801 days behind at least"));
        assert!(doubt(&early(NOW - 120), &around(NOW), no_crowd).is_some());
        assert_eq!(doubt(&early(NOW - 30), &around(NOW), Crowd::default), None, "a second or two are nothing");
        // What is over by a clock that is behind is over.
        assert_eq!(doubt(&found(946_684_800, Bound::Until(946_684_000)), &around(NOW), Crowd::default), None);
    }

    #[test]
    fn where_nothing_has_passed_numbers_decide_after_a_moment() {
        let expired = found(NOW, Bound::Until(NOW - 500 * DAY));
        let around = |secs: u64| Around { now: Duration::from_secs(secs), past: WRITTEN_UNIX, ..Around::default() };
        assert_eq!(doubt(&expired, &around(4), no_crowd), Some(Why::Unproven));
        for (good, bad, is_doubted) in [(0, 1, false), (0, 2, true), (1, 2, true), (2, 2, false), (9, 1, false), (3, 4, true)] {
            let crowd = Crowd { good, bad };
            assert_eq!(doubt(&expired, &around(5), || crowd), is_doubted.then_some(Why::Crowd(crowd)), "{crowd:?}");
        }
    }
}
