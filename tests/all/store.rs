//! The state store, through its public face, on real files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use meridian::control::Who;
use meridian::control::api::{Forced, Overlay, Setting};
use meridian::control::audit::{Entry, Kind, Query};
use meridian::health::State;
use meridian::store::shared::{Commit, Committed, Expect, Item, LOG, MAX_KEY_LEN, MAX_VALUE_LEN, Snapshot, Transaction, WATCH_BACKLOG};
use meridian::store::{MAX_ENDED_OVERLAYS, QUEUE_LEN, Saved, Serial, Store, StoreError, Verdict, Write};

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
    Verdict {
        key: key.into(),
        state,
        since_unix: last_check_unix - 5,
        last_check_unix,
        last_error: Some("connect: refused".into()),
        penalty: 2_424,
        penalised_unix: last_check_unix - 7,
        run: 2,
        holds_until_unix: 0,
    }
}

fn open(path: &Path) -> (Store, Saved) {
    Store::open(path).expect("the store opens")
}

/// What is read back from `path` once `store` is closed.
async fn reopened(store: Store, path: &Path) -> (Store, Saved) {
    store.close().await;
    open(path)
}

/// What stands in the way of a change of an overlay that is not open, or that has ended.
fn no_overlay(id: u64) -> StoreError {
    StoreError::Conflict { key: format!("overlays/{id:020}"), expected: Expect::Present, found: None }
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
    store.put_serials([("example.com.".to_owned(), Serial { serial: u32::MAX, content: "c1".into() })].into()).await.expect("put");
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
    assert_eq!(store.end_overlay(7, "expired", "clock", 1_700_000_200).await, Err(no_overlay(7)));
    assert_eq!(store.end_overlay(99, "expired", "clock", 1_700_000_200).await, Err(no_overlay(99)));
    let has_ended = StoreError::Conflict { key: format!("ended/{:020}", 7), expected: Expect::Absent, found: Some(4) };
    assert_eq!(store.put_overlay(&overlay(7)).await, Err(has_ended), "an ended overlay does not come back");
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
    assert_eq!(refused, Err(no_overlay(9)));
    assert_eq!(store.change(vec![put(4)], vec![entry("c")]).await, Ok(3));
    let (store, saved) = reopened(store, &path).await;
    assert_eq!(ids(&saved), [1, 2, 4]);
    let page = store.audit(Query { cursor: Some(1), oldest_first: true, limit: 10, ..Query::default() }).await.expect("read");
    assert_eq!(page.entries, [Entry { sequence: 2, ..entry("b") }, Entry { sequence: 3, ..entry("c") }]);
}

/// Takes a fresh state file back to schema 4, with these overlays open.
fn to_schema_4(open: &[Overlay]) -> String {
    let row = |overlay: &Overlay| format!("({}, '{}')", overlay.id, serde_json::to_string(overlay).expect("json").replace('\'', "''"));
    let rows = open.iter().map(row).collect::<Vec<_>>().join(", ");
    format!(
        "DROP TABLE held; DROP TABLE keeping; ALTER TABLE verdicts DROP COLUMN penalty; ALTER TABLE verdicts DROP COLUMN penalised; ALTER TABLE verdicts DROP COLUMN run;
         ALTER TABLE verdicts DROP COLUMN holds_until;
         DROP TABLE shared; DELETE FROM meta; INSERT INTO meta VALUES ('next_overlay_id', 12);
         CREATE TABLE overlays (id INTEGER PRIMARY KEY, json TEXT NOT NULL, ended_how TEXT, ended_by TEXT, ended_at INTEGER) STRICT;
         CREATE TABLE tokens (id TEXT PRIMARY KEY, hash BLOB NOT NULL, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE withdrawals (zone TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
         INSERT INTO overlays (id, json) VALUES {rows};
         PRAGMA user_version = 4;"
    )
}

/// A file that an older program wrote, changed by `sql` while nobody has it.
async fn older_file(folder: &Path, sql: &str) -> PathBuf {
    let path = folder.join("meridian.db");
    open(&path).0.close().await;
    let connection = rusqlite::Connection::open(&path).expect("open");
    connection.execute_batch(&to_schema_4(&[overlay(3), overlay(10)])).expect("change");
    connection.execute_batch(sql).expect("change");
    path
}

#[tokio::test]
async fn overlays_tokens_and_withdrawals_of_an_older_program_are_taken_over() {
    let folder = tempfile::tempdir().expect("folder");
    let info = r#"{"id":"4f6c","name":"pager","role":"operate","created":1700000000,"created_by":"ada"}"#;
    let sql = format!(
        "INSERT INTO overlays VALUES (4, '{{}}', 'reverted', 'ada', 1700000100);
         INSERT INTO tokens VALUES ('4f6c', x'{}', '{info}'), ('broken', x'00', 'no json');
         INSERT INTO withdrawals VALUES ('example.com.', 1700000200), ('example.org.', 1700000100), ('example.com.', 1700000150);",
        "ab".repeat(32)
    );
    let path = older_file(folder.path(), &sql).await;
    for _ in 0..2 {
        let (store, saved) = open(&path);
        assert_eq!(saved.overlays, [overlay(3), overlay(10)]);
        assert_eq!(saved.next_overlay_id, 12, "the last id that was given stays taken");
        let tokens: Vec<_> = saved.tokens.iter().map(|token| (token.info.id.as_str(), token.info.name.as_str(), token.hash)).collect();
        assert_eq!(tokens, [("4f6c", "pager", [0xab; 32])]);
        let times = |zone: &str, times: &[u64]| (zone.to_owned(), times.to_vec());
        let withdrawals = BTreeMap::from([times("example.com.", &[1_700_000_150, 1_700_000_200]), times("example.org.", &[1_700_000_100])]);
        assert_eq!(saved.withdrawals, withdrawals);
        for id in [4, 11] {
            assert!(matches!(store.put_overlay(&overlay(id)).await, Err(StoreError::Conflict { .. })), "{id} is taken");
        }
        store.close().await;
    }
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
    let older = "DROP TABLE events;
         CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL) STRICT;
         INSERT INTO events (at, kind, json) VALUES (1700000000, 'health', '{\"to\":\"down\"}'), (1700000001, 'reload', '{\"zones\":[]}'), (1700000002, 'k', 'x');
         PRAGMA user_version = 2";
    connection.execute_batch(&to_schema_4(&[overlay(1)])).expect("change");
    connection.execute_batch("DROP TABLE tokens; DROP TABLE withdrawals").expect("change");
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
    let broken = state_file("UPDATE shared SET value = '{' WHERE key LIKE 'overlays/%7'").await;
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

fn set(key: &str, value: &str) -> (String, Option<String>) {
    (key.into(), Some(value.into()))
}

fn unset(key: &str) -> (String, Option<String>) {
    (key.into(), None)
}

fn item(key: &str, value: &str, revision: u64) -> Item {
    Item { key: key.into(), value: value.into(), revision }
}

#[tokio::test]
async fn shared_state_changes_only_as_expected() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let shared = store.shared();
    let at = |revision| Expect::At(revision);
    // What is expected of `a`, what is done, and the revision that stands under, or what was found instead.
    for (expected, sets, outcome) in [
        (Expect::Absent, vec![set("a", "1"), set("b", "1")], Ok(1)),
        (Expect::Absent, vec![set("a", "2")], Err(Some(1))),
        (Expect::Present, vec![set("a", "3")], Ok(2)),
        (at(1), vec![set("a", "4"), unset("b")], Err(Some(2))),
        (at(2), vec![set("a", "5"), set("c/d", "5")], Ok(3)),
        (at(3), vec![unset("a")], Ok(4)),
        (at(3), vec![set("a", "7")], Err(None)),
        (Expect::Present, vec![set("a", "8")], Err(None)),
        (Expect::Absent, vec![unset("nobody")], Ok(5)),
        (Expect::Absent, vec![], Ok(5)),
    ] {
        let transaction = Transaction { guards: vec![("a".into(), expected)], sets, entries: Vec::new() };
        let conflict = |found| StoreError::Conflict { key: "a".into(), expected, found };
        let outcome = outcome.map(|revision| Committed { revision, sequence: 0 }).map_err(conflict);
        assert_eq!(shared.compare_and_set(transaction.clone()).await, outcome, "{transaction:?}");
    }
    let everything = Snapshot { revision: 5, items: vec![item("b", "1", 1), item("c/d", "5", 3)] };
    assert_eq!(shared.get_all("").await, Ok(everything.clone()));
    assert_eq!(shared.get_all("c/").await, Ok(Snapshot { revision: 5, items: vec![item("c/d", "5", 3)] }));
    assert_eq!(shared.get_all("c0").await.map(|found| found.items), Ok(Vec::new()));
    let (store, saved) = reopened(store, &path).await;
    assert_eq!(saved.revision, 5, "revisions go on");
    assert_eq!(store.shared().get_all("").await, Ok(everything));
    for (sets, what) in
        [(set(&"k".repeat(MAX_KEY_LEN + 1), "1"), "a key of the state"), (set("a", &"v".repeat(MAX_VALUE_LEN + 1)), "a value of the state")]
    {
        let refused = store.shared().compare_and_set(Transaction { sets: vec![sets], ..Transaction::default() }).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { what: found, .. }) if found == what), "{refused:?}");
    }
}

#[tokio::test]
async fn who_watches_shared_state_misses_nothing_or_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let shared = store.shared();
    let write = |sets| shared.compare_and_set(Transaction { sets, ..Transaction::default() });
    write(vec![set("a/1", "x")]).await.expect("write");
    write(vec![set("b/1", "x")]).await.expect("write");
    let mut before = shared.watch("a/", 0).await.expect("watch");
    let mut after = shared.watch("a/", 1).await.expect("watch");
    // Queued in this order: the watch sees the second only.
    let (first, watch, second) = (write(vec![unset("a/1")]), shared.watch("a/", 3), write(vec![set("a/2", "y"), set("b/2", "y")]));
    let (_, mut between, _) = (first.await, watch.await.expect("watch"), second.await);
    let commit = |revision, changes| Commit { revision, changes };
    let (third, fourth) = (commit(3, vec![unset("a/1")]), commit(4, vec![set("a/2", "y"), set("b/2", "y")]));
    assert_eq!(*before.next().await.expect("first"), commit(1, vec![set("a/1", "x")]));
    for watch in [&mut before, &mut after] {
        assert_eq!(*watch.next().await.expect("third"), third);
        assert_eq!(*watch.next().await.expect("fourth"), fourth);
    }
    assert_eq!(*between.next().await.expect("fourth"), fourth);
    // Entries of the log are seen, too.
    let mut log = shared.watch(LOG, 4).await.expect("watch");
    let entry = Entry::done(&Who::itself(), "overlay.lay", "t", 1_700_000_000);
    assert_eq!(shared.append(vec![entry.clone()]).await, Ok(Committed { revision: 5, sequence: 1 }));
    let seen = log.next().await.expect("entry");
    assert_eq!((seen.revision, seen.changes[0].0.as_str()), (5, "log/00000000000000000001"));
    assert_eq!(serde_json::from_str::<Entry>(seen.changes[0].1.as_deref().expect("value")).expect("json").target, entry.target);
    // A change that is refused is no commit.
    let refused = Transaction { guards: vec![("a/2".into(), Expect::Absent)], sets: vec![set("a/2", "z")], ..Transaction::default() };
    assert!(shared.compare_and_set(refused).await.is_err());
    for round in 0..WATCH_BACKLOG + 1 {
        write(vec![set("a/3", &round.to_string())]).await.expect("write");
    }
    assert_eq!(before.next().await, Err(StoreError::Compacted), "it has fallen behind");
    assert_eq!(shared.watch("a/", 5).await.map(|_| ()), Err(StoreError::Compacted));
    let mut late = shared.watch("a/", 6).await.expect("the oldest that is known");
    assert_eq!(late.next().await.expect("seventh").revision, 7);
    store.close().await;
    assert_eq!(between.next().await.map(|_| ()), Err(StoreError::Compacted));
    let (mut last, mut seen) = (Ok(()), 0);
    while last.is_ok() {
        last = late.next().await.map(|_| seen += 1);
    }
    assert_eq!((last, seen), (Err(StoreError::Closed), WATCH_BACKLOG - 1));
}

#[tokio::test]
async fn ids_of_overlays_that_ended_are_forgotten_in_order() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("meridian.db");
    let (store, _) = open(&path);
    let last = MAX_ENDED_OVERLAYS as u64 + 20;
    let end = |id| Write::EndOverlay { id, how: "expired".into(), by: "meridian".into(), at: 1 };
    // As many as the queue takes at a time, so that they keep their order.
    for ids in (1..=last).collect::<Vec<_>>().chunks(QUEUE_LEN / 2) {
        let both = ids.iter().flat_map(|id| [Write::put_overlay(&overlay(*id)), end(*id)]);
        let queued: Vec<_> = both.map(|write| store.change(vec![write], Vec::new())).collect();
        for kept in queued {
            kept.await.expect("kept");
        }
    }
    let (store, saved) = reopened(store, &path).await;
    assert_eq!((ids(&saved), saved.next_overlay_id), (Vec::new(), last + 1));
    let ended = store.shared().get_all("ended/").await.expect("read").items;
    assert_eq!((ended.len(), ended[0].key.as_str()), (MAX_ENDED_OVERLAYS, "ended/00000000000000000021"));
}
