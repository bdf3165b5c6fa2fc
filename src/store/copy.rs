//! A copy of a state file on a disk that takes no writes, or that another process has, so that what it holds can be read: its log is part of it, and
//! the database reads a log only where it can write and nobody else does.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::thread::unreadable;
use super::{Saved, StoreError, room, schema, texts};

/// Memory, where the system has such a place; tokens' hashes are in the file.
const MEMORY: &str = "/dev/shm";

/// A copy that is open. Its file has no name any more: it goes with the last handle.
#[derive(Clone, Debug)]
pub struct Copied {
    connection: Arc<Mutex<Connection>>,
    /// Large texts of zones, of the original.
    texts: Arc<Path>,
}

impl Copied {
    /// Copies a file and its log. In memory, or where that has no room, where the system keeps what is not meant to stay.
    pub(super) fn take(path: &Path) -> Result<Copied, StoreError> {
        // To read what is no file may take for ever.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(StoreError::Open { path: path.to_owned(), detail: "not a regular file".into() });
        }
        let mut last = StoreError::Open { path: path.to_owned(), detail: "there is no place for a copy".into() };
        for place in [PathBuf::from(MEMORY), std::env::temp_dir()] {
            let Ok(folder) = folder(&place) else { continue };
            let opened = copy(path, &folder).and_then(|copy| {
                let connection = schema::open(&copy)?;
                // From here on the one file is all of it.
                room::write_back(&connection);
                Ok(connection)
            });
            let _ = fs::remove_dir_all(&folder);
            match opened {
                Ok(connection) => return Ok(Copied { connection: Arc::new(Mutex::new(connection)), texts: texts::folder_of(path).into() }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// All that it holds; `path` is that of the original.
    pub(super) fn saved(&self, path: &Path) -> Result<Saved, StoreError> {
        super::read(&self.connection.lock().unwrap_or_else(PoisonError::into_inner), path)
    }

    /// Where large texts of zones are.
    pub(super) fn texts(&self) -> Arc<Path> {
        self.texts.clone()
    }

    /// Reads it on a thread that may wait.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = self.connection.clone();
        let work = move || read(&connection.lock().unwrap_or_else(PoisonError::into_inner)).map_err(unreadable);
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A new folder for a copy, for its owner alone.
fn folder(place: &Path) -> io::Result<PathBuf> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let path = place.join(format!("meridian-{}-{nanos}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&path).map(|()| path)
}

/// Times a copy is made again when the file was written meanwhile, and the pause before it: whoever writes all the time has their changes from us.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Copies file and log as they were at one moment; returns the copy.
fn copy(path: &Path, folder: &Path) -> Result<PathBuf, StoreError> {
    for _ in 0..TRIES {
        let before = stamps(path);
        let copy = take_once(path, folder)?;
        if stamps(path) == before {
            return Ok(copy);
        }
        #[allow(clippy::disallowed_methods, reason = "another process tells nobody when it is done, and this is at start")]
        std::thread::sleep(PAUSE);
    }
    Err(StoreError::Open { path: path.to_owned(), detail: "another process writes it all the time".into() })
}

/// What of file and log tells that they were written.
fn stamps(path: &Path) -> [Option<(u64, SystemTime)>; 2] {
    ["", "-wal"].map(|end| fs::metadata(with(path, end)).and_then(|found| Ok((found.len(), found.modified()?))).ok())
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

fn take_once(path: &Path, folder: &Path) -> Result<PathBuf, StoreError> {
    let copy = folder.join("state.db");
    for end in ["", "-wal"] {
        let (from, to) = (with(path, end), with(&copy, end));
        let done = match fs::copy(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !end.is_empty() => {
                // Left by the copy before.
                let _ = fs::remove_file(&to);
                continue;
            }
            done => done.and_then(|_| fs::set_permissions(&to, Permissions::from_mode(0o600))),
        };
        done.map_err(|error| StoreError::Open { path: from, detail: error.to_string() })?;
    }
    Ok(copy)
}
