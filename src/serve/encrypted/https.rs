//! DNS over HTTPS (RFC 8484): HTTP/2, GET and POST.
//!
//! ```text
//! header fields of more than 16 KiB          431, by the library; many times that ends the connection
//! another path                               404
//! another method than GET, HEAD, POST        405, with Allow
//! Accept without application/dns-message     406
//! POST of another type, or of two            415, with Accept; in another coding: with Accept-Encoding
//! POST of more than 65,535 octets            413; that does not arrive in time: 408
//! no query: dns= missing, no base64url, QR   400
//! a query that the engine fails on           500
//! anything else                              200 with the reply, whatever its response code (RFC 8484 §4.2.1)
//! ```
//!
//! What the header fields say is answered by them, before the body has come. The rest of a body that nobody wants is read behind the answer as long as it
//! is short, else the client is told to stop, a second later: RST_STREAM with NO_ERROR (RFC 9113 §8.1).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::server::TlsStream;

use super::desks::Answered;
use super::{Entered, FAREWELL, Shared, UnderWay};
use crate::answer::{Audience, Reply, Transport};
use crate::dns::least_ttl;

/// The media type of messages (RFC 8484 §6).
const MEDIA_TYPE: &str = "application/dns-message";
/// Octets of a message (RFC 8484 §6).
const MAX_MESSAGE_LEN: usize = 65_535;
/// Octets of a body that are read although nobody wants them: to some clients it is an error when a stream is reset while they send, and what is sent by
/// mistake is seldom larger. It costs no memory.
const MAX_IGNORED_LEN: usize = 1 << 20;
/// Octets of all header fields of a request; a query in the URI has up to a few thousand.
const MAX_HEADERS_LEN: u32 = 16 << 10;
/// What a client may send on one stream, and on all streams of a connection, before it is read: queries in flight, not uploads.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Replies that wait on one stream for the client's window.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client may begin and reset before they are looked at ("rapid reset", CVE-2023-44487), and streams that we reset for its mistakes.
const RESETS: usize = 32;

/// What tells a connection whose client does not take its replies.
#[derive(Debug, Default)]
struct Waiting {
    replies: Mutex<Replies>,
    /// A first reply waits.
    begun: Notify,
}

/// Replies that the client has not taken: since when, in the order in which they were made.
#[derive(Debug, Default)]
struct Replies {
    next: u64,
    since_ns: BTreeMap<u64, u64>,
}

impl Waiting {
    fn replies(&self) -> std::sync::MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest_ns(&self) -> Option<u64> {
        self.replies().since_ns.first_key_value().map(|(_, since_ns)| *since_ns)
    }
}

/// A reply until the client's windows take it: hyper asks for it when they are open, and drops it when all is sent.
struct Outgoing {
    octets: Full<Bytes>,
    waiting: Arc<Waiting>,
    id: u64,
}

impl Outgoing {
    fn new(octets: Full<Bytes>, waiting: &Arc<Waiting>, now_ns: u64) -> Outgoing {
        let mut replies = waiting.replies();
        let id = replies.next;
        replies.next += 1;
        replies.since_ns.insert(id, now_ns);
        if replies.since_ns.len() == 1 {
            waiting.begun.notify_one();
        }
        drop(replies);
        Outgoing { octets, waiting: waiting.clone(), id }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.waiting.replies().since_ns.remove(&self.id);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.octets).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.octets.size_hint()
    }
}

/// One connection after its handshake.
pub(super) async fn converse(stream: TlsStream<TcpStream>, peer: SocketAddr, server: SocketAddr, entered: &Arc<Entered>, end: Instant) {
    let shared = entered.shared.clone();
    entered.is_ready();
    let waiting = Arc::new(Waiting::default());
    let service = {
        let (waiting, entered) = (waiting.clone(), entered.clone());
        service_fn(move |request| {
            let (waiting, under_way) = (waiting.clone(), UnderWay::new(&entered));
            async move {
                let entered = &under_way.0;
                let response = respond(request, peer, server, &entered.shared).await;
                entered.answered();
                Ok::<_, Infallible>(response.map(|octets| Outgoing::new(octets, &waiting, entered.shared.now_ns())))
            }
        })
    };
    let limits = shared.limits;
    let mut stream = TimeoutWriter::new(stream);
    // Of the connection's own octets; replies that its streams hold back are seen to below.
    stream.set_timeout(Some(limits.write));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(MAX_HEADERS_LEN)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    // True when the client does not take its replies.
    let over = async {
        loop {
            let (left, is_stalled) = match waiting.oldest_ns() {
                Some(since_ns) => (limits.write.saturating_sub(Duration::from_nanos(shared.now_ns().saturating_sub(since_ns))), true),
                None => (entered.until_idle(), false),
            };
            if left.is_zero() {
                return is_stalled;
            }
            let _ = timeout(left, waiting.begun.notified()).await;
        }
    };
    let is_stalled = tokio::select! {
        ended = &mut connection => {
            if ended.is_err_and(|error| is_deadline(&error)) {
                shared.timed_out();
            }
            return;
        }
        () = shared.stopped() => None,
        () = sleep_until(end) => Some(false),
        is_stalled = over => Some(is_stalled),
    };
    if is_stalled.is_some() {
        shared.timed_out();
    }
    if is_stalled == Some(true) {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(FAREWELL, connection).await;
}

/// It ended because a write took too long.
fn is_deadline(error: &hyper::Error) -> bool {
    error.source().and_then(|error| error.downcast_ref::<io::Error>()).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

async fn respond(request: Request<Incoming>, peer: SocketAddr, server: SocketAddr, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let found = match head_of(&head, &body, shared) {
        Ok(None) => body_of(&mut body, shared).await,
        found => found.map(Option::unwrap_or_default),
    };
    ignore(body, shared.limits.message);
    let said = found.map(|packet| shared.desks.message(&packet, peer, server, Transport::Https));
    let (octets, reply) = match said {
        Ok(Answered::Reply(octets, reply)) => (octets, reply),
        Ok(Answered::Silence) => return Refused::from(StatusCode::BAD_REQUEST).response(),
        Ok(Answered::Failure) => return Refused::from(StatusCode::INTERNAL_SERVER_ERROR).response(),
        Err(refused) => return refused.response(),
    };
    let (length, caching) = (octets.len(), cache_control(&octets, &reply));
    let mut response = Response::new(if head.method == Method::HEAD { Full::default() } else { Full::new(octets.into()) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CONTENT_LENGTH, length.into());
    if let Ok(caching) = caching.try_into() {
        headers.insert(CACHE_CONTROL, caching);
    }
    response
}

/// No longer than any of its records lives (RFC 8484 §5.1). What was chosen for one client is not for others, so a proxy must not keep it; what
/// operators alone are told nobody keeps (RFC 9111 §5.2.2).
fn cache_control(octets: &[u8], reply: &Reply) -> String {
    let age = least_ttl(octets).unwrap_or(0);
    match reply.audience {
        Audience::Everybody => format!("max-age={age}"),
        Audience::Client => format!("private, max-age={age}"),
        Audience::Operators => "no-store".into(),
    }
}

/// Sees to the rest of a body that nobody wants, behind the answer. A client is told to stop (by dropping the body) when it has had time to take the
/// answer and to stop by itself: some take the end of a stream on which they send for an error, whatever was answered before.
fn ignore(mut body: Incoming, patience: Duration) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let is_short = body.size_hint().lower() <= MAX_IGNORED_LEN as u64;
        if is_short && timeout(patience, has_ended(&mut body)).await == Ok(true) {
            return;
        }
        // What is not read any more is bounded by the windows.
        tokio::time::sleep(FAREWELL).await;
        drop(body);
    });
}

/// Reads as far as is borne with; whether that was all.
async fn has_ended(body: &mut Incoming) -> bool {
    let mut left = MAX_IGNORED_LEN;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        if len > left {
            return false;
        }
        left -= len;
    }
    true
}

/// What a request gets that is no query.
#[derive(Debug, PartialEq)]
struct Refused {
    status: StatusCode,
    /// What would have been taken.
    takes: Option<(HeaderName, &'static str)>,
}

impl From<StatusCode> for Refused {
    fn from(status: StatusCode) -> Refused {
        Refused { status, takes: None }
    }
}

impl Refused {
    fn but_takes(status: StatusCode, name: HeaderName, value: &'static str) -> Refused {
        Refused { status, takes: Some((name, value)) }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.takes {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What the request says before its body: the message of a GET, `None` when it is in the body.
fn head_of(head: &Parts, body: &Incoming, shared: &Shared) -> Result<Option<Vec<u8>>, Refused> {
    if head.uri.path() != shared.path {
        return Err(StatusCode::NOT_FOUND.into());
    }
    if !accepts(&head.headers) {
        return Err(StatusCode::NOT_ACCEPTABLE.into());
    }
    match head.method {
        Method::GET | Method::HEAD => {
            let query = head.uri.query().unwrap_or_default();
            let value = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
            // Octets that need no percent-encoding may have one all the same (RFC 3986 §2.3).
            let packet = value.and_then(|value| BASE64URL_NOPAD.decode(&percent_decode_str(value).collect::<Vec<u8>>()).ok());
            packet.map(Some).ok_or(StatusCode::BAD_REQUEST.into())
        }
        Method::POST => {
            if !is_message(&head.headers) {
                return Err(Refused::but_takes(StatusCode::UNSUPPORTED_MEDIA_TYPE, ACCEPT, MEDIA_TYPE));
            }
            if is_coded(&head.headers) {
                // With this field instead of the other the client knows which of them it was (RFC 9110 §12.5.3).
                return Err(Refused::but_takes(StatusCode::UNSUPPORTED_MEDIA_TYPE, ACCEPT_ENCODING, "identity"));
            }
            if body.size_hint().lower() > MAX_MESSAGE_LEN as u64 {
                return Err(StatusCode::PAYLOAD_TOO_LARGE.into());
            }
            Ok(None)
        }
        _ => Err(Refused::but_takes(StatusCode::METHOD_NOT_ALLOWED, ALLOW, "GET, HEAD, POST")),
    }
}

async fn body_of(body: &mut Incoming, shared: &Shared) -> Result<Vec<u8>, Refused> {
    match timeout(shared.limits.message, Limited::new(body, MAX_MESSAGE_LEN).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE.into()),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST.into()),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT.into()),
    }
}

/// Whether the body is a message. Of several fields none is taken: which of them holds is anybody's guess (RFC 9110 §8.3).
fn is_message(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let first = kinds.next().and_then(|value| value.to_str().ok());
    kinds.next().is_none() && first.is_some_and(|value| essence(value) == MEDIA_TYPE)
}

/// Whether the body is compressed or the like: `identity` says that it is not (RFC 9110 §8.4, §12.5.3).
fn is_coded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Type and subtype without parameters, in lower case (RFC 9110 §8.3.1).
fn essence(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the client takes messages: the range that says the most of them counts. Without a range it takes anything (RFC 9110 §12.5.1 says so of a
/// request without `Accept`; an empty one rules nothing out either).
fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    // What is no text is none of the ranges below.
    let ranges: Vec<&str> = values.map(|range| str::from_utf8(range).unwrap_or("?").trim()).filter(|range| !range.is_empty()).collect();
    if ranges.is_empty() {
        return true;
    }
    let judged = ranges.iter().filter_map(|range| {
        let says = ["*/*", "application/*", MEDIA_TYPE].iter().position(|known| essence(range) == *known)?;
        let refused = range.split(';').skip(1).any(|parameter| matches!(parameter.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        Some((says, !refused))
    });
    judged.max().is_some_and(|(_, takes)| takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_section_12_5_1_accept() {
        for (accept, takes) in [
            (None, true),
            (Some("application/dns-message"), true),
            (Some("Application/DNS-Message; q=0.5"), true),
            (Some("text/html, */*;q=0.1"), true),
            (Some("application/*"), true),
            (Some("text/html"), false),
            (Some("application/dns-json"), false),
            (Some("application/dns-message;q=0"), false),
            (Some("application/dns-message;q=0, */*"), false),
            (Some("*/*;q=0, application/dns-message"), true),
            (Some(""), true),
            (Some(" , "), true),
            (Some(", text/html"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(accepts(&headers), takes, "{accept:?}");
        }
    }

    #[test]
    fn rfc9110_section_8_3_content_type() {
        for (kinds, is_one) in [
            (&[][..], false),
            (&["application/dns-message"], true),
            (&["Application/DNS-Message ;x=y"], true),
            (&["application/dns-message", "application/dns-message"], false),
            (&["application/dns-message", "text/plain"], false),
            (&["application/dns-message, text/plain"], false),
            (&["text/plain"], false),
        ] {
            let headers = kinds.iter().map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))).collect();
            assert_eq!(is_message(&headers), is_one, "{kinds:?}");
        }
    }

    #[test]
    fn rfc9110_section_8_4_content_codings() {
        for (codings, is_one) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity, identity"], false),
            (&[""], false),
            (&["gzip"], true),
            (&["identity, br"], true),
            (&["identity", "x-gzip"], true),
        ] {
            let headers = codings.iter().map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding))).collect();
            assert_eq!(is_coded(&headers), is_one, "{codings:?}");
        }
    }
}
