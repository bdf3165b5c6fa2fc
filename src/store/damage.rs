//! Damage to the log of the state file (SQLite's write-ahead log, <https://sqlite.org/fileformat2.html#the_write_ahead_log>). SQLite reads a log up to
//! the first frame whose checksum is wrong, and takes everything behind it for a transaction that never ended. But of ours only the last can be
//! unfinished, for each is on disk before the next begins: whole transactions behind that frame were acknowledged, and are lost.

use std::path::{Path, PathBuf};

/// Longer logs than we ever write are not looked into.
const MAX_LOG: u64 = 256 << 20;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Pages are 512 to 65,536 octets.
const PAGES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// Acknowledged transactions that a log has lost at least.
pub(super) fn lost(log: &Path) -> Option<usize> {
    let is_ours = std::fs::metadata(log).is_ok_and(|found| found.is_file() && found.len() <= MAX_LOG);
    lost_in(&is_ours.then(|| std::fs::read(log).ok()).flatten()?)
}

/// Puts the log aside as it is, once; where to.
pub(super) fn set_aside(log: &Path) -> Option<PathBuf> {
    let mut aside = log.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    (!aside.exists() && std::fs::copy(log, &aside).is_ok()).then_some(aside)
}

fn lost_in(log: &[u8]) -> Option<usize> {
    let (header, frames) = log.split_at_checked(LOG_HEADER)?;
    let page = word(header, 8, true) as usize;
    if !PAGES.contains(&page) {
        return None;
    }
    let little = match word(header, 0, true) {
        0x377f_0682 => true,
        0x377f_0683 => false,
        _ => return None,
    };
    let salts = &header[16..24];
    let mut sums = checksum((0, 0), &header[..24], little);
    let mut is_whole = sums == (word(header, 24, true), word(header, 28, true));
    let (mut commits, mut behind_the_last) = (0, false);
    for frame in frames.chunks_exact(FRAME_HEADER + page) {
        let (head, data) = frame.split_at(FRAME_HEADER);
        // What an older round of the log left behind.
        if head[8..16] != *salts {
            break;
        }
        if is_whole {
            sums = checksum(checksum(sums, &head[..8], little), data, little);
            is_whole = sums == (word(head, 16, true), word(head, 20, true));
        }
        if !is_whole {
            let commits_here = word(head, 4, true) > 0;
            commits += usize::from(commits_here);
            behind_the_last = !commits_here;
        }
    }
    // The last of them may be one that was being written.
    let acknowledged = if behind_the_last { commits } else { commits.saturating_sub(1) };
    (acknowledged > 0).then_some(acknowledged)
}

fn word(octets: &[u8], at: usize, big: bool) -> u32 {
    let four: [u8; 4] = octets.get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
    if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
}

fn checksum((mut first, mut second): (u32, u32), octets: &[u8], little: bool) -> (u32, u32) {
    for at in (0..octets.len()).step_by(8) {
        first = first.wrapping_add(word(octets, at, !little)).wrapping_add(second);
        second = second.wrapping_add(word(octets, at + 4, !little)).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A log of so many transactions that nobody wrote back.
    fn log_of(transactions: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("t.db");
        let connection = Connection::open(&path).expect("open");
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x TEXT)").expect("made");
        for n in 1..transactions {
            connection.execute("INSERT INTO t VALUES (?1)", ["x".repeat(n * 100)]).expect("kept");
        }
        std::fs::read(folder.path().join("t.db-wal")).expect("a log")
    }

    #[test]
    fn a_whole_log_and_one_cut_at_its_end_have_lost_nothing() {
        let log = log_of(20);
        assert_eq!(lost_in(&log), None);
        assert_eq!(lost_in(&[]), None);
        for cut in [1, 500, FRAME_HEADER + 4096 + 1] {
            assert_eq!(lost_in(&log[..log.len() - cut]), None, "{cut}");
        }
        // The last transaction was being written.
        let mut torn = log.clone();
        let at = torn.len() - 100;
        torn[at] ^= 1;
        assert_eq!(lost_in(&torn), None);
    }

    #[test]
    fn a_bit_in_the_midst_loses_what_is_behind_it() {
        let log = log_of(20);
        let frames = (log.len() - LOG_HEADER) / (FRAME_HEADER + 4096);
        let mut before = usize::MAX;
        for frame in 0..frames - 3 {
            let mut damaged = log.clone();
            damaged[LOG_HEADER + frame * (FRAME_HEADER + 4096) + 1000] ^= 0x10;
            let found = lost_in(&damaged).expect("it is noticed");
            assert!(found <= before && found >= 1, "{frame}: {found}");
            before = found;
        }
        // Damaged at its head, all of it is.
        let mut damaged = log.clone();
        damaged[30] ^= 1;
        assert!(lost_in(&damaged) >= Some(18));
    }
}
