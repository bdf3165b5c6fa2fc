//! What is known of every check, and from that of every endpoint. Owned by the single writer. Whether a failure is believed at all is judged beside it
//! ([`super::believing`]).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::api::{CheckSpec, CheckTarget, Observation};
use super::believing::References;
use super::check::{Check, CheckSeen, Told, stale_after, unix_of};
use super::compile::{ZoneParts, answered};
use super::standing::Standing;
use super::status::describe;
use super::timeline::Timeline;
use super::verdicts::{Outliving, VERDICT_MAX_AGE_S};
use crate::dns::Name;
use crate::health::dates::{self, Bound, Crowd};
use crate::health::doubt::{Census, Doubt, LEAST_CHECKED};
use crate::health::machine::{self, Around};
use crate::health::{Failure, State, Transition};
use crate::policy::model::MonitorKind;
use crate::store::Verdict;

/// A check that came back ramps for this many TTLs of the slowest name that uses it, [`machine::RAMP`] at least: shares move in answers at once,
/// but loads follow one TTL later (algorithms §3.4).
const RAMP_TTLS: u32 = 4;

/// What fell within so many of its intervals fell at once with what fails now.
const RECENT_INTERVALS: u32 = 2;

/// What is reported to have fallen within this time fell at once with what is reported to fail now.
const RECENT_REPORTS: Duration = Duration::from_secs(30);

/// Between two counts of certificates.
const CROWD_EVERY: Duration = Duration::from_secs(1);

/// Certificates from the future that are remembered.
const MAX_EARLY: usize = 1_000;

/// Seconds between two writes of a verdict that is reported again and again, unless it grows old sooner.
const KEEP_REPORTED_S: u64 = 60;

/// What zones want of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use {
    ramp: Duration,
    users: Vec<User>,
    /// Region of the first pool that uses it, or that pool.
    place: Arc<str>,
    /// Some of them go by it.
    votes: bool,
    /// Where one query decides on several endpoints.
    reach: Reach,
}

/// What a query decides on that is the same for all endpoints which use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) endpoints: HashSet<CheckTarget>,
    /// Regions of their pools, or those pools.
    pub(super) places: HashSet<Arc<str>>,
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
            let place = || {
                let pool = &zone.model.pools[pool];
                pool.region.as_ref().map_or_else(|| pool.id.clone(), |region| format!("region:{region}").into())
            };
            let models = &zone.model.pools[pool].endpoints;
            let each =
                models.iter().zip(endpoints).flat_map(|(endpoint, specs)| specs.iter().enumerate().map(move |(at, spec)| (endpoint, at, spec)));
            for (endpoint, at, spec) in each {
                let used: &mut Use = uses.entry(spec.clone()).or_insert_with(|| {
                    wanted.push(spec.clone());
                    Use { ramp: machine::RAMP, users: Vec::new(), place: place(), votes: false, reach: Reach::default() }
                });
                used.votes |= endpoint.goes_by(at);
                if is_of_many(spec) && endpoint.goes_by(at) {
                    used.reach.endpoints.insert(answered(&endpoint.target));
                    used.reach.places.insert(place());
                }
                used.ramp = Duration::from_secs(u64::from(ttl.saturating_mul(RAMP_TTLS))).max(used.ramp);
                if used.users.last().is_none_or(|(apex, last)| *last != pool || *apex != zone.model.name) {
                    used.users.push((zone.model.name.clone(), pool));
                }
            }
        }
    }
    (wanted, uses)
}

/// One query that decides on every endpoint which uses it.
fn is_of_many(spec: &CheckSpec) -> bool {
    matches!(&spec.monitor.kind, MonitorKind::Prometheus(asked) if !asked.is_of_endpoint())
}

/// Every check that some endpoint wants.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) known: HashMap<Arc<CheckSpec>, Check>,
    /// Those with a ramp running.
    pub(super) ramping: HashSet<Arc<CheckSpec>>,
    /// Those whose state is another since verdicts were taken.
    pub(super) moved: Vec<Arc<CheckSpec>>,
    /// Verdicts without a check.
    pub(super) outliving: Outliving,
    /// What is doubted of each [`Group`].
    pub(super) doubts: [Doubt; Group::ALL.len()],
    pub(super) references: References,
    /// Since when more than half of a group fails, as it is kept for the next run: unix seconds.
    pub(super) freezes: BTreeMap<Group, u64>,
    /// Those whose last word grows old: they wait for others to tell.
    pub(super) told: Vec<Arc<CheckSpec>>,
    /// When the first of them may be old enough to be forgotten.
    forget_at: Option<Duration>,
    /// Those of agents whose last word is not obeyed yet.
    pub(super) waiting: HashSet<Arc<CheckSpec>>,
    /// Checks that have a vote, by group and state of their machines, which are never degraded.
    pub(super) tally: [[usize; 5]; Group::ALL.len()],
    /// Of those that this server asks: so many could not run when they should have run last.
    unable: usize,
    /// Of these: for this machine's clock.
    misled: usize,
    /// Unix seconds of something that has been.
    pub(super) past: u64,
    /// Unix seconds of the first second of the youngest certificate that has passed.
    issued: u64,
    /// First seconds of certificates that were met before them: they tell nothing of when that is.
    early: HashSet<u64>,
    /// How the certificates stand that were met last, and when that was counted.
    crowd: Option<(Duration, Crowd)>,
    /// Of the same: in so many places they are.
    places: usize,
    /// By group: those that fell a moment ago, oldest first; some may be back.
    pub(super) fallen: [VecDeque<(Duration, Arc<CheckSpec>)>; Group::ALL.len()],
}

/// Who says how things are. Whoever errs, errs about everything at once, so each group is doubted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// This server.
    Asked,
    /// Agents and balancers.
    Said,
    /// Callers.
    Counted,
    /// A Prometheus.
    Measured,
}

impl Group {
    pub(super) const ALL: [Group; 4] = [Group::Asked, Group::Said, Group::Counted, Group::Measured];

    /// The word under which something is kept of it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Group::Asked => "asked",
            Group::Said => "said",
            Group::Counted => "counted",
            Group::Measured => "measured",
        }
    }

    pub(super) fn of(spec: &CheckSpec) -> Group {
        match spec.monitor.kind {
            MonitorKind::Push(_) => Group::Said,
            MonitorKind::Share(_) => Group::Counted,
            MonitorKind::Prometheus(_) => Group::Measured,
            _ => Group::Asked,
        }
    }
}

/// What this server asks by itself, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) checks: usize,
    /// Regions and pools without one that they are in.
    pub(super) places: usize,
    /// Those that have come to a verdict.
    pub(super) known: usize,
    /// Of them, suspect or down.
    pub(super) failing: usize,
    /// Of all, those that could not run when they should have run last.
    pub(super) unable: usize,
}

/// What those who use a check make of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// They have too little without it.
    pub(super) needed: bool,
    /// All of them hand it out although it is down.
    pub(super) served: bool,
}

/// What one observation did.
pub(super) struct Observed {
    /// Until the next check.
    pub(super) delay: Duration,
    /// The state changed.
    pub(super) transition: Option<(State, State)>,
    /// It is burdened now and was not, or the reverse.
    pub(super) turned: bool,
    /// Why it is in the state that it is in, if there is anything to say.
    pub(super) why: String,
}

impl Checks {
    /// Takes over since when more than half of a group failed as the last run ended.
    pub(super) fn resume(&mut self, freezes: &BTreeMap<String, u64>, now: Duration, now_unix: u64) {
        for group in Group::ALL {
            let Some(since) = freezes.get(group.word()) else { continue };
            let age = now_unix.saturating_sub(*since);
            if age < VERDICT_MAX_AGE_S {
                self.doubts[group as usize].resume(Duration::from_secs(age), now);
                self.freezes.insert(group, *since);
            }
        }
    }

    /// Notes since when more than half of a group fails; true when that is another than before.
    pub(super) fn note_freeze(&mut self, group: Group, now: Duration, now_unix: u64) -> bool {
        match (self.doubts[group as usize].mass_age(now), self.freezes.contains_key(&group)) {
            (Some(age), false) => self.freezes.insert(group, now_unix.saturating_sub(age.as_secs())).is_none(),
            (None, true) => self.freezes.remove(&group).is_some(),
            _ => false,
        }
    }

    /// Makes the set of checks exactly `wanted`, each with its ramp time; those that stay keep what is known of them. One that is new takes over
    /// from one that went away and connected to the same place: an endpoint that is down does not come back because somebody edited its monitor.
    pub(super) fn set_wanted(&mut self, wanted: &[CheckSpec], mut uses: HashMap<CheckSpec, Use>, now: Duration, now_unix: u64) {
        let mut before = std::mem::take(&mut self.known);
        self.known.extend(wanted.iter().filter_map(|spec| before.remove_entry(spec)));
        for spec in wanted {
            if self.known.contains_key(spec) {
                continue;
            }
            let check = self.outliving.claim(spec, now, now_unix).or_else(|| successor(&mut before, spec));
            self.known.insert(Arc::new(spec.clone()), check.unwrap_or_else(|| Check::first(spec, now)));
        }
        self.outliving.part(before, now, now_unix);
        for (spec, check) in &mut self.known {
            if let Some(used) = uses.remove(&**spec) {
                check.machine.set_ramp(used.ramp);
                check.users = used.users;
                check.place = Some(used.place);
                check.reach = Some(used.reach).filter(|reach| !reach.endpoints.is_empty()).map(Box::new);
                check.votes = used.votes;
            }
        }
        self.count();
        let waits = |(spec, check): &(&Arc<CheckSpec>, &Check)| check.is_waiting(spec);
        self.waiting = self.known.iter().filter(waits).map(|(spec, _)| spec.clone()).collect();
        self.told = self.known.keys().filter(|spec| spec.monitor.kind.grows_old()).cloned().collect();
        // Whatever comes of the last run may be too old already.
        self.forget_at = Some(now);
        self.ramping = self.known.iter().filter(|(_, check)| check.machine.ramp_ends().is_some()).map(|(spec, _)| spec.clone()).collect();
    }

    /// How the last of a check went.
    pub(super) fn timeline(&self, spec: &CheckSpec) -> Option<&Timeline> {
        self.known.get(spec).map(|check| &check.timeline)
    }

    /// Unix seconds since when a check is in its state.
    pub(super) fn since_unix(&self, spec: &CheckSpec) -> Option<u64> {
        self.known.get(spec).and_then(|check| check.seen.since_unix)
    }

    /// The pools whose endpoints a check decides on.
    pub(super) fn users(&self, spec: &CheckSpec) -> &[User] {
        self.known.get(spec).map_or(&[], |check| &check.users)
    }

    fn count(&mut self) {
        self.tally = Default::default();
        for (spec, check) in self.known.iter().filter(|(_, check)| check.votes) {
            self.tally[Group::of(spec) as usize][check.machine.state() as usize] += 1;
        }
        let asked = || self.known.iter().filter(|(spec, check)| check.votes && Group::of(spec) == Group::Asked).map(|(_, check)| check);
        self.unable = asked().filter(|check| check.seen.unable).count();
        self.misled = asked().filter(|check| check.seen.misled).count();
        self.places = asked().filter_map(|check| check.place.as_deref()).collect::<HashSet<_>>().len();
    }

    /// Of what this server asks: what is there, what fails, what cannot be asked.
    pub(super) fn asked(&self) -> Asked {
        let tally = &self.tally[Group::Asked as usize];
        Asked {
            checks: tally.iter().sum(),
            places: self.places,
            known: tally.iter().sum::<usize>() - tally[State::Unknown as usize],
            failing: tally[State::Suspect as usize] + tally[State::Down as usize],
            unable: self.unable,
        }
    }

    /// How many of those could not run for this machine's clock, and why one of them.
    pub(super) fn misled(&self) -> (usize, Option<&str>) {
        let why = || self.known.values().find(|check| check.seen.misled)?.seen.no_verdict.as_ref().map(|(why, _)| why.as_str());
        (self.misled, (self.misled > 0).then(why).flatten())
    }

    /// A result that is for this machine's clock, as what it is.
    fn by_the_clock(&mut self, observation: &Observation, now: Duration) -> Option<Observation> {
        let Err(Failure::OutOfTime(found)) = &observation.outcome else { return None };
        let check = self.known.get_mut(&observation.spec)?;
        check.in_time = Some(false);
        observation.certificate.iter().for_each(|certificate| check.seen.concerns.shown(certificate));
        if let (Bound::From(from), Some(certificate)) = (found.bound, &observation.certificate)
            && self.early.len() < MAX_EARLY
        {
            self.early.extend((certificate.from == from).then_some(from));
        }
        let around = dates::Around { now, passed: check.passed_by, past: self.past, issued: self.issued };
        let why = dates::doubt(found, &around, || self.crowd(now))?;
        let said = format!("{why} ({})", found.why);
        let failure = if why == dates::Why::Unproven { Failure::Internal(said) } else { Failure::Clock(said) };
        Some(Observation { outcome: Err(failure), ..observation.clone() })
    }

    /// Different certificates by how they stand; those are different that end at different moments. Counted once a second at most: it is asked for each
    /// that is not valid in time, and by a wrong clock all of them are.
    fn crowd(&mut self, now: Duration) -> Crowd {
        if let Some((_, crowd)) = self.crowd.filter(|(at, _)| now < *at + CROWD_EVERY) {
            return crowd;
        }
        let of = |in_time: bool| {
            let those = self.known.values().filter(|check| check.in_time == Some(in_time));
            those.filter_map(|check| check.seen.concerns.certificate_ends()).collect::<HashSet<u64>>()
        };
        let (good, bad) = (of(true), of(false));
        let crowd = Crowd { good: good.len(), bad: bad.difference(&good).count() };
        self.crowd = Some((now, crowd));
        crowd
    }

    /// Why one of those could not run that could not.
    pub(super) fn why_unable(&self) -> Option<&str> {
        self.known.values().find(|check| check.seen.unable)?.seen.no_verdict.as_ref().map(|(why, _)| why.as_str())
    }

    /// Of those that this server asks and knows of, how many have passed since then and still do; and of how many.
    pub(super) fn passing_since(&self, at: Duration) -> (usize, usize) {
        let is_known =
            |(spec, check): &(&Arc<CheckSpec>, &Check)| check.votes && Group::of(spec) == Group::Asked && check.machine.state() != State::Unknown;
        let known = || self.known.iter().filter(is_known);
        let passes = |check: &Check| matches!(check.machine.state(), State::Up | State::Ramp) && check.told.is_some_and(|told| told.at >= at);
        (known().filter(|(_, check)| passes(check)).count(), known().count())
    }

    /// Those whose last word grows old.
    pub(super) fn told(&self) -> &[Arc<CheckSpec>] {
        &self.told
    }

    /// Something may be old enough to be forgotten; whoever looks says when it will be next.
    pub(super) fn is_time_to_forget(&self, now: Duration) -> bool {
        self.forget_at.is_some_and(|at| at <= now)
    }

    /// When the first of what is known is to be forgotten, as far as is known now.
    pub(super) fn forget_next(&mut self, at: Option<Duration>) {
        self.forget_at = at;
    }

    /// Where a check stands, and how old its last result is that says anything.
    pub(super) fn stands(&self, spec: &CheckSpec, now: Duration) -> Option<(State, Option<Duration>)> {
        self.known.get(spec).map(|check| (check.state(), check.told.map(|told| told.age(now))))
    }

    /// Forgets what was said of a check; the state it was in, if that is another now.
    pub(super) fn forget(&mut self, spec: &CheckSpec, now: Duration, now_unix: u64) -> Option<State> {
        let check = self.known.get_mut(spec)?;
        let transition = check.machine.forget(now)?;
        let (ended, last_check_unix) = (check.seen.ended, check.seen.last_check_unix);
        // Why nobody tells is still so; what was said is not.
        let no_verdict = check.seen.no_verdict.take();
        check.seen = CheckSeen { since_unix: Some(now_unix), ended, last_check_unix, no_verdict, ..CheckSeen::default() };
        check.changed = true;
        if check.votes {
            move_in(&mut self.tally[Group::of(spec) as usize], transition);
        }
        Some(transition.from)
    }

    /// A check that would be back but for its penalty: its users, who may need it.
    pub(super) fn held_back(&self, spec: &CheckSpec, now: Duration) -> Option<&[User]> {
        let check = self.known.get(spec)?;
        check.machine.waits_for_its_penalty(&spec.monitor.thresholds, now).then_some(&*check.users)
    }

    /// A check that the next pass brings back, as far as its results go: its users, who may hand it out already.
    pub(super) fn about_to_rise(&self, spec: &CheckSpec) -> Option<&[User]> {
        let check = self.known.get(spec)?;
        check.machine.is_about_to_rise(&spec.monitor.thresholds).then_some(&*check.users)
    }

    /// Steps one check; `given` says what its users make of it. `None` when nobody wants it any more.
    pub(super) fn observe(&mut self, observation: &Observation, given: Given, now: Duration, now_unix: u64) -> Option<Observed> {
        if let Some(delay) = self.references.observe(observation, &mut self.doubts[Group::Asked as usize], now) {
            return Some(Observed { delay, transition: None, turned: false, why: String::new() });
        }
        let by_the_clock = self.by_the_clock(observation, now);
        let observation = by_the_clock.as_ref().unwrap_or(observation);
        let (spec, _) = self.known.get_key_value(&observation.spec)?;
        let spec = spec.clone();
        let check = self.known.get_mut(&observation.spec)?;
        let thresholds = &observation.spec.monitor.thresholds;
        let counts = !observation.outcome.as_ref().is_err_and(Failure::is_no_verdict);
        let is_known = check.machine.state() != State::Unknown;
        let began = now.saturating_sub(observation.took);
        let group = Group::of(&spec);
        let failing_since = check.machine.failing_since().unwrap_or(now);
        let is_doubtful = |doubt: &Doubt| doubt.is_from_before_thaw(began) || doubt.is_doubtful(failing_since, now);
        // While this server's own eyes are not believed, nobody's are.
        let is_frozen = || self.doubts[Group::Asked as usize].frozen().is_some();
        let doubted = observation.outcome.is_err() && (is_doubtful(&self.doubts[group as usize]) || group != Group::Asked && is_frozen());
        let unproven = group == Group::Asked && self.doubts[group as usize].is_unproven() && !self.doubts[group as usize].is_from_before_thaw(began);
        if group == Group::Asked && observation.outcome.is_ok() {
            self.doubts[group as usize].hear(now);
        }
        let (state, burdened, was_waiting) = (check.state(), check.seen.concerns.is_burdened(), check.is_waiting(&spec));
        let transition =
            check.machine.observe(thresholds, &observation.outcome, Around { doubted, unproven, needed: given.needed, served: given.served }, now);
        let (was_unable, was_misled, votes) = (check.seen.unable, check.seen.misled, check.votes);
        let why = check.note(observation, counts, now_unix, now);
        if group == Group::Asked && votes {
            self.unable = self.unable + usize::from(check.seen.unable) - usize::from(was_unable);
            self.misled = self.misled + usize::from(check.seen.misled) - usize::from(was_misled);
        }
        if let (Ok(()), Some(certificate)) = (&observation.outcome, &observation.certificate)
            && !self.early.contains(&certificate.from)
        {
            self.issued = certificate.from.max(self.issued);
        }
        if counts {
            check.seen.ended[usize::from(observation.outcome.is_err())] += 1;
            check.seen.stale = None;
            check.told = Some(Told { at: now, age: Duration::ZERO });
            if let Some(after) = spec.monitor.kind.forgotten_after() {
                self.forget_at = Some(self.forget_at.map_or(now + after, |at| at.min(now + after)));
            }
        }
        // What is reported every second is kept when it says something new, or once a minute.
        let is_asked = !spec.monitor.kind.is_reported();
        let keep_after = stale_after(&spec).map_or(KEEP_REPORTED_S, |stale| KEEP_REPORTED_S.min(stale.as_secs() / 2));
        let waits = check.is_waiting(&spec);
        if waits != was_waiting {
            check.changed = true;
            let _ = if waits { self.waiting.insert(spec.clone()) } else { self.waiting.remove(&spec) };
        }
        check.changed |= is_asked || transition.is_some() || check.kept_unix + keep_after <= now_unix;
        check.seen.penalty = check.machine.penalty(now);
        check.seen.credit = check.machine.credit();
        check.seen.suppressed_until = unix_of(check.machine.suppressed_until(now), now, now_unix);
        let shown = check.state();
        if shown != state {
            check.seen.since_unix = Some(now_unix);
        }
        if let Some(transition) = transition {
            self.moved.push(spec.clone());
            if check.machine.ramp_ends().is_some() {
                self.ramping.insert(spec.clone());
            }
            if votes {
                move_in(&mut self.tally[group as usize], transition);
            }
            // To leave is no failure.
            if transition.to == State::Down && is_known && votes && !matches!(observation.outcome, Err(Failure::Draining)) {
                let fallen = &mut self.fallen[group as usize];
                fallen.retain(|(_, other)| *other != spec);
                fallen.push_back((now, spec));
            }
        }
        let delay = check.machine.next_delay(thresholds);
        // Intervals run from start to start, and this check began `took` ago.
        check.seen.next_check_unix = is_asked.then(|| now_unix + delay.saturating_sub(observation.took).as_secs());
        Some(Observed { delay, transition: (shown != state).then_some((state, shown)), turned: check.seen.concerns.is_burdened() != burdened, why })
    }

    /// Ends ramps whose time is over; returns those, and the users of checks whose share of the weight has moved a step.
    pub(super) fn tick(&mut self, now: Duration, now_unix: u64) -> (Vec<Arc<CheckSpec>>, Vec<User>) {
        let (mut settled, mut moved) = (Vec::new(), Vec::new());
        let (known, tally) = (&mut self.known, &mut self.tally);
        self.ramping.retain(|spec| {
            let Some(check) = known.get_mut(spec) else { return false };
            if let Some(transition) = check.machine.tick(now) {
                if check.votes {
                    move_in(&mut tally[Group::of(spec) as usize], transition);
                }
                check.seen.since_unix = Some(now_unix);
                check.changed = true;
                if transition.from == State::Ramp {
                    check.forget_error_if_up();
                    settled.push(spec.clone());
                }
            }
            if check.takes_a_step(now) {
                moved.extend_from_slice(&check.users);
            }
            check.machine.ramp_ends().is_some()
        });
        (settled, moved)
    }

    /// What fails, among what was good a moment ago.
    pub(super) fn census(&mut self, group: Group, now: Duration) -> Census {
        let known = &self.known;
        let fallen = &mut self.fallen[group as usize];
        fallen.retain(|(at, spec)| {
            let window = match group {
                Group::Asked | Group::Measured => spec.monitor.thresholds.interval * RECENT_INTERVALS,
                Group::Said | Group::Counted => RECENT_REPORTS,
            };
            *at + window > now && known.get(spec).is_some_and(|check| check.votes && check.machine.state() == State::Down)
        });
        let tally = &self.tally[group as usize];
        let failing = tally[State::Suspect as usize] + fallen.len();
        if failing > 0 && group == Group::Measured {
            return self.census_of_endpoints(group);
        }
        Census { checked: tally[State::Up as usize] + tally[State::Ramp as usize] + failing, failing }
    }

    /// The same by endpoints: one query may decide on all of them.
    fn census_of_endpoints(&self, group: Group) -> Census {
        let failing: HashSet<&CheckTarget> = self.failing(group).flat_map(|(spec, check)| check.decides_on(spec)).collect();
        let passes = |(spec, check): &(&Arc<CheckSpec>, &Check)| {
            check.votes && matches!(check.machine.state(), State::Up | State::Ramp) && Group::of(spec) == group
        };
        let passing = self.known.iter().filter(passes).flat_map(|(spec, check)| check.decides_on(spec)).filter(|target| !failing.contains(target));
        Census { checked: passing.collect::<HashSet<_>>().len() + failing.len(), failing: failing.len() }
    }

    /// What fails, or fell a moment ago.
    fn failing(&self, group: Group) -> impl Iterator<Item = (&Arc<CheckSpec>, &Check)> {
        let is_suspect =
            move |(spec, check): &(&Arc<CheckSpec>, &Check)| check.votes && check.machine.state() == State::Suspect && Group::of(spec) == group;
        let fallen = self.fallen[group as usize].iter().filter_map(|(_, spec)| self.known.get_key_value(spec));
        self.known.iter().filter(is_suspect).chain(fallen)
    }

    /// In how many places something fails.
    pub(super) fn failing_places(&self, group: Group) -> usize {
        self.failing(group).flat_map(|(_, check)| check.places()).collect::<HashSet<_>>().len()
    }

    /// One that decides on so many endpoints that it may be all that fails at once.
    pub(super) fn is_of_crowd(&self, spec: &CheckSpec) -> bool {
        self.known.get(spec).and_then(|check| check.reach.as_ref()).is_some_and(|reach| reach.endpoints.len() >= LEAST_CHECKED)
    }

    /// Takes back what fell a moment ago; returns what did.
    pub(super) fn reprieve(&mut self, group: Group, now: Duration, now_unix: u64) -> Vec<Arc<CheckSpec>> {
        let mut back = Vec::new();
        for (_, spec) in std::mem::take(&mut self.fallen[group as usize]) {
            let is_said = matches!(spec.monitor.kind, MonitorKind::Push(_));
            // An agent that says by now that all is well has not gone with the others.
            let Some(check) = self.known.get_mut(&spec).filter(|check| !is_said || check.machine.run() == 0) else { continue };
            if let Some(transition) = check.machine.reprieve(now) {
                if is_said {
                    // As many reports took it down as it takes.
                    check.machine.restore_run(spec.monitor.thresholds.fall.max(1));
                }
                if check.votes {
                    move_in(&mut self.tally[group as usize], transition);
                }
                check.seen.since_unix = Some(now_unix);
                check.changed = true;
                if check.is_waiting(&spec) {
                    self.waiting.insert(spec.clone());
                }
                back.push(spec);
            }
        }
        back
    }

    /// What is shown of all of them.
    pub(super) fn seen(&self, now: Duration) -> HashMap<Arc<CheckSpec>, CheckSeen> {
        let whole = |(spec, check): (&Arc<CheckSpec>, &Check)| (spec.clone(), check.seen_at(spec, now));
        self.known.iter().map(whole).collect()
    }

    /// How one check stands.
    pub(super) fn standing_of(&self, spec: &CheckSpec, now: Duration) -> Option<Standing> {
        let check = self.known.get(spec)?;
        Some(Standing { state: check.state(), ramp: check.ramp_share(now), burdened: check.seen.concerns.is_burdened() })
    }

    /// Has these kept at the next call of [`take_changed`](Checks::take_changed), be they as they were or not.
    pub(super) fn mark_changed(&mut self, which: impl Fn(&CheckSpec) -> bool) {
        self.known.iter_mut().filter(|(spec, _)| which(spec)).for_each(|(_, check)| check.changed = true);
    }

    /// What changed since the last call, to be kept for the next run.
    pub(super) fn take_changed(&mut self, now: Duration, now_unix: u64) -> Vec<Verdict> {
        self.moved.clear();
        self.known.iter_mut().filter_map(|(spec, check)| check.take_verdict(spec, now, now_unix)).collect()
    }

    /// Those of them whose state is another: so few that they are kept at once.
    pub(super) fn take_moved(&mut self, now: Duration, now_unix: u64) -> Vec<Verdict> {
        let known = &mut self.known;
        self.moved.drain(..).filter_map(|spec| known.get_mut(&spec)?.take_verdict(&spec, now, now_unix)).collect()
    }
}

/// Counts a check among those of another state.
pub(super) fn move_in(tally: &mut [usize; 5], transition: Transition) {
    tally[transition.from as usize] -= 1;
    tally[transition.to as usize] += 1;
}

/// The check that `spec` replaces: one of the same kind at the same place if there is one, else any at that place.
fn successor(before: &mut HashMap<Arc<CheckSpec>, Check>, spec: &CheckSpec) -> Option<Check> {
    let at_place = |old: &&Arc<CheckSpec>| old.target == spec.target && old.monitor.port == spec.monitor.port && Group::of(old) == Group::of(spec);
    let alike = before.keys().filter(at_place).find(|old| old.monitor.kind == spec.monitor.kind);
    let old = alike.or_else(|| before.keys().find(at_place))?.clone();
    let mut check = before.remove(&old)?;
    check.timeline.ask_otherwise(&describe(&old));
    Some(check)
}
