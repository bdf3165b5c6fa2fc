//! Safety rules and what is on its way: ramps, ways back, and overlays that a reload wakes up. What is accepted counts, not how far it has come.

use std::time::Duration;

use hickory_proto::rr::RecordType::A;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, addresses};
use crate::rest::Rest;

const FILE: &str = "zones/example.com.toml";
const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns.example.net."]

[region]
r1 = {}
r2 = {}

[pool.p1]
region    = "r1"
endpoints = ["192.0.2.1"]
capacity  = 45

[pool.p2]
region    = "r2"
endpoints = ["192.0.2.2"]
capacity  = 45

[pool.p3]
endpoints = ["192.0.2.3"]
capacity  = 10

[policy.w]
policy = "weighted"
mode   = "random"
to     = { p1 = 45, p2 = 45, p3 = 10 }

[steer.f]
use = "w"
"#;

fn serve(safety: &str) -> (Meridian, Rest) {
    let meridian = Meridian::start(&[(FILE, &format!("{ZONE}{safety}"))]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

/// A change that is asked for; `more` are further members.
fn ask(rest: &Rest, target: &str, set: Value, more: Value) -> (u16, Value) {
    let mut body = json!({ "target": format!("example.com/{target}"), "set": set, "reason": "a test", "expires": "9h" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    rest.call(Method::POST, "/v1/overlays", Some(body))
}

fn lay(rest: &Rest, target: &str, set: Value, more: Value) -> u64 {
    let (status, reply) = ask(rest, target, set, more);
    assert_eq!(status, 201, "{target}: {reply}");
    reply["id"].as_u64().expect("an id")
}

fn drain() -> Value {
    json!({ "state": "drain" })
}

fn zero() -> Value {
    json!({ "weight": 0 })
}

fn slowly() -> Value {
    json!({ "over": "1h" })
}

fn at_once() -> Value {
    json!({})
}

/// Takes an overlay back, over some time if any is given.
fn revert(rest: &Rest, id: u64, over: &str) -> (u16, Value) {
    rest.call(Method::DELETE, &format!("/v1/overlays/{id}{over}"), None)
}

/// What is accepted first; the second; the rule that forbids it.
type Row<'a> = (&'a str, &'a dyn Fn(&Rest) -> u64, &'a str, Value, Value, &'a str);

#[test]
fn a_change_is_judged_on_top_of_what_is_on_its_way() {
    let going = |rest: &Rest| lay(rest, "p1", drain(), slowly());
    let fading = |rest: &Rest| lay(rest, "policy:w/p1", zero(), slowly());
    let returning = |rest: &Rest| {
        let id = lay(rest, "p1", drain(), at_once());
        assert_eq!(revert(rest, id, "?over=1h").0, 200);
        id
    };
    let rising = |rest: &Rest| {
        let id = lay(rest, "policy:w/p1", zero(), at_once());
        lay(rest, "policy:w/p1", json!({ "weight": 45 }), slowly());
        id
    };
    let two = "[safety.min_in_rotation]\ntwo = { of = [\"p1\", \"p2\", \"p3\"], at_least = 2 }\n";
    let few = "[safety]\nmax_withdrawn = \"40%\"\n";
    let rows: [Row<'_>; 9] = [
        ("", &going, "p2", drain(), at_once(), "min_capacity"),
        ("", &going, "p2", drain(), slowly(), "min_capacity"),
        ("", &going, "p2", drain(), json!({ "starts": "1h" }), "min_capacity"),
        ("", &fading, "policy:w/p2", zero(), slowly(), "min_capacity"),
        ("", &returning, "p2", drain(), at_once(), "min_capacity"),
        ("", &rising, "p2", drain(), at_once(), "min_capacity"),
        (two, &going, "p2", drain(), at_once(), "min_in_rotation/two"),
        (two, &returning, "p2", drain(), at_once(), "min_in_rotation/two"),
        (few, &going, "p2", drain(), at_once(), "max_withdrawn"),
    ];
    for (safety, first, target, set, more, rule) in rows {
        let (_meridian, rest) = serve(safety);
        let id = first(&rest);
        let (status, refused) = ask(&rest, target, set.clone(), more.clone());
        let what = format!("{safety} {target} {set} {more}: {refused}");
        assert_eq!((status, &refused["type"]), (409, &json!("urn:meridian:safety")), "{what}");
        assert!(refused["rules"].to_string().contains(rule), "{what}");
        let mut dry = more.clone();
        dry["dry_run"] = true.into();
        let (status, foreseen) = ask(&rest, target, set.clone(), dry);
        assert_eq!((status, &foreseen["broken"]), (200, &refused["rules"]), "{what}");
        // Whoever broke the glass may take it back, and what is on its way may go at once.
        let broken = json!({ "break_glass": true, "over": "1h" });
        let third = lay(&rest, "p2", drain(), broken);
        assert_eq!(revert(&rest, third, "?over=1h").0, 200, "{what}");
        assert_eq!(revert(&rest, id, "").0, 200, "{what}");
    }
}

#[test]
fn what_is_on_its_way_may_be_taken_back_and_what_will_have_come_counts() {
    let (_meridian, rest) = serve("");
    let going = lay(&rest, "p1", drain(), slowly());
    // At once instead of step by step takes out no more than was accepted.
    let down = lay(&rest, "p1", json!({ "state": "down" }), at_once());
    for id in [down, going] {
        assert_eq!(revert(&rest, id, "").0, 200);
    }
    // What is back when the plan begins is there.
    let id = lay(&rest, "p1", drain(), at_once());
    assert_eq!(revert(&rest, id, "?over=10m").0, 200);
    assert_eq!(ask(&rest, "p2", drain(), json!({ "starts": "5m" })).0, 409);
    let plan = lay(&rest, "p2", drain(), json!({ "starts": "1h" }));
    for id in [plan, id] {
        assert_eq!(revert(&rest, id, "").0, 200);
    }
    // A weight that would begin at 0 takes out at once what it lets come back.
    lay(&rest, "p2", drain(), at_once());
    assert_eq!(ask(&rest, "policy:w/p1", json!({ "weight": 50 }), json!({ "from": 0, "over": "1h" })).0, 409);
    lay(&rest, "policy:w/p1", json!({ "weight": 50 }), json!({ "from": 1, "over": "1h" }));
}

#[test]
fn what_a_rule_forbids_at_the_end_of_a_ramp_waits_until_it_no_longer_does() {
    let (meridian, rest) = serve("");
    let ramp = lay(&rest, "policy:w/p1", zero(), json!({ "over": "2s" }));
    let glass = lay(&rest, "p2", drain(), json!({ "break_glass": true }));
    let held = rest.wait(ramp, |one| one["phase"] == "holding");
    assert!(held["ramp"]["holding"]["why"].as_str().is_some_and(|why| why.contains("min_capacity")), "{held}");
    // Ticks in which it is looked at again.
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(250));
        let held = rest.overlay(ramp);
        assert_eq!((&held["phase"], &held["progress"]["weight"]), (&json!("holding"), &json!(1)), "{held}");
    }
    let is_named = |_| addresses(&meridian.ask("f.example.com.", A)).iter().any(|address| address.to_string() == "192.0.2.1");
    assert!((0..2000).any(is_named), "p1 is in rotation still");
    assert_eq!(revert(&rest, glass, "").0, 200);
    rest.wait(ramp, |one| one["phase"] == "in effect");
}

#[test]
fn a_reload_is_judged_with_what_is_on_its_way_and_what_it_wakes_up() {
    let reload = |meridian: &Meridian, rest: &Rest, text: &str, body: Value| {
        meridian.write(FILE, text);
        rest.call(Method::POST, "/v1/reload", Some(body))
    };
    let (meridian, rest) = serve("");
    let going = lay(&rest, "p1", drain(), slowly());
    let without = ZONE.replace("p2 = 45, ", "");
    assert_eq!(reload(&meridian, &rest, &without, json!({})).0, 409);
    assert_eq!(revert(&rest, going, "").0, 200);
    assert_eq!(reload(&meridian, &rest, &without, json!({})).0, 200);
    for (target, other, other_name) in [
        ("example.com/p1", ZONE.replace("[pool.p1]", "[pool.q1]").replace("{ p1", "{ q1"), "example.com/p2"),
        ("region:r1", ZONE.replace("region    = \"r1\"\n", ""), "region:r2"),
    ] {
        let (meridian, rest) = serve("");
        rest.lay(target, drain());
        assert_eq!(reload(&meridian, &rest, &other, json!({ "break_glass": true, "reason": "a test" })).0, 200);
        rest.lay(other_name, drain());
        let (status, foreseen) = reload(&meridian, &rest, ZONE, json!({ "dry_run": true }));
        assert!(status == 200 && foreseen["consequences"]["broken"].to_string().contains("safety:min_capacity"), "{target}: {foreseen}");
        let (status, refused) = reload(&meridian, &rest, ZONE, json!({}));
        assert_eq!((status, &refused["rules"]), (409, &foreseen["consequences"]["broken"]), "{target}: {refused}");
        // The draw is at random, and one in six is of p3.
        let is_other = |_| addresses(&meridian.ask("f.example.com.", A)).iter().any(|address| address.to_string() != "192.0.2.3");
        assert!((0..500).any(is_other), "{target}: what was there is answered still");
    }
}

#[test]
fn a_planned_weight_begins_with_the_one_in_effect_at_its_start() {
    let (_meridian, rest) = serve("");
    lay(&rest, "policy:w/p1", json!({ "weight": 500 }), json!({ "expires": "2s" }));
    let plan = lay(&rest, "policy:w/p1", json!({ "weight": 10 }), json!({ "starts": "3s", "over": "2h" }));
    assert_eq!(rest.overlay(plan)["from"], Value::Null);
    let begun = rest.wait(plan, |one| one["began"].is_u64());
    assert_eq!((&begun["from"], &begun["progress"]["weight"]), (&json!(45), &json!(45)), "{begun}");
}

#[test]
fn whoever_takes_a_family_from_a_pool_hears_which_names_lack_it() {
    let zone = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[pool.p1]\nendpoints = [\"192.0.2.10\", \"2001:db8::1\"]\n\
        [pool.p2]\nendpoints = [\"192.0.2.20\", \"2001:db8::2\"]\n[steer.any]\npolicy = \"failover\"\nto = [\"p1\", \"p2\"]\n\
        [steer.both]\npolicy = \"failover\"\nto = [\"p1\", \"p2\"]\nfamily = \"require-both\"\n[steer.all]\npolicy = \"multivalue\"\nto = [\"p1\", \"p2\"]\n";
    let meridian = Meridian::start(&[(FILE, zone)]);
    let rest = Rest::new(&meridian);
    let warnings = |target: &str, dry_run: bool| {
        let (status, reply) = ask(&rest, target, drain(), json!({ "dry_run": dry_run }));
        assert!(matches!(status, 200 | 201), "{reply}");
        reply["warnings"].as_array().into_iter().flatten().map(|one| one.as_str().expect("a sentence").to_owned()).collect::<Vec<_>>()
    };
    let told = ["example.com/p1 would have no IPv4 endpoint in rotation: clients sent there get an empty A answer from any.example.com. \
        (family = \"require-both\" passes over such pools)"];
    for dry_run in [true, false] {
        assert_eq!(warnings("p1/192.0.2.10", dry_run), told, "{dry_run}");
    }
    assert!(addresses(&meridian.ask("any.example.com.", A)).is_empty(), "as it was told");
    // What takes the rest of the pool as well takes nothing from names that go on to the next.
    assert_eq!(warnings("p1", false), Vec::<String>::new());
    let told = warnings("p2/2001:db8::2", true).concat();
    assert!(told.contains("example.com/p2 would have no IPv6 endpoint") && told.contains("any.example.com."), "{told}");
}

#[test]
fn what_a_reload_takes_away_in_mid_ramp_can_be_waited_for() {
    let glass = || json!({ "break_glass": true, "reason": "a test" });
    let is_told = |one: &Value| one["phase"] == "without effect" && one["withdrawal"]["safe_to_stop_at"].is_u64();
    let without = ZONE.replace("p2 = 45, ", "").replace("[pool.p2]\nregion    = \"r2\"\nendpoints = [\"192.0.2.2\"]\ncapacity  = 45\n", "");
    let (meridian, rest) = serve("");
    let pool = lay(&rest, "p2", drain(), slowly());
    meridian.write(FILE, &without);
    assert_eq!(rest.call(Method::POST, "/v1/reload", Some(glass())).0, 200);
    rest.wait(pool, is_told);
    // The whole zone goes: with what was on its way, and with what was still handed out.
    let rising = lay(&rest, "p1", drain(), json!({ "over": "1h", "break_glass": true }));
    let region = rest.force("region:r1", drain());
    rest.force("example.com/p3", drain());
    rest.wait(region, |one| one["withdrawal"]["still_answered"] == json!(["f.example.com."]));
    meridian.write("zones/library.toml", "[region]\n");
    std::fs::remove_file(meridian.path().join(FILE)).expect("the file goes");
    assert_eq!(rest.call(Method::POST, "/v1/reload", Some(glass())).0, 200);
    for id in [rising, region] {
        rest.wait(id, is_told);
    }
}

#[test]
fn a_zone_that_could_not_be_taken_is_told_of() {
    let (meridian, rest) = serve("");
    let is_told = |rest: &Rest| {
        let degraded = rest.get("/v1/status")["degraded"].to_string();
        assert!(degraded.contains("zone example.com. serves what it was before: "), "{degraded}");
        assert!(!rest.text("/metrics").contains("meridian_degraded_reasons 0"));
    };
    meridian.write(FILE, &format!("{ZONE}x\n"));
    rest.post("/v1/reload", json!({}));
    is_told(&rest);
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    is_told(&rest);
    meridian.write(FILE, ZONE);
    rest.post("/v1/reload", json!({}));
    assert!(!rest.get("/v1/status")["degraded"].to_string().contains("example.com"));
}
