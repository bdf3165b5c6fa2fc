//! Those who do not mean it. Each ends after its time, and says on stderr how much it did.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, client::conn::http2::handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{Target, client, framed, query, runtime};

/// First datagrams that `half_open` sends again and again; each begins another connection.
const FIRST_DATAGRAMS: usize = 4000;
/// Addresses of loopback that they come from.
const SOURCES: usize = 200;
/// Threads of what waits for the server.
const THREADS: usize = 8;
/// Nobody waits longer for the server.
const PATIENCE: Duration = Duration::from_secs(2);

fn tls(target: Target, protocol: &[u8]) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect_timeout(&target.to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let name = ServerName::try_from("dns.example.net").ok()?;
    let connection = ClientConnection::new(Arc::new(client(protocol)), name).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    Some(stream)
}

/// Keeps so many connections in their handshake: the head of a TLS record, then an octet a second. Those that are ended begin again.
pub(super) fn slow(target: Target) {
    let (began, mut open, mut begun) = (Instant::now(), Vec::new(), 0u64);
    while began.elapsed() < target.time {
        open.retain_mut(|stream: &mut TcpStream| stream.write_all(&[0]).is_ok());
        let round = Instant::now();
        while open.len() < target.connections && round.elapsed() < Duration::from_secs(1) && began.elapsed() < target.time {
            let Ok(mut stream) = TcpStream::connect_timeout(&target.to, PATIENCE) else { continue };
            if stream.write_all(&[22, 3, 1, 2, 0, 1]).is_ok() {
                open.push(stream);
                begun += 1;
            }
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    eprintln!("{} in their handshake at the end, {begun} begun", open.len());
}

/// Opens so many connections, says so, and keeps them.
pub(super) fn idle(target: Target) {
    let open: Vec<_> = (0..target.connections).filter_map(|_| tls(target, b"dot")).collect();
    println!("{} open", open.len());
    std::thread::sleep(target.time);
}

/// Does this again and again in several threads; what it counts.
fn again(target: Target, work: impl Fn(Instant) -> u64 + Sync) -> u64 {
    let (began, count) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                while began.elapsed() < target.time {
                    count.fetch_add(work(began), Relaxed);
                }
            });
        }
    });
    count.load(Relaxed)
}

/// New sessions of TLS 1.3, as fast as the server makes them.
pub(super) fn handshakes(target: Target) {
    eprintln!("{} handshakes", again(target, |_| u64::from(tls(target, b"dot").is_some())));
}

/// First datagrams of real clients, from many addresses, as fast as they go; nobody listens to what comes back.
pub(super) fn half_open(target: Target) {
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sink.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let to = sink.local_addr().expect("an address");
    let collector = std::thread::spawn(move || {
        let (mut all, mut octets) = (Vec::new(), [0; 2000]);
        while all.len() < FIRST_DATAGRAMS {
            let Ok((len, _)) = sink.recv_from(&mut octets) else { break };
            all.push(octets[..len].to_vec());
        }
        all
    });
    runtime().block_on(async {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(client(b"doq")).expect("TLS 1.3");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        while !collector.is_finished() {
            let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("an endpoint");
            let connecting: Vec<_> = (0..100).map(|_| endpoint.connect_with(config.clone(), to, "dns.example.net").expect("started")).collect();
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(connecting);
        }
    });
    let first = collector.join().expect("they were collected");
    println!("ready");
    let source = |at: usize| UdpSocket::bind((Ipv4Addr::new(127, 77, 0, at as u8 + 1), 0)).expect("an address of loopback");
    let sockets: Vec<UdpSocket> = if target.to.ip().is_loopback() { (0..SOURCES).map(source).collect() } else { Vec::new() };
    let (began, mut sent) = (Instant::now(), 0u64);
    while began.elapsed() < target.time {
        for (at, datagram) in first.iter().enumerate() {
            sent += u64::from(sockets[(at + sent as usize / first.len()) % SOURCES].send_to(datagram, target.to).is_ok());
        }
    }
    eprintln!("{sent} first datagrams");
}

/// Half a query on each stream, and a reset, as many streams as the server allows (RFC 9250 §4.3.1).
pub(super) fn streams(target: Target) {
    let (begun, half) = (AtomicU64::new(0), framed(&query(0, 1)));
    runtime().block_on(async {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(client(b"doq")).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).expect("an endpoint");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let began = Instant::now();
        while began.elapsed() < target.time {
            let connecting = endpoint.connect(target.to, "dns.example.net").expect("started");
            let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, connecting).await else { continue };
            while began.elapsed() < target.time {
                let Ok(Ok((mut send, mut receive))) = tokio::time::timeout(PATIENCE, connection.open_bi()).await else { break };
                if send.write_all(&half[..half.len() / 2]).await.is_err() {
                    break;
                }
                let _ = send.reset(3u32.into());
                let _ = receive.stop(3u32.into());
                begun.fetch_add(1, Relaxed);
            }
        }
    });
    eprintln!("{} streams", begun.load(Relaxed));
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Requests that are reset at once ("rapid reset", CVE-2023-44487), a hundred at a time; whoever is thrown out comes back.
pub(super) fn resets(target: Target) {
    let path = format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&query(0, 1)));
    let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
    let fields = [vec![0x82, 0x87], literal(4, &path), literal(1, "dns.example.net")].concat();
    let sent = again(target, |began| {
        let Some(mut stream) = tls(target, b"h2") else { return 0 };
        let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        let (mut sent, mut number) = (0, 1);
        let mut next = begin;
        while began.elapsed() < target.time && number < 1 << 30 && stream.write_all(&next).is_ok() && stream.flush().is_ok() {
            next.clear();
            for _ in 0..100 {
                next.extend(frame(1, 5, number, &fields));
                next.extend(frame(3, 0, number, &8u32.to_be_bytes()));
                (number, sent) = (number + 2, sent + 1);
            }
        }
        sent
    });
    eprintln!("{sent} requests reset");
}

/// Bodies that are too long, of another type, compressed, and no queries, fifty at a time.
pub(super) fn bodies(target: Target) {
    let sent = Arc::new(AtomicU64::new(0));
    let work = async {
        let began = Instant::now();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client(b"h2")));
        while began.elapsed() < target.time {
            let Ok(stream) = tokio::net::TcpStream::connect(target.to).await else { continue };
            let name = ServerName::try_from("dns.example.net").expect("a name");
            let Ok(stream) = connector.connect(name, stream).await else { continue };
            let Ok((sender, connection)) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await else { continue };
            let connection = tokio::spawn(connection);
            let kinds = [("application/dns-message", 200_000), ("application/dns-message", 60_000), ("text/plain", 100_000), ("gzip", 1000)];
            let senders = (0..50).map(|at| {
                let (mut sender, (kind, len), sent) = (sender.clone(), kinds[at % kinds.len()], sent.clone());
                async move {
                    while began.elapsed() < target.time && sender.ready().await.is_ok() {
                        let request = Request::post("https://dns.example.net/dns-query");
                        let request = match kind {
                            "gzip" => request.header("content-type", "application/dns-message").header("content-encoding", kind),
                            kind => request.header("content-type", kind),
                        };
                        let request = request.body(Full::new(Bytes::from(vec![0xff; len]))).expect("a request");
                        let Ok(response) = sender.send_request(request).await else { return };
                        let _ = response.into_body().collect().await;
                        sent.fetch_add(1, Relaxed);
                    }
                }
            });
            senders.collect::<tokio::task::JoinSet<()>>().join_all().await;
            connection.abort();
        }
    };
    runtime().block_on(async { tokio::time::timeout(target.time + PATIENCE, work).await.ok() });
    eprintln!("{} bodies", sent.load(Relaxed));
}

/// Messages over TLS that are no queries: noise of every length, and lengths that do not fit. Whoever is thrown out comes back.
pub(super) fn malformed(target: Target) {
    let sent = again(target, |began| {
        let Some(mut stream) = tls(target, b"dot") else { return 0 };
        let (mut sent, mut noise, mut octets) = (0u64, 0x9e37_79b9_7f4a_7c15u64, [0; 16_384]);
        while began.elapsed() < target.time {
            let mut message = query(1, sent as usize);
            for octet in message.iter_mut().skip(2) {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if noise >> 61 == 0 {
                    *octet = (noise >> 40) as u8;
                }
            }
            // Queries stay queries, so that there is something to read.
            message[2] &= 0x7f;
            if stream.write_all(&framed(&message)).and_then(|()| stream.flush()).is_err() {
                break;
            }
            sent += 1;
            if !stream.read(&mut octets).is_ok_and(|len| len > 0) {
                break;
            }
        }
        sent
    });
    eprintln!("{sent} messages");
}
