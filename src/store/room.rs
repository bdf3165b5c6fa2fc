//! Room on the disk of the state. A full disk refuses what adds to the state before it refuses what takes something back, and the log never takes the
//! room that the file needs to take it in.
//!
//! ```text
//! left of the disk              what is done
//! twice the log and more        nothing: the database writes the log back by itself, every thousand pages
//! less                          the log is written back and cut before anything is written
//! and less than RESERVE         what adds is refused; what takes back or replaces goes on into what is left, and for its entry in the audit log
//!                               the oldest entries there give way ([`LogSize::give_way`](super::log::LogSize::give_way))
//! ```

use std::path::Path;

use rusqlite::Connection;

use crate::sys;

/// Kept for taking things back: the log of one change and the pages that it grows the file by take some 30 KiB, and each entry of the audit log
/// under one. Pages of the file that are free count.
const RESERVE: u64 = 96 << 10;
/// Without so much on the disk itself the log has no room for another change.
const LOG_ROOM: u64 = 32 << 10;

/// Writes the log back if it has come to a good part of what is left. `Some` when nothing should be added: so many octets are left. Must not be called
/// within a transaction.
pub(super) fn make(connection: &Connection, file: &Path, log: &Path) -> Option<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut free = sys::free_room(folder)?;
    let log = std::fs::metadata(log).map_or(0, |found| found.len());
    if log > 0 && log > free / 2 {
        write_back(connection);
        free = sys::free_room(folder)?;
    }
    if free >= RESERVE {
        return None;
    }
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| super::rows::unsigned(row, 0)).unwrap_or(0);
    let unused = number("freelist_count").saturating_mul(number("page_size"));
    (free < LOG_ROOM || free + unused < RESERVE).then_some(free)
}

/// Writes the log back into the file and cuts it. Where the disk has no room for that either, nothing is changed.
pub(super) fn write_back(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = done {
        tracing::debug!(target: "meridian::store", %error, "the log cannot be written back");
    }
}
