//! The state store, through its public face, on real files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use meridian::control::Who;
use meridian::control::api::{Forced, Overlay, Setting};
use meridian::control::audit::{Entry, Kind, Query};
use meridian::health::State;
use meridian::store::{Saved, Serial, Store, StoreError, Verdict, Write};

fn overlay(id: u64) -> Overlay {
    Overlay {
        owner: "ada".into(),
        reason: "maintenance \"tonight\"\nsecond line".into(),
        created: 1_700_000_000,
        expires: Some(1_700_086_400),
        ..Overlay::of(id, format!("example.com/pool-{id}"), Setting::State(Forced::Drain))
    }
}

fn verdict(key: &str, state: State, last_check_unix: u64) -> Verdict {
    Verdict { key: key.into(), state, since_unix: last_check_unix - 5, last_check_unix, last_error: Some("connect: refused".into()) }
}

fn open(path: &Path) -> (Store, Saved) {
    Store::open(path).expect("the store opens")
}

/// What is read back from `path` once `store` is closed.
async fn reopened(store: Store, path: &Path) -> (Store, Saved) {
    store.close().await;
    open(path)
}

fn ids(saved: &Saved) -> Vec<u64> {
    saved.overlays.iter().map(|overlay| overlay.id).collect()
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("deep/er/meridian.db");
    let (store, saved) = open(&path);
    assert_eq!(saved, Saved::default());
    store.put_overlay(&Overlay { inactive: Some("its pool is gone".into()), ..overlay(1) }).await.expect("put");
    store.put_verdicts(vec![verdict("a", State::Up, 1000), verdict("b", State::Suspect, 1000)]).await.expect("put");
    store.put_verdicts(vec![verdict("a", State::Down, 1010)]).await.expect("put");
    store.put_serial("example.com.", Serial { serial: u32::MAX, content: "c1".into() }).await.expect("put");
    store.put_holds(&["example.com/www".into(), "example.com/app".into()]).await.expect("put");
    let (_store, saved) = reopened(store, &path).await;
    assert_eq!(saved.overlays, [overlay(1)]);
    assert_eq!(saved.next_overlay_id, 2);
    assert_eq!(saved.verdicts, [verdict("a", State::Down, 1010), verdict("b", State::Suspect, 1000)]);
    assert_eq!(saved.serials, BTreeMap::from([("example.com.".into(), Serial { serial: u32::MAX, content: "c1".into() })]));
    assert_eq!(saved.holds, ["example.com/app", "example.com/www"]);
}

#[tokio::test]
async fn overlay_ids_are_never_used_again() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    for id in [1, 2, 7] {
        store.put_overlay(&overlay(id)).await.expect("put");
    }
    store.end_overlay(7, "reverted", "ada", 1_700_000_100).await.expect("end");
    assert_eq!(store.end_overlay(7, "expired", "clock", 1_700_000_200).await, Err(StoreError::NoOverlay { id: 7 }));
    assert_eq!(store.end_overlay(99, "expired", "clock", 1_700_000_200).await, Err(StoreError::NoOverlay { id: 99 }));
    assert_eq!(store.put_overlay(&overlay(7)).await, Err(StoreError::NoOverlay { id: 7 }), "an ended overlay does not come back");
    store.put_overlay(&Overlay { expires: None, ..overlay(2) }).await.expect("an open one may be replaced");
    let (_store, saved) = reopened(store, &path).await;
    assert_eq!(ids(&saved), [1, 2]);
    assert_eq!(saved.overlays[1].expires, None);
    assert_eq!(saved.next_overlay_id, 8);
}

#[tokio::test]
async fn zone_versions_hold_exactly_the_last_texts() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let first = BTreeMap::from([(PathBuf::from("zones/a.toml"), b"one".to_vec()), (PathBuf::from("zones/lib.toml"), vec![0, 255, 10])]);
    let second = BTreeMap::from([(PathBuf::from("zones/a.toml"), b"two".to_vec())]);
    assert_eq!(store.zone_version("a.").await, Ok(None));
    store.put_zone_version("a.", &first).await.expect("put");
    store.put_zone_version("b.", &second).await.expect("put");
    assert_eq!(store.zone_version("a.").await, Ok(Some(first)));
    store.put_zone_version("a.", &second).await.expect("put");
    let (store, _) = reopened(store, &path).await;
    assert_eq!(store.zone_version("a.").await, Ok(Some(second.clone())));
    assert_eq!(store.zone_version("b.").await, Ok(Some(second)));
}

#[tokio::test]
async fn verdicts_of_checks_that_are_gone_are_forgotten() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    store.put_verdicts(vec![verdict("old", State::Up, 1000)]).await.expect("put");
    store.put_verdicts(vec![verdict("new", State::Up, 1000 + 2 * 24 * 3600)]).await.expect("put");
    let (_store, saved) = reopened(store, &path).await;
    assert_eq!(saved.verdicts.iter().map(|verdict| verdict.key.as_str()).collect::<Vec<_>>(), ["new"]);
}

#[tokio::test]
async fn a_change_and_its_entry_are_kept_together_or_not_at_all() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let entry = |target: &str| Entry::done(&Who::itself(), "overlay.lay", target, 1_700_000_000);
    let put = |id| Write::put_overlay(&overlay(id));
    assert_eq!(store.change(vec![put(1), put(2)], vec![entry("a"), entry("b")]).await, Ok(2));
    let end = Write::EndOverlay { id: 9, how: "reverted".into(), by: "ada".into(), at: 1 };
    let refused = store.change(vec![put(3), end], vec![entry("never")]).await;
    assert_eq!(refused, Err(StoreError::NoOverlay { id: 9 }));
    assert_eq!(store.change(vec![put(4)], vec![entry("c")]).await, Ok(3));
    let (store, saved) = reopened(store, &path).await;
    assert_eq!(ids(&saved), [1, 2, 4]);
    let page = store.audit(Query { cursor: Some(1), oldest_first: true, limit: 10, ..Query::default() }).await.expect("read");
    assert_eq!(page.entries, [Entry { sequence: 2, ..entry("b") }, Entry { sequence: 3, ..entry("c") }]);
}

/// The state file as schema 2 left it, with an event of each kind there was.
#[tokio::test]
async fn the_event_log_of_an_older_program_becomes_the_audit_log() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    store.put_overlay(&overlay(1)).await.expect("put");
    store.close().await;
    let connection = rusqlite::Connection::open(&path).expect("open");
    let older = "DROP TABLE events; DROP TABLE tokens; DROP TABLE withdrawals;
         CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL) STRICT;
         INSERT INTO events (at, kind, json) VALUES (1700000000, 'health', '{\"to\":\"down\"}'), (1700000001, 'reload', '{\"zones\":[]}'), (1700000002, 'k', 'x');
         PRAGMA user_version = 2";
    connection.execute_batch(older).expect("change");
    drop(connection);
    let (store, saved) = open(&path);
    assert_eq!(ids(&saved), [1]);
    assert_eq!(store.change(Vec::new(), vec![Entry::done(&Who::signal(), "reload", "", 1_700_000_003)]).await, Ok(4));
    let page = store.audit(Query { limit: 10, ..Query::default() }).await.expect("read");
    let seen: Vec<_> = page.entries.iter().map(|entry| (entry.sequence, entry.kind, entry.action.as_str(), entry.after.to_string())).collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        seen,
        [
            (4, Kind::Change, "reload", text("null")),
            (3, Kind::Change, "k", text("\"x\"")),
            (2, Kind::Change, "reload", text("{\"zones\":[]}")),
            (1, Kind::Health, "health", text("{\"to\":\"down\"}")),
        ]
    );
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_at_any_moment() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    for id in 1..=20 {
        store.put_overlay(&overlay(id)).await.expect("put");
        // The files as a kill at this moment leaves them.
        let crashed = folder.path().join(format!("crash-{id}.db"));
        fs::copy(&path, &crashed).expect("copy");
        fs::copy(folder.path().join("meridian.db-wal"), folder.path().join(format!("crash-{id}.db-wal"))).expect("copy");
        let (after, saved) = open(&crashed);
        assert_eq!(ids(&saved), (1..=id).collect::<Vec<_>>());
        assert_eq!(saved.next_overlay_id, id + 1);
        after.close().await;
    }
}

#[tokio::test]
async fn a_torn_log_loses_only_its_torn_end() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    for id in 1..=6 {
        store.put_overlay(&overlay(id)).await.expect("put");
    }
    let (database, log) = (fs::read(&path).expect("read"), fs::read(folder.path().join("meridian.db-wal")).expect("read"));
    let mut longest = 0;
    for length in (0..=log.len()).step_by(1511).chain([log.len()]) {
        let torn = folder.path().join(format!("torn-{length}.db"));
        fs::write(&torn, &database).expect("write");
        fs::write(folder.path().join(format!("torn-{length}.db-wal")), &log[..length]).expect("write");
        let (after, saved) = open(&torn);
        assert!(saved.overlays.len() >= longest, "a longer log holds no less");
        longest = saved.overlays.len();
        assert_eq!(ids(&saved), (1..=longest as u64).collect::<Vec<_>>());
        after.close().await;
    }
    assert_eq!(longest, 6);
}

#[tokio::test]
async fn many_writers_share_the_store() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let writers: Vec<_> = (1..=200)
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move { store.put_overlay(&overlay(id)).await })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic").expect("put");
    }
    let (_store, saved) = reopened(store, &path).await;
    assert_eq!(saved.overlays.len(), 200);
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("state/meridian.db");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    let (store, _) = open(&path);
    store.put_holds(&["x".into()]).await.expect("put");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("state/meridian.db-wal")), 0o600);
    assert_eq!(mode(&folder.path().join("state")), 0o700);
    store.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let (_store, _) = open(&path);
    assert_eq!(mode(&path), 0o600, "an open file is closed to others");
}

#[tokio::test]
async fn a_second_opener_is_refused_and_the_first_unharmed() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    store.put_overlay(&overlay(1)).await.expect("put");
    let error = Store::open(&path).expect_err("in use");
    assert_eq!(error, StoreError::Locked { path: path.clone() });
    assert!(error.to_string().ends_with("the state file is in use by another process"), "{error}");
    store.put_overlay(&overlay(2)).await.expect("the first still writes");
    let (_store, saved) = reopened(store, &path).await;
    assert_eq!(ids(&saved), [1, 2]);
}

/// Writes `content` as the state file and returns the error of opening it; the file must be left as it was.
fn refused(content: &[u8]) -> StoreError {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    fs::write(&path, content).expect("write");
    let error = Store::open(&path).expect_err("not usable");
    let after = fs::read(&path).expect("still there");
    assert!(after == content, "{error}: it was not left as it was");
    error
}

/// A healthy state file with some overlays, changed by `sql` (run on it by another connection) if any.
async fn state_file(sql: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    for id in 1..=200 {
        store.put_overlay(&overlay(id)).await.expect("put");
    }
    store.close().await;
    let connection = rusqlite::Connection::open(&path).expect("open");
    connection.execute_batch(sql).expect("change");
    drop(connection);
    fs::read(&path).expect("read")
}

#[tokio::test]
async fn damaged_files_are_refused_and_left_alone() {
    assert!(matches!(refused(b"this is no database at all, but it is long enough to look like a file"), StoreError::Corrupt { .. }));
    let healthy = state_file("").await;
    assert!(matches!(refused(&healthy[..healthy.len() / 2]), StoreError::Corrupt { .. }), "cut in half");
    let mut zeroed = healthy.clone();
    let middle = healthy.len() / 2 / 4096 * 4096;
    zeroed[middle..middle + 4096].fill(0);
    assert!(matches!(refused(&zeroed), StoreError::Corrupt { .. }), "a zeroed page");
    let broken = state_file("UPDATE overlays SET json = '{' WHERE id = 7").await;
    let error = refused(&broken);
    assert!(error.to_string().contains("left as it is"), "{error}");
}

#[tokio::test]
async fn files_of_others_and_of_the_future_are_refused() {
    let future = state_file("PRAGMA user_version = 9999").await;
    let error = refused(&future);
    assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
    let other = state_file("PRAGMA application_id = 5").await;
    let error = refused(&other);
    assert!(error.to_string().contains("another program"), "{error}");
}

#[tokio::test]
async fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("file"), "").expect("write");
    fs::create_dir(folder.path().join("directory.db")).expect("folder");
    // Not even root can make a file in /proc.
    for path in [PathBuf::from("/proc/meridian/meridian.db"), folder.path().join("file/meridian.db"), folder.path().join("directory.db")] {
        let error = Store::open(&path).expect_err("not writable");
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&format!("{}: cannot open", path.display())), "{error}");
    }
}

#[tokio::test]
async fn no_store_keeps_nothing_and_says_so() {
    let store = Store::none("state/meridian.db: permission denied");
    assert_eq!(store.absent(), Some("state/meridian.db: permission denied"));
    let absent = Err(StoreError::Absent { why: "state/meridian.db: permission denied".into() });
    assert_eq!(store.put_overlay(&overlay(1)).await, absent);
    assert_eq!(store.end_overlay(1, "reverted", "ada", 1).await, absent);
    assert_eq!(store.put_verdicts(Vec::new()).await, absent);
    assert_eq!(store.put_holds(&[]).await, absent);
    assert_eq!(store.change(Vec::new(), vec![Entry::done(&Who::itself(), "reload", "", 1)]).await.map(drop), absent);
    assert_eq!(store.zone_version("a.").await, Ok(None));
    assert_eq!(store.audit(Query::default()).await.map(drop), absent, "an unreadable log is no empty one");
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_refuses_further_writes() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let clone = store.clone();
    store.close().await;
    assert_eq!(clone.put_overlay(&overlay(1)).await, Err(StoreError::Closed));
    clone.close().await;
    assert!(!folder.path().join("meridian.db-wal").exists(), "the log went back into the file");
}
