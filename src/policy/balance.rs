//! How reported load moves shares of traffic, slowly enough for DNS. Pure: figures in, shares out.
//!
//! An answer acts for its TTL, so what shares do shows in loads as a mean over the last TTL, and is seen later still. A controller that takes what it
//! sees for what it did corrects the same error again and again, and swings. One that corrects it once in `TTL + 2 · delay` does not: the loop then has
//! 62° of phase margin whatever TTL and delay are (algorithms §4.2). [`Pace::gain`] is that, and `cargo test --lib policy::balance` shows it, with
//! resolvers that keep answers ten times too long.
//!
//! ```text
//! law                     reads                  moves                                                 between
//! target (integral)       load / capacity        the share that is kept, until load meets the target   0.3 and 1
//! watermarks              load / capacity        1 up to low, 0 from high on, a line between           0 and 1
//! trim (integral)         load / capacity        a factor on a weight, until load meets the target     0.3 and 1.2
//! least loaded            load / capacity        factors on weights, until all are loaded alike        0.05 and 1
//! least response time     response times         factors on weights, until all take equally long       0.05 and 1
//! ```

use std::time::Duration;

/// Between two steps.
pub const STEP: Duration = Duration::from_secs(10);
/// Smaller shifts are not worth a new answer.
pub const MIN_SHIFT: f64 = 0.01;
/// The largest shift of a step, of what there is without it: whoever takes over needs time to warm up.
pub const MAX_SHIFT: f64 = 0.1;
/// What reports leave of a share that is held at a target: a reporter that is wrong takes 70 % at most.
pub const LEAST_KEPT: f64 = 0.3;
/// The most that a trim adds to a weight.
pub const MOST_TRIM: f64 = 1.2;
/// What is left of the weight of the worst of several: little, but enough to see that it is no longer the worst.
pub const LEAST_BALANCED: f64 = 0.05;
/// Response times rise faster than load does, nine times as fast at 90 % of what a queue can bear, so that they are followed more slowly.
const LATENCY_PACE: f64 = 0.25;

/// How fast a loop may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Of the answers, at most.
    pub ttl: Duration,
    /// From a load to what is done about it: half of what lies between two reports, what they are smoothed over, half a step.
    pub delay: Duration,
}

impl Pace {
    /// With reports so far apart that are smoothed over `smooth`.
    pub fn of(ttl: Duration, between_reports: Duration, smooth: Duration) -> Pace {
        Pace { ttl, delay: between_reports / 2 + smooth + STEP / 2 }
    }

    /// What of an error is corrected in a second.
    pub fn gain(&self) -> f64 {
        1.0 / (self.ttl + 2 * self.delay).as_secs_f64().max(1.0)
    }

    /// What of an error is corrected in a step.
    fn per_step(&self) -> f64 {
        (self.gain() * STEP.as_secs_f64()).min(1.0)
    }
}

/// When a pool leaves a part of its traffic to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// Until its load is so many percent of its capacity.
    Target(u8),
    /// Nothing up to `low` percent, everything from `high` percent on.
    Marks {
        /// Percent of its capacity.
        low: u8,
        /// More than `low`.
        high: u8,
    },
}

/// What to say of watermarks that are too close.
pub const NARROW: &str = "the watermarks are less than 50 points apart: through the caches of resolvers the load will swing between them; \
                          move them apart, or write { target = \"85%\" }";

impl std::fmt::Display for Shed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shed::Target(target) => write!(f, "target = \"{target}%\""),
            Shed::Marks { low, high } => write!(f, "low = \"{low}%\", high = \"{high}%\""),
        }
    }
}

impl Shed {
    /// The share to keep when it was `kept` and the load is `loaded` of the capacity.
    pub fn kept(self, kept: f64, loaded: f64, pace: &Pace) -> f64 {
        match self {
            Shed::Target(percent) => {
                let target = f64::from(percent) / 100.0;
                // Of its own traffic: the error is one of a share, not of the capacity.
                (kept * (1.0 - pace.per_step() * limited(loaded / target - 1.0))).clamp(LEAST_KEPT, 1.0)
            }
            Shed::Marks { low, high } => {
                let (low, high) = (f64::from(low) / 100.0, f64::from(high) / 100.0);
                1.0 - ((loaded - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
            }
        }
    }

    /// Watermarks that are so close that the load will swing between them if demand reaches `demand` times the capacity (algorithms §4.2).
    pub fn is_narrow(self, demand: f64) -> bool {
        match self {
            Shed::Target(_) => false,
            Shed::Marks { low, high } => f64::from(high - low) / 100.0 < 0.5 * demand.max(1.0),
        }
    }
}

/// The factor of a weight when it was `factor`, the load is `loaded` of the capacity and should be `target`.
pub fn trim(factor: f64, loaded: f64, target: f64, pace: &Pace) -> f64 {
    (factor * (1.0 - pace.per_step() * limited(loaded / target - 1.0))).clamp(LEAST_KEPT, MOST_TRIM)
}

/// What is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Load in proportion to capacity.
    Load,
    /// Response time.
    Latency,
}

/// What moves the weights of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// Files and operators alone.
    Files,
    /// Loads, until each is so many percent of its capacity.
    Trim(u8),
    /// Until all children measure alike.
    Balance(Measure),
}

impl Law {
    /// The word of the policy in the files.
    pub fn word(self) -> &'static str {
        match self {
            Law::Files | Law::Trim(_) => "weighted",
            Law::Balance(Measure::Load) => "least-loaded",
            Law::Balance(Measure::Latency) => "least-response-time",
        }
    }
}

/// One of several that are balanced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balanced {
    /// As the files and operators have it.
    pub weight: f64,
    /// Of the weight; 1 at first.
    pub factor: f64,
    /// What is measured, if that is known and of now. Who is not known stays as it is.
    pub measured: Option<f64>,
}

/// Moves the factors of several a step towards equal measures. The largest of those that are known is 1.
pub fn balance(all: &mut [Balanced], measure: Measure, pace: &Pace) {
    let known = || all.iter().filter_map(|one| Some((one.weight * one.factor, one.measured?)));
    let (shares, count) = (known().map(|(share, _)| share).sum::<f64>(), known().count());
    let mean = known().map(|(share, measured)| share * measured).sum::<f64>() / shares;
    if count < 2 || !mean.is_finite() || mean <= 0.0 {
        return;
    }
    let step = pace.per_step() * if measure == Measure::Latency { LATENCY_PACE } else { 1.0 };
    for one in all.iter_mut() {
        if let Some(measured) = one.measured {
            one.factor *= 1.0 - step * limited(measured / mean - 1.0);
        }
    }
    let largest = all.iter().filter(|one| one.measured.is_some()).map(|one| one.factor).fold(0.0, f64::max);
    for one in all.iter_mut().filter(|one| one.measured.is_some()) {
        one.factor = (one.factor / largest).max(LEAST_BALANCED);
    }
}

/// An error of more than its whole is none that a single step can tell the size of.
fn limited(error: f64) -> f64 {
    error.clamp(-1.0, 1.0)
}

/// What is published of a share that should be `wanted` and is published as `now`: nothing new for a little, not everything at once. `least` and
/// `most` are always reached.
pub fn paced(now: f64, wanted: f64, least: f64, most: f64) -> f64 {
    let is_end = wanted <= least || wanted >= most;
    if (wanted - now).abs() < MIN_SHIFT && !is_end {
        return now;
    }
    wanted.clamp(now - MAX_SHIFT, now + MAX_SHIFT).clamp(least, most)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { ttl: Duration::from_secs(50), delay: Duration::from_secs(25) };

    #[test]
    fn an_error_is_corrected_once_in_ttl_and_twice_the_delay() {
        assert_eq!(PACE.gain(), 0.01);
        let pace = Pace::of(Duration::from_secs(60), Duration::from_secs(10), Duration::from_secs(15));
        assert_eq!(pace.delay, Duration::from_secs(25));
        // A tenth of the error in a step of ten seconds.
        for (kept, loaded, expected) in
            [(1.0, 0.85, 1.0), (1.0, 1.275, 0.95), (0.5, 0.85, 0.5), (0.5, 0.425, 0.525), (1.0, 0.1, 1.0), (0.31, 9.0, 0.3)]
        {
            let found = Shed::Target(85).kept(kept, loaded, &PACE);
            assert!((found - expected).abs() < 1e-9, "{kept} {loaded}: {found}");
        }
        for (factor, loaded, expected) in [(1.0, 0.85, 1.0), (1.0, 0.0, 1.1), (1.19, 0.1, 1.2), (0.3, 5.0, 0.3)] {
            let found = trim(factor, loaded, 0.85, &PACE);
            assert!((found - expected).abs() < 1e-9, "{factor} {loaded}: {found}");
        }
    }

    #[test]
    fn watermarks_are_a_line() {
        let marks = Shed::Marks { low: 60, high: 80 };
        for (loaded, kept) in [(0.0, 1.0), (0.6, 1.0), (0.65, 0.75), (0.7, 0.5), (0.8, 0.0), (2.0, 0.0)] {
            assert!((marks.kept(0.123, loaded, &PACE) - kept).abs() < 1e-9, "{loaded}");
        }
        for (low, high, demand, narrow) in
            [(80, 90, 0.5, true), (50, 100, 1.0, false), (51, 100, 1.0, true), (50, 120, 1.5, true), (20, 100, 1.5, false)]
        {
            assert_eq!(Shed::Marks { low, high }.is_narrow(demand), narrow, "{low} {high} {demand}");
        }
        assert!(!Shed::Target(85).is_narrow(9.0));
    }

    #[test]
    fn little_is_not_published_and_much_is_published_in_parts() {
        for (now, wanted, published) in
            [(1.0, 0.995, 1.0), (1.0, 0.95, 0.95), (1.0, 0.5, 0.9), (0.5, 0.509, 0.5), (0.995, 1.0, 1.0), (0.302, 0.3, 0.3)]
        {
            assert!((paced(now, wanted, 0.3, 1.0) - published).abs() < 1e-9, "{now} {wanted}");
        }
    }

    #[test]
    fn who_is_not_known_stays_as_it_is() {
        let one = |measured| Balanced { weight: 1.0, factor: 0.5, measured };
        for (before, moved) in [
            (vec![one(None), one(Some(0.9))], false),
            (vec![one(Some(0.0)), one(Some(0.0))], false),
            (vec![one(Some(0.9)), one(Some(0.3)), one(None)], true),
        ] {
            let mut all = before.clone();
            balance(&mut all, Measure::Load, &PACE);
            assert_eq!(all != before, moved, "{all:?}");
            assert!(all.iter().zip(&before).all(|(is, was)| is.measured.is_some() || is == was));
        }
        let mut all = vec![one(Some(0.9)), one(Some(0.3))];
        balance(&mut all, Measure::Load, &PACE);
        assert!((all[0].factor - 0.95 / 1.05).abs() < 1e-9 && all[1].factor == 1.0, "{all:?}");
        for _ in 0..1000 {
            balance(&mut all, Measure::Latency, &PACE);
        }
        assert_eq!((all[0].factor, all[1].factor), (LEAST_BALANCED, 1.0));
    }
}
