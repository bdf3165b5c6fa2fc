//! L4: the embedded state: what must outlive the process. One SQLite file on a thread of its own; nothing else in the program waits for a disk.
//!
//! ```text
//!   control ──▶ Store (cheap to clone) ──bounded queue──▶ store thread ──▶ meridian.db (+ -wal)
//!      ▲                                                       │ takes what is queued, one transaction, one sync
//!      └───────────────── reply, after the commit ─────────────┘
//! ```
//!
//! What several servers could share (overlays, tokens, the audit log) goes through [`SharedState`], whose shape is etcd's; what is this server's own
//! (verdicts, serials, held failbacks, texts of zones) is written as whole values under names. A store that cannot be opened is replaced by
//! [`Store::none`]: it keeps nothing and says so on every write, while DNS goes on. Nothing that cannot be read is ever deleted or overwritten.

mod copy;
mod damage;
mod held;
mod log;
mod records;
mod room;
mod rows;
mod schema;
pub mod shared;
mod texts;
mod thread;
mod times;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::control::api::Overlay;
use crate::control::audit::{Entry, Page, Query};
use crate::control::tokens::SavedToken;
use crate::health;
use crate::policy::plan::Choice;
pub use copy::Copied;
use held::Held;
pub use records::Ended;
pub use shared::SharedState;
use shared::{Expect, Nothing, Revision, Transaction};
use texts::Text;
pub use texts::{ZoneFile, ZoneFiles};
use thread::{Board, File, Job, Reply};
pub use times::{SavedClock, SavedTtls};

/// Jobs that wait at most; whoever brings more waits. Each is small, and one transaction takes up to all of them.
pub const QUEUE_LEN: usize = 1024;
/// Longest text of one entry of the audit log; a longer one loses its values. A zone's texts go into its version, not into the log.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// The audit log keeps at most this much text, half of it for what was done: about 100,000 changes, and a file that is checked within a second at start.
pub const MAX_EVENT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The audit log keeps at most this much time: a quarter, the longest that reviews usually look back.
pub const MAX_EVENT_LOG_AGE_SECS: u64 = 92 * 24 * 3600;
/// Overlays that ended and whose ids are still known to be taken; the oldest go first. What became of them is in the audit log.
pub const MAX_ENDED_OVERLAYS: usize = 10_000;
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
    /// Those that ended, as far as they are kept, by id.
    pub ended: BTreeMap<u64, Ended>,
    /// In key order.
    pub verdicts: Vec<Verdict>,
    /// By zone.
    pub serials: BTreeMap<String, Serial>,
    /// Names whose failback is held, in order.
    pub holds: Vec<String>,
    /// What safety rules keep though its checks fail, by apex.
    pub keeping: BTreeMap<String, SavedKeeping>,
    /// Since when more than half of what somebody tells fails at once, by who tells: unix seconds.
    pub freezes: BTreeMap<String, u64>,
    /// How long caches may hold what was answered.
    pub ttls: SavedTtls,
    /// What the clock read last; `None` in a new file.
    pub clock: Option<SavedClock>,
    /// What the kept version of each zone says, as a hash.
    pub versions: BTreeMap<String, String>,
    /// In id order, revoked and expired ones included.
    pub tokens: Vec<SavedToken>,
    /// By apex: unix seconds, oldest first.
    pub withdrawals: BTreeMap<String, Vec<u64>>,
    /// What everything that several servers could share is as of.
    pub revision: Revision,
    /// What the file held and has lost, in a sentence.
    pub lost: Option<String>,
    /// There is a file, or may be, but nothing of it could be read: what it holds is not known.
    pub is_unknown: bool,
}

impl Default for Saved {
    fn default() -> Saved {
        Saved {
            overlays: Vec::new(),
            next_overlay_id: 1,
            ended: BTreeMap::new(),
            verdicts: Vec::new(),
            serials: BTreeMap::new(),
            holds: Vec::new(),
            keeping: BTreeMap::new(),
            freezes: BTreeMap::new(),
            ttls: SavedTtls::default(),
            clock: None,
            versions: BTreeMap::new(),
            tokens: Vec::new(),
            withdrawals: BTreeMap::new(),
            revision: 0,
            lost: None,
            is_unknown: false,
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
    /// What its falls came to at the last of them; 0 where it has not fallen.
    pub penalty: u32,
    /// Unix seconds of that fall.
    pub penalised_unix: u64,
    /// Of what is reported: results in a row that have not led to another state.
    pub run: u8,
    /// Unix seconds until when it counts however old it is; 0 where age decides.
    pub holds_until_unix: u64,
}

/// What safety rules keep of a zone as a last resort, what its checks withdrew of late, and what it answers from because everything is down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedKeeping {
    /// Ids of endpoints, each with the rules in a sentence, in the order in which they failed.
    pub kept: Vec<(String, String)>,
    /// Unix seconds of withdrawals, oldest first.
    pub falls: Vec<u64>,
    /// What was answered last before everything failed, by policy and pools.
    #[serde(default)]
    pub answers: BTreeMap<String, Choice>,
}

/// The SOA serial a zone was last served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    /// As in the SOA.
    pub serial: u32,
    /// Hash of the content it stands for.
    pub content: String,
}

/// One step of a change.
#[derive(Clone, Debug)]
pub enum Write {
    /// Keeps an open overlay under its id; a second time replaces it. What is derived is not kept.
    PutOverlay(Box<Overlay>),
    /// Marks an open overlay as over: `how` is `reverted` or `expired`, `at` unix seconds. Its id stays taken.
    EndOverlay {
        /// Which.
        id: u64,
        /// How it ended.
        how: String,
        /// Who ended it.
        by: String,
        /// Unix seconds.
        at: u64,
    },
    /// Keeps a token under its id, in place of the one before.
    PutToken(Box<SavedToken>),
    /// Forgets a token.
    ForgetToken(String),
    /// Keeps when something was withdrawn from a zone, in place of what was kept.
    Withdrawals {
        /// Its apex.
        zone: String,
        /// Unix seconds, oldest first.
        at: Vec<u64>,
    },
}

impl Write {
    /// [`Write::PutOverlay`] of a copy.
    pub fn put_overlay(overlay: &Overlay) -> Write {
        Write::PutOverlay(Box::new(overlay.kept()))
    }
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
    /// Another file is where the open one was.
    Replaced {
        /// The path.
        path: PathBuf,
        /// Where what the open one holds was kept, if it could be.
        aside: Option<PathBuf>,
    },
    /// A read or write failed: disk full, input/output error.
    Failed {
        /// The database's words.
        detail: String,
    },
    /// The disk is full but for so many octets, which are kept for taking things back: nothing is added.
    Full {
        /// Octets.
        left: u64,
    },
    /// A read failed.
    Unreadable {
        /// The database's words.
        detail: String,
    },
    /// There is no store, and why.
    Absent {
        /// Why there is none.
        why: String,
    },
    /// A key is not what the change expects: somebody was first.
    Conflict {
        /// Which.
        key: String,
        /// What it had to be.
        expected: Expect,
        /// What wrote it; `None` when it is not there.
        found: Option<Revision>,
    },
    /// The commits that were asked for are no longer known.
    Compacted,
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
            StoreError::Replaced { path, aside } => {
                write!(
                    f,
                    "{}: another file has taken the place of the state file that is open; nothing is kept until that one is back",
                    path.display()
                )?;
                match aside {
                    Some(aside) => write!(f, "; restart to go on with the other one; what the open one held is in {}", aside.display()),
                    None => f.write_str(", or a restart goes on with the other one and loses what the open one held"),
                }
            }
            StoreError::Failed { detail } => write!(f, "the state store failed: {detail}; nothing was kept"),
            StoreError::Full { left } => {
                write!(f, "the disk of the state is full ({} KiB are left, which are kept for taking changes back); nothing was kept", left >> 10)
            }
            StoreError::Unreadable { detail } => write!(f, "the state file cannot be read: {detail}"),
            StoreError::Absent { why } => write!(f, "nothing can be kept: {why}"),
            StoreError::Conflict { key, expected, found } => {
                let name = records::overlay_of(key).map_or_else(|| key.clone(), |id| format!("overlay {id}"));
                let found = found.map_or_else(|| "nothing".into(), |revision| format!("revision {revision}"));
                write!(f, "{name} was changed or ended meanwhile: found {found} under {key}, expected {expected}; nothing was kept")
            }
            StoreError::Compacted => f.write_str("the commits asked for are no longer known: read everything, and watch from there"),
            StoreError::Changed { path } => write!(f, "{}: it changed since it was loaded, so it is not kept as a last good version", path.display()),
            StoreError::TooLarge { what, found, limit } => write!(f, "{what}: found {found} octets, expected at most {limit}"),
            StoreError::Closed => f.write_str("the state store is closed; nothing was kept"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A handle on the store. Cheap to clone; every method returns after the commit.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<dyn SharedState>,
    own: Own,
    /// Ids of overlays that ended, as far as they are kept, oldest first.
    ended: Arc<Mutex<VecDeque<u64>>>,
    /// What handles and thread tell each other.
    board: Arc<Board>,
}

/// Where this server's own is kept.
#[derive(Clone, Debug)]
enum Own {
    /// A file, behind its thread; large texts are in the folder.
    File(mpsc::Sender<Job>, Arc<Path>),
    /// Nowhere.
    None(Nowhere),
}

/// Nothing is kept.
#[derive(Clone, Debug)]
struct Nowhere {
    why: Arc<str>,
    /// The file, if somebody else has it at present.
    awaited: Option<Arc<Path>>,
    /// What could be read of it.
    copy: Option<Copied>,
}

impl Store {
    /// Opens `path` (folder and file are made as needed, the file for its owner alone), brings its schema up to date and reads what it holds.
    /// Blocks; meant for the start. Fails if another process has the file, if it is damaged, or if it is newer than this program.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        let explain = |error| schema::explain(path, error);
        let was_there = std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let log = path_of_log(path);
        let damage = damage::lost(&log);
        let connection = schema::open(path)?;
        let read = read(&connection, path)?;
        // Whatever begins with the file is in its log, before anything else.
        let is_bare = was_there && read.revision == 0 && log::is_new(&connection).map_err(explain)?;
        let lost = match damage {
            Some(count) => {
                let aside = damage::set_aside(&log).map_or_else(String::new, |aside| format!("; the log as it was found is {}", aside.display()));
                Some(format!("{}: it is damaged: {count} changes or more that were kept in it are gone{aside}", log.display()))
            }
            None if is_bare => Some(format!(
                "{}: the state file was there, but empty: overlays, drains, tokens and whatever else was kept is gone, and it begins anew",
                path.display()
            )),
            None => None,
        };
        let saved = Saved { lost, ..read };
        let ended: VecDeque<u64> = saved.ended.keys().copied().collect();
        schema::keep_log(&connection, false).map_err(explain)?;
        let folder = texts::folder_of(path);
        if folder.exists() {
            let named = rows::text_files(&connection).map_err(explain)?;
            texts::clean(&folder, &named, true);
        }
        let board = Arc::<Board>::default();
        let jobs = thread::start(Held::new(connection, path), folder.clone(), saved.revision, board.clone())
            .map_err(|error| StoreError::Open { path: path.to_owned(), detail: error.to_string() })?;
        let shared = Arc::new(File(jobs.clone()));
        Ok((Store { shared, own: Own::File(jobs, folder.into()), ended: Arc::new(Mutex::new(ended)), board }, saved))
    }

    /// What a file holds that can only be read, or that somebody else has: from a copy of it and its log, which stays for those who read the audit
    /// log ([`Store::reading`]). Blocks; meant for the start.
    pub fn read_copy(path: &Path) -> Result<(Copied, Saved), StoreError> {
        let copy = Copied::take(path)?;
        let saved = copy.saved(path)?;
        Ok((copy, saved))
    }

    /// A store that keeps nothing and answers every write with [`StoreError::Absent`] and `why`. Reads find nothing.
    pub fn none(why: impl Into<String>) -> Store {
        let why: Arc<str> = Arc::from(why.into());
        Store {
            shared: Arc::new(Nothing(why.clone())),
            own: Own::None(Nowhere { why, awaited: None, copy: None }),
            ended: Arc::default(),
            board: Arc::default(),
        }
    }

    /// The same for a file that somebody else has at present: it may be opened later.
    pub fn locked(path: &Path, why: impl Into<String>) -> Store {
        let mut none = Store::none(why);
        if let Own::None(nowhere) = &mut none.own {
            nowhere.awaited = Some(path.into());
        }
        none
    }

    /// The same with what could be read: the audit log, and the texts of zones.
    pub fn reading(mut self, copy: Copied) -> Store {
        if let Own::None(nowhere) = &mut self.own {
            nowhere.copy = Some(copy);
        }
        self
    }

    /// The file, if there is one that somebody else has.
    pub fn awaited(&self) -> Option<&Path> {
        match &self.own {
            Own::None(nowhere) => nowhere.awaited.as_deref(),
            Own::File(..) => None,
        }
    }

    /// What several servers could share.
    pub fn shared(&self) -> &dyn SharedState {
        &*self.shared
    }

    /// Why nothing is kept, if so.
    pub fn absent(&self) -> Option<&str> {
        match &self.own {
            Own::File(..) => None,
            Own::None(nowhere) => Some(&nowhere.why),
        }
    }

    /// Makes all of `writes` and appends all of `entries` to the audit log, in one transaction: all of it or nothing. Returns the sequence of the
    /// last entry, 0 without one. It is queued before this returns, so that what is asked for later comes later; the future ends after the commit.
    pub fn change(&self, writes: Vec<Write>, entries: Vec<Entry>) -> impl Future<Output = Result<u64, StoreError>> + Send + 'static {
        let committed = self.transaction(writes, entries).map(|transaction| self.shared.compare_and_set(transaction));
        async move { Ok(committed?.await?.sequence) }
    }

    fn transaction(&self, writes: Vec<Write>, entries: Vec<Entry>) -> Result<Transaction, StoreError> {
        let mut transaction = Transaction { entries, ..Transaction::default() };
        for write in writes {
            if let Write::EndOverlay { id, .. } = &write {
                let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.push_back(*id);
                while ended.len() > MAX_ENDED_OVERLAYS {
                    transaction.sets.extend(ended.pop_front().map(records::forget_ended));
                }
            }
            records::add(write, &mut transaction).map_err(|error| StoreError::Failed { detail: error.to_string() })?;
        }
        Ok(transaction)
    }

    /// One overlay, without an entry; see [`Write::PutOverlay`].
    pub async fn put_overlay(&self, overlay: &Overlay) -> Result<(), StoreError> {
        self.change(vec![Write::put_overlay(overlay)], Vec::new()).await.map(drop)
    }

    /// One overlay's end, without an entry; see [`Write::EndOverlay`].
    pub async fn end_overlay(&self, id: u64, how: &str, by: &str, at: u64) -> Result<(), StoreError> {
        self.change(vec![Write::EndOverlay { id, how: how.to_owned(), by: by.to_owned(), at }], Vec::new()).await.map(drop)
    }

    /// Keeps verdicts; those under the same key are replaced, others stay.
    pub async fn put_verdicts(&self, verdicts: Vec<Verdict>) -> Result<(), StoreError> {
        self.run(|reply| Job::PutVerdicts(verdicts, reply)).await
    }

    /// Keeps serials by zone; those of other zones stay.
    pub async fn put_serials(&self, serials: BTreeMap<String, Serial>) -> Result<(), StoreError> {
        self.run(|reply| Job::PutSerials(serials, reply)).await
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
        let Own::File(_, folder) = &self.own else { return Vec::new() };
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
        let name = zone.to_owned();
        let (texts, folder) = match &self.own {
            Own::File(_, folder) => (self.run(|reply| Job::ZoneVersion(name, reply)).await?, folder.clone()),
            Own::None(Nowhere { copy: Some(copy), .. }) => (copy.ask(move |connection| rows::zone_version(connection, &name)).await?, copy.texts()),
            Own::None(_) => return Ok(None),
        };
        let Some(texts) = texts else { return Ok(None) };
        let read = move || texts.into_iter().map(|(path, text)| Some((path, texts::read(&folder, text)?))).collect();
        let texts: Option<BTreeMap<PathBuf, Vec<u8>>> = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        texts.map(Some).ok_or_else(|| StoreError::Failed { detail: format!("the kept texts of {zone} are not what they were") })
    }

    /// Replaces the list of names whose failback is held.
    pub async fn put_holds(&self, holds: &[String]) -> Result<(), StoreError> {
        let holds = holds.to_vec();
        self.run(|reply| Job::PutHolds(holds, reply)).await
    }

    /// Replaces what safety rules keep, by apex.
    pub async fn put_keeping(&self, keeping: &BTreeMap<String, SavedKeeping>) -> Result<(), StoreError> {
        let keeping = keeping.clone();
        self.run(|reply| Job::PutKeeping(keeping, reply)).await
    }

    /// Replaces since when more than half of what somebody tells fails, by who tells.
    pub async fn put_freezes(&self, freezes: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let freezes = freezes.clone();
        self.run(|reply| Job::PutFreezes(freezes, reply)).await
    }

    /// Replaces how long caches may hold what was answered.
    pub async fn put_ttls(&self, ttls: SavedTtls) -> Result<(), StoreError> {
        self.run(|reply| Job::PutTtls(ttls, reply)).await
    }

    /// Keeps what the clock reads.
    pub async fn put_clock(&self, clock: SavedClock) -> Result<(), StoreError> {
        self.run(|reply| Job::PutClock(clock, reply)).await
    }

    /// Whether entries and verdicts that are old may be deleted: not by a clock that may be wrong. They may until something is said.
    pub fn let_ages_count(&self, may: bool) {
        self.board.keep_old.store(!may, Relaxed);
    }

    /// Transactions that have ended, and how many writes and reads wait or are under way.
    pub fn progress(&self) -> (u64, usize) {
        match &self.own {
            Own::File(jobs, ..) => (self.board.done.load(Relaxed), self.board.in_hand.load(Relaxed) + jobs.max_capacity() - jobs.capacity()),
            Own::None(_) => (0, 0),
        }
    }

    /// Looks whether the file is still where it was opened; says what was done if it was not. Fails as long as nothing can be kept.
    pub async fn look(&self) -> Result<Option<String>, StoreError> {
        self.run(Job::Look).await
    }

    /// One page of the audit log; without a store, of what could be read at the start.
    pub async fn audit(&self, query: Query) -> Result<Page, StoreError> {
        match &self.own {
            Own::None(Nowhere { copy: Some(copy), .. }) => copy.ask(move |connection| log::read(connection, &query)).await,
            _ => self.run(|reply| Job::Audit(Box::new(query), reply)).await,
        }
    }

    /// Finishes what is queued and closes the file; later calls fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if let Own::File(jobs, ..) = &self.own
            && jobs.send(Job::Close(reply)).await.is_ok()
        {
            let _ = done.await;
        }
    }

    async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        match &self.own {
            Own::None(nowhere) => Err(StoreError::Absent { why: nowhere.why.to_string() }),
            Own::File(jobs, ..) => {
                let (reply, answer) = oneshot::channel();
                jobs.send(job(reply)).await.map_err(|_| StoreError::Closed)?;
                answer.await.unwrap_or(Err(StoreError::Closed))
            }
        }
    }
}

/// SQLite's log beside a file.
fn path_of_log(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// All that a file holds.
fn read(connection: &rusqlite::Connection, path: &Path) -> Result<Saved, StoreError> {
    let explain = |error| schema::explain(path, error);
    let mut saved = rows::read_own(connection).map_err(explain)?;
    let shared = rows::get_all(connection, "").map_err(explain)?;
    saved.revision = shared.revision;
    records::take(shared.items, &mut saved)
        .map_err(|error| StoreError::Corrupt { path: path.to_owned(), detail: format!("an overlay in it cannot be read: {error}") })?;
    Ok(saved)
}
