//! The thread that owns the connection. It takes what is queued, runs what writes in one transaction (a savepoint each, so that one failure harms no
//! other), commits with one sync, and only then replies. What only reads comes after that, and needs no room on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::held::Held;
use super::log::{self, LogSize};
use super::room::Room;
use super::shared::{Answer, Commit, Commits, Committed, LOG, MAX_KEY_LEN, MAX_VALUE_LEN, Revision, SharedState, Snapshot, Transaction, Watch};
use super::texts::{self, Text};
use super::{MAX_EVENT_LOG_BYTES, QUEUE_LEN, SavedClock, SavedKeeping, SavedTtls, Serial, StoreError, Verdict, room, rows};
use crate::control::audit::{Page, Query};

/// Keys and their new values.
type Changes = Vec<(String, Option<String>)>;

/// Where the result of a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Job {
    Change(Transaction, Reply<Committed>),
    GetAll(String, Reply<Snapshot>),
    Watch { prefix: String, after: Revision, reply: Reply<Watch> },
    PutVerdicts(Vec<Verdict>, Reply<()>),
    PutSerials(BTreeMap<String, Serial>, Reply<()>),
    PutZoneVersion { zone: String, content: String, sources: BTreeMap<PathBuf, Text>, reply: Reply<()> },
    ZoneVersion(String, Reply<Option<BTreeMap<PathBuf, Text>>>),
    PutHolds(Vec<String>, Reply<()>),
    PutKeeping(BTreeMap<String, SavedKeeping>, Reply<()>),
    PutFreezes(BTreeMap<String, u64>, Reply<()>),
    PutTtls(SavedTtls, Reply<()>),
    PutClock(SavedClock, Reply<()>),
    Audit(Box<Query>, Reply<Page>),
    Look(Reply<Option<String>>),
    Close(oneshot::Sender<()>),
}

impl Job {
    fn only_reads(&self) -> bool {
        matches!(self, Job::GetAll(..) | Job::Watch { .. } | Job::ZoneVersion(..) | Job::Audit(..))
    }
}

/// The shared state of one server: the file.
#[derive(Debug)]
pub(super) struct File(pub(super) mpsc::Sender<Job>);

impl File {
    /// Queues a job before it returns.
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let (jobs, sent) = (self.0.clone(), self.0.try_send(job(reply)));
        Box::pin(async move {
            match sent {
                Ok(()) => {}
                // So much is waiting that the order no longer matters to anyone.
                Err(mpsc::error::TrySendError::Full(job)) => jobs.send(job).await.map_err(|_| StoreError::Closed)?,
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(StoreError::Closed),
            }
            drop(jobs);
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }
}

impl SharedState for File {
    fn get_all(&self, prefix: &str) -> Answer<Snapshot> {
        self.ask(|reply| Job::GetAll(prefix.to_owned(), reply))
    }

    fn compare_and_set(&self, transaction: Transaction) -> Answer<Committed> {
        let too_large = transaction.sets.iter().find_map(|(key, value)| {
            let value = value.as_ref().map_or(0, String::len);
            let is_large = [("a key of the state", key.len(), MAX_KEY_LEN), ("a value of the state", value, MAX_VALUE_LEN)];
            is_large.into_iter().find(|(_, found, limit)| found > limit)
        });
        match too_large {
            Some((what, found, limit)) => Box::pin(std::future::ready(Err(StoreError::TooLarge { what, found, limit }))),
            None => self.ask(|reply| Job::Change(transaction, reply)),
        }
    }

    fn watch(&self, prefix: &str, after: Revision) -> Answer<Watch> {
        self.ask(|reply| Job::Watch { prefix: prefix.to_owned(), after, reply })
    }
}

/// A reply that waits for the commit; it is told why the commit did not come about.
type Pending = Box<dyn FnOnce(Option<&StoreError>)>;

/// How far the file is: what a step that fails takes back.
#[derive(Clone, Copy, Debug)]
struct Heads {
    log: LogSize,
    revision: Revision,
    /// The disk is full but for so many octets.
    full: Option<u64>,
    /// The same, or nearly full.
    short: Option<u64>,
}

/// What the thread knows between transactions.
#[derive(Debug)]
struct Desk {
    heads: Heads,
    commits: Commits,
    /// Pages of the file are held, as far as is known.
    holds: bool,
}

impl Desk {
    /// A file whose last commit was `revision`.
    fn at(revision: Revision, log_bytes: u64) -> Desk {
        Desk { heads: Heads { log: LogSize::new(log_bytes), revision, full: None, short: None }, commits: Commits::after(revision), holds: false }
    }
}

/// What the jobs of one transaction left to be done after it.
#[derive(Default)]
struct After {
    replies: Vec<Pending>,
    commits: Vec<Commit>,
}

/// What handles and the thread tell each other without a queue.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Nothing may be deleted for its age: handles say, the thread reads.
    pub(super) keep_old: AtomicBool,
    /// Jobs that are under way, and batches that have ended: the thread says.
    pub(super) in_hand: AtomicUsize,
    pub(super) done: AtomicU64,
}

/// Starts the thread; it ends when every handle is gone, or with [`Job::Close`]. Large texts are in `folder`; the last commit was `revision`.
pub(super) fn start(held: Held, folder: PathBuf, revision: Revision, board: Arc<Board>) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, queue) = mpsc::channel(QUEUE_LEN);
    std::thread::Builder::new().name("store".into()).spawn(move || work(held, &folder, queue, revision, &board))?;
    Ok(sender)
}

fn work(mut held: Held, folder: &Path, mut queue: mpsc::Receiver<Job>, revision: Revision, board: &Board) {
    let mut desk = Desk::at(revision, MAX_EVENT_LOG_BYTES);
    let mut batch = Vec::new();
    loop {
        if queue.blocking_recv_many(&mut batch, QUEUE_LEN) == 0 {
            return;
        }
        let close = batch.iter().position(|job| matches!(job, Job::Close(_)));
        let last = close.map(|at| batch.split_off(at));
        board.in_hand.store(batch.len(), Relaxed);
        desk.heads.log.ages_count = !board.keep_old.load(Relaxed);
        if !batch.is_empty() {
            run_batch(&mut held, folder, &mut desk, std::mem::take(&mut batch));
        }
        board.in_hand.store(0, Relaxed);
        board.done.fetch_add(1, Relaxed);
        if let Some(mut rest) = last {
            queue.close();
            // Closing writes the log back into the file. If that fails, the next start does it.
            held.close();
            if let Job::Close(done) = rest.swap_remove(0) {
                let _ = done.send(());
            }
            return;
        }
    }
}

/// Writes in one transaction, then whatever only reads: what cannot be written takes no read along.
fn run_batch(held: &mut Held, folder: &Path, desk: &mut Desk, mut batch: Vec<Job>) {
    let looked = held.look();
    for job in batch.extract_if(.., |job| matches!(job, Job::Look(_))) {
        if let Job::Look(reply) = job {
            let _ = reply.send(looked.clone().map(|()| held.take_mended()));
        }
    }
    let reads: Vec<Job> = batch.extract_if(.., |job| job.only_reads()).collect();
    if !batch.is_empty() {
        write(held, looked, folder, desk, batch);
    }
    reads.into_iter().for_each(|job| read(held, desk, job));
}

/// Sees to room, and writes: in one transaction, as long as there is enough.
fn write(held: &mut Held, looked: Result<(), StoreError>, folder: &Path, desk: &mut Desk, batch: Vec<Job>) {
    let room = if looked.is_ok() { held.make_room(desk.holds) } else { Room::Enough };
    (desk.heads.full, desk.heads.short) = (room.full(), room.short());
    // What takes little room does not fail with what takes more.
    let (batch, others) = batch.into_iter().partition(|job| room.full().is_none() || matches!(job, Job::Change(..)));
    commit_batch(held, looked.clone(), folder, desk, batch);
    commit_batch(held, looked, folder, desk, others);
    if room == Room::Plenty && !desk.holds {
        desk.holds = held.hold_pages();
    }
}

/// One transaction for all; replies after its end, and only while the file is where the next start finds it.
fn commit_batch(held: &mut Held, looked: Result<(), StoreError>, folder: &Path, desk: &mut Desk, batch: Vec<Job>) {
    if batch.is_empty() {
        return;
    }
    let begun = looked.and_then(|()| rows::run(held.connection()?, "BEGIN IMMEDIATE").map_err(failed));
    if let Err(error) = begun {
        batch.into_iter().for_each(|job| refuse(job, &error));
        return;
    }
    let (after, error) = in_transaction(held, folder, desk, batch);
    let error = error.or_else(|| held.look().err());
    if error.is_none() {
        after.commits.into_iter().for_each(|commit| desk.commits.tell(commit));
    }
    for reply in after.replies {
        reply(error.as_ref());
    }
}

/// What is committed, as far as the file can be read.
fn read(held: &Held, desk: &Desk, job: Job) {
    let connection = match held.connection() {
        Ok(connection) => connection,
        Err(error) => return refuse(job, &error),
    };
    match job {
        Job::GetAll(prefix, reply) => {
            let found = rows::get_all(connection, &prefix).map(|snapshot| Snapshot { revision: desk.heads.revision, ..snapshot });
            let _ = reply.send(found.map_err(unreadable));
        }
        Job::Watch { prefix, after, reply } => drop(reply.send(desk.commits.watch(prefix, after))),
        Job::ZoneVersion(zone, reply) => drop(reply.send(rows::zone_version(connection, &zone).map_err(unreadable))),
        Job::Audit(query, reply) => drop(reply.send(log::read(connection, &query).map_err(unreadable))),
        // Written before.
        _ => {}
    }
}

/// The jobs of a transaction that has begun, and its end. Returns what is left to be done, and why it was taken back if it was.
fn in_transaction(held: &Held, folder: &Path, desk: &mut Desk, batch: Vec<Job>) -> (After, Option<StoreError>) {
    let connection = match held.connection() {
        Ok(connection) => connection,
        Err(error) => {
            batch.into_iter().for_each(|job| refuse(job, &error));
            return (After::default(), Some(error));
        }
    };
    let before = desk.heads;
    let has_texts = batch.iter().any(|job| matches!(job, Job::PutZoneVersion { .. })) && folder.exists();
    let mut after = After::default();
    let gives_up = desk.heads.full.is_some() && step(connection, || room::give_up_pages(connection)).is_ok();
    for job in batch {
        run_job(connection, folder, &mut desk.heads, job, &mut after);
    }
    let revision = (desk.heads.revision != before.revision).then_some(desk.heads.revision);
    let error = held.hold_file().map_err(|_| StoreError::Full { left: 0 }).and_then(|()| commit(connection, revision)).err();
    if error.is_some() {
        desk.heads = before;
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Should the disk be full, this may be what it is full of.
        held.make_room(desk.holds);
    } else {
        desk.holds &= !gives_up;
    }
    if has_texts && let Ok(named) = rows::text_files(connection) {
        texts::clean(folder, &named, false);
    }
    (after, error)
}

fn commit(connection: &Connection, revision: Option<Revision>) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Err(taken_back());
    }
    if let Some(revision) = revision {
        rows::put_revision(connection, revision).map_err(failed)?;
    }
    rows::run(connection, "COMMIT").map_err(failed)
}

/// A full disk makes SQLite take back the whole transaction, not only the step that met it.
fn taken_back() -> StoreError {
    StoreError::Failed { detail: "a write beside this one failed and took it along".into() }
}

fn run_job(connection: &Connection, folder: &Path, heads: &mut Heads, job: Job, after: &mut After) {
    let pending = &mut after.replies;
    match job {
        Job::Change(transaction, reply) => {
            // What failed is known only inside the step, which must fail as a whole.
            let (mut conflict, before) = (None, *heads);
            let result = step(connection, || change(connection, heads, transaction, &mut conflict));
            let result = conflict.map_or(result, Err);
            let result = result.map(|(committed, changes)| {
                if !changes.is_empty() {
                    after.commits.push(Commit { revision: committed.revision, changes });
                }
                committed
            });
            if result.is_err() {
                *heads = before;
            }
            hold(pending, reply, result);
        }
        Job::PutVerdicts(verdicts, reply) => {
            let oldest = heads.log.ages_count.then(|| rows::oldest_verdict(&verdicts));
            hold(pending, reply, step(connection, || rows::put_verdicts(connection, &verdicts, oldest)));
        }
        Job::PutSerials(serials, reply) => hold(pending, reply, step(connection, || rows::put_serials(connection, &serials))),
        Job::PutZoneVersion { zone, content, sources, reply } => {
            let settled = texts::settle(folder, &sources).map_err(|error| StoreError::Failed { detail: error.to_string() });
            let settled = settled.and_then(|()| heads.full.map_or(Ok(()), |left| Err(StoreError::Full { left })));
            let put = || step(connection, || rows::put_zone_version(connection, &zone, &content, &sources));
            hold(pending, reply, settled.and_then(|()| put()));
        }
        Job::PutHolds(holds, reply) => hold(pending, reply, step(connection, || rows::put_holds(connection, &holds))),
        Job::PutKeeping(keeping, reply) => hold(pending, reply, step(connection, || rows::put_keeping(connection, &keeping))),
        Job::PutFreezes(freezes, reply) => hold(pending, reply, step(connection, || rows::put_freezes(connection, &freezes))),
        Job::PutTtls(ttls, reply) => hold(pending, reply, step(connection, || rows::put_ttls(connection, ttls))),
        Job::PutClock(clock, reply) => hold(pending, reply, step(connection, || rows::put_clock(connection, clock))),
        // Split off before.
        Job::GetAll(..) | Job::Watch { .. } | Job::ZoneVersion(..) | Job::Audit(..) | Job::Look(_) | Job::Close(_) => {}
    }
}

/// A transaction as a whole, or nothing of it. Returns what it came to and what it changed.
fn change(
    connection: &Connection,
    heads: &mut Heads,
    transaction: Transaction,
    conflict: &mut Option<StoreError>,
) -> rusqlite::Result<(Committed, Changes)> {
    let Transaction { guards, sets, entries } = transaction;
    for (key, expected) in guards {
        let found = rows::revision_of(connection, &key)?;
        if !expected.holds(found) {
            *conflict = Some(StoreError::Conflict { key, expected, found });
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
    }
    if sets.is_empty() && entries.is_empty() {
        return Ok((Committed { revision: heads.revision, sequence: 0 }, Vec::new()));
    }
    let adds = heads.short.is_some() && adds(connection, &sets)?;
    if let (Some(left), true) = (heads.full, adds) {
        *conflict = Some(StoreError::Full { left });
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    heads.revision += 1;
    for (key, value) in &sets {
        rows::set(connection, key, value.as_deref(), heads.revision)?;
    }
    let (mut changes, mut sequence) = (sets, 0);
    for entry in &entries {
        let json = log::fitting(entry);
        if let (Some(left), false) = (heads.short, adds)
            && let Some(spared) = room::spared(connection, left)
        {
            let given = heads.log.give_way(connection, &json, spared)?;
            tracing::warn!(target: "meridian::store", left, given, "the disk is full: the oldest entries of the audit log give way to one that takes something back");
        }
        sequence = heads.log.append(connection, entry, &json)?;
        changes.push((format!("{LOG}{sequence:020}"), Some(json)));
    }
    Ok((Committed { revision: heads.revision, sequence }, changes))
}

/// It takes nothing back and makes something that was not there before, if only an entry of the log.
fn adds(connection: &Connection, sets: &Changes) -> rusqlite::Result<bool> {
    if sets.iter().any(|(_, value)| value.is_none()) {
        return Ok(false);
    }
    for (key, _) in sets {
        if rows::revision_of(connection, key)?.is_none() {
            return Ok(true);
        }
    }
    Ok(sets.is_empty())
}

/// The transaction could not begin: nothing runs.
fn refuse(job: Job, error: &StoreError) {
    fn send<T>(reply: Reply<T>, error: &StoreError) {
        let _ = reply.send(Err(error.clone()));
    }
    match job {
        Job::PutVerdicts(_, reply) | Job::PutSerials(_, reply) | Job::PutZoneVersion { reply, .. } | Job::PutHolds(_, reply) => send(reply, error),
        Job::PutKeeping(_, reply) | Job::PutFreezes(_, reply) | Job::PutTtls(_, reply) | Job::PutClock(_, reply) => {
            send(reply, error);
        }
        Job::ZoneVersion(_, reply) => send(reply, error),
        Job::Change(_, reply) => send(reply, error),
        Job::GetAll(_, reply) => send(reply, error),
        Job::Watch { reply, .. } => send(reply, error),
        Job::Audit(_, reply) => send(reply, error),
        Job::Look(reply) => send(reply, error),
        Job::Close(_) => {}
    }
}

/// Keeps a result until the commit has decided: a failed commit overrides it.
fn hold<T: 'static>(pending: &mut Vec<Pending>, reply: Reply<T>, result: Result<T, StoreError>) {
    pending.push(Box::new(move |error| {
        let _ = reply.send(result.and_then(|value| error.map_or(Ok(value), |error| Err(error.clone()))));
    }));
}

/// Runs one job in a savepoint, which is taken back if it fails.
fn step<T>(connection: &Connection, run: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, StoreError> {
    // Outside the transaction a savepoint would commit by itself.
    if connection.is_autocommit() {
        return Err(taken_back());
    }
    rows::run(connection, "SAVEPOINT job").map_err(failed)?;
    let result = run();
    let taken_back = if result.is_ok() { Ok(()) } else { rows::run(connection, "ROLLBACK TO job") };
    let ended = taken_back.and_then(|()| rows::run(connection, "RELEASE job"));
    let value = result.map_err(failed)?;
    ended.map_err(failed)?;
    Ok(value)
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Failed { detail: error.to_string() }
}

pub(super) fn unreadable(error: rusqlite::Error) -> StoreError {
    StoreError::Unreadable { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Who;
    use crate::control::audit::Entry;
    use crate::store::schema;
    use crate::store::shared::Expect;

    fn held(folder: &Path) -> Held {
        let path = folder.join("state.db");
        Held::new(schema::open(&path).expect("open"), &path)
    }

    fn a_transaction(key: &str) -> Transaction {
        Transaction { sets: vec![(key.into(), Some("1".into()))], ..Transaction::default() }
    }

    #[test]
    fn a_failing_job_harms_no_other_in_its_batch() {
        let folder = tempfile::tempdir().expect("folder");
        let mut held = held(folder.path());
        let (first, mut first_reply) = oneshot::channel();
        let (second, mut second_reply) = oneshot::channel();
        let serial = Serial { serial: 7, content: "c".into() };
        let batch = vec![
            Job::Change(Transaction { guards: vec![("a".into(), Expect::Present)], ..a_transaction("a") }, first),
            Job::PutSerials(BTreeMap::from([("example.com.".into(), serial.clone())]), second),
        ];
        run_batch(&mut held, folder.path(), &mut Desk::at(0, 1 << 20), batch);
        let conflict = StoreError::Conflict { key: "a".into(), expected: Expect::Present, found: None };
        assert_eq!(first_reply.try_recv(), Ok(Err(conflict)));
        assert_eq!(second_reply.try_recv(), Ok(Ok(())));
        assert_eq!(rows::read_own(held.connection().expect("open")).expect("read").serials["example.com."], serial);
    }

    #[test]
    fn a_full_disk_takes_back_and_replaces_but_adds_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let held = held(folder.path());
        let mut heads = Desk::at(0, 1 << 20).heads;
        let mut commit = |full, sets: &[(&str, Option<&str>)], with_entry: bool| {
            (heads.full, heads.short) = (full, full);
            let sets = sets.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
            let entries = with_entry.then(|| Entry::done(&Who::itself(), "reload", "", 1)).into_iter().collect();
            let mut conflict = None;
            let done = change(held.connection().expect("open"), &mut heads, Transaction { sets, entries, ..Transaction::default() }, &mut conflict);
            done.map(|_| ()).map_err(|_| conflict)
        };
        let full = Some(Some(StoreError::Full { left: 5 }));
        assert_eq!(commit(None, &[("a", Some("1")), ("b", Some("1"))], true).err(), None);
        for (sets, with_entry, refused) in [
            (&[("c", Some("1"))][..], false, true),
            (&[("a", Some("2")), ("c", Some("1"))], true, true),
            (&[], true, true),
            (&[], false, false),
            (&[("a", Some("2"))], true, false),
            (&[("a", None), ("ended/a", Some("1"))], true, false),
            (&[("b", None)], false, false),
        ] {
            assert_eq!(commit(Some(5), sets, with_entry).err(), full.clone().filter(|_| refused), "{sets:?} {with_entry}");
        }
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_committed() {
        let folder = tempfile::tempdir().expect("folder");
        let mut held = held(folder.path());
        // A full disk, as the database sees it: no page may be added.
        let connection = held.connection().expect("open");
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
        connection.pragma_update(None, "max_page_count", pages).expect("limit");
        let (reply, mut answer) = oneshot::channel();
        let sources = BTreeMap::from([(PathBuf::from("a"), Text::Row(vec![b'x'; 100_000]))]);
        let job = Job::PutZoneVersion { zone: "z.".into(), content: "c".into(), sources, reply };
        run_batch(&mut held, folder.path(), &mut Desk::at(0, 1 << 20), vec![job]);
        let error = answer.try_recv().expect("answered").expect_err("full").to_string();
        assert!(error.contains("full"), "{error}");
        let connection = held.connection().expect("open");
        assert_eq!(rows::zone_version(connection, "z.").expect("read"), None);
        connection.pragma_update(None, "max_page_count", 1_000_000).expect("limit");
        let (reply, mut answer) = oneshot::channel();
        run_batch(&mut held, folder.path(), &mut Desk::at(0, 1 << 20), vec![Job::PutHolds(vec!["a".into()], reply)]);
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }
}
