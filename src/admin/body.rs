//! The body of a request: read within limit and deadline, and as JSON. What cannot be read says what was found, what was expected, where, and in
//! which member.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::places::Place;
use super::{MAX_BODY_LEN, Problem, Shared, asked};
use crate::config::duration_words;
use crate::control::{Role, Who};

/// For the body of a request that is refused whatever it says.
const PATIENCE_FOR_NOTHING: Duration = Duration::from_secs(1);
/// The header that tells of a coding.
pub(super) const CODING: &str = "Content-Encoding";
/// Characters of a value that a problem repeats.
const MAX_SHOWN: usize = 60;

/// The body as JSON; an empty one as the default.
pub(super) async fn json_or_empty<T: DeserializeOwned + Default>(shared: &Shared, request: Request) -> Result<T, Problem> {
    let (headers, bytes) = body(shared, request).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(&headers, &bytes) }
}

/// Members in the body of a request that has them in its query otherwise; `None` without a body.
pub(super) async fn json_if_any<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<Option<T>, Problem> {
    let (headers, bytes) = body(shared, request).await?;
    if bytes.is_empty() { Ok(None) } else { parse(&headers, &bytes).map(Some) }
}

/// Of two places for the same members, query and body, the one that is used: of both nobody knows which is meant.
pub(super) fn query_or_body<T: Default + PartialEq>(query: T, body: Option<T>) -> Result<T, Problem> {
    match body {
        None => Ok(query),
        Some(body) if query == T::default() => Ok(body),
        Some(_) => Err(Problem::bad_request("bad-body", "found members in the query and in the body, expected them in one of the two")),
    }
}

/// The body of a call that takes no members.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The body as JSON.
pub(super) async fn json<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, Problem> {
    let (headers, bytes) = body(shared, request).await?;
    parse(&headers, &bytes)
}

/// Reads the body within limit and deadline.
pub(super) async fn body(shared: &Shared, request: Request) -> Result<(HeaderMap, Bytes), Problem> {
    let headers = request.headers().clone();
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > MAX_BODY_LEN) {
        return Err(Problem::too_large(MAX_BODY_LEN));
    }
    // Whoever may not do it in any case is not waited for long: what they try to do stands in the audit log if it comes at once.
    let refusal = request.extensions().get::<Who>().and_then(|who| who.needs(Role::Operate).err());
    let patience = if refusal.is_none() { shared.limits.body } else { shared.limits.body.min(PATIENCE_FOR_NOTHING) };
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let reading = place.as_ref().map(Place::reading);
    let read = tokio::time::timeout(patience, Bytes::from_request(request, &())).await;
    drop(reading);
    if place.is_some_and(|place| !place.is_there()) {
        // The connection is about to be closed: nothing begins there.
        return std::future::pending().await;
    }
    match read {
        Ok(Ok(bytes)) => Ok((headers, bytes)),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::too_large(MAX_BODY_LEN)),
        Ok(Err(rejection)) => Err(Problem::bad_request("bad-body", rejection.body_text())),
        Err(_) => {
            let too_slow = || Problem::too_slow(&format!("expected the whole body within {}", duration_words(shared.limits.body)));
            Err(refusal.map_or_else(too_slow, Problem::from))
        }
    }
}

/// JSON is UTF-8 (RFC 8259 §8.1): whoever announces something else means another text than the one that would be read.
fn is_json(content_type: &HeaderValue) -> bool {
    let mut parts = content_type.to_str().unwrap_or_default().split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let charset = |part: &str| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    };
    is_json && parts.filter_map(charset).all(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

/// JSON that does not parse is a bad request, with the place; JSON of the wrong shape is unprocessable, with the field.
fn parse<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    let content_type = asked::one(headers, &CONTENT_TYPE, "Content-Type")?;
    if !content_type.is_some_and(is_json) {
        return Err(Problem::media_type("Content-Type", content_type, "application/json"));
    }
    // RFC 9110 §15.5.16: of another coding as of another type.
    let coding = headers.get_all(CONTENT_ENCODING).iter().find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coding.is_some() {
        return Err(Problem::media_type(CODING, coding, "none"));
    }
    // Serde would also take a list of the fields in order, which nobody means.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| shape(&error, "."))?;
        return Err(misshapen("found JSON that is no object, expected an object".into(), None));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut deserializer);
    if read.is_err()
        && let Some(Ok(value)) = with_integers(bytes).map(serde_json::from_value)
    {
        return Ok(value);
    }
    let value: T = read.map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Where the text is JSON, what serde calls a fault of syntax is a value that cannot be the choice that is expected there.
        match serde_json::from_slice::<Value>(bytes) {
            Ok(whole) if error.is_syntax() => no_choice(&whole, &path, &error),
            _ => shape(&error, &path),
        }
    })?;
    deserializer.end().map_err(|error| shape(&error, "."))?;
    Ok(value)
}

/// The same JSON with `5.0` as `5`, if there is such a number: to JSON Schema (2020-12 §6.1.1) that is an integer. Where it stands is lost.
fn with_integers(bytes: &[u8]) -> Option<Value> {
    fn mend(value: &mut Value) -> bool {
        match value {
            Value::Number(number) if number.is_f64() => {
                // Beyond this not every integer has a number of its own.
                let whole = number.as_f64().filter(|number| number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(number));
                whole.is_some_and(|whole| {
                    *value = (whole as u64).into();
                    true
                })
            }
            Value::Array(items) => items.iter_mut().fold(false, |any, item| mend(item) | any),
            Value::Object(members) => members.values_mut().fold(false, |any, item| mend(item) | any),
            _ => false,
        }
    }
    let mut value = serde_json::from_slice(bytes).ok()?;
    mend(&mut value).then_some(value)
}

/// What an overlay sets is an object with one member; any other choice is a word.
fn no_choice(whole: &Value, path: &str, error: &serde_json::Error) -> Problem {
    let field = path.split('.').next().unwrap_or_default();
    let (field, expected) = match field {
        "set" if path == "set" || whole["set"].as_object().is_some_and(|set| set.len() != 1) => {
            ("set", "an object with exactly one member: weight, ttl, state or disabled")
        }
        _ => (path, "a word"),
    };
    let found = field.split('.').try_fold(whole, |value, name| value.get(name)).map_or_else(|| "something else".into(), ToString::to_string);
    let cut: String = found.chars().take(MAX_SHOWN).collect();
    let found = if cut.len() < found.len() { format!("{cut}…") } else { cut };
    misshapen(format!("found {found}, expected {expected} (line {} column {})", error.line(), error.column()), Some(field))
}

fn shape(error: &serde_json::Error, path: &str) -> Problem {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let place = format!(" (line {} column {})", error.line(), error.column());
    if !error.is_data() {
        return Problem::bad_request("bad-json", format!("{text}{place}"));
    }
    let inside = |member: &str| if path == "." { member.to_owned() } else { format!("{path}.{member}") };
    let quoted = text.split('`').nth(1);
    let field = match quoted {
        Some(member) if text.starts_with("missing field") || text.starts_with("duplicate field") => Some(inside(member)),
        _ => (path != ".").then(|| path.to_owned()),
    };
    misshapen(words(text) + &place, field.as_deref())
}

fn misshapen(detail: String, field: Option<&str>) -> Problem {
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail);
    match field {
        Some(field) => problem.field(field),
        None => problem,
    }
}

/// What serde says, in the words of this interface.
fn words(text: &str) -> String {
    let text = &*text.replace(", there are no fields", ", expected none");
    let (found, expected) = text.split_once(", expected ").map_or((text, None), |(found, expected)| (found, Some(expected)));
    let member = |rest: &str| rest.trim_matches('`').to_owned();
    let found = match found.split_once(' ').unwrap_or((found, "")) {
        ("invalid", rest) => format!("found {}", rest.split_once(": ").map_or(rest, |(_, found)| found).replace('`', "")),
        ("missing", rest) => format!("found no {}, which must be there", member(rest.trim_start_matches("field "))),
        ("duplicate", rest) => format!("found {} twice, expected it once", member(rest.trim_start_matches("field "))),
        ("unknown", rest) => match rest.split_once(' ') {
            Some(("field", name)) => format!("found the member {}", member(name)),
            Some((_, word)) => format!("found {}", member(word)),
            None => found.into(),
        },
        _ => found.to_owned(),
    };
    let expected = expected.map(|expected| match expected {
        "u8" => "an integer from 0 to 255".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        // TTLs alone are of this type (RFC 2181 §8).
        "u32" => "an integer from 1 to 2147483647".to_owned(),
        "u64" | "usize" => "an integer, 0 or more".to_owned(),
        "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.replace('`', ""),
    });
    found + &expected.map_or_else(String::new, |expected| format!(", expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{NewOverlay, ReloadBody};
    use crate::control::tokens::NewToken;

    fn problem<T: DeserializeOwned>(text: &str) -> (u16, String, String) {
        let headers = [(CONTENT_TYPE, "application/json".parse().expect("a type"))].into_iter().collect();
        let problem = parse::<T>(&headers, text.as_bytes()).err().unwrap_or_else(|| panic!("{text} is taken"));
        (problem.status, problem.field.map(String::from).unwrap_or_default(), problem.detail)
    }

    #[test]
    fn what_is_wrong_with_a_body_says_what_was_found_where_and_what_was_expected() {
        let overlay = |more: &str| format!(r#"{{"target": "a/b", "reason": "r"{more}}}"#);
        for (text, status, field, detail) in [
            ("{", 400, "", "EOF while parsing an object (line 1 column 1)"),
            ("[]", 422, "", "found JSON that is no object, expected an object"),
            (&*overlay(""), 422, "set", "found no set, which must be there"),
            (&overlay(r#", "set": 5"#), 422, "set", "found 5, expected an object with exactly one member: weight, ttl, state or disabled"),
            (&overlay(r#", "set": {}"#), 422, "set", "found {}, expected an object with exactly one member"),
            (&overlay(r#", "set": {"weight": 1, "ttl": 2}"#), 422, "set", "expected an object with exactly one member"),
            (&overlay(r#", "set": {"weight": -1}"#), 422, "set.weight", "found integer -1, expected an integer from 0 to 65535"),
            (&overlay(r#", "set": {"state": 5}"#), 422, "set.state", "found 5, expected a word"),
            (&overlay(r#", "set": {"state": "off"}"#), 422, "set.state", "found off, expected one of up, drain, down"),
            (&overlay(r#", "set": {"weight": 1}, "starts": -5"#), 422, "starts", "found integer -5, expected unix seconds, or a duration"),
            (&overlay(r#", "set": {"weight": 1}, "starts": true"#), 422, "starts", "found boolean true, expected unix seconds, or a duration"),
            (&overlay(r#", "set": {"weight": 1}, "expires": 5"#), 422, "expires", "found integer 5, expected a string"),
            (&overlay(r#", "set": {"weight": 1}, "colour": 5"#), 422, "colour", "found the member colour, expected one of target"),
            (&overlay(r#", "set": {"weight": 1}, "reason": "s""#), 422, "reason", "found reason twice, expected it once"),
        ] {
            let found = problem::<NewOverlay>(text);
            assert_eq!((found.0, &*found.1), (status, field), "{text}: {found:?}");
            assert!(found.2.replace('`', "").starts_with(detail) || found.2.contains(detail), "{text}: {found:?}");
            assert!(!found.2.contains("enum") && !found.2.contains("struct"), "{text}: {found:?}");
        }
        assert_eq!(problem::<NewToken>(r#"{"name": "a", "role": 7}"#).1, "role");
        for (member, found) in [(r#""load": "5""#, "found string \"5\""), (r#""latency_ms": true"#, "found boolean true")] {
            let (status, field, detail) = problem::<crate::control::api::Report>(&format!(r#"{{"target": "a/b", {member}}}"#));
            assert!(status == 422 && detail.starts_with(&format!("{found}, expected a number (")), "{field}: {detail}");
        }
        assert_eq!(
            problem::<ReloadBody>(r#"{"all": "yes"}"#),
            (422, "all".into(), r#"found string "yes", expected a boolean (line 1 column 13)"#.into())
        );
    }
}
