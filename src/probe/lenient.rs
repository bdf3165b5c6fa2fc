//! What checks bear with, against sockets that say just that: folded header lines, many headers, a question that comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::check::{Means, run};
use crate::control::api::{CheckSpec, CheckTarget};
use crate::dns::{Name, Rcode, RecordType};
use crate::health::{Thresholds, Watch};
use crate::policy::model::{DnsCheck, HttpCheck, HttpVersion, Monitor, MonitorKind};

fn spec(at: SocketAddr, kind: MonitorKind, timeout: Duration) -> CheckSpec {
    let thresholds = Thresholds { interval: timeout, fast: timeout, fall: 1, rise: 1 };
    let monitor = Monitor { name: String::new(), kind, port: at.port(), thresholds, timeout, source: Vec::new(), watch: Watch::default() };
    CheckSpec { target: CheckTarget::Address(at.ip()), monitor }
}

fn web(version: HttpVersion) -> MonitorKind {
    MonitorKind::Http(HttpCheck { path: "/".into(), host: "app.example.com".into(), status: vec![(200, 299)], version, ..HttpCheck::default() })
}

/// How a check goes, in words.
async fn words(at: SocketAddr, kind: MonitorKind, timeout: Duration) -> String {
    run(&spec(at, kind, timeout), &Means::new(Arc::default())).await.0.map_or_else(|failure| failure.to_string(), |()| "passed".into())
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn folded_header_lines_are_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a check");
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Old: one\r\n two\r\n\tthree\r\nContent-Length: 0\r\n\r\n").await;
    });
    assert_eq!(words(at, web(HttpVersion::Http11), PATIENCE).await, "passed");
    origin.await.expect("it has answered");
}

#[tokio::test]
async fn over_http_2_sixty_kilobytes_of_headers_are_read_and_no_more_than_the_limit() {
    for (headers, expected) in [(60, "passed"), (80, "protocol: the response has more than 64 KiB of headers, which is the limit here")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let origin = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a check");
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((_, mut reply))) = connection.accept().await {
                let mut response = hyper::http::Response::builder().status(200);
                for at in 0..headers {
                    response = response.header(format!("x-{at}"), "v".repeat(960));
                }
                let _ = reply.send_response(response.body(()).expect("a response"), true);
            }
        });
        let found = words(at, web(HttpVersion::Http2), PATIENCE).await;
        assert!(found.starts_with(expected), "{headers}: {found}");
        origin.abort();
    }
}

#[tokio::test]
async fn a_question_that_comes_back_is_no_answer() {
    let kind = || MonitorKind::Dns(DnsCheck { name: Name::root(), rtype: RecordType::SOA, rcode: Rcode::NOERROR, answer: None });
    for answers in [true, false] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let at = socket.local_addr().expect("an address");
        let echo = tokio::spawn(async move {
            let mut packet = [0; 512];
            let (len, from) = socket.recv_from(&mut packet).await.expect("a question");
            let _ = socket.send_to(&packet[..len], from).await;
            if answers {
                packet[2] |= 0x80;
                let _ = socket.send_to(&packet[..len], from).await;
            }
        });
        let (timeout, expected) = if answers { (PATIENCE, "passed") } else { (Duration::from_millis(300), "timeout during response") };
        assert_eq!(words(at, kind(), timeout).await, expected, "{answers}");
        echo.await.expect("it has sent it back");
    }
}
