//! How fast faults and their ends are seen, held against the formulas: `I/2 + t + (F − 1)·max(i, t)` and its worst, and what happens to targets that
//! come and go.

use std::fmt::Write;

use super::super::schedule::Chance;
use super::*;
use crate::health::machine::{HALF_LIFE, REUSE_BELOW, SUPPRESS_AT};

/// Endpoints of one run. They fail at moments of their own: the mean of so many is within a second of that of all.
const ENDPOINTS: u16 = 600;
/// Jitter of the schedule.
const JITTER: f64 = 0.1;

/// A monitor, in seconds.
struct Setting {
    name: &'static str,
    interval: f64,
    timeout: f64,
    fast: f64,
    fall: f64,
    rise: f64,
}

const SETTINGS: [Setting; 4] = [
    Setting { name: "default", interval: 10.0, timeout: 3.0, fast: 2.0, fall: 3.0, rise: 3.0 },
    Setting { name: "quick", interval: 5.0, timeout: 2.0, fast: 1.0, fall: 3.0, rise: 3.0 },
    Setting { name: "calm", interval: 30.0, timeout: 5.0, fast: 5.0, fall: 3.0, rise: 3.0 },
    Setting { name: "hasty", interval: 10.0, timeout: 3.0, fast: 2.0, fall: 1.0, rise: 3.0 },
];

impl Setting {
    fn text(&self) -> String {
        let Setting { interval, timeout, fast, fall, rise, .. } = self;
        format!("interval = \"{interval}s\"\ntimeout = \"{timeout}s\"\nfast = \"{fast}s\"\nfall = {fall}\nrise = {rise}")
    }

    /// From the fault to `down`, mean and worst, where a failed check takes `took`; intervals longer by `jitter`.
    fn detection(&self, took: f64, jitter: f64) -> (f64, f64) {
        let (interval, again) = (self.interval * (1.0 + jitter), (self.fast * (1.0 + jitter)).max(took));
        let confirm = took + (self.fall - 1.0) * again;
        (interval / 2.0 + confirm, interval + confirm)
    }

    /// From the mending to `ramp`: the next check, and `rise - 1` more.
    fn recovery(&self, jitter: f64) -> (f64, f64) {
        let interval = self.interval * (1.0 + jitter);
        let quick = QUICK.as_secs_f64();
        (interval / 2.0 + quick + (self.rise - 1.0) * interval, self.rise * interval + quick)
    }
}

/// Mean and longest.
fn summary(times: &[f64]) -> (f64, f64) {
    (times.iter().sum::<f64>() / times.len() as f64, times.iter().copied().fold(0.0, f64::max))
}

/// Lets every endpoint fail at a moment of its own, and later mends it: what detection and recovery take.
fn measure(setting: &Setting, fault: Target, seed: u64) -> ((f64, f64), (f64, f64)) {
    let addresses: Vec<IpAddr> = (0..ENDPOINTS).map(|host| [10, 1, (host / 250) as u8, (host % 250) as u8].into()).collect();
    // Not the chance that the schedule has.
    let mut chance = Chance(!seed);
    let mut moment = |from: f64| -> HashMap<IpAddr, Duration> {
        addresses.iter().map(|ip| (*ip, Duration::from_secs_f64(from + 4.0 * setting.interval * chance.unit()))).collect()
    };
    // The longest worst is 45 s.
    let fails = moment(60.0);
    let mends = moment(120.0 + 4.0 * setting.interval);
    let (from, until) = (fails.clone(), mends.clone());
    let course = move |ip: IpAddr, now: Duration| if now >= from[&ip] && now < until[&ip] { fault } else { Target::Well };
    // All in one place: a crowd of them is no reason for doubt.
    let mut simulation = Simulation::start(&zone(&setting.text(), &[("one", "eu", &addresses)], ""), "", seed, course);
    simulation.run_until(Duration::from_secs_f64(120.0 + 12.0 * setting.interval + 10.0));
    let (downs, ramps) = (simulation.first(State::Down, Duration::ZERO), simulation.first(State::Ramp, Duration::ZERO));
    let since = |found: &HashMap<IpAddr, Duration>, began: &HashMap<IpAddr, Duration>| {
        let times: Vec<f64> = addresses.iter().map(|ip| (found[ip].as_secs_f64()) - began[ip].as_secs_f64()).collect();
        assert!(times.iter().all(|time| *time >= 0.0), "{}: nothing falls before it fails", setting.name);
        summary(&times)
    };
    (since(&downs, &fails), since(&ramps, &mends))
}

#[test]
fn faults_and_their_ends_are_seen_as_fast_as_the_formula_says() {
    let mut table = "| setting | fault | down after: formula, mean / worst | simulated | back after: formula, mean / worst | simulated |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for (seed, setting) in (1..).zip(&SETTINGS) {
        let slow = Target::Slow(Duration::from_secs_f64(setting.timeout + 0.5));
        let all = [("refused", Target::Refused), ("status 503", Target::Error), ("blackholed", Target::Blackholed), ("slower than `timeout`", slow)];
        // What the fault is makes no difference but for the time it takes: two kinds are enough of the other settings.
        let faults = if setting.name == "default" { &all[..] } else { &[all[0], all[2]][..] };
        for (fault, target) in faults {
            let took = target.check(Duration::from_secs_f64(setting.timeout)).1.as_secs_f64();
            let (down, back) = measure(setting, *target, seed);
            for (what, found, formula, jittered) in [
                ("down", down, setting.detection(took, 0.0), setting.detection(took, JITTER)),
                ("back", back, setting.recovery(0.0), setting.recovery(JITTER)),
            ] {
                let name = format!("{}, {fault}, {what}: {found:?}, formula {formula:?}", setting.name);
                assert!((found.0 - formula.0).abs() < 1.0, "mean of {name}");
                assert!(found.1 > formula.1 - 1.0 - setting.interval * JITTER, "worst of {name}");
                assert!(found.1 <= jittered.1 + 0.001, "worst of {name}, with jitter {jittered:?}");
            }
            let (formula, recovery) = (setting.detection(took, 0.0), setting.recovery(0.0));
            let pair = |(mean, worst): (f64, f64)| format!("{mean:.1} / {worst:.1} s");
            writeln!(table, "| {} | {fault} | {} | {} | {} | {} |", setting.name, pair(formula), pair(down), pair(recovery), pair(back))
                .expect("text");
        }
    }
    assert_documented(&table);
}

#[test]
fn what_answers_just_in_time_is_well() {
    let target = Target::Slow(Duration::from_millis(2_900));
    let mut simulation = Simulation::start(&zone("", &[("one", "eu", &[at(1, 1)])], ""), "", 1, move |_, _| target);
    simulation.run_until(secs(3_600));
    assert!(simulation.times(at(1, 1), State::Suspect).is_empty() && simulation.state(at(1, 1)) == State::Up);
}

/// Down and up by turns until `until`, then well.
fn flapper(down: u64, up: u64, until: u64) -> impl Fn(IpAddr, Duration) -> Target {
    move |ip, now| match now.as_secs() {
        now if ip == at(1, 1) && (100..until).contains(&now) && (now - 100) % (down + up) < down => Target::Refused,
        _ => Target::Well,
    }
}

/// Penalty after falls at these moments, and until when that keeps down: the formula of algorithms §3.4.
fn penalty(falls: &[Duration]) -> (f64, Duration) {
    let halved = |penalty: f64, since: Duration| penalty * (-since.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
    let (mut sum, mut last) = (0.0, falls[0]);
    for fall in falls {
        sum = halved(sum, *fall - last) + 1000.0;
        last = *fall;
    }
    (sum, last + HALF_LIFE.mul_f64((sum / f64::from(REUSE_BELOW)).log2().max(0.0)))
}

#[test]
fn who_comes_and_goes_is_kept_out_for_as_long_as_the_formula_says() {
    // 40 s down, 40 s up, for twenty minutes: 15 times.
    for seed in 1..=10 {
        let zone = zone("", &[("one", "eu", &[at(1, 1), at(1, 2)])], "");
        let mut simulation = Simulation::start(&zone, "", seed, flapper(40, 40, 1_300)).watch("app.example.com");
        simulation.run_until(secs(3_600));
        let (falls, ramps) = (simulation.times(at(1, 1), State::Down), simulation.times(at(1, 1), State::Ramp));
        assert!((4..=6).contains(&falls.len()), "seed {seed}: falls {falls:?}");
        assert_eq!(ramps.len(), falls.len(), "seed {seed}: it is back in the end");
        let (sum, until) = penalty(&falls);
        assert!(sum >= f64::from(SUPPRESS_AT), "seed {seed}: {sum}");
        // It is back with the first check, or the end of its run of passes, behind that moment.
        let back = *ramps.last().expect("back");
        let steady = until.max(secs(1_300) + secs(33));
        assert!(back >= until && back <= steady + secs(12), "seed {seed}: back at {back:?}, kept down until {until:?}");
        // So users lose it five times or so, not fifteen.
        let lost = simulation.answers.windows(2).filter(|pair| pair[0].1.contains(&at(1, 1)) && !pair[1].1.contains(&at(1, 1))).count();
        assert_eq!(lost, falls.len(), "seed {seed}: {:?}", simulation.answers);
    }
}

#[test]
fn single_failures_that_come_again_end_down_on_credit() {
    // Gone for 3 s every 30 s: rarely seen twice in a row, one check in four fails.
    for seed in 1..=10 {
        let zone = zone("interval = \"3s\"\ntimeout = \"1s\"", &[("one", "eu", &[at(1, 1), at(1, 2)])], "");
        let mut simulation = Simulation::start(&zone, "", seed, flapper(3, 12, 10_000));
        simulation.run_until(secs(1_000));
        let falls = simulation.times(at(1, 1), State::Down);
        let first = falls.first().expect("it falls").as_secs_f64();
        // Five to ten faults: the sixth on credit, of which each fifteen seconds without a fault pays half one back.
        assert!((100.0 + 5.0 * 15.0..100.0 + 12.0 * 15.0).contains(&first), "seed {seed}: {falls:?}");
    }
}

#[test]
fn a_flapper_is_let_back_when_nothing_else_is_left() {
    for seed in 1..=10 {
        let flaps = flapper(40, 40, 500);
        let course = move |ip: IpAddr, now: Duration| if ip == at(1, 2) && now >= secs(560) { Target::Refused } else { flaps(ip, now) };
        let zone = zone("", &[("one", "eu", &[at(1, 1)]), ("two", "us", &[at(1, 2)])], "");
        let mut simulation = Simulation::start(&zone, "", seed, course).watch("app.example.com");
        simulation.run_until(secs(559));
        assert_eq!(simulation.state(at(1, 1)), State::Down, "seed {seed}: kept down");
        simulation.run_until(secs(700));
        let fell = simulation.times(at(1, 2), State::Down)[0];
        // With its whole weight: like the other one it was given to clients while both were down.
        let back = *simulation.times(at(1, 1), State::Up).last().expect("back");
        assert!(back >= fell && back <= fell + secs(12), "seed {seed}: needed from {fell:?}, back at {back:?}");
        assert_eq!(simulation.answers.last().map(|(_, found)| found.clone()), Some(vec![at(1, 1)]));
    }
}
