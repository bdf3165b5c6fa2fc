//! `GET /v1/openapi.json`: the interface as OpenAPI 3.1, made from the handlers and types themselves, and checked in as `docs/openapi.json`.
//!
//! What all calls have in common (the token, errors, headers) is added here, so that no handler has to repeat it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::idempotency::MAX_KEY_LEN;
use super::refusal::OUTCOMES;
use super::{MAX_ACTOR_LEN, Problem};
use crate::control::api::{MAX_REASON_CHARS, ZoneStatus};
use crate::control::audit::{self, ACTIONS};
use crate::control::monitors::MonitorResource;
use crate::control::resources::{EndpointResource, PolicyResource, PoolResource, RecordSet, RegionResource, SteeredResource};
use crate::control::status::EndpointHealth;
use crate::dns::RecordType;
use crate::policy::model::MonitorWord;

#[derive(OpenApi)]
#[openapi(
    paths(
        super::routes::status,
        super::routes::overlays,
        super::routes::lay_overlay,
        super::routes::overlay,
        super::routes::revert,
        super::routes::differences,
        super::routes::amend,
        super::routes::promote,
        super::routes::reload,
        super::routes::failback,
        super::routes::explain,
        super::access::list,
        super::access::create,
        super::access::revoke,
        super::access::read_audit,
        super::events::events,
        super::resources::zones,
        super::resources::zone,
        super::resources::record_list,
        super::resources::name_list,
        super::resources::policy_list,
        super::resources::pool_list,
        super::resources::endpoint_list,
        super::resources::region_list,
        super::resources::monitor_list,
        super::resources::record,
        super::resources::name,
        super::resources::policy,
        super::resources::pool,
        super::resources::endpoint,
        super::resources::region,
        super::resources::health_list,
        super::resources::health,
        super::resources::check_now,
        super::signals::report,
        super::patch::patch_record,
        super::patch::patch_name,
        super::patch::patch_pool,
        super::patch::patch_endpoint,
        super::patch::patch_region,
        super::patch::patch_child,
    ),
    components(schemas(Problem))
)]
struct Document;

/// The form of lists: items, and the cursor of the next page.
macro_rules! list {
    ($name:ident, $member:ident, $item:ty) => {
        #[derive(Serialize, utoipa::ToSchema)]
        #[allow(dead_code)]
        pub(super) struct $name {
            $member: Vec<$item>,
            /// Cursor of the next page; absent on the last.
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<String>,
        }
    };
}

list!(Zones, zones, ZoneStatus);
list!(Records, records, RecordSet);
list!(Names, names, SteeredResource);
list!(Policies, policies, PolicyResource);
list!(Pools, pools, PoolResource);
list!(Endpoints, endpoints, EndpointResource);
list!(Regions, regions, RegionResource);
list!(Monitors, monitors, MonitorResource);
list!(Healths, endpoints, EndpointHealth);

/// Whether a call may meet an error: method and path.
type IsMet = fn(&str, &str) -> bool;

/// Errors, and which calls may meet them. `tests/all/openapi.rs` meets each of them.
const ERRORS: [(&str, &str, IsMet); 12] = [
    ("400", "the request cannot be read, or has a query parameter or a condition that this call does not take", |_, _| true),
    ("401", "no token, or none that is good", |_, _| true),
    ("403", "the token does not allow this", |method, path| changes(method) || matches!(path, "/v1/tokens" | "/v1/explain")),
    ("404", "what the request names does not exist", |method, path| {
        path.contains('{') || names_things(path) || method == "post" && matches!(path, "/v1/overlays" | "/v1/failback")
    }),
    ("408", "the body took too long", |method, _| changes(method)),
    ("409", "a safety rule forbids it, or a request with the same Idempotency-Key is under way", |method, _| changes(method)),
    ("412", "it is not as it was read (If-Match)", takes_condition),
    ("413", "the body is too large", |method, _| changes(method)),
    ("415", "the body is not JSON in UTF-8, or is in a coding", |method, _| changes(method)),
    ("422", "the request contradicts the rules", |method, path| changes(method) || is_list(path) || matches!(path, "/v1/explain" | "/v1/events")),
    ("429", "too many requests", |_, _| true),
    (
        "503",
        "the state cannot be read or written, or its disk does not answer, the files are being read, or the server is stopping",
        |method, path| changes(method) || matches!(tag(path), "overlays" | "tokens" | "audit"),
    ),
];

fn changes(method: &str) -> bool {
    method != "get"
}

/// Takes `If-Match`.
fn takes_condition(method: &str, path: &str) -> bool {
    method == "patch" || (method, path) == ("delete", "/v1/overlays/{id}")
}

/// Its reply has an ETag, and it takes `If-None-Match`. The rest moves with every query, or has no end.
fn has_tag(method: &str, path: &str) -> bool {
    method == "get" && !matches!(path, "/v1/status" | "/v1/explain" | "/v1/events")
}

/// Takes names of zones, pools or regions as filters.
fn names_things(path: &str) -> bool {
    matches!(path, "/v1/policies" | "/v1/pools" | "/v1/endpoints" | "/v1/monitors" | "/v1/health")
}

/// Has pages.
fn is_list(path: &str) -> bool {
    !path.ends_with('}') && matches!(tag(path), "zones" | "policies" | "pools" | "endpoints" | "regions" | "monitors")
        || matches!(path, "/v1/overlays" | "/v1/audit" | "/v1/health")
}

/// The document.
pub fn document() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["openapi"] = "3.1.0".into();
    document["info"] = json!({
        "title": "Meridian", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        "description": "Moving traffic at run time. docs/admin.md tells what each call means.",
    });
    document["components"]["securitySchemes"] = json!({ "token": { "type": "http", "scheme": "bearer" } });
    document["security"] = json!([{ "token": [] }]);
    let replies: Value = serde_json::from_str(REPLIES).unwrap_or_default();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            for (status, description, _) in ERRORS.iter().filter(|(_, _, is_met)| is_met(method, path)) {
                let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
                operation["responses"][*status] = json!({ "description": description, "content": { "application/problem+json": problem } });
            }
            if path == "/v1/events" {
                operation["responses"]["200"]["content"] = json!({ "text/event-stream": { "schema": { "type": "string" } } });
            }
            operation["operationId"] = format!("{method}{}", path.replace("/v1", "").replace(['/', '{', '}'], "_")).into();
            operation["tags"] = json!([tag(path)]);
            let mut headers = Vec::new();
            if changes(method) {
                headers.push(header(
                    "Meridian-Actor",
                    "who acts; 1 to 100 characters, those beyond ASCII, and %, as the %XX of their UTF-8",
                    MAX_ACTOR_LEN,
                ));
                headers.push(header("Idempotency-Key", "makes the request once, however often it is sent; made anew for each (422)", MAX_KEY_LEN));
            }
            if takes_condition(method, path) {
                headers.push(tags("If-Match", "the ETag of what was read; a weak one (W/) matches nothing"));
            }
            if has_tag(method, path) {
                headers.push(tags("If-None-Match", "the ETag of what is there already"));
                operation["responses"]["304"] = json!({ "description": "it is as it was" });
                let tag = json!({ "description": "changes with what the reply says", "schema": { "type": "string" } });
                operation["responses"]["200"]["headers"] = json!({ "ETag": tag });
            }
            if method == "patch" {
                operation["requestBody"]["content"]["application/json"]["schema"] = patch_of(path);
            }
            if let Some((.., example)) = BODIES.iter().find(|(of, at, _)| *of == method && at == path)
                && let Ok(example) = serde_json::from_str::<Value>(example)
            {
                operation["requestBody"]["content"]["application/json"]["example"] = example;
            }
            if let Some(example) = replies.get(format!("{method} {path}")) {
                let media = if path == "/v1/events" { "text/event-stream" } else { "application/json" };
                let done = if operation["responses"].get("201").is_some() { "201" } else { "200" };
                operation["responses"][done]["content"][media]["example"] = example.clone();
            }
            // One call has two replies: that of a dry run is alike wherever there is one.
            if let ("post", "/v1/overlays", Some(example)) = (method.as_str(), path.as_str(), replies.get(DRY_RUN)) {
                operation["responses"]["200"]["content"]["application/json"]["example"] = example.clone();
            }
            // A body that may be left out is absent, not null.
            if let Some(schema) = operation.pointer_mut("/requestBody/content/application~1json/schema")
                && let Some(given) = schema["oneOf"].as_array().and_then(|any| any.iter().find(|one| one.get("$ref").is_some())).cloned()
                && schema["oneOf"].as_array().is_some_and(|any| any.iter().any(|one| one["type"] == "null"))
            {
                *schema = given;
            }
            if let Some(schema) = operation.pointer_mut("/responses/200/content/application~1json/schema")
                && schema["$ref"] == "#/components/schemas/AppliedBody"
            {
                // The second with `dry_run`.
                *schema = json!({ "anyOf": [{ "$ref": "#/components/schemas/AppliedBody" }, { "$ref": "#/components/schemas/Consequences" }] });
            }
            let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            parameters.iter_mut().for_each(|parameter| bound(path, parameter));
            parameters.extend(headers);
            operation["parameters"] = parameters.into();
        }
    }
    for (schema, property, bounds) in BOUNDS {
        let Ok(Value::Object(bounds)) = serde_json::from_str(bounds) else { continue };
        if let Some(property) = document["components"]["schemas"][schema]["properties"][property].as_object_mut() {
            property.extend(bounds);
        }
    }
    settings(&mut document["components"]["schemas"]);
    document
}

/// What an overlay sets has one member; its ranges.
fn settings(schemas: &mut Value) {
    let bounds = [
        ("weight", json!({ "type": "integer", "minimum": 0, "maximum": 65535 })),
        ("ttl", json!({ "type": "integer", "minimum": 1, "maximum": i32::MAX })),
        ("disabled", json!({ "type": "boolean", "const": true })),
    ];
    for one in schemas["Setting"]["oneOf"].as_array_mut().into_iter().flatten() {
        one["additionalProperties"] = false.into();
        for (member, bounds) in &bounds {
            if let Some(found) = one["properties"].get_mut(*member) {
                *found = bounds.clone();
            }
        }
    }
    // Unix seconds, or a duration.
    schemas["When"]["oneOf"] = json!([{ "type": "integer", "minimum": 0, "maximum": MAX_PLACE }, { "type": "string", "pattern": PLAIN_DURATION }]);
    // Unix seconds are taken as well, of the coming year: no document can say which those are.
    let starts = json!([{ "type": "null" }, { "type": "string", "pattern": "^([1-9][0-9]{0,2}[smh]|[1-9][0-9]?d)$" }]);
    schemas["Patch"]["properties"]["starts"] = json!({ "description": "When it begins: a duration from now, or Unix seconds.", "oneOf": starts });
    schemas["NewToken"]["properties"]["zones"]["items"] = json!({ "type": "string", "pattern": ZONE });
    // Whoever breaks the glass says why.
    let why = json!({ "required": ["reason"], "properties": { "reason": { "type": "string", "pattern": "[!-~]" } } });
    schemas["ReloadBody"]["anyOf"] = json!([{ "properties": { "break_glass": { "const": false } } }, why]);
    // One zone, or all of them or none.
    schemas["ReloadBody"]["not"] = json!({ "required": ["zone", "all"], "properties": { "zone": { "type": "string" }, "all": { "const": true } } });
    // Something must be reported.
    let one_of = |member: &str| json!({ "required": [member], "properties": { member: { "not": { "type": "null" } } } });
    schemas["Report"]["anyOf"] = ["state", "successes", "failures", "latency_ms", "load"].map(one_of).to_vec().into();
    // Something must be asked for.
    let said = |member: &str| json!({ "required": [member], "properties": { member: { "type": "string" } } });
    schemas["Amend"]["anyOf"] = json!([said("expires"), said("reason")]);
}

/// Largest number of a place in a list.
const MAX_PLACE: i64 = i64::MAX;
const PLAIN_DURATION: &str = "^[1-9][0-9]{0,2}[smhd]$";
/// A name of a zone, not the root.
const ZONE: &str = "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63}){0,2}\\.?$";

/// A body for each call that has one: method, path, JSON.
const BODIES: [(&str, &str, &str); 13] = [
    ("post", "/v1/signals", r#"{"reports": [{"target": "example.com/fra", "successes": 970, "failures": 30, "load": 812, "capacity": 1000}]}"#),
    ("post", "/v1/overlays", r#"{"target": "example.com/fra", "set": {"state": "drain"}, "reason": "new switch", "expires": "2h"}"#),
    ("patch", "/v1/overlays/{id}", r#"{"expires": "4h", "reason": "takes longer"}"#),
    ("post", "/v1/overlays/{id}/promote", r#"{"dry_run": true}"#),
    ("post", "/v1/reload", r#"{"zone": "example.com"}"#),
    ("post", "/v1/failback", r#"{"name": "example.com/app"}"#),
    ("post", "/v1/tokens", r#"{"name": "deploy", "role": "operate", "zones": ["example.com"], "expires": "30d"}"#),
    ("patch", "/v1/zones/{zone}/records/{name}/{type}", r#"{"ttl": 60, "reason": "moves tomorrow"}"#),
    ("patch", "/v1/zones/{zone}/names/{name}", r#"{"ttl": 20, "reason": "moves tomorrow"}"#),
    ("patch", "/v1/policies/{zone}/{policy}/children/{child}", r#"{"weight": 5, "reason": "canary"}"#),
    ("patch", "/v1/pools/{zone}/{pool}", r#"{"state": "up", "reason": "checked by hand"}"#),
    ("patch", "/v1/endpoints/{zone}/{pool}/{endpoint}", r#"{"weight": 9, "reason": "warming up", "expires": "2h"}"#),
    ("patch", "/v1/regions/{region}", r#"{"state": "drain", "reason": "power work", "dry_run": true}"#),
];

/// A reply of each call: method and path, and what comes of the body above.
const REPLIES: &str = include_str!("replies.json");

/// The call among them whose body asks for a dry run.
const DRY_RUN: &str = "patch /v1/regions/{region}";

/// What stands in paths, in examples: the name of a part, and a value.
const PARTS: [(&str, &str); 8] = [
    ("zone", "example.com"),
    ("pool", "fra"),
    ("endpoint", "192.0.2.10"),
    ("region", "eu"),
    ("policy", "split"),
    ("child", "fra"),
    ("name", "app"),
    ("type", "A"),
];

/// Octets of a list of ETags: far more than anybody has read of one thing.
pub(super) const MAX_TAG_LEN: usize = 2000;

/// What the types do not say of members: JSON to be added to them.
const BOUNDS: [(&str, &str, &str); 29] = [
    ("ReportsBody", "reports", r#"{"minItems": 1, "maxItems": 500}"#),
    ("Report", "target", r#"{"minLength": 1, "maxLength": 1200}"#),
    ("Report", "successes", COUNT),
    ("Report", "failures", COUNT),
    ("Report", "latency_ms", r#"{"minimum": 0, "maximum": 600000}"#),
    ("Report", "load", r#"{"minimum": 0, "maximum": 1000000000000}"#),
    ("Report", "capacity", r#"{"exclusiveMinimum": 0, "maximum": 1000000000000}"#),
    ("NewOverlay", "reason", REASON),
    ("NewOverlay", "expires", DURATION_OR_NEVER),
    ("NewOverlay", "over", DURATION),
    ("NewOverlay", "from", r#"{"maximum": 65535}"#),
    ("Patch", "reason", REASON),
    ("Patch", "expires", DURATION_OR_NEVER),
    ("Patch", "over", r#"{"pattern": "^([1-9][0-9]{0,2}[sm]|[1-9][0-9]?h|[12]?[1-9]d|[123]0d)$"}"#),
    ("Patch", "from", r#"{"maximum": 65535}"#),
    ("Patch", "weight", r#"{"maximum": 65535}"#),
    ("Patch", "ttl", r#"{"minimum": 1, "maximum": 2147483647}"#),
    ("Amend", "reason", REASON),
    ("Amend", "expires", DURATION_OR_NEVER),
    ("NewToken", "name", r#"{"minLength": 1, "maxLength": 100, "pattern": "^[!-~]([ -~]*[!-~])?$"}"#),
    ("NewToken", "expires", DURATION_OR_NEVER),
    ("NewToken", "zones", r#"{"minItems": 1, "maxItems": 100}"#),
    ("NewToken", "reason", MAY_REASON),
    ("FailbackBody", "name", r#"{"minLength": 1, "maxLength": 1200}"#),
    ("FailbackBody", "reason", MAY_REASON),
    ("ReloadBody", "reason", MAY_REASON),
    ("Promote", "reason", MAY_REASON),
    ("NewOverlay", "target", r#"{"minLength": 1, "maxLength": 1200}"#),
    ("ReloadBody", "zone", r#"{"minLength": 1, "maxLength": 1200}"#),
];
const COUNT: &str = r#"{"minimum": 0, "maximum": 1000000000}"#;
const REASON: &str = r#"{"minLength": 1, "maxLength": 500, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*[!-~][^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"}"#;
const MAY_REASON: &str =
    r#"{"maxLength": 500, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"}"#;
/// The same: no character that controls how the text around it is shown (`control::text`).
const MAY_PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$";
/// What `control::text::rfc3339` takes, or a part of that.
const TIME: &str = "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-2]):[0-5][0-9])";
const DURATION: &str = r#"{"pattern": "^[1-9][0-9]{0,2}[smhd]$"}"#;
/// Up to ten years: several units in a row, largest first, or much of one.
const DURATION_OR_NEVER: &str = r#"{"pattern": "^(never|[1-9][0-9]{0,2}[dhms]|[1-9][0-9]{0,2}d[1-9][0-9]?h|[1-9][0-9]?h[1-9][0-9]?m([1-9][0-9]?s)?|[1-9][0-9]?m[1-9][0-9]?s|[1-9][0-9]{3,7}s|[1-9][0-9]{3,5}m|[1-9][0-9]{3}h|([12][0-9]{3}|3[0-5][0-9]{2}|36[0-5][0-9]|3660)d)$"}"#;

/// Groups the calls by what they are about.
fn tag(path: &str) -> &str {
    path.trim_start_matches("/v1/").split('/').next().unwrap_or_default()
}

fn header(name: &str, description: &str, max_len: usize) -> Value {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": max_len, "pattern": "^[!-~]([ -~]*[!-~])?$" });
    json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema })
}

/// A header of entity tags (RFC 9110 §8.8.3), or `*`.
fn tags(name: &str, description: &str) -> Value {
    let mut header = header(name, &format!("{description}; at most {MAX_TAG_LEN} octets"), MAX_TAG_LEN);
    header["schema"] = json!({ "type": "string" });
    header["schema"]["pattern"] = "^(\\*|(W/)?\"[!#-~]*\"(, (W/)?\"[!#-~]*\")*)?$".into();
    header
}

/// The words that a filter can be: call, parameter, words.
const WORDS: [(&str, &str, &[&str]); 11] = [
    ("/v1/zones", "state", &["serving", "kept", "failed"]),
    ("/v1/policies", "kind", &["failover", "weighted", "least-loaded", "least-response-time", "geo", "proximity", "latency", "multivalue"]),
    ("/v1/pools", "health", &["healthy", "degraded", "critical"]),
    ("/v1/endpoints", "state", &["unknown", "up", "degraded", "suspect", "down", "ramp"]),
    ("/v1/health", "state", &["unknown", "up", "degraded", "suspect", "down", "ramp"]),
    ("/v1/endpoints", "forced", &["up", "drain", "down"]),
    ("/v1/monitors", "kind", &MonitorWord::WORDS),
    ("/v1/audit", "kind", &["change", "refused", "health"]),
    ("/v1/audit", "outcome", &OUTCOMES),
    ("/v1/audit", "order", &["newest", "oldest"]),
    ("/v1/events", "kind", &["change", "refused", "health"]),
];

/// Adds the range of a parameter that several calls take.
fn bound(path: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    if parameter["in"] == "path" {
        if let Some((_, example)) = PARTS.iter().find(|(part, _)| *part == name) {
            // A steered name has no records.
            let example = if name == "name" && path.contains("/records/") { "ns1" } else { example };
            parameter["example"] = example.into();
        }
        return;
    }
    if let Some((.., words)) = WORDS.iter().find(|(of, parameter, _)| *of == path && *parameter == name) {
        parameter["schema"] = json!({ "type": "string", "enum": words });
        return;
    }
    let bounds = match Some(&*name) {
        Some("cursor" | "after") if parameter["schema"]["format"] == "int64" => json!({ "type": "integer", "minimum": 0, "maximum": MAX_PLACE }),
        Some("over") => json!({ "type": "string", "pattern": PLAIN_DURATION }),
        Some("action") if path == "/v1/audit" => actions(),
        Some("reason") => json!({ "type": "string", "maxLength": MAX_REASON_CHARS, "pattern": MAY_PLAIN }),
        // A subset of neither can be said in a pattern: labels have limits, prefixes no bits behind their length.
        Some("name") if path == "/v1/explain" => json!({ "type": "string", "minLength": 1, "maxLength": 1004, "pattern": "^[ -~]+$" }),
        Some("client") if path == "/v1/explain" => json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" }),
        Some("limit") => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        Some("since" | "until") => json!({ "type": "string", "pattern": format!("^([0-9]{{1,12}}|[1-9][0-9]{{0,2}}[smhd]|{TIME})$") }),
        Some("usable" | "stale" | "break_glass" | "dry_run") => json!({ "type": "boolean" }),
        Some("type") => json!({ "type": "string", "pattern": record_types() }),
        _ => return,
    };
    parameter["schema"] = bounds;
}

/// What [`audit::may_be_action`] takes.
fn actions() -> Value {
    let words: BTreeSet<&str> = ACTIONS.into_iter().chain(audit::families()).collect();
    json!({ "anyOf": [{ "type": "string", "enum": words }, { "type": "string", "pattern": "^[A-Z]+ /" }] })
}

/// Every record type as it is written: mnemonics in any case, `TYPE0` to `TYPE65535` (RFC 3597 §5).
fn record_types() -> String {
    let letters = |letter: char| if letter.is_ascii_alphabetic() { format!("[{letter}{}]", letter.to_ascii_lowercase()) } else { letter.into() };
    let any_case = |word: &str| word.chars().map(letters).collect::<String>();
    let named: Vec<String> = RecordType::NAMED.iter().map(|(_, word)| any_case(word)).collect();
    let number = "(0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))";
    format!("^({}{number}|{})$", any_case("TYPE"), named.join("|"))
}

/// The body of a `PATCH` with exactly one of the members that this path takes.
fn patch_of(path: &str) -> Value {
    const NEITHER: &[&str] = &[];
    let takes: &[&str] = match tag(path) {
        "endpoints" => &["weight", "state"],
        "policies" => &["weight"],
        "pools" | "regions" => &["state"],
        "zones" => &["ttl"],
        _ => NEITHER,
    };
    if takes.is_empty() {
        return json!({ "$ref": "#/components/schemas/Amend" });
    }
    let others = ["weight", "ttl", "state"].into_iter();
    let none = |member: &str| json!({ "properties": { member: { "type": "null" } } });
    let one = |wanted: &str| {
        // A member that is null is absent.
        let absent =
            |member: &str| (member.to_owned(), if member == wanted { json!({ "not": { "type": "null" } }) } else { json!({ "type": "null" }) });
        let steps = match wanted {
            "weight" => json!({ "anyOf": [none("from"), { "required": ["over"], "properties": { "over": { "type": "string" } } }] }),
            "state" => json!({ "allOf": [none("from")], "anyOf": [none("over"), { "properties": { "state": { "const": "drain" } } }] }),
            _ => json!({ "allOf": [none("from"), none("over")] }),
        };
        json!({ "required": [wanted], "properties": others.clone().map(absent).collect::<serde_json::Map<_, _>>(), "allOf": [steps] })
    };
    json!({ "allOf": [{ "$ref": "#/components/schemas/Patch" }], "oneOf": takes.iter().map(|wanted| one(wanted)).collect::<Vec<_>>() })
}
