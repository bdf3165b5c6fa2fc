//! What overlays come to once everything that is on its way to the disk is there: the ground that safety rules judge on, whoever asks.
//!
//! What is on its way, a ramp or a way back, counts in each manner of [`Course::JUDGED`]: so a change is judged on top of all that was accepted before
//! it, and not on what happens to be left of it at this moment.

use std::collections::{BTreeMap, HashSet};

use super::overlays::{Change, Course, Effects, Found, Sum};
use super::state::{Look, Surroundings, ZoneState};
use super::writer::Writer;
use crate::dns::Name;
use crate::policy::plan::View;

/// What is accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// In the order of [`Course::JUDGED`].
    pub(super) of: [Effects; Course::JUDGED.len()],
    /// Targets of which one of these is not what answers are made from.
    apart: HashSet<Found>,
    /// Targets of which these differ.
    moving: HashSet<Found>,
    /// While many changes are judged one after the other.
    pub(super) ground: Option<Ground>,
}

impl Accepted {
    /// With everything at its end.
    pub(super) fn there(&self) -> &Effects {
        &self.of[1]
    }

    /// Targets that look different from what is published.
    pub(super) fn apart(&self) -> impl Iterator<Item = &Found> {
        self.apart.iter()
    }

    /// Everything that anything is laid on, some of it more than once.
    pub(super) fn keys(&self) -> impl Iterator<Item = Found> {
        self.of.iter().flat_map(Effects::keys)
    }

    /// By which courses to judge these changes: by one, as long as nothing is on its way.
    pub(super) fn courses<'c>(&self, changes: impl IntoIterator<Item = &'c Change>) -> &'static [Course] {
        let is_moving = |change: &Change| matches!(change, Change::Lay(laid) if laid.is_on_its_way());
        match !self.moving.is_empty() || changes.into_iter().any(is_moving) {
            true => &Course::JUDGED,
            false => &Course::JUDGED[..1],
        }
    }

    fn put(&mut self, key: &Found, sums: [Sum; Course::JUDGED.len()], now: &Sum) {
        let note = |keys: &mut HashSet<Found>, is_in: bool| {
            let _ = if is_in { keys.insert(key.clone()) } else { keys.remove(key) };
        };
        note(&mut self.apart, sums.iter().any(|sum| sum != now));
        note(&mut self.moving, sums.iter().any(|sum| *sum != sums[0]));
        for (effects, sum) in self.of.iter_mut().zip(sums) {
            effects.put(key, sum);
        }
    }
}

/// How a zone looks by each course, before anything that is judged.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// What does not look as it is published.
    pub(super) unseen: Look,
    /// In the order of [`Course::JUDGED`], as far as it was looked at.
    views: [Option<View>; Course::JUDGED.len()],
    /// What is not as it was when it was looked at.
    touched: Look,
}

impl Base {
    /// Of what does not look as it is published.
    pub(super) fn of(unseen: Look) -> Base {
        Base { unseen, ..Base::default() }
    }

    /// Looks at the zone by one course, or at what was touched since.
    pub(super) fn look(&mut self, zone: &ZoneState, at: usize, around: &Surroundings<'_>) {
        self.views[at] = Some(match &self.views[at] {
            Some(view) => zone.seen_under(view, [&self.touched, &Look::default()], around),
            None => zone.seen_under(&zone.view, [&self.unseen, &Look::default()], around),
        });
    }

    /// As it was looked at.
    pub(super) fn view<'v>(&'v self, at: usize, zone: &'v ZoneState) -> &'v View {
        self.views[at].as_ref().unwrap_or(&zone.view)
    }
}

/// What judging many changes one after the other has looked at: it holds as long as nothing but overlays changes, and nothing is published.
#[derive(Debug, Default)]
pub(super) struct Ground {
    bases: BTreeMap<Name, Base>,
    /// What overlays have changed since.
    pub(super) touched: BTreeMap<Name, Look>,
}

impl Ground {
    /// What is known of a zone, to be looked at where it was touched since.
    pub(super) fn take(&mut self, name: &Name) -> Option<Base> {
        let (base, touched) = (self.bases.remove(name), self.touched.remove(name).unwrap_or_default());
        let mut base = base?;
        base.unseen.join(&touched);
        base.touched = touched;
        Some(base)
    }

    /// Keeps what was looked at by the first so many courses for the next.
    pub(super) fn keep(&mut self, bases: BTreeMap<Name, Base>, courses: usize) {
        for (name, mut base) in bases {
            base.views[courses..].fill(None);
            self.bases.insert(name, Base { touched: Look::default(), ..base });
        }
    }
}

impl Writer {
    /// What shapes zones under these effects at this moment.
    pub(super) fn around<'a>(&'a self, effects: &'a Effects) -> Surroundings<'a> {
        let (now, now_unix) = (self.clock.now(), self.clock.unix());
        Surroundings { checks: &self.checks, effects, loads: &self.loads, now, now_unix, slot: &|_| 0 }
    }

    /// How a zone looks with what is accepted, in each manner.
    pub(super) fn accepted_views(&self, zone: &ZoneState) -> Vec<View> {
        if self.accepted.apart.is_empty() {
            return vec![zone.view.clone()];
        }
        let all = self.accepted.of.iter().take(self.accepted.courses([]).len());
        all.map(|effects| View { held: zone.view.held.clone(), ..zone.seen_whole(&self.around(effects)) }).collect()
    }

    /// Sums up what is accepted of a target again; returns what is in effect.
    pub(super) fn sum_accepted(&mut self, key: &Found, now_unix: u64) -> Sum {
        let now = self.book.sum(key, Course::Now, [], [], now_unix);
        let sums = Course::JUDGED.map(|course| self.book.sum(key, course, self.pending.values(), [], now_unix));
        self.accepted.put(key, sums, &now);
        now
    }
}
