//! What zone files may have of the machine: files and programs.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian::config::{OsFiles, Severity};

use crate::meridian::{CONFIG, Meridian, PATIENCE, write};
use crate::rest::Rest;

fn zone(top: &str, monitor: &str) -> String {
    format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n{top}\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\n{monitor}\n\
         [pool.p]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"m\"\n[steer.www]\nuse = \"p\"\n"
    )
}

#[test]
fn zone_files_name_files_of_theirs_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let pair = rcgen::generate_simple_self_signed(["app.example".to_owned()]).expect("a certificate");
    for folder in ["c/zones/deep", "c/state", "c/state2", "secrets"] {
        std::fs::create_dir_all(at(folder)).expect("a folder");
    }
    for folder in ["c", "c/zones", "c/zones/deep", "c/state", "secrets"] {
        write(&at(folder), "admin.token", "0123456789abcdef\n");
        write(&at(folder), "cert.pem", &pair.cert.pem());
        write(&at(folder), "key.pem", &pair.signing_key.serialize_pem());
        write(&at(folder), "static.db", "a A 192.0.2.1\n");
    }
    symlink(at("c/state/admin.token"), at("c/zones/link")).expect("linked");
    symlink(at("secrets/admin.token"), at("c/zones/link2")).expect("linked");
    symlink(at("secrets"), at("c/zones/folder")).expect("linked");
    let token = |file: &str| {
        let asked = format!("prometheus = {{ url = \"http://127.0.0.1:9\", query = \"up\", token_file = \"{file}\" }}");
        zone("", &format!("{asked}\nexpect = {{ value = \"== 1\" }}"))
    };
    let key = |file: &str| zone("", &format!("https = \"/\"\nhost = \"a.example\"\nclient_certificate = \"cert.pem\"\nclient_key = \"{file}\""));
    let ca = |file: &str| zone("", &format!("https = \"/\"\nhost = \"a.example\"\nca = \"{file}\""));
    let master = |file: &str| zone(&format!("file = \"{file}\""), "ping = true");
    let (own, outside) = ("it belongs to the server's own state", "it is outside the zone folder");
    let may_read = "[zones]\nmay_read = [\"../secrets\"]\n";
    let check = |config: &str, zone: &str, expected: &str| {
        write(&at("c"), "meridian.toml", config);
        write(&at("c/zones"), "example.com.toml", zone);
        let loaded = meridian::config::load(&OsFiles, &at("c/meridian.toml"));
        let found: Vec<String> = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new(), "{zone}"),
            expected => assert!(found.len() == 1 && found[0].contains(expected) && !found[0].contains("0123456789"), "{zone}: {found:?}"),
        }
    };
    for config in ["", may_read] {
        check(config, &token("admin.token"), "");
        check(config, &token("deep/admin.token"), "");
        check(config, &token("../state/admin.token"), own);
        check(config, &token("link"), own);
        check(config, &token("../cert.pem"), outside);
        check(config, &token("/etc/passwd"), outside);
        check(config, &key("key.pem"), "");
        check(config, &key("../key.pem"), "monitor \"m\": client_key: found key.pem: it is outside the zone folder");
        check(config, &key("../state/key.pem"), own);
        check(config, &ca("../cert.pem"), "");
        check(config, &ca("../state/cert.pem"), own);
        check(config, &master("static.db"), "");
        check(config, &master("../static.db"), outside);
        check(config, &master("../state/admin.token"), own);
    }
    for (file, expected) in [("../../secrets/admin.token", outside), ("link2", outside), ("folder/admin.token", outside)] {
        check("", &token(file), expected);
        check(may_read, &token(file), "");
    }
    check("", &master("../../secrets/static.db"), outside);
    check(may_read, &master("../../secrets/static.db"), "");
    // What meridian.toml says itself, it says for all.
    let own_key = "[defaults.monitor]\nclient_certificate = \"cert.pem\"\nclient_key = \"key.pem\"\n";
    check(own_key, &zone("", "https = \"/\"\nhost = \"a.example\""), "");
    // Nor does a name in the zone folder lead into the state, nor an $INCLUDE of a file beside it.
    symlink(at("c/state/admin.token"), at("c/zones/stolen.example.zone")).expect("linked");
    check("", &zone("", "ping = true"), "zones/stolen.example.zone: found a link: it belongs to the server's own state");
    std::fs::remove_file(at("c/zones/stolen.example.zone")).expect("removed");
    write(&at("c"), "beside.db", "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns.example.net.\n$INCLUDE state/admin.token\n");
    let named = "[[zones.master]]\norigin = \"beside.example\"\nfile = \"beside.db\"\n";
    check(named, &zone("", "ping = true"), own);
}

/// A Prometheus that says 1 to everybody, and what it was told as a bearer.
fn listening() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let into = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines: Vec<String> =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let token = lines.iter().find(|line| line.to_ascii_lowercase().starts_with("authorization:")).cloned().unwrap_or_default();
            into.lock().expect("no panic").push(token);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
            let body = format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{now},"1"]}}}}"#);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    (port, heard)
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_token_that_becomes_another_file_is_not_sent() {
    let (port, heard) = listening();
    let monitor = format!(
        "prometheus = {{ url = \"http://127.0.0.1:{port}\", query = \"up\", token_file = \"prom.token\" }}\nexpect = {{ value = \"== 1\" }}\n\
         interval = \"1s\""
    );
    let server = Meridian::start(&[("zones/prom.token", "harmless\n"), ("zones/example.com.toml", &zone("", &monitor))]);
    let rest = Rest::new(&server);
    wait_for("asked with the token", || heard.lock().expect("no panic").iter().any(|line| line.ends_with("Bearer harmless")));
    let file = server.path().join("zones/prom.token");
    std::fs::remove_file(&file).expect("removed");
    symlink(server.path().join("state/admin.token"), &file).expect("linked");
    let error = || rest.endpoint("example.com/p/127.0.0.1")["last_error"].as_str().unwrap_or_default().to_owned();
    wait_for("refused", || error().contains("it belongs to the server's own state"));
    let secret = server.token();
    assert!(!heard.lock().expect("no panic").iter().any(|line| line.contains(secret.trim())), "nobody has heard it");
}

#[test]
fn programs_end_with_the_permission_whatever_version_of_a_zone_serves() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("check");
    std::fs::write(&program, format!("#!/bin/sh\necho run >> {}\n", dir.path().join("runs").display())).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let runs = |dir: &Path| std::fs::read_to_string(dir.join("runs")).map_or(0, |text| text.lines().count());
    let zone = zone("", &format!("exec = [{program:?}]\ninterval = \"1s\""));
    let config = |exec: bool| format!("{CONFIG}\n[health]\nexec = {exec}\n");
    let server = Meridian::start(&[("meridian.toml", &config(true)), ("zones/example.com.toml", &zone)]);
    wait_for("it runs", || runs(dir.path()) > 1);
    server.write("meridian.toml", &config(false));
    let (_, said, _) = server.command(&["reload"]);
    assert!(said.contains("programs are not run"), "{said}");
    let refused = |server: &Meridian| {
        let rest = Rest::new(server);
        let of = || rest.endpoint("example.com/p/127.0.0.1");
        wait_for("refused", || {
            of()["last_error"].as_str().is_some_and(|why| why.contains("check could not run: programs are not run; [health] exec"))
        });
        assert!(server.says(&["checks with exec cannot run", "programs are not run"]) > 0);
        of()["state"].clone()
    };
    assert_eq!(refused(&server), "up", "what was known holds");
    let so_far = runs(dir.path());
    let server = server.restart();
    assert_eq!(refused(&server), "up");
    wait_for("stale", || Rest::new(&server).endpoint("example.com/p/127.0.0.1")["stale"] == true);
    assert_eq!(runs(dir.path()), so_far, "nothing has run since");
    // Allowed again, it runs again, without a word of the zone's.
    server.write("meridian.toml", &config(true));
    server.command(&["reload"]);
    wait_for("it runs again", || runs(dir.path()) > so_far);
}
