//! How many requests each caller may make: a bucket that fills at a steady rate, one per address and token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers that are counted at once. When there are more, those that have been quiet are forgotten, then all.
const MAX_CALLERS: usize = 4096;
/// Requests with a wrong token that an address may make in one go, and then per second: more than a script that was given an old one needs.
const STRANGER: Rate = Rate { per_second: 10.0, burst: 100.0 };
/// Requests without a valid token that are kept in the audit log in one go, and then per second, from all addresses together: the rest is counted.
const KEPT: Rate = Rate { per_second: 1.0, burst: 50.0 };

/// Reports from all callers together, per second and in one go: the single writer takes one in some microseconds, and has more to do.
const REPORTS: Rate = Rate { per_second: 10_000.0, burst: 20_000.0 };

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    per_second: f64,
    burst: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Known(Option<IpAddr>, String),
    Stranger(Option<IpAddr>),
    Kept,
    Reports,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    rate: Rate,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate.per_second;
        self.left = (self.left + gained).min(self.rate.burst);
        self.at = now;
    }
}

/// All buckets.
#[derive(Debug)]
pub(super) struct Limiter {
    known: Option<Rate>,
    buckets: Mutex<HashMap<Caller, Bucket>>,
}

impl Limiter {
    /// At most `per_second` requests of each caller, twice as many in one go; 0 for as many as they like.
    pub(super) fn new(per_second: u32) -> Limiter {
        let rate = Rate { per_second: f64::from(per_second), burst: f64::from(per_second) * 2.0 };
        Limiter { known: (per_second > 0).then_some(rate), buckets: Mutex::default() }
    }

    /// One request with this token. The error is how long to wait.
    pub(super) fn known(&self, from: Option<IpAddr>, token: &str, now: Instant) -> Result<(), Duration> {
        match self.known {
            Some(rate) => self.take(Caller::Known(from.map(network), token.to_owned()), rate, 1.0, now),
            None => Ok(()),
        }
    }

    /// One request without a valid token.
    pub(super) fn stranger(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        self.take(Caller::Stranger(from.map(network)), STRANGER, 1.0, now)
    }

    /// Whether one more of a stranger's requests may be kept.
    pub(super) fn may_keep(&self, now: Instant) -> bool {
        self.take(Caller::Kept, KEPT, 1.0, now).is_ok()
    }

    /// So many reports in one call.
    pub(super) fn reports(&self, count: usize, now: Instant) -> Result<(), Duration> {
        self.take(Caller::Reports, REPORTS, count as f64, now)
    }

    fn take(&self, caller: Caller, rate: Rate, count: f64, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CALLERS && !buckets.contains_key(&caller) {
            buckets.retain(|_, bucket| {
                bucket.fill(now);
                bucket.left < bucket.rate.burst
            });
            if buckets.len() >= MAX_CALLERS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(caller).or_insert(Bucket { left: rate.burst, at: now, rate });
        bucket.fill(now);
        if bucket.left >= count {
            bucket.left -= count;
            return Ok(());
        }
        Err(Duration::from_secs_f64((count - bucket.left) / rate.per_second))
    }
}

/// An IPv6 host has a whole /64 to choose from.
pub(super) fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        addr @ IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_have_a_burst_and_then_a_rate_of_their_own() {
        let (limiter, start) = (Limiter::new(2), Instant::now());
        let ada = |ms: u64| limiter.known(None, "ada", start + Duration::from_millis(ms));
        for _ in 0..4 {
            assert_eq!(ada(0), Ok(()));
        }
        assert_eq!(ada(0), Err(Duration::from_millis(500)));
        assert_eq!(limiter.known(None, "bob", start), Ok(()));
        assert_eq!((ada(499).is_err(), ada(501), ada(502).is_err()), (true, Ok(()), true));
        assert!((0..10_000).all(|_| Limiter::new(0).known(None, "ada", start).is_ok()));
    }

    #[test]
    fn addresses_of_one_network_count_as_one_and_the_table_has_an_end() {
        let (limiter, start) = (Limiter::new(1), Instant::now());
        let from = |text: &str| Some(text.parse().expect(text));
        let refused = (0..200).filter(|host| limiter.stranger(from(&format!("2001:db8::{host:x}")), start).is_err()).count();
        assert_eq!(refused, 100);
        assert!(limiter.stranger(from("2001:db8:0:1::1"), start).is_ok());
        for number in 0..3 * MAX_CALLERS as u32 {
            let _ = limiter.stranger(Some(std::net::Ipv4Addr::from(number).into()), start);
        }
        assert!(limiter.buckets.lock().expect("buckets").len() <= MAX_CALLERS);
    }
}
