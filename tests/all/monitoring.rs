//! The dashboard, the alert rules and the manual speak of metrics that there are, and the manual of all of them.

use std::collections::BTreeSet;

use crate::meridian::Meridian;
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
