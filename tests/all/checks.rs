//! Checks of every kind against real peers: what is sent, what must come back, and the words when it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hickory_proto::rr::RecordType::A;
use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::dns::{Name, Rcode, RecordType};
use meridian::health::{Failure, Outcome, Thresholds, Watch};
use meridian::policy::model::{Bound, DnsCheck, GrpcCheck, HttpCheck, HttpMethod, JsonExpected, Monitor, MonitorKind, Pattern, TcpCheck, TlsCheck};
use meridian::probe::check;

use crate::meridian::Meridian;
use crate::origin::{Authority, Certificate, HOST, Origin, closed_port, means};
use crate::rest::Rest;

const TIMEOUT: Duration = Duration::from_secs(5);

fn spec(addr: SocketAddr, kind: MonitorKind) -> CheckSpec {
    let thresholds = Thresholds { interval: TIMEOUT, fast: TIMEOUT, fall: 3, rise: 3 };
    CheckSpec {
        target: CheckTarget::Address(addr.ip()),
        monitor: Monitor { name: String::new(), kind, port: addr.port(), thresholds, timeout: TIMEOUT, source: Vec::new(), watch: Watch::default() },
    }
}

fn run(addr: SocketAddr, kind: MonitorKind) -> String {
    let spec = spec(addr, kind);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome: Outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

/// Says `reply` to one client after it has said what ends in `until` (at once for nothing), then closes; hands over what the client said.
fn peer(until: &'static str, reply: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (addr, (said, hears)) = (listener.local_addr().expect("an address"), channel());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut heard = Vec::new();
        let mut octet = [0];
        while !heard.ends_with(until.as_bytes()) && stream.read(&mut octet).is_ok_and(|read| read == 1) {
            heard.push(octet[0]);
        }
        let _ = stream.write_all(reply.as_bytes());
        let _ = said.send(String::from_utf8_lossy(&heard).into_owned());
    });
    (addr, hears)
}

#[test]
fn checks_come_from_the_source_that_is_set() {
    let http = HttpCheck { path: "/".into(), host: HOST.into(), status: vec![(200, 299)], ..HttpCheck::default() };
    let grpc = GrpcCheck { service: String::new(), host: HOST.into(), tls: None };
    let unused = ["192.0.2.9"];
    for kind in [MonitorKind::Grpc(grpc), MonitorKind::Ping] {
        let mut spec = spec(closed_port(), kind);
        spec.monitor.source = unused.iter().map(|address| address.parse().expect("an address")).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
        assert!(
            outcome.as_ref().is_err_and(|why| why.to_string().contains("source = 192.0.2.9") || why.to_string().contains("permit")),
            "{outcome:?}"
        );
    }
    for kind in [MonitorKind::Tcp(TcpCheck::default()), MonitorKind::Http(http)] {
        // All of 127.0.0.0/8 is this machine's. One of the other family is not looked at.
        for (source, expected) in [(&["127.0.0.9", "::1"][..], Some("127.0.0.9")), (&["::1"], Some("127.0.0.1")), (&["192.0.2.9"], None)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let mut spec = spec(listener.local_addr().expect("an address"), kind.clone());
            spec.monitor.source = source.iter().map(|address| address.parse().expect("an address")).collect();
            let from = std::thread::spawn(move || {
                listener.set_nonblocking(expected.is_none()).expect("set");
                let (mut stream, from) = listener.accept().ok()?;
                // The request, or the end of a check that has none.
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                Some(from.ip().to_string())
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
            match expected {
                Some(expected) => assert_eq!((from.join().expect("no panic").as_deref(), outcome), (Some(expected), Ok(())), "{source:?}"),
                // It says nothing of the endpoint.
                None => {
                    let why = "source = 192.0.2.9: this machine has no such address, or no port left on it";
                    assert_eq!(outcome, Err(Failure::NoNetwork(why.into())));
                }
            }
        }
    }
}

#[test]
fn a_source_is_one_address_of_each_family_at_most() {
    for (source, expected) in [
        ("\"192.0.2.53\"", ""),
        ("[\"192.0.2.53\", \"2001:db8::53\"]", ""),
        ("[\"192.0.2.53\", \"192.0.2.54\"]", "found 192.0.2.54 beside another address of its family"),
        ("\"eth0\"", "expected an address of this machine"),
        ("\"0.0.0.0\"", "expected an address of this machine"),
        ("\"ff02::1\"", "expected an address of this machine"),
        ("53", "expected an address of this machine"),
    ] {
        let zone = format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\ntcp = true\nport = 80\nsource = {source}\n\
             [pool.p]\nendpoints = [\"192.0.2.1\"]\nmonitor = \"m\"\n[steer.www]\nuse = \"p\"\n"
        );
        let files = meridian::config::MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
        let loaded = meridian::config::load(&files, Path::new("meridian.toml"));
        let found: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new(), "{source}"),
            expected => assert!(found.len() == 1 && found[0].contains(expected), "{source}: {found:?}"),
        }
    }
}

#[test]
fn tcp_checks_say_and_hear_what_they_are_told() {
    // What the check sends and wants, when the peer speaks and what it says, what comes of it.
    for (send, wanted, until, says, outcome) in [
        (None, None, "", "", "ok"),
        (None, Some("220 "), "", "220 mail.example ESMTP\r\n", "ok"),
        (Some("PING\r\n"), Some("+PONG"), "PING\r\n", "+PONG\r\n", "ok"),
        (Some("PING\r\n"), None, "PING\r\n", "+PONG\r\n", "ok"),
        (None, Some("220 "), "", "554 no\r\n", "answer: found \"554 no\\r\\n\", expected \"220 \""),
        (Some("PING\r\n"), Some("+PONG"), "PING\r\n", "", "answer: the connection was closed without a word"),
    ] {
        let (addr, heard) = peer(until, says);
        let check = TcpCheck { send: send.map(str::to_owned), reply: wanted.map(str::to_owned), tls: None };
        assert_eq!(run(addr, MonitorKind::Tcp(check)), outcome, "{send:?} {wanted:?}");
        if wanted.is_some() {
            assert_eq!(heard.recv().expect("a client"), send.unwrap_or(""));
        }
    }
    let check = TcpCheck { reply: Some("x".into()), ..TcpCheck::default() };
    assert_eq!(run(closed_port(), MonitorKind::Tcp(check)), "connect: connection refused");
}

#[test]
fn http_checks_send_method_and_headers_and_look_into_json() {
    const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"status\":\"ok\",\"db\":{\"lag\":3,\"ready\":true,\"load\":0.75,\"one\":1.0,\"serial\":9007199254740993},\"a/b\":[1,\"x\"]}";
    // A comparison where it reads like one, else a scalar.
    let expected = |text: &str| Bound::parse(text).map_or_else(|| JsonExpected::Is(text.into()), |bound| JsonExpected::Number(vec![bound]));
    let check = |json: &[(&str, &str)]| HttpCheck {
        path: "/healthz".into(),
        host: HOST.into(),
        status: vec![(200, 299)],
        json: json.iter().map(|(pointer, value)| (String::from(*pointer), expected(value))).collect(),
        ..HttpCheck::default()
    };
    for (json, outcome) in [
        (&[("/status", "\"ok\"")][..], "ok"),
        (&[("/db/lag", "3"), ("/db/ready", "true"), ("/a~1b/1", "\"x\"")], "ok"),
        (&[("/status", "\"ready\"")], "answer: found \"ok\" at \"/status\", expected \"ready\""),
        (&[("/db/lag", "\"3\"")], "answer: found 3 at \"/db/lag\", expected \"3\""),
        (&[("/nothing", "1")], "answer: found nothing at \"/nothing\", expected 1"),
        (&[("/db/lag", "< 3.5"), ("/a~1b/0", ">= 1")], "ok"),
        (&[("/db/lag", "< 3")], "answer: found 3 at \"/db/lag\", expected < 3"),
        (&[("/db/load", "< 0.8"), ("/db/load", "0.75")], "ok"),
        (&[("/db/load", "> 0.8")], "answer: found 0.75 at \"/db/load\", expected > 0.8"),
        // Equal numbers are equal, however they are written; and no others are.
        (&[("/db/one", "1"), ("/db/one", "== 1"), ("/db/lag", "3")], "ok"),
        (&[("/db/one", "2")], "answer: found 1.0 at \"/db/one\", expected 2"),
        (&[("/db/one", "\"1.0\"")], "answer: found 1.0 at \"/db/one\", expected \"1.0\""),
        (&[("/db/serial", "9007199254740992")], "answer: found 9007199254740993 at \"/db/serial\", expected 9007199254740992"),
        (&[("/status", "> 0")], "answer: found \"ok\" at \"/status\", expected > 0"),
        (&[("/nothing", "!= 7")], "answer: found nothing at \"/nothing\", expected != 7"),
    ] {
        assert_eq!(run(peer("\r\n\r\n", JSON).0, MonitorKind::Http(check(json))), outcome, "{json:?}");
    }
    let (addr, _) = peer("\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nready");
    assert!(run(addr, MonitorKind::Http(check(&[("/status", "1")]))).starts_with("answer: the body is no JSON: "));
    let missing = "expected text not in the body";
    for (body, pattern, outcome) in
        [("ready", "^ready$", "ok"), ("ready", "(?i)READY|WARM", "ok"), ("ready soon", "^ready$", missing), ("", ".", missing)]
    {
        let (addr, _) = peer("\r\n\r\n", format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").leak());
        let check = HttpCheck { pattern: Some(Pattern::parse(pattern).expect(pattern)), ..check(&[]) };
        assert_eq!(run(addr, MonitorKind::Http(check)), outcome, "{body} {pattern}");
    }
    let (addr, heard) = peer("\r\n\r\n", JSON);
    let headers = vec![("x-probe".to_owned(), "yes, please".to_owned()), ("user-agent".to_owned(), "ours/1".to_owned())];
    let check = HttpCheck { method: HttpMethod::Head, headers, body: None, ..check(&[]) };
    assert_eq!(run(addr, MonitorKind::Http(check)), "ok");
    let request = heard.recv().expect("a request").to_lowercase();
    let lines: Vec<&str> = request.lines().collect();
    assert_eq!(lines[0], "head /healthz http/1.1");
    for line in ["x-probe: yes, please", "user-agent: ours/1", &format!("host: {HOST}:{}", addr.port()), "connection: close"] {
        assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line}: {request}");
    }
    assert!(!request.contains("meridian/"), "{request}");
}

#[test]
fn an_insecure_check_takes_any_certificate_and_no_other_does() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Good);
    let check = HttpCheck { path: "/".into(), host: HOST.into(), status: vec![(200, 299)], ..HttpCheck::default() };
    for certificate in [Certificate::Good, Certificate::Expired, Certificate::WrongName, Certificate::UnknownCa] {
        origin.show(&authority, certificate);
        let kind = |insecure, ca| MonitorKind::Https { check: check.clone(), tls: TlsCheck { ca, insecure, ..TlsCheck::default() } };
        assert_eq!(run(origin.addr(), kind(true, None)), "ok", "{certificate:?}");
        assert_eq!(run(origin.addr(), kind(false, Some(authority.ca_file()))) == "ok", certificate == Certificate::Good, "{certificate:?}");
    }
}

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nwww.A = [\"192.0.2.1\", \"192.0.2.2\"]\n\
                    text.TXT = \"hello there\"\n";

#[test]
fn dns_checks_ask_a_real_server_and_compare() {
    // More than goes into a datagram without EDNS.
    let many: Vec<String> = (0..60).map(|at| format!("\"192.0.3.{at}\"")).collect();
    let zone = format!("{ZONE}many.A = [{}]\n", many.join(", "));
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let ask = |name: &str, rtype: RecordType, rcode: Rcode, answer: Option<&str>| {
        let name = Name::parse_absolute(name).expect("a name");
        run(server.dns, MonitorKind::Dns(DnsCheck { name, rtype, rcode, answer: answer.map(str::to_owned) }))
    };
    let (a, ok) = (RecordType::A, Rcode::NOERROR);
    assert_eq!(ask("www.example.com.", a, ok, None), "ok");
    assert_eq!(ask("www.example.com.", a, ok, Some("192.0.2.2")), "ok");
    assert_eq!(ask("example.com.", RecordType::NS, ok, Some("NS1.example.com")), "ok");
    let other = ask("www.example.com.", a, ok, Some("192.0.2.9"));
    assert!(other.starts_with("answer: found 192.0.2.") && other.ends_with(", expected 192.0.2.9"), "{other}");
    assert_eq!(ask("text.example.com.", a, ok, Some("192.0.2.9")), "answer: found no A record, expected 192.0.2.9");
    assert_eq!(ask("none.example.com.", a, ok, None), "answer: found NXDOMAIN, expected NOERROR");
    assert_eq!(ask("none.example.com.", a, Rcode::NXDOMAIN, None), "ok");
    assert_eq!(ask("www.example.net.", a, ok, None), "answer: found REFUSED, expected NOERROR");
    // What is cut off is asked for over TCP.
    assert_eq!(ask("many.example.com.", a, ok, Some("192.0.3.59")), "ok");
    assert_eq!(ask("many.example.com.", a, ok, None), "ok");
    let other = ask("many.example.com.", a, ok, Some("192.0.2.9"));
    assert!(other.starts_with("answer: found 192.0.3."), "{other}");
    let cutter = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let cuts = cutter.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = cutter.recv_from(&mut packet) {
            // QR and TC.
            packet[2] |= 0x82;
            let _ = cutter.send_to(&packet[..len], from);
        }
    });
    let name = Name::parse_absolute("www.example.com.").expect("a name");
    let told = run(cuts, MonitorKind::Dns(DnsCheck { name, rtype: a, rcode: ok, answer: Some("192.0.2.1".into()) }));
    assert_eq!(told, "answer: truncated over UDP (TC); over TCP connect: connection refused");
    // Somebody takes the connection and says nothing: UDP has answered all the same.
    let (quiet, cutter) = loop {
        let quiet = TcpListener::bind("127.0.0.1:0").expect("a port");
        if let Ok(cutter) = std::net::UdpSocket::bind(quiet.local_addr().expect("an address")) {
            break (quiet, cutter);
        }
    };
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = cutter.recv_from(&mut packet) {
            packet[2] |= 0x82;
            let _ = cutter.send_to(&packet[..len], from);
        }
    });
    let name = Name::parse_absolute("www.example.com.").expect("a name");
    let kind = MonitorKind::Dns(DnsCheck { name, rtype: a, rcode: ok, answer: Some("192.0.2.1".into()) });
    let mut hangs = spec(quiet.local_addr().expect("an address"), kind);
    hangs.monitor.timeout = Duration::from_millis(500);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let timed = runtime.block_on(check::run_timed(&hangs, &means(&hangs)));
    let told = timed.outcome.expect_err("nothing comes").to_string();
    assert_eq!(told, "timeout during response over TCP (it answers over UDP, but truncated)");
    let phases: Vec<&str> = timed.phases.iter().map(|part| part.phase).collect();
    assert_eq!(phases, ["connect", "first byte", "tcp", "tcp answer"]);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut spec = spec(
        silent.local_addr().expect("an address"),
        MonitorKind::Dns(DnsCheck { name: Name::parse_absolute("www.example.com.").expect("a name"), rtype: a, rcode: ok, answer: None }),
    );
    spec.monitor.timeout = Duration::from_millis(200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(check::run(&spec, &means(&spec))).0;
    assert_eq!(outcome, Err(Failure::Timeout("response")));
}

/// One server watches another by DNS, as its user would say it.
#[test]
fn monitors_of_all_kinds_are_said_in_a_zone() {
    let watched = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let zone = format!(
        "[zone]\nname = \"example.org\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.dns]\ndns = \"www.example.com A\"\nport = {}\nexpect = {{ answer = \"192.0.2.1\" }}\ninterval = \"1s\"\n\
         [monitor.wrong]\ndns = \"www.example.com. A\"\nport = {}\nexpect = {{ rcode = \"NXDOMAIN\" }}\ninterval = \"1s\"\n\
         [pool.good]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"dns\"\n[pool.bad]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"wrong\"\n\
         [steer.app]\npolicy = \"failover\"\nto = [\"bad\", \"good\"]\n",
        watched.dns.port(),
        watched.dns.port()
    );
    let server = Meridian::start(&[("zones/example.org.toml", &zone)]);
    let rest = Rest::new(&server);
    server.wait_for("app.example.org.", A, |found| !found.is_empty());
    let began = std::time::Instant::now();
    while rest.endpoint("example.org/bad/127.0.0.1")["state"] != "down" || rest.endpoint("example.org/good/127.0.0.1")["state"] != "up" {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", rest.get("/v1/status"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rest.endpoint("example.org/bad/127.0.0.1")["last_error"], "answer: found NOERROR, expected NXDOMAIN");
    let metrics = rest.text("/metrics");
    assert!(metrics.contains("meridian_check_duration_seconds_count{kind=\"dns\",outcome=\"answer\"}"), "{metrics}");
}

#[test]
fn a_check_may_go_to_another_address_than_is_handed_out() {
    let origin = TcpListener::bind("127.0.0.3:0").expect("a port");
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.m]\ntcp = true\nport = {}\nsource = \"127.0.0.9\"\ninterval = \"1s\"\nfall = 1\n\
         [pool.p]\nmonitor = \"m\"\nendpoints = [{{ address = \"192.0.2.10\", check_address = \"127.0.0.3\" }}]\n[steer.www]\nuse = \"p\"\n",
        origin.local_addr().expect("an address").port()
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let (_, from) = origin.accept().expect("a check");
    assert_eq!(from.ip().to_string(), "127.0.0.9");
    let began = std::time::Instant::now();
    while rest.endpoint("example.com/p/192.0.2.10")["state"] != "up" {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", rest.get("/v1/status"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let checks = rest.get("/v1/health/example.com/p/192.0.2.10")["checks"].clone();
    assert!(checks[0].as_str().is_some_and(|check| check.starts_with("tcp at 127.0.0.3:")), "{checks}");
    assert_eq!(crate::meridian::addresses(&server.ask("www.example.com.", A)), ["192.0.2.10".parse::<std::net::IpAddr>().expect("an address")]);
}
