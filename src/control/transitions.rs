//! Changes of state, as the log, the audit log and the events tell them. A check is one thing and an endpoint another: where monitors put checks together
//! (several of them, `any`, `not`, advisory ones), a check may change its state and its endpoint stay as it is.
//!
//! ```text
//! a check changes its state      the entry of each endpoint that uses it
//! and so does the endpoint       `health`, from and to are the endpoint's states
//! but the endpoint stays         `health.monitor`, from and to are the check's states, and the monitor is named
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::api::{CheckSpec, Who};
use super::audit::{Entry, Kind};
use super::status;
use super::writer::Writer;
use crate::dns::Name;
use crate::health::State;

/// Endpoints of one check whose transition is kept, each in an entry of its own: the first in the order of their ids.
pub(super) const MAX_TOLD: usize = 64;

/// What a transition of a check is to an endpoint.
struct Seen {
    zone: Name,
    id: Arc<str>,
    /// The check, as it is called there.
    check: String,
    /// The name of its monitor, where the endpoint has more than this one.
    monitor: Option<String>,
    before: State,
    after: State,
    /// The endpoint has no other check.
    is_alone: bool,
    /// Unix seconds of the last change of the others.
    others_since: Option<u64>,
}

impl Writer {
    /// A check changed its state: says so, and marks what it decides on.
    pub(super) fn tell_transition(&mut self, spec: &CheckSpec, from: State, to: State, why: &str) {
        let mut all = self.seen_by_endpoints(spec, from);
        self.note_turns(&all);
        // Pools of libraries are those of every zone that uses them.
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|a, b| a.id == b.id);
        if all.is_empty() {
            self.tell_check(spec, from, to, why);
        }
        for (at, seen) in all.iter().take(MAX_TOLD).enumerate() {
            let Seen { id, check, monitor, before, after, .. } = seen;
            let is_moved = before != after;
            let of = monitor.as_deref().unwrap_or_default();
            if at == 0 {
                let (from, to) = if is_moved { (before, after) } else { (&from, &to) };
                let what = if is_moved { "state changed" } else { "a monitor's state changed, its endpoint's did not" };
                tracing::info!(target: "meridian::health", endpoint = &**id, monitor = of, check, from = from.word(), to = to.word(), why, "{what}");
            }
            let words = [
                // What the monitor did, where that is not what the endpoint does.
                monitor.as_ref().filter(|_| is_moved).map(|name| format!("monitor {name} is {}", to.word())),
                (!why.is_empty()).then(|| why.to_owned()),
                (!is_moved).then(|| format!("the endpoint is {} as before", after.word())),
                (at == 0 && all.len() > MAX_TOLD).then(|| format!("{} endpoints have this check, of which {MAX_TOLD} are told of", all.len())),
            ];
            let detail = words.into_iter().flatten().collect::<Vec<_>>().join("; ");
            let (from, to) = if is_moved { (*before, *after) } else { (from, to) };
            let entry = Entry {
                kind: Kind::Health,
                check: Some(check.clone()),
                monitor: monitor.clone(),
                before: from.word().into(),
                after: to.word().into(),
                detail: (!detail.is_empty()).then_some(detail),
                ..self.entry(&Who::itself(), if is_moved { "health" } else { "health.monitor" }, id)
            };
            self.keep_entry(entry);
        }
        self.look_again_at_users(spec);
    }

    /// Ramps go on, and end.
    pub(super) fn move_ramps(&mut self, now: Duration, now_unix: u64) {
        let (settled, moved) = self.checks.tick(now, now_unix);
        for (apex, pool) in moved {
            self.dirty.entry(apex).or_default().pools.insert(pool);
        }
        for spec in settled {
            let to = self.checks.stands(&spec, now).map_or(State::Up, |(state, _)| state);
            self.tell_transition(&spec, State::Ramp, to, "its ramp is over");
        }
    }

    /// The same of a check that no endpoint has.
    fn tell_check(&self, spec: &CheckSpec, from: State, to: State, why: &str) {
        let check = status::describe(spec);
        tracing::info!(target: "meridian::health", check, from = from.word(), to = to.word(), why, "state changed");
        let entry = Entry {
            kind: Kind::Health,
            before: from.word().into(),
            after: to.word().into(),
            detail: (!why.is_empty()).then(|| why.to_owned()),
            ..self.entry(&Who::itself(), "health", &check)
        };
        self.keep_entry(Entry { check: Some(check), ..entry });
    }

    /// Of an endpoint whose check is that of so many that it is none of those who are told of: the first of these, and how many have the check.
    pub(super) fn told_in_place_of(&self, id: &str, specs: &[(CheckSpec, String)]) -> Option<(Arc<str>, usize)> {
        specs.iter().find_map(|(spec, _)| {
            let mut all: Vec<Arc<str>> = Vec::new();
            for (apex, at) in self.checks.users(spec) {
                let Some(parts) = self.zones.get(apex).map(|zone| &zone.taken.parts) else { continue };
                let (Some(pool), Some(checks)) = (parts.model.pools.get(*at), parts.checks.get(*at)) else { continue };
                all.extend(pool.endpoints.iter().zip(checks).filter(|(_, specs)| specs.contains(spec)).map(|(endpoint, _)| endpoint.id.clone()));
            }
            all.sort_unstable();
            all.dedup();
            (all.iter().position(|one| **one == *id)? >= MAX_TOLD).then(|| (all[0].clone(), all.len()))
        })
    }

    /// The endpoints that a check decides on, as they were when it was in this state, and as they are now.
    fn seen_by_endpoints(&self, spec: &CheckSpec, from: State) -> Vec<Seen> {
        let (mut all, now): (Vec<Seen>, _) = (Vec::new(), self.clock.now());
        for (apex, at) in self.checks.users(spec) {
            let Some(zone) = self.zones.get(apex) else { continue };
            let (model, parts) = (zone.model(), &zone.taken.parts);
            let (Some(pool), Some(checks)) = (model.pools.get(*at), parts.checks.get(*at)) else { continue };
            for (endpoint, specs) in pool.endpoints.iter().zip(checks) {
                let Some(index) = specs.iter().position(|one| one == spec) else { continue };
                let vote = endpoint.vote.as_deref();
                let is_alone = specs.len() == 1 && vote.is_none();
                let others = specs.iter().filter(|other| *other != spec);
                all.push(Seen {
                    zone: apex.clone(),
                    id: endpoint.id.clone(),
                    check: status::label(model, endpoint, specs, index),
                    monitor: (!is_alone).then(|| status::monitor_name(model, endpoint, index).to_owned()).filter(|name| !name.is_empty()),
                    before: self.checks.state_before(specs, vote, now, (spec, from)),
                    after: self.checks.standing(specs, vote, now).state,
                    is_alone,
                    others_since: others.filter_map(|other| self.checks.since_unix(other)).max(),
                });
            }
        }
        all
    }

    /// Notes since when endpoints are in their state whose monitors are put together: a check that changes its own leaves that as it is.
    fn note_turns(&mut self, all: &[Seen]) {
        let now_unix = self.clock.unix();
        for seen in all.iter().filter(|seen| !seen.is_alone) {
            let Some(zone) = self.zones.get_mut(&seen.zone) else { continue };
            let is_moved = seen.before != seen.after;
            if is_moved || !zone.turned.contains_key(&seen.id) {
                let since = seen.others_since.filter(|_| !is_moved).unwrap_or(now_unix);
                Arc::make_mut(&mut zone.turned).insert(seen.id.clone(), since);
            }
        }
    }
}
