//! DNS over QUIC as QUIC: protocol errors, queries that are given up, and what is sent to addresses that prove nothing.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{ReadError, ReadToEndError};

use crate::encrypted::{Served, ask_quic, config, query, runtime};
use crate::encrypted_abuse::closed;
use crate::meridian::PATIENCE;

fn zero_id(name: &str) -> Vec<u8> {
    let mut asked = query(name, 1, &[]);
    asked[..2].fill(0);
    asked
}

#[test]
fn rfc9250_section_4_3_3_protocol_errors_end_the_connection() {
    let served = Served::start("");
    let asked = zero_id("www.example.com");
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let mut keepalive = query("www.example.com", 1, b"\0\x0b\0\0");
    keepalive[..2].fill(0);
    let mut response = asked.clone();
    response[2] |= 0x80;
    runtime().block_on(async {
        for (octets, reason) in [
            (framed(&query("www.example.com", 1, &[])), "the message ID is not 0"),
            (framed(&keepalive), "edns-tcp-keepalive is not for QUIC"),
            ([framed(&asked), framed(&asked)].concat(), "more than one message on a stream"),
            (framed(&asked)[..20].to_vec(), "a message shorter than its length"),
            (Vec::new(), "no query on a stream"),
            (framed(&response), "a response or no message, expected a query"),
        ] {
            let connection = served.quic().await;
            assert!(ask_quic(&connection, &asked).await.is_ok());
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&octets).await.expect("sent");
            send.finish().expect("open");
            assert!(receive.read_to_end(1000).await.is_err(), "{reason}");
            // DOQ_PROTOCOL_ERROR.
            assert_eq!(closed(&connection).await, (2, reason.to_owned()));
        }
        // Many at once on one connection; one that is never finished holds up none of them.
        let connection = served.quic().await;
        let (mut open, _) = connection.open_bi().await.expect("a stream");
        open.write_all(&asked[..5]).await.expect("sent");
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (connection, asked) = (connection.clone(), asked.clone());
            all.spawn(async move { ask_quic(&connection, &asked).await });
        }
        for reply in all.join_all().await {
            assert!(reply.is_ok(), "{reply:?}");
        }
    });
}

/// Whoever resets a query gets RESET_STREAM for it, and no FIN as if it had been answered; whoever wants no answer (STOP_SENDING) gets none, and is told
/// so with its own code (RFC 9000 §3.5). The connection goes on.
#[test]
fn rfc9250_section_4_3_1_cancelled_queries_are_given_up() {
    let served = Served::start("message = \"5m\"");
    let asked = zero_id("www.example.com");
    let framed = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
    runtime().block_on(async {
        let connection = served.quic().await;
        for len in [1, 10, framed.len()] {
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&framed[..len]).await.expect("sent");
            // So that it has come before it is reset.
            assert!(ask_quic(&connection, &asked).await.is_ok());
            send.reset(3u32.into()).expect("open");
            let end = tokio::time::timeout(PATIENCE, receive.read_to_end(1000)).await.expect("an end");
            let Err(ReadToEndError::Read(ReadError::Reset(code))) = end else { panic!("{len}: {end:?}") };
            assert_eq!(code, 3u32.into(), "{len}: DOQ_REQUEST_CANCELLED");

            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            send.write_all(&framed[..len]).await.expect("sent");
            assert!(ask_quic(&connection, &asked).await.is_ok());
            let before = connection.stats().frame_rx.reset_stream;
            receive.stop(77u32.into()).expect("open");
            // It reads no more of a query whose answer nobody wants.
            let stopped = tokio::time::timeout(PATIENCE, send.stopped()).await.expect("an end");
            assert_eq!(stopped, Ok(Some(77u32.into())), "{len}");
            assert!(ask_quic(&connection, &asked).await.is_ok());
            assert_eq!(connection.stats().frame_rx.reset_stream, before + 1, "{len}");
        }
        // What has been asked to its end is answered, whatever comes after.
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&framed).await.expect("sent");
        send.finish().expect("open");
        let _ = send.reset(3u32.into());
        let reply = receive.read_to_end(1000).await;
        assert!(matches!(&reply, Ok(octets) if octets.len() > framed.len()) || matches!(reply, Err(ReadToEndError::Read(ReadError::Reset(_)))));
    });
    // A query that was given up is none.
    assert!(served.metric("meridian_queries_total{transport=\"quic\"}") <= 10);
}

/// The first datagram of a client that then falls silent; nothing listens where it came from.
fn first_datagram(served: &Served) -> Vec<u8> {
    let front = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    front.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(served.client(Some(b"doq"))).expect("TLS 1.3");
    runtime().block_on(async {
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let _connecting = endpoint.connect(front.local_addr().expect("an address"), "dns.example.net").expect("started");
        let octets = tokio::task::spawn_blocking(move || {
            let mut octets = vec![0; 2000];
            let (len, _) = front.recv_from(&mut octets).expect("a datagram");
            octets.truncate(len);
            octets
        });
        octets.await.expect("it came")
    })
}

/// Who asks for another version is told the one that there is: 1, beside one that is none (§6.3), and no drafts.
#[test]
fn rfc9000_section_6_versions_are_told() {
    let served = Served::start("");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for version in [[0xff, 0, 0, 29], [0x1a, 0x2a, 0x3a, 0x4a], [0x6b, 0x33, 0x43, 0xcf]] {
        let mut first = [&[0xc3][..], &version, b"\x08to us   \x08to them ", &[0; 1182]].concat();
        first.resize(1200, 0);
        socket.send_to(&first, served.quic).expect("sent");
        let mut octets = [0; 1500];
        let len = socket.recv(&mut octets).expect("an answer");
        assert_eq!(octets[1..23], *b"\0\0\0\0\x08to them \x08to us   ", "a version negotiation for this connection (RFC 9000 §17.2.1)");
        let (told, _) = octets[23..len].as_chunks::<4>();
        let (none, real): (Vec<&[u8; 4]>, Vec<_>) = told.iter().partition(|version| version.iter().all(|octet| octet & 15 == 10));
        assert_eq!((none.len(), real), (1, vec![&[0, 0, 0, 1]]), "{version:?}: {told:?}");
    }
}

/// Octets that come within this time.
fn listen(socket: &UdpSocket, time: Duration) -> usize {
    let (began, mut came, mut octets) = (Instant::now(), 0, vec![0; 65_536]);
    while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("a timeout");
        came += socket.recv(&mut octets).unwrap_or(0);
    }
    came
}

/// Every repetition of the handshake (after 1, 2 and 4 seconds) and the end of it counts. How much is left of the limit when a datagram is due depends
/// on the length of the certificates.
#[test]
fn rfc9000_section_8_1_unanswered_clients_get_three_times_what_they_sent() {
    let named = |count: usize| (0..count).map(|at| format!("a-name-of-many-{at}.example.net")).collect::<Vec<_>>();
    let results: Vec<(usize, usize, usize)> = std::thread::scope(|threads| {
        let runs: Vec<_> = [0, 10, 25, 40, 60, 90]
            .into_iter()
            .map(|names| {
                let all = named(names);
                threads.spawn(move || {
                    let all: Vec<&str> = ["dns.example.net"].into_iter().chain(all.iter().map(String::as_str)).collect();
                    let served = Served::with(&config("handshake = \"4s\""), &all);
                    let first = first_datagram(&served);
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                    socket.send_to(&first, served.quic).expect("sent");
                    let came = listen(&socket, Duration::from_secs(7));
                    // Whoever answers is served all the same.
                    assert!(!served.over_quic(&zero_id("www.example.com")).is_empty(), "{names}");
                    (names, first.len(), came)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("it ran")).collect()
    });
    eprintln!("names, octets sent, octets that came: {results:?}");
    for (names, sent, came) in &results {
        assert!(*came >= *sent, "{names} names: nothing was repeated: {results:?}");
        assert!(*came <= 3 * sent, "{names} names: {:.2} times as much: {results:?}", *came as f64 / *sent as f64);
    }
}

/// A connection stays where it is: nothing at all goes to an address that its client names later, which it might have forged.
#[test]
fn rfc9000_section_9_connections_do_not_move() {
    let served = Served::start("");
    let relay = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    relay.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let (through, server) = (relay.local_addr().expect("an address"), served.quic);
    let moved = std::sync::atomic::AtomicBool::new(false);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let load = |flag: &std::sync::atomic::AtomicBool| flag.load(std::sync::atomic::Ordering::Relaxed);
    let set = |flag: &std::sync::atomic::AtomicBool| flag.store(true, std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|threads| {
        let pass = threads.spawn(|| {
            let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            other.set_nonblocking(true).expect("a mode");
            let (mut client, mut passed, mut came, mut octets) = (None::<SocketAddr>, 0, 0, vec![0; 65_536]);
            while !load(&stop) {
                came += other.recv(&mut octets).unwrap_or(0);
                let Ok((len, from)) = relay.recv_from(&mut octets) else { continue };
                if from == server {
                    let _ = relay.send_to(&octets[..len], client.expect("a client"));
                    continue;
                }
                client = Some(from);
                if load(&moved) {
                    passed += len;
                    let _ = other.send_to(&octets[..len], server);
                } else {
                    let _ = relay.send_to(&octets[..len], server);
                }
            }
            came += other.recv(&mut octets).unwrap_or(0);
            (passed, came)
        });
        runtime().block_on(async {
            let connection = served.quic_at(through).await;
            let asked = zero_id("www.example.com");
            assert!(ask_quic(&connection, &asked).await.is_ok());
            set(&moved);
            let lost = tokio::time::timeout(Duration::from_secs(2), ask_quic(&connection, &asked)).await;
            assert!(lost.is_err(), "{lost:?}");
        });
        set(&stop);
        let (passed, came) = pass.join().expect("it passed everything on");
        assert!(passed > 0 && came == 0, "{passed} octets from elsewhere, {came} to there");
    });
}
