//! Ramps over restarts, outages and reloads; what promoting and amending may not do; a log that is damaged.

use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[region]\neu = {}\nus = {}\n[monitor.told]\npush = true\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\"]\n[pool.iad]\nregion = \"us\"\nmonitor = \"told\"\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 3, iad = 1 }\n[steer.www]\nuse = \"split\"\n\
    [steer.fo]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\nttl = 60\n";

fn serve() -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&meridian);
    says(&rest, "up", "up");
    (meridian, rest)
}

/// What the two endpoints of iad say of themselves.
fn says(rest: &Rest, ten: &str, eleven: &str) {
    let report = |end: &str, state: &str| json!({ "target": format!("example.com/iad/198.51.100.{end}"), "state": state });
    rest.post("/v1/signals", json!({ "reports": [report("10", ten), report("11", eleven)] }));
}

fn ramp(rest: &Rest, over: &str) -> u64 {
    let body = json!({ "target": "example.com/policy:split/iad", "set": { "weight": 101 }, "from": 1, "over": over, "reason": "r" });
    rest.post("/v1/overlays", body)["id"].as_u64().expect("an id")
}

fn until(rest: &Rest, id: u64, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let overlay = rest.overlay(id);
        if is_so(&overlay) {
            return overlay;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {overlay}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn percent(overlay: &Value) -> u64 {
    overlay["progress"]["percent"].as_u64().expect("on its way")
}

fn is(phase: &'static str) -> impl Fn(&Value) -> bool {
    move |overlay| overlay["phase"] == phase
}

#[test]
fn what_health_holds_stays_held_over_a_restart() {
    let (meridian, rest) = serve();
    let id = ramp(&rest, "100s");
    until(&rest, id, "it goes on", |overlay| overlay["progress"]["percent"].as_u64() >= Some(2));
    says(&rest, "up", "down");
    let held = until(&rest, id, "it stands still", is("holding"));
    assert_eq!(held["ramp"]["failed_before"], json!([]));
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    assert_eq!(rest.endpoint("example.com/iad/198.51.100.11")["usable"], false, "it is as sick as before");
    // Two turns of the clock that would move it on.
    std::thread::sleep(Duration::from_secs(3));
    let now = rest.overlay(id);
    assert_eq!((&now["phase"], percent(&now)), (&json!("holding"), percent(&held)), "{now}");
    says(&rest, "up", "up");
    until(&rest, id, "it goes on", |overlay| overlay["phase"] == "ramping" && percent(overlay) > percent(&held));
}

#[test]
fn a_ramp_goes_on_where_it_was_however_long_nobody_was_there() {
    let (meridian, rest) = serve();
    let id = ramp(&rest, "100s");
    until(&rest, id, "it goes on", |overlay| overlay["progress"]["percent"].as_u64() >= Some(2));
    meridian.signal("KILL");
    std::thread::sleep(Duration::from_secs(6));
    let meridian = meridian.restart_dead();
    let rest = Rest::new(&meridian);
    let began = Instant::now();
    let now = percent(&rest.overlay(id));
    // What it took to ask, and the step or two that were not kept any more.
    assert!((1..=5 + began.elapsed().as_secs()).contains(&now), "{now} %");
    until(&rest, id, "it goes on", |overlay| percent(overlay) > now);
}

#[test]
fn a_ramp_stands_still_while_its_target_is_not_there() {
    let (meridian, rest) = serve();
    let id = ramp(&rest, "100s");
    let planned =
        json!({ "target": "example.com/policy:split/iad", "set": { "weight": 50 }, "from": 9, "over": "100s", "starts": "3s", "reason": "r" });
    let planned = rest.post("/v1/overlays", planned)["id"].as_u64().expect("an id");
    until(&rest, id, "it goes on", |overlay| overlay["progress"]["percent"].as_u64() >= Some(1));
    let reload = |text: &str| {
        meridian.write("zones/example.com.toml", text);
        assert_eq!(meridian.command(&["reload"]).0, 0);
    };
    reload(&ZONE.replace("to = { fra = 3, iad = 1 }", "to = { fra = 3 }"));
    let gone = until(&rest, id, "it stands still", |overlay| overlay["ramp"]["holding"].is_object());
    assert_eq!((&gone["phase"], &gone["ramp"]["holding"]["why"]), (&json!("without effect"), &json!("what it is about is not there")));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(percent(&rest.overlay(id)), percent(&gone));
    assert_eq!(rest.overlay(planned)["began"], Value::Null, "what is not there begins nothing");
    reload(ZONE);
    let back = until(&rest, id, "it goes on", |overlay| overlay["ramp"]["holding"].is_null());
    assert!(percent(&back) <= percent(&gone) + 2, "{back}");
    until(&rest, planned, "it begins", |overlay| overlay["began"].is_u64());
}

#[test]
fn what_is_outranked_is_not_promoted() {
    let (meridian, rest) = serve();
    let (older, newer) = (rest.lay("example.com/fo", json!({ "ttl": 12 })), rest.lay("example.com/fo", json!({ "ttl": 49 })));
    for body in [json!({}), json!({ "dry_run": true })] {
        let (status, problem) = rest.call(Method::POST, &format!("/v1/overlays/{older}/promote"), Some(body));
        assert_eq!((status, &problem["field"]), (422, &json!("id")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&format!("overlay {newer} "))), "{problem}");
    }
    assert_eq!(meridian.ask("fo.example.com.", RecordType::A).answers[0].ttl, 49);
    assert_eq!(std::fs::read_to_string(meridian.path().join("zones/example.com.toml")).expect("the file"), ZONE);
}

#[test]
fn an_end_at_once_is_judged_as_a_revert() {
    let (_meridian, rest) = serve();
    let up = rest.lay("example.com/iad", json!({ "state": "up" }));
    says(&rest, "down", "down");
    let began = Instant::now();
    while rest.endpoint("example.com/iad/198.51.100.10")["state"] != "down" {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    rest.lay("region:eu", json!({ "state": "drain" }));
    let path = format!("/v1/overlays/{up}");
    let (status, refused) = rest.call(Method::DELETE, &path, None);
    assert_eq!((status, &refused["type"]), (409, &json!("urn:meridian:safety")), "{refused}");
    let (status, problem) = rest.call(Method::PATCH, &path, Some(json!({ "expires": "1s" })));
    assert_eq!((status, &problem["rules"]), (409, &refused["rules"]), "{problem}");
    for later in ["12h", "never", "1h"] {
        assert_eq!(rest.call(Method::PATCH, &path, Some(json!({ "expires": later }))).0, 200, "{later}");
    }
}

#[test]
fn a_planned_withdrawal_that_ends_too_early_is_warned_of() {
    let (_meridian, rest) = serve();
    let body =
        |dry: bool| json!({ "target": "region:eu", "set": { "state": "drain" }, "starts": "5s", "expires": "30s", "reason": "r", "dry_run": dry });
    for dry in [true, false] {
        let reply = rest.post("/v1/overlays", body(dry));
        assert!(reply["warnings"].to_string().contains("is safe to stop only after about"), "{reply}");
    }
}

#[test]
fn a_damaged_log_and_a_missing_one_are_told() {
    for (what, says) in [("damaged", "meridian.db-wal: it is damaged: "), ("gone", "meridian.db: the state file was there, but empty")] {
        let (meridian, rest) = serve();
        for ttl in 5..25 {
            rest.lay("example.com/fo", json!({ "ttl": ttl }));
        }
        meridian.signal("KILL");
        let log = meridian.path().join("state/meridian.db-wal");
        while std::fs::read_to_string(format!("/proc/{}/stat", meridian.pid())).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        match what {
            "damaged" => {
                let mut octets = std::fs::read(&log).expect("a log");
                let middle = octets.len() / 2;
                octets[middle] ^= 1;
                std::fs::write(&log, octets).expect("written");
            }
            _ => std::fs::remove_file(&log).expect("removed"),
        }
        let meridian = meridian.restart_dead();
        let degraded = Rest::new(&meridian).get("/v1/status")["degraded"].to_string();
        assert!(degraded.contains(says), "{what}: {degraded}");
        assert_eq!(meridian.path().join("state/meridian.db-wal.damaged").exists(), what == "damaged");
    }
}
