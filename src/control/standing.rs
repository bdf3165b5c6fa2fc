//! How an endpoint stands by all its checks: the worst of them, or what its monitors make of them.

use std::time::Duration;

use super::api::CheckSpec;
use super::checks::Checks;
use crate::health::State;
use crate::policy::model::{MonitorKind, Vote};

/// How an endpoint stands by all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    pub(super) state: State,
    /// The share of its weight while it ramps.
    pub(super) ramp: f32,
    /// It is degraded in a way that less traffic may mend: it gets the `degraded_weight` of its pool.
    pub(super) burdened: bool,
}

impl Standing {
    pub(super) const WELL: Standing = Standing { state: State::Up, ramp: 1.0, burdened: false };

    /// The better, the higher.
    fn rank(self) -> u8 {
        match self.state {
            State::Down => 0,
            State::Unknown => 1,
            State::Suspect => 2,
            State::Ramp => 3,
            State::Degraded => 4,
            State::Up => 5,
        }
    }

    /// Both must pass.
    fn worse(self, other: Standing) -> Standing {
        let state = if other.rank() < self.rank() { other.state } else { self.state };
        Standing { state, ramp: self.ramp.min(other.ramp), burdened: self.burdened || other.burdened }
    }
}

impl Checks {
    /// All must pass: the worst state counts, and the smallest share of a ramp.
    ///
    /// ```text
    /// no check            up
    /// any down            down
    /// any unknown         unknown
    /// any suspect         suspect
    /// any ramp            ramp
    /// any degraded        degraded
    /// else                up
    /// ```
    ///
    /// Where the monitors say otherwise (`vote`), a calculation takes the place of a check.
    pub(super) fn standing(&self, specs: &[CheckSpec], vote: Option<&Vote>, now: Duration) -> Standing {
        standing_by(specs, vote, &|spec| self.standing_of(spec, now))
    }

    /// The state that the same would be in if one of the checks were in another.
    pub(super) fn state_before(&self, specs: &[CheckSpec], vote: Option<&Vote>, now: Duration, (changed, was): (&CheckSpec, State)) -> State {
        let then = |spec: &CheckSpec| {
            let standing = self.standing_of(spec, now)?;
            Some(if spec == changed { Standing { state: was, ..standing } } else { standing })
        };
        standing_by(specs, vote, &then).state
    }
}

/// How one check stands, if it is known.
pub(super) type Of<'a> = &'a dyn Fn(&CheckSpec) -> Option<Standing>;

fn standing_by(specs: &[CheckSpec], vote: Option<&Vote>, of: Of<'_>) -> Standing {
    match vote {
        None => specs.iter().filter_map(of).fold(Standing::WELL, Standing::worse),
        // What callers report is asked for by the pool, not by a monitor, and takes part in any case.
        Some(vote) => {
            let shares = specs.iter().filter(|spec| matches!(spec.monitor.kind, MonitorKind::Share(_)));
            shares.filter_map(of).fold(come_to(vote, specs, of), Standing::worse)
        }
    }
}

/// What a calculation comes to, where `by` says how each check stands.
pub(super) fn come_to(vote: &Vote, specs: &[CheckSpec], by: Of<'_>) -> Standing {
    match vote {
        Vote::Check(at) => specs.get(usize::from(*at)).and_then(by).unwrap_or(Standing::WELL),
        Vote::AtLeast { count, of } => {
            let mut all: Vec<Standing> = of.iter().map(|vote| come_to(vote, specs, by)).collect();
            all.sort_by(|a, b| b.rank().cmp(&a.rank()).then(b.ramp.total_cmp(&a.ramp)));
            all.into_iter().take(usize::from(*count)).fold(Standing::WELL, Standing::worse)
        }
        Vote::Not(vote) => {
            let state = match come_to(vote, specs, by).state {
                State::Down => State::Up,
                State::Unknown => State::Unknown,
                _ => State::Down,
            };
            Standing { state, ..Standing::WELL }
        }
    }
}
