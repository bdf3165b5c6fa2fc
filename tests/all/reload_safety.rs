//! Safety rules and edited files: what a reload would withdraw is said before, refused when a rule forbids it, and recorded when it goes past one.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian, PATIENCE};
use crate::rest::Rest;

const HEAD: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n";
const POOLS: &str =
    "[pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.10\", \"192.0.2.11\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\n";
const STEER: &str = "[steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\n[steer.app]\nuse = \"iad\"\n";
const SAFETY: &str =
    "[safety]\nmax_withdrawn = \"25%\"\n[safety.min_in_rotation]\nboth = { of = [\"fra\", \"iad\"], at_least = 2 }\n[region]\neu = {}\n";
const FILE: &str = "zones/example.com.toml";

fn zone(pools: &str, steer: &str, rest: &str) -> String {
    format!("{HEAD}{rest}{pools}{steer}")
}

fn serve(safety: &str) -> (Meridian, Rest) {
    let meridian = Meridian::start(&[(FILE, &zone(POOLS, STEER, safety))]);
    let rest = Rest::new(&meridian);
    (meridian, rest)
}

fn reload(rest: &Rest, body: Value) -> (u16, Value) {
    rest.call(Method::POST, "/v1/reload", Some(body))
}

/// Broken rules with their numbers.
fn rules(all: &Value) -> Vec<(String, u64, u64)> {
    let one = |rule: &Value| {
        let name = rule["rule"].as_str().expect("a rule").trim_start_matches("example.com/safety:").to_owned();
        let found = rule["found"].as_f64().expect("found");
        // As whole numbers beyond the limit.
        let found = if name == "max_withdrawn" { found.ceil() } else { found.floor() };
        (name, found as u64, rule["limit"].as_u64().expect("a limit"))
    };
    all.as_array().into_iter().flatten().map(one).collect()
}

/// What the files came to say, and which rules that breaks.
#[test]
fn edits_are_judged_by_the_rules_in_force() {
    let one_less = POOLS.replace(", \"192.0.2.11\"", "");
    let all_of_fra = "[pool.fra]\nregion = \"eu\"\nendpoints = [\"192.0.2.99\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\n";
    let no_fra = "[pool.iad]\nendpoints = [\"198.51.100.10\", \"198.51.100.11\"]\n";
    let weightless = POOLS.replace("\"192.0.2.11\"", "{ address = \"192.0.2.11\", weight = 0 }");
    let without = "[steer.www]\nuse = \"iad\"\n[steer.app]\nuse = \"iad\"\n";
    let spare = "[pool.spare]\nendpoints = [\"203.0.113.1\"]\n";
    let both = ("min_in_rotation/both", 1, 2);
    let loose = "[region]\neu = {}\n";
    for (what, text, broken) in [
        ("nothing", zone(POOLS, STEER, SAFETY), &[][..]),
        ("one of four goes", zone(&one_less, STEER, SAFETY), &[]),
        ("one of four is given weight 0", zone(&weightless, STEER, SAFETY), &[]),
        ("two of four are replaced by one", zone(all_of_fra, STEER, SAFETY), &[("max_withdrawn", 40, 25)]),
        // The set would be another as well: the one in force counts.
        ("a pool goes", zone(no_fra, without, loose), &[both, ("max_withdrawn", 50, 25)]),
        ("a pool stays that nobody is sent to", zone(POOLS, without, SAFETY), &[both, ("max_withdrawn", 50, 25)]),
        ("something comes", zone(&format!("{POOLS}{spare}"), &format!("{STEER}[steer.new]\nuse = \"spare\"\n"), SAFETY), &[]),
    ] {
        let (server, rest) = serve(SAFETY);
        server.write(FILE, &text);
        let before = rest.get("/v1/status")["generation"].clone();
        let (status, report) = reload(&rest, json!({ "dry_run": true }));
        assert_eq!((status, &report["dry_run"], &report["failed"]), (200, &json!(true), &json!(false)), "{what}: {report}");
        let wanted: Vec<_> = broken.iter().map(|(rule, found, limit)| (rule.to_string(), *found, *limit)).collect();
        assert_eq!(rules(&report["consequences"]["broken"]), wanted, "{what}: {report}");
        assert_eq!(rest.get("/v1/status")["generation"], before, "{what}");
        let (status, reply) = reload(&rest, json!({}));
        if broken.is_empty() {
            assert_eq!((status, &reply["failed"]), (200, &json!(false)), "{what}: {reply}");
        } else {
            assert_eq!((status, &reply["type"]), (409, &json!("urn:meridian:safety")), "{what}: {reply}");
            assert_eq!(rules(&reply["rules"]), wanted, "{what}: {reply}");
            assert_eq!(rest.get("/v1/status")["generation"], before, "{what}");
        }
    }
}

#[test]
fn a_refused_reload_changes_nothing_until_the_glass_is_broken() {
    let (server, rest) = serve("[region]\neu = {}\n");
    // Both names would have a pool that is withdrawn, and nothing else.
    rest.lay("example.com/fra", json!({ "state": "drain" }));
    server.write(FILE, &zone(POOLS, "[steer.www]\nuse = \"fra\"\n[steer.app]\nuse = \"iad\"\n", "[region]\neu = {}\n"));
    let (status, problem) = reload(&rest, json!({ "reason": "an edit" }));
    assert_eq!((status, rules(&problem["rules"])), (409, vec![("last_healthy".into(), 1, 0)]), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("nothing usable would be left for www.example.com.")), "{problem}");
    let roots = || rest.get("/v1/zones/example.com/names/www")["root"].clone();
    assert_eq!(roots(), "example.com/policy:www");
    let refused = &rest.get("/v1/audit?kind=refused")["entries"][0];
    assert_eq!((&refused["action"], &refused["outcome"], &refused["reason"]), (&json!("reload"), &json!("safety"), &json!("an edit")), "{refused}");

    let (code, out, err) = server.command(&["reload"]);
    assert!(code == 4 && err.contains("example.com/safety:last_healthy"), "{code} {out}{err}");
    let (code, out, err) = server.command(&["reload", "--dry-run"]);
    assert!(code == 4 && out.contains("forbidden by example.com/safety:last_healthy") && out.contains("nothing was changed"), "{code} {out}{err}");
    let (code, _, err) = server.command(&["reload", "--break-glass"]);
    assert!(code == 2 && err.contains("--reason"), "{err}");
    assert_eq!(reload(&rest, json!({ "break_glass": true })).0, 422);
    let (code, out, err) = server.command(&["reload", "--yes", "--break-glass", "--reason", "meant"]);
    assert!(code == 0 && out.contains("went past example.com/safety:last_healthy"), "{code} {out}{err}");
    assert_eq!(roots(), "example.com/fra");
    let told = &rest.get("/v1/audit?action=safety")["entries"][0];
    assert!(told["reason"] == "meant" && told["detail"].as_str().is_some_and(|detail| detail.contains("last_healthy")), "{told}");
}

#[test]
fn a_signal_is_obeyed_and_told_of() {
    let (server, rest) = serve(SAFETY);
    server.write(FILE, &zone("[pool.iad]\nendpoints = [\"198.51.100.10\"]\n", "[steer.www]\nuse = \"iad\"\n[steer.app]\nuse = \"iad\"\n", ""));
    server.signal("HUP");
    let began = std::time::Instant::now();
    while rest.call(Method::GET, "/v1/pools/example.com/fra", None).0 != 404 {
        assert!(began.elapsed() < PATIENCE, "{:#?}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let told = &rest.get("/v1/audit?action=safety")["entries"][0];
    assert!(told["actor"] == "signal" && told["detail"].as_str().is_some_and(|detail| detail.contains("max_withdrawn: 3 of 4")), "{told}");
    server.says(&["a reload goes past safety rules"]);
}

#[test]
fn what_was_drained_before_may_be_removed_and_a_zone_may_not_vanish() {
    let (server, rest) = serve(SAFETY);
    // By the book: out of rotation first, one after the other, then out of the file.
    rest.lay("example.com/fra/192.0.2.11", json!({ "state": "drain" }));
    server.write(FILE, &zone(&POOLS.replace(", \"192.0.2.11\"", ""), STEER, SAFETY));
    let (status, report) = reload(&rest, json!({}));
    assert_eq!((status, &report["zones"][0]["outcome"]), (200, &json!("taken")), "{report}");
    // A folder without any file would be taken for one that is not mounted.
    server.write("zones/library.toml", "[region]\n");
    std::fs::remove_file(server.path().join(FILE)).expect("it was there");
    let (status, problem) = reload(&rest, json!({}));
    assert_eq!(
        (status, rules(&problem["rules"])),
        (409, vec![("min_in_rotation/both".into(), 0, 2), ("max_withdrawn".into(), 100, 25)]),
        "{problem}"
    );
    let (status, report) = reload(&rest, json!({ "break_glass": true, "reason": "moved away" }));
    assert_eq!((status, &report["zones"][0]["outcome"]), (200, &json!("removed")), "{report}");
    assert_eq!(report["broke"].as_array().map(Vec::len), Some(2), "{report}");
}

/// Clients that another database puts where everything is out of rotation just now come to `all_down`, as their neighbours there have: no edit did it.
#[test]
fn another_database_is_taken_in_an_outage() {
    let ranges = |country: &str| format!("network,country\n192.0.2.0/24,DE\n198.51.100.0/24,{country}\n");
    let steer = "[steer.www]\npolicy = \"geo\"\ndefault = [\"iad\"]\nrules = [{ geo = [\"EU\"], to = [\"fra\"] }]\n[steer.app]\nuse = \"iad\"\n";
    let text = zone(POOLS, steer, "[region]\neu = {}\n");
    let server = Meridian::start(&[("meridian.toml", &format!("{CONFIG}[geo]\ndatabases = [\"own.mmdb\"]\n")), (FILE, &text)]);
    let rest = Rest::new(&server);
    let build = |country: &str| {
        server.write("own.csv", &ranges(country));
        let path = |name: &str| server.path().join(name).to_string_lossy().into_owned();
        let built = Command::new(env!("CARGO_BIN_EXE_meridian")).args(["geo", "build", &path("own.csv"), &path("own.mmdb")]).output();
        assert!(built.is_ok_and(|output| output.status.success()));
        let (status, report) = reload(&rest, json!({}));
        assert_eq!((status, &report["zones"][0]["outcome"]), (200, &json!("taken")), "{report}");
    };
    build("US");
    rest.force("example.com/fra", json!({ "state": "drain" }));
    build("FR");
}
