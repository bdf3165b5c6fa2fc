//! DNS over HTTPS as HTTP: what is no query, bodies that nobody waits for, what caches may keep.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::encrypted::{Served, config, query, runtime};
use crate::meridian::PATIENCE;

#[test]
fn rfc8484_what_is_no_query_is_told() {
    let served = Served::start("message = \"500ms\"");
    let asked = query("www.example.com", 1, &[]);
    let encoded = BASE64URL_NOPAD.encode(&asked);
    let mut response = asked.clone();
    response[2] |= 0x80;
    let message = "Content-Type: application/dns-message";
    let (long, far_too_long) = (vec![0; 300_000], vec![0; 5 << 20]);
    for (what, path, args, body, status) in [
        ("another path", "/", &[][..], None, 404),
        ("another path with a query", &*format!("/dns?dns={encoded}"), &[], None, 404),
        ("no query", "/dns-query", &[], None, 400),
        ("an empty query", "/dns-query?dns=", &[], None, 400),
        ("no base64url", "/dns-query?dns=***", &[], None, 400),
        ("padding", &format!("/dns-query?dns={encoded}="), &[], None, 400),
        ("a response", &format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(&response)), &[], None, 400),
        ("percent-encoding", &format!("/dns-query?dns=%41{}", &encoded[1..]), &[], None, 200),
        ("other keys", &format!("/dns-query?ct=x&dns={encoded}"), &[], None, 200),
        ("another method", "/dns-query", &["-X", "DELETE"], None, 405),
        ("another type", "/dns-query", &["-H", "Content-Type: text/plain"], Some(&asked[..]), 415),
        ("no type", "/dns-query", &["-H", "Content-Type:"], Some(&asked), 415),
        ("a parameter of the type", "/dns-query", &["-H", "Content-Type: application/dns-message; charset=x"], Some(&asked), 200),
        ("nothing accepted", "/dns-query", &["-H", message, "-H", "Accept: application/dns-json"], Some(&asked), 406),
        ("too long", "/dns-query", &["-H", message], Some(&long), 413),
        ("far too long", "/dns-query", &["-H", message], Some(&far_too_long), 413),
        ("far too long, of another type", "/dns-query", &["-H", "Content-Type: text/plain"], Some(&far_too_long), 415),
        ("too long without a word", "/dns-query", &["-X", "POST", "-H", message, "-T", "-"], Some(&long[..70_000]), 413),
        ("much too long without a word", "/dns-query", &["-X", "POST", "-H", message, "-T", "-"], Some(&long), 413),
        ("far too long without a word", "/dns-query", &["-X", "POST", "-H", message, "-T", "-"], Some(&far_too_long), 413),
        ("who asks whether to send it", "/dns-query", &["-H", message, "-H", "Expect: 100-continue"], Some(&asked), 200),
        (
            "who asks and does not say how long",
            "/dns-query",
            &["-X", "POST", "-H", message, "-H", "Expect: 100-continue", "-T", "-"],
            Some(&asked),
            200,
        ),
        ("who asks and need not send it", "/dns-query", &["-H", message, "-H", "Expect: 100-continue"], Some(&far_too_long), 413),
        ("too short", "/dns-query", &["-H", message], Some(&asked[..5]), 400),
        ("two types", "/dns-query", &["-H", message, "-H", "content-type: text/plain"], Some(&asked), 415),
        ("nothing accepted in so many words", "/dns-query", &["-H", message, "-H", "Accept;"], Some(&asked), 200),
        ("malformed, but with a question", "/dns-query", &["-H", message], Some(&asked[..asked.len() - 1]), 200),
    ] {
        assert_eq!(served.curl(path, args, body).0, status, "{what}");
    }
    // All header fields have 16 KiB (RFC 6585 §5); of those that go on and on the connection is ended.
    assert_eq!(served.curl(&format!("/dns-query?dns={}", "A".repeat(12_000)), &[], None).0, 200, "zeros are a query");
    assert_eq!(served.curl(&format!("/dns-query?dns={}", "A".repeat(20_000)), &[], None).0, 431);
    // curl would complain of a body.
    let (status, headers, _) = served.curl(&format!("/dns-query?dns={encoded}"), &["--head"], None);
    assert!(status == 200 && headers.contains(&format!("content-length: {}\r\n", served.over_get(&asked).len())), "{headers}");
    assert!(served.curl("/dns-query", &["-X", "DELETE"], None).1.contains("allow: get, head, post"));
}

/// A body that is sent up to here and goes on for ever; it tells when nobody wants more of it.
pub struct Endless {
    first: Option<Bytes>,
    announced: Option<u64>,
    dropped: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Endless {
    /// These octets, and no end.
    pub fn of(octets: &[u8]) -> Endless {
        Endless { first: Some(Bytes::copy_from_slice(octets)), announced: None, dropped: None }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.first.take().map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(Frame::data(first)))))
    }

    fn is_end_stream(&self) -> bool {
        self.announced == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.dropped.take().map(|dropped| dropped.send(()));
    }
}

/// A connection for HTTP/2.
async fn tls(served: &Served) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(served.https).await.expect("a connection");
    let name = ServerName::try_from("dns.example.net").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(served.client(Some(b"h2"))));
    connector.connect(name, stream).await.expect("TLS")
}

/// A connection over HTTP/2.
pub async fn http2(served: &Served) -> SendRequest<Endless> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls(served).await)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A connection over HTTP/2 whose streams take nothing, and what drives it.
pub async fn shut(served: &Served) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(0).handshake(tls(served).await).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

/// The status of a GET with this query.
pub async fn get(client: &mut SendRequest<Endless>, query: &[u8]) -> u16 {
    let body = Endless { first: Some(Bytes::new()), announced: Some(0), dropped: None };
    let uri = format!("https://dns.example.net/dns-query?dns={}", BASE64URL_NOPAD.encode(query));
    let response = client.send_request(Request::get(uri).body(body).expect("a request")).await.expect("a reply");
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("its body");
    status
}

/// What the header fields say is answered before the body has come, and the client is told to stop (RFC 9113 §8.1). Nothing waits for `message`.
#[test]
fn rfc9113_section_8_1_answers_come_before_bodies_that_nobody_wants() {
    let served = Served::start("message = \"5m\"");
    let asked = query("www.example.com", 1, &[]);
    let get = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(&asked));
    let (message, text) = ("application/dns-message", "text/plain");
    // Method, path, type; octets announced, octets sent; the status, and whether the rest is refused (else it is waited for, in case it is short).
    for (what, method, path, kind, announced, sent, status, stops) in [
        ("another path", "POST", "/", message, Some(1 << 30), 0, 404, true),
        ("another type", "POST", "/dns-query", text, Some(1 << 30), 1000, 415, true),
        ("a coding", "POST", "/dns-query", "gzip", Some(1 << 30), 1000, 415, true),
        ("too long", "POST", "/dns-query", message, Some(1 << 30), 0, 413, true),
        ("too long by one", "POST", "/dns-query", message, Some(65_536), 0, 413, false),
        ("too long without a word", "POST", "/dns-query", message, None, 70_000, 413, false),
        ("far too long without a word", "POST", "/dns-query", message, None, 2 << 20, 413, true),
        ("another method", "DELETE", "/dns-query", message, None, 0, 405, false),
        ("a body of a GET", "GET", &get, message, Some(1 << 30), 0, 200, true),
        ("a short body of a GET", "GET", &get, message, Some(100), 0, 200, false),
    ] {
        runtime().block_on(async {
            let mut client = http2(&served).await;
            let (dropped, mut is_dropped) = tokio::sync::oneshot::channel();
            let body = Endless { first: Some(Bytes::from(vec![0; sent])), announced, dropped: Some(dropped) };
            let request = Request::builder().method(method).uri(format!("https://dns.example.net{path}"));
            let request = match kind {
                "gzip" => request.header("content-type", message).header("content-encoding", kind),
                kind => request.header("content-type", kind),
            };
            let response = timeout(PATIENCE, client.send_request(request.body(body).expect("a request"))).await;
            let response = response.unwrap_or_else(|_| panic!("{what}: it waits")).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(response.status(), status, "{what}");
            response.into_body().collect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            if stops {
                timeout(PATIENCE, &mut is_dropped).await.unwrap_or_else(|_| panic!("{what}: it goes on")).expect("it says so");
            } else {
                assert!(is_dropped.try_recv().is_err(), "{what}: cut off");
            }
            // The connection goes on.
            assert_eq!(self::get(&mut client, &asked).await, 200, "{what}");
        });
    }
}

/// Who waits for a word before it sends the body gets 100, and its answer when it has sent it; or the answer at once where the header fields say enough.
#[test]
fn rfc9110_section_10_1_1_whoever_asks_whether_to_send_is_told() {
    let served = Served::start("message = \"5m\"");
    let asked = query("www.example.com", 1, &[]);
    let (message, length) = ("application/dns-message", asked.len().to_string());
    for (what, path, kind, expect, announced, is_wanted, status) in [
        ("a query", "/dns-query", message, Some("100-continue"), Some(&*length), true, 200),
        ("without a length", "/dns-query", message, Some("100-Continue"), None, true, 200),
        ("with another expectation", "/dns-query", message, Some("x=y, 100-continue"), None, true, 200),
        ("who does not ask", "/dns-query", message, None, Some(&length), false, 200),
        ("another path", "/", message, Some("100-continue"), Some(&length), false, 404),
        ("another type", "/dns-query", "text/plain", Some("100-continue"), None, false, 415),
        ("too long", "/dns-query", message, Some("100-continue"), Some("65536"), false, 413),
    ] {
        runtime().block_on(async {
            let (mut client, connection) = h2::client::handshake(tls(&served).await).await.expect("HTTP/2");
            tokio::spawn(connection);
            let mut request = Request::post(format!("https://dns.example.net{path}")).header("content-type", kind);
            request = expect.into_iter().fold(request, |request, value| request.header("expect", value));
            request = announced.into_iter().fold(request, |request, value| request.header("content-length", value));
            let (mut response, mut body) = client.send_request(request.body(()).expect("a request"), false).expect("sent");
            if is_wanted {
                let first = timeout(PATIENCE, std::future::poll_fn(|context| response.poll_informational(context))).await;
                let first = first.unwrap_or_else(|_| panic!("{what}: it waits")).expect("a word").unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(first.status(), 100, "{what}");
            }
            if status == 200 {
                body.send_data(Bytes::from(asked.clone()), true).expect("sent");
            }
            if !is_wanted {
                let others = timeout(PATIENCE, std::future::poll_fn(|context| response.poll_informational(context))).await;
                assert!(matches!(others, Ok(None)), "{what}: {others:?}");
            }
            let response = timeout(PATIENCE, response).await.unwrap_or_else(|_| panic!("{what}: it waits")).expect("a response");
            assert_eq!(response.status(), status, "{what}");
            assert!(response.headers().contains_key("date"), "{what}: {response:?}");
        });
    }
}

#[test]
fn rfc9110_section_12_5_3_codings_are_refused() {
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    let message = "Content-Type: application/dns-message";
    for (coding, status) in [("gzip", 415), ("br, identity", 415), ("identity", 200)] {
        let (found, headers, _) = served.curl("/dns-query", &["-H", message, "-H", &format!("Content-Encoding: {coding}")], Some(&asked));
        assert_eq!(found, status, "{coding}");
        let told = (headers.contains("accept-encoding: identity\r\n"), headers.contains("accept: "));
        assert_eq!(told, (status == 415, false), "{coding}: {headers}");
    }
    let (_, headers, _) = served.curl("/dns-query", &["-H", "Content-Type: text/plain"], Some(&asked));
    assert!(headers.contains("accept: application/dns-message\r\n") && !headers.contains("accept-encoding"), "{headers}");
}

#[test]
fn rfc8484_section_5_1_freshness_is_the_least_ttl() {
    let served = Served::start("");
    for (name, rtype, caching) in [
        ("www.example.com", 1, "cache-control: max-age=300"),
        ("app.example.com", 1, "cache-control: private, max-age=20"),
        ("nowhere.example.com", 1, "cache-control: max-age=60"),
        ("example.org", 1, "cache-control: max-age=0"),
    ] {
        let encoded = BASE64URL_NOPAD.encode(&query(name, rtype, &[]));
        let (_, headers, _) = served.curl(&format!("/dns-query?dns={encoded}"), &[], None);
        assert!(headers.contains(&format!("{caching}\r\n")), "{name}: {headers}");
    }
}

/// What depends on who asks is not for others: neither what was chosen for a client, nor a cookie, nor what operators alone are told.
#[test]
fn rfc8484_section_5_1_what_is_for_one_client_stays_with_it() {
    // Cookie (10) of a client.
    let cookie = b"\0\x0a\0\x0812345678";
    let denied = format!("{}[diagnostics]\nallow = []\n", config(""));
    for (configured, why) in [(config(""), 0), (denied, 3)] {
        let served = Served::with(&configured, &["dns.example.net", "127.0.0.1"]);
        for (name, rtype, options, rcode, caching) in [
            ("www.example.com", 1, &[][..], 0, "cache-control: max-age=300"),
            ("www.example.com", 1, cookie, 0, "cache-control: private, max-age=300"),
            ("app.example.com", 1, &[], 0, "cache-control: private, max-age=20"),
            // The other pool has such addresses: NODATA of this class of clients.
            ("app.example.com", 28, &[], 0, "cache-control: private, max-age=60"),
            ("app.example.com", 15, &[], 0, "cache-control: max-age=60"),
            ("_why.app.example.com", 16, &[], why, "cache-control: no-store"),
            ("_why.nowhere.example.com", 16, &[], 3, "cache-control: no-store"),
            ("_why.app.example.com", 1, &[], 3, "cache-control: max-age=60"),
        ] {
            let encoded = BASE64URL_NOPAD.encode(&query(name, rtype, options));
            let (_, headers, body) = served.curl(&format!("/dns-query?dns={encoded}"), &[], None);
            assert_eq!(body[3] & 15, rcode, "{name} {rtype}");
            assert!(headers.contains(&format!("{caching}\r\n")), "{name} {rtype}: {headers}");
        }
    }
}
