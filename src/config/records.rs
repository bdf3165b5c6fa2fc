//! Reads `[records]` and the record data of pools.

use std::collections::BTreeMap;

use super::raw::RawRrset;
use super::source::{Table, Value};
use super::suggest;
use crate::dns::{Name, RecordType};
use crate::zone::rdata;

/// The most records of one RRset: 65,535 octets hold no more than this many of the shortest (16 octets each with a compressed owner).
pub(super) const MAX_RRSET: usize = 4096;
/// The longest character-string (RFC 1035 §3.3).
const MAX_CHARACTER_STRING: usize = 255;

/// Reads `[records]`: a table of owners, each a table of types.
pub(super) fn read(section: &Value<'_>, zone: &Name) -> Vec<RawRrset> {
    let mut all = Vec::new();
    let Some(table) = section.table(" such as [records]") else { return all };
    let mut seen = BTreeMap::new();
    for (key, mut value) in table.entries(|owner| format!("{owner:?}")) {
        let subject = value.subject.clone();
        if let Some(text) = beyond_ascii(key) {
            value.warning(text);
        }
        let owner = match Name::parse(key, zone) {
            Ok(owner) if owner.is_at_or_below(zone) => Some(owner),
            Ok(owner) => {
                value.error(format!("{owner} is not below the zone {zone}"));
                None
            }
            Err(error) => {
                value.error(error.to_string());
                None
            }
        };
        if value.as_str().is_some() || value.as_list().is_some() {
            value.error(format!("found {}, expected a type behind the owner, such as {}.A = …", value.describe(), bare_or_quoted(key)));
            continue;
        }
        value.subject = subject;
        let Some(types) = value.table(" of types") else { continue };
        read_owner(&types, key, owner.as_ref(), zone, &mut seen, &mut all);
    }
    all
}

/// What to say of a name with letters beyond ASCII. It is served as it stands, in UTF-8; programs that know internationalised names ask for another
/// (RFC 5891 §4).
pub(super) fn beyond_ascii(name: &str) -> Option<String> {
    if name.is_ascii() {
        return None;
    }
    let labels = hickory_proto::rr::Name::from_utf8(name).map(|name| name.to_ascii()).ok().filter(|labels| labels.contains("xn--"));
    let fix = labels.map_or(String::new(), |labels| format!(": write {labels:?} for them"));
    Some(format!("found letters beyond ASCII, which are served as octets of UTF-8; browsers and resolvers ask for A-labels (xn--…){fix}"))
}

type Seen = BTreeMap<(Name, RecordType), u32>;

fn read_owner(types: &Table<'_>, owner_key: &str, owner: Option<&Name>, zone: &Name, seen: &mut Seen, all: &mut Vec<RawRrset>) {
    for (key, value) in types.entries(str::to_string) {
        if let Some(fix) = deeper(owner_key, key, &value) {
            value.error(format!("owners with dots are quoted; write {fix}"));
            continue;
        }
        let Some(rtype) = record_type(key, &value) else { continue };
        let Some(owner) = owner else { continue };
        if rtype == RecordType::SOA {
            value.error("the SOA is derived; set its fields with soa = { … } in [zone]");
            continue;
        }
        if rtype == RecordType::NS && owner == zone {
            value.error("the name servers of the zone are given by ns = […] in [zone]");
            continue;
        }
        let (ttl, data) = rrset(&value, rtype, zone);
        if let Some(line) = seen.insert((owner.clone(), rtype), value.line) {
            value.error(format!("{owner} {rtype} is given in line {line} already; put all its data into one list"));
            continue;
        }
        if !data.is_empty() {
            all.push(RawRrset { owner: owner.clone(), rtype, ttl, data });
        }
    }
}

/// When an unquoted owner with dots has made a deeper table: how it should be written.
fn deeper(owner: &str, key: &str, value: &Value<'_>) -> Option<String> {
    let table = value.as_table()?;
    let mut labels = vec![owner.to_string(), key.to_string()];
    let mut entries = table.entries(str::to_string);
    let is_type = key.parse::<RecordType>().is_ok();
    if is_type && entries.iter().any(|(key, _)| matches!(*key, "ttl" | "data")) {
        return None;
    }
    // Down to the first key that is a type.
    loop {
        let (first, value) = entries.first()?.clone();
        if first.parse::<RecordType>().is_ok() {
            return Some(format!("{:?}.{first} = …", labels.join(".")));
        }
        let Some(table) = value.as_table() else {
            // `www.TXXT = { tttl = 5 }`: no deeper owner, just wrong keys.
            return None;
        };
        labels.push(first.to_string());
        entries = table.entries(str::to_string);
    }
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { key.to_string() } else { format!("{key:?}") }
}

fn record_type(key: &str, value: &Value<'_>) -> Option<RecordType> {
    match key.parse::<RecordType>() {
        Ok(rtype) if rtype.is_meta() => {
            value.error(format!("{rtype} never stands in a zone"));
            None
        }
        Ok(rtype) => Some(rtype),
        Err(_) => {
            let hint = suggest::did_you_mean(key, RecordType::NAMED.iter().map(|(_, name)| *name));
            value.error(format!("found {key:?}, expected a record type such as A, MX or TYPE65280{hint}"));
            None
        }
    }
}

/// A TTL, and each datum with its line.
type Rrset = (Option<u32>, Vec<(u32, Vec<u8>)>);

/// The value of one owner and type.
fn rrset(value: &Value<'_>, rtype: RecordType, zone: &Name) -> Rrset {
    let Some(table) = value.as_table() else { return (None, data_list(value, rtype, Some(zone))) };
    let ttl = table.take("ttl").and_then(|value| super::read::ttl(&value));
    let data = match table.take("data") {
        Some(data) => data_list(&data, rtype, Some(zone)),
        None => {
            table.missing("data is missing; write { ttl = 60, data = […] }");
            Vec::new()
        }
    };
    table.finish();
    (ttl, data)
}

/// A datum or a list of them, in wire form. `origin` is `None` in a library, where relative names are refused.
pub(super) fn data_list(value: &Value<'_>, rtype: RecordType, origin: Option<&Name>) -> Vec<(u32, Vec<u8>)> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_RRSET {
        value.error(format!("found {} records, expected 1 to {MAX_RRSET}", items.len()));
    }
    let is_text = matches!(rtype, RecordType::TXT | RecordType::SPF);
    let mut all: Vec<(u32, Vec<u8>)> = Vec::new();
    for item in items.into_iter().take(MAX_RRSET) {
        let rdata = if is_text { text_data(&item) } else { presentation_data(&item, rtype, origin) };
        let Some(rdata) = rdata else { continue };
        if all.iter().any(|(_, other)| *other == rdata) {
            item.warning(format!("found {} twice; the second one is left out", item.describe()));
            continue;
        }
        all.push((item.line, rdata));
    }
    all
}

fn presentation_data(item: &Value<'_>, rtype: RecordType, origin: Option<&Name>) -> Option<Vec<u8>> {
    let Some(text) = item.as_str() else {
        let fix = if item.as_list().is_some() { "; only TXT and SPF take lists in lists" } else { "" };
        item.error(format!("found {}, expected {rtype} data in presentation format as a string{fix}", item.describe()));
        return None;
    };
    let root = Name::root();
    match rdata::parse(rtype, text, origin.unwrap_or(&root)) {
        Ok(rdata) => {
            // A relative name comes out different below another origin.
            if let (None, Ok(elsewhere)) = (origin, Name::parse_absolute("x."))
                && rdata::parse(rtype, text, &elsewhere).is_ok_and(|other| other != rdata)
            {
                item.error(format!("found {}; a library belongs to no zone, so names in it must be absolute (end in a dot)", item.describe()));
                return None;
            }
            Some(rdata)
        }
        Err(error) => {
            item.error(error.to_string());
            None
        }
    }
}

/// TXT and SPF: a string is one text, split by us; a list is the character-strings of one record.
fn text_data(item: &Value<'_>) -> Option<Vec<u8>> {
    let mut rdata = Vec::new();
    if let Some(text) = item.as_str() {
        if text.is_empty() {
            return Some(vec![0]);
        }
        text.as_bytes().chunks(MAX_CHARACTER_STRING).for_each(|part| push_string(part, &mut rdata));
    } else if let Some(parts) = item.as_list() {
        if parts.is_empty() {
            item.expected("at least one character-string");
            return None;
        }
        for part in parts {
            let text = part.string("a character-string")?;
            if text.len() > MAX_CHARACTER_STRING {
                part.error(format!(
                    "found a character-string of {} octets, expected at most {MAX_CHARACTER_STRING}; a plain string is split for you",
                    text.len()
                ));
                return None;
            }
            push_string(text.as_bytes(), &mut rdata);
        }
    } else {
        item.expected("a text, or a list of character-strings");
        return None;
    }
    if rdata.len() > usize::from(u16::MAX) {
        item.error(format!("found {} octets of data, expected at most {}", rdata.len(), u16::MAX));
        return None;
    }
    Some(rdata)
}

fn push_string(part: &[u8], rdata: &mut Vec<u8>) {
    rdata.push(part.len() as u8);
    rdata.extend_from_slice(part);
}
