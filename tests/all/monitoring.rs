//! The dashboard, the alert rules and the manual speak of metrics that there are, and the manual of all of them.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use crate::meridian::{Meridian, PATIENCE};
use crate::rate_limit::metrics_text;

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n[steer.www]\nuse = \"a\"\n";

/// Every name of a metric in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("meridian_")).map(str::to_string).collect()
}

fn repository(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn dashboard_alerts_and_manual_name_metrics_that_exist() {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let page = metrics_text(&server);
    let there: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|rest| rest.split(' ').next()).map(str::to_string).collect();
    assert!(there.len() > 50, "{there:?}");
    // Of a histogram, rules and panels look at its parts.
    let histograms = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"));
    let parts: BTreeSet<String> = histograms.flat_map(|name| ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}"))).collect();
    let dashboard: serde_json::Value = serde_json::from_str(&repository("docs/grafana.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    for path in ["docs/grafana.json", "docs/alerts.yaml", "docs/metrics.md"] {
        let unknown: Vec<String> = named(&repository(path)).difference(&there).filter(|name| !parts.contains(*name)).cloned().collect();
        assert!(unknown.is_empty(), "{path} names what is not there: {unknown:?}");
    }
    let unsaid: Vec<String> = there.difference(&named(&repository("docs/metrics.md"))).cloned().collect();
    assert!(unsaid.is_empty(), "docs/metrics.md leaves out {unsaid:?}");
}

/// The value of one sample, labels and all; 0 when it is not there.
fn sample(page: &str, name: &str) -> f64 {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn queries_are_counted_by_zone_pool_and_policy() {
    let zone = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n[pool.b]\nendpoints = [\"192.0.2.2\"]\n\
                [policy.split]\npolicy = \"weighted\"\nto = { a = 1, b = 1 }\n[steer.www]\nuse = \"split\"\n[steer.app]\nuse = \"split\"\n\
                [steer.own]\npolicy = \"failover\"\nto = [\"b\", \"a\"]\n[steer.plain]\nuse = \"a\"\n";
    let server = Meridian::start(&[("zones/example.com.toml", zone)]);
    let times = [("www", 5), ("app", 3), ("own", 2), ("plain", 4), ("absent", 1)];
    let ask = |server: &Meridian| {
        for (name, times) in times {
            for _ in 0..times {
                server.ask(&format!("{name}.example.com."), RecordType::A);
            }
        }
    };
    ask(&server);
    // Those that need more than the short way: a chain, and another type.
    server.ask("own.example.com.", RecordType::TXT);
    let counts = |page: &str| {
        let of = |what: &str, label: &str| sample(page, &format!("meridian_{what}_queries_total{{{what}=\"{label}\"}}")) as u64;
        let pools = of("pool", "example.com/a") + of("pool", "example.com/b");
        (of("zone", "example.com."), pools, of("policy", "example.com/policy:split"), of("policy", "example.com/own"))
    };
    let page = metrics_text(&server);
    assert_eq!(counts(&page), (16, 14, 8, 2));
    assert!(!page.contains("policy=\"example.com/plain\""), "a name that points at a pool has no policy");
    // Over a change of health, and over a reload of the zone.
    assert_eq!(server.command(&["drain", "example.com/a", "--reason", "r", "--yes", "--break-glass"]).0, 0);
    ask(&server);
    server.write("zones/example.com.toml", &zone.replace("192.0.2.2", "192.0.2.3"));
    assert_eq!(server.command(&["reload"]).0, 0);
    ask(&server);
    assert_eq!(counts(&metrics_text(&server)), (46, 42, 24, 6));
}

#[test]
fn histograms_count_checks_by_how_they_ended_and_every_change() {
    // One endpoint whose port somebody listens on, and one with nobody behind it.
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (open, closed) = (listen(), listen().local_addr().expect("an address").port());
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[monitor.good]\ntcp = true\nport = {}\ninterval = \"1s\"\n\
         [monitor.bad]\ntcp = true\nport = {}\ninterval = \"1s\"\n[pool.a]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"good\"\n\
         [pool.b]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"bad\"\n[steer.www]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\n",
        open.local_addr().expect("a port").port(),
        closed
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let count = |page: &str, outcome: &str| sample(page, &format!("meridian_check_duration_seconds_count{{kind=\"tcp\",outcome=\"{outcome}\"}}"));
    let began = Instant::now();
    let page = loop {
        let page = metrics_text(&server);
        if count(&page, "passed") >= 2.0 && count(&page, "connect") >= 2.0 {
            break page;
        }
        assert!(began.elapsed() < PATIENCE, "{page}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let bucket = |le: &str| sample(&page, &format!("meridian_check_duration_seconds_bucket{{kind=\"tcp\",outcome=\"passed\",le=\"{le}\"}}"));
    assert_eq!((bucket("+Inf"), bucket("10")), (count(&page, "passed"), count(&page, "passed")), "{page}");
    assert!(!page.contains("kind=\"https\"") && !page.contains("outcome=\"body\""), "what never occurred is left out: {page}");
    for (pool, result, other) in [("a", "passed", "failed"), ("b", "failed", "passed")] {
        let of = |result| sample(&page, &format!("meridian_endpoint_checks_total{{endpoint=\"example.com/{pool}/127.0.0.1\",result=\"{result}\"}}"));
        assert!(of(result) >= 1.0 && of(other) == 0.0, "{pool}: {page}");
    }
    assert!(sample(&page, "meridian_publish_duration_seconds_count") >= 1.0);
    assert!(sample(&page, "meridian_config_last_load_timestamp_seconds") > 1.7e9 && sample(&page, "meridian_config_last_load_successful") == 1.0);
    assert_eq!(sample(&page, "meridian_store_errors_total"), 0.0);
    let changes = |page: &str| sample(page, "meridian_admin_request_duration_seconds_count{kind=\"change\"}");
    assert_eq!(changes(&page), 0.0);
    // A reload that fails is a change, and is told by the metrics.
    server.write("zones/example.com.toml", "[zone]\nname = 7\n");
    assert_eq!(server.command(&["reload", "--yes"]).0, 1);
    let after = metrics_text(&server);
    assert_eq!((changes(&after), sample(&after, "meridian_config_last_load_successful")), (1.0, 0.0), "{after}");
    assert!(sample(&after, "meridian_config_last_load_timestamp_seconds") > 1.7e9);
}
