//! The state machine of one check. It owns the counting of results; it knows no sockets, no clock and no endpoint.
//!
//! Time is an argument: a `Duration` since any fixed moment (process start, say), the same one for the whole life of a machine.
//!
//! A check that goes wrong now and then never fails `fall` times in a row, yet hurts users. So every fault (a stretch of failures that a success
//! ends) is charged as one credit, [`LEAK_SUCCESSES`] successes pay one back, and the fault that makes it [`CREDIT_LIMIT`] takes the check down
//! at its first failure.

use std::time::Duration;

use super::{Failure, Outcome, State, Thresholds};

/// How long a check that came back ramps, unless the machine is told otherwise: most of the resolvers that hold a 30 s answer have asked again four times.
pub const RAMP: Duration = Duration::from_secs(120);

/// A ramp starts with this share of the weight: enough to see real traffic, too little to hurt.
pub const RAMP_FLOOR: f64 = 0.1;

/// Faults on credit that take a check down though it never failed `fall` times in a row. With one credit paid back by
/// [`LEAK_SUCCESSES`] successes, more than one fault in eleven checks ends down, fewer never do (but for bad luck).
pub const CREDIT_LIMIT: u8 = 6;

/// Successes, in a row or not, that pay back one credit.
pub const LEAK_SUCCESSES: u8 = 10;

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After; never the same as before.
    pub to: State,
}

/// When the check after one that began at `started` and took `took` begins: intervals run from start to start, and a check never overtakes itself.
pub fn next_start(started: Duration, took: Duration, delay: Duration) -> Duration {
    started + delay.max(took)
}

/// The state of one check, and what it needs to move on.
///
/// ```text
///            first_pass        falter            fall          rise          settle
///   UNKNOWN ───────────▶ UP ──────────▶ SUSPECT ─────▶ DOWN ─────────▶ RAMP ────────▶ UP
///      │                  ◀── recover ──│  ▲  │                        ▲ │
///      │                                   │  └──────── recover ───────┘ │
///      └─ first_fail ─▶ DOWN               └──────────── falter ─────────┘
///
///   UP, RAMP ─ fall ─▶ DOWN where one failure is enough; DOWN ─ rise ─▶ UP where there is no ramp
///
///   state     result  when                                       arrow       to
///   UNKNOWN   pass    always                                     first_pass  UP, without a ramp
///   UNKNOWN   fail    always                                     first_fail  DOWN
///   UP, RAMP  pass    always                                     –           same; pays credit back
///   UP, RAMP  fail    fall = 1, or it is fault CREDIT_LIMIT      fall        DOWN
///   UP, RAMP  fail    else                                       falter      SUSPECT
///   SUSPECT   pass    a ramp was running and is not over         recover     RAMP, where the ramp is by now
///   SUSPECT   pass    else                                       recover     UP
///   SUSPECT   fail    it is the fall-th in a row                 fall        DOWN
///   SUSPECT   fail    else                                       –           SUSPECT
///   DOWN      pass    it is the rise-th in a row, ramp > 0       rise        RAMP
///   DOWN      pass    it is the rise-th in a row, no ramp        rise        UP
///   DOWN      pass    else                                       –           DOWN
///   DOWN      fail    always                                     –           DOWN; successes are counted from 0 again
///   RAMP      –       the ramp time is over                      settle      UP
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    state: State,
    /// When `state` was entered.
    since: Duration,
    /// Failures in a row while suspect, successes in a row while down, else 0.
    run: u8,
    /// Faults not yet paid back, below `CREDIT_LIMIT`.
    credit: u8,
    /// Successes since the last credit was paid back, below `LEAK_SUCCESSES`.
    paid: u8,
    /// How long this check ramps; zero means not at all.
    ramp: Duration,
    /// When the running ramp began; survives SUSPECT, so that a stumble while ramping does not end in full weight.
    ramp_began: Option<Duration>,
}

impl Machine {
    /// A check that has not run yet.
    pub fn new(now: Duration) -> Machine {
        Machine { state: State::Unknown, since: now, run: 0, credit: 0, paid: 0, ramp: RAMP, ramp_began: None }
    }

    /// A check whose verdict was kept from an earlier run. A ramp is not taken up again: there is none at process start.
    pub fn restored(state: State, since: Duration) -> Machine {
        let state = if state == State::Ramp { State::Up } else { state };
        let run = u8::from(state == State::Suspect);
        Machine { state, run, ..Machine::new(since) }
    }

    /// Gives it its own ramp time; zero for none.
    pub fn set_ramp(&mut self, ramp: Duration) {
        self.ramp = ramp;
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it came there.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Share of the weight that it may have now: 1 unless a ramp is running, then `RAMP_FLOOR` to 1.
    pub fn ramp_share(&self, now: Duration) -> f64 {
        match self.ramp_began {
            Some(began) if now < began + self.ramp => (now.saturating_sub(began).as_secs_f64() / self.ramp.as_secs_f64()).max(RAMP_FLOOR),
            _ => 1.0,
        }
    }

    /// When the running ramp is over and [`tick`](Machine::tick) has something to do.
    pub fn ramp_ends(&self) -> Option<Duration> {
        self.ramp_began.map(|began| began + self.ramp)
    }

    /// From the start of the last check to the start of the next. Fast only where it shortens an outage: while suspect, and as long as nothing is
    /// known. Coming back is not hurried.
    pub fn next_delay(&self, thresholds: &Thresholds) -> Duration {
        match self.state {
            State::Unknown | State::Suspect => thresholds.fast.min(thresholds.interval),
            State::Up | State::Down | State::Ramp => thresholds.interval,
        }
    }

    /// Takes the outcome of a check; [`Failure::Internal`] says nothing of the endpoint and changes nothing but the passing of a ramp.
    pub fn observe(&mut self, thresholds: &Thresholds, outcome: &Outcome, now: Duration) -> Option<Transition> {
        match outcome {
            Ok(()) => self.step(thresholds, true, now),
            Err(Failure::Internal(_)) => self.tick(now),
            Err(_) => self.step(thresholds, false, now),
        }
    }

    /// Takes one result.
    pub fn step(&mut self, thresholds: &Thresholds, passed: bool, now: Duration) -> Option<Transition> {
        let from = self.state;
        self.settle(now);
        match (self.state, passed) {
            (State::Unknown, true) => self.first_pass(now),
            (State::Unknown, false) => self.first_fail(now),
            (State::Up | State::Ramp, true) => self.pay_back(),
            (State::Up | State::Ramp, false) => {
                self.run = 1;
                self.credit += 1;
                if self.run >= thresholds.fall || self.credit >= CREDIT_LIMIT {
                    self.fall(now);
                } else {
                    self.falter(now);
                }
            }
            (State::Suspect, true) => self.recover(now),
            (State::Suspect, false) => {
                self.run = self.run.saturating_add(1);
                if self.run >= thresholds.fall {
                    self.fall(now);
                }
            }
            (State::Down, true) => {
                self.run = self.run.saturating_add(1);
                if self.run >= thresholds.rise {
                    self.rise(now);
                }
            }
            (State::Down, false) => self.run = 0,
        }
        self.changed(from)
    }

    /// Lets time pass: a ramp that is over ends. Call it at [`ramp_ends`](Machine::ramp_ends) or as often as you like.
    pub fn tick(&mut self, now: Duration) -> Option<Transition> {
        let from = self.state;
        self.settle(now);
        self.changed(from)
    }

    fn first_pass(&mut self, now: Duration) {
        self.enter(State::Up, now);
    }

    fn first_fail(&mut self, now: Duration) {
        self.enter(State::Down, now);
    }

    fn falter(&mut self, now: Duration) {
        self.enter(State::Suspect, now);
        self.run = 1;
    }

    fn recover(&mut self, now: Duration) {
        self.enter(if self.ramp_began.is_some() { State::Ramp } else { State::Up }, now);
        self.pay_back();
    }

    fn fall(&mut self, now: Duration) {
        self.enter(State::Down, now);
        self.credit = 0;
        self.paid = 0;
        self.ramp_began = None;
    }

    fn rise(&mut self, now: Duration) {
        if self.ramp.is_zero() {
            self.enter(State::Up, now);
        } else {
            self.enter(State::Ramp, now);
            self.ramp_began = Some(now);
        }
    }

    fn settle(&mut self, now: Duration) {
        if self.ramp_ends().is_some_and(|end| now >= end) {
            self.ramp_began = None;
            if self.state == State::Ramp {
                self.enter(State::Up, now);
            }
        }
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
        self.run = 0;
    }

    /// Counts a success towards the credit.
    fn pay_back(&mut self) {
        if self.credit == 0 {
            return;
        }
        self.paid += 1;
        if self.paid == LEAK_SUCCESSES {
            self.paid = 0;
            self.credit -= 1;
        }
    }

    fn changed(&self, from: State) -> Option<Transition> {
        (self.state != from).then_some(Transition { from, to: self.state })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Thresholds = Thresholds { interval: secs(10), fast: secs(2), fall: 3, rise: 3 };

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Feeds results one second apart (`+` pass, `-` fail, `!` could not run) and spells the states after each: `?` unknown, `u`p, `s`uspect, `d`own, `r`amp.
    fn spell(machine: &mut Machine, thresholds: &Thresholds, results: &str) -> String {
        let start = machine.since();
        let mut spelled = String::new();
        for (second, result) in (1..).zip(results.chars()) {
            let outcome = match result {
                '+' => Ok(()),
                '-' => Err(Failure::Body),
                _ => Err(Failure::Internal("no file descriptors".into())),
            };
            let (before, now) = (machine.state(), start + secs(second));
            let transition = machine.observe(thresholds, &outcome, now);
            assert_eq!(transition, machine.changed(before), "a transition is reported exactly when the state changed");
            if transition.is_some() {
                assert_eq!(machine.since(), now);
            }
            spelled.push(match machine.state() {
                State::Unknown => '?',
                state => state.word().chars().next().expect("a word"),
            });
        }
        spelled
    }

    #[track_caller]
    fn check(from: State, fall: u8, rise: u8, results: &str, states: &str) {
        let mut machine = Machine::restored(from, Duration::ZERO);
        assert_eq!(spell(&mut machine, &Thresholds { fall, rise, ..DEFAULT }, results), states, "from {from:?}, fall {fall}, rise {rise}, {results}");
    }

    #[test]
    fn every_row_of_the_truth_table() {
        // Unknown: the first result decides, whatever the thresholds.
        check(State::Unknown, 3, 3, "+", "u");
        check(State::Unknown, 3, 3, "-", "d");
        check(State::Unknown, 10, 10, "-", "d");
        // Up.
        check(State::Up, 3, 3, "+", "u");
        check(State::Up, 3, 3, "-", "s");
        check(State::Up, 1, 3, "-", "d");
        check(State::Up, 2, 3, "--", "sd");
        check(State::Up, 10, 3, "----------", "sssssssssd");
        // Suspect: one success forgives, and the row begins again.
        check(State::Up, 3, 3, "--+--+---", "ssussussd");
        check(State::Suspect, 3, 3, "--", "sd");
        check(State::Suspect, 3, 3, "+", "u");
        // Down: successes in a row only.
        check(State::Down, 3, 3, "++-++-+++", "ddddddddr");
        check(State::Down, 3, 1, "+", "r");
        check(State::Down, 3, 10, "++++++++++", "dddddddddr");
        check(State::Down, 3, 3, "----", "dddd");
        // Ramp: a stumble goes back to the ramp, not to full weight.
        check(State::Down, 3, 1, "+++", "rrr");
        check(State::Down, 3, 1, "+-+", "rsr");
        check(State::Down, 3, 1, "+---", "rssd");
        check(State::Down, 1, 1, "+-", "rd");
        // A ramp is not taken up again at start.
        check(State::Ramp, 3, 3, "+", "u");
    }

    #[test]
    fn checks_that_could_not_run_do_not_count() {
        check(State::Unknown, 3, 3, "!!-", "??d");
        check(State::Unknown, 3, 3, "!+", "?u");
        check(State::Up, 3, 3, "-!-!-", "ssssd");
        check(State::Up, 3, 3, "!!!!!!!!!!", "uuuuuuuuuu");
        check(State::Down, 3, 3, "+!+!+", "ddddr");
    }

    #[test]
    fn thresholds_of_zero_act_as_one() {
        check(State::Up, 0, 0, "-+", "dr");
    }

    #[test]
    fn a_lower_threshold_after_a_reload_counts_from_the_next_failure() {
        let mut machine = Machine::restored(State::Up, Duration::ZERO);
        assert_eq!(spell(&mut machine, &Thresholds { fall: 10, ..DEFAULT }, "----"), "ssss");
        assert_eq!(spell(&mut machine, &DEFAULT, "-"), "d");
    }

    #[test]
    fn the_sixth_fault_on_credit_takes_it_down_at_its_first_failure() {
        check(State::Up, 3, 3, "-+-+-+-+-+-", "sususususud");
        // Faults of two failures count once each.
        check(State::Up, 3, 3, "--+--+--+--+--+-", "ssussussussussud");
        // After that it starts clean.
        check(State::Up, 3, 3, "-+-+-+-+-+-+++-+", "sususususudddrsr");
    }

    #[test]
    fn ten_successes_pay_back_one_fault() {
        // One fault in eleven checks: never down, whatever the time.
        let mut machine = Machine::restored(State::Up, Duration::ZERO);
        let states = spell(&mut machine, &DEFAULT, &"-++++++++++".repeat(500));
        assert!(!states.contains('d'));
        // One in ten: the credit grows by a tenth with each fault.
        let mut machine = Machine::restored(State::Up, Duration::ZERO);
        let states = spell(&mut machine, &DEFAULT, &"-+++++++++".repeat(100));
        let down = states.find('d').expect("it goes down");
        assert!((400..=600).contains(&down), "down at check {down}");
    }

    #[test]
    fn a_ramp_grows_with_time_and_ends() {
        let mut machine = Machine::restored(State::Down, Duration::ZERO);
        assert_eq!(machine.ramp_share(secs(0)), 1.0, "nothing scales what is down");
        assert_eq!(spell(&mut machine, &DEFAULT, "+++"), "ddr");
        assert_eq!(machine.ramp_ends(), Some(secs(123)));
        for (at, share) in [(3, 0.1), (4, 0.1), (15, 0.1), (27, 0.2), (63, 0.5), (122, 119.0 / 120.0), (123, 1.0), (500, 1.0)] {
            assert!((machine.ramp_share(secs(at)) - share).abs() < 1e-9, "at {at} s: {}", machine.ramp_share(secs(at)));
        }
        assert_eq!(machine.tick(secs(122)), None);
        assert_eq!(machine.tick(secs(123)), Some(Transition { from: State::Ramp, to: State::Up }));
        assert_eq!(machine.tick(secs(124)), None);
        assert_eq!((machine.since(), machine.ramp_ends()), (secs(123), None));
    }

    #[test]
    fn a_stumble_keeps_the_ramp_running() {
        let mut machine = Machine::restored(State::Down, Duration::ZERO);
        spell(&mut machine, &DEFAULT, "+++");
        machine.step(&DEFAULT, false, secs(33));
        assert_eq!(machine.state(), State::Suspect);
        assert!((machine.ramp_share(secs(63)) - 0.5).abs() < 1e-9, "suspect does not jump to full weight");
        assert_eq!(machine.step(&DEFAULT, true, secs(63)), Some(Transition { from: State::Suspect, to: State::Ramp }));
        assert!((machine.ramp_share(secs(63)) - 0.5).abs() < 1e-9);
        machine.step(&DEFAULT, false, secs(120));
        assert_eq!(machine.tick(secs(130)), None, "the ramp is over but the fault is not");
        assert_eq!(machine.ramp_share(secs(130)), 1.0);
        assert_eq!(machine.step(&DEFAULT, true, secs(131)), Some(Transition { from: State::Suspect, to: State::Up }));
    }

    #[test]
    fn a_late_result_sees_that_the_ramp_is_over() {
        let mut machine = Machine::restored(State::Down, Duration::ZERO);
        spell(&mut machine, &DEFAULT, "+++");
        assert_eq!(machine.step(&DEFAULT, true, secs(200)), Some(Transition { from: State::Ramp, to: State::Up }));
    }

    #[test]
    fn no_ramp_when_its_time_is_zero() {
        let mut machine = Machine::restored(State::Down, Duration::ZERO);
        machine.set_ramp(Duration::ZERO);
        assert_eq!(spell(&mut machine, &DEFAULT, "+++"), "ddu");
        assert_eq!(machine.ramp_share(secs(3)), 1.0);
    }

    #[test]
    fn only_doubt_is_checked_fast() {
        for (state, delay) in [(State::Unknown, 2), (State::Up, 10), (State::Suspect, 2), (State::Down, 10)] {
            assert_eq!(Machine::restored(state, Duration::ZERO).next_delay(&DEFAULT), secs(delay), "{state:?}");
        }
        let slow_fast = Thresholds { fast: secs(60), ..DEFAULT };
        assert_eq!(Machine::restored(State::Suspect, Duration::ZERO).next_delay(&slow_fast), secs(10), "fast is never slower than the interval");
    }

    /// Detection time in seconds of a target that fails `phase` after the start of a check, each failed check taking `took`.
    fn detect(thresholds: &Thresholds, phase: Duration, took: Duration) -> f64 {
        let failed = secs(1000) + phase;
        let mut machine = Machine::restored(State::Up, Duration::ZERO);
        let mut start = secs(1000);
        loop {
            let (passed, took) = if start < failed { (true, Duration::ZERO) } else { (false, took) };
            if let Some(Transition { to: State::Down, .. }) = machine.step(thresholds, passed, start + took) {
                return (machine.since() - failed).as_secs_f64();
            }
            start = next_start(start, took, machine.next_delay(thresholds));
        }
    }

    #[test]
    fn detection_takes_as_long_as_the_arithmetic_says() {
        // interval, fast, fall, seconds per failed check → mean, worst: the rows of docs/health.md.
        let rows = [
            ((10, 2, 3, 0.1), (9.1, 14.1)),
            ((10, 2, 3, 3.0), (14.0, 19.0)),
            ((5, 1, 3, 0.1), (4.6, 7.1)),
            ((5, 1, 3, 2.0), (8.5, 11.0)),
            ((30, 5, 3, 0.1), (25.1, 40.1)),
            ((30, 5, 3, 5.0), (30.0, 45.0)),
            ((10, 2, 1, 0.1), (5.1, 10.1)),
            ((30, 30, 3, 0.1), (75.1, 90.1)),
            ((30, 30, 3, 6.0), (81.0, 96.0)),
            ((10, 2, 1, 3.0), (8.0, 13.0)),
        ];
        for ((interval, fast, fall, took), (mean, worst)) in rows {
            let thresholds = Thresholds { interval: secs(interval), fast: secs(fast), fall, rise: 3 };
            // Phases in (0, interval]: the target fails right after the start of a check at worst.
            let steps = 1000;
            let times: Vec<f64> = (0..steps)
                .map(|step| detect(&thresholds, secs(interval) * step / steps + Duration::from_nanos(1), Duration::from_secs_f64(took)))
                .collect();
            let measured = times.iter().sum::<f64>() / f64::from(steps);
            let longest = times.iter().copied().fold(0.0, f64::max);
            assert!((measured - mean).abs() < 0.02, "{interval}/{fast}/{fall}/{took}: mean {measured}, not {mean}");
            assert!((longest - worst).abs() < 0.02, "{interval}/{fast}/{fall}/{took}: worst {longest}, not {worst}");
        }
    }

    proptest! {
        #[test]
        fn invariants_hold_for_any_history(
            fall in 1u8..=10, rise in 1u8..=10, ramp in 0u64..30,
            history in proptest::collection::vec((proptest::bool::weighted(0.6), 0u64..8), 1..300),
        ) {
            let thresholds = Thresholds { fall, rise, ..DEFAULT };
            let mut machine = Machine::new(Duration::ZERO);
            machine.set_ramp(secs(ramp));
            let (mut now, mut fails, mut passes, mut faults) = (Duration::ZERO, 0u32, 0u32, 0u32);
            for (passed, wait) in history {
                now += secs(wait);
                let before = machine.clone();
                let transition = machine.step(&thresholds, passed, now);
                (fails, passes) = if passed { (0, passes + 1) } else { (fails + 1, 0) };
                faults += u32::from(fails == 1);

                let known = before.state() != State::Unknown;
                match transition {
                    Some(Transition { to: State::Down, .. }) => {
                        prop_assert!(!passed, "a passing check never takes down");
                        prop_assert!(!known || fails >= u32::from(fall) || faults >= u32::from(CREDIT_LIMIT), "down after {fails} failures, {faults} faults");
                        faults = 0;
                    }
                    Some(Transition { from: State::Down, to }) => {
                        prop_assert!(passes >= u32::from(rise), "back after {passes} successes");
                        prop_assert_eq!(to, if ramp == 0 { State::Up } else { State::Ramp });
                        faults = 0;
                    }
                    _ => {}
                }
                prop_assert!(fails < u32::from(fall) || machine.state() == State::Down, "fall failures in a row are always down");
                prop_assert!(machine.state() != State::Unknown, "the first result decides");
                prop_assert!(!passed || machine.state() != State::Suspect, "a success ends doubt");
                prop_assert!(machine.credit < CREDIT_LIMIT && machine.paid < LEAK_SUCCESSES);
                let share = machine.ramp_share(now);
                prop_assert!((RAMP_FLOOR..=1.0).contains(&share));
                prop_assert!(machine.state() != State::Ramp || machine.ramp_ends().is_some_and(|end| end > now));
                prop_assert!(machine.state() != State::Down || share == 1.0);
            }
            machine.tick(now + secs(31));
            prop_assert!(machine.state() != State::Ramp, "every ramp ends");
        }
    }
}
