//! As what counts what is on its way: a ramp, or a way back. Answers are made from where each is at this moment; safety rules judge by where each may
//! be while a change holds.
//!
//! ```text
//!                  gives up traffic      takes traffic up      comes back
//! Now              in part               in part               in part
//! Spent            is at its end         is where it began     has not come back
//! There            is at its end         is at its end         is back
//! Begun            is where it began     is where it began     has not come back
//! ```
//!
//! `Spent` is the least that is left on the way, so nobody counts on what is going or not there yet. `There` is what all of it comes to. By `Begun` the
//! end of a ramp is judged, and whoever takes out at once what was to go step by step.

use super::effects::Sum;
use super::{LEAD_S, Laid};
use crate::control::api::{Forced, Setting};

/// Where what is on its way is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Course {
    /// Where it is.
    Now,
    /// What goes has gone, what comes has not come.
    Spent,
    /// At its end.
    There,
    /// Where it began.
    Begun,
}

impl Course {
    /// By which safety rules judge; what one of them forbids is forbidden.
    pub(in crate::control) const JUDGED: [Course; 3] = [Course::Spent, Course::There, Course::Begun];

    /// True when what goes, or else what comes, counts as at its end.
    fn is_there(self, goes: bool) -> bool {
        self == Course::There || self == Course::Spent && goes
    }
}

impl Laid {
    /// It is on a way of which safety rules look at both ends.
    pub(in crate::control) fn is_on_its_way(&self) -> bool {
        self.overlay.back.is_some() || self.overlay.ramp.as_ref().is_some_and(|ramp| !ramp.done)
    }

    /// The same when its ramp has come to its end.
    pub(in crate::control) fn ended(&self) -> Laid {
        let mut laid = self.clone();
        laid.overlay.ramp.iter_mut().for_each(|ramp| ramp.done = true);
        laid
    }
}

/// Adds what an overlay comes to. A `change` that is judged counts as begun, and what it lets come back as back.
///
/// ```text
/// not begun                     nothing; a withdrawal within LEAD_S, a weight of 0 included, is announced
/// weight on its way             between from and to; one of its ends
/// drain on its way              gives up a share; all or nothing
/// drain or down on its way back gives up what has not come back; all or nothing
/// else                          what it sets
/// ```
pub(super) fn add(sum: &mut Sum, laid: &Laid, now_unix: u64, course: Course, change: bool) {
    let (overlay, Some(found)) = (&laid.overlay, laid.found()) else { return };
    let withdraws = matches!(overlay.set, Setting::State(Forced::Down | Forced::Drain));
    if let Some(back) = &overlay.back {
        let left = 1.0 - if change { 1.0 } else { back.progress(now_unix) };
        match course {
            Course::Now if left > 0.0 => sum.add_yield(left as f32),
            Course::Spent | Course::Begun if !change => sum.add(found, overlay.set),
            _ => {}
        }
        return;
    }
    if !change && !overlay.is_begun() {
        if (withdraws || overlay.set == Setting::Weight(0)) && overlay.starts.is_some_and(|at| at <= now_unix + LEAD_S) {
            sum.add_soon();
        }
        return;
    }
    let progress = overlay.ramp.as_ref().map_or(1.0, |ramp| ramp.progress(now_unix));
    match (overlay.set, course) {
        (set, _) if progress == 1.0 => sum.add(found, set),
        (Setting::Weight(to), Course::Now) => sum.add(found, Setting::Weight(overlay.weight_at(to, progress))),
        (Setting::Weight(to), _) => {
            // What a plan begins with may not be known yet.
            let falls = overlay.from.map_or(to == 0, |from| to < from);
            let weight = if course.is_there(falls) { Some(to) } else { overlay.from };
            weight.into_iter().for_each(|weight| sum.add(found, Setting::Weight(weight)));
        }
        (Setting::State(Forced::Drain), Course::Now) => sum.add_yield(progress as f32),
        (set, _) if course.is_there(true) => sum.add(found, set),
        _ => {}
    }
}
