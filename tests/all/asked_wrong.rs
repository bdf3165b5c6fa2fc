//! Requests that are wrong in ways that people and programs get wrong: what is refused, and how well it says why.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region]\neu = {}\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 3, iad = 1 }\n\
    [steer.app]\nuse = \"split\"\nttl = 5\n[steer.geo]\npolicy = \"geo\"\nrules = [{ geo = [\"EU\"], to = \"fra\" }]\ndefault = \"iad\"\nttl = 5\n\
    [safety]\ndrain_guard = \"1s\"\n";

fn start() -> (Meridian, Rest) {
    let server = Meridian::start(&[("meridian.toml", &format!("{CONFIG}requests_per_second = 0\n")), ("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    (server, rest)
}

/// A request by hand, with headers as often as they are given: status, head and JSON.
fn raw(server: &Meridian, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, Value) {
    let mut text = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n", server.token());
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    if !body.is_empty() {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(server.admin).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("it is sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn rfc9110_section_13_1_conditions_are_kept_or_refused() {
    let (server, rest) = start();
    let id = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 7 }));
    let overlay = format!("/v1/overlays/{id}");
    let (tag, of_overlay) = (rest.tag("/v1/endpoints/example.com/fra/192.0.2.11"), rest.tag(&overlay));
    let weak = format!("W/{tag}");
    let several = format!("\"x\", {weak}");
    let body = r#"{"target":"example.com/iad","set":{"state":"up"},"reason":"r"}"#;
    for (line, name, value, content, status) in [
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", &*tag, "", 304),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", &weak, "", 304),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", &several, "", 304),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", "*", "", 304),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", "\"x\"", "", 200),
        ("GET /v1/endpoints/example.com/fra/192.0.2.99", "If-None-Match", "*", "", 404),
        ("GET /v1/overlays", "If-None-Match", "*", "", 304),
        ("GET /v1/overlays/diff", "If-None-Match", "*", "", 304),
        ("GET /v1/tokens", "If-None-Match", "*", "", 304),
        ("GET /v1/audit", "If-None-Match", "*", "", 304),
        ("GET /v1/openapi.json", "If-None-Match", "*", "", 304),
        ("GET /v1/health/example.com/fra/192.0.2.11", "If-None-Match", "*", "", 304),
        ("GET /v1/zones?limit=1", "If-None-Match", "*", "", 304),
        ("GET /v1/status", "If-None-Match", "*", "", 400),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", "x", "", 400),
        ("GET /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", &tag, "", 400),
        ("POST /v1/overlays", "If-Match", &tag, body, 400),
        ("POST /v1/overlays", "If-None-Match", "*", body, 400),
        ("POST /v1/reload", "If-Match", "*", "", 400),
        ("POST /v1/tokens", "If-None-Match", "*", r#"{"name":"a","role":"read"}"#, 400),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-None-Match", "*", r#"{"weight":9,"reason":"r"}"#, 400),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", &weak, r#"{"weight":9,"reason":"r"}"#, 412),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", &several, r#"{"weight":9,"reason":"r"}"#, 412),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", "unquoted", r#"{"weight":9,"reason":"r"}"#, 400),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", "", r#"{"weight":9,"reason":"r"}"#, 412),
        ("PATCH /v1/endpoints/example.com/fra/192.0.2.11", "If-Match", &tag, r#"{"weight":9,"reason":"r"}"#, 200),
    ] {
        let (found, head, reply) = raw(&server, line, &[(name, value)], content);
        assert_eq!(found, status, "{line} {name}: {value}: {reply}");
        match status {
            304 => assert!(head.contains("\r\netag: ") && reply.is_null(), "{line}: {head}"),
            400 => assert_eq!(reply["field"], name, "{line}: {reply}"),
            _ => {}
        }
    }
    // A tag in quotes that has a comma in it, and lists over several lines.
    let (status, _, reply) = raw(&server, &format!("DELETE {overlay}"), &[("If-Match", "\"a,b\""), ("If-Match", &of_overlay)], "");
    assert_eq!(status, 200, "{reply}");
}

#[test]
fn the_tag_of_an_overlay_is_of_what_was_laid() {
    let (server, rest) = start();
    let id = rest.lay("example.com/fra", json!({ "state": "drain" }));
    let path = format!("/v1/overlays/{id}");
    let tag = rest.tag(&path);
    let part = |tag: &str| tag.split_once('.').map(|(laid, _)| laid.to_owned()).expect("two parts");
    // While it is drained, its tag for readers moves; for changes it is what it was.
    rest.wait(id, |overlay| overlay["withdrawal"]["state"] == "drained");
    let now = rest.tag(&path);
    assert!(now != tag && part(&now) == part(&tag), "{tag} became {now}");
    assert_eq!(raw(&server, &format!("GET {path}"), &[("If-None-Match", &tag)], "").0, 200, "a reader sees that it is drained");
    assert_eq!(raw(&server, &format!("GET {path}"), &[("If-None-Match", &now)], "").0, 304);
    let change = |tag: &str| raw(&server, &format!("PATCH {path}"), &[("If-Match", tag)], r#"{"expires":"2h"}"#).0;
    assert_eq!(change(&tag), 200, "nobody has changed it");
    assert_eq!((change(&tag), change(&now)), (412, 412), "now somebody has");
}

#[test]
fn headers_that_mean_one_thing_are_there_once() {
    let (server, rest) = start();
    let body = r#"{"target":"example.com/fra","set":{"state":"up"},"reason":"r"}"#;
    for (name, other) in [("Idempotency-Key", "b"), ("Idempotency-Key", "a"), ("Meridian-Actor", "bob"), ("Content-Type", "application/json")] {
        let (status, _, problem) = raw(&server, "POST /v1/overlays", &[(name, "a"), (name, other)], body);
        assert_eq!((status, &problem["field"], &problem["type"]), (400, &json!(name), &json!("urn:meridian:bad-header")), "{problem}");
    }
    for name in ["Idempotency-Key", "Meridian-Actor"] {
        let (status, _, problem) = raw(&server, "POST /v1/overlays", &[(name, "a\tb")], body);
        assert_eq!((status, &problem["field"]), (400, &json!(name)), "{problem}");
    }
    assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]));
}

#[test]
fn filters_that_can_never_be_met_are_refused() {
    let (server, rest) = start();
    for (path, status, field, words) in [
        ("/v1/zones?state=servng", 422, "state", "found \"servng\", expected serving, kept or failed"),
        ("/v1/pools?health=ill", 422, "health", "expected healthy, degraded or critical"),
        ("/v1/endpoints?state=sideways", 422, "state", "expected unknown, up, degraded, suspect, down or ramp"),
        ("/v1/endpoints?forced=off", 422, "forced", "expected up, drain or down"),
        ("/v1/endpoints?usable=perhaps", 422, "usable", "found \"perhaps\", expected true or false"),
        ("/v1/policies?kind=geographic", 422, "kind", "expected failover, weighted, least-loaded"),
        ("/v1/monitors?kind=icmp", 422, "kind", "expected https, http, tcp, dns, grpc, exec, ping, prometheus, push, all, any, at_least or not"),
        ("/v1/zones/example.com/records?type=AAAAA", 422, "type", "found \"AAAAA\", expected a record type"),
        ("/v1/audit?outcome=ok", 422, "outcome", "expected done, "),
        ("/v1/audit?action=nope", 422, "action", "found \"nope\", expected overlay.lay, "),
        ("/v1/audit?action=overlay.la", 422, "action", "a part of one before its dot"),
        ("/v1/audit?since=1h&until=2h", 422, "since", "3600 s later than until"),
        ("/v1/audit?kind=changes", 422, "kind", "expected change, refused or health"),
        ("/v1/audit?order=up", 422, "order", "expected newest or oldest"),
        ("/v1/events?kind=x", 422, "kind", "expected change, refused or health"),
        ("/v1/zones?limit=many", 422, "limit", "found \"many\", expected a number from 1 to 1000"),
        ("/v1/zones?limit=1&limit=2", 400, "limit", "twice"),
        ("/v1/explain", 400, "name", "which this call needs"),
        ("/v1/pools?zone=exmaple.com", 404, "zone", "found no zone exmaple.com; did you mean example.com"),
        ("/v1/endpoints?pool=fra", 404, "pool", "did you mean example.com/fra"),
        ("/v1/endpoints?pool=example.com/fro", 404, "pool", "did you mean example.com/fra"),
        ("/v1/endpoints?region=es", 404, "region", "did you mean eu"),
        ("/v1/policies?zone=example.net", 404, "zone", "found no zone example.net"),
    ] {
        let (found, problem) = rest.call(Method::GET, path, None);
        assert_eq!((found, problem["field"].as_str()), (status, Some(field)), "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{path}: {problem}");
    }
    for path in [
        "/v1/zones?state=kept",
        "/v1/pools?zone=library",
        "/v1/zones/example.com/records?type=type65280",
        "/v1/audit?outcome=not-found",
        "/v1/audit?action=overlay",
        "/v1/audit?action=PUT%20/v1/overlays",
        "/v1/audit?since=2h&until=1h",
        "/v1/zones/example.com/names/app.example.com.",
    ] {
        assert!(rest.get(path).is_object(), "{path}");
    }
    for path in ["/v1/zones/%ff", "/v1/overlays/%c0%af", "/v1/endpoints/example.com/fra/%ff", "/v1/regions/%fe"] {
        let (status, head, problem) = raw(&server, &format!("GET {path}"), &[], "");
        assert_eq!((status, &problem["type"]), (400, &json!("urn:meridian:bad-path")), "{path}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{path}: {head}");
    }
}

#[test]
fn what_is_wrong_with_a_change_is_said() {
    let (server, rest) = start();
    let lay = |more: Value| {
        let mut body = json!({ "target": "example.com/fra", "set": { "state": "up" }, "reason": "r" });
        more.as_object().expect("members").iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let long = "x".repeat(1201);
    for (body, status, field, words) in [
        (lay(json!({ "starts": -5 })), 422, "starts", "found integer -5, expected unix seconds, or a duration from now"),
        (lay(json!({ "expires": "99999d" })), 422, "expires", "expected a duration from \"1s\" to \"3660d\""),
        (json!({ "target": "example.com/fra", "reason": "r" }), 422, "set", "found no set"),
        (lay(json!({ "reason": "a\u{0}b" })), 422, "reason", "found U+0000 at character 2"),
        (lay(json!({ "reason": "\u{1b}[2Jgone" })), 422, "reason", "found U+001B at character 1"),
        (lay(json!({ "reason": "pay \u{202e}eurt" })), 422, "reason", "found U+202E"),
        (lay(json!({ "reason": "a\u{2028}b" })), 422, "reason", "found U+2028"),
        (lay(json!({ "target": long })), 422, "target", "found 1201 characters, expected 1 to 1200"),
        (lay(json!({ "target": "example.com/fra\n" })), 404, "", "found no example.com/fra\n; did you mean example.com/fra"),
        (
            lay(json!({ "target": "example.com/fra/192.0.2.10", "set": { "disabled": true } })),
            422,
            "target",
            "is an endpoint; disabled is that of a rule",
        ),
        (lay(json!({ "target": "example.com/fra", "set": { "disabled": true } })), 422, "target", "is a pool; disabled is that of a rule"),
        (lay(json!({ "target": "example.com/fra", "set": { "weight": 5 } })), 422, "target", "is a pool; a weight is that of an endpoint"),
        (
            lay(json!({ "target": "example.com/fra/192.0.2.10", "set": { "ttl": 5 } })),
            422,
            "target",
            "is an endpoint; a TTL is that of a steered name",
        ),
        (lay(json!({ "target": "region:eu", "set": { "ttl": 5 } })), 422, "target", "region:eu is a region; a TTL"),
        (lay(json!({ "target": "example.com/app" })), 422, "target", "is a steered name; a state is that of an endpoint"),
        (lay(json!({ "target": "example.com/ns1" })), 422, "target", "is a name with records; a state is that of an endpoint"),
        (lay(json!({ "target": "example.com/policy:split/fra" })), 422, "target", "is a policy's child; a state is that of an endpoint"),
        (lay(json!({ "target": "example.com/geo/rule:geo=EU" })), 422, "target", "is a rule; a state is that of an endpoint"),
        (lay(json!({ "target": "example.net/fra" })), 404, "", "found no zone example.net (for example.net/fra)"),
        (
            lay(json!({ "target": "exmaple.com/fra", "set": { "ttl": 5 } })),
            404,
            "",
            "found no zone exmaple.com (for exmaple.com/fra); did you mean example.com",
        ),
        (lay(json!({ "target": "fra" })), 404, "", "found no fra; did you mean example.com/fra"),
        (lay(json!({ "target": "eu" })), 404, "", "found no eu; did you mean region:eu"),
        (lay(json!({ "target": "example.com/fro" })), 404, "", "found no example.com/fro; did you mean example.com/fra"),
    ] {
        let (found, problem) = rest.call(Method::POST, "/v1/overlays", Some(body.clone()));
        assert_eq!((found, problem["field"].as_str().unwrap_or("")), (status, field), "{body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{body}: {problem}");
    }
    for (path, body) in [
        ("/v1/reload", json!({ "reason": "a\nb" })),
        ("/v1/failback", json!({ "name": "example.com/app", "reason": "a\nb" })),
        ("/v1/tokens", json!({ "name": "a", "role": "read", "reason": "a\nb" })),
    ] {
        let (status, problem) = rest.call(Method::POST, path, Some(body));
        assert_eq!((status, &problem["field"]), (422, &json!("reason")), "{path}: {problem}");
    }
    // What was refused is kept, as far as it can be read.
    let refused = rest.get("/v1/audit?kind=refused&limit=1000");
    let kept = |entry: &&Value| entry["target"].as_str().is_some_and(|target| target.len() == 1200);
    assert_eq!(refused["entries"].as_array().expect("entries").iter().filter(kept).count(), 1);
    // What ended says how.
    let id = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 7 }));
    let (status, _) = rest.send(Method::DELETE, &format!("/v1/overlays/{id}"), None, Some(("Meridian-Actor", "ada")));
    assert_eq!(status, 200);
    let expected = format!("found no overlay {id} in effect: it was reverted by ada ");
    for method in [Method::GET, Method::DELETE] {
        let (status, problem) = rest.call(method, &format!("/v1/overlays/{id}"), None);
        assert!(status == 404 && problem["detail"].as_str().is_some_and(|detail| detail.starts_with(&expected)), "{problem}");
    }
    // After a restart as well; and not to those who may not know what it was about.
    let server = server.restart();
    let rest = Rest::new(&server);
    let (status, problem) = rest.call(Method::GET, &format!("/v1/overlays/{id}"), None);
    assert!(status == 404 && problem["detail"].as_str().is_some_and(|detail| detail.starts_with(&expected)), "{problem}");
    let made = rest.post("/v1/tokens", json!({ "name": "other", "role": "operate", "zones": ["example.net"] }));
    let confined = rest.with_token(made["token"].as_str().expect("a token"));
    let (status, problem) = confined.call(Method::GET, &format!("/v1/overlays/{id}"), None);
    assert_eq!((status, &problem["detail"]), (404, &json!(format!("found no overlay {id}"))));
}

#[test]
fn the_body_of_a_request_is_never_ignored() {
    let (server, rest) = start();
    let id = rest.lay("example.com/fra/192.0.2.10", json!({ "weight": 7 }));
    let overlay = format!("/v1/overlays/{id}");
    let delete = |path: &str, body: &str| {
        let (status, _, reply) = raw(&server, &format!("DELETE {path}"), &[], body);
        (status, reply)
    };
    for (path, body, status, what) in [
        (&*overlay, r#"{"dry_run":tru"#, 400, "urn:meridian:bad-json"),
        (&overlay, r#"{"dry-run":true}"#, 422, "urn:meridian:invalid"),
        (&overlay, "[]", 422, "urn:meridian:invalid"),
        (&format!("{overlay}?reason=a"), r#"{"dry_run":true}"#, 400, "urn:meridian:bad-body"),
        ("/v1/tokens/00000000", r#"{"why":"x"}"#, 422, "urn:meridian:invalid"),
    ] {
        let (found, problem) = delete(path, body);
        assert_eq!((found, problem["type"].as_str()), (status, Some(what)), "{path} {body}: {problem}");
    }
    let (status, reply) = delete(&overlay, r#"{"dry_run":true,"reason":"just looking"}"#);
    assert!(status == 200 && reply["withdrawn"].is_array(), "{reply}");
    assert_eq!(rest.overlay(id)["id"], id, "it is still there");
    assert_eq!(delete(&overlay, r#"{"reason":"it is warm"}"#).0, 200);
    let told = &rest.get("/v1/audit?action=overlay.revert&kind=change")["entries"][0];
    assert_eq!(told["reason"], "it is warm", "{told}");
    let token = rest.post("/v1/tokens", json!({ "name": "a", "role": "read" }))["id"].as_str().expect("an id").to_owned();
    assert_eq!(delete(&format!("/v1/tokens/{token}"), r#"{"reason":"left the team"}"#).0, 200);
    assert_eq!(rest.get("/v1/audit?action=token.revoke&kind=change")["entries"][0]["reason"], "left the team");
    let check = "POST /v1/health/example.com/fra/192.0.2.10/check";
    for (body, status) in [(r#"{"x":1}"#, 422), ("{}", 200)] {
        let (found, _, reply) = raw(&server, check, &[], body);
        assert_eq!(found, status, "{body}: {reply}");
    }
}

/// What comes back on one connection until it is closed.
fn exchange(server: &Meridian, octets: &str) -> String {
    let mut stream = TcpStream::connect(server.admin).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(octets.as_bytes()).expect("it is sent");
    let mut reply = String::new();
    // A connection that is closed while something is unread may end with a reset.
    let _ = stream.read_to_string(&mut reply);
    reply
}

#[test]
fn rfc9112_section_3_2_a_request_names_its_host_once() {
    let (server, _rest) = start();
    let token = server.token();
    for (line, hosts, status) in [
        ("GET /v1/status HTTP/1.1", "", 400),
        ("GET /healthz HTTP/1.1", "", 400),
        ("GET /v1/status HTTP/1.1", "Host: a\r\nHost: a\r\n", 400),
        ("GET /v1/status HTTP/1.1", "Host: a/b\r\n", 400),
        ("GET /v1/status HTTP/1.1", "Host: a b\r\n", 400),
        ("GET /v1/status HTTP/1.1", "Host:\r\n", 200),
        ("GET /v1/status HTTP/1.1", "Host: [::1]:8053\r\n", 200),
        ("GET http://a/v1/status HTTP/1.1", "Host: a\r\n", 200),
        ("GET /v1/status HTTP/1.0", "", 200),
    ] {
        let reply = exchange(&server, &format!("{line}\r\n{hosts}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"));
        assert_eq!(reply.split(' ').nth(1), Some(&*status.to_string()), "{line} {hosts:?}: {reply}");
        assert!(status == 200 || reply.contains("\"type\":\"urn:meridian:bad-header\"") && reply.contains("\"field\":\"Host\""), "{reply}");
    }
}

#[test]
fn rfc9112_section_6_3_of_two_lengths_chunks_count_and_nothing_follows() {
    let (server, rest) = start();
    let head = |more: &str| {
        format!("POST /v1/failback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{more}\r\n", server.token())
    };
    let body = r#"{"name":"example.com/geo"}"#;
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    // Whoever looked at the length alone would take the rest for a second request.
    let second = head("Content-Length: 0\r\n");
    for lengths in ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"] {
        let reply = exchange(&server, &format!("{}{chunk}{second}", head(lengths)));
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.matches("HTTP/1.1 ").count() == 1, "{lengths}: {reply}");
    }
    for bad in ["Content-Length: 3\r\nContent-Length: 4\r\n", "Transfer-Encoding: gzip\r\n", "Content-Length: +3\r\n"] {
        let reply = exchange(&server, &format!("{}{chunk}", head(bad)));
        assert!(reply.starts_with("HTTP/1.1 400 "), "{bad}: {reply}");
    }
    let many: String = (0..70).map(|n| format!("X-{n}: y\r\n")).collect();
    assert!(exchange(&server, &head(&many)).starts_with("HTTP/1.1 431 "));
    assert!(exchange(&server, "no request\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(rest.get("/v1/overlays")["overlays"], json!([]), "it serves on");
}
