//! A small HTTP and HTTPS origin whose behaviour can be switched while it runs. It has a thread and a runtime of its own, so tests of any kind can
//! use it; it stops when dropped, and can be started again on the same address.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian::config::Reach;
use meridian::control::api::CheckSpec;
use meridian::probe::{Means, TlsRoots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The name that good certificates are for.
pub(crate) const HOST: &str = "app.example";

/// The body of a healthy answer.
pub(crate) const BODY: &str = "all systems ready\n";

/// What a check takes that may read every file and run every program.
pub(crate) fn means(spec: &CheckSpec) -> Means {
    let mut means = Means::new(Arc::new(TlsRoots::load(std::slice::from_ref(spec), &TlsRoots::default(), &everything())));
    means.reach = everything();
    means
}

/// Every file and program of this machine.
pub(crate) fn everything() -> Arc<Reach> {
    Arc::new(Reach { exec: true, zones: Some("/".into()), ..Reach::default() })
}

/// What the origin does with the next connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// 200 and [`BODY`].
    Healthy,
    /// This status and [`BODY`].
    Status(u16),
    /// Accepts, then nothing.
    HangAfterAccept,
    /// Takes the request (after TLS where there is any), then nothing.
    HangAfterTls,
    /// 200 and headers, then nothing.
    HangInBody,
    /// Resets at the first byte.
    Reset,
    /// Resets after the request.
    ResetAfterRequest,
    /// Closes after the request.
    CloseAfterRequest,
    /// Closes within the promised body.
    CloseInBody,
    /// 200 and another text.
    WrongBody,
    /// 200 and a byte now and then.
    SlowBody,
    /// 200 and [`BODY`], split in the middle of a word, then open.
    SplitBody,
    /// 200 and bytes as fast as they are taken.
    EndlessBody,
    /// 302 to this location.
    Redirect(String),
    /// Speaks something else.
    NoHttp,
}

/// Which certificate the origin shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    Expired,
    NotYetValid,
    WrongName,
    UnknownCa,
    /// Good for five days, of ninety.
    Ending,
}

/// What the origin has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Connections that the client has closed (or that ended).
    pub(crate) closed: usize,
    /// TLS handshakes that verified everything.
    pub(crate) full_handshakes: usize,
    /// TLS handshakes that resumed an earlier session.
    pub(crate) resumed: usize,
    /// Requests read.
    pub(crate) requests: usize,
    /// Server name of the last handshake.
    pub(crate) sni: Option<String>,
    /// The last request's head.
    pub(crate) head: String,
}

impl Seen {
    /// A header of the last request.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

static NEXT_CA: AtomicUsize = AtomicUsize::new(1);

/// A certificate authority of its own, made afresh.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Its own name: with equal names the signature would be what is wrong.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Test CA {}", NEXT_CA.fetch_add(1, Ordering::Relaxed)));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Authority { issuer, dir }
    }

    /// Its certificate, PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate and its key.
    fn issue(&self, certificate: Certificate) -> (rcgen::Certificate, KeyPair) {
        let stranger = Authority::new_if(certificate == Certificate::UnknownCa);
        let issuer = stranger.as_ref().map_or(&self.issuer, |stranger| &stranger.issuer);
        let name = if certificate == Certificate::WrongName { "other.example" } else { HOST };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        match certificate {
            Certificate::Expired => (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1)),
            Certificate::Ending => {
                let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
                let end = date_time_ymd(1970, 1, 1) + unix + Duration::from_secs(5 * 86_400 + 3_600);
                (params.not_before, params.not_after) = (end - Duration::from_secs(90 * 86_400), end);
            }
            Certificate::NotYetValid => (params.not_before, params.not_after) = (date_time_ymd(2300, 1, 1), date_time_ymd(2301, 1, 1)),
            _ => {}
        }
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, issuer).expect("a certificate"), key)
    }

    /// The same as PEM, for a server that reads files.
    pub(crate) fn pem(&self, certificate: Certificate) -> (String, String) {
        let (signed, key) = self.issue(certificate);
        (signed.pem(), key.serialize_pem())
    }

    fn server_config(&self, certificate: Certificate) -> Arc<ServerConfig> {
        let (signed, key) = self.issue(certificate);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_no_client_auth().with_single_cert(vec![signed.der().clone()], key).expect("a pair");
        // Sessions can be resumed as far as the origin is concerned.
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("a ticketer");
        Arc::new(config)
    }

    fn new_if(wanted: bool) -> Option<Authority> {
        wanted.then(Authority::new)
    }
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    seen: Mutex<Seen>,
    written: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running origin.
pub(crate) struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Origin {
    /// Plain HTTP on `addr` (port 0 for a free one), healthy.
    pub(crate) fn http(addr: &str) -> Origin {
        Origin::start(addr, None)
    }

    /// HTTPS on `addr`, healthy.
    pub(crate) fn https(addr: &str, authority: &Authority, certificate: Certificate) -> Origin {
        Origin::start(addr, Some(authority.server_config(certificate)))
    }

    fn start(addr: &str, tls: Option<Arc<ServerConfig>>) -> Origin {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Healthy),
            tls: Mutex::new(tls),
            seen: Mutex::default(),
            written: AtomicUsize::new(0),
        });
        let listener = std::net::TcpListener::bind(addr).expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let accepting = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, accepting) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From the next connection on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// From the next handshake on.
    pub(crate) fn show(&self, authority: &Authority, certificate: Certificate) {
        *lock(&self.shared.tls) = Some(authority.server_config(certificate));
    }

    /// So far.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// Body bytes that the system took from us.
    pub(crate) fn written(&self) -> usize {
        self.shared.written.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            lock(&shared.seen).connections += 1;
            let _ = serve(stream, &shared).await;
            lock(&shared.seen).closed += 1;
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let behaviour = lock(&shared.behaviour).clone();
    let resets = matches!(behaviour, Behaviour::Reset | Behaviour::ResetAfterRequest);
    if resets {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    let mut stream: Box<dyn Stream> = Box::new(stream);
    match behaviour {
        Behaviour::Reset => return stream.read_u8().await.map(|_| ()),
        Behaviour::HangAfterAccept => return until_closed(&mut stream).await,
        Behaviour::NoHttp => {
            stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await?;
            return until_closed(&mut stream).await;
        }
        _ => {}
    }
    let tls = lock(&shared.tls).clone();
    if let Some(config) = tls {
        let stream_tls = TlsAcceptor::from(config).accept(stream).await?;
        let connection = stream_tls.get_ref().1;
        let mut seen = lock(&shared.seen);
        seen.sni = connection.server_name().map(str::to_owned);
        match connection.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => seen.resumed += 1,
            _ => seen.full_handshakes += 1,
        }
        drop(seen);
        stream = Box::new(stream_tls);
    }
    let head = read_head(&mut stream).await?;
    {
        let mut seen = lock(&shared.seen);
        seen.requests += 1;
        seen.head = head;
    }
    respond(&mut stream, behaviour, shared).await
}

async fn respond(stream: &mut Box<dyn Stream>, behaviour: Behaviour, shared: &Shared) -> io::Result<()> {
    let whole = |status: u16, text: &str| format!("HTTP/1.1 {status} Some Words\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    match behaviour {
        Behaviour::HangAfterTls => return until_closed(stream).await,
        Behaviour::ResetAfterRequest | Behaviour::CloseAfterRequest => return Ok(()),
        Behaviour::Status(status) => stream.write_all(whole(status, BODY).as_bytes()).await?,
        Behaviour::WrongBody => stream.write_all(whole(200, "maintenance").as_bytes()).await?,
        Behaviour::Redirect(location) => {
            stream.write_all(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
        }
        Behaviour::HangInBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nall").await?;
            return until_closed(stream).await;
        }
        Behaviour::CloseInBody => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nall systems").await?,
        Behaviour::SplitBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nall systems re").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(b"ady").await?;
            return until_closed(stream).await;
        }
        Behaviour::SlowBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b".").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Behaviour::EndlessBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            let piece = vec![b'.'; 64 * 1024];
            loop {
                stream.write_all(&piece).await?;
                shared.written.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
        Behaviour::Healthy | Behaviour::Reset | Behaviour::HangAfterAccept | Behaviour::NoHttp => {
            stream.write_all(whole(200, BODY).as_bytes()).await?
        }
    }
    stream.shutdown().await
}

async fn read_head(stream: &mut Box<dyn Stream>) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn until_closed(stream: &mut Box<dyn Stream>) -> io::Result<()> {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

/// A port on loopback where nobody listens at present.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
