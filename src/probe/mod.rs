//! L5: the prober. Runs the checks that `control` lists and reports each outcome to it; knows nothing of endpoints, pools or DNS, and shares nothing
//! with them but the event channel.
//!
//! ```text
//!   control ── list of checks ──▶ schedule ──▶ one task per running check ──▶ outcome ──▶ control
//!                                    ▲                                                      │
//!                                    └──────────────── time until the next ─────────────────┘
//! ```
//! A check that sleeps is an entry in a table: no task, no client, no connection.

mod chains;
pub mod check;
mod exec;
mod grpc;
mod lookups;
mod ping;
mod prometheus;
mod schedule;
mod talk;
mod tls;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

pub use self::check::Means;
pub use self::schedule::places;
pub use self::tls::TlsRoots;
use crate::config::Reach;
use crate::control::Handle;
use crate::control::api::CheckSpec;
use crate::control::timeline::Trial;
use crate::health::Failure;
use crate::policy::model::MonitorKind;
use crate::telemetry::Registry;
use schedule::{Finished, Id, Schedule};

/// CA files are looked at this often: a renewed or repaired one takes effect without a reload.
const CA_FILES_EVERY: Duration = Duration::from_secs(60);

/// A warning about checks that find no place is repeated at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How the prober runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Checks at a time, at least 1; a descriptor each. Default 512.
    pub max_concurrent: usize,
    /// Part of the delay by which each is lengthened or shortened at random, 0 to 1. Default 0.1.
    pub jitter: f64,
    /// New checks begin at random within this time. Default 1 s.
    pub first_within: Duration,
    /// Of the randomness. Default: a different one in each process.
    pub seed: u64,
    /// Where checks are counted. Default: nowhere that anybody looks.
    pub registry: Registry,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_concurrent: schedule::LEAST_PLACES,
            jitter: 0.1,
            first_within: Duration::from_secs(1),
            seed: RandomState::new().hash_one(0),
            registry: Registry::new(),
        }
    }
}

/// Runs checks until `stop` is ready or `control` is gone.
pub async fn run(handle: Handle, options: Options, stop: impl Future<Output = ()>) {
    let mut prober = Prober::new(handle, options);
    let mut look_at_files = tokio::time::interval(CA_FILES_EVERY);
    look_at_files.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        prober.begin_due();
        prober.load_if_changed();
        let wake = prober.wake();
        tokio::select! {
            biased;
            () = &mut stop => break,
            changed = prober.checks.changed() => match changed {
                Ok(()) => prober.list_changed = true,
                Err(_) => break,
            },
            Ok(()) = prober.reach.changed() => prober.take_reach(),
            loaded = finished_load(&mut prober.loading) => prober.loaded(loaded),
            Some(trial) = next_trial(&mut prober.trials) => prober.begin_trial(trial),
            Some(_) = prober.asked.join_next() => {}
            Some(ended) = prober.running.join_next_with_id() => prober.ended(ended),
            () = sleep_until(wake) => {}
            _ = look_at_files.tick() => prober.files_may_have_changed = true,
        }
    }
}

/// The list and what it needs; `None` when nothing has changed after all.
type Load = Option<(Arc<Vec<CheckSpec>>, TlsRoots)>;

struct Prober {
    handle: Handle,
    registry: Registry,
    checks: watch::Receiver<Arc<Vec<CheckSpec>>>,
    reach: watch::Receiver<Arc<Reach>>,
    /// Since the last load began.
    list_changed: bool,
    /// Since the last load began.
    files_may_have_changed: bool,
    /// Files are read elsewhere; meanwhile the checks go on as they were.
    loading: Option<JoinHandle<Load>>,
    means: Means,
    schedule: Schedule,
    running: JoinSet<Option<Finished>>,
    /// Checks that somebody asks for, beside those that are due.
    trials: Option<mpsc::Receiver<Trial>>,
    asked: JoinSet<()>,
    tasks: HashMap<task::Id, (Id, AbortHandle)>,
    began: Instant,
    warned: Option<Instant>,
}

impl Prober {
    fn new(handle: Handle, options: Options) -> Prober {
        let options = Options { max_concurrent: options.max_concurrent.max(1), jitter: options.jitter.clamp(0.0, 1.0), ..options };
        let mut prober = Prober {
            checks: handle.checks(),
            reach: handle.reach(),
            trials: handle.take_trials(),
            asked: JoinSet::new(),
            handle,
            registry: options.registry.clone(),
            list_changed: true,
            files_may_have_changed: false,
            loading: None,
            means: Means::new(Arc::default()),
            schedule: Schedule::new(options),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            began: Instant::now(),
            warned: None,
        };
        prober.take_reach();
        prober
    }

    /// Takes what checks may have of this machine. Programs that run are ended where none may run any more.
    fn take_reach(&mut self) {
        self.means.reach = self.reach.borrow_and_update().clone();
        self.list_changed = true;
        if !self.means.reach.exec {
            let runs_a_program = |id: &Id| self.schedule.spec(*id).is_some_and(|spec| matches!(spec.monitor.kind, MonitorKind::Exec(_)));
            self.tasks.values().filter(|(id, _)| runs_a_program(id)).for_each(|(_, task)| task.abort());
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wake(&self) -> Option<Instant> {
        self.schedule.wake().map(|at| self.began + at)
    }

    /// Begins every check that is due and has a place.
    fn begin_due(&mut self) {
        while let Some((id, spec)) = self.schedule.take(self.now()) {
            self.registry.operations().check_began(self.schedule.late(id));
            let task = self.running.spawn(run_one(spec, self.means.clone(), self.handle.clone(), self.registry.clone()));
            self.tasks.insert(task.id(), (id, task));
        }
        if self.schedule.behind() > 0 && self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(waiting = self.schedule.behind(), running = self.running.len(), "health checks are late: too many run at a time");
        }
    }

    /// Runs a check that somebody asked for; how many do is bounded where they ask. It has a place of its own and leads to nothing but a reply.
    fn begin_trial(&mut self, trial: Trial) {
        let means = self.means.clone();
        self.asked.spawn(async move {
            let _ = trial.reply.send(check::run_timed(&trial.spec, &means).await);
        });
    }

    /// Begins to read what a new list of checks, or a changed CA file, asks for.
    fn load_if_changed(&mut self) {
        if !(self.list_changed || self.files_may_have_changed) || self.loading.is_some() {
            return;
        }
        let list_changed = std::mem::take(&mut self.list_changed);
        self.files_may_have_changed = false;
        let specs = self.checks.borrow_and_update().clone();
        let (before, reach) = (self.means.tls.clone(), self.means.reach.clone());
        self.loading = Some(task::spawn_blocking(move || {
            (list_changed || !before.is_current()).then(|| {
                let roots = TlsRoots::load(&specs, &before, &reach);
                (specs, roots)
            })
        }));
    }

    /// Takes a list of checks whose files are read.
    fn loaded(&mut self, loaded: Result<Load, task::JoinError>) {
        self.loading = None;
        let (specs, roots) = match loaded {
            Ok(Some(load)) => load,
            Ok(None) => return,
            Err(_) => {
                tracing::error!("reading the CA files of health checks failed; the checks stay as they were");
                return;
            }
        };
        self.means.tls = Arc::new(roots);
        if specs.iter().any(|spec| spec.monitor.kind == MonitorKind::Ping)
            && let Some(why) = ping::trouble()
        {
            tracing::warn!("checks with ping cannot run: {why}");
        }
        if !self.means.reach.exec {
            let programs: BTreeSet<&str> =
                specs.iter().filter(|spec| matches!(spec.monitor.kind, MonitorKind::Exec(_))).map(|spec| &*spec.monitor.name).collect();
            if !programs.is_empty() {
                let names: Vec<&str> = programs.into_iter().collect();
                tracing::warn!("checks with exec cannot run ({}): {}", names.join(", "), exec::NOT_ALLOWED);
            }
        }
        let gone = self.schedule.replace(&specs, self.now());
        for (id, task) in self.tasks.values() {
            if gone.contains(id) {
                task.abort();
            }
        }
    }

    /// Takes the end of a check's task, whatever its kind, and sets the check's next time.
    fn ended(&mut self, ended: Result<(task::Id, Option<Finished>), task::JoinError>) {
        let (task_id, finished) = match ended {
            Ok((task_id, finished)) => (task_id, finished),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!("a health check panicked; it is run again after its interval");
                }
                (error.id(), None)
            }
        };
        let Some((id, _)) = self.tasks.remove(&task_id) else { return };
        // Without an answer, go on at the normal pace for as long as the check is listed.
        let interval = self.schedule.spec(id).map_or(Duration::ZERO, |spec| spec.monitor.thresholds.interval);
        let now = self.now();
        self.schedule.finished(id, finished.unwrap_or(Finished { delay: interval, slow: false }), now);
    }
}

/// Runs a check and reports it; the time until the next one, unless it is no longer wanted.
async fn run_one(spec: Arc<CheckSpec>, means: Means, handle: Handle, registry: Registry) -> Option<Finished> {
    let observation = check::observe(&spec, &means).await;
    registry.operations().checked(&spec.monitor.kind, &observation.outcome, observation.took);
    // A lookup that hangs is no verdict, but takes up a place as long.
    let hung = observation.outcome.is_err() && observation.took >= observation.spec.monitor.timeout;
    let slow = hung || matches!(observation.outcome, Err(Failure::Timeout(_)));
    let delay = handle.observe(observation).await?;
    Some(Finished { delay, slow })
}

async fn finished_load(loading: &mut Option<JoinHandle<Load>>) -> Result<Load, task::JoinError> {
    match loading {
        Some(load) => load.await,
        None => std::future::pending().await,
    }
}

async fn next_trial(trials: &mut Option<mpsc::Receiver<Trial>>) -> Option<Trial> {
    match trials {
        Some(trials) => trials.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod lenient;
#[cfg(test)]
mod simulation;
