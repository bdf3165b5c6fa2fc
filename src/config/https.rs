//! `https = { … }` of a steered name: an HTTPS record (RFC 9460) whose hints come from the same decision as A and AAAA, or an alias.

use super::raw::{RawHttps, Ref};
use super::source::{Located, Sink, Value};
use crate::dns::Name;
use crate::policy::model::Https;

/// Protocols of one record: clients know a handful.
const MAX_PROTOCOLS: usize = 16;
/// The longest protocol identifier (RFC 9460 §7.1.1: a length octet).
const MAX_PROTOCOL_LEN: usize = 255;
/// The most octets in front of the hints, so that the record fits the buffer that answering has for it and a UDP reply.
pub(super) const MAX_FIXED_LEN: usize = 1024;

/// Service parameter keys (RFC 9460 §14.3.2).
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;

/// Reads the table.
pub(super) fn https(value: &Value<'_>) -> Option<RawHttps> {
    let table = value.table(" such as { alpn = [\"h3\", \"h2\"] }")?;
    let name = |value: &Value<'_>| -> Option<Ref> {
        let text = value.string("a name such as \"www\" (below the zone) or \"www.example.net.\" (absolute)")?;
        Some(value.located(text.to_string()))
    };
    let (alpn, bare, port) = (table.take("alpn"), table.take("no_default_alpn"), table.take("port"));
    let (priority, target, alias) = (table.take("priority"), table.take("target"), table.take("alias"));
    if let Some(alias) = &alias {
        for (given, key) in [
            (alpn.is_some(), "alpn"),
            (bare.is_some(), "no_default_alpn"),
            (port.is_some(), "port"),
            (priority.is_some(), "priority"),
            (target.is_some(), "target"),
        ] {
            if given {
                alias.error(format!("found alias beside {key}; an alias has no parameters (RFC 9460 §2.4.2)"));
            }
        }
    }
    let raw = RawHttps {
        alpn: alpn.as_ref().map_or_else(Vec::new, protocols),
        no_default_alpn: bare.as_ref().and_then(Value::boolean).unwrap_or(false),
        port: port.and_then(|value| value.integer(1..=65_535, "")).map(|port| port as u16),
        priority: priority.and_then(|value| priority_number(&value)),
        target: target.and_then(|value| name(&value)),
        alias: alias.and_then(|value| name(&value)),
    };
    if let (Some(bare), true, true) = (&bare, raw.no_default_alpn, alpn.is_none()) {
        bare.error("found no_default_alpn without alpn, expected the protocols that the service speaks (RFC 9460 §7.1.1)");
    }
    table.finish();
    Some(raw)
}

fn priority_number(value: &Value<'_>) -> Option<u16> {
    if value.as_integer() == Some(0) {
        value.error("found 0, which makes an alias, expected 1 to 65535; write https = { alias = \"NAME\" }");
        return None;
    }
    value.integer(1..=65_535, "").map(|priority| priority as u16)
}

fn protocols(value: &Value<'_>) -> Vec<String> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_PROTOCOLS {
        value.error(format!("found {} protocols, expected 1 to {MAX_PROTOCOLS}", items.len()));
    }
    let mut all: Vec<String> = Vec::new();
    for item in items.into_iter().take(MAX_PROTOCOLS) {
        let Some(text) = item.string("a protocol such as \"h2\"") else { continue };
        if text.is_empty() || text.len() > MAX_PROTOCOL_LEN {
            item.error(format!("found a protocol of {} octets, expected 1 to {MAX_PROTOCOL_LEN}", text.len()));
        } else if all.iter().any(|other| other == text) {
            item.error(format!("protocol {text:?} is listed twice"));
        } else {
            all.push(text.to_string());
        }
    }
    all
}

/// Looks the names up and lays the record data out.
///
/// ```text
/// alias = NAME     0 NAME                              the same for everybody
/// target = NAME    1 NAME alpn port                    the same for everybody: hints would be NAME's
/// neither          1 . alpn port ipv4hint ipv6hint     hints from the decision
/// ```
pub(super) fn resolve(key: &Located<RawHttps>, owner: &Name, apex: &Name, subject: &[String], sink: &Sink) -> Option<Https> {
    let raw = &key.value;
    let mut subject = subject.to_vec();
    subject.push("https".into());
    let named = |name: &Ref, word: &str| -> Option<Name> {
        let mut subject = subject.clone();
        subject.push(word.into());
        match Name::parse(&name.value, apex) {
            Ok(found) if found == *owner => {
                let hint = if word == "target" { "leave target out" } else { "an alias leads to another name" };
                sink.error(&name.at, &subject, format!("found the steered name itself; {hint}"));
                None
            }
            Ok(found) if found.is_root() => {
                sink.error(&name.at, &subject, "found the root, expected a name; leave it out for the steered name itself");
                None
            }
            Ok(found) => Some(found),
            Err(error) => {
                sink.error(&name.at, &subject, format!("found {:?}, but {error}", name.value));
                None
            }
        }
    };
    if let Some(alias) = &raw.alias {
        let mut rdata = vec![0, 0];
        rdata.extend_from_slice(named(alias, "alias")?.as_wire());
        return Some(Https { rdata, has_hints: false, line: key.at.line });
    }
    let mut rdata = raw.priority.unwrap_or(1).to_be_bytes().to_vec();
    match &raw.target {
        Some(target) => rdata.extend_from_slice(named(target, "target")?.as_wire()),
        None => rdata.push(0),
    }
    let mut put = |number: u16, value: &[u8]| {
        rdata.extend_from_slice(&number.to_be_bytes());
        rdata.extend_from_slice(&(value.len() as u16).to_be_bytes());
        rdata.extend_from_slice(value);
    };
    if !raw.alpn.is_empty() {
        let value: Vec<u8> = raw.alpn.iter().flat_map(|text| std::iter::once(text.len() as u8).chain(text.bytes())).collect();
        put(ALPN, &value);
    }
    if raw.no_default_alpn {
        put(NO_DEFAULT_ALPN, &[]);
    }
    if let Some(port) = raw.port {
        put(PORT, &port.to_be_bytes());
    }
    if rdata.len() > MAX_FIXED_LEN {
        sink.error(&key.at, &subject, format!("found a record of {} octets without its hints, expected at most {MAX_FIXED_LEN}", rdata.len()));
        return None;
    }
    Some(Https { rdata, has_hints: raw.target.is_none(), line: key.at.line })
}
