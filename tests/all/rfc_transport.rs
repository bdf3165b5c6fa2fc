//! UDP and TCP by RFC and section: the real program and real sockets, and `dig` and `kdig` as clients that nobody here wrote.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::meridian::{Meridian, PATIENCE, encode};
use hickory_proto::rr::RecordType;

/// Secrets by their file, so that what clients send can be known.
const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\nnsid = \"node-1\"\nversion = \"test 1\"\ncookie_secrets = \"secrets\"\n\
    [admin]\nlisten = \"127.0.0.1:0\"\n";

fn server_with(config: &str) -> Meridian {
    let lines: String = (0..60).map(|n| format!("big 300 IN A 192.0.2.{n}\n")).collect();
    let zone = format!("@ 300 IN SOA ns h 1 1 1 1 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\nwww 300 IN A 192.0.2.1\n{lines}");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("zones")).expect("a folder");
    for (path, text) in [("meridian.toml", config), ("secrets", "e5e973e5a6b2a43f48e7dc849e37bfcf\n"), ("zones/example.com.zone", &zone)] {
        std::fs::write(dir.path().join(path), text).expect("a file");
    }
    only_for_owner(&dir.path().join("secrets"));
    Meridian::start_in(dir)
}

fn only_for_owner(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

fn server() -> Meridian {
    server_with(CONFIG)
}

fn query(id: u16) -> Vec<u8> {
    encode("www.example.com.", RecordType::A, id, None)
}

/// With an OPT record that has one option.
fn with_option(id: u16, code: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = query(id);
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
    packet.extend_from_slice(&(data.len() as u16 + 4).to_be_bytes());
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
    packet.extend_from_slice(data);
    packet
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("at most 65,535").to_be_bytes(), message].concat()
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// One reply: identifier, RCODE, number of answers, and all of it.
fn read_reply(stream: &mut TcpStream) -> (u16, u8, u8, Vec<u8>) {
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("a length");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut reply).expect("a reply");
    assert_ne!(reply[2] & 0x80, 0, "QR");
    (u16::from_be_bytes([reply[0], reply[1]]), reply[3] & 0x0f, reply[7], reply)
}

fn assert_answered(stream: &mut TcpStream, id: u16) {
    let (found, rcode, answers, _) = read_reply(stream);
    assert_eq!((found, rcode, answers), (id, 0, 1));
}

/// In order and without a reset: end of stream is all that is left to read.
fn assert_ended(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).expect("no reset"), 0, "end of stream");
}

/// What is sent, as pieces that each get a segment of their own, and which replies come (identifier, RCODE, answers); then whether the
/// connection still serves.
#[test]
fn rfc7766_section_6_2_1_1_and_8_messages_are_framed_by_length_not_by_segment() {
    let server = server();
    let (one, two) = (framed(&query(1)), framed(&query(2)));
    let both = [&one[..], &two].concat();
    let octet_by_octet: Vec<&[u8]> = one.chunks(1).collect();
    let padded = framed(&with_option(3, 12, &vec![0; 65_535 - query(3).len() - 15]));
    assert_eq!(padded[..2], [0xff, 0xff]);
    let garbage = framed(&vec![0x5a; 65_535]);
    let response = framed(&[&[0, 9, 0x81][..], &query(9)[3..]].concat());
    let answer = |id| (id, 0, 1);
    for (why, pieces, replies) in [
        ("one segment", vec![&one[..]], vec![answer(1)]),
        ("the length apart from the message", vec![&one[..2], &one[2..]], vec![answer(1)]),
        ("between the two octets of the length", vec![&one[..1], &one[1..]], vec![answer(1)]),
        ("octet by octet", octet_by_octet, vec![answer(1)]),
        ("two in one segment", vec![&both[..]], vec![answer(1), answer(2)]),
        ("cut in the second length", vec![&both[..one.len() + 1], &both[one.len() + 1..]], vec![answer(1), answer(2)]),
        ("cut in the second message", vec![&both[..one.len() + 7], &both[one.len() + 7..]], vec![answer(1), answer(2)]),
        ("65,535 octets", vec![&padded[..]], vec![answer(3)]),
        ("65,535 octets of garbage", vec![&garbage[..]], vec![]),
        ("a response (QR=1) is not answered", vec![&response[..], &one], vec![answer(1)]),
        ("shorter than a header", vec![&framed(&[1; 11])[..], &one], vec![answer(1)]),
    ] {
        let mut stream = connect(server.dns);
        for piece in pieces {
            stream.write_all(piece).expect("it is taken");
        }
        for expected in replies {
            let (id, rcode, answers, _) = read_reply(&mut stream);
            assert_eq!((id, rcode, answers), expected, "{why}");
        }
        if why.contains("garbage") {
            assert_eq!(read_reply(&mut stream).1, 4, "0x5a5a is opcode 11: NOTIMP");
        }
        stream.write_all(&framed(&query(0x4321))).expect("it is taken");
        assert_answered(&mut stream, 0x4321);
    }
}

#[test]
fn rfc7766_section_6_2_1_1_pipelined_queries_are_answered_without_waiting_for_each_other() {
    let server = server();
    let mut stream = connect(server.dns);
    let big = |id| framed(&encode("big.example.com.", RecordType::A, id, None));
    let all: Vec<u8> = (0..2000).flat_map(|id| if id % 2 == 0 { big(id) } else { framed(&query(id)) }).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || writer.write_all(&all).expect("it is taken"));
    for id in 0..2000 {
        let (found, rcode, answers, _) = read_reply(&mut stream);
        assert_eq!((found, rcode, answers), (id, 0, if id % 2 == 0 { 60 } else { 1 }), "in order: none has to wait (RFC 7766 §7)");
    }
    sender.join().expect("the sender");
}

#[test]
fn rfc7766_section_6_2_4_a_half_closed_connection_gets_everything_it_asked_for() {
    let server = server();
    for count in [0, 1, 1000] {
        let mut stream = connect(server.dns);
        let mut all: Vec<u8> = (0..count).flat_map(|id| framed(&query(id))).collect();
        all.extend_from_slice(&[0]);
        stream.write_all(&all).expect("it is taken");
        stream.shutdown(Shutdown::Write).expect("half closed");
        (0..count).for_each(|id| assert_answered(&mut stream, id));
        assert_ended(&mut stream);
    }
}

#[test]
fn rfc7766_section_8_an_empty_message_ends_the_connection_in_order() {
    let server = server();
    // What follows is never looked at, and closing with it unread would be a reset, which takes the replies with it.
    for behind in [0, 1, 60_000, 200_000] {
        let mut stream = connect(server.dns);
        let mut all: Vec<u8> = (0..50).flat_map(|id| framed(&query(id))).collect();
        all.extend(vec![0; 2 + behind]);
        stream.write_all(&all).expect("it is taken");
        std::thread::sleep(Duration::from_millis(20));
        (0..50).for_each(|id| assert_answered(&mut stream, id));
        assert_ended(&mut stream);
    }
}

#[test]
fn rfc7766_section_6_2_3_idle_connections_are_closed_in_order() {
    let server = server_with(&format!("{CONFIG}[server.tcp]\nidle = \"300ms\"\nmessage = \"300ms\"\n"));
    for beginning in [&b""[..], b"\0", b"\0\x20\x12"] {
        let mut stream = connect(server.dns);
        stream.write_all(&framed(&query(1))).expect("it is taken");
        assert_answered(&mut stream, 1);
        stream.write_all(beginning).expect("it is taken");
        assert_ended(&mut stream);
    }
}

/// A client that is still sending when a deadline ends its connection has its replies all the same, however late it reads them.
#[test]
fn rfc1122_section_4_2_2_13_a_deadline_takes_no_reply_with_it() {
    for (limits, beginning) in [("idle = \"300ms\"", &b""[..]), ("message = \"300ms\"", b"\0\x20"), ("lifetime = \"1s\"\nidle = \"20s\"", b"")] {
        let server = server_with(&format!("{CONFIG}[server.tcp]\n{limits}\n"));
        let mut stream = connect(server.dns);
        let all: Vec<u8> = (0..50).flat_map(|id| framed(&query(id))).collect();
        stream.write_all(&[&all, beginning].concat()).expect("it is taken");
        let (began, mut before) = (Instant::now(), Instant::now());
        while crate::rate_limit::metric(&server, "meridian_tcp_timed_out_total") == 0 {
            assert!(began.elapsed() < PATIENCE, "{limits}");
            before = Instant::now();
            std::thread::sleep(Duration::from_millis(5));
        }
        // A reset in reply to the first octet would be told at the second.
        let sent = (0..2).all(|_| {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(b"\0").is_ok()
        });
        assert!(sent || before.elapsed() > Duration::from_millis(900), "{limits}: what is still sent is read for a second");
        (0..50).for_each(|id| assert_answered(&mut stream, id));
        assert_ended(&mut stream);
    }
}

#[test]
fn rfc9210_section_4_tcp_needs_no_udp_before_it_and_says_the_same() {
    let server = server();
    for (name, rtype) in [("www.example.com.", RecordType::A), ("nope.example.com.", RecordType::MX), ("example.org.", RecordType::A)] {
        let (tcp, udp) = (server.ask_tcp(name, rtype), server.ask(name, rtype));
        assert_eq!(
            (tcp.metadata.response_code, &tcp.answers, &tcp.authorities),
            (udp.metadata.response_code, &udp.answers, &udp.authorities),
            "{name}"
        );
    }
}

/// The timeout that a keepalive option in the reply says, in units of 100 ms.
fn keepalive(reply: &[u8]) -> Option<u16> {
    let at = reply.windows(4).rposition(|octets| octets == [0, 11, 0, 2])?;
    Some(u16::from_be_bytes([reply[at + 4], reply[at + 5]]))
}

#[test]
fn rfc7828_section_3_3_2_the_timeout_is_told_and_shrinks_under_pressure() {
    let server = server_with(&format!("{CONFIG}[server.tcp]\nidle = \"20s\"\nconnections = 8\n"));
    let mut first = connect(server.dns);
    let mut ask = |packet: &[u8]| {
        first.write_all(&framed(packet)).expect("it is taken");
        read_reply(&mut first)
    };
    assert_eq!(keepalive(&ask(&with_option(1, 11, &[])).3), Some(200));
    assert_eq!(keepalive(&ask(&query(2)).3), None, "not asked for");
    assert_eq!(ask(&with_option(3, 11, &[0, 100])).1, 1, "FORMERR (§3.2.1)");
    let mut told = vec![200];
    let mut others = Vec::new();
    for id in 0..7 {
        let mut other = connect(server.dns);
        other.write_all(&framed(&query(id))).expect("it is taken");
        assert_answered(&mut other, id);
        others.push(other);
        told.push(keepalive(&ask(&with_option(id, 11, &[])).3).expect("asked for"));
    }
    assert_eq!(told, [200, 200, 200, 200, 150, 100, 50, 0]);
}

/// Runs a client; its whole output.
///
/// It asks from another address than the server's: `dig` shares its port with others (`SO_REUSEPORT`), may so be given the server's own, and would
/// hear its own query as the reply.
fn run(program: &str, server: SocketAddr, args: &str) -> String {
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = Command::new(program).args(["-b", "127.0.0.2", &address, "-p", &port]).args(args.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test.sh installs it"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Arguments, and what the output must hold; what begins with `!` it must not.
fn check_client(program: &str, cases: &[(&str, &[&str])]) {
    let server = server();
    for (args, expected) in cases {
        let output = run(program, server.dns, args);
        for text in *expected {
            let (wanted, text) = text.strip_prefix('!').map_or((true, *text), |text| (false, text));
            assert_eq!(output.contains(text), wanted, "{program} {args}: {text:?} in\n{output}");
        }
    }
}

#[test]
fn dig_understands_everything_that_it_asks_for() {
    const ONCE: &str = "+tries=1 +time=10 www.example.com A";
    let with = |options: &str| format!("{ONCE} {options}");
    let (answer, edns) = ("status: NOERROR", "EDNS: version: 0, flags:; udp: 1232");
    let cases: Vec<(String, Vec<&str>)> = vec![
        (with("+noedns"), vec![answer, "flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0", "192.0.2.1", "!EDNS"]),
        (with("+noedns +norec"), vec![answer, "flags: qr aa; QUERY: 1", "!EDNS"]),
        (with("+noedns +tcp"), vec![answer, "192.0.2.1", "!EDNS", "(TCP)"]),
        (with("+nocookie"), vec![answer, edns, "!COOKIE"]),
        (with("+nocookie +tcp"), vec![answer, edns, "(TCP)"]),
        (with("+cookie"), vec![answer, edns, "COOKIE: ", "(good)"]),
        (with("+cookie +tcp"), vec![answer, "COOKIE: ", "(good)"]),
        (with("+cookie=0011"), vec!["status: FORMERR", edns]),
        (with("+dnssec"), vec![answer, "EDNS: version: 0, flags: do; udp: 1232"]),
        (with("+nsid"), vec![answer, "NSID: 6e 6f 64 65 2d 31 (\"node-1\")"]),
        (with("+keepalive"), vec![answer, "!TCP KEEPALIVE"]),
        (with("+keepalive +tcp"), vec![answer, "TCP KEEPALIVE: 10.0 secs"]),
        (with("+padding=128"), vec![answer, edns, "!PAD"]),
        (with("+expire"), vec![answer, edns]),
        (with("+edns=1 +noednsneg"), vec!["status: BADVERS", edns, "ANSWER: 0"]),
        (with("+edns=1"), vec![answer, edns]),
        (with("+ednsopt=100:0102 +nocookie"), vec![answer, edns, "!OPT=100"]),
        (with("+ednsflags=0x40"), vec![answer, edns, "!MBZ"]),
        (with("+ednsflags=0x40 +edns=1 +noednsneg"), vec!["status: BADVERS", "!MBZ"]),
        (with("+subnet=192.0.2.0/24"), vec![answer, "CLIENT-SUBNET: 192.0.2.0/24/0"]),
        (with("+subnet=2001:db8::/48"), vec![answer, "CLIENT-SUBNET: 2001:db8::/48/0"]),
        (with("+subnet=0"), vec![answer, "CLIENT-SUBNET: 0.0.0.0/0/0"]),
        (with("+opcode=15"), vec!["status: NOTIMP", "EDE: 21 (Not Supported)", "ANSWER: 0"]),
        (with("+opcode=15 +noedns"), vec!["status: NOTIMP", "!EDNS"]),
        (with("+opcode=4"), vec!["status: NOTAUTH", "EDE: 20 (Not Authoritative)"]),
        (with("+opcode=5"), vec!["status: FORMERR", edns]),
        ("+tries=1 example.com SOA +opcode=4".into(), vec!["status: REFUSED", "EDE: 18 (Prohibited)"]),
        ("+tries=1 example.com SOA +opcode=5".into(), vec!["status: REFUSED", "EDE: 18 (Prohibited)"]),
        (with("+zflag"), vec![answer, "flags: qr aa rd;", "!MBZ"]),
        (with("+adflag +cdflag"), vec![answer, "flags: qr aa rd cd;"]),
        (with("+aaflag +tcflag"), vec![answer, "flags: qr aa rd;"]),
        (with("+header-only"), vec![answer, "QUERY: 0, ANSWER: 0", "COOKIE: ", "(good)"]),
        (with("+header-only +nocookie"), vec!["status: FORMERR", "QUERY: 0"]),
        (with("+header-only +noedns"), vec!["status: FORMERR", "QUERY: 0", "!EDNS"]),
        (with("-y hmac-sha256:key:AAAAAAAAAAAAAAAAAAAAAA=="), vec!["status: NOTAUTH", "BADKEY"]),
        ("+tries=1 big.example.com A +bufsize=512 +ignore".into(), vec![answer, "flags: qr aa tc rd", "ANSWER: 0", edns]),
        ("+tries=1 big.example.com A +bufsize=512".into(), vec![answer, "ANSWER: 60", "(TCP)", "Truncated, retrying in TCP mode"]),
        ("+tries=1 big.example.com A +noedns +ignore".into(), vec!["flags: qr aa tc rd", "!EDNS"]),
        ("+tries=1 big.example.com A +bufsize=65535".into(), vec![answer, "ANSWER: 60", "(UDP)"]),
        ("+tries=1 example.org A".into(), vec!["status: REFUSED", "EDE: 20 (Not Authoritative)", "!flags: qr aa"]),
        ("+tries=1 example.com AXFR".into(), vec!["Transfer failed"]),
        ("+tries=1 version.bind TXT CH".into(), vec!["\"test 1\"", "flags: qr aa rd"]),
        ("+tries=1 id.server TXT CH".into(), vec!["\"node-1\""]),
        ("+tries=1 authors.bind TXT CH".into(), vec!["status: REFUSED"]),
        ("+tries=1 www.example.com A HS".into(), vec!["status: REFUSED"]),
    ];
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(args, expected)| (args.as_str(), expected.as_slice())).collect();
    check_client("dig", &cases);
}

#[test]
fn kdig_understands_everything_that_it_asks_for() {
    let (answer, edns) = ("status: NOERROR", "Version: 0; flags: ; UDP size: 1232 B");
    check_client(
        "kdig",
        &[
            ("www.example.com A", &[answer, "Flags: qr aa rd; QUERY: 1; ANSWER: 1; AUTHORITY: 0; ADDITIONAL: 0", "!EDNS"]),
            ("www.example.com A +edns", &[answer, edns, "ext-rcode: NOERROR"]),
            ("www.example.com A +edns +tcp", &[answer, edns, "(TCP)"]),
            ("www.example.com A +tcp +keepopen", &[answer, "(TCP)"]),
            ("www.example.com A +dnssec", &[answer, "flags: do; UDP size: 1232 B"]),
            ("www.example.com A +nsid", &[answer, "NSID: 6E6F64652D31 \"node-1\""]),
            ("www.example.com A +cookie", &[answer, "COOKIE: "]),
            ("www.example.com A +subnet=192.0.2.0/24", &[answer, "CLIENT-SUBNET: 192.0.2.0/24/0"]),
            ("www.example.com A +padding=128", &[answer, edns, "!PADDING"]),
            ("www.example.com A +edns=1", &["status: BADVERS", "ext-rcode: BADVERS"]),
            ("www.example.com A +ednsopt=100:0102", &[answer, edns, "!OPT"]),
            ("www.example.com A +zflag +adflag", &[answer, "Flags: qr aa rd;"]),
            ("big.example.com A +bufsize=512 +ignore", &[answer, "Flags: qr aa tc rd", "ANSWER: 0"]),
            ("big.example.com A +bufsize=512", &[answer, "ANSWER: 60", "(TCP)"]),
            ("example.org A +edns", &["status: REFUSED", "EDE: 20 (Not Authoritative)"]),
            ("example.com AXFR", &["AXFR for example.com.", "!SOA"]),
            ("-y hmac-sha256:key:AAAAAAAAAAAAAAAAAAAAAA== www.example.com A", &["BADKEY"]),
        ],
    );
}

/// The cookie that `dig` shows.
fn cookie_of(output: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix("; COOKIE: "));
    line.unwrap_or_else(|| panic!("{output}")).trim_end_matches(" (good)").to_string()
}

#[test]
fn rfc7873_section_5_4_and_rfc9018_section_5_cookies_hold_over_transports_restarts_and_rotation() {
    const ARGS: &str = "+tries=1 +time=10 www.example.com A";
    let first = server();
    let cookie = cookie_of(&run("dig", first.dns, &format!("{ARGS} +cookie")));
    assert_eq!(cookie.len(), 48, "{cookie}");
    // A valid one comes back as it is, an invalid one does not: that is how one sees from outside that it was accepted.
    let echo = |server: &Meridian, cookie: &str, options: &str| cookie_of(&run("dig", server.dns, &format!("{ARGS} +cookie={cookie} {options}")));
    assert_eq!(echo(&first, &cookie, ""), cookie);
    assert_eq!(echo(&first, &cookie, "+tcp"), cookie);
    assert_eq!(echo(&first, &cookie, "+header-only"), cookie);
    let forged = format!("{}{}", &cookie[..47], if cookie.ends_with('0') { '1' } else { '0' });
    assert_ne!(echo(&first, &forged, ""), forged);
    let bad = run("dig", first.dns, &format!("{ARGS} +header-only +nobadcookie +cookie={forged}"));
    assert!(bad.contains("status: BADCOOKIE"), "{bad}");
    let server = first.restart();
    assert_eq!(echo(&server, &cookie, ""), cookie, "the secrets are in the file");
    let reload = |text: &str| {
        only_for_owner(&server.write("secrets", text));
        server.command(&["reload"])
    };
    let (old, new) = ("e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962");
    assert_eq!(reload(&format!("{old}\n{new}\n")).0, 0);
    assert_eq!(echo(&server, &cookie, ""), cookie, "a second secret is there");
    assert_eq!(reload(&format!("{new}\n{old}\n")).0, 0);
    let renewed = echo(&server, &cookie, "");
    assert_ne!(renewed, cookie, "the new one signs");
    assert_eq!(echo(&server, &renewed, ""), renewed);
    let accepted = run("dig", server.dns, &format!("{ARGS} +header-only +nobadcookie +cookie={cookie}"));
    assert!(accepted.contains("status: NOERROR"), "the old one is still accepted: {accepted}");
    let (code, stdout, stderr) = reload("not a secret\n");
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(format!("{stdout}{stderr}").contains("secrets:1"), "{stdout}{stderr}");
    assert_eq!(echo(&server, &renewed, ""), renewed, "the secrets before go on");
    assert_eq!(reload(&format!("{new}\n")).0, 0);
    let refused = run("dig", server.dns, &format!("{ARGS} +header-only +nobadcookie +cookie={cookie}"));
    assert!(refused.contains("status: BADCOOKIE"), "the old one is gone: {refused}");
}
