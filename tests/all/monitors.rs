//! The list of monitors: those that check, those that follow from others, those of libraries, those that nobody uses.

use meridian::policy::model::MonitorWord;
use serde_json::{Value, json};

use crate::meridian::Meridian;
use crate::rest::Rest;

const LIBRARY: &str = "[monitor.shared]\npush = true\n[monitor.idle]\npush = true\n[monitor.either]\nany = [\"shared\"]\n";

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n\
    [monitor.web]\nhttp = \"/healthz\"\ninterval = \"1h\"\n\
    [monitor.deep]\nhttp = \"/deep\"\nhost = \"www.example.com\"\nadvisory = true\n\
    [monitor.agent]\npush = true\n[monitor.spare]\ntcp = true\nport = 1\n\
    [monitor.load]\nprometheus = { url = \"http://[::1]:9090\", query = \"load{a=\\\"$address\\\"}\" }\nexpect = { value = \"< 1\" }\n\
    [monitor.front]\nany = [\"web\", \"agent\"]\n[monitor.quorum]\nat_least = { count = 2, of = [\"front\", \"agent\", \"load\"] }\n\
    [monitor.closed]\nnot = \"quorum\"\n[monitor.both]\nall = [\"web\", \"agent\"]\n\
    [pool.fra]\nmonitor = [\"quorum\", \"deep\"]\nendpoints = [\"192.0.2.1\", { address = \"192.0.2.2\", monitor = [\"web\", \"shared\"] }]\n\
    [pool.iad]\nmonitor = [\"web\", \"either\"]\nendpoints = [\"192.0.2.3\"]\n\
    [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"iad\"]\n";

/// A second zone that uses the library as well.
const OTHER: &str = "[zone]\nname = \"example.net\"\nns = [\"ns.example.net.\"]\n[pool.one]\nmonitor = \"shared\"\nendpoints = [\"192.0.2.9\"]\n[steer.www]\nuse = \"one\"\n\
    [records]\nns.A = \"192.0.2.53\"\n";

#[test]
fn every_monitor_is_listed_with_what_it_follows_from_and_who_uses_it() {
    let server = Meridian::start(&[("zones/library.toml", LIBRARY), ("zones/example.com.toml", ZONE), ("zones/example.net.toml", OTHER)]);
    let rest = Rest::new(&server);
    let list = rest.get("/v1/monitors")["monitors"].clone();
    let all = list.as_array().expect("a list");
    let ids: Vec<&str> = all.iter().filter_map(|monitor| monitor["id"].as_str()).collect();
    let names = ["agent", "both", "closed", "deep", "front", "load", "quorum", "spare", "web"];
    let mut expected: Vec<String> = names.iter().map(|name| format!("example.com/monitor:{name}")).collect();
    expected.extend(["library/monitor:either", "library/monitor:shared"].map(str::to_owned));
    assert_eq!(ids, expected, "a library's that nobody uses is nobody's");
    let one = |id: &str| all.iter().find(|monitor| monitor["id"] == *id).cloned().unwrap_or_default();
    assert_eq!(
        one("example.com/monitor:quorum"),
        json!({ "id": "example.com/monitor:quorum", "name": "quorum", "kind": "at_least", "of": ["front", "agent", "load"], "count": 2,
                "used_by": ["example.com/fra", "example.com/monitor:closed"], "used_by_count": 2 })
    );
    let users = |id: &str| one(id)["used_by"].clone();
    assert_eq!(users("example.com/monitor:front"), json!(["example.com/monitor:quorum"]));
    let web = json!(["example.com/fra/192.0.2.2", "example.com/iad", "example.com/monitor:both", "example.com/monitor:front"]);
    assert_eq!(users("example.com/monitor:web"), web);
    assert_eq!(users("library/monitor:shared"), json!(["example.com/fra/192.0.2.2", "library/monitor:either", "example.net/one"]));
    assert_eq!((users("example.com/monitor:spare"), one("example.com/monitor:spare")["interval"].clone()), (json!([]), Value::Null));
    let deep = one("example.com/monitor:deep");
    assert_eq!((&deep["advisory"], &deep["path"], &deep["port"]), (&json!(true), &json!("/deep"), &json!(80)));
    // Who waits for reports asks nothing, and has no pace.
    let agent = one("example.com/monitor:agent");
    assert_eq!(["interval", "fast", "timeout"].map(|member| agent[member].clone()), [Value::Null, Value::Null, Value::Null]);
    assert_eq!((&agent["stale"], &agent["fall"]), (&json!("30 s"), &json!(1)));
    let load = one("example.com/monitor:load");
    assert_eq!((&load["host"], &load["port"], &load["fast"]), (&json!("::1"), &json!(9090), &json!("10 s")));
    assert_eq!((&load["query"], &load["expected"]), (&json!("load{a=\"$address\"}"), &json!(["< 1"])));
    // Every kind that there is can be asked for, and gives those of that kind.
    for kind in MonitorWord::WORDS {
        let found = rest.get(&format!("/v1/monitors?kind={kind}"))["monitors"].clone();
        let expected: Vec<&Value> = all.iter().filter(|monitor| monitor["kind"] == kind).collect();
        assert_eq!(found.as_array().map(|found| found.iter().collect::<Vec<_>>()), Some(expected), "{kind}");
        let (code, out, err) = server.command(&["list", "monitors", "--kind", kind]);
        assert!(code == 0, "{kind}: {out}{err}");
    }
    let (code, out, _) = server.command(&["list", "monitors", "--zone", "example.com", "--kind", "at_least"]);
    assert!(code == 0 && out.contains("2 of front, agent, load"), "{out}");
    let (code, out, _) = server.command(&["list", "monitors", "--kind", "http"]);
    assert!(code == 0 && out.contains("http, advisory"), "{out}");
    let (code, _, err) = server.command(&["list", "monitors", "--kind", "share"]);
    assert!(code == 2 && err.contains("at_least"), "{err}");
}

#[test]
fn checks_of_an_endpoint_that_read_the_same_are_told_apart() {
    let port = crate::meridian::free_port();
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[defaults.monitor]\nport = {port}\nhost = \"www.example.com\"\nfall = 1\n\
         [monitor.page]\nhttp = \"/\"\n[monitor.text]\nhttp = \"/\"\nexpect = {{ body = \"ready\" }}\n[monitor.again]\nhttp = \"/\"\n\
         [monitor.deep]\nhttp = \"/deep\"\n[pool.fra]\nmonitor = [\"page\", \"text\", \"again\", \"deep\"]\nendpoints = [\"127.0.0.1\"]\n\
         [steer.www]\nuse = \"fra\"\n"
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let place = |path: &str, name: &str| format!("http://www.example.com{path} at 127.0.0.1:{port}{name}");
    // What is the same in every respect is one check.
    let expected = [place("/", " (page)"), place("/", " (text)"), place("/deep", "")];
    let path = "/v1/health/example.com/fra/127.0.0.1";
    let began = std::time::Instant::now();
    let names = |list: &Value| {
        let mut names: Vec<String> = list.as_array().into_iter().flatten().filter_map(|one| one["check"].as_str().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        names
    };
    loop {
        let seen = rest.get(path);
        assert_eq!(seen["checks"], json!(expected));
        if [&seen["recent"], &seen["history"]].into_iter().all(|list| names(list) == expected) {
            break;
        }
        assert!(began.elapsed() < crate::meridian::PATIENCE, "{seen}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (status, now) = rest.call(reqwest::Method::POST, &format!("{path}/check"), None);
    assert_eq!((status, names(&now["checks"]).as_slice()), (200, &expected[..]), "{now}");
}

#[test]
fn whoever_shares_a_check_with_very_many_is_shown_what_it_came_to() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let endpoints: Vec<String> = (1..=70).map(|at| format!("{{ address = \"192.0.2.{at}\", check_address = \"127.0.0.1\" }}")).collect();
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[monitor.web]\ntcp = true\nport = {port}\n\
         [pool.fra]\nmonitor = \"web\"\nendpoints = [{}]\n[steer.www]\nuse = \"fra\"\n",
        endpoints.join(", ")
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let rest = Rest::new(&server);
    let began = std::time::Instant::now();
    let health = |address: &str| rest.get(&format!("/v1/health/example.com/fra/{address}"));
    while health("192.0.2.1")["history"] == json!([]) {
        assert!(began.elapsed() < crate::meridian::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // In the order of their ids, 192.0.2.9 is the last of them.
    let (first, last) = (health("192.0.2.1"), health("192.0.2.9"));
    assert_eq!((&first["check_shared_by"], &last["check_shared_by"]), (&Value::Null, &json!(70)));
    assert_eq!((&last["history_of"], &last["history"]), (&json!("example.com/fra/192.0.2.1"), &first["history"]));
    assert!(first["history"][0]["why"].as_str().is_some_and(|why| why.ends_with("70 endpoints have this check, of which 64 are told of")), "{first}");
    let (_, shown, _) = server.command(&["health", "example.com/fra/192.0.2.9"]);
    assert!(
        shown.contains("70 endpoints have this check, which are too many to tell of each: what it came to is told of example.com/fra/192.0.2.1"),
        "{shown}"
    );
    // Run now, a check that only advises fails nobody.
    let advisory = zone.replace("tcp = true\n", "tcp = true\nadvisory = true\n");
    for (zone, code, words) in [(&zone, 1, "failed"), (&advisory, 0, "(advisory: no vote)")] {
        server.write("zones/example.com.toml", zone);
        assert_eq!(server.command(&["reload"]).0, 0);
        let (found, shown, errors) = server.command(&["check-now", "example.com/fra/192.0.2.9"]);
        assert!(found == code && shown.contains(words), "{found} {shown}{errors}");
    }
}
