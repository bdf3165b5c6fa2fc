//! A disk of the state that hangs: nothing fails, nothing ends. Who waits for it is told so after a while, for it may never answer.
//!
//! The store counts what it has done; the writer, which never waits for it, looks once a second whether it gets on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::ahead::date;
use super::api::Refusal;
use super::handle::Handle;
use super::text::span;
use super::writer::Writer;

/// A store that has something to do and ends nothing for so long has stalled. A slow disk takes a second for a transaction.
const STALLED: Duration = Duration::from_secs(5);
/// So long changes wait for one that has stalled. What comes later is refused at once: it would be made whenever the disk is back.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// So long readers wait.
const READ_PATIENCE: Duration = Duration::from_secs(3);
/// How often those who wait look.
const LOOK: Duration = Duration::from_millis(250);

/// For how long a store has stalled, in seconds; 0 while it gets on. The writer says, whoever waits reads.
pub(super) type Stalled = Arc<AtomicU64>;

/// What is known of how the store gets on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What it had done when it was looked at last.
    done: u64,
    /// When it got on last, or had nothing to do; since the start.
    at: Duration,
    /// It has stalled, and so many wait.
    waiting: Option<usize>,
}

impl Progress {
    /// Takes what it has done and how many wait; true when it stalls, or no longer does.
    fn look(&mut self, done: u64, waiting: usize, now: Duration) -> bool {
        if waiting == 0 || done != self.done {
            (self.done, self.at) = (done, now);
        }
        let was = self.waiting.is_some();
        self.waiting = (now.saturating_sub(self.at) >= STALLED).then_some(waiting);
        self.waiting.is_some() != was
    }
}

impl Writer {
    /// Looks whether the store gets on.
    pub(super) fn look_at_disk(&mut self) {
        let ((done, waiting), now) = (self.store.progress(), self.clock.now());
        let turns = self.file.progress.look(done, waiting, now);
        let seconds = self.file.progress.waiting.map_or(0, |_| now.saturating_sub(self.file.progress.at).as_secs());
        self.ends.stalled.store(seconds, Relaxed);
        match self.disk_trouble() {
            Some(trouble) if turns => {
                self.registry.operations().store_failed();
                tracing::error!(target: "meridian::store", "{trouble}");
            }
            None if turns => tracing::warn!(target: "meridian::store", "the disk of the state answers again"),
            _ => {}
        }
    }

    /// That the store has stalled, in a sentence.
    pub(super) fn disk_trouble(&self) -> Option<String> {
        let waiting = self.file.progress.waiting?;
        let seconds = self.clock.now().saturating_sub(self.file.progress.at).as_secs();
        let wait = if waiting == 1 { "1 write or read waits".to_owned() } else { format!("{waiting} writes and reads wait") };
        let since = date(self.clock.unix().saturating_sub(seconds));
        Some(format!(
            "{} (since {since}): {wait}; changes are not made, and what happens meanwhile is forgotten if the program ends before it does",
            silent(seconds)
        ))
    }
}

fn silent(seconds: u64) -> String {
    format!("the disk of the state has not answered for {}", span(seconds))
}

impl Handle {
    /// Seconds for which the disk of the state has not answered; 0 while it does.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Relaxed)
    }

    /// Waits for `work`, but no longer than `patience` while the disk of the state does not answer.
    pub async fn patiently<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let given_up = async {
            tokio::time::sleep(patience).await;
            while self.stalled() == 0 {
                tokio::time::sleep(LOOK).await;
            }
            Refusal::Stalled { detail: silent(self.stalled()) }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            refusal = given_up => Err(refusal),
        }
    }

    /// The same for what reads what is kept.
    pub(super) async fn read<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        self.patiently(READ_PATIENCE, work).await?
    }

    /// Fails where a change would wait for a disk that has not answered for long: nobody knows what it would meet when it is made.
    pub(super) fn may_change(&self) -> Result<(), Refusal> {
        match self.stalled() {
            seconds if seconds >= PATIENCE.as_secs() => Err(Refusal::Store { detail: silent(seconds) }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_ends_nothing_has_stalled_and_a_slow_one_has_not() {
        let mut progress = Progress::default();
        for (second, done, waiting, turns, expected) in [
            (0, 0, 0, false, None),
            // Nothing to do.
            (100, 0, 0, false, None),
            (101, 0, 2, false, None),
            (104, 0, 3, false, None),
            (105, 0, 3, true, Some(3)),
            (106, 0, 9, false, Some(9)),
            // It gets on, if slowly.
            (107, 1, 8, true, None),
            (111, 1, 8, false, None),
            (112, 1, 8, true, Some(8)),
            (113, 2, 0, true, None),
            (200, 2, 0, false, None),
        ] {
            let found = progress.look(done, waiting, Duration::from_secs(second));
            assert_eq!((found, progress.waiting), (turns, expected), "{second}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_gives_up_once_the_disk_does_not_answer_and_not_before() {
        let (handle, ends) = super::super::handle::channel(Arc::new(crate::world::Published::new(crate::world::World::default())));
        let slow = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            7
        };
        assert_eq!(handle.patiently(Duration::from_millis(1), slow).await, Ok(7), "it takes its time");
        assert_eq!(handle.may_change(), Ok(()));
        ends.stalled.store(8, Relaxed);
        assert_eq!(handle.may_change(), Ok(()));
        let refused = handle.patiently(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(refused, Err(Refusal::Stalled { detail: "the disk of the state has not answered for 8 s".into() }));
        ends.stalled.store(12, Relaxed);
        assert!(matches!(handle.may_change(), Err(Refusal::Store { .. })));
    }
}
