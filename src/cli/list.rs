//! `list`: what is served, thing by thing, with all pages of a list as one.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::args::{ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::finish;
use super::list_args::{ListCommand, Look};
use super::table::{Cell, Table, Tone, clean, colours};
use super::{complain, print};

/// The largest page that the server gives.
const PAGE: &str = "1000";

/// Fetches something and shows it, once or again and again: on a terminal on a cleared screen; as JSON, one object a line. A server that is away
/// for a while is waited for.
pub(super) async fn look(
    config: &ConfigArg,
    connect: &Connect,
    watch: Option<u64>,
    fetch: impl AsyncFn(&Client) -> Result<Value, CallError>,
    show: impl Fn(&Value, u64, bool) -> Result<String, CallError>,
) -> ExitCode {
    let (json, colours) = (connect.json, colours());
    let client = match Client::new(config, connect) {
        Ok(client) => client,
        Err(error) => return finish(json, Err(error), |_| Ok(String::new())),
    };
    let Some(seconds) = watch else { return finish(json, fetch(&client).await, |reply| show(reply, client.now(), colours)) };
    loop {
        let shown = match fetch(&client).await {
            Ok(reply) if json => Ok(format!("{reply}\n")),
            Ok(reply) => show(&reply, client.now(), colours),
            Err(error) => Err(error),
        };
        match shown {
            Ok(text) => {
                let text = if stdout().is_terminal() && !json { format!("\x1b[H\x1b[2J{text}") } else { text };
                if let Err(unwritten) = print(&text) {
                    return unwritten.end();
                }
            }
            Err(error) if error.problem().is_some_and(|problem| problem.status < 500 && problem.status != 429) => {
                return finish(json, Err(error), |_| Ok(String::new()));
            }
            Err(error) => complain(&clean(&error.to_string())),
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// A list: where it is, what is asked of it, and how it is shown.
struct List {
    path: String,
    /// The member of the reply that holds the items.
    key: &'static str,
    filters: Vec<(&'static str, Option<String>)>,
    titles: &'static [&'static str],
    row: fn(&Value) -> Vec<Cell>,
    look: Look,
}

/// `meridian list`.
pub(super) async fn list(config: &ConfigArg, command: ListCommand) -> ExitCode {
    let List { path, key, filters, titles, row, look: Look { watch, connect } } = which(command);
    let fetch = async |client: &Client| all_pages(client, &path, key, &filters).await;
    let show = |reply: &Value, _: u64, colours: bool| {
        let items = reply[key].as_array().map_or(&[][..], Vec::as_slice);
        let mut table = Table::new(titles);
        items.iter().for_each(|item| table.row(row(item)));
        Ok(if items.is_empty() { format!("no {key}\n") } else { table.render(colours) })
    };
    look(config, &connect, watch, fetch, show).await
}

fn which(command: ListCommand) -> List {
    let of = |path: &str, key, filters, titles, row, look| List { path: path.into(), key, filters, titles, row, look };
    match command {
        ListCommand::Zones { state, name, look } => {
            of("/v1/zones", "zones", vec![("state", state), ("name", name)], &["ZONE", "STATE", ">SERIAL", ">RECORDS", ">STEERED", "WHY"], zone, look)
        }
        ListCommand::Records { zone, name, rtype, look } => {
            let titles = &["NAME", "TYPE", ">TTL", ">FILES", "DATA"];
            of(&format!("/v1/zones/{}/records", segment(&zone)), "records", vec![("name", name), ("type", rtype)], titles, record, look)
        }
        ListCommand::Names { zone, look } => {
            let titles = &["NAME", "DECIDED BY", "TTL", "FILES", "TYPES"];
            of(&format!("/v1/zones/{}/names", segment(&zone)), "names", Vec::new(), titles, name, look)
        }
        ListCommand::Policies { zone, kind, look } => {
            let titles = &["POLICY", "KIND", "MODE", "FAILBACK", "CHILDREN"];
            of("/v1/policies", "policies", vec![("zone", zone), ("kind", kind)], titles, policy, look)
        }
        ListCommand::Pools { zone, region, health, look } => {
            let filters = vec![("zone", zone), ("region", region), ("health", health)];
            of("/v1/pools", "pools", filters, &["POOL", "REGION", "HEALTH", "USABLE", "LOCATION"], pool, look)
        }
        ListCommand::Endpoints { zone, pool, region, state, usable, forced, look } => {
            let filters = vec![("zone", zone), ("pool", pool), ("region", region), ("state", state), ("usable", usable), ("forced", forced)];
            let titles = &["ENDPOINT", "REGION", "STATE", "FORCED", "USABLE", ">WEIGHT", ">FILES", "MONITORS"];
            of("/v1/endpoints", "endpoints", filters, titles, endpoint, look)
        }
        ListCommand::Regions { look } => of("/v1/regions", "regions", Vec::new(), &["REGION", "LOCATION", "POOLS"], region, look),
        ListCommand::Monitors { zone, kind, look } => {
            let titles = &["MONITOR", "KIND", ">PORT", "HOST", "PATH", "INTERVAL", "FAST", "TIMEOUT", ">FALL", ">RISE", ">USERS", "OF"];
            of("/v1/monitors", "monitors", vec![("zone", zone), ("kind", kind)], titles, monitor, look)
        }
    }
}

/// The items of all pages, under `key` as in each page.
pub(super) async fn all_pages(client: &Client, path: &str, key: &str, filters: &[(&'static str, Option<String>)]) -> Result<Value, CallError> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let mut page = client.call(Call { query: &query, ..Call::new(Method::GET, path) }).await?;
        if let Some(Value::Array(found)) = page.get_mut(key).map(Value::take) {
            items.extend(found);
        }
        let next = page["next"].as_str().map(str::to_owned);
        // Cursors go forward; a server whose do not is none to follow.
        if next.is_none() || next <= cursor {
            return Ok(json!({ key: items }));
        }
        cursor = next;
    }
}

/// One segment of a path: what a path cannot carry is escaped (RFC 3986 §2.1).
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'*' => escaped.push(char::from(byte)),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// A member as text; nothing for what is not there.
pub(super) fn text(item: &Value, name: &str) -> String {
    match &item[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The members of a list of texts in one cell.
pub(super) fn texts(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

pub(super) fn word(item: &Value, name: &str) -> Cell {
    Cell::word(&text(item, name))
}

/// A value in effect: marked when it is not as the files say.
fn effect(now: String, files: &str) -> Cell {
    let tone = if now == files { Tone::Plain } else { Tone::Warning };
    Cell::toned(now, tone)
}

fn place(item: &Value) -> String {
    match item["location"].as_array().map(Vec::as_slice) {
        Some([lat, lon]) => format!("{lat}, {lon}"),
        _ => String::new(),
    }
}

fn zone(item: &Value) -> Vec<Cell> {
    let steered = item["steered"].as_array().map_or(0, Vec::len);
    vec![
        text(item, "name").into(),
        word(item, "state"),
        text(item, "serial").into(),
        text(item, "records").into(),
        steered.into(),
        text(item, "why").into(),
    ]
}

fn record(item: &Value) -> Vec<Cell> {
    let files = text(item, "file_ttl");
    let ttl = effect(text(item, "ttl"), &files);
    vec![text(item, "name").into(), text(item, "type").into(), ttl, files.into(), texts(&item["data"]).into()]
}

fn name(item: &Value) -> Vec<Cell> {
    let range = |ttl: &Value| format!("{} to {}", ttl["min"], ttl["max"]);
    let files = range(&item["file_ttl"]);
    let ttl = effect(range(&item["ttl"]), &files);
    vec![text(item, "name").into(), text(item, "root").into(), ttl, files.into(), texts(&item["types"]).into()]
}

fn policy(item: &Value) -> Vec<Cell> {
    let child = |child: &Value| {
        let mut words = text(child, "name");
        if let Some(weight) = child["weight"].as_u64() {
            let _ = write!(words, " {weight}");
        }
        if child["weight"] != child["file_weight"] {
            let _ = write!(words, " (files {})", child["file_weight"]);
        }
        if child["held"] == true {
            words.push_str(" (held)");
        }
        words
    };
    let children: Vec<String> = item["children"].as_array().into_iter().flatten().map(child).collect();
    vec![text(item, "id").into(), text(item, "kind").into(), text(item, "mode").into(), text(item, "failback").into(), children.join(", ").into()]
}

fn pool(item: &Value) -> Vec<Cell> {
    let all = item["endpoints"].as_array().map_or(0, Vec::len);
    let usable = format!("{}/{all}, needs {}", item["usable"], item["needed"]);
    vec![text(item, "id").into(), text(item, "region").into(), word(item, "health"), usable.into(), place(item).into()]
}

fn endpoint(item: &Value) -> Vec<Cell> {
    let files = text(item, "file_weight");
    let weight = effect(text(item, "weight"), &files);
    let usable = if item["usable"] == true { Cell::toned("yes".into(), Tone::Good) } else { Cell::toned("no".into(), Tone::Bad) };
    vec![
        text(item, "id").into(),
        text(item, "region").into(),
        word(item, "state"),
        word(item, "forced"),
        usable,
        weight,
        files.into(),
        texts(&item["monitors"]).into(),
    ]
}

fn region(item: &Value) -> Vec<Cell> {
    vec![text(item, "id").into(), place(item).into(), texts(&item["pools"]).into()]
}

fn monitor(item: &Value) -> Vec<Cell> {
    let advisory = if item["advisory"] == true { ", advisory" } else { "" };
    let count = item["count"].as_u64().map_or(String::new(), |count| format!("{count} of "));
    let mut cells: Vec<Cell> = vec![text(item, "id").into(), format!("{}{advisory}", text(item, "kind")).into()];
    cells.extend(["port", "host", "path", "interval", "fast", "timeout", "fall", "rise", "used_by_count"].map(|member| text(item, member).into()));
    cells.push(format!("{count}{}", texts(&item["of"])).into());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_carry_any_name() {
        for (text, escaped) in [
            ("example.com", "example.com"),
            ("2001:db8::1", "2001:db8::1"),
            ("0/25.2.0.192.in-addr.arpa", "0%2F25.2.0.192.in-addr.arpa"),
            ("a?b#c d%", "a%3Fb%23c%20d%25"),
            ("ü", "%C3%BC"),
            ("@", "@"),
        ] {
            assert_eq!(segment(text), escaped);
        }
    }
}
