//! Monitors that nothing can pass: said at load, not found out when everything is down.

use super::raw::{CheckKind, MonitorKeys};
use crate::dns::{Rcode, RecordType};
use crate::policy::model::{Bound, HttpMethod, JsonExpected};

/// What speaks against every reply: the key, and what is wrong with it.
pub(super) fn never_passes(kind: &CheckKind, keys: &MonitorKeys) -> Vec<(String, String)> {
    match kind {
        CheckKind::Http(_) | CheckKind::Https(_) => without_body(keys).into_iter().chain(of_status(keys)).chain(numbers_in_json(keys)).collect(),
        CheckKind::Dns(_, rtype) => answer(*rtype, keys).into_iter().map(|text| ("expect.answer".to_owned(), text)).collect(),
        CheckKind::Prometheus(_) => {
            let bounds = keys.value.as_deref().unwrap_or_default();
            excluding(bounds).into_iter().map(|text| ("expect.value".to_owned(), text)).collect()
        }
        _ => Vec::new(),
    }
}

/// A reply to HEAD ends with its headers (RFC 9110 §9.3.2).
fn without_body(keys: &MonitorKeys) -> Option<(String, String)> {
    let key = of_body(keys).filter(|_| keys.method == Some(HttpMethod::Head))?;
    Some((key.to_owned(), "a reply to HEAD has no body, so this never passes; write method = \"GET\", or leave it out".to_owned()))
}

/// The key that wants something of a body.
fn of_body(keys: &MonitorKeys) -> Option<&'static str> {
    let wants = [
        (keys.body.is_some(), "expect.body"),
        // What matches nothing at all passes.
        (keys.pattern.as_ref().is_some_and(|pattern| !pattern.matches(b"")), "expect.match"),
        (keys.json.as_ref().is_some_and(|json| !json.is_empty()), "expect.json"),
    ];
    wants.into_iter().find(|(given, _)| *given).map(|(_, key)| key)
}

/// A reply of 1xx is followed by another (RFC 9110 §15.2); 204 and 304 end with their headers (§15.3.5, §15.4.5).
fn of_status(keys: &MonitorKeys) -> Option<(String, String)> {
    let status = keys.status.as_ref().filter(|ranges| !ranges.is_empty())?;
    if status.iter().all(|(_, last)| *last < 200) {
        let text = "no reply ends with a status below 200, so this never passes; expected codes from 200 on such as \"200-299\"";
        return Some(("expect.status".to_owned(), text.to_owned()));
    }
    let has_no_body = |&(first, last): &(u16, u16)| (first.max(200)..=last).all(|code| matches!(code, 204 | 304));
    let key = of_body(keys).filter(|_| status.iter().all(has_no_body))?;
    Some((
        key.to_owned(),
        "replies of status 204 and 304 have no body, so this never passes; expected a status with one, or nothing of the body".to_owned(),
    ))
}

fn numbers_in_json(keys: &MonitorKeys) -> impl Iterator<Item = (String, String)> {
    keys.json.iter().flatten().filter_map(|(pointer, expected)| match expected {
        JsonExpected::Number(bounds) => Some((format!("expect.json {pointer:?}"), excluding(bounds)?)),
        JsonExpected::Is(_) => None,
    })
}

fn excluding(bounds: &[Bound]) -> Option<String> {
    let all: Vec<String> = bounds.iter().map(|bound| format!("\"{bound}\"")).collect();
    Bound::exclude_each_other(bounds).then(|| format!("no number is {}: all comparisons must hold", all.join(" and ")))
}

fn answer(rtype: RecordType, keys: &MonitorKeys) -> Option<String> {
    let wanted = keys.answer.as_ref()?;
    let family = match rtype {
        RecordType::A if wanted.parse::<std::net::Ipv4Addr>().is_err() => "IPv4",
        RecordType::AAAA if wanted.parse::<std::net::Ipv6Addr>().is_err() => "IPv6",
        _ => {
            let rcode = keys.rcode.filter(|rcode| *rcode != Rcode::NOERROR)?;
            return Some(format!("a reply that says {rcode} holds no answer; leave one of expect.rcode and expect.answer out"));
        }
    };
    Some(format!("found {wanted:?}, expected an {family} address, as the question is for {rtype}"))
}
