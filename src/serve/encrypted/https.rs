//! DNS over HTTPS (RFC 8484): HTTP/2, GET and POST.
//!
//! ```text
//! header fields of more than 16 KiB          431, by the library; four times that ends the connection
//! another path                               404
//! another method than GET, HEAD, POST        405, with Allow
//! Accept without application/dns-message     406
//! POST of another type, or of two            415, with Accept; in another coding: with Accept-Encoding
//! POST of more than 65,535 octets            413; that does not arrive in time: 408
//! no query: dns= missing, no base64url, QR   400
//! no room for it while it waits              503
//! a query that the engine fails on           500
//! anything else                              200 with the reply, whatever its response code (RFC 8484 §4.2.1)
//! ```
//!
//! What the header fields say is answered by them, before the body has come; who asks whether to send it (`Expect: 100-continue`) is told by that, or by 100
//! (RFC 9110 §10.1.1). How the rest of a body that nobody wants ends: [`end`].

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::server::TlsStream;

use super::desks::{Answered, Kept, Place};
use super::records::{Framing, Records};
use super::tls::linger;
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
/// Streams that a client may begin and reset before they are looked at ("rapid reset", CVE-2023-44487).
const RESETS: usize = 32;
/// Streams of a connection that we reset, in all: for mistakes, and those above `streams`. Whoever has not seen our SETTINGS yet does not know better.
const OWN_RESETS: usize = 1024;

/// Who asks on a connection.
struct Client {
    peer: SocketAddr,
    server: SocketAddr,
    entered: Arc<Entered>,
    /// It does not take its replies.
    stalled: Notify,
}

/// Why we end a connection.
enum Ending {
    /// The service ends, or the connection has had its time: what is under way is still answered.
    InOrder,
    /// Its client does not take its replies.
    Stalled,
    /// It makes room for others.
    PushedOut,
}

/// One connection after its handshake.
pub(super) async fn converse(stream: TlsStream<TcpStream>, peer: SocketAddr, server: SocketAddr, entered: &Arc<Entered>, end: Instant) {
    let limits = entered.shared.limits;
    entered.is_ready();
    let client = Arc::new(Client { peer, server, entered: entered.clone(), stalled: Notify::new() });
    // For when its socket takes nothing at all; whether it takes its replies in time is seen to by each of them.
    let mut stream = Box::pin(TimeoutWriter::new(Records::new(stream, Framing::Http2)));
    stream.as_mut().set_timeout_pinned(Some(limits.write));
    let is_there = talk(stream.as_mut(), &client, end).await;
    entered.shelf.close();
    if is_there {
        tokio::select! {
            () = linger(stream.get_ref().socket()) => {}
            () = entered.pushed_out() => {}
        }
    }
}

/// Answers until the connection ends; whether its client gets the time to read what was said.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, client: &Arc<Client>, end: Instant) -> bool {
    let shared = &client.entered.shared;
    let mut leaving = pin!(leaving(client, end));
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(shared.limits.streams)
        .max_header_list_size(MAX_HEADERS_LEN)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(OWN_RESETS));
    let begun = tokio::select! {
        begun = builder.handshake(stream) => begun,
        ending = &mut leaving => return !matches!(ending, Ending::PushedOut),
    };
    let mut connection = match begun {
        Ok(connection) => connection,
        Err(error) => {
            failed(shared, &error);
            return true;
        }
    };
    let ending = tokio::select! {
        answered = answer(&mut connection, client) => {
            let _ = answered.map_err(|error| failed(shared, &error));
            return true;
        }
        ending = &mut leaving => ending,
    };
    match ending {
        Ending::InOrder => {
            connection.graceful_shutdown();
            let is_over = tokio::select! {
                answered = timeout(FAREWELL, answer(&mut connection, client)) => answered.is_ok(),
                () = client.entered.pushed_out() => false,
            };
            if !is_over {
                // What is under way takes too long, or the client has not said that it knows: which streams were looked at (RFC 9113 §6.8).
                go_away(&mut connection, Reason::NO_ERROR).await;
            }
        }
        Ending::Stalled | Ending::PushedOut => go_away(&mut connection, Reason::ENHANCE_YOUR_CALM).await,
    }
    !matches!(ending, Ending::PushedOut)
}

/// Returns when we end the connection.
async fn leaving(client: &Client, end: Instant) -> Ending {
    let entered = &client.entered;
    let shared = &entered.shared;
    let ending = tokio::select! {
        () = shared.stopped() => return Ending::InOrder,
        () = entered.pushed_out() => return Ending::PushedOut,
        () = client.stalled.notified() => Ending::Stalled,
        () = sleep_until(end) => Ending::InOrder,
        () = entered.idle() => Ending::InOrder,
    };
    shared.timed_out();
    ending
}

/// Takes requests until there are no more.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<S, Bytes>, client: &Arc<Client>) -> Result<(), h2::Error> {
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(stream(request, respond, client.clone(), UnderWay::new(&client.entered)));
    }
    Ok(())
}

/// Says at once that the connection ends, if the socket takes it.
async fn go_away<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<S, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    let _ = timeout(Duration::ZERO, poll_fn(|context| connection.poll_closed(context))).await;
}

/// It ended by an error, which the library has told the client if that was possible.
fn failed(shared: &Shared, error: &h2::Error) {
    if error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        shared.timed_out();
    }
}

/// One request.
async fn stream(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: Arc<Client>, under_way: UnderWay) {
    let limits = client.entered.shared.limits;
    let (head, mut body) = request.into_parts();
    let announced = announced(&head.headers);
    let Some(response) = response_to(head, &mut body, &mut respond, &client).await else { return };
    let has_ended = body.is_end_stream();
    let is_answer = response.status() == StatusCode::OK;
    let sent = timeout(limits.write, send(response, &mut respond, has_ended || announced.is_some())).await;
    if is_answer {
        client.entered.answered();
    }
    drop(under_way);
    match sent {
        Ok(Ok(unended)) if !has_ended => end(unended, body, announced, limits.message).await,
        Ok(_) => {}
        Err(_) => client.stalled.notify_one(),
    }
}

/// What a request gets; nothing when its client has given it up.
async fn response_to(head: Parts, body: &mut RecvStream, respond: &mut SendResponse<Bytes>, client: &Client) -> Option<Response<Content>> {
    let (shared, shelf) = (&client.entered.shared, &client.entered.shelf);
    let (found, is_head, expects) = (head_of(&head, shared), head.method == Method::HEAD, expects(&head.headers));
    // Of what waits the header fields may be the most.
    drop(head);
    let mut kept = Kept::default();
    let found = match found {
        Ok(None) => {
            if expects && !body.is_end_stream() {
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(go_on).ok()?;
            }
            match timeout(shared.limits.message, body_of(body, |len| shelf.keep(&mut kept, len))).await {
                Ok(read) => read?,
                Err(_) => Err(StatusCode::REQUEST_TIMEOUT.into()),
            }
        }
        Ok(Some(packet)) if !shelf.keep(&mut kept, packet.len()) => Err(StatusCode::SERVICE_UNAVAILABLE.into()),
        Ok(Some(packet)) => Ok(packet),
        Err(refused) => Err(refused),
    };
    let packet = match found {
        Ok(packet) => packet,
        Err(refused) => {
            if refused.status == StatusCode::SERVICE_UNAVAILABLE {
                shared.refused();
            }
            return Some(refused.response());
        }
    };
    let place = tokio::select! {
        biased;
        place = shelf.place() => place?,
        // Its client has given it up.
        _ = poll_fn(|context| respond.poll_reset(context)) => return None,
    };
    let (octets, reply) = match shared.desks.message(&packet, client.peer, client.server, Transport::Https) {
        Answered::Reply(octets, reply) => (octets, reply),
        Answered::Silence => return Some(Refused::from(StatusCode::BAD_REQUEST).response()),
        Answered::Failure => return Some(Refused::from(StatusCode::INTERNAL_SERVER_ERROR).response()),
    };
    let (length, caching) = (octets.len(), cache_control(&octets, &reply));
    let mut response = of(StatusCode::OK, length);
    if !is_head {
        *response.body_mut() = Content { _place: Some(place.of(length)), octets };
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(caching) = caching.try_into() {
        headers.insert(CACHE_CONTROL, caching);
    }
    Some(response)
}

/// What a response carries, with its place among the replies of its connection.
#[derive(Debug, Default)]
struct Content {
    octets: Vec<u8>,
    _place: Option<Place>,
}

/// The same in the hands of the library, which drops it when the last octet has gone to TLS, or when stream or connection have ended.
struct Sent {
    content: Content,
    _gone: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.content.octets
    }
}

/// A response of this status whose content has this length, at this time (RFC 9110 §6.6.1).
fn of(status: StatusCode, length: usize) -> Response<Content> {
    let mut response = Response::new(Content::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    if let Ok(date) = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + super::super::unix_now()).try_into() {
        headers.insert(DATE, date);
    }
    response
}

/// Sends all of it, as the client's windows and its socket take it. Where the end of the stream has to wait, the stream is returned.
async fn send(response: Response<Content>, respond: &mut SendResponse<Bytes>, ends: bool) -> Result<Option<SendStream<Bytes>>, h2::Error> {
    let (head, content) = response.into_parts();
    let (gone, has_gone) = oneshot::channel();
    let mut octets = Bytes::from_owner(Sent { content, _gone: gone });
    let mut stream = respond.send_response(Response::from_parts(head, ()), ends && octets.is_empty())?;
    while !octets.is_empty() {
        let room = room(&mut stream, octets.len()).await?;
        let part = octets.split_to(room.min(octets.len()));
        stream.send_data(part, ends && octets.is_empty())?;
    }
    drop(octets);
    // Nothing is ever said there: it ends.
    let _ = has_gone.await;
    Ok((!ends).then_some(stream))
}

/// How many of these octets the client's windows and our buffer take now; waits until it is one at least.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, h2::Error> {
    stream.reserve_capacity(wanted);
    while stream.capacity() == 0 {
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            // Its client has reset it.
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(stream.capacity())
}

/// Sees to what a client still sends behind its answer, which nobody wants.
///
/// A short body is read, in the time that a message has; a longer one no further than its window goes. Some clients take a reset for an error, whatever was
/// answered before it, so it comes a second later at the earliest: without its handles h2 resets a stream with NO_ERROR, which takes nothing from the answer
/// (RFC 9113 §8.1).
///
/// Where the length was not announced the answer's own end waits as well, until the client has ended, for a second at most: curl 7.88.1 ends its side when it
/// reads an error, and now and then waits for ever when ours had ended before. Where it was announced curl ends too early (§8.1.1), which is a reset by the
/// library: that must find the answer whole.
async fn end(unended: Option<SendStream<Bytes>>, mut body: RecvStream, announced: Option<u64>, patience: Duration) {
    let is_short = announced.is_none_or(|announced| announced <= MAX_IGNORED_LEN as u64);
    let mut left = if is_short { MAX_IGNORED_LEN } else { 0 };
    let ended = timeout(FAREWELL, ignore(&mut body, &mut left)).await;
    let told = unended.map_or(Ok(()), |mut stream| stream.send_data(Bytes::new(), true));
    if ended.is_err() && told.is_ok() && left > 0 {
        let _ = timeout(patience, ignore(&mut body, &mut left)).await;
    }
}

/// Reads to the end of a body; beyond what is `left` the client gets no more windows.
async fn ignore(body: &mut RecvStream, left: &mut usize) {
    while let Some(Ok(octets)) = body.data().await {
        *left = left.saturating_sub(octets.len());
        if *left > 0 && body.flow_control().release_capacity(octets.len()).is_err() {
            return;
        }
    }
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

    fn response(self) -> Response<Content> {
        let mut response = of(self.status, 0);
        if let Some((name, value)) = self.takes {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What the request says before its body: the message of a GET, `None` when it is in the body.
fn head_of(head: &Parts, shared: &Shared) -> Result<Option<Vec<u8>>, Refused> {
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
            if announced(&head.headers).is_some_and(|announced| announced > MAX_MESSAGE_LEN as u64) {
                return Err(StatusCode::PAYLOAD_TOO_LARGE.into());
            }
            Ok(None)
        }
        _ => Err(Refused::but_takes(StatusCode::METHOD_NOT_ALLOWED, ALLOW, "GET, HEAD, POST")),
    }
}

/// What the body holds, as far as so many octets may be kept; nothing when its client has given it up.
async fn body_of(body: &mut RecvStream, mut may_keep: impl FnMut(usize) -> bool) -> Option<Result<Vec<u8>, Refused>> {
    let mut octets = Vec::new();
    while let Some(read) = body.data().await {
        let read = read.ok()?;
        // At once, whatever becomes of it: other streams need the window of the connection.
        body.flow_control().release_capacity(read.len()).ok()?;
        if octets.len() + read.len() > MAX_MESSAGE_LEN {
            return Some(Err(StatusCode::PAYLOAD_TOO_LARGE.into()));
        }
        if !may_keep(octets.len() + read.len()) {
            return Some(Err(StatusCode::SERVICE_UNAVAILABLE.into()));
        }
        octets.extend_from_slice(&read);
    }
    Some(Ok(octets))
}

/// The length of the body, if the client says it; the library holds the body against it (RFC 9113 §8.1.1).
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the client waits for a word before it sends the body (RFC 9110 §10.1.1).
fn expects(headers: &HeaderMap) -> bool {
    let members = headers.get_all(EXPECT).iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    members.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(b"100-continue"))
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
    fn rfc9110_section_10_1_1_expectations() {
        for (expected, is_one) in [
            (&[][..], false),
            (&["100-continue"], true),
            (&["100-Continue"], true),
            (&["x=y, 100-continue"], true),
            (&["x=y", "100-continue"], true),
            (&["100-continues"], false),
            (&[""], false),
        ] {
            let headers = expected.iter().map(|value| (EXPECT, HeaderValue::from_static(value))).collect();
            assert_eq!(expects(&headers), is_one, "{expected:?}");
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
