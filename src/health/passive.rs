//! What callers, agents and load balancers say of an endpoint, in place of what our own checks see. Pure: reports and times in, shares out.
//!
//! A monitor may call healthy what its callers suffer from ("gray failure", Huang et al., HotOS 2017): those who call know better than those who ask.
//! Successes and failures are counted with a weight that falls as they age, by a factor of e in each window (an exponentially weighted moving average),
//! so that a count needs two numbers however many reports there are.

use std::time::Duration;

/// How long counts weigh where nothing else is said.
pub const WINDOW: Duration = Duration::from_secs(300);

/// What an agent or a balancer says of the thing that it reports of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It takes traffic.
    Up,
    /// It wants no new traffic; nothing is wrong.
    Draining,
    /// It serves nobody.
    Down,
}

impl Said {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        ["up", "draining", "down"][self as usize]
    }
}

/// Successes and failures, those of long ago weighing little.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    good: f64,
    bad: f64,
    at: Duration,
}

/// What a [`Share`] comes to at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// Successes among all, 0 to 1.
    pub good: f64,
    /// How many it is made of, by what they weigh now.
    pub samples: f64,
}

impl Share {
    /// Takes so many more.
    pub fn add(&mut self, good: u64, bad: u64, window: Duration, now: Duration) {
        let left = self.left(window, now);
        *self = Share { good: self.good * left + good as f64, bad: self.bad * left + bad as f64, at: now.max(self.at) };
    }

    /// Successes among all, if there are any.
    pub fn now(&self, window: Duration, now: Duration) -> Option<Shared> {
        let all = self.good + self.bad;
        (all > 0.0).then(|| Shared { good: self.good / all, samples: all * self.left(window, now) })
    }

    /// What is left of the weight of what is counted.
    fn left(&self, window: Duration, now: Duration) -> f64 {
        (-now.saturating_sub(self.at).as_secs_f64() / window.as_secs_f64().max(1.0)).exp()
    }
}

/// A mean over time: it has covered 63 % of the way to a new value after `tau`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smooth {
    value: Option<f64>,
    at: Duration,
}

impl Smooth {
    /// Takes a value.
    pub fn add(&mut self, value: f64, tau: Duration, now: Duration) {
        let kept = (-now.saturating_sub(self.at).as_secs_f64() / tau.as_secs_f64().max(0.001)).exp();
        self.value = Some(self.value.map_or(value, |before| value + (before - value) * kept));
        self.at = now.max(self.at);
    }

    /// The mean, once there is one.
    pub fn value(&self) -> Option<f64> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn counts_lose_weight_as_they_age() {
        let mut share = Share::default();
        assert_eq!(share.now(WINDOW, secs(5)), None);
        share.add(90, 10, WINDOW, secs(10));
        assert_eq!(share.now(WINDOW, secs(10)), Some(Shared { good: 0.9, samples: 100.0 }));
        let later = share.now(WINDOW, secs(310)).expect("a share");
        assert!((later.good - 0.9).abs() < 1e-9 && (later.samples - 100.0 / std::f64::consts::E).abs() < 1e-6, "{later:?}");
        // What is new weighs more than what is old, the more so the shorter the window.
        for window in [secs(60), WINDOW, secs(3600)] {
            let mut share = Share::default();
            share.add(100, 0, window, secs(0));
            share.add(0, 100, window, secs(164));
            let left = (-164.0 / window.as_secs_f64()).exp();
            let found = share.now(window, secs(900)).expect("a share").good;
            assert!((found - left / (1.0 + left)).abs() < 1e-9, "{window:?}: {found}");
        }
    }

    #[test]
    fn a_steady_failure_shows_within_the_window() {
        // A thousand good calls a second for long, then half of them fail: below 90 % after window · ln(0.5 / 0.4) = 67 s.
        let mut share = Share::default();
        (0..1800).for_each(|at| share.add(1000, 0, WINDOW, secs(at)));
        let at = (1800..).find(|at| {
            share.add(500, 500, WINDOW, secs(*at));
            share.now(WINDOW, secs(*at)).expect("a share").good < 0.9
        });
        assert!(at.is_some_and(|at| (1800 + 60..1800 + 75).contains(&at)), "{at:?}");
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_changes_nothing() {
        let mut share = Share::default();
        share.add(1, 0, WINDOW, secs(100));
        share.add(1, 0, WINDOW, secs(50));
        assert_eq!(share.now(WINDOW, secs(100)), Some(Shared { good: 1.0, samples: 2.0 }));
        let mut smooth = Smooth::default();
        assert_eq!(smooth.value(), None);
        smooth.add(10.0, secs(15), secs(1));
        smooth.add(20.0, secs(15), secs(1));
        assert_eq!(smooth.value(), Some(10.0));
        smooth.add(20.0, secs(15), secs(16));
        assert!(smooth.value().is_some_and(|value| (value - 16.32).abs() < 0.01), "{smooth:?}");
    }
}
