//! Monitors that follow from others, and those that explain and have no vote.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use meridian::config::Severity;
use serde_json::{Value, json};

use crate::meridian::Meridian;
use crate::origin::closed_port;
use crate::rest::Rest;

/// A pool for each of these: its name, its monitors in TOML.
const POOLS: [(&str, &str); 10] = [
    ("any", "\"any\""),
    ("all", "\"all\""),
    ("two", "\"two\""),
    ("not-b", "\"not-b\""),
    ("not-a", "\"not-a\""),
    ("nested", "\"nested\""),
    ("advised", "[\"a\", \"hint\"]"),
    ("only-hints", "\"hint\""),
    ("mixed", "[\"a\", \"any\"]"),
    ("unheard", "\"not-silent\""),
];

fn zone(ports: [u16; 3]) -> String {
    let mut text = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
                    [defaults.monitor]\ninterval = \"1s\"\nfast = \"500ms\"\nfall = 1\nrise = 1\n"
        .to_owned();
    for (name, port) in ["a", "b", "c"].iter().zip(ports) {
        text += &format!("[monitor.{name}]\ntcp = true\nport = {port}\n");
    }
    text += &format!("[monitor.hint]\ntcp = true\nport = {}\nadvisory = true\n", ports[1]);
    text += "[monitor.any]\nany = [\"a\", \"b\"]\n[monitor.all]\nall = [\"a\", \"b\"]\n\
             [monitor.two]\nat_least = { count = 2, of = [\"a\", \"b\", \"c\"] }\n\
             [monitor.silent]\npush = true\n[monitor.not-silent]\nnot = \"silent\"\n[monitor.not-b]\nnot = \"b\"\n[monitor.not-a]\nnot = \"a\"\n[monitor.nested]\nany = [\"all\", \"not-b\"]\n";
    for (at, (name, monitor)) in POOLS.iter().enumerate() {
        text += &format!("[pool.p-{name}]\nendpoints = [\"127.0.0.1\"]\nmonitor = {monitor}\n[steer.p{at}]\nuse = \"p-{name}\"\n");
    }
    text
}

fn wait(rest: &Rest, pool: &str, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let endpoint = rest.endpoint(&format!("example.com/p-{pool}/127.0.0.1"));
        if endpoint["state"] == state {
            return endpoint;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{pool} should be {state}: {endpoint}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn calculated_monitors_follow_from_others() {
    let open = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (a, c) = (open(), open());
    let server = Meridian::start(&[("zones/example.com.toml", &zone([port(&a), closed_port().port(), port(&c)]))]);
    let rest = Rest::new(&server);
    for (pool, state, how) in [
        ("any", "up", json!("any of (a up, b down)")),
        ("all", "down", json!("all of (a up, b down)")),
        ("two", "up", json!("at least 2 of (a up, b down, c up)")),
        ("not-b", "up", json!("not b down")),
        ("not-a", "down", json!("not a up")),
        ("nested", "up", json!("any of (all of (a up, b down), not b down)")),
        ("advised", "up", json!("a up")),
        ("only-hints", "up", json!("nothing that votes")),
        ("mixed", "up", json!("all of (a up, any of (a up, b down))")),
        // What nobody knows is not down, whichever way round.
        ("unheard", "unknown", json!("not silent unknown")),
    ] {
        // The first results come in one after the other.
        wait(&rest, pool, state);
        let began = Instant::now();
        while wait(&rest, pool, state)["calculated"] != how {
            assert!(began.elapsed() < Duration::from_secs(20), "{pool}: {} should be {how}", wait(&rest, pool, state)["calculated"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let advised = wait(&rest, "advised", "up");
    assert_eq!((&advised["advice"], &advised["last_error"]), (&json!(["hint: connect: connection refused"]), &Value::Null));
    let (code, out, err) = server.command(&["health", "example.com/p-advised/127.0.0.1"]);
    assert!(code == 0 && out.contains("hint: connect: connection refused"), "{out}{err}");
    // What comes of one check is told of each endpoint as what it is there.
    let told = |pool: &str| {
        let log = rest.get(&format!("/v1/audit?kind=health&order=oldest&limit=1000&target=example.com/p-{pool}/127.0.0.1"));
        log["entries"].as_array().expect("entries").clone()
    };
    let words = |entry: &Value| -> Vec<String> {
        ["action", "monitor", "before", "after"].map(|key| entry[key].as_str().unwrap_or_default().to_owned()).to_vec()
    };
    let of_not = told("not-b");
    assert_eq!(of_not.iter().map(words).collect::<Vec<_>>(), [["health", "b", "unknown", "up"]], "{of_not:#?}");
    assert_eq!(of_not[0]["detail"], "monitor b is down; connect: connection refused");
    let of_hint = told("advised").into_iter().find(|entry| entry["monitor"] == "hint").expect("told");
    assert_eq!(words(&of_hint), ["health.monitor", "hint", "unknown", "down"], "{of_hint}");
    for entry in told("any") {
        let is_of_b = entry["monitor"] == "b";
        assert_eq!(entry["action"], if is_of_b { "health.monitor" } else { "health" }, "{entry}");
        assert_eq!(entry["after"], if is_of_b { "down" } else { "up" }, "{entry}");
    }
    let history = rest.get("/v1/health/example.com/p-any/127.0.0.1")["history"].clone();
    let of: Vec<&Value> = history.as_array().expect("steps").iter().map(|step| &step["of"]).collect();
    assert!(of.len() == 2 && of.contains(&&json!("monitor")) && of.contains(&&json!("endpoint")), "{history}");
    let (code, out, err) = server.command(&["health", "example.com/p-any/127.0.0.1"]);
    assert!(code == 0 && out.contains("monitor b") && !out.contains("last error"), "{out}{err}");
    let (code, out, err) = server.command(&["health", "--pool", "example.com/p-any"]);
    assert!(code == 0 && out.contains("any of (a up, b down)"), "what fails of it is marked as a part: {out}{err}");
    // Why it is down, where no check of it says so.
    for (pool, why) in [("not-a", "not a: it is up"), ("all", "b: connect: connection refused")] {
        assert_eq!(wait(&rest, pool, "down")["last_error"], why);
    }
    assert_eq!(wait(&rest, "any", "up")["last_error"], Value::Null, "it is up");
    drop(c);
    let two = wait(&rest, "two", "down");
    assert_eq!(two["last_error"], "1 of 3 are up, 2 must be: b: connect: connection refused; c: connect: connection refused");
    drop(a);
    for (pool, state) in [("any", "down"), ("not-a", "up"), ("nested", "up"), ("advised", "down"), ("only-hints", "up")] {
        wait(&rest, pool, state);
    }
}

#[test]
fn what_cannot_be_calculated_is_an_error_with_its_line() {
    let deep: String = (0..9).map(|n| format!("[monitor.d{n}]\nnot = \"d{}\"\n", n + 1)).collect::<String>() + "[monitor.d9]\nnot = \"a\"\n";
    for (monitors, uses, expected) in [
        ("[monitor.m]\nany = [\"a\", \"b\"]".to_owned(), "m", ""),
        ("[monitor.m]\nany = \"a\"".to_owned(), "m", ""),
        (
            "[monitor.m]\nall = [\"a\", \"x\"]".to_owned(),
            "m",
            "zones/example.com.toml:13: monitor \"m\": all: found \"x\", but there is no such monitor",
        ),
        ("[monitor.m]\nnot = \"m\"".to_owned(), "m", "zones/example.com.toml:12: monitor \"m\": it follows from itself: m -> m"),
        ("[monitor.m]\nnot = \"n\"\n[monitor.n]\nany = [\"a\", \"m\"]".to_owned(), "m", "monitor \"m\": it follows from itself: m -> n -> m"),
        (deep, "d0", "monitor \"d0\": it is more than 8 calculations deep"),
        ("[monitor.m]\nany = []".to_owned(), "m", "found 0 monitors, expected 1 to 16"),
        ("[monitor.m]\nany = [\"a\", \"a\"]".to_owned(), "m", "found \"a\" twice"),
        ("[monitor.m]\nat_least = { count = 3, of = [\"a\", \"b\"] }".to_owned(), "m", "expected 1 to 2"),
        ("[monitor.m]\nat_least = { of = [\"a\", \"b\"] }".to_owned(), "m", "count is missing"),
        ("[monitor.m]\nat_least = { count = 1 }".to_owned(), "m", "of is missing"),
        ("[monitor.m]\nany = [\"a\"]\nnot = \"b\"".to_owned(), "m", "found not beside any"),
        (
            "[monitor.m]\nany = [\"a\"]\ninterval = \"5s\"".to_owned(),
            "m",
            "interval belongs to monitors that check; this one follows from others (any)",
        ),
        (
            "[monitor.m]\nany = [\"a\", \"hint\"]\n[monitor.hint]\ntcp = true\nport = 1\nadvisory = true".to_owned(),
            "m",
            "which is advisory: it has no vote",
        ),
        ("[monitor.m]\nany = [\"a\"]\nadvisory = true".to_owned(), "m", "advisory belongs to monitors that check"),
        ("[defaults.monitor]\nadvisory = true".to_owned(), "a", "advisory is said by each monitor"),
    ] {
        let zone = format!(
            "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
             [monitor.a]\ntcp = true\nport = 1\n[monitor.b]\ntcp = true\nport = 2\n{monitors}\n\
             [pool.p]\nendpoints = [\"192.0.2.1\"]\nmonitor = {uses:?}\n[steer.www]\nuse = \"p\"\n"
        );
        let files = meridian::config::MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
        let loaded = meridian::config::load(&files, Path::new("meridian.toml"));
        let found: Vec<String> = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new(), "{monitors}"),
            expected => assert!(found.iter().any(|text| text.contains(expected)), "{monitors}: {expected}: {found:#?}"),
        }
        let circles = found.iter().filter(|text| text.contains("follows from itself")).count();
        assert!(circles <= 1, "a circle is told once: {found:#?}");
    }
}
