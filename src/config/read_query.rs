//! Reads `prometheus = { url = …, query = … }` and what is expected of it.

use std::net::IpAddr;

use super::raw::QueryKeys;
use super::read::path;
use super::read_monitor::{host_name, text};
use super::source::Value;
use crate::policy::model::{Bound, OnEmpty};
use crate::policy::query::{ADDRESS, POOL};

/// Octets of a query: it travels in the URL, and servers and proxies take 8 KiB of that.
const MAX_QUERY_LEN: usize = 2048;
/// Of the path in front of the API's own.
const MAX_PREFIX_LEN: usize = 255;
/// Comparisons of one value: from and to.
const MAX_BOUNDS: usize = 2;

/// The table of the kind.
pub(super) fn query(value: &Value<'_>) -> Option<QueryKeys> {
    let like = " such as { url = \"http://192.0.2.9:9090\", query = \"up{instance=\\\"$address:9100\\\"}\" }";
    let table = value.table(like)?;
    let (place, query) = (table.take("url"), table.take("query"));
    for (key, given) in [("url", place.is_some()), ("query", query.is_some())] {
        if !given {
            table.missing(format!("{key} is missing; expected a table{like}"));
        }
    }
    let place = place.and_then(|value| url(&value));
    let query = query.and_then(|value| promql(&value));
    let on_empty = table.take("on_empty").and_then(|value| {
        let words = [("unknown", OnEmpty::Unknown), ("pass", OnEmpty::Pass), ("fail", OnEmpty::Fail)];
        value.word(&words)
    });
    let token_file = table.take("token_file").and_then(|value| path(&value));
    if let (Some(token), Some(place)) = (&token_file, &place)
        && !place.secure
        && !place.is_near()
    {
        table.error(format!("token_file is given ({}), but http:// carries it for everybody to read; write https://", token.value.display()));
    }
    table.finish();
    let Place { secure, host, port, prefix } = place?;
    Some(QueryKeys { secure, host, port, prefix, query: query?, on_empty: on_empty.unwrap_or_default(), token_file })
}

/// `"< 0.05"`, or two of them.
pub(super) fn bounds(value: &Value<'_>) -> Option<Vec<Bound>> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_BOUNDS {
        value.error(format!("found {} comparisons, expected 1 to {MAX_BOUNDS}", items.len()));
        return None;
    }
    let what = "a comparison with a number such as \"< 0.05\" (<, <=, >, >=, ==, !=)";
    let bound = |item: &Value<'_>| {
        let found = Bound::parse(item.string(what)?);
        if found.is_none() {
            item.expected(what);
        }
        found
    };
    items.iter().map(bound).collect()
}

/// Where a Prometheus is.
struct Place {
    secure: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Place {
    /// On this machine: nobody else reads what goes there.
    fn is_near(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// `http://HOST:PORT/PREFIX`, as it is given to Grafana.
fn url(value: &Value<'_>) -> Option<Place> {
    let what = "the URL of a Prometheus such as \"https://prometheus.example.com\" or \"http://192.0.2.9:9090\"";
    let text = value.string(what)?;
    let wrong = |why: &str| {
        value.error(format!("found {}, expected {what}{why}", value.describe()));
        None
    };
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return wrong(""),
    };
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        // Without the value: it may hold a password.
        value.error("found a user in the URL; write token_file = \"FILE\" for a token, or headers = { Authorization = \"Basic …\" }");
        return None;
    }
    let visible = prefix.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if prefix.contains(['?', '#']) || authority.contains(['?', '#']) || !visible || prefix.len() > MAX_PREFIX_LEN {
        return wrong(", without query or fragment");
    }
    let prefix = prefix.trim_end_matches('/');
    if prefix.ends_with("/api/v1/query") {
        return wrong("; \"/api/v1/query\" is put behind it");
    }
    // An IPv6 address stands in brackets, and its own colons are no port.
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest),
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let is_address = host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6() == authority.starts_with('['));
    let host = match host_name(host) {
        _ if is_address => host.to_owned(),
        // `10.1` is an address to some, though not to us.
        Some(name) if !authority.starts_with('[') && !name.ends_with(|last: char| last.is_ascii_digit()) => name,
        _ => return wrong(""),
    };
    let port = match (port.strip_prefix(':').map(str::parse::<u16>), port) {
        (Some(Ok(port)), _) if port > 0 => port,
        (_, "") => {
            if secure {
                443
            } else {
                80
            }
        }
        _ => return wrong(" with a port from 1 to 65535"),
    };
    Some(Place { secure, host, port, prefix: prefix.to_owned() })
}

fn promql(value: &Value<'_>) -> Option<String> {
    let query = text(value, "a query in PromQL", MAX_QUERY_LEN)?;
    // Elsewhere a dollar ends a regular expression; a word behind it is a variable of somebody's.
    for (at, _) in query.match_indices('$') {
        let word: String = query[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let known = [ADDRESS, POOL].iter().any(|variable| variable[1..] == word);
        if !known && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            value.error(format!("found ${word}, expected {ADDRESS} or {POOL}: others are not known here"));
            return None;
        }
    }
    Some(query)
}
