//! What reports do: they are results of checks that nobody has to ask for, and go the same way as those. Whatever doubts and limits bind checks binds
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::api::{CheckSpec, Ignored, Refusal, Report, Taken, Who};
use super::audit::plain_endpoint;
use super::reports::{Lasts, STALE};
use super::who::Role;
use super::writer::Writer;
use crate::health::passive::{Said, Shared, WINDOW};
use crate::health::{Failure, Outcome, State};
use crate::policy::model::{MonitorKind, ShareCheck};

/// Ticks between looks at what time does to shares of successes: they change slowly.
const LOOK_TICKS: u64 = 5;

/// What a report is about.
struct About {
    id: Arc<str>,
    lasts: Lasts,
    /// The checks of its endpoints that wait for reports.
    specs: Vec<CheckSpec>,
}

impl Writer {
    /// Takes the reports of a call: all of them, but for those that name nothing that there is.
    pub(super) fn take_reports(&mut self, reports: &[Report], who: &Who) -> Result<Taken, Refusal> {
        who.needs(Role::Operate)?;
        reports.iter().try_for_each(|report| who.may_change(&report.target))?;
        let mut taken = Taken::default();
        for report in reports {
            let why = match self.about(&report.target) {
                None => "there is no such endpoint, pool or region",
                Some(about) if self.take_report(&about, report, who) => {
                    taken.taken += 1;
                    if report.state.is_some() && !about.specs.iter().any(|spec| matches!(spec.monitor.kind, MonitorKind::Push(_))) {
                        let why = "its state is shown and not obeyed: no push monitor waits for it".into();
                        taken.warnings.push(Ignored { target: report.target.clone(), why });
                    }
                    continue;
                }
                Some(_) => "too many things are reported already",
            };
            taken.ignored.push(Ignored { target: report.target.clone(), why: why.into() });
        }
        if !self.checks.told().is_empty() {
            // What fell with everything else is back before it is published.
            self.look_around(true);
        }
        self.registry.operations().reported(taken.taken, taken.ignored.len());
        Ok(taken)
    }

    fn about(&self, target: &str) -> Option<About> {
        let target = plain_endpoint(target);
        let mut about: Option<About> = None;
        for zone in self.loaded().around(&target) {
            for at in zone.ids.pools_of(&zone.model, &target) {
                let pool = &zone.model.pools[at];
                let one = pool.endpoints.iter().position(|endpoint| *endpoint.id == *target);
                let id = match one {
                    Some(one) => pool.endpoints[one].id.clone(),
                    None if *pool.id == *target => pool.id.clone(),
                    None => target.as_str().into(),
                };
                let window = pool.signals.filter(|_| *id != *target || !target.starts_with("region:")).map_or(WINDOW, |rule| rule.window);
                let about = about.get_or_insert_with(|| About { id, lasts: Lasts { window, stale: STALE, is_forgotten: false }, specs: Vec::new() });
                let checks = zone.checks[at].iter().enumerate().filter(|(index, _)| one.is_none_or(|one| one == *index)).flat_map(|(_, specs)| specs);
                for spec in checks.filter(|spec| spec.monitor.kind.is_reported()) {
                    // What a library defines is the same in every zone.
                    if !target.starts_with("library/") || !about.specs.contains(spec) {
                        about.specs.push(spec.clone());
                    }
                }
            }
        }
        if let Some(about) = &mut about {
            let push = |spec: &CheckSpec| if let MonitorKind::Push(push) = &spec.monitor.kind { Some(push.stale) } else { None };
            about.lasts.stale = about.specs.iter().filter_map(push).min().unwrap_or(STALE);
            about.lasts.is_forgotten = about.specs.iter().any(|spec| push(spec).is_some() && spec.monitor.kind.forgotten_after().is_some());
        }
        about
    }

    /// False when it is one thing too many.
    fn take_report(&mut self, about: &About, report: &Report, who: &Who) -> bool {
        let now = self.clock.now();
        if !self.ends.reports.take(&about.id, report, about.lasts, now, self.clock.unix()) {
            return false;
        }
        for spec in &about.specs {
            match &spec.monitor.kind {
                MonitorKind::Push(_) => {
                    let Some(said) = report.state else { continue };
                    let outcome = match said {
                        Said::Up => Ok(()),
                        Said::Draining => Err(Failure::Draining),
                        Said::Down => Err(Failure::Reported(format!("down, by {}", who.name))),
                    };
                    self.observe_reported(spec, outcome, None);
                }
                MonitorKind::Share(check) if report.successes.is_some() || report.failures.is_some() => {
                    let Some(share) = self.ends.reports.share(check, now) else { continue };
                    let (outcome, poor) = verdict(check, share);
                    let trial_at = self.ends.reports.fails_until(check, now);
                    // What is well and was well is nothing to tell.
                    if outcome.is_err() || poor.is_some() || self.checks.stands(spec, now).is_some_and(|(state, _)| state != State::Up) {
                        self.observe_reported(spec, outcome, poor);
                    }
                    self.checks.note_trial(spec, trial_at);
                }
                _ => {}
            }
        }
        true
    }

    /// Reports grow old: what was down for its failures is tried again when too few calls are left to tell of them, and what is to be forgotten is.
    pub(super) fn look_at_reports(&mut self, ticks: u64) {
        self.steer_by_load(ticks);
        self.look_at_waiting();
        let now = self.clock.now();
        if self.checks.told().is_empty() || !ticks.is_multiple_of(LOOK_TICKS) && !self.checks.is_time_to_forget(now) {
            return;
        }
        let mut next: Option<Duration> = None;
        for spec in self.checks.told().to_vec() {
            let Some((state, age)) = self.checks.stands(&spec, now) else { continue };
            if let MonitorKind::Share(check) = &spec.monitor.kind
                && matches!(state, State::Down | State::Suspect | State::Degraded)
            {
                let share = self.ends.reports.share(check, now);
                let is_trial = share.is_none() && state == State::Down;
                if is_trial && !self.checks.is_to_be_tried(&spec, now) {
                    continue;
                }
                let (outcome, poor) = share.map_or((Ok(()), None), |share| verdict(check, share));
                if outcome.is_ok() {
                    self.observe_reported(&spec, outcome, poor);
                    if is_trial {
                        self.checks.call_a_trial(&spec);
                    }
                } else if state == State::Suspect {
                    // Callers report it no more than agents do.
                    self.reconsider(&spec);
                }
            }
            let Some(after) = spec.monitor.kind.forgotten_after().filter(|_| state != State::Unknown) else { continue };
            match age.and_then(|age| after.checked_sub(age)).filter(|left| !left.is_zero()) {
                Some(left) => next = Some(next.map_or(now + left, |at| at.min(now + left))),
                None => self.forget_told(&spec, now),
            }
        }
        self.checks.forget_next(next);
    }

    /// Forgets what was said last of a check: it is too long ago.
    fn forget_told(&mut self, spec: &CheckSpec, now: Duration) {
        if let Some(from) = self.checks.forget(spec, now, self.clock.unix()) {
            let is_push = matches!(spec.monitor.kind, MonitorKind::Push(_));
            let why = if is_push { "nothing was reported for too long" } else { "Prometheus has given no verdict for too long" };
            self.tell_transition(spec, from, State::Unknown, why);
        }
    }

    /// Forgets what was reported of things that are no more, and takes what there is now that loads move.
    pub(super) fn follow_reported(&mut self) {
        self.set_loads();
        if !self.ends.reports.is_empty() {
            self.ends.reports.retain(|id| self.about(id).is_some());
        }
    }
}

/// What a share of successes says of an endpoint: whether it passes, and the share in percent if that is poor.
fn verdict(check: &ShareCheck, share: Shared) -> (Outcome, Option<u8>) {
    let percent = share.good * 100.0;
    let is_below = |least: Option<u8>| least.filter(|least| percent < f64::from(*least));
    match is_below(check.rule.down) {
        Some(least) => {
            let why = format!("{percent:.1} % of {:.0} calls succeed, expected {least} % at least", share.samples);
            (Err(Failure::Reported(why)), None)
        }
        None => (Ok(()), is_below(check.rule.degraded).map(|_| percent as u8)),
    }
}
