//! Promotion: an overlay becomes what the files say.
//!
//! ```text
//! writer                       a thread of its own
//! checks the overlay ────────▶ reads the file (is it what was loaded?) ─▶ edits its text ─▶ builds the zone from the edited text
//! judges the build by safety ◀─────────────────────────────────────────────┘
//! rules; dry run: the difference, nothing else
//!          └─────────────────▶ writes beside it, syncs, renames
//! keeps the overlay's end ◀────────────────┘
//! and the entry in one write
//! takes the build and ends
//! the overlay in one world, and replies
//! ```
//!
//! A library's text is that of every zone that uses it: what it changes in others is told, judged, and for no token that is confined to zones.
//! What the build or a rule refuses never reaches the disk. A crash between the file and the end of the overlay leaves an overlay that says what the file says;
//! so does a disk that takes the file and not the end.

use std::fs;
use std::io::{self, Write as _};
use std::mem::discriminant;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use super::access;
use super::api::{Overlay, Promote, Promoted, Refusal, Setting, Who};
use super::audit::Entry;
use super::load::{self, Build, Previous};
use super::overlays::{Found, Laid, zone_text};
use super::state::ZoneState;
use super::toml::{self, Edit};
use super::worker::Worker;
use super::writer::{Done, Writer};
use crate::config::{Files, Listed, LoadedZone, Opened, OsFiles, Settings, Severity, Stamp, TextHash, io_words};
use crate::dns::Name;
use crate::policy::model::Target;
use crate::store::Write;

pub(super) type PromoteReply = oneshot::Sender<Result<Promoted, Refusal>>;

/// A promotion under way.
pub(super) struct Promotion {
    id: u64,
    /// As it was when it was asked for.
    overlay: Box<Overlay>,
    zone: Name,
    dry_run: bool,
    who: Who,
    reply: PromoteReply,
}

/// What came of its work.
pub(super) struct Written {
    file: PathBuf,
    diff: String,
    /// Zones beside its own that come to say something else, without the final dot.
    other_zones: Vec<String>,
    build: Box<Build>,
    step: Step,
}

/// What is to be done next.
enum Step {
    /// To judge what comes of it, and to write.
    Write(NewText),
    /// To keep that the overlay has ended.
    Keep,
    /// To take the build: the end is kept, or could not be.
    Take(Result<(), String>),
}

/// The new text of a file.
struct NewText {
    real: PathBuf,
    text: String,
    /// Of the text that it replaces.
    hash: u128,
}

/// The machine's files, but one of them has another text.
struct Patched {
    path: PathBuf,
    text: Vec<u8>,
}

impl Files for Patched {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.path { Ok(self.text.clone()) } else { OsFiles.read(path) }
    }

    fn open<'f>(&'f self, path: &Path) -> io::Result<Opened<'f>> {
        if path == self.path { Ok(Opened { octets: Box::new(io::Cursor::new(self.text.clone())), stamp: None }) } else { OsFiles.open(path) }
    }

    fn stamp(&self, path: &Path) -> Option<Stamp> {
        if path == self.path { None } else { OsFiles.stamp(path) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        OsFiles.list(dir)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        OsFiles.canonical(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        OsFiles.mode(path)
    }
}

/// Ends the name of a new text until it takes the name of the old one.
const BESIDE: &str = ".toml.promoted";

/// Removes new texts that a run before left beside files of this folder because it was killed.
pub fn clean(folder: &Path) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.') && name.ends_with(BESIDE));
        if is_ours && fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            match fs::remove_file(&path) {
                Ok(()) => tracing::info!("{}: removed, a promotion was broken off before it took effect", path.display()),
                Err(error) => tracing::warn!(%error, "{}: it is of a promotion that was broken off, and cannot be removed", path.display()),
            }
        }
    }
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid { field: "id".into(), detail: detail.into() })
}

impl Writer {
    pub(super) fn promote(&mut self, id: u64, promote: &Promote, who: Who, reply: PromoteReply) {
        let (zone, edit) = match self.may_promote(id, &who) {
            Ok(may) => may,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let Some(state) = self.zones.get(&zone) else { return };
        let loaded = state.taken.loaded.clone();
        let Some(overlay) = self.book.get(id).map(|laid| Box::new(self.shown(laid))) else { return };
        let worker = match Worker::start("promote") {
            Ok(worker) => worker,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        self.reloading = true;
        let zones = self.zones.iter().map(|(name, zone)| (name.clone(), zone.taken.clone())).collect();
        let previous = Previous { zones, known: self.known.clone(), geo: self.geo.clone(), disabled: self.disabled_rules(&[]) };
        let (done, config_path) = (self.done_sender.clone(), self.config_path.clone());
        let serving = self.settings.clone();
        let job = Promotion { id, overlay, zone, dry_run: promote.dry_run, who, reply };
        worker.work(move || {
            let result = work(&job, &edit, &loaded, serving.as_ref(), &config_path, &previous);
            drop(previous);
            let _ = done.send(Done::Promoted(job, result));
        });
    }

    /// What is to be written, if it can be: the zone that it is seen from, and the edit.
    fn may_promote(&self, id: u64, who: &Who) -> Result<(Name, Edit), Refusal> {
        let laid = self.laid_for(id, who)?;
        if let Some(why) = &laid.overlay.inactive {
            return refuse(format!("the overlay has no effect that could be written: {why}"));
        }
        match laid.overlay.phase_word() {
            "in effect" => {}
            phase => return refuse(format!("the overlay is {phase}; only what is wholly in effect is promoted")),
        }
        // What is newer would stay laid above the new text.
        if let Some(why) = self.ranks().standing(laid).why {
            return refuse(format!("the overlay has no effect that could be written as it is: {why}; revert what stands in its way first"));
        }
        if let Some(below) = self.below(laid) {
            return refuse(format!("overlay {below} lies below it and would take over in place of the file: revert that one first"));
        }
        if self.reloading {
            return Err(Refusal::Busy { detail: "the files are being read".into() });
        }
        let zone = self.zone_of(laid).ok_or_else(|| self.no_overlay(id, who))?;
        if let Some(why) = &zone.kept_why {
            return refuse(format!("an older version of the zone is served ({why}); mend its file first"));
        }
        Ok((zone.model().name.clone(), edit_of(laid, zone)?))
    }

    /// An overlay that sets the same of the same target, and is older.
    fn below(&self, laid: &Laid) -> Option<u64> {
        let is_same = |other: &Laid| discriminant(&other.overlay.set) == discriminant(&laid.overlay.set) && other.overlay.inactive.is_none();
        let mut older = self.book.about(laid.found()?).take_while(|id| *id < laid.overlay.id);
        older.find(|id| self.book.get(*id).is_some_and(is_same))
    }

    fn zone_of(&self, laid: &Laid) -> Option<&ZoneState> {
        match laid.found()? {
            Found::Thing(id) => {
                let mut zones = self.loaded().around(id).filter(|zone| !zone.ids.pools_of(&zone.model, id).is_empty());
                self.zones.get(&zones.next()?.model.name).map(|zone| &**zone)
            }
            found => self.zones.get(found.zone()?).map(|zone| &**zone),
        }
    }

    /// A step of the work is done; what comes next is begun. `Some` when nothing is left to be done but to take what came of it.
    pub(super) fn go_on_promoting(&mut self, job: Promotion, result: Result<Written, Refusal>) -> Option<(Promotion, Result<Written, Refusal>)> {
        let mut written = match result {
            Ok(written) => written,
            Err(refusal) => return Some((job, Err(refusal))),
        };
        match std::mem::replace(&mut written.step, Step::Keep) {
            Step::Write(text) => {
                // The edited text is built: a rule may forbid what it does, in other zones above all.
                let only = written.build.only().map(ToString::to_string);
                let broken = self.judge_build(&written.build, only.as_deref(), false).broken;
                if !broken.is_empty() {
                    self.reaper.other(written.build);
                    return Some((job, Err(Refusal::Safety { broken })));
                }
                if job.dry_run {
                    return Some((job, Ok(written)));
                }
                self.write_promoted(job, written, text);
                None
            }
            Step::Keep => {
                self.keep_promoted(job, written);
                None
            }
            taken @ Step::Take(_) => Some((job, Ok(Written { step: taken, ..written }))),
        }
    }

    /// Where the end of the overlay could not be kept the file is left alone. The overlay as it is is written anew: that says whether it could.
    fn write_promoted(&mut self, job: Promotion, written: Written, text: NewText) {
        let trial = self.book.get(job.id).map(|laid| Write::put_overlay(&laid.overlay)).into_iter().collect();
        let (can_keep, done) = (self.store.change(trial, Vec::new()), self.done_sender.clone());
        tokio::spawn(async move {
            if let Err(error) = can_keep.await {
                let refusal = Refusal::Store { detail: format!("{error}; the file was not written either") };
                return drop(done.send(Done::Promoted(job, Err(refusal))));
            }
            let work = move || {
                let shown = written.file.display();
                let result = write(&text.real, text.text.as_bytes(), text.hash).map_err(|unwritten| match unwritten {
                    // Only the disk is in the way, so it is no fault of the request.
                    Unwritten::Io(what, error) => Refusal::Store { detail: format!("{shown}: {what}: {}", io_words(&error)) },
                    Unwritten::Changed => {
                        Refusal::Invalid { field: "id".into(), detail: format!("{shown}: it has changed since it was loaded; nothing was changed") }
                    }
                });
                let _ = done.send(Done::Promoted(job, result.map(|()| written)));
            };
            // A task that is not there any more drops the reply, which tells that nothing came of it.
            drop(tokio::task::spawn_blocking(work));
        });
    }

    /// The file says it: before anybody is told, the overlay's end and the entry of the audit log are on disk, together.
    fn keep_promoted(&mut self, job: Promotion, written: Written) {
        let entry = Entry {
            after: serde_json::json!(job.overlay.set),
            detail: Some(format!(
                "overlay {}, written to {}{}",
                job.id,
                written.file.display(),
                if written.other_zones.is_empty() { String::new() } else { format!(", which changes {} as well", some(&written.other_zones)) },
            )),
            ..self.entry(&job.who, "overlay.promote", &job.overlay.target)
        };
        // It may have ended meanwhile.
        let is_laid = self.book.get(job.id).is_some();
        let end = is_laid.then(|| self.end_of(job.id, "promoted", &job.who.name));
        let (kept, done) = (self.store.change(end.into_iter().collect(), vec![entry.clone()]), self.done_sender.clone());
        tokio::spawn(async move {
            let kept = kept.await.map(|_| access::log(&entry)).map_err(|error| error.to_string());
            let _ = done.send(Done::Promoted(job, Ok(Written { step: Step::Take(kept), ..written })));
        });
    }

    /// The work is done: the build is taken and the overlay ends, in one world.
    pub(super) fn take_promoted(&mut self, job: Promotion, result: Result<Written, Refusal>) {
        let Promotion { id, overlay, zone, dry_run, who, reply } = job;
        let Written { file, diff, build, other_zones, step } = match result {
            Ok(written) => written,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let mut promoted = Promoted { overlay: *overlay, file: file.display().to_string(), diff, other_zones, generation: self.generation, dry_run };
        if dry_run {
            let _ = reply.send(Ok(promoted));
            self.reaper.other(build);
            return;
        }
        let kept = if let Step::Take(Err(error)) = step { Err(error) } else { Ok(()) };
        if kept.is_ok() {
            self.book.remove(id);
        }
        let only = build.only().is_some().then(|| zone.to_string());
        self.take_build(*build, only, false, &who);
        promoted.generation = self.generation + 1;
        match kept {
            Ok(()) => self.promote_replies.push((reply, promoted)),
            Err(error) => {
                self.take_done(Done::Trouble(format!("overlay {id} was written to its file, but not that it ended: {error}")));
                let detail = format!("{error}; {} was written and is served, and overlay {id} stays, which says the same: revert it", promoted.file);
                let _ = reply.send(Err(Refusal::Store { detail }));
            }
        }
    }
}

/// What an overlay is in the text of a file.
fn edit_of(laid: &Laid, zone: &ZoneState) -> Result<Edit, Refusal> {
    let model = zone.model();
    match (laid.found(), laid.overlay.set) {
        (_, Setting::State(_)) => refuse(
            "up, down and drain have no form in the files: take the endpoint or pool out of its file, or give it weight 0, and reload; then revert the overlay",
        ),
        (_, Setting::Disabled(_)) => refuse(
            "a disabled rule has no form in the files: take it out of its file and reload, then revert the overlay (where default = \"nearest\", see that it still names the children it needs)",
        ),
        (Some(Found::Thing(id)), Setting::Weight(weight)) => {
            let mut all = model.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)));
            match all.find(|(_, endpoint)| *endpoint.id == **id).map(|(pool, endpoint)| (pool.name.clone(), endpoint.target.clone())) {
                Some((pool, Target::Address(address))) => Ok(Edit::EndpointWeight { pool, address, weight }),
                _ => refuse("the endpoint is a CNAME target, which has no weight in the files"),
            }
        }
        (Some(Found::Child(_, policy, child)), Setting::Weight(weight)) => {
            let in_steer = !model.policies.iter().any(|other| other.name == *policy && !other.inline);
            Ok(Edit::ChildWeight { policy: policy.clone(), in_steer, child: child.clone(), weight })
        }
        (Some(Found::Steered(_, owner)), Setting::Ttl(ttl)) => match model.steers.iter().find(|steer| steer.owner == *owner) {
            Some(steer) => Ok(Edit::SteerTtl { steer: steer.name.clone(), max: ttl.min(steer.ttl.max), min: ttl.min(steer.ttl.min) }),
            None => refuse("the steered name is gone"),
        },
        (Some(Found::Static(_, owner, rtype)), Setting::Ttl(ttl)) => {
            let tree = &zone.taken.parts.tree;
            let rrsets = tree.node_at(owner.as_wire()).into_iter().flat_map(|node| tree.rrsets(node));
            let ttls = rrsets.filter(|rrset| rtype.is_none_or(|rtype| rtype == rrset.rtype)).map(|rrset| (rrset.rtype, ttl.min(rrset.ttl))).collect();
            Ok(Edit::RecordTtl { zone: model.name.clone(), owner: owner.clone(), ttls })
        }
        _ => refuse("the overlay has no effect that could be written"),
    }
}

/// Zones that are named in a sentence.
const MAX_NAMED: usize = 10;

/// The first of these zones, and how many more there are.
fn some(zones: &[String]) -> String {
    let named = zones[..zones.len().min(MAX_NAMED)].join(", ");
    match zones.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more zones"),
    }
}

/// Zones that a build makes say something else than they do, but for this one.
fn others(build: &Build, previous: &Previous, own: &Name) -> Vec<String> {
    let differs = |zone: &&load::TakenZone| {
        let before = zone.loaded.name.as_ref().and_then(|name| previous.zones.get(name));
        zone.loaded.name.as_ref() != Some(own) && before.is_none_or(|before| before.loaded.content != zone.loaded.content)
    };
    build.good.iter().filter(differs).filter_map(|zone| zone.loaded.name.as_ref().map(zone_text)).collect()
}

/// Reads, edits and builds.
fn work(
    job: &Promotion,
    edit: &Edit,
    loaded: &LoadedZone,
    serving: Option<&Settings>,
    config_path: &Path,
    previous: &Previous,
) -> Result<Written, Refusal> {
    let folder = serving.map(|settings| settings.zones_dir.clone()).unwrap_or_default();
    // The declaring file first, then libraries.
    let mut sources: Vec<_> = loaded.sources.iter().filter(|source| source.path.extension().is_some_and(|extension| extension == "toml")).collect();
    sources.retain(|source| source.path != config_path);
    sources.sort_by_key(|source| !source.path.ends_with(&loaded.declared_in));
    for source in sources {
        let shown = source.path.display();
        let octets = OsFiles.read(&source.path).or_else(|error| refuse(format!("{shown} cannot be read: {error}")))?;
        if TextHash::of(&octets) != source.hash {
            return refuse(format!("{shown} has changed since it was loaded; reload it first"));
        }
        let Ok(text) = String::from_utf8(octets) else { continue };
        let Some(new) = toml::edit(&text, edit).or_else(|why| refuse(format!("{shown} cannot be edited: {why}; edit it by hand")))? else { continue };
        if !source.path.ends_with(&loaded.declared_in) {
            job.who.may_change_all().map_err(|_| {
                let zones = job.who.zones.as_deref().unwrap_or_default().join(", ");
                let detail = format!("it would be written to {shown}, which every zone may use: found a token that is confined to {zones}");
                Refusal::Forbidden { detail }
            })?;
        }
        let real = writable(&source.path, &folder)?;
        let file = source.path.file_name().map_or_else(|| source.path.clone(), PathBuf::from);
        let diff = toml::unified(&loaded.declared_in.with_file_name(&file).display().to_string(), &text, &new);
        let patched = Patched { path: source.path.clone(), text: new.clone().into_bytes() };
        let is_own = source.path.ends_with(&loaded.declared_in);
        let build_of = |files: &dyn Files| {
            load::build_alone(files, config_path, previous, &job.zone).unwrap_or_else(|| match serving.filter(|_| is_own) {
                // Whatever else has changed in the folder waits for a reload.
                Some(serving) => load::build_named(files, config_path, previous, &job.zone, serving),
                None => load::build(files, config_path, previous),
            })
        };
        let build = build_of(&patched);
        // What nobody has reloaded would be served as well, and no difference shows it.
        let unpatched = if build.only().is_some() { build_of(&OsFiles) } else { load::build(&OsFiles, config_path, previous) };
        if let Some(unloaded) = unloaded(&unpatched, previous, config_path) {
            return refuse(format!("{unloaded} since it was loaded; reload first"));
        }
        if build.settings.is_none() || !build.good.iter().any(|zone| zone.parts.model.name == job.zone) {
            let why = build.problems.iter().find(|problem| problem.severity == Severity::Error).map(ToString::to_string).unwrap_or_default();
            return refuse(format!("with the change the files would not load, so nothing was written: {why}"));
        }
        let other_zones = others(&build, previous, &job.zone);
        let step = Step::Write(NewText { real, text: new, hash: source.hash });
        return Ok(Written { file: source.path.clone(), diff, other_zones, build: Box::new(build), step });
    }
    refuse("no TOML file of the zone defines it: what a master file or the table [zone] says is changed there")
}

/// What the files say otherwise than what is served, as the beginning of a sentence.
fn unloaded(build: &Build, previous: &Previous, config_path: &Path) -> Option<String> {
    let changed = |file: &Path| format!("{} has changed", file.display());
    for zone in &build.good {
        let Some(before) = zone.loaded.name.as_ref().and_then(|name| previous.zones.get(name)) else {
            return Some(format!("{} has come", zone.loaded.declared_in.display()));
        };
        let mut others = zone.loaded.sources.iter().filter(|source| !before.loaded.sources.contains(source)).map(|source| &source.path);
        if before.loaded.content != zone.loaded.content {
            // The configuration is a source of every zone, and says little of what it says.
            let file = others.clone().find(|path| *path != config_path).or_else(|| others.next());
            return Some(changed(file.unwrap_or(&zone.loaded.declared_in)));
        }
        if before.geo_hash != zone.geo_hash {
            return Some("a database has changed".into());
        }
        if build.only().is_none() && others.any(|path| path == config_path) {
            return Some(changed(config_path));
        }
    }
    let file = build.bad.first().map(|(_, file)| format!("{} has errors, or has changed", file.display()));
    let names = || build.good.iter().filter_map(|zone| zone.loaded.name.as_ref());
    let gone =
        || previous.zones.keys().find(|before| !names().any(|name| name == *before)).map(|name| format!("the file of {} has gone", zone_text(name)));
    file.or_else(|| gone().filter(|_| build.only().is_none()))
}

/// The file behind a path, if it may be replaced.
fn writable(path: &Path, folder: &Path) -> Result<PathBuf, Refusal> {
    let shown = path.display();
    let canonical = |path: &Path| fs::canonicalize(path).or_else(|error| refuse(format!("{} cannot be looked at: {error}", path.display())));
    let (real, folder) = (canonical(path)?, canonical(folder)?);
    if real.parent() != Some(&folder) {
        return refuse(format!("{shown} leads out of the zone folder, to {}: edit that file by hand", real.display()));
    }
    let mode = fs::metadata(&real).map_or(0, |meta| meta.permissions().mode());
    let opened = fs::OpenOptions::new().write(true).open(&real);
    match opened {
        Ok(_) if mode & 0o222 != 0 => Ok(real),
        Ok(_) => Err(Refusal::Store { detail: format!("{shown} cannot be written: it is read-only") }),
        Err(error) => Err(Refusal::Store { detail: format!("{shown} cannot be written: {}", io_words(&error)) }),
    }
}

/// Why a file is not replaced.
enum Unwritten {
    /// What could not be done, and what the system says.
    Io(&'static str, io::Error),
    /// Somebody else was faster.
    Changed,
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> Unwritten {
    move |error| Unwritten::Io(what, error)
}

/// Replaces a file as a whole: a new one beside it, on disk, with the same owner and mode, takes its name.
fn write(real: &Path, text: &[u8], hash: u128) -> Result<(), Unwritten> {
    let folder = real.parent().unwrap_or(Path::new("."));
    let name = real.file_stem().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}{BESIDE}"));
    let result = (|| {
        let _ = fs::remove_file(&beside);
        let meta = fs::metadata(real).map_err(io("it cannot be looked at"))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(io("no file can be made beside it"))?;
        file.write_all(text).map_err(io("the new text cannot be written"))?;
        let ours = file.metadata().map_err(io("it cannot be looked at"))?;
        if (ours.uid(), ours.gid()) != (meta.uid(), meta.gid()) {
            std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid())).map_err(io("its owner cannot be kept"))?;
        }
        file.set_permissions(meta.permissions()).map_err(io("its mode cannot be kept"))?;
        file.sync_all().map_err(io("the new text cannot be kept"))?;
        // As late as can be: somebody may have an editor open.
        if fs::read(real).map(|octets| TextHash::of(&octets)).ok() != Some(hash) {
            return Err(Unwritten::Changed);
        }
        fs::rename(&beside, real).map_err(io("it cannot be replaced"))?;
        // The name is on disk only when the folder is; but the file is replaced, whatever comes of that.
        if let Err(error) = fs::File::open(folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!(%error, "{}: a crash of this machine could bring back what it said before", real.display());
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = fs::remove_file(&beside);
    }
    result
}
