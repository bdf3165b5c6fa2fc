//! The single writer without its loop, its disk and the machine's clock: whoever simulates moves the time, brings the results of checks and sees
//! what is answered. Everything in between is what the program does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::api::{Applied, CheckSpec, EndpointStatus, NewOverlay, Observation, Refusal, Status};
use super::clock::{Clock, Moved, SIMULATED_START_UNIX};
use super::compile::GeoSources;
use super::explain::{Explanation, Wanted, explain};
use super::handle::{Event, channel};
use super::load::{self, Previous};
use super::who::Who;
use super::writer::{Start, Writer};
use crate::config::MemoryFiles;
use crate::health::State;
use crate::policy::plan::Choice;
use crate::store::{Saved, Store};
use crate::telemetry::Registry;
use crate::world::{Published, World};

pub(crate) struct Driven {
    writer: Writer,
    world: Arc<Published>,
    time: Arc<Moved>,
    /// What the writer would do in the background is not awaited.
    runtime: Runtime,
}

impl Driven {
    /// Over these files, at time 0.
    pub(crate) fn start(files: &[(&str, &str)]) -> Driven {
        Driven::with(files, Saved::default(), 0, 0)
    }

    /// The same with what was kept, by a clock that is so many seconds ahead.
    pub(crate) fn start_with(files: &[(&str, &str)], saved: Saved, ahead: i64) -> Driven {
        Driven::with(files, saved, 0, ahead)
    }

    /// Another process over these files, with what this one would have kept, at the same time.
    pub(crate) fn restart(mut self, files: &[(&str, &str)]) -> Driven {
        self.writer.checks.mark_changed(|_| true);
        let verdicts = self.writer.checks.take_changed(self.writer.clock.now(), self.writer.ahead.dated(&self.writer.clock));
        let saved = Saved { verdicts, ..self.writer.outlasting_now() };
        Driven::with(files, saved, self.time.nanos.load(Ordering::Relaxed), self.time.set.load(Ordering::Relaxed))
    }

    /// Takes edited files.
    pub(crate) fn reload(&mut self, files: &[(&str, &str)]) {
        let _here = self.runtime.enter();
        self.writer.take_build(built(files), None, false, &Who::itself());
        self.writer.publish();
    }

    fn with(files: &[(&str, &str)], saved: Saved, at_nanos: u64, set: i64) -> Driven {
        let build = built(files);
        let world = Arc::new(Published::new(World::default()));
        let (_, ends) = channel(world.clone());
        let (clock, time) = Clock::moved();
        time.nanos.store(at_nanos, Ordering::Relaxed);
        time.set.store(set, Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let here = runtime.enter();
        let (config_path, store) = ("meridian.toml".into(), Store::none("a simulation"));
        let writer = Writer::start(Start {
            ends,
            config_path,
            build,
            store,
            saved,
            registry: Registry::new(),
            degraded: Vec::new(),
            clock,
            look: |_| Vec::new(),
        });
        drop(here);
        Driven { writer, world, time, runtime }
    }

    /// Moves the time.
    pub(crate) fn set(&self, now: Duration) {
        self.time.nanos.store(u64::try_from(now.as_nanos()).expect("a few centuries at most"), Ordering::Relaxed);
    }

    /// Somebody sets the time of day, so many seconds away from what it is in truth.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.time.set.store(ahead, Ordering::Relaxed);
    }

    /// What the prober is to check.
    pub(crate) fn specs(&self) -> Arc<Vec<CheckSpec>> {
        self.writer.ends.checks.borrow().clone()
    }

    /// Takes a result; the time until the next check.
    pub(crate) fn observe(&mut self, observation: &Observation) -> Option<Duration> {
        let _here = self.runtime.enter();
        let (reply, mut delay) = oneshot::channel();
        self.writer.observe(observation, reply);
        delay.try_recv().ok()
    }

    /// Takes reports.
    pub(crate) fn report(&mut self, reports: &[super::api::Report]) {
        let _here = self.runtime.enter();
        let taken = self.writer.take_reports(reports, &Who::itself()).expect("taken");
        assert_eq!((taken.taken, taken.ignored.len()), (reports.len(), 0), "{:?}", taken.ignored);
    }

    /// The share of its traffic that a pool keeps, and what loads make of the weight of the first child of a zone's policies.
    pub(crate) fn moved(&self, pool: &str) -> (f32, f32) {
        let factors = self.writer.zones.keys().flat_map(|zone| self.writer.loads.factors(zone).into_values());
        (self.writer.loads.kept(pool), factors.fold(1.0, f32::min))
    }

    /// What the writer does once a second.
    pub(crate) fn tick(&mut self) {
        let _here = self.runtime.enter();
        self.writer.tick();
    }

    /// Publishes what has changed; true when there was something.
    pub(crate) fn publish(&mut self) -> bool {
        let _here = self.runtime.enter();
        let before = self.writer.generation;
        self.writer.publish();
        self.writer.generation != before
    }

    pub(crate) fn state(&self, spec: &CheckSpec) -> State {
        self.writer.checks.standing(std::slice::from_ref(spec), None, self.writer.clock.now()).state
    }

    /// The shares of the first plan that draws by weight.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let worlds = self.writer.zones.values().filter_map(|zone| zone.world.as_ref());
        let drawn = worlds.flat_map(|world| world.steerings.iter()).flat_map(|steering| steering.plans.iter()).find_map(|plan| match &plan.choice {
            Choice::Weighted(drawn) => Some(drawn),
            _ => None,
        });
        drawn.into_iter().flat_map(|drawn| drawn.entries.iter().map(|entry| entry.weight as f64 / drawn.total as f64)).collect()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.writer.checks.doubts[0].frozen().is_some()
    }

    pub(crate) fn status(&self) -> Status {
        self.writer.seen().status()
    }

    /// Lays an overlay; the reply, once it is published.
    pub(crate) fn lay(&mut self, new: NewOverlay) -> Result<Applied, Refusal> {
        let here = self.runtime.enter();
        let (reply, mut answer) = oneshot::channel();
        self.writer.take(Event::Overlay(new, Who::itself(), reply));
        drop(here);
        loop {
            // What waits for the disk.
            self.runtime.block_on(tokio::task::yield_now());
            let _here = self.runtime.enter();
            self.writer.take_all_done();
            self.writer.publish();
            self.writer.reply();
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// How an endpoint is shown.
    pub(crate) fn endpoint(&self, id: &str) -> EndpointStatus {
        let all = self.status().pools.into_iter().flat_map(|pool| pool.endpoints);
        all.into_iter().find(|endpoint| endpoint.id == id).unwrap_or_else(|| panic!("no endpoint {id}"))
    }

    /// What the engine answers now.
    pub(crate) fn ask(&self, name: &str) -> Explanation {
        let wanted = Wanted::parse(name, "A", "").expect("a question");
        let unix = SIMULATED_START_UNIX + self.time.nanos.load(Ordering::Relaxed) / 1_000_000_000;
        self.world.with_world(|world| explain(world, &GeoSources::empty(), &wanted, unix, 1))
    }
}

fn built(files: &[(&str, &str)]) -> load::Build {
    let build = load::build(&MemoryFiles::from_texts(files.iter().copied()), Path::new("meridian.toml"), &Previous::default());
    assert!(!build.has_errors() && build.bad.is_empty(), "{:?}", build.problems.first());
    build
}
