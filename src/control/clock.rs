//! The time, as the single writer knows it: the machine's, or one that a simulation moves. Whatever the writer decides by time, it asks here.

use std::time::{Duration, Instant};

use super::writer::unix_now;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The machine's clocks, since this moment.
    Machine(Instant),
    /// Whoever holds the other end moves it on.
    #[cfg(test)]
    Moved(std::sync::Arc<Moved>),
}

/// What moves a simulated clock.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Nanoseconds since the start.
    pub(crate) nanos: std::sync::atomic::AtomicU64,
    /// Seconds by which somebody has set the time of day.
    pub(crate) set: std::sync::atomic::AtomicI64,
}

/// When simulations start: some day in 2033.
#[cfg(test)]
pub(crate) const SIMULATED_START_UNIX: u64 = 2_000_000_000;

impl Clock {
    /// The machine's own, from now on.
    pub fn machine() -> Clock {
        Clock(Source::Machine(Instant::now()))
    }

    /// One that stands at its start until it is moved, and what moves it.
    #[cfg(test)]
    pub(crate) fn moved() -> (Clock, std::sync::Arc<Moved>) {
        let moved = std::sync::Arc::default();
        (Clock(Source::Moved(std::sync::Arc::clone(&moved))), moved)
    }

    /// Since the start; never goes back.
    pub(super) fn now(&self) -> Duration {
        match &self.0 {
            Source::Machine(started) => started.elapsed(),
            #[cfg(test)]
            Source::Moved(moved) => Duration::from_nanos(moved.nanos.load(std::sync::atomic::Ordering::Relaxed)),
        }
    }

    /// Seconds since 1970; may jump when somebody sets the machine's clock.
    pub(super) fn unix(&self) -> u64 {
        match &self.0 {
            Source::Machine(_) => unix_now(),
            #[cfg(test)]
            Source::Moved(moved) => {
                (SIMULATED_START_UNIX + self.now().as_secs()).saturating_add_signed(moved.set.load(std::sync::atomic::Ordering::Relaxed))
            }
        }
    }
}
