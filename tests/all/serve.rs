//! Real sockets on loopback: what clients see, and what misbehaving ones cannot do.
//!
//! The world is empty, so every well-formed query is refused; that is enough to see whether it was answered.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian::answer::Dice;
use meridian::serve::{BindError, Limits, Listeners, STOP_TIMEOUT, Serving, Warning};
use meridian::telemetry::Registry;
use meridian::world::{Published, World};
use tokio::runtime::Runtime;

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service with an empty world and its own runtime.
struct Server {
    runtime: Runtime,
    serving: Option<Serving>,
    registry: Registry,
    addresses: Vec<SocketAddr>,
}

impl Server {
    fn start(listen: &[&str], limits: Limits) -> Server {
        let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
        let (listeners, _) = Listeners::bind(&listen, 2).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = Registry::new();
        let published = Arc::new(Published::new(World::default()));
        let serving = listeners.start_with(published, registry.clone(), runtime.handle(), limits, Duration::ZERO).unwrap();
        let addresses = serving.addresses().to_vec();
        Server { runtime, serving: Some(serving), registry, addresses }
    }

    fn on_loopback() -> Server {
        Server::start(&["127.0.0.1:0"], Limits::default())
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.runtime.block_on(self.serving.take().unwrap().stop());
        begun.elapsed()
    }

    /// Waits until `reached` holds of the counters.
    fn until(&self, what: &str, reached: impl Fn(&meridian::telemetry::Totals) -> bool) {
        let begun = Instant::now();
        while !reached(&self.registry.totals()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.registry.totals());
            std::thread::yield_now();
        }
    }
}

fn query(id: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend_from_slice(b"\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01");
    query
}

fn is_refusal_of(query: &[u8], reply: &[u8]) -> bool {
    reply.len() >= 12 && reply[..2] == query[..2] && reply[2] & 0x80 != 0 && reply[3] & 0x0f == 5 && reply[12..].starts_with(&query[12..])
}

fn client_at(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn assert_answers_udp(server: SocketAddr) {
    let socket = client_at(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
    let mut reply = [0; 4096];
    socket.send_to(&query(0x1234), server).unwrap();
    let (len, from) = socket.recv_from(&mut reply).unwrap();
    assert_eq!(from, server);
    assert!(is_refusal_of(&query(0x1234), &reply[..len]), "{:?}", &reply[..len]);
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A TCP connection from another loopback address: another client.
fn connect_from(source: &str, server: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn assert_answers_on(stream: &mut TcpStream) {
    stream.write_all(&framed(&query(0x4321))).unwrap();
    let reply = read_frame(stream).unwrap();
    assert!(is_refusal_of(&query(0x4321), &reply), "{reply:?}");
}

/// Closed by the other side, with or without ceremony.
fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("still open: {other:?}"),
    }
}

#[test]
fn udp_and_tcp_answer_on_the_same_port_of_both_families() {
    let server = Server::start(&["127.0.0.1:0", "[::1]:0"], Limits::default());
    assert_eq!(server.addresses.len(), 2);
    for address in &server.addresses {
        assert_answers_udp(*address);
        assert_answers_on(&mut connect(*address));
    }
    let totals = server.registry.totals();
    assert_eq!((totals.udp.replies(), totals.tcp.replies()), (2, 2));
    assert_eq!((totals.udp.rcodes[5], totals.tcp.rcodes[5]), (2, 2));
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server = Server::start(&["0.0.0.0:0", "[::]:0"], Limits::default());
    for last in 1..=9 {
        assert_answers_udp(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), server.addresses[0].port()));
    }
    assert_answers_udp(SocketAddr::new("::1".parse().unwrap(), server.addresses[1].port()));
}

#[test]
fn a_query_to_a_broadcast_address_is_dropped() {
    let server = Server::start(&["0.0.0.0:0"], Limits::default());
    let socket = client_at("127.0.0.1:0");
    socket.set_broadcast(true).unwrap();
    socket.send_to(&query(1), ("127.255.255.255", server.address().port())).unwrap();
    // The kernel gives a broadcast to every socket of the port, so to each thread.
    server.until("dropped", |totals| totals.udp.dropped == 2);
    assert_eq!(server.registry.totals().udp.replies(), 0);
}

#[test]
fn every_client_is_answered_whichever_thread_it_falls_to() {
    let server = Server::on_loopback();
    // Two threads, clients spread by hash: 64 that all fall to one are a chance of 2⁻⁶³.
    (0..64).for_each(|_| assert_answers_udp(server.address()));
    assert_eq!(server.registry.totals().udp.replies(), 64);
}

#[test]
fn a_wildcard_v6_socket_leaves_v4_alone() {
    let server = Server::start(&["[::]:0"], Limits::default());
    let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.address().port());
    assert!(TcpStream::connect(v4).is_err());
}

#[test]
fn a_burst_is_answered_whole() {
    let server = Server::on_loopback();
    let socket = client_at("127.0.0.1:0");
    for round in 0..10 {
        (0..100).for_each(|id| assert!(socket.send_to(&query(round * 100 + id), server.address()).is_ok()));
        let mut ids: Vec<u16> = Vec::new();
        for _ in 0..100 {
            let mut reply = [0; 512];
            assert!(socket.recv(&mut reply).unwrap() >= 12);
            ids.push(u16::from_be_bytes([reply[0], reply[1]]));
        }
        ids.sort_unstable();
        assert_eq!(ids, (round * 100..round * 100 + 100).collect::<Vec<_>>());
    }
}

#[test]
fn pipelined_queries_are_answered_in_full() {
    let server = Server::on_loopback();
    let mut stream = connect(server.address());
    // Far more than one read or one gathering of replies holds; written and read at the same time.
    let count = 10_000_u16;
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: Vec<u8> = (0..count).flat_map(|id| framed(&query(id))).collect();
        writer.write_all(&all).unwrap();
    });
    for id in 0..count {
        assert!(is_refusal_of(&query(id), &read_frame(&mut stream).unwrap()), "{id}");
    }
    sender.join().unwrap();
    assert_answers_on(&mut stream);
}

#[test]
fn a_message_may_come_octet_by_octet() {
    let server = Server::on_loopback();
    let mut stream = connect(server.address());
    for _ in 0..3 {
        for octet in framed(&query(7)) {
            stream.write_all(&[octet]).unwrap();
            // Each in a segment of its own, most of them in a read of their own.
            std::thread::yield_now();
        }
        assert!(is_refusal_of(&query(7), &read_frame(&mut stream).unwrap()));
    }
}

#[test]
fn what_came_before_the_end_of_the_stream_is_answered() {
    let server = Server::on_loopback();
    let mut stream = connect(server.address());
    let mut sent: Vec<u8> = (0..5).flat_map(|id| framed(&query(id))).collect();
    sent.extend_from_slice(b"\0\x30half a message");
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for id in 0..5 {
        assert!(is_refusal_of(&query(id), &read_frame(&mut stream).unwrap()));
    }
    assert_closed(&mut stream);
}

#[test]
fn an_empty_message_ends_the_connection_after_the_replies_before_it() {
    let server = Server::on_loopback();
    let mut stream = connect(server.address());
    stream.write_all(&[framed(&query(1)), vec![0, 0]].concat()).unwrap();
    assert!(is_refusal_of(&query(1), &read_frame(&mut stream).unwrap()));
    assert_closed(&mut stream);
    assert_eq!(server.registry.totals().tcp.malformed, 1);
}

#[test]
fn a_message_that_never_ends_is_cut_off() {
    let limits = Limits { message: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    for beginning in [&b"\0"[..], b"\0\x20", b"\xff\xff\x12\x34"] {
        let mut stream = connect(server.address());
        stream.write_all(beginning).unwrap();
        assert_closed(&mut stream);
    }
    // More octets do not buy more time.
    let mut stream = connect(server.address());
    let begun = Instant::now();
    while stream.write_all(b"\xff").is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        match stream.read(&mut [0; 1]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    server.until("deadlines", |totals| totals.tcp_connections.timed_out == 4 && totals.tcp_connections.open == 0);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits = Limits { idle: Duration::from_millis(400), ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    let (mut idle, mut busy) = (connect(server.address()), connect(server.address()));
    idle.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    while matches!(idle.read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
        assert!(begun.elapsed() < PATIENCE);
        assert_answers_on(&mut busy);
    }
    assert_answers_on(&mut busy);
}

#[test]
fn a_connection_has_a_lifetime_however_busy() {
    let limits = Limits { lifetime: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    let mut stream = connect(server.address());
    let begun = Instant::now();
    while stream.write_all(&framed(&query(1))).is_ok() && read_frame(&mut stream).is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() >= Duration::from_millis(250));
}

#[test]
fn a_reader_that_never_reads_is_dropped() {
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    let mut stream = connect(server.address());
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(&query(id))).collect();
    let begun = Instant::now();
    // Until the socket is full in both directions, and then until the server gives up.
    while stream.write_all(&queries).is_ok() {
        assert!(begun.elapsed() < PATIENCE);
    }
    server.until("write deadline", |totals| totals.tcp_connections.timed_out == 1 && totals.tcp_connections.open == 0);
}

#[test]
fn a_flood_of_idle_connections_of_one_client_only_displaces_its_own() {
    let limits = Limits { total: 64, per_client: 8, ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    let mut good = connect_from("127.0.0.2", server.address());
    assert_answers_on(&mut good);
    let flood: Vec<TcpStream> = (0..100).map(|_| connect_from("127.0.0.3", server.address())).collect();
    server.until("accepted", |totals| totals.tcp_connections.accepted == 101 && totals.tcp_connections.open <= 9);
    assert_eq!(server.registry.totals().tcp_connections.evicted, 92);
    assert_answers_on(&mut good);
    assert_answers_on(&mut connect_from("127.0.0.3", server.address()));
    drop(flood);
}

#[test]
fn a_flood_from_many_clients_is_bounded_and_the_active_client_stays() {
    let limits = Limits { total: 16, per_client: 8, ..Limits::default() };
    let server = Server::start(&["127.0.0.1:0"], limits);
    let mut good = connect_from("127.0.0.2", server.address());
    let mut flood = Vec::new();
    for round in 0..20 {
        assert_answers_on(&mut good);
        (0..10).for_each(|client| flood.push(connect_from(&format!("127.0.1.{client}"), server.address())));
        server.until("accepted", |totals| totals.tcp_connections.accepted == 1 + (round + 1) * 10 && totals.tcp_connections.open <= 16);
    }
    assert_answers_on(&mut good);
    assert_eq!(server.registry.totals().tcp_connections.evicted, 201 - 16);
}

/// A query with damage: bits flipped, cut short, octets added, or octets at random.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut packet = query(dice.roll() as u16);
    match dice.roll() % 5 {
        0 => packet.truncate((dice.roll() % packet.len() as u64) as usize),
        1 => packet.extend((0..dice.roll() % 1000).map(|n| n as u8)),
        2 => packet = (0..dice.roll() % 600).map(|_| dice.roll() as u8).collect(),
        3 => packet[4..12].fill_with(|| dice.roll() as u8),
        _ => {}
    }
    for _ in 0..dice.roll() % 8 {
        let bit = dice.roll() as usize % (packet.len() * 8).max(1);
        if let Some(octet) = packet.get_mut(bit / 8) {
            *octet ^= 1 << (bit % 8);
        }
    }
    packet
}

const MUTATIONS: usize = 2000;

#[test]
fn malformed_datagrams_get_a_response_or_nothing() {
    let server = Server::start(&["127.0.0.1:0", "[::1]:0"], Limits::default());
    let mut dice = Dice::new(0, 0x5eed);
    for address in server.addresses.clone() {
        let socket = client_at(if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        for _ in 0..MUTATIONS / 2 {
            let packet = mutated(&mut dice);
            if packet.starts_with(&[0xca, 0xfe]) {
                continue;
            }
            socket.send_to(&packet, address).unwrap();
            // The next proper query tells that this one is done with, whichever thread has it: one client, one socket.
            socket.send_to(&query(0xcafe), address).unwrap();
            let mut replies = Vec::new();
            loop {
                let mut reply = [0; 4096];
                let len = socket.recv(&mut reply).unwrap();
                assert!(len >= 12 && reply[2] & 0x80 != 0, "{packet:?}");
                if is_refusal_of(&query(0xcafe), &reply[..len]) {
                    break;
                }
                replies.push(reply[..len].to_vec());
            }
            let may_reply = packet.len() >= 12 && packet[2] & 0x80 == 0;
            assert!(replies.len() <= usize::from(may_reply), "{packet:?}: {replies:?}");
            assert!(replies.iter().all(|reply| reply[..2] == packet[..2] && reply.len() <= 1232.max(packet.len())));
        }
        assert_answers_udp(address);
    }
    assert_eq!(server.registry.totals().udp.panics, 0);
}

#[test]
fn malformed_messages_over_tcp_get_a_response_or_nothing() {
    let server = Server::on_loopback();
    let mut dice = Dice::new(0, 0x5eed);
    let mut stream = connect(server.address());
    for _ in 0..MUTATIONS {
        let packet = mutated(&mut dice);
        if packet.is_empty() || packet.starts_with(&[0xca, 0xfe]) {
            continue;
        }
        stream.write_all(&[framed(&packet), framed(&query(0xcafe))].concat()).unwrap();
        let first = read_frame(&mut stream).unwrap();
        if is_refusal_of(&query(0xcafe), &first) {
            continue;
        }
        assert!(packet.len() >= 12 && packet[2] & 0x80 == 0 && first[2] & 0x80 != 0 && first[..2] == packet[..2], "{packet:?}: {first:?}");
        assert!(is_refusal_of(&query(0xcafe), &read_frame(&mut stream).unwrap()));
    }
    // A stream out of step: garbage where lengths should be.
    for _ in 0..50 {
        let mut stream = connect(server.address());
        let _ = stream.write_all(&mutated(&mut dice));
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_answers_on(&mut stream);
    assert_answers_on(&mut connect(server.address()));
    assert_eq!(server.registry.totals().tcp.panics, 0);
}

#[test]
fn datagrams_that_are_too_long_are_dropped_and_counted() {
    let server = Server::on_loopback();
    let socket = client_at("127.0.0.1:0");
    let mut packet = query(1);
    packet.resize(5000, 0);
    socket.send_to(&packet, server.address()).unwrap();
    server.until("counted", |totals| totals.udp.malformed == 1);
    assert_answers_udp(server.address());
    assert_eq!(server.registry.totals().udp.replies(), 1);
}

#[test]
fn stopping_is_prompt_and_frees_the_ports() {
    let mut server = Server::start(&["127.0.0.1:0", "[::1]:0"], Limits::default());
    let mut idle = connect(server.address());
    let mut unfinished = connect(server.address());
    unfinished.write_all(b"\0\x20begun").unwrap();
    assert_answers_on(&mut idle);
    let took = server.stop();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_closed(&mut idle);
    assert_closed(&mut unfinished);
    assert!(TcpStream::connect(server.address()).is_err());
    Listeners::bind(&server.addresses, 1).unwrap();
}

#[test]
fn stopping_answers_what_had_arrived() {
    let mut server = Server::on_loopback();
    let mut streams: Vec<TcpStream> = (0..50).map(|_| connect(server.address())).collect();
    assert_answers_on(&mut streams[0]);
    // Some of the connections have hardly been accepted.
    streams.iter_mut().for_each(|stream| stream.write_all(&[framed(&query(1)), framed(&query(2))].concat()).unwrap());
    server.stop();
    for stream in &mut streams {
        assert!(is_refusal_of(&query(1), &read_frame(stream).unwrap()));
        assert!(is_refusal_of(&query(2), &read_frame(stream).unwrap()));
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end without a reset");
    }
}

#[test]
fn every_connection_is_answered_whichever_thread_it_falls_to() {
    let server = Server::on_loopback();
    // Two threads, connections spread by hash: 64 that all fall to one are a chance of 2⁻⁶³.
    let mut streams: Vec<TcpStream> = (0..64).map(|_| connect(server.address())).collect();
    (0..3).for_each(|_| streams.iter_mut().for_each(assert_answers_on));
    assert_eq!(server.registry.totals().tcp.replies(), 192);
}

#[test]
fn stopping_does_not_wait_for_a_reader_that_never_reads() {
    let mut server = Server::start(&["127.0.0.1:0"], Limits { write: PATIENCE * 10, ..Limits::default() });
    let mut stream = connect(server.address());
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(&query(id))).collect();
    while stream.write_all(&queries).is_ok() {}
    let took = server.stop();
    assert!(took < STOP_TIMEOUT + Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_second_instance_on_the_same_address_is_refused() {
    let server = Server::on_loopback();
    let error = Listeners::bind(&[server.address()], 1).unwrap_err();
    assert!(matches!(error, BindError::InUse { transport: "TCP", .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("{}: the TCP port is in use", server.address())), "{error}");
}

#[test]
fn a_udp_port_in_use_is_refused_even_if_its_owner_would_share() {
    // The port that UDP gets may be taken over TCP by another test: then the next one is asked for.
    for _ in 0..20 {
        let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        other.set_reuse_port(true).unwrap();
        other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = other.local_addr().unwrap().as_socket().unwrap();
        match Listeners::bind(&[address], 1).unwrap_err() {
            BindError::InUse { transport: "UDP", .. } => return,
            BindError::InUse { transport: "TCP", .. } => {}
            error => panic!("{error}"),
        }
    }
    panic!("no port was free over TCP");
}

#[test]
fn an_address_that_the_machine_lacks_is_a_warning_while_another_serves() {
    // RFC 5737: nobody has it.
    let lacking: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let (listeners, warnings) = Listeners::bind(&[lacking, "127.0.0.1:0".parse().unwrap()], 1).unwrap();
    assert_eq!(listeners.addresses().len(), 1);
    assert!(warnings.contains(&Warning::Missing(lacking)), "{warnings:?}");
    assert!(matches!(Listeners::bind(&[lacking], 1), Err(BindError::NoneLeft(missing)) if missing == [lacking]));
    assert!(matches!(Listeners::bind(&[], 1), Err(BindError::Empty)));
}

#[test]
fn an_address_listed_twice_or_covered_by_the_wildcard_is_a_warning() {
    let free = Listeners::bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap().0.addresses()[0];
    let wildcard = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), free.port());
    for listen in [[free, free], [wildcard, free], [free, wildcard]] {
        // Between looking for a free port and taking it, another test may have it: that is no finding.
        let Ok((listeners, warnings)) = Listeners::bind(&listen, 1) else { continue };
        assert_eq!(listeners.addresses().len(), 1);
        assert!(warnings.iter().any(|warning| matches!(warning, Warning::Covered { .. })), "{warnings:?}");
    }
}
