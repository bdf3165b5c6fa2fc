//! From `meridian.toml` to checked zones: reads every file once, reports every problem of all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Listed, MAX_TOML_LEN, io_words, lexical};
use super::known::{Around, Known, KnownZone, TomlParts};
use super::problem::{Problem, Severity};
use super::raw::{Defaults, RawFile, RawZone};
use super::reach::Reach;
use super::reader::{Reader, Texts};
use super::resolve::Library;
use super::resolve_pool::{CA, LIBRARY, NamedFile, TOKEN_FILE};
use super::settings::{self, Settings};
use super::source::{Located, Sink, Spot};
use super::zone::{self, MasterPart};
use super::{hash, masters, parallel, read};
use crate::dns::Name;
use crate::policy::model::{MonitorKind, Pool, Region, ZoneModel};
use crate::zone::tree::ZoneTree;

/// The most zones of one server.
pub(super) const MAX_ZONES: usize = 500_000;
/// The most problems of one file that are listed; a file of another kind altogether would fill the screen.
pub(super) const MAX_PROBLEMS_PER_FILE: usize = 1000;

/// What came of loading.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// `None` when `meridian.toml` has an error or cannot be read.
    pub settings: Option<Settings>,
    /// Every zone that a file declares, in name order; those without a name last.
    pub zones: Vec<Arc<LoadedZone>>,
    /// All problems of all files, by file and line.
    pub problems: Vec<Problem>,
    /// The zone folder could not be listed, so that `zones` says nothing about what is gone.
    pub zones_unlisted: bool,
    /// The zone folder, as problems name it, if there is no file of a zone or library in it.
    pub zones_empty: Option<PathBuf>,
    /// `meridian.toml` says something else than the settings that this was loaded with; whether it could be read at all.
    pub held_back: Option<bool>,
    /// For the next load.
    pub known: Known,
    /// Of the files that were read.
    pub texts: Texts,
}

/// A file that loading a zone takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSource {
    /// Where it was read.
    pub path: PathBuf,
    /// [`TextHash::of`](super::TextHash::of) what it held.
    pub hash: u128,
}

impl Loaded {
    /// True when any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// One zone that a file declares.
#[derive(Clone, Debug)]
pub struct LoadedZone {
    /// Apex, lower case; `None` when the file gives none that can be read.
    pub name: Option<Name>,
    /// The declaring file, as problems name it.
    pub declared_in: PathBuf,
    /// `None` when anything it depends on has an error.
    pub model: Option<Arc<ZoneModel>>,
    /// Static records, the SOA among them. Its serial is a placeholder that `control` replaces when the model's `soa_serial` is `Derived`. `None`
    /// when there is no model.
    pub tree: Option<Arc<ZoneTree>>,
    /// Hash of everything that decides what the zone says: its own texts, the libraries and defaults it uses.
    /// Equal on every machine, whatever folder the files are in.
    pub content: u128,
    /// Every file that loading it again takes, in order: `meridian.toml` and all libraries too.
    pub sources: Vec<ZoneSource>,
    /// Its own problems, and those of others that keep it from being taken. All of them are in [`Loaded::problems`] too.
    pub problems: Vec<Problem>,
}

impl LoadedZone {
    /// A zone of which nothing is known yet.
    pub(super) fn nothing(name: Option<Name>, declared_in: PathBuf) -> LoadedZone {
        LoadedZone { name, declared_in, model: None, tree: None, content: 0, sources: Vec::new(), problems: Vec::new() }
    }

    /// Why it was not taken: the first error.
    pub fn why(&self) -> Option<String> {
        self.problems.iter().find(|problem| problem.severity == Severity::Error).map(Problem::to_string)
    }
}

/// A TOML file of the zone folder.
#[derive(Clone)]
enum Toml {
    /// It declares a zone and is as it was.
    Known(KnownZone),
    Read(Arc<RawFile>, Vec<Problem>),
}

impl Toml {
    fn read(reader: &Reader<'_>, path: &Path) -> Toml {
        let (raw, problems) = load_toml(reader, path);
        Toml::Read(Arc::new(raw), problems)
    }

    fn regions(&self) -> &BTreeMap<String, Located<Region>> {
        static NONE: BTreeMap<String, Located<Region>> = BTreeMap::new();
        match self {
            Toml::Known(known) => known.toml.as_ref().map_or(&NONE, |parts| &parts.regions),
            Toml::Read(raw, _) => &raw.regions,
        }
    }

    fn is_library(&self) -> bool {
        matches!(self, Toml::Read(raw, _) if raw.zone.is_none())
    }
}

/// Loads everything that `config_path` leads to. Never fails as a whole: what could not be taken is said in the problems.
pub fn load(files: &dyn Files, config_path: &Path) -> Loaded {
    load_again(files, config_path, &Known::default())
}

/// [`load`], but what `known`, of an earlier load, tells of files that are as they were is not made again.
pub fn load_again(files: &dyn Files, config_path: &Path, known: &Known) -> Loaded {
    load_under(files, config_path, known, None)
}

/// [`load_again`], but with these settings in place of what `meridian.toml` says; [`Loaded::held_back`] tells whether that is something else.
pub fn load_under(files: &dyn Files, config_path: &Path, known: &Known, serving: Option<&Settings>) -> Loaded {
    let config_path = lexical(config_path);
    let base = config_path.parent().unwrap_or(Path::new("")).to_path_buf();
    let reader = Reader::new(files, &base);
    let mut report = Vec::new();

    let (mut settings, mut settings_sound) = load_settings(&reader, &config_path, &mut report);
    let mut held_back = None;
    if let Some(serving) = serving {
        report.clear();
        held_back = (!settings_sound || settings != *serving).then_some(settings_sound);
        (settings, settings_sound) = (serving.clone(), true);
    }
    let known = &*known.within_reach(&settings.reach());
    let entries = list_zones(&reader, &settings, &mut report);
    let zones_unlisted = entries.is_none();
    let entries = entries.unwrap_or_default();
    let is_empty = !zones_unlisted && !entries.iter().any(|path| has_extension(path, "toml") || has_extension(path, "zone"));
    let zones_empty = is_empty.then(|| reader.shown(&settings.zones_dir));
    let paths: Vec<&PathBuf> = entries.iter().filter(|path| has_extension(path, "toml")).collect();
    let mut toml = parallel::map(&paths, |path| known.toml(&reader, path).map_or_else(|| Toml::read(&reader, path), Toml::Known));

    let conflicts = Sink::default();
    agree_on_regions(&toml, &conflicts);
    let region_problems = conflicts.into_problems();
    let library_files = toml.iter().filter(|file| file.is_library()).filter_map(|file| match file {
        Toml::Read(raw, problems) => Some((RawFile::clone(raw), problems.clone())),
        Toml::Known(_) => None,
    });
    let (library, library_problems) = make_library(library_files.collect(), &settings.defaults, &mut report);
    let is_sound = settings_sound && region_problems.is_empty() && library_problems.is_empty();
    let hash = is_sound.then(|| context_hash(&reader, &settings, &library));
    if !known.holds_in(hash) {
        let again: Vec<(&PathBuf, &Toml)> = paths.iter().copied().zip(&toml).collect();
        toml = parallel::map(&again, |(path, file)| match file {
            Toml::Known(_) => Toml::read(&reader, path),
            Toml::Read(..) => Toml::clone(file),
        });
    }
    report.extend(toml.iter().flat_map(|file| if let Toml::Read(_, problems) = file { problems.as_slice() } else { &[] }).cloned());
    report.extend(region_problems.iter().cloned());

    let context = Context {
        reader: &reader,
        settings: &settings,
        reach: settings.reach(),
        known,
        library: &library,
        library_problems: &library_problems,
        region_problems: &region_problems,
    };
    toml.retain(|file| !file.is_library());
    let mut made = parallel::map(&toml, |file| match file {
        Toml::Known(known) => known.clone(),
        Toml::Read(raw, problems) => toml_zone(&context, raw, problems),
    });
    drop(toml);
    let taken: Vec<PathBuf> = made.iter().filter_map(|zone| zone.toml.as_ref()?.master.clone()).collect();
    made.extend(masters::zones(&context, &entries, &taken, &config_path));
    let known = if settings_sound { Known::new(hash, settings.reach(), &made, reader.reads()) } else { known.clone() };
    let around = (is_sound && !zones_unlisted && held_back.is_none()).then(|| Around::new(&reader, &settings, library, &entries)).flatten();
    let known = known.within(around);
    let mut zones: Vec<Arc<LoadedZone>> = made.into_iter().map(|made| made.zone).collect();
    if !settings_sound {
        // Defaults may be missing or wrong; who takes a zone must know.
        let shown = reader.shown(&config_path);
        let first = report.iter().find(|problem| problem.severity == Severity::Error && problem.file == shown).cloned();
        for zone in zones.iter_mut().map(Arc::make_mut) {
            zone.model = None;
            zone.problems.extend(first.clone());
        }
    }
    let mut zones = unique(zones);
    agree_on_hosts(&mut zones);
    if zones.len() > MAX_ZONES {
        let text = format!("found {} zones, expected at most {MAX_ZONES}; the rest is left out", zones.len());
        let file = reader.shown(&settings.zones_dir);
        report.push(Problem { severity: Severity::Error, file, line: 0, subject: Vec::new(), text });
        zones.truncate(MAX_ZONES);
    }
    report.extend(zones.iter().flat_map(|zone| zone.problems.iter().cloned()));
    Loaded {
        settings: settings_sound.then_some(settings),
        zones,
        problems: sorted(report),
        zones_unlisted,
        zones_empty,
        held_back,
        known,
        texts: reader.into_texts(),
    }
}

/// What TOML zones depend on beside their own files.
fn context_hash(reader: &Reader<'_>, settings: &Settings, library: &Library) -> u128 {
    let mut hash = hash::Fnv128::default();
    hash.part(format!("{:?} {:?} {:?}", settings.defaults, settings.file, settings.reach()).as_bytes());
    for file in &library.files {
        hash.part(file.path.as_os_str().as_encoded_bytes());
        hash.part(&reader.seen(&file.path).map_or(0, |seen| seen.hash).to_be_bytes());
    }
    hash.finish()
}

/// Reads `meridian.toml` by itself: what clients of a running server need. Keys with a problem have their defaults.
pub fn load_settings_alone(files: &dyn Files, config_path: &Path) -> (Settings, Vec<Problem>) {
    let config_path = lexical(config_path);
    let reader = Reader::new(files, config_path.parent().unwrap_or(Path::new("")));
    let mut report = Vec::new();
    let (settings, _) = load_settings(&reader, &config_path, &mut report);
    (settings, sorted(report))
}

/// Loads one master file by itself, as `meridian check --zone FILE --origin NAME` does. `$INCLUDE` is confined to the file's folder.
pub fn load_master_alone(files: &dyn Files, file: &Path, origin: &Name) -> (LoadedZone, Vec<Problem>) {
    let reader = Reader::new(files, Path::new(""));
    let file = lexical(file);
    let wanted =
        masters::Wanted { path: &file, origin: &origin.to_lowercase(), default_ttl: None, first_file: 0, reach: &Reach::default(), named_by: None };
    let zone = Arc::unwrap_or_clone(masters::alone(&reader, &wanted, None).zone);
    let problems = zone.problems.clone();
    (zone, problems)
}

/// What all zones share while they are loaded.
pub(super) struct Context<'c> {
    pub(super) reader: &'c Reader<'c>,
    pub(super) settings: &'c Settings,
    /// Of these.
    pub(super) reach: Reach,
    pub(super) known: &'c Known,
    pub(super) library: &'c Library,
    /// What keeps zones that use them from being taken.
    pub(super) library_problems: &'c [Problem],
    pub(super) region_problems: &'c [Problem],
}

fn load_settings(reader: &Reader<'_>, path: &Path, report: &mut Vec<Problem>) -> (Settings, bool) {
    let sink = Sink::default();
    let shown = reader.shown(path);
    let text = toml_text(reader, path, &shown, &sink).unwrap_or_default();
    let settings = settings::read(&shown, path, &text, &sink);
    let sound = sink.errors() == 0;
    report.extend(sink.into_problems());
    (settings, sound)
}

/// The text of a TOML file; what keeps it from being one is reported.
fn toml_text(reader: &Reader<'_>, path: &Path, shown: &Path, sink: &Sink) -> Option<String> {
    let at = |line| Spot { file: shown.into(), line };
    let bytes = match reader.read(path) {
        Ok(bytes) => bytes,
        Err(words) => {
            sink.error(&at(0), &[], format!("cannot be read: {words}"));
            return None;
        }
    };
    if bytes.len() > MAX_TOML_LEN {
        sink.error(
            &at(0),
            &[],
            format!("found {} MiB, expected at most {} MiB; put bulk data into a master file", bytes.len() >> 20, MAX_TOML_LEN >> 20),
        );
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let bytes = error.as_bytes();
            let line = bytes[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
            sink.error(&at(line), &[], "not TOML: the text is not UTF-8");
            // The rest may still be looked at.
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// Files of the zone folder, dotfiles left out; `None` when it cannot be listed.
pub(super) fn list_zones(reader: &Reader<'_>, settings: &Settings, report: &mut Vec<Problem>) -> Option<Vec<PathBuf>> {
    match reader.list(&settings.zones_dir) {
        Ok(all) => {
            let hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let reach = settings.reach();
            let mut taken = |listed: &Listed| {
                let is_read = has_extension(&listed.path, "toml") || has_extension(&listed.path, "zone");
                let refused = if listed.is_link && is_read { reader.refuses_own(&reach, &listed.path) } else { None };
                let problem = |why: &str| Problem {
                    severity: Severity::Error,
                    file: reader.shown(&listed.path),
                    line: 0,
                    subject: Vec::new(),
                    text: format!("found a link: {why}"),
                };
                report.extend(refused.map(problem));
                refused.is_none()
            };
            Some(all.into_iter().filter(|listed| !hidden(&listed.path) && taken(listed)).map(|listed| listed.path).collect())
        }
        Err(error) => {
            let text = format!("the zone folder {} cannot be listed: {}", reader.shown(&settings.zones_dir).display(), io_words(&error));
            report.push(Problem {
                severity: Severity::Error,
                file: reader.shown(&settings.file),
                line: 0,
                subject: vec!["zones".into(), "dir".into()],
                text,
            });
            None
        }
    }
}

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

pub(super) fn load_toml(reader: &Reader<'_>, path: &Path) -> (RawFile, Vec<Problem>) {
    let sink = Sink::default();
    let shown = reader.shown(path);
    let text = toml_text(reader, path, &shown, &sink);
    let mut raw = read::zone_file(&shown, path, text.as_deref().unwrap_or_default(), &sink);
    if !raw.whole {
        salvage(&mut raw, text.as_deref().unwrap_or_default());
    }
    (raw, sink.into_problems())
}

/// What a broken file was going to be: who keeps its last good version must know which zone it declares, and a zone is no library.
fn salvage(raw: &mut RawFile, text: &str) {
    let section = |line: &str, name: &str| line.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(name));
    let at = text.lines().position(|line| section(line, "zone"));
    raw.has_defaults |= text.lines().any(|line| section(line, "defaults") || at.is_none() && section(line, "safety"));
    // Nothing is left that libraries hold: what else would be named after a zone?
    let is_no_library = !raw.has_defaults && raw.regions.is_empty() && raw.monitors.is_empty() && raw.pools.is_empty() && raw.policies.is_empty();
    let by_file = stem_name(&raw.path).filter(|_| raw.zone.is_some() || at.is_some() || is_no_library);
    if at.is_none() && by_file.is_none() {
        return;
    }
    let line = at.map_or(0, |at| at as u32 + 1);
    let zone = raw.zone.get_or_insert_with(|| RawZone::of_nothing(Spot { file: raw.file.clone(), line }));
    let value = |line: &str| Some(line.trim_start().strip_prefix("name")?.trim_start().strip_prefix('=')?.split('"').nth(1)?.to_string());
    if zone.name.is_none() {
        let inside = at.into_iter().flat_map(|at| text.lines().skip(at + 1).take_while(|line| !line.trim_start().starts_with('[')));
        let name = inside.filter_map(value).next().and_then(|name| Name::parse_absolute(&name).ok()).map(|name| name.to_lowercase());
        zone.name = name.or(by_file);
    }
}

/// The zone that a file is named after, if it is: `example.com.toml`.
fn stem_name(path: &Path) -> Option<Name> {
    let stem = path.file_stem()?.to_str()?;
    stem.contains('.').then(|| Name::parse_absolute(stem).ok()).flatten().map(|name| name.to_lowercase())
}

/// The same region declared twice, in whatever files, is the same: operators address regions across zones.
fn agree_on_regions(all: &[Toml], sink: &Sink) {
    let mut first: BTreeMap<&str, &Located<Region>> = BTreeMap::new();
    for (name, region) in all.iter().flat_map(Toml::regions) {
        let known = first.entry(name).or_insert(region);
        if known.value != region.value {
            let subject = [format!("region {name:?}")];
            sink.error(&region.at, &subject, format!("it differs from the one in {}; the same region declared twice must be identical", known.at));
        }
    }
}

/// Puts the libraries together. Returns them with the problems that keep zones from being taken: all, if defaults are lost, else those that
/// miss a name.
fn make_library(files: Vec<(RawFile, Vec<Problem>)>, base: &Defaults, report: &mut Vec<Problem>) -> (Library, Vec<Problem>) {
    let sink = Sink::default();
    let mut blocking = Vec::new();
    let mut library = Library { files: Vec::new(), defaults: Defaults::default(), whole: true, defaults_lost: false };
    let mut with_defaults: Option<PathBuf> = None;
    for (raw, problems) in files {
        if !raw.whole {
            library.whole = false;
            // What it says for every zone may be lost; whatever else it holds concerns only those who use it.
            library.defaults_lost |= raw.has_defaults;
            blocking.extend(problems.into_iter().filter(|problem| problem.severity == Severity::Error).take(1));
        }
        if raw.has_defaults {
            if let Some(first) = &with_defaults {
                let at = Spot { file: raw.file.clone(), line: 0 };
                let text = format!(
                    "found [defaults] or [safety] here and in {}; libraries are seen together, so only one of them can have them",
                    first.display()
                );
                sink.error(&at, &["defaults".into()], text);
            } else {
                with_defaults = Some(raw.file.to_path_buf());
                library.defaults = raw.defaults.clone();
                library.defaults.safety = raw.safety.over(&raw.defaults.safety);
            }
        }
        library.files.push(raw);
    }
    library.defaults_lost |= sink.errors() > 0;
    let doubled = sink.into_problems();
    report.extend(doubled.iter().cloned());
    blocking.extend(doubled);
    let sink = Sink::default();
    zone::check_library(&library, base, &sink);
    report.extend(sink.into_problems());
    (library, blocking)
}

/// Makes one TOML zone.
pub(super) fn toml_zone(context: &Context<'_>, raw: &RawFile, problems: &[Problem]) -> KnownZone {
    let reader = context.reader;
    let sink = Sink::default();
    problems.iter().for_each(|problem| sink.add(problem.clone()));
    if context.library.defaults_lost {
        context.library_problems.iter().for_each(|problem| sink.add(problem.clone()));
    }
    context.region_problems.iter().filter(|problem| problem.file == *raw.file).for_each(|problem| sink.add(problem.clone()));
    let mut decisive: Vec<PathBuf> = vec![raw.path.clone()];
    let empty = LoadedZone::nothing(None, raw.file.to_path_buf());
    let Some(zone) = &raw.zone else { return KnownZone::unknown(empty) };
    let (mut model, mut tree, mut master) = (None, None, None);
    if let Some(apex) = &zone.name {
        let part = static_part(context, zone, apex, &sink, &mut decisive);
        master = zone.file.as_ref().map(|file| reader.canonical(&file.value));
        let assembled = zone::assemble(raw, zone, apex, context.library, &context.settings.defaults, part, &sink);
        read_named_files(context, &assembled.named_files, &sink, &mut decisive);
        decisive.extend(assembled.library_files);
        unsound_elsewhere(&assembled.unsound, raw, &sink);
        if assembled.misses_library {
            context.library_problems.iter().for_each(|problem| sink.add(problem.clone()));
        }
        tree = masters::build_tree(&assembled.model, assembled.owners, &raw.file, &sink);
        model = Some(assembled.model);
    }
    if sink.errors() > 0 {
        (model, tree) = (None, None);
    }
    let all = [&context.settings.file, &raw.path].into_iter().chain(context.library.files.iter().map(|file| &file.path)).chain(&decisive);
    let sources = masters::sources(reader, all.map(PathBuf::as_path));
    let content = content_hash(reader, &decisive, zone.name.as_ref(), &context.settings.defaults);
    let zone =
        LoadedZone { name: zone.name.clone(), model: model.map(Arc::new), tree, content, sources, problems: sorted(sink.into_problems()), ..empty };
    let toml = Some(TomlParts { regions: Arc::new(raw.regions.clone()), master });
    let mut made = KnownZone::new(reader, zone, &raw.path, decisive);
    made.toml = toml;
    made
}

/// The static part from `[zone] file`.
fn static_part(context: &Context<'_>, zone: &RawZone, apex: &Name, sink: &Sink, decisive: &mut Vec<PathBuf>) -> MasterPart {
    let Some(file) = &zone.file else { return MasterPart::default() };
    let subject = ["zone".to_string(), "file".to_string()];
    if let Some(why) = context.reader.refuses(&context.reach, &file.value) {
        sink.error(&file.at, &subject, format!("found {}: {why}", context.reader.shown(&file.value).display()));
        return MasterPart { whole: false, ..MasterPart::default() };
    }
    let wanted = masters::Wanted {
        path: &file.value,
        origin: apex,
        default_ttl: Some(zone.ttl),
        first_file: zone::FIRST_MASTER_FILE,
        reach: &context.reach,
        named_by: Some((&file.at, &subject)),
    };
    let parsed = masters::parse(context.reader, &wanted, sink);
    decisive.extend(parsed.paths);
    MasterPart { records: parsed.records, files: parsed.files, whole: parsed.whole }
}

/// Files of monitors must be such as zone files may name; certificates and keys must be there and be PEM: the prober would fail every check.
fn read_named_files(context: &Context<'_>, all: &[NamedFile], sink: &Sink, decisive: &mut Vec<PathBuf>) {
    let (reader, reach) = (context.reader, &context.reach);
    let holds = |text: &[u8], part: &str| text.windows(part.len()).any(|found| found == part.as_bytes());
    for NamedFile { subject, key, file } in all {
        let subject = [subject.clone(), (*key).to_string()];
        let shown = reader.shown(&file.value);
        // Whom a check trusts is nobody's secret.
        let refused = if *key == CA { reader.refuses_own(reach, &file.value) } else { reader.refuses(reach, &file.value) };
        if let Some(why) = refused {
            sink.error(&file.at, &subject, format!("found {}: {why}", shown.display()));
            continue;
        }
        if *key == TOKEN_FILE {
            continue;
        }
        let (what, mark) = if *key == "client_key" { ("private key", "PRIVATE KEY-----") } else { ("certificate", "-----BEGIN CERTIFICATE-----") };
        match reader.read_shared(&file.value) {
            Ok(text) if holds(&text, mark) => decisive.push(file.value.clone()),
            Ok(_) => sink.error(&file.at, &subject, format!("found no {what} in {}, expected a PEM file", shown.display())),
            Err(words) => sink.error(&file.at, &subject, format!("{} cannot be read: {words}", shown.display())),
        }
    }
}

/// A zone that uses a broken item of a library cannot be taken; the item's own problems are in the report already.
fn unsound_elsewhere(unsound: &[(String, Spot)], raw: &RawFile, sink: &Sink) {
    for (what, spot) in unsound.iter().filter(|(_, spot)| spot.file != raw.file) {
        let at = Spot { file: raw.file.clone(), line: 0 };
        sink.error(&at, &[], format!("it uses {what} of {spot}, which has errors"));
    }
}

pub(super) fn content_hash(reader: &Reader<'_>, decisive: &[PathBuf], name: Option<&Name>, defaults: &Defaults) -> u128 {
    let mut hash = hash::Fnv128::default();
    if let Some(name) = name {
        hash.part(name.to_lowercase().as_wire());
    }
    // The words of a derived Debug are stable for one version of the program, which is all that is compared.
    let mut words = String::new();
    let _ = write!(words, "{defaults:?}");
    hash.part(words.as_bytes());
    let mut paths: Vec<&PathBuf> = decisive.iter().collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        hash.part(reader.shown(path).as_os_str().as_encoded_bytes());
        hash.part(&reader.seen(path).map_or(0, |seen| seen.hash).to_be_bytes());
    }
    hash.finish()
}

/// Two files that declare the same zone: neither is taken, and one entry says so.
fn unique(mut zones: Vec<Arc<LoadedZone>>) -> Vec<Arc<LoadedZone>> {
    zones.sort_by(|a, b| (a.name.is_none(), &a.name, &a.declared_in).cmp(&(b.name.is_none(), &b.name, &b.declared_in)));
    let mut all: Vec<Arc<LoadedZone>> = Vec::new();
    for zone in zones {
        match all.last_mut().filter(|last| zone.name.is_some() && last.name == zone.name) {
            Some(first) => {
                let name = zone.name.as_ref().map(Name::to_string).unwrap_or_default();
                let text = format!("the zone {name} is declared in {} already; expected one file", first.declared_in.display());
                let first = Arc::make_mut(first);
                first.problems.extend(zone.problems.iter().cloned());
                first.problems.push(Problem { severity: Severity::Error, file: zone.declared_in.clone(), line: 0, subject: Vec::new(), text });
                first.model = None;
            }
            None => all.push(zone),
        }
    }
    all
}

/// A library's pool has one health for all zones: a host that its monitor takes from steered names must be the same everywhere.
fn agree_on_hosts(zones: &mut [Arc<LoadedZone>]) {
    let mut first: BTreeMap<(&str, &str), (&str, usize)> = BTreeMap::new();
    let mut clashes = Vec::new();
    for (at, model) in zones.iter().enumerate().filter_map(|(at, zone)| Some((at, zone.model.as_deref()?))) {
        for (pool, monitor, found) in library_hosts(model) {
            let (host, other) = first.entry((&pool.id, monitor)).or_insert((found, at));
            if *host != found {
                let text = format!(
                    "pool {:?} is a library's: its monitor {monitor:?} has no host, and steered names of several zones reach it ({host}, {found}); write \
                     host = {host:?} or the like in the monitor",
                    pool.name
                );
                clashes.push((*other, text.clone()));
                clashes.push((at, text));
            }
        }
    }
    for (at, text) in clashes {
        let zone = Arc::make_mut(&mut zones[at]);
        zone.model = None;
        let problem = Problem { severity: Severity::Error, file: zone.declared_in.clone(), line: 0, subject: Vec::new(), text };
        if !zone.problems.contains(&problem) {
            zone.problems.push(problem);
        }
    }
}

/// Pools of libraries with each monitor and the host that it asks for.
pub(super) fn library_hosts(model: &ZoneModel) -> impl Iterator<Item = (&Pool, &str, &str)> {
    let is_library = |pool: &&Pool| pool.id.strip_prefix(LIBRARY).is_some_and(|rest| rest.starts_with('/'));
    model.pools.iter().filter(is_library).flat_map(|pool| {
        let monitors = pool.endpoints.iter().flat_map(|endpoint| &endpoint.monitors).filter_map(|ix| model.monitors.get(ix.0 as usize));
        monitors.filter_map(move |monitor| match &monitor.kind {
            MonitorKind::Http(check) | MonitorKind::Https { check, .. } => Some((pool, &*monitor.name, &*check.host)),
            _ => None,
        })
    })
}

/// By file and line, each problem once, and no file drowns the others.
pub(super) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.file, a.line, &a.subject, &a.text).cmp(&(&b.file, b.line, &b.subject, &b.text)));
    problems.dedup();
    let mut all: Vec<Problem> = Vec::new();
    let mut count = 0;
    for problem in problems {
        count = if all.last().is_some_and(|last| last.file == problem.file) { count + 1 } else { 1 };
        match count.cmp(&(MAX_PROBLEMS_PER_FILE + 1)) {
            std::cmp::Ordering::Less => all.push(problem),
            std::cmp::Ordering::Equal => {
                all.push(Problem { line: u32::MAX, subject: Vec::new(), text: "further problems of this file are left out".into(), ..problem })
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    all
}
