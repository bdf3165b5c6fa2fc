//! Checks that somebody asks for: nobody who is well waits for those that hang.

use std::net::TcpListener;

use reqwest::Method;

use crate::meridian::Meridian;
use crate::rest::Rest;

#[test]
fn a_check_that_is_asked_for_waits_for_no_other() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let hanging: Vec<String> = (2..=20).map(|last| format!("\"127.0.0.{last}\"")).collect();
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
         [monitor.hangs]\nhttp = \"/\"\nport = {port}\ninterval = \"1m\"\ntimeout = \"30s\"\n\
         [monitor.quick]\ntcp = true\nport = {port}\ninterval = \"1m\"\ntimeout = \"30s\"\n\
         [pool.hanging]\nmonitor = \"hangs\"\nendpoints = [{}]\n[pool.well]\nmonitor = \"quick\"\nendpoints = [\"127.0.0.1\"]\n\
         [steer.app]\npolicy = \"failover\"\nto = [\"hanging\", \"well\"]\n",
        hanging.join(", ")
    );
    let server = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let token = server.token();
    let ask = |pool: &str, address: &str| {
        let rest = Rest::of(&server, token.trim());
        let path = format!("/v1/health/example.com/{pool}/{address}/check");
        std::thread::spawn(move || rest.call(Method::POST, &path, None))
    };
    let mut hung: Vec<_> = (2..=20).map(|last| ask("hanging", &format!("127.0.0.{last}"))).collect();
    // One of them is asked for again and again: it has its share.
    hung.extend((0..3).map(|_| ask("hanging", "127.0.0.2")));
    let refused = loop {
        let began = std::time::Instant::now();
        let asked = ask("hanging", "127.0.0.2");
        while !asked.is_finished() && began.elapsed() < std::time::Duration::from_secs(5) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if asked.is_finished() {
            break asked.join().expect("no panic");
        }
        hung.push(asked);
        assert!(hung.len() < 40, "refused at last");
    };
    assert_eq!((refused.0, refused.1["type"].as_str()), (503, Some("urn:meridian:busy")), "{}", refused.1);
    let (status, now) = ask("well", "127.0.0.1").join().expect("no panic");
    assert_eq!((status, &now["checks"][0]["passed"]), (200, &serde_json::json!(true)), "{now}");
    assert!(hung.iter().filter(|one| !one.is_finished()).count() >= 19, "they hang all the while");
    drop(silent);
}
