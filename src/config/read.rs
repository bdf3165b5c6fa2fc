//! Reads one TOML file of the zone folder into a [`RawFile`]: its top, `[zone]` and `[region]`.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::lexical;
use super::raw::{Def, Defaults, RawFile, RawZone, SoaKeys, SteerKeys};
use super::source::{Doc, Located, Sink, Value};
use super::values::{self, RESERVED_NAMES};
use super::{read_monitor, read_pool, read_steer, records, safety};
use crate::dns::Name;
use crate::policy::model::Region;
use crate::zone::{MAX_TTL, Ttl};

/// TTL of static records where nothing is said.
pub(super) const DEFAULT_ZONE_TTL: Ttl = 300;
/// The most name servers of a zone: a referral with more never fits a UDP reply.
const MAX_NAME_SERVERS: usize = 32;

/// Reads a file. `file` is its name in problems, `path` where it was read.
pub(super) fn zone_file(file: &Path, path: &Path, text: &str, sink: &Sink) -> RawFile {
    let folder = path.parent().unwrap_or(Path::new(""));
    let unread = sink.errors() > 0;
    let (doc, tree) = Doc::parse(file, folder, text, sink);
    let top = doc.root(&tree);
    let zone = top.take("zone").map(|value| read_zone(&value));
    // A zone without a usable name has an error already; its items are still looked at.
    let origin = zone.as_ref().map(|zone| zone.name.clone().unwrap_or_else(Name::root));
    let origin = origin.as_ref();
    let records = top.take("records").map_or_else(Vec::new, |value| match origin {
        Some(origin) => records::read(&value, origin),
        None => {
            value.error("a file without [zone] is a library and has no records");
            Vec::new()
        }
    });
    let regions = top.take("region").map_or_else(BTreeMap::new, |value| read_regions(&value));
    let monitors = definitions(top.take("monitor"), "monitor", |value| read_monitor::monitor_keys(value, false));
    let pools = definitions(top.take("pool"), "pool", |value| read_pool::pool_keys(value, origin));
    let policies = definitions(top.take("policy"), "policy", |value| read_steer::steer_keys(value, read_steer::Place::Policy));
    let steers = top.take("steer").map_or_else(Vec::new, |value| {
        if origin.is_none() {
            value.error("a file without [zone] is a library and has no steered names");
        }
        read_steers(&value)
    });
    let before_defaults = sink.errors();
    let safety = top.take("safety");
    let has_safety = safety.is_some();
    let safety = safety.map(|value| safety::keys(&value, true)).unwrap_or_default();
    let defaults = top.take("defaults");
    // What a library says of safety holds for every zone.
    let has_defaults = defaults.is_some() || has_safety && zone.is_none();
    let defaults = defaults.map_or_else(Defaults::default, |value| read_defaults(&value));
    top.finish();
    let whole = !unread && doc.is_whole() && sink.errors() == before_defaults;
    RawFile {
        file: file.into(),
        path: path.to_path_buf(),
        whole,
        zone,
        records,
        regions,
        monitors,
        pools,
        policies,
        steers,
        safety,
        defaults,
        has_defaults,
    }
}

/// The items of `[kind]`, in the order of the file.
fn definitions<T>(section: Option<Value<'_>>, kind: &str, read: impl Fn(&Value<'_>) -> T) -> Vec<Def<T>> {
    let Some(table) = section.and_then(|value| value.table(&format!(" such as [{kind}.NAME]"))) else { return Vec::new() };
    let sink = table.doc.sink;
    let mut all = Vec::new();
    for (name, mut value) in table.entries(|name| format!("{kind} {name:?}")) {
        value.subject.remove(0);
        let before = sink.errors();
        if !values::is_good_name(name) {
            value.error(format!("found the name {name:?}, expected 1 to {} letters, digits, \"-\", \"_\" or \".\"", values::MAX_NAME_CHARS));
        }
        if matches!(kind, "pool" | "policy") && RESERVED_NAMES.contains(&name) {
            value.error(format!("{name:?} is a reserved word (reserved: {}); choose another name", RESERVED_NAMES.join(", ")));
        }
        let keys = read(&value);
        all.push(Def { name: name.to_string(), at: value.spot(), sound: sink.errors() == before, keys });
    }
    all
}

fn read_steers(section: &Value<'_>) -> Vec<Def<SteerKeys>> {
    let Some(table) = section.table(" such as [steer.NAME]") else { return Vec::new() };
    let sink = table.doc.sink;
    let mut all = Vec::new();
    for (name, mut value) in table.entries(|name| format!("steer {name:?}")) {
        value.subject.remove(0);
        let before = sink.errors();
        let keys = read_steer::steer_keys(&value, read_steer::Place::Steer);
        all.push(Def { name: name.to_string(), at: value.spot(), sound: sink.errors() == before, keys });
    }
    all
}

/// `[defaults]` of any file.
pub(super) fn read_defaults(value: &Value<'_>) -> Defaults {
    let Some(table) = value.table(" with monitor, steer and safety") else { return Defaults::default() };
    let monitor = table.take("monitor").map(|value| read_monitor::monitor_keys(&value, true)).unwrap_or_default();
    let steer = table.take("steer").map(|value| read_steer::steer_keys(&value, read_steer::Place::Defaults)).unwrap_or_default();
    let safety = table.take("safety").map(|value| safety::keys(&value, false)).unwrap_or_default();
    table.finish();
    Defaults { monitor, steer, safety, exec: false }
}

fn read_zone(value: &Value<'_>) -> RawZone {
    let mut zone = RawZone::of_nothing(value.spot());
    let Some(table) = value.table(" such as [zone]") else { return zone };
    match table.take("name") {
        None => table.missing("name is missing; write name = \"example.com\""),
        Some(value) => zone.name = zone_name(&value),
    }
    let origin = zone.name.clone().unwrap_or_else(Name::root);
    if let Some(ttl) = table.take("ttl").and_then(|value| ttl(&value)) {
        zone.ttl = ttl;
    }
    if let Some(value) = table.take("ns") {
        zone.ns = name_servers(&value, &origin);
    }
    zone.file = table.take("file").and_then(|value| path(&value));
    if let Some(value) = table.take("soa") {
        zone.soa = soa_keys(&value, &origin);
    }
    table.finish();
    zone
}

fn zone_name(value: &Value<'_>) -> Option<Name> {
    let text = value.string("a name such as \"example.com\"")?;
    let found = Name::parse_absolute(text);
    match found {
        Ok(name) if text != "@" && !name.is_wildcard() => {
            if name.to_string() == "library." {
                value.error("found \"library\", which is the first word of the ids of library files; expected another zone");
            }
            Some(name.to_lowercase())
        }
        Ok(_) => {
            value.expected("a name such as \"example.com\"");
            None
        }
        Err(error) => {
            value.error(format!("found {text:?}, but {error}"));
            None
        }
    }
}

/// A TTL, 0 to 2³¹ − 1.
pub(super) fn ttl(value: &Value<'_>) -> Option<Ttl> {
    value.integer(0..=i64::from(MAX_TTL), " s").map(|seconds| seconds as Ttl)
}

fn name_servers(value: &Value<'_>, origin: &Name) -> Vec<Located<Name>> {
    let mut all: Vec<Located<Name>> = Vec::new();
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_NAME_SERVERS {
        value.error(format!("found {} name servers, expected 1 to {MAX_NAME_SERVERS}", items.len()));
    }
    for item in items.into_iter().take(MAX_NAME_SERVERS) {
        let Some(name) = name(&item, origin) else { continue };
        if all.iter().any(|other| other.value == name) {
            item.error(format!("{} is listed twice", item.describe()));
            continue;
        }
        all.push(item.located(name));
    }
    all
}

/// A domain name, relative to `origin` unless it ends in a dot.
pub(super) fn name(value: &Value<'_>, origin: &Name) -> Option<Name> {
    let text = value.string("a name such as \"ns1\" (below the zone) or \"ns1.example.net.\" (absolute)")?;
    match Name::parse(text, origin) {
        Ok(name) => Some(name),
        Err(error) => {
            value.error(format!("found {text:?}, but {error}"));
            None
        }
    }
}

/// A path, relative to the folder of the file that names it.
pub(super) fn path(value: &Value<'_>) -> Option<Located<std::path::PathBuf>> {
    let text = value.string("a path")?;
    if text.is_empty() || text.contains('\0') {
        value.expected("a path");
        return None;
    }
    Some(value.located(lexical(&value.doc.folder.join(text))))
}

fn soa_keys(value: &Value<'_>, origin: &Name) -> SoaKeys {
    let mut soa = SoaKeys { at: Some(value.spot()), ..SoaKeys::default() };
    let Some(table) = value.table(" such as { minimum = 60 }") else { return soa };
    soa.mname = table.take("mname").and_then(|value| name(&value, origin));
    soa.rname = table.take("rname").and_then(|value| match value.as_str() {
        Some(text) if text.contains('@') && text != "@" => {
            value.error(format!("found {text:?}, expected the mailbox as a name: \"{}.\"", text.replacen('@', ".", 1)));
            None
        }
        _ => name(&value, origin),
    });
    let seconds = |key| table.take(key).and_then(|value| ttl(&value));
    soa.refresh = seconds("refresh");
    soa.retry = seconds("retry");
    soa.expire = seconds("expire");
    soa.minimum = seconds("minimum");
    soa.ttl = seconds("ttl");
    table.finish();
    soa
}

fn read_regions(section: &Value<'_>) -> BTreeMap<String, Located<Region>> {
    let Some(table) = section.table(" such as { eu = { location = [50.1, 8.7] } }") else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (name, mut value) in table.entries(|name| format!("region {name:?}")) {
        value.subject.remove(0);
        if !values::is_good_name(name) {
            value.error(format!("found the name {name:?}, expected 1 to {} letters, digits, \"-\", \"_\" or \".\"", values::MAX_NAME_CHARS));
        }
        let Some(table) = value.table(" such as { location = [50.1, 8.7] }, or {}") else { continue };
        let location = table.take("location").and_then(|value| values::location(&value));
        table.finish();
        all.insert(name.to_string(), value.located(Region { location }));
    }
    all
}
