//! Master files: the static part of a TOML zone, `*.zone` files of the folder, `[[zones.master]]`, and a file alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunks::{Chunks, Recorder};
use super::edit;
use super::files::lexical;
use super::known::KnownZone;
use super::load::{Context, LoadedZone, ZoneSource, content_hash, has_extension, sorted};
use super::parallel;
use super::problem::{Problem, Severity};
use super::raw::Defaults;
use super::reach::Reach;
use super::reader::Reader;
use super::source::{Sink, Spot};
use crate::dns::Name;
use crate::policy::model::{SerialSource, ZoneModel};
use crate::zone::check::Fault;
use crate::zone::tree::{NodeId, ZoneTree};
use crate::zone::{self, OwnerId, Owners, Records, Ttl, master};

/// A master file to be read for a zone.
pub(super) struct Wanted<'w> {
    pub(super) path: &'w Path,
    pub(super) origin: &'w Name,
    /// For records that say none.
    pub(super) default_ttl: Option<Ttl>,
    /// Its position among the files of the zone.
    pub(super) first_file: u16,
    /// What `$INCLUDE` may reach, beside the file's own folder.
    pub(super) reach: &'w Reach,
    /// Who names it, and under which subject; `None` when it was found in the folder.
    pub(super) named_by: Option<(&'w Spot, &'w [String])>,
}

/// What a master file and its includes hold.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) records: Records,
    /// As problems name them; places of records point in here, from `first_file` on.
    pub(super) files: Vec<PathBuf>,
    /// As they were read.
    pub(super) paths: Vec<PathBuf>,
    /// False when any part could not be read: then records are missing.
    pub(super) whole: bool,
    /// Of a large file that includes no other, with the first lines of all chunks but the first.
    chunks: Option<(Chunks, Vec<u32>)>,
}

/// Reads a master file and what it includes.
pub(super) fn parse(reader: &Reader<'_>, wanted: &Wanted<'_>, sink: &Sink) -> Parsed {
    let shown = reader.shown(wanted.path);
    let mut parts = match reader.open(wanted.path) {
        Ok(parts) => parts,
        Err(words) => {
            match wanted.named_by {
                Some((at, subject)) => sink.error(at, subject, format!("{} cannot be read: {words}", shown.display())),
                None => sink.error(&Spot { file: shown.as_path().into(), line: 0 }, &[], format!("cannot be read: {words}")),
            }
            return Parsed { files: vec![shown], ..Parsed::default() };
        }
    };
    let own_folder = wanted.path.parent().unwrap_or(Path::new("")).to_path_buf();
    let own = std::cell::OnceCell::<PathBuf>::new();
    let is_beside = |path: &Path| reader.canonical(path).starts_with(own.get_or_init(|| reader.canonical(&own_folder)));
    // The parser knows files by the names we give it; relative names start from where they were really read.
    let places = RefCell::new(BTreeMap::from([(shown.clone(), wanted.path.to_path_buf())]));
    let mut include = |name: &str, from: &Path| -> Result<(PathBuf, Vec<u8>), String> {
        let folder = places.borrow().get(from).and_then(|path| path.parent()).unwrap_or(Path::new("")).to_path_buf();
        let path = lexical(&folder.join(name));
        let refused = if is_beside(&path) { reader.refuses_own(wanted.reach, &path) } else { reader.refuses(wanted.reach, &path) };
        if let Some(why) = refused {
            return Err(why.into());
        }
        let text = reader.read_shared(&path)?;
        let shown = reader.shown(&path);
        places.borrow_mut().insert(shown.clone(), path);
        Ok((shown, text.to_vec()))
    };
    let (mut records, mut recorder) = (Records::new(), Recorder::default());
    let source =
        master::Source { text: &[], file: shown, origin: wanted.origin.clone(), default_ttl: wanted.default_ttl, first_file: wanted.first_file };
    let mut more = |room: &mut [u8]| {
        let len = parts.read(room)?;
        recorder.add(&room[..len]);
        Ok(len)
    };
    let parsed = master::parse_stream(source, &mut more, &mut include, &mut records);
    parts.finish();
    let chunks = recorder.finish().filter(|_| !parsed.is_loose && parsed.files.len() == 1);
    let whole = parsed.errors.is_empty();
    for error in parsed.errors {
        sink.error(&Spot { file: error.file.as_path().into(), line: error.line }, &[], error.kind.to_string());
    }
    let paths = places.into_inner().into_values().collect();
    Parsed { records, files: parsed.files, paths, whole, chunks }
}

/// Checks the static records of a zone. SOA and NS of a TOML zone (`derived`) were asked for where they are written.
pub(super) fn check(model: &ZoneModel, owners: &Owners, derived: bool, sink: &Sink) {
    // A steered name is there for MX, SRV and NS records to point at.
    let of = |is_cname| model.steers.iter().filter(|steer| steer.is_cname == is_cname).map(|steer| steer.owner.clone()).collect();
    for fault in zone::check::check(&model.name, owners, &of(false), &of(true)) {
        if derived && matches!(fault.fault, Fault::NoSoa | Fault::NoApexNs) {
            continue;
        }
        let severity = match fault.severity {
            zone::check::Severity::Warning => Severity::Warning,
            zone::check::Severity::Error => Severity::Error,
        };
        let file = model.files.get(usize::from(fault.place.file)).cloned().unwrap_or_default();
        sink.add(Problem { severity, file, line: fault.place.line, subject: Vec::new(), text: fault.to_string() });
    }
}

/// The tree of a zone without errors; it says if there is too much for one.
pub(super) fn build_tree(model: &ZoneModel, owners: Owners, file: &Path, sink: &Sink) -> Option<Arc<ZoneTree>> {
    build_marked(model, owners, &[], file, sink).map(|(tree, _)| tree)
}

/// [`build_tree`]; says where the nodes of these owners stand, and where those of all owners end.
fn build_marked(model: &ZoneModel, owners: Owners, marks: &[OwnerId], file: &Path, sink: &Sink) -> Option<(Arc<ZoneTree>, Vec<NodeId>)> {
    if sink.errors() > 0 {
        return None;
    }
    let steered: Vec<Name> = model.steers.iter().map(|steer| steer.owner.clone()).collect();
    let built = ZoneTree::build_marked(&model.name, owners, &steered, marks);
    let built = built.map_err(|error| sink.error(&Spot { file: file.into(), line: 0 }, &[], error.to_string()));
    built.ok().map(|(tree, places)| (Arc::new(tree), places))
}

/// Every zone that is a master file of its own: `[[zones.master]]`, and the `*.zone` of the folder that nobody names (`taken`, without links).
pub(super) fn zones(context: &Context<'_>, entries: &[PathBuf], taken: &[PathBuf], config: &Path) -> Vec<KnownZone> {
    let (reader, settings) = (context.reader, context.settings);
    let config_shown: Arc<Path> = reader.shown(config).into();
    let named: HashSet<PathBuf> = taken.iter().cloned().chain(settings.masters.iter().map(|master| reader.canonical(&master.file))).collect();
    let is_named = |path: &Path| !named.is_empty() && named.contains(&reader.canonical(path));
    let mut jobs: Vec<Job> = settings
        .masters
        .iter()
        .map(|master| Job { path: master.file.clone(), origin: Ok(master.origin.to_lowercase()), line: Some(master.line) })
        .collect();
    for path in entries.iter().filter(|path| has_extension(path, "zone") && !is_named(path)) {
        let origin = match path.file_stem().and_then(|stem| stem.to_str()).map(Name::parse_absolute) {
            Some(Ok(origin)) => Ok(origin.to_lowercase()),
            Some(Err(error)) => Err(format!("the file's name gives no zone: {error}")),
            None => Err("the file's name gives no zone: it is not UTF-8".to_string()),
        };
        jobs.push(Job { path: path.clone(), origin, line: None });
    }
    parallel::map(&jobs, |job| job.run(context, config, &config_shown))
}

/// The zone of a master file of its own that an earlier load found.
pub(super) fn again(context: &Context<'_>, path: &Path, origin: &Name, config: &Path) -> KnownZone {
    let mut masters = context.settings.masters.iter();
    let named = masters.find(|master| master.file == path && master.origin.to_lowercase() == *origin);
    let job = Job { path: path.to_path_buf(), origin: Ok(origin.clone()), line: named.map(|master| master.line) };
    job.run(context, config, &context.reader.shown(config).into())
}

/// One zone to be loaded, or why its file is none.
struct Job {
    path: PathBuf,
    origin: Result<Name, String>,
    /// Of the `[[zones.master]]` that names it.
    line: Option<u32>,
}

impl Job {
    fn run(&self, context: &Context<'_>, config: &Path, config_shown: &Arc<Path>) -> KnownZone {
        let reader = context.reader;
        let origin = match &self.origin {
            Ok(origin) => origin,
            Err(text) => {
                let text = format!("{text}; rename it, or give its origin in [[zones.master]]");
                let problem = Problem { severity: Severity::Error, file: reader.shown(&self.path), line: 0, subject: Vec::new(), text };
                return KnownZone::unknown(LoadedZone { problems: vec![problem], ..LoadedZone::nothing(None, reader.shown(&self.path)) });
            }
        };
        if let Some(known) = context.known.master(reader, &self.path, origin) {
            return known;
        }
        let before = context.known.master_before(&self.path, origin);
        if let Some(known) = before.and_then(|before| edit::edited(reader, before, origin, Some(config))) {
            return known;
        }
        let at = Spot { file: config_shown.clone(), line: self.line.unwrap_or_default() };
        let subject = ["zones".to_string(), format!("master {origin}")];
        let named_by = self.line.map(|_| (&at, &subject[..]));
        alone(reader, &Wanted { path: &self.path, origin, default_ttl: None, first_file: 0, reach: &context.reach, named_by }, Some(config))
    }
}

/// One zone that is a master file and nothing else.
pub(super) fn alone(reader: &Reader<'_>, wanted: &Wanted<'_>, config: Option<&Path>) -> KnownZone {
    let sink = Sink::default();
    let mut parsed = parse(reader, wanted, &sink);
    let model = ZoneModel { files: std::mem::take(&mut parsed.files), soa_serial: SerialSource::File, ..ZoneModel::empty(wanted.origin.clone()) };
    let (mut tree, mut chunks) = (None, None);
    if sink.errors() == 0 {
        let owners = Owners::group(wanted.origin, std::mem::take(&mut parsed.records));
        check(&model, &owners, false, &sink);
        // Where there is something to say, the lines of it are to be right.
        chunks = parsed.chunks.take().filter(|_| sink.is_empty());
        let marks = chunks.as_ref().map_or_else(Vec::new, |(_, lines)| owners.at_lines(lines));
        let first: Vec<OwnerId> = marks.iter().map(|(owner, _)| *owner).collect();
        let built = build_marked(&model, owners, &first, &reader.shown(wanted.path), &sink);
        chunks = chunks.filter(|_| built.is_some());
        if let (Some((chunks, _)), Some((_, starts))) = (&mut chunks, &built) {
            chunks.place(starts, marks.iter().map(|(_, goes_on)| *goes_on));
        }
        tree = built.map(|(tree, _)| tree);
    }
    let content = content_hash(reader, &parsed.paths, Some(wanted.origin), &Defaults::default());
    let sources = sources(reader, parsed.paths.iter().map(PathBuf::as_path).chain(config));
    let sound = sink.errors() == 0;
    let zone = LoadedZone {
        model: sound.then(|| Arc::new(model)),
        tree,
        content,
        sources,
        problems: sorted(sink.into_problems()),
        ..LoadedZone::nothing(Some(wanted.origin.clone()), reader.shown(wanted.path))
    };
    KnownZone::new(reader, zone, wanted.path, parsed.paths).in_chunks(chunks.map(|(chunks, _)| Arc::new(chunks)))
}

/// What loading a zone again takes.
pub(super) fn sources<'p>(reader: &Reader<'_>, paths: impl IntoIterator<Item = &'p Path>) -> Vec<ZoneSource> {
    let mut all: Vec<ZoneSource> =
        paths.into_iter().filter_map(|path| Some(ZoneSource { path: path.to_path_buf(), hash: reader.seen(path)?.hash })).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup();
    all
}
