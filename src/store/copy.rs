//! A copy of a state file on a disk that takes no writes, or that another process has, so that what it holds can be read: its log is part of it, and
//! the database reads a log only where it can write and nobody else does.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StoreError;

/// Memory, where the system has such a place; tokens' hashes are in the file.
const MEMORY: &str = "/dev/shm";

/// A new folder for the copy, for its owner alone.
pub(super) fn folder() -> io::Result<PathBuf> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = format!("meridian-{}-{nanos}", std::process::id());
    let make = |place: PathBuf| DirBuilder::new().mode(0o700).create(place.join(&name)).map(|()| place.join(&name));
    make(MEMORY.into()).or_else(|_| make(std::env::temp_dir()))
}

/// Times a copy is made again when the file was written meanwhile, and the pause before it: whoever writes all the time has their changes from us.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Copies file and log as they were at one moment; returns the copy.
pub(super) fn take(path: &Path, folder: &Path) -> Result<PathBuf, StoreError> {
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
