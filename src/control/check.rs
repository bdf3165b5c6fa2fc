//! What is known of one check: where its machine stands, how the last of it went, and what is shown of that. All of them together are
//! [`super::checks::Checks`].

use std::sync::Arc;
use std::time::Duration;

use super::api::{CheckSpec, CheckTarget, Observation};
use super::checks::{Reach, User};
use super::timeline::Timeline;
use super::verdicts::trial_of;
use crate::health::concern::Concerns;
use crate::health::machine::{self, Machine};
use crate::health::{Failure, State};
use crate::policy::model::MonitorKind;
use crate::store::Verdict;

/// A check whose last verdict is older than so many of its intervals, and a timeout, says nothing of now (algorithms §3.4).
const STALE_INTERVALS: u32 = 3;

/// Steps of a ramp's share: small enough not to be noticed, and each of them is a new world.
const RAMP_STEPS: f64 = 32.0;

/// One check.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) machine: Machine,
    pub(super) seen: CheckSeen,
    /// It has a say in the state of some endpoint: somewhere it is not advisory.
    pub(super) votes: bool,
    /// It is other than it was kept.
    pub(super) changed: bool,
    pub(super) users: Vec<User>,
    pub(super) place: Option<Arc<str>>,
    /// Where it is one query for several endpoints.
    pub(super) reach: Option<Box<Reach>>,
    /// Of the ramp's share, when last looked at.
    step: u8,
    pub(super) timeline: Timeline,
    /// Unix seconds when its verdict was last kept.
    pub(super) kept_unix: u64,
    /// Its last result that says anything.
    pub(super) told: Option<Told>,
    /// The machine's clock, in seconds ahead of that of the program, when it last passed with a certificate.
    pub(super) passed_by: Option<i64>,
    /// Of what callers report: until then what they counted speaks against it.
    pub(super) trial_at: Option<Duration>,
    /// Whether the certificate that it met last was valid in time by the machine's clock.
    pub(super) in_time: Option<bool>,
}

/// How old something is, whatever anybody does to the machine's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: Duration,
    /// So old it was then.
    pub(super) age: Duration,
}

impl Told {
    pub(super) fn age(self, now: Duration) -> Duration {
        self.age + now.saturating_sub(self.at)
    }
}

/// What is shown of one check.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckSeen {
    /// As it is shown; filled in when it is asked for.
    pub(super) state: State,
    /// Unix seconds of the last change of state.
    pub(super) since_unix: Option<u64>,
    pub(super) last_check_unix: Option<u64>,
    pub(super) last_ms: Option<u64>,
    pub(super) next_check_unix: Option<u64>,
    /// Why the last that failed did; kept until it is up. Where that is asked for, with what has come to nothing since.
    pub(super) last_error: Option<String>,
    /// Unix seconds of that.
    pub(super) last_error_unix: Option<u64>,
    /// Why the last came to no verdict, and when, if it did not.
    pub(super) no_verdict: Option<(String, u64)>,
    /// The last could not run: this machine's own fault.
    pub(super) unable: bool,
    /// The same, by its clock.
    pub(super) misled: bool,
    /// Passed and failed in this run; those that could not be carried out are neither.
    pub(super) ended: [u64; 2],
    /// Why its verdict says nothing of now, if that is so; filled in when it is asked for, as far as age goes.
    pub(super) stale: Option<Stale>,
    /// How old its last result is that says anything, in seconds; filled in when it is asked for.
    pub(super) age_s: Option<u64>,
    /// What its falls come to, as of the last check.
    pub(super) penalty: u32,
    /// Faults on credit.
    pub(super) credit: u8,
    /// Unix seconds until when it is kept down for its falls.
    pub(super) suppressed_until: Option<u64>,
    /// What is wrong although it passes.
    pub(super) concerns: Concerns,
}

/// Why a verdict says nothing of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stale {
    /// It is of the last run, and not confirmed yet.
    Kept,
    /// The same, of what is reported.
    KeptReport,
    /// It is too old: no check has told since.
    Untold,
    /// The same, of what is reported.
    Unreported,
}

impl Stale {
    /// In words: since when, and what that means. `forgotten` is after how long what was said is forgotten.
    pub(super) fn words(self, age_s: u64, forgotten: Option<Duration>) -> String {
        let until = forgotten.map_or_else(String::new, |after| format!(" until it is {} old", span(after.as_secs())));
        let or_until = forgotten.map_or_else(String::new, |after| format!(", or it is {} old", span(after.as_secs())));
        let age = span(age_s);
        match self {
            Stale::Kept => format!("kept from the last run, {age} old: it holds until a check says more"),
            Stale::KeptReport => format!("kept from the last run, {age} old: it holds until more is reported{or_until}"),
            Stale::Untold => format!("no check has told for {age}: the last verdict holds{until}"),
            Stale::Unreported => format!("nothing was reported for {age}: what was said last holds{until}"),
        }
    }
}

/// Seconds, in the unit that matters.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

impl CheckSeen {
    /// Why it is as it is, and when that was: what came to no verdict tells nothing of why it fell before.
    fn why(&self) -> (Option<String>, Option<u64>) {
        match (&self.last_error, &self.no_verdict) {
            (None, Some((why, at))) => (Some(why.clone()), Some(*at)),
            (Some(failed), Some((why, at))) => (Some(format!("{failed}; now {why}")), Some(*at)),
            (failed, None) => (failed.clone(), self.last_error_unix),
        }
    }
}

impl Check {
    /// What it came to, if that was not taken before.
    pub(super) fn take_verdict(&mut self, spec: &CheckSpec, now: Duration, now_unix: u64) -> Option<Verdict> {
        let changed = std::mem::take(&mut self.changed);
        // What could not run, or tell, makes no verdict younger.
        let last_check_unix = self.told.filter(|_| changed).map(|told| now_unix.saturating_sub(told.age(now).as_secs()))?;
        self.kept_unix = now_unix;
        let (penalty, penalised) = self.machine.last_fall().unwrap_or((0, now));
        Some(Verdict {
            key: key(spec),
            state: self.machine.state(),
            since_unix: self.seen.since_unix.unwrap_or(last_check_unix),
            last_check_unix,
            last_error: self.seen.last_error.clone(),
            penalty,
            penalised_unix: now_unix.saturating_sub(now.saturating_sub(penalised).as_secs()),
            run: self.machine.run(),
            holds_until_unix: self.holds_until(spec, last_check_unix, now, now_unix),
        })
    }

    /// As it is shown.
    pub(super) fn state(&self) -> State {
        self.machine.state().degraded_if(self.seen.concerns.any())
    }

    /// Takes how one went, its machine having taken it. `counts`: it says something of what is checked. Returns why it is as it is now, if there is
    /// anything to say.
    pub(super) fn note(&mut self, observation: &Observation, counts: bool, now_unix: u64, now: Duration) -> String {
        self.note_concerns(observation, now_unix);
        let concerns = self.seen.concerns.words(now_unix);
        self.timeline.push(observation, self.state(), concerns.as_deref(), now_unix);
        self.seen.unable = observation.outcome.as_ref().is_err_and(Failure::is_own);
        self.seen.misled = matches!(observation.outcome, Err(Failure::Clock(_)));
        self.seen.last_check_unix = Some(now_unix);
        self.seen.last_ms = Some(observation.took.as_millis() as u64);
        match &observation.outcome {
            Err(failure) if !counts => {
                self.seen.no_verdict = Some((failure.to_string(), now_unix));
                failure.to_string()
            }
            Err(failure) => {
                self.seen.no_verdict = None;
                let why = match self.machine.fell_for_faults() {
                    true => format!("{}: {failure}", self.timeline.failed_words()),
                    false => failure.to_string(),
                };
                (self.seen.last_error, self.seen.last_error_unix) = (Some(why.clone()), Some(now_unix));
                why
            }
            Ok(()) => {
                self.seen.no_verdict = None;
                if observation.certificate.is_some() {
                    let ahead = i64::try_from(now_unix).unwrap_or(i64::MAX).saturating_sub_unsigned(now.as_secs());
                    (self.in_time, self.passed_by) = (Some(true), Some(ahead));
                }
                self.forget_error_if_up();
                concerns.unwrap_or_default()
            }
        }
    }

    /// Why it was down is of interest until it is up.
    pub(super) fn forget_error_if_up(&mut self) {
        if self.machine.state() == State::Up {
            (self.seen.last_error, self.seen.last_error_unix) = (None, None);
        }
    }

    /// Looks at how it went beside passing or failing.
    fn note_concerns(&mut self, observation: &Observation, now_unix: u64) {
        let (monitor, concerns) = (&observation.spec.monitor, &mut self.seen.concerns);
        match observation.outcome {
            Ok(()) if monitor.kind.is_reported() => concerns.counted(observation.poor),
            Ok(()) => concerns.passed(&monitor.watch, monitor.thresholds.interval, observation.took, observation.certificate.as_ref(), now_unix),
            Err(_) => {
                // What it showed is what it shows, believed or not.
                observation.certificate.iter().for_each(|certificate| concerns.shown(certificate));
                if self.machine.state() == State::Down {
                    concerns.fell();
                }
            }
        }
    }

    /// The endpoints that it decides on, as far as one is told from another.
    pub(super) fn decides_on<'a>(&'a self, spec: &'a CheckSpec) -> impl Iterator<Item = &'a CheckTarget> {
        let alone = self.reach.is_none().then_some(&spec.target);
        alone.into_iter().chain(self.reach.iter().flat_map(|reach| &reach.endpoints))
    }

    /// Where those are.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        let alone = self.place.as_deref().filter(|_| self.reach.is_none());
        alone.into_iter().chain(self.reach.iter().flat_map(|reach| reach.places.iter().map(|place| &**place)))
    }

    /// The share of its weight that it may have now, in steps.
    pub(super) fn ramp_share(&self, now: Duration) -> f32 {
        let share = self.machine.ramp_share(now);
        if share < 1.0 { ((share * RAMP_STEPS).floor() / RAMP_STEPS).max(machine::RAMP_FLOOR) as f32 } else { 1.0 }
    }

    /// True when that is another than when last asked.
    pub(super) fn takes_a_step(&mut self, now: Duration) -> bool {
        let step = (self.machine.ramp_share(now) * RAMP_STEPS) as u8;
        std::mem::replace(&mut self.step, step) != step
    }

    fn new(now: Duration) -> Check {
        Check {
            machine: Machine::new(now),
            seen: CheckSeen::default(),
            votes: true,
            changed: false,
            users: Vec::new(),
            place: None,
            reach: None,
            step: RAMP_STEPS as u8,
            timeline: Timeline::default(),
            kept_unix: 0,
            told: None,
            passed_by: None,
            trial_at: None,
            in_time: None,
        }
    }

    /// What is shown of it.
    pub(super) fn seen_at(&self, spec: &CheckSpec, now: Duration) -> CheckSeen {
        let is_old = self.told.zip(stale_after(spec)).is_some_and(|(told, stale)| told.age(now) >= stale);
        let is_old = is_old && self.machine.state() != State::Unknown;
        let stale = match (self.seen.stale, spec.monitor.kind.is_reported()) {
            (_, true) if is_old => Some(Stale::Unreported),
            (Some(Stale::Kept), true) => Some(Stale::KeptReport),
            (None, false) if is_old => Some(Stale::Untold),
            (stale, _) => stale,
        };
        let (last_error, last_error_unix) = self.seen.why();
        CheckSeen {
            state: self.state(),
            stale,
            age_s: self.told.map(|told| told.age(now).as_secs()),
            last_error,
            last_error_unix,
            suppressed_until: self.seen.suppressed_until.filter(|_| self.machine.suppressed_until(now).is_some()),
            ..self.seen.clone()
        }
    }

    /// One of which nothing is known. As long as callers report no failures, an endpoint is what its other checks say.
    pub(super) fn first(spec: &CheckSpec, now: Duration) -> Check {
        match spec.monitor.kind {
            MonitorKind::Share(_) => Check { machine: Machine::restored(State::Up, now), ..Check::new(now) },
            _ => Check::new(now),
        }
    }

    /// Ramps do not outlive a process: there is none at start (CONTRACT). Suspicion and concerns do not either: what they came from is gone. But what an
    /// agent said last it may never say again.
    pub(super) fn restored(spec: &CheckSpec, verdict: Verdict, now: Duration, now_unix: u64) -> Check {
        let is_said = matches!(spec.monitor.kind, MonitorKind::Push(_));
        let state = match verdict.state {
            State::Suspect if is_said => State::Suspect,
            State::Ramp | State::Suspect | State::Degraded => State::Up,
            state => state,
        };
        let trial_at = trial_of(spec, &verdict, now, now_unix);
        let mut machine = Machine::restored(state, now);
        machine.restore_run(if is_said { verdict.run } else { 0 });
        machine.restore_penalty(verdict.penalty, Duration::from_secs(now_unix.saturating_sub(verdict.penalised_unix)), now);
        Check {
            seen: CheckSeen {
                penalty: machine.penalty(now),
                suppressed_until: unix_of(machine.suppressed_until(now), now, now_unix),
                since_unix: Some(verdict.since_unix),
                last_check_unix: Some(verdict.last_check_unix),
                last_error: verdict.last_error.filter(|_| state != State::Up),
                stale: (state != State::Unknown).then_some(Stale::Kept),
                ..CheckSeen::default()
            },
            machine,
            trial_at,
            told: Some(Told { at: now, age: Duration::from_secs(now_unix.saturating_sub(verdict.last_check_unix)) }),
            ..Check::new(now)
        }
    }
}

/// How long a verdict says something of now; `None` where it loses its weight by itself.
pub(super) fn stale_after(spec: &CheckSpec) -> Option<Duration> {
    let monitor = &spec.monitor;
    let missed = monitor.thresholds.interval * STALE_INTERVALS + monitor.timeout;
    match &monitor.kind {
        MonitorKind::Push(push) => Some(push.stale),
        // It counts for as long as its file says, but that nobody tells is seen as soon as of any other.
        MonitorKind::Prometheus(asked) => Some(asked.stale.min(missed)),
        MonitorKind::Share(_) => None,
        _ => Some(missed),
    }
}

/// A moment to come, in unix seconds.
pub(super) fn unix_of(at: Option<Duration>, now: Duration, now_unix: u64) -> Option<u64> {
    at.map(|at| now_unix + at.saturating_sub(now).as_secs())
}

/// Names a check by content: what is connected to and what is asked there.
pub(super) fn key(spec: &CheckSpec) -> String {
    format!("{spec:?}")
}
