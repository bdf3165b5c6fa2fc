//! `GET /v1/openapi.json`: the interface as OpenAPI 3.1, made from the handlers and types themselves, and checked in as `docs/openapi.json`.
//!
//! What all calls have in common (the token, errors, headers) is added here, so that no handler has to repeat it.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::idempotency::MAX_KEY_LEN;
use super::{MAX_ACTOR_LEN, Problem};
use crate::control::api::ZoneStatus;
use crate::control::resources::{EndpointResource, MonitorResource, PolicyResource, PoolResource, RecordSet, RegionResource, SteeredResource};

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
        super::resources::health,
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

/// Errors that any call may meet.
const OF_ALL: [(&str, &str); 8] = [
    ("400", "the request cannot be read"),
    ("401", "no token, or none that is good"),
    ("403", "the token does not allow this"),
    ("404", "what the request names does not exist"),
    ("405", "this path does not take this method"),
    ("422", "the request contradicts the rules"),
    ("429", "too many requests"),
    ("503", "the state cannot be read or written, or the server is stopping"),
];
/// Further ones of calls that change something.
const OF_CHANGES: [(&str, &str); 5] = [
    ("408", "the body took too long"),
    ("409", "a safety rule forbids it, or the same request is under way"),
    ("412", "it is not as it was read"),
    ("413", "the body is too large"),
    ("415", "the body is not JSON"),
];

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
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let changes = method != "get";
            let further = OF_CHANGES.iter().filter(|_| changes);
            for (status, description) in OF_ALL.iter().chain(further) {
                let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
                operation["responses"][*status] = json!({ "description": description, "content": { "application/problem+json": problem } });
            }
            if path == "/v1/events" {
                operation["responses"]["200"]["content"] = json!({ "text/event-stream": { "schema": { "type": "string" } } });
            }
            operation["operationId"] = format!("{method}{}", path.replace("/v1", "").replace(['/', '{', '}'], "_")).into();
            operation["tags"] = json!([tag(path)]);
            let mut headers = Vec::new();
            if changes {
                headers.push(header("Meridian-Actor", "who acts; 1 to 100 visible ASCII characters", MAX_ACTOR_LEN));
                headers.push(header("Idempotency-Key", "makes the request once, however often it is sent", MAX_KEY_LEN));
            }
            if method == "patch" {
                headers.push(header("If-Match", "the ETag of what was read", MAX_TAG_LEN));
                operation["requestBody"]["content"]["application/json"]["schema"] = patch_of(path);
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
                let dry_run =
                    json!({ "type": "object", "description": "With dry_run: what would happen.", "required": ["withdrawn", "names", "pools"] });
                *schema = json!({ "anyOf": [{ "$ref": "#/components/schemas/AppliedBody" }, dry_run] });
            }
            let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            parameters.iter_mut().for_each(bound);
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
    document
}

/// Longest ETag that anything has.
const MAX_TAG_LEN: usize = 200;

/// What the types do not say of members: JSON to be added to them.
const BOUNDS: [(&str, &str, &str); 15] = [
    ("NewOverlay", "reason", REASON),
    ("NewOverlay", "expires", DURATION_OR_NEVER),
    ("NewOverlay", "over", DURATION),
    ("NewOverlay", "from", r#"{"maximum": 65535}"#),
    ("Patch", "reason", REASON),
    ("Patch", "expires", DURATION_OR_NEVER),
    ("Patch", "weight", r#"{"maximum": 65535}"#),
    ("Patch", "ttl", r#"{"minimum": 1, "maximum": 2147483647}"#),
    ("Amend", "reason", REASON),
    ("Amend", "expires", DURATION_OR_NEVER),
    ("NewToken", "name", r#"{"minLength": 1, "maxLength": 100, "pattern": "^[!-~]([ -~]*[!-~])?$"}"#),
    ("NewToken", "expires", DURATION_OR_NEVER),
    ("NewToken", "zones", r#"{"minItems": 1, "maxItems": 100}"#),
    ("FailbackBody", "name", r#"{"minLength": 1}"#),
    ("ReloadBody", "zone", r#"{"minLength": 1}"#),
];
const REASON: &str = r#"{"minLength": 1, "maxLength": 500, "pattern": "\\S"}"#;
const DURATION: &str = r#"{"pattern": "^[1-9][0-9]{0,2}[smhd]$"}"#;
const DURATION_OR_NEVER: &str = r#"{"pattern": "^(never|[1-9][0-9]{0,2}[smhd])$"}"#;

/// Groups the calls by what they are about.
fn tag(path: &str) -> &str {
    path.trim_start_matches("/v1/").split('/').next().unwrap_or_default()
}

fn header(name: &str, description: &str, max_len: usize) -> Value {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": max_len, "pattern": "^[!-~]([ -~]*[!-~])?$" });
    json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema })
}

/// Adds the range of a parameter that several calls take.
fn bound(parameter: &mut Value) {
    let bounds = match parameter["name"].as_str() {
        Some("limit") => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        Some("since" | "until") => json!({ "type": "string", "pattern": "^([0-9]{1,12}|[1-9][0-9]{0,2}[smhd])$" }),
        Some("name") if parameter["required"] == true && parameter["in"] == "query" => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63}){0,3}\\.?$" })
        }
        Some("order") => json!({ "type": "string", "enum": ["newest", "oldest"] }),
        _ => return,
    };
    parameter["schema"] = bounds;
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
    let one = |wanted: &str| {
        let not: Vec<Value> = others.clone().filter(|other| *other != wanted).map(|other| json!({ "required": [other] })).collect();
        json!({ "required": [wanted], "not": { "anyOf": not } })
    };
    json!({ "allOf": [{ "$ref": "#/components/schemas/Patch" }], "oneOf": takes.iter().map(|wanted| one(wanted)).collect::<Vec<_>>() })
}
