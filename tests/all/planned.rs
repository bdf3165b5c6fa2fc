//! Plans beside each other, ways back, and what is told of them, through the real program.

use std::time::Duration;

use hickory_proto::rr::RecordType::A;
use meridian::control::unix_now;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, addresses};
use crate::rest::Rest;

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]

[records]
ns1.A = "192.0.2.53"

[region]
eu = {}
us = {}

[pool.fra]
region    = "eu"
endpoints = ["192.0.2.10", "192.0.2.11"]

[pool.iad]
region    = "us"
endpoints = ["198.51.100.10", "198.51.100.11"]

[policy.split]
policy = "weighted"
to     = { fra = 1, iad = 100 }

[steer.www]
policy   = "failover"
to       = ["fra", "iad"]
failback = "manual"
ttl      = { max = 600, min = 2 }

[steer.split]
use = "split"
ttl = { max = 600, min = 2 }
"#;

fn serve(safety: &str) -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", &format!("{ZONE}\n{safety}"))]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn plan(rest: &Rest, target: &str, set: &Value, starts: u64, over: Option<&str>) -> (u64, Value) {
    let mut body = json!({ "target": target, "set": set, "reason": "a test", "starts": starts, "expires": "1h" });
    if let Some(over) = over {
        body["over"] = over.into();
    }
    let reply = rest.post("/v1/overlays", body);
    (reply["id"].as_u64().expect("an id"), reply)
}

/// Waits until each has begun, or should have; how many have come to their end, and what holds the others.
fn outcome(rest: &Rest, ids: &[u64]) -> (usize, Vec<String>) {
    let held = |one: &Value| {
        let why = if one["phase"] == "holding" { &one["ramp"]["holding"]["why"] } else { &one["inactive"] };
        why.as_str().map(str::to_owned)
    };
    let all: Vec<Value> = ids.iter().map(|id| rest.wait(*id, |one| one["phase"] == "in effect" || held(one).is_some())).collect();
    (all.iter().filter(|one| one["phase"] == "in effect").count(), all.iter().filter_map(held).collect())
}

/// Safety rules of the zone; targets, what is set and over which time; how many may begin, and the rule that holds the others.
type Row<'a> = (&'a str, &'a [&'a str], &'a Value, Option<&'a str>, usize, &'a str);

#[test]
fn plans_that_begin_at_the_same_time_are_judged_one_after_the_other() {
    let down = json!({ "state": "down" });
    let drain = json!({ "state": "drain" });
    let endpoints = ["example.com/fra/192.0.2.10", "example.com/fra/192.0.2.11", "example.com/iad/198.51.100.10", "example.com/iad/198.51.100.11"];
    let set = "[safety]\nlast_healthy = false\n[safety.min_in_rotation]\nweb = { of = [\"fra\", \"iad\"], at_least = 1 }\n";
    let rows: [Row<'_>; 5] = [
        ("", &["region:eu", "region:us"], &drain, None, 1, "last_healthy"),
        ("", &endpoints, &down, None, 3, "last_healthy"),
        ("", &["region:eu", "region:us"], &drain, Some("1s"), 1, "last_healthy"),
        (set, &["region:eu", "region:us"], &drain, None, 1, "min_in_rotation/web"),
        ("[safety]\nmax_withdrawn = \"25%\"\n", &endpoints[..2], &down, None, 1, "max_withdrawn"),
    ];
    for (safety, targets, set, over, begun, rule) in rows {
        let (meridian, rest) = serve(safety);
        let starts = unix_now() + 3;
        let laid: Vec<(u64, Value)> = targets.iter().map(|target| plan(&rest, target, set, starts, over)).collect();
        let ids: Vec<u64> = laid.iter().map(|(id, _)| *id).collect();
        // Whoever lays the one too many hears of it.
        let warned = laid.iter().filter(|(_, reply)| reply["warnings"].to_string().contains("it will have to wait at its start")).count();
        assert_eq!(warned, targets.len() - begun, "{targets:?} {rule}: {laid:?}");
        let (found, held) = outcome(&rest, &ids);
        assert_eq!((found, held.len()), (begun, targets.len() - begun), "{targets:?} {rule}: {held:?}");
        assert!(held.iter().all(|why| why.contains(rule)), "{rule}: {held:?}");
        assert!(!addresses(&meridian.ask("www.example.com.", A)).is_empty());
        let metrics = rest.text("/metrics");
        for line in ["meridian_overlays{state=\"held\"} 1", "meridian_safety_held_total 1"] {
            assert!(metrics.contains(line), "{rule}: {line}: {metrics}");
        }
        meridian.says(&["a planned change waits", rule]);
        let steps = rest.get("/v1/audit?action=overlay.step&limit=1000");
        assert!(steps.to_string().contains("it should have begun, but example.com/safety:"), "{steps}");
        // With the first gone, the one that waited goes on.
        rest.revert(ids[0]);
        for id in &ids[1..] {
            rest.wait(*id, |one| one["phase"] == "in effect");
        }
    }
}

#[test]
fn plans_whose_starts_passed_while_nobody_was_there_are_judged_alike() {
    let (meridian, rest) = serve("");
    let starts = unix_now() + 2;
    let ids: Vec<u64> = ["region:eu", "region:us"].iter().map(|target| plan(&rest, target, &json!({ "state": "drain" }), starts, None).0).collect();
    meridian.signal("KILL");
    while unix_now() < starts {
        std::thread::sleep(Duration::from_millis(50));
    }
    let meridian = meridian.restart_dead();
    let (found, held) = outcome(&Rest::new(&meridian), &ids);
    assert!(found == 1 && held.len() == 1 && held[0].contains("last_healthy"), "{held:?}");
}

#[test]
fn a_plan_is_judged_with_what_will_stand_at_its_start() {
    let (_meridian, rest) = serve("");
    let lay = |body: Value| rest.call(Method::POST, "/v1/overlays", Some(body));
    let body = |target: &str, starts: Option<&str>, expires: &str| {
        let mut body = json!({ "target": target, "set": { "state": "drain" }, "reason": "a test", "expires": expires });
        if let Some(starts) = starts {
            body["starts"] = starts.into();
        }
        body
    };
    assert_eq!(lay(body("region:eu", None, "10m")).0, 201);
    // The other is back by then, or is not.
    let (status, early) = lay(body("region:us", Some("9m"), "1h"));
    assert_eq!((status, &early["type"]), (409, &json!("urn:meridian:safety")), "{early}");
    let dry = |starts: &str| {
        let mut asked = body("region:us", Some(starts), "1h");
        asked["dry_run"] = true.into();
        lay(asked).1["broken"].as_array().expect("rules").len()
    };
    assert_eq!((dry("9m"), dry("11m")), (1, 0));
    assert_eq!(lay(body("region:us", Some("11m"), "1h")).0, 201);
}

#[test]
fn a_way_back_is_not_cut_short_and_says_what_stays_away() {
    let (meridian, rest) = serve("");
    let body = json!({ "target": "example.com/fra", "set": { "state": "drain" }, "reason": "a test", "expires": "4s" });
    let laid = rest.post("/v1/overlays", body);
    let (id, expires) = (laid["id"].as_u64().expect("an id"), laid["overlay"]["expires"].as_u64().expect("a time"));
    let held = "traffic does not come back by itself (held): `meridian failback example.com/www` brings it back";
    let path = format!("/v1/overlays/{id}?over=10m");
    let (status, dry) = rest.call(Method::DELETE, &format!("{path}&dry_run=true"), None);
    let warned = dry["warnings"].as_array().expect("warnings").clone();
    assert!(status == 200 && warned.len() == 2 && warned.contains(&json!(held)), "{dry}");
    assert!(warned[0].as_str().is_some_and(|text| text.contains("it lasts until all is back")), "{dry}");
    let (status, back) = rest.call(Method::DELETE, &path, None);
    assert!(status == 200 && back["warnings"].as_array().is_some_and(|all| all.len() == 2), "{back}");
    assert!(back["overlay"]["expires"].as_u64().is_some_and(|at| at >= unix_now() + 500), "{back}");
    while unix_now() <= expires + 1 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(rest.overlay(id)["phase"], "returning");
    // Nor by an earlier end, nor by a restart.
    let (status, problem) = rest.call(Method::PATCH, &format!("/v1/overlays/{id}"), Some(json!({ "expires": "5m" })));
    assert!(status == 422 && problem["detail"].as_str().is_some_and(|text| text.contains("its way back takes")), "{problem}");
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    assert_eq!(rest.overlay(id)["phase"], "returning");
    // At once, the hold is told as well; and the command line says it.
    let (code, _, err) = meridian.command(&["overlay", "revert", &id.to_string(), "--reason", "r", "--yes"]);
    assert!(code == 0 && err.contains(held), "{err}");
    // What failback does not hold comes back without a word.
    let other = rest.lay("example.com/iad/198.51.100.10", json!({ "state": "drain" }));
    let (_, gone) = rest.call(Method::DELETE, &format!("/v1/overlays/{other}"), None);
    assert_eq!(gone["warnings"], Value::Null, "{gone}");
}

#[test]
fn longer_ttls_from_before_are_remembered_over_a_restart() {
    let (meridian, _) = serve("");
    let ttl = u64::from(meridian.ask("www.example.com.", A).answers[0].ttl);
    let (asked, short) = (unix_now(), ZONE.replace("600", "5"));
    assert_eq!(ttl, 600);
    meridian.write("zones/example.com.toml", &short);
    assert_eq!(meridian.command(&["reload"]).0, 0);
    // The first reply to a change comes behind whatever was kept before it.
    let drained = |meridian: &Meridian| {
        let rest = Rest::new(meridian);
        let id = rest.lay("example.com/fra", json!({ "state": "drain" }));
        let safe = rest.overlay(id)["withdrawal"]["safe_to_stop_at"].as_u64().expect("a time");
        rest.revert(id);
        safe
    };
    assert!(drained(&meridian) > asked + ttl);
    meridian.signal("KILL");
    let meridian = meridian.restart_dead();
    assert!(drained(&meridian) > asked + ttl);
    // Nor is it forgotten by one more, nor do files that change while nobody is there hide it.
    let meridian = meridian.restart();
    assert!(drained(&meridian) > asked + ttl);
    meridian.write("zones/example.com.toml", &ZONE.replace("600", "2000"));
    assert_eq!(meridian.command(&["reload"]).0, 0);
    assert_eq!(meridian.ask("split.example.com.", A).answers.len(), 2);
    let asked = unix_now();
    meridian.write("zones/example.com.toml", &short);
    let meridian = meridian.restart();
    assert!(drained(&meridian) > asked + 2000);
}

#[test]
fn a_confined_token_sees_what_reaches_into_its_zone_and_the_log_finds_it() {
    let (meridian, admin) = serve("");
    let made = admin.post("/v1/tokens", json!({ "name": "team", "role": "operate", "zones": ["example.com"], "reason": "a test" }));
    let team = admin.with_token(made["token"].as_str().expect("a token"));
    assert_eq!(team.get("/v1/overlays"), json!({ "overlays": [] }));
    let id = admin.lay("region:eu", json!({ "state": "drain" }));
    let began = admin.overlay(id)["began"].clone();
    let explain = team.get("/v1/explain?name=www.example.com");
    for (path, reply) in [("list", team.get("/v1/overlays")), ("diff", team.get("/v1/overlays/diff")), ("explain", explain.clone())] {
        let one = &reply["beyond"][0];
        assert_eq!((&one["target"], &one["set"], &one["since"]), (&json!("region:eu"), &json!({ "state": "drain" }), &began), "{path}: {reply}");
        assert!(["id", "owner", "reason"].iter().all(|member| one[member].is_null()), "{path}: {reply}");
    }
    assert!(explain["text"].as_str().is_some_and(|text| text.contains("region:eu drain, laid beyond the zones of this token")), "{explain}");
    assert_eq!(admin.get("/v1/overlays")["beyond"], Value::Null, "whoever is not confined sees the overlay itself");
    let token = made["token"].as_str().expect("a token");
    let (code, out, err) = meridian.command(&["overlay", "diff", "--token", token]);
    assert!(code == 0 && out.contains("region:eu drain, in effect since") && !out.contains("as the files say"), "{out}{err}");
    // What happened to something is what happened to its region, too.
    for (target, finds) in [
        ("example.com/fra", true),
        ("example.com/fra/192.0.2.10", true),
        ("Example.com.", true),
        ("region:eu", true),
        ("example.com/iad", false),
        ("example.net", false),
    ] {
        let found = admin.get(&format!("/v1/audit?action=overlay.lay&target={target}"));
        assert_eq!(found["entries"][0]["target"] == "region:eu", finds, "{target}: {found}");
    }
    assert_eq!(team.get("/v1/audit?action=overlay.lay&target=example.com/fra")["entries"], json!([]), "who and why is not told beyond");
}

#[test]
fn a_planned_weight_of_0_lowers_ttls_beforehand_and_plans_are_no_active_overlays() {
    for (target, name) in [("example.com/policy:split/fra", "split"), ("example.com/fra/192.0.2.10", "www")] {
        let (meridian, rest) = serve("");
        assert_eq!(meridian.ask(&format!("{name}.example.com."), A).answers[0].ttl, 600);
        plan(&rest, target, &json!({ "weight": 0 }), unix_now() + 200, None);
        let began = std::time::Instant::now();
        while meridian.ask(&format!("{name}.example.com."), A).answers[0].ttl != 2 {
            assert!(began.elapsed() < crate::meridian::PATIENCE, "{target}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let metrics = rest.text("/metrics");
        for line in ["meridian_overlays{state=\"active\"} 0", "meridian_overlays{state=\"waiting\"} 1", "meridian_overlays{state=\"held\"} 0"] {
            assert!(metrics.contains(line), "{target}: {line}: {metrics}");
        }
    }
}

#[test]
fn what_operators_withdraw_is_told_apart_from_what_fails() {
    let (_meridian, rest) = serve("");
    rest.lay("region:eu", json!({ "state": "drain" }));
    let metrics = rest.text("/metrics");
    for line in [
        "meridian_pool_usable_endpoints{pool=\"example.com/fra\"} 0",
        "meridian_pool_withdrawn_endpoints{pool=\"example.com/fra\"} 2",
        "meridian_pool_withdrawn_endpoints{pool=\"example.com/iad\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
