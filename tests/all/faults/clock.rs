//! A clock that jumps, or is wrong from the start, as after a lost battery or by a wrong time server: states go by intervals, not by the time of day, and
//! certificates that are over by such a clock alone take nothing down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Network, Step, checked, entered, wait, zone};
use crate::failover::Stream;
use crate::meridian::{CONFIG, Meridian};
use crate::namespace::inside;
use crate::origin::{Authority, Certificate};
use crate::rest::Rest;

/// The library that tells programs another time.
fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").expect("a folder").flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|path| path.exists()).expect("libfaketime (Debian: libfaketime; scripts/test.sh sees to it)")
}

/// The program by the clock of this file.
pub fn clocked(clock: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_meridian"));
    program.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    program
}

/// How far that clock is ahead.
pub fn set_clock(file: &Path, offset: &str) {
    // As a whole: it is read at every look at the clock.
    let new = file.with_extension("new");
    std::fs::write(&new, offset).expect("written");
    std::fs::rename(new, file).expect("renamed");
}

#[test]
fn a_clock_that_jumps_moves_no_state_and_certificates_that_have_ended_fall_all_the_same() {
    inside("faults::clock::a_clock_that_jumps_moves_no_state_and_certificates_that_have_ended_fall_all_the_same", || {
        let (authority, plain, secure, other) = (Authority::new(), "10.77.0.11", "10.77.0.12", "10.77.0.13");
        let network = Network::new(&[plain, secure, other].map(str::to_owned));
        // The certificates are good for five days. No two end in the same second.
        let _origins = [plain, secure].map(|address| network.nginx(address, &authority, Certificate::Ending));
        std::thread::sleep(Duration::from_millis(1_100));
        let mut changed = network.nginx(other, &authority, Certificate::Ending);
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("zones")).expect("a folder");
        let pools: String = [("plain", "http", plain), ("secure", "https", secure), ("other", "https", other)]
            .map(|(name, check, at)| checked(name, check, at, &authority))
            .concat();
        let config = format!("{CONFIG}[defaults.monitor]\ncertificate_warning = false\n");
        std::fs::write(folder.path().join("meridian.toml"), config).expect("written");
        std::fs::write(folder.path().join("zones/example.com.toml"), zone(&pools)).expect("written");
        let clock = folder.path().join("clock");
        set_clock(&clock, "+0");
        let meridian = Meridian::start_by(clocked(&clock), folder);
        let rest = Rest::new(&meridian);
        let stream = Stream::of(&meridian, &["plain", "secure", "other"]);
        let all = [plain, secure, other];
        let is_up = |traces: &BTreeMap<String, Vec<Step>>, address: &str| traces.get(address).is_some_and(|steps| entered(steps) == ["up"]);
        wait(&rest, "all up", |traces| all.iter().all(|address| is_up(traces, address)));
        let last_check = |rest: &Rest| rest.endpoint(&format!("example.com/plain/{plain}"))["last_check"].as_u64().expect("a time");
        let now = last_check(&rest);
        for (offset, seconds) in [("+3h", 3 * 3600), ("-2d", -2 * 86_400), ("+1d", 86_400)] {
            set_clock(&clock, offset);
            // Checked by that clock, and twice more.
            let is_there = || (last_check(&rest) as i64 - now as i64 - seconds).abs() < 120;
            super::wait_until(offset, is_there);
            std::thread::sleep(Duration::from_secs(3));
            let traces = super::traces(&rest);
            assert!(all.iter().all(|address| is_up(&traces, address)), "{offset}: {traces:#?}");
        }
        let health = |rest: &Rest| rest.get("/v1/status")["health"].clone();
        // Far enough for every certificate to be over.
        set_clock(&clock, "+9d");
        super::wait_until("checks that cannot run", || health(&rest)["unable_by_clock"] == 2);
        let degraded = rest.get("/v1/status")["degraded"].to_string();
        assert!(degraded.contains("this machine's clock was set") && degraded.contains("2 checks cannot run for that"), "{degraded}");
        assert!(rest.text("/metrics").contains("meridian_checks_unable_by_clock 2\n"));
        meridian.says(&["ERROR", "this machine's clock was set", "it reads"]);
        std::thread::sleep(Duration::from_secs(3));
        let traces = super::traces(&rest);
        assert!(all.iter().all(|address| is_up(&traces, address)), "{traces:#?}");
        // One that is over by any clock.
        network.show(&mut changed, &authority, Certificate::Expired);
        let seen = wait(&rest, "one has ended", |traces| entered(&traces[other]).ends_with(&["suspect", "down"]));
        assert!(seen[other].last().is_some_and(|step| step.why.contains("TLS: certificate expired")), "{seen:#?}");
        network.show(&mut changed, &authority, Certificate::Ending);
        set_clock(&clock, "+0");
        super::wait_until("checks that can run", || {
            health(&rest)["unable_by_clock"] == 0 && rest.get("/v1/status")["degraded"] == serde_json::json!([])
        });
        let seen = wait(&rest, "back", |traces| entered(&traces[other]).last() == Some(&"ramp"));
        assert!(is_up(&seen, plain) && is_up(&seen, secure), "{seen:#?}");
        let log = rest.get("/v1/audit?kind=health&limit=1000").to_string();
        assert!(log.contains("health.clock\"") && log.contains("health.clock_trusted"), "{log}");
        stream.finish();

        // It starts by a clock that is wrong: nothing has passed by any other, so numbers decide.
        let mut meridian = meridian;
        meridian.terminate();
        let folder = meridian.into_folder();
        set_clock(&folder.path().join("clock"), "+9d");
        let clock = folder.path().join("clock");
        let meridian = Meridian::start_by(clocked(&clock), folder);
        let rest = Rest::new(&meridian);
        super::wait_until("checks that cannot run", || health(&rest)["unable_by_clock"] == 2);
        let degraded = rest.get("/v1/status")["degraded"].to_string();
        assert!(degraded.contains("by it, 2 of 2 certificates are not valid in time"), "{degraded}");
        let state = |name: &str, address: &str| rest.endpoint(&format!("example.com/{name}/{address}"))["state"].clone();
        assert_eq!((state("secure", secure), state("other", other)), ("unknown".into(), "unknown".into()), "usable");
        set_clock(&clock, "+0");
        super::wait_until("checks that can run", || {
            health(&rest)["unable_by_clock"] == 0 && state("secure", secure) == "up" && state("other", other) == "up"
        });
    });
}

#[test]
fn ages_and_times_to_come_go_by_the_servers_clock() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let monitor = format!("[monitor.tcp]\ntcp = true\nport = {port}\ninterval = \"1h\"\n");
    let zone = zone(&format!("{monitor}[pool.one]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"tcp\"\n[steer.one]\nuse = \"one\"\n"));
    let meridian = Meridian::start(&[("meridian.toml", CONFIG), ("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&meridian);
    super::wait_until("a first check", || rest.endpoint("example.com/one/127.0.0.1")["state"] == "up");
    let folder = tempfile::tempdir().expect("a folder");
    let clock = folder.path().join("clock");
    for offset in ["+5h", "-5h"] {
        set_clock(&clock, offset);
        for args in [&["health"][..], &["health", "example.com/one/127.0.0.1"], &["status"]] {
            let (code, shown, errors) = meridian.command_by(clocked(&clock), args);
            assert_eq!(code, 0, "{errors}");
            // An interval from the last check on, by a clock that is right.
            let is_right = shown.contains("in 59 min") || shown.contains("in 1 h") || shown.contains("in 58 min");
            assert!(is_right && !shown.contains("5 h") && !shown.contains("4 h") && !shown.contains("6 h"), "{offset} {args:?}: {shown}");
        }
    }
}

#[test]
fn a_clock_that_goes_ahead_ends_nothing_and_forgets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    std::fs::write(folder.path().join("meridian.toml"), CONFIG).expect("written");
    let zone = zone("[pool.one]\nendpoints = [\"192.0.2.1\", \"192.0.2.2\"]\n[steer.one]\nuse = \"one\"\n");
    std::fs::write(folder.path().join("zones/example.com.toml"), zone).expect("written");
    let start = |folder: tempfile::TempDir, offset: &str| {
        let clock = folder.path().join("clock");
        set_clock(&clock, offset);
        let meridian = Meridian::start_by(clocked(&clock), folder);
        let rest = Rest::new(&meridian);
        (meridian, rest, clock)
    };
    let again = |mut meridian: Meridian, offset: &str| {
        meridian.terminate();
        start(meridian.into_folder(), offset)
    };
    let (meridian, rest, _) = start(folder, "+0");
    let drain = serde_json::json!({ "target": "example.com/one/192.0.2.1", "set": { "state": "drain" }, "reason": "disk dead", "expires": "8h" });
    rest.post("/v1/overlays", drain);
    let token = rest.post("/v1/tokens", serde_json::json!({ "name": "ops", "role": "operate", "expires": "30d" }));
    let is_all_there = |meridian: &Meridian, rest: &Rest| {
        let left: Vec<std::net::IpAddr> = vec!["192.0.2.2".parse().expect("an address")];
        assert_eq!(crate::meridian::addresses(&meridian.ask("one.example.com.", hickory_proto::rr::RecordType::A)), left);
        assert_eq!(rest.get("/v1/overlays")["overlays"].as_array().map(Vec::len), Some(1));
        let tokens = rest.get("/v1/tokens")["tokens"].clone();
        assert!(tokens.as_array().is_some_and(|all| all.iter().any(|one| one["id"] == token["id"])), "{tokens}");
        let laid = rest.get("/v1/audit?action=overlay.lay");
        assert_eq!(laid["entries"].as_array().map(Vec::len), Some(1), "{laid}");
    };
    let degraded = |rest: &Rest| rest.get("/v1/status")["degraded"].clone();
    let nothing = serde_json::json!([]);
    is_all_there(&meridian, &rest);

    // One start by a wrong clock.
    let (meridian, rest, _) = again(meridian, "+130d");
    meridian.says(&["WARN", "at the start this machine's clock was 130 days ahead of what it read last"]);
    assert!(degraded(&rest).to_string().contains("at the start this machine's clock was 130 days ahead"), "{}", degraded(&rest));
    super::wait_until("an entry", || rest.get("/v1/audit?action=clock")["entries"][0]["action"] == "clock.ahead");
    std::thread::sleep(Duration::from_secs(2));
    is_all_there(&meridian, &rest);
    // It has expired by that clock, and for access that is enough.
    assert_eq!(rest.with_token(token["token"].as_str().expect("a token")).call(reqwest::Method::GET, "/v1/status", None).0, 401);
    let (meridian, rest, clock) = again(meridian, "+0");
    is_all_there(&meridian, &rest);
    assert_eq!(degraded(&rest), nothing);

    // One that jumps while it runs.
    set_clock(&clock, "+130d");
    super::wait_until("doubt", || degraded(&rest).to_string().contains("this machine's clock was set 130 days ahead: it reads"));
    std::thread::sleep(Duration::from_secs(2));
    is_all_there(&meridian, &rest);
    set_clock(&clock, "+0");
    super::wait_until("trust", || degraded(&rest) == nothing);
    is_all_there(&meridian, &rest);
    super::wait_until("entries", || rest.get("/v1/audit?action=clock")["entries"][0]["action"] == "clock.trusted");
}

#[test]
fn replies_are_dated_by_a_clock_that_was_set_back() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    std::fs::write(folder.path().join("meridian.toml"), CONFIG).expect("written");
    let clock = folder.path().join("clock");
    set_clock(&clock, "+30m");
    let meridian = Meridian::start_by(clocked(&clock), folder);
    let rest = Rest::new(&meridian);
    let ahead = || {
        let date = httpdate::parse_http_date(&rest.header("/v1/status", "date")).expect("a date");
        date.duration_since(std::time::SystemTime::now()).map_or(0, |ahead| ahead.as_secs())
    };
    // Every thread of the listener has its turn.
    for _ in 0..16 {
        assert!(ahead() > 1_000);
    }
    set_clock(&clock, "+0");
    for _ in 0..16 {
        assert!(ahead() < 60);
    }
}
