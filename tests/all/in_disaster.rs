//! What operators do while everything is down, or kept because too much is: their word counts, and what changes nothing is let through.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use reqwest::Method;
use serde_json::json;

use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::rest::Rest;

fn zone(pools: &str, more: &str) -> String {
    format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[records]\nplain.A = \"192.0.2.9\"\n[monitor.told]\npush = true\n{pools}\
         [steer.www]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\n{more}"
    )
}

/// Believes whatever is said, however much of it comes at once.
fn serve(zone: &str) -> Meridian {
    Meridian::start(&[("meridian.toml", &format!("{CONFIG}[health]\nfreeze = false\n")), ("zones/example.com.toml", zone)])
}

/// Says of endpoints what they are.
fn say(rest: &Rest, state: &str, endpoints: &[&str]) {
    let reports: Vec<_> = endpoints.iter().map(|one| json!({ "target": format!("example.com/{one}"), "state": state })).collect();
    rest.post("/v1/signals", json!({ "reports": reports }));
}

fn answers(server: &Meridian) -> Vec<String> {
    let mut all: Vec<String> = addresses(&server.ask("www.example.com.", RecordType::A)).iter().map(IpAddr::to_string).collect();
    all.sort();
    all
}

fn until(server: &Meridian, what: &str, expected: &[&str]) {
    let began = Instant::now();
    while answers(server) != expected {
        assert!(began.elapsed() < PATIENCE, "{what}: {:?}, expected {expected:?}", answers(server));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_an_operator_takes_out_is_no_last_good() {
    let pools = "[pool.a]\nmonitor = \"told\"\nendpoints = [\"192.0.2.11\", \"192.0.2.12\"]\n[pool.b]\nmonitor = \"told\"\nendpoints = [\"192.0.2.13\", \"192.0.2.14\"]\n";
    let server = serve(&zone(pools, "all_down = \"last-good\"\n"));
    let rest = Rest::new(&server);
    say(&rest, "up", &["a/192.0.2.11", "a/192.0.2.12", "b/192.0.2.13", "b/192.0.2.14"]);
    until(&server, "all is well", &["192.0.2.11", "192.0.2.12"]);
    say(&rest, "down", &["a/192.0.2.12", "b/192.0.2.13", "b/192.0.2.14"]);
    until(&server, "one is left", &["192.0.2.11"]);
    say(&rest, "down", &["a/192.0.2.11"]);
    let began = Instant::now();
    while rest.endpoint("example.com/a/192.0.2.11")["state"] != "down" {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    until(&server, "nothing is", &["192.0.2.11"]);
    let pool = rest.force("example.com/a", json!({ "state": "down" }));
    until(&server, "the site burned down", &["192.0.2.13", "192.0.2.14"]);
    let server = server.restart();
    let rest = Rest::new(&server);
    until(&server, "over a restart", &["192.0.2.13", "192.0.2.14"]);
    // Of all that is withdrawn, all is better than nothing.
    let other = rest.force("example.com/b", json!({ "state": "drain" }));
    until(&server, "everything is", &["192.0.2.11", "192.0.2.12"]);
    rest.revert(other);
    rest.revert(pool);
    until(&server, "it is meant again", &["192.0.2.11"]);
    rest.force("example.com/a/192.0.2.11", json!({ "state": "drain" }));
    until(&server, "one endpoint", &["192.0.2.12"]);
}

#[test]
fn reloads_and_promotions_that_withdraw_nothing_are_let_through_while_something_is_kept() {
    let endpoints = |from: u8| (from..from + 3).map(|end| format!("\"192.0.2.{end}\"")).collect::<Vec<_>>().join(", ");
    let pools =
        format!("[pool.a]\nmonitor = \"told\"\nendpoints = [{}]\n[pool.b]\nmonitor = \"told\"\nendpoints = [{}]\n", endpoints(1), endpoints(4));
    let text = zone(&pools, "[safety]\nmax_withdrawn = \"50%\"\n");
    let server = serve(&text);
    let rest = Rest::new(&server);
    say(&rest, "up", &["a/192.0.2.1", "a/192.0.2.2", "a/192.0.2.3", "b/192.0.2.4", "b/192.0.2.5", "b/192.0.2.6"]);
    until(&server, "all is well", &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    say(&rest, "down", &["a/192.0.2.1", "a/192.0.2.2", "a/192.0.2.3", "b/192.0.2.4"]);
    until(&server, "the other pool", &["192.0.2.5", "192.0.2.6"]);
    let kept = || rest.get("/v1/status")["pools"].to_string().contains("\"kept_in\":");
    let began = Instant::now();
    while !kept() {
        assert!(began.elapsed() < PATIENCE, "{}", rest.get("/v1/status"));
        std::thread::sleep(Duration::from_millis(20));
    }
    server.write("zones/example.com.toml", &text.replace("192.0.2.9", "192.0.2.99"));
    let (code, out, err) = server.command(&["reload"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(kept());
    let weight = rest.lay("example.com/b/192.0.2.5", json!({ "weight": 7 }));
    let (status, reply) = rest.call(Method::POST, &format!("/v1/overlays/{weight}/promote"), Some(json!({})));
    assert_eq!(status, 200, "{reply}");
    // What really takes something out is still refused.
    server.write("zones/example.com.toml", &text.replace("\"192.0.2.5\", ", ""));
    assert_eq!(server.command(&["reload"]).0, 4);
}
