//! A reply as a JSON object, a line of its own.

use std::net::IpAddr;

use serde::Serialize;

use super::entry::Entry;
use super::message;
use crate::dns::Class;

/// What a line says. A member without a value is left out.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Unix seconds, of the batch.
    time: f64,
    client: IpAddr,
    port: u16,
    server: String,
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    rtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    rcode: String,
    truncated: bool,
    /// Octets of both messages.
    query_size: usize,
    size: usize,
    #[serde(flatten)]
    extra: Extra<'a>,
}

/// What no message says, and so dnstap's `extra` has to.
#[derive(Debug, Serialize)]
pub(super) struct Extra<'a> {
    /// Client subnet of the query, `addr/len`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ecs: Option<String>,
    /// For which prefix length the answer holds; without a subnet in the reply there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    generation: u64,
    sample: u32,
}

impl<'a> Extra<'a> {
    /// Of an entry whose zone and pool have these names; addresses are cut to `prefix`.
    pub(super) fn new(entry: &Entry, zone: Option<&'a str>, pool: Option<&'a str>, prefix: Option<(u8, u8)>) -> Extra<'a> {
        let ecs = message::subnet(&entry.query).map(|subnet| {
            let (v4, v6) = prefix.unwrap_or((32, 128));
            let most = if subnet.addr.is_ipv4() { v4 } else { v6 };
            format!("{}/{}", message::cut(subnet.addr, (v4, v6)), subnet.source_len.min(most))
        });
        let scope = message::subnet(&entry.reply).map(|subnet| subnet.scope);
        Extra { ecs, scope, zone, pool, generation: entry.facts.generation, sample: entry.facts.sample }
    }
}

/// Appends a line.
pub(super) fn write(entry: &Entry, client: IpAddr, extra: Extra<'_>, out: &mut Vec<u8>) {
    let (facts, question) = (&entry.facts, message::question(&entry.query));
    let line = Line {
        time: (facts.time_ns / 1000) as f64 / 1e6,
        client,
        port: facts.client.port(),
        server: facts.server.to_string(),
        transport: facts.transport.name(),
        name: question.as_ref().map(|(name, _, _)| name.to_string()),
        rtype: question.as_ref().map(|(_, rtype, _)| rtype.to_string()),
        class: question.map(|(_, _, class)| class_word(class)),
        rcode: facts.rcode.to_string(),
        truncated: facts.truncated,
        query_size: entry.query.len(),
        size: entry.reply.len(),
        extra,
    };
    // Writing to memory cannot fail, and neither can these types.
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
}

/// `CLASS5` for one without a name (RFC 3597 §5).
fn class_word(class: Class) -> String {
    match class {
        Class::IN => "IN".into(),
        Class::CH => "CH".into(),
        Class::NONE => "NONE".into(),
        Class::ANY => "ANY".into(),
        Class(other) => format!("CLASS{other}"),
    }
}
