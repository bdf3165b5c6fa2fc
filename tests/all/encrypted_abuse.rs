//! What encrypted transports withstand: handshakes that never end, connections that say nothing, floods of streams, sessions of other clients.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::encrypted::{Served, ask_quic, config, framed, query, runtime};
use crate::encrypted_http::{Endless, http2, shut};
use crate::meridian::PATIENCE;

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn handshakes_that_never_end_are_ended() {
    let served = Served::start("handshake = \"2s\"");
    let asked = query("www.example.com", 1, &[]);
    let quiet: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(served.tls).expect("a connection")).collect();
    // The head of a TLS record, and then nothing; and what is no TLS at all.
    let mut slow = TcpStream::connect(served.https).expect("a connection");
    slow.write_all(&[22, 3, 1, 2, 0]).expect("sent");
    let mut plain = TcpStream::connect(served.https).expect("a connection");
    plain.write_all(b"GET /dns-query HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    assert!(!framed(&mut served.connect(served.tls, Some(b"dot")), &asked).is_empty(), "others are served meanwhile");
    for mut stream in quiet.into_iter().chain([slow, plain]) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // An alert, perhaps, and the end.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let timed_out = |transport: &str| served.metric(&format!("meridian_encrypted_timed_out_total{{transport=\"{transport}\"}}"));
    until("deadlines", || (timed_out("tls"), timed_out("https")) == (20, 1));
    assert_eq!(served.metric("meridian_encrypted_handshake_errors_total{transport=\"https\"}"), 1);
    until("all are gone", || served.metric("meridian_encrypted_connections{transport=\"tls\"}") == 0);
}

#[test]
fn connections_that_have_lived_long_enough_end_in_order() {
    // Time enough for two handshakes and a query on a machine that has much else to do.
    let served = Served::start("lifetime = \"6s\"\nidle = \"1m\"");
    let (mut over_tls, mut quiet) = (served.connect(served.tls, Some(b"dot")), served.connect(served.https, Some(b"h2")));
    assert!(!framed(&mut over_tls, &query("www.example.com", 1, &[])).is_empty());
    quiet.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    let mut rest = Vec::new();
    // Without close_notify that would be an error (RFC 8446 §6.1).
    assert_eq!(over_tls.read_to_end(&mut rest).expect("close_notify"), 0);
    // It asks whether its GOAWAY has come, and leaves whoever does not say.
    let _ = quiet.read_to_end(&mut rest);
    // GOAWAY, which says that no error made it (RFC 9113 §6.8).
    assert!(rest.windows(17).any(|frame| frame[..9] == [0, 0, 8, 7, 0, 0, 0, 0, 0] && frame[13..] == [0; 4]), "{rest:?}");
}

#[test]
fn a_client_with_too_many_connections_loses_its_quietest() {
    let served = Served::start("connections = 100\nconnections_per_client = 8");
    let asked = query("www.example.com", 1, &[]);
    let mut busy = served.connect(served.tls, Some(b"dot"));
    let mut others = Vec::new();
    for _ in 0..30 {
        let mut stream = served.connect(served.tls, Some(b"dot"));
        assert!(!framed(&mut stream, &asked).is_empty());
        others.push(stream);
        assert!(!framed(&mut busy, &asked).is_empty(), "who asks stays");
    }
    assert_eq!(served.metric("meridian_encrypted_connections{transport=\"tls\"}"), 8);
    assert_eq!(served.metric("meridian_encrypted_evicted_total{transport=\"tls\"}"), 23);
    runtime().block_on(async {
        let mut zero = asked.clone();
        zero[..2].fill(0);
        let mut connections = Vec::new();
        for _ in 0..12 {
            let connection = served.quic().await;
            assert!(ask_quic(&connection, &zero).await.is_ok());
            connections.push(connection);
        }
        // DOQ_EXCESSIVE_LOAD.
        assert_eq!(closed(&connections[0]).await, (4, "too many connections".to_owned()));
        assert!(connections[11].close_reason().is_none());
    });
    // The others hear of it as well: close_notify, without which this would be an error, and GOAWAY.
    assert_eq!(others[0].read_to_end(&mut Vec::new()).ok(), Some(0));
    let mut quietest = served.connect(served.https, Some(b"h2"));
    quietest.write_all(&[windows(65_535, 1 << 20), request(1, "GET", &asked)].concat()).expect("sent");
    let mut first = [0; 1];
    quietest.read_exact(&mut first).expect("its settings");
    for _ in 0..8 {
        served.over_get(&asked);
        others.push(served.connect(served.https, Some(b"h2")));
        others.last_mut().expect("it is there").write_all(&windows(65_535, 1 << 20)).expect("sent");
        others.last_mut().expect("it is there").read_exact(&mut first).expect("its settings");
    }
    let mut came = first.to_vec();
    quietest.read_to_end(&mut came).expect("close_notify");
    assert_eq!(goodbyes(&came), [ENHANCE_YOUR_CALM]);
}

/// Connections that are at work, but quiet, stay while others begin handshakes that never end, and whoever means it is served meanwhile.
#[test]
fn handshakes_that_never_end_push_out_each_other() {
    let served = Served::start("connections = 64\nconnections_per_client = 64\nidle = \"5m\"\nhandshake = \"5m\"");
    let asked = query("www.example.com", 1, &[]);
    let mut quiet: Vec<_> = (0..40).map(|_| served.connect(served.tls, Some(b"dot"))).collect();
    quiet.iter_mut().for_each(|stream| drop(framed(stream, &asked)));
    let mut unfinished = Vec::new();
    for _ in 0..10 {
        unfinished.extend((0..30).map(|_| TcpStream::connect(served.tls).expect("a connection")));
        assert!(!framed(&mut served.connect(served.tls, Some(b"dot")), &asked).is_empty());
    }
    for stream in &mut quiet {
        assert!(!framed(stream, &asked).is_empty(), "it was at work");
    }
    let metric = |name: &str| served.metric(&format!("meridian_encrypted_{name}{{transport=\"tls\"}}"));
    until("whoever was served leaves", || metric("accepted_total") == 350 && metric("connections") == 40 + metric("handshakes"));
    assert!((8..=24).contains(&metric("handshakes")));
    assert_eq!(metric("evicted_total"), metric("evicted_handshakes_total"));
}

#[test]
fn idle_and_unfinished_connections_end() {
    let served = Served::start("idle = \"2s\"\nmessage = \"1s\"");
    let asked = query("www.example.com", 1, &[]);
    let mut idle = served.connect(served.tls, Some(b"dot"));
    assert!(!framed(&mut idle, &asked).is_empty());
    let mut unfinished = served.connect(served.tls, Some(b"dot"));
    unfinished.write_all(&[255, 255, 0]).expect("sent");
    // What gets no answer keeps nothing open: responses, and a message that is too short for one.
    let mut useless = served.connect(served.tls, Some(b"dot"));
    let mut response = query("www.example.com", 1, &[]);
    response[2] |= 0x80;
    let useless_until = Instant::now() + PATIENCE;
    while useless.write_all(&[&(response.len() as u16).to_be_bytes()[..], &response].concat()).and_then(|()| useless.flush()).is_ok() {
        assert!(Instant::now() < useless_until, "it ends");
        std::thread::sleep(Duration::from_millis(200));
    }
    for stream in [&mut idle, &mut unfinished] {
        let mut rest = Vec::new();
        // close_notify, so this is no error.
        assert_eq!(stream.read_to_end(&mut rest).ok(), Some(0));
    }
    until("deadlines", || served.metric("meridian_encrypted_timed_out_total{transport=\"tls\"}") == 3);
    runtime().block_on(async {
        let connection = served.quic().await;
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&[0, 29, 0]).await.expect("sent");
        let stopped = receive.read_to_end(100).await;
        assert!(stopped.is_err(), "{stopped:?}");
        // Both ends know when it is idle (`max_idle_timeout`); whoever is first ends it.
        let end = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("an end");
        assert!(matches!(end, quinn::ConnectionError::TimedOut | quinn::ConnectionError::ApplicationClosed(_)), "{end}");
    });
}

/// The code and the reason with which the server ends a connection.
pub async fn closed(connection: &quinn::Connection) -> (u64, String) {
    let error = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("an end");
    let quinn::ConnectionError::ApplicationClosed(closed) = error else { panic!("{error}") };
    (closed.error_code.into_inner(), String::from_utf8_lossy(&closed.reason).into_owned())
}

/// Packets are not queries: PINGs keep nothing open, and whoever asks stays.
#[test]
fn idle_over_quic_is_to_ask_nothing() {
    let served = Served::start("idle = \"1s\"\nlifetime = \"1h\"");
    let mut asked = query("www.example.com", 1, &[]);
    asked[..2].fill(0);
    runtime().block_on(async {
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_millis(100)));
        let connection = served.quic_with(served.quic, transport).await;
        let (began, mut last) = (Instant::now(), Instant::now());
        while began.elapsed() < Duration::from_millis(2500) {
            match ask_quic(&connection, &asked).await {
                Ok(_) => last = Instant::now(),
                Err(error) => assert!(last.elapsed() >= Duration::from_secs(1), "it asked {:?} ago: {error}", last.elapsed()),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(closed(&connection).await, (0, "idle".to_owned()));
        assert!(connection.stats().frame_tx.ping > 0, "{:?}", connection.stats());
    });
    assert_eq!(served.metric("meridian_encrypted_timed_out_total{transport=\"quic\"}"), 1);
}

/// Datagrams that begin a connection and come from everywhere, as far as anybody can tell; those that begin nothing; and garbage.
#[test]
fn half_open_quic_is_bounded() {
    let served = Served::start("connections = 64\nconnections_per_client = 64");
    let mut first = vec![0u8; 1200];
    // A long header of version 1 with connection IDs of 8 octets: an Initial that cannot be decrypted.
    first[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    let sockets: Vec<UdpSocket> = (0..50).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
    for round in 0..40u8 {
        for (at, socket) in sockets.iter().enumerate() {
            first[6..14].copy_from_slice(&[round, at as u8, 1, 2, 3, 4, 5, 6]);
            let _ = socket.send_to(&first, served.quic);
            let _ = socket.send_to(&first[..40], served.quic);
            let _ = socket.send_to(&[0x40; 64], served.quic);
        }
    }
    let mut asked = query("www.example.com", 1, &[]);
    asked[..2].fill(0);
    assert!(!served.over_quic(&asked).is_empty(), "whoever means it is served");
    assert!(served.metric("meridian_encrypted_connections{transport=\"quic\"}") <= 64);
    assert!(!served.over_udp(&query("www.example.com", 1, &[])).is_empty());
}

/// Where half of the places are taken, clients prove their address: what comes from the server first is a Retry (RFC 9000 §17.2.5).
#[test]
fn rfc9000_section_8_1_2_addresses_are_proved_where_it_is_crowded() {
    let served = Served::start("connections = 4\nconnections_per_client = 4");
    let asked = {
        let mut asked = query("www.example.com", 1, &[]);
        asked[..2].fill(0);
        asked
    };
    // The kind of the first packet that the server sends to a new client, by what stands between.
    let first_answer = || {
        let relay = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        relay.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let (through, server) = (relay.local_addr().expect("an address"), served.quic);
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let until = stop.clone();
        let pass = std::thread::spawn(move || {
            let (mut client, mut first, mut octets) = (None, None, vec![0; 65_536]);
            while !until.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((len, from)) = relay.recv_from(&mut octets) else { continue };
                if from == server {
                    first = first.or(Some(octets[0] & 0xf0));
                    let _ = relay.send_to(&octets[..len], client.expect("a client"));
                } else {
                    client = Some(from);
                    let _ = relay.send_to(&octets[..len], server);
                }
            }
            first.expect("the server answered")
        });
        let connection = served.quic_at(through);
        let reply = runtime().block_on(async { ask_quic(&connection.await, &asked).await });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let first = pass.join().expect("it passed everything on");
        assert!(reply.is_ok(), "{reply:?}");
        first
    };
    const RETRY: u8 = 0xf0;
    assert_ne!(first_answer(), RETRY, "an empty server believes");
    let crowd = runtime();
    let kept: Vec<quinn::Connection> = crowd.block_on(async {
        let mut kept = Vec::new();
        for _ in 0..2 {
            kept.push(served.quic().await);
        }
        kept
    });
    assert_eq!(first_answer(), RETRY);
    drop(kept);
}

/// A client that asks and asks on one connection, and reads nothing: it is cut off, and others do not notice.
#[test]
fn who_does_not_read_is_cut_off() {
    let served = Served::start("write = \"300ms\"\nidle = \"2s\"");
    let asked = query("big.example.com", 16, &[]);
    let framed_query = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
    let mut deaf = served.connect(served.tls, Some(b"dot"));
    let many = framed_query.repeat(2000);
    let began = Instant::now();
    while deaf.write_all(&many).is_ok() && deaf.flush().is_ok() {
        assert!(began.elapsed() < PATIENCE, "it takes no end");
    }
    until("the deadline", || served.metric("meridian_encrypted_timed_out_total{transport=\"tls\"}") == 1);
    assert!(!framed(&mut served.connect(served.tls, Some(b"dot")), &asked).is_empty());
}

const ENHANCE_YOUR_CALM: u32 = 11;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS_INITIAL_WINDOW_SIZE, and a window for the whole connection.
pub fn windows(stream: u32, connection: u32) -> Vec<u8> {
    let settings = frame(4, 0, 0, &[&[0, 4][..], &stream.to_be_bytes()].concat());
    [PREFACE, &settings, &frame(8, 0, 0, &connection.to_be_bytes())].concat()
}

/// A request without a body, its fields as literals (RFC 7541 §6.2.2).
pub fn request(stream: u32, method: &str, query: &[u8]) -> Vec<u8> {
    let path = format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(query));
    let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
    frame(1, 0x05, stream, &[literal(2, method), vec![0x87], literal(4, &path), literal(1, "dns.example.net")].concat())
}

/// Asks on and on; how long it took until the server had enough of it, and what it said.
fn asks_until_cut_off(served: &Served, begin: &[u8], mut next: impl FnMut(u32) -> Vec<u8>) -> (Duration, Vec<u8>) {
    let mut stream = served.connect(served.https, Some(b"h2"));
    stream.write_all(begin).expect("sent");
    let began = Instant::now();
    let has_had_enough = || served.metric("meridian_encrypted_timed_out_total{transport=\"https\"}") == 1;
    for number in (1..).step_by(2) {
        if stream.write_all(&next(number)).and_then(|()| stream.flush()).is_err() || has_had_enough() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it takes no end");
    }
    let took = began.elapsed();
    until("the deadline", has_had_enough);
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came);
    (took, came)
}

/// A client whose streams take nothing while the connection lives on: its replies are not kept for ever.
#[test]
fn who_keeps_streams_shut_is_cut_off() {
    let served = Served::start("write = \"500ms\"\nidle = \"1m\"");
    let asked = query("www.example.com", 1, &[]);
    let begin = [windows(0, 1 << 20), request(1, "GET", &asked)].concat();
    // What has no body needs no window, so the connection is never quiet.
    let (took, came) = asks_until_cut_off(&served, &begin, |stream| request(stream + 2, "HEAD", &asked));
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert_eq!(goodbyes(&came), [ENHANCE_YOUR_CALM], "it is told");
    assert_eq!(served.curl("/dns-query", &["-H", "Content-Type: application/dns-message"], Some(&asked)).0, 200);
}

/// A client that takes nothing from its socket, with every window of HTTP/2 wide open.
#[test]
fn who_does_not_read_http_is_cut_off() {
    let served = Served::start("write = \"500ms\"\nidle = \"1m\"");
    let asked = query("big.example.com", 16, &[]);
    asks_until_cut_off(&served, &windows((1 << 31) - 1, (1 << 30) - 1), |stream| request(stream, "GET", &asked));
}

/// What the server says with GOAWAY (RFC 9113 §6.8), connection by connection: its error codes.
fn goodbyes(mut came: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some((head, rest)) = came.split_first_chunk::<9>() {
        let Some((payload, behind)) = rest.split_at_checked(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize) else { break };
        if let (7, Some(code)) = (head[3], payload.get(4..8)) {
            codes.push(u32::from_be_bytes(code.try_into().expect("four octets")));
        }
        came = behind;
    }
    codes
}

/// Streams that are begun and reset at once ("rapid reset", CVE-2023-44487) end their connection; nobody else notices.
#[test]
fn streams_that_are_reset_at_once_end_their_connection() {
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    let mut stream = served.connect(served.https, Some(b"h2"));
    let pair = |at: u32| [request(at, "GET", &asked), frame(3, 0, at, &8u32.to_be_bytes())].concat();
    // In one record of TLS, so that all of it is read before the connection ends: what is left unread would end it without a word (RFC 9293 §3.6.1).
    let all: Vec<u8> = windows(65_535, 1 << 20).into_iter().chain((1..128).step_by(2).flat_map(pair)).collect();
    assert!(all.len() < 1 << 14, "{}", all.len());
    stream.write_all(&all).and_then(|()| stream.flush()).expect("sent");
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came);
    assert_eq!(goodbyes(&came), [ENHANCE_YOUR_CALM]);
    assert_eq!(served.curl("/dns-query", &["-H", "Content-Type: application/dns-message"], Some(&asked)).0, 200);
}

/// No more queries are under way on a connection than `streams`: the next one waits until one of them has ended.
#[test]
fn rfc9000_section_4_6_streams_are_bounded() {
    let more = "[server.quic]\nstreams = 4\nmessage = \"5m\"\nidle = \"5m\"\n";
    let served = Served::with(&config("").replace("[server.quic]\n", more), &["dns.example.net", "127.0.0.1"]);
    let mut asked = query("www.example.com", 1, &[]);
    asked[..2].fill(0);
    runtime().block_on(async {
        let connection = served.quic().await;
        let mut open = Vec::new();
        for _ in 0..4 {
            let (mut send, receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&[0]).await.expect("sent");
            open.push((send, receive));
        }
        let fifth = tokio::time::timeout(Duration::from_millis(500), ask_quic(&connection, &asked)).await;
        assert!(fifth.is_err(), "{fifth:?}");
        // Given up, which makes room.
        let (mut send, _) = open.pop().expect("a stream");
        send.reset(3u32.into()).expect("open");
        let reply = tokio::time::timeout(PATIENCE, ask_quic(&connection, &asked)).await;
        assert!(matches!(reply, Ok(Ok(_))), "{reply:?}");
    });
    // Over HTTPS it is told at the beginning: SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    let mut stream = served.connect(served.https, Some(b"h2"));
    stream.write_all(&windows(65_535, 1 << 20)).expect("sent");
    let mut settings = vec![0; 9];
    stream.read_exact(&mut settings).expect("a frame");
    let mut all = vec![0; usize::from(settings[2])];
    stream.read_exact(&mut all).expect("its settings");
    assert!(settings[3] == 4 && all.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 100]), "{settings:?} {all:?}");
}

/// The next frame: kind, flags, and what it carries.
pub fn next_frame(stream: &mut impl Read) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).expect("what it carries");
    (head[3], head[4], payload)
}

/// So many requests at once, on streams of their own.
fn requests(count: u32, query: &[u8]) -> Vec<u8> {
    (0..count).flat_map(|at| request(2 * at + 1, "GET", query)).collect()
}

/// Memory that the process holds, in KiB.
fn rss_kib(served: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Of the replies that nobody takes a connection holds four of the largest; its other queries wait, and are answered when there is room.
#[test]
fn replies_that_nobody_takes_are_bounded() {
    const CONNECTIONS: u64 = 20;
    let served = Served::start("write = \"5m\"\nidle = \"5m\"\nmessage = \"5m\"");
    let mut asked = query("huge.example.com", 16, &[]);
    asked[..2].fill(0);
    let queries = |transport: &str| served.metric(&format!("meridian_queries_total{{transport=\"{transport}\"}}"));
    let before_kib = rss_kib(&served);
    let begin = [windows(0, 1 << 30), requests(100, &asked)].concat();
    let shut = (0..CONNECTIONS).map(|_| {
        let mut stream = served.connect(served.https, Some(b"h2"));
        stream.write_all(&begin).and_then(|()| stream.flush()).expect("sent");
        stream
    });
    let mut shut: Vec<_> = shut.collect();
    until("four on each", || queries("https") >= 4 * CONNECTIONS);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(queries("https"), 4 * CONNECTIONS, "the others wait");
    let grown_kib = rss_kib(&served).saturating_sub(before_kib);
    assert!(grown_kib < CONNECTIONS * 256 + (32 << 10), "{grown_kib} KiB");
    // Once the streams have windows all of them are answered.
    let stream = shut.last_mut().expect("a connection");
    stream.write_all(&frame(4, 0, 0, &[&[0, 4][..], &(1u32 << 20).to_be_bytes()].concat())).and_then(|()| stream.flush()).expect("sent");
    let mut answered = 0;
    while answered < 100 {
        let (kind, flags, _) = next_frame(stream);
        assert_ne!(kind, 7, "{answered}: GOAWAY");
        answered += u32::from(kind == 0 && flags & 1 == 1);
    }
    runtime().block_on(async {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(4096u32.into());
        let connection = served.quic_with(served.quic, transport).await;
        let framed = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
        let mut open = Vec::new();
        for _ in 0..20 {
            let (mut send, receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&framed).await.expect("sent");
            send.finish().expect("open");
            open.push(receive);
        }
        let began = Instant::now();
        while queries("quic") < 4 {
            assert!(began.elapsed() < PATIENCE, "four");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(queries("quic"), 4, "the others wait");
        let replies = open.into_iter().map(|mut receive| async move { receive.read_to_end(1 << 17).await });
        let replies = replies.collect::<tokio::task::JoinSet<_>>().join_all().await;
        assert!(
            replies.iter().all(|reply| reply.as_ref().is_ok_and(|reply| reply.len() > 50_000)),
            "{:?}",
            replies.iter().find(|reply| reply.is_err())
        );
    });
}

/// Of queries that never end a connection holds four of the largest, and so it does of those that wait for room for their replies. Others are refused at
/// once, and small ones never.
#[test]
fn queries_that_wait_are_bounded() {
    const CONNECTIONS: u64 = 10;
    let served = Served::start("write = \"5m\"\nidle = \"5m\"\nmessage = \"5m\"");
    let asked = query("www.example.com", 1, &[]);
    let refused = |transport: &str| served.metric(&format!("meridian_encrypted_refused_queries_total{{transport=\"{transport}\"}}"));
    let mut many = asked.clone();
    many.resize(60_000, 0);
    many[..2].fill(0);
    let before_kib = rss_kib(&served);
    runtime().block_on(async {
        let (mut kept, mut answers) = (Vec::new(), tokio::task::JoinSet::new());
        for _ in 0..CONNECTIONS {
            let client = http2(&served).await;
            for _ in 0..100 {
                let mut client = client.clone();
                let request = hyper::Request::post("https://dns.example.net/dns-query").header("content-type", "application/dns-message");
                let request = request.body(Endless::of(&many)).expect("a request");
                answers.spawn(async move { client.send_request(request).await.map(|response| response.status().as_u16()) });
            }
            kept.push(client);
        }
        for _ in 0..96 * CONNECTIONS {
            let answer = tokio::time::timeout(PATIENCE, answers.join_next()).await.expect("it is refused").expect("one").expect("no panic");
            assert_eq!(answer.expect("a response"), 503);
        }
        let grown_kib = rss_kib(&served).saturating_sub(before_kib);
        assert!(grown_kib < CONNECTIONS * 512 + (32 << 10), "{grown_kib} KiB");
        assert_eq!(served.over_post(&asked).len(), served.over_get(&asked).len(), "others are answered");
        assert!(!served.over_post(&many).is_empty(), "large ones, too");
    });
    // Padding (12) makes them large; the first four fill the room for replies.
    let padded = [&[0, 12], &9000u16.to_be_bytes()[..], &[0; 9000]].concat();
    let huge = query("huge.example.com", 16, &padded);
    runtime().block_on(async {
        let before = refused("https");
        let (mut client, _connection) = shut(&served).await;
        let mut statuses = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let uri = format!("https://dns.example.net/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&huge));
            client = client.ready().await.expect("a stream");
            let (response, _) = client.send_request(hyper::Request::get(uri).body(()).expect("a request"), true).expect("sent");
            statuses.spawn(async move { response.await.expect("a response").status().as_u16() });
        }
        let mut answered = Vec::new();
        for _ in 0..4 + 60 {
            answered.push(tokio::time::timeout(PATIENCE, statuses.join_next()).await.expect("no wait").expect("one").expect("no panic"));
        }
        assert_eq!(answered.iter().filter(|status| **status == 200).count(), 4, "{answered:?}");
        assert!((60..=64).contains(&(refused("https") - before)), "256 KiB of them wait");
    });
    runtime().block_on(async {
        let connection = served.quic().await;
        let framed = [&60_001u16.to_be_bytes()[..], &many].concat();
        let mut ends = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            let framed = framed.clone();
            ends.spawn(async move {
                let _ = send.write_all(&framed).await;
                (receive.read_to_end(100).await, send)
            });
        }
        for _ in 0..96 {
            let (end, _) = tokio::time::timeout(PATIENCE, ends.join_next()).await.expect("it is refused").expect("one").expect("no panic");
            // DOQ_EXCESSIVE_LOAD.
            assert_eq!(end, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(4u32.into()))));
        }
        many.truncate(asked.len());
        assert!(ask_quic(&connection, &many).await.is_ok(), "small ones have room");
    });
    until("it is counted", || refused("quic") >= 96);
}

/// A client whose socket takes something all the time, and no reply in time: what counts is the whole of it.
#[test]
fn who_reads_too_slowly_is_cut_off() {
    let served = Served::start("write = \"1s\"\nidle = \"1m\"");
    let asked = query("huge.example.com", 16, &[]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&served.https.into()).expect("a connection");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let name = ServerName::try_from("dns.example.net").expect("a name");
    let client = ClientConnection::new(std::sync::Arc::new(served.client(Some(b"h2"))), name).expect("a client");
    let mut stream = StreamOwned::new(client, socket);
    let begin = [windows((1 << 31) - 1, (1 << 30) - 1), requests(100, &asked)].concat();
    stream.write_all(&begin).and_then(|()| stream.flush()).expect("sent");
    let began = Instant::now();
    let mut octets = [0; 8192];
    // Five and a half megabytes; at this pace they would take a minute.
    while served.metric("meridian_encrypted_timed_out_total{transport=\"https\"}") == 0 {
        assert!(began.elapsed() < PATIENCE, "it goes on");
        let _ = stream.read(&mut octets);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whoever has not seen our SETTINGS may begin more streams than `streams`: those above are refused, and nothing else is lost.
#[test]
fn rfc9113_section_5_1_2_streams_above_the_bound_are_refused_alone() {
    const REFUSED_STREAM: [u8; 4] = 7u32.to_be_bytes();
    let served = Served::start("");
    let asked = query("www.example.com", 1, &[]);
    let mut stream = served.connect(served.https, Some(b"h2"));
    stream.write_all(&[windows(65_535, 1 << 20), requests(400, &asked)].concat()).and_then(|()| stream.flush()).expect("sent");
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 400 {
        match next_frame(&mut stream) {
            (0, 1, _) => answered += 1,
            (3, _, code) if code == REFUSED_STREAM => refused += 1,
            (kind @ (3 | 7), _, payload) => panic!("kind {kind} after {answered} and {refused}: {payload:?}"),
            _ => {}
        }
    }
    assert!(answered >= 100, "{answered}");
    stream.write_all(&request(801, "GET", &asked)).and_then(|()| stream.flush()).expect("sent");
    while !matches!(next_frame(&mut stream), (0, 1, _)) {}
}
