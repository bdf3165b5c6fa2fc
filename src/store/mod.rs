//! L4: the embedded state: what must outlive the process. One SQLite file on a thread of its own; nothing else in the program waits for a disk.
//!
//! ```text
//!   control ──▶ Store (cheap to clone) ──bounded queue──▶ store thread ──▶ meridian.db (+ -wal)
//!      ▲                                                       │ takes what is queued, one transaction, one sync
//!      └───────────────── reply, after the commit ─────────────┘
//! ```
//!
//! The interface is made of whole values under names (an overlay by id, a serial by zone), each written as one step, so that a store shared by
//! several servers can stand behind it later. A store that cannot be opened is replaced by [`Store::none`]: it keeps nothing and says so on
//! every write, while DNS goes on. Nothing that cannot be read is ever deleted or overwritten.

mod rows;
mod schema;
mod texts;
mod thread;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::control::api::Overlay;
use crate::health;
use texts::Text;
pub use texts::{ZoneFile, ZoneFiles};
use thread::{Job, Reply};

/// Jobs that wait at most; whoever brings more waits. Each is small, and one transaction takes up to all of them.
pub const QUEUE_LEN: usize = 1024;
/// Longest text of one event. A zone's texts go into its version, not into the log.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// The event log keeps at most this much text: about 200,000 changes, and a file that is checked within a second at start.
pub const MAX_EVENT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The event log keeps at most this much time: a quarter, the longest that reviews usually look back.
pub const MAX_EVENT_LOG_AGE_SECS: u64 = 92 * 24 * 3600;
/// Most events one read returns, so that a reader pages instead of filling memory.
pub const MAX_EVENTS_PER_READ: usize = 1000;
/// Overlays that ended and are still in the file, for whoever looks back; the oldest go first.
pub const MAX_ENDED_OVERLAYS: u64 = 10_000;
/// All texts of one zone together; above that the last good version is not kept. Far above any zone that is written by hand.
pub const MAX_ZONE_VERSION_BYTES: usize = 256 * 1024 * 1024;
/// Verdicts of checks that no longer run go this long after their last result; control uses none that is older than an hour.
pub const MAX_VERDICT_AGE_SECS: u64 = 24 * 3600;

/// What an earlier run left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Open ones, in id order; those that expired meanwhile are among them.
    pub overlays: Vec<Overlay>,
    /// Above every id that was ever kept, ended overlays included; 1 at first.
    pub next_overlay_id: u64,
    /// In key order.
    pub verdicts: Vec<Verdict>,
    /// By zone.
    pub serials: BTreeMap<String, Serial>,
    /// Names whose failback is held, in order.
    pub holds: Vec<String>,
    /// What the kept version of each zone says, as a hash.
    pub versions: BTreeMap<String, String>,
}

impl Default for Saved {
    fn default() -> Saved {
        Saved {
            overlays: Vec::new(),
            next_overlay_id: 1,
            verdicts: Vec::new(),
            serials: BTreeMap::new(),
            holds: Vec::new(),
            versions: BTreeMap::new(),
        }
    }
}

/// The last state of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Names the endpoint and the check; content, not an index.
    pub key: String,
    /// As it was.
    pub state: health::State,
    /// Unix seconds of the last change of state.
    pub since_unix: u64,
    /// Unix seconds of the last finished check.
    pub last_check_unix: u64,
    /// Why the last failed check failed.
    pub last_error: Option<String>,
}

/// The SOA serial a zone was last served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// As in the SOA.
    pub serial: u32,
    /// Hash of the content it stands for.
    pub content: String,
}

/// One entry of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Counts up, never used again.
    pub sequence: u64,
    /// Unix seconds at which it was kept.
    pub at_unix: u64,
    /// What kind of event.
    pub kind: String,
    /// The event.
    pub json: String,
}

/// Why the store could not do what was asked. Nothing of what was asked is kept then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The folder cannot be made, or the file cannot be opened for writing: the system's words.
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
    /// Another process holds the file.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is no state file, or damaged. It is left as it is.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file was written by a newer program. It is left as it is.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// A read or write failed: disk full, input/output error.
    Failed {
        /// The database's words.
        detail: String,
    },
    /// There is no store, and why.
    Absent {
        /// Why there is none.
        why: String,
    },
    /// No open overlay has this id.
    NoOverlay {
        /// As asked.
        id: u64,
    },
    /// A file is no longer what was loaded from it.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It is more than the store takes.
    TooLarge {
        /// What.
        what: &'static str,
        /// Octets found.
        found: usize,
        /// Octets allowed.
        limit: usize,
    },
    /// The store is closed.
    Closed,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Open { path, detail } => write!(f, "{}: cannot open the state file for writing: {detail}", path.display()),
            StoreError::Locked { path } => write!(f, "{}: the state file is in use by another process", path.display()),
            StoreError::Corrupt { path, detail } => {
                write!(f, "{}: not a usable state file: {detail}; it was left as it is: move it away to start afresh", path.display())
            }
            StoreError::Newer { path, found, known } => write!(
                f,
                "{}: found state schema {found}, expected {known} or older; a newer version of the program wrote it, and it was left as it is",
                path.display()
            ),
            StoreError::Failed { detail } => write!(f, "the state store failed: {detail}; nothing was kept"),
            StoreError::Absent { why } => write!(f, "nothing can be kept: {why}"),
            StoreError::NoOverlay { id } => write!(f, "found no open overlay {id} in the state store"),
            StoreError::Changed { path } => write!(f, "{}: it changed since it was loaded, so it is not kept as a last good version", path.display()),
            StoreError::TooLarge { what, found, limit } => write!(f, "{what}: found {found} octets, expected at most {limit}"),
            StoreError::Closed => f.write_str("the state store is closed; nothing was kept"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A handle on the store. Cheap to clone; every method returns after the commit.
#[derive(Clone, Debug)]
pub struct Store(Backend);

#[derive(Clone, Debug)]
enum Backend {
    /// A file, behind its thread; large texts are in the folder.
    File(mpsc::Sender<Job>, Arc<Path>),
    /// Nothing, and why.
    None(Arc<str>),
}

impl Store {
    /// Opens `path` (folder and file are made as needed, the file for its owner alone), brings its schema up to date and reads what it holds.
    /// Blocks; meant for the start. Fails if another process has the file, if it is damaged, or if it is newer than this program.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        let connection = schema::open(path)?;
        let saved = rows::read_saved(&connection).map_err(|error| schema::explain(path, error))?;
        schema::keep_log(&connection, false).map_err(|error| schema::explain(path, error))?;
        let folder = texts::folder_of(path);
        if folder.exists() {
            let named = rows::text_files(&connection).map_err(|error| schema::explain(path, error))?;
            texts::clean(&folder, &named, true);
        }
        let jobs =
            thread::start(connection, folder.clone()).map_err(|error| StoreError::Open { path: path.to_owned(), detail: error.to_string() })?;
        Ok((Store(Backend::File(jobs, folder.into())), saved))
    }

    /// A store that keeps nothing and answers every write with [`StoreError::Absent`] and `why`. Reads find nothing.
    pub fn none(why: impl Into<String>) -> Store {
        Store(Backend::None(Arc::from(why.into())))
    }

    /// Why nothing is kept, if so.
    pub fn absent(&self) -> Option<&str> {
        match &self.0 {
            Backend::File(..) => None,
            Backend::None(why) => Some(why),
        }
    }

    /// Keeps an open overlay under its id; a second time replaces it. Its `inactive` is derived and not kept.
    pub async fn put_overlay(&self, overlay: &Overlay) -> Result<(), StoreError> {
        let overlay = Overlay { inactive: None, ..overlay.clone() };
        self.run(|reply| Job::PutOverlay(Box::new(overlay), reply)).await
    }

    /// Marks an open overlay as over: `how` is `reverted` or `expired`, `at` unix seconds. Its id stays taken.
    pub async fn end_overlay(&self, id: u64, how: &str, by: &str, at: u64) -> Result<(), StoreError> {
        let (how, by) = (how.to_owned(), by.to_owned());
        self.run(|reply| Job::EndOverlay { id, how, by, at, reply }).await
    }

    /// Keeps verdicts; those under the same key are replaced, others stay.
    pub async fn put_verdicts(&self, verdicts: Vec<Verdict>) -> Result<(), StoreError> {
        self.run(|reply| Job::PutVerdicts(verdicts, reply)).await
    }

    /// Keeps the serial of a zone.
    pub async fn put_serial(&self, zone: &str, serial: Serial) -> Result<(), StoreError> {
        let zone = zone.to_owned();
        self.run(|reply| Job::PutSerial(zone, serial, reply)).await
    }

    /// Keeps the texts of a zone as its last good version, in place of the one before.
    pub async fn put_zone_version(&self, zone: &str, sources: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), StoreError> {
        let found = sources.values().map(Vec::len).sum();
        if found > MAX_ZONE_VERSION_BYTES {
            return Err(StoreError::TooLarge { what: "texts of a zone", found, limit: MAX_ZONE_VERSION_BYTES });
        }
        let sources = sources.iter().map(|(path, octets)| (path.clone(), Text::Row(octets.clone()))).collect();
        let (zone, content) = (zone.to_owned(), String::new());
        self.run(|reply| Job::PutZoneVersion { zone, content, sources, reply }).await
    }

    /// Keeps the files of zones as their last good versions, in place of those before; the result of each. Files that changed meanwhile are not kept.
    pub async fn keep_zones(&self, zones: Vec<ZoneFiles>) -> Vec<Result<(), StoreError>> {
        let Backend::File(_, folder) = &self.0 else { return Vec::new() };
        let folder = folder.clone();
        let gather = move || -> Vec<_> { zones.into_iter().map(|zone| (texts::gather(&folder, &zone), zone)).collect() };
        let gathered = tokio::task::spawn_blocking(gather).await.unwrap_or_default();
        // All are queued before any is waited for, so that they share a transaction.
        let jobs = gathered.into_iter().map(|(sources, ZoneFiles { zone, content, .. })| {
            let store = self.clone();
            tokio::spawn(async move {
                let sources = sources?;
                store.run(|reply| Job::PutZoneVersion { zone, content, sources, reply }).await
            })
        });
        let mut results = Vec::new();
        for job in jobs.collect::<Vec<_>>() {
            results.push(job.await.unwrap_or(Err(StoreError::Closed)));
        }
        results
    }

    /// The texts of a zone's last good version.
    pub async fn zone_version(&self, zone: &str) -> Result<Option<BTreeMap<PathBuf, Vec<u8>>>, StoreError> {
        let Backend::File(_, folder) = &self.0 else { return Ok(None) };
        let (name, folder) = (zone.to_owned(), folder.clone());
        let Some(texts) = self.run(|reply| Job::ZoneVersion(name, reply)).await? else { return Ok(None) };
        let read = move || texts.into_iter().map(|(path, text)| Some((path, texts::read(&folder, text)?))).collect();
        let texts: Option<BTreeMap<PathBuf, Vec<u8>>> = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        texts.map(Some).ok_or_else(|| StoreError::Failed { detail: format!("the kept texts of {zone} are not what they were") })
    }

    /// Replaces the list of names whose failback is held.
    pub async fn put_holds(&self, holds: &[String]) -> Result<(), StoreError> {
        let holds = holds.to_vec();
        self.run(|reply| Job::PutHolds(holds, reply)).await
    }

    /// Appends to the event log; returns the event's sequence number. Old events go when the log passes its size or age.
    pub async fn append_event(&self, kind: &str, json: &str) -> Result<u64, StoreError> {
        let found = kind.len() + json.len();
        if found > MAX_EVENT_BYTES {
            return Err(StoreError::TooLarge { what: "event", found, limit: MAX_EVENT_BYTES });
        }
        let (kind, json) = (kind.to_owned(), json.to_owned());
        self.run(|reply| Job::AppendEvent { kind, json, reply }).await
    }

    /// Events with a sequence above `after`, oldest first, at most `limit` (and [`MAX_EVENTS_PER_READ`]).
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        if self.absent().is_some() {
            return Ok(Vec::new());
        }
        self.run(|reply| Job::Events { after, limit: limit.min(MAX_EVENTS_PER_READ), reply }).await
    }

    /// Finishes what is queued and closes the file; later calls fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if let Backend::File(jobs, _) = &self.0
            && jobs.send(Job::Close(reply)).await.is_ok()
        {
            let _ = done.await;
        }
    }

    async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        match &self.0 {
            Backend::None(why) => Err(StoreError::Absent { why: why.to_string() }),
            Backend::File(jobs, _) => {
                let (reply, answer) = oneshot::channel();
                jobs.send(job(reply)).await.map_err(|_| StoreError::Closed)?;
                answer.await.unwrap_or(Err(StoreError::Closed))
            }
        }
    }
}
