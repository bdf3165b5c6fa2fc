//! Whether failures are believed. When much fails at once, in places that have nothing in common but this server, it is this server that has lost its
//! network: then nothing is withdrawn (freeze) until that is known better.
//!
//! ```text
//! references                                               census                            a failure
//! one has answered since the check began to fail           –                                 counts
//! none has, but one answered, or was named, within `hold`  –                                 does not count
//! none ever has, and no check has ever passed              –                                 does not count, however long that lasts
//! none has answered within `hold`, or none is given        calm                              counts
//!                                                          more than half fails at once,     does not count, for `hold` at most
//!                                                          in two places at least
//! ```
//! What began before such a freeze was over and fails after it does not count either: a timeout tells of the time before. A freeze for the census goes on
//! over a restart: one that begins within `hold` of the start has begun when the last of the run before did.
//!
//! References are places of the operator's choice that answer when this server's network works. With them nothing is guessed: one of them answers, so
//! what fails fails by itself, be it ever so much. One that has been silent for `hold` is no evidence of anything, so that a reference which has moved
//! away never keeps dead endpoints in service. One that is new is believed to be alive for as long, so that a server which starts before its network
//! does withdraws nothing; and where nothing whatever has answered since the start, nothing has shown yet that there is a network at all.

use std::time::Duration;

/// Fewer checks than this are no crowd.
pub const LEAST_CHECKED: usize = 4;
/// Fewer places than this are one outage.
pub const LEAST_PLACES: usize = 2;

/// What fails at a moment, among the checks that were good before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them: up, suspect, ramping, or down since a moment ago.
    pub checked: usize,
    /// Suspect, or down since a moment ago.
    pub failing: usize,
}

impl Census {
    /// More than half of them fail.
    pub fn is_mass(&self) -> bool {
        self.checked >= LEAST_CHECKED && self.failing * 2 > self.checked
    }

    /// A quarter at most: far enough from half not to swing.
    fn is_calm(&self) -> bool {
        self.failing * 4 <= self.checked
    }
}

/// Why failures are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The last results of all references are failures.
    References,
    /// More than half of everything fails at once.
    Mass(Census),
}

/// A change of mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Failures count no longer.
    Frozen(Why),
    /// They count again, because what failed is back.
    Calm,
    /// They count again, because a reference answers.
    Answered,
    /// They count again, because it has lasted too long to be a mistake.
    Believed,
    /// They count again, because no reference has answered for so long that their silence says nothing.
    Disregarded,
}

/// One reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference {
    /// Since when it is one and could have answered.
    named: Duration,
    passed: Option<Duration>,
    /// Its last result is a failure, since then.
    failed: Option<Duration>,
}

/// The judge.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    /// How long a freeze may last, and how long a reference counts after its last answer; zero: everything is believed.
    hold: Duration,
    references: Vec<Reference>,
    /// Something has answered this server at some time: a reference, or a check.
    heard: bool,
    frozen: Option<(Duration, Why)>,
    /// A freeze for the census has run out; there is none again before it is calm.
    believed: bool,
    /// When the last freeze ended because what failed was back.
    thawed: Option<Duration>,
    /// How long the freeze for the census had lasted when the run before ended, and when that was taken over: one that begins soon after is the same.
    resumed: Option<(Duration, Duration)>,
    /// So much of the time of a freeze for the census was over when it began.
    spent: Duration,
}

impl Doubt {
    /// Sets how long a freeze may last (zero for never a freeze) and makes the references `count`; those that `from` gives an index for keep what is
    /// known of them.
    pub fn set(&mut self, hold: Duration, from: &[Option<usize>], now: Duration) {
        let new = Reference { named: now, passed: None, failed: None };
        self.references = from.iter().map(|from| from.and_then(|at| self.references.get(at).copied()).unwrap_or(new)).collect();
        self.hold = hold;
        if hold.is_zero() {
            self.frozen = None;
            self.thawed = None;
            self.resumed = None;
        }
    }

    /// Takes over that the run before was, or had been, frozen for the census, since so long ago, and that nothing was calm since.
    pub fn resume(&mut self, age: Duration, now: Duration) {
        self.resumed = Some((age, now));
    }

    /// How long ago a freeze for the census began that is not over, or that ended because it had lasted too long; the time in earlier runs counts.
    /// What to keep for the next run.
    pub fn mass_age(&self, now: Duration) -> Option<Duration> {
        match (self.frozen, self.resumed) {
            (Some((since, Why::Mass(_))), _) => Some(now.saturating_sub(since) + self.spent),
            _ if self.believed => Some(self.hold),
            (_, Some((age, at))) if now < at + self.hold => Some(age + now.saturating_sub(at)),
            _ => None,
        }
    }

    /// So much of the time of the present freeze was over when this run began.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Since when failures do not count, and why.
    pub fn frozen(&self) -> Option<(Duration, Why)> {
        self.frozen
    }

    /// When a reference answered last, and since when it fails.
    pub fn reference(&self, at: usize) -> (Option<Duration>, Option<Duration>) {
        self.references.get(at).map_or((None, None), |reference| (reference.passed, reference.failed))
    }

    /// Takes the result of a reference.
    pub fn observe(&mut self, at: usize, passed: bool, now: Duration) {
        let Some(reference) = self.references.get_mut(at) else { return };
        if passed {
            *reference = Reference { passed: Some(now), failed: None, ..*reference };
            self.heard = true;
        } else {
            reference.failed.get_or_insert(now);
        }
    }

    /// A check of an endpoint has passed: there is a network. If that is the first sign of one, references have their time from now on.
    pub fn hear(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.heard, true) {
            self.references.iter_mut().filter(|reference| reference.passed.is_none()).for_each(|reference| reference.named = now);
        }
    }

    /// It means something if no reference answers.
    fn has_evidence(&self, now: Duration) -> bool {
        let is_recent = |reference: &Reference| reference.passed.unwrap_or(reference.named) + self.hold > now;
        self.references.iter().any(is_recent) || !self.heard && !self.references.is_empty()
    }

    /// Some reference answers.
    fn is_answered(&self, now: Duration) -> bool {
        let answers = |reference: &Reference| reference.failed.is_none() && reference.passed.is_some_and(|passed| passed + self.hold > now);
        self.references.iter().any(answers)
    }

    /// Some reference has failed, none answers, and none will be asked for the first time.
    fn is_unanswered(&self, now: Duration) -> bool {
        let is_asked = |reference: &Reference| reference.failed.is_some() || reference.passed.is_none() && reference.named + self.hold <= now;
        self.references.iter().any(|reference| reference.failed.is_some()) && self.references.iter().all(is_asked)
    }

    /// Whether a failure of a check that has been failing since then must not take it down.
    pub fn is_doubtful(&self, failing_since: Duration, now: Duration) -> bool {
        match self.frozen {
            // Until the next look ends it: a reference that answers at this moment says nothing of a check that began before.
            // What is new may be what this server cannot see, too.
            Some(_) => true,
            _ if self.hold.is_zero() || self.references.iter().any(|one| one.passed.is_some_and(|passed| passed >= failing_since)) => false,
            _ => self.has_evidence(now),
        }
    }

    /// Nothing speaks against a failure that [`is_doubtful`](Doubt::is_doubtful), but that no reference has answered since it began.
    pub fn is_unproven(&self) -> bool {
        self.frozen.is_none() && self.references.iter().any(|one| one.passed.is_some() && one.failed.is_none())
    }

    /// Whether a check that began then began before the last thaw: its failure may be what was doubted, heard of late.
    pub fn is_from_before_thaw(&self, began: Duration) -> bool {
        self.thawed.is_some_and(|thawed| began < thawed)
    }

    /// Looks around. `census` is asked only when it matters; `places` counts where it fails, only when much does.
    pub fn look(&mut self, census: Census, places: impl FnOnce() -> usize, now: Duration) -> Option<Turn> {
        if self.hold.is_zero() {
            return None;
        }
        self.believed &= !census.is_calm();
        let evidence = self.has_evidence(now);
        match self.frozen {
            Some(_) if evidence && self.is_answered(now) => self.thaw(Turn::Answered, now),
            Some((_, Why::References)) if evidence => None,
            // Silent for so long that they say nothing any more.
            Some((_, Why::References)) => {
                self.frozen = None;
                let turn = self.look_at_crowd(census, places, now);
                turn.or(Some(Turn::Disregarded))
            }
            Some((_, Why::Mass(_))) if census.is_calm() => self.thaw(Turn::Calm, now),
            Some((since, Why::Mass(_))) if now + self.spent >= since + self.hold => {
                self.frozen = None;
                self.believed = true;
                Some(Turn::Believed)
            }
            Some((since, Why::Mass(_))) => {
                self.frozen = Some((since, Why::Mass(census)));
                None
            }
            None if evidence && self.is_unanswered(now) => self.freeze(Why::References, now),
            None if evidence => None,
            None => self.look_at_crowd(census, places, now),
        }
    }

    fn look_at_crowd(&mut self, census: Census, places: impl FnOnce() -> usize, now: Duration) -> Option<Turn> {
        if self.believed || !census.is_mass() || places() < LEAST_PLACES {
            return None;
        }
        // What fails so soon after a start is what failed before it.
        let resumed = self.resumed.take().filter(|(_, at)| now < *at + self.hold);
        let spent = resumed.map_or(Duration::ZERO, |(age, at)| age + now.saturating_sub(at));
        if spent >= self.hold {
            self.believed = true;
            return Some(Turn::Believed);
        }
        self.freeze(Why::Mass(census), now);
        self.spent = spent;
        Some(Turn::Frozen(Why::Mass(census)))
    }

    fn freeze(&mut self, why: Why, now: Duration) -> Option<Turn> {
        self.spent = Duration::ZERO;
        self.frozen = Some((now, why));
        Some(Turn::Frozen(why))
    }

    fn thaw(&mut self, turn: Turn, now: Duration) -> Option<Turn> {
        self.frozen = None;
        self.thawed = Some(now);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = secs(120);

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn of(checked: usize, failing: usize) -> Census {
        Census { checked, failing }
    }

    fn doubt(references: usize) -> Doubt {
        let mut doubt = Doubt::default();
        doubt.set(HOLD, &vec![None; references], Duration::ZERO);
        doubt
    }

    #[test]
    fn a_crowd_that_fails_at_once_in_several_places_freezes() {
        for (checked, failing, places, freezes) in
            [(3, 3, 3, false), (4, 2, 2, false), (4, 3, 2, true), (4, 4, 1, false), (100, 50, 9, false), (100, 51, 9, true), (0, 0, 0, false)]
        {
            let census = of(checked, failing);
            let turn = doubt(0).look(census, || places, secs(5));
            assert_eq!(turn, freezes.then_some(Turn::Frozen(Why::Mass(census))), "{census:?} in {places}");
        }
    }

    #[test]
    fn a_freeze_ends_when_all_is_calm_or_when_it_lasts_too_long() {
        let mut doubt = doubt(0);
        assert!(!doubt.is_doubtful(secs(1), secs(5)));
        assert!(doubt.look(of(10, 6), || 2, secs(5)).is_some());
        assert!(doubt.is_doubtful(secs(1), secs(5)));
        assert_eq!(doubt.look(of(10, 3), || 2, secs(50)), None, "not calm yet");
        assert_eq!(doubt.look(of(10, 2), || 2, secs(60)), Some(Turn::Calm));
        assert!(!doubt.is_doubtful(secs(1), secs(60)));
        assert!(doubt.look(of(10, 10), || 2, secs(100)).is_some());
        assert_eq!(doubt.look(of(10, 9), || 2, secs(219)), None);
        assert_eq!(doubt.frozen(), Some((secs(100), Why::Mass(of(10, 9)))), "told with the figures of now");
        assert_eq!(doubt.look(of(10, 10), || 2, secs(220)), Some(Turn::Believed));
        assert!(!doubt.is_doubtful(secs(100), secs(220)));
        assert_eq!(doubt.look(of(10, 10), || 2, secs(221)), None, "it is not doubted again");
        assert_eq!(doubt.look(of(10, 0), || 0, secs(300)), None);
        assert!(doubt.look(of(10, 6), || 2, secs(301)).is_some(), "the next time it is");
    }

    #[test]
    fn a_freeze_goes_on_over_a_restart_and_does_not_begin_anew() {
        let all = of(10, 10);
        let mut before = doubt(0);
        assert!(before.look(all, || 2, secs(100)).is_some());
        assert_eq!((before.mass_age(secs(99)), before.mass_age(secs(150))), (Some(Duration::ZERO), Some(secs(50))));
        // Ten seconds later another run begins, in which it takes five until much has failed again.
        let restarted = |age: u64| {
            let mut doubt = doubt(0);
            doubt.resume(secs(age), secs(0));
            assert_eq!(doubt.look(of(10, 0), || 0, secs(1)), None);
            assert_eq!(doubt.mass_age(secs(1)), Some(secs(age + 1)), "a restart right now would know it, too");
            doubt
        };
        let mut doubt = restarted(60);
        assert_eq!(doubt.look(all, || 2, secs(5)), Some(Turn::Frozen(Why::Mass(all))));
        assert_eq!((doubt.spent(), doubt.mass_age(secs(10))), (secs(65), Some(secs(70))));
        assert_eq!(doubt.look(all, || 2, secs(59)), None);
        assert_eq!(doubt.look(all, || 2, secs(60)), Some(Turn::Believed));
        assert_eq!(doubt.mass_age(secs(500)), Some(HOLD), "and it is not doubted after a restart either");
        // It had lasted too long before.
        let mut doubt = restarted(300);
        assert_eq!(doubt.look(all, || 2, secs(5)), Some(Turn::Believed));
        assert!(!doubt.is_doubtful(secs(4), secs(5)));
        // When all is calm, the next one has its whole time.
        assert_eq!((doubt.look(of(10, 0), || 0, secs(50)), doubt.mass_age(secs(50))), (None, None));
        assert_eq!(doubt.look(all, || 2, secs(60)), Some(Turn::Frozen(Why::Mass(all))));
        assert_eq!(doubt.spent(), secs(0));
        // And so has one that begins long after the start.
        let mut doubt = restarted(60);
        assert_eq!(doubt.mass_age(HOLD), None);
        assert_eq!(doubt.look(all, || 2, HOLD), Some(Turn::Frozen(Why::Mass(all))));
        assert_eq!(doubt.spent(), secs(0));
    }

    #[test]
    fn a_reference_that_answers_makes_every_failure_count() {
        let mut doubt = doubt(2);
        doubt.observe(0, true, secs(10));
        assert!(doubt.is_doubtful(secs(11), secs(12)), "it has not answered since");
        assert_eq!(doubt.look(of(10, 10), || 5, secs(12)), None, "nothing is known of the references yet: no alarm");
        doubt.observe(1, true, secs(13));
        assert!(!doubt.is_doubtful(secs(11), secs(14)));
        assert_eq!(doubt.look(of(10, 10), || 5, secs(14)), None, "all of it is down, and that is true");
    }

    #[test]
    fn references_that_fail_freeze_until_one_answers() {
        let mut doubt = doubt(2);
        for at in [0, 1] {
            doubt.observe(at, true, secs(10));
        }
        doubt.observe(0, false, secs(15));
        assert_eq!(doubt.look(of(10, 1), || 1, secs(15)), None);
        doubt.observe(1, false, secs(16));
        assert_eq!(doubt.look(of(10, 1), || 1, secs(16)), Some(Turn::Frozen(Why::References)));
        assert!(doubt.is_doubtful(secs(12), secs(20)));
        doubt.observe(0, true, secs(30));
        assert_eq!(doubt.look(of(10, 1), || 1, secs(30)), Some(Turn::Answered));
        assert!(!doubt.is_doubtful(secs(12), secs(30)));
    }

    #[test]
    fn references_that_are_silent_for_long_say_nothing() {
        let mut doubt = doubt(1);
        doubt.observe(0, true, secs(10));
        doubt.observe(0, false, secs(15));
        assert_eq!(doubt.look(of(10, 2), || 1, secs(15)), Some(Turn::Frozen(Why::References)));
        assert_eq!(doubt.look(of(10, 3), || 1, secs(129)), None);
        assert_eq!(doubt.look(of(10, 3), || 1, secs(130)), Some(Turn::Disregarded));
        assert!(!doubt.is_doubtful(secs(20), secs(130)));
        // And where much fails at once, that is looked at now.
        doubt.observe(0, true, secs(200));
        doubt.observe(0, false, secs(205));
        assert!(doubt.look(of(10, 10), || 3, secs(205)).is_some());
        assert_eq!(doubt.look(of(10, 10), || 3, secs(320)), Some(Turn::Frozen(Why::Mass(of(10, 10)))));
        assert_eq!(doubt.look(of(10, 10), || 3, secs(440)), Some(Turn::Believed));
    }

    #[test]
    fn who_starts_without_a_network_withdraws_nothing() {
        let mut doubt = doubt(2);
        assert_eq!(doubt.look(of(0, 0), || 0, secs(0)), None, "nothing is known of the references yet: no alarm");
        assert!(doubt.is_doubtful(secs(0), secs(1)));
        doubt.observe(0, false, secs(1));
        assert_eq!(doubt.look(of(0, 0), || 0, secs(1)), None, "one is asked still");
        doubt.observe(1, false, secs(2));
        assert_eq!(doubt.look(of(0, 0), || 0, secs(2)), Some(Turn::Frozen(Why::References)));
        // However long it lasts: nothing has shown yet that there is a network.
        assert_eq!(doubt.look(of(10, 10), || 3, secs(90_000)), None);
        assert!(doubt.is_doubtful(secs(0), secs(90_000)));
        doubt.observe(1, true, secs(90_001));
        assert_eq!(doubt.look(of(10, 10), || 3, secs(90_001)), Some(Turn::Answered));
        assert!(!doubt.is_doubtful(secs(0), secs(90_001)));
    }

    #[test]
    fn references_that_never_answer_are_disregarded_once_a_check_has_passed() {
        for passes in [5, 119, 500] {
            let mut doubt = doubt(1);
            doubt.observe(0, false, secs(1));
            assert_eq!(doubt.look(of(0, 0), || 0, secs(1)), Some(Turn::Frozen(Why::References)));
            assert_eq!(doubt.look(of(0, 0), || 0, secs(passes)), None);
            // The first sign of a network: they have their time to answer now.
            doubt.hear(secs(passes));
            doubt.hear(secs(passes + 50));
            assert_eq!(doubt.look(of(1, 0), || 0, secs(passes + 119)), None);
            assert!(doubt.is_doubtful(secs(0), secs(passes + 119)));
            assert_eq!(doubt.look(of(1, 0), || 0, secs(passes + 120)), Some(Turn::Disregarded));
            assert!(!doubt.is_doubtful(secs(0), secs(passes + 120)));
        }
        // A wrong one beside one that answers holds up nothing.
        let mut doubt = doubt(2);
        doubt.observe(0, false, secs(1));
        doubt.observe(1, true, secs(1));
        assert_eq!(doubt.look(of(0, 0), || 0, secs(1)), None);
        assert!(!doubt.is_doubtful(secs(0), secs(1)));
    }

    #[test]
    fn a_reference_that_a_reload_names_has_its_time_too() {
        let mut doubt = doubt(0);
        doubt.hear(secs(10));
        doubt.set(HOLD, &[None], secs(1_000));
        assert!(doubt.is_doubtful(secs(1_001), secs(1_001)));
        doubt.observe(0, false, secs(1_002));
        assert_eq!(doubt.look(of(10, 1), || 1, secs(1_002)), Some(Turn::Frozen(Why::References)));
        // Another one is named meanwhile: it has its time as well, and no freeze ends because nobody has asked it yet.
        doubt.set(HOLD, &[Some(0), None], secs(1_100));
        assert_eq!(doubt.look(of(10, 1), || 1, secs(1_150)), None);
        assert_eq!(doubt.look(of(10, 1), || 1, secs(1_220)), Some(Turn::Disregarded));
        assert!(!doubt.is_doubtful(secs(1_201), secs(1_220)));
    }

    #[test]
    fn what_began_before_a_thaw_tells_of_the_time_before() {
        let mut doubt = doubt(0);
        assert!(doubt.look(of(10, 6), || 2, secs(5)).is_some() && !doubt.is_from_before_thaw(secs(1)));
        assert_eq!(doubt.look(of(10, 1), || 2, secs(60)), Some(Turn::Calm));
        assert!(doubt.is_from_before_thaw(secs(59)) && !doubt.is_from_before_thaw(secs(60)));
        // What is believed is believed at once.
        assert!(doubt.look(of(10, 6), || 2, secs(100)).is_some());
        assert_eq!(doubt.look(of(10, 6), || 2, secs(220)), Some(Turn::Believed));
        assert!(!doubt.is_from_before_thaw(secs(219)));
    }

    #[test]
    fn between_old_references_and_the_next_look_nothing_falls() {
        let mut doubt = doubt(1);
        doubt.observe(0, true, secs(10));
        doubt.observe(0, false, secs(15));
        assert_eq!(doubt.look(of(10, 10), || 3, secs(15)), Some(Turn::Frozen(Why::References)));
        assert!(doubt.is_doubtful(secs(12), secs(131)), "they have just become too old");
        doubt.observe(0, true, secs(131));
        assert!(doubt.is_doubtful(secs(12), secs(131)), "one has just answered, but what fails now began before");
        let mut doubt = self::doubt(1);
        doubt.observe(0, true, secs(10));
        doubt.observe(0, false, secs(15));
        assert_eq!(doubt.look(of(10, 10), || 3, secs(15)), Some(Turn::Frozen(Why::References)));
        assert_eq!(doubt.look(of(10, 10), || 3, secs(131)), Some(Turn::Frozen(Why::Mass(of(10, 10)))));
    }

    #[test]
    fn what_is_switched_off_doubts_nothing() {
        let mut doubt = doubt(1);
        doubt.observe(0, true, secs(1));
        assert!(doubt.is_doubtful(secs(2), secs(3)));
        doubt.set(Duration::ZERO, &[Some(0)], secs(3));
        assert!(!doubt.is_doubtful(secs(2), secs(3)));
        assert_eq!(doubt.look(of(10, 10), || 9, secs(3)), None);
    }

    #[test]
    fn references_that_stay_keep_what_is_known() {
        let mut doubt = doubt(2);
        doubt.observe(1, true, secs(7));
        doubt.set(HOLD, &[Some(1), None], secs(8));
        assert_eq!([doubt.reference(0), doubt.reference(1)], [(Some(secs(7)), None), (None, None)]);
    }
}
