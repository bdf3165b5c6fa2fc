//! The same work on many things, on as many cores as the process may use.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Things taken by a thread at a time: few enough that the last ones are shared out, enough that taking them costs nothing.
const STRIDE: usize = 8;

/// `work` on every item; the results in the order of the items. Runs on this thread alone where there is one core, or one item. Helpers inherit the
/// priority of this thread.
pub(super) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let stride = (items.len() / (4 * threads)).clamp(1, STRIDE);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<R>)>> = Mutex::default();
    let help = || {
        loop {
            let from = next.fetch_add(stride, Ordering::Relaxed);
            let Some(some) = items.get(from..items.len().min(from + stride)).filter(|some| !some.is_empty()) else { return };
            let results = some.iter().map(&work).collect();
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((from, results));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // One that cannot be started is not needed.
            let _ = thread::Builder::new().name("load".into()).spawn_scoped(scope, help);
        }
        help();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(from, _)| *from);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 2, 7, 100, 10_000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(&items, |item| item * 2), (0..count).map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
