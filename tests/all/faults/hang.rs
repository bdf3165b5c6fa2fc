//! A disk of the state that hangs: no write fails, none ends. DNS goes on, whoever asked for a change is told in time what is not known, and all of it
//! is over when the disk answers again.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use super::zone;
use crate::meridian::{CONFIG, Meridian};
use crate::rest::Rest;

/// The program with a library that lets its disk hang as long as the file `hang` is there.
fn program(folder: &Path) -> Command {
    let library = folder.join("hang.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/faults/hang.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(built.expect("cc runs (Debian: gcc; scripts/test.sh sees to it)").success());
    let mut program = Command::new(env!("CARGO_BIN_EXE_meridian"));
    program.env("LD_PRELOAD", library).env("HANG", folder.join("hang"));
    program
}

#[test]
fn a_disk_that_hangs_is_told_of_and_nobody_waits_for_it_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    std::fs::write(folder.path().join("meridian.toml"), CONFIG).expect("written");
    let monitor = format!("[monitor.tcp]\ntcp = true\nport = {port}\ninterval = \"1s\"\n");
    let zone = zone(&format!("{monitor}[pool.one]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"tcp\"\n[steer.one]\nuse = \"one\"\n"));
    std::fs::write(folder.path().join("zones/example.com.toml"), zone).expect("written");
    let hang = folder.path().join("hang");
    let meridian = Meridian::start_by(program(folder.path()), folder);
    let rest = Rest::new(&meridian);
    super::wait_until("a first check", || rest.endpoint("example.com/one/127.0.0.1")["state"] == "up");
    let degraded = |rest: &Rest| rest.get("/v1/status")["degraded"].clone();
    let seconds = |rest: &Rest| {
        let page = rest.text("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix("meridian_store_stalled_seconds ")).map(str::to_owned);
        line.unwrap_or(page).parse::<u64>().expect("a number")
    };
    let ttl = |seconds: u64| json!({ "target": "example.com/one", "set": { "ttl": seconds }, "reason": "test" });
    let change = |rest: &Rest| rest.send(Method::POST, "/v1/overlays", Some(ttl(20)), Some(("Idempotency-Key", "one")));
    let kind = |(status, body): &(u16, Value)| (*status, body["type"].as_str().unwrap_or_default().trim_start_matches("urn:meridian:").to_owned());
    assert_eq!((degraded(&rest), seconds(&rest)), (json!([]), 0));

    std::fs::write(&hang, "").expect("written");
    let waits = std::thread::scope(|scope| {
        let made = scope.spawn(|| change(&Rest::new(&meridian)));
        super::wait_until("told", || degraded(&rest).to_string().contains("the disk of the state has not answered for "));
        assert!(seconds(&rest) > 0);
        meridian.says(&["ERROR", "the disk of the state has not answered for "]);
        // What is kept cannot be read, which is said; what is known is shown.
        assert_eq!(kind(&rest.call(Method::GET, "/v1/audit", None)), (503, "stalled".into()));
        let health = rest.get("/v1/health/example.com/one/127.0.0.1");
        assert_eq!(health["endpoint"]["state"], "up");
        assert!(health["history_incomplete"].as_str().is_some_and(|why| why.contains("has not answered")), "{health}");
        let (code, _, errors) = meridian.command(&["audit"]);
        assert!(code == 1 && errors.contains("the disk of the state has not answered"), "{code} {errors}");
        made.join().expect("no panic")
    });
    assert_eq!(kind(&waits), (503, "stalled".into()), "{waits:?}");
    assert!(waits.1["detail"].as_str().is_some_and(|detail| detail.contains("it is not known whether what was asked for is kept")), "{waits:?}");
    assert_eq!(kind(&change(&rest)), (409, "in-progress".into()));
    // What comes later is not left for some other day.
    super::wait_until("ten seconds", || seconds(&rest) >= 10);
    let (code, _, errors) = meridian.command(&["ttl", "example.com/one", "10", "--reason", "test"]);
    assert!(code == 1 && errors.contains("nothing was changed"), "{code} {errors}");
    assert_eq!(crate::meridian::addresses(&meridian.ask("one.example.com.", hickory_proto::rr::RecordType::A)).len(), 1);

    std::fs::remove_file(&hang).expect("removed");
    super::wait_until("it answers again", || degraded(&rest) == json!([]) && seconds(&rest) == 0);
    meridian.says(&["WARN", "the disk of the state answers again"]);
    super::wait_until("the reply of then", || change(&rest).0 == 201);
    let overlays = rest.get("/v1/overlays")["overlays"].clone();
    assert_eq!((overlays.as_array().map(Vec::len), &overlays[0]["set"]), (Some(1), &json!({ "ttl": 20 })), "{overlays}");
    let outcomes = |outcome: &str| rest.get(&format!("/v1/audit?action=overlay.lay&outcome={outcome}"))["entries"].as_array().map(Vec::len);
    assert_eq!((outcomes("done"), outcomes("stalled"), outcomes("store")), (Some(1), Some(1), Some(1)));
}
