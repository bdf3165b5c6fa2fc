//! Reads `[safety]` and looks its names up: what changes at run time may not do.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::raw::{RawSet, Ref, SafetyKeys};
use super::resolve::{Named, Resolver};
use super::resolve_pool::LIBRARY;
use super::source::{Located, Spot, Value};
use super::values::{self, percent, span};
use crate::policy::model::{MinHealthy, Safety, SafetyMember, Target, ZoneModel};

/// Withdrawals in a window: with more than this nothing is limited.
const CHANGES: RangeInclusive<i64> = 1..=10_000;
/// The window of `max_changes`: every withdrawal in it is remembered.
const WINDOW: RangeInclusive<Duration> = span(Duration::from_secs(1), Duration::from_secs(7 * 86_400));
/// How long connections and slow resolvers may be waited for.
const GUARD: RangeInclusive<Duration> = span(Duration::ZERO, Duration::from_secs(86_400));
/// Sets of one file; each is looked at whenever something is withdrawn.
const MAX_SETS: usize = 1000;
/// Members of one set.
const MAX_MEMBERS: usize = 1000;

/// Reads `[safety]`, or `[defaults.safety]`, which has no sets: a set names what one zone, or the libraries, define.
pub(super) fn keys(value: &Value<'_>, with_sets: bool) -> SafetyKeys {
    let mut keys = SafetyKeys::default();
    let Some(table) = value.table(" such as { max_withdrawn = \"50%\" }") else { return keys };
    keys.max_withdrawn = table.take("max_withdrawn").and_then(|value| share(&value));
    keys.max_changes = table.take("max_changes").and_then(|value| changes(&value));
    keys.last_healthy = table.take("last_healthy").and_then(|value| value.boolean());
    keys.min_capacity = table.take("min_capacity").and_then(|value| share(&value));
    keys.confirm_above = table.take("confirm_above").and_then(|value| share(&value));
    keys.drain_guard = table.take("drain_guard").and_then(|value| value.duration(&GUARD));
    keys.bind_checks = table.take("bind_checks").and_then(|value| value.boolean());
    if let Some(value) = table.take("min_in_rotation") {
        if with_sets {
            keys.sets = sets(&value);
        } else {
            value.error("it belongs to [safety] of a zone or library, where the names in it are defined");
        }
    }
    table.finish();
    keys
}

fn share(value: &Value<'_>) -> Option<u8> {
    let share = value.as_str().and_then(percent);
    if share.is_none() {
        let hint = value.as_integer().filter(|number| (0..=100).contains(number)).map_or_else(String::new, |number| format!("; write \"{number}%\""));
        value.expected(format_args!("a share from \"0%\" to \"100%\"{hint}"));
    }
    share
}

fn changes(value: &Value<'_>) -> Option<(u32, Duration)> {
    let table = value.table(" such as { count = 6, per = \"10m\" }")?;
    let (count, per) = (table.take("count"), table.take("per"));
    for (given, key) in [(count.is_some(), "count"), (per.is_some(), "per")] {
        if !given {
            table.missing(format!("{key} is missing; write {{ count = 6, per = \"10m\" }}"));
        }
    }
    let count = count.and_then(|value| value.integer(CHANGES, ""));
    let per = per.and_then(|value| value.duration(&WINDOW));
    table.finish();
    Some((count? as u32, per?))
}

fn sets(value: &Value<'_>) -> Vec<Located<RawSet>> {
    let Some(table) = value.table(" such as { web = { of = [\"fra\", \"iad\"], at_least = 1 } }") else { return Vec::new() };
    let entries = table.entries(|name| format!("{name:?}"));
    if entries.len() > MAX_SETS {
        value.error(format!("found {} sets, expected at most {MAX_SETS}", entries.len()));
    }
    entries.into_iter().take(MAX_SETS).filter_map(|(name, value)| set(name, &value)).collect()
}

fn set(name: &str, value: &Value<'_>) -> Option<Located<RawSet>> {
    if !values::is_good_name(name) {
        value.error(format!("found the name {name:?}, expected 1 to {} letters, digits, \"-\", \"_\" or \".\"", values::MAX_NAME_CHARS));
    }
    let table = value.table(" such as { of = [\"fra\", \"iad\"], at_least = 1 }")?;
    let of = match table.take("of") {
        Some(value) => members(&value),
        None => {
            table.missing("of is missing; write of = [\"fra\", \"iad\"]");
            Vec::new()
        }
    };
    let at_least = match table.take("at_least") {
        Some(value) => at_least(&value, of.len()),
        None => Some(MinHealthy::Count(1)),
    };
    table.finish();
    Some(value.located(RawSet { name: name.to_string(), of, at_least: at_least? }))
}

fn members(value: &Value<'_>) -> Vec<Ref> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_MEMBERS {
        value.error(format!("found {} members, expected 1 to {MAX_MEMBERS}", items.len()));
    }
    let mut all: Vec<Ref> = Vec::new();
    for item in items.into_iter().take(MAX_MEMBERS) {
        let Some(text) = item.string("a pool, an endpoint such as \"fra/192.0.2.10\", or \"region:NAME\"") else { continue };
        if all.iter().any(|other| other.value == text) {
            item.error(format!("found {text:?} twice; members are a set"));
            continue;
        }
        all.push(item.located(text.to_string()));
    }
    all
}

fn at_least(value: &Value<'_>, members: usize) -> Option<MinHealthy> {
    let share = value.as_str().and_then(percent).filter(|share| *share > 0);
    match (share, value.as_integer()) {
        (Some(share), _) => Some(MinHealthy::Percent(share)),
        (_, Some(count)) if (1..=members as i64).contains(&count) => Some(MinHealthy::Count(count as u32)),
        // Without members there is an error already.
        (_, Some(count)) if count > 0 && members == 0 => None,
        (_, Some(count)) if count > 0 => {
            value.error(format!("found {count}, but the set has {members} member{}: it could never hold", if members == 1 { "" } else { "s" }));
            None
        }
        _ => {
            value.expected("a count such as 2, or a share from \"1%\" to \"100%\"");
            None
        }
    }
}

/// What holds for a zone: its own keys, laid over its defaults, with every name looked up. `label` is the zone's in ids.
pub(super) fn resolve(resolver: &Resolver<'_>, model: &ZoneModel, own: &SafetyKeys, label: &str) -> Safety {
    let keys = own.over(&resolver.defaults.safety);
    let built_in = Safety::default();
    let is_own = |set: &Located<RawSet>| own.sets.iter().any(|other| other.at == set.at) || resolver.only_libraries;
    let sets = keys.sets.iter().filter_map(|set| {
        let members: Vec<SafetyMember> = set.value.of.iter().filter_map(|name| member(resolver, model, set, is_own(set), name, label)).collect();
        let members: Vec<SafetyMember> = if is_own(set) { members } else { members.into_iter().filter(|one| is_known(model, one)).collect() };
        // A library's set counts what the zone uses of it; for a zone that uses less than must stay it would forbid everything.
        let can_hold = match set.value.at_least {
            MinHealthy::Count(count) => members.len() >= count as usize,
            MinHealthy::Percent(_) => !members.is_empty(),
        };
        can_hold.then(|| crate::policy::model::SafetySet { name: set.value.name.clone(), members, at_least: set.value.at_least })
    });
    Safety {
        max_withdrawn: keys.max_withdrawn,
        max_changes: keys.max_changes,
        last_healthy: keys.last_healthy.unwrap_or(built_in.last_healthy),
        min_capacity: keys.min_capacity.unwrap_or(built_in.min_capacity),
        confirm_above: keys.confirm_above.unwrap_or(built_in.confirm_above),
        drain_guard: keys.drain_guard.unwrap_or(built_in.drain_guard),
        sets: sets.collect(),
        bind_checks: keys.bind_checks.unwrap_or(built_in.bind_checks),
    }
}

fn is_known(model: &ZoneModel, member: &SafetyMember) -> bool {
    model.pools.iter().any(|pool| match member {
        SafetyMember::Pool(id) => pool.id == *id,
        SafetyMember::Endpoint(id) => pool.endpoints.iter().any(|endpoint| endpoint.id == *id),
        SafetyMember::Region(name) => pool.region.as_ref() == Some(name),
    })
}

fn member(resolver: &Resolver<'_>, model: &ZoneModel, set: &Located<RawSet>, is_own: bool, name: &Ref, label: &str) -> Option<SafetyMember> {
    let subject = ["safety".to_string(), "min_in_rotation".into(), format!("{:?}", set.value.name), "of".into()];
    if let Some(region) = name.value.strip_prefix("region:") {
        if !resolver.regions.contains_key(region) {
            let hint = resolver.hint(region, resolver.regions.keys().copied());
            return unknown(resolver, &name.at, &subject, format!("found {:?}, but there is no such region{hint}", name.value));
        }
        let used = !is_own || resolver.only_libraries || model.pools.iter().any(|pool| pool.region.as_deref() == Some(region));
        if !used {
            resolver.sink.warning(&name.at, &subject, format!("no pool of this zone is in region {region:?}, so it is never in rotation"));
        }
        return Some(SafetyMember::Region(region.to_string()));
    }
    let (pool, address) = name.value.split_once('/').map_or((name.value.as_str(), None), |(pool, address)| (pool, Some(address)));
    let item = match resolver.children.get(pool) {
        Some(Named::Pool(item)) => item,
        Some(Named::Policy(_)) => {
            let text = format!("found the policy {pool:?}, expected a pool, an endpoint (POOL/ADDRESS) or a region (region:NAME)");
            return unknown(resolver, &name.at, &subject, text);
        }
        None => {
            let pools = resolver.children.iter().filter(|(_, named)| matches!(named, Named::Pool(_))).map(|(name, _)| *name);
            let hint = resolver.hint(pool, pools);
            let region = if resolver.regions.contains_key(pool) { format!(" (write \"region:{pool}\" for the region)") } else { String::new() };
            return unknown(resolver, &name.at, &subject, format!("found {:?}, but there is no such pool{region}{hint}", name.value));
        }
    };
    let id = format!("{}/{pool}", if item.in_library { LIBRARY } else { label });
    let Some(address) = address else { return Some(SafetyMember::Pool(id.into())) };
    let texts: Vec<String> = item
        .def
        .keys
        .endpoints
        .iter()
        .map(|endpoint| match &endpoint.target {
            Target::Address(address) => address.to_string(),
            Target::Cname(name) => name.to_string().trim_end_matches('.').to_lowercase(),
        })
        .collect();
    match texts.iter().find(|text| **text == address.to_lowercase()) {
        Some(text) => Some(SafetyMember::Endpoint(format!("{id}/{text}").into())),
        None => {
            let hint = resolver.hint(address, texts.iter().map(String::as_str));
            unknown(resolver, &name.at, &subject, format!("found {:?}, but pool {pool:?} has no such endpoint{hint}", name.value))
        }
    }
}

/// Reports what cannot be found, unless it may stand in a file that is broken.
fn unknown(resolver: &Resolver<'_>, at: &Spot, subject: &[String], text: String) -> Option<SafetyMember> {
    if !resolver.is_forgiving() {
        resolver.sink.error(at, subject, text);
    }
    None
}
