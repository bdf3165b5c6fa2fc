//! `GET /v1/openapi.json`: the interface as OpenAPI 3.1, made from the handlers and types themselves, and checked in as `docs/openapi.json`.
//!
//! What all calls have in common (the token, errors, headers) is added here, so that no handler has to repeat it.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::Problem;
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
            let parameter = |name: &str, description: &str| json!({ "name": name, "in": "header", "required": false, "description": description, "schema": { "type": "string" } });
            let mut headers = Vec::new();
            if changes {
                headers.push(parameter("Meridian-Actor", "who acts; 1 to 100 visible ASCII characters"));
                headers.push(parameter("Idempotency-Key", "makes the request once, however often it is sent"));
            }
            if method == "patch" {
                headers.push(parameter("If-Match", "the ETag of what was read"));
            }
            match operation["parameters"].as_array_mut() {
                Some(parameters) => parameters.extend(headers),
                None if headers.is_empty() => {}
                None => operation["parameters"] = headers.into(),
            }
        }
    }
    document
}
