//! Rows in, values out, and back. Every function runs inside the transaction of its caller.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::shared::{Item, Revision, Snapshot};
use super::texts::Text;
use super::{MAX_VERDICT_AGE_SECS, Saved, SavedClock, SavedKeeping, SavedTtls, Serial, Verdict};
use crate::health::State;

/// In front of who tells, among the numbers of `meta`.
const FREEZE: &str = "freeze/";
/// Names of [`SavedTtls`] in `meta`.
const LONGEST_TTL: &str = "longest_ttl";
const CACHED_UNTIL: &str = "cached_until";
/// Names of [`SavedClock`] in `meta`.
const CLOCK_SEEN: &str = "clock_seen";
const CLOCK_UNPROVEN: &str = "clock_unproven";

/// What is this server's own, of what a start needs.
pub(super) fn read_own(connection: &Connection) -> rusqlite::Result<Saved> {
    const VERDICTS: &str = "SELECT key, state, since, last_check, last_error, penalty, penalised, run, holds_until FROM verdicts ORDER BY key";
    let verdicts = all(connection, VERDICTS, |row| {
        let state: String = row.get(1)?;
        Ok(Verdict {
            key: row.get(0)?,
            state: state_of(&state),
            since_unix: unsigned(row, 2)?,
            last_check_unix: unsigned(row, 3)?,
            last_error: row.get(4)?,
            penalty: row.get(5)?,
            penalised_unix: unsigned(row, 6)?,
            run: row.get(7)?,
            holds_until_unix: unsigned(row, 8)?,
        })
    })?;
    let serials =
        all(connection, "SELECT zone, serial, content FROM serials", |row| Ok((row.get(0)?, Serial { serial: row.get(1)?, content: row.get(2)? })))?;
    let number = |key: &str| connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| unsigned(row, 0)).optional();
    let longest = number(LONGEST_TTL)?.map_or(0, |longest| u32::try_from(longest).unwrap_or(u32::MAX));
    // A file of before this was kept says when something was written last.
    let last = "SELECT max(coalesce((SELECT at FROM events ORDER BY sequence DESC LIMIT 1), 0), coalesce((SELECT max(last_check) FROM verdicts), 0))";
    let seen = number(CLOCK_SEEN)?.map_or_else(|| connection.query_row(last, [], |row| unsigned(row, 0)), Ok)?;
    Ok(Saved {
        clock: (seen > 0).then_some(SavedClock { seen, unproven: number(CLOCK_UNPROVEN)?.unwrap_or(0) }),
        ttls: SavedTtls { longest, until: number(CACHED_UNTIL)?.unwrap_or(0) },
        verdicts,
        serials: serials.into_iter().collect(),
        holds: all(connection, "SELECT name FROM holds ORDER BY name", |row| row.get(0))?,
        // What cannot be read keeps nothing.
        keeping: all(connection, "SELECT zone, json FROM keeping", |row| {
            let json: String = row.get(1)?;
            Ok((row.get(0)?, serde_json::from_str(&json).unwrap_or_default()))
        })?
        .into_iter()
        .collect(),
        freezes: all(connection, "SELECT key, value FROM meta WHERE key GLOB 'freeze/*'", |row| {
            let key: String = row.get(0)?;
            Ok((key.trim_start_matches(FREEZE).to_owned(), unsigned(row, 1)?))
        })?
        .into_iter()
        .collect(),
        versions: all(connection, "SELECT zone, content FROM zone_versions", |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect(),
        ..Saved::default()
    })
}

/// Every key that begins with `prefix`, in order.
pub(super) fn get_all(connection: &Connection, prefix: &str) -> rusqlite::Result<Snapshot> {
    let revision = connection.query_row("SELECT value FROM meta WHERE key = 'revision'", [], |row| unsigned(row, 0))?;
    // Keys are compared octet by octet, and no character stands above this one.
    let end = format!("{prefix}\u{10ffff}");
    let mut statement = connection.prepare_cached("SELECT key, value, revision FROM shared WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let items = statement.query_map([prefix, &end], |row| Ok(Item { key: row.get(0)?, value: row.get(1)?, revision: unsigned(row, 2)? }))?;
    Ok(Snapshot { revision, items: items.collect::<rusqlite::Result<_>>()? })
}

/// What wrote a key; `None` when it is not there.
pub(super) fn revision_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<Revision>> {
    connection.prepare_cached("SELECT revision FROM shared WHERE key = ?1")?.query_row([key], |row| unsigned(row, 0)).optional()
}

/// Sets or removes a key.
pub(super) fn set(connection: &Connection, key: &str, value: Option<&str>, revision: Revision) -> rusqlite::Result<()> {
    match value {
        Some(value) => {
            connection.prepare_cached("INSERT OR REPLACE INTO shared VALUES (?1, ?2, ?3)")?.execute(params![key, value, signed(revision)])?
        }
        None => connection.prepare_cached("DELETE FROM shared WHERE key = ?1")?.execute([key])?,
    };
    Ok(())
}

/// Keeps which revision is the last one.
pub(super) fn put_revision(connection: &Connection, revision: Revision) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'revision'")?.execute([signed(revision)])?;
    Ok(())
}

/// The earliest last result, in unix seconds, beside these.
pub(super) fn oldest_verdict(verdicts: &[Verdict]) -> u64 {
    verdicts.iter().map(|verdict| verdict.last_check_unix).max().unwrap_or(0).saturating_sub(MAX_VERDICT_AGE_SECS)
}

/// Those that are older than `oldest` go.
pub(super) fn put_verdicts(connection: &Connection, verdicts: &[Verdict], oldest: Option<u64>) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO verdicts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for verdict in verdicts {
        let (since, last_check, penalised) = (signed(verdict.since_unix), signed(verdict.last_check_unix), signed(verdict.penalised_unix));
        let (state, error, holds_until) = (verdict.state.word(), &verdict.last_error, signed(verdict.holds_until_unix));
        put.execute(params![verdict.key, state, since, last_check, error, verdict.penalty, penalised, verdict.run, holds_until])?;
    }
    if let Some(oldest) = oldest {
        connection.prepare_cached("DELETE FROM verdicts WHERE max(last_check, since, holds_until) < ?1")?.execute([signed(oldest)])?;
    }
    Ok(())
}

pub(super) fn put_serials(connection: &Connection, serials: &BTreeMap<String, Serial>) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO serials VALUES (?1, ?2, ?3)")?;
    for (zone, serial) in serials {
        put.execute(params![zone, serial.serial, serial.content])?;
    }
    Ok(())
}

pub(super) fn put_holds(connection: &Connection, holds: &[String]) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM holds", [])?;
    let mut put = connection.prepare_cached("INSERT OR IGNORE INTO holds VALUES (?1)")?;
    for name in holds {
        put.execute([name])?;
    }
    Ok(())
}

pub(super) fn put_freezes(connection: &Connection, freezes: &BTreeMap<String, u64>) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE key GLOB 'freeze/*'", [])?;
    let mut put = connection.prepare_cached("INSERT INTO meta VALUES (?1, ?2)")?;
    for (who, since_unix) in freezes {
        put.execute(params![format!("{FREEZE}{who}"), signed(*since_unix)])?;
    }
    Ok(())
}

pub(super) fn put_keeping(connection: &Connection, keeping: &BTreeMap<String, SavedKeeping>) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM keeping", [])?;
    let mut put = connection.prepare_cached("INSERT INTO keeping VALUES (?1, ?2)")?;
    for (zone, keeping) in keeping {
        // Texts and numbers: there is nothing that JSON has no form for.
        put.execute(params![zone, serde_json::to_string(keeping).unwrap_or_default()])?;
    }
    Ok(())
}

pub(super) fn put_clock(connection: &Connection, clock: SavedClock) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    put.execute(params![CLOCK_SEEN, signed(clock.seen)])?;
    put.execute(params![CLOCK_UNPROVEN, signed(clock.unproven)])?;
    Ok(())
}

pub(super) fn put_ttls(connection: &Connection, ttls: SavedTtls) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    put.execute(params![LONGEST_TTL, ttls.longest])?;
    put.execute(params![CACHED_UNTIL, signed(ttls.until)])?;
    Ok(())
}

/// Replaces the texts of a zone, which say `content`; those that did not change are not written again.
pub(super) fn put_zone_version(connection: &Connection, zone: &str, content: &str, sources: &BTreeMap<PathBuf, Text>) -> rusqlite::Result<()> {
    for path in zone_paths(connection, zone)? {
        if !sources.contains_key(Path::new(OsStr::from_bytes(&path))) {
            connection.execute("DELETE FROM zone_files WHERE zone = ?1 AND path = ?2", params![zone, path])?;
        }
    }
    let mut put = connection.prepare_cached(
        "INSERT INTO zone_files (zone, path, content, file) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (zone, path) DO UPDATE SET content = excluded.content, file = excluded.file
         WHERE content IS NOT excluded.content OR file IS NOT excluded.file",
    )?;
    for (path, text) in sources {
        let (octets, file) = match text {
            Text::Row(octets) => (octets.as_slice(), None),
            Text::File(name) => (&[][..], Some(name)),
        };
        put.execute(params![zone, path.as_os_str().as_bytes(), octets, file])?;
    }
    connection.prepare_cached("INSERT OR REPLACE INTO zone_versions VALUES (?1, ?2)")?.execute(params![zone, content])?;
    Ok(())
}

pub(super) fn zone_version(connection: &Connection, zone: &str) -> rusqlite::Result<Option<BTreeMap<PathBuf, Text>>> {
    let mut statement = connection.prepare_cached("SELECT path, content, file FROM zone_files WHERE zone = ?1")?;
    let mut rows = statement.query([zone])?;
    let mut sources = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let path: Vec<u8> = row.get(0)?;
        let text = match row.get(2)? {
            Some(name) => Text::File(name),
            None => Text::Row(row.get(1)?),
        };
        sources.insert(PathBuf::from(OsStr::from_bytes(&path)), text);
    }
    Ok(if sources.is_empty() { None } else { Some(sources) })
}

/// The files that rows name.
pub(super) fn text_files(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    Ok(all(connection, "SELECT file FROM zone_files WHERE file IS NOT NULL", |row| row.get(0))?.into_iter().collect())
}

fn zone_paths(connection: &Connection, zone: &str) -> rusqlite::Result<Vec<Vec<u8>>> {
    connection.prepare_cached("SELECT path FROM zone_files WHERE zone = ?1")?.query_map([zone], |row| row.get(0))?.collect()
}

/// Runs a statement that has no values and tells nothing; the text is read once.
pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn all<T>(connection: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

/// The state of a word; one that a newer program knows counts as unknown, which the next check decides.
fn state_of(word: &str) -> State {
    [State::Up, State::Suspect, State::Down, State::Ramp].into_iter().find(|state| state.word() == word).unwrap_or(State::Unknown)
}

/// SQLite's integers are signed; ours that come near the limit (times, ids) never pass it in earnest.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}
