//! Threads for long work. One is asked for before the work is handed over, so that whoever waits for it can be told that there is none.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::api::Refusal;

/// What is done on a thread of its own.
type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for its work. It ends with it, or when none comes.
pub(super) struct Worker(SyncSender<Work>);

impl Worker {
    /// Starts one; the refusal says why the system gives none.
    pub(super) fn start(name: &str) -> Result<Worker, Refusal> {
        let (sender, receiver) = sync_channel::<Work>(1);
        let started = thread::Builder::new().name(name.into()).spawn(move || receiver.into_iter().for_each(|work| work()));
        started.map(|_| Worker(sender)).map_err(|error| {
            tracing::error!(%error, work = name, "no thread can be started");
            Refusal::Busy { detail: format!("no thread can be started: {error}") }
        })
    }

    /// Hands over the work.
    pub(super) fn work(self, work: impl FnOnce() + Send + 'static) {
        // It waits for as long as this end is there.
        let _ = self.0.send(Box::new(work));
    }
}
