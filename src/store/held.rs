//! The open state file, and whether it is still the one at its path. What is written to a file that was moved away or removed is acknowledged and
//! gone with the next start, so the path is looked at before anything is written and before anything is acknowledged.
//!
//! ```text
//! at the path        what is done
//! the open file      nothing
//! nothing            the whole of it is written there anew, beside it first, and goes on from there
//! another file       nothing is kept until the one that is open is back, or a restart takes the other; what is open goes into a file beside it
//! its log is gone    the file is closed, which writes the log back into it, and opened again
//! ```

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::room::{self, Room};
use super::{StoreError, rows, schema};

/// Files that are set aside at most: whoever puts others in the place of the open one that often does not look at them.
const MAX_ASIDE: u32 = 9;

/// Device and inode.
type FileId = (u64, u64);

/// The open file.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` when it could not be opened again.
    connection: Option<Connection>,
    /// The file itself, for what the connection does not say to the disk. Closing it lets go of the connection's lock (POSIX), so it is closed after that.
    beside: Option<File>,
    path: PathBuf,
    file: Option<FileId>,
    log: Option<FileId>,
    /// What was done to keep what it holds, until it is told.
    mended: Option<String>,
    /// While another file is in its place: what it holds, in a file beside that, if that could be written.
    aside: Option<Option<PathBuf>>,
    /// What the connection leaves of the log when it begins anew.
    log_kept: Cell<Option<u64>>,
}

impl Held {
    /// A file that was just opened.
    pub(super) fn new(connection: Connection, path: &Path) -> Held {
        let mut held = Held {
            connection: None,
            beside: None,
            path: path.to_owned(),
            file: None,
            log: None,
            mended: None,
            aside: None,
            log_kept: Cell::new(None),
        };
        held.hold(connection);
        held
    }

    /// All that was set aside is at the path again.
    fn forget_aside(&mut self) {
        if let Some(Some(aside)) = self.aside.take() {
            let _ = fs::remove_file(aside);
        }
    }

    fn hold(&mut self, connection: Connection) {
        self.forget_aside();
        self.log_kept.set(None);
        self.connection = Some(connection);
        self.beside = OpenOptions::new().write(true).open(&self.path).ok();
        self.file = id_of(&self.path).ok().flatten();
        self.log = id_of(&self.named("-wal")).ok().flatten();
    }

    /// The connection, unless the file is out of reach.
    pub(super) fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or_else(|| self.replaced())
    }

    /// What was done since this was last asked.
    pub(super) fn take_mended(&mut self) -> Option<String> {
        self.mended.take()
    }

    /// Looks whether what is at the path is what is open, and sees to it as far as nothing is lost by that. Must not be called within a transaction.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            return self.open_again();
        }
        match id_of(&self.path) {
            Ok(None) => self.write_anew(),
            Ok(found) if found != self.file => {
                if self.aside.is_none() {
                    self.aside = Some(self.set_aside());
                }
                Err(self.replaced())
            }
            // A folder that cannot be looked into says nothing.
            Err(_) => Ok(()),
            Ok(Some(_)) if self.aside.is_some() => {
                self.forget_aside();
                self.look()
            }
            Ok(Some(_)) => match (self.log, id_of(&self.named("-wal"))) {
                (Some(log), Ok(found)) if found != Some(log) => {
                    // Closing writes the log that is open back into the file.
                    if let Some(connection) = self.connection.take() {
                        let _ = schema::keep_log(&connection, false);
                    }
                    self.mended = Some(format!("the log of {} was gone: what was in it was written into the file", self.path.display()));
                    self.open_again()
                }
                (None, Ok(found)) => {
                    self.log = found;
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    /// Sees to room on the disk. Must not be called within a transaction.
    pub(super) fn make_room(&self, holds: bool) -> Room {
        self.connection.as_ref().map_or(Room::Enough, |connection| room::make(connection, &self.path, &self.named("-wal"), holds, &self.log_kept))
    }

    /// Sees to it that the disk has all pages of a transaction that is about to end.
    pub(super) fn hold_file(&self) -> io::Result<()> {
        match (&self.connection, &self.beside) {
            (Some(connection), Some(file)) => room::hold_file(connection, file),
            _ => Ok(()),
        }
    }

    /// Holds pages of the file for taking back; whether it could. Must not be called within a transaction.
    pub(super) fn hold_pages(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let hold = || {
            rows::run(connection, "BEGIN IMMEDIATE").ok()?;
            room::hold_pages(connection).ok()?;
            self.hold_file().ok()?;
            rows::run(connection, "COMMIT").ok()
        };
        let is_held = hold().is_some();
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        is_held
    }

    /// Before the end: on a full disk the log stays, for the next run might get no other.
    pub(super) fn close(self) {
        if let Some(connection) = &self.connection
            && self.make_room(false).full().is_some()
        {
            let _ = schema::keep_log(connection, true);
        }
    }

    fn open_again(&mut self) -> Result<(), StoreError> {
        self.beside = None;
        if self.file.is_some() && id_of(&self.path).is_ok_and(|found| found != self.file) {
            return Err(self.replaced());
        }
        let opened = schema::open(&self.path)?;
        schema::keep_log(&opened, false).map_err(|error| schema::explain(&self.path, error))?;
        self.hold(opened);
        Ok(())
    }

    fn replaced(&self) -> StoreError {
        StoreError::Replaced { path: self.path.clone(), aside: self.aside.clone().flatten() }
    }

    /// Writes everything that is held into a file of its own, beside the one that has taken its place: a restart would lose it.
    fn set_aside(&self) -> Option<PathBuf> {
        let aside = (1..=MAX_ASIDE).map(|number| self.named(&format!(".aside-{number}"))).find(|path| !path.exists())?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).ok()?;
        let written = self.connection.as_ref()?.execute("VACUUM INTO ?1", [aside.to_str()?]).is_ok();
        if written && File::open(&aside).and_then(|file| file.sync_all()).is_ok() {
            return Some(aside);
        }
        let _ = fs::remove_file(&aside);
        None
    }

    /// Nothing is at the path: everything that is held goes there, and on from there.
    fn write_anew(&mut self) -> Result<(), StoreError> {
        let aside = self.named(".anew");
        let open =
            |detail: String| StoreError::Open { path: self.path.clone(), detail: format!("it was gone, and cannot be written anew: {detail}") };
        let failed = |error: io::Error| open(error.to_string());
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let _ = fs::remove_file(&aside);
        // SQLite fills an empty file, and this one is its owner's alone from the start.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(failed)?;
        let name = aside.to_str().ok_or_else(|| open("its name is no UTF-8".into()))?;
        let copied = self.connection()?.execute("VACUUM INTO ?1", [name]).map_err(|error| open(error.to_string()));
        // The copy is on disk before it takes the name; a log of the file that is gone would be taken for its own.
        let placed =
            copied.and_then(|_| File::open(&aside).and_then(|copy| copy.sync_all()).and_then(|()| place(&aside, &self.path)).map_err(failed));
        if let Err(error) = placed {
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        let _ = fs::remove_file(self.named("-wal"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let opened = schema::open(&self.path)?;
        schema::keep_log(&opened, false).map_err(|error| schema::explain(&self.path, error))?;
        if let Some(before) = &self.connection {
            // It must not remove the log of the new one, whose name is the same.
            let _ = schema::keep_log(before, true);
        }
        self.hold(opened);
        self.mended = Some(format!("{} was gone: all that it held was written there anew", self.path.display()));
        Ok(())
    }

    fn named(&self, end: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(end);
        name.into()
    }
}

/// Gives a file a name that nothing has.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system has links.
        Err(_) => fs::rename(from, to),
    }
}

/// What is at a path; `None` for nothing.
fn id_of(path: &Path) -> io::Result<Option<FileId>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Held {
        let connection = schema::open(path).expect("open");
        schema::keep_log(&connection, false).expect("set");
        connection.execute_batch("CREATE TABLE t (x INTEGER)").expect("made");
        Held::new(connection, path)
    }

    fn add(held: &mut Held, x: i64) {
        held.look().expect("it is there");
        held.connection().expect("open").execute("INSERT INTO t VALUES (?1)", [x]).expect("kept");
    }

    fn sum(path: &Path) -> i64 {
        let connection = schema::open(path).expect("open");
        connection.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).expect("read")
    }

    #[test]
    fn what_is_kept_survives_whatever_is_taken_away() {
        let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        type Take = fn(&Path, &Path);
        let takes: [(&str, Take); 5] = [
            ("the file", |path, _| fs::remove_file(path).expect("removed")),
            ("the log", |_, log| fs::remove_file(log).expect("removed")),
            ("both", |path, log| [path, log].into_iter().for_each(|one| fs::remove_file(one).expect("removed"))),
            ("the folder", |path, _| fs::remove_dir_all(path.parent().expect("a folder")).expect("removed")),
            ("the file's name", |path, _| fs::rename(path, path.with_extension("away")).expect("moved")),
        ];
        for (what, take) in takes {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("state/meridian.db");
            let mut held = open(&path);
            add(&mut held, 1);
            take(&path, &log(&path));
            add(&mut held, 2);
            assert!(held.take_mended().is_some() && held.take_mended().is_none(), "{what}");
            // Once more, with what was made meanwhile.
            take(&path, &log(&path));
            add(&mut held, 4);
            drop(held);
            assert_eq!(sum(&path), 7, "{what}");
        }
    }

    #[test]
    fn another_file_in_its_place_is_left_alone_until_it_is_back() {
        let folder = tempfile::tempdir().expect("folder");
        let (path, away) = (folder.path().join("meridian.db"), folder.path().join("away.db"));
        let mut held = open(&path);
        add(&mut held, 1);
        fs::rename(&path, &away).expect("moved");
        fs::write(&path, "another").expect("written");
        let aside = held.named(".aside-1");
        for _ in 0..2 {
            assert_eq!(held.look(), Err(StoreError::Replaced { path: path.clone(), aside: Some(aside.clone()) }));
        }
        assert_eq!((fs::read_to_string(&path).expect("there"), sum(&aside)), ("another".into(), 1));
        fs::rename(&away, &path).expect("moved back");
        add(&mut held, 2);
        assert_eq!((held.take_mended(), aside.exists()), (None, false));
        // One that is put over it leaves nothing to put back but what was set aside.
        fs::write(&away, "another").expect("written");
        fs::rename(&away, &path).expect("moved over it");
        assert!(matches!(held.look(), Err(StoreError::Replaced { aside: Some(_), .. })));
        drop(held);
        assert_eq!(sum(&aside), 3);
    }
}
