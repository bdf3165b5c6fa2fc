//! The closed loop: demand, resolvers that keep answers for their TTL and some that keep them ten times as long, reports, smoothing, steps. A second at a
//! time, so that a simulated day takes milliseconds.
//!
//! The tables in `docs/signals.md` are what `cargo test --lib policy::balance` finds; when they differ, it shows what to put there.

use std::fmt::Write;
use std::time::Duration;

use super::{Balanced, LEAST_BALANCED, Measure, Pace, Shed, balance, paced};
use crate::health::passive::Smooth;

/// Share of resolvers that keep answers too long, and how much too long (Bhowmick et al., PAM 2023: 8.74 % of resolvers extend TTLs).
const VIOLATORS: f64 = 0.09;
const TOO_LONG: usize = 10;
const SMOOTH: Duration = Duration::from_secs(15);
const BETWEEN_REPORTS: u64 = 10;
/// So much of the target counts as there.
const SETTLED: f64 = 0.05;
const HOURS: u64 = 6;

/// What resolvers do with a share over time: they ask again when what they have has run out, each at a time of its own.
struct Caches {
    ttl: usize,
    /// Sums of the shares answered up to each second, so that a mean over any time is two look-ups.
    sums: Vec<f64>,
}

impl Caches {
    /// They have known nothing but `share` for long.
    fn new(ttl: usize, share: f64) -> Caches {
        Caches { ttl, sums: (0..=(ttl * TOO_LONG)).map(|at| at as f64 * share).collect() }
    }

    /// One more second of answering with this share; what they send.
    fn second(&mut self, share: f64) -> f64 {
        self.sums.push(self.sums[self.sums.len() - 1] + share);
        let mean = |over: usize| (self.sums[self.sums.len() - 1] - self.sums[self.sums.len() - 1 - over]) / over as f64;
        (1.0 - VIOLATORS) * mean(self.ttl) + VIOLATORS * mean(self.ttl * TOO_LONG)
    }
}

/// How a load went.
struct Course {
    /// By the second.
    loads: Vec<f64>,
    target: f64,
}

impl Course {
    /// Seconds until it stays within [`SETTLED`] of its target.
    fn settles(&self) -> Option<usize> {
        let outside = |load: &f64| (load / self.target - 1.0).abs() > SETTLED;
        let last = self.loads.iter().rposition(outside).map_or(0, |at| at + 1);
        (last < self.loads.len()).then_some(last)
    }

    /// How far it goes below its target, in percent of it.
    fn undershoot(&self) -> f64 {
        let least = self.loads.iter().copied().fold(f64::MAX, f64::min);
        ((1.0 - least / self.target) * 100.0).max(0.0)
    }

    /// The least and the most of the last hour.
    fn swing(&self) -> (f64, f64) {
        let last = &self.loads[self.loads.len() - 3600..];
        (last.iter().copied().fold(f64::MAX, f64::min), last.iter().copied().fold(0.0, f64::max))
    }
}

/// A pool with `demand` times its capacity, from one second to the next.
fn shed(law: Shed, demand: f64, ttl: u64, gain: f64) -> Course {
    let pace = Pace::of(Duration::from_secs(ttl), Duration::from_secs(BETWEEN_REPORTS), SMOOTH);
    // Another gain is another TTL to the law.
    let pace = Pace { ttl: (pace.ttl + 2 * pace.delay).div_f64(gain), delay: Duration::ZERO };
    let (mut caches, mut seen) = (Caches::new(ttl as usize, 1.0), Smooth::default());
    let (mut wanted, mut kept, mut loads) = (1.0, 1.0, Vec::new());
    for now in 0..HOURS * 3600 {
        let load = demand * caches.second(kept);
        loads.push(load);
        if now % BETWEEN_REPORTS == 0 {
            seen.add(load, SMOOTH, Duration::from_secs(now));
        }
        // A step is not at the time of a report.
        if now % 10 == 5 {
            wanted = law.kept(wanted, seen.value().expect("a report"), &pace);
            kept = paced(kept, wanted, 0.0, 1.0);
        }
    }
    let target = if let Shed::Target(percent) = law { f64::from(percent) / 100.0 } else { 1.0 };
    Course { loads, target }
}

/// Pools with weights 1, of these capacities, with so much demand in all; `measure` of a load in proportion to its capacity. The loads of all.
fn balanced(capacities: &[f64], demand: f64, ttl: u64, kind: Measure, measure: impl Fn(usize, f64) -> f64) -> Vec<Course> {
    let pace = Pace::of(Duration::from_secs(ttl), Duration::from_secs(BETWEEN_REPORTS), SMOOTH);
    let count = capacities.len();
    let mut caches: Vec<Caches> = (0..count).map(|_| Caches::new(ttl as usize, 1.0 / count as f64)).collect();
    let (mut seen, mut published, mut courses) = (vec![Smooth::default(); count], vec![1.0; count], vec![Vec::new(); count]);
    let mut all = vec![Balanced { weight: 1.0, factor: 1.0, measured: None }; count];
    for now in 0..HOURS * 3600 {
        let sum: f64 = published.iter().sum();
        for at in 0..count {
            let load = demand * caches[at].second(published[at] / sum) / capacities[at];
            courses[at].push(load);
            if now % BETWEEN_REPORTS == 0 {
                seen[at].add(measure(at, load), SMOOTH, Duration::from_secs(now));
            }
            all[at].measured = seen[at].value();
        }
        if now % 10 == 5 {
            balance(&mut all, kind, &pace);
            published.iter_mut().zip(&all).for_each(|(published, one)| *published = paced(*published, one.factor, LEAST_BALANCED, 1.0));
        }
    }
    let total: f64 = capacities.iter().sum();
    courses.into_iter().map(|loads| Course { loads, target: demand / total }).collect()
}

/// `docs/signals.md` has these lines, in this order.
fn is_in_the_docs(table: &str) {
    assert!(include_str!("../../../docs/signals.md").contains(table), "docs/signals.md has another table than this:\n{table}");
}

#[test]
fn a_pool_held_at_a_target_settles_and_does_not_swing() {
    let mut table =
        String::from("| TTL | demand | settles within 5 % | formula: at most | below its target | in the last hour |\n|---|---|---|---|---|---|\n");
    for ttl in [20, 60, 300] {
        for demand in [1.2, 1.5, 2.5] {
            let course = shed(Shed::Target(85), demand, ttl, 1.0);
            let (settles, (least, most)) = (course.settles().expect("it settles"), course.swing());
            let formula = 4 * (ttl + 50);
            let (undershoot, percent) = (course.undershoot(), |load: f64| (load * 100.0).round());
            let _ = writeln!(
                table,
                "| {ttl} s | {:.0} % | {settles} s | {formula} s | {undershoot:.1} % | {:.0} to {:.0} % |",
                percent(demand),
                percent(least),
                percent(most)
            );
            assert!(undershoot <= if demand <= 1.5 { 5.0 } else { 10.0 }, "{ttl} {demand}: {undershoot}");
            assert!(most - least <= 0.03 && (most / 0.85 - 1.0).abs() < 0.03, "{ttl} {demand}: {least} to {most}");
            if demand <= 1.5 {
                assert!(settles as u64 <= formula, "{ttl} {demand}: {settles}");
            }
        }
    }
    is_in_the_docs(&table);
}

#[test]
fn more_gain_overshoots() {
    let mut table =
        String::from("| gain, of 1 / (TTL + 2 · delay) | settles within 5 % | below its target | in the last hour |\n|---|---|---|---|\n");
    let mut before = 0.0;
    for gain in [0.5, 1.0, 2.0, 4.0, 11.0] {
        let course = shed(Shed::Target(85), 1.5, 60, gain);
        let (least, most) = course.swing();
        let after = course.settles().map_or("never".to_string(), |after| format!("{after} s"));
        let _ = writeln!(table, "| {gain} | {after} | {:.0} % | {:.0} to {:.0} % |", course.undershoot(), least * 100.0, most * 100.0);
        assert!(course.undershoot() >= before, "{gain}: {}", course.undershoot());
        before = course.undershoot();
    }
    assert!(before > 30.0, "{before}");
    is_in_the_docs(&table);
}

#[test]
fn narrow_watermarks_swing_and_wide_ones_do_not() {
    let mut table = String::from("| watermarks | demand | TTL 20 s | TTL 60 s | TTL 300 s | warned of at load |\n|---|---|---|---|---|---|\n");
    for (low, high, demand) in [(85, 90, 1.5), (80, 90, 1.5), (70, 90, 1.5), (50, 100, 1.0), (40, 120, 1.5)] {
        let law = Shed::Marks { low, high };
        let swings = [20, 60, 300].map(|ttl| shed(law, demand, ttl, 1.0).swing());
        let cell = |(least, most): (f64, f64)| format!("{:.0} to {:.0} %", least * 100.0, most * 100.0);
        let _ = writeln!(
            table,
            "| {low} and {high} % | {:.0} % | {} | {} | {} | {} |",
            demand * 100.0,
            cell(swings[0]),
            cell(swings[1]),
            cell(swings[2]),
            if law.is_narrow(1.0) { "yes" } else { "no" }
        );
        // Steps of a tenth at most tame what is between; what is warned of may swing, what is not never does.
        let widest = swings.iter().map(|(least, most)| most - least).fold(0.0, f64::max);
        assert!(law.is_narrow(demand) || widest < 0.05, "{low} {high}: {swings:?}");
        assert!(high - low > 10 || widest > 0.2, "{low} {high}: {swings:?}");
    }
    is_in_the_docs(&table);
}

#[test]
fn pools_of_a_policy_are_loaded_alike_without_swinging() {
    let mut table = String::from("| policy | TTL | settles within 5 % | in the last hour |\n|---|---|---|---|\n");
    for ttl in [20, 60, 300] {
        // Three pools of which one can carry four times as much as another, with equal weights.
        let courses = balanced(&[100.0, 200.0, 400.0], 490.0, ttl, Measure::Load, |_, load| load);
        let settles = courses.iter().map(|course| course.settles().expect("it settles")).max().expect("three");
        let swing = courses.iter().map(Course::swing).fold((f64::MAX, 0.0_f64), |all, one| (all.0.min(one.0), all.1.max(one.1)));
        let _ = writeln!(table, "| `least-loaded` | {ttl} s | {settles} s | loads of {:.0} to {:.0} % |", swing.0 * 100.0, swing.1 * 100.0);
        assert!(swing.1 - swing.0 < 0.05, "{ttl}: {swing:?}");
    }
    for ttl in [20, 60, 300] {
        // 20 ms and 35 ms without load, and queues: as load nears what a pool can carry, its time grows without end.
        let time = |at: usize, load: f64| [20.0, 35.0][at] / (1.0 - load.min(0.98));
        let courses = balanced(&[300.0, 300.0], 400.0, ttl, Measure::Latency, time);
        let swings: Vec<(f64, f64)> = courses.iter().map(Course::swing).collect();
        let times = swings.iter().enumerate().map(|(at, (least, most))| (time(at, *least), time(at, *most)));
        let (least, most) = times.fold((f64::MAX, 0.0_f64), |all, one| (all.0.min(one.0), all.1.max(one.1)));
        let ends = |course: &Course| course.loads[course.loads.len() - 1];
        let settles = courses.iter().map(|course| Course { loads: course.loads.clone(), target: ends(course) }.settles().unwrap_or(0)).max();
        let _ = writeln!(table, "| `least-response-time` | {ttl} s | {} s | times of {least:.0} to {most:.0} ms |", settles.unwrap_or(0));
        assert!(most / least < 1.15 && swings.iter().all(|(least, most)| most - least < 0.03), "{ttl}: {swings:?}, {least} to {most} ms");
    }
    is_in_the_docs(&table);
}
