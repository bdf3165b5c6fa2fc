//! One zone alone, as `meridian reload ZONE` asks for it: the files of the others are not even looked at, as long as they have no say in it.
//!
//! ```text
//! meridian.toml, libraries, the names in the zone folder   as they were, with nothing wrong
//! the zone before                                          taken from its files as they were
//! its file now                                             declares the same zone and regions, takes its static part from the same file
//! what comes out                                           without error; monitors of libraries ask for the hosts that they asked for
//! ```
//!
//! Whenever it is otherwise, everything is loaded.

use std::path::Path;

use super::files::{Files, lexical};
use super::known::{Known, KnownZone, TomlParts};
use super::load::{Context, Loaded, LoadedZone, library_hosts, list_zones, load_toml, toml_zone};
use super::masters;
use super::raw::RawFile;
use super::reader::Reader;

/// Loads `served`, which an earlier load gave, again: that zone alone is in the result. `None` when everything has to be loaded.
pub fn load_named(files: &dyn Files, config_path: &Path, known: &Known, served: &LoadedZone) -> Option<Loaded> {
    let config_path = lexical(config_path);
    let reader = Reader::new(files, config_path.parent().unwrap_or(Path::new("")));
    let around = known.around()?;
    let before = known.served(served)?;
    let entries = list_zones(&reader, &around.settings, &mut Vec::new())?;
    if !around.holds(&reader, &entries) {
        return None;
    }
    let context = Context {
        reader: &reader,
        settings: &around.settings,
        reach: around.settings.reach(),
        known,
        library: &around.library,
        library_problems: &[],
        region_problems: &[],
    };
    let made = match &before.toml {
        Some(parts) => toml(&context, before, parts)?,
        None => masters::again(&context, &before.path, served.name.as_ref()?, &config_path),
    };
    let zone = made.zone.clone();
    let (now, then) = (zone.model.as_deref().filter(|_| zone.tree.is_some())?, served.model.as_deref()?);
    if zone.name != served.name || !library_hosts(now).map(by_name).eq(library_hosts(then).map(by_name)) {
        return None;
    }
    let problems = zone.problems.clone();
    let known = known.with(made, reader.reads());
    Some(Loaded {
        settings: Some(around.settings.clone()),
        zones: vec![zone],
        problems,
        zones_unlisted: false,
        zones_empty: None,
        held_back: None,
        known,
        texts: reader.into_texts(),
    })
}

fn toml(context: &Context<'_>, before: &KnownZone, parts: &TomlParts) -> Option<KnownZone> {
    if let Some(same) = context.known.toml(context.reader, &before.path) {
        return Some(same);
    }
    let (raw, problems) = load_toml(context.reader, &before.path);
    if raw.zone.is_none() || !has_regions_of(&raw, parts) {
        return None;
    }
    let made = toml_zone(context, &raw, &problems);
    (made.toml.as_ref()?.master == parts.master).then_some(made)
}

/// Operators address regions across zones, so all zones agree on them.
fn has_regions_of(raw: &RawFile, parts: &TomlParts) -> bool {
    let now = raw.regions.iter().map(|(name, region)| (name, &region.value));
    now.eq(parts.regions.iter().map(|(name, region)| (name, &region.value)))
}

fn by_name<'m>((pool, monitor, host): (&'m crate::policy::model::Pool, &'m str, &'m str)) -> (&'m str, &'m str, &'m str) {
    (&pool.id, monitor, host)
}
