//! Databases and latency table of one build: read when they are not what they were, decoded when a class map is to be made that no build made
//! before.
//!
//! ```text
//! files      zones that need them         read            decoded
//! as before  none is made anew            –               –
//! as before  made anew, of known shapes   latency table   latency table
//! as before  a shape that is new          all             all
//! others     any                          all             all, if any zone needs them
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::{GeoSources, SharedMaps};
use super::load::{Build, whole_file};
use super::maps::Shapes;
use crate::config::{EcsClip, Files, Problem, Settings, Severity, Stamp};
use crate::geo::classmap::Clip;
use crate::geo::latency::{RttProblem, RttTable};
use crate::geo::table::Table;
use crate::policy::model::{Child, ZoneModel};

/// What an earlier build found, and made of it.
#[derive(Clone, Debug)]
pub struct KnownGeo {
    /// `None`: nobody can tell whether the files are the same without reading them.
    stamps: Option<Vec<(PathBuf, Stamp)>>,
    clip: Option<EcsClip>,
    hash: u64,
    shapes: Shapes,
}

/// The inputs of one build.
pub(super) struct Geography<'f> {
    files: &'f dyn Files,
    settings: &'f Settings,
    /// `None`: as they were, not read.
    inputs: Option<GeoInputs>,
    /// As in [`KnownGeo`].
    stamps: Option<Vec<(PathBuf, Stamp)>>,
}

impl<'f> Geography<'f> {
    /// Looks at the files, and reads those of which nothing is known. Sets the build's hash of them.
    pub(super) fn look(files: &'f dyn Files, settings: &'f Settings, known: Option<&KnownGeo>, build: &mut Build) -> (Geography<'f>, SharedMaps) {
        let stamps = stamps(files, settings);
        let mut geography = Geography { files, settings, inputs: None, stamps };
        let is_same = |known: &&KnownGeo| known.stamps.is_some() && known.stamps == geography.stamps && known.clip == settings.ecs_clip;
        match known.filter(is_same) {
            Some(known) => {
                build.geo_hash = known.hash;
                (geography, SharedMaps::with(&known.shapes))
            }
            None => {
                geography.read(build);
                let same = known.filter(|known| known.hash == build.geo_hash);
                (geography, same.map_or_else(SharedMaps::default, |known| SharedMaps::with(&known.shapes)))
            }
        }
    }

    fn read(&mut self, build: &mut Build) {
        self.inputs = Some(read_geo_inputs(self.files, self.settings, build));
        // What changed under our hands has stamps that stand for something else.
        self.stamps = self.stamps.take().filter(|before| build.geo_trouble.is_none() && stamps(self.files, self.settings).as_ref() == Some(before));
    }

    /// What the policies are compiled with: `shared` holds the maps of all of them afterwards.
    pub(super) fn sources<'m>(
        &mut self,
        roots: impl Iterator<Item = (&'m ZoneModel, Child)> + Clone,
        shared: &mut SharedMaps,
        build: &mut Build,
    ) -> GeoSources {
        let mut geo = GeoSources { clip: self.settings.ecs_clip.map(|clip| Clip { v4: clip.v4, v6: clip.v6 }), ..GeoSources::empty() };
        match &self.inputs {
            Some(inputs) => geo.rtt = decode_latency(inputs.latency.as_ref(), build),
            None => geo.rtt = decode_latency(read_latency(self.files, self.settings, build).as_ref(), build),
        }
        if shared.lacks_any(roots.clone(), &geo) {
            if self.inputs.is_none() {
                let hash = build.geo_hash;
                self.read(build);
                if build.geo_hash != hash {
                    *shared = SharedMaps::default();
                }
            }
            let databases = self.inputs.as_ref().map_or(&[][..], |inputs| &inputs.databases);
            geo.table = decode_databases(databases, build);
        }
        shared.prepare(roots, &geo);
        geo
    }

    /// For the next build.
    pub(super) fn known(self, shared: SharedMaps, build: &Build) -> Option<Arc<KnownGeo>> {
        let known = KnownGeo { stamps: self.stamps, clip: self.settings.ecs_clip, hash: build.geo_hash, shapes: shared.into_shapes() };
        build.geo_trouble.is_none().then(|| Arc::new(known))
    }
}

fn stamps(files: &dyn Files, settings: &Settings) -> Option<Vec<(PathBuf, Stamp)>> {
    let paths = settings.geo_databases.iter().chain(&settings.latency_table);
    paths.map(|path| Some((path.clone(), files.stamp(path)?))).collect()
}

/// The databases and the latency table of the settings, for looking something up in them.
pub fn read_geo(files: &dyn Files, settings: &Settings) -> (GeoSources, Vec<Problem>) {
    let mut build = Build::default();
    let inputs = read_geo_inputs(files, settings, &mut build);
    let table = decode_databases(&inputs.databases, &mut build);
    let rtt = decode_latency(inputs.latency.as_ref(), &mut build);
    let clip = settings.ecs_clip.map(|clip| Clip { v4: clip.v4, v6: clip.v6 });
    (GeoSources { table, rtt, clip }, build.problems)
}

/// Octets of the databases and text of the latency table.
struct GeoInputs {
    databases: Vec<(String, Vec<u8>)>,
    latency: Option<(PathBuf, Vec<u8>)>,
}

fn read_geo_inputs(files: &dyn Files, settings: &Settings, build: &mut Build) -> GeoInputs {
    let mut databases = Vec::new();
    let mut hash = FNV_START;
    for path in &settings.geo_databases {
        match files.read(path) {
            Ok(octets) => {
                hash = fold_octets(hash, &octets);
                databases.push((path.display().to_string(), octets));
            }
            Err(error) => {
                // DNS serves without it, loudly (CONTRACT, Failure at start and reload).
                missing(path, format!("geo database cannot be read: {error}; clients it would place belong to the default"), build);
                hash = fold_octets(hash, b"missing");
            }
        }
    }
    let latency = read_latency(files, settings, build);
    if let Some((_, octets)) = &latency {
        hash = fold_octets(hash, octets);
    }
    if let Some(clip) = settings.ecs_clip {
        hash = fold_octets(hash, &[clip.v4, clip.v6]);
    }
    build.geo_hash = hash;
    GeoInputs { databases, latency }
}

fn read_latency(files: &dyn Files, settings: &Settings, build: &mut Build) -> Option<(PathBuf, Vec<u8>)> {
    let path = settings.latency_table.as_ref()?;
    match files.read(path) {
        Ok(octets) => Some((path.clone(), octets)),
        Err(error) => {
            missing(path, format!("latency table cannot be read: {error}; latency policies go by distance"), build);
            None
        }
    }
}

fn missing(path: &Path, text: String, build: &mut Build) {
    build.degraded.push(format!("{}: {text}", path.display()));
    build.problems.push(whole_file(path, Severity::Warning, text));
    build.geo_trouble.get_or_insert_with(|| path.to_path_buf());
}

fn decode_databases(databases: &[(String, Vec<u8>)], build: &mut Build) -> Table {
    match Table::read(databases.iter().map(|(name, octets)| (name.as_str(), octets.as_slice()))) {
        Ok(table) => table,
        Err(errors) => {
            for error in errors {
                build.problems.push(whole_file(Path::new(&error.database), Severity::Error, error.text.clone()));
                build.degraded.push(format!("{error}; no geo database is used"));
                build.geo_trouble.get_or_insert_with(|| PathBuf::from(&error.database));
            }
            Table::empty()
        }
    }
}

fn decode_latency(input: Option<&(PathBuf, Vec<u8>)>, build: &mut Build) -> Option<RttTable> {
    let (path, octets) = input?;
    match RttTable::parse(&String::from_utf8_lossy(octets)) {
        Ok(rtt) => {
            build.problems.extend(rtt.warnings().iter().map(|problem| of_table(path, Severity::Warning, problem)));
            Some(rtt)
        }
        Err(errors) => {
            build.problems.extend(errors.iter().map(|problem| of_table(path, Severity::Error, problem)));
            build.geo_trouble.get_or_insert_with(|| path.clone());
            build.degraded.push(format!("{}: the latency table has errors; latency policies go by distance", path.display()));
            None
        }
    }
}

fn of_table(file: &Path, severity: Severity, problem: &RttProblem) -> Problem {
    Problem { severity, file: file.to_path_buf(), line: problem.line, subject: vec!["latency table".into()], text: problem.text.clone() }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Eight octets at a time: databases are large.
fn fold_octets(mut hash: u64, octets: &[u8]) -> u64 {
    for chunk in octets.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    hash ^ octets.len() as u64
}
