//! Endpoints that pass, but not well: what is said of them, where, and that they stay in service.

use std::path::Path;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::A;
use meridian::config::Severity;
use serde_json::{Value, json};

use crate::meridian::{Meridian, addresses};
use crate::origin::{Authority, Certificate, HOST, Origin};
use crate::rest::Rest;

const ID: &str = "example.com/web/127.0.0.1";

fn zone(monitor: &str) -> String {
    format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.web]\nhttps = \"/\"\nhost = \"{HOST}\"\ninterval = \"1s\"\nfast = \"500ms\"\n{monitor}\n\
         [pool.web]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"web\"\n[steer.app]\nuse = \"web\"\n"
    )
}

fn wait(rest: &Rest, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let endpoint = rest.endpoint(ID);
        if is_so(&endpoint) {
            return endpoint;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{endpoint}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_certificate_about_to_end_is_said_everywhere_and_withdraws_nothing() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Ending);
    let monitor = format!("port = {}\nca = {:?}", origin.addr().port(), authority.ca_file());
    let server = Meridian::start(&[("zones/example.com.toml", &zone(&monitor))]);
    let rest = Rest::new(&server);
    let seen = wait(&rest, |endpoint| endpoint["state"] == "degraded");
    assert_eq!((&seen["usable"], &seen["concerns"], &seen["last_error"]), (&json!(true), &json!(["certificate expires in 5 days"]), &Value::Null));
    assert_eq!(addresses(&server.ask("app.example.com.", A)), ["127.0.0.1".parse::<std::net::IpAddr>().expect("an address")]);
    let health = rest.get(&format!("/v1/health/{ID}"));
    let first = &health["history"][0];
    assert_eq!((&first["from"], &first["to"], &first["why"]), (&json!("unknown"), &json!("degraded"), &json!("certificate expires in 5 days")));
    let recent = &health["recent"][0];
    assert_eq!(
        (&recent["passed"], &recent["concern"], &recent["state"]),
        (&json!(true), &json!("certificate expires in 5 days"), &json!("degraded"))
    );
    assert_eq!(rest.get("/v1/endpoints?state=degraded")["endpoints"][0]["id"], ID);
    let metrics = rest.text("/metrics");
    for line in [
        format!("meridian_endpoint_state{{endpoint=\"{ID}\",state=\"degraded\"}} 1"),
        format!("meridian_endpoint_usable{{endpoint=\"{ID}\"}} 1"),
        format!("meridian_endpoint_certificate_expiry_timestamp_seconds{{endpoint=\"{ID}\"}} {}", seen["certificate_ends"]),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    for (command, words) in [
        (&["status"][..], "certificate expires in 5 days"),
        (&["health", ID], "passed; certificate expires in 5 days"),
        (&["health", ID], "concerns    certificate expires in 5 days"),
        (&["check-now", ID], "certificate expires in 5"),
        (&["list", "endpoints", "--state", "degraded"], ID),
    ] {
        let (code, out, err) = server.command(command);
        assert!(code == 0 && out.contains(words), "{command:?}: {out}{err}");
    }
    origin.show(&authority, Certificate::Good);
    let renewed = wait(&rest, |endpoint| endpoint["state"] == "up");
    assert_eq!(renewed["concerns"], Value::Null);
    // An endpoint that is degraded falls like any other, and what was wrong with it is no reason any more.
    origin.show(&authority, Certificate::Ending);
    wait(&rest, |endpoint| endpoint["state"] == "degraded");
    drop(origin);
    let down = wait(&rest, |endpoint| endpoint["state"] == "down");
    assert_eq!((&down["concerns"], &down["last_error"]), (&Value::Null, &json!("connect: connection refused")));
}

#[test]
fn the_warning_is_as_early_as_the_monitor_says() {
    let authority = Authority::new();
    let origin = Origin::https("127.0.0.1:0", &authority, Certificate::Ending);
    for (warning, state) in
        [("certificate_warning = \"2d\"", "up"), ("certificate_warning = \"30d\"", "degraded"), ("certificate_warning = false", "up")]
    {
        let monitor = format!("port = {}\nca = {:?}\n{warning}", origin.addr().port(), authority.ca_file());
        let server = Meridian::start(&[("zones/example.com.toml", &zone(&monitor))]);
        let seen = wait(&Rest::new(&server), |endpoint| endpoint["state"] != "unknown");
        assert_eq!(seen["state"], state, "{warning}");
    }
}

#[test]
fn what_is_no_limit_is_an_error_with_its_line() {
    for (monitor, pool, expected) in [
        ("certificate_warning = \"14d\"\nslow = { factor = 4, above = \"1s\", baseline = \"1d\" }", "degraded_weight = \"50%\"", ""),
        ("slow = false", "", ""),
        ("slow = {}", "", ""),
        ("certificate_warning = \"10m\"", "", "expected 1 h to 398 d"),
        ("certificate_warning = true", "", "expected a duration such as \"14d\", or false"),
        ("certificate_warnings = \"14d\"", "", "did you mean \"certificate_warning\"?"),
        ("insecure = true\ncertificate_warning = \"14d\"", "", "insecure = true looks at no certificate"),
        ("slow = true", "", "expected limits such as"),
        ("slow = { factor = 1 }", "", "expected 2 to 100"),
        ("slow = { above = \"2m\" }", "", "expected 1 ms to 1 min"),
        ("slow = { baseline = \"1m\" }", "", "expected 10 min to 7 d"),
        ("slow = { than = \"1s\" }", "", "unknown key"),
        ("", "degraded_weight = \"0%\"", "expected a share from \"1%\" to \"100%\""),
        ("", "degraded_weight = 50", "expected a share from \"1%\" to \"100%\""),
    ] {
        let zone = zone(monitor).replace("monitor = \"web\"", &format!("monitor = \"web\"\n{pool}"));
        let files = meridian::config::MemoryFiles::from_texts([("meridian.toml", ""), ("zones/example.com.toml", &zone)]);
        let loaded = meridian::config::load(&files, Path::new("meridian.toml"));
        let found: Vec<String> = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new(), "{monitor} {pool}"),
            expected => assert!(found.len() == 1 && found[0].contains(expected), "{monitor} {pool}: {found:?}"),
        }
    }
}
