//! When each check runs next. Pure: times and chance come in, the next check to begin comes out; the sockets are elsewhere.
//!
//! ```text
//!            replace (new)            take                      finished
//!   ──────▶ WAITING for its time ──▶ RUNNING ──▶ the outcome ──▶ WAITING …
//!                 │   ▲ due, but all places are taken: QUEUED       │
//!                 └───┴───────── replace (gone) ────────────────────┴──▶ forgotten
//! ```
//! Checks that hung last time may take only a part of the places ([`slow_places`]), so that however many targets are dead, those that answer are
//! checked on time. They cost a descriptor and no processor, so there may be many of them; of the others no more than [`LEAST_PLACES`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use crate::control::api::CheckSpec;
use crate::health::machine::next_start;

/// The fewest checks at a time that there is room for: half of the files that a process usually may have open. And the most of those that are not
/// known to hang: with more under way than the processor can serve within their timeouts, all would fail for it.
pub(super) const LEAST_PLACES: usize = 512;

/// The most: nearly enough for ten thousand endpoints that all hang for three seconds of ten; some hundred megabytes if they hang in TLS.
const MOST_PLACES: usize = 4096;

/// Of the files that a process may have open, checks take one in so many; connections of clients may take half.
const FILES_SHARE: u64 = 4;

/// How many checks may run at a time where so many files may be open.
pub fn places(files: Option<u64>) -> usize {
    let share = files.map_or(LEAST_PLACES, |files| usize::try_from(files / FILES_SHARE).unwrap_or(MOST_PLACES));
    share.clamp(LEAST_PLACES, MOST_PLACES)
}

/// The part of all places that checks which hung last time may take.
const SLOW_SHARE: f64 = 0.75;

/// The second check of an endpoint comes after this part of its interval at least; where in the interval decides chance, which spreads the phases.
const SECOND_MIN: f64 = 0.1;

/// Identity of an entry; never used again.
pub(super) type Id = u64;

/// How a check went, as far as the schedule cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// Start to start, before jitter.
    pub(super) delay: Duration,
    /// It hung.
    pub(super) slow: bool,
}

#[derive(Debug)]
struct Entry {
    spec: Arc<CheckSpec>,
    /// When the check that runs or comes next should begin.
    due: Duration,
    /// Start of the check that runs or ran last.
    began: Duration,
    /// Has not finished once.
    is_new: bool,
    /// Hung last time.
    slow: bool,
}

/// All checks and their times. Times are since the prober's start.
#[derive(Debug)]
pub(super) struct Schedule {
    options: Options,
    chance: Chance,
    last_id: Id,
    ids: HashMap<Arc<CheckSpec>, Id>,
    entries: HashMap<Id, Entry>,
    /// May hold entries that are gone: they are skipped.
    waiting: BinaryHeap<Reverse<(Duration, Id)>>,
    /// Due, oldest first.
    queued: VecDeque<Id>,
    queued_slow: VecDeque<Id>,
    /// With the lane each took; also those whose entry is gone, until they end.
    running: HashMap<Id, bool>,
    running_slow: usize,
}

impl Schedule {
    pub(super) fn new(options: Options) -> Schedule {
        Schedule {
            chance: Chance(options.seed),
            options,
            last_id: 0,
            ids: HashMap::new(),
            entries: HashMap::new(),
            waiting: BinaryHeap::new(),
            queued: VecDeque::new(),
            queued_slow: VecDeque::new(),
            running: HashMap::new(),
            running_slow: 0,
        }
    }

    /// Starts new checks soon, leaves known ones alone, and returns those that are gone but running.
    pub(super) fn replace(&mut self, specs: &[CheckSpec], now: Duration) -> HashSet<Id> {
        let wanted: HashSet<&CheckSpec> = specs.iter().collect();
        let gone: Vec<Id> = self.ids.extract_if(|spec, _| !wanted.contains(&**spec)).map(|(_, id)| id).collect();
        for id in &gone {
            self.entries.remove(id);
        }
        for spec in specs {
            if !self.ids.contains_key(spec) {
                self.add(spec, now);
            }
        }
        gone.into_iter().filter(|id| self.running.contains_key(id)).collect()
    }

    fn add(&mut self, spec: &CheckSpec, now: Duration) {
        let spec = Arc::new(spec.clone());
        self.last_id += 1;
        let id = self.last_id;
        let first = now + self.options.first_within.mul_f64(self.chance.unit());
        self.ids.insert(spec.clone(), id);
        self.entries.insert(id, Entry { spec, due: first, began: first, is_new: true, slow: false });
        self.waiting.push(Reverse((first, id)));
    }

    /// The next check to begin now, if one is due and has a place.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Id, Arc<CheckSpec>)> {
        self.queue_due(now);
        while self.running.len() < self.options.max_concurrent {
            let slow_has_place = self.running_slow < slow_places(self.options.max_concurrent);
            let has_place = self.running.len() - self.running_slow < LEAST_PLACES;
            let id = if has_place { self.queued.pop_front() } else { None };
            let id = id.or_else(|| if slow_has_place { self.queued_slow.pop_front() } else { None })?;
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.began = now;
                self.running.insert(id, entry.slow);
                self.running_slow += usize::from(entry.slow);
                return Some((id, entry.spec.clone()));
            }
        }
        None
    }

    fn queue_due(&mut self, now: Duration) {
        while let Some(&Reverse((due, id))) = self.waiting.peek() {
            if due > now {
                return;
            }
            self.waiting.pop();
            match self.entries.get(&id) {
                Some(entry) if entry.slow => self.queued_slow.push_back(id),
                Some(_) => self.queued.push_back(id),
                None => {}
            }
        }
    }

    /// Frees the place of a check that ended, and sets its next time; does nothing more when it is gone.
    pub(super) fn finished(&mut self, id: Id, finished: Finished, now: Duration) {
        if self.running.remove(&id) == Some(true) {
            self.running_slow -= 1;
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let interval = entry.spec.monitor.thresholds.interval;
        let factor = if entry.is_new && finished.delay >= interval {
            SECOND_MIN + (1.0 - SECOND_MIN) * self.chance.unit()
        } else {
            1.0 + self.options.jitter * (2.0 * self.chance.unit() - 1.0)
        };
        entry.is_new = false;
        entry.slow = finished.slow;
        entry.due = next_start(entry.began, now.saturating_sub(entry.began), finished.delay.mul_f64(factor));
        self.waiting.push(Reverse((entry.due, id)));
    }

    /// The definition of a check that is still wanted.
    pub(super) fn spec(&self, id: Id) -> Option<&CheckSpec> {
        self.entries.get(&id).map(|entry| &*entry.spec)
    }

    /// How late a check began.
    pub(super) fn late(&self, id: Id) -> Duration {
        self.entries.get(&id).map_or(Duration::ZERO, |entry| entry.began.saturating_sub(entry.due))
    }

    /// When the next check is due; those that wait for a place are not counted, a place wakes them.
    pub(super) fn wake(&self) -> Option<Duration> {
        self.waiting.peek().map(|&Reverse((due, _))| due)
    }

    /// Checks that are due but have no place.
    pub(super) fn behind(&self) -> usize {
        self.queued.len() + self.queued_slow.len()
    }
}

fn slow_places(all: usize) -> usize {
    ((all as f64 * SLOW_SHARE) as usize).max(all.saturating_sub(LEAST_PLACES)).max(1)
}

/// SplitMix64: enough to spread checks, and the same again for the same seed.
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// 0 to 1, 1 excluded.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::CheckTarget;
    use crate::health::{Thresholds, Watch};
    use crate::policy::model::{Monitor, MonitorKind, TcpCheck};

    const INTERVAL: Duration = Duration::from_secs(10);
    const PASSED: Finished = Finished { delay: INTERVAL, slow: false };
    const HUNG: Finished = Finished { delay: Duration::from_secs(2), slow: true };

    fn specs(numbers: std::ops::Range<u16>) -> Vec<CheckSpec> {
        let thresholds = Thresholds { interval: INTERVAL, fast: Duration::from_secs(2), fall: 3, rise: 3 };
        let monitor = Monitor {
            name: String::new(),
            kind: MonitorKind::Tcp(TcpCheck::default()),
            port: 0,
            thresholds,
            timeout: Duration::from_secs(3),
            source: Vec::new(),
            watch: Watch::default(),
        };
        numbers.map(|port| CheckSpec { target: CheckTarget::Address([127, 0, 0, 1].into()), monitor: Monitor { port, ..monitor.clone() } }).collect()
    }

    fn schedule(max_concurrent: usize) -> Schedule {
        Schedule::new(Options { max_concurrent, seed: 7, ..Options::default() })
    }

    /// Runs for `span` in steps of a millisecond; every check takes `took(port)`, and every start is noted.
    fn simulate(schedule: &mut Schedule, from: Duration, span: Duration, took: impl Fn(u16) -> (Duration, Finished)) -> Vec<(Duration, u16)> {
        let (mut starts, mut ends) = (Vec::new(), BinaryHeap::new());
        for millis in 0..span.as_millis() as u64 {
            let now = from + Duration::from_millis(millis);
            while ends.peek().is_some_and(|&Reverse((end, _, _))| end <= now) {
                let Some(Reverse((_, id, port))) = ends.pop() else { break };
                schedule.finished(id, took(port).1, now);
            }
            while let Some((id, spec)) = schedule.take(now) {
                starts.push((now, spec.monitor.port));
                ends.push(Reverse((now + took(spec.monitor.port).0, id, spec.monitor.port)));
            }
        }
        starts
    }

    fn quick(_: u16) -> (Duration, Finished) {
        (Duration::from_millis(5), PASSED)
    }

    #[test]
    fn new_checks_run_within_a_second_then_spread_over_the_interval() {
        let mut schedule = schedule(512);
        schedule.replace(&specs(0..400), Duration::ZERO);
        let starts = simulate(&mut schedule, Duration::ZERO, Duration::from_secs(60), quick);
        let first_second: HashSet<u16> = starts.iter().filter(|(at, _)| *at <= Duration::from_secs(1)).map(|&(_, port)| port).collect();
        assert_eq!(first_second.len(), 400, "every new endpoint is checked at once");
        // Later every second sees its share, 40, not a burst.
        for second in 12..60 {
            let count = starts.iter().filter(|(at, _)| at.as_secs() == second).count();
            assert!((10..=80).contains(&count), "{count} checks in second {second}");
        }
    }

    #[test]
    fn intervals_run_from_start_to_start_with_a_tenth_of_jitter() {
        let mut schedule = schedule(512);
        schedule.replace(&specs(0..50), Duration::ZERO);
        let starts = simulate(&mut schedule, Duration::ZERO, Duration::from_secs(100), |_| (Duration::from_secs(1), PASSED));
        let (mut gaps, mut last) = (Vec::new(), HashMap::new());
        for (at, port) in starts {
            if let Some((before, count)) = last.insert(port, (at, last.get(&port).map_or(0, |&(_, count)| count + 1)))
                && count >= 1
            {
                gaps.push((at - before).as_secs_f64());
            }
        }
        assert!(gaps.len() > 350 && gaps.iter().all(|gap| (8.99..=11.01).contains(gap)), "{gaps:?}");
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 10.0).abs() < 0.2 && gaps.iter().any(|gap| *gap < 9.3) && gaps.iter().any(|gap| *gap > 10.7));
    }

    #[test]
    fn unchanged_checks_keep_their_time_and_removed_ones_stop() {
        let mut schedule = schedule(512);
        schedule.replace(&specs(0..20), Duration::ZERO);
        simulate(&mut schedule, Duration::ZERO, Duration::from_secs(20), quick);
        let mut before = schedule.waiting.clone().into_sorted_vec();
        assert_eq!(schedule.replace(&specs(5..25), Duration::from_secs(20)), HashSet::new(), "none of them was running");
        before.retain(|Reverse((_, id))| schedule.entries.contains_key(id));
        let after = schedule.waiting.clone().into_sorted_vec();
        assert!(before.iter().all(|entry| after.contains(entry)) && before.len() == 15);
        let starts = simulate(&mut schedule, Duration::from_secs(20), Duration::from_secs(30), quick);
        assert!(starts.iter().all(|&(_, port)| port >= 5));
        assert!((20..25).all(|port| starts.iter().any(|&(at, started)| started == port && at <= Duration::from_secs(21))));
    }

    #[test]
    fn a_check_listed_twice_runs_once() {
        let mut schedule = schedule(512);
        let twice = [specs(0..3), specs(0..3)].concat();
        schedule.replace(&twice, Duration::ZERO);
        assert_eq!(simulate(&mut schedule, Duration::ZERO, Duration::from_millis(1001), quick).len(), 3);
    }

    #[test]
    fn what_runs_while_removed_is_named_and_its_place_comes_back() {
        let mut schedule = schedule(1);
        schedule.replace(&specs(0..1), Duration::ZERO);
        let (id, _) = schedule.take(Duration::from_secs(1)).expect("due");
        assert_eq!(schedule.replace(&specs(1..2), Duration::from_secs(1)), HashSet::from([id]));
        assert!(schedule.take(Duration::from_secs(3)).is_none(), "its place is taken until it has ended");
        assert!(schedule.spec(id).is_none());
        schedule.finished(id, PASSED, Duration::from_secs(3));
        assert_eq!(schedule.take(Duration::from_secs(3)).map(|(_, spec)| spec.monitor.port), Some(1));
        assert_eq!(schedule.wake(), None, "the removed one does not come back");
    }

    #[test]
    fn places_go_by_the_files_that_may_be_open() {
        for (files, expected) in [(None, 512), (Some(256), 512), (Some(1024), 512), (Some(8192), 2048), (Some(u64::MAX), 4096)] {
            assert_eq!(places(files), expected, "{files:?}");
        }
    }

    #[test]
    fn no_more_run_at_a_time_than_allowed_and_none_is_forgotten() {
        let mut schedule = schedule(8);
        schedule.replace(&specs(0..100), Duration::ZERO);
        for _ in 0..8 {
            let (id, _) = schedule.take(Duration::from_secs(2)).expect("due");
            assert!((1.0..=2.0).contains(&schedule.late(id).as_secs_f64()), "due within the first second");
        }
        assert!(schedule.take(Duration::from_secs(2)).is_none());
        assert_eq!(schedule.behind(), 92);
        let mut schedule = self::schedule(8);
        schedule.replace(&specs(0..100), Duration::ZERO);
        let starts = simulate(&mut schedule, Duration::ZERO, Duration::from_secs(5), |_| (Duration::from_millis(100), PASSED));
        assert_eq!(starts.iter().map(|&(_, port)| port).collect::<HashSet<_>>().len(), 100);
    }

    #[test]
    fn more_places_are_for_checks_that_hung() {
        let mut schedule = schedule(2048);
        schedule.replace(&specs(0..4000), Duration::ZERO);
        let running: Vec<Id> = std::iter::from_fn(|| schedule.take(Duration::from_secs(1)).map(|(id, _)| id)).collect();
        assert_eq!((running.len(), schedule.behind()), (LEAST_PLACES, 4000 - LEAST_PLACES), "nothing is known of any");
        // All of them hung, and so do those that take their places, until all have.
        let (mut running, mut now) = (running, Duration::from_secs(1));
        for _ in 0..12 {
            now += Duration::from_secs(3);
            running.drain(..).for_each(|id| schedule.finished(id, HUNG, now));
            running.extend(std::iter::from_fn(|| schedule.take(now).map(|(id, _)| id)));
        }
        assert_eq!(running.len(), 1536, "three quarters");
    }

    #[test]
    fn hanging_targets_do_not_delay_those_that_answer() {
        // 300 targets hang for 3 s each on 40 places, ten times more than fit; 100 answer at once.
        let mut schedule = schedule(40);
        let took = |port: u16| if port < 300 { (Duration::from_secs(3), HUNG) } else { quick(port) };
        schedule.replace(&specs(0..400), Duration::ZERO);
        let starts = simulate(&mut schedule, Duration::ZERO, Duration::from_secs(120), took);
        // Once the hanging ones are known (a round of 300 × 3 s / 40 places), every healthy one is on time.
        let mut last = HashMap::new();
        for (at, port) in starts.into_iter().filter(|&(_, port)| port >= 300) {
            if let Some(before) = last.insert(port, at)
                && before > Duration::from_secs(30)
            {
                assert!(at - before <= Duration::from_millis(11_010), "{port} waited {:?}", at - before);
            }
        }
        assert!(last.len() == 100 && last.values().all(|at| *at > Duration::from_secs(105)));
    }
}
