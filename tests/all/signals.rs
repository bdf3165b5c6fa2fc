//! What agents, balancers and callers report, from the outside: taken, shown, obeyed within doubt and limits, never obeyed because it grew old.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE, addresses};
use crate::rate_limit::metrics_text;
use crate::rest::Rest;

/// Two pools of two endpoints that wait for reports; nothing connects to anywhere.
const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[region]\neu = {}\nna = {}\n\
    [monitor.agent]\npush = true\nstale = \"1s\"\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\nmonitor = \"agent\"\nsignals = { down = \"50%\", samples = 20 }\n\
    [pool.iad]\nregion = \"na\"\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = \"agent\"\nsignals = { down = \"50%\", samples = 20 }\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\nttl = 20\n";

fn start(zone: &str) -> Meridian {
    Meridian::start(&[("zones/example.com.toml", zone)])
}

fn report(rest: &Rest, reports: Value) -> Value {
    let (status, body) = rest.call(Method::POST, "/v1/signals", Some(json!({ "reports": reports })));
    assert_eq!(status, 200, "{body}");
    body
}

fn says(rest: &Rest, target: &str, state: &str) {
    assert_eq!(report(rest, json!([{ "target": target, "state": state }])), json!({ "taken": 1 }), "{target} {state}");
}

fn addrs(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// Waits until the name answers exactly these.
fn wait_for(server: &Meridian, wanted: &[&str]) {
    let wanted = addrs(wanted);
    server.wait_for("app.example.com.", RecordType::A, |seen| {
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen == wanted
    });
}

fn endpoint(rest: &Rest, address: &str) -> Value {
    rest.get(&format!("/v1/health/example.com/{}/{address}", if address.starts_with("192") { "fra" } else { "iad" }))
}

fn all_up(rest: &Rest) {
    report(rest, json!([{ "target": "example.com/fra", "state": "up" }, { "target": "region:na", "state": "up" }]));
}

#[test]
fn what_an_agent_says_of_itself_is_obeyed() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    // Nobody has said anything: it is handed out, and not settled.
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["state"], "unknown");
    all_up(&rest);
    assert_eq!(endpoint(&rest, "198.51.100.11")["endpoint"]["state"], "up");
    says(&rest, "example.com/fra/192.0.2.10", "down");
    wait_for(&server, &["192.0.2.11"]);
    let seen = endpoint(&rest, "192.0.2.10");
    assert_eq!(seen["endpoint"]["last_error"], "reported: down, by admin", "{seen}");
    assert_eq!((&seen["endpoint"]["penalty"], &seen["checks"][0]), (&json!(1000), &json!("push of example.com/fra/192.0.2.10")), "{seen}");
    // The way back is that of checks: a ramp.
    says(&rest, "example.com/fra/192.0.2.10", "up");
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["state"], "ramp");
    // Whoever wants no traffic gets none, and nothing is held against it however often.
    for _ in 0..4 {
        says(&rest, "example.com/fra/192.0.2.11", "draining");
        wait_for(&server, &["192.0.2.10"]);
        says(&rest, "example.com/fra/192.0.2.11", "up");
        wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    }
    assert_eq!(endpoint(&rest, "192.0.2.11")["endpoint"]["penalty"], 0);
    // A whole pool, by one report.
    says(&rest, "Example.COM./fra", "draining");
    wait_for(&server, &["198.51.100.10", "198.51.100.11"]);
    // The operator knows better.
    rest.lay("example.com/fra/192.0.2.11", json!({ "state": "up" }));
    wait_for(&server, &["192.0.2.11"]);
}

#[test]
fn silence_takes_nothing_down_and_brings_nothing_back() {
    let zone = ZONE.replace("stale = \"1s\"\n", "stale = \"1s\"\n[monitor.forgetful]\npush = true\nstale = \"1s\"\non_stale = \"forget\"\n");
    let zone =
        zone.replace("\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = \"agent\"", "\"198.51.100.10\", \"198.51.100.11\"]\nmonitor = \"forgetful\"");
    let server = start(&zone);
    let rest = Rest::new(&server);
    all_up(&rest);
    says(&rest, "example.com/fra/192.0.2.10", "down");
    says(&rest, "example.com/iad/198.51.100.10", "draining");
    wait_for(&server, &["192.0.2.11"]);
    let began = Instant::now();
    loop {
        let all: Vec<Value> = ["192.0.2.10", "192.0.2.11", "198.51.100.10"].map(|one| endpoint(&rest, one)["endpoint"].clone()).to_vec();
        if all[2]["state"] == "unknown" {
            assert_eq!((&all[0]["state"], &all[1]["state"]), (&json!("down"), &json!("up")), "{all:?}");
            assert_eq!((&all[0]["stale"], &all[1]["stale"]), (&json!(true), &json!(true)), "{all:?}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{all:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for(&server, &["192.0.2.11"]);
    let (code, text, _) = server.command(&["health", "example.com/fra/192.0.2.11"]);
    let of_pool = text.lines().any(|line| line.starts_with("of pool") && line.contains("reported "));
    assert!(code == 0 && text.contains("up (nothing was reported for ") && text.contains("what was said last holds)") && of_pool, "{text}");
}

#[test]
fn a_pool_whose_callers_fail_is_left_and_tried_again() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    // One in eight fails: it stays, and is told of.
    report(&rest, json!([{ "target": "example.com/iad", "successes": 70, "failures": 10 }]));
    let seen = endpoint(&rest, "198.51.100.10")["endpoint"].clone();
    assert_eq!(
        (&seen["state"], &seen["usable"], &seen["concerns"]),
        (&json!("degraded"), &json!(true), &json!(["87 % of its calls succeed"])),
        "{seen}"
    );
    report(&rest, json!([{ "target": "example.com/iad", "successes": 100 }]));
    assert_eq!(endpoint(&rest, "198.51.100.10")["endpoint"]["state"], "up");
    // Too few to mean anything.
    report(&rest, json!([{ "target": "example.com/fra", "successes": 0, "failures": 19 }]));
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["state"], "up");
    report(&rest, json!([{ "target": "example.com/fra", "failures": 10 }]));
    wait_for(&server, &["198.51.100.10", "198.51.100.11"]);
    let seen = endpoint(&rest, "192.0.2.10");
    let error = seen["endpoint"]["last_error"].as_str().expect("an error");
    assert!(error.starts_with("reported: 0.0 % of ") && error.ends_with("calls succeed, expected 50 % at least"), "{seen}");
    assert_eq!(seen["pool_reported"]["success_share"], 0.0, "{seen}");
    let lists = [&rest.get("/v1/pools")["pools"][0], &rest.get("/v1/status")["pools"][0]].map(|pool| pool["reported"]["samples"].clone());
    assert!(lists.iter().all(|samples| samples.as_f64().is_some_and(|count| (28.0..=29.0).contains(&count))), "{lists:?}");
    let page = metrics_text(&server);
    for line in ["meridian_reported_success_ratio{pool=\"example.com/fra\"} 0\n", "meridian_reports_total{result=\"taken\"} 6\n"] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let (_, text, _) = server.command(&["status"]);
    assert!(text.contains("0.0 % of 29 calls succeed"), "{text}");
    // An endpoint that its own callers praise is no longer judged by its pool.
    report(&rest, json!([{ "target": "example.com/fra/192.0.2.11", "successes": 1000 }]));
    wait_for(&server, &["192.0.2.11"]);
    // And the pool is back when most calls succeed.
    report(&rest, json!([{ "target": "example.com/fra", "successes": 1000 }]));
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
}

#[test]
fn reports_of_everything_at_once_are_doubted() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    let all = ["fra/192.0.2.10", "iad/198.51.100.10", "iad/198.51.100.11", "fra/192.0.2.11"];
    report(&rest, all.iter().map(|one| json!({ "target": format!("example.com/{one}"), "state": "down" })).collect());
    let began = Instant::now();
    while !server.log().iter().any(|line| line.contains("whoever reports may be wrong")) {
        assert!(began.elapsed() < PATIENCE, "{:#?}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    assert_eq!(endpoint(&rest, "198.51.100.11")["endpoint"]["state"], "suspect");
    let degraded = rest.get("/v1/status")["degraded"].to_string();
    assert!(degraded.contains("reports take nothing down"), "{degraded}");
    // It ends by itself when they say something else.
    all_up(&rest);
    let began = Instant::now();
    while rest.get("/v1/status")["degraded"].to_string().contains("reports take nothing down") {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn limits_of_safety_bind_reports() {
    let server = start(&format!("{ZONE}[safety]\nmax_withdrawn = \"25%\"\n"));
    let rest = Rest::new(&server);
    all_up(&rest);
    says(&rest, "example.com/fra/192.0.2.10", "draining");
    wait_for(&server, &["192.0.2.11"]);
    says(&rest, "example.com/fra/192.0.2.11", "down");
    wait_for(&server, &["198.51.100.10", "198.51.100.11"]);
    let seen = endpoint(&rest, "192.0.2.11")["endpoint"].clone();
    assert!(seen["kept_in"].as_str().is_some_and(|why| why.contains("max_withdrawn")), "{seen}");
    // Whoever asks why hears of it, too.
    let (code, out, err) = server.command(&["explain", "app.example.com", "A"]);
    let line = "kept        example.com/fra/192.0.2.11: it fails, and stays as a last resort: ";
    let kept = out.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("{code} {out}{err}"));
    assert!(kept.contains("max_withdrawn"), "{out}");
    let (_, out, _) = server.command(&["explain", "app.example.com", "A", "--json"]);
    let trace: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(trace["steering"]["kept_in"], json!([{ "endpoint": "example.com/fra/192.0.2.11", "why": kept }]), "{out}");
}

#[test]
fn what_is_said_once_in_a_freeze_is_told_of_and_believed_at_its_end() {
    let server = Meridian::start(&[("meridian.toml", &format!("{CONFIG}[health]\nfreeze = \"12s\"\n")), ("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    all_up(&rest);
    says(&rest, "example.com/fra", "down");
    says(&rest, "example.com/iad", "down");
    says(&rest, "example.com/iad/198.51.100.10", "draining");
    let states =
        || ["192.0.2.10", "192.0.2.11", "198.51.100.10", "198.51.100.11"].map(|address| endpoint(&rest, address)["endpoint"]["state"].clone());
    assert_eq!(states(), ["suspect", "suspect", "down", "suspect"]);
    assert!(metrics_text(&server).lines().any(|line| line == "meridian_health_frozen 1"));
    let began = Instant::now();
    while states() != ["down"; 4] {
        assert!(began.elapsed() < PATIENCE, "{:?}", states());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(metrics_text(&server).lines().any(|line| line == "meridian_health_frozen 0"));
}

#[test]
fn a_state_that_nobody_waits_for_is_said_to_do_nothing() {
    let server = start(&ZONE.replace("monitor = \"agent\"", ""));
    let rest = Rest::new(&server);
    let taken = report(&rest, json!([{ "target": "example.com/fra", "state": "down" }, { "target": "example.com/fra", "load": 1 }]));
    assert_eq!((&taken["taken"], &taken["ignored"]), (&json!(2), &Value::Null), "{taken}");
    let warned = json!([{ "target": "example.com/fra", "why": "its state is shown and not obeyed: no push monitor waits for it" }]);
    assert_eq!(taken["warnings"], warned);
}

#[test]
fn who_may_report_what_and_how_much() {
    let server = Meridian::start(&[
        ("meridian.toml", &format!("{CONFIG}requests_per_second = 0\n")),
        ("zones/example.com.toml", ZONE),
        ("zones/example.net.toml", &ZONE.replace("example.com", "example.net")),
    ]);
    let rest = Rest::new(&server);
    let made = rest.post("/v1/tokens", json!({ "name": "agent", "role": "operate", "zones": ["example.com"] }));
    let agent = rest.with_token(made["token"].as_str().expect("a token"));
    let send = |reports: Value| agent.call(Method::POST, "/v1/signals", Some(json!({ "reports": reports })));
    let good = json!({ "target": "example.com/fra", "state": "up" });
    assert_eq!(send(json!([good])), (200, json!({ "taken": 1 })));
    for target in ["example.net/fra", "region:eu", "library/x"] {
        let (status, problem) = send(json!([good, { "target": target, "state": "down" }]));
        assert_eq!((status, &problem["type"]), (403, &json!("urn:meridian:forbidden")), "{target}: {problem}");
    }
    // What is not there any more does not keep the rest from being taken.
    let (status, taken) = send(json!([{ "target": "example.com/gone", "load": 1 }, good, { "target": "example.com/fra/192.0.2.99", "state": "up" }]));
    assert_eq!((status, &taken["taken"], &taken["ignored"][1]["target"]), (200, &json!(1), &json!("example.com/fra/192.0.2.99")), "{taken}");
    for (reports, field) in [
        (json!([]), "reports"),
        (json!(vec![good.clone(); 501]), "reports"),
        (json!([good, { "target": "example.com/fra" }]), "reports[1].state"),
        (json!([{ "target": "example.com/fra", "state": "sideways" }]), "reports[0].state"),
        (json!([{ "target": "example.com/fra", "load": -1 }]), "reports[0].load"),
        (json!([{ "target": "example.com/fra", "load": 1, "capacity": 0 }]), "reports[0].capacity"),
        (json!([{ "target": "example.com/fra", "successes": 2_000_000_000 }]), "reports[0].successes"),
        (json!([{ "target": "example.com/fra", "latency_ms": 1e9 }]), "reports[0].latency_ms"),
    ] {
        let (status, problem) = send(reports);
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }
    let many = json!(vec![good; 500]);
    let refused = (0..200).map(|_| send(many.clone())).find(|(status, _)| *status != 200);
    let (status, problem) = refused.expect("a limit");
    assert!(status == 429 && problem["detail"].as_str().is_some_and(|text| text.contains("too many reports")), "{status} {problem}");
    // Of all those calls the audit log has none but what they changed.
    let kept = rest.get("/v1/audit?limit=1000")["entries"].as_array().expect("entries").len();
    assert!(kept < 100, "{kept}");
}

#[test]
fn a_restart_keeps_what_was_said_last() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    says(&rest, "example.com/fra/192.0.2.10", "draining");
    wait_for(&server, &["192.0.2.11"]);
    let server = server.restart();
    let rest = Rest::new(&server);
    let seen = endpoint(&rest, "192.0.2.10")["endpoint"].clone();
    assert_eq!((&seen["state"], &seen["stale"], &seen["reported"]), (&json!("down"), &json!(true), &Value::Null), "{seen}");
    // A reload keeps it, too, and forgets what is reported of things that are no more.
    report(&rest, json!([{ "target": "example.com/fra", "load": 5 }, { "target": "example.com/iad", "load": 6 }]));
    server.write("zones/example.com.toml", &ZONE.replace("pool.fra", "pool.ber").replace("\"fra\"", "\"ber\""));
    assert_eq!(server.command(&["reload", "--yes", "--break-glass", "--reason", "a test"]).0, 0);
    let pools = rest.get("/v1/pools");
    let reported: Vec<&Value> = pools["pools"].as_array().expect("pools").iter().map(|pool| &pool["reported"]["load"]).collect();
    assert_eq!(reported, [&Value::Null, &json!(6.0)], "{pools}");
}

/// A fall is kept when it is decided, not at the next round of keeping.
#[test]
fn a_crash_keeps_what_was_decided_a_moment_before() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    says(&rest, "example.com/fra/192.0.2.11", "down");
    wait_for(&server, &["192.0.2.10"]);
    // Time for one write, far less than from round to round.
    std::thread::sleep(Duration::from_millis(500));
    server.signal("KILL");
    let server = server.restart_dead();
    let seen = endpoint(&Rest::new(&server), "192.0.2.11")["endpoint"].clone();
    assert_eq!((&seen["state"], &seen["stale"]), (&json!("down"), &json!(true)), "{seen}");
}

#[test]
fn a_restart_in_a_disaster_keeps_the_last_resort() {
    // Nothing is in doubt here.
    let (config, zone) = (format!("{CONFIG}[health]\nfreeze = false\n"), format!("{ZONE}[safety]\nmax_withdrawn = \"25%\"\n"));
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    all_up(&rest);
    // One may go; the others are kept, in the order of the policy.
    for one in ["iad/198.51.100.10", "fra/192.0.2.10", "iad/198.51.100.11", "fra/192.0.2.11"] {
        says(&rest, &format!("example.com/{one}"), "down");
        // What falls together is judged together; whoever asks sees what is published.
        assert_eq!(endpoint(&rest, one.rsplit('/').next().expect("an address"))["endpoint"]["state"], "down");
    }
    let kept =
        |rest: &Rest| ["192.0.2.10", "192.0.2.11", "198.51.100.10", "198.51.100.11"].map(|one| !endpoint(rest, one)["endpoint"]["kept_in"].is_null());
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    assert_eq!(kept(&rest), [true, true, false, true]);
    let mut server = server;
    for _ in 0..2 {
        server = server.restart();
        let rest = Rest::new(&server);
        assert_eq!(kept(&rest), [true, true, false, true]);
        wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
    }
    // Somebody is back: the others go as before.
    says(&Rest::new(&server), "example.com/fra/192.0.2.11", "up");
    wait_for(&server, &["192.0.2.11"]);
}

#[test]
fn an_endpoint_that_waits_for_reports_is_not_asked() {
    let server = start(ZONE);
    let (code, out, err) = server.command(&["check-now", "example.com/fra/192.0.2.10"]);
    let expected = "push of example.com/fra/192.0.2.10\n  not asked: it waits for reports; `meridian health` shows the last\n\
        share of successes of example.com/fra/192.0.2.10\n  not asked: it waits for reports; `meridian health` shows the last\n";
    assert_eq!((code, out.as_str()), (0, expected), "{err}");
}

/// A weighted policy between three pools, a failover that sheds, and a policy by load.
const LOADS: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
    [pool.fra]\nendpoints = [\"192.0.2.10\"]\nshed = { low = \"50%\", high = \"100%\" }\n\
    [pool.iad]\nendpoints = [\"198.51.100.10\"]\ncapacity = 1000\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\nttl = 5\n\
    [steer.even]\npolicy = \"least-loaded\"\nto = [\"fra\", \"iad\"]\nmode = \"random\"\nttl = 5\n\
    [steer.plain]\npolicy = \"weighted\"\nto = { iad = 1 }\nttl = 5\n[steer.alone]\nuse = \"fra\"\nttl = 5\n";

#[test]
fn loads_move_shares_in_steps_and_only_where_they_are_wanted() {
    let server = start(LOADS);
    let rest = Rest::new(&server);
    let generation = || rest.get("/v1/status")["generation"].as_u64().expect("a generation");
    let before = generation();
    // Without reports nothing moves.
    assert_eq!(
        (&rest.get("/v1/pools")["pools"][0]["kept"], &rest.get("/v1/policies/example.com/even")["children"][0]["factor"]),
        (&Value::Null, &Value::Null)
    );
    let began = Instant::now();
    let (kept, factor) = loop {
        report(&rest, json!([{ "target": "example.com/fra", "load": 90, "capacity": 100 }, { "target": "example.com/iad", "load": 100 }]));
        let kept = &rest.get("/v1/pools/example.com/fra")["kept"];
        let factor = &rest.get("/v1/policies/example.com/even")["children"][0]["factor"];
        if let (Some(kept), Some(factor)) = (kept.as_f64(), factor.as_f64()) {
            break (kept, factor);
        }
        assert!(began.elapsed() < PATIENCE, "{kept} {factor}: {:#?}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    };
    // A tenth at most in ten seconds, as one change.
    assert!((0.79..=0.9).contains(&kept) && (0.79..1.0).contains(&factor) && generation() - before <= 3, "{kept} {factor} {before}");
    // What is left to others is handed out by them: to the tenth or two of resolvers that it is.
    let clients = (0..200_u8).map(|n| addresses(&server.ask_for("app.example.com.", RecordType::A, (IpAddr::from([10, n, 0, 0]), 24))));
    let moved = clients.filter(|found| *found == addrs(&["198.51.100.10"])).count();
    assert!((4..=60).contains(&moved), "{moved} of 200");
    let page = metrics_text(&server);
    assert!(
        page.contains("meridian_pool_kept_ratio{pool=\"example.com/fra\"} 0.")
            && page.contains("meridian_pool_kept_ratio{pool=\"example.com/iad\"} 1\n"),
        "{page}"
    );
    let (_, text, _) = server.command(&["status"]);
    assert!(text.contains("% of its traffic"), "{text}");
    for (name, of, why) in [
        ("app", "example.com/fra", "it leaves the rest to others for its load: shed = { low = \"50%\", high = \"100%\" }"),
        ("even", "example.com/policy:even/fra", "its load beside that of the others: least-loaded"),
    ] {
        let (_, out, err) = server.command(&["explain", &format!("{name}.example.com"), "A"]);
        assert!(out.lines().any(|line| line.starts_with(&format!("factor      {of}: 0.")) && line.ends_with(why)), "{out}{err}");
        let (_, out, _) = server.command(&["explain", &format!("{name}.example.com"), "A", "--json"]);
        let trace: Value = serde_json::from_str(&out).expect("JSON");
        let factors = trace["steering"]["factors"].as_array().expect("factors");
        let found = factors.iter().any(|one| one["of"] == of && one["why"] == why && one["factor"].as_f64().is_some_and(|factor| factor < 1.0));
        assert!(found, "{out}");
    }
    // Where nobody comes after it, it keeps all.
    let (_, out, _) = server.command(&["explain", "alone.example.com", "A"]);
    let why = "it would leave a part to others for its load, but nobody comes after it: shed = { low = \"50%\", high = \"100%\" }";
    assert!(out.lines().any(|line| line.starts_with("factor      example.com/fra: 1") && line.ends_with(why)), "{out}");
    // An operator who drains it still drains all of it, though one name has nothing else.
    rest.force("example.com/fra", json!({ "state": "drain" }));
    wait_for(&server, &["198.51.100.10"]);
}

#[test]
fn narrow_watermarks_are_warned_of_and_nonsense_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |zone: &str| {
        std::fs::create_dir_all(dir.path().join("zones")).expect("a folder");
        std::fs::write(dir.path().join("meridian.toml"), CONFIG).expect("written");
        std::fs::write(dir.path().join("zones/example.com.toml"), zone).expect("written");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meridian"));
        let output = command.args(["check", "--config"]).arg(dir.path().join("meridian.toml")).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = check(&LOADS.replace("low = \"50%\"", "low = \"80%\""));
    assert!(code == Some(0) && text.contains("the watermarks are less than 50 points apart"), "{text}");
    let (code, text) = check(LOADS);
    assert!(code == Some(0) && !text.contains("watermarks"), "{text}");
    // Who missed it at load finds it where the state is.
    for (low, is_narrow) in [("80%", true), ("50%", false)] {
        let server = start(&LOADS.replace("low = \"50%\"", &format!("low = \"{low}\"")));
        let (_, text, _) = server.command(&["status"]);
        assert_eq!(text.contains("warning: example.com/fra: shed: the watermarks are less than 50 points apart"), is_narrow, "{low}: {text}");
        let pools = Rest::new(&server).get("/v1/status")["pools"].clone();
        assert_eq!((pools[0]["warnings"].is_array(), pools[1]["warnings"].is_array()), (is_narrow, false), "{pools}");
    }
    for (from, to, words) in [
        ("low = \"50%\"", "low = \"100%\"", "expected more than low (100%)"),
        ("low = \"50%\"", "low = \"0%\"", "expected a load from \"1%\" to \"200%\" of the capacity"),
        ("low = \"50%\", ", "", "expected target, or low and high"),
        ("low = \"50%\"", "target = \"50%\"", "expected target, or low and high"),
        ("mode = \"random\"", "trim = true", "it belongs to policy \"weighted\"; this is policy \"least-loaded\""),
        ("to = { iad = 1 }", "to = { iad = 1 }\ntrim = \"5000%\"", "expected a load from"),
    ] {
        let (code, text) = check(&LOADS.replace(from, to));
        assert!(code == Some(1) && text.contains(words), "{to}: {text}");
    }
    assert_eq!(check(&LOADS.replace("to = { iad = 1 }", "to = { iad = 1, fra = 2 }\ntrim = true")).0, Some(0));
}

/// Makes everything that is kept look so much older.
fn grow_old(folder: &std::path::Path, seconds: i64) {
    let connection = rusqlite::Connection::open(folder.join("state/meridian.db")).expect("the state");
    let changed = connection.execute("UPDATE verdicts SET last_check = last_check - ?1, since = since - ?1", [seconds]).expect("changed");
    assert!(changed > 0);
}

#[test]
fn a_machine_that_was_drained_and_switched_off_stays_out_over_restarts() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    says(&rest, "example.com/fra/192.0.2.10", "draining");
    wait_for(&server, &["192.0.2.11"]);
    let mut server = server;
    assert_eq!(server.terminate().1, Some(0));
    let folder = server.into_folder();
    grow_old(folder.path(), 40 * 86_400);
    let server = Meridian::start_in(folder);
    let rest = Rest::new(&server);
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["state"], "down");
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["last_error"], "reported: draining");
    wait_for(&server, &["192.0.2.11"]);
    // A zone that a reload takes out and another brings back is as it was.
    let file = server.path().join("zones/example.com.toml");
    std::fs::remove_file(&file).expect("removed");
    server.write("zones/library.toml", "[region]\n");
    assert_eq!(server.command(&["reload", "--yes"]).0, 0);
    std::fs::write(&file, ZONE).expect("written");
    assert_eq!(server.command(&["reload", "--yes"]).0, 0);
    assert_eq!(endpoint(&rest, "192.0.2.10")["endpoint"]["state"], "down");
    wait_for(&server, &["192.0.2.11"]);
    says(&rest, "example.com/fra/192.0.2.10", "up");
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
}

#[test]
fn what_callers_took_down_is_not_tried_for_a_restart() {
    let server = start(ZONE);
    let rest = Rest::new(&server);
    all_up(&rest);
    report(&rest, json!([{ "target": "example.com/fra/192.0.2.10", "successes": 0, "failures": 100_000 }]));
    wait_for(&server, &["192.0.2.11"]);
    let server = server.restart();
    let rest = Rest::new(&server);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let seen = endpoint(&rest, "192.0.2.10");
        assert_eq!(seen["endpoint"]["state"], "down", "{seen}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Callers who know better are heard at once.
    report(&rest, json!([{ "target": "example.com/fra/192.0.2.10", "successes": 100, "failures": 0 }]));
    wait_for(&server, &["192.0.2.10", "192.0.2.11"]);
}
