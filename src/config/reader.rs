//! Reading the files of one load: each with its hash, and without reading those that are as they were.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, Listed, Stamp, io_words};
use super::hash::TextHash;
use super::reach::{self, Reach};

/// How much of a file is read at a time when only its hash is wanted.
const PART_LEN: usize = 1 << 16;

/// Texts of the files that a load read, as far as they are remembered, by path.
pub type Texts = HashMap<PathBuf, Arc<[u8]>>;

/// Texts up to this length are remembered until they are kept for the next start; longer ones are read again for that.
const MAX_TEXT_LEN: usize = 64 << 10;
/// All of them together: many small zones, at the first start of all, are read again.
const MAX_TEXTS_LEN: usize = 64 << 20;

/// A file as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) hash: u128,
    /// As long as the file has this stamp it has this hash; `None` when nobody can tell without reading it.
    stamp: Option<Stamp>,
}

/// Reads the files of one load. Several threads may share it.
pub(super) struct Reader<'f> {
    files: &'f dyn Files,
    /// The folder of `meridian.toml`: what is below it is named relative to it.
    base: PathBuf,
    /// What more than one zone may ask for, by path.
    shared: Mutex<BTreeMap<PathBuf, Arc<[u8]>>>,
    seen: Mutex<HashMap<PathBuf, Seen>>,
    /// And their octets together.
    texts: Mutex<(Texts, usize)>,
    /// Files whose octets were looked at.
    reads: AtomicUsize,
}

impl<'f> Reader<'f> {
    pub(super) fn new(files: &'f dyn Files, base: &Path) -> Reader<'f> {
        Reader {
            files,
            base: base.to_path_buf(),
            shared: Mutex::default(),
            seen: Mutex::default(),
            texts: Mutex::default(),
            reads: AtomicUsize::new(0),
        }
    }

    /// The path as the user names it.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.base).unwrap_or(path);
        if below.as_os_str().is_empty() { path.to_path_buf() } else { below.to_path_buf() }
    }

    /// The content of a file; the error in words.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        let mut part = self.open(path)?;
        part.octets.read_to_end(&mut text).map_err(|error| io_words(&error))?;
        part.take(&text);
        part.finish();
        Ok(text)
    }

    /// [`Reader::read`] of a file that others of this load may ask for too.
    pub(super) fn read_shared(&self, path: &Path) -> Result<Arc<[u8]>, String> {
        if let Some(text) = lock(&self.shared).get(path) {
            return Ok(text.clone());
        }
        let text: Arc<[u8]> = self.read(path)?.into();
        lock(&self.shared).insert(path.to_path_buf(), text.clone());
        Ok(text)
    }

    /// A file to be read in parts.
    pub(super) fn open<'r>(&'r self, path: &'r Path) -> Result<Parts<'r>, String> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let opened = self.files.open(path).map_err(|error| io_words(&error))?;
        Ok(Parts { reader: self, path, octets: opened.octets, stamp: opened.stamp, hash: TextHash::default(), text: Some(Vec::new()) })
    }

    /// The hash of a file that this load has looked at.
    pub(super) fn seen(&self, path: &Path) -> Option<Seen> {
        lock(&self.seen).get(path).copied()
    }

    /// True when a file is what an earlier load saw. Its octets are looked at only where its stamp does not tell.
    pub(super) fn is_as(&self, path: &Path, before: &Seen) -> bool {
        if let Some(seen) = self.seen(path) {
            return seen.hash == before.hash;
        }
        let now = self.files.stamp(path);
        if now.is_some() && now == before.stamp {
            lock(&self.seen).insert(path.to_path_buf(), *before);
            return true;
        }
        // One that has another length is read once, to be parsed.
        if now.zip(before.stamp).is_some_and(|(now, before)| now.len() != before.len()) {
            return false;
        }
        self.hash(path).is_ok_and(|seen| seen.hash == before.hash)
    }

    /// True when the stamp alone says that a file is what an earlier load saw.
    pub(super) fn looks_as(&self, path: &Path, before: &Seen) -> bool {
        before.stamp.is_some() && self.files.stamp(path) == before.stamp
    }

    fn hash(&self, path: &Path) -> Result<Seen, String> {
        let mut parts = self.open(path)?;
        let mut room = vec![0; PART_LEN];
        while parts.read(&mut room)? > 0 {}
        Ok(parts.finish())
    }

    /// The path without links; a path that does not exist is its own.
    pub(super) fn canonical(&self, path: &Path) -> PathBuf {
        self.files.canonical(path).unwrap_or_else(|_| path.to_path_buf())
    }

    /// The same; one that does not exist lies where its folder does.
    pub(super) fn without_links(&self, path: &Path) -> PathBuf {
        reach::without_links(path, |path| self.files.canonical(path))
    }

    /// Why a zone file may not name this file. What was kept is not asked again.
    pub(super) fn refuses(&self, reach: &Reach, path: &Path) -> Option<&'static str> {
        reach.refuses(path, |path| self.without_links(path)).filter(|_| !self.files.are_kept())
    }

    /// The same where only what is the server's own may not be named.
    pub(super) fn refuses_own(&self, reach: &Reach, path: &Path) -> Option<&'static str> {
        reach.refuses_own(path, |path| self.without_links(path)).filter(|_| !self.files.are_kept())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.files.list(dir)
    }

    /// What is remembered of the texts of this load.
    pub(super) fn into_texts(self) -> Texts {
        self.texts.into_inner().unwrap_or_else(PoisonError::into_inner).0
    }

    /// How many files were read, not only looked at.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

/// A file that is being read.
pub(super) struct Parts<'r> {
    reader: &'r Reader<'r>,
    path: &'r Path,
    octets: Box<dyn Read + 'r>,
    stamp: Option<Stamp>,
    hash: TextHash,
    /// What was read; `None` when it is too much to be remembered.
    text: Option<Vec<u8>>,
}

impl Parts<'_> {
    /// Fills the front of `room`; 0 at the end. The error in words.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<usize, String> {
        loop {
            match self.octets.read(room) {
                Ok(len) => {
                    self.take(&room[..len]);
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_words(&error)),
            }
        }
    }

    fn take(&mut self, octets: &[u8]) {
        self.hash.add(octets);
        match &mut self.text {
            Some(text) if text.len() + octets.len() <= MAX_TEXT_LEN => text.extend_from_slice(octets),
            text => *text = None,
        }
    }

    /// The file is read to its end: remembers what it was.
    pub(super) fn finish(self) -> Seen {
        // One that changed under our hands has a hash of its own, which no stamp stands for.
        let stamp = self.stamp.filter(|before| self.reader.files.stamp(self.path) == Some(*before));
        let now = Seen { hash: self.hash.finish(), stamp };
        lock(&self.reader.seen).insert(self.path.to_path_buf(), now);
        if let Some(text) = self.text {
            let mut texts = lock(&self.reader.texts);
            if texts.1 + text.len() <= MAX_TEXTS_LEN {
                texts.1 += text.len();
                texts.0.insert(self.path.to_path_buf(), text.into());
            }
        }
        now
    }
}

/// What a thread that panicked left is whole: nothing is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
