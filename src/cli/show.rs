//! What the server says, for people.

use std::fmt::Write;

use super::geo::date;
use super::table::{Cell, Table, Tone, clean, paint};
use crate::control::api::{
    Applied, Beyond, ConnectionStatus, Consequences, Difference, EndpointStatus, Overlay, PoolStatus, Progress, Promoted, ReloadReport, Reported,
    Status,
};

/// Everything that `meridian status` shows. `now` is unix seconds.
pub(super) fn status(status: &Status, now: u64, colours: bool) -> String {
    let mut text = String::new();
    let head = format!("Meridian {}, generation {}, up {}", status.version, status.generation, span(now.saturating_sub(status.started)));
    let _ = writeln!(text, "{}", paint(&head, Tone::Bold, colours));
    for reason in &status.degraded {
        let _ = writeln!(text, "{} {}", paint("degraded:", Tone::Bad, colours), clean(reason));
    }
    for waiting in &status.restart {
        let _ = writeln!(text, "{} {}", paint("needs a restart:", Tone::Warning, colours), clean(waiting));
    }
    for ConnectionStatus { transport, places, configured, .. } in &status.connections {
        if places < configured {
            let head = paint(&format!("connections over {}:", clean(transport)), Tone::Warning, colours);
            let _ = writeln!(text, "{head} room for {places} of {configured}: this process may not open more files");
        }
    }
    let health = &status.health;
    if !health.protection.is_empty() {
        let tone = if health.protection == "references" { Tone::Plain } else { Tone::Warning };
        let _ = writeln!(text, "{} {}", paint(&format!("protected by {}:", health.protection), tone, colours), clean(&health.protection_why));
    }
    for pool in &status.pools {
        for warning in &pool.warnings {
            let _ = writeln!(text, "{} {}: {}", paint("warning:", Tone::Warning, colours), clean(&pool.id), clean(warning));
        }
    }
    for certificate in &status.certificates {
        let left = certificate.expires - i64::try_from(now).unwrap_or(i64::MAX);
        let (day, span) = (date(u64::try_from(certificate.expires).unwrap_or(0)), span(left.unsigned_abs()));
        let end = if left < 0 { format!("expired {span} ago, on {day}") } else { format!("expires in {span}, on {day}") };
        let tone = if left < 0 { Tone::Bad } else { Tone::Plain };
        let which = certificate.first.as_deref().map_or_else(String::new, |first| format!("{} ", clean(first)));
        let _ = writeln!(text, "certificate: {} {}: {which}{}", clean(&certificate.listener), clean(&certificate.file), paint(&end, tone, colours));
    }
    let mut zones = Table::new(&["ZONE", "STATE", ">SERIAL", ">RECORDS", ">STEERED", ">QUERIES", "WHY"]);
    for zone in &status.zones {
        zones.row([
            (&zone.name).into(),
            Cell::word(&zone.state),
            zone.serial.into(),
            zone.records.into(),
            zone.steered.len().into(),
            zone.queries.unwrap_or(0).into(),
            zone.why.as_deref().unwrap_or("").into(),
        ]);
    }
    let _ = write!(text, "\n{}", zones.render(colours));
    if !status.pools.is_empty() {
        let _ = write!(text, "\n{}", pools(&status.pools, now, colours));
    }
    if !status.overlays.is_empty() {
        let _ = write!(text, "\n{}", overlays(&status.overlays, now, colours));
    }
    text
}

fn pools(pools: &[PoolStatus], now: u64, colours: bool) -> String {
    let titles = ["POOL", "REGION", "STATE", "USABLE", ">WEIGHT", "CHECKED", ">TOOK", "NEXT", ">QUERIES", "LAST ERROR"];
    let mut table = Table::new(&titles);
    for pool in pools {
        let usable = format!("{}/{}, needs {}", pool.usable, pool.endpoints.len(), pool.needed);
        table.row([
            (&pool.id).into(),
            pool.region.as_deref().unwrap_or("").into(),
            Cell::word(&pool.health),
            usable.into(),
            "".into(),
            "".into(),
            "".into(),
            "".into(),
            pool.queries.into(),
            pool_note(pool, now).into(),
        ]);
        for endpoint in &pool.endpoints {
            table.row(endpoint_cells(endpoint, now));
        }
    }
    table.render(colours)
}

/// The state of an endpoint, with what operators force.
pub(super) fn state_cell(endpoint: &EndpointStatus) -> Cell {
    let mut state = endpoint.state.clone();
    if endpoint.stale {
        state.push_str(" (stale)");
    }
    if let Some(forced) = endpoint.forced {
        let _ = write!(state, ", forced {}", forced.word());
    }
    let tone = match endpoint.forced {
        Some(forced) => Tone::of(forced.word()),
        None => Tone::of(&endpoint.state),
    };
    Cell::toned(state, tone)
}

pub(super) fn usable_word(endpoint: &EndpointStatus) -> &'static str {
    if endpoint.usable { "yes" } else { "no" }
}

/// What there is to say of an endpoint beside its state.
pub(super) fn note(endpoint: &EndpointStatus, now: u64) -> String {
    let error = last_error(endpoint, now);
    // What does not take it down is told as what it is.
    let calculated = endpoint.calculated.clone().filter(|how| endpoint.last_error.is_none() && (how.contains(" down") || how.contains(" suspect")));
    match (error, endpoint.suppressed_until) {
        (Some(error), _) if endpoint.kept_in.is_some() => format!("kept as a last resort: {error}"),
        (Some(error), Some(at)) => format!("fell often: kept down, back {}; {error}", until(at, now)),
        (Some(error), None) => error,
        (None, Some(at)) => format!("fell often: kept down, back {}", until(at, now)),
        (None, None) if !endpoint.concerns.is_empty() => endpoint.concerns.join("; "),
        (None, None) => {
            calculated.or_else(|| endpoint.stale_why.clone()).or_else(|| endpoint.reported.as_ref().map(|of| reported(of, now))).unwrap_or_default()
        }
    }
}

/// Why the last check failed that did, and when that was if others have passed since.
pub(super) fn last_error(endpoint: &EndpointStatus, now: u64) -> Option<String> {
    let error = endpoint.last_error.as_ref()?;
    let before = endpoint.last_error_at.filter(|at| endpoint.last_check.is_some_and(|last| *at < last));
    Some(before.map_or_else(|| error.clone(), |at| format!("{error} ({})", ago(at, now))))
}

/// When the next check is due. Those that were due before are late by chance (a tenth of their interval), under way, or wait for a place.
pub(super) fn next_check(at: u64, now: u64) -> String {
    match now.checked_sub(at) {
        None => until(at, now),
        Some(0..=10) => "due".into(),
        Some(late) => format!("due {} ago", span(late)),
    }
}

fn endpoint_cells(endpoint: &EndpointStatus, now: u64) -> [Cell; 10] {
    [
        format!("  {}", endpoint.target).into(),
        "".into(),
        state_cell(endpoint),
        usable_word(endpoint).into(),
        endpoint.weight.into(),
        endpoint.last_check.map_or(String::new(), |at| ago(at, now)).into(),
        endpoint.last_ms.map_or(String::new(), |ms| format!("{ms} ms")).into(),
        endpoint.next_check.map_or(String::new(), |at| next_check(at, now)).into(),
        "".into(),
        note(endpoint, now).into(),
    ]
}

/// What there is to say of a pool: what it keeps of its traffic, and what is reported of it.
fn pool_note(pool: &PoolStatus, now: u64) -> String {
    let kept = (pool.kept < 1.0).then(|| format!("keeps {:.0} % of its traffic", pool.kept * 100.0));
    let panic = pool.panic.then(|| "in panic: all of it is handed out".to_owned());
    let parts: Vec<String> = panic.into_iter().chain(kept).chain(pool.reported.as_ref().map(|of| reported(of, now))).collect();
    parts.join("; ")
}

/// What is reported of a thing, on one line, with its age.
pub(super) fn reported(of: &Reported, now: u64) -> String {
    // Both where they are not the same: what was said, and what moves weights.
    let both = |last: Option<f64>, smoothed: Option<f64>, words: &dyn Fn(f64) -> String| {
        let (last, mean) = (words(last?), smoothed.map(words));
        Some(mean.filter(|mean| *mean != last).map_or_else(|| last.clone(), |mean| format!("{last} (smoothed {mean})")))
    };
    let capacity = of.capacity.map_or_else(String::new, |capacity| format!(" of {capacity:.0}"));
    let load = both(of.load, of.load_smoothed, &|load| format!("{load:.0}")).map(|load| format!("load {load}{capacity}"));
    let latency = both(of.latency_ms, of.latency_smoothed_ms, &|ms| format!("{ms:.0} ms"));
    let share = of.success_share.map(|share| format!("{:.1} % of {:.0} calls succeed", share * 100.0, of.samples.unwrap_or(0.0)));
    let said = of.state.map(|said| {
        let at = of.state_at.filter(|at| *at < of.at).map(|at| ago(at, now));
        let stale = of.state_stale_since.map(|since| {
            let then = if of.state_forgotten { "forgotten" } else { "it holds until something else is said" };
            format!("stale for {}: {then}", span(now.saturating_sub(since)))
        });
        let words: Vec<String> = at.into_iter().chain(stale).collect();
        if words.is_empty() { said.word().to_owned() } else { format!("{} ({})", said.word(), words.join(", ")) }
    });
    let figures: Vec<String> = [share, latency, load].into_iter().flatten().collect();
    let stale = of.stale_since.map_or_else(String::new, |since| format!(" (stale for {}: moves nothing)", span(now.saturating_sub(since))));
    let figures = (!figures.is_empty()).then(|| figures.join(", ") + &stale);
    let parts: Vec<String> = said.into_iter().chain(figures).collect();
    format!("reported {}: {}", ago(of.at, now), parts.join(", "))
}

/// The list of overlays.
pub(super) fn overlays(overlays: &[Overlay], now: u64, colours: bool) -> String {
    let mut table = Table::new(&[">ID", "TARGET", "SETS", "OWNER", "LAID", "EXPIRES", "REASON"]);
    for overlay in overlays {
        let reason = match overlay.inactive.as_ref().filter(|_| overlay.outranked_by.is_empty()) {
            Some(why) => format!("{} (no effect: {why})", overlay.reason),
            None => overlay.reason.clone(),
        };
        table.row([
            overlay.id.into(),
            (&overlay.target).into(),
            sets(overlay, now).into(),
            (&overlay.owner).into(),
            ago(overlay.created, now).into(),
            overlay.expires.map_or("never".to_owned(), |at| until(at, now)).into(),
            reason.into(),
        ]);
    }
    table.render(colours)
}

/// One overlay, a line each.
pub(super) fn overlay(overlay: &Overlay, now: u64) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("id", overlay.id.to_string()),
        ("target", overlay.target.clone()),
        ("sets", sets(overlay, now)),
        ("phase", overlay.phase.clone()),
        ("starts", overlay.starts.filter(|at| *at > now).map_or(String::new(), |at| until(at, now))),
        ("progress", overlay.progress.as_ref().map_or(String::new(), |progress| self::progress(progress, now))),
        ("held by", holding(overlay).unwrap_or_default().to_owned()),
        ("answered", overlay.withdrawal.as_ref().map_or(String::new(), |one| one.still_answered.join(", "))),
        ("owner", overlay.owner.clone()),
        ("reason", overlay.reason.clone()),
        ("laid", ago(overlay.created, now)),
        ("expires", overlay.expires.map_or("never".to_owned(), |at| until(at, now))),
        ("past", overlay.broke.join("; ")),
        ("no effect", overlay.inactive.clone().unwrap_or_default()),
        ("in part", overlay.partly.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<10} {}", clean(&value));
        }
    }
    text
}

/// What laying or reverting came to.
pub(super) fn applied(applied: &Applied, done: &str, now: u64) -> String {
    let overlay = &applied.overlay;
    let start = overlay.starts.filter(|at| *at > now && done != "reverted").map_or(String::new(), |at| format!(", starts {}", until(at, now)));
    let end = match overlay.expires {
        _ if done == "reverted" => String::new(),
        Some(at) => format!(", expires {}", until(at, now)),
        None => ", never expires".into(),
    };
    let mut text =
        format!("overlay {} {done}: {} {}{start}{end}; generation {} serves\n", overlay.id, clean(&overlay.target), overlay.set, applied.generation);
    if let Some(why) = &overlay.inactive {
        let _ = writeln!(text, "it has no effect: {}", clean(why));
    }
    if let Some(part) = &overlay.partly {
        let _ = writeln!(text, "it has effect in part: {}", clean(part));
    }
    if let Some(then) = &applied.then {
        let what = match then.what.as_str() {
            what @ ("weight" | "ttl") => format!("{what} {}", then.now),
            _ => then.now.clone(),
        };
        let ids: Vec<String> = then.in_force.iter().map(|id| format!("overlay {id}")).collect();
        let of = if ids.is_empty() { String::new() } else { format!(", of {}", ids.join(" and ")) };
        let _ = writeln!(text, "in its place holds {}{of}", clean(&what));
    }
    for broke in &applied.broke {
        let _ = writeln!(text, "went past {}", clean(broke));
    }
    text
}

/// How far a change is on its way.
fn progress(progress: &Progress, now: u64) -> String {
    let weight = progress.weight.map_or(String::new(), |weight| format!(", weight {weight} now"));
    let next = progress.next_step.filter(|at| *at < progress.end).map_or(String::new(), |at| format!(", next step {}", until(at, now)));
    let end = if progress.next_step.is_some() { format!(", there {}", until(progress.end, now)) } else { ", stands still".into() };
    format!("{} %{weight}{next}{end}", progress.percent)
}

/// What a change would do.
pub(super) fn consequences(consequences: &Consequences) -> String {
    let mut text = String::new();
    for zone in &consequences.zones {
        let share = format!("{:.1}", zone.withdrawn as f64 * 100.0 / zone.endpoints.max(1) as f64);
        let share = share.strip_suffix(".0").unwrap_or(&share);
        let _ = writeln!(
            text,
            "takes {} of {} endpoints of {} out of rotation ({share} %; {} are out already)",
            zone.withdrawn,
            zone.endpoints,
            clean(&zone.zone),
            zone.out_before
        );
    }
    if consequences.zones.is_empty() {
        text.push_str("takes nothing out of rotation\n");
    }
    if !consequences.pools.is_empty() {
        let _ = writeln!(text, "pools left with nothing: {}", clean(&consequences.pools.join(", ")));
    }
    for name in &consequences.names {
        let _ = writeln!(text, "{}: {} of {} pools in rotation, {} then", clean(&name.name), name.before, name.pools, name.after);
    }
    if consequences.names_count > consequences.names.len() {
        let _ = writeln!(text, "and {} more names", consequences.names_count - consequences.names.len());
    }
    for rule in &consequences.broken {
        let _ = writeln!(text, "forbidden by {}", clean(&rule.to_string()));
    }
    for warning in &consequences.warnings {
        let _ = writeln!(text, "warning: {}", clean(warning));
    }
    text
}

/// What a reload did.
pub(super) fn reload(report: &ReloadReport, colours: bool) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{}", clean(problem));
    }
    let mut table = Table::new(&["ZONE", "OUTCOME", "WHY"]);
    for zone in &report.zones {
        table.row([(&zone.zone).into(), Cell::word(&zone.outcome), zone.why.as_deref().unwrap_or("").into()]);
    }
    if !report.zones.is_empty() {
        text.push_str(&table.render(colours));
    }
    if let Some(would) = &report.consequences {
        text.push_str(&consequences(would));
    }
    for broke in &report.broke {
        let _ = writeln!(text, "went past {}", clean(broke));
    }
    let _ = match (report.dry_run, report.changed) {
        (true, _) => writeln!(text, "nothing was changed; generation {} serves", report.generation),
        (false, false) => writeln!(text, "nothing has changed; generation {} serves", report.generation),
        (false, true) => writeln!(text, "generation {} serves", report.generation),
    };
    text
}

fn holding(overlay: &Overlay) -> Option<&str> {
    let ramps = [overlay.back.as_ref(), overlay.ramp.as_ref()];
    ramps.into_iter().flatten().find_map(|ramp| ramp.holding.as_ref()).map(|hold| hold.why.as_str())
}

/// What it sets, and how far it is.
fn sets(overlay: &Overlay, now: u64) -> String {
    let mut text = overlay.set.to_string();
    match (overlay.phase.as_str(), &overlay.withdrawal) {
        ("waiting", _) if overlay.starts.is_some_and(|at| at > now) => {
            let _ = write!(text, ", starts {}", until(overlay.starts.unwrap_or(now), now));
        }
        ("waiting" | "ramping" | "holding" | "returning", _) => {
            let _ = write!(text, ", {}", overlay.phase);
            if let Some(progress) = &overlay.progress {
                let weight = progress.weight.map_or(String::new(), |weight| format!(", {weight} now"));
                let _ = write!(text, " {} %{weight}", progress.percent);
            }
        }
        ("outranked", _) => {
            let ids: Vec<String> = overlay.outranked_by.iter().map(u64::to_string).collect();
            let _ = write!(text, ", outranked by {}", ids.join(", "));
            if let Some(progress) = &overlay.progress {
                let _ = write!(text, ", {} % of its way", progress.percent);
            }
        }
        (_, Some(withdrawal)) if withdrawal.state == "drained" => text.push_str(", drained"),
        (_, Some(withdrawal)) => match withdrawal.safe_to_stop_at {
            Some(at) if at > now => {
                let _ = write!(text, ", safe to stop {}", until(at, now));
            }
            // The server has not said so yet: it looks once a second, and doubts a clock that has gone ahead.
            Some(_) => text.push_str(", draining, not safe to stop yet"),
            None => text.push_str(", still answered"),
        },
        _ => {}
    }
    text
}

/// What promoting came to.
pub(super) fn promoted(promoted: &Promoted) -> String {
    let mut text: String = promoted.diff.lines().map(|line| clean(line) + "\n").collect();
    if !promoted.other_zones.is_empty() {
        let _ = writeln!(text, "it changes other zones as well: {}", clean(&promoted.other_zones.join(", ")));
    }
    let _ = match promoted.dry_run {
        true => writeln!(text, "this would be written to {}; nothing was changed", clean(&promoted.file)),
        false => writeln!(
            text,
            "overlay {} is written to {} and has ended; generation {} serves",
            promoted.overlay.id,
            clean(&promoted.file),
            promoted.generation
        ),
    };
    text
}

/// What is not as the files say.
pub(super) fn differences(differences: &[Difference], colours: bool) -> String {
    let mut table = Table::new(&["TARGET", "WHAT", "FILES", "NOW", "OVERLAYS", "IN FORCE"]);
    let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    for one in differences {
        let (laid, holds) = (ids(&one.overlays), ids(&one.in_force));
        table.row([(&one.target).into(), (&one.what).into(), (&one.files).into(), (&one.now).into(), laid.into(), holds.into()]);
    }
    table.render(colours)
}

/// What whoever asks cannot change, a line each.
pub(super) fn beyond(all: &[Beyond], now: u64) -> String {
    let line = |one: &Beyond| {
        let ends = one.expires.map_or("never expires".to_owned(), |at| format!("expires {}", until(at, now)));
        let line = format!("{} {}, {} since {}, {ends}: laid beyond the zones of this token", one.target, one.set, one.phase, ago(one.since, now));
        clean(&line) + "\n"
    };
    all.iter().map(line).collect()
}

pub(super) fn ago(at: u64, now: u64) -> String {
    format!("{} ago", span(now.saturating_sub(at)))
}

pub(super) fn until(at: u64, now: u64) -> String {
    if at <= now { "now".into() } else { format!("in {}", span(at - now)) }
}

/// Seconds in the two largest units that matter.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) if seconds.is_multiple_of(60) => format!("{minutes} min"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3661, "1 h 1 min"), (86_400, "1 d"), (90_061, "1 d 1 h")]
        {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((ago(5, 3), until(3, 5), until(9, 5)), ("0 s ago".into(), "now".into(), "in 4 s".into()));
        assert_eq!([3, 15, 19].map(|at| next_check(at, 15)), ["due 12 s ago", "due", "in 4 s"]);
    }
}
