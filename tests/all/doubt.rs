//! What health does when it cannot trust its own eyes: everything fails at once, references, endpoints that come and go. Real listeners that
//! close and open, the real program, real queries.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::A;
use serde_json::Value;

use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::rest::Rest;

/// Listeners on one port of several loopback addresses.
struct Origins {
    addresses: Vec<SocketAddr>,
    open: Vec<Option<TcpListener>>,
}

impl Origins {
    /// `127.NET.0.1` and on.
    fn open(net: u8, count: u8) -> Origins {
        let all = |port: u16| (1..=count).map(|host| TcpListener::bind((IpAddr::from([127, net, 0, host]), port))).collect::<Result<Vec<_>, _>>();
        let free = || {
            let first = TcpListener::bind((IpAddr::from([127, net, 0, 1]), 0)).ok()?;
            let port = first.local_addr().ok()?.port();
            drop(first);
            all(port).ok()
        };
        let open: Vec<_> = (0..50).find_map(|_| free()).expect("a port that is free on all of them").into_iter().map(Some).collect();
        let addresses = open.iter().flatten().map(|listener| listener.local_addr().expect("an address")).collect();
        Origins { addresses, open }
    }

    fn close(&mut self, which: &[usize]) {
        which.iter().for_each(|at| self.open[*at] = None);
    }

    fn open_again(&mut self, which: &[usize]) {
        which.iter().for_each(|at| self.open[*at] = Some(TcpListener::bind(self.addresses[*at]).expect("its port is still free")));
    }

    fn ip(&self, at: usize) -> IpAddr {
        self.addresses[at].ip()
    }
}

/// Two regions of two, one pool each; every check at a port decides at once.
fn zone(origins: &Origins) -> String {
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| origins.ip(at));
    format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region.eu]\n[region.us]\n\
         [monitor.tcp]\ntcp = true\nport = {}\ninterval = \"1s\"\nfast = \"500ms\"\ntimeout = \"500ms\"\nfall = 2\nrise = 1\n\
         [defaults.monitor]\n\
         [pool.eu]\nregion = \"eu\"\nmonitor = \"tcp\"\nendpoints = [\"{a}\", \"{b}\"]\n\
         [pool.us]\nregion = \"us\"\nmonitor = \"tcp\"\nendpoints = [\"{c}\", \"{d}\"]\n\
         [steer.app]\npolicy = \"failover\"\nto = [\"eu\", \"us\"]\n",
        origins.addresses[0].port()
    )
    .replace("[defaults.monitor]\n", "")
}

fn start(origins: &Origins, health: &str) -> (Meridian, Rest) {
    let files = [("meridian.toml", format!("{CONFIG}{health}")), ("zones/example.com.toml", zone(origins))];
    let meridian = Meridian::start(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

/// Waits until it is so; shows the status if that takes too long.
fn wait(rest: &Rest, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = rest.get("/v1/status");
        if is_so(&status) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// States of all endpoints, in order of their addresses.
fn states(status: &Value) -> Vec<String> {
    let pools = status["pools"].as_array().expect("pools").iter();
    let endpoints = pools.flat_map(|pool| pool["endpoints"].as_array().expect("endpoints"));
    let mut all: Vec<_> =
        endpoints.map(|endpoint| (endpoint["target"].to_string(), endpoint["state"].as_str().expect("a state").to_owned())).collect();
    all.sort();
    all.into_iter().map(|(_, state)| state).collect()
}

fn is_frozen(status: &Value) -> bool {
    status["health"]["frozen_since"].is_u64()
}

fn all_are(status: &Value, state: &str) -> bool {
    states(status).iter().all(|found| found == state)
}

#[test]
fn when_all_fails_at_once_nothing_is_withdrawn_until_it_has_lasted_too_long() {
    let mut origins = Origins::open(91, 4);
    let (meridian, rest) = start(&origins, "[health]\nfreeze = \"10s\"\n");
    wait(&rest, "all up", |status| all_are(status, "up"));
    origins.close(&[0, 1, 2]);
    let frozen = wait(&rest, "frozen", is_frozen);
    let began = Instant::now();
    assert!(frozen["health"]["frozen_why"].as_str().is_some_and(|why| why.contains("checks fail at once")), "{frozen:#}");
    assert!(frozen["degraded"].to_string().contains("health is frozen"), "{frozen:#}");
    wait(&rest, "all three suspect", |status| states(status) == ["suspect", "suspect", "suspect", "up"]);
    let metrics = rest.text("/metrics");
    assert!(metrics.lines().any(|line| line == "meridian_health_frozen 1"), "{metrics}");
    // Nothing moves for as long as it lasts, though each has failed often enough.
    while began.elapsed() < Duration::from_secs(8) {
        let mut found = addresses(&meridian.ask("app.example.com.", A));
        found.sort();
        assert_eq!(found, [origins.ip(0), origins.ip(1)]);
        std::thread::sleep(Duration::from_millis(100));
    }
    wait(&rest, "believed", |status| !is_frozen(status) && states(status) == ["down", "down", "down", "up"]);
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    meridian.wait_for("app.example.com.", A, |found| *found == [origins.ip(3)]);
    origins.open_again(&[0, 1, 2]);
    wait(&rest, "back", |status| states(status).iter().all(|state| state == "up" || state == "ramp"));
    // All of it is in the audit log.
    let log = rest.get("/v1/audit?kind=health&limit=100")["entries"].to_string();
    for words in ["health.freeze", "health.thaw", "it has lasted too long to be a mistake"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn a_freeze_thaws_by_itself_and_what_is_still_down_falls() {
    let mut origins = Origins::open(92, 4);
    let (meridian, rest) = start(&origins, "[health]\nfreeze = \"5m\"\n");
    wait(&rest, "all up", |status| all_are(status, "up"));
    origins.close(&[0, 1, 2, 3]);
    wait(&rest, "frozen", |status| is_frozen(status) && all_are(status, "suspect"));
    origins.open_again(&[1, 2, 3]);
    wait(&rest, "thawed", |status| !is_frozen(status) && states(status) == ["down", "up", "up", "up"]);
    meridian.wait_for("app.example.com.", A, |found| *found == [origins.ip(1)]);
}

#[test]
fn one_region_that_fails_as_a_whole_is_believed_at_once() {
    let mut origins = Origins::open(93, 4);
    let (meridian, rest) = start(&origins, "");
    wait(&rest, "all up", |status| all_are(status, "up"));
    origins.close(&[0, 1]);
    meridian.wait_for("app.example.com.", A, |found| found.contains(&origins.ip(2)));
    assert!(!is_frozen(&rest.get("/v1/status")));
}

#[test]
fn a_reference_that_answers_makes_all_failures_true() {
    let (mut origins, reference) = (Origins::open(94, 4), Origins::open(95, 1));
    let (_meridian, rest) = start(&origins, &format!("[health]\nreferences = [\"{}\"]\n", reference.addresses[0]));
    wait(&rest, "all up", |status| all_are(status, "up") && status["health"]["references"][0]["answers"] == true);
    origins.close(&[0, 1, 2]);
    let status = wait(&rest, "down", |status| states(status) == ["down", "down", "down", "up"]);
    assert!(!is_frozen(&status));
    assert!(!rest.get("/v1/audit?kind=health&limit=100").to_string().contains("health.freeze"), "nothing was doubted");
}

#[test]
fn references_that_fail_with_the_rest_freeze_all_until_one_answers() {
    let (mut origins, mut references) = (Origins::open(96, 4), Origins::open(97, 2));
    let both = format!("\"{}\", \"{}\"", references.addresses[0], references.addresses[1]);
    let (meridian, rest) = start(&origins, &format!("[health]\nreferences = [{both}]\n"));
    wait(&rest, "all up", |status| {
        let answers = |at: usize| status["health"]["references"][at]["answers"] == true;
        all_are(status, "up") && answers(0) && answers(1)
    });
    references.close(&[0, 1]);
    origins.close(&[0]);
    wait(&rest, "frozen", |status| is_frozen(status) && states(status) == ["suspect", "up", "up", "up"]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let status = rest.get("/v1/status");
        assert_eq!((states(&status)[0].as_str(), is_frozen(&status)), ("suspect", true));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(rest.get("/v1/status")["health"]["references"][1]["last_error"].as_str().is_some_and(|why| why.contains("refused")));
    references.open_again(&[1]);
    wait(&rest, "thawed", |status| !is_frozen(status) && states(status) == ["down", "up", "up", "up"]);
    // A reload may take them away.
    meridian.write("meridian.toml", CONFIG);
    rest.post("/v1/reload", serde_json::json!({}));
    let health = rest.get("/v1/status")["health"].clone();
    assert_eq!((&health["references"], &health["protection"]), (&serde_json::json!([]), &serde_json::json!("numbers")), "{health}");
    meridian.says(&["WARN", "no references", "docs/health.md"]);
    assert!(rest.text("/metrics").contains("meridian_health_protection{by=\"numbers\"} 1\n"));
}

#[test]
fn a_start_before_the_network_withdraws_nothing_until_a_reference_answers() {
    let (mut origins, mut reference) = (Origins::open(89, 4), Origins::open(90, 1));
    origins.close(&[0, 1, 2, 3]);
    reference.close(&[0]);
    let (meridian, rest) = start(&origins, &format!("[health]\nfreeze = \"10s\"\nreferences = [\"{}\"]\n", reference.addresses[0]));
    let frozen = wait(&rest, "frozen", is_frozen);
    assert_eq!(frozen["health"]["frozen_why"], "no reference answers: this server's own network may be gone");
    assert_eq!(frozen["degraded"].as_array().map(Vec::len), Some(1), "said once: {frozen:#}");
    // For longer than a freeze lasts otherwise, for nothing has answered at all.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(13) {
        let status = rest.get("/v1/status");
        assert!(is_frozen(&status) && all_are(&status, "unknown"), "{status:#}");
        let mut found = addresses(&meridian.ask("app.example.com.", A));
        found.sort();
        assert_eq!(found, [origins.ip(0), origins.ip(1)]);
        std::thread::sleep(Duration::from_millis(100));
    }
    origins.open_again(&[2, 3]);
    reference.open_again(&[0]);
    wait(&rest, "thawed", |status| !is_frozen(status) && states(status) == ["down", "down", "up", "up"]);
    meridian.wait_for("app.example.com.", A, |found| found.len() == 2 && found.contains(&origins.ip(2)));
    let log = rest.get("/v1/audit?kind=health&limit=100")["entries"].to_string();
    assert!(log.contains("a reference answers: failures count again"), "{log}");
}

#[test]
fn an_endpoint_that_comes_and_goes_is_kept_down_unless_nothing_else_is_left() {
    let mut origins = Origins::open(98, 4);
    let (meridian, rest) = start(&origins, "");
    wait(&rest, "all up", |status| all_are(status, "up"));
    let id = format!("example.com/eu/{}", origins.ip(0));
    // The other one of its pool stays down, so that the pool moves with it.
    origins.close(&[1]);
    let seen = |status: &Value| states(status)[0].clone();
    let mut falls = 0;
    while rest.endpoint(&id)["suppressed_until"].is_null() {
        origins.close(&[0]);
        wait(&rest, "down", |status| seen(status) == "down");
        falls += 1;
        assert!(falls <= 4, "{}", rest.endpoint(&id));
        origins.open_again(&[0]);
        if falls < 3 {
            wait(&rest, "back", |status| seen(status) == "ramp");
        } else {
            // A check passes, and it stays down.
            wait(&rest, "kept down", |_| {
                let endpoint = rest.endpoint(&id);
                endpoint["last_error_at"].as_u64() < endpoint["last_check"].as_u64()
            });
        }
    }
    assert_eq!(falls, 3, "the third fall within minutes is one too many");
    let endpoint = rest.endpoint(&id);
    assert_eq!((endpoint["state"].as_str(), endpoint["penalty"].as_u64().is_some_and(|penalty| penalty > 2000)), (Some("down"), true), "{endpoint}");
    let us = [origins.ip(2), origins.ip(3)];
    meridian.wait_for("app.example.com.", A, |found| found.iter().all(|found| us.contains(found)));
    let shown = meridian.command(&["health", &id]).1;
    assert!(shown.contains("kept down"), "{shown}");
    // A restart does not forgive.
    let until = |rest: &Rest| rest.endpoint(&id)["suppressed_until"].as_u64();
    let before = until(&rest).expect("kept down");
    let meridian = meridian.restart();
    let rest = Rest::new(&meridian);
    wait(&rest, "checked again", |status| states(status)[0] == "down" && rest.endpoint(&id)["stale"] == false);
    assert!(until(&rest).is_some_and(|after| after.abs_diff(before) <= 2), "{before}, then {:?}", until(&rest));
    // The other region falls, too: then it is better than nothing.
    origins.close(&[2]);
    wait(&rest, "one of the other region down", |status| states(status)[2] == "down");
    assert_eq!(seen(&rest.get("/v1/status")), "down", "something is left");
    origins.close(&[3]);
    // With its whole weight: it was handed out already, like all of them.
    wait(&rest, "needed", |status| seen(status) == "up");
    meridian.wait_for("app.example.com.", A, |found| *found == [origins.ip(0)]);
}
