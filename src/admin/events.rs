//! `GET /v1/events`: changes, refusals, health transitions and generations as they come, as server-sent events.
//!
//! A stream reads the audit log behind a cursor and waits for news when it has caught up. So nothing is held in memory for a slow reader, and
//! one that comes back says where it was (`Last-Event-ID`) and misses nothing that the log still has.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::asked::{self, Asked, By};
use super::{Problem, Shared};
use crate::control::audit::{self, Kind};
use crate::control::tokens::Denied;
use crate::control::unix_now;

/// Streams at once; each holds a connection and a small task.
const MAX_STREAMS: usize = 64;
/// Streams of one token: whoever has one keeps nobody else from looking.
const MAX_OF_TOKEN: usize = 16;
/// A line of nothing after so much silence, so that whoever is in between keeps the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is let go; it can come back to where it was.
const PATIENCE: Duration = Duration::from_secs(30);
/// A stream ends in order so long before its connection would be cut.
const BEFORE_CUT: Duration = Duration::from_secs(10);
/// Where a reader that comes back was.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Entries read at once.
const PAGE: usize = 100;
/// Chunks under way to a reader.
const UNDER_WAY: usize = 16;

/// The path.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/v1/events", get(events))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EventsQuery {
    kind: Option<Kind>,
    target: Option<String>,
    after: Option<u64>,
}

#[utoipa::path(
    get,
    path = "/v1/events",
    summary = "Changes, health and generations as server-sent events",
    params(
        ("kind" = Option<Kind>, Query, description = "exactly"),
        ("target" = Option<String>, Query, description = "exactly or anything below"),
        ("after" = Option<u64>, Query, description = "go on behind this event"),
    ),
    responses((status = 200, description = "done"))
)]
async fn events(By { shared, who, .. }: By, headers: HeaderMap, Asked(query): Asked<EventsQuery>) -> Result<Response, Problem> {
    let last = match asked::one(&headers, &LAST_EVENT_ID, "Last-Event-ID")? {
        None => query.after,
        Some(value) => match value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
            Some(id) => Some(id),
            None => return Err(Problem::bad_request("bad-header", "Last-Event-ID: expected the id of an event").field("Last-Event-ID")),
        },
    };
    let running = Running::begin(&shared, &who.token)?;
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let filter =
        audit::Query { kind: query.kind, target: query.target, zones: who.zones, oldest_first: true, limit: PAGE, ..audit::Query::default() };
    let age = shared.limits.connection.saturating_sub(BEFORE_CUT);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(age, Stream { running, filter, sender }.run(last)).await;
    });
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::new(Chunks(receiver))).into_response())
}

/// Streams that run, by the id of their token.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<String, usize>>);

/// One stream that runs.
struct Running {
    shared: Arc<Shared>,
    token: String,
}

impl Running {
    fn begin(shared: &Arc<Shared>, token: &str) -> Result<Running, Problem> {
        let mut streams = shared.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = streams.values().sum();
        if streams.get(token).is_some_and(|own| *own >= MAX_OF_TOKEN) {
            return Err(Problem::too_many_streams(&format!("{MAX_OF_TOKEN} of one token"), KEEP_ALIVE));
        }
        if all >= MAX_STREAMS {
            return Err(Problem::too_many_streams(&MAX_STREAMS.to_string(), KEEP_ALIVE));
        }
        *streams.entry(token.to_owned()).or_insert(0) += 1;
        Ok(Running { shared: shared.clone(), token: token.to_owned() })
    }

    /// Why the token opens nothing any more.
    fn denied(&self) -> Option<Denied> {
        self.shared.handle.tokens().denied(&self.token, unix_now())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut streams = self.shared.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = streams.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                streams.remove(&self.token);
            }
        }
    }
}

struct Stream {
    running: Running,
    filter: audit::Query,
    sender: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Until the reader is gone or too slow, or its token opens nothing any more. `None` then.
    async fn run(self, last: Option<u64>) -> Option<()> {
        let mut news = self.running.shared.handle.news();
        self.send("retry: 1000\n\n".into()).await?;
        let mut cursor = self.begin(last).await?;
        let mut generation = 0;
        loop {
            let now = *news.borrow_and_update();
            if now.generation != generation {
                generation = now.generation;
                self.send(event(None, "generation", &json!({ "generation": generation }))).await?;
            }
            loop {
                let page = self.running.shared.handle.audit(audit::Query { cursor: Some(cursor), ..self.filter.clone() }).await.unwrap_or_default();
                for entry in &page.entries {
                    cursor = entry.sequence;
                    self.send(event(Some(cursor), entry.kind.word(), entry)).await?;
                }
                if page.next.is_none() {
                    break;
                }
            }
            // Everything up to there was looked at, whatever the filter says.
            cursor = cursor.max(now.sequence);
            tokio::select! {
                changed = news.changed() => changed.ok()?,
                () = self.sender.closed() => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => self.send(": nothing new\n\n".into()).await?,
            }
        }
    }

    /// Where to begin: behind what the reader has seen, or now. What the log no longer has is said, and so is that it ends before what the reader has
    /// seen: another state file has taken the place of the one that they saw.
    async fn begin(&self, last: Option<u64>) -> Option<u64> {
        let one = |oldest_first| audit::Query { oldest_first, limit: 1, ..audit::Query::default() };
        let sequence = |page: audit::Page| page.entries.first().map_or(0, |entry| entry.sequence);
        let (newest, oldest) = match (self.running.shared.handle.audit(one(false)).await, self.running.shared.handle.audit(one(true)).await) {
            (Ok(newest), Ok(oldest)) => (sequence(newest), sequence(oldest)),
            _ => {
                self.send(": the audit log cannot be read: generations only\n\n".into()).await?;
                return Some(0);
            }
        };
        let Some(last) = last else { return Some(newest) };
        if last > newest {
            self.send(event(None, "gap", &json!({ "after": last, "newest": newest }))).await?;
            return Some(newest);
        }
        if oldest > last.saturating_add(1) {
            self.send(event(None, "gap", &json!({ "after": last, "oldest": oldest }))).await?;
        }
        Some(last)
    }

    /// One chunk; instead of it the end, if the token was revoked or has expired.
    async fn send(&self, chunk: Bytes) -> Option<()> {
        let denied = self.running.denied();
        let chunk = denied.map_or(chunk, |denied| event(None, "end", &json!({ "why": denied.words() })));
        let sent = self.pass(chunk).await;
        sent.filter(|()| denied.is_none())
    }

    async fn pass(&self, chunk: Bytes) -> Option<()> {
        match tokio::time::timeout(PATIENCE, self.sender.send(chunk)).await {
            Ok(sent) => sent.ok(),
            Err(_) => {
                tracing::warn!("admin: a reader of events took nothing for {} s and is let go", PATIENCE.as_secs());
                None
            }
        }
    }
}

/// One event in the format of HTML §9.2.6; JSON on one line.
fn event(id: Option<u64>, name: &str, data: &impl serde::Serialize) -> Bytes {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    format!("{id}event: {name}\ndata: {}\n\n", serde_json::to_string(data).unwrap_or_default()).into()
}

/// A body that is sent as it comes.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
