//! Which of several overlays holds, and what every list, difference and revert says about it; how far a ramp is; names in any spelling.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\nplain.A = \"192.0.2.25\"\n\
    plain.MX = \"10 ns1\"\n[region]\neu = {}\nus = {}\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\n[pool.ber]\nregion = \"eu\"\nendpoints = [\"192.0.2.20\"]\n\
    [pool.iad]\nregion = \"us\"\nendpoints = [\"198.51.100.10\", \"2001:db8::10\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 3, iad = 1 }\n[steer.www]\nuse = \"split\"\n[steer.near]\npolicy = \"failover\"\nto = [\"ber\", \"iad\"]\n";

fn serve() -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn state(state: &str) -> Value {
    json!({ "state": state })
}

/// Takes one back; the reply.
fn lift(rest: &Rest, id: u64) -> Value {
    let (status, reply) = rest.call(Method::DELETE, &format!("/v1/overlays/{id}"), None);
    assert_eq!(status, 200, "{reply}");
    reply
}

/// What an overlay says of itself: in force, by what it is outranked, why it has no effect, where only in part.
fn standing(rest: &Rest, id: u64) -> (bool, Vec<u64>, String, String) {
    let overlay = rest.overlay(id);
    let by = overlay["outranked_by"].as_array().map_or_else(Vec::new, |ids| ids.iter().filter_map(Value::as_u64).collect());
    let text = |name: &str| overlay[name].as_str().unwrap_or_default().to_owned();
    (overlay["in_force"] == true, by, text("inactive"), text("partly"))
}

#[test]
fn what_is_outranked_says_so_everywhere() {
    let (meridian, rest) = serve();
    let endpoint = "example.com/fra/192.0.2.10";
    let up = rest.lay(endpoint, state("up"));
    assert_eq!(standing(&rest, up), (true, vec![], String::new(), String::new()));
    let drain = rest.lay("example.com/fra", state("drain"));
    let why = format!("overlay {drain} (example.com/fra drain) outranks it: down beats drain beats up, at any level");
    assert_eq!(standing(&rest, up), (false, vec![drain], why.clone(), String::new()));
    assert_eq!((&rest.overlay(up)["phase"], &rest.overlay(drain)["in_force"]), (&json!("outranked"), &json!(true)));
    let difference = |target: &str| {
        let all = rest.get("/v1/overlays/diff")["differences"].clone();
        all.as_array().expect("a list").iter().find(|one| one["target"] == target).cloned().unwrap_or_default()
    };
    let of_endpoint = difference(endpoint);
    assert_eq!((&of_endpoint["now"], &of_endpoint["overlays"], &of_endpoint["in_force"]), (&json!("drain"), &json!([up]), &json!([drain])));
    let metrics = rest.text("/metrics");
    for line in ["meridian_overlays{state=\"active\"} 1", "meridian_overlays{state=\"outranked\"} 1", "meridian_overlays{state=\"inactive\"} 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let listed = meridian.command(&["overlay", "list"]).1;
    assert!(listed.contains(&format!("up, outranked by {drain} ")), "{listed}");
    let shown = meridian.command(&["overlay", "show", &up.to_string()]).1;
    assert!(shown.contains("phase      outranked\n") && shown.contains(&why), "{shown}");
    let told = meridian.command(&["overlay", "diff"]).1;
    assert!(told.lines().any(|line| line.contains(endpoint) && line.trim_end().ends_with(&drain.to_string())), "{told}");
    // Before it is laid, and when it is.
    let (code, _, err) = meridian.command(&["override", endpoint, "up", "--reason", "r", "--dry-run"]);
    assert!(code == 0 && err.contains("it would have no effect: overlay"), "{code}: {err}");
    let (code, out, _) = meridian.command(&["override", endpoint, "up", "--reason", "r"]);
    assert!(code == 0 && out.contains("it has no effect: overlay"), "{out}");
    // One that waits is no more than announced.
    let later = json!({ "target": "region:eu", "set": state("down"), "reason": "r", "starts": "1h", "break_glass": true });
    let later = rest.post("/v1/overlays", later)["id"].as_u64().expect("an id");
    assert_eq!((standing(&rest, later).0, standing(&rest, drain).0), (false, true));
    lift(&rest, drain);
    assert_eq!(standing(&rest, up), (true, vec![], String::new(), String::new()));
}

#[test]
fn a_revert_says_what_takes_its_place() {
    let (meridian, rest) = serve();
    let endpoint = "example.com/fra/192.0.2.10";
    let (five, nine) = (rest.lay(endpoint, json!({ "weight": 5 })), rest.lay(endpoint, json!({ "weight": 9 })));
    let why = format!("overlay {nine} ({endpoint} weight 9) is newer: of weights and TTLs the newest holds");
    assert_eq!(standing(&rest, five), (false, vec![nine], why, String::new()));
    let reply = lift(&rest, nine);
    let then = json!({ "target": endpoint, "what": "weight", "files": "1", "now": "5", "overlays": [five], "in_force": [five] });
    assert_eq!(reply["then"], then, "{reply}");
    assert_eq!(rest.endpoint(endpoint)["weight"], 5);
    let entry = rest.get("/v1/audit?action=overlay.revert&limit=1")["entries"][0].clone();
    assert_eq!((&entry["before"], &entry["after"]), (&json!({ "weight": 9 }), &json!({ "weight": 5 })), "{entry}");
    assert_eq!(lift(&rest, five)["then"], Value::Null, "the files hold again");
    let (first, second) = (rest.lay("example.com/www", json!({ "ttl": 5 })), rest.lay("example.com/www", json!({ "ttl": 7 })));
    let (code, out, _) = meridian.command(&["overlay", "revert", &second.to_string()]);
    assert!(code == 0 && out.contains(&format!("in its place holds ttl 5, of overlay {first}\n")), "{out}");
    // Of another level.
    let (pool, down) = (rest.lay("example.com/fra", state("drain")), rest.lay(endpoint, state("down")));
    let then = json!({ "target": endpoint, "what": "state", "files": "as its checks say", "now": "drain", "overlays": [], "in_force": [pool] });
    assert_eq!(lift(&rest, down)["then"], then);
}

#[test]
fn a_ramp_that_is_outranked_goes_on_by_its_clock_without_a_weight() {
    let (meridian, rest) = serve();
    let endpoint = "example.com/fra/192.0.2.10";
    let body = json!({ "target": endpoint, "set": { "weight": 100 }, "over": "1h", "expires": "2h", "reason": "r" });
    let ramp = rest.post("/v1/overlays", body)["id"].as_u64().expect("an id");
    let at = |id: u64| {
        let overlay = rest.overlay(id);
        (overlay["phase"].clone(), overlay["progress"]["weight"].clone(), overlay["progress"]["percent"].is_u64())
    };
    assert_eq!(at(ramp), (json!("ramping"), json!(1), true));
    let newer = rest.lay(endpoint, json!({ "weight": 7 }));
    assert_eq!(at(ramp), (json!("outranked"), Value::Null, true));
    assert!(rest.overlay(ramp)["progress"]["end"].as_u64() > rest.overlay(ramp)["created"].as_u64().map(|at| at + 3500));
    let listed = meridian.command(&["overlay", "list"]).1;
    assert!(listed.contains(&format!("weight 100, outranked by {newer}, 0 % of its way")), "{listed}");
    lift(&rest, newer);
    assert_eq!(at(ramp), (json!("ramping"), json!(1), true));
    // On its way back, below what is withdrawn as a whole.
    let pool = rest.lay("example.com/ber", state("drain"));
    let (status, reply) = rest.call(Method::DELETE, &format!("/v1/overlays/{pool}"), Some(json!({ "over": "1h" })));
    assert!(status == 200 && reply["overlay"]["phase"] == "returning", "{reply}");
    rest.lay("example.com/ber", state("down"));
    assert_eq!(at(pool).0, json!("outranked"));
}

#[test]
fn a_steered_name_has_one_ttl_for_all_types_and_its_overlay_says_so() {
    let (_meridian, rest) = serve();
    let laid = rest.lay("Example.com/WWW/a", json!({ "ttl": 5 }));
    assert_eq!(rest.overlay(laid)["target"], "example.com/www");
    let found = |target: &str| rest.get(&format!("/v1/audit?action=overlay.lay&target={target}"))["entries"].as_array().map(Vec::len);
    assert_eq!((found("Example.com./WWW"), found("example.com/www.EXAMPLE.com.")), (Some(1), Some(1)));
}

#[test]
fn ttls_of_one_owner_hold_type_by_type() {
    let (_meridian, rest) = serve();
    let lay = |target: &str, ttl: u32| rest.lay(target, json!({ "ttl": ttl }));
    let (address, all) = (lay("example.com/plain/A", 20), lay("example.com/plain", 40));
    assert_eq!((standing(&rest, address).1, standing(&rest, all)), (vec![all], (true, vec![], String::new(), String::new())));
    let newest = lay("example.com/plain/A", 10);
    assert_eq!((standing(&rest, address).1, standing(&rest, newest).0), (vec![newest], true));
    let (in_force, by, inactive, partly) = standing(&rest, all);
    assert_eq!((in_force, by, inactive.as_str()), (true, vec![newest], ""));
    assert!(partly.contains("is newer for a part of it"), "{partly}");
    let newest_of_all = lay("example.com/plain", 30);
    for id in [address, all, newest] {
        assert_eq!((standing(&rest, id).0, standing(&rest, id).1), (false, vec![newest_of_all]));
    }
}

#[test]
fn a_region_holds_but_for_what_is_stronger_below() {
    let (_meridian, rest) = serve();
    let region = rest.lay("region:eu", state("drain"));
    let again = rest.lay("region:eu", state("drain"));
    assert!(standing(&rest, region).0 && standing(&rest, again).0, "two that say the same hold together");
    let down = rest.lay("example.com/fra/192.0.2.10", state("down"));
    let (in_force, by, inactive, partly) = standing(&rest, region);
    assert_eq!((in_force, by, inactive.as_str()), (true, vec![down], ""));
    assert!(partly.starts_with(&format!("1 of 3 endpoints: overlay {down} ")), "{partly}");
    let (fra, ber) = (rest.lay("example.com/fra", state("down")), rest.lay("example.com/ber", state("down")));
    let now = |target: &str| {
        let all = rest.get("/v1/overlays/diff")["differences"].clone();
        all.as_array().expect("a list").iter().find(|one| one["target"] == target).map(|one| one["now"].clone())
    };
    assert_eq!(now("region:eu"), Some(json!("drain, down at 3 of 3 endpoints")));
    assert_eq!(now("example.com/fra"), Some(json!("down")));
    let (in_force, by, inactive, partly) = standing(&rest, region);
    assert_eq!((in_force, by, partly.as_str()), (false, vec![down, fra, ber], ""));
    assert!(inactive.starts_with("3 of 3 endpoints: ") && inactive.ends_with(" outrank it there, down beats drain beats up"), "{inactive}");
    // What is stronger above.
    let whole = rest.lay("region:eu", state("down"));
    assert_eq!(standing(&rest, again).1, [whole]);
    assert!(standing(&rest, fra).0, "down at two levels holds at both");
}

#[test]
fn a_ramp_says_how_far_it_is() {
    let (meridian, rest) = serve();
    let body = json!({ "weight": 101, "from": 1, "over": "100s", "reason": "canary" });
    let (status, laid) = rest.call(Method::PATCH, "/v1/endpoints/example.com/fra/192.0.2.10", Some(body));
    assert_eq!((status, &laid["overlay"]["phase"]), (200, &json!("ramping")), "{laid}");
    let id = laid["id"].as_u64().expect("an id");
    let overlay = rest.wait(id, |overlay| overlay["progress"]["percent"].as_u64() >= Some(1));
    let progress = &overlay["progress"];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{overlay}"));
    assert_eq!(number(&progress["weight"]), number(&progress["percent"]) + 1, "{overlay}");
    assert_eq!(number(&progress["end"]), number(&overlay["ramp"]["began"]) + 100, "{overlay}");
    assert!(number(&progress["next_step"]) <= number(&progress["end"]), "{overlay}");
    // What is answered follows within a second.
    let began = Instant::now();
    while rest.endpoint("example.com/fra/192.0.2.10")["weight"].as_u64() <= Some(1) {
        assert!(began.elapsed() < PATIENCE, "{overlay}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = meridian.command(&["overlay", "list"]).1;
    assert!(listed.contains("weight 101, ramping ") && listed.contains(" now "), "{listed}");
    let shown = meridian.command(&["overlay", "show", &id.to_string()]).1;
    assert!(shown.contains("progress   ") && shown.contains(", next step in ") && shown.contains(", there in "), "{shown}");
    let (status, laid) =
        rest.call(Method::PATCH, "/v1/pools/example.com/ber", Some(json!({ "state": "drain", "over": "1h", "starts": "1h", "reason": "later" })));
    assert_eq!((status, &laid["overlay"]["phase"], &laid["overlay"]["progress"]), (200, &json!("waiting"), &Value::Null), "{laid}");
    let wrong = json!({ "weight": 5, "from": 1, "reason": "r" });
    let (status, problem) = rest.call(Method::PATCH, "/v1/endpoints/example.com/fra/192.0.2.10", Some(wrong));
    assert_eq!((status, &problem["field"]), (422, &json!("from")), "{problem}");
}

#[test]
fn names_are_found_however_they_are_spelled() {
    let (_meridian, rest) = serve();
    for (target, set, plain) in [
        ("EXAMPLE.Com./fra", state("up"), "example.com/fra"),
        ("Example.com/fra/192.0.2.10", state("up"), "example.com/fra/192.0.2.10"),
        ("example.com/iad/2001:DB8:0::10", json!({ "weight": 2 }), "example.com/iad/2001:db8::10"),
        ("EXAMPLE.COM./WWW.Example.Com.", json!({ "ttl": 9 }), "example.com/www"),
        ("example.com./Plain/mx", json!({ "ttl": 9 }), "example.com/plain/MX"),
        ("EXAMPLE.com./policy:split/iad", json!({ "weight": 2 }), "example.com/policy:split/iad"),
    ] {
        let id = rest.lay(target, set);
        assert_eq!(rest.overlay(id)["target"], plain, "{target}");
    }
    assert_eq!(rest.refused("example.com/FRA", state("up")).0, 404, "a pool is called what the files call it");
    for (path, id) in [
        ("/v1/pools/EXAMPLE.com./fra", "example.com/fra"),
        ("/v1/endpoints/Example.com/iad/2001:DB8:0::10", "example.com/iad/2001:db8::10"),
        ("/v1/policies/EXAMPLE.com/split", "example.com/policy:split"),
    ] {
        assert_eq!(rest.get(path)["id"], id);
    }
    assert_eq!(rest.get("/v1/health/EXAMPLE.com./iad/2001:DB8:0::10")["endpoint"]["id"], "example.com/iad/2001:db8::10");
    assert_eq!(rest.get("/v1/endpoints?pool=EXAMPLE.com./fra")["endpoints"].as_array().map(Vec::len), Some(2));
    assert_eq!(rest.get("/v1/zones/EXAMPLE.com./names/WWW")["name"], rest.get("/v1/zones/example.com/names/www")["name"]);
}

#[test]
fn what_may_not_be_meant_and_what_was_broken_is_told() {
    let (meridian, rest) = serve();
    rest.lay("example.com/policy:split/iad", json!({ "weight": 0 }));
    let laid = rest.post("/v1/overlays", json!({ "target": "example.com/policy:split/fra", "set": { "weight": 0 }, "reason": "r" }));
    let warnings = laid["warnings"].to_string();
    assert!(warnings.contains("everything in example.com/policy:split has weight 0 then"), "{laid}");
    rest.lay("example.com/ber", state("down"));
    let (code, out, _) = meridian.command(&["drain", "example.com/iad", "--reason", "fire", "--yes", "--break-glass"]);
    assert!(code == 0 && out.contains("went past example.com/safety:last_healthy: nothing usable would be left for near.example.com."), "{out}");
    // A dry run looks at what was seen as well.
    let id = rest.lay("example.com/plain", json!({ "ttl": 9 }));
    let path = format!("/v1/overlays/{id}?dry_run=true");
    for (tag, status) in [("\"0\"".to_owned(), 412), (rest.tag(&format!("/v1/overlays/{id}")), 200)] {
        assert_eq!(rest.send(Method::DELETE, &path, None, Some(("If-Match", &tag))).0, status, "{tag}");
    }
}
