//! Safety rules through the real program: what they refuse, with which numbers, what goes past them, and what the command line asks.

use hickory_proto::rr::RecordType::A;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, addresses};
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
ap = {}

[pool.fra]
region    = "eu"
endpoints = ["192.0.2.10", "192.0.2.11"]

[pool.ber]
region    = "eu"
endpoints = ["192.0.2.20"]

[pool.iad]
region    = "us"
endpoints = ["198.51.100.10"]

[pool.sin]
region    = "ap"
endpoints = ["203.0.113.10"]

[pool.spare]
endpoints = ["203.0.113.99"]

[steer.www]
policy = "failover"
to     = ["fra", "iad", "sin"]

[steer.near]
policy = "failover"
to     = ["ber", "iad"]

[steer.spare]
use = "spare"
"#;

fn serve(safety: &str) -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", &format!("{ZONE}\n{safety}"))]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn body(target: &str, set: Value) -> Value {
    json!({ "target": target, "set": set, "reason": "a test", "expires": "1h" })
}

fn drain() -> Value {
    json!({ "state": "drain" })
}

/// Must be refused by exactly these rules (what follows `example.com/safety:`), with these numbers.
fn refused(rest: &Rest, target: &str, set: Value, rules: &[(&str, u64, u64)]) -> Value {
    let before = (rest.get("/v1/overlays"), rest.get("/v1/status")["generation"].clone());
    let (status, problem) = rest.call(Method::POST, "/v1/overlays", Some(body(target, set)));
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:meridian:safety")), "{target}: {problem}");
    let found: Vec<(String, u64, u64)> = problem["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| {
            let text = rule["rule"].as_str().expect("a rule").strip_prefix("example.com/safety:").expect("of the zone").to_string();
            let found = rule["found"].as_f64().expect("found");
            // As whole numbers beyond the limit.
            let found = if text == "max_withdrawn" { found.ceil() } else { found.floor() };
            (text, found as u64, rule["limit"].as_u64().expect("a limit"))
        })
        .collect();
    let wanted: Vec<_> = rules.iter().map(|(rule, found, limit)| (rule.to_string(), *found, *limit)).collect();
    assert_eq!(found, wanted, "{target}: {problem}");
    assert_eq!((rest.get("/v1/overlays"), rest.get("/v1/status")["generation"].clone()), before, "{target}: nothing has changed");
    problem
}

#[test]
fn the_last_usable_pool_of_a_name_stays_unless_the_glass_is_broken() {
    let (meridian, rest) = serve("");
    for (target, set) in
        [("example.com/spare", drain()), ("example.com/spare", json!({ "state": "down" })), ("example.com/spare/203.0.113.99", drain())]
    {
        let problem = refused(&rest, target, set, &[("last_healthy", 1, 0)]);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("nothing usable would be left for spare.example.com.")), "{problem}");
    }
    // One region after the other, until a name would have nothing.
    let eu = rest.lay("region:eu", drain());
    refused(&rest, "region:us", drain(), &[("last_healthy", 1, 0)]);
    let problem = refused(&rest, "example.com/iad/198.51.100.10", drain(), &[("last_healthy", 1, 0)]);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("near.example.com.")), "{problem}");
    rest.lay("region:ap", drain());
    refused(&rest, "region:us", drain(), &[("last_healthy", 2, 0)]);
    // Weight 0 is a last resort, not a withdrawal of the last; `up` never takes anything out.
    rest.lay("example.com/iad/198.51.100.10", json!({ "weight": 0 }));
    rest.lay("example.com/iad", json!({ "state": "up" }));

    let forced = rest.post("/v1/overlays", json!({ "target": "region:us", "set": drain(), "reason": "fire", "break_glass": true }));
    let broke = forced["overlay"]["broke"][0].as_str().expect("what it went past").to_string();
    assert!(broke.starts_with("example.com/safety:last_healthy: nothing usable"), "{broke}");
    let id = forced["id"].as_u64().expect("an id");
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    assert_eq!(rest.get(&format!("/v1/overlays/{id}"))["broke"][0], broke.as_str(), "it stays recorded");
    rest.revert(id);
    rest.revert(eu);
    let (_, plain) =
        rest.call(Method::POST, "/v1/overlays", Some(json!({ "target": "region:us", "set": drain(), "reason": "r", "break_glass": true })));
    assert_eq!(plain["overlay"]["broke"], Value::Null, "nothing was broken: {plain}");
}

#[test]
fn the_guard_can_be_turned_off_and_never_forbids_what_has_failed_already() {
    let (meridian, rest) = serve("[safety]\nlast_healthy = false\nmax_withdrawn = \"50%\"\n");
    rest.lay("example.com/spare", drain());
    assert_eq!(addresses(&meridian.ask("spare.example.com.", A)).len(), 1, "as if it were up, since nothing is left");
    rest.force("region:eu", drain());
    // 4 of 6 are out; taking them out once more changes nothing.
    rest.force("example.com/iad", json!({ "state": "down" }));
    for target in ["example.com/fra", "example.com/fra/192.0.2.10", "region:eu", "region:us", "example.com/spare"] {
        rest.lay(target, json!({ "state": "down" }));
    }
    refused(&rest, "example.com/sin", drain(), &[("max_withdrawn", 100, 50)]);
}

#[test]
fn shares_sets_and_windows_are_kept() {
    let (meridian, rest) = serve(
        "[safety]\nmax_withdrawn = \"50%\"\nmax_changes = { count = 3, per = \"10m\" }\n\
         [safety.min_in_rotation]\nweb = { of = [\"region:eu\", \"iad\", \"sin/203.0.113.10\"], at_least = \"60%\" }\n",
    );
    let sin = rest.lay("example.com/sin", drain());
    // 4 of 6 would be out; 1 of 3 in.
    refused(&rest, "region:eu", drain(), &[("min_in_rotation/web", 1, 2), ("max_withdrawn", 67, 50)]);
    refused(&rest, "example.com/iad/198.51.100.10", drain(), &[("min_in_rotation/web", 1, 2)]);
    // A part of a region leaves it in rotation.
    let fra = rest.lay("example.com/fra", drain());
    refused(&rest, "example.com/ber", json!({ "state": "down" }), &[("min_in_rotation/web", 1, 2), ("max_withdrawn", 67, 50)]);
    rest.revert(fra);
    // Weight 0 beside others is a withdrawal, and the third.
    let zero = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 0 }));
    rest.revert(zero);
    rest.revert(sin);
    refused(&rest, "example.com/sin", drain(), &[("max_changes", 4, 3)]);
    rest.lay("example.com/sin", json!({ "state": "up" }));
    let forced = rest.force("example.com/sin", drain());
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    rest.revert(forced);
    // A restart forgets no withdrawal, whether it still holds or not.
    refused(&rest, "example.com/sin", drain(), &[("max_changes", 5, 3)]);
}

#[test]
fn withdrawals_are_forgotten_when_their_window_is_over() {
    let (meridian, rest) = serve("[safety]\nmax_changes = { count = 1, per = \"3s\" }\n");
    let id = rest.lay("example.com/sin", drain());
    rest.revert(id);
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    let began = std::time::Instant::now();
    loop {
        let body = json!({ "target": "example.com/sin", "set": drain(), "reason": "test" });
        let (status, reply) = rest.call(Method::POST, "/v1/overlays", Some(body));
        if status == 201 {
            return;
        }
        assert!(status == 409 && began.elapsed() < crate::meridian::PATIENCE, "{reply}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn capacity_that_remains_must_do() {
    let zone = ZONE
        .replace("[\"192.0.2.10\", \"192.0.2.11\"]", "[\"192.0.2.10\", \"192.0.2.11\"]\ncapacity = 60_000")
        .replace("[\"198.51.100.10\"]", "[\"198.51.100.10\"]\ncapacity = 30_000")
        .replace("[\"203.0.113.10\"]", "[\"203.0.113.10\"]\ncapacity = 10_000");
    let meridian = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&meridian);
    let problem = refused(&rest, "example.com/fra", drain(), &[("min_capacity", 40, 50)]);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("www.example.com. could carry 40000 of 100000")), "{problem}");
    // Half of fra is 30,000 of 100,000; near has a pool that says nothing of its capacity, so nobody knows.
    rest.lay("example.com/fra/192.0.2.10", drain());
    rest.lay("example.com/sin", drain());
    refused(&rest, "example.com/iad", drain(), &[("min_capacity", 30, 50)]);
    rest.lay("example.com/ber", drain());
}

#[test]
fn two_at_the_same_time_cannot_both_pass() {
    let (meridian, _) = serve("");
    for _ in 0..10 {
        let laid: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let threads: Vec<_> = ["region:eu", "region:us"]
                .map(|region| {
                    let meridian = &meridian;
                    scope.spawn(move || Rest::new(meridian).call(Method::POST, "/v1/overlays", Some(body(region, drain()))))
                })
                .into_iter()
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut codes: Vec<u16> = laid.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [201, 409], "{laid:?}");
        let rest = Rest::new(&meridian);
        laid.iter().filter_map(|(_, reply)| reply["id"].as_u64()).for_each(|id| rest.revert(id));
    }
}

#[test]
fn a_revert_that_withdraws_is_judged_too_and_an_expiry_is_not_refused() {
    let (meridian, rest) = serve("");
    // Nothing listens there, so the check holds it down; an operator knows better.
    let zone = ZONE.replace("endpoints = [\"203.0.113.99\"]", "endpoints = [\"127.0.0.1\"]\nmonitor = \"m\"");
    let monitor = "\n[monitor.m]\ntcp = true\nport = 1\nfall = 1\ninterval = \"1s\"\n";
    let up = rest.lay("example.com/spare", json!({ "state": "up" }));
    meridian.write("zones/example.com.toml", &format!("{zone}{monitor}"));
    rest.post("/v1/reload", json!({}));
    let id = "example.com/spare/127.0.0.1";
    let began = std::time::Instant::now();
    while rest.endpoint(id)["state"] != "down" {
        assert!(began.elapsed() < crate::meridian::PATIENCE, "{}", rest.endpoint(id));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(rest.endpoint(id)["usable"], true);
    let path = format!("/v1/overlays/{up}");
    let (status, problem) = rest.call(Method::DELETE, &path, None);
    assert_eq!((status, problem["rules"][0]["rule"].as_str()), (409, Some("example.com/safety:last_healthy")), "{problem}");
    let (status, foreseen) = rest.call(Method::DELETE, &format!("{path}?dry_run=true"), None);
    assert_eq!((status, foreseen["withdrawn"].clone()), (200, json!([id])), "{foreseen}");
    assert_eq!(rest.call(Method::DELETE, &format!("{path}?break_glass=true"), None).0, 422, "a reason is needed");
    assert_eq!(rest.call(Method::DELETE, &format!("{path}?break_glas=true"), None).0, 400);
    let (status, gone) = rest.call(Method::DELETE, &format!("{path}?break_glass=true&reason=it+is+down"), None);
    assert_eq!(status, 200, "{gone}");
    assert_eq!(rest.endpoint(id)["usable"], false);

    rest.post("/v1/overlays", json!({ "target": "example.com/spare", "set": { "state": "up" }, "reason": "short", "expires": "1s" }));
    let began = std::time::Instant::now();
    while rest.endpoint(id)["usable"] == true {
        assert!(began.elapsed() < crate::meridian::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    meridian.says(&["what they held up is withdrawn", "last_healthy"]);
}

#[test]
fn rules_come_from_meridian_toml_libraries_and_zones() {
    let config = format!("{CONFIG}[defaults.safety]\nlast_healthy = false\nmax_withdrawn = \"10%\"\nconfirm_above = \"100%\"\n");
    let library = "[pool.shared]\nendpoints = [\"203.0.113.1\"]\n[pool.other]\nendpoints = [\"203.0.113.2\"]\n[safety]\nmax_withdrawn = \"70%\"\n\
                   min_in_rotation = { shared = { of = [\"shared\", \"other\"], at_least = 1 } }\n";
    let zone = |name: &str, uses: &str, safety: &str| {
        format!(
            "[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n\
             [steer.www]\npolicy = \"failover\"\nto = [{uses}]\n{safety}"
        )
    };
    let (a, b) = (zone("a.test", "\"a\", \"shared\", \"other\"", ""), zone("b.test", "\"a\", \"shared\"", "[safety]\nmax_withdrawn = \"50%\"\n"));
    let meridian = Meridian::start(&[("meridian.toml", &config), ("zones/lib.toml", library), ("zones/a.test.toml", &a), ("zones/b.test.toml", &b)]);
    let rest = Rest::new(&meridian);
    let rules = |target: &str| {
        let (_, problem) = rest.call(Method::POST, "/v1/overlays", Some(body(target, drain())));
        let rules: Vec<String> =
            problem["rules"].as_array().into_iter().flatten().map(|rule| rule["rule"].as_str().expect("a rule").to_string()).collect();
        (problem["id"].as_u64(), rules)
    };
    let shared = rules("library/shared");
    // a.test sees both of the set and loses one; b.test sees one of them, and at least one must stay.
    assert_eq!(shared, (None, vec!["b.test/safety:min_in_rotation/shared".to_string()]));
    let (first, none) = rules("b.test/a");
    assert!(first.is_some() && none.is_empty(), "{none:?}");
    let other = rest.lay("library/other", drain());
    assert_eq!(
        rules("library/shared").1,
        ["a.test/safety:min_in_rotation/shared", "b.test/safety:min_in_rotation/shared", "b.test/safety:max_withdrawn"]
    );
    rest.revert(other);
}

#[test]
fn the_command_line_foresees_asks_and_says_4() {
    let (meridian, rest) = serve("[safety]\nconfirm_above = \"30%\"\n");
    let run = |args: &[&str]| meridian.command(args);
    let none = json!({ "overlays": [] });
    let (code, out, err) = run(&["drain", "example.com/spare", "--reason", "r"]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.contains("a safety rule forbids the change") && err.contains("spare.example.com."), "{err}");
    let (code, out, _) = run(&["drain", "region:eu", "--reason", "r", "--dry-run"]);
    assert_eq!(code, 0);
    // A dry run ends as the change would.
    for (target, more, wanted) in [("spare", None, 4), ("spare", Some("--json"), 4), ("spare", Some("--break-glass"), 0)] {
        let target = format!("example.com/{target}");
        for command in [&["drain", &target][..], &["override", &target, "down"]] {
            let args: Vec<&str> = command.iter().copied().chain(["--reason", "r", "--dry-run"]).chain(more).collect();
            let (code, out, err) = run(&args);
            assert!(code == wanted && out.contains("last_healthy"), "{args:?}: {code} {out}{err}");
        }
    }
    for words in [
        "takes 3 of 6 endpoints of example.com. out of rotation (50 %; 0 are out already)",
        "example.com/fra, example.com/ber",
        "www.example.com.: 3 of 3 pools in rotation, 2 then",
    ] {
        assert!(out.contains(words), "{out}");
    }
    // Not on a terminal, nobody can be asked.
    let (code, _, err) = run(&["drain", "region:eu", "--reason", "r"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("takes 3 of 6") && err.contains("say --yes"), "{err}");
    assert_eq!(rest.get("/v1/overlays"), none);
    assert_eq!(run(&["drain", "region:us", "--reason", "r"]).0, 0, "one of six asks nobody");
    let (code, _, err) = run(&["override", "example.com/sin", "down", "--reason", "r", "--yes"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["drain", "region:eu", "--reason", "r", "--yes"]);
    assert_eq!(code, 4, "--yes goes past no rule: {err}");
    let (code, out, err) = run(&["drain", "region:eu", "--reason", "r", "--yes", "--break-glass"]);
    assert_eq!(code, 0, "{out}{err}");
    let id = rest.get("/v1/overlays")["overlays"][2]["id"].to_string();
    let (_, shown, _) = run(&["overlay", "show", &id]);
    assert!(shown.contains("past") && shown.contains("last_healthy"), "{shown}");
    assert_eq!(run(&["overlay", "revert", &id, "--break-glass"]).0, 2, "--break-glass wants a reason");
    let (code, out, _) = run(&["overlay", "revert", &id, "--dry-run"]);
    assert_eq!((code, out.as_str()), (0, "takes nothing out of rotation\n"));
    assert_eq!(run(&["overlay", "revert", &id]).0, 0);
}

#[test]
fn weight_0_of_a_child_takes_its_pools_out_of_rotation() {
    let zone = |to: &str| {
        format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
             [pool.a]\nendpoints = [\"192.0.2.1\", \"192.0.2.2\"]\n[pool.b]\nendpoints = [\"192.0.2.3\"]\n[pool.c]\nendpoints = [\"192.0.2.4\"]\n\
             [policy.inner]\npolicy = \"failover\"\nto = [\"a\", \"c\"]\n\
             [steer.www]\npolicy = \"weighted\"\nto = {to}\n\
             [safety]\nmax_withdrawn = \"50%\"\n[safety.min_in_rotation]\nx = {{ of = [\"a\"], at_least = 1 }}\n"
        )
    };
    const FILE: &str = "zones/example.com.toml";
    let start = |to: &str| {
        let meridian = Meridian::start(&[(FILE, &zone(to))]);
        let rest = Rest::new(&meridian);
        (meridian, rest)
    };
    let both = [("min_in_rotation/x", 0, 1), ("max_withdrawn", 75, 50)];
    // By overlay: of the child itself, below another policy, planned, and as what is left when another goes up from 0.
    let (meridian, rest) = start("{ inner = 5, b = 5 }");
    refused(&rest, "example.com/policy:www/inner", json!({ "weight": 0 }), &both);
    let dry = rest.post("/v1/overlays", json!({ "target": "example.com/policy:www/inner", "set": { "weight": 0 }, "reason": "r", "dry_run": true }));
    assert_eq!((&dry["withdrawn_count"], &dry["pools"]), (&json!(3), &json!(["example.com/a", "example.com/c"])), "{dry}");
    let (code, out, _) = meridian.command(&["weight", "example.com/policy:www/inner", "0", "--reason", "r", "--dry-run"]);
    assert!(code == 4 && out.contains("takes 3 of 4 endpoints of example.com. out of rotation"), "{out}");
    rest.lay("example.com/policy:www/inner", json!({ "weight": 1 }));
    // With nothing else that weighs, weight 0 is what is left: nothing goes, and b comes no more.
    let b = rest.lay("example.com/policy:www/b", json!({ "weight": 0 }));
    rest.lay("example.com/policy:www/inner", json!({ "weight": 0 }));
    let (status, problem) = rest.call(Method::DELETE, &format!("/v1/overlays/{b}"), None);
    assert_eq!((status, &problem["rules"][0]["rule"]), (409, &json!("example.com/safety:min_in_rotation/x")), "{problem}");
    // By the files.
    let (meridian, rest) = start("{ inner = 5, b = 5 }");
    meridian.write(FILE, &zone("{ inner = 0, b = 5 }"));
    let (status, problem) = rest.call(Method::POST, "/v1/reload", Some(json!({})));
    assert_eq!((status, &problem["rules"][0]["rule"]), (409, &json!("example.com/safety:min_in_rotation/x")), "{problem}");
    assert_eq!((&problem["rules"][1]["found"], &problem["rules"][1]["limit"]), (&json!(75), &json!(50)), "{problem}");
    // What stands by for what the files say is not missed: something else may be drained, and it is there when the other is gone.
    let (_server, rest) = start("{ inner = 0, b = 5 }");
    rest.lay("example.com/a/192.0.2.1", drain());
    let b = rest.lay("example.com/b", drain());
    rest.revert(b);
    rest.lay("example.com/policy:www/inner", json!({ "weight": 5 }));
}
