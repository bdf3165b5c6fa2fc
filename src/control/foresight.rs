//! What whoever asks for a change may not mean, and what will stand when a plan begins: told before anything is made.
//!
//! A plan is judged when it is laid, with what will stand at its start as far as that is known, and again when it begins:
//!
//! ```text
//! ends until then             counts as ended
//! is at the end of its way    counts as there
//! is planned to begin before  warns: it may be changed until then, and of those that forbid each other the later one waits
//! health                      as it is
//! ```

use super::api::{Beyond, Consequences, Forced, Overlay, Setting, Who};
use super::overlays::{Change, Found, Laid};
use super::text::span;
use super::writer::Writer;
use crate::config::duration_words;
use crate::policy::model::{Failback, PolicyIx};

/// Overlays that end or begin before a plan and are looked at; with more of them it is judged as if the others were not planned.
const MAX_GIVEN: usize = 1000;
/// Holds that are named in warnings.
const MAX_HELD: usize = 3;

impl Writer {
    /// What a change would do, with what whoever asks may not mean.
    pub(super) fn foreseen(&mut self, change: Change) -> Consequences {
        let mut warnings = Vec::new();
        if let Change::Lay(laid) = &change
            && laid.overlay.back.is_none()
        {
            let standing = self.ranks().standing(laid);
            let idle = standing.why.filter(|_| !standing.in_force).map(|why| format!("it would have no effect: {why}"));
            warnings.extend(idle);
            warnings.extend(self.warnings_of(&laid.overlay));
        }
        warnings.extend(self.warnings_before(&change));
        let (given, at_unix) = self.given_at_start(&change);
        let mut consequences = self.judge_after(&given, &[change], at_unix);
        consequences.warnings.splice(..0, warnings);
        consequences
    }

    /// When a change begins, and what will have ended by then, or come to the end of its way if nothing holds it.
    pub(super) fn given_at_start(&self, change: &Change) -> (Vec<Change>, u64) {
        let Some(starts) = starts(change) else { return (Vec::new(), self.clock.unix()) };
        let arrives = |overlay: &Overlay| overlay.progress_at(self.paced_unix).is_some_and(|way| way.next_step.is_some() && way.end <= starts);
        let given = self.book.iter().filter_map(|laid| match &laid.overlay {
            overlay if overlay.has_expired(starts) || overlay.back.is_some() && arrives(overlay) => Some(Change::Lift(overlay.id)),
            overlay if arrives(overlay) => Some(Change::Lay(Box::new(laid.ended()))),
            _ => None,
        });
        (given.take(MAX_GIVEN).collect(), starts)
    }

    /// What whoever asks may not mean, as far as it has to be known before the change is made.
    pub(super) fn warnings_before(&mut self, change: &Change) -> Vec<String> {
        match change {
            Change::Lay(laid) => {
                let was = self.book.get(laid.overlay.id);
                match was.filter(|_| laid.overlay.back.is_some()) {
                    Some(was) => self.prolonged(was, laid).into_iter().chain(self.held_after(was)).collect(),
                    None => self.beside_plans(change).into_iter().collect(),
                }
            }
            Change::Lift(id) => self.book.get(*id).map(|laid| self.held_after(laid)).unwrap_or_default(),
        }
    }

    /// A way back that takes longer than its overlay would have lasted.
    fn prolonged(&self, was: &Laid, laid: &Laid) -> Option<String> {
        let (before, after) = (was.overlay.expires?, laid.overlay.expires?);
        let left = |at: u64| span(at.saturating_sub(self.clock.unix()));
        (after > before).then(|| {
            format!(
                "it would have expired in {}, and the rest would have come back at once: it lasts until all is back, in {}",
                left(before),
                left(after)
            )
        })
    }

    /// Traffic that does not come back when something does: failback holds it.
    fn held_after(&self, laid: &Laid) -> Vec<String> {
        let withdraws = matches!(laid.overlay.set, Setting::State(Forced::Down | Forced::Drain)) && laid.overlay.is_begun();
        let Some(Found::Thing(id)) = laid.found().filter(|_| withdraws) else { return Vec::new() };
        let mut names = Vec::new();
        for zone in self.loaded().around(id) {
            let Some(state) = self.zones.get(&zone.model.name) else { continue };
            if state.held.is_empty() {
                continue;
            }
            let (model, pools) = (&zone.model, zone.ids.pools_of(&zone.model, id));
            for (policy, child) in state.held.keys() {
                if model.pools_below(*child).iter().any(|ix| pools.contains(&(ix.0 as usize))) {
                    names.extend(state.failback_name(*policy).map(|name| (name, model.policy(*policy).failback)));
                }
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        let words = |(name, failback): (String, Failback)| match failback {
            Failback::After(wait) => {
                let wait = duration_words(wait);
                format!("traffic comes back only after {wait} of health (held): `meridian failback {name}` brings it back at once")
            }
            Failback::Auto | Failback::Manual => format!("traffic does not come back by itself (held): `meridian failback {name}` brings it back"),
        };
        names.into_iter().take(MAX_HELD).map(words).collect()
    }

    /// What is planned to begin before a plan, and would forbid it then.
    fn beside_plans(&mut self, change: &Change) -> Option<String> {
        let starts = starts(change)?;
        let Change::Lay(laid) = change else { return None };
        if laid.overlay.break_glass {
            return None;
        }
        let plans = self.book.iter().filter(|one| {
            let overlay = &one.overlay;
            overlay.id != laid.overlay.id && !overlay.is_begun() && overlay.starts.is_some_and(|at| at <= starts) && !overlay.has_expired(starts)
        });
        let (mut given, at_unix) = self.given_at_start(change);
        let before = given.len();
        given.extend(plans.take(MAX_GIVEN).map(|one| Change::Lay(Box::new(one.clone()))));
        if given.len() == before {
            return None;
        }
        let broken = self.judge_after(&given, std::slice::from_ref(change), at_unix).broken;
        let rules: Vec<String> = broken.iter().map(ToString::to_string).collect();
        (!rules.is_empty()).then(|| format!("with what is planned to begin before it, it will have to wait at its start: {}", rules.join("; ")))
    }

    /// What is laid beyond the zones of whoever asks and reaches into them: that it is so, not whose it is and why.
    pub(super) fn beyond(&self, who: &Who) -> Vec<Beyond> {
        let Some(zones) = &who.zones else { return Vec::new() };
        let zones = zones.iter().filter_map(|zone| crate::dns::Name::parse_absolute(zone).ok());
        let zones: Vec<_> = zones.filter_map(|zone| self.loaded().get(&zone.to_lowercase())).collect();
        let mut ranks = self.ranks();
        let mut all = Vec::new();
        for laid in self.book.iter().filter(|laid| !who.covers(&laid.overlay.target)) {
            let Some(Found::Thing(id)) = laid.found() else { continue };
            let reaches = zones.iter().any(|zone| !zone.ids.pools_of(&zone.model, id).is_empty());
            if reaches && ranks.standing(laid).in_force {
                let overlay = &laid.overlay;
                let since = overlay.began.unwrap_or(overlay.created);
                all.push(Beyond {
                    target: overlay.target.clone(),
                    set: overlay.set,
                    since,
                    expires: overlay.expires,
                    phase: overlay.phase_word().into(),
                });
            }
        }
        all
    }

    /// Regions that a target of the audit log is in, or whose pools it has: what was done to them was done to it.
    pub(super) fn regions_of(&self, target: &str) -> Vec<String> {
        let mut regions = std::collections::BTreeSet::new();
        for id in super::audit::spellings(target) {
            let whole = crate::dns::Name::parse_absolute(&id).ok().filter(|_| !id.contains('/'));
            if let Some(zone) = whole.and_then(|apex| self.loaded().get(&apex.to_lowercase())) {
                regions.extend(zone.ids.regions().take(MAX_GIVEN).map(|region| format!("region:{region}")));
                continue;
            }
            let is_found = id.starts_with("library/") || super::loaded::own_zone(&id).is_some_and(|apex| self.zones.contains_key(&apex));
            let zone = self.loaded().around(&id).filter(|_| is_found).find(|zone| !zone.ids.pools_of(&zone.model, &id).is_empty());
            if let Some(zone) = zone {
                let pools = zone.ids.pools_of(&zone.model, &id).into_iter();
                regions.extend(pools.filter_map(|at| zone.model.pools[at].region.as_ref()).map(|region| format!("region:{region}")));
            }
        }
        regions.into_iter().collect()
    }
}

impl super::state::ZoneState {
    /// What [`fail_back`](Self::fail_back) takes for a policy, with the zone in front.
    fn failback_name(&self, ix: PolicyIx) -> Option<String> {
        let model = self.model();
        let zone = super::overlays::zone_text(&model.name);
        let policy = model.policy(ix);
        if !policy.inline {
            return Some(format!("{zone}/policy:{}", policy.name));
        }
        let steer = model.steers.iter().find(|steer| model.policies_below(steer.root).contains(&ix))?;
        Some(format!("{zone}/{}", steer.name))
    }
}

/// When a plan begins that has not begun yet.
fn starts(change: &Change) -> Option<u64> {
    match change {
        Change::Lay(laid) if !laid.overlay.is_begun() => laid.overlay.starts,
        _ => None,
    }
}
