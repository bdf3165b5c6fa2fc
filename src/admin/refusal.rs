//! Errors as problem details (RFC 9457): what was wrong, in which field, and what would have been near.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::control::api::{Broken, Refusal};

/// What became of a request, as the audit log says it: `done`, `failed` (a load that could not take all), or what the type of a problem ends in.
pub(super) const OUTCOMES: [&str; 26] = [
    "done",
    "bad-body",
    "bad-header",
    "bad-json",
    "bad-path",
    "bad-query",
    "busy",
    "failed",
    "forbidden",
    "in-progress",
    "internal",
    "invalid",
    "media-type",
    "method-not-allowed",
    "no-such-path",
    "not-found",
    "precondition-failed",
    "refused",
    "safety",
    "stalled",
    "stopping",
    "store",
    "too-large",
    "too-many",
    "too-slow",
    "unauthorised",
];

/// Seconds until it is worth another try where a disk took nothing: it does not become writable by itself.
const STORE_AGAIN: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// A problem as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:meridian:` and a word for programs: `not-found`, `invalid`, `bad-json`, …
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// The same for people, one for all problems of this type.
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// This one: what was found, what was expected.
    pub detail: String,
    /// The field of the request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub field: Option<Box<str>>,
    /// Names near the one that was not found.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub near: Box<[String]>,
    /// The safety rules that forbid it, each with its numbers.
    #[serde(default, skip_serializing_if = "<[Broken]>::is_empty")]
    #[schema(value_type = Vec<Broken>)]
    pub rules: Box<[Broken]>,
    /// Seconds after which it is worth another try; also in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub retry_after: Option<NonZeroU32>,
    /// What the header `ETag` says: the tag that `If-Match` should have named.
    #[serde(skip)]
    pub tag: Option<Box<String>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Problem {
        debug_assert!(OUTCOMES.contains(&kind), "{kind}");
        Problem {
            kind: format!("urn:meridian:{kind}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            near: Box::default(),
            rules: Box::default(),
            retry_after: None,
            tag: None,
        }
    }

    pub(super) fn field(mut self, field: impl Into<Box<str>>) -> Problem {
        self.field = Some(field.into());
        self
    }

    pub(super) fn unauthorised(detail: &str) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", "the request carries no valid token", detail)
    }

    pub(super) fn too_many(wait: Duration) -> Problem {
        let seconds = NonZeroU32::MIN.saturating_add(wait.as_secs() as u32);
        let detail = format!("expected no more than admin.requests_per_second; try again in {seconds} s");
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "too many requests", detail) }
    }

    pub(super) fn too_many_streams(most: &str, wait: Duration) -> Problem {
        let seconds = NonZeroU32::MIN.saturating_add(wait.as_secs() as u32);
        let detail = format!("expected no more streams of events at once than {most}; end one, or try again in {seconds} s");
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "too many requests", detail) }
    }

    pub(super) fn too_many_reports(wait: Duration) -> Problem {
        let seconds = NonZeroU32::MIN.saturating_add(wait.as_secs() as u32);
        let detail = format!("too many reports from all callers together; nothing of this call was taken: try again in {seconds} s");
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "too many requests", detail) }
    }

    pub(super) fn invalid(field: &str, detail: String) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail).field(field)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "the token does not allow this", detail)
    }

    pub(super) fn in_progress() -> Problem {
        let detail = "a request with this Idempotency-Key is under way: ask again when it is done";
        Problem::new(StatusCode::CONFLICT, "in-progress", "the same request is being made", detail)
    }

    pub(super) fn precondition(detail: impl Into<String>) -> Problem {
        let detail = format!("{}; nothing was changed: read it again", detail.into());
        Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "it is not as it was when it was read", detail)
    }

    pub(super) fn no_such_path(path: &str) -> Problem {
        let detail = format!("found {path:?}, expected a path that docs/admin.md lists");
        Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path", detail)
    }

    pub(super) fn method_not_allowed(method: &str, path: &str) -> Problem {
        let detail = format!("{path}: found {method:?}, expected one of the methods in the Allow header");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this path does not take this method", detail)
    }

    pub(super) fn too_large(limit: usize) -> Problem {
        let detail = format!("expected a body of at most {limit} octets");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request body is too large", detail)
    }

    pub(super) fn too_slow(detail: &str) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the request took too long to arrive", detail)
    }

    pub(super) fn media_type(header: &'static str, found: Option<&HeaderValue>, expected: &str) -> Problem {
        let found = found.map_or("none".to_owned(), |value| format!("{value:?}"));
        let detail = format!("{header}: found {found}, expected {expected}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "the request body is not JSON", detail).field(header)
    }

    pub(super) fn bad_request(kind: &str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, kind, "the request cannot be read", detail)
    }

    pub(super) fn internal(detail: &str) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server met a fault of its own", detail)
    }

    /// There is no such thing; names like it.
    pub fn not_found(what: &str, near: Vec<String>) -> Problem {
        let suggestion = if near.is_empty() { String::new() } else { format!("; did you mean {}", near.join(" or ")) };
        let detail = format!("found no {what}{suggestion}");
        Problem { near: near.into(), ..Problem::new(StatusCode::NOT_FOUND, "not-found", "what the request names does not exist", detail) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::NotFound { what, near } => Problem::not_found(&what, near),
            Refusal::Invalid { field, detail } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request contradicts the rules", detail).field(field)
            }
            Refusal::Store { detail } => {
                let detail = format!("{detail}; nothing was changed");
                Problem {
                    retry_after: Some(STORE_AGAIN),
                    ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", "the change could not be kept, so it was not made", detail)
                }
            }
            Refusal::Busy { detail } => Problem {
                retry_after: Some(NonZeroU32::MIN),
                ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "what it needs is being used", format!("{detail}; nothing was changed"))
            },
            Refusal::Stalled { detail } => {
                let detail = format!(
                    "{detail}: it is not known whether what was asked for is kept, and a change may still be made when it does: look (meridian audit) before it \
                     is asked for again"
                );
                Problem {
                    retry_after: Some(STORE_AGAIN),
                    ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stalled", "the disk of the state does not answer", detail)
                }
            }
            Refusal::Unread { detail } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", "what is kept cannot be read", detail),
            Refusal::Changed { detail, tag } => Problem { tag: tag.map(Box::new), ..Problem::precondition(detail) },
            Refusal::Forbidden { detail } => Problem::forbidden(detail),
            Refusal::Safety { broken } => {
                let detail = broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let title = "a safety rule forbids the change";
                Problem { rules: broken.into(), ..Problem::new(StatusCode::CONFLICT, "safety", title, format!("{detail}; nothing was changed")) }
            }
            Refusal::Stopping => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping", "nothing was changed"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"meridian\""));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        if let Some(tag) = self.tag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            response.headers_mut().insert(ETAG, tag);
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE && self.field.as_deref() == Some(super::body::CODING) {
            // What would be taken (RFC 9110 §12.5.3).
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        // The guard tells the audit log.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_soon_says_when() {
        let detail = || "d".to_owned();
        for (refusal, status, kind, seconds) in [
            (Refusal::Busy { detail: detail() }, 503, "urn:meridian:busy", Some("1")),
            (Refusal::Store { detail: detail() }, 503, "urn:meridian:store", Some("10")),
            (Refusal::Stalled { detail: detail() }, 503, "urn:meridian:stalled", Some("10")),
            (Refusal::Invalid { field: "id".into(), detail: detail() }, 422, "urn:meridian:invalid", None),
            (Refusal::Safety { broken: Vec::new() }, 409, "urn:meridian:safety", None),
        ] {
            let problem = Problem::from(refusal);
            assert_eq!((problem.status, &*problem.kind), (status, kind));
            let response = problem.into_response();
            assert_eq!(response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()), seconds, "{kind}");
        }
    }
}
