//! What several servers could share: values under keys, each with the revision that wrote it, and a log that is only appended to.
//!
//! ```text
//!   overlays/00000000000000000017   what is laid            get_all("overlays/") ──▶ items, and the revision they are as of
//!   ended/00000000000000000016      ids that are used up    compare_and_set ──▶ all guards hold: all of it, under the next revision
//!   tokens/4f6c…                    who may do what                        └──▶ else nothing, and which guard failed
//!   withdrawals/example.com.        what `max_changes` counts  watch("tokens/", revision) ──▶ each commit after it, in order
//!   log/00000000000000004711        what was done
//! ```
//!
//! The shape is etcd's (a flat key space, transactions of guards and writes, watches from a revision that may be compacted away), so that a
//! cluster can stand where the file stands today. What is a server's own (verdicts of its probes, serials, the texts of zones, held failbacks) does
//! not come here.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::StoreError;
use crate::control::audit::Entry;

/// Counts commits; 0 before the first. Of two states of a key the one with the higher revision is the later one.
pub type Revision = u64;

/// A future of a store; it belongs to whoever waits.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Where entries of the log stand, for whoever watches. They are read in pages ([`super::Store::audit`]), not with [`SharedState::get_all`].
pub const LOG: &str = "log/";
/// Octets of a key at most.
pub const MAX_KEY_LEN: usize = 512;
/// Octets of a value at most; etcd takes 1.5 MiB in one request.
pub const MAX_VALUE_LEN: usize = 1024 * 1024;
/// Commits that a watch may begin before or lag behind; further back it has to read everything again.
pub const WATCH_BACKLOG: usize = 256;

/// A value under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// A path of words: `overlays/00000000000000000017`.
    pub key: String,
    /// JSON.
    pub value: String,
    /// What wrote it.
    pub revision: Revision,
}

/// Values as of one moment, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As of when: a watch from here misses nothing.
    pub revision: Revision,
    /// What there is.
    pub items: Vec<Item>,
}

/// What a key must be for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Not there.
    Absent,
    /// There, whatever it says.
    Present,
    /// As that revision wrote it.
    At(Revision),
}

impl Expect {
    /// Whether a key that was written by `found` (`None`: not there) is as expected.
    pub fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::At(revision) => found == Some(revision),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Absent => f.write_str("nothing"),
            Expect::Present => f.write_str("a value"),
            Expect::At(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// All of it happens at once, or nothing of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// What must hold before.
    pub guards: Vec<(String, Expect)>,
    /// Keys and their new values, in order; `None` removes the key, if it is there.
    pub sets: Vec<(String, Option<String>)>,
    /// Appended to the log.
    pub entries: Vec<Entry>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What its writes stand under; the one before for a transaction that writes nothing.
    pub revision: Revision,
    /// Of its last entry in the log; 0 without one.
    pub sequence: u64,
}

/// A store that several servers could share. Every call is in its queue when it returns, and calls take effect in that order; the futures end once
/// the outcome is durable.
pub trait SharedState: fmt::Debug + Send + Sync {
    /// Every key that begins with `prefix`.
    fn get_all(&self, prefix: &str) -> Answer<Snapshot>;

    /// Does all of `transaction` if each of its guards holds; else fails with [`StoreError::Conflict`] for the first that does not.
    fn compare_and_set(&self, transaction: Transaction) -> Answer<Committed>;

    /// Appends to the log.
    fn append(&self, entries: Vec<Entry>) -> Answer<Committed> {
        self.compare_and_set(Transaction { entries, ..Transaction::default() })
    }

    /// Every commit after `after` that touches a key beginning with `prefix`. Fails with [`StoreError::Compacted`] when they are no longer known: read
    /// everything, and watch from there.
    fn watch(&self, prefix: &str, after: Revision) -> Answer<Watch>;
}

/// The writes of one commit.
#[derive(Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its revision.
    pub revision: Revision,
    /// Keys and their new values; `None` for one that was removed. Entries of the log are here, too.
    pub changes: Vec<(String, Option<String>)>,
}

/// Commits as they come.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    backlog: VecDeque<Arc<Commit>>,
    live: broadcast::Receiver<Arc<Commit>>,
}

impl Watch {
    /// The next commit that touches the prefix. Fails with [`StoreError::Compacted`] when this watch has fallen behind, with
    /// [`StoreError::Closed`] at the end.
    pub async fn next(&mut self) -> Result<Arc<Commit>, StoreError> {
        loop {
            let commit = match self.backlog.pop_front() {
                Some(commit) => commit,
                None => self.live.recv().await.map_err(|error| match error {
                    broadcast::error::RecvError::Lagged(_) => StoreError::Compacted,
                    broadcast::error::RecvError::Closed => StoreError::Closed,
                })?,
            };
            if commit.changes.iter().any(|(key, _)| key.starts_with(&self.prefix)) {
                return Ok(commit);
            }
        }
    }
}

/// The last commits, and those who watch.
#[derive(Debug)]
pub(super) struct Commits {
    last: VecDeque<Arc<Commit>>,
    /// Everything after it is in `last`.
    before: Revision,
    live: broadcast::Sender<Arc<Commit>>,
}

impl Commits {
    /// Nothing yet after `revision`.
    pub(super) fn after(revision: Revision) -> Commits {
        Commits { last: VecDeque::new(), before: revision, live: broadcast::Sender::new(WATCH_BACKLOG) }
    }

    /// Tells of a commit.
    pub(super) fn tell(&mut self, commit: Commit) {
        let commit = Arc::new(commit);
        if self.last.len() == WATCH_BACKLOG
            && let Some(gone) = self.last.pop_front()
        {
            self.before = gone.revision;
        }
        self.last.push_back(commit.clone());
        // Without anybody who watches there is nobody to tell.
        let _ = self.live.send(commit);
    }

    /// Everything after `after`.
    pub(super) fn watch(&self, prefix: String, after: Revision) -> Result<Watch, StoreError> {
        if after < self.before {
            return Err(StoreError::Compacted);
        }
        let backlog = self.last.iter().filter(|commit| commit.revision > after).cloned().collect();
        Ok(Watch { prefix, backlog, live: self.live.subscribe() })
    }
}

/// There is no store, and why.
#[derive(Debug)]
pub(super) struct Nothing(pub(super) Arc<str>);

impl Nothing {
    fn answer<T: Send + 'static>(&self) -> Answer<T> {
        Box::pin(std::future::ready(Err(StoreError::Absent { why: self.0.to_string() })))
    }
}

impl SharedState for Nothing {
    fn get_all(&self, _: &str) -> Answer<Snapshot> {
        self.answer()
    }

    fn compare_and_set(&self, _: Transaction) -> Answer<Committed> {
        self.answer()
    }

    fn watch(&self, _: &str, _: Revision) -> Answer<Watch> {
        self.answer()
    }
}
