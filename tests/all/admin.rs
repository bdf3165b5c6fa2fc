//! The admin listener over real sockets. What `control` does behind it is a stand-in's ([`crate::stand_in`]).

use std::time::Duration;

use meridian::admin::{Limits, MAX_BODY_LEN, Server, Token};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stand_in::{StandIn, TOKEN, http_client};

/// One call with the right token: status and JSON.
async fn call(server: &StandIn, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = http_client().request(method, server.url(path)).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("a reply");
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or(Value::Null))
}

/// Sends octets as they are and returns everything that comes back until the end.
async fn raw(server: &StandIn, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr).await.expect("connect");
    stream.write_all(request).await.expect("write");
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

fn drain(target: &str) -> Value {
    json!({ "target": target, "set": { "state": "drain" }, "reason": "maintenance", "expires": "2h" })
}

#[tokio::test]
async fn overlays_are_laid_listed_shown_and_reverted() {
    let server = StandIn::start().await;
    let response = http_client()
        .post(server.url("/v1/overlays"))
        .bearer_auth(TOKEN)
        .header("Meridian-Actor", "ada")
        .json(&drain("example.com/fra"))
        .send()
        .await
        .expect("a reply");
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["location"], "/v1/overlays/1");
    let laid: Value = response.json().await.expect("JSON");
    assert_eq!((&laid["id"], &laid["generation"], &laid["overlay"]["owner"]), (&json!(1), &json!(42), &json!("ada")));

    let (_, list) = call(&server, Method::GET, "/v1/overlays", None).await;
    assert_eq!(list["overlays"][0], laid["overlay"]);
    let (status, shown) = call(&server, Method::GET, "/v1/overlays/1", None).await;
    assert_eq!((status, &shown), (200, &laid["overlay"]));
    let (status, reverted) = call(&server, Method::DELETE, "/v1/overlays/1", None).await;
    assert_eq!((status, &reverted["overlay"]["id"], &reverted["generation"]), (200, &json!(1), &json!(43)));
    let (status, problem) = call(&server, Method::DELETE, "/v1/overlays/1", None).await;
    assert_eq!((status, &problem["type"]), (404, &json!("urn:meridian:not-found")));
    assert_eq!(call(&server, Method::GET, "/v1/overlays", None).await.1, json!({ "overlays": [] }));
}

#[tokio::test]
async fn refusals_become_problems() {
    let server = StandIn::start().await;
    let check = async |body: Value, status: u16, kind: &str, field: Value, near: Value| {
        let (found, problem) = call(&server, Method::POST, "/v1/overlays", Some(body.clone())).await;
        assert_eq!(found, status, "{body}: {problem}");
        assert_eq!(problem["type"], format!("urn:meridian:{kind}"), "{body}");
        assert_eq!(problem["status"], status, "{body}");
        assert_eq!((&problem["field"], &problem["near"]), (&field, &near), "{body}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    };
    let null = || Value::Null;
    check(drain("example.com/fro"), 404, "not-found", null(), json!(["example.com/fra"])).await;
    check(drain("disk/full"), 503, "store", null(), null()).await;
    check(drain("disk/hangs"), 503, "stalled", null(), null()).await;
    check(drain("stop/now"), 503, "stopping", null(), null()).await;
    let set = |set: Value| json!({ "target": "t", "set": set, "reason": "r" });
    check(json!({ "target": "t", "set": { "ttl": 5 }, "reason": "" }), 422, "invalid", json!("reason"), null()).await;
    check(set(json!({ "weight": 65536 })), 422, "invalid", json!("set.weight"), null()).await;
    check(set(json!({ "weight": -1 })), 422, "invalid", json!("set.weight"), null()).await;
    check(set(json!({ "state": "sideways" })), 422, "invalid", json!("set.state"), null()).await;
    check(set(json!({ "colour": "red" })), 422, "invalid", json!("set"), null()).await;
    check(json!({ "target": "t", "set": { "ttl": 5 } }), 422, "invalid", json!("reason"), null()).await;
    check(json!({ "target": "t", "set": { "ttl": 5 }, "reason": "r", "resaon": 1 }), 422, "invalid", json!("resaon"), null()).await;
    check(json!([]), 422, "invalid", null(), null()).await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_their_place() {
    let server = StandIn::start().await;
    let check = async |content_type: Option<&str>, body: &str, status: u16, detail: &str| {
        let mut request = http_client().post(server.url("/v1/overlays")).bearer_auth(TOKEN).body(body.to_owned());
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        let response = request.send().await.expect("a reply");
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.expect("JSON");
        assert!(problem["detail"].as_str().expect("detail").contains(detail), "{problem}");
    };
    let json = Some("application/json");
    check(json, "{\n  \"target\": x }", 400, "line 2 column 13").await;
    check(json, "", 400, "line 1 column 0").await;
    check(json, "{\"target\":", 400, "EOF").await;
    check(json, "{\"target\":\"t\",\"set\":{\"ttl\":5},\"reason\":\"r\"} x", 400, "trailing").await;
    check(json, "{\"target\":\"t\",\"target\":\"u\",\"set\":{\"ttl\":5},\"reason\":\"r\"}", 422, "found target twice").await;
    check(json, &"[".repeat(10_000), 400, "EOF").await;
    check(json, &"{\"set\":".repeat(2_000), 422, "found set, expected one of weight").await;
    check(json, "[\"t\", {\"ttl\": 5}, \"r\"]", 422, "expected an object").await;
    check(Some("application/json; charset=utf-8"), "{", 400, "EOF").await;
    check(Some("application/json; x=y; Charset=\"UTF-8\""), "{", 400, "EOF").await;
    check(Some("application/json; charset=utf-16"), "{}", 415, "charset=utf-16").await;
    check(Some("application/json;charset=\"latin1\""), "{}", 415, "expected application/json").await;
    check(Some("text/plain"), "{}", 415, "text/plain").await;
    check(Some("application/x-www-form-urlencoded"), "target=t", 415, "expected application/json").await;
    check(None, "{}", 415, "found none").await;
    for (coding, status) in [("identity", 422), ("gzip", 415), ("identity, br", 415)] {
        let request = http_client().post(server.url("/v1/overlays")).bearer_auth(TOKEN).header("Content-Type", "application/json");
        let response = request.header("Content-Encoding", coding).body("{}").send().await.expect("a reply");
        let accepted = response.headers().get("accept-encoding").cloned();
        assert_eq!((response.status().as_u16(), accepted.is_some()), (status, status == 415), "{coding}");
    }
}

#[tokio::test]
async fn nothing_passes_without_the_token() {
    let server = StandIn::start().await;
    let client = http_client();
    let paths = ["/v1/status", "/v1/overlays", "/v1/overlays/1", "/v1/reload", "/v1/failback", "/v1/explain?name=a", "/v1/nothing", "/nothing", "/"];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::HEAD, Method::OPTIONS, Method::PUT] {
            let response = client.request(method.clone(), server.url(path)).send().await.expect("a reply");
            assert_eq!(response.status(), 401, "{method} {path}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"meridian\"");
            assert!(response.headers().get("access-control-allow-origin").is_none(), "no CORS");
        }
    }
    let refused = async |header: &str| {
        let reply = raw(&server, format!("GET /v1/status HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n").as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 401 "), "{header:?}: {reply}");
    };
    for header in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer wrong\r\n",
        &format!("Authorization: Bearer {TOKEN}x\r\n"),
        &format!("Authorization: Bearer {}\r\n", &TOKEN[..TOKEN.len() - 1]),
        &format!("Authorization: Basic {TOKEN}\r\n"),
        &format!("Authorization: {TOKEN}\r\n"),
        &format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n"),
        &format!("X-Token: {TOKEN}\r\n"),
        &format!("Cookie: token={TOKEN}\r\n"),
    ] {
        refused(header).await;
    }
    for query in ["token", "access_token", "Authorization"] {
        let response = client.get(server.url(&format!("/v1/status?{query}={TOKEN}"))).send().await.expect("a reply");
        assert_eq!(response.status(), 401, "{query}");
    }
    let reply =
        raw(&server, format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nauthorization:  bearer   {TOKEN} \r\nConnection: close\r\n\r\n").as_bytes())
            .await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "case and spaces do not matter: {reply}");
}

#[tokio::test]
async fn without_a_token_file_v1_stays_closed_and_metrics_open() {
    let server = StandIn::with(Limits::default(), Token::none()).await;
    assert_eq!(call(&server, Method::GET, "/v1/status", None).await.0, 401);
    let response = http_client().get(server.url("/metrics")).send().await.expect("a reply");
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_the_token() {
    let server = StandIn::start().await;
    for path in [
        "/healthz/../v1/status",
        "/metrics/../v1/overlays",
        "//v1/status",
        "/V1/status",
        "/%76%31/status",
        "/metrics/",
        "/metrics%00",
        "/healthz;/v1/status",
        "/./healthz",
        "http://x/v1/status",
        "/v1/overlays/%2e%2e/status",
    ] {
        let reply = raw(&server, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 401 ") || reply.starts_with("HTTP/1.1 400 "), "{path}: {reply}");
        // With the token they are nothing either.
        if path != "http://x/v1/status" {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
            let reply = raw(&server, request.as_bytes()).await;
            assert!(reply.starts_with("HTTP/1.1 404 ") || reply.starts_with("HTTP/1.1 400 "), "{path}: {reply}");
        }
    }
}

#[tokio::test]
async fn overlay_ids_are_plain_numbers() {
    let server = StandIn::start().await;
    for id in ["0", "7", "-1", "+1", "1.0", "0x1", "a", "%31%00", "18446744073709551616", "1%2f2"] {
        let (status, problem) = call(&server, Method::GET, &format!("/v1/overlays/{id}"), None).await;
        assert_eq!((status, &problem["type"]), (404, &json!("urn:meridian:not-found")), "{id}");
    }
}

#[tokio::test]
async fn wrong_methods_and_paths_are_said_to_be() {
    let server = StandIn::start().await;
    for (method, path, status, allow) in [
        (Method::PUT, "/v1/overlays", 405, "GET,HEAD,POST"),
        (Method::OPTIONS, "/v1/overlays", 405, "GET,HEAD,POST"),
        (Method::POST, "/v1/overlays/1", 405, "GET,HEAD,DELETE,PATCH"),
        (Method::GET, "/v1/reload", 405, "POST"),
        (Method::TRACE, "/v1/status", 405, "GET,HEAD"),
        (Method::GET, "/v1/", 404, ""),
        (Method::GET, "/v2/status", 404, ""),
        (Method::POST, "/metrics", 405, "GET,HEAD"),
    ] {
        let response = http_client().request(method.clone(), server.url(path)).bearer_auth(TOKEN).send().await.expect("a reply");
        assert_eq!(response.status(), status, "{method} {path}");
        let found = response.headers().get("allow").map_or("", |value| value.to_str().expect("ASCII"));
        assert_eq!(found, allow, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
    }
    let response = http_client().head(server.url("/v1/status")).bearer_auth(TOKEN).send().await.expect("a reply");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.bytes().await.expect("no body").is_empty());
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let server = StandIn::start().await;
    let authorised = format!("Host: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    // Announced: refused before a byte of it is sent.
    let announced = format!("POST /v1/overlays HTTP/1.1\r\n{authorised}Content-Length: 999999999999\r\n\r\n");
    let reply = raw(&server, announced.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    // Not announced: refused when it passes the limit.
    let mut chunked = format!("POST /v1/overlays HTTP/1.1\r\n{authorised}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    for _ in 0..=MAX_BODY_LEN / 1024 {
        chunked.extend_from_slice(chunk.as_bytes());
    }
    let reply = raw(&server, &chunked).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert_eq!(server.refused.lock().expect("entries").iter().filter(|entry| entry.outcome == "too-large").count(), 2);
    // As much as fits is read.
    let (status, _) = call(&server, Method::POST, "/v1/overlays", Some(json!({ "x": "y".repeat(MAX_BODY_LEN - 100) }))).await;
    assert_eq!(status, 422);
    // A head without end is cut off.
    let reply = raw(&server, format!("GET /v1/status HTTP/1.1\r\n{}", "X: y\r\n".repeat(20_000)).as_bytes()).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431 "), "{reply}");
    assert_eq!(call(&server, Method::GET, "/v1/status", None).await.0, 200, "still serving");
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let short = Duration::from_millis(50);
    let server = StandIn::with(Limits { head: short, body: short, ..Limits::default() }, Token::given(TOKEN)).await;
    let head = format!(
        "POST /v1/overlays HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{"
    );
    let reply = raw(&server, head.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 408 "), "a body that does not come: {reply}");
    let kept = server.refused.lock().expect("entries").pop().expect("an entry");
    assert_eq!((kept.action.as_str(), kept.outcome.as_str(), kept.actor.as_str()), ("overlay.lay", "too-slow", "admin"));
    let reply = raw(&server, b"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthor").await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 408 "), "a head that does not end: {reply}");
    assert_eq!(raw(&server, b"").await, "", "a connection that says nothing");
}

#[tokio::test]
async fn silent_connections_do_not_lock_others_out() {
    let limits = Limits { head: Duration::from_millis(100), connections: 2, ..Limits::default() };
    let server = StandIn::with(limits, Token::given(TOKEN)).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(server.addr).await.expect("connect"));
    }
    assert_eq!(call(&server, Method::GET, "/v1/status", None).await.0, 200);
}

#[tokio::test]
async fn headers_cannot_carry_more_than_a_name() {
    let server = StandIn::start().await;
    let lay = async |actor: &[u8]| {
        let body = drain("example.com/fra").to_string();
        let mut request = format!("POST /v1/overlays HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n").into_bytes();
        request.extend_from_slice(format!("Content-Type: application/json\r\nContent-Length: {}\r\nMeridian-Actor: ", body.len()).as_bytes());
        request.extend_from_slice(actor);
        request.extend_from_slice(format!("\r\n\r\n{body}").as_bytes());
        raw(&server, &request).await
    };
    for bad in [&b""[..], b"\x1b[31mada", b"ada\0", b"ada\x7f", b"\xff\xfe", "x".repeat(101).as_bytes(), b"ada\nX: y\x01"] {
        let reply = lay(bad).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{bad:?}: {reply}");
    }
    // A line end starts another header; it never becomes part of the name or of the reply.
    let reply = lay(b"ada\r\nSet-Cookie: evil").await;
    assert!(reply.starts_with("HTTP/1.1 201 ") && !reply.contains("evil") && reply.contains("\"owner\":\"ada\""), "{reply}");
    // What comes back in a problem is quoted.
    let reply =
        raw(&server, format!("GET /%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
    assert!(reply.starts_with("HTTP/1.1 404 ") && !reply.contains("\nSet-Cookie"), "{reply}");
}

#[tokio::test]
async fn reload_takes_a_zone_everything_or_nothing_at_all() {
    let server = StandIn::start().await;
    for (body, status, outcome) in [
        (None, 200, json!("taken")),
        (Some(json!({})), 200, json!("taken")),
        (Some(json!({ "all": true })), 200, json!("unchanged")),
        (Some(json!({ "zone": "broken.example" })), 200, json!("kept")),
        (Some(json!({ "zone": "nowhere.example" })), 404, Value::Null),
        (Some(json!({ "zones": [] })), 422, Value::Null),
        (Some(json!({ "all": "yes" })), 422, Value::Null),
    ] {
        let (found, report) = call(&server, Method::POST, "/v1/reload", body.clone()).await;
        assert_eq!((found, &report["zones"][0]["outcome"]), (status, &outcome), "{body:?}: {report}");
    }
}

#[tokio::test]
async fn failback_and_explain_answer() {
    let server = StandIn::start().await;
    let (status, body) = call(&server, Method::POST, "/v1/failback", Some(json!({ "name": "example.com/www" }))).await;
    assert_eq!((status, body), (200, json!({ "generation": 42, "released": 1 })));
    let (status, body) = call(&server, Method::POST, "/v1/failback", Some(json!({ "name": "example.com/x" }))).await;
    assert_eq!((status, &body["near"]), (404, &json!(["example.com/www"])));
    let (status, body) = call(&server, Method::GET, "/v1/explain?name=app.example.com&type=AAAA&client=2001:db8::/32", None).await;
    assert_eq!((status, &body["text"]), (200, &json!("app.example.com AAAA for 2001:db8::/32\n")));
    let (_, body) = call(&server, Method::GET, "/v1/explain?name=app.example.com", None).await;
    assert_eq!((&body["type"], &body["client"]), (&json!("A"), &json!("127.0.0.1")), "a type and the asker by default");
    for (query, status) in
        [("", 400), ("?type=A", 400), ("?name=app.example.com&clinet=x", 400), ("?name=other.example", 404), ("?name=a&name=b", 400)]
    {
        assert_eq!(call(&server, Method::GET, &format!("/v1/explain{query}"), None).await.0, status, "{query}");
    }
}

#[tokio::test]
async fn status_and_metrics_show_the_counters() {
    use meridian::answer::{Outcome, Reply, Transport};
    let server = StandIn::start().await;
    let counters = server.registry.thread();
    let (zone_slot, pool_slot) = (server.registry.assign("zone example.com."), server.registry.assign("pool example.com/fra"));
    for _ in 0..3 {
        counters.received(Transport::Udp, 1);
        let reply = Reply {
            len: 12,
            rcode: meridian::dns::Rcode::NOERROR,
            truncated: false,
            question_end: 12,
            opt_len: 0,
            kind: meridian::answer::Kind::Answer,
            subject: 0,
            zone_slot: Some(zone_slot),
            pool_slot: Some(pool_slot),
            policy_slot: Some(server.registry.assign("policy example.com/policy:split")),
            cookie: meridian::answer::CookieState::None,
            audience: meridian::answer::Audience::Everybody,
        };
        counters.answered(Transport::Udp, &Outcome::Reply(reply));
    }
    let (_, status) = call(&server, Method::GET, "/v1/status", None).await;
    assert_eq!((&status["zones"][0]["queries"], &status["pools"][0]["queries"]), (&json!(3), &json!(3)));
    assert_eq!(status["pools"][0]["endpoints"][1]["last_error"], "connect: connection \"refused\"");

    let response = http_client().get(server.url("/metrics")).send().await.expect("a reply");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.expect("text");
    for line in [
        "meridian_generation 41",
        "meridian_build_info{version=\"0.1.0\"} 1",
        "meridian_degraded_reasons 1",
        "meridian_queries_total{transport=\"udp\"} 3",
        "meridian_queries_total{transport=\"tcp\"} 0",
        "meridian_replies_total{transport=\"udp\",rcode=\"NOERROR\"} 3",
        "meridian_zone_queries_total{zone=\"example.com.\"} 3",
        "meridian_pool_queries_total{pool=\"example.com/fra\"} 3",
        "meridian_policy_queries_total{policy=\"example.com/policy:split\"} 3",
        "meridian_pool_health{pool=\"example.com/fra\",health=\"degraded\"} 1",
        "meridian_endpoint_state{endpoint=\"example.com/fra/192.0.2.11\",state=\"down\"} 1",
        "meridian_endpoint_usable{endpoint=\"example.com/fra/192.0.2.11\"} 0",
        "meridian_endpoint_last_check_duration_seconds{endpoint=\"example.com/fra/192.0.2.10\"} 0.012",
        "meridian_overlays{state=\"active\"} 0",
        "meridian_checks 0",
        "meridian_admin_replies_total{class=\"2xx\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    well_formed(&text);
    let documented = include_str!("../../docs/metrics.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
}

/// Every sample belongs to the family announced above it, no family comes twice, every value is a number.
fn well_formed(text: &str) {
    let (mut family, mut seen) = ("", std::collections::HashSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let name = rest.split(' ').nth(1).expect("a name");
            if rest.starts_with("HELP") {
                assert!(seen.insert(name), "{name} twice");
                family = name;
            }
            assert_eq!(name, family);
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        // A histogram has samples of three kinds, all others one.
        let suffixes: &[&str] = if text.contains(&format!("# TYPE {family} histogram\n")) { &["_bucket", "_sum", "_count"] } else { &[""] };
        let suffix = name.split('{').next().and_then(|name| name.strip_prefix(family));
        assert!(suffix.is_some_and(|suffix| suffixes.contains(&suffix)), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.ends_with('\n'));
}

#[tokio::test]
async fn health_and_readiness_are_free_on_loopback() {
    let server = StandIn::start().await;
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ok, generation 41\n")] {
        let response = http_client().get(server.url(path)).send().await.expect("a reply");
        assert_eq!((response.status().as_u16(), response.text().await.expect("text").as_str()), (200, text));
    }
}

#[tokio::test]
async fn a_busy_port_is_reported() {
    let server = StandIn::start().await;
    let error = Server::bind(server.addr).await.expect_err("busy");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_frees_the_port() {
    let server = StandIn::start().await;
    let addr = server.addr;
    let mut idle = TcpStream::connect(addr).await.expect("connect");
    assert_eq!(call(&server, Method::GET, "/v1/status", None).await.0, 200);
    server.stop().await;
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    Server::bind(addr).await.expect("free again");
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    use std::io::Read;
    let server = crate::meridian::Meridian::start(&[("zones/example.com.toml", "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n")]);
    let idle: Vec<std::net::TcpStream> = (0..300).map(|_| std::net::TcpStream::connect(server.admin).expect("connected")).collect();
    // All places are theirs, and more of them wait.
    let rest = crate::rest::Rest::new(&server);
    for _ in 0..20 {
        assert_eq!(rest.call(Method::GET, "/v1/status", None).0, 200);
    }
    assert_eq!(server.command(&["status"]).0, 0);
    let mut oldest = &idle[0];
    oldest.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    assert_eq!(oldest.read(&mut [0; 8]).expect("its end"), 0);
}
