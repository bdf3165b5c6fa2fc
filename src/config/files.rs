//! The only way to files: real ones, or texts kept in memory (the last good version of a zone, tests).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The largest file that is read: a master file of ten million records is below it, and a device or a runaway file is not.
pub const MAX_FILE_LEN: u64 = 1 << 30;
/// The largest TOML file: its parsed tree takes several times its length in memory.
pub const MAX_TOML_LEN: usize = 64 << 20;
/// The most entries of a zone folder that are looked at.
pub(super) const MAX_FOLDER_ENTRIES: usize = 1_000_000;

/// What tells an unchanged file without reading it. The time of change (`ctime`) is the system's own: nobody sets it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that was changed so shortly ago may change once more without a change of its time: clocks of file systems tick every 10 ms at the latest.
const TICK_NS: i128 = 100_000_000;
/// The same where they count whole seconds, or two (FAT).
const COARSE_TICK_NS: i128 = 2_500_000_000;

impl Stamp {
    /// Octets.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The stamp of a file as it is at `now`, nanoseconds since 1970; `None` when it is too young to tell it from its next version.
    fn of(meta: &fs::Metadata, now: i128) -> Option<Stamp> {
        let changed = (meta.ctime(), meta.ctime_nsec());
        let tick = if changed.1 == 0 { COARSE_TICK_NS } else { TICK_NS };
        let age = now - (i128::from(changed.0) * 1_000_000_000 + i128::from(changed.1));
        let modified = (meta.mtime(), meta.mtime_nsec());
        (age >= tick).then_some(Stamp { device: meta.dev(), inode: meta.ino(), len: meta.len(), modified, changed })
    }
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

/// A file that is being read.
pub struct Opened<'f> {
    /// Its octets.
    pub octets: Box<dyn Read + 'f>,
    /// As it is now; `None` when that says nothing about its content.
    pub stamp: Option<Stamp>,
}

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The folder's path and its name.
    pub path: PathBuf,
    /// It may lie elsewhere.
    pub is_link: bool,
}

/// Where files are read from.
pub trait Files: Sync {
    /// The whole content of a regular file; symlinks are followed.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// A regular file to be read from its front, at most [`MAX_FILE_LEN`].
    fn open<'f>(&'f self, path: &Path) -> io::Result<Opened<'f>> {
        Ok(Opened { octets: Box::new(io::Cursor::new(self.read(path)?)), stamp: None })
    }
    /// The stamp of a file, if there is one to be relied on.
    fn stamp(&self, _path: &Path) -> Option<Stamp> {
        None
    }
    /// The regular files (or links to such, which is told) directly in a folder, in path order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;
    /// The path without links and dots, for asking whether one thing is below another.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// What was found good before is read, perhaps by other rules: which files it may name was asked then, and is asked when they are used.
    fn are_kept(&self) -> bool {
        false
    }
    /// The permission bits of a file; `None` where files have none.
    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

/// The files of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (file, meta) = open_regular(path)?;
        let mut content = Vec::with_capacity(meta.len() as usize);
        file.take(MAX_FILE_LEN + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_LEN {
            return Err(too_large());
        }
        Ok(content)
    }

    fn open<'f>(&'f self, path: &Path) -> io::Result<Opened<'f>> {
        let now = now_ns();
        let (file, meta) = open_regular(path)?;
        Ok(Opened { octets: Box::new(file.take(MAX_FILE_LEN)), stamp: Stamp::of(&meta, now) })
    }

    /// Opens the file for it: on a network file system that asks the server, where a look at the name alone may be answered from memory.
    fn stamp(&self, path: &Path) -> Option<Stamp> {
        let now = now_ns();
        let (_, meta) = open_regular(path).ok()?;
        Stamp::of(&meta, now)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for (count, entry) in fs::read_dir(dir)?.enumerate() {
            if count >= MAX_FOLDER_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FOLDER_ENTRIES} entries")));
            }
            let entry = entry?;
            let path = entry.path();
            // Most file systems say without being asked again. A dangling link is listed, so that reading it says what is wrong instead of silence.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file || fs::metadata(&path).map_or(true, |meta| meta.is_file()) {
                found.push(Listed { path, is_link: !is_file });
            }
        }
        // They differ in their last part alone: octets say the same as parts, and sooner.
        found.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        Ok(found)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        fs::metadata(path).ok().map(|meta| meta.permissions().mode())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", MAX_FILE_LEN >> 20))
}

/// Opens a regular file of bearable length. Opening something else, a FIFO, does not wait for its other end.
fn open_regular(path: &Path) -> io::Result<(fs::File, fs::Metadata)> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.len() > MAX_FILE_LEN { Err(too_large()) } else { Ok((file, meta)) }
}

/// Texts in memory under their paths. Knows no links.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub BTreeMap<PathBuf, Arc<[u8]>>);

impl MemoryFiles {
    /// From pairs of path and text.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> MemoryFiles {
        MemoryFiles(texts.into_iter().map(|(path, text)| (PathBuf::from(path), Arc::from(text.as_bytes()))).collect())
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = lexical(path);
        let content = self.0.get(&path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
        Ok(content.to_vec())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let dir = lexical(dir);
        let of_folder = self.0.keys().filter(|path| path.parent() == Some(dir.as_path()));
        let found: Vec<Listed> = of_folder.map(|path| Listed { path: path.clone(), is_link: false }).collect();
        if found.is_empty() && !self.0.keys().any(|path| path.starts_with(&dir)) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such folder"));
        }
        Ok(found)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(lexical(path))
    }
}

/// The path with `.` left out and `..` taken back, without looking at the disk.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::ParentDir if out.has_root() => {}
            other => out.push(other),
        }
    }
    out
}

/// What went wrong in words for a report: the system's, in lower case and without its number.
pub(crate) fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_taken_out_of_paths() {
        for (path, expected) in [("./a/b", "a/b"), ("a/../b", "b"), ("../a", "../a"), ("/../a", "/a"), ("a/./b/../c", "a/c"), ("../../a/..", "../..")]
        {
            assert_eq!(lexical(Path::new(path)), PathBuf::from(expected), "{path}");
        }
    }

    #[test]
    fn a_stamp_is_relied_on_only_when_a_later_change_must_show() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, "1").expect("written");
        let meta = fs::metadata(&path).expect("there");
        let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        let tick = if meta.ctime_nsec() == 0 { COARSE_TICK_NS } else { TICK_NS };
        for (age, told) in [(-1_000_000_000_000, false), (0, false), (tick - 1, false), (tick, true), (1_000_000_000_000, true)] {
            assert_eq!(Stamp::of(&meta, changed + age).is_some(), told, "{age}");
        }
        let before = Stamp::of(&meta, changed + tick);
        // As long and, by its owner's wish, as old as before: the time of change tells.
        let began = std::time::Instant::now();
        loop {
            fs::write(&path, "2").expect("written");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(meta.modified().expect("a time")).expect("set");
            let after = Stamp::of(&fs::metadata(&path).expect("there"), changed + 10 * tick);
            if after.is_some() && after != before {
                break;
            }
            assert!(began.elapsed().as_nanos() < tick as u128, "the time of change shows within the tick that is waited for");
        }
        assert_eq!(OsFiles.stamp(folder.path()), None, "a folder is no file");
    }

    #[test]
    fn folders_in_memory_are_flat() {
        let files = MemoryFiles::from_texts([("c/zones/a.toml", "1"), ("c/zones/deep/b.toml", "2"), ("c/m.toml", "3")]);
        assert_eq!(files.list(Path::new("c/./zones")).expect("folder"), [Listed { path: "c/zones/a.toml".into(), is_link: false }]);
        assert_eq!(files.read(Path::new("c/zones/../m.toml")).expect("file"), b"3");
        assert!(files.list(Path::new("elsewhere")).is_err());
    }
}
