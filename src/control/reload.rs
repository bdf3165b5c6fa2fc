//! Taking in what the files say: zone by zone, each as a whole or not at all (CONTRACT, Failure at start and reload).
//!
//! ```text
//! the files                          before         now
//! good, as before                    served         unchanged
//! good, a database it needs is not   served         kept
//! good                               any            taken
//! bad                                served         kept: the old version goes on
//! bad                                not served     last good version of an earlier run (kept), else failed: SERVFAIL
//! no longer there                    served         removed
//! its file there, but without it     served         kept
//! the folder cannot be listed        any            nothing changes; at a start all last good versions
//! anything bad and all-or-nothing    any            nothing changes
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::api::{ReloadReport, Who, ZoneReload};
use super::audit::Entry;
use super::load::{Build, TakenZone};
use super::state::ZoneState;
use super::writer::{Writer, unix_now};
use crate::config::{Settings, Severity};
use crate::dns::Name;

/// Takes in a build: all zones, or only `only`.
pub(super) fn take(writer: &mut Writer, build: Build, only: Option<&str>, all_or_nothing: bool) -> ReloadReport {
    let mut report =
        ReloadReport { problems: build.problems.iter().map(ToString::to_string).collect(), failed: build.has_errors(), ..ReloadReport::default() };
    let Some(settings) = build.settings.clone() else {
        keep_all(writer, &mut report, "the configuration file has errors");
        return report;
    };
    if build.zones_unlisted && writer.generation > 0 {
        keep_all(writer, &mut report, "the zone folder cannot be listed");
        return report;
    }
    let only = match only.map(Name::parse_absolute) {
        None => None,
        Some(Ok(name)) => Some(name),
        Some(Err(error)) => {
            report.failed = true;
            report.problems.push(format!("{}: {error}", only.unwrap_or_default()));
            return report;
        }
    };
    let wanted = |name: &Name| only.as_ref().is_none_or(|only| only == name);
    let any_kept = build.good.iter().any(|zone| zone.kept_why.is_some());
    if all_or_nothing && (!build.bad.is_empty() || any_kept || build.has_errors()) {
        keep_all(writer, &mut report, "the files have errors, and all or nothing was asked for");
        return report;
    }
    report.problems.extend(needs_restart(writer.settings.as_ref(), &settings));
    let mut present: BTreeSet<Name> = BTreeSet::new();
    let broken: BTreeSet<&Path> = build.problems.iter().filter(|problem| problem.severity == Severity::Error).map(|problem| &*problem.file).collect();
    for zone in build.good {
        let Some(name) = zone.loaded.name.as_ref().map(Name::to_lowercase) else { continue };
        present.insert(name.clone());
        if wanted(&name) {
            report.failed |= zone.kept_why.is_some();
            report.zones.push(take_zone(writer, name, zone));
        }
    }
    for (name, declared_in) in build.bad {
        // A file too broken to name its zone still owns the one it declared before.
        let name = name
            .map(|name| name.to_lowercase())
            .or_else(|| writer.zones.values().find(|zone| zone.taken.loaded.declared_in == declared_in).map(|zone| zone.model().name.clone()));
        let Some(name) = name else { continue };
        present.insert(name.clone());
        if wanted(&name) {
            report.failed = true;
            report.zones.push(keep_zone(writer, name, &declared_in.display().to_string()));
        }
    }
    // So does one of which so little is left that it could be anything.
    let lost = |name: &Name| writer.zones.get(name).map(|zone| zone.taken.loaded.declared_in.clone()).filter(|file| broken.contains(&**file));
    let absent = writer.zones.keys().filter(|name| !broken.is_empty() && !present.contains(name));
    let lost: Vec<(Name, PathBuf)> = absent.filter_map(|name| Some((name.clone(), lost(name)?))).collect();
    for (name, file) in lost {
        present.insert(name.clone());
        if wanted(&name) {
            report.zones.push(keep_zone(writer, name, &file.display().to_string()));
        }
    }
    let gone: Vec<Name> = writer.zones.keys().chain(writer.down.keys()).filter(|name| wanted(name) && !present.contains(name)).cloned().collect();
    for name in gone {
        writer.zones.remove(&name).into_iter().for_each(|zone| writer.reaper.other(zone));
        writer.down.remove(&name);
        report.zones.push(ZoneReload { zone: name.to_string(), outcome: "removed".into(), why: None });
    }
    if let Some(only) = only.filter(|only| !present.contains(only) && report.zones.is_empty()) {
        report.failed = true;
        report.problems.push(format!("{only} is declared by no file"));
    }
    // Databases that did not change are not decoded again, so what was said of them still holds.
    if writer.geo_hash != build.geo_hash {
        writer.geo_hash = build.geo_hash;
        writer.degraded.retain(|text| !text.contains("geo database") && !text.contains("latency table"));
        writer.degraded.extend(build.degraded);
    }
    if let Some(cookies) = build.cookies {
        writer.degraded.retain(|text| !text.contains("cookie secrets"));
        writer.degraded.extend(writer.cookies.take(cookies));
    }
    writer.settings = Some(settings);
    writer.index_dirty |= build.alone.is_none();
    report
}

fn keep_all(writer: &Writer, report: &mut ReloadReport, why: &str) {
    report.failed = true;
    report.zones = writer
        .zones
        .keys()
        .map(|name| ZoneReload { zone: name.to_string(), outcome: "kept".into(), why: Some(format!("{why}; nothing was changed")) })
        .collect();
}

fn take_zone(writer: &mut Writer, name: Name, taken: TakenZone) -> ZoneReload {
    writer.down.remove(&name);
    let zone = name.to_string();
    if let Some(before) = writer.zones.get_mut(&name)
        && before.taken.loaded.content == taken.loaded.content
        && std::sync::Arc::ptr_eq(&before.taken.parts, &taken.parts)
    {
        let why = taken.kept_why.clone();
        before.kept_why.clone_from(&taken.kept_why);
        writer.reaper.other(std::mem::replace(&mut before.taken, taken));
        return ZoneReload { zone, outcome: if why.is_some() { "kept" } else { "unchanged" }.into(), why };
    }
    let before = writer.zones.remove(&name);
    let (serial, content) = match &before {
        Some(before) => (before.serial, before.serial_content.clone()),
        None => writer.serials.get(&zone).map_or((0, String::new()), |kept| (kept.serial, kept.content.clone())),
    };
    let mut state = ZoneState::new(taken, serial, content);
    if let Some(before) = before {
        state.inherit(&before);
        writer.reaper.other(before);
    }
    let why = state.kept_why.clone();
    writer.zones.insert(name.clone(), state);
    writer.fresh.push(name);
    ZoneReload { zone, outcome: if why.is_some() { "kept" } else { "taken" }.into(), why }
}

fn keep_zone(writer: &mut Writer, name: Name, file: &str) -> ZoneReload {
    let zone = name.to_string();
    if let Some(kept) = writer.zones.get_mut(&name) {
        kept.kept_why = Some(format!("{file} has errors"));
        let why = format!("{file} has errors; the version before keeps serving, serial {}", kept.serial);
        return ZoneReload { zone, outcome: "kept".into(), why: Some(why) };
    }
    let why = format!("{file} has errors and there is no earlier version; its names answer SERVFAIL");
    writer.down.insert(name, why.clone());
    ZoneReload { zone, outcome: "failed".into(), why: Some(why) }
}

/// The serial moves to max(stored + 1, unix time) when the content does, records or record overlays; health never moves it
/// (CONTRACT, `[zone]`). Serial arithmetic (RFC 1982) is not needed: unix time stays below 2³¹ until 2038 and below 2³² until 2106.
pub(super) fn move_serial(writer: &mut Writer, name: &Name) {
    use crate::policy::model::SerialSource;
    let effects = &writer.effects;
    let Some(zone) = writer.zones.get_mut(name) else { return };
    let content = zone.content_key(effects);
    if zone.model().soa_serial == SerialSource::File {
        zone.serial = zone.taken.parts.tree.soa_serial();
        zone.serial_content = content;
        return;
    }
    if content == zone.serial_content {
        return;
    }
    zone.serial = zone.serial.saturating_add(1).max(unix_now() as u32);
    zone.serial_content = content;
    writer.keep_serial(name);
}

/// The most zones of one entry in the event log, which has a limit of its own.
const MAX_LOGGED_ZONES: usize = 200;

/// Keeps in the audit log what a load came to: what became of every zone that is not as before and what it stands for now, and the databases.
pub(super) fn log(writer: &Writer, report: &ReloadReport, action: &str, zone: Option<&str>, who: &Who) {
    let moved: Vec<&ZoneReload> = report.zones.iter().filter(|zone| zone.outcome != "unchanged").collect();
    let listed = &moved[..moved.len().min(MAX_LOGGED_ZONES)];
    let contents: Vec<_> = listed
        .iter()
        .filter_map(|zone| {
            let state = writer.zones.get(&Name::parse_absolute(&zone.zone).ok()?)?;
            Some((&zone.zone, &state.serial_content, state.serial))
        })
        .collect();
    let unchanged = report.zones.len() - moved.len();
    let after = serde_json::json!({
        "zones": listed, "more": moved.len() - listed.len(), "unchanged": unchanged, "failed": report.failed,
        "contents": contents, "geo": format!("{:016x}", writer.geo_hash),
    });
    let detail = format!("{} zones are not as before, {unchanged} are{}", moved.len(), if report.failed { "; there were errors" } else { "" });
    writer.note(Entry { after, detail: Some(detail), ..writer.entry(who, action, zone.unwrap_or("")) });
}

/// What of the settings only a restart changes.
fn needs_restart(before: Option<&Settings>, now: &Settings) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let changed = [
        ("server.listen", before.listen != now.listen),
        ("server.threads", before.threads != now.threads),
        ("server.tcp", before.tcp != now.tcp),
        ("admin or metrics", (before.admin_listen, before.admin_enabled, &before.admin) != (now.admin_listen, now.admin_enabled, &now.admin)),
        ("state.path", before.state_path != now.state_path),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| format!("{}: warning: {key} changed: needs a restart; until then the old value holds", now.file.display()))
        .collect()
}
