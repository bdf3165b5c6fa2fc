//! False alarms: checks that are lost by chance, for simulated years. The count is held against two predictions that know nothing of the machine: the
//! formula `p^F · 86,400 / I`, and a chain of states that reckons with faults on credit, too.

use std::fmt::Write;

use super::super::schedule::Chance;
use super::*;
use crate::health::Thresholds;
use crate::health::machine::{Around, CREDIT_LIMIT, LEAK_SUCCESSES, Machine, next_start};

const DAY: f64 = 86_400.0;
const TIMEOUT: Duration = secs(3);
/// As in the schedule.
const JITTER: f64 = 0.1;

fn thresholds(fall: u8) -> Thresholds {
    Thresholds { interval: secs(10), fast: secs(2), fall, rise: 3 }
}

/// Falls of one endpoint in so many days where each check is lost with this chance, alone.
fn falls(fall: u8, loss: f64, days: u32, seed: u64) -> u32 {
    let (thresholds, mut chance) = (thresholds(fall), Chance(seed));
    let mut machine = Machine::restored(State::Up, Duration::ZERO);
    let (mut start, mut falls) = (Duration::ZERO, 0);
    while start < secs(86_400) * days {
        let passed = chance.unit() >= loss;
        let took = if passed { QUICK } else { TIMEOUT };
        let step = machine.step(&thresholds, passed, Around::default(), start + took);
        falls += u32::from(step.is_some_and(|step| step.to == State::Down));
        let factor = 1.0 + JITTER * (2.0 * chance.unit() - 1.0);
        start = next_start(start, took, machine.next_delay(&thresholds).mul_f64(factor));
    }
    falls
}

/// What the chain is in: failures in a row, faults on credit, successes since the last was paid back; or down with successes in a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Up { run: u8, credit: u8, paid: u8 },
    Down { run: u8 },
}

/// The next state, and whether it fell on the way. Written from the words of `docs/health.md`.
fn next(at: At, passed: bool, fall: u8, with_credit: bool) -> (At, bool) {
    match (at, passed) {
        (At::Down { run }, true) if run + 1 == 3 => (At::Up { run: 0, credit: 0, paid: 0 }, false),
        (At::Down { run }, true) => (At::Down { run: run + 1 }, false),
        (At::Down { .. }, false) => (At::Down { run: 0 }, false),
        (At::Up { credit: 0, paid, .. }, true) => (At::Up { run: 0, credit: 0, paid }, false),
        (At::Up { credit, paid, .. }, true) if paid + 1 == LEAK_SUCCESSES => (At::Up { run: 0, credit: credit - 1, paid: 0 }, false),
        (At::Up { credit, paid, .. }, true) => (At::Up { run: 0, credit, paid: paid + 1 }, false),
        (At::Up { run, credit, paid }, false) => {
            let (run, credit) = (run + 1, credit + u8::from(run == 0 && with_credit));
            if run >= fall || credit >= CREDIT_LIMIT { (At::Down { run: 0 }, true) } else { (At::Up { run, credit, paid }, false) }
        }
    }
}

/// Falls a day, from where the chain is in the long run.
fn predicted(fall: u8, loss: f64, with_credit: bool) -> f64 {
    let mut odds = HashMap::from([(At::Up { run: 0, credit: 0, paid: 0 }, 1.0)]);
    let mut found = 0.0;
    for _ in 0..4_000 {
        let (mut after, mut fell, mut took) = (HashMap::new(), 0.0, 0.0);
        for (at, odds) in &odds {
            for (passed, chance) in [(true, 1.0 - loss), (false, loss)] {
                let (to, falls) = next(*at, passed, fall, with_credit);
                let weight = odds * chance;
                *after.entry(to).or_insert(0.0) += weight;
                fell += weight * f64::from(u8::from(falls));
                // From the start of this check to the start of the next: fast while suspect, but never before it has ended.
                let wait: f64 = if matches!(to, At::Up { run: 1.., .. }) { 3.0 } else { 10.0 };
                took += weight * wait;
            }
        }
        odds = after;
        found = fell / took * DAY;
    }
    found
}

#[test]
fn false_alarms_are_as_rare_as_the_arithmetic_says() {
    let mut table =
        "| checks lost | `fall` | formula, a day | with faults on credit | simulated | simulated time, one endpoint |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (seed, loss, fall, days) in [(1, 0.01, 1, 28), (2, 0.01, 2, 364), (3, 0.01, 3, 3640), (4, 0.05, 1, 28), (5, 0.05, 2, 28), (6, 0.05, 3, 364)] {
        let found = falls(fall, loss, days, seed);
        let formula = loss.powi(fall.into()) * DAY / 10.0;
        let chain = predicted(fall, loss, true);
        let (days, count) = (f64::from(days), f64::from(found));
        // Falls by chance scatter like their square root. Who falls often is kept down for a while, and falls less in that time.
        let expected = chain * days;
        let is_damped = loss > 0.01 && fall == 1;
        let least = if is_damped { 0.0 } else { expected - 3.0 * expected.sqrt() - 0.12 * expected };
        let most = expected + 3.0 * expected.sqrt() + 0.02 * expected;
        assert!((least..=most).contains(&count), "{loss}, {fall}: {found} falls, expected {expected:.1}");
        // The formula starts a row at every check; a check in a row starts none, and the credit adds its own.
        let plain = predicted(fall, loss, false);
        assert!((plain / formula - 1.0).abs() < 0.2, "{loss}, {fall}: {plain} a day without credit, {formula} by the formula");
        let weeks = days / 7.0;
        writeln!(table, "| {} % | {fall} | {formula:.3} | {chain:.3} | {:.3} | {weeks:.0} weeks |", loss * 100.0, count / days).expect("text");
    }
    assert_documented(&table);
}

#[test]
fn losses_alone_never_freeze_and_rarely_withdraw() {
    // A hundred endpoints in four regions for four hours through the whole engine.
    let pools: Vec<(String, String, Vec<IpAddr>)> =
        (1..=4).map(|net| (format!("p{net}"), format!("r{net}"), (1..=25).map(|host| at(net, host)).collect())).collect();
    let pools: Vec<(&str, &str, &[IpAddr])> = pools.iter().map(|(name, region, all)| (&**name, &**region, &**all)).collect();
    let course = |ip: IpAddr, now: Duration| {
        let IpAddr::V4(v4) = ip else { return Target::Well };
        let mut chance = Chance(u64::from(v4.to_bits()) << 32 ^ now.as_nanos() as u64);
        if chance.unit() < 0.01 { Target::Blackholed } else { Target::Well }
    };
    let mut simulation = Simulation::start(&zone("", &pools, ""), "", 7, course).watch("app.example.com");
    simulation.run_until(secs(4 * 3_600));
    assert!(simulation.checks > 130_000, "{}", simulation.checks);
    assert_eq!(simulation.freezes, Vec::<Duration>::new());
    let falls = simulation.changes.iter().filter(|change| change.to == State::Down).count();
    // 100 endpoints · 1,440 checks · 10⁻⁶ = 0.14.
    assert!(falls <= 2, "{falls} falls");
}
