//! What an operator is told while operating: warnings with what was done, who withdrew what, what is wrong with the service, and why a command
//! line reaches nobody.

use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, RecordType};
use meridian::store::Store;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region]\neu = {}\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\nttl = 60\n[safety]\ndrain_guard = \"30s\"\n";

fn start() -> (Meridian, Rest) {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    (server, rest)
}

/// Asks until the status has what is wanted of its `degraded`.
fn wait_for_degraded(rest: &Rest, is_so: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let degraded = rest.get("/v1/status")["degraded"].to_string();
        if is_so(&degraded) {
            return degraded;
        }
        assert!(began.elapsed() < PATIENCE, "{degraded}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_may_not_be_meant_is_warned_of_and_done() {
    let (server, rest) = start();
    let drain = |expires: &str, dry_run: bool| json!({ "target": "example.com/fra", "set": { "state": "drain" }, "reason": "r", "expires": expires, "dry_run": dry_run });
    for (expires, is_short) in [("20s", true), ("10m", false), ("never", false)] {
        let dry = rest.post("/v1/overlays", drain(expires, true));
        let laid = rest.post("/v1/overlays", drain(expires, false));
        rest.revert(laid["id"].as_u64().expect("an id"));
        for reply in [dry, laid] {
            let warnings = reply["warnings"].as_array().map_or(0, Vec::len);
            assert_eq!(warnings, usize::from(is_short), "{expires}: {reply}");
            assert!(!is_short || reply["warnings"][0].as_str().is_some_and(|text| text.contains("is safe to stop only after")), "{reply}");
        }
    }
    // Withdrawn step by step, it takes the longer; extended, it fits.
    let slow = json!({ "target": "example.com/fra", "set": { "state": "drain" }, "reason": "r", "expires": "10m", "over": "590s" });
    let laid = rest.post("/v1/overlays", slow);
    assert_eq!(laid["warnings"].as_array().map(Vec::len), Some(1), "{laid}");
    let (status, longer) = rest.call(Method::PATCH, &format!("/v1/overlays/{}", laid["id"]), Some(json!({ "expires": "1h" })));
    assert_eq!((status, &longer["warnings"]), (200, &Value::Null), "{longer}");
    // Expiring earlier than it was laid for, it warns as a new one does.
    rest.revert(laid["id"].as_u64().expect("an id"));
    for over in [None, Some("1s")] {
        let mut body = drain("10m", false);
        over.into_iter().for_each(|over| body["over"] = json!(over));
        let id = rest.post("/v1/overlays", body)["id"].as_u64().expect("an id");
        rest.wait(id, |overlay| overlay["phase"] == "in effect");
        let (code, _, err) = server.command(&["overlay", "extend", &id.to_string(), "20s"]);
        assert!(code == 0 && err.contains("is safe to stop only after"), "{over:?}: {code} {err}");
        rest.revert(id);
    }
    let made = rest.post("/v1/tokens", json!({ "name": "a", "role": "read", "zones": ["example.com", "example.net"] }));
    assert_eq!(made["warnings"], json!(["zone example.net is not served here: until it is, the token reaches nothing in it"]));
    let (code, out, err) = server.command(&["token", "create", "b", "--role", "read", "--zone", "example.org"]);
    assert!(code == 0 && out.starts_with("meridian_"), "{out}");
    assert!(err.contains("meridian: warning: zone example.org is not served here"), "{err}");
    let (code, _, err) = server.command(&["drain", "example.com/fra", "--reason", "r", "--expires", "5s", "--yes"]);
    assert!(code == 0 && err.contains("meridian: warning: it lasts 5 s, but"), "{err}");
}

#[test]
fn explain_names_who_withdrew_a_pool_and_why() {
    let (server, rest) = start();
    let lay = |target: &str, set: Value, who: &str| {
        let body = json!({ "target": target, "set": set, "reason": format!("because of {target}") });
        let (status, laid) = rest.send(Method::POST, "/v1/overlays", Some(body), Some(("Meridian-Actor", who)));
        assert_eq!(status, 201, "{laid}");
        laid["id"].as_u64().expect("an id")
    };
    let region = lay("region:eu", json!({ "state": "drain" }), "ada");
    let endpoint = lay("example.com/fra/192.0.2.10", json!({ "weight": 3 }), "bob");
    let name = lay("example.com/app", json!({ "ttl": 20 }), "eve");
    lay("example.com/ns1/A", json!({ "ttl": 20 }), "elsewhere");
    let trace = rest.get("/v1/explain?name=app.example.com");
    let ids: Vec<u64> = trace["overlays"].as_array().expect("overlays").iter().filter_map(|one| one["id"].as_u64()).collect();
    assert_eq!(ids, [region, endpoint, name], "{trace}");
    let (code, out, _) = server.command(&["explain", "app.example.com"]);
    assert_eq!(code, 0);
    let line = format!("overlay     {region}: region:eu drain by ada: because of region:eu (in effect)");
    assert!(out.lines().any(|found| found == line), "{out}");
    let records = rest.get("/v1/explain?name=ns1.example.com");
    assert_eq!(records["overlays"][0]["owner"], "elsewhere", "{records}");
    // A token of this zone does not see what is laid on a region.
    let made = rest.post("/v1/tokens", json!({ "name": "a", "role": "read", "zones": ["example.com"] }));
    let confined = rest.with_token(made["token"].as_str().expect("a token"));
    assert_eq!(confined.get("/v1/explain?name=app.example.com")["overlays"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_serial_that_is_listed_is_the_one_that_is_served() {
    let (server, rest) = start();
    let soa = |answer: &hickory_proto::op::Message| match &answer.answers[0].data {
        RData::SOA(soa) => soa.serial,
        other => panic!("{other}"),
    };
    let served = soa(&server.ask("example.com", RecordType::SOA));
    let listed = rest.get("/v1/zones/example.com/records/@/SOA");
    let text = listed["data"][0].as_str().expect("data").to_owned();
    assert!(served > 0 && text.split(' ').nth(2) == Some(&served.to_string()), "{served}: {text}");
    rest.lay("example.com/ns1/A", json!({ "ttl": 20 }));
    let later = soa(&server.ask("example.com", RecordType::SOA));
    let (_, out, _) = server.command(&["list", "records", "example.com", "--type", "SOA"]);
    assert!(later > served && out.contains(&format!(" {later} ")), "{later}: {out}");
}

#[test]
fn long_texts_do_not_make_tables_wide() {
    let (server, rest) = start();
    let (status, _) = rest.refused(&"x".repeat(60_000), json!({ "state": "up" }));
    assert_eq!(status, 422);
    let (_, out, _) = server.command(&["audit", "--kind", "refused"]);
    let widest = out.lines().map(|line| line.chars().count()).max();
    assert!(out.contains('…') && widest.is_some_and(|width| width < 500), "{widest:?}: {out}");
    let (_, json, _) = server.command(&["audit", "--kind", "refused", "--json"]);
    assert!(json.contains(&"x".repeat(1200)) && !json.contains(&"x".repeat(1201)), "whole as far as it is kept");
}

#[test]
fn files_that_were_not_taken_stand_in_the_status_until_they_are() {
    let (server, rest) = start();
    let config = std::fs::read_to_string(server.path().join("meridian.toml")).expect("the configuration");
    let reload = |body: Value| rest.call(Method::POST, "/v1/reload", Some(body));
    let degraded = || rest.get("/v1/status")["degraded"].to_string();
    server.write("meridian.toml", &format!("{config}\nx = 1\n"));
    assert_eq!(reload(json!({})).1["failed"], true);
    assert!(degraded().contains("the files were not taken when they were last read: the configuration file has errors; a restart would read them"));
    server.write("meridian.toml", &config);
    assert_eq!((reload(json!({})).0, &*degraded()), (200, "[]"));
    // What safety rules forbid waits for a restart, which asks nobody.
    let strict = ZONE.replace("[safety]", "[safety]\nmax_withdrawn = \"10%\"");
    server.write("zones/example.com.toml", &strict);
    assert_eq!(reload(json!({})).0, 200);
    server.write("zones/example.com.toml", &strict.replace("\"192.0.2.10\", \"192.0.2.11\"", "\"192.0.2.12\""));
    let (status, problem) = reload(json!({ "zone": "example.com" }));
    assert_eq!((status, &problem["type"]), (409, &json!("urn:meridian:safety")), "{problem}");
    let found = degraded();
    assert!(found.contains("the files of example.com were not taken when they were last read: example.com/safety:max_withdrawn"), "{found}");
    assert_eq!(reload(json!({ "zone": "example.com", "break_glass": true, "reason": "it is meant" })).0, 200);
    assert_eq!(degraded(), "[]");
}

#[test]
fn a_state_that_somebody_else_has_holds_and_is_taken_over_when_it_is_free() {
    let config = format!("{CONFIG}requests_per_second = 0\n");
    let mut server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    let token = rest.post("/v1/tokens", json!({ "name": "a", "role": "operate" }))["token"].as_str().expect("a token").to_owned();
    let id = rest.lay("example.com/fra", json!({ "state": "drain" }));
    server.terminate();
    let folder = server.into_folder();
    let path = folder.path().join("state/meridian.db");
    let (holder, saved) = Store::open(&path).expect("free");
    assert_eq!(saved.overlays.len(), 1);
    let server = Meridian::start_in(folder);
    // What it holds is in force, tokens included; nothing can be changed, and the status says why.
    let rest = Rest::of(&server, &token);
    assert_eq!(addresses(&server.ask("app.example.com", RecordType::A)), ["198.51.100.10".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(rest.get("/v1/overlays")["overlays"][0]["id"], id);
    let degraded = wait_for_degraded(&rest, |text| text.contains("in use by another process"));
    assert!(degraded.contains("serving with what it holds, and no change can be kept, until it is free"), "{degraded}");
    let up = json!({ "target": "example.com/iad", "set": { "state": "up" }, "reason": "r" });
    let (status, problem) = rest.call(Method::POST, "/v1/overlays", Some(up.clone()));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    assert_eq!(rest.call(Method::DELETE, &format!("/v1/overlays/{id}"), None).0, 503);
    let page = rest.get("/v1/audit?action=overlay.lay");
    assert_eq!((&page["entries"][0]["target"], page["entries"].as_array().map(Vec::len)), (&json!("example.com/fra"), Some(1)), "{page}");
    assert!(page["incomplete"].as_str().is_some_and(|why| why.contains("in use by another process")), "{page}");
    // Whoever has it changes something, and lets it go: that is in force, and changes are kept.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        holder.end_overlay(id, "reverted", "somebody", 1).await.expect("kept");
        holder.close().await;
    });
    drop(holder);
    wait_for_degraded(&rest, |text| text == "[]");
    // Who was refused meanwhile is in the log as well.
    let began = Instant::now();
    while rest.get("/v1/audit?kind=refused&outcome=store")["entries"].as_array().map(Vec::len) != Some(2) {
        assert!(began.elapsed() < PATIENCE, "{}", rest.get("/v1/audit"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rest.get("/v1/audit")["incomplete"], Value::Null);
    assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]));
    server.wait_for("app.example.com", RecordType::A, |seen| seen.len() == 2);
    let (status, laid) = rest.call(Method::POST, "/v1/overlays", Some(up));
    assert!(status == 201 && laid["id"].as_u64().is_some_and(|laid| laid > id), "{status} {laid}");
    assert!(rest.get("/v1/audit?action=state")["entries"][0]["detail"].as_str().is_some_and(|text| text.contains("taken over")));
    let server = server.restart();
    assert_eq!(Rest::of(&server, &token).get("/v1/overlays")["overlays"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_state_file_that_is_taken_away_is_written_anew_and_another_in_its_place_is_left_alone() {
    let (server, rest) = start();
    let path = server.path().join("state/meridian.db");
    let first = rest.lay("example.com/fra", json!({ "state": "drain" }));
    let began = Instant::now();
    // What the program writes meanwhile makes the folder one that is not empty.
    while let Err(error) = std::fs::remove_dir_all(path.parent().expect("a folder")) {
        assert!(began.elapsed() < PATIENCE, "{error}");
    }
    // The token in the file is gone with the folder; the program still has it, and so has the client.
    let second = rest.lay("example.com/iad/198.51.100.10", json!({ "weight": 7 }));
    assert!(path.exists(), "it is there before the reply is");
    let told = rest.get("/v1/audit?action=state")["entries"].to_string();
    let began = Instant::now();
    while !rest.get("/v1/audit?action=state")["entries"].to_string().contains("was gone: all that it held was written there anew") {
        assert!(began.elapsed() < PATIENCE, "{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Moved away, with another in its place: nothing is kept, and it is told before anybody tries.
    let away = server.path().join("away.db");
    std::fs::rename(&path, &away).expect("moved");
    std::fs::write(&path, "").expect("written");
    let degraded = wait_for_degraded(&rest, |text| text.contains("another file has taken the place of the state file"));
    let up = json!({ "target": "example.com/iad", "set": { "state": "up" }, "reason": "r" });
    let (status, problem) = rest.call(Method::POST, "/v1/overlays", Some(up));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{degraded}: {problem}");
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 0);
    // What it held can be read, and is not lost should nobody put it back.
    assert!(degraded.contains("meridian.db.aside-1"), "{degraded}");
    assert!(rest.get("/v1/audit?action=overlay.lay")["entries"].as_array().is_some_and(|entries| entries.len() == 2));
    let (_, held) = Store::open(&path.with_file_name("meridian.db.aside-1")).expect("a state file");
    assert_eq!(held.overlays.iter().map(|overlay| overlay.id).collect::<Vec<_>>(), [first, second]);
    std::fs::rename(&away, &path).expect("moved back");
    wait_for_degraded(&rest, |text| text == "[]");
    let third = rest.lay("example.com/app", json!({ "ttl": 20 }));
    let token = rest.post("/v1/tokens", json!({ "name": "a", "role": "read" }))["token"].as_str().expect("a token").to_owned();
    let server = server.restart();
    let kept = Rest::of(&server, &token).get("/v1/overlays");
    let ids: Vec<u64> = kept["overlays"].as_array().expect("overlays").iter().filter_map(|one| one["id"].as_u64()).collect();
    assert_eq!(ids, [first, second, third]);
}

#[test]
fn a_state_that_is_lost_or_cannot_be_read_is_told() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE), ("state/meridian.db", "")]);
    let degraded = Rest::new(&server).get("/v1/status")["degraded"].to_string();
    assert!(degraded.contains("meridian.db: the state file was there, but empty"), "{degraded}");
    let server = server.restart();
    assert_eq!(Rest::new(&server).get("/v1/status")["degraded"], json!([]));
    // In place of the file there is a folder: what was laid is not known, which is not the same as nothing.
    let server = Meridian::start(&[("zones/example.com.toml", ZONE), ("state/meridian.db/in-the-way", "")]);
    for args in [&["overlay", "list"][..], &["overlay", "diff"], &["token", "list"], &["audit"]] {
        let (code, out, err) = server.command(args);
        assert!(code == 1 && out.is_empty() && err.contains("meridian.db: cannot open the state file"), "{args:?}: {code} {out}{err}");
    }
    assert_eq!(server.command(&["status"]).0, 0);
}

/// A command against a server, with another place for its output.
fn command(server: &Meridian, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(args).arg("--config").arg(server.path().join("meridian.toml"));
    if args[0] != "check" {
        command.args(["--server", &format!("http://{}", server.admin)]);
    }
    command
}

#[test]
fn what_cannot_be_printed_is_no_success() {
    use std::process::Stdio;
    let (server, rest) = start();
    rest.lay("example.com/app", json!({ "ttl": 20 }));
    let full = || Stdio::from(std::fs::File::create("/dev/full").expect("a full disk"));
    for args in [&["status"][..], &["overlay", "list"], &["list", "zones", "--json"], &["check"], &["check", "--json"], &["audit"]] {
        let output = command(&server, args).stdout(full()).output().expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && err.contains("standard output: No space left on device"), "{args:?}: {output:?}");
        // Whoever has seen enough is no error.
        let mut child = command(&server, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        drop(child.stdout.take());
        assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(0), "{args:?}");
    }
    // Nobody has this token: it opens nothing.
    for args in [&["token", "create", "lost", "--role", "read"][..], &["token", "create", "lost", "--role", "read", "--json"]] {
        let output = command(&server, args).stdout(full()).output().expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && err.contains("could not be shown, and is revoked"), "{output:?}");
    }
    let tokens = rest.get("/v1/tokens");
    assert!(tokens["tokens"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["revoked"].is_u64())), "{tokens}");
}

#[test]
fn a_watch_ends_with_its_reader_and_a_call_with_its_server() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let (server, rest) = start();
    for args in
        [&["status", "--watch=1"][..], &["status", "--json", "--watch=1"], &["overlay", "list", "--watch=1"], &["list", "endpoints", "--watch=1"]]
    {
        let mut child = command(&server, args).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let began = Instant::now();
        let code = loop {
            match child.try_wait().expect("its state") {
                Some(status) => break status.code(),
                None if began.elapsed() > PATIENCE => {
                    child.kill().expect("it ends");
                    panic!("{args:?} goes on for nobody");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert_eq!(code, Some(0), "{args:?}");
    }
    // Whoever stops waiting is told what goes on.
    for (id, signal) in [(1, "INT"), (2, "TERM")] {
        let mut waits = command(&server, &["drain", "example.com/fra", "--reason", "r", "--yes", "--wait"]);
        let mut waits = waits.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        BufReader::new(waits.stderr.as_mut().expect("its words")).read_line(&mut line).expect("a line");
        assert!(line.contains("draining, safe to stop in"), "{line}");
        assert!(std::process::Command::new("kill").args([&format!("-{signal}"), &waits.id().to_string()]).status().expect("kill runs").success());
        let output = waits.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = ["stays in force", "(draining, safe to stop in", "meridian overlay list --watch", &format!("meridian overlay revert {id}")];
        assert!(output.status.code() == Some(1) && words.iter().all(|word| err.contains(word)), "{output:?}");
        assert_eq!(rest.overlay(id)["set"]["state"], "drain");
    }
    // Programs are told as well, in what they read.
    let mut waits = command(&server, &["drain", "example.com/fra", "--reason", "r", "--yes", "--wait", "--json"]);
    let waits = waits.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    rest.wait(3, |overlay| !overlay.is_null());
    assert!(std::process::Command::new("kill").args(["-TERM", &waits.id().to_string()]).status().expect("kill runs").success());
    let output = waits.wait_with_output().expect("it ends");
    let last: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    // It may not have heard yet that the drain is laid.
    let words = if last["id"].is_null() { "terminated; the drain may be laid all the same" } else { "terminated; overlay 3 stays in force" };
    assert!(output.status.code() == Some(1) && last["error"].as_str().is_some_and(|why| why.contains(words)), "{output:?}");
    server.signal("STOP");
    let began = Instant::now();
    let (code, _, err) = server.command(&["status"]);
    assert!(code == 3 && err.contains("it takes connections, but answers nothing"), "{code} {err}");
    let (code, _, err) = server.command(&["override", "example.com/fra", "up", "--reason", "r"]);
    assert!(code == 3 && err.contains("it may still make the change"), "{code} {err}");
    assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
    server.signal("CONT");
}

#[test]
fn what_is_planned_says_when_it_begins() {
    let (server, rest) = start();
    let (code, out, err) = server.command(&["drain", "example.com/fra", "--starts", "3h", "--expires", "1h", "--reason", "r", "--yes"]);
    assert!(
        code == 0 && out.contains("drain, starts in 2 h 59 min, expires in 3 h 59 min;") || out.contains("starts in 3 h, expires in 4 h"),
        "{out}{err}"
    );
    let (_, out, _) = server.command(&["overlay", "list"]);
    assert!(out.contains("drain, starts in "), "{out}");
    // An extension counts from now, whether it has begun or not, and not so little that it would never begin.
    let amend = |expires: &str| rest.call(Method::PATCH, "/v1/overlays/1", Some(json!({ "expires": expires })));
    let (status, problem) = amend("2h");
    assert!(
        status == 422 && problem["field"] == "expires" && problem["detail"].as_str().is_some_and(|text| text.contains("it starts only in")),
        "{problem}"
    );
    let (status, later) = amend("5h");
    let lasts = later["overlay"]["expires"].as_u64().zip(later["overlay"]["starts"].as_u64()).map(|(expires, starts)| expires - starts);
    assert!(status == 200 && lasts.is_some_and(|lasts| (7200..=7300).contains(&lasts)), "{later}");
    let (status, gone) = rest.call(Method::DELETE, "/v1/overlays/1", None);
    assert_eq!((status, &gone["overlay"]["phase"]), (200, &json!("ended")), "{gone}");
}

#[test]
fn contradictions_and_nothing_are_told_as_what_they_are() {
    let (server, rest) = start();
    let before = rest.get("/v1/status")["generation"].clone();
    let (status, problem) = rest.call(Method::POST, "/v1/reload", Some(json!({ "zone": "example.com", "all": true })));
    assert_eq!((status, &problem["field"]), (422, &json!("all")), "{problem}");
    let (code, _, err) = server.command(&["reload", "example.com", "--all"]);
    assert!(code == 2 && err.contains("cannot be used with"), "{err}");
    let (code, out, _) = server.command(&["failback", "example.com/app"]);
    assert!(code == 0 && out.starts_with("nothing of example.com/app was held"), "{out}");
    assert_eq!(rest.get("/v1/status")["generation"], before, "and nothing has changed");
    let (_, out, _) = server.command(&["explain", "app.example.com", "ANY"]);
    assert!(out.contains(" IN HINFO \"RFC8482\" \"\""), "{out}");
    // How many queries there were is in the status alone: it would move every ETag.
    for path in ["/v1/zones/example.com", "/v1/zones"] {
        let tag = rest.tag(path);
        server.ask("app.example.com", RecordType::A);
        assert_eq!(rest.tag(path), tag, "{path}");
        assert!(!rest.get(path).to_string().contains("queries"), "{path}");
    }
    assert!(rest.get("/v1/status")["zones"][0]["queries"].as_u64().is_some_and(|queries| queries > 0));
}

#[test]
fn what_cannot_work_is_said_before_it_is_tried() {
    let (server, _) = start();
    let clean = server.command(&["check"]);
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:8053\"\n[metrics]\nlisten = \"127.0.0.1:8053\"\n";
    let run = |server: &Meridian| {
        let output = command(server, &["check"]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run(&server).0, Some(0), "{clean:?}");
    server.write("meridian.toml", config);
    let (code, out) = run(&server);
    assert!(
        code == Some(1) && out.contains("metrics.listen (127.0.0.1:8053, line 6) and admin.listen (127.0.0.1:8053, line 4) want the same TCP port"),
        "{out}"
    );
    let geo = ZONE
        .replace("policy = \"failover\"\nto = [\"fra\", \"iad\"]", "policy = \"geo\"\nrules = [{ geo = [\"EU\"], to = \"fra\" }]\ndefault = \"iad\"");
    server.write("meridian.toml", CONFIG);
    server.write("zones/example.com.toml", &geo);
    let (code, out) = run(&server);
    assert!(code == Some(0) && out.contains("warning") && out.contains("geo.databases lists no database: they match nobody"), "{out}");
}
