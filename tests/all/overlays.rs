//! Runtime changes through the real REST interface and the real command line: what they do to answers, and how long.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::RecordType::{self, A, MX, SOA};
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Asker, Meridian, PATIENCE, addresses};
use crate::rest::Rest;

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]

[records]
ns1.A    = "192.0.2.53"
plain.A  = { ttl = 300, data = ["192.0.2.7", "192.0.2.8"] }
plain.MX = { ttl = 600, data = "10 mail" }
mail.A   = "192.0.2.25"

[region]
eu = {}
us = {}

[pool.fra]
region    = "eu"
endpoints = ["192.0.2.10", "192.0.2.11"]

[pool.ber]
region    = "eu"
endpoints = ["192.0.2.20"]

[pool.iad]
region    = "us"
endpoints = ["198.51.100.10"]

[policy.split]
policy = "weighted"
mode   = "random"
to     = { fra = 1, iad = 0 }

[steer.www]
policy = "failover"
to     = ["fra", "iad"]
ttl    = { max = 60, min = 20 }

[steer.near]
policy = "failover"
to     = ["ber", "iad"]

[steer.split]
use = "split"
"#;

fn serve() -> (Meridian, Rest) {
    let meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Sorted addresses of `NAME.example.com.`
fn at(meridian: &Meridian, name: &str) -> Vec<IpAddr> {
    let mut seen = addresses(&meridian.ask(&format!("{name}.example.com."), A));
    seen.sort();
    seen
}

fn ttl(message: &Message) -> u32 {
    message.answers.first().expect("an answer").ttl
}

fn ttl_of(meridian: &Meridian, name: &str, rtype: RecordType) -> u32 {
    ttl(&meridian.ask(&format!("{name}.example.com."), rtype))
}

fn serial(meridian: &Meridian) -> u32 {
    let reply = meridian.ask("example.com.", SOA);
    match &reply.answers.first().expect("an SOA").data {
        RData::SOA(soa) => soa.serial,
        other => panic!("{other:?}"),
    }
}

fn state(state: &str) -> Value {
    json!({ "state": state })
}

#[test]
fn a_ttl_goes_down_and_up_to_what_the_file_says_and_moves_the_serial_of_records_alone() {
    let (meridian, rest) = serve();
    assert_eq!((ttl_of(&meridian, "www", A), ttl_of(&meridian, "plain", A), ttl_of(&meridian, "plain", MX)), (60, 300, 600));
    let before = serial(&meridian);

    let steered = rest.lay("example.com/www", json!({ "ttl": 30 }));
    assert_eq!(ttl_of(&meridian, "www", A), 30);
    let newer = rest.lay("example.com/www", json!({ "ttl": 50 }));
    assert_eq!(ttl_of(&meridian, "www", A), 50, "the newest wins, upwards too");
    rest.revert(newer);
    assert_eq!(ttl_of(&meridian, "www", A), 30, "the one below shows again");
    rest.revert(steered);
    assert_eq!(ttl_of(&meridian, "www", A), 60);
    let low = rest.lay("example.com/www", json!({ "ttl": 5 }));
    assert_eq!(ttl_of(&meridian, "www", A), 5, "below the file's minimum as well");
    rest.revert(low);
    assert_eq!(serial(&meridian), before, "a steered name's TTL is no content");

    let one = rest.lay("example.com/plain/A", json!({ "ttl": 20 }));
    assert_eq!((ttl_of(&meridian, "plain", A), ttl_of(&meridian, "plain", MX)), (20, 600), "the type that was named");
    let second = serial(&meridian);
    assert!(second > before, "{before} → {second}");
    let all = rest.lay("example.com/plain", json!({ "ttl": 40 }));
    assert_eq!((ttl_of(&meridian, "plain", A), ttl_of(&meridian, "plain", MX)), (40, 40));
    rest.revert(all);
    rest.revert(one);
    assert_eq!((ttl_of(&meridian, "plain", A), ttl_of(&meridian, "plain", MX)), (300, 600));
    assert!(serial(&meridian) > second);

    for (target, found, limit) in [("example.com/www", 61, 60), ("example.com/plain/A", 301, 300), ("example.com/plain/MX", 601, 600)] {
        let (status, detail) = rest.refused(target, json!({ "ttl": found }));
        assert_eq!(status, 422, "{target}: {detail}");
        assert!(detail.contains(&format!("found {found} s")) && detail.contains(&format!("at most {limit} s")), "{target}: {detail}");
    }
    assert_eq!(rest.refused("example.com/www", json!({ "ttl": 0 })).0, 422);
}

/// Names that are alike share what they are answered from, until an overlay makes one of them different.
#[test]
fn a_ttl_of_one_of_several_names_that_are_alike_is_its_own() {
    let zone = format!("{ZONE}[steer.one]\nuse = \"split\"\n[steer.other]\nuse = \"split\"\n");
    let meridian = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&meridian);
    let ttls = || ["one", "other", "split"].map(|name| ttl_of(&meridian, name, A));
    let lay = |name: &str, ttl: u32| rest.lay(&format!("example.com/{name}"), json!({ "ttl": ttl }));
    assert_eq!(ttls(), [30, 30, 30]);
    let one = lay("one", 7);
    assert_eq!(ttls(), [7, 30, 30]);
    let split = lay("split", 9);
    assert_eq!(ttls(), [7, 30, 9]);
    let other = lay("other", 11);
    assert_eq!(ttls(), [7, 11, 9]);
    // Each follows what they consult, and a reload keeps them apart.
    rest.lay("example.com/fra", state("down"));
    for name in ["one", "other", "split"] {
        assert_eq!(at(&meridian, name), [ip("198.51.100.10")]);
    }
    assert_eq!(meridian.command(&["reload"]).0, 0);
    meridian.write("zones/example.com.toml", &zone.replace("192.0.2.25", "192.0.2.26"));
    assert_eq!(meridian.command(&["reload"]).0, 0);
    assert_eq!(ttls(), [7, 11, 9]);
    for (id, expected) in [(split, [7, 11, 30]), (one, [30, 11, 30]), (other, [30, 30, 30])] {
        rest.revert(id);
        assert_eq!(ttls(), expected);
    }
}

#[test]
fn weights_of_endpoints_and_children_move_traffic() {
    let (meridian, rest) = serve();
    let (ten, eleven, iad) = (ip("192.0.2.10"), ip("192.0.2.11"), ip("198.51.100.10"));
    assert_eq!(at(&meridian, "split"), [ten, eleven], "weight 0 gets nothing");
    let up = rest.lay("example.com/policy:split/iad", json!({ "weight": 1 }));
    let gone = rest.lay("example.com/policy:split/fra", json!({ "weight": 0 }));
    (0..50).for_each(|_| assert_eq!(at(&meridian, "split"), [iad]));
    rest.revert(gone);
    let mut seen: Vec<_> = (0..200).map(|_| at(&meridian, "split")).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [vec![ten, eleven], vec![iad]], "one to one");
    rest.revert(up);
    (0..50).for_each(|_| assert_eq!(at(&meridian, "split"), [ten, eleven]));

    let zero = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 0 }));
    assert_eq!(at(&meridian, "www"), [eleven]);
    assert_eq!(rest.endpoint("example.com/fra/192.0.2.10")["weight"], 0);
    let back = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 9 }));
    assert_eq!(at(&meridian, "www"), [ten, eleven]);
    rest.revert(back);
    rest.revert(zero);
    assert_eq!(at(&meridian, "www"), [ten, eleven]);
}

#[test]
fn force_works_on_endpoint_pool_and_region_and_down_beats_drain_beats_up() {
    let (meridian, rest) = serve();
    let (ten, eleven, iad, ber) = (ip("192.0.2.10"), ip("192.0.2.11"), ip("198.51.100.10"), ip("192.0.2.20"));
    let endpoint = "example.com/fra/192.0.2.10";
    let forced = || rest.endpoint(endpoint)["forced"].clone();
    let before = serial(&meridian);

    let id = rest.lay(endpoint, state("down"));
    assert_eq!(at(&meridian, "www"), [eleven]);
    rest.revert(id);
    let id = rest.lay("example.com/fra", state("down"));
    assert_eq!(at(&meridian, "www"), [iad]);
    assert_eq!(ttl_of(&meridian, "www", A), 60, "down is settled");
    rest.revert(id);
    let id = rest.lay("region:eu", state("drain"));
    assert_eq!((at(&meridian, "www"), at(&meridian, "near")), (vec![iad], vec![iad]));
    assert_eq!((ttl_of(&meridian, "www", A), ttl_of(&meridian, "near", A)), (20, 10), "the minimum while it empties");
    rest.revert(id);
    assert_eq!((at(&meridian, "www"), at(&meridian, "near")), (vec![ten, eleven], vec![ber]));

    // Strongest of any level, whatever the order.
    for (level, stronger, weaker) in [(endpoint, "down", "drain"), (endpoint, "down", "up"), (endpoint, "drain", "up")] {
        for other in ["region:eu", "example.com/fra", endpoint] {
            for (first, second) in [((level, stronger), (other, weaker)), ((other, weaker), (level, stronger)), ((other, stronger), (level, weaker))]
            {
                let ids = [rest.lay(first.0, state(first.1)), rest.lay(second.0, state(second.1))];
                assert_eq!(forced(), stronger, "{first:?} then {second:?}");
                assert!(!at(&meridian, "www").contains(&ten), "{first:?} then {second:?}");
                ids.into_iter().for_each(|id| rest.revert(id));
                assert_eq!(forced(), Value::Null);
            }
        }
    }
    assert_eq!(serial(&meridian), before, "force never moves the serial");

    // Operators have taken everything away: all_down = "all" still answers.
    let ids = ["region:eu", "region:us"].map(|region| rest.force(region, state("down")));
    assert_eq!(at(&meridian, "www"), [ten, eleven], "as if everything were up, since nothing is left");
    assert_eq!(ttl_of(&meridian, "www", A), 20);
    rest.revert(ids[1]);
    assert_eq!(at(&meridian, "www"), [iad]);
}

#[test]
fn it_is_in_effect_before_the_reply_every_time() {
    let (meridian, rest) = serve();
    let asker = Asker::new(meridian.dns);
    let ask = || addresses(&asker.ask("near.example.com.", A, None));
    let mut generation = 0;
    for round in 0..200 {
        let laid =
            rest.post("/v1/overlays", json!({ "target": "example.com/ber", "set": state("down"), "reason": "round and round", "expires": "5m" }));
        assert_eq!(ask(), [ip("198.51.100.10")], "round {round}");
        let now = laid["generation"].as_u64().expect("a generation");
        assert!(now > generation, "{generation} → {now}");
        generation = now;
        assert!(rest.get("/v1/status")["generation"].as_u64() >= Some(now));
        rest.revert(laid["id"].as_u64().expect("an id"));
        assert_eq!(ask(), [ip("192.0.2.20")], "round {round}");
    }
    assert_eq!(rest.get("/v1/overlays"), json!({ "overlays": [] }));
}

#[test]
fn it_ends_by_itself_and_outlives_restart_and_crash_until_then() {
    let (meridian, rest) = serve();
    let laid = |rest: &Rest, target: &str, set: Value, expires: &str| {
        rest.post("/v1/overlays", json!({ "target": target, "set": set, "reason": "short", "expires": expires }))
    };
    laid(&rest, "example.com/ber", state("down"), "2s");
    let began = Instant::now();
    assert_eq!(at(&meridian, "near"), [ip("198.51.100.10")]);
    let took = meridian.wait_for("near.example.com.", A, |seen| seen == [ip("192.0.2.20")]) + began.elapsed().saturating_sub(PATIENCE);
    assert!((Duration::from_millis(900)..Duration::from_secs(6)).contains(&took), "2 s were asked for, it took {took:?}");
    assert_eq!(rest.get("/v1/overlays"), json!({ "overlays": [] }));

    laid(&rest, "example.com/fra/192.0.2.10", state("drain"), "never");
    laid(&rest, "example.com/plain/A", json!({ "ttl": 20 }), "1h");
    laid(&rest, "example.com/policy:split/iad", json!({ "weight": 7 }), "1d");
    let kept = rest.get("/v1/overlays");
    let was = serial(&meridian);
    let check = |meridian: &Meridian| {
        assert_eq!(at(meridian, "www"), [ip("192.0.2.11")]);
        assert_eq!(ttl_of(meridian, "plain", A), 20);
        assert_eq!(Rest::new(meridian).get("/v1/overlays"), kept);
        assert_eq!(serial(meridian), was, "nothing has changed, so neither does the serial");
    };
    check(&meridian);
    let meridian = meridian.restart();
    check(&meridian);
    let rest = Rest::new(&meridian);
    // Laid and killed at once: what was confirmed is kept.
    laid(&rest, "example.com/ber", state("down"), "1h");
    meridian.signal("KILL");
    let meridian = meridian.restart_dead();
    let rest = Rest::new(&meridian);
    assert_eq!(rest.get("/v1/overlays")["overlays"].as_array().map(Vec::len), Some(4));
    assert_eq!((at(&meridian, "near"), at(&meridian, "www")), (vec![ip("198.51.100.10")], vec![ip("192.0.2.11")]));

    // One that ends while nothing runs is over at the first answer.
    laid(&rest, "example.com/fra/192.0.2.11", state("down"), "1s");
    assert_eq!(at(&meridian, "www"), [ip("198.51.100.10")]);
    meridian.signal("KILL");
    std::thread::sleep(Duration::from_millis(1100));
    let meridian = meridian.restart_dead();
    assert_eq!(at(&meridian, "www"), [ip("192.0.2.11")]);
}

#[test]
fn what_does_not_exist_or_has_no_reason_is_refused() {
    let (_meridian, rest) = serve();
    let rows = [
        ("example.com/frs", state("down"), "did you mean example.com/fra"),
        ("example.com/fra/192.0.2.1", state("down"), "did you mean example.com/fra/192.0.2.10"),
        ("region:ue", state("drain"), "did you mean region:eu"),
        ("example.com/policy:split/ia", json!({ "weight": 3 }), "did you mean example.com/policy:split/iad"),
        ("example.com/wwww", json!({ "ttl": 3 }), "did you mean example.com/www"),
        ("example.com/plain/AAAA", json!({ "ttl": 3 }), "no example.com/plain/AAAA"),
        ("example.org/www", json!({ "ttl": 3 }), "no zone example.org (for example.org/www); did you mean example.com"),
    ];
    for (target, set, words) in rows {
        let (status, detail) = rest.refused(target, set);
        assert_eq!(status, 404, "{target}: {detail}");
        assert!(detail.contains(words), "{target}: {detail}");
    }
    let (status, detail) = rest.refused("example.com/fra", json!({ "weight": 3 }));
    assert_eq!((status, detail.contains("is a pool")), (422, true), "{detail}");
    let bad = [
        json!({ "target": "example.com/fra", "set": state("down") }),
        json!({ "target": "example.com/fra", "set": state("down"), "reason": "  " }),
        json!({ "target": "example.com/fra", "set": state("down"), "reason": "x".repeat(501) }),
        json!({ "target": "example.com/fra", "set": state("sideways"), "reason": "r" }),
        json!({ "target": "example.com/fra", "set": {}, "reason": "r" }),
        json!({ "target": "example.com/fra", "set": { "state": "down", "weight": 1 }, "reason": "r" }),
        json!({ "target": "example.com/fra", "set": state("down"), "reason": "r", "expires": "soon" }),
        json!({ "target": "example.com/fra", "set": state("down"), "reason": "r", "expires": "0s" }),
        json!({ "target": "example.com/fra/192.0.2.10", "set": { "weight": 65536 }, "reason": "r" }),
    ];
    for body in bad {
        let (status, problem) = rest.call(Method::POST, "/v1/overlays", Some(body.clone()));
        assert_eq!(status, 422, "{body}: {problem}");
    }
    assert_eq!(rest.call(Method::DELETE, "/v1/overlays/77", None).0, 404);
    assert_eq!(rest.get("/v1/overlays"), json!({ "overlays": [] }));
}

#[test]
fn an_overlay_whose_target_goes_away_waits_for_it() {
    let (meridian, rest) = serve();
    let id = rest.lay("example.com/fra/192.0.2.10", state("down"));
    assert_eq!(at(&meridian, "www"), [ip("192.0.2.11")]);
    meridian.write("zones/example.com.toml", &ZONE.replace("\"192.0.2.10\", ", ""));
    rest.post("/v1/reload", json!({}));
    let overlay = rest.get(&format!("/v1/overlays/{id}"));
    assert!(overlay["inactive"].as_str().is_some_and(|why| why.contains("example.com/fra/192.0.2.10 does not exist")), "{overlay}");
    meridian.write("zones/example.com.toml", ZONE);
    rest.post("/v1/reload", json!({}));
    assert_eq!(rest.get(&format!("/v1/overlays/{id}"))["inactive"], Value::Null);
    assert_eq!(at(&meridian, "www"), [ip("192.0.2.11")], "it works again");
    rest.revert(id);
    assert_eq!(at(&meridian, "www").len(), 2);
}

#[test]
fn the_list_comes_in_pages() {
    let (meridian, rest) = serve();
    let ids: Vec<u64> = (1..=7).map(|ttl| rest.lay("example.com/www", json!({ "ttl": ttl }))).collect();
    let page = |path: &str| {
        let body = rest.get(path);
        let found: Vec<u64> = body["overlays"].as_array().expect("a list").iter().map(|one| one["id"].as_u64().expect("an id")).collect();
        (found, body["next"].as_u64())
    };
    assert_eq!(page("/v1/overlays"), (ids.clone(), None), "all of them");
    assert_eq!(page("/v1/overlays?limit=3"), (ids[..3].to_vec(), Some(ids[2])));
    assert_eq!(page(&format!("/v1/overlays?limit=3&cursor={}", ids[2])), (ids[3..6].to_vec(), Some(ids[5])));
    assert_eq!(page(&format!("/v1/overlays?limit=3&cursor={}", ids[5])), (ids[6..].to_vec(), None));
    assert_eq!(page(&format!("/v1/overlays?limit=1&cursor={}", ids[5])), (ids[6..].to_vec(), None), "the last page is full");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "page=2"] {
        let (status, problem) = rest.call(Method::GET, &format!("/v1/overlays?{query}"), None);
        assert!((400..=422).contains(&status), "{query}: {status} {problem}");
    }
    drop(meridian);
}

#[test]
fn the_command_line_does_the_same() {
    let (meridian, rest) = serve();
    let run = |args: &[&str]| {
        let (code, out, err) = meridian.command(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    run(&["ttl", "example.com/www", "25", "--reason", "cli"]);
    run(&["weight", "example.com/fra/192.0.2.11", "0", "--reason", "cli", "--expires", "1h"]);
    run(&["override", "example.com/ber", "down", "--reason", "cli", "--expires", "never"]);
    run(&["drain", "region:us", "--reason", "cli", "--break-glass"]);
    assert_eq!((ttl_of(&meridian, "www", A), at(&meridian, "www")), (25, vec![ip("192.0.2.10")]));
    assert_eq!(at(&meridian, "near"), [ip("192.0.2.20")], "down and draining: the one that answers as if all were up");
    let listed = rest.get("/v1/overlays");
    let overlays = listed["overlays"].as_array().expect("overlays");
    let table = run(&["overlay", "list"]);
    for overlay in overlays {
        assert!(table.contains(overlay["target"].as_str().expect("a target")), "{table}");
    }
    assert_eq!(overlays.len(), 4);
    for overlay in overlays {
        run(&["overlay", "revert", &overlay["id"].to_string()]);
    }
    assert_eq!((ttl_of(&meridian, "www", A), at(&meridian, "www").len()), (60, 2));
    let (code, _, err) = meridian.command(&["drain", "region:ue", "--reason", "cli"]);
    assert_eq!(code, 1);
    assert!(err.contains("region:eu"), "{err}");
    assert_eq!(meridian.command(&["failback", "example.com/www"]).0, 0);
}
