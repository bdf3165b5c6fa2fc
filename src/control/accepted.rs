//! What overlays come to once everything that is on its way to the disk is there: the ground that safety rules judge on, whoever asks.
//!
//! What is on its way, a ramp or a way back, counts in each manner of [`Course::JUDGED`]: so a change is judged on top of all that was accepted before
//! it, and not on what happens to be left of it at this moment.

use std::collections::HashSet;

use super::overlays::{Change, Course, Effects, Found, Sum};
use super::writer::Writer;

/// What is accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// In the order of [`Course::JUDGED`].
    pub(super) of: [Effects; Course::JUDGED.len()],
    /// Targets of which one of these is not what answers are made from.
    apart: HashSet<Found>,
    /// Targets of which these differ.
    moving: HashSet<Found>,
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

impl Writer {
    /// Sums up what is accepted of a target again; returns what is in effect.
    pub(super) fn sum_accepted(&mut self, key: &Found, now_unix: u64) -> Sum {
        let now = self.book.sum(key, Course::Now, [], [], now_unix);
        let sums = Course::JUDGED.map(|course| self.book.sum(key, course, self.pending.values(), [], now_unix));
        self.accepted.put(key, sums, &now);
        now
    }
}
