//! Changes that wait for a disk that does not answer: whoever asked is told so after a while, and the change goes on by itself, for nobody can take it
//! back from there. What becomes of it is kept for whoever asks again with the same `Idempotency-Key`, and stands in the audit log.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Problem, Shared};
use crate::control::stalls::PATIENCE;

/// Runs outside of what keeps replies.
pub(super) async fn patient(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    // Neither waits for what is kept, and both may take their time.
    let path = request.uri().path();
    let is_free = path == "/v1/reload" || path.starts_with("/v1/health/");
    if is_free || !matches!(*request.method(), Method::POST | Method::PATCH | Method::DELETE) {
        return next.run(request).await;
    }
    let made = tokio::spawn(next.run(request));
    match shared.handle.patiently(PATIENCE, made).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::internal("the change met a fault; what became of it is in the audit log").into_response(),
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}
