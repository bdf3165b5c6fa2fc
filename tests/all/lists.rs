//! `meridian list`, `health` and `events` against the real program.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE};
use crate::rest::Rest;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
    mail.A = { ttl = 600, data = [\"192.0.2.25\", \"192.0.2.26\"] }\n\"@\".MX = \"10 mail\"\n\
    [region]\neu = { location = [50.1, 8.7] }\n\
    [monitor.web]\nhttp = \"/healthz\"\nhost = \"app.example.com\"\ninterval = \"1s\"\ntimeout = \"500ms\"\nfast = \"1s\"\nfall = 1\n\
    [pool.fra]\nregion = \"eu\"\nendpoints = [{ address = \"192.0.2.10\", weight = 4 }, \"2001:db8::10\"]\n\
    [pool.checked]\nmonitor = \"web\"\nendpoints = [\"127.0.0.1\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 90, checked = 10 }\n[steer.www]\nuse = \"split\"\nttl = 60\n\
    [steer.app]\npolicy = \"failover\"\nto = [\"checked\", \"fra\"]\n[safety]\nlast_healthy = false\n";

/// Runs a command that must do; its output with runs of blanks as one, so that widths of columns do not matter.
fn lines(server: &Meridian, line: &str) -> Vec<String> {
    let (code, out, err) = server.command(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!((code, err.as_str()), (0, ""), "{line}: {out}");
    assert!(!out.contains('\x1b'), "no colours into a pipe: {out:?}");
    out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn everything_that_is_served_can_be_listed() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    rest.lay("example.com/policy:split/checked", json!({ "weight": 20 }));
    rest.lay("example.com/mail/A", json!({ "ttl": 30 }));
    rest.lay("example.com/fra/192.0.2.10", json!({ "state": "drain" }));
    for (line, expected) in [
        ("list records example.com --type mx", &["NAME TYPE TTL FILES DATA", "example.com. MX 300 300 10 mail.example.com."][..]),
        ("list records Example.COM. --name mail", &["NAME TYPE TTL FILES DATA", "mail.example.com. A 30 600 192.0.2.25, 192.0.2.26"]),
        ("list records example.com --name nothing", &["no records"]),
        (
            "list names example.com",
            &[
                "NAME DECIDED BY TTL FILES TYPES",
                "app.example.com. example.com/policy:app 10 to 30 10 to 30 A, AAAA",
                "www.example.com. example.com/policy:split 10 to 60 10 to 60 A, AAAA",
            ],
        ),
        (
            "list policies --kind weighted",
            &["POLICY KIND MODE FAILBACK CHILDREN", "example.com/policy:split weighted coherent auto fra 90, checked 20 (files 10)"],
        ),
        ("list pools --region eu", &["POOL REGION HEALTH USABLE LOCATION", "example.com/fra eu degraded 1/2, needs 1 50.1, 8.7"]),
        (
            "list endpoints --forced drain",
            &["ENDPOINT REGION STATE FORCED USABLE WEIGHT FILES MONITORS", "example.com/fra/192.0.2.10 eu up drain no 4 4"],
        ),
        ("list endpoints --pool example.com/checked --forced up", &["no endpoints"]),
        (
            "health --usable false --region eu",
            &["ENDPOINT REGION STATE USABLE SINCE CHECKED TOOK NEXT NOTE", "example.com/fra/192.0.2.10 eu up, forced drain no"],
        ),
        ("health --state ramp", &["no endpoints"]),
        ("list regions", &["REGION LOCATION POOLS", "region:eu 50.1, 8.7 example.com/fra"]),
        (
            "list monitors --zone example.com",
            &[
                "MONITOR KIND PORT HOST PATH INTERVAL FAST TIMEOUT FALL RISE USERS OF",
                "example.com/monitor:web http 80 app.example.com /healthz 1 s 1 s 500 ms 1 3 1",
            ],
        ),
    ] {
        assert_eq!(lines(&server, line), expected, "{line}");
    }
    let zones = lines(&server, "list zones --state serving");
    assert!(zones.len() == 2 && zones[1].starts_with("example.com. serving ") && zones[1].ends_with(" 6 2"), "{zones:?}");
    let (_, out, _) = server.command(&["list", "endpoints", "--json", "--usable", "false", "--state", "up"]);
    let list: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(list["endpoints"][0]["id"], "example.com/fra/192.0.2.10");
    for (line, code, expected) in [
        ("list records example.net", 1, "found no zone example.net"),
        ("list records a/b?c#d", 1, "found no zone a/b?c#d"),
        ("list endpoints --zone", 2, "a value is required"),
        ("list endpoints --state sideways", 2, "[possible values: unknown, up, degraded, suspect, down, ramp]"),
        ("list things", 2, "unrecognized subcommand"),
        ("list pools --token wrong", 3, "the token is not one of this server"),
        ("health example.com/fra", 2, "expected zone/pool/address"),
        ("health --pool example.com/ffa", 1, "did you mean example.com/fra"),
        ("health --state sideways", 2, "[possible values: unknown, up, degraded, suspect, down, ramp]"),
        ("health example.com/fra/192.0.2.10 --state up", 2, "cannot be used with"),
        ("health example.com/fra/192.0.2.99", 1, "did you mean example.com/fra/192.0.2.10"),
    ] {
        let (found, out, err) = server.command(&line.split_whitespace().collect::<Vec<_>>());
        assert!(found == code && err.contains(expected), "{line}: {found} {out}{err}");
    }
}

#[test]
fn a_list_is_whole_however_many_pages_it_has() {
    // Pools hold a thousand endpoints at most.
    let pool = |pool: usize| {
        let addresses: Vec<String> = (0..900).map(|at| format!("\"10.{pool}.{}.{}\"", at / 250, at % 250)).collect();
        format!("[pool.big{pool}]\nendpoints = [{}]\n[steer.w{pool}]\nuse = \"big{pool}\"\n", addresses.join(", "))
    };
    let pools: String = (0..3).map(pool).collect();
    let zone = format!("[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n{pools}");
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let (code, out, _) = server.command(&["list", "endpoints", "--json"]);
    let list: Value = serde_json::from_str(&out).expect("JSON");
    let ids: std::collections::BTreeSet<&str> =
        list["endpoints"].as_array().expect("a list").iter().filter_map(|endpoint| endpoint["id"].as_str()).collect();
    assert_eq!((code, ids.len(), list["next"].is_null()), (0, 2700, true));
    assert_eq!(lines(&server, "list endpoints --pool example.com/big1").len(), 901);
}

#[test]
fn the_health_of_all_endpoints_is_a_list() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    let began = Instant::now();
    while rest.get("/v1/health?state=down")["endpoints"].as_array().is_none_or(Vec::is_empty) {
        assert!(began.elapsed() < PATIENCE, "{}", rest.get("/v1/health"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ids = |query: &str| -> Vec<String> {
        let all = rest.get(&format!("/v1/health?{query}"))["endpoints"].clone();
        all.as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    };
    let [checked, v4, v6] = ["checked/127.0.0.1", "fra/192.0.2.10", "fra/2001:db8::10"].map(|id| format!("example.com/{id}"));
    assert_eq!(ids(""), [&*checked, &*v4, &*v6]);
    for (query, expected) in [
        ("state=down", vec![&checked]),
        ("state=up", vec![&v4, &v6]),
        ("usable=false", vec![&checked]),
        ("stale=true", vec![]),
        ("region=eu", vec![&v4, &v6]),
        ("pool=example.com/checked&zone=example.com", vec![&checked]),
    ] {
        assert_eq!(ids(query).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    // A page at a time.
    let (mut cursor, mut paged) = (String::new(), Vec::new());
    loop {
        let page = rest.get(&format!("/v1/health?limit=1{cursor}"));
        paged.extend(page["endpoints"].as_array().expect("a page").iter().filter_map(|one| one["id"].as_str().map(str::to_owned)));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, ids(""));
    let one = rest.get("/v1/health?state=down")["endpoints"][0].clone();
    assert_eq!((&one["pool"], &one["usable"], &one["stale"]), (&json!("example.com/checked"), &json!(false), &json!(false)));
    assert!(one["last_error"].is_string() && one["next_check"].is_u64() && one["since"].is_u64(), "{one}");
    let shown = lines(&server, "health --state down");
    assert!(shown.len() == 2 && shown[1].starts_with("example.com/checked/127.0.0.1 down no "), "{shown:?}");
}

#[test]
fn health_tells_what_checks_said_before() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    // Nobody answers there as the monitor wants: it goes down at the first check.
    let began = Instant::now();
    let shown = loop {
        let shown = lines(&server, "health example.com/checked/127.0.0.1");
        if shown.iter().any(|line| line.starts_with("TIME OF FROM TO")) {
            break shown;
        }
        assert!(began.elapsed() < PATIENCE, "{shown:?}");
    };
    for expected in [
        "endpoint example.com/checked/127.0.0.1",
        "state down",
        "usable no",
        "checks http://app.example.com/healthz at 127.0.0.1:80",
        "used by example.com/app, example.com/www",
    ] {
        assert!(shown.iter().any(|line| line == expected), "{expected}: {shown:#?}");
    }
    let step = shown.last().expect("a step");
    assert!(step.contains(" endpoint unknown down ") && step.ends_with(" http://app.example.com/healthz at 127.0.0.1:80"), "{step}");
    let quiet = lines(&server, "health example.com/fra/2001:db8::10");
    assert_eq!(quiet.last().map(String::as_str), Some("no check has come to another verdict"));
}

#[test]
fn an_endpoint_shows_its_last_checks_and_is_checked_now_on_demand() {
    let origin = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = origin.local_addr().expect("an address").port();
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.tcp]\ntcp = true\nport = {port}\ninterval = \"1s\"\ntimeout = \"500ms\"\nfast = \"500ms\"\n\
         [pool.one]\nmonitor = \"tcp\"\nendpoints = [\"127.0.0.1\", {{ address = \"192.0.2.9\", monitor = false }}]\n[steer.app]\nuse = \"one\"\n"
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let path = "/v1/health/example.com/one/127.0.0.1";
    let began = Instant::now();
    let recent = loop {
        let recent = rest.get(path)["recent"].as_array().expect("a list").clone();
        if recent.len() > 1 {
            break recent;
        }
        assert!(began.elapsed() < PATIENCE, "{recent:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(recent.iter().all(|tried| tried["passed"] == true && tried["state"] == "up" && tried["at"].is_u64()), "{recent:?}");
    // One that passes, and all it took.
    let (_, now) = rest.call(reqwest::Method::POST, &format!("{path}/check"), None);
    let check = &now["checks"][0];
    assert_eq!((&check["passed"], &check["check"]), (&json!(true), &json!(format!("tcp at 127.0.0.1:{port}"))));
    assert_eq!(check["phases"][0]["phase"], "connect");
    assert!(check["total_ms"].as_f64() >= check["phases"][0]["ms"].as_f64(), "{check}");
    // One that fails says why and ends with 1; the state is what it was.
    drop(origin);
    let (code, out, err) = server.command(&["check-now", "example.com/one/127.0.0.1"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.contains("connect") && out.contains(" ms") && out.ends_with("failed: connect: connection refused\n"), "{out}");
    assert_eq!(lines(&server, "check-now example.com/one/192.0.2.9"), ["nothing checks this endpoint"]);
    for (endpoint, expected) in [("example.com/one/127.0.0.2", "127.0.0.1"), ("example.com/one", "expected zone/pool/address")] {
        let (code, _, err) = server.command(&["check-now", endpoint]);
        assert!(code != 0 && err.contains(expected), "{err}");
    }
    // To let this machine connect somewhere is more than reading.
    let (_, made) = rest.call(reqwest::Method::POST, "/v1/tokens", Some(json!({ "name": "reader", "role": "read" })));
    let reader = rest.with_token(made["token"].as_str().expect("a token"));
    assert_eq!(reader.call(reqwest::Method::POST, &format!("{path}/check"), None).0, 403);
    assert!(lines(&server, "health example.com/one/127.0.0.1").iter().any(|line| line.starts_with("CHECKED STATE TOOK RESULT CHECK")));
}

/// A command that goes on until it is ended: its lines as they come.
struct Following {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    fn start(server: &Meridian, line: &str) -> Following {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(line.split_whitespace())
            .args(["--server", &format!("http://{}", server.admin)])
            .current_dir(server.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        Following { child, lines }
    }

    /// The next line for which `is_it` holds.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        while let Some(Ok(line)) = self.lines.next() {
            if is_it(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("it ended before: {seen:#?}");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lists_and_events_can_be_followed() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let rest = Rest::new(&server);
    let mut list = Following::start(&server, "list endpoints --pool example.com/fra --watch=1 --json");
    assert!(list.until(|line| line.starts_with("{\"endpoints\":[")).contains("192.0.2.10"));
    let mut events = Following::start(&server, "events --target example.com");
    events.until(|line| line.starts_with("generation "));
    rest.lay("example.com/fra/192.0.2.10", json!({ "state": "drain" }));
    let line = events.until(|line| line.contains("overlay.lay"));
    assert!(line.contains("example.com/fra/192.0.2.10") && line.contains("drain") && line.contains("done"), "{line}");
    // Of one kind there is nothing else.
    let mut health = Following::start(&server, "events --kind health --after 0");
    let first = health.until(|_| true);
    assert!(first.contains("example.com/checked/127.0.0.1") && first.contains("down"), "{first}");
    list.until(|line| line.contains("\"forced\":\"drain\""));
    let mut again = Following::start(&server, "events --kind change --after 0 --json");
    let line = again.until(|line| line.contains("overlay.lay"));
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["event"], &event["data"]["after"]), (&json!("change"), &json!({ "state": "drain" })));
    let (code, _, err) = server.command(&["events", "--token", "wrong"]);
    assert!(code == 3 && err.contains("the token"), "{err}");
}
