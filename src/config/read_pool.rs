//! Reads `[pool.NAME]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use super::raw::{PoolKeys, RawEndpoint, Ref};
use super::records;
use super::signals;
use super::source::{Table, Value};
use super::suggest;
use super::values::{self, percent};
use crate::dns::{Name, RecordType};
use crate::policy::model::{MinHealthy, Target};
use crate::zone::check::Fault;
use crate::zone::rdata;

/// The most endpoints of one pool: an answer carries at most 64 of them, and every one is checked.
pub(super) const MAX_ENDPOINTS: usize = 1000;
/// The most monitors of one pool or endpoint.
pub(super) const MAX_MONITORS_EACH: usize = 16;
/// The most addresses in an answer.
pub(super) const MAX_ANSWERS: i64 = 64;
/// What a pool can carry: requests per second, megabits, percent of a site; only shares of it are looked at.
const CAPACITY: RangeInclusive<i64> = 1..=1_000_000_000;
/// The longest display name of an endpoint.
const MAX_DISPLAY_CHARS: usize = 100;

/// Reads one pool. `origin` is the zone's name, `None` in a library, where relative names have no meaning.
pub(super) fn pool_keys(value: &Value<'_>, origin: Option<&Name>) -> PoolKeys {
    let mut keys = PoolKeys::default();
    let Some(table) = value.table(" such as { endpoints = [\"192.0.2.10\"] }") else { return keys };
    let endpoints = table.take("endpoints");
    let cname = table.take("cname");
    let records = table.take("records");
    if endpoints.is_none() && cname.is_none() && records.is_none() {
        table.missing("nothing to answer with; expected endpoints, cname or records");
    }
    if let Some(cname) = &cname {
        for (given, other) in [(endpoints.is_some(), "endpoints"), (records.is_some(), "records")] {
            if given {
                cname.error(format!("found cname beside {other}; a pool that answers with a CNAME has nothing else"));
            }
        }
    }
    if let Some(value) = &endpoints {
        keys.endpoints = read_endpoints(value);
    }
    if let Some(value) = &cname {
        keys.is_cname = true;
        if let Some(target) = cname_target(value, origin) {
            keys.endpoints = vec![RawEndpoint { target: Target::Cname(target), check_address: None, name: None, weight: 1, monitors: None }];
        }
    }
    if let Some(value) = &records {
        keys.records = read_records(value, origin);
    }
    keys.region = table.take("region").and_then(|value| value.string("the name of a region").map(|name| value.located(name.to_string())));
    keys.location = table.take("location").and_then(|value| values::location(&value));
    keys.monitors = table.take("monitor").map_or_else(Vec::new, |value| monitors(&value));
    keys.min_healthy = table.take("min_healthy").and_then(|value| min_healthy(&value, keys.endpoints.len()));
    if keys.endpoints.is_empty() && records.is_some() && keys.min_healthy.is_none() {
        // Nothing is checked, so nothing can make it critical.
        keys.min_healthy = Some(MinHealthy::Count(0));
    }
    keys.answers = table.take("answers").and_then(|value| value.integer(1..=MAX_ANSWERS, "")).map(|count| count as u8);
    keys.degraded_weight = table.take("degraded_weight").and_then(|value| whole_share(&value));
    keys.panic = table.take("panic").filter(|value| value.as_bool() != Some(false)).and_then(|value| whole_share(&value));
    keys.capacity = table.take("capacity").and_then(|value| value.integer(CAPACITY, "")).map(|capacity| capacity as u32);
    keys.shed = table.take("shed").and_then(|value| signals::shed(&value));
    keys.signals = table.take("signals").and_then(|value| signals::share_rule(&value));
    table.finish();
    keys
}

/// Never nothing: what is degraded stays in service, and nothing is less than no part of a pool.
fn whole_share(value: &Value<'_>) -> Option<u8> {
    let what = "a share from \"1%\" to \"100%\"";
    let share = percent(value.string(what)?).filter(|share| *share > 0);
    if share.is_none() {
        value.expected(what);
    }
    share
}

fn read_endpoints(value: &Value<'_>) -> Vec<RawEndpoint> {
    let items = match value.as_list() {
        Some(items) => items,
        None if value.is_table() => {
            value.expected("a list of addresses such as [\"192.0.2.10\", { address = \"192.0.2.11\", weight = 2 }]");
            return Vec::new();
        }
        None => vec![value.clone()],
    };
    if items.is_empty() || items.len() > MAX_ENDPOINTS {
        value.error(format!("found {} endpoints, expected 1 to {MAX_ENDPOINTS}", items.len()));
    }
    let mut all: Vec<RawEndpoint> = Vec::new();
    for item in items.into_iter().take(MAX_ENDPOINTS) {
        let Some(endpoint) = read_endpoint(&item) else { continue };
        if let Target::Address(address) = &endpoint.target
            && all.iter().any(|other| other.target == endpoint.target)
        {
            item.error(format!("found {address} twice; endpoints are a set (use weight to give one more traffic)"));
            continue;
        }
        all.push(endpoint);
    }
    all
}

fn read_endpoint(item: &Value<'_>) -> Option<RawEndpoint> {
    let Some(mut table) = item.as_table() else {
        return address(item).map(|target| RawEndpoint { target, check_address: None, name: None, weight: 1, monitors: None });
    };
    let target = match table.take("address") {
        Some(value) => {
            table.subject.extend(value.as_str().map(|text| format!("{text:?}")));
            address(&value)
        }
        None => {
            table.missing("address is missing; write { address = \"192.0.2.10\" }");
            None
        }
    };
    let weight = table.take("weight").and_then(|value| value.integer(0..=65_535, "")).unwrap_or(1) as u16;
    let name = table.take("name").and_then(|value| display_name(&value));
    let own = table.take("monitor").map(|value| monitors(&value));
    let elsewhere = table.take("check_address").and_then(|value| address(&value));
    let check_address = elsewhere.and_then(|target| if let Target::Address(address) = target { Some(address) } else { None });
    table.finish();
    Some(RawEndpoint { target: target?, check_address, name, weight, monitors: own })
}

fn display_name(value: &Value<'_>) -> Option<String> {
    let text = value.string("a display name")?;
    if text.is_empty() || text.chars().count() > MAX_DISPLAY_CHARS || text.chars().any(char::is_control) {
        value.expected(format_args!("1 to {MAX_DISPLAY_CHARS} printable characters"));
        return None;
    }
    Some(text.to_string())
}

fn address(value: &Value<'_>) -> Option<Target> {
    let what = "an address such as \"192.0.2.10\" or \"2001:db8::10\"";
    let text = value.string(what)?;
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST => {
            value.error(format!("found {address}, which is no address of a host, expected {what}"));
            None
        }
        Ok(IpAddr::V6(address)) if let Some(mapped) = address.to_ipv4_mapped() => {
            // RFC 4291 §2.5.5.2: a way to write IPv4 addresses inside a machine; nobody is reached by it.
            value.error(format!("found {address}, an IPv4 address in the form of IPv6, to which no client can connect; write {mapped}"));
            None
        }
        Ok(address) => Some(Target::Address(address)),
        Err(_) => {
            let hint = match text {
                _ if text.contains('/') => "; an endpoint is one address, not a prefix",
                _ if text.contains(':') && text.contains('.') => "; the port belongs to the monitor",
                _ if text.contains(|c: char| c.is_ascii_alphabetic()) && text.contains('.') => {
                    "; for a name write cname = \"…\" in place of endpoints"
                }
                _ => "",
            };
            value.error(format!("found {}, expected {what}{hint}", value.describe()));
            None
        }
    }
}

fn cname_target(value: &Value<'_>, origin: Option<&Name>) -> Option<Name> {
    if let (None, Some(text)) = (origin, value.as_str())
        && !text.ends_with('.')
    {
        value.error(format!("found {text:?}; a library belongs to no zone, so the name must be absolute: \"{text}.\""));
        return None;
    }
    super::read::name(value, origin.unwrap_or(&Name::root()))
}

/// One name, a list of names, or `false` for none.
fn monitors(value: &Value<'_>) -> Vec<Ref> {
    if value.as_bool() == Some(false) {
        return Vec::new();
    }
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_MONITORS_EACH {
        value.error(format!("found {} monitors, expected 1 to {MAX_MONITORS_EACH}, or false for none", items.len()));
    }
    let mut all: Vec<Ref> = Vec::new();
    for item in items.into_iter().take(MAX_MONITORS_EACH) {
        let Some(name) = item.string("the name of a monitor, a list of such, or false") else { continue };
        if all.iter().any(|other| other.value == name) {
            item.error(format!("monitor {name:?} is listed twice"));
            continue;
        }
        all.push(item.located(name.to_string()));
    }
    all
}

fn min_healthy(value: &Value<'_>, endpoints: usize) -> Option<MinHealthy> {
    if let Some(text) = value.as_str() {
        let share = percent(text);
        if share.is_none() {
            value.expected("a count such as 2, or a share from \"0%\" to \"100%\"");
        }
        return share.map(MinHealthy::Percent);
    }
    let count = value.as_integer();
    match count {
        Some(count) if (0..=endpoints as i64).contains(&count) => Some(MinHealthy::Count(count as u32)),
        Some(count) if count >= 0 && endpoints > 0 => {
            value.error(format!(
                "found {count}, but the pool has {endpoints} endpoint{}: it would always be critical",
                if endpoints == 1 { "" } else { "s" }
            ));
            None
        }
        // Without endpoints there is an error already.
        Some(count) if count >= 0 => None,
        _ => {
            value.expected("a count such as 2, or a share such as \"50%\"");
            None
        }
    }
}

fn read_records(value: &Value<'_>, origin: Option<&Name>) -> BTreeMap<RecordType, Vec<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let Some(table) = value.table(" such as { TXT = \"…\" }") else { return all };
    for (key, value) in table.entries(str::to_string) {
        let Some(rtype) = record_type(key, &value, &table) else { continue };
        let data = records::data_list(&value, rtype, origin);
        if matches!(rtype, RecordType::SVCB | RecordType::HTTPS) && data.iter().any(|(_, rdata)| rdata::is_alias_with_params(rdata)) {
            value.warning(Fault::AliasWithParams.to_string());
        }
        if all.insert(rtype, data.into_iter().map(|(_, rdata)| rdata).collect()).is_some() {
            value.error(format!("{rtype} is given twice"));
        }
    }
    all
}

fn record_type(key: &str, value: &Value<'_>, _table: &Table<'_>) -> Option<RecordType> {
    let Ok(rtype) = key.parse::<RecordType>() else {
        let hint = suggest::did_you_mean(key, RecordType::NAMED.iter().map(|(_, name)| *name));
        value.error(format!("found {key:?}, expected a record type{hint}"));
        return None;
    };
    let why = match rtype {
        RecordType::A | RecordType::AAAA => "addresses belong in endpoints",
        RecordType::CNAME => "write cname = \"…\" in place of endpoints and records",
        RecordType::SOA | RecordType::NS | RecordType::DNAME | RecordType::DS => "it belongs to the structure of the zone and cannot be steered",
        RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3 | RecordType::NSEC3PARAM | RecordType::DNSKEY => {
            "it belongs to signing and cannot be steered"
        }
        other if other.is_meta() => "it never stands in a zone",
        _ => return Some(rtype),
    };
    value.error(format!("{rtype} is not allowed in a pool's records: {why}"));
    None
}
