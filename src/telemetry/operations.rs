//! What happens beside queries, and how long it took: checks, loads, publications, requests to the admin listener. None of it happens per DNS query, so the
//! counters are shared and counted with ordinary atomic addition.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::health::{Failure, Outcome};
use crate::policy::model::{MonitorKind, MonitorWord};

/// Upper bounds of the buckets in microseconds, beside the one without: from a check on the same switch to one that times out, three or four to a decade.
pub const BOUNDS_US: [u64; 14] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// Kinds of monitors, as labels name them.
pub const CHECK_KINDS: &[&str] = MonitorWord::WORDS.split_at(MonitorWord::ASKING).0;

/// How checks end, as labels name it: passed, or by the kind of [`Failure`].
pub const CHECK_OUTCOMES: [&str; 10] = ["passed", "connect", "timeout", "tls", "status", "body", "protocol", "internal", "answer", "no_verdict"];

/// Requests to the admin listener, as labels name them.
pub const REQUEST_KINDS: [&str; 2] = ["read", "change"];

/// One histogram.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bound, each without those below; the last is beyond all.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// How many took at most as long as each bound, then how many there were at all; and their sum in seconds.
    pub fn read(&self) -> ([u64; BOUNDS_US.len() + 1], f64) {
        let mut sums = [0; BOUNDS_US.len() + 1];
        let mut sum = 0;
        for (to, bucket) in sums.iter_mut().zip(&self.buckets) {
            sum += bucket.load(Relaxed);
            *to = sum;
        }
        (sums, self.sum_us.load(Relaxed) as f64 / 1e6)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Operations {
    /// By kind and outcome, in the order of [`CHECK_KINDS`] and [`CHECK_OUTCOMES`].
    pub checks: [[Histogram; CHECK_OUTCOMES.len()]; MonitorWord::ASKING],
    /// How much later checks began than they were due.
    pub late_checks: Histogram,
    /// Making a world and publishing it.
    pub publications: Histogram,
    /// From a request to its reply, in the order of [`REQUEST_KINDS`].
    pub requests: [Histogram; REQUEST_KINDS.len()],
    /// Replies of the admin listener by the first digit of their status, 2 to 5; the rest is not used.
    pub admin_replies: [AtomicU64; 6],
    /// Requests to it without the right token, connections without the right certificate.
    pub admin_unauthorised: AtomicU64,
    /// Times that the state could not be kept.
    pub store_errors: AtomicU64,
    /// Changes that went past a safety rule.
    pub past_safety: AtomicU64,
    /// Plans and ramps that a safety rule held.
    pub held_by_safety: AtomicU64,
    /// Reports that were taken, and those that name nothing.
    pub reports: [AtomicU64; 2],
    /// Unix time of the last load without errors; 0 when there was none.
    pub loaded_unix: AtomicU64,
    /// The last load had no errors.
    pub loaded: AtomicBool,
}

impl Operations {
    /// Notes a load, at a start or later.
    pub fn loaded(&self, without_errors: bool, now_unix: u64) {
        self.loaded.store(without_errors, Relaxed);
        if without_errors {
            self.loaded_unix.store(now_unix, Relaxed);
        }
    }

    /// Counts a time that the state could not be kept.
    pub fn store_failed(&self) {
        self.store_errors.fetch_add(1, Relaxed);
    }

    /// Counts a change that went past a safety rule.
    pub fn safety_passed(&self) {
        self.past_safety.fetch_add(1, Relaxed);
    }

    /// Counts a plan that a safety rule does not let begin, or a ramp that it does not let come to its end.
    pub fn held_back(&self) {
        self.held_by_safety.fetch_add(1, Relaxed);
    }

    /// Counts reports, those that were taken and those that name nothing.
    pub fn reported(&self, taken: usize, ignored: usize) {
        self.reports[0].fetch_add(taken as u64, Relaxed);
        self.reports[1].fetch_add(ignored as u64, Relaxed);
    }

    /// Counts the beginning of a check, so much later than it was due.
    pub fn check_began(&self, late: Duration) {
        self.late_checks.observe(late);
    }

    /// Counts a check.
    pub fn checked(&self, kind: &MonitorKind, outcome: &Outcome, took: Duration) {
        // Where nothing is asked there is nothing to time.
        let Some(of_kind) = kind.word().and_then(|word| self.checks.get(word as usize)) else { return };
        let outcome = match outcome {
            Ok(()) => 0,
            Err(Failure::Connect(_) | Failure::Resolve(_)) => 1,
            Err(Failure::Timeout(_)) => 2,
            Err(Failure::Tls(_) | Failure::OutOfTime(_)) => 3,
            Err(Failure::Status(_)) => 4,
            Err(Failure::Body) => 5,
            Err(Failure::Protocol(_)) => 6,
            Err(Failure::Internal(_) | Failure::NoNetwork(_) | Failure::Clock(_)) => 7,
            Err(Failure::Answer(_) | Failure::Draining | Failure::Reported(_)) => 8,
            Err(Failure::NoVerdict(_)) => 9,
        };
        of_kind[outcome].observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{PushCheck, TcpCheck};

    #[test]
    fn a_bucket_holds_what_took_at_most_its_bound() {
        let histogram = Histogram::default();
        for us in [0, 500, 501, 1_000, 10_000_000, 10_000_001, 3_600_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let (counts, sum) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[12], counts[13], counts[14]), (2, 4, 4, 5, 7));
        assert!((sum - 3_620.002_002).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn checks_are_told_apart_by_kind_and_outcome() {
        let operations = Operations::default();
        let failures = [
            Failure::Connect(String::new()),
            Failure::Timeout("tls"),
            Failure::Tls(String::new()),
            Failure::Status(500),
            Failure::Body,
            Failure::Protocol(String::new()),
            Failure::Internal(String::new()),
            Failure::Answer(String::new()),
            Failure::NoVerdict(String::new()),
        ];
        operations.checked(&MonitorKind::Tcp(TcpCheck::default()), &Ok(()), Duration::ZERO);
        for failure in failures {
            operations.checked(&MonitorKind::Tcp(TcpCheck::default()), &Err(failure), Duration::ZERO);
        }
        operations.checked(&MonitorKind::Push(PushCheck { stale: Duration::ZERO, forget: false }), &Ok(()), Duration::ZERO);
        for (kind, of_kind) in CHECK_KINDS.iter().zip(&operations.checks) {
            let expected = u64::from(*kind == "tcp");
            assert!(of_kind.iter().all(|histogram| histogram.read().0[14] == expected), "{kind}");
        }
    }
}
