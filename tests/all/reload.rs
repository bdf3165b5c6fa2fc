//! Reloads and starts with good and bad files, from the outside (CONTRACT, Failure at start and reload).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use crate::meridian::{Asker, CONFIG, Meridian, PATIENCE, addresses, encode, write};
use crate::rest::Rest;

/// A zone whose `www` has this address.
fn zone(apex: &str, www: &str) -> String {
    format!("[zone]\nname = \"{apex}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nwww.A = \"{www}\"\n")
}

/// A value that is no address.
fn bad_value(apex: &str) -> String {
    zone(apex, "192.0.2.999")
}

/// Broken so early that nothing can be read of it.
const NO_TOML: &str = "[zone\nname = ";
/// Not even a section is left.
const GARBAGE: &str = "<<<<<<< HEAD\n";

fn two_zones() -> Meridian {
    Meridian::start(&[("zones/a.example.toml", &zone("a.example", "192.0.2.1")), ("zones/b.example.toml", &zone("b.example", "192.0.2.2"))])
}

fn www(server: &Meridian, apex: &str) -> String {
    let message = server.ask(&format!("www.{apex}."), RecordType::A);
    match message.metadata.response_code {
        ResponseCode::NoError => addresses(&message).iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        code => format!("{code:?}"),
    }
}

fn serial(server: &Meridian, apex: &str) -> u32 {
    let message = server.ask(&format!("{apex}."), RecordType::SOA);
    match message.answers.first().map(|record| &record.data) {
        Some(RData::SOA(soa)) => soa.serial,
        other => panic!("{other:?}"),
    }
}

/// Sends SIGHUP and returns what it said about it.
fn hang_up(server: &Meridian) -> Vec<String> {
    let before = server.log().len();
    server.signal("HUP");
    let began = Instant::now();
    loop {
        let said: Vec<String> = server.log().split_off(before);
        if said.iter().any(|line| line.contains("meridian: reload ") && line.contains("generation")) {
            return said;
        }
        assert!(began.elapsed() < PATIENCE, "no word about the reload: {:#?}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `meridian reload` with these arguments: exit code, outcome by zone, problems.
fn reload(server: &Meridian, args: &[&str]) -> (i32, BTreeMap<String, String>, Vec<String>) {
    let (code, out, err) = server.command(&[&["reload", "--json"], args].concat());
    let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
    let texts = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let zones = report["zones"].as_array().into_iter().flatten().map(|zone| (texts(&zone["zone"]), texts(&zone["outcome"]))).collect();
    (code, zones, report["problems"].as_array().into_iter().flatten().map(texts).collect())
}

fn outcomes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(zone, outcome)| (zone.to_string(), outcome.to_string())).collect()
}

#[test]
fn a_bad_zone_keeps_serving_while_others_are_taken_and_the_log_says_so() {
    let server = two_zones();
    for (bad, www_a, needle) in [
        (bad_value("b.example"), "192.0.2.11", "192.0.2.999"),
        (NO_TOML.to_string(), "192.0.2.12", "b.example.toml:"),
        (GARBAGE.into(), "192.0.2.13", "b.example.toml:"),
    ] {
        server.write("zones/b.example.toml", &bad);
        server.write("zones/a.example.toml", &zone("a.example", www_a));
        let serial_b = serial(&server, "b.example");
        let said = hang_up(&server).join("\n");
        assert_eq!((www(&server, "a.example"), www(&server, "b.example")), (www_a.into(), "192.0.2.2".into()), "{said}");
        assert_eq!(serial(&server, "b.example"), serial_b);
        for word in [needle, "a.example. taken", "b.example. kept", "had errors"] {
            assert!(said.contains(word), "{word:?} in {said}");
        }
    }
    server.write("zones/b.example.toml", &zone("b.example", "192.0.2.22"));
    let said = hang_up(&server).join("\n");
    assert_eq!(www(&server, "b.example"), "192.0.2.22", "{said}");
    assert!(said.contains("reload done") && said.contains("b.example. taken"), "{said}");
}

/// A folder that is not mounted.
#[test]
fn a_folder_that_is_empty_takes_nothing_away() {
    let server = two_zones();
    let (zones, away) = (server.path().join("zones"), server.path().join("away"));
    let kept = || outcomes(&[("a.example.", "kept"), ("b.example.", "kept")]);
    for (make, needle) in [(true, "the zone folder zones is empty"), (false, "the zone folder cannot be listed")] {
        std::fs::rename(&zones, &away).expect("moved");
        if make {
            server.write("zones/.hidden", "");
            server.write("zones/README", "no zone");
        }
        let said = hang_up(&server).join("\n");
        assert!(said.contains(needle) && said.contains("had errors"), "{said}");
        assert_eq!(reload(&server, &["--break-glass", "--reason", "r"]).1, kept());
        assert_eq!((reload(&server, &["--dry-run"]).1, reload(&server, &["a.example"]).0), (kept(), 1));
        assert_eq!((www(&server, "a.example"), www(&server, "b.example")), ("192.0.2.1".into(), "192.0.2.2".into()));
        let _ = std::fs::remove_dir_all(&zones);
        std::fs::rename(&away, &zones).expect("moved back");
        assert_eq!(reload(&server, &[]).0, 0);
    }
    // A start takes it as it is, and after it nothing is missing.
    std::fs::rename(&zones, &away).expect("moved");
    std::fs::create_dir(&zones).expect("a folder");
    let server = server.restart();
    assert_eq!((reload(&server, &[]).0, www(&server, "a.example")), (0, "Refused".into()));
}

/// The system gives no more threads (of a process, a user, or a group of processes).
#[test]
fn a_reload_without_a_thread_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "meridian.toml", CONFIG);
    write(dir.path(), "zones/a.example.toml", &zone("a.example", "192.0.2.1"));
    // Nobody counts the threads of root, so somebody else has to run it, from where he may read it.
    let program = dir.path().join("meridian");
    std::fs::copy(env!("CARGO_BIN_EXE_meridian"), &program).expect("copied");
    let mut command = Command::new("sh");
    let is_root = std::fs::metadata("/proc/self").expect("it is there").uid() == 0;
    let other = if is_root { "setpriv --reuid=61234 --regid=61234 --clear-groups --" } else { "" };
    let own = if is_root { "chown -R 61234:61234 ." } else { ":" };
    command.args(["-c", &format!("{own} && exec {other} \"$@\""), "sh"]).arg(&program);
    let server = Meridian::start_by(command, dir);
    let rest = Rest::new(&server);
    let threads = |limit: &str| {
        // A limit of somebody else is for nobody to set.
        let script = format!("exec {other} prlimit --pid {} --nproc={limit}:", server.pid());
        assert!(Command::new("sh").args(["-c", &script]).status().expect("a shell").success());
    };
    threads("1");
    let (status, problem) = rest.call(reqwest::Method::POST, "/v1/reload", Some(serde_json::json!({})));
    assert_eq!((status, problem["type"].as_str()), (503, Some("urn:meridian:busy")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("no thread can be started")), "{problem}");
    threads("4000");
    assert_eq!(reload(&server, &[]).0, 0);
    let refused = rest.get("/v1/audit?kind=refused");
    assert_eq!(refused["entries"][0]["outcome"], "busy", "{refused}");
}

#[test]
fn the_reload_command_says_zone_by_zone_what_became_of_it() {
    let server = two_zones();
    assert_eq!(reload(&server, &[]), (0, outcomes(&[("a.example.", "unchanged"), ("b.example.", "unchanged")]), vec![]));
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
    server.write("zones/b.example.toml", &bad_value("b.example"));
    // All or nothing: nothing.
    let (code, zones, problems) = reload(&server, &["--all"]);
    assert_eq!((code, zones), (1, outcomes(&[("a.example.", "kept"), ("b.example.", "kept")])), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("zones/b.example.toml:6:")), "{problems:?}");
    assert_eq!(www(&server, "a.example"), "192.0.2.1");
    // One zone alone: the other is not looked at.
    server.write("zones/c.example.toml", &zone("c.example", "192.0.2.3"));
    let (_, zones, _) = reload(&server, &["a.example"]);
    assert_eq!(zones, outcomes(&[("a.example.", "taken")]));
    assert_eq!((www(&server, "a.example"), www(&server, "c.example")), ("192.0.2.11".into(), "Refused".into()));
    // Everything.
    let (code, zones, _) = reload(&server, &[]);
    assert_eq!((code, zones), (1, outcomes(&[("a.example.", "unchanged"), ("b.example.", "kept"), ("c.example.", "taken")])));
    assert_eq!((www(&server, "b.example"), www(&server, "c.example")), ("192.0.2.2".into(), "192.0.2.3".into()));
    // And without the bad one.
    std::fs::remove_file(server.path().join("zones/b.example.toml")).expect("it was there");
    let (code, zones, _) = reload(&server, &["--all"]);
    assert_eq!((code, zones), (0, outcomes(&[("a.example.", "unchanged"), ("b.example.", "removed"), ("c.example.", "unchanged")])));
    assert_eq!(www(&server, "b.example"), "Refused");
    let (code, _, problems) = reload(&server, &["nowhere.example"]);
    assert_eq!(code, 1, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("nowhere.example.")), "{problems:?}");
}

#[test]
fn the_serial_moves_when_content_does_and_only_then() {
    let server = two_zones();
    let first = serial(&server, "a.example");
    reload(&server, &[]);
    assert_eq!(serial(&server, "a.example"), first, "nothing changed");
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
    reload(&server, &[]);
    let second = serial(&server, "a.example");
    assert!(second > first, "{first} to {second}");
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.12"));
    reload(&server, &[]);
    let third = serial(&server, "a.example");
    assert!(third > second, "{second} to {third}, in the same second or not");
    let server = server.restart();
    assert_eq!(serial(&server, "a.example"), third, "a restart is no change");
    server.write("zones/a.example.toml", &bad_value("a.example"));
    reload(&server, &[]);
    assert_eq!(serial(&server, "a.example"), third, "nor is a bad file");
}

#[test]
fn health_is_kept_by_name_over_a_reload_and_a_restart() {
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let steered = |pools: &str, www: &str| {
        zone("a.example", www)
            + &format!("[monitor.m]\ntcp = true\nport = {port}\ninterval = \"1s\"\nfast = \"1s\"\ntimeout = \"1s\"\nfall = 1\nrise = 1\n")
            + pools
            + "[steer.app]\npolicy = \"failover\"\nto = [\"near\", \"far\"]\n"
    };
    let (near, far) = ("[pool.near]\nmonitor = \"m\"\nendpoints = [\"127.0.0.1\"]\n", "[pool.far]\nendpoints = [\"192.0.2.7\"]\n");
    let server = Meridian::start(&[("zones/a.example.toml", &steered(&format!("{near}{far}"), "192.0.2.1"))]);
    let far_only: [IpAddr; 1] = ["192.0.2.7".parse().expect("an address")];
    server.wait_for("app.a.example.", RecordType::A, |seen| seen == far_only);
    for round in 2..6 {
        let pools = if round % 2 == 0 {
            format!("{far}{near}")
        } else {
            format!("[pool.other]\nendpoints = [\"192.0.2.8\"]\n[steer.other]\nuse = \"other\"\n{near}{far}")
        };
        server.write("zones/a.example.toml", &steered(&pools, &format!("192.0.2.{round}")));
        let (code, _, problems) = reload(&server, &[]);
        assert_eq!(code, 0, "{problems:?}");
        assert_eq!(www(&server, "a.example"), format!("192.0.2.{round}"));
        assert_eq!(addresses(&server.ask("app.a.example.", RecordType::A)), far_only, "round {round}");
    }
    // A stop keeps the verdicts.
    let server = server.restart();
    assert_eq!(addresses(&server.ask("app.a.example.", RecordType::A)), far_only, "after a restart");
}

#[test]
fn an_edited_monitor_does_not_bring_a_dead_endpoint_back() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let steered = |fall: u8| {
        zone("a.example", "192.0.2.1")
            + &format!("[monitor.m]\ntcp = true\nport = {port}\ninterval = \"60s\"\nfast = \"1s\"\ntimeout = \"1s\"\nfall = {fall}\n")
            + "[pool.near]\nmonitor = \"m\"\nendpoints = [\"127.0.0.1\"]\n[pool.far]\nendpoints = [\"192.0.2.7\"]\n"
            + "[steer.app]\npolicy = \"failover\"\nto = [\"near\", \"far\"]\n"
    };
    let server = Meridian::start(&[("zones/a.example.toml", &steered(1))]);
    let far_only: [IpAddr; 1] = ["192.0.2.7".parse().expect("an address")];
    server.wait_for("app.a.example.", RecordType::A, |seen| seen == far_only);
    for fall in 2..10 {
        server.write("zones/a.example.toml", &steered(fall));
        assert_eq!(reload(&server, &[]).1, outcomes(&[("a.example.", "taken")]));
        assert_eq!(addresses(&server.ask("app.a.example.", RecordType::A)), far_only, "fall {fall}");
    }
}

/// Builds a database of these ranges at this path of the server's folder.
fn build_database(server: &std::path::Path, path: &str, ranges: &str) {
    std::fs::write(server.join("ranges.csv"), ranges).expect("a file");
    let output =
        Command::new(env!("CARGO_BIN_EXE_meridian")).args(["geo", "build", "ranges.csv", path]).current_dir(server).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_database_that_breaks_leaves_the_zones_that_need_it_as_they_are() {
    let geo = |apex: &str, www: &str| {
        zone(apex, www)
            + "[pool.de]\nendpoints = [\"192.0.2.4\"]\n[pool.rest]\nendpoints = [\"192.0.2.5\"]\n"
            + "[steer.app]\npolicy = \"geo\"\ndefault = \"rest\"\nrules = [{ geo = [\"EU-DE\"], to = \"de\" }]\n"
    };
    let dir = tempfile::tempdir().expect("a folder");
    build_database(dir.path(), "geo.mmdb", "198.51.100.0/24,DE\n");
    std::fs::create_dir(dir.path().join("zones")).expect("a folder");
    std::fs::write(dir.path().join("meridian.toml"), format!("{CONFIG}[geo]\ndatabases = [\"geo.mmdb\"]\n")).expect("a file");
    for apex in ["a.example", "b.example"] {
        std::fs::write(dir.path().join(format!("zones/{apex}.toml")), geo(apex, "192.0.2.1")).expect("a file");
    }
    std::fs::write(dir.path().join("zones/c.example.toml"), zone("c.example", "192.0.2.1")).expect("a file");
    let server = Meridian::start_in(dir);
    let of = |server: &Meridian, apex: &str, client: &str| {
        let client = client.parse().expect("an address");
        addresses(&server.ask_for(&format!("app.{apex}."), RecordType::A, (client, 24))).iter().map(ToString::to_string).collect::<String>()
    };
    assert_eq!(of(&server, "a.example", "198.51.100.0"), "192.0.2.4");

    let good = std::fs::read(server.path().join("geo.mmdb")).expect("the database");
    for broken in [Some(&good[..good.len() / 2]), None] {
        match broken {
            Some(octets) => std::fs::write(server.path().join("geo.mmdb"), octets).expect("a file"),
            None => std::fs::remove_file(server.path().join("geo.mmdb")).expect("it was there"),
        }
        server.write("zones/a.example.toml", &geo("a.example", "192.0.2.11"));
        server.write("zones/c.example.toml", &zone("c.example", if broken.is_some() { "192.0.2.11" } else { "192.0.2.12" }));
        let (code, zones, problems) = reload(&server, &[]);
        assert_eq!((code, zones), (1, outcomes(&[("a.example.", "kept"), ("b.example.", "kept"), ("c.example.", "taken")])), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.contains("geo.mmdb")), "{problems:?}");
        assert_eq!(www(&server, "a.example"), "192.0.2.1");
        assert_eq!((of(&server, "a.example", "198.51.100.0"), of(&server, "b.example", "198.51.100.0")), ("192.0.2.4".into(), "192.0.2.4".into()));
        assert_eq!(reload(&server, &["--all"]).0, 1);
        let status = server.command(&["status"]).1;
        assert!(
            status.contains("geo.mmdb") && status.contains("zones that are served go on with the geo database"),
            "degraded is said, and goes on: {status}"
        );
        assert!(!status.contains("no geo database is used") && !status.contains("belong to the default"), "{status}");
    }

    // A new one, taken by one zone and later by the others.
    build_database(server.path(), "geo.mmdb", "203.0.113.0/24,DE\n");
    assert_eq!(reload(&server, &["a.example"]).1, outcomes(&[("a.example.", "taken")]));
    assert_eq!((of(&server, "a.example", "203.0.113.0"), of(&server, "b.example", "203.0.113.0")), ("192.0.2.4".into(), "192.0.2.5".into()));
    let (code, zones, problems) = reload(&server, &[]);
    assert_eq!((code, zones), (0, outcomes(&[("a.example.", "unchanged"), ("b.example.", "taken"), ("c.example.", "unchanged")])), "{problems:?}");
    assert_eq!(of(&server, "b.example", "203.0.113.0"), "192.0.2.4");
    assert!(!server.command(&["status"]).1.contains("degraded:"));
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let server = two_zones();
    let (before, _, _) = server.command(&["status", "--json"]);
    assert_eq!(before, 0);
    for bad in [format!("{CONFIG}[zoness]\ndir = \"zones\"\n"), NO_TOML.into(), format!("{CONFIG}[geo]\ndatabases = 7\n")] {
        server.write("meridian.toml", &bad);
        server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
        let said = hang_up(&server).join("\n");
        assert!(said.contains("meridian.toml:") && said.contains("had errors") && said.contains("kept"), "{said}");
        assert_eq!((www(&server, "a.example"), www(&server, "b.example")), ("192.0.2.1".into(), "192.0.2.2".into()));
    }
    server.write("meridian.toml", CONFIG);
    hang_up(&server);
    assert_eq!(www(&server, "a.example"), "192.0.2.11");
}

#[test]
fn a_reload_that_finds_nothing_new_raises_no_generation() {
    let server = two_zones();
    let reload = |args: &[&str]| -> (bool, u64) {
        let (code, out, err) = server.command(&[&["reload", "--json"], args].concat());
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        (report["changed"].as_bool().expect("said"), report["generation"].as_u64().expect("a generation"))
    };
    let (_, first) = reload(&["--dry-run"]);
    for args in [&[][..], &["--all"], &["a.example"], &["--dry-run"]] {
        assert_eq!(reload(args), (false, first), "{args:?}");
    }
    // Another file with the same text.
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.1"));
    assert_eq!((reload(&["--dry-run"]), reload(&[])), ((false, first), (false, first)));
    let (_, out, _) = server.command(&["reload"]);
    assert!(out.contains(&format!("nothing has changed; generation {first} serves")), "{out}");
    // One zone; options of all; a zone more, a zone less.
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
    assert_eq!((reload(&["--dry-run"]), reload(&[]), reload(&[])), ((true, first), (true, first + 1), (false, first + 1)));
    server.write("meridian.toml", &CONFIG.replace("threads = 1", "threads = 1\nnsid = \"here\""));
    assert_eq!((reload(&["--dry-run"]), reload(&[]), reload(&[])), ((true, first + 1), (true, first + 2), (false, first + 2)));
    let more = server.write("zones/c.example.toml", &zone("c.example", "192.0.2.3"));
    assert_eq!((reload(&[]), reload(&[])), ((true, first + 3), (false, first + 3)));
    assert_eq!(www(&server, "c.example"), "192.0.2.3");
    std::fs::remove_file(more).expect("it was there");
    assert_eq!((reload(&[]), reload(&[])), ((true, first + 4), (false, first + 4)));
    assert_eq!((www(&server, "c.example"), www(&server, "a.example")), ("Refused".into(), "192.0.2.11".into()));
    // A zone that cannot be loaded is told of each time, and is no news.
    server.write("zones/c.example.toml", &bad_value("c.example"));
    let failed = || {
        let (code, out, _) = server.command(&["reload", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        (code, report["changed"].as_bool(), report["generation"].as_u64())
    };
    assert_eq!((failed(), failed()), ((1, Some(true), Some(first + 5)), (1, Some(false), Some(first + 5))));
    assert_eq!(www(&server, "c.example"), "ServFail");
}

#[test]
fn what_needs_a_restart_is_said() {
    let server = two_zones();
    server.write("meridian.toml", &CONFIG.replace("threads = 1", "threads = 2\nbusy_poll = 50"));
    let said = hang_up(&server).join("\n");
    assert!(
        said.contains("server.threads") && said.contains("server.busy_poll") && said.contains("needs a restart") && said.contains("reload done"),
        "{said}"
    );
}

/// Asks 2,000 questions a second until told to stop; returns how many were asked and how many of them got no answer.
fn stream(server: SocketAddr, stop: &AtomicBool) -> (usize, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a way");
    let ears = socket.try_clone().expect("the socket again");
    ears.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    std::thread::scope(|scope| {
        let heard = scope.spawn(move || {
            let (mut heard, mut buf) = (0, [0; 512]);
            while let Ok(len) = ears.recv(&mut buf) {
                let message = Message::from_vec(&buf[..len]).expect("it decodes");
                assert!(!addresses(&message).is_empty(), "{message:?}");
                heard += 1;
            }
            heard
        });
        let (began, mut asked) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            // Late after a pause of the machine: catch up gently rather than in one burst.
            while began.elapsed().as_secs_f64() * 2000.0 > asked as f64 {
                socket.send(&encode("www.a.example.", RecordType::A, asked as u16, None)).expect("it can be sent");
                asked += 1;
                if asked % 50 == 0 {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        let heard: usize = heard.join().expect("it listens");
        (asked, asked - heard)
    })
}

#[test]
fn reloads_lose_no_question() {
    let server = two_zones();
    let stop = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let (dns, stop) = (server.dns, stop.clone());
        move || stream(dns, &stop)
    });
    for round in 0..20 {
        server.write(
            "zones/a.example.toml",
            &if round % 5 == 4 { bad_value("a.example") } else { zone("a.example", &format!("192.0.2.{}", 100 + round)) },
        );
        hang_up(&server);
    }
    stop.store(true, Ordering::Relaxed);
    let (asked, lost) = asking.join().expect("it asks");
    assert_eq!(lost, 0, "of {asked}");
    assert!(asked > 0);
}

#[test]
fn a_start_with_a_bad_zone_serves_its_last_good_version() {
    for bad in [bad_value("b.example"), NO_TOML.to_string(), GARBAGE.to_string()] {
        let server = two_zones();
        let before = serial(&server, "b.example");
        server.write("zones/b.example.toml", &bad);
        let server = server.restart();
        assert_eq!((www(&server, "a.example"), www(&server, "b.example")), ("192.0.2.1".into(), "192.0.2.2".into()), "{bad:?}: {:#?}", server.log());
        assert_eq!(serial(&server, "b.example"), before, "{bad:?}");
        server.says(&["b.example.toml:"]);
        let (_, status, _) = server.command(&["status", "--json"]);
        assert!(status.contains("last good version"), "{status}");
        // It goes on being served by reloads, and by another restart.
        hang_up(&server);
        assert_eq!(www(&server, "b.example"), "192.0.2.2", "{bad:?}");
        let server = server.restart();
        assert_eq!(www(&server, "b.example"), "192.0.2.2", "{bad:?}");
        server.write("zones/b.example.toml", &zone("b.example", "192.0.2.22"));
        hang_up(&server);
        assert_eq!(www(&server, "b.example"), "192.0.2.22", "{bad:?}");
    }
}

#[test]
fn a_bad_zone_without_a_kept_version_is_servfail_with_the_reason_and_the_others_serve() {
    for bad in [bad_value("b.example"), NO_TOML.to_string(), GARBAGE.to_string()] {
        let server = Meridian::start(&[("zones/a.example.toml", &zone("a.example", "192.0.2.1")), ("zones/b.example.toml", &bad)]);
        assert_eq!(www(&server, "a.example"), "192.0.2.1");
        let client = ("192.0.2.0".parse().expect("an address"), 24);
        let message = Asker::new(server.dns).ask("www.b.example.", RecordType::A, Some(client));
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "{bad:?}");
        let edns = message.edns.as_ref().expect("EDNS");
        assert!(format!("{edns:?}").contains("15"), "an extended error: {edns:?}");
        server.says(&["b.example.toml:"]);
        server.write("zones/b.example.toml", &zone("b.example", "192.0.2.22"));
        hang_up(&server);
        assert_eq!(www(&server, "b.example"), "192.0.2.22", "{bad:?}");
    }
}

#[test]
fn a_broken_file_that_is_not_named_after_its_zone_keeps_it_too() {
    let server = Meridian::start(&[("zones/mine.toml", &zone("a.example", "192.0.2.1"))]);
    for bad in [NO_TOML, GARBAGE] {
        server.write("zones/mine.toml", bad);
        let (code, zones, problems) = reload(&server, &[]);
        assert_eq!((code, zones), (1, outcomes(&[("a.example.", "kept")])), "{problems:?}");
        assert_eq!(www(&server, "a.example"), "192.0.2.1");
    }
    server.write("zones/mine.toml", &zone("a.example", "192.0.2.11"));
    assert_eq!(reload(&server, &[]).1, outcomes(&[("a.example.", "taken")]));
}

#[test]
fn strict_refuses_to_start_with_a_bad_zone() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("zones")).expect("a folder");
    std::fs::write(dir.path().join("meridian.toml"), CONFIG).expect("a file");
    std::fs::write(dir.path().join("zones/a.example.toml"), zone("a.example", "192.0.2.1")).expect("a file");
    std::fs::write(dir.path().join("zones/b.example.toml"), bad_value("b.example")).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["run", "--strict", "--config"])
        .arg(dir.path().join("meridian.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("zones/b.example.toml:6:") && said.contains("--strict"), "{said}");
}

#[test]
fn dns_serves_without_its_state_and_says_so() {
    // A file where the folder should be; and one that is no state file.
    let config = format!("{CONFIG}[state]\npath = \"blocked/meridian.db\"\n");
    let a = zone("a.example", "192.0.2.1");
    let server = Meridian::start(&[("meridian.toml", &config), ("blocked", "a file"), ("zones/a.example.toml", &a)]);
    assert_eq!(www(&server, "a.example"), "192.0.2.1");
    server.says(&["warning", "blocked"]);
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
    hang_up(&server);
    assert_eq!(www(&server, "a.example"), "192.0.2.11");

    let server = Meridian::start(&[("state/meridian.db", "this is not a database, whatever its name says"), ("zones/a.example.toml", &a)]);
    assert_eq!(www(&server, "a.example"), "192.0.2.1");
    let (code, status, _) = server.command(&["status"]);
    assert_eq!(code, 0);
    assert!(status.contains("degraded:") && status.contains("meridian.db"), "{status}");
}

#[test]
fn dns_serves_without_its_admin_port_and_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = CONFIG.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{}\"", taken.local_addr().expect("an address")));
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/a.example.toml", &zone("a.example", "192.0.2.1"))]);
    assert_eq!(www(&server, "a.example"), "192.0.2.1");
    server.says(&["no admin listener"]);
    server.says(&["warning"]);
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.11"));
    hang_up(&server);
    assert_eq!(www(&server, "a.example"), "192.0.2.11");
}
