//! The only way to files: real ones, or texts kept in memory (the last good version of a zone, tests).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read: a master file of ten million records is below it, and a device or a runaway file is not.
pub const MAX_FILE_LEN: u64 = 1 << 30;
/// The largest TOML file: its parsed tree takes several times its length in memory.
pub const MAX_TOML_LEN: usize = 64 << 20;
/// The most entries of a zone folder that are looked at.
pub(super) const MAX_FOLDER_ENTRIES: usize = 100_000;

/// Where files are read from.
pub trait Files {
    /// The whole content of a regular file; symlinks are followed.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The regular files (or links to such) directly in a folder, in path order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// The path without links and dots, for asking whether one thing is below another.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
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
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", MAX_FILE_LEN >> 20));
        // Asked before it is opened: opening a FIFO would wait for its other end.
        let meta = fs::metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if meta.len() > MAX_FILE_LEN {
            return Err(too_large());
        }
        let mut content = Vec::with_capacity(meta.len() as usize);
        fs::File::open(path)?.take(MAX_FILE_LEN + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_LEN {
            return Err(too_large());
        }
        Ok(content)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (count, entry) in fs::read_dir(dir)?.enumerate() {
            if count >= MAX_FOLDER_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FOLDER_ENTRIES} entries")));
            }
            let path = entry?.path();
            // A dangling link is listed, so that reading it says what is wrong instead of silence.
            if fs::metadata(&path).map_or(true, |meta| meta.is_file()) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        fs::metadata(path).ok().map(|meta| meta.permissions().mode())
    }
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

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let dir = lexical(dir);
        let found: Vec<PathBuf> = self.0.keys().filter(|path| path.parent() == Some(dir.as_path())).cloned().collect();
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
pub(super) fn io_words(error: &io::Error) -> String {
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
    fn folders_in_memory_are_flat() {
        let files = MemoryFiles::from_texts([("c/zones/a.toml", "1"), ("c/zones/deep/b.toml", "2"), ("c/m.toml", "3")]);
        assert_eq!(files.list(Path::new("c/./zones")).expect("folder"), [PathBuf::from("c/zones/a.toml")]);
        assert_eq!(files.read(Path::new("c/zones/../m.toml")).expect("file"), b"3");
        assert!(files.list(Path::new("elsewhere")).is_err());
    }
}
