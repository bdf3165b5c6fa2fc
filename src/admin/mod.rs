//! L5: the admin listener: HTTP under `/v1` for people and programs that move traffic, plus health and metrics. It owns no state: requests go
//! to [`control::Handle`](crate::control::Handle), figures come from [`telemetry::Registry`](crate::telemetry::Registry).
//!
//! ```text
//!   accept (at most so many) ─▶ head (deadline) ─▶ guard: token (or a free path on loopback), rate ─▶ route
//!      ─▶ body (limit, deadline) ─▶ JSON ─▶ control ─▶ JSON, or a problem (RFC 9457)
//! ```
//!
//! Everything needs the token unless it is one of three paths asked from loopback, so that no way of writing a path gets past the check.

mod access;
mod asked;
mod body;
mod calls;
mod events;
mod guard;
mod idempotency;
mod listener;
mod metrics;
mod openapi;
mod patch;
mod patience;
mod places;
mod rate;
mod refusal;
mod resources;
mod routes;
mod signals;
mod tls;
pub mod token;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::REQUESTS_PER_SECOND;
use crate::control::api::Refusal;
use crate::control::{Handle, Who};
use crate::telemetry::Registry;

pub use listener::Server;
pub use openapi::document;
use rate::Limiter;
pub use refusal::Problem;
pub use tls::Tls;
pub use token::Token;

/// Header in which a caller says who they are; it becomes the owner of overlays. The token alone decides what they may do.
pub const ACTOR_HEADER: &str = "meridian-actor";

/// Characters of [`ACTOR_HEADER`], after its `%XX` have become what they stand for.
pub const MAX_ACTOR_LEN: usize = 100;

/// Longest request body. An overlay takes under 2 KiB.
pub const MAX_BODY_LEN: usize = 64 * 1024;

/// Traces that run at once: each may read the databases, and operators ask for one at a time.
const MAX_TRACES: usize = 2;

/// Deadlines of the listener. The defaults are right for production; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The head of a request must arrive within this, the wait for the next request of a connection included.
    pub head: Duration,
    /// The body must arrive within this.
    pub body: Duration,
    /// Longest life of a connection, whatever it does: room for the slowest reload, an end for readers that never finish.
    pub connection: Duration,
    /// Connections open at once; for one more an idle one gives way. Operators, a scraper and some automation need a few.
    pub connections: usize,
    /// Requests a second of each address and token, twice as many in one go; 0 for as many as they like.
    pub requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits { head: seconds(15), body: seconds(10), connection: seconds(300), connections: 256, requests_per_second: REQUESTS_PER_SECOND }
    }
}

/// Traces a decision; `app` provides it.
pub trait Explainer: Send + Sync {
    /// How `name` and `rtype` are answered for `client` (an address or a prefix), as far as `who` may see. The value is an object; its member
    /// `text` is for people. May block: it is called on a thread that may.
    fn explain(&self, name: &str, rtype: &str, client: &str, who: &Who) -> Result<serde_json::Value, Refusal>;
}

/// What every request handler may use.
struct Shared {
    handle: Handle,
    explainer: Arc<dyn Explainer>,
    registry: Registry,
    token: Token,
    limits: Limits,
    /// Refused requests that the audit log has not been told of, since the last one it was.
    not_kept: AtomicU64,
    limiter: Limiter,
    /// A permit for each trace that may run at once.
    traces: Arc<Semaphore>,
    /// Streams of events that run.
    streams: events::Streams,
    /// Replies to requests with an `Idempotency-Key`.
    idempotent: idempotency::Kept,
}
