//! `[rate_limit]` from the outside: what a client gets, over real sockets, from the real program.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::meridian::{Asker, Meridian, encode};

/// Longer than any reply takes on loopback, with everything else that runs.
const SILENCE: Duration = Duration::from_millis(500);

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]
[records]
ns1.A    = "192.0.2.53"
www.A    = ["192.0.2.1", "192.0.2.2"]
"*.wild".TXT = "any"
lab.NS   = ["ns.lab"]
"ns.lab".A = "192.0.2.150"
"#;

/// Two threads, so that limits that hold for the whole are seen to do so.
fn start(limits: &str) -> Meridian {
    let config = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n{limits}");
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", ZONE)]);
    settle();
    server
}

/// Every thread takes new limits before its next batch, an idle one within its poll; before that queries of one prefix may go to two threads.
fn settle() {
    std::thread::sleep(2 * meridian::serve::udp::STOP_POLL);
}

/// What came back for some queries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    /// Whole replies.
    full: usize,
    /// Empty ones with TC.
    cut: usize,
    silence: usize,
}

/// Asks once for each name, all at once, each from a port of its own.
fn ask(server: SocketAddr, source: &str, names: impl Iterator<Item = String>, rtype: RecordType) -> Got {
    let mut sockets = Vec::new();
    for (id, name) in names.enumerate() {
        let socket = UdpSocket::bind((source.parse::<IpAddr>().expect("an address"), 0)).expect("a socket");
        socket.send_to(&encode(&name, rtype, id as u16, None), server).expect("sent");
        sockets.push(socket);
    }
    let deadline = Instant::now() + SILENCE;
    let mut got = Got::default();
    for (id, socket) in sockets.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).expect("a timeout");
        let mut buf = [0; 1500];
        let Ok(len) = socket.recv(&mut buf) else {
            got.silence += 1;
            continue;
        };
        let message = Message::from_vec(&buf[..len]).expect("it decodes");
        assert_eq!(usize::from(message.metadata.id), id);
        assert_eq!(message.queries.len(), 1, "{message:?}");
        if message.metadata.truncation {
            assert!(message.answers.is_empty() && message.authorities.is_empty() && message.additionals.is_empty(), "{message:?}");
            got.cut += 1;
        } else {
            got.full += 1;
        }
    }
    got
}

/// The sum of a metric over its labels.
pub(crate) fn metric(server: &Meridian, name: &str) -> u64 {
    metrics_text(server).lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// What `/metrics` says, with the head of the reply.
pub(crate) fn metrics_text(server: &Meridian) -> String {
    let mut stream = TcpStream::connect(server.admin).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply
}

fn same(name: &'static str) -> impl Fn(usize) -> String {
    move |_| name.to_string()
}

#[test]
fn replies_beyond_the_rate_are_cut_or_dropped() {
    type Names = Box<dyn Fn(usize) -> String>;
    let random = |suffix: &'static str| Box::new(move |n: usize| format!("r{n}.{suffix}")) as Names;
    let same = |name: &'static str| Box::new(same(name)) as Names;
    // limits; names and type of 60 queries → whole, cut, nothing
    let rate = "responses_per_second = 10\nslip = 2\n";
    for (limits, names, rtype, full, cut) in [
        (rate, same("www.example.com."), RecordType::A, 10, 25),
        // Invented names share a bucket: of the zone, of the wildcard, of the delegation.
        (rate, random("example.com."), RecordType::A, 10, 25),
        (rate, random("wild.example.com."), RecordType::TXT, 10, 25),
        (rate, random("wild.example.com."), RecordType::A, 10, 25),
        (rate, random("lab.example.com."), RecordType::A, 10, 25),
        // Errors are never cut: they are as small as they can be, and go at the rate of slips.
        (rate, random("example.org."), RecordType::A, 35, 0),
        ("responses_per_second = 10\nslip = 1\n", same("www.example.com."), RecordType::A, 10, 50),
        ("responses_per_second = 10\nslip = 0\n", same("www.example.com."), RecordType::A, 10, 0),
        ("responses_per_second = 10\nslip = 5\n", same("www.example.com."), RecordType::A, 10, 10),
        ("responses_per_second = 10\nnxdomains_per_second = 0\n", random("example.com."), RecordType::A, 60, 0),
        ("nxdomains_per_second = 20\nslip = 2\n", random("example.com."), RecordType::A, 20, 20),
        ("nodata_per_second = 20\nslip = 2\n", same("www.example.com."), RecordType::TXT, 20, 20),
        ("referrals_per_second = 20\nslip = 2\n", random("lab.example.com."), RecordType::A, 20, 20),
        ("errors_per_second = 20\nslip = 0\n", random("example.org."), RecordType::A, 20, 0),
        ("nxdomains_per_second = 20\n", same("www.example.com."), RecordType::A, 60, 0),
        ("queries_per_second = 30\n", random("example.com."), RecordType::A, 30, 0),
        ("responses_per_second = 10\nexempt = [\"127.0.0.0/8\"]\n", same("www.example.com."), RecordType::A, 60, 0),
        ("responses_per_second = 10\nexempt = [\"127.1.0.0/16\"]\nslip = 0\n", same("www.example.com."), RecordType::A, 10, 0),
        ("responses_per_second = 10\nqueries_per_second = 10\nlog_only = true\n", same("www.example.com."), RecordType::A, 60, 0),
    ] {
        let server = start(&format!("[rate_limit]\n{limits}"));
        let got = ask(server.dns, "127.0.0.1", (0..60).map(&names), rtype);
        // While the queries come in, a little credit grows.
        let near = |found: usize, expected: usize| if expected == 60 || expected == 0 { found == expected } else { found.abs_diff(expected) <= 5 };
        let what = format!("{limits}{}, {rtype}: {got:?}", names(0));
        assert!(near(got.full, full) && near(got.cut, cut), "{what}, expected {full} whole, {cut} cut");
        let counted = metric(&server, "meridian_rate_limited_total");
        let limited = if full == 60 && !limits.contains("log_only") { 0 } else { 50 };
        assert!(counted as usize >= limited / 3 && (limited > 0 || counted == 0), "{what}: {counted} counted");
    }
}

#[test]
fn a_prefix_is_one_client_and_others_are_others() {
    let server = start("[rate_limit]\nresponses_per_second = 20\nslip = 0\nprefix = { v4 = 16 }\n");
    let got = |source: &str| ask(server.dns, source, (0..20).map(same("www.example.com.")), RecordType::A).full;
    assert_eq!(got("127.9.1.1"), 20);
    assert!(got("127.9.200.200") < 20, "the same /16");
    assert_eq!(got("127.10.1.1"), 20, "another /16");
}

#[test]
fn who_stops_asking_is_served_again_within_the_window() {
    let server = start("[rate_limit]\nresponses_per_second = 5\nslip = 0\nwindow = 1\n");
    let got = ask(server.dns, "127.0.0.1", (0..200).map(same("www.example.com.")), RecordType::A);
    assert!(got.full <= 10, "{got:?}");
    let stopped = Instant::now();
    // Asking once in a while is no flood; the reply comes when the debt is paid.
    while ask(server.dns, "127.0.0.1", (0..1).map(same("www.example.com.")), RecordType::A).full == 0 {
        assert!(stopped.elapsed() < Duration::from_secs(5), "still limited");
    }
    // Each question above costs up to half a second of silence and a fifth of a second of debt.
    assert!(stopped.elapsed() < Duration::from_secs(3), "{:?}", stopped.elapsed());
}

#[test]
fn tcp_is_never_limited() {
    let server = start("[rate_limit]\nresponses_per_second = 1\nqueries_per_second = 1\n");
    for _ in 0..30 {
        assert_eq!(server.ask_tcp("www.example.com.", RecordType::A).answers.len(), 2);
    }
}

#[test]
fn a_tcp_connection_is_slowed_down_to_its_rate() {
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.tcp]\nqueries_per_second = 20\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let server = Meridian::start(&[("meridian.toml", config), ("zones/example.com.toml", ZONE)]);
    let packet = encode("www.example.com.", RecordType::A, 7, None);
    let mut stream = TcpStream::connect(server.dns).expect("a connection");
    let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
    let began = Instant::now();
    let mut first = Duration::ZERO;
    for round in 0..3 {
        stream.write_all(&framed.repeat(20)).expect("sent");
        for _ in 0..20 {
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length");
            stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes(len))]).expect("a reply");
        }
        if round == 0 {
            first = began.elapsed();
        }
    }
    assert!(first < Duration::from_millis(900), "a second's worth comes at once: {first:?}");
    assert!(began.elapsed() > Duration::from_millis(900), "60 queries at 20 per second took {:?}", began.elapsed());
}

#[test]
fn limits_are_taken_on_reload_and_a_reload_without_change_forgives_nobody() {
    let server = start("");
    let config = std::fs::read_to_string(server.path().join("meridian.toml")).expect("the file");
    let got = || ask(server.dns, "127.0.0.1", (0..40).map(same("www.example.com.")), RecordType::A).full;
    assert_eq!(got(), 40);
    server.write("meridian.toml", &format!("{config}\n[rate_limit]\nresponses_per_second = 10\nwindow = 60\nslip = 0\n"));
    assert_eq!(server.command(&["reload"]).0, 0);
    settle();
    assert!(got() <= 15);
    assert_eq!(server.command(&["reload"]).0, 0);
    assert!(got() <= 5);
    server.write("meridian.toml", &config);
    assert_eq!(server.command(&["reload"]).0, 0);
    assert_eq!(got(), 40);
}

#[test]
fn the_log_tells_who_is_limited_in_few_lines() {
    let server = start("[rate_limit]\nnxdomains_per_second = 5\n");
    for n in 0..40 {
        ask_and_forget(&server, &format!("127.0.{n}.1"), 20);
    }
    let began = Instant::now();
    let lines = || server.log().iter().filter(|line| line.contains("limiting nxdomain to 127.0.")).count();
    while lines() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "no line: {:#?}", server.log());
        Asker::new(server.dns).ask("www.example.com.", RecordType::A, None);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(lines() <= 20, "{:#?}", server.log());
}

fn ask_and_forget(server: &Meridian, source: &str, count: usize) {
    let socket = UdpSocket::bind((source.parse::<IpAddr>().expect("an address"), 0)).expect("a socket");
    for id in 0..count {
        socket.send_to(&encode(&format!("r{id}.example.com."), RecordType::A, id as u16, None), server.dns).expect("sent");
    }
}

#[test]
fn a_cut_reply_keeps_edns_and_the_code() {
    let server = start("[rate_limit]\nnxdomains_per_second = 1\nslip = 1\n");
    let asker = Asker::new(server.dns);
    let client = Some(("192.0.2.0".parse().expect("an address"), 24));
    let replies: Vec<Message> = (0..4).map(|n| asker.ask(&format!("r{n}.example.com."), RecordType::A, client)).collect();
    assert!(!replies[0].metadata.truncation && replies[0].authorities.len() == 1);
    for reply in &replies[1..] {
        assert!(reply.metadata.truncation && reply.authorities.is_empty() && reply.edns.is_some(), "{reply:?}");
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
}

#[test]
fn bad_values_are_reported() {
    for (text, expected) in [
        ("[rate_limit]\nresponses_per_second = -1", "found -1 per second, expected 0 to 1000000 per second"),
        ("[rate_limit]\nresponses_per_second = \"20\"", "expected a whole number from 0 to 1000000"),
        ("[rate_limit]\nresponses_per_sec = 20", "responses_per_second"),
        ("[rate_limit]\nerrors_per_second = 5\nwindow = 0", "found 0 s, expected 1 to 3600 s"),
        ("[rate_limit]\nerrors_per_second = 5\nslip = 11", "found 11, expected 0 to 10"),
        ("[rate_limit]\nerrors_per_second = 5\nprefix = { v4 = 33 }", "found 33 bits, expected 1 to 32 bits"),
        ("[rate_limit]\nerrors_per_second = 5\nprefix = { v6 = 65 }", "found 65 bits, expected 1 to 64 bits"),
        ("[rate_limit]\nerrors_per_second = 5\nexempt = [\"10.0.0.1/8\"]", "10.0.0.0/8"),
        ("[rate_limit]\nerrors_per_second = 5\ntable_size = 10", "found 10, expected 1024 to 16777216"),
        ("[rate_limit]\nerrors_per_second = 5\nlog_only = 1", "expected true or false"),
        ("[rate_limit]\nslip = 2", "nothing is limited"),
        ("[rate_limit]\n", "nothing is limited"),
        ("rate_limit = 5", "[rate_limit]"),
        ("[server.tcp]\nconnections = 0", "found 0, expected 1 to 1000000"),
        ("[server.tcp]\nidle = \"1h\"", "found 1 h, expected 100 ms to 5 min"),
        ("[server.tcp]\nidle = 10", "write \"10s\" for seconds"),
        ("[server.tcp]\nqueries_per_second = -5", "expected 0 to 1000000"),
        ("[server.tcp]\nconections = 5", "connections"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("zones")).expect("a folder");
        std::fs::write(dir.path().join("meridian.toml"), text).expect("the file");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["check", "--config"])
            .arg(dir.path().join("meridian.toml"))
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

/// Octets of the COOKIE option in a reply.
fn cookie_of(message: &Message) -> Vec<u8> {
    let edns = message.edns.as_ref().expect("an OPT record");
    let unknown = |option: &EdnsOption| if let EdnsOption::Unknown(_, octets) = option { Some(octets.clone()) } else { None };
    edns.options().as_ref().iter().filter(|(code, _)| u16::from(*code) == 10).find_map(|(_, option)| unknown(option)).expect("a cookie")
}

fn with_cookie(id: u16, cookie: &[u8]) -> Vec<u8> {
    let mut packet = encode("www.example.com.", RecordType::A, id, None);
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 4 + cookie.len() as u8, 0, 10, 0, cookie.len() as u8]);
    packet.extend_from_slice(cookie);
    packet
}

#[test]
fn rfc7873_section_5_2_3_a_limited_client_with_a_cookie_is_told_so_and_then_served() {
    let server = start("[rate_limit]\nresponses_per_second = 5\nslip = 1\n");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.dns).expect("a way");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let ask = |id: u16, cookie: &[u8]| {
        socket.send(&with_cookie(id, cookie)).expect("sent");
        let mut buf = [0; 1500];
        let len = socket.recv(&mut buf).expect("a reply");
        let message = Message::from_vec(&buf[..len]).expect("it decodes");
        assert_eq!(message.metadata.id, id);
        message
    };
    let (mut served, mut told) = (0, Vec::new());
    for id in 0..40 {
        let message = ask(id, b"a-client");
        match message.metadata.response_code {
            ResponseCode::NoError => served += usize::from(message.answers.len() == 2),
            ResponseCode::BADCOOKIE => told = cookie_of(&message),
            other => panic!("{other}: {message:?}"),
        }
        assert!(!message.metadata.truncation, "{message:?}");
    }
    assert!((5..15).contains(&served) && told.len() == 24 && told.starts_with(b"a-client"), "{served} served, {told:?}");
    // With it no limit holds.
    for id in 100..140 {
        assert_eq!(ask(id, &told).answers.len(), 2);
    }
}
