//! Runtime changes: checking them against what is loaded, and the book of those that are laid.
//!
//! [`target`] finds what they are about, [`effects`] is what they come to.

mod effects;
mod target;

use std::collections::BTreeMap;

use super::api::{MAX_REASON_CHARS, NewOverlay, Overlay, Refusal, Who};
use super::compile::ZoneParts;
use crate::config;
pub(super) use effects::{Differing, Effects};
pub(super) use target::{Found, find, zone_text};

/// Overlays that can be in effect at once; more are refused.
const MAX_OVERLAYS: usize = 100_000;
/// How long an overlay lasts when nothing is said.
const DEFAULT_EXPIRY_S: u64 = 24 * 3600;
/// The longest expiry other than `never`: ten years.
const MAX_EXPIRY_S: u64 = 10 * 366 * 24 * 3600;

/// An overlay and what its target is at present.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub(super) overlay: Overlay,
    found: Result<Found, String>,
}

impl Laid {
    /// What it is about; `None` when that is gone.
    pub(super) fn found(&self) -> Option<&Found> {
        self.found.as_ref().ok()
    }

    fn find_again(&mut self, zones: &[&ZoneParts]) {
        self.found = find(&self.overlay.target, self.overlay.set, zones).map_err(|refusal| words(&refusal));
        self.overlay.inactive = self.found.as_ref().err().cloned();
    }
}

/// A change of the book that is not made yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// One more.
    Lay(Box<Laid>),
    /// One less.
    Lift(u64),
}

/// Every overlay that is laid, by id, which is by age.
#[derive(Debug, Default)]
pub(super) struct Book {
    laid: BTreeMap<u64, Laid>,
}

impl Book {
    /// As they were kept; what they are about is found with [`find_again`](Book::find_again).
    pub(super) fn of(saved: Vec<Overlay>) -> Book {
        let laid = |overlay: Overlay| (overlay.id, Laid { overlay, found: Err("not looked for yet".into()) });
        Book { laid: saved.into_iter().map(laid).collect() }
    }

    /// After the files have changed.
    pub(super) fn find_again(&mut self, zones: &[&ZoneParts]) {
        self.laid.values_mut().for_each(|laid| laid.find_again(zones));
    }

    pub(super) fn insert(&mut self, laid: Laid) {
        self.laid.insert(laid.overlay.id, laid);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Overlay> {
        self.laid.remove(&id).map(|laid| laid.overlay)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Overlay> {
        self.laid.get(&id).map(|laid| &laid.overlay)
    }

    pub(super) fn len(&self) -> usize {
        self.laid.len()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Laid> {
        self.laid.values()
    }

    /// Oldest first.
    pub(super) fn overlays(&self) -> impl Iterator<Item = &Overlay> {
        self.laid.values().map(|laid| &laid.overlay)
    }

    /// What they come to.
    pub(super) fn effects(&self) -> Effects {
        sum(self.laid.values())
    }

    /// What they would come to after these changes.
    pub(super) fn effects_after<'a>(&'a self, changes: impl IntoIterator<Item = &'a Change>) -> Effects {
        let mut all: BTreeMap<u64, &Laid> = self.laid.iter().map(|(id, laid)| (*id, laid)).collect();
        for change in changes {
            match change {
                Change::Lay(laid) => all.insert(laid.overlay.id, laid),
                Change::Lift(id) => all.remove(id),
            };
        }
        sum(all.into_values())
    }
}

fn sum<'a>(laid: impl Iterator<Item = &'a Laid>) -> Effects {
    let mut effects = Effects::default();
    for laid in laid {
        if let Some(found) = laid.found() {
            effects.add(found, laid.overlay.set);
        }
    }
    effects
}

/// Checks a request and gives it an id.
pub(super) fn admit(new: NewOverlay, who: &Who, id: u64, now_unix: u64, held: usize, zones: &[&ZoneParts]) -> Result<Laid, Refusal> {
    let invalid = |field: &str, detail: String| Err(Refusal::Invalid { field: field.into(), detail });
    if held >= MAX_OVERLAYS {
        return invalid("target", format!("{held} overlays are in effect, the limit is {MAX_OVERLAYS}: revert some first"));
    }
    let reason = check_reason(&new.reason)?;
    let expires = match new.expires.as_deref() {
        None => Some(now_unix + DEFAULT_EXPIRY_S),
        Some("never") => None,
        Some(text) => match config::parse_duration(text).map(|duration| duration.as_secs()) {
            Some(seconds @ 1..=MAX_EXPIRY_S) => Some(now_unix + seconds),
            _ => return invalid("expires", format!("found {text:?}, expected a duration such as \"90s\", \"2h\" or \"1d\", or \"never\"")),
        },
    };
    who.may_change(&new.target)?;
    let found = find(&new.target, new.set, zones)?;
    let owner = who.name.clone();
    let overlay = Overlay { owner, reason: reason.into(), created: now_unix, expires, ..Overlay::of(id, new.target, new.set) };
    Ok(Laid { overlay, found: Ok(found) })
}

/// Why something is done: without the blanks around it.
pub(super) fn check_reason(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    match reason.chars().count() {
        1..=MAX_REASON_CHARS => Ok(reason),
        found => Err(Refusal::Invalid { field: "reason".into(), detail: format!("found {found} characters, expected 1 to {MAX_REASON_CHARS}") }),
    }
}

/// A refusal as one sentence.
pub(super) fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound { what, near } if near.is_empty() => format!("{what} does not exist"),
        Refusal::NotFound { what, near } => format!("{what} does not exist (did you mean {}?)", near.join(", ")),
        Refusal::Invalid { field, detail } => format!("{field}: {detail}"),
        Refusal::Store { detail } | Refusal::Forbidden { detail } | Refusal::Changed { detail } => detail.clone(),
        Refusal::Safety { broken } => broken.iter().map(|rule| rule.to_string()).collect::<Vec<_>>().join("; "),
        Refusal::Stopping => "the program is stopping".into(),
    }
}
