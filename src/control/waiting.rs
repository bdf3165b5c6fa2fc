//! What agents said last and what was not obeyed when they said it: because failures were doubted, or because the endpoint had fallen too often. A check
//! is asked again; an agent may say a thing once and never again. So its last word is judged again as time goes on, without counting it again.

use std::sync::Arc;
use std::time::Duration;

use super::api::CheckSpec;
use super::check::{Check, unix_of};
use super::checks::{Checks, Given, Group, move_in};
use super::writer::Writer;
use crate::health::State;
use crate::health::machine::Around;
use crate::policy::model::MonitorKind;

impl Check {
    /// An agent's last word is not obeyed.
    pub(super) fn is_waiting(&self, spec: &CheckSpec) -> bool {
        matches!(spec.monitor.kind, MonitorKind::Push(_)) && self.machine.is_waiting(&spec.monitor.thresholds)
    }
}

impl Checks {
    /// The last result of this check is none: nobody has reported of it, it is to be tried.
    pub(super) fn call_a_trial(&mut self, spec: &CheckSpec) {
        if let Some(check) = self.known.get_mut(spec) {
            check.timeline.explain_last("on trial: too few calls are left that tell of it");
        }
    }

    /// Judges the last word of a check again; the states before and after, and why, if it is another now.
    fn reconsider(&mut self, spec: &CheckSpec, given: Given, now: Duration, now_unix: u64) -> Option<(State, State, String)> {
        let group = Group::of(spec);
        let is_frozen = |group: Group| self.doubts[group as usize].frozen().is_some();
        let doubted = is_frozen(group) || is_frozen(Group::Asked);
        let (spec, _) = self.known.get_key_value(spec)?;
        let spec = spec.clone();
        let check = self.known.get_mut(&spec)?;
        let before = check.state();
        let around = Around { doubted, unproven: false, needed: given.needed, served: given.served };
        let transition = check.machine.reconsider(&spec.monitor.thresholds, around, now);
        if !check.is_waiting(&spec) {
            self.waiting.remove(&spec);
        }
        let transition = transition?;
        let why = match transition.to {
            State::Down => format!("{}; what was said is believed now", check.seen.last_error.as_deref().unwrap_or("it was said to fail")),
            _ if given.needed => "what was said last is that it is up, and it is needed".to_owned(),
            _ => "what was said last is that it is up, and its penalty is over".to_owned(),
        };
        check.forget_error_if_up();
        check.changed = true;
        check.seen.since_unix = Some(now_unix);
        check.seen.penalty = check.machine.penalty(now);
        check.seen.suppressed_until = unix_of(check.machine.suppressed_until(now), now, now_unix);
        if transition.to == State::Down {
            check.seen.concerns.fell();
        }
        let (votes, after) = (check.votes, check.state());
        if check.machine.ramp_ends().is_some() {
            self.ramping.insert(spec.clone());
        }
        if votes {
            move_in(&mut self.tally[group as usize], transition);
            if transition.to == State::Down && transition.from != State::Unknown {
                self.fallen[group as usize].push_back((now, spec.clone()));
            }
        }
        self.moved.push(spec);
        Some((before, after, why))
    }
}

impl Writer {
    /// Judges again what was said and could not be obeyed then.
    pub(super) fn look_at_waiting(&mut self) {
        let waiting: Vec<Arc<CheckSpec>> = self.checks.waiting.iter().cloned().collect();
        waiting.iter().for_each(|spec| self.reconsider(spec));
    }

    /// The same of one check.
    pub(super) fn reconsider(&mut self, spec: &CheckSpec) {
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        let given = self.given(spec, now);
        if let Some((from, to, why)) = self.checks.reconsider(spec, given, now, now_unix) {
            self.tell_transition(spec, from, to, &why);
        }
    }
}
