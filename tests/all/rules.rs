//! Rules of geo policies that overlays disable, asked from outside: what is answered, and for whom it may be kept, must be what a server says whose
//! files have never had the rule.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::rr::RecordType;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Asker, CONFIG, Meridian, PATIENCE, addresses, scope};
use crate::rest::Rest;

const RANGES: &str = "network,country,asn\n198.51.100.0/25,DE,64500\n198.51.100.128/25,DE,64501\n203.0.113.0/26,TR,64510\n203.0.113.64/26,JP,64510\n\
    192.0.2.0/24,FR,64502\n2001:db8:1::/48,DE,64500\n2001:db8:2::/48,TR,\n";

/// Keys of the rules, in order of the file.
const KEYS: [&str; 6] = ["geo=EU", "geo=EU-DE", "asn=64500", "net=198.51.100.16/28", "geo=AS", "geo=AS-TR"];

/// A zone whose rules have one condition and one pool each; without the rules at `without`.
fn zone(without: &[usize], more: &str) -> String {
    let mut text = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n".to_owned();
    for pool in 0..=KEYS.len() {
        text.push_str(&format!("[pool.p{pool}]\nendpoints = [\"10.0.0.{pool}\", \"2001:db8:ff::{pool}\"]\n"));
    }
    let rules: Vec<String> = (0..KEYS.len()).filter(|at| !without.contains(at)).map(|at| rule(at, "")).collect();
    // All rules use their pool elsewhere, too: one without a user would be a warning.
    let all: Vec<String> = (0..=KEYS.len()).map(|at| format!("\"p{at}\"")).collect();
    text + &format!(
        "[policy.world]\npolicy = \"geo\"\ndefault = [\"p6\"]\nrules = [\n{}]\n[steer.www]\nuse = \"world\"\n[steer.app]\npolicy = \"geo\"\n\
         default = [\"p6\"]\nrules = [\n{}]\n[steer.all]\npolicy = \"multivalue\"\nto = [{}]\n{more}",
        rules.concat(),
        rules.concat(),
        all.join(", ")
    )
}

fn rule(at: usize, more: &str) -> String {
    let (name, value) = KEYS[at].split_once('=').expect("a key");
    let value = if name == "asn" { value.to_owned() } else { format!("\"{value}\"") };
    format!("  {{ {name} = [{value}], to = [\"p{at}\"]{more} }},\n")
}

fn folder(zone: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).expect("a file");
    write("ranges.csv", RANGES);
    let built = Command::new(env!("CARGO_BIN_EXE_meridian")).args(["geo", "build", "ranges.csv", "geo.mmdb"]).current_dir(&dir).output();
    assert!(built.expect("it runs").status.success());
    std::fs::create_dir(dir.path().join("zones")).expect("a folder");
    write("meridian.toml", &format!("{CONFIG}[geo]\ndatabases = [\"geo.mmdb\"]\n"));
    write("zones/example.com.toml", zone);
    dir
}

fn start(zone: &str) -> (Meridian, Rest) {
    let server = Meridian::start_in(folder(zone));
    let rest = Rest::new(&server);
    (server, rest)
}

/// Addresses around every border of the data and of the rules, and some far away.
fn clients() -> Vec<(IpAddr, u8)> {
    let mut clients = Vec::new();
    for text in
        ["198.51.100.0", "198.51.100.16", "198.51.100.32", "198.51.100.128", "203.0.113.0", "203.0.113.64", "192.0.2.0", "8.8.8.8", "10.1.2.3"]
    {
        let addr = u32::from(text.parse::<Ipv4Addr>().expect("an address"));
        clients.extend([addr, addr.wrapping_sub(1), addr + 255].map(|addr| (IpAddr::V4(addr.into()), 32)));
        clients.push((IpAddr::V4((addr & !255).into()), 24));
    }
    for text in ["2001:db8:1::", "2001:db8:2::", "2001:db8:3::", "2a00::"] {
        clients.extend([48, 56, 64].map(|len| (text.parse().expect("an address"), len)));
    }
    clients
}

/// What each client gets, and for whom.
fn seen(server: &Meridian, name: &str) -> Vec<String> {
    let asker = Asker::new(server.dns);
    let one = |(addr, len): (IpAddr, u8)| {
        let reply = asker.ask(name, RecordType::A, Some((addr, len)));
        format!("{addr}/{len}: {:?} for /{:?} {}", addresses(&reply), scope(&reply), reply.metadata.response_code)
    };
    clients().into_iter().map(one).collect()
}

fn lay(rest: &Rest, target: &str, expires: &str) -> u64 {
    let body = json!({ "target": target, "set": { "disabled": true }, "reason": "test", "expires": expires });
    rest.post("/v1/overlays", body)["id"].as_u64().expect("an id")
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_disabled_rule_is_as_if_it_were_not_in_the_file() {
    let (server, rest) = start(&zone(&[], ""));
    let before = seen(&server, "www.example.com.");
    // Alone, and all together, step by step.
    for (at, key) in KEYS.iter().enumerate() {
        let (other, _) = start(&zone(&[at], ""));
        let wanted = seen(&other, "www.example.com.");
        assert_ne!(wanted, before, "the rule {} decides nothing", key);
        let id = lay(&rest, &format!("example.com/policy:world/rule:{}", key), "1h");
        assert_eq!(seen(&server, "www.example.com."), wanted, "without {}", key);
        assert_eq!(seen(&server, "app.example.com."), before, "its rules are its own");
        rest.revert(id);
        assert_eq!(seen(&server, "www.example.com."), before, "{} is back", key);
    }
    for at in 0..KEYS.len() {
        lay(&rest, &format!("Example.COM./app/rule:{}", KEYS[at]), "1h");
        let (other, _) = start(&zone(&(0..=at).collect::<Vec<_>>(), "").replace("rules = [\n]", "rules = [{ asn = [1], to = \"p0\" }]"));
        assert_eq!(seen(&server, "app.example.com."), seen(&other, "app.example.com."), "without {:?}", &KEYS[..=at]);
    }
    assert_eq!(seen(&server, "www.example.com."), before);
}

#[test]
fn what_disables_a_rule_outlives_starts_and_follows_the_rule_through_the_files() {
    let (server, rest) = start(&zone(&[], ""));
    let (other, _) = start(&zone(&[1], ""));
    let (all, wanted) = (seen(&server, "www.example.com."), seen(&other, "www.example.com."));
    let id = lay(&rest, "example.com/policy:world/rule:geo=EU-DE", "1h");
    assert_eq!(seen(&server, "www.example.com."), wanted);
    let server = server.restart();
    assert_eq!(seen(&server, "www.example.com."), wanted, "from the first answer on");
    let rest = Rest::new(&server);
    // The same rules in another order, with other lines: the key names the rule. At no moment is it in force.
    let moved = zone(&[1], "").replacen("rules = [\n", &format!("rules = [\n\n{}", rule(1, "")), 1);
    server.write("zones/example.com.toml", &moved);
    let (stop, dns) = (std::sync::atomic::AtomicBool::new(false), server.dns);
    std::thread::scope(|scope| {
        let (began, begins) = std::sync::mpsc::channel();
        let stop = &stop;
        let asking = scope.spawn(move || {
            let asker = Asker::new(dns);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let reply = asker.ask("www.example.com.", RecordType::A, Some(("198.51.100.200".parse().expect("an address"), 32)));
                assert_eq!(addresses(&reply), ["10.0.0.0".parse::<IpAddr>().expect("an address")]);
                let _ = began.send(());
            }
        });
        // On a busy machine the reloads could be over before the first question.
        begins.recv().expect("an answer before the reloads");
        rest.post("/v1/reload", json!({}));
        rest.post("/v1/reload", json!({ "zone": "example.com" }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().expect("no flicker");
    });
    assert_eq!(seen(&server, "www.example.com."), wanted);
    // Its rule goes: it has no effect. Its rule comes back: it has.
    server.write("zones/example.com.toml", &zone(&[1], ""));
    rest.post("/v1/reload", json!({}));
    assert!(rest.overlay(id)["inactive"].as_str().is_some_and(|why| why.contains("rule:geo=EU-DE does not exist")), "{}", rest.overlay(id));
    server.write("zones/example.com.toml", &zone(&[], ""));
    rest.post("/v1/reload", json!({}));
    assert_eq!((rest.overlay(id)["inactive"].clone(), seen(&server, "www.example.com.")), (Value::Null, wanted));
    rest.revert(id);
    assert_eq!(seen(&server, "www.example.com."), all);
}

/// Waits until the name is answered as wanted.
fn comes_to(server: &Meridian, name: &str, wanted: &[String]) {
    let began = Instant::now();
    while seen(server, name) != wanted {
        assert!(began.elapsed() < PATIENCE, "{:#?}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_starts_and_ends_at_its_time() {
    let (server, rest) = start(&zone(&[], ""));
    let (other, _) = start(&zone(&[4], ""));
    let (all, wanted) = (seen(&server, "www.example.com."), seen(&other, "www.example.com."));
    let body = json!({ "target": "example.com/policy:world/rule:geo=AS", "set": { "disabled": true }, "reason": "test", "starts": unix_now() + 2, "expires": "3s" });
    let id = rest.post("/v1/overlays", body)["id"].as_u64().expect("an id");
    assert_eq!((rest.overlay(id)["phase"].clone(), seen(&server, "www.example.com.")), (json!("waiting"), all.clone()));
    comes_to(&server, "www.example.com.", &wanted);
    comes_to(&server, "www.example.com.", &all);
    assert_eq!(rest.wait(id, Value::is_null), Value::Null);
}

#[test]
fn it_is_listed_explained_and_audited() {
    let (_server, rest) = start(&zone(&[], ""));
    let target = "example.com/app/rule:geo=AS-TR";
    let id = lay(&rest, target, "never");
    assert_eq!(rest.overlay(id)["set"], json!({ "disabled": true }));
    assert_eq!(
        rest.get("/v1/overlays/diff")["differences"],
        json!([{ "target": target, "what": "rule", "files": "enabled", "now": "disabled", "overlays": [id], "in_force": [id] }])
    );
    let rule = &rest.get("/v1/policies/example.com/app")["rules"][5];
    assert_eq!(*rule, json!({ "id": target, "conditions": ["geo=AS-TR"], "conditions_count": 1, "to": ["p5"], "disabled_by": id }));
    let why = rest.get("/v1/explain?name=app.example.com&type=A&client=203.0.113.7");
    let found = why["steering"]["policies"][0]["found"].as_str().unwrap_or_default();
    assert!(
        found.contains(&format!("(country TR) is disabled by overlay {id}; rule in line")) && found.contains("matched by continent AS"),
        "{found}"
    );
    let text = why["text"].as_str().unwrap_or_default();
    assert!(text.contains("answer      app.example.com. 30 IN A 10.0.0.4"), "{text}");
    rest.revert(id);
    let why = rest.get("/v1/explain?name=app.example.com&type=A&client=203.0.113.7").to_string();
    assert!(!why.contains("disabled") && why.contains("matched by country TR"), "{why}");
    let entries = rest.get("/v1/audit?action=overlay&order=oldest");
    let kept: Vec<Value> = entries["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|one| json!([one["action"], one["target"], one["before"], one["after"]]))
        .collect();
    let set = json!({ "disabled": true });
    assert_eq!(kept, [json!(["overlay.lay", target, null, set]), json!(["overlay.revert", target, set, null])]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (server, rest) = start(&zone(&[], ""));
    for (target, status, detail) in [
        ("example.com/policy:world/rule:geo=OC", 404, "did you mean example.com/policy:world/rule:geo="),
        ("example.com/policy:wrld/rule:geo=AS-TR", 404, "did you mean example.com/policy:world/rule:geo=AS-TR"),
        ("example.com/policy:world", 404, "found no"),
        ("example.com/policy:world/p0", 404, "found no"),
        ("example.com/all/rule:geo=EU", 404, "found no"),
        ("example.net/app/rule:geo=EU", 404, "found no"),
        ("region:eu", 404, "found no"),
        ("example.com/app/rule:EU", 422, "expected one of the conditions of its rules: geo=EU, "),
        ("example.com/app/rule:net=10.0.0.0/99", 422, "expected one of the conditions of its rules: geo=EU, "),
        ("example.com/www/rule:geo=EU", 422, "say example.com/policy:world/rule:geo=EU"),
    ] {
        let (found, text) = rest.refused(target, json!({ "disabled": true }));
        assert!(found == status && text.contains(detail), "{target}: {found} {text}");
    }
    let target = "example.com/app/rule:geo=EU";
    for (set, detail) in [
        (json!({ "disabled": false }), "take the overlay back"),
        (json!({ "state": "down" }), "is a rule; a"),
        (json!({ "weight": 1 }), "is a rule; a"),
    ] {
        let (status, text) = rest.refused(target, set);
        assert!(matches!(status, 404 | 422) && text.contains(detail), "{text}");
    }
    let body = json!({ "target": target, "set": { "disabled": true }, "reason": "test", "over": "1m" });
    assert_eq!(rest.call(Method::POST, "/v1/overlays", Some(body)).0, 422);
    let id = lay(&rest, target, "1h");
    let (status, problem) = rest.call(Method::POST, &format!("/v1/overlays/{id}/promote"), Some(json!({})));
    assert!(status == 422 && problem["detail"].as_str().is_some_and(|detail| detail.contains("take it out of its file")), "{problem}");
    let confined = rest.post("/v1/tokens", json!({ "name": "net", "role": "operate", "zones": ["example.net"] }));
    let confined = rest.with_token(confined["token"].as_str().expect("a token"));
    assert_eq!(confined.refused(target, json!({ "disabled": true })).0, 403);
    drop(server);
}

#[test]
fn clients_are_not_left_with_nothing() {
    // Whoever matches no rule gets nothing at all.
    let bare = zone(&[], "").replace("default = [\"p6\"]\n", "");
    let (server, rest) = start(&bare);
    let new = |more: Value| {
        let mut body = json!({ "target": "example.com/app/rule:geo=EU", "set": { "disabled": true }, "reason": "test" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        rest.call(Method::POST, "/v1/overlays", Some(body))
    };
    let (status, problem) = new(json!({}));
    assert!(status == 409 && problem["rules"][0]["rule"] == "example.com/safety:last_healthy", "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("some clients of app.example.com.")), "{problem}");
    let (status, would) = new(json!({ "dry_run": true }));
    assert!(status == 200 && would["broken"][0]["rule"] == "example.com/safety:last_healthy", "{would}");
    // A rule below which there is another may go.
    let body = json!({ "target": "example.com/app/rule:geo=EU-DE", "set": { "disabled": true }, "reason": "test" });
    assert_eq!(rest.call(Method::POST, "/v1/overlays", Some(body)).0, 201);
    let (status, laid) = new(json!({ "break_glass": true }));
    assert!(status == 201 && laid["overlay"]["broke"][0].as_str().is_some_and(|rule| rule.contains("last_healthy")), "{laid}");
    // To enable it again is never worse.
    rest.revert(laid["id"].as_u64().expect("an id"));
    drop(server);
}

#[test]
fn changes_at_the_same_time_come_to_what_they_are_together() {
    let (server, rest) = start(&zone(&[], ""));
    let before = seen(&server, "www.example.com.");
    let token = server.token();
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let (server, token) = (&server, &token);
        let lay_one = |key: &'static str| scope.spawn(move || lay(&Rest::of(server, token), &format!("example.com/policy:world/rule:{key}"), "1h"));
        let laying: Vec<_> = KEYS.into_iter().map(lay_one).collect();
        laying.into_iter().map(|one| one.join().expect("laid")).collect()
    });
    let (other, _) = start(&zone(&[0, 1, 2, 3, 4, 5], "").replace("rules = [\n]", "rules = [{ asn = [1], to = \"p0\" }]"));
    assert_eq!(seen(&server, "www.example.com."), seen(&other, "www.example.com."));
    std::thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| Rest::of(&server, &token).revert(*id));
        }
    });
    assert_eq!(seen(&server, "www.example.com."), before);
    assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]));
}

#[test]
fn the_command_line_disables_and_enables_rules() {
    let (server, _) = start(&zone(&[], ""));
    let run = |line: &str| server.command(&line.split_whitespace().collect::<Vec<_>>());
    let (code, out, _) = run("rule disable example.com/app geo=AS-TR --reason test --dry-run");
    assert_eq!((code, out.as_str()), (0, "takes nothing out of rotation\n"));
    let (code, out, err) = run("rule disable example.com/app geo=AS-TR --reason test");
    assert!(code == 0 && out.starts_with("overlay 1 laid: example.com/app/rule:geo=AS-TR disabled, expires in "), "{out}{err}");
    let (_, out, _) = run("rule list --zone example.com");
    let line = out.lines().find(|line| line.contains("example.com/app/rule:geo=AS-TR")).unwrap_or_default();
    assert!(line.contains("disabled by overlay 1") && line.contains("p5"), "{out}");
    assert_eq!(out.lines().count(), 13, "{out}");
    let (code, out, err) = run("rule enable example.com/app geo=AS-TR");
    assert!(code == 0 && out.starts_with("overlay 1 reverted: example.com/app/rule:geo=AS-TR disabled; generation "), "{out}{err}");
    let (code, _, err) = run("rule enable example.com/app geo=AS-TR");
    assert!(code == 1 && err.contains("no overlay disables example.com/app/rule:geo=AS-TR"), "{err}");
    let (code, _, err) = run("rule disable example.com/app geo=AS-TT --reason test");
    assert!(code == 1 && err.contains("did you mean"), "{err}");
}

#[test]
fn a_planned_one_that_cannot_be_made_says_so_once_and_waits_for_the_files() {
    let (server, rest) = start(&zone(&[], ""));
    let database = server.path().join("geo.mmdb");
    let body =
        json!({ "target": format!("example.com/policy:world/rule:{}", KEYS[0]), "set": { "disabled": true }, "reason": "later", "starts": "5s" });
    let id = rest.post("/v1/overlays", body)["id"].as_u64().expect("an id");
    // What was compiled for it when it was laid is of other files now.
    server.write("zones/example.com.toml", &zone(&[], "# edited\n"));
    assert_eq!(server.command(&["reload"]).0, 0);
    let kept = std::fs::read(&database).expect("a database");
    std::fs::remove_file(&database).expect("it was there");
    let shown = rest.wait(id, |overlay| overlay["inactive"].is_string());
    assert!(shown["inactive"].as_str().is_some_and(|why| why.starts_with("it should have begun, but") && why.contains("geo.mmdb")), "{shown}");
    // Ticks go by, and nothing more is said.
    std::thread::sleep(Duration::from_millis(2500));
    let entries = rest.get("/v1/audit?action=overlay.step&limit=1000");
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(1), "{entries}");
    assert_eq!(server.says(&["cannot be compiled without a rule"]), 1, "{:#?}", server.log());
    std::fs::write(&database, kept).expect("written");
    let (code, out, err) = server.command(&["reload"]);
    assert_eq!(code, 0, "{out}{err}");
    let shown = rest.wait(id, |overlay| overlay["phase"] == "in effect");
    assert_eq!(shown["inactive"], Value::Null, "{shown}");
}

#[test]
fn a_database_that_is_gone_is_no_way_to_lose_a_zone() {
    let (server, rest) = start(&zone(&[], ""));
    let before = seen(&server, "www.example.com.");
    std::fs::remove_file(Path::new(server.path()).join("geo.mmdb")).expect("it was there");
    let (status, text) = rest.refused("example.com/policy:world/rule:geo=EU", json!({ "disabled": true }));
    assert!(status == 422 && text.contains("geo.mmdb cannot be used"), "{status} {text}");
    assert_eq!(seen(&server, "www.example.com."), before);
}

#[test]
fn any_condition_of_a_rule_stands_for_it() {
    let zone = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[pool.p0]\nendpoints = [\"10.0.0.1\"]\n[pool.p1]\nendpoints = [\"10.0.0.2\"]\n\
                [steer.app]\npolicy = \"geo\"\ndefault = [\"p0\"]\nrules = [{ net = [\"10.0.0.0/8\", \"11.0.0.0/8\"], to = [\"p1\"] }]\n";
    let (server, rest) = start(zone);
    let lay = |net: &str| rest.lay(&format!("example.com/app/rule:net={net}"), json!({ "disabled": true }));
    let (ten, eleven) = (lay("10.0.0.0/8"), lay("11.0.0.0/8"));
    let difference = |overlays: Value, in_force: Value| json!({ "target": "example.com/app/rule:net=11.0.0.0/8", "what": "rule", "files": "enabled", "now": "disabled", "overlays": overlays, "in_force": in_force });
    let all = rest.get("/v1/overlays/diff")["differences"].clone();
    assert!(all.as_array().is_some_and(|all| all.contains(&difference(json!([eleven]), json!([ten, eleven])))), "{all}");
    // The other condition disables it still.
    let (status, reply) = rest.call(Method::DELETE, &format!("/v1/overlays/{eleven}"), None);
    assert_eq!((status, &reply["then"]), (200, &difference(json!([]), json!([ten]))), "{reply}");
    let listed = server.command(&["rule", "list"]).1;
    assert!(listed.contains(&format!("rule:net=10.0.0.0/8  disabled by overlay {ten}")), "{listed}");
    // By the condition that it was not disabled by, and both at once.
    lay("11.0.0.0/8");
    let (code, out, err) = server.command(&["rule", "enable", "example.com/app", "net=11.0.0.0/8", "--reason", "r"]);
    assert!(code == 0 && out.matches("reverted").count() == 2, "{code}: {out}{err}");
    assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]));
    lay("11.0.0.0/8");
    assert_eq!(server.command(&["rule", "enable", "example.com/app", "net=10.0.0.0/8", "--reason", "r"]).0, 0);
    assert_eq!(server.command(&["rule", "enable", "example.com/app", "net=10.0.0.0/8", "--reason", "r"]).0, 1);
}
