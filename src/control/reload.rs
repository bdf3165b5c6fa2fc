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
//! the folder is empty                some from it   nothing changes: it may not be mounted; a start takes it as it is
//! anything bad and all-or-nothing    any            nothing changes
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{ReloadReport, Who, ZoneReload};
use super::audit::{DONE, Entry, FAILED};
use super::load::{Build, TakenZone};
use super::state::ZoneState;
use super::writer::Writer;
use crate::config::{Problem, Severity};
use crate::dns::Name;
use crate::zone::tree::ZoneTree;

/// Takes in a build: all zones, or only `only`.
pub(super) fn take(writer: &mut Writer, build: Build, only: Option<&str>, all_or_nothing: bool) -> ReloadReport {
    let mut report =
        ReloadReport { problems: build.problems.iter().map(ToString::to_string).collect(), failed: build.has_errors(), ..ReloadReport::default() };
    if let Some(why) = stands_still(writer, &build, all_or_nothing) {
        keep_all(writer, &mut report, only, &why);
        return report;
    }
    let Some(settings) = build.settings.clone() else { return report };
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
    let (names, options) = (names_of(writer), writer.settings.as_ref().map(|settings| writer.cookies.options(settings)));
    report.problems.extend(writer.restart.take(&build));
    let bad = bad_zones(writer, &build);
    let present: BTreeSet<Name> = good_names(&build).chain(bad.iter().map(|(name, _)| name.clone())).collect();
    for zone in build.good {
        let Some(name) = zone.loaded.name.as_ref().map(Name::to_lowercase) else { continue };
        if wanted(&name) {
            report.failed |= zone.kept_why.is_some();
            report.zones.push(take_zone(writer, name, zone));
        }
    }
    for (name, file) in bad {
        if wanted(&name) {
            report.failed = true;
            let wrong = format!("{} {}", file.display(), wrong_with(&build.problems, &file));
            report.zones.push(keep_zone(writer, name, &wrong));
        }
    }
    let gone: Vec<Name> = writer.zones.keys().chain(writer.down.keys()).filter(|name| wanted(name) && !present.contains(name)).cloned().collect();
    for name in gone {
        if let Some(zone) = writer.zones.remove(&name) {
            writer.departed.add(&name, &zone, writer.clock.unix());
            writer.reaper.other(zone);
        }
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
        // What the files lack is not what zones lack that keep what they were compiled with.
        let is_kept = report.zones.iter().any(|zone| zone.outcome == "kept") && build.geo_trouble.is_some();
        writer.degraded.extend(build.degraded.iter().map(|text| match text.rsplit_once("; ") {
            Some((what, _)) if is_kept => {
                format!("{what}; zones that are served go on with the geo database or latency table of before, a restart would not")
            }
            _ => text.clone(),
        }));
    }
    if let Some(cookies) = build.cookies {
        writer.degraded.retain(|text| !text.contains("cookie secrets"));
        writer.degraded.extend(writer.cookies.take(cookies));
    }
    // A zone in another version is put in the place of the one before, all by itself.
    let is_other_whole = names != names_of(writer) || options != Some(writer.cookies.options(&settings));
    let moved = report.zones.iter().any(|zone| matches!(&*zone.outcome, "taken" | "removed"));
    report.changed = moved || is_other_whole || writer.settings.as_ref() != Some(&settings);
    writer.settings = Some(settings);
    writer.index_dirty |= is_other_whole;
    report
}

/// The zones that are there, those that serve and those that do not.
fn names_of(writer: &Writer) -> (Vec<Name>, Vec<Name>) {
    (writer.zones.keys().cloned().collect(), writer.down.keys().cloned().collect())
}

/// Why a build changes no zone at all, if it does not.
pub(super) fn stands_still(writer: &Writer, build: &Build, all_or_nothing: bool) -> Option<String> {
    let any_kept = || build.good.iter().any(|zone| zone.kept_why.is_some());
    let is_from = |folder: &Path| writer.zones.values().any(|zone| zone.taken.loaded.declared_in.parent() == Some(folder));
    let emptied = build.zones_empty.as_deref().filter(|folder| is_from(folder));
    match emptied {
        _ if build.settings.is_none() => Some(format!("the configuration file {}", wrong_with(&build.problems, &writer.config_path))),
        _ if build.zones_unlisted && writer.generation > 0 => Some("the zone folder cannot be listed".into()),
        Some(folder) => Some(format!("the zone folder {} is empty, which a restart would take as it is", folder.display())),
        _ if all_or_nothing && (!build.bad.is_empty() || build.has_errors() || any_kept()) => {
            Some("the files have errors, and all or nothing was asked for".into())
        }
        None => None,
    }
}

/// What is wrong with a file that cannot be taken. One that cannot be read at all has no errors: there may be no descriptors left, or nobody may read it.
fn wrong_with(problems: &[Problem], file: &Path) -> String {
    let of_file = problems.iter().filter(|problem| problem.severity == Severity::Error && problem.file.file_name() == file.file_name());
    let unread = of_file.map(|problem| &problem.text).find(|text| text.starts_with("cannot be read: "));
    unread.map_or_else(|| "has errors".into(), Clone::clone)
}

fn good_names(build: &Build) -> impl Iterator<Item = Name> {
    build.good.iter().filter_map(|zone| zone.loaded.name.as_ref().map(Name::to_lowercase))
}

/// The zones that are there and bad, and the files that declare them.
fn bad_zones(writer: &Writer, build: &Build) -> Vec<(Name, PathBuf)> {
    let mut present: BTreeSet<Name> = good_names(build).collect();
    let mut bad = Vec::new();
    for (name, declared_in) in &build.bad {
        // A file too broken to name its zone still owns the one it declared before.
        let owned = || writer.zones.values().find(|zone| zone.taken.loaded.declared_in == *declared_in && !present.contains(&zone.model().name));
        let Some(name) = name.as_ref().map(Name::to_lowercase).or_else(|| owned().map(|zone| zone.model().name.clone())) else { continue };
        present.insert(name.clone());
        bad.push((name, declared_in.clone()));
    }
    // So does one of which so little is left that it could be anything.
    let broken: BTreeSet<&Path> = build.problems.iter().filter(|problem| problem.severity == Severity::Error).map(|problem| &*problem.file).collect();
    let lost = writer.zones.iter().filter(|(name, zone)| !present.contains(*name) && broken.contains(&*zone.taken.loaded.declared_in));
    bad.extend(lost.map(|(name, zone)| (name.clone(), zone.taken.loaded.declared_in.clone())));
    bad
}

/// True when a zone is served as it was taken.
fn is_served(writer: &Writer, name: &Name, taken: &TakenZone) -> bool {
    let same = |zone: &ZoneState| zone.taken.loaded.content == taken.loaded.content && Arc::ptr_eq(&zone.taken.parts, &taken.parts);
    writer.zones.get(name).is_some_and(|zone| same(zone))
}

/// The zones that a build would put in another version, or take away.
pub(super) fn changed<'b>(writer: &Writer, build: &'b Build, only: Option<&str>, all_or_nothing: bool) -> Vec<(Name, Option<&'b TakenZone>)> {
    let only = match only.map(Name::parse_absolute) {
        None => None,
        Some(Ok(name)) => Some(name.to_lowercase()),
        Some(Err(_)) => return Vec::new(),
    };
    if stands_still(writer, build, all_or_nothing).is_some() {
        return Vec::new();
    }
    let wanted = |name: &Name| only.as_ref().is_none_or(|only| only == name);
    let present: BTreeSet<Name> = good_names(build).chain(bad_zones(writer, build).into_iter().map(|(name, _)| name)).collect();
    let good = build.good.iter().filter_map(|zone| Some((zone.loaded.name.as_ref()?.to_lowercase(), zone)));
    let taken = good.filter(|(name, zone)| wanted(name) && !is_served(writer, name, zone)).map(|(name, zone)| (name, Some(zone)));
    let gone = writer.zones.keys().filter(|name| wanted(name) && !present.contains(*name)).map(|name| (name.clone(), None));
    taken.chain(gone).collect()
}

/// What [`take`] would say of a build, zone by zone, for those that would not stay as they are; nothing is changed.
pub(super) fn foresee(writer: &Writer, build: &Build, only: Option<&str>, all_or_nothing: bool) -> ReloadReport {
    let mut report =
        ReloadReport { problems: build.problems.iter().map(ToString::to_string).collect(), failed: build.has_errors(), ..ReloadReport::default() };
    if let Some(why) = stands_still(writer, build, all_or_nothing) {
        keep_all(writer, &mut report, only, &why);
        return report;
    }
    report.problems.extend(writer.restart.foresee(build));
    let entry = |name: &Name, outcome: &str, why| ZoneReload { zone: name.to_string(), outcome: outcome.into(), why };
    for (name, taken) in changed(writer, build, only, all_or_nothing) {
        let why = taken.and_then(|taken| taken.kept_why.clone());
        let outcome = if taken.is_none() {
            "removed"
        } else if why.is_some() {
            "kept"
        } else {
            "taken"
        };
        report.failed |= why.is_some();
        report.zones.push(entry(&name, outcome, why));
    }
    let moved = report.zones.iter().any(|zone| matches!(&*zone.outcome, "taken" | "removed"));
    report.changed = moved || writer.settings != build.settings;
    let only = only.and_then(|only| Name::parse_absolute(only).ok()).map(|only| only.to_lowercase());
    for (name, file) in bad_zones(writer, build).into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        report.failed = true;
        let outcome = if writer.zones.contains_key(&name) { "kept" } else { "failed" };
        report.zones.push(entry(&name, outcome, Some(format!("{} {}", file.display(), wrong_with(&build.problems, &file)))));
    }
    report
}

fn keep_all(writer: &Writer, report: &mut ReloadReport, only: Option<&str>, why: &str) {
    let only = only.and_then(|only| Name::parse_absolute(only).ok());
    report.failed = true;
    report.zones = writer
        .zones
        .keys()
        .filter(|name| only.as_ref().is_none_or(|only| only == *name))
        .map(|name| ZoneReload { zone: name.to_string(), outcome: "kept".into(), why: Some(format!("{why}; nothing was changed")) })
        .collect();
}

fn take_zone(writer: &mut Writer, name: Name, taken: TakenZone) -> ZoneReload {
    writer.down.remove(&name);
    let zone = name.to_string();
    if is_served(writer, &name, &taken)
        && let Some(before) = writer.zones.get_mut(&name)
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
    match before {
        Some(before) => {
            state.inherit(&before);
            writer.reaper.other(before);
        }
        None => writer.departed.give_back(&name, &mut state),
    }
    let why = state.kept_why.clone();
    writer.zones.insert(name.clone(), Box::new(state));
    writer.fresh.push(name);
    ZoneReload { zone, outcome: if why.is_some() { "kept" } else { "taken" }.into(), why }
}

fn keep_zone(writer: &mut Writer, name: Name, wrong: &str) -> ZoneReload {
    let zone = name.to_string();
    if let Some(kept) = writer.zones.get_mut(&name) {
        kept.kept_why = Some(wrong.to_owned());
        let why = format!("{wrong}; the version before keeps serving, serial {}", kept.serial);
        return ZoneReload { zone, outcome: "kept".into(), why: Some(why) };
    }
    let why = format!("{wrong} and there is no earlier version; its names answer SERVFAIL");
    writer.down.insert(name, why.clone());
    ZoneReload { zone, outcome: "failed".into(), why: Some(why) }
}

/// The serial moves to max(stored + 1, unix time) when the content does, records or record overlays; health never moves it
/// (CONTRACT, `[zone]`). Serial arithmetic (RFC 1982) is not needed: unix time stays below 2³¹ until 2038 and below 2³² until 2106.
pub(super) fn move_serial(writer: &mut Writer, name: &Name) {
    use crate::policy::model::SerialSource;
    let (effects, now_unix) = (&writer.effects, writer.clock.unix());
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
    zone.serial = zone.serial.saturating_add(1).max(now_unix as u32);
    zone.serial_content = content;
    writer.keep_serial(name);
}

/// Lists of records come in an order that answers do not need: makes it for large zones that are new, in the background.
pub(super) fn put_in_order(writer: &Writer) {
    let trees = writer.fresh.iter().filter_map(|name| Some(writer.zones.get(name)?.taken.parts.tree.clone()));
    let large: Vec<Arc<ZoneTree>> = trees.filter(|tree| tree.is_large()).collect();
    if !large.is_empty() {
        tokio::task::spawn_blocking(move || large.iter().for_each(|tree| tree.put_in_order()));
    }
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
    let outcome = if report.failed { FAILED } else { DONE };
    let detail = Some(in_words(report, writer.generation == 0));
    writer.note(Entry { after, detail, outcome: outcome.into(), ..writer.entry(who, action, zone.unwrap_or("")) });
}

/// What a load came to, in a sentence.
fn in_words(report: &ReloadReport, is_start: bool) -> String {
    let count = |outcomes: &[&str]| report.zones.iter().filter(|zone| outcomes.contains(&&*zone.outcome)).count();
    let (all, changed, kept, dark) = (report.zones.len(), count(&["taken", "removed"]), count(&["kept"]), count(&["failed"]));
    let mut words = vec![match (is_start, changed) {
        // At a start nothing was before.
        (true, _) => format!("{} of {all} zones serve what their files say", count(&["taken"])),
        (false, 0) if !report.changed => "nothing was changed".to_owned(),
        (false, _) => format!("{changed} of {all} zones are not as before"),
    }];
    words.extend((kept > 0).then(|| format!("{kept} could not be taken and serve an earlier version")));
    words.extend((dark > 0).then(|| format!("{dark} cannot be served")));
    words.extend(report.failed.then(|| "there were errors".to_owned()));
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_load_came_to_is_said_as_it_is() {
        let report = |outcomes: &str, failed, changed| {
            let one = |outcome: &str| ZoneReload { zone: "a.".into(), outcome: outcome.into(), why: None };
            ReloadReport { zones: outcomes.split_whitespace().map(one).collect(), failed, changed, ..ReloadReport::default() }
        };
        for (outcomes, failed, changed, words) in [
            ("unchanged", false, false, "nothing was changed"),
            ("unchanged", false, true, "0 of 1 zones are not as before"),
            ("taken removed unchanged", false, true, "2 of 3 zones are not as before"),
            ("kept", true, false, "nothing was changed; 1 could not be taken and serve an earlier version; there were errors"),
            ("taken kept", true, true, "1 of 2 zones are not as before; 1 could not be taken and serve an earlier version; there were errors"),
            ("failed", true, true, "0 of 1 zones are not as before; 1 cannot be served; there were errors"),
            ("", true, false, "nothing was changed; there were errors"),
        ] {
            assert_eq!(in_words(&report(outcomes, failed, changed), false), words, "{outcomes}");
        }
        assert_eq!(
            in_words(&report("taken failed", true, true), true),
            "1 of 2 zones serve what their files say; 1 cannot be served; there were errors"
        );
    }
}
