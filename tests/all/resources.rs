//! Reading what is served thing by thing, changing it with `PATCH`, and events as they come: against the real program, from outside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
    mail.A = { ttl = 600, data = [\"192.0.2.25\", \"192.0.2.26\"] }\nmail.TXT = \"a b\"\n\"@\".MX = \"10 mail\"\n\"*.wild\".A = \"192.0.2.99\"\n\
    [region]\neu = { location = [50.1, 8.7] }\n\
    [monitor.web]\nhttp = \"/healthz\"\nhost = \"app.example.com\"\ninterval = \"1s\"\ntimeout = \"500ms\"\nfast = \"1s\"\nfall = 1\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [{ address = \"192.0.2.10\", weight = 4, name = \"a\" }, \"192.0.2.11\", \"2001:db8::10\"]\n\
    [pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
    [pool.checked]\nmonitor = \"web\"\nendpoints = [\"127.0.0.1\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 90, iad = 10 }\n\
    [steer.www]\nuse = \"split\"\nttl = 60\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"checked\", \"iad\"]\nfailback = { after = \"5m\" }\n";

fn start() -> (Meridian, Rest) {
    let other = "[zone]\nname = \"example.net\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[pool.one]\nendpoints = [\"192.0.2.77\"]\n[steer.www]\nuse = \"one\"\n";
    let server = Meridian::start(&[("zones/example.com.toml", ZONE), ("zones/example.net.toml", other)]);
    let rest = Rest::new(&server);
    (server, rest)
}

/// The members `name` of a list's items.
fn all(list: &Value, key: &str, name: &str) -> Vec<String> {
    list[key].as_array().unwrap_or_else(|| panic!("{list}")).iter().map(|item| item[name].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn lists_show_what_is_served_with_filters_and_pages() {
    let (_server, rest) = start();
    for (path, key, ids) in [
        ("/v1/zones", "zones", &["example.com.", "example.net."][..]),
        ("/v1/zones?name=net", "zones", &["example.net."]),
        ("/v1/zones/Example.COM./names", "names", &["app.example.com.", "www.example.com."]),
        ("/v1/zones/example.com/records?type=a", "records", &["mail.example.com.", "ns1.example.com.", "*.wild.example.com."]),
        ("/v1/zones/example.com/records?name=mail&type=TXT", "records", &["mail.example.com."]),
        ("/v1/zones/example.com/records?name=nothing", "records", &[]),
        ("/v1/policies?zone=example.com", "policies", &["app", "split"]),
        ("/v1/policies?kind=weighted", "policies", &["split"]),
    ] {
        assert_eq!(all(&rest.get(path), key, "name"), ids, "{path}");
    }
    for (path, key, ids) in [
        ("/v1/pools", "pools", &["example.com/checked", "example.com/fra", "example.com/iad", "example.net/one"][..]),
        ("/v1/pools?region=eu", "pools", &["example.com/fra"]),
        ("/v1/pools?zone=example.net", "pools", &["example.net/one"]),
        (
            "/v1/endpoints?pool=example.com/fra",
            "endpoints",
            &["example.com/fra/192.0.2.10", "example.com/fra/192.0.2.11", "example.com/fra/2001:db8::10"],
        ),
        ("/v1/endpoints?region=eu&limit=1", "endpoints", &["example.com/fra/192.0.2.10"]),
        ("/v1/endpoints?zone=example.net&usable=true&state=up", "endpoints", &["example.net/one/192.0.2.77"]),
        ("/v1/endpoints?forced=drain", "endpoints", &[]),
        ("/v1/regions", "regions", &["region:eu"]),
        ("/v1/monitors", "monitors", &["example.com/monitor:web"]),
    ] {
        assert_eq!(all(&rest.get(path), key, "id"), ids, "{path}");
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rest.get(&format!("/v1/endpoints?limit=2{cursor}"));
        seen.extend(all(&page, "endpoints", "id"));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all(&rest.get("/v1/endpoints"), "endpoints", "id"));
    for (path, status) in [
        ("/v1/endpoints?limit=0", 422),
        ("/v1/endpoints?kind=x", 400),
        ("/v1/regions?zone=example.com", 400),
        ("/v1/endpoints?colour=red", 400),
        ("/v1/endpoints?usable=perhaps", 422),
        ("/v1/zones/nowhere.example/records", 404),
        ("/v1/zones/nowhere.example/names", 404),
        ("/v1/zones/nowhere.example", 404),
        ("/v1/pools/example.com/fro", 404),
        ("/v1/endpoints/example.com/fra/192.0.2.99", 404),
        ("/v1/regions/us", 404),
        ("/v1/policies/example.com/nothing", 404),
        ("/v1/zones/example.com/names/nothing", 404),
        ("/v1/zones/example.com/records/mail/AAAA", 404),
        ("/v1/health/example.com/fra/192.0.2.99", 404),
    ] {
        assert_eq!(rest.call(Method::GET, path, None).0, status, "{path}");
    }
    assert_eq!(rest.call(Method::GET, "/v1/pools/example.com/fro", None).1["near"], json!(["example.com/fra"]));
}

#[test]
fn single_things_tell_what_the_files_say_and_what_is_in_effect() {
    let (_server, rest) = start();
    let record = json!({ "id": "example.com/mail/A", "name": "mail.example.com.", "type": "A", "ttl": 600, "file_ttl": 600, "data": ["192.0.2.25", "192.0.2.26"] });
    assert_eq!(rest.get("/v1/zones/example.com/records/mail/A"), record);
    assert_eq!(rest.get("/v1/zones/example.com/records/@/MX")["data"], json!(["10 mail.example.com."]));
    let name = rest.get("/v1/zones/example.com/names/www");
    assert_eq!((&name["root"], &name["ttl"]), (&json!("example.com/policy:split"), &json!({ "max": 60, "min": 10 })), "{name}");
    assert!(name["types"].as_array().expect("types").contains(&json!("AAAA")));
    let policy = rest.get("/v1/policies/example.com/split");
    assert_eq!((&policy["kind"], &policy["mode"], &policy["children"][0]["weight"]), (&json!("weighted"), &json!("coherent"), &json!(90)));
    assert_eq!(rest.get("/v1/policies/example.com/app")["failback"], "after 5 min");
    let endpoint = json!({ "id": "example.com/fra/192.0.2.10", "target": "192.0.2.10", "name": "a", "pool": "example.com/fra", "region": "eu", "state": "up", "usable": true, "weight": 4, "file_weight": 4, "monitors": [] });
    assert_eq!(rest.get("/v1/endpoints/example.com/fra/192.0.2.10"), endpoint);
    let pool = rest.get("/v1/pools/example.com/fra");
    assert_eq!((&pool["location"], &pool["health"], &pool["endpoints"][0]), (&json!([50.1, 8.7]), &json!("healthy"), &endpoint));
    assert_eq!(rest.get("/v1/regions/eu")["pools"], json!(["example.com/fra"]));
    let monitor = &rest.get("/v1/monitors")["monitors"][0];
    assert_eq!((&monitor["kind"], &monitor["host"], &monitor["port"]), (&json!("http"), &json!("app.example.com"), &json!(80)));
    assert_eq!(rest.get("/v1/zones/example.com")["state"], "serving");
}

#[test]
fn a_patch_lays_an_overlay_if_the_thing_is_as_it_was_read() {
    let (server, rest) = start();
    let patch = |path: &str, body: Value, tag: Option<&str>| rest.send(Method::PATCH, path, Some(body), tag.map(|tag| ("If-Match", tag)));
    let endpoint = "/v1/endpoints/example.com/fra/192.0.2.10";
    let tag = rest.tag(endpoint);
    assert_eq!(rest.send(Method::GET, endpoint, None, Some(("If-None-Match", &tag))).0, 304);
    let (status, laid) = patch(endpoint, json!({ "weight": 9, "reason": "test" }), Some(&tag));
    assert_eq!(
        (status, &laid["overlay"]["target"], &laid["overlay"]["set"]),
        (200, &json!("example.com/fra/192.0.2.10"), &json!({ "weight": 9 })),
        "{laid}"
    );
    assert_eq!(rest.get(endpoint)["weight"], 9);
    assert_eq!(rest.get(endpoint)["file_weight"], 4);
    // The tag is spent.
    let (status, problem) = patch(endpoint, json!({ "weight": 7, "reason": "test" }), Some(&tag));
    assert_eq!((status, &problem["type"]), (412, &json!("urn:meridian:precondition-failed")), "{problem}");
    assert_ne!(rest.tag(endpoint), tag);
    for (path, body, target) in [
        (endpoint, json!({ "state": "up", "reason": "r" }), "example.com/fra/192.0.2.10"),
        ("/v1/pools/example.com/fra", json!({ "state": "up", "reason": "r", "expires": "1h" }), "example.com/fra"),
        ("/v1/regions/eu", json!({ "state": "up", "reason": "r" }), "region:eu"),
        ("/v1/policies/example.com/split/children/iad", json!({ "weight": 50, "reason": "r" }), "example.com/policy:split/iad"),
        ("/v1/zones/example.com/names/www", json!({ "ttl": 20, "reason": "r" }), "example.com/www"),
        ("/v1/zones/example.com/records/mail/A", json!({ "ttl": 60, "reason": "r" }), "example.com/mail/A"),
        ("/v1/zones/example.com/records/@/MX", json!({ "ttl": 60, "reason": "r" }), "example.com/@/MX"),
    ] {
        let (status, laid) = patch(path, body, Some("*"));
        assert_eq!((status, &laid["overlay"]["target"]), (200, &json!(target)), "{path}: {laid}");
    }
    assert_eq!(rest.get("/v1/policies/example.com/split")["children"][1]["weight"], 50);
    assert_eq!(rest.get("/v1/zones/example.com/names/www")["ttl"], json!({ "max": 20, "min": 10 }));
    assert_eq!(rest.get("/v1/zones/example.com/records/mail/A")["ttl"], 60);
    assert_eq!(server.ask("mail.example.com", RecordType::A).answers[0].ttl, 60);
    for (path, body, status) in [
        (endpoint, json!({ "ttl": 5, "reason": "r" }), 422),
        (endpoint, json!({ "weight": 5, "state": "up", "reason": "r" }), 422),
        (endpoint, json!({ "reason": "r" }), 422),
        (endpoint, json!({ "weight": 5 }), 422),
        (endpoint, json!({ "weight": 65536, "reason": "r" }), 422),
        ("/v1/pools/example.com/fra", json!({ "weight": 5, "reason": "r" }), 422),
        ("/v1/pools/example.com/fro", json!({ "state": "up", "reason": "r" }), 404),
        ("/v1/zones/example.com/names/www", json!({ "ttl": 61, "reason": "r" }), 422),
        // There are records, but it is not steered.
        ("/v1/zones/example.com/names/ns1", json!({ "ttl": 20, "reason": "r" }), 404),
        ("/v1/zones/example.com", json!({ "ttl": 61, "reason": "r" }), 405),
    ] {
        assert_eq!(patch(path, body.clone(), None).0, status, "{path} {body}");
    }
    let refused = &rest.get("/v1/audit?kind=refused&outcome=precondition-failed")["entries"][0];
    assert_eq!(
        (&refused["action"], &refused["target"], &refused["reason"]),
        (&json!("overlay.lay"), &json!("example.com/fra/192.0.2.10"), &json!("test"))
    );
}

#[test]
fn of_many_who_read_the_same_one_changes_it() {
    let (server, rest) = start();
    let path = "/v1/policies/example.com/split";
    let tag = rest.tag(path);
    let (admin, token) = (server.admin, server.token());
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let each = (0..8).map(|weight| {
            let (tag, token) = (tag.clone(), token.clone());
            scope.spawn(move || {
                let body = json!({ "weight": 20 + weight, "reason": "race" }).to_string();
                let head = format!("PATCH {path}/children/iad HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nIf-Match: {tag}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let mut stream = TcpStream::connect(admin).expect("a connection");
                stream.write_all(head.as_bytes()).expect("it is sent");
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).expect("a status");
                line.split(' ').nth(1).expect("a status").parse().expect("a number")
            })
        });
        each.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

/// Many send the same change on the condition of one tag: statuses and tags of the replies.
fn race(server: &Meridian, method: &str, path: &str, tag: &str, body: &str) -> Vec<(u16, Option<String>)> {
    let (admin, token) = (server.admin, server.token());
    std::thread::scope(|scope| {
        let each = (0..8).map(|_| {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nIf-Match: {tag}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            scope.spawn(move || {
                let mut stream = TcpStream::connect(admin).expect("a connection");
                stream.write_all(head.as_bytes()).expect("it is sent");
                let lines: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let status = lines[0].split(' ').nth(1).expect("a status").parse().expect("a number");
                (status, lines.iter().find_map(|line| line.strip_prefix("etag: ").map(str::to_owned)))
            })
        });
        each.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("no panic")).collect()
    })
}

#[test]
fn a_tag_is_good_for_one_change_of_whatever_it_is_of() {
    let (server, rest) = start();
    let overlay = format!("/v1/overlays/{}", rest.lay("example.com/fra/192.0.2.11", json!({ "weight": 7 })));
    for (method, path, body) in [
        ("PATCH", "/v1/endpoints/example.com/fra/192.0.2.10", r#"{"state":"up","reason":"race"}"#),
        ("PATCH", "/v1/pools/example.com/iad", r#"{"state":"up","reason":"race"}"#),
        ("PATCH", "/v1/regions/eu", r#"{"state":"drain","reason":"race"}"#),
        ("PATCH", "/v1/zones/example.com/names/www", r#"{"ttl":20,"reason":"race"}"#),
        ("PATCH", "/v1/zones/example.com/records/mail/A", r#"{"ttl":20,"reason":"race"}"#),
        ("PATCH", &*overlay, r#"{"expires":"3h","reason":"race"}"#),
        ("DELETE", &*overlay, ""),
    ] {
        let tag = rest.tag(path);
        let replies = race(&server, method, path, &tag, body);
        let of = |wanted: u16| replies.iter().filter(|(status, _)| *status == wanted).count();
        // Once it is gone there is nothing to compare.
        let gone = if method == "DELETE" { of(404) } else { 0 };
        assert_eq!((of(200), of(412) + gone), (1, 7), "{method} {path}: {replies:?}");
        if method == "PATCH" {
            let now = rest.tag(path);
            assert_ne!(now, tag, "{path}");
            let (status, problem) = rest.send(Method::PATCH, path, serde_json::from_str(body).ok(), Some(("If-Match", &tag)));
            assert_eq!(status, 412, "{problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&now)), "{problem} names {now}");
            assert!(race(&server, method, path, &tag, body).iter().all(|reply| *reply == (412, Some(now.clone()))), "{path}");
        }
    }
    // A list of nothing matches nothing (RFC 9110 §5.6.1).
    for none in ["", " "] {
        let (status, problem) = rest.send(Method::PATCH, "/v1/regions/eu", Some(json!({ "state": "up", "reason": "r" })), Some(("If-Match", none)));
        assert_eq!(status, 412, "{problem}");
    }
}

#[test]
fn records_come_in_canonical_order_page_by_page() {
    let mut text = "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n".to_owned();
    for number in 0..500 {
        text.push_str(&format!("h{number} A 192.0.2.1\nh{number} TXT x\na.h{number} A 192.0.2.2\n"));
    }
    let server = Meridian::start(&[("zones/example.org.zone", &text)]);
    let rest = Rest::new(&server);
    let path = "/v1/zones/example.org/records";
    let whole = |limit: usize, filter: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = rest.get(&format!("{path}?limit={limit}{filter}{cursor}"));
            let ids = all(&page, "records", "id");
            assert!(ids.len() <= limit, "{ids:?}");
            found.extend(ids);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    let in_one_size = whole(1000, "");
    assert_eq!(in_one_size.len(), 1503);
    assert_eq!(in_one_size[..4], ["example.org/@/NS", "example.org/@/SOA", "example.org/h0/A", "example.org/h0/TXT"]);
    assert_eq!(in_one_size[4..7], ["example.org/a.h0/A", "example.org/h1/A", "example.org/h1/TXT"]);
    assert_eq!(whole(7, ""), in_one_size);
    assert_eq!(whole(333, "&type=TXT").len(), 500);
    assert_eq!(whole(1, "&name=h7"), ["example.org/h7/A", "example.org/h7/TXT"]);
    // A cursor of what is gone stands between its neighbours; one that is none leads to nothing.
    let behind = |cursor: &str| all(&rest.get(&format!("{path}?limit=1&cursor={cursor}")), "records", "id");
    assert_eq!(behind("example.org/h0gone/A"), ["example.org/h1/A"]);
    assert_eq!(behind("example.org/h0/MX"), ["example.org/h0/TXT"]);
    assert_eq!(behind("example.net/h0/A"), [""; 0]);
    assert_eq!(behind("nonsense"), [""; 0]);
}

#[test]
fn a_request_that_is_sent_twice_is_made_once() {
    let (_server, rest) = start();
    let lay = |key: &str, target: &str| {
        let body = json!({ "target": target, "set": { "state": "up" }, "reason": "r" });
        rest.send(Method::POST, "/v1/overlays", Some(body), Some(("Idempotency-Key", key)))
    };
    let first = lay("a", "example.com/fra");
    assert_eq!(first.0, 201);
    assert_eq!(lay("a", "example.com/fra"), first);
    assert_eq!(rest.get("/v1/overlays")["overlays"].as_array().map(Vec::len), Some(1));
    let (status, problem) = lay("a", "example.com/iad");
    assert_eq!((status, &problem["field"]), (422, &json!("Idempotency-Key")));
    assert_eq!(lay("b", "example.com/fra").0, 201);
    assert_eq!(lay("c", "example.com/nothing").0, 404);
    assert_eq!(lay("c", "example.com/nothing").0, 404, "what was refused is judged anew");
    assert_eq!(lay("c", "example.com/fra").0, 422, "but a key is for one request");
    assert_eq!(lay(&"x".repeat(201), "example.com/fra").0, 400);
    let other = rest.with_token(rest.post("/v1/tokens", json!({ "name": "o", "role": "operate" }))["token"].as_str().expect("a token"));
    let body = json!({ "target": "example.com/fra", "set": { "state": "up" }, "reason": "r" });
    let (status, laid) = other.send(Method::POST, "/v1/overlays", Some(body), Some(("Idempotency-Key", "a")));
    assert!(status == 201 && laid != first.1, "keys are each token's own: {laid}");
    // Where there is nothing to do, a key is not looked at: neither one that was used, nor will it have been.
    for (method, path, key, status) in [
        (Method::DELETE, "/v1/overlays", "a", 405),
        (Method::POST, "/v1/status", "a", 405),
        (Method::PATCH, "/v1/nothing", "a", 404),
        (Method::POST, "/v1/status", "d", 405),
    ] {
        let (found, problem) = rest.send(method.clone(), path, Some(json!({})), Some(("Idempotency-Key", key)));
        assert_eq!(found, status, "{method} {path}: {problem}");
    }
    assert_eq!(lay("d", "example.com/fra").0, 201);
}

/// A stream of events that is being read.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Meridian, query: &str, more: &str) -> Events {
        let mut stream = TcpStream::connect(server.admin).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{more}\r\n", server.token());
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut events = Events(BufReader::new(stream));
        assert!(events.line().starts_with("HTTP/1.1 200 "));
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).expect("a line") > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next event of a name: its id and data.
    fn next(&mut self, name: &str) -> (Option<u64>, Value) {
        let (mut id, mut found) = (None, false);
        loop {
            let line = self.line();
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().ok();
            } else if let Some(text) = line.strip_prefix("event: ") {
                found = text == name;
            } else if let Some(text) = line.strip_prefix("data: ").filter(|_| found) {
                return (id, serde_json::from_str(text).expect("JSON"));
            } else if line.starts_with("data: ") {
                id = None;
            }
        }
    }
}

#[test]
fn events_come_as_they_happen_and_a_reader_comes_back_to_where_it_was() {
    let (server, rest) = start();
    let mut events = Events::open(&server, "", "");
    let (_, now) = events.next("generation");
    let id = rest.lay("example.com/fra", json!({ "state": "up" }));
    let (first, change) = events.next("change");
    assert_eq!((&change["action"], &change["target"]), (&json!("overlay.lay"), &json!("example.com/fra")));
    rest.revert(id);
    let (second, change) = events.next("change");
    assert_eq!(change["action"], "overlay.revert");
    assert!(second > first && first.is_some());
    rest.refused("example.com/fro", json!({ "state": "up" }));
    assert_eq!(events.next("refused").1["outcome"], "not-found");
    drop(events);
    let mut again = Events::open(&server, "?kind=change", &format!("Last-Event-ID: {}\r\n", first.expect("an id")));
    assert_eq!(again.next("change"), (second, change));
    // Somebody who has seen more than there is, of another state file, is told, and goes on with what comes.
    let mut ahead = Events::open(&server, "?after=999999", "");
    let (_, gap) = ahead.next("gap");
    assert_eq!(gap["after"], 999_999);
    let newest = gap["newest"].as_u64();
    assert!(newest >= second, "{gap}");
    rest.lay("example.com/fra", json!({ "state": "up" }));
    assert!(ahead.next("change").0 > newest);
    let mut generation = Events::open(&server, "", "");
    assert!(generation.next("generation").1["generation"].as_u64() > now["generation"].as_u64());
    assert_eq!(rest.call(Method::GET, "/v1/events?colour=red", None).0, 400);
    assert_eq!(rest.send(Method::GET, "/v1/events", None, Some(("Last-Event-ID", "x"))).0, 400);
}

#[test]
fn an_endpoint_tells_what_its_checks_said_before() {
    let (_server, rest) = start();
    // Nobody listens on port 80 here, or whoever does knows no /healthz: it goes down at the first check.
    let began = Instant::now();
    let health = loop {
        let health = rest.get("/v1/health/example.com/checked/127.0.0.1");
        if health["history"].as_array().is_some_and(|history| !history.is_empty()) {
            break health;
        }
        assert!(began.elapsed() < PATIENCE, "{health}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let step = &health["history"][0];
    assert_eq!(
        (&step["from"], &step["to"], &step["check"]),
        (&json!("unknown"), &json!("down"), &json!("http://app.example.com/healthz at 127.0.0.1:80"))
    );
    assert!(step["why"].is_string() && step["at"].is_u64());
    assert_eq!((&health["endpoint"]["state"], &health["checks"]), (&json!("down"), &json!(["http://app.example.com/healthz at 127.0.0.1:80"])));
    assert_eq!(rest.get("/v1/health/example.com/fra/192.0.2.10")["history"], json!([]));
    // The log finds it by its endpoint, its pool and its zone, and so does whoever sees this zone alone.
    let token = rest.post("/v1/tokens", json!({ "name": "pager", "role": "read", "zones": ["example.com"] }))["token"].clone();
    for target in ["example.com/checked/127.0.0.1", "example.com/checked", "example.com"] {
        for rest in [&rest, &rest.with_token(token.as_str().expect("a token"))] {
            let found = rest.get(&format!("/v1/audit?kind=health&order=oldest&target={target}"));
            let entry = &found["entries"][0];
            assert_eq!((&entry["target"], &entry["check"]), (&json!("example.com/checked/127.0.0.1"), &step["check"]), "{target}: {found}");
        }
    }
}

#[test]
fn confined_tokens_see_and_change_their_zones_alone() {
    let (_server, rest) = start();
    let made = rest.post("/v1/tokens", json!({ "name": "net", "role": "operate", "zones": ["example.net"] }));
    let confined = rest.with_token(made["token"].as_str().expect("a token"));
    assert_eq!(all(&confined.get("/v1/endpoints"), "endpoints", "id"), ["example.net/one/192.0.2.77"]);
    assert_eq!(all(&confined.get("/v1/zones"), "zones", "name"), ["example.net."]);
    assert_eq!((confined.get("/v1/regions")["regions"].clone(), confined.get("/v1/monitors")["monitors"].clone()), (json!([]), json!([])));
    let status = |method: Method, path: &str, body: Option<Value>| confined.call(method, path, body).0;
    for path in ["/v1/zones/example.com", "/v1/zones/example.com/records", "/v1/pools/example.com/fra", "/v1/health/example.com/fra/192.0.2.10"] {
        assert_eq!(status(Method::GET, path, None), 404, "{path}");
    }
    let up = || Some(json!({ "state": "up", "reason": "r" }));
    assert_eq!(status(Method::PATCH, "/v1/pools/example.com/fra", up()), 403);
    assert_eq!(status(Method::PATCH, "/v1/regions/eu", up()), 403);
    assert_eq!(status(Method::PATCH, "/v1/pools/example.net/one", up()), 200);
}
