//! `Idempotency-Key`: a change that is sent twice is made once, and the second reply is the first.
//!
//! ```text
//! key of this token     request     reply
//! not seen              any         made; the reply is kept if it was done
//! seen, done            the same    the kept reply, marked Idempotent-Replayed: true
//! seen, refused         the same    judged anew
//! seen, under way       the same    409, in-progress
//! seen                  another     422, invalid: a key is for one request of one actor
//! ```
//!
//! Replies are kept in memory for a day: a restart forgets them. What was refused has changed nothing, and its cause may be gone when it is sent again:
//! it is judged anew. (Others keep refusals too, but those of requests that were begun; here whatever is begun is done.) Secrets are not kept: a reply
//! with one says what stands in its place ([`Again`]). A key counts only where there is something to do: at a path that does not take the method it is
//! not looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body::body;
use super::calls::is_taken;
use super::{Problem, Shared, asked};
use crate::control::Who;

/// The header.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Characters of a key.
pub(super) const MAX_KEY_LEN: usize = 200;
/// Keys at once; the oldest go first.
const MAX_KEYS: usize = 1000;
/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Longer replies are not kept; none of those to changes comes near, but reports of reloads of very many zones.
const MAX_REPLY_LEN: usize = 256 * 1024;

type Id = (String, String);

/// Beside a reply with a secret: the body that a second request gets.
#[derive(Clone)]
pub(super) struct Again(pub(super) Bytes);

/// What was asked under each key, and what the reply was.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<Id, Slot>>);

struct Slot {
    at: Instant,
    asked: Vec<u8>,
    stands: Standing,
}

/// How far a request with a key has come.
enum Standing {
    UnderWay,
    /// Nothing was changed.
    Refused,
    Done(Reply),
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        // In place of what a body of octets brings along.
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A key that is being used; gives it free unless it is said what came of it.
struct Claim {
    shared: Arc<Shared>,
    id: Id,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut kept = self.shared.idempotent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.get(&self.id).is_some_and(|slot| matches!(slot.stands, Standing::UnderWay)) {
            kept.remove(&self.id);
        }
    }
}

impl Kept {
    /// Claims a key; `Some` reply if it cannot be had.
    fn claim(&self, id: &Id, asked: Vec<u8>, now: Instant) -> Option<Response> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, slot| now.saturating_duration_since(slot.at) < REMEMBERED);
        if let Some(slot) = kept.get_mut(id) {
            if slot.asked != asked {
                let detail = "found a key that was used for another request, expected a new one";
                return Some(Problem::invalid("Idempotency-Key", detail.into()).into_response());
            }
            return match &slot.stands {
                Standing::UnderWay => Some(Problem::in_progress().into_response()),
                Standing::Done(reply) => {
                    let mut response = reply.clone().into_response();
                    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                    Some(response)
                }
                Standing::Refused => {
                    slot.stands = Standing::UnderWay;
                    None
                }
            };
        }
        if kept.len() >= MAX_KEYS
            && let Some(oldest) =
                kept.iter().filter(|(_, slot)| !matches!(slot.stands, Standing::UnderWay)).min_by_key(|(_, slot)| slot.at).map(|(id, _)| id.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(id.clone(), Slot { at: now, asked, stands: Standing::UnderWay });
        None
    }

    fn keep(&self, id: &Id, stands: Standing) {
        if let Some(slot) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            slot.stands = stands;
        }
    }
}

/// Runs behind the guard: whoever asks is known.
pub(super) async fn once(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let changes = matches!(*request.method(), Method::POST | Method::PATCH | Method::DELETE);
    let key = match asked::one(request.headers(), &KEY, "Idempotency-Key") {
        Ok(Some(key)) if changes => key.clone(),
        Err(problem) if changes => return problem.into_response(),
        _ => return next.run(request).await,
    };
    let key = match asked::visible(&key) {
        Some(key) if (1..=MAX_KEY_LEN).contains(&key.len()) => key.to_owned(),
        _ => {
            let detail = format!("Idempotency-Key: expected 1 to {MAX_KEY_LEN} visible ASCII characters");
            return Problem::bad_request("bad-header", detail).field("Idempotency-Key").into_response();
        }
    };
    if !is_taken(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let (token, actor) = request.extensions().get::<Who>().map_or_else(Default::default, |who| (who.token.clone(), who.name.clone()));
    let (mut parts, content) = request.into_parts();
    let read = Request::from_parts(parts.clone(), content);
    let content = match body(&shared, read).await {
        Ok((_, content)) => content,
        Err(problem) => return problem.into_response(),
    };
    parts.headers.remove(KEY);
    let mut asked = ring::digest::Context::new(&ring::digest::SHA256);
    asked.update(format!("{} {}\n{actor}\n", parts.method, parts.uri).as_bytes());
    asked.update(&content);
    let id = (token, key);
    if let Some(reply) = shared.idempotent.claim(&id, asked.finish().as_ref().to_vec(), Instant::now()) {
        return reply;
    }
    let claim = Claim { shared: shared.clone(), id };
    let response = next.run(Request::from_parts(parts, Body::from(content))).await;
    let status = response.status();
    if !status.is_success() {
        shared.idempotent.keep(&claim.id, Standing::Refused);
        return response;
    }
    let (head, content) = response.into_parts();
    match to_bytes(content, MAX_REPLY_LEN).await {
        Ok(content) => {
            let header = |name: HeaderName| head.headers.get(&name).cloned().map(|value| (name, value));
            let headers = [CONTENT_TYPE, ETAG, LOCATION].into_iter().filter_map(header).collect();
            let body = head.extensions.get::<Again>().map_or_else(|| content.clone(), |again| again.0.clone());
            shared.idempotent.keep(&claim.id, Standing::Done(Reply { status, headers, body }));
            Response::from_parts(head, Body::from(content))
        }
        Err(_) => Problem::internal("the change was made, but its reply is too long for a request with an Idempotency-Key").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_reply_has_the_headers_it_had_and_no_others() {
        let headers =
            vec![(CONTENT_TYPE, HeaderValue::from_static("application/problem+json")), (LOCATION, HeaderValue::from_static("/v1/overlays/7"))];
        let response = Reply { status: StatusCode::CONFLICT, headers: headers.clone(), body: Bytes::from_static(b"{}") }.into_response();
        let replayed: Vec<(HeaderName, HeaderValue)> = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!((response.status(), replayed), (StatusCode::CONFLICT, headers));
    }
}
