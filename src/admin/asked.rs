//! What a request says in its path, query and headers; whatever of it cannot be read becomes a problem that names it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::guard::Attempt;
use super::openapi::MAX_TAG_LEN;
use super::{Problem, Shared};
use crate::control::Who;
use crate::control::things::Tags;

/// Who asks, as the guard has found out, and what for.
pub(super) struct By {
    pub(super) shared: Arc<Shared>,
    pub(super) who: Who,
    /// Where what is tried is told, for the audit log.
    pub(super) attempt: Attempt,
}

impl FromRequestParts<Arc<Shared>> for By {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, shared: &Arc<Shared>) -> Result<By, Problem> {
        let who = head.extensions.get::<Who>().cloned().ok_or_else(|| Problem::internal("the request was not looked at"))?;
        Ok(By { shared: shared.clone(), who, attempt: head.extensions.get::<Attempt>().cloned().unwrap_or_default() })
    }
}

/// The parts of the path that stand for something.
pub(super) struct Parts<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Parts<T> {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Parts<T>, Problem> {
        let found = Path::<T>::from_request_parts(head, state).await;
        // All of them are texts: nothing else can be wrong.
        let detail = || format!("found {:?}, expected a path whose escapes (%XX) are UTF-8", head.uri.path());
        found.map(|Path(parts)| Parts(parts)).map_err(|_| Problem::bad_request("bad-path", detail()))
    }
}

/// The query. That it has only parameters that the call takes, each with a value that it can have, was looked at before
/// ([`as_documented`](super::calls::as_documented)).
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, _: &S) -> Result<Asked<T>, Problem> {
        read_query(&head.uri).map(Asked)
    }
}

fn read_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let query = uri.query().unwrap_or_default();
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err(Problem::bad_request("bad-query", format!("found {query:?}, expected a query whose escapes (%XX) are UTF-8")));
    }
    let rejection = match Query::try_from_uri(uri) {
        Ok(Query(query)) => return Ok(query),
        Err(rejection) => rejection.body_text(),
    };
    let detail = rejection.split_once(": ").map_or(&*rejection, |(_, detail)| detail);
    match detail.split('`').nth(1) {
        Some(field) if detail.starts_with("missing field") => {
            Err(Problem::bad_request("bad-query", format!("found no parameter {field:?}, which this call needs")).field(field))
        }
        _ => Err(Problem::bad_request("bad-query", detail)),
    }
}

/// The value of a header that may be there once: of two nobody knows which is meant.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &HeaderName, shown: &str) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.count() {
        0 => Ok(first),
        more => Err(Problem::bad_request("bad-header", format!("{shown}: found it {} times, expected it once", more + 1)).field(shown)),
    }
}

/// A header's value, if it is visible ASCII and blanks; a tab is neither.
pub(super) fn visible(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|text| text.bytes().all(|octet| matches!(octet, b' '..=b'~')))
}

/// What `If-Match` or `If-None-Match` says, over all of its lines (RFC 9110 §5.3).
pub(super) fn tags(headers: &HeaderMap, name: &HeaderName, shown: &str) -> Result<Option<Tags>, Problem> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let whole: Option<Vec<&str>> = lines.into_iter().map(visible).collect();
    let whole = whole.map(|lines| lines.join(", ")).filter(|whole| whole.len() <= MAX_TAG_LEN);
    // A list of nothing matches nothing: what no state can have stands for it.
    let read = |whole: String| Tags::parse(if whole.is_empty() { "\"\"" } else { &whole });
    match whole.and_then(read) {
        Some(tags) => Ok(Some(tags)),
        None => {
            let detail = format!("{shown}: expected a tag in quotes as in the header ETag, a list of such, or *; at most {MAX_TAG_LEN} octets");
            Err(Problem::bad_request("bad-header", detail).field(shown))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::IF_MATCH;

    use super::*;

    #[test]
    fn rfc9110_section_5_3_lines_of_a_list_are_one_list() {
        let headers = |lines: &[&str]| lines.iter().map(|line| (IF_MATCH, line.parse().expect("a value"))).collect::<HeaderMap>();
        let read = |lines: &[&str]| tags(&headers(lines), &IF_MATCH, "If-Match").map(|tags| tags.map(|tags| tags.to_string()));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"a\"", "\"b\", W/\"c\""]), Ok(Some("\"a\", \"b\", W/\"c\"".into())));
        // No ETag of ours is empty.
        assert_eq!(read(&[""]), Ok(Some("\"\"".into())));
        for bad in [&["a\tb"][..], &["a"], &["\"a\"", "*"], &[&"a".repeat(MAX_TAG_LEN + 1)]] {
            assert_eq!(read(bad).expect_err("refused").field.as_deref(), Some("If-Match"), "{bad:?}");
        }
        assert!(one(&headers(&["a"]), &IF_MATCH, "x").is_ok_and(|one| one.is_some()));
        let problem = one(&headers(&["a", "a"]), &IF_MATCH, "Key").expect_err("twice");
        assert_eq!((problem.status, problem.field.as_deref(), &*problem.detail), (400, Some("Key"), "Key: found it 2 times, expected it once"));
    }
}
