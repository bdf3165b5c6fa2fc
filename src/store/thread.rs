//! The thread that owns the connection. It takes what is queued, runs it in one transaction (a savepoint each, so that one failure harms no
//! other), commits with one sync, and only then replies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::log::{self, LogSize};
use super::texts::{self, Text};
use super::{MAX_EVENT_LOG_BYTES, QUEUE_LEN, Serial, StoreError, Verdict, Write, rows};
use crate::control::audit::{Entry, Page, Query};

/// Where the result of a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Job {
    Change { writes: Vec<Write>, entries: Vec<Entry>, reply: Reply<u64> },
    PutVerdicts(Vec<Verdict>, Reply<()>),
    PutSerial(String, Serial, Reply<()>),
    PutZoneVersion { zone: String, content: String, sources: BTreeMap<PathBuf, Text>, reply: Reply<()> },
    ZoneVersion(String, Reply<Option<BTreeMap<PathBuf, Text>>>),
    PutHolds(Vec<String>, Reply<()>),
    Audit(Box<Query>, Reply<Page>),
    Close(oneshot::Sender<()>),
}

/// A reply that waits for the commit; it is told why the commit did not come about.
type Pending = Box<dyn FnOnce(Option<&StoreError>)>;

/// Starts the thread; it ends when every handle is gone, or with [`Job::Close`]. Large texts are in `folder`.
pub(super) fn start(connection: Connection, folder: PathBuf) -> std::io::Result<(mpsc::Sender<Job>, watch::Receiver<u64>)> {
    let (sender, queue) = mpsc::channel(QUEUE_LEN);
    let (told, kept) = watch::channel(0);
    std::thread::Builder::new().name("store".into()).spawn(move || work(connection, &folder, queue, &told))?;
    Ok((sender, kept))
}

fn work(connection: Connection, folder: &Path, mut queue: mpsc::Receiver<Job>, told: &watch::Sender<u64>) {
    let mut log = LogSize::new(MAX_EVENT_LOG_BYTES);
    let mut batch = Vec::new();
    loop {
        if queue.blocking_recv_many(&mut batch, QUEUE_LEN) == 0 {
            return;
        }
        let close = batch.iter().position(|job| matches!(job, Job::Close(_)));
        let last = close.map(|at| batch.split_off(at));
        if !batch.is_empty() {
            run_batch(&connection, folder, &mut log, std::mem::take(&mut batch));
            told.send_if_modified(|last| std::mem::replace(last, log.last()) != log.last());
        }
        if let Some(mut rest) = last {
            queue.close();
            // Closing writes the log back into the file. If that fails, the next start does it.
            drop(connection);
            if let Job::Close(done) = rest.swap_remove(0) {
                let _ = done.send(());
            }
            return;
        }
    }
}

/// One transaction for all; replies after its end.
fn run_batch(connection: &Connection, folder: &Path, log: &mut LogSize, batch: Vec<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = failed(error);
        batch.into_iter().for_each(|job| refuse(job, &error));
        return;
    }
    let before = *log;
    let has_texts = batch.iter().any(|job| matches!(job, Job::PutZoneVersion { .. })) && folder.exists();
    let mut pending: Vec<Pending> = Vec::with_capacity(batch.len());
    for job in batch {
        run_job(connection, folder, log, job, &mut pending);
    }
    let error = if connection.is_autocommit() { Some(taken_back()) } else { connection.execute_batch("COMMIT").map_err(failed).err() };
    if error.is_some() {
        *log = before;
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    if has_texts && let Ok(named) = rows::text_files(connection) {
        texts::clean(folder, &named, false);
    }
    for reply in pending {
        reply(error.as_ref());
    }
}

/// A full disk makes SQLite take back the whole transaction, not only the step that met it.
fn taken_back() -> StoreError {
    StoreError::Failed { detail: "a write beside this one failed and took it along".into() }
}

fn run_job(connection: &Connection, folder: &Path, log: &mut LogSize, job: Job, pending: &mut Vec<Pending>) {
    match job {
        Job::Change { writes, entries, reply } => {
            // What is gone is known only inside the step, which must fail as a whole.
            let mut gone = None;
            let before = *log;
            let result = step(connection, || change(connection, log, &writes, &entries, &mut gone));
            if result.is_err() {
                *log = before;
            }
            let result = gone.map_or(result, |id| Err(StoreError::NoOverlay { id }));
            hold(pending, reply, result);
        }
        Job::PutVerdicts(verdicts, reply) => hold(pending, reply, step(connection, || rows::put_verdicts(connection, &verdicts))),
        Job::PutSerial(zone, serial, reply) => hold(pending, reply, step(connection, || rows::put_serial(connection, &zone, &serial))),
        Job::PutZoneVersion { zone, content, sources, reply } => {
            let settled = texts::settle(folder, &sources).map_err(|error| StoreError::Failed { detail: error.to_string() });
            let put = || step(connection, || rows::put_zone_version(connection, &zone, &content, &sources));
            hold(pending, reply, settled.and_then(|()| put()));
        }
        Job::ZoneVersion(zone, reply) => hold(pending, reply, step(connection, || rows::zone_version(connection, &zone))),
        Job::PutHolds(holds, reply) => hold(pending, reply, step(connection, || rows::put_holds(connection, &holds))),
        Job::Audit(query, reply) => hold(pending, reply, step(connection, || log::read(connection, &query))),
        // Split off before.
        Job::Close(_) => {}
    }
}

/// All writes and entries of one change, or none of them. Returns the sequence of the last entry, 0 without one.
fn change(connection: &Connection, log: &mut LogSize, writes: &[Write], entries: &[Entry], gone: &mut Option<u64>) -> rusqlite::Result<u64> {
    for write in writes {
        let kept = match write {
            Write::PutOverlay(overlay) => rows::put_overlay(connection, overlay)?,
            Write::EndOverlay { id, how, by, at } => rows::end_overlay(connection, *id, how, by, *at)?,
            Write::PutToken(token) => rows::put_token(connection, token).map(|()| true)?,
            Write::ForgetToken(id) => rows::forget_token(connection, id).map(|()| true)?,
            Write::Withdrawal { zone, at, since } => rows::put_withdrawal(connection, zone, *at, *since).map(|()| true)?,
        };
        if !kept {
            *gone = write.overlay_id();
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
    }
    let mut last = 0;
    for entry in entries {
        last = log.append(connection, entry)?;
    }
    Ok(last)
}

/// The transaction could not begin: nothing runs.
fn refuse(job: Job, error: &StoreError) {
    fn send<T>(reply: Reply<T>, error: &StoreError) {
        let _ = reply.send(Err(error.clone()));
    }
    match job {
        Job::PutVerdicts(_, reply) | Job::PutSerial(_, _, reply) | Job::PutZoneVersion { reply, .. } | Job::PutHolds(_, reply) => send(reply, error),
        Job::ZoneVersion(_, reply) => send(reply, error),
        Job::Change { reply, .. } => send(reply, error),
        Job::Audit(_, reply) => send(reply, error),
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
    connection.execute_batch("SAVEPOINT job").map_err(failed)?;
    let result = run();
    let end = if result.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    let ended = connection.execute_batch(end);
    let value = result.map_err(failed)?;
    ended.map_err(failed)?;
    Ok(value)
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Failed { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn a_failing_job_harms_no_other_in_its_batch() {
        let folder = tempfile::tempdir().expect("folder");
        let connection = schema::open(&folder.path().join("state.db")).expect("open");
        let (first, mut first_reply) = oneshot::channel();
        let (second, mut second_reply) = oneshot::channel();
        let serial = Serial { serial: 7, content: "c".into() };
        let batch = vec![
            Job::Change {
                writes: vec![Write::EndOverlay { id: 9, how: "reverted".into(), by: "me".into(), at: 1 }],
                entries: Vec::new(),
                reply: first,
            },
            Job::PutSerial("example.com.".into(), serial.clone(), second),
        ];
        run_batch(&connection, folder.path(), &mut LogSize::new(1 << 20), batch);
        assert_eq!(first_reply.try_recv(), Ok(Err(StoreError::NoOverlay { id: 9 })));
        assert_eq!(second_reply.try_recv(), Ok(Ok(())));
        assert_eq!(rows::read_saved(&connection).expect("read").serials["example.com."], serial);
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_committed() {
        let folder = tempfile::tempdir().expect("folder");
        let connection = schema::open(&folder.path().join("state.db")).expect("open");
        // A full disk, as the database sees it: no page may be added.
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
        connection.pragma_update(None, "max_page_count", pages).expect("limit");
        let (reply, mut answer) = oneshot::channel();
        let sources = BTreeMap::from([(PathBuf::from("a"), Text::Row(vec![b'x'; 100_000]))]);
        let job = Job::PutZoneVersion { zone: "z.".into(), content: "c".into(), sources, reply };
        run_batch(&connection, folder.path(), &mut LogSize::new(1 << 20), vec![job]);
        let error = answer.try_recv().expect("answered").expect_err("full").to_string();
        assert!(error.contains("full"), "{error}");
        assert_eq!(rows::zone_version(&connection, "z.").expect("read"), None);
        connection.pragma_update(None, "max_page_count", 1_000_000).expect("limit");
        let (reply, mut answer) = oneshot::channel();
        run_batch(&connection, folder.path(), &mut LogSize::new(1 << 20), vec![Job::PutHolds(vec!["a".into()], reply)]);
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }
}
