//! What is wrong with an endpoint although its checks pass: a certificate that is about to end, answers much slower than usual. Pure, and small: this is
//! kept for every check there is.
//!
//! Slowness is judged against the check's own past. `p50` is the median of the last [`WINDOW`] checks that passed, the baseline a median of hours:
//!
//! ```text
//!   slow from      p50 > above  and  p50 > factor · baseline      the baseline being of WARM_UP checks at least
//!   no more from   p50 ≤ RELIEF · the greater of the two
//! ```
//! The baseline is a number that each check moves a little, up or down by where it stands (the stochastic approximation of a median, in powers of two): by
//! `1/n` octaves at the n-th, and by `interval/over` once that is more. So it doubles or halves within `over` at most: what stays slow for long becomes
//! the usual.

use std::sync::Arc;
use std::time::Duration;

/// Checks whose median counts: one or two slow ones are nothing.
pub const WINDOW: usize = 5;

/// Before so many passed checks nobody knows what is usual: five minutes at the default pace.
pub const WARM_UP: u16 = 30;

/// Slow is over below this part of the limit, so that it does not come and go at it.
const RELIEF: f32 = 0.8;

/// A certificate is warned of in the last sixth of its time, unless the monitor says when: those of ACME are renewed in the last third.
const LAST_PART: u64 = 6;

/// Nor, unless the monitor says so, earlier than this.
const USUAL_WARNING_S: u64 = 14 * 86_400;

/// What a monitor wants to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    /// Certificates that are about to end.
    pub certificate: CertificateWarning,
    /// Slowness, unless it is not looked at.
    pub slow: Option<Slow>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { certificate: CertificateWarning::Usual, slow: Some(Slow::default()) }
    }
}

/// When a certificate that is about to end is a concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CertificateWarning {
    /// Never.
    Never,
    /// In the last sixth of its time, but at most 14 days before its end.
    #[default]
    Usual,
    /// This many seconds before its end.
    Before(u32),
}

/// When an endpoint is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slow {
    /// So many times its baseline.
    pub factor: u8,
    /// And more than so many milliseconds.
    pub above_ms: u16,
    /// The time in which the baseline doubles or halves at most, in seconds.
    pub over_s: u32,
}

impl Default for Slow {
    fn default() -> Slow {
        Slow { factor: 3, above_ms: 500, over_s: 6 * 3600 }
    }
}

/// The time of a certificate, in unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub from: u64,
    /// Its last second.
    pub until: u64,
    /// What it is called, where it is not the endpoint's own but one that leads from it to its authority.
    pub name: Option<Arc<str>>,
}

impl Validity {
    /// The moment from which its end is a concern.
    fn warned_from(&self, warning: CertificateWarning) -> Option<u64> {
        let before = match warning {
            CertificateWarning::Never => return None,
            CertificateWarning::Usual => (self.until.saturating_sub(self.from) / LAST_PART).min(USUAL_WARNING_S),
            CertificateWarning::Before(seconds) => seconds.into(),
        };
        Some(self.until.saturating_sub(before))
    }
}

/// One thing that is wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The certificate ends in so many seconds; with its name where it is not the endpoint's own.
    Certificate(u64, Option<Arc<str>>),
    /// So many percent of the calls succeed that are reported.
    Poor(u8),
    /// The last checks took so many milliseconds, where so many are usual.
    Slow {
        /// Their median.
        ms: u16,
        /// The baseline.
        usual_ms: u16,
    },
}

impl std::fmt::Display for Concern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Concern::Certificate(left, None) => write!(f, "certificate expires in {}", rough_span(*left)),
            Concern::Certificate(left, Some(name)) => write!(f, "certificate \"{name}\" of the chain expires in {}", rough_span(*left)),
            Concern::Poor(percent) => write!(f, "{percent} % of its calls succeed"),
            Concern::Slow { ms, usual_ms } => write!(f, "slow: {ms} ms, usually {usual_ms} ms"),
        }
    }
}

/// Days, or hours where it is less than two days: enough to see whether it was forgotten or the clock is wrong.
pub fn rough_span(seconds: u64) -> String {
    match seconds / 3600 {
        hours if hours >= 48 => format!("{} days", hours / 24),
        0 => "less than an hour".to_owned(),
        1 => "1 hour".to_owned(),
        hours => format!("{hours} hours"),
    }
}

/// How long checks take: 20 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pace {
    /// Milliseconds of the last that passed, newest last.
    recent: [u16; WINDOW],
    /// How many of them there are.
    filled: u8,
    is_slow: bool,
    /// Checks that the baseline is made of, as far as they count.
    learned: u16,
    /// The binary logarithm of the baseline in milliseconds.
    baseline: f32,
}

impl Pace {
    fn median(&self) -> u16 {
        let mut sorted = self.recent;
        sorted.sort_unstable();
        sorted[WINDOW / 2]
    }

    fn usual_ms(&self) -> f32 {
        self.baseline.exp2()
    }

    fn take(&mut self, slow: Slow, interval: Duration, took: Duration) {
        let ms = u16::try_from(took.as_millis()).unwrap_or(u16::MAX).max(1);
        self.recent.rotate_left(1);
        self.recent[WINDOW - 1] = ms;
        self.filled = (self.filled + 1).min(WINDOW as u8);
        self.learned = self.learned.saturating_add(1);
        if usize::from(self.learned) <= WINDOW {
            // It begins with the median of the first few; before them nobody looks at it.
            self.baseline = f32::from(self.median().max(1)).log2();
        } else {
            let step = (1.0 / f32::from(self.learned)).max((interval.as_secs_f32() / slow.over_s as f32).min(0.5));
            let off = f32::from(ms).log2() - self.baseline;
            self.baseline += off.clamp(-step, step);
        }
        self.judge(slow);
    }

    fn judge(&mut self, slow: Slow) {
        let limit = (self.usual_ms() * f32::from(slow.factor)).max(f32::from(slow.above_ms));
        let median = f32::from(self.median());
        let is_full = usize::from(self.filled) == WINDOW;
        self.is_slow = is_full && self.learned >= WARM_UP && median > if self.is_slow { limit * RELIEF } else { limit };
    }
}

/// What is known of one check beside its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Concerns {
    pace: Pace,
    /// Unix seconds of the certificate's end, 0 where none is known; until 2106.
    certificate_ends: u32,
    /// Its name, where it is not the endpoint's own.
    certificate_name: Option<Arc<str>>,
    /// That is soon.
    ends_soon: bool,
    /// So many percent of the calls succeed that are reported, and that is poor.
    poor: Option<u8>,
}

impl Concerns {
    /// Takes a check that passed, every `interval` one; with the certificate's time where there was one.
    pub fn passed(&mut self, watch: &Watch, interval: Duration, took: Duration, certificate: Option<&Validity>, now_unix: u64) {
        match watch.slow {
            Some(slow) => self.pace.take(slow, interval, took),
            None => self.pace = Pace::default(),
        }
        self.ends_soon = certificate.and_then(|validity| validity.warned_from(watch.certificate)).is_some_and(|from| now_unix >= from);
        match certificate {
            Some(certificate) => self.shown(certificate),
            None => (self.certificate_ends, self.certificate_name) = (0, None),
        }
    }

    /// Takes the time of a certificate that was shown by one that did not pass.
    pub fn shown(&mut self, certificate: &Validity) {
        self.certificate_name = certificate.name.clone();
        self.certificate_ends = u32::try_from(certificate.until).unwrap_or(u32::MAX);
    }

    /// It is down: what it was like before tells nothing of when it comes back, but for what is usual.
    pub fn fell(&mut self) {
        (self.pace.filled, self.pace.is_slow, self.ends_soon, self.poor) = (0, false, false, None);
    }

    /// Takes what is reported of calls: so many percent succeed where that is poor.
    pub fn counted(&mut self, poor: Option<u8>) {
        self.poor = poor;
    }

    /// Something is wrong.
    pub fn any(&self) -> bool {
        self.ends_soon || self.is_burdened()
    }

    /// Something is wrong that less traffic may mend: a certificate grows no younger by it.
    pub fn is_burdened(&self) -> bool {
        self.pace.is_slow || self.poor.is_some()
    }

    /// What is wrong.
    pub fn all(&self, now_unix: u64) -> impl Iterator<Item = Concern> {
        let pace = self.pace;
        let slow = pace.is_slow.then(|| Concern::Slow { ms: pace.median(), usual_ms: pace.usual_ms().round() as u16 });
        let certificate = self.ends_soon.then(|| (u64::from(self.certificate_ends).saturating_sub(now_unix), self.certificate_name.clone()));
        let certificate = certificate.map(|(left, name)| Concern::Certificate(left, name));
        slow.into_iter().chain(certificate).chain(self.poor.map(Concern::Poor))
    }

    /// The same in one line; nothing when nothing is wrong.
    pub fn words(&self, now_unix: u64) -> Option<String> {
        let words: Vec<String> = self.all(now_unix).map(|concern| concern.to_string()).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Unix seconds of the end of the certificate that the last handshake met, whatever came of it.
    pub fn certificate_ends(&self) -> Option<u64> {
        (self.certificate_ends > 0).then(|| self.certificate_ends.into())
    }

    /// Milliseconds that checks usually take, once that is known.
    pub fn usual_ms(&self) -> Option<u64> {
        (self.pace.learned >= WARM_UP).then(|| self.pace.usual_ms().round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const DAY: u64 = 86_400;
    const NOW: u64 = 1_800_000_000;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Feeds so many checks that take so long; how many of them left it slow.
    fn feed(concerns: &mut Concerns, watch: &Watch, count: usize, took: u64) -> usize {
        let passed = |_: &usize| {
            concerns.passed(watch, INTERVAL, ms(took), None, NOW);
            concerns.is_burdened()
        };
        (0..count).filter(passed).count()
    }

    fn settled(usual: u64) -> Concerns {
        let mut concerns = Concerns::default();
        assert_eq!(feed(&mut concerns, &Watch::default(), 3_000, usual), 0);
        concerns
    }

    #[test]
    fn slow_is_several_times_the_usual_and_above_a_floor() {
        // Usual, then so long: is it slow after five of them?
        for (usual, then, slow) in
            [(50, 400, false), (50, 501, true), (200, 590, false), (200, 620, true), (1_000, 2_900, false), (1_000, 3_100, true)]
        {
            let mut concerns = settled(usual);
            feed(&mut concerns, &Watch::default(), WINDOW, then);
            assert_eq!((concerns.any(), concerns.is_burdened()), (slow, slow), "{usual} then {then}");
        }
        let mut concerns = settled(100);
        feed(&mut concerns, &Watch::default(), WINDOW, 812);
        assert_eq!(concerns.words(NOW).as_deref(), Some("slow: 812 ms, usually 100 ms"));
    }

    #[test]
    fn two_slow_checks_of_five_are_nothing_and_three_are() {
        let watch = Watch::default();
        let mut concerns = settled(50);
        assert_eq!(feed(&mut concerns, &watch, 2, 2_000), 0);
        assert_eq!(feed(&mut concerns, &watch, 3, 50), 0);
        assert_eq!(feed(&mut concerns, &watch, 3, 2_000), 1);
        // And back by three good ones.
        assert_eq!(feed(&mut concerns, &watch, 3, 50), 2);
        // At the limit it does not come and go: 450 ms is more than four fifths of 500.
        feed(&mut concerns, &watch, 5, 600);
        assert_eq!(feed(&mut concerns, &watch, 20, 450), 20);
        feed(&mut concerns, &watch, 5, 390);
        assert!(!concerns.any());
    }

    #[test]
    fn nobody_is_slow_before_it_is_known_what_is_usual() {
        let mut concerns = Concerns::default();
        feed(&mut concerns, &Watch::default(), usize::from(WARM_UP) - WINDOW - 1, 20);
        assert_eq!((feed(&mut concerns, &Watch::default(), WINDOW, 3_000), concerns.usual_ms()), (0, None));
        // A slow start is forgotten.
        let mut concerns = Concerns::default();
        feed(&mut concerns, &Watch::default(), 5, 2_000);
        feed(&mut concerns, &Watch::default(), 300, 50);
        assert!(concerns.usual_ms().is_some_and(|usual| usual < 150), "{:?}", concerns.usual_ms());
    }

    #[test]
    fn what_stays_slow_becomes_the_usual_after_hours() {
        let hours = |count: usize| count * 360;
        let watch = Watch::default();
        let mut concerns = settled(250);
        // Four times as slow: log2(4 / 3) octaves, and a bit for relief, at one octave in six hours.
        assert_eq!(feed(&mut concerns, &watch, hours(2), 1_000), hours(2) - 2);
        feed(&mut concerns, &watch, hours(4), 1_000);
        assert!(!concerns.any(), "{:?}", concerns.usual_ms());
    }

    #[test]
    fn a_fall_forgets_the_last_checks_but_not_what_is_usual() {
        let mut concerns = settled(50);
        feed(&mut concerns, &Watch::default(), 5, 2_000);
        concerns.fell();
        assert_eq!((concerns.any(), concerns.usual_ms()), (false, Some(50)));
        assert_eq!(feed(&mut concerns, &Watch::default(), 5, 2_000), 1, "five of its own");
        assert_eq!(feed(&mut concerns, &Watch { slow: None, ..Watch::default() }, 1, 2_000), 0, "nobody looks any more");
    }

    #[test]
    fn certificates_are_warned_of_before_their_end() {
        use CertificateWarning::{Before, Never, Usual};
        // Lifetime and what is left in hours, the warning, the words.
        for (life, left, warning, words) in [
            (90 * 24, 15 * 24, Usual, None),
            (90 * 24, 14 * 24, Usual, Some("certificate expires in 14 days")),
            (398 * 24, 20 * 24, Usual, None),
            (6 * 24, 25, Usual, None),
            (6 * 24, 24, Usual, Some("certificate expires in 24 hours")),
            (90 * 24, 20 * 24, Before(30 * DAY as u32), Some("certificate expires in 20 days")),
            (90 * 24, 49, Before(2 * DAY as u32), None),
            (90 * 24, 1, Before(2 * DAY as u32), Some("certificate expires in 1 hour")),
            (90 * 24, 0, Never, None),
        ] {
            let until = NOW + left * 3_600;
            let validity = Validity { from: until - life * 3_600, until, name: None };
            let mut concerns = Concerns::default();
            concerns.passed(&Watch { certificate: warning, ..Watch::default() }, INTERVAL, ms(50), Some(&validity), NOW);
            assert_eq!(concerns.words(NOW).as_deref(), words, "{life} {left} {warning:?}");
            assert_eq!((concerns.is_burdened(), concerns.certificate_ends()), (false, Some(until)), "less traffic mends no certificate");
        }
        // No certificate is no concern, and 2106 is far away.
        let mut concerns = Concerns::default();
        concerns.passed(&Watch::default(), INTERVAL, ms(50), None, NOW);
        assert_eq!((concerns.any(), concerns.certificate_ends()), (false, None));
        concerns.passed(&Watch::default(), INTERVAL, ms(50), Some(&Validity { from: 0, until: u64::MAX, name: None }), NOW);
        assert_eq!((concerns.any(), concerns.certificate_ends()), (false, Some(u32::MAX.into())));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Concerns>() <= 48, "{} octets for every check there is", size_of::<Concerns>());
    }
}
