//! Promotion through the real program: what is written, what stays as it was, what is refused, and that no answer flickers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use hickory_proto::rr::RecordType::{self, A};
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Asker, CONFIG, Meridian};
use crate::rest::Rest;

const ZONE: &str = r#"# The zone, by hand.
[zone]
name = "example.com"
ns   = ["ns1"]

[records]
ns1.A   = "192.0.2.53"
plain.A = { ttl = 300, data = "192.0.2.7" }  # plain
"a.b".A = "192.0.2.8"                        # quoted

[pool.fra]   # Frankfurt
endpoints = [
  "192.0.2.10",   # old
  { address = "192.0.2.11", weight = 2 },   # new
]

[pool.iad]
endpoints = ["198.51.100.10"]

[policy.split]
policy = "weighted"
to     = { fra = 1, iad = 3 }   # shares

# The site.
[steer.www]
use = "split"
ttl = { max = 60, min = 20 }   # short
"#;

const FILE: &str = "zones/example.com.toml";

fn serve() -> (Meridian, Rest) {
    let meridian = Meridian::start(&[(FILE, ZONE)]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn promote(rest: &Rest, id: u64, body: Value) -> (u16, Value) {
    rest.call(Method::POST, &format!("/v1/overlays/{id}/promote"), Some(body))
}

fn text(meridian: &Meridian) -> String {
    fs::read_to_string(meridian.path().join(FILE)).expect("the file")
}

fn ttl(meridian: &Meridian, name: &str, rtype: RecordType) -> u32 {
    meridian.ask(name, rtype).answers.first().expect("an answer").ttl
}

#[test]
fn each_kind_is_written_and_nothing_else_changes() {
    let (meridian, rest) = serve();
    let mut wanted = ZONE.to_string();
    for (target, set, before, after) in [
        ("example.com/fra/192.0.2.10", json!({ "weight": 7 }), "  \"192.0.2.10\", ", "  { address = \"192.0.2.10\", weight = 7 }, "),
        ("example.com/fra/192.0.2.11", json!({ "weight": 5 }), "weight = 2 }", "weight = 5 }"),
        ("example.com/policy:split/iad", json!({ "weight": 9 }), "iad = 3 }", "iad = 9 }"),
        ("example.com/www", json!({ "ttl": 30 }), "{ max = 60, min = 20 }", "{ max = 30, min = 20 }"),
        ("example.com/www", json!({ "ttl": 15 }), "{ max = 30, min = 20 }", "{ max = 15, min = 15 }"),
        ("example.com/plain/A", json!({ "ttl": 60 }), "ttl = 300", "ttl = 60"),
        ("example.com/a.b", json!({ "ttl": 60 }), "\"192.0.2.8\"   ", "{ ttl = 60, data = \"192.0.2.8\" }   "),
    ] {
        let id = rest.lay(target, set.clone());
        let (status, dry) = promote(&rest, id, json!({ "dry_run": true }));
        assert_eq!(status, 200, "{target}: {dry}");
        assert_eq!(text(&meridian), wanted, "a dry run writes nothing");
        let diff = dry["diff"].as_str().expect("a diff").to_string();
        let changed = |sign: char| diff.lines().filter(|line| line.starts_with(sign) && !line.starts_with(&format!("{sign}{sign}"))).count();
        assert!(
            diff.starts_with("--- a/zones/example.com.toml\n+++ b/zones/example.com.toml\n@@ ") && changed('-') == 1 && changed('+') == 1,
            "{diff}"
        );
        assert!(rest.overlay(id)["target"] == target);
        let (status, promoted) = promote(&rest, id, json!({ "reason": "for good" }));
        assert_eq!(status, 200, "{target}: {promoted}");
        assert!(wanted.contains(before), "{before} in {wanted}");
        wanted = wanted.replace(before, after);
        assert_eq!(text(&meridian), wanted, "{target}");
        assert_eq!(rest.call(Method::GET, &format!("/v1/overlays/{id}"), None).0, 404, "it has ended");
        assert_eq!(rest.get("/v1/status")["generation"], promoted["generation"]);
    }
    assert_eq!((ttl(&meridian, "www.example.com.", A), ttl(&meridian, "plain.example.com.", A), ttl(&meridian, "a.b.example.com.", A)), (15, 60, 60));
    assert_eq!(rest.endpoint("example.com/fra/192.0.2.10")["weight"], 7);
    assert_eq!(rest.get("/v1/overlays/diff"), json!({ "differences": [] }), "all of it is what the files say");
    // It holds without the overlay, and an overlay that has ended does not come back.
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    assert_eq!(rest.get("/v1/overlays"), json!({ "overlays": [] }));
    assert_eq!(rest.endpoint("example.com/fra/192.0.2.11")["weight"], 5);
    assert!(!fs::read_dir(meridian.path().join("zones")).expect("a folder").any(|entry| entry.expect("an entry").file_name() != "example.com.toml"));
}

#[test]
fn no_answer_flickers() {
    let (meridian, rest) = serve();
    let id = rest.lay("example.com/www", json!({ "ttl": 17 }));
    let (dns, stop) = (meridian.dns, std::sync::atomic::AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let asker = Asker::new(dns);
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                seen.insert(asker.ask("www.example.com.", A, None).answers[0].ttl);
            }
            seen
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(promote(&rest, id, json!({})).0, 200);
        std::thread::sleep(std::time::Duration::from_millis(50));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().expect("no panic")
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [17]);
}

#[test]
fn what_cannot_be_written_is_refused_with_the_reason() {
    let (meridian, rest) = serve();
    let path = meridian.path().join(FILE);
    let weight = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 7 }));
    let refused = |id: u64, words: &str| {
        let before = fs::read_to_string(&path).expect("the file");
        let (status, problem) = promote(&rest, id, json!({}));
        // What may pass once the disk can be written is no fault of the request.
        assert_eq!(status, if words == "cannot be written" { 503 } else { 422 }, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{words}: {problem}");
        assert_eq!(fs::read_to_string(&path).expect("the file"), before);
        assert_eq!(rest.overlay(id)["id"], id, "the overlay stays");
    };
    let drain = rest.lay("example.com/iad", json!({ "state": "drain" }));
    refused(drain, "have no form in the files");
    let body = json!({ "target": "example.com/policy:split/fra", "set": { "weight": 50 }, "over": "1h", "reason": "r" });
    refused(rest.post("/v1/overlays", body)["id"].as_u64().expect("an id"), "is ramping");
    let above = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 8 }));
    refused(above, &format!("overlay {weight} lies below it"));
    rest.call(Method::DELETE, &format!("/v1/overlays/{above}"), None);

    meridian.write(FILE, &ZONE.replace("# The zone", "# Somebody edits"));
    refused(weight, "has changed since it was loaded");
    rest.post("/v1/reload", json!({}));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("a mode");
    refused(weight, "cannot be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let away = meridian.path().join("away.toml");
    fs::rename(&path, &away).expect("moved");
    symlink(&away, &path).expect("a link");
    rest.post("/v1/reload", json!({}));
    refused(weight, "leads out of the zone folder");
    fs::remove_file(&path).expect("removed");
    fs::rename(&away, &path).expect("moved back");
    rest.post("/v1/reload", json!({}));
    let (status, promoted) = promote(&rest, weight, json!({}));
    assert_eq!(status, 200, "{promoted}");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o640, "the mode is kept");
    assert_eq!(promote(&rest, 99, json!({})).0, 404);
    assert_eq!(promote(&rest, drain, json!({ "dryrun": true })).0, 422);
}

#[test]
fn libraries_are_written_too_and_master_files_are_not() {
    let library = "[pool.shared]\nendpoints = [\"203.0.113.1\", \"203.0.113.2\"] # two\n";
    let zone = |name: &str| format!("[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[steer.www]\nuse = \"shared\"\n");
    let master = "$TTL 300\n@ SOA ns1 h 1 3600 900 1209600 60\n@ NS ns1\nns1 A 192.0.2.53\n";
    let files = [
        ("meridian.toml", CONFIG),
        ("zones/lib.toml", library),
        ("zones/a.test.toml", &zone("a.test")),
        ("zones/b.test.toml", &zone("b.test")),
        ("zones/m.test.zone", master),
    ];
    let meridian = Meridian::start(&files);
    let rest = Rest::new(&meridian);
    let id = rest.lay("library/shared/203.0.113.1", json!({ "weight": 4 }));
    let (status, promoted) = promote(&rest, id, json!({}));
    assert_eq!(status, 200, "{promoted}");
    let now = fs::read_to_string(meridian.path().join("zones/lib.toml")).expect("the file");
    assert_eq!(now, library.replace("\"203.0.113.1\"", "{ address = \"203.0.113.1\", weight = 4 }"));
    assert_eq!(rest.endpoint("library/shared/203.0.113.1")["weight"], 4);
    assert!(rest.get("/v1/status")["zones"].as_array().expect("zones").iter().all(|zone| zone["state"] == "serving"));
    let id = rest.lay("m.test/ns1/A", json!({ "ttl": 20 }));
    let (status, problem) = promote(&rest, id, json!({}));
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("what a master file or the table [zone] says")), "{problem}");
}

#[test]
fn the_command_line_shows_the_difference_first() {
    let (meridian, rest) = serve();
    let id = rest.lay("example.com/policy:split/iad", json!({ "weight": 9 })).to_string();
    let (code, out, err) = meridian.command(&["overlay", "promote", &id, "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("-to     = { fra = 1, iad = 3 }   # shares\n+to     = { fra = 1, iad = 9 }   # shares\n"), "{out}");
    assert!(out.contains("nothing was changed"), "{out}");
    let (code, out, err) = meridian.command(&["overlay", "promote", &id, "--reason", "for good"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("overlay {id} is written to")), "{out}");
    assert_eq!(meridian.command(&["overlay", "promote", &id]).0, 1);
    let (_, log, _) = meridian.command(&["audit", "--action", "overlay.promote"]);
    assert!(log.contains("overlay.promote") && log.contains("for good"), "{log}");
}

#[test]
fn what_a_library_says_of_a_policy_is_said_to_every_zone_that_uses_it() {
    let library = "[pool.one]\nendpoints = [\"203.0.113.1\"]\n[pool.two]\nendpoints = [\"203.0.113.2\"]\n\
                   [policy.lw]\npolicy = \"weighted\"\nto = { one = 5, two = 5 }\n";
    let zone = |name: &str, more: &str| {
        format!("[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[steer.www]\nuse = \"lw\"\n{more}")
    };
    // What b.test asks for is broken by a weight of 0, which a.test may have.
    let strict = zone("b.test", "[safety.min_in_rotation]\nall = { of = [\"one\", \"two\"], at_least = 2 }\n");
    let plain = "[zone]\nname = \"c.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";
    let meridian = Meridian::start(&[
        ("zones/lib.toml", library),
        ("zones/a.test.toml", &zone("a.test", "")),
        ("zones/b.test.toml", &strict),
        ("zones/c.test.toml", plain),
    ]);
    let rest = Rest::new(&meridian);
    let file = || fs::read_to_string(meridian.path().join("zones/lib.toml")).expect("the library");
    let weight = |zone: &str| rest.get(&format!("/v1/policies/{zone}/lw"))["children"][0]["weight"].clone();
    let made = rest.post("/v1/tokens", json!({ "name": "a", "role": "operate", "zones": ["a.test"] }));
    let confined = rest.with_token(made["token"].as_str().expect("a token"));

    let id = confined.lay("a.test/policy:lw/one", json!({ "weight": 77 }));
    assert_eq!((weight("a.test"), weight("b.test")), (json!(77), json!(5)), "a policy is each zone's own");
    for body in [json!({}), json!({ "dry_run": true })] {
        let (status, problem) = promote(&confined, id, body);
        assert_eq!((status, &problem["type"]), (403, &json!("urn:meridian:forbidden")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("lib.toml, which every zone may use")), "{problem}");
        assert_eq!(file(), library);
    }
    let (status, dry) = promote(&rest, id, json!({ "dry_run": true }));
    assert_eq!((status, &dry["other_zones"]), (200, &json!(["b.test"])), "{dry}");
    assert_eq!((file().as_str(), weight("b.test")), (library, json!(5)));
    let (code, out, err) = meridian.command(&["overlay", "promote", &id.to_string(), "--reason", "for all"]);
    assert!(code == 0 && out.contains("it changes other zones as well: b.test\n"), "{out}{err}");
    assert_eq!((weight("a.test"), weight("b.test")), (json!(77), json!(77)));
    let told = &rest.get("/v1/audit?action=overlay.promote&kind=change")["entries"][0];
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("which changes b.test as well")), "{told}");

    let before = file();
    let id = rest.lay("a.test/policy:lw/one", json!({ "weight": 0 }));
    for body in [json!({ "dry_run": true }), json!({})] {
        let (status, problem) = promote(&rest, id, body);
        assert_eq!((status, &problem["rules"][0]["rule"]), (409, &json!("b.test/safety:min_in_rotation/all")), "{problem}");
    }
    assert_eq!((file(), weight("b.test"), rest.overlay(id)["phase"].clone()), (before, json!(77), json!("in effect")));
    // Nothing is left behind that would stand in the way of the next.
    rest.revert(id);
    let id = rest.lay("a.test/policy:lw/two", json!({ "weight": 6 }));
    assert_eq!(promote(&rest, id, json!({})).0, 200);
}

#[test]
fn lines_of_a_file_end_as_they_ended() {
    let crlf = ZONE.replace('\n', "\r\n");
    let meridian = Meridian::start(&[(FILE, &crlf)]);
    let rest = Rest::new(&meridian);
    let id = rest.lay("example.com/policy:split/iad", json!({ "weight": 9 }));
    let (status, promoted) = promote(&rest, id, json!({}));
    assert_eq!(status, 200, "{promoted}");
    assert_eq!(text(&meridian), crlf.replace("iad = 3 }", "iad = 9 }"));
}

/// As a kill between the new text and its name leaves it.
#[test]
fn what_a_killed_promotion_left_is_removed_at_the_start() {
    let (left, others) = ("zones/.example.com.toml.promoted", ["zones/.example.com.toml.swp", "zones/.promoted", "zones/x.toml.promoted"]);
    let mut files = vec![(FILE, ZONE), (left, "[zone]\nname = \"exam")];
    files.extend(others.map(|other| (other, "")));
    let meridian = Meridian::start(&files);
    meridian.says(&[".example.com.toml.promoted: removed"]);
    assert!(!meridian.path().join(left).exists());
    assert!(others.iter().all(|other| meridian.path().join(other).exists()), "what others left is theirs");
}

/// What is acknowledged has ended, with its entry, whatever comes behind the reply.
#[test]
fn an_acknowledged_promotion_survives_a_kill() {
    let (mut meridian, mut rest) = serve();
    for ttl in (40..46).rev() {
        let id = rest.lay("example.com/www", json!({ "ttl": ttl }));
        let (status, promoted) = promote(&rest, id, json!({}));
        meridian.kill();
        assert_eq!(status, 200, "{promoted}");
        meridian = meridian.restart_dead();
        rest = Rest::new(&meridian);
        assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]), "its end is kept: {ttl}");
        let told = rest.get("/v1/audit?action=overlay.promote&kind=change");
        assert_eq!(told["entries"][0]["after"], json!({ "ttl": ttl }), "{told}");
        assert!(text(&meridian).contains(&format!("max = {ttl}")));
    }
}

#[test]
fn edits_that_nobody_has_reloaded_are_not_taken_along() {
    let library = "[pool.far]\nendpoints = [\"203.0.113.1\"]\n[policy.lp]\npolicy = \"weighted\"\nto = { far = 5 }\n";
    let zone = ZONE.replace("ns   = [\"ns1\"]\n", "file = \"example.com.zone\"\n") + "[steer.lib]\nuse = \"lp\"\n";
    let master = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nold A 192.0.2.99\n";
    let zone = zone.replace("ns1.A   = \"192.0.2.53\"\n", "");
    let plain = "[zone]\nname = \"other.test\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[steer.www]\nuse = \"lp\"\n";
    let files = [(FILE, zone.as_str()), ("zones/example.com.zone", master), ("zones/lib.toml", library), ("zones/other.test.toml", plain)];
    let meridian = Meridian::start(&files);
    let rest = Rest::new(&meridian);
    let own = rest.lay("example.com/www", json!({ "ttl": 15 }));
    let shared = rest.lay("example.com/policy:lp/far", json!({ "weight": 9 }));
    let refused = |id: u64, words: &str| {
        for body in [json!({ "dry_run": true }), json!({})] {
            let (status, problem) = promote(&rest, id, body);
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(status == 422 && detail.contains(words) && detail.contains("reload"), "expected {words}: {problem}");
        }
        assert_eq!((text(&meridian), meridian.ask("lib.example.com", A).answers.len()), (zone.clone(), 1));
    };
    meridian.write("zones/example.com.zone", &master.replace("old A 192.0.2.99\n", ""));
    refused(own, "example.com.zone has changed");
    refused(shared, "example.com.zone has changed");
    meridian.write("zones/example.com.zone", master);
    meridian.write("zones/lib.toml", &library.replace("203.0.113.1", "203.0.113.66"));
    refused(own, "lib.toml has changed");
    refused(shared, "lib.toml has changed");
    meridian.write("zones/lib.toml", library);
    for (other, words) in
        [(Some("[zone]\nname = \"other.test\"\n"), "other.test.toml"), (Some(""), "other.test"), (None, "the file of other.test has gone")]
    {
        match other {
            Some(other) => drop(meridian.write("zones/other.test.toml", other)),
            None => fs::remove_file(meridian.path().join("zones/other.test.toml")).expect("removed"),
        }
        refused(shared, words);
    }
    let (status, promoted) = promote(&rest, own, json!({}));
    assert_eq!(status, 200, "what others say is nothing to it: {promoted}");
    meridian.write("zones/other.test.toml", plain);
    meridian.write("zones/new.test.toml", &plain.replace("other.test", "new.test"));
    let (status, problem) = promote(&rest, shared, json!({}));
    assert!(status == 422 && problem["detail"].as_str().is_some_and(|detail| detail.contains("new.test.toml has come")), "{problem}");
    fs::remove_file(meridian.path().join("zones/new.test.toml")).expect("removed");
    let (status, promoted) = promote(&rest, shared, json!({}));
    assert_eq!((status, &promoted["other_zones"]), (200, &json!(["other.test"])), "{promoted}");
}
