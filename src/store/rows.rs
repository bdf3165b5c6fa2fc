//! Rows in, values out, and back. Every function runs inside the transaction of its caller.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params, types::Type};

use super::texts::Text;
use super::{MAX_ENDED_OVERLAYS, MAX_VERDICT_AGE_SECS, Saved, Serial, Verdict};
use crate::control::api::Overlay;
use crate::control::tokens::SavedToken;
use crate::health::State;

/// Everything that a start needs.
pub(super) fn read_saved(connection: &Connection) -> rusqlite::Result<Saved> {
    let overlays = all(connection, "SELECT json FROM overlays WHERE ended_how IS NULL ORDER BY id", |row| {
        let json: String = row.get(0)?;
        serde_json::from_str::<Overlay>(&json).map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
    })?;
    let verdicts = all(connection, "SELECT key, state, since, last_check, last_error FROM verdicts ORDER BY key", |row| {
        let state: String = row.get(1)?;
        Ok(Verdict {
            key: row.get(0)?,
            state: state_of(&state),
            since_unix: unsigned(row, 2)?,
            last_check_unix: unsigned(row, 3)?,
            last_error: row.get(4)?,
        })
    })?;
    let serials =
        all(connection, "SELECT zone, serial, content FROM serials", |row| Ok((row.get(0)?, Serial { serial: row.get(1)?, content: row.get(2)? })))?;
    Ok(Saved {
        overlays,
        next_overlay_id: connection.query_row("SELECT value FROM meta WHERE key = 'next_overlay_id'", [], |row| unsigned(row, 0))?,
        verdicts,
        serials: serials.into_iter().collect(),
        holds: all(connection, "SELECT name FROM holds ORDER BY name", |row| row.get(0))?,
        versions: all(connection, "SELECT zone, content FROM zone_versions", |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect(),
        tokens: tokens(connection)?,
        withdrawals: all(connection, "SELECT zone, at FROM withdrawals ORDER BY at", |row| Ok((row.get(0)?, unsigned(row, 1)?)))?,
    })
}

/// Keeps an open overlay; false when one of that id has ended.
pub(super) fn put_overlay(connection: &Connection, overlay: &Overlay) -> rusqlite::Result<bool> {
    let json = serde_json::to_string(overlay).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let id = signed(overlay.id);
    let written = connection
        .prepare_cached(
            "INSERT INTO overlays (id, json) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET json = excluded.json WHERE ended_how IS NULL",
        )?
        .execute(params![id, json])?;
    connection.execute("UPDATE meta SET value = max(value, ?1) WHERE key = 'next_overlay_id'", [id.saturating_add(1)])?;
    Ok(written == 1)
}

/// Ends an open overlay; false when there is none of that id.
pub(super) fn end_overlay(connection: &Connection, id: u64, how: &str, by: &str, at: u64) -> rusqlite::Result<bool> {
    let ended = connection
        .prepare_cached("UPDATE overlays SET ended_how = ?2, ended_by = ?3, ended_at = ?4 WHERE id = ?1 AND ended_how IS NULL")?
        .execute(params![signed(id), how, by, signed(at)])?;
    connection
        .prepare_cached(
            "DELETE FROM overlays WHERE ended_how IS NOT NULL AND id <
             (SELECT id FROM overlays WHERE ended_how IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([signed(MAX_ENDED_OVERLAYS - 1)])?;
    Ok(ended == 1)
}

pub(super) fn put_verdicts(connection: &Connection, verdicts: &[Verdict]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO verdicts VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for verdict in verdicts {
        put.execute(params![verdict.key, verdict.state.word(), signed(verdict.since_unix), signed(verdict.last_check_unix), verdict.last_error])?;
    }
    let newest = verdicts.iter().map(|verdict| verdict.last_check_unix).max().unwrap_or(0);
    connection
        .prepare_cached("DELETE FROM verdicts WHERE max(last_check, since) < ?1")?
        .execute([signed(newest.saturating_sub(MAX_VERDICT_AGE_SECS))])?;
    Ok(())
}

pub(super) fn put_serial(connection: &Connection, zone: &str, serial: &Serial) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO serials VALUES (?1, ?2, ?3)")?.execute(params![zone, serial.serial, serial.content])?;
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

pub(super) fn put_token(connection: &Connection, token: &SavedToken) -> rusqlite::Result<()> {
    let json = serde_json::to_string(&token.info).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection.prepare_cached("INSERT OR REPLACE INTO tokens (id, hash, json) VALUES (?1, ?2, ?3)")?.execute(params![
        token.info.id,
        token.hash.as_slice(),
        json
    ])?;
    Ok(())
}

pub(super) fn forget_token(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn put_withdrawal(connection: &Connection, zone: &str, at: u64, since: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM withdrawals WHERE zone = ?1 AND at <= ?2")?.execute(params![zone, signed(since)])?;
    connection.prepare_cached("INSERT INTO withdrawals VALUES (?1, ?2)")?.execute(params![zone, signed(at)])?;
    Ok(())
}

/// A token that cannot be read opens nothing; it is left as it is.
fn tokens(connection: &Connection) -> rusqlite::Result<Vec<SavedToken>> {
    let read = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?));
    let rows = all(connection, "SELECT hash, json FROM tokens ORDER BY id", read)?;
    let token = |(hash, json): (Vec<u8>, String)| Some(SavedToken { info: serde_json::from_str(&json).ok()?, hash: hash.try_into().ok()? });
    Ok(rows.into_iter().filter_map(token).collect())
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
