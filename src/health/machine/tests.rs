use proptest::prelude::*;

use super::*;
use crate::health::Failure;

const DEFAULT: Thresholds = Thresholds { interval: secs(10), fast: secs(2), fall: 3, rise: 3 };

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Feeds results one second apart (`+` pass, `*` pass of one that is needed, `=` pass of one that is handed out all the same, `-` fail, `~` doubtful fail, `?` unproven fail, `l` leaves, `L` the same while failures are doubted, `!` could not run, `#` no route) and spells the states after each: `?` unknown, `u`p, `s`uspect, `d`own, `r`amp.
fn spell(machine: &mut Machine, thresholds: &Thresholds, results: &str) -> String {
    let start = machine.since();
    let mut spelled = String::new();
    for (second, result) in (1..).zip(results.chars()) {
        let outcome = match result {
            '+' | '*' | '=' => Ok(()),
            '-' | '~' | '?' => Err(Failure::Body),
            'l' | 'L' => Err(Failure::Draining),
            '#' => Err(Failure::NoNetwork("no route".into())),
            _ => Err(Failure::Internal("no file descriptors".into())),
        };
        let (before, now) = (machine.state(), start + secs(second));
        let transition = machine.observe(
            thresholds,
            &outcome,
            Around { doubted: matches!(result, '~' | 'L' | '?'), unproven: result == '?', needed: result == '*', served: result == '=' },
            now,
        );
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
    // What was handed out all the while has nothing to warm up.
    check(State::Down, 3, 2, "==", "du");
    check(State::Down, 3, 2, "=+", "dr");
    // Ramp: a stumble goes back to the ramp, not to full weight.
    check(State::Down, 3, 1, "+++", "rrr");
    check(State::Down, 3, 1, "+-+", "rsr");
    check(State::Down, 3, 1, "+---", "rssd");
    check(State::Down, 1, 1, "+-", "rd");
    // A ramp is not taken up again at start.
    check(State::Ramp, 3, 3, "+", "u");
}

#[test]
fn who_leaves_is_down_at_once_and_nothing_is_held_against_it() {
    check(State::Up, 3, 1, "ll+", "ddr");
    check(State::Unknown, 3, 1, "l+", "dr");
    check(State::Up, 3, 1, "-l", "sd");
    check(State::Down, 3, 3, "++l+++", "dddddr");
    // It says so itself: whoever doubts failures obeys.
    check(State::Up, 3, 1, "LL+", "ddr");
    check(State::Unknown, 3, 1, "LL+", "ddr");
    check(State::Up, 3, 1, "~L~+", "sddr");
    let mut machine = Machine::restored(State::Up, Duration::ZERO);
    for round in 0..20 {
        let around = Around::default();
        assert!(machine.observe(&DEFAULT, &Err(Failure::Draining), around, secs(round * 10)).is_some());
        assert!((1..=3).any(|at| machine.observe(&DEFAULT, &Ok(()), around, secs(round * 10 + at)).is_some()), "it comes back each time");
    }
    assert_eq!(machine.last_fall(), None);
    machine.observe(&DEFAULT, &Err(Failure::Draining), Around::default(), secs(300));
    assert_eq!((machine.reprieve(secs(301)), machine.last_fall()), (None, None), "nor is that taken back");
    // Neither is it when it fell first, and with everything else.
    let mut fallen = Machine::restored(State::Up, Duration::ZERO);
    assert_eq!(spell(&mut fallen, &Thresholds { fall: 1, ..DEFAULT }, "-l"), "dd");
    assert_eq!(fallen.reprieve(secs(3)), None);
    assert_eq!((machine.forget(secs(303)).map(|step| step.to), machine.forget(secs(304))), (Some(State::Unknown), None));
}

#[test]
fn what_was_not_obeyed_is_judged_again_and_counts_once() {
    let sure = Around::default();
    // From, fall, rise, what was heard, then: does it wait, and where does it go in doubt, without, and needed?
    for (from, heard, fall, rise, waits, then) in [
        (State::Up, "", 1, 1, false, [State::Up; 3]),
        (State::Up, "~", 1, 1, true, [State::Suspect, State::Down, State::Down]),
        (State::Up, "~~", 3, 1, false, [State::Suspect; 3]),
        (State::Up, "~~~", 3, 1, true, [State::Suspect, State::Down, State::Down]),
        (State::Up, "~+", 1, 1, false, [State::Up; 3]),
        (State::Up, "~l", 1, 1, false, [State::Down; 3]),
        (State::Unknown, "", 1, 1, false, [State::Unknown; 3]),
        (State::Unknown, "~", 3, 1, true, [State::Unknown, State::Down, State::Down]),
        (State::Up, "-+-+-+", 1, 1, true, [State::Down, State::Down, State::Ramp]),
        (State::Up, "-++-++-+", 1, 2, false, [State::Down; 3]),
        (State::Up, "-+-+-+-", 1, 1, false, [State::Down; 3]),
        (State::Down, "-", 0, 0, false, [State::Down; 3]),
    ] {
        let thresholds = Thresholds { fall, rise, ..DEFAULT };
        let mut machine = Machine::restored(from, Duration::ZERO);
        spell(&mut machine, &thresholds, heard);
        assert_eq!(machine.is_waiting(&thresholds), waits, "{from:?} {heard}");
        let around = [Around { doubted: true, ..sure }, sure, Around { needed: true, ..sure }];
        for (around, then) in around.into_iter().zip(then) {
            let (mut again, before) = (machine.clone(), machine.state());
            let moved = again.reconsider(&thresholds, around, secs(20));
            assert_eq!((again.state(), moved.is_some()), (then, then != before), "{from:?} {heard} {around:?}");
            assert_eq!(again.reconsider(&thresholds, around, secs(20)), None, "once");
        }
    }
    // At the end of its penalty it is back by itself.
    let thresholds = Thresholds { fall: 1, rise: 1, ..DEFAULT };
    let mut machine = Machine::restored(State::Up, Duration::ZERO);
    spell(&mut machine, &thresholds, "-+-+-+");
    let until = machine.suppressed_until(secs(6)).expect("kept down");
    assert_eq!(machine.reconsider(&thresholds, sure, until - secs(1)), None);
    assert_eq!(machine.reconsider(&thresholds, sure, until).map(|step| step.to), Some(State::Ramp));
}

#[test]
fn checks_that_could_not_run_do_not_count() {
    check(State::Unknown, 3, 3, "!!-", "??d");
    check(State::Unknown, 3, 3, "!+", "?u");
    check(State::Unknown, 3, 3, "##-", "??d");
    check(State::Up, 3, 3, "-#!-#-", "sssssd");
    check(State::Up, 3, 3, "-!-!-", "ssssd");
    check(State::Up, 3, 3, "!!!!!!!!!!", "uuuuuuuuuu");
    check(State::Down, 3, 3, "+!+!+", "ddddr");
}

#[test]
fn what_is_doubted_takes_nothing_down() {
    check(State::Unknown, 3, 3, "~~-", "??d");
    check(State::Up, 3, 3, "~~~~~+", "sssssu");
    check(State::Up, 1, 3, "~-", "sd");
    // Once it counts again the next failure is enough.
    check(State::Up, 3, 3, "--~~~-", "sssssd");
    check(State::Down, 3, 1, "+~~~~+", "rssssr");
    check(State::Up, 3, 3, "-+-+-+-+-+~+-", "susususususud");
    check(State::Down, 3, 3, "~~", "dd");
    // Unproven is doubtful, but not to the sixth fault.
    check(State::Up, 1, 3, "?-", "sd");
    check(State::Up, 3, 3, "????-", "ssssd");
    check(State::Up, 3, 3, "?+?+?+?+?+?", "sususususud");
}

#[test]
fn a_fall_that_is_doubted_later_is_taken_back_once() {
    let mut machine = Machine::restored(State::Up, Duration::ZERO);
    assert_eq!(machine.reprieve(secs(1)), None);
    assert_eq!(spell(&mut machine, &DEFAULT, "---"), "ssd");
    assert_eq!(machine.penalty(secs(3)), FALL_PENALTY);
    assert_eq!(machine.reprieve(secs(3)), Some(Transition { from: State::Down, to: State::Suspect }));
    assert_eq!((machine.penalty(secs(3)), machine.reprieve(secs(3))), (0, None));
    assert_eq!(spell(&mut machine, &DEFAULT, "~-"), "sd");
    let mut never_up = Machine::new(Duration::ZERO);
    assert_eq!(spell(&mut never_up, &DEFAULT, "-"), "d");
    assert_eq!(never_up.reprieve(secs(2)), None, "the first result decides");
}

/// A check that falls at these seconds and passes every ten seconds in between: until when the last fall keeps it down.
fn kept_down(falls: &[u64]) -> Option<Duration> {
    let thresholds = Thresholds { fall: 1, rise: 1, ..DEFAULT };
    let mut machine = Machine::restored(State::Up, Duration::ZERO);
    for at in falls {
        machine.step(&thresholds, true, Around { needed: true, ..Around::default() }, secs(at - 1));
        let fallen = machine.step(&thresholds, false, Around::default(), secs(*at));
        assert_eq!(fallen.map(|step| step.to), Some(State::Down));
    }
    machine.suppressed_until(secs(falls[falls.len() - 1]))
}

#[test]
fn who_falls_often_is_kept_down_as_long_as_the_arithmetic_says() {
    // The example of algorithms §3.4: three falls within 200 s come to 2,424, which is 480 s above 800.
    for (falls, for_secs) in [
        (&[100][..], None),
        (&[100, 200], None),
        (&[100, 200, 300], Some(480)),
        (&[100, 500, 900], None),
        (&[100, 110, 120, 130, 140], Some(773)),
        (&[10; 40], Some(1200)),
    ] {
        let last = secs(falls[falls.len() - 1]);
        let found = kept_down(falls).map(|until| (until - last).as_secs_f64());
        assert!(found.map(f64::round) == for_secs.map(f64::from), "{falls:?}: {found:?}, not {for_secs:?}");
    }
}

#[test]
fn who_is_kept_down_comes_back_with_time_or_when_needed() {
    let thresholds = Thresholds { fall: 1, rise: 2, ..DEFAULT };
    let fallen = || {
        let mut machine = Machine::restored(State::Up, Duration::ZERO);
        assert_eq!(spell(&mut machine, &thresholds, "-++-++-"), "ddrddrd");
        machine
    };
    let mut machine = fallen();
    let until = machine.suppressed_until(secs(7)).expect("kept down");
    for at in [17, 27, 100, until.as_secs()] {
        assert_eq!(machine.step(&thresholds, true, Around::default(), secs(at)), None, "at {at}");
    }
    assert!(machine.waits_for_its_penalty(&thresholds, secs(100)));
    let back = machine.step(&thresholds, true, Around::default(), until + secs(1));
    assert_eq!(back, Some(Transition { from: State::Down, to: State::Ramp }));
    let mut machine = fallen();
    assert_eq!(machine.step(&thresholds, true, Around { needed: true, ..Around::default() }, secs(17)), None, "two successes first");
    assert!(machine.step(&thresholds, true, Around { needed: true, ..Around::default() }, secs(27)).is_some());
    // A failure meanwhile starts the count again.
    let mut machine = fallen();
    machine.step(&thresholds, true, Around::default(), secs(17));
    machine.step(&thresholds, true, Around::default(), secs(27));
    machine.step(&thresholds, false, Around::default(), secs(37));
    assert_eq!(machine.step(&thresholds, true, Around { needed: true, ..Around::default() }, secs(47)), None);
}

#[test]
fn penalties_of_an_earlier_run_go_on_to_shrink() {
    let fallen = |state: State, penalty: u32, age: u64| {
        let mut machine = Machine::restored(state, secs(10));
        machine.restore_penalty(penalty, secs(age), secs(10));
        machine
    };
    // Three falls within 200 s, the last a minute before the restart: 420 of 480 seconds are left.
    let machine = fallen(State::Down, 2_424, 60);
    let until = machine.suppressed_until(secs(10)).expect("kept down");
    assert_eq!((machine.penalty(secs(10)), (until - secs(10)).as_secs_f64().round()), (2_110, 420.0));
    assert_eq!(fallen(State::Down, 2_424, 481).suppressed_until(secs(10)), None);
    assert_eq!(fallen(State::Down, 1_999, 0).suppressed_until(secs(10)), None);
    // One that is back already adds its next fall to it.
    let mut back = fallen(State::Up, 2_424, 60);
    assert_eq!(back.suppressed_until(secs(10)), None);
    assert_eq!(spell(&mut back, &DEFAULT, "---"), "ssd");
    assert!(back.penalty(secs(13)) > 3_000 && back.suppressed_until(secs(13)).is_some());
    assert_eq!(fallen(State::Down, u32::MAX, 0).penalty(secs(10)), MAX_PENALTY);
    assert_eq!((fallen(State::Down, 0, 5).last_fall(), Machine::new(secs(1)).last_fall()), (None, None));
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
    machine.step(&DEFAULT, false, Around::default(), secs(33));
    assert_eq!(machine.state(), State::Suspect);
    assert!((machine.ramp_share(secs(63)) - 0.5).abs() < 1e-9, "suspect does not jump to full weight");
    assert_eq!(machine.step(&DEFAULT, true, Around::default(), secs(63)), Some(Transition { from: State::Suspect, to: State::Ramp }));
    assert!((machine.ramp_share(secs(63)) - 0.5).abs() < 1e-9);
    machine.step(&DEFAULT, false, Around::default(), secs(120));
    assert_eq!(machine.tick(secs(130)), None, "the ramp is over but the fault is not");
    assert_eq!(machine.ramp_share(secs(130)), 1.0);
    assert_eq!(machine.step(&DEFAULT, true, Around::default(), secs(131)), Some(Transition { from: State::Suspect, to: State::Up }));
}

#[test]
fn a_late_result_sees_that_the_ramp_is_over() {
    let mut machine = Machine::restored(State::Down, Duration::ZERO);
    spell(&mut machine, &DEFAULT, "+++");
    assert_eq!(machine.step(&DEFAULT, true, Around::default(), secs(200)), Some(Transition { from: State::Ramp, to: State::Up }));
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
        if let Some(Transition { to: State::Down, .. }) = machine.step(thresholds, passed, Around::default(), start + took) {
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
            let transition = machine.step(&thresholds, passed, Around::default(), now);
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
