//! What is known of every check, and from that of every endpoint. Owned by the single writer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::api::{CheckSpec, Observation};
use super::compile::ZoneParts;
use crate::dns::Name;
use crate::health::machine::{self, Machine};
use crate::health::{Failure, State};
use crate::store::Verdict;

/// Verdicts of an earlier run count while they are younger than this (CONTRACT, Health before and between checks).
const VERDICT_MAX_AGE_S: u64 = 3600;

/// A check that came back ramps for this many TTLs of the slowest name that uses it, [`machine::RAMP`] at least: shares move in answers at once,
/// but loads follow one TTL later (algorithms §3.4).
const RAMP_TTLS: u32 = 4;

/// Steps of a ramp's share: small enough not to be noticed, and each of them is a new world.
const RAMP_STEPS: f64 = 32.0;

/// What zones want of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use {
    ramp: Duration,
    users: Vec<User>,
}

/// A pool with an endpoint that uses a check: apex and index in the zone's model.
pub(super) type User = (Name, usize);

/// Every check that some zone wants, with who uses it and how long it ramps.
pub(super) fn wanted_by<'a>(zones: impl Iterator<Item = &'a ZoneParts>) -> (Vec<CheckSpec>, HashMap<CheckSpec, Use>) {
    let (mut wanted, mut uses) = (Vec::new(), HashMap::new());
    for zone in zones {
        let mut slowest = vec![0; zone.checks.len()];
        for steer in &zone.model.steers {
            for ix in zone.model.pools_below(steer.root) {
                let ttl: &mut u32 = &mut slowest[ix.0 as usize];
                *ttl = steer.ttl.max.max(*ttl);
            }
        }
        for (pool, (endpoints, ttl)) in zone.checks.iter().zip(slowest).enumerate() {
            for spec in endpoints.iter().flatten() {
                let used: &mut Use = uses.entry(spec.clone()).or_insert_with(|| {
                    wanted.push(spec.clone());
                    Use { ramp: machine::RAMP, users: Vec::new() }
                });
                used.ramp = Duration::from_secs(u64::from(ttl.saturating_mul(RAMP_TTLS))).max(used.ramp);
                if used.users.last().is_none_or(|(apex, last)| *last != pool || *apex != zone.model.name) {
                    used.users.push((zone.model.name.clone(), pool));
                }
            }
        }
    }
    (wanted, uses)
}

/// Every check that some endpoint wants.
#[derive(Debug, Default)]
pub(super) struct Checks {
    known: HashMap<Arc<CheckSpec>, Check>,
    /// Those with a ramp running.
    ramping: HashSet<Arc<CheckSpec>>,
    /// Verdicts of the last run that no check has claimed yet.
    kept: HashMap<String, Verdict>,
}

/// One check.
#[derive(Debug)]
pub(super) struct Check {
    machine: Machine,
    seen: CheckSeen,
    changed: bool,
    users: Vec<User>,
    /// Of the ramp's share, when last looked at.
    step: u8,
}

/// What is shown of one check.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckSeen {
    /// Unix seconds of the last change of state.
    pub(super) since_unix: Option<u64>,
    pub(super) last_check_unix: Option<u64>,
    pub(super) last_ms: Option<u64>,
    pub(super) next_check_unix: Option<u64>,
    pub(super) last_error: Option<String>,
    /// Passed and failed in this run; those that could not be carried out are neither.
    pub(super) ended: [u64; 2],
    /// Restored from the last run, not confirmed yet.
    pub(super) stale: bool,
}

/// What one observation did.
pub(super) struct Observed {
    /// Until the next check.
    pub(super) delay: Duration,
    /// The state changed.
    pub(super) transition: Option<(State, State)>,
}

impl Checks {
    /// Takes over what the last run knew.
    pub(super) fn restore(&mut self, verdicts: Vec<Verdict>, now_unix: u64) {
        let fresh = |verdict: &Verdict| now_unix.saturating_sub(verdict.last_check_unix) < VERDICT_MAX_AGE_S;
        self.kept.extend(verdicts.into_iter().filter(fresh).map(|verdict| (verdict.key.clone(), verdict)));
    }

    /// Makes the set of checks exactly `wanted`, each with its ramp time; those that stay keep what is known of them. One that is new takes over
    /// from one that went away and connected to the same place: an endpoint that is down does not come back because somebody edited its monitor.
    pub(super) fn set_wanted(&mut self, wanted: &[CheckSpec], mut uses: HashMap<CheckSpec, Use>, now: Duration) {
        let mut before = std::mem::take(&mut self.known);
        self.known.extend(wanted.iter().filter_map(|spec| before.remove_entry(spec)));
        for spec in wanted {
            if self.known.contains_key(spec) {
                continue;
            }
            let check = match self.kept.remove(&key(spec)) {
                Some(verdict) => Check::restored(verdict, now),
                None => successor(&mut before, spec).unwrap_or_else(|| Check::new(now)),
            };
            self.known.insert(Arc::new(spec.clone()), check);
        }
        for (spec, check) in &mut self.known {
            if let Some(used) = uses.remove(&**spec) {
                check.machine.set_ramp(used.ramp);
                check.users = used.users;
            }
        }
        self.ramping = self.known.iter().filter(|(_, check)| check.machine.ramp_ends().is_some()).map(|(spec, _)| spec.clone()).collect();
    }

    /// The pools whose endpoints a check decides on.
    pub(super) fn users(&self, spec: &CheckSpec) -> &[User] {
        self.known.get(spec).map_or(&[], |check| &check.users)
    }

    /// Steps one check. `None` when nobody wants it any more.
    pub(super) fn observe(&mut self, observation: &Observation, now: Duration, now_unix: u64) -> Option<Observed> {
        let (spec, _) = self.known.get_key_value(&observation.spec)?;
        let spec = spec.clone();
        let check = self.known.get_mut(&observation.spec)?;
        let thresholds = &observation.spec.monitor.thresholds;
        let counts = !matches!(observation.outcome, Err(Failure::Internal(_)));
        let transition = check.machine.observe(thresholds, &observation.outcome, now);
        if counts {
            check.seen.ended[usize::from(observation.outcome.is_err())] += 1;
            check.seen.stale = false;
        }
        check.seen.last_error = observation.outcome.as_ref().err().map(ToString::to_string);
        check.seen.last_check_unix = Some(now_unix);
        check.seen.last_ms = Some(observation.took.as_millis() as u64);
        check.changed = true;
        if transition.is_some() {
            check.seen.since_unix = Some(now_unix);
            if check.machine.ramp_ends().is_some() {
                self.ramping.insert(spec);
            }
        }
        let delay = check.machine.next_delay(thresholds);
        // Intervals run from start to start, and this check began `took` ago.
        check.seen.next_check_unix = Some(now_unix + delay.saturating_sub(observation.took).as_secs());
        Some(Observed { delay, transition: transition.map(|step| (step.from, step.to)) })
    }

    /// Ends ramps whose time is over; returns the users of checks whose share of the weight has moved a step.
    pub(super) fn tick(&mut self, now: Duration, now_unix: u64) -> Vec<User> {
        let mut moved = Vec::new();
        let known = &mut self.known;
        self.ramping.retain(|spec| {
            let Some(check) = known.get_mut(spec) else { return false };
            if check.machine.tick(now).is_some() {
                check.seen.since_unix = Some(now_unix);
                check.changed = true;
            }
            let step = (check.machine.ramp_share(now) * RAMP_STEPS) as u8;
            if std::mem::replace(&mut check.step, step) != step {
                moved.extend_from_slice(&check.users);
            }
            check.machine.ramp_ends().is_some()
        });
        moved
    }

    /// What is shown of all of them.
    pub(super) fn seen(&self) -> HashMap<Arc<CheckSpec>, CheckSeen> {
        self.known.iter().map(|(spec, check)| (spec.clone(), check.seen.clone())).collect()
    }

    /// All must pass: the worst state counts, and the smallest share of a ramp.
    ///
    /// ```text
    /// no check            up
    /// any down            down
    /// any unknown         unknown
    /// any suspect         suspect
    /// any ramp            ramp
    /// else                up
    /// ```
    pub(super) fn state_of(&self, specs: &[CheckSpec], now: Duration) -> (State, f32) {
        const WORST_FIRST: [State; 4] = [State::Down, State::Unknown, State::Suspect, State::Ramp];
        let machines = || specs.iter().filter_map(|spec| self.known.get(spec)).map(|check| &check.machine);
        let state = WORST_FIRST.into_iter().find(|state| machines().any(|machine| machine.state() == *state)).unwrap_or(State::Up);
        let share = machines().map(|machine| machine.ramp_share(now)).fold(1.0, f64::min);
        (state, ((share * RAMP_STEPS).floor() / RAMP_STEPS).max(machine::RAMP_FLOOR) as f32)
    }

    /// What changed since the last call, to be kept for the next run.
    pub(super) fn take_changed(&mut self) -> Vec<Verdict> {
        let verdict = |(spec, check): (&Arc<CheckSpec>, &mut Check)| {
            let changed = std::mem::take(&mut check.changed);
            let last_check_unix = check.seen.last_check_unix.filter(|_| changed)?;
            Some(Verdict {
                key: key(spec),
                state: check.machine.state(),
                since_unix: check.seen.since_unix.unwrap_or(last_check_unix),
                last_check_unix,
                last_error: check.seen.last_error.clone(),
            })
        };
        self.known.iter_mut().filter_map(verdict).collect()
    }
}

impl Check {
    fn new(now: Duration) -> Check {
        Check { machine: Machine::new(now), seen: CheckSeen::default(), changed: false, users: Vec::new(), step: RAMP_STEPS as u8 }
    }

    /// Ramps do not outlive a process: there is none at start (CONTRACT). Suspicion does not either: the count of failures is gone.
    fn restored(verdict: Verdict, now: Duration) -> Check {
        let state = match verdict.state {
            State::Ramp | State::Suspect => State::Up,
            state => state,
        };
        Check {
            machine: Machine::restored(state, now),
            seen: CheckSeen {
                since_unix: Some(verdict.since_unix),
                last_check_unix: Some(verdict.last_check_unix),
                last_error: verdict.last_error,
                stale: state != State::Unknown,
                ..CheckSeen::default()
            },
            ..Check::new(now)
        }
    }
}

/// The check that `spec` replaces: one of the same kind at the same place if there is one, else any at that place.
fn successor(before: &mut HashMap<Arc<CheckSpec>, Check>, spec: &CheckSpec) -> Option<Check> {
    let at_place = |old: &&Arc<CheckSpec>| old.target == spec.target && old.monitor.port == spec.monitor.port;
    let alike = before.keys().filter(at_place).find(|old| old.monitor.kind == spec.monitor.kind);
    let old = alike.or_else(|| before.keys().find(at_place))?.clone();
    before.remove(&old)
}

/// Names a check by content: what is connected to and what is asked there.
fn key(spec: &CheckSpec) -> String {
    format!("{spec:?}")
}
