//! What may happen many times a second and is told now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From one word to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// Says of something that happens again and again when it is told: the first time, and after a pause.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// It has happened: how often since it was told last, if it is told now.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, count) = &mut *inner;
        *count += 1;
        if told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_minute() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let told: Vec<(u64, u64)> =
            (0..1500).filter_map(|tenth| Some((tenth, seldom.happened(start + Duration::from_millis(100 * tenth))?))).collect();
        assert_eq!(told, [(0, 1), (600, 600), (1200, 600)]);
    }
}
