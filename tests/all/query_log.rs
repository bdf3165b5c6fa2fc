//! The query log of the real program: dnstap as `dnstap-read` of BIND and `dnstap-ldns` read it, JSON lines, rotation, samples, full disks.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::meridian::{Asker, Meridian, PATIENCE, encode};
use crate::rate_limit::{metric, metrics_text};

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]
[records]
ns1.A   = "192.0.2.53"
"*.w".A = "192.0.2.80"
big.TXT = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]
[pool.near]
endpoints = ["192.0.2.1"]
[pool.far]
endpoints = ["192.0.2.2"]
[steer.www]
policy  = "geo"
rules   = [{ net = ["203.0.113.0/24"], to = "near" }]
default = "far"
"#;

fn config(log: &str) -> String {
    format!("[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\nnsid = \"node-1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{log}")
}

/// With `[query_log]` and these keys; `log` is a folder.
fn start(keys: &str) -> Meridian {
    let config = config(&format!("[query_log]\n{keys}"));
    Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", ZONE), ("log/README", "")])
}

/// The file and those that were set aside, the newest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let numbered = |number: usize| PathBuf::from(format!("{}.{number}", path.display()));
    [path.to_path_buf()].into_iter().chain((1..).map(numbered)).take_while(|path| path.exists()).collect()
}

/// What `dnstap-read` makes of a file.
fn dnstap_read(path: &Path, options: &[&str]) -> String {
    let output =
        Command::new("dnstap-read").args(options).arg(path).output().expect("dnstap-read runs (Debian: bind9-dnsutils; scripts/test.sh sees to it)");
    assert!(output.status.success() && output.stderr.is_empty(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits until nothing is on its way into the file.
fn settle(server: &Meridian) {
    let began = Instant::now();
    let done = || metric(server, "meridian_query_log_written_total") + metric(server, "meridian_query_log_dropped_total");
    while metric(server, "meridian_query_log_sampled_total") != done() {
        assert!(began.elapsed() < PATIENCE, "{}", metrics_text(server));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks over one connection for `count` names, all at once; every reply is read.
fn ask_tcp(server: &Meridian, name: impl Fn(usize) -> String, count: usize) {
    let stream = TcpStream::connect(server.dns).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut into = stream.try_clone().expect("a clone");
    let queries: Vec<u8> = (0..count)
        .flat_map(|n| {
            let packet = encode(&name(n), RecordType::A, n as u16, None);
            [&(packet.len() as u16).to_be_bytes()[..], &packet].concat()
        })
        .collect();
    let sender = std::thread::spawn(move || into.write_all(&queries).expect("it takes the queries"));
    let mut from = std::io::BufReader::new(stream);
    for _ in 0..count {
        let mut len = [0; 2];
        from.read_exact(&mut len).expect("a length");
        from.read_exact(&mut vec![0; usize::from(u16::from_be_bytes(len))]).expect("a reply");
    }
    sender.join().expect("no panic");
}

#[test]
fn dnstap_read_finds_every_reply_over_udp_and_tcp_across_rotations() {
    let mut server = start("file = \"log/q.dnstap\"\nformat = \"dnstap\"\nsample = 1\nmax_size = \"256KiB\"\nkeep = 100");
    let asker = Asker::new(server.dns);
    for n in 0..1500 {
        asker.ask(&format!("u{n}.w.example.com."), RecordType::A, None);
    }
    ask_tcp(&server, |n| format!("t{n}.w.example.com."), 3000);
    settle(&server);
    // A file that is still being written can be read as well, but for its end.
    let path = server.path().join("log/q.dnstap");
    let half = Command::new("dnstap-read").arg(&path).output().expect("dnstap-read runs");
    assert!(!half.stdout.is_empty());
    assert_eq!(metric(&server, "meridian_query_log_dropped_total"), 0, "{}", metrics_text(&server));
    let rotations = metric(&server, "meridian_query_log_rotations_total") as usize;
    let dns = server.dns;
    assert_eq!(server.terminate().1, Some(0));
    let files = files(&path);
    assert!(rotations >= 3 && files.len() == rotations + 1, "{rotations} rotations, {files:?}");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        let found = std::fs::metadata(file).expect("a file");
        assert!(found.len() <= 256 << 10 && found.mode() & 0o137 == 0, "{file:?}: {} octets, mode {:o}", found.len(), found.mode());
        for line in dnstap_read(file, &[]).lines() {
            // 21-Nov-2026 18:03:52.123 AR 127.0.0.1:5353 -> 127.0.0.1:53 UDP 45b u0.w.example.com/IN/A
            let words: Vec<&str> = line.split_whitespace().collect();
            let transport = if words[8].starts_with('u') { "UDP" } else { "TCP" };
            assert_eq!((words[2], words[5], words[6]), ("AR", &*dns.to_string(), transport), "{line}");
            assert!(words[3].starts_with("127.0.0.1:") && words[7].ends_with('b'), "{line}");
            *seen.entry(words[8].to_string()).or_default() += 1;
        }
    }
    let name = |kind: &str, n: usize| (format!("{kind}{n}.w.example.com/IN/A"), 1);
    let expected: BTreeMap<String, usize> = (0..1500).map(|n| name("u", n)).chain((0..3000).map(|n| name("t", n))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn dnstap_read_shows_both_messages_and_what_they_do_not_say() {
    for (prefix, client, subnet) in [("", "127.0.0.1", "203.0.113.7/32"), ("client_prefix = { v4 = 24 }", "127.0.0.0", "203.0.113.0/32")] {
        let mut server = start(&format!("file = \"log/q\"\nformat = \"dnstap\"\nsample = 1\n{prefix}"));
        server.ask_for("www.example.com.", RecordType::A, ("203.0.113.7".parse().expect("an address"), 32));
        server.ask("big.example.com.", RecordType::TXT);
        server.ask_tcp("big.example.com.", RecordType::TXT);
        assert_eq!(server.terminate().1, Some(0));
        // The other reader shows the query, too: its client subnet, and its cookie if it had one, as far as they may be seen.
        let path = server.path().join("log/q");
        let output = Command::new("dnstap-ldns").args(["-y", "-r"]).arg(&path).output().expect("dnstap-ldns runs (scripts/test.sh sees to it)");
        let other = String::from_utf8(output.stdout).expect("text");
        let last = if prefix.is_empty() { "cb007107" } else { "cb007100" };
        for wanted in ["query_message: |", "0008000800012000", last, "query_time: !!timestamp 20"] {
            assert!(other.contains(wanted), "{wanted} is not in\n{other}");
        }
        assert_eq!(other.matches("cb007107").count(), if prefix.is_empty() { 2 } else { 0 }, "{other}");
        let octets = std::fs::read(&path).expect("the file");
        let extra = "\"scope\":24,\"zone\":\"example.com.\",\"pool\":\"example.com/near\",\"generation\":";
        assert!(octets.windows(extra.len()).any(|found| found == extra.as_bytes()), "no {extra}");
        let text = dnstap_read(&path, &["-y"]);
        let records: Vec<&str> = text.split("---\n").filter(|record| !record.trim().is_empty()).collect();
        assert_eq!(records.len(), 3, "{text}");
        for (record, wanted) in [
            (0, format!("query_address: \"{client}\"")),
            (0, "identity: node-1".into()),
            (0, concat!("version: meridian ", env!("CARGO_PKG_VERSION")).into()),
            (0, "type: AUTH_RESPONSE".into()),
            (0, "socket_family: INET".into()),
            (0, "query_zone: example.com.".into()),
            (0, "response_address: \"127.0.0.1\"".into()),
            (0, format!("CLIENT-SUBNET: {}", subnet.replace("/32", "/32/24"))),
            (0, "192.0.2.1".into()),
            (1, "socket_protocol: UDP".into()),
            (1, "flags: qr aa tc".into()),
            (2, "response_address: \"127.0.0.1\"".into()),
            (2, "flags: qr aa\n".into()),
            (2, "socket_protocol: TCP".into()),
        ] {
            assert!(records[record].contains(&wanted), "{wanted} is not in\n{}", records[record]);
        }
    }
}

#[test]
fn json_lines_say_who_asked_what_and_what_decided() {
    let server = start("file = \"log/q.json\"\nsample = 1");
    let near: (IpAddr, u8) = ("203.0.113.7".parse().expect("an address"), 32);
    let asker = Asker::new(server.dns);
    asker.ask("WWW.example.com.", RecordType::A, Some(near));
    asker.ask("www.example.com.", RecordType::A, None);
    asker.ask("nothing.example.com.", RecordType::TXT, None);
    asker.ask("example.org.", RecordType::A, None);
    asker.ask("big.example.com.", RecordType::TXT, None);
    server.ask_tcp("big.example.com.", RecordType::TXT);
    settle(&server);
    let lines = lines(&server.path().join("log/q.json"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let of = |at: usize, keys: &[&str]| keys.iter().map(|key| lines[at].get(*key).cloned().unwrap_or(Value::Null)).collect::<Vec<_>>();
    let what = ["name", "type", "rcode", "transport", "truncated", "zone", "pool", "ecs", "scope"];
    for (at, expected) in [
        json!(["www.example.com.", "A", "NOERROR", "udp", false, "example.com.", "example.com/near", "203.0.113.7/32", 24]),
        json!(["www.example.com.", "A", "NOERROR", "udp", false, "example.com.", "example.com/far", null, null]),
        json!(["nothing.example.com.", "TXT", "NXDOMAIN", "udp", false, "example.com.", null, null, null]),
        json!(["example.org.", "A", "REFUSED", "udp", false, null, null, null, null]),
        json!(["big.example.com.", "TXT", "NOERROR", "udp", true, "example.com.", null, null, null]),
        json!(["big.example.com.", "TXT", "NOERROR", "tcp", false, "example.com.", null, null, null]),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(json!(of(at, &what)), expected, "{}", lines[at]);
        assert_eq!(of(at, &["client", "server", "class", "sample"]), [json!("127.0.0.1"), json!(server.dns.to_string()), json!("IN"), json!(1)]);
        assert!(lines[at]["time"].as_f64().is_some_and(|time| (now - 60.0..=now).contains(&time)), "{}", lines[at]);
        assert!(
            lines[at]["generation"].as_u64().is_some_and(|generation| generation > 0) && lines[at]["size"].as_u64().is_some_and(|size| size > 20)
        );
    }
    assert_eq!(lines.len(), 6);
}

#[test]
fn the_manual_shows_settings_that_load_and_a_line_as_it_is() {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/query-log.md")).expect("the manual");
    let block = |kind: &str| manual.split(&format!("```{kind}\n")).nth(1).and_then(|rest| rest.split("```").next()).expect("a block").to_string();
    let server = Meridian::start(&[
        ("meridian.toml", &config(&block("toml").replace("100   ", "1     "))),
        ("zones/example.com.toml", ZONE),
        ("log/README", ""),
    ]);
    server.ask_for("www.example.com.", RecordType::A, ("203.0.113.7".parse().expect("an address"), 32));
    settle(&server);
    let path = server.path().join("log/queries.json");
    let found = std::fs::read_to_string(&path).expect("a line");
    let keys = |line: &str| {
        let line = line.trim().trim_start_matches('{');
        line.split(",\"").map(|member| member.split("\":").next().unwrap_or_default().trim_matches('"').to_string()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&found), keys(&block("json")), "members in their order: {found}");
    let line = &lines(&path)[0];
    assert_eq!((&line["client"], &line["ecs"]), (&json!("127.0.0.0"), &json!("203.0.113.0/24")));
}

#[test]
fn one_reply_in_so_many_is_logged_and_the_counts_hold() {
    let server = start("file = \"log/q\"\nsample = 7");
    let asker = Asker::new(server.dns);
    (0..700).for_each(|n| drop(asker.ask(&format!("{n}.w.example.com."), RecordType::A, None)));
    settle(&server);
    let lines = lines(&server.path().join("log/q"));
    assert_eq!((lines.len(), metric(&server, "meridian_query_log_sampled_total"), &lines[0]["sample"]), (100, 100, &json!(7)));
    // As many as there can be at once: what does not fit the ring is dropped, and nothing waits for the log.
    ask_tcp(&server, |n| format!("{n}.w.example.com."), 70_000);
    settle(&server);
    let count = |name: &str| metric(&server, name);
    assert_eq!(count("meridian_query_log_sampled_total"), 10_100);
    assert_eq!(count("meridian_query_log_written_total") + count("meridian_query_log_dropped_total{reason=\"full\"}"), 10_100);
    assert_eq!(crate::query_log::lines(&server.path().join("log/q")).len() as u64, count("meridian_query_log_written_total"));
}

#[test]
fn a_reload_turns_it_on_and_off_and_a_file_that_was_moved_away_is_left_alone() {
    let server = Meridian::start(&[("meridian.toml", &config("")), ("zones/example.com.toml", ZONE)]);
    let log = server.path().join("q");
    let on = config("[query_log]\nfile = \"q\"\nsample = 1\n");
    server.ask("before.example.com.", RecordType::A);
    server.write("meridian.toml", &on);
    server.signal("HUP");
    wait("the log", || log.exists());
    server.ask("on.example.com.", RecordType::A);
    settle(&server);
    // As logrotate does it.
    std::fs::rename(&log, server.path().join("q.old")).expect("moved");
    server.signal("HUP");
    wait("a new file", || log.exists());
    server.ask("moved.example.com.", RecordType::A);
    settle(&server);
    server.write("meridian.toml", &config(""));
    let (code, _, said) = server.command(&["reload"]);
    assert_eq!(code, 0, "{said}");
    server.ask("off.example.com.", RecordType::A);
    server.write("meridian.toml", &on);
    server.signal("HUP");
    wait("the log again", || {
        server.ask("again.example.com.", RecordType::A);
        lines(&log).iter().any(|line| line["name"] == "again.example.com.")
    });
    let names = |file: &str| {
        let mut names: Vec<String> = lines(&server.path().join(file)).iter().map(|line| line["name"].to_string()).collect();
        names.dedup();
        names
    };
    assert_eq!(names("q.old"), ["\"on.example.com.\""]);
    assert_eq!(names("q"), ["\"moved.example.com.\"", "\"again.example.com.\""]);
    assert!(!server.log().iter().any(|line| line.contains("query log")), "{:#?}", server.log());
}

#[test]
fn a_folder_that_is_not_there_is_said_once_and_dns_goes_on() {
    let server = start("file = \"elsewhere/q\"\nsample = 1");
    (0..50).for_each(|_| drop(server.ask("www.example.com.", RecordType::A)));
    wait("the count", || metric(&server, "meridian_query_log_dropped_total{reason=\"write\"}") == 50);
    assert!(metric(&server, "meridian_query_log_errors_total") >= 1);
    let said = |word: &str| server.log().iter().filter(|line| line.contains("query log") && line.contains(word)).count();
    assert_eq!(server.says(&["query log", "cannot be opened"]), 1, "{:#?}", server.log());
    std::fs::create_dir(server.path().join("elsewhere")).expect("a folder");
    wait("the file", || {
        server.ask("www.example.com.", RecordType::A);
        !lines(&server.path().join("elsewhere/q")).is_empty()
    });
    wait("the word", || said("is written again") == 1);
    assert_eq!(said("cannot be opened"), 1, "{:#?}", server.log());
}

#[test]
fn a_full_disk_costs_records_and_neither_answers_nor_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for made in ["zones", "small"] {
        std::fs::create_dir(folder.path().join(made)).expect("a folder");
    }
    let log = "[query_log]\nfile = \"small/q\"\nformat = \"dnstap\"\nsample = 1\nmax_size = \"256KiB\"\nkeep = 1\n";
    std::fs::write(folder.path().join("meridian.toml"), config(log)).expect("written");
    std::fs::write(folder.path().join("zones/example.com.toml"), ZONE).expect("written");
    let mut program = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m none small && exec \"$@\"";
    program.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_meridian")]);
    let mut server = Meridian::start_by(program, folder);
    let small = |name: &str| {
        let inside = server.path().join("small").join(name);
        Path::new(&format!("/proc/{}/root", server.pid())).join(inside.strip_prefix("/").expect("absolute"))
    };
    // 100 KiB are left.
    std::fs::write(small("filler"), vec![0; 924 << 10]).expect("there is room");
    let lost = || metric(&server, "meridian_query_log_dropped_total{reason=\"write\"}");
    let mut asked = 0;
    while lost() == 0 {
        assert!(asked < 100_000, "the disk never is full");
        ask_tcp(&server, |n| format!("{n}.w.example.com."), 500);
        asked += 500;
        settle(&server);
    }
    // What had been written is whole.
    let kept = metric(&server, "meridian_query_log_written_total") as usize;
    let copy = server.path().join("copy");
    // The next try has set it aside, or will.
    let full = [small("q.1"), small("q")].into_iter().find(|path| path.exists()).expect("a file");
    std::fs::copy(full, &copy).expect("a copy");
    assert_eq!(dnstap_count(&copy), kept);
    std::fs::remove_file(small("filler")).expect("removed");
    let written = || metric(&server, "meridian_query_log_written_total") as usize;
    wait("room", || {
        server.ask("after.w.example.com.", RecordType::A);
        written() > kept
    });
    settle(&server);
    std::fs::copy(small("q.1"), &copy).expect("the file before was set aside");
    assert_eq!((dnstap_count(&copy), dnstap_count(&small("q"))), (kept, written() - kept));
    assert_eq!(server.says(&["query log", "No space left"]), 1, "{:#?}", server.log());
    assert_eq!(server.terminate().1, Some(0));
}

/// Records that `dnstap-read` finds, whether the file was ended or not.
fn dnstap_count(path: &Path) -> usize {
    let read = Command::new("dnstap-read").arg(path).output().expect("dnstap-read runs");
    String::from_utf8_lossy(&read.stdout).lines().count()
}
