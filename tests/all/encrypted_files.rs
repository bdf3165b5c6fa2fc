//! Files that a process may have open, and the connections of clients that take them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::encrypted::{Served, config, framed, query, runtime};
use crate::encrypted_abuse::{next_frame, request, until, windows};
use crate::meridian::{Meridian, PATIENCE};
use crate::stand_in::http_client_keeping;

/// The program where so many files may be open: `-n 256` for good, `-Sn 256` as long as nobody raises it.
fn limited(limit: &str) -> Command {
    let mut program = Command::new("sh");
    program.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_meridian")]);
    program
}

fn open_files(served: &Served) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", served.server.pid())).expect("its files").count()
}

#[test]
fn silent_connections_leave_files_for_everything_else() {
    let served = Served::by(limited("-n 256"), &config("handshake = \"1m\""), &["dns.example.net", "127.0.0.1"]);
    served.server.says(&["warning: server: tls: connections: 4096 are asked for, but there is room for 19", "LimitNOFILE"]);
    let flood: Vec<TcpStream> =
        [served.tls, served.https].into_iter().flat_map(|to| (0..200).map(move |_| TcpStream::connect(to).expect("a connection"))).collect();
    let accepted = |transport: &str| served.metric(&format!("meridian_encrypted_accepted_total{{transport=\"{transport}\"}}"));
    until("all are accepted", || (accepted("tls"), accepted("https")) == (200, 200));
    until("files are left", || open_files(&served) + 64 <= 256);
    for transport in ["tls", "https"] {
        assert_eq!(served.metric(&format!("meridian_connection_places{{transport=\"{transport}\"}}")), 19, "{transport}");
        assert_eq!(served.metric(&format!("meridian_encrypted_accept_errors_total{{transport=\"{transport}\"}}")), 0, "{transport}");
    }
    let asked = query("www.example.com", 1, &[]);
    let plain: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(served.server.dns).expect("a connection")).collect();
    for _ in 0..10 {
        assert!(!served.over_tcp(&asked).is_empty());
    }
    assert!(!served.over_tls(&asked).is_empty());
    let (code, out, err) = served.server.command(&["reload"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, status, _) = served.server.command(&["status"]);
    assert!(code == 0 && status.contains("connections over tls: room for 19 of 4096"), "{status}");
    drop((flood, plain));
}

#[test]
fn the_limit_on_open_files_is_raised_as_far_as_it_may_be() {
    let served = Served::by(limited("-Sn 256"), &config(""), &["dns.example.net", "127.0.0.1"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.server.pid())).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert!(numbers[0] != "256" && numbers[0] == numbers[1], "{files}");
}

/// Without files nothing can be read, and that is what is said: the files have no errors.
#[test]
fn a_reload_without_files_says_so() {
    let served = Served::start("");
    let limit = |files: &str| {
        let pid = served.server.pid().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status().expect("prlimit runs").success());
    };
    // The connection that is open goes on to serve; for another there is no file.
    let (client, token) = (http_client_keeping(1), served.server.token());
    let call = async |method: Method, path: &str| {
        let request = client.request(method, format!("http://{}{path}", served.server.admin)).bearer_auth(&token).json(&json!({}));
        let text = request.send().await.expect("a reply").text().await.expect("a body");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let degraded = async || call(Method::GET, "/v1/status").await["degraded"].to_string();
    runtime().block_on(async {
        assert_eq!(degraded().await, "[]");
        limit("3");
        let report = call(Method::POST, "/v1/reload").await;
        let found = degraded().await;
        limit("1024");
        assert_eq!(report["failed"], true, "{report}");
        assert!(found.contains("the configuration file cannot be read: too many open files") && !found.contains("has errors"), "{found}");
        assert_eq!(call(Method::POST, "/v1/reload").await["failed"], false);
        assert_eq!(degraded().await, "[]");
    });
}

/// A machine that is paused (SIGSTOP here) wakes up with deadlines behind it and queries that came in time before it.
#[test]
fn what_came_before_a_deadline_is_answered_after_a_pause() {
    let config = format!("{}[server.tcp]\nidle = \"5s\"\n", config("idle = \"5s\""));
    let served = Served::with(&config, &["dns.example.net", "127.0.0.1"]);
    let asked = query("www.example.com", 1, &[]);
    let mut tcp = TcpStream::connect(served.server.dns).expect("a connection");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (mut tls, mut https) = (served.connect(served.tls, Some(b"dot")), served.connect(served.https, Some(b"h2")));
    // Headers of a response (RFC 9113 §6.2).
    let answered = |stream: &mut dyn Read| {
        let mut stream = stream;
        while !matches!(next_frame(&mut stream), (1, ..)) {}
    };
    https.write_all(&[windows(65_535, 1 << 20), request(1, "GET", &asked)].concat()).expect("sent");
    answered(&mut https);
    assert!(!framed(&mut tls, &asked).is_empty() && !framed(&mut tcp, &asked).is_empty());
    served.server.signal("STOP");
    let framed_query = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
    tcp.write_all(&framed_query).expect("sent");
    tls.write_all(&framed_query).and_then(|()| tls.flush()).expect("sent");
    https.write_all(&request(3, "GET", &asked)).and_then(|()| https.flush()).expect("sent");
    std::thread::sleep(Duration::from_secs(9));
    served.server.signal("CONT");
    let reply = |stream: &mut dyn Read| {
        let mut len = [0; 2];
        stream.read_exact(&mut len).expect("a reply");
        let mut reply = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut reply).expect("all of it");
    };
    reply(&mut tcp);
    reply(&mut tls);
    answered(&mut https);
}

/// A transport that a restart would keep closed is told of before it, and as long as it waits.
#[test]
fn what_waits_for_a_restart_is_told_until_it_is_over() {
    const PLAIN: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let server = Meridian::start(&[("meridian.toml", PLAIN)]);
    let short = |text: String| text.replace(&format!("{}/", server.path().display()), "");
    let status = || short(server.command(&["status"]).1);
    assert!(!status().contains("restart"), "{}", status());
    let tls = "[server.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"nothing.crt\"\nkey = \"nothing.key\"\n";
    server.write("meridian.toml", &format!("{PLAIN}{tls}"));
    for args in [&["reload", "--dry-run"][..], &["reload"], &["reload"]] {
        let (code, out, err) = server.command(args);
        for wanted in [
            "server.tls changed: needs a restart",
            "meridian.toml:7: warning: server: tls: nothing.crt: cannot be read: no such file or folder; it would stay closed",
        ] {
            let said = short(format!("{out}{err}"));
            assert!(code == 0 && said.contains(wanted), "{args:?}: {wanted}: {said}");
        }
    }
    let wanted = "needs a restart: server.tls has changed in meridian.toml, and the old value holds until a restart; nothing.crt: cannot be read";
    until("the status says so", || status().contains(wanted));
    server.write("meridian.toml", PLAIN);
    assert_eq!(server.command(&["reload"]).0, 0);
    assert!(!status().contains("restart"), "{}", status());
}
