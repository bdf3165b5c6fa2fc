//! Reads `[policy.NAME]`, `[steer.NAME]` and `[defaults.steer]`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::https;
use super::raw::{AllDownKey, DefaultKey, KINDS, ModeKey, RawRule, Ref, SteerKeys, To};
use super::read_pool::MAX_ANSWERS;
use super::signals;
use super::source::{Located, Table, Value};
use super::suggest;
use super::values::{self, span};
use crate::geo::{places, space};
use crate::policy::model::{Failback, GeoCode};
use crate::zone::{MAX_TTL, Ttl};

/// How long a better child must have been healthy: beyond a day it is `manual`.
pub(super) const FAILBACK_AFTER: RangeInclusive<Duration> = span(Duration::from_secs(1), Duration::from_secs(86_400));
/// The most children of one policy.
pub(super) const MAX_CHILDREN: usize = 1000;
/// The most rules of one policy.
pub(super) const MAX_RULES: usize = 10_000;
/// The most conditions of one kind in a rule.
pub(super) const MAX_CONDITIONS: usize = 100_000;
/// `bias`, percent.
pub(super) const BIAS: RangeInclusive<i64> = -99..=99;

/// Where the keys stand: the same keys, not all allowed everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Policy,
    Steer,
    Defaults,
}

/// Reads one table of steering keys.
pub(super) fn steer_keys(value: &Value<'_>, place: Place) -> SteerKeys {
    let mut keys = SteerKeys::default();
    let Some(table) = value.table(" such as { policy = \"failover\", to = [\"fra\", \"iad\"] }") else { return keys };
    keys.policy = take(&table, "policy", |value| value.word(&KINDS));
    keys.to = take(&table, "to", to);
    keys.rules = take(&table, "rules", rules);
    keys.default = take(&table, "default", default);
    keys.all_down = take(&table, "all_down", all_down);
    keys.ttl = take(&table, "ttl", ttl_range);
    keys.mode =
        take(&table, "mode", |value| value.word(&[("coherent", ModeKey::Coherent), ("random", ModeKey::Random), ("sticky", ModeKey::Sticky)]));
    keys.trim = take(&table, "trim", signals::trim);
    keys.sticky_bits = take(&table, "sticky_bits", sticky_bits);
    keys.bias = take(&table, "bias", bias);
    keys.answers = take(&table, "answers", |value| value.integer(1..=MAX_ANSWERS, "").map(|count| count as u8));
    keys.failback = take(&table, "failback", failback);
    keys.require_both = take(&table, "family", |value| value.word(&[("any", false), ("require-both", true)]));
    if place == Place::Steer {
        keys.https = take(&table, "https", https::https);
        keys.use_ = take(&table, "use", |value| value.string("the name of a policy or pool").map(str::to_string));
        if keys.use_.is_some() {
            for (given, key) in [
                (keys.policy.is_some(), "policy"),
                (keys.to.is_some(), "to"),
                (keys.rules.is_some(), "rules"),
                (keys.default.is_some(), "default"),
                (keys.mode.is_some(), "mode"),
                (keys.trim.is_some(), "trim"),
                (keys.sticky_bits.is_some(), "sticky_bits"),
                (keys.bias.is_some(), "bias"),
                (keys.failback.is_some(), "failback"),
                (keys.require_both.is_some(), "family"),
            ] {
                if given {
                    table.error(format!(
                        "found {key} beside use; a steered name that uses a policy takes it whole (ttl, all_down, answers and https may be added)"
                    ));
                }
            }
        }
    }
    table.finish();
    keys
}

fn take<T>(table: &Table<'_>, key: &'static str, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Located<T>> {
    let value = table.take(key)?;
    read(&value).map(|read| value.located(read))
}

/// A list of children, each once. One string stands for a list of one.
fn children(value: &Value<'_>) -> Option<Vec<Ref>> {
    if value.is_table() {
        value.expected("the name of a pool or policy, or a list in order of preference (a table of weights is for policy \"weighted\")");
        return None;
    }
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_CHILDREN {
        value.error(format!(
            "found {}, expected 1 to {MAX_CHILDREN} pools or policies",
            if items.is_empty() { "an empty list".into() } else { items.len().to_string() }
        ));
        return None;
    }
    let mut all: Vec<Ref> = Vec::new();
    for item in items {
        let Some(name) = item.string("the name of a pool or policy") else { continue };
        if all.iter().any(|other| other.value == name) {
            item.error(format!("{name:?} is listed twice"));
            continue;
        }
        all.push(item.located(name.to_string()));
    }
    Some(all)
}

fn to(value: &Value<'_>) -> Option<To> {
    let Some(table) = value.as_table() else {
        let all = children(value)?;
        return Some(match value.as_str() {
            Some(_) => To::One(all.into_iter().next()?),
            None => To::List(all),
        });
    };
    let mut all = Vec::new();
    for (name, value) in table.entries(|name| format!("{name:?}")) {
        if let Some(weight) = value.integer(0..=65_535, "") {
            all.push((value.located(name.to_string()), weight as u16));
        }
    }
    if table.entries(str::to_string).is_empty() || all.len() > MAX_CHILDREN {
        value.error(format!("found {} children, expected 1 to {MAX_CHILDREN} pools or policies with their weights", all.len()));
        return None;
    }
    Some(To::Weights(all))
}

fn default(value: &Value<'_>) -> Option<DefaultKey> {
    if value.as_str() == Some("nearest") {
        return Some(DefaultKey::Nearest);
    }
    children(value).map(DefaultKey::Children)
}

fn all_down(value: &Value<'_>) -> Option<AllDownKey> {
    let text = value.string("\"all\", \"last-good\", \"nodata\", \"servfail\" or the name of a pool")?;
    Some(match text {
        "all" => AllDownKey::All,
        "last-good" => AllDownKey::LastGood,
        "nodata" => AllDownKey::NoData,
        "servfail" => AllDownKey::ServFail,
        pool => AllDownKey::Pool(pool.to_string()),
    })
}

/// `N`, or `{ max, min }`.
fn ttl_range(value: &Value<'_>) -> Option<(Option<Ttl>, Option<Ttl>)> {
    let seconds = |value: &Value<'_>| value.integer(1..=i64::from(MAX_TTL), " s").map(|seconds| seconds as Ttl);
    if value.as_integer().is_some() {
        return seconds(value).map(|max| (Some(max), None));
    }
    let Some(table) = value.as_table() else {
        value.expected("seconds such as 30, or { max = 60, min = 20 }");
        return None;
    };
    let max = table.take("max").and_then(|value| seconds(&value));
    let min = table.take("min").and_then(|value| seconds(&value));
    table.finish();
    if let (Some(max), Some(min)) = (max, min)
        && min > max
    {
        value.error(format!("found min = {min} above max = {max}, expected min to be at most max"));
        return None;
    }
    Some((max, min))
}

fn sticky_bits(value: &Value<'_>) -> Option<(u8, u8)> {
    let table = value.table(" such as { v4 = 20, v6 = 40 }")?;
    let v4 = table.take("v4").map(|value| value.integer(1..=32, ""));
    let v6 = table.take("v6").map(|value| value.integer(1..=128, ""));
    table.finish();
    Some((v4.unwrap_or(Some(20))? as u8, v6.unwrap_or(Some(40))? as u8))
}

fn bias(value: &Value<'_>) -> Option<Vec<(Ref, i8)>> {
    let table = value.table(" such as { fra = 10, iad = -20 }")?;
    let mut all = Vec::new();
    for (name, value) in table.entries(|name| format!("{name:?}")) {
        if let Some(bias) = value.integer(BIAS, "") {
            all.push((value.located(name.to_string()), bias as i8));
        }
    }
    Some(all)
}

fn failback(value: &Value<'_>) -> Option<Failback> {
    if let Some(table) = value.as_table() {
        let after = table.take("after");
        if after.is_none() {
            table.missing("after is missing; write { after = \"5m\" }");
        }
        let after = after.and_then(|value| value.duration(&FAILBACK_AFTER));
        table.finish();
        return after.map(Failback::After);
    }
    match value.as_str() {
        Some("auto") => Some(Failback::Auto),
        Some("manual") => Some(Failback::Manual),
        other => {
            let hint = match other {
                Some(text) if values::parse_duration(text).is_some() => format!("; did you mean {{ after = {text:?} }}?"),
                Some(text) => suggest::did_you_mean(text, ["auto", "manual"]),
                None => String::new(),
            };
            value.error(format!("found {}, expected \"auto\", \"manual\" or {{ after = \"5m\" }}{hint}", value.describe()));
            None
        }
    }
}

fn rules(value: &Value<'_>) -> Option<Vec<RawRule>> {
    let Some(items) = value.as_list() else {
        value.expected("a list of rules such as [{ geo = [\"EU\"], to = \"fra\" }]");
        return None;
    };
    if items.is_empty() || items.len() > MAX_RULES {
        value.error(format!("found {} rules, expected 1 to {MAX_RULES}", items.len()));
        return None;
    }
    let mut seen = Conditions::default();
    Some(
        items
            .into_iter()
            .enumerate()
            .filter_map(|(at, mut item)| {
                // `rule 3` says that it is one of the rules.
                item.subject.pop();
                rule(&item.named(format!("rule {}", at + 1)), at + 1, &mut seen)
            })
            .collect(),
    )
}

/// The conditions of all rules of one policy, and which rule has them.
#[derive(Default)]
struct Conditions(std::collections::BTreeMap<String, (usize, u32)>);

impl Conditions {
    /// True when the condition is new.
    fn add(&mut self, item: &Value<'_>, rule: usize, condition: impl fmt::Display) -> bool {
        let key = condition.to_string();
        if let Some((other, line)) = self.0.get(&key) {
            let whose = if *other == rule { "this rule".to_string() } else { format!("rule {other} (line {line})") };
            item.error(format!("{key} stands in {whose} already; a client can follow only one rule"));
            return false;
        }
        self.0.insert(key, (rule, item.line));
        true
    }
}

fn rule(value: &Value<'_>, number: usize, seen: &mut Conditions) -> Option<RawRule> {
    let table = value.table(" such as { geo = [\"EU\"], to = \"fra\" }")?;
    let (geo, asn, net) = (table.take("geo"), table.take("asn"), table.take("net"));
    let mut rule = RawRule { at: value.spot(), geo: Vec::new(), asn: Vec::new(), net: Vec::new(), to: Vec::new(), fence: false, all_down: None };
    if geo.is_none() && asn.is_none() && net.is_none() {
        table.missing("nothing to match; expected at least one of geo, asn, net");
    }
    for item in conditions(geo.as_ref()) {
        if let Some(code) = geo_code(&item)
            && seen.add(&item, number, code_words(&code))
        {
            rule.geo.push(code);
        }
    }
    for item in conditions(asn.as_ref()) {
        if let Some(asn) = asn_number(&item)
            && seen.add(&item, number, format_args!("AS number {asn}"))
        {
            rule.asn.push(asn);
        }
    }
    for item in conditions(net.as_ref()) {
        let Some(text) = item.string("a prefix such as \"192.0.2.0/24\"") else { continue };
        match space::parse_prefix(text) {
            Ok(prefix) if seen.add(&item, number, format_args!("{}/{}", prefix.addr, prefix.len)) => rule.net.push(prefix),
            Ok(_) => {}
            Err(text) => item.error(text),
        }
    }
    match table.take("to") {
        Some(value) => rule.to = children(&value).unwrap_or_default(),
        None => table.missing("to is missing; expected a pool, a policy, or a list in order of preference"),
    }
    rule.fence = table.take("fence").and_then(|value| value.boolean()).unwrap_or(false);
    rule.all_down = take(&table, "all_down", all_down);
    table.finish();
    Some(rule)
}

/// The conditions of one kind.
fn conditions<'d>(value: Option<&Value<'d>>) -> Vec<Value<'d>> {
    let Some(value) = value else { return Vec::new() };
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_CONDITIONS {
        value.error(format!("found {} conditions, expected 1 to {MAX_CONDITIONS}", items.len()));
        return Vec::new();
    }
    items
}

fn asn_number(item: &Value<'_>) -> Option<u32> {
    if let Some(digits) = item.as_str().and_then(|text| text.strip_prefix("AS").or(Some(text)))
        && let Ok(number) = digits.parse::<u32>()
    {
        item.error(format!("found {}, expected the bare number {number}", item.describe()));
        return None;
    }
    item.integer(1..=i64::from(u32::MAX), "").map(|number| number as u32)
}

/// `EU`, `AS-TR`, `NA-US-CA`.
fn geo_code(item: &Value<'_>) -> Option<GeoCode> {
    let forms = "a continent such as \"EU\", a country such as \"AS-TR\" or a subdivision such as \"NA-US-CA\"";
    let text = item.string(forms)?;
    let upper = text.to_ascii_uppercase();
    let parts: Vec<&str> = upper.split('-').collect();
    let two = |part: &str| -> Option<[u8; 2]> { part.as_bytes().try_into().ok().filter(|code: &[u8; 2]| code.iter().all(u8::is_ascii_uppercase)) };
    let pair = |code: [u8; 2]| -> String { code.map(char::from).iter().collect() };
    let Some(continent) = two(parts[0]).filter(|code| places::is_continent(*code)) else {
        // A country without its continent, or the common slip UK.
        let country = two(parts[0]).filter(|_| parts.len() <= 2).map(|code| if &code == b"UK" { *b"GB" } else { code });
        let hint = country.and_then(|code| places::continent_of(code).map(|continent| (continent, code)));
        let hint = hint.map_or_else(
            || "; continents are AF, AN, AS, EU, NA, OC, SA".to_string(),
            |(continent, code)| {
                let rest = parts.get(1).map_or_else(String::new, |part| format!("-{part}"));
                format!("; did you mean \"{}-{}{rest}\"?", pair(continent), pair(code))
            },
        );
        item.error(format!("found {text:?}, expected {forms}{hint}"));
        return None;
    };
    if upper != text {
        item.error(format!("found {text:?}, expected upper case: {upper:?}"));
    }
    let Some(country_part) = parts.get(1) else { return Some(GeoCode::Continent(continent)) };
    let Some((country, home)) = two(country_part).and_then(|code| places::continent_of(code).map(|home| (code, home))) else {
        let hint = if *country_part == "UK" { "; the United Kingdom is \"EU-GB\"" } else { "" };
        item.error(format!("found {text:?}, but {country_part:?} is no country (ISO 3166-1, two letters){hint}"));
        return None;
    };
    if home != continent {
        item.warning(format!(
            "found {text:?}, but {} belongs to {}; matching is by country, so it works as \"{}-{}\"",
            pair(country),
            pair(home),
            pair(home),
            parts[1..].join("-")
        ));
    }
    match parts.as_slice() {
        [_, _] => Some(GeoCode::Country(country)),
        [_, _, subdivision] if places::is_subdivision(subdivision) => Some(GeoCode::Subdivision(country, (*subdivision).to_string())),
        _ => {
            item.error(format!("found {text:?}, expected {forms}; a subdivision is 1 to 3 letters or digits (ISO 3166-2)"));
            None
        }
    }
}

/// The code by which rules match: a country is the same under any continent.
fn code_words(code: &GeoCode) -> String {
    let text = |code: &[u8]| String::from_utf8_lossy(code).into_owned();
    match code {
        GeoCode::Continent(code) => format!("continent {}", text(code)),
        GeoCode::Country(code) => format!("country {}", text(code)),
        GeoCode::Subdivision(country, part) => format!("subdivision {}-{part}", text(country)),
    }
}

/// The names of all children that the keys mention, in order of first mention.
pub(super) fn mentioned(keys: &SteerKeys) -> Vec<&Ref> {
    let mut seen = BTreeSet::new();
    let mut all: Vec<&Ref> = Vec::new();
    match keys.to.as_ref().map(|to| &to.value) {
        Some(To::One(one)) => all.push(one),
        Some(To::List(list)) => all.extend(list),
        Some(To::Weights(weights)) => all.extend(weights.iter().map(|(name, _)| name)),
        None => {}
    }
    all.extend(keys.rules.iter().flat_map(|rules| &rules.value).flat_map(|rule| &rule.to));
    if let Some(Located { value: DefaultKey::Children(list), .. }) = &keys.default {
        all.extend(list);
    }
    all.retain(|name| seen.insert(name.value.as_str()));
    all
}
