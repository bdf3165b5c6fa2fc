//! What one load keeps for the next: zones of files that are as they were are neither read nor parsed nor compiled again.
//!
//! ```text
//! the zone's files       libraries, defaults, folders      the zone
//! as they were           as they were, or a master file    taken as it is: the same tree, the same model
//! as they were           others                            made again, from files that are read again
//! one is another         any                               made again
//! had an error           any                               made again: what it missed may be there now
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunks::Chunks;
use super::hash::TextHash;
use super::load::{LoadedZone, ZoneSource};
use super::reach::Reach;
use super::reader::{Reader, Seen};
use super::resolve::Library;
use super::settings::Settings;
use super::source::Located;
use crate::dns::Name;
use crate::policy::model::Region;

/// The zones of one load, for the next.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Hash of what TOML zones depend on beside their own files; `None` when something was wrong with it.
    context: Option<u128>,
    /// What `$INCLUDE` could reach.
    reach: Reach,
    /// The same for a load of one zone alone.
    around: Option<Arc<Around>>,
    /// By the file that declares them.
    zones: HashMap<Arc<Path>, Arc<Vec<KnownZone>>>,
    /// Files whose octets were looked at.
    reads: usize,
}

/// What all zones of a load had in common, nothing of it wrong.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) settings: Settings,
    config: Seen,
    pub(super) library: Library,
    /// Of the library's files.
    library_seen: Vec<Seen>,
    /// Hash of the names in the zone folder.
    entries: u128,
}

impl Around {
    pub(super) fn new(reader: &Reader<'_>, settings: &Settings, library: Library, entries: &[PathBuf]) -> Option<Around> {
        let config = reader.seen(&settings.file)?;
        let library_seen = library.files.iter().map(|file| reader.seen(&file.path)).collect::<Option<Vec<Seen>>>()?;
        Some(Around { settings: settings.clone(), config, library, library_seen, entries: hash_of_names(entries) })
    }

    /// True when all of it is as it was; `entries` lists the zone folder.
    pub(super) fn holds(&self, reader: &Reader<'_>, entries: &[PathBuf]) -> bool {
        let library = self.library.files.iter().map(|file| &file.path).zip(&self.library_seen);
        let files = library.chain([(&self.settings.file, &self.config)]);
        hash_of_names(entries) == self.entries && files.into_iter().all(|(path, seen)| reader.is_as(path, seen))
    }
}

fn hash_of_names(entries: &[PathBuf]) -> u128 {
    let mut hash = TextHash::default();
    for path in entries {
        hash.add(path.as_os_str().as_encoded_bytes());
        // In no path.
        hash.add(&[0]);
    }
    hash.finish()
}

/// A zone and what it was made from.
#[derive(Clone, Debug)]
pub(super) struct KnownZone {
    pub(super) zone: Arc<LoadedZone>,
    /// The file that declares it, where it was read.
    pub(super) path: PathBuf,
    /// All files that decide what it says; empty when it must be made again.
    files: Vec<(PathBuf, Seen)>,
    /// Of a TOML file.
    pub(super) toml: Option<TomlParts>,
    /// Of a large master file.
    pub(super) chunks: Option<Arc<Chunks>>,
}

/// What others need of a TOML file that declares a zone.
#[derive(Clone, Debug)]
pub(super) struct TomlParts {
    pub(super) regions: Arc<BTreeMap<String, Located<Region>>>,
    /// The master file that it takes its static part from, without links.
    pub(super) master: Option<PathBuf>,
}

impl KnownZone {
    /// A zone that was made from `files`; known to the next load if it has no error.
    pub(super) fn new(reader: &Reader<'_>, zone: LoadedZone, path: &Path, files: Vec<PathBuf>) -> KnownZone {
        let seen: Vec<(PathBuf, Seen)> = files.iter().filter_map(|path| Some((path.clone(), reader.seen(path)?))).collect();
        let is_whole = zone.tree.is_some() && seen.len() == files.len();
        KnownZone { zone: Arc::new(zone), path: path.to_path_buf(), files: if is_whole { seen } else { Vec::new() }, toml: None, chunks: None }
    }

    /// The same with the chunks of its file.
    pub(super) fn in_chunks(self, chunks: Option<Arc<Chunks>>) -> KnownZone {
        KnownZone { chunks, ..self }
    }

    /// One that the next load makes again.
    pub(super) fn unknown(zone: LoadedZone) -> KnownZone {
        KnownZone { zone: Arc::new(zone), path: PathBuf::new(), files: Vec::new(), toml: None, chunks: None }
    }

    /// The zone if its files are as they were, with what is known of them now.
    fn again(&self, reader: &Reader<'_>) -> Option<KnownZone> {
        if self.files.is_empty() || !self.files.iter().all(|(path, seen)| reader.is_as(path, seen)) {
            return None;
        }
        let files = self.files.iter().filter_map(|(path, _)| Some((path.clone(), reader.seen(path)?))).collect();
        let mut zone = self.zone.clone();
        // `meridian.toml` may be another.
        let now = |source: &ZoneSource| reader.seen(&source.path).map_or(source.hash, |seen| seen.hash);
        if zone.sources.iter().any(|source| now(source) != source.hash) {
            Arc::make_mut(&mut zone).sources.iter_mut().for_each(|source| source.hash = now(source));
        }
        Some(KnownZone { zone, files, ..self.clone() })
    }
}

impl Known {
    /// Keeps the zones of a load.
    pub(super) fn new(context: Option<u128>, reach: Reach, zones: &[KnownZone], reads: usize) -> Known {
        let mut known = Known { context, reach, around: None, zones: HashMap::with_capacity(zones.len()), reads };
        for zone in zones.iter().filter(|zone| !zone.files.is_empty() && (zone.toml.is_none() || context.is_some())) {
            Arc::make_mut(known.zones.entry(zone.path.as_path().into()).or_default()).push(zone.clone());
        }
        known
    }

    /// The same with what its zones have in common.
    pub(super) fn within(self, around: Option<Around>) -> Known {
        Known { around: around.map(Arc::new), ..self }
    }

    /// The same with another version of a zone, after a load of that zone alone.
    pub(super) fn with(&self, zone: KnownZone, reads: usize) -> Known {
        let mut known = Known { reads, ..self.clone() };
        let all = Arc::make_mut(known.zones.entry(zone.path.as_path().into()).or_default());
        all.retain(|other| other.zone.name != zone.zone.name);
        if !zone.files.is_empty() {
            all.push(zone);
        }
        known
    }

    /// What all zones have in common, if nothing was wrong with it.
    pub(super) fn around(&self) -> Option<&Arc<Around>> {
        self.around.as_ref()
    }

    /// The zone that is served; `None` when the files were another version, or when several declare it.
    pub(super) fn served(&self, zone: &LoadedZone) -> Option<&KnownZone> {
        let mut all = self.zones.values().flat_map(|known| &**known).filter(|known| known.zone.name == zone.name);
        let known = all.next().filter(|known| known.zone.content == zone.content);
        known.filter(|_| all.next().is_none())
    }

    /// How many files the load read; files that were only looked at are not among them.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// The zone of a master file, if that is as it was.
    pub(super) fn master(&self, reader: &Reader<'_>, path: &Path, origin: &Name) -> Option<KnownZone> {
        let known = self.master_before(path, origin)?;
        match &known.chunks {
            // Reading it is comparing it.
            Some(_) if !known.files.iter().all(|(path, seen)| reader.looks_as(path, seen)) => None,
            _ => known.again(reader),
        }
    }

    /// The zone of a master file as an earlier load found it.
    pub(super) fn master_before(&self, path: &Path, origin: &Name) -> Option<&KnownZone> {
        self.zones.get(path)?.iter().find(|known| known.toml.is_none() && known.zone.name.as_ref() == Some(origin))
    }

    /// The zone of a TOML file, if that is as it was; it holds as long as [`Known::holds_in`] does.
    pub(super) fn toml(&self, reader: &Reader<'_>, path: &Path) -> Option<KnownZone> {
        self.zones.get(path)?.iter().find(|known| known.toml.is_some())?.again(reader)
    }

    /// Itself, unless zone files may name others: then nothing is known.
    pub(super) fn within_reach(&self, reach: &Reach) -> Cow<'_, Known> {
        if self.reach.has_files_of(reach) { Cow::Borrowed(self) } else { Cow::Owned(Known::default()) }
    }

    /// True when what TOML zones depend on beside their own files is as it was.
    pub(super) fn holds_in(&self, context: Option<u128>) -> bool {
        context.is_some() && context == self.context
    }
}
