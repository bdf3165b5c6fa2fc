//! Verdicts that outlive their checks: those of the last run until a check claims them, and those of checks that nobody wants any more, should a reload
//! bring them back.
//!
//! ```text
//! what was found out by asking          counts for an hour after it was found out
//! what an agent said last, kept         counts until something else is said: a machine that was switched off says no more
//! what callers' reports came to         is tried again when it would have been without the gap, an hour after the last of them at the latest
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::api::CheckSpec;
use super::check::{Check, key, unix_of};
use super::checks::Checks;
use crate::health::State;
use crate::health::dates;
use crate::policy::model::MonitorKind;
use crate::store::Verdict;

/// Verdicts of an earlier run count while they are younger than this (CONTRACT, Health before and between checks).
pub(super) const VERDICT_MAX_AGE_S: u64 = 3600;

/// What was said last is kept for so long while this server is away: no machine waits longer for it.
const WORD_KEPT_S: u64 = 366 * 86_400;

/// And kept anew so often while it is there.
const WORD_KEPT_EVERY_S: u64 = 86_400;

/// The most verdicts of checks that nobody wants, at some hundred octets each.
const MAX_PARTED: usize = 10_000;

/// Verdicts without a check.
#[derive(Debug, Default)]
pub(super) struct Outliving {
    /// Of the last run, by key.
    kept: HashMap<String, Verdict>,
    /// Of checks that are wanted no more, by key.
    parted: HashMap<String, Verdict>,
}

impl Outliving {
    /// The check that goes on where a verdict of it ended.
    pub(super) fn claim(&mut self, spec: &CheckSpec, now: Duration, now_unix: u64) -> Option<Check> {
        if self.kept.is_empty() && self.parted.is_empty() {
            return None;
        }
        let key = key(spec);
        let counts = |verdict: &Verdict| counts(verdict, now_unix);
        if let Some(verdict) = self.kept.remove(&key).filter(counts) {
            return Some(Check::restored(spec, verdict, now, now_unix));
        }
        let mut check = Check::restored(spec, self.parted.remove(&key).filter(counts)?, now, now_unix);
        check.seen.stale = None;
        Some(check)
    }

    /// Keeps what is known of checks that are wanted no more: what an agent said, of the others what is something else than that all is well.
    pub(super) fn part(&mut self, gone: HashMap<Arc<CheckSpec>, Check>, now: Duration, now_unix: u64) {
        self.parted.retain(|_, verdict| counts(verdict, now_unix));
        let is_kept = |spec: &CheckSpec, state: State| match state {
            State::Unknown => false,
            State::Up => matches!(spec.monitor.kind, MonitorKind::Push(_)),
            _ => true,
        };
        for (spec, mut check) in gone.into_iter().filter(|(spec, check)| is_kept(spec, check.machine.state())) {
            if self.parted.len() >= MAX_PARTED {
                return;
            }
            check.changed = true;
            self.parted.extend(check.take_verdict(&spec, now, now_unix).map(|verdict| (verdict.key.clone(), verdict)));
        }
    }
}

fn counts(verdict: &Verdict, now_unix: u64) -> bool {
    now_unix.saturating_sub(verdict.last_check_unix) < VERDICT_MAX_AGE_S || now_unix < verdict.holds_until_unix
}

impl Checks {
    /// Takes over what the last run knew. Where the clock is doubted, it is `ahead_s` ahead of the one that is believed, and what holds until some time goes by
    /// that one: a drained machine does not come back because a clock was wrong, then or now.
    pub(super) fn restore(&mut self, mut verdicts: Vec<Verdict>, now_unix: u64, ahead_s: u64) {
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.holds_until_unix > 0) {
            verdict.holds_until_unix = verdict.holds_until_unix.saturating_add(ahead_s);
        }
        self.past = verdicts.iter().map(|verdict| verdict.last_check_unix).fold(dates::WRITTEN_UNIX, u64::max);
        let counting = verdicts.into_iter().filter(|verdict| counts(verdict, now_unix));
        self.outliving.kept.extend(counting.map(|verdict| (verdict.key.clone(), verdict)));
    }

    /// Notes until when what is counted speaks against a thing, be nothing more reported.
    pub(super) fn note_trial(&mut self, spec: &CheckSpec, at: Option<Duration>) {
        if let Some(check) = self.known.get_mut(spec) {
            check.trial_at = at;
        }
    }

    /// True when nothing that was counted, in the last run neither, keeps a thing from being tried.
    pub(super) fn is_to_be_tried(&self, spec: &CheckSpec, now: Duration) -> bool {
        self.known.get(spec).is_none_or(|check| check.trial_at.is_none_or(|at| at <= now))
    }

    /// Has what agents said last kept anew now and then, so that it does not run out while this server is there.
    pub(super) fn keep_words(&mut self, now_unix: u64) {
        for spec in &self.told {
            let Some(check) = self.known.get_mut(spec).filter(|_| matches!(spec.monitor.kind, MonitorKind::Push(_))) else { continue };
            check.changed |= check.kept_unix + WORD_KEPT_EVERY_S <= now_unix;
        }
    }
}

impl Check {
    /// Unix seconds until when its verdict counts however old it is; 0 where age decides.
    pub(super) fn holds_until(&self, spec: &CheckSpec, last_check_unix: u64, now: Duration, now_unix: u64) -> u64 {
        match &spec.monitor.kind {
            MonitorKind::Push(push) if !push.forget => now_unix + WORD_KEPT_S,
            MonitorKind::Share(_) if self.machine.state() == State::Down => {
                unix_of(self.trial_at, now, now_unix).unwrap_or(0).min(last_check_unix + VERDICT_MAX_AGE_S)
            }
            _ => 0,
        }
    }
}

/// When a thing may be tried that callers' reports took down before: as its verdict says.
pub(super) fn trial_of(spec: &CheckSpec, verdict: &Verdict, now: Duration, now_unix: u64) -> Option<Duration> {
    let is_down = verdict.state == State::Down && matches!(spec.monitor.kind, MonitorKind::Share(_));
    verdict.holds_until_unix.checked_sub(now_unix).filter(|_| is_down).map(|left| now + Duration::from_secs(left))
}

#[cfg(test)]
mod tests {
    use super::super::api::{CheckTarget, Observation};
    use super::super::checks::Given;
    use super::*;
    use crate::health::{Failure, Outcome, Thresholds, Watch};
    use crate::policy::model::{Monitor, PushCheck, ShareCheck, ShareRule, TcpCheck};

    const HOUR: u64 = 3600;
    const BEGAN: u64 = 2_000_000_000;

    fn spec(kind: MonitorKind) -> CheckSpec {
        let second = Duration::from_secs(1);
        let thresholds = Thresholds { interval: second, fast: second, fall: 1, rise: 1 };
        let monitor = Monitor { name: String::new(), kind, port: 1, thresholds, timeout: second, source: Vec::new(), watch: Watch::default() };
        CheckSpec { target: CheckTarget::Endpoint("z/p/1".into()), monitor }
    }

    fn observe(checks: &mut Checks, spec: &CheckSpec, outcome: Outcome, at: u64) {
        let observation = Observation { spec: spec.clone(), outcome, took: Duration::ZERO, certificate: None, poor: None };
        checks.observe(&observation, Given::default(), Duration::from_secs(at), BEGAN + at).expect("it is wanted");
    }

    fn want(checks: &mut Checks, specs: &[CheckSpec], at: u64) {
        checks.set_wanted(specs, HashMap::new(), Duration::from_secs(at), BEGAN + at);
    }

    fn state(checks: &Checks, spec: &CheckSpec, at: u64) -> State {
        checks.stands(spec, Duration::from_secs(at)).expect("it is wanted").0
    }

    fn kinds() -> [(&'static str, CheckSpec, Failure); 4] {
        let push = |forget| spec(MonitorKind::Push(PushCheck { stale: Duration::from_secs(30), forget }));
        let rule = ShareRule { down: Some(50), degraded: None, samples: 50, window: Duration::from_secs(300) };
        [
            ("an agent's word", push(false), Failure::Draining),
            ("a word that is forgotten", push(true), Failure::Draining),
            ("callers", spec(MonitorKind::Share(ShareCheck { of: Vec::new(), rule })), Failure::Reported("0 %".into())),
            ("asked", spec(MonitorKind::Tcp(TcpCheck::default())), Failure::Connect("refused".into())),
        ]
    }

    #[test]
    fn what_counts_after_a_restart() {
        // Said at the beginning; the program stops some time later, and is away for a while.
        for (stopped, away, down) in [
            (10, 60, ["an agent's word", "a word that is forgotten", "callers", "asked"].as_slice()),
            (2 * HOUR, 10, &["an agent's word"]),
            (10, 2 * HOUR, &["an agent's word"]),
            (10 * HOUR, 300 * 24 * HOUR, &["an agent's word"]),
        ] {
            for (what, spec, failure) in kinds() {
                let (mut before, mut after) = (Checks::default(), Checks::default());
                want(&mut before, std::slice::from_ref(&spec), 0);
                observe(&mut before, &spec, Err(failure), 0);
                before.mark_changed(|_| true);
                let verdicts = before.take_changed(Duration::from_secs(stopped), BEGAN + stopped);
                let back = stopped + away;
                after.restore(verdicts, BEGAN + back, 0);
                want(&mut after, std::slice::from_ref(&spec), back);
                assert_eq!(state(&after, &spec, back) == State::Down, down.contains(&what), "{what}, stopped after {stopped} s, away for {away} s");
            }
        }
    }

    #[test]
    fn an_agents_word_goes_by_the_clock_that_is_believed() {
        let years = 3 * 366 * 24 * HOUR;
        for (what, spec, failure) in kinds() {
            for ahead in [0, years] {
                let (mut before, mut after) = (Checks::default(), Checks::default());
                want(&mut before, std::slice::from_ref(&spec), 0);
                observe(&mut before, &spec, Err(failure.clone()), 0);
                after.restore(before.take_changed(Duration::from_secs(60), BEGAN + 60), BEGAN + 60 + years, ahead);
                want(&mut after, std::slice::from_ref(&spec), 60 + years);
                let is_down = state(&after, &spec, 60 + years) == State::Down;
                assert_eq!(is_down, ahead > 0 && what == "an agent's word", "{what}, {ahead}");
            }
        }
    }

    #[test]
    fn what_callers_took_down_is_tried_no_sooner_for_a_restart() {
        let [_, _, (_, spec, failure), _] = kinds();
        for (trial, away, due) in [(600, 60, 600), (600, 700, 760), (2 * HOUR, 60, HOUR)] {
            let (mut before, mut after) = (Checks::default(), Checks::default());
            want(&mut before, std::slice::from_ref(&spec), 0);
            observe(&mut before, &spec, Err(failure.clone()), 0);
            before.note_trial(&spec, Some(Duration::from_secs(trial)));
            after.restore(before.take_changed(Duration::from_secs(60), BEGAN + 60), BEGAN + 60 + away, 0);
            want(&mut after, std::slice::from_ref(&spec), 60 + away);
            let is_due = |at: u64| after.is_to_be_tried(&spec, Duration::from_secs(at));
            assert!(is_due(due) && (due <= 60 + away || !is_due(due - 1)), "{trial} {away}");
        }
    }

    #[test]
    fn what_comes_back_with_a_reload_is_as_it_was() {
        for (what, spec, failure) in kinds() {
            let mut checks = Checks::default();
            let (all, none) = ([spec.clone()], []);
            want(&mut checks, &all, 0);
            observe(&mut checks, &spec, Err(failure), 0);
            want(&mut checks, &none, 10);
            want(&mut checks, &all, 20);
            assert_eq!(state(&checks, &spec, 20), State::Down, "{what}");
            want(&mut checks, &none, 30);
            want(&mut checks, &all, 30 + 2 * HOUR);
            let is_down = state(&checks, &spec, 30 + 2 * HOUR) == State::Down;
            assert_eq!(is_down, what == "an agent's word", "{what}");
        }
    }
}
