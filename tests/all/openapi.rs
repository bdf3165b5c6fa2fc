//! The OpenAPI document: what is served is what is checked in, and every call that it lists is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian::admin::{Explainer, Limits, Server, Token};
use meridian::control::Who;
use meridian::control::api::Refusal;
use meridian::control::handle::channel;
use meridian::telemetry::Registry;
use meridian::world::Published;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian};
use crate::rest::Rest;
use crate::stand_in::{TOKEN, http_client};

#[test]
fn the_document_that_is_served_is_the_one_in_docs() {
    let server = Meridian::start(&[("zones/example.com.zone", "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n")]);
    let rest = Rest::new(&server);
    let served = rest.get("/v1/openapi.json");
    assert_eq!(served, meridian::admin::document());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = format!("{served:#}\n");
    if std::env::var_os("MERIDIAN_WRITE_OPENAPI").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/openapi.json is not what is served: run this test with MERIDIAN_WRITE_OPENAPI=1 and look at the difference");
    assert_eq!(served["openapi"], "3.1.0");
    let mut ids = std::collections::HashSet::new();
    let paths = served["paths"].as_object().expect("paths");
    assert!(paths.len() >= 25, "{}", paths.len());
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            // Whatever stands in for the parts of the path: it is no path that nobody knows, and no method that it does not take.
            let concrete: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect();
            let method: Method = method.to_uppercase().parse().expect("a method");
            if path == "/v1/events" {
                continue;
            }
            let (status, body) = rest.call(method.clone(), &concrete.join("/"), None);
            assert!(status != 405 && body["type"] != "urn:meridian:no-such-path", "{method} {path}: {status} {body}");
            assert!(operation["responses"].get(status.to_string()).is_some(), "{method} {path}: {status} is not in the document");
        }
    }
    every_reference_leads_somewhere(&served, &served);
}

/// Bodies and replies, each with an example that is what its schema says.
#[test]
fn every_call_shows_what_it_takes_and_gives() {
    let document = meridian::admin::document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let body = operation.get("requestBody").map(|body| ("the body", body));
            let replies = operation["responses"].as_object().expect("responses").iter();
            let replies = replies.filter(|(status, _)| status.starts_with('2')).map(|(status, reply)| (&**status, reply));
            for (what, shown) in body.into_iter().chain(replies) {
                for (media, content) in shown["content"].as_object().unwrap_or_else(|| panic!("{method} {path}: {what}: nothing")) {
                    let (schema, example) = (&content["schema"], content.get("example"));
                    assert!(schema.as_object().is_some_and(|schema| !schema.is_empty()), "{method} {path}: {what} as {media}: no schema");
                    let example = example.unwrap_or_else(|| panic!("{method} {path}: {what} as {media}: no example"));
                    if let Err(why) = conforms(example, schema, &document) {
                        panic!("{method} {path}: {what} as {media}: {why}");
                    }
                }
            }
        }
    }
    let overlay = json!({ "$ref": "#/components/schemas/NewOverlay" });
    for (good, body) in [
        (true, json!({ "target": "example.com/fra", "set": { "state": "drain" }, "reason": "r" })),
        (false, json!({ "set": { "state": "drain" }, "reason": "r" })),
        (false, json!({ "target": "example.com/fra", "set": { "state": "sideways" }, "reason": "r" })),
        (false, json!({ "target": 7, "set": { "state": "drain" }, "reason": "r" })),
        (false, json!({ "target": "example.com/fra", "set": { "state": "drain" }, "reason": "r", "colour": "red" })),
    ] {
        assert_eq!(conforms(&body, &overlay, &document).is_ok(), good, "{body}");
    }
}

/// Whether a value is what a schema says, by those of its words that our types lead to. Members that it does not know are mistakes.
fn conforms(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    matches(value, schema, document)?;
    let unknown = |name: &&String| property(name, schema, document).is_none() && !is_open(schema, document);
    match value.as_object().and_then(|members| members.keys().find(unknown)) {
        Some(name) => Err(format!("found the member {name:?}, which nothing tells of")),
        None => Ok(()),
    }
}

/// The same of a schema that may be a part of another, which knows more members.
fn matches(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    let all = |member: &str| schema[member].as_array().into_iter().flatten();
    if let Some(reference) = schema["$ref"].as_str() {
        return matches(value, document.pointer(reference.trim_start_matches('#')).expect("it leads somewhere"), document);
    }
    all("allOf").try_for_each(|part| matches(value, part, document))?;
    for some in ["oneOf", "anyOf"] {
        let tried: Vec<_> = all(some).map(|one| matches(value, one, document)).collect();
        if !tried.is_empty() && !tried.iter().any(Result::is_ok) {
            return Err(format!("{value} is none of these: {tried:?}"));
        }
    }
    let types: Vec<&str> = schema["type"].as_str().into_iter().chain(all("type").filter_map(Value::as_str)).collect();
    let is_of = |kind: &str| match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    };
    if !types.is_empty() && !types.into_iter().any(is_of) {
        return Err(format!("found {value}, expected {}", schema["type"]));
    }
    if all("enum").next().is_some() && !all("enum").any(|one| one == value) {
        return Err(format!("found {value}, expected one of {}", schema["enum"]));
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema.get("items").is_some()) {
        conforms(item, &schema["items"], document)?;
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    if let Some(missing) = all("required").filter_map(Value::as_str).find(|name| !members.contains_key(*name)) {
        return Err(format!("without {missing:?}: {value}"));
    }
    for (name, member) in members {
        if let Some(known) = property(name, schema, document) {
            conforms(member, known, document).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(())
}

/// What a schema, or what it is put together from, says of a member.
fn property<'d>(name: &str, schema: &'d Value, document: &'d Value) -> Option<&'d Value> {
    let referred = schema["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#')));
    let parts = ["allOf", "oneOf", "anyOf"].into_iter().flat_map(|some| schema[some].as_array().into_iter().flatten());
    schema["properties"].get(name).or_else(|| referred.into_iter().chain(parts).find_map(|part| property(name, part, document)))
}

/// It says nothing of its members, or one of those that it may be does not.
fn is_open(schema: &Value, document: &Value) -> bool {
    let referred = schema["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#')));
    let parts = ["oneOf", "anyOf"].into_iter().flat_map(|some| schema[some].as_array().into_iter().flatten());
    referred.into_iter().chain(parts).any(|part| is_open(part, document))
        || ["properties", "allOf", "oneOf", "anyOf", "$ref"].into_iter().all(|word| schema.get(word).is_none())
}

fn every_reference_leads_somewhere(value: &Value, document: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            members.values().for_each(|value| every_reference_leads_somewhere(value, document));
        }
        Value::Array(items) => items.iter().for_each(|value| every_reference_leads_somewhere(value, document)),
        _ => {}
    }
}

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region]\neu = {}\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [{ address = \"192.0.2.10\", monitor = \"port\" }, \"192.0.2.11\"]\n[monitor.port]\ntcp = true\nport = 9\ntimeout = \"100ms\"\n[pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 3, iad = 1 }\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"split\", \"fra\"]\nfailback = \"manual\"\n";

/// Which server a request goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// One that serves [`ZONE`].
    Served,
    /// The same with one request a second.
    Limited,
    /// The same with a state file that cannot be used.
    Stateless,
    /// An interface whose single writer has stopped.
    Stopped,
    /// An interface whose single writer says nothing.
    Silent,
}

/// What is done to the example that the document has of a call.
#[derive(Clone, Copy, Debug)]
enum With {
    /// Another query.
    Query(&'static str),
    /// Another token: `""` for none.
    Token(&'static str),
    /// A header.
    Header(&'static str, &'static str),
    /// In place of every part of the path.
    Parts(&'static str),
    /// Another body.
    Body(&'static str),
    /// A body that is no JSON, of a call that needs none.
    Text(&'static str),
    /// A body of so many octets, which is read even of calls that take none.
    Long(usize),
    /// A body that does not come.
    Never,
    /// The same key as a request before it, which was another.
    KeyAgain,
    /// The same request with the same key, once more while it is under way.
    Twice,
    /// Again and again.
    Often,
    /// Nothing.
    Same,
}

/// How each documented error is met: status, what of the document it is tried on (`METHOD path`, or the method alone), where, and with what. The first that fits.
const MET: &[(u16, &str, At, With)] = &[
    (304, "", At::Served, With::Header("If-None-Match", "*")),
    (400, "", At::Served, With::Query("colour=red")),
    (401, "", At::Served, With::Token("")),
    (403, "GET /v1/explain", At::Served, With::Token("confined")),
    (403, "", At::Served, With::Token("reader")),
    (404, "POST /v1/overlays", At::Served, With::Body(r#"{"target": "example.com/nothing", "set": {"state": "up"}, "reason": "r"}"#)),
    (404, "POST /v1/failback", At::Served, With::Body(r#"{"name": "example.com/nothing"}"#)),
    (404, "GET /v1/policies", At::Served, With::Query("zone=nowhere.example")),
    (404, "GET /v1/pools", At::Served, With::Query("zone=nowhere.example")),
    (404, "GET /v1/endpoints", At::Served, With::Query("zone=nowhere.example")),
    (404, "GET /v1/monitors", At::Served, With::Query("zone=nowhere.example")),
    (404, "GET /v1/health", At::Served, With::Query("zone=nowhere.example")),
    (404, "", At::Served, With::Parts("999999")),
    (408, "", At::Silent, With::Never),
    (409, "", At::Silent, With::Twice),
    (412, "", At::Served, With::Header("If-Match", "\"0\"")),
    (413, "", At::Served, With::Long(65 * 1024)),
    (415, "DELETE ", At::Served, With::Text("}{")),
    (415, "POST /v1/health/{zone}/{pool}/{endpoint}/check", At::Served, With::Text("}{")),
    (415, "", At::Served, With::Header("Content-Type", "text/plain")),
    (422, "GET /v1/explain", At::Served, With::Query("name=a..b")),
    (422, "GET /v1/events", At::Served, With::Query("kind=bogus")),
    (422, "GET ", At::Served, With::Query("limit=0")),
    (422, "", At::Served, With::KeyAgain),
    (429, "", At::Limited, With::Often),
    (503, "GET /v1/audit", At::Stateless, With::Same),
    (503, "", At::Stopped, With::Same),
];

/// Exactly that call, all of a method, or all.
fn is_of(what: &str, of: &str) -> bool {
    what == of || of.is_empty() || of.ends_with(' ') && what.starts_with(of)
}

struct Nobody;

impl Explainer for Nobody {
    fn explain(&self, _: &str, _: &str, _: &str, _: &Who) -> Result<Value, Refusal> {
        Ok(json!({ "text": "" }))
    }
}

/// One call of the document, by its examples.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    path: String,
    query: String,
    body: Option<Value>,
}

impl Call {
    fn of(method: &str, path: &str, operation: &Value, overlay: &str, token: &str) -> Call {
        let mut concrete = path.to_owned();
        for part in operation["parameters"].as_array().into_iter().flatten().filter(|part| part["in"] == "path") {
            let name = part["name"].as_str().expect("a name");
            let id = if path.contains("/tokens/") { token } else { overlay };
            concrete = concrete.replace(&format!("{{{name}}}"), part["example"].as_str().unwrap_or(id));
        }
        let query = if path == "/v1/explain" { "name=app.example.com" } else { "" };
        let body = operation.pointer("/requestBody/content/application~1json/example").cloned();
        Call { method: method.to_uppercase().parse().expect("a method"), path: concrete, query: query.into(), body }
    }
}

struct Servers {
    served: Meridian,
    limited: Meridian,
    stateless: Meridian,
    stopped: String,
    silent: String,
    reader: String,
    confined: String,
    keys: std::cell::Cell<u32>,
}

impl Servers {
    fn base(&self, at: At) -> (String, String) {
        let real = |server: &Meridian| (format!("http://{}", server.admin), server.token());
        match at {
            At::Served => real(&self.served),
            At::Limited => real(&self.limited),
            At::Stateless => real(&self.stateless),
            At::Stopped => (self.stopped.clone(), TOKEN.into()),
            At::Silent => (self.silent.clone(), TOKEN.into()),
        }
    }

    /// Makes the request; the status of the reply.
    async fn meet(&self, call: &Call, path: &str, at: At, with: With) -> u16 {
        let (base, mut token) = self.base(at);
        let mut call = call.clone();
        let key = format!("key {}", self.keys.replace(self.keys.get() + 1));
        let mut headers: Vec<(&str, &str)> = Vec::new();
        match with {
            With::Query(query) => call.query = query.into(),
            With::Token(which) => {
                token = if which == "confined" {
                    self.confined.clone()
                } else if which == "reader" {
                    self.reader.clone()
                } else {
                    String::new()
                }
            }
            With::Header(name, value) => headers.push((name, value)),
            With::Parts(value) => {
                let part = |part: &str| if part.starts_with('{') { value.to_owned() } else { part.to_owned() };
                call.path = path.split('/').map(part).collect::<Vec<_>>().join("/");
            }
            With::Body(body) => call.body = serde_json::from_str(body).ok(),
            With::KeyAgain | With::Twice | With::Long(_) | With::Never => headers.push(("Idempotency-Key", &key)),
            With::Text(_) => headers.push(("Content-Type", "text/plain")),
            With::Often | With::Same => {}
        }
        let request = |query: &str| {
            let mut request = http_client().request(call.method.clone(), format!("{base}{}?{query}", call.path).trim_end_matches('?'));
            if !token.is_empty() {
                request = request.bearer_auth(&token);
            }
            if let Some(body) = &call.body {
                request = request.header("Content-Type", "application/json").body(body.to_string());
            }
            for (name, value) in &headers {
                // In place of what the body brought along.
                request = request.headers([(name.parse().expect("a name"), value.parse().expect("a value"))].into_iter().collect());
            }
            request
        };
        let status = async |request: reqwest::RequestBuilder| request.send().await.expect("a reply").status().as_u16();
        match with {
            With::Text(text) => status(request(&call.query).body(text)).await,
            With::Long(octets) => status(request(&call.query).body(" ".repeat(octets))).await,
            With::Never => {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let addr = base.trim_start_matches("http://");
                let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
                let head = format!(
                    "{} {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
                    call.method, call.path
                );
                stream.write_all(head.as_bytes()).await.expect("sent");
                let mut line = [0; 12];
                stream.read_exact(&mut line).await.expect("a status line");
                String::from_utf8_lossy(&line[9..]).parse().expect("a status")
            }
            With::KeyAgain => {
                let first = status(request("")).await;
                assert_ne!(first, 422, "{call:?}");
                match &mut call.body {
                    Some(body) => body["reason"] = "another".into(),
                    // It takes neither, but what differs is told before.
                    None if call.path.ends_with("/check") => call.body = Some(json!({})),
                    None => call.query = "reason=another".into(),
                }
                let again = http_client().request(call.method.clone(), format!("{base}{}?{}", call.path, call.query).trim_end_matches('?'));
                let again = again.bearer_auth(&token).header("Idempotency-Key", &key).header("Content-Type", "application/json");
                status(again.body(call.body.as_ref().map(Value::to_string).unwrap_or_default())).await
            }
            With::Twice => {
                // Neither is answered but for being the second; which of the two that is, the server says.
                let (one, other) = (status(request(&call.query)), status(request(&call.query)));
                let first = async {
                    tokio::select! { found = one => found, found = other => found }
                };
                tokio::time::timeout(Duration::from_secs(30), first).await.unwrap_or(0)
            }
            With::Often => {
                let mut found = 0;
                for _ in 0..20 {
                    found = status(request(&call.query)).await;
                    if found == 429 {
                        break;
                    }
                }
                found
            }
            _ => status(request(&call.query)).await,
        }
    }
}

/// An interface over a writer that has stopped, or over one that says nothing.
async fn interface(is_silent: bool) -> String {
    let limits = Limits { body: Duration::from_millis(300), requests_per_second: 0, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound").with_limits(limits);
    let base = format!("http://{}", server.addr());
    // What there is to change is looked up before the writer is asked.
    let (handle, ends) = channel(Arc::new(Published::new(crate::asked::world(&[("example.com.toml", ZONE)]))));
    if is_silent {
        std::mem::forget(ends);
    }
    tokio::spawn(server.serve(handle, Arc::new(Nobody), Registry::new(), Token::given(TOKEN), std::future::pending()));
    base
}

#[test]
fn every_documented_error_is_met_and_every_example_is_good() {
    let unlimited = format!("{CONFIG}requests_per_second = 0\n");
    let served = Meridian::start(&[("meridian.toml", &unlimited), ("zones/example.com.toml", ZONE)]);
    let limited = Meridian::start(&[("meridian.toml", &format!("{CONFIG}requests_per_second = 1\n")), ("zones/example.com.toml", ZONE)]);
    // In place of the state's file there is a folder.
    let stateless = Meridian::start(&[("meridian.toml", &unlimited), ("zones/example.com.toml", ZONE), ("state/meridian.db/in-the-way", "")]);
    let rest = Rest::new(&served);
    let token = |name: &str, role: &str, zones: Value| {
        let made = rest.post("/v1/tokens", json!({ "name": name, "role": role, "zones": zones }));
        (made["id"].as_str().expect("an id").to_owned(), made["token"].as_str().expect("a token").to_owned())
    };
    let (reader, confined) = (token("reader", "read", Value::Null).1, token("confined", "read", json!(["example.net"])).1);
    let document = rest.get("/v1/openapi.json");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (stopped, silent) = runtime.block_on(async { (interface(false).await, interface(true).await) });
    let world = Servers { served, limited, stateless, stopped, silent, reader, confined, keys: Default::default() };
    let mut used = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let fresh = || {
                // One that lies over another is not promoted.
                for old in rest.get("/v1/overlays")["overlays"].as_array().expect("overlays") {
                    rest.call(Method::DELETE, &format!("/v1/overlays/{}", old["id"]), None);
                }
                let overlay = rest.lay("example.com/fra/192.0.2.11", json!({ "weight": 2 })).to_string();
                Call::of(method, path, operation, &overlay, &token("spare", "read", Value::Null).0)
            };
            let what = format!("{} {path}", method.to_uppercase());
            for (status, _) in operation["responses"].as_object().expect("responses") {
                let status: u16 = status.parse().expect("a number");
                if status < 300 {
                    if path != "/v1/events" {
                        let mut call = fresh();
                        if (&*what, status) == ("POST /v1/overlays", 200) {
                            call.body.as_mut().expect("a body")["dry_run"] = json!(true);
                        }
                        let found = runtime.block_on(world.meet(&call, path, At::Served, With::Same));
                        assert_eq!(found, status, "{what}: the example");
                    }
                    continue;
                }
                let at = MET.iter().position(|(met, of, ..)| *met == status && is_of(&what, of)).unwrap_or_else(|| panic!("{what}: {status}"));
                used.insert(at);
                let (_, _, at, with) = MET[at];
                assert_eq!(runtime.block_on(world.meet(&fresh(), path, at, with)), status, "{what}: {at:?} {with:?}");
            }
        }
    }
    assert_eq!(used.len(), MET.len(), "each way is needed");
}
