//! The last checks of an endpoint, and one that runs because somebody asks.
//!
//! ```text
//!   asked ─▶ writer: which checks are these, how did they go? ─▶ reply
//!                                  └─▶ prober: run this one now, and time its parts ─▶ reply
//! ```
//! What somebody asked for changes no state: it tells of this moment, not of the endpoint's past, and nobody may talk a state up by asking often.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::api::{CheckSpec, Observation, Refusal};
use super::handle::{Event, Handle};
use super::writer::Writer;
use crate::health::concern::Validity;
use crate::health::{Failure, Outcome, State};

/// The last checks that are remembered of each: three minutes at the default pace, forty seconds of trouble, 640 octets.
pub const TIMELINE_LEN: usize = 20;
/// Asked checks that wait for the prober; whoever brings more waits.
pub const TRIALS_QUEUE_LEN: usize = 16;

/// A check that has run.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    at_unix: u64,
    ms: u32,
    /// Why it failed, or what is wrong although it passed.
    why: Option<Arc<str>>,
    passed: bool,
    /// It says something of what is checked.
    counts: bool,
    state: State,
}

/// The last checks of one, newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    tried: VecDeque<Tried>,
    /// What the oldest of them asked where that was something else, in words, and how many of them did; oldest first.
    asked_before: Vec<(Arc<str>, usize)>,
}

impl Timeline {
    /// Takes one, the state that it led to, and what is wrong although it passed.
    pub(super) fn push(&mut self, observation: &Observation, state: State, concerns: Option<&str>, now_unix: u64) {
        match self.tried.len() {
            0 => self.tried.reserve_exact(TIMELINE_LEN),
            TIMELINE_LEN => self.drop_oldest(),
            _ => {}
        }
        let passed = observation.outcome.is_ok();
        let why = match &observation.outcome {
            Ok(()) => concerns.map(str::to_owned),
            Err(failure) => Some(failure.to_string()),
        };
        // What fails, fails for the same reason again and again.
        let last = self.tried.back().and_then(|last| last.why.clone());
        let why = why.map(|why| last.filter(|last| **last == *why).unwrap_or_else(|| why.into()));
        let ms = u32::try_from(observation.took.as_millis()).unwrap_or(u32::MAX);
        let counts = !observation.outcome.as_ref().is_err_and(Failure::is_no_verdict);
        self.tried.push_back(Tried { at_unix: now_unix, ms, why, passed, counts, state });
    }

    fn drop_oldest(&mut self) {
        self.tried.pop_front();
        if let Some((_, count)) = self.asked_before.first_mut() {
            *count -= 1;
        }
        self.asked_before.retain(|(_, count)| *count > 0);
    }

    /// Whatever ran up to now asked this; what comes asks something else.
    pub(super) fn ask_otherwise(&mut self, what: &str) {
        let known: usize = self.asked_before.iter().map(|(_, count)| count).sum();
        if self.tried.len() > known {
            self.asked_before.push((format!("{what} (before a reload)").into(), self.tried.len() - known));
        }
    }

    /// Says of the last why there was one at all.
    pub(super) fn explain_last(&mut self, why: &str) {
        if let Some(last) = self.tried.back_mut() {
            last.why = Some(why.into());
        }
    }

    /// How many of them failed, in words.
    pub(super) fn failed_words(&self) -> String {
        let counted = || self.tried.iter().filter(|tried| tried.counts);
        format!("{} of the last {} checks failed", counted().filter(|tried| !tried.passed).count(), counted().count())
    }

    /// Newest first, under the name of the check.
    fn shown(&self, check: &str) -> Vec<Checked> {
        let before = self.asked_before.iter().flat_map(|(what, count)| std::iter::repeat_n(&**what, *count));
        let asked: Vec<&str> = before.chain(std::iter::repeat(check)).take(self.tried.len()).collect();
        let shown = self.tried.iter().zip(asked).rev().map(|(tried, check)| Checked {
            at: tried.at_unix,
            check: check.to_owned(),
            passed: tried.passed,
            ms: tried.ms,
            error: tried.why.as_deref().filter(|_| !tried.passed).map(str::to_owned),
            concern: tried.why.as_deref().filter(|_| tried.passed).map(str::to_owned),
            state: tried.state.word(),
        });
        shown.collect()
    }
}

/// One check that has run.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Checked {
    /// Unix seconds of its end.
    pub at: u64,
    /// Which, in words.
    pub check: String,
    /// How it went.
    pub passed: bool,
    /// Milliseconds that it took.
    pub ms: u32,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong although it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concern: Option<String>,
    /// The state of the check after it: `unknown`, `up`, `degraded`, `suspect`, `down`, `ramp`.
    pub state: &'static str,
}

/// The checks of an endpoint, each with its description, and the last of them that ran, newest first.
#[derive(Clone, Debug, Default)]
pub struct EndpointChecks {
    /// Each with its description.
    pub specs: Vec<(CheckSpec, String)>,
    /// Of these: those that have no vote.
    pub advisory: Vec<CheckSpec>,
    /// Newest first.
    pub recent: Vec<Checked>,
    /// Whose transitions are kept in place of its own, and how many endpoints have the check: where those are too many.
    pub told_by: Option<(Arc<str>, usize)>,
}

/// A check that the prober is to run now, beside its own.
#[derive(Debug)]
pub struct Trial {
    /// Which.
    pub spec: CheckSpec,
    /// How it went.
    pub reply: oneshot::Sender<Timed>,
}

/// How an asked check went.
#[derive(Debug)]
pub struct Timed {
    /// The verdict.
    pub outcome: Outcome,
    /// What each part took that it came to, in milliseconds, in order.
    pub phases: Vec<PhaseTime>,
    /// All of it, in milliseconds.
    pub total_ms: f64,
    /// The time of the certificate that the peer showed.
    pub certificate: Option<Validity>,
}

/// A part of a check.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PhaseTime {
    /// `resolve`, `connect`, `tls`, `first byte`, `body`.
    pub phase: &'static str,
    /// What it took, in milliseconds.
    pub ms: f64,
}

/// How one check went that somebody asked for.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CheckedNow {
    /// Which, in words.
    pub check: String,
    /// How it went.
    pub passed: bool,
    /// It has no vote: its monitor is advisory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// Why it failed: in the phase that is the last of `phases`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What each part took that it came to, in order.
    pub phases: Vec<PhaseTime>,
    /// All of it, in milliseconds.
    pub total_ms: f64,
    /// Unix seconds of the end of the certificate that it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<u64>,
}

/// Every check of an endpoint, run because somebody asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AllCheckedNow {
    /// One for each check that asks.
    pub checks: Vec<CheckedNow>,
    /// Those that ask nothing and wait for reports, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

/// Endpoints that are checked at a time because somebody asked: more than people do, and few beside the checks that are due.
const MAX_ASKED: usize = 64;
/// The same endpoint: one that hangs does not take all places.
const MAX_ASKED_OF_ONE: usize = 4;

/// Endpoints that are being checked because somebody asked, with how many have.
#[derive(Debug, Default)]
pub(super) struct Asked(std::sync::Mutex<HashMap<String, usize>>);

/// A place among those; free when it goes.
struct Place {
    all: Arc<Asked>,
    id: String,
}

impl Asked {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A place for this endpoint, or why there is none.
    fn place(self: &Arc<Asked>, id: &str) -> Result<Place, Refusal> {
        let mut all = self.lock();
        let (whole, own) = (all.values().sum::<usize>(), all.get(id).copied().unwrap_or(0));
        let busy = |detail: String| Err(Refusal::Busy { detail });
        if own >= MAX_ASKED_OF_ONE {
            return busy(format!("{id} is being checked {own} times already because somebody asked, expected at most {MAX_ASKED_OF_ONE} at a time"));
        }
        if whole >= MAX_ASKED {
            return busy(format!("{whole} endpoints are being checked because somebody asked, expected at most {MAX_ASKED} at a time"));
        }
        *all.entry(id.to_owned()).or_default() += 1;
        Ok(Place { all: self.clone(), id: id.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(own) = all.get_mut(&self.id) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.id);
            }
        }
    }
}

/// The two ends of the queue of asked checks.
pub(super) type Trials = Arc<std::sync::Mutex<Option<mpsc::Receiver<Trial>>>>;

impl Handle {
    /// The checks of an endpoint (`zone/pool/address`), and how the last of them went; nothing when there is no such endpoint.
    pub async fn endpoint_checks(&self, id: String) -> Result<Option<EndpointChecks>, Refusal> {
        self.ask(|reply| Event::EndpointChecks(id, reply)).await
    }

    /// Has the prober run every check of an endpoint once, now; nothing when there is no such endpoint.
    pub async fn check_now(&self, id: String) -> Result<Option<AllCheckedNow>, Refusal> {
        let _place = self.asked.place(&id)?;
        let Some(checks) = self.endpoint_checks(id).await? else { return Ok(None) };
        let mut running = Vec::new();
        // There is nothing to ask where reports are waited for.
        let (waiting, asked): (Vec<_>, Vec<_>) = checks.specs.into_iter().partition(|(spec, _)| spec.monitor.kind.is_reported());
        for (spec, check) in asked {
            let advisory = checks.advisory.contains(&spec);
            let (reply, answer) = oneshot::channel();
            self.trials.send(Trial { spec, reply }).await.map_err(|_| Refusal::Stopping)?;
            running.push((check, advisory, answer));
        }
        let mut all = Vec::new();
        for (check, advisory, answer) in running {
            let Timed { outcome, phases, total_ms, certificate } = answer.await.map_err(|_| Refusal::Stopping)?;
            let error = outcome.err().map(|error| error.to_string());
            let certificate_ends = certificate.map(|validity| validity.until);
            all.push(CheckedNow { check, passed: error.is_none(), advisory, error, phases, total_ms, certificate_ends });
        }
        Ok(Some(AllCheckedNow { checks: all, waiting: waiting.into_iter().map(|(_, check)| check).collect() }))
    }

    /// The end of the queue of asked checks that the prober takes; `None` if somebody has it already.
    pub fn take_trials(&self) -> Option<mpsc::Receiver<Trial>> {
        self.trials_end.lock().ok()?.take()
    }
}

impl Writer {
    /// What is known of the checks of an endpoint.
    pub(super) fn endpoint_checks(&self, id: &str) -> Option<EndpointChecks> {
        let specs = self.loaded().checks_of(id)?;
        let timelines = specs.iter().filter_map(|(spec, words)| Some((self.checks.timeline(spec)?, words)));
        let mut recent: Vec<Checked> = timelines.flat_map(|(timeline, words)| timeline.shown(words)).collect();
        recent.sort_by_key(|checked| std::cmp::Reverse(checked.at));
        let advisory = self.loaded().advisory_of(id);
        let told_by = self.told_in_place_of(id, &specs);
        Some(EndpointChecks { specs, advisory, recent, told_by })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::api::CheckTarget;
    use crate::health::{Thresholds, Watch};
    use crate::policy::model::{Monitor, MonitorKind, TcpCheck};

    #[test]
    fn a_timeline_is_bounded_and_newest_first() {
        let second = Duration::from_secs(1);
        let thresholds = Thresholds { interval: second, fast: second, fall: 1, rise: 1 };
        let monitor = Monitor {
            name: String::new(),
            kind: MonitorKind::Tcp(TcpCheck::default()),
            port: 1,
            thresholds,
            timeout: second,
            source: Vec::new(),
            watch: Watch::default(),
        };
        let spec = CheckSpec { target: CheckTarget::Host("localhost".into()), monitor };
        let mut timeline = Timeline::default();
        for at in 0..100 {
            let outcome = if at % 3 == 0 { Ok(()) } else { Err(Failure::Status(500)) };
            timeline.push(
                &Observation { spec: spec.clone(), outcome, took: Duration::from_millis(at), certificate: None, poor: None },
                State::Suspect,
                Some("slow"),
                1_000 + at,
            );
        }
        assert_eq!(timeline.failed_words(), "13 of the last 20 checks failed");
        let shown = timeline.shown("a check");
        assert_eq!((shown.len(), shown[0].at, shown[TIMELINE_LEN - 1].at), (TIMELINE_LEN, 1_099, 1_080));
        assert_eq!((shown[0].passed, shown[1].passed, shown[1].ms), (true, false, 98));
        assert_eq!((shown[1].error.as_deref(), shown[1].state), (Some("HTTP status 500"), "suspect"));
        assert_eq!((shown[0].concern.as_deref(), shown[1].concern.as_deref()), (Some("slow"), None));
        // What ran before a reload asked something else, and keeps its words until it is too old.
        let run = |timeline: &mut Timeline, count: u64| {
            let observation = Observation { spec: spec.clone(), outcome: Ok(()), took: second, certificate: None, poor: None };
            (0..count).for_each(|_| timeline.push(&observation, State::Up, None, 2_000));
            timeline.shown("now").into_iter().fold(Vec::<(String, usize)>::new(), |mut all, checked| {
                match all.last_mut().filter(|(check, _)| *check == checked.check) {
                    Some((_, count)) => *count += 1,
                    None => all.push((checked.check, 1)),
                }
                all
            })
        };
        let of = |check: &str, count: usize| (check.to_owned(), count);
        timeline.ask_otherwise("old");
        timeline.ask_otherwise("none asked this");
        assert_eq!(run(&mut timeline, 5), [of("now", 5), of("old (before a reload)", 15)]);
        timeline.ask_otherwise("new");
        assert_eq!(run(&mut timeline, 3), [of("now", 3), of("new (before a reload)", 5), of("old (before a reload)", 12)]);
        assert_eq!(run(&mut timeline, 14), [of("now", 17), of("new (before a reload)", 3)]);
    }
}
