//! Reading and compiling everything that the files say: what start, reload and `check` have in common. Blocking; runs on a worker thread.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::{self, GeoSources, ZoneParts};
use super::geography::{Geography, KnownGeo};
use super::rules::{Disabled, Ready, Wanted};
use super::server;
use crate::config::{self, Files, Known, Listed, Loaded, LoadedZone, MemoryFiles, OsFiles, Problem, Settings, Severity};
use crate::dns::Name;
use crate::policy::model::ZoneModel;
use crate::policy::resolve;

/// A zone as it came from the files.
#[derive(Clone, Debug)]
pub struct TakenZone {
    /// Texts it was made from, and their hash.
    pub loaded: Arc<LoadedZone>,
    /// Compiled.
    pub parts: Arc<ZoneParts>,
    /// Why this is an older version than the files; `None` when it is what they say.
    pub kept_why: Option<String>,
    /// Of the databases and the latency table it was compiled with.
    pub geo_hash: u64,
    /// Rules that `parts` was compiled without.
    pub(super) disabled: Disabled,
    /// What else could be served: compiled without other rules.
    pub(super) ready: Vec<Arc<Ready>>,
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub struct Build {
    /// `None` when meridian.toml itself is bad.
    pub settings: Option<Settings>,
    /// Zones that can be served.
    pub good: Vec<TakenZone>,
    /// Zones that cannot: their name, if it could be read, and the file that declares them.
    pub bad: Vec<(Option<Name>, PathBuf)>,
    /// All problems of all files.
    pub problems: Vec<Problem>,
    /// What is missing for the service as a whole, in sentences.
    pub degraded: Vec<String>,
    /// Changes when a database or the latency table does.
    pub geo_hash: u64,
    /// What the files were, for the next build.
    pub known: Arc<Known>,
    /// Of the files that were read, until they are kept.
    pub(super) texts: config::Texts,
    /// Databases and latency table, for the next build.
    pub geo: Option<Arc<KnownGeo>>,
    /// Secrets for DNS cookies; `None`: they were not looked at.
    pub(super) cookies: Option<server::Wanted>,
    /// It holds this zone alone, and nothing that others depend on has changed.
    pub(super) alone: Option<Name>,
    /// It holds this zone alone, but what others depend on may have been read again.
    pub(super) named: Option<Name>,
    /// The zone folder could not be listed: zones that are not there may be anything but removed.
    pub zones_unlisted: bool,
    /// The zone folder, if there is no file of a zone or library in it: it may not be mounted.
    pub(super) zones_empty: Option<PathBuf>,
    /// What a start would say of its settings; `None`: they were not looked at.
    pub(super) at_restart: Option<Vec<Problem>>,
    /// The database or latency table that cannot be used, if one cannot.
    pub(super) geo_trouble: Option<PathBuf>,
}

impl Build {
    /// The one zone that it holds, if it does not hold all.
    pub(super) fn only(&self) -> Option<&Name> {
        self.alone.as_ref().or(self.named.as_ref())
    }

    /// True when anything is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// What an earlier build made, so that unchanged zones are not compiled again.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    /// By apex.
    pub zones: HashMap<Name, TakenZone>,
    /// What the files were.
    pub known: Arc<Known>,
    /// Databases and latency table.
    pub geo: Option<Arc<KnownGeo>>,
    /// Rules that overlays disable, by zone.
    pub disabled: HashMap<Name, Wanted>,
}

/// Reads and compiles. Zones whose texts and databases are what they were are taken over from `previous`.
pub fn build(files: &dyn Files, config_path: &Path, previous: &Previous) -> Build {
    compile_all(files, config::load_again(files, config_path, &previous.known), previous, None)
}

/// [`build`] of one zone and what it uses, under the settings that serve: whatever else has changed, `meridian.toml` too, waits for a reload of
/// everything, and what is wrong elsewhere is not told.
pub fn build_named(files: &dyn Files, config_path: &Path, previous: &Previous, name: &Name, serving: &Settings) -> Build {
    let mut loaded = config::load_under(files, config_path, &previous.known, Some(serving));
    let owned = previous.zones.get(name).map(|zone| &zone.loaded.declared_in);
    let is_its = |zone: &LoadedZone| zone.name.as_ref().map_or_else(|| owned == Some(&zone.declared_in), |found| found.to_lowercase() == *name);
    loaded.zones.retain(|zone| is_its(zone));
    let own_files: Vec<PathBuf> = loaded.zones.iter().map(|zone| zone.declared_in.clone()).chain(owned.cloned()).collect();
    let concerns = |problem: &Problem| {
        own_files.contains(&problem.file) || loaded.zones_unlisted || loaded.zones.iter().any(|zone| zone.problems.contains(problem))
    };
    loaded.problems = loaded.problems.iter().filter(|problem| concerns(problem)).cloned().collect();
    let (held_back, told) = (loaded.held_back, loaded.problems.clone());
    let only = Previous {
        zones: previous.zones.get_key_value(name).map(|(name, zone)| (name.clone(), zone.clone())).into_iter().collect(),
        known: previous.known.clone(),
        geo: previous.geo.clone(),
        disabled: previous.disabled.clone(),
    };
    let mut build = compile_all(files, loaded, &only, None);
    // They are everybody's.
    build.cookies = None;
    // A database that cannot be used concerns who is not taken without it.
    if build.good.iter().all(|zone| zone.kept_why.is_none()) && build.bad.is_empty() {
        build.problems.retain(|problem| own_files.contains(&problem.file) || told.contains(problem));
    }
    build.named = Some(name.clone());
    if held_back.is_some() {
        let text = format!("it has changed: `meridian reload` takes it; this one took {name} alone");
        build.problems.push(whole_file(&serving.file, Severity::Warning, text));
    }
    if held_back == Some(false) {
        // With a configuration that cannot be read no last good version could be loaded.
        build.texts = config::Texts::default();
    }
    build
}

/// [`build`] of one zone of `previous` alone. `None` when others have a say in what it is now: then everything has to be built.
pub fn build_alone(files: &dyn Files, config_path: &Path, previous: &Previous, name: &Name) -> Option<Build> {
    let served = previous.zones.get(name).filter(|zone| zone.kept_why.is_none())?;
    let loaded = config::load_named(files, config_path, &previous.known, &served.loaded)?;
    Some(compile_all(files, loaded, previous, Some(name.clone())))
}

fn compile_all(files: &dyn Files, loaded: Loaded, previous: &Previous, alone: Option<Name>) -> Build {
    let is_alone = alone.is_some();
    let mut build = Build {
        alone,
        problems: loaded.problems,
        zones_unlisted: loaded.zones_unlisted,
        zones_empty: loaded.zones_empty,
        known: Arc::new(loaded.known),
        texts: loaded.texts,
        ..Build::default()
    };
    let Some(settings) = loaded.settings else { return build };
    if !is_alone {
        build.cookies = Some(server::read_secrets(files, &settings, &mut build));
    }
    let mut sources: Option<GeoSources> = None;
    let (mut geography, mut shared) = Geography::look(files, &settings, previous.geo.as_deref(), &mut build);
    let geo_hash = build.geo_hash;
    let is_stale = |zone: &LoadedZone| {
        let before = zone.name.as_ref().and_then(|name| previous.zones.get(name));
        before.is_none_or(|before| before.loaded.content != zone.content || before.geo_hash != geo_hash)
    };
    // What is wrong with databases that are the same as before has been said.
    let (no_geo, geo_known) = (GeoSources::empty(), previous.zones.values().any(|zone| zone.geo_hash == geo_hash));
    let stale: Vec<Arc<ZoneModel>> = loaded.zones.iter().filter(|zone| is_stale(zone)).filter_map(|zone| zone.model.clone()).collect();
    for zone in loaded.zones {
        let (Some(model), Some(name), Some(tree)) = (&zone.model, &zone.name, &zone.tree) else {
            build.bad.push((zone.name.clone(), zone.declared_in.clone()));
            continue;
        };
        let before = previous.zones.get(name);
        let same = before.filter(|before| before.loaded.content == zone.content);
        let needs_geo = model.steers.iter().any(|steer| resolve::depends_on_client(model, steer.root));
        if let Some(same) = same.filter(|same| !needs_geo || same.geo_hash == build.geo_hash) {
            build.good.push(TakenZone { loaded: zone, kept_why: None, ..same.clone() });
            continue;
        }
        // The databases are decoded only when some zone needs them.
        let geo = if !needs_geo && geo_known {
            &no_geo
        } else {
            sources.get_or_insert_with(|| {
                let roots = stale.iter().flat_map(|model| model.steers.iter().map(|steer| (&**model, steer.root)));
                geography.sources(roots, &mut shared, &mut build)
            })
        };
        // What a zone depends on is part of it: it rather stays as it is than loses the databases it was compiled with.
        if let (true, Some(_), Some(file)) = (needs_geo, before, &build.geo_trouble) {
            let file = file.clone();
            match same {
                Some(same) => {
                    let why = format!("{} cannot be used; the version before keeps serving", file.display());
                    build.good.push(TakenZone { loaded: zone, kept_why: Some(why), ..same.clone() });
                }
                None => build.bad.push((zone.name.clone(), file)),
            }
            continue;
        }
        let geo_hash = build.geo_hash;
        // It may be that only the databases have changed.
        let tree = same.map_or(tree, |same| &same.parts.tree).clone();
        match compile::compile(model, tree, geo, &mut shared) {
            Ok(parts) => {
                let wanted = previous.disabled.get(name);
                let zone = zone.clone();
                let taken =
                    TakenZone { loaded: zone, parts: Arc::new(parts), kept_why: None, geo_hash, disabled: Disabled::new(), ready: Vec::new() };
                build.good.push(taken.without(wanted, geo, &mut shared));
            }
            Err(error) => {
                build.problems.push(whole_file(&zone.declared_in, Severity::Error, error.to_string()));
                build.bad.push((zone.name.clone(), zone.declared_in.clone()));
            }
        }
    }
    if !is_alone {
        find_emptied(files, previous, &mut build);
    }
    build.geo = geography.known(shared, &build);
    build.settings = Some(settings);
    build
}

/// A file that declared a zone, is still there and declares nothing any more was cut off or emptied: its zone is bad, not gone.
fn find_emptied(files: &dyn Files, previous: &Previous, build: &mut Build) {
    let good = build.good.iter().filter_map(|zone| zone.loaded.name.clone());
    let known: HashSet<Name> = good.chain(build.bad.iter().filter_map(|(name, _)| name.clone())).collect();
    let bad_files: HashSet<PathBuf> = build.bad.iter().map(|(_, file)| file.clone()).collect();
    for (name, before) in &previous.zones {
        let declared_in = &before.loaded.declared_in;
        if known.contains(name) || bad_files.contains(declared_in) {
            continue;
        }
        let mut own_files = before.loaded.sources.iter().filter(|source| source.path.file_name() == declared_in.file_name());
        if own_files.any(|source| files.canonical(&source.path).is_ok()) {
            let text = format!("declares no zone, but declared {name} before; remove the file if the zone is to go");
            build.problems.push(whole_file(declared_in, Severity::Error, text));
            build.bad.push((Some(name.clone()), declared_in.clone()));
        }
    }
}

/// Before the first world: takes out the rules that overlays of the run before disable.
pub fn lay_rules(build: &mut Build, overlays: &[super::api::Overlay]) {
    super::rules::lay_kept(build, overlays, super::unix_now());
}

/// Texts of a zone by the path they were read from.
pub type Texts = BTreeMap<PathBuf, Vec<u8>>;

/// Replaces zones that cannot be loaded by the version that the last run kept (CONTRACT, Failure at start and reload).
pub fn fall_back(build: &mut Build, config_path: &Path, kept: &mut dyn FnMut(&Name) -> Option<Texts>) {
    for (name, declared_in) in std::mem::take(&mut build.bad) {
        match name.as_ref().and_then(|name| last_good(name, config_path, kept(name)?)) {
            Some(mut zone) => {
                zone.kept_why = Some(format!("{} has errors; the last good version serves", declared_in.display()));
                build.good.push(zone);
            }
            None => build.bad.push((name, declared_in)),
        }
    }
}

fn last_good(name: &Name, config_path: &Path, texts: Texts) -> Option<TakenZone> {
    let files = MemoryFiles(texts.into_iter().map(|(path, octets)| (path, octets.into())).collect());
    let old = build(&GeoOnDisk(files), config_path, &Previous::default());
    old.good.into_iter().find(|zone| zone.loaded.name.as_ref() == Some(name))
}

/// Texts as they were kept; databases, which are not, as they are on disk.
struct GeoOnDisk(MemoryFiles);

impl Files for GeoOnDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.0.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_geo(path) => OsFiles.read(path),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.0.list(dir)
    }

    fn are_kept(&self) -> bool {
        true
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.canonical(path)
    }
}

/// Zone texts end in `.toml` or `.zone` or stand in the kept version; what else is asked for is a database or a table.
fn is_geo(path: &Path) -> bool {
    !path.extension().is_some_and(|extension| extension == "toml" || extension == "zone")
}

pub(super) fn whole_file(file: &Path, severity: Severity, text: String) -> Problem {
    Problem { severity, file: file.to_path_buf(), line: 0, subject: Vec::new(), text }
}
