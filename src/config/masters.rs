//! Master files: the static part of a TOML zone, `*.zone` files of the folder, `[[zones.master]]`, and a file alone.

use std::path::{Path, PathBuf};

use super::load::{Context, LoadedZone, Reader};
use super::source::{Sink, Spot};
use crate::dns::Name;
use crate::policy::model::ZoneModel;
use crate::zone::Record;

/// What a master file and its includes hold.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) records: Vec<Record>,
    /// As problems name them; places of records point in here.
    pub(super) files: Vec<PathBuf>,
    /// As they were read.
    pub(super) paths: Vec<PathBuf>,
}

/// Parses a master file.
pub(super) fn parse(_reader: &Reader<'_>, _path: &Path, _folder: &Path, _origin: &Name, _named_by: Option<&Spot>, _sink: &Sink) -> Parsed {
    Parsed::default()
}

/// Checks the static records of a zone.
pub(super) fn check(_model: &ZoneModel, _sink: &Sink) {}

/// Every zone that is a master file of its own.
pub(super) fn zones(_context: &Context<'_>, _entries: &[PathBuf], _taken: &[PathBuf], _config: &Path) -> Vec<LoadedZone> {
    Vec::new()
}

/// One zone that is a master file.
pub(super) fn zone(reader: &Reader<'_>, path: &Path, _folder: &Path, origin: &Name, _named_by: Option<&Spot>) -> LoadedZone {
    LoadedZone {
        name: Some(origin.clone()),
        declared_in: reader.shown(path),
        model: None,
        content: 0,
        sources: Default::default(),
        problems: Vec::new(),
    }
}
