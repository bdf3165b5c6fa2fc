//! The OpenAPI document: what is served is what is checked in, and every call that it lists is there.

use reqwest::Method;
use serde_json::Value;

use crate::meridian::Meridian;
use crate::rest::Rest;

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
