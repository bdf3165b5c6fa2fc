//! Opening the file: who may read it, who holds it, whether it is whole, which schema it has.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// How long a start waits for whoever still has the file: a process that is just stopping, or a backup.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Marks the file as ours (`PRAGMA application_id`): "MRDN".
const APPLICATION_ID: i32 = 0x4d52_444e;

/// Statements that are kept for their next use: all that changes and checks need.
const STATEMENTS: usize = 48;

/// Each step takes the schema from its index to the next; steps are only ever added. Each runs in one transaction with the version's change.
const STEPS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('next_overlay_id', 1);
    CREATE TABLE overlays (
        id INTEGER PRIMARY KEY, json TEXT NOT NULL,
        ended_how TEXT, ended_by TEXT, ended_at INTEGER
    ) STRICT;
    CREATE INDEX overlays_open ON overlays (id) WHERE ended_how IS NULL;
    CREATE TABLE verdicts (
        key TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, last_check INTEGER NOT NULL, last_error TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE serials (zone TEXT PRIMARY KEY, serial INTEGER NOT NULL, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE holds (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE zone_files (zone TEXT NOT NULL, path BLOB NOT NULL, content BLOB NOT NULL, PRIMARY KEY (zone, path)) STRICT;
    CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL) STRICT;
",
    "
    ALTER TABLE zone_files ADD COLUMN file TEXT;
    CREATE TABLE zone_versions (zone TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    // The event log becomes the audit log; what was in it stays, under the kinds there are now.
    "
    ALTER TABLE events ADD COLUMN action TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN target TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN actor TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN outcome TEXT NOT NULL DEFAULT '';
    UPDATE events SET action = kind, actor = 'meridian', outcome = 'done';
    UPDATE events SET kind = 'change' WHERE kind <> 'health';
    CREATE INDEX events_by_kind ON events (kind, sequence);
    CREATE TABLE tokens (id TEXT PRIMARY KEY, hash BLOB NOT NULL, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    // For `max_changes`.
    "
    CREATE TABLE withdrawals (zone TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
    CREATE INDEX withdrawals_by_zone ON withdrawals (zone, at);
",
    // What several servers could share, as keys, values and revisions. The last id that was ever given stays taken.
    "
    CREATE TABLE shared (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO shared SELECT printf('overlays/%020d', id), json, 1 FROM overlays WHERE ended_how IS NULL;
    INSERT INTO shared SELECT printf('ended/%020d', id), json_object('how', ended_how, 'by', ended_by, 'at', ended_at), 1
        FROM overlays WHERE ended_how IS NOT NULL;
    INSERT OR IGNORE INTO shared SELECT printf('ended/%020d', value - 1), json_object('how', 'ended', 'by', 'meridian', 'at', 0), 1
        FROM meta WHERE key = 'next_overlay_id' AND value > 1 AND NOT EXISTS (SELECT 1 FROM overlays WHERE id = value - 1);
    INSERT INTO shared SELECT 'tokens/' || id, json_object('hash', lower(hex(hash)), 'info', json(json)), 1 FROM tokens WHERE json_valid(json);
    INSERT INTO shared SELECT 'withdrawals/' || zone, json_group_array(at), 1 FROM (SELECT zone, at FROM withdrawals ORDER BY zone, at) GROUP BY zone;
    DELETE FROM meta;
    INSERT INTO meta SELECT 'revision', EXISTS (SELECT 1 FROM shared);
    DROP TABLE overlays;
    DROP TABLE withdrawals;
    DROP TABLE tokens;
",
    // For flap damping across restarts.
    "
    ALTER TABLE verdicts ADD COLUMN penalty INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE verdicts ADD COLUMN penalised INTEGER NOT NULL DEFAULT 0;
",
    // What safety rules keep in a disaster is kept over a restart as well.
    "
    CREATE TABLE keeping (zone TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    // Room for taking things back: see `room`.
    "
    CREATE TABLE held (octets BLOB NOT NULL) STRICT;
",
    // For what is reported once and was not obeyed yet.
    "
    ALTER TABLE verdicts ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
",
    // For what agents and callers said, which counts for longer than it is new.
    "
    ALTER TABLE verdicts ADD COLUMN holds_until INTEGER NOT NULL DEFAULT 0;
",
];

/// The schema this program writes.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// Opens `path` for this process alone and brings it up to date. Until its rows are read, closing it writes nothing back ([`keep_log`]).
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    create(path).map_err(|error| StoreError::Open { path: path.to_owned(), detail: error.to_string() })?;
    // Without SQLITE_OPEN_URI a path that begins with `file:` is a path; without SHARED_CACHE and with one thread no mutex is needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| explain(path, error))?;
    prepare(&mut connection, path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Makes folder and file, for their owner alone. An existing file is taken from everyone else.
fn create(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Lock, durability, integrity, schema.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let explain = |error| explain(path, error);
    connection.busy_timeout(BUSY_WAIT).map_err(explain)?;
    if connection.is_readonly("main").map_err(explain)? {
        return Err(StoreError::Open { path: path.to_owned(), detail: "it can only be read".into() });
    }
    // A damaged file is left with its log: nothing is written back when this connection is given up.
    keep_log(connection, true).map_err(explain)?;
    let found = identify(connection, path)?;
    let whole: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(explain)?;
    if whole != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), detail: one_line(&whole) });
    }
    pragma(connection, "journal_mode", "WAL").map_err(explain)?;
    pragma(connection, "synchronous", "FULL").map_err(explain)?;
    pragma(connection, "trusted_schema", "OFF").map_err(explain)?;
    // What is sorted needs no file beside: the disk may be full.
    pragma(connection, "temp_store", "MEMORY").map_err(explain)?;
    migrate(connection, found).map_err(explain)
}

/// Whether closing leaves the log beside the file as it is.
pub(super) fn keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}

/// Takes the lock, then looks whose file it is and which schema it has, before anything is written.
fn identify(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let explain = |error| explain(path, error);
    // Exclusive locking keeps the lock until the process ends, however it ends; set before WAL, it also does without shared memory.
    pragma(connection, "locking_mode", "EXCLUSIVE").map_err(explain)?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT").map_err(explain)?;
    let read = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (application, version) = (read("application_id").map_err(explain)?, read("user_version").map_err(explain)?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    if tables > 0 && application != i64::from(APPLICATION_ID) {
        return Err(StoreError::Corrupt { path: path.to_owned(), detail: "it is a database of another program".into() });
    }
    match u32::try_from(version) {
        Ok(version) if version <= VERSION => Ok(version),
        _ => Err(StoreError::Newer { path: path.to_owned(), found: u32::try_from(version).unwrap_or(u32::MAX), known: VERSION }),
    }
}

fn migrate(connection: &mut Connection, found: u32) -> rusqlite::Result<()> {
    for (version, step) in STEPS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Sets a pragma that answers with its new value (or with nothing).
fn pragma(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    })
}

/// What the database says over several lines, on one: it becomes a part of a sentence.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The database's error in our words.
pub(super) fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    let detail = one_line(&error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => StoreError::Locked { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { path, detail },
        Some(_) => StoreError::Open { path, detail },
        // Not from the database: a value in it is not what it must be.
        None => StoreError::Corrupt { path, detail },
    }
}
