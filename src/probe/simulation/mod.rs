//! Health in virtual time: the prober's own schedule and the single writer with all that it decides, in front of targets that fail on cue. Nothing
//! sleeps, chance is seeded, so every run is the same and weeks pass in a moment. Figures are held against the arithmetic of `docs/health.md`.
//!
//! ```text
//!   clock ─▶ due? ─▶ Schedule::take ─▶ a target of that moment ─▶ (after so long) Writer::observe ─▶ Schedule::finished ─▶ …
//!               └─▶ once a second Writer::tick ─▶ publish ─▶ what the engine answers
//! ```

mod detection;
mod faults;
mod limits;
mod loss;
mod slowness;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::Options;
use super::schedule::{Finished, Id, Schedule};
use crate::control::api::{CheckSpec, CheckTarget, Observation};
use crate::control::driven::Driven;
use crate::health::{Failure, Outcome, State};

const TICK: Duration = secs(1);
/// What a check takes when the target is there: the 0.1 s of the arithmetic.
const QUICK: Duration = Duration::from_millis(100);

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// How a target is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Well,
    /// Nobody listens.
    Refused,
    /// It answers with an error.
    Error,
    /// Packets vanish.
    Blackholed,
    /// It answers after so long.
    Slow(Duration),
    /// This machine has no route.
    NoRoute,
}

impl Target {
    fn check(self, timeout: Duration) -> (Outcome, Duration) {
        match self {
            Target::Well => (Ok(()), QUICK),
            Target::Refused => (Err(Failure::Connect("connection refused".into())), QUICK),
            Target::Error => (Err(Failure::Status(503)), QUICK),
            Target::Blackholed => (Err(Failure::Timeout("connect")), timeout),
            Target::Slow(took) if took < timeout => (Ok(()), took),
            Target::Slow(_) => (Err(Failure::Timeout("response")), timeout),
            Target::NoRoute => (Err(Failure::NoNetwork("this machine has no route to the network".into())), Duration::ZERO),
        }
    }
}

/// A change of the state of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    at: Duration,
    of: IpAddr,
    from: State,
    to: State,
}

/// What is at an address at a time.
type Course = Box<dyn Fn(IpAddr, Duration) -> Target>;

struct Simulation {
    driven: Driven,
    /// Zone and settings.
    files: [String; 2],
    schedule: Schedule,
    course: Course,
    now: Duration,
    next_tick: Duration,
    running: BinaryHeap<Reverse<(Duration, Id)>>,
    results: HashMap<Id, Observation>,
    states: Vec<(CheckSpec, State)>,
    changes: Vec<Change>,
    /// This name's answers, each with when it came.
    watched: &'static str,
    answers: Vec<(Duration, Vec<IpAddr>)>,
    /// When it froze and thawed, in turn.
    freezes: Vec<Duration>,
    checks: usize,
}

impl Simulation {
    fn start(zone: &str, settings: &str, seed: u64, course: impl Fn(IpAddr, Duration) -> Target + 'static) -> Simulation {
        let driven = Driven::start(&[("meridian.toml", settings), ("zones/example.com.toml", zone)]);
        let files = [zone, settings].map(str::to_owned);
        let mut schedule = Schedule::new(Options { seed, ..Options::default() });
        let specs = driven.specs();
        schedule.replace(&specs, Duration::ZERO);
        let states = specs.iter().filter(|spec| spec.monitor.name != "reference").map(|spec| (spec.clone(), State::Unknown)).collect();
        Simulation {
            driven,
            files,
            schedule,
            course: Box::new(course),
            now: Duration::ZERO,
            next_tick: Duration::ZERO,
            running: BinaryHeap::new(),
            results: HashMap::new(),
            states,
            changes: Vec::new(),
            watched: "",
            answers: Vec::new(),
            freezes: Vec::new(),
            checks: 0,
        }
    }

    /// Notes every answer of this name.
    fn watch(mut self, name: &'static str) -> Simulation {
        self.watched = name;
        self.look();
        self
    }

    /// The process ends and another one begins; whatever checks were running are lost.
    fn restart(self) -> Simulation {
        let [zone, settings] = &self.files;
        let driven = self.driven.restart(&[("meridian.toml", settings), ("zones/example.com.toml", zone)]);
        let mut schedule = Schedule::new(Options { seed: 2, ..Options::default() });
        schedule.replace(&driven.specs(), self.now);
        let states = self.states.into_iter().map(|(spec, _)| (driven.state(&spec), spec)).map(|(state, spec)| (spec, state)).collect();
        let mut simulation =
            Simulation { driven, schedule, states, running: BinaryHeap::new(), results: HashMap::new(), answers: Vec::new(), ..self };
        simulation.look();
        simulation
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            let ends = self.running.peek().map(|Reverse((at, _))| *at);
            let next = [Some(self.next_tick), self.schedule.wake(), ends].into_iter().flatten().min().expect("a tick at least");
            self.now = self.now.max(next).min(end);
            self.driven.set(self.now);
            while let Some(&Reverse((at, id))) = self.running.peek()
                && at <= self.now
            {
                self.running.pop();
                self.end(id);
            }
            while let Some((id, spec)) = self.schedule.take(self.now) {
                self.begin(id, &spec);
            }
            if self.next_tick <= self.now {
                self.next_tick += TICK;
                self.driven.tick();
                self.look();
            }
        }
    }

    fn begin(&mut self, id: Id, spec: &CheckSpec) {
        self.checks += 1;
        let (outcome, took) = (self.course)(ip(spec), self.now).check(spec.monitor.timeout);
        self.results.insert(id, Observation { spec: spec.clone(), outcome, took, certificate: None, poor: None });
        self.running.push(Reverse((self.now + took, id)));
    }

    fn end(&mut self, id: Id) {
        let observation = self.results.remove(&id).expect("it began");
        let slow = matches!(observation.outcome, Err(Failure::Timeout(_)));
        let delay = self.driven.observe(&observation).expect("it is still wanted");
        self.schedule.finished(id, Finished { delay, slow }, self.now);
        let before = self.changes.len();
        self.compare(Some(&observation.spec));
        if self.changes.len() > before {
            self.look();
        }
    }

    /// Notes what changed: of this check, or of all.
    fn compare(&mut self, only: Option<&CheckSpec>) {
        let is_frozen = self.driven.is_frozen();
        let turned = is_frozen != (self.freezes.len() % 2 == 1);
        if turned {
            self.freezes.push(self.now);
        }
        for (spec, state) in &mut self.states {
            if only.is_some_and(|only| only != spec) && !turned {
                continue;
            }
            let now = self.driven.state(spec);
            if now != *state {
                self.changes.push(Change { at: self.now, of: ip(spec), from: *state, to: now });
                *state = now;
            }
        }
    }

    fn look(&mut self) {
        self.compare(None);
        if self.watched.is_empty() || !(self.driven.publish() || self.answers.is_empty()) {
            return;
        }
        let told = self.driven.ask(self.watched);
        assert_eq!(told.rcode, "NOERROR", "at {:?}", self.now);
        let mut found: Vec<IpAddr> = told.answer.iter().map(|record| record.rsplit(' ').next().expect("data").parse().expect("an address")).collect();
        found.sort();
        if self.answers.last().is_none_or(|(_, last)| *last != found) {
            self.answers.push((self.now, found));
        }
    }

    fn state(&self, of: IpAddr) -> State {
        self.states.iter().find(|(spec, _)| ip(spec) == of).expect("it is checked").1
    }

    /// When these checks came to a state after a moment, each for the first time.
    fn first(&self, to: State, after: Duration) -> HashMap<IpAddr, Duration> {
        let mut found = HashMap::new();
        for change in self.changes.iter().filter(|change| change.to == to && change.at >= after) {
            found.entry(change.of).or_insert(change.at);
        }
        found
    }

    /// When one came to a state, every time.
    fn times(&self, of: IpAddr, to: State) -> Vec<Duration> {
        self.changes.iter().filter(|change| change.of == of && change.to == to).map(|change| change.at).collect()
    }

    /// How long each check was down in all, until now, where it was at all.
    fn downtime(&self) -> HashMap<IpAddr, Duration> {
        let mut found: HashMap<IpAddr, Duration> = HashMap::new();
        for (spec, _) in &self.states {
            let mut since = None;
            for change in self.changes.iter().filter(|change| change.of == ip(spec)) {
                match (change.to, since) {
                    (State::Down, None) => since = Some(change.at),
                    (State::Down, Some(_)) => {}
                    (_, Some(from)) => *found.entry(ip(spec)).or_default() += change.at - since.take().unwrap_or(from),
                    _ => {}
                }
            }
            if let Some(from) = since {
                *found.entry(ip(spec)).or_default() += self.now - from;
            }
        }
        found
    }
}

fn ip(spec: &CheckSpec) -> IpAddr {
    match &spec.target {
        CheckTarget::Address(ip) | CheckTarget::Behind { at: ip, .. } => *ip,
        CheckTarget::Host(host) => panic!("{host} is no address"),
        CheckTarget::Endpoint(id) => panic!("{id} is reported"),
    }
}

/// `10.NET.0.HOST`.
fn at(net: u8, host: u8) -> IpAddr {
    [10, net, 0, host].into()
}

/// A zone whose name `app` goes to these pools in order: each `(pool, region, addresses)`.
fn zone(monitor: &str, pools: &[(&str, &str, &[IpAddr])], steer: &str) -> String {
    let mut text = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n".to_owned();
    text.push_str(&format!("[monitor.tcp]\ntcp = true\nport = 80\n{monitor}\n"));
    let regions: std::collections::BTreeSet<&str> = pools.iter().map(|(_, region, _)| *region).collect();
    regions.into_iter().for_each(|region| text.push_str(&format!("[region.{region}]\n")));
    for (name, region, addresses) in pools {
        let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        text.push_str(&format!("[pool.{name}]\nregion = \"{region}\"\nmonitor = \"tcp\"\nendpoints = [{}]\n", addresses.join(", ")));
    }
    let names: Vec<String> = pools.iter().map(|(name, _, _)| format!("\"{name}\"")).collect();
    text.push_str(&format!("[steer.app]\npolicy = \"failover\"\nto = [{}]\n{steer}\n", names.join(", ")));
    text
}

/// The table of `docs/health.md` that begins with this line is what the simulation gives.
fn assert_documented(table: &str) {
    let docs = include_str!("../../../docs/health.md");
    assert!(docs.contains(table), "docs/health.md should have this:\n\n{table}");
}
