//! The texts of a zone's last good version: small ones in rows, large ones as files in a folder beside the state file, named by their hash.
//!
//! ```text
//! files ──copy, in parts──▶ HASH.new ──the row is written──▶ HASH ──no row names it any more──▶ gone
//! ```
//!
//! A file is kept only if what was copied is what was loaded. Copying takes neither memory nor the store's thread.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{MAX_ZONE_VERSION_BYTES, StoreError};
use crate::config::TextHash;

/// Texts up to this length are kept in rows: a page or a few of the database, instead of a file each.
const MAX_ROW_LEN: usize = 64 * 1024;
/// Octets copied at a time.
const PART_LEN: usize = 256 * 1024;
/// Marks a copy that no row names yet.
const NEW: &str = "new";

/// The last good version of a zone, to be kept.
#[derive(Clone, Debug)]
pub struct ZoneFiles {
    /// Its name.
    pub zone: String,
    /// Hash of what it says; a start compares it with what it loads.
    pub content: String,
    /// Its files.
    pub files: Vec<ZoneFile>,
}

/// A file of a zone.
#[derive(Clone, Debug)]
pub struct ZoneFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Hash of what was loaded from it.
    pub hash: u128,
    /// What was loaded from it, if that is still at hand.
    pub text: Option<Arc<[u8]>>,
}

/// A text as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// In the row.
    Row(Vec<u8>),
    /// In a file of this name.
    File(String),
}

/// The folder of large texts beside a state file.
pub(super) fn folder_of(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push("-zones");
    name.into()
}

/// Reads or copies the files of a zone.
pub(super) fn gather(folder: &Path, files: &ZoneFiles) -> Result<BTreeMap<PathBuf, Text>, StoreError> {
    let mut texts = BTreeMap::new();
    let mut found = 0;
    for ZoneFile { path, hash, text } in &files.files {
        if let Some(text) = text.as_ref().filter(|text| TextHash::of(text) == *hash) {
            found += text.len();
            texts.insert(path.clone(), Text::Row(text.to_vec()));
            continue;
        }
        let failed = |error: io::Error| StoreError::Failed { detail: format!("{}: {error}", path.display()) };
        let mut input = File::open(path).map_err(failed)?;
        let len = input.metadata().map_err(failed)?.len() as usize;
        found += len;
        if found > MAX_ZONE_VERSION_BYTES {
            return Err(StoreError::TooLarge { what: "texts of a zone", found, limit: MAX_ZONE_VERSION_BYTES });
        }
        let (text, copied) = if len <= MAX_ROW_LEN {
            let mut octets = Vec::with_capacity(len);
            input.take(MAX_ROW_LEN as u64 + 1).read_to_end(&mut octets).map_err(failed)?;
            let copied = TextHash::of(&octets);
            (Text::Row(octets), copied)
        } else {
            let name = format!("{hash:032x}");
            let copied = copy(&mut input, folder, &folder.join(&name).with_extension(NEW)).map_err(failed)?;
            (Text::File(name), copied)
        };
        if copied != *hash {
            if let Text::File(name) = text {
                // Should that fail, the next start does it.
                let _ = fs::remove_file(folder.join(name).with_extension(NEW));
            }
            return Err(StoreError::Changed { path: path.clone() });
        }
        texts.insert(path.clone(), text);
    }
    Ok(texts)
}

fn copy(input: &mut File, folder: &Path, to: &Path) -> io::Result<u128> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let (mut part, mut hash) = (vec![0; PART_LEN], TextHash::default());
    loop {
        let len = input.read(&mut part)?;
        if len == 0 {
            break;
        }
        hash.add(&part[..len]);
        output.write_all(&part[..len])?;
    }
    output.sync_data()?;
    Ok(hash.finish())
}

/// Gives a copy the name that its row will have.
pub(super) fn settle(folder: &Path, texts: &BTreeMap<PathBuf, Text>) -> io::Result<()> {
    let mut names = texts.values().filter_map(|text| if let Text::File(name) = text { Some(name) } else { None }).peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    for name in names {
        let (copy, kept) = (folder.join(name).with_extension(NEW), folder.join(name));
        match fs::rename(copy, &kept) {
            // Two zones may keep the same text.
            Err(error) if error.kind() == io::ErrorKind::NotFound && kept.exists() => {}
            other => other?,
        }
    }
    File::open(folder)?.sync_all()
}

/// Removes texts that no row names; copies that are under way too when `with_new`.
pub(super) fn clean(folder: &Path, named: &HashSet<String>, with_new: bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_new = path.extension().is_some_and(|extension| extension == NEW);
        let is_named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| named.contains(name));
        if if is_new { with_new } else { !is_named } {
            // What stays is removed by the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// The octets of a kept text; `None` when its file is not what it was.
pub(super) fn read(folder: &Path, text: Text) -> Option<Vec<u8>> {
    match text {
        Text::Row(octets) => Some(octets),
        Text::File(name) => fs::read(folder.join(&name)).ok().filter(|octets| format!("{:032x}", TextHash::of(octets)) == name),
    }
}
