//! TLS of checks against a hand-made server: versions, client certificates, TLS within TCP, HTTP/2, gRPC.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian::config::{OsFiles, Severity};
use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::health::{Failure, Outcome, Thresholds, Watch};
use meridian::policy::model::{ClientCertificate, GrpcCheck, HttpCheck, HttpVersion, Monitor, MonitorKind, NamedTls, TcpCheck, TlsCheck, TlsVersion};
use meridian::probe::{Means, TlsRoots, check};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::origin::{HOST, everything, means};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A certificate authority and what it has signed, in a folder.
struct Papers {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Papers {
    fn new() -> Papers {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Papers");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let papers = Papers { dir: tempfile::tempdir().expect("a folder"), issuer };
        std::fs::write(papers.file("ca.pem"), papers.issuer.pem()).expect("written");
        papers
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (CertificateDer<'static>, KeyPair, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        (signed.der().clone(), key, signed.pem())
    }

    /// A client's certificate, in files.
    fn client(&self) -> ClientCertificate {
        let (_, key, pem) = self.sign("prober.example", ExtendedKeyUsagePurpose::ClientAuth);
        let files = ClientCertificate { certificate: self.file("client.pem"), key: self.file("client.key") };
        std::fs::write(&files.certificate, pem).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    fn server(&self, versions: &[&'static SupportedProtocolVersion], wants_client: bool, alpn: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).expect("versions");
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a root");
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key, _) = self.sign(HOST, ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![certificate], key).expect("a pair");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn tls(&self) -> TlsCheck {
        TlsCheck { ca: Some(self.file("ca.pem")), ..TlsCheck::default() }
    }
}

/// Speaks TLS with every client in turn: takes what it says up to an end of line, if it says anything, and answers.
fn talker(config: Arc<ServerConfig>, greets: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(TIMEOUT));
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            while stream.conn.is_handshaking() && stream.conn.complete_io(&mut stream.sock).is_ok() {}
            let mut octet = [0];
            while !greets && stream.read(&mut octet).is_ok_and(|read| read == 1) && octet[0] != b'\n' {}
            let name = stream.conn.server_name().unwrap_or("nobody").to_owned();
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nready for {name}", name.len() + 10).as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            // What it says after that is not lost to a reset.
            while stream.sock.read(&mut [0; 256]).is_ok_and(|read| read > 0) {}
        }
    });
    addr
}

fn spec(addr: SocketAddr, kind: MonitorKind) -> CheckSpec {
    let thresholds = Thresholds { interval: TIMEOUT, fast: TIMEOUT, fall: 3, rise: 3 };
    let monitor = Monitor { name: String::new(), kind, port: addr.port(), thresholds, timeout: TIMEOUT, source: Vec::new(), watch: Watch::default() };
    CheckSpec { target: CheckTarget::Address(addr.ip()), monitor }
}

fn run(addr: SocketAddr, kind: MonitorKind) -> String {
    let spec = spec(addr, kind);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome: Outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

fn https(tls: TlsCheck, version: HttpVersion) -> MonitorKind {
    let check = HttpCheck { path: "/".into(), host: HOST.into(), status: vec![(200, 299)], version, ..HttpCheck::default() };
    MonitorKind::Https { check, tls }
}

fn tcp(tls: TlsCheck, send: Option<&str>, reply: Option<&str>) -> MonitorKind {
    let named = NamedTls { host: HOST.into(), tls };
    MonitorKind::Tcp(TcpCheck { send: send.map(str::to_owned), reply: reply.map(str::to_owned), tls: Some(Box::new(named)) })
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

#[test]
fn tcp_within_tls_talks_and_verifies() {
    let papers = Papers::new();
    let greeter = talker(papers.server(BOTH, false, &[]), true);
    let listener = talker(papers.server(BOTH, false, &[]), false);
    assert_eq!(run(greeter, tcp(papers.tls(), None, None)), "ok");
    assert_eq!(run(greeter, tcp(papers.tls(), None, Some("ready for app.example"))), "ok", "the host is the name that it asks for");
    assert_eq!(run(listener, tcp(papers.tls(), Some("HELLO\r\n"), Some("ready"))), "ok");
    assert!(run(greeter, tcp(papers.tls(), None, Some("other"))).starts_with("answer: found \"HTTP/1.1 200 OK"));
    assert_eq!(run(greeter, tcp(TlsCheck::default(), None, None)), "TLS: certificate from an unknown issuer");
    assert_eq!(run(greeter, tcp(TlsCheck { insecure: true, ..TlsCheck::default() }, None, None)), "ok");
    // Whoever looks at no certificate says nothing of its end.
    let shown = |tls: TlsCheck| {
        let spec = spec(greeter, tcp(tls, None, None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check::run_timed(&spec, &means(&spec))).certificate.is_some()
    };
    assert!(shown(papers.tls()) && !shown(TlsCheck { insecure: true, ..TlsCheck::default() }));
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = plain.local_addr().expect("an address");
    std::thread::spawn(move || plain.accept().map(|(mut stream, _)| stream.write_all(b"220 mail.example ESMTP\r\n")));
    assert_eq!(run(addr, tcp(papers.tls(), None, None)), "TLS: the peer does not speak TLS on this port");
}

#[test]
fn an_old_version_of_tls_fails_where_a_newer_one_is_asked_for() {
    let papers = Papers::new();
    let newer = TlsCheck { min_version: TlsVersion::Tls13, ..papers.tls() };
    let (both, old) = (talker(papers.server(BOTH, false, &[]), true), talker(papers.server(OLD, false, &[]), true));
    for (addr, tls, expected) in [
        (both, papers.tls(), "ok"),
        (old, papers.tls(), "ok"),
        (both, newer.clone(), "ok"),
        (old, newer.clone(), "TLS: the peer sent the alert \"protocol version\""),
    ] {
        assert_eq!(run(addr, tcp(tls.clone(), None, None)), expected, "{tls:?}");
    }
}

#[test]
fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let papers = Papers::new();
    let client = papers.client();
    let with = TlsCheck { client: Some(Box::new(client.clone())), ..papers.tls() };
    let (asks, does_not) = (talker(papers.server(BOTH, true, &[]), false), talker(papers.server(BOTH, false, &[]), false));
    for kind in [|tls: TlsCheck| https(tls, HttpVersion::Http11), |tls: TlsCheck| tcp(tls, Some("x\n"), Some("ready"))] {
        assert_eq!(run(asks, kind(with.clone())), "ok");
        assert_eq!(run(does_not, kind(with.clone())), "ok");
        let without = run(asks, kind(papers.tls()));
        assert!(without.contains("certificate required"), "{without}");
    }
    // The files are read again when they change, and what cannot be used is this machine's fault.
    let spec = spec(asks, https(with, HttpVersion::Http11));
    let first = TlsRoots::load(std::slice::from_ref(&spec), &TlsRoots::default(), &everything());
    assert!(first.is_current());
    std::fs::write(&client.certificate, "rubbish").expect("written");
    assert!(!first.is_current());
    let second = TlsRoots::load(std::slice::from_ref(&spec), &first, &everything());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(check::run(&spec, &Means::new(second.into()))).0;
    assert!(matches!(&outcome, Err(Failure::Internal(why)) if why.contains("client.pem: found no certificate")), "{outcome:?}");
}

/// What an HTTP/2 server answers: the request's version, authority and path, or as gRPC.
async fn answer(request: Request<Incoming>, grpc: Option<&'static str>) -> Result<Response<GrpcBody>, std::convert::Infallible> {
    let head = format!("{:?} {} {}", request.version(), request.uri(), request.headers().get("connection").is_some());
    let Some(status) = grpc else { return Ok(Response::new(GrpcBody { data: Some(head.into()), trailers: None })) };
    let service = {
        use http_body_util::BodyExt;
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned()
    };
    let (code, state) = match (status, &*service) {
        ("serving", "" | "shop.Cart") => ("0", 1),
        ("not serving", _) => ("0", 2),
        _ => ("5", 0),
    };
    let data = (code == "0").then(|| vec![0, 0, 0, 0, 2, 8, state].into());
    let trailers =
        hyper::HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), hyper::header::HeaderValue::from_static(code))]);
    let response = Response::builder().header("content-type", "application/grpc+proto");
    Ok(response.body(GrpcBody { data, trailers: Some(trailers) }).expect("a response"))
}

/// A message and what comes after it.
struct GrpcBody {
    data: Option<hyper::body::Bytes>,
    trailers: Option<hyper::HeaderMap>,
}

impl hyper::body::Body for GrpcBody {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        let frame = self.data.take().map(hyper::body::Frame::data).or_else(|| self.trailers.take().map(hyper::body::Frame::trailers));
        std::task::Poll::Ready(frame.map(Ok))
    }
}

/// An HTTP/2 server, over TLS if it has a configuration for it.
fn http2(tls: Option<Arc<ServerConfig>>, grpc: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |request| answer(request, grpc));
                let tls = tls.clone();
                tokio::spawn(async move {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    match tls {
                        None => builder.serve_connection(TokioIo::new(stream), service).await.ok(),
                        Some(tls) => match tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                            Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await.ok(),
                            Err(_) => None,
                        },
                    }
                });
            }
        });
    });
    addr
}

#[test]
fn http_2_is_spoken_where_it_is_asked_for() {
    let papers = Papers::new();
    let (secure, plain) = (http2(Some(papers.server(BOTH, false, &["h2"])), None), http2(None, None));
    let with_body = |kind: MonitorKind, body: &str| match kind {
        MonitorKind::Https { check, tls } => MonitorKind::Https { check: HttpCheck { body: Some(body.to_owned()), ..check }, tls },
        kind => kind,
    };
    let expected = format!("HTTP/2.0 https://{HOST}:{}/ false", secure.port());
    assert_eq!(run(secure, with_body(https(papers.tls(), HttpVersion::Http2), &expected)), "ok");
    assert_eq!(run(secure, https(papers.tls(), HttpVersion::Http11)), "TLS: the peer sent the alert \"no application protocol\"");
    let plainly = |version| {
        let check = HttpCheck { path: "/".into(), host: HOST.into(), status: vec![(200, 299)], version, ..HttpCheck::default() };
        MonitorKind::Http(check)
    };
    assert_eq!(run(plain, plainly(HttpVersion::Http2)), "ok");
    assert!(run(plain, plainly(HttpVersion::Http11)).starts_with("protocol: "));
}

/// Hears a request over HTTP/2 to the end of its headers, says this, and listens until the client hangs up, so that its words are not lost to a reset.
fn says_over_http2(reply: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(TIMEOUT));
            let (mut preface, mut head) = ([0; 24], [0; 9]);
            let mut goes_on = stream.read_exact(&mut preface).is_ok();
            while goes_on && stream.read_exact(&mut head).is_ok() {
                let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
                // The fourth octet is the type: HEADERS.
                goes_on = stream.read_exact(&mut payload).is_ok() && head[3] != 1;
            }
            let _ = stream.write_all(&reply);
            while stream.read(&mut [0; 256]).is_ok_and(|read| read > 0) {}
        }
    });
    addr
}

#[test]
fn what_goes_wrong_over_http_2_is_told_in_plain_words() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let with_settings = |frame: &[u8]| [&SETTINGS, frame].concat();
    // RFC 9113 §6.4: of stream 1. §6.8: of the connection, stream 1 not being looked at any more.
    let reset = |code: u8| with_settings(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]);
    let goes = |code: u8| with_settings(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code]);
    for (reply, words) in [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(), "protocol: the peer does not speak HTTP/2 on this port"),
        (reset(2), "protocol: the peer broke off the request over HTTP/2 (INTERNAL_ERROR)"),
        (reset(13), "protocol: the peer wants HTTP/1.1 here (HTTP_1_1_REQUIRED)"),
        (goes(11), "protocol: the peer broke off the connection over HTTP/2 (ENHANCE_YOUR_CALM)"),
        // A frame of data for a stream that there is not.
        (with_settings(&[0, 0, 1, 0, 0, 0, 0, 0, 9, 7]), "protocol: the peer breaks the rules of HTTP/2 (PROTOCOL_ERROR)"),
    ] {
        let peer = says_over_http2(reply.clone());
        let check = HttpCheck { path: "/".into(), host: HOST.into(), status: vec![(200, 299)], version: HttpVersion::Http2, ..HttpCheck::default() };
        assert_eq!(run(peer, MonitorKind::Http(check)), words, "{reply:?}");
        let grpc = GrpcCheck { service: String::new(), host: HOST.into(), tls: None };
        assert_eq!(run(peer, MonitorKind::Grpc(grpc)), words, "{reply:?}");
    }
}

#[test]
fn grpc_services_say_how_they_are() {
    let papers = Papers::new();
    let kind = |service: &str, tls: Option<TlsCheck>| MonitorKind::Grpc(GrpcCheck { service: service.into(), host: HOST.into(), tls });
    let (serving, not) = (http2(None, Some("serving")), http2(None, Some("not serving")));
    assert_eq!(run(serving, kind("", None)), "ok");
    assert_eq!(run(serving, kind("shop.Cart", None)), "ok");
    assert_eq!(run(serving, kind("shop.Till", None)), "answer: gRPC status 5 NOT_FOUND");
    assert_eq!(run(not, kind("", None)), "answer: the service is NOT_SERVING, expected SERVING");
    assert_eq!(run(http2(None, None), kind("", None)), "protocol: the peer does not speak gRPC on this port");
    let secure = http2(Some(papers.server(BOTH, false, &["h2"])), Some("serving"));
    assert_eq!(run(secure, kind("shop.Cart", Some(papers.tls()))), "ok");
    assert_eq!(run(secure, kind("", Some(TlsCheck::default()))), "TLS: certificate from an unknown issuer");
    assert_eq!(run(crate::origin::closed_port(), kind("", None)), "connect: connection refused");
}

#[test]
fn keys_of_tls_stand_where_tls_is_spoken() {
    let papers = Papers::new();
    papers.client();
    let pem = |name: &str| format!("{:?}", papers.file(name));
    let (certificate, key) = (pem("client.pem"), pem("client.key"));
    for (monitor, expected) in [
        ("https = \"/\"\nmin_tls = \"1.3\"\nversion = \"2\"".to_owned(), ""),
        (format!("https = \"/\"\nclient_certificate = {certificate}\nclient_key = {key}"), ""),
        (format!("tcp = true\nport = 636\ntls = true\nca = {}\nhost = \"ldap.example\"\nmin_tls = \"1.2\"", pem("ca.pem")), ""),
        ("tcp = true\nport = 636\ntls = true".to_owned(), ""),
        ("grpc = true\nport = 50051".to_owned(), ""),
        ("grpc = \"shop.Cart\"\nport = 443\ntls = true\ninsecure = true".to_owned(), ""),
        ("ping = true".to_owned(), ""),
        ("http = \"/\"\nversion = \"2\"".to_owned(), ""),
        ("https = \"/\"\nmin_tls = \"1.1\"".to_owned(), "expected \"1.2\" or \"1.3\""),
        ("https = \"/\"\nversion = \"3\"".to_owned(), "expected \"1.1\" or \"2\""),
        ("https = \"/\"\ntls = true".to_owned(), "tls belongs to tcp and grpc; this monitor is https"),
        (
            "tcp = true\nport = 25\nca = \"x.pem\"".to_owned(),
            "ca belongs to https and tcp with tls = true and grpc with tls = true and prometheus over https; this monitor is tcp",
        ),
        ("tcp = true\nport = 25\nhost = \"a.example\"".to_owned(), "host belongs to"),
        ("http = \"/\"\nmin_tls = \"1.3\"".to_owned(), "min_tls belongs to https"),
        (format!("https = \"/\"\nclient_certificate = {certificate}"), "client_key is missing"),
        (format!("https = \"/\"\nclient_key = {key}"), "client_certificate is missing"),
        (format!("https = \"/\"\nclient_certificate = {key}\nclient_key = {key}"), "found no certificate in"),
        (format!("https = \"/\"\nclient_certificate = {certificate}\nclient_key = {certificate}"), "found no private key in"),
        ("https = \"/\"\nclient_certificate = \"none.pem\"\nclient_key = \"none.key\"".to_owned(), "cannot be read"),
        ("grpc = true".to_owned(), "port is missing; a grpc check has no usual one"),
        ("grpc = \"\"\nport = 1".to_owned(), "expected true, or the name of a service"),
        ("ping = false".to_owned(), "expected true"),
        ("ping = true\nport = 7".to_owned(), "port belongs to"),
        ("exec = \"/bin/true\"".to_owned(), "[health] exec = true in meridian.toml allows it"),
        ("exec = \"true\"".to_owned(), "expected the program's whole path"),
        ("exec = \"/bin/true\"\nsource = \"192.0.2.1\"".to_owned(), "source belongs to"),
    ] {
        let zone = format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\n{monitor}\n\
             [pool.p]\nendpoints = [\"192.0.2.1\"]\nmonitor = \"m\"\n[steer.www]\nuse = \"p\"\n"
        );
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("zones")).expect("a folder");
        let config = format!("[zones]\nmay_read = [{:?}]\n", papers.file("ca.pem").parent().expect("a folder"));
        std::fs::write(dir.path().join("meridian.toml"), config).expect("written");
        std::fs::write(dir.path().join("zones/example.com.toml"), zone).expect("written");
        let loaded = meridian::config::load(&OsFiles, &dir.path().join("meridian.toml"));
        let found: Vec<String> = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new(), "{monitor}"),
            expected => assert!(found.iter().any(|found| found.contains(expected)), "{monitor}: {found:?}"),
        }
    }
}
