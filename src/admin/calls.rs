//! What the document of the interface says of a request before it is routed: whether its path takes the method, with which query parameters and
//! what they can be, and whether it knows conditions.

use std::sync::LazyLock;

use axum::extract::{Query, Request};
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Problem, asked, openapi};
use crate::control::things::Tags;

/// One path of the document.
struct Place {
    /// Its parts, `{…}` for any.
    parts: Vec<String>,
    /// Its methods.
    methods: Vec<(String, Call)>,
}

/// One call of the document.
struct Call {
    parameters: Vec<Parameter>,
    /// It takes `If-Match`.
    is_conditional: bool,
    /// Its reply has an `ETag`: it takes `If-None-Match`.
    has_tag: bool,
}

/// One query parameter.
struct Parameter {
    name: String,
    can_be: CanBe,
}

/// What a parameter can be.
enum CanBe {
    /// One of these words.
    Word(Vec<String>),
    /// A number in this range.
    Number(u64, u64),
    /// Whatever the call makes of it.
    Text,
}

impl CanBe {
    fn of(schema: &Value) -> CanBe {
        let words = schema["enum"].as_array().map(|words| words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect());
        let is = |wanted: &str| schema["type"] == wanted || schema["type"].as_array().is_some_and(|types| types.iter().any(|found| found == wanted));
        match words {
            Some(words) => CanBe::Word(words),
            None if is("boolean") => CanBe::Word(vec!["true".into(), "false".into()]),
            None if is("integer") => {
                CanBe::Number(schema["minimum"].as_u64().unwrap_or(0), schema["maximum"].as_u64().unwrap_or(i64::MAX.unsigned_abs()))
            }
            None => CanBe::Text,
        }
    }

    /// What is wrong with a value.
    fn fault(&self, value: &str) -> Option<String> {
        match self {
            CanBe::Word(words) if !words.iter().any(|word| word == value) => {
                let (last, rest) = words.split_last()?;
                let words = if rest.is_empty() { last.clone() } else { format!("{} or {last}", rest.join(", ")) };
                Some(format!("found {value:?}, expected {words}"))
            }
            CanBe::Number(min, max) if !value.parse().is_ok_and(|number: u64| (*min..=*max).contains(&number)) => {
                Some(format!("found {value:?}, expected a number from {min} to {max}"))
            }
            _ => None,
        }
    }
}

static PLACES: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let document = openapi::document();
    let call = |operation: &Value| {
        let of = |place: &'static str| operation["parameters"].as_array().into_iter().flatten().filter(move |one| one["in"] == place);
        let parameter = |one: &Value| Some(Parameter { name: one["name"].as_str()?.to_owned(), can_be: CanBe::of(&one["schema"]) });
        let has = |name: &str| of("header").any(|header| header["name"] == name);
        Call { parameters: of("query").filter_map(parameter).collect(), is_conditional: has("If-Match"), has_tag: has("If-None-Match") }
    };
    let methods = |item: &Value| item.as_object().into_iter().flatten().map(|(method, of)| (method.to_uppercase(), call(of))).collect();
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.map(|(path, item)| Place { parts: path.split('/').map(str::to_owned).collect(), methods: methods(item) }).collect()
});

/// What the document says of a call; `None` where the path does not take the method, or is none.
fn call(method: &Method, path: &str) -> Option<&'static Call> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_any = |part: &&String| part.starts_with('{');
    let fits = |wanted: &[String]| wanted.len() == parts.len() && wanted.iter().zip(&parts).all(|(wanted, part)| is_any(&wanted) || wanted == part);
    // What is spelled out comes first, as when requests are routed.
    let place = PLACES.iter().filter(|place| fits(&place.parts)).min_by_key(|place| place.parts.iter().filter(is_any).count())?;
    // Whoever can get it can ask for its head.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    place.methods.iter().find(|(taken, _)| taken == method).map(|(_, call)| call)
}

/// Whether the path takes the method.
pub(super) fn is_taken(method: &Method, path: &str) -> bool {
    call(method, path).is_some()
}

/// Refuses query parameters that nobody would look at, values that they cannot have, and conditions that nobody would check: a typing error must not
/// change what a request does. Answers 304 to whoever has already what would be the reply.
pub(super) async fn as_documented(request: Request, next: Next) -> Response {
    let checked = match call(request.method(), request.uri().path()) {
        // What the document does not list has nothing to check, and perhaps a tag.
        None => Ok(asked::tags(request.headers(), &IF_NONE_MATCH, "If-None-Match").unwrap_or_default()),
        Some(call) => query_fault(call, request.uri()).map_or_else(|| known_already(call, request.headers()), Err),
    };
    match checked {
        Err(problem) => problem.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(known)) => {
            let response = next.run(request).await;
            match response.headers().get(ETAG).cloned() {
                Some(tag) if response.status() == StatusCode::OK && tag.to_str().is_ok_and(|tag| known.name_weakly(tag)) => {
                    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
                }
                _ => response,
            }
        }
    }
}

fn query_fault(call: &Call, uri: &Uri) -> Option<Problem> {
    uri.query()?;
    let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else { return None };
    for (at, (name, value)) in given.iter().enumerate() {
        let Some(parameter) = call.parameters.iter().find(|parameter| parameter.name == *name) else {
            let known: Vec<&str> = call.parameters.iter().map(|parameter| &*parameter.name).collect();
            let expected = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Some(Problem::bad_request("bad-query", format!("found the parameter {name:?}, expected {expected}")).field(&**name));
        };
        if given[..at].iter().any(|(other, _)| other == name) {
            return Some(Problem::bad_request("bad-query", format!("found the parameter {name:?} twice, expected it once")).field(&**name));
        }
        if let Some(detail) = parameter.can_be.fault(value) {
            return Some(Problem::invalid(name, detail));
        }
    }
    None
}

/// What whoever asks has already. Conditions that a call has nothing for are refused: who sends one relies on it.
fn known_already(call: &Call, headers: &HeaderMap) -> Result<Option<Tags>, Problem> {
    let refuse = |header: &str, why: &str| Err(Problem::bad_request("bad-header", format!("{header}: {why}")).field(header));
    if headers.contains_key(IF_MATCH) && !call.is_conditional {
        return refuse("If-Match", "this call has nothing to compare it with; what can be changed takes it where it is changed (PATCH, DELETE)");
    }
    if headers.contains_key(IF_NONE_MATCH) && !call.has_tag {
        return refuse("If-None-Match", "this call has no ETag to compare it with; expected only where something with an ETag is read (GET)");
    }
    asked::tags(headers, &IF_NONE_MATCH, "If-None-Match")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_takes_is_what_the_document_says() {
        for (method, path, taken) in [
            (Method::POST, "/v1/overlays", true),
            (Method::DELETE, "/v1/overlays", false),
            (Method::DELETE, "/v1/overlays/7", true),
            (Method::DELETE, "/v1/overlays/diff", false),
            (Method::POST, "/v1/overlays/7/promote", true),
            (Method::PATCH, "/v1/endpoints/example.com/fra/192.0.2.10", true),
            (Method::PATCH, "/v1/policies/example.com/split/children/fra", true),
            (Method::POST, "/v1/status", false),
            (Method::POST, "/v1/nothing", false),
            (Method::POST, "", false),
        ] {
            assert_eq!(is_taken(&method, path), taken, "{method} {path}");
        }
    }

    #[test]
    fn parameters_that_nobody_looks_at_are_refused() {
        for (method, uri, unknown_one) in [
            (Method::GET, "/v1/status", None),
            (Method::GET, "/v1/status?", None),
            (Method::GET, "/v1/status?x=1", Some("x")),
            (Method::HEAD, "/v1/zones?limit=1&colour=red", Some("colour")),
            (Method::GET, "/v1/zones?limit=1&limit=2", Some("limit")),
            (Method::GET, "/v1/zones?limit=0", Some("limit")),
            (Method::GET, "/v1/zones?limit=x", Some("limit")),
            (Method::GET, "/v1/zones?state=sideways", Some("state")),
            (Method::GET, "/v1/zones?state=kept", None),
            (Method::GET, "/v1/endpoints?usable=perhaps", Some("usable")),
            (Method::GET, "/v1/endpoints?forced=sideways", Some("forced")),
            (Method::GET, "/v1/endpoints?usable=true&forced=drain&state=ramp", None),
            (Method::GET, "/v1/overlays?cursor=-1", Some("cursor")),
            (Method::GET, "/v1/audit?kind=changes", Some("kind")),
            (Method::GET, "/v1/zones?limit=1&name=a", None),
            (Method::POST, "/v1/overlays?dry_run=true", Some("dry_run")),
            (Method::DELETE, "/v1/overlays/7?dry_run=true&reason=a%20b", None),
            (Method::DELETE, "/v1/overlays/7?dry-run=true", Some("dry-run")),
            (Method::POST, "/v1/reload?", None),
            // Somebody else says what is wrong.
            (Method::POST, "/v1/status?x=1", None),
            (Method::GET, "/metrics?x=1", None),
        ] {
            let uri: Uri = uri.parse().expect("a path");
            let fault = call(&method, uri.path()).and_then(|call| query_fault(call, &uri));
            assert_eq!(fault.and_then(|problem| problem.field).as_deref(), unknown_one, "{method} {uri}");
        }
    }

    #[test]
    fn conditions_are_known_or_refused() {
        for (method, path, header, is_good) in [
            (Method::POST, "/v1/overlays", "If-Match", false),
            (Method::POST, "/v1/reload", "If-None-Match", false),
            (Method::PATCH, "/v1/overlays/7", "If-Match", true),
            (Method::PATCH, "/v1/pools/a/b", "If-None-Match", false),
            (Method::DELETE, "/v1/tokens/ab", "If-Match", false),
            (Method::GET, "/v1/pools", "If-None-Match", true),
            (Method::HEAD, "/v1/overlays/7", "If-None-Match", true),
            (Method::GET, "/v1/overlays/7", "If-Match", false),
            (Method::GET, "/v1/status", "If-None-Match", false),
        ] {
            let headers = [(header.parse().expect("a name"), "\"a\"".parse().expect("a value"))].into_iter().collect();
            let call = call(&method, path).expect(path);
            assert_eq!(known_already(call, &headers).is_ok(), is_good, "{method} {path} {header}");
        }
    }
}
