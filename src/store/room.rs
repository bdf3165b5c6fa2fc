//! Room on the disk of the state. A full disk refuses what adds to the state before it refuses what takes something back, and the log never takes the
//! room that the file needs. What taking back needs is held all the time, for another program may fill the disk:
//!
//! ```text
//! the log                       is never shorter than LOG_HELD: a change is written over what is there already
//! the file                      is made as long on the disk as it will be before a transaction ends, so that the log can always be written back
//! FILE_HELD of its pages        are full of nothing, and given up when the disk is full: what a change adds goes there
//!
//! left of the disk              what is done
//! twice the log and more        nothing: the database writes the log back by itself, every thousand pages
//! less                          the log is written back, begins anew, and is cut to what it holds
//! and less than RESERVE         what adds is refused
//! and a little more             for the entry in the audit log of what takes back or replaces the oldest entries there give way
//!                               ([`LogSize::give_way`](super::log::LogSize::give_way)), so that what was taken back leaves room for something new
//! ```
//!
//! File systems that never write over what is there (Btrfs, ZFS) hold nothing that way.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{CachedStatement, Connection};

use crate::sys;

/// Without so much on the disk, free pages of the file counted, nothing is added.
const RESERVE: u64 = 96 << 10;
/// With less than so much beside that, nothing that takes back takes any of it: what gives way for one entry, twice.
const MARGIN: u64 = 32 << 10;
/// And without so much on the disk itself.
const LEAST_FREE: u64 = 32 << 10;
/// Octets of the log that stay once it was written back and the disk has room: as much as it usually takes, so that they are not asked for again and again.
const LOG_LEFT: u64 = 4 << 20;
/// Held by the log: a change with its entry in the audit log, and what gives way to that, takes some 30 KiB.
pub(super) const LOG_HELD: u64 = 128 << 10;
/// Held in the file: far more than what a change adds.
const FILE_HELD: u64 = 64 << 10;

/// What gives way to an entry in the audit log counts by whole pages of the file, which serve many entries: as long as so much of it is free, and the disk has
/// no room whatever gives way, nothing does.
const FREE_FOR_ENTRIES: u64 = 32 << 10;
/// The newest changes stay, so many octets of them, unless hardly anything is free: whoever takes things back should find it in the log.
const SPARED: u64 = 16 << 10;

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Enough to hold some of it.
    Plenty,
    /// Enough to add to what is kept.
    Enough,
    /// The same, but hardly: so many octets are left.
    Little(u64),
    /// Nothing should be added: so many octets are left.
    None(u64),
}

impl Room {
    /// What is left, where nothing should be added.
    pub(super) fn full(self) -> Option<u64> {
        match self {
            Room::None(left) => Some(left),
            Room::Plenty | Room::Enough | Room::Little(_) => None,
        }
    }

    /// What is left, where what is kept gives way to what is written.
    pub(super) fn short(self) -> Option<u64> {
        match self {
            Room::None(left) | Room::Little(left) => Some(left),
            Room::Plenty | Room::Enough => None,
        }
    }
}

/// Sees to what the log holds, and writes it back if it has come to a good part of what is left. `holds` says whether pages of the file are held. Must not
/// be called within a transaction.
///
/// `kept` is how much of the log the connection leaves when it begins anew, where that is known.
pub(super) fn make(connection: &Connection, file: &Path, log: &Path, holds: bool, kept: &Cell<Option<u64>>) -> Room {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where nothing is known, nothing is refused.
    let mut free = sys::free_room(folder).unwrap_or(u64::MAX >> 1);
    let len = std::fs::metadata(log).map_or(0, |found| found.len());
    let is_tight = free < RESERVE || len > LOG_HELD && len > free / 2;
    let keep = if is_tight { LOG_HELD } else { LOG_LEFT };
    if kept.get() != Some(keep) && keep_of_log(connection, keep).is_ok() {
        kept.set(Some(keep));
    }
    if is_tight && checkpoint(connection, "RESTART") && len > LOG_HELD {
        // The first commit of a log cuts it. Otherwise it would be cut to nothing, and whoever writes there would take what it holds.
        let _ = connection.execute("INSERT INTO meta VALUES ('cuts', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1", []);
        free = sys::free_room(folder).unwrap_or(free);
    }
    hold_log(log);
    let unused = if free < 4 * RESERVE { unused(connection) } else { 0 };
    // Pages that were given up are for taking back alone.
    let unused = if holds { unused } else { unused.saturating_sub(FILE_HELD) };
    if free < LEAST_FREE || free + unused < RESERVE {
        Room::None(free)
    } else if free + unused < RESERVE + MARGIN {
        Room::Little(free)
    } else if free + unused >= 4 * RESERVE {
        Room::Plenty
    } else {
        Room::Enough
    }
}

/// Whether older entries of the audit log have to give way to one more, with so much left on the disk: how many octets of the newest changes do not.
pub(super) fn spared(connection: &Connection, left: u64) -> Option<u64> {
    let unused = unused(connection);
    let is_needed = left >= LEAST_FREE || unused < FREE_FOR_ENTRIES;
    is_needed.then_some(if unused < FREE_FOR_ENTRIES / 2 { 0 } else { SPARED })
}

/// Octets of the file that hold nothing.
fn unused(connection: &Connection) -> u64 {
    number(connection, "freelist_count").saturating_mul(number(connection, "page_size"))
}

/// Writes the log back into the file and cuts it. Where the disk has no room for that either, nothing is changed.
pub(super) fn write_back(connection: &Connection) {
    checkpoint(connection, "TRUNCATE");
}

/// What stays of the log when it begins anew.
fn keep_of_log(connection: &Connection, octets: u64) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA journal_size_limit = {octets}"), [], |_| Ok(()))
}

/// Whether all of it was written back.
fn checkpoint(connection: &Connection, how: &str) -> bool {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| Ok(row.get::<_, i64>(0)? == 0));
    done.unwrap_or_else(|error| {
        tracing::debug!(target: "meridian::store", %error, "the log cannot be written back");
        false
    })
}

/// Makes the log as long as it should be at least; what is behind its last entry says nothing.
fn hold_log(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|found| found.len() < LOG_HELD) {
        let done = OpenOptions::new().write(true).open(log).and_then(|log| extend(&log, LOG_HELD));
        if let Err(error) = done {
            tracing::debug!(target: "meridian::store", %error, "room for taking changes back cannot be held");
        }
    }
}

/// Makes the file as long as its pages need, those of a transaction that has not ended among them.
pub(super) fn hold_file(connection: &Connection, file: &File) -> io::Result<()> {
    extend(file, number(connection, "page_count").saturating_mul(number(connection, "page_size")))
}

fn number(connection: &Connection, name: &str) -> u64 {
    let read = |mut statement: CachedStatement<'_>| statement.query_row([], |row| super::rows::unsigned(row, 0));
    connection.prepare_cached(&format!("PRAGMA {name}")).and_then(read).unwrap_or(0)
}

fn extend(file: &File, len: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    // Not only its length: the disk must have it.
    let zeros = [0; 16 << 10];
    while at < len {
        let part = zeros.len().min(usize::try_from(len - at).unwrap_or(zeros.len()));
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// Holds pages of the file.
pub(super) fn hold_pages(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO held SELECT zeroblob(?1) WHERE NOT EXISTS (SELECT 1 FROM held)", [super::rows::signed(FILE_HELD)])
}

/// Gives them up, for whatever is written next.
pub(super) fn give_up_pages(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM held", [])
}
