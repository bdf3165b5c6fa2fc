//! What a token that opens little may not do to others: take their places, change their zones, learn of them, or pass as somebody else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::rest::Rest;

fn zone(name: &str, address: &str) -> String {
    format!(
        "[zone]\nname = \"{name}\"\nns = [\"ns.example.net.\"]\n[records]\nwww.A = \"{address}\"\n[pool.fra]\nendpoints = [\"192.0.2.10\", \"192.0.2.11\", \
         \"192.0.2.12\", \"192.0.2.13\", \"192.0.2.14\"]\n[steer.app]\nuse = \"fra\"\n"
    )
}

fn start() -> (Meridian, Rest) {
    let server = Meridian::start(&[
        ("zones/a.example.toml", &zone("a.example", "192.0.2.1")),
        ("zones/b.example.toml", &zone("b.example", "192.0.2.1")),
        ("zones/library.toml", "[pool.spare]\nendpoints = [\"192.0.2.99\"]\n"),
    ]);
    let rest = Rest::new(&server);
    (server, rest)
}

/// A token for `a.example`: its id, its secret.
fn token(rest: &Rest, role: &str) -> (String, String) {
    let made = rest.post("/v1/tokens", json!({ "name": "team", "role": role, "zones": ["a.example"] }));
    (made["id"].as_str().expect("an id").to_owned(), made["token"].as_str().expect("a token").to_owned())
}

/// A request on a connection that stays open.
fn open(server: &Meridian, token: &str, request: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.admin).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(format!("GET {request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a reply");
    assert!(line.contains(" 200 "), "{line}");
    reader
}

#[test]
fn who_holds_every_connection_open_keeps_nobody_out() {
    let (server, rest) = start();
    let (_, reader) = token(&rest, "read");
    drop(rest);
    let held: Vec<BufReader<TcpStream>> = (0..256).map(|_| open(&server, &reader, "/v1/zones")).collect();
    for _ in 0..3 {
        assert_eq!(server.command(&["status"]).0, 0, "whoever comes is let in");
        let mut probe = TcpStream::connect(server.admin).expect("a connection");
        probe.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut reply = String::new();
        probe.read_to_string(&mut reply).expect("a reply");
        assert!(reply.ends_with("ok\n"), "{reply}");
    }
    let gone = held.into_iter().filter(|held| {
        held.get_ref().set_nonblocking(true).expect("no waiting");
        // What is left of the reply, and then the end if there is one.
        let mut rest = Vec::new();
        held.get_ref().read_to_end(&mut rest).is_ok()
    });
    assert!(gone.count() > 0, "the idle gave way");
}

#[test]
fn streams_end_with_their_token_and_one_token_has_a_share() {
    let (server, rest) = start();
    let (id, reader) = token(&rest, "read");
    let mut stream = open(&server, &reader, "/v1/events");
    let read_to = |stream: &mut BufReader<TcpStream>, word: &str| {
        let mut seen = String::new();
        while !seen.contains(word) {
            assert!(stream.read_line(&mut seen).expect("it says something") > 0, "{seen}");
        }
        seen
    };
    read_to(&mut stream, "event: generation");
    assert_eq!(rest.call(Method::DELETE, &format!("/v1/tokens/{id}"), None).0, 200);
    rest.lay("a.example/fra/192.0.2.10", json!({ "weight": 3 }));
    // The last chunk of the reply.
    let seen = read_to(&mut stream, "\r\n0\r\n");
    assert!(seen.contains("event: end") && seen.contains("the token was revoked") && !seen.contains("overlay.lay"), "{seen}");

    let (_, reader) = token(&rest, "read");
    let mut streams: Vec<BufReader<TcpStream>> = (0..16).map(|_| open(&server, &reader, "/v1/events")).collect();
    let (status, problem) = rest.with_token(&reader).call(Method::GET, "/v1/events", None);
    assert!(status == 429 && problem["detail"].as_str().is_some_and(|detail| detail.contains("16 of one token")), "{problem}");
    streams.push(open(&server, &server.token(), "/v1/events"));
}

#[test]
fn a_reload_by_name_takes_and_tells_of_one_zone() {
    let (server, rest) = start();
    let team = rest.with_token(&token(&rest, "operate").1);
    let www = |name: &str| addresses(&server.ask(&format!("www.{name}."), hickory_proto::rr::RecordType::A))[0].to_string();
    let reload = || {
        let report = team.post("/v1/reload", json!({ "zone": "a.example" }));
        assert!(!report.to_string().contains("b.example") && !report.to_string().contains("broken"), "{report}");
        report
    };
    let changed = format!("{CONFIG}[diagnostics]\nid_server = \"x\"\n");
    for (at, (file, text)) in [
        ("meridian.toml", format!("{CONFIG}[defaults.steer]\nttl = 7\n")),
        ("meridian.toml", "broken = [".to_owned()),
        ("meridian.toml", changed),
        ("zones/b.example.toml", zone("b.example", "broken")),
        ("zones/library.toml", "[pool.spare]\nendpoints = [\"broken\"]\n".to_owned()),
        ("zones/other.toml", "[zone]\nname = \"c.example\"\nbroken = 1\n".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        server.write(file, &text);
        let address = format!("192.0.2.{}", at + 20);
        server.write("zones/a.example.toml", &zone("a.example", &address));
        let ttl = || rest.get("/v1/zones/b.example/names/app")["ttl"].clone();
        let before = ttl();
        let report = reload();
        assert_eq!((&report["failed"], &report["zones"][0]["outcome"]), (&json!(false), &json!("taken")), "{file}: {report}");
        assert_eq!((www("a.example"), www("b.example"), ttl()), (address, "192.0.2.1".to_owned(), before), "{file}");
        let told = report["problems"].to_string().contains("meridian.toml: warning: it has changed: `meridian reload` takes it");
        assert_eq!(told, file == "meridian.toml", "{report}");
        if file == "meridian.toml" {
            server.write(file, CONFIG);
        }
    }
    // Its own faults are told, and nothing was done.
    server.write("zones/a.example.toml", &zone("a.example", "wrong"));
    let report = reload();
    assert_eq!((&report["failed"], &report["changed"], &report["zones"][0]["outcome"]), (&json!(true), &json!(false), &json!("kept")), "{report}");
    assert!(report["problems"].to_string().contains("wrong"), "{report}");
    let entry = &rest.get("/v1/audit?action=reload")["entries"][0];
    assert_eq!((&entry["outcome"], &entry["kind"]), (&json!("failed"), &json!("change")), "{entry}");
    assert!(entry["detail"].as_str().is_some_and(|detail| detail.starts_with("nothing was changed; 1 could not be taken")), "{entry}");
    assert!(!rest.get("/v1/audit?outcome=failed&action=reload")["entries"].as_array().expect("entries").is_empty());
}

#[test]
fn a_reload_that_withdraws_much_is_asked_about() {
    let (server, rest) = start();
    server.write("zones/a.example.toml", &zone("a.example", "192.0.2.1").replace("\"192.0.2.10\", \"192.0.2.11\", \"192.0.2.12\", ", ""));
    let count = || rest.get("/v1/endpoints?zone=a.example")["endpoints"].as_array().map(Vec::len);
    let (code, out, err) = server.command(&["reload"]);
    assert!(code == 4 && err.contains("safety.confirm_above") && err.contains("say --yes"), "{code} {out}{err}");
    assert_eq!(count(), Some(5));
    assert_eq!(server.command(&["reload", "--dry-run"]).0, 0);
    let (code, out, err) = server.command(&["reload", "a.example", "--yes"]);
    assert!(code == 0 && out.contains("taken"), "{code} {out}{err}");
    assert_eq!(count(), Some(2));
}

#[test]
fn nobody_passes_as_the_program_and_names_are_kept_as_they_are() {
    let (server, rest) = start();
    let (id, secret) = token(&rest, "operate");
    let lay = |token: &str, owner: &str| {
        let args = ["weight", "a.example/fra/192.0.2.10", "3", "--reason", "r", "--token", token, "--owner", owner];
        server.command(&args)
    };
    for owner in ["meridian", "Signal", "admin"] {
        let (code, _, err) = lay(&secret, owner);
        assert!(code == 1 && err.contains("expected another name"), "{owner}: {code} {err}");
        let (status, problem) = rest.call(Method::POST, "/v1/tokens", Some(json!({ "name": owner, "role": "read" })));
        assert_eq!((status, &problem["field"]), (422, &json!("name")), "{owner}");
    }
    assert_eq!(lay(&server.token(), "admin").0, 0, "whose token it is");
    assert_eq!(lay(&secret, "josé 50%").0, 0);
    let entry = &rest.get(&format!("/v1/audit?token={id}&outcome=done"))["entries"][0];
    assert_eq!((&entry["actor"], &entry["token"]), (&json!("josé 50%"), &json!(id)), "{entry}");
    let (_, out, _) = server.command(&["audit", "--by-token", &id, "--kind", "change"]);
    assert!(out.contains("TOKEN") && out.contains(&id) && out.contains("josé") && !out.contains(" admin "), "{out}");
    assert!(out.lines().nth(1).is_some_and(|line| line.split_whitespace().nth(1).is_some_and(|time| time.ends_with('Z'))), "{out}");
}

#[test]
fn keys_of_another_actor_and_secrets_are_not_replayed() {
    let (server, rest) = start();
    let lay = |actor: &str| {
        let body = json!({ "target": "a.example/fra/192.0.2.10", "set": { "weight": 2 }, "reason": "r" });
        let request = crate::stand_in::http_client().post(format!("http://{}/v1/overlays", server.admin)).bearer_auth(server.token());
        let request = request.header("Idempotency-Key", "k").header("Meridian-Actor", actor).json(&body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { request.send().await.expect("a reply").status().as_u16() })
    };
    assert_eq!((lay("ada"), lay("ada"), lay("bob")), (201, 201, 422));
    let make = || rest.send(Method::POST, "/v1/tokens", Some(json!({ "name": "ci", "role": "read" })), Some(("Idempotency-Key", "t")));
    let ((first, made), (second, again)) = (make(), make());
    assert_eq!((first, second, &made["id"]), (201, 201, &again["id"]));
    assert!(made["token"].is_string() && again["token"].is_null() && again["warnings"].to_string().contains("is not kept"), "{again}");
    // Refused is refused until its cause is gone.
    let new = || {
        let body = json!({ "target": "a.example/new/192.0.2.77", "set": { "weight": 2 }, "reason": "r" });
        rest.send(Method::POST, "/v1/overlays", Some(body), Some(("Idempotency-Key", "n"))).0
    };
    assert_eq!(new(), 404);
    server.write(
        "zones/a.example.toml",
        &(zone("a.example", "192.0.2.1") + "[pool.new]\nendpoints = [\"192.0.2.77\", \"192.0.2.78\"]\n[steer.new]\nuse = \"new\"\n"),
    );
    assert_eq!(server.command(&["reload", "a.example"]).0, 0);
    assert_eq!((new(), new()), (201, 201));
}

#[test]
fn rfc2317_names_are_taken_as_they_are_printed() {
    let name = r"0\\04725.2.0.192.in-addr.arpa";
    let text = format!(
        "[zone]\nname = \"{name}\"\nns = [\"ns.example.net.\"]\n[records]\n1.PTR = \"a.example.\"\n\"s/t\".A = {{ ttl = 600, data = \"192.0.2.1\" }}\n"
    );
    let server = Meridian::start(&[("zones/reverse.toml", &text)]);
    let rest = Rest::new(&server);
    let zones = rest.get("/v1/zones");
    let printed = r"0\04725.2.0.192.in-addr.arpa";
    assert_eq!(zones["zones"][0]["name"].as_str(), Some(format!("{printed}.").as_str()), "{zones}");
    let records = rest.get("/v1/zones/0%2F25.2.0.192.in-addr.arpa/records?type=A");
    let id = records["records"][0]["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(id, format!(r"{printed}/s\047t/A"), "{records}");
    rest.lay(&id, json!({ "ttl": 60 }));
    for (zone, name) in [("0%2F25.2.0.192.in-addr.arpa", "s%2Ft"), ("0%5C04725.2.0.192.in-addr.arpa", "s%5C047t")] {
        let path = format!("/v1/zones/{zone}/records/{name}/A");
        assert_eq!(rest.get(&path)["ttl"], 60);
        let (status, reply) = rest.call(Method::PATCH, &path, Some(json!({ "ttl": 50, "reason": "r" })));
        assert_eq!((status, reply["overlay"]["target"].as_str()), (200, Some(&*id)), "{reply}");
        let overlay = reply["id"].as_u64().expect("an id");
        rest.revert(overlay);
    }
    for zone in ["0/25.2.0.192.in-addr.arpa", printed] {
        let made = rest.post("/v1/tokens", json!({ "name": "r", "role": "operate", "zones": [zone] }));
        assert_eq!((&made["zones"], &made["warnings"]), (&json!([printed]), &Value::Null), "{made}");
        let team = rest.with_token(made["token"].as_str().expect("a token"));
        let report = team.post("/v1/reload", json!({ "zone": zone }));
        assert_eq!(report["failed"], false, "{report}");
        team.lay(&id, json!({ "ttl": 40 }));
    }
    assert_eq!(server.command(&["ttl", &id, "30", "--reason", "r", "--expires", "2099-01-01T00:00:00Z"]).0, 1, "too far");
    let soon = r"2026-02-30T00:00:00Z";
    assert_eq!(server.command(&["ttl", &id, "30", "--reason", "r", "--starts", soon]).0, 2, "no such day");
}

/// Bodies that never come are no requests under way; and whose role allows nothing waits for them no longer than it must.
#[test]
fn who_never_sends_a_body_keeps_nobody_out() {
    let (server, rest) = start();
    let tokens = [
        rest.post("/v1/tokens", json!({ "name": "reader", "role": "read" })),
        rest.post("/v1/tokens", json!({ "name": "writer", "role": "operate" })),
    ];
    drop(rest);
    for made in tokens {
        let token = made["token"].as_str().expect("a token");
        let begin = || {
            let mut stream = TcpStream::connect(server.admin).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let head = format!(
                "POST /v1/reload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        };
        let mut held: Vec<TcpStream> = (0..300).map(|_| begin()).collect();
        for _ in 0..3 {
            let (code, out, err) = server.command(&["status"]);
            assert_eq!(code, 0, "whoever comes is let in: {out}{err}");
        }
        if made["role"] == "read" {
            let mut reply = String::new();
            BufReader::new(held.pop().expect("the newest")).read_line(&mut reply).expect("a reply");
            assert!(reply.contains(" 403 "), "{reply}");
        }
    }
}

#[test]
fn a_trace_ends_where_the_zones_of_the_token_end() {
    let own = zone("a.example", "192.0.2.1").replace("[records]\n", "[records]\nal.CNAME = \"app.b.example.\"\nown.CNAME = \"app\"\n");
    let server = Meridian::start(&[("zones/a.example.toml", &own), ("zones/b.example.toml", &zone("b.example", "192.0.2.1"))]);
    let rest = Rest::new(&server);
    rest.lay("b.example/fra/192.0.2.10", json!({ "state": "drain" }));
    let confined = rest.with_token(&token(&rest, "read").1);
    let told = |rest: &Rest, name: &str| rest.get(&format!("/v1/explain?name={name}"));
    let (all, theirs) = (told(&rest, "al.a.example"), told(&confined, "al.a.example"));
    assert_eq!(all["then"][0]["pools"][0]["pool"], "b.example/fra", "{all}");
    let answer = |told: &Value| told["answer"].as_array().map_or(0, Vec::len);
    assert_eq!((&theirs["then"], answer(&theirs)), (&Value::Null, answer(&all)), "the answer is everybody's: {theirs}");
    for secret in ["b.example/", "usable"] {
        assert!(!theirs.to_string().contains(secret), "{secret}: {theirs}");
    }
    assert_eq!(told(&confined, "own.a.example")["then"][0]["pools"][0]["pool"], "a.example/fra");
}
