//! What agents, load balancers and callers report of endpoints, pools and regions. Kept in memory alone, one entry for each thing that there is; the
//! single writer adds to it, whoever shows it reads it. Not on the way of any query.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::Refusal;
use super::loads::Place;
use super::text::check_target;
use super::writer::unix_now;
use crate::health::passive::{Said, Share, Shared, Smooth, WINDOW};
use crate::policy::model::ShareCheck;

/// Reports in one call: what fits a request body with names of the usual length.
pub const MAX_REPORTS: usize = 500;
/// Things of which reports are kept; each takes a few hundred octets.
pub const MAX_REPORTED: usize = 100_000;
/// Calls that one report may tell of: beyond it somebody reports a total, not what is new.
pub const MAX_COUNT: u64 = 1_000_000_000;
/// The longest response time, ten minutes: what takes longer is no response.
pub const MAX_LATENCY_MS: f64 = 600_000.0;
/// The largest load or capacity, in whatever unit.
pub const MAX_LOAD: f64 = 1e12;

/// Load and response time are means over so much time: as long as it takes to be sure, short beside the TTL of an answer (algorithms §4.2).
pub const SMOOTH: Duration = Duration::from_secs(15);
/// Loads that are older say nothing of now: nothing is moved by them.
pub const STALE: Duration = Duration::from_secs(30);
/// Loads that are older are as if there were none.
pub const GONE: Duration = Duration::from_secs(300);

/// What somebody reports of one thing. At least one member beside `target` is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `zone/pool/address`, `zone/pool` or `region:NAME`.
    pub target: String,
    /// What it says of itself: for monitors with `push = true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Said>,
    /// Calls that succeeded since the report before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes: Option<u64>,
    /// Calls that failed since the report before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// Response time of late, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// What it carries now, in the unit of its capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// What it can carry; where it is left out, `capacity` of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
}

impl Report {
    /// What is wrong with it; it is number `at` of its call.
    pub fn check(&self, at: usize) -> Result<(), Refusal> {
        let invalid = |member: &str, detail: String| Err(Refusal::Invalid { field: format!("reports[{at}].{member}"), detail });
        let field = format!("reports[{at}].target");
        check_target(&field, &self.target)?;
        let counts = [("successes", self.successes), ("failures", self.failures)];
        if let Some((member, Some(count))) = counts.into_iter().find(|(_, count)| count.is_some_and(|count| count > MAX_COUNT)) {
            return invalid(member, format!("found {count}, expected at most {MAX_COUNT}: what is new since the report before, not a total"));
        }
        for (member, value, least, most) in
            [("latency_ms", self.latency_ms, 0.0, MAX_LATENCY_MS), ("load", self.load, 0.0, MAX_LOAD), ("capacity", self.capacity, 0.0, MAX_LOAD)]
        {
            let Some(value) = value else { continue };
            if !(least..=most).contains(&value) || member == "capacity" && value == 0.0 {
                let above = if member == "capacity" { "more than 0, and" } else { "0 or more, and" };
                return invalid(member, format!("found {value}, expected {above} at most {most}"));
            }
        }
        if self.state.is_none() && !self.has_figures() {
            return invalid("state", "found nothing that is reported, expected one of state, successes, failures, latency_ms, load".into());
        }
        Ok(())
    }

    /// It counts or measures something.
    fn has_figures(&self) -> bool {
        self.successes.is_some() || self.failures.is_some() || self.latency_ms.is_some() || self.load.is_some()
    }
}

/// A report that led to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ignored {
    /// As it was given.
    pub target: String,
    /// Why, in a sentence.
    pub why: String,
}

/// What became of the reports of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Taken {
    /// Those that were taken.
    pub taken: usize,
    /// Those that name nothing that there is: the rest of the call is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<Ignored>,
    /// Those that were taken, but of which a part does nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Ignored>,
}

/// What is reported of one thing, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reported {
    /// Unix seconds of the last report, whatever it told.
    pub at: u64,
    /// What is counted and measured is older than 30 s: it says nothing of now and moves nothing. A report of a state makes it no younger.
    pub stale: bool,
    /// Unix seconds since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<u64>,
    /// What was said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Said>,
    /// Unix seconds of the last report of a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_at: Option<u64>,
    /// The state is older than the `stale` of the monitors that wait for it (30 s where none does). What is counted and measured makes it no younger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state_stale: bool,
    /// Unix seconds since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_stale_since: Option<u64>,
    /// The same, and it is forgotten for that (`on_stale = "forget"`). Else it holds until something else is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state_forgotten: bool,
    /// Successes among all calls, 0 to 1, those of long ago weighing little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_share: Option<f64>,
    /// How many calls that is made of, by what they weigh now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<f64>,
    /// As it was reported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The mean over 15 s that weights are moved by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_smoothed_ms: Option<f64>,
    /// As it was reported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The mean over 15 s that weights are moved by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_smoothed: Option<f64>,
    /// What it can carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<f64>,
}

/// What is known of one thing.
#[derive(Clone, Copy, Debug)]
struct Track {
    at_unix: u64,
    /// Of the last report that counts or measures anything.
    figures_unix: Option<u64>,
    said: Option<SaidOnce>,
    share: Share,
    window: Duration,
    latency: Smooth,
    load: Smooth,
    /// Response time and load as they were reported last.
    last: (Option<f64>, Option<f64>),
    capacity: Option<f64>,
    /// When a load or response time came last, and what lies between two of them.
    measured: Option<Duration>,
    gap: Smooth,
}

/// A state that somebody reported.
#[derive(Clone, Copy, Debug)]
struct SaidOnce {
    said: Said,
    at_unix: u64,
    /// So long it says something of now.
    stale: Duration,
    /// After that it is forgotten.
    is_forgotten: bool,
}

/// How long what is reported of a thing counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasts {
    /// Counts weigh less after this, by a factor of e.
    pub(super) window: Duration,
    /// A state says nothing of now after this.
    pub(super) stale: Duration,
    /// And is forgotten then.
    pub(super) is_forgotten: bool,
}

/// What is measured of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measured {
    /// Just now.
    Now {
        /// Load in proportion to capacity, where both are known.
        loaded: Option<f64>,
        load: Option<f64>,
        capacity: Option<f64>,
        /// Milliseconds.
        latency: Option<f64>,
        /// Between two reports.
        gap: Duration,
    },
    /// A while ago ([`STALE`]): it says nothing of now.
    Old,
    /// Never, or long ago ([`GONE`]).
    Gone,
}

/// Everything that is reported.
#[derive(Debug, Default)]
pub struct Reports(Mutex<HashMap<Arc<str>, Track>>);

impl Reports {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Track>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report of the thing of this id. False when there are too many things.
    pub(super) fn take(&self, id: &Arc<str>, report: &Report, Lasts { window, stale, is_forgotten }: Lasts, now: Duration, now_unix: u64) -> bool {
        let mut all = self.all();
        if all.len() >= MAX_REPORTED && !all.contains_key(id) {
            return false;
        }
        let fresh = || Track {
            at_unix: now_unix,
            figures_unix: None,
            said: None,
            share: Share::default(),
            window: WINDOW,
            latency: Smooth::default(),
            load: Smooth::default(),
            last: (None, None),
            capacity: None,
            measured: None,
            gap: Smooth::default(),
        };
        let track = all.entry(id.clone()).or_insert_with(fresh);
        track.at_unix = now_unix;
        track.said = report.state.map(|said| SaidOnce { said, at_unix: now_unix, stale, is_forgotten }).or(track.said);
        if report.has_figures() {
            track.figures_unix = Some(now_unix);
        }
        track.window = window;
        if report.successes.is_some() || report.failures.is_some() {
            track.share.add(report.successes.unwrap_or(0), report.failures.unwrap_or(0), window, now);
        }
        if report.load.is_some() || report.latency_ms.is_some() {
            let gap = track.measured.map(|before| now.saturating_sub(before));
            if gap.is_some_and(|gap| gap > GONE) {
                // What was before is as if it had not been.
                (track.latency, track.load, track.last, track.gap) = Default::default();
            } else if let Some(gap) = gap.filter(|gap| !gap.is_zero()) {
                track.gap.add(gap.as_secs_f64(), STALE, now);
            }
            track.measured = Some(now);
        }
        report.load.into_iter().for_each(|load| track.load.add(load, SMOOTH, now));
        report.latency_ms.into_iter().for_each(|latency| track.latency.add(latency, SMOOTH, now));
        track.last = (report.latency_ms.or(track.last.0), report.load.or(track.last.1));
        track.capacity = report.capacity.or(track.capacity);
        true
    }

    /// Keeps only what is reported of what there is.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|id, _| is_there(id));
    }

    /// Nothing is reported.
    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The share of successes of the nearest thing that has enough samples.
    pub(super) fn share(&self, check: &ShareCheck, now: Duration) -> Option<Shared> {
        let all = self.all();
        let seen = check.of.iter().filter_map(|id| all.get(id)?.share.now(check.rule.window, now));
        seen.into_iter().find(|seen| seen.samples >= f64::from(check.rule.samples))
    }

    /// Until when what is counted speaks against a thing, be nothing more reported of it.
    pub(super) fn fails_until(&self, check: &ShareCheck, now: Duration) -> Option<Duration> {
        let (all, rule) = (self.all(), &check.rule);
        let mut until = None;
        for id in &check.of {
            let Some(seen) = all.get(id).and_then(|track| track.share.now(rule.window, now)) else { continue };
            let lasts = rule.window.mul_f64((seen.samples / f64::from(rule.samples)).ln().max(0.0));
            if lasts.is_zero() || until.is_some_and(|until| now + lasts <= until) {
                continue;
            }
            if !rule.down.is_some_and(|least| seen.good * 100.0 < f64::from(least)) {
                break;
            }
            until = Some(now + lasts);
        }
        until
    }

    /// What is measured of a pool: what is reported of it as a whole, else of its endpoints together, else of its region.
    pub(super) fn measured(&self, place: &Place, now: Duration) -> Measured {
        let all = self.all();
        let measured = |id: &Arc<str>| all.get(id).filter(|track| track.measured.is_some_and(|at| at + GONE > now));
        if let Some(track) = measured(&place.id) {
            return track.measured(place.capacity, now);
        }
        let endpoints: Vec<&Track> = place.endpoints.iter().filter_map(measured).collect();
        if endpoints.is_empty() {
            return place.region.as_ref().and_then(measured).map_or(Measured::Gone, |track| track.measured(None, now));
        }
        let fresh: Vec<&Track> = endpoints.into_iter().filter(|track| track.measured.is_some_and(|at| at + STALE > now)).collect();
        let Some(longest) = fresh.iter().map(|track| track.gap()).max() else { return Measured::Old };
        let count = fresh.len() as f64;
        let sum = |of: fn(&Track) -> Option<f64>| fresh.iter().try_fold(0.0, |sum, track| of(track).map(|one| sum + one));
        let (load, latency) = (sum(|track| track.load.value()), sum(|track| track.latency.value()).map(|sum| sum / count));
        // Of a pool's own capacity, those that report have their part.
        let part = place.capacity.map(|capacity| capacity * count / place.endpoints.len() as f64);
        let capacity = sum(|track| track.capacity).or(part);
        Measured::Now { loaded: in_proportion(load, capacity), load, capacity, latency, gap: longest }
    }

    /// What is reported of one thing, to be shown.
    pub fn of(&self, id: &str) -> Option<Reported> {
        let track = *self.all().get(id)?;
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let old_since = |at: u64, after: Duration| Some(at + after.as_secs()).filter(|since| *since < unix_now());
        let (stale_since, said_since) =
            (track.figures_unix.and_then(|at| old_since(at, STALE)), track.said.and_then(|once| old_since(once.at_unix, once.stale)));
        // What is shown weighs what it weighed when it came.
        let share = track.share.now(track.window, Duration::ZERO);
        Some(Reported {
            at: track.at_unix,
            stale: stale_since.is_some(),
            stale_since,
            state: track.said.map(|once| once.said),
            state_at: track.said.map(|once| once.at_unix),
            state_stale: said_since.is_some(),
            state_stale_since: said_since,
            state_forgotten: said_since.is_some() && track.said.is_some_and(|once| once.is_forgotten),
            success_share: share.map(|share| rounded(share.good)),
            samples: share.map(|share| share.samples.round()),
            latency_ms: track.last.0,
            latency_smoothed_ms: track.latency.value().map(rounded),
            load: track.last.1,
            load_smoothed: track.load.value().map(rounded),
            capacity: track.capacity,
        })
    }
}

impl Track {
    /// Between two reports of load or response time; ten seconds until that is known.
    fn gap(&self) -> Duration {
        self.gap.value().map_or(Duration::from_secs(10), Duration::from_secs_f64)
    }

    fn measured(&self, capacity: Option<f64>, now: Duration) -> Measured {
        if self.measured.is_none_or(|at| at + STALE <= now) {
            return Measured::Old;
        }
        let (load, capacity) = (self.load.value(), self.capacity.or(capacity));
        Measured::Now { loaded: in_proportion(load, capacity), load, capacity, latency: self.latency.value(), gap: self.gap() }
    }
}

fn in_proportion(load: Option<f64>, capacity: Option<f64>) -> Option<f64> {
    load.zip(capacity).filter(|(_, capacity)| *capacity > 0.0).map(|(load, capacity)| load / capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_a_report_says_is_in_range() {
        for good in [
            r#""state": "up""#,
            r#""successes": 0"#,
            r#""failures": 1000000000"#,
            r#""load": 0, "capacity": 0.5"#,
            r#""latency_ms": 600000"#,
            r#""successes": 3, "failures": 1, "latency_ms": 12.5, "load": 812, "capacity": 1000, "state": "draining""#,
        ] {
            assert_eq!(report(&format!(r#"{{"target": "a/b", {good}}}"#)).check(0), Ok(()), "{good}");
        }
        for (bad, field) in [
            (r#""target": "a/b""#, "reports[7].state"),
            (r#""target": "a/b", "capacity": 5"#, "reports[7].state"),
            (r#""target": "", "state": "up""#, "reports[7].target"),
            (r#""target": "a/b", "successes": 1000000001"#, "reports[7].successes"),
            (r#""target": "a/b", "latency_ms": 600000.1"#, "reports[7].latency_ms"),
            (r#""target": "a/b", "load": -0.1"#, "reports[7].load"),
            (r#""target": "a/b", "load": 1e13"#, "reports[7].load"),
            (r#""target": "a/b", "load": 1, "capacity": 0"#, "reports[7].capacity"),
        ] {
            let found = report(&format!("{{{bad}}}")).check(7);
            assert!(matches!(&found, Err(Refusal::Invalid { field: found, .. }) if found == field), "{bad}: {found:?}");
        }
    }

    #[test]
    fn the_nearest_thing_with_enough_samples_speaks() {
        let reports = Reports::default();
        let rule = crate::policy::model::ShareRule { down: Some(50), degraded: Some(90), samples: 50, window: WINDOW };
        let ids: Vec<Arc<str>> = ["z/p/1", "z/p", "region:r"].map(Arc::from).to_vec();
        let check = ShareCheck { of: ids.clone(), rule };
        let now = Duration::from_secs(10);
        let add = |id: usize, successes, failures| {
            let report = Report { successes: Some(successes), failures: Some(failures), ..report(r#"{"target": "t"}"#) };
            assert!(reports.take(&ids[id], &report, Lasts { window: WINDOW, stale: STALE, is_forgotten: false }, now, 10));
        };
        assert_eq!(reports.share(&check, now), None);
        for (at, successes, failures, good) in [(2, 100, 0, 1.0), (1, 30, 10, 1.0), (1, 0, 20, 0.5), (0, 10, 39, 0.5), (0, 10, 1, 1.0 / 3.0)] {
            add(at, successes, failures);
            assert_eq!(reports.share(&check, now).map(|seen| (seen.good * 60.0).round()), Some((good * 60.0_f64).round()), "{at} {successes}");
        }
        // Three minutes on, 60 samples weigh less than 50.
        assert_eq!(reports.share(&check, now + Duration::from_secs(180)).map(|seen| seen.good), Some(1.0));
        assert_eq!(reports.share(&check, now + Duration::from_secs(600)), None);
        reports.retain(|id| id == "z/p");
        assert!(reports.of("z/p/1").is_none() && reports.of("z/p").is_some());
    }

    #[test]
    fn only_a_state_makes_a_state_younger() {
        let (reports, id) = (Reports::default(), Arc::from("z/p/1"));
        let now_unix = unix_now();
        let take = |report: &Report, stale: u64, ago: u64| {
            let lasts = Lasts { window: WINDOW, stale: Duration::from_secs(stale), is_forgotten: false };
            assert!(reports.take(&id, report, lasts, Duration::from_secs(1_000 - ago), now_unix - ago));
        };
        let seen = || reports.of("z/p/1").map(|seen| (now_unix - seen.at, seen.stale, seen.state_at.map(|at| now_unix - at), seen.state_stale));
        let said = report(r#"{"target": "t", "state": "down"}"#);
        take(&said, 300, 200);
        assert_eq!(seen(), Some((200, false, Some(200), false)), "as long as the monitor says");
        take(&said, 20, 100);
        assert_eq!(seen(), Some((100, false, Some(100), true)));
        for figures in [r#""load": 1"#, r#""successes": 1"#, r#""failures": 0"#, r#""latency_ms": 5"#] {
            take(&report(&format!(r#"{{"target": "t", {figures}}}"#)), 20, 60);
            assert_eq!(seen(), Some((60, true, Some(100), true)), "{figures}");
        }
        // Nor is a load of now because somebody says that it is up.
        take(&said, 20, 2);
        assert_eq!(seen(), Some((2, true, Some(2), false)));
    }
}
