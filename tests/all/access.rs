//! Who may do what, and what the audit log tells of it: against the real program, from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE};
use crate::rest::Rest;

fn zone(name: &str) -> String {
    format!(
        "[zone]\nname = \"{name}\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         mail.A = {{ ttl = 600, data = \"192.0.2.25\" }}\n\
         [region]\neu = {{ location = [50.1, 8.7] }}\n[pool.fra]\nregion = \"eu\"\nendpoints = [{{ address = \"192.0.2.10\", weight = 4 }}, \"192.0.2.11\"]\n\
         [pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
         [policy.split]\npolicy = \"weighted\"\nto = {{ fra = 90, iad = 10 }}\n\
         [steer.www]\nuse = \"split\"\nttl = 60\n"
    )
}

fn start() -> Meridian {
    let (one, two) = (zone("example.com"), zone("example.net"));
    Meridian::start(&[("zones/example.com.toml", &one), ("zones/example.net.toml", &two)])
}

/// Entries that a query finds, newest first.
fn entries(rest: &Rest, query: &str) -> Vec<Value> {
    rest.get(&format!("/v1/audit{query}"))["entries"].as_array().expect("entries").clone()
}

/// The newest entry, its sequence and times left out.
fn newest(rest: &Rest, query: &str) -> Value {
    let mut entry = entries(rest, query).first().unwrap_or_else(|| panic!("nothing for {query}")).clone();
    let members = entry.as_object_mut().expect("an object");
    assert!(members.remove("sequence").is_some_and(|sequence| sequence.as_u64() > Some(0)));
    assert!(members.remove("at").is_some_and(|at| at.as_u64() > Some(1_700_000_000)));
    assert!(members.remove("generation").is_some_and(|generation| generation.as_u64() > Some(0)));
    entry
}

/// Makes a token; its id and a client with it.
fn with_token(admin: &Rest, body: Value) -> (String, Rest) {
    let made = admin.post("/v1/tokens", body);
    (made["id"].as_str().expect("an id").to_owned(), admin.with_token(made["token"].as_str().expect("a token")))
}

#[test]
fn every_change_is_kept_with_who_what_before_after_and_why() {
    let server = start();
    let rest = Rest::new(&server);
    let check = |query: &str, expected: Value| assert_eq!(newest(&rest, query), expected, "{query}");
    let base = |action: &str, target: &str| json!({ "kind": "change", "action": action, "target": target, "actor": "admin", "token": "admin", "from": "127.0.0.1", "outcome": "done" });
    let with = |mut entry: Value, more: Value| {
        entry.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        entry
    };
    for (target, set, before) in [
        ("example.com/fra/192.0.2.10", json!({ "weight": 7 }), json!({ "weight": 4 })),
        ("example.com/fra/192.0.2.10", json!({ "weight": 8 }), json!({ "weight": 7 })),
        ("example.com/policy:split/iad", json!({ "weight": 50 }), json!({ "weight": 10 })),
        ("example.com/policy:split/iad", json!({ "weight": 60 }), json!({ "weight": 50 })),
        ("example.com/www", json!({ "ttl": 20 }), json!({ "ttl": 60 })),
        ("example.com/www", json!({ "ttl": 10 }), json!({ "ttl": 20 })),
        ("example.com/mail/A", json!({ "ttl": 100 }), json!({ "ttl": 600 })),
        ("example.com/mail", json!({ "ttl": 50 }), json!({ "ttl": 600 })),
        ("example.com/mail/A", json!({ "ttl": 40 }), json!({ "ttl": 50 })),
        ("example.com/fra", json!({ "state": "drain" }), Value::Null),
        ("example.com/fra", json!({ "state": "down" }), json!({ "state": "drain" })),
        ("region:eu", json!({ "state": "drain" }), Value::Null),
    ] {
        let body = json!({ "target": target, "set": set, "reason": "because", "expires": "never" });
        let id = rest.post("/v1/overlays", body)["id"].as_u64().expect("an id");
        let more = json!({ "after": set, "reason": "because", "detail": format!("overlay {id}, never expires") });
        let mut expected = with(base("overlay.lay", target), more);
        if !before.is_null() {
            expected["before"] = before;
        }
        check("?limit=1", expected);
    }
    let (status, _) = rest.call(Method::DELETE, "/v1/overlays/1?reason=all%20is%20well", None);
    assert_eq!(status, 200);
    let more = json!({ "before": { "weight": 7 }, "reason": "all is well", "detail": "overlay 1, laid by admin" });
    check("?limit=1", with(base("overlay.revert", "example.com/fra/192.0.2.10"), more));
    // A reload by a person, and one by signal.
    rest.post("/v1/reload", json!({ "zone": "Example.COM.", "reason": "new records" }));
    let reload = newest(&rest, "?action=reload");
    assert_eq!((&reload["target"], &reload["reason"], &reload["actor"]), (&json!("example.com"), &json!("new records"), &json!("admin")));
    server.signal("HUP");
    let began = Instant::now();
    while newest(&rest, "?action=reload")["actor"] != "signal" {
        assert!(began.elapsed() < PATIENCE, "no entry of the signal");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(entries(&rest, "?action=start")[0]["actor"], "meridian");
    // An end by time.
    rest.post("/v1/overlays", json!({ "target": "example.net/fra", "set": { "state": "up" }, "reason": "short", "expires": "1s" }));
    let began = Instant::now();
    while entries(&rest, "?action=overlay.expire").is_empty() {
        assert!(began.elapsed() < PATIENCE, "no entry of the expiry");
        std::thread::sleep(Duration::from_millis(50));
    }
    let expired = newest(&rest, "?action=overlay.expire");
    assert_eq!(
        (&expired["actor"], &expired["target"], &expired["before"]),
        (&json!("meridian"), &json!("example.net/fra"), &json!({ "state": "up" }))
    );
    // All of it is there after a crash.
    let before = entries(&rest, "?limit=1000");
    server.signal("KILL");
    let server = server.restart_dead();
    let after = entries(&Rest::new(&server), "?limit=1000");
    assert_eq!(after[after.len() - before.len()..], before);
    assert_eq!(after[0]["action"], "start");
}

#[test]
fn filters_and_pages_lead_through_the_log() {
    let server = start();
    let rest = Rest::new(&server);
    for target in ["example.com/fra", "example.com/iad", "example.net/fra", "region:eu"] {
        rest.lay(target, json!({ "state": "up" }));
    }
    rest.refused("example.com/fro", json!({ "state": "drain" }));
    let count = |query: &str| entries(&rest, query).len();
    for (query, found) in [
        ("?action=overlay", 5),
        ("?action=overlay.lay&kind=change", 4),
        ("?kind=refused", 1),
        ("?outcome=not-found", 1),
        // Its region is a part of what happened to it.
        ("?target=example.com", 4),
        ("?target=EXAMPLE.com.&outcome=done", 3),
        ("?target=example.com/fra", 2),
        ("?target=region:eu", 1),
        ("?target=example", 0),
        ("?actor=admin&since=1h", 5),
        ("?actor=nobody", 0),
        ("?since=99999999999", 0),
        ("?until=1", 0),
    ] {
        assert_eq!(count(query), found, "{query}");
    }
    let all = entries(&rest, "");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rest.get(&format!("/v1/audit?limit=2{cursor}"));
        seen.extend(page["entries"].as_array().expect("entries").clone());
        let Some(next) = page["next"].as_u64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all);
    let oldest = entries(&rest, "?order=oldest");
    assert_eq!(oldest, all.iter().rev().cloned().collect::<Vec<_>>());
    for (query, status, field) in [
        ("?limit=0", 422, json!("limit")),
        ("?limit=1001", 422, json!("limit")),
        ("?since=yesterday", 422, json!("since")),
        ("?until=-1", 422, json!("until")),
        ("?limit=x", 422, json!("limit")),
        ("?kind=odd", 422, json!("kind")),
        ("?colour=red", 400, json!("colour")),
    ] {
        let (found, problem) = rest.call(Method::GET, &format!("/v1/audit{query}"), None);
        assert_eq!((found, &problem["field"]), (status, &field), "{query}: {problem}");
    }
    // The same on the command line.
    let (code, out, err) = server.command(&["audit", "--target", "example.com/fra"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(code == 0 && lines.len() == 3 && lines[0].starts_with("TIME ") && lines[1].contains("overlay.lay"), "{out}{err}");
    assert!(lines[2].contains("region:eu"), "what was done to its region stands there as well: {out}");
    assert!(lines[1].contains("127.0.0.1") && lines[1].contains("  up  ") && lines[1].contains("test"), "{out}");
    let (_, out, _) = server.command(&["audit", "--json", "--kind", "refused"]);
    let page: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(page["entries"][0]["target"], "example.com/fro");
    let (_, out, _) = server.command(&["audit", "--limit", "1"]);
    assert!(out.contains("example.com/fro") && out.contains("did you mean example.com/fra") && out.contains("there are older ones"), "{out}");
    assert_eq!(server.command(&["audit", "--actor", "nobody"]).1, "no entries\n");
    assert_eq!(server.command(&["audit", "--since", "yesterday"]).0, 1);
}

#[test]
fn roles_scopes_and_ends_of_tokens_decide() {
    let server = start();
    let admin = Rest::new(&server);
    let token = |body: Value| with_token(&admin, body);
    let (_, read) = token(json!({ "name": "grafana", "role": "read" }));
    let (_, operate) = token(json!({ "name": "deploy", "role": "operate" }));
    let (_, confined) = token(json!({ "name": "team", "role": "admin", "zones": ["Example.com."] }));
    let (revoked_id, revoked) = token(json!({ "name": "gone", "role": "admin", "reason": "trial" }));
    let (_, expired) = token(json!({ "name": "short", "role": "admin", "expires": "1s" }));
    let up = |target: &str| Some(json!({ "target": target, "set": { "state": "up" }, "reason": "r" }));
    let lay = |who: &Rest, target: &str| who.call(Method::POST, "/v1/overlays", up(target)).0;
    // What each may change.
    for (target, of_operate, of_confined) in [
        ("example.com/fra", 201, 201),
        ("example.net/fra", 201, 403),
        ("region:eu", 201, 403),
        ("example.net/nothing", 404, 403),
        ("example.com/fro", 404, 404),
    ] {
        assert_eq!((lay(&read, target), lay(&operate, target), lay(&confined, target)), (403, of_operate, of_confined), "{target}");
    }
    let post = |who: &Rest, path: &str, body: Value| who.call(Method::POST, path, Some(body)).0;
    for (path, body, statuses) in [
        ("/v1/reload", json!({}), [403, 200, 403]),
        ("/v1/reload", json!({ "zone": "example.com" }), [403, 200, 200]),
        ("/v1/reload", json!({ "zone": "example.net" }), [403, 200, 403]),
        ("/v1/failback", json!({ "name": "example.net/www" }), [403, 200, 403]),
        ("/v1/tokens", json!({ "name": "x", "role": "read" }), [403, 403, 403]),
    ] {
        assert_eq!([&read, &operate, &confined].map(|who| post(who, path, body.clone())), statuses, "{path} {body}");
    }
    let delete = |who: &Rest, path: &str| who.call(Method::DELETE, path, None).0;
    let of_net = admin.lay("example.net/iad", json!({ "state": "up" }));
    let path = format!("/v1/overlays/{of_net}");
    assert_eq!((delete(&read, &path), delete(&confined, &path)), (403, 404));
    // What a confined token does not see is not there for it.
    let unseen = |method: Method, path: &str, body: Option<Value>| {
        let (status, problem) = confined.call(method, path, body);
        assert!(status == 404 && problem["detail"] == format!("found no overlay {of_net}"), "{path}: {status} {problem}");
    };
    unseen(Method::GET, &path, None);
    unseen(Method::DELETE, &format!("{path}?dry_run=true"), None);
    unseen(Method::PATCH, &path, Some(json!({ "expires": "2h" })));
    for dry_run in [true, false] {
        unseen(Method::POST, &format!("{path}/promote"), Some(json!({ "dry_run": dry_run })));
    }
    assert_eq!((delete(&operate, &path), delete(&confined, &path)), (200, 404));
    assert_eq!([&read, &operate, &confined].map(|who| delete(who, &format!("/v1/tokens/{revoked_id}"))), [403, 403, 403]);
    assert_eq!([&read, &operate, &confined].map(|who| who.call(Method::GET, "/v1/tokens", None).0), [403, 403, 403]);
    // What each may see.
    assert_eq!(read.get("/v1/status")["zones"].as_array().map(Vec::len), Some(2));
    let seen = confined.get("/v1/status");
    assert_eq!((seen["zones"].as_array().map(Vec::len), &seen["zones"][0]["name"]), (Some(1), &json!("example.com.")));
    assert!(seen["pools"].as_array().expect("pools").iter().all(|pool| pool["id"].as_str().expect("an id").starts_with("example.com/")));
    assert!(confined.get("/v1/overlays")["overlays"].as_array().expect("overlays").iter().all(|overlay| overlay["target"] == "example.com/fra"));
    assert!(entries(&confined, "?limit=1000").iter().all(|entry| entry["target"].as_str().expect("a target").starts_with("example.com")));
    assert!(!entries(&confined, "").is_empty());
    assert_eq!(confined.call(Method::GET, "/v1/explain?name=www.example.com", None).0, 200);
    assert_eq!(confined.call(Method::GET, "/v1/explain?name=www.example.net", None).0, 403);
    // Ends.
    assert_eq!(lay(&revoked, "example.com/iad"), 201);
    let (status, info) = admin.call(Method::DELETE, &format!("/v1/tokens/{revoked_id}?reason=left"), None);
    assert_eq!((status, info["revoked"].is_u64()), (200, true));
    assert_eq!(lay(&revoked, "example.com/iad"), 401);
    assert_eq!(delete(&admin, &format!("/v1/tokens/{revoked_id}")), 404);
    let began = Instant::now();
    while expired.call(Method::GET, "/v1/status", None).0 != 401 {
        assert!(began.elapsed() < PATIENCE, "it never expires");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, problem) = expired.call(Method::GET, "/v1/status", None);
    assert_eq!(problem["detail"], "the token has expired");
    assert_eq!(revoked.call(Method::GET, "/v1/status", None).1["detail"], "the token was revoked");
    assert_eq!(delete(&admin, "/v1/tokens/admin"), 422);
    // Each of these is in the log, under its name and with its place.
    for (actor, outcome, action) in [
        ("grafana", "forbidden", "overlay.lay"),
        ("team", "forbidden", "reload"),
        ("deploy", "forbidden", "token.create"),
        ("grafana", "forbidden", "GET /v1/tokens"),
    ] {
        let found =
            entries(&admin, &format!("?actor={actor}&outcome={outcome}&action={}&kind=refused", action.replace('/', "%2F").replace(' ', "%20")));
        assert!(!found.is_empty() && found[0]["from"] == "127.0.0.1" && found[0]["token"].is_string(), "{actor} {action}: {found:?}");
    }
    assert!(
        entries(&admin, "?outcome=unauthorised").iter().any(|entry| entry["detail"] == "the token was revoked" && entry["action"] == "overlay.lay")
    );
    let made = newest(&admin, "?action=token.create&actor=admin&kind=change&until=99999999999&limit=1");
    assert_eq!((&made["after"]["name"], &made["reason"]), (&json!("short"), &Value::Null));
    assert_eq!(newest(&admin, "?action=token.revoke&kind=change")["reason"], "left");
}

#[test]
fn tokens_and_their_last_use_outlive_the_process_and_their_secrets_are_nowhere() {
    let server = start();
    let admin = Rest::new(&server);
    let made = admin.post("/v1/tokens", json!({ "name": "ci", "role": "operate", "expires": "never" }));
    let secret = made["token"].as_str().expect("a token").to_owned();
    admin.with_token(&secret).lay("example.com/fra", json!({ "state": "drain" }));
    assert!(admin.get("/v1/tokens")["tokens"][0]["last_used"].is_u64());
    assert!(admin.get("/v1/tokens")["tokens"][0].get("token").is_none());
    let server = server.restart();
    let admin = Rest::new(&server);
    let listed = admin.get("/v1/tokens")["tokens"][0].clone();
    assert_eq!((&listed["name"], &listed["last_from"], listed["last_used"].is_u64()), (&json!("ci"), &json!("127.0.0.1"), true), "{listed}");
    admin.with_token(&secret).lay("example.com/iad", json!({ "state": "up" }));
    for file in ["state/meridian.db", "state/meridian.db-wal"] {
        let octets = std::fs::read(server.path().join(file)).expect("the file");
        assert!(!octets.windows(20).any(|window| window == &secret.as_bytes()[secret.len() - 20..]), "{file} holds the secret");
    }
    assert!(!server.log().join("\n").contains(&secret[18..]));
    // The command line makes, lists and revokes.
    let (code, out, err) =
        server.command(&["token", "create", "grafana", "--role", "read", "--zone", "example.com", "--expires", "30d", "--reason", "dashboards"]);
    assert!(code == 0 && out.starts_with("meridian_") && out.lines().count() == 1 && err.contains("read, example.com, expires in"), "{out}{err}");
    let id = out[9..17].to_owned();
    let (code, status, err) = server.command(&["status", "--token", out.trim()]);
    assert!(code == 0 && !status.contains("example.net"), "{status}{err}");
    assert_eq!(server.command(&["drain", "example.com/iad", "--reason", "x", "--token", out.trim()]).0, 3, "forbidden");
    let (_, list, _) = server.command(&["token", "list"]);
    assert!(list.lines().any(|line| line.starts_with(&id) && line.contains("grafana") && line.contains("good")), "{list}");
    let (code, said, _) = server.command(&["token", "revoke", &id, "--reason", "done"]);
    assert_eq!((code, said), (0, format!("token {id} of grafana revoked\n")));
    assert_eq!(server.command(&["status", "--token", out.trim()]).0, 3);
    assert_eq!(server.command(&["token", "revoke", "nothing"]).0, 1);
}

/// Waits until the program's own log has an entry that says so.
fn wait_for_line(server: &Meridian, action: &str) {
    let began = Instant::now();
    while !server.log().iter().any(|line| line.contains("meridian::audit") && line.contains(action)) {
        assert!(began.elapsed() < PATIENCE, "{action}: {:#?}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a request as it is; what comes back.
fn raw(server: &Meridian, request: &str) -> String {
    let mut stream = TcpStream::connect(server.admin).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn what_breaks_in_at_the_door_is_refused_and_kept() {
    let server = start();
    let rest = Rest::new(&server);
    let token = server.token();
    let head = |method: &str, path: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}");
    let good = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    for (request, status, outcome, action) in [
        (head("POST", "/v1/overlays", "Content-Length: 2\r\n\r\n{}"), 401, "unauthorised", "overlay.lay"),
        (head("GET", "/v1/status", "Authorization: Bearer wrong\r\n\r\n"), 401, "unauthorised", "GET /v1/status"),
        (head("GET", "/healthz/../v1/status", "\r\n"), 401, "unauthorised", "GET /healthz/../v1/status"),
        (head("DELETE", "/v1/tokens/..%2f..", &format!("{good}\r\n")), 404, "not-found", "token.revoke"),
        (head("POST", "//v1/reload", &format!("{good}Content-Length: 0\r\n\r\n")), 404, "no-such-path", "POST //v1/reload"),
        (head("PUT", "/v1/overlays", &format!("{good}Content-Length: 0\r\n\r\n")), 405, "method-not-allowed", "PUT /v1/overlays"),
        (head("POST", "/v1/overlays", &format!("{good}Content-Length: 99999999\r\n\r\n")), 413, "too-large", "overlay.lay"),
        (head("POST", "/v1/overlays", &format!("{good}Content-Length: 1\r\n\r\n{{")), 400, "bad-json", "overlay.lay"),
        (head("POST", "/v1/reload", &format!("{good}Meridian-Actor: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(101))), 400, "bad-header", "reload"),
    ] {
        let reply = raw(&server, &request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {reply}");
        assert!(!reply.to_ascii_lowercase().contains("access-control"), "no CORS");
        let entry = newest(&rest, "?kind=refused&limit=1");
        assert_eq!((&entry["outcome"], &entry["action"], &entry["from"]), (&json!(outcome), &json!(action), &json!("127.0.0.1")), "{request:?}");
    }
    // Nothing that is said becomes a line of the log.
    let reason = "x\nmeridian: serving DNS on 6.6.6.6\r\n\u{1b}[2J";
    let body = json!({ "target": "example.com/fra\n2026 INFO forged", "set": { "state": "drain" }, "reason": reason });
    assert_eq!(rest.call(Method::POST, "/v1/overlays", Some(body)).0, 404);
    assert!(entries(&rest, "?kind=refused")[0]["reason"] == reason, "it is kept as it was said");
    wait_for_line(&server, "overlay.lay");
    let log = server.log();
    assert!(
        !log.iter().any(|line| line.starts_with("meridian: serving DNS on 6") || line.starts_with("2026 INFO forged") || line.contains('\u{1b}')),
        "{log:#?}"
    );
    let (_, out, _) = server.command(&["audit", "--kind", "refused"]);
    assert!(!out.contains('\u{1b}') && !out.lines().any(|line| line.starts_with("meridian: serving")), "{out}");
}

#[test]
fn nobody_passes_for_another_by_what_cannot_be_seen() {
    let server = start();
    let rest = Rest::new(&server);
    let made = rest.post("/v1/tokens", json!({ "name": "ada", "role": "operate" }));
    let ada = rest.with_token(made["token"].as_str().expect("a token"));
    let lay = |actor: &str| {
        let body = json!({ "target": "example.com/fra", "set": { "state": "up" }, "reason": "x" });
        let (status, laid) = ada.send(Method::POST, "/v1/overlays", Some(body), Some(("Meridian-Actor", actor)));
        (status, laid["overlay"]["owner"].as_str().unwrap_or_default().to_owned())
    };
    for (actor, status, owner) in [
        ("admin", 400, ""),
        ("ad%6Din", 400, ""),
        // Shown as it was sent, letter by letter.
        ("%E2%80%8Badmin", 201, "%E2%80%8Badmin"),
        ("ad%C2%ADmin", 201, "ad%C2%ADmin"),
        ("ad%E2%80%8Dmin", 400, ""),
        ("jos%C3%A9", 201, "josé"),
        // Farsi, with the joiner that it needs.
        ("%D9%85%DB%8C%E2%80%8C%D8%AE", 201, "می\u{200c}خ"),
    ] {
        assert_eq!(lay(actor), (status, owner.to_owned()), "{actor}");
    }
    let (status, problem) = rest.call(Method::DELETE, "/v1/overlays/1?reason=%ff", None);
    assert_eq!((status, &problem["type"]), (400, &json!("urn:meridian:bad-query")), "{problem}");
    // An empty variable is one that is not set; a token that nobody can read is not made.
    let run = |token: &str, out: Stdio, args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_meridian"));
        program.args(args).args(["--config", "meridian.toml", "--server", &format!("http://{}", server.admin)]);
        let output = program.current_dir(server.path()).env("MERIDIAN_TOKEN", token).stdout(out).output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(" ", Stdio::null(), &["status"]).0, Some(0));
    let (code, said) = run("a\nb", Stdio::null(), &["status"]);
    assert!(code == Some(2) && said.contains("MERIDIAN_TOKEN: found several lines"), "{code:?} {said}");
    let (code, said) = run("", Stdio::null(), &["token", "create", "lost", "--role", "read"]);
    assert!(code == Some(2) && said.contains("nothing was made"), "{code:?} {said}");
    assert!(!rest.get("/v1/tokens").to_string().contains("lost"));
}

#[test]
fn a_flood_of_bad_tokens_is_slowed_down_and_fills_nothing() {
    let server = start();
    let rest = Rest::new(&server);
    let stranger = rest.with_token("meridian_00000000_not-a-token-of-this-server");
    let (mut refused, mut slowed) = (0, 0);
    for _ in 0..300 {
        let (status, problem) = stranger.call(Method::POST, "/v1/reload", None);
        match status {
            401 => refused += 1,
            429 => {
                slowed += 1;
                assert!(problem["retry_after"].as_u64() >= Some(1), "{problem}");
            }
            other => panic!("{other} {problem}"),
        }
    }
    assert!(refused >= 100 && slowed > 0, "{refused} {slowed}");
    assert!(raw(&server, "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").to_ascii_lowercase().contains("\r\nretry-after: "));
    let kept = entries(&rest, "?kind=refused&limit=1000");
    assert!(kept.len() >= 50 && kept.len() < 100, "{} entries", kept.len());
    // Who has a token is not in their way.
    assert_eq!(rest.call(Method::GET, "/v1/status", None).0, 200);
}

#[test]
fn callers_with_a_token_have_a_rate_of_their_own() {
    let config = format!("{CONFIG}requests_per_second = 5\n");
    let one = zone("example.com");
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &one)]);
    let rest = Rest::new(&server);
    let (_, other) = with_token(&rest, json!({ "name": "other", "role": "read" }));
    let statuses: Vec<u16> = (0..40).map(|_| rest.call(Method::GET, "/v1/overlays", None).0).collect();
    assert!(statuses[0] == 200 && statuses.contains(&429), "{statuses:?}");
    assert_eq!(other.call(Method::GET, "/v1/overlays", None).0, 200);
    // Whose change came too fast is in the log.
    let statuses: Vec<u16> = (0..20).map(|_| rest.call(Method::POST, "/v1/reload", Some(json!({}))).0).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let slowed = entries(&other, "?outcome=too-many").swap_remove(0);
    assert_eq!((&slowed["actor"], &slowed["token"], &slowed["action"]), (&json!("admin"), &json!("admin"), &json!("reload")), "{slowed}");
}

#[test]
fn without_a_store_the_log_says_that_it_cannot_be_read() {
    let one = zone("example.com");
    let config = format!("{CONFIG}[state]\npath = \"state/meridian.db\"\n");
    let server = Meridian::start(&[
        ("meridian.toml", &config),
        ("zones/example.com.toml", &one),
        ("state/meridian.db", "not a database, but long enough to be looked at"),
    ]);
    let rest = Rest::new(&server);
    let (status, problem) = rest.call(Method::GET, "/v1/audit", None);
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")));
    assert!(problem["detail"].as_str().expect("detail").contains("not a usable state file"), "{problem}");
    let (status, problem) = rest.call(Method::POST, "/v1/tokens", Some(json!({ "name": "x", "role": "read" })));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")));
    assert_eq!(rest.post("/v1/reload", json!({}))["failed"], false, "files need no state");
    wait_for_line(&server, "reload");
}
