//! What results of checks do, and whether failures are believed: the references that are checked beside everything else, and what a freeze and its end mean.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::api::{CheckSpec, CheckTarget, HealthStatus, Observation, ReferenceStatus, Who};
use super::audit::{Entry, Kind};
use super::checks::{self, Group};
use super::state::ZoneState;
use super::transitions::MAX_TOLD;
use super::writer::Writer;
use crate::config::HealthOptions;
use crate::health::doubt::{Census, Doubt, Turn, Why};
use crate::health::{Failure, Outcome, State, Thresholds, Watch};
use crate::policy::model::{Monitor, MonitorKind, TcpCheck};

/// Between checks of a reference: shorter than any check takes from its first failure to its fall by default (4 s), so that one that works never delays
/// a true alarm.
const INTERVAL: Duration = Duration::from_secs(3);
/// While it fails.
const FAST: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Between two looks around while results come in; a tick looks, too.
const LOOK_GAP: Duration = Duration::from_millis(100);

/// Tells the check of a reference from one of an endpoint at the same place.
const NAME: &str = "reference";

/// The references.
#[derive(Debug, Default)]
pub(super) struct References {
    all: Vec<Reference>,
    looked: Duration,
}

#[derive(Debug)]
struct Reference {
    address: SocketAddr,
    spec: CheckSpec,
    last_error: Option<String>,
}

impl References {
    /// Takes what the file says.
    pub(super) fn set(&mut self, options: &HealthOptions, doubt: &mut Doubt, now: Duration) {
        let from: Vec<_> = options.references.iter().map(|wanted| self.all.iter().position(|known| known.address == *wanted)).collect();
        doubt.set(options.freeze, &from, now);
        let mut before: Vec<_> = std::mem::take(&mut self.all).into_iter().map(Some).collect();
        let kept = |at: Option<usize>| at.and_then(|at| before.get_mut(at)?.take());
        self.all =
            from.into_iter().map(kept).zip(&options.references).map(|(kept, address)| kept.unwrap_or_else(|| Reference::of(*address))).collect();
    }

    /// What the prober is to check for them.
    pub(super) fn specs(&self) -> impl Iterator<Item = CheckSpec> {
        self.all.iter().map(|reference| reference.spec.clone())
    }

    /// Takes the result of a reference; until its next check, or `None` when it is of none.
    pub(super) fn observe(&mut self, observation: &Observation, doubt: &mut Doubt, now: Duration) -> Option<Duration> {
        if observation.spec.monitor.name != NAME {
            return None;
        }
        let at = self.all.iter().position(|reference| reference.spec == observation.spec)?;
        let reference = &mut self.all[at];
        reference.last_error = observation.outcome.as_ref().err().map(ToString::to_string);
        // That there is no way to it tells of this machine's network: just what a reference is for. A lack of descriptors is no lack of network.
        let is_result = !matches!(observation.outcome, Err(Failure::Internal(_)));
        if is_result {
            doubt.observe(at, observation.outcome.is_ok(), now);
        }
        Some(if observation.outcome.is_ok() { INTERVAL } else { FAST })
    }

    /// What is shown; `passing` says how many checks have passed since a moment, and of how many.
    pub(super) fn seen(&self, doubt: &Doubt, passing: impl FnOnce(Duration) -> (usize, usize), now: Duration, now_unix: u64) -> HealthStatus {
        let unix = |at: Duration| now_unix.saturating_sub(now.saturating_sub(at).as_secs());
        let references = self.all.iter().enumerate().map(|(at, reference)| {
            let (passed, failed) = doubt.reference(at);
            ReferenceStatus {
                address: reference.address.to_string(),
                answers: passed.is_some() && failed.is_none(),
                last_answer: passed.map(unix),
                last_error: reference.last_error.clone(),
            }
        });
        let frozen = doubt.frozen();
        HealthStatus {
            frozen_since: frozen.map(|(since, _)| unix(since).saturating_sub(doubt.spent().as_secs())),
            frozen_why: frozen.map(|(since, why)| said(Group::Asked, why, passing(since))),
            references: references.collect(),
            ..HealthStatus::default()
        }
    }

    /// Those that have not answered in this run, though there was time, where their silence is not what is told of.
    fn silent(&self, doubt: &Doubt) -> Vec<String> {
        let is_told = matches!(doubt.frozen(), Some((_, Why::References)));
        let silent = self.all.iter().enumerate().filter(|(at, _)| !is_told && matches!(doubt.reference(*at), (None, Some(_))));
        silent.map(|(_, reference)| reference.address.to_string()).collect()
    }
}

impl Reference {
    fn of(address: SocketAddr) -> Reference {
        let thresholds = Thresholds { interval: INTERVAL, fast: FAST, fall: 1, rise: 1 };
        let monitor = Monitor {
            name: NAME.into(),
            kind: MonitorKind::Tcp(TcpCheck::default()),
            port: address.port(),
            thresholds,
            timeout: TIMEOUT,
            source: Vec::new(),
            watch: Watch { slow: None, ..Watch::default() },
        };
        Reference { address, spec: CheckSpec { target: CheckTarget::Address(address.ip()), monitor }, last_error: None }
    }
}

/// Why, in words that are true now: `passing` of `known` checks have passed since.
fn said(group: Group, why: Why, (passing, known): (usize, usize)) -> String {
    match why {
        Why::Mass(census) if group == Group::Measured => {
            let Census { checked, failing } = census;
            format!("queries of Prometheus say of {failing} of {checked} endpoints at once that they fail, in several places: its data may be wrong")
        }
        Why::Mass(census) if group != Group::Asked => {
            format!(
                "{} of {} endpoints are reported to fail at once, in several places: whoever reports may be wrong",
                census.failing, census.checked
            )
        }
        Why::References if passing * 2 > known => format!(
            "no reference answers, but {passing} of {known} checks pass: the references may be gone, or the way to them, and not this server's own network"
        ),
        Why::References => "no reference answers: this server's own network may be gone".into(),
        Why::Mass(census) => {
            format!("{} of {} checks fail at once, in several places: this server's own network may be gone", census.failing, census.checked)
        }
    }
}

impl Writer {
    pub(super) fn observe(&mut self, observation: &Observation, reply: oneshot::Sender<Duration>) {
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        let given = self.given_for(observation, now);
        // Without a reply the prober knows that nobody wants this check any more.
        let Some(observed) = self.checks.observe(observation, given, now, now_unix) else { return };
        let _ = reply.send(observed.delay);
        self.tell_observed(observation, &observed);
    }

    /// Takes the result of a check that the prober knows nothing of.
    pub(super) fn observe_reported(&mut self, spec: &CheckSpec, outcome: Outcome, poor: Option<u8>) {
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        let observation = Observation { spec: spec.clone(), outcome, took: Duration::ZERO, certificate: None, poor };
        let given = self.given_for(&observation, now);
        if let Some(observed) = self.checks.observe(&observation, given, now, now_unix) {
            self.tell_observed(&observation, &observed);
        }
    }

    /// What those who use a check make of its result.
    fn given_for(&self, observation: &Observation, now: Duration) -> checks::Given {
        if observation.outcome.is_err() { checks::Given::default() } else { self.given(&observation.spec, now) }
    }

    /// The same of what passes.
    pub(super) fn given(&self, spec: &CheckSpec, now: Duration) -> checks::Given {
        let is_served =
            |(apex, pool): &checks::User| self.zones.get(apex).is_some_and(|zone| zone.is_in_panic(*pool) || zone.was_last_resort(*pool, now));
        checks::Given {
            needed: self.checks.held_back(spec, now).is_some_and(|users| self.is_needed(users)),
            served: self.checks.about_to_rise(spec).is_some_and(|users| !users.is_empty() && users.iter().all(is_served)),
        }
    }

    fn tell_observed(&mut self, observation: &Observation, observed: &checks::Observed) {
        if let Some((from, to)) = observed.transition {
            self.tell_transition(&observation.spec, from, to, &observed.why);
        } else if observed.turned {
            self.look_again_at_users(&observation.spec);
        }
        if observation.outcome.is_err() {
            self.look_around(self.checks.is_of_crowd(&observation.spec));
        }
    }

    /// Marks what a check decides on.
    pub(super) fn look_again_at_users(&mut self, spec: &CheckSpec) {
        for (apex, pool) in self.checks.users(spec) {
            self.dirty.entry(apex.clone()).or_default().pools.insert(*pool);
        }
    }

    /// Some name that reaches these pools has nothing better, or a safety rule keeps what fails: what passes is better than that.
    fn is_needed(&self, users: &[checks::User]) -> bool {
        let needs = |zone: &ZoneState, pool: usize| zone.keeping.is_any() || zone.has_nothing_beside(pool);
        users.iter().any(|(apex, pool)| self.zones.get(apex).is_some_and(|zone| needs(zone, *pool)))
    }

    /// Looks whether failures are to be believed. While results come in not at every one of them: `soon` for the one that has to be looked at now.
    pub(super) fn look_around(&mut self, soon: bool) {
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        if !soon && now < self.checks.references.looked + LOOK_GAP {
            return;
        }
        self.checks.references.looked = now;
        Group::ALL.into_iter().for_each(|group| self.look_at(group, now, now_unix));
    }

    fn look_at(&mut self, group: Group, now: Duration, now_unix: u64) {
        let census = self.checks.census(group, now);
        let mut doubt = std::mem::take(&mut self.checks.doubts[group as usize]);
        let turn = doubt.look(census, || self.checks.failing_places(group), now);
        self.checks.doubts[group as usize] = doubt;
        self.outlasting.moved |= self.checks.note_freeze(group, now, now_unix);
        let Some(turn) = turn else { return };
        let (action, text) = match turn {
            Turn::Frozen(why) => ("health.freeze", format!("{}; nothing is withdrawn until that is known better", said(group, why, (0, 0)))),
            Turn::Calm => ("health.thaw", "what failed at once is back: failures count again".into()),
            Turn::Answered => ("health.thaw", "a reference answers: failures count again".into()),
            Turn::Believed => ("health.thaw", "it has lasted too long to be a mistake: failures count again".into()),
            Turn::Disregarded => ("health.thaw", "no reference has answered for too long for that to mean anything: failures count again".into()),
        };
        let entry = Entry { kind: Kind::Health, detail: Some(text.clone()), ..self.entry(&Who::itself(), action, "health") };
        self.keep_entry(entry);
        match turn {
            Turn::Frozen(_) => tracing::error!(target: "meridian::health", "frozen: {text}"),
            _ => tracing::warn!(target: "meridian::health", "thawed: {text}"),
        }
        if let Turn::Frozen(Why::Mass(_)) = turn {
            for spec in self.checks.reprieve(group, now, now_unix) {
                self.tell_transition(&spec, State::Down, State::Suspect, "it fell with everything else, which is doubted now");
            }
        }
    }

    /// Whether failures are believed, for the status.
    pub(super) fn seen_health(&self) -> HealthStatus {
        let (checks, doubt) = (&self.checks, &self.checks.doubts[Group::Asked as usize]);
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        let seen = checks.references.seen(doubt, |since| checks.passing_since(since), now, now_unix);
        // Where checks are believed, the first of the others that are not.
        let others = Group::ALL.into_iter().filter_map(|group| Some((group, checks.doubts[group as usize].frozen()?)));
        match others.min_by_key(|(_, (since, _))| *since).filter(|_| seen.frozen_since.is_none()) {
            None => seen,
            Some((group, (since, why))) => HealthStatus {
                frozen_since: Some(now_unix.saturating_sub((now.saturating_sub(since) + checks.doubts[group as usize].spent()).as_secs())),
                frozen_why: Some(said(group, why, (0, 0))),
                ..seen
            },
        }
    }

    /// What is wrong with the references.
    pub(super) fn health_trouble(&self) -> Vec<String> {
        let doubts = &self.checks.doubts;
        let silent = self.checks.references.silent(&doubts[Group::Asked as usize]);
        let frozen = Group::ALL.into_iter().filter_map(|group| {
            let (since, why) = doubts[group as usize].frozen()?;
            let what = match group {
                Group::Asked => "health is frozen",
                Group::Said | Group::Counted => "reports take nothing down",
                Group::Measured => "queries of Prometheus take nothing down",
            };
            Some(format!("{what}: {}", said(group, why, self.checks.passing_since(since))))
        });
        let silent =
            silent.into_iter().map(|address| format!("reference {address} has not answered since the start, so it is no evidence of anything"));
        frozen.chain(silent).chain(self.own_trouble()).chain(self.panic_trouble().take(MAX_TOLD)).collect()
    }
}
