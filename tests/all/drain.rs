//! Overlays in time, through the real program: the finish line of a drain, steps, holds, starts, ways back, extensions.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};

use hickory_proto::rr::RecordType::A;
use meridian::control::unix_now;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Asker, Meridian, addresses};
use crate::rest::Rest;

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]

[records]
ns1.A = "192.0.2.53"

[region]
eu = {}

[pool.fra]
region    = "eu"
endpoints = ["192.0.2.10", "192.0.2.11"]

[pool.iad]
endpoints = ["198.51.100.10"]

[pool.spare]
endpoints = ["203.0.113.99"]

[policy.split]
policy = "weighted"
to     = { fra = 1, iad = 100 }

[steer.www]
policy = "failover"
to     = ["fra", "iad"]
ttl    = { max = 4, min = 1 }

[steer.split]
use = "split"
ttl = { max = 4, min = 1 }

[steer.spare]
use = "spare"
ttl = { max = 4, min = 1 }

[safety]
drain_guard = "1s"
"#;

fn serve() -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn lay(rest: &Rest, body: Value) -> u64 {
    let mut whole = json!({ "reason": "a test", "expires": "1h" });
    for (key, value) in body.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    rest.post("/v1/overlays", whole)["id"].as_u64().expect("an id")
}

fn drained(overlay: &Value) -> bool {
    overlay["withdrawal"]["state"] == "drained"
}

/// First addresses of `www` for two hundred clients of networks of their own.
fn sites(meridian: &Meridian) -> BTreeSet<IpAddr> {
    let asker = Asker::new(meridian.dns);
    (0..200u8).filter_map(|n| addresses(&asker.ask("www.example.com.", A, Some((IpAddr::from([100, 64, n, 0]), 24)))).first().copied()).collect()
}

fn is_in_europe(addr: &IpAddr) -> bool {
    addr.to_string().starts_with("192.0.2.")
}

#[test]
fn a_drain_knows_when_the_last_answer_has_run_out() {
    let (meridian, rest) = serve();
    let ask = || {
        let reply = meridian.ask("www.example.com.", A);
        (unix_now(), reply.answers.first().expect("an answer").ttl)
    };
    // A TTL that is lowered just before does not shorten what is in caches already.
    let (asked, ttl) = ask();
    assert_eq!(ttl, 4);
    let low = lay(&rest, json!({ "target": "example.com/www", "set": { "ttl": 1 } }));
    let id = lay(&rest, json!({ "target": "region:eu", "set": { "state": "drain" } }));
    let overlay = rest.overlay(id);
    let safe = overlay["withdrawal"]["safe_to_stop_at"].as_u64().expect("a time");
    assert!(safe > asked + u64::from(ttl) && safe <= unix_now() + 4 + 1 + 2, "asked at {asked} for {ttl} s, safe at {safe}: {overlay}");
    assert_eq!(overlay["withdrawal"]["state"], "draining");
    rest.wait(id, drained);
    assert!(unix_now() >= safe);
    assert_eq!(rest.get("/v1/status")["overlays"][1]["withdrawal"]["state"], "drained");
    rest.revert(low);

    // Kept over a restart, though the run before may have answered until its end.
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    let overlay = rest.overlay(id);
    assert!(drained(&overlay) && overlay["withdrawal"]["safe_to_stop_at"] == safe, "{overlay}");
    // A drain that begins now cannot know what the run before answered.
    let other = lay(&rest, json!({ "target": "example.com/fra/192.0.2.10", "set": { "state": "down" } }));
    assert_eq!(rest.overlay(other)["withdrawal"]["state"], "draining");
    assert!(rest.overlay(other)["withdrawal"]["safe_to_stop_at"].as_u64() > Some(safe));
}

#[test]
fn a_zone_that_goes_and_comes_back_does_not_forget_what_caches_hold() {
    let (meridian, rest) = serve();
    // The run before, of which nothing is known, is over.
    let early = lay(&rest, json!({ "target": "example.com/fra", "set": { "state": "drain" } }));
    rest.wait(early, drained);
    rest.revert(early);
    let ttl = meridian.ask("www.example.com.", A).answers.first().expect("an answer").ttl;
    let asked = unix_now();
    let pool = lay(&rest, json!({ "target": "example.com/fra", "set": { "state": "drain" } }));
    std::fs::remove_file(meridian.path().join("zones/example.com.toml")).expect("it was there");
    meridian.write("zones/example.net.toml", &ZONE.replace("example.com", "example.net"));
    rest.post("/v1/reload", json!({}));
    assert_eq!(rest.overlay(pool)["phase"], "without effect");
    // What another zone has in the region does not speak for the one that is gone.
    let region = lay(&rest, json!({ "target": "region:eu", "set": { "state": "drain" } }));
    let safe = |id| rest.overlay(id)["withdrawal"]["safe_to_stop_at"].as_u64();
    assert!(safe(region) > Some(asked + u64::from(ttl)), "asked at {asked} for {ttl} s: {}", rest.overlay(region));
    meridian.write("zones/example.com.toml", ZONE);
    rest.post("/v1/reload", json!({}));
    assert!(safe(pool) > Some(asked + u64::from(ttl)), "asked at {asked} for {ttl} s: {}", rest.overlay(pool));
    rest.wait(pool, drained);
}

#[test]
fn what_is_still_handed_out_is_never_drained() {
    let (meridian, rest) = serve();
    let id = lay(&rest, json!({ "target": "example.com/spare", "set": { "state": "drain" }, "break_glass": true }));
    let overlay = rest.overlay(id);
    assert_eq!(overlay["withdrawal"], json!({ "state": "draining", "safe_to_stop_at": null, "still_answered": ["spare.example.com."] }), "{overlay}");
    assert_eq!(addresses(&meridian.ask("spare.example.com.", A)).len(), 1);
    // Another place for its name, and the line is in sight.
    meridian.write("zones/example.com.toml", &ZONE.replace("use = \"spare\"", "policy = \"failover\"\nto = [\"spare\", \"iad\"]"));
    rest.post("/v1/reload", json!({}));
    let overlay = rest.overlay(id);
    assert!(overlay["withdrawal"]["safe_to_stop_at"].as_u64() > Some(unix_now()), "{overlay}");
    rest.wait(id, drained);
}

#[test]
fn a_drain_over_some_time_moves_traffic_step_by_step_and_comes_back_so() {
    let (meridian, rest) = serve();
    assert!(sites(&meridian).iter().all(is_in_europe));
    let id = lay(&rest, json!({ "target": "region:eu", "set": { "state": "drain" }, "over": "3s" }));
    let both = |sites: &BTreeSet<IpAddr>| sites.iter().any(is_in_europe) && !sites.iter().all(is_in_europe);
    let wait_for_both = || {
        let began = std::time::Instant::now();
        while !both(&sites(&meridian)) {
            assert!(began.elapsed() < crate::meridian::PATIENCE, "{}", rest.overlay(id));
        }
    };
    wait_for_both();
    let overlay = rest.overlay(id);
    assert_eq!((overlay["phase"].as_str(), overlay["withdrawal"]["safe_to_stop_at"].clone()), (Some("ramping"), Value::Null), "{overlay}");
    assert_eq!(meridian.ask("www.example.com.", A).answers[0].ttl, 1, "the minimum while it moves");
    rest.wait(id, |overlay| overlay["phase"] == "in effect");
    assert!(!sites(&meridian).iter().any(is_in_europe));
    rest.wait(id, drained);

    let (status, back) = rest.call(Method::DELETE, &format!("/v1/overlays/{id}?over=3s"), None);
    assert_eq!((status, back["overlay"]["phase"].as_str()), (200, Some("returning")), "{back}");
    wait_for_both();
    rest.wait(id, Value::is_null);
    assert!(sites(&meridian).iter().all(is_in_europe));
}

#[test]
fn a_weight_goes_from_one_to_the_other_and_on_after_a_restart() {
    let (meridian, rest) = serve();
    let endpoint = "example.com/fra/192.0.2.10";
    let weight = |rest: &Rest| rest.endpoint(endpoint)["weight"].as_u64().expect("a weight");
    let id = lay(&rest, json!({ "target": endpoint, "set": { "weight": 1001 }, "over": "6s" }));
    assert_eq!((rest.overlay(id)["from"].clone(), weight(&rest)), (json!(1), 1), "from what is in effect");
    rest.wait(id, |_| weight(&rest) > 100);
    let was = weight(&rest);
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    let now = weight(&rest);
    assert!(now >= was && now < 1001, "{was} → {now}");
    rest.wait(id, |overlay| overlay["phase"] == "in effect");
    assert_eq!(weight(&rest), 1001);
    let child = lay(&rest, json!({ "target": "example.com/policy:split/fra", "set": { "weight": 0 }, "from": 50, "over": "1h" , "expires": "2h" }));
    assert_eq!(rest.overlay(child)["from"], 50);
}

#[test]
fn a_planned_drain_waits_for_its_start_and_for_the_safety_rules() {
    let (meridian, rest) = serve();
    let id = lay(&rest, json!({ "target": "example.com/fra", "set": { "state": "drain" }, "starts": "2s" }));
    let overlay = rest.overlay(id);
    assert_eq!((overlay["phase"].as_str(), overlay["withdrawal"].clone()), (Some("waiting"), Value::Null), "{overlay}");
    assert_eq!(overlay["expires"].as_u64(), overlay["starts"].as_u64().map(|at| at + 3600), "the hour counts from the start");
    assert!(sites(&meridian).iter().all(is_in_europe));
    meridian.wait_for("www.example.com.", A, |seen| !seen.is_empty() && meridian.ask("www.example.com.", A).answers[0].ttl == 1);
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    // Meanwhile somebody takes the other away: now it would be the last.
    let other = lay(&rest, json!({ "target": "example.com/iad", "set": { "state": "down" } }));
    let waits = rest.wait(id, |overlay| overlay["inactive"].is_string());
    assert!(waits["inactive"].as_str().is_some_and(|why| why.contains("it should have begun") && why.contains("last_healthy")), "{waits}");
    assert_eq!(waits["phase"], "waiting");
    assert!(sites(&meridian).iter().all(is_in_europe));
    rest.revert(other);
    rest.wait(id, |overlay| overlay["phase"] == "in effect");
    assert!(!sites(&meridian).iter().any(is_in_europe));
}

#[test]
fn a_ramp_stands_still_when_a_sibling_fails_and_is_taken_back_when_its_target_does() {
    let canary = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = canary.local_addr().expect("an address").port();
    let main_addr = format!("127.0.0.2:{port}");
    let main = TcpListener::bind(&main_addr).expect("the same port elsewhere");
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.m]\ntcp = true\nport = {port}\nfall = 1\nrise = 1\ninterval = \"1s\"\n\
         [pool.canary]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"m\"\n[pool.main]\nendpoints = [\"127.0.0.2\"]\nmonitor = \"m\"\n\
         [policy.split]\npolicy = \"weighted\"\nto = {{ main = 100, canary = 5 }}\n[steer.www]\nuse = \"split\"\n"
    );
    let meridian = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&meridian);
    let up = |id: &str| {
        let began = std::time::Instant::now();
        while !matches!(rest.endpoint(id)["state"].as_str(), Some("up" | "ramp")) {
            assert!(began.elapsed() < crate::meridian::PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    up("example.com/canary/127.0.0.1");
    up("example.com/main/127.0.0.2");
    let id = lay(&rest, json!({ "target": "example.com/policy:split/canary", "set": { "weight": 50 }, "over": "50m" }));
    assert_eq!(rest.overlay(id)["phase"], "ramping");
    // It is looked at once before anything fails.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    drop(main);
    let held = rest.wait(id, |overlay| overlay["phase"] == "holding");
    assert!(held["ramp"]["holding"]["why"].as_str().is_some_and(|why| why.contains("example.com/main/127.0.0.2")), "{held}");
    let main = TcpListener::bind(&main_addr).expect("it comes back");
    let on = rest.wait(id, |overlay| overlay["phase"] == "ramping");
    assert!(on["ramp"]["held"].as_u64() >= Some(1), "{on}");
    drop(canary);
    rest.wait(id, Value::is_null);
    meridian.says(&["failed while its weight was rising"]);
    drop(main);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (_meridian, rest) = serve();
    let drain = json!({ "state": "drain" });
    for (body, field) in [
        (json!({ "target": "example.com/www", "set": { "ttl": 2 }, "over": "1m" }), "over"),
        (json!({ "target": "example.com/fra", "set": { "state": "down" }, "over": "1m" }), "over"),
        (json!({ "target": "example.com/fra", "set": drain, "over": "0s" }), "over"),
        (json!({ "target": "example.com/fra", "set": drain, "over": "31d" }), "over"),
        (json!({ "target": "example.com/fra", "set": drain, "over": "2h" }), "over"),
        (json!({ "target": "example.com/fra", "set": drain, "over": "1m", "from": 5 }), "from"),
        (json!({ "target": "example.com/fra/192.0.2.10", "set": { "weight": 5 }, "from": 5 }), "from"),
        (json!({ "target": "example.com/fra", "set": drain, "starts": "0s" }), "starts"),
        (json!({ "target": "example.com/fra", "set": drain, "starts": "soon" }), "starts"),
        (json!({ "target": "example.com/fra", "set": drain, "starts": 1000 }), "starts"),
        (json!({ "target": "example.com/fra", "set": drain, "starts": "400d" }), "starts"),
    ] {
        let mut whole = json!({ "reason": "r", "expires": "1h" });
        body.as_object().expect("an object").iter().for_each(|(key, value)| whole[key] = value.clone());
        let (status, problem) = rest.call(Method::POST, "/v1/overlays", Some(whole));
        assert_eq!((status, problem["field"].as_str()), (422, Some(field)), "{body}: {problem}");
    }
    let slow = lay(&rest, json!({ "target": "example.com/fra", "set": drain, "over": "20m", "expires": "1h" }));
    let (status, problem) = rest.call(Method::PATCH, &format!("/v1/overlays/{slow}"), Some(json!({ "expires": "3s" })));
    assert_eq!((status, problem["field"].as_str()), (422, Some("expires")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("it would end before it is there")), "{problem}");
    let id = lay(&rest, json!({ "target": "example.com/www", "set": { "ttl": 2 } }));
    let path = format!("/v1/overlays/{id}");
    for (method, path, body, status) in [
        (Method::DELETE, format!("{path}?over=1m"), None, 422),
        (Method::PATCH, path.clone(), Some(json!({})), 422),
        (Method::PATCH, path.clone(), Some(json!({ "expires": "soon" })), 422),
        (Method::PATCH, path.clone(), Some(json!({ "target": "x" })), 422),
        (Method::PATCH, path.clone(), Some(json!({ "reason": " " })), 422),
        (Method::PATCH, "/v1/overlays/99".into(), Some(json!({ "expires": "1h" })), 404),
    ] {
        let (found, problem) = rest.call(method, &path, body);
        assert_eq!(found, status, "{path}: {problem}");
    }
}

#[test]
fn an_overlay_is_extended_and_told_apart_from_the_files() {
    let (meridian, rest) = serve();
    let run = |args: &[&str]| {
        let (code, out, err) = meridian.command(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    assert_eq!(run(&["overlay", "diff"]), "everything is as the files say\n");
    let ttl = lay(&rest, json!({ "target": "example.com/www", "set": { "ttl": 2 } }));
    let weight = lay(&rest, json!({ "target": "example.com/policy:split/fra", "set": { "weight": 7 } }));
    let low = lay(&rest, json!({ "target": "example.com/policy:split/fra", "set": { "weight": 5 } }));
    let drain = lay(&rest, json!({ "target": "example.com/fra/192.0.2.10", "set": { "state": "drain" } }));
    let ns = lay(&rest, json!({ "target": "example.com/ns1/A", "set": { "ttl": 20 } }));
    let one = |target: &str, what: &str, files: &str, now: &str, overlays: &[u64]| json!({ "target": target, "what": what, "files": files, "now": now, "overlays": overlays, "in_force": &overlays[overlays.len() - 1..] });
    let found = rest.get("/v1/overlays/diff");
    let wanted = json!({ "differences": [
        one("example.com/www", "ttl", "4", "2", &[ttl]),
        one("example.com/policy:split/fra", "weight", "1", "5", &[weight, low]),
        one("example.com/fra/192.0.2.10", "state", "as its checks say", "drain", &[drain]),
        one("example.com/ns1/A", "ttl", "A 300", "A 20", &[ns]),
    ] });
    assert_eq!(found, wanted);
    assert!(run(&["overlay", "diff"]).contains("example.com/policy:split/fra"));

    let before = rest.overlay(ttl)["expires"].as_u64().expect("a time");
    let out = run(&["overlay", "extend", &ttl.to_string(), "2d", "--reason", "parts are late"]);
    assert!(out.contains("extended"), "{out}");
    let meridian = meridian.restart();
    let overlay = Rest::new(&meridian).overlay(ttl);
    assert!(overlay["expires"].as_u64() > Some(before + 86_400), "{overlay}");
    assert_eq!(overlay["reason"], "parts are late");
}

#[test]
fn the_command_line_waits_for_the_finish_line() {
    let (meridian, rest) = serve();
    let (code, out, err) = meridian.command(&["drain", "example.com/fra", "--reason", "cli", "--yes", "--over", "2s", "--wait"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("overlay 1 laid: example.com/fra drain") && out.contains("is drained; it may be stopped"), "{out}");
    assert!(err.contains("gives its traffic up") && err.contains("draining, safe to stop in"), "{err}");
    assert!(drained(&rest.overlay(1)));
    let (_, list, _) = meridian.command(&["overlay", "list"]);
    assert!(list.contains("drain, drained"), "{list}");
    let (code, out, err) = meridian.command(&["overlay", "revert", "1", "--over", "1h"]);
    assert_eq!(code, 0, "{out}{err}");
    let (_, shown, _) = meridian.command(&["overlay", "show", "1"]);
    assert!(shown.contains("returning"), "{shown}");
    // Reverted for good by somebody else while it is waited for.
    assert_eq!(meridian.command(&["overlay", "revert", "1"]).0, 0);
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| meridian.command(&["drain", "example.com/spare", "--reason", "cli", "--break-glass", "--wait"]));
        rest.wait(2, |overlay| !overlay.is_null());
        rest.revert(2);
        waiting.join().expect("no panic")
    });
    assert_eq!(waited.0, 1, "{waited:?}");
    assert!(waited.2.contains("ended before it was drained"), "{waited:?}");
    // Programs read the same: the overlay as it was last, and what is wrong.
    let waited = std::thread::scope(|scope| {
        let drain = ["drain", "example.com/spare", "--reason", "cli", "--break-glass", "--wait", "--json"];
        let waiting = scope.spawn(move || meridian.command(&drain));
        rest.wait(3, |overlay| !overlay.is_null());
        rest.revert(3);
        waiting.join().expect("no panic")
    });
    let last: Value = serde_json::from_str(&waited.1).unwrap_or_else(|error| panic!("{error}: {waited:?}"));
    assert_eq!((waited.0, &last["id"], &last["target"]), (1, &json!(3), &json!("example.com/spare")), "{waited:?}");
    assert!(last["error"].as_str().is_some_and(|why| why.contains("ended before it was drained")), "{last}");
}

/// What a reload takes out of the files is in caches all the same.
#[test]
fn what_a_reload_removes_keeps_its_finish_line() {
    let (meridian, rest) = serve();
    let early = lay(&rest, json!({ "target": "example.com/fra", "set": { "state": "drain" } }));
    rest.wait(early, drained);
    rest.revert(early);
    let ttl = u64::from(meridian.ask("www.example.com.", A).answers.first().expect("an answer").ttl);
    let asked = unix_now();
    let pool = lay(&rest, json!({ "target": "example.com/fra", "set": { "state": "drain" } }));
    // Handed out until the reload, for nothing else is there.
    let spare = lay(&rest, json!({ "target": "example.com/spare", "set": { "state": "drain" }, "break_glass": true }));
    let endpoint = lay(&rest, json!({ "target": "example.com/iad/198.51.100.10", "set": { "state": "down" }, "break_glass": true }));
    assert_eq!(rest.overlay(spare)["withdrawal"]["safe_to_stop_at"], Value::Null);
    let without = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.iad]\nendpoints = [\"198.51.100.11\"]\n\
                   [steer.www]\nuse = \"iad\"\n[safety]\ndrain_guard = \"1s\"\n";
    meridian.write("zones/example.com.toml", without);
    rest.post("/v1/reload", json!({ "break_glass": true, "reason": "r" }));
    for id in [pool, spare, endpoint] {
        let overlay = rest.overlay(id);
        assert_eq!(overlay["phase"], "without effect", "{overlay}");
        let safe = overlay["withdrawal"]["safe_to_stop_at"].as_u64();
        assert!(safe > Some(asked + ttl), "asked at {asked} for {ttl} s: {overlay}");
    }
    let (_, list, _) = meridian.command(&["overlay", "list"]);
    assert!(list.contains("safe to stop"), "{list}");
    // A restart knows it as well, and so does the log once it is over.
    let safe = [pool, spare, endpoint].map(|id| rest.overlay(id)["withdrawal"]["safe_to_stop_at"].clone());
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    for (id, safe) in [pool, spare, endpoint].into_iter().zip(safe) {
        assert_eq!(rest.overlay(id)["withdrawal"]["safe_to_stop_at"], safe);
        rest.wait(id, drained);
        assert!(Some(unix_now()) >= safe.as_u64());
    }
    let began = std::time::Instant::now();
    let said = || rest.get("/v1/audit?action=overlay.drained")["entries"].as_array().map_or(0, Vec::len);
    while said() < 4 {
        assert!(began.elapsed() < crate::meridian::PATIENCE, "{}", rest.get("/v1/audit?action=overlay.drained"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
