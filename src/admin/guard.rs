//! Who may pass: the token for everything, nothing for health and metrics asked from loopback. Every reply is counted and marked here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ACTOR_HEADER, MAX_ACTOR_LEN, Problem, Shared};
use crate::control::{Role, Who, unix_now};

/// Paths that loopback may ask without a token, to the letter.
const FREE_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Id and name of the token in the file.
const ADMIN_TOKEN: &str = "admin";

/// Whoever made the request, as the listener saw them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Peer {
    /// IPv4 hidden in IPv6 counts as what it is.
    pub(super) fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

/// Lets a request through or answers it.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let free = peer.is_some_and(|peer| peer.ip().is_loopback()) && FREE_PATHS.contains(&request.uri().path());
    let checked = if free { Ok(()) } else { authorise(&shared, request.headers()) };
    let mut response = match checked.and_then(|()| actor(request.headers())) {
        Ok(name) => {
            // Free paths change nothing: whoever asks them is nobody in particular.
            let role = if free { Role::Read } else { Role::Admin };
            let from = peer.map(Peer::ip);
            request.extensions_mut().insert(Who { name, token: ADMIN_TOKEN.into(), role, zones: None, from });
            next.run(request).await
        }
        Err(problem) => {
            if problem.status == 401 {
                refused(&shared, peer);
            }
            problem.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(count) = shared.counts.replies.get(usize::from(response.status().as_u16() / 100)) {
        count.fetch_add(1, Relaxed);
    }
    response
}

/// Exactly one `Authorization: Bearer TOKEN`; nothing else counts, a token in the query least of all.
fn authorise(shared: &Shared, headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorised("expected one header \"Authorization: Bearer TOKEN\""));
    };
    let offered = match value.as_bytes().split_at_checked(7) {
        Some((scheme, offered)) if scheme.eq_ignore_ascii_case(b"bearer ") => offered.trim_ascii(),
        _ => return Err(Problem::unauthorised("Authorization: expected the scheme Bearer")),
    };
    if shared.token.matches(offered) { Ok(()) } else { Err(Problem::unauthorised("the token is not the one of this server")) }
}

/// Who acts: what the header says, else `admin`.
fn actor(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(ACTOR_HEADER) else { return Ok(ADMIN_TOKEN.into()) };
    match value.to_str().map(str::trim) {
        Ok(name) if !name.is_empty() && name.len() <= MAX_ACTOR_LEN => Ok(name.into()),
        _ => {
            let detail = format!("Meridian-Actor: expected 1 to {MAX_ACTOR_LEN} visible ASCII characters");
            Err(Problem::bad_request("bad-header", detail).field("Meridian-Actor"))
        }
    }
}

/// Counts a refused request and logs one a second at most.
fn refused(shared: &Shared, peer: Option<Peer>) {
    let count = shared.counts.unauthorised.fetch_add(1, Relaxed) + 1;
    let now = unix_now();
    if shared.counts.last_logged.swap(now, Relaxed) != now {
        tracing::warn!(peer = ?peer.map(|peer| peer.0), since_start = count, "admin: request without a valid token");
    }
}
